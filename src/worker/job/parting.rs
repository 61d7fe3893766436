//! How a job parts with its log file: what is still owed is handed off.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sinks::{Lane, LaneState, RangeSet};

use super::{Claim, LogFileJob};

/// How long a lane has to be shut until what it owes is handed off: a moment costs nothing but reading again.
const SHUT_PATIENCE: Duration = Duration::from_secs(1);

impl LogFileJob {
    /// Whether a sink has something of it that it would get twice, were all of it read again.
    #[must_use]
    pub fn is_touched(&self) -> bool {
        self.handed_off.load(Ordering::Relaxed)
            || self.claims.iter().any(|claim| claim.share.account().outcomes > 0)
    }

    /// Hands off everything that sinks are still owed, for a log file that can be waited for no longer. What lanes hold
    /// is handed off as well, and may arrive twice. False where it could not be; then nothing has changed.
    pub async fn part(&self) -> bool {
        let (required, optional) = self.by_duty();
        let parted = self.hand_off(&required).await;
        if parted {
            optional.into_iter().for_each(|claim| self.let_go(claim, None));
        }
        parted
    }

    /// Hands off what these sinks are owed; false where that is not possible now.
    pub(super) async fn hand_off(&self, claims: &[&Claim]) -> bool {
        let version = self.version().clone();
        let Some(parting) = self.parting.as_ref().filter(|parting| parting.can(&self.file, &version)) else {
            return false;
        };
        let owed: Vec<_> = self
            .targets(claims)
            .into_iter()
            .map(|(claim, lane)| (claim, lane, claim.share.account().owed()))
            .filter(|(_, _, owed)| !owed.ranges().is_empty())
            .collect();
        let write = |(_, lane, owed): &(&Claim, &Arc<Lane>, RangeSet)| {
            parting.write(&self.file, &version, &lane.config().name, owed)
        };
        let list: Vec<_> = owed.iter().flat_map(write).collect();
        if list.is_empty() {
            return true;
        }
        if parting.queue.hand_off(list).await.is_err() {
            return false;
        }
        for (claim, lane, owed) in owed {
            claim.share.hand_off(lane.stats(), &owed);
            self.handed_off.store(true, Ordering::Relaxed);
        }
        true
    }

    /// Waits until a lane has been shut for some time, if what it owes can then be handed off.
    pub(super) async fn is_to_part(&self, lane: &Lane) {
        let version = self.version().clone();
        if !self.parting.as_ref().is_some_and(|parting| parting.can(&self.file, &version)) {
            return std::future::pending().await;
        }
        loop {
            lane.health().wait_for(LaneState::is_shut).await;
            tokio::select! {
                biased;
                _ = lane.health().wait_for(|state| !state.is_shut()) => {}
                () = self.plan.clock.sleep(SHUT_PATIENCE) => return,
            }
        }
    }
}
