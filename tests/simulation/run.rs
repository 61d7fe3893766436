//! One run of a seed: the agents on their hosts, what happens to them, and the judgement at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_s3::config::{Credentials, SharedAsyncSleep, SharedCredentialsProvider};
use aws_smithy_async::rt::sleep::TokioSleep;
use aws_smithy_async::time::SharedTimeSource;
use testkit::aws::{Delivery, FaultId, MessageHistory};
use testkit::ledger::{Additions, QueueEvidence, Report, SinkRule, judge};
use testkit::ports::{InlineCompute, SeededRandom};
use trailship::simulation::{Agent, Ports};
use turmoil::Sim;

use crate::disk::ForgetfulDisk;
use crate::faults::{Action, TROUBLE_TIME, agents, plan};
use crate::network::{SdkClient, Traced, serve};
use crate::stage::{HANDOFF_QUEUE, PORTS, QUEUE, Sink, Stage, Ways};
use crate::time::{SdkClock, VirtualClock};
use crate::trace::Fingerprint;

/// The length of a turn: everything on the network takes at least as long.
const TICK: Duration = Duration::from_millis(10);

/// Once nothing goes wrong any more, everything has arrived within this time.
const RECOVERY_TIME_MAX: Duration = Duration::from_secs(1800);

/// The longest grace of a configuration, and what the end takes beyond it.
const END_TIME_MAX: Duration = Duration::from_secs(25 + 5);

/// How a run went.
pub(crate) struct Outcome {
    pub(crate) fingerprint: Fingerprint,
    /// How often each fault struck.
    pub(crate) struck: BTreeMap<&'static str, u64>,
    /// Virtual time.
    pub(crate) took: Duration,
    /// From the end of the faults until everything had arrived.
    pub(crate) recovered_after: Duration,
    pub(crate) report: Report,
}

/// Runs a seed.
///
/// # Errors
/// What was promised and not kept.
pub(crate) fn run(seed: u64, shown: bool) -> Result<Outcome, String> {
    // Of the SDK's retries.
    fastrand::seed(seed);
    let stage = Arc::new(Stage::set(seed, shown));
    let mut run = Run::begin(&stage);
    run.trouble()?;
    run.heal();
    let recovered_after = run.recover()?;
    run.end()?;
    run.judge(recovered_after)
}

/// What the software on an agent's host has to tell.
#[derive(Default)]
struct Slot {
    agent: Option<Arc<Agent>>,
    ended: Option<Result<(), String>>,
}

/// One agent's host.
struct Host {
    name: String,
    disk: ForgetfulDisk,
    slot: Arc<Mutex<Slot>>,
    /// Not running, and when it will be again.
    back_at: Option<Duration>,
    /// Told to stop: until when it has to be over, and how long its successor takes.
    stopping: Option<(Duration, Duration)>,
}

impl Host {
    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_up(&self) -> bool {
        self.back_at.is_none() && self.stopping.is_none()
    }
}

