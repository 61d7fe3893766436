//! Parquet objects in a folder and in a bucket: whole, each event once, whatever went wrong on the way.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use bytes::Bytes;
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::{Field, Row};
use testkit::aws::{AwsFault, BucketOptions, FaultRule, QueueBehaviour};
use testkit::generate::{Generator, Oddity};
use testkit::ledger::{ContentHash, Position, Sighting};

use crate::bench::{BUCKET, Bench, Setup};
use crate::config::{Config, Sink};

/// The sink's name, and the stand-in's in the ledger.
pub(crate) const NAME: &str = "parquet";
/// The bucket that it writes to.
pub(crate) const LAKE: &str = "lake";
/// The shortest lease that the configuration allows.
pub(crate) const LEASE: Duration = Duration::from_secs(30);
pub(crate) const RETRY: &str = "retry = { initial = \"50ms\", max = \"200ms\" }";

fn folder() -> Config {
    Config::new().other(NAME, &format!("type = \"parquet\"\npath = \"lake\"\n{RETRY}"))
}

fn bucket() -> Config {
    with_bucket(Config::new())
}

/// One more sink, which writes to the bucket.
pub(crate) fn with_bucket(config: Config) -> Config {
    let table = format!(
        "type = \"parquet\"\nbucket = \"{LAKE}\"\nprefix = \"trail/\"\ncompression = \"snappy\"\n{RETRY}"
    );
    config.other(NAME, &table)
}

/// The files below a folder, by their paths in it; without what a reader passes over, and what is gone again.
fn files(folder: &Path, prefix: &str, found: &mut BTreeMap<String, Bytes>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if name.starts_with(['.', '_']) {
            continue;
        }
        let name = format!("{prefix}{name}");
        if entry.file_type().unwrap().is_dir() {
            files(&entry.path(), &format!("{name}/"), found);
        } else {
            found.insert(name, fs::read(entry.path()).unwrap().into());
        }
    }
}

/// What stands in the folder.
pub(crate) fn in_folder(bench: &Bench) -> BTreeMap<String, Bytes> {
    let mut found = BTreeMap::new();
    files(&bench.path("lake"), "", &mut found);
    found
}

/// What stands in the bucket, without the prefix.
pub(crate) fn in_bucket(bench: &Bench) -> BTreeMap<String, Bytes> {
    let object = |key: String| {
        let bytes = bench.aws.object(LAKE, &key).unwrap();
        (key.strip_prefix("trail/").expect("the prefix").to_owned(), bytes)
    };
    bench.aws.keys(LAKE).into_iter().map(object).filter(|(name, _)| !name.starts_with('_')).collect()
}

fn text(row: &Row, column: &str) -> Option<String> {
    match row.get_column_iter().find(|(name, _)| *name == column)?.1 {
        Field::Null => None,
        Field::Str(text) => Some(text.clone()),
        other => panic!("{column} is no text: {other:?}"),
    }
}

/// Tells the ledger what another reader of Parquet finds in the objects; how many rows there are.
pub(crate) fn testify(bench: &Bench, objects: &BTreeMap<String, Bytes>) -> usize {
    let mut rows = 0;
    for (name, bytes) in objects {
        let reader =
            SerializedFileReader::new(bytes.clone()).unwrap_or_else(|error| panic!("{name}: {error}"));
        for row in reader.get_row_iter(None).unwrap() {
            let row = row.unwrap();
            let record = text(&row, "record").expect("its record");
            let Some((_, Field::Long(index))) =
                row.get_column_iter().find(|(name, _)| *name == "trailship_record")
            else {
                panic!("{name}: a row without its position");
            };
            let position = Position {
                bucket: text(&row, "trailship_bucket").unwrap(),
                key: text(&row, "trailship_key").unwrap(),
                index: u64::try_from(*index).unwrap(),
            };
            if let Some(account) = text(&row, "recipientaccountid") {
                assert!(name.starts_with(&format!("account={account}/region=")), "{name}");
            }
            let event_id = text(&row, "eventid");
            let seen =
                Sighting { event_id, position: Some(position), hash: ContentHash::of(record.as_bytes()) };
            bench.ledger.store(NAME, u64::MAX, &seen);
            rows += 1;
        }
    }
    rows
}

