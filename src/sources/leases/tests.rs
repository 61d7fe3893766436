//! Leases on the stand-in's queue, through the real SDK; the clock that the leases see is turned by hand.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::atomic::AtomicU64;
use std::time::SystemTime;

use async_trait::async_trait;
use aws_sdk_sqs::config::{BehaviorVersion, Credentials, Region, retry::RetryConfig as SdkRetries};
use testkit::aws::{Aws, AwsFault, AwsOptions, FaultRule};
use testkit::ports::SeededRandom;

use super::*;

/// Real time that can be turned forward.
pub(in crate::sources) struct TurnedClock {
    start: tokio::time::Instant,
    turned_s: AtomicU64,
}

impl TurnedClock {
    pub(in crate::sources) fn new() -> Self {
        Self { start: tokio::time::Instant::now(), turned_s: AtomicU64::new(0) }
    }

    pub(in crate::sources) fn turn(&self, by: Duration) {
        self.turned_s.fetch_add(by.as_secs(), Ordering::Relaxed);
    }
}

#[async_trait]
impl Clock for TurnedClock {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + self.monotonic()
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed() + Duration::from_secs(self.turned_s.load(Ordering::Relaxed))
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

#[derive(Default)]
struct Told {
    extended: AtomicU64,
    lost: AtomicU64,
    late: AtomicU64,
    failed: AtomicU64,
    delete_failed: AtomicU64,
}

impl LeaseObserver for Told {
    fn extended(&self, outcome: &'static str, leases: u64) {
        let count = match outcome {
            "extended" => &self.extended,
            "lost" => &self.lost,
            "late" => &self.late,
            _ => &self.failed,
        };
        count.fetch_add(leases, Ordering::Relaxed);
    }

    fn delete_failed(&self, _error: &str) {
        self.delete_failed.fetch_add(1, Ordering::Relaxed);
    }
}

struct Bed {
    aws: Aws,
    client: aws_sdk_sqs::Client,
    clock: Arc<TurnedClock>,
    told: Arc<Told>,
    leases: Arc<Leases>,
}

impl Bed {
    /// A queue with so many messages, and nothing held.
    async fn new(messages: usize, visibility: Duration) -> Self {
        let aws = Aws::start(AwsOptions::default()).await.unwrap();
        aws.create_queue("q");
        for number in 0..messages {
            aws.queue("q").send(&format!("message {number}")).unwrap();
        }
        let config = aws_sdk_sqs::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .endpoint_url(aws.url())
            .region(Region::new("us-east-1"))
            .credentials_provider(Credentials::new("AKIATESTKIT", "secret", None, None, "test"))
            .retry_config(SdkRetries::disabled())
            .build();
        let client = aws_sdk_sqs::Client::from_conf(config);
        let clock = Arc::new(TurnedClock { start: tokio::time::Instant::now(), turned_s: AtomicU64::new(0) });
        let told: Arc<Told> = Arc::default();
        let random = Arc::new(SeededRandom::new(1));
        let url = aws.queue("q").url();
        let leases = Leases::start(client.clone(), url, visibility, clock.clone(), random, told.clone());
        Self { aws, client, clock, told, leases }
    }

    /// Receives up to ten messages and holds them.
    async fn hold(&self) -> Vec<Lease> {
        let asked_at = self.clock.monotonic();
        let seconds = i32::try_from(self.leases.visibility.as_secs()).unwrap();
        let request = self.client.receive_message().queue_url(self.aws.queue("q").url());
        let answer = request.max_number_of_messages(10).visibility_timeout(seconds).send().await.unwrap();
        let hold = |message: &aws_sdk_sqs::types::Message| {
            self.leases.hold(message.receipt_handle().unwrap().to_owned(), asked_at)
        };
        answer.messages().iter().map(hold).collect()
    }

    /// Time passes, for the queue as well.
    fn pass(&self, time: Duration) {
        self.clock.turn(time);
        self.aws.advance(time);
    }

    fn visible(&self) -> usize {
        self.aws.queue("q").counts().visible
    }

    fn in_flight(&self) -> usize {
        self.aws.queue("q").counts().in_flight
    }

