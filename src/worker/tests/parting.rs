//! What a sink is still owed is handed off, and delivered from there.

use async_trait::async_trait;
use cloudtrail::{Handoff, Timestamp};
use sinks::RangeSet;

use super::*;
use crate::worker::{HandOffError, HandOffs, Parting};

/// A queue that keeps what it is given, or takes nothing.
#[derive(Default)]
struct Queue {
    list: Mutex<Vec<Handoff>>,
    forbids: Mutex<bool>,
}

#[async_trait]
impl HandOffs for Queue {
    async fn hand_off(&self, list: Vec<Handoff>) -> Result<(), HandOffError> {
        if *self.forbids.lock().unwrap() {
            return Err(HandOffError::NotPermitted("403".to_owned()));
        }
        self.list.lock().unwrap().extend(list);
        Ok(())
    }
}

impl Queue {
    fn take(&self) -> Vec<Handoff> {
        std::mem::take(&mut *self.list.lock().unwrap())
    }
}

fn parting(queue: &Arc<Queue>, attempts: u32) -> Parting {
    let first_seen = Timestamp::from_millis(1_700_000_000_000);
    Parting { queue: queue.clone(), first_seen, attempts, key_is_sure: true }
}

impl Bench {
    /// Shuts the second sink, and gives its lane as many events to probe with as it keeps.
    async fn shut_the_second(&self) -> tokio::task::JoinHandle<JobEnd> {
        *self.sinks[1].denied.lock().unwrap() = true;
        let other = Object {
            bytes: Generator::new(5).log_file(20).gz.into(),
            replacement: Bytes::new(),
            turns: Vec::new(),
            opened: Mutex::default(),
        };
        let other = tokio::spawn(self.job_of("other", Arc::new(other)).run(None));
        while self.plan.lanes.wanted_by(1) > 0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        other
    }

    /// The job of a hand-off.
    fn job_of_handoff(&self, handoff: &Handoff) -> LogFileJob {
        let lane = self.plan.lanes.position(&handoff.sink).unwrap();
        let owed = RangeSet::from_ranges(handoff.ranges.iter().cloned());
        self.job().pinned(&handoff.etag).owing(lane, &owed)
    }

