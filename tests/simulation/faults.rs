//! What goes wrong in a run, and when: all of it drawn from the seed before the run begins.

use std::time::Duration;

use testkit::aws::{AwsFault, FaultRule};
use testkit::destinations::{Failure, Mode};
use testkit::random::Rng;

use crate::stage::{PORTS, Sink};

/// How long things go wrong; afterwards everything is well again.
pub(crate) const TROUBLE_TIME: Duration = Duration::from_secs(200);

/// One thing that happens.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    /// Log files appear, with so many events.
    Issue(Vec<usize>),
    /// A log file is announced again.
    Announce(usize),
    /// An agent's process is killed, or its whole machine; it is back after a time.
    Crash { agent: usize, machine: bool, back_after: Duration },
    /// The power of an agent's machine is cut after so many changes of its disk.
    CutPower { agent: usize, operations: u32 },
    /// An agent gets SIGTERM; its successor comes after a time.
    Stop { agent: usize, back_after: Duration },
    /// The link between an agent and a peer is cut, or mended.
    Link { agent: usize, peer: &'static str, cut: bool },
    /// Messages between an agent and a peer take up to so much longer from now on.
    Slow { agent: usize, peer: &'static str, by: Duration },
    /// A peer's name cannot be resolved, or can be again.
    Name { agent: usize, peer: &'static str, is_unknown: bool },
    /// An agent's wall clock is wrong by so many seconds from now on. Its monotonic clock goes on.
    Clock { agent: usize, by_s: i64 },
    /// An agent's disk is full, or no longer.
    Disk { agent: usize, is_full: bool },
    /// The queue gives up messages that were received so often.
    GiveUp { receives_max: u32 },
    /// What it gave up is put back, and it gives up nothing more.
    Redrive,
    /// A destination does something wrong from now on.
    Sink { sink: Sink, name: &'static str, mode: Mode },
    /// Calls of AWS go wrong from now on.
    Aws { name: &'static str, rule: FaultRule },
    /// They no longer do.
    HealAws { name: &'static str },
}

/// What destinations do wrong.
fn sink_faults() -> Vec<(&'static str, Mode)> {
    let of = |failure: Failure, share: f64| Mode { failure, share, ..Mode::default() };
    vec![
        ("sink answers 429", Mode { retry_after_s: Some(2), ..of(Failure::Status(429), 0.7) }),
        ("sink answers 503", of(Failure::Status(503), 0.8)),
        ("sink answers 401", Mode { everywhere: true, ..of(Failure::Status(401), 1.0) }),
        ("sink takes all, answer lost", of(Failure::AnswerLost, 0.5)),
        ("sink takes all, closes before the answer", of(Failure::Hangup, 0.5)),
        (HUNG, of(Failure::NeverAnswer, 0.5)),
        ("sink takes all, half an answer", of(Failure::HalfAnswer, 0.5)),
        ("sink takes all, garbage with 200", of(Failure::Garbage, 0.5)),
        ("sink takes all, short answer", of(Failure::ShortAnswer, 0.5)),
        ("sink resets the request", of(Failure::Reset, 0.6)),
        ("sink refuses some events", of(Failure::RefuseEvery(7), 1.0)),
        ("sink refuses every request", of(Failure::RefuseAll, 1.0)),
        ("sink throttles items", of(Failure::ItemsThrottled(0.4), 0.8)),
        ("sink is read only", of(Failure::ReadOnly(403), 1.0)),
        ("sink may have stored a part", of(Failure::PartlyStored, 0.5)),
        ("sink is slow", Mode { delay_ms: 3_000, ..of(Failure::None, 1.0) }),
    ]
}

/// What AWS does wrong.
fn aws_faults() -> Vec<(&'static str, FaultRule)> {
    let of = |operation: &str, fault, chance| FaultRule::new(operation, fault).probability(chance);
    let (receive, delete, change) = ("ReceiveMessage", "DeleteMessageBatch", EXTEND);
    vec![
        ("receive throttled", of(receive, AwsFault::Throttle, 0.7)),
        ("receive answer lost", of(receive, AwsFault::LoseAnswer, 0.5)),
        ("receive never answered", of(receive, AwsFault::NeverAnswer, 0.3)),
        ("receive error", of(receive, AwsFault::InternalError, 0.7)),
        ("receive garbage", of(receive, AwsFault::Garbage, 0.3)),
        ("delete throttled", of(delete, AwsFault::Throttle, 0.8)),
        ("delete answer lost", of(delete, AwsFault::LoseAnswer, 0.7)),
        ("delete fails in part", of(delete, AwsFault::FailEntries { percent: 50 }, 1.0)),
        ("delete refused", of(delete, AwsFault::Refuse, 0.8)),
        ("delete never answered", of(delete, AwsFault::NeverAnswer, 0.5)),
        ("delete error", of(delete, AwsFault::InternalError, 1.0)),
        ("extension error", of(change, AwsFault::InternalError, 1.0)),
        ("extension throttled", of(change, AwsFault::Throttle, 0.8)),
        ("extension never answered", of(change, AwsFault::NeverAnswer, 0.5)),
        ("extension fails in part", of(change, AwsFault::FailEntries { percent: 60 }, 1.0)),
        ("extension answer lost", of(change, AwsFault::LoseAnswer, 0.7)),
        ("hand-off throttled", of(SEND, AwsFault::Throttle, 0.7)),
        ("hand-off answer lost", of(SEND, AwsFault::LoseAnswer, 0.6)),
        ("hand-off not permitted", of(SEND, AwsFault::Forbidden, 0.8)),
        ("object 503", of("GetObject", AwsFault::Throttle, 0.7)),
        ("object 500", of("GetObject", AwsFault::InternalError, 0.6)),
        ("object cut short", of("GetObject", AwsFault::Truncate { bytes: None }, 0.6)),
        ("object reset", of("GetObject", AwsFault::ResetBody { bytes: None }, 0.6)),
        ("object with a wrong checksum", of("GetObject", AwsFault::WrongChecksum, 0.6)),
        ("object 404 at first", of("GetObject", AwsFault::NotFound, 0.8).times_per_key(2)),
        ("object 403", of("GetObject", AwsFault::Forbidden, 0.7)),
        ("object KMS 403", of("GetObject", AwsFault::KmsDenied, 0.7)),
        ("object slow", of("GetObject", AwsFault::Slow { bytes_per_second: 4_000 }, 0.5)),
        ("object answer lost", of("GetObject", AwsFault::LoseAnswer, 0.5)),
        ("object never answered", of("GetObject", AwsFault::NeverAnswer, 0.3)),
        ("object late", of("GetObject", AwsFault::Delay { ms: 12_000 }, 0.3)),
        ("token expired", of("*", AwsFault::ExpiredToken, 0.3)),
    ]
}

/// The call that extends leases.
const EXTEND: &str = "ChangeMessageVisibilityBatch";

/// What a destination does that an agent which has to end must not wait for.
pub(crate) const HUNG: &str = "sink takes all, never answers";

/// The call that enqueues hand-offs.
const SEND: &str = "SendMessage";

/// Every fault by name; a test shows that each of them fires.
pub(crate) fn names() -> Vec<&'static str> {
    let mut names = vec![
        "agent killed",
        "machine crashed",
        "power cut",
        "SIGTERM",
        "SIGTERM, a sink hangs",
        "two agents",
        "announced again",
        "link to s3 cut",
        "link to sqs cut",
        "link to a sink cut",
        "latency",
        "name not found",
        "clock wrong",
        "clock too wrong for AWS",
        "disk full",
        "disk full, dead letters",
        "SQS gave up a message",
        "SQS delivered twice",
        "lease lapsed",
        "handed off",
    ];
    names.extend(sink_faults().iter().map(|(name, _)| name));
    names.extend(aws_faults().iter().map(|(name, _)| name));
    names
}

/// How many agents read the queue of a run.
pub(crate) fn agents(seed: u64) -> usize {
    1 + Rng::stream(seed, 0xA6E).below(2)
}

/// Everything that happens in a run, in the order of time.
pub(crate) fn plan(seed: u64) -> Vec<(Duration, Action)> {
    let mut draw = Draw { rng: Rng::stream(seed, 0xFA0), agents: agents(seed), plan: Vec::new() };
    draw.log_files();
    for _ in 0..16 {
        match draw.rng.below(28) {
            0..=9 => draw.sink_fault(),
            10..=18 => draw.aws_fault(),
            19..=22 => draw.link_fault(),
            23 => draw.agent_fault(),
            24 => draw.clock_fault(),
            25 => draw.disk_fault(),
            26 => draw.queue_fault(),
            _ => draw.hung_fault(),
        }
    }
    draw.agent_fault();
    draw.plan.sort_by_key(|(at, _)| *at);
    draw.plan
}

struct Draw {
    rng: Rng,
    agents: usize,
    plan: Vec<(Duration, Action)>,
}

impl Draw {
    fn seconds(&mut self, from: usize, to: usize) -> Duration {
        Duration::from_millis((from * 1000 + self.rng.below((to - from) * 1000)) as u64)
    }

    /// A time to begin, and one to end.
    fn window(&mut self, longest: usize) -> (Duration, Duration) {
        let begin = self.seconds(1, 170);
        let end = begin + self.seconds(3, longest);
        (begin, end.min(TROUBLE_TIME))
    }

    fn log_files(&mut self) {
        for _ in 0..40 {
            let at = self.seconds(0, 190);
            let sizes = (0..1 + self.rng.below(3))
                .map(|_| 1 + self.rng.below(1 + self.rng.clone().below(40)))
                .collect();
            self.plan.push((at, Action::Issue(sizes)));
        }
        // One that the memory budget does not hold.
        let at = self.seconds(0, 190);
        self.plan.push((at, Action::Issue(vec![1600 + self.rng.below(400)])));
        for _ in 0..2 {
            let (at, which) = (self.seconds(20, 190), self.rng.below(1000));
            self.plan.push((at, Action::Announce(which)));
        }
    }

    fn sink_fault(&mut self) {
        let sink = Sink::ALL[self.rng.below(Sink::ALL.len())];
        let faults = sink_faults();
        let (name, mode) = faults[self.rng.below(faults.len())].clone();
        let (begin, end) = self.window(50);
        self.plan.push((begin, Action::Sink { sink, name, mode }));
        self.plan.push((end, Action::Sink { sink, name: "", mode: Mode::default() }));
    }

    fn aws_fault(&mut self) {
        let faults = aws_faults();
        let (name, rule) = faults[self.rng.below(faults.len())].clone();
        let (begin, mut end) = self.window(60);
        if rule.operation == EXTEND {
            // A lease is extended only where something takes long.
            end = TROUBLE_TIME.min(end.max(begin + Duration::from_secs(40)));
            let (sink, name) = (Sink::ALL[self.rng.below(Sink::ALL.len())], "sink answers 503");
            self.plan.push((begin, Action::Sink { sink, name, mode: Failure::Status(503).into() }));
            self.plan.push((end, Action::Sink { sink, name: "", mode: Mode::default() }));
        }
        if rule.operation == SEND {
            // Nothing is handed off but for a sink that is shut.
            let (sink, name) = (Sink::ALL[self.rng.below(Sink::ALL.len())], "sink answers 401");
            let mode = Mode { everywhere: true, ..Mode::from(Failure::Status(401)) };
            self.plan.push((begin, Action::Sink { sink, name, mode }));
            self.plan.push((end, Action::Sink { sink, name: "", mode: Mode::default() }));
        }
        self.plan.push((begin, Action::Aws { name, rule }));
        self.plan.push((end, Action::HealAws { name }));
    }

    fn link_fault(&mut self) {
        let agent = self.rng.below(self.agents);
        let peers: Vec<&'static str> =
            PORTS.iter().map(|(host, _)| *host).chain(Sink::ALL.map(Sink::name)).collect();
        let peer = peers[self.rng.below(peers.len())];
        let (begin, end) = self.window(70);
        let [now, later] = match self.rng.below(4) {
            0 => {
                let by = self.seconds(1, 6);
                [Action::Slow { agent, peer, by }, Action::Slow { agent, peer, by: Duration::ZERO }]
            }
            1 => [true, false].map(|is_unknown| Action::Name { agent, peer, is_unknown }),
            _ => [true, false].map(|cut| Action::Link { agent, peer, cut }),
        };
        self.plan.extend([(begin, now), (end, later)]);
    }

    fn clock_fault(&mut self) {
        let agent = self.rng.below(self.agents);
        // AWS bears a quarter of an hour.
        let by_s = [-100_000, -1_800, -240, 240, 1_800, 100_000][self.rng.below(6)];
        let (begin, end) = self.window(60);
        self.plan.push((begin, Action::Clock { agent, by_s }));
        self.plan.push((end, Action::Clock { agent, by_s: 0 }));
    }

    /// A full disk, while there is something to be written to the dead letters.
    fn disk_fault(&mut self) {
        let agent = self.rng.below(self.agents);
        let (begin, end) = self.window(50);
        let sink = Sink::ALL[self.rng.below(Sink::ALL.len())];
        let mode = Failure::RefuseEvery(3).into();
        self.plan.push((begin, Action::Disk { agent, is_full: true }));
        self.plan.push((begin, Action::Sink { sink, name: "sink refuses some events", mode }));
        self.plan.push((end, Action::Disk { agent, is_full: false }));
        self.plan.push((end, Action::Sink { sink, name: "", mode: Mode::default() }));
    }

    /// The queue gives up early, while agents are killed and leases lapse.
    fn queue_fault(&mut self) {
        let (begin, end) = self.window(90);
        let receives_max = 1 + self.rng.below(2) as u32;
        self.plan.push((begin, Action::GiveUp { receives_max }));
        self.plan.push((end, Action::Redrive));
        let agent = self.rng.below(self.agents);
        let (at, back_after) = (begin + self.seconds(1, 10), self.seconds(0, 12));
        self.plan.push((at, Action::Crash { agent, machine: false, back_after }));
    }

    /// An agent is told to stop while a destination does not answer.
    fn hung_fault(&mut self) {
        let (begin, end) = self.window(60);
        let (agent, sink) = (self.rng.below(self.agents), Sink::ALL[self.rng.below(Sink::ALL.len())]);
        let (at, back_after) = (begin + self.seconds(1, 8), self.seconds(0, 12));
        self.plan.push((begin, Action::Sink { sink, name: HUNG, mode: Failure::NeverAnswer.into() }));
        self.plan.push((at, Action::Stop { agent, back_after }));
        self.plan.push((end, Action::Sink { sink, name: "", mode: Mode::default() }));
    }

    fn agent_fault(&mut self) {
        let (agent, at) = (self.rng.below(self.agents), self.seconds(2, 195));
        let back_after = self.seconds(0, 12);
        let action = match self.rng.below(4) {
            0 => Action::Crash { agent, machine: false, back_after },
            1 => Action::Crash { agent, machine: true, back_after },
            2 => Action::CutPower { agent, operations: self.rng.below(12) as u32 },
            _ => Action::Stop { agent, back_after },
        };
        self.plan.push((at, action));
    }
}
