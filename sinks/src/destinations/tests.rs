//! Tests of what destinations share, and of what holds for each of them.
#![allow(clippy::unwrap_used, clippy::panic)]

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::ports::Address;
use crate::testing::Sample;
use crate::{Answer, Attempt, Body, Judgement, ReasonCode, Shape};

pub(crate) fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Answer {
    Answer {
        status,
        headers: headers.iter().map(|&(name, value)| (name.into(), value.into())).collect(),
        body: body.to_owned().into(),
    }
}

pub(crate) fn common() -> CommonSettings {
    CommonSettings { name: "it".into(), required: true, instance: 7, ..CommonSettings::default() }
}

/// A destination's settings that are complete; every secret is `hunter2-secret`.
fn minimal(type_name: &str) -> Value {
    match type_name {
        "elasticsearch" => {
            json!({ "endpoints": ["https://es.example:9200/sub/"], "api_key": "hunter2-secret" })
        }
        "splunk_hec" => json!({ "endpoints": ["https://hec.example:8088"], "token": "hunter2-secret" }),
        "loggly" => json!({ "token": "hunter2-secret" }),
        "alert_logic" | "syslog" => {
            json!({ "endpoints": ["tls://siem.example"], "accept_unacknowledged": true })
        }
        "alert_logic_ingest" => json!({
            "access_key_id": "key", "secret_key": "hunter2-secret", "source_id": "s", "host_id": "h", "message_type": "json/x",
        }),
        "sumo_logic" => json!({ "url": "https://in.example/receiver/v1/http/hunter2-secret" }),
        "http" => json!({
            "url": "https://in.example/hunter2-secret/{account}",
            "headers": { "x-key": "hunter2-secret" },
            "bearer_token": "hunter2-secret",
        }),
        "parquet" => json!({ "path": "out/parquet" }),
        "logstash" => json!({ "endpoints": ["tls://logstash.example:5044"] }),
        "logstash_http" => {
            json!({ "endpoints": ["https://logstash.example:8080"], "username": "u", "password": "hunter2-secret" })
        }
        _ => panic!("add the settings of {type_name} here"),
    }
}

fn built(type_name: &str, common: &CommonSettings) -> Built {
    build(type_name, minimal(type_name), common).unwrap()
}

#[test]
fn an_unknown_key_is_refused_by_every_type() {
    for &type_name in TYPES {
        let mut settings = minimal(type_name);
        settings.as_object_mut().unwrap().insert("tokenn".into(), json!(1));
        let error = build(type_name, settings, &common()).unwrap_err().to_string();
        assert!(error.contains("unknown field `tokenn`"), "{type_name}: {error}");
    }
    assert!(matches!(build("tape", json!({}), &common()), Err(BuildError::UnknownType)));
    assert_eq!(defaults("tape"), None);
}

#[test]
fn no_secret_is_shown_by_anything_that_can_be_printed() {
    for &type_name in TYPES {
        let built = built(type_name, &common());
        let Some(sink) = built.http_sink() else { continue };
        let attempt = Attempt::default();
        let event = [Sample::new("{}").event()];
        let echo = answer(400, &[], "you sent hunter2-secret");
        let judgement = sink.judge(&event, &attempt, &echo);
        let shown = format!(
            "{built:?} {:?} {:?} {judgement:?} {:?}",
            sink.head(&attempt),
            built.endpoints,
            built.probe.as_ref().map(|probe| probe.steps()),
        );
        assert!(!shown.contains("hunter2"), "{type_name}: {shown}");
        let findings = built.probe.as_ref().map(|probe| {
            let read = |step| format!("{:?}", probe.read(step, &echo));
            (0..probe.steps().len()).map(read).collect::<String>()
        });
        assert!(!findings.unwrap_or_default().contains("hunter2"), "{type_name}");
    }
}

/// What error pages and error objects say of a request, where they repeat it: as it stands, in an address, in base64.
fn repeated(head: &crate::Head) -> String {
    use base64::Engine as _;
    let escaped = |text: &str| -> String {
        text.bytes()
            .map(|byte| match byte {
                byte if byte.is_ascii_alphanumeric() || byte == b'-' => char::from(byte).to_string(),
                byte => format!("%{byte:02X}"),
            })
            .collect()
    };
    let mut text = head.url.clone();
    for (name, value) in &head.headers {
        let bare = value.split_once(' ').map_or(value.as_str(), |(_, rest)| rest);
        let coded = base64::engine::general_purpose::STANDARD.encode(bare);
        text += &format!(" {name}: {value} {} {coded}", escaped(value));
    }
    text
}

