//! The task of a lane: closes batches, keeps requests under way, and probes while it is shut.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{Id, JoinSet};

use super::apart::Apart;
use super::batcher::{Batcher, Closed};
use super::{Command, LaneConfig};
use crate::delivery::{Courier, Ended, Item, PROBES_MAX};
use crate::health::LaneState;
use crate::retry::{Delays, RetryConfig};
use crate::stats::LaneStats;

/// An event that did not open the lane after so many probes gives its place to another.
const PROBE_TRIES: u32 = 2;

/// A shut lane is probed at least this often.
const PROBE_INTERVAL_MAX: Duration = Duration::from_secs(30);

pub(super) struct LaneTask {
    config: LaneConfig,
    courier: Arc<Courier>,
    stats: Arc<LaneStats>,
    open: Batcher,
    queue: VecDeque<Closed>,
    sending: JoinSet<Ended>,
    /// What each sending task uses: its slot, and the bytes it holds.
    in_use: HashMap<Id, (u32, u64)>,
    free_slots: Vec<u32>,
    confirming: JoinSet<Vec<Item>>,
    /// Bytes of what waits for its confirmation: held like what is being sent.
    confirming_bytes: HashMap<Id, u64>,
    probes: VecDeque<Item>,
    probe_delays: Delays,
    /// What had been accepted when the lane last shut.
    accepted_before: u64,
    probe_at: Option<Duration>,
    probe_number: u32,
    apart: Apart,
    finishing: bool,
}

