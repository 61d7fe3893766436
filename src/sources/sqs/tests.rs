//! A queue source against the stand-ins of SQS and S3, with one simulated sink.
#![allow(clippy::unwrap_used, clippy::panic)]

mod ledger;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use async_trait::async_trait;
use aws_sdk_sqs::config::Credentials;
use cloudtrail::{Field, Handoff};
use sinks::{
    Attempt, BatchConfig, Budget, Encoded, Event, Judgement, Lane, LaneConfig, LanePorts, Reason, ReasonCode,
    Shape, Sink, Unobserved, Verdict,
};
use testkit::aws::{Aws, AwsOptions, BucketOptions};
use testkit::generate::Generator;
use testkit::ports::{InlineCompute, MemoryDeadLetters, SeededRandom};

use super::*;
use crate::config::{AwsIdentity, Bucket, Endpoints, Selection};
use crate::lanes::Lanes;
use crate::ledger::Deliveries;
use crate::sources::leases::tests::TurnedClock;
use crate::telemetry::Metrics;
use crate::worker::{Owed, ReadSettings};

/// A destination that counts how often it was given each event, and does not answer while it hangs.
#[derive(Default)]
struct Counting {
    times: Mutex<BTreeMap<String, u32>>,
    hangs: AtomicBool,
    denies: AtomicBool,
    /// Requests that are answered before it hangs.
    good: AtomicU32,
}

#[async_trait]
impl Sink for Counting {
    fn encoded_len(&self, event: &Event) -> usize {
        event.bytes().len()
    }

    async fn encode(&self, _events: &Arc<[Event]>, _shape: Shape) -> Result<Encoded, Reason> {
        Ok(Encoded::default())
    }

    async fn send(&self, events: &[Event], _encoded: &Encoded, _attempt: &Attempt) -> Judgement {
        let less = |good: u32| good.checked_sub(1);
        let is_good = self.good.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok();
        while self.hangs.load(Ordering::Relaxed) && !is_good {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        if self.denies.load(Ordering::Relaxed) {
            return Judgement::Denied(Reason::new(ReasonCode::Unauthorized, "401"));
        }
        let mut times = self.times.lock().unwrap();
        for event in events {
            *times.entry(event.text(Field::EventId).unwrap_or_default().into_owned()).or_default() += 1;
        }
        Judgement::all(events.len(), &Verdict::Delivered)
    }
}

pub(super) struct Bed {
    pub(super) aws: Aws,
    pub(super) clock: Arc<TurnedClock>,
    metrics: Arc<Metrics>,
    sink: Arc<Counting>,
    pub(super) source: Arc<SqsSource>,
    /// Tells the bundles to stop.
    _never: tokio::sync::watch::Sender<bool>,
}

fn lane(sink: &Arc<Counting>, clock: &Arc<TurnedClock>) -> Arc<Lane> {
    let config = LaneConfig {
        name: "sink".to_owned(),
        sink_type: "counting".to_owned(),
        batch: BatchConfig { bytes_max: 1 << 20, events_max: 50, age_max: Duration::from_millis(20) },
        retry: RetryConfig::default(),
        concurrency_min: 1,
        concurrency_max: 2,
        ack_timeout: Duration::from_secs(1),
        memory_part: 1 << 20,
    };
    let ports = LanePorts {
        clock: clock.clone(),
        random: Arc::new(SeededRandom::new(1)),
        dead_letters: Arc::new(MemoryDeadLetters::new()),
        observer: Arc::new(Unobserved),
    };
    Arc::new(Lane::start(config, sink.clone(), ports))
}

fn settings(aws: &Aws) -> (AwsIdentity, Sqs) {
    let url = Some(aws.url());
    let identity = AwsIdentity {
        region: Some("us-east-1".to_owned()),
        endpoints: Endpoints { s3: url.clone(), sqs: url.clone(), sts: url, ..Endpoints::default() },
        ..AwsIdentity::default()
    };
    let bucket = Bucket {
        name: "trail".to_owned(),
        owner: None,
        prefix: String::new(),
        region: None,
        aws: "default".to_owned(),
    };
    let config = Sqs {
        queue_url: aws.queue("q").url(),
        handoff_queue_url: None,
        region: None,
        aws: "default".to_owned(),
        buckets: vec![Bucket { name: "closed".to_owned(), ..bucket.clone() }, bucket],
        wait: Duration::ZERO,
        visibility_timeout: Duration::from_secs(300),
        fetch_concurrency: 2,
        leases_max: 100,
        read_attempts: 5,
        inline_events: true,
    };
    (identity, config)
}

impl Bed {
    pub(super) async fn new() -> Self {
        Self::with(Deliveries::unknown()).await
    }

