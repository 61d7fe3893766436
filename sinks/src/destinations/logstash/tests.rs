//! Tests of frames, of the exchange with a peer that is scripted, and of what a batch comes to.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::VecDeque;
use std::io::Read as _;
use std::time::SystemTime;

use flate2::read::ZlibDecoder;
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::task::JoinHandle;

use super::super::tests::common;
use super::super::{Additions, FindingLevel};
use super::*;
use crate::ports::{Address, Job};
use crate::testing::Sample;
use frames::{AckReader, NoAck};

const RECORD: &str = r#"{"eventID":"e-1","eventTime":"2023-07-10T11:42:01Z"}"#;

fn settings(more: Value) -> Result<Built, Invalid> {
    let mut settings = json!({ "endpoints": ["tls://logstash.example"] });
    settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value::<Settings>(settings).unwrap().build(&common())
}

fn events(count: usize) -> Arc<[Event]> {
    (0..count).map(|id| Sample::new(&format!(r#"{{"eventID":"e-{id}"}}"#)).event()).collect()
}

fn encode(events: &[Event], window: usize, compression: Compression) -> Vec<u8> {
    frames::encode(&common(), events, window, compression).unwrap().bytes.to_vec()
}

fn data_frame(seq: u32, document: &str) -> Vec<u8> {
    let len = u32::try_from(document.len()).unwrap();
    [&b"2J"[..], &seq.to_be_bytes(), &len.to_be_bytes(), document.as_bytes()].concat()
}

fn ack(seq: u32) -> Vec<u8> {
    frames::short(b'A', seq).to_vec()
}

#[test]
fn a_batch_is_windows_of_numbered_documents() {
    let version = env!("CARGO_PKG_VERSION");
    let first = format!(
        r#"{},"@timestamp":"2023-07-10T11:42:01.000Z","@metadata":{{"beat":"trailship","type":"_doc","version":"{version}","_id":"e-1"}},"trailship":{{"record":0}}}}"#,
        RECORD.strip_suffix('}').unwrap()
    );
    let bare = Sample::new("{}").event();
    let id = bare.document_id().into_owned();
    let second = format!(
        r#"{{"@metadata":{{"beat":"trailship","type":"_doc","version":"{version}","_id":"{id}"}},"trailship":{{"record":0}}}}"#
    );
    let events = [Sample::new(RECORD).event(), bare, Sample::new(RECORD).event()];
    let expected = [
        b"2W\0\0\0\x02".to_vec(),
        data_frame(1, &first),
        data_frame(2, &second),
        b"2W\0\0\0\x01".to_vec(),
        data_frame(1, &first),
    ];
    let plain = encode(&events, 2, Compression::None);
    assert_eq!(String::from_utf8_lossy(&plain), String::from_utf8_lossy(&expected.concat()));

    let encoded = frames::encode(&common(), &events, 2, Compression::Deflate(1)).unwrap();
    assert_eq!(encoded.plain_len, plain.len());
    let mut unpacked = Vec::new();
    for window in frames::windows(&encoded.bytes).unwrap() {
        let frame = &encoded.bytes[window.range];
        unpacked.extend_from_slice(&frame[..6]);
        assert_eq!(&frame[6..8], b"2C");
        let len = u32::from_be_bytes(frame[8..12].try_into().unwrap()) as usize;
        assert_eq!(len, frame.len() - 12);
        ZlibDecoder::new(&frame[12..]).read_to_end(&mut unpacked).unwrap();
    }
    assert_eq!(unpacked, plain);
}

#[test]
fn without_additions_only_the_envelope_is_added() {
    let bare = CommonSettings { additions: Additions::None, ..common() };
    let encoded =
        frames::encode(&bare, &[Sample::new(RECORD).event()], 1, Compression::None).unwrap().bytes.to_vec();
    let text = String::from_utf8_lossy(&encoded);
    assert!(text.contains(r#""_id":"e-1""#) && !text.contains(r#""trailship":"#), "{text}");
}

#[test]
fn windows_are_found_again_and_what_is_none_is_not() {
    let events = events(5);
    for compression in [Compression::None, Compression::Deflate(6)] {
        let bytes = encode(&events, 2, compression);
        let windows = frames::windows(&bytes).unwrap();
        assert_eq!(windows.iter().map(|window| window.count).collect::<Vec<_>>(), [2, 2, 1]);
        assert_eq!(windows.last().unwrap().range.end, bytes.len());
        assert_eq!(frames::windows(&bytes[..bytes.len() - 1]), None);
    }
    assert_eq!(frames::windows(b""), Some(vec![]));
    assert_eq!(frames::windows(b"2X\0\0\0\x01"), None);
}

#[test]
fn what_a_peer_can_know_of_a_window_is_counted() {
    let bytes = encode(&events(3), 3, Compression::None);
    let frame = (bytes.len() - 6) / 3;
    let within = |written: usize| frames::events_within(&bytes, written);
    assert_eq!([0, 6, 5 + frame, 6 + frame, 6 + 2 * frame, bytes.len()].map(within), [0, 0, 0, 1, 2, 3]);
    let packed = encode(&events(3), 3, Compression::Deflate(1));
    assert_eq!(frames::events_within(&packed, packed.len() - 1), 0);
}

#[test]
fn acknowledgements_are_read_however_they_are_cut() {
    let mut reader = AckReader::default();
    let bytes = [ack(0), ack(7), ack(u32::MAX)].concat();
    let read: Vec<u32> = bytes.iter().filter_map(|&byte| reader.push(byte).unwrap()).collect();
    assert_eq!(read, [0, 7, u32::MAX]);
    assert!(reader.is_between());
    assert_eq!(AckReader::default().push(b'H'), Err(NoAck(b'H')));
    let mut reader = AckReader::default();
    assert_eq!((reader.push(b'2'), reader.push(b'W')), (Ok(None), Err(NoAck(b'2'))));
}

proptest! {
    #[test]
    fn a_batch_is_never_longer_than_announced(
        agents in prop::collection::vec(any::<String>(), 1..6),
        window in 1usize..4,
        label in any::<String>(),
    ) {
        let common = CommonSettings { labels: vec![("a".into(), label)], ..common() };
        let events: Vec<Event> = agents
            .iter()
            .map(|agent| Sample::new(&json!({ "eventID": agent, "eventTime": "2023-07-10T11:42:01Z" }).to_string()).event())
            .collect();
        let encoded = frames::encode(&common, &events, window, Compression::None).unwrap();
        let announced: usize = events.iter().map(|event| frames::encoded_len(&common, event)).sum();
        prop_assert_eq!(encoded.plain_len, encoded.bytes.len());
        prop_assert!(encoded.plain_len <= announced, "{} > {}", encoded.plain_len, announced);
        prop_assert!(announced <= encoded.plain_len + events.len() * 700);
        let counts: usize =
            frames::windows(&encoded.bytes).unwrap().iter().map(|window| window.count as usize).sum();
        prop_assert_eq!(counts, events.len());
    }
}

struct TestClock(tokio::time::Instant);

#[async_trait]
impl Clock for TestClock {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

struct Inline;

impl Compute for Inline {
    fn submit(&self, job: Job) {
        job();
    }
}

/// Hands out the connections that a test has put in, in order; then none is to be had.
#[derive(Default)]
struct Lines(Mutex<VecDeque<DuplexStream>>, Mutex<Vec<String>>);

#[async_trait]
impl Dialer for Lines {
    async fn dial(&self, address: &Address) -> Result<Box<dyn Stream>, Reason> {
        self.1.lock().unwrap().push(address.host.clone());
        match self.0.lock().unwrap().pop_front() {
            Some(line) => Ok(Box::new(line)),
            None => Err(Reason::new(ReasonCode::Connection, "cannot connect: refused")),
        }
    }
}

/// A sink with peers that follow scripts.
struct Bench {
    sink: Logstash,
    lines: Arc<Lines>,
}

impl Bench {
    fn new(hosts: &[&str], window: u32, compression: Compression) -> Self {
        let lines = Arc::new(Lines::default());
        let endpoint = |host: &&str| StreamEndpoint {
            address: Address { host: (*host).to_owned(), port: PORT, tls: false },
            origin: format!("tcp://{host}:{PORT}"),
        };
        let sink = Logstash {
            format: Arc::new(Format { common: common(), compression }),
            endpoints: hosts.iter().map(endpoint).collect(),
            window: WindowSize::new(window),
            at: AtomicUsize::new(0),
            kept: Mutex::default(),
            dialer: Arc::clone(&lines) as Arc<dyn Dialer>,
            compute: Arc::new(Inline),
            clock: Arc::new(TestClock(tokio::time::Instant::now())),
            timeout: Duration::from_secs(60),
        };
        Self { sink, lines }
    }

    /// The next connection; its peer reads a whole window of `lens` each time and then does what the script says.
    fn peer(&self) -> DuplexStream {
        let (ours, theirs) = duplex(1 << 20);
        self.lines.0.lock().unwrap().push_back(ours);
        theirs
    }

    async fn send(&self, events: &Arc<[Event]>, number: u32) -> Judgement {
        let encoded = self.sink.encode(events, Shape::Normal).await.unwrap();
        self.sink.send(events, &encoded, &Attempt { number, ..Attempt::default() }).await
    }

    fn dialled(&self) -> Vec<String> {
        self.lines.1.lock().unwrap().clone()
    }
}

/// Reads so many events of uncompressed windows; their ids.
async fn read_events(peer: &mut DuplexStream, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    while ids.len() < count {
        let mut head = [0; 6];
        peer.read_exact(&mut head).await.unwrap();
        if head[1] == b'W' {
            continue;
        }
        let mut len = [0; 4];
        peer.read_exact(&mut len).await.unwrap();
        let mut document = vec![0; u32::from_be_bytes(len) as usize];
        peer.read_exact(&mut document).await.unwrap();
        let document: Value = serde_json::from_slice(&document).unwrap();
        ids.push(document["eventID"].as_str().unwrap().to_owned());
    }
    ids
}

/// Reads events, answers, and keeps the connection open until the task is awaited.
fn script(mut peer: DuplexStream, steps: Vec<(usize, Vec<u8>)>) -> JoinHandle<(Vec<String>, DuplexStream)> {
    tokio::spawn(async move {
        let mut ids = Vec::new();
        for (count, answer) in steps {
            ids.extend(read_events(&mut peer, count).await);
            peer.write_all(&answer).await.unwrap();
        }
        (ids, peer)
    })
}

#[track_caller]
fn unavailable(judgement: &Judgement) -> (ReasonCode, &str) {
    let Judgement::Unavailable { why, .. } = judgement else { panic!("{judgement:?}") };
    (why.code, &why.text)
}

#[track_caller]
fn delivered(judgement: &Judgement) -> (usize, usize) {
    let Judgement::Each(verdicts) = judgement else { panic!("{judgement:?}") };
    let stored = verdicts.iter().take_while(|verdict| **verdict == Verdict::Delivered).count();
    let again = verdicts[stored..].iter().filter(|verdict| matches!(verdict, Verdict::Retry(_))).count();
    assert_eq!(stored + again, verdicts.len(), "{verdicts:?}");
    (stored, again)
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_delivered_when_the_last_event_of_each_window_is_acknowledged() {
    let bench = Bench::new(&["a"], 2, Compression::None);
    let peer = script(bench.peer(), vec![(2, [ack(0), ack(1), ack(2)].concat()), (1, ack(1))]);
    assert_eq!(delivered(&bench.send(&events(3), 0).await), (3, 0));
    assert_eq!(peer.await.unwrap().0, ["e-0", "e-1", "e-2"]);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_is_at_work_is_waited_for_however_long_it_takes() {
    let bench = Bench::new(&["a"], 10, Compression::None);
    let mut peer = bench.peer();
    let peer = tokio::spawn(async move {
        read_events(&mut peer, 4).await;
        for seq in [0, 0, 2, 2, 0, 4] {
            tokio::time::sleep(Duration::from_secs(59)).await;
            peer.write_all(&ack(seq)).await.unwrap();
        }
        peer
    });
    assert_eq!(delivered(&bench.send(&events(4), 0).await), (4, 0));
    drop(peer);
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_given_up_and_what_it_acknowledged_is_not_sent_again() {
    let bench = Bench::new(&["a"], 10, Compression::None);
    let peer = script(bench.peer(), vec![(4, ack(3))]);
    let judgement = bench.send(&events(4), 0).await;
    assert_eq!(delivered(&judgement), (3, 1));
    assert!(format!("{judgement:?}").contains("Timeout"), "{judgement:?}");
    drop(peer);
    let peer = script(bench.peer(), vec![(4, Vec::new())]);
    assert_eq!(unavailable(&bench.send(&events(4), 0).await).0, ReasonCode::Timeout);
    drop(peer);
}

#[tokio::test(start_paused = true)]
async fn what_no_window_asked_for_is_no_acknowledgement() {
    for (answer, acked, text) in [
        (ack(5), 0, "event 5 is acknowledged, and 4 were sent"),
        ([ack(2), ack(u32::MAX)].concat(), 2, "is acknowledged, and 4 were sent"),
        (b"1A\0\0\0\x04".to_vec(), 0, "no acknowledgement"),
        (b"2J\0\0\0\x04".to_vec(), 0, "no acknowledgement"),
        (b"HTTP/1.1 400 Bad Request\r\n".to_vec(), 0, "logstash_http"),
        (b"\x15\x03\x03\0\x02\x02\x46".to_vec(), 0, "tls://"),
    ] {
        let bench = Bench::new(&["a"], 10, Compression::None);
        let peer = script(bench.peer(), vec![(4, answer)]);
        let judgement = bench.send(&events(4), 0).await;
        match acked {
            0 => assert_eq!(unavailable(&judgement).0, ReasonCode::Garbled),
            acked => assert_eq!(delivered(&judgement), (acked, 4 - acked)),
        }
        assert!(format!("{judgement:?}").contains(text), "{judgement:?}");
        drop(peer);
        assert!(bench.sink.kept().is_empty(), "such a connection is not used again");
    }
}

#[tokio::test(start_paused = true)]
async fn an_acknowledgement_of_what_is_not_yet_sent_is_none() {
    // Too little room for the window: the acknowledgement arrives while most of it is still to be written.
    let bench = Bench::new(&["a"], 1000, Compression::None);
    let (ours, mut theirs) = duplex(1024);
    bench.lines.0.lock().unwrap().push_back(ours);
    theirs.write_all(&ack(900)).await.unwrap();
    let judgement = bench.send(&events(1000), 0).await;
    let (code, text) = unavailable(&judgement);
    assert!(code == ReasonCode::Garbled && text.starts_with("event 900 is acknowledged, and "), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_kept_for_the_next_batch_and_closed_ones_are_noticed() {
    let bench = Bench::new(&["a"], 10, Compression::None);
    let peer = script(bench.peer(), vec![(2, ack(2)), (2, [ack(2), ack(0)].concat())]);
    for _ in 0..2 {
        assert_eq!(delivered(&bench.send(&events(2), 0).await), (2, 0));
    }
    assert_eq!(bench.dialled(), ["a"], "the second batch went the same way");
    let (_, line) = peer.await.unwrap();
    // The peer goes away between two batches: nobody has to fail for it.
    drop(line);
    let peer = script(bench.peer(), vec![(2, ack(2))]);
    assert_eq!(delivered(&bench.send(&events(2), 0).await), (2, 0));
    assert_eq!(bench.dialled(), ["a", "a"]);
    // Idle for nearly as long as Logstash allows: a new one is safer.
    tokio::time::sleep(IDLE_MAX).await;
    let next = script(bench.peer(), vec![(2, ack(2))]);
    assert_eq!(delivered(&bench.send(&events(2), 0).await), (2, 0));
    assert_eq!(bench.dialled(), ["a", "a", "a"]);
    drop((peer, next));
}

#[tokio::test(start_paused = true)]
async fn an_old_acknowledgement_is_not_taken_for_a_new_windows() {
    // Sent with the last one of the window, and after it.
    for late in [false, true] {
        let bench = Bench::new(&["a"], 10, Compression::None);
        let mut peer = bench.peer();
        let peer = tokio::spawn(async move {
            read_events(&mut peer, 2).await;
            let answers = if late { ack(2) } else { [ack(2), ack(2)].concat() };
            peer.write_all(&answers).await.unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
            peer.write_all(&ack(2)).await.unwrap();
            peer
        });
        assert_eq!(delivered(&bench.send(&events(2), 0).await), (2, 0));
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(unavailable(&bench.send(&events(2), 0).await).0, ReasonCode::Connection);
        assert_eq!(bench.dialled().len(), 2, "the connection was out of step");
        drop(peer);
    }
}

#[tokio::test(start_paused = true)]
async fn the_next_endpoint_is_used_after_a_failure_and_kept_to() {
    let bench = Bench::new(&["a", "b"], 10, Compression::None);
    assert_eq!(
        unavailable(&bench.send(&events(1), 0).await),
        (ReasonCode::Connection, "tcp://a:5044: cannot connect: refused")
    );
    let peer = script(bench.peer(), vec![(1, ack(1))]);
    assert_eq!(delivered(&bench.send(&events(1), 1).await), (1, 0));
    drop(peer);
    bench.sink.kept().clear();
    let peer = script(bench.peer(), vec![(1, ack(1))]);
    assert_eq!(delivered(&bench.send(&events(1), 0).await), (1, 0));
    assert_eq!(bench.dialled(), ["a", "b", "b"]);
    drop(peer);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_closes_on_large_windows_gets_smaller_ones() {
    let bench = Bench::new(&["a"], 8, Compression::None);
    for expected in [8, 4] {
        // Closed without a word, as go-lumber does over its limit.
        drop(script(bench.peer(), vec![(expected, Vec::new())]));
        assert_eq!(delivered(&bench.send(&events(8), 0).await), (0, 8), "to be encoded anew");
    }
    let peer = script(bench.peer(), vec![(2, ack(2)); 4]);
    assert_eq!(delivered(&bench.send(&events(8), 0).await), (8, 0));
    assert_eq!(peer.await.unwrap().0.len(), 8);
    // A connection that had taken as much before is not suspected.
    let mut peer = bench.peer();
    bench.sink.kept().clear();
    let peer = tokio::spawn(async move {
        read_events(&mut peer, 2).await;
        peer.write_all(&ack(2)).await.unwrap();
        read_events(&mut peer, 2).await;
    });
    assert_eq!(delivered(&bench.send(&events(8), 0).await), (2, 6));
    peer.await.unwrap();
    assert_eq!(bench.sink.window.now(), 2);
    // Nor is one that was kept for a while.
    let (kept, peer) = duplex(1 << 20);
    let since = bench.sink.clock.monotonic();
    bench.sink.kept().insert(0, Kept { connection: Connection::new(Box::new(kept)), since });
    drop(script(peer, vec![(2, Vec::new())]));
    assert_eq!(unavailable(&bench.send(&events(8), 0).await).0, ReasonCode::Connection);
    assert_eq!(bench.sink.window.now(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_single_event_over_which_a_peer_closes_is_told_from_a_connection_that_was_old() {
    let hung_up = |judgement: &Judgement| {
        let Judgement::Each(verdicts) = judgement else { panic!("{judgement:?}") };
        let at = verdicts.iter().position(|verdict| matches!(verdict, Verdict::HungUp(_))).unwrap();
        assert!(verdicts[..at].iter().all(|verdict| *verdict == Verdict::Delivered), "{verdicts:?}");
        assert!(
            verdicts[at + 1..].iter().all(|verdict| matches!(verdict, Verdict::Retry(_))),
            "{verdicts:?}"
        );
        (at, verdicts.len())
    };
    let bench = Bench::new(&["a"], 1, Compression::None);
    // On a new connection, and behind others that were taken.
    drop(script(bench.peer(), vec![(1, Vec::new())]));
    assert_eq!(hung_up(&bench.send(&events(3), 0).await), (0, 3));
    let mut peer = bench.peer();
    let peer = tokio::spawn(async move {
        for _ in 0..2 {
            read_events(&mut peer, 1).await;
            peer.write_all(&ack(1)).await.unwrap();
        }
        read_events(&mut peer, 1).await;
    });
    assert_eq!(hung_up(&bench.send(&events(4), 0).await), (2, 4));
    peer.await.unwrap();
    // A connection that was kept may have been closed for its age, and silence is no close.
    let (kept, peer) = duplex(1 << 20);
    let since = bench.sink.clock.monotonic();
    bench.sink.kept().insert(0, Kept { connection: Connection::new(Box::new(kept)), since });
    let peer = tokio::spawn(async move {
        let mut peer = peer;
        read_events(&mut peer, 1).await;
    });
    assert_eq!(unavailable(&bench.send(&events(1), 0).await).0, ReasonCode::Connection);
    peer.await.unwrap();
    let peer = script(bench.peer(), vec![(1, Vec::new())]);
    assert_eq!(unavailable(&bench.send(&events(1), 0).await).0, ReasonCode::Timeout);
    drop(peer);
}

#[tokio::test(start_paused = true)]
async fn check_knocks_at_each_endpoint_without_an_event() {
    let bench = Bench::new(&["a", "b", "c", "d"], 8, Compression::None);
    let (mut answers, silent, mut other) = (bench.peer(), bench.peer(), bench.peer());
    let peers = tokio::spawn(async move {
        let mut got = [0; 6];
        answers.read_exact(&mut got).await.unwrap();
        answers.write_all(&ack(0)).await.unwrap();
        other.write_all(b"HTTP/1.1 400").await.unwrap();
        (got, answers, silent, other)
    });
    let findings = bench.sink.check().await;
    let levels: Vec<_> = findings.iter().map(|(what, finding)| (what.as_str(), finding.level)).collect();
    let expected = [
        ("tcp://a:5044", FindingLevel::Good),
        ("tcp://b:5044", FindingLevel::Good),
        ("tcp://c:5044", FindingLevel::Failed),
        ("tcp://d:5044", FindingLevel::Failed),
    ];
    assert_eq!(levels, expected);
    assert_eq!(&peers.await.unwrap().0, b"2W\0\0\0\0");
}

#[test]
fn settings_that_cannot_work_are_refused_with_the_key() {
    for (more, message) in [
        (json!({ "endpoints": [] }), "endpoints: the list is empty"),
        (json!({ "endpoints": ["https://a"] }), "endpoints: not an absolute address"),
        (json!({ "window": 0 }), "window: from 1 to"),
        (json!({ "window": 65_537 }), "window: from 1 to"),
        (json!({ "compression": "gzip" }), "compression: use \"deflate\""),
        (json!({ "compression": "deflate:0" }), "compression: use \"deflate\""),
        (json!({ "compression": "deflate:10" }), "compression: use \"deflate\""),
    ] {
        let error = settings(more).unwrap_err().to_string();
        assert!(error.starts_with(message), "{error}");
    }
    assert_eq!(settings(json!({})).unwrap().endpoints, ["tls://logstash.example:5044"]);
    for (text, compression) in [
        ("none", Compression::None),
        ("deflate", Compression::Deflate(1)),
        ("deflate:9", Compression::Deflate(9)),
    ] {
        assert_eq!(compression_of(text).unwrap(), compression);
    }
}
