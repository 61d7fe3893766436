//! What jobs share, how they end, and who is told.

use std::sync::Arc;

use cloudtrail::ContentKind;
use sinks::ports::{Clock, Compute, Random};
use sinks::{DeadLetterStore, Reason};

use super::owed::Owed;
use super::pass::{PassError, PassObserver, ReadSettings};
use crate::lanes::Lanes;

/// How a log file ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobEnd {
    /// Every event has its outcome at every required sink.
    Done {
        /// Events in the log file.
        events: u64,
        /// What was in it.
        content: ContentKind,
    },
    /// It could not be read to its end; the rest is in the dead letters, durably.
    DeadLettered,
    /// Every event has its outcome, or is handed off: durably written down as owed.
    HandedOff,
    /// It is not done, and its notification has to stay.
    Kept(String),
}

/// What jobs share.
pub struct Plan {
    /// How log files are read.
    pub settings: ReadSettings,
    /// Where events go.
    pub lanes: Arc<Lanes>,
    /// Where it is computed.
    pub compute: Arc<dyn Compute>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Jitter.
    pub random: Arc<dyn Random>,
    /// For what cannot be read.
    pub dead_letters: Arc<dyn DeadLetterStore>,
    /// Which sinks hold the notification until they have everything, by position.
    pub required: Vec<bool>,
    /// What is owed at the moment.
    pub owed: Owed,
}

/// What is left of a log file that was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remains {
    /// The object in its bucket, or the file in its folder.
    InPlace,
    /// All of it stands in the dead letter: it came inside its message.
    InLetter,
}

/// Told how a log file fares.
pub trait JobObserver: PassObserver {
    /// A read failed; unless it was the last, it is tried again.
    fn failed(&self, name: &str, error: &PassError, attempt: u32);
    /// The rest of a log file went to the dead letters.
    fn dead_lettered(&self, name: &str, from: u64, why: &Reason, remains: Remains);
    /// Dead letters cannot be stored.
    fn dead_letter_failed(&self, error: &std::io::Error);
    /// A sink that is not required did not get these events.
    fn dropped(&self, lane: usize, events: u64);
    /// The log file is read again for this sink.
    fn again(&self, name: &str, lane: usize, owed: u64);
}
