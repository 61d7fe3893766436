//! HTTP destinations, file sinks and dead letters as delivery sees them, on simulated ports.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::io::Read as _;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use cloudtrail::{Limits, LogFileReader};
use sinks::destinations::{self, Built, CommonSettings};
use sinks::{
    Answer, Attempt, BatchConfig, Compression, DeadLetterStore, Event, FileDeadLetters, FileSink, Head,
    HttpDestination, Judgement, Lane, LaneConfig, LanePorts, Letter, LineFormat, LogFile, ObjectDeadLetters,
    Outcome, Parcel, ParcelMaker, Reason, ReasonCode, RetryConfig, Shape, Share, Sink, Unobserved, Verdict,
    Via,
};
use testkit::ports::{
    InlineCompute, MemoryDeadLetters, MemoryFiles, MemoryObjects, SeededRandom, SimulatedClock,
    SimulatedTransport,
};

const TOKEN: &str = "11111111-secret-4444-555555555555";

fn parcel(count: usize) -> Arc<Parcel> {
    let events: Vec<String> = (0..count)
        .map(|id| {
            format!(
                "{{\"eventTime\":\"2023-07-10T11:42:01Z\",\"eventID\":\"{id}\",\"eventName\":\"GetObject\"}}"
            )
        })
        .collect();
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
        read_at: "2023-07-10T12:00:00.000Z".to_owned(),
        labels: Vec::new(),
        key_minute: None,
    };
    let made = ParcelMaker::new(Arc::new(file), Arc::default()).make(chunks.remove(0));
    Arc::new(made.parcel)
}

fn events(count: usize) -> Arc<[Event]> {
    let parcel = parcel(count);
    (0..u32::try_from(count).unwrap()).map(|slot| Event::new(&parcel, slot).unwrap()).collect()
}

fn built(type_name: &str, settings: &str) -> Built {
    let settings: serde_json::Value = serde_json::from_str(settings).unwrap();
    let common = CommonSettings { name: "sink".to_owned(), required: true, ..CommonSettings::default() };
    destinations::build(type_name, settings, &common).unwrap()
}

fn loggly() -> Built {
    built("loggly", &format!("{{\"endpoint\":\"https://logs.example\",\"token\":\"{TOKEN}\"}}"))
}

fn destination(
    built: &Built,
    transport: Arc<SimulatedTransport>,
    compression: Compression,
) -> HttpDestination {
    let compute = Arc::new(InlineCompute);
    HttpDestination::new(built.http_sink().unwrap(), transport, compute, compression, built.redactor.clone())
}

fn ok(body: &str) -> Answer {
    Answer { status: 200, headers: Vec::new(), body: Bytes::copy_from_slice(body.as_bytes()) }
}

#[tokio::test]
async fn a_body_is_compressed_once_and_says_so() {
    let transport = Arc::new(SimulatedTransport::new(|_, _| Ok(ok("{\"response\":\"ok\"}"))));
    let plain = destination(&loggly(), transport.clone(), Compression::None);
    let gzip = destination(&loggly(), transport.clone(), Compression::Gzip(1));
    let events = events(50);
    for sink in [&plain, &gzip] {
        let encoded = sink.encode(&events, Shape::Normal).await.unwrap();
        assert_eq!(
            sink.send(&events, &encoded, &Attempt::default()).await,
            Judgement::all(50, &Verdict::Delivered)
        );
    }
    let requests = transport.requests();
    let encoding = |head: &Head| {
        head.headers.iter().find(|(name, _)| *name == "content-encoding").map(|(_, value)| value.clone())
    };
    assert_eq!(encoding(&requests[0].0), None);
    assert_eq!(encoding(&requests[1].0).as_deref(), Some("gzip"));
    let mut inflated = Vec::new();
    #[allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "a test's small body")]
    flate2::read::GzDecoder::new(&requests[1].1[..]).read_to_end(&mut inflated).unwrap();
    assert_eq!(inflated, requests[0].1);
}

