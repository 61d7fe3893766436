//! The contract with a destination that stores objects: the events of a log file in, whole objects out.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use cloudtrail::Timestamp;

use crate::destinations::Finding;
use crate::{LogFile, Merge, Parcel, RangeSet, Reason};

/// A destination that stores objects instead of taking requests: each holds events of one log file, and all of those
/// that belong into it.
///
/// The lane brings every event of a log file, owed or not, in the order of the file, so that an object is the same
/// whenever it is made. It owns retries and settlement; the destination stores once and says what happened.
#[async_trait]
pub trait ObjectSink: Send + Sync {
    /// Begins with a log file.
    fn gather(&self, file: &LogFile) -> Box<dyn Gathering>;

    /// Stores an object; `Ok` means that it is durable. One of the same name is replaced: it holds the same events.
    ///
    /// Neither retries nor sleeps.
    ///
    /// # Errors
    /// By what the lane does about it.
    async fn store(&self, object: &Object) -> Result<(), StoreError>;

    /// How its objects are put together into larger ones of many log files; `None`: each is stored by itself.
    fn merge(&self) -> Option<Arc<dyn Merge>> {
        None
    }

    /// What `check` says of it: asks without storing an event.
    async fn check(&self) -> Vec<(String, Finding)> {
        Vec::new()
    }
}

/// Events of one log file on their way into objects. Computes only; called on worker threads.
pub trait Gathering: Send {
    /// Takes all events of the next chunk, converts them, and lets go of their bytes. What was already complete, or is
    /// complete with it, is added to `complete`.
    ///
    /// # Errors
    /// If an event cannot be written, which none that was read well can cause: all is dropped, and comes again.
    fn add(&mut self, parcel: &Arc<Parcel>, complete: &mut Vec<Object>) -> Result<(), Reason>;

    /// Closes what is open: the log file has ended, or can be read no further.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    fn finish(&mut self, complete: &mut Vec<Object>) -> Result<(), Reason>;

    /// Bytes of memory that it holds.
    fn memory_bytes(&self) -> u64;
}

/// An object that holds all events which belong into it.
#[derive(Clone, Debug, Default)]
pub struct Object {
    /// Its name, with folders. Objects of the same name hold the same events.
    pub name: String,
    /// Its bytes.
    pub bytes: Bytes,
    /// The positions of its events in the log file.
    pub events: RangeSet,
    /// When they happened, as far as that is known.
    pub times: Vec<Timestamp>,
}

/// Why an object was not stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// Not reached, overloaded, a full disk: again later.
    Unavailable(Reason),
    /// Credentials, permissions, set-up.
    Denied(Reason),
}