    fn told(&self, count: &AtomicU64) -> u64 {
        count.load(Ordering::Relaxed)
    }
}

const HOUR: Duration = Duration::from_secs(3600);
const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_deletion_that_fails_is_tried_again_while_the_lease_lasts() {
    let bed = Bed::new(2, 5 * MINUTE).await;
    bed.aws.inject(FaultRule::new("DeleteMessageBatch", AwsFault::FailEntries { percent: 100 }).times(1));
    bed.aws.inject(FaultRule::new("DeleteMessageBatch", AwsFault::InternalError).times(1));
    let deleting = bed.hold().await.into_iter().map(Lease::delete);
    assert_eq!(futures_util::future::join_all(deleting).await, [true, true]);
    assert!(bed.aws.queue("q").counts().is_empty());
    assert!(bed.told(&bed.told.delete_failed) >= 3, "an entry each, and a request at least");
    assert_eq!(bed.leases.count(), 0);
}

#[tokio::test]
async fn a_lost_lease_is_noticed_and_its_message_is_deleted_all_the_same() {
    let bed = Bed::new(1, 5 * MINUTE).await;
    let lease = bed.hold().await.pop().unwrap();
    assert!(!lease.is_lost());
    bed.leases.lock().clear();
    tokio::time::timeout(MINUTE, lease.lost()).await.unwrap();
    assert!(lease.is_lost());
    assert!(lease.delete().await);
    assert!(bed.aws.queue("q").counts().is_empty());
}

#[tokio::test]
async fn a_lease_is_extended_to_its_last_hour_whatever_the_visibility() {
    let bed = Bed::new(1, 11 * HOUR).await;
    let lease = bed.hold().await.pop().unwrap();
    for _ in 0..46 {
        bed.pass(15 * MINUTE);
        bed.leases.extend_due().await;
        assert!(!lease.is_lost());
        assert_eq!((bed.visible(), bed.in_flight()), (0, 1));
    }
    assert_eq!(bed.told(&bed.told.lost), 0);
    assert_eq!(bed.told(&bed.told.extended), 1, "asked for once, not at every beat");
    assert!(!lease.is_ending());
    bed.pass(15 * MINUTE);
    bed.leases.extend_due().await;
    tokio::time::timeout(MINUTE, lease.ending()).await.unwrap();
    assert!(lease.is_ending() && !lease.is_lost(), "there is time to part with it");
    assert_eq!((bed.visible(), bed.in_flight()), (0, 1));
    bed.pass(10 * MINUTE);
    bed.leases.extend_due().await;
    assert!(lease.is_lost());
    assert_eq!(bed.visible(), 1, "given back at once");
}

#[tokio::test]
async fn a_message_is_put_back_for_a_time_and_never_past_the_twelve_hours() {
    let bed = Bed::new(2, 5 * MINUTE).await;
    let mut leases = bed.hold().await;
    leases.pop().unwrap().put_back(Duration::ZERO).await;
    assert_eq!((bed.visible(), bed.leases.count()), (1, 1));
    bed.pass(2 * MINUTE);
    leases.pop().unwrap().put_back(13 * HOUR).await;
    assert_eq!((bed.in_flight(), bed.leases.count()), (1, 0), "SQS would refuse more than it may be");
    bed.pass(12 * HOUR);
    assert_eq!(bed.visible(), 2);
}

#[tokio::test]
async fn what_the_queue_does_not_count_as_ours_any_more_is_lost_at_the_next_extension() {
    let bed = Bed::new(1, MINUTE).await;
    let lease = bed.hold().await.pop().unwrap();
    // It lapses, somebody else gets it and deletes it.
    bed.aws.advance(2 * MINUTE);
    let url = bed.aws.queue("q").url();
    let other = bed.client.receive_message().queue_url(&url).send().await.unwrap();
    let receipt = other.messages()[0].receipt_handle().unwrap();
    bed.client.delete_message().queue_url(&url).receipt_handle(receipt).send().await.unwrap();
    bed.clock.turn(Duration::from_secs(31));
    bed.leases.extend_due().await;
    assert!(lease.is_lost());
    assert_eq!((bed.told(&bed.told.lost), bed.told(&bed.told.extended)), (1, 0));
}

#[tokio::test]
async fn a_late_acknowledgement_takes_nothing_from_the_next_reader_and_is_counted() {
    let bed = Bed::new(1, MINUTE).await;
    let lease = bed.hold().await.pop().unwrap();
    bed.aws.advance(2 * MINUTE);
    let url = bed.aws.queue("q").url();
    let other = bed.client.receive_message().queue_url(&url).send().await.unwrap();
    assert_eq!(other.messages().len(), 1);
    bed.leases.lock().clear();
    assert!(lease.delete().await, "AWS answers an old receipt with success");
    assert_eq!((bed.in_flight(), bed.told(&bed.told.late)), (1, 1), "the message is the other's");
}

#[tokio::test]
async fn a_short_lease_is_extended_again_and_again() {
    let bed = Bed::new(1, MINUTE).await;
    let lease = bed.hold().await.pop().unwrap();
    for _ in 0..20 {
        bed.pass(Duration::from_secs(31));
        bed.leases.extend_due().await;
    }
    assert_eq!((lease.is_lost(), bed.in_flight(), bed.told(&bed.told.extended)), (false, 1, 20));
}

#[tokio::test]
async fn requests_that_hang_keep_no_other_lease_waiting() {
    let bed = Bed::new(40, Duration::from_secs(32)).await;
    let mut leases = Vec::new();
    for _ in 0..4 {
        leases.extend(bed.hold().await);
    }
    assert_eq!(leases.len(), 40);
    bed.aws.inject(FaultRule::new("ChangeMessageVisibilityBatch", AwsFault::NeverAnswer).times(3));
    bed.pass(Duration::from_secs(17));
    let began = bed.clock.monotonic();
    bed.leases.extend_due().await;
    assert!(bed.clock.monotonic().saturating_sub(began) < Duration::from_secs(12));
    assert_eq!((bed.told(&bed.told.extended), bed.told(&bed.told.failed)), (10, 30));
}

#[tokio::test]
async fn at_the_end_everything_goes_back_but_what_is_being_deleted_or_was_refused() {
    let bed = Bed::new(3, 5 * MINUTE).await;
    let mut leases = bed.hold().await;
    leases.pop().unwrap().hand_back();
    let refused = leases.pop().unwrap();
    refused.stay();
    // Its deletion hangs.
    bed.aws.inject(FaultRule::new("DeleteMessageBatch", AwsFault::NeverAnswer));
    let deleting = tokio::spawn(leases.pop().unwrap().delete());
    while bed.leases.closing() == 0 {
        tokio::task::yield_now().await;
    }
    bed.leases.release_all().await;
    assert_eq!((bed.visible(), bed.in_flight()), (1, 2));
    deleting.abort();
}
