//! Tests of address, headers, framings and statuses.
#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};

use super::super::FindingLevel;
use super::super::tests::{answer, common};
use super::*;
use crate::testing::Sample;

fn build(more: Value) -> Result<Built, Invalid> {
    let mut settings = json!({ "url": "https://in.example/events" });
    settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value::<Settings>(settings).unwrap().build(&common())
}

fn sink(more: Value) -> Arc<dyn HttpSink> {
    build(more).unwrap().http_sink().unwrap()
}

fn event(account: &str, name: &str) -> Event {
    Sample::new(&format!(r#"{{"recipientAccountId":"{account}","eventName":"{name}"}}"#)).event()
}

#[test]
fn each_framing_writes_its_body() {
    let events = [event("1", "a"), event("1", "b")];
    let line = |name: &str| {
        format!(r#"{{"recipientAccountId":"1","eventName":"{name}","trailship":{{"record":0}}}}"#)
    };
    let (a, b) = (line("a"), line("b"));
    for (framing, events, expected, content_type) in [
        ("ndjson", &events[..], format!("{a}\n{b}\n"), "application/x-ndjson"),
        ("json_array", &events[..], format!("[{a},{b}]"), "application/json"),
        ("single", &events[..1], a.clone(), "application/json"),
    ] {
        let sink = sink(json!({ "framing": framing }));
        let mut body = Body::new();
        sink.body(events, Shape::Normal, &mut body);
        assert_eq!(String::from_utf8(body.flatten()).unwrap(), expected);
        assert_eq!(
            sink.head_of(events, &Attempt::default()).headers,
            [("content-type", content_type.to_owned())]
        );
    }
    assert_eq!(sink(json!({ "framing": "single" })).events_max(), 1);
    assert_eq!(sink(json!({ "framing": "ndjson" })).events_max(), usize::MAX);
}

#[test]
fn address_and_headers_are_filled_with_what_the_events_have_in_common() {
    let sink = sink(json!({
        "url": "https://in.example/{account}/x?n={event_name}",
        "method": "PUT",
        "headers": { "X-Account": "a-{account}", "x-key": "hunter2" },
        "content_type": "text/plain",
        "username": "u",
        "password": "p",
    }));
    let (first, second) = (event("012345678901", "Get/Object"), event("2", "b"));
    let head = sink.head_of(&[first.clone(), first.clone()], &Attempt::default());
    assert_eq!((head.method, head.url.as_str()), ("PUT", "https://in.example/012345678901/x?n=Get%2FObject"));
    let expected = [
        ("content-type", "text/plain".to_owned()),
        ("authorization", "Basic dTpw".to_owned()),
        ("x-account", "a-012345678901".to_owned()),
        ("x-key", "hunter2".to_owned()),
    ];
    assert_eq!(head.headers, expected);
    let group = |event: &Event| {
        let mut group = String::new();
        sink.group(event, &mut group);
        group
    };
    assert_eq!(group(&first), group(&event("012345678901", "Get/Object")));
    assert_ne!(group(&first), group(&second));
    assert_ne!(group(&first), group(&event("012345678901", "GetObject")));
}

#[test]
fn events_that_the_head_says_nothing_of_are_all_of_one_group() {
    for more in [json!({}), json!({ "headers": { "x-a": "b" }, "framing": "json_array" })] {
        let mut group = String::new();
        sink(more).group(&event("1", "a"), &mut group);
        assert_eq!(group, "");
    }
    // One a request: no two are of one group, also where lanes put events together anew.
    let single = sink(json!({ "framing": "single" }));
    let (mut one, mut other) = (String::new(), String::new());
    single.group(&Sample::new("{}").event(), &mut one);
    single.group(&Sample::new("{}").from("trail", "other").event(), &mut other);
    assert_ne!(one, other);
}

#[test]
fn settings_that_cannot_work_are_refused_without_secrets() {
    for (more, message) in [
        (json!({ "url": "in.example/hunter2" }), "url: not an address"),
        (json!({ "url": "ftp://in.example/hunter2" }), "url: not an absolute address"),
        (json!({ "url": "https://u:hunter2@in.example" }), "url: credentials have keys of their own"),
        (json!({ "url": "https://in.example/#hunter2" }), "url: write the address without"),
        (json!({ "url": "https://in.example/?k=hunter2 x" }), "url: encode what stands behind"),
        (json!({ "url": "https://in.example/{hunter2}" }), "url: a place that is not known"),
        (json!({ "url": "https://{region}.example/hunter2" }), "url: a place may stand in the path"),
        (json!({ "url": "https://in.example{region}/hunter2" }), "url: a place may stand in the path"),
        (json!({ "headers": { "Authorization": "hunter2" } }), "headers.Authorization: this header is not"),
        (json!({ "headers": { "content-length": "7" } }), "headers.content-length: this header is not"),
        (json!({ "headers": { "x a": "hunter2" } }), "headers.x a: no name of a header"),
        (json!({ "headers": { "x-a": "hunter2é" } }), "headers.x-a: use printable ASCII"),
        (json!({ "headers": { "x-a": "{hunter2}" } }), "headers.x-a: a place that is not known"),
        (json!({ "content_type": "" }), "content_type: use printable ASCII"),
        (
            json!({ "bearer_token": "hunter2", "username": "u", "password": "hunter2" }),
            "bearer_token: keep it",
        ),
        (json!({ "success_statuses": [302] }), "success_statuses: only 200 to 299"),
        (json!({ "retry_statuses": [200] }), "retry_statuses: only statuses"),
        (json!({ "success_statuses": [409], "retry_statuses": [409] }), "retry_statuses: a status is either"),
    ] {
        let error = build(more).unwrap_err().to_string();
        assert!(error.starts_with(message) && !error.contains("hunter2"), "{error}");
    }
    for more in [
        json!({ "url": "HTTPS://In.example/{region}" }),
        json!({ "url": "https://in.example:8443?x={region}" }),
    ] {
        build(more).unwrap();
    }
}

#[test]
fn every_answer_has_its_judgement() {
    let events = vec![event("1", "a"); 2];
    let judge = |sink: &Arc<dyn HttpSink>, status| {
        sink.judge(&events, &Attempt::default(), &answer(status, &[("retry-after", "3")], "said"))
    };
    let default = sink(json!({}));
    for status in [200, 201, 202, 204, 299] {
        assert_eq!(judge(&default, status), Judgement::Each(vec![Verdict::Delivered; 2]));
    }
    let listed = sink(json!({ "success_statuses": [201, 409], "retry_statuses": [404, 400, 599] }));
    for status in [201, 409] {
        assert_eq!(judge(&listed, status), Judgement::Each(vec![Verdict::Delivered; 2]));
    }
    for (sink, status, expected, code) in [
        (&default, 302, "Denied", ReasonCode::Misconfigured),
        (&default, 400, "Refused", ReasonCode::Invalid),
        (&default, 401, "Denied", ReasonCode::Unauthorized),
        (&default, 403, "Denied", ReasonCode::Unauthorized),
        (&default, 404, "Denied", ReasonCode::Misconfigured),
        (&default, 408, "Unavailable", ReasonCode::Timeout),
        (&default, 409, "Unavailable", ReasonCode::Other),
        (&default, 413, "TooLarge", ReasonCode::TooLarge),
        (&default, 422, "Refused", ReasonCode::Invalid),
        (&default, 425, "Unavailable", ReasonCode::Other),
        (&default, 429, "Unavailable", ReasonCode::Throttled),
        (&default, 500, "Unavailable", ReasonCode::ServerError),
        (&default, 503, "Unavailable", ReasonCode::ServerError),
        (&listed, 200, "Unavailable", ReasonCode::Garbled),
        (&listed, 400, "Unavailable", ReasonCode::Other),
        (&listed, 404, "Unavailable", ReasonCode::Other),
        (&listed, 599, "Unavailable", ReasonCode::ServerError),
        (&listed, 503, "Unavailable", ReasonCode::ServerError),
    ] {
        let judgement = format!("{:?}", judge(sink, status));
        assert!(judgement.starts_with(expected), "{status}: {judgement}");
        let reason = format!("code: {code:?}, status: Some({status})");
        assert!(judgement.contains(&reason), "{status}: {judgement}");
        assert_eq!(judgement.contains("retry_after: Some(3s)"), expected == "Unavailable");
    }
}

#[test]
fn check_asks_for_the_head_of_what_is_there() {
    for (url, asked) in [
        ("https://in.example/events?a=b", "https://in.example/events?a=b"),
        ("https://in.example/a/b-{account}/c", "https://in.example/a/"),
        ("https://in.example/{account}", "https://in.example/"),
    ] {
        let steps = build(json!({ "url": url, "bearer_token": "t" })).unwrap().probe.unwrap().steps();
        assert_eq!((steps[0].head.method, steps[0].head.url.as_str()), ("HEAD", asked));
        assert!(steps[0].head.headers.contains(&("authorization", "Bearer t".to_owned())));
    }
    let probe = build(json!({})).unwrap().probe.unwrap();
    for (status, level) in [
        (200, FindingLevel::Good),
        (405, FindingLevel::Good),
        (301, FindingLevel::Failed),
        (401, FindingLevel::Failed),
        (403, FindingLevel::Failed),
        (404, FindingLevel::Warning),
        (503, FindingLevel::Warning),
    ] {
        assert_eq!(probe.read(0, &answer(status, &[], "")).level, level, "{status}");
    }
}
