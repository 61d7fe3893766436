//! What a sink that is down is owed is handed off: the queue drains, nobody waits, and nothing is lost or repeated.

use std::fs;
use std::time::Duration;

use testkit::aws::{AwsFault, FaultRule};
use testkit::destinations::{Failure, Mode};
use testkit::generate::Generator;
use testkit::ledger::Report;

use crate::agent::Agent;
use crate::bench::{Bench, HANDOFF_QUEUE, PATIENT, QUEUE};
use crate::config::{Config, Sink};
use crate::redrive::said;

/// Log files of a run, and events in each.
const FILES: usize = 300;
const EVENTS: usize = 20;

/// A lane that is shut keeps a few log files to probe with; their messages are held.
const PROBES: usize = 8;

const SINKS: [Sink; 3] = [Sink::Elasticsearch, Sink::Loggly, Sink::SumoLogic];

fn config() -> Config {
    let lines = "retry = { initial = \"50ms\", max = \"500ms\", give_up_after = \"1s\" }";
    let config = Config::new().source(PATIENT);
    SINKS.iter().fold(config, |config, sink| config.sink(*sink, lines))
}

fn down() -> Mode {
    Mode { everywhere: true, ..Mode::from(Failure::Status(503)) }
}

/// Issues log files while Loggly is down, and waits until the others have all and the queue has drained.
async fn drained(bench: &Bench, agent: &mut Agent, queue: &str) -> u64 {
    let issued = bench.issue_all(&mut Generator::new(21), [EVENTS; FILES]).await;
    let healthy =
        || bench.elasticsearch.counts().stored >= issued && bench.sumo_logic.counts().stored >= issued;
    bench.until(agent, "the healthy sinks have everything", healthy).await;
    let held = || {
        let histories = bench.aws.queue(QUEUE).messages();
        let originals = histories.iter().filter(|message| !message.body.contains("trailship.handoff"));
        originals.filter(|message| message.deliveries.iter().all(|d| d.deleted_ms.is_none())).count()
    };
    bench.until(agent, "the originals are gone while the sink is down", || held() <= PROBES).await;
    assert_eq!(bench.loggly.counts().stored, 0);
    let mut keys: Vec<String> = bench.handoffs_on(queue).into_iter().map(|handoff| handoff.key).collect();
    keys.sort();
    keys.dedup();
    assert!(keys.len() >= FILES - PROBES, "{} log files are handed off", keys.len());
    issued
}

