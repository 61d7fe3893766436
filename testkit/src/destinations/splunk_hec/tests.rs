//! What a sender sees of the collector.
#![allow(clippy::unwrap_used)]

use sha2::{Digest, Sha256};

use super::*;
use crate::destinations::Mode;
use crate::destinations::client::{Got, deflate, gzip, send};
use crate::ledger::{Cause, QueueEvidence, SinkReport, SinkRule, judge};

const CHANNEL: (&str, &str) = ("x-splunk-request-channel", "aaaaaaaa-0000-4000-8000-00000000000F");
const EVENT: &str = "/services/collector/event";
const ACK: &str = "/services/collector/ack";

struct Bench {
    ledger: Arc<Ledger>,
    splunk: SplunkHec,
    authorization: String,
}

async fn start(change: impl FnOnce(&mut SplunkHecOptions)) -> Bench {
    let mut options = SplunkHecOptions { ack_delay: Duration::ZERO, ..SplunkHecOptions::default() };
    change(&mut options);
    let authorization = format!("Splunk {}", options.token);
    let ledger = Arc::new(Ledger::new());
    let splunk = SplunkHec::start(Arc::clone(&ledger), options).await.unwrap();
    Bench { ledger, splunk, authorization }
}

impl Bench {
    async fn post(&self, path: &str, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Got {
        let headers = [headers, &[("authorization", self.authorization.as_str())]].concat();
        send(&self.splunk.url, "POST", path, &headers, body).await
    }

    fn issue(&self, count: u64) {
        for index in 0..count {
            let id = format!("e-{index}");
            self.ledger.issue("b", "k/x", index, Some(&id), Sha256::digest(event(index)).into());
        }
    }

    fn report(&self) -> SinkReport {
        judge(&self.ledger, &[SinkRule::new("splunk_hec")], &QueueEvidence::default()).sinks.remove(0)
    }
}

fn event(index: u64) -> String {
    format!(r#"{{"eventID":"e-{index}"}}"#)
}

fn envelope(index: u64) -> String {
    let fields = format!(r#"{{"trailship_record":"{index}"}}"#);
    format!(r#"{{"time":1,"source":"s3://b/k/x","event":{},"fields":{fields}}}"#, event(index))
}

fn code(got: &Got) -> (u16, u64) {
    (got.status, got.json()["code"].as_u64().unwrap())
}

#[tokio::test]
async fn events_are_stored_under_every_name_of_the_endpoint() {
    let bench = start(|_| {}).await;
    bench.issue(4);
    for (index, path) in ["", "/event", "/event/1.0", "/raw"].iter().enumerate() {
        let path = format!("/services/collector{path}");
        let body = if path.ends_with("raw") { event(3) } else { envelope(index as u64) };
        let got = bench.post(&path, &[], body).await;
        assert_eq!(got.json(), json!({"text": "Success", "code": 0}), "{path}");
    }
    assert!(bench.report().passes(), "{}", bench.report());
}

#[tokio::test]
async fn tokens_are_told_apart_by_code() {
    let bench = start(|_| {}).await;
    let with = async |header: Option<&str>| {
        let headers: Vec<(&str, &str)> = header.map(|value| ("authorization", value)).into_iter().collect();
        code(&send(&bench.splunk.url, "POST", EVENT, &headers, envelope(0)).await)
    };
    assert_eq!(with(None).await, (401, 2));
    assert_eq!(with(Some("Bearer x")).await, (401, 3));
    assert_eq!(with(Some("Splunk x")).await, (403, 4));
    assert_eq!(with(Some("Splunk 00000000-0000-0000-0000-000000000000")).await, (403, 1));
    assert_eq!(bench.splunk.counts().stored, 0);
}

#[tokio::test]
async fn an_error_that_names_an_event_stores_exactly_those_before_it() {
    let bench = start(|_| {}).await;
    bench.issue(4);
    let blank = r#"{"event":""}"#;
    let got = bench.post(EVENT, &[], envelope(0) + &envelope(1) + blank + &envelope(3)).await;
    assert_eq!(got.status, 400);
    assert_eq!(
        got.json(),
        json!({"text": "Event field cannot be blank", "code": 13, "invalid-event-number": 2})
    );
    assert_eq!(bench.report().stored, 2);
    bench.post(EVENT, &[], envelope(2) + &envelope(3)).await;
    assert!(bench.report().passes(), "{}", bench.report());
}

#[tokio::test]
async fn an_unknown_envelope_key_is_answered_with_success_and_stops_the_storing() {
    let bench = start(|_| {}).await;
    bench.issue(3);
    let got = bench
        .post(EVENT, &[], envelope(0) + &envelope(1).replace("\"time\"", "\"when\"") + &envelope(2))
        .await;
    assert_eq!(code(&got), (200, 0));
    assert_eq!(bench.report().lost.len(), 2);
}

#[tokio::test]
async fn the_index_must_be_one_of_the_tokens() {
    let bench = start(|options| options.indices = vec!["main".into()]).await;
    let other = r#"{"event":1,"index":"other"}"#;
    let got = bench.post(EVENT, &[], format!("{}{other}{}", envelope(0), envelope(1))).await;
    assert_eq!((code(&got), got.json()["invalid-event-number"].as_u64()), ((400, 7), Some(2)));
    assert_eq!(bench.splunk.counts().stored, 1);
}

#[tokio::test]
async fn sizes_codings_and_methods_are_checked() {
    let bench = start(|options| options.max_content_length = 100).await;
    assert_eq!(code(&bench.post(EVENT, &[], "").await), (400, 5));
    assert_eq!(code(&bench.post(EVENT, &[], " ".repeat(101)).await), (413, 413));
    let coded = |coding, body| bench.post(EVENT, std::slice::from_ref(coding), body);
    assert_eq!(coded(&("content-encoding", "gzip"), gzip(&[b' '; 101])).await.status, 413);
    assert_eq!(coded(&("content-encoding", "gzip"), gzip(envelope(0).as_bytes())).await.status, 200);
    assert_eq!(coded(&("content-encoding", "deflate"), deflate(envelope(0).as_bytes())).await.status, 415);
    assert_eq!(coded(&("content-encoding", "gzip"), b"x".to_vec()).await.status, 400);
    let got = send(&bench.splunk.url, "GET", EVENT, &[], "").await;
    assert_eq!(code(&got), (405, 405));
    assert_eq!(code(&bench.post("/services/elsewhere", &[], "").await), (404, 404));
    let cloud = start(|options| {
        options.max_content_length = 100;
        options.cloud = true;
    })
    .await;
    let got = cloud.post(EVENT, &[], " ".repeat(101)).await;
    assert_eq!((code(&got), got.json()["invalid-event-number"].as_u64()), ((400, 6), Some(0)));
    assert_eq!(cloud.splunk.counts().stored, 0);
}

#[tokio::test]
async fn with_acknowledgement_a_channel_is_needed_and_true_is_told_once() {
    let bench = start(|options| options.use_ack = true).await;
    bench.issue(1);
    assert_eq!(code(&bench.post(EVENT, &[], envelope(0)).await), (400, 10));
    assert_eq!(code(&bench.post(EVENT, &[("x-splunk-request-channel", "x")], envelope(0)).await), (400, 11));
    let got = bench.post(EVENT, &[CHANNEL], envelope(0)).await;
    assert_eq!(got.json(), json!({"text": "Success", "code": 0, "ackId": 0}));
    let by_query = format!("{EVENT}?channel=bbbbbbbb-0000-4000-8000-000000000000");
    assert_eq!(bench.post(&by_query, &[], r#"{"event":1}"#).await.json()["ackId"], 0);
    assert_eq!(bench.post(EVENT, &[CHANNEL], r#"{"event":""}"#).await.json()["ackId"], 1);
    let poll = async |channel: (&str, &str)| bench.post(ACK, &[channel], r#"{"acks":[0,9]}"#).await.json();
    let other = ("x-splunk-request-channel", "cccccccc-0000-4000-8000-000000000000");
    assert_eq!(poll(other).await, json!({"acks": {"0": false, "9": false}}));
    assert_eq!(poll(CHANNEL).await, json!({"acks": {"0": true, "9": false}}));
    assert_eq!(poll(CHANNEL).await, json!({"acks": {"0": false, "9": false}}));
    assert_eq!(code(&bench.post(ACK, &[], r#"{"acks":[0]}"#).await), (400, 10));
    let without = start(|_| {}).await;
    assert_eq!(code(&without.post(ACK, &[CHANNEL], r#"{"acks":[0]}"#).await), (400, 14));
}

#[tokio::test]
async fn an_acknowledgement_that_never_comes_explains_a_duplicate_and_one_that_came_does_not() {
    for never in [true, false] {
        let bench = start(|options| {
            options.use_ack = true;
            options.ack_never = never;
        })
        .await;
        bench.issue(1);
        bench.post(EVENT, &[CHANNEL], envelope(0)).await;
        let told = bench.post(ACK, &[CHANNEL], r#"{"acks":[0]}"#).await;
        assert_eq!(told.json()["acks"]["0"], !never);
        tokio::time::sleep(Duration::from_millis(2)).await;
        bench.post(EVENT, &[CHANNEL], envelope(0)).await;
        assert_eq!(bench.report().passes(), never, "{}", bench.report());
        assert_eq!(bench.report().duplicates.get(&Cause::Unconfirmed).copied(), never.then_some(1));
    }
}

#[tokio::test]
async fn behind_a_load_balancer_only_the_indexer_that_was_sent_something_acknowledges_it() {
    let bench = start(|options| {
        options.use_ack = true;
        options.balancer = Balancer::Sticky(3);
    })
    .await;
    let sent = bench.post(EVENT, &[CHANNEL], envelope(0)).await;
    assert!(sent.head.contains("set-cookie: indexer=0; path=/; httponly"), "{}", sent.head);
    let poll = async |headers: &[(&str, &str)]| {
        bench.post(ACK, &[&[CHANNEL], headers].concat(), r#"{"acks":[0]}"#).await.json()["acks"]["0"].clone()
    };
    assert_eq!(poll(&[]).await, false, "this one goes to the next");
    assert_eq!(poll(&[("cookie", "indexer=2")]).await, false);
    assert_eq!(poll(&[("cookie", "a=b; indexer=0")]).await, true);
    assert!(
        !bench
            .post(EVENT, &[CHANNEL, ("cookie", "indexer=0")], envelope(1))
            .await
            .head
            .contains("set-cookie")
    );

    let blind = start(|options| {
        options.use_ack = true;
        options.balancer = Balancer::Blind(2);
    })
    .await;
    let ids =
        [blind.post(EVENT, &[CHANNEL], envelope(0)).await, blind.post(EVENT, &[CHANNEL], envelope(1)).await];
    assert!(
        ids.iter().all(|got| got.json()["ackId"] == 0 && !got.head.contains("set-cookie")),
        "each counts alone"
    );
}

#[tokio::test]
async fn an_error_may_come_without_a_number_to_ask_for() {
    let bench = start(|options| {
        options.use_ack = true;
        options.ack_on_error = false;
    })
    .await;
    bench.issue(2);
    let got = bench.post(EVENT, &[CHANNEL], envelope(0) + r#"{"event":""}"#).await;
    assert_eq!((got.status, got.json().get("ackId")), (400, None));
    tokio::time::sleep(Duration::from_millis(2)).await;
    bench.post(EVENT, &[CHANNEL], envelope(0) + &envelope(1)).await;
    assert_eq!(bench.report().duplicates.get(&Cause::Unconfirmed).copied(), Some(1), "{}", bench.report());
}

#[tokio::test]
async fn an_acknowledgement_takes_its_time() {
    let bench = start(|options| {
        options.use_ack = true;
        options.ack_delay = Duration::from_secs(60);
    })
    .await;
    bench.post(EVENT, &[CHANNEL], envelope(0)).await;
    assert_eq!(bench.post(ACK, &[CHANNEL], r#"{"acks":[0]}"#).await.json()["acks"]["0"], false);
}

#[tokio::test]
async fn codes_on_demand_have_their_statuses_and_warnings_store() {
    let bench = start(|_| {}).await;
    for (demanded, status, stored) in [
        (8, 500, 0),
        (9, 503, 0),
        (21, 400, 0),
        (22, 400, 0),
        (26, 429, 0),
        (27, 429, 0),
        (28, 400, 0),
        (24, 200, 1),
    ] {
        bench.splunk.set_mode(Failure::Code(demanded));
        assert_eq!(code(&bench.post(EVENT, &[], envelope(0)).await), (status, u64::from(demanded)));
        assert_eq!(bench.splunk.counts().stored, stored, "code {demanded}");
    }
    bench.splunk.set_mode(Mode { retry_after_s: Some(7), ..Mode::from(Failure::Status(503)) });
    let got = bench.post(EVENT, &[], envelope(0)).await;
    assert_eq!(code(&got), (503, 9));
    assert!(got.head.contains("retry-after: 7"), "{}", got.head);
}

#[tokio::test]
async fn health_answers_without_a_token_and_fails_only_when_everything_does() {
    let bench = start(|_| {}).await;
    let health =
        async || code(&send(&bench.splunk.url, "GET", "/services/collector/health/1.0", &[], "").await);
    bench.splunk.set_mode(Failure::Status(503));
    assert_eq!(health().await, (200, 17));
    bench.splunk.set_mode(Mode { everywhere: true, ..Mode::from(Failure::Code(18)) });
    assert_eq!(health().await, (503, 18));
}

#[tokio::test]
async fn events_chosen_by_text_are_refused_and_end_the_storing() {
    let bench = start(|_| {}).await;
    bench.splunk.set_mode(Failure::RefuseContaining("e-1".into()));
    let got = bench.post(EVENT, &[], envelope(0) + &envelope(1) + &envelope(2)).await;
    assert_eq!((code(&got), got.json()["invalid-event-number"].as_u64()), ((400, 15), Some(1)));
    assert_eq!(bench.splunk.counts().stored, 1);
}
