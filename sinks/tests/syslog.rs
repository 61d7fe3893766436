//! Syslog over connections in memory: what counts as delivered, and what is sent again when a connection ends.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use cloudtrail::{Limits, LogFileReader};
use sinks::destinations::{self, Carrier, CommonSettings, FindingLevel, SinkPorts};
use sinks::ports::{Address, BucketPlace, Dialer, ObjectStore, ObjectStores, Stream};
use sinks::{
    Answer, BatchConfig, Lane, LaneConfig, LanePorts, LogFile, Outcome, Parcel, ParcelMaker, Reason,
    ReasonCode, RetryConfig, Share, Sink, Unobserved, Via,
};
use testkit::ports::{
    InlineCompute, MemoryDeadLetters, MemoryFiles, SeededRandom, SimulatedClock, SimulatedTransport,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

/// What one end of a connection may hold before its reader has read.
const PIPE_BYTES: usize = 64 * 1024;

/// Receivers in memory: each connection's far end is handed to the test.
#[derive(Default)]
struct Receivers {
    accepted: Mutex<VecDeque<(Address, DuplexStream)>>,
    dialled: Mutex<Vec<String>>,
    /// Hosts that refuse.
    refusing: Mutex<Vec<String>>,
    arrived: tokio::sync::Notify,
}

impl Receivers {
    async fn accept(&self) -> (Address, DuplexStream) {
        loop {
            if let Some(next) = self.accepted.lock().unwrap().pop_front() {
                return next;
            }
            self.arrived.notified().await;
        }
    }

    fn hosts(&self) -> Vec<String> {
        self.dialled.lock().unwrap().clone()
    }
}

#[async_trait]
impl Dialer for Receivers {
    async fn dial(&self, address: &Address) -> Result<Box<dyn Stream>, Reason> {
        self.dialled.lock().unwrap().push(address.host.clone());
        if self.refusing.lock().unwrap().contains(&address.host) {
            return Err(Reason::new(ReasonCode::Connection, "cannot connect: refused"));
        }
        let (near, far) = tokio::io::duplex(PIPE_BYTES);
        self.accepted.lock().unwrap().push_back((address.clone(), far));
        self.arrived.notify_one();
        Ok(Box::new(near))
    }
}

struct NoStores;

impl ObjectStores for NoStores {
    fn open(&self, _: &BucketPlace) -> Result<Arc<dyn ObjectStore>, Reason> {
        Err(Reason::new(ReasonCode::Other, "there are no buckets here"))
    }
}

struct Bench {
    receivers: Arc<Receivers>,
    sink: Arc<dyn Sink>,
    letters: Arc<MemoryDeadLetters>,
    lane: Lane,
    share: Share,
}

impl Bench {
    fn start(settings: serde_json::Value) -> Self {
        let mut all = serde_json::json!({ "endpoints": ["tls://a", "tls://b"] });
        all.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
        let common = CommonSettings { name: "siem".to_owned(), ..CommonSettings::default() };
        let built = destinations::build("syslog", all, &common).unwrap();
        let Carrier::Own(assemble) = built.carrier else { panic!("it has a protocol of its own") };
        let (receivers, letters) = (Arc::new(Receivers::default()), Arc::new(MemoryDeadLetters::new()));
        let clock = Arc::new(SimulatedClock::new(1_700_000_000));
        let ports = SinkPorts {
            transport: Arc::new(SimulatedTransport::new(|_, _| Ok(Answer::default()))),
            dialer: receivers.clone(),
            compute: Arc::new(InlineCompute),
            clock: clock.clone(),
            random: Arc::new(SeededRandom::new(1)),
            files: Arc::new(MemoryFiles::new()),
            objects: Arc::new(NoStores),
            timeout: Duration::from_secs(60),
            redactor: built.redactor,
        };
        let sink = assemble(&ports).unwrap();
        let config = LaneConfig {
            name: "siem".to_owned(),
            sink_type: "syslog".to_owned(),
            batch: BatchConfig { bytes_max: 256 << 10, events_max: 10, age_max: Duration::from_millis(100) },
            retry: RetryConfig { give_up_after: Duration::from_secs(600), ..RetryConfig::default() },
            concurrency_min: 1,
            concurrency_max: 1,
            ack_timeout: Duration::from_secs(300),
            memory_part: 64 << 20,
        };
        let ports = LanePorts {
            clock,
            random: Arc::new(SeededRandom::new(1)),
            dead_letters: letters.clone(),
            observer: Arc::new(Unobserved),
        };
        let lane = Lane::start(config, sink.clone(), ports);
        Self { receivers, sink, letters, lane, share: Share::new() }
    }

    /// Offers a log file of `count` events named `0`, `1`, …, each with as much padding.
    fn offer(&self, count: usize, padding: usize) {
        let events: Vec<String> = (0..count)
            .map(|id| {
                format!(r#"{{"eventID":"{id}","requestParameters":{{"p":"{}"}}}}"#, "x".repeat(padding))
            })
            .collect();
        for parcel in parcels(&events) {
            self.lane.offer(&parcel, &self.share);
        }
        self.share.ended(count as u64);
    }

    fn delivered(&self) -> u64 {
        self.lane.stats().count(Outcome::Delivered)
    }
}

fn parcels(events: &[String]) -> Vec<Arc<Parcel>> {
    let json = format!("{{\"Records\":[{}]}}", events.join(","));
    let mut reader = LogFileReader::new(Limits::default());
    let mut chunks = Vec::new();
    reader.push(json.as_bytes(), &mut chunks).unwrap();
    reader.finish(&mut chunks).unwrap();
    let file = LogFile {
        bucket: "trail".to_owned(),
        key: "key".to_owned(),
        version_id: None,
        etag: None,
        via: Via::Queue,
        read_at: "2023-07-10T00:00:00.000Z".to_owned(),
        labels: Vec::new(),
        key_minute: None,
    };
    let mut maker = ParcelMaker::new(Arc::new(file), Arc::default());
    chunks.into_iter().map(|chunk| Arc::new(maker.make(chunk).parcel)).collect()
}

/// Reads one frame: its message's event id, or nothing at the end.
async fn message(stream: &mut DuplexStream) -> Option<String> {
    let mut len = String::new();
    loop {
        let byte = stream.read_u8().await.ok()?;
        match byte {
            b' ' => break,
            digit => len.push(char::from(digit)),
        }
    }
    let mut message = vec![0; len.parse().unwrap_or_else(|_| panic!("no length: {len}"))];
    stream.read_exact(&mut message).await.ok()?;
    let message = String::from_utf8(message).unwrap();
    let json: serde_json::Value = serde_json::from_str(message.splitn(8, ' ').nth(7).unwrap()).unwrap();
    Some(json["eventID"].as_str().unwrap().to_owned())
}

async fn messages(stream: &mut DuplexStream, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for _ in 0..count {
        ids.push(message(stream).await.expect("the connection ended"));
    }
    ids
}

fn names(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|id| id.to_string()).collect()
}

#[tokio::test(start_paused = true)]
async fn an_event_is_delivered_when_its_connection_has_lived_on_for_five_seconds() {
    let bench = Bench::start(serde_json::json!({}));
    bench.offer(10, 10);
    let (address, mut stream) = bench.receivers.accept().await;
    assert_eq!((address.host.as_str(), address.port, address.tls), ("a", 6514, true));
    assert_eq!(messages(&mut stream, 10).await, names(0..10));
    tokio::time::sleep(Duration::from_millis(4900)).await;
    assert_eq!(bench.delivered(), 0, "a write proves nothing");
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(bench.delivered(), 10);
    assert!(bench.share.idle().await.is_closed());
    assert_eq!(bench.receivers.hosts(), ["a"], "one connection is enough");
}

#[tokio::test(start_paused = true)]
async fn an_event_is_delivered_when_more_was_written_after_it_than_buffers_hold() {
    let bench = Bench::start(serde_json::json!({}));
    bench.offer(4000, 7000);
    let (_, mut stream) = bench.receivers.accept().await;
    let begun = tokio::time::Instant::now();
    messages(&mut stream, 4000).await;
    // It is asked a second after the write, and again a second later.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "by then it is the time that counts");
    // 28.6 MB were written; 16 MiB, and the batches that reach into them, are still in the window.
    let delivered = bench.delivered();
    assert!((1600..=1700).contains(&delivered), "{delivered}");
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(bench.delivered(), 4000);
}

#[tokio::test(start_paused = true)]
async fn what_is_in_the_window_of_a_connection_that_ends_is_sent_again_at_once() {
    let bench = Bench::start(serde_json::json!({}));
    bench.offer(30, 10);
    let (_, mut stream) = bench.receivers.accept().await;
    messages(&mut stream, 30).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let ended = tokio::time::Instant::now();
    drop(stream);
    let (address, mut stream) = bench.receivers.accept().await;
    assert_eq!(address.host, "b", "the next endpoint's turn");
    let mut again = messages(&mut stream, 30).await;
    assert!(ended.elapsed() < Duration::from_millis(500), "{:?}", ended.elapsed());
    again.sort_by_key(|id| id.parse::<u32>().unwrap());
    assert_eq!(again, names(0..30));
    assert_eq!(bench.delivered(), 0);
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(bench.delivered(), 30);
    assert!(bench.letters.letters().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_has_left_the_window_is_not_sent_again() {
    let bench = Bench::start(serde_json::json!({}));
    bench.offer(10, 10);
    let (_, mut stream) = bench.receivers.accept().await;
    messages(&mut stream, 10).await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    drop(stream);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!((bench.delivered(), bench.receivers.hosts().len()), (10, 1));
    // What comes next finds the connection closed before it writes.
    let next = Share::new();
    for parcel in parcels(&[r#"{"eventID":"next"}"#.to_owned()]) {
        bench.lane.offer(&parcel, &next);
    }
    let (_, mut stream) = bench.receivers.accept().await;
    assert_eq!(message(&mut stream).await.as_deref(), Some("next"));
}

#[tokio::test(start_paused = true)]
async fn nothing_ever_follows_half_a_frame() {
    let bench = Bench::start(serde_json::json!({}));
    // More than the pipe holds; the receiver does not read.
    bench.offer(40, 7000);
    let (_, mut stuck) = bench.receivers.accept().await;
    let (_, mut stream) = bench.receivers.accept().await;
    let mut ids: Vec<u32> = messages(&mut stream, 40).await.iter().map(|id| id.parse().unwrap()).collect();
    ids.sort_unstable();
    assert_eq!(ids, (0..40).collect::<Vec<_>>());
    // Whole frames first, then a half one, and then the end.
    let mut rest = Vec::new();
    stuck.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest.len(), PIPE_BYTES);
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(bench.delivered(), 40);
}

#[tokio::test(start_paused = true)]
async fn a_slow_receiver_is_waited_for() {
    let bench = Bench::start(serde_json::json!({}));
    bench.offer(100, 7000);
    let (_, mut stream) = bench.receivers.accept().await;
    for id in 0..100 {
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(message(&mut stream).await, Some(id.to_string()));
    }
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!((bench.delivered(), bench.receivers.hosts().len()), (100, 1));
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_takes_everything_and_closes_is_left_alone_for_longer_each_time() {
    let bench = Bench::start(serde_json::json!({}));
    bench.offer(10, 10);
    let receivers = bench.receivers.clone();
    let closing = tokio::spawn(async move {
        loop {
            let (_, mut stream) = receivers.accept().await;
            message(&mut stream).await;
        }
    });
    tokio::time::sleep(Duration::from_secs(120)).await;
    let times = bench.receivers.hosts().len();
    assert!((5..=12).contains(&times), "{times} connections in two minutes");
    assert_eq!(bench.delivered(), 0);
    closing.abort();
    let (_, mut stream) = bench.receivers.accept().await;
    messages(&mut stream, 10).await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(bench.delivered(), 10);
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_cannot_be_reached_gives_its_turn_to_the_next() {
    let bench = Bench::start(serde_json::json!({}));
    bench.receivers.refusing.lock().unwrap().push("a".to_owned());
    bench.offer(10, 10);
    let (address, mut stream) = bench.receivers.accept().await;
    assert_eq!(address.host, "b");
    assert_eq!(messages(&mut stream, 10).await, names(0..10));
    assert_eq!(bench.receivers.hosts(), ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_answers_is_named_as_no_receiver() {
    let bench = Bench::start(serde_json::json!({}));
    bench.offer(1, 10);
    let (_, mut stream) = bench.receivers.accept().await;
    message(&mut stream).await;
    stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    drop(stream);
    // The second time in a row the lane is told to wait, and why.
    let (_, mut stream) = bench.receivers.accept().await;
    message(&mut stream).await;
    stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    drop(stream);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let failure = bench.lane.health().last_failure().unwrap().why;
    assert!(failure.text.contains("answered with 28 bytes"), "{failure}");
}

#[tokio::test(start_paused = true)]
async fn an_event_over_the_limit_is_dead_lettered_alone_where_that_is_wanted() {
    let bench = Bench::start(serde_json::json!({ "oversized": "dead_letter" }));
    let events = ["{\"eventID\":\"small\"}".to_owned(), format!("{{\"eventID\":\"{}\"}}", "x".repeat(9000))];
    for parcel in parcels(&events) {
        bench.lane.offer(&parcel, &bench.share);
    }
    bench.share.ended(2);
    let (_, mut stream) = bench.receivers.accept().await;
    assert_eq!(message(&mut stream).await.as_deref(), Some("small"));
    tokio::time::sleep(Duration::from_secs(6)).await;
    let letters = bench.letters.letters();
    assert_eq!((letters.len(), letters[0].reason_code.as_str()), (1, "too_large"));
    assert_eq!(bench.delivered(), 1);
    assert!(bench.share.idle().await.is_closed());
}

#[tokio::test(start_paused = true)]
async fn check_connects_to_each_endpoint_and_sends_nothing() {
    let bench = Bench::start(serde_json::json!({}));
    bench.receivers.refusing.lock().unwrap().push("b".to_owned());
    let findings = bench.sink.check().await;
    let levels: Vec<_> = findings.iter().map(|(what, finding)| (what.as_str(), finding.level)).collect();
    assert_eq!(levels, [("tls://a:6514", FindingLevel::Good), ("tls://b:6514", FindingLevel::Failed)]);
    let (_, mut stream) = bench.receivers.accept().await;
    assert_eq!(message(&mut stream).await, None);
}
