//! One log file through simulated lanes: interrupted, broken, gone, parked.
#![allow(clippy::unwrap_used, clippy::panic)]

mod parting;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cloudtrail::{ContentKind, Field};
use sinks::ports::Clock;
use sinks::{
    Attempt, BatchConfig, Budget, Encoded, Event, Judgement, Lane, LaneConfig, LanePorts, LogFile, Made,
    Reason, ReasonCode, RetryConfig, Shape, Sink, Unobserved, Verdict, Via,
};
use testkit::generate::{Generator, Oddity};
use testkit::ports::{InlineCompute, MemoryDeadLetters, SeededRandom, SimulatedClock};

use super::fetch::{Fetch, FetchError, Inline, Opened, Stream, Version};
use super::{JobEnd, JobObserver, LogFileJob, Owed, PassError, PassObserver, Plan, ReadSettings, Remains};
use crate::lanes::Lanes;

/// A destination that keeps what it is given, while it is open.
#[derive(Default)]
struct Kept {
    ids: Mutex<Vec<String>>,
    denied: Mutex<bool>,
    /// How long an answer takes.
    slow: Mutex<Duration>,
}

#[async_trait]
impl Sink for Kept {
    fn encoded_len(&self, event: &Event) -> usize {
        event.bytes().len()
    }

    async fn encode(&self, _events: &Arc<[Event]>, _shape: Shape) -> Result<Encoded, Reason> {
        Ok(Encoded::default())
    }

    async fn send(&self, events: &[Event], _encoded: &Encoded, _attempt: &Attempt) -> Judgement {
        let slow = *self.slow.lock().unwrap();
        tokio::time::sleep(slow).await;
        if *self.denied.lock().unwrap() {
            return Judgement::Denied(Reason::new(ReasonCode::Unauthorized, "401"));
        }
        let ids = events.iter().map(|event| event.text(Field::EventId).unwrap_or_default().into_owned());
        self.ids.lock().unwrap().extend(ids);
        Judgement::all(events.len(), &Verdict::Delivered)
    }
}

/// What happens at the n-th opening of the object, from 0.
enum Turn {
    /// All of it.
    Whole,
    /// So many bytes, and then a reset.
    Reset(usize),
    /// All but the last bytes, and then a reset.
    ResetNearEnd,
    /// So many bytes, and then an end that comes too early.
    Short(usize),
    Fails(fn() -> FetchError),
    /// From now on it is another object.
    Replaced,
}

struct Object {
    bytes: Bytes,
    replacement: Bytes,
    turns: Vec<Turn>,
    opened: Mutex<Vec<(u64, Version)>>,
}

struct Parts(std::vec::IntoIter<Result<Bytes, FetchError>>);

#[async_trait]
impl Stream for Parts {
    async fn next(&mut self) -> Result<Option<Bytes>, FetchError> {
        self.0.next().transpose()
    }
}

#[async_trait]
impl Fetch for Object {
    async fn open(&self, from: u64, pinned: &Version) -> Result<Opened, FetchError> {
        let number = {
            let mut opened = self.opened.lock().unwrap();
            opened.push((from, pinned.clone()));
            opened.len() - 1
        };
        let is_replaced = self.turns.iter().take(number + 1).any(|turn| matches!(turn, Turn::Replaced));
        let (bytes, etag) = if is_replaced { (&self.replacement, "e2") } else { (&self.bytes, "e1") };
        if pinned.etag.as_ref().is_some_and(|pinned| pinned != etag) {
            return Err(FetchError::Changed("412".to_owned()));
        }
        let rest = bytes.slice(usize::try_from(from).unwrap()..);
        let len = Some(rest.len() as u64);
        let reset = || Err(FetchError::Interrupted("reset".to_owned()));
        let parts = match self.turns.get(number).unwrap_or(&Turn::Whole) {
            Turn::Whole | Turn::Replaced => vec![Ok(rest)],
            Turn::Reset(bytes) => vec![Ok(rest.slice(..*bytes)), reset()],
            Turn::ResetNearEnd => vec![Ok(rest.slice(..rest.len() - 100)), reset()],
            Turn::Short(bytes) => vec![Ok(rest.slice(..*bytes))],
            Turn::Fails(error) => return Err(error()),
        };
        let version = Version { etag: Some(etag.to_owned()), ..Version::default() };
        Ok(Opened { stream: Box::new(Parts(parts.into_iter())), version, len })
    }
}

