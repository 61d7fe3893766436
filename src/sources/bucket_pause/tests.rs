//! A bucket that refuses us, in virtual time.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;
use std::sync::atomic::AtomicU32;

use cloudtrail::{Handoff, ObjectRef};
use testkit::ports::SimulatedClock;

use super::gate::Kind;
use super::*;

/// A bucket that denies everything, some keys, or nothing.
#[derive(Default)]
struct Store {
    shut: AtomicBool,
    denied: Mutex<BTreeSet<String>>,
    asked: AtomicU32,
    /// How long an answer takes.
    slow: Mutex<Duration>,
}

struct Object {
    store: Arc<Store>,
    key: String,
}

struct Nothing;

#[async_trait]
impl crate::worker::fetch::Stream for Nothing {
    async fn next(&mut self) -> Result<Option<bytes::Bytes>, FetchError> {
        Ok(None)
    }
}

#[async_trait]
impl Fetch for Object {
    async fn open(&self, _: u64, _: &Version) -> Result<Opened, FetchError> {
        self.store.asked.fetch_add(1, Ordering::Relaxed);
        // What was asked for while it was open is let in, however late the answer.
        let is_denied =
            self.store.shut.load(Ordering::Relaxed) || self.store.denied.lock().unwrap().contains(&self.key);
        let slow = *self.store.slow.lock().unwrap();
        tokio::time::sleep(slow).await;
        if is_denied {
            return Err(FetchError::Denied("s3://b/k: AccessDenied (HTTP 403) Access Denied".to_owned()));
        }
        Ok(Opened { stream: Box::new(Nothing), version: Version::default(), len: Some(0) })
    }
}

struct Bed {
    pauses: Arc<BucketPauses>,
    metrics: Arc<Metrics>,
    store: Arc<Store>,
}

impl Bed {
    fn new() -> Self {
        let metrics = Arc::new(Metrics::new(&[], &[]));
        let clock = Arc::new(SimulatedClock::new(1_700_000_000));
        Self { pauses: BucketPauses::new(Arc::clone(&metrics), clock), metrics, store: Arc::default() }
    }

    fn object(&self, key: &str) -> Arc<dyn Fetch> {
        let object = Object { store: Arc::clone(&self.store), key: key.to_owned() };
        self.pauses.guard("s", "b", key, Arc::new(object))
    }

    async fn open(&self, key: &str) -> bool {
        self.object(key).open(0, &Version::default()).await.is_ok()
    }

    /// Reads an object as a job does, until it could be read.
    fn read(&self, key: &str) -> tokio::task::JoinHandle<()> {
        let object = self.object(key);
        tokio::spawn(async move {
            loop {
                while !object.is_open() {
                    object.opened().await;
                }
                if object.open(0, &Version::default()).await.is_ok() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        })
    }

    fn is_paused(&self) -> bool {
        let text = self.metrics.text();
        let is_ok = text.contains("trailship_trail_check_ok{check=\"bucket_access\"} 1");
        assert_eq!(is_ok, self.pauses.paused("s").is_empty(), "{text}");
        !is_ok
    }

    fn asked(&self) -> u32 {
        self.store.asked.load(Ordering::Relaxed)
    }
}

fn rule(name: &str) -> Bucket {
    Bucket {
        name: name.to_owned(),
        owner: None,
        prefix: String::new(),
        region: None,
        aws: "default".to_owned(),
    }
}

fn naming(buckets: &[&str]) -> Content {
    let object = |bucket: &&str| ObjectRef { bucket: (*bucket).to_owned(), ..ObjectRef::default() };
    Content::Objects(buckets.iter().map(object).collect())
}

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test(start_paused = true)]
async fn a_denial_pauses_its_bucket_and_one_probe_at_a_time_finds_out_when_it_ends() {
    let bed = Bed::new();
    bed.store.shut.store(true, Ordering::Relaxed);
    let readers: Vec<_> = (0..200).map(|number| bed.read(&number.to_string())).collect();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(bed.is_paused());
    let at_first = bed.asked();
    assert!(at_first <= 201, "{at_first}");
    tokio::time::sleep(HOUR).await;
    // After 1, 2, 4, 8, 16 and 32 seconds, then every minute.
    let probes = bed.asked() - at_first;
    assert!((55..=70).contains(&probes), "{probes}");
    assert_eq!(bed.pauses.paused("s")[0].waiting, 200);
    assert_eq!(bed.pauses.paused("other"), []);
    bed.store.shut.store(false, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(62)).await;
    assert!(readers.iter().all(tokio::task::JoinHandle::is_finished));
    assert!(!bed.is_paused());
    assert_eq!(bed.asked(), at_first + probes + 200, "each was asked for once more");
}

