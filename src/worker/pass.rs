//! One pass over a log file: fetch, inflate, split, and offer to lanes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cloudtrail::{Chunk, ConsoleFrontEnds, Limits, LogFileEnd, LogFileReader, ReadError};
use sinks::ports::{Clock, Compute, Random, run_on};
use sinks::{Delays, LanePass, LogFile, Made, ParcelMaker, RetryConfig};

use super::fetch::{Fetch, FetchError, Opened, Stream, Version};
use crate::lanes::Lanes;

/// Compressed bytes that are inflated at a time: bounds what one step can add to memory before it is charged.
const SLICE_BYTES: usize = 16 * 1024;

/// Tries to go on with an interrupted download, each after a longer wait.
const RESUMES_MAX: u32 = 8;

/// How log files are read.
#[derive(Clone)]
pub struct ReadSettings {
    /// Limits on a log file.
    pub limits: Limits,
    /// Services whose calls are a person's in the console.
    pub fronts: Arc<ConsoleFrontEnds>,
    /// A download that brings nothing for this long is interrupted.
    pub idle_timeout: Duration,
    /// Between tries.
    pub retry: RetryConfig,
}

impl Default for ReadSettings {
    fn default() -> Self {
        let (limits, fronts) = (Limits::default(), Arc::default());
        Self { limits, fronts, idle_timeout: Duration::from_secs(30), retry: RetryConfig::default() }
    }
}

/// Told what a pass comes across.
pub trait PassObserver: Send + Sync {
    /// Events of one chunk were read, for the first time or again.
    fn events(&self, made: &Made, again: bool);
    /// A download was interrupted, and will go on.
    fn interrupted(&self, error: &FetchError);
    /// So many compressed bytes arrived.
    fn compressed(&self, bytes: u64);
}

/// How a pass ended, other than well.
#[derive(Debug, thiserror::Error)]
pub enum PassError {
    /// The bytes could not be had.
    #[error("{0}")]
    Fetch(FetchError),
    /// The bytes make no log file.
    #[error("{error} (events before {from} are fine)")]
    Broken {
        /// Why.
        error: ReadError,
        /// The first event that could not be read.
        from: u64,
    },
    /// A worker died on it.
    #[error("a worker died on it: please report this")]
    Died,
}

impl PassError {
    /// A stable name for logs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Fetch(FetchError::Interrupted(_)) => "fetch_interrupted",
            Self::Fetch(FetchError::NotFound(_)) => "fetch_not_found",
            Self::Fetch(FetchError::Denied(_)) => "fetch_denied",
            Self::Fetch(FetchError::Changed(_)) => "fetch_changed",
            Self::Broken { error, .. } => error.code(),
            Self::Died => "worker_died",
        }
    }
}

/// How a pass ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PassEnd {
    /// The log file was read to its end.
    Whole(LogFileEnd),
    /// It was read up to here, and nobody is owed anything behind.
    Enough {
        /// Events before that.
        events: u64,
    },
}

/// One pass.
pub struct Pass<'a> {
    pub fetch: &'a dyn Fetch,
    pub settings: &'a ReadSettings,
    pub lanes: &'a Lanes,
    pub compute: &'a Arc<dyn Compute>,
    pub clock: &'a dyn Clock,
    pub random: &'a dyn Random,
    pub observer: &'a dyn PassObserver,
    /// Where the events go.
    pub targets: &'a [LanePass<'a>],
    /// Whether one lane's slowness may hold up the pass: true where it reads for that lane alone.
    pub patient: bool,
    /// Whether the log file was read before.
    pub again: bool,
    /// The version that it has to be.
    pub pinned: Version,
}

/// What goes to a worker and comes back.
struct Kit {
    reader: LogFileReader,
    maker: ParcelMaker,
    chunks: Vec<Chunk>,
    /// Events before this one were offered: the reader may have found more.
    offered: u64,
}

