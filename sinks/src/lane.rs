//! A lane: one sink's way from offered events to settled ones, independent of every other lane.
//!
//! **Invariant** Offering never blocks: a lane that cannot take an event leaves it owed, and the log file is
//! fetched again once the lane is open.

mod apart;
mod batcher;
mod confirm;
mod errand;
mod merge;
mod objects;
mod pass;
mod task;

use std::sync::Arc;
use std::time::Duration;

pub(crate) use confirm::Confirmations;
use tokio::sync::{Semaphore, SemaphorePermit, mpsc};
use tokio::task::JoinHandle;

use crate::dead_letter::DeadLetterStore;
use crate::delivery::{Courier, Item, LaneObserver, PROBES_MAX};
use crate::health::{Health, LaneState};
use crate::ports::{Clock, Compute, Random};
use crate::retry::RetryConfig;
use crate::settle::{Owed, Share};
use crate::stats::LaneStats;
use crate::{Event, ObjectSink, Parcel, Sink};

pub use pass::LanePass;
use pass::{Begun, Objects};

/// When a batch is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchConfig {
    /// Encoded, uncompressed bytes.
    pub bytes_max: usize,
    /// Events.
    pub events_max: usize,
    /// Age of its first event.
    pub age_max: Duration,
}

/// What a lane has to know.
#[derive(Clone, Debug)]
pub struct LaneConfig {
    /// The sink's name in the configuration.
    pub name: String,
    /// Its type.
    pub sink_type: String,
    /// When a batch is closed.
    pub batch: BatchConfig,
    /// Between tries.
    pub retry: RetryConfig,
    /// Fewest requests at once.
    pub concurrency_min: usize,
    /// Most requests at once.
    pub concurrency_max: usize,
    /// How long to wait for a confirmation, for destinations that confirm.
    pub ack_timeout: Duration,
    /// This lane's part of the memory budget, in bytes of log files.
    pub memory_part: u64,
}

/// The ports and collaborators of a lane.
#[derive(Clone)]
pub struct LanePorts {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Jitter.
    pub random: Arc<dyn Random>,
    /// Where refused events go.
    pub dead_letters: Arc<dyn DeadLetterStore>,
    /// Who is told.
    pub observer: Arc<dyn LaneObserver>,
}

/// A running lane.
pub struct Lane {
    config: LaneConfig,
    stats: Arc<LaneStats>,
    health: Arc<Health>,
    commands: mpsc::UnboundedSender<Command>,
    /// For a lane that stores objects.
    objects: Option<Arc<Objects>>,
    /// Passes that read log files again for this lane alone.
    passes: Semaphore,
    task: std::sync::Mutex<Option<JoinHandle<()>>>,
}

/// What a lane is told.
enum Command {
    Take(Vec<Item>),
    /// Make objects of a log file.
    Gather(Begun),
    /// Close the open batch at once.
    Flush,
    /// Close what waits for more, from now on whenever nothing is under way to it.
    Hurry,
    /// Let go of what is queued beyond half of the lane's part of the memory.
    Shed,
    /// Deliver what is there and end.
    Finish,
    /// Let go of everything and end.
    Abandon,
}

impl Lane {
    /// Starts a lane for `sink` on the current runtime.
    #[must_use]
    pub fn start(config: LaneConfig, sink: Arc<dyn Sink>, ports: LanePorts) -> Self {
        let health = Self::healthy(&config);
        let courier = Courier {
            name: config.name.clone(),
            sink_type: config.sink_type.clone(),
            sink,
            retry: config.retry,
            dead_letters: ports.dead_letters,
            clock: ports.clock,
            random: ports.random,
            health: Arc::clone(&health),
            observer: ports.observer,
            confirmations: Confirmations::default(),
        };
        let stats = Arc::new(LaneStats::default());
        let task = task::LaneTask::new(config.clone(), Arc::new(courier), Arc::clone(&stats));
        Self::run(config, stats, health, None, |orders| task.run(orders))
    }

    /// Starts a lane for a sink that stores objects, on the current runtime; they are made on `compute`.
    ///
    /// Its part of the memory is what log files take that are being gathered, and objects that wait. It is not
    /// charged to the budget of what is read: what is gathered needs more to be read until it is let go of.
    #[must_use]
    pub fn start_objects(
        config: LaneConfig,
        sink: Arc<dyn ObjectSink>,
        compute: Arc<dyn Compute>,
        ports: LanePorts,
    ) -> Self {
        let health = Self::healthy(&config);
        let courier = objects::ObjectCourier {
            config: config.clone(),
            sink: Arc::clone(&sink),
            compute: Arc::clone(&compute),
            clock: ports.clock,
            random: ports.random,
            health: Arc::clone(&health),
            observer: ports.observer,
        };
        let objects = Arc::new(Objects::new(sink, compute, config.memory_part));
        let task = objects::ObjectTask::new(courier, Arc::clone(&objects));
        Self::run(config, Arc::default(), health, Some(objects), |orders| task.run(orders))
    }

    fn healthy(config: &LaneConfig) -> Arc<Health> {
        let (least, most) = (config.concurrency_min, config.concurrency_max);
        Arc::new(Health::new(config.batch.bytes_max, least, most))
    }

