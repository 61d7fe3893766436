//! Reads a log file as it arrives: bytes of the object in, chunks of whole events out, within limits.

mod error;
mod fields;
mod inflate;
mod json;
mod split;
#[cfg(test)]
mod tests;

use bytes::Bytes;

pub use error::ReadError;

use crate::event::Chunk;
use inflate::Inflater;
use json::Stop;
use split::Splitter;

/// What a log file may ask of the reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Inflated bytes of one file.
    pub inflated_bytes_max: u64,
    /// Inflated bytes for each pushed byte; judged once 8 MiB are inflated.
    pub ratio_max: u32,
    /// Bytes of one event, and of whatever else has to be held whole. At most 1 GiB.
    pub event_bytes_max: usize,
    /// How deep objects and arrays may be nested; an event's own braces are the first level. At most 256.
    pub depth_max: u32,
    /// Bytes of a usual chunk; only one that holds a larger event is larger. From 64 bytes to 1 GiB.
    pub chunk_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            inflated_bytes_max: 8 << 30,
            ratio_max: 200,
            event_bytes_max: 4 << 20,
            depth_max: 128,
            chunk_bytes: 256 << 10,
        }
    }
}

impl Limits {
    /// The nearest limits that the reader can hold to.
    fn held(self) -> Self {
        const BYTES_MAX: usize = 1 << 30;
        Self {
            event_bytes_max: self.event_bytes_max.clamp(2, BYTES_MAX),
            depth_max: self.depth_max.clamp(1, json::DEPTH_TRACKED),
            chunk_bytes: self.chunk_bytes.clamp(64, BYTES_MAX),
            ..self
        }
    }
}

/// What a log file was, known once it has ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogFileEnd {
    /// How many events it held.
    pub events: u64,
    /// How many bytes it had, inflated.
    pub inflated_bytes: u64,
    /// What it held.
    pub content: ContentKind,
    /// How many of its documents had no place for events, and were skipped.
    pub documents_without_events: u64,
}

/// What a file held. Of several documents, the first that has a place for events counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ContentKind {
    /// `{"Records":[…]}`.
    Records,
    /// An array of events.
    Array,
    /// Events one after the other.
    Events,
    /// Payloads of a CloudWatch Logs subscription.
    CloudWatch,
    /// Valid JSON in which events have no place.
    NoRecords(DocumentKind),
    /// Nothing, or nothing but whitespace.
    Empty,
}

/// What a document without events is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DocumentKind {
    /// A digest file of CloudTrail.
    Digest,
    /// A configuration snapshot of AWS Config.
    ConfigSnapshot,
    /// A configuration history of AWS Config.
    ConfigHistory,
    /// Something else.
    Other,
}

impl ContentKind {
    /// The kind's name in logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            ContentKind::Records => "records",
            ContentKind::Array => "array",
            ContentKind::Events => "events",
            ContentKind::CloudWatch => "cloudwatch",
            ContentKind::NoRecords(DocumentKind::Digest) => "digest",
            ContentKind::NoRecords(DocumentKind::ConfigSnapshot) => "config_snapshot",
            ContentKind::NoRecords(DocumentKind::ConfigHistory) => "config_history",
            ContentKind::NoRecords(DocumentKind::Other) => "no_records",
            ContentKind::Empty => "empty",
        }
    }
}

/// Reads one log file. It does not ask for bytes; it is given them, in slices of any size.
///
/// Taken by content: gzip with any number of members, gzip within gzip, or plain JSON; `{"Records":[…]}` with
/// `Records` anywhere, an array of events, and documents one after the other, each an envelope, an event or a
/// payload of a CloudWatch Logs subscription. All of it is checked to be JSON in UTF-8.
///
/// Memory: one buffer that is as large as a chunk, or as the largest event; the inflater's window; and the
/// chunks until they are taken out.
#[derive(Debug)]
pub struct LogFileReader {
    limits: Limits,
    inflater: Inflater,
    splitter: Splitter,
    buffer: Vec<u8>,
    /// How many bytes of the buffer are known to be UTF-8.
    checked: usize,
    /// Position of the buffer's first byte in the inflated file.
    base: u64,
    failure: Option<ReadError>,
}

/// The smallest event of the real world has about 650 bytes. Without a limit, a chunk of tiny ones would need
/// many times its own bytes for the spans of their fields.
const CHUNK_BYTES_PER_EVENT: usize = 256;

