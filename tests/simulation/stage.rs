//! Everything around the agents of one run: AWS and destinations, the ledger, the links and the trace.

use std::sync::{Arc, Mutex, PoisonError};

use sinks::ports::Transport;
use testkit::aws::{Aws, AwsOptions, BucketOptions, Notification, NotifyKind, QueueBehaviour};
use testkit::destinations::{
    Destination, Elasticsearch, ElasticsearchOptions, Loggly, LogglyOptions, SplunkHec, SplunkHecOptions,
    SumoLogic, SumoLogicOptions,
};
use testkit::generate::Generator;
use testkit::ledger::Ledger;
use testkit::random::Rng;
use testkit::time::Time;
use trailship::simulation::Transports;

use crate::network::{Links, Peer, Way};
use crate::time::VirtualTime;
use crate::trace::Trace;

/// The bucket that log files lie in.
pub(crate) const BUCKET: &str = "trail";
/// The queue of notifications.
pub(crate) const QUEUE: &str = "notifications";
const DEAD_QUEUE: &str = "notifications-dead";
/// The queue of hand-offs, where they have one of their own.
pub(crate) const HANDOFF_QUEUE: &str = "handoffs";

/// Crashes and outages are many here, and nothing is to be given up for them.
const RECEIVES_MAX: u32 = 1000;

/// The hosts of AWS, and the ports by which configurations name them.
pub(crate) const PORTS: [(&str, u16); 2] = [("s3", 4001), ("sqs", 4002)];

/// The sinks; each is named as its stand-in is in the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sink {
    Elasticsearch,
    SplunkHec,
    Loggly,
    SumoLogic,
}

impl Sink {
    pub(crate) const ALL: [Self; 4] = [Self::Elasticsearch, Self::SplunkHec, Self::Loggly, Self::SumoLogic];

    /// Its name in the configuration and in the ledger, which is also its type.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Elasticsearch => "elasticsearch",
            Self::SplunkHec => "splunk_hec",
            Self::Loggly => "loggly",
            Self::SumoLogic => "sumo_logic",
        }
    }
}

/// Everything around the agents.
pub(crate) struct Stage {
    pub(crate) seed: u64,
    pub(crate) time: Arc<VirtualTime>,
    pub(crate) aws: Aws,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) links: Arc<Links>,
    pub(crate) trace: Arc<Trace>,
    destinations: Vec<(Sink, Box<Peer>)>,
    /// Whether Splunk confirms.
    acks: bool,
    sumo_url: String,
    generator: Mutex<Generator>,
    keys: Mutex<Vec<String>>,
    /// The stand-ins listen here as well, where nobody asks them.
    _machine: tokio::runtime::Runtime,
}

impl Stage {
    /// Sets the stage for a seed.
    pub(crate) fn set(seed: u64, shown: bool) -> Self {
        let time = Arc::new(VirtualTime::default());
        let mut rng = Rng::stream(seed, 0x57A6E);
        let acks = rng.chance(0.5);
        let machine = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let given = |time: &Arc<VirtualTime>| {
            let time = Arc::clone(time);
            Time::given(move || time.since_1970())
        };
        let ledger = Arc::new(Ledger::with_time(given(&time)));
        let (aws, destinations, sumo_url) = machine.block_on(async {
            let options = AwsOptions { seed, ..AwsOptions::default() };
            let aws = Aws::start_at(options, given(&time)).await.unwrap();
            let (destinations, sumo_url) = destinations(&ledger, seed, acks).await;
            (aws, destinations, sumo_url)
        });
        prepare(&aws, &mut rng);
        Self {
            seed,
            aws,
            links: Arc::default(),
            trace: Arc::new(Trace::new(Arc::clone(&time), shown)),
            time,
            ledger,
            destinations,
            acks,
            sumo_url,
            generator: Mutex::new(Generator::new(seed)),
            keys: Mutex::default(),
            _machine: machine,
        }
    }

    /// The stand-in for a sink.
    pub(crate) fn destination(&self, sink: Sink) -> Option<&Destination> {
        self.destinations.iter().find(|(of, _)| *of == sink).map(|(_, peer)| &***peer)
    }

