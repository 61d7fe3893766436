//! The life of one log file: read it, wait for its shares, read it again for what is still owed.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cloudtrail::{ContentKind, LogFileEnd, ReadError};
use sinks::ports::{Clock, Compute, Random};
use sinks::{
    Account, DeadLetterStore, Delays, Lane, LaneState, Letter, LogFile, RangeSet, Reason, ReasonCode, Share,
};
use tokio::sync::OwnedSemaphorePermit;

use super::fetch::{Fetch, FetchError, Version};
use super::pass::{Pass, PassError, PassObserver, ReadSettings, Target};
use crate::lanes::Lanes;

/// Reads of a log file until it is given up, where the source does not say.
const READS_MAX: u32 = 5;

/// How a log file ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobEnd {
    /// Every event has its outcome at every required sink.
    Done {
        /// Events in the log file.
        events: u64,
        /// What was in it.
        content: ContentKind,
    },
    /// It could not be read to its end; the rest is in the dead letters, durably.
    DeadLettered,
    /// It is not done, and its notification has to stay.
    Kept(String),
}

/// What jobs share.
pub struct Plan {
    /// How log files are read.
    pub settings: ReadSettings,
    /// Where events go.
    pub lanes: Arc<Lanes>,
    /// Where it is computed.
    pub compute: Arc<dyn Compute>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Jitter.
    pub random: Arc<dyn Random>,
    /// For what cannot be read.
    pub dead_letters: Arc<dyn DeadLetterStore>,
    /// Which sinks hold the notification until they have everything, by position.
    pub required: Vec<bool>,
    /// What is owed at the moment.
    pub owed: Owed,
}

/// Told how a log file fares.
pub trait JobObserver: PassObserver {
    /// A read failed; unless it was the last, it is tried again.
    fn failed(&self, name: &str, error: &PassError, attempt: u32);
    /// The rest of a log file went to the dead letters.
    fn dead_lettered(&self, name: &str, from: u64, why: &Reason);
    /// Dead letters cannot be stored.
    fn dead_letter_failed(&self, error: &std::io::Error);
    /// A sink that is not required did not get these events.
    fn dropped(&self, lane: usize, events: u64);
    /// The log file is read again for this sink.
    fn again(&self, name: &str, lane: usize, owed: u64);
}

/// Log files of which a sink still owes events.
#[derive(Debug)]
pub struct Owed {
    next: AtomicU64,
    lanes: Vec<Mutex<BTreeMap<u64, Duration>>>,
}

impl Owed {
    /// For so many lanes.
    #[must_use]
    pub fn new(lanes: usize) -> Self {
        Self { next: AtomicU64::new(0), lanes: (0..lanes).map(|_| Mutex::default()).collect() }
    }

    /// How many log files a lane owes, and since when the oldest (on the monotonic clock).
    #[must_use]
    pub fn of(&self, lane: usize) -> (usize, Option<Duration>) {
        let Some(files) = self.lanes.get(lane) else { return (0, None) };
        let files = files.lock().unwrap_or_else(PoisonError::into_inner);
        (files.len(), files.values().min().copied())
    }

    fn enter(&self, lane: usize, since: Duration) -> Option<Entry<'_>> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let files = self.lanes.get(lane)?;
        files.lock().unwrap_or_else(PoisonError::into_inner).insert(id, since);
        Some(Entry { files, id })
    }
}

/// One owed log file, until dropped.
struct Entry<'a> {
    files: &'a Mutex<BTreeMap<u64, Duration>>,
    id: u64,
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.files.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

/// One log file to be shipped.
pub struct LogFileJob {
    plan: Arc<Plan>,
    fetch: Arc<dyn Fetch>,
    file: LogFile,
    observer: Arc<dyn JobObserver>,
    shares: Vec<(usize, Share)>,
    version: Mutex<Version>,
    failed_reads: AtomicU32,
    unfinished: bool,
    reads_max: u32,
}

/// How reading went, with retries.
enum Read {
    Good(LogFileEnd),
    DeadLettered,
    Kept(String),
}

impl LogFileJob {
    /// A log file of which every sink owes everything.
    #[must_use]
    pub fn new(
        plan: &Arc<Plan>,
        fetch: Arc<dyn Fetch>,
        file: LogFile,
        version: Version,
        observer: Arc<dyn JobObserver>,
    ) -> Self {
        let shares = (0..plan.lanes.all().len()).map(|lane| (lane, Share::new())).collect();
        Self {
            plan: Arc::clone(plan),
            fetch,
            file,
            observer,
            shares,
            version: Mutex::new(version),
            failed_reads: AtomicU32::new(0),
            unfinished: false,
            reads_max: READS_MAX,
        }
    }

