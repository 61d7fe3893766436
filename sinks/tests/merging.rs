//! A lane that merges, from offered events to settled ones: who waits for whom, for how long, and what is stored.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cloudtrail::{Limits, LogFileReader};
use sinks::ports::Clock;
use sinks::{
    BatchConfig, Gathering, Lane, LaneConfig, LanePorts, LaneState, LogFile, Merge, MergeLimits, Object,
    ObjectSink, Outcome, Parcel, ParcelMaker, RangeSet, Reason, ReasonCode, RetryConfig, Share, StoreError,
    Unobserved, Via,
};
use testkit::ports::{InlineCompute, MemoryDeadLetters, SeededRandom, SimulatedClock};

const VOID: &[u8] = b"void";
const AGE: Duration = Duration::from_secs(300);
const PATIENCE: Duration = Duration::from_secs(120);

type Answer = Box<dyn Fn(&str) -> Result<(), StoreError> + Send + Sync>;

/// A store whose log files have one piece each, of a size that the test says. The last part of a log file's key stands
/// for its events: no two have the same.
struct Store {
    objects: Mutex<BTreeMap<String, Bytes>>,
    /// Asked before anything is stored.
    answer: Mutex<Answer>,
    piece_bytes: usize,
    limits: MergeLimits,
}

impl Store {
    fn new(piece_bytes: usize, limits: MergeLimits) -> Arc<Self> {
        Arc::new(Self {
            objects: Mutex::default(),
            answer: Mutex::new(Box::new(|_| Ok(()))),
            piece_bytes,
            limits,
        })
    }

    fn now(&self, answer: impl Fn(&str) -> Result<(), StoreError> + Send + Sync + 'static) {
        *self.answer.lock().unwrap() = Box::new(answer);
    }

    /// How many pieces each object has, by its folder.
    fn visible(&self) -> Vec<(String, usize)> {
        let objects = self.objects.lock().unwrap();
        let all = objects.iter().filter(|(name, bytes)| !name.starts_with('_') && **bytes != VOID);
        let pieces = |bytes: &Bytes| bytes.len() / self.piece_bytes;
        all.map(|(name, bytes)| (name.split('/').next().unwrap().to_owned(), pieces(bytes))).collect()
    }

    fn voids(&self) -> usize {
        self.objects.lock().unwrap().values().filter(|bytes| **bytes == VOID).count()
    }
}

struct Gathered {
    name: String,
    bytes: usize,
    events: RangeSet,
}

impl Gathering for Gathered {
    fn add(&mut self, parcel: &Arc<Parcel>, _: &mut Vec<Object>) -> Result<(), Reason> {
        parcel.chunk().events().for_each(|event| self.events.insert(event.index()..event.index() + 1));
        Ok(())
    }

    fn finish(&mut self, complete: &mut Vec<Object>) -> Result<(), Reason> {
        let (name, events) = (self.name.clone(), std::mem::take(&mut self.events));
        complete.push(Object { name, bytes: vec![b'x'; self.bytes].into(), events, times: Vec::new() });
        Ok(())
    }

    fn memory_bytes(&self) -> u64 {
        0
    }
}

struct StoreSink(Arc<Store>);

#[async_trait]
impl ObjectSink for StoreSink {
    fn gather(&self, file: &LogFile) -> Box<dyn Gathering> {
        Box::new(Gathered {
            name: format!("{}.rows", file.key),
            bytes: self.0.piece_bytes,
            events: RangeSet::new(),
        })
    }

    async fn store(&self, object: &Object) -> Result<(), StoreError> {
        panic!("{} is stored by itself", object.name);
    }

    fn merge(&self) -> Option<Arc<dyn Merge>> {
        Some(self.0.clone())
    }
}

#[async_trait]
impl Merge for Store {
    fn limits(&self) -> MergeLimits {
        self.limits
    }

    fn join(&self, objects: &[Bytes]) -> Result<Bytes, Reason> {
        Ok(objects.concat().into())
    }

    fn void(&self) -> Bytes {
        Bytes::from_static(VOID)
    }

    fn is_void(&self, start: &[u8]) -> bool {
        start == VOID
    }

