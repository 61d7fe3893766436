//! The events of one log file on their way into objects: one for each account, region and day, cut at places that
//! depend on the log file alone.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use ::parquet::errors::Result;
use ::parquet::file::properties::WriterPropertiesPtr;
use ::parquet::file::writer::SerializedFileWriter;
use ::parquet::schema::types::TypePtr;
use cloudtrail::{Field, ObjectKey, Timestamp};
use sha2::{Digest as _, Sha256};

use super::columns::Columns;
use super::schema::Leaf;
use super::shred::Shredder;
use crate::{Event, Gathering, LogFile, Object, Parcel, RangeSet, Reason, ReasonCode};

/// Where a log file is cut into objects. All of them depend on its content alone, never on how it was read: a replay
/// makes the same objects. Another value makes other objects, so these are no settings.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cuts {
    /// A cut stands before every event whose position is a multiple of this.
    pub(super) events: u64,
    /// So it does once the events since the last cut have this many bytes of JSON, ...
    pub(super) bytes: u64,
    /// ... or belong to this many places. Both bound the memory that a hostile log file can take.
    pub(super) places: usize,
    /// Once all columns together have this many bytes, those of the object with the most become a row group.
    pub(super) group_bytes: usize,
}

impl Cuts {
    pub(super) const USUAL: Self =
        Self { events: 50_000, bytes: 64 << 20, places: 256, group_bytes: 8 << 20 };
}

/// What all objects of a sink have in common.
#[derive(Debug)]
pub(super) struct Format {
    pub(super) shredder: Shredder,
    pub(super) schema: TypePtr,
    pub(super) properties: WriterPropertiesPtr,
    pub(super) leaves: Vec<Leaf>,
    pub(super) cuts: Cuts,
}

/// The folders that an object lies in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    account: String,
    region: String,
    /// Year, month, day.
    day: Option<(i32, u8, u8)>,
}

/// The events of one log file.
pub(super) struct FileGathering {
    format: Arc<Format>,
    bucket: String,
    key: String,
    /// What the key says, for events that do not.
    account: Option<String>,
    region: Option<String>,
    open: BTreeMap<Place, Draft>,
    /// The position at which the next cut stands at the latest.
    cut: u64,
    /// Bytes of JSON since the last cut.
    bytes: u64,
    /// Bytes of columns in all objects that are open.
    columns_bytes: usize,
}

/// An object in the making.
struct Draft {
    columns: Columns,
    /// Once there is a row group.
    writer: Option<SerializedFileWriter<Vec<u8>>>,
    /// Of what stands in it: it makes the object's name.
    content: Sha256,
    events: RangeSet,
    times: Vec<Timestamp>,
}

impl FileGathering {
    pub(super) fn new(format: Arc<Format>, file: &LogFile) -> Self {
        let key = ObjectKey::parse(&file.key);
        Self {
            format,
            bucket: file.bucket.clone(),
            key: file.key.clone(),
            account: key.account,
            region: key.region,
            open: BTreeMap::new(),
            cut: 0,
            bytes: 0,
            columns_bytes: 0,
        }
    }

    fn event(&mut self, event: &Event, complete: &mut Vec<Object>) -> Result<()> {
        let cuts = self.format.cuts;
        let place = self.place(event);
        let is_crowded = self.open.len() >= cuts.places && !self.open.contains_key(&place);
        if event.index() >= self.cut || self.bytes >= cuts.bytes || is_crowded {
            self.close(complete)?;
            self.cut = (event.index() / cuts.events + 1) * cuts.events;
        }
        self.bytes += event.bytes().len() as u64;
        let format = &self.format;
        let draft = self.open.entry(place).or_insert_with(|| Draft::new(format, &self.bucket, &self.key));
        self.columns_bytes += draft.add(format, event);
        if self.columns_bytes >= cuts.group_bytes {
            self.write_largest()?;
        }
        Ok(())
    }

    /// Makes a row group of the most columns that one object has.
    fn write_largest(&mut self) -> Result<()> {
        let Some(largest) = self.open.values_mut().max_by_key(|draft| draft.columns.bytes()) else {
            return Ok(());
        };
        self.columns_bytes -= largest.columns.bytes();
        largest.write_group(&self.format)
    }

    fn close(&mut self, complete: &mut Vec<Object>) -> Result<()> {
        (self.bytes, self.columns_bytes) = (0, 0);
        for (place, draft) in std::mem::take(&mut self.open) {
            complete.push(draft.close(&self.format, &place)?);
        }
        Ok(())
    }

