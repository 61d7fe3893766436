//! Memory stays bounded, whatever the size of a log file.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use testkit::generate::Generator;

use crate::bench::{BUCKET, Bench};
use crate::config::{Config, Sink};

/// The most that the process may ever have in memory.
const PEAK_KIB_MAX: u64 = 96 << 10;

/// What the log file inflates to, unless the variable says otherwise.
fn inflated_mib() -> u64 {
    let given = std::env::var("TRAILSHIP_TEST_HUGE_MIB").ok();
    given.map_or(128, |text| text.parse().expect("TRAILSHIP_TEST_HUGE_MIB is a number"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_huge_log_file_is_shipped_in_little_memory() {
    let bench = Bench::start().await;
    // What the allocator and the encoders need comes on top of the budget, and without optimisation it is more.
    let config = Config::of(&[Sink::Elasticsearch]).agent("memory_budget = \"16MiB\"");
    let mut generator = Generator::new(91);
    let key = generator.next_key();
    let mut gz = GzEncoder::new(Vec::new(), Compression::fast());
    let note = |event: testkit::generate::Issued| {
        bench.ledger.issue(BUCKET, &key, event.index.into(), event.event_id.as_deref(), event.sha256);
    };
    generator.write_huge(inflated_mib() << 20, &mut gz, note).unwrap();
    gz.flush().unwrap();
    bench.aws.put_object(BUCKET, &key, gz.finish().unwrap()).unwrap();

    let mut agent = bench.run(&config);
    bench.until_quiet(&mut agent).await;
    let peak = agent.memory_peak_kib();
    assert!(agent.stop().await.success());
    assert!(peak <= PEAK_KIB_MAX, "{peak} KiB");
    bench.assert_passes(&config);
}
