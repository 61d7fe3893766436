//! The task of a lane that stores objects: gathers log files, keeps objects under way, and probes while it is shut.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};

use super::pass::Ready;
use super::task::probe_delays;
use super::{Command, LaneConfig, Objects};
use crate::delivery::LaneObserver;
use crate::health::{Health, LaneState, is_overload};
use crate::ports::{Clock, Random};
use crate::retry::Delays;
use crate::settle::{Outcome, Owed};
use crate::{ObjectSink, Reason, ReasonCode, StoreError};

/// How many objects a shut lane keeps to probe with. One would do, as none is ever at fault.
const PROBES_MAX: usize = 2;

/// What storing needs besides the object.
pub(super) struct ObjectCourier {
    pub(super) config: LaneConfig,
    pub(super) sink: Arc<dyn ObjectSink>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) random: Arc<dyn Random>,
    pub(super) health: Arc<Health>,
    pub(super) observer: Arc<dyn LaneObserver>,
}

/// How storing an object ended.
struct Stored {
    /// The object, unless it is stored.
    left: Option<Ready>,
    /// Set if the lane has to shut, or to stay so.
    shut: Option<LaneState>,
    /// The store had too much to do at least once.
    overloaded: bool,
}

impl ObjectCourier {
    /// Stores an object, again and again until it is stored or the lane has to shut.
    async fn deliver(&self, ready: Ready) -> Stored {
        let mut delays = Delays::new(&self.config.retry);
        let mut overloaded = false;
        loop {
            let (why, denied) = match self.store(&ready).await {
                Ok(()) => {
                    self.settle(ready);
                    return Stored { left: None, shut: None, overloaded };
                }
                Err(StoreError::Unavailable(why)) => (why, false),
                Err(StoreError::Denied(why)) => (why, true),
            };
            overloaded |= is_overload(why.code);
            let gives_up = self.failed(&why, ready.duties.len());
            if denied || gives_up {
                let state = if denied { LaneState::Denied(why) } else { LaneState::Unavailable(why) };
                return Stored { left: Some(ready), shut: Some(state), overloaded };
            }
            if let Some(state) = self.rest(delays.next(None, &*self.random)).await {
                return Stored { left: Some(ready), shut: Some(state), overloaded };
            }
        }
    }

    /// Tries once, to find out whether a shut lane can open again.
    async fn probe(&self, ready: Ready) -> Stored {
        let (why, denied) = match self.store(&ready).await {
            Ok(()) => {
                self.settle(ready);
                return Stored { left: None, shut: None, overloaded: false };
            }
            Err(StoreError::Unavailable(why)) => (why, false),
            Err(StoreError::Denied(why)) => (why, true),
        };
        self.failed(&why, ready.duties.len());
        let state = if denied { LaneState::Denied(why) } else { LaneState::Unavailable(why) };
        Stored { left: Some(ready), shut: Some(state), overloaded: false }
    }

    async fn store(&self, ready: &Ready) -> Result<(), StoreError> {
        let started = self.clock.monotonic();
        let result = self.sink.store(&ready.object).await;
        let name = match &result {
            Ok(()) => "ok",
            Err(StoreError::Unavailable(why) | StoreError::Denied(why)) => why.code.as_str(),
        };
        let now = self.clock.monotonic();
        self.observer.request(name, now.saturating_sub(started));
        if result.is_ok() {
            self.health.note_answer(ready.object.bytes.len(), now.saturating_sub(started), now);
        }
        result
    }

    fn settle(&self, ready: Ready) {
        let Ready { object, duties, via, .. } = ready;
        self.health.note_accepted(duties.len() as u64, self.clock.now());
        self.observer.stored(via, &object.times);
        Owed::settle_all(duties.into_iter().map(|duty| (duty, Outcome::Delivered)));
    }

    /// Notes a failure; true if it has lasted too long.
    fn failed(&self, why: &Reason, events: usize) -> bool {
        self.observer.failure(why, events);
        let (at, now) = (self.clock.now(), self.clock.monotonic());
        self.health.note_failure(why, at, now, self.config.retry.give_up_after)
    }

    /// Waits, unless the lane is shut meanwhile: then its state.
    async fn rest(&self, wait: Duration) -> Option<LaneState> {
        tokio::select! {
            biased;
            shut = self.health.wait_for(LaneState::is_shut) => Some(shut),
            () = self.clock.sleep(wait) => None,
        }
    }
}

pub(super) struct ObjectTask {
    courier: Arc<ObjectCourier>,
    objects: Arc<Objects>,
    gathering: JoinSet<Result<(), Reason>>,
    complete: mpsc::UnboundedSender<Ready>,
    completed: mpsc::UnboundedReceiver<Ready>,
    queue: VecDeque<Ready>,
    sending: JoinSet<Stored>,
    probes: VecDeque<Ready>,
    probe_delays: Delays,
    probe_at: Option<Duration>,
    finishing: bool,
}