    /// The same, of which only one sink owes some events.
    #[must_use]
    pub fn owing(mut self, lane: usize, owed: &RangeSet) -> Self {
        self.shares = vec![(lane, Share::owing(owed))];
        self
    }

    /// The same, of which somebody may still write the end: broken, it is kept instead of given up.
    #[must_use]
    pub fn unfinished(mut self) -> Self {
        self.unfinished = true;
        self
    }

    /// The same, read at most so often.
    #[must_use]
    pub fn with_reads(mut self, reads_max: u32) -> Self {
        self.reads_max = reads_max;
        self
    }

    /// The same, in the version with this ETag.
    #[must_use]
    pub fn pinned(self, etag: &Option<String>) -> Self {
        if let Some(etag) = etag {
            self.version.lock().unwrap_or_else(PoisonError::into_inner).etag = Some(etag.clone());
        }
        self
    }

    /// What it is called in a log line.
    #[must_use]
    pub fn name(&self) -> String {
        match self.file.bucket.as_str() {
            "" | "file" => self.file.key.clone(),
            bucket => format!("s3://{bucket}/{}", self.file.key),
        }
    }

    /// Ships it. `slot` is given back once it has been read for the first time; delivery goes on after that.
    pub async fn run(self, slot: Option<OwnedSemaphorePermit>) -> JobEnd {
        let all: Vec<usize> = (0..self.shares.len()).collect();
        let read = self.read(&all, false).await;
        drop(slot);
        let end = match read {
            Read::Good(end) => JobEnd::Done { events: end.events, content: end.content },
            Read::DeadLettered => JobEnd::DeadLettered,
            Read::Kept(why) => return JobEnd::Kept(why),
        };
        let closing = all.iter().map(|&share| self.close(share));
        let kept = futures_util::future::join_all(closing).await.into_iter().find_map(Result::err);
        kept.map_or(end, JobEnd::Kept)
    }

    /// Waits until a share owes nothing, reading the log file again for it as often as its lane lets go.
    async fn close(&self, position: usize) -> Result<(), String> {
        let Some((index, share)) = self.shares.get(position) else { return Ok(()) };
        let Some(lane) = self.plan.lanes.all().get(*index) else { return Ok(()) };
        let mut delays = Delays::new(&self.plan.settings.retry);
        let mut entry = None;
        let required = self.plan.required.get(*index).copied().unwrap_or(true);
        loop {
            let mut account = idle_or_shut(share, lane).await;
            if account.is_closed() {
                return Ok(());
            }
            if !required {
                self.observer.dropped(*index, owed_events(&account));
                return Ok(());
            }
            if entry.is_none() {
                entry = self.plan.owed.enter(*index, self.plan.clock.monotonic());
            } else {
                self.plan.clock.sleep(delays.next(None, &*self.plan.random)).await;
            }
            // A lane that is shut may hold an event of this log file to probe with.
            account = share.idle().await;
            if account.is_closed() {
                return Ok(());
            }
            let owed = owed_events(&account);
            let permit = lane.admit_pass().await;
            let Some(permit) = permit else { return Err(format!("sink {} has ended", lane.config().name)) };
            self.observer.again(&self.name(), *index, owed);
            let read = self.read(&[position], true).await;
            drop(permit);
            if let Read::Kept(why) = read {
                return Err(why);
            }
        }
    }

    /// Reads the log file for the given shares, until it was read to its end or was given up.
    async fn read(&self, positions: &[usize], patient: bool) -> Read {
        let mut delays = Delays::new(&self.plan.settings.retry);
        let mut positions = positions.to_vec();
        loop {
            let error = match self.pass(&positions, patient).await {
                Ok(end) => {
                    self.targets(&positions).iter().for_each(|target| target.share.ended(end.events));
                    return Read::Good(end);
                }
                Err(error) => error,
            };
            if let PassError::Broken { from, .. } = &error
                && self.shares.iter().all(|(_, share)| share.account().total == Some(*from))
            {
                // Its end was given up before; up to there it has been read well.
                return Read::DeadLettered;
            }
            let attempt = self.failed_reads.fetch_add(1, Ordering::Relaxed) + 1;
            self.observer.failed(&self.name(), &error, attempt);
            if attempt >= self.reads_max {
                return self.give_up(&error, attempt).await;
            }
            if matches!(error, PassError::Fetch(FetchError::Changed(_))) && self.is_untouched() {
                *self.version.lock().unwrap_or_else(PoisonError::into_inner) = Version::default();
            }
            self.plan.clock.sleep(delays.next(None, &*self.plan.random)).await;
            self.settle_down(&mut positions).await;
        }
    }

