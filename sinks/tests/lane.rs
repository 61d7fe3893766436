//! A lane from offered events to settled ones, with a scripted destination and virtual time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use cloudtrail::{Field, Limits, LogFileReader};
use sinks::{
    Acknowledgement, Attempt, BatchConfig, Encoded, Event, Judgement, Lane, LaneConfig, LaneObserver,
    LanePorts, LaneState, LogFile, Outcome, Parcel, ParcelMaker, Reason, ReasonCode, RetryConfig, Shape,
    Share, Sink, Token, Unobserved, Verdict, Via,
};
use testkit::ports::{MemoryDeadLetters, SeededRandom, SimulatedClock};

type Answer = Box<dyn Fn(&[String], &Attempt) -> Judgement + Send + Sync>;

/// A destination that answers as a test says.
struct Scripted {
    answer: Mutex<Answer>,
    sends: Mutex<Vec<Vec<String>>>,
    delay: Mutex<Duration>,
    confirmed: Mutex<BTreeSet<u64>>,
    /// The tokens that it was asked for, a question each.
    questions: Mutex<Vec<Vec<u64>>>,
    /// Whether it may count what it accepts as delivered where nothing is confirmed.
    optional: AtomicBool,
    event_bytes_max: Option<usize>,
    /// The group of an event, by its id.
    group: Mutex<fn(u32) -> String>,
    /// The id of an event that cannot be encoded.
    poison: Mutex<Option<String>>,
    /// How often it was told that its set-up is suspected.
    doubted: AtomicU64,
}

impl Scripted {
    fn new(answer: impl Fn(&[String], &Attempt) -> Judgement + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            answer: Mutex::new(Box::new(answer)),
            sends: Mutex::default(),
            delay: Mutex::default(),
            confirmed: Mutex::default(),
            questions: Mutex::default(),
            optional: AtomicBool::new(false),
            event_bytes_max: None,
            group: Mutex::new(|_| String::new()),
            poison: Mutex::default(),
            doubted: AtomicU64::new(0),
        })
    }

    fn now(&self, answer: impl Fn(&[String], &Attempt) -> Judgement + Send + Sync + 'static) {
        *self.answer.lock().unwrap() = Box::new(answer);
    }

    fn requests(&self) -> usize {
        self.sends.lock().unwrap().len()
    }
}

#[async_trait]
impl Sink for Scripted {
    fn encoded_len(&self, event: &Event) -> usize {
        event.bytes().len()
    }

    fn event_bytes_max(&self) -> Option<usize> {
        self.event_bytes_max
    }

    fn group(&self, event: &Event, group: &mut String) {
        let id = event.text(Field::EventId).unwrap().parse().unwrap();
        group.push_str(&(self.group.lock().unwrap())(id));
    }

    async fn encode(&self, events: &Arc<[Event]>, _shape: Shape) -> Result<Encoded, Reason> {
        let poison = self.poison.lock().unwrap().clone();
        let id = |event: &Event| event.text(Field::EventId).unwrap().into_owned();
        if events.iter().any(|event| poison.as_deref() == Some(id(event).as_str())) {
            return Err(Reason::new(ReasonCode::Other, "cannot be encoded"));
        }
        Ok(Encoded { plain_len: events.iter().map(|event| event.bytes().len()).sum(), ..Encoded::default() })
    }

    async fn send(&self, events: &[Event], _encoded: &Encoded, attempt: &Attempt) -> Judgement {
        let delay = *self.delay.lock().unwrap();
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let ids: Vec<String> = events.iter().map(|e| e.text(Field::EventId).unwrap().into_owned()).collect();
        self.sends.lock().unwrap().push(ids.clone());
        let answer = self.answer.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        answer(&ids, attempt)
    }

    async fn confirm(&self, tokens: &[Token]) -> Result<Vec<bool>, Reason> {
        self.questions.lock().unwrap().push(tokens.iter().map(|token| token.id).collect());
        let mut confirmed = self.confirmed.lock().unwrap();
        // Told once, as Splunk does.
        let told = tokens.iter().map(|token| confirmed.remove(&token.id)).collect();
        Ok(told)
    }

    async fn doubted(&self) {
        self.doubted.fetch_add(1, Ordering::Relaxed);
    }

    fn requires_confirmation(&self) -> bool {
        !self.optional.load(Ordering::Relaxed)
    }
}

/// An observer that remembers what it was told of confirmations.
#[derive(Default)]
struct Told(Mutex<Vec<Acknowledgement>>);

impl LaneObserver for Told {
    fn acknowledgement(&self, told: Acknowledgement) {
        self.0.lock().unwrap().push(told);
    }
}

struct Bench {
    sink: Arc<Scripted>,
    letters: Arc<MemoryDeadLetters>,
    told: Arc<Told>,
    lane: Lane,
    share: Share,
}

fn config() -> LaneConfig {
    LaneConfig {
        name: "search".to_owned(),
        sink_type: "scripted".to_owned(),
        batch: BatchConfig { bytes_max: 1 << 20, events_max: 1000, age_max: Duration::from_millis(100) },
        retry: RetryConfig {
            initial: Duration::from_millis(200),
            max: Duration::from_secs(10),
            give_up_after: Duration::from_secs(60),
        },
        concurrency_min: 1,
        concurrency_max: 2,
        ack_timeout: Duration::from_secs(30),
        memory_part: 1 << 20,
    }
}

impl Bench {
    fn start(sink: Arc<Scripted>, config: LaneConfig) -> Self {
        let letters = Arc::new(MemoryDeadLetters::new());
        let told = Arc::new(Told::default());
        let ports = LanePorts {
            clock: Arc::new(SimulatedClock::new(1_700_000_000)),
            random: Arc::new(SeededRandom::new(1)),
            dead_letters: letters.clone(),
            observer: told.clone(),
        };
        let lane = Lane::start(config, sink.clone(), ports);
        Self { sink, letters, told, lane, share: Share::new() }
    }

    /// Offers a log file of `count` events named `0`, `1`, …
    fn offer(&self, count: usize) {
        for parcel in parcels(count) {
            self.lane.offer(&parcel, &self.share);
        }
        self.share.ended(count as u64);
    }

    /// The same with another log file.
    fn offer_more(&self, count: usize) -> Share {
        let share = Share::new();
        for parcel in parcels(count) {
            self.lane.offer(&parcel, &share);
        }
        share.ended(count as u64);
        share
    }

