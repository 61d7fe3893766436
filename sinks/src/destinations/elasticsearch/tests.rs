//! Tests of bodies, heads, the table of answers, and the questions of `check`.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::{any, prop, prop_assert, proptest};
use serde_json::{Value, json};

use super::super::tests::{answer, common};
use super::super::{Additions, FindingLevel, Signing};
use super::document::{SAFE_FIELDS, SAFE_IDENTITY_FIELDS};
use super::*;
use crate::testing::{Sample, pairs};
use crate::{ReasonCode, Verdict};

const RECORD: &str = r#"{"eventTime":"2023-07-10T11:42:01Z","eventName":"Run \"x\"","requestParameters":"text","userIdentity":{"type":"Root","arn":"arn:aws:iam::1:root"},"eventID":"e-1"}"#;
const ADDED: &str = r#"{"actor":{"class":"principal"},"record":0}"#;

fn settings(more: Value) -> Value {
    let mut settings = json!({ "endpoints": ["https://a.example:9200", "https://b.example/es"] });
    settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    settings
}

fn build(more: Value, common: &CommonSettings) -> Result<Built, Invalid> {
    serde_json::from_value::<Settings>(settings(more)).unwrap().build(common)
}

fn sink(more: Value) -> Built {
    build(more, &common()).unwrap()
}

fn event() -> Event {
    Sample::new(RECORD).additions(ADDED).event()
}

#[track_caller]
fn check_body(built: &Built, event: Event, shape: Shape, expected: &str) {
    let events = [event];
    let mut body = Body::new();
    built.http_sink().unwrap().body(&events, shape, &mut body);
    assert_eq!(String::from_utf8(body.flatten()).unwrap(), expected);
    if shape == Shape::Normal {
        assert!(built.http_sink().unwrap().encoded_len(&events[0]) >= body.len());
    }
}

const RECORD_OPEN: &str = r#"{"eventTime":"2023-07-10T11:42:01Z","eventName":"Run \"x\"","requestParameters":"text","userIdentity":{"type":"Root","arn":"arn:aws:iam::1:root"},"eventID":"e-1""#;

#[test]
fn a_native_document_is_the_record_with_two_members_more() {
    let expected = format!(
        "{}\n{RECORD_OPEN}{}\n",
        r#"{"create":{"_index":"cloudtrail-2023.07.10","_id":"e-1"}}"#,
        r#","@timestamp":"2023-07-10T11:42:01.000Z","trailship":{"actor":{"class":"principal"},"record":0}}"#
    );
    check_body(&sink(json!({})), event(), Shape::Normal, &expected);
}

