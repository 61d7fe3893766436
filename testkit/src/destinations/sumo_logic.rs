//! A stand-in for Sumo Logic's hosted HTTP source.
//!
//! <https://help.sumologic.com/docs/send-data/hosted-collectors/http-source/logs-metrics/>

use std::collections::BTreeMap;
use std::io;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::json;

use super::desk::{Desk, Reply, Turn, shortened, status, with_retry_after};
use super::front::{Destination, Protocol};
use super::mode::Failure;
use crate::http::{Request, Response, ServerOptions};
use crate::ledger::{Additions, Answer, Ledger};

/// How it is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SumoLogicOptions {
    /// Its name in the ledger.
    pub sink: String,
    /// 0 for any free one.
    pub port: u16,
    /// Of what is drawn.
    pub seed: u64,
    /// The code at the end of the URL: the secret.
    pub code: String,
    /// A larger body, decompressed, is answered 413.
    pub body_bytes_max: usize,
    /// A longer message is stored in slices of this length.
    pub slice_bytes: usize,
    /// A connection without a request for this long is closed, as the load balancer does.
    pub idle_timeout: Duration,
}

impl Default for SumoLogicOptions {
    fn default() -> Self {
        Self {
            sink: "sumo_logic".to_owned(),
            port: 0,
            seed: 1,
            code: "ZaVnC4dhaV2stand-in==".to_owned(),
            body_bytes_max: 1_000_000,
            slice_bytes: 65_536,
            idle_timeout: Duration::from_secs(30),
        }
    }
}

/// The stand-in; dropping it stops it.
pub struct SumoLogic {
    destination: Destination,
    source: Arc<Source>,
}

impl Deref for SumoLogic {
    type Target = Destination;
    fn deref(&self) -> &Destination {
        &self.destination
    }
}

impl SumoLogic {
    /// Starts it on the loopback interface.
    ///
    /// # Errors
    /// Where the port cannot be bound.
    pub async fn start(ledger: Arc<Ledger>, options: SumoLogicOptions) -> io::Result<Self> {
        let desk = Desk::new(&options.sink, ledger, options.seed);
        let port = options.port;
        let server = ServerOptions { idle_timeout: Some(options.idle_timeout), ..ServerOptions::default() };
        let source = Arc::new(Source { desk, options, seen: Mutex::default() });
        let destination = Destination::start(Arc::clone(&source), port, server).await?;
        Ok(Self { destination, source })
    }

    /// The whole URL to send to, secret included.
    #[must_use]
    pub fn source_url(&self) -> String {
        format!("{}{PATH}{}", self.url, self.source.options.code)
    }

