//! The task of a lane: closes batches, keeps requests under way, and probes while it is shut.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{Id, JoinSet};

use super::{Command, LaneConfig};
use crate::delivery::{Courier, Ended, Item, PROBES_MAX};
use crate::health::LaneState;
use crate::retry::{Delays, RetryConfig};
use crate::stats::LaneStats;

/// A shut lane is probed at least this often.
const PROBE_INTERVAL_MAX: Duration = Duration::from_secs(30);

/// A closed batch.
struct Closed {
    items: Vec<Item>,
    /// Memory of log files that it keeps alive, at least roughly.
    bytes: u64,
    /// See [`Courier::deliver`].
    witness_mark: Option<u64>,
}

impl Closed {
    fn new(items: Vec<Item>, bytes: u64) -> Self {
        Self { items, bytes, witness_mark: None }
    }
}

pub(super) struct LaneTask {
    config: LaneConfig,
    courier: Arc<Courier>,
    stats: Arc<LaneStats>,
    open: Vec<Item>,
    open_bytes: usize,
    opened_at: Duration,
    queue: VecDeque<Closed>,
    sending: JoinSet<Ended>,
    /// What each sending task uses: its slot, and the bytes it holds.
    in_use: HashMap<Id, (u32, u64)>,
    free_slots: Vec<u32>,
    confirming: JoinSet<Vec<Item>>,
    probes: VecDeque<Item>,
    probe_delays: Delays,
    probe_at: Option<Duration>,
    successes: usize,
    slowed_at: Option<Duration>,
    finishing: bool,
}

impl LaneTask {
    pub(super) fn new(config: LaneConfig, courier: Arc<Courier>, stats: Arc<LaneStats>) -> Self {
        let slots = u32::try_from(config.concurrency_max.max(1)).unwrap_or(1);
        let probe_delays = probe_delays(&config.retry);
        Self {
            config,
            courier,
            stats,
            open: Vec::new(),
            open_bytes: 0,
            opened_at: Duration::ZERO,
            queue: VecDeque::new(),
            sending: JoinSet::new(),
            in_use: HashMap::new(),
            free_slots: (0..slots).rev().collect(),
            confirming: JoinSet::new(),
            probes: VecDeque::new(),
            probe_delays,
            probe_at: None,
            successes: 0,
            slowed_at: None,
            finishing: false,
        }
    }

