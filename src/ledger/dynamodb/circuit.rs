//! Leaves a table alone that has failed: a dead one must not cost every log file its time.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long it is left alone after a first failure; each time twice as long.
const PAUSE_MIN: Duration = Duration::from_secs(5);

/// The longest that it is left alone.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// When the one that tries has been given up: what called may have ended before its answer.
const TRIAL_MAX: Duration = Duration::from_secs(10);

/// Lets calls through as long as they are answered; after a failure none for a while, then one to try.
#[derive(Debug, Default)]
pub(super) struct Circuit {
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    Answers,
    /// Nobody calls before `until`.
    Paused { until: Duration, pause: Duration },
    /// One calls, since then.
    Tried { since: Duration, pause: Duration },
}

impl Circuit {
    /// Whether a call is of any use now, on the monotonic clock.
    pub(super) fn lets_through(&self, now: Duration) -> bool {
        let mut state = self.lock();
        let (from, pause) = match *state {
            State::Answers => return true,
            State::Paused { until, pause } => (until, pause),
            State::Tried { since, pause } => (since + TRIAL_MAX, pause),
        };
        if now < from {
            return false;
        }
        *state = State::Tried { since: now, pause };
        true
    }

    /// A call has failed. Those that were under way at the same time count once.
    pub(super) fn failed(&self, now: Duration) {
        let mut state = self.lock();
        let pause = match *state {
            State::Answers => PAUSE_MIN,
            State::Tried { pause, .. } => (pause * 2).min(PAUSE_MAX),
            State::Paused { .. } => return,
        };
        *state = State::Paused { until: now + pause, pause };
    }

    /// A call was answered; true if that is news.
    pub(super) fn answered(&self) -> bool {
        !matches!(std::mem::take(&mut *self.lock()), State::Answers)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn after_a_failure_one_call_tries_and_the_pauses_grow_to_a_minute() {
        let circuit = Circuit::default();
        assert!(circuit.lets_through(at(0)) && circuit.lets_through(at(0)));
        circuit.failed(at(0));
        circuit.failed(at(0));
        let mut now = 0;
        for pause in [5, 10, 20, 40, 60, 60] {
            assert!(!circuit.lets_through(at(now + pause - 1)), "{pause}");
            now += pause;
            assert!(circuit.lets_through(at(now)) && !circuit.lets_through(at(now)), "one tries");
            circuit.failed(at(now));
        }
        now += 60;
        assert!(circuit.lets_through(at(now)) && circuit.answered() && !circuit.answered());
        assert!(circuit.lets_through(at(now)) && circuit.lets_through(at(now)));
        circuit.failed(at(now));
        assert!(!circuit.lets_through(at(now + 4)) && circuit.lets_through(at(now + 5)), "as at first");
    }

    #[test]
    fn a_trial_that_nobody_hears_of_again_is_given_up() {
        let circuit = Circuit::default();
        circuit.failed(at(0));
        assert!(circuit.lets_through(at(5)) && !circuit.lets_through(at(14)));
        assert!(circuit.lets_through(at(15)));
    }
}
