//! Threats, and what an operator sees of them: each row of the table in `docs/security.md` that shows outside.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::StatusCode;
use serde_json::{Value, json};
use testkit::aws::BucketOptions;
use testkit::destinations::AlertLogicOptions;
use testkit::generate::Generator;
use testkit::http::{Handler, Request, Response, Server};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::agent::{Agent, command};
use crate::bench::{BUCKET, Bench, QUEUE, http_client};
use crate::config::{Config, Sink};
use crate::splunk::tls_before;

/// Answers every request with the same; what it was asked is counted by its server.
struct Always(StatusCode, String);

impl Always {
    /// A server that takes everything.
    async fn good() -> Server {
        Server::start(0, Arc::new(Self(StatusCode::OK, String::new()))).await.unwrap()
    }

    /// A server that sends everybody elsewhere.
    async fn redirect(to: &Server) -> Server {
        Server::start(0, Arc::new(Self(StatusCode::TEMPORARY_REDIRECT, to.url()))).await.unwrap()
    }
}

impl Handler for Always {
    fn handle(self: Arc<Self>, request: Request) -> BoxFuture<'static, Response> {
        let answer = Response::json(self.0, &json!({ "response": "ok", "text": "Success", "code": 0 }));
        let to = format!("{}{}", self.1, request.path);
        Box::pin(async move { answer.with_header("location", &to) })
    }
}

/// A log file of these events, as plain JSON, in the bucket.
fn put_events(bench: &Bench, generator: &mut Generator, events: &[Value]) -> String {
    let key = generator.log_file(1).key;
    bench.aws.put_object(BUCKET, &key, json!({ "Records": events }).to_string()).unwrap();
    key
}

