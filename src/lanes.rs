//! All lanes together, and the memory that they share.

use std::sync::Arc;
use std::time::Duration;

use sinks::ports::Clock;
use sinks::{Budget, Charge, Lane};

/// How long memory may be short until a lane that holds too much of it has to let go.
const PATIENCE: Duration = Duration::from_millis(20);

/// How often it is looked whether a lane has opened.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// A shut lane with fewer events than this may owe its state to them alone: it is brought others. It takes at least
/// as many.
const PROBES_MIN: u64 = 8;

/// The lanes of all sinks, in the order of the configuration.
pub struct Lanes {
    lanes: Vec<Arc<Lane>>,
    budget: Budget,
    clock: Arc<dyn Clock>,
}

impl Lanes {
    /// Puts lanes together; each one's part of `budget` is in its configuration.
    #[must_use]
    pub fn new(lanes: Vec<Arc<Lane>>, budget: Budget, clock: Arc<dyn Clock>) -> Self {
        Self { lanes, budget, clock }
    }

    /// The lanes.
    #[must_use]
    pub fn all(&self) -> &[Arc<Lane>] {
        &self.lanes
    }

    /// The memory budget.
    #[must_use]
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// The lane of the sink with that name.
    #[must_use]
    pub fn position(&self, name: &str) -> Option<usize> {
        self.lanes.iter().position(|lane| lane.config().name == name)
    }

    /// Waits for memory. While it is short, open batches close, and a lane that holds more than its part while
    /// another could go on lets go of what it has queued.
    pub async fn charge(&self, bytes: u64) -> Charge {
        // One place in the queue all the while: a large chunk would otherwise wait for as long as small ones come.
        let charge = self.budget.charge(bytes);
        tokio::pin!(charge);
        loop {
            tokio::select! {
                biased;
                charge = &mut charge => return charge,
                () = self.clock.sleep(PATIENCE) => self.relieve(),
            }
        }
    }

    /// Whether new log files are of any use: some lane accepts, or is shut and has room for more to probe with.
    /// One probe is not enough: the event may be at fault, and only another can show that.
    ///
    /// While none does, notifications are better off on their queue, where they cost nothing.
    #[must_use]
    pub fn want_log_files(&self) -> bool {
        let wants = |lane: &Lane| !lane.health().state().is_shut() || lane.stats().in_flight() < PROBES_MIN;
        self.lanes.iter().any(|lane| wants(lane))
    }

    /// How many log files are of use to one lane: as many as there are, or a few to probe with, or none.
    #[must_use]
    pub fn wanted_by(&self, lane: usize) -> u64 {
        let Some(lane) = self.lanes.get(lane) else { return 0 };
        match lane.health().state().is_shut() {
            false => u64::MAX,
            true => PROBES_MIN.saturating_sub(lane.stats().in_flight()),
        }
    }

    /// Waits until [`want_log_files`](Self::want_log_files).
    pub async fn wanting(&self) {
        while !self.want_log_files() {
            self.clock.sleep(LOOK_INTERVAL).await;
        }
    }

    fn relieve(&self) {
        for lane in &self.lanes {
            lane.flush();
        }
        let part = |lane: &Lane| lane.config().memory_part;
        let somebody_waits = self
            .lanes
            .iter()
            .any(|lane| lane.health().state().is_open() && lane.stats().held_bytes() < part(lane) / 4);
        if somebody_waits {
            self.lanes.iter().filter(|lane| lane.is_over_its_part()).for_each(|lane| lane.shed());
        }
    }

    /// Ends all lanes at once, each within `grace`.
    pub async fn finish(&self, grace: Duration) {
        let ends = self.lanes.iter().map(|lane| lane.finish(grace, &*self.clock));
        futures_util::future::join_all(ends).await;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use testkit::ports::SimulatedClock;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_large_chunk_gets_its_memory_though_small_ones_keep_coming() {
        let clock: Arc<dyn Clock> = Arc::new(SimulatedClock::new(1_700_000_000));
        let lanes = Arc::new(Lanes::new(Vec::new(), Budget::new(64 * 1024), clock));
        for number in 0..16 {
            let lanes = Arc::clone(&lanes);
            tokio::spawn(async move {
                loop {
                    let charge = lanes.charge(8 * 1024).await;
                    // Never do they all give back within the time after which lanes are relieved.
                    tokio::time::sleep(Duration::from_millis(40 + 7 * number)).await;
                    drop(charge);
                }
            });
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        tokio::time::timeout(Duration::from_secs(2), lanes.charge(60 * 1024)).await.unwrap();
    }
}
