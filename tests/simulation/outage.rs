//! One sink down for two hours while log files keep coming, beside the same two hours with all sinks up.
//!
//! No network is simulated and nothing else goes wrong: what is asked is whether the other sinks notice. Log files come
//! in waves, as fast as they can be read, so that whatever delays one of them shows in the time that a wave takes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_s3::config::{Credentials, SharedAsyncSleep, SharedCredentialsProvider};
use aws_smithy_async::rt::sleep::TokioSleep;
use aws_smithy_async::time::{SharedTimeSource, TimeSource};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use bytes::Bytes;
use sinks::ports::{Clock as _, Transport};
use sinks::{Answer, Head, Reason, ReasonCode};
use testkit::aws::{Aws, AwsOptions, BucketOptions, MessageHistory, Notification, NotifyKind};
use testkit::destinations::SplunkHecOptions;
use testkit::generate::{Generator, LogFileSample};
use testkit::ledger::{Ledger, QueueEvidence, Report, SinkRule, judge};
use testkit::ports::{InlineCompute, SeededRandom, SimulatedClock};
use testkit::random::Rng;
use testkit::time::Time;
use trailship::simulation::{Agent, Ports, Transports};

use crate::disk::ForgetfulDisk;
use crate::network::{Peer, answer, request, sdk_request, sdk_response};
use crate::stage::{BUCKET, HANDOFF_QUEUE, PORTS, QUEUE, Sink, destinations};

/// How long the sink is down.
const OUTAGE: Duration = Duration::from_secs(2 * 3600);

/// The one that is down, and those that are not.
const BROKEN: Sink = Sink::SplunkHec;
pub(crate) const HEALTHY: [Sink; 3] = [Sink::Elasticsearch, Sink::Loggly, Sink::SumoLogic];

/// What a request to AWS takes, one way; and one to a destination.
const AWS_TIME: Duration = Duration::from_millis(10);
const SINK_TIME: Duration = Duration::from_millis(15);

/// How often it is looked whether a wave is over.
const LOOK: Duration = Duration::from_millis(20);

/// At least so many log files come at once, in at most so many waves.
const WAVE_MIN: usize = 500;
const WAVES_MAX: usize = 24;

/// When every run begins: as the generator's log files do.
const EPOCH_S: u64 = 1_714_564_800;

/// How a run of two hours went.
pub(crate) struct Played {
    /// How long the healthy sinks took for the log files of each wave.
    pub(crate) waves: Vec<Duration>,
    /// From the end of the outage until everything had arrived everywhere.
    pub(crate) recovered_after: Duration,
    /// The most bytes in flight, and the budget.
    pub(crate) memory: (u64, u64),
    /// The most notifications that the agent held.
    pub(crate) held_max: usize,
    /// Messages of hand-offs.
    pub(crate) handoffs: usize,
    /// Requests, by the name of the operation or the sink.
    pub(crate) requests: BTreeMap<String, u64>,
    /// Requests that the sink did not answer while it was down.
    pub(crate) struck: u64,
    pub(crate) report: Report,
}

/// Log files of one to three events, the same for every run.
pub(crate) fn log_files(count: usize) -> Vec<LogFileSample> {
    let (mut generator, mut rng) = (Generator::new(5).gzip_level(1), Rng::stream(5, 0x0A7));
    let file = |_| LogFileSample { json: Vec::new(), ..generator.log_file(1 + rng.below(3)) };
    (0..count).map(file).collect()
}

/// Plays two hours, with the sink down or not, and what comes after until all is delivered.
///
/// # Errors
/// What never came to an end.
pub(crate) fn play(files: &[LogFileSample], is_down: bool) -> Result<Played, String> {
    // Of the SDK's retries.
    fastrand::seed(5);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.map_err(|error| error.to_string())?.block_on(async {
        let scene = Scene::set(is_down).await;
        let agent = Arc::new(Agent::build(&scene.config(), scene.ports()).await?);
        let _ = scene.agent.set(Arc::clone(&agent));
        let running = tokio::spawn(async move { agent.run().await });
        let waves = scene.outage(files).await?;
        let recovered_after = scene.recover(files.len()).await?;
        if let Some(agent) = scene.agent.get() {
            agent.stop();
        }
        running.await.map_err(|error| error.to_string())??;
        Ok(scene.judge(waves, recovered_after))
    })
}