/// Answers that repeat a request, in every shape that a destination reads.
fn echoes(text: &str) -> Vec<String> {
    let long = format!("{text} ").repeat(40_000 / text.len());
    vec![
        text.to_owned(),
        long,
        format!("<html>{text}</html>"),
        json!({ "error": { "type": text, "reason": text, "caused_by": { "type": text, "reason": text } } }).to_string(),
        json!({ "error": text, "message": text, "errors": [{ "code": text, "message": text }] }).to_string(),
        json!({ "text": text, "code": 4 }).to_string(),
        json!({ "text": text, "code": 6, "invalid-event-number": 0 }).to_string(),
        json!({ "response": text }).to_string(),
        json!({ "took": 1, "errors": true, "items": [{ "create": { "status": 400, "error": {
            "type": "mapper_parsing_exception", "reason": text, "caused_by": { "type": text, "reason": text } } } }] })
        .to_string(),
        json!({ "took": 1, "errors": true, "items": [{ "create": { "status": 403, "error": {
            "type": text, "reason": text } } }] })
        .to_string(),
        json!({ "name": text, "cluster_name": text, "version": { "number": text, "distribution": text } }).to_string(),
    ]
}

#[test]
fn no_answer_that_repeats_the_request_gives_a_secret_away() {
    let event = [Sample::new("{}").event()];
    let attempt = Attempt::default();
    // In base64 too, wherever it begins in what was encoded.
    let forms = ["hunter2", "aHVudGVyMi1zZWNyZX", "h1bnRlcjItc2VjcmV0", "odW50ZXIyLXNlY3JldA"];
    let hidden = |shown: &str| !forms.iter().any(|form| shown.contains(form));
    for &type_name in TYPES {
        let built = built(type_name, &common());
        let Some(sink) = built.http_sink() else { continue };
        let text = repeated(&sink.head(&attempt));
        assert!(!hidden(&text), "{type_name} sends no secret");
        for body in echoes(&text) {
            for status in (200..=599).filter(|status| status % 100 < 32) {
                let answer =
                    answer(status, &[("location", &text), ("content-type", "application/json")], &body);
                let shown = format!("{:?}", sink.judge(&event, &attempt, &answer));
                assert!(hidden(&shown), "{type_name} {status} {body}: {shown}");
                let Some(probe) = &built.probe else { continue };
                for step in 0..probe.steps().len() {
                    let shown = format!("{:?}", probe.read(step, &answer));
                    assert!(hidden(&shown), "{type_name} {status} {body}: {shown}");
                }
                let all = vec![Some(answer); probe.steps().len()];
                let shown = probe.apply(&all).map_or_else(|why| why, |steps| format!("{steps:?}"));
                assert!(hidden(&shown), "{type_name} {status} {body}: {shown}");
            }
        }
    }
}

