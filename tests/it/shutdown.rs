//! SIGTERM: what is under way is finished or handed back, and the next agent goes on.

use std::time::Duration;

use testkit::destinations::{Failure, Mode};
use testkit::generate::Generator;
use tokio::time::Instant;

use crate::bench::{Bench, QUEUE};
use crate::config::{Config, Sink};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn told_to_stop_under_load_it_hands_back_what_it_holds_and_the_next_agent_finishes() {
    let bench = Bench::start().await;
    let config = Config::of(&Sink::ALL).agent("shutdown_grace = \"5s\"");
    let mut generator = Generator::new(5);
    bench.issue_all(&mut generator, [40; 600]).await;
    // At this speed Splunk would need hours.
    bench.splunk_hec.set_mode(Mode { bytes_per_second: 1_000, ..Mode::default() });
    let mut agent = bench.run(&config);
    let loaded = || bench.loggly.counts().stored >= 4_000 && bench.splunk_hec.counts().requests > 0;
    bench.until(&mut agent, "it is under load", loaded).await;
    assert!(agent.stop().await.success());
    assert_eq!(agent.coded("stopping").len(), 1);

    let counts = bench.aws.queue(QUEUE).counts();
    assert!(counts.visible > 0, "there was to be something left: {counts:?}");
    assert_eq!(counts.in_flight, 0, "everything is visible again at once: {counts:?}");

    bench.splunk_hec.set_mode(Mode::default());
    let mut agent = bench.run(&config);
    bench.until_quiet(&mut agent).await;
    assert!(agent.stop().await.success());
    bench.assert_passes(&config);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn told_to_stop_with_sinks_that_take_everything_it_finishes_what_it_has_begun() {
    let bench = Bench::start().await;
    let config = Config::of(&Sink::ALL);
    let mut agent = bench.run(&config);
    bench.issue_all(&mut Generator::new(6), [20; 200]).await;
    let begun = || bench.loggly.counts().stored > 0;
    bench.until(&mut agent, "it has begun", begun).await;
    assert!(agent.stop().await.success());
    assert_eq!(bench.aws.queue(QUEUE).counts().in_flight, 0, "what was begun is finished");

    let mut agent = bench.run(&config);
    bench.until_quiet(&mut agent).await;
    assert!(agent.stop().await.success());
    let report = bench.assert_passes(&config);
    assert!(report.sinks.iter().all(|sink| sink.duplicates_with_cause() == 0), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_slow_sinks_and_one_that_hangs_it_ends_within_the_grace_and_leaves_no_lease_behind() {
    let bench = Bench::start().await;
    let config = Config::of(&Sink::ALL).agent("shutdown_grace = \"6s\"");
    bench.issue_all(&mut Generator::new(7), [30; 800]).await;
    bench.elasticsearch.set_mode(Failure::NeverAnswer);
    bench.splunk_hec.set_mode(Mode { bytes_per_second: 5_000, ..Mode::default() });
    bench.sumo_logic.set_mode(Mode { delay_ms: 400, ..Mode::default() });
    let mut agent = bench.run(&config);
    let loaded = || {
        bench.loggly.counts().stored >= 3_000
            && bench.splunk_hec.counts().requests > 0
            && bench.elasticsearch.counts().requests > 0
    };
    bench.until(&mut agent, "it is under load", loaded).await;
    let told_at = Instant::now();
    assert!(agent.stop().await.success());
    // A busy machine needs a moment; who waits for a sink that hangs never ends.
    assert!(told_at.elapsed() < Duration::from_secs(9), "{:?}", told_at.elapsed());
    let ended_ms = bench.aws.now_ms();

    let counts = bench.aws.queue(QUEUE).counts();
    assert!(counts.visible > 0 && counts.in_flight == 0, "everything that is left is visible: {counts:?}");
    for message in bench.aws.queue(QUEUE).messages().iter().filter(|message| !message.gone) {
        let last = message.deliveries.last();
        assert!(last.is_none_or(|last| last.visible_ms <= ended_ms), "a lease left behind: {message:#?}");
    }

    let begun_ms = bench.aws.now_ms();
    let mut next = bench.run(&config);
    let takes_up = || {
        let messages = bench.aws.queue(QUEUE).messages();
        // Given back, or handed off where some sink had a part of it.
        let mut again = messages
            .iter()
            .filter(|message| message.deliveries.len() > 1 || message.body.contains("trailship.handoff"));
        again.any(|message| message.deliveries.last().is_some_and(|last| last.at_ms >= begun_ms))
    };
    let started = Instant::now();
    bench.until(&mut next, "the next agent finds what was handed back", takes_up).await;
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    bench.elasticsearch.set_mode(Mode::default());
    bench.splunk_hec.set_mode(Mode::default());
    bench.sumo_logic.set_mode(Mode::default());
    bench.until_quiet(&mut next).await;
    assert!(next.stop().await.success());
    bench.assert_passes(&config);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn told_a_second_time_it_ends_at_once_and_nothing_is_lost() {
    let bench = Bench::start().await;
    let config = Config::of(&[Sink::Loggly, Sink::SplunkHec]).source("visibility_timeout = \"30s\"");
    bench.splunk_hec.set_mode(Failure::NeverAnswer);
    bench.issue_all(&mut Generator::new(8), [20; 100]).await;
    let mut agent = bench.run(&config);
    let loaded = || bench.loggly.counts().stored >= 200 && bench.splunk_hec.counts().requests > 0;
    bench.until(&mut agent, "it is under load", loaded).await;
    agent.terminate();
    agent.told("stopping", 1).await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert!(agent.runs(), "it has 25 seconds");
    let told_at = Instant::now();
    let status = agent.stop().await;
    assert_eq!(status.code(), Some(1));
    assert!(told_at.elapsed() < Duration::from_secs(8), "{:?}", told_at.elapsed());
    // As with `kill -9`, what it held comes back once its leases have lapsed.
    bench.ledger.crash();
    bench.advance(Duration::from_secs(31));
    bench.splunk_hec.set_mode(Mode::default());
    let mut next = bench.run(&config);
    bench.until_quiet(&mut next).await;
    assert!(next.stop().await.success());
    bench.assert_passes(&config);
}
