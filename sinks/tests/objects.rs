//! A lane that stores objects, from offered events to settled ones: what is stored is whole, whatever goes wrong.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::single_range_in_vec_init,
    missing_docs
)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use cloudtrail::{Limits, LogFileReader};
use sinks::ports::{Clock, Random};
use sinks::{
    BatchConfig, Gathering, Lane, LaneConfig, LanePorts, LaneState, LogFile, Object, ObjectSink, Outcome,
    Parcel, ParcelMaker, RangeSet, Reason, ReasonCode, RetryConfig, Share, StoreError, Unobserved, Via,
};
use testkit::ports::{InlineCompute, MemoryDeadLetters, SeededRandom, SimulatedClock};

/// Events of one object.
const CUT: u64 = 10;

type Answer = Box<dyn Fn(usize) -> Result<(), StoreError> + Send + Sync>;

/// A store that answers as a test says, and remembers what it took.
struct Store {
    answer: Mutex<Answer>,
    tries: AtomicUsize,
    under_way: AtomicUsize,
    most_under_way: AtomicUsize,
    delay: Mutex<Duration>,
    stored: Mutex<BTreeMap<String, RangeSet>>,
    /// Memory that each log file is said to take.
    bytes_each: u64,
    breaks: AtomicBool,
}

impl Store {
    fn new() -> Arc<Self> {
        Self::taking(0)
    }

    fn taking(bytes_each: u64) -> Arc<Self> {
        Arc::new(Self {
            answer: Mutex::new(Box::new(|_| Ok(()))),
            tries: AtomicUsize::new(0),
            under_way: AtomicUsize::new(0),
            most_under_way: AtomicUsize::new(0),
            delay: Mutex::default(),
            stored: Mutex::default(),
            bytes_each,
            breaks: AtomicBool::new(false),
        })
    }

    fn now(&self, answer: impl Fn(usize) -> Result<(), StoreError> + Send + Sync + 'static) {
        *self.answer.lock().unwrap() = Box::new(answer);
    }

    fn stored(&self) -> BTreeMap<String, Vec<std::ops::Range<u64>>> {
        let stored = self.stored.lock().unwrap();
        stored.iter().map(|(name, events)| (name.clone(), events.ranges().to_vec())).collect()
    }
}

struct Gathered {
    key: String,
    events: Vec<u64>,
    bytes_each: u64,
    breaks: bool,
}

impl Gathered {
    fn close(&mut self, complete: &mut Vec<Object>) {
        let events = std::mem::take(&mut self.events);
        let Some(first) = events.first() else { return };
        let name = format!("{}-{}", self.key, first / CUT * CUT);
        let events = RangeSet::from_ranges(events.into_iter().map(|event| event..event + 1));
        complete.push(Object { name, bytes: vec![0; 100].into(), events, times: Vec::new() });
    }
}

impl Gathering for Gathered {
    fn add(&mut self, parcel: &Arc<Parcel>, complete: &mut Vec<Object>) -> Result<(), Reason> {
        for event in parcel.chunk().events() {
            if event.index() % CUT == 0 {
                self.close(complete);
            }
            self.events.push(event.index());
        }
        if self.breaks { Err(Reason::new(ReasonCode::Other, "broken")) } else { Ok(()) }
    }

    fn finish(&mut self, complete: &mut Vec<Object>) -> Result<(), Reason> {
        self.close(complete);
        Ok(())
    }

    fn memory_bytes(&self) -> u64 {
        self.bytes_each
    }
}

#[async_trait]
impl ObjectSink for Store {
    fn gather(&self, file: &LogFile) -> Box<dyn Gathering> {
        let breaks = self.breaks.load(Ordering::Relaxed);
        Box::new(Gathered { key: file.key.clone(), events: Vec::new(), bytes_each: self.bytes_each, breaks })
    }