#[test]
fn a_wrong_address_is_refused_without_being_quoted() {
    for (text, message) in [
        ("es.example:9200", "absolute"),
        ("ftp://hunter2.example", "absolute"),
        ("https://user:hunter2@es.example", "without them"),
        ("https://es.example/?key=hunter2", "without `?`"),
        ("https://es.example/#hunter2", "without `?` or `#`"),
        ("https://hunter2 x", "not an address"),
        ("", "not an address"),
    ] {
        let error = Endpoint::parse("endpoints", text).err().unwrap().to_string();
        assert!(error.starts_with("endpoints: ") && error.contains(message), "{text}: {error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn an_endpoint_keeps_its_path_and_shows_its_origin() {
    let endpoint = Endpoint::parse("endpoints", "https://es.example:9200/sub//").unwrap();
    assert_eq!(
        (endpoint.base.as_str(), endpoint.origin.as_str()),
        ("https://es.example:9200/sub", "https://es.example:9200")
    );
    assert_eq!(Endpoint::parse("endpoints", "http://[::1]:9200").unwrap().base, "http://[::1]:9200");
}

#[test]
fn retry_after_is_read_as_seconds_or_as_a_date() {
    let after = |headers: &[(&str, &str)]| retry_after(&answer(503, headers, ""));
    let (now, later) = ("Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:50:07 GMT");
    assert_eq!(after(&[("retry-after", " 7 ")]), Some(Duration::from_secs(7)));
    assert_eq!(after(&[("retry-after", later), ("date", now)]), Some(Duration::from_secs(30)));
    assert_eq!(after(&[("retry-after", now), ("date", later)]), Some(Duration::ZERO));
    assert_eq!(after(&[("retry-after", later)]), None);
    assert_eq!(after(&[("retry-after", "soon"), ("date", now)]), None);
    assert_eq!(after(&[]), None);
}

#[test]
fn every_status_has_a_judgement_that_loses_nothing() {
    for status in 200..600 {
        let judgement = by_status(&answer(status, &[("retry-after", "3")], ""), "text", "check `token`");
        let (code, expected) = match &judgement {
            Judgement::Unavailable { why, retry_after } => {
                assert_eq!(*retry_after, Some(Duration::from_secs(3)));
                (why.code, "unavailable")
            }
            Judgement::Denied(why) => (why.code, "denied"),
            Judgement::Refused(why) => (why.code, "refused"),
            Judgement::TooLarge(why) => (why.code, "too large"),
            Judgement::Each(_) | Judgement::Strained(_) => panic!("{status} is no success"),
        };
        let row = match status {
            200..=299 => (ReasonCode::Garbled, "unavailable"),
            300..=399 | 404 | 405 | 406 | 410 | 411 | 415 | 501 => (ReasonCode::Misconfigured, "denied"),
            400 | 422 => (ReasonCode::Invalid, "refused"),
            401 | 403 | 407 => (ReasonCode::Unauthorized, "denied"),
            408 => (ReasonCode::Timeout, "unavailable"),
            413 => (ReasonCode::TooLarge, "too large"),
            429 => (ReasonCode::Throttled, "unavailable"),
            500.. => (ReasonCode::ServerError, "unavailable"),
            _ => (ReasonCode::Other, "unavailable"),
        };
        assert_eq!((code, expected), row, "{status}");
    }
}

/// Records with odd places in them, valid as JSON.
fn record() -> impl Strategy<Value = String> {
    let text = prop_oneof![any::<String>(), Just("2023-07-10T11:42:01Z".to_owned())];
    (text, any::<String>(), any::<Option<bool>>(), "[ ]{0,2}").prop_map(|(time, agent, read_only, space)| {
        let members = [
            format!("\"eventTime\":{}", json!(time)),
            format!("\"userAgent\":{}", json!(agent)),
            format!("\"readOnly\":{}", json!(read_only)),
            format!("\"eventID\":{}", json!(agent)),
            format!("\"awsRegion\":{}", json!(time)),
        ];
        format!("{{{space}{}{space}}}", members.join(&format!(",{space}")))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn every_body_holds_each_record_whole_and_within_its_announced_length(
        records in prop::collection::vec(record(), 1..4),
        label in any::<String>(),
        full in any::<bool>(),
    ) {
        let additions = if full { Additions::Full } else { Additions::None };
        let labels = vec![("a".to_owned(), label)];
        let common = CommonSettings { additions, labels, ..common() };
        let actor = r#"{"actor":{"class":"principal","kind":"iam_user","principal":"arn:\"x\u0001"},"record":0}"#;
        let events: Vec<_> =
            records.iter().map(|record| Sample::new(record).additions(actor).labels(&[("b", "\n\"")]).event()).collect();
        for &type_name in TYPES {
            // One with a protocol of its own has a test like this beside it.
            let Some(sink) = built(type_name, &common).http_sink() else { continue };
            let mut body = Body::new();
            sink.body(&events, Shape::Normal, &mut body);
            let announced: usize = events.iter().map(|event| sink.encoded_len(event)).sum();
            prop_assert!(body.len() <= announced, "{type_name}: {} > {announced}", body.len());
            // Not so much more that batches would stay half empty.
            prop_assert!(announced <= body.len() + events.len() * 700, "{type_name}: {announced} for {}", body.len());
            let flat = String::from_utf8(body.flatten()).unwrap();
            prop_assert_eq!(flat.len(), body.len());
            let mut at = 0;
            for record in &records {
                let inside = &record[..record.len() - 1];
                let found = flat[at..].find(inside);
                prop_assert!(found.is_some(), "{type_name}: {record} is not in {flat}");
                at += found.unwrap() + inside.len();
            }
        }
    }
}

#[test]
fn an_address_of_a_connection_is_read() {
    let read = |text: &str| Endpoint::parse_stream("endpoints", text, 6514);
    let good = read("tls://siem.example").unwrap();
    assert_eq!(good.address, Address { host: "siem.example".into(), port: 6514, tls: true });
    assert_eq!(good.origin, "tls://siem.example:6514");
    let v6 = read("tcp://[::1]:514/").unwrap();
    assert_eq!(v6.address, Address { host: "::1".into(), port: 514, tls: false });
    assert_eq!(v6.origin, "tcp://[::1]:514");
    for bad in [
        "siem.example:6514",
        "udp://siem.example",
        "tls://u:p@siem.example",
        "tls://a/x",
        "tls://a?b",
        "tls://a#b",
        "",
    ] {
        let invalid = read(bad).unwrap_err();
        assert!(invalid.key == "endpoints" && invalid.message.contains("tls://host.example:6514"), "{bad}");
    }
}
