//! The agent: puts the parts of a checked configuration together and runs them.

mod ledger;
mod make;
mod pages;
mod ports;
mod queues;
mod state_lock;
mod supervise;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use sinks::ports::Files;
use sinks::{Budget, DeadLetterStore, LanePorts};
use tokio::sync::Semaphore;

use crate::aws::Aws;
use crate::config::{Bucket, Config, DeadLetter, Source, SourceKind};
use crate::dead_letters::DeadLetterStores;
use crate::lanes::Lanes;
use crate::ledger::{Deliveries, DeliveryLedger};
use crate::meter::{Counted, LaneMeter, SourceMeter};
use crate::sources::Stop;
use crate::sources::admit::AllowedBucket;
use crate::sources::bucket_pause::BucketPauses;
use crate::sources::directory::DirectorySource;
use crate::sources::shipped::Shipped;
use crate::status::Board;
use crate::telemetry::Metrics;
use crate::worker::{Owed, Plan, ReadSettings};
use ledger::open_ledger;
use make::lane_config;

pub use ledger::client as ledger_client;
pub use make::{MadeSink, Makers, transport};
pub use ports::{AppPorts, AwsAccess, Sockets, Wires};
pub use supervise::{Reloaded, Successors, supervise};

/// How long before the end of the grace lanes stop, so that what closed can still be acknowledged.
const ACKNOWLEDGE_TIME: Duration = Duration::from_secs(3);

/// The least time that lanes get, whatever the grace.
const SHORTEST_GRACE: Duration = Duration::from_millis(500);

/// Log files of a folder that are read at once.
const FOLDER_SLOTS: usize = 4;

/// Everything that runs.
pub struct App {
    pub config: Arc<Config>,
    pub plan: Arc<Plan>,
    pub metrics: Arc<Metrics>,
    pub identities: Arc<BTreeMap<String, Arc<Aws>>>,
    pub files: Arc<dyn Files>,
    /// Where each sink's events go, for display.
    pub endpoints: Vec<Vec<String>>,
    /// Buckets that refuse us.
    pub pauses: Arc<BucketPauses>,
    /// What of messages has ended, by source.
    shipped: BTreeMap<String, Arc<Shipped>>,
    /// Whether the admin pages are served.
    pages: bool,
    /// Whether it ends because another agent takes over.
    is_superseded: AtomicBool,
}

/// What a command decides for itself.
#[derive(Default)]
pub struct Choices {
    /// Where all refused events go, instead of the configured places.
    pub dead_letters: Option<Arc<dyn DeadLetterStore>>,
    /// Identities that are needed besides those that the configuration uses.
    pub identities: Vec<String>,
    /// What is known of deliveries, instead of an empty ledger.
    pub ledger: Option<Arc<dyn DeliveryLedger>>,
}

impl App {
    /// Builds everything but the sources.
    ///
    /// # Errors
    /// If a file that the configuration names cannot be read, or the system has no threads.
    pub async fn build(config: Config, metrics: Arc<Metrics>) -> anyhow::Result<Self> {
        Self::build_on(AppPorts::system()?, Choices::default(), config, metrics).await
    }

