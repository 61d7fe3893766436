//! SIGHUP: a new configuration takes over with nothing lost, a bad one changes nothing and says so.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::time::Duration;

use cloudtrail::Timestamp;
use serde_json::Value;
use testkit::destinations::{Failure, Mode};
use testkit::generate::{Generator, LogFileSample};
use tokio::time::Instant;

use crate::agent::Agent;
use crate::bench::{Bench, QUEUE};
use crate::config::{Config, Sink};

fn rewrite(bench: &Bench, text: &str) {
    fs::write(bench.path("trailship.toml"), text).unwrap();
}

async fn status(agent: &mut Agent) -> Value {
    serde_json::from_str(&agent.page("/status").await.1).unwrap()
}

/// Issues log files of so many events, and gives them.
fn issue(bench: &Bench, generator: &mut Generator, files: usize, events: usize) -> Vec<LogFileSample> {
    let samples: Vec<_> = (0..files).map(|_| generator.log_file(events)).collect();
    samples.iter().for_each(|sample| bench.issue(sample));
    samples
}

/// When a log line was written, in milliseconds since 1970.
fn written_ms(line: &Value) -> u64 {
    let time = Timestamp::parse(line["timestamp"].as_str().unwrap()).unwrap();
    time.millis().try_into().unwrap()
}