impl LogFileReader {
    /// A reader for one log file. Limits outside of their bounds are taken at the bound.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let limits = limits.held();
        let found_max = (limits.chunk_bytes / CHUNK_BYTES_PER_EVENT).max(1);
        Self {
            limits,
            inflater: Inflater::new(&limits),
            splitter: Splitter::new(found_max, limits.depth_max, limits.event_bytes_max),
            buffer: Vec::with_capacity(limits.chunk_bytes),
            checked: 0,
            base: 0,
            failure: None,
        }
    }

    /// Takes the next bytes of the object, and adds to `out` every chunk that is complete.
    ///
    /// # Errors
    /// The file is broken, or asks for more than the limits. The chunks in `out` are good all the same, and hold
    /// every event before the fault. Further calls give the same error.
    pub fn push(&mut self, input: &[u8], out: &mut Vec<Chunk>) -> Result<(), ReadError> {
        self.guard(|reader| reader.advance(input, out))
    }

    /// Ends the object, and adds the last chunk to `out`.
    ///
    /// # Errors
    /// Like [`push`](Self::push). Only a file that ends without an error was read whole.
    pub fn finish(&mut self, out: &mut Vec<Chunk>) -> Result<LogFileEnd, ReadError> {
        self.guard(|reader| {
            let ended = reader.inflater.finish(&mut reader.buffer);
            reader.split(out)?;
            ended?;
            let truncated = ReadError::Truncated { offset: reader.inflater.bytes_in() };
            if reader.checked < reader.buffer.len() {
                return Err(truncated);
            }
            let content = reader.splitter.finish().ok_or(truncated)?;
            Ok(LogFileEnd {
                events: reader.events(),
                inflated_bytes: reader.inflated_bytes(),
                content,
                documents_without_events: reader.splitter.documents_without_events(),
            })
        })
    }

    /// How many bytes were inflated so far.
    #[must_use]
    pub fn inflated_bytes(&self) -> u64 {
        self.inflater.bytes_out()
    }

    /// How many events were found so far.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.splitter.events()
    }

    /// Bytes of memory that the reader itself holds, without the inflater's window.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.buffer.capacity()
    }

    fn guard<T>(&mut self, step: impl FnOnce(&mut Self) -> Result<T, ReadError>) -> Result<T, ReadError> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let done = step(self);
        if let Err(error) = &done {
            self.failure = Some(error.clone());
            self.buffer = Vec::new();
        }
        done
    }

    fn advance(&mut self, mut input: &[u8], out: &mut Vec<Chunk>) -> Result<(), ReadError> {
        loop {
            let filled = self.inflater.fill(&mut input, &mut self.buffer);
            if filled.is_err() {
                // What came before is good; a fault in it comes first.
                self.split(out)?;
            }
            filled?;
            if self.buffer.len() < self.buffer.capacity() {
                return Ok(());
            }
            self.split(out)?;
            self.make_room()?;
        }
    }

    /// Finds the events in the buffer and adds their chunks to `out`.
    fn split(&mut self, out: &mut Vec<Chunk>) -> Result<(), ReadError> {
        let utf8 = self.check_utf8();
        loop {
            let bytes = self.buffer.get_mut(..self.checked).unwrap_or_default();
            let stop = self.splitter.run(bytes);
            self.emit(stop, out);
            match stop {
                Stop::Full => {}
                Stop::More => return utf8,
                fault => return Err(self.fault(fault)),
            }
        }
    }

    fn check_utf8(&mut self) -> Result<(), ReadError> {
        let fresh = self.buffer.get(self.checked..).unwrap_or_default();
        match std::str::from_utf8(fresh) {
            Ok(_) => {
                self.checked = self.buffer.len();
                Ok(())
            }
            Err(error) => {
                self.checked += error.valid_up_to();
                // A character may go on in the next bytes.
                let incomplete = error.error_len().is_none();
                if incomplete {
                    Ok(())
                } else {
                    Err(ReadError::Utf8 { offset: self.base + self.checked as u64 })
                }
            }
        }
    }

    fn emit(&mut self, stop: Stop, out: &mut Vec<Chunk>) {
        let Some((events, start, end)) = self.splitter.take_found() else { return };
        let offset = self.base + start as u64;
        // A buffer that is nearly full of events becomes the chunk; from any other one the events are copied.
        let give_away = stop == Stop::More && end - start >= self.buffer.capacity() / 4 * 3;
        let bytes = if give_away {
            let rest_start = self.splitter.needed_from();
            let rest = self.buffer.get(rest_start..).unwrap_or_default();
            let mut next = Vec::with_capacity(self.limits.chunk_bytes.max(rest.len()));
            next.extend_from_slice(rest);
            self.dropped(rest_start);
            Bytes::from(std::mem::replace(&mut self.buffer, next)).slice(start..end)
        } else {
            Bytes::copy_from_slice(self.buffer.get(start..end).unwrap_or_default())
        };
        out.push(Chunk::new(bytes, offset, events));
    }

    /// Notes that the first `bytes` bytes of the buffer are gone.
    fn dropped(&mut self, bytes: usize) {
        self.base += bytes as u64;
        self.checked -= bytes;
        self.splitter.shift(bytes);
    }

    /// Makes the buffer able to take more bytes: drops what was read, and grows as far as an event may.
    fn make_room(&mut self) -> Result<(), ReadError> {
        self.compact();
        let limit = self.limits.event_bytes_max;
        if self.buffer.len() > limit && self.splitter.let_go() {
            self.compact();
        }
        let kept = self.buffer.len();
        if kept > limit {
            return Err(ReadError::EventLimit { offset: self.base, limit });
        }
        let capacity = self.buffer.capacity();
        if kept > capacity / 2 {
            // Twice the size each time, so that the bytes of one event are scanned a bounded number of times.
            let grown = capacity.saturating_mul(2).min(limit + 1).max(self.limits.chunk_bytes);
            self.buffer.reserve_exact(grown.saturating_sub(kept));
        } else if capacity > 2 * self.limits.chunk_bytes && kept <= self.limits.chunk_bytes / 2 {
            let mut smaller = Vec::with_capacity(self.limits.chunk_bytes);
            smaller.extend_from_slice(&self.buffer);
            self.buffer = smaller;
        }
        Ok(())
    }

    fn compact(&mut self) {
        let unneeded = self.splitter.needed_from();
        if unneeded > 0 {
            self.buffer.drain(..unneeded);
            self.dropped(unneeded);
        }
    }

    fn fault(&self, stop: Stop) -> ReadError {
        let at = |position: usize| self.base + position as u64;
        match stop {
            Stop::Bad(position) => ReadError::Json { offset: at(position) },
            Stop::Deep(position) => {
                ReadError::DepthLimit { offset: at(position), limit: self.limits.depth_max }
            }
            Stop::Large(position) => {
                ReadError::EventLimit { offset: at(position), limit: self.limits.event_bytes_max }
            }
            Stop::More | Stop::Full => ReadError::Truncated { offset: self.inflater.bytes_in() },
        }
    }
}
