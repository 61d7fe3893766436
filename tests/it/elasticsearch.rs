//! Elasticsearch: who is to blame for a refusal, and what becomes of the others.

use serde_json::{Value, json};
use testkit::destinations::{Failure, Mode};
use testkit::generate::Generator;

use crate::bench::Bench;
use crate::config::{Config, Sink};

/// Short pauses between probes, so that a healed destination is noticed soon.
const SOON: &str = "retry = { initial = \"50ms\", max = \"200ms\" }";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_malformed_event_in_a_thousand_is_dead_lettered_with_its_reason_in_few_requests() {
    let bench = Bench::start().await;
    let sample = Generator::new(31).log_file(1_000);
    let bad = sample.issued[517].event_id.clone().unwrap();
    bench.elasticsearch.set_mode(Failure::RefuseContaining(bad.clone()));
    let config = Config::of(&[Sink::Elasticsearch]);
    bench.issue(&sample);
    let mut agent = bench.run(&config);
    bench.until_quiet(&mut agent).await;
    assert!(agent.stop().await.success());

    let counts = bench.elasticsearch.counts();
    assert_eq!(counts.stored, 999, "{counts:?}");
    assert!(counts.requests <= 25, "{counts:?}");
    let letters = bench.letters();
    assert_eq!(letters.len(), 1, "{letters:#?}");
    let letter = &letters[0];
    let event: Value = serde_json::from_str(letter["record"].as_str().unwrap()).unwrap();
    assert_eq!(event["eventID"], json!(bad));
    assert_eq!((&letter["sink"], &letter["record_index"]), (&json!("elasticsearch"), &json!(517)));
    assert_eq!((&letter["reason_code"], &letter["status"]), (&json!("mapping"), &json!(400)));
    assert!(letter["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{letter:#}");
    assert_eq!(agent.coded("event_dead_lettered").len(), 1);
    let report = bench.assert_passes(&config);
    assert_eq!(report.sinks[0].dead_lettered, 1, "{report}");
}

/// With what `failure` does to every request, the lane is denied and loses nothing, and it recovers.
async fn check_denied(failure: Failure, everywhere: bool) {
    let bench = Bench::start().await;
    bench.elasticsearch.set_mode(Mode { everywhere, ..Mode::from(failure) });
    let config = Config::new().sink(Sink::Elasticsearch, SOON).sink(Sink::File, "");
    bench.issue_all(&mut Generator::new(32), [30; 20]).await;
    let mut agent = bench.run(&config);
    let log = agent.log();
    let denials = || log.coded("sink_denied").len();
    bench.until(&mut agent, "the sink is denied", || denials() > 0).await;
    let (code, text) = agent.page("/readyz").await;
    assert_eq!(code, 503, "{text}");
    let reasons: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(reasons["reasons"][0]["sink"], "elasticsearch", "{text}");
    assert_eq!(agent.metric("trailship_sink_state{sink=\"elasticsearch\",state=\"denied\"}").await, 1);
    // Several probes later it is so still, and no event has paid for it.
    let asked = bench.elasticsearch.counts().requests;
    let probed = || bench.elasticsearch.counts().requests > asked + 10;
    bench.until(&mut agent, "it was probed more than once with every event that it holds", probed).await;
    assert_eq!(denials(), 1, "one line, however often it is probed");
    assert_eq!(bench.letters(), Vec::<Value>::new());
    assert_eq!(bench.elasticsearch.counts().stored, 0);
    assert_eq!(bench.messages(), 20);
    assert_eq!(agent.page("/livez").await.0, 200, "nobody should restart it for this");

    bench.elasticsearch.set_mode(Mode::default());
    bench.until_quiet(&mut agent).await;
    let (code, text) = agent.page("/readyz").await;
    assert_eq!(code, 200, "{text}");
    assert!(agent.stop().await.success());
    let report = bench.assert_passes(&config);
    assert!(report.sinks.iter().all(|sink| sink.stored == sink.issued), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_refused_pauses_the_sink_until_it_works_again() {
    check_denied(Failure::Status(401), true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_that_no_event_survives_is_the_set_ups_fault_and_no_events() {
    check_denied(Failure::RefuseAll, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_index_pauses_the_sink_and_is_nobodys_fault() {
    check_denied(Failure::ReadOnly(403), false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_to_answers_nothing_is_stored_twice() {
    let bench = Bench::start().await;
    let config = Config::new().sink(
        Sink::Elasticsearch,
        "timeout = \"2s\"\nconnect_timeout = \"2s\"\nbatch = { max_events = 50 }\nretry = { initial = \"20ms\", max = \"100ms\" }",
    );
    let mut generator = Generator::new(33);
    let mut agent = bench.run(&config);
    for failure in [
        Failure::AnswerLost,
        Failure::HalfAnswer,
        Failure::Garbage,
        Failure::ShortAnswer,
        Failure::Hangup,
        Failure::Reset,
        Failure::NeverAnswer,
        Failure::ItemsThrottled(0.3),
        Failure::ReadOnly(429),
        Failure::Status(503),
    ] {
        let mode = Mode { share: 0.7, requests: Some(6), ..Mode::from(failure.clone()) };
        let before = bench.elasticsearch.counts().failures;
        bench.elasticsearch.set_mode(mode);
        bench.issue_all(&mut generator, [40; 10]).await;
        bench.until_quiet(&mut agent).await;
        assert!(bench.elasticsearch.counts().failures > before, "{failure:?} was to happen");
    }
    assert!(agent.stop().await.success());
    let report = bench.assert_passes(&config);
    assert!(report.sinks[0].conflicts > 0, "repetitions were to meet what is there: {report}");
    assert_eq!(bench.letters(), Vec::<Value>::new());
}
