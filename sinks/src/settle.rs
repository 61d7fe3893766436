//! Settlement: which events of a log file a sink has dealt with, exact to the event.
//!
//! An event that is dropped without an outcome stays owed: a bug or a panic can cause a redelivery, never a loss.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::ranges::RangeSet;
use crate::stats::LaneStats;

/// How an event ended at a sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    /// The destination has it.
    Delivered,
    /// The destination had it already.
    Duplicate,
    /// It is durably stored with the reason why the destination does not take it.
    DeadLettered,
    /// It was let go of undelivered: the log file will be fetched again for it.
    Released,
    /// It is durably written down as owed, for whoever delivers it later.
    HandedOff,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Self; 5] =
        [Self::Delivered, Self::Duplicate, Self::DeadLettered, Self::Released, Self::HandedOff];

    /// The value of the label `outcome` of `trailship_sink_events_total`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Duplicate => "duplicate",
            Self::DeadLettered => "dead_lettered",
            Self::Released => "released",
            Self::HandedOff => "handed_off",
        }
    }
}

/// One sink's share of the responsibility for one log file, over all passes that read it.
#[derive(Clone, Debug)]
pub struct Share {
    state: Arc<ShareState>,
}

#[derive(Debug, Default)]
struct ShareState {
    ledger: Mutex<ShareLedger>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct ShareLedger {
    settled: RangeSet,
    /// Events handed to the lane and without an outcome yet.
    open: u64,
    /// Events to which the lane gave a final outcome.
    outcomes: u64,
    /// How many events the log file has; known once a reader has seen its good end.
    total: Option<u64>,
}

impl ShareLedger {
    fn account(&self) -> Account {
        Account { settled: self.settled.clone(), total: self.total, open: self.open, outcomes: self.outcomes }
    }
}

/// How a share stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The events with a final outcome.
    pub settled: RangeSet,
    /// How many events there are, where a reader has seen the end.
    pub total: Option<u64>,
    /// Events that the lane holds.
    pub open: u64,
    /// Events to which the lane gave a final outcome.
    pub outcomes: u64,
}

impl Account {
    /// Whether nothing is owed any more.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.settled.covers(self.total.unwrap_or(u64::MAX))
    }

    /// What is owed, what the lane holds included; without an end as long as that of the log file is not known.
    #[must_use]
    pub fn owed(&self) -> RangeSet {
        self.settled.missing(self.total.unwrap_or(u64::MAX))
    }

    /// Whether no event has been settled, and none can be by what the lane holds.
    #[must_use]
    pub fn is_untouched(&self) -> bool {
        self.open == 0 && self.settled.count() == 0
    }
}

impl Default for Share {
    fn default() -> Self {
        Self::new()
    }
}

impl Share {
    /// A share of which everything is owed.
    #[must_use]
    pub fn new() -> Self {
        Self { state: Arc::default() }
    }

    /// A share of which only `owed` is owed; the rest counts as settled.
    #[must_use]
    pub fn owing(owed: &RangeSet) -> Self {
        let share = Self::new();
        // Where the end of the log file was not known, the last range has none.
        let end = owed.ranges().last().map_or(0, |r| r.end);
        let mut ledger = share.lock();
        ledger.settled = owed.missing(end);
        ledger.settled.insert(end..u64::MAX);
        drop(ledger);
        share
    }

    /// Notes that the log file has ended well after `total` events.
    pub fn ended(&self, total: u64) {
        self.lock().total = Some(total);
        self.state.changed.notify_waiters();
    }

    /// Settles events without sending them: those of a part that can never be read.
    pub fn settle_unread(&self, from: u64) {
        let mut ledger = self.lock();
        ledger.settled.insert(from..u64::MAX);
        ledger.total = Some(from);
        drop(ledger);
        self.state.changed.notify_waiters();
    }