    pub(super) async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Command>) {
        let clock = Arc::clone(&self.courier.clock);
        loop {
            self.dispatch();
            self.leave_congestion();
            if self.finishing && self.is_done() {
                return;
            }
            let wait = self.next_timer();
            tokio::select! {
                biased;
                order = orders.recv() => match order {
                    Some(Command::Take(items)) => self.take(items),
                    Some(Command::Flush) => self.close(),
                    Some(Command::Shed) => self.shed(),
                    Some(Command::Finish) | None if !self.finishing => {
                        self.finishing = true;
                        self.close();
                    }
                    Some(Command::Finish) => {}
                    Some(Command::Abandon) | None => return,
                },
                Some(ended) = self.sending.join_next_with_id() => self.sent(ended),
                Some(left) = self.confirming.join_next() => {
                    // A confirmation that died has released its events.
                    if let Ok(left) = left
                        && !left.is_empty()
                    {
                        self.queue.push_back(Closed::new(left, 0));
                    }
                }
                () = clock.sleep(wait) => self.timer(),
            }
        }
    }

    fn is_done(&self) -> bool {
        let sent = self.sending.is_empty() && self.queue.is_empty() && self.open.is_empty();
        // A shut lane has nobody to deliver to: what it holds is released.
        sent && self.confirming.is_empty() || self.courier.health.state().is_shut() && self.sending.is_empty()
    }

    fn now(&self) -> Duration {
        self.courier.clock.monotonic()
    }

    /// How long until something is due; long if nothing is.
    fn next_timer(&self) -> Duration {
        let batch = (!self.open.is_empty()).then(|| self.opened_at + self.config.batch.age_max);
        let congested = self.courier.health.state() == LaneState::Congested;
        let look = congested.then(|| self.now() + Duration::from_millis(20));
        let due = [batch, self.probe_at, look].into_iter().flatten().min();
        due.map_or(Duration::from_secs(3600), |due| due.saturating_sub(self.now()))
    }

    fn timer(&mut self) {
        let now = self.now();
        if !self.open.is_empty() && now >= self.opened_at + self.config.batch.age_max {
            self.close();
        }
        if self.probe_at.is_some_and(|at| now >= at) {
            self.probe();
        }
    }

    fn take(&mut self, items: Vec<Item>) {
        if self.courier.health.state().is_shut() {
            let room = PROBES_MAX.saturating_sub(self.probes.len());
            self.probes.extend(items.into_iter().take(room));
            return;
        }
        for item in items {
            let len = self.courier.sink.encoded_len(&item.event);
            if self.courier.sink.event_bytes_max().is_some_and(|max| len > max) {
                // Alone, so that delivery can dead-letter it without a request.
                self.queue.push_back(Closed::new(vec![item], len as u64));
                continue;
            }
            let bytes_max = self.courier.health.batch_bytes_max();
            if !self.open.is_empty() && self.open_bytes + len > bytes_max {
                self.close();
            }
            if self.open.is_empty() {
                self.opened_at = self.now();
            }
            self.open_bytes += len;
            self.open.push(item);
            if self.open.len() >= self.config.batch.events_max || self.open_bytes >= bytes_max {
                self.close();
            }
        }
    }

    fn close(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let items = std::mem::take(&mut self.open);
        let bytes = std::mem::take(&mut self.open_bytes) as u64;
        self.queue.push_back(Closed::new(items, bytes));
    }

    /// Starts as many deliveries as concurrency and the lane's part of the memory allow.
    fn dispatch(&mut self) {
        if self.courier.health.state().is_shut() {
            return;
        }
        while self.sending.len() < self.courier.health.concurrency() {
            let held: u64 = self.in_use.values().map(|&(_, bytes)| bytes).sum();
            let Some(next) = self.queue.front() else { return };
            if !self.sending.is_empty() && held + next.bytes > self.config.memory_part {
                return;
            }
            let Some(slot) = self.free_slots.pop() else { return };
            let Some(batch) = self.queue.pop_front() else { return };
            self.send(batch, slot);
        }
    }

    fn send(&mut self, batch: Closed, slot: u32) {
        let courier = Arc::clone(&self.courier);
        let task =
            self.sending.spawn(async move { courier.deliver(batch.items, slot, batch.witness_mark).await });
        self.in_use.insert(task.id(), (slot, batch.bytes));
    }

    fn sent(&mut self, ended: Result<(Id, Ended), tokio::task::JoinError>) {
        let (id, ended) = match ended {
            Ok((id, ended)) => (id, Some(ended)),
            // Its events were released when it died.
            Err(error) => (error.id(), None),
        };
        if let Some((slot, _)) = self.in_use.remove(&id) {
            self.free_slots.push(slot);
        }
        let Some(ended) = ended else { return };
        self.adapt(&ended);
        if !ended.pending.is_empty() {
            let (courier, timeout) = (Arc::clone(&self.courier), self.config.ack_timeout);
            self.confirming.spawn(async move { courier.confirm(ended.pending, timeout).await });
        }
        match ended.shut {
            Some(state) => self.shut(state, ended.probes),
            None => {
                let back = ended.accepted || ended.answered;
                self.probes.extend(ended.probes);
                if self.courier.health.state().is_shut() {
                    if back { self.reopen() } else { self.schedule_probe() }
                }
            }
        }
    }

    /// Additive increase, multiplicative decrease.
    fn adapt(&mut self, ended: &Ended) {
        let current = self.courier.health.concurrency();
        if ended.overloaded {
            self.successes = 0;
            let now = self.now();
            // Requests that were under way together say the same thing once.
            if self.slowed_at.is_none_or(|at| now.saturating_sub(at) > Duration::from_secs(1)) {
                self.slowed_at = Some(now);
                self.courier.health.set_concurrency((current / 2).max(self.config.concurrency_min).max(1));
            }
            return;
        }
        self.successes += 1;
        if self.successes >= current {
            self.successes = 0;
            self.courier.health.set_concurrency((current + 1).min(self.config.concurrency_max.max(1)));
        }
    }

    /// Stops accepting: keeps a few events to probe with and releases the others.
    fn shut(&mut self, state: LaneState, probes: Vec<Item>) {
        let before = self.courier.health.state();
        let was_shut = before.is_shut();
        // Every probe that fails comes through here: what is no news is not told again.
        if before != state {
            self.courier.health.set_state(state.clone());
            self.courier.observer.state(&state);
        }
        let queued = self.queue.drain(..).flat_map(|closed| closed.items).chain(self.open.drain(..));
        for item in probes.into_iter().chain(queued) {
            if self.probes.len() < PROBES_MAX {
                self.probes.push_back(item);
            }
        }
        self.open_bytes = 0;
        if !was_shut {
            self.probe_delays = probe_delays(&self.config.retry);
        }
        self.schedule_probe();
    }

    fn schedule_probe(&mut self) {
        self.probe_at = Some(self.now() + self.probe_delays.next(None, &*self.courier.random));
    }

    /// Sends one of the events that a shut lane holds, each in turn.
    fn probe(&mut self) {
        self.probe_at = None;
        if !self.courier.health.state().is_shut() {
            return;
        }
        if !self.sending.is_empty() || self.probes.is_empty() {
            self.schedule_probe();
            return;
        }
        let (Some(item), Some(slot)) = (self.probes.pop_front(), self.free_slots.pop()) else { return };
        let courier = Arc::clone(&self.courier);
        let task = self.sending.spawn(async move { courier.probe(item, slot).await });
        self.in_use.insert(task.id(), (slot, 0));
    }

    /// The destination took an event: the lane accepts again.
    fn reopen(&mut self) {
        self.probe_at = None;
        self.courier.health.set_state(LaneState::Open);
        self.courier.observer.state(&LaneState::Open);
        let held: Vec<Item> = self.probes.drain(..).collect();
        if held.is_empty() {
            return;
        }
        // What was refused while nothing was taken gets another try; refused again, the probe is the witness.
        let witness_mark = Some(self.courier.health.accepted().saturating_sub(1));
        self.queue.push_front(Closed { items: held, bytes: 0, witness_mark });
    }

    /// Lets go of queued batches until the lane holds half of its part, and accepts nothing until it does.
    fn shed(&mut self) {
        if !self.courier.health.state().is_open() {
            return;
        }
        self.courier.health.set_state(LaneState::Congested);
        self.courier.observer.state(&LaneState::Congested);
        self.open.clear();
        self.open_bytes = 0;
        while self.stats.held_bytes() > self.config.memory_part / 2 && self.queue.pop_back().is_some() {}
    }

    fn leave_congestion(&mut self) {
        let congested = self.courier.health.state() == LaneState::Congested;
        if congested && self.stats.held_bytes() <= self.config.memory_part / 2 {
            self.courier.health.set_state(LaneState::Open);
            self.courier.observer.state(&LaneState::Open);
        }
    }
}

fn probe_delays(retry: &RetryConfig) -> Delays {
    let max = retry.max.min(PROBE_INTERVAL_MAX);
    Delays::new(&RetryConfig { initial: retry.initial.max(Duration::from_secs(1)).min(max), max, ..*retry })
}
