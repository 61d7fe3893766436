//! The judge: compares what was issued with what every sink stored, and looks for the cause of every duplicate.

use std::collections::{HashMap, HashSet};

use super::content::ContentHash;
use super::queue::QueueEvidence;
use super::report::{Cause, Report, SinkReport};
use super::state::{Answer, Issued, Kind, Ledger, NO_FILE, Noted, SinkLog, State, uuid};

/// How one sink is judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkRule {
    /// Its name in the ledger.
    pub name: String,
    /// Whether it keeps one document an id, so that no duplicate may be visible.
    pub unique_ids: bool,
}

impl SinkRule {
    /// A sink where duplicates may be seen if they have a cause.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), unique_ids: false }
    }

    /// A sink that keeps one document an id.
    #[must_use]
    pub fn with_unique_ids(name: &str) -> Self {
        Self { name: name.to_owned(), unique_ids: true }
    }
}

/// Judges a run that has come to rest.
#[must_use]
pub fn judge(ledger: &Ledger, sinks: &[SinkRule], queue: &QueueEvidence) -> Report {
    let state = ledger.lock();
    let index = Index::new(&state);
    let empty = SinkLog::default();
    let sinks = sinks
        .iter()
        .map(|rule| {
            let log = state.sinks.get(&rule.name).unwrap_or(&empty);
            SinkJudge { state: &state, index: &index, log, queue, report: SinkReport::default() }.judge(rule)
        })
        .collect();
    Report { sinks, messages_left: queue.messages_left }
}

/// Finds issued events by what a stored one says of itself.
struct Index {
    by_id: HashMap<u128, Vec<u32>>,
    by_hash: HashMap<ContentHash, Vec<u32>>,
}

impl Index {
    fn new(state: &State) -> Self {
        let mut new = Self { by_id: HashMap::new(), by_hash: HashMap::new() };
        for (at, event) in state.issued.iter().enumerate() {
            match event.id {
                0 => new.by_hash.entry(event.hash).or_default().push(at as u32),
                id => new.by_id.entry(id).or_default().push(at as u32),
            }
        }
        new
    }
}

/// Which issued event a stored one is.
enum Match {
    /// This one, byte for byte.
    Exact(u32),
    /// This one, with other bytes.
    Changed(u32),
    /// None.
    Unknown,
}

/// One copy of an event at a sink, stored or dead-lettered.
#[derive(Clone, Copy)]
struct Copy_ {
    at_us: u64,
    /// What its request's answer lets happen again, and from when to when that holds.
    grants: Option<Cause>,
    granted_until_us: u64,
}

struct SinkJudge<'a> {
    state: &'a State,
    index: &'a Index,
    log: &'a SinkLog,
    queue: &'a QueueEvidence,
    report: SinkReport,
}

