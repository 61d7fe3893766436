//! Sinks that are not required: the job ends without them.

use std::sync::Arc;

use super::{Claim, LogFileJob, idle_or_shut, owed_events};
use crate::ledger::Turn;

impl LogFileJob {
    /// The sinks that hold the notification, and those that do not.
    pub(super) fn by_duty(&self) -> (Vec<&Claim>, Vec<&Claim>) {
        let is_required = |claim: &&Claim| self.plan.required.get(claim.lane).copied().unwrap_or(true);
        self.claims.iter().partition(is_required)
    }

    /// Counts what a sink that is not required does not get. Its lane may hold events that it still delivers; the
    /// job does not wait for them, but another message that names the log file does, until they are noted.
    pub(super) fn let_go(&self, claim: &Claim, mut turn: Option<Arc<Turn>>) {
        let Some(lane) = self.plan.lanes.all().get(claim.lane).cloned() else { return };
        let (share, number, observer) = (claim.share.clone(), claim.lane, Arc::clone(&self.observer));
        let receipt = self.receipt(&[claim]);
        tokio::spawn(async move {
            let account = idle_or_shut(&share, &lane).await;
            let dropped = owed_events(&account).saturating_sub(account.open);
            observer.dropped(number, dropped);
            // A shut lane may hold some to probe with, for weeks perhaps: nobody waits for these.
            if account.open > 0 {
                turn = None;
            }
            let rest = owed_events(&share.idle().await);
            observer.dropped(number, rest.saturating_sub(dropped));
            if let Some(receipt) = receipt {
                receipt.keep().await;
            }
            drop(turn);
        });
    }
}