    /// Settles what is owed of `events` without the lane: it is durably written down elsewhere.
    ///
    /// It counts as offered and handed off, but for events behind an end that is not known.
    pub fn hand_off(&self, stats: &LaneStats, events: &RangeSet) {
        let mut ledger = self.lock();
        let end = ledger.total.unwrap_or(u64::MAX);
        let mut count = 0;
        for owed in ledger.settled.missing(end).ranges() {
            for range in events.ranges() {
                let known = owed.start.max(range.start)..owed.end.min(range.end);
                if known.end < u64::MAX {
                    count += known.end.saturating_sub(known.start);
                }
            }
        }
        for range in events.ranges() {
            ledger.settled.insert(range.clone());
        }
        stats.offer(count);
        stats.outcome(Outcome::HandedOff, count);
        drop(ledger);
        self.state.changed.notify_waiters();
    }

    /// What is settled at the moment.
    #[must_use]
    pub fn account(&self) -> Account {
        self.lock().account()
    }

    /// Whether the event at `index` still needs an outcome.
    #[must_use]
    pub fn owes(&self, index: u64) -> bool {
        !self.lock().settled.contains(index)
    }

    /// Whether an event at `index` or behind it still needs an outcome, or may.
    #[must_use]
    pub fn owes_from(&self, index: u64) -> bool {
        let ledger = self.lock();
        ledger.settled.gap_from(index) < ledger.total.unwrap_or(u64::MAX)
    }