/// The world around the agent.
struct Scene {
    clock: SimulatedClock,
    aws: Aws,
    ledger: Arc<Ledger>,
    destinations: Vec<(Sink, Box<Peer>)>,
    sumo_url: String,
    agent: OnceLock<Arc<Agent>>,
    memory_max: AtomicU64,
    struck: AtomicU64,
    requests: Mutex<BTreeMap<String, u64>>,
    is_down: bool,
    /// The stand-ins listen here as well, where nobody asks them.
    _machine: Option<tokio::runtime::Runtime>,
}

impl Drop for Scene {
    fn drop(&mut self) {
        // It is not left by being dropped: that is not allowed where another runtime runs.
        if let Some(machine) = self._machine.take() {
            machine.shutdown_background();
        }
    }
}

impl Scene {
    async fn set(is_down: bool) -> Arc<Self> {
        let clock = SimulatedClock::new(EPOCH_S);
        let given = || {
            let clock = clock.clone();
            Time::given(move || clock.now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
        };
        let ledger = Arc::new(Ledger::with_time(given()));
        let (time, sinks) = (given(), Arc::clone(&ledger));
        let begun = std::thread::spawn(move || {
            let machine = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let (aws, all, sumo_url) = machine.block_on(async {
                let aws = Aws::start_at(AwsOptions::default(), time).await.unwrap();
                let (all, sumo_url) = destinations(&sinks, 5, false).await;
                (aws, all, sumo_url)
            });
            (machine, aws, all, sumo_url)
        });
        let (machine, aws, destinations, sumo_url) = begun.join().unwrap();
        aws.create_bucket(BUCKET, BucketOptions::default());
        aws.create_queue(QUEUE).redrive_to("notifications-dead", 100).unwrap();
        aws.create_queue(HANDOFF_QUEUE).redrive_to("notifications-dead", 100).unwrap();
        aws.notify(BUCKET, Notification::new(QUEUE, NotifyKind::S3)).unwrap();
        Arc::new(Self {
            clock,
            aws,
            ledger,
            destinations,
            sumo_url,
            agent: OnceLock::new(),
            memory_max: AtomicU64::new(0),
            struck: AtomicU64::new(0),
            requests: Mutex::default(),
            is_down,
            _machine: Some(machine),
        })
    }

    fn destination(&self, sink: Sink) -> &Peer {
        &**self.destinations.iter().find(|(of, _)| *of == sink).map(|(_, peer)| peer).unwrap()
    }

    fn config(&self) -> String {
        let [(_, s3), (_, sqs)] = PORTS;
        let token = SplunkHecOptions::default().token;
        let loggly = testkit::destinations::LogglyOptions::default().token;
        format!(
            r#"
            [agent]
            memory_budget = "4MiB"
            [agent.limits]
            event_bytes = "64KiB"
            [aws]
            region = "us-east-1"
            endpoints = {{ s3 = "http://127.0.0.1:{s3}", sqs = "http://127.0.0.1:{sqs}" }}
            [sources.trail]
            type = "sqs"
            queue_url = "http://127.0.0.1:{sqs}/111122223333/{QUEUE}"
            handoff_queue_url = "http://127.0.0.1:{sqs}/111122223333/{HANDOFF_QUEUE}"
            buckets = [{{ name = "{BUCKET}" }}]
            [dead_letter]
            type = "file"
            path = "dead-letters.ndjson"
            [sinks.elasticsearch]
            type = "elasticsearch"
            endpoints = ["http://127.0.0.1:9200"]
            [sinks.splunk_hec]
            type = "splunk_hec"
            endpoints = ["http://127.0.0.1:8088"]
            token = "{token}"
            retry = {{ give_up_after = "1m" }}
            [sinks.loggly]
            type = "loggly"
            endpoint = "http://127.0.0.1:8080"
            token = "{loggly}"
            [sinks.sumo_logic]
            type = "sumo_logic"
            url = "{}"
            "#,
            self.sumo_url
        )
    }

    fn ports(self: &Arc<Self>) -> Ports {
        Ports {
            compute: Arc::new(InlineCompute),
            clock: Arc::new(self.clock.clone()),
            random: Arc::new(SeededRandom::new(5)),
            disk: Arc::new(ForgetfulDisk::new(5)),
            aws: self.sdk(),
            transports: Arc::new(Doors(Arc::clone(self))),
        }
    }

    fn sdk(self: &Arc<Self>) -> SdkConfig {
        let credentials = Credentials::new("AKIDSIMULATION", "secret", None, None, "simulation");
        SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .http_client(Direct(Arc::clone(self)))
            .sleep_impl(SharedAsyncSleep::new(TokioSleep::new()))
            .time_source(SharedTimeSource::new(SdkClock(self.clock.clone())))
            .build()
    }

    /// Keeps in mind how much is in flight. Asked whenever something comes or goes.
    fn look(&self) {
        if let Some(agent) = self.agent.get() {
            self.memory_max.fetch_max(agent.memory().0, Ordering::Relaxed);
        }
    }

    /// Whether the sink is down, and if so whether nobody listens there or nobody answers.
    fn outage_now(&self) -> Option<bool> {
        let now = self.clock.monotonic();
        (self.is_down && now < OUTAGE).then_some(now < OUTAGE / 2)
    }

    /// Brings the log files in waves; gives how long the healthy sinks took for each.
    async fn outage(&self, files: &[LogFileSample]) -> Result<Vec<Duration>, String> {
        let count = (files.len() / WAVE_MIN).clamp(1, WAVES_MAX);
        let interval = OUTAGE / u32::try_from(count).unwrap_or(1);
        let mut waves = Vec::new();
        let mut issued = 0;
        for wave in files.chunks(files.len().div_ceil(count).max(1)) {
            let begin = self.clock.monotonic();
            issued += self.issue(wave);
            while HEALTHY.iter().any(|sink| self.destination(*sink).counts().stored < issued) {
                tokio::time::sleep(LOOK).await;
                self.look();
                if self.clock.monotonic() > begin + interval {
                    return Err(format!("wave {} of {count} did not end: {}", waves.len() + 1, self.stuck()));
                }
            }
            let took = self.clock.monotonic() - begin;
            waves.push(took);
            tokio::time::sleep(interval - took).await;
        }
        tokio::time::sleep(OUTAGE.saturating_sub(self.clock.monotonic())).await;
        Ok(waves)
    }

    fn issue(&self, files: &[LogFileSample]) -> u64 {
        let mut objects: Vec<(String, Bytes)> = Vec::new();
        let mut events = 0;
        for file in files {
            for event in &file.issued {
                let (index, id) = (event.index.into(), event.event_id.as_deref());
                self.ledger.issue(BUCKET, &file.key, index, id, event.sha256);
                events += 1;
            }
            objects.push((file.key.clone(), file.gz.clone().into()));
        }
        self.aws.put_objects(BUCKET, objects).unwrap();
        events
    }

    /// Waits until everything has arrived and no queue holds anything.
    async fn recover(&self, files: usize) -> Result<Duration, String> {
        let begin = self.clock.monotonic();
        // A fixed time, in which what waits is tried again, and one that grows with what there is to be read.
        let most =
            Duration::from_secs(1800) + Duration::from_millis(20) * u32::try_from(files).unwrap_or(u32::MAX);
        while self.messages_left() > 0 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            self.look();
            if self.clock.monotonic() > begin + most {
                return Err(format!("{} s after the outage: {}", most.as_secs(), self.stuck()));
            }
        }
        Ok(self.clock.monotonic() - begin)
    }

