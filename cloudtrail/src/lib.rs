//! What CloudTrail says: notifications, log files, events, actors, digests.
//!
//! Bytes in, values out. This crate does no IO, does not know the time, spawns nothing and logs nothing.

mod event;

pub use event::{Chunk, EventRef, EventSpans, Field, Span, SpanKind};
