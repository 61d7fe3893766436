//! Logstash: windows that are acknowledged in part, too late or not at all, and its http input when it is busy.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use testkit::destinations::{Failure, Logstash, LogstashHttp, LogstashHttpOptions, LogstashOptions, Mode};
use testkit::generate::Generator;
use testkit::ledger::{Cause, Report};

use crate::bench::Bench;
use crate::config::Config;

const RETRY: &str = "retry = { initial = \"50ms\", max = \"200ms\" }";

/// A bench with a beats input.
async fn start(change: impl FnOnce(&mut LogstashOptions)) -> (Bench, Arc<Logstash>) {
    let mut bench = Bench::start().await;
    let mut options = LogstashOptions::default();
    change(&mut options);
    let logstash = Arc::new(Logstash::start(Arc::clone(&bench.ledger), options).await.unwrap());
    let watched = Arc::clone(&logstash);
    bench.watch(move || watched.counts());
    (bench, logstash)
}

fn config(endpoints: &[&str], lines: &str) -> Config {
    let table = format!("type = \"logstash\"\nendpoints = {endpoints:?}\n{RETRY}\n{lines}");
    Config::new().other("logstash", &table)
}

#[track_caller]
fn assert_all_stored(bench: &Bench, config: &Config) -> Report {
    let report = bench.assert_passes(config);
    let sink = &report.sinks[0];
    assert_eq!((sink.lost.len(), sink.dead_lettered), (0, 0), "{report}");
    assert_eq!(bench.letters(), Vec::<Value>::new());
    report
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_event_is_stored_once_by_few_connections_that_are_kept() {
    let (bench, logstash) = start(|options| options.ack_every = 100).await;
    let config = config(&[&logstash.endpoint], "window = 250\nbatch = { max_events = 1000 }");
    let mut agent = bench.run(&config);
    bench.issue_all(&mut Generator::new(71), [50; 100]).await;
    bench.until_quiet(&mut agent).await;
    assert!(agent.stop().await.success());
    let report = assert_all_stored(&bench, &config);
    assert_eq!(report.sinks[0].stored, report.sinks[0].issued, "{report}");
    let counts = logstash.counts();
    assert!(counts.body_bytes * 2 < counts.decoded_bytes, "windows were to be compressed: {counts:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_break_at_any_point_cost_no_event_and_only_the_unacknowledged_is_sent_again() {
    let (bench, logstash) = start(|options| options.ack_every = 30).await;
    let config = config(
        &[&logstash.endpoint],
        "batch = { max_events = 200, max_age = \"50ms\" }\ntimeout = \"2s\"\nconnect_timeout = \"2s\"",
    );
    let mut generator = Generator::new(72);
    let mut agent = bench.run(&config);
    for failure in [
        Failure::AnswerLost,
        Failure::ShortAnswer,
        Failure::PartlyStored,
        Failure::HalfAnswer,
        Failure::Garbage,
        Failure::Hangup,
        Failure::Reset,
        Failure::NeverAnswer,
    ] {
        let before = logstash.counts().failures;
        logstash.set_mode(Mode { requests: Some(2), ..Mode::from(failure.clone()) });
        bench.issue_all(&mut generator, [40; 25]).await;
        bench.until_quiet(&mut agent).await;
        assert_eq!(logstash.counts().failures, before + 2, "{failure:?}");
    }
    assert!(agent.stop().await.success());
    let report = assert_all_stored(&bench, &config);
    let sink = &report.sinks[0];
    assert_eq!(sink.duplicates.keys().collect::<Vec<_>>(), [&Cause::AnswerLost], "{report}");
    // Two windows of each of the six failures that store something, and of those the last 30 events at most, or half.
    assert!(sink.duplicates[&Cause::AnswerLost] <= 2 * (5 * 30 + 100), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_input_that_is_held_up_is_waited_for_and_gets_nothing_twice() {
    let (bench, logstash) = start(|options| options.keep_alive = Duration::from_millis(200)).await;
    // Each window takes longer than the time in which something has to be heard.
    let config = config(&[&logstash.endpoint], "timeout = \"1s\"\nconnect_timeout = \"1s\"");
    logstash.set_mode(Mode { delay_ms: 2_500, ..Mode::default() });
    bench.issue_all(&mut Generator::new(73), [40; 20]).await;
    let mut agent = bench.run(&config);
    bench.until_quiet(&mut agent).await;
    assert!(agent.stop().await.success());
    let report = assert_all_stored(&bench, &config);
    assert_eq!(report.sinks[0].duplicates_with_cause(), 0, "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn smaller_windows_are_sent_to_a_server_that_closes_on_large_ones() {
    let (bench, logstash) = start(|options| options.window_max = 60).await;
    let config = config(&[&logstash.endpoint], "batch = { max_events = 500 }");
    bench.issue_all(&mut Generator::new(74), [100; 20]).await;
    let mut agent = bench.run(&config);
    bench.until_quiet(&mut agent).await;
    assert!(agent.stop().await.success());
    let report = assert_all_stored(&bench, &config);
    assert_eq!(report.sinks[0].stored, report.sinks[0].issued, "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_always_makes_the_server_close_is_dead_lettered_in_the_end_and_holds_up_nobody() {
    let (bench, logstash) = start(|_| {}).await;
    let config = config(&[&logstash.endpoint], "batch = { max_events = 100 }\nconcurrency = { max = 1 }");
    let mut generator = Generator::new(77);
    let sample = generator.log_file(100);
    let bad = sample.issued[60].event_id.clone().unwrap();
    logstash.set_mode(Failure::RefuseContaining(bad.clone()));
    let mut agent = bench.run(&config);
    bench.issue(&sample);
    let mut others = 0;
    let start = tokio::time::Instant::now();
    while bench.letters().is_empty() {
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "it is never dead-lettered: {:?}",
            logstash.counts()
        );
        others += bench.issue_all(&mut generator, [1; 5]).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    bench.until_quiet(&mut agent).await;
    assert!(agent.stop().await.success());
    let letters = bench.letters();
    assert_eq!(letters.len(), 1, "{letters:#?}");
    assert!(letters[0]["record"].as_str().unwrap().contains(&bad), "{letters:#?}");
    let why = letters[0]["reason"].as_str().unwrap_or_else(|| panic!("{letters:#?}"));
    assert!(why.contains("the connection was closed 8 times over this event alone"), "{why}");
    let report = bench.assert_passes(&config);
    assert_eq!((report.sinks[0].stored, report.sinks[0].dead_lettered), (99 + others, 1), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_closes_over_everything_is_out_of_order_and_no_event_is_to_blame() {
    let (bench, logstash) = start(|_| {}).await;
    let config = config(&[&logstash.endpoint], "batch = { max_events = 10 }");
    logstash.set_mode(Failure::RefuseAll);
    let mut agent = bench.run(&config);
    bench.issue_all(&mut Generator::new(78), [20; 2]).await;
    let refused = || logstash.counts().failures >= 60;
    bench.until(&mut agent, "it has closed often", refused).await;
    assert_eq!(bench.letters(), Vec::<Value>::new());
    logstash.set_mode(Mode::default());
    bench.until_quiet(&mut agent).await;
    assert!(agent.stop().await.success());
    assert_all_stored(&bench, &config);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_second_endpoint_takes_over_and_idle_connections_that_were_closed_are_noticed() {
    let (bench, logstash) = start(|options| options.idle_timeout = Duration::from_millis(300)).await;
    // Nobody listens at the first.
    let config = config(&["tcp://127.0.0.1:9", &logstash.endpoint], "batch = { max_age = \"50ms\" }");
    let mut generator = Generator::new(75);
    let mut agent = bench.run(&config);
    let series = "trailship_sink_errors_total{class=\"connection\",sink=\"logstash\"}";
    let mut failed = None;
    for _ in 0..3 {
        bench.issue_all(&mut generator, [40; 5]).await;
        bench.until_quiet(&mut agent).await;
        let now = agent.metric(series).await;
        assert_eq!(
            *failed.get_or_insert(now),
            now,
            "closed connections were to be noticed before they are used"
        );
        tokio::time::sleep(Duration::from_millis(900)).await;
    }
    assert!(failed.unwrap() > 0, "the first endpoint was to be tried first");
    assert!(agent.stop().await.success());
    let report = assert_all_stored(&bench, &config);
    assert_eq!(report.sinks[0].duplicates_with_cause(), 0, "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_http_input_gets_everything_though_it_is_busy_breaks_off_and_has_its_limit() {
    let mut bench = Bench::start().await;
    let options = LogstashHttpOptions { body_bytes_max: 150_000, ..LogstashHttpOptions::default() };
    let input = Arc::new(LogstashHttp::start(Arc::clone(&bench.ledger), options.clone()).await.unwrap());
    let watched = Arc::clone(&input);
    bench.watch(move || watched.counts());
    let (user, password) = options.user.unwrap();
    let table = format!(
        "type = \"logstash_http\"\nendpoints = [\"{}/cloudtrail\"]\nusername = \"{user}\"\npassword = \"{password}\"\n{RETRY}",
        input.url
    );
    let config = Config::new().other("logstash_http", &table);
    let mut generator = Generator::new(76);
    let mut agent = bench.run(&config);
    for failure in [Failure::Status(429), Failure::AnswerLost, Failure::ShortAnswer, Failure::Status(503)] {
        input.set_mode(Mode { requests: Some(2), ..Mode::from(failure) });
        bench.issue_all(&mut generator, [40; 20]).await;
        bench.until_quiet(&mut agent).await;
    }
    let counts = input.counts();
    assert!(counts.statuses.contains_key(&413) && counts.statuses[&429] == 2, "{counts:?}");
    let limit = agent.metric("trailship_sink_batch_limit_bytes{sink=\"logstash_http\"}").await;
    assert!(limit <= 150_000, "{limit}");
    assert!(agent.stop().await.success());
    let report = assert_all_stored(&bench, &config);
    assert_eq!(report.sinks[0].duplicates.keys().collect::<Vec<_>>(), [&Cause::AnswerLost], "{report}");
}
