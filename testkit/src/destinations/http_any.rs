//! A stand-in for any HTTP receiver of JSON: lines, arrays, or one event a request.

use std::io;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

use http::StatusCode;
use serde_json::json;
use serde_json::value::RawValue;

use super::desk::{Desk, Reply, Turn, status, with_retry_after};
use super::front::{Destination, Protocol};
use super::mode::Failure;
use crate::http::{Request, Response, ServerOptions};
use crate::ledger::{Additions, Ledger};

/// The heads of so many requests are kept.
const HEADS_MAX: usize = 100_000;

/// How it is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpAnyOptions {
    /// Its name in the ledger.
    pub sink: String,
    /// 0 for any free one.
    pub port: u16,
    /// Of what is drawn.
    pub seed: u64,
    /// What every path begins with; another is answered 404.
    pub prefix: String,
    /// A header that a request must have; without it, it is answered 401.
    pub header: Option<(String, String)>,
    /// A longer body is answered 413.
    pub body_bytes_max: usize,
    /// The status of success.
    pub success: u16,
}

impl Default for HttpAnyOptions {
    fn default() -> Self {
        Self {
            sink: "http".to_owned(),
            port: 0,
            seed: 1,
            prefix: "/".to_owned(),
            header: None,
            body_bytes_max: 1 << 20,
            success: 200,
        }
    }
}

/// What a request that delivered events said before its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenHead {
    /// Its method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The events of its body, as they arrived.
    pub events: Vec<String>,
}

/// The stand-in; dropping it stops it.
pub struct HttpAny {
    destination: Destination,
    receiver: Arc<Receiver>,
}

impl Deref for HttpAny {
    type Target = Destination;
    fn deref(&self) -> &Destination {
        &self.destination
    }
}

impl HttpAny {
    /// Starts it on the loopback interface.
    ///
    /// # Errors
    /// Where the port cannot be bound.
    pub async fn start(ledger: Arc<Ledger>, options: HttpAnyOptions) -> io::Result<Self> {
        let desk = Desk::new(&options.sink, ledger, options.seed);
        let port = options.port;
        let receiver = Arc::new(Receiver { desk, options, heads: Mutex::default() });
        let destination = Destination::start(Arc::clone(&receiver), port, ServerOptions::default()).await?;
        Ok(Self { destination, receiver })
    }

