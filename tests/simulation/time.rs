//! The one time of a run: virtual, and the same for the agent, the SDK, the stand-ins and the ledger.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use aws_smithy_async::time::TimeSource;
use sinks::ports::Clock;

/// When every run begins: 2024-05-01T12:00:00Z, as the generator's log files do.
const EPOCH: Duration = Duration::from_secs(1_714_564_800);

/// Time since the begin of the run.
#[derive(Debug, Default)]
pub(crate) struct VirtualTime {
    /// As the driver of the run sees it, between the turns of the hosts.
    outside_us: AtomicU64,
}

impl VirtualTime {
    /// Now: of the host whose turn it is, or else of the driver.
    pub(crate) fn now(&self) -> Duration {
        let outside = || Duration::from_micros(self.outside_us.load(Ordering::Relaxed));
        turmoil::sim_elapsed().unwrap_or_else(outside)
    }

    /// Time since 1970.
    pub(crate) fn since_1970(&self) -> Duration {
        EPOCH + self.now()
    }

    /// Tells how far the driver is.
    pub(crate) fn set_outside(&self, now: Duration) {
        self.outside_us.store(u64::try_from(now.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

/// The agent's clock.
pub(crate) struct VirtualClock(pub(crate) Arc<VirtualTime>);

#[async_trait]
impl Clock for VirtualClock {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + self.0.since_1970()
    }

    fn monotonic(&self) -> Duration {
        self.0.now()
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// The SDK's clock.
#[derive(Debug)]
pub(crate) struct SdkClock(pub(crate) Arc<VirtualTime>);

impl TimeSource for SdkClock {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + self.0.since_1970()
    }
}