    async fn with(deliveries: Deliveries) -> Self {
        Self::made(deliveries, true, Duration::ZERO).await
    }

    /// With a sink that is required or not, and a queue that is waited for so long.
    async fn made(deliveries: Deliveries, required: bool, wait: Duration) -> Self {
        let aws = Aws::start(AwsOptions::default()).await.unwrap();
        aws.create_queue("q");
        aws.create_bucket("trail", BucketOptions::default());
        let (identity, mut config) = settings(&aws);
        config.wait = wait;
        let credentials = Credentials::new("AKIATESTKIT", "secret", None, None, "test");
        let identity = Arc::new(crate::aws::Aws::load(&identity, Some(credentials)).await);
        let (clock, sink) = (Arc::new(TurnedClock::new()), Arc::<Counting>::default());
        let metrics = Arc::new(Metrics::new(&["s".to_owned()], &["sink".to_owned()]));
        let lanes = Lanes::new(vec![lane(&sink, &clock)], Budget::new(4 << 20), clock.clone());
        let plan = Arc::new(Plan {
            settings: ReadSettings::default(),
            lanes: Arc::new(lanes),
            compute: Arc::new(InlineCompute),
            clock: clock.clone(),
            random: Arc::new(SeededRandom::new(2)),
            dead_letters: Arc::new(MemoryDeadLetters::new()),
            required: vec![required],
            owed: Owed::new(1),
            deliveries,
        });
        let meter = SourceMeter::new("s", vec!["sink".to_owned()], Arc::clone(&metrics), clock.clone());
        let meter = Arc::new(meter);
        let client = identity.sqs(None);
        let leases = Leases::start(
            client.clone(),
            config.queue_url.clone(),
            config.visibility_timeout,
            clock.clone(),
            Arc::clone(&plan.random),
            meter.clone(),
        );
        let allow = |rule: &Bucket| AllowedBucket { rule: rule.clone(), aws: Arc::clone(&identity) };
        let every_kind = Selection::default();
        let (never, stop) = Stop::pair();
        let bundles = Bundles::start(client.clone(), config.queue_url.clone(), "s", &plan, stop);
        let source = Arc::new(SqsSource {
            name: "s".to_owned(),
            queue_url: config.queue_url.clone(),
            only_handoffs: false,
            bundles,
            buckets: config.buckets.iter().map(allow).collect(),
            filter: Filter { include: every_kind.clone(), exclude: every_kind },
            labels: Vec::new(),
            client,
            plan,
            meter,
            leases,
            pauses: BucketPauses::new(Arc::clone(&metrics), clock.clone()),
            shipped: Arc::default(),
            slots: Arc::new(Semaphore::new(config.fetch_concurrency)),
            config,
        });
        Self { aws, clock, metrics, sink, source, _never: never }
    }

    /// Puts a log file of 20 events into the bucket; its key.
    fn put(&self, seed: u64) -> String {
        self.put_of(seed, 20)
    }

    fn put_of(&self, seed: u64, events: usize) -> String {
        let file = Generator::new(seed).log_file(events);
        self.aws.put_object("trail", &file.key, file.gz).unwrap();
        file.key
    }

