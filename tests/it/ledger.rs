//! What a sink has is not sent to it again, however often it is announced and whoever has sent it.

use std::fs;
use std::time::Duration;

use testkit::aws::{AwsFault, FaultRule, Notification, NotifyKind, QueueBehaviour};
use testkit::generate::{Generator, LogFileSample};

use crate::agent::Agent;
use crate::bench::{BUCKET, Bench, QUEUE, Setup};
use crate::config::{Config, Sink};

const TABLE: &str = "trailship-ledger";

/// The sinks to which every copy is a visible one.
const PLAIN: [Sink; 2] = [Sink::Loggly, Sink::File];

/// A configuration whose ledger is a table.
fn text(bench: &Bench, config: &Config) -> String {
    let with = format!("endpoints = {{ dynamodb = \"{}\", s3", bench.aws.url());
    let text = config.text(bench).replace("endpoints = { s3", &with);
    assert!(text.contains(&with));
    format!("{text}\n[ledger]\ntype = \"dynamodb\"\ntable = \"{TABLE}\"\n")
}

fn issue(bench: &Bench, generator: &mut Generator, files: usize) -> Vec<LogFileSample> {
    let samples: Vec<LogFileSample> = (0..files).map(|_| generator.log_file(20)).collect();
    samples.iter().for_each(|sample| bench.issue(sample));
    samples
}

fn announce_again(bench: &Bench, samples: &[LogFileSample]) {
    samples.iter().for_each(|sample| bench.aws.announce_again(BUCKET, &sample.key).unwrap());
}

/// CloudTrail's own message, which tells no version.
fn announce_keys(bench: &Bench, samples: &[LogFileSample]) {
    let keys: Vec<&str> = samples.iter().map(|sample| sample.key.as_str()).collect();
    let message = serde_json::json!({ "s3Bucket": BUCKET, "s3ObjectKey": keys }).to_string();
    bench.aws.queue(QUEUE).send_via_sns(&message).unwrap();
}

fn downloads(bench: &Bench) -> usize {
    bench.aws.object_requests().iter().filter(|request| request.operation == "GetObject").count()
}

