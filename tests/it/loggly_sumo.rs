//! Loggly and Sumo Logic: all or nothing, so that size, speed and credentials must not be taken for an event's fault.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use testkit::destinations::{Failure, LogglyOptions, Mode, SumoLogicOptions};
use testkit::generate::{Generator, Issued};

use crate::bench::{Bench, Setup};
use crate::config::{Config, Sink};

const SINKS: [Sink; 2] = [Sink::Loggly, Sink::SumoLogic];

fn config() -> Config {
    SINKS.iter().fold(Config::new(), |config, sink| {
        config.sink(*sink, "retry = { initial = \"50ms\", max = \"200ms\" }")
    })
}

/// How often each was answered with this status.
fn answered(bench: &Bench, status: u16) -> Vec<u64> {
    let destinations = SINKS.iter().filter_map(|sink| bench.destination(*sink));
    destinations.map(|it| it.counts().statuses.get(&status).copied().unwrap_or(0)).collect()
}

fn set_mode(bench: &Bench, mode: &Mode) {
    let destinations = SINKS.iter().filter_map(|sink| bench.destination(*sink));
    destinations.for_each(|destination| destination.set_mode(mode.clone()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_is_too_large_is_halved_and_the_limit_is_remembered() {
    let bench = Bench::start_with(Setup {
        loggly: LogglyOptions { batch_bytes_max: 100_000, ..LogglyOptions::default() },
        sumo_logic: SumoLogicOptions { body_bytes_max: 100_000, ..SumoLogicOptions::default() },
        ..Setup::default()
    })
    .await;
    let config = config();
    let mut generator = Generator::new(51);
    bench.issue_all(&mut generator, [400; 8]).await;
    let mut agent = bench.run(&config);
    bench.until_quiet(&mut agent).await;
    let learnt = answered(&bench, 413);
    assert!(learnt.iter().all(|&times| times > 0), "{learnt:?}");

    bench.issue_all(&mut generator, [400; 8]).await;
    bench.until_quiet(&mut agent).await;
    assert_eq!(answered(&bench, 413), learnt, "the limit was to be remembered");
    for sink in SINKS {
        let limit =
            agent.metric(&format!("trailship_sink_batch_limit_bytes{{sink=\"{}\"}}", sink.name())).await;
        assert!(limit <= 100_000, "{limit}");
    }
    assert!(agent.stop().await.success());
    let report = bench.assert_passes(&config);
    assert!(report.sinks.iter().all(|sink| sink.stored == sink.issued), "{report}");
    assert_eq!(bench.letters(), Vec::<Value>::new());
}

/// With `status` as the answer, the sinks wait as long as they are told to, and lose nothing.
async fn check_overload(status: u16, class: &str) {
    let bench = Bench::start().await;
    let lines = "concurrency = { max = 1 }\nretry = { initial = \"1ms\", max = \"2ms\" }";
    let config = SINKS.iter().fold(Config::new(), |config, sink| config.sink(*sink, lines));
    set_mode(&bench, &Mode { retry_after_s: Some(1), ..Mode::from(Failure::Status(status)) });
    bench.issue_all(&mut Generator::new(52), [40; 50]).await;
    let mut agent = bench.run(&config);
    let begun = tokio::time::Instant::now();
    let slowed = || answered(&bench, status).iter().all(|&times| times >= 3);
    bench.until(&mut agent, "both have said so three times", slowed).await;
    // The least that two waits take: no machine is too slow for it.
    assert!(begun.elapsed() >= Duration::from_secs(2), "they were asked again too soon");
    for sink in SINKS {
        let series = format!("trailship_sink_errors_total{{class=\"{class}\",sink=\"{}\"}}", sink.name());
        assert!(agent.metric(&series).await >= 3, "{series}");
    }
    assert_eq!(agent.page("/readyz").await.0, 200, "it is not for us to act");

    set_mode(&bench, &Mode::default());
    bench.until_quiet(&mut agent).await;
    assert!(agent.stop().await.success());
    let report = bench.assert_passes(&config);
    assert!(report.sinks.iter().all(|sink| sink.stored == sink.issued), "{report}");
    assert_eq!(bench.letters(), Vec::<Value>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_destination_that_is_asked_too_much_is_asked_more_slowly_and_gets_everything() {
    check_overload(429, "throttled").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_destination_that_is_out_of_order_is_asked_more_slowly_and_gets_everything() {
    check_overload(503, "server_error").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_that_are_refused_pause_the_sink_and_cost_no_event() {
    let bench = Bench::start().await;
    let config = config();
    // Each in its own words.
    bench.loggly.set_mode(Failure::Status(403));
    bench.sumo_logic.set_mode(Failure::Status(401));
    bench.issue_all(&mut Generator::new(53), [40; 20]).await;
    let mut agent = bench.run(&config);
    let probed =
        || SINKS.iter().filter_map(|sink| bench.destination(*sink)).all(|it| it.counts().requests > 12);
    bench.until(&mut agent, "both were probed", probed).await;
    let (code, text) = agent.page("/readyz").await;
    assert_eq!(code, 503, "{text}");
    assert!(SINKS.iter().all(|sink| text.contains(sink.name())), "{text}");
    assert!(bench.messages() > 0, "what is owed stands on the queue, handed off or not");
    assert_eq!(bench.letters(), Vec::<serde_json::Value>::new());

    set_mode(&bench, &Mode::default());
    bench.until_quiet(&mut agent).await;
    assert_eq!(agent.page("/readyz").await.0, 200);
    assert!(agent.stop().await.success());
    let report = bench.assert_passes(&config);
    assert!(report.sinks.iter().all(|sink| sink.stored == sink.issued), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_be_stored_in_part_is_sent_again_and_the_repetition_has_that_cause() {
    let bench = Bench::start().await;
    let config = config();
    bench.sumo_logic.set_mode(Mode { requests: Some(3), ..Mode::from(Failure::PartlyStored) });
    bench.loggly.set_mode(Mode { requests: Some(3), ..Mode::from(Failure::AnswerLost) });
    bench.issue_all(&mut Generator::new(54), [40; 20]).await;
    let mut agent = bench.run(&config);
    bench.until_quiet(&mut agent).await;
    assert!(agent.stop().await.success());
    let report = bench.assert_passes(&config);
    assert!(report.sinks.iter().all(|sink| sink.duplicates_with_cause() > 0), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_event_that_is_refused_costs_no_other_and_is_dead_lettered_when_others_were_taken() {
    let bench = Bench::start().await;
    let config = config();
    let mut generator = Generator::new(55);
    let sample = generator.log_file(100);
    let bad = sample.issued[60].event_id.clone().unwrap();
    set_mode(&bench, &Failure::RefuseContaining(bad.clone()).into());
    bench.issue(&sample);
    bench.issue_all(&mut generator, [10; 10]).await;
    let mut agent = bench.run(&config);
    bench.until_quiet(&mut agent).await;
    assert!(agent.stop().await.success());
    assert_eq!(agent.coded("sink_denied"), Vec::<Value>::new(), "one event's fault is not the set-up's");
    let letters = bench.letters();
    assert_eq!(letters.len(), 2, "{letters:#?}");
    assert!(letters.iter().all(|letter| letter["record"].as_str().unwrap().contains(&bad)), "{letters:#?}");
    let report = bench.assert_passes(&config);
    assert!(report.sinks.iter().all(|sink| (sink.stored, sink.dead_lettered) == (199, 1)), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_or_source_that_is_refused_gives_way_to_the_next() {
    let bench = Bench::start().await;
    let retry = "retry = { initial = \"20ms\", max = \"100ms\" }";
    let loggly = format!(
        "type = \"loggly\"\nendpoint = {:?}\ntokens = [\"0000-revoked\", {:?}]\n{retry}",
        bench.loggly.url, bench.secrets.loggly,
    );
    let source = bench.sumo_logic.source_url();
    let revoked = source.rsplit_once('/').map(|(path, _)| format!("{path}/revoked==")).unwrap();
    let sumo = format!("type = \"sumo_logic\"\nurls = [{revoked:?}, {source:?}]\n{retry}");
    let config = Config::new().other("loggly", &loggly).other("sumo_logic", &sumo);
    let mut agent = bench.run(&config);
    bench.issue_all(&mut Generator::new(56), [40; 20]).await;
    bench.until_quiet(&mut agent).await;
    assert_eq!(agent.page("/readyz").await.0, 200);
    assert!(agent.stop().await.success());
    assert_eq!(agent.coded("sink_denied"), Vec::<Value>::new());
    let refused = [
        bench.loggly.counts().statuses.get(&403).copied().unwrap_or(0),
        bench.sumo_logic.counts().statuses.get(&401).copied().unwrap_or(0),
    ];
    assert!(
        refused.iter().all(|times| (1..10).contains(times)),
        "left alone once it was refused: {refused:?}"
    );
    let report = bench.assert_passes(&config);
    assert!(report.sinks.iter().all(|sink| sink.stored == sink.issued), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_category_of_the_event_s_own_keeps_requests_apart_and_deflate_arrives() {
    let bench = Bench::start().await;
    let lines = "category = \"aws/{account}/{region}\"\ncompression = \"deflate\"";
    let config = Config::new().sink(Sink::SumoLogic, lines);
    // A source that is shaky for a while: what is sent again goes under the same category.
    bench.sumo_logic.set_mode(Mode { requests: Some(3), ..Mode::from(Failure::Status(503)) });
    let mut agent = bench.run(&config);
    let mut generator = Generator::new(57);
    let mut expected = BTreeMap::<(String, String), u64>::new();
    for _ in 0..20 {
        let sample = generator.log_file(40);
        let file: Value = serde_json::from_slice(&sample.json).unwrap();
        for event in file["Records"].as_array().unwrap() {
            let [account, region] =
                ["recipientAccountId", "awsRegion"].map(|key| event[key].as_str().unwrap());
            *expected.entry((format!("aws/{account}/{region}"), "deflate".to_owned())).or_default() += 1;
        }
        bench.issue(&sample);
    }
    bench.until_quiet(&mut agent).await;
    assert!(agent.stop().await.success());
    assert!(expected.len() > 1, "{expected:?}");
    assert_eq!(bench.sumo_logic.stored_by(), expected);
    let report = bench.assert_passes(&config);
    assert!(report.sinks.iter().all(|sink| sink.stored == sink.issued), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_over_the_limits_is_sliced_or_kept_and_never_cut_silently() {
    let bench = Bench::start().await;
    let event = |bytes: usize| {
        let event = json!({ "eventTime": "2024-05-01T12:00:00Z", "eventID": format!("e-{bytes}"), "a": "x".repeat(bytes) });
        event.to_string()
    };
    let events = [event(100), event(70_000), event(1_100_000)];
    let mut sample = Generator::new(58).log_file(1);
    // A log file may be plain.
    sample.gz = format!("{{\"Records\":[{}]}}", events.join(",")).into_bytes();
    let issued = |(index, event): (usize, &String)| Issued {
        index: u32::try_from(index).unwrap(),
        event_id: Some(["e-100", "e-70000", "e-1100000"][index].to_owned()),
        sha256: Sha256::digest(event).into(),
        actor: "unknown",
    };
    sample.issued = events.iter().enumerate().map(issued).collect();
    bench.issue(&sample);
    let config = config();
    let mut agent = bench.run(&config);
    bench.until_quiet(&mut agent).await;
    assert!(agent.stop().await.success());
    // Sumo Logic slices what is over 64 KiB; over 1 MB an event is kept whole, at both.
    assert_eq!(bench.sumo_logic.counts().sliced, 1);
    let letters = bench.letters();
    assert_eq!(letters.len(), 2, "{letters:#?}");
    assert!(
        letters
            .iter()
            .all(|letter| letter["reason_code"] == "too_large" && letter["event_id"] == "e-1100000")
    );
    let report = bench.assert_passes(&config);
    assert!(report.sinks.iter().all(|sink| (sink.stored, sink.dead_lettered) == (2, 1)), "{report}");
}
