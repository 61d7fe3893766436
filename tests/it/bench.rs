//! The stand-ins of one test, what they were given, and the judge over what they saw.

use std::fs::{self, File};
use std::io::BufReader;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use testkit::aws::{Aws, AwsOptions, BucketOptions, Notification, NotifyKind, QueueBehaviour};
use testkit::destinations::{
    Auth, Counts, Destination, Elasticsearch, ElasticsearchOptions, Loggly, LogglyOptions, SplunkHec,
    SplunkHecOptions, SumoLogic, SumoLogicOptions,
};
use testkit::generate::{Generator, LogFileSample};
use testkit::ledger::{Additions, Ledger, QueueEvidence, Report, SinkRule, judge};

use crate::agent::{Agent, command};
use crate::config::{Config, Sink};

/// The bucket that log files lie in.
pub(crate) const BUCKET: &str = "trail";
/// The queue of notifications.
pub(crate) const QUEUE: &str = "notifications";
/// A queue for hand-offs alone, where the configuration names it.
pub(crate) const HANDOFF_QUEUE: &str = "handoffs";
/// Where its messages go that are received too often.
pub(crate) const DEAD_QUEUE: &str = "notifications-dead";

/// For the source of a test that moves the queue's clock: leases that do not lapse by that.
pub(crate) const PATIENT: &str = "visibility_timeout = \"4h\"";

/// A run in which nothing at all happens for this long has failed.
const PATIENCE: Duration = Duration::from_secs(120);
/// So has one that takes this long, whatever happens.
const PATIENCE_MAX: Duration = Duration::from_secs(480);

/// A client that asks no proxy: everything is on this machine.
pub(crate) fn http_client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

/// The secrets that the destinations ask for.
pub(crate) struct Secrets {
    pub(crate) api_key: String,
    pub(crate) splunk: String,
    pub(crate) loggly: String,
}

/// How the stand-ins are set up.
pub(crate) struct Setup {
    pub(crate) queue: QueueBehaviour,
    /// The queue's `maxReceiveCount`.
    pub(crate) receives_max: u32,
    pub(crate) elasticsearch: ElasticsearchOptions,
    pub(crate) splunk_hec: SplunkHecOptions,
    pub(crate) loggly: LogglyOptions,
    pub(crate) sumo_logic: SumoLogicOptions,
}

impl Default for Setup {
    fn default() -> Self {
        let auth = Auth::ApiKey("ZXhhbXBsZTprZXk=".to_owned());
        Self {
            queue: QueueBehaviour::default(),
            receives_max: 100,
            elasticsearch: ElasticsearchOptions { auth, ..ElasticsearchOptions::default() },
            splunk_hec: SplunkHecOptions::default(),
            loggly: LogglyOptions::default(),
            sumo_logic: SumoLogicOptions::default(),
        }
    }
}

/// Everything that one test runs against.
pub(crate) struct Bench {
    pub(crate) aws: Aws,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) elasticsearch: Elasticsearch,
    pub(crate) splunk_hec: SplunkHec,
    pub(crate) loggly: Loggly,
    pub(crate) sumo_logic: SumoLogic,
    pub(crate) secrets: Secrets,
    folder: TempDir,
    starts: AtomicUsize,
    watched: Vec<Box<dyn Fn() -> Counts + Send + Sync>>,
}

impl Bench {
    /// Starts the stand-ins as they are by default.
    pub(crate) async fn start() -> Self {
        Self::start_with(Setup::default()).await
    }

    /// Starts the stand-ins.
    pub(crate) async fn start_with(setup: Setup) -> Self {
        let ledger = Arc::new(Ledger::new());
        let aws = Aws::start(AwsOptions::default()).await.unwrap();
        aws.create_bucket(BUCKET, BucketOptions { versioned: true, ..BucketOptions::default() });
        aws.create_queue(QUEUE).redrive_to(DEAD_QUEUE, setup.receives_max).unwrap();
        aws.queue(QUEUE).behave(setup.queue).unwrap();
        aws.create_queue(HANDOFF_QUEUE);
        aws.notify(BUCKET, Notification::new(QUEUE, NotifyKind::S3)).unwrap();
        let api_key = match &setup.elasticsearch.auth {
            Auth::ApiKey(key) => key.clone(),
            _ => panic!("the tests' configuration has an API key"),
        };
        let secrets =
            Secrets { api_key, splunk: setup.splunk_hec.token.clone(), loggly: setup.loggly.token.clone() };
        Self {
            aws,
            elasticsearch: Elasticsearch::start(Arc::clone(&ledger), setup.elasticsearch).await.unwrap(),
            splunk_hec: SplunkHec::start(Arc::clone(&ledger), setup.splunk_hec).await.unwrap(),
            loggly: Loggly::start(Arc::clone(&ledger), setup.loggly).await.unwrap(),
            sumo_logic: SumoLogic::start(Arc::clone(&ledger), setup.sumo_logic).await.unwrap(),
            ledger,
            secrets,
            folder: tempfile::tempdir().unwrap(),
            starts: AtomicUsize::new(0),
            watched: Vec::new(),
        }
    }

