//! Log files of which a sink still owes events, for the gauges and the status page.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Log files of which a sink still owes events.
#[derive(Debug)]
pub struct Owed {
    next: AtomicU64,
    lanes: Vec<Mutex<BTreeMap<u64, Duration>>>,
}

impl Owed {
    /// For so many lanes.
    #[must_use]
    pub fn new(lanes: usize) -> Self {
        Self { next: AtomicU64::new(0), lanes: (0..lanes).map(|_| Mutex::default()).collect() }
    }

    /// How many log files a lane owes, and since when the oldest (on the monotonic clock).
    #[must_use]
    pub fn of(&self, lane: usize) -> (usize, Option<Duration>) {
        let Some(files) = self.lanes.get(lane) else { return (0, None) };
        let files = files.lock().unwrap_or_else(PoisonError::into_inner);
        (files.len(), files.values().min().copied())
    }

    /// Notes that a lane owes events of a log file, until the entry is dropped.
    pub(super) fn enter(&self, lane: usize, since: Duration) -> Option<Entry<'_>> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let files = self.lanes.get(lane)?;
        files.lock().unwrap_or_else(PoisonError::into_inner).insert(id, since);
        Some(Entry { files, id })
    }
}

/// One owed log file, until dropped.
pub(super) struct Entry<'a> {
    files: &'a Mutex<BTreeMap<u64, Duration>>,
    id: u64,
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.files.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}
