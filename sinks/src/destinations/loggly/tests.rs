//! Tests of body, head, limits and the table of answers.
#![allow(clippy::unwrap_used, clippy::panic)]

use serde_json::{Value, json};

use super::super::FindingLevel;
use super::super::tests::{answer, common};
use super::*;
use crate::ReasonCode;
use crate::testing::Sample;

const TOKEN: &str = "0000-hunter2";

fn build(more: Value, common: &CommonSettings) -> Result<Built, Invalid> {
    let one = if more.get("tokens").is_some() { json!({}) } else { json!({ "token": TOKEN }) };
    let mut settings = one;
    settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value::<Settings>(settings).unwrap().build(common)
}

fn body(built: &Built, events: &[Event]) -> String {
    let mut body = Body::new();
    built.http_sink().unwrap().body(events, Shape::Normal, &mut body);
    String::from_utf8(body.flatten()).unwrap()
}

#[test]
fn a_line_is_the_record_with_timestamp_and_additions() {
    let events = [Sample::new(r#"{"eventTime":"2023-07-10T11:42:01Z"}"#).event(), Sample::new("{}").event()];
    let expected = concat!(
        r#"{"eventTime":"2023-07-10T11:42:01Z","timestamp":"2023-07-10T11:42:01.000Z","trailship":{"record":0}}"#,
        "\n",
        r#"{"trailship":{"record":0}}"#,
        "\n"
    );
    assert_eq!(body(&build(json!({}), &common()).unwrap(), &events), expected);
    let bare = CommonSettings { additions: Additions::None, ..common() };
    let expected = "{\"eventTime\":\"2023-07-10T11:42:01Z\"}\n{}\n";
    assert_eq!(body(&build(json!({}), &bare).unwrap(), &events), expected);
}

#[test]
fn the_token_and_the_tags_stand_in_the_address() {
    let head = |more| build(more, &common()).unwrap().http_sink().unwrap().head(&Attempt::default());
    let plain = head(json!({}));
    assert_eq!(
        (plain.method, plain.url.as_str()),
        ("POST", "https://logs-01.loggly.com/bulk/0000-hunter2/tag/cloudtrail/")
    );
    assert_eq!(plain.headers, [("content-type", "text/plain; charset=utf-8".to_owned())]);
    let tagged = head(json!({ "tags": ["a", "b.c-d_e"], "endpoint": "http://127.0.0.1:9/" }));
    assert_eq!(tagged.url, "http://127.0.0.1:9/bulk/0000-hunter2/tag/a,b.c-d_e/");
}

#[test]
fn settings_that_cannot_work_are_refused_without_the_token() {
    for (more, message) in [
        (json!({ "token": "hunter2/x" }), "token: a customer token has"),
        (json!({ "tokens": ["0000", "hunter2/x"] }), "tokens.1: a customer token has"),
        (json!({ "tokens": [] }), "token: missing: give it, or several as tokens"),
        (json!({ "tokens": ["hunter2"], "token": TOKEN }), "tokens: give token or tokens, not both"),
        (json!({ "tags": [] }), "tags: name at least one"),
        (json!({ "tags": ["a b"] }), "tags: name at least one"),
        (json!({ "tags": ["-a"] }), "tags: name at least one"),
        (json!({ "endpoint": "logs-01.loggly.com" }), "endpoint: not an absolute address"),
    ] {
        let error = build(more, &common()).unwrap_err().to_string();
        assert!(error.contains(message) && !error.contains("hunter2"), "{error}");
    }
}

#[test]
fn a_longer_event_than_loggly_takes_is_known_before_it_is_sent() {
    let sink = build(json!({}), &common()).unwrap().http_sink().unwrap();
    let limit = sink.event_bytes_max().unwrap();
    assert!(limit <= 1_000_000);
    let record = format!("{{\"a\":\"{}\"}}", "x".repeat(limit));
    assert!(sink.encoded_len(&Sample::new(&record).event()) > limit);
    const { assert!(Settings::DEFAULTS.batch_bytes_limit < 5_000_000) };
}

#[test]
fn every_answer_has_its_judgement() {
    let sink = build(json!({}), &common()).unwrap().http_sink().unwrap();
    let events = vec![Sample::new("{}").event(); 2];
    let judge = |status, body: &str| sink.judge(&events, &Attempt::default(), &answer(status, &[], body));
    for body in [r#"{"response" : "ok"}"#, r#"{"response":"ok"}"#] {
        assert_eq!(judge(200, body), Judgement::Each(vec![Verdict::Delivered; 2]));
    }
    for (status, body, expected, code) in [
        (200, "", "Unavailable", ReasonCode::Garbled),
        (200, "ok", "Unavailable", ReasonCode::Garbled),
        (200, r#"{"response":"error"}"#, "Unavailable", ReasonCode::Garbled),
        (202, r#"{"response":"ok"}"#, "Unavailable", ReasonCode::Garbled),
        (302, "", "Denied", ReasonCode::Misconfigured),
        (400, "", "Refused", ReasonCode::Invalid),
        (401, "", "Denied", ReasonCode::Unauthorized),
        (403, "Forbidden", "Denied", ReasonCode::Unauthorized),
        (404, "", "Denied", ReasonCode::Misconfigured),
        (413, "", "TooLarge", ReasonCode::TooLarge),
        (429, "", "Unavailable", ReasonCode::Throttled),
        (500, "", "Unavailable", ReasonCode::ServerError),
        (503, "", "Unavailable", ReasonCode::ServerError),
        (504, "", "Unavailable", ReasonCode::ServerError),
    ] {
        let judgement = format!("{:?}", judge(status, body));
        assert!(judgement.starts_with(expected), "{status}: {judgement}");
        assert!(
            judgement.contains(&format!("code: {code:?}, status: Some({status})")),
            "{status}: {judgement}"
        );
    }
}

#[test]
fn a_token_that_is_refused_gives_way_to_the_next_and_all_of_them_deny_the_sink() {
    let built = build(json!({ "tokens": ["hunter2-a", "hunter2-b"] }), &common()).unwrap();
    let sink = built.http_sink().unwrap();
    let events = [Sample::new("{}").event()];
    let send = |number, status, body: &str| {
        let attempt = Attempt { number, ..Attempt::default() };
        let to_b = sink.head(&attempt).url.contains("/bulk/hunter2-b/tag/cloudtrail/");
        (to_b, sink.judge(&events, &attempt, &answer(status, &[], body)))
    };
    let ok = r#"{"response":"ok"}"#;
    for status in [401, 403, 404, 500, 503] {
        let (to_b, judgement) = send(0, status, "");
        assert!(!to_b && matches!(judgement, Judgement::Unavailable { .. }), "{status}: {judgement:?}");
        assert!(!format!("{judgement:?}").contains("hunter2"));
        assert_eq!(send(1, 200, ok), (true, Judgement::Each(vec![Verdict::Delivered])));
        // Left alone for a while, then used again.
        while send(0, 200, ok).0 {}
    }
    // No answer at all.
    assert!(!sink.head(&Attempt::default()).url.contains("hunter2-b"));
    assert!(send(1, 403, "").0);
    let (_, judgement) = send(0, 403, "");
    assert!(matches!(judgement, Judgement::Denied(why) if why.code == ReasonCode::Unauthorized));
    // `check` asks each, and shows none.
    let steps = built.probe.as_ref().unwrap().steps();
    assert_eq!(
        steps.iter().map(|step| step.what.as_str()).collect::<Vec<_>>(),
        ["token 1 of 2", "token 2 of 2"]
    );
    assert!(steps[1].head.url.contains("hunter2-b") && !format!("{steps:?}").contains("hunter2"));
}

#[test]
fn an_answer_that_echoes_the_address_does_not_give_the_token_away() {
    let sink = build(json!({}), &common()).unwrap().http_sink().unwrap();
    let events = [Sample::new("{}").event()];
    for status in [200, 400, 403, 404, 413, 500] {
        let echo = answer(status, &[], "no such path: /bulk/0000-hunter2/tag/cloudtrail/");
        let judgement = format!("{:?}", sink.judge(&events, &Attempt::default(), &echo));
        assert!(!judgement.contains("hunter2"), "{judgement}");
    }
}

#[test]
fn check_asks_without_storing_anything() {
    let probe = build(json!({}), &common()).unwrap().probe.unwrap();
    let steps = probe.steps();
    assert_eq!((steps.len(), steps[0].body.len()), (1, 0));
    for (status, body, level) in [
        (200, r#"{"response":"ok"}"#, FindingLevel::Good),
        (200, "<html>", FindingLevel::Failed),
        (400, "", FindingLevel::Warning),
        (401, "", FindingLevel::Failed),
        (403, "", FindingLevel::Failed),
        (404, "", FindingLevel::Failed),
    ] {
        assert_eq!(probe.read(0, &answer(status, &[], body)).level, level, "{status}");
    }
}
