//! Tests of body, head and the table of answers.
#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};

use super::super::FindingLevel;
use super::super::tests::{answer, common};
use super::*;
use crate::ReasonCode;
use crate::testing::Sample;

fn build(more: Value) -> Result<Built, Invalid> {
    let mut settings = json!({ "endpoints": ["https://a.example:8080/in", "https://b.example:8080"] });
    settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value::<Settings>(settings).unwrap().build(&common())
}

#[test]
fn a_body_is_an_array_of_documents() {
    let events = [
        Sample::new(r#"{"eventID":"e","eventTime":"2023-07-10T11:42:01Z"}"#).event(),
        Sample::new("{}").event(),
    ];
    let mut body = Body::new();
    build(json!({})).unwrap().http_sink().unwrap().body(&events, Shape::Normal, &mut body);
    let (version, id) = (env!("CARGO_PKG_VERSION"), events[1].document_id());
    let expected = format!(
        concat!(
            r#"[{{"eventID":"e","eventTime":"2023-07-10T11:42:01Z","@timestamp":"2023-07-10T11:42:01.000Z","#,
            r#""@metadata":{{"beat":"trailship","type":"_doc","version":"{version}","_id":"e"}},"trailship":{{"record":0}}}},"#,
            r#"{{"@metadata":{{"beat":"trailship","type":"_doc","version":"{version}","_id":"{id}"}},"trailship":{{"record":0}}}}]"#,
        ),
        version = version,
        id = id
    );
    assert_eq!(String::from_utf8(body.flatten()).unwrap(), expected);
}

#[test]
fn the_endpoints_take_turns_and_the_password_is_a_header() {
    let sink = build(json!({ "username": "u", "password": "hunter2" })).unwrap().http_sink().unwrap();
    let head = |number| sink.head(&Attempt { number, ..Attempt::default() });
    assert_eq!((head(0).method, head(0).url.as_str()), ("POST", "https://a.example:8080/in"));
    assert_eq!((head(1).url.as_str(), head(2).url), ("https://b.example:8080", head(0).url));
    let expected =
        [("content-type", "application/json".to_owned()), ("authorization", "Basic dTpodW50ZXIy".to_owned())];
    assert_eq!(head(1).headers, expected);
    assert_eq!(build(json!({ "username": "u" })).unwrap_err().key, "password");
    assert_eq!(build(json!({ "endpoints": ["tcp://a"] })).unwrap_err().key, "endpoints");
}

#[test]
fn every_answer_has_its_judgement() {
    let sink = build(json!({})).unwrap().http_sink().unwrap();
    let events = vec![Sample::new("{}").event(); 2];
    let judge = |status, body: &str| sink.judge(&events, &Attempt::default(), &answer(status, &[], body));
    for (status, body) in [(200, "ok"), (201, "ok"), (202, "ok"), (204, "")] {
        assert_eq!(judge(status, body), Judgement::Each(vec![Verdict::Delivered; 2]), "{status}");
    }
    for (status, body, expected, code) in [
        (200, "", "Unavailable", ReasonCode::Garbled),
        (200, "<html>ok</html>", "Unavailable", ReasonCode::Garbled),
        (204, "ok", "Unavailable", ReasonCode::Garbled),
        (206, "ok", "Unavailable", ReasonCode::Garbled),
        (302, "", "Denied", ReasonCode::Misconfigured),
        (400, "", "Refused", ReasonCode::Invalid),
        (401, "", "Denied", ReasonCode::Unauthorized),
        (404, "", "Denied", ReasonCode::Misconfigured),
        (413, "", "TooLarge", ReasonCode::TooLarge),
        (429, "", "Unavailable", ReasonCode::Throttled),
        (500, "", "Unavailable", ReasonCode::ServerError),
        (503, "", "Unavailable", ReasonCode::ServerError),
    ] {
        let judgement = format!("{:?}", judge(status, body));
        assert!(judgement.starts_with(expected), "{status}: {judgement}");
        let reason = format!("code: {code:?}, status: Some({status})");
        assert!(judgement.contains(&reason), "{status}: {judgement}");
    }
}

#[test]
fn check_asks_with_an_array_of_nothing() {
    let probe = build(json!({})).unwrap().probe.unwrap();
    let steps = probe.steps();
    assert_eq!(
        steps.iter().map(|step| step.what.as_str()).collect::<Vec<_>>(),
        ["https://a.example:8080", "https://b.example:8080"]
    );
    assert_eq!(steps[0].body, b"[]");
    for (status, body, level) in [
        (200, "ok", FindingLevel::Good),
        (204, "", FindingLevel::Good),
        (200, "<html>", FindingLevel::Failed),
        (401, "", FindingLevel::Failed),
        (404, "", FindingLevel::Failed),
        (429, "", FindingLevel::Warning),
        (503, "", FindingLevel::Warning),
    ] {
        assert_eq!(probe.read(0, &answer(status, &[], body)).level, level, "{status}");
    }
}