    async fn store(&self, object: &Object) -> Result<(), StoreError> {
        let now = self.under_way.fetch_add(1, Ordering::Relaxed) + 1;
        self.most_under_way.fetch_max(now, Ordering::Relaxed);
        let delay = *self.delay.lock().unwrap();
        tokio::time::sleep(delay).await;
        self.under_way.fetch_sub(1, Ordering::Relaxed);
        let number = self.tries.fetch_add(1, Ordering::Relaxed);
        (*self.answer.lock().unwrap())(number)?;
        self.stored.lock().unwrap().insert(object.name.clone(), object.events.clone());
        Ok(())
    }
}

fn config() -> LaneConfig {
    LaneConfig {
        name: "lake".to_owned(),
        sink_type: "parquet".to_owned(),
        batch: BatchConfig { bytes_max: 1, events_max: 1, age_max: Duration::ZERO },
        retry: RetryConfig {
            initial: Duration::from_millis(200),
            max: Duration::from_secs(10),
            give_up_after: Duration::from_secs(60),
        },
        concurrency_min: 1,
        concurrency_max: 2,
        ack_timeout: Duration::from_secs(1),
        memory_part: 8 << 20,
    }
}

struct Bench {
    store: Arc<Store>,
    lane: Lane,
    clock: Arc<SimulatedClock>,
}

impl Bench {
    fn start(store: Arc<Store>) -> Self {
        let clock = Arc::new(SimulatedClock::new(1_700_000_000));
        let ports = LanePorts {
            clock: clock.clone(),
            random: Arc::new(SeededRandom::new(1)),
            dead_letters: Arc::new(MemoryDeadLetters::new()),
            observer: Arc::new(Unobserved),
        };
        let lane = Lane::start_objects(config(), store.clone(), Arc::new(InlineCompute), ports);
        Self { store, lane, clock }
    }

    /// A pass over a whole log file.
    fn ship(&self, key: &str, count: usize, share: &Share) {
        let pass = self.lane.begin(share);
        parcels(key, count, 128).iter().for_each(|parcel| pass.offer(parcel));
        pass.ended();
        share.ended(count as u64);
    }

    async fn until(&self, holds: impl Fn() -> bool) {
        for _ in 0..10_000 {
            if holds() {
                return;
            }
            self.clock.sleep(Duration::from_millis(50)).await;
        }
        panic!("it never holds");
    }

    #[track_caller]
    fn nothing_is_lost_from_the_books(&self) {
        let stats = self.lane.stats();
        let ended: u64 = Outcome::ALL.iter().map(|&outcome| stats.count(outcome)).sum();
        assert_eq!((stats.offered(), stats.in_flight(), stats.held_bytes()), (ended, 0, 0));
    }
}