impl ObjectTask {
    pub(super) fn new(courier: ObjectCourier, objects: Arc<Objects>) -> Self {
        let (complete, completed) = mpsc::unbounded_channel();
        let probe_delays = probe_delays(&courier.config.retry);
        Self {
            courier: Arc::new(courier),
            objects,
            gathering: JoinSet::new(),
            complete,
            completed,
            queue: VecDeque::new(),
            sending: JoinSet::new(),
            probes: VecDeque::new(),
            probe_delays,
            probe_at: None,
            finishing: false,
        }
    }

    pub(super) async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Command>) {
        let clock = Arc::clone(&self.courier.clock);
        loop {
            self.dispatch();
            if self.finishing && self.is_done() {
                return;
            }
            let wait = self.probe_at.map_or(Duration::from_secs(3600), |at| at.saturating_sub(self.now()));
            tokio::select! {
                biased;
                order = orders.recv() => match order {
                    Some(Command::Gather(begun)) => {
                        let (compute, out) = (Arc::clone(&self.objects.compute), self.complete.clone());
                        self.gathering.spawn(begun.run(compute, out));
                    }
                    Some(Command::Finish) | None if !self.finishing => self.finishing = true,
                    Some(Command::Abandon) | None => return,
                    // An object is complete where its log file ends, and not before; what is gathered has its bound.
                    Some(Command::Take(_) | Command::Flush | Command::Shed | Command::Finish) => {}
                },
                Some(ready) = self.completed.recv() => self.take(ready),
                Some(stored) = self.sending.join_next() => self.stored(stored),
                Some(gathered) = self.gathering.join_next() => self.gathered(gathered),
                () = clock.sleep(wait) => self.probe(),
            }
        }
    }

    fn is_shut(&self) -> bool {
        self.courier.health.state().is_shut()
    }

    fn is_done(&self) -> bool {
        let nothing_comes = self.gathering.is_empty() && self.completed.is_empty();
        nothing_comes && self.sending.is_empty() && (self.queue.is_empty() || self.is_shut())
    }

    fn now(&self) -> Duration {
        self.courier.clock.monotonic()
    }

    /// A shut lane keeps a few objects to probe with; the events of others are released.
    fn take(&mut self, ready: Ready) {
        if !self.is_shut() {
            self.queue.push_back(ready);
        } else if self.probes.len() < PROBES_MAX {
            self.probes.push_back(ready);
        }
    }

    fn gathered(&self, gathered: Result<Result<(), Reason>, JoinError>) {
        match gathered {
            Ok(Ok(())) => {}
            Ok(Err(why)) => self.courier.observer.failure(&why, 0),
            Err(error) if error.is_cancelled() => {}
            Err(_) => {
                let why = Reason::new(ReasonCode::Other, "gathering has died of a bug: please report this");
                self.courier.observer.failure(&why, 0);
            }
        }
    }

    fn dispatch(&mut self) {
        while !self.is_shut() && !self.queue.is_empty() {
            if self.sending.len() >= self.courier.health.concurrency() {
                return self.courier.health.note_full();
            }
            let Some(ready) = self.queue.pop_front() else { return };
            let courier = Arc::clone(&self.courier);
            self.sending.spawn(async move { courier.deliver(ready).await });
        }
    }

    fn stored(&mut self, stored: Result<Stored, JoinError>) {
        let stored = match stored {
            Ok(stored) => stored,
            // Its events were released when it died.
            Err(_) => Stored { left: None, shut: None, overloaded: true },
        };
        if stored.overloaded {
            self.courier.health.note_overload(self.now(), None);
        }
        match (stored.shut, stored.left) {
            (Some(state), left) => self.shut(state, left),
            (None, _) if self.is_shut() && !stored.overloaded => self.reopen(),
            (None, _) if self.is_shut() => self.schedule_probe(),
            (None, _) => {}
        }
    }

    /// Stops accepting: keeps a few objects to probe with, and releases the events of all others.
    fn shut(&mut self, state: LaneState, left: Option<Ready>) {
        let before = self.courier.health.state();
        if before != state {
            self.courier.health.set_state(state.clone());
            self.courier.observer.state(&state);
        }
        if !before.is_shut() {
            self.probe_delays = probe_delays(&self.courier.config.retry);
            self.gathering.abort_all();
        }
        self.probes.extend(left.into_iter().chain(self.queue.drain(..)));
        self.probes.truncate(PROBES_MAX);
        self.schedule_probe();
    }

    fn schedule_probe(&mut self) {
        self.probe_at = Some(self.now() + self.probe_delays.next(None, &*self.courier.random));
    }

    fn probe(&mut self) {
        if self.probe_at.is_none_or(|at| self.now() < at) {
            return;
        }
        self.probe_at = None;
        if !self.is_shut() {
            return;
        }
        match self.probes.pop_front() {
            Some(ready) if self.sending.is_empty() => {
                let courier = Arc::clone(&self.courier);
                self.sending.spawn(async move { courier.probe(ready).await });
            }
            ready => {
                self.probes.extend(ready);
                self.schedule_probe();
            }
        }
    }

    /// The store took an object: the lane accepts again.
    fn reopen(&mut self) {
        self.probe_at = None;
        self.courier.health.set_state(LaneState::Open);
        self.courier.observer.state(&LaneState::Open);
        self.queue.extend(self.probes.drain(..));
    }
}
