//! Tests of frames, limits and settings; what happens on connections is tested in `tests/syslog.rs`.
#![allow(clippy::unwrap_used, clippy::panic)]

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::tests::common;
use super::super::{Additions, alert_logic};
use super::*;
use crate::testing::Sample;
use crate::{Body, Event};

fn settings(more: Value) -> Settings {
    let mut settings = json!({ "endpoints": ["tls://siem.example"], "accept_unacknowledged": true });
    settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(settings).unwrap()
}

fn format(more: Value) -> Format {
    settings(more).plan(&common(), PORT, Framing::OctetCounting).unwrap().format
}

fn frame(format: &Format, event: &Event) -> String {
    let mut body = Body::new();
    format.write(event, &mut body);
    assert_eq!(body.len(), format.frame_len(event));
    String::from_utf8(body.flatten()).unwrap()
}

/// The parts of a frame's message, split as its receiver does it; the frame is one message exactly.
fn parts(frame: &str) -> (Vec<String>, String) {
    let (len, message) = frame.split_once(' ').unwrap();
    assert_eq!(len.parse::<usize>().unwrap(), message.len());
    let mut fields: Vec<&str> = message.splitn(8, ' ').collect();
    let json = fields.pop().unwrap().to_owned();
    (fields.into_iter().map(str::to_owned).collect(), json)
}

const RECORD: &str = concat!(
    r#"{"eventTime":"2023-07-10T11:42:01Z","eventName":"GetObject","recipientAccountId":"012345678901","#,
    r#""requestParameters":{"key":"größe"}}"#
);

#[test]
fn a_frame_is_the_length_the_header_and_the_record_with_what_is_added() {
    let expected = concat!(
        "218 <110>1 2023-07-10T11:42:01.000Z - cloudtrail - GetObject - ",
        r#"{"eventTime":"2023-07-10T11:42:01Z","eventName":"GetObject","recipientAccountId":"012345678901","#,
        r#""requestParameters":{"key":"größe"},"trailship":{"record":0}}"#
    );
    assert_eq!(frame(&format(json!({})), &Sample::new(RECORD).event()), expected);
}

#[test]
fn an_event_that_says_nothing_has_nil_values() {
    let expected = "54 <110>1 - - cloudtrail - - - {\"trailship\":{\"record\":0}}";
    assert_eq!(frame(&format(json!({ "hostname": "{account}" })), &Sample::new("{}").event()), expected);
}

#[test]
fn the_header_says_what_is_configured() {
    let more = json!({ "facility": "local7", "severity": "debug", "hostname": "h.example", "app_name": "x" });
    let (fields, _) = parts(&frame(&format(more), &Sample::new(RECORD).event()));
    assert_eq!(fields, ["<191>1", "2023-07-10T11:42:01.000Z", "h.example", "x", "-", "GetObject", "-"]);
    let by_account = format(json!({ "hostname": "{account}", "facility": "kern", "severity": "emerg" }));
    let (fields, _) = parts(&frame(&by_account, &Sample::new(RECORD).event()));
    assert_eq!(fields[0..3], ["<0>1", "2023-07-10T11:42:01.000Z", "012345678901"]);
}

#[test]
fn the_message_id_keeps_to_what_the_standard_allows() {
    let id = |name: &str| {
        let record = json!({ "eventName": name }).to_string();
        parts(&frame(&format(json!({})), &Sample::new(&record).event())).0[5].clone()
    };
    assert_eq!(id("Get Object\n"), "Get_Object_");
    assert_eq!(id("é"), "_");
    assert_eq!(id(""), "-");
    assert_eq!(id(&"x".repeat(33)), "x".repeat(32));
}

#[test]
fn nothing_is_added_where_nothing_is_wanted() {
    let bare = CommonSettings { additions: Additions::None, ..common() };
    let format = settings(json!({})).plan(&bare, PORT, Framing::OctetCounting).unwrap().format;
    assert_eq!(parts(&frame(&format, &Sample::new(RECORD).event())).1, RECORD);
    let newline = settings(json!({})).plan(&bare, PORT, Framing::Newline).unwrap().format;
    let line = frame(&newline, &Sample::new(RECORD).event());
    assert_eq!(line, format!("<110>1 2023-07-10T11:42:01.000Z - cloudtrail - GetObject - {RECORD}\n"));
}

