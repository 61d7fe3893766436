//! Makes an event fit: its largest free-form parts become markers, so that what is left is valid JSON and says what
//! is missing.

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::encode::{string_len, write_key, write_string};

/// The parts whose content is the service's own, and may be of any size.
const FREE_FORM: [&str; 5] =
    ["requestParameters", "responseElements", "additionalEventData", "serviceEventDetails", "insightDetails"];

/// What an event is nothing without: never cut.
const KEPT: [&str; 13] = [
    "eventVersion",
    "eventTime",
    "eventSource",
    "eventName",
    "eventType",
    "eventCategory",
    "eventID",
    "awsRegion",
    "sourceIPAddress",
    "recipientAccountId",
    "errorCode",
    "readOnly",
    "userIdentity",
];

/// Parts that are cut one by one before the whole is.
const PARTS_MAX: usize = 16;

/// A smaller value is not worth a marker.
const WORTHWHILE_BYTES: usize = 96;

/// The event in at most `room` bytes; `None` if it does not fit even without all that can be spared.
///
/// `additions` is the object that becomes the value of `trailship`, or empty. The paths of what was cut become its
/// member `shortened`.
pub(super) fn shorten(record: &[u8], additions: &[u8], room: usize) -> Option<Vec<u8>> {
    let record: Object<'_> = serde_json::from_slice(record).ok()?;
    let mut event = Shortened { members: record.0.into_iter().map(Member::new).collect(), additions };
    let parts = event.parts();
    let whole = |names: &dyn Fn(&str) -> bool| event.wholes(names);
    let (free, others) = (
        whole(&|name| FREE_FORM.contains(&name)),
        whole(&|name| !FREE_FORM.contains(&name) && !KEPT.contains(&name)),
    );
    for place in parts.into_iter().chain(free).chain(others) {
        if event.len() <= room {
            break;
        }
        event.cut(place);
    }
    let mut out = Vec::with_capacity(event.len());
    event.write(&mut out);
    (out.len() <= room).then_some(out)
}

/// The members of an object in their order, their values as they stand.
struct Object<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Object<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Object(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

/// A value that stands as it was, or as its marker.
struct Value<'a> {
    key: String,
    raw: &'a str,
    is_cut: bool,
}

impl<'a> Value<'a> {
    fn new((key, raw): (String, &'a RawValue)) -> Self {
        Self { key, raw: raw.get(), is_cut: false }
    }

    /// What stands in the place of the value: of the same kind, so that who expects a text finds one.
    fn marker(&self) -> String {
        let bytes = self.raw.len();
        match self.raw.as_bytes().first() {
            Some(b'{') => format!("{{\"trailship_shortened_bytes\":{bytes}}}"),
            Some(b'[') => format!("[{{\"trailship_shortened_bytes\":{bytes}}}]"),
            _ => format!("\"[shortened by trailship: {bytes} bytes]\""),
        }
    }

    fn value_len(&self) -> usize {
        if self.is_cut { self.marker().len() } else { self.raw.len() }
    }

    fn write(&self, out: &mut Vec<u8>) {
        if self.is_cut {
            out.extend_from_slice(self.marker().as_bytes());
        } else {
            out.extend_from_slice(self.raw.as_bytes());
        }
    }
}

/// A member of the event.
struct Member<'a> {
    value: Value<'a>,
    /// Its own members, of a free-form part that is an object.
    parts: Vec<Value<'a>>,
}

