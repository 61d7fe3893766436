//! Log files that may not be read now: they wait for that, without a place among those that are read.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use super::{Claim, LogFileJob, PassError, Read, is_unreachable};

impl LogFileJob {
    /// Reads the log file for the first time; waits before that, and after a denial, until it may be read. `slot` is
    /// its place among those that are read.
    pub(super) async fn read_first(&self, claims: &[&Claim], mut slot: Option<OwnedSemaphorePermit>) -> Read {
        loop {
            slot = self.wait_open(slot).await;
            match self.read(claims, false).await {
                Read::Kept(_) if !self.fetch.is_open() => {}
                read => return read,
            }
        }
    }

    /// Waits until the log file may be read; others have its place meanwhile.
    pub(super) async fn wait_open(
        &self,
        mut slot: Option<OwnedSemaphorePermit>,
    ) -> Option<OwnedSemaphorePermit> {
        while !self.fetch.is_open() {
            let slots = slot.take().map(|slot| Arc::clone(slot.semaphore()));
            self.fetch.opened().await;
            if let Some(slots) = slots {
                slot = slots.acquire_owned().await.ok();
            }
        }
        slot
    }

    /// Whether it is of no use to try again soon after this error: somebody tells when it is.
    pub(super) fn is_shut_out(&self, error: &PassError) -> bool {
        is_unreachable(error) && !self.fetch.is_open()
    }
}