    /// Counts of a further stand-in: as long as they change, the run goes on.
    pub(crate) fn watch(&mut self, counts: impl Fn() -> Counts + Send + Sync + 'static) {
        self.watched.push(Box::new(counts));
    }

    /// Installs the index template that is shipped.
    pub(crate) async fn install_template(&self) {
        let template = include_str!("../../deploy/elasticsearch/index-template.json");
        let url = format!("{}/_index_template/trailship-cloudtrail", self.elasticsearch.url);
        let request = http_client().put(url).body(template).header("content-type", "application/json");
        let request = request.header("authorization", format!("ApiKey {}", self.secrets.api_key));
        let answer = request.send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
    }

    /// A path below the folder that the agent runs in.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The stand-in for a sink; the sink `file` has none.
    pub(crate) fn destination(&self, sink: Sink) -> Option<&Destination> {
        match sink {
            Sink::Elasticsearch => Some(&self.elasticsearch),
            Sink::SplunkHec => Some(&self.splunk_hec),
            Sink::Loggly => Some(&self.loggly),
            Sink::SumoLogic => Some(&self.sumo_logic),
            Sink::File => None,
        }
    }

    /// Puts a log file into the bucket and tells the queue; every sink owes its events from now on.
    pub(crate) fn issue(&self, sample: &LogFileSample) {
        self.note(sample, &sample.key);
        self.aws.put_object(BUCKET, &sample.key, sample.gz.clone()).unwrap();
    }

    /// Notes that every sink owes the events of a log file.
    pub(crate) fn note(&self, sample: &LogFileSample, key: &str) {
        for event in &sample.issued {
            let id = event.event_id.as_deref();
            self.ledger.issue(BUCKET, key, event.index.into(), id, event.sha256);
        }
    }

    /// Puts log files of these sizes into the bucket, while everything else goes on.
    pub(crate) async fn issue_all(
        &self,
        generator: &mut Generator,
        sizes: impl IntoIterator<Item = usize>,
    ) -> u64 {
        let mut events = 0;
        for size in sizes {
            self.issue(&generator.log_file(size));
            events += size as u64;
            tokio::task::yield_now().await;
        }
        events
    }

    /// Starts `trailship run` with a configuration.
    pub(crate) fn run(&self, config: &Config) -> Agent {
        self.run_text(&config.text(self))
    }

    /// Starts `trailship run` with a configuration's text.
    pub(crate) fn run_text(&self, text: &str) -> Agent {
        fs::write(self.path("trailship.toml"), text).unwrap();
        self.run_command(self.command("run"))
    }

    /// The binary in the test's folder, with its first argument.
    pub(crate) fn command(&self, name: &str) -> Command {
        let mut command = command(self.folder.path());
        command.arg(name);
        command
    }

