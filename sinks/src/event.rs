//! An event on its way to destinations: its bytes, the log file it came from, and what is added to it.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use cloudtrail::{Chunk, EventRef, Field, Timestamp};

use crate::budget::Charge;
use crate::identity::time_of;

/// How a log file came to the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the value of the same name in `trailship.via`")]
pub enum Via {
    Queue,
    Inline,
    Handoff,
    Backfill,
    Directory,
    Ship,
    Redrive,
}

impl Via {
    /// The value of `trailship.via`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Inline => "inline",
            Self::Handoff => "handoff",
            Self::Backfill => "backfill",
            Self::Directory => "directory",
            Self::Ship => "ship",
            Self::Redrive => "redrive",
        }
    }
}

/// What all events of one log file have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFile {
    /// The bucket; `file` for a local one, empty for an inline event.
    pub bucket: String,
    /// The object's key, decoded; a path for a local file; `eventbridge/<id>` for an inline event.
    pub key: String,
    /// S3 version id, where the bucket has versions.
    pub version_id: Option<String>,
    /// ETag, without quotes.
    pub etag: Option<String>,
    /// How it came here.
    pub via: Via,
    /// RFC 3339, UTC, milliseconds.
    pub read_at: String,
    /// Labels of the agent and the source.
    pub labels: Vec<(String, String)>,
    /// `YYYY-MM-DDTHH:MM:00Z` from the key's name: the last resort for an event without a time.
    pub key_minute: Option<String>,
}

/// One chunk of a log file with what is added to its events; shared by all lanes, freed by the last.
#[derive(Debug)]
pub struct Parcel {
    file: Arc<LogFile>,
    chunk: Chunk,
    /// The additions of all events, one after the other: the text that follows `"trailship":`.
    additions: Vec<u8>,
    /// Where each event's additions end.
    ends: Vec<u32>,
    /// When each event happened. Asked for again and again, long after the event's bytes have left the caches.
    times: Vec<Option<Timestamp>>,
    /// Events whose id another event of the same log file has, with other bytes: they get one of their own.
    ids: Vec<(u32, String)>,
    /// The parcel's part of the memory budget, given back with it.
    charge: Option<Charge>,
}

impl Parcel {
    /// Puts a chunk and the additions of its events together.
    ///
    /// `additions` holds, for each event in order, the JSON object that becomes the value of `trailship`
    /// (without labels of a sink; its own labels stand last), and `ends` where each of them ends.
    #[must_use]
    pub fn new(file: Arc<LogFile>, chunk: Chunk, additions: Vec<u8>, ends: Vec<u32>) -> Self {
        let times = chunk.events().map(|record| time_of(&record, &file)).collect();
        Self { file, chunk, additions, ends, times, ids: Vec::new(), charge: None }
    }

    /// The same with ids of their own for some events, by their position in the chunk, in order.
    #[must_use]
    pub fn with_ids(mut self, ids: Vec<(u32, String)>) -> Self {
        self.ids = ids;
        self
    }

    /// The same with its part of the memory budget.
    #[must_use]
    pub fn with_charge(mut self, charge: Option<Charge>) -> Self {
        self.charge = charge;
        self
    }

    /// The log file.
    #[must_use]
    pub fn file(&self) -> &Arc<LogFile> {
        &self.file
    }

    /// The chunk.
    #[must_use]
    pub fn chunk(&self) -> &Chunk {
        &self.chunk
    }

    /// Bytes of memory to charge for it where it goes to so many lanes; once charged, what was charged.
    #[must_use]
    pub fn memory_bytes(&self, lanes: usize) -> u64 {
        if let Some(charge) = &self.charge {
            return charge.bytes();
        }
        let each = size_of::<u32>() + size_of::<Option<Timestamp>>();
        let held = (self.chunk.memory_bytes() + self.additions.len() + self.chunk.len() * each) as u64;
        // Measured: while a request waits for its answer its lane holds it compressed, with its events' places,
        // a fifth of the parcel. And the allocator keeps an arena a thread: as parcels are made by one and freed
        // by another, it holds on to three quarters of what is in use. Uncharged, both would come on top.
        held + held * 3 / 4 + held / 5 * lanes as u64
    }
}

