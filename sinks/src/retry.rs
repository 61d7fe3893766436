//! How long to wait before the next try: the one place that uses the crate `backoff`.
//!
//! Only its arithmetic is used: jitter comes from the port, so that a simulation with one seed replays exactly.
//! Swapping it for another crate touches this file alone (`docs/decisions`).

use std::time::Duration;

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff as _;

use crate::ports::Random;

/// The longest wait that a destination may ask for.
pub(crate) const RETRY_AFTER_MAX: Duration = Duration::from_secs(600);

/// Between tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryConfig {
    /// The first delay; each further one is twice as long.
    pub initial: Duration,
    /// The longest delay.
    pub max: Duration,
    /// How long a sink may fail, counted from its last accepted request, until its events are let go of
    /// and fetched again later.
    pub give_up_after: Duration,
}

impl Default for RetryConfig {
    fn default() -> Self {
        let (initial, max) = (Duration::from_millis(200), Duration::from_secs(30));
        Self { initial, max, give_up_after: Duration::from_secs(300) }
    }
}

/// The delay sequence of one request.
#[derive(Debug)]
pub struct Delays {
    sequence: ExponentialBackoff,
    max: Duration,
}

impl Delays {
    /// A sequence from its first delay on.
    #[must_use]
    pub fn new(config: &RetryConfig) -> Self {
        let mut sequence = ExponentialBackoff {
            initial_interval: config.initial,
            max_interval: config.max,
            multiplier: 2.0,
            randomization_factor: 0.0,
            max_elapsed_time: None,
            ..ExponentialBackoff::default()
        };
        sequence.reset();
        Self { sequence, max: config.max }
    }

    /// The next delay: between half and the whole of the sequence's value, but never shorter than the
    /// destination asked for (up to [`RETRY_AFTER_MAX`]).
    pub fn next(&mut self, retry_after: Option<Duration>, random: &dyn Random) -> Duration {
        let full = self.sequence.next_backoff().unwrap_or(self.max).min(self.max);
        let jittered = jitter(full, random);
        jittered.max(retry_after.unwrap_or_default().min(RETRY_AFTER_MAX))
    }
}

/// Between half and the whole of `full`.
#[must_use]
pub fn jitter(full: Duration, random: &dyn Random) -> Duration {
    // The top 53 bits, as a fraction in [0, 1).
    #[allow(clippy::cast_precision_loss, reason = "53 bits fit")]
    let fraction = (random.next() >> 11) as f64 / (1u64 << 53) as f64;
    full.mul_f64(0.5 + fraction / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed(u64);
    impl Random for Fixed {
        fn next(&self) -> u64 {
            self.0
        }
    }

    #[test]
    fn delays_double_up_to_the_longest() {
        let config = RetryConfig {
            initial: Duration::from_secs(1),
            max: Duration::from_secs(10),
            give_up_after: Duration::ZERO,
        };
        let mut delays = Delays::new(&config);
        let seconds: Vec<u64> =
            (0..6).map(|_| delays.next(None, &Fixed(u64::MAX)).as_millis() as u64).collect();
        for (is, wanted) in seconds.iter().zip([1000, 2000, 4000, 8000, 10000, 10000]) {
            assert!((wanted - 1..=wanted).contains(is), "{seconds:?}");
        }
    }

    #[test]
    fn jitter_never_goes_below_half() {
        let full = Duration::from_secs(8);
        assert_eq!(jitter(full, &Fixed(0)), Duration::from_secs(4));
    }

    #[test]
    fn the_destination_s_wish_is_honoured_within_reason() {
        let mut delays = Delays::new(&RetryConfig::default());
        assert_eq!(delays.next(Some(Duration::from_secs(40)), &Fixed(0)), Duration::from_secs(40));
        assert_eq!(delays.next(Some(Duration::from_secs(1 << 30)), &Fixed(0)), RETRY_AFTER_MAX);
    }
}
