//! Parquet objects of many log files: each event once, whoever is killed between a list of members and its object.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use testkit::aws::{AwsFault, BucketOptions, FaultRule, QueueBehaviour};
use testkit::generate::Generator;

use crate::bench::{BUCKET, Bench, Setup};
use crate::config::{Config, Sink};
use crate::parquet::{LAKE, LEASE, NAME, RETRY, assert_each_once, in_bucket, in_folder, run, said};

fn bucket(max_age: &str) -> Config {
    bucket_and(max_age, "")
}

/// The same with further tables.
fn bucket_and(max_age: &str, more: &str) -> Config {
    let merge = format!("merge = {{ max_age = \"{max_age}\" }}");
    let table =
        format!("type = \"parquet\"\nbucket = \"{LAKE}\"\nprefix = \"trail/\"\n{merge}\n{RETRY}\n{more}");
    Config::new().other(NAME, &table).source("visibility_timeout = \"30s\"")
}

fn folder(max_age: &str) -> Config {
    let table =
        format!("type = \"parquet\"\npath = \"lake\"\nmerge = {{ max_age = \"{max_age}\" }}\n{RETRY}");
    Config::new().other(NAME, &table).source("visibility_timeout = \"30s\"")
}

/// The objects below a part of the bucket.
fn below(bench: &Bench, prefix: &str) -> usize {
    bench.aws.keys(LAKE).iter().filter(|key| key.starts_with(&format!("trail/{prefix}"))).count()
}