impl Pass<'_> {
    /// Reads the log file for as long as anybody is owed something. `template` names it; its version is filled in from
    /// the first answer.
    pub async fn run(&mut self, template: &LogFile) -> Result<PassEnd, PassError> {
        let mut opened = self.open(0).await.map_err(PassError::Fetch)?;
        let file = self.named(template, &opened);
        let mut kit = Kit {
            reader: LogFileReader::new(self.settings.limits),
            maker: ParcelMaker::new(Arc::new(file), Arc::clone(&self.settings.fronts)),
            chunks: Vec::new(),
            offered: 0,
        };
        let mut received = 0;
        let mut resumes = 0;
        let mut delays = Delays::new(&self.settings.retry);
        loop {
            match self.receive(&mut *opened.stream, opened.len.map(|len| (received, len))).await {
                Ok(Some(bytes)) => {
                    received += bytes.len() as u64;
                    opened.len = opened.len.map(|len| len.saturating_sub(bytes.len() as u64));
                    self.observer.compressed(bytes.len() as u64);
                    kit = self.feed(kit, bytes).await?;
                    if !self.targets.iter().any(|target| target.needs(kit.offered)) {
                        return Ok(PassEnd::Enough { events: kit.offered });
                    }
                }
                Ok(None) => break,
                // The error came behind the last byte.
                Err(_) if opened.len == Some(0) => break,
                Err(error) if resumes < RESUMES_MAX => {
                    self.observer.interrupted(&error);
                    resumes += 1;
                    self.clock.sleep(delays.next(None, self.random)).await;
                    opened = self.open(received).await.map_err(PassError::Fetch)?;
                }
                Err(error) => return Err(PassError::Fetch(error)),
            }
        }
        let (kit, end) = self.finish(kit).await?;
        drop(kit);
        Ok(PassEnd::Whole(end))
    }

    /// Opens the log file; interruptions are tried again, everything else is an answer.
    async fn open(&mut self, from: u64) -> Result<Opened, FetchError> {
        let mut delays = Delays::new(&self.settings.retry);
        let mut tries = 0;
        loop {
            let opened = tokio::select! {
                biased;
                opened = self.fetch.open(from, &self.pinned) => opened,
                () = self.clock.sleep(self.settings.idle_timeout) => {
                    Err(FetchError::Interrupted("no answer in time".to_owned()))
                }
            };
            match opened {
                Ok(opened) => {
                    if self.pinned == Version::default() {
                        self.pinned = opened.version.clone();
                    }
                    self.pinned.key = self.pinned.key.take().or_else(|| opened.version.key.clone());
                    return Ok(opened);
                }
                Err(error @ FetchError::Interrupted(_)) if tries < RESUMES_MAX => {
                    self.observer.interrupted(&error);
                    tries += 1;
                    self.clock.sleep(delays.next(None, self.random)).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The next bytes; a stream that ends early or stands still is interrupted.
    async fn receive(
        &self,
        stream: &mut dyn Stream,
        expected: Option<(u64, u64)>,
    ) -> Result<Option<Bytes>, FetchError> {
        let next = tokio::select! {
            biased;
            next = stream.next() => next?,
            () = self.clock.sleep(self.settings.idle_timeout) => {
                return Err(FetchError::Interrupted("nothing arrived in time".to_owned()));
            }
        };
        match (&next, expected) {
            (None, Some((received, missing))) if missing > 0 => {
                Err(FetchError::Interrupted(format!("ended after {received} bytes, {missing} are missing")))
            }
            _ => Ok(next),
        }
    }

    fn named(&self, template: &LogFile, opened: &Opened) -> LogFile {
        let mut file = template.clone();
        file.version_id = opened.version.version_id.clone().or(file.version_id);
        file.etag = opened.version.etag.clone().or(file.etag);
        file.key = opened.version.key.clone().unwrap_or(file.key);
        file
    }

    /// Inflates and splits `bytes` on a worker, slice by slice, and offers what comes out.
    async fn feed(&self, mut kit: Kit, bytes: Bytes) -> Result<Kit, PassError> {
        for start in (0..bytes.len()).step_by(SLICE_BYTES) {
            let slice = bytes.slice(start..bytes.len().min(start + SLICE_BYTES));
            let work = run_on(&**self.compute, move || {
                let result = kit.reader.push(&slice, &mut kit.chunks);
                let made = make(&mut kit);
                (kit, made, result)
            });
            let (back, made, result) = work.await.ok_or(PassError::Died)?;
            kit = back;
            kit.offered += made.iter().map(|made| made.parcel.chunk().len() as u64).sum::<u64>();
            self.offer_all(made).await;
            result.map_err(|error| PassError::Broken { error, from: kit.reader.events() })?;
        }
        Ok(kit)
    }

    async fn finish(&self, mut kit: Kit) -> Result<(Kit, LogFileEnd), PassError> {
        let work = run_on(&**self.compute, move || {
            let result = kit.reader.finish(&mut kit.chunks);
            let made = make(&mut kit);
            (kit, made, result)
        });
        let (kit, made, result) = work.await.ok_or(PassError::Died)?;
        self.offer_all(made).await;
        let from = kit.reader.events();
        let end = result.map_err(|error| PassError::Broken { error, from })?;
        Ok((kit, end))
    }

    async fn offer_all(&self, made: Vec<Made>) {
        for made in made {
            self.observer.events(&made, self.again);
            let mut wanted = false;
            for target in self.targets {
                wanted |= target.wants(&made.parcel);
                if self.patient {
                    target.room(self.clock).await;
                }
            }
            if !wanted {
                continue;
            }
            let charge = self.lanes.charge(made.parcel.memory_bytes(self.targets.len())).await;
            let parcel = Arc::new(made.parcel.with_charge(Some(charge)));
            for target in self.targets {
                target.offer(&parcel);
            }
        }
    }
}

fn make(kit: &mut Kit) -> Vec<Made> {
    let maker = &mut kit.maker;
    kit.chunks.drain(..).map(|chunk| maker.make(chunk)).collect()
}
