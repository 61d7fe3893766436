//! One pass over a log file, at one lane: whole for a lane that stores objects, what is owed for any other.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;

use super::{Command, Lane};
use crate::delivery::PROBES_MAX;
use crate::health::LaneState;
use crate::ports::{Clock, Compute, run_on};
use crate::settle::{Owed, Share};
use crate::stats::LaneStats;
use crate::{Gathering, LogFile, Object, ObjectSink, Parcel, Reason, ReasonCode};

/// One pass over a log file, at one lane. Dropped before its end was told, it leaves owed what is in no complete
/// object.
pub struct LanePass<'a> {
    lane: &'a Lane,
    share: &'a Share,
    /// For a lane that stores objects.
    whole: Option<Mutex<Whole>>,
}

/// What of the log file is gathered.
struct Whole {
    /// The position of the event that has to come next.
    next: u64,
    taken: Taken,
}

enum Taken {
    /// No event has come yet.
    Nothing,
    /// All events so far.
    All(mpsc::UnboundedSender<Step>),
    /// The lane does not take this log file in this pass.
    Refused,
}

/// What the pass tells the task that gathers.
pub(super) enum Step {
    /// The next events of the log file, with the duties of those that are owed.
    Events(Arc<Parcel>, Vec<Owed>),
    /// There are no more.
    End,
}

impl<'a> LanePass<'a> {
    pub(super) fn new(lane: &'a Lane, share: &'a Share) -> Self {
        let whole = || Mutex::new(Whole { next: 0, taken: Taken::Nothing });
        Self { lane, share, whole: lane.objects.as_ref().map(|_| whole()) }
    }

    /// The same for events that are not to be made whole: they begin with this parcel.
    pub(super) fn of_a_part(self, parcel: &Parcel) -> Self {
        if let (Some(whole), Some(first)) = (&self.whole, parcel.chunk().event(0)) {
            lock(whole).next = first.index();
        }
        self
    }

    /// Whether the lane wants to be offered this parcel.
    #[must_use]
    pub fn wants(&self, parcel: &Parcel) -> bool {
        match &self.whole {
            None => parcel.chunk().events().any(|event| self.share.owes(event.index())),
            Some(whole) => match lock(whole).taken {
                Taken::Nothing => !self.share.account().is_closed(),
                Taken::All(_) => true,
                Taken::Refused => false,
            },
        }
    }

    /// Whether the lane needs the log file to be read on, all events before `index` having been offered.
    #[must_use]
    pub fn needs(&self, index: u64) -> bool {
        let gathers = |whole: &Mutex<Whole>| matches!(lock(whole).taken, Taken::All(_));
        self.share.owes_from(index) || self.whole.as_ref().is_some_and(gathers)
    }

    /// Waits until the lane has room, or does not accept any more. A log file that is being gathered has its room.
    pub async fn room(&self, clock: &dyn Clock) {
        let (Some(whole), Some(objects)) = (&self.whole, &self.lane.objects) else {
            return self.lane.room(clock).await;
        };
        let waits = || matches!(lock(whole).taken, Taken::Nothing) && !objects.has_room(&self.lane.stats);
        while waits() && self.lane.health.state().is_open() {
            clock.sleep(Duration::from_millis(10)).await;
        }
    }

    /// Offers the next parcel of the log file. Never blocks.
    pub fn offer(&self, parcel: &Arc<Parcel>) {
        let Some(whole) = &self.whole else { return self.lane.offer(parcel, self.share) };
        let mut whole = lock(whole);
        let follows = parcel.chunk().events().next().is_none_or(|event| event.index() == whole.next);
        if matches!(whole.taken, Taken::Nothing) {
            whole.taken = if follows { self.begin(parcel.file()) } else { Taken::Refused };
        }
        let Taken::All(steps) = &whole.taken else { return };
        // Of a log file with a gap no object is whole; of one that was let go of, nobody waits for the rest.
        if !follows || steps.is_closed() {
            whole.taken = Taken::Refused;
            return;
        }
        let _ = steps.send(Step::Events(Arc::clone(parcel), self.duties(parcel)));
        whole.next += parcel.chunk().len() as u64;
    }

    /// Tells that the log file has no more events, or none that can be read: what is open is complete.
    pub fn ended(&self) {
        if let Some(whole) = &self.whole
            && let Taken::All(steps) = &lock(whole).taken
        {
            let _ = steps.send(Step::End);
        }
    }

    fn begin(&self, file: &LogFile) -> Taken {
        let Some(objects) = &self.lane.objects else { return Taken::Refused };
        let accepts = match self.lane.health.state() {
            LaneState::Open => objects.has_room(&self.lane.stats),
            LaneState::Congested => false,
            LaneState::Unavailable(_) | LaneState::Denied(_) => {
                self.lane.stats.in_flight() < PROBES_MAX as u64
            }
        };
        if !accepts || self.share.account().is_closed() {
            return Taken::Refused;
        }
        let (steps, orders) = mpsc::unbounded_channel();
        let place = objects.enter(&self.lane.stats);
        let gathering = objects.sink.gather(file);
        let sent = self.lane.commands.send(Command::Gather(Begun { gathering, place, orders }));
        if sent.is_ok() { Taken::All(steps) } else { Taken::Refused }
    }

