//! Who is told what happens in a lane: metrics and logs, which this crate does not know.

use std::time::Duration;

use cloudtrail::Timestamp;

use crate::health::LaneState;
use crate::{Event, Reason, Via};

/// What has become of the confirmations of a destination that confirms what it has accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acknowledgement {
    /// For long nothing was confirmed. Events are sent again and again, since the sink insists on it.
    Missing,
    /// For long nothing was confirmed. From now on what is accepted counts as delivered.
    Ignored,
    /// Something was confirmed: from now on confirmations are waited for again.
    Back,
}

/// Receives what a lane observes; all methods default to nothing.
pub trait LaneObserver: Send + Sync {
    /// One request ended after `took`; `result` is `ok` or a [`ReasonCode`]'s name.
    fn request(&self, result: &'static str, took: Duration) {
        let _ = (result, took);
    }
    /// A failure of this class, whether the whole request or events of it.
    fn failure(&self, why: &Reason, events: usize) {
        let _ = (why, events);
    }
    /// The destination took these events.
    fn delivered(&self, events: &mut dyn Iterator<Item = &Event>) {
        let _ = events;
    }
    /// An object was stored; its events came here by `via`, and happened at `times`.
    fn stored(&self, via: Via, times: &[Timestamp]) {
        let _ = (via, times);
    }
    /// The lane's state has changed.
    fn state(&self, state: &LaneState) {
        let _ = state;
    }
    /// What has become of the destination's confirmations.
    fn acknowledgement(&self, told: Acknowledgement) {
        let _ = told;
    }
    /// An event was dead-lettered.
    fn dead_lettered(&self, event: &Event, why: &Reason) {
        let _ = (event, why);
    }
    /// Dead letters could not be stored.
    fn dead_letter_failed(&self, why: &std::io::Error) {
        let _ = why;
    }
}

/// An observer that observes nothing.
#[derive(Debug)]
pub struct Unobserved;
impl LaneObserver for Unobserved {}
