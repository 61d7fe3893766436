//! Tests of envelopes, channels, the table of codes and acknowledgement.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::super::FindingLevel;
use super::super::tests::{answer, common};
use super::*;
use crate::Verdict;
use crate::testing::{Sample, pairs};

const RECORD: &str = r#"{"eventTime":"2023-07-10T11:42:01.5Z","eventName":"x"}"#;
const ACTOR: &str = r#"{"actor":{"class":"aws_service","kind":"on_behalf_of","service":"rds.amazonaws.com","principal":"arn:aws:iam::1:user/a\"b","role":"arn:r","session":"s","on_behalf_of":true},"bucket":"trail","record":7}"#;

fn build(more: Value, common: &CommonSettings) -> Result<Built, Invalid> {
    let mut settings = json!({ "endpoints": ["https://a.example:8088"], "token": "hunter2" });
    settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value::<Settings>(settings)
        .map_err(|error| Invalid::new("", error.to_string()))?
        .build(common)
}

fn sink(more: Value) -> Arc<dyn HttpSink> {
    build(more, &common()).unwrap().http_sink().unwrap()
}

fn body(sink: &dyn HttpSink, events: &[Event]) -> String {
    let mut body = Body::new();
    sink.body(events, Shape::Normal, &mut body);
    assert!(body.len() <= events.iter().map(|event| sink.encoded_len(event)).sum());
    String::from_utf8(body.flatten()).unwrap()
}

#[test]
fn an_envelope_holds_the_record_untouched_and_the_additions_as_fields() {
    let common = CommonSettings { labels: pairs(&[("env", "prod")]), ..common() };
    let sink = build(json!({ "index": "aws", "host": "h" }), &common).unwrap().http_sink().unwrap();
    let event = Sample::new(RECORD).additions(ACTOR).labels(&[("env", "test"), ("host", "x")]).event();
    let expected = concat!(
        r#"{"host":"h","sourcetype":"aws:cloudtrail","index":"aws","time":1688989321.500,"source":"s3://trail/a/b.json.gz","#,
        r#""event":{"eventTime":"2023-07-10T11:42:01.5Z","eventName":"x"},"#,
        r#""fields":{"trailship_actor_class":"aws_service","trailship_actor_kind":"on_behalf_of","#,
        r#""trailship_actor_service":"rds.amazonaws.com","trailship_actor_principal":"arn:aws:iam::1:user/a\"b","#,
        r#""trailship_actor_role":"arn:r","trailship_record":"0","env":"prod","label_host":"x"}}"#
    );
    assert_eq!(body(&*sink, &[event]), expected);
}

#[test]
fn envelopes_stand_one_after_the_other_without_anything_between() {
    let common = CommonSettings { additions: Additions::None, ..common() };
    let sink = build(json!({ "source": "fixed" }), &common).unwrap().http_sink().unwrap();
    let events = [Sample::new("{}").event(), Sample::new(RECORD).event()];
    let expected = concat!(
        r#"{"source":"fixed","sourcetype":"aws:cloudtrail","event":{}}"#,
        r#"{"source":"fixed","sourcetype":"aws:cloudtrail","time":1688989321.500,"#,
        r#""event":{"eventTime":"2023-07-10T11:42:01.5Z","eventName":"x"}}"#
    );
    assert_eq!(body(&*sink, &events), expected);
}

/// Of a request with any other key Splunk stores what stands before it, and answers success.
#[test]
fn an_envelope_has_only_keys_that_splunk_knows_and_flat_fields() {
    let known = BTreeSet::from(["time", "host", "source", "sourcetype", "index", "event", "fields"]);
    let sink = sink(json!({ "index": "i", "host": "h" }));
    let event = Sample::new(RECORD).additions(ACTOR).labels(&[("_a", "1"), ("ü b", "2"), ("", "3")]).event();
    let envelope: Value = serde_json::from_str(&body(&*sink, &[event])).unwrap();
    let keys: BTreeSet<_> = envelope.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, known);
    for (name, value) in envelope["fields"].as_object().unwrap() {
        assert!(value.is_string(), "{name}");
        assert!(
            name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && !name.starts_with('_'),
            "{name}"
        );
    }
}

#[test]
fn settings_that_cannot_work_are_refused_without_the_token() {
    for (more, message) in [
        (json!({ "endpoints": ["https://a/services/collector/event"] }), "endpoints: take away the path"),
        (json!({ "endpoints": [] }), "endpoints: the list is empty"),
        (json!({ "token": "hunter2ü" }), "token: use printable ASCII"),
        (json!({ "ack": "yes" }), "ack is \"auto\", true or false"),
    ] {
        let error = build(more, &common()).unwrap_err().to_string();
        assert!(error.contains(message) && !error.contains("hunter2"), "{error}");
    }
}

