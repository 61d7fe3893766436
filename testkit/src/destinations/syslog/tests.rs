//! The stand-in as a sender sees it.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;
use crate::ledger::{Cause, QueueEvidence, SinkReport, SinkRule, judge};
use crate::tls::{Clients, acceptor, roots};

struct Bench {
    ledger: Arc<Ledger>,
    syslog: Syslog,
}

async fn start(change: impl FnOnce(&mut SyslogOptions)) -> Bench {
    let mut options = SyslogOptions::default();
    change(&mut options);
    let ledger = Arc::new(Ledger::new());
    let syslog = Syslog::start(Arc::clone(&ledger), options).await.unwrap();
    Bench { ledger, syslog }
}

impl Bench {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.syslog.url.trim_start_matches("tcp://")).await.unwrap()
    }

    fn report(&self) -> SinkReport {
        judge(&self.ledger, &[SinkRule::new("syslog")], &QueueEvidence::default()).sinks.remove(0)
    }

    fn issue(&self, count: u64) {
        for index in 0..count {
            self.ledger.issue("b", "k", index, None, Sha256::digest(event(index, 0)).into());
        }
    }

    async fn until(&self, what: impl Fn(&Counts) -> bool) {
        while !what(&self.syslog.counts()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn event(index: u64, padding: usize) -> String {
    format!(r#"{{"a":{index},"p":"{}"}}"#, "x".repeat(padding))
}

fn message(index: u64, padding: usize) -> String {
    let event = event(index, padding);
    let inside = event.trim_end_matches('}');
    let ours = r#""trailship":{"actor":{},"bucket":"b","key":"k","record":"#;
    format!("<110>1 - - cloudtrail - - - {inside},{ours}{index}}}}}")
}

fn frame(message: &str) -> String {
    format!("{} {message}", message.len())
}

/// Whether the peer closes the connection.
async fn is_closed(mut stream: TcpStream) -> bool {
    let mut rest = [0];
    !matches!(stream.read(&mut rest).await, Ok(1..))
}

#[tokio::test]
async fn frames_are_stored_as_events_wherever_they_are_cut() {
    let bench = start(|_| {}).await;
    bench.issue(3);
    let mut stream = bench.connect().await;
    let text: String = (0..3).map(|index| frame(&message(index, 0))).collect();
    for part in text.as_bytes().chunks(7) {
        stream.write_all(part).await.unwrap();
        tokio::task::yield_now().await;
    }
    bench.until(|counts| counts.stored == 3).await;
    assert!(bench.report().passes(), "{}", bench.report());
    assert_eq!(bench.syslog.messages()[2], message(2, 0));
    // The connection lives: a second copy has no cause.
    stream.write_all(frame(&message(1, 0)).as_bytes()).await.unwrap();
    bench.until(|counts| counts.stored == 4).await;
    assert_eq!(bench.report().duplicates_without_cause.len(), 1);
}

#[tokio::test]
async fn the_end_of_a_connection_is_a_cause_for_what_was_in_the_window() {
    let bench = start(|_| {}).await;
    bench.issue(2);
    for _ in 0..2 {
        let mut stream = bench.connect().await;
        stream.write_all((frame(&message(0, 0)) + &frame(&message(1, 0))).as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        assert!(is_closed(stream).await);
    }
    bench.until(|counts| counts.stored == 4).await;
    let report = bench.report();
    assert!(report.passes(), "{report}");
    assert_eq!(report.duplicates.get(&Cause::Unconfirmed), Some(&2));
}

#[tokio::test]
async fn a_receiver_that_dies_forgets_what_it_had_in_memory() {
    let bench = start(|_| {}).await;
    bench.issue(3);
    let mode = SyslogMode { reset_after: Some(2), forgets: true, resets: Some(1), ..SyslogMode::default() };
    bench.syslog.set_mode(mode);
    let mut stream = bench.connect().await;
    stream.write_all((frame(&message(0, 0)) + &frame(&message(1, 0))).as_bytes()).await.unwrap();
    assert!(is_closed(stream).await);
    assert_eq!(bench.report().lost.len(), 3);
    let mut stream = bench.connect().await;
    for index in 0..3 {
        stream.write_all(frame(&message(index, 0)).as_bytes()).await.unwrap();
    }
    bench.until(|counts| counts.stored == 5).await;
    let report = bench.report();
    assert!(report.passes() && report.stored == 3, "{report}");
    assert_eq!(bench.syslog.counts().failures, 1);
}

#[tokio::test]
async fn rsyslog_cuts_what_is_too_long_and_reads_the_rest_as_a_message() {
    let bench = start(|_| {}).await;
    let mut stream = bench.connect().await;
    let fits = 8096 - message(0, 0).len();
    stream.write_all(frame(&message(0, fits)).as_bytes()).await.unwrap();
    bench.until(|counts| counts.stored == 1).await;
    stream.write_all(frame(&message(0, fits + 1)).as_bytes()).await.unwrap();
    bench.until(|counts| counts.stored == 3).await;
    assert_eq!(bench.syslog.counts().refused, 1, "the rest is no message");
    assert_eq!(bench.syslog.messages().iter().map(String::len).collect::<Vec<_>>(), [8096, 8096, 1]);
}

#[tokio::test]
async fn syslog_ng_closes_the_connection_of_what_is_too_long() {
    let bench = start(|options| options.limit = SyslogLimit::SYSLOG_NG).await;
    let fits = 65_536 - message(0, 0).len();
    let mut stream = bench.connect().await;
    stream.write_all(frame(&message(0, fits)).as_bytes()).await.unwrap();
    bench.until(|counts| counts.stored == 1).await;
    // It does not wait for the content.
    stream.write_all(b"65537 <110>").await.unwrap();
    assert!(is_closed(stream).await);
    assert_eq!(bench.syslog.counts().stored, 1);
}

#[tokio::test]
async fn what_is_no_frame_ends_the_connection() {
    for bad in ["<110>1 - - - - - - {}\n", "012 x", "99999999999 x", "5x"] {
        let bench = start(|_| {}).await;
        let mut stream = bench.connect().await;
        stream.write_all(bad.as_bytes()).await.unwrap();
        assert!(is_closed(stream).await, "{bad}");
        assert_eq!((bench.syslog.counts().refused, bench.syslog.counts().stored), (1, 0), "{bad}");
    }
}

#[tokio::test]
async fn a_shortened_event_is_not_owed_in_full() {
    let bench = start(|_| {}).await;
    bench.issue(1);
    let mut stream = bench.connect().await;
    let short = message(0, 0).replace("\"record\"", "\"shortened\":[\"p\"],\"record\"");
    stream.write_all(frame(&short).as_bytes()).await.unwrap();
    bench.until(|counts| counts.sliced == 1).await;
    assert_eq!((bench.report().filtered, bench.report().stored), (1, 0));
}

#[tokio::test]
async fn lines_are_messages_where_they_are_framed_so() {
    let bench = start(|options| options.framing = SyslogFraming::Newline).await;
    bench.issue(2);
    let mut stream = bench.connect().await;
    stream.write_all(format!("{}\n{}\n", message(0, 0), message(1, 0)).as_bytes()).await.unwrap();
    bench.until(|counts| counts.stored == 2).await;
    assert!(bench.report().passes(), "{}", bench.report());
}

#[tokio::test]
async fn a_receiver_that_turns_away_closes_at_once() {
    let bench = start(|_| {}).await;
    bench.syslog.set_mode(SyslogMode { turns_away: true, ..SyslogMode::default() });
    assert!(is_closed(bench.connect().await).await);
    assert_eq!(bench.syslog.connections(), 1);
}

#[tokio::test]
async fn tls_is_spoken_with_those_who_trust_the_authority_and_whom_it_trusts() {
    for demanded in [false, true] {
        let tls = acceptor(if demanded { Clients::Signed } else { Clients::Any }).unwrap();
        let bench = start(|options| options.tls = Some(tls)).await;
        bench.issue(1);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.unwrap().with_root_certificates(roots().unwrap()).with_no_client_auth();
        let address = bench.syslog.url.replace("tls://localhost", "127.0.0.1");
        let socket = TcpStream::connect(address).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let name = ServerName::try_from("localhost").unwrap();
        let mut stream = connector.connect(name, socket).await.unwrap();
        let _ = stream.write_all(frame(&message(0, 0)).as_bytes()).await;
        let _ = stream.shutdown().await;
        let mut rest = Vec::new();
        let end = stream.read_to_end(&mut rest).await;
        assert_eq!(end.is_err(), demanded, "a client without a certificate");
        assert_eq!(bench.syslog.counts().stored, u64::from(!demanded));
    }
}
