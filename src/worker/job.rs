//! The life of one log file: read it, wait for its shares, read it again for what is still owed.

mod delivered;
mod gate;
mod give_up;
mod optional;
mod parting;

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cloudtrail::{ContentKind, ReadError};
use futures_util::future::join_all;
use sinks::{Account, Delays, Lane, LanePass, LaneState, LogFile, RangeSet, Share, Via};
use tokio::sync::OwnedSemaphorePermit;

use super::fetch::{Fetch, FetchError, Version};
use super::handoff::Parting;
use super::pass::{Pass, PassEnd, PassError};
use super::plan::{JobEnd, JobObserver, Plan};
use crate::ledger::Turn;

/// Reads of a log file until it is given up, where the source does not say.
const READS_MAX: u32 = 5;

/// After a read that failed, how long lanes that are done with it wait for one that is not.
const SETTLE_PATIENCE: Duration = Duration::from_secs(5);

/// One log file to be shipped.
pub struct LogFileJob {
    plan: Arc<Plan>,
    fetch: Arc<dyn Fetch>,
    file: LogFile,
    observer: Arc<dyn JobObserver>,
    claims: Vec<Claim>,
    version: Mutex<Version>,
    /// Passes that have begun, and those that are under way.
    passes: AtomicU32,
    passing: AtomicU32,
    /// How the log file itself ended, once that is known.
    ending: Mutex<Option<JobEnd>>,
    unfinished: bool,
    reads_max: u32,
    /// How what is owed can be handed off.
    parting: Option<Parting>,
    handed_off: AtomicBool,
}

/// What one sink has coming of the log file.
struct Claim {
    lane: usize,
    share: Share,
    /// Reads for it in a row that found the log file broken, gone or changed.
    bad_reads: AtomicU32,
}

impl Claim {
    fn new(lane: usize, share: Share) -> Self {
        Self { lane, share, bad_reads: AtomicU32::new(0) }
    }
}

