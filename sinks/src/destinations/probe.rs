//! What `check` asks a destination, and what the answers say.

use crate::{Answer, Head};

/// The questions that `check` asks a destination, and how the answers read.
///
/// No question stores an event, and none needs more rights than sending does: where the rights do not reach,
/// the finding is a warning that says what could not be told.
pub trait Probe: Send + Sync {
    /// The questions, in order.
    fn steps(&self) -> Vec<ProbeStep>;

    /// What the answer to the question at position `step` says.
    fn read(&self, step: usize, answer: &Answer) -> Finding;

    /// Requests that set the destination up (`check --apply`), given the answers to all steps, `None` where
    /// there was none.
    ///
    /// # Errors
    /// A sentence that says why it cannot be done from here.
    fn apply(&self, answers: &[Option<Answer>]) -> Result<Vec<ProbeStep>, String> {
        let _ = answers;
        Ok(Vec::new())
    }
}

/// One question.
#[derive(Clone, Debug)]
pub struct ProbeStep {
    /// What it finds out, such as `token`.
    pub what: String,
    /// The request.
    pub head: Head,
    /// Its body.
    pub body: Vec<u8>,
}

/// What an answer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How good it is.
    pub level: FindingLevel,
    /// A sentence for a person, with the remedy unless all is well.
    pub sentence: String,
}

/// How good a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FindingLevel {
    /// As it should be.
    Good,
    /// Works, or could not be told.
    Warning,
    /// Events cannot be delivered.
    Failed,
}

impl Finding {
    /// As it should be.
    #[must_use]
    pub fn good(sentence: impl Into<String>) -> Self {
        Self { level: FindingLevel::Good, sentence: sentence.into() }
    }

    /// Works, or could not be told.
    #[must_use]
    pub fn warning(sentence: impl Into<String>) -> Self {
        Self { level: FindingLevel::Warning, sentence: sentence.into() }
    }

    /// Events cannot be delivered.
    #[must_use]
    pub fn failed(sentence: impl Into<String>) -> Self {
        Self { level: FindingLevel::Failed, sentence: sentence.into() }
    }
}
