//! Gathers events into batches, one for each group: the head of a request holds for all of its events.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::BatchConfig;
use crate::Sink;
use crate::delivery::Item;
use crate::health::Health;

/// Batches that are open at once. A further group closes the one that was opened first: what a lane gathers must
/// not grow with the number of groups.
const OPEN_MAX: usize = 16;

/// A closed batch.
pub(super) struct Closed {
    pub(super) items: Vec<Item>,
    /// Memory of log files that it keeps alive, at least roughly.
    pub(super) bytes: u64,
}

impl Closed {
    pub(super) fn new(items: Vec<Item>, bytes: u64) -> Self {
        Self { items, bytes }
    }
}

struct Open {
    group: String,
    items: Vec<Item>,
    bytes: usize,
    since: Duration,
}

/// The open batches of a lane.
pub(super) struct Batcher {
    sink: Arc<dyn Sink>,
    health: Arc<Health>,
    config: BatchConfig,
    /// In the order in which they were opened.
    open: Vec<Open>,
    /// The group of the event at hand; kept for its buffer.
    group: String,
}

impl Batcher {
    pub(super) fn new(sink: Arc<dyn Sink>, health: Arc<Health>, config: BatchConfig) -> Self {
        Self { sink, health, config, open: Vec::new(), group: String::new() }
    }

    /// Adds an event; batches that are full move to `closed`.
    pub(super) fn add(&mut self, item: Item, now: Duration, closed: &mut VecDeque<Closed>) {
        let len = self.sink.encoded_len(&item.event);
        if self.sink.event_bytes_max().is_some_and(|max| len > max) {
            // Alone, so that delivery can dead-letter it without a request.
            closed.push_back(Closed::new(vec![item], len as u64));
            return;
        }
        let bytes_max = self.health.batch_bytes_max();
        self.read_group(&item);
        let mut at = self.open.iter().position(|open| open.group == self.group);
        if let Some(full) = at.filter(|&at| self.open.get(at).is_some_and(|it| it.bytes + len > bytes_max)) {
            self.close(full, closed);
            at = None;
        }
        if at.is_none() {
            if self.open.len() >= OPEN_MAX {
                self.close(0, closed);
            }
            let group = self.group.clone();
            self.open.push(Open { group, items: Vec::new(), bytes: 0, since: now });
        }
        let at = at.unwrap_or(self.open.len() - 1);
        let Some(open) = self.open.get_mut(at) else { return };
        open.bytes += len;
        open.items.push(item);
        if open.items.len() >= self.config.events_max.min(self.sink.events_max()) || open.bytes >= bytes_max {
            self.close(at, closed);
        }
    }

    fn read_group(&mut self, item: &Item) {
        self.group.clear();
        self.sink.group(&item.event, &mut self.group);
    }

    fn close(&mut self, at: usize, closed: &mut VecDeque<Closed>) {
        let open = self.open.remove(at);
        closed.push_back(Closed::new(open.items, open.bytes as u64));
    }

    /// Closes the batches that are old enough at `now`.
    pub(super) fn close_due(&mut self, now: Duration, closed: &mut VecDeque<Closed>) {
        while self.due().is_some_and(|due| now >= due) {
            self.close(0, closed);
        }
    }

    /// Closes all.
    pub(super) fn close_all(&mut self, closed: &mut VecDeque<Closed>) {
        while !self.open.is_empty() {
            self.close(0, closed);
        }
    }

    /// When the next batch is old enough.
    pub(super) fn due(&self) -> Option<Duration> {
        self.open.first().map(|open| open.since + self.config.age_max)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Takes everything out.
    pub(super) fn take(&mut self) -> Vec<Item> {
        self.open.drain(..).flat_map(|open| open.items).collect()
    }

    /// The same events by group, each group in order; what goes alone is a group of its own.
    pub(super) fn apart(&mut self, items: Vec<Item>) -> Vec<Vec<Item>> {
        let mut groups: Vec<(String, Vec<Item>)> = Vec::new();
        let (alone, items): (Vec<Item>, Vec<Item>) = items.into_iter().partition(|item| item.hang_ups() > 0);
        for item in items {
            self.read_group(&item);
            match groups.iter_mut().find(|(group, _)| *group == self.group) {
                Some((_, items)) => items.push(item),
                None => groups.push((self.group.clone(), vec![item])),
            }
        }
        // Last: the others may bear witness.
        groups.into_iter().map(|(_, items)| items).chain(alone.into_iter().map(|item| vec![item])).collect()
    }
}