/// How many of the objects hold no rows.
fn voids(objects: &BTreeMap<String, Bytes>) -> usize {
    objects.values().filter(|bytes| bytes.starts_with(b"PAR1trailship: void")).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_log_files_become_few_objects_and_a_replay_adds_none() {
    let bench = Bench::start().await;
    bench.aws.create_bucket(LAKE, BucketOptions::default());
    // What is announced again is not remembered, and comes to the sink once more.
    let config = bucket_and("2s", "[ledger]\ntype = \"none\"");
    let mut generator = Generator::new(91);
    let samples: Vec<_> = (0..100).map(|_| generator.log_file(50)).collect();
    samples.iter().for_each(|sample| bench.issue(sample));
    let mut agent = bench.run(&config);
    bench.until_quiet(&mut agent).await;
    let before = in_bucket(&bench);
    let members = below(&bench, "_trailship/members/");
    assert!(members >= 100 && before.len() * 2 < members, "{members} parts in {} objects", before.len());
    samples.iter().for_each(|sample| bench.aws.announce_again(BUCKET, &sample.key).unwrap());
    bench.until_quiet(&mut agent).await;
    let duplicates = "trailship_sink_events_total{outcome=\"duplicate\",sink=\"parquet\"}";
    assert_eq!(agent.metric(duplicates).await, 5_000);
    assert!(agent.stop().await.success());
    assert!(in_bucket(&bench) == before);
    assert_each_once(&bench, &config, &before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_between_claims_lists_and_objects_every_event_stands_once() {
    let queue = QueueBehaviour { shuffle: true, duplicates: 0.1, ..QueueBehaviour::default() };
    let bench = Bench::start_with(Setup { queue, ..Setup::default() }).await;
    bench.aws.create_bucket(LAKE, BucketOptions::default());
    let config = bucket("1s");
    // Slow enough to be killed in between, with answers that are lost, and writers at the same name.
    bench.aws.inject(FaultRule::new("PutObject", AwsFault::Delay { ms: 30 }).prefix("trail/"));
    bench.aws.inject(FaultRule::new("PutObject", AwsFault::LoseAnswer).prefix("trail/").probability(0.05));
    bench.aws.inject(FaultRule::new("PutObject", AwsFault::Conflict).prefix("trail/").probability(0.05));
    let mut generator = Generator::new(92);
    let sizes: Vec<usize> = (0..200).map(|file| generator.draw_file_size(file)).collect();
    bench.issue_all(&mut generator, sizes).await;
    for (part, more) in [("_trailship/members/", 20), ("_trailship/groups/", 1), ("account=", 1)] {
        let wanted = below(&bench, part) + more;
        let mut agent = bench.run(&config);
        bench.until(&mut agent, part, || below(&bench, part) >= wanted).await;
        agent.kill();
        bench.ledger.crash();
        bench.advance(LEASE);
    }
    let mut agent = bench.run(&config);
    bench.until_quiet(&mut agent).await;
    assert!(agent.stop().await.success());
    assert_each_once(&bench, &config, &in_bucket(&bench));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_with_a_list_and_no_object_the_next_one_stores_just_that_object() {
    let bench = Bench::start().await;
    bench.aws.create_bucket(LAKE, BucketOptions::default());
    let config = bucket("5s");
    let refused = FaultRule::new("PutObject", AwsFault::InternalError).prefix("trail/account=");
    let refused = bench.aws.inject(refused);
    let mut generator = Generator::new(93);
    bench.issue_all(&mut generator, [30; 40]).await;
    let mut agent = bench.run(&config);
    bench.until(&mut agent, "objects are tried", || bench.aws.fired(refused) > 0).await;
    // As many groups as there may be requests at once come as far as that, and none is half claimed any more.
    let written = || below(&bench, "_trailship/members/") + below(&bench, "_trailship/groups/");
    let (mut before, mut quiet_s) = (written(), 0);
    while quiet_s < 4 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = written();
        quiet_s = if now == before { quiet_s + 1 } else { 0 };
        before = now;
    }
    agent.kill();
    bench.ledger.crash();
    bench.advance(LEASE);
    bench.aws.heal(refused);
    let listed: Vec<String> =
        bench.aws.keys(LAKE).into_iter().filter(|key| key.contains("/groups/")).collect();
    assert!(!listed.is_empty() && in_bucket(&bench).is_empty());
    let mut agent = bench.run(&config);
    bench.until_quiet(&mut agent).await;
    assert!(agent.stop().await.success());
    let objects = in_bucket(&bench);
    for key in listed {
        let list: Value = serde_json::from_slice(&bench.aws.object(LAKE, &key).unwrap()).unwrap();
        assert!(objects.contains_key(list["object"].as_str().unwrap()), "{list} is rebuilt");
    }
    assert_eq!(voids(&objects), 0);
    assert_each_once(&bench, &config, &objects);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_and_started_again_a_folder_holds_every_event_once() {
    let queue = QueueBehaviour { shuffle: true, duplicates: 0.1, ..QueueBehaviour::default() };
    let bench = Bench::start_with(Setup { queue, ..Setup::default() }).await;
    let config = folder("1s");
    let mut generator = Generator::new(94);
    let sizes: Vec<usize> = (0..100).map(|file| generator.draw_file_size(file)).collect();
    bench.issue_all(&mut generator, sizes).await;
    for _ in 0..2 {
        let wanted = in_folder(&bench).len() + 2;
        let mut agent = bench.run(&config);
        bench.until(&mut agent, "some more objects are there", || in_folder(&bench).len() >= wanted).await;
        agent.kill();
        bench.ledger.crash();
        bench.advance(LEASE);
    }
    let mut agent = bench.run(&config);
    bench.until_quiet(&mut agent).await;
    assert!(agent.stop().await.success());
    assert_each_once(&bench, &config, &in_folder(&bench));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopped_it_stores_what_waits_and_nobody_else_is_held_up() {
    let bench = Bench::start().await;
    let config = folder("10m").sink(Sink::File, "");
    let mut generator = Generator::new(95);
    let issued = bench.issue_all(&mut generator, [50; 20]).await;
    let mut agent = bench.run(&config);
    let delivered = "trailship_sink_events_total{outcome=\"delivered\",sink=\"file\"}";
    while agent.metric(delivered).await < issued {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(in_folder(&bench).len(), 0, "they wait for more");
    assert!(agent.stop().await.success());
    assert_each_once(&bench, &config, &in_folder(&bench));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_says_whether_the_store_keeps_what_stands_at_a_name() {
    let bench = Bench::start().await;
    bench.aws.create_bucket(LAKE, BucketOptions::default());
    let output = run(&bench, &[], &bucket("1m").text(&bench));
    assert!(output.status.success() && said(&output).contains("objects can be merged"), "{}", said(&output));
    assert_eq!(in_bucket(&bench).len(), 0);
    let hidden = bench.aws.inject(FaultRule::new("GetObject", AwsFault::Forbidden));
    let output = run(&bench, &[], &bucket("1m").text(&bench));
    assert!(!output.status.success() && said(&output).contains("s3:ListBucket"), "{}", said(&output));
    bench.aws.heal(hidden);
    let old = BucketOptions { ignores_conditions: true, ..BucketOptions::default() };
    bench.aws.create_bucket("old-lake", old);
    let text = bucket("1m").text(&bench).replace("\"lake\"", "\"old-lake\"");
    let output = run(&bench, &[], &text);
    assert!(!output.status.success() && said(&output).contains("If-None-Match"), "{}", said(&output));
    let mut agent = bench.run_text(&text.replace("1m", "1s"));
    bench.issue(&Generator::new(96).log_file(20));
    let state = "trailship_sink_state{sink=\"parquet\",state=\"denied\"}";
    while agent.metric(state).await != 1 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let stored = bench.aws.keys("old-lake");
    assert!(stored.iter().all(|key| key.contains("_trailship")), "{stored:?}");
    let output = run(&bench, &["--offline"], &bucket("2h").text(&bench));
    assert!(said(&output).contains("sinks.parquet.merge.max_age"), "{}", said(&output));
}
