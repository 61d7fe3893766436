//! What sinks have of a log file already: left out before it is read, and noted once it is delivered.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join, join_all};
use sinks::{Share, Via};
use tokio::sync::mpsc;

use super::{Claim, LogFileJob};
use crate::ledger::{Delivered, ObjectVersion};
use crate::worker::fetch::Version;
use crate::worker::plan::{JobEnd, Plan};

/// How long what one sink has is kept back, for others to be noted with it in one write.
const GATHER_TIME: Duration = Duration::from_secs(1);

/// How long S3 is waited for that is asked which version an object has.
const HEAD_TIME: Duration = Duration::from_secs(5);

/// What is to be noted of a log file.
pub(super) struct Receipt {
    plan: Arc<Plan>,
    name: String,
    version: ObjectVersion,
    /// By their lanes.
    shares: Vec<(usize, Share)>,
}

impl Receipt {
    /// Notes it of the sinks that have everything by now.
    pub(super) async fn keep(self) {
        let deliveries = &self.plan.deliveries;
        let whole: Vec<(usize, u64)> =
            self.shares.iter().filter_map(|(lane, share)| Some((*lane, all_of(share)?))).collect();
        let marks = deliveries.marks_of(whole.iter().map(|(lane, _)| *lane));
        let events = whole.first().map(|(_, events)| *events);
        if let (false, Some(events)) = (marks.is_empty(), events) {
            let delivered = Delivered { version: self.version, events, marks };
            deliveries.ledger.note(&self.name, &delivered).await;
        }
    }
}

/// The number of events, where the sink has dealt with every one of them by itself. Not where some were handed off, nor
/// for a hand-off: that its sink had the rest, only its message says.
fn all_of(share: &Share) -> Option<u64> {
    let account = share.account();
    account.total.filter(|total| account.is_closed() && account.outcomes == *total)
}

impl LogFileJob {
    /// Leaves out the sinks that have the log file already, and gives the others.
    pub(super) async fn leave_out_delivered(&self) -> Vec<&Claim> {
        let known = self.known().await;
        let has = |claim: &&Claim| {
            let mark = self.plan.deliveries.marks.get(claim.lane);
            known.as_ref().zip(mark).is_some_and(|(known, mark)| known.marks.contains(mark))
        };
        let (done, open): (Vec<&Claim>, Vec<&Claim>) = self.claims.iter().partition(has);
        for claim in done {
            let events = known.as_ref().map_or(0, |known| known.events);
            let owed = claim.share.account().settled.missing(events).count();
            self.observer.already_delivered(&self.name(), claim.lane, owed);
            claim.share.settle_unread(0);
        }
        open
    }

    /// What it is called among the log files that are under way; `None` where it need not wait for another message to be
    /// done with it. A hand-off need not: what it names is owed by it alone.
    #[must_use]
    pub fn turn_name(&self) -> Option<String> {
        let waits =
            self.is_held() && self.file.via != Via::Handoff && self.plan.deliveries.ledger.remembers();
        if waits { self.names().into_iter().next() } else { None }
    }

    /// What the ledger knows of just this version.
    async fn known(&self) -> Option<Delivered> {
        if !self.is_held() {
            return None;
        }
        let deliveries = &self.plan.deliveries;
        let wanted = deliveries.marks_of(self.claims.iter().map(|claim| claim.lane));
        let said = self.version_of(&self.version());
        for name in self.names() {
            let Some(known) = deliveries.ledger.look(&name, &wanted).await else { continue };
            if known.marks.is_disjoint(&wanted) {
                continue;
            }
            // A name alone says nothing: the object may have been replaced.
            let version = match said {
                Some(version) => Some(version),
                None => self.current(&name).await,
            };
            if version == Some(known.version) {
                return Some(known);
            }
        }
        None
    }

    /// The version that S3 has now under that name.
    async fn current(&self, name: &str) -> Option<ObjectVersion> {
        let current = tokio::select! {
            biased;
            current = self.fetch.current() => current?,
            () = self.plan.clock.sleep(HEAD_TIME) => return None,
        };
        let is_it = current.key.as_deref().is_some_and(|key| self.name_of(key) == name);
        self.version_of(&current).filter(|_| is_it)
    }

    fn version_of(&self, version: &Version) -> Option<ObjectVersion> {
        match self.fetch.document() {
            Some(document) => Some(ObjectVersion::of_document(document)),
            None => ObjectVersion::of_object(version.version_id.as_deref(), version.etag.as_deref()),
        }
    }

    /// What it is called in the ledger, in each reading of its key. Nothing for what has no lasting name.
    fn names(&self) -> Vec<String> {
        match self.fetch.document() {
            Some(_) => vec![self.name_of(&self.file.key)],
            None => self.fetch.keys().into_iter().map(|key| self.name_of(key)).collect(),
        }
    }

    fn name_of(&self, key: &str) -> String {
        match self.fetch.document() {
            Some(_) => format!("message/{key}"),
            None => format!("s3://{}/{key}", self.file.bucket),
        }
    }

    /// Waits until sinks owe nothing, and notes it of each that has everything.
    pub(super) async fn close_all(&self, claims: &[&Claim]) -> Vec<Result<(), String>> {
        let (tell, mut closed) = mpsc::unbounded_channel();
        let close = |claim| {
            let tell = tell.clone();
            async move {
                let end = self.close(claim).await;
                if end.is_ok() {
                    // Nobody listens any more only where the job is gone.
                    let _ = tell.send(claim);
                }
                end
            }
        };
        let closing = join_all(claims.iter().copied().map(close).collect::<Vec<_>>());
        drop(tell);
        let noting = async {
            while let Some(first) = closed.recv().await {
                let mut together = vec![first];
                let gather = async {
                    while let Some(next) = closed.recv().await {
                        together.push(next);
                    }
                };
                tokio::select! {
                    biased;
                    () = gather => {}
                    () = self.plan.clock.sleep(GATHER_TIME) => {}
                }
                if let Some(receipt) = self.receipt(&together) {
                    receipt.keep().await;
                }
            }
        };
        join(closing, noting).await.0
    }

    /// What there is to be noted of these sinks once they owe nothing. Nothing of a log file that could not be read to
    /// its end: another read may get further.
    pub(super) fn receipt(&self, claims: &[&Claim]) -> Option<Receipt> {
        let has_end = matches!(&*self.ending(), Some(JobEnd::Done { .. }));
        let has_name = self.fetch.document().is_some() || !self.fetch.keys().is_empty();
        if !has_end || !has_name || !self.is_held() {
            return None;
        }
        let version = self.version().clone();
        let name = self.name_of(version.key.as_deref().unwrap_or(&self.file.key));
        let shares = claims.iter().map(|claim| (claim.lane, claim.share.clone())).collect();
        Some(Receipt { plan: Arc::clone(&self.plan), name, version: self.version_of(&version)?, shares })
    }
}