    /// The requests whose events were stored, in order.
    #[must_use]
    pub fn heads(&self) -> Vec<SeenHead> {
        self.receiver.heads.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

struct Receiver {
    desk: Desk,
    options: HttpAnyOptions,
    heads: Mutex<Vec<SeenHead>>,
}

impl Protocol for Receiver {
    fn desk(&self) -> &Desk {
        &self.desk
    }

    fn delivers(&self, request: &Request) -> bool {
        matches!(request.method.as_str(), "POST" | "PUT" | "PATCH")
    }

    fn answer(&self, request: &Request, turn: &Turn) -> Reply {
        if let Some(refusal) = self.refuse(request) {
            return Reply::plain(refusal);
        }
        if !self.delivers(request) {
            return Reply::plain(Response::new(StatusCode::OK));
        }
        let number = self.desk.begin();
        let response = match turn.failure {
            Failure::Status(number) => said(number, "refused"),
            Failure::RefuseAll => said(400, "refused"),
            Failure::ItemsThrottled(_) => said(429, "too many requests"),
            Failure::ReadOnly(_) => said(503, "read only"),
            Failure::Code(_) => said(500, "out of order"),
            _ => self.take(request, turn, number),
        };
        Reply::booked(with_retry_after(response, turn), number)
    }
}

impl Receiver {
    fn refuse(&self, request: &Request) -> Option<Response> {
        let known = self.options.header.as_ref();
        if known.is_some_and(|(name, value)| request.header(name) != Some(value)) {
            return Some(said(401, "who are you"));
        }
        let found = request.path.starts_with(&self.options.prefix);
        (!found).then(|| said(404, "nothing is here"))
    }

    fn take(&self, request: &Request, turn: &Turn, number: u64) -> Response {
        let max = self.options.body_bytes_max;
        let Some(body) = request.decoded_body(max).ok().filter(|body| body.len() <= max) else {
            return said(413, "too large");
        };
        self.desk.count(|counts| counts.decoded_bytes += body.len() as u64);
        let Some(events) = events_of(&body) else {
            return said(400, "neither lines nor an array of objects");
        };
        if events.iter().any(|event| turn.refuses(event.as_bytes(), &Additions::PLAIN.read(event.as_bytes())))
        {
            self.desk.count(|counts| counts.refused += 1);
            return said(400, "an event is not to our liking");
        }
        for event in &events {
            self.desk.store(number, &Additions::PLAIN.read(event.as_bytes()));
        }
        self.note(request, events);
        said(self.options.success, "stored")
    }

    fn note(&self, request: &Request, events: Vec<&str>) {
        let mut path = request.path.clone();
        if !request.query.is_empty() {
            path.push('?');
            path.push_str(&request.query);
        }
        let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let headers =
            request.headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect();
        let events = events.into_iter().map(str::to_owned).collect();
        let mut heads = self.heads.lock().unwrap_or_else(PoisonError::into_inner);
        if heads.len() < HEADS_MAX {
            heads.push(SeenHead { method: request.method.to_string(), path, headers, events });
        }
    }
}

/// The events of a body: those of an array, or one a line. `None` where one is no object.
fn events_of(body: &[u8]) -> Option<Vec<&str>> {
    let events: Vec<&RawValue> = if body.trim_ascii_start().starts_with(b"[") {
        serde_json::from_slice(body).ok()?
    } else {
        let lines = body.split(|&byte| byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
        lines.map(|line| serde_json::from_slice(line).ok()).collect::<Option<_>>()?
    };
    events.into_iter().map(|event| Some(event.get()).filter(|text| text.starts_with('{'))).collect()
}

fn said(number: u16, text: &str) -> Response {
    Response::json(status(number), &json!({ "message": text }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::destinations::client::{deflate, gzip, send};

    async fn start(change: impl FnOnce(&mut HttpAnyOptions)) -> HttpAny {
        let mut options = HttpAnyOptions::default();
        change(&mut options);
        HttpAny::start(Arc::new(Ledger::new()), options).await.unwrap()
    }

    #[tokio::test]
    async fn lines_arrays_and_single_events_are_stored() {
        let receiver = start(|_| {}).await;
        for (method, headers, body) in [
            ("POST", vec![], b"{\"a\":1}\n{\"b\":2}\n".to_vec()),
            ("PUT", vec![], b"[{\"a\":1},{\"b\":2}]".to_vec()),
            ("PATCH", vec![], b"{\"a\":1}".to_vec()),
            ("POST", vec![("content-encoding", "gzip")], gzip(b"{}\n")),
            ("POST", vec![("content-encoding", "deflate")], deflate(b"[{}]")),
        ] {
            assert_eq!(send(&receiver.url, method, "/a/b?c=d", &headers, &body).await.status, 200);
        }
        let heads = receiver.heads();
        assert_eq!(heads.iter().map(|head| head.events.len()).collect::<Vec<_>>(), [2, 2, 1, 1, 1]);
        assert_eq!((heads[1].method.as_str(), heads[1].path.as_str()), ("PUT", "/a/b?c=d"));
        assert_eq!(heads[0].events, ["{\"a\":1}", "{\"b\":2}"]);
        assert!(heads[3].headers.contains(&("content-encoding".to_owned(), "gzip".to_owned())));
        assert_eq!(receiver.counts().stored, 7);
        assert_eq!(send(&receiver.url, "HEAD", "/", &[], "").await.status, 200);
        assert_eq!((receiver.counts().stored, receiver.counts().deliveries), (7, 5));
    }

    #[tokio::test]
    async fn path_header_size_and_content_are_checked() {
        let receiver = start(|options| {
            options.prefix = "/in".to_owned();
            options.header = Some(("x-key".to_owned(), "k".to_owned()));
            options.body_bytes_max = 10;
        })
        .await;
        let post = async |path: &str, key: &str, body: &str| {
            send(&receiver.url, "POST", path, &[("x-key", key)], body).await.status
        };
        assert_eq!(post("/in/a", "k", "{}").await, 200);
        assert_eq!(post("/in/a", "other", "{}").await, 401);
        assert_eq!(post("/out", "k", "{}").await, 404);
        assert_eq!(post("/in", "k", "{\"a\":1111111}").await, 413);
        for body in ["{", "[1]", "text", "[{}", "{}\n1"] {
            assert_eq!(post("/in", "k", body).await, 400, "{body}");
        }
        assert_eq!(receiver.counts().stored, 1);
    }

    #[tokio::test]
    async fn failures_store_what_they_say() {
        for (failure, status, stored) in [
            (Failure::Status(503), 503, 0),
            (Failure::ItemsThrottled(0.5), 429, 0),
            (Failure::RefuseAll, 400, 0),
            (Failure::RefuseContaining("e-1".to_owned()), 400, 0),
            (Failure::RefuseContaining("e-7".to_owned()), 200, 2),
            (Failure::AnswerLost, 0, 2),
        ] {
            let receiver = start(|_| {}).await;
            receiver.set_mode(failure.clone());
            let body = "{\"eventID\":\"e-1\"}\n{\"eventID\":\"e-2\"}\n";
            assert_eq!(send(&receiver.url, "POST", "/", &[], body).await.status, status, "{failure:?}");
            assert_eq!(receiver.counts().stored, stored, "{failure:?}");
        }
    }
}