    /// Puts log files into the bucket, and with that their notifications on the queue.
    pub(crate) fn issue(&self, sizes: &[usize]) {
        let mut generator = self.generator.lock().unwrap_or_else(PoisonError::into_inner);
        let mut objects = Vec::new();
        for &size in sizes {
            let file = generator.log_file(size);
            for event in &file.issued {
                self.ledger.issue(
                    BUCKET,
                    &file.key,
                    event.index.into(),
                    event.event_id.as_deref(),
                    event.sha256,
                );
            }
            objects.push((file.key.clone(), file.gz.into()));
            self.keys.lock().unwrap_or_else(PoisonError::into_inner).push(file.key);
        }
        self.aws.put_objects(BUCKET, objects).unwrap();
    }

    /// Tells the queue of one of the log files again.
    pub(crate) fn announce_again(&self, which: usize) {
        let keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = keys.get(which % keys.len().max(1)) {
            self.aws.announce_again(BUCKET, key).unwrap();
        }
    }

    /// From now on the queue gives up messages that were received so often.
    pub(crate) fn give_up_after(&self, receives_max: u32) {
        self.aws.queue(QUEUE).redrive_to(DEAD_QUEUE, receives_max).unwrap();
    }

    /// The queue gives up nothing more, and what it gave up is put back. Gives how many messages that were.
    pub(crate) fn redrive(&self) -> u64 {
        self.give_up_after(RECEIVES_MAX);
        self.aws.queue(QUEUE).redrive().unwrap()
    }

    /// Whether the queues hold nothing in any state.
    pub(crate) fn is_quiet(&self) -> bool {
        self.messages_left() == 0
    }

    /// Messages that are left, those given up by the queue included.
    pub(crate) fn messages_left(&self) -> u64 {
        let counts = [QUEUE, HANDOFF_QUEUE, DEAD_QUEUE].map(|queue| self.aws.queue(queue).counts());
        counts.iter().map(|counts| (counts.visible + counts.in_flight + counts.delayed) as u64).sum()
    }

    /// A configuration; the seed draws what may vary.
    pub(crate) fn config(&self) -> String {
        let mut rng = Rng::stream(self.seed, 0xC0F);
        let [(_, s3), (_, sqs)] = PORTS;
        let handoffs = match Rng::stream(self.seed, 0x4A0).chance(0.5) {
            true => format!("handoff_queue_url = \"http://127.0.0.1:{sqs}/111122223333/{HANDOFF_QUEUE}\""),
            false => String::new(),
        };
        let ack = if self.acks { "ack = true\nack_timeout = \"15s\"" } else { "" };
        let mut text = format!(
            r#"
            [agent]
            memory_budget = "2240KiB"
            shutdown_grace = "{}s"
            [agent.limits]
            event_bytes = "64KiB"
            [aws]
            region = "us-east-1"
            endpoints = {{ s3 = "http://127.0.0.1:{s3}", sqs = "http://127.0.0.1:{sqs}" }}
            [sources.trail]
            type = "sqs"
            queue_url = "http://127.0.0.1:{sqs}/111122223333/{QUEUE}"
            {handoffs}
            buckets = [{{ name = "{BUCKET}", owner = "111122223333" }}]
            visibility_timeout = "30s"
            wait = "{}s"
            fetch_concurrency = {}
            [dead_letter]
            type = "file"
            path = "dead-letters.ndjson"
            [sinks.file]
            type = "file"
            path = "out/events.ndjson"
            rotate = {{ max_bytes = "256KiB" }}
            "#,
            [4, 8, 25][rng.below(3)],
            rng.below(21),
            1 + rng.below(8),
        );
        let tables = [
            (Sink::Elasticsearch, "endpoints = [\"http://127.0.0.1:9200\"]".to_owned()),
            (
                Sink::SplunkHec,
                format!(
                    "endpoints = [\"http://127.0.0.1:8088\"]\ntoken = \"{}\"\n{ack}",
                    SplunkHecOptions::default().token
                ),
            ),
            (
                Sink::Loggly,
                format!(
                    "endpoint = \"http://127.0.0.1:8080\"\ntoken = \"{}\"",
                    LogglyOptions::default().token
                ),
            ),
            (Sink::SumoLogic, format!("url = \"{}\"", self.sumo_url)),
        ];
        for (sink, own) in tables {
            let (name, most) = (sink.name(), 1 + rng.below(4));
            let (events, give_up) = (10 + rng.below(300), 10 + rng.below(50));
            text.push_str(&format!(
                "\n[sinks.{name}]\ntype = \"{name}\"\n{own}\nconcurrency = {{ min = 1, max = {most} }}\n\
                 batch = {{ max_bytes = \"128KiB\", max_events = {events}, max_age = \"500ms\" }}\n\
                 retry = {{ initial = \"200ms\", max = \"5s\", give_up_after = \"{give_up}s\" }}\n"
            ));
        }
        text
    }
}

