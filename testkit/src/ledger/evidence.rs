//! Evidence as text (NDJSON): how another process hands a sink's log to the judge, and how a file sink's output is read.

use std::fmt;
use std::io::{self, BufRead, Write};

use serde::{Deserialize, Serialize};

use super::content::{Additions, ContentHash};
use super::state::{Answer, Kind, Ledger, NO_FILE, Noted, RequestLog};

/// Why evidence could not be read.
#[derive(Debug)]
pub enum EvidenceError {
    /// The bytes could not be read.
    Io(io::Error),
    /// A line is none of ours.
    Line {
        /// Counted from 1.
        number: usize,
        /// What is wrong with it.
        what: String,
    },
}

impl fmt::Display for EvidenceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(e) => write!(f, "evidence cannot be read: {e}"),
            Self::Line { number, what } => write!(f, "evidence in line {number}: {what}"),
        }
    }
}

impl std::error::Error for EvidenceError {}

#[derive(Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case", deny_unknown_fields)]
enum Line {
    Request {
        sink: String,
        request: u64,
        at_us: u64,
        answer: Answer,
        #[serde(default)]
        confirmed_us: u64,
    },
    Event {
        sink: String,
        request: u64,
        kind: Kind,
        /// The event's id: a UUID's digits, or the hash of another text; all zeros where it has none.
        id: String,
        /// The first half of the SHA-256 of the event without what was added.
        hash: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        bucket: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<String>,
        #[serde(default)]
        index: u64,
    },
}

impl Ledger {
    /// Writes what `sink` has seen: first its requests, then its events.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_evidence(&self, sink: &str, out: &mut impl Write) -> io::Result<()> {
        let state = self.lock();
        let Some(log) = state.sinks.get(sink) else { return Ok(()) };
        let mut write = |line: &Line| {
            serde_json::to_writer(&mut *out, line)?;
            out.write_all(b"\n")
        };
        for (number, request) in log.requests.iter().enumerate() {
            write(&Line::Request {
                sink: sink.to_owned(),
                request: number as u64,
                at_us: request.at_us,
                answer: request.answer,
                confirmed_us: request.confirmed_us,
            })?;
        }
        for noted in &log.entries {
            let named = noted.file != NO_FILE;
            let (bucket, key) = state.files.name(noted.file);
            write(&Line::Event {
                sink: sink.to_owned(),
                request: u64::from(noted.request),
                kind: noted.kind,
                id: format!("{:032x}", noted.id),
                hash: noted.hash.to_string(),
                bucket: named.then(|| bucket.to_owned()),
                key: named.then(|| key.to_owned()),
                index: noted.index,
            })?;
        }
        Ok(())
    }

    /// Adds evidence that another ledger [wrote](Self::write_evidence), and says how many lines it had.
    ///
    /// # Errors
    /// Where a line cannot be read; nothing after it is added.
    pub fn read_evidence(&self, source: impl BufRead) -> Result<usize, EvidenceError> {
        let mut first_request: Option<(String, u64)> = None;
        let mut lines = 0;
        for (at, line) in source.lines().enumerate() {
            let number = at + 1;
            let line = line.map_err(EvidenceError::Io)?;
            let refuse = |what: String| EvidenceError::Line { number, what };
            let line: Line = serde_json::from_str(&line).map_err(|e| refuse(e.to_string()))?;
            let sink = match &line {
                Line::Request { sink, .. } | Line::Event { sink, .. } => sink.clone(),
            };
            // Requests are numbered on from those that the sink has already.
            let first = match &first_request {
                Some((known, first)) if *known == sink => *first,
                _ => {
                    let first = self.counts(&sink).requests;
                    first_request = Some((sink, first));
                    first
                }
            };
            self.add(line, first).map_err(refuse)?;
            lines = number;
        }
        Ok(lines)
    }

    fn add(&self, line: Line, first: u64) -> Result<(), String> {
        let mut state = self.lock();
        match line {
            Line::Request { sink, request, at_us, answer, confirmed_us } => {
                let requests = &mut state.sink(&sink).requests;
                if request + first != requests.len() as u64 {
                    return Err(format!("request {request} is out of order"));
                }
                requests.push(RequestLog { at_us, answer, confirmed_us });
            }
            Line::Event { sink, request, kind, id, hash, bucket, key, index } => {
                let hash = ContentHash::from_hex(&hash).ok_or("its hash is not hexadecimal")?;
                let id = u128::from_str_radix(&id, 16).map_err(|e| format!("id: {e}"))?;
                let file = match (bucket, key) {
                    (Some(bucket), Some(key)) => state.files.number(&bucket, &key),
                    _ => NO_FILE,
                };
                let request = u32::try_from(request + first).unwrap_or(u32::MAX);
                state.sink(&sink).entries.push(Noted { id, hash, index, file, request, kind });
            }
        }
        Ok(())
    }

    /// Books what a sink wrote to a file, one event a line, and says how many there were.
    ///
    /// A last line without its line feed was torn by a crash and is left out. A file says nothing about time:
    /// every occasion of the run may explain a further copy.
    ///
    /// # Errors
    /// Those of `source`.
    pub fn read_lines(&self, sink: &str, additions: Additions, mut source: impl BufRead) -> io::Result<u64> {
        let mut line = Vec::new();
        let mut count = 0;
        loop {
            line.clear();
            source.read_until(b'\n', &mut line)?;
            if line.pop() != Some(b'\n') {
                return Ok(count);
            }
            self.store(sink, u64::MAX, &additions.read(&line));
            count += 1;
        }
    }
}
