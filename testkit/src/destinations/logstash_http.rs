//! A stand-in for Logstash's http input.
//!
//! <https://www.elastic.co/docs/reference/logstash/plugins/plugins-inputs-http>

use std::io;
use std::ops::Deref;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use serde_json::value::RawValue;

use super::desk::{Desk, Reply, Turn, shortened, status, with_retry_after};
use super::front::{Destination, Protocol};
use super::logstash::ADDITIONS;
use super::mode::Failure;
use crate::http::{Request, Response, ServerOptions};
use crate::ledger::Ledger;

/// How it is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogstashHttpOptions {
    /// Its name in the ledger.
    pub sink: String,
    /// 0 for any free one.
    pub port: u16,
    /// Of what is drawn.
    pub seed: u64,
    /// The input's `user` and `password`.
    pub user: Option<(String, String)>,
    /// The input's `max_content_length`, of the body when it is unpacked.
    pub body_bytes_max: usize,
    /// The input's `response_code`: 200, 201, 202 or 204.
    pub response_code: u16,
}

impl Default for LogstashHttpOptions {
    fn default() -> Self {
        Self {
            sink: "logstash_http".to_owned(),
            port: 0,
            seed: 1,
            user: Some(("trailship".to_owned(), "an-example".to_owned())),
            body_bytes_max: 100_000_000,
            response_code: 200,
        }
    }
}

/// The stand-in; dropping it stops it.
pub struct LogstashHttp {
    destination: Destination,
}

impl Deref for LogstashHttp {
    type Target = Destination;
    fn deref(&self) -> &Destination {
        &self.destination
    }
}

impl LogstashHttp {
    /// Starts it on the loopback interface.
    ///
    /// # Errors
    /// Where the port cannot be bound.
    pub async fn start(ledger: Arc<Ledger>, options: LogstashHttpOptions) -> io::Result<Self> {
        let desk = Desk::new(&options.sink, ledger, options.seed);
        let port = options.port;
        let input = Input { desk, options };
        Ok(Self { destination: Destination::start(input, port, ServerOptions::default()).await? })
    }
}

struct Input {
    desk: Desk,
    options: LogstashHttpOptions,
}

impl Protocol for Input {
    fn desk(&self) -> &Desk {
        &self.desk
    }

    /// Any method on any path is taken for events.
    fn delivers(&self, request: &Request) -> bool {
        request.body.trim_ascii() != b"[]"
    }

    fn answer(&self, request: &Request, turn: &Turn) -> Reply {
        let number = self.desk.begin();
        let response = match turn.failure {
            Failure::Status(number) => empty(number),
            Failure::RefuseAll => empty(400),
            Failure::ItemsThrottled(_) => empty(429),
            Failure::ReadOnly(_) => empty(503),
            Failure::Code(_) => empty(500),
            _ => self.take(request, number),
        };
        Reply::booked(with_retry_after(shortened(response, turn), turn), number)
    }
}

impl Input {
    fn take(&self, request: &Request, number: u64) -> Response {
        if let Some((user, password)) = &self.options.user {
            let expected = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
            let challenge = "Basic realm=\"Logstash HTTP Input\"";
            match request.header("authorization") {
                None => return empty(401).with_header("www-authenticate", challenge),
                Some(given) if given != expected => return empty(401),
                Some(_) => {}
            }
        }
        let max = self.options.body_bytes_max;
        let Some(body) = request.decoded_body(max).ok().filter(|body| body.len() <= max) else {
            return empty(413);
        };
        self.desk.count(|counts| counts.decoded_bytes += body.len() as u64);
        let media = request.header("content-type").unwrap_or_default().split(';').next().unwrap_or_default();
        // With any other type the body is one event, as it stands; so is one that is no JSON, with a tag.
        let array =
            if media.trim() == "application/json" { serde_json::from_slice(&body).ok() } else { None };
        let events: Vec<&RawValue> = array.unwrap_or_default();
        let is_array = media.trim() == "application/json" && body.trim_ascii_start().starts_with(b"[");
        if !is_array || (events.is_empty() && body.trim_ascii() != b"[]") {
            self.desk.store(number, &ADDITIONS.read(&body));
        }
        for event in events {
            self.desk.store(number, &ADDITIONS.read(event.get().as_bytes()));
        }
        match self.options.response_code {
            204 => empty(204),
            code => Response::text(status(code), "text/plain", "ok"),
        }
    }
}

