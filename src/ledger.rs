//! The delivery ledger: which sinks have which log files, so that what is announced again is not sent again.
//!
//! **Invariant** Only what is done is noted. A log file that is being delivered stands nowhere: a note can be missing,
//! which costs duplicates, and never be too early, which would cost events.

mod dynamodb;
mod memory;
mod turns;

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use sha2::{Digest as _, Sha256};

pub use dynamodb::{DynamoDbLedger, LedgerObserver, PARTITION_KEY, TTL_ATTRIBUTE};
pub use memory::MemoryLedger;
pub use turns::{Turn, Turns};

/// What has been delivered of a log file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// Which version of the object it is.
    pub version: ObjectVersion,
    /// Events in the log file.
    pub events: u64,
    /// The marks of the sinks that have every one of them.
    pub marks: BTreeSet<String>,
}

/// Names one version of one object, in as little room as does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectVersion([u8; 16]);

impl ObjectVersion {
    /// By its version id where the bucket keeps versions, else by its ETag; `None` where neither is known.
    ///
    /// `null` is what S3 calls the version of an object that was stored without versions; it may be replaced.
    #[must_use]
    pub fn of_object(version_id: Option<&str>, etag: Option<&str>) -> Option<Self> {
        let id = version_id.filter(|id| !id.is_empty() && *id != "null").map(|id| format!("version:{id}"));
        let name = id.or_else(|| etag.filter(|etag| !etag.is_empty()).map(|etag| format!("etag:{etag}")))?;
        Some(Self(hash(name.as_bytes())))
    }

    /// By all of its bytes, for a log file that came inside its message.
    #[must_use]
    pub fn of_document(document: &[u8]) -> Self {
        Self(hash(document))
    }

    /// In hexadecimal digits.
    #[must_use]
    pub fn to_hex(self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// From what [`to_hex`](Self::to_hex) gives.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let bytes = u128::from_str_radix(text, 16).ok().filter(|_| text.len() == 32)?;
        Some(Self(bytes.to_be_bytes()))
    }
}

/// Half of a SHA-256: what others choose cannot be made to collide.
fn hash(bytes: &[u8]) -> [u8; 16] {
    let mut half = [0; 16];
    half.iter_mut().zip(Sha256::digest(bytes)).for_each(|(to, from)| *to = from);
    half
}

/// What sinks have already, and where that is noted.
#[async_trait]
pub trait DeliveryLedger: Send + Sync {
    /// What is known of the log file with that name; `None` where nothing is, or nobody can be asked.
    ///
    /// `wanted` are the marks that the caller would like to find: who knows them all asks nobody else.
    async fn look(&self, log_file: &str, wanted: &BTreeSet<String>) -> Option<Delivered>;

    /// Notes what has been delivered. What cannot be noted is lost, and costs duplicates at most.
    async fn note(&self, log_file: &str, delivered: &Delivered);

    /// Whether it notes anything: only then is it of use to wait until a log file is done.
    fn remembers(&self) -> bool {
        true
    }
}

/// Knows nothing: whatever is announced again is sent again.
pub struct NoLedger;

#[async_trait]
impl DeliveryLedger for NoLedger {
    async fn look(&self, _: &str, _: &BTreeSet<String>) -> Option<Delivered> {
        None
    }

    async fn note(&self, _: &str, _: &Delivered) {}

    fn remembers(&self) -> bool {
        false
    }
}

/// The ledger, and what stands in it for each sink.
pub struct Deliveries {
    /// Where it is noted.
    pub ledger: Arc<dyn DeliveryLedger>,
    /// By the positions of the lanes: the sink's name and its generation, which changes with the place that its events
    /// go to.
    pub marks: Vec<String>,
    /// Who delivers which log file now.
    pub turns: Turns,
}

impl Deliveries {
    /// Nothing is under way yet.
    #[must_use]
    pub fn new(ledger: Arc<dyn DeliveryLedger>, marks: Vec<String>) -> Self {
        Self { ledger, marks, turns: Turns::default() }
    }

    /// Nothing is known, and nothing noted.
    #[cfg(test)]
    #[must_use]
    pub fn unknown() -> Self {
        Self::new(Arc::new(NoLedger), Vec::new())
    }

    /// The marks of these lanes. A lane without one is left out.
    pub fn marks_of(&self, lanes: impl IntoIterator<Item = usize>) -> BTreeSet<String> {
        lanes.into_iter().filter_map(|lane| self.marks.get(lane).cloned()).collect()
    }
}