    async fn put_new(&self, name: &str, bytes: Bytes) -> Result<bool, StoreError> {
        (*self.answer.lock().unwrap())(name)?;
        let mut objects = self.objects.lock().unwrap();
        if objects.contains_key(name) {
            return Ok(false);
        }
        objects.insert(name.to_owned(), bytes);
        Ok(true)
    }

    async fn get(&self, name: &str) -> Result<Option<Bytes>, StoreError> {
        Ok(self.objects.lock().unwrap().get(name).cloned())
    }

    async fn start(&self, name: &str) -> Result<Option<Bytes>, StoreError> {
        Ok(self.objects.lock().unwrap().get(name).map(|bytes| bytes.slice(..4)))
    }
}

struct Bench {
    store: Arc<Store>,
    lane: Lane,
    clock: Arc<SimulatedClock>,
}

/// A lane of another process is one with another seed.
fn lane(store: &Arc<Store>, clock: &Arc<SimulatedClock>, memory_part: u64, seed: u64) -> Lane {
    let config = LaneConfig {
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
        memory_part,
    };
    let ports = LanePorts {
        clock: clock.clone(),
        random: Arc::new(SeededRandom::new(seed)),
        dead_letters: Arc::new(MemoryDeadLetters::new()),
        observer: Arc::new(Unobserved),
    };
    Lane::start_objects(config, Arc::new(StoreSink(store.clone())), Arc::new(InlineCompute), ports)
}

impl Bench {
    fn start(piece_bytes: usize) -> Self {
        let limits = MergeLimits { bytes_max: 10_000, age_max: AGE, pieces_max: 20, patience: PATIENCE };
        Self::with(piece_bytes, limits, 8 << 20)
    }

    fn with(piece_bytes: usize, limits: MergeLimits, memory_part: u64) -> Self {
        let (store, clock) = (Store::new(piece_bytes, limits), Arc::new(SimulatedClock::new(1_700_000_000)));
        let lane = lane(&store, &clock, memory_part, 1);
        Self { store, lane, clock }
    }

    fn ship(&self, key: &str) -> Share {
        ship_to(&self.lane, key)
    }

    async fn pass(&self, time: Duration) {
        self.clock.sleep(time).await;
    }

    #[track_caller]
    fn nothing_is_lost_from_the_books(&self) {
        let stats = self.lane.stats();
        let ended: u64 = Outcome::ALL.iter().map(|&outcome| stats.count(outcome)).sum();
        assert_eq!((stats.offered(), stats.in_flight(), stats.held_bytes()), (ended, 0, 0));
    }
}

/// A pass over a whole log file of three events.
fn ship_to(lane: &Lane, key: &str) -> Share {
    let share = Share::new();
    ship_again(lane, key, &share);
    share
}