impl SinkJudge<'_> {
    fn judge(mut self, rule: &SinkRule) -> SinkReport {
        self.report.sink.clone_from(&rule.name);
        self.report.unique_ids = rule.unique_ids;
        self.report.issued = self.state.issued.len() as u64;
        let mut fates = Fates::new(self.state.issued.len());
        for noted in &self.log.entries {
            match noted.kind {
                Kind::Stored => self.copy(noted, &mut fates.stored, &fates.dead, Some(&mut fates.changed)),
                Kind::Conflict => self.report.conflicts += 1,
                Kind::Retracted => {}
            }
        }
        for noted in &self.log.dead {
            self.copy(noted, &mut fates.dead, &fates.stored, None);
        }
        self.count(&fates, rule);
        self.explain(&fates);
        self.report
    }

    /// Books one copy on the event that it is of.
    fn copy(&mut self, noted: &Noted, to: &mut [u32], other: &[u32], changed: Option<&mut Vec<bool>>) {
        match self.find(noted, to, other) {
            Match::Exact(at) if self.is_filtered(at) => {
                let event = self.name(at);
                self.report.invented.push(format!("{event}: the sink must not get it"));
            }
            Match::Exact(at) => to[at as usize] += 1,
            Match::Changed(at) => {
                let event = self.name(at);
                self.report.corrupt.push(event);
                if let Some(changed) = changed {
                    changed[at as usize] = true;
                }
            }
            Match::Unknown => {
                let event = self.describe(noted.file, noted.index, noted.id);
                self.report.invented.push(format!("{event}, SHA-256 {}…", noted.hash));
            }
        }
    }

    fn find(&self, noted: &Noted, to: &[u32], other: &[u32]) -> Match {
        let issued = &self.state.issued;
        if noted.file != NO_FILE {
            return match self.state.by_position.get(&(noted.file, noted.index)) {
                Some(&at) if issued[at as usize].hash == noted.hash => Match::Exact(at),
                Some(&at) => Match::Changed(at),
                None => Match::Unknown,
            };
        }
        let candidates = match noted.id {
            0 => self.index.by_hash.get(&noted.hash),
            id => self.index.by_id.get(&id),
        };
        let Some(candidates) = candidates else { return Match::Unknown };
        // Several issued events may be equal: the copy is that of one which has none yet.
        let copies = |at: u32| to[at as usize] + other[at as usize];
        let equal = candidates.iter().filter(|&&at| issued[at as usize].hash == noted.hash);
        match (equal.min_by_key(|&&at| copies(at)), candidates.first()) {
            (Some(&at), _) => Match::Exact(at),
            (None, Some(&at)) => Match::Changed(at),
            (None, None) => Match::Unknown,
        }
    }

    /// Gives every issued event one fate.
    fn count(&mut self, fates: &Fates, rule: &SinkRule) {
        let mut unread: HashMap<u32, u64> = HashMap::new();
        for &(file, from) in &self.log.unread {
            unread.entry(file).and_modify(|known| *known = from.min(*known)).or_insert(from);
        }
        let documents: HashSet<(u128, ContentHash)> = match rule.unique_ids {
            true => self.stored_documents(),
            false => HashSet::new(),
        };
        for (at, event) in self.state.issued.iter().enumerate() {
            if fates.stored[at] > 0 {
                self.report.stored += 1;
                self.report.stored_again += u64::from(fates.stored[at] - 1);
            } else if fates.dead[at] > 0 {
                self.report.dead_lettered += 1;
            } else if self.log.filtered.contains(&(event.file, event.index)) {
                self.report.filtered += 1;
            } else if fates.changed[at] {
                // Named as corrupt already.
            } else if event.id != 0 && documents.contains(&(event.id, event.hash)) {
                self.report.same_id += 1;
            } else if unread.get(&event.file).is_some_and(|&from| event.index >= from) {
                self.report.unread += 1;
            } else if self.is_owed(event) {
                self.report.owed += 1;
            } else {
                let event = self.name(at as u32);
                self.report.lost.push(event);
            }
        }
    }

    fn stored_documents(&self) -> HashSet<(u128, ContentHash)> {
        let stored = self.log.entries.iter().filter(|noted| noted.kind == Kind::Stored);
        stored.map(|noted| (noted.id, noted.hash)).collect()
    }

    /// Looks for the cause of every further copy.
    fn explain(&mut self, fates: &Fates) {
        let mut copies: HashMap<u32, Vec<Copy_>> = HashMap::new();
        let several = |at: u32| fates.stored[at as usize] + fates.dead[at as usize] > 1;
        // Copies without a position are booked again in the same order, and so on the same events.
        let mut again = Fates::new(self.state.issued.len());
        for noted in self.log.entries.iter().filter(|noted| noted.kind == Kind::Stored) {
            if let Match::Exact(at) = self.find(noted, &again.stored, &again.dead) {
                again.stored[at as usize] += 1;
                if several(at) && !self.is_filtered(at) {
                    copies.entry(at).or_default().push(self.stored_copy(noted));
                }
            }
        }
        for noted in &self.log.dead {
            if let Match::Exact(at) = self.find(noted, &again.dead, &again.stored) {
                again.dead[at as usize] += 1;
                if several(at) && !self.is_filtered(at) {
                    copies.entry(at).or_default().push(Copy_ {
                        at_us: u64::MAX,
                        grants: None,
                        granted_until_us: 0,
                    });
                }
            }
        }
        let mut events: Vec<(u32, Vec<Copy_>)> = copies.into_iter().collect();
        events.sort_by_key(|(at, _)| *at);
        for (at, copies) in events {
            self.explain_event(at, copies);
        }
    }

    fn explain_event(&mut self, at: u32, mut copies: Vec<Copy_>) {
        copies.sort_by_key(|copy| copy.at_us);
        let event = self.state.issued[at as usize];
        let (bucket, key) = self.state.files.name(event.file);
        let sink = (self.report.sink.as_str(), event.index);
        let mut occasions = self.queue.occasions((bucket, key), sink, &self.state.crashes_us);
        for further in 1..copies.len() {
            let at_us = copies[further].at_us;
            // What holds for the shortest time is used first; occasions hold for ever.
            let granted = copies[..further]
                .iter_mut()
                .filter(|copy| copy.grants.is_some() && at_us <= copy.granted_until_us)
                .min_by_key(|copy| copy.granted_until_us);
            let cause = match granted {
                Some(copy) => copy.grants.take(),
                None => occasions
                    .iter()
                    .position(|&(occasion_us, _)| occasion_us <= at_us)
                    .map(|occasion| occasions.remove(occasion).1),
            };
            match cause {
                Some(cause) => *self.report.duplicates.entry(cause).or_default() += 1,
                None => {
                    let event = self.name(at);
                    self.report.duplicates_without_cause.push(event);
                }
            }
        }
    }

    fn stored_copy(&self, noted: &Noted) -> Copy_ {
        let Some(request) = self.log.requests.get(noted.request as usize) else {
            return Copy_ { at_us: u64::MAX, grants: None, granted_until_us: 0 };
        };
        let (grants, granted_until_us) = match request.answer {
            Answer::Given(_) => (None, 0),
            Answer::Lost => (Some(Cause::AnswerLost), u64::MAX),
            Answer::MaybeIngested => (Some(Cause::MaybeIngested), u64::MAX),
            Answer::Unconfirmed if request.confirmed_us == 0 => (Some(Cause::Unconfirmed), u64::MAX),
            Answer::Unconfirmed => (Some(Cause::Unconfirmed), request.confirmed_us),
        };
        Copy_ { at_us: request.at_us, grants, granted_until_us }
    }

    /// Whether a message that is still there stands for the event.
    fn is_owed(&self, event: &Issued) -> bool {
        let (bucket, key) = self.state.files.name(event.file);
        self.queue.owes(bucket, key, &self.report.sink, event.index)
    }

    fn is_filtered(&self, at: u32) -> bool {
        let Issued { file, index, .. } = self.state.issued[at as usize];
        self.log.filtered.contains(&(file, index))
    }

    fn name(&self, at: u32) -> String {
        let Issued { file, index, id, .. } = self.state.issued[at as usize];
        self.describe(file, index, id)
    }

    fn describe(&self, file: u32, index: u64, id: u128) -> String {
        let place = match self.state.files.name(file) {
            ("", "") => "an event without a position".to_owned(),
            (bucket, key) => format!("s3://{bucket}/{key}#{index}"),
        };
        match id {
            0 => format!("{place} (no id)"),
            id => format!("{place} ({})", uuid(id)),
        }
    }
}

/// What was found of every issued event.
struct Fates {
    stored: Vec<u32>,
    dead: Vec<u32>,
    changed: Vec<bool>,
}

impl Fates {
    fn new(issued: usize) -> Self {
        Self { stored: vec![0; issued], dead: vec![0; issued], changed: vec![false; issued] }
    }
}
