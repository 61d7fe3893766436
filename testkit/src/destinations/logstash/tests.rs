//! Tests of the stand-in with a client that writes frames by hand.
#![allow(clippy::unwrap_used)]

use std::io::Write as _;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncReadExt as _;

use super::*;
use crate::destinations::Mode;
use crate::destinations::client::send;
use crate::ledger::{Cause, QueueEvidence, SinkReport, SinkRule, judge};

struct Bench {
    ledger: Arc<Ledger>,
    logstash: Logstash,
}

async fn start(change: impl FnOnce(&mut LogstashOptions)) -> Bench {
    let mut options = LogstashOptions::default();
    change(&mut options);
    let ledger = Arc::new(Ledger::new());
    for index in 0..8 {
        let id = format!("e-{index}");
        ledger.issue("b", "k", index, Some(&id), Sha256::digest(event(index)).into());
    }
    let logstash = Logstash::start(Arc::clone(&ledger), options).await.unwrap();
    Bench { ledger, logstash }
}

fn event(index: u64) -> String {
    format!(r#"{{"eventID":"e-{index}"}}"#)
}

fn document(index: u64) -> String {
    let ours = r#""@metadata":{"_id":"x"},"trailship":{"actor":{},"bucket":"b","key":"k","record":"#;
    format!(
        "{},\"@timestamp\":\"2026-01-01T00:00:00.000Z\",{ours}{index}}}}}",
        event(index).trim_end_matches('}')
    )
}

fn data(seq: u32, document: &str) -> Vec<u8> {
    let len = u32::try_from(document.len()).unwrap();
    [&b"2J"[..], &seq.to_be_bytes(), &len.to_be_bytes(), document.as_bytes()].concat()
}

fn frames(indices: &[u64]) -> Vec<u8> {
    (1..).zip(indices).flat_map(|(seq, index)| data(seq, &document(*index))).collect()
}

fn head(kind: u8, number: usize) -> Vec<u8> {
    [&[b'2', kind][..], &u32::try_from(number).unwrap().to_be_bytes()].concat()
}

fn window(indices: &[u64]) -> Vec<u8> {
    [head(b'W', indices.len()), frames(indices)].concat()
}

fn packed(indices: &[u64]) -> Vec<u8> {
    let mut packer = ZlibEncoder::new(Vec::new(), Compression::fast());
    packer.write_all(&frames(indices)).unwrap();
    let packed = packer.finish().unwrap();
    [head(b'W', indices.len()), head(b'C', packed.len()), packed].concat()
}

impl Bench {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.logstash.endpoint.trim_start_matches("tcp://")).await.unwrap()
    }

    /// Sends bytes over a connection of their own; the numbers that are acknowledged until it is closed or silent.
    async fn send(&self, bytes: &[u8]) -> Vec<u32> {
        let mut stream = self.connect().await;
        exchange(&mut stream, bytes).await
    }

    fn report(&self) -> SinkReport {
        judge(&self.ledger, &[SinkRule::new("logstash")], &QueueEvidence::default()).sinks.remove(0)
    }
}

async fn exchange(stream: &mut TcpStream, bytes: &[u8]) -> Vec<u32> {
    let _ = stream.write_all(bytes).await;
    let mut acks = Vec::new();
    let mut frame = [0; 6];
    let patience = Duration::from_millis(300);
    while let Ok(Ok(_)) = tokio::time::timeout(patience, stream.read_exact(&mut frame)).await {
        assert_eq!(&frame[..2], b"2A");
        acks.push(u32::from_be_bytes(frame[2..].try_into().unwrap()));
    }
    acks
}

#[tokio::test]
async fn windows_are_stored_and_acknowledged_one_after_the_other() {
    let bench = start(|_| {}).await;
    let mut stream = bench.connect().await;
    assert_eq!(exchange(&mut stream, &window(&[0, 1, 2])).await, [3]);
    assert_eq!(exchange(&mut stream, &packed(&[3, 4])).await, [2]);
    assert_eq!(exchange(&mut stream, &[window(&[5]), packed(&[6, 7])].concat()).await, [1, 2]);
    assert_eq!(exchange(&mut stream, &head(b'W', 0)).await, [0], "an empty window stores nothing");
    let report = bench.report();
    assert!(report.passes(), "{report}");
    assert_eq!((report.stored, bench.logstash.counts().deliveries), (8, 4));
    assert_eq!(bench.send(&window(&[0])).await, [1]);
    assert_eq!(bench.report().duplicates_without_cause.len(), 1, "an acknowledged event came again");
}

#[tokio::test]
async fn numbers_may_go_on_from_window_to_window() {
    let bench = start(|_| {}).await;
    let mut stream = bench.connect().await;
    assert_eq!(exchange(&mut stream, &window(&[0, 1])).await, [2]);
    let next = [head(b'W', 2), data(3, &document(2)), data(4, &document(3))].concat();
    assert_eq!(exchange(&mut stream, &next).await, [4]);
}

