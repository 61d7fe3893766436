//! The time of stand-ins and of the ledger: the machine's, or a simulation's.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Where the time comes from.
#[derive(Clone, Default)]
pub struct Time(Option<Arc<dyn Fn() -> Duration + Send + Sync>>);

impl Time {
    /// The time that a function says, since 1970.
    #[must_use]
    pub fn given(now: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(now)))
    }

    /// Time since 1970.
    #[allow(clippy::disallowed_methods, reason = "a stand-in is its own machine, with its own clock")]
    pub(crate) fn now(&self) -> Duration {
        match &self.0 {
            Some(now) => now(),
            None => SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
        }
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "a simulation's" } else { "the machine's" })
    }
}