#[test]
fn a_head_names_token_and_channel_and_fails_over_by_attempt() {
    let two = || sink(json!({ "endpoints": ["https://a.example:8088", "https://b.example"] }));
    let of = |sink: &dyn HttpSink, slot, number| sink.head(&Attempt { slot, number, ..Attempt::default() });
    let head = |slot, number| of(&*two(), slot, number);
    let first = head(0, 0);
    assert_eq!(
        (first.method, first.url.as_str()),
        ("POST", "https://a.example:8088/services/collector/event")
    );
    assert_eq!(first.headers[0], ("authorization", "Splunk hunter2".to_owned()));
    assert_eq!(first.headers[1].0, "x-splunk-request-channel");
    assert_eq!(first.headers[2], ("content-type", "application/json".to_owned()));
    assert!(head(1, 0).url.starts_with("https://b.example/"));
    // What was not answered goes to the next, and so does the next batch.
    let sink = two();
    let to_b = |number| {
        let head = of(&*sink, 0, number);
        if number == 1 {
            let attempt = Attempt { number, ..Attempt::default() };
            sink.judge(&[Sample::new("{}").event()], &attempt, &answer(200, &[], &told(0, "")));
        }
        head.url.contains("//b.")
    };
    assert_eq!([0, 1, 0].map(to_b), [false, true, true]);
    let channel = |slot, number| head(slot, number).headers[1].1.clone();
    assert_eq!(channel(0, 0), channel(0, 2));
    let sink = two();
    let elsewhere = [0, 1].map(|number| of(&*sink, 0, number).headers[1].1.clone())[1].clone();
    let different: BTreeSet<_> = [channel(0, 0), elsewhere, channel(1, 0), channel(2, 0)].into();
    assert_eq!(different.len(), 4);
    let shape: Vec<_> = channel(0, 0).split('-').map(str::len).collect();
    assert_eq!(shape, [8, 4, 4, 4, 12]);
    let other = CommonSettings { instance: 8, ..common() };
    let other = build(json!({}), &other).unwrap().http_sink().unwrap().head(&Attempt::default());
    assert_ne!(other.headers[1].1, channel(0, 0));
}

const ATTEMPT: Attempt = Attempt { number: 0, shape: Shape::Normal, slot: 3 };

fn judge(sink: &dyn HttpSink, count: usize, status: u16, body: &str) -> Judgement {
    sink.judge(
        &vec![Sample::new(RECORD).event(); count],
        &ATTEMPT,
        &answer(status, &[("retry-after", "9")], body),
    )
}

fn told(code: u64, more: &str) -> String {
    format!("{{\"text\":\"t\",\"code\":{code}{more}}}")
}

