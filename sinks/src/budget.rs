//! The memory budget: bytes of log files in flight, charged once a chunk, whatever the number of sinks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Permits are kibibytes: a semaphore's count has fewer bits than a byte count needs.
const PERMIT_BYTES: u64 = 1024;

/// A limit on the bytes in flight. Cloning gives another handle on the same budget.
#[derive(Clone, Debug)]
pub struct Budget {
    permits: Arc<Semaphore>,
    total_permits: u32,
    in_use: Arc<AtomicU64>,
}

/// A part of the budget, given back when dropped.
#[derive(Debug)]
pub struct Charge {
    bytes: u64,
    in_use: Arc<AtomicU64>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Charge {
    /// How much of the budget it is.
    #[must_use]
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.in_use.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Budget {
    /// A budget of `bytes`, at least one permit and at most 4 TiB.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        let total_permits = u32::try_from((bytes / PERMIT_BYTES).max(1)).unwrap_or(u32::MAX);
        let permits = Arc::new(Semaphore::new(total_permits as usize));
        Self { permits, total_permits, in_use: Arc::default() }
    }

    /// The whole budget in bytes.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        u64::from(self.total_permits) * PERMIT_BYTES
    }

    /// Bytes charged at the moment.
    #[must_use]
    pub fn in_use_bytes(&self) -> u64 {
        self.in_use.load(Ordering::Relaxed)
    }

    /// Waits for `bytes`, in the order in which they were asked for: small charges do not pass a large one by. A
    /// charge above the whole budget takes the whole budget.
    ///
    /// Dropped, it gives its place up. While it waits, a sink that holds much should be made to let go.
    pub async fn charge(&self, bytes: u64) -> Charge {
        let wanted = bytes.div_ceil(PERMIT_BYTES).clamp(1, u64::from(self.total_permits));
        let wanted = u32::try_from(wanted).unwrap_or(self.total_permits);
        // Fails only for a closed semaphore, and nobody closes this one; then there is no limit left to keep.
        let permit = Arc::clone(&self.permits).acquire_many_owned(wanted).await.ok();
        self.in_use.fetch_add(bytes, Ordering::Relaxed);
        Charge { bytes, in_use: Arc::clone(&self.in_use), _permit: permit }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn charge(budget: &Budget, bytes: u64) -> Option<Charge> {
        tokio::time::timeout(Duration::from_secs(1), budget.charge(bytes)).await.ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_charge_waits_until_another_is_given_back() {
        let budget = Budget::new(64 * 1024);
        let first = charge(&budget, 60 * 1024).await;
        assert!(charge(&budget, 8 * 1024).await.is_none());
        assert_eq!(budget.in_use_bytes(), 60 * 1024);
        drop(first);
        assert!(charge(&budget, 8 * 1024).await.is_some());
        assert_eq!(budget.in_use_bytes(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_chunk_larger_than_the_budget_gets_it_whole_instead_of_waiting_for_ever() {
        let budget = Budget::new(64 * 1024);
        let all = charge(&budget, 1 << 30).await;
        assert!(all.is_some() && charge(&budget, 1).await.is_none());
        drop(all);
        assert!(charge(&budget, 1).await.is_some());
    }
}