impl<'a> Member<'a> {
    fn new(member: (String, &'a RawValue)) -> Self {
        let is_free = FREE_FORM.contains(&member.0.as_str());
        let parts = is_free.then(|| serde_json::from_str::<Object<'a>>(member.1.get()).ok()).flatten();
        let parts = parts.map_or_else(Vec::new, |object| object.0.into_iter().map(Value::new).collect());
        Self { value: Value::new(member), parts }
    }

    /// Whether it is written part by part.
    fn is_apart(&self) -> bool {
        !self.value.is_cut && self.parts.iter().any(|part| part.is_cut)
    }

    fn len(&self) -> usize {
        let value = if self.is_apart() {
            let parts: usize = self.parts.iter().map(|it| string_len(&it.key) + 1 + it.value_len() + 1).sum();
            parts + 1
        } else {
            self.value.value_len()
        };
        string_len(&self.value.key) + 1 + value + 1
    }

    fn write(&self, out: &mut Vec<u8>) {
        write_key(out, &self.value.key);
        if !self.is_apart() {
            self.value.write(out);
            return;
        }
        out.push(b'{');
        for part in &self.parts {
            write_key(out, &part.key);
            part.write(out);
        }
        out.push(b'}');
    }

    /// The paths of what is cut.
    fn paths(&self) -> Vec<String> {
        let name = &self.value.key;
        if self.value.is_cut {
            return vec![name.clone()];
        }
        let cut = self.parts.iter().filter(|part| part.is_cut);
        cut.map(|part| format!("{name}.{}", part.key)).collect()
    }
}

/// Where a value stands: its member, and which part of it.
type Place = (usize, Option<usize>);

/// An event whose values are cut one by one.
struct Shortened<'a> {
    members: Vec<Member<'a>>,
    additions: &'a [u8],
}

impl Shortened<'_> {
    /// The largest parts of the free-form members.
    fn parts(&self) -> Vec<Place> {
        let mut found = Vec::new();
        for (at, member) in self.members.iter().enumerate() {
            found.extend(member.parts.iter().enumerate().map(|(part, it)| (it.raw.len(), (at, Some(part)))));
        }
        let mut places = largest_first(found);
        places.truncate(PARTS_MAX);
        places
    }

    /// The members of such names, the largest first.
    fn wholes(&self, names: &dyn Fn(&str) -> bool) -> Vec<Place> {
        let members = self.members.iter().enumerate().filter(|(_, member)| names(&member.value.key));
        largest_first(members.map(|(at, member)| (member.value.raw.len(), (at, None))).collect())
    }

    fn cut(&mut self, (at, part): Place) {
        let Some(member) = self.members.get_mut(at) else { return };
        match part {
            None => member.value.is_cut = true,
            Some(part) => member.parts.get_mut(part).into_iter().for_each(|part| part.is_cut = true),
        }
    }

    fn len(&self) -> usize {
        self.members.iter().map(Member::len).sum::<usize>() + 1 + self.tail().len()
    }

    /// `,"trailship":{…}`, or nothing.
    fn tail(&self) -> Vec<u8> {
        let mut out = Vec::new();
        if let Some(before) = self.additions.strip_suffix(b"}") {
            out.extend_from_slice(b",\"trailship\":");
            out.extend_from_slice(before);
            write_key(&mut out, "shortened");
            out.push(b'[');
            for (number, path) in self.members.iter().flat_map(Member::paths).enumerate() {
                if number > 0 {
                    out.push(b',');
                }
                write_string(&mut out, &path);
            }
            out.extend_from_slice(b"]}");
        }
        out
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push(b'{');
        for member in &self.members {
            member.write(out);
        }
        let tail = self.tail();
        // An event that is too long has members: the comma is right.
        out.extend_from_slice(&tail);
        out.push(b'}');
    }
}

