//! Reads what a request brings: concatenated objects, up to the first that Splunk stops at.

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::ledger::{Additions, Members, Position, Sighting};

/// What was read, and how the reading ended.
pub(super) struct Read {
    /// The events before the end, in order; an object with `fields` and no `event` is none.
    pub(super) events: Vec<Envelope>,
    pub(super) end: End,
}

/// One event.
pub(super) struct Envelope {
    /// Position of its object in the request.
    pub(super) number: u64,
    /// The event as it was sent.
    pub(super) event: Vec<u8>,
    pub(super) seen: Sighting,
}

/// How the reading of a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Everything was read.
    All,
    /// At an object with an envelope key that Splunk does not know: it stops there and answers success.
    Silent,
    /// At this object, with this code.
    Code { code: u16, number: u64 },
}

/// The keys that an envelope may have.
const KEYS: [&str; 7] = ["time", "host", "source", "sourcetype", "index", "event", "fields"];

/// Reads a body; `allowed` says whether an index may be written.
pub(super) fn read(body: &[u8], allowed: impl Fn(&str) -> bool) -> Read {
    let mut events = Vec::new();
    let mut objects = serde_json::Deserializer::from_slice(body).into_iter::<&RawValue>();
    let mut number = 0;
    let end = loop {
        let invalid = End::Code { code: 6, number };
        let object = match objects.next() {
            None => break End::All,
            Some(Err(_)) => break invalid,
            Some(Ok(object)) => object,
        };
        let Ok(members) = serde_json::from_str::<Members<'_>>(object.get()) else { break invalid };
        match envelope(&members, number, &allowed) {
            Ok(Some(envelope)) => events.push(envelope),
            Ok(None) => {}
            Err(end) => break end,
        }
        number += 1;
    };
    Read { events, end }
}

fn envelope(
    members: &Members<'_>,
    number: u64,
    allowed: impl Fn(&str) -> bool,
) -> Result<Option<Envelope>, End> {
    let stop = |code| Err(End::Code { code, number });
    if members.0.iter().any(|(key, _)| !KEYS.contains(&key.as_ref())) {
        return Err(End::Silent);
    }
    let text =
        |key: &str| members.last(key).and_then(|value| serde_json::from_str::<String>(value.get()).ok());
    if let Some(time) = members.last("time")
        && !is_time(time)
    {
        return stop(6);
    }
    if text("index").is_some_and(|index| !allowed(&index)) {
        // Splunk names the object after the one with the index that it does not take.
        return Err(End::Code { code: 7, number: number + 1 });
    }
    let fields = members.last("fields");
    if let Some(fields) = fields
        && !are_flat(fields)
    {
        return stop(15);
    }
    let Some(event) = members.last("event") else {
        return if fields.is_some() { Ok(None) } else { stop(12) };
    };
    match event.get() {
        "null" => return stop(12),
        "\"\"" => return stop(13),
        _ => {}
    }
    let bytes = event.get().as_bytes().to_vec();
    let mut seen = Additions::PLAIN.read(&bytes);
    seen.position = seen.position.or_else(|| position(&text("source")?, fields?));
    Ok(Some(Envelope { number, event: bytes, seen }))
}

/// Seconds since 1970, as a number or as text.
fn is_time(value: &RawValue) -> bool {
    match serde_json::from_str(value.get()) {
        Ok(Value::Number(_)) => true,
        Ok(Value::String(text)) => text.parse::<f64>().is_ok(),
        _ => false,
    }
}

/// Indexed fields are an object of values, or of lists of values.
fn are_flat(fields: &RawValue) -> bool {
    let flat = |value: &Value| match value {
        Value::Object(_) => false,
        Value::Array(values) => !values.iter().any(|value| value.is_object() || value.is_array()),
        _ => true,
    };
    match serde_json::from_str(fields.get()) {
        Ok(Value::Object(fields)) => fields.values().all(flat),
        _ => false,
    }
}