    /// The same on other ports than the system's, with choices that the configuration does not have.
    ///
    /// # Errors
    /// As [`build`](Self::build).
    pub async fn build_on(
        ports: AppPorts,
        choices: Choices,
        config: Config,
        metrics: Arc<Metrics>,
    ) -> anyhow::Result<Self> {
        let AppPorts { compute, clock, random, files, wires, aws, pages } = ports;
        let used = identities_used(&config, &choices.identities);
        let identities = Arc::new(aws.load_used(&config.aws, &used).await);
        let mut stores = DeadLetterStores::new(&files, &random, &identities);
        let dead_letters = stores.open(config.dead_letter.as_ref())?;
        let (budget, part) = parts_of_memory(&config);
        let mut lanes = Vec::new();
        let mut endpoints = Vec::new();
        let makers = Makers {
            compute: Arc::clone(&compute),
            clock: Arc::clone(&clock),
            random: Arc::clone(&random),
            files: Arc::clone(&files),
            wires,
            identities: Arc::clone(&identities),
        };
        for sink in &config.sinks {
            let (made, shown) = makers.sink(sink).with_context(|| format!("sinks.{}", sink.name))?;
            let observer = Arc::new(LaneMeter::new(&sink.name, Arc::clone(&metrics), Arc::clone(&clock)));
            let own_letters = sink.dead_letter.as_ref().or(config.dead_letter.as_ref());
            let lane_ports = LanePorts {
                clock: Arc::clone(&clock),
                random: Arc::clone(&random),
                dead_letters: match &choices.dead_letters {
                    Some(store) => Arc::clone(store),
                    None => stores.open(own_letters)?,
                },
                observer,
            };
            lanes.push(Arc::new(made.start(lane_config(sink, part), &compute, lane_ports)));
            endpoints.push(shown);
        }
        let ledger = match choices.ledger {
            Some(ledger) => ledger,
            None => open_ledger(&config, &identities, (&clock, &random), &metrics)?,
        };
        let deliveries = Deliveries::new(ledger, config.sinks.iter().map(|sink| sink.mark.clone()).collect());
        let plan = Plan {
            settings: read_settings(&config),
            lanes: Arc::new(Lanes::new(lanes, budget, Arc::clone(&clock))),
            compute,
            clock,
            random,
            dead_letters,
            required: config.sinks.iter().map(|sink| sink.required).collect(),
            owed: Owed::new(config.sinks.len()),
            deliveries,
        };
        Ok(Self {
            pauses: BucketPauses::new(Arc::clone(&metrics), Arc::clone(&plan.clock)),
            shipped: config.sources.iter().map(|source| (source.name.clone(), Arc::default())).collect(),
            config: Arc::new(config),
            plan: Arc::new(plan),
            metrics,
            identities,
            files,
            endpoints,
            pages,
            is_superseded: AtomicBool::new(false),
        })
    }

    /// Runs all sources and the admin pages until `stop`, then ends within the configured grace.
    ///
    /// # Errors
    /// As [`supervise`].
    pub async fn run(self: &Arc<Self>, stop: Stop) -> anyhow::Result<()> {
        supervise(Arc::clone(self), stop, &mut supervise::NoSuccessor).await
    }

    /// Runs all sources until `stop`, then ends within the configured grace.
    async fn ship(&self, meters: &[Arc<SourceMeter>], stop: &Stop) -> anyhow::Result<()> {
        let (ask, stopping) = Stop::pair();
        let (finish, finished) = Stop::pair();
        let slots: Vec<Slots> = self.config.sources.iter().map(Slots::of).collect();
        let mut running = Vec::new();
        for ((source, meter), slots) in self.config.sources.iter().zip(meters).zip(&slots) {
            let handoffs = source.handoff_name().and_then(|name| meters.iter().find(|of| of.name() == name));
            let meters = (Arc::clone(meter), handoffs.cloned());
            running.push(self.start_source(source, meters, &slots.free, &stopping, &finished)?);
        }
        let dead = tokio::select! {
            biased;
            () = stop.asked() => None,
            dead = self.dead_source(&running) => Some(dead),
        };
        let _ = ask.send(true);
        self.finish(&slots, &finish, running).await;
        dead.map_or(Ok(()), |name| Err(anyhow!("sources.{name} has died of a bug: please report this")))
    }

    /// Waits for a source that ends though nobody asked it to. Without it the agent would look well and do nothing.
    async fn dead_source(&self, running: &[tokio::task::JoinHandle<()>]) -> &str {
        loop {
            let mut sources = self.config.sources.iter().zip(running);
            if let Some((source, _)) = sources.find(|(_, task)| task.is_finished()) {
                return &source.name;
            }
            self.plan.clock.sleep(Duration::from_secs(1)).await;
        }
    }

