//! What happened in a run, as one number: two runs are the same if their traces are.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::time::VirtualTime;

/// Lines of what happened, in order.
pub(crate) struct Trace {
    time: Arc<VirtualTime>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    hash: Sha256,
    lines: u64,
    shown: bool,
    line: String,
}

/// A run in short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fingerprint {
    pub(crate) lines: u64,
    pub(crate) hash: String,
}

impl Trace {
    /// An empty trace; shown, its lines go to standard error as they come.
    pub(crate) fn new(time: Arc<VirtualTime>, shown: bool) -> Self {
        Self { time, state: Mutex::new(State { shown, ..State::default() }) }
    }

    /// Adds a line.
    pub(crate) fn note(&self, what: &str) {
        let at: Duration = self.time.now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { hash, lines, shown, line } = &mut *state;
        line.clear();
        let _ = writeln!(line, "{:>11.6} {what}", at.as_secs_f64());
        hash.update(line.as_bytes());
        *lines += 1;
        if *shown {
            eprint!("{line}");
        }
    }

    /// The trace so far.
    pub(crate) fn fingerprint(&self) -> Fingerprint {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let hash = state.hash.clone().finalize().iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        });
        Fingerprint { lines: state.lines, hash }
    }
}

/// Bytes in short.
pub(crate) fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().take(4).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
