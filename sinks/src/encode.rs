//! The JSON that destinations write around an event, whose own bytes stay as AWS wrote them.

use std::io::Write as _;

use cloudtrail::Timestamp;

use crate::{Body, Event, LogFile};

/// Writes `text` as a JSON string, quotes included.
pub fn write_string(out: &mut Vec<u8>, text: &str) {
    cloudtrail::write_string(text, out);
}

/// The length of `text` as a JSON string, quotes included.
#[must_use]
pub fn string_len(text: &str) -> usize {
    cloudtrail::string_len(text)
}

/// Writes `"key":"value"`, with a comma before it unless it is the first of `out` or of an object just opened.
pub fn write_member(out: &mut Vec<u8>, key: &str, value: &str) {
    write_key(out, key);
    write_string(out, value);
}

/// Writes `"key":`, with a comma before it unless it is the first of `out` or of an object just opened.
pub fn write_key(out: &mut Vec<u8>, key: &str) {
    if out.last().is_some_and(|&last| last != b'{') {
        out.push(b',');
    }
    write_string(out, key);
    out.push(b':');
}

/// Writes labels as a JSON object. A name that stands twice is written once, with its last value.
pub fn write_labels<'a>(out: &mut Vec<u8>, labels: impl IntoIterator<Item = &'a (String, String)>) {
    let mut kept: Vec<&(String, String)> = Vec::new();
    for label in labels {
        match kept.iter_mut().find(|known| known.0 == label.0) {
            Some(known) => *known = label,
            None => kept.push(label),
        }
    }
    out.push(b'{');
    for (name, value) in kept {
        write_member(out, name, value);
    }
    out.push(b'}');
}

/// Writes seconds since 1970 with milliseconds: `1689000000.123`.
pub fn write_epoch_seconds(out: &mut Vec<u8>, time: Timestamp) {
    let millis = time.millis();
    // Writing to a vector cannot fail.
    let _ = write!(out, "{}.{:03}", millis.div_euclid(1000), millis.rem_euclid(1000));
}

/// Adds `event` to `body` with members (`"key":value`, joined by commas, or nothing) before its last brace:
/// `members`, and right behind it what [`additions`] left to be shared.
pub fn splice<'a>(body: &mut Body<'a>, event: &'a Event, members: &[u8], shared: &'a [u8]) {
    let range = event.range();
    if members.is_empty() && shared.is_empty() || range.len() < 2 {
        body.slice(event.chunk(), range);
        return;
    }
    body.slice(event.chunk(), range.start..range.end - 1);
    if has_members(event) {
        body.owned(b",");
    }
    body.owned(members);
    body.shared(shared);
    body.owned(b"}");
}

/// Exactly what [`splice`] adds where members and what is shared have `added` bytes together.
#[must_use]
pub fn spliced_len(event: &Event, added: usize) -> usize {
    let len = event.range().len();
    if added == 0 || len < 2 { len } else { len + added + usize::from(has_members(event)) }
}

/// Whether a member stands between the braces of an event.
fn has_members(event: &Event) -> bool {
    let inside = event.bytes().get(1..event.bytes().len().saturating_sub(1)).unwrap_or_default();
    inside.iter().any(|byte| !byte.is_ascii_whitespace())
}

/// Where an event came from, as Splunk's `source`: `s3://bucket/key`, `file:path`, or an inline event's key.
#[must_use]
pub fn source_of(file: &LogFile) -> String {
    match file.bucket.as_str() {
        "" => file.key.clone(),
        "file" => format!("file:{}", file.key),
        bucket => format!("s3://{bucket}/{}", file.key),
    }
}

/// The additions of `event` with `labels` of a sink among its labels; nothing where it gets none.
///
/// The labels of agent and source stand last in [`Event::additions`], as [`write_labels`] writes them, or not
/// at all; those of the sink join them and win over the same name.
pub fn write_additions(out: &mut Vec<u8>, event: &Event, labels: &[(String, String)]) {
    let Some(additions) = event.additions() else { return };
    if labels.is_empty() {
        out.extend_from_slice(additions);
        return;
    }
    let own = &event.file().labels;
    let mut tail = b"\"labels\":".to_vec();
    write_labels(&mut tail, own);
    tail.push(b'}');
    let before = additions.strip_suffix(tail.as_slice()).or_else(|| additions.strip_suffix(b"}"));
    let before = before.unwrap_or(additions);
    out.extend_from_slice(before.strip_suffix(b",").unwrap_or(before));
    write_key(out, "labels");
    write_labels(out, own.iter().chain(labels));
    out.push(b'}');
}

/// The additions of `event` as [`write_additions`] has them: what is shared with other sinks is given back,
/// and stands behind `out`; what only this sink adds is written to `out`.
#[must_use]
pub fn additions<'a>(out: &mut Vec<u8>, event: &'a Event, labels: &[(String, String)]) -> &'a [u8] {
    if labels.is_empty() {
        return event.additions().unwrap_or_default();
    }
    write_additions(out, event, labels);
    &[]
}