fn ship_again(lane: &Lane, key: &str, share: &Share) {
    let mut reader = LogFileReader::new(Limits::default());
    let mut chunks = Vec::new();
    reader.push(br#"{"Records":[{"a":1},{"a":2},{"a":3}]}"#, &mut chunks).unwrap();
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
    let pass = lane.begin(share);
    chunks.into_iter().for_each(|chunk| pass.offer(&Arc::new(maker.make(chunk).parcel)));
    pass.ended();
    share.ended(3);
}

fn folder(name: &str, pieces: usize) -> (String, usize) {
    (name.to_owned(), pieces)
}

#[tokio::test(start_paused = true)]
async fn log_files_wait_for_others_of_their_folder_until_the_first_is_old() {
    let bench = Bench::start(100);
    let first = bench.ship("a/1");
    bench.pass(AGE / 2).await;
    let (second, other) = (bench.ship("a/2"), bench.ship("b/4"));
    bench.pass(AGE / 2 - Duration::from_secs(1)).await;
    assert_eq!((first.account().open, bench.store.objects.lock().unwrap().len()), (3, 0));
    bench.pass(Duration::from_secs(2)).await;
    assert!(first.idle().await.is_closed() && second.idle().await.is_closed());
    assert_eq!((bench.store.visible(), other.account().open), (vec![folder("a", 2)], 3));
    bench.pass(AGE / 2).await;
    assert!(other.idle().await.is_closed());
    assert_eq!(bench.store.visible(), [folder("a", 2), folder("b", 1)]);
    assert_eq!(bench.lane.stats().count(Outcome::Delivered), 9);
    bench.nothing_is_lost_from_the_books();
}

#[tokio::test(start_paused = true)]
async fn a_group_is_closed_at_once_where_it_has_enough_bytes_or_log_files() {
    for (piece_bytes, pieces) in [(4_000, 3), (10, 20)] {
        let bench = Bench::start(piece_bytes);
        let mut shares = Vec::new();
        for number in 0..pieces {
            shares.push(bench.ship(&format!("a/{number}")));
            assert!(bench.store.visible().is_empty());
            bench.pass(Duration::from_millis(10)).await;
        }
        assert!(shares.iter().all(|share| share.account().is_closed()));
        assert_eq!(bench.store.visible(), [folder("a", pieces)]);
    }
}

#[tokio::test(start_paused = true)]
async fn where_memory_is_short_the_largest_group_is_closed_and_log_files_go_on_to_be_taken() {
    let limits = MergeLimits { bytes_max: 1 << 40, age_max: AGE, pieces_max: 1 << 20, patience: PATIENCE };
    let bench = Bench::with(4_000, limits, 2 << 20);
    let mut most = 0;
    let mut shares = Vec::new();
    for number in 0..400 {
        let share = Share::new();
        bench.lane.begin(&share).room(&*bench.clock).await;
        ship_again(&bench.lane, &format!("a/{number}"), &share);
        shares.push(share);
        bench.pass(Duration::from_millis(10)).await;
        most = most.max(bench.lane.stats().held_bytes());
    }
    assert!(most < 1 << 20, "{most} bytes are held");
    assert!(bench.clock.monotonic() < AGE, "nobody has waited for old age");
    bench.pass(AGE).await;
    assert!(shares.iter().all(|share| share.account().is_closed()));
    let visible = bench.store.visible();
    assert_eq!(visible.iter().map(|(_, pieces)| pieces).sum::<usize>(), 400);
    assert!((3..8).contains(&visible.len()), "a quarter of the memory each: {visible:?}");
    bench.nothing_is_lost_from_the_books();
}

#[tokio::test(start_paused = true)]
async fn a_log_file_that_comes_twice_stands_once_whether_it_still_waits_or_is_stored() {
    let bench = Bench::start(100);
    let (first, twin) = (bench.ship("a/1"), bench.ship("a/1"));
    bench.pass(AGE).await;
    assert!(first.idle().await.is_closed() && twin.idle().await.is_closed());
    let late = bench.ship("a/1");
    bench.pass(AGE).await;
    assert!(late.idle().await.is_closed());
    assert_eq!(bench.store.visible(), [folder("a", 1)]);
    let stats = bench.lane.stats();
    assert_eq!((stats.count(Outcome::Delivered), stats.count(Outcome::Duplicate)), (6, 3));
    bench.nothing_is_lost_from_the_books();
}

#[tokio::test(start_paused = true)]
async fn two_agents_with_the_same_log_files_store_each_of_them_once() {
    let bench = Bench::start(100);
    let other = lane(&bench.store, &bench.clock, 8 << 20, 2);
    let keys: Vec<String> = (0..10).map(|number| format!("a/{number}")).collect();
    let mut shares: Vec<Share> = keys.iter().take(7).map(|key| bench.ship(key)).collect();
    shares.extend(keys.iter().skip(3).map(|key| ship_to(&other, key)));
    bench.pass(AGE + AGE).await;
    assert!(shares.iter().all(|share| share.account().is_closed()));
    assert_eq!(bench.store.visible().iter().map(|(_, pieces)| pieces).sum::<usize>(), 10);
    assert_eq!((bench.store.visible().len(), bench.store.voids()), (2, 0));
    bench.nothing_is_lost_from_the_books();
}

fn refuse() -> Result<(), StoreError> {
    Err(StoreError::Denied(Reason::new(ReasonCode::Unauthorized, "403")))
}

#[tokio::test(start_paused = true)]
async fn denied_it_lets_go_and_probes_and_what_is_read_again_is_stored_once() {
    let bench = Bench::start(100);
    let (first, second, other) = (bench.ship("a/1"), bench.ship("a/2"), bench.ship("b/4"));
    // Claimed and listed, but not stored.
    bench.store.now(|name| if name.starts_with("a/") { refuse() } else { Ok(()) });
    bench.pass(AGE + Duration::from_secs(1)).await;
    bench.lane.health().wait_for(LaneState::is_shut).await;
    bench.store.now(|_| Ok(()));
    bench.lane.health().wait_for(LaneState::is_open).await;
    for (key, share) in [("a/1", &first), ("a/2", &second), ("b/4", &other)] {
        if !share.idle().await.is_closed() {
            ship_again(&bench.lane, key, share);
        }
    }
    bench.pass(AGE + AGE).await;
    assert!([first, second, other].iter().all(|share| share.account().is_closed()));
    assert_eq!(bench.store.visible().iter().map(|(_, pieces)| pieces).sum::<usize>(), 3);
    bench.nothing_is_lost_from_the_books();
}

#[tokio::test(start_paused = true)]
async fn what_another_has_begun_and_not_stored_waits_and_is_then_taken_from_it() {
    let bench = Bench::start(100);
    // The other one dies between its list and its object; not all of what it had comes here.
    let dying = lane(&bench.store, &bench.clock, 8 << 20, 2);
    bench.store.now(|name| if name.starts_with("a/") { refuse() } else { Ok(()) });
    for key in ["a/1", "a/2", "a/3"] {
        ship_to(&dying, key);
    }
    bench.pass(AGE + Duration::from_secs(1)).await;
    drop(dying);
    bench.store.now(|_| Ok(()));
    let (first, second) = (bench.ship("a/1"), bench.ship("a/2"));
    bench.pass(AGE + Duration::from_secs(60)).await;
    assert_eq!((first.account().open, bench.store.visible().len()), (3, 0), "it may still be alive");
    bench.pass(Duration::from_secs(61)).await;
    assert!(first.idle().await.is_closed() && second.idle().await.is_closed());
    assert_eq!((bench.store.visible(), bench.store.voids()), (vec![folder("a", 2)], 1));
    bench.nothing_is_lost_from_the_books();
}

#[tokio::test(start_paused = true)]
async fn a_group_that_was_made_void_meanwhile_is_let_go_of_and_read_again() {
    let bench = Bench::start(100);
    let voided = Arc::clone(&bench.store);
    bench.store.now(move |name| {
        if name.starts_with("a/") && voided.voids() == 0 {
            voided.objects.lock().unwrap().insert(name.to_owned(), Bytes::from_static(VOID));
        }
        Ok(())
    });
    let share = bench.ship("a/1");
    bench.pass(AGE + Duration::from_secs(1)).await;
    assert_eq!(share.idle().await.settled.count(), 0);
    assert_eq!((bench.store.visible().len(), bench.store.voids()), (0, 1));
    ship_again(&bench.lane, "a/1", &share);
    bench.pass(AGE + Duration::from_secs(1)).await;
    assert!(share.idle().await.is_closed());
    assert_eq!(bench.store.visible(), [folder("a", 1)]);
    bench.nothing_is_lost_from_the_books();
}

#[tokio::test(start_paused = true)]
async fn told_to_hurry_or_to_end_it_stores_what_waits() {
    let bench = Bench::start(100);
    let first = bench.ship("a/1");
    bench.pass(Duration::from_secs(1)).await;
    bench.lane.hurry();
    bench.pass(Duration::from_secs(1)).await;
    let second = bench.ship("a/2");
    bench.pass(Duration::from_secs(1)).await;
    assert!(first.account().is_closed() && second.account().is_closed());
    let other = Bench::start(100);
    let share = other.ship("a/1");
    other.lane.finish(Duration::from_secs(5), &*other.clock).await;
    assert!(share.account().is_closed());
    assert_eq!(other.store.visible(), [folder("a", 1)]);
    bench.nothing_is_lost_from_the_books();
}
