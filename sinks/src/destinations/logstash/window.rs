//! How many events a window has: as configured, and fewer for a while where a server closes on larger ones.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// After so many windows that were acknowledged, twice as many events are tried again: a server that was restarted looks
/// like one with a limit.
const PATIENCE: u32 = 64;

/// The size of windows.
#[derive(Debug)]
pub(super) struct WindowSize {
    max: u32,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    now: u32,
    taken: u32,
}

impl WindowSize {
    pub(super) fn new(max: u32) -> Self {
        Self { max, state: Mutex::new(State { now: max, taken: 0 }) }
    }

    /// The most events that the next window has.
    pub(super) fn now(&self) -> u32 {
        self.lock().now
    }

    /// A window was acknowledged.
    pub(super) fn taken(&self) {
        let mut state = self.lock();
        if state.now == self.max {
            return;
        }
        state.taken += 1;
        if state.taken >= PATIENCE {
            *state = State { now: state.now.saturating_mul(2).min(self.max), taken: 0 };
        }
    }

    /// A window of `count` events was not taken; whether the next will be smaller than that.
    pub(super) fn refused(&self, count: u32) -> bool {
        if count < 2 {
            return false;
        }
        let mut state = self.lock();
        // Windows that were under way together say the same thing once.
        *state = State { now: state.now.min(count / 2), taken: 0 };
        true
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is complete before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_that_is_refused_is_halved_and_grows_again_with_what_is_taken() {
        let size = WindowSize::new(2048);
        assert!(size.refused(2048) && size.refused(2048));
        assert_eq!(size.now(), 1024, "two at once are one refusal");
        assert!(size.refused(10));
        assert_eq!(size.now(), 5);
        assert!(size.refused(3) && !size.refused(1), "one event cannot be halved");
        assert_eq!(size.now(), 1);
        (0..PATIENCE - 1).for_each(|_| size.taken());
        assert_eq!(size.now(), 1);
        size.taken();
        assert_eq!(size.now(), 2);
        (0..20 * PATIENCE).for_each(|_| size.taken());
        assert_eq!(size.now(), 2048);
    }
}
