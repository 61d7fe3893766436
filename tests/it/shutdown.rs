//! SIGTERM: what is under way is finished or handed back, and the next agent goes on.

use testkit::destinations::Mode;
use testkit::generate::Generator;

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
