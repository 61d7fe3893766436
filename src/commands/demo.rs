//! `trailship demo`: the agent with everything that it needs in one process, without an account.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use cloudtrail::ActorKind;
use testkit::aws::{Aws, AwsOptions, BucketOptions, Notification, NotifyKind};
use testkit::destinations::{Destination, Destinations, LogglyOptions, SplunkHecOptions};
use testkit::generate::Generator;
use testkit::ledger::{Additions, Ledger, QueueEvidence, Report, SinkRule, judge};
use tokio::sync::watch;

use super::{Failure, say, stop_at_signals};
use crate::app::{App, AppPorts, AwsAccess, Choices};
use crate::cli::{Demo, EXIT_DONE, EXIT_FAILED};
use crate::config::{ConfigSource, Machine, load};
use crate::sources::Stop;
use crate::telemetry::{Metrics, init_logs};

const BUCKET: &str = "demo-trail";
const QUEUE: &str = "demo-notifications";

/// Between two log files, and between two reports.
const FILE_INTERVAL: Duration = Duration::from_millis(250);
const REPORT_INTERVAL: Duration = Duration::from_secs(3);

/// How long the last events may take after the end was asked for.
const DRAIN_TIME: Duration = Duration::from_secs(15);

/// Everything outside the agent.
struct Stage {
    aws: Aws,
    destinations: Destinations,
    ledger: Arc<Ledger>,
}

/// Runs the demonstration.
pub async fn demo(options: &Demo) -> Result<u8, Failure> {
    let folder = DemoFolder::create(options.keep)?;
    let stage = Stage::set(options.seed).await.context("the stand-ins cannot start")?;
    let text = config_text(&stage, free_port(options.port)?, folder.path());
    let source = ConfigSource::Document { name: "demo".to_owned(), text };
    let mut config = load(&source, &Machine::default()).map_err(|error| Failure::Usage(error.to_string()))?;
    // Of secrets that stand in the document: these are the stand-ins'.
    config.warnings.clear();
    init_logs(config.agent.log_format, config.agent.log_level);
    let sinks: Vec<String> = config.sinks.iter().map(|sink| sink.name.clone()).collect();
    let metrics = Arc::new(Metrics::new(&["demo".to_owned()], &sinks));
    let listen = config.agent.listen;
    let ports = AppPorts { aws: AwsAccess::Credentials(demo_credentials()), ..AppPorts::system()? };
    let app = Arc::new(App::build_on(ports, Choices::default(), config, Arc::clone(&metrics)).await?);
    introduce(&stage, listen, folder.path(), &sinks);

    let (ask, stop) = stop_at_signals();
    let (end, ended) = Stop::pair();
    let agent = app.run(ended);
    tokio::pin!(agent);
    tokio::select! {
        biased;
        result = &mut agent => result?,
        () = play(&stage, options, &app, &metrics, &ask, &stop) => {
            let _ = end.send(true);
            agent.await?;
        }
    }
    let report = stage.judge(folder.path())?;
    say("");
    for sink in &report.sinks {
        let twice = sink.duplicates_with_cause();
        let issued_is_delivered =
            if sink.stored == sink.issued && twice == 0 { "every event once" } else { "see below" };
        say(&format!(
            "  {:<14} issued {:>7}  delivered {:>7}  {issued_is_delivered}",
            sink.sink, sink.issued, sink.stored
        ));
    }
    if !report.passes() {
        say(&format!("\n{report}"));
    }
    if options.keep {
        say(&format!("\nwhat was written is in {}", folder.path().display()));
    }
    Ok(if report.passes() { EXIT_DONE } else { EXIT_FAILED })
}

