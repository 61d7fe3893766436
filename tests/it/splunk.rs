//! Splunk: errors that name an event, and confirmations that come late or never.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::destinations::{Failure, SplunkHecOptions};
use testkit::generate::Generator;
use testkit::ledger::Cause;

use crate::bench::{Bench, Setup};
use crate::config::{Config, Sink};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_that_names_an_event_stores_exactly_the_others_each_once() {
    let bench = Bench::start().await;
    let mut generator = Generator::new(41);
    let sample = generator.log_file(400);
    let bad = sample.issued[123].event_id.clone().unwrap();
    bench.splunk_hec.set_mode(Failure::RefuseContaining(bad.clone()));
    let config = Config::of(&[Sink::SplunkHec]);
    bench.issue(&sample);
    bench.issue_all(&mut generator, [20; 10]).await;
    let mut agent = bench.run(&config);
    bench.until_quiet(&mut agent).await;
    assert!(agent.stop().await.success());

    let letters = bench.letters();
    assert_eq!(letters.len(), 1, "{letters:#?}");
    let event: Value = serde_json::from_str(letters[0]["record"].as_str().unwrap()).unwrap();
    assert_eq!(event["eventID"], json!(bad));
    assert_eq!(letters[0]["reason_code"], "invalid");
    let report = bench.assert_passes(&config);
    let sink = &report.sinks[0];
    assert_eq!((sink.stored, sink.dead_lettered), (599, 1), "{report}");
    assert_eq!(sink.duplicates_with_cause(), 0, "{report}");
    assert_eq!(bench.splunk_hec.counts().stored, 599);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_acknowledgement_a_message_is_deleted_only_when_the_indexers_confirm() {
    let splunk_hec = SplunkHecOptions {
        use_ack: true,
        ack_delay: Duration::from_millis(1_500),
        ..SplunkHecOptions::default()
    };
    let bench = Bench::start_with(Setup { splunk_hec, ..Setup::default() }).await;
    let config = Config::of(&[Sink::SplunkHec]);
    let mut agent = bench.run(&config);
    let issued = bench.issue_all(&mut Generator::new(42), [20; 50]).await;
    let mut early = false;
    let mut settled = || {
        // Everything is stored; the messages wait for the confirmation.
        early |= bench.splunk_hec.counts().stored == issued && bench.messages() > 0;
        bench.messages() == 0
    };
    bench.until(&mut agent, "all is confirmed", &mut settled).await;
    assert!(early, "messages were deleted before their events were confirmed");
    assert!(agent.stop().await.success());
    let report = bench.assert_passes(&config);
    assert_eq!(report.sinks[0].duplicates_with_cause(), 0, "{report}");
    let counts = bench.splunk_hec.counts();
    assert!(counts.requests > counts.deliveries, "{counts:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_never_confirmed_is_sent_again_and_the_repetition_has_that_cause() {
    let splunk_hec = SplunkHecOptions { use_ack: true, ack_never: true, ..SplunkHecOptions::default() };
    let bench = Bench::start_with(Setup { splunk_hec, ..Setup::default() }).await;
    let config = Config::new()
        .agent("shutdown_grace = \"5s\"")
        .sink(Sink::SplunkHec, "ack_timeout = \"1s\"\nretry = { initial = \"50ms\", max = \"200ms\" }");
    let mut agent = bench.run(&config);
    let issued = bench.issue_all(&mut Generator::new(43), [20; 5]).await;
    let again = || bench.splunk_hec.counts().stored >= 3 * issued;
    bench.until(&mut agent, "all was sent twice again", again).await;
    assert_eq!(bench.messages(), 5, "nothing is done that was never confirmed");
    assert!(agent.stop().await.success());
    let report = bench.judge(&config);
    assert!(report.sinks[0].passes(), "{report}");
    assert!(report.sinks[0].duplicates[&Cause::Unconfirmed] >= 2 * issued, "{report}");
    assert_eq!(bench.letters(), Vec::<Value>::new());
}
