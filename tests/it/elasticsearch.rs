//! Elasticsearch and OpenSearch: who is to blame for a refusal, what becomes of the others, and the ways to get in.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use testkit::destinations::{Auth, Elasticsearch, ElasticsearchOptions, Failure, Flavour, Mode, Signer};
use testkit::generate::Generator;

use crate::bench::{Bench, Setup, http_client};
use crate::config::{Config, Sink};

/// Short pauses between probes, so that a healed destination is noticed soon.
const SOON: &str = "retry = { initial = \"50ms\", max = \"200ms\" }";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_malformed_event_in_a_thousand_is_dead_lettered_with_its_reason_in_few_requests() {
    let bench = Bench::start().await;
    let sample = Generator::new(31).log_file(1_000);
    let bad = sample.issued[517].event_id.clone().unwrap();
    bench.elasticsearch.set_mode(Failure::RefuseContaining(bad.clone()));
    let config = Config::of(&[Sink::Elasticsearch]);
    bench.issue(&sample);
    let mut agent = bench.run(&config);
    bench.until_quiet(&mut agent).await;
    assert!(agent.stop().await.success());

    let counts = bench.elasticsearch.counts();
    assert_eq!(counts.stored, 999, "{counts:?}");
    assert!(counts.requests <= 25, "{counts:?}");
    let letters = bench.letters();
    assert_eq!(letters.len(), 1, "{letters:#?}");
    let letter = &letters[0];
    let event: Value = serde_json::from_str(letter["record"].as_str().unwrap()).unwrap();
    assert_eq!(event["eventID"], json!(bad));
    assert_eq!((&letter["sink"], &letter["record_index"]), (&json!("elasticsearch"), &json!(517)));
    assert_eq!((&letter["reason_code"], &letter["status"]), (&json!("mapping"), &json!(400)));
    assert!(letter["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{letter:#}");
    assert_eq!(agent.coded("event_dead_lettered").len(), 1);
    let report = bench.assert_passes(&config);
    assert_eq!(report.sinks[0].dead_lettered, 1, "{report}");
}

/// With what `failure` does to every request, the lane is denied and loses nothing, and it recovers.
async fn check_denied(failure: Failure, everywhere: bool) {
    let bench = Bench::start().await;
    bench.elasticsearch.set_mode(Mode { everywhere, ..Mode::from(failure) });
    let config = Config::new().sink(Sink::Elasticsearch, SOON).sink(Sink::File, "");
    bench.issue_all(&mut Generator::new(32), [30; 20]).await;
    let mut agent = bench.run(&config);
    let log = agent.log();
    let denials = || log.coded("sink_denied").len();
    bench.until(&mut agent, "the sink is denied", || denials() > 0).await;
    let (code, text) = agent.page("/readyz").await;
    assert_eq!(code, 503, "{text}");
    let reasons: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(reasons["reasons"][0]["sink"], "elasticsearch", "{text}");
    assert_eq!(agent.metric("trailship_sink_state{sink=\"elasticsearch\",state=\"denied\"}").await, 1);
    // Several probes later it is so still, and no event has paid for it.
    let asked = bench.elasticsearch.counts().requests;
    let probed = || bench.elasticsearch.counts().requests > asked + 10;
    bench.until(&mut agent, "it was probed more than once with every event that it holds", probed).await;
    assert_eq!(denials(), 1, "one line, however often it is probed");
    assert_eq!(bench.letters(), Vec::<Value>::new());
    assert_eq!(bench.elasticsearch.counts().stored, 0);
    assert!(bench.messages() > 0, "what is owed stands on the queue, handed off or not");
    assert_eq!(agent.page("/livez").await.0, 200, "nobody should restart it for this");

    bench.elasticsearch.set_mode(Mode::default());
    bench.until_quiet(&mut agent).await;
    let (code, text) = agent.page("/readyz").await;
    assert_eq!(code, 200, "{text}");
    assert!(agent.stop().await.success());
    let report = bench.assert_passes(&config);
    assert!(report.sinks.iter().all(|sink| sink.stored == sink.issued), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_refused_pauses_the_sink_until_it_works_again() {
    check_denied(Failure::Status(401), true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_that_no_event_survives_is_the_set_ups_fault_and_no_events() {
    check_denied(Failure::RefuseAll, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_index_pauses_the_sink_and_is_nobodys_fault() {
    check_denied(Failure::ReadOnly(403), false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_to_answers_nothing_is_stored_twice() {
    let bench = Bench::start().await;
    let config = Config::new().sink(
        Sink::Elasticsearch,
        "timeout = \"2s\"\nconnect_timeout = \"2s\"\nbatch = { max_events = 50 }\nretry = { initial = \"20ms\", max = \"100ms\" }",
    );
    let mut generator = Generator::new(33);
    let mut agent = bench.run(&config);
    for failure in [
        Failure::AnswerLost,
        Failure::HalfAnswer,
        Failure::Garbage,
        Failure::ShortAnswer,
        Failure::Hangup,
        Failure::Reset,
        Failure::NeverAnswer,
        Failure::ItemsThrottled(0.3),
        Failure::ReadOnly(429),
        Failure::Status(503),
    ] {
        let mode = Mode { share: 0.7, requests: Some(6), ..Mode::from(failure.clone()) };
        let before = bench.elasticsearch.counts().failures;
        bench.elasticsearch.set_mode(mode);
        bench.issue_all(&mut generator, [40; 10]).await;
        bench.until_quiet(&mut agent).await;
        assert!(bench.elasticsearch.counts().failures > before, "{failure:?} was to happen");
    }
    assert!(agent.stop().await.success());
    let report = bench.assert_passes(&config);
    assert!(report.sinks[0].conflicts > 0, "repetitions were to meet what is there: {report}");
    assert_eq!(bench.letters(), Vec::<Value>::new());
}

/// The credentials that every test's agent has, for one of Amazon's services.
fn signed(service: &str) -> Auth {
    Auth::Signed(Signer {
        service: service.to_owned(),
        region: "eu-west-1".to_owned(),
        access_key: "AKIAIOSFODNN7EXAMPLE".to_owned(),
        secret_key: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned(),
    })
}

/// A further stand-in, whose counts the bench watches.
async fn further(bench: &mut Bench, options: ElasticsearchOptions) -> Arc<Elasticsearch> {
    let made = Arc::new(Elasticsearch::start(Arc::clone(&bench.ledger), options).await.unwrap());
    let watched = Arc::clone(&made);
    bench.watch(move || watched.counts());
    made
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn amazon_s_services_take_signed_requests_and_a_time_series_collection_gets_no_ids() {
    let mut bench = Bench::start().await;
    let opensearch = ElasticsearchOptions { flavour: Flavour::OpenSearch, ..ElasticsearchOptions::default() };
    let options =
        ElasticsearchOptions { sink: "domain".to_owned(), auth: signed("es"), ..opensearch.clone() };
    let domain = further(&mut bench, options).await;
    let options = ElasticsearchOptions {
        sink: "collection".to_owned(),
        auth: signed("aoss"),
        serverless: true,
        takes_ids: false,
        ..opensearch
    };
    let collection = further(&mut bench, options).await;
    let table = |url: &str, service: &str| {
        format!(
            "type = \"elasticsearch\"\nendpoints = [\"{url}\"]\nsign = \"{service}\"\nregion = \"eu-west-1\"\n\
             batch = {{ max_events = 40 }}\nretry = {{ initial = \"20ms\", max = \"100ms\" }}"
        )
    };
    let config = Config::new()
        .other("domain", &table(&domain.url, "es"))
        .other("collection", &table(&collection.url, "aoss"));
    for stand_in in [&domain, &collection] {
        stand_in.set_mode(Mode { share: 0.3, ..Mode::from(Failure::Status(503)) });
    }
    bench.issue_all(&mut Generator::new(34), [50; 20]).await;
    let mut agent = bench.run(&config);
    bench.until_quiet(&mut agent).await;
    assert!(agent.stop().await.success());

    assert!(domain.counts().failures > 0 && collection.counts().failures > 0);
    assert_eq!(bench.letters(), Vec::<Value>::new());
    let told = agent.coded("document_ids_refused");
    assert_eq!(told.len(), 1, "{told:#?}");
    assert_eq!((&told[0]["sink"], &told[0]["level"]), (&json!("collection"), &json!("WARN")));
    let report = bench.assert_passes(&config);
    assert!(report.sinks.iter().all(|sink| sink.stored == 1_000), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signature_that_is_refused_pauses_the_sink_and_costs_no_event() {
    let mut bench = Bench::start().await;
    let options = ElasticsearchOptions {
        sink: "domain".to_owned(),
        auth: signed("es"),
        ..ElasticsearchOptions::default()
    };
    let domain = further(&mut bench, options).await;
    let table = format!(
        "type = \"elasticsearch\"\nendpoints = [\"{}\"]\nsign = \"es\"\nregion = \"eu-west-2\"\n{SOON}",
        domain.url
    );
    let config = Config::new().other("domain", &table);
    bench.issue_all(&mut Generator::new(35), [30; 3]).await;
    let mut agent = bench.run(&config);
    let log = agent.log();
    bench.until(&mut agent, "the sink is denied", || !log.coded("sink_denied").is_empty()).await;
    assert!(log.coded("sink_denied")[0]["why"].as_str().unwrap().contains("scoped to"), "{}", log.text());
    assert!(agent.stop().await.success());
    assert_eq!((bench.letters().len(), bench.messages(), domain.counts().stored), (0, 3, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_is_down_is_asked_a_few_times_and_not_for_every_request() {
    let bench = Bench::start().await;
    let down = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = down.local_addr().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    std::thread::spawn(move || {
        for connection in down.incoming() {
            drop(connection);
            counter.fetch_add(1, Ordering::Relaxed);
        }
    });
    let more = format!(
        "endpoints = [\"http://{address}\", \"{}\"]\napi_key = \"{}\"\nbatch = {{ max_events = 20 }}\n\
         concurrency = {{ min = 1, max = 4 }}\nretry = {{ initial = \"20ms\", max = \"100ms\" }}",
        bench.elasticsearch.url, bench.secrets.api_key
    );
    let config = Config::new().other("elasticsearch", &format!("type = \"elasticsearch\"\n{more}"));
    bench.issue_all(&mut Generator::new(36), [100; 20]).await;
    let mut agent = bench.run(&config);
    bench.until_quiet(&mut agent).await;
    assert!(agent.stop().await.success());
    let requests = bench.elasticsearch.counts().requests;
    let asked = asked.load(Ordering::Relaxed);
    assert!(requests >= 100, "{requests} requests");
    // At most each of the slots once, and each of their connections is tried anew by the client itself.
    assert!((1..=16).contains(&asked), "asked {asked} times, in {requests} requests");
    bench.assert_passes(&config);
}

/// Installs a template that makes data streams of these names.
async fn make_streams(bench: &Bench, pattern: &str, template: Value) {
    let url = format!("{}/_index_template/streams", bench.elasticsearch.url);
    let body =
        json!({ "index_patterns": [pattern], "data_stream": {}, "priority": 500, "template": template });
    let request = http_client().put(url).body(body.to_string()).header("content-type", "application/json");
    let request = request.header("authorization", format!("ApiKey {}", bench.secrets.api_key));
    assert!(request.send().await.unwrap().status().is_success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_failure_store_keeps_is_delivered_and_said_aloud_now_and_then() {
    let bench = Bench::start().await;
    let store = json!({ "data_stream_options": { "failure_store": { "enabled": true } }, "mappings": { "dynamic": false } });
    make_streams(&bench, "logs-*", store).await;
    bench.elasticsearch.set_mode(Failure::RefuseEvery(5));
    let config = Config::new().sink(Sink::Elasticsearch, "data_stream = \"logs-trail-default\"");
    bench.issue_all(&mut Generator::new(37), [100; 6]).await;
    let mut agent = bench.run(&config);
    bench.until_quiet(&mut agent).await;
    assert!(agent.stop().await.success());
    let told = agent.coded("failure_store_used");
    // Some 120 of 600: at the first, the tenth and the hundredth, or where an answer passes them.
    assert!((1..=3).contains(&told.len()), "{told:#?}");
    assert!(told.last().unwrap()["total"].as_u64().unwrap() >= 10, "{told:#?}");
    assert_eq!(bench.letters(), Vec::<Value>::new());
    let report = bench.assert_passes(&config);
    assert_eq!(report.sinks[0].stored, 600, "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn elastic_s_integration_gets_every_record_unchanged_as_its_message() {
    let bench = Bench::start().await;
    let template = json!({ "mappings": { "dynamic": false } });
    make_streams(&bench, "logs-aws.cloudtrail-*", template).await;
    let config = Config::new().sink(
        Sink::Elasticsearch,
        "data_stream = \"logs-aws.cloudtrail-prod\"\nformat = \"elastic_integration\"\n\
         batch = { max_events = 50 }\nretry = { initial = \"20ms\", max = \"100ms\" }",
    );
    bench.elasticsearch.set_mode(Mode { share: 0.4, ..Mode::from(Failure::AnswerLost) });
    let sample = Generator::new(38).log_file(400);
    bench.issue(&sample);
    let mut agent = bench.run(&config);
    bench.until_quiet(&mut agent).await;
    assert!(agent.stop().await.success());
    let id = sample.issued[0].event_id.clone().unwrap();
    let document = bench.elasticsearch.document("logs-aws.cloudtrail-prod", &id).unwrap();
    let stream = json!({ "type": "logs", "dataset": "aws.cloudtrail", "namespace": "prod" });
    assert_eq!(document["data_stream"], stream, "{document:#}");
    assert_eq!(document["aws"]["s3"]["object"]["key"], json!(sample.key), "{document:#}");
    assert_eq!(document["tags"], json!(["preserve_original_event"]));
    let report = bench.assert_passes(&config);
    assert_eq!(report.sinks[0].stored, 400, "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_that_may_only_write_ship_and_check_says_what_they_cannot_see() {
    let auth = Auth::ApiKey("ZXhhbXBsZTprZXk=".to_owned());
    let options = ElasticsearchOptions { auth, write_only: true, ..ElasticsearchOptions::default() };
    let bench = Bench::start_with(Setup { elasticsearch: options, ..Setup::default() }).await;
    let config = Config::of(&[Sink::Elasticsearch]);
    bench.issue_all(&mut Generator::new(39), [50; 2]).await;
    let mut agent = bench.run(&config);
    bench.until_quiet(&mut agent).await;
    assert!(agent.stop().await.success());
    bench.assert_passes(&config);
    let mut command = bench.command("check");
    let output = tokio::task::block_in_place(|| command.output().unwrap());
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    for part in [
        "ok      sinks.elasticsearch version: it answers",
        "ok      sinks.elasticsearch rights: may create documents and indices named cloudtrail-*",
        "warning sinks.elasticsearch index template: these credentials may not see index templates",
        "warning sinks.elasticsearch index: these credentials may not see the settings of cloudtrail-*",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
}
