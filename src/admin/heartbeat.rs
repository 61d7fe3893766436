//! Whether the agent still lives: its lanes run, and its tasks get their turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sinks::ports::Clock;

/// A sign of life: what watches over the lanes beats, `/livez` listens. Cheap to clone.
#[derive(Clone)]
pub struct Heartbeat {
    clock: Arc<dyn Clock>,
    /// When it last beat, in milliseconds of the clock.
    last_ms: Arc<AtomicU64>,
}

impl Heartbeat {
    /// An agent that is silent for longer is taken for dead; it should beat about once a second.
    pub const SILENCE_MAX: Duration = Duration::from_secs(30);

    /// Begins with a beat.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let heartbeat = Self { clock, last_ms: Arc::default() };
        heartbeat.beat();
        heartbeat
    }

    /// Says that all is well.
    pub fn beat(&self) {
        self.last_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    /// Time since the last beat.
    pub fn silence(&self) -> Duration {
        Duration::from_millis(self.now_ms().saturating_sub(self.last_ms.load(Ordering::Relaxed)))
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.clock.monotonic().as_millis()).unwrap_or(u64::MAX)
    }
}