#[tokio::test(start_paused = true)]
async fn one_object_that_is_denied_does_not_keep_the_others_from_being_read() {
    let bed = Bed::new();
    bed.store.denied.lock().unwrap().insert("bad".to_owned());
    // The first that is tried is the bad one.
    let bad = bed.read("bad");
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(bed.is_paused(), "nothing else has been let in yet");
    let good: Vec<_> = (0..50).map(|number| bed.read(&number.to_string())).collect();
    tokio::time::sleep(Duration::from_secs(62)).await;
    assert!(good.iter().all(tokio::task::JoinHandle::is_finished));
    // It goes on failing, and the bucket is well.
    for number in 100..400 {
        assert!(bed.open(&number.to_string()).await, "{number}");
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert!(!bed.is_paused(), "{number}");
    }
    assert!(!bad.is_finished());
}

#[tokio::test(start_paused = true)]
async fn many_objects_that_are_denied_among_others_pause_nothing_under_load() {
    let bed = Bed::new();
    for number in (0..200).step_by(2) {
        bed.store.denied.lock().unwrap().insert(number.to_string());
    }
    assert!(bed.open("1001").await);
    for number in 0..200_u32 {
        let reader = bed.read(&number.to_string());
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!bed.is_paused(), "{number}");
        assert_eq!(reader.is_finished(), number % 2 == 1, "{number}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_what_was_asked_before_the_denial_opens_nothing() {
    let bed = Bed::new();
    *bed.store.slow.lock().unwrap() = Duration::from_millis(500);
    let early = bed.object("early");
    let early = tokio::spawn(async move { early.open(0, &Version::default()).await.is_ok() });
    tokio::time::sleep(Duration::from_millis(10)).await;
    *bed.store.slow.lock().unwrap() = Duration::ZERO;
    bed.store.shut.store(true, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert!(!bed.open("late").await);
    assert!(bed.is_paused());
    assert!(early.await.unwrap());
    assert!(bed.is_paused(), "it was let in before");
}

#[tokio::test(start_paused = true)]
async fn what_finds_no_room_to_wait_stays_away_for_as_long_as_the_pause_has_lasted() {
    let bed = Bed::new();
    bed.store.shut.store(true, Ordering::Relaxed);
    let away = |content: &Content| bed.pauses.turns_away("s", 20, content);
    let wanted = |rules: &[&Bucket]| bed.pauses.want_messages("s", 20, rules);
    let _four: Vec<_> = (0..4).map(|number| bed.read(&number.to_string())).collect();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(wanted(&[&rule("b")]));
    let _five: Vec<_> = (4..9).map(|number| bed.read(&number.to_string())).collect();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(away(&naming(&["b"])), None, "there is room for ten");
    let _tenth = bed.read("9");
    let _eleventh = bed.read("10");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(away(&naming(&["b", "b"])), Some(AWAY_MIN));
    assert_eq!(away(&naming(&["b", "c"])), None, "there is something to do in it");
    assert_eq!(away(&Content::Nothing(cloudtrail::NothingReason::TestEvent)), None);
    let handoff = Handoff {
        bucket: "b".to_owned(),
        key: "k".to_owned(),
        version_id: None,
        etag: None,
        sink: "search".to_owned(),
        ranges: std::iter::once(0..1).collect(),
        attempts: 0,
        first_seen: cloudtrail::Timestamp::from_millis(0),
    };
    assert_eq!(away(&Content::Handoff(vec![handoff])), Some(AWAY_MIN));
    assert!(!wanted(&[&rule("b")]), "messages are better off on their queue");
    assert!(wanted(&[&rule("b"), &rule("c")]) && wanted(&[&rule("*")]) && wanted(&[&rule("b*")]));
    tokio::time::sleep(2 * HOUR).await;
    assert!(away(&naming(&["b"])).is_some_and(|away| away >= 2 * HOUR));
    tokio::time::sleep(100 * HOUR).await;
    assert_eq!(away(&naming(&["b"])), Some(AWAY_MAX));
}

#[test]
fn what_is_wrong_is_told_by_code_and_message_and_not_by_the_key() {
    for (text, kind) in [
        ("s3://b/k: AccessDenied (HTTP 403) Access Denied", Kind::Access),
        ("s3://b/kms NoSuchBucket (HTTP 1: AccessDenied (HTTP 403) Access Denied", Kind::Access),
        ("s3://b/k: NoSuchBucket (HTTP 404) The specified bucket does not exist", Kind::NoBucket),
        (
            "s3://b/k: AccessDenied (HTTP 403) User: arn:aws:iam::1:role/r is not authorized to perform: kms:Decrypt \
             on the resource associated with this ciphertext",
            Kind::Key,
        ),
        ("s3://b/k: KMS.DisabledException (HTTP 400) The request was rejected", Kind::Key),
        (
            "s3://b/k: PermanentRedirect (HTTP 301) elsewhere: the bucket is in eu-west-1: set `region` in `buckets`",
            Kind::Region,
        ),
        ("s3://b/k: InvalidAccessKeyId (HTTP 403) no such key", Kind::Access),
        ("anything", Kind::Access),
    ] {
        assert_eq!(Kind::of(text), kind, "{text}");
    }
}