impl Stage {
    async fn set(seed: u64) -> anyhow::Result<Self> {
        let aws = Aws::start(AwsOptions { seed, ..AwsOptions::default() }).await?;
        aws.create_queue(QUEUE);
        aws.create_bucket(BUCKET, BucketOptions::default());
        aws.notify(BUCKET, Notification::new(QUEUE, NotifyKind::S3))?;
        let ledger = Arc::new(Ledger::new());
        let destinations = Destinations::start(Arc::clone(&ledger)).await?;
        Ok(Self { aws, destinations, ledger })
    }

    /// Puts the next log file into the bucket; the events in it.
    fn deliver(&self, generator: &mut Generator) -> usize {
        let file = generator.next_file();
        for issued in &file.issued {
            let id = issued.event_id.as_deref();
            self.ledger.issue(BUCKET, &file.key, u64::from(issued.index), id, issued.sha256);
        }
        // The bucket exists as long as the stand-in.
        let _ = self.aws.put_object(BUCKET, &file.key, file.gz);
        file.issued.len()
    }

    fn is_drained(&self) -> bool {
        let counts = self.aws.queue(QUEUE).counts();
        counts.visible + counts.in_flight + counts.delayed == 0
    }

    /// Compares what was issued with what arrived, by the stand-ins' own evidence.
    fn judge(&self, folder: &Path) -> anyhow::Result<Report> {
        if let Ok(file) = std::fs::File::open(folder.join("events.ndjson")) {
            self.ledger.read_lines("file", Additions::PLAIN, std::io::BufReader::new(file))?;
        }
        let mut queue = QueueEvidence::default();
        queue.note_messages(self.aws.queue(QUEUE).messages())?;
        let rules = [
            SinkRule::new("file"),
            SinkRule::with_unique_ids("elasticsearch"),
            SinkRule::new("splunk_hec"),
            SinkRule::new("loggly"),
            SinkRule::new("sumo_logic"),
        ];
        Ok(judge(&self.ledger, &rules, &queue))
    }
}

/// Plays CloudTrail until the end is asked for, and then waits until the queue is empty.
async fn play(
    stage: &Stage,
    options: &Demo,
    app: &App,
    metrics: &Metrics,
    ask: &watch::Sender<bool>,
    stop: &Stop,
) {
    let clock = &app.plan.clock;
    let started = clock.monotonic();
    let start_s = clock.now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut generator = Generator::new(options.seed).starting_at(start_s);
    let mut reported = started;
    let mut issued = 0;
    while !stop.is_asked() {
        issued += stage.deliver(&mut generator);
        let now = clock.monotonic();
        if now.saturating_sub(reported) >= REPORT_INTERVAL {
            reported = now;
            progress(app, metrics, issued);
        }
        if options.seconds.is_some_and(|seconds| now.saturating_sub(started).as_secs() >= seconds) {
            let _ = ask.send(true);
        }
        tokio::select! {
            biased;
            () = clock.sleep(FILE_INTERVAL) => {}
            () = stop.asked() => {}
        }
    }
    say("\nstopping: waiting until what was issued has arrived …");
    let asked = clock.monotonic();
    while !stage.is_drained() && clock.monotonic().saturating_sub(asked) < DRAIN_TIME {
        clock.sleep(Duration::from_millis(100)).await;
    }
    progress(app, metrics, issued);
}

/// One line on how far it is, and who acted.
fn progress(app: &App, metrics: &Metrics, issued: usize) {
    let sinks = app.plan.lanes.all().iter().map(|lane| {
        let delivered = lane.stats().count(sinks::Outcome::Delivered);
        format!("{} {delivered}", lane.config().name)
    });
    let sinks: Vec<String> = sinks.collect();
    let mut actors: Vec<(u64, &str)> = ActorKind::ALL
        .iter()
        .map(|kind| {
            let labels = [kind.class().as_str(), kind.as_str()];
            (metrics.counter("events_by_actor_total", &labels).get(), kind.as_str())
        })
        .filter(|(count, _)| *count > 0)
        .collect();
    actors.sort_unstable_by(|a, b| b.cmp(a));
    let actors: Vec<String> = actors.iter().take(6).map(|(count, kind)| format!("{kind} {count}")).collect();
    say(&format!("issued {issued} · delivered: {} · actors: {}", sinks.join(", "), actors.join(", ")));
}

