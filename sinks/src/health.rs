//! A lane's health: whether it accepts, since when it fails, and what it learnt about the destination.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use crate::batch_limit::BatchLimit;
use crate::retry::RETRY_AFTER_MAX;
use crate::throttle::Throttle;
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
    batch: Mutex<BatchLimit>,
    throttle: Mutex<Throttle>,
    /// Until when no request may begin: the destination asked for it.
    rest_until: Mutex<Duration>,
    /// What was accepted when an answer last denied all of its events.
    denied_at: AtomicU64,
}

impl Health {
    /// An open lane, with the most bytes of a batch and the bounds of requests at once.
    pub(crate) fn new(batch_bytes_max: usize, least: usize, most: usize) -> Self {
        Self {
            state: Watched::new(LaneState::Open),
            accepted: AtomicU64::new(0),
            failing_since: Mutex::default(),
            last_failure: Mutex::default(),
            last_delivery: Mutex::default(),
            batch: Mutex::new(BatchLimit::new(batch_bytes_max)),
            throttle: Mutex::new(Throttle::new(least, most)),
            rest_until: Mutex::default(),
            denied_at: AtomicU64::new(0),
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
        lock(&self.batch).bytes()
    }

    /// Requests that may be under way at once at the moment.
    #[must_use]
    pub fn concurrency(&self) -> usize {
        lock(&self.throttle).limit()
    }

    /// How long no request may begin, because the destination asked for it.
    pub(crate) fn rest(&self, now: Duration) -> Duration {
        lock(&self.rest_until).saturating_sub(now)
    }

    /// A batch waits because there are as many requests as there may be.
    pub(crate) fn note_full(&self) {
        lock(&self.throttle).full();
    }

    /// At least one event of a request of `bytes` was accepted after `took`.
    pub(crate) fn note_answer(&self, bytes: usize, took: Duration, now: Duration) {
        lock(&self.throttle).answered(bytes, took);
        lock(&self.batch).taken(bytes, now);
    }

    /// The destination has too much to do, and may have asked to be left alone for a time.
    pub(crate) fn note_overload(&self, now: Duration, retry_after: Option<Duration>) {
        lock(&self.throttle).overloaded(now);
        if let Some(wish) = retry_after {
            let mut until = lock(&self.rest_until);
            *until = (*until).max(now + wish.min(RETRY_AFTER_MAX));
        }
    }

    /// Events that the destination took so far; a later, larger number is a witness.
    pub(crate) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// An answer denied events and accepted none; true if the destination has accepted others since the last such
    /// answer, so that only these are at fault and not its whole set-up.
    pub(crate) fn note_denied(&self) -> bool {
        let accepted = self.accepted();
        self.denied_at.swap(accepted, Ordering::Relaxed) < accepted
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

    /// A batch of `bytes` was too large.
    pub(crate) fn learn_too_large(&self, bytes: usize, now: Duration) {
        lock(&self.batch).refused(bytes, now);
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