    /// Waits until the lane holds no event of this share, and says how it stands.
    pub async fn idle(&self) -> Account {
        loop {
            let changed = self.state.changed.notified();
            tokio::pin!(changed);
            // Registered before the look, so that no change falls between the two.
            changed.as_mut().enable();
            {
                let ledger = self.lock();
                if ledger.open == 0 {
                    return ledger.account();
                }
            }
            changed.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, ShareLedger> {
        self.state.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self, indices: &[u64]) -> Vec<bool> {
        let mut ledger = self.lock();
        let owed: Vec<bool> = indices.iter().map(|&index| !ledger.settled.contains(index)).collect();
        ledger.open += owed.iter().filter(|&&owes| owes).count() as u64;
        owed
    }

    fn close(&self, events: Range<u64>, settled: bool) {
        let mut ledger = self.lock();
        ledger.open = ledger.open.saturating_sub(events.end - events.start);
        if settled {
            ledger.outcomes += events.end - events.start;
            ledger.settled.insert(events);
        }
        let idle = ledger.open == 0;
        drop(ledger);
        if idle {
            self.state.changed.notify_waiters();
        }
    }
}

/// What events of one chunk at one lane have in common.
#[derive(Debug)]
struct Lot {
    share: Share,
    stats: Arc<LaneStats>,
    bytes: u64,
}

impl Drop for Lot {
    fn drop(&mut self) {
        self.stats.held_sub(self.bytes);
    }
}

/// The duty to give one event an outcome. Dropped without one, the event stays owed.
#[must_use = "a dropped duty is a released event"]
#[derive(Debug)]
pub struct Owed {
    lot: Arc<Lot>,
    index: u64,
    done: bool,
}

impl Owed {
    /// Opens the duties for those of `indices` that the share still owes; `None` for each that is settled.
    ///
    /// `bytes` is the memory that they keep alive together, for the lane's account.
    pub(crate) fn open(
        share: &Share,
        stats: &Arc<LaneStats>,
        indices: &[u64],
        bytes: u64,
    ) -> Vec<Option<Self>> {
        let owed = share.open(indices);
        stats.held_add(bytes);
        stats.offer(owed.iter().filter(|&&owes| owes).count() as u64);
        let lot = Arc::new(Lot { share: share.clone(), stats: Arc::clone(stats), bytes });
        let duty =
            |(owes, &index): (bool, &u64)| owes.then(|| Self { lot: Arc::clone(&lot), index, done: false });
        owed.into_iter().zip(indices).map(duty).collect()
    }

    /// The event's position in the log file.
    pub(crate) fn index(&self) -> u64 {
        self.index
    }

    /// Gives the event its outcome.
    pub fn settle(mut self, outcome: Outcome) {
        drop(self.finish(outcome));
    }

    /// Gives many events their outcomes; neighbours in a chunk are settled together, with one look at its share.
    pub(crate) fn settle_all(duties: impl IntoIterator<Item = (Self, Outcome)>) {
        let mut run: Option<Run> = None;
        for (mut duty, outcome) in duties {
            match &mut run {
                Some(run) if run.is_followed_by(&duty, outcome) => {
                    duty.done = true;
                    run.events.end += 1;
                }
                _ => run = Some(duty.finish(outcome)),
            }
        }
    }

    fn finish(&mut self, outcome: Outcome) -> Run {
        self.done = true;
        Run { lot: Arc::clone(&self.lot), events: self.index..self.index + 1, outcome }
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        if !self.done {
            drop(self.finish(Outcome::Released));
        }
    }
}

/// Neighbours in a log file that had the same outcome; settled when dropped, so that no panic can keep them open.
struct Run {
    lot: Arc<Lot>,
    events: Range<u64>,
    outcome: Outcome,
}

impl Run {
    fn is_followed_by(&self, duty: &Owed, outcome: Outcome) -> bool {
        Arc::ptr_eq(&self.lot, &duty.lot) && self.events.end == duty.index && self.outcome == outcome
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.lot.stats.outcome(self.outcome, self.events.end - self.events.start);
        self.lot.share.close(self.events.clone(), self.outcome != Outcome::Released);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn open(share: &Share, stats: &Arc<LaneStats>, indices: &[u64]) -> Vec<Owed> {
        Owed::open(share, stats, indices, 10).into_iter().flatten().collect()
    }

    #[tokio::test]
    async fn a_share_closes_when_every_event_is_settled_and_the_end_was_seen() {
        let (share, stats) = (Share::new(), Arc::new(LaneStats::default()));
        let duties = open(&share, &stats, &[0, 1, 2]);
        duties.into_iter().for_each(|duty| duty.settle(Outcome::Delivered));
        assert!(!share.idle().await.is_closed(), "the end was not seen yet");
        share.ended(3);
        assert!(share.idle().await.is_closed());
    }

    #[tokio::test]
    async fn a_dropped_duty_leaves_exactly_its_event_owed() {
        let (share, stats) = (Share::new(), Arc::new(LaneStats::default()));
        let mut duties = open(&share, &stats, &[0, 1, 2]);
        drop(duties.remove(1));
        duties.into_iter().for_each(|duty| duty.settle(Outcome::Duplicate));
        share.ended(3);
        let account = share.idle().await;
        assert!(!account.is_closed());
        assert_eq!(account.settled.missing(3).ranges(), std::slice::from_ref(&(1..2)));
        assert_eq!((stats.count(Outcome::Released), stats.count(Outcome::Duplicate)), (1, 2));
        let again = open(&share, &stats, &[0, 1, 2]);
        assert_eq!(again.len(), 1, "the second pass opens only what is owed");
        again.into_iter().for_each(|duty| duty.settle(Outcome::DeadLettered));
        assert!(share.idle().await.is_closed());
        assert_eq!(stats.in_flight(), 0);
    }

    #[tokio::test]
    async fn a_panicking_task_releases_its_events() {
        let (share, stats) = (Share::new(), Arc::new(LaneStats::default()));
        let duties = open(&share, &stats, &[0]);
        share.ended(1);
        #[allow(clippy::panic)]
        let task = tokio::spawn(async move {
            let _held = duties;
            panic!("deliberate");
        });
        assert!(task.await.is_err());
        assert!(!share.idle().await.is_closed());
    }

    #[tokio::test]
    async fn a_share_waits_while_an_event_is_with_the_lane() {
        let (share, stats) = (Share::new(), Arc::new(LaneStats::default()));
        let duties = open(&share, &stats, &[0]);
        share.ended(1);
        let waiting = tokio::spawn({
            let share = share.clone();
            async move { share.idle().await.is_closed() }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        duties.into_iter().for_each(|duty| duty.settle(Outcome::Delivered));
        assert!(waiting.await.unwrap());
    }

    #[tokio::test]
    async fn settled_together_each_event_has_its_own_outcome() {
        let (share, other) = (Share::new(), Share::new());
        let stats = Arc::new(LaneStats::default());
        let mut duties = open(&share, &stats, &[0, 1, 2, 3, 5]);
        duties.extend(open(&other, &stats, &[6, 7]));
        let outcomes = [
            Outcome::Delivered,
            Outcome::Delivered,
            Outcome::Released,
            Outcome::Duplicate,
            Outcome::Delivered,
            Outcome::Delivered,
            Outcome::DeadLettered,
        ];
        Owed::settle_all(duties.into_iter().zip(outcomes));
        assert_eq!(share.idle().await.settled.ranges(), [0..2, 3..4, 5..6]);
        assert_eq!(other.idle().await.settled.ranges(), std::slice::from_ref(&(6..8)));
        assert_eq!(Outcome::ALL.map(|outcome| stats.count(outcome)), [4, 1, 1, 1, 0]);
        assert_eq!((stats.in_flight(), stats.held_bytes()), (0, 0));
    }

    #[test]
    fn a_share_that_owes_ranges_opens_only_those() {
        let share = Share::owing(&RangeSet::from_ranges([2..4, 7..8]));
        let owed: Vec<u64> = (0..20).filter(|&index| share.owes(index)).collect();
        assert_eq!(owed, [2, 3, 7]);
        assert!(share.owes_from(7) && !share.owes_from(8));
    }

    #[tokio::test]
    async fn a_share_that_owes_ranges_closes_with_the_last_of_them_whether_or_not_the_end_was_seen() {
        let stats = Arc::new(LaneStats::default());
        let share = Share::owing(&RangeSet::from_ranges([2..4, 7..8]));
        assert_eq!(share.account().owed().ranges(), [2..4, 7..8]);
        open(&share, &stats, &[2, 3, 7]).into_iter().for_each(|duty| duty.settle(Outcome::Delivered));
        let account = share.idle().await;
        assert_eq!((account.is_closed(), account.outcomes), (true, 3));
    }

    #[tokio::test]
    async fn a_share_without_an_end_closes_only_once_the_end_was_seen() {
        let stats = Arc::new(LaneStats::default());
        let share = Share::owing(&RangeSet::from_ranges([2..3, 5..u64::MAX]));
        open(&share, &stats, &[2, 5, 6]).into_iter().for_each(|duty| duty.settle(Outcome::Delivered));
        assert!(!share.idle().await.is_closed());
        assert_eq!(share.account().owed().ranges(), std::slice::from_ref(&(7..u64::MAX)));
        share.ended(7);
        assert!(share.account().is_closed() && !share.owes_from(7));
    }

    #[tokio::test]
    async fn what_is_handed_off_closes_the_share_and_the_sums_still_hold() {
        let (share, stats) = (Share::new(), Arc::new(LaneStats::default()));
        let mut duties = open(&share, &stats, &[0, 1, 2]);
        drop(duties.pop());
        duties.pop().unwrap().settle(Outcome::Delivered);
        share.ended(5);
        // One is still held: it is handed off as well, and may arrive twice.
        let owed = share.account().owed();
        assert_eq!(owed.ranges(), [0..1, 2..5]);
        share.hand_off(&stats, &owed);
        assert!(share.account().is_closed());
        duties.pop().unwrap().settle(Outcome::Delivered);
        assert_eq!(Outcome::ALL.map(|outcome| stats.count(outcome)), [2, 0, 0, 1, 4]);
        assert_eq!((stats.offered(), stats.in_flight()), (7, 0));
    }

    #[test]
    fn a_share_whose_end_nobody_has_seen_is_handed_off_without_one() {
        let (share, stats) = (Share::new(), Arc::new(LaneStats::default()));
        open(&share, &stats, &[0, 1, 4]).into_iter().for_each(|duty| duty.settle(Outcome::Delivered));
        let owed = share.account().owed();
        assert_eq!(owed.ranges(), [2..4, 5..u64::MAX]);
        share.hand_off(&stats, &owed);
        assert!(share.account().is_closed());
        assert_eq!(stats.count(Outcome::HandedOff), 2, "as far as the end is known");
    }

    #[test]
    fn the_lane_s_memory_is_given_back_with_the_last_duty() {
        let (share, stats) = (Share::new(), Arc::new(LaneStats::default()));
        let mut duties = open(&share, &stats, &[0, 1]);
        assert_eq!(stats.held_bytes(), 10);
        duties.pop().unwrap().settle(Outcome::Delivered);
        assert_eq!(stats.held_bytes(), 10);
        duties.pop().unwrap().settle(Outcome::Delivered);
        assert_eq!(stats.held_bytes(), 0);
    }
}