    /// As [`offer`](Self::offer); true if all of them settle.
    async fn ship(&self, count: usize) -> bool {
        self.offer(count);
        self.share.idle().await.is_closed()
    }

    /// Waits until the lane shuts; how long that took.
    async fn shuts(&self) -> Duration {
        let started = tokio::time::Instant::now();
        // By the clock that runs ahead when nothing else happens: a lane that does not shut would be waited for for ever.
        let shut =
            tokio::time::timeout(Duration::from_secs(3600), self.lane.health().wait_for(LaneState::is_shut));
        assert!(shut.await.is_ok(), "the lane does not shut");
        started.elapsed()
    }

    fn dead(&self) -> Vec<String> {
        self.letters.letters().into_iter().filter_map(|letter| letter.event_id).collect()
    }

    /// Per event how often it was taken, by a rule of what the script takes.
    fn times_sent(&self) -> BTreeMap<String, usize> {
        let mut times = BTreeMap::new();
        for id in self.sink.sends.lock().unwrap().iter().flatten() {
            *times.entry(id.clone()).or_insert(0) += 1;
        }
        times
    }
}

fn parcels(count: usize) -> Vec<Arc<Parcel>> {
    let events: Vec<String> = (0..count).map(|id| format!("{{\"eventID\":\"{id}\"}}")).collect();
    let json = format!("{{\"Records\":[{}]}}", events.join(","));
    let mut reader = LogFileReader::new(Limits { chunk_bytes: 4096, ..Limits::default() });
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

fn reason() -> Reason {
    Reason::new(ReasonCode::Invalid, "no").with_status(400)
}

fn all_good(ids: &[String], _: &Attempt) -> Judgement {
    Judgement::all(ids.len(), &Verdict::Delivered)
}

fn refuse_if_holding(bad: &'static [&'static str]) -> impl Fn(&[String], &Attempt) -> Judgement {
    move |ids, _| match ids.iter().any(|id| bad.contains(&id.as_str())) {
        true => Judgement::Refused(reason()),
        false => Judgement::all(ids.len(), &Verdict::Delivered),
    }
}

