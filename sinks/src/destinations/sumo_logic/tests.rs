//! Tests of body, head, limits and the table of answers.
#![allow(clippy::unwrap_used, clippy::panic)]

use serde_json::{Value, json};

use super::super::tests::{answer, common};
use super::super::{Additions, FindingLevel};
use super::*;
use crate::testing::Sample;

const URL: &str = "https://in.example/receiver/v1/http/hunter2==";

fn build(more: Value, common: &CommonSettings) -> Result<Built, Invalid> {
    let one = if more.get("urls").is_some() { json!({}) } else { json!({ "url": URL }) };
    let mut settings = one;
    settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value::<Settings>(settings).unwrap().build(common)
}

fn sink(more: Value) -> Arc<dyn HttpSink> {
    build(more, &common()).unwrap().http_sink().unwrap()
}

fn body(common: &CommonSettings, record: &str) -> String {
    let events = [Sample::new(record).event()];
    let mut body = Body::new();
    build(json!({}), common).unwrap().http_sink().unwrap().body(&events, Shape::Normal, &mut body);
    String::from_utf8(body.flatten()).unwrap()
}

#[test]
fn a_line_is_the_record_with_its_additions_last() {
    let record = r#"{"eventName":"x"}"#;
    assert_eq!(body(&common(), record), "{\"eventName\":\"x\",\"trailship\":{\"record\":0}}\n");
    let bare = CommonSettings { additions: Additions::None, ..common() };
    assert_eq!(body(&bare, record), "{\"eventName\":\"x\"}\n");
}

#[test]
fn metadata_stands_in_headers() {
    let head = sink(json!({
        "category": "aws/cloudtrail", "source_name": "n", "host": "h", "fields": { "b": "2", "a": "1 x" },
    }))
    .head(&Attempt::default());
    assert_eq!((head.method, head.url.as_str()), ("POST", URL));
    let expected = [
        ("content-type", "text/plain; charset=utf-8"),
        ("x-sumo-category", "aws/cloudtrail"),
        ("x-sumo-name", "n"),
        ("x-sumo-host", "h"),
        ("x-sumo-fields", "a=1 x,b=2"),
    ];
    assert_eq!(head.headers, expected.map(|(name, value)| (name, value.to_owned())));
    assert_eq!(sink(json!({})).head(&Attempt::default()).headers.len(), 1);
}