    /// Sends a notification of objects, by bucket and key.
    fn notify(&self, objects: &[(&str, &str)]) {
        let record = |(bucket, key): &(&str, &str)| {
            serde_json::json!({
                "eventVersion": "2.1", "eventSource": "aws:s3", "eventName": "ObjectCreated:Put",
                "awsRegion": "us-east-1", "s3": { "bucket": { "name": bucket }, "object": { "key": key } },
            })
        };
        let records: Vec<_> = objects.iter().map(record).collect();
        self.aws.queue("q").send(&serde_json::json!({ "Records": records }).to_string()).unwrap();
    }

    async fn until(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        for _ in 0..1000 {
            if is_so(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("never: {what}");
    }

    fn ended(&self, shape: &str, outcome: &str) -> u64 {
        self.metrics.counter("queue_messages_total", &["s", shape, outcome]).get()
    }

    fn fetches(&self, key: &str) -> usize {
        self.aws.object_requests().iter().filter(|request| request.key == key).count()
    }
}

#[tokio::test]
async fn an_empty_queue_is_known_to_answer_within_two_seconds_and_is_waited_for_after_that() {
    let bed = Bed::made(Deliveries::unknown(), true, Duration::from_secs(20)).await;
    let (ask, stop) = Stop::pair();
    let began = tokio::time::Instant::now();
    let running = tokio::spawn(Arc::clone(&bed.source).run(stop.clone(), stop));
    let answered = "trailship_source_last_receive_timestamp_seconds{source=\"s\"} ";
    let has_answered = |bed: &Bed| !bed.metrics.text().contains(&format!("{answered}0\n"));
    bed.until("it has answered", has_answered).await;
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    // Whoever asks for a second at a time would ask twice by now.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(bed.aws.arrived("ReceiveMessage"), 2);
    ask.send(true).unwrap();
    running.await.unwrap();
}

#[tokio::test]
async fn the_good_part_of_a_message_that_stays_is_shipped_once() {
    let bed = Bed::new().await;
    let (first, second) = (bed.put(1), bed.put(2));
    bed.notify(&[("trail", &first), ("somebody-else", &second), ("trail", &second)]);
    let (ask, stop) = Stop::pair();
    let running = tokio::spawn(Arc::clone(&bed.source).run(stop.clone(), stop));
    for times in 1..=3 {
        bed.until("refused", |bed| bed.ended("s3", "refused") == times).await;
        assert_eq!(bed.aws.queue("q").counts().in_flight, 1, "it stays, and is not given back");
        bed.aws.advance(Duration::from_secs(301));
    }
    assert_eq!((bed.fetches(&first), bed.fetches(&second)), (1, 1));
    let times = bed.sink.times.lock().unwrap().clone();
    assert_eq!(times.len(), 40);
    assert!(times.values().all(|&times| times == 1));
    ask.send(true).unwrap();
    running.await.unwrap();
}

#[tokio::test]
async fn a_part_that_is_not_done_is_shipped_when_its_message_comes_again() {
    let bed = Bed::new().await;
    let (first, second) = (bed.put(1), bed.put(2));
    bed.aws.deny_kms("trail", Some(&second), true).unwrap();
    bed.notify(&[("trail", &first), ("trail", &second)]);
    let (ask, stop) = Stop::pair();
    let running = tokio::spawn(Arc::clone(&bed.source).run(stop.clone(), stop));
    // Others of its bucket are let in: it is this one's own affair, and the bucket is not paused for it.
    let mut others = 0;
    while bed.ended("s3", "kept") == 0 {
        others += 1;
        let other = bed.put(100 + others);
        bed.notify(&[("trail", &other)]);
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(others < 100, "never kept");
    }
    assert_eq!(bed.source.pauses.paused("s"), []);
    bed.aws.deny_kms("trail", Some(&second), false).unwrap();
    bed.aws.advance(Duration::from_secs(301));
    bed.until("deleted", |bed| bed.aws.queue("q").counts().is_empty()).await;
    let times = bed.sink.times.lock().unwrap().clone();
    let expected = 20 * (2 + usize::try_from(others).unwrap());
    assert_eq!((times.len(), bed.fetches(&first)), (expected, 1));
    assert!(times.values().all(|&times| times == 1));
    ask.send(true).unwrap();
    running.await.unwrap();
}

#[tokio::test]
async fn a_bucket_that_refuses_us_for_days_costs_few_receives_and_holds_up_no_other() {
    let bed = Bed::new().await;
    bed.aws.create_queue("q").redrive_to("dead", 10).unwrap();
    bed.aws.create_bucket("closed", BucketOptions { kms_denied: true, ..BucketOptions::default() });
    let mut waiting = Vec::new();
    for seed in 1..=12 {
        let file = Generator::new(seed).log_file(20);
        bed.aws.put_object("closed", &file.key, file.gz).unwrap();
        bed.notify(&[("closed", &file.key)]);
        waiting.push(file.key);
    }
    let (ask, stop) = Stop::pair();
    let running = tokio::spawn(Arc::clone(&bed.source).run(stop.clone(), stop));
    let all_wait = |bed: &Bed| {
        let counts = bed.aws.queue("q").counts();
        (counts.visible, counts.in_flight) == (0, 12)
            && bed.source.pauses.paused("s").iter().map(|bucket| bucket.waiting).sum::<usize>() >= 11
    };
    bed.until("all wait", all_wait).await;
    let paused = bed.source.pauses.paused("s");
    assert_eq!((paused.len(), paused[0].bucket.as_str()), (1, "closed"));
    assert!(paused[0].remedy.contains("kms:Decrypt"), "{paused:?}");
    let step = Duration::from_secs(100);
    for number in 0..(36 * 36_u64) {
        bed.clock.turn(step);
        bed.aws.advance(step);
        bed.source.leases.extend_due().await;
        bed.until("all wait", all_wait).await;
        if number.is_multiple_of(200) {
            let key = bed.put(1_000 + number);
            bed.notify(&[("trail", &key)]);
            bed.until("the other bucket's is done", |bed| bed.ended("s3", "done") == 1 + number / 200).await;
        }
    }
    let histories = bed.aws.queue("q").messages();
    let receives = |key: &String| {
        let of = histories.iter().find(|message| message.body.contains(key)).unwrap();
        of.deliveries.len()
    };
    // A day and a half are three leases and a bit.
    let most = waiting.iter().map(receives).max().unwrap();
    assert!((2..=5).contains(&most), "{most}");
    assert!(!histories.iter().any(|message| message.dead_lettered));

    bed.aws.deny_kms("closed", None, false).unwrap();
    // Those that wait sleep in real time; one that comes now sees by the clock that a probe is due.
    bed.clock.turn(Duration::from_secs(120));
    bed.aws.advance(Duration::from_secs(120));
    let probe = Generator::new(99).log_file(20);
    bed.aws.put_object("closed", &probe.key, probe.gz).unwrap();
    bed.notify(&[("closed", &probe.key)]);
    bed.until("it opens by itself", |bed| bed.aws.queue("q").counts().is_empty()).await;
    assert!(waiting.iter().all(|key| bed.fetches(key) >= 1));
    assert!(bed.sink.times.lock().unwrap().values().all(|&times| times == 1));
    assert_eq!(bed.source.pauses.paused("s"), []);
    ask.send(true).unwrap();
    running.await.unwrap();
}

#[tokio::test]
async fn a_log_file_ends_with_the_lease_of_its_message() {
    let bed = Bed::new().await;
    bed.sink.hangs.store(true, Ordering::Relaxed);
    let key = bed.put(1);
    bed.notify(&[("trail", &key)]);
    let (ask, stop) = Stop::pair();
    let running = tokio::spawn(Arc::clone(&bed.source).run(stop.clone(), stop));
    let in_flight = |bed: &Bed| bed.source.plan.lanes.all()[0].stats().in_flight() == 20;
    bed.until("under way", in_flight).await;
    for _ in 0..47 {
        bed.clock.turn(Duration::from_secs(900));
        bed.source.leases.extend_due().await;
    }
    bed.until("given back", |bed| bed.ended("s3", "kept") == 1).await;
    bed.until("received again at once, since no sink has anything of it", |bed| bed.fetches(&key) == 2).await;
    ask.send(true).unwrap();
    running.await.unwrap();
}

/// The hand-offs on the queue.
fn handoffs(bed: &Bed) -> Vec<Handoff> {
    let bodies = bed.aws.queue("q").bodies();
    bodies.iter().filter_map(|body| Handoff::read_list(body).ok()).flatten().collect()
}

fn handoff(key: &str, sink: &str) -> Handoff {
    Handoff {
        bucket: "trail".to_owned(),
        key: key.to_owned(),
        version_id: None,
        etag: None,
        sink: sink.to_owned(),
        ranges: vec![5..8, 10..u64::MAX],
        attempts: 0,
        first_seen: cloudtrail::Timestamp::from_millis(0),
    }
}

#[tokio::test]
async fn a_log_file_that_outlasts_its_lease_is_handed_off_from_what_is_settled() {
    let bed = Bed::new().await;
    // Two batches of 50 are delivered; nothing more ever is.
    bed.sink.hangs.store(true, Ordering::Relaxed);
    bed.sink.good.store(2, Ordering::Relaxed);
    let key = bed.put_of(1, 300);
    bed.notify(&[("trail", &key)]);
    let (ask, stop) = Stop::pair();
    let running = tokio::spawn(Arc::clone(&bed.source).run(stop.clone(), stop));
    let delivered = |bed: &Bed| bed.sink.times.lock().unwrap().len() == 100;
    bed.until("delivered in part", delivered).await;
    for _ in 0..47 {
        bed.clock.turn(Duration::from_secs(900));
        bed.source.leases.extend_due().await;
    }
    bed.until("handed off", |bed| bed.ended("s3", "handed_off") == 1).await;
    let handoffs = handoffs(&bed);
    assert_eq!(handoffs.len(), 1);
    assert_eq!(handoffs[0].ranges, std::slice::from_ref(&(100..300)));
    let counts = bed.aws.queue("q").counts();
    assert_eq!((counts.in_flight, counts.visible, counts.delayed), (0, 0, 1), "the original is deleted");
    ask.send(true).unwrap();
    running.await.unwrap();
}

#[tokio::test]
async fn a_hand_off_is_delivered_to_its_sink_and_deleted() {
    let bed = Bed::new().await;
    let key = bed.put(1);
    bed.aws.queue("q").send(&Handoff::write_list(&[handoff(&key, "sink")]).unwrap()).unwrap();
    let (ask, stop) = Stop::pair();
    let running = tokio::spawn(Arc::clone(&bed.source).run(stop.clone(), stop));
    // The queue knows it before the agent does.
    let is_done = |bed: &Bed| bed.aws.queue("q").counts().is_empty() && bed.ended("handoff", "done") == 1;
    bed.until("deleted", is_done).await;
    assert_eq!(bed.sink.times.lock().unwrap().len(), 13);
    ask.send(true).unwrap();
    running.await.unwrap();
}

#[tokio::test]
async fn a_hand_off_for_a_sink_that_is_shut_is_sent_on_and_nothing_is_fetched() {
    let bed = Bed::new().await;
    bed.sink.denies.store(true, Ordering::Relaxed);
    let probe = bed.put(1);
    bed.notify(&[("trail", &probe)]);
    let (ask, stop) = Stop::pair();
    let running = tokio::spawn(Arc::clone(&bed.source).run(stop.clone(), stop));
    bed.until("shut, with enough to probe with", |bed| bed.source.plan.lanes.wanted_by(0) == 0).await;
    // While no sink accepts nothing is received: another lane's log files are what brings hand-offs here.
    let keys = [bed.put(2), bed.put(3)];
    let list = keys.each_ref().map(|key| handoff(key, "sink"));
    let (_nobody, never) = Stop::pair();
    let lease = bed.source.leases.hold("x".to_owned(), Duration::ZERO);
    let message =
        || Received { id: "m", bytes: 10, lease: &lease, slot: None, stop: &never, finished: &never };
    let turning = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        bed.clock.turn(Duration::from_secs(11));
        // Its own message is of no interest here.
        let other = bed.source.bundles.send_on(vec![handoff("other", "other")]);
        let _ = tokio::time::timeout(Duration::from_secs(1), other).await;
    };
    let (end, ()) = tokio::join!(bed.source.ship_handoffs(list.to_vec(), message()), turning);
    assert_eq!(end, MessageEnd::HandedOff);
    assert_eq!((bed.fetches(&keys[0]), bed.fetches(&keys[1])), (0, 0));
    let sent: Vec<Handoff> = handoffs(&bed).into_iter().filter(|handoff| handoff.sink == "sink").collect();
    assert_eq!(sent, list.map(|handoff| Handoff { attempts: 1, ..handoff }));
    // Had the deletion of the message failed, it would come again, and not be sent on twice.
    let again = keys.map(|key| handoff(&key, "sink"));
    assert_eq!(bed.source.ship_handoffs(again.to_vec(), message()).await, MessageEnd::HandedOff);
    assert_eq!(handoffs(&bed).iter().filter(|handoff| handoff.sink == "sink").count(), 2);
    ask.send(true).unwrap();
    running.await.unwrap();
}

#[tokio::test]
async fn a_hand_off_for_a_sink_that_nobody_knows_goes_back_later_and_is_told() {
    let bed = Bed::new().await;
    let key = bed.put(1);
    let list = [handoff(&key, "gone"), handoff(&key, "sink")];
    bed.aws.queue("q").send(&Handoff::write_list(&list).unwrap()).unwrap();
    let (ask, stop) = Stop::pair();
    let running = tokio::spawn(Arc::clone(&bed.source).run(stop.clone(), stop));
    bed.until("delivered", |bed| bed.sink.times.lock().unwrap().len() == 13).await;
    bed.until("sent on", |bed| bed.ended("handoff", "kept") == 1).await;
    assert_eq!(handoffs(&bed), [Handoff { attempts: 1, ..handoff(&key, "gone") }]);
    assert_eq!(bed.aws.queue("q").counts().delayed, 1);
    ask.send(true).unwrap();
    running.await.unwrap();
}

#[tokio::test]
async fn a_hand_off_that_can_be_neither_delivered_nor_sent_on_is_put_back_for_a_time() {
    let bed = Bed::new().await;
    bed.aws.inject(testkit::aws::FaultRule::new("SendMessage", testkit::aws::AwsFault::Forbidden));
    let key = bed.put(1);
    bed.aws.queue("q").send(&Handoff::write_list(&[handoff(&key, "gone")]).unwrap()).unwrap();
    let (ask, stop) = Stop::pair();
    let running = tokio::spawn(Arc::clone(&bed.source).run(stop.clone(), stop));
    bed.until("put back", |bed| bed.ended("handoff", "kept") == 1).await;
    assert_eq!((bed.source.leases.count(), bed.aws.queue("q").counts().in_flight), (0, 1));
    bed.aws.advance(Duration::from_secs(890));
    assert_eq!(bed.aws.queue("q").counts().visible, 0);
    bed.aws.advance(Duration::from_secs(11));
    bed.until("received again", |bed| bed.ended("handoff", "kept") == 2).await;
    ask.send(true).unwrap();
    running.await.unwrap();
}

#[tokio::test]
async fn a_source_whose_leases_are_not_extended_any_more_ends() {
    let bed = Bed::new().await;
    let (_ask, stop) = Stop::pair();
    // The heartbeat ends with this; the source was not asked to.
    let (gone, finished) = Stop::pair();
    drop(gone);
    let running = tokio::spawn(Arc::clone(&bed.source).run(stop, finished));
    tokio::time::timeout(Duration::from_secs(10), running).await.unwrap().unwrap();
}