/// How reading went, with retries.
enum Read {
    /// To its end, or to where it was given up.
    Over,
    /// Not now; what is owed is read for each sink on its own, as its lane allows.
    Later,
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
        let claims = (0..plan.lanes.all().len()).map(|lane| Claim::new(lane, Share::new())).collect();
        Self {
            plan: Arc::clone(plan),
            fetch,
            file,
            observer,
            claims,
            version: Mutex::new(version),
            passes: AtomicU32::new(0),
            passing: AtomicU32::new(0),
            ending: Mutex::new(None),
            unfinished: false,
            reads_max: READS_MAX,
            parting: None,
            handed_off: AtomicBool::new(false),
        }
    }

    /// The same, of which only one sink owes some events.
    #[must_use]
    pub fn owing(mut self, lane: usize, owed: &RangeSet) -> Self {
        self.claims = vec![Claim::new(lane, Share::owing(owed))];
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
            self.version().etag = Some(etag.clone());
        }
        self
    }

    /// The same, which hands off what a sink owes that stays shut, instead of waiting for it.
    #[must_use]
    pub fn parting(mut self, parting: Parting) -> Self {
        self.parting = Some(parting);
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

    /// Ships it, see [`ship`](Self::ship).
    pub async fn run(self, slot: Option<OwnedSemaphorePermit>) -> JobEnd {
        self.ship(slot, None).await
    }

    /// Ships it. `slot` is given back once it has been read for the first time; delivery goes on after that. `turn` ends
    /// when what it has for sinks that are not required is delivered too, which this does not wait for.
    pub async fn ship(&self, slot: Option<OwnedSemaphorePermit>, turn: Option<Turn>) -> JobEnd {
        let all = self.leave_out_delivered().await;
        if all.is_empty() {
            return JobEnd::AlreadyDelivered;
        }
        let read = self.read_first(&all, slot).await;
        if let Read::Kept(why) = read {
            return JobEnd::Kept(why);
        }
        let (required, optional) = self.by_duty();
        if let Some(why) = self.close_all(&required).await.into_iter().find_map(Result::err) {
            return JobEnd::Kept(why);
        }
        let end = match self.ending().clone() {
            Some(JobEnd::DeadLettered) => JobEnd::DeadLettered,
            _ if self.handed_off.load(Ordering::Relaxed) => JobEnd::HandedOff,
            Some(end) => end,
            None => return JobEnd::Kept("no sink takes it".to_owned()),
        };
        let turn = turn.map(Arc::new);
        optional.into_iter().for_each(|claim| self.let_go(claim, turn.clone()));
        end
    }

    /// Waits until a sink owes nothing, reading the log file again for it as often as its lane lets go; or until what
    /// it owes is handed off, where its lane stays shut.
    async fn close(&self, claim: &Claim) -> Result<(), String> {
        let Some(lane) = self.plan.lanes.all().get(claim.lane) else { return Ok(()) };
        let mut delays = Delays::new(&self.plan.settings.retry);
        let mut entry = None;
        loop {
            if idle_or_shut(&claim.share, lane).await.is_closed() {
                return Ok(());
            }
            if entry.is_none() {
                // What stands in a message of hand-offs is counted with that.
                let counts = self.file.via != Via::Handoff;
                entry = Some(counts.then(|| self.plan.owed.enter(claim.lane, self.plan.clock.monotonic())));
            } else {
                self.plan.clock.sleep(delays.next(None, &*self.plan.random)).await;
            }
            // A lane that is shut may hold an event of this log file to probe with.
            let account = claim.share.idle().await;
            if account.is_closed() {
                return Ok(());
            }
            let permit = tokio::select! {
                biased;
                permit = async {
                    self.wait_open(None).await;
                    lane.admit_pass().await
                } => permit,
                () = self.is_to_part(lane) => {
                    if self.hand_off(&[claim]).await {
                        return Ok(());
                    }
                    continue;
                }
            };
            let Some(permit) = permit else { return Err(format!("sink {} has ended", lane.config().name)) };
            self.observer.again(&self.name(), claim.lane, owed_events(&account));
            let read = self.read(&[claim], true).await;
            drop(permit);
            if let Read::Kept(why) = read {
                return Err(why);
            }
        }
    }

    /// Reads the log file for the given sinks, until it was read to its end or was given up. Patient, it reads for
    /// a sink that others no longer wait for.
    async fn read(&self, claims: &[&Claim], patient: bool) -> Read {
        let mut delays = Delays::new(&self.plan.settings.retry);
        let mut claims = claims.to_vec();
        let mut unreachable = 0;
        loop {
            // Apart, and gone when it is over: a log file that waits for its sinks, for weeks perhaps, is to be small.
            let error = match Box::pin(self.pass(&claims, patient)).await {
                Ok(end) => return self.read_well(&claims, end),
                Err(error) => error,
            };
            if self.was_given_up_at(&error) {
                return Read::Over;
            }
            let attempt = if is_unreachable(&error) {
                unreachable += 1;
                unreachable
            } else {
                let reads = claims.iter().map(|claim| claim.bad_reads.fetch_add(1, Ordering::Relaxed) + 1);
                reads.max().unwrap_or(1)
            };
            self.observer.failed(&self.name(), &error, attempt);
            if attempt >= self.reads_max || self.is_shut_out(&error) {
                return self.give_up(&error, attempt, patient).await;
            }
            self.plan.clock.sleep(delays.next(None, &*self.plan.random)).await;
            claims = self.settle_down(&claims).await;
            if claims.is_empty() {
                return Read::Later;
            }
            // Judged once nothing of the old object can settle any more: positions in the new one are others.
            if matches!(error, PassError::Fetch(FetchError::Changed(_))) && self.is_untouched() {
                *self.version() = Version::default();
            }
        }
    }

    fn read_well(&self, claims: &[&Claim], end: PassEnd) -> Read {
        claims.iter().for_each(|claim| claim.bad_reads.store(0, Ordering::Relaxed));
        let end = match end {
            PassEnd::Whole(end) => end,
            // Somebody has seen its good end before: here, or where this was handed off.
            PassEnd::Enough { events } => {
                let content = ContentKind::Records;
                self.ending().get_or_insert(JobEnd::Done { events, content });
                return Read::Over;
            }
        };
        claims.iter().for_each(|claim| claim.share.ended(end.events));
        // Sinks that were left out know at least how much they owe.
        for claim in self.claims.iter().filter(|claim| claim.share.account().total.is_none()) {
            claim.share.ended(end.events);
        }
        self.ending().get_or_insert(JobEnd::Done { events: end.events, content: end.content });
        Read::Over
    }

    /// Whether the end was given up before at just this place; up to there the log file has been read well.
    fn was_given_up_at(&self, error: &PassError) -> bool {
        let PassError::Broken { from, .. } = error else { return false };
        self.claims.iter().all(|claim| claim.share.account().total == Some(*from))
    }

    /// Waits until lanes have nothing left of the last pass: it must not be offered twice. Gives those that the
    /// next pass is for; the others are read for on their own, later. A lane that is shut is one of these: it may
    /// keep an event for as long as it likes. So is one that takes much longer than another.
    async fn settle_down<'a>(&self, claims: &[&'a Claim]) -> Vec<&'a Claim> {
        let lanes = self.plan.lanes.all();
        let is_shut =
            |claim: &Claim| lanes.get(claim.lane).is_none_or(|lane| lane.health().state().is_shut());
        loop {
            let settling =
                self.targets(claims).into_iter().map(|(claim, lane)| idle_or_shut(&claim.share, lane));
            tokio::select! {
                biased;
                _ = join_all(settling) => {}
                () = self.plan.clock.sleep(SETTLE_PATIENCE) => {}
            }
            let is_idle = |claim: &&&Claim| claim.share.account().open == 0;
            let idle: Vec<&Claim> = claims.iter().filter(is_idle).copied().collect();
            let accepting: Vec<&Claim> = idle.iter().filter(|claim| !is_shut(claim)).copied().collect();
            if !accepting.is_empty() {
                return accepting;
            }
            if claims.iter().all(|claim| is_shut(claim)) {
                return idle;
            }
        }
    }

    async fn pass(&self, claims: &[&Claim], patient: bool) -> Result<PassEnd, PassError> {
        let targets: Vec<LanePass<'_>> =
            self.targets(claims).into_iter().map(|(claim, lane)| lane.begin(&claim.share)).collect();
        let pinned = self.version().clone();
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
            again: self.passes.fetch_add(1, Ordering::Relaxed) > 0,
            pinned: pinned.clone(),
        };
        self.passing.fetch_add(1, Ordering::Relaxed);
        let end = pass.run(&self.file).await;
        self.passing.fetch_sub(1, Ordering::Relaxed);
        // Given up at this place, it ends there for good. Broken otherwise, or cut off, this pass has no end: what is in
        // no whole object is read again, also where another pass has read well what this one did not.
        let given_up = || *self.ending() == Some(JobEnd::DeadLettered);
        if end.is_ok() || (given_up() && end.as_ref().is_err_and(|error| self.was_given_up_at(error))) {
            targets.iter().for_each(LanePass::ended);
        }
        let mut version = self.version();
        // Another pass may have learnt it first.
        if *version == pinned {
            *version = pass.pinned;
        }
        end
    }

    fn targets<'a>(&'a self, claims: &[&'a Claim]) -> Vec<(&'a Claim, &'a Arc<Lane>)> {
        let lanes = self.plan.lanes.all();
        claims.iter().filter_map(|&claim| Some((claim, lanes.get(claim.lane)?))).collect()
    }

    /// Whether no sink has anything of the log file, nor can get it from a pass that has begun.
    fn is_untouched(&self) -> bool {
        self.passing.load(Ordering::Relaxed) == 0
            && self.claims.iter().all(|claim| claim.share.account().is_untouched())
    }

    fn version(&self) -> MutexGuard<'_, Version> {
        self.version.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ending(&self) -> MutexGuard<'_, Option<JobEnd>> {
        self.ending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a lease holds the message for as long as it takes.
    fn is_held(&self) -> bool {
        matches!(self.file.via, Via::Queue | Via::Inline | Via::Handoff)
    }
}

/// Waits until the lane holds no event of the share, or does not accept any more.
async fn idle_or_shut(share: &Share, lane: &Lane) -> Account {
    tokio::select! {
        biased;
        account = share.idle() => account,
        _ = lane.health().wait_for(LaneState::is_shut) => share.account(),
    }
}

/// Whether the bytes could not be had, whatever they are.
fn is_unreachable(error: &PassError) -> bool {
    matches!(error, PassError::Fetch(FetchError::Interrupted(_) | FetchError::Denied(_)))
}

fn broken(error: &ReadError) -> String {
    format!("{}: {error}", error.code())
}

fn owed_events(account: &Account) -> u64 {
    account.total.map_or(0, |_| account.owed().count())
}
