//! Loggly and Sumo Logic: all or nothing, so that size, speed and credentials must not be taken for an event's fault.

use std::time::Duration;

use serde_json::Value;
use testkit::destinations::{Failure, LogglyOptions, Mode, SumoLogicOptions};
use testkit::generate::Generator;

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
    assert_eq!((bench.messages(), bench.letters()), (20, Vec::new()));

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
