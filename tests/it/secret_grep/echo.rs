//! A server that repeats what it was sent, as error pages of proxies do, in the shape of every destination's answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::BoxFuture;
use http::StatusCode;
use serde_json::json;
use testkit::http::{Handler, Request, Response, percent_encode};

/// What it answers with, in turn.
const STATUSES: [u16; 11] = [400, 401, 403, 404, 302, 413, 418, 429, 500, 503, 200];

/// The server; what it has repeated so far.
#[derive(Default)]
pub(super) struct Echo {
    number: AtomicUsize,
}

impl Handler for Echo {
    fn handle(self: Arc<Self>, request: Request) -> BoxFuture<'static, Response> {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        // Both counts have no common factor with the other, so that every pair has its turn.
        let status = StatusCode::from_u16(STATUSES[number % STATUSES.len()]).unwrap();
        let text = repeated(&request);
        let answer = match number % 6 {
            0 => Response::text(status, "text/plain", text),
            1 => Response::text(status, "text/html", format!("<html><h1>{status}</h1>{text}</html>")),
            2 => Response::json(
                status,
                &json!({ "status": 400, "error": { "type": text, "reason": text }, "errors": true,
                    "items": [{ "create": { "status": 400, "error": { "type": text, "reason": text } } }] }),
            ),
            3 => Response::json(status, &json!({ "text": text, "code": 6, "invalid-event-number": 0 })),
            4 => Response::json(
                status,
                &json!({ "__type": "AccessDenied", "message": text, "Message": text, "response": text }),
            ),
            _ => Response::text(
                status,
                "text/xml",
                format!("<Error><Code>AccessDenied</Code><Message>{text}</Message></Error>"),
            ),
        };
        let to = format!("http://localhost{}?{}", request.path, request.query);
        Box::pin(async move { answer.with_header("location", &to).with_header("x-echo", &to) })
    }
}

/// Path, query and every header: as they stand, in an address, and in base64.
fn repeated(request: &Request) -> String {
    let mut text = format!("{}?{} was not served to", request.path, request.query);
    for (name, value) in &request.headers {
        if !matches!(name.as_str(), "content-type" | "content-length" | "accept" | "user-agent" | "host") {
            let value = String::from_utf8_lossy(value.as_bytes());
            let bare = value.split_once(' ').map_or(&*value, |(_, rest)| rest);
            text += &format!(" {name}: {value} {} {}", percent_encode(&value, ""), STANDARD.encode(bare));
        }
    }
    text
}