#[tokio::test(start_paused = true)]
async fn everything_is_delivered_once() {
    let bench = Bench::start(Scripted::new(all_good), config());
    assert!(bench.ship(2500).await);
    assert_eq!(bench.lane.stats().count(Outcome::Delivered), 2500);
    assert_eq!(bench.lane.stats().offered(), 2500);
    assert!(bench.times_sent().values().all(|&times| times == 1));
    assert_eq!(bench.sink.requests(), 3, "batches of a thousand");
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_closed_by_bytes_and_by_age() {
    let mut by_bytes = config();
    by_bytes.batch.bytes_max = 100;
    let bench = Bench::start(Scripted::new(all_good), by_bytes);
    assert!(bench.ship(20).await);
    assert!(bench.sink.sends.lock().unwrap().iter().all(|batch| batch.len() * 16 <= 100));

    let bench = Bench::start(Scripted::new(all_good), config());
    let started = tokio::time::Instant::now();
    assert!(bench.ship(3).await);
    assert_eq!(started.elapsed().as_millis(), 100);
}

/// Sizes of the requests; fails where one holds events of several groups.
#[track_caller]
fn sizes_of_groups(sink: &Scripted) -> Vec<usize> {
    let group = *sink.group.lock().unwrap();
    let sends = sink.sends.lock().unwrap();
    for batch in &*sends {
        let groups: BTreeSet<String> = batch.iter().map(|id| group(id.parse().unwrap())).collect();
        assert_eq!(groups.len(), 1, "{batch:?}");
    }
    sends.iter().map(Vec::len).collect()
}

#[tokio::test(start_paused = true)]
async fn a_batch_holds_one_group_only() {
    let bench = Bench::start(Scripted::new(all_good), config());
    *bench.sink.group.lock().unwrap() = |id| (id % 3).to_string();
    let started = tokio::time::Instant::now();
    assert!(bench.ship(99).await);
    assert_eq!(sizes_of_groups(&bench.sink), [33, 33, 33]);
    assert_eq!(started.elapsed().as_millis(), 100, "each closed for its own age");

    let mut by_bytes = config();
    by_bytes.batch.bytes_max = 100;
    let bench = Bench::start(Scripted::new(all_good), by_bytes);
    *bench.sink.group.lock().unwrap() = |id| (id % 3).to_string();
    assert!(bench.ship(99).await);
    assert!(sizes_of_groups(&bench.sink).iter().all(|&events| events * 15 <= 100));
    assert!(bench.times_sent().values().all(|&times| times == 1));
}

#[tokio::test(start_paused = true)]
async fn many_groups_keep_few_batches_open() {
    let mut old = config();
    old.batch.age_max = Duration::from_secs(3600);
    let bench = Bench::start(Scripted::new(all_good), old);
    *bench.sink.group.lock().unwrap() = |id| (id / 10).to_string();
    for parcel in parcels(1000) {
        bench.lane.offer(&parcel, &bench.share);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let sizes = sizes_of_groups(&bench.sink);
    assert_eq!(sizes, vec![10; 100 - 16], "all groups but the last sixteen were closed, in order");
    bench.lane.flush();
    bench.share.ended(1000);
    assert!(bench.share.idle().await.is_closed());
    assert_eq!(sizes_of_groups(&bench.sink).len(), 100);
}

#[tokio::test(start_paused = true)]
async fn what_a_lane_probed_with_is_sent_by_group_once_it_opens() {
    let denied = |_: &[String], _: &Attempt| Judgement::Denied(Reason::new(ReasonCode::Unauthorized, "401"));
    let bench = Bench::start(Scripted::new(denied), config());
    *bench.sink.group.lock().unwrap() = |id| (id % 2).to_string();
    // Few enough that all of them are kept to probe with.
    bench.offer(6);
    bench.shuts().await;
    bench.sink.now(all_good);
    let _pass = bench.lane.admit_pass().await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(
        sizes_of_groups(&bench.sink).iter().skip(2).any(|&events| events > 1),
        "nothing was held to probe with"
    );
}

#[tokio::test(start_paused = true)]
async fn one_refused_event_of_a_thousand_is_found_in_at_most_25_requests() {
    let bench = Bench::start(Scripted::new(refuse_if_holding(&["617"])), config());
    assert!(bench.ship(1000).await);
    assert_eq!(bench.dead(), ["617"]);
    assert_eq!(bench.lane.stats().count(Outcome::Delivered), 999);
    assert_eq!(bench.sink.doubted.load(Ordering::Relaxed), 0, "one event's fault is not the set-up's");
    assert!(bench.sink.requests() <= 25, "{}", bench.sink.requests());
}

#[tokio::test(start_paused = true)]
async fn a_refused_last_event_has_the_others_as_witnesses() {
    let bench = Bench::start(Scripted::new(refuse_if_holding(&["7"])), config());
    assert!(bench.ship(8).await);
    assert_eq!(bench.dead(), ["7"]);
}

#[tokio::test(start_paused = true)]
async fn what_no_event_survives_denies_the_lane_and_dead_letters_nothing() {
    let bench = Bench::start(Scripted::new(|_, _| Judgement::Refused(reason())), config());
    bench.offer(1000);
    bench.shuts().await;
    assert!(matches!(bench.lane.health().state(), LaneState::Denied(_)));
    assert!(bench.dead().is_empty());
    assert!(bench.sink.requests() < 40, "{}", bench.sink.requests());
    let doubted = || bench.sink.doubted.load(Ordering::Relaxed);
    assert_eq!(doubted(), 1, "the credentials may be at fault");
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!((3..20).contains(&doubted()), "with each probe: {}", doubted());
    // The set-up is mended: the lane opens by itself, and everything owed is delivered.
    bench.sink.now(all_good);
    let _pass = bench.lane.admit_pass().await.unwrap();
    assert!(bench.ship(1000).await);
    assert!(bench.dead().is_empty());
}

#[tokio::test(start_paused = true)]
async fn one_bad_event_alone_waits_for_a_witness() {
    let bench = Bench::start(Scripted::new(refuse_if_holding(&["0"])), config());
    for parcel in parcels(1) {
        bench.lane.offer(&parcel, &bench.share);
    }
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert!(bench.lane.health().state().is_shut());
    assert!(bench.dead().is_empty(), "nobody has borne witness");
    // Another log file comes; its first event is let in as a probe, and is taken.
    let other = Share::new();
    for parcel in parcels(3) {
        let _ = other.owes(0);
        bench.lane.offer(&parcel, &other);
    }
    let second = Share::owing(&sinks::RangeSet::from_ranges(std::iter::once(1..3)));
    for parcel in parcels(3) {
        bench.lane.offer(&parcel, &second);
    }
    second.ended(3);
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert!(bench.lane.health().state().is_open());
    assert_eq!(bench.dead(), ["0", "0"]);
    bench.share.ended(1);
    assert!(bench.share.idle().await.is_closed());
}

#[tokio::test(start_paused = true)]
async fn an_event_that_the_answer_names_is_dead_lettered_at_once() {
    let sink = Scripted::new(|ids, _| {
        let verdict = |id: &String| match id.as_str() {
            "3" => Verdict::Refused { why: reason(), named: true },
            _ => Verdict::Delivered,
        };
        Judgement::Each(ids.iter().map(verdict).collect())
    });
    let bench = Bench::start(sink, config());
    assert!(bench.ship(1000).await);
    assert_eq!((bench.dead(), bench.sink.requests()), (vec!["3".to_owned()], 1));
}

#[tokio::test(start_paused = true)]
async fn a_mapping_s_refusal_gets_one_try_in_the_safe_shape() {
    let sink = Scripted::new(|ids, attempt| {
        let verdict = |id: &String| match (id.as_str(), attempt.shape) {
            ("1", Shape::Normal) | ("2", _) => Verdict::Reshape(reason()),
            _ => Verdict::Delivered,
        };
        Judgement::Each(ids.iter().map(verdict).collect())
    });
    let bench = Bench::start(sink, config());
    assert!(bench.ship(5).await);
    assert_eq!((bench.dead(), bench.sink.requests()), (vec!["2".to_owned()], 2));
}

#[tokio::test(start_paused = true)]
async fn only_what_was_throttled_is_sent_again() {
    let sink = Scripted::new(|ids, attempt| {
        let throttled = Verdict::Retry(Reason::new(ReasonCode::Throttled, "busy"));
        let verdict = |(at, _): (usize, &String)| match attempt.number == 0 && at % 2 == 1 {
            true => throttled.clone(),
            false => Verdict::Delivered,
        };
        Judgement::Each(ids.iter().enumerate().map(verdict).collect())
    });
    let bench = Bench::start(sink, config());
    assert!(bench.ship(10).await);
    let sizes: Vec<usize> = bench.sink.sends.lock().unwrap().iter().map(Vec::len).collect();
    assert_eq!(sizes, [10, 5]);
}

#[tokio::test(start_paused = true)]
async fn a_short_answer_is_no_answer() {
    let first = Mutex::new(true);
    let sink = Scripted::new(move |ids, _| match std::mem::take(&mut *first.lock().unwrap()) {
        true => Judgement::Each(vec![Verdict::Delivered]),
        false => Judgement::all(ids.len(), &Verdict::Delivered),
    });
    let bench = Bench::start(sink, config());
    assert!(bench.ship(10).await);
    assert_eq!(bench.sink.requests(), 2);
    assert_eq!(bench.lane.stats().count(Outcome::Delivered), 10);
}

#[tokio::test(start_paused = true)]
async fn a_denied_lane_blames_no_event_and_opens_when_it_may() {
    let denied = |_: &[String], _: &Attempt| Judgement::Denied(Reason::new(ReasonCode::Unauthorized, "401"));
    let bench = Bench::start(Scripted::new(denied), config());
    bench.offer(50);
    bench.shuts().await;
    assert!(matches!(bench.lane.health().state(), LaneState::Denied(_)));
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert!(bench.dead().is_empty());
    assert!((3..20).contains(&bench.sink.requests()), "probed, not hammered: {}", bench.sink.requests());
    let sent = bench.sink.requests();
    bench.sink.now(all_good);
    let _pass = bench.lane.admit_pass().await.unwrap();
    assert!(bench.sink.requests() > sent);
    assert!(bench.ship(50).await);
    assert_eq!(bench.lane.stats().in_flight(), 0);
    let stats = bench.lane.stats();
    let outcomes: u64 = Outcome::ALL.iter().map(|&outcome| stats.count(outcome)).sum();
    assert_eq!(outcomes, stats.offered(), "every offered event has an outcome");
}

#[tokio::test(start_paused = true)]
async fn after_give_up_after_a_failing_lane_lets_go() {
    let why = || Reason::new(ReasonCode::ServerError, "503");
    let down = move |_: &[String], _: &Attempt| Judgement::Unavailable { why: why(), retry_after: None };
    let bench = Bench::start(Scripted::new(down), config());
    bench.offer(50);
    let seconds = bench.shuts().await.as_secs();
    assert!((60..75).contains(&seconds), "{seconds}");
    assert!(matches!(bench.lane.health().state(), LaneState::Unavailable(_)));
    bench.sink.now(all_good);
    let _pass = bench.lane.admit_pass().await.unwrap();
    assert!(bench.ship(50).await);
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_honoured() {
    let first = Mutex::new(true);
    let sink = Scripted::new(move |ids, _| match std::mem::take(&mut *first.lock().unwrap()) {
        true => Judgement::Unavailable {
            why: Reason::new(ReasonCode::Throttled, "429"),
            retry_after: Some(Duration::from_secs(30)),
        },
        false => Judgement::all(ids.len(), &Verdict::Delivered),
    });
    let bench = Bench::start(sink, config());
    let started = tokio::time::Instant::now();
    assert!(bench.ship(5).await);
    assert_eq!(started.elapsed().as_secs(), 30);
}

#[tokio::test(start_paused = true)]
async fn too_large_halves_and_is_remembered() {
    let sink = Scripted::new(|ids, _| match ids.len() > 300 {
        true => Judgement::TooLarge(Reason::new(ReasonCode::TooLarge, "413")),
        false => Judgement::all(ids.len(), &Verdict::Delivered),
    });
    let bench = Bench::start(sink, config());
    assert!(bench.ship(1000).await);
    assert!(bench.dead().is_empty());
    let before = bench.sink.requests();
    let share = Share::new();
    for parcel in parcels(1000) {
        bench.lane.offer(&parcel, &share);
    }
    share.ended(1000);
    assert!(share.idle().await.is_closed());
    let later = bench.sink.sends.lock().unwrap().split_off(before);
    assert!(later.iter().all(|batch| batch.len() <= 300), "the limit was learnt");
}

#[tokio::test(start_paused = true)]
async fn an_event_over_the_documented_limit_is_dead_lettered_without_a_request() {
    let mut sink = Scripted::new(all_good);
    Arc::get_mut(&mut sink).unwrap().event_bytes_max = Some("{\"eventID\":\"99\"}".len());
    let bench = Bench::start(sink, config());
    assert!(bench.ship(101).await);
    assert_eq!(bench.dead(), ["100"]);
    assert!(!bench.times_sent().contains_key("100"));
}

#[tokio::test(start_paused = true)]
async fn an_event_whose_dead_letter_cannot_be_stored_stays_owed() {
    let sink = Scripted::new(|ids, _| {
        let verdict = |id: &String| match id.as_str() {
            "0" => Verdict::Refused { why: reason(), named: true },
            _ => Verdict::Delivered,
        };
        Judgement::Each(ids.iter().map(verdict).collect())
    });
    let bench = Bench::start(sink, config());
    bench.letters.fail(1);
    for parcel in parcels(2) {
        bench.lane.offer(&parcel, &bench.share);
    }
    bench.share.ended(2);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(bench.share.owes(0) && !bench.share.owes(1));
    assert!(bench.share.idle().await.is_closed(), "the next probe stores it");
    assert_eq!(bench.dead(), ["0"]);
}

#[tokio::test(start_paused = true)]
async fn accepted_events_settle_only_when_they_are_confirmed() {
    let sink = Scripted::new(|ids, _| {
        let pending = |id: u64| Verdict::Pending(Token { channel: "c".to_owned(), id });
        Judgement::all(ids.len(), &pending(7))
    });
    let bench = Bench::start(sink, config());
    for parcel in parcels(10) {
        bench.lane.offer(&parcel, &bench.share);
    }
    bench.share.ended(10);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(bench.share.owes(0));
    assert_eq!(bench.sink.requests(), 1);
    bench.sink.confirmed.lock().unwrap().insert(7);
    assert!(bench.share.idle().await.is_closed());
    assert_eq!(bench.sink.requests(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_never_confirmed_is_sent_again() {
    let sink = Scripted::new(counting_tokens());
    sink.confirmed.lock().unwrap().insert(1);
    let bench = Bench::start(sink, config());
    let started = tokio::time::Instant::now();
    assert!(bench.ship(10).await);
    assert_eq!(bench.sink.requests(), 2);
    assert!(started.elapsed() >= Duration::from_secs(30));
    assert_eq!(*bench.told.0.lock().unwrap(), [], "one of two was confirmed");
}

#[tokio::test(start_paused = true)]
async fn one_question_asks_for_all_that_is_open_in_a_channel() {
    let mut small = config();
    small.batch.events_max = 10;
    let bench = Bench::start(Scripted::new(counting_tokens()), small);
    bench.offer(100);
    tokio::time::sleep(Duration::from_secs(25)).await;
    let questions = std::mem::take(&mut *bench.sink.questions.lock().unwrap());
    assert!((3..=8).contains(&questions.len()), "after 1, 2, 4, 8 and 10 seconds or less: {questions:?}");
    assert!(questions.iter().all(|ids| *ids == (0..10).collect::<Vec<u64>>()), "{questions:?}");
    // What was confirmed is not asked for again, and each batch gets its own.
    bench.sink.confirmed.lock().unwrap().extend(0..9);
    tokio::time::sleep(Duration::from_secs(15)).await;
    assert_eq!(bench.lane.stats().count(Outcome::Delivered), 90);
    assert!(bench.sink.questions.lock().unwrap().iter().skip(1).all(|ids| *ids == [9] || ids.len() == 1));
}

#[tokio::test(start_paused = true)]
async fn a_number_that_comes_again_confirms_nothing_of_before() {
    // The destination restarts after its first two answers, and counts from 0 again.
    let numbers = Mutex::new(vec![0, 1, 0, 1].into_iter());
    let sink = Scripted::new(move |ids, _| {
        let id = numbers.lock().unwrap().next().unwrap_or(9);
        Judgement::all(ids.len(), &Verdict::Pending(Token { channel: "c".to_owned(), id }))
    });
    let mut small = config();
    small.batch.events_max = 10;
    small.concurrency_max = 1;
    let bench = Bench::start(sink, small);
    bench.sink.confirmed.lock().unwrap().extend([0, 1]);
    *bench.sink.delay.lock().unwrap() = Duration::from_millis(1);
    for parcel in parcels(40) {
        bench.lane.offer(&parcel, &bench.share);
    }
    bench.share.ended(40);
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(bench.lane.stats().count(Outcome::Delivered), 20);
    assert!(bench.share.owes(0) && bench.share.owes(19) && !bench.share.owes(20));
    // Only what has that number now was confirmed; the others are sent again.
    bench.sink.confirmed.lock().unwrap().insert(9);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(bench.sink.requests() >= 6);
}

#[tokio::test(start_paused = true)]
async fn after_three_silent_rounds_what_is_accepted_counts_until_confirmations_come_again() {
    let bench = Bench::start(Scripted::new(counting_tokens()), config());
    bench.sink.optional.store(true, Ordering::Relaxed);
    let started = tokio::time::Instant::now();
    assert!(bench.ship(10).await);
    let waited = started.elapsed().as_secs();
    assert_eq!((bench.sink.requests(), (90..100).contains(&waited)), (3, true), "{waited}");
    assert_eq!(*bench.told.0.lock().unwrap(), [Acknowledgement::Ignored]);

    // From now on nothing waits, but the questions go on with the requests.
    let started = tokio::time::Instant::now();
    for _ in 0..10 {
        assert!(bench.offer_more(10).idle().await.is_closed());
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(started.elapsed() < Duration::from_secs(15));
    assert_eq!((bench.sink.requests(), bench.told.0.lock().unwrap().len()), (13, 1));
    let last = bench.sink.questions.lock().unwrap().last().unwrap().clone();
    assert!(last.contains(&5), "{last:?}");

    // The first confirmation brings them back.
    bench.sink.confirmed.lock().unwrap().extend(0..=12);
    assert!(bench.offer_more(10).idle().await.is_closed());
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(*bench.told.0.lock().unwrap(), [Acknowledgement::Ignored, Acknowledgement::Back]);
    let share = bench.offer_more(10);
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert!(share.owes(0), "confirmations count again");
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_insists_on_confirmation_says_so_and_goes_on_sending() {
    let bench = Bench::start(Scripted::new(counting_tokens()), config());
    bench.offer(10);
    tokio::time::sleep(Duration::from_secs(200)).await;
    assert_eq!(bench.sink.requests(), 7);
    assert_eq!(*bench.told.0.lock().unwrap(), [Acknowledgement::Missing; 2]);
    assert!(bench.share.owes(0));
}

#[tokio::test(start_paused = true)]
async fn many_batches_that_time_out_together_are_one_silent_round() {
    let mut small = config();
    small.batch.events_max = 1;
    let bench = Bench::start(Scripted::new(counting_tokens()), small);
    bench.sink.optional.store(true, Ordering::Relaxed);
    bench.offer(20);
    tokio::time::sleep(Duration::from_secs(35)).await;
    assert_eq!(bench.sink.requests(), 40, "all were sent again once");
    assert_eq!(*bench.told.0.lock().unwrap(), []);
}

/// Accepts everything, to be confirmed in one channel under the numbers 0, 1, 2, …
fn counting_tokens() -> impl Fn(&[String], &Attempt) -> Judgement {
    let next = AtomicU64::new(0);
    move |ids, _| {
        let id = next.fetch_add(1, Ordering::Relaxed);
        Judgement::all(ids.len(), &Verdict::Pending(Token { channel: "c".to_owned(), id }))
    }
}

#[tokio::test(start_paused = true)]
async fn finishing_delivers_what_is_there() {
    let mut slow = config();
    slow.batch.age_max = Duration::from_secs(3600);
    let bench = Bench::start(Scripted::new(all_good), slow);
    for parcel in parcels(10) {
        bench.lane.offer(&parcel, &bench.share);
    }
    bench.share.ended(10);
    bench.lane.finish(Duration::from_secs(10), &SimulatedClock::new(0)).await;
    assert!(bench.share.idle().await.is_closed());
}

#[tokio::test(start_paused = true)]
async fn finishing_with_a_hung_destination_releases_within_the_grace() {
    let bench = Bench::start(Scripted::new(all_good), config());
    *bench.sink.delay.lock().unwrap() = Duration::from_secs(1 << 30);
    for parcel in parcels(10) {
        bench.lane.offer(&parcel, &bench.share);
    }
    bench.share.ended(10);
    let started = tokio::time::Instant::now();
    bench.lane.finish(Duration::from_secs(10), &SimulatedClock::new(0)).await;
    assert!(started.elapsed() <= Duration::from_secs(12));
    assert!(!bench.share.idle().await.is_closed());
    assert_eq!(bench.lane.stats().in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_holds_too_much_sheds_its_queue_and_opens_again() {
    let mut small = config();
    small.memory_part = 20_000;
    small.batch.events_max = 10;
    small.concurrency_max = 1;
    let bench = Bench::start(Scripted::new(all_good), small);
    *bench.sink.delay.lock().unwrap() = Duration::from_secs(1);
    for parcel in parcels(2000) {
        bench.lane.offer(&parcel, &bench.share);
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(bench.lane.is_over_its_part());
    bench.lane.shed();
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(bench.lane.health().state(), LaneState::Congested);
    assert!(bench.lane.stats().count(Outcome::Released) > 1000);
    *bench.sink.delay.lock().unwrap() = Duration::ZERO;
    let _pass = bench.lane.admit_pass().await.unwrap();
    assert!(bench.ship(2000).await);
    assert!(bench.times_sent().values().all(|&times| times == 1), "nothing was sent twice");
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_a_destination_releases_the_batch_and_leaves_the_lane_running() {
    let panics = Mutex::new(1);
    let sink = Scripted::new(move |ids, _| {
        let mut left = panics.lock().unwrap();
        if *left > 0 {
            *left -= 1;
            drop(left);
            panic!("deliberate");
        }
        Judgement::all(ids.len(), &Verdict::Delivered)
    });
    let bench = Bench::start(sink, config());
    bench.offer(10);
    assert!(!bench.share.idle().await.is_closed());
    assert!(bench.lane.is_running());
    assert!(bench.ship(10).await);
    bench.lane.finish(Duration::from_secs(1), &SimulatedClock::new(0)).await;
    assert!(!bench.lane.is_running());
}

#[tokio::test(start_paused = true)]
async fn an_event_that_cannot_be_encoded_is_found_like_a_refused_one() {
    let bench = Bench::start(Scripted::new(all_good), config());
    *bench.sink.poison.lock().unwrap() = Some("77".to_owned());
    assert!(bench.ship(200).await);
    assert_eq!(bench.dead(), ["77"]);
}

#[tokio::test(start_paused = true)]
async fn a_witness_from_before_the_refusal_does_not_count() {
    // The left half is taken; then the set-up breaks, and everything is refused.
    let left_taken = Mutex::new(false);
    let sink = Scripted::new(move |ids, _| {
        let mut taken = left_taken.lock().unwrap();
        if ids.len() == 500 && !*taken {
            *taken = true;
            return Judgement::all(ids.len(), &Verdict::Delivered);
        }
        Judgement::Refused(reason())
    });
    let bench = Bench::start(sink, config());
    bench.offer(1000);
    bench.shuts().await;
    assert!(bench.dead().is_empty(), "{:?}", bench.dead());
    assert_eq!(bench.lane.stats().count(Outcome::Delivered), 500);
}

#[tokio::test(start_paused = true)]
async fn a_safe_shape_that_is_refused_for_everything_is_the_set_up_s_fault() {
    let sink = Scripted::new(|ids, _| Judgement::all(ids.len(), &Verdict::Reshape(reason())));
    let bench = Bench::start(sink, config());
    bench.offer(100);
    bench.shuts().await;
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert!(bench.dead().is_empty());
    bench.sink.now(all_good);
    let _pass = bench.lane.admit_pass().await.unwrap();
    assert!(bench.ship(100).await);
    assert!(bench.dead().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_probes_open_and_that_takes_nothing_is_asked_ever_less_often() {
    let sink = Scripted::new(|ids, _| Judgement::all(ids.len(), &Verdict::Reshape(reason())));
    let bench = Bench::start(sink, config());
    bench.offer(1);
    tokio::time::sleep(Duration::from_secs(600)).await;
    let sends = bench.sink.sends.lock().unwrap().len();
    // Each time it opens it costs three requests, and there are 5 to 10 s in between.
    assert!((60..400).contains(&sends), "{sends}");
    assert!(bench.dead().is_empty(), "nobody has borne witness");
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_needs_the_safe_shape_opens_the_lane() {
    let bench = Bench::start(
        Scripted::new(|_, _| Judgement::Denied(Reason::new(ReasonCode::Unauthorized, "401"))),
        config(),
    );
    bench.offer(1);
    bench.shuts().await;
    bench.sink.now(|ids, attempt| {
        let verdict = match attempt.shape {
            Shape::Normal => Verdict::Reshape(reason()),
            Shape::Safe => Verdict::Delivered,
        };
        Judgement::all(ids.len(), &verdict)
    });
    assert!(bench.share.idle().await.is_closed());
    assert!(bench.lane.health().state().is_open());
}

#[tokio::test(start_paused = true)]
async fn probes_ask_each_endpoint_in_turn() {
    let down = |_: &[String], _: &Attempt| Judgement::Denied(Reason::new(ReasonCode::Unauthorized, "401"));
    let bench = Bench::start(Scripted::new(down), config());
    bench.offer(20);
    bench.shuts().await;
    // Of two endpoints, one is back.
    bench.sink.now(|ids, attempt| match attempt.number % 2 {
        1 => Judgement::all(ids.len(), &Verdict::Delivered),
        _ => Judgement::Denied(Reason::new(ReasonCode::Unauthorized, "401")),
    });
    assert!(bench.lane.admit_pass().await.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_holds_only_bad_events_lets_fresh_ones_in() {
    let bad = |ids: &[String], _: &Attempt| match ids.iter().all(|id| id.parse::<u32>().unwrap() < 8) {
        true => Judgement::all(
            ids.len(),
            &Verdict::Denied(Reason::new(ReasonCode::Misconfigured, "no such index")),
        ),
        false => Judgement::all(ids.len(), &Verdict::Delivered),
    };
    let bench = Bench::start(Scripted::new(bad), config());
    bench.offer(8);
    bench.shuts().await;
    let fresh = Share::owing(&sinks::RangeSet::from_ranges(std::iter::once(50..60)));
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_secs(10)).await;
        for parcel in parcels(60) {
            bench.lane.offer(&parcel, &fresh);
        }
        if bench.lane.health().state().is_open() {
            return;
        }
    }
    panic!("the lane stays shut");
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_dies_is_followed_by_another() {
    let turn = Mutex::new(0);
    let sink = Scripted::new(move |ids, _| {
        let mut turn = turn.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *turn += 1;
        match *turn {
            1 => Judgement::Denied(Reason::new(ReasonCode::Unauthorized, "401")),
            2 => panic!("deliberate"),
            _ => Judgement::all(ids.len(), &Verdict::Delivered),
        }
    });
    let bench = Bench::start(sink, config());
    bench.offer(20);
    bench.shuts().await;
    assert!(bench.lane.admit_pass().await.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_shut_lane_does_not_probe_with_an_event_over_the_limit() {
    let mut sink = Scripted::new(|_, _| Judgement::Denied(Reason::new(ReasonCode::Unauthorized, "401")));
    Arc::get_mut(&mut sink).unwrap().event_bytes_max = Some("{\"eventID\":\"9\"}".len());
    let bench = Bench::start(sink, config());
    bench.offer(10);
    bench.shuts().await;
    // The eleventh is too long; it comes while the lane is shut.
    let long = Share::owing(&sinks::RangeSet::from_ranges(std::iter::once(10..11)));
    for parcel in parcels(11) {
        bench.lane.offer(&parcel, &long);
    }
    tokio::time::sleep(Duration::from_secs(600)).await;
    bench.sink.now(all_good);
    let _pass = bench.lane.admit_pass().await.unwrap();
    assert!(!bench.times_sent().contains_key("10"));
}

#[tokio::test(start_paused = true)]
async fn confirmations_of_all_channels_are_asked_for() {
    let number = Mutex::new(0);
    let sink = Scripted::new(move |ids, _| {
        *number.lock().unwrap() += 1;
        let pending = |(at, _): (usize, &String)| {
            let channel = if at % 2 == 0 { "a" } else { "b" };
            Verdict::Pending(Token { channel: channel.to_owned(), id: at as u64 % 2 })
        };
        Judgement::Each(ids.iter().enumerate().map(pending).collect())
    });
    sink.confirmed.lock().unwrap().extend([0, 1]);
    let bench = Bench::start(sink, config());
    assert!(bench.ship(10).await);
    assert_eq!(bench.sink.requests(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_confirmation_stays_within_the_lane_s_part_of_the_memory() {
    let sink = Scripted::new(counting_tokens());
    let mut small = config();
    small.memory_part = 4000;
    small.batch.events_max = 10;
    let bench = Bench::start(sink, small);
    bench.offer(2000);
    tokio::time::sleep(Duration::from_secs(20)).await;
    let sent: usize = bench.sink.sends.lock().unwrap().iter().map(Vec::len).sum();
    assert!(sent < 400, "{sent} events sent without a confirmation");
    bench.lane.shed();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(bench.lane.stats().in_flight() <= sent as u64, "the queue was let go of");
}

#[tokio::test(start_paused = true)]
async fn an_ended_lane_admits_no_pass() {
    let bench = Bench::start(Scripted::new(all_good), config());
    bench.lane.finish(Duration::from_secs(1), &SimulatedClock::new(0)).await;
    assert!(bench.lane.admit_pass().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_destination_under_strain_is_sent_less_although_it_takes_everything() {
    let mut wide = config();
    wide.concurrency_max = 16;
    let strained = |ids: &[String], _: &Attempt| Judgement::Strained(vec![Verdict::Delivered; ids.len()]);
    let bench = Bench::start(Scripted::new(strained), wide);
    let start = bench.lane.health().concurrency();
    assert!(bench.ship(10).await);
    assert_eq!((bench.lane.health().concurrency(), bench.sink.requests()), (start / 2, 1));
    bench.sink.now(|ids, _| Judgement::Strained(vec![Verdict::Delivered; ids.len() - 1]));
    let _owed = bench.offer_more(10);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(bench.sink.requests() > 2, "a short answer is no answer");
}

#[tokio::test(start_paused = true)]
async fn throttling_slows_the_lane_down_and_success_speeds_it_up() {
    let mut wide = config();
    wide.concurrency_max = 16;
    wide.batch.events_max = 1;
    let busy = Arc::new(Mutex::new(0));
    let sink = Scripted::new({
        let busy = busy.clone();
        move |ids, _| {
            let mut left = busy.lock().unwrap();
            if *left > 0 {
                *left -= 1;
                let why = Reason::new(ReasonCode::Throttled, "429");
                return Judgement::Unavailable { why, retry_after: None };
            }
            Judgement::all(ids.len(), &Verdict::Delivered)
        }
    });
    let bench = Bench::start(sink, wide);
    let start = bench.lane.health().concurrency();
    *busy.lock().unwrap() = 1;
    assert!(bench.ship(1).await);
    assert_eq!(bench.lane.health().concurrency(), start / 2);
    let share = Share::new();
    for parcel in parcels(500) {
        bench.lane.offer(&parcel, &share);
    }
    share.ended(500);
    assert!(share.idle().await.is_closed());
    assert_eq!(bench.lane.health().concurrency(), 16);
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_is_asked_to_wait_begins_no_other_request_meanwhile() {
    let mut several = config();
    several.batch.events_max = 10;
    several.concurrency_max = 8;
    let first = Mutex::new(true);
    let sink = Scripted::new(move |ids, _| match std::mem::take(&mut *first.lock().unwrap()) {
        true => Judgement::Unavailable {
            why: Reason::new(ReasonCode::Throttled, "429"),
            retry_after: Some(Duration::from_secs(20)),
        },
        false => Judgement::all(ids.len(), &Verdict::Delivered),
    });
    *sink.delay.lock().unwrap() = Duration::from_millis(50);
    let bench = Bench::start(sink, several);
    bench.offer(10);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let before = bench.sink.requests();
    let later = Share::new();
    for parcel in parcels(100) {
        bench.lane.offer(&parcel, &later);
    }
    later.ended(100);
    tokio::time::sleep(Duration::from_secs(18)).await;
    assert_eq!(bench.sink.requests(), before, "it was to be left alone");
    assert!(later.idle().await.is_closed());
    assert!(bench.share.idle().await.is_closed());
}

/// A destination that serves `capacity` requests at once, each in 100 ms; further ones wait for their turn.
struct Busy {
    places: tokio::sync::Semaphore,
    requests: std::sync::atomic::AtomicUsize,
}

#[async_trait]
impl Sink for Busy {
    fn encoded_len(&self, event: &Event) -> usize {
        event.bytes().len()
    }

    async fn encode(&self, events: &Arc<[Event]>, _shape: Shape) -> Result<Encoded, Reason> {
        Ok(Encoded { plain_len: events.len() * 100, ..Encoded::default() })
    }

    async fn send(&self, events: &[Event], _encoded: &Encoded, _attempt: &Attempt) -> Judgement {
        let _place = self.places.acquire().await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        self.requests.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Judgement::all(events.len(), &Verdict::Delivered)
    }
}

#[tokio::test(start_paused = true)]
async fn a_destination_that_only_queues_more_requests_is_not_sent_more_of_them() {
    for (capacity, expected) in [(4, 4..=14), (100, 32..=32)] {
        let busy = Arc::new(Busy { places: tokio::sync::Semaphore::new(capacity), requests: 0.into() });
        let mut config = config();
        (config.batch.events_max, config.concurrency_max) = (10, 32);
        let ports = LanePorts {
            clock: Arc::new(SimulatedClock::new(1_700_000_000)),
            random: Arc::new(SeededRandom::new(1)),
            dead_letters: Arc::new(MemoryDeadLetters::new()),
            observer: Arc::new(Unobserved),
        };
        let lane = Lane::start(config, busy.clone(), ports);
        let started = tokio::time::Instant::now();
        let share = Share::new();
        for parcel in parcels(10_000) {
            lane.offer(&parcel, &share);
        }
        share.ended(10_000);
        assert!(share.idle().await.is_closed());
        let limit = lane.health().concurrency();
        assert!(expected.contains(&limit), "{capacity}: {limit}");
        // None of its places stood empty for long.
        let least = Duration::from_millis(100 * 1000 / capacity.min(32) as u64);
        assert!(started.elapsed() < least * 3 / 2, "{capacity}: {:?}", started.elapsed());
    }
}

/// Takes all but the events with these ids, whose index is missing.
fn no_index_for(missing: &'static [&'static str]) -> impl Fn(&[String], &Attempt) -> Judgement {
    let denied = || Verdict::Denied(Reason::new(ReasonCode::Misconfigured, "no such index"));
    move |ids, _| {
        let verdict = |id: &String| match missing.contains(&id.as_str()) {
            true => denied(),
            false => Verdict::Delivered,
        };
        Judgement::Each(ids.iter().map(verdict).collect())
    }
}

#[tokio::test(start_paused = true)]
async fn a_few_events_whose_index_is_missing_wait_by_themselves_and_shut_nothing() {
    let bench = Bench::start(Scripted::new(no_index_for(&["3", "5"])), config());
    bench.offer(100);
    for _ in 0..60 {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let share = Share::owing(&sinks::RangeSet::from_ranges(std::iter::once(50..60)));
        for parcel in parcels(60) {
            bench.lane.offer(&parcel, &share);
        }
        assert!(share.idle().await.is_closed() || share.account().settled.contains(59));
        assert!(bench.lane.health().state().is_open());
    }
    assert!(bench.share.owes(3) && bench.share.owes(5) && !bench.share.owes(4));
    assert!(bench.dead().is_empty());
    assert!((3..20).contains(&bench.times_sent()["3"]), "sent again, not hammered");
    bench.sink.now(all_good);
    assert!(bench.share.idle().await.is_closed());
}

#[tokio::test(start_paused = true)]
async fn a_batch_of_which_the_index_is_missing_shuts_the_lane_once_nothing_else_is_taken() {
    let bench = Bench::start(Scripted::new(all_good), config());
    assert!(bench.ship(10).await);
    bench.sink.now(no_index_for(&["10", "11", "12"]));
    let share = Share::owing(&sinks::RangeSet::from_ranges(std::iter::once(10..13)));
    for parcel in parcels(13) {
        bench.lane.offer(&parcel, &share);
    }
    let waited = bench.shuts().await;
    assert!(matches!(bench.lane.health().state(), LaneState::Denied(_)));
    assert!(waited < Duration::from_secs(5), "{waited:?}");
    bench.sink.now(all_good);
    let _pass = bench.lane.admit_pass().await.unwrap();
    assert!(bench.share.idle().await.is_closed());
}

#[tokio::test(start_paused = true)]
async fn too_many_events_that_wait_by_themselves_shut_the_lane() {
    let bench = Bench::start(
        Scripted::new(|ids, _| {
            let denied = Verdict::Denied(Reason::new(ReasonCode::Misconfigured, "no such index"));
            let verdict = |id: &String| match id.ends_with('0') {
                true => Verdict::Delivered,
                false => denied.clone(),
            };
            Judgement::Each(ids.iter().map(verdict).collect())
        }),
        config(),
    );
    bench.offer(3000);
    bench.shuts().await;
    assert!(bench.lane.stats().in_flight() <= 8, "the rest was let go of");
}

/// Takes events one by one up to those with these ids, over which it closes.
fn hangs_up_over(bad: &'static [&'static str]) -> impl Fn(&[String], &Attempt) -> Judgement {
    let closed = || Reason::new(ReasonCode::Connection, "closed");
    move |ids, _| {
        let taken = ids.iter().take_while(|id| !bad.contains(&id.as_str())).count();
        let mut verdicts = vec![Verdict::Delivered; taken];
        if taken < ids.len() {
            verdicts.push(Verdict::HungUp(closed()));
        }
        verdicts.resize(ids.len(), Verdict::Retry(closed()));
        Judgement::Each(verdicts)
    }
}

/// One request at once, as the connection that an event breaks may be the only one.
fn one_at_once() -> LaneConfig {
    LaneConfig { concurrency_max: 1, ..config() }
}

#[tokio::test(start_paused = true)]
async fn an_event_over_which_the_destination_hangs_up_is_at_fault_once_others_were_taken_eight_times() {
    let bench = Bench::start(Scripted::new(hangs_up_over(&["617"])), one_at_once());
    bench.offer(1000);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(bench.lane.stats().count(Outcome::Delivered), 999, "it holds up nobody");
    // Nothing else comes: whatever it does, nobody bears witness.
    tokio::time::sleep(Duration::from_secs(40)).await;
    assert!(bench.dead().is_empty());
    let mut rounds = 0;
    while bench.dead().is_empty() {
        let share = Share::owing(&sinks::RangeSet::from_ranges(std::iter::once(0..1)));
        for parcel in parcels(1) {
            bench.lane.offer(&parcel, &share);
        }
        tokio::time::sleep(Duration::from_secs(31)).await;
        assert!(bench.lane.health().state().is_open());
        rounds += 1;
        assert!(rounds < 12);
    }
    assert!(rounds >= 6, "{rounds}");
    assert_eq!(bench.dead(), ["617"]);
    let letters = bench.letters.letters();
    assert!(letters[0].reason.contains("closed 8 times over this event alone"), "{}", letters[0].reason);
    assert!(bench.share.idle().await.is_closed());
    let alone = bench.sink.sends.lock().unwrap().iter().skip(2).all(|ids| ids.len() == 1);
    assert!(alone, "with others beside it nobody could tell");
}

#[tokio::test(start_paused = true)]
async fn a_destination_that_hangs_up_over_everything_is_out_of_order_and_blames_no_event() {
    let hangs_up = |ids: &[String], _: &Attempt| {
        let closed = || Reason::new(ReasonCode::Connection, "closed");
        let mut verdicts = vec![Verdict::HungUp(closed())];
        verdicts.resize(ids.len(), Verdict::Retry(closed()));
        Judgement::Each(verdicts)
    };
    let bench = Bench::start(Scripted::new(hangs_up), one_at_once());
    bench.offer(100);
    let waited = bench.shuts().await;
    assert!((60..100).contains(&waited.as_secs()), "{waited:?}");
    assert!(matches!(bench.lane.health().state(), LaneState::Unavailable(_)));
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert!(bench.dead().is_empty());
    let requests = bench.sink.requests();
    assert!(requests < 800, "with a probe in ten seconds at most it is not hammered: {requests}");
    bench.sink.now(all_good);
    let _pass = bench.lane.admit_pass().await.unwrap();
    assert!(bench.ship(100).await);
    assert!(bench.dead().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_is_taken_in_the_end_was_never_at_fault_however_often_it_was_hung_up_over() {
    let times = AtomicU64::new(0);
    let bench = Bench::start(
        Scripted::new(move |ids, attempt| match ids.iter().any(|id| id == "7") {
            true if times.fetch_add(1, Ordering::Relaxed) < 7 => hangs_up_over(&["7"])(ids, attempt),
            _ => all_good(ids, attempt),
        }),
        one_at_once(),
    );
    bench.offer(20);
    for _ in 0..12 {
        tokio::time::sleep(Duration::from_secs(31)).await;
        let share = Share::owing(&sinks::RangeSet::from_ranges(std::iter::once(0..1)));
        for parcel in parcels(1) {
            bench.lane.offer(&parcel, &share);
        }
    }
    assert!(bench.share.idle().await.is_closed());
    assert!(bench.dead().is_empty());
}
