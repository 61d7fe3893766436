//! Hand-offs of a job: what a sink is still owed of its log file, written down for whoever delivers it later.

use std::sync::Arc;

use async_trait::async_trait;
use cloudtrail::{HANDOFF_RANGES_MAX, Handoff, Timestamp};
use sinks::{LogFile, RangeSet};

use super::fetch::Version;

/// Why hand-offs were not enqueued.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandOffError {
    /// Not before somebody has changed something.
    #[error("sending is not permitted: {0}")]
    NotPermitted(String),
    /// One of them is not fit to be written, which is a bug; none was sent.
    #[error("{0}: please report this")]
    Unwritable(#[from] cloudtrail::HandoffError),
    /// The agent ends.
    #[error("the agent ends")]
    Ended,
}

/// Where hand-offs go.
#[async_trait]
pub trait HandOffs: Send + Sync {
    /// Enqueues hand-offs, and returns once they are durable. What passes by itself is tried again for as long as it
    /// takes.
    ///
    /// # Errors
    /// Where trying again is of no use. Some of the list may be enqueued nevertheless, which only adds work.
    async fn hand_off(&self, list: Vec<Handoff>) -> Result<(), HandOffError>;
}

/// How what is owed of a log file can be handed off.
#[derive(Clone)]
pub struct Parting {
    /// Where to.
    pub queue: Arc<dyn HandOffs>,
    /// When the first notification of the log file was received.
    pub first_seen: Timestamp,
    /// How often it was handed off before.
    pub attempts: u32,
    /// Whether the key is known before the object was found under it.
    pub key_is_sure: bool,
}

impl Parting {
    /// Whether somebody else could find the log file again.
    pub(super) fn can(&self, file: &LogFile, version: &Version) -> bool {
        !file.bucket.is_empty() && (self.key_is_sure || version.key.is_some())
    }

    /// What `sink` is owed, in hand-offs of at most as many ranges as one may have.
    pub(super) fn write(
        &self,
        file: &LogFile,
        version: &Version,
        sink: &str,
        owed: &RangeSet,
    ) -> Vec<Handoff> {
        let one = |ranges: &[std::ops::Range<u64>]| Handoff {
            bucket: file.bucket.clone(),
            key: version.key.clone().unwrap_or_else(|| file.key.clone()),
            version_id: version.version_id.clone(),
            etag: version.etag.clone(),
            sink: sink.to_owned(),
            ranges: ranges.to_vec(),
            attempts: self.attempts,
            first_seen: self.first_seen,
        };
        owed.ranges().chunks(HANDOFF_RANGES_MAX).map(one).collect()
    }
}