#[derive(Default)]
struct Seen {
    dropped: AtomicU32,
    interrupted: AtomicU32,
    failed: AtomicU32,
}

impl PassObserver for Seen {
    fn events(&self, _made: &Made, _again: bool) {}
    fn interrupted(&self, _error: &FetchError) {
        self.interrupted.fetch_add(1, Ordering::Relaxed);
    }
    fn compressed(&self, _bytes: u64) {}
}

impl JobObserver for Seen {
    fn failed(&self, _name: &str, _error: &PassError, _attempt: u32) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }
    fn dead_lettered(&self, _name: &str, _from: u64, _why: &Reason, _remains: Remains) {}
    fn dead_letter_failed(&self, _error: &std::io::Error) {}
    fn dropped(&self, _lane: usize, events: u64) {
        self.dropped.fetch_add(u32::try_from(events).unwrap(), Ordering::Relaxed);
    }
    fn again(&self, _name: &str, _lane: usize, _owed: u64) {}
}

struct Bench {
    plan: Arc<Plan>,
    sinks: Vec<Arc<Kept>>,
    letters: Arc<MemoryDeadLetters>,
    seen: Arc<Seen>,
    object: Arc<Object>,
    file: testkit::generate::LogFileSample,
}

impl Bench {
    /// Two sinks, and a log file of 300 events whose openings go as told.
    fn new(required: [bool; 2], turns: Vec<Turn>) -> Self {
        Self::with(required, turns, Generator::new(1).log_file(300))
    }

    fn with(required: [bool; 2], turns: Vec<Turn>, file: testkit::generate::LogFileSample) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SimulatedClock::new(1_700_000_000));
        let letters = Arc::new(MemoryDeadLetters::new());
        let sinks: Vec<Arc<Kept>> = vec![Arc::default(), Arc::default()];
        let lane = |(number, sink): (usize, &Arc<Kept>)| {
            let config = LaneConfig {
                name: format!("sink{number}"),
                sink_type: "kept".to_owned(),
                batch: BatchConfig {
                    bytes_max: 1 << 20,
                    events_max: 50,
                    age_max: Duration::from_millis(100),
                },
                retry: RetryConfig::default(),
                concurrency_min: 1,
                concurrency_max: 2,
                ack_timeout: Duration::from_secs(1),
                memory_part: 1 << 20,
            };
            let ports = LanePorts {
                clock: Arc::clone(&clock),
                random: Arc::new(SeededRandom::new(1)),
                dead_letters: letters.clone(),
                observer: Arc::new(Unobserved),
            };
            Arc::new(Lane::start(config, sink.clone(), ports))
        };
        let lanes = Lanes::new(
            sinks.iter().enumerate().map(lane).collect(),
            Budget::new(4 << 20),
            Arc::clone(&clock),
        );
        let plan = Plan {
            settings: ReadSettings::default(),
            lanes: Arc::new(lanes),
            compute: Arc::new(InlineCompute),
            clock,
            random: Arc::new(SeededRandom::new(2)),
            dead_letters: letters.clone(),
            required: required.to_vec(),
            owed: Owed::new(2),
        };
        let replacement = Generator::new(9).log_file(200).gz.into();
        let object = Object { bytes: file.gz.clone().into(), replacement, turns, opened: Mutex::default() };
        Self { plan: Arc::new(plan), sinks, letters, seen: Arc::default(), object: Arc::new(object), file }
    }

    fn job(&self) -> LogFileJob {
        self.job_of("trail", self.object.clone())
    }

    fn job_of(&self, bucket: &str, fetch: Arc<dyn Fetch>) -> LogFileJob {
        let file = LogFile {
            bucket: bucket.to_owned(),
            key: self.file.key.clone(),
            version_id: None,
            etag: None,
            via: Via::Queue,
            read_at: String::new(),
            labels: Vec::new(),
            key_minute: None,
        };
        LogFileJob::new(&self.plan, fetch, file, Version::default(), self.seen.clone())
    }

    /// Every event of the log file exactly once at every sink.
    #[track_caller]
    fn has_everything_once(&self, sink: usize) {
        let mut is = self.sinks[sink].ids.lock().unwrap().clone();
        let mut wanted: Vec<String> =
            self.file.issued.iter().map(|issued| issued.event_id.clone().unwrap_or_default()).collect();
        is.sort();
        wanted.sort();
        assert_eq!(is, wanted);
    }

    fn openings(&self) -> Vec<u64> {
        self.object.opened.lock().unwrap().iter().map(|(from, _)| *from).collect()
    }
}

