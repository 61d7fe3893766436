//! A lane's health: whether it accepts, since when it fails, and what it learnt about the destination.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use crate::watched::Watched;
use crate::{Reason, ReasonCode};

/// Whether a lane takes events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LaneState {
    /// It does.
    Open,
    /// It does not: it holds more than its part of the memory budget. It opens once it holds less.
    Congested,
    /// It does not: failing for longer than `give_up_after`. It is probed with single events.
    Unavailable(Reason),
    /// It does not: credentials or set-up. It is probed with single events.
    Denied(Reason),
}

impl LaneState {
    /// Whether events are taken.
    #[must_use]
    pub fn is_open(&self) -> bool {
        *self == Self::Open
    }

    /// Whether only a probe can open it again.
    #[must_use]
    pub fn is_shut(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Denied(_))
    }
}

/// A failure for the status page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// When.
    pub at: SystemTime,
    /// What.
    pub why: Reason,
}

/// What all tasks of a lane share about the destination.
#[derive(Debug)]
pub struct Health {
    state: Watched<LaneState>,
    accepted: AtomicU64,
    failing_since: Mutex<Option<Duration>>,
    last_failure: Mutex<Option<Failure>>,
    last_delivery: Mutex<Option<SystemTime>>,
    batch_bytes_max: AtomicUsize,
    concurrency: AtomicUsize,
}

impl Health {
    /// An open lane.
    pub(crate) fn new(batch_bytes_max: usize, concurrency: usize) -> Self {
        Self {
            state: Watched::new(LaneState::Open),
            accepted: AtomicU64::new(0),
            failing_since: Mutex::default(),
            last_failure: Mutex::default(),
            last_delivery: Mutex::default(),
            batch_bytes_max: AtomicUsize::new(batch_bytes_max),
            concurrency: AtomicUsize::new(concurrency),
        }
    }

    /// Whether the lane takes events.
    #[must_use]
    pub fn state(&self) -> LaneState {
        self.state.get()
    }

    /// Waits for a state of which `holds` is true.
    pub async fn wait_for(&self, holds: impl Fn(&LaneState) -> bool) -> LaneState {
        self.state.wait_for(holds).await
    }

    /// The last failure, whatever came after it.
    #[must_use]
    pub fn last_failure(&self) -> Option<Failure> {
        lock(&self.last_failure).clone()
    }

    /// When the destination last took an event.
    #[must_use]
    pub fn last_delivery(&self) -> Option<SystemTime> {
        *lock(&self.last_delivery)
    }

    /// The most bytes a batch may have: configured, or learnt from a destination that found one too large.
    #[must_use]
    pub fn batch_bytes_max(&self) -> usize {
        self.batch_bytes_max.load(Ordering::Relaxed)
    }

    /// Requests that may be under way at once at the moment.
    #[must_use]
    pub fn concurrency(&self) -> usize {
        self.concurrency.load(Ordering::Relaxed)
    }

    /// Events that the destination took so far; a later, larger number is a witness.
    pub(crate) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    pub(crate) fn note_accepted(&self, events: u64, at: SystemTime) {
        if events == 0 {
            return;
        }
        self.accepted.fetch_add(events, Ordering::Relaxed);
        *lock(&self.failing_since) = None;
        *lock(&self.last_delivery) = Some(at);
    }

    /// Notes a failure; true if the sink has been failing for longer than `give_up_after`.
    pub(crate) fn note_failure(
        &self,
        why: &Reason,
        at: SystemTime,
        now: Duration,
        patience: Duration,
    ) -> bool {
        *lock(&self.last_failure) = Some(Failure { at, why: why.clone() });
        let since = *lock(&self.failing_since).get_or_insert(now);
        now.saturating_sub(since) >= patience
    }

    /// A batch of `bytes` was too large: from now on, half of it.
    pub(crate) fn learn_too_large(&self, bytes: usize) {
        let learnt = (bytes / 2).max(1024);
        self.batch_bytes_max.fetch_min(learnt, Ordering::Relaxed);
    }

    pub(crate) fn set_concurrency(&self, requests: usize) {
        self.concurrency.store(requests, Ordering::Relaxed);
    }

    pub(crate) fn set_state(&self, state: LaneState) {
        self.state.set(state);
    }
}

/// Whether a failure means that the destination has too much to do.
pub(crate) fn is_overload(code: ReasonCode) -> bool {
    matches!(code, ReasonCode::Throttled | ReasonCode::ServerError | ReasonCode::Timeout)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
