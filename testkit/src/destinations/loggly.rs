//! A stand-in for Loggly's HTTP bulk endpoint.
//!
//! <https://documentation.solarwinds.com/en/success_center/loggly/content/admin/http-bulk-endpoint.htm>

use std::io;
use std::ops::Deref;
use std::sync::Arc;

use http::{Method, StatusCode};

use super::desk::{Desk, Reply, Turn, shortened, status, with_retry_after};
use super::front::{Destination, Protocol};
use super::mode::Failure;
use crate::http::{Request, Response, ServerOptions, percent_decode};
use crate::ledger::{Additions, Ledger};

/// What the agent may add to an event.
const ADDITIONS: Additions = Additions { keys: &["timestamp"], wrappers: &[] };

/// What becomes of an event that is too long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Oversized {
    /// It is cut, and the answer says nothing of it.
    #[default]
    Cut,
    /// The request is answered 413.
    Refused,
}

/// How it is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogglyOptions {
    /// Its name in the ledger.
    pub sink: String,
    /// 0 for any free one.
    pub port: u16,
    /// Of what is drawn.
    pub seed: u64,
    /// The customer token: a part of the URL.
    pub token: String,
    /// A body of this size or more is answered 413: Loggly refuses exactly 5 MB too.
    pub batch_bytes_max: usize,
    /// A longer event is `oversized`.
    pub event_bytes_max: usize,
    /// What becomes of an event that is too long.
    pub oversized: Oversized,
    /// What a wrong token is answered: 403, and 400 has been seen as well.
    pub wrong_token_status: u16,
    /// Whether gzip is understood. Loggly documents nothing of it.
    pub gzip: bool,
}

impl Default for LogglyOptions {
    fn default() -> Self {
        Self {
            sink: "loggly".to_owned(),
            port: 0,
            seed: 1,
            token: "6f1a2b3c-0000-4000-8000-0123456789ab".to_owned(),
            batch_bytes_max: 5_000_000,
            event_bytes_max: 1_000_000,
            oversized: Oversized::default(),
            wrong_token_status: 403,
            gzip: false,
        }
    }
}

/// The stand-in; dropping it stops it.
pub struct Loggly {
    destination: Destination,
}

impl Deref for Loggly {
    type Target = Destination;
    fn deref(&self) -> &Destination {
        &self.destination
    }
}

impl Loggly {
    /// Starts it on the loopback interface.
    ///
    /// # Errors
    /// Where the port cannot be bound.
    pub async fn start(ledger: Arc<Ledger>, options: LogglyOptions) -> io::Result<Self> {
        let desk = Desk::new(&options.sink, ledger, options.seed);
        let port = options.port;
        let destination =
            Destination::start(Inputs { desk, options }, port, ServerOptions::default()).await?;
        Ok(Self { destination })
    }
}

struct Inputs {
    desk: Desk,
    options: LogglyOptions,
}

impl Protocol for Inputs {
    fn desk(&self) -> &Desk {
        &self.desk
    }

    fn delivers(&self, request: &Request) -> bool {
        request.method == Method::POST && request.path.starts_with("/bulk/")
    }

    fn answer(&self, request: &Request, turn: &Turn) -> Reply {
        if !self.delivers(request) {
            return Reply::plain(page(404, "Not Found"));
        }
        let number = self.desk.begin();
        let response = match turn.failure {
            Failure::Status(status) => page(status, "refused"),
            Failure::RefuseAll => page(400, "Bad Request"),
            Failure::ItemsThrottled(_) => page(429, "Too Many Requests"),
            Failure::ReadOnly(_) => page(503, "Service Unavailable"),
            Failure::Code(_) => page(500, "Internal Server Error"),
            _ => self.bulk(request, turn, number),
        };
        Reply::booked(with_retry_after(shortened(response, turn), turn), number)
    }
}