fn empty(number: u16) -> Response {
    Response::new(if number == 200 { StatusCode::OK } else { status(number) })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::destinations::client::{Got, gzip, send};
    use crate::destinations::{Failure, Mode};

    // trailship:an-example
    const USER: (&str, &str) = ("authorization", "Basic dHJhaWxzaGlwOmFuLWV4YW1wbGU=");
    const JSON: (&str, &str) = ("content-type", "application/json");

    async fn start(change: impl FnOnce(&mut LogstashHttpOptions)) -> LogstashHttp {
        let mut options = LogstashHttpOptions::default();
        change(&mut options);
        LogstashHttp::start(Arc::new(Ledger::new()), options).await.unwrap()
    }

    async fn post(input: &LogstashHttp, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Got {
        send(&input.url, "POST", "/any", headers, body).await
    }

    #[tokio::test]
    async fn an_array_is_as_many_events_and_the_answer_is_ok() {
        let input = start(|_| {}).await;
        let got = post(&input, &[USER, JSON], r#"[{"a":1},{"b":2}]"#).await;
        assert_eq!((got.status, got.body.as_str(), input.counts().stored), (200, "ok", 2));
        let coded = [USER, JSON, ("content-encoding", "gzip")];
        assert_eq!(post(&input, &coded, gzip(br#"[{"a":1}]"#)).await.body, "ok");
        assert_eq!(post(&input, &[USER, JSON], r#"{"a":1}"#).await.body, "ok");
        assert_eq!(input.counts().stored, 4);
        assert_eq!(post(&input, &[USER, JSON], "[]").await.body, "ok");
        assert_eq!((input.counts().stored, input.counts().deliveries), (4, 3), "an empty array is no event");
        // What is no JSON becomes an event all the same.
        assert_eq!(post(&input, &[USER, JSON], "[{]").await.body, "ok");
        assert_eq!(post(&input, &[USER], r#"[{"a":1},{"b":2}]"#).await.body, "ok");
        assert_eq!(input.counts().stored, 6);
    }

    #[tokio::test]
    async fn user_and_size_are_checked() {
        let input = start(|options| options.body_bytes_max = 20).await;
        let got = post(&input, &[JSON], "[{}]").await;
        assert!(got.status == 401 && got.head.contains("www-authenticate: basic realm"), "{}", got.head);
        assert_eq!(post(&input, &[("authorization", "Basic eA=="), JSON], "[{}]").await.status, 401);
        assert_eq!(post(&input, &[USER, JSON], format!("[\"{}\"]", "x".repeat(17))).await.status, 413);
        assert_eq!(input.counts().stored, 0);
        let open = start(|options| (options.user, options.response_code) = (None, 204)).await;
        let got = post(&open, &[JSON], "[{}]").await;
        assert_eq!((got.status, got.body.as_str(), open.counts().stored), (204, "", 1));
    }

    #[tokio::test]
    async fn failures_store_what_they_say() {
        for (failure, status, stored) in [
            (Failure::Status(429), 429, 0),
            (Failure::ItemsThrottled(1.0), 429, 0),
            (Failure::RefuseAll, 400, 0),
            (Failure::AnswerLost, 0, 1),
            (Failure::ShortAnswer, 200, 1),
        ] {
            let input = start(|_| {}).await;
            input.set_mode(Mode { retry_after_s: Some(2), ..Mode::from(failure.clone()) });
            let got = post(&input, &[USER, JSON], "[{}]").await;
            assert_eq!((got.status, input.counts().stored), (status, stored), "{failure:?}");
            assert_eq!(got.head.contains("retry-after: 2"), status >= 400, "{failure:?}");
            assert_ne!(got.body, "ok");
        }
    }
}
