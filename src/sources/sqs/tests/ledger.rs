//! What the ledger knows is not fetched again, and nothing is taken for known that is not.

use cloudtrail::{Handoff, Timestamp};

use super::*;
use crate::ledger::MemoryLedger;

const MARK: &str = "sink@1";

struct Remembering {
    bed: Bed,
    ledger: Arc<MemoryLedger>,
    ask: tokio::sync::watch::Sender<bool>,
    running: tokio::task::JoinHandle<()>,
}

impl Remembering {
    async fn new() -> Self {
        Self::with_sink(true).await
    }

    async fn with_sink(required: bool) -> Self {
        let ledger = Arc::new(MemoryLedger::new(100));
        let deliveries = Deliveries::new(ledger.clone(), vec![MARK.to_owned()]);
        let bed = Bed::made(deliveries, required, Duration::ZERO).await;
        let (ask, stop) = Stop::pair();
        let running = tokio::spawn(Arc::clone(&bed.source).run(stop.clone(), stop));
        Self { bed, ledger, ask, running }
    }

    /// With a sink that is not required and hangs: a log file whose first message is done without it, and whose second one
    /// is there. Gives the key.
    async fn twice_at_an_optional_sink() -> (Self, String) {
        let on = Self::with_sink(false).await;
        on.bed.sink.hangs.store(true, Ordering::Relaxed);
        let key = on.bed.put(1);
        on.bed.notify(&[("trail", &key)]);
        on.done("s3", 1).await;
        on.bed.notify(&[("trail", &key)]);
        on.bed.until("it waits", |bed| bed.aws.queue("q").counts().in_flight == 1).await;
        (on, key)
    }

    /// Waits until the queue holds nothing and so many messages of the shape are done.
    async fn done(&self, shape: &str, messages: u64) {
        let is_done =
            |bed: &Bed| bed.ended(shape, "done") == messages && bed.aws.queue("q").counts().is_empty();
        self.bed.until("done", is_done).await;
    }

    /// How often each event was delivered, the least and the most.
    fn times(&self) -> (usize, u32, u32) {
        let times = self.bed.sink.times.lock().unwrap();
        let (least, most) = (times.values().min().copied(), times.values().max().copied());
        (times.len(), least.unwrap_or(0), most.unwrap_or(0))
    }

    fn known(&self, key: &str) -> bool {
        self.ledger.recall(&format!("s3://trail/{key}")).is_some_and(|known| known.marks.contains(MARK))
    }

    fn requests(&self, operation: &str) -> usize {
        self.bed.aws.object_requests().iter().filter(|request| request.operation == operation).count()
    }

    fn already(&self) -> u64 {
        self.bed.metrics.counter("sink_events_total", &["sink", "already_delivered"]).get()
    }

    fn hand_off(&self, key: &str, events: std::ops::Range<u64>) {
        let handoff = Handoff {
            bucket: "trail".to_owned(),
            key: key.to_owned(),
            version_id: None,
            etag: None,
            sink: "sink".to_owned(),
            ranges: vec![events],
            attempts: 0,
            first_seen: Timestamp::from_millis(0),
        };
        self.bed.aws.queue("q").send(&Handoff::write_list(&[handoff]).unwrap()).unwrap();
    }

    async fn end(self) {
        self.ask.send(true).unwrap();
        self.running.await.unwrap();
    }
}

#[tokio::test]
async fn a_log_file_that_is_announced_again_is_asked_for_its_version_alone() {
    let on = Remembering::new().await;
    let key = on.bed.put(1);
    on.bed.notify(&[("trail", &key)]);
    on.done("s3", 1).await;
    assert!(on.known(&key));
    for times in 2..=3 {
        on.bed.notify(&[("trail", &key)]);
        on.done("s3", times).await;
    }
    assert_eq!((on.requests("GetObject"), on.requests("HeadObject")), (1, 2));
    assert_eq!((on.times(), on.already()), ((20, 1, 1), 40));
    assert_eq!(on.bed.metrics.counter("log_files_total", &["s", "already_delivered"]).get(), 2);
    on.end().await;
}

#[tokio::test]
async fn an_object_that_was_replaced_is_shipped_though_its_name_is_known() {
    let on = Remembering::new().await;
    let key = on.bed.put(1);
    on.bed.notify(&[("trail", &key)]);
    on.done("s3", 1).await;
    on.bed.aws.put_object("trail", &key, Generator::new(2).log_file(20).gz).unwrap();
    on.bed.notify(&[("trail", &key)]);
    on.done("s3", 2).await;
    assert_eq!((on.times(), on.already()), ((40, 1, 1), 0));
    on.end().await;
}

#[tokio::test]
async fn where_s3_does_not_tell_the_version_the_log_file_is_shipped_again() {
    use testkit::aws::{AwsFault, FaultRule};
    let on = Remembering::new().await;
    let key = on.bed.put(1);
    on.bed.notify(&[("trail", &key)]);
    on.done("s3", 1).await;
    on.bed.aws.inject(FaultRule::new("HeadObject", AwsFault::Forbidden));
    on.bed.notify(&[("trail", &key)]);
    on.done("s3", 2).await;
    assert_eq!(on.times(), (20, 2, 2));
    on.end().await;
}

