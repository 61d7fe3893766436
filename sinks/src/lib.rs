//! Where events go: a batch of events in, a verdict for every event out; batching, delivery, settlement.
//!
//! A destination is one file that encodes events and judges answers. Everything around it (transport,
//! compression, retries, splitting, dead letters, settlement) exists once, here, behind the ports of
//! [`ports`]. This crate does not know SQS, or how an event arrived, and names no AWS SDK type.

mod body;
mod contract;
mod event;
pub mod ports;

pub use body::{Body, Piece, escaped_len};
pub use contract::{
    Answer, Attempt, Head, HttpSink, Judgement, Reason, ReasonCode, Shape, Sink, Token, Verdict,
};
pub use event::{Event, LogFile, Parcel, Via};