    /// The messages stored, by source category (empty where the request had none) and content coding.
    #[must_use]
    pub fn stored_by(&self) -> BTreeMap<(String, String), u64> {
        self.source.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

const PATH: &str = "/receiver/v1/http/";

struct Source {
    desk: Desk,
    options: SumoLogicOptions,
    seen: Mutex<BTreeMap<(String, String), u64>>,
}

impl Protocol for Source {
    fn desk(&self) -> &Desk {
        &self.desk
    }

    fn delivers(&self, request: &Request) -> bool {
        request.method == Method::POST && request.path.starts_with(PATH)
    }

    fn answer(&self, request: &Request, turn: &Turn) -> Reply {
        if !request.path.starts_with(PATH) {
            return Reply::plain(problem(404, "not found"));
        }
        if !self.delivers(request) {
            return Reply::plain(problem(405, "method not allowed"));
        }
        let number = self.desk.begin();
        let response = match turn.failure {
            Failure::Status(status) => problem(status, "refused"),
            Failure::RefuseAll => problem(400, "bad request"),
            Failure::ItemsThrottled(_) => problem(429, "burst quota exceeded"),
            Failure::ReadOnly(_) => problem(503, "service unavailable"),
            Failure::Code(_) => problem(500, "internal error"),
            _ => self.receive(request, turn, number),
        };
        let told = response.status;
        let mut reply = Reply::booked(with_retry_after(shortened(response, turn), turn), number);
        if told == StatusCode::REQUEST_TIMEOUT {
            reply.booked = Some((number, Answer::MaybeIngested));
        }
        reply
    }
}

impl Source {
    fn receive(&self, request: &Request, turn: &Turn, number: u64) -> Response {
        if request.path.strip_prefix(PATH) != Some(self.options.code.as_str()) {
            return problem(401, "the URL token is invalid");
        }
        if let Some(fields) = request.header("x-sumo-fields")
            && !fields
                .split(',')
                .all(|field| field.split_once('=').is_some_and(|(key, _)| !key.trim().is_empty()))
        {
            return problem(400, "X-Sumo-Fields is not a list of key=value");
        }
        let body = match request.decoded_body(self.options.body_bytes_max) {
            Ok(body) if body.len() <= self.options.body_bytes_max => body,
            Err(what) if what.contains("not supported") => return problem(415, &what),
            Err(what) if !what.contains("more than") => return problem(400, &what),
            _ => return problem(413, "payload too large"),
        };
        if std::str::from_utf8(&body).is_err() {
            return problem(400, "the payload is not UTF-8");
        }
        self.desk.count(|counts| counts.decoded_bytes += body.len() as u64);
        let lines: Vec<&[u8]> =
            body.split(|&byte| byte == b'\n').filter(|line| !line.trim_ascii().is_empty()).collect();
        if lines.iter().any(|line| turn.refuses(line, &Additions::PLAIN.read(line))) {
            self.desk.count(|counts| counts.refused += 1);
            return problem(400, "bad request");
        }
        let of = |name| request.header(name).unwrap_or_default().to_owned();
        let key = (of("x-sumo-category"), of("content-encoding"));
        let partly = turn.failure == Failure::PartlyStored;
        let kept = if partly { lines.len().div_ceil(2) } else { lines.len() };
        for line in &lines[..kept] {
            // The event is judged whole; that Sumo Logic breaks it into messages is counted.
            if line.len() > self.options.slice_bytes {
                self.desk.count(|counts| counts.sliced += 1);
            }
            self.desk.store(number, &Additions::PLAIN.read(line));
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        *seen.entry(key).or_default() += kept as u64;
        drop(seen);
        if partly { problem(408, "request timeout") } else { Response::new(StatusCode::OK) }
    }
}

fn problem(number: u16, message: &str) -> Response {
    Response::json(status(number), &json!({ "status": number, "code": "stand-in", "message": message }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::destinations::client::{Got, deflate, gzip, send};
    use crate::destinations::mode::Mode;
    use crate::ledger::{Cause, QueueEvidence, SinkReport, SinkRule, judge};
    use sha2::{Digest, Sha256};
    use std::time::Instant;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    struct Bench {
        ledger: Arc<Ledger>,
        sumo: SumoLogic,
    }

    async fn start(change: impl FnOnce(&mut SumoLogicOptions)) -> Bench {
        let mut options = SumoLogicOptions::default();
        change(&mut options);
        let ledger = Arc::new(Ledger::new());
        let sumo = SumoLogic::start(Arc::clone(&ledger), options).await.unwrap();
        Bench { ledger, sumo }
    }

    impl Bench {
        async fn post(&self, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Got {
            let url = self.sumo.source_url();
            let path = url.strip_prefix(&self.sumo.url).unwrap();
            send(&self.sumo.url, "POST", path, headers, body).await
        }

        fn issue(&self, index: u64, event: &str) {
            self.ledger.issue("b", "k", index, None, Sha256::digest(event).into());
        }

        fn report(&self) -> SinkReport {
            judge(&self.ledger, &[SinkRule::new("sumo_logic")], &QueueEvidence::default()).sinks.remove(0)
        }
    }

    fn event(index: u64) -> String {
        format!("{{\"n\":{index}}}")
    }

    #[tokio::test]
    async fn lines_in_any_coding_are_stored_and_the_answer_is_empty() {
        let bench = start(|_| {}).await;
        (0..3).for_each(|index| bench.issue(index, &event(index)));
        let fields = ("x-sumo-fields", "env=prod,account=1");
        let got = bench.post(&[fields, ("x-sumo-category", "aws/cloudtrail")], event(0) + "\n").await;
        assert_eq!((got.status, got.body.as_str()), (200, ""));
        assert_eq!(bench.post(&[("content-encoding", "gzip")], gzip(event(1).as_bytes())).await.status, 200);
        assert_eq!(
            bench.post(&[("content-encoding", "deflate")], deflate(event(2).as_bytes())).await.status,
            200
        );
        assert!(bench.report().passes(), "{}", bench.report());
        assert_eq!(bench.report().stored, 3);
        let key = |category: &str, coding: &str| (category.to_owned(), coding.to_owned());
        let expected = [(key("", "deflate"), 1), (key("", "gzip"), 1), (key("aws/cloudtrail", ""), 1)];
        assert_eq!(bench.sumo.stored_by(), BTreeMap::from(expected));
    }

    #[tokio::test]
    async fn what_is_wrong_with_a_request_is_answered_as_sumo_logic_does() {
        let bench = start(|options| options.body_bytes_max = 100).await;
        assert_eq!(bench.post(&[], "x".repeat(101)).await.status, 413);
        assert_eq!(bench.post(&[("content-encoding", "gzip")], gzip(&[b'x'; 101])).await.status, 413);
        assert_eq!(bench.post(&[("content-encoding", "br")], "x").await.status, 415);
        assert_eq!(bench.post(&[("content-encoding", "gzip")], "x").await.status, 400);
        assert_eq!(bench.post(&[("x-sumo-fields", "no pair")], "x").await.status, 400);
        assert_eq!(bench.post(&[], [0xff]).await.status, 400);
        let other = format!("{PATH}other");
        assert_eq!(send(&bench.sumo.url, "POST", &other, &[], "x").await.status, 401);
        assert_eq!(send(&bench.sumo.url, "GET", &other, &[], "").await.status, 405);
        assert_eq!(send(&bench.sumo.url, "POST", "/", &[], "x").await.status, 404);
        assert_eq!(bench.sumo.counts().stored, 0);
        assert_eq!(bench.post(&[], "x".repeat(100)).await.status, 200);
    }

    #[tokio::test]
    async fn a_long_message_is_judged_whole_and_counted_as_sliced() {
        let bench = start(|_| {}).await;
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(65_536));
        bench.issue(0, &long);
        bench.issue(1, &event(1));
        bench.post(&[], format!("{long}\n{}\n", event(1))).await;
        assert!(bench.report().passes());
        assert_eq!(bench.sumo.counts().sliced, 1);
    }

    #[tokio::test]
    async fn after_a_408_half_is_stored_and_a_repetition_is_explained() {
        let bench = start(|_| {}).await;
        (0..4).for_each(|index| bench.issue(index, &event(index)));
        let body: String = (0..4).map(|index| event(index) + "\n").collect();
        bench.sumo.set_mode(Mode { requests: Some(1), ..Mode::from(Failure::PartlyStored) });
        assert_eq!(bench.post(&[], &body).await.status, 408);
        assert_eq!(bench.report().lost.len(), 2);
        assert_eq!(bench.post(&[], &body).await.status, 200);
        assert!(bench.report().passes(), "{}", bench.report());
        assert_eq!(bench.report().duplicates.get(&Cause::MaybeIngested), Some(&2));
    }

    #[tokio::test]
    async fn an_idle_connection_is_closed() {
        let bench = start(|options| options.idle_timeout = Duration::from_millis(100)).await;
        let mut stream =
            tokio::net::TcpStream::connect(bench.sumo.url.trim_start_matches("http://")).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let begin = Instant::now();
        stream.read_to_end(&mut Vec::new()).await.unwrap();
        assert!(begin.elapsed() >= Duration::from_millis(90));
    }

    #[tokio::test]
    async fn requests_at_once_are_counted() {
        let bench = start(|_| {}).await;
        bench.sumo.set_mode(Mode { delay_ms: 200, ..Mode::default() });
        futures_util::future::join3(bench.post(&[], "a"), bench.post(&[], "b"), bench.post(&[], "c")).await;
        assert_eq!(bench.sumo.counts().in_flight_max, 3);
        assert!(bench.sumo.connections_open_max() >= 3);
    }
}