#[tokio::test]
async fn a_hand_off_of_what_is_known_is_not_fetched_and_one_proves_nothing_by_itself() {
    let on = Remembering::new().await;
    let (known, unknown) = (on.bed.put(1), on.bed.put(2));
    on.bed.notify(&[("trail", &known)]);
    on.done("s3", 1).await;
    on.hand_off(&known, 3..8);
    on.done("handoff", 1).await;
    assert_eq!((on.requests("GetObject"), on.already()), (1, 5));
    // Anybody who can write to the queue can say that five events are all that is owed.
    on.hand_off(&unknown, 0..5);
    on.done("handoff", 2).await;
    assert!(!on.known(&unknown));
    on.bed.notify(&[("trail", &unknown)]);
    on.done("s3", 2).await;
    assert_eq!((on.times(), on.known(&unknown)), ((40, 1, 2), true));
    on.end().await;
}

#[tokio::test]
async fn a_log_file_that_could_not_be_read_to_its_end_is_not_known() {
    let on = Remembering::new().await;
    let file = Generator::new(1).log_file(20);
    on.bed.aws.put_object("trail", &file.key, file.gz[..file.gz.len() - 20].to_vec()).unwrap();
    on.bed.notify(&[("trail", &file.key)]);
    let dead =
        |bed: &Bed, times| bed.metrics.counter("log_files_total", &["s", "dead_lettered"]).get() == times;
    for times in 1..=2 {
        let ended = |bed: &Bed| {
            // Between reads it waits.
            bed.clock.turn(Duration::from_secs(60));
            dead(bed, times)
        };
        on.bed.until("given up", ended).await;
        assert!(!on.known(&file.key));
        on.bed.notify(&[("trail", &file.key)]);
    }
    on.end().await;
}

#[tokio::test]
async fn an_event_that_came_in_its_message_is_known_by_its_id_and_its_bytes() {
    let on = Remembering::new().await;
    let message = |id: &str, event: &str| {
        let body = serde_json::json!({
            "version": "0", "id": id, "detail-type": "AWS API Call via CloudTrail", "source": "aws.s3",
            "account": "111122223333", "time": "2023-07-10T11:42:01Z", "region": "eu-west-1", "resources": [],
            "detail": { "eventVersion": "1.08", "eventID": event, "eventTime": "2023-07-10T11:42:01Z",
                        "eventSource": "s3.amazonaws.com", "eventName": "PutBucketPolicy" },
        });
        on.bed.aws.queue("q").send(&body.to_string()).unwrap();
    };
    let delivered = |events: usize| {
        move |bed: &Bed| {
            bed.sink.times.lock().unwrap().len() == events && bed.aws.queue("q").counts().is_empty()
        }
    };
    message("one", "e1");
    on.bed.until("delivered", delivered(1)).await;
    message("one", "e1");
    on.bed
        .until("known", |bed| {
            bed.metrics.counter("sink_events_total", &["sink", "already_delivered"]).get() == 1
        })
        .await;
    // The same id with another event in it: somebody made it up, and it is shipped.
    message("one", "e2");
    on.bed.until("delivered", delivered(2)).await;
    assert_eq!((on.times(), on.already()), ((2, 1, 1), 1));
    on.end().await;
}

#[tokio::test]
async fn announced_again_while_it_is_under_way_it_waits_in_no_slot_and_is_not_sent_again() {
    let on = Remembering::new().await;
    on.bed.sink.hangs.store(true, Ordering::Relaxed);
    let (key, other) = (on.bed.put(1), on.bed.put(2));
    // As many as there are slots, and more.
    for _ in 0..4 {
        on.bed.notify(&[("trail", &key), ("trail", &key)]);
    }
    on.bed.until("it is under way", |bed| bed.fetches(&key) > 0).await;
    on.bed.until("all wait", |bed| bed.aws.queue("q").counts().in_flight == 4).await;
    on.bed.notify(&[("trail", &other)]);
    on.bed.until("another one is read all the same", |bed| bed.fetches(&other) > 0).await;
    assert_eq!(on.requests("GetObject"), 2);
    on.bed.sink.hangs.store(false, Ordering::Relaxed);
    on.done("s3", 5).await;
    assert_eq!((on.requests("GetObject"), on.times(), on.already()), (2, (40, 1, 1), 7 * 20));
    on.end().await;
}

#[tokio::test]
async fn what_waits_for_another_message_at_a_stop_is_given_back_at_once() {
    let on = Remembering::new().await;
    on.bed.sink.hangs.store(true, Ordering::Relaxed);
    let key = on.bed.put(1);
    on.bed.notify(&[("trail", &key)]);
    on.bed.until("it is under way", |bed| bed.fetches(&key) > 0).await;
    on.bed.notify(&[("trail", &key)]);
    on.bed.until("one waits", |bed| bed.aws.queue("q").counts().in_flight == 2).await;
    on.ask.send(true).unwrap();
    on.bed.until("it is given back", |bed| bed.aws.queue("q").counts().visible >= 1).await;
    assert_eq!(on.requests("GetObject"), 1);
    on.running.await.unwrap();
}

#[tokio::test]
async fn what_an_optional_sink_is_being_sent_is_waited_for_by_the_message_that_announces_it_again_alone() {
    let (on, _) = Remembering::twice_at_an_optional_sink().await;
    on.bed.sink.hangs.store(false, Ordering::Relaxed);
    on.done("s3", 2).await;
    assert_eq!((on.requests("GetObject"), on.times(), on.already()), (1, (20, 1, 1), 20));
    on.end().await;
}

#[tokio::test]
async fn an_optional_sink_that_is_shut_keeps_no_message_waiting() {
    let (on, key) = Remembering::twice_at_an_optional_sink().await;
    on.bed.sink.denies.store(true, Ordering::Relaxed);
    on.bed.sink.hangs.store(false, Ordering::Relaxed);
    // It is shut now, and holds some events to probe with.
    on.done("s3", 2).await;
    assert_eq!((on.times(), on.known(&key)), ((0, 0, 0), false));
    on.end().await;
}