struct Run {
    stage: Arc<Stage>,
    sim: Sim<'static>,
    hosts: Vec<Host>,
    struck: BTreeMap<&'static str, u64>,
    /// What destinations do wrong, and how often anything had struck them before.
    modes: Vec<(&'static str, u64)>,
    rules: Vec<(&'static str, FaultId)>,
    /// Calls of AWS that go wrong at the moment, and links to it that are cut or slow.
    rules_now: usize,
    links_now: BTreeSet<(usize, &'static str)>,
    /// When anything kept an agent from its queue or its bucket, or an agent from running.
    disturbed: Vec<(Duration, Duration)>,
}

impl Run {
    fn begin(stage: &Arc<Stage>) -> Self {
        let mut sim = turmoil::Builder::new()
            .rng_seed(stage.seed)
            .epoch(std::time::SystemTime::UNIX_EPOCH + stage.time.since_1970())
            .simulation_duration(Duration::from_secs(1_000_000))
            .tick_duration(TICK)
            .min_message_latency(Duration::from_millis(5))
            .max_message_latency(Duration::from_millis(60))
            .tcp_capacity(4096)
            .build();
        for (host, _) in PORTS {
            let (handler, trace) = (stage.aws.handler(), Arc::clone(&stage.trace));
            let handler = Arc::new(Traced { host, handler, trace });
            sim.host(host, move || serve(handler.clone()));
        }
        let mut hosts = Vec::new();
        for agent in 0..agents(stage.seed) {
            let host = Host {
                name: format!("agent-{agent}"),
                disk: ForgetfulDisk::new(stage.seed ^ agent as u64),
                slot: Arc::default(),
                back_at: None,
                stopping: None,
            };
            let (stage, disk, slot) = (Arc::clone(stage), host.disk.clone(), Arc::clone(&host.slot));
            let starts = Arc::new(AtomicU64::new(0));
            sim.host(host.name.as_str(), move || {
                let start = starts.fetch_add(1, Ordering::Relaxed);
                software(Arc::clone(&stage), agent, start, disk.clone(), Arc::clone(&slot))
            });
            hosts.push(host);
        }
        let modes = vec![("", 0); Sink::ALL.len()];
        Self {
            stage: Arc::clone(stage),
            sim,
            hosts,
            struck: BTreeMap::new(),
            modes,
            rules: Vec::new(),
            rules_now: 0,
            links_now: BTreeSet::new(),
            disturbed: Vec::new(),
        }
    }

    fn now(&self) -> Duration {
        self.sim.elapsed()
    }

    fn strike(&mut self, name: &'static str, times: u64) {
        *self.struck.entry(name).or_default() += times;
    }

    /// Plays everything that was drawn.
    fn trouble(&mut self) -> Result<(), String> {
        if self.hosts.len() > 1 {
            self.strike("two agents", 1);
        }
        for (at, action) in plan(self.stage.seed) {
            while self.now() < at {
                self.turn()?;
            }
            self.stage.trace.note(&format!("{action:?}"));
            self.act(action);
        }
        while self.now() < TROUBLE_TIME {
            self.turn()?;
        }
        Ok(())
    }

    fn act(&mut self, action: Action) {
        let stage = Arc::clone(&self.stage);
        match action {
            Action::Issue(sizes) => stage.issue(&sizes),
            Action::Announce(which) => {
                stage.announce_again(which);
                self.strike("announced again", 1);
            }
            Action::Crash { agent, machine, back_after } => {
                if self.hosts[agent].back_at.is_none() {
                    self.strike(if machine { "machine crashed" } else { "agent killed" }, 1);
                    self.crash(agent, machine, back_after);
                }
            }
            Action::CutPower { agent, operations } => self.hosts[agent].disk.cut_power_in(operations),
            Action::Stop { agent, back_after } => self.stop(agent, back_after),
            Action::Link { agent, peer, cut } => {
                stage.links.cut(agent, peer, cut);
                let is_host = PORTS.iter().any(|(host, _)| *host == peer);
                self.disturb_link(agent, peer, is_host && cut);
                match (is_host, cut) {
                    (true, true) => self.sim.partition(self.hosts[agent].name.as_str(), peer),
                    (true, false) => self.sim.repair(self.hosts[agent].name.as_str(), peer),
                    (false, _) => {}
                }
            }
            Action::Slow { agent, peer, by } => {
                stage.links.slow(agent, peer, by);
                let is_host = PORTS.iter().any(|(host, _)| *host == peer);
                self.disturb_link(agent, peer, is_host && !by.is_zero());
                if is_host {
                    let most = by + Duration::from_millis(60);
                    self.sim.set_link_max_message_latency(self.hosts[agent].name.as_str(), peer, most);
                }
            }
            Action::Sink { sink, name, mode } => self.set_mode(sink, name, mode),
            Action::Aws { name, rule } => {
                self.rules.push((name, stage.aws.inject(rule)));
                self.rules_now += 1;
            }
            Action::HealAws { name } => {
                self.rules_now -= 1;
                self.rules.iter().filter(|(of, _)| *of == name).for_each(|(_, id)| stage.aws.heal(*id));
            }
        }
    }

    fn disturb_link(&mut self, agent: usize, peer: &'static str, disturbed: bool) {
        if disturbed {
            self.links_now.insert((agent, peer))
        } else {
            self.links_now.remove(&(agent, peer))
        };
    }

    /// Changes what a destination does wrong, and counts what it has done.
    fn set_mode(&mut self, sink: Sink, name: &'static str, mode: testkit::destinations::Mode) {
        let Some(destination) = self.stage.destination(sink) else { return };
        let counts = destination.counts();
        // Slowness is no failure: every request is struck by it.
        let struck =
            counts.failures + if self.modes[sink as usize].0 == "sink is slow" { counts.requests } else { 0 };
        destination.set_mode(mode);
        let begun = counts.failures + if name == "sink is slow" { counts.requests } else { 0 };
        let (before, base) = std::mem::replace(&mut self.modes[sink as usize], (name, begun));
        if !before.is_empty() {
            self.strike(before, struck - base);
        }
    }

    fn crash(&mut self, agent: usize, machine: bool, back_after: Duration) {
        let back_at = self.now() + back_after;
        self.sim.crash(self.hosts[agent].name.as_str());
        let host = &mut self.hosts[agent];
        *host.slot() = Slot::default();
        if machine {
            host.disk.crash();
        }
        (host.back_at, host.stopping) = (Some(back_at), None);
        self.stage.ledger.crash();
    }

    fn stop(&mut self, agent: usize, back_after: Duration) {
        let now = self.now();
        let host = &mut self.hosts[agent];
        let Some(running) = host.slot().agent.clone().filter(|_| host.is_up()) else { return };
        running.stop();
        host.stopping = Some((now + END_TIME_MAX, back_after));
        self.strike("SIGTERM", 1);
    }

    /// Lets everybody run for one tick, and looks after the agents.
    fn turn(&mut self) -> Result<(), String> {
        self.sim.step().map_err(|error| error.to_string())?;
        let now = self.now();
        self.stage.time.set_outside(now);
        for agent in 0..self.hosts.len() {
            self.look_after(agent, now)?;
        }
        if self.rules_now > 0 || !self.links_now.is_empty() || !self.hosts.iter().all(Host::is_up) {
            match self.disturbed.last_mut() {
                Some((_, until)) if *until + TICK >= now => *until = now,
                _ => self.disturbed.push((now, now)),
            }
        }
        Ok(())
    }

    fn look_after(&mut self, agent: usize, now: Duration) -> Result<(), String> {
        let host = &mut self.hosts[agent];
        if host.back_at.is_some_and(|at| now >= at) {
            host.back_at = None;
            let name = host.name.clone();
            self.stage.trace.note(&format!("{name} starts"));
            self.sim.bounce(name.as_str());
            return Ok(());
        }
        if host.disk.is_dead() {
            self.strike("power cut", 1);
            self.stage.trace.note(&format!("agent-{agent}: the power is cut"));
            self.crash(agent, true, Duration::from_secs(2));
            return Ok(());
        }
        let slot = host.slot();
        if let Some((used, budget)) = slot.agent.as_ref().map(|agent| agent.memory())
            && used > budget
        {
            return Err(format!("{} has {used} bytes in flight, with a budget of {budget}", host.name));
        }
        match (slot.ended.clone(), host.stopping) {
            (Some(Err(error)), _) => return Err(format!("{} ended: {error}", host.name)),
            (Some(Ok(())), None) => return Err(format!("{} ended though nobody asked it to", host.name)),
            (Some(Ok(())), Some((_, back_after))) => {
                drop(slot);
                self.stage.trace.note(&format!("agent-{agent} has ended"));
                self.sim.crash(self.hosts[agent].name.as_str());
                let host = &mut self.hosts[agent];
                *host.slot() = Slot::default();
                (host.stopping, host.back_at) = (None, Some(now + back_after));
            }
            (None, Some((until, _))) if now > until => {
                return Err(format!("{} was told to stop and did not end within its grace", host.name));
            }
            _ => {}
        }
        Ok(())
    }

    /// From now on nothing goes wrong.
    fn heal(&mut self) {
        self.stage.trace.note("all is well");
        for sink in Sink::ALL {
            self.set_mode(sink, "", testkit::destinations::Mode::default());
        }
        self.stage.links.heal();
        self.links_now.clear();
        self.stage.aws.heal_all();
        self.rules_now = 0;
        for host in &self.hosts {
            host.disk.keep_power();
            for (peer, _) in PORTS {
                self.sim.repair(host.name.as_str(), peer);
                let most = Duration::from_millis(60);
                self.sim.set_link_max_message_latency(host.name.as_str(), peer, most);
            }
        }
    }

    /// Waits until the queue holds nothing.
    fn recover(&mut self) -> Result<Duration, String> {
        let begin = self.now();
        while !(self.hosts.iter().all(Host::is_up) && self.stage.is_quiet()) {
            for _ in 0..10 {
                self.turn()?;
            }
            if self.now() > begin + RECOVERY_TIME_MAX {
                return Err(self.stuck());
            }
        }
        Ok(self.now() - begin)
    }

    /// What is wrong where something stays on the queue.
    fn stuck(&self) -> String {
        let counts = [QUEUE, HANDOFF_QUEUE].map(|queue| self.stage.aws.queue(queue).counts());
        let mut text = format!("half an hour after the last fault the queues hold {counts:?}");
        for host in &self.hosts {
            let metrics = host.slot().agent.as_ref().map_or_else(String::new, |agent| agent.metrics());
            let telling = |line: &&str| line.contains("errors_total{") && !line.ends_with(" 0");
            metrics
                .lines()
                .filter(telling)
                .for_each(|line| text.push_str(&format!("\n{}: {line}", host.name)));
        }
        text
    }

    /// Ends the agents as SIGTERM does; then the machines lose power: what was acknowledged has to be on their disks.
    fn end(&mut self) -> Result<(), String> {
        for agent in 0..self.hosts.len() {
            self.stop(agent, Duration::from_secs(1_000_000));
        }
        while self.hosts.iter().any(|host| host.back_at.is_none()) {
            self.turn()?;
        }
        self.hosts.iter().for_each(|host| host.disk.crash());
        Ok(())
    }

    fn judge(mut self, recovered_after: Duration) -> Result<Outcome, String> {
        let ledger = &self.stage.ledger;
        let names: Vec<&str> = Sink::ALL.map(Sink::name).into_iter().chain(["file"]).collect();
        for host in &self.hosts {
            for content in host.disk.files("out").values() {
                ledger.read_lines("file", Additions::PLAIN, content.as_slice()).map_err(|e| e.to_string())?;
            }
            if let Some(letters) = host.disk.file("dead-letters.ndjson") {
                ledger.read_dead_letters(letters.as_slice(), &names).map_err(|error| error.to_string())?;
            }
        }
        let mut evidence = QueueEvidence::default();
        let queues = [QUEUE, HANDOFF_QUEUE].into_iter();
        let messages: Vec<_> = queues.flat_map(|queue| self.stage.aws.queue(queue).messages()).collect();
        evidence.note_messages(&messages).map_err(|error| error.to_string())?;
        evidence.messages_left = self.stage.messages_left();
        let rules: Vec<SinkRule> = names
            .iter()
            .map(|name| match *name {
                "elasticsearch" => SinkRule::with_unique_ids(name),
                _ => SinkRule::new(name),
            })
            .collect();
        let report = judge(ledger, &rules, &evidence);
        self.count(&messages);
        self.no_lease_lapsed_for_nothing(&messages)?;
        let fingerprint = self.stage.trace.fingerprint();
        if !report.passes() {
            return Err(format!("{report}\n{} lines, {}", fingerprint.lines, fingerprint.hash));
        }
        let took = self.now();
        Ok(Outcome { fingerprint, struck: self.struck, took, recovered_after, report })
    }

    /// A lease lapses only where something kept the agent from extending it, or from reading the log file.
    fn no_lease_lapsed_for_nothing(&self, messages: &[MessageHistory]) -> Result<(), String> {
        // What was disturbed may take as long as a lease until it is over.
        let slack = Duration::from_secs(30);
        let begin = self.stage.time.since_1970() - self.stage.time.now();
        let time = |at_ms: u64| Duration::from_millis(at_ms).saturating_sub(begin);
        for message in messages {
            for (at, delivery) in message.deliveries.iter().enumerate() {
                let mut later = message.deliveries[at + 1..].iter();
                let Some(next) = later.find(|later| later.copy == delivery.copy) else { continue };
                let (from, until) = (time(delivery.at_ms).saturating_sub(slack), time(next.at_ms));
                let explained = self.disturbed.iter().any(|&(begin, end)| begin <= until && from <= end);
                if !delivery.released && !explained {
                    return Err(format!(
                        "a lease lapsed for nothing: {delivery:?}, then {next:?}, of {:?}",
                        message.objects
                    ));
                }
            }
        }
        Ok(())
    }

    /// Counts what struck without having been ordered one by one.
    fn count(&mut self, messages: &[MessageHistory]) {
        let deliveries = || messages.iter().flat_map(|message| message.deliveries.iter());
        self.strike("SQS delivered twice", deliveries().filter(|delivery| delivery.copy > 0).count() as u64);
        self.strike("stale delete", deliveries().filter(|d| d.stale_delete_ms.is_some()).count() as u64);
        let lapsed = |d: &&Delivery| d.deleted_ms.is_none() && !d.released && d.extensions > 0;
        let handed_off = messages.iter().filter(|message| message.body.contains("trailship.handoff"));
        self.strike("handed off", handed_off.count() as u64);
        self.strike("lease lapsed", deliveries().filter(lapsed).count() as u64);
        for (peer, hits) in self.stage.links.hits() {
            let name = match peer {
                "s3" => "link to s3 cut",
                "sqs" => "link to sqs cut",
                "latency" => "latency",
                _ => "link to a sink cut",
            };
            self.strike(name, hits);
        }
        for (name, id) in self.rules.clone() {
            let fired = self.stage.aws.fired(id);
            self.strike(name, fired);
        }
    }
}

/// What runs on an agent's host, each time that it starts.
async fn software(
    stage: Arc<Stage>,
    agent: usize,
    start: u64,
    disk: ForgetfulDisk,
    slot: Arc<Mutex<Slot>>,
) -> turmoil::Result {
    let ports = Ports {
        compute: Arc::new(InlineCompute),
        clock: Arc::new(VirtualClock(Arc::clone(&stage.time))),
        random: Arc::new(SeededRandom::new(stage.seed ^ (start << 8 | agent as u64) << 32)),
        disk: Arc::new(disk),
        aws: sdk(&stage, agent),
        transports: Arc::new(Ways { agent, stage: Arc::clone(&stage), start }),
    };
    let built = Arc::new(Agent::build(&stage.config(), ports).await?);
    let lock = || slot.lock().unwrap_or_else(PoisonError::into_inner);
    lock().agent = Some(Arc::clone(&built));
    let result = built.run().await;
    lock().ended = Some(result);
    // The driver ends the process, and with it whatever still runs.
    std::future::pending().await
}

/// The SDK's settings on the simulated network and time.
fn sdk(stage: &Arc<Stage>, agent: usize) -> SdkConfig {
    let credentials = Credentials::new("AKIDSIMULATION", "secret", None, None, "simulation");
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .http_client(SdkClient { agent, links: Arc::clone(&stage.links) })
        .sleep_impl(SharedAsyncSleep::new(TokioSleep::new()))
        .time_source(SharedTimeSource::new(SdkClock(Arc::clone(&stage.time))))
        .build()
}