    fn run<F: Future<Output = ()> + Send + 'static>(
        config: LaneConfig,
        stats: Arc<LaneStats>,
        health: Arc<Health>,
        objects: Option<Arc<Objects>>,
        task: impl FnOnce(mpsc::UnboundedReceiver<Command>) -> F,
    ) -> Self {
        let (commands, orders) = mpsc::unbounded_channel();
        let task = std::sync::Mutex::new(Some(tokio::spawn(task(orders))));
        let passes = Semaphore::new(config.concurrency_max.clamp(2, 8));
        Self { config, stats, health, commands, objects, passes, task }
    }

    /// Begins a pass over a log file; what is offered in it is offered for `share`.
    #[must_use]
    pub fn begin<'a>(&'a self, share: &'a Share) -> LanePass<'a> {
        LanePass::new(self, share)
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &LaneConfig {
        &self.config
    }

    /// What it counts.
    #[must_use]
    pub fn stats(&self) -> &Arc<LaneStats> {
        &self.stats
    }

    /// How it is.
    #[must_use]
    pub fn health(&self) -> &Arc<Health> {
        &self.health
    }

    /// Offers the events of a parcel that `share` still owes. Never blocks.
    ///
    /// A lane that does not accept takes nothing, or one event to probe with where it has too few of them. A lane that
    /// stores objects takes the parcel for a log file of its own: in a pass, use [`begin`](Self::begin).
    pub fn offer(&self, parcel: &Arc<Parcel>, share: &Share) {
        if self.objects.is_some() {
            let pass = self.begin(share).of_a_part(parcel);
            pass.offer(parcel);
            return pass.ended();
        }
        let state = self.health.state();
        let most = match state {
            LaneState::Open => usize::MAX,
            LaneState::Congested => return,
            LaneState::Unavailable(_) | LaneState::Denied(_) => {
                usize::from(self.stats.in_flight() < PROBES_MAX as u64)
            }
        };
        if most == 0 {
            return;
        }
        let owed_at = |(slot, record): (usize, cloudtrail::EventRef<'_>)| {
            share.owes(record.index()).then(|| (u32::try_from(slot).unwrap_or(u32::MAX), record.index()))
        };
        let wanted: Vec<(u32, u64)> =
            parcel.chunk().events().enumerate().filter_map(owed_at).take(most).collect();
        if wanted.is_empty() {
            return;
        }
        let indices: Vec<u64> = wanted.iter().map(|&(_, index)| index).collect();
        let duties = Owed::open(share, &self.stats, &indices, parcel.memory_bytes(1));
        let items = wanted.iter().zip(duties).filter_map(|(&(slot, _), owed)| {
            let event = Event::new(parcel, slot)?;
            Some(Item::new(event, owed?))
        });
        // A lane that has ended drops the items, and they stay owed.
        let _ = self.commands.send(Command::Take(items.collect()));
    }

    /// Whether the lane holds more than its part of the memory.
    #[must_use]
    pub fn is_over_its_part(&self) -> bool {
        self.stats.held_bytes() > self.config.memory_part
    }

    /// Makes the lane let go of what it has queued; its log files are fetched again later.
    pub fn shed(&self) {
        let _ = self.commands.send(Command::Shed);
    }

    /// Closes the open batch at once: memory is short.
    pub fn flush(&self) {
        let _ = self.commands.send(Command::Flush);
    }

    /// Tells that soon nothing more comes: what a lane that merges has waiting for more is stored as soon as nothing is
    /// on its way to it.
    pub fn hurry(&self) {
        let _ = self.commands.send(Command::Hurry);
    }

    /// Waits until the lane accepts, and takes one of the few places for reading a log file again.
    ///
    /// `None` once the lane has ended.
    pub async fn admit_pass(&self) -> Option<SemaphorePermit<'_>> {
        loop {
            tokio::select! {
                biased;
                () = self.commands.closed() => return None,
                _ = self.health.wait_for(LaneState::is_open) => {}
            }
            let permit = self.passes.acquire().await.ok()?;
            if !self.is_running() {
                return None;
            }
            if self.health.state().is_open() {
                return Some(permit);
            }
        }
    }

    /// Waits until the lane holds less than its part of the memory, or does not accept any more.
    pub async fn room(&self, clock: &dyn Clock) {
        while self.is_over_its_part() && self.health.state().is_open() {
            self.flush();
            clock.sleep(Duration::from_millis(10)).await;
        }
    }

    /// Whether the lane's task still runs. One that died of a bug has released its events and takes no more; only a
    /// new process helps.
    #[must_use]
    pub fn is_running(&self) -> bool {
        !self.commands.is_closed()
    }

    /// Takes nothing more, delivers what is there, and ends; after `grace` it lets go of the rest.
    pub async fn finish(&self, grace: Duration, clock: &dyn Clock) {
        let task = self.task.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        let Some(mut task) = task else { return };
        let _ = self.commands.send(Command::Finish);
        tokio::select! {
            biased;
            _ = &mut task => return,
            () = clock.sleep(grace) => {}
        }
        let _ = self.commands.send(Command::Abandon);
        tokio::select! {
            biased;
            _ = &mut task => {}
            () = clock.sleep(Duration::from_secs(1)) => task.abort(),
        }
    }
}
