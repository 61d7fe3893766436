//! The sinks `file` and `console`: NDJSON, one event a line.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Mutex;

use crate::dead_letter::timestamp;
use crate::encode::{additions, additions_len, splice};
use crate::http::not_encoded;
use crate::ports::{Clock, Compute, Files, run_on};
use crate::{Attempt, Body, Encoded, Event, Judgement, Reason, ReasonCode, Shape, Sink, Verdict};

/// How `file` and `console` write an event.
#[derive(Clone, Debug, Default)]
pub struct LineFormat {
    /// Whether `trailship` is spliced in; otherwise the record stands as it came.
    pub additions: bool,
    /// The sink's own labels.
    pub labels: Vec<(String, String)>,
}

impl LineFormat {
    fn len(&self, event: &Event) -> usize {
        let added = if self.additions { additions_len(event, &self.labels) + KEY.len() + 1 } else { 0 };
        event.range().len() + added + 1
    }

    fn lines(&self, events: &[Event]) -> Vec<u8> {
        let mut body = Body::new();
        let mut members = Vec::new();
        for event in events {
            members.clear();
            let mut shared: &[u8] = &[];
            if self.additions && event.additions().is_some() {
                members.extend_from_slice(KEY);
                shared = additions(&mut members, event, &self.labels);
            }
            splice(&mut body, event, &members, shared);
            body.owned(b"\n");
        }
        body.flatten()
    }
}

const KEY: &[u8] = b"\"trailship\":";

/// Events in a local file, durable before they are acknowledged.
pub struct FileSink {
    format: LineFormat,
    path: PathBuf,
    /// A file of this many bytes is put aside; the next batch starts a new one.
    rotate_bytes: u64,
    /// So is one that this process has been writing to for so long.
    rotate_age: Option<Duration>,
    files: Arc<dyn Files>,
    compute: Arc<dyn Compute>,
    clock: Arc<dyn Clock>,
    state: Mutex<FileState>,
}

#[derive(Default)]
struct FileState {
    /// The length, once known; `None` makes the next write look for what a crash left behind.
    len: Option<u64>,
    /// A write has failed: what it left behind `len` has to go before the next one.
    is_torn: bool,
    begun_at: Option<Duration>,
}

impl FileSink {
    /// A sink that writes to `path`.
    #[must_use]
    pub fn new(
        format: LineFormat,
        path: &Path,
        rotate_bytes: u64,
        rotate_age: Option<Duration>,
        files: Arc<dyn Files>,
        compute: Arc<dyn Compute>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let (path, state) = (path.to_owned(), Mutex::default());
        Self { format, path, rotate_bytes, rotate_age, files, compute, clock, state }
    }

    async fn write(&self, state: &mut FileState, bytes: &Encoded) -> std::io::Result<()> {
        let known = match state.len {
            Some(known) => known,
            // The last line may be torn: it was never acknowledged, and comes again.
            None => self.files.mend(&self.path).await?,
        };
        if state.is_torn {
            self.files.cut(&self.path, known).await?;
            state.is_torn = false;
        }
        state.len = Some(known);
        let now = self.clock.monotonic();
        let begun_at = *state.begun_at.get_or_insert(now);
        let too_old = self.rotate_age.is_some_and(|age| now.saturating_sub(begun_at) >= age);
        if known > 0 && (too_old || known + bytes.bytes.len() as u64 > self.rotate_bytes) {
            self.files.rename(&self.path, &self.aside().await?).await?;
            (state.begun_at, state.len) = (Some(now), Some(0));
        }
        state.is_torn = true;
        state.len = Some(self.files.append(&self.path, bytes.bytes.clone()).await?);
        state.is_torn = false;
        Ok(())
    }

    /// A name beside the file that is not taken: `events.ndjson` becomes `events-20231130T120000Z-1.ndjson`.
    async fn aside(&self) -> std::io::Result<PathBuf> {
        let stem = self.path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let extension =
            self.path.extension().map(|e| format!(".{}", e.to_string_lossy())).unwrap_or_default();
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        let taken = self.files.list(folder).await?;
        let time = timestamp(self.clock.now()).to_rfc3339_millis();
        let time: String = time.chars().take(19).filter(|c| c.is_ascii_alphanumeric()).collect();
        for number in 1u32.. {
            let name = format!("{stem}-{time}Z-{number}{extension}");
            if !taken.iter().any(|path| path.file_name().is_some_and(|taken| taken == name.as_str())) {
                return Ok(folder.join(name));
            }
        }
        Err(std::io::Error::other("no free name to rotate to"))
    }
}

#[async_trait]
impl Sink for FileSink {
    fn encoded_len(&self, event: &Event) -> usize {
        self.format.len(event)
    }

    async fn encode(&self, events: &Arc<[Event]>, _shape: Shape) -> Result<Encoded, Reason> {
        encode_lines(&*self.compute, &self.format, events).await
    }

    async fn send(&self, events: &[Event], encoded: &Encoded, _attempt: &Attempt) -> Judgement {
        let mut state = self.state.lock().await;
        match self.write(&mut state, encoded).await {
            Ok(()) => Judgement::all(events.len(), &Verdict::Delivered),
            Err(error) => unavailable(&format!("cannot write to {}: {error}", self.path.display())),
        }
    }
}

/// Events on standard output; the reader's death ends it, and nothing is acknowledged that was not written.
pub struct ConsoleSink<W> {
    format: LineFormat,
    compute: Arc<dyn Compute>,
    out: std::sync::Mutex<W>,
}

impl<W: std::io::Write + Send> ConsoleSink<W> {
    /// A sink that writes to `out`.
    #[must_use]
    pub fn new(format: LineFormat, compute: Arc<dyn Compute>, out: W) -> Self {
        Self { format, compute, out: std::sync::Mutex::new(out) }
    }
}

#[async_trait]
impl<W: std::io::Write + Send> Sink for ConsoleSink<W> {
    fn encoded_len(&self, event: &Event) -> usize {
        self.format.len(event)
    }

    async fn encode(&self, events: &Arc<[Event]>, _shape: Shape) -> Result<Encoded, Reason> {
        encode_lines(&*self.compute, &self.format, events).await
    }

    async fn send(&self, events: &[Event], encoded: &Encoded, _attempt: &Attempt) -> Judgement {
        let mut out = self.out.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match out.write_all(&encoded.bytes).and_then(|()| out.flush()) {
            Ok(()) => Judgement::all(events.len(), &Verdict::Delivered),
            Err(error) => unavailable(&format!("cannot write to standard output: {error}")),
        }
    }
}

async fn encode_lines(
    compute: &dyn Compute,
    format: &LineFormat,
    events: &Arc<[Event]>,
) -> Result<Encoded, Reason> {
    let (format, events) = (format.clone(), Arc::clone(events));
    let lines = run_on(compute, move || format.lines(&events)).await.ok_or_else(not_encoded)?;
    Ok(Encoded { plain_len: lines.len(), bytes: lines.into() })
}

fn unavailable(text: &str) -> Judgement {
    Judgement::Unavailable { why: Reason::new(ReasonCode::Io, text), retry_after: None }
}