/// An event whose message has `len` bytes.
fn event_of(format: &Format, len: usize) -> Event {
    let record =
        |padding: usize| format!(r#"{{"requestParameters":{{"policy":"{}"}}}}"#, "x".repeat(padding));
    let empty = parts_len(format, &Sample::new(&record(0)).event());
    Sample::new(&record(len - empty)).event()
}

fn parts_len(format: &Format, event: &Event) -> usize {
    let frame = frame(format, event);
    frame.split_once(' ').unwrap().1.len()
}

#[test]
fn the_longest_message_is_sent_whole_and_a_longer_one_shortened() {
    let format = format(json!({}));
    assert_eq!(format.frame_bytes_max(), "8096 ".len() + 8096);
    let longest = event_of(&format, 8096);
    assert_eq!(frame(&format, &longest).len(), format.frame_bytes_max());
    let longer = event_of(&format, 8097);
    let (_, json) = parts(&frame(&format, &longer));
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["trailship"]["shortened"], json!(["requestParameters.policy"]));
    assert_eq!(json["trailship"]["record"], 0);
}

#[test]
fn labels_of_the_sink_stand_in_a_shortened_event_too() {
    let common = CommonSettings { labels: vec![("dc".into(), "1".into())], ..common() };
    let format = settings(json!({})).plan(&common, PORT, Framing::OctetCounting).unwrap().format;
    let (_, json) = parts(&frame(&format, &event_of(&format, 9000)));
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["trailship"]["labels"], json!({ "dc": "1" }));
}

#[test]
fn what_cannot_or_must_not_be_shortened_is_longer_than_the_sink_takes() {
    let whole = format(json!({ "oversized": "dead_letter", "max_message_bytes": "64KiB" }));
    assert_eq!(whole.frame_len(&event_of(&whole, 65_536)), whole.frame_bytes_max());
    assert!(whole.frame_len(&event_of(&whole, 65_537)) > whole.frame_bytes_max());
    let short = format(json!({}));
    let record = json!({ "userIdentity": { "arn": "a".repeat(9000) } }).to_string();
    assert!(short.frame_len(&Sample::new(&record).event()) > short.frame_bytes_max());
}

#[test]
fn settings_that_cannot_work_are_refused_with_the_key_and_the_remedy() {
    for (more, message) in [
        (json!({ "accept_unacknowledged": false }), "required: nothing tells"),
        (json!({ "endpoints": [] }), "endpoints: the list is empty"),
        (json!({ "endpoints": ["siem:514"] }), "endpoints: not an absolute address"),
        (json!({ "facility": "13" }), "facility: unknown: use one of kern, user"),
        (json!({ "severity": "loud" }), "severity: unknown: use one of emerg"),
        (json!({ "hostname": "a b" }), "hostname: use printable ASCII"),
        (json!({ "app_name": "" }), "app_name: use printable ASCII"),
        (json!({ "app_name": "x".repeat(49) }), "app_name: use printable ASCII"),
        (json!({ "max_message_bytes": "1KiB" }), "max_message_bytes: from \"2KiB\""),
        (json!({ "max_message_bytes": "17MiB" }), "max_message_bytes: from \"2KiB\""),
    ] {
        let error = settings(more).build(&common()).unwrap_err().to_string();
        assert!(error.starts_with(message), "{error}");
    }
    let optional = CommonSettings { required: false, ..common() };
    let built = settings(json!({ "accept_unacknowledged": false })).build(&optional).unwrap();
    assert_eq!(built.endpoints, ["tls://siem.example:6514"]);
    assert!(serde_json::from_value::<Settings>(json!({ "endpoints": [], "framing": "newline" })).is_err());
}

#[test]
fn alert_logic_has_the_port_and_the_framing_of_its_own_recipe() {
    let settings = json!({ "endpoints": ["tls://collector.example"], "accept_unacknowledged": true });
    let settings: alert_logic::Settings = serde_json::from_value(settings).unwrap();
    let built = settings.build(&common()).unwrap();
    assert_eq!(built.endpoints, ["tls://collector.example:1514"]);
    let refused = json!({ "endpoints": ["tls://collector.example"] });
    let refused: alert_logic::Settings = serde_json::from_value(refused).unwrap();
    assert_eq!(refused.build(&common()).unwrap_err().key, "required");
}

proptest! {
    #[test]
    fn a_frame_holds_the_record_and_is_as_long_as_announced(
        name in any::<String>(),
        value in "\\PC{0,40}",
        padding in 0usize..9000,
        label in any::<String>(),
    ) {
        let common = CommonSettings { labels: vec![("l".into(), label)], ..common() };
        let format = settings(json!({})).plan(&common, PORT, Framing::OctetCounting).unwrap().format;
        let record = json!({ "eventName": name, "a": value, "requestParameters": { "p": "x".repeat(padding) } });
        let record = record.to_string();
        let event = Sample::new(&record).event();
        let frame = frame(&format, &event);
        prop_assert!(frame.len() <= format.frame_bytes_max());
        let (fields, json) = parts(&frame);
        prop_assert_eq!(fields.len(), 7);
        prop_assert!(!json.contains('\n'));
        let _: Value = serde_json::from_str(&json).unwrap();
        if padding < 7000 {
            prop_assert!(json.starts_with(&record[..record.len() - 1]));
        }
    }
}
