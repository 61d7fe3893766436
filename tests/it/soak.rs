//! Memory under a steady load with one sink down: it stays as it is.

use std::io::Write as _;
use std::time::Duration;

use testkit::destinations::{Failure, Mode};
use testkit::generate::Generator;

use crate::bench::Bench;
use crate::config::{Config, Sink};

/// One log file arrives every so often.
const PACE: Duration = Duration::from_millis(50);
/// Events in each.
const EVENTS: usize = 40;
/// The most that may have come on top in the second half of the run.
const GROWTH_KIB_MAX: f64 = 6.0 * 1024.0;

/// How long the run takes, unless the variable says otherwise.
fn seconds() -> u64 {
    let given = std::env::var("TRAILSHIP_TEST_SOAK_SECONDS").ok();
    given.map_or(10, |text| text.parse().expect("TRAILSHIP_TEST_SOAK_SECONDS is a number"))
}

/// By how much the line through the samples rises from the first to the last (least squares).
fn rise(samples: &[u64]) -> f64 {
    let count = samples.len() as f64;
    let mean_at = (count - 1.0) / 2.0;
    let mean = samples.iter().sum::<u64>() as f64 / count;
    let at = |(at, sample): (usize, &u64)| (at as f64 - mean_at, *sample as f64 - mean);
    let along: f64 = samples.iter().enumerate().map(at).map(|(x, y)| x * y).sum();
    let square: f64 = (0..samples.len()).map(|at| (at as f64 - mean_at).powi(2)).sum();
    along / square * (count - 1.0)
}

#[test]
fn the_rise_is_that_of_the_line_through_the_samples() {
    assert!((rise(&[100, 110, 120, 130]) - 30.0).abs() < 1e-9);
    assert!(rise(&[100, 130, 100, 130, 100]).abs() < 1e-9);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_a_steady_load_with_one_sink_down_memory_stays_flat_and_the_others_keep_up() {
    let seconds = seconds();
    let bench = Bench::start().await;
    let down = "retry = { initial = \"100ms\", max = \"1s\", give_up_after = \"1s\" }";
    let config = Config::of(&[Sink::Elasticsearch, Sink::Loggly, Sink::File]).sink(Sink::SplunkHec, down);
    let config = config.agent("memory_budget = \"32MiB\"");
    bench.splunk_hec.set_mode(Mode { everywhere: true, ..Failure::Status(503).into() });
    let mut generator = Generator::new(55);
    let mut agent = bench.run(&config);
    assert_eq!(agent.page("/livez").await.0, 200);
    let (mut samples, mut issued) = (Vec::new(), 0);
    let start = tokio::time::Instant::now();
    let mut tick = tokio::time::interval(PACE);
    while start.elapsed() < Duration::from_secs(seconds) {
        tick.tick().await;
        issued += bench.issue_all(&mut generator, [EVENTS]).await;
        if start.elapsed().as_secs() > samples.len() as u64 {
            samples.push(agent.memory_kib("VmRSS:"));
        }
    }
    let behind = issued - bench.loggly.counts().stored;
    let half = &samples[samples.len() / 2..];
    let grown = rise(half);
    let _ = writeln!(
        std::io::stderr(),
        "{seconds} s, {issued} events, {behind} behind at the end; KiB in memory: {:?}; {grown:.0} in the second half",
        samples.iter().step_by((samples.len() / 12).max(1)).collect::<Vec<_>>(),
    );
    assert!(grown < GROWTH_KIB_MAX, "{grown:.0} KiB more in the second half: {samples:?}");
    assert!(behind < 5 * EVENTS as u64 * 20, "five seconds' worth at most: {behind} events behind");
    assert_eq!(bench.splunk_hec.counts().stored, 0);

    bench.splunk_hec.set_mode(Mode::default());
    bench.until_quiet(&mut agent).await;
    assert!(agent.stop().await.success());
    let report = bench.assert_passes(&config);
    assert!(report.sinks.iter().all(|sink| sink.duplicates_with_cause() == 0), "{report}");
}