impl LaneTask {
    pub(super) fn new(config: LaneConfig, courier: Arc<Courier>, stats: Arc<LaneStats>) -> Self {
        let slots = u32::try_from(config.concurrency_max.max(1)).unwrap_or(1);
        let (probe_delays, apart) = (probe_delays(&config.retry), Apart::new(config.retry));
        let open = Batcher::new(Arc::clone(&courier.sink), Arc::clone(&courier.health), config.batch);
        Self {
            config,
            courier,
            stats,
            open,
            queue: VecDeque::new(),
            sending: JoinSet::new(),
            in_use: HashMap::new(),
            free_slots: (0..slots).rev().collect(),
            confirming: JoinSet::new(),
            confirming_bytes: HashMap::new(),
            probes: VecDeque::new(),
            probe_delays,
            accepted_before: 0,
            probe_at: None,
            probe_number: 0,
            apart,
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
                    // This lane gathers nothing, and its batches are never old.
                    Some(Command::Finish | Command::Gather(_) | Command::Hurry) => {}
                    Some(Command::Abandon) | None => return,
                },
                Some(ended) = self.sending.join_next_with_id() => self.sent(ended),
                Some(left) = self.confirming.join_next_with_id() => self.confirmed(left),
                () = clock.sleep(wait) => self.timer(),
            }
        }
    }

    fn is_done(&self) -> bool {
        // A shut lane has nobody to deliver to: what it holds besides is released.
        let nothing_to_send = self.queue.is_empty() && self.open.is_empty();
        let idle = self.sending.is_empty() && self.confirming.is_empty();
        idle && (nothing_to_send || self.courier.health.state().is_shut())
    }

    /// What was never confirmed is sent again; a lane that does not accept lets go of it.
    fn confirmed(&mut self, left: Result<(Id, Vec<Item>), tokio::task::JoinError>) {
        match left {
            Ok((id, left)) => {
                self.confirming_bytes.remove(&id);
                if !left.is_empty() && self.courier.health.state().is_open() {
                    self.queue.push_back(Closed::new(left, 0));
                }
            }
            // A confirmation that died has released its events.
            Err(error) => drop(self.confirming_bytes.remove(&error.id())),
        }
    }

    fn now(&self) -> Duration {
        self.courier.clock.monotonic()
    }

    /// How long until something is due; long if nothing is.
    fn next_timer(&self) -> Duration {
        let batch = self.open.due();
        let congested = self.courier.health.state() == LaneState::Congested;
        let look = congested.then(|| self.now() + Duration::from_millis(20));
        let rest = self.courier.health.rest(self.now());
        let rested = (!rest.is_zero() && !self.queue.is_empty()).then(|| self.now() + rest);
        let due = [batch, self.probe_at, look, rested, self.apart.due()].into_iter().flatten().min();
        due.map_or(Duration::from_secs(3600), |due| due.saturating_sub(self.now()))
    }

    fn timer(&mut self) {
        let now = self.now();
        self.open.close_due(now, &mut self.queue);
        if self.probe_at.is_some_and(|at| now >= at) {
            self.probe();
        }
        let apart = self.apart.take_due(now, self.config.batch.events_max, &*self.courier.random);
        for group in self.open.apart(apart) {
            self.queue.push_back(Closed::new(group, 0));
        }
    }

    fn take(&mut self, items: Vec<Item>) {
        if self.courier.health.state().is_shut() {
            let room = PROBES_MAX.saturating_sub(self.probes.len());
            self.probes.extend(items.into_iter().take(room));
            return;
        }
        let now = self.now();
        for item in items {
            self.open.add(item, now, &mut self.queue);
        }
    }

    fn close(&mut self) {
        self.open.close_all(&mut self.queue);
    }

    /// Starts as many deliveries as concurrency, the destination's wishes and the lane's part of the memory allow.
    fn dispatch(&mut self) {
        let health = Arc::clone(&self.courier.health);
        if health.state().is_shut() || !health.rest(self.now()).is_zero() {
            return;
        }
        while let Some(next) = self.queue.front() {
            if self.sending.len() >= health.concurrency() {
                return health.note_full();
            }
            let sending: u64 = self.in_use.values().map(|&(_, bytes)| bytes).sum();
            let confirming: u64 = self.confirming_bytes.values().sum();
            let held = sending + confirming;
            if held > 0 && held + next.bytes > self.config.memory_part {
                return;
            }
            let Some(slot) = self.free_slots.pop() else { return };
            let Some(batch) = self.queue.pop_front() else { return };
            self.send(batch, slot);
        }
    }

    fn send(&mut self, batch: Closed, slot: u32) {
        let courier = Arc::clone(&self.courier);
        let task = self.sending.spawn(async move { courier.deliver(batch.items, slot).await });
        self.in_use.insert(task.id(), (slot, batch.bytes));
    }

    fn sent(&mut self, ended: Result<(Id, Ended), tokio::task::JoinError>) {
        let (id, ended) = match ended {
            Ok((id, ended)) => (id, Some(ended)),
            // Its events were released when it died.
            Err(error) => (error.id(), None),
        };
        let (slot, bytes) = self.in_use.remove(&id).unwrap_or_default();
        self.free_slots.push(slot);
        let is_shut = self.courier.health.state().is_shut();
        let Some(ended) = ended else {
            if is_shut {
                self.schedule_probe(None);
            }
            return;
        };
        if !ended.pending.is_empty() {
            let waiting = self.courier.expect(ended.pending);
            let (courier, timeout) = (Arc::clone(&self.courier), self.config.ack_timeout);
            let task = self.confirming.spawn(async move { courier.confirm(waiting, timeout).await });
            self.confirming_bytes.insert(task.id(), bytes);
        }
        match ended.shut {
            Some(state) => self.shut(state, ended.probes, ended.retry_after),
            None => {
                let back = ended.accepted || ended.answered;
                self.keep_apart(ended.apart, ended.apart_for);
                self.keep_probes(ended.probes);
                if is_shut {
                    if back { self.reopen() } else { self.schedule_probe(None) }
                }
            }
        }
    }

    /// Stops accepting: keeps a few events to probe with and releases the others.
    fn shut(&mut self, state: LaneState, probes: Vec<Item>, retry_after: Option<Duration>) {
        let before = self.courier.health.state();
        let was_shut = before.is_shut();
        // Every probe that fails comes through here: what is no news is not told again.
        if before != state {
            self.courier.health.set_state(state.clone());
            self.courier.observer.state(&state);
        }
        let queued = self.queue.drain(..).flat_map(|closed| closed.items).chain(self.open.take());
        let held: Vec<Item> = probes.into_iter().chain(self.apart.take_all()).chain(queued).collect();
        self.keep_probes(held);
        if !was_shut {
            // A lane that a probe opened and that took nothing since is as shut as it was.
            let accepted = self.courier.health.accepted();
            if accepted != std::mem::replace(&mut self.accepted_before, accepted) {
                self.probe_delays = probe_delays(&self.config.retry);
            }
        }
        self.schedule_probe(retry_after);
    }

    /// Lets events wait that the destination's set-up does not let in, or over which it hangs up. With too many of them the
    /// lane shuts.
    fn keep_apart(&mut self, items: Vec<Item>, state: Option<LaneState>) {
        let now = self.now();
        let over = self.apart.keep(items, now, &*self.courier.random);
        if let (false, Some(state)) = (over.is_empty(), state) {
            self.shut(state, over, None);
        }
    }

    /// Adds events to probe with, as long as there is room; the others are released.
    ///
    /// One that was judged twice and did not open the lane makes room for a fresh one once half of the places are taken: a lane
    /// must not stay shut because all that it holds is bad.
    fn keep_probes(&mut self, items: Vec<Item>) {
        for item in items {
            let spent = item.probed >= PROBE_TRIES && self.probes.len() >= PROBES_MAX / 2;
            if self.probes.len() < PROBES_MAX && !spent {
                self.probes.push_back(item);
            }
        }
    }

    fn schedule_probe(&mut self, retry_after: Option<Duration>) {
        self.probe_at = Some(self.now() + self.probe_delays.next(retry_after, &*self.courier.random));
    }

    /// Sends one of the events that a shut lane holds, each in turn.
    fn probe(&mut self) {
        self.probe_at = None;
        if !self.courier.health.state().is_shut() {
            return;
        }
        if !self.sending.is_empty() || self.probes.is_empty() {
            self.schedule_probe(None);
            return;
        }
        let (Some(item), Some(slot)) = (self.probes.pop_front(), self.free_slots.pop()) else { return };
        let courier = Arc::clone(&self.courier);
        self.probe_number = self.probe_number.wrapping_add(1);
        let number = self.probe_number;
        let task = self.sending.spawn(async move { courier.probe(item, slot, number).await });
        self.in_use.insert(task.id(), (slot, 0));
    }

    /// The destination took an event: the lane accepts again.
    fn reopen(&mut self) {
        self.probe_at = None;
        self.courier.health.set_state(LaneState::Open);
        self.courier.observer.state(&LaneState::Open);
        let held: Vec<Item> = self.probes.drain(..).collect();
        // What was refused while nothing was taken gets another try; refused again, the probe is the witness.
        for group in self.open.apart(held).into_iter().rev() {
            self.queue.push_front(Closed::new(group, 0));
        }
    }

    /// Lets go of queued batches until the lane holds half of its part, and accepts nothing until it does.
    fn shed(&mut self) {
        let state = self.courier.health.state();
        if state.is_shut() {
            return;
        }
        if state.is_open() {
            self.courier.health.set_state(LaneState::Congested);
            self.courier.observer.state(&LaneState::Congested);
        }
        drop(self.open.take());
        let most = self.config.memory_part / 2;
        while self.stats.held_bytes() > most && self.queue.pop_back().is_some() {}
        while self.stats.held_bytes() > most && self.apart.let_go() {}
    }

    fn leave_congestion(&mut self) {
        let congested = self.courier.health.state() == LaneState::Congested;
        if congested && self.stats.held_bytes() <= self.config.memory_part / 2 {
            self.courier.health.set_state(LaneState::Open);
            self.courier.observer.state(&LaneState::Open);
        }
    }
}

pub(super) fn probe_delays(retry: &RetryConfig) -> Delays {
    let max = retry.max.min(PROBE_INTERVAL_MAX);
    Delays::new(&RetryConfig { initial: retry.initial.max(Duration::from_secs(1)).min(max), max, ..*retry })
}
