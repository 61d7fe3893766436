//! A disk that takes no more, and no more connections to be had: nothing is acknowledged, it shows, and it goes on.
//!
//! Nobody needs to be root for it: `/dev/full` says that the disk is full, and a limit on the length of files or on open
//! ones is lifted while the agent runs.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use testkit::destinations::Failure;
use testkit::generate::Generator;

use crate::agent::Agent;
use crate::bench::{BUCKET, Bench};
use crate::config::{Config, Sink};

const RETRY: &str = "retry = { initial = \"50ms\", max = \"200ms\" }";

/// Lifts one of the limits that the agent was started with.
fn lift(agent: &Agent, limit: &str) {
    let id = agent.id().to_string();
    let done = Command::new("prlimit").args(["--pid", &id, limit]).status();
    assert!(done.expect("prlimit of util-linux").success());
}

/// Whether the log says of a sink that it does not get on, and why.
fn told(agent: &Agent, sink: &str, why: &str) -> bool {
    agent.coded("sink_failing").iter().any(|line| line["sink"] == sink && line.to_string().contains(why))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_acknowledges_nothing_shows_and_holds_up_no_other_until_there_is_space() {
    let bench = Bench::start().await;
    let config = [Sink::Elasticsearch, Sink::Loggly, Sink::File]
        .iter()
        .fold(Config::new(), |config, sink| config.sink(*sink, RETRY));
    #[cfg(feature = "parquet")]
    let config = config.other("parquet", &format!("type = \"parquet\"\npath = \"lake\"\n{RETRY}"));
    let mut generator = Generator::new(61);
    let sample = generator.log_file(20);
    let bad = sample.issued[7].event_id.clone().unwrap();
    bench.elasticsearch.set_mode(Failure::RefuseContaining(bad));
    bench.issue(&sample);
    // Of one log file alone, the lines and the object are longer than the limit.
    let issued = 20 + bench.issue_all(&mut generator, [3_000, 50, 50, 50]).await;
    symlink("/dev/full", bench.path("dead-letters.ndjson")).unwrap();
    fs::write(bench.path("trailship.toml"), config.text(&bench)).unwrap();
    // A file may have 128 KiB, or 256 KiB where the shell counts otherwise.
    let mut agent = bench.run_command(bench.limited("trap '' XFSZ && ulimit -S -f 256"));
    let healthy = || bench.loggly.counts().stored >= issued;
    bench.until(&mut agent, "the healthy sink has everything", healthy).await;
    let shown = |agent: &Agent| {
        let parquet = !cfg!(feature = "parquet") || told(agent, "parquet", "File too large");
        parquet && told(agent, "file", "File too large")
    };
    while !shown(&agent) || agent.metric("trailship_dead_letter_write_failures_total").await == 0 {
        assert!(agent.runs(), "the agent has ended");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    // The log file that fits nowhere and the one with the bad event, at least.
    assert!(bench.messages() >= 2, "{:?}", bench.aws.queue(crate::bench::QUEUE).counts());

    fs::remove_file(bench.path("dead-letters.ndjson")).unwrap();
    lift(&agent, "--fsize=unlimited");
    bench.until_quiet(&mut agent).await;
    assert!(agent.stop().await.success());
    assert_eq!(bench.letters().len(), 1);
    #[cfg(feature = "parquet")]
    crate::parquet::testify_folder(&bench);
    let report = bench.assert_passes(&config);
    for sink in &report.sinks {
        assert_eq!(sink.stored + sink.dead_lettered, sink.issued, "{report}");
        assert_eq!(sink.duplicates_with_cause(), 0, "what was written in part is cut off: {report}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_that_cannot_be_written_acknowledges_nothing_until_it_can() {
    let bench = Bench::start().await;
    let config = Config::new().sink(Sink::File, RETRY).sink(Sink::Loggly, "");
    // A file where the folder should be: that stops root as well.
    fs::write(bench.path("out"), "").unwrap();
    let issued = bench.issue_all(&mut Generator::new(62), [20; 10]).await;
    let mut agent = bench.run(&config);
    let healthy = || bench.loggly.counts().stored >= issued;
    bench.until(&mut agent, "the healthy sink has everything", healthy).await;
    let log = agent.log();
    let failing = || log.coded("sink_failing").iter().any(|line| line["sink"] == "file");
    bench.until(&mut agent, "the log says why", failing).await;
    assert_eq!(bench.messages(), 10);
    fs::remove_file(bench.path("out")).unwrap();
    bench.until_quiet(&mut agent).await;
    assert!(agent.stop().await.success());
    bench.assert_passes(&config);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_free_file_descriptors_it_neither_ends_nor_loses_anything_and_goes_on_when_there_are_some() {
    let bench = Bench::start().await;
    let config = Sink::ALL.iter().fold(Config::new(), |config, sink| config.sink(*sink, RETRY));
    fs::write(bench.path("trailship.toml"), config.text(&bench)).unwrap();
    let mut agent = bench.run_command(bench.limited("ulimit -S -n 64"));
    // It has to have started: what it opens for itself, nobody can take away.
    assert_eq!(agent.page("/livez").await.0, 200);
    let open = fs::read_dir(format!("/proc/{}/fd", agent.id())).unwrap().count();
    lift(&agent, &format!("--nofile={}:", open + 1));
    bench.issue_all(&mut Generator::new(63), [20; 100]).await;
    let log = agent.log();
    let short = || log.text().contains("Too many open files") || log.text().contains("os error 24");
    bench.until(&mut agent, "the log says what is missing", short).await;
    assert!(bench.messages() > 0, "there was to be something left: {BUCKET}");
    lift(&agent, "--nofile=1024:");
    bench.until_quiet(&mut agent).await;
    assert_eq!(agent.page("/livez").await.0, 200);
    assert!(agent.stop().await.success());
    bench.assert_passes(&config);
}