#[test]
fn success_is_a_code_that_splunk_gives_to_events() {
    let sink = sink(json!({}));
    assert_eq!(judge(&*sink, 2, 200, &told(0, "")), Judgement::Each(vec![Verdict::Delivered; 2]));
    // Taken, and a queue is nearly full.
    for code in [24, 25] {
        let strained = judge(&*sink, 2, 200, &told(code, ""));
        assert_eq!(strained, Judgement::Strained(vec![Verdict::Delivered; 2]), "{code}");
        let strained = judge(&*sink, 1, 200, &told(code, ",\"ackId\":5"));
        assert!(matches!(&strained, Judgement::Strained(all) if matches!(all[..], [Verdict::Pending(_)])));
    }
    for body in
        ["", "OK", "<html>", "{}", r#"{"text":"Success"}"#, &told(17, ""), &told(6, ""), &told(99, "")]
    {
        let judgement = judge(&*sink, 2, 200, body);
        assert!(
            matches!(&judgement, Judgement::Unavailable { why, .. } if why.code == ReasonCode::Garbled),
            "{body}: {judgement:?}"
        );
    }
}

#[test]
fn every_code_has_its_judgement() {
    use ReasonCode::*;
    let sink = sink(json!({}));
    for (code, status, expected, reason) in [
        (1, 403, "Denied", Unauthorized),
        (2, 401, "Denied", Unauthorized),
        (3, 401, "Denied", Unauthorized),
        (4, 403, "Denied", Unauthorized),
        (5, 400, "Refused", Invalid),
        (6, 400, "Refused", Invalid),
        (7, 400, "Denied", Misconfigured),
        (8, 500, "Unavailable", ServerError),
        (9, 503, "Unavailable", ServerError),
        (10, 400, "Denied", Misconfigured),
        (11, 400, "Denied", Misconfigured),
        (12, 400, "Refused", Invalid),
        (13, 400, "Refused", Invalid),
        (14, 400, "Denied", Misconfigured),
        (15, 400, "Refused", Invalid),
        (16, 400, "Denied", Misconfigured),
        (18, 503, "Unavailable", ServerError),
        (19, 503, "Unavailable", ServerError),
        (20, 503, "Unavailable", ServerError),
        (21, 400, "Denied", Unauthorized),
        (22, 400, "Denied", Unauthorized),
        (23, 503, "Unavailable", ServerError),
        (26, 429, "Unavailable", Throttled),
        (27, 429, "Unavailable", Throttled),
        (28, 400, "Denied", Misconfigured),
        (404, 404, "Denied", Misconfigured),
        (405, 405, "Denied", Misconfigured),
        (413, 413, "TooLarge", TooLarge),
        (77, 400, "Refused", Invalid),
        (77, 503, "Unavailable", ServerError),
    ] {
        let judgement = format!("{:?}", judge(&*sink, 2, status, &told(code, "")));
        assert!(judgement.starts_with(expected), "{code}: {judgement}");
        assert!(
            judgement.contains(&format!("code: {reason:?}, status: Some({status})")),
            "{code}: {judgement}"
        );
        assert!(judgement.contains(&format!("code {code}: t")), "{code}: {judgement}");
        if expected == "Unavailable" {
            assert!(judgement.contains("retry_after: Some(9s)"), "{judgement}");
        }
    }
}

#[test]
fn a_sink_with_several_indexers_is_denied_only_when_all_of_them_refuse() {
    let sink = sink(json!({ "endpoints": ["https://a.example:8088", "https://b.example"] }));
    let event = [Sample::new(RECORD).event()];
    let refused = |number| {
        let attempt = Attempt { number, ..Attempt::default() };
        let head = sink.head(&attempt);
        (head.url.contains("//b."), sink.judge(&event, &attempt, &answer(403, &[], &told(4, ""))))
    };
    let (to_b, judgement) = refused(0);
    assert!(
        !to_b
            && matches!(judgement, Judgement::Unavailable { ref why, .. } if why.code == ReasonCode::Unauthorized)
    );
    let (to_b, judgement) = refused(1);
    assert!(to_b && matches!(judgement, Judgement::Denied(_)));
    // Full queues at one are a reason to go to the other.
    let sink = self::sink(json!({ "endpoints": ["https://a.example:8088", "https://b.example"] }));
    sink.head(&Attempt::default());
    sink.judge(&event, &Attempt::default(), &answer(429, &[], &told(26, "")));
    assert!(sink.head(&Attempt::default()).url.starts_with("https://b.example"));
}

#[test]
fn an_answer_that_is_not_the_collector_s_is_judged_by_its_status() {
    let sink = sink(json!({}));
    for (status, expected) in [
        (303, "Denied"),
        (400, "Refused"),
        (401, "Denied"),
        (403, "Denied"),
        (404, "Denied"),
        (413, "TooLarge"),
        (415, "Denied"),
        (429, "Unavailable"),
        (502, "Unavailable"),
    ] {
        let judgement = format!("{:?}", judge(&*sink, 2, status, "<html>hunter2</html>"));
        assert!(judgement.starts_with(expected) && !judgement.contains("hunter2"), "{status}: {judgement}");
    }
}

/// One letter an event: delivered, pending, refused by name, suspect, retried.
fn letters(judgement: &Judgement) -> String {
    let Judgement::Each(verdicts) = judgement else { panic!("{judgement:?}") };
    let letter = |verdict: &Verdict| match verdict {
        Verdict::Delivered => 'd',
        Verdict::Pending(_) => 'p',
        Verdict::Refused { named: true, .. } => 'x',
        Verdict::Refused { named: false, .. } => 's',
        Verdict::Retry(_) => 'r',
        other => panic!("{other:?}"),
    };
    verdicts.iter().map(letter).collect()
}

#[test]
fn what_stands_before_an_invalid_event_is_stored_and_what_follows_was_not_read() {
    let sink = sink(json!({}));
    for code in [6, 12, 13, 15] {
        for (bad, expected) in [(0, "srrr"), (1, "dxrr"), (3, "dddx")] {
            let body = told(code, &format!(",\"invalid-event-number\":{bad}"));
            assert_eq!(letters(&judge(&*sink, 4, 400, &body)), expected, "{code} {bad}");
        }
        let body = told(code, ",\"invalid-event-number\":2,\"ackId\":5");
        assert_eq!(letters(&judge(&*sink, 4, 400, &body)), "ppxr", "{code}");
        let body = told(code, ",\"invalid-event-number\":4");
        assert!(matches!(judge(&*sink, 4, 400, &body), Judgement::Unavailable { .. }), "{code}");
    }
}

#[test]
fn an_invalid_first_event_of_a_large_request_means_that_it_is_too_large() {
    let sink = sink(json!({}));
    let large = [Sample::new(&format!("{{\"a\":\"{}\"}}", "x".repeat(1_000_000))).event()];
    let body = told(6, ",\"invalid-event-number\":0");
    let judged = |events: &[Event], body: &str| sink.judge(events, &ATTEMPT, &answer(400, &[], body));
    assert!(matches!(judged(&large, &body), Judgement::TooLarge(why) if why.code == ReasonCode::TooLarge));
    let small = [Sample::new(RECORD).event()];
    assert_eq!(letters(&judged(&small, &body)), "s");
    // The other codes speak of the event itself.
    assert_eq!(letters(&judged(&large, &told(15, ",\"invalid-event-number\":0"))), "s");
}

#[test]
fn acknowledgement_is_used_as_configured() {
    let acked = told(0, ",\"ackId\":5");
    let plain = told(0, "");
    assert_eq!(letters(&judge(&*sink(json!({})), 2, 200, &acked)), "pp");
    assert_eq!(letters(&judge(&*sink(json!({})), 2, 200, &plain)), "dd");
    assert_eq!(letters(&judge(&*sink(json!({ "ack": false })), 2, 200, &acked)), "dd");
    assert_eq!(letters(&judge(&*sink(json!({ "ack": true })), 2, 200, &acked)), "pp");
    assert!(matches!(judge(&*sink(json!({ "ack": true })), 2, 200, &plain), Judgement::Denied(_)));
}

#[test]
fn where_acknowledgement_is_a_must_an_error_without_a_number_delivers_nothing() {
    let sink = sink(json!({ "ack": true }));
    let body = |more: &str| told(15, &format!(",\"invalid-event-number\":2{more}"));
    assert_eq!(letters(&judge(&*sink, 4, 400, &body(""))), "rrxr");
    assert_eq!(letters(&judge(&*sink, 4, 400, &body(",\"ackId\":0"))), "ppxr");
    let Judgement::Each(verdicts) = judge(&*sink, 4, 400, &body("")) else { panic!() };
    assert!(matches!(&verdicts[0], Verdict::Retry(why) if why.code == ReasonCode::Unconfirmed));
    assert!(sink.requires_confirmation());
    assert!(!self::sink(json!({})).requires_confirmation());
}

#[test]
fn cookies_go_back_with_the_channel_that_they_came_in_and_nowhere_else() {
    let sink = sink(json!({ "endpoints": ["https://a.example:8088", "https://b.example"] }));
    let cookie =
        |head: &Head| head.headers.iter().find(|(name, _)| *name == "cookie").map(|(_, it)| it.clone());
    let slot = |slot| Attempt { slot, ..Attempt::default() };
    let set = |value: &str, body: &str| answer(200, &[("set-cookie", &format!("LB={value}; Path=/"))], body);
    let event = [Sample::new(RECORD).event()];
    assert_eq!(cookie(&sink.head(&slot(0))), None);
    sink.judge(&event, &slot(0), &set("hunter2-a", &told(0, ",\"ackId\":0")));
    let head = sink.head(&slot(0));
    assert_eq!(cookie(&head).as_deref(), Some("LB=hunter2-a"));
    assert!(!format!("{head:?}").contains("hunter2"));
    // The question for the acknowledgement has to find the same indexer, and its answer may renew the cookie.
    let token = token_of(&*sink, &slot(0), 0);
    let asked = sink.confirm(std::slice::from_ref(&token)).unwrap().0;
    assert_eq!(cookie(&asked).as_deref(), Some("LB=hunter2-a"));
    sink.confirmed(std::slice::from_ref(&token), &set("b", r#"{"acks":{"0":false}}"#)).unwrap();
    assert_eq!(cookie(&sink.confirm(&[token]).unwrap().0).as_deref(), Some("LB=b"));
    // Neither another slot at the same endpoint nor another endpoint in the same slot gets it.
    assert_eq!(cookie(&sink.head(&slot(2))), None);
    sink.head(&slot(0));
    let other = sink.head(&Attempt { number: 1, ..slot(0) });
    assert!(other.url.starts_with("https://b.example"));
    assert_eq!(cookie(&other), None);
}

fn token_of(sink: &dyn HttpSink, attempt: &Attempt, id: u64) -> Token {
    let body = told(0, &format!(",\"ackId\":{id}"));
    let judgement = sink.judge(&[Sample::new(RECORD).event()], attempt, &answer(200, &[], &body));
    let Judgement::Each(verdicts) = judgement else { panic!() };
    let [Verdict::Pending(token)] = verdicts.as_slice() else { panic!() };
    token.clone()
}

#[test]
fn a_confirmation_is_asked_of_the_endpoint_and_channel_that_the_request_went_to() {
    let sink = sink(json!({ "endpoints": ["https://a.example:8088", "https://b.example"] }));
    let sent = Attempt { slot: 1, ..Attempt::default() };
    let tokens = [token_of(&*sink, &sent, 0), token_of(&*sink, &ATTEMPT, 4), token_of(&*sink, &sent, 7)];
    let (head, body) = sink.confirm(&tokens).unwrap();
    assert_eq!((head.method, head.url.as_str()), ("POST", "https://b.example/services/collector/ack"));
    assert_eq!(head.headers, sink.head(&sent).headers);
    assert_eq!(String::from_utf8(body).unwrap(), r#"{"acks":[0,7]}"#);
    assert!(sink.confirm(&[]).is_none());
}

#[test]
fn only_what_the_answer_says_is_true_is_confirmed() {
    let sink = sink(json!({}));
    let token = |id| token_of(&*sink, &ATTEMPT, id);
    let other = token_of(&*sink, &Attempt { slot: 9, ..ATTEMPT }, 0);
    let confirmed = |status, body: &str| {
        sink.confirmed(&[token(0), token(1), token(2), other.clone()], &answer(status, &[], body))
    };
    let told = confirmed(200, r#"{"acks":{"0":true,"1":false}}"#).unwrap();
    assert_eq!(told, [true, false, false, false]);
    for (status, body, code) in [
        (200, "", ReasonCode::Garbled),
        (200, r#"{"acks":[true]}"#, ReasonCode::Garbled),
        (200, r#"{"text":"Success","code":0}"#, ReasonCode::Garbled),
        (400, r#"{"text":"ACK is disabled","code":14}"#, ReasonCode::Invalid),
        (403, r#"{"acks":{"0":true}}"#, ReasonCode::Unauthorized),
        (503, "", ReasonCode::ServerError),
    ] {
        assert_eq!(confirmed(status, body).unwrap_err().code, code, "{status} {body}");
    }
}

#[test]
fn check_asks_for_health_token_and_acknowledgement() {
    use FindingLevel::{Failed, Good, Warning};
    let probe = |more| build(more, &common()).unwrap().probe.unwrap();
    let steps = probe(json!({})).steps();
    let asked: Vec<_> =
        steps.iter().map(|step| (step.head.method, step.head.url.rsplit_once("8088").unwrap().1)).collect();
    let expected = [
        ("GET", "/services/collector/health/1.0"),
        ("POST", "/services/collector/event"),
        ("POST", "/services/collector/ack"),
    ];
    assert_eq!(asked, expected);
    assert!(steps[1].body.is_empty());
    let two = probe(json!({ "endpoints": ["https://a.example:8088", "https://b.example"] }));
    assert_eq!(two.steps().len(), 6, "each endpoint is asked");
    assert!(two.steps()[3].head.url.starts_with("https://b.example/"));
    assert_eq!(two.steps()[4].what, "token of https://b.example");
    assert_eq!(two.read(4, &answer(403, &[], &told(4, ""))).level, Failed);
    for (ack, step, status, body, level) in [
        (json!("auto"), 0, 200, told(17, ""), Good),
        (json!("auto"), 0, 503, told(18, ""), Warning),
        (json!("auto"), 0, 404, String::new(), Failed),
        (json!("auto"), 1, 400, told(5, ""), Good),
        (json!("auto"), 1, 403, told(4, ""), Failed),
        (json!("auto"), 1, 401, told(3, ""), Failed),
        (json!("auto"), 1, 500, told(8, ""), Warning),
        (json!("auto"), 2, 200, r#"{"acks":{"0":false}}"#.into(), Good),
        (json!("auto"), 2, 400, told(14, ""), Warning),
        (json!(true), 2, 400, told(14, ""), Failed),
        (json!(false), 2, 400, told(14, ""), Good),
        (json!(false), 2, 500, String::new(), Warning),
    ] {
        let finding = probe(json!({ "ack": ack })).read(step, &answer(status, &[], &body));
        assert_eq!(finding.level, level, "{step} {status} {body}: {finding:?}");
    }
}
