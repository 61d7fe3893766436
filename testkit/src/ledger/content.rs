//! What a stored event says of itself: which event it is, and the bytes that AWS wrote without what was added.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

/// The first half of an event's SHA-256: enough to compare a million events, at half the memory.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ContentHash(pub [u8; 16]);

impl ContentHash {
    /// The hash of an event's bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self::from_sha256(Sha256::digest(bytes).into())
    }

    /// From a whole SHA-256.
    #[must_use]
    pub fn from_sha256(sha256: [u8; 32]) -> Self {
        let mut half = [0; 16];
        half.copy_from_slice(&sha256[..16]);
        Self(half)
    }

    /// From 32 or more hexadecimal digits.
    pub(super) fn from_hex(text: &str) -> Option<Self> {
        u128::from_str_radix(text.get(..32)?, 16).ok().map(|number| Self(number.to_be_bytes()))
    }
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Where an event stands: its log file, and its position in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    /// The bucket.
    pub bucket: String,
    /// The object's key.
    pub key: String,
    /// 0-based position in the log file.
    pub index: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}#{}", self.bucket, self.key, self.index)
    }
}

/// What a destination was seen to store.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Sighting {
    /// `eventID`, else `eventId`, as the event itself says.
    pub event_id: Option<String>,
    /// Where the event says it comes from, if it does.
    pub position: Option<Position>,
    /// Hash of the event without what was added.
    pub hash: ContentHash,
}

/// What an agent may add to an event on its way to one kind of destination.
///
/// Additions are the last keys of the object, each at most once; they are cut off byte for byte, so that the
/// rest can be compared with what was issued.
#[derive(Clone, Copy, Debug)]
pub struct Additions {
    /// Keys beside `trailship` that may follow the event's own.
    pub keys: &'static [&'static str],
    /// Keys of a document that may hold the whole event as a JSON string.
    pub wrappers: &'static [&'static str],
}

const OURS: &str = "trailship";

impl Additions {
    /// `trailship` and nothing else.
    pub const PLAIN: Self = Self { keys: &[], wrappers: &[] };

    /// Reads one stored JSON document. What is no JSON object has neither id nor position.
    #[must_use]
    pub fn read(&self, document: &[u8]) -> Sighting {
        let Ok(members) = serde_json::from_slice::<Members<'_>>(document) else {
            return Sighting { hash: ContentHash::of(document), ..Sighting::default() };
        };
        let position = members.last(OURS).and_then(position);
        if let Some(event) = self.wrappers.iter().find_map(|key| wrapped(members.last(key)?)) {
            return Sighting {
                event_id: event_id(event.as_bytes()),
                position,
                hash: ContentHash::of(event.as_bytes()),
            };
        }
        let hash = ContentHash::of(&self.strip(document, &members));
        Sighting { event_id: members.event_id(), position, hash }
    }

    fn strip<'a>(&self, document: &'a [u8], members: &Members<'a>) -> Cow<'a, [u8]> {
        let mut left = members.0.as_slice();
        let mut taken: Vec<&str> = Vec::new();
        while let Some(((key, value), before)) = left.split_last() {
            let added = if key == OURS { is_ours(value) } else { self.keys.contains(&key.as_ref()) };
            if !added || taken.contains(&key.as_ref()) {
                break;
            }
            taken.push(key);
            left = before;
        }
        let Some((_, last)) = members.0.last().filter(|_| !taken.is_empty()) else {
            return Cow::Borrowed(document);
        };
        let cut = match left.last() {
            // The comma after the last value that stays; white space before it is the event's own.
            Some((_, value)) => {
                let end = offset(document, value) + value.get().len();
                end + document[end..].iter().position(|&byte| byte == b',').unwrap_or(0)
            }
            None => document.iter().position(|&byte| byte == b'"').unwrap_or(0),
        };
        let rest = offset(document, last) + last.get().len();
        Cow::Owned([&document[..cut], &document[rest..]].concat())
    }
}

/// The identity of an event that stands as AWS wrote it.
pub(crate) fn event_id(event: &[u8]) -> Option<String> {
    serde_json::from_slice::<Members<'_>>(event).ok()?.event_id()
}

/// Where a value stands in the document that it was borrowed from.
fn offset(document: &[u8], value: &RawValue) -> usize {
    value.get().as_ptr() as usize - document.as_ptr() as usize
}

/// Ours says who acted and where the event stood; a key of that name that the event brought does not.
fn is_ours(value: &RawValue) -> bool {
    serde_json::from_str::<Members<'_>>(value.get())
        .is_ok_and(|members| members.last("actor").is_some() && members.last("record").is_some())
}

