//! How many requests a destination is sent at once: one more while all is well, half of them when it is overloaded.

use std::time::Duration;

/// Requests that were under way together say the same thing once.
const SAME_NEWS: Duration = Duration::from_secs(1);

/// An answer is slow if it takes so many times as long as such an answer takes at best, and [`SLOW_MORE`] besides.
const SLOW_TIMES: u32 = 2;
const SLOW_MORE: Duration = Duration::from_millis(50);

/// Answers are compared only with those to requests of about the same size: one class for each factor of four.
const CLASSES: usize = 32;

/// Additive increase and multiplicative decrease of the number of requests at once.
///
/// One more after as many good answers as there may be requests, if a batch waited for a place meanwhile; half of them
/// after 429, 5xx or a timeout; a quarter fewer where most answers are slow: more at once then only makes a queue
/// at the destination. Never below the least, and never above the most, that is configured.
#[derive(Debug)]
pub(crate) struct Throttle {
    least: usize,
    most: usize,
    limit: usize,
    slowed_at: Option<Duration>,
    window: Window,
    /// What an answer takes at best, by the size of the request.
    best: [Option<Duration>; CLASSES],
}

/// The good answers since the last decision.
#[derive(Debug, Default)]
struct Window {
    answers: usize,
    slow: usize,
    /// Whether a batch had to wait because all places were in use.
    was_full: bool,
}

impl Throttle {
    /// Between `least` and `most` requests at once, beginning half-way.
    pub(crate) fn new(least: usize, most: usize) -> Self {
        let least = least.max(1);
        let most = most.max(least);
        let limit = most.div_ceil(2).max(least);
        let (window, best) = (Window::default(), [None; CLASSES]);
        Self { least, most, limit, slowed_at: None, window, best }
    }

    /// Requests that there may be at once.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// A batch waits because all places are in use.
    pub(crate) fn full(&mut self) {
        self.window.was_full = true;
    }

    /// A request of `bytes` was answered, and at least one event of it accepted, after `took`.
    pub(crate) fn answered(&mut self, bytes: usize, took: Duration) {
        let at_least = self.limit == self.least;
        let class = (bytes.max(1).ilog2() / 2) as usize;
        let Some(best) = self.best.get_mut(class) else { return };
        let is_slow = match *best {
            None => {
                *best = Some(took);
                false
            }
            Some(known) if took < known => {
                *best = Some(took);
                false
            }
            // With the fewest requests there is nobody to wait for: the destination itself has become slower.
            Some(known) if at_least => {
                *best = Some((known * 3 + took) / 4);
                false
            }
            Some(known) => took > known * SLOW_TIMES + SLOW_MORE,
        };
        self.window.answers += 1;
        self.window.slow += usize::from(is_slow);
        if self.window.answers < self.limit {
            return;
        }
        let window = std::mem::take(&mut self.window);
        if window.slow * 2 > window.answers {
            self.limit = (self.limit - self.limit.div_ceil(4)).max(self.least);
        } else if window.was_full {
            self.limit = (self.limit + 1).min(self.most);
        }
    }

    /// The destination has too much to do.
    pub(crate) fn overloaded(&mut self, now: Duration) {
        self.window = Window::default();
        if self.slowed_at.is_none_or(|at| now.saturating_sub(at) > SAME_NEWS) {
            self.slowed_at = Some(now);
            self.limit = (self.limit / 2).max(self.least);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAST: Duration = Duration::from_millis(100);
    const SLOW: Duration = Duration::from_millis(260);

    fn answers(throttle: &mut Throttle, count: usize, took: Duration) {
        for _ in 0..count {
            throttle.full();
            throttle.answered(1000, took);
        }
    }

    #[test]
    fn it_begins_half_way_and_within_the_bounds() {
        for (least, most, limit) in [(1, 8, 4), (1, 1, 1), (3, 4, 3), (5, 2, 5), (0, 0, 1)] {
            assert_eq!(Throttle::new(least, most).limit(), limit, "{least} {most}");
        }
    }

    #[test]
    fn a_round_of_good_answers_allows_one_more() {
        let mut throttle = Throttle::new(1, 6);
        answers(&mut throttle, 3, FAST);
        assert_eq!(throttle.limit(), 4);
        answers(&mut throttle, 4, FAST);
        assert_eq!(throttle.limit(), 5);
        for _ in 0..5 {
            answers(&mut throttle, 6, FAST);
        }
        assert_eq!(throttle.limit(), 6);
    }

    #[test]
    fn places_that_nobody_used_prove_nothing() {
        let mut throttle = Throttle::new(1, 8);
        for _ in 0..100 {
            throttle.answered(1000, FAST);
        }
        assert_eq!(throttle.limit(), 4);
    }

    #[test]
    fn an_overload_halves_once_a_second_and_never_below_the_least() {
        let mut throttle = Throttle::new(3, 32);
        for (milliseconds, limit) in [(0, 8), (900, 8), (1100, 4), (2200, 3), (9000, 3)] {
            throttle.overloaded(Duration::from_millis(milliseconds));
            assert_eq!(throttle.limit(), limit, "{milliseconds}");
        }
    }

    #[test]
    fn slow_answers_take_a_quarter_away_down_to_the_least() {
        let mut throttle = Throttle::new(2, 16);
        answers(&mut throttle, 8, FAST);
        assert_eq!(throttle.limit(), 9);
        answers(&mut throttle, 9, SLOW);
        assert_eq!(throttle.limit(), 6);
        for expected in [4, 3, 2] {
            let limit = throttle.limit();
            answers(&mut throttle, limit, SLOW);
            assert_eq!(throttle.limit(), expected);
        }
    }

    #[test]
    fn a_destination_that_has_become_slower_for_good_is_not_held_back_for_ever() {
        let mut throttle = Throttle::new(1, 8);
        answers(&mut throttle, 4, FAST);
        for _ in 0..200 {
            let limit = throttle.limit();
            answers(&mut throttle, limit, SLOW);
        }
        assert_eq!(throttle.limit(), 8, "slow is what it takes at best by now");
    }

    #[test]
    fn large_requests_are_not_taken_for_slow_ones() {
        let mut throttle = Throttle::new(1, 8);
        answers(&mut throttle, 4, Duration::from_millis(5));
        let before = throttle.limit();
        for _ in 0..before {
            throttle.answered(8 << 20, Duration::from_secs(2));
        }
        assert!(throttle.limit() >= before);
    }
}
