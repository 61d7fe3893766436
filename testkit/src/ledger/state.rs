//! The ledger itself: what was issued, and what happened at every sink, in memory and safe to share.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::content::{ContentHash, Sighting};
use crate::time::Time;

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The sender got no answer, or none that can be understood. So is every request until it is answered.
    #[default]
    Lost,
    /// The sender got this HTTP status.
    Given(u16),
    /// The sender was told that some of the events may be stored and some not.
    MaybeIngested,
    /// Taken, and not (yet) confirmed to be stored.
    Unconfirmed,
}

/// Points at one stored copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry(usize);

/// What one sink has seen so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize)]
pub struct SinkCounts {
    /// Requests that were begun.
    pub requests: u64,
    /// Copies that are stored.
    pub stored: u64,
    /// Events that were refused because their id was there already.
    pub conflicts: u64,
    /// Dead letters that were read.
    pub dead_letters: u64,
}

/// Who keeps the books of a run. Safe to share between threads; cheap enough for a million events.
#[derive(Debug, Default)]
pub struct Ledger {
    state: Mutex<State>,
    shift_us: AtomicU64,
    time: Time,
}

impl Ledger {
    /// An empty ledger.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty ledger with another time than the machine's.
    #[must_use]
    pub fn with_time(time: Time) -> Self {
        Self { time, ..Self::default() }
    }

    /// Notes an event that every sink owes, unless it is [filtered](Self::filter) there.
    ///
    /// `sha256` is that of the event's bytes as they stand in the log file. Issuing the same position again replaces it.
    pub fn issue(&self, bucket: &str, key: &str, index: u64, event_id: Option<&str>, sha256: [u8; 32]) {
        let mut state = self.lock();
        let file = state.files.number(bucket, key);
        state.issue(Issued { file, index, id: event_key(event_id), hash: ContentHash::from_sha256(sha256) });
    }

    /// Notes that `sink` must not get this event.
    pub fn filter(&self, sink: &str, bucket: &str, key: &str, index: u64) {
        let mut state = self.lock();
        let file = state.files.number(bucket, key);
        state.sink(sink).filtered.insert((file, index));
    }

    /// Notes that the agent is killed now.
    pub fn crash(&self) {
        self.crash_at(self.now_us());
    }

    /// Notes that the agent was killed at this time.
    pub fn crash_at(&self, at_us: u64) {
        self.lock().crashes_us.push(at_us);
    }