/// The stand-ins for all sinks, and Sumo Logic's URL. They need a runtime that is not paused, to listen where nobody asks.
pub(crate) async fn destinations(
    ledger: &Arc<Ledger>,
    seed: u64,
    acks: bool,
) -> (Vec<(Sink, Box<Peer>)>, String) {
    let ledger = || Arc::clone(ledger);
    let elasticsearch = ElasticsearchOptions { seed, ..ElasticsearchOptions::default() };
    let ack_delay = std::time::Duration::ZERO;
    let splunk = SplunkHecOptions { seed, use_ack: acks, ack_delay, ..SplunkHecOptions::default() };
    let sumo = SumoLogicOptions { seed, ..SumoLogicOptions::default() };
    let elasticsearch = Elasticsearch::start(ledger(), elasticsearch).await.unwrap();
    let splunk = SplunkHec::start(ledger(), splunk).await.unwrap();
    let loggly = Loggly::start(ledger(), LogglyOptions { seed, ..LogglyOptions::default() }).await.unwrap();
    let sumo = SumoLogic::start(ledger(), sumo).await.unwrap();
    let path = sumo.source_url().replace(&sumo.url, "");
    let all: Vec<(Sink, Box<Peer>)> = vec![
        (Sink::Elasticsearch, Box::new(elasticsearch)),
        (Sink::SplunkHec, Box::new(splunk)),
        (Sink::Loggly, Box::new(loggly)),
        (Sink::SumoLogic, Box::new(sumo)),
    ];
    (all, format!("http://127.0.0.1:8081{path}"))
}

/// The bucket, the queue, and how one tells the other.
fn prepare(aws: &Aws, rng: &mut Rng) {
    aws.create_bucket(BUCKET, BucketOptions { versioned: rng.chance(0.5), ..BucketOptions::default() });
    let queue = aws.create_queue(QUEUE);
    queue.redrive_to(DEAD_QUEUE, RECEIVES_MAX).unwrap();
    let behaviour = QueueBehaviour {
        shuffle: rng.chance(0.7),
        duplicates: [0.0, 0.05, 0.3][rng.below(3)],
        duplicate_delay_ms: 20_000,
        partial_batches: rng.chance(0.5),
        ..QueueBehaviour::default()
    };
    queue.behave(behaviour).unwrap();
    let handoffs = aws.create_queue(HANDOFF_QUEUE);
    handoffs.redrive_to(DEAD_QUEUE, 1000).unwrap();
    handoffs.behave(behaviour).unwrap();
    let kinds = [
        NotifyKind::S3,
        NotifyKind::S3ViaSns,
        NotifyKind::EventBridge,
        NotifyKind::CloudTrailSns,
        NotifyKind::CloudTrailSnsRaw,
    ];
    aws.notify(BUCKET, Notification::new(QUEUE, kinds[rng.below(kinds.len())])).unwrap();
}

/// How one agent reaches destinations.
pub(crate) struct Ways {
    pub(crate) agent: usize,
    pub(crate) stage: Arc<Stage>,
    /// How often the agent was started: each start draws anew.
    pub(crate) start: u64,
}

impl Transports for Ways {
    fn transport(&self, sink: &str) -> Arc<dyn Transport> {
        let sink = Sink::ALL.into_iter().find(|of| of.name() == sink).unwrap();
        let stream = 0x3A1 + 64 * self.start + 8 * self.agent as u64 + sink as u64;
        let rng = Mutex::new(Rng::stream(self.stage.seed, stream));
        Arc::new(Way { agent: self.agent, sink, stage: Arc::clone(&self.stage), rng })
    }
}