    /// `trailship run` behind a few words of shell, which set limits for it.
    #[cfg(target_os = "linux")]
    pub(crate) fn limited(&self, words: &str) -> Command {
        let plain = self.command("run");
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("{words} && exec \"$0\" run")).arg(plain.get_program());
        command.current_dir(self.folder.path()).env_clear();
        let known = plain.get_envs().filter_map(|(name, value)| Some((name, value?)));
        command.envs(known).stdin(std::process::Stdio::null());
        command
    }

    /// Starts a command; its log is `agent-1.log`, the next one's `agent-2.log`.
    pub(crate) fn run_command(&self, command: Command) -> Agent {
        let number = self.starts.fetch_add(1, Ordering::Relaxed) + 1;
        Agent::start(command, self.folder.path(), &format!("agent-{number}.log"))
    }

    /// Moves the clocks of the queue and of the ledger forward.
    pub(crate) fn advance(&self, by: Duration) {
        // The ledger first: what is delivered because of it must not seem to be older than what was before.
        self.ledger.advance(by);
        self.aws.advance(by);
    }

    /// Messages that the queue holds in any state, its dead-letter queue left out.
    pub(crate) fn messages(&self) -> usize {
        self.messages_on(QUEUE) + self.messages_on(HANDOFF_QUEUE)
    }

    /// Messages that one queue holds in any state.
    pub(crate) fn messages_on(&self, queue: &str) -> usize {
        let counts = self.aws.queue(queue).counts();
        counts.visible + counts.in_flight + counts.delayed
    }

    /// Hand-offs that are on a queue.
    pub(crate) fn handoffs_on(&self, queue: &str) -> Vec<cloudtrail::Handoff> {
        let bodies = self.aws.queue(queue).bodies();
        bodies.iter().filter_map(|body| cloudtrail::Handoff::read_list(body).ok()).flatten().collect()
    }

    /// Messages in the dead-letter queue.
    pub(crate) fn dead_messages(&self) -> usize {
        let counts = self.aws.queue(DEAD_QUEUE).counts();
        counts.visible + counts.in_flight + counts.delayed
    }

    /// Waits until the queue holds nothing: every event has its outcome at every sink.
    pub(crate) async fn until_quiet(&self, agent: &mut Agent) {
        self.until(agent, "the queue holds nothing", || self.messages() == 0).await;
    }

    /// The same where hand-offs wait on the queue: its clock is moved on whenever nothing else is left.
    pub(crate) async fn until_quiet_in_fast_time(&self, agent: &mut Agent) {
        let holds = || {
            let counts = [QUEUE, HANDOFF_QUEUE].map(|queue| self.aws.queue(queue).counts());
            if counts.iter().any(|counts| counts.delayed > 0)
                && counts.iter().all(|counts| counts.visible == 0)
            {
                self.advance(Duration::from_secs(5));
            }
            counts.iter().all(|counts| counts.is_empty())
        };
        self.until(agent, "the queues hold nothing", holds).await;
    }

    /// Waits for a condition, as long as anything moves.
    pub(crate) async fn until(&self, agent: &mut Agent, what: &str, mut holds: impl FnMut() -> bool) {
        let start = tokio::time::Instant::now();
        let (mut moved_at, mut last) = (start, self.progress());
        while !holds() {
            assert!(agent.runs(), "the agent has ended; waiting until {what}");
            let (now, progress) = (tokio::time::Instant::now(), self.progress());
            if progress != last {
                (moved_at, last) = (now, progress);
            }
            assert!(
                now - moved_at < PATIENCE && now - start < PATIENCE_MAX,
                "nothing moves any more; waiting until {what}; the queue: {:?}; the destinations: {:#?}",
                self.aws.queue(QUEUE).counts(),
                self.counts(),
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Changes as long as anything happens.
    fn progress(&self) -> (usize, usize, Vec<Counts>, u64) {
        let out = fs::metadata(self.path("out/events.ndjson")).map_or(0, |metadata| metadata.len());
        (self.messages(), self.dead_messages(), self.counts(), out)
    }

    fn counts(&self) -> Vec<Counts> {
        let known = Sink::ALL.iter().filter_map(|sink| self.destination(*sink)).map(Destination::counts);
        known.chain(self.watched.iter().map(|counts| counts())).collect()
    }

    /// The dead letters that were written.
    pub(crate) fn letters(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.path("dead-letters.ndjson")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Judges a run that is over: reads back the file sink's output and the dead letters. Once a bench.
    pub(crate) fn judge(&self, config: &Config) -> Report {
        let sinks = config.names();
        for file in self.files_in("out") {
            let file = BufReader::new(File::open(file).unwrap());
            self.ledger.read_lines(Sink::File.name(), Additions::PLAIN, file).unwrap();
        }
        if let Ok(letters) = File::open(self.path("dead-letters.ndjson")) {
            self.ledger.read_dead_letters(BufReader::new(letters), &sinks).unwrap();
        }
        let mut evidence = QueueEvidence::default();
        for queue in [QUEUE, HANDOFF_QUEUE] {
            evidence.note_messages(self.aws.queue(queue).messages()).unwrap();
        }
        evidence.messages_left = (self.messages() + self.dead_messages()) as u64;
        let rule = |name: &&str| match *name {
            "elasticsearch" | "parquet" => SinkRule::with_unique_ids(name),
            _ => SinkRule::new(name),
        };
        let rules: Vec<SinkRule> = sinks.iter().map(rule).collect();
        judge(&self.ledger, &rules, &evidence)
    }

    /// Judges a run that is over, and holds it to everything that is promised.
    #[track_caller]
    pub(crate) fn assert_passes(&self, config: &Config) -> Report {
        let report = self.judge(config);
        assert!(report.passes(), "{report}");
        assert!(report.sinks.iter().all(|sink| sink.issued > 0), "nothing was issued: {report}");
        report
    }

    fn files_in(&self, folder: &str) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.path(folder)) else { return Vec::new() };
        entries.map(|entry| entry.unwrap().path()).collect()
    }
}