impl Inputs {
    fn bulk(&self, request: &Request, turn: &Turn, number: u64) -> Response {
        let path = percent_decode(&request.path);
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let tags = match parts[..] {
            ["bulk", token] | ["bulk", token, "tag", _] if token != self.options.token => {
                return page(self.options.wrong_token_status, "Forbidden");
            }
            ["bulk", _] => "",
            ["bulk", _, "tag", tags] => tags,
            _ => return page(404, "Not Found"),
        };
        let headers = request.header("x-loggly-tag").unwrap_or_default();
        if !tags.split(',').chain(headers.split(',')).all(is_tag) {
            return page(400, "invalid tag");
        }
        let coded = !["", "identity"].contains(&request.header("content-encoding").unwrap_or_default());
        if coded && !self.options.gzip {
            return page(415, "Unsupported Media Type");
        }
        let Ok(body) = request.decoded_body(self.options.batch_bytes_max) else {
            return page(413, "Request Entity Too Large");
        };
        if body.len() >= self.options.batch_bytes_max {
            return page(413, "Request Entity Too Large");
        }
        self.desk.count(|counts| counts.decoded_bytes += body.len() as u64);
        let lines = || body.split(|&byte| byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
        let too_long = |line: &[u8]| line.len() > self.options.event_bytes_max;
        if self.options.oversized == Oversized::Refused && lines().any(too_long) {
            return page(413, "Request Entity Too Large");
        }
        // All or nothing: Loggly does not judge event by event.
        if lines().any(|line| turn.refuses(line, &ADDITIONS.read(line))) {
            self.desk.count(|counts| counts.refused += 1);
            return page(400, "Bad Request");
        }
        for line in lines() {
            let kept = &line[..line.len().min(self.options.event_bytes_max)];
            self.desk.store(number, &ADDITIONS.read(kept));
        }
        Response::text(StatusCode::OK, "application/json", "{\"response\" : \"ok\"}")
    }
}

/// <https://documentation.solarwinds.com/en/success_center/loggly/content/admin/tags.htm>
fn is_tag(tag: &str) -> bool {
    let starts_well = tag.chars().next().is_none_or(|first| first.is_ascii_alphanumeric());
    starts_well && tag.len() <= 64 && tag.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c))
}