/// What the sink `file` holds.
fn events_in_file(bench: &Bench) -> Vec<Value> {
    let text = fs::read_to_string(bench.path("out/events.ndjson")).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Messages that nobody but an attacker would send.
fn forgeries(generator: &mut Generator, elsewhere: &str) -> Vec<String> {
    let key = generator.log_file(1).key;
    let s3 = |bucket: &str, key: &str, region: &str| {
        json!({ "Records": [{ "eventVersion": "2.1", "eventSource": "aws:s3", "awsRegion": region,
            "eventName": "ObjectCreated:Put", "endpoint": elsewhere, "url": elsewhere,
            "s3": { "endpoint": elsewhere, "bucket": { "name": bucket, "arn": elsewhere, "endpoint": elsewhere },
                "object": { "key": key, "size": 1, "eTag": "e", "sequencer": "0" } } }] })
        .to_string()
    };
    let host = elsewhere.trim_start_matches("http://");
    let confirmation = |kind: &str| {
        json!({ "Type": kind, "MessageId": "i", "Token": "t", "TopicArn": "arn:aws:sns:us-east-1:1:t",
            "Message": "confirm", "SubscribeURL": elsewhere, "SigningCertURL": elsewhere, "UnsubscribeURL": elsewhere })
        .to_string()
    };
    vec![
        s3("attackers", &key, "us-east-1"),
        s3(BUCKET, &format!("../attackers/{key}"), "us-east-1"),
        s3(BUCKET, &format!("{key}\r\nx-amz-copy-source: attackers"), "us-east-1"),
        s3(host, &key, "us-east-1"),
        s3(&format!("{host}/{BUCKET}"), &key, "us-east-1"),
        s3(BUCKET, &key, &format!("{host}/x?")),
        s3("lookalike", &key, "us-east-1"),
        json!({ "s3Bucket": "attackers", "s3ObjectKey": [key] }).to_string(),
        json!({ "detail-type": "Object Created", "source": "aws.s3", "region": host,
            "detail": { "bucket": { "name": "attackers" }, "object": { "key": key } } })
        .to_string(),
        json!([{ "trailship.handoff": 1, "bucket": "attackers", "key": key, "version_id": null, "etag": "e",
            "sink": "file", "ranges": [[0, 9]], "attempts": 0, "first_seen": "2023-07-10T11:42:01.000Z" }])
        .to_string(),
        confirmation("SubscriptionConfirmation"),
        confirmation("UnsubscribeConfirmation"),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forged_notifications_lead_to_no_other_bucket_owner_or_host() {
    let bench = Bench::start().await;
    let elsewhere = Always::good().await;
    let mut generator = Generator::new(101);
    // Somebody made a bucket under a name that is allowed, and another under one that is not; both hold log files.
    let theirs = || BucketOptions { owner: Some("999988887777".to_owned()), ..BucketOptions::default() };
    for bucket in ["lookalike", "attackers"] {
        bench.aws.create_bucket(bucket, theirs());
    }
    let forged = forgeries(&mut generator, &elsewhere.url());
    let key = forged[0].split("\"key\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    for bucket in ["lookalike", "attackers"] {
        let fake = json!({ "Records": [{ "eventID": "fake", "eventName": "Fake" }] }).to_string();
        bench.aws.put_object(bucket, &key, fake).unwrap();
    }
    let config = Config::of(&[Sink::File]).source("read_attempts = 1");
    let allowed = format!("buckets = [{{ name = \"{BUCKET}\", owner = \"111122223333\" }}");
    let text = config.text(&bench);
    assert!(text.contains(&allowed));
    let more = format!("{allowed}, {{ name = \"lookalike\", owner = \"111122223333\" }}");
    let mut agent = bench.run_text(&text.replace(&allowed, &more));
    for message in &forged {
        bench.aws.queue(QUEUE).send(message).unwrap();
    }
    bench.issue_all(&mut generator, [20; 5]).await;
    let shapes = forged.len() + 5;
    let log = agent.log();
    let ended = || {
        let counts = bench.aws.queue(QUEUE).counts();
        // What is refused stays in flight until its time is over, and what waits for its bucket is held; the rest is
        // deleted.
        counts.visible == 0 && events_in_file(&bench).len() >= 100 && log.coded("bucket_denied").len() == 1
    };
    bench.until(&mut agent, "all messages have had their turn", ended).await;
    let refused = agent.coded("bucket_not_allowed");
    assert!(refused.iter().all(|line| line["level"] == "ERROR"), "{refused:#?}");
    // Those that name another bucket, in five shapes; the two keys that are no log file's are ignored.
    assert_eq!(refused.len(), 6, "{shapes}: {refused:#?}");
    assert!(agent.stop().await.success());

    assert_eq!(elsewhere.requests(), 0, "a message has led to its own address");
    let requests = bench.aws.object_requests();
    let buckets: BTreeSet<&str> = requests.iter().map(|request| request.bucket.as_str()).collect();
    assert_eq!(buckets, BTreeSet::from(["lookalike", BUCKET]));
    for request in &requests {
        assert_eq!(request.expected_owner.as_deref(), Some("111122223333"), "{request:?}");
        assert!(request.bucket == BUCKET || request.status == 403, "{request:?}");
        assert!(!request.key.contains("..") && !request.key.contains('\n'), "{request:?}");
    }
    assert!(events_in_file(&bench).iter().all(|event| event["eventID"] != "fake"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_inside_messages_are_refused_where_none_are_meant_to_come() {
    let bench = Bench::start().await;
    let config = Config::of(&[Sink::File]).source("inline_events = false");
    let fake = json!({ "eventVersion": "1.08", "eventID": "fake", "eventName": "Fake" });
    let eventbridge = json!({ "id": "i-1", "detail-type": "AWS API Call via CloudTrail", "source": "aws.ec2",
        "detail": fake });
    let cloudwatch = json!({ "messageType": "DATA_MESSAGE", "logEvents": [{ "id": "1", "timestamp": 1,
        "message": fake.to_string() }] });
    for message in [&eventbridge, &cloudwatch] {
        bench.aws.queue(QUEUE).send(&message.to_string()).unwrap();
    }
    let mut agent = bench.run(&config);
    bench.issue_all(&mut Generator::new(100), [20]).await;
    let settled = || bench.aws.queue(QUEUE).counts().visible == 0 && bench.messages() == 2;
    bench.until(&mut agent, "both stay, and nothing else does", settled).await;
    let refused = agent.coded("inline_not_allowed");
    assert!(refused.len() == 2 && refused.iter().all(|line| line["level"] == "ERROR"), "{refused:#?}");
    for shape in ["eventbridge_cloudtrail", "cloudwatch_logs"] {
        let series = format!(
            "trailship_queue_messages_total{{outcome=\"refused\",shape=\"{shape}\",source=\"trail\"}}"
        );
        assert_eq!(agent.metric(&series).await, 1, "{shape}");
    }
    assert!(agent.stop().await.success());
    let events = events_in_file(&bench);
    assert!(events.len() == 20 && events.iter().all(|event| event["eventID"] != "fake"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_redirect_is_followed_by_any_sink_nor_by_calls_to_aws() {
    let bench = Bench::start().await;
    let elsewhere = Always::good().await;
    let redirector = Always::redirect(&elsewhere).await;
    let at = redirector.url();
    let lines = "retry = { initial = \"20ms\", max = \"100ms\" }";
    let ingest = AlertLogicOptions::default();
    let http = [Sink::Elasticsearch, Sink::SplunkHec, Sink::Loggly, Sink::SumoLogic];
    let config = http.iter().fold(Config::new(), |config, sink| config.sink(*sink, lines));
    let config = config
        .other("http", &format!("type = \"http\"\nurl = \"{at}/in\"\nbearer_token = \"t0ken\"\n{lines}"))
        .other(
            "logstash_http",
            &format!(
                "type = \"logstash_http\"\nendpoints = [\"{at}\"]\nusername = \"u\"\npassword = \"p\"\n{lines}"
            ),
        )
        .other(
            "alert_logic_ingest",
            &format!(
                "type = \"alert_logic_ingest\"\nendpoint = \"{at}\"\naccess_key_id = \"a\"\nsecret_key = \"s\"\n\
                 source_id = \"{}\"\nhost_id = \"{}\"\nmessage_type = \"json/cloudtrail\"\n{lines}",
                ingest.source_id, ingest.host_id
            ),
        );
    let mut text = config.text(&bench);
    for destination in http.iter().filter_map(|sink| bench.destination(*sink)) {
        text = text.replace(&destination.url, &at);
    }
    bench.issue_all(&mut Generator::new(102), [5; 2]).await;
    let mut agent = bench.run_text(&text);
    let log = agent.log();
    let denied = || {
        let lines = log.coded("sink_denied");
        config.names().iter().all(|name| lines.iter().any(|line| line["sink"] == *name))
    };
    bench.until(&mut agent, "every sink says that it was sent elsewhere", denied).await;
    assert!(agent.stop().await.success());
    assert!(redirector.requests() >= 7);
    assert_eq!(bench.messages(), 2, "nothing is lost by it");

    // A queue, and a bucket, that send elsewhere.
    let asked = redirector.requests();
    let text = Config::of(&[Sink::File]).text(&bench).replace(&bench.aws.url(), &at);
    let mut agent = bench.run_text(&text);
    bench.until(&mut agent, "the queue is asked", || redirector.requests() > asked + 1).await;
    assert!(agent.stop().await.success());
    let s3 = format!("s3 = \"{}\"", bench.aws.url());
    let text = Config::of(&[Sink::File]).text(&bench);
    assert!(text.contains(&s3));
    let asked = redirector.requests();
    bench.advance(Duration::from_secs(301));
    let mut agent = bench.run_text(&text.replace(&s3, &format!("s3 = \"{at}\"")));
    bench.until(&mut agent, "the bucket is asked", || redirector.requests() > asked + 1).await;
    assert!(agent.stop().await.success());
    assert_eq!(elsewhere.requests(), 0, "a redirect was followed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sink_that_trusts_anybody_is_warned_of_in_the_log_on_the_page_and_by_check() {
    let bench = Bench::start().await;
    let port = tls_before(bench.loggly.url.trim_start_matches("http://")).await;
    let config = Config::new().sink(Sink::Loggly, "tls = { insecure_skip_verify = true }");
    let text = config.text(&bench).replace(&bench.loggly.url, &format!("https://localhost:{port}"));
    let mut agent = bench.run_text(&text);
    bench.issue_all(&mut Generator::new(103), [5]).await;
    bench.until_quiet(&mut agent).await;
    let warned = |text: &str| {
        text.contains("sinks.loggly.tls.insecure_skip_verify") && text.contains("certificate is not verified")
    };
    assert!(agent.coded("config_warning").iter().any(|line| warned(&line.to_string())));
    assert_eq!(agent.metric("trailship_sink_insecure_skip_verify{sink=\"loggly\"}").await, 1);
    for page in ["/status", "/"] {
        let (_, text) = agent.page(page).await;
        assert!(warned(&text), "{page}: {text}");
    }
    assert!(agent.stop().await.success());
    let output = bench.command("check").args(["--offline", "--strict"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(warned(&String::from_utf8_lossy(&output.stdout)));
}

/// Values that a terminal would obey, or that would look like another line.
const EVIL: &str =
    "x\u{1b}[2J\u{9b}31m\r\n2024-01-01T00:00:00Z ERROR forged code=forged\u{202e}\u{7f}\u{2028}";

fn evil_event(id: &str) -> Value {
    json!({ "eventVersion": "1.08", "eventTime": "2023-07-10T11:42:01Z", "eventID": id, "eventName": EVIL,
        "eventSource": EVIL, "awsRegion": EVIL, "userAgent": EVIL, "recipientAccountId": EVIL,
        "eventCategory": EVIL, "errorMessage": EVIL,
        "userIdentity": { "type": EVIL, "principalId": EVIL, "arn": EVIL, "accountId": EVIL, "invokedBy": EVIL } })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_an_attacker_chooses_breaks_out_of_a_log_line_or_becomes_a_series() {
    for format in ["text", "json"] {
        let bench = Bench::start().await;
        let agent_lines = format!("log_level = \"trace\"\nlog_format = \"{format}\"");
        let config = Config::of(&[Sink::File, Sink::SplunkHec, Sink::Elasticsearch]).agent(&agent_lines);
        let text = config.text(&bench).replacen("log_format = \"json\"\n", "", 1);
        assert_eq!(text.matches("log_format").count(), 1);
        let mut generator = Generator::new(104);
        let mut agent = bench.run_text(&text);
        let series = series(&page(&agent, "/metrics").await);
        // In an object's key, a bucket's name, an event; in what is refused, and in what cannot be read.
        let mut other = evil_event("same");
        other["userAgent"] = json!("another");
        put_events(&bench, &mut generator, &[evil_event(EVIL), evil_event("same"), other]);
        let broken = generator.log_file(1).key;
        bench.aws.put_object(BUCKET, &broken, format!("{{\"Records\":[{{}},{EVIL}")).unwrap();
        for key in [EVIL.to_owned(), format!("AWSLogs/{EVIL}.json.gz")] {
            bench.aws.put_object(BUCKET, &key, "{}").unwrap();
        }
        for bucket in [EVIL, BUCKET] {
            let message = json!({ "s3Bucket": bucket, "s3ObjectKey": [EVIL, broken.clone() + EVIL] });
            bench.aws.queue(QUEUE).send(&message.to_string()).unwrap();
        }
        bench.aws.queue(QUEUE).send(&json!({ "of nobody's": EVIL }).to_string()).unwrap();
        let settled = || {
            let counts = bench.aws.queue(QUEUE).counts();
            // Two stay for the queue's dead-letter policy: the foreign bucket and the message of nobody's.
            counts.visible == 0 && counts.in_flight <= 2 && events_in_file(&bench).len() >= 3
        };
        bench.until(&mut agent, "all has its outcome", settled).await;
        let after = page(&agent, "/metrics").await;
        assert_eq!(series, self::series(&after), "an event has made a series of its own");
        for path in ["/status", "/readyz", "/"] {
            let text = page(&agent, path).await;
            assert!(!text.contains(|c: char| c.is_control() && c != '\n' && c != '\t'), "{path}: {text:?}");
        }
        assert!(agent.stop().await.success());
        assert_lines_are_whole(&agent.log().text(), format);
    }
}

/// Every line is one of the agent's own, and holds nothing that a terminal obeys.
#[track_caller]
fn assert_lines_are_whole(log: &str, format: &str) {
    for code in ["bucket_not_allowed", "event_id_conflict", "message_unknown", "log_file_dead_lettered"] {
        assert!(log.contains(code), "{code} is not in {log}");
    }
    for line in log.lines() {
        let obeyed = line.chars().find(|c| c.is_control() || ('\u{2028}'..='\u{202e}').contains(c));
        assert_eq!(obeyed, None, "{line:?}");
        if format == "json" {
            let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            assert_ne!(line["code"], "forged");
        } else {
            // This year, and not the one that was forged.
            assert!(line.starts_with("20") && !line.starts_with("2024-01-01T00:00:00Z"), "{line}");
        }
    }
}

/// The names and labels of all series.
fn series(text: &str) -> BTreeSet<String> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned())).collect()
}

/// A page of an agent whose log may be of either format.
async fn page(agent: &Agent, path: &str) -> String {
    let address = loop {
        let log = agent.log().text();
        let found = log.split("http://127.0.0.1:").nth(1).and_then(|rest| rest.split('/').next());
        if let Some(port) = found.filter(|_| log.contains("started")) {
            break format!("http://127.0.0.1:{port}");
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    http_client().get(address + path).send().await.unwrap().text().await.unwrap()
}

/// Every file and folder that was made below a folder, and its permissions.
fn modes_below(folder: &Path) -> Vec<(String, u32, bool)> {
    let mut modes = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let metadata = fs::symlink_metadata(&path).unwrap();
        modes.push((path.display().to_string(), metadata.permissions().mode() & 0o777, metadata.is_dir()));
        if metadata.is_dir() {
            modes.extend(modes_below(&path));
        }
    }
    modes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_agent_writes_is_its_owner_s_alone() {
    let bench = Bench::start().await;
    let mut generator = Generator::new(105);
    fs::create_dir(bench.path("in")).unwrap();
    let config = Config::new().sink(Sink::File, "rotate = { max_bytes = \"64KiB\" }");
    #[cfg(feature = "parquet")]
    let config = config.other("parquet", "type = \"parquet\"\npath = \"lake/deep\"");
    let text =
        config.text(&bench).replace("path = \"dead-letters.ndjson\"", "path = \"letters/dead.ndjson\"")
            + "\n[sources.local]\ntype = \"directory\"\npath = \"in\"\npoll_interval = \"100ms\"\n";
    fs::write(bench.path("trailship.toml"), text).unwrap();
    fs::write(bench.path("in/a.json"), json!({ "Records": [{ "eventID": "a" }] }).to_string()).unwrap();
    bench.aws.put_object(BUCKET, &generator.log_file(1).key, "no log file").unwrap();
    bench.issue_all(&mut generator, [200; 3]).await;
    // As most systems have it: others may read what is made without a thought.
    let mut shell = Command::new("sh");
    let binary = command(&bench.path(""));
    shell.args(["-c", "umask 022; exec \"$0\" run"]).arg(binary.get_program()).current_dir(bench.path(""));
    shell.env_clear().envs(binary.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut agent = bench.run_command(shell);
    bench.until_quiet(&mut agent).await;
    let remembered = || bench.path("state/directory-local.ndjson").exists();
    bench.until(&mut agent, "the folder's file is remembered", remembered).await;
    assert!(agent.stop().await.success());
    let redrive = bench.command("redrive").output().unwrap();
    // What cannot be read is put back.
    assert_eq!(redrive.status.code(), Some(1), "{}", String::from_utf8_lossy(&redrive.stderr));

    let own = ["in", "in/a.json", "trailship.toml", "agent-1.log"]
        .map(|name| bench.path(name).display().to_string());
    let made: Vec<_> =
        modes_below(&bench.path("")).into_iter().filter(|(name, ..)| !own.contains(name)).collect();
    for (name, mode, is_folder) in &made {
        assert_eq!(*mode, if *is_folder { 0o700 } else { 0o600 }, "{name} has {mode:o}");
    }
    for wanted in ["out", "state/lock", "state/directory-local.ndjson", "letters/dead.ndjson"] {
        let path = bench.path(wanted).display().to_string();
        assert!(made.iter().any(|(name, ..)| *name == path), "{wanted} is not among {made:?}");
    }
    assert!(made.len() >= 8, "{made:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_hammers_or_holds_the_pages_holds_up_no_event() {
    let bench = Bench::start().await;
    let config = Config::of(&[Sink::File, Sink::Loggly]);
    let mut agent = bench.run(&config);
    let (code, _) = agent.page("/livez").await;
    assert_eq!(code, 200);
    let address = agent.coded("started")[0]["status"].as_str().unwrap().to_owned();
    let socket = address.trim_start_matches("http://").trim_end_matches('/').to_owned();
    // Twice as many as are served at once: each says a little, and no more.
    let mut held = Vec::new();
    for _ in 0..128 {
        let mut stream = TcpStream::connect(&socket).await.unwrap();
        stream.write_all(b"GET /metrics HT").await.unwrap();
        held.push(stream);
    }
    let stop = Arc::new(AtomicBool::new(false));
    let hammers: Vec<_> = (0..4)
        .map(|_| {
            let (stop, url) = (Arc::clone(&stop), format!("{address}metrics"));
            tokio::spawn(async move {
                let client = http_client();
                while !stop.load(Ordering::Relaxed) {
                    let asked =
                        client.get(&url).timeout(Duration::from_millis(200)).header("x", "y".repeat(60_000));
                    // It is refused, or not heard.
                    let _ = asked.send().await;
                }
            })
        })
        .collect();
    let events = bench.issue_all(&mut Generator::new(106), [20; 50]).await;
    bench.until_quiet(&mut agent).await;
    assert_eq!(bench.loggly.counts().stored, events);
    drop(held);
    stop.store(true, Ordering::Relaxed);
    for hammer in hammers {
        hammer.await.unwrap();
    }
    // It answers again.
    let mut line = agent.page("/livez").await;
    for _ in 0..50 {
        if line.0 == 200 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        line = agent.page("/livez").await;
    }
    assert_eq!(line.1, "alive\n");
    assert!(agent.stop().await.success());
    bench.assert_passes(&config);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_in_the_clear_ends_the_start_with_its_key_and_the_remedy() {
    let bench = Bench::start().await;
    let text = Config::of(&[Sink::Loggly]).text(&bench);
    for (right, wrong, key, remedy) in [
        (
            &bench.loggly.url,
            "http://logs.example",
            "sinks.loggly.endpoint",
            "set sinks.loggly.allow_plaintext = true",
        ),
        (&bench.aws.url(), "http://aws.example", "aws.endpoints.s3", "set aws.allow_plaintext = true"),
    ] {
        fs::write(bench.path("trailship.toml"), text.replace(right, wrong)).unwrap();
        let output = bench.command("run").output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(key) && said.contains(remedy) && said.contains("in the clear"), "{said}");
    }
    fs::write(bench.path("trailship.toml"), &text).unwrap();
    let output = bench.command("run").env("AWS_ENDPOINT_URL_SQS", "http://aws.example").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("AWS_ENDPOINT_URL_SQS") && said.contains("set aws.allow_plaintext = true"),
        "{said}"
    );
}
