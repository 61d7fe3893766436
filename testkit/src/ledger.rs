//! The exact ledger of a run: what was issued, what every destination stored and answered, and the judge over both.
//!
//! The generator's side [issues](Ledger::issue) events. A stand-in [begins](Ledger::begin) a request, [stores](Ledger::store)
//! events and says how the request was [answered](Ledger::answer); a request that nobody answers counts as one whose
//! answer was lost. [`judge`] compares both sides by content and finds the cause of every duplicate in the evidence:
//! the answers, the queue's deliveries ([`QueueEvidence`]) and the [crashes](Ledger::crash). A duplicate that no
//! evidence explains fails the run, and so does anything lost, invented or changed.

mod content;
mod dead_letters;
mod evidence;
mod judge;
mod messages;
mod queue;
mod report;
mod state;

pub(crate) use content::Members;
pub use content::{Additions, ContentHash, Position, Sighting};
pub use dead_letters::DeadLetterError;
pub use evidence::EvidenceError;
pub use judge::{SinkRule, judge};
pub use queue::{Delivery, Owed, QueueEvidence};
pub use report::{Cause, Report, SinkReport};
pub use state::{Answer, Entry, Ledger, SinkCounts};

#[cfg(test)]
mod tests;