fn largest_first(mut found: Vec<(usize, Place)>) -> Vec<Place> {
    found.retain(|(bytes, _)| *bytes >= WORTHWHILE_BYTES);
    found.sort_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
    found.into_iter().map(|(_, place)| place).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;
    use serde_json::{Value as Json, json};

    use super::*;

    fn short(record: &Json, room: usize) -> Option<Json> {
        let out = shorten(record.to_string().as_bytes(), br#"{"record":3}"#, room)?;
        assert!(out.len() <= room);
        Some(serde_json::from_slice(&out).unwrap())
    }

    fn event(more: Json) -> Json {
        let mut event = json!({
            "eventName": "PutRolePolicy",
            "userIdentity": { "type": "Root", "arn": "a".repeat(300) },
            "requestParameters": { "roleName": "r", "policyDocument": "p".repeat(5000) },
            "responseElements": null,
        });
        event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        event
    }

    #[test]
    fn the_largest_part_goes_and_the_rest_stays() {
        let short = short(&event(json!({})), 1000).unwrap();
        let expected = json!({
            "eventName": "PutRolePolicy",
            "userIdentity": { "type": "Root", "arn": "a".repeat(300) },
            "requestParameters": {
                "roleName": "r", "policyDocument": "[shortened by trailship: 5002 bytes]",
            },
            "responseElements": null,
            "trailship": { "record": 3, "shortened": ["requestParameters.policyDocument"] },
        });
        assert_eq!(short, expected);
    }

    #[test]
    fn no_more_is_cut_than_has_to_be() {
        let more = json!({ "responseElements": { "a": "x".repeat(2000), "b": ["y".repeat(1000)] } });
        let cut = |room| short(&event(more.clone()), room).unwrap()["trailship"]["shortened"].clone();
        assert_eq!(cut(8000), json!(["requestParameters.policyDocument"]));
        assert_eq!(cut(2500), json!(["requestParameters.policyDocument", "responseElements.a"]));
        let all = json!(["requestParameters.policyDocument", "responseElements.a", "responseElements.b"]);
        assert_eq!(cut(1000), all);
        let short = short(&event(more), 1000).unwrap();
        assert_eq!(short["responseElements"]["b"], json!([{ "trailship_shortened_bytes": 1004 }]));
    }

    #[test]
    fn many_small_parts_go_as_a_whole() {
        let many: serde_json::Map<String, Json> =
            (0..200).map(|n| (format!("k{n}"), "z".repeat(50).into())).collect();
        let short = short(&event(json!({ "requestParameters": many })), 1000).unwrap();
        assert!(short["requestParameters"]["trailship_shortened_bytes"].as_u64().unwrap() > 10_000);
        assert_eq!(short["trailship"]["shortened"], json!(["requestParameters"]));
    }

    #[test]
    fn a_member_that_nobody_knows_goes_before_the_event_does() {
        let more = json!({ "userAgent": "u".repeat(4000), "requestParameters": null });
        let short = short(&event(more), 1000).unwrap();
        assert_eq!(short["userAgent"], "[shortened by trailship: 4002 bytes]");
        assert_eq!(short["trailship"]["shortened"], json!(["userAgent"]));
    }

    #[test]
    fn what_an_event_is_nothing_without_is_never_cut() {
        assert_eq!(short(&event(json!({ "eventName": "e".repeat(2000) })), 1500), None);
        assert_eq!(shorten(b"[]", b"", 1), None);
    }

    #[test]
    fn without_additions_the_markers_alone_say_so() {
        let out = shorten(event(json!({})).to_string().as_bytes(), b"", 1000).unwrap();
        let short: Json = serde_json::from_slice(&out).unwrap();
        assert_eq!(short.get("trailship"), None);
        assert_eq!(short["requestParameters"]["roleName"], "r");
    }

    #[test]
    fn repeated_keys_and_odd_numbers_stay_as_they_are() {
        let record = format!(
            r#"{{"a":1.0E400,"a":{{"b":1e2}},"requestParameters":{{"x":1.50,"y":"{}"}},"\u0061":"\ud800"}}"#,
            "y".repeat(500)
        );
        let out = String::from_utf8(shorten(record.as_bytes(), b"", 200).unwrap()).unwrap();
        let expected = concat!(
            r#"{"a":1.0E400,"a":{"b":1e2},"requestParameters":{"x":1.50,"#,
            r#""y":"[shortened by trailship: 502 bytes]"},"a":"\ud800"}"#
        );
        assert_eq!(out, expected);
    }

    proptest! {
        #[test]
        fn what_is_shortened_fits_and_is_json_with_the_same_keys(
            keys in proptest::collection::vec(("[a-z\"\\\\é]{1,6}", 0usize..400), 1..30),
            more in proptest::collection::vec(("[a-z]{1,6}", 0usize..400), 0..6),
            room in 1usize..4000,
        ) {
            let object = |members: &[(String, usize)]| -> serde_json::Map<String, Json> {
                members.iter().map(|(key, len)| (key.clone(), "v".repeat(*len).into())).collect()
            };
            let mut record = object(&more);
            record.insert("requestParameters".into(), object(&keys).into());
            let record = Json::from(record);
            if let Some(short) = short(&record, room) {
                let names = |value: &Json| -> Vec<String> {
                    value.as_object().unwrap().keys().filter(|key| *key != "trailship").cloned().collect()
                };
                prop_assert_eq!(names(&short), names(&record));
            }
        }
    }
}