fn page(number: u16, text: &str) -> Response {
    Response::text(status(number), "text/html", format!("<html><body>{text}</body></html>"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::destinations::client::{Got, deflate, gzip, send};
    use crate::ledger::{QueueEvidence, SinkReport, SinkRule, judge};
    use sha2::{Digest, Sha256};

    struct Bench {
        ledger: Arc<Ledger>,
        loggly: Loggly,
        path: String,
    }

    async fn start(change: impl FnOnce(&mut LogglyOptions)) -> Bench {
        let mut options = LogglyOptions::default();
        change(&mut options);
        let path = format!("/bulk/{}/tag/cloudtrail,trailship/", options.token);
        let ledger = Arc::new(Ledger::new());
        let loggly = Loggly::start(Arc::clone(&ledger), options).await.unwrap();
        Bench { ledger, loggly, path }
    }

    impl Bench {
        async fn post(&self, body: impl AsRef<[u8]>) -> Got {
            send(&self.loggly.url, "POST", &self.path, &[("content-type", "text/plain")], body).await
        }

        fn report(&self) -> SinkReport {
            judge(&self.ledger, &[SinkRule::new("loggly")], &QueueEvidence::default()).sinks.remove(0)
        }
    }

    fn event(index: u64) -> String {
        format!(r#"{{"eventID":"e-{index}"}}"#)
    }

    fn line(index: u64) -> String {
        let ours = r#""trailship":{"actor":{},"bucket":"b","key":"k","record":"#;
        format!(
            "{},\"timestamp\":\"2026-01-01T00:00:00.000Z\",{ours}{index}}}}}\n",
            event(index).trim_end_matches('}')
        )
    }

    #[tokio::test]
    async fn lines_are_stored_as_events_and_the_answer_is_ok() {
        let bench = start(|_| {}).await;
        for index in 0..2 {
            let id = format!("e-{index}");
            bench.ledger.issue("b", "k", index, Some(&id), Sha256::digest(event(index)).into());
        }
        let got = bench.post(line(0) + &line(1)).await;
        assert_eq!((got.status, got.body.as_str()), (200, "{\"response\" : \"ok\"}"));
        assert!(bench.report().passes(), "{}", bench.report());
        assert_eq!(bench.report().stored, 2);
        bench.post(line(1)).await;
        assert_eq!(bench.report().duplicates_without_cause.len(), 1);
    }

    #[tokio::test]
    async fn a_body_of_the_limit_is_too_large_and_one_byte_less_is_not() {
        let bench = start(|options| options.batch_bytes_max = 100).await;
        assert_eq!(bench.post("x".repeat(100)).await.status, 413);
        assert_eq!(bench.post("x".repeat(101)).await.status, 413);
        assert_eq!(bench.post("x".repeat(99)).await.status, 200);
        assert_eq!(bench.loggly.counts().stored, 1);
    }

    #[tokio::test]
    async fn an_event_that_is_too_long_is_cut_or_refused() {
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(100));
        let bench = start(|options| options.event_bytes_max = 100).await;
        bench.ledger.issue("b", "k", 0, None, Sha256::digest(&long).into());
        assert_eq!(bench.post(&long).await.status, 200);
        assert_eq!((bench.report().lost.len(), bench.report().invented.len()), (1, 1));
        let bench = start(|options| {
            options.event_bytes_max = 100;
            options.oversized = Oversized::Refused;
        })
        .await;
        assert_eq!(bench.post(&long).await.status, 413);
        assert_eq!(bench.loggly.counts().stored, 0);
    }

    #[tokio::test]
    async fn token_path_tags_and_coding_are_checked() {
        let bench = start(|_| {}).await;
        let token = LogglyOptions::default().token;
        let status = async |path: &str, headers: &[(&str, &str)], body: &[u8]| {
            send(&bench.loggly.url, "POST", path, headers, body).await.status
        };
        assert_eq!(status("/bulk/other/tag/a/", &[], b"{}").await, 403);
        assert_eq!(status("/elsewhere", &[], b"{}").await, 404);
        assert_eq!(status(&format!("/bulk/{token}/extra"), &[], b"{}").await, 404);
        assert_eq!(status(&format!("/bulk/{token}/tag/a%20b/"), &[], b"{}").await, 400);
        assert_eq!(status(&format!("/bulk/{token}/"), &[("x-loggly-tag", "a,b")], b"{}").await, 200);
        assert_eq!(status(&bench.path, &[("content-encoding", "gzip")], &gzip(b"{}")).await, 415);
        assert_eq!(send(&bench.loggly.url, "GET", &bench.path, &[], "").await.status, 404);
        let bench = start(|options| options.gzip = true).await;
        let coded = async |coding: &str, body: Vec<u8>| {
            send(&bench.loggly.url, "POST", &bench.path, &[("content-encoding", coding)], body).await
        };
        assert_eq!(coded("gzip", gzip(b"{}\n{}\n")).await.status, 200);
        assert_eq!(coded("deflate", deflate(b"{}\n")).await.status, 200);
        assert_eq!(bench.loggly.counts().stored, 3);
    }

    #[tokio::test]
    async fn failures_store_what_they_say() {
        for (failure, status, stored) in [
            (Failure::Status(503), 503, 0),
            (Failure::Status(403), 403, 0),
            (Failure::ItemsThrottled(0.1), 429, 0),
            (Failure::RefuseAll, 400, 0),
            (Failure::RefuseContaining("e-1".into()), 400, 0),
            (Failure::RefuseContaining("e-7".into()), 200, 2),
            (Failure::AnswerLost, 0, 2),
            (Failure::Reset, 0, 0),
        ] {
            let bench = start(|_| {}).await;
            bench.loggly.set_mode(failure.clone());
            assert_eq!(bench.post(line(0) + &line(1)).await.status, status, "{failure:?}");
            assert_eq!(bench.loggly.counts().stored, stored, "{failure:?}");
        }
        let bench = start(|_| {}).await;
        bench.loggly.set_mode(Failure::ShortAnswer);
        assert_eq!(bench.post(line(0)).await.body, "{\"respons");
    }
}