/// Tells the ledger what stands in the bucket.
pub(crate) fn testify_bucket(bench: &Bench) {
    testify(bench, &in_bucket(bench));
}

/// Tells the ledger what stands in the folder.
pub(crate) fn testify_folder(bench: &Bench) {
    testify(bench, &in_folder(bench));
}

/// Judges a run that is over: every event is there, once.
#[track_caller]
pub(crate) fn assert_each_once(bench: &Bench, config: &Config, objects: &BTreeMap<String, Bytes>) {
    let rows = testify(bench, objects);
    let report = bench.assert_passes(config);
    let sink = report.sink(NAME).unwrap();
    assert_eq!((rows as u64, sink.stored), (sink.issued, sink.issued), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_and_started_again_the_folder_holds_every_event_once() {
    let queue = QueueBehaviour { shuffle: true, duplicates: 0.2, ..QueueBehaviour::default() };
    let bench = Bench::start_with(Setup { queue, ..Setup::default() }).await;
    let config = folder().source("visibility_timeout = \"30s\"");
    // Reads break off, and end with a wrong checksum: what was gathered until then must not show as an object.
    let broken = AwsFault::ResetBody { bytes: None };
    let reset = bench.aws.inject(FaultRule::new("GetObject", broken).probability(0.3));
    let corrupt = FaultRule::new("GetObject", AwsFault::Corrupt).probability(0.3).times_per_key(2);
    let corrupt = bench.aws.inject(corrupt);
    let mut generator = Generator::new(81);
    let mut sizes: Vec<usize> = (0..150).map(|file| generator.draw_file_size(file)).collect();
    // Of several chunks each.
    (0..sizes.len()).step_by(10).for_each(|file| sizes[file] = 2_000);
    let issued = bench.issue_all(&mut generator, sizes).await;
    let mut last = 0;
    for _ in 0..3 {
        let mut agent = bench.run(&config);
        let wanted = last + 20;
        bench.until(&mut agent, "some more objects are there", || in_folder(&bench).len() >= wanted).await;
        agent.kill();
        bench.ledger.crash();
        // Until the stand-in has noticed that nobody waits for messages any more: it would hand some out.
        tokio::time::sleep(Duration::from_millis(200)).await;
        bench.advance(LEASE);
        last = in_folder(&bench).len();
    }
    assert!(bench.aws.fired(corrupt) > 5);
    bench.aws.heal(reset);
    let before = in_folder(&bench);
    let mut agent = bench.run(&config);
    bench.until_quiet(&mut agent).await;
    assert!(agent.stop().await.success());
    let objects = in_folder(&bench);
    for (name, bytes) in &before {
        assert!(objects.get(name) == Some(bytes), "{name} was another before the last kill");
    }
    assert!(issued > 1000 && objects.len() > 100, "{issued} events in {} objects", objects.len());
    assert_each_once(&bench, &config, &objects);
    assert_eq!(bench.letters().len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_throttles_loses_answers_and_denies_for_a_while_gets_every_event_once() {
    let bench = Bench::start().await;
    bench.aws.create_bucket(LAKE, BucketOptions::default());
    // Another sink that is well: it must not wait.
    let config = bucket().sink(Sink::File, "");
    let denied = bench.aws.inject(FaultRule::new("PutObject", AwsFault::Forbidden).prefix("trail/"));
    let mut generator = Generator::new(82);
    let issued = bench.issue_all(&mut generator, [100; 60]).await;
    let mut agent = bench.run(&config);
    let state = "trailship_sink_state{sink=\"parquet\",state=\"denied\"}";
    while agent.metric(state).await != 1 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(agent.page("/readyz").await.0, 503, "somebody has to act");
    let delivered = "trailship_sink_events_total{outcome=\"delivered\",sink=\"file\"}";
    while agent.metric(delivered).await < issued {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(in_bucket(&bench).len(), 0);
    bench.aws.inject(FaultRule::new("PutObject", AwsFault::Throttle).probability(0.3));
    bench.aws.inject(FaultRule::new("PutObject", AwsFault::LoseAnswer).probability(0.3));
    bench.aws.heal(denied);
    bench.until_quiet(&mut agent).await;
    let told = agent.coded("sink_denied");
    assert!(told.iter().any(|line| line.to_string().contains("AccessDenied")), "{told:?}");
    assert!(agent.stop().await.success());
    assert_each_once(&bench, &config, &in_bucket(&bench));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_notification_of_a_log_file_changes_nothing() {
    let bench = Bench::start().await;
    let config = folder();
    let samples: Vec<_> = {
        let mut generator = Generator::new(83);
        (0..10).map(|_| generator.log_file(300)).collect()
    };
    samples.iter().for_each(|sample| bench.issue(sample));
    let mut agent = bench.run(&config);
    bench.until_quiet(&mut agent).await;
    let before = in_folder(&bench);
    samples.iter().for_each(|sample| bench.aws.announce_again(BUCKET, &sample.key).unwrap());
    bench.until_quiet(&mut agent).await;
    assert!(agent.stop().await.success());
    assert!(in_folder(&bench) == before, "the same objects, byte for byte");
    assert_each_once(&bench, &config, &before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_odd_and_broken_log_files_everything_that_can_be_read_is_stored() {
    let bench = Bench::start().await;
    let config = folder().source("read_attempts = 2");
    let mut generator = Generator::new(84);
    for oddity in Oddity::ALL {
        let ignored = [Oddity::Insight, Oddity::NetworkActivity, Oddity::Aggregated];
        if !ignored.contains(&oddity) {
            bench.issue(&generator.odd_file(oddity).0);
        }
        bench.issue(&generator.log_file(20));
    }
    let mut agent = bench.run(&config);
    bench.until_quiet(&mut agent).await;
    assert!(agent.stop().await.success());
    testify(&bench, &in_folder(&bench));
    let report = bench.assert_passes(&config);
    assert!(report.sink(NAME).unwrap().stored > 500, "{report}");
    let broken = bench.letters().iter().filter(|letter| letter["stage"] == "read").count();
    assert!(broken >= 5, "{broken} log files are broken");
}

pub(crate) fn run(bench: &Bench, arguments: &[&str], text: &str) -> Output {
    fs::write(bench.path("trailship.toml"), text).unwrap();
    let mut command = bench.command("check");
    command.args(arguments).output().unwrap()
}

pub(crate) fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_says_whether_it_may_write_and_stores_no_event() {
    let bench = Bench::start().await;
    let output = run(&bench, &[], &folder().text(&bench));
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("objects can be written"), "{}", said(&output));
    assert_eq!(in_folder(&bench).len(), 0);
    let output = run(&bench, &[], &bucket().text(&bench));
    assert!(!output.status.success() && said(&output).contains("NoSuchBucket"), "{}", said(&output));
    bench.aws.create_bucket(LAKE, BucketOptions::default());
    let output = run(&bench, &[], &bucket().text(&bench));
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(bench.aws.keys(LAKE), ["trail/_trailship_check"]);
    bench.aws.inject(FaultRule::new("PutObject", AwsFault::Forbidden));
    let output = run(&bench, &[], &bucket().text(&bench));
    assert!(!output.status.success() && said(&output).contains("s3:PutObject"), "{}", said(&output));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configuration_that_cannot_work_is_refused_with_its_key() {
    let bench = Bench::start().await;
    let refused = |lines: &str, key: &str, what: &str| {
        let config = Config::new().other(NAME, &format!("type = \"parquet\"\n{lines}"));
        let output = run(&bench, &["--offline"], &config.text(&bench));
        let said = said(&output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(&format!("sinks.parquet.{key}")) && said.contains(what), "{said}");
    };
    refused("path = \"x\"\nbatch = { max_events = 10 }", "batch", "take it away");
    refused("path = \"x\"\nbucket = \"lake\"", "path", "exclude each other");
    refused("bucket = \"lake\"\ncompression = \"gzip\"", "compression", "zstd");
    refused("path = \"x\"\ntimeout = \"5s\"", "timeout", "unknown");
    let output = run(&bench, &["--offline", "--print"], &bucket().text(&bench));
    assert!(output.status.success(), "{}", said(&output));
    assert!(!said(&output).contains("max_events"), "no batch is shown: {}", said(&output));
}