fn done(events: u64) -> JobEnd {
    JobEnd::Done { events, content: ContentKind::Records }
}

#[tokio::test(start_paused = true)]
async fn a_whole_log_file_is_fetched_once() {
    let bench = Bench::new([true, true], vec![]);
    assert_eq!(bench.job().run(None).await, done(300));
    bench.has_everything_once(0);
    bench.has_everything_once(1);
    assert_eq!(bench.openings(), [0]);
}

#[tokio::test(start_paused = true)]
async fn an_interrupted_download_goes_on_where_it_was_in_the_same_version() {
    let bench = Bench::new([true, true], vec![Turn::Reset(5000), Turn::Short(4000)]);
    assert_eq!(bench.job().run(None).await, done(300));
    bench.has_everything_once(0);
    assert_eq!(bench.openings(), [0, 5000, 9000]);
    let opened = bench.object.opened.lock().unwrap();
    assert!(opened.iter().skip(1).all(|(_, version)| version.etag.as_deref() == Some("e1")));
    assert_eq!(bench.seen.interrupted.load(Ordering::Relaxed), 2);
    assert_eq!(bench.seen.failed.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn a_truncated_log_file_is_delivered_up_to_the_break_once_and_the_rest_is_dead_lettered() {
    let (file, _) = Generator::new(3).odd_file(Oddity::TruncatedGzip);
    let bench = Bench::with([true, true], vec![], file);
    assert_eq!(bench.job().run(None).await, JobEnd::DeadLettered);
    assert_eq!(bench.openings().len(), 5, "read five times");
    let letters = bench.letters.letters();
    assert_eq!(letters.len(), 1, "one letter, not one a sink");
    assert_eq!(letters[0].stage.as_deref(), Some("read"));
    let mut ids = bench.sinks[0].ids.lock().unwrap().clone();
    assert_eq!(ids.len() as u64, letters[0].record_index);
    ids.dedup();
    assert_eq!(ids.len() as u64, letters[0].record_index, "re-reading skips what is settled");
}

#[tokio::test(start_paused = true)]
async fn a_missing_object_is_dead_lettered_after_bounded_tries() {
    let gone: fn() -> FetchError = || FetchError::NotFound("404".to_owned());
    let bench = Bench::new([true, true], (0..5).map(|_| Turn::Fails(gone)).collect());
    assert_eq!(bench.job().run(None).await, JobEnd::DeadLettered);
    assert_eq!(bench.letters.letters().len(), 1);
    // One that comes late is delivered.
    let bench = Bench::new([true, true], vec![Turn::Fails(gone), Turn::Fails(gone)]);
    assert_eq!(bench.job().run(None).await, done(300));
    bench.has_everything_once(1);
}

#[tokio::test(start_paused = true)]
async fn denied_access_keeps_the_notification() {
    let denied: fn() -> FetchError = || FetchError::Denied("403".to_owned());
    let bench = Bench::new([true, true], (0..5).map(|_| Turn::Fails(denied)).collect());
    assert!(matches!(bench.job().run(None).await, JobEnd::Kept(_)));
    assert!(bench.letters.letters().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_that_cannot_be_stored_keeps_the_notification() {
    let (file, _) = Generator::new(3).odd_file(Oddity::TruncatedGzip);
    let bench = Bench::with([true, true], vec![], file);
    bench.letters.fail(1);
    assert!(matches!(bench.job().run(None).await, JobEnd::Kept(_)));
}

#[tokio::test(start_paused = true)]
async fn a_file_that_may_still_be_written_is_kept_instead_of_given_up() {
    let (file, _) = Generator::new(3).odd_file(Oddity::TruncatedGzip);
    let bench = Bench::with([true, true], vec![], file);
    assert!(matches!(bench.job().unfinished().run(None).await, JobEnd::Kept(_)));
    assert!(bench.letters.letters().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_denied_sink_holds_up_nobody_and_gets_everything_once_it_opens() {
    let bench = Bench::new([true, true], vec![]);
    *bench.sinks[1].denied.lock().unwrap() = true;
    let job = tokio::spawn(bench.job().run(None));
    tokio::time::sleep(Duration::from_secs(600)).await;
    bench.has_everything_once(0);
    assert!(!job.is_finished());
    let owed = |lane| bench.plan.owed.of(lane, &*bench.plan.clock).0;
    assert_eq!((owed(0), owed(1)), (0, 1));
    *bench.sinks[1].denied.lock().unwrap() = false;
    assert_eq!(job.await.unwrap(), done(300));
    bench.has_everything_once(0);
    bench.has_everything_once(1);
    assert!(bench.letters.letters().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_is_not_required_holds_no_notification() {
    let bench = Bench::new([true, false], vec![]);
    *bench.sinks[1].denied.lock().unwrap() = true;
    assert_eq!(bench.job().run(None).await, done(300));
    bench.has_everything_once(0);
    tokio::time::sleep(Duration::from_secs(5)).await;
    // All but those that the lane holds to probe with.
    let dropped = bench.seen.dropped.load(Ordering::Relaxed);
    let held = u32::try_from(bench.plan.lanes.all()[1].stats().in_flight()).unwrap();
    assert_eq!((dropped + held, dropped > 0), (300, true));
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_is_not_required_and_never_answers_holds_no_notification() {
    let bench = Bench::new([true, false], vec![]);
    *bench.sinks[1].slow.lock().unwrap() = Duration::from_secs(3600);
    let job = tokio::time::timeout(Duration::from_secs(60), bench.job().run(None));
    assert_eq!(job.await.unwrap(), done(300));
    bench.has_everything_once(0);
}

#[tokio::test(start_paused = true)]
async fn an_object_replaced_while_its_events_are_under_way_keeps_its_positions() {
    let bench = Bench::new([true, true], vec![Turn::ResetNearEnd, Turn::Replaced]);
    for sink in &bench.sinks {
        *sink.slow.lock().unwrap() = Duration::from_secs(3);
    }
    assert_eq!(bench.job().run(None).await, JobEnd::DeadLettered);
    let letters = bench.letters.letters();
    let ids = bench.sinks[0].ids.lock().unwrap().clone();
    assert!(!ids.is_empty(), "events of the first object were under way");
    assert_eq!((letters.len(), letters[0].record_index), (1, ids.len() as u64));
    let old: Vec<_> = bench.file.issued.iter().filter_map(|issued| issued.event_id.clone()).collect();
    assert!(ids.iter().all(|id| old.contains(id)), "nothing of the new object stands in for the old one");
}

#[tokio::test(start_paused = true)]
async fn an_object_replaced_before_anything_of_it_was_offered_is_read_from_its_start() {
    let bench = Bench::new([true, true], vec![Turn::Reset(10), Turn::Replaced]);
    assert_eq!(bench.job().run(None).await, done(200));
    assert_eq!(bench.sinks[0].ids.lock().unwrap().len(), 200);
    assert!(bench.letters.letters().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_failed_read_goes_on_for_one_sink_while_another_never_answers() {
    let denied: fn() -> FetchError = || FetchError::Denied("403".to_owned());
    let bench = Bench::new([true, true], vec![Turn::ResetNearEnd, Turn::Fails(denied)]);
    *bench.sinks[1].slow.lock().unwrap() = Duration::from_secs(200);
    let job = tokio::spawn(bench.job().run(None));
    tokio::time::sleep(Duration::from_secs(30)).await;
    bench.has_everything_once(0);
    *bench.sinks[1].slow.lock().unwrap() = Duration::ZERO;
    assert_eq!(job.await.unwrap(), done(300));
    bench.has_everything_once(0);
    bench.has_everything_once(1);
}

#[tokio::test(start_paused = true)]
async fn a_bucket_that_fails_while_a_log_file_is_parked_costs_time_and_nothing_else() {
    let reset: fn() -> FetchError = || FetchError::Interrupted("503".to_owned());
    let turns = std::iter::once(Turn::Whole).chain((0..100).map(|_| Turn::Fails(reset)));
    let bench = Bench::new([true, true], turns.collect());
    *bench.sinks[1].denied.lock().unwrap() = true;
    let job = tokio::spawn(bench.job().run(None));
    tokio::time::sleep(Duration::from_secs(60)).await;
    *bench.sinks[1].denied.lock().unwrap() = false;
    assert_eq!(job.await.unwrap(), done(300));
    bench.has_everything_once(0);
    bench.has_everything_once(1);
}

#[tokio::test(start_paused = true)]
async fn interruptions_do_not_count_as_reads_of_a_broken_log_file() {
    let denied: fn() -> FetchError = || FetchError::Denied("403".to_owned());
    let (file, _) = Generator::new(3).odd_file(Oddity::TruncatedGzip);
    let bench = Bench::with([true, true], (0..4).map(|_| Turn::Fails(denied)).collect(), file);
    assert_eq!(bench.job().run(None).await, JobEnd::DeadLettered);
    assert_eq!(bench.openings().len(), 4 + 5);
    assert_eq!(bench.letters.letters()[0].attempts, 5);
}

#[tokio::test(start_paused = true)]
async fn what_came_inside_its_message_stands_in_the_dead_letter() {
    let bench = Bench::new([true, true], vec![]);
    let document = Bytes::from_static(b"{\"Records\":[{\"eventName\":\"A\"},no json]}");
    let inline = Arc::new(Inline { document: document.clone() });
    assert_eq!(bench.job_of("", inline).run(None).await, JobEnd::DeadLettered);
    let letters = bench.letters.letters();
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].record.as_deref().map(str::as_bytes), Some(&document[..]));
    // What is no text is in base64.
    let inline = Arc::new(Inline { document: Bytes::from_static(b"\x1f\x8b\x08\xff") });
    assert_eq!(bench.job_of("", inline).run(None).await, JobEnd::DeadLettered);
    let letters = bench.letters.letters();
    assert_eq!((letters[1].record.as_deref(), letters[1].record_base64.as_deref()), (None, Some("H4sI/w==")));
}

#[tokio::test(start_paused = true)]
async fn a_shut_lane_with_one_event_is_brought_others() {
    let bench = Bench::with([true, true], vec![], Generator::new(1).log_file(1));
    for sink in &bench.sinks {
        *sink.denied.lock().unwrap() = true;
    }
    let mut jobs = Vec::new();
    for _ in 0..7 {
        jobs.push(tokio::spawn(bench.job().run(None)));
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(bench.plan.lanes.all()[0].health().state().is_shut());
        assert!(bench.plan.lanes.want_log_files());
    }
    // One that was refused often makes room for a fresh one, so all eight come at once.
    jobs.extend((0..8).map(|_| tokio::spawn(bench.job().run(None))));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!bench.plan.lanes.want_log_files(), "eight are enough");
}

#[tokio::test(start_paused = true)]
async fn a_broken_log_file_reaches_the_open_sinks_while_another_is_denied() {
    let (file, _) = Generator::new(3).odd_file(Oddity::TruncatedGzip);
    let bench = Bench::with([true, true], vec![], file);
    *bench.sinks[1].denied.lock().unwrap() = true;
    let job = tokio::spawn(bench.job().run(None));
    tokio::time::sleep(Duration::from_secs(300)).await;
    let letters = bench.letters.letters();
    assert_eq!(letters.len(), 1);
    assert_eq!(bench.sinks[0].ids.lock().unwrap().len() as u64, letters[0].record_index);
    *bench.sinks[1].denied.lock().unwrap() = false;
    assert_eq!(job.await.unwrap(), JobEnd::DeadLettered);
    assert_eq!(bench.sinks[1].ids.lock().unwrap().len() as u64, letters[0].record_index);
}