#[test]
fn a_document_without_additions_is_the_record() {
    let common = CommonSettings { additions: Additions::None, ..common() };
    let built = build(json!({ "index": "ct", "document_id": "none" }), &common).unwrap();
    let expected = format!("{}\n{RECORD}\n", r#"{"create":{"_index":"ct"}}"#);
    check_body(&built, event(), Shape::Normal, &expected);
    // A data stream takes nothing without its time.
    let built = build(json!({ "data_stream": "logs-ct-default" }), &common).unwrap();
    let expected = format!(
        "{}\n{RECORD_OPEN}{}\n",
        r#"{"create":{"_index":"logs-ct-default","_id":"e-1"}}"#,
        r#","@timestamp":"2023-07-10T11:42:01.000Z"}"#
    );
    check_body(&built, event(), Shape::Normal, &expected);
    let built = build(json!({ "index": "logs-ct-default", "sign": "aoss" }), &common).unwrap();
    check_body(&built, event(), Shape::Normal, &expected);
}

#[test]
fn an_empty_event_is_a_document_too() {
    let common = CommonSettings { labels: pairs(&[("dc", "1")]), ..common() };
    let built = build(json!({ "document_id": "event_id" }), &common).unwrap();
    let expected = concat!(
        r#"{"create":{"_index":"cloudtrail-undated"}}"#,
        "\n",
        r#"{"trailship":{"record":0,"labels":{"dc":"1"}}}"#,
        "\n"
    );
    check_body(&built, Sample::new("{}").event(), Shape::Normal, expected);
}

#[test]
fn the_safe_shape_holds_texts_and_the_record_as_one_string() {
    let expected = concat!(
        r#"{"create":{"_index":"cloudtrail-2023.07.10","_id":"e-1"}}"#,
        "\n",
        r#"{"@timestamp":"2023-07-10T11:42:01.000Z","eventTime":"2023-07-10T11:42:01Z","#,
        r#""eventName":"Run \"x\"","eventID":"e-1","userIdentity":{"type":"Root","arn":"arn:aws:iam::1:root"},"#,
        r#""tags":["trailship_safe_shape"],"event_original":"{\"eventTime\":\"2023-07-10T11:42:01Z\",\"eventName\":\"Run \\\"x\\\"\","#,
        r#"\"requestParameters\":\"text\",\"userIdentity\":{\"type\":\"Root\",\"arn\":\"arn:aws:iam::1:root\"},"#,
        r#"\"eventID\":\"e-1\"}","trailship":{"actor":{"class":"principal"},"record":0}}"#,
        "\n"
    );
    check_body(&sink(json!({})), event(), Shape::Safe, expected);
    let expected = concat!(
        r#"{"create":{"_index":"cloudtrail-undated"}}"#,
        "\n",
        r#"{"tags":["trailship_safe_shape"],"event_original":"{}","trailship":{"record":0}}"#,
        "\n"
    );
    check_body(&sink(json!({ "document_id": "event_id" })), Sample::new("{}").event(), Shape::Safe, expected);
}

#[test]
fn the_integration_gets_the_record_as_its_message() {
    let built =
        sink(json!({ "data_stream": "logs-aws.cloudtrail-default", "format": "elastic_integration" }));
    let expected = concat!(
        r#"{"create":{"_index":"logs-aws.cloudtrail-default","_id":"e-2"}}"#,
        "\n",
        r#"{"@timestamp":"2023-07-10T11:42:01.000Z","message":"{\"eventTime\":\"2023-07-10T11:42:01Z\",\"eventID\":\"e-2\"}","#,
        r#""tags":["preserve_original_event"],"aws":{"s3":{"bucket":{"name":"trail"},"object":{"key":"a/b.json.gz"}}},"#,
        r#""data_stream":{"type":"logs","dataset":"aws.cloudtrail","namespace":"default"},"trailship":{"record":0}}"#,
        "\n"
    );
    for shape in [Shape::Normal, Shape::Safe] {
        let event = Sample::new(r#"{"eventTime":"2023-07-10T11:42:01Z","eventID":"e-2"}"#).event();
        check_body(&built, event, shape, expected);
    }
}

#[test]
fn a_head_has_what_the_bulk_interface_wants_and_the_next_endpoint_where_there_was_no_answer() {
    let built = sink(json!({ "api_key": "id:key", "pipeline": "geo" }));
    let path = "/_bulk?filter_path=took,errors,items.*.status,items.*.error.type,items.*.error.reason,\
                items.*.error.caused_by.reason,items.*.failure_store&pipeline=geo";
    for (number, base) in
        [(0, "https://a.example:9200"), (1, "https://b.example/es"), (2, "https://a.example:9200")]
    {
        let head = built.http_sink().unwrap().head(&Attempt { number, ..Attempt::default() });
        assert_eq!((head.method, head.url), ("POST", format!("{base}{path}")));
        let expected = [
            ("content-type", "application/x-ndjson"),
            ("accept", "application/json"),
            ("authorization", "ApiKey aWQ6a2V5"),
        ];
        assert_eq!(head.headers, expected.map(|(name, value)| (name, value.to_owned())));
    }
}

#[test]
fn credentials_become_the_header_of_their_kind() {
    let authorization = |more| {
        let head = sink(more).http_sink().unwrap().head(&Attempt::default());
        head.headers.into_iter().find(|(name, _)| *name == "authorization").map(|(_, value)| value)
    };
    assert_eq!(authorization(json!({})), None);
    assert_eq!(authorization(json!({ "api_key": "aWQ6a2V5" })).unwrap(), "ApiKey aWQ6a2V5");
    assert_eq!(authorization(json!({ "username": "u", "password": "p" })).unwrap(), "Basic dTpw");
    assert_eq!(authorization(json!({ "bearer_token": "t" })).unwrap(), "Bearer t");
}

#[test]
fn settings_that_cannot_work_are_refused_with_the_remedy() {
    for (more, message) in [
        (json!({ "index": "a", "data_stream": "b" }), "data_stream: take away `index`"),
        (json!({ "index": "A" }), "index: `A` cannot stand in a name"),
        (json!({ "data_stream": "logs-%Y" }), "data_stream: its name is fixed"),
        (json!({ "data_stream": "logs-aws.cloudtrail-default" }), "format: this data stream needs"),
        (json!({ "format": "elastic_integration" }), "format: elastic_integration needs data_stream"),
        (json!({ "pipeline": "a&b" }), "pipeline: use letters"),
        (json!({ "pipeline": "" }), "pipeline: use letters"),
        (json!({ "cloud_id": "x:aG9zdCRpZA==" }), "cloud_id: take away `endpoints`"),
        (json!({ "endpoints": [], "cloud_id": "x:!" }), "cloud_id: not a cloud id"),
        (json!({ "region": "eu-west-1" }), "region: only for `sign`"),
        (json!({ "aws": "audit" }), "aws: only for `sign`"),
        (json!({ "sign": "es", "api_key": "a" }), "api_key: take it away"),
        (json!({ "sign": "es", "username": "a", "password": "b" }), "username: take it away"),
        (json!({ "sign": "es", "bearer_token": "b" }), "bearer_token: take it away"),
        (json!({ "sign": "aoss", "pipeline": "geo" }), "pipeline: OpenSearch Serverless has no"),
        (
            json!({ "endpoints": [], "cloud_id": "x:aG9zdCRpZA==", "sign": "es" }),
            "sign: Elastic Cloud takes no such signatures",
        ),
        (
            json!({ "sign": "es", "data_stream": "logs-aws.cloudtrail-x", "format": "elastic_integration" }),
            "format: Elastic's integration does not run",
        ),
        (json!({ "username": "a" }), "password: missing"),
        (json!({ "password": "a" }), "username: missing"),
        (json!({ "api_key": "a", "bearer_token": "b" }), "api_key: keep one of"),
        (json!({ "bearer_token": "schlüssel" }), "no header can carry"),
        (json!({ "endpoints": [] }), "endpoints: name at least one address"),
        (json!({ "endpoints": ["es:9200"] }), "endpoints: not an absolute address"),
    ] {
        let error = build(more, &common()).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn a_cloud_id_is_an_address() {
    let built = sink(json!({ "endpoints": [], "cloud_id": "trail:ZXhhbXBsZS5vcmc6OTI0MyRhYmMkZGVm" }));
    assert_eq!(built.endpoints, ["https://abc.example.org:9243"]);
    assert!(head(&built).url.starts_with("https://abc.example.org:9243/_bulk?"));
}

#[test]
fn signed_requests_name_service_region_and_identity_and_bear_no_other_credentials() {
    let built = sink(json!({ "endpoints": ["https://x.eu-west-1.aoss.amazonaws.com"], "sign": "aoss" }));
    let signing = Signing { service: "aoss", region: Some("eu-west-1".into()) };
    assert_eq!((built.signing.as_ref(), built.identity.as_deref()), (Some(&signing), Some("default")));
    assert!(head(&built).headers.iter().all(|(name, _)| *name != "authorization"));
    let built = sink(json!({ "sign": "es", "region": "us-east-1", "aws": "audit" }));
    let signing = Signing { service: "es", region: Some("us-east-1".into()) };
    assert_eq!((built.signing.as_ref(), built.identity.as_deref()), (Some(&signing), Some("audit")));
    let built = sink(json!({ "api_key": "k" }));
    assert_eq!((built.signing, built.identity), (None, None));
}

#[test]
fn nothing_that_is_shown_holds_a_secret() {
    let (id, secret) = ("hunter2-id", "hunter2-secret");
    for more in [
        json!({ "api_key": format!("{id}:{secret}") }),
        json!({ "api_key": STANDARD.encode(format!("{id}:{secret}")) }),
        json!({ "username": id, "password": secret }),
        json!({ "bearer_token": secret }),
    ] {
        let settings: Settings = serde_json::from_value(settings(more.clone())).unwrap();
        let built = sink(more);
        let value = head(&built).headers.into_iter().find(|(name, _)| *name == "authorization").unwrap().1;
        let encoded = value.split(' ').nth(1).unwrap().to_owned();
        let body =
            json!({ "error": { "type": "security_exception", "reason": format!("{secret} {encoded}") } });
        let told = judge(&built, 1, &answer(401, &[], &body.to_string()));
        let item =
            judge(&built, 1, &items(&[error(403, "security_exception", &format!("{secret} {encoded}"))]));
        let probe = built.probe.as_ref().unwrap().read(0, &answer(403, &[], &encoded));
        let texts = [
            format!("{settings:?}"),
            format!("{built:?}"),
            format!("{:?}", head(&built)),
            format!("{told:?}"),
            format!("{item:?}"),
            format!("{probe:?}"),
        ];
        for text in texts {
            assert!(!text.contains(secret) && !text.contains(&encoded), "{text}");
        }
    }
}

fn head(built: &Built) -> Head {
    built.http_sink().unwrap().head(&Attempt::default())
}

#[test]
fn an_endpoint_that_does_its_work_is_asked_again_and_one_that_does_not_is_left() {
    let (first, second) = ("https://a.example:9200/", "https://b.example/es/");
    for (status, body, next) in [
        (200, r#"{"items":[{"create":{"status":201}}]}"#, first),
        (200, r#"{"items":[{"create":{"status":503}}]}"#, first),
        (400, "", first),
        (413, "", first),
        (429, "", first),
        (200, "<html>", second),
        (401, "", second),
        (404, "", second),
        (500, "", second),
        (502, "", second),
        (503, "", second),
    ] {
        let built = sink(json!({}));
        assert!(head(&built).url.starts_with(first));
        judge(&built, 1, &answer(status, &[], body));
        assert!(head(&built).url.starts_with(next), "{status}");
    }
}

#[test]
fn a_collection_that_takes_no_ids_gets_none_from_then_on() {
    let told = items(&[error(400, "illegal_argument_exception", NO_IDS), json!({ "status": 201 })]);
    let with = r#"{"create":{"_index":"cloudtrail-2023.07.10","_id":"e-1"}}"#;
    let without = r#"{"create":{"_index":"cloudtrail-2023.07.10"}}"#;
    let built = sink(json!({}));
    assert_eq!(action(&built), with);
    // A request that was under way with ids is sent again as well.
    for _ in 0..2 {
        let Judgement::Each(verdicts) = judge(&built, 2, &told) else { panic!() };
        assert_eq!(word(&verdicts[0]), ("retry", Some(ReasonCode::Other)));
        assert_eq!(verdicts[1], Verdict::Delivered);
        assert_eq!(action(&built), without);
    }
    // Where ids are asked for, they are not given up.
    let built = sink(json!({ "document_id": "event_id" }));
    let Judgement::Each(verdicts) = judge(&built, 2, &told) else { panic!() };
    assert_eq!(word(&verdicts[0]), ("denied", Some(ReasonCode::Misconfigured)));
    assert_eq!(action(&built), with);
}

#[test]
fn an_event_that_quotes_the_words_about_ids_changes_nothing() {
    let built = sink(json!({}));
    for (kind, reason) in [
        ("mapper_parsing_exception", NO_IDS.to_owned()),
        ("illegal_argument_exception", format!("Preview of field's value: '{NO_IDS}'")),
    ] {
        judge(&built, 1, &items(&[error(400, kind, &reason)]));
        assert!(action(&built).contains("_id\":"), "{kind}");
    }
}

const NO_IDS: &str = "Document ID is not supported in create/index operation request";

/// The action line of an event.
fn action(built: &Built) -> String {
    let events = [event()];
    let mut body = Body::new();
    built.http_sink().unwrap().body(&events, Shape::Normal, &mut body);
    String::from_utf8(body.flatten()).unwrap().lines().next().unwrap().to_owned()
}

#[test]
fn a_text_that_is_too_long_for_one_term_stands_only_in_the_whole_record() {
    for (len, kept) in [(32_766, true), (32_767, false)] {
        let long = "x".repeat(len);
        let record =
            format!(r#"{{"userAgent":"{long}","eventName":"Run","userIdentity":{{"arn":"{long}"}}}}"#);
        let events = [Sample::new(&record).event()];
        let mut body = Body::new();
        sink(json!({})).http_sink().unwrap().body(&events, Shape::Safe, &mut body);
        let text = String::from_utf8(body.flatten()).unwrap();
        let document: Value = serde_json::from_str(text.lines().nth(1).unwrap()).unwrap();
        assert_eq!(document["event_original"], json!(record));
        assert_eq!(document["eventName"], "Run");
        assert_eq!(document.get("userAgent").is_some(), kept, "{len}");
        assert_eq!(document.pointer("/userIdentity/arn").is_some(), kept, "{len}");
    }
}

proptest! {
    #[test]
    fn a_body_is_never_longer_than_its_events_were_said_to_be(
        texts in prop::collection::vec(any::<String>(), 1..4),
        bucket in any::<String>(),
        key in any::<String>(),
        label in any::<String>(),
    ) {
        let common = CommonSettings { labels: pairs(&[("l", &label)]), ..common() };
        let stream = json!({ "data_stream": "logs-aws.cloudtrail-x", "format": "elastic_integration" });
        for more in [json!({}), json!({ "index": "ct-{account}-{region}-%Y%m%d", "document_id": "none" }), stream] {
            let built = build(more, &common).unwrap();
            let events: Vec<Event> = texts
                .iter()
                .map(|text| {
                    let record = json!({ "eventID": text, "awsRegion": text, "eventTime": "2023-07-10T11:42:01Z" });
                    Sample::new(&record.to_string()).from(&bucket, &key).event()
                })
                .collect();
            let mut body = Body::new();
            let sink = built.http_sink().unwrap();
            sink.body(&events, Shape::Normal, &mut body);
            let said: usize = events.iter().map(|event| sink.encoded_len(event)).sum();
            prop_assert!(said >= body.len(), "{said} said, {} written", body.len());
        }
    }
}

fn items(items: &[Value]) -> Answer {
    let items: Vec<_> = items.iter().map(|item| json!({ "create": item })).collect();
    answer(200, &[], &json!({ "took": 3, "errors": true, "items": items }).to_string())
}

fn judge(built: &Built, count: usize, answer: &Answer) -> Judgement {
    let events = vec![event(); count];
    built.http_sink().unwrap().judge(&events, &Attempt::default(), answer)
}

fn error(status: u16, kind: &str, reason: &str) -> Value {
    json!({ "status": status, "error": { "type": kind, "reason": reason } })
}

/// The verdict in one word, and the code of its reason.
fn word(verdict: &Verdict) -> (&'static str, Option<ReasonCode>) {
    match verdict {
        Verdict::Delivered => ("delivered", None),
        Verdict::Duplicate => ("duplicate", None),
        Verdict::Pending(_) => ("pending", None),
        Verdict::Retry(why) | Verdict::HungUp(why) => ("retry", Some(why.code)),
        Verdict::Reshape(why) => ("reshape", Some(why.code)),
        Verdict::Refused { why, named: true } => ("named", Some(why.code)),
        Verdict::Refused { why, named: false } => ("refused", Some(why.code)),
        Verdict::Denied(why) => ("denied", Some(why.code)),
    }
}

/// Every kind of item that is answered, with what becomes of its event.
fn item_table() -> Vec<(Value, (&'static str, Option<ReasonCode>))> {
    use ReasonCode::*;
    let illegal = "illegal_argument_exception";
    vec![
        (json!({ "status": 201 }), ("delivered", None)),
        (json!({ "status": 200 }), ("delivered", None)),
        (json!({ "status": 201, "failure_store": "used" }), ("delivered", None)),
        (json!({ "status": 409 }), ("duplicate", None)),
        (error(409, "version_conflict_engine_exception", "document already exists"), ("duplicate", None)),
        (error(409, "other_conflict", "?"), ("retry", Some(Garbled))),
        (error(400, "document_parsing_exception", "failed to parse field"), ("reshape", Some(Mapping))),
        (error(400, "mapper_parsing_exception", "object mapping tried to parse"), ("reshape", Some(Mapping))),
        (error(400, "strict_dynamic_mapping_exception", "dynamic introduction"), ("reshape", Some(Mapping))),
        (error(400, illegal, "Document contains at least one immense term"), ("reshape", Some(Mapping))),
        (
            error(
                400,
                illegal,
                "The provided [flattened] field [a] exceeds the maximum depth limit of [20].",
            ),
            ("reshape", Some(Mapping)),
        ),
        (error(400, illegal, "Limit of total fields [1000] has been exceeded"), ("reshape", Some(Mapping))),
        // The event's own words, quoted by the destination, do not deny the lane.
        (error(400, "mapper_parsing_exception", "value: 'pipeline with id [x]'"), ("reshape", Some(Mapping))),
        (
            error(400, illegal, "data stream timestamp field [@timestamp] is missing"),
            ("named", Some(Invalid)),
        ),
        (error(400, illegal, "pipeline with id [geo] does not exist"), ("denied", Some(Misconfigured))),
        (error(400, illegal, NO_IDS), ("retry", Some(Other))),
        (
            error(400, illegal, "only write ops with an op_type of create are allowed in data streams"),
            ("denied", Some(Misconfigured)),
        ),
        (error(400, illegal, "no write index is defined for alias [x]"), ("denied", Some(Misconfigured))),
        (
            error(
                400,
                "validation_exception",
                "this action would add [2] shards, but this cluster currently has [1000]/[1000] maximum normal shards open",
            ),
            ("denied", Some(Misconfigured)),
        ),
        (error(400, "index_closed_exception", "closed"), ("denied", Some(Misconfigured))),
        (error(400, "invalid_index_name_exception", "Invalid index name"), ("denied", Some(Misconfigured))),
        (error(400, "never_seen_exception", "?"), ("refused", Some(Invalid))),
        (json!({ "status": 400 }), ("refused", Some(Invalid))),
        (error(401, "security_exception", "missing credentials"), ("denied", Some(Unauthorized))),
        (error(403, "security_exception", "action is unauthorized"), ("denied", Some(Unauthorized))),
        (
            error(403, "cluster_block_exception", "index [x] blocked by: [FORBIDDEN/8/index write (api)]"),
            ("denied", Some(Misconfigured)),
        ),
        (error(404, "index_not_found_exception", "no such index [x]"), ("denied", Some(Misconfigured))),
        (error(413, "content_too_long", "x"), ("named", Some(TooLarge))),
        (error(429, "es_rejected_execution_exception", "rejected"), ("retry", Some(Throttled))),
        (error(429, "cluster_block_exception", "flood stage"), ("retry", Some(Throttled))),
        (
            error(503, "unavailable_shards_exception", "primary shard is not active"),
            ("retry", Some(ServerError)),
        ),
        (error(500, "internal", "?"), ("retry", Some(ServerError))),
        (error(200, "odd", "success and a fault"), ("retry", Some(Garbled))),
        (json!({ "status": 302 }), ("retry", Some(Garbled))),
    ]
}

#[test]
fn every_item_gets_its_own_verdict() {
    let table = item_table();
    let values: Vec<_> = table.iter().map(|(item, _)| item.clone()).collect();
    let Judgement::Each(verdicts) = judge(&sink(json!({})), table.len(), &items(&values)) else {
        panic!("items are judged each");
    };
    for ((item, expected), verdict) in table.iter().zip(&verdicts) {
        assert_eq!(word(verdict), *expected, "{item}");
    }
}

#[test]
fn a_refusal_says_why_and_with_which_status() {
    let item = error(404, "index_not_found_exception", "no such\nindex");
    let Judgement::Each(verdicts) = judge(&sink(json!({})), 1, &items(&[item])) else { panic!() };
    let Some(Verdict::Denied(why)) = verdicts.first() else { panic!() };
    assert_eq!(
        why.to_string(),
        "misconfigured (HTTP 404): the index or data stream is missing, install its template: \
         index_not_found_exception: no such index"
    );
    // OpenSearch keeps what went wrong in the cause.
    let item = json!({ "status": 400, "error": { "type": "mapper_parsing_exception", "reason": "failed to parse",
        "caused_by": { "reason": "pipeline with id 'x'" } } });
    let Judgement::Each(verdicts) = judge(&sink(json!({})), 1, &items(&[item])) else { panic!() };
    let Some(Verdict::Reshape(why)) = verdicts.first() else { panic!() };
    assert_eq!(why.text, "mapper_parsing_exception: failed to parse (pipeline with id 'x')");
}

#[test]
fn what_depends_on_the_settings_is_judged_by_them() {
    let mapping = items(&[error(400, "document_parsing_exception", "x")]);
    let integration =
        sink(json!({ "data_stream": "logs-aws.cloudtrail-x", "format": "elastic_integration" }));
    let Judgement::Each(verdicts) = judge(&integration, 1, &mapping) else { panic!() };
    assert_eq!(word(&verdicts[0]), ("named", Some(ReasonCode::Mapping)));
    // Without ids of ours a conflict is not about this event.
    let Judgement::Each(verdicts) =
        judge(&sink(json!({ "document_id": "none" })), 1, &items(&[json!({ "status": 409 })]))
    else {
        panic!()
    };
    assert_eq!(word(&verdicts[0]), ("retry", Some(ReasonCode::Garbled)));
}

#[test]
fn an_answer_that_is_not_understood_is_no_success() {
    let built = sink(json!({}));
    for body in [
        "",
        "ok",
        "<html>",
        "{}",
        r#"{"errors":false}"#,
        r#"{"errors":false,"items":[]}"#,
        r#"{"errors":false,"items":[{"create":{"status":201}},{"create":{"status":201}}]}"#,
        r#"{"errors":false,"items":[{}]}"#,
        r#"{"errors":false,"items":[{"create":{}}]}"#,
        r#"{"errors":false,"items":[{"create":{"status":201}}"#,
    ] {
        let judgement = judge(&built, 1, &answer(200, &[], body));
        assert!(
            matches!(&judgement, Judgement::Unavailable { why, .. } if why.code == ReasonCode::Garbled),
            "{body}: {judgement:?}"
        );
    }
    let empty = judge(&built, 1, &answer(204, &[], ""));
    assert!(matches!(empty, Judgement::Unavailable { .. }));
}

#[test]
fn a_request_that_fails_as_a_whole_is_judged_by_its_status() {
    let built = sink(json!({}));
    let body = r#"{"error":{"type":"security_exception","reason":"no key"},"status":401}"#;
    assert_eq!(
        format!("{:?}", judge(&built, 1, &answer(401, &[], body))),
        "Denied(Reason { code: Unauthorized, status: Some(401), text: \"credentials refused, check `api_key` or its \
         like, and that it may create documents: security_exception: no key\" })"
    );
    for (status, expected) in [
        (400, "Refused"),
        (403, "Denied"),
        (404, "Denied"),
        (405, "Denied"),
        (406, "Denied"),
        (413, "TooLarge"),
        (429, "Unavailable"),
        (500, "Unavailable"),
        (502, "Unavailable"),
        (503, "Unavailable"),
        (504, "Unavailable"),
    ] {
        for body in ["", r#"{"error":"text"}"#, "<html>"] {
            let judgement = format!("{:?}", judge(&built, 1, &answer(status, &[], body)));
            assert!(judgement.starts_with(expected), "{status}: {judgement}");
        }
    }
}

#[test]
fn a_signature_that_is_refused_denies_with_what_decides_it() {
    let built = sink(json!({ "sign": "es" }));
    let said = r#"{"Message":"User: arn:aws:iam::1:role/x is not authorized to perform: es:ESHttpPost"}"#;
    let Judgement::Denied(why) = judge(&built, 1, &answer(403, &[], said)) else { panic!() };
    assert_eq!(why.code, ReasonCode::Unauthorized);
    assert!(why.text.contains("check `sign`") && why.text.contains("es:ESHttpPost"), "{why}");
}

#[test]
fn a_server_that_does_not_know_require_data_stream_is_not_asked_for_it_again() {
    let built = sink(json!({ "data_stream": "logs-ct-default" }));
    let url = || built.http_sink().unwrap().head(&Attempt::default()).url;
    assert!(url().ends_with("&require_data_stream=true"));
    let body = json!({ "status": 400, "error": { "type": "illegal_argument_exception",
        "reason": "request [/_bulk] contains unrecognized parameter: [require_data_stream]" } });
    let told = answer(400, &[], &body.to_string());
    assert!(matches!(judge(&built, 1, &told), Judgement::Unavailable { .. }));
    assert!(!url().contains("require_data_stream"));
    assert!(matches!(judge(&built, 1, &told), Judgement::Refused(_)));
}

fn probe(more: Value) -> Arc<dyn super::super::Probe> {
    sink(more).probe.unwrap()
}

#[track_caller]
fn check_questions(more: Value, expected: &[(&str, &str)]) {
    let steps = probe(more).steps();
    let asked: Vec<_> = steps.iter().map(|step| (step.head.method, step.head.url.as_str())).collect();
    assert_eq!(asked, expected);
}

#[test]
fn check_asks_every_endpoint_who_it_is_and_the_first_for_the_rest() {
    check_questions(
        json!({ "api_key": "k" }),
        &[
            ("GET", "https://a.example:9200/"),
            ("GET", "https://b.example/es/"),
            ("POST", "https://a.example:9200/_security/user/_has_privileges"),
            ("GET", "https://a.example:9200/_index_template/trailship-cloudtrail"),
            ("GET", "https://a.example:9200/cloudtrail-*/_settings/index.blocks*"),
        ],
    );
    let steps = probe(json!({ "api_key": "k" })).steps();
    assert_eq!(steps[1].what, "version of https://b.example");
    let privileges = r#"{"index":[{"names":["cloudtrail-*"],"privileges":["create_doc","auto_configure"]}]}"#;
    assert_eq!(String::from_utf8(steps[2].body.clone()).unwrap(), privileges);
    check_questions(
        json!({ "endpoints": ["https://a.example"], "data_stream": "logs-ct-x", "pipeline": "geo" }),
        &[
            ("GET", "https://a.example/"),
            ("POST", "https://a.example/_security/user/_has_privileges"),
            ("GET", "https://a.example/_index_template/trailship-logs-ct-x"),
            ("GET", "https://a.example/_data_stream/logs-ct-x"),
            ("GET", "https://a.example/_ingest/pipeline/geo"),
        ],
    );
}

#[test]
fn check_asks_amazon_s_services_for_what_they_have() {
    check_questions(
        json!({ "endpoints": ["https://a.example"], "sign": "es" }),
        &[
            ("GET", "https://a.example/"),
            ("GET", "https://a.example/_index_template/trailship-cloudtrail"),
            ("GET", "https://a.example/cloudtrail-*/_settings/index.blocks*"),
        ],
    );
    let serverless = json!({ "endpoints": ["https://a.example"], "sign": "aoss" });
    check_questions(
        serverless.clone(),
        &[
            ("GET", "https://a.example/_index_template/trailship-cloudtrail"),
            ("GET", "https://a.example/cloudtrail-*/_settings/index.blocks*"),
        ],
    );
    for (more, right) in [(serverless, "aoss:WriteDocument"), (json!({ "sign": "es" }), "es:ESHttpPost")] {
        let finding = probe(more).read(0, &answer(403, &[], r#"{"Message":"not authorized"}"#));
        assert_eq!(finding.level, FindingLevel::Warning);
        assert!(
            finding.sentence.contains(right) && finding.sentence.contains("not authorized"),
            "{finding:?}"
        );
    }
}

/// Numbers of the questions about an index at a single endpoint, and about a data stream with a pipeline.
const VERSION: usize = 0;
const RIGHTS: usize = 1;
const TEMPLATE: usize = 2;
const PLACE: usize = 3;
const PIPELINE: usize = 4;

#[track_caller]
fn check_finding(more: Value, step: usize, status: u16, body: &str, level: FindingLevel, text: &str) {
    let mut settings = json!({ "endpoints": ["https://a.example"] });
    settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let finding = probe(settings).read(step, &answer(status, &[], body));
    assert_eq!(finding.level, level, "{step} {status} {body}: {finding:?}");
    assert!(finding.sentence.contains(text), "{finding:?}");
}

#[test]
fn check_reads_version_and_rights_as_sentences() {
    use FindingLevel::{Failed, Good, Warning};
    let version = |number: &str, more: &str| format!(r#"{{"version":{{"number":"{number}"{more}}}}}"#);
    let opensearch = r#","distribution":"opensearch""#;
    let hidden =
        r#"{"version":{"number":"7.10.2"},"tagline":"The OpenSearch Project: https://opensearch.org/"}"#;
    let rights =
        r#"{"has_all_requested":false,"index":{"cloudtrail-*":{"create_doc":true,"auto_configure":false}}}"#;
    let none =
        r#"{"has_all_requested":false,"index":{"cloudtrail-*":{"create_doc":false,"auto_configure":false}}}"#;
    for (step, status, body, level, text) in [
        (VERSION, 200, version("2.19.3", opensearch).as_str(), Good, "OpenSearch 2.19.3 answers"),
        (
            VERSION,
            200,
            &version("8.15.0", r#","build_flavor":"default""#),
            Good,
            "Elasticsearch 8.15.0 answers",
        ),
        (VERSION, 200, hidden, Good, "OpenSearch 7.10.2 answers"),
        (VERSION, 200, &version("2.5.0", opensearch), Warning, "use OpenSearch 2.7 or later"),
        (VERSION, 200, &version("7.10.2", r#","build_flavor":"oss""#), Warning, "default licence"),
        (VERSION, 403, "", Good, "may not see its version"),
        (VERSION, 404, "", Warning, "check `endpoints`"),
        (VERSION, 200, "<html>", Failed, "check `endpoints`"),
        (VERSION, 502, "", Failed, "HTTP 502"),
        (VERSION, 401, "", Failed, "check `api_key`"),
        (
            RIGHTS,
            200,
            r#"{"has_all_requested":true}"#,
            Good,
            "may create documents and indices named cloudtrail-*",
        ),
        (RIGHTS, 200, rights, Warning, "grant auto_configure"),
        (RIGHTS, 200, none, Failed, "grant create_doc"),
        (RIGHTS, 400, "", Warning, "the first batch will tell"),
        (RIGHTS, 401, "", Failed, "check `api_key`"),
        (9, 200, "", Warning, "no such question"),
    ] {
        check_finding(json!({}), step, status, body, level, text);
    }
}

/// The answer about a template with these patterns, with more members, and with a mapping of one field.
fn template(patterns: &str, more: &str, kind: &str) -> String {
    format!(
        r#"{{"index_templates":[{{"name":"x","index_template":{{"index_patterns":{patterns}{more},
        "template":{{"mappings":{{"properties":{{"requestParameters":{{"type":"{kind}"}}}}}}}}}}}}]}}"#
    )
}

#[test]
fn check_finds_out_whether_the_template_fits() {
    use FindingLevel::{Failed, Good, Warning};
    let ours = r#"["cloudtrail-*"]"#;
    let streams = r#","data_stream":{}"#;
    for (status, body, level, text) in [
        (200, template(ours, "", "flattened").as_str(), Good, "trailship-cloudtrail is installed"),
        (200, &template(ours, "", "flat_object"), Good, "is installed"),
        (200, &template(r#"["a","cloud*"]"#, "", "flattened"), Good, "is installed"),
        (200, &template(ours, "", "object"), Warning, "does not map requestParameters"),
        (200, &template(ours, r#","composed_of":["b"]"#, "object"), Good, "is installed"),
        (200, &template(r#"["cloudtrail-2024*","b"]"#, "", "flattened"), Warning, "is not for cloudtrail-*"),
        (200, &template(ours, streams, "flattened"), Warning, "makes data streams"),
        (200, "{}", Warning, "is not understood"),
        (404, "{}", Warning, "check --apply"),
        (403, "{}", Warning, "may not see"),
        (500, "", Warning, "HTTP 500"),
    ] {
        check_finding(json!({}), TEMPLATE, status, body, level, text);
    }
    let stream = json!({ "data_stream": "logs-ct-x" });
    let named = r#"["logs-ct-*"]"#;
    let installed = "trailship-logs-ct-x is installed";
    check_finding(stream.clone(), TEMPLATE, 200, &template(named, streams, "flattened"), Good, installed);
    check_finding(stream, TEMPLATE, 200, &template(named, "", "flattened"), Failed, "makes no data streams");
    let integration = json!({ "data_stream": "logs-aws.cloudtrail-x", "format": "elastic_integration" });
    let theirs = template(r#"["logs-aws.cloudtrail-*"]"#, streams, "object");
    check_finding(integration.clone(), TEMPLATE, 200, &theirs, Good, "logs-aws.cloudtrail is installed");
    check_finding(integration, TEMPLATE, 404, "", Warning, "assets of Elastic's AWS integration");
}

#[test]
fn check_finds_out_whether_documents_have_a_place_to_go() {
    use FindingLevel::{Failed, Good, Warning};
    let block = |name: &str, value: &str| {
        format!(r#"{{"ct":{{"settings":{{"index":{{"blocks":{{"{name}":{value}}}}}}}}}}}"#)
    };
    let flood = block("read_only_allow_delete", r#""true""#);
    let index = json!({ "index": "ct" });
    for (status, body, level, text) in [
        (200, "{}", Good, "ct: no index is blocked"),
        (200, block("write", r#""false""#).as_str(), Good, "no index is blocked"),
        (200, &block("metadata", "true"), Good, "no index is blocked"),
        (200, &block("write", "true"), Failed, "index ct takes no writes (index.blocks.write)"),
        (200, &flood, Failed, "after freeing disk"),
        (200, "[]", Warning, "is not understood"),
        (404, "", Good, "ct is not there yet"),
        (403, "", Warning, "view_index_metadata"),
        (500, "", Warning, "HTTP 500"),
    ] {
        check_finding(index.clone(), PLACE, status, body, level, text);
    }
    // Among many indices a blocked one may be an old one.
    check_finding(json!({}), PLACE, 200, &flood, Warning, "index ct takes no writes");
    let stream = json!({ "data_stream": "logs-ct-x", "pipeline": "geo" });
    for (step, status, level, text) in [
        (PLACE, 200, Good, "data stream logs-ct-x is there"),
        (PLACE, 404, Warning, "is not there yet"),
        (PLACE, 403, Warning, "view_index_metadata"),
        (PLACE, 500, Warning, "HTTP 500"),
        (PIPELINE, 200, Good, "pipeline geo is there"),
        (PIPELINE, 404, Failed, "correct or remove `pipeline`"),
        (PIPELINE, 403, Warning, "read_pipeline"),
        (PIPELINE, 500, Warning, "HTTP 500"),
    ] {
        check_finding(stream.clone(), step, status, "{}", level, text);
    }
}

#[test]
fn apply_installs_the_template_of_the_server_s_kind() {
    let root = |distribution: &str| {
        Some(answer(
            200,
            &[],
            &json!({ "version": { "number": "8.1.0", "distribution": distribution } }).to_string(),
        ))
    };
    for (distribution, kind) in [("", "flattened"), ("opensearch", "flat_object")] {
        let steps = probe(json!({ "index": "ct-%Y" })).apply(&[root(distribution)]).unwrap();
        assert_eq!(steps[0].head.method, "PUT");
        assert_eq!(steps[0].head.url, "https://a.example:9200/_index_template/trailship-ct");
        let template: Value = serde_json::from_slice(&steps[0].body).unwrap();
        assert_eq!(template["index_patterns"], json!(["ct-*"]));
        assert_eq!(template["template"]["mappings"]["properties"]["requestParameters"]["type"], kind);
        assert!(template.get("data_stream").is_none());
    }
    let steps = probe(json!({ "data_stream": "logs-ct-x" })).apply(&[root("")]).unwrap();
    let template: Value = serde_json::from_slice(&steps[0].body).unwrap();
    assert_eq!((&template["index_patterns"], &template["data_stream"]), (&json!(["logs-ct-x"]), &json!({})));
    assert!(probe(json!({})).apply(&[None]).unwrap_err().contains("by hand"));
    assert!(probe(json!({})).apply(&[Some(answer(403, &[], ""))]).unwrap_err().contains("by hand"));
    assert!(probe(json!({ "index": "{account}" })).apply(&[root("")]).unwrap_err().contains("by hand"));
    let old = answer(200, &[], r#"{"version":{"number":"1.3.0","distribution":"opensearch"}}"#);
    assert!(probe(json!({})).apply(&[Some(old)]).unwrap_err().contains("OpenSearch 2.7"));
    // Of two endpoints the one that answers.
    let steps = probe(json!({})).apply(&[None, root("")]).unwrap();
    assert!(steps[0].head.url.starts_with("https://b.example/es/_index_template/"));
    // Serverless tells no version, and keeps documents in its own way.
    let steps = probe(json!({ "sign": "aoss" })).apply(&[None, None]).unwrap();
    let template: Value = serde_json::from_slice(&steps[0].body).unwrap();
    assert_eq!(template["template"]["mappings"]["properties"]["requestParameters"]["type"], "flat_object");
    assert!(template["template"].get("settings").is_none());
}

/// All paths of a document, with whether a scalar stands there.
fn paths(value: &Value, at: &str, out: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                paths(value, &format!("{at}/properties/{name}"), out);
            }
        }
        _ => {
            out.insert(at.to_owned());
        }
    }
}

#[test]
fn both_templates_map_every_field_that_a_document_of_ours_has() {
    let actor = r#"{"actor":{"class":"a","kind":"b","service":"c","principal":"d","principal_id":"e","account":"f",
        "role":"g","session":"h","identity_center_user":"i","on_behalf_of":true,"console":true},
        "bucket":"b","key":"k","record":0,"read_at":"2023-07-10T11:50:00.000Z","via":"queue"}"#;
    let all = SAFE_FIELDS.iter().map(|(_, name)| format!("\"{name}\":\"x\"")).collect::<Vec<_>>().join(",");
    let identity = SAFE_IDENTITY_FIELDS
        .iter()
        .map(|(_, name)| format!("\"{name}\":\"x\""))
        .collect::<Vec<_>>()
        .join(",");
    let record = format!("{{{all},\"userIdentity\":{{{identity}}}}}")
        .replace("\"eventTime\":\"x\"", "\"eventTime\":\"2023-07-10T11:42:01Z\"");
    let events = [Sample::new(&record).additions(actor).event()];
    let mut found = BTreeSet::new();
    for shape in [Shape::Normal, Shape::Safe] {
        let mut body = Body::new();
        sink(json!({})).http_sink().unwrap().body(&events, shape, &mut body);
        let text = String::from_utf8(body.flatten()).unwrap();
        let document = text.split_once("}}\n").unwrap().1;
        paths(&serde_json::from_str(document).unwrap(), "", &mut found);
    }
    assert!(found.contains("/properties/event_original") && found.contains("/properties/@timestamp"));
    for file in ["elasticsearch", "opensearch"] {
        let path = format!("{}/../deploy/{file}/index-template.json", env!("CARGO_MANIFEST_DIR"));
        let template: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let mappings = &template["template"]["mappings"];
        assert_eq!(mappings["dynamic"], json!(false));
        for path in &found {
            assert!(mappings.pointer(&format!("{path}/type")).is_some(), "{file}: {path} is not mapped");
        }
        let labels = mappings.pointer("/properties/trailship/properties/labels/type");
        assert!(matches!(labels.and_then(Value::as_str), Some("flattened" | "flat_object")));
    }
}