    /// Where an event belongs. What it says itself is taken only where it cannot lead anywhere else.
    fn place(&self, event: &Event) -> Place {
        let account = [Field::RecipientAccountId, Field::AccountId]
            .into_iter()
            .filter_map(|field| event.text(field))
            .find(|account| is_account(account));
        let region = event.text(Field::AwsRegion).filter(|region| is_region(region));
        let or = |own: Option<std::borrow::Cow<'_, str>>, of_key: &Option<String>| {
            own.map(std::borrow::Cow::into_owned).or_else(|| of_key.clone()).unwrap_or("unknown".to_owned())
        };
        Place {
            account: or(account, &self.account),
            region: or(region, &self.region),
            day: event.time().map(Timestamp::date).filter(|(year, ..)| (0..=9999).contains(year)),
        }
    }
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_region(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=32).contains(&text.len()) && text.bytes().all(plain)
}

impl Gathering for FileGathering {
    fn add(&mut self, parcel: &Arc<Parcel>, complete: &mut Vec<Object>) -> Result<(), Reason> {
        let slots = 0..u32::try_from(parcel.chunk().len()).unwrap_or(u32::MAX);
        for event in slots.filter_map(|slot| Event::new(parcel, slot)) {
            self.event(&event, complete).map_err(|error| failed(&error))?;
        }
        Ok(())
    }

    fn finish(&mut self, complete: &mut Vec<Object>) -> Result<(), Reason> {
        self.close(complete).map_err(|error| failed(&error))
    }

    fn memory_bytes(&self) -> u64 {
        self.open.values().map(Draft::memory_bytes).sum::<usize>() as u64
    }
}

fn failed(error: &::parquet::errors::ParquetError) -> Reason {
    Reason::new(ReasonCode::Other, format!("cannot write Parquet: {error}: please report this"))
}

impl Draft {
    fn new(format: &Format, bucket: &str, key: &str) -> Self {
        let mut content = Sha256::new_with_prefix(b"trailship parquet 1");
        for part in [bucket, key] {
            content.update((part.len() as u64).to_be_bytes());
            content.update(part);
        }
        let columns = Columns::new(&format.leaves);
        Self { columns, writer: None, content, events: RangeSet::new(), times: Vec::new() }
    }

    /// Adds a row; the bytes of columns that it takes.
    fn add(&mut self, format: &Format, event: &Event) -> usize {
        let index = event.index();
        self.content.update(index.to_be_bytes());
        self.content.update((event.bytes().len() as u64).to_be_bytes());
        self.content.update(event.bytes());
        self.events.insert(Range { start: index, end: index + 1 });
        self.times.extend(event.time());
        let before = self.columns.bytes();
        format.shredder.write(event, &mut self.columns);
        self.columns.bytes() - before
    }

    fn write_group(&mut self, format: &Format) -> Result<()> {
        let writer = match &mut self.writer {
            Some(writer) => writer,
            None => self.writer.insert(format.writer()?),
        };
        self.columns.write(writer)
    }

    fn close(mut self, format: &Format, place: &Place) -> Result<Object> {
        if self.columns.rows() > 0 || self.writer.is_none() {
            self.write_group(format)?;
        }
        let bytes = match self.writer {
            Some(writer) => writer.into_inner()?,
            None => Vec::new(),
        };
        let name = place.name(&self.content.finalize());
        Ok(Object { name, bytes: bytes.into(), events: self.events, times: self.times })
    }

    fn memory_bytes(&self) -> usize {
        // Vectors grow by doubling, so a third more than what is in them is what they take on average.
        let columns = self.columns.bytes() / 3 * 4 + DRAFT_BYTES;
        let written = self.writer.as_ref().map_or(0, SerializedFileWriter::bytes_written);
        columns + written / 3 * 4 + self.times.len() * size_of::<Timestamp>()
    }
}

/// What a draft takes however little is in it: some eighty columns.
const DRAFT_BYTES: usize = 16 << 10;

impl Place {
    fn name(&self, hash: &[u8]) -> String {
        let Self { account, region, .. } = self;
        let day = match self.day {
            Some((year, month, day)) => format!("{year:04}-{month:02}-{day:02}"),
            None => "undated".to_owned(),
        };
        let hash: String = hash.iter().take(20).map(|byte| format!("{byte:02x}")).collect();
        format!("account={account}/region={region}/day={day}/{hash}.parquet")
    }
}