    fn messages_left(&self) -> u64 {
        let counts = [QUEUE, HANDOFF_QUEUE, "notifications-dead"].map(|queue| self.aws.queue(queue).counts());
        counts.iter().map(|counts| (counts.visible + counts.in_flight + counts.delayed) as u64).sum()
    }

    fn stuck(&self) -> String {
        let counts = [QUEUE, HANDOFF_QUEUE].map(|queue| self.aws.queue(queue).counts());
        let stored: Vec<_> =
            self.destinations.iter().map(|(sink, peer)| (sink, peer.counts().stored)).collect();
        format!("of {} events {stored:?} are stored; the queues hold {counts:?}", self.ledger.issued())
    }

    fn judge(&self, waves: Vec<Duration>, recovered_after: Duration) -> Played {
        let of = |queue| self.aws.queue(queue).messages();
        let (messages, handoffs) = (of(QUEUE), of(HANDOFF_QUEUE));
        let mut evidence = QueueEvidence::default();
        evidence.note_messages(messages.iter().chain(&handoffs)).unwrap();
        evidence.messages_left = self.messages_left();
        let rules = Sink::ALL.map(|sink| match sink {
            Sink::Elasticsearch => SinkRule::with_unique_ids(sink.name()),
            _ => SinkRule::new(sink.name()),
        });
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for (sink, peer) in &self.destinations {
            requests.insert(sink.name().to_owned(), peer.counts().requests);
        }
        let budget = self.agent.get().map_or(0, |agent| agent.memory().1);
        Played {
            waves,
            recovered_after,
            memory: (self.memory_max.load(Ordering::Relaxed), budget),
            held_max: held_max(&messages),
            handoffs: handoffs.len(),
            requests,
            struck: self.struck.load(Ordering::Relaxed),
            report: judge(&self.ledger, &rules, &evidence),
        }
    }
}