fn parcels(key: &str, count: usize, chunk_bytes: usize) -> Vec<Arc<Parcel>> {
    let events: Vec<String> = (0..count).map(|id| format!("{{\"eventID\":\"{id}\"}}")).collect();
    let json = format!("{{\"Records\":[{}]}}", events.join(","));
    let mut reader = LogFileReader::new(Limits { chunk_bytes, ..Limits::default() });
    let mut chunks = Vec::new();
    reader.push(json.as_bytes(), &mut chunks).unwrap();
    reader.finish(&mut chunks).unwrap();
    let file = LogFile {
        bucket: "trail".to_owned(),
        key: key.to_owned(),
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

fn unavailable() -> Result<(), StoreError> {
    Err(StoreError::Unavailable(Reason::new(ReasonCode::ServerError, "503")))
}

fn denied() -> Result<(), StoreError> {
    Err(StoreError::Denied(Reason::new(ReasonCode::Unauthorized, "403")))
}

fn whole(key: &str, count: u64) -> BTreeMap<String, Vec<std::ops::Range<u64>>> {
    let starts = (0..count).step_by(CUT as usize);
    starts.map(|start| (format!("{key}-{start}"), vec![start..(start + CUT).min(count)])).collect()
}

#[tokio::test(start_paused = true)]
async fn objects_are_stored_once_they_are_complete_and_events_settle_only_then() {
    let bench = Bench::start(Store::new());
    let share = Share::new();
    let pass = bench.lane.begin(&share);
    parcels("a", 25, 128).iter().for_each(|parcel| pass.offer(parcel));
    bench.until(|| bench.lane.stats().count(Outcome::Delivered) == 20).await;
    bench.clock.sleep(Duration::from_secs(60)).await;
    assert_eq!(bench.store.stored().len(), 2, "the third goes on to the end of the log file");
    assert_eq!(share.account().open, 5);
    pass.ended();
    share.ended(25);
    assert!(share.idle().await.is_closed());
    assert_eq!(bench.store.stored(), whole("a", 25));
    bench.nothing_is_lost_from_the_books();
}

#[tokio::test(start_paused = true)]
async fn a_pass_that_ends_early_stores_nothing_of_an_object_that_is_not_whole() {
    let bench = Bench::start(Store::new());
    let share = Share::new();
    let parcels = parcels("a", 25, 128);
    let pass = bench.lane.begin(&share);
    parcels.iter().take(parcels.len() / 2).for_each(|parcel| pass.offer(parcel));
    drop(pass);
    let account = share.idle().await;
    assert_eq!(account.settled.ranges(), std::slice::from_ref(&(0..10)));
    assert_eq!(bench.store.stored(), BTreeMap::from([("a-0".to_owned(), vec![0..10])]));
    bench.ship("a", 25, &share);
    assert!(share.idle().await.is_closed());
    assert_eq!(bench.store.stored(), whole("a", 25));
    assert_eq!(bench.store.tries.load(Ordering::Relaxed), 3, "what was settled is not stored again");
    bench.nothing_is_lost_from_the_books();
}

#[tokio::test(start_paused = true)]
async fn what_is_owed_in_part_is_stored_whole_again() {
    let bench = Bench::start(Store::new());
    let share = Share::owing(&RangeSet::from_ranges([13..15, 22..23]));
    bench.ship("a", 25, &share);
    assert!(share.idle().await.is_closed());
    let expected: BTreeMap<_, _> = whole("a", 25).into_iter().filter(|(name, _)| name != "a-0").collect();
    assert_eq!(bench.store.stored(), expected);
    assert_eq!(bench.lane.stats().offered(), 3);
    bench.nothing_is_lost_from_the_books();
}

#[tokio::test(start_paused = true)]
async fn of_a_log_file_with_a_gap_nothing_beyond_it_is_stored() {
    let bench = Bench::start(Store::new());
    let share = Share::new();
    let parcels = parcels("a", 40, 128);
    for skipped in [0, parcels.len() / 2] {
        let pass = bench.lane.begin(&share);
        let others = parcels.iter().enumerate().filter(|(at, _)| *at != skipped);
        others.for_each(|(_, parcel)| pass.offer(parcel));
        pass.ended();
        share.idle().await;
        let whole = whole("a", 40);
        assert!(bench.store.stored().iter().all(|(name, events)| whole[name] == *events));
        assert!(bench.store.stored().len() < 4);
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_busy_is_tried_again_and_nothing_waits_for_ever() {
    let bench = Bench::start(Store::new());
    bench.store.now(|number| if number % 3 == 2 { Ok(()) } else { unavailable() });
    let shares: Vec<Share> = (0..20).map(|_| Share::new()).collect();
    for (number, share) in shares.iter().enumerate() {
        bench.lane.begin(share).room(&*bench.clock).await;
        bench.ship(&number.to_string(), 25, share);
    }
    for share in &shares {
        assert!(share.idle().await.is_closed());
    }
    assert_eq!(bench.store.stored().len(), 60);
    assert!(bench.store.most_under_way.load(Ordering::Relaxed) <= 2);
    assert!(bench.lane.health().state().is_open());
    bench.nothing_is_lost_from_the_books();
}

#[tokio::test(start_paused = true)]
async fn no_more_objects_are_under_way_than_allowed() {
    let bench = Bench::start(Store::new());
    *bench.store.delay.lock().unwrap() = Duration::from_secs(1);
    let share = Share::new();
    bench.ship("a", 100, &share);
    assert!(share.idle().await.is_closed());
    assert_eq!(bench.store.most_under_way.load(Ordering::Relaxed), 2);
}

async fn shuts_and_opens(answer: fn() -> Result<(), StoreError>, is_it: fn(&LaneState) -> bool) {
    let bench = Bench::start(Store::new());
    bench.store.now(move |_| answer());
    let (complete, open, later) = (Share::new(), Share::new(), Share::new());
    let half_way = bench.lane.begin(&open);
    parcels("b", 5, 4096).iter().for_each(|parcel| half_way.offer(parcel));
    bench.ship("a", 95, &complete);
    bench.lane.health().wait_for(LaneState::is_shut).await;
    assert!(is_it(&bench.lane.health().state()));
    bench.until(|| open.account().open == 0).await;
    assert!(complete.account().open <= 2 * CUT, "it keeps a few objects to probe with, and no more");
    bench.ship("c", 25, &later);
    bench.clock.sleep(Duration::from_secs(600)).await;
    assert_eq!((bench.store.stored().len(), later.account().open), (0, 0), "it has enough to probe with");
    half_way.ended();
    drop(half_way);
    bench.store.now(|_| Ok(()));
    bench.lane.health().wait_for(LaneState::is_open).await;
    for (share, key, count) in [(&complete, "a", 95), (&open, "b", 5), (&later, "c", 25)] {
        share.idle().await;
        bench.ship(key, count, share);
        assert!(share.idle().await.is_closed(), "{key}");
    }
    let mut expected = whole("a", 95);
    expected.extend(whole("b", 5));
    expected.extend(whole("c", 25));
    assert_eq!(bench.store.stored(), expected);
    bench.nothing_is_lost_from_the_books();
}

#[tokio::test(start_paused = true)]
async fn a_store_that_denies_shuts_the_lane_until_it_takes_an_object() {
    shuts_and_opens(denied, |state| matches!(state, LaneState::Denied(_))).await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_for_long_shuts_the_lane_until_it_takes_an_object() {
    shuts_and_opens(unavailable, |state| matches!(state, LaneState::Unavailable(_))).await;
}

#[tokio::test(start_paused = true)]
async fn memory_is_bounded_and_the_oldest_log_file_always_gets_done() {
    // Three of them are more than the lane's part.
    let bench = Bench::start(Store::taking(3 << 20));
    let shares: Vec<Share> = (0..6).map(|_| Share::new()).collect();
    let passes: Vec<_> = shares.iter().map(|share| bench.lane.begin(share)).collect();
    let files: Vec<_> = (0..6).map(|number| parcels(&number.to_string(), 40, 128)).collect();
    for at in 0..files[0].len() {
        for (pass, file) in passes.iter().zip(&files) {
            pass.offer(&file[at]);
        }
        bench.clock.sleep(Duration::from_millis(1)).await;
        let held = bench.lane.stats().held_bytes();
        assert!(held <= (8 << 20) + (3 << 20), "{held}");
    }
    passes.iter().for_each(sinks::LanePass::ended);
    drop(passes);
    let mut closed = 0;
    for share in &shares {
        share.ended(40);
        closed += usize::from(share.idle().await.is_closed());
    }
    assert!((1..6).contains(&closed) && shares[0].account().is_closed(), "{closed} of 6");
    // The others are read again once there is room, one after the other.
    for (number, share) in shares.iter().enumerate() {
        let pass = bench.lane.begin(share);
        for parcel in &files[number] {
            pass.room(&*bench.clock).await;
            if pass.wants(parcel) {
                pass.offer(parcel);
            }
        }
        pass.ended();
    }
    for share in &shares {
        assert!(share.idle().await.is_closed());
    }
    assert_eq!(bench.store.stored().len(), 24);
    bench.nothing_is_lost_from_the_books();
}

#[tokio::test(start_paused = true)]
async fn a_gathering_that_fails_leaves_its_events_owed() {
    let bench = Bench::start(Store::new());
    bench.store.breaks.store(true, Ordering::Relaxed);
    let share = Share::new();
    bench.ship("a", 25, &share);
    assert_eq!(share.idle().await.settled.count(), 0);
    bench.store.breaks.store(false, Ordering::Relaxed);
    bench.ship("a", 25, &share);
    assert!(share.idle().await.is_closed());
    bench.nothing_is_lost_from_the_books();
}

#[tokio::test(start_paused = true)]
async fn a_single_parcel_makes_an_object_of_its_own() {
    let bench = Bench::start(Store::new());
    let share = Share::new();
    let parcels = parcels("a", 9, 128);
    bench.lane.offer(&parcels[1], &share);
    share.idle().await;
    let first = parcels[1].chunk().event(0).unwrap().index();
    let end = first + parcels[1].chunk().len() as u64;
    assert_eq!(bench.store.stored(), BTreeMap::from([("a-0".to_owned(), vec![first..end])]));
}

#[tokio::test(start_paused = true)]
async fn told_to_finish_it_stores_what_is_complete_and_releases_the_rest() {
    let bench = Bench::start(Store::new());
    *bench.store.delay.lock().unwrap() = Duration::from_secs(1);
    let (complete, open) = (Share::new(), Share::new());
    bench.ship("a", 25, &complete);
    let pass = bench.lane.begin(&open);
    parcels("b", 25, 128).iter().for_each(|parcel| pass.offer(parcel));
    bench.lane.finish(Duration::from_secs(20), &*bench.clock).await;
    assert!(!bench.lane.is_running());
    assert!(complete.account().is_closed());
    assert_eq!(open.idle().await.settled.ranges(), std::slice::from_ref(&(0..20)));
    let pass = bench.lane.begin(&open);
    parcels("b", 25, 128).iter().for_each(|parcel| pass.offer(parcel));
    pass.ended();
    assert_eq!(open.idle().await.settled.count(), 20, "a lane that has ended takes nothing");
}

/// Log files, passes that break off, a store with moods, and orders from outside, by one seed.
async fn simulate(seed: u64) {
    let random = Arc::new(SeededRandom::new(seed));
    let draw = |below: u64| random.next() % below;
    let bench = Bench::start(Store::taking(draw(4) << 20));
    *bench.store.delay.lock().unwrap() = Duration::from_millis(draw(2000));
    let moods = Arc::clone(&random);
    bench.store.now(move |_| match moods.next() % 10 {
        0..=2 => unavailable(),
        3 => denied(),
        _ => Ok(()),
    });
    let files: Vec<(String, usize, Share)> =
        (0..8).map(|number| (format!("f{number}"), draw(60) as usize, Share::new())).collect();
    for round in 0.. {
        let owing: Vec<_> = files.iter().filter(|(_, _, share)| !share.account().is_closed()).collect();
        if owing.is_empty() {
            break;
        }
        assert!(round < 2000, "seed {seed} never ends");
        let mut passes = Vec::new();
        for (key, count, share) in owing {
            if share.account().open == 0 {
                let chunk = 64 + draw(1500) as usize;
                passes.push((
                    bench.lane.begin(share),
                    parcels(key, *count, chunk),
                    draw(4) == 0,
                    *count,
                    share,
                ));
            }
        }
        for (pass, parcels, breaks, count, share) in &passes {
            let read = if *breaks { draw(1 + parcels.len() as u64) as usize } else { parcels.len() };
            for parcel in parcels.iter().take(read) {
                if pass.wants(parcel) {
                    pass.offer(parcel);
                }
                if draw(8) == 0 {
                    bench.clock.sleep(Duration::from_millis(draw(3000))).await;
                }
                if draw(20) == 0 {
                    bench.lane.shed();
                    bench.lane.flush();
                }
            }
            if !breaks {
                pass.ended();
                share.ended(*count as u64);
            }
        }
        drop(passes);
        bench.clock.sleep(Duration::from_millis(draw(20_000))).await;
    }
    let mut expected = BTreeMap::new();
    for (key, count, share) in &files {
        assert!(share.idle().await.is_closed());
        expected.extend(whole(key, *count as u64));
    }
    assert_eq!(bench.store.stored(), expected, "seed {seed}");
    let names: BTreeSet<_> = bench.store.stored().into_keys().collect();
    assert_eq!(names.len(), expected.len());
    bench.until(|| bench.lane.stats().in_flight() == 0).await;
    bench.nothing_is_lost_from_the_books();
}

#[tokio::test(start_paused = true)]
async fn whatever_breaks_off_every_object_is_whole_and_every_event_is_stored() {
    for seed in 0..60 {
        simulate(seed).await;
    }
}