fn introduce(stage: &Stage, listen: std::net::SocketAddr, folder: &Path, sinks: &[String]) {
    say("trailship demo: log files appear in a bucket, a queue announces them, the agent ships them.\n");
    say(&format!("  status page    http://{listen}/"));
    say(&format!("  metrics        http://{listen}/metrics"));
    say(&format!("  file sink      {}", folder.join("events.ndjson").display()));
    say(&format!("  S3 and SQS     {}  (stand-in)", stage.aws.url()));
    let used = |destination: &&Destination| sinks.iter().any(|sink| sink == destination.sink());
    for destination in stage.destinations.all().into_iter().filter(used) {
        say(&format!("  {:<14} {}/_testkit/counts  (stand-in)", destination.sink(), destination.url));
    }
    say("\nctrl-C ends it.\n");
}

fn config_text(stage: &Stage, port: u16, folder: &Path) -> String {
    let path = |name: &str| folder.join(name).display().to_string().replace('\\', "/");
    let to = &stage.destinations;
    format!(
        r#"
[agent]
listen = "127.0.0.1:{port}"
state_dir = "{state}"
log_level = "warn"
shutdown_grace = "15s"
[aws]
region = "us-east-1"
[aws.endpoints]
s3 = "{aws}"
sqs = "{aws}"
sts = "{aws}"
[sources.demo]
type = "sqs"
queue_url = "{queue}"
buckets = [{{ name = "{BUCKET}", owner = "111122223333" }}]
[sinks.file]
type = "file"
path = "{events}"
[sinks.elasticsearch]
type = "elasticsearch"
endpoints = ["{elasticsearch}"]
[sinks.splunk_hec]
type = "splunk_hec"
endpoints = ["{splunk}"]
token = "{splunk_token}"
[sinks.loggly]
type = "loggly"
endpoint = "{loggly}"
token = "{loggly_token}"
[sinks.sumo_logic]
type = "sumo_logic"
url = "{sumo_logic}"
[dead_letter]
type = "file"
path = "{dead_letters}"
durable = true
"#,
        state = path("state"),
        aws = stage.aws.url(),
        queue = stage.aws.queue(QUEUE).url(),
        events = path("events.ndjson"),
        elasticsearch = to.elasticsearch.url,
        splunk = to.splunk_hec.url,
        splunk_token = SplunkHecOptions::default().token,
        loggly = to.loggly.url,
        loggly_token = LogglyOptions::default().token,
        sumo_logic = to.sumo_logic.source_url(),
        dead_letters = path("dead-letters.ndjson"),
    )
}

/// The port, or for 0 one that nobody listens on now: it is printed before the agent listens.
fn free_port(port: u16) -> anyhow::Result<u16> {
    if port != 0 {
        return Ok(port);
    }
    let listener = std::net::TcpListener::bind("127.0.0.1:0").context("no port is free")?;
    Ok(listener.local_addr()?.port())
}

/// The stand-in takes any credentials; the machine's own must not reach it.
fn demo_credentials() -> aws_sdk_sqs::config::Credentials {
    aws_sdk_sqs::config::Credentials::new("AKIADEMO", "demo", None, None, "demo")
}

/// A folder below the system's temporary one, removed at the end unless it is to be kept.
struct DemoFolder {
    path: std::path::PathBuf,
    keep: bool,
}

impl DemoFolder {
    fn create(keep: bool) -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("trailship-demo-{}", std::process::id()));
        // Whoever was there before, in a folder that all may write to, was not us.
        let mut folder = std::fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut folder, 0o700);
        folder.create(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self { path, keep })
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for DemoFolder {
    fn drop(&mut self) {
        if !self.keep {
            // What cannot be removed is in the temporary folder.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}