    /// Moves the ledger's clock forward. A test that moves the clock of the stand-in for AWS moves this one with it,
    /// so that deliveries and copies keep their order.
    pub fn advance(&self, by: Duration) {
        self.shift_us.fetch_add(u64::try_from(by.as_micros()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }

    /// Microseconds since 1970 by the ledger's clock: its time's, unless it was [moved](Self::advance).
    #[must_use]
    pub fn now_us(&self) -> u64 {
        u64::try_from(self.time.now().as_micros())
            .unwrap_or(u64::MAX)
            .saturating_add(self.shift_us.load(Ordering::SeqCst))
    }

    /// Begins a request at `sink`, and gives it a number.
    pub fn begin(&self, sink: &str) -> u64 {
        let at_us = self.now_us();
        let mut state = self.lock();
        let requests = &mut state.sink(sink).requests;
        requests.push(RequestLog { at_us, answer: Answer::Lost, confirmed_us: 0 });
        requests.len() as u64 - 1
    }

    /// Notes how a request was answered. The number is one that [`begin`](Self::begin) gave.
    pub fn answer(&self, sink: &str, request: u64, answer: Answer) {
        let mut state = self.lock();
        if let Some(log) = state.sink(sink).request(request) {
            log.answer = answer;
        }
    }

    /// Notes that the sender was told that what an unconfirmed request brought is stored.
    pub fn confirm(&self, sink: &str, request: u64) {
        let confirmed_us = self.now_us();
        let mut state = self.lock();
        // The first confirmation is the one that counts.
        if let Some(log) = state.sink(sink).request(request).filter(|log| log.confirmed_us == 0) {
            log.confirmed_us = confirmed_us;
        }
    }

    /// Notes one stored copy.
    pub fn store(&self, sink: &str, request: u64, seen: &Sighting) -> Entry {
        let mut state = self.lock();
        state.note(sink, request, seen, Kind::Stored)
    }

    /// Notes that an event was refused because its id was there already.
    pub fn conflict(&self, sink: &str, request: u64, seen: &Sighting) {
        self.lock().note(sink, request, seen, Kind::Conflict);
    }

    /// Notes that a copy is no longer stored: another document took its id.
    pub fn retract(&self, sink: &str, entry: Entry) {
        if let Some(noted) = self.lock().sink(sink).entries.get_mut(entry.0) {
            noted.kind = Kind::Retracted;
        }
    }

    /// What `sink` has seen so far.
    #[must_use]
    pub fn counts(&self, sink: &str) -> SinkCounts {
        let state = self.lock();
        let Some(log) = state.sinks.get(sink) else { return SinkCounts::default() };
        let of = |kind| log.entries.iter().filter(|entry| entry.kind == kind).count() as u64;
        SinkCounts {
            requests: log.requests.len() as u64,
            stored: of(Kind::Stored),
            conflicts: of(Kind::Conflict),
            dead_letters: log.dead.len() as u64,
        }
    }

    /// How many events were issued.
    #[must_use]
    pub fn issued(&self) -> u64 {
        self.lock().issued.len() as u64
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is complete before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An event's id as a number: a UUID is itself, any other text its hash; 0 is none.
pub(super) fn event_key(id: Option<&str>) -> u128 {
    let Some(id) = id else { return 0 };
    let digits: String = id.chars().filter(|&c| c != '-').collect();
    match u128::from_str_radix(&digits, 16) {
        Ok(number) if uuid(number) == id => number,
        _ => u128::from_be_bytes(ContentHash::of(id.as_bytes()).0),
    }
}

/// A number as a UUID in lower case.
pub(super) fn uuid(number: u128) -> String {
    let digits = format!("{number:032x}");
    format!("{}-{}-{}-{}-{}", &digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..])
}

/// No log file: an event that does not say where it comes from.
pub(super) const NO_FILE: u32 = u32::MAX;

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) files: Files,
    pub(super) issued: Vec<Issued>,
    pub(super) by_position: HashMap<(u32, u64), u32>,
    pub(super) sinks: BTreeMap<String, SinkLog>,
    pub(super) crashes_us: Vec<u64>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Issued {
    pub(super) file: u32,
    pub(super) index: u64,
    pub(super) id: u128,
    pub(super) hash: ContentHash,
}

/// What one sink has seen.
#[derive(Debug, Default)]
pub(super) struct SinkLog {
    pub(super) requests: Vec<RequestLog>,
    pub(super) entries: Vec<Noted>,
    pub(super) dead: Vec<Noted>,
    /// Log files that could not be read from this position on.
    pub(super) unread: Vec<(u32, u64)>,
    pub(super) filtered: HashSet<(u32, u64)>,
}

impl SinkLog {
    fn request(&mut self, number: u64) -> Option<&mut RequestLog> {
        self.requests.get_mut(usize::try_from(number).ok()?)
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct RequestLog {
    pub(super) at_us: u64,
    pub(super) answer: Answer,
    /// When the sender was told that it is stored; 0: never.
    pub(super) confirmed_us: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    Stored,
    Conflict,
    Retracted,
}

/// One event as a sink saw it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Noted {
    pub(super) id: u128,
    pub(super) hash: ContentHash,
    pub(super) index: u64,
    pub(super) file: u32,
    pub(super) request: u32,
    pub(super) kind: Kind,
}

impl State {
    pub(super) fn issue(&mut self, event: Issued) {
        let next = self.issued.len() as u32;
        let at = *self.by_position.entry((event.file, event.index)).or_insert(next);
        match self.issued.get_mut(at as usize) {
            Some(known) => *known = event,
            None => self.issued.push(event),
        }
    }

    pub(super) fn sink(&mut self, name: &str) -> &mut SinkLog {
        self.sinks.entry(name.to_owned()).or_default()
    }

    pub(super) fn noted(&mut self, request: u64, seen: &Sighting, kind: Kind) -> Noted {
        let (file, index) = match &seen.position {
            Some(position) => (self.files.number(&position.bucket, &position.key), position.index),
            None => (NO_FILE, 0),
        };
        let id = event_key(seen.event_id.as_deref());
        Noted { id, hash: seen.hash, index, file, request: u32::try_from(request).unwrap_or(u32::MAX), kind }
    }

    pub(super) fn note(&mut self, sink: &str, request: u64, seen: &Sighting, kind: Kind) -> Entry {
        let noted = self.noted(request, seen, kind);
        let entries = &mut self.sink(sink).entries;
        entries.push(noted);
        Entry(entries.len() - 1)
    }
}

/// Log files by number.
#[derive(Debug, Default)]
pub(super) struct Files {
    names: Vec<(String, String)>,
    numbers: HashMap<String, HashMap<String, u32>>,
}

impl Files {
    pub(super) fn number(&mut self, bucket: &str, key: &str) -> u32 {
        if let Some(&number) = self.numbers.get(bucket).and_then(|keys| keys.get(key)) {
            return number;
        }
        let number = self.names.len() as u32;
        self.names.push((bucket.to_owned(), key.to_owned()));
        self.numbers.entry(bucket.to_owned()).or_default().insert(key.to_owned(), number);
        number
    }

    /// Bucket and key; empty for [`NO_FILE`].
    pub(super) fn name(&self, number: u32) -> (&str, &str) {
        self.names.get(number as usize).map_or(("", ""), |(bucket, key)| (bucket, key))
    }
}
