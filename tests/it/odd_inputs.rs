//! What is rare or wrong has its outcome, its metric and its one log line, and stops nothing else.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::aws::{BucketOptions, Notification, NotifyKind};
use testkit::generate::{Generator, Oddity};
use testkit::ledger::SinkReport;

use crate::agent::Agent;
use crate::bench::{BUCKET, Bench, QUEUE, Setup};
use crate::config::{Config, Sink};

/// How a log file ends.
#[derive(Clone, Copy, Debug)]
enum End {
    /// Every event of it is delivered.
    Delivered,
    /// It is delivered up to a point, and dead-lettered from there with one of these codes.
    DeadLettered(&'static [&'static str]),
    /// It holds no events, and should.
    WithoutRecords,
    /// It holds no events, and that is right.
    Empty,
    /// It is not fetched, for this reason.
    Ignored(&'static str),
}

fn end_of(oddity: Oddity) -> End {
    match oddity {
        Oddity::Bomb => End::DeadLettered(&["ratio_limit"]),
        // JSON that breaks off is as good as cut.
        Oddity::TruncatedGzip | Oddity::InvalidJson => End::DeadLettered(&["truncated"]),
        // The checksum comes last: what is corrupt may show as invalid text before.
        Oddity::CorruptGzip => End::DeadLettered(&["gzip", "json", "utf8"]),
        Oddity::TrailingGarbage => End::DeadLettered(&["trailing_garbage"]),
        Oddity::InvalidUtf8 => End::DeadLettered(&["utf8"]),
        Oddity::TooDeepNesting => End::DeadLettered(&["depth_limit"]),
        Oddity::NoRecords => End::WithoutRecords,
        Oddity::Empty | Oddity::EmptyRecords => End::Empty,
        Oddity::Digest => End::Ignored("digest"),
        Oddity::ConfigSnapshot => End::Ignored("foreign"),
        Oddity::Insight | Oddity::NetworkActivity | Oddity::Aggregated => End::Ignored("filtered"),
        _ => End::Delivered,
    }
}

/// Everything that went into one run.
struct Inputs {
    cases: Vec<(String, End)>,
    /// The key of the log file with corrupt data.
    corrupt: String,
    good: usize,
}

/// Puts all odd files among good ones.
fn put(bench: &Bench, generator: &mut Generator) -> Inputs {
    let mut inputs = Inputs { cases: Vec::new(), corrupt: String::new(), good: 0 };
    for oddity in Oddity::ALL {
        let (sample, _) = generator.odd_file(oddity);
        let end = end_of(oddity);
        if !matches!(end, End::Ignored(_)) {
            bench.note(&sample, &sample.key);
        }
        bench.aws.put_object(BUCKET, &sample.key, sample.gz.clone()).unwrap();
        if oddity == Oddity::CorruptGzip {
            inputs.corrupt.clone_from(&sample.key);
        }
        inputs.cases.push((sample.key, end));
        if matches!(oddity, Oddity::Digest | Oddity::ConfigSnapshot) {
            // The same under the key of a log file.
            let key = generator.log_file(1).key;
            bench.aws.put_object(BUCKET, &key, sample.gz).unwrap();
            inputs.cases.push((key, End::WithoutRecords));
        }
        bench.issue(&generator.log_file(20));
        inputs.good += 1;
    }
    let checksum = generator.log_file(5);
    let mut gz = checksum.gz.clone();
    let at = gz.len() - 8;
    gz[at] ^= 1;
    bench.note(&checksum, &checksum.key);
    bench.aws.put_object(BUCKET, &checksum.key, gz).unwrap();
    inputs.cases.push((checksum.key, End::DeadLettered(&["gzip"])));
    let (invalid, _) = generator.odd_file(Oddity::PlainJson);
    let text = String::from_utf8(invalid.gz.to_vec()).unwrap();
    bench.note(&invalid, &invalid.key);
    bench.aws.put_object(BUCKET, &invalid.key, text.replace("]}", ",{\"eventID\":nothing}]}")).unwrap();
    inputs.cases.push((invalid.key, End::DeadLettered(&["json"])));
    // The version that the notification names is there, although the object is deleted.
    let deleted = generator.log_file(5);
    bench.issue(&deleted);
    bench.aws.delete_object(BUCKET, &deleted.key).unwrap();
    inputs.cases.push((deleted.key, End::Delivered));
    let missing = generator.log_file(5);
    bench.note(&missing, &missing.key);
    let message = json!({ "s3Bucket": BUCKET, "s3ObjectKey": [missing.key] });
    bench.aws.queue(QUEUE).send(&message.to_string()).unwrap();
    inputs.cases.push((missing.key, End::DeadLettered(&["not found"])));
    inputs
}

