//! The task of a lane that stores objects: gathers log files, keeps errands under way, and probes while it is shut.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};

use super::errand::{Errand, Follow};
use super::merge::Merger;
use super::pass::Ready;
use super::task::probe_delays;
use super::{Command, LaneConfig, Objects};
use crate::delivery::LaneObserver;
use crate::health::{Health, LaneState, is_overload};
use crate::ports::{Clock, Compute, Random};
use crate::retry::Delays;
use crate::{ObjectSink, Reason, ReasonCode, StoreError};

/// How many errands a shut lane keeps to probe with. One would do, as none is ever at fault.
const PROBES_MAX: usize = 2;

/// What an errand needs besides what it carries.
pub(super) struct ObjectCourier {
    pub(super) config: LaneConfig,
    pub(super) sink: Arc<dyn ObjectSink>,
    pub(super) compute: Arc<dyn Compute>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) random: Arc<dyn Random>,
    pub(super) health: Arc<Health>,
    pub(super) observer: Arc<dyn LaneObserver>,
}

/// How an errand ended.
#[derive(Default)]
struct Ended {
    /// The errand, unless it is done.
    left: Option<Errand>,
    /// What is to be done after it.
    follow: Follow,
    /// Set if the lane has to shut, or to stay so.
    shut: Option<LaneState>,
    /// The store had too much to do at least once.
    overloaded: bool,
}

impl ObjectCourier {
    /// Runs an errand, again and again until it is done or the lane has to shut.
    async fn deliver(&self, mut errand: Errand) -> Ended {
        let mut delays = Delays::new(&self.config.retry);
        let mut overloaded = false;
        loop {
            let (why, denied) = match self.attempt(&mut errand).await {
                Ok(()) => return Ended { follow: errand.done(self), overloaded, ..Ended::default() },
                Err(StoreError::Unavailable(why)) => (why, false),
                Err(StoreError::Denied(why)) => (why, true),
            };
            overloaded |= is_overload(why.code);
            let gives_up = self.failed(&why, errand.events());
            let shut = if denied {
                Some(LaneState::Denied(why))
            } else if gives_up {
                Some(LaneState::Unavailable(why))
            } else {
                self.rest(delays.next(None, &*self.random)).await
            };
            if shut.is_some() {
                return Ended { left: Some(errand), shut, overloaded, ..Ended::default() };
            }
        }
    }

    /// Tries once, to find out whether a shut lane can open again.
    async fn probe(&self, mut errand: Errand) -> Ended {
        let (why, denied) = match self.attempt(&mut errand).await {
            Ok(()) => return Ended { follow: errand.done(self), ..Ended::default() },
            Err(StoreError::Unavailable(why)) => (why, false),
            Err(StoreError::Denied(why)) => (why, true),
        };
        self.failed(&why, errand.events());
        let state = if denied { LaneState::Denied(why) } else { LaneState::Unavailable(why) };
        Ended { left: Some(errand), shut: Some(state), ..Ended::default() }
    }

    async fn attempt(&self, errand: &mut Errand) -> Result<(), StoreError> {
        let started = self.clock.monotonic();
        let result = errand.attempt(self).await;
        let name = match &result {
            Ok(()) => "ok",
            Err(StoreError::Unavailable(why) | StoreError::Denied(why)) => why.code.as_str(),
        };
        let now = self.clock.monotonic();
        self.observer.request(name, now.saturating_sub(started));
        if let (Ok(()), Some(bytes)) = (&result, errand.stored_bytes()) {
            self.health.note_answer(bytes, now.saturating_sub(started), now);
        }
        result
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
    /// Where objects are merged.
    merger: Option<Merger>,
    queue: VecDeque<Errand>,
    sending: JoinSet<Ended>,
    probes: VecDeque<Errand>,
    probe_delays: Delays,
    probe_at: Option<Duration>,
    finishing: bool,
}

impl ObjectTask {
    pub(super) fn new(courier: ObjectCourier, objects: Arc<Objects>) -> Self {
        let (complete, completed) = mpsc::unbounded_channel();
        let probe_delays = probe_delays(&courier.config.retry);
        let merger = objects.sink.merge().map(|merge| Merger::new(merge, objects.memory_part));
        Self {
            merger,
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
            self.close_groups();
            self.dispatch();
            if self.finishing && self.is_done() {
                return;
            }
            let wait = self.next_timer();
            tokio::select! {
                biased;
                order = orders.recv() => match order {
                    Some(Command::Gather(begun)) => {
                        let (compute, out) = (Arc::clone(&self.objects.compute), self.complete.clone());
                        self.gathering.spawn(begun.run(compute, out));
                    }
                    Some(Command::Finish) | None if !self.finishing => self.finishing = true,
                    Some(Command::Abandon) | None => return,
                    Some(Command::Hurry) => self.merger.iter_mut().for_each(Merger::hurry),
                    // An object is complete where its log file ends, and not before; what is gathered has its bound.
                    Some(Command::Take(_) | Command::Flush | Command::Shed | Command::Finish) => {}
                },
                Some(ready) = self.completed.recv() => self.take(ready),
                Some(ended) = self.sending.join_next() => self.ended(ended),
                Some(gathered) = self.gathering.join_next() => self.gathered(gathered),
                () = clock.sleep(wait) => self.probe(),
            }
        }
    }

