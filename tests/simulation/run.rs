//! One run of a seed: the agents on their hosts, what happens to them, and the judgement at the end.

mod host;
mod verdict;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use testkit::aws::FaultId;
use testkit::ledger::Report;
use turmoil::Sim;

use crate::faults::{Action, HUNG, TROUBLE_TIME, agents, plan};
use crate::network::{Traced, serve};
use crate::stage::{HANDOFF_QUEUE, PORTS, QUEUE, Sink, Stage};
use crate::trace::Fingerprint;
use host::{Host, Slot, software};

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
            // Every request has a connection of its own; a number that comes again may be that of one which a crash left
            // half open.
            .ephemeral_ports(1024..=u16::MAX)
            .build();
        for (host, _) in PORTS {
            let (handler, trace, time) =
                (stage.aws.handler(), Arc::clone(&stage.trace), Arc::clone(&stage.time));
            let handler = Arc::new(Traced { host, handler, trace, time });
            sim.host(host, move || serve(handler.clone()));
        }
        let mut hosts = Vec::new();
        for agent in 0..agents(stage.seed) {
            let host = Host::new(stage, agent);
            let (stage, disk, slot) = (Arc::clone(stage), host.disk.clone(), Arc::clone(&host.slot));
            let clock = Arc::clone(&host.clock);
            let starts = Arc::new(AtomicU64::new(0));
            sim.host(host.name.as_str(), move || {
                let start = starts.fetch_add(1, Ordering::Relaxed);
                software(
                    Arc::clone(&stage),
                    agent,
                    start,
                    disk.clone(),
                    Arc::clone(&clock),
                    Arc::clone(&slot),
                )
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
            Action::Name { agent, peer, is_unknown } => {
                stage.links.forget(agent, peer, is_unknown);
                let is_host = PORTS.iter().any(|(host, _)| *host == peer);
                self.disturb_link(agent, peer, is_host && is_unknown);
            }
            Action::Clock { agent, by_s } => self.hosts[agent].clock.set_wrong(by_s),
            Action::Disk { agent, is_full } => self.hosts[agent].disk.set_full(is_full),
            Action::GiveUp { receives_max } => stage.give_up_after(receives_max),
            Action::Redrive => self.strike("SQS gave up a message", stage.redrive()),
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
        let is_hung = self.modes.iter().any(|(name, _)| *name == HUNG);
        self.strike("SIGTERM", 1);
        self.strike("SIGTERM, a sink hangs", u64::from(is_hung));
    }

    /// Lets everybody run for one tick, and looks after the agents.
    fn turn(&mut self) -> Result<(), String> {
        self.sim.step().map_err(|error| error.to_string())?;
        let now = self.now();
        self.stage.time.set_outside(now);
        for agent in 0..self.hosts.len() {
            self.look_after(agent, now)?;
        }
        let is_disturbed = |host: &Host| !host.is_up() || host.clock.is_too_wrong();
        if self.rules_now > 0 || !self.links_now.is_empty() || self.hosts.iter().any(is_disturbed) {
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
        self.strike("SQS gave up a message", self.stage.redrive());
        for host in &self.hosts {
            host.disk.keep_power();
            host.disk.set_full(false);
            host.clock.set_wrong(0);
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
}