    fn duties(&self, parcel: &Parcel) -> Vec<Owed> {
        let indices: Vec<u64> = parcel.chunk().events().map(|event| event.index()).collect();
        // What they keep alive is counted where it is converted.
        Owed::open(self.share, &self.lane.stats, &indices, 0).into_iter().flatten().collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a lane that stores objects has besides.
pub(super) struct Objects {
    pub(super) sink: Arc<dyn ObjectSink>,
    pub(super) compute: Arc<dyn Compute>,
    /// The lane's part of the memory: log files that are being gathered, and objects that wait.
    pub(super) memory_part: u64,
    /// The log files that are being gathered, by their numbers.
    gathered: Arc<Mutex<std::collections::BTreeSet<u64>>>,
    numbers: AtomicU64,
}

/// What a log file that is begun takes at least, however little of it has come.
const PLACE_BYTES: u64 = 256 << 10;

impl Objects {
    pub(super) fn new(sink: Arc<dyn ObjectSink>, compute: Arc<dyn Compute>, memory_part: u64) -> Self {
        Self { sink, compute, memory_part, gathered: Arc::default(), numbers: AtomicU64::new(0) }
    }

    /// Whether another log file may be begun: one always may.
    fn has_room(&self, stats: &LaneStats) -> bool {
        stats.held_bytes() < self.memory_part / 2 || lock(&self.gathered).is_empty()
    }

    fn enter(&self, stats: &Arc<LaneStats>) -> Place {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        lock(&self.gathered).insert(number);
        let gathered = Arc::clone(&self.gathered);
        Place { number, gathered, held: Held::new(stats, PLACE_BYTES), memory_part: self.memory_part }
    }
}

/// Memory in a lane's account, until dropped.
pub(super) struct Held {
    stats: Arc<LaneStats>,
    bytes: u64,
}

impl Held {
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    fn new(stats: &Arc<LaneStats>, bytes: u64) -> Self {
        stats.held_add(bytes);
        Self { stats: Arc::clone(stats), bytes }
    }

    pub(super) fn set(&mut self, bytes: u64) {
        self.stats.held_add(bytes);
        self.stats.held_sub(std::mem::replace(&mut self.bytes, bytes));
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.stats.held_sub(self.bytes);
    }
}

/// The place of a log file that is being gathered.
pub(super) struct Place {
    number: u64,
    gathered: Arc<Mutex<std::collections::BTreeSet<u64>>>,
    held: Held,
    memory_part: u64,
}

impl Place {
    /// Whether the log file has to be let go of. The oldest never has to: what is begun gets done.
    fn is_too_much(&self) -> bool {
        let is_oldest = lock(&self.gathered).first() == Some(&self.number);
        !is_oldest && self.held.stats.held_bytes() > self.memory_part
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.gathered).remove(&self.number);
    }
}

/// A log file that is begun.
pub(super) struct Begun {
    gathering: Box<dyn Gathering>,
    place: Place,
    orders: mpsc::UnboundedReceiver<Step>,
}

/// An object that is complete, with the duties of its events.
pub(super) struct Ready {
    pub(super) object: Object,
    pub(super) cargo: Cargo,
}

/// What a lane keeps with an object until it is stored.
pub(super) struct Cargo {
    pub(super) duties: Vec<Owed>,
    pub(super) via: crate::Via,
    pub(super) held: Held,
}

impl Begun {
    /// Gathers the log file; each object is given out once it is complete. An error ends it, and what is in no
    /// complete object stays owed.
    pub(super) async fn run(
        self,
        compute: Arc<dyn Compute>,
        out: mpsc::UnboundedSender<Ready>,
    ) -> Result<(), Reason> {
        let Self { mut gathering, mut place, mut orders } = self;
        let mut open: Vec<Owed> = Vec::new();
        let mut via = None;
        while let Some(step) = orders.recv().await {
            let parcel = match step {
                Step::Events(parcel, duties) => {
                    open.extend(duties);
                    via = Some(parcel.file().via);
                    Some(parcel)
                }
                Step::End => None,
            };
            let has_ended = parcel.is_none();
            let work = run_on(&*compute, move || {
                let mut complete = Vec::new();
                let result = match parcel {
                    Some(parcel) => gathering.add(&parcel, &mut complete),
                    None => gathering.finish(&mut complete),
                };
                (gathering, complete, result)
            });
            let (back, complete, result) = work.await.ok_or_else(died)?;
            gathering = back;
            result?;
            for object in complete {
                let (due, rest) = open.into_iter().partition(|duty| object.events.contains(duty.index()));
                open = rest;
                let held = Held::new(&place.held.stats, memory_bytes(&object, &due));
                if let (Some(via), false) = (via, due.is_empty()) {
                    let _ = out.send(Ready { object, cargo: Cargo { duties: due, via, held } });
                }
            }
            place.held.set(gathering.memory_bytes().max(PLACE_BYTES));
            if has_ended || place.is_too_much() {
                return Ok(());
            }
        }
        Ok(())
    }
}

fn memory_bytes(object: &Object, duties: &[Owed]) -> u64 {
    (object.bytes.len() + size_of_val(object.times.as_slice()) + size_of_val(duties)) as u64
}

fn died() -> Reason {
    Reason::new(ReasonCode::Other, "a worker died on a log file: please report this")
}