async fn already_delivered(agent: &mut Agent, sink: Sink) -> u64 {
    let series =
        format!("trailship_sink_events_total{{outcome=\"already_delivered\",sink=\"{}\"}}", sink.name());
    agent.metric(&series).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_file_that_is_announced_again_once_it_is_done_is_neither_fetched_nor_sent() {
    let bench = Bench::start().await;
    let config = Config::of(&PLAIN);
    let mut agent = bench.run(&config);
    let samples = issue(&bench, &mut Generator::new(101), 40);
    bench.until_quiet(&mut agent).await;
    let (before, known) = (downloads(&bench), already_delivered(&mut agent, Sink::Loggly).await);
    let repeats = QueueBehaviour { duplicates: 0.2, ..QueueBehaviour::default() };
    bench.aws.queue(QUEUE).behave(repeats).unwrap();
    announce_again(&bench, &samples);
    announce_keys(&bench, &samples);
    bench.until_quiet(&mut agent).await;
    assert_eq!(downloads(&bench), before);
    let now = already_delivered(&mut agent, Sink::Loggly).await;
    assert!(now >= known + 2 * 800, "{known} before, {now} now");
    let offered = agent.metric("trailship_sink_events_offered_total{sink=\"loggly\"}").await;
    assert_eq!(
        offered,
        now + agent.metric("trailship_sink_events_total{outcome=\"delivered\",sink=\"loggly\"}").await
    );
    assert!(agent.stop().await.success());
    let report = bench.assert_passes(&config);
    assert!(report.sinks.iter().all(|sink| sink.duplicates_with_cause() == 0), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn announced_twice_and_repeated_by_the_queue_also_while_it_is_under_way_everything_arrives_once() {
    let queue = QueueBehaviour { shuffle: true, duplicates: 0.2, ..QueueBehaviour::default() };
    let bench = Bench::start_with(Setup { queue, ..Setup::default() }).await;
    bench.aws.notify(BUCKET, Notification::new(QUEUE, NotifyKind::EventBridge)).unwrap();
    let config = Config::of(&PLAIN);
    let mut agent = bench.run(&config);
    let samples = issue(&bench, &mut Generator::new(102), 300);
    bench.until_quiet(&mut agent).await;
    let known = already_delivered(&mut agent, Sink::Loggly).await;
    assert!(agent.stop().await.success());
    let report = bench.assert_passes(&config);
    // As often as the queue has handed it out in vain: the second announcement alone is once for every event.
    assert!(known >= samples.len() as u64 * 20, "{known}: {report}");
    assert!(report.sinks.iter().all(|sink| sink.duplicates_with_cause() == 0), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_agent_has_delivered_another_one_does_not_send_again() {
    let bench = Bench::start().await;
    bench.aws.create_table(TABLE, "id", Some("expires_at"));
    let config = Config::of(&PLAIN);
    let mut first = bench.run_text(&text(&bench, &config));
    let samples = issue(&bench, &mut Generator::new(103), 30);
    bench.until_quiet(&mut first).await;
    assert!(first.stop().await.success());
    let items = bench.aws.table_items(TABLE);
    assert_eq!(items.len(), 30);
    assert_eq!(items[0]["events"]["N"], "20");
    assert!(items[0]["id"]["S"].as_str().unwrap().starts_with("s3://trail/"), "{}", items[0]);
    assert_eq!(bench.aws.table_calls("GetItem"), 30);
    assert!(bench.aws.table_calls("UpdateItem") <= 60);

    let before = downloads(&bench);
    let mut second = bench.run_text(&text(&bench, &config));
    announce_again(&bench, &samples);
    announce_keys(&bench, &samples);
    bench.until_quiet(&mut second).await;
    assert_eq!((downloads(&bench), already_delivered(&mut second, Sink::File).await), (before, 1200));
    assert!(second.stop().await.success());
    let report = bench.assert_passes(&config);
    assert!(report.sinks.iter().all(|sink| sink.stored == 600), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_sink_and_one_that_goes_elsewhere_get_what_the_others_have() {
    let bench = Bench::start().await;
    bench.aws.create_table(TABLE, "id", Some("expires_at"));
    let before = text(&bench, &Config::of(&PLAIN));
    let mut agent = bench.run_text(&before);
    let samples = issue(&bench, &mut Generator::new(104), 10);
    bench.until_quiet(&mut agent).await;
    assert!(agent.stop().await.success());
    // How it is sent changes nothing, where it goes does.
    let slower = before
        .replace("path = \"out/events.ndjson\"", "path = \"out/events.ndjson\"\nbatch = { max_events = 7 }");
    let moved = before.replace("out/events.ndjson", "elsewhere/events.ndjson");
    let more = text(&bench, &Config::of(&[Sink::Loggly, Sink::File, Sink::SplunkHec]));
    let lines = |path: &str| fs::read_to_string(bench.path(path)).unwrap_or_default().lines().count();
    for (text, elsewhere, splunk) in [(slower, 0, 0), (moved, 200, 0), (more, 200, 200)] {
        let mut agent = bench.run_text(&text);
        announce_again(&bench, &samples);
        bench.until_quiet(&mut agent).await;
        assert!(agent.stop().await.success());
        assert_eq!((lines("out/events.ndjson"), bench.loggly.counts().stored), (200, 200));
        assert_eq!((lines("elsewhere/events.ndjson"), bench.splunk_hec.counts().stored), (elsewhere, splunk));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_version_under_the_same_key_is_delivered() {
    let bench = Bench::start().await;
    bench.aws.create_table(TABLE, "id", Some("expires_at"));
    let config = Config::of(&PLAIN);
    let mut agent = bench.run_text(&text(&bench, &config));
    let mut generator = Generator::new(105);
    let first = generator.log_file(20);
    bench.issue(&first);
    bench.until_quiet(&mut agent).await;
    let second = generator.log_file(30);
    bench.aws.put_object(BUCKET, &first.key, second.gz.clone()).unwrap();
    bench.until_quiet(&mut agent).await;
    announce_keys(&bench, std::slice::from_ref(&first));
    bench.until_quiet(&mut agent).await;
    assert_eq!(bench.loggly.counts().stored, 50);
    let items = bench.aws.table_items(TABLE);
    assert_eq!((items.len(), &items[0]["events"]["N"]), (1, &"30".into()));
    assert!(agent.stop().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_wrong_with_the_table_every_event_is_delivered() {
    let bench = Bench::start().await;
    let config = Config::of(&PLAIN);
    let mut generator = Generator::new(106);
    let started = tokio::time::Instant::now();
    let faults = [
        AwsFault::Throttle,
        AwsFault::Forbidden,
        AwsFault::ExpiredToken,
        AwsFault::InternalError,
        AwsFault::NeverAnswer,
        AwsFault::Refuse,
        AwsFault::LoseAnswer,
        AwsFault::Garbage,
        // There is no table at all.
        AwsFault::NotFound,
    ];
    let mut issued = 0;
    for fault in faults {
        if fault == AwsFault::Garbage {
            bench.aws.create_table(TABLE, "id", Some("expires_at"));
        }
        let rules =
            ["GetItem", "UpdateItem", "PutItem"].map(|name| bench.aws.inject(FaultRule::new(name, fault)));
        let mut agent = bench.run_text(&text(&bench, &config));
        issued += issue(&bench, &mut generator, 20).len() as u64 * 20;
        bench.until_quiet(&mut agent).await;
        assert_eq!(bench.loggly.counts().stored, issued, "{fault:?}");
        let failed = agent.metric("trailship_ledger_failures_total{operation=\"look\"}").await;
        assert!(failed > 0, "{fault:?}");
        let (code, ready) = agent.page("/readyz").await;
        assert_eq!(code, 200, "{ready}");
        assert!(agent.stop().await.success());
        assert!(!agent.coded("ledger_failing").is_empty(), "{fault:?}");
        assert!(bench.aws.fired(rules[0]) > 0, "{fault:?}");
        bench.aws.heal_all();
    }
    let report = bench.assert_passes(&config);
    assert!(report.sinks.iter().all(|sink| sink.duplicates_with_cause() == 0), "{report}");
    // Were every log file to wait for the table, it would be minutes.
    assert!(started.elapsed() < Duration::from_secs(120), "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_check_asks_the_table_and_changes_nothing() {
    let bench = Bench::start().await;
    fs::write(bench.path("trailship.toml"), text(&bench, &Config::of(&[Sink::File]))).unwrap();
    let check = || {
        let output = bench.command("check").output().unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.code(), text)
    };
    let (code, said) = check();
    assert!(code == Some(1) && said.contains("FAILED  ledger: ") && said.contains("see `table`"), "{said}");
    bench.aws.create_table(TABLE, "id", None);
    let (code, said) = check();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("warning ledger: its items never expire"), "{said}");
    for operation in ["GetItem", "UpdateItem", "PutItem"] {
        assert!(said.contains(&format!("ok      ledger {operation}: permitted")), "{said}");
    }
    assert_eq!(bench.aws.table_items(TABLE), Vec::<serde_json::Value>::new());
    let denied = bench.aws.inject(FaultRule::new("UpdateItem", AwsFault::Forbidden));
    let (code, said) = check();
    assert!(code == Some(1) && said.contains("allow dynamodb:UpdateItem on it"), "{said}");
    bench.aws.heal(denied);
    let moved = fs::read_to_string(bench.path("trailship.toml")).unwrap().replace(TABLE, "other-key");
    fs::write(bench.path("trailship.toml"), moved).unwrap();
    bench.aws.create_table("other-key", "name", Some("expires_at"));
    let (code, said) = check();
    assert!(code == Some(1) && said.contains("the table other-key has another key"), "{said}");
}