/// The most messages that were held at once.
fn held_max(messages: &[MessageHistory]) -> usize {
    let mut changes: Vec<(u64, i64)> = Vec::new();
    for delivery in messages.iter().flat_map(|message| &message.deliveries) {
        changes.push((delivery.at_ms, 1));
        changes.push((delivery.deleted_ms.unwrap_or(delivery.visible_ms), -1));
    }
    changes.sort_unstable();
    let mut held = 0;
    let peaks = changes.into_iter().map(|(_, change)| {
        held += change;
        held
    });
    usize::try_from(peaks.max().unwrap_or(0)).unwrap_or(0)
}

/// The SDK's clock.
#[derive(Debug)]
struct SdkClock(SimulatedClock);

impl TimeSource for SdkClock {
    fn now(&self) -> SystemTime {
        self.0.now()
    }
}

/// The SDK's way to AWS.
#[derive(Clone)]
struct Direct(Arc<Scene>);

impl std::fmt::Debug for Direct {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("direct")
    }
}

impl HttpClient for Direct {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for Direct {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let Self(scene) = self.clone();
        HttpConnectorFuture::new(async move { scene.ask(request).await })
    }
}

impl Scene {
    async fn ask(&self, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let request = sdk_request(request).await?;
        let operation = request.header("x-amz-target").unwrap_or("GetObject").replace("AmazonSQS.", "");
        *self.requests.lock().unwrap_or_else(PoisonError::into_inner).entry(operation).or_default() += 1;
        self.look();
        tokio::time::sleep(AWS_TIME).await;
        let response = self.aws.handler().handle(request).await;
        tokio::time::sleep(AWS_TIME + response.delay).await;
        self.look();
        sdk_response(response)
    }
}

/// The agent's ways to destinations.
struct Doors(Arc<Scene>);

impl Transports for Doors {
    fn transport(&self, sink: &str) -> Arc<dyn Transport> {
        let sink = Sink::ALL.into_iter().find(|of| of.name() == sink).unwrap();
        Arc::new(Door { scene: Arc::clone(&self.0), sink })
    }
}

struct Door {
    scene: Arc<Scene>,
    sink: Sink,
}

#[async_trait]
impl Transport for Door {
    async fn exchange(&self, head: Head, body: Bytes) -> Result<Answer, Reason> {
        self.scene.look();
        tokio::time::sleep(SINK_TIME).await;
        if let Some(is_refused) = self.scene.outage_now().filter(|_| self.sink == BROKEN) {
            self.scene.struck.fetch_add(1, Ordering::Relaxed);
            if is_refused {
                return Err(Reason::new(ReasonCode::Connection, "connection refused"));
            }
            tokio::time::sleep(Duration::from_secs(60)).await;
            return Err(Reason::new(ReasonCode::Timeout, "timed out"));
        }
        let mut sent = self.scene.destination(self.sink).act(request(head, body)).await;
        let response =
            std::mem::replace(&mut sent.response, testkit::http::Response::new(http::StatusCode::OK));
        tokio::time::sleep(SINK_TIME + response.delay).await;
        sent.arrived();
        self.scene.look();
        Ok(answer(response.status, &response.headers, response.body))
    }
}