/// The keys of log files that were done with by an agent that received nothing after this time.
fn done_before(bench: &Bench, end_ms: u64) -> HashSet<String> {
    let messages = bench.aws.queue(QUEUE).messages();
    let by_then = messages.into_iter().filter(|message| {
        let mut deliveries = message.deliveries.iter();
        deliveries.any(|delivery| delivery.deleted_ms.is_some() && delivery.at_ms < end_ms)
    });
    by_then.flat_map(|message| message.objects).map(|(_, key)| key).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configuration_that_cannot_be_used_changes_nothing_and_says_so() {
    let bench = Bench::start().await;
    let config = Config::of(&[Sink::Loggly]);
    let good = config.text(&bench);
    let mut agent = bench.run_text(&good);
    let mut generator = Generator::new(71);
    issue(&bench, &mut generator, 3, 5);
    bench.until_quiet(&mut agent).await;
    let before = status(&mut agent).await;
    assert_eq!(before["reload"], Value::Null);

    let folder_only = "[agent]\nstate_dir = \"state\"\nlisten = \"127.0.0.1:0\"\nlog_format = \"json\"\n\
                       [sinks.loggly]\ntype = \"file\"\npath = \"x\"\n";
    let bad = [
        (good.replace("\"loggly\"", "\"logly\""), "sinks.loggly.type"),
        (good.replace("[agent]", "[agent"), "trailship.toml:"),
        (good.replace("token = ", "tokem = "), "tokem"),
        (good.replace("token = \"", "token = \"${NOWHERE}"), "NOWHERE"),
        (format!("{good}\ntls = {{ ca_file = \"nowhere.pem\" }}\n"), "nowhere.pem"),
        (good.replace("\"127.0.0.1:0\"", "\"127.0.0.1:1\""), "agent.listen"),
        (good.replace("\"state\"", "\"elsewhere\""), "agent.state_dir"),
        (folder_only.to_owned(), "[sources."),
    ];
    for (number, (text, named)) in bad.iter().enumerate() {
        assert_ne!(*text, good, "{named}");
        rewrite(&bench, text);
        agent.hang_up();
        let line = agent.told("config_reload_failed", number + 1).await.pop().unwrap();
        assert_eq!(line["level"], "ERROR", "{line}");
        let why = line["why"].as_str().unwrap();
        assert!(why.contains(named) && !why.contains('\n'), "{named}: {line}");
        let now = status(&mut agent).await;
        assert_eq!(now["reload"]["problem"], why);
        assert_eq!(now["config_sha256"], before["config_sha256"]);
        assert_eq!(agent.metric("trailship_config_reload_success").await, 0);
    }
    issue(&bench, &mut generator, 3, 5);
    bench.until_quiet(&mut agent).await;
    assert_eq!(agent.page("/readyz").await.0, 200, "what is in force is well");

    rewrite(&bench, &format!("# The same again.\n{good}"));
    agent.hang_up();
    agent.told("config_unchanged", 1).await;
    assert_eq!(agent.metric("trailship_config_reload_success").await, 1);
    assert_eq!(status(&mut agent).await["reload"]["problem"], Value::Null);
    assert!(agent.coded("config_reloading").is_empty(), "nothing was to be stopped");
    assert!(agent.stop().await.success());
    bench.assert_passes(&config);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_load_a_sink_is_added_and_another_one_drained_and_nothing_is_lost() {
    let bench = Bench::start().await;
    let old = Config::of(&[Sink::Elasticsearch, Sink::SplunkHec, Sink::File]);
    let new = Config::of(&[Sink::Elasticsearch, Sink::SplunkHec, Sink::Loggly]);
    let mut generator = Generator::new(72);
    // Something is under way whenever the signal comes.
    bench.elasticsearch.set_mode(Mode { delay_ms: 150, ..Mode::default() });
    let mut samples = issue(&bench, &mut generator, 500, 20);
    let mut agent = bench.run(&old);
    let loaded = || bench.splunk_hec.counts().stored >= 1_000;
    bench.until(&mut agent, "it is under load", loaded).await;
    let old_sha256 = status(&mut agent).await["config_sha256"].clone();
    rewrite(&bench, &new.text(&bench));
    agent.hang_up();
    samples.extend(issue(&bench, &mut generator, 200, 20));
    let reloaded = agent.told("config_reloaded", 1).await.pop().unwrap();
    bench.until_quiet(&mut agent).await;

    let (code, metrics) = agent.page("/metrics").await;
    assert_eq!(code, 200);
    let sha256 = reloaded["sha256"].as_str().unwrap();
    assert_ne!(reloaded["sha256"], old_sha256);
    let infos: Vec<&str> = metrics.lines().filter(|line| line.starts_with("trailship_config_info")).collect();
    assert_eq!(infos, [format!("trailship_config_info{{sha256=\"{sha256}\"}} 1")]);
    assert!(!metrics.contains("trailship_sink_state{sink=\"file\""), "the state of a sink that is gone");
    // Counters go on, and add up.
    let total = samples.iter().map(|sample| sample.issued.len() as u64).sum::<u64>();
    assert!(agent.metric("trailship_events_read_total{pass=\"first\",source=\"trail\"}").await >= total);
    for sink in ["elasticsearch", "splunk_hec", "loggly", "file"] {
        let offered = sum(&metrics, "trailship_sink_events_offered_total", sink);
        let ended = sum(&metrics, "trailship_sink_events_total", sink);
        let in_flight = sum(&metrics, "trailship_sink_events_in_flight", sink);
        assert!(offered > 0 && offered == ended + in_flight, "{sink}: {offered}, {ended}, {in_flight}");
    }
    assert!(agent.stop().await.success());

    // What the old agent was done with is in the sink that went, and is not for the one that came.
    let by_old = done_before(&bench, written_ms(&reloaded));
    assert!(!by_old.is_empty() && by_old.len() < samples.len(), "{} of {}", by_old.len(), samples.len());
    let lines = lines_by_id(&fs::read_to_string(bench.path("out/events.ndjson")).unwrap());
    for sample in samples.iter().filter(|sample| by_old.contains(&sample.key)) {
        for event in &sample.issued {
            let id = event.event_id.as_deref().unwrap();
            assert!(lines.contains_key(id), "{id} of {} is not in the file", sample.key);
            bench.ledger.filter("loggly", crate::bench::BUCKET, &sample.key, event.index.into());
        }
    }
    assert!(bench.loggly.counts().stored > 0);
    bench.assert_passes(&new);
}

/// The sum of a metric's series of one sink; 0 where there is none.
fn sum(metrics: &str, name: &str, sink: &str) -> u64 {
    let label = format!("sink=\"{sink}\"");
    let of_sink =
        metrics.lines().filter(|line| line.starts_with(&format!("{name}{{")) && line.contains(&label));
    of_sink.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

/// How often each event stands in the file sink's output.
fn lines_by_id(text: &str) -> HashMap<String, u32> {
    let mut times = HashMap::new();
    for line in text.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        *times.entry(event["eventID"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
    }
    times
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_that_was_mended_is_taken_up_wherever_it_stands() {
    let bench = Bench::start().await;
    let config = Config::of(&[Sink::Elasticsearch, Sink::Loggly]);
    let good = config.text(&bench);
    let in_file = good
        .replace(&format!("token = \"{}\"", bench.secrets.loggly), "token = { file = \"token\" }")
        .replace(&bench.secrets.api_key, "d3Jvbmc6d3Jvbmc=");
    assert!(in_file.contains("file = \"token\"") && in_file.contains("d3Jvbmc6"), "{in_file}");
    fs::write(bench.path("token"), &bench.secrets.loggly).unwrap();
    issue(&bench, &mut Generator::new(73), 5, 10);
    let mut agent = bench.run_text(&in_file);
    agent.told("sink_denied", 1).await;
    assert_eq!(agent.page("/readyz").await.0, 503);
    // The printed configuration, and with it the hash, is that of before: secrets are not in it.
    let sha256 = status(&mut agent).await["config_sha256"].clone();
    rewrite(&bench, &in_file.replace("d3Jvbmc6d3Jvbmc=", &bench.secrets.api_key));
    agent.hang_up();
    let line = agent.told("config_reloaded", 1).await.pop().unwrap();
    assert_eq!(line["sha256"], sha256);
    bench.until_quiet(&mut agent).await;
    assert_eq!(agent.page("/readyz").await.0, 200);

    // The document stays as it is, and what it names may be another one: it is read.
    agent.hang_up();
    agent.told("config_reloaded", 2).await;
    fs::remove_file(bench.path("token")).unwrap();
    agent.hang_up();
    let line = agent.told("config_reload_failed", 1).await.pop().unwrap();
    assert!(line["why"].as_str().unwrap().contains("sinks.loggly.token"), "{line}");
    assert!(agent.stop().await.success());
    let text = agent.log().text();
    assert!(!text.contains(&bench.secrets.api_key) && !text.contains(&bench.secrets.loggly));
    bench.assert_passes(&config);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn told_again_while_it_reloads_it_reads_once_more_and_told_to_stop_it_stops() {
    let bench = Bench::start().await;
    let config = Config::of(&[Sink::Loggly, Sink::SplunkHec]).agent("shutdown_grace = \"5s\"");
    let other = Config::of(&[Sink::Loggly, Sink::SplunkHec])
        .agent("shutdown_grace = \"5s\"\nlabels = { reload = \"twice\" }");
    let third = Config::of(&[Sink::Loggly, Sink::SplunkHec])
        .agent("shutdown_grace = \"5s\"\nlabels = { reload = \"never\" }");
    // Every drain takes as long as it may.
    bench.splunk_hec.set_mode(Failure::NeverAnswer);
    issue(&bench, &mut Generator::new(74), 50, 10);
    let mut agent = bench.run(&config);
    let loaded = || bench.loggly.counts().stored >= 100 && bench.splunk_hec.counts().requests > 0;
    bench.until(&mut agent, "it is under load", loaded).await;
    rewrite(&bench, &other.text(&bench));
    agent.hang_up();
    agent.told("config_reloading", 1).await;
    agent.hang_up();
    let pages_during = agent.page("/livez").await.0;
    assert_eq!(pages_during, 200);
    agent.told("config_unchanged", 1).await;
    assert_eq!(agent.coded("config_reloaded").len(), 1, "the second found nothing new");

    let again = || bench.aws.queue(QUEUE).counts().in_flight > 0;
    bench.until(&mut agent, "the new one holds what the old one handed back", again).await;
    rewrite(&bench, &third.text(&bench));
    agent.hang_up();
    agent.told("config_reloading", 2).await;
    let told_at = Instant::now();
    assert!(agent.stop().await.success());
    assert!(told_at.elapsed() < Duration::from_secs(12), "{:?}", told_at.elapsed());
    assert_eq!(agent.coded("config_reloaded").len(), 1, "the third has not begun");
    assert_eq!(agent.coded("stopped").len(), 1);
    assert_eq!(bench.aws.queue(QUEUE).counts().in_flight, 0, "everything is handed back");

    bench.splunk_hec.set_mode(Mode::default());
    let mut agent = bench.run(&other);
    bench.until_quiet(&mut agent).await;
    assert!(agent.stop().await.success());
    bench.assert_passes(&other);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_of_a_folder_are_shipped_once_through_any_number_of_reloads() {
    let bench = Bench::start().await;
    let config = |label: &str| {
        format!(
            "[agent]\nlisten = \"127.0.0.1:0\"\nstate_dir = \"state\"\nlog_format = \"json\"\n\
             labels = {{ number = \"{label}\" }}\n\
             [sources.local]\ntype = \"directory\"\npath = \"in\"\npoll_interval = \"100ms\"\n\
             [sinks.file]\ntype = \"file\"\npath = \"out/events.ndjson\"\n\
             [dead_letter]\ntype = \"file\"\npath = \"dead-letters.ndjson\"\n"
        )
    };
    fs::create_dir(bench.path("in")).unwrap();
    let mut generator = Generator::new(75);
    let mut put = |number: usize| {
        let sample = generator.log_file(50);
        fs::write(bench.path("in").join(format!("{number}.json.gz")), &sample.gz).unwrap();
        sample.issued.len()
    };
    let mut events: usize = (0..40).map(&mut put).sum();
    let mut agent = bench.run_text(&config("0"));
    agent.told("started", 1).await;
    for reload in 1..=4 {
        rewrite(&bench, &config(&reload.to_string()));
        agent.hang_up();
        agent.told("config_reloaded", reload).await;
        events += (reload * 100..reload * 100 + 20).map(&mut put).sum::<usize>();
        tokio::time::sleep(Duration::from_millis(700)).await;
    }
    // Another agent is still kept away.
    let mut second = bench.run_command(bench.command("run"));
    assert!(!second.ended().await.success());
    assert!(second.log().text().contains("agent.state_dir"), "{}", second.log().text());
    let text = || fs::read_to_string(bench.path("out/events.ndjson")).unwrap_or_default();
    let all = || text().lines().count() >= events;
    bench.until(&mut agent, "everything is in the file", all).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(agent.stop().await.success());
    let lines = lines_by_id(&text());
    assert!(lines.values().all(|&times| times == 1), "{lines:?}");
    assert_eq!(lines.len(), events);
    let labels: HashSet<String> = text()
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["trailship"]["labels"]["number"].to_string())
        .collect();
    assert!(labels.len() > 1, "more than one configuration was to ship something: {labels:?}");
}
