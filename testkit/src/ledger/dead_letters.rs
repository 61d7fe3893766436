//! Reads dead letters back from their store and books them, compared by content.

use std::fmt;
use std::io::{self, BufRead};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::content::{ContentHash, Position, Sighting, event_id};
use super::state::{Kind, Ledger};

/// Why dead letters could not be read.
#[derive(Debug)]
pub enum DeadLetterError {
    /// The bytes could not be read.
    Io(io::Error),
    /// A line is not a dead letter of version 1.
    Line {
        /// Counted from 1.
        number: usize,
        /// What is wrong with it.
        what: String,
    },
}

impl fmt::Display for DeadLetterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(e) => write!(f, "dead letters cannot be read: {e}"),
            Self::Line { number, what } => write!(f, "dead letter in line {number}: {what}"),
        }
    }
}

impl std::error::Error for DeadLetterError {}

#[derive(Deserialize)]
struct DeadLetter {
    v: u32,
    #[serde(default)]
    sink: Option<String>,
    reason_code: String,
    #[serde(default)]
    stage: Option<String>,
    #[serde(default)]
    bucket: Option<String>,
    #[serde(default)]
    key: Option<String>,
    #[serde(default)]
    record_index: Option<u64>,
    #[serde(default)]
    record: Option<String>,
    #[serde(default)]
    record_base64: Option<String>,
    #[serde(default)]
    record_sha256: Option<String>,
}

impl Ledger {
    /// Books the dead letters (NDJSON) of `source`, and says how many there were.
    ///
    /// A whole log file that could not be read (`"stage":"read"`) counts for its sink, or for all of `sinks` where
    /// it names none. A last line without its line feed was torn by a crash and is left out.
    ///
    /// # Errors
    /// Where a line cannot be read as a dead letter, or its hash is not that of its record.
    pub fn read_dead_letters(
        &self,
        mut source: impl BufRead,
        sinks: &[&str],
    ) -> Result<usize, DeadLetterError> {
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            source.read_until(b'\n', &mut line).map_err(DeadLetterError::Io)?;
            if line.pop() != Some(b'\n') {
                return Ok(number - 1);
            }
            self.book(&line, sinks).map_err(|what| DeadLetterError::Line { number, what })?;
        }
        Ok(0)
    }

    fn book(&self, line: &[u8], sinks: &[&str]) -> Result<(), String> {
        let letter: DeadLetter = serde_json::from_slice(line).map_err(|e| e.to_string())?;
        if letter.v != 1 {
            return Err(format!("version {} is not 1", letter.v));
        }
        if letter.reason_code.is_empty() {
            return Err("it has no reason".to_owned());
        }
        let position = match (letter.bucket.clone(), letter.key.clone(), letter.record_index) {
            (Some(bucket), Some(key), Some(index)) => Some(Position { bucket, key, index }),
            _ => None,
        };
        let named: Vec<&str> = letter.sink.as_deref().map_or(sinks.to_vec(), |sink| vec![sink]);
        if letter.stage.as_deref() == Some("read") {
            let (Some(bucket), Some(key)) = (&letter.bucket, &letter.key) else {
                return Err("an unreadable log file without bucket and key".to_owned());
            };
            let mut state = self.lock();
            let file = state.files.number(bucket, key);
            for sink in named {
                state.sink(sink).unread.push((file, letter.record_index.unwrap_or(0)));
            }
            return Ok(());
        }
        let [sink] = named[..] else { return Err("it names no sink".to_owned()) };
        let record = letter.record()?;
        let hash = ContentHash::of(&record);
        if let Some(claimed) = &letter.record_sha256
            && ContentHash::from_hex(claimed) != Some(hash)
        {
            return Err("record_sha256 is not that of the record".to_owned());
        }
        let seen = Sighting { event_id: event_id(&record), position, hash };
        let mut state = self.lock();
        let noted = state.noted(u64::MAX, &seen, Kind::Stored);
        state.sink(sink).dead.push(noted);
        Ok(())
    }
}

impl DeadLetter {
    fn record(&self) -> Result<Vec<u8>, String> {
        match (&self.record, &self.record_base64) {
            (Some(text), None) => Ok(text.clone().into_bytes()),
            (None, Some(text)) => STANDARD.decode(text).map_err(|e| format!("record_base64: {e}")),
            _ => Err("it has not one of record and record_base64".to_owned()),
        }
    }
}