/// The log file stands in `source`, the position in it in an indexed field.
fn position(source: &str, fields: &RawValue) -> Option<Position> {
    #[derive(Deserialize)]
    struct Fields {
        trailship_record: Value,
    }
    let fields: Fields = serde_json::from_str(fields.get()).ok()?;
    let index = match &fields.trailship_record {
        Value::String(text) => text.parse().ok()?,
        number => number.as_u64()?,
    };
    let (bucket, key) = match (source.strip_prefix("s3://"), source.strip_prefix("file:")) {
        (Some(object), _) => object.split_once('/')?,
        (_, Some(path)) => ("file", path),
        // An inline event has a key and no bucket; any other source is the configuration's own.
        _ if source.starts_with("eventbridge/") => ("", source),
        _ => return None,
    };
    Some(Position { bucket: bucket.to_owned(), key: key.to_owned(), index })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many events were read, and how it ended.
    fn outcome(body: &str) -> (usize, End) {
        let read = read(body.as_bytes(), |index| index == "main");
        (read.events.len(), read.end)
    }

    #[test]
    fn objects_are_read_up_to_the_first_that_is_wrong() {
        let good =
            r#"{"time":1700000000.123,"host":"h","event":{"eventID":"e"},"fields":{"a":"b","c":["d"]}}"#;
        let code = |code, number| End::Code { code, number };
        for (second, expected) in [
            (r#"{"event":"text"}"#, (2, End::All)),
            (r#"{"event":{"a":1}"#, (1, code(6, 1))),
            ("[1]", (1, code(6, 1))),
            ("nonsense", (1, code(6, 1))),
            (r#"{"event":1,"time":"x"}"#, (1, code(6, 1))),
            (r#"{"event":1,"time":"1.5"}"#, (2, End::All)),
            (r#"{"host":"h"}"#, (1, code(12, 1))),
            (r#"{"event":null}"#, (1, code(12, 1))),
            (r#"{"event":""}"#, (1, code(13, 1))),
            (r#"{"event":1,"fields":{"a":{"b":1}}}"#, (1, code(15, 1))),
            (r#"{"event":1,"fields":["a"]}"#, (1, code(15, 1))),
            (r#"{"event":1,"index":"main"}"#, (2, End::All)),
            (r#"{"event":1,"index":"other"}"#, (1, code(7, 2))),
            (r#"{"event":1,"extra":1}"#, (1, End::Silent)),
            (r#"{"fields":{"a":"b"}}"#, (1, End::All)),
        ] {
            assert_eq!(outcome(&format!("{good}{second}")), expected, "{second}");
            assert_eq!(outcome(&format!("{good} \n{second}")), expected, "{second}");
        }
        assert_eq!(outcome(&format!(r#"{{"event":""}}{good}"#)), (0, code(13, 0)));
        assert_eq!(outcome(&format!(r#"{{"event":1,"x":1}}{good}"#)), (0, End::Silent));
    }

    #[test]
    fn an_event_is_kept_as_it_was_sent_and_says_where_it_comes_from() {
        for (source, position) in [
            ("s3://b/AWSLogs/1.json.gz", Some(("b", "AWSLogs/1.json.gz"))),
            ("file:/tmp/x.json", Some(("file", "/tmp/x.json"))),
            ("eventbridge/1", Some(("", "eventbridge/1"))),
            ("my own", None),
        ] {
            let body = format!(
                r#"{{"source":"{source}","fields":{{"trailship_record":"7"}},"event":{{ "eventID" : "e" }}}}"#
            );
            let read = read(body.as_bytes(), |_| true);
            assert_eq!(read.events[0].event, br#"{ "eventID" : "e" }"#);
            assert_eq!(read.events[0].seen.event_id.as_deref(), Some("e"));
            let position =
                position.map(|(bucket, key)| Position { bucket: bucket.into(), key: key.into(), index: 7 });
            assert_eq!(read.events[0].seen.position, position);
        }
    }
}