#[tokio::test]
async fn a_failed_exchange_does_not_tell_the_token() {
    let transport = Arc::new(SimulatedTransport::new(|head, _| {
        Err(Reason::new(ReasonCode::Connection, format!("cannot reach {}", head.url)))
    }));
    let sink = destination(&loggly(), transport, Compression::None);
    let events = events(1);
    let encoded = sink.encode(&events, Shape::Normal).await.unwrap();
    let judgement = sink.send(&events, &encoded, &Attempt::default()).await;
    let text = format!("{judgement:?}");
    assert!(text.contains("cannot reach") && !text.contains(TOKEN), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_retry_sends_the_same_bytes() {
    let answers = Mutex::new(vec![503, 429, 200]);
    let transport = Arc::new(SimulatedTransport::new(move |_, _| {
        let status = answers.lock().unwrap().remove(0);
        Ok(Answer { status, ..ok("{\"response\":\"ok\"}") })
    }));
    let sink = Arc::new(destination(&loggly(), transport.clone(), Compression::Gzip(1)));
    let config = LaneConfig {
        name: "loggly".to_owned(),
        sink_type: "loggly".to_owned(),
        batch: BatchConfig { bytes_max: 1 << 20, events_max: 100, age_max: Duration::from_millis(10) },
        retry: RetryConfig::default(),
        concurrency_min: 1,
        concurrency_max: 1,
        ack_timeout: Duration::from_secs(1),
        memory_part: 1 << 20,
    };
    let ports = LanePorts {
        clock: Arc::new(SimulatedClock::new(0)),
        random: Arc::new(SeededRandom::new(1)),
        dead_letters: Arc::new(MemoryDeadLetters::new()),
        observer: Arc::new(Unobserved),
    };
    let lane = Lane::start(config, sink, ports);
    let share = Share::new();
    lane.offer(&parcel(20), &share);
    share.ended(20);
    assert!(share.idle().await.is_closed());
    let requests = transport.requests();
    assert_eq!(requests.len(), 3);
    assert!(requests.iter().all(|(_, body)| *body == requests[0].1));
    assert_eq!(lane.stats().count(Outcome::Delivered), 20);
}

fn file_sink(files: &Arc<MemoryFiles>, rotate_bytes: u64, rotate_age: Option<Duration>) -> FileSink {
    let format = LineFormat { additions: true, labels: vec![("env".to_owned(), "test".to_owned())] };
    let clock = Arc::new(SimulatedClock::new(1_700_000_000));
    let path = Path::new("out/events.ndjson");
    FileSink::new(format, path, rotate_bytes, rotate_age, files.clone(), Arc::new(InlineCompute), clock)
}

async fn write(sink: &FileSink, events: &Arc<[Event]>) -> Judgement {
    let encoded = sink.encode(events, Shape::Normal).await.unwrap();
    assert!(events.iter().map(|event| sink.encoded_len(event)).sum::<usize>() >= encoded.plain_len);
    sink.send(events, &encoded, &Attempt::default()).await
}

#[tokio::test]
async fn a_file_has_one_event_a_line_with_only_the_additions_spliced_in() {
    let files = Arc::new(MemoryFiles::new());
    let sink = file_sink(&files, 1 << 20, None);
    let events = events(3);
    assert_eq!(write(&sink, &events).await, Judgement::all(3, &Verdict::Delivered));
    let text = String::from_utf8(files.content(Path::new("out/events.ndjson")).unwrap()).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3);
    for (line, event) in lines.iter().zip(events.iter()) {
        let at = line.rfind(",\"trailship\":").unwrap();
        assert_eq!(format!("{}}}", &line[..at]).as_bytes(), event.bytes());
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(value["trailship"]["labels"]["env"], "test");
        assert_eq!(value["trailship"]["record"], event.index());
    }
}

#[tokio::test]
async fn a_torn_line_is_cut_off_before_the_events_come_again() {
    let files = Arc::new(MemoryFiles::new());
    let sink = file_sink(&files, 1 << 20, None);
    let events = events(3);
    assert_eq!(write(&sink, &events).await, Judgement::all(3, &Verdict::Delivered));
    files.fail(1);
    assert!(matches!(write(&sink, &events).await, Judgement::Unavailable { .. }));
    assert_eq!(write(&sink, &events).await, Judgement::all(3, &Verdict::Delivered));
    let text = String::from_utf8(files.content(Path::new("out/events.ndjson")).unwrap()).unwrap();
    assert!(text.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()), "{text}");
    assert_eq!(text.lines().count(), 6, "what a failed write left is gone, whole lines too");
}