/// One event; cheap to clone.
#[derive(Clone, Debug)]
pub struct Event {
    parcel: Arc<Parcel>,
    slot: u32,
}

impl Event {
    /// The event at position `slot` of a parcel; `None` past its end.
    #[must_use]
    pub fn new(parcel: &Arc<Parcel>, slot: u32) -> Option<Self> {
        parcel.chunk.event(slot as usize)?;
        Some(Self { parcel: Arc::clone(parcel), slot })
    }

    /// The log file it came from.
    #[must_use]
    pub fn file(&self) -> &LogFile {
        &self.parcel.file
    }

    /// When it happened: `eventTime`, else `timeWindow.windowStart`, else the minute in the log file's name.
    /// `None` where none of them says; never the clock.
    #[must_use]
    pub fn time(&self) -> Option<Timestamp> {
        self.parcel.times.get(self.slot as usize).copied().flatten()
    }

    /// The id that was given to it because another event of its log file has the same one.
    pub(crate) fn own_id(&self) -> Option<&str> {
        let ids = &self.parcel.ids;
        let at = ids.binary_search_by_key(&self.slot, |&(slot, _)| slot).ok()?;
        ids.get(at).map(|(_, id)| id.as_str())
    }

    /// The chunk it stands in.
    #[must_use]
    pub fn chunk(&self) -> &Chunk {
        &self.parcel.chunk
    }

    /// The event itself. (A slot out of range cannot be built; it would read as an empty event.)
    #[must_use]
    pub fn record(&self) -> Option<EventRef<'_>> {
        self.parcel.chunk.event(self.slot as usize)
    }

    /// The bytes as AWS wrote them.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.record().map(|record| record.bytes()).unwrap_or_default()
    }

    /// Where the bytes stand in the chunk.
    #[must_use]
    pub fn range(&self) -> Range<u32> {
        self.record().map(|record| record.range()).unwrap_or_default()
    }

    /// 0-based position in the log file.
    #[must_use]
    pub fn index(&self) -> u64 {
        self.record().map_or(0, |record| record.index())
    }

    /// A field's text.
    #[must_use]
    pub fn text(&self, field: Field) -> Option<Cow<'_, str>> {
        self.record()?.filled(field)
    }

    /// The JSON object that becomes the value of the key `trailship`, without a sink's labels;
    /// `None` where the record already has that key.
    #[must_use]
    pub fn additions(&self) -> Option<&[u8]> {
        if self.record()?.has(Field::Trailship) {
            return None;
        }
        self.made_additions()
    }

    /// The additions as a text, also where the record already has that key.
    #[cfg(feature = "parquet")]
    pub(crate) fn additions_text(&self) -> Option<&str> {
        std::str::from_utf8(self.made_additions()?).ok()
    }

    fn made_additions(&self) -> Option<&[u8]> {
        let slot = self.slot as usize;
        let end = *self.parcel.ends.get(slot)? as usize;
        let start =
            slot.checked_sub(1).and_then(|before| self.parcel.ends.get(before)).map_or(0, |&e| e as usize);
        self.parcel.additions.get(start..end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Budget;
    use crate::testing::Sample;

    #[tokio::test]
    async fn a_parcel_is_charged_for_each_lane_and_keeps_to_what_it_was_charged() {
        let event = Sample::new(&format!(r#"{{"a":"{}"}}"#, "x".repeat(1000))).event();
        let parcel = Parcel::new(Arc::clone(&event.parcel.file), event.chunk().clone(), Vec::new(), vec![0]);
        let (one, five) = (parcel.memory_bytes(1), parcel.memory_bytes(5));
        assert!(one > 1000 && one < five && five < 2 * one, "{one} {five}");
        let charge = Budget::new(1 << 20).charge(five).await;
        let parcel = parcel.with_charge(Some(charge));
        assert_eq!((parcel.memory_bytes(1), parcel.memory_bytes(5)), (five, five));
    }
}
