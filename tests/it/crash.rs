//! `kill -9` at any moment loses nothing: two agents on one queue, killed under load and started again.

use std::collections::HashMap;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use testkit::aws::QueueBehaviour;
use testkit::destinations::{HttpAny, HttpAnyOptions};
use testkit::generate::Generator;
use testkit::ledger::{Cause, Report};
use testkit::random::Rng;

use crate::agent::Agent;
use crate::bench::{Bench, QUEUE, Setup};
use crate::config::{Config, Sink};

/// Log files that arrive before each kill.
const FILES: u64 = 30;
const BATCH: &str = "batch = { max_age = \"100ms\", max_events = 200 }";

/// How often an agent is killed, unless the variable says otherwise.
fn kills() -> u64 {
    let given = std::env::var("TRAILSHIP_TEST_KILLS").ok();
    given.map_or(20, |text| text.parse().expect("TRAILSHIP_TEST_KILLS is a number"))
}

/// One of the two agents: what it has for itself, and who it is to the queue.
struct Seat {
    agent: Agent,
    access_key: String,
}

impl Seat {
    /// Starts the agent of a seat. Each process has an access key of its own, by which the queue knows its messages.
    fn start(bench: &Bench, text: &str, seat: usize, start: u64) -> Self {
        let access_key = format!("AKIATESTKIT{start:09}");
        let text = text
            .replace("state_dir = \"state\"", &format!("state_dir = \"state-{seat}\""))
            .replace("out/events.ndjson", &format!("out/events-{seat}.ndjson"))
            .replace("dead-letters.ndjson", &format!("dead-letters-{seat}.ndjson"));
        let mut command = bench.command("run");
        command.env("TRAILSHIP_CONFIG_TOML", text).env("AWS_ACCESS_KEY_ID", &access_key);
        Self { agent: bench.run_command(command), access_key }
    }
}

/// What the kills came to.
#[derive(Default)]
struct Toll {
    /// Kills of an agent that held messages.
    under_load: u64,
    /// Events in the log files whose messages a killed agent held: what may be delivered again for that.
    held: u64,
    held_max: u64,
}

impl Toll {
    /// Books what a killed agent held, and gives it back to the queue, as the end of its leases would.
    fn collect(&mut self, bench: &Bench, access_key: &str, sizes: &HashMap<String, u64>) {
        let files = bench.aws.queue(QUEUE).lapse(access_key);
        let held: u64 = files.iter().map(|(_, key)| sizes[key]).sum();
        self.under_load += u64::from(held > 0);
        self.held += held;
        self.held_max = self.held_max.max(held);
    }

    /// A sink without ids gets at most again what the killed agents held.
    fn judge(&self, report: &Report, kills: u64) {
        let mut crashes = 0;
        for sink in report.sinks.iter().filter(|sink| !sink.unique_ids) {
            let of = |cause| sink.duplicates.get(&cause).copied().unwrap_or(0);
            crashes += of(Cause::Crash);
            let repeated = of(Cause::Crash) + of(Cause::AnswerLost);
            assert!(repeated <= self.held, "{}: {repeated} of {} held: {report}", sink.sink, self.held);
            let others = sink
                .duplicates
                .keys()
                .any(|cause| !matches!(cause, Cause::Crash | Cause::AnswerLost | Cause::SqsDuplicate));
            assert!(!others, "nothing but kills and the queue may repeat anything: {report}");
        }
        assert!(crashes > 0, "killed under load, they were to repeat something: {report}");
        assert!(self.under_load * 2 >= kills, "{} of {kills} kills met an agent at work", self.under_load);
    }
}

async fn start() -> (Bench, Config) {
    let queue = QueueBehaviour { shuffle: true, duplicates: 0.02, ..QueueBehaviour::default() };
    let mut bench = Bench::start_with(Setup { queue, ..Setup::default() }).await;
    let http = Arc::new(HttpAny::start(Arc::clone(&bench.ledger), HttpAnyOptions::default()).await.unwrap());
    let sinks = [Sink::Elasticsearch, Sink::SplunkHec, Sink::Loggly, Sink::File];
    let config = sinks.iter().fold(Config::new(), |config, sink| config.sink(*sink, BATCH));
    let config = config.other("http", &format!("type = \"http\"\nurl = \"{}/in\"\n{BATCH}", http.url));
    bench.watch(move || http.counts());
    #[cfg(feature = "parquet")]
    bench.aws.create_bucket(crate::parquet::LAKE, testkit::aws::BucketOptions::default());
    #[cfg(feature = "parquet")]
    let config = crate::parquet::with_bucket(config);
    (bench, config)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_random_under_load_two_agents_on_one_queue_lose_nothing_and_repeat_what_they_held() {
    let kills = kills();
    let (bench, config) = start().await;
    let text = config.text(&bench);
    let mut generator = Generator::new(8);
    let mut random = Rng::new(kills);
    let mut sizes: HashMap<String, u64> = HashMap::new();
    let stored = || bench.elasticsearch.counts().stored + bench.splunk_hec.counts().stored;
    let mut seats = [0, 1].map(|seat| Seat::start(&bench, &text, seat, seat as u64));
    let mut toll = Toll::default();
    let mut dead = Vec::new();
    for kill in 0..kills {
        let mut issued = 0;
        for file in 0..FILES {
            let sample = generator.log_file(generator.draw_file_size(kill * FILES + file));
            sizes.insert(sample.key.clone(), sample.issued.len() as u64);
            issued += sample.issued.len();
            bench.issue(&sample);
        }
        let victim = random.below(2);
        // Less than there is to deliver: no kill comes when all is done.
        let wanted = stored() + random.below(issued) as u64;
        let log = seats[victim].agent.log();
        let is_due = || stored() >= wanted && !log.coded("started").is_empty();
        bench.until(&mut seats[victim].agent, "it runs and some more events are stored", is_due).await;
        tokio::time::sleep(Duration::from_millis(random.below(60) as u64)).await;
        seats[victim].agent.kill();
        bench.ledger.crash();
        toll.collect(&bench, &seats[victim].access_key, &sizes);
        let next = Seat::start(&bench, &text, victim, 2 + kill);
        dead.push(std::mem::replace(&mut seats[victim], next).access_key);
    }
    // The queue may have been about to hand something to an agent when that was killed.
    let left = || {
        dead.iter().for_each(|access_key| drop(bench.aws.queue(QUEUE).lapse(access_key)));
        bench.messages()
    };
    bench.until(&mut seats[0].agent, "the queue holds nothing", || left() == 0).await;
    for seat in &mut seats {
        assert!(seat.agent.stop().await.success());
        assert!(seat.agent.coded("event_dead_lettered").is_empty());
    }

    #[cfg(feature = "parquet")]
    crate::parquet::testify_bucket(&bench);
    let report = bench.assert_passes(&config);
    let Toll { under_load, held, held_max } = toll;
    let _ = writeln!(
        std::io::stderr(),
        "{kills} kills, {under_load} of an agent at work; they held log files with {held} events, {held_max} at most\n\
         {report}"
    );
    toll.judge(&report, kills);
}
