//! The promise as a whole: everything that was issued is at every sink, whatever the queue does.

use testkit::aws::{QueueBehaviour, What};
use testkit::generate::Generator;

use crate::bench::{Bench, Setup};
use crate::config::{Config, Sink};

/// Log files of the run.
const FILES: u64 = 2_000;

/// Events of a log file: as many as real ones have, and the smallest and the largest for sure.
fn events(generator: &Generator, file: u64) -> usize {
    match file {
        0 => 1,
        1 => 400,
        file => generator.draw_file_size(file),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_log_files_arrive_everywhere_although_the_queue_shuffles_and_repeats() {
    let queue =
        QueueBehaviour { shuffle: true, duplicates: 0.1, partial_batches: true, ..QueueBehaviour::default() };
    let bench = Bench::start_with(Setup { queue, ..Setup::default() }).await;
    bench.install_template().await;
    let config = Config::of(&Sink::ALL);
    let mut generator = Generator::new(4);
    let sizes: Vec<usize> = (0..FILES).map(|file| events(&generator, file)).collect();
    let mut agent = bench.run(&config);
    bench.issue_all(&mut generator, sizes).await;
    bench.until_quiet(&mut agent).await;
    assert!(agent.stop().await.success());

    let report = bench.assert_passes(&config);
    let repeated = bench.aws.log().iter().filter(|operation| operation.what == What::Duplicated).count();
    assert!(repeated > 100, "the queue was to repeat messages, and repeated {repeated}");
    let search = report.sink("elasticsearch").unwrap();
    assert_eq!(search.conflicts, 0, "what is repeated is not sent: {report}");
    assert!(report.sinks.iter().all(|sink| sink.duplicates_with_cause() == 0), "{report}");
    assert!(report.sinks.iter().all(|sink| sink.stored == sink.issued), "{report}");
    assert_eq!(bench.letters(), Vec::<serde_json::Value>::new());
}