    /// Delivers what is there, acknowledges it, and hands back the rest.
    async fn finish(
        &self,
        slots: &[Slots],
        finish: &tokio::sync::watch::Sender<bool>,
        running: Vec<tokio::task::JoinHandle<()>>,
    ) {
        let grace = self.config.agent.shutdown_grace.saturating_sub(ACKNOWLEDGE_TIME).max(SHORTEST_GRACE);
        let code = if self.is_superseded.load(Ordering::Relaxed) { "config_reloading" } else { "stopping" };
        tracing::info!(code, grace_seconds = grace.as_secs(), "finishing what has begun");
        // A log file that is being read is offered to the lanes yet: they may not end before.
        let clock = &self.plan.clock;
        let end = clock.monotonic() + grace;
        while slots.iter().any(|slots| !slots.are_free()) && clock.monotonic() < end {
            clock.sleep(Duration::from_millis(20)).await;
        }
        let rest = end.saturating_sub(clock.monotonic()).max(SHORTEST_GRACE);
        self.plan.lanes.finish(rest).await;
        // What the lanes settled last is acknowledged by the sources; those that have nothing left end by themselves.
        let idle = async {
            while running.iter().any(|task| !task.is_finished()) {
                self.plan.clock.sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::select! {
            biased;
            () = idle => {}
            () = self.plan.clock.sleep(ACKNOWLEDGE_TIME / 3) => {}
        }
        let _ = finish.send(true);
        for mut task in running {
            tokio::select! {
                biased;
                _ = &mut task => {}
                // Nothing of it may go on beside an agent that takes over.
                () = self.plan.clock.sleep(ACKNOWLEDGE_TIME / 2) => task.abort(),
            }
        }
    }

    /// The observer of a source.
    pub fn meter(&self, name: &str) -> SourceMeter {
        SourceMeter::new(name, self.sink_names(), Arc::clone(&self.metrics), Arc::clone(&self.plan.clock))
    }

    /// The observers of all sources.
    fn meters(&self) -> Vec<Arc<SourceMeter>> {
        self.config.source_names().iter().map(|name| Arc::new(self.meter(name))).collect()
    }

    /// The same of an agent that takes over: a source that stays as it was need not answer anew to be ready.
    fn meters_after(&self, old: &Self, old_meters: &[Arc<SourceMeter>]) -> Vec<Arc<SourceMeter>> {
        let kind = |app: &Self, meter: &SourceMeter| {
            let is_it = |source: &&Source| {
                source.name == meter.name() || source.handoff_name().as_deref() == Some(meter.name())
            };
            app.config.sources.iter().find(is_it).map(|source| source.kind.clone())
        };
        let meters = self.meters();
        for meter in &meters {
            let same = old_meters.iter().find(|before| before.name() == meter.name());
            if let Some(before) = same.filter(|before| kind(old, before) == kind(self, meter)) {
                meter.succeed(before);
            }
        }
        meters
    }

    /// The same agent, with what another one remembers that it takes over from.
    fn after(mut self, old: &Self) -> Self {
        let (before, now) = (old.sink_names(), self.sink_names());
        // A sink that is new owes what the others have.
        if now.iter().all(|sink| before.contains(sink)) {
            let place = |app: &Self, name: &str| {
                let source = app.config.sources.iter().find(|source| source.name == name);
                source.and_then(|source| match &source.kind {
                    SourceKind::Sqs(sqs) => Some(sqs.queue_url.clone()),
                    SourceKind::Directory(_) => None,
                })
            };
            for (name, shipped) in &old.shipped {
                if place(&self, name).is_some() && place(&self, name) == place(old, name) {
                    self.shipped.insert(name.clone(), Arc::clone(shipped));
                }
            }
        }
        self
    }

    /// What the admin pages show of it.
    fn board(&self, sources: &[Arc<SourceMeter>]) -> Board {
        Board {
            config: Arc::clone(&self.config),
            plan: Arc::clone(&self.plan),
            metrics: Arc::clone(&self.metrics),
            sources: sources.to_vec(),
            places: self.endpoints.clone(),
            counted: Counted::default(),
            pauses: Arc::clone(&self.pauses),
        }
    }

    /// The sinks' names, in the order of the lanes.
    pub fn sink_names(&self) -> Vec<String> {
        self.config.sinks.iter().map(|sink| sink.name.clone()).collect()
    }

    fn identity(&self, name: &str) -> anyhow::Result<&Arc<Aws>> {
        self.identities.get(name).ok_or_else(|| anyhow!("no AWS identity `{name}`"))
    }

    fn allow(&self, rule: &Bucket) -> anyhow::Result<AllowedBucket> {
        Ok(AllowedBucket { rule: rule.clone(), aws: Arc::clone(self.identity(&rule.aws)?) })
    }

    fn start_source(
        &self,
        source: &Source,
        (meter, handoffs): (Arc<SourceMeter>, Option<Arc<SourceMeter>>),
        slots: &Arc<Semaphore>,
        stop: &Stop,
        finished: &Stop,
    ) -> anyhow::Result<tokio::task::JoinHandle<()>> {
        let (stop, finished) = (stop.clone(), finished.clone());
        match &source.kind {
            SourceKind::Sqs(sqs) => self.start_queues(source, sqs, (meter, handoffs), slots, stop, finished),
            SourceKind::Directory(directory) => {
                let done_path = self.config.agent.state_dir.join(format!("directory-{}.ndjson", source.name));
                let source = Arc::new(DirectorySource {
                    name: source.name.clone(),
                    config: directory.clone(),
                    filter: source.filter.clone(),
                    labels: source.labels.clone(),
                    plan: Arc::clone(&self.plan),
                    meter,
                    files: Arc::clone(&self.files),
                    done_path,
                    slots: Arc::clone(slots),
                });
                Ok(tokio::spawn(source.run(stop, finished)))
            }
        }
    }
}

/// The log files of one source that may be read at once.
struct Slots {
    free: Arc<Semaphore>,
    all: usize,
}

impl Slots {
    fn of(source: &Source) -> Self {
        let all = match &source.kind {
            SourceKind::Sqs(sqs) => sqs.fetch_concurrency,
            SourceKind::Directory(_) => FOLDER_SLOTS,
        };
        Self { free: Arc::new(Semaphore::new(all)), all }
    }

    /// Whether no log file is being read for the first time, and no request for messages is under way.
    fn are_free(&self) -> bool {
        self.free.available_permits() == self.all
    }
}

/// The budget for what is read, and each lane's part. What a sink gathers to store it as an object is in memory beside
/// what is read, and has its part for itself.
fn parts_of_memory(config: &Config) -> (Budget, u64) {
    let gathers = |sink: &&crate::config::SinkConfig| sinks::destinations::gathers(&sink.type_name);
    let gathering = config.sinks.iter().filter(gathers).count() as u64;
    let parts = (config.sinks.len() as u64 + gathering).max(1);
    let part = config.agent.memory_budget / parts;
    (Budget::new(config.agent.memory_budget - part * gathering), part)
}

fn read_settings(config: &Config) -> ReadSettings {
    let limits = &config.agent.limits;
    let usize_of = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    ReadSettings {
        limits: cloudtrail::Limits {
            inflated_bytes_max: limits.log_file_bytes,
            ratio_max: limits.ratio,
            event_bytes_max: usize_of(limits.event_bytes),
            depth_max: limits.depth,
            ..cloudtrail::Limits::default()
        },
        fronts: Arc::new(cloudtrail::ConsoleFrontEnds(config.agent.console_front_ends.clone())),
        ..ReadSettings::default()
    }
}

/// The identities that something in the configuration uses.
pub async fn load_identities(config: &Config) -> BTreeMap<String, Arc<Aws>> {
    AwsAccess::Chain.load_used(&config.aws, &identities_used(config, &[])).await
}

/// Their names, and those of `others`.
fn identities_used<'a>(config: &'a Config, others: &'a [String]) -> Vec<&'a str> {
    let mut used: Vec<&str> = others.iter().map(String::as_str).collect();
    for source in &config.sources {
        if let SourceKind::Sqs(sqs) = &source.kind {
            used.push(&sqs.aws);
            used.extend(sqs.buckets.iter().map(|bucket| bucket.aws.as_str()));
        }
    }
    used.extend(config.sinks.iter().filter_map(|sink| sink.identity.as_deref()));
    used.extend(config.dead_letters().into_iter().filter_map(DeadLetter::identity));
    used.extend(config.ledger.table.as_ref().map(|table| table.aws.as_str()));
    used.extend(config.secrets().map(|secret| secret.aws.as_str()));
    used
}