#[tokio::test(start_paused = true)]
async fn a_file_is_put_aside_by_size_and_by_age() {
    let files = Arc::new(MemoryFiles::new());
    let sink = file_sink(&files, 1000, Some(Duration::from_secs(60)));
    for _ in 0..3 {
        write(&sink, &events(3)).await;
    }
    assert_eq!(files.names().len(), 3, "{:?}", files.names());
    let small = file_sink(&files, 1 << 30, Some(Duration::from_secs(60)));
    write(&small, &events(1)).await;
    tokio::time::sleep(Duration::from_secs(61)).await;
    write(&small, &events(1)).await;
    assert_eq!(files.names().len(), 4);
    let lines: usize = files
        .names()
        .iter()
        .map(|name| files.content(name).unwrap().split(|b| *b == b'\n').count() - 1)
        .sum();
    assert_eq!(lines, 11, "nothing is overwritten");
}

#[tokio::test]
async fn a_file_without_a_folder_is_put_aside_without_overwriting() {
    let files = Arc::new(MemoryFiles::new());
    let clock = Arc::new(SimulatedClock::new(1_700_000_000));
    let (path, compute) = (Path::new("events.ndjson"), Arc::new(InlineCompute));
    let sink = FileSink::new(LineFormat::default(), path, 10, None, files.clone(), compute, clock);
    for _ in 0..4 {
        write(&sink, &events(1)).await;
    }
    assert_eq!(files.names().len(), 4, "{:?}", files.names());
}

fn letters() -> Vec<Letter> {
    let why = Reason::new(ReasonCode::Mapping, "field x").with_status(400);
    let now = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    events(2).iter().map(|event| Letter::of_event("search", "elasticsearch", event, &why, now)).collect()
}

#[tokio::test]
async fn dead_letters_hold_the_event_s_bytes_and_can_be_read_back() {
    let files = Arc::new(MemoryFiles::new());
    let store = FileDeadLetters::new(files.clone(), Path::new("dead.ndjson"));
    store.store(&letters()).await.unwrap();
    files.fail(1);
    assert!(store.store(&letters()).await.is_err());
    store.store(&letters()).await.unwrap();
    let text = String::from_utf8(files.content(Path::new("dead.ndjson")).unwrap()).unwrap();
    let read: Vec<Letter> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(read.first(), letters().first());
    assert_eq!(read[0].record.as_deref().unwrap().as_bytes(), events(1)[0].bytes());
    assert_eq!((read[0].reason_code.as_str(), read[0].status), ("mapping", Some(400)));

    let objects = Arc::new(MemoryObjects::new());
    let store = ObjectDeadLetters::new(objects.clone(), Arc::new(SeededRandom::new(1)), "dead/");
    store.store(&letters()).await.unwrap();
    store.store(&letters()).await.unwrap();
    let stored = objects.objects();
    assert_eq!(stored.len(), 2, "no letter overwrites another");
    assert!(stored.keys().all(|key| key.starts_with("dead/2023/11/14/search-")), "{:?}", stored.keys());
    objects.fail(1);
    assert!(store.store(&letters()).await.is_err());
}
