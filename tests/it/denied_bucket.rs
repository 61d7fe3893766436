//! A bucket that refuses us waits, says what is wrong, and holds up no other.

use std::time::Duration;

use serde_json::Value;
use testkit::aws::{AwsFault, BucketOptions, FaultRule, Notification, NotifyKind};
use testkit::generate::Generator;
use tokio::time::Instant;

use crate::bench::{BUCKET, Bench, DEAD_QUEUE, QUEUE, Setup};
use crate::config::{Config, Sink};

const OTHER: &str = "other-trail";

/// The configuration with a second bucket.
fn with_two_buckets(bench: &Bench, config: &Config) -> String {
    let one = format!("buckets = [{{ name = \"{BUCKET}\", owner = \"111122223333\" }}]");
    let text = config.text(bench);
    assert!(text.contains(&one), "{text}");
    text.replace(&one, &format!("buckets = [{{ name = \"{BUCKET}\" }}, {{ name = \"{OTHER}\" }}]"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_refuses_us_waits_and_the_other_flows_at_full_speed() {
    let bench = Bench::start_with(Setup { receives_max: 3, ..Setup::default() }).await;
    bench.aws.create_bucket(OTHER, BucketOptions::default());
    bench.aws.notify(OTHER, Notification::new(QUEUE, NotifyKind::S3)).unwrap();
    let config = Config::of(&[Sink::Loggly, Sink::File]);
    bench.aws.deny_kms(OTHER, None, true).unwrap();
    let mut generator = Generator::new(91);
    let denied: Vec<_> = (0..300).map(|_| generator.log_file(5)).collect();
    let good: Vec<_> = (0..300).map(|_| generator.log_file(5)).collect();
    for (denied, good) in denied.iter().zip(&good) {
        for event in &denied.issued {
            let id = event.event_id.as_deref();
            bench.ledger.issue(OTHER, &denied.key, event.index.into(), id, event.sha256);
        }
        bench.aws.put_object(OTHER, &denied.key, denied.gz.clone()).unwrap();
        bench.issue(good);
    }
    let began = Instant::now();
    let mut agent = bench.run_text(&with_two_buckets(&bench, &config));
    let all_good = || bench.messages() == denied.len();
    bench.until(&mut agent, "the other bucket's are done", all_good).await;
    let took = began.elapsed();

    let line = agent.told("bucket_denied", 1).await.pop().unwrap();
    assert_eq!(
        (&line["level"], &line["bucket"], &line["kind"]),
        (&"ERROR".into(), &OTHER.into(), &"kms".into())
    );
    assert!(line["remedy"].as_str().unwrap().contains("kms:Decrypt"), "{line}");
    let (code, text) = agent.page("/readyz").await;
    assert_eq!(code, 503);
    assert!(text.contains("bucket_denied") && text.contains(OTHER) && text.contains("kms:Decrypt"), "{text}");
    assert!(!text.contains("is not authorized"), "what S3 says is not for strangers: {text}");
    let waiting = |status: &str| {
        let status: Value = serde_json::from_str(status).unwrap();
        let bucket = &status["sources"][0]["paused_buckets"][0];
        assert_eq!(bucket["name"], OTHER, "{status}");
        bucket["waiting_log_files"].as_u64().unwrap()
    };
    // All of them wait for one probe after the other, without a place among those that are read.
    let start = Instant::now();
    while waiting(&agent.page("/status").await.1) < 299 {
        assert!(start.elapsed() < Duration::from_secs(30));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(agent.page("/").await.1.contains("refuses us"));
    assert_eq!(agent.metric("trailship_trail_check_ok{check=\"bucket_access\"}").await, 0);
    let requests = bench.aws.object_requests();
    let refused = requests.iter().filter(|request| request.status == 403).count();
    assert!(refused < 60, "a few in the beginning and then probes: {refused} in {took:?}");
    assert_eq!(agent.coded("bucket_denied").len(), 1);

    bench.aws.deny_kms(OTHER, None, false).unwrap();
    bench.until_quiet(&mut agent).await;
    assert_eq!(agent.coded("bucket_open").len(), 1);
    assert_eq!(agent.metric("trailship_trail_check_ok{check=\"bucket_access\"}").await, 1);
    assert_eq!(agent.page("/readyz").await.0, 200);
    assert!(agent.stop().await.success());
    let messages = bench.aws.queue(QUEUE).messages();
    assert!(messages.iter().all(|message| message.deliveries.len() == 1), "no message was received twice");
    assert!(bench.aws.queue(DEAD_QUEUE).counts().is_empty());
    let report = bench.assert_passes(&config);
    assert!(report.sinks.iter().all(|sink| sink.duplicates_with_cause() == 0), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_its_only_bucket_denied_it_leaves_messages_on_their_queue_and_gives_back_those_it_has() {
    let bench = Bench::start().await;
    let config = Config::of(&[Sink::Loggly]).source("leases_max = 40\nfetch_concurrency = 4");
    let denial = bench.aws.inject(FaultRule::new("GetObject", AwsFault::Forbidden));
    bench.issue_all(&mut Generator::new(92), [5; 200]).await;
    let mut agent = bench.run(&config);
    let line = agent.told("bucket_denied", 1).await.pop().unwrap();
    assert_eq!(line["kind"], "access", "{line}");
    tokio::time::sleep(Duration::from_secs(2)).await;
    let received = |bench: &Bench| {
        let messages = bench.aws.queue(QUEUE).messages();
        messages.iter().filter(|message| !message.deliveries.is_empty()).count()
    };
    let once = received(&bench);
    assert!((10..=30).contains(&once), "{once} of 200");
    assert!(agent.stop().await.success());
    assert_eq!(bench.aws.queue(QUEUE).counts().in_flight, 0, "the next agent finds them at once");

    bench.aws.heal(denial);
    let mut agent = bench.run(&config);
    bench.until_quiet(&mut agent).await;
    assert!(agent.coded("bucket_denied").is_empty());
    assert!(agent.stop().await.success());
    let report = bench.assert_passes(&config);
    assert!(report.sinks.iter().all(|sink| sink.duplicates_with_cause() == 0), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_does_not_exist_is_waited_for_and_not_dead_lettered() {
    let bench = Bench::start().await;
    let config = Config::of(&[Sink::Loggly]);
    let sample = Generator::new(93).log_file(5);
    let message = serde_json::json!({ "s3Bucket": OTHER, "s3ObjectKey": [sample.key] });
    bench.aws.queue(QUEUE).send(&message.to_string()).unwrap();
    for event in &sample.issued {
        let id = event.event_id.as_deref();
        bench.ledger.issue(OTHER, &sample.key, event.index.into(), id, event.sha256);
    }
    let mut agent = bench.run_text(&with_two_buckets(&bench, &config));
    let line = agent.told("bucket_denied", 1).await.pop().unwrap();
    assert_eq!(line["kind"], "no_such_bucket", "{line}");
    bench.aws.create_bucket(OTHER, BucketOptions::default());
    bench.aws.put_object(OTHER, &sample.key, sample.gz).unwrap();
    bench.until_quiet(&mut agent).await;
    assert!(agent.stop().await.success());
    assert!(bench.letters().is_empty());
    bench.assert_passes(&config);
}
