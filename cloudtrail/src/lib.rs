//! What CloudTrail says: notifications, log files, events, actors, digests.
//!
//! Bytes in, values out. This crate does no IO, does not know the time, spawns nothing and logs nothing.

mod actor;
mod event;
mod handoff;
mod key;
mod log_file;
mod notification;
mod text;
mod time;

pub use actor::{Actor, ActorClass, ActorKind, ConsoleFrontEnds, classify};
pub use event::{Chunk, EventRef, EventSpans, Field, Span, SpanKind};
pub use handoff::{HANDOFF_RANGES_MAX, Handoff, HandoffError};
pub use key::{KeyKind, ObjectKey};
pub use log_file::{ContentKind, DocumentKind, Limits, LogFileEnd, LogFileReader, ReadError};
pub use notification::{
    Content, InlineEvents, NothingReason, Notification, NotificationShape, ObjectRef, UnknownReason,
    read_notification,
};
pub use text::{string_len, unescape, write_string};
pub use time::Timestamp;
