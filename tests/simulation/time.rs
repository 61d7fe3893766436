//! The one time of a run: virtual, and the same for the agent, the SDK, the stand-ins and the ledger.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
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
    /// Requests that were refused for the time with which they were signed.
    too_skewed: AtomicU64,
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

impl VirtualTime {
    /// A request was refused for the time with which it was signed.
    pub(crate) fn note_too_skewed(&self) {
        self.too_skewed.fetch_add(1, Ordering::Relaxed);
    }

    /// The time as HTTP has it.
    pub(crate) fn http_date(&self) -> String {
        httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + self.since_1970())
    }

    /// How many were.
    pub(crate) fn too_skewed(&self) -> u64 {
        self.too_skewed.load(Ordering::Relaxed)
    }
}

/// The wall clock of one machine, which may be wrong.
#[derive(Debug)]
pub(crate) struct WallClock {
    time: Arc<VirtualTime>,
    wrong_by_s: AtomicI64,
    /// How often it was asked while it was wrong.
    asked: AtomicU64,
}

impl WallClock {
    /// A clock that is right.
    pub(crate) fn new(time: &Arc<VirtualTime>) -> Self {
        Self { time: Arc::clone(time), wrong_by_s: AtomicI64::new(0), asked: AtomicU64::new(0) }
    }

    /// Sets it wrong by so many seconds.
    pub(crate) fn set_wrong(&self, by_s: i64) {
        self.wrong_by_s.store(by_s, Ordering::Relaxed);
    }

    /// Whether AWS refuses what is signed with it.
    pub(crate) fn is_too_wrong(&self) -> bool {
        self.wrong_by_s.load(Ordering::Relaxed).unsigned_abs() > 900
    }

    /// How often it was asked while it was wrong.
    pub(crate) fn asked_while_wrong(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    fn now(&self) -> SystemTime {
        let right = SystemTime::UNIX_EPOCH + self.time.since_1970();
        let by_s = self.wrong_by_s.load(Ordering::Relaxed);
        if by_s == 0 {
            return right;
        }
        self.asked.fetch_add(1, Ordering::Relaxed);
        let by = Duration::from_secs(by_s.unsigned_abs());
        if by_s > 0 { right + by } else { right - by }
    }
}

/// The agent's clock.
pub(crate) struct VirtualClock(pub(crate) Arc<WallClock>);

#[async_trait]
impl Clock for VirtualClock {
    fn now(&self) -> SystemTime {
        self.0.now()
    }

    fn monotonic(&self) -> Duration {
        self.0.time.now()
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// The SDK's clock.
#[derive(Debug)]
pub(crate) struct SdkClock(pub(crate) Arc<WallClock>);

impl TimeSource for SdkClock {
    fn now(&self) -> SystemTime {
        self.0.now()
    }
}
