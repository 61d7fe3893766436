//! An event's identity: the id by which a destination knows it again, and the time it belongs to.

use std::borrow::Cow;

use cloudtrail::{Field, Timestamp};
use sha2::{Digest, Sha256};

use crate::Event;
use crate::dead_letter::hex;

/// The longest id that a destination has to take: Elasticsearch's limit for `_id`, in bytes.
const ID_BYTES_MAX: usize = 512;

impl Event {
    /// The id by which a destination can know the event again: `eventID`, else `eventId`, else a hash of
    /// (bucket, key, version, position).
    ///
    /// The same for every delivery of the same event. Where two events of one log file have the same id and
    /// different bytes, the later one has its position appended.
    #[must_use]
    pub fn document_id(&self) -> Cow<'_, str> {
        if let Some(id) = self.own_id() {
            return Cow::Borrowed(id);
        }
        match self.text(Field::EventId) {
            Some(id) if id.len() <= ID_BYTES_MAX => id,
            _ => Cow::Owned(self.position_id()),
        }
    }

    /// When it happened: `eventTime`, else `timeWindow.windowStart`, else the minute in the log file's name.
    /// `None` where none of them says; never the clock.
    #[must_use]
    pub fn time(&self) -> Option<Timestamp> {
        let parse = |field| self.text(field).and_then(|text| Timestamp::parse(&text));
        let key_minute = || self.file().key_minute.as_deref().and_then(Timestamp::parse);
        parse(Field::EventTime).or_else(|| parse(Field::WindowStart)).or_else(key_minute)
    }

    fn position_id(&self) -> String {
        let file = self.file();
        let mut hash = Sha256::new();
        for part in [file.bucket.as_str(), file.key.as_str(), file.version_id.as_deref().unwrap_or_default()]
        {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        hash.update(self.index().to_be_bytes());
        let digest = hash.finalize();
        hex(digest.get(..20).unwrap_or(&digest))
    }
}