/// An upper bound of what [`write_additions`] writes.
#[must_use]
pub fn additions_len(event: &Event, labels: &[(String, String)]) -> usize {
    let Some(additions) = event.additions() else { return 0 };
    if labels.is_empty() {
        return additions.len();
    }
    let each = |(name, value): &(String, String)| string_len(name) + string_len(value) + 2;
    additions.len()
        + "\"labels\":{},".len()
        + event.file().labels.iter().chain(labels).map(each).sum::<usize>()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;
    use crate::testing::{Sample, pairs};

    fn spliced(record: &str, members: &str) -> String {
        let event = Sample::new(record).event();
        let mut body = Body::new();
        splice(&mut body, &event, members.as_bytes(), b"");
        assert_eq!(body.len(), spliced_len(&event, members.len()));
        String::from_utf8(body.flatten()).unwrap()
    }

    fn additions(of: &str, own: &[(&str, &str)], sink: &[(&str, &str)]) -> String {
        let event = Sample::new(r#"{"a":1}"#).additions(of).labels(own).event();
        let (mut out, labels) = (Vec::new(), pairs(sink));
        write_additions(&mut out, &event, &labels);
        assert!(additions_len(&event, &labels) >= out.len());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn members_go_before_the_last_brace() {
        assert_eq!(spliced(r#"{"a":{"b":1}}"#, r#""c":2"#), r#"{"a":{"b":1},"c":2}"#);
        assert_eq!(spliced(r#"{"a":1 }"#, r#""c":2"#), r#"{"a":1 ,"c":2}"#);
        assert_eq!(spliced(r#"{"a":1}"#, ""), r#"{"a":1}"#);
    }

    #[test]
    fn what_is_shared_stands_behind_the_members() {
        let event = Sample::new(r#"{"a":1}"#).additions(r#"{"record":7}"#).event();
        let with = |labels: &[(&str, &str)]| {
            let (mut body, mut members) = (Body::new(), br#""trailship":"#.to_vec());
            let labels = pairs(labels);
            let shared = super::additions(&mut members, &event, &labels);
            splice(&mut body, &event, &members, shared);
            assert_eq!(spliced_len(&event, members.len() + shared.len()), body.len());
            String::from_utf8(body.flatten()).unwrap()
        };
        assert_eq!(with(&[]), r#"{"a":1,"trailship":{"record":7}}"#);
        assert_eq!(with(&[("dc", "1")]), r#"{"a":1,"trailship":{"record":7,"labels":{"dc":"1"}}}"#);
    }

    #[test]
    fn an_empty_event_gets_no_comma() {
        assert_eq!(spliced("{}", r#""c":2"#), r#"{"c":2}"#);
        assert_eq!(spliced("{  }", r#""c":2"#), r#"{  "c":2}"#);
    }

    #[test]
    fn labels_of_a_sink_join_those_of_the_source() {
        let plain = r#"{"actor":{"class":"principal"}}"#;
        let labelled = r#"{"record":1,"labels":{"env":"prod","team":"x"}}"#;
        let own = [("env", "prod"), ("team", "x")];
        assert_eq!(additions(labelled, &own, &[]), labelled);
        assert_eq!(
            additions(plain, &[], &[("dc", "1")]),
            r#"{"actor":{"class":"principal"},"labels":{"dc":"1"}}"#
        );
        assert_eq!(
            additions(labelled, &own, &[("dc", "1"), ("env", "test")]),
            r#"{"record":1,"labels":{"env":"test","team":"x","dc":"1"}}"#
        );
        assert_eq!(additions("{}", &[], &[("dc", "1")]), r#"{"labels":{"dc":"1"}}"#);
        assert_eq!(
            additions(r#"{"labels":{"env":"a"}}"#, &[("env", "a")], &[("b", "c")]),
            r#"{"labels":{"env":"a","b":"c"}}"#
        );
    }

    #[test]
    fn an_event_that_has_the_key_already_gets_nothing() {
        let event = Sample::new(r#"{"trailship":1}"#).additions("{}").event();
        let mut out = Vec::new();
        write_additions(&mut out, &event, &pairs(&[("a", "b")]));
        assert!(out.is_empty());
    }

    #[test]
    fn epoch_seconds_have_three_decimals() {
        let write = |millis| {
            let mut out = Vec::new();
            write_epoch_seconds(&mut out, Timestamp::from_millis(millis));
            String::from_utf8(out).unwrap()
        };
        assert_eq!(write(1_689_000_000_007), "1689000000.007");
        assert_eq!(write(0), "0.000");
    }

    #[test]
    fn the_source_says_where_the_log_file_was() {
        let source = |bucket: &str, key: &str| source_of(Sample::new("{}").from(bucket, key).event().file());
        assert_eq!(source("trail", "a/b.json.gz"), "s3://trail/a/b.json.gz");
        assert_eq!(source("file", "/var/x.json"), "file:/var/x.json");
        assert_eq!(source("", "eventbridge/17"), "eventbridge/17");
    }

    proptest! {
        #[test]
        fn every_text_survives_as_a_json_string(text in any::<String>()) {
            let mut out = Vec::new();
            write_string(&mut out, &text);
            prop_assert_eq!(out.len(), string_len(&text));
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }

        #[test]
        fn taking_the_members_out_again_gives_the_record(name in "[a-z]{0,8}", value in any::<i64>()) {
            let record = if name.is_empty() { "{}".to_owned() } else { format!("{{\"{name}\":{value}}}") };
            let text = spliced(&record, "\"x\":0");
            let stripped = text.replacen(",\"x\":0", "", 1).replacen("\"x\":0", "", 1);
            prop_assert_eq!(stripped, record);
        }
    }
}
