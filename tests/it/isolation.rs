//! No sink holds up another.

use std::fs;

use testkit::destinations::{Failure, Mode};
use testkit::generate::Generator;

use crate::bench::{Bench, PATIENT, QUEUE};
use crate::config::{Config, Sink};

/// Log files of the run.
const FILES: usize = 2_000;
/// Events in each.
const EVENTS: usize = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_one_sink_denied_and_one_slow_the_others_finish_without_them() {
    let bench = Bench::start().await;
    let config = Sink::ALL.iter().fold(Config::new(), |config, sink| {
        config.sink(*sink, "retry = { initial = \"50ms\", max = \"500ms\" }")
    });
    // A fraction of what there is to deliver: without parking, what the slow sink holds would stop everything.
    let config = config.agent("memory_budget = \"32MiB\"").source(PATIENT);
    bench.elasticsearch.set_mode(Mode { everywhere: true, ..Mode::from(Failure::Status(401)) });
    // Much less than a tenth of the others' speed, on any machine: a request takes some ten seconds.
    bench.splunk_hec.set_mode(Mode { bytes_per_second: 10_000, ..Mode::default() });
    let mut agent = bench.run(&config);
    let issued = bench.issue_all(&mut Generator::new(9), [EVENTS; FILES]).await;
    let lines = || {
        let text = fs::read(bench.path("out/events.ndjson")).unwrap_or_default();
        text.iter().filter(|byte| **byte == b'\n').count() as u64
    };
    let healthy = || bench.loggly.counts().stored >= issued && bench.sumo_logic.counts().stored >= issued;
    bench.until(&mut agent, "the healthy sinks have everything", || healthy() && lines() >= issued).await;

    // Neither of the two can have held up the others: one had nothing, the other a part.
    assert_eq!(bench.elasticsearch.counts().stored, 0);
    let slow = bench.splunk_hec.counts().stored;
    assert!(slow < issued, "the slow sink has {slow} of {issued} events already");
    assert!(!agent.coded("sink_congested").is_empty(), "the slow sink was to give up its memory");
    // What the denied sink is owed is handed off; what the slow one is owed holds its message.
    let originals = bench.aws.queue(QUEUE).messages().into_iter();
    let deleted = originals.filter(|message| message.gone && !message.body.contains("trailship.handoff"));
    let finished = deleted.count() as u64 * EVENTS as u64;
    assert!(
        finished <= bench.splunk_hec.counts().stored,
        "a message is deleted before every sink has its events"
    );
    assert_eq!(bench.letters(), Vec::<serde_json::Value>::new());
    let (code, text) = agent.page("/readyz").await;
    assert_eq!(code, 503, "{text}");
    assert!(text.contains("elasticsearch") && !text.contains("splunk_hec"), "{text}");

    bench.elasticsearch.set_mode(Mode::default());
    bench.splunk_hec.set_mode(Mode::default());
    bench.until_quiet_in_fast_time(&mut agent).await;
    let (code, text) = agent.page("/readyz").await;
    assert_eq!(code, 200, "{text}");
    assert!(agent.stop().await.success());
    let report = bench.assert_passes(&config);
    // Nothing was repeated for the sake of another sink.
    assert!(report.sinks.iter().all(|sink| sink.duplicates_with_cause() == 0), "{report}");
    assert_eq!((bench.loggly.counts().stored, bench.sumo_logic.counts().stored), (issued, issued));
}
