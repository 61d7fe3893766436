//! Log files as CloudTrail writes them, made from a seed: the same seed gives the same bytes everywhere.

mod actors;
mod catalog;
mod content;
mod event;
mod file;
mod odd;
mod template;

use std::io::{self, Write};

use sha2::{Digest, Sha256};

use crate::random::Rng;
use event::Writer;

pub use file::{FileKind, LogFileSample, log_file_key};
pub use odd::{Oddity, Reading};

/// Accounts in whose name events are made; the numbers are those of AWS's documentation.
pub const ACCOUNTS: [&str; 5] =
    ["111122223333", "123456789012", "444455556666", "210987654321", "777788889999"];
/// Regions from which events come.
pub const REGIONS: [&str; 6] =
    ["us-east-1", "us-west-2", "eu-central-1", "eu-west-1", "ap-southeast-2", "sa-east-1"];
/// 2024-05-01T12:00:00Z, the start where none is given.
const DEFAULT_START_S: u64 = 1_714_564_800;

/// One event that was made: enough to know it again, and to see whether it was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// Position in the log file, from 0.
    pub index: u32,
    /// The event's id; nothing where the event has none.
    pub event_id: Option<String>,
    /// SHA-256 of the event's bytes as they are to be delivered, nothing added.
    pub sha256: [u8; 32],
    /// The kind of actor that the event shows, in the words of the classification (`role_session`, `service`, …).
    pub actor: &'static str,
}

/// What a huge log file came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Huge {
    /// Events written.
    pub events: u64,
    /// Bytes written, before any compression.
    pub bytes: u64,
}

/// Makes events and log files.
///
/// Every file has its own number, account, region and minute; files do not depend on how many events
/// the ones before them had.
#[derive(Debug, Clone)]
pub struct Generator {
    seed: u64,
    start_s: u64,
    organization: Option<String>,
    prefix: String,
    gzip_level: u32,
    files: u64,
    writer: Writer,
}

impl Generator {
    /// A generator whose files are delivered from 2024-05-01T12:00Z on.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            start_s: DEFAULT_START_S,
            organization: None,
            prefix: String::new(),
            gzip_level: 6,
            files: 0,
            writer: Writer::new(),
        }
    }

    /// Delivers the first file at this time (seconds since 1970), the others after it.
    #[must_use]
    pub fn starting_at(mut self, seconds: u64) -> Self {
        self.start_s = seconds;
        self
    }

    /// Puts the organization's id (`o-…`) into keys, as an organization's trail does.
    #[must_use]
    pub fn organization(mut self, id: &str) -> Self {
        self.organization = Some(id.to_owned());
        self
    }

    /// Puts a prefix before `AWSLogs/` in keys; it ends with a slash.
    #[must_use]
    pub fn prefix(mut self, prefix: &str) -> Self {
        prefix.clone_into(&mut self.prefix);
        self
    }

    /// Compresses files at another level; AWS's files are about as dense as level 6.
    #[must_use]
    pub fn gzip_level(mut self, level: u32) -> Self {
        self.gzip_level = level.min(9);
        self
    }

    /// How many events real files have: from 1 to 400, half of them at most 20, 50 on average.
    #[must_use]
    pub fn draw_file_size(&self, file: u64) -> usize {
        let mut rng = Rng::stream(self.seed ^ 0x512E, file);
        // The sum of twelve is close to normal, and so its exponential to what was measured.
        let normal: f64 = (0..12).map(|_| rng.below(1 << 20) as f64 / f64::from(1 << 20)).sum::<f64>() - 6.0;
        (20.0 * (1.4 * normal).exp()).round().clamp(1.0, 400.0) as usize
    }

    /// The next log file, with as many events as real files have.
    pub fn next_file(&mut self) -> LogFileSample {
        let events = self.draw_file_size(self.files);
        self.log_file(events)
    }

    /// The next log file, with so many events.
    pub fn log_file(&mut self, events: usize) -> LogFileSample {
        let mut file = self.begin(FileKind::Log);
        let mut json = Vec::with_capacity(events * 1400 + 16);
        let mut issued = Vec::with_capacity(events);
        json.extend_from_slice(b"{\"Records\":[");
        for index in 0..events {
            if index > 0 {
                json.push(b',');
            }
            let first = json.len();
            let drawn = self.writer.event(&mut file, index as u64, &mut json);
            issued.push(Issued {
                index: index as u32,
                event_id: Some(drawn.event_id),
                sha256: Sha256::digest(&json[first..]).into(),
                actor: drawn.actor,
            });
        }
        json.extend_from_slice(b"]}");
        self.finish(file, json, issued)
    }

    /// The next log file, with something about it that is rare or wrong.
    pub fn odd_file(&mut self, oddity: Oddity) -> (LogFileSample, Reading) {
        odd::make(self, oddity)
    }

    /// One event by itself, as the next file's only one.
    pub fn event(&mut self) -> String {
        let mut file = self.begin(FileKind::Log);
        let mut out = Vec::new();
        self.writer.event(&mut file, 0, &mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    /// Writes a log file of at least `bytes_min` to `out` and holds no more than one event of it.
    /// `each` gets every event.
    ///
    /// # Errors
    /// Where `out` fails.
    pub fn write_huge(
        &mut self,
        bytes_min: u64,
        mut out: impl Write,
        mut each: impl FnMut(Issued),
    ) -> io::Result<Huge> {
        let mut file = self.begin(FileKind::Log);
        let mut huge = Huge { events: 0, bytes: 0 };
        let mut event = Vec::with_capacity(8192);
        out.write_all(b"{\"Records\":[")?;
        huge.bytes += 12;
        while huge.bytes < bytes_min {
            event.clear();
            if huge.events > 0 {
                event.push(b',');
            }
            let first = event.len();
            let drawn = self.writer.event(&mut file, huge.events, &mut event);
            each(Issued {
                index: u32::try_from(huge.events).unwrap_or(u32::MAX),
                event_id: Some(drawn.event_id),
                sha256: Sha256::digest(&event[first..]).into(),
                actor: drawn.actor,
            });
            out.write_all(&event)?;
            huge.events += 1;
            huge.bytes += event.len() as u64;
        }
        out.write_all(b"]}")?;
        huge.bytes += 2;
        Ok(huge)
    }

    /// The key that the next file will have.
    #[must_use]
    pub fn next_key(&self) -> String {
        self.clone().begin(FileKind::Log).key
    }
}

#[cfg(test)]
mod tests;
