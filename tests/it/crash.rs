//! `kill -9` at any moment loses nothing: what was not acknowledged comes again.

use std::time::Duration;

use testkit::aws::QueueBehaviour;
use testkit::generate::Generator;
use testkit::ledger::Cause;
use testkit::random::Rng;

use crate::bench::{Bench, Setup};
use crate::config::{Config, Sink};

/// Log files of a run.
const FILES: u64 = 2_000;

/// The shortest lease that the configuration allows.
const LEASE: Duration = Duration::from_secs(30);

/// How often the agent is killed, unless the variable says otherwise.
fn kills() -> u64 {
    let given = std::env::var("TRAILSHIP_TEST_KILLS").ok();
    given.map_or(5, |text| text.parse().expect("TRAILSHIP_TEST_KILLS is a number"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_random_moments_and_started_again_it_loses_nothing() {
    let kills = kills();
    let queue = QueueBehaviour { shuffle: true, duplicates: 0.02, ..QueueBehaviour::default() };
    let bench = Bench::start_with(Setup { queue, ..Setup::default() }).await;
    let config = Sink::ALL.iter().fold(Config::new(), |config, sink| {
        config.sink(*sink, "batch = { max_age = \"100ms\", max_events = 200 }")
    });
    let config = config.source("visibility_timeout = \"30s\"");
    let mut generator = Generator::new(8);
    let sizes: Vec<usize> = (0..FILES).map(|file| generator.draw_file_size(file)).collect();
    let issued = bench.issue_all(&mut generator, sizes).await;
    let mut random = Rng::new(kills);
    let destinations: Vec<_> = Sink::ALL.iter().filter_map(|sink| bench.destination(*sink)).collect();
    let stored = || destinations.iter().map(|destination| destination.counts().stored).sum::<u64>();
    for _ in 0..kills {
        let mut agent = bench.run(&config);
        // Together, all rounds ask for less than there is to deliver: no kill comes when all is done.
        let wanted = stored() + random.below((4 * issued / kills) as usize) as u64;
        bench.until(&mut agent, "some more events are stored", || stored() >= wanted).await;
        tokio::time::sleep(Duration::from_millis(random.below(60) as u64)).await;
        agent.kill();
        bench.ledger.crash();
        bench.advance(LEASE);
        assert!(bench.messages() > 0, "the agent was killed too late");
    }
    let mut agent = bench.run(&config);
    bench.until_quiet(&mut agent).await;
    assert!(agent.stop().await.success());

    let report = bench.assert_passes(&config);
    let crashes: u64 = report.sinks.iter().filter_map(|sink| sink.duplicates.get(&Cause::Crash)).sum();
    assert!(crashes > 0, "killed under load, it was to repeat something: {report}");
}