#[test]
fn a_template_is_filled_from_the_event_and_keeps_batches_apart() {
    let event = |account: &str, region: &str| {
        let record =
            format!(r#"{{"recipientAccountId":"{account}","awsRegion":"{region}","eventCategory":"Data"}}"#);
        Sample::new(&record).event()
    };
    let sink = sink(json!({
        "category": "aws/{account}/{category}", "source_name": "trail-{region}", "host": "h", "fields": { "a": "{b}" },
    }));
    let group = |event: &Event| {
        let mut group = String::new();
        sink.group(event, &mut group);
        group
    };
    let (one, same, other) =
        (event("012345678901", "eu-west-1"), event("012345678901", "eu-west-1"), event("2", "x"));
    assert_eq!(group(&one), "aws/012345678901/Data\ntrail-eu-west-1\n");
    assert_eq!(group(&one), group(&same));
    assert_ne!(group(&one), group(&other));
    let head = sink.head_of(&[one, same], &Attempt::default());
    let expected = [
        ("content-type", "text/plain; charset=utf-8"),
        ("x-sumo-category", "aws/012345678901/Data"),
        ("x-sumo-name", "trail-eu-west-1"),
        ("x-sumo-host", "h"),
        ("x-sumo-fields", "a={b}"),
    ];
    assert_eq!(head.headers, expected.map(|(name, value)| (name, value.to_owned())));
    // What `check` sends is about no event.
    let names = |head: &Head| head.headers.iter().map(|(name, _)| *name).collect::<Vec<_>>();
    assert_eq!(names(&sink.head(&Attempt::default())), ["content-type", "x-sumo-host", "x-sumo-fields"]);
    // Without a template all events may travel together.
    let mut group = String::new();
    self::sink(json!({ "category": "c" })).group(&other, &mut group);
    assert_eq!(group, "");
}

#[test]
fn a_source_that_is_refused_gives_way_to_the_next_and_all_of_them_deny_the_sink() {
    let url = |host: &str| format!("https://{host}.example/receiver/v1/http/hunter2-{host}");
    let built = build(json!({ "urls": [url("a"), url("b")] }), &common()).unwrap();
    assert_eq!(built.endpoints, ["https://a.example", "https://b.example"]);
    let sink = built.http_sink().unwrap();
    let events = [Sample::new("{}").event()];
    let send = |number, status| {
        let attempt = Attempt { number, ..Attempt::default() };
        let to_b = sink.head(&attempt).url == url("b");
        (to_b, sink.judge(&events, &attempt, &answer(status, &[], "hunter2-a hunter2-b")))
    };
    for status in [401, 403, 404, 408, 500, 503, 504] {
        let (to_b, judgement) = send(0, status);
        assert!(!to_b && matches!(judgement, Judgement::Unavailable { .. }), "{status}: {judgement:?}");
        assert!(!format!("{judgement:?}").contains("hunter2"));
        assert_eq!(send(1, 200), (true, Judgement::Each(vec![Verdict::Delivered])));
        while send(0, 200).0 {}
    }
    // A quota is the account's, not the source's.
    assert!(!send(0, 429).0 && !send(1, 200).0);
    assert!(!send(0, 401).0 && send(1, 401).0);
    assert!(matches!(send(0, 401), (false, Judgement::Denied(_))));
    let steps = built.probe.as_ref().unwrap().steps();
    assert_eq!(
        steps.iter().map(|step| step.what.as_str()).collect::<Vec<_>>(),
        ["source 1 of 2", "source 2 of 2"]
    );
    assert!(steps[1].head.url == url("b") && !format!("{steps:?}").contains("hunter2"));
}

#[test]
fn settings_that_cannot_work_are_refused_without_the_address() {
    for (more, message) in [
        (json!({ "url": "https://in.example/hunter2" }), "url: not the whole address"),
        (json!({ "url": "hunter2" }), "url: not an absolute address"),
        (json!({ "urls": [URL, "https://in.example/hunter2"] }), "urls.1: not the whole address"),
        (json!({ "urls": [] }), "url: missing: give it, or several as urls"),
        (json!({ "urls": [URL], "url": URL }), "urls: give url or urls, not both"),
        (json!({ "category": "aws/{acount}" }), "category: `{acount}` is unknown: use {account}"),
        (json!({ "category": "a\nb" }), "category: use printable ASCII"),
        (json!({ "category": "é" }), "category: use printable ASCII"),
        (json!({ "host": "" }), "host: use printable ASCII"),
        (json!({ "fields": { "a": "1,b=2" } }), "fields.a: a field holds no `,`"),
        (json!({ "fields": { "a=b": "1" } }), "fields.a=b: a field holds no `,`"),
        (json!({ "fields": { "a b": "1" } }), "its name no space"),
    ] {
        let error = build(more, &common()).unwrap_err().to_string();
        assert!(error.contains(message) && !error.contains("hunter2"), "{error}");
    }
}

#[test]
fn the_limits_are_those_of_a_hosted_source() {
    let defaults = Settings::DEFAULTS;
    assert_eq!((defaults.batch_bytes, defaults.batch_bytes_limit), (1_000_000, 1_000_000));
    assert!(defaults.concurrency_max <= 4 && defaults.idle_connection_max.unwrap() < Duration::from_secs(30));
    assert_eq!(sink(json!({})).event_bytes_max(), Some(1_000_000));
}

#[test]
fn an_event_over_64_kib_is_sliced_or_kept_as_a_dead_letter() {
    let keep = sink(json!({ "oversized": "dead_letter" }));
    let limit = keep.event_bytes_max().unwrap();
    let overhead = keep.encoded_len(&Sample::new(r#"{"a":""}"#).event());
    let of_len = |len: usize| {
        let record = format!("{{\"a\":\"{}\"}}", "x".repeat(len + 1 - overhead));
        let events = [Sample::new(&record).event()];
        let mut body = Body::new();
        keep.body(&events, Shape::Normal, &mut body);
        // The message, without its line break.
        (body.len() - 1, keep.encoded_len(&events[0]))
    };
    let (message, encoded) = of_len(65_536);
    assert!(message <= 65_536 && encoded <= limit, "{message} {encoded} {limit}");
    assert!(of_len(65_536 + 2).1 > limit);
    assert!(of_len(65_536 + 2).1 < sink(json!({})).event_bytes_max().unwrap());
}

#[test]
fn every_answer_has_its_judgement() {
    let sink = sink(json!({}));
    let events = vec![Sample::new("{}").event(); 2];
    let judge = |status, body: &str| sink.judge(&events, &Attempt::default(), &answer(status, &[], body));
    for body in ["", r#"{"status":200,"id":"x"}"#] {
        assert_eq!(judge(200, body), Judgement::Each(vec![Verdict::Delivered; 2]));
    }
    for (status, body, expected, code) in [
        (200, " <html>sign in</html>", "Unavailable", ReasonCode::Garbled),
        (204, "", "Unavailable", ReasonCode::Garbled),
        (301, "", "Denied", ReasonCode::Misconfigured),
        (400, "", "Refused", ReasonCode::Invalid),
        (401, "", "Denied", ReasonCode::Unauthorized),
        (403, "", "Denied", ReasonCode::Unauthorized),
        (404, "", "Denied", ReasonCode::Misconfigured),
        (408, "", "Unavailable", ReasonCode::Unconfirmed),
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
fn an_answer_that_echoes_the_address_does_not_give_it_away() {
    let sink = sink(json!({}));
    let events = [Sample::new("{}").event()];
    for status in [400, 401, 404, 500] {
        let echo = answer(status, &[], &format!("{URL} and hunter2=="));
        let judgement = format!("{:?}", sink.judge(&events, &Attempt::default(), &echo));
        assert!(!judgement.contains("hunter2"), "{judgement}");
    }
}

#[test]
fn check_asks_without_storing_anything() {
    let probe = build(json!({}), &common()).unwrap().probe.unwrap();
    let steps = probe.steps();
    assert_eq!((steps.len(), steps[0].body.len()), (1, 0));
    for (status, level) in [
        (200, FindingLevel::Good),
        (401, FindingLevel::Failed),
        (404, FindingLevel::Failed),
        (429, FindingLevel::Warning),
        (503, FindingLevel::Warning),
        (400, FindingLevel::Warning),
    ] {
        assert_eq!(probe.read(0, &answer(status, &[], "")).level, level, "{status}");
    }
}
