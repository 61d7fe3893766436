//! Where events go: a batch of events in, a verdict for every event out; batching, delivery, settlement.
//!
//! A destination is one file that encodes events and judges answers. Everything around it (transport,
//! compression, retries, splitting, dead letters, settlement) exists once, here, behind the ports of
//! [`ports`]. This crate does not know SQS, or how an event arrived, and names no AWS SDK type.

mod additions;
mod batch_limit;
mod body;
mod budget;
mod contract;
mod dead_letter;
mod delivery;
pub mod destinations;
pub mod encode;
mod event;
mod file;
mod health;
mod http;
mod identity;
mod lane;
mod merge;
mod objects;
pub mod ports;
mod ranges;
mod renew;
mod retry;
mod secret;
mod settle;
mod stats;
#[cfg(test)]
mod testing;
mod throttle;
mod watched;

pub use additions::{Made, ParcelMaker};
pub use body::{Body, Piece, escaped_len};
pub use budget::{Budget, Charge};
pub use contract::{
    Answer, Attempt, Encoded, Head, HttpSink, Judgement, Reason, ReasonCode, Shape, Sink, Token, Verdict,
};
pub use dead_letter::{
    DeadLetterStore, FileDeadLetters, Letter, MESSAGE_BYTES_MAX, NoDeadLetters, ObjectDeadLetters,
};
pub use delivery::{Acknowledgement, LaneObserver, Unobserved};
pub use event::{Event, LogFile, Parcel, Via};
pub use file::{ConsoleSink, FileSink, LineFormat};
pub use health::{Failure, Health, LaneState};
pub use http::{Compression, HttpDestination};
pub use lane::{BatchConfig, Lane, LaneConfig, LanePass, LanePorts};
pub use merge::{Merge, MergeLimits};
pub use objects::{Gathering, Object, ObjectSink, StoreError};
pub use ranges::RangeSet;
pub use renew::RenewingSink;
pub use retry::{Delays, RetryConfig, jitter};
pub use secret::{Redactor, Secret};
pub use settle::{Account, Outcome, Owed, Share};
pub use stats::LaneStats;
pub use watched::Watched;
