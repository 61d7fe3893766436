//! What a lane counts: read by metrics and the status page, written without locks on the hot path.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::settle::Outcome;

/// Counters of one lane since the start.
///
/// Conservation: `offered` is the sum over all outcomes plus what is in flight.
#[derive(Debug, Default)]
pub struct LaneStats {
    offered: AtomicU64,
    outcomes: [AtomicU64; Outcome::ALL.len()],
    held_bytes: AtomicU64,
}

impl LaneStats {
    /// Events handed to the lane.
    #[must_use]
    pub fn offered(&self) -> u64 {
        self.offered.load(Ordering::Relaxed)
    }

    /// Events that ended so.
    #[must_use]
    pub fn count(&self, outcome: Outcome) -> u64 {
        self.slot(outcome).load(Ordering::Relaxed)
    }

    /// Events with the lane at the moment.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        // Outcomes first: what settles between the reads then counts as in flight instead of below zero.
        let settled: u64 = Outcome::ALL.iter().map(|&outcome| self.count(outcome)).sum();
        self.offered().saturating_sub(settled)
    }

    /// Bytes of log files that the lane keeps in memory.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.held_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn offer(&self, events: u64) {
        self.offered.fetch_add(events, Ordering::Relaxed);
    }

    pub(crate) fn outcome(&self, outcome: Outcome, events: u64) {
        self.slot(outcome).fetch_add(events, Ordering::Relaxed);
    }

    pub(crate) fn held_add(&self, bytes: u64) {
        self.held_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn held_sub(&self, bytes: u64) {
        self.held_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn slot(&self, outcome: Outcome) -> &AtomicU64 {
        let [delivered, duplicate, dead_lettered, released, handed_off] = &self.outcomes;
        match outcome {
            Outcome::Delivered => delivered,
            Outcome::Duplicate => duplicate,
            Outcome::DeadLettered => dead_lettered,
            Outcome::Released => released,
            Outcome::HandedOff => handed_off,
        }
    }
}
