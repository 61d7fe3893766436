//! Any HTTP receiver: places in address and headers, framings, statuses.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};
use testkit::destinations::{Failure, HttpAny, HttpAnyOptions, Mode, SeenHead};
use testkit::generate::Generator;

use crate::bench::Bench;
use crate::config::Config;

const RETRY: &str = "retry = { initial = \"50ms\", max = \"200ms\" }";

async fn start(change: impl FnOnce(&mut HttpAnyOptions)) -> (Bench, Arc<HttpAny>) {
    let mut bench = Bench::start().await;
    let mut options = HttpAnyOptions::default();
    change(&mut options);
    let receiver = Arc::new(HttpAny::start(Arc::clone(&bench.ledger), options).await.unwrap());
    let watched = Arc::clone(&receiver);
    bench.watch(move || watched.counts());
    (bench, receiver)
}

/// A sink with this path at the receiver, and further lines.
fn config(receiver: &HttpAny, path: &str, lines: &str) -> Config {
    Config::new()
        .other("http", &format!("type = \"http\"\nurl = \"{}{path}\"\n{RETRY}\n{lines}", receiver.url))
}

fn header<'a>(head: &'a SeenHead, name: &str) -> &'a str {
    head.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
}

fn field(event: &str, name: &str) -> String {
    let event: Value = serde_json::from_str(event).unwrap();
    event[name].as_str().unwrap_or("unknown").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_request_holds_the_events_that_its_address_and_headers_speak_of() {
    let (bench, receiver) = start(|options| {
        options.prefix = "/in/".to_owned();
        options.header = Some(("x-key".to_owned(), "an example".to_owned()));
    })
    .await;
    let lines = "method = \"PUT\"\nframing = \"json_array\"\ncompression = \"gzip\"\n\
        headers = { x-key = \"an example\", x-region = \"{region}\" }\nbatch = { max_age = \"200ms\" }";
    let config = config(&receiver, "/in/{account}/{date}?category={category}", lines);
    receiver.set_mode(Mode { requests: Some(3), ..Mode::from(Failure::Status(503)) });
    let mut agent = bench.run(&config);
    bench.issue_all(&mut Generator::new(81), [30; 60]).await;
    bench.until_quiet(&mut agent).await;
    assert!(agent.stop().await.success());
    let report = bench.assert_passes(&config);
    assert_eq!(report.sinks[0].stored, report.sinks[0].issued, "{report}");
    let heads = receiver.heads();
    let mut paths = BTreeSet::new();
    for head in &heads {
        assert_eq!((head.method.as_str(), header(head, "content-type")), ("PUT", "application/json"));
        paths.insert(head.path.clone());
        for event in &head.events {
            let day = field(event, "eventTime").split('T').next().unwrap().to_owned();
            let (account, category) = (field(event, "recipientAccountId"), field(event, "eventCategory"));
            assert_eq!(head.path, format!("/in/{account}/{day}?category={category}"));
            assert_eq!(header(head, "x-region"), field(event, "awsRegion"));
        }
    }
    assert!(paths.len() > 1, "the events were to differ: {paths:?}");
    let events: usize = heads.iter().map(|head| head.events.len()).sum();
    assert!(heads.len() * 2 < events, "events of one kind were to travel together: {} requests", heads.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_event_a_request_is_put_where_its_id_says() {
    let (bench, receiver) = start(|options| options.success = 201).await;
    let config = config(&receiver, "/events/{event_id}", "method = \"PUT\"\nframing = \"single\"");
    receiver.set_mode(Mode { requests: Some(2), ..Mode::from(Failure::AnswerLost) });
    bench.issue_all(&mut Generator::new(82), [20; 10]).await;
    let mut agent = bench.run(&config);
    bench.until_quiet(&mut agent).await;
    assert!(agent.stop().await.success());
    let report = bench.assert_passes(&config);
    assert_eq!(report.sinks[0].duplicates_with_cause(), 2, "{report}");
    for head in receiver.heads() {
        assert_eq!(head.events.len(), 1);
        assert_eq!(head.path, format!("/events/{}", field(&head.events[0], "eventID")));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_are_learnt_a_bad_event_costs_no_other_and_a_wrong_key_costs_none() {
    let (bench, receiver) = start(|options| {
        options.body_bytes_max = 60_000;
        options.header = Some(("x-api-key".to_owned(), "right".to_owned()));
    })
    .await;
    let mut generator = Generator::new(83);
    let sample = generator.log_file(100);
    let bad = sample.issued[40].event_id.clone().unwrap();
    receiver.set_mode(Failure::RefuseContaining(bad.clone()));
    bench.issue(&sample);
    bench.issue_all(&mut generator, [40; 20]).await;

    let mut agent = bench.run(&config(&receiver, "/", "headers = { x-api-key = \"wrong\" }"));
    let refused = || receiver.counts().statuses.get(&401).copied().unwrap_or(0);
    bench.until(&mut agent, "the key was refused a few times", || refused() >= 3).await;
    assert!(bench.messages() > 0, "what is owed stands on the queue, handed off or not");
    assert_eq!((receiver.counts().stored, bench.letters()), (0, Vec::new()));
    assert!(agent.stop().await.success());

    let config = config(&receiver, "/", "headers = { x-api-key = \"right\" }");
    let mut agent = bench.run(&config);
    bench.until_quiet(&mut agent).await;
    assert!(receiver.counts().statuses[&413] > 0, "{:?}", receiver.counts());
    let limit = agent.metric("trailship_sink_batch_limit_bytes{sink=\"http\"}").await;
    assert!(limit <= 60_000, "{limit}");
    assert!(agent.stop().await.success());
    let letters = bench.letters();
    assert_eq!(letters.len(), 1, "{letters:#?}");
    let event: Value = serde_json::from_str(letters[0]["record"].as_str().unwrap()).unwrap();
    assert_eq!(event["eventID"], json!(bad));
    let report = bench.assert_passes(&config);
    assert_eq!((report.sinks[0].stored, report.sinks[0].dead_lettered), (899, 1), "{report}");
}