#[track_caller]
fn assert_once(report: &Report) {
    assert!(report.sinks.iter().all(|sink| sink.duplicates_with_cause() == 0), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_queue_drains_while_a_sink_is_down_and_everything_owed_arrives_once() {
    let bench = Bench::start().await;
    let config = config().handoff_queue();
    bench.loggly.set_mode(down());
    let mut agent = bench.run(&config);
    drained(&bench, &mut agent, HANDOFF_QUEUE).await;
    assert_eq!(agent.coded("handoff_begun").len(), 1);
    let owed = agent.metric("trailship_sink_owed_log_files{sink=\"loggly\"}").await;
    assert!(owed >= (FILES - PROBES) as u64, "{owed}");
    let outcome = "trailship_sink_events_total{sink=\"loggly\",outcome=\"handed_off\"}";
    assert!(agent.metric(outcome).await >= ((FILES - PROBES) * EVENTS) as u64);
    // Nothing is fetched again for a sink that is down.
    let reads = || bench.aws.object_requests().len();
    let before = reads();
    for _ in 0..10 {
        bench.advance(Duration::from_secs(30));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(
        reads() - before <= PROBES,
        "{} log files were fetched for a sink that is down",
        reads() - before
    );

    bench.loggly.set_mode(Mode::default());
    bench.until_quiet_in_fast_time(&mut agent).await;
    assert_eq!(agent.metric("trailship_sink_owed_log_files{sink=\"loggly\"}").await, 0);
    assert!(agent.stop().await.success());
    assert_once(&bench.assert_passes(&config));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_the_one_queue_hand_offs_come_back_as_well_also_to_another_agent() {
    let bench = Bench::start().await;
    let config = config();
    bench.loggly.set_mode(down());
    let mut agent = bench.run(&config);
    drained(&bench, &mut agent, QUEUE).await;
    assert!(agent.stop().await.success());

    let mut agent = bench.run(&config);
    bench.advance(Duration::from_secs(60));
    tokio::time::sleep(Duration::from_millis(500)).await;
    bench.loggly.set_mode(Mode::default());
    bench.until_quiet_in_fast_time(&mut agent).await;
    assert!(agent.stop().await.success());
    assert_once(&bench.assert_passes(&config));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_sending_is_not_permitted_messages_are_held_and_everything_arrives_all_the_same() {
    let bench = Bench::start().await;
    let config = config();
    bench.aws.inject(FaultRule::new("SendMessage", AwsFault::Forbidden));
    bench.loggly.set_mode(down());
    let mut agent = bench.run(&config);
    let issued = bench.issue_all(&mut Generator::new(22), [EVENTS; 60]).await;
    let healthy =
        || bench.elasticsearch.counts().stored >= issued && bench.sumo_logic.counts().stored >= issued;
    bench.until(&mut agent, "the healthy sinks have everything", healthy).await;
    let log = agent.log();
    bench.until(&mut agent, "it says so", || !log.coded("handoff_not_permitted").is_empty()).await;
    assert_eq!(bench.messages_on(QUEUE), 60, "all are held");
    bench.loggly.set_mode(Mode::default());
    bench.until_quiet(&mut agent).await;
    assert_eq!(log.coded("handoff_not_permitted").len(), 1, "once");
    assert!(agent.stop().await.success());
    assert_once(&bench.assert_passes(&config));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn told_to_stop_while_a_sink_is_slow_it_hands_off_and_no_sink_gets_anything_twice() {
    let bench = Bench::start().await;
    let config = config().handoff_queue().agent("shutdown_grace = \"5s\"");
    // Requests that are under way at the end are answered in time: what was asked and not answered may come twice.
    bench.loggly.set_mode(Mode { delay_ms: 600, ..Mode::default() });
    let mut agent = bench.run(&config);
    bench.issue_all(&mut Generator::new(23), [EVENTS; 400]).await;
    let loaded = || bench.elasticsearch.counts().stored >= 2_000 && bench.loggly.counts().stored > 0;
    bench.until(&mut agent, "it is under load", loaded).await;
    assert!(agent.stop().await.success());
    let in_flight = |queue: &str| bench.aws.queue(queue).counts().in_flight;
    assert_eq!((in_flight(QUEUE), in_flight(HANDOFF_QUEUE)), (0, 0), "no lease is left");

    bench.loggly.set_mode(Mode::default());
    let mut agent = bench.run(&config);
    bench.until_quiet_in_fast_time(&mut agent).await;
    assert!(agent.stop().await.success());
    assert_once(&bench.assert_passes(&config));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_sink_that_is_gone_was_owed_is_forgotten_only_when_told_so() {
    let bench = Bench::start().await;
    let config = config().handoff_queue();
    fs::write(bench.path("trailship.toml"), config.text(&bench)).unwrap();
    let handoff = |sink: &str, key: &str| cloudtrail::Handoff {
        bucket: "trail".to_owned(),
        key: key.to_owned(),
        version_id: None,
        etag: None,
        sink: sink.to_owned(),
        ranges: vec![0..20],
        attempts: 0,
        first_seen: cloudtrail::Timestamp::from_millis(0),
    };
    let send = |list: &[cloudtrail::Handoff]| {
        let body = cloudtrail::Handoff::write_list(list).unwrap();
        bench.aws.queue(HANDOFF_QUEUE).send(&body).unwrap();
    };
    send(&[handoff("gone", "a"), handoff("loggly", "b")]);
    send(&[handoff("gone", "c")]);
    send(&[handoff("loggly", "d")]);

    let (code, text) = said(&bench, "redrive", &["--forget", "loggly"]);
    assert_eq!(code, Some(2), "it is configured: {text}");
    let (code, text) = said(&bench, "redrive", &["--forget", "gone", "--dry-run"]);
    assert!(text.contains("gone: 2 hand-offs would be forgotten, with at least 40 events"), "{text}");
    assert_eq!((code, bench.handoffs_on(HANDOFF_QUEUE).len()), (Some(0), 4), "{text}");
    let (code, text) = said(&bench, "redrive", &["--forget", "gone"]);
    assert!(text.contains("gone: 2 hand-offs forgotten"), "{text}");
    assert_eq!(code, Some(0), "{text}");
    let mut left: Vec<String> =
        bench.handoffs_on(HANDOFF_QUEUE).into_iter().map(|handoff| handoff.key).collect();
    left.sort();
    assert_eq!(left, ["b", "d"]);
    assert_eq!(bench.aws.queue(HANDOFF_QUEUE).counts().in_flight, 0, "what stays is given back");
}
