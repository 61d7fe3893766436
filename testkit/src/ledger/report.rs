//! The judge's findings, for programs and for people.

use std::collections::BTreeMap;
use std::fmt;

/// Why an event was stored more than once: the closed list of what the agent promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// It was stored, but the sender got no answer that it could understand.
    AnswerLost,
    /// The agent was killed between acceptance and settlement.
    Crash,
    /// SQS delivered one message twice.
    SqsDuplicate,
    /// A lease ended before the message was deleted.
    LeaseLapsed,
    /// Two messages named one object.
    SecondNotification,
    /// The log file was broken when it was read, and read again.
    RereadBroken,
    /// A hand-off of the agent's own.
    Handoff,
    /// An acknowledgement never came, or came after the event had been sent again.
    Unconfirmed,
    /// The answer was that it may be stored partly.
    MaybeIngested,
}

impl Cause {
    /// The stable name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AnswerLost => "answer lost",
            Self::Crash => "crash",
            Self::SqsDuplicate => "delivered twice by SQS",
            Self::LeaseLapsed => "lease lapsed",
            Self::SecondNotification => "second notification",
            Self::RereadBroken => "broken file read again",
            Self::Handoff => "hand-off",
            Self::Unconfirmed => "never acknowledged",
            Self::MaybeIngested => "maybe partly ingested",
        }
    }
}

/// What became of everything that was issued, at every sink.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Report {
    /// One for each sink.
    pub sinks: Vec<SinkReport>,
    /// Messages that are left on the queue.
    pub messages_left: u64,
}

/// What became of everything that was issued, at one sink.
///
/// `issued = stored + same_id + dead_lettered + unread + filtered + owed + lost`, and whoever has a corrupt copy only.
/// An event in a list is written `s3://bucket/key#index (id)`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct SinkReport {
    /// The sink's name.
    pub sink: String,
    /// Events that were issued.
    pub issued: u64,
    /// Issued events that are stored, each counted once.
    pub stored: u64,
    /// Issued events that are stored under the position of another event with the same id and the same bytes.
    pub same_id: u64,
    /// Issued events that are not stored but dead-lettered, with the bytes that were issued.
    pub dead_lettered: u64,
    /// Issued events that stand behind the place from which their log file was dead-lettered as unreadable.
    pub unread: u64,
    /// Issued events that the sink must not get.
    pub filtered: u64,
    /// Issued events that a message stands for which is still there: all of its object, or what a hand-off names.
    pub owed: u64,
    /// Issued events that are nowhere.
    pub lost: Vec<String>,
    /// Stored or dead-lettered events that nobody issued, or that the sink must not get.
    pub invented: Vec<String>,
    /// Events that are stored or dead-lettered with other bytes than were issued.
    pub corrupt: Vec<String>,
    /// Further copies by the cause that the evidence shows.
    pub duplicates: BTreeMap<Cause, u64>,
    /// Further copies that no evidence explains.
    pub duplicates_without_cause: Vec<String>,
    /// Further copies that are stored: dead letters are left out.
    pub stored_again: u64,
    /// Whether the sink keeps one document an id, so that no event must be stored again, whatever the cause.
    pub unique_ids: bool,
    /// Events that were refused because their id was there already: what did not become a duplicate.
    pub conflicts: u64,
}

impl SinkReport {
    /// Further copies with a cause.
    #[must_use]
    pub fn duplicates_with_cause(&self) -> u64 {
        self.duplicates.values().sum()
    }

    /// Whether nothing was lost, invented or changed, and every duplicate has a cause
    /// (where ids are unique: no event is stored twice; one that was refused
    /// may be dead-lettered again).
    #[must_use]
    pub fn passes(&self) -> bool {
        self.lost.is_empty()
            && self.invented.is_empty()
            && self.corrupt.is_empty()
            && self.duplicates_without_cause.is_empty()
            && !(self.unique_ids && self.stored_again > 0)
    }
}

impl Report {
    /// Whether every sink passes and the queue is empty.
    #[must_use]
    pub fn passes(&self) -> bool {
        self.messages_left == 0 && self.sinks.iter().all(SinkReport::passes)
    }

    /// The findings on one sink.
    #[must_use]
    pub fn sink(&self, name: &str) -> Option<&SinkReport> {
        self.sinks.iter().find(|sink| sink.sink == name)
    }
}

/// How many events of a list a person is shown.
const SHOWN: usize = 5;

impl fmt::Display for SinkReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.passes() { "passes" } else { "FAILS" };
        writeln!(
            f,
            "{}: {verdict}: issued {} = stored {} + dead-lettered {} + filtered {} + unread {} + same id {} + owed {}, \
             lost {}",
            self.sink,
            self.issued,
            self.stored,
            self.dead_lettered,
            self.filtered,
            self.unread,
            self.same_id,
            self.owed,
            self.lost.len(),
        )?;
        write!(f, "  invented {}, corrupt {}", self.invented.len(), self.corrupt.len())?;
        write!(f, ", ids refused as present {}", self.conflicts)?;
        write!(
            f,
            ", duplicates {}",
            self.duplicates_with_cause() + self.duplicates_without_cause.len() as u64
        )?;
        for (cause, count) in &self.duplicates {
            write!(f, ", {} {count}", cause.as_str())?;
        }
        writeln!(f, ", without cause {}", self.duplicates_without_cause.len())?;
        let lists = [
            ("lost", &self.lost),
            ("invented", &self.invented),
            ("corrupt", &self.corrupt),
            ("duplicate without cause", &self.duplicates_without_cause),
        ];
        for (what, events) in lists {
            for event in events.iter().take(SHOWN) {
                writeln!(f, "  {what}: {event}")?;
            }
            if events.len() > SHOWN {
                writeln!(f, "  {what}: and {} more", events.len() - SHOWN)?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for sink in &self.sinks {
            sink.fmt(f)?;
        }
        writeln!(f, "messages left on the queue: {}", self.messages_left)
    }
}