    /// The events of the log file that a sink has, of those that it was given.
    #[track_caller]
    fn has_the_log_file_once(&self, sink: usize) {
        let wanted: Vec<String> =
            self.file.issued.iter().map(|issued| issued.event_id.clone().unwrap_or_default()).collect();
        self.sinks[sink].ids.lock().unwrap().retain(|id| wanted.contains(id));
        self.has_everything_once(sink);
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_sink_that_stays_shut_is_owed_is_handed_off_and_arrives_once_from_there() {
    let bench = Bench::new([true, true], vec![]);
    let other = bench.shut_the_second().await;
    let queue = Arc::<Queue>::default();
    let job = bench.job().parting(parting(&queue, 3));
    let end = tokio::time::timeout(Duration::from_secs(10), job.run(None)).await.unwrap();
    assert_eq!(end, JobEnd::HandedOff);
    bench.has_the_log_file_once(0);
    let handoffs = queue.take();
    let [handoff] = handoffs.as_slice() else { panic!("{handoffs:?}") };
    assert_eq!((handoff.sink.as_str(), handoff.attempts, handoff.etag.as_deref()), ("sink1", 3, Some("e1")));
    assert_eq!(handoff.ranges, std::slice::from_ref(&(0..300)));
    assert_eq!(bench.plan.lanes.all()[1].stats().count(sinks::Outcome::HandedOff), 300);

    *bench.sinks[1].denied.lock().unwrap() = false;
    assert!(matches!(other.await.unwrap(), JobEnd::Done { .. }));
    assert!(matches!(bench.job_of_handoff(handoff).run(None).await, JobEnd::Done { .. }));
    bench.has_the_log_file_once(0);
    bench.has_the_log_file_once(1);
}

#[tokio::test(start_paused = true)]
async fn where_handing_off_is_not_permitted_the_log_file_waits_for_the_sink() {
    let bench = Bench::new([true, true], vec![]);
    let other = bench.shut_the_second().await;
    let queue = Arc::<Queue>::default();
    *queue.forbids.lock().unwrap() = true;
    let job = tokio::spawn(bench.job().parting(parting(&queue, 0)).run(None));
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!(!job.is_finished());
    *bench.sinks[1].denied.lock().unwrap() = false;
    assert_eq!(job.await.unwrap(), done(300));
    other.await.unwrap();
    bench.has_the_log_file_once(0);
    bench.has_the_log_file_once(1);
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_is_only_slow_is_waited_for() {
    let bench = Bench::new([true, true], vec![]);
    *bench.sinks[1].slow.lock().unwrap() = Duration::from_secs(40);
    let queue = Arc::<Queue>::default();
    assert_eq!(bench.job().parting(parting(&queue, 0)).run(None).await, done(300));
    assert_eq!(queue.take(), []);
}

#[tokio::test(start_paused = true)]
async fn what_came_inside_its_message_is_not_handed_off() {
    let bench = Bench::new([true, true], vec![]);
    let other = bench.shut_the_second().await;
    let queue = Arc::<Queue>::default();
    let inline = Arc::new(Inline { document: Bytes::from_static(b"{\"Records\":[{\"eventName\":\"A\"}]}") });
    let job = tokio::spawn(bench.job_of("", inline).parting(parting(&queue, 0)).run(None));
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!(!job.is_finished() && queue.take().is_empty());
    *bench.sinks[1].denied.lock().unwrap() = false;
    assert_eq!(job.await.unwrap(), done(1));
    other.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_log_file_whose_end_nobody_has_seen_is_handed_off_without_one_and_goes_on_from_there() {
    let denied: fn() -> FetchError = || FetchError::Denied("403".to_owned());
    let turns = std::iter::once(Turn::ResetNearEnd).chain((0..1000).map(|_| Turn::Fails(denied)));
    let mut bench = Bench::new([true, true], turns.collect());
    let queue = Arc::<Queue>::default();
    let job = Arc::new(bench.job().parting(parting(&queue, 0)));
    let running = tokio::spawn({
        let job = Arc::clone(&job);
        async move { job.ship(None, None).await }
    });
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(job.is_touched());
    running.abort();
    assert!(job.part().await);
    let handoffs = queue.take();
    assert_eq!(handoffs.len(), 2);
    let has = bench.sinks[0].ids.lock().unwrap().len() as u64;
    assert!(has > 0 && has < 300);
    assert_eq!(handoffs[0].ranges, std::slice::from_ref(&(has..u64::MAX)));

    let object = Object {
        bytes: bench.object.bytes.clone(),
        replacement: Bytes::new(),
        turns: Vec::new(),
        opened: Mutex::default(),
    };
    bench.object = Arc::new(object);
    for handoff in &handoffs {
        assert_eq!(bench.job_of_handoff(handoff).run(None).await, done(300));
    }
    bench.has_everything_once(0);
    bench.has_everything_once(1);
}

#[tokio::test(start_paused = true)]
async fn a_log_file_of_which_little_is_owed_is_not_read_to_its_end() {
    // What comes behind the first part would have to be asked for again.
    let file = || Generator::new(1).log_file(3000);
    let part = file().gz.len() * 2 / 3;
    let bench = Bench::with([true, true], vec![Turn::Reset(part)], file());
    let job = |ranges: std::ops::Range<u64>| bench.job().owing(1, &RangeSet::from_ranges([ranges]));
    assert!(matches!(job(2..5).run(None).await, JobEnd::Done { .. }));
    assert_eq!(bench.sinks[1].ids.lock().unwrap().len(), 3);
    assert_eq!((bench.openings(), bench.seen.interrupted.load(Ordering::Relaxed)), (vec![0], 0));
    // Where the end is not known it is read.
    let bench = Bench::with([true, true], vec![Turn::Reset(part)], file());
    let job = bench.job().owing(1, &RangeSet::from_ranges([2..5, 2998..u64::MAX]));
    assert_eq!(job.run(None).await, done(3000));
    assert_eq!(bench.sinks[1].ids.lock().unwrap().len(), 5);
    assert_eq!(bench.openings(), [0, part as u64]);
}

#[tokio::test(start_paused = true)]
async fn many_ranges_make_several_hand_offs_that_say_the_same_together() {
    let bench = Bench::new([true, true], vec![]);
    let queue = Arc::<Queue>::default();
    let owed = RangeSet::from_ranges((0..150).map(|number| number * 2..number * 2 + 1));
    let job = bench.job().owing(1, &owed).parting(parting(&queue, 0));
    assert!(job.part().await);
    let handoffs = queue.take();
    assert_eq!(handoffs.iter().map(|handoff| handoff.ranges.len()).collect::<Vec<_>>(), [64, 64, 22]);
    let together = RangeSet::from_ranges(handoffs.iter().flat_map(|handoff| handoff.ranges.clone()));
    assert_eq!(together, owed);
}