#[track_caller]
fn check_case(key: &str, end: End, lines: &[Value], letters: &[Value]) {
    let about: Vec<&Value> = lines.iter().filter(|line| line.to_string().contains(key)).collect();
    let loud: Vec<&&Value> =
        about.iter().filter(|line| line["level"] == "ERROR" || line["level"] == "WARN").collect();
    let codes: Vec<&Value> = loud.iter().map(|line| &line["code"]).collect();
    let letters: Vec<&Value> = letters.iter().filter(|letter| letter["key"] == key).collect();
    let quiet = |code: &str| about.iter().filter(|line| line["code"] == code).count();
    match end {
        End::Delivered => {
            let harmless = codes.iter().all(|code| **code == "event_id_conflict");
            assert!(harmless && letters.is_empty(), "{key}: {about:#?} {letters:#?}");
            assert_eq!(quiet("log_file_done"), 1, "{key}: {about:#?}");
        }
        End::DeadLettered(why) => {
            assert_eq!(codes, ["log_file_dead_lettered"], "{key}: {about:#?}");
            assert_eq!(letters.len(), 1, "{key}: {letters:#?}");
            let letter = letters[0];
            assert_eq!((&letter["stage"], &letter["reason_code"]), (&json!("read"), &json!("unreadable")));
            let reason = letter["reason"].as_str().unwrap();
            assert!(why.iter().any(|code| reason.starts_with(code)), "{key}: {why:?}: {letter:#}");
            assert_eq!(loud[0]["why"], reason, "{key}: {loud:#?}");
        }
        End::WithoutRecords => {
            assert_eq!(codes, ["log_file_without_records"], "{key}: {about:#?}");
            assert!(letters.is_empty(), "{key}: {letters:#?}");
        }
        End::Empty => {
            assert!(codes.is_empty() && letters.is_empty(), "{key}: {about:#?} {letters:#?}");
            assert_eq!(quiet("log_file_done"), 1, "{key}: {about:#?}");
        }
        End::Ignored(why) => {
            assert!(codes.is_empty() && letters.is_empty(), "{key}: {about:#?} {letters:#?}");
            assert_eq!((about.len(), quiet("object_ignored")), (1, 1), "{key}: {about:#?}");
            assert_eq!(about[0]["why"], why, "{key}: {about:#?}");
        }
    }
}

async fn check_metrics(agent: &mut Agent, inputs: &Inputs) {
    let ended = |is: fn(&End) -> bool| inputs.cases.iter().filter(|(_, end)| is(end)).count() as u64;
    for (outcome, expected) in [
        ("done", ended(|end| matches!(end, End::Delivered)) + inputs.good as u64),
        ("dead_lettered", ended(|end| matches!(end, End::DeadLettered(_)))),
        ("no_records", ended(|end| matches!(end, End::WithoutRecords))),
        ("empty", ended(|end| matches!(end, End::Empty))),
        ("ignored", ended(|end| matches!(end, End::Ignored(_)))),
        ("refused", 1),
        ("kept", 0),
    ] {
        let series = format!("trailship_log_files_total{{outcome=\"{outcome}\",source=\"trail\"}}");
        assert_eq!(agent.metric(&series).await, expected, "{outcome}");
    }
    for (outcome, shape, expected) in
        [("unknown", "unknown", 1), ("refused", "s3", 1), ("nothing", "s3", 5), ("kept", "s3", 0)]
    {
        let series = format!(
            "trailship_queue_messages_total{{outcome=\"{outcome}\",shape=\"{shape}\",source=\"trail\"}}"
        );
        assert_eq!(agent.metric(&series).await, expected, "{outcome}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_log_files_and_messages_have_their_outcome_and_stop_no_other() {
    let bench = Bench::start_with(Setup { receives_max: 1, ..Setup::default() }).await;
    let mut generator = Generator::new(2);
    let inputs = put(&bench, &mut generator);
    bench.aws.create_bucket("foreign", BucketOptions::default());
    bench.aws.notify("foreign", Notification::new(QUEUE, NotifyKind::S3)).unwrap();
    let forged = generator.log_file(3);
    bench.aws.put_object("foreign", &forged.key, forged.gz).unwrap();
    let unknown = bench.aws.queue(QUEUE).send("a message of nobody's").unwrap();

    // The bomb is to meet the limit on the ratio, not the one on a single event.
    let agent_lines =
        "log_level = \"debug\"\nmemory_budget = \"160MiB\"\nlimits = { event_bytes = \"12MiB\" }";
    let config = Config::of(&Sink::ALL).agent(agent_lines).source("read_attempts = 2");
    let mut agent = bench.run(&config);
    bench.until(&mut agent, "all but two messages are gone", || bench.messages() == 2).await;
    assert_eq!(bench.aws.queue(QUEUE).counts().in_flight, 2, "what is left is not released early");
    let lines = agent.log().lines();
    for (key, end) in &inputs.cases {
        check_case(key, *end, &lines, &bench.letters());
    }
    check_metrics(&mut agent, &inputs).await;
    let not_allowed = agent.coded("bucket_not_allowed");
    assert_eq!(not_allowed.len(), 1, "{not_allowed:#?}");
    assert_eq!((&not_allowed[0]["level"], &not_allowed[0]["bucket"]), (&json!("ERROR"), &json!("foreign")));
    let not_known = agent.coded("message_unknown");
    assert_eq!(not_known.len(), 1, "{not_known:#?}");
    assert_eq!((&not_known[0]["level"], &not_known[0]["message"]), (&json!("WARN"), &json!(unknown)));

    // The queue's own policy moves them.
    bench.advance(Duration::from_secs(301));
    bench.until(&mut agent, "the queue has given up on two", || bench.dead_messages() == 2).await;
    bench.until_quiet(&mut agent).await;
    assert!(agent.stop().await.success());
    let report = bench.judge(&config);
    let corrupt_key = &inputs.corrupt;
    for sink in &report.sinks {
        // Gzip's checksum comes last: an event where the data are corrupt may be JSON still.
        let corrupt_elsewhere = sink.corrupt.iter().any(|event| !event.contains(corrupt_key));
        let rest = SinkReport { corrupt: Vec::new(), ..sink.clone() };
        assert!(rest.passes() && !corrupt_elsewhere, "{report}");
    }
    assert_eq!(report.messages_left, 2, "{report}");
    let unread: Vec<u64> = report.sinks.iter().map(|sink| sink.unread).collect();
    assert!(unread.iter().all(|&events| events == unread[0] && events > 0), "{report}");
    let reads = |key: &str| bench.aws.object_requests().iter().filter(|request| request.key == key).count();
    assert_eq!(reads(&forged.key), 0, "a bucket that is not allowed is not asked");
}