    fn is_shut(&self) -> bool {
        self.courier.health.state().is_shut()
    }

    fn is_done(&self) -> bool {
        let nothing_waits = self.queue.is_empty() && self.merger.as_ref().is_none_or(Merger::is_empty);
        self.nothing_comes() && self.sending.is_empty() && (nothing_waits || self.is_shut())
    }

    fn nothing_comes(&self) -> bool {
        self.gathering.is_empty() && self.completed.is_empty()
    }

    /// How long until something is due; long if nothing is.
    fn next_timer(&self) -> Duration {
        let due = [self.probe_at, self.merger.as_ref().and_then(Merger::due)];
        let first = due.into_iter().flatten().min();
        first.map_or(Duration::from_secs(3600), |at| at.saturating_sub(self.now()))
    }

    /// Closes the groups of which it is time to.
    fn close_groups(&mut self) {
        let (now, nothing_comes) = (self.now(), self.nothing_comes());
        let Some(merger) = &mut self.merger else { return };
        let closed = merger.close(now, nothing_comes, self.finishing, &*self.courier.random);
        self.queue.extend(closed.into_iter().map(Errand::Form));
    }

    fn now(&self) -> Duration {
        self.courier.clock.monotonic()
    }

    /// A shut lane keeps a few errands to probe with; the events of others are released.
    fn take(&mut self, ready: Ready) {
        let now = self.now();
        match &mut self.merger {
            Some(merger) if !self.courier.health.state().is_shut() => merger.add(ready, now),
            Some(merger) => {
                let alone = merger.alone(ready, &*self.courier.random);
                self.enqueue(Errand::Form(alone));
            }
            None => self.enqueue(Errand::Store(ready)),
        }
    }

    fn enqueue(&mut self, errand: Errand) {
        if !self.is_shut() {
            self.queue.push_back(errand);
        } else if self.probes.len() < PROBES_MAX {
            self.probes.push_back(errand);
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
            let Some(errand) = self.queue.pop_front() else { return };
            let courier = Arc::clone(&self.courier);
            self.sending.spawn(async move { courier.deliver(errand).await });
        }
    }

    fn ended(&mut self, ended: Result<Ended, JoinError>) {
        let ended = match ended {
            Ok(ended) => ended,
            // Its events were released when it died.
            Err(_) => Ended { overloaded: true, ..Ended::default() },
        };
        if ended.overloaded {
            self.courier.health.note_overload(self.now(), None);
        }
        match (ended.shut, ended.left) {
            (Some(state), left) => self.shut(state, left),
            (None, _) if self.is_shut() && !ended.overloaded => self.reopen(),
            (None, _) if self.is_shut() => self.schedule_probe(),
            (None, _) => {}
        }
        // Before all others: what is claimed for a group is to stand in its object soon.
        for errand in ended.follow.errands.into_iter().rev() {
            if self.is_shut() {
                self.enqueue(errand);
            } else {
                self.queue.push_front(errand);
            }
        }
        let (now, accepts) = (self.now(), !self.finishing && !self.is_shut());
        // What waits for another group has no time to, where the lane ends.
        if let (Some(merger), true) = (&mut self.merger, accepts) {
            ended.follow.later.into_iter().for_each(|piece| merger.add_again(piece, now));
        }
    }

    /// Stops accepting: keeps a few errands to probe with, and releases the events of all others.
    fn shut(&mut self, state: LaneState, left: Option<Errand>) {
        let before = self.courier.health.state();
        if before != state {
            self.courier.health.set_state(state.clone());
            self.courier.observer.state(&state);
        }
        if !before.is_shut() {
            self.probe_delays = probe_delays(&self.courier.config.retry);
            self.gathering.abort_all();
        }
        let open = self.merger.as_mut().and_then(|merger| merger.abandon(&*self.courier.random));
        self.queue.extend(open.map(Errand::Form));
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
            Some(errand) if self.sending.is_empty() => {
                let courier = Arc::clone(&self.courier);
                self.sending.spawn(async move { courier.probe(errand).await });
            }
            errand => {
                self.probes.extend(errand);
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
