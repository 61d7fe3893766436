//! An Elasticsearch that inflates bulk requests, counts their items, and says of each that it is created.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::future::BoxFuture;
use http::StatusCode;
use testkit::http::{Handler, Request, Response, Server};

/// The longest body that the agent sends, and more.
const BODY_BYTES_MAX: usize = 64 << 20;

/// A running destination.
pub(crate) struct Destination {
    counter: Arc<Counter>,
    server: Server,
}

#[derive(Default)]
struct Counter {
    items: AtomicU64,
}

impl Destination {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let counter = Arc::new(Counter::default());
        let server = Server::start(0, Arc::clone(&counter) as Arc<dyn Handler>).await?;
        Ok(Self { counter, server })
    }

    pub(crate) fn url(&self) -> String {
        self.server.url()
    }

    /// Items answered so far.
    pub(crate) fn items(&self) -> u64 {
        self.counter.items.load(Ordering::Relaxed)
    }
}

impl Handler for Counter {
    fn handle(self: Arc<Self>, request: Request) -> BoxFuture<'static, Response> {
        Box::pin(async move {
            let Ok(body) = request.decoded_body(BODY_BYTES_MAX) else {
                return Response::new(StatusCode::BAD_REQUEST);
            };
            // An action line and a document line each.
            let items = body.iter().filter(|&&byte| byte == b'\n').count() / 2;
            self.items.fetch_add(items as u64, Ordering::Relaxed);
            Response::text(StatusCode::OK, "application/json", answer(items))
        })
    }
}

/// What Elasticsearch answers with the filter that the agent asks for.
fn answer(items: usize) -> String {
    let each = vec![r#"{"create":{"status":201}}"#; items].join(",");
    format!(r#"{{"took":1,"errors":false,"items":[{each}]}}"#)
}
