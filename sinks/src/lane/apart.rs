//! Events that wait by themselves: the destination's set-up does not let them in, or it hangs up over them, while it takes
//! others.

use std::time::Duration;

use super::task::probe_delays;
use crate::delivery::Item;
use crate::ports::Random;
use crate::retry::{Delays, RetryConfig};

/// No more than this many wait: with more, the set-up of the whole sink is at fault, and the lane shuts.
const EVENTS_MAX: usize = 1000;

/// Events that are sent again from time to time, in batches of their own.
pub(super) struct Apart {
    items: Vec<Item>,
    retry: RetryConfig,
    delays: Delays,
    due: Option<Duration>,
}

impl Apart {
    /// Nothing waits.
    pub(super) fn new(retry: RetryConfig) -> Self {
        Self { items: Vec::new(), retry, delays: probe_delays(&retry), due: None }
    }

    /// Lets `items` wait; gives back those for which there is no room.
    pub(super) fn keep(&mut self, mut items: Vec<Item>, now: Duration, random: &dyn Random) -> Vec<Item> {
        let over = items.split_off(items.len().min(EVENTS_MAX.saturating_sub(self.items.len())));
        self.items.extend(items);
        if self.due.is_none() && !self.items.is_empty() {
            self.due = Some(now + self.delays.next(None, random));
        }
        over
    }

    /// When they are sent again.
    pub(super) fn due(&self) -> Option<Duration> {
        self.due
    }

    /// Those whose time has come, at most `count`.
    pub(super) fn take_due(&mut self, now: Duration, count: usize, random: &dyn Random) -> Vec<Item> {
        if self.due.is_none_or(|due| now < due) {
            return Vec::new();
        }
        let rest = self.items.split_off(self.items.len().min(count));
        let due = std::mem::replace(&mut self.items, rest);
        // What is not let in this time comes back, and waits longer.
        self.due = (!self.items.is_empty()).then(|| now + self.delays.next(None, random));
        due
    }

    /// Takes all: they have other uses.
    pub(super) fn take_all(&mut self) -> Vec<Item> {
        self.due = None;
        self.delays = probe_delays(&self.retry);
        std::mem::take(&mut self.items)
    }

    /// Lets go of one; false if there is none.
    pub(super) fn let_go(&mut self) -> bool {
        self.items.pop().is_some()
    }
}
