//! How large a batch may be: as configured, or less where the destination has found one too large.

use std::time::Duration;

/// No batch is made smaller than this.
const LEAST_BYTES: usize = 1024;

/// After so many nearly full batches were taken in a row, larger ones are tried.
const TAKEN_IN_A_ROW: u32 = 64;

/// So long after the last refusal the configured size is tried again: the limit may have been raised meanwhile.
const FORGET_AFTER: Duration = Duration::from_secs(3600);

/// The most bytes of a batch, learnt from what was refused as too large.
///
/// A refusal halves it. From there it goes half of the way back towards what was refused, each time after 64 nearly
/// full batches were taken, until less than an eighth of the way is left. After an hour what was refused is
/// forgotten: a limit that is still there then costs one refused request an hour.
#[derive(Debug)]
pub(crate) struct BatchLimit {
    configured: usize,
    now: usize,
    /// The smallest size that was refused, and when one was last.
    refused: Option<(usize, Duration)>,
    taken: u32,
}

impl BatchLimit {
    /// Nothing is learnt yet.
    pub(crate) fn new(configured: usize) -> Self {
        Self { configured, now: configured, refused: None, taken: 0 }
    }

    /// The most bytes of a batch.
    pub(crate) fn bytes(&self) -> usize {
        self.now
    }

    /// A batch of `bytes` was too large.
    pub(crate) fn refused(&mut self, bytes: usize, now: Duration) {
        let smallest = self.refused.map_or(bytes, |(smallest, _)| smallest.min(bytes));
        self.refused = Some((smallest, now));
        self.now = self.now.min((bytes / 2).max(LEAST_BYTES));
        self.taken = 0;
    }

    /// A batch of `bytes` was not too large.
    pub(crate) fn taken(&mut self, bytes: usize, now: Duration) {
        let Some((refused, at)) = self.refused else { return };
        if now.saturating_sub(at) >= FORGET_AFTER {
            *self = Self::new(self.configured);
            return;
        }
        if bytes < self.now / 4 * 3 {
            return;
        }
        self.taken += 1;
        let way = refused.saturating_sub(self.now);
        if self.taken >= TAKEN_IN_A_ROW && way > refused / 8 {
            self.taken = 0;
            self.now = (self.now + way / 2).min(self.configured);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Sends full batches to a destination with a limit; how many it refused.
    fn send(limit: &mut BatchLimit, batches: u32, takes: usize, start: Duration) -> u32 {
        let mut refused = 0;
        for number in 0..batches {
            let now = start + SECOND * number;
            match limit.bytes() > takes {
                true => {
                    refused += 1;
                    limit.refused(limit.bytes(), now);
                }
                false => limit.taken(limit.bytes(), now),
            }
        }
        refused
    }

    #[test]
    fn a_limit_is_found_from_below_with_few_refusals() {
        let mut limit = BatchLimit::new(8 << 20);
        let refused = send(&mut limit, 1000, 1_000_000, Duration::ZERO);
        assert!((750_000..=1_000_000).contains(&limit.bytes()), "{}", limit.bytes());
        assert!(refused <= 8, "{refused} requests were refused");
    }

    #[test]
    fn after_an_hour_the_configured_size_is_tried_again() {
        let mut limit = BatchLimit::new(8 << 20);
        send(&mut limit, 100, 1_000_000, Duration::ZERO);
        limit.taken(10, FORGET_AFTER / 2);
        assert!(limit.bytes() <= 1_000_000);
        limit.taken(10, FORGET_AFTER + SECOND * 100);
        assert_eq!(limit.bytes(), 8 << 20);
    }

    #[test]
    fn small_batches_prove_nothing() {
        let mut limit = BatchLimit::new(100_000);
        limit.refused(80_000, Duration::ZERO);
        for _ in 0..1000 {
            limit.taken(1000, SECOND);
        }
        assert_eq!(limit.bytes(), 40_000);
    }

    #[test]
    fn it_is_never_raised_over_what_is_configured_nor_made_useless() {
        let mut limit = BatchLimit::new(50_000);
        // Two batches were under way; the encoded length is an upper bound, so one may be larger than it should be.
        limit.refused(60_000, Duration::ZERO);
        send(&mut limit, 1000, usize::MAX, Duration::ZERO);
        assert!(limit.bytes() <= 50_000);
        limit.refused(10, SECOND);
        assert_eq!(limit.bytes(), LEAST_BYTES);
    }
}