#[tokio::test]
async fn parts_of_a_window_are_acknowledged_as_they_are_stored() {
    let bench = start(|options| options.ack_every = 2).await;
    assert_eq!(bench.send(&window(&[0, 1, 2, 3, 4])).await, [2, 4, 5]);
    assert_eq!(bench.logstash.counts().stored, 5);
}

#[tokio::test]
async fn while_it_is_at_work_it_says_so() {
    let bench = start(|options| options.keep_alive = Duration::from_millis(50)).await;
    bench.logstash.set_mode(Mode { delay_ms: 180, ..Mode::default() });
    assert_eq!(bench.send(&window(&[0, 1])).await, [0, 0, 0, 2]);
}

#[tokio::test]
async fn what_is_no_window_of_numbered_objects_ends_the_connection_and_stores_nothing() {
    let bench = start(|options| options.window_max = 4).await;
    let mut cut = packed(&[0, 1]);
    cut[5] = 1;
    for (what, bytes) in [
        ("HTTP", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        ("version 1", b"1W\0\0\0\x01".to_vec()),
        ("data before its window", data(1, "{}")),
        ("numbered from 0", [head(b'W', 1), data(0, "{}")].concat()),
        ("not one after the other", [head(b'W', 2), data(1, "{}"), data(3, "{}")].concat()),
        ("no object", [head(b'W', 1), data(1, "[]")].concat()),
        ("no JSON", [head(b'W', 1), data(1, "{")].concat()),
        ("more events than the window has", cut),
        ("not packed", [head(b'W', 1), head(b'C', 3), b"abc".to_vec()].concat()),
        ("too large", window(&[0, 1, 2, 3, 4])),
    ] {
        let mut stream = bench.connect().await;
        assert_eq!(exchange(&mut stream, &bytes).await, Vec::<u32>::new(), "{what}");
        let closed = tokio::time::timeout(Duration::from_secs(5), stream.read(&mut [0; 1])).await.unwrap();
        assert!(matches!(closed, Ok(0) | Err(_)), "{what}");
    }
    assert_eq!(bench.logstash.counts().stored, 0);
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let bench = start(|options| options.idle_timeout = Duration::from_millis(50)).await;
    let mut stream = bench.connect().await;
    assert_eq!(exchange(&mut stream, &window(&[0])).await, [1]);
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
}

#[tokio::test]
async fn failures_store_and_acknowledge_what_they_say() {
    for (failure, acks, stored) in [
        (Failure::Status(503), vec![], 0),
        (Failure::RefuseAll, vec![], 0),
        (Failure::Reset, vec![], 0),
        (Failure::AnswerLost, vec![], 4),
        (Failure::Hangup, vec![], 4),
        (Failure::NeverAnswer, vec![], 4),
        (Failure::HalfAnswer, vec![], 4),
        (Failure::Garbage, vec![5], 4),
        (Failure::ShortAnswer, vec![2], 4),
        (Failure::PartlyStored, vec![2], 2),
        (Failure::None, vec![4], 4),
    ] {
        let bench = start(|_| {}).await;
        bench.logstash.set_mode(failure.clone());
        assert_eq!(bench.send(&window(&[0, 1, 2, 3])).await, acks, "{failure:?}");
        assert_eq!(bench.logstash.counts().stored, stored, "{failure:?}");
    }
}

#[tokio::test]
async fn only_what_was_not_acknowledged_may_come_again() {
    let bench = start(|_| {}).await;
    bench.logstash.set_mode(Mode { requests: Some(1), ..Mode::from(Failure::ShortAnswer) });
    assert_eq!(bench.send(&window(&[0, 1, 2, 3])).await, [2]);
    assert_eq!(bench.send(&window(&[2, 3])).await, [2]);
    let report = bench.report();
    assert_eq!(report.duplicates_without_cause, Vec::<String>::new());
    assert_eq!(report.duplicates[&Cause::AnswerLost], 2);
    assert_eq!(bench.send(&window(&[1])).await, [1]);
    assert_eq!(bench.report().duplicates_without_cause.len(), 1);
}

#[tokio::test]
async fn its_page_tells_mode_and_evidence() {
    let bench = start(|_| {}).await;
    assert_eq!(bench.send(&window(&[0])).await, [1]);
    let counts = send(&bench.logstash.url, "GET", "/_testkit/counts", &[], "").await.json();
    assert_eq!(counts["stored"], json!(1));
    assert_eq!(send(&bench.logstash.url, "GET", "/", &[], "").await.status, 404);
    let evidence = send(&bench.logstash.url, "GET", "/_testkit/evidence", &[], "").await.body;
    assert_eq!(Ledger::new().read_evidence(evidence.as_bytes()).unwrap(), 2);
}
