//! Dead letters: where events go that a destination does not take, with the reason, durably, before they settle.

mod again;
mod message;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use base64::Engine as _;
use bytes::Bytes;
use cloudtrail::{Field, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use message::MESSAGE_BYTES_MAX;

use crate::ports::{Files, ObjectStore, Random};
use crate::{Event, LogFile, Reason};

/// One dead letter; one line of NDJSON.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the key of the same name in docs/semantics.md")]
pub struct Letter {
    /// Version of this format.
    pub v: u32,
    pub time: String,
    pub agent_version: String,
    /// `read` for a log file that cannot be read; then there is no record, unless it came inside its message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sink: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sink_type: Option<String>,
    pub reason_code: String,
    /// At most 1 KiB, redacted.
    pub reason: String,
    pub status: Option<u16>,
    pub attempts: u32,
    pub bucket: String,
    pub key: String,
    pub version_id: Option<String>,
    /// The event's position; for a log file, the first event that could not be read.
    pub record_index: u64,
    pub event_id: Option<String>,
    /// The id at the destination, where it is not the event's own because another event of the log file has that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document_id: Option<String>,
    pub event_time: Option<String>,
    pub account: Option<String>,
    pub region: Option<String>,
    /// The event's bytes, where they are UTF-8; at the stage `read`, all that the message held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<String>,
    /// The event's bytes in base64, where they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record_base64: Option<String>,
    /// Hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record_sha256: Option<String>,
    /// The record did not fit: it stands in the log file alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub record_omitted: bool,
}

impl Letter {
    /// The letter of an event that `sink` does not take.
    #[must_use]
    pub fn of_event(sink: &str, sink_type: &str, event: &Event, why: &Reason, now: SystemTime) -> Self {
        let text = |field| event.text(field).map(std::borrow::Cow::into_owned);
        Self {
            sink: Some(sink.to_owned()),
            sink_type: Some(sink_type.to_owned()),
            record_index: event.index(),
            event_id: text(Field::EventId),
            document_id: event.own_id().map(str::to_owned),
            event_time: text(Field::EventTime),
            account: text(Field::RecipientAccountId),
            region: text(Field::AwsRegion),
            ..Self::of(event.file(), why, now).with_document(event.bytes())
        }
    }

    /// The letter of a log file that cannot be read from the event `from` on.
    #[must_use]
    pub fn of_log_file(file: &LogFile, from: u64, attempts: u32, why: &Reason, now: SystemTime) -> Self {
        let stage = Some("read".to_owned());
        Self { stage, record_index: from, attempts, ..Self::of(file, why, now) }
    }

    /// The same with bytes that are kept nowhere else, as text or in base64.
    #[must_use]
    pub fn with_document(self, bytes: &[u8]) -> Self {
        let (record, record_base64) = match std::str::from_utf8(bytes) {
            Ok(record) => (Some(record.to_owned()), None),
            Err(_) => (None, Some(base64::engine::general_purpose::STANDARD.encode(bytes))),
        };
        Self { record, record_base64, record_sha256: Some(hex(&Sha256::digest(bytes))), ..self }
    }

    fn of(file: &LogFile, why: &Reason, now: SystemTime) -> Self {
        Self {
            v: 1,
            time: timestamp(now).to_rfc3339_millis(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            reason_code: why.code.as_str().to_owned(),
            reason: why.text.clone(),
            status: why.status,
            attempts: 1,
            bucket: file.bucket.clone(),
            key: file.key.clone(),
            version_id: file.version_id.clone(),
            ..Self::default()
        }
    }
}

/// Where dead letters are kept.
#[async_trait]
pub trait DeadLetterStore: Send + Sync {
    /// Stores the letters. `Ok` means that they are durable; only then may their events settle.
    ///
    /// # Errors
    /// If not all of them are stored; some may be, and come again.
    async fn store(&self, letters: &[Letter]) -> io::Result<()>;
}

/// For an agent without dead letters: refuses every letter, so that its event stays owed.
#[derive(Debug)]
pub struct NoDeadLetters;

#[async_trait]
impl DeadLetterStore for NoDeadLetters {
    async fn store(&self, _letters: &[Letter]) -> io::Result<()> {
        Err(io::Error::other("no [dead_letter] is configured"))
    }
}

/// Dead letters in a local file, which only grows.
pub struct FileDeadLetters {
    files: Arc<dyn Files>,
    path: PathBuf,
    /// Whether what a crash may have left at the end was cut off.
    mended: tokio::sync::Mutex<bool>,
}

impl FileDeadLetters {
    /// Dead letters in the file at `path`, which is made when it is first needed.
    #[must_use]
    pub fn new(files: Arc<dyn Files>, path: &Path) -> Self {
        Self { files, path: path.to_owned(), mended: tokio::sync::Mutex::new(false) }
    }
}

#[async_trait]
impl DeadLetterStore for FileDeadLetters {
    async fn store(&self, letters: &[Letter]) -> io::Result<()> {
        let lines = ndjson(letters)?;
        let mut mended = self.mended.lock().await;
        if !*mended {
            // A torn line was never acknowledged; its events come again.
            self.files.mend(&self.path).await?;
        }
        *mended = false;
        self.files.append(&self.path, lines).await?;
        *mended = true;
        Ok(())
    }
}

/// Dead letters in a bucket: one object a call.
pub struct ObjectDeadLetters {
    objects: Arc<dyn ObjectStore>,
    random: Arc<dyn Random>,
    prefix: String,
}

impl ObjectDeadLetters {
    /// Dead letters under `prefix`.
    #[must_use]
    pub fn new(objects: Arc<dyn ObjectStore>, random: Arc<dyn Random>, prefix: &str) -> Self {
        Self { objects, random, prefix: prefix.trim_matches('/').to_owned() }
    }
}

#[async_trait]
impl DeadLetterStore for ObjectDeadLetters {
    async fn store(&self, letters: &[Letter]) -> io::Result<()> {
        let Some(first) = letters.first() else { return Ok(()) };
        let body = ndjson(letters)?;
        let day = first.time.get(..10).unwrap_or("undated").replace('-', "/");
        let sink = first.sink.as_deref().unwrap_or("read");
        let slash = if self.prefix.is_empty() { "" } else { "/" };
        let key = format!("{}{slash}{day}/{sink}-{:016x}.ndjson", self.prefix, self.random.next());
        self.objects.put(&key, body).await.map_err(|why| io::Error::other(why.to_string()))
    }
}

fn ndjson(letters: &[Letter]) -> io::Result<Bytes> {
    let mut lines = Vec::new();
    for letter in letters {
        serde_json::to_writer(&mut lines, letter)?;
        lines.push(b'\n');
    }
    Ok(lines.into())
}

/// Wall-clock time as a timestamp.
pub(crate) fn timestamp(at: SystemTime) -> Timestamp {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