fn position(ours: &RawValue) -> Option<Position> {
    #[derive(Deserialize)]
    struct Ours {
        bucket: String,
        key: String,
        record: u64,
    }
    let ours: Ours = serde_json::from_str(ours.get()).ok()?;
    Some(Position { bucket: ours.bucket, key: ours.key, index: ours.record })
}

fn wrapped(value: &RawValue) -> Option<String> {
    let event: String = serde_json::from_str(value.get()).ok()?;
    event.trim_start().starts_with('{').then_some(event)
}

/// The top-level keys of an object with their values as they stand.
pub(crate) struct Members<'a>(pub(crate) Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Members<'a> {
    /// The value of a key; the last one where it stands twice.
    pub(crate) fn last(&self, key: &str) -> Option<&'a RawValue> {
        self.0.iter().rev().find(|(name, _)| name == key).map(|(_, value)| *value)
    }

    fn event_id(&self) -> Option<String> {
        let value = self.last("eventID").or_else(|| self.last("eventId"))?;
        serde_json::from_str(value.get()).ok().filter(|id: &String| !id.trim().is_empty())
    }
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Key<'a>(#[serde(borrow)] Cow<'a, str>);
        struct Members_;
        impl<'de> Visitor<'de> for Members_ {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(Key(key)) = map.next_key()? {
                    members.push((key, map.next_value::<&RawValue>()?));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Members_).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const OURS: &str =
        r#""trailship":{"actor":{"class":"principal"},"bucket":"b","key":"k/\u0061","record":7}"#;
    const BOTH: Additions = Additions { keys: &["@timestamp"], wrappers: &["event_original"] };

    #[track_caller]
    fn check(event: &str, document: &str) {
        assert_eq!(BOTH.read(document.as_bytes()).hash, ContentHash::of(event.as_bytes()), "{document}");
    }

    #[test]
    fn what_was_added_is_cut_off_byte_for_byte() {
        for event in
            [r#"{"a":1}"#, r#"{ "a" : [1, {"b":"}"}] }"#, "{}", "{ }", r#"{"trailship":{"actor":1}}"#]
        {
            let body = &event[..event.len() - 1];
            let comma = if event.contains(':') { "," } else { "" };
            check(event, event);
            check(event, &format!("{body}{comma}{OURS}}}"));
            check(event, &format!("{body}{comma}\"@timestamp\":\"x\",{OURS}}}"));
            check(event, &format!("{body}{comma}{OURS},\"@timestamp\":\"x\"}}"));
        }
    }

    #[test]
    fn what_is_not_ours_stays() {
        check(r#"{"@timestamp":1,"a":1}"#, &format!(r#"{{"@timestamp":1,"a":1,{OURS}}}"#));
        check(r#"{"a":1,"@timestamp":1}"#, r#"{"a":1,"@timestamp":1,"@timestamp":2}"#);
        check(r#"{"a":1,"trailship":{"record":1}}"#, r#"{"a":1,"trailship":{"record":1}}"#);
        check("not json", "not json");
        check(r#"{"a":1,"timestamp":1}"#, r#"{"a":1,"timestamp":1}"#);
    }

    #[test]
    fn a_changed_byte_changes_the_hash() {
        let document = format!(r#"{{"a":2,{OURS}}}"#);
        assert_ne!(BOTH.read(document.as_bytes()).hash, ContentHash::of(br#"{"a":1}"#));
        assert_eq!(ContentHash::of(b"").to_string(), "e3b0c44298fc1c149afbf4c8996fb924");
        assert_eq!(ContentHash::from_hex("e3b0c44298fc1c149afbf4c8996fb92427ae"), Some(ContentHash::of(b"")));
    }

    #[test]
    fn identity_is_read_from_the_event_and_from_what_was_added() {
        let seen = BOTH.read(format!(r#"{{"eventID":"e-1","x":"\u00e9",{OURS}}}"#).as_bytes());
        assert_eq!(seen.event_id.as_deref(), Some("e-1"));
        assert_eq!(seen.position.unwrap().to_string(), "s3://b/k/a#7");
        let seen = BOTH.read(br#"{"eventId":"e-2"}"#);
        assert_eq!((seen.event_id.as_deref(), seen.position), (Some("e-2"), None));
        assert_eq!(BOTH.read(br#"{"eventID":" "}"#).event_id, None);
    }

    #[test]
    fn an_event_inside_a_string_is_unwrapped() {
        let event = "{\"eventID\":\"e\",\"t\":\"a\\\"b\\\\n\u{e9}\"}";
        let text = serde_json::to_string(event).unwrap();
        let seen = BOTH.read(format!(r#"{{"@timestamp":"x","event_original":{text},{OURS}}}"#).as_bytes());
        assert_eq!((seen.hash, seen.event_id.as_deref()), (ContentHash::of(event.as_bytes()), Some("e")));
        assert_eq!(seen.position.unwrap().index, 7);
    }
}
