//! Log files of which a sink still owes events, for the gauges and the status page.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use sinks::ports::Clock;

/// Log files of which a sink still owes events.
#[derive(Debug)]
pub struct Owed {
    next: AtomicU64,
    lanes: Vec<Mutex<Files>>,
}

/// Those of one lane.
#[derive(Debug, Default)]
struct Files {
    /// They wait here, since a time on the monotonic clock.
    waiting: BTreeMap<u64, Duration>,
    /// They are written down in messages, by the messages' ids.
    handed_off: BTreeMap<String, Bundle>,
}

/// What is known of a message of hand-offs.
#[derive(Clone, Copy, Debug)]
pub struct Bundle {
    /// How many log files stand in it.
    pub log_files: u64,
    /// When the first notification of the oldest was received.
    pub first_seen: SystemTime,
    /// Until when it counts, on the monotonic clock: not seen again by then, it is another agent's affair.
    pub until: Duration,
}

impl Owed {
    /// For so many lanes.
    #[must_use]
    pub fn new(lanes: usize) -> Self {
        Self { next: AtomicU64::new(0), lanes: (0..lanes).map(|_| Mutex::default()).collect() }
    }

    /// How many log files a lane owes, and for how long the oldest.
    #[must_use]
    pub fn of(&self, lane: usize, clock: &dyn Clock) -> (u64, Option<Duration>) {
        let Some(files) = self.lanes.get(lane) else { return (0, None) };
        let (now, today) = (clock.monotonic(), clock.now());
        let mut files = lock(files);
        files.handed_off.retain(|_, bundle| now < bundle.until);
        let waiting = files.waiting.values().map(|since| now.saturating_sub(*since));
        let age = |bundle: &Bundle| today.duration_since(bundle.first_seen).unwrap_or_default();
        let oldest = waiting.chain(files.handed_off.values().map(age)).max();
        let handed_off: u64 = files.handed_off.values().map(|bundle| bundle.log_files).sum();
        (files.waiting.len() as u64 + handed_off, oldest)
    }

    /// Notes a message of hand-offs to a lane, sent or seen; true if it is the only one that is known.
    pub fn handed_off(&self, lane: usize, message: &str, bundle: Bundle) -> bool {
        let Some(files) = self.lanes.get(lane) else { return false };
        let mut files = lock(files);
        let was_empty = files.handed_off.is_empty();
        files.handed_off.insert(message.to_owned(), bundle);
        was_empty
    }

    /// Notes that a message of hand-offs is gone; true if it was the last that is known.
    pub fn taken(&self, lane: usize, message: &str) -> bool {
        let Some(files) = self.lanes.get(lane) else { return false };
        let mut files = lock(files);
        files.handed_off.remove(message).is_some() && files.handed_off.is_empty()
    }

    /// Notes that a lane owes events of a log file, until the entry is dropped.
    pub(super) fn enter(&self, lane: usize, since: Duration) -> Option<Entry<'_>> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let files = self.lanes.get(lane)?;
        lock(files).waiting.insert(id, since);
        Some(Entry { files, id })
    }
}

/// One owed log file, until dropped.
pub(super) struct Entry<'a> {
    files: &'a Mutex<Files>,
    id: u64,
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        lock(self.files).waiting.remove(&self.id);
    }
}

fn lock(files: &Mutex<Files>) -> MutexGuard<'_, Files> {
    files.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use testkit::ports::SimulatedClock;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_was_handed_off_counts_until_it_is_taken_or_not_heard_of_any_more() {
        let clock = SimulatedClock::new(1_700_000_000);
        let owed = Owed::new(2);
        let bundle = |log_files, age, until| Bundle {
            log_files,
            first_seen: clock.now() - Duration::from_secs(age),
            until: clock.monotonic() + Duration::from_secs(until),
        };
        assert!(owed.handed_off(0, "a", bundle(3, 60, 100)));
        assert!(!owed.handed_off(0, "b", bundle(5, 90, 1000)));
        let entry = owed.enter(0, clock.monotonic());
        assert_eq!(owed.of(0, &clock), (9, Some(Duration::from_secs(90))));
        assert_eq!(owed.of(1, &clock), (0, None));
        tokio::time::sleep(Duration::from_secs(200)).await;
        drop(entry);
        assert_eq!(owed.of(0, &clock), (5, Some(Duration::from_secs(290))));
        assert!(!owed.taken(0, "a") && owed.taken(0, "b"), "the last one");
        assert_eq!(owed.of(0, &clock), (0, None));
    }
}
