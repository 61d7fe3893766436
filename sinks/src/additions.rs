//! What is added to every event: built once a chunk, shared by all sinks.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use cloudtrail::{ActorClass, ActorKind, Chunk, ConsoleFrontEnds, EventRef, Field, classify};

use crate::encode::{write_key, write_labels, write_member};
use crate::{LogFile, Parcel};

/// Ids of one log file that are remembered to find two events with the same one.
///
/// About what a log file of the greatest size that CloudTrail writes has; beyond, ids are taken as unique. This
/// many fill a table of 1.1 MB, which each log file that is being read may have beside the memory budget.
const IDS_MAX: usize = 57_344;

/// Builds the parcels of one log file.
#[derive(Debug)]
pub struct ParcelMaker {
    file: Arc<LogFile>,
    fronts: Arc<ConsoleFrontEnds>,
    /// Hash of the id to fingerprint of the event's bytes.
    ids: HashMap<u64, u64>,
    /// What follows the actor in every event's additions.
    tail: Vec<u8>,
    labels: Vec<u8>,
    /// What the additions of an event take, as far as it is known.
    bytes_each: usize,
}

/// A parcel in the making, and what was seen on the way.
#[derive(Debug)]
pub struct Made {
    /// The parcel, without its charge.
    pub parcel: Parcel,
    /// How many events there were of each class and kind.
    pub actors: Vec<(ActorClass, ActorKind, u64)>,
    /// Events that had the id of another event of the same file, with other bytes.
    pub id_conflicts: u64,
}

impl ParcelMaker {
    /// For the events of `file`; `fronts` are the console's front ends.
    #[must_use]
    pub fn new(file: Arc<LogFile>, fronts: Arc<ConsoleFrontEnds>) -> Self {
        let mut tail = vec![b','];
        let mut object = vec![b'{'];
        write_member(&mut object, "bucket", &file.bucket);
        write_member(&mut object, "key", &file.key);
        write_member(&mut object, "read_at", &file.read_at);
        write_member(&mut object, "via", file.via.as_str());
        write_key(&mut object, "record");
        tail.extend_from_slice(object.get(1..).unwrap_or_default());
        let mut labels = Vec::new();
        if !file.labels.is_empty() {
            labels.extend_from_slice(b",\"labels\":");
            write_labels(&mut labels, &file.labels);
        }
        let bytes_each = tail.len() + labels.len() + 320;
        Self { file, fronts, ids: HashMap::new(), tail, labels, bytes_each }
    }

    /// Makes the parcel of the next chunk.
    #[must_use]
    pub fn make(&mut self, chunk: Chunk) -> Made {
        let mut additions = Vec::with_capacity(chunk.len() * self.bytes_each);
        let mut ends = Vec::with_capacity(chunk.len());
        let mut ids = Vec::new();
        let mut actors: Vec<(ActorClass, ActorKind, u64)> = Vec::new();
        self.ids.reserve(chunk.len().min(IDS_MAX.saturating_sub(self.ids.len())));
        for (slot, record) in chunk.events().enumerate() {
            let actor = classify(&record, &self.fronts);
            // There are few kinds, and most events are of the same.
            match actors.iter_mut().find(|(class, kind, _)| (*class, *kind) == (actor.class, actor.kind)) {
                Some((_, _, count)) => *count += 1,
                None => actors.push((actor.class, actor.kind, 1)),
            }
            additions.extend_from_slice(b"{\"actor\":");
            actor.write_json(&mut additions);
            additions.extend_from_slice(&self.tail);
            write_number(&mut additions, record.index());
            additions.extend_from_slice(&self.labels);
            additions.push(b'}');
            // A chunk is far smaller than 4 GiB.
            ends.push(u32::try_from(additions.len()).unwrap_or(u32::MAX));
            if let Some(id) = self.conflicting_id(&record) {
                ids.push((u32::try_from(slot).unwrap_or(u32::MAX), id));
            }
        }
        if !chunk.is_empty() {
            // A little more than the last chunk's, so that the next one's are rarely moved.
            self.bytes_each = additions.len() / chunk.len() + 16;
        }
        additions.shrink_to_fit();
        let id_conflicts = ids.len() as u64;
        let parcel = Parcel::new(Arc::clone(&self.file), chunk, additions, ends).with_ids(ids);
        Made { parcel, actors, id_conflicts }
    }

    /// The event's own id, if another event of the file has its id and other bytes.
    fn conflicting_id(&mut self, record: &EventRef<'_>) -> Option<String> {
        let raw = record.raw(Field::EventId)?;
        if self.ids.len() >= IDS_MAX {
            return None;
        }
        let (id, content) = (hash(raw), fingerprint(record.bytes()));
        match self.ids.insert(id, content) {
            Some(before) if before != content => {
                // The first keeps the id, whatever follows.
                self.ids.insert(id, before);
                let text = record.filled(Field::EventId)?;
                Some(format!("{text}-{}", record.index()))
            }
            _ => None,
        }
    }
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

/// Tells the bytes of events apart that have the same id. AWS sets the ids, so nobody can aim at this.
fn fingerprint(bytes: &[u8]) -> u64 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    u64::from(crc.sum()) << 32 | bytes.len() as u64 & u64::from(u32::MAX)
}

fn write_number(out: &mut Vec<u8>, number: u64) {
    let start = out.len();
    let mut rest = number;
    loop {
        out.push(b'0' + (rest % 10) as u8);
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if let Some(digits) = out.get_mut(start..) {
        digits.reverse();
    }
}