    /// Waits until the lanes have nothing left of the last pass: it must not be offered twice. A lane that is shut
    /// may keep an event for as long as it likes, so it is left out; it is read for on its own once it opens.
    async fn settle_down(&self, positions: &mut Vec<usize>) {
        let is_shut = |position: &usize| {
            self.targets(&[*position]).iter().any(|target| target.lane.health().state().is_shut())
        };
        if !positions.iter().all(is_shut) {
            positions.retain(|position| !is_shut(position));
        }
        for target in self.targets(positions) {
            target.share.idle().await;
        }
    }

    async fn pass(&self, positions: &[usize], patient: bool) -> Result<LogFileEnd, PassError> {
        let targets = self.targets(positions);
        let pinned = self.version.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut pass = Pass {
            fetch: &*self.fetch,
            settings: &self.plan.settings,
            lanes: &self.plan.lanes,
            compute: &self.plan.compute,
            clock: &*self.plan.clock,
            random: &*self.plan.random,
            observer: &*self.observer,
            targets: &targets,
            patient,
            again: patient || self.failed_reads.load(Ordering::Relaxed) > 0,
            pinned,
        };
        let end = pass.run(&self.file).await;
        *self.version.lock().unwrap_or_else(PoisonError::into_inner) = pass.pinned;
        end
    }

    fn targets(&self, positions: &[usize]) -> Vec<Target<'_>> {
        let target = |&position: &usize| -> Option<Target<'_>> {
            let (lane, share) = self.shares.get(position)?;
            let lane: &Arc<Lane> = self.plan.lanes.all().get(*lane)?;
            Some(Target { lane, share })
        };
        positions.iter().filter_map(target).collect()
    }

    fn is_untouched(&self) -> bool {
        self.shares.iter().all(|(_, share)| share.account().settled.count() == 0)
    }

    /// What cannot be read goes to the dead letters; what must not be read keeps its notification.
    async fn give_up(&self, error: &PassError, attempts: u32) -> Read {
        let (from, code, text) = match error {
            PassError::Broken { error, .. } if self.unfinished => return Read::Kept(broken(error)),
            PassError::Broken { error, from } => (*from, ReasonCode::Unreadable, broken(error)),
            PassError::Fetch(error @ (FetchError::NotFound(_) | FetchError::Changed(_))) => {
                let gaps = self.shares.iter().map(|(_, share)| share.account().settled.first_gap());
                (gaps.min().unwrap_or(0), ReasonCode::Unreadable, error.to_string())
            }
            PassError::Fetch(error) => return Read::Kept(error.to_string()),
            PassError::Died => return Read::Kept("a worker died on it: please report this".to_owned()),
        };
        let why = Reason::new(code, text);
        let file = LogFile {
            version_id: self.version.lock().unwrap_or_else(PoisonError::into_inner).version_id.clone(),
            ..self.file.clone()
        };
        let letter = Letter::of_log_file(&file, from, attempts, &why, self.plan.clock.now());
        if let Err(error) = self.plan.dead_letters.store(&[letter]).await {
            self.observer.dead_letter_failed(&error);
            return Read::Kept(format!("dead letters cannot be stored: {error}"));
        }
        self.observer.dead_lettered(&self.name(), from, &why);
        for (_, share) in &self.shares {
            share.settle_unread(from);
        }
        Read::DeadLettered
    }
}

/// Waits until the lane holds no event of the share, or does not accept any more.
async fn idle_or_shut(share: &Share, lane: &Lane) -> Account {
    let mut state = lane.health().watch();
    tokio::select! {
        account = share.idle() => account,
        _ = state.wait_for(LaneState::is_shut) => share.account(),
    }
}

fn broken(error: &ReadError) -> String {
    format!("{}: {error}", error.code())
}

fn owed_events(account: &Account) -> u64 {
    account.total.map_or(0, |total| account.settled.missing(total).count())
}
