//! The memory budget: bytes of log files in flight, charged once a chunk, whatever the number of sinks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

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
    _permit: OwnedSemaphorePermit,
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

    /// Waits up to `patience` for `bytes`. A charge above the whole budget takes the whole budget.
    ///
    /// `None` if the time passed first; then a sink that holds much should be made to let go.
    pub async fn charge(&self, bytes: u64, patience: Duration) -> Option<Charge> {
        let wanted = bytes.div_ceil(PERMIT_BYTES).clamp(1, u64::from(self.total_permits));
        let wanted = u32::try_from(wanted).unwrap_or(self.total_permits);
        let acquire = Arc::clone(&self.permits).acquire_many_owned(wanted);
        let permit = tokio::time::timeout(patience, acquire).await.ok()?.ok()?;
        self.in_use.fetch_add(bytes, Ordering::Relaxed);
        Some(Charge { bytes, in_use: Arc::clone(&self.in_use), _permit: permit })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_charge_waits_until_another_is_given_back() {
        let budget = Budget::new(64 * 1024);
        let first = budget.charge(60 * 1024, Duration::ZERO).await.unwrap();
        assert!(budget.charge(8 * 1024, Duration::from_secs(1)).await.is_none());
        assert_eq!(budget.in_use_bytes(), 60 * 1024);
        drop(first);
        assert!(budget.charge(8 * 1024, Duration::from_secs(1)).await.is_some());
        assert_eq!(budget.in_use_bytes(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_chunk_larger_than_the_budget_gets_it_whole_instead_of_waiting_for_ever() {
        let budget = Budget::new(64 * 1024);
        let all = budget.charge(1 << 30, Duration::ZERO).await.unwrap();
        assert!(budget.charge(1, Duration::from_secs(1)).await.is_none());
        drop(all);
        assert!(budget.charge(1, Duration::ZERO).await.is_some());
    }
}
