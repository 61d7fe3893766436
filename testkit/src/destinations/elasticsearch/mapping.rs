//! Whether a mapping takes a document: the errors that real CloudTrail events run into.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::de::DeserializeSeed;
use serde_json::{Map, Value, json};

use super::Flavour;
use super::answers::Wrong;
use super::strict::Strict;

/// Lucene's limit for one term, in bytes.
const TERM_BYTES_MAX: usize = 32_766;
/// `depth_limit` of a flattened field.
const FLATTENED_DEPTH_MAX: usize = 20;

/// A document's mapping, and what is known about the names of its documents.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Mapping {
    pub(super) properties: Map<String, Value>,
    pub(super) dynamic: Dynamic,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Dynamic {
    #[default]
    Ignored,
    Learned,
    Strict,
}

/// The four objects whose structure is each service's own.
const FREE_FORM: [&str; 4] =
    ["requestParameters", "responseElements", "additionalEventData", "serviceEventDetails"];

impl Mapping {
    /// What applies where no template does: the free-form objects are flattened, all else is ignored.
    pub(super) fn built_in(flavour: Flavour) -> Self {
        let kind = match flavour {
            Flavour::Elasticsearch => "flattened",
            Flavour::OpenSearch => "flat_object",
        };
        let field = json!({ "type": kind, "ignore_above": 8191 });
        Self {
            properties: FREE_FORM.iter().map(|name| ((*name).to_owned(), field.clone())).collect(),
            dynamic: Dynamic::Ignored,
        }
    }

    pub(super) fn from_json(mappings: &Value) -> Self {
        let dynamic = match mappings.get("dynamic") {
            Some(Value::String(text)) if text == "strict" => Dynamic::Strict,
            Some(Value::Bool(false)) => Dynamic::Ignored,
            Some(Value::String(text)) if text == "false" => Dynamic::Ignored,
            _ => Dynamic::Learned,
        };
        let properties = mappings.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
        Self { properties, dynamic }
    }
}

/// What an index has learned from the documents it stored, where its mapping is dynamic: the paths of objects and
/// of values.
#[derive(Debug, Default)]
pub(super) struct Learned(BTreeMap<String, bool>);

/// `index.mapping.total_fields.limit`.
const FIELDS_MAX: usize = 1000;

/// Judges one document.
pub(super) struct Check<'a> {
    pub(super) flavour: Flavour,
    pub(super) id: &'a str,
    pub(super) mapping: &'a Mapping,
}

impl Check<'_> {
    /// Reads a document: any JSON object whose keys do not stand twice.
    pub(super) fn parse(&self, source: &[u8]) -> Result<Map<String, Value>, Wrong> {
        let mut reader = serde_json::Deserializer::from_slice(source);
        let parsed = Strict.deserialize(&mut reader).and_then(|value| reader.end().map(|()| value));
        match parsed {
            Ok(Value::Object(document)) => Ok(document),
            Ok(_) => Err(self.wrong("failed to parse").with_cause("not an object")),
            Err(e) => Err(self.wrong("failed to parse").with_cause(e.to_string())),
        }
    }

    /// Whether the mapping takes the document; learns from it if so.
    pub(super) fn take(&self, document: &Map<String, Value>, learned: &mut Learned) -> Result<(), Wrong> {
        self.object("", document, &self.mapping.properties)?;
        if self.mapping.dynamic == Dynamic::Learned {
            let mut news = BTreeMap::new();
            self.learn("", document, &self.mapping.properties, learned, &mut news)?;
            if learned.0.len() + news.len() > FIELDS_MAX {
                let reason = format!(
                    "Limit of total fields [{FIELDS_MAX}] has been exceeded while adding new fields [{}]",
                    news.len()
                );
                return Err(Wrong::new(400, "illegal_argument_exception", reason));
            }
            learned.0.extend(news);
        }
        Ok(())
    }

    /// An error of parsing, as this flavour words it.
    pub(super) fn wrong(&self, reason: &str) -> Wrong {
        match self.flavour {
            Flavour::Elasticsearch => {
                Wrong::new(400, "document_parsing_exception", format!("[1:1] {reason}"))
            }
            Flavour::OpenSearch => Wrong::new(400, "mapper_parsing_exception", reason),
        }
    }

    fn field_wrong(&self, path: &str, kind: &str, value: &Value) -> Wrong {
        let preview: String = match value {
            Value::String(text) => text.chars().take(100).collect(),
            other => other.to_string().chars().take(100).collect(),
        };
        self.wrong(&format!(
            "failed to parse field [{path}] of type [{kind}] in document with id '{}'. Preview of field's value: '{preview}'",
            self.id
        ))
    }

    fn object(
        &self,
        parent: &str,
        object: &Map<String, Value>,
        properties: &Map<String, Value>,
    ) -> Result<(), Wrong> {
        for (key, value) in object {
            let path = join(parent, key);
            match properties.get(key) {
                Some(field) => self.field(&path, value, field)?,
                None if parent.is_empty() && self.mapping.dynamic == Dynamic::Strict => {
                    let reason = format!(
                        "mapping set to strict, dynamic introduction of [{key}] within [_doc] is not allowed"
                    );
                    return Err(Wrong::new(400, "strict_dynamic_mapping_exception", reason));
                }
                None => {}
            }
        }
        Ok(())
    }

    fn field(&self, path: &str, value: &Value, field: &Value) -> Result<(), Wrong> {
        if let Value::Array(values) = value {
            return values.iter().try_for_each(|value| self.field(path, value, field));
        }
        if value.is_null() || field["enabled"] == Value::Bool(false) {
            return Ok(());
        }
        let kind = field["type"].as_str().unwrap_or("object");
        let lenient = field["ignore_malformed"] == Value::Bool(true);
        let taken = match (kind, value) {
            ("object" | "nested", Value::Object(object)) => {
                let empty = Map::new();
                return self.object(path, object, field["properties"].as_object().unwrap_or(&empty));
            }
            ("object" | "nested", _) => {
                return Err(self.wrong(&format!(
                    "object mapping for [{path}] tried to parse field [{path}] as object, but found a concrete value"
                )));
            }
            ("flattened" | "flat_object", Value::Object(_)) => return self.flattened(path, value, field),
            ("flattened" | "flat_object", _) => false,
            // What follows are values: ignore_malformed does not help where there is an object.
            (_, Value::Object(_)) => false,
            ("keyword", Value::String(text)) => return keyword(path, text, field),
            ("date", Value::String(text)) => lenient || is_date(text),
            ("ip", Value::String(text)) => lenient || text.parse::<IpAddr>().is_ok(),
            ("boolean", Value::String(text)) => lenient || ["true", "false", ""].contains(&text.as_str()),
            ("boolean", Value::Bool(_)) => true,
            ("boolean", _) => lenient,
            ("long" | "integer" | "short" | "byte" | "double" | "float", Value::String(text)) => {
                lenient || text.parse::<f64>().is_ok()
            }
            ("long" | "integer" | "short" | "byte" | "double" | "float", Value::Bool(_)) => lenient,
            _ => true,
        };
        if taken { Ok(()) } else { Err(self.field_wrong(path, kind, value)) }
    }

    fn flattened(&self, path: &str, value: &Value, field: &Value) -> Result<(), Wrong> {
        if self.flavour == Flavour::OpenSearch {
            return flat_object_leaves(path, path, value);
        }
        let above = field["ignore_above"].as_u64().map_or(usize::MAX, |above| above as usize);
        flattened_leaves(path, "", value, above, 1)
    }

    fn learn(
        &self,
        parent: &str,
        object: &Map<String, Value>,
        properties: &Map<String, Value>,
        learned: &Learned,
        news: &mut BTreeMap<String, bool>,
    ) -> Result<(), Wrong> {
        for (key, value) in object {
            let path = join(parent, key);
            if properties.contains_key(key) {
                continue;
            }
            let values = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
            for value in values.iter().filter(|value| !value.is_null()) {
                let known = learned.0.get(&path).or_else(|| news.get(&path)).copied();
                match (value, known) {
                    (Value::Object(_), Some(false)) => return Err(self.field_wrong(&path, "text", value)),
                    (Value::Object(below), _) => {
                        news.insert(path.clone(), true);
                        self.learn(&path, below, &Map::new(), learned, news)?;
                    }
                    (_, Some(true)) => {
                        return Err(self.wrong(&format!(
                            "object mapping for [{path}] tried to parse field [{path}] as object, but found a concrete value"
                        )));
                    }
                    _ => {
                        news.insert(path.clone(), false);
                    }
                }
            }
        }
        news.retain(|path, _| !learned.0.contains_key(path));
        Ok(())
    }
}

fn join(parent: &str, key: &str) -> String {
    if parent.is_empty() { key.to_owned() } else { format!("{parent}.{key}") }
}

fn keyword(path: &str, text: &str, field: &Value) -> Result<(), Wrong> {
    let ignored = field["ignore_above"].as_u64().is_some_and(|above| text.chars().count() as u64 > above);
    if ignored || text.len() <= TERM_BYTES_MAX || field["index"] == Value::Bool(false) {
        return Ok(());
    }
    Err(immense(path))
}

fn immense(field: &str) -> Wrong {
    let reason = format!(
        "Document contains at least one immense term in field=\"{field}\" (whose UTF8 encoding is longer than the max length {TERM_BYTES_MAX}), all of which were skipped."
    );
    Wrong::new(400, "illegal_argument_exception", reason)
}

/// As OpenSearch 2.19 has it: a term for each value, and one for each path with its value; there is no limit that one
/// could set.
fn flat_object_leaves(field: &str, path: &str, value: &Value) -> Result<(), Wrong> {
    let text = match value {
        Value::Object(object) => {
            return object
                .iter()
                .try_for_each(|(key, value)| flat_object_leaves(field, &join(path, key), value));
        }
        Value::Array(values) => {
            return values.iter().try_for_each(|value| flat_object_leaves(field, path, value));
        }
        Value::Null => return Ok(()),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    if text.len() > TERM_BYTES_MAX {
        return Err(immense(&format!("{field}._value")));
    }
    if path.len() + 1 + text.len() > TERM_BYTES_MAX {
        return Err(immense(&format!("{field}._valueAndPath")));
    }
    Ok(())
}

fn flattened_leaves(field: &str, path: &str, value: &Value, above: usize, depth: usize) -> Result<(), Wrong> {
    match value {
        Value::Object(object) if depth > FLATTENED_DEPTH_MAX && !object.is_empty() => {
            let reason =
                format!("The provided [flattened] field [{field}] exceeds the maximum depth limit of [20].");
            Err(Wrong::new(400, "illegal_argument_exception", reason))
        }
        Value::Object(object) => object
            .iter()
            .try_for_each(|(key, value)| flattened_leaves(field, &join(path, key), value, above, depth + 1)),
        Value::Array(values) => {
            values.iter().try_for_each(|value| flattened_leaves(field, path, value, above, depth))
        }
        Value::String(text)
            if text.chars().count() <= above && path.len() + 1 + text.len() > TERM_BYTES_MAX =>
        {
            let reason = format!(
                "Flattened field [{field}] contains one immense field whose keyed encoding is longer than the allowed max length of {TERM_BYTES_MAX} bytes. Key length: {}, value length: {}",
                path.len(),
                text.len()
            );
            Err(Wrong::new(400, "illegal_argument_exception", reason))
        }
        _ => Ok(()),
    }
}

/// `strict_date_optional_time` as far as CloudTrail needs it, or milliseconds.
fn is_date(text: &str) -> bool {
    let digits = |part: &str, len: usize| part.len() == len && part.bytes().all(|byte| byte.is_ascii_digit());
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return true;
    }
    let (date, time) = text.split_once('T').map_or((text, None), |(date, time)| (date, Some(time)));
    let parts: Vec<&str> = date.split('-').collect();
    let [year, month, day] = parts[..] else { return false };
    if !(digits(year, 4) && digits(month, 2) && digits(day, 2) && month <= "12" && day <= "31") {
        return false;
    }
    let Some(time) = time else { return true };
    let time = time.trim_end_matches('Z');
    let (time, _zone) = time.split_once('+').unwrap_or((time, ""));
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let parts: Vec<&str> = time.split(':').collect();
    let in_range =
        parts.first().is_some_and(|hour| *hour <= "23") && parts.iter().skip(1).all(|part| *part <= "59");
    (1..=3).contains(&parts.len())
        && parts.iter().all(|part| digits(part, 2))
        && in_range
        && fraction.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn take(mapping: &Mapping, flavour: Flavour, learned: &mut Learned, document: &str) -> Result<(), Wrong> {
        let check = Check { flavour, id: "id-1", mapping };
        check.parse(document.as_bytes()).and_then(|document| check.take(&document, learned))
    }

    /// The kind of the error, or nothing.
    fn kind(mappings: Value, document: &str) -> Option<&'static str> {
        let mapping = Mapping::from_json(&mappings);
        take(&mapping, Flavour::Elasticsearch, &mut Learned::default(), document)
            .err()
            .map(|wrong| wrong.kind)
    }

    #[test]
    fn a_string_where_an_object_belongs_is_refused_by_name() {
        for (flavour, kind, field) in [
            (Flavour::Elasticsearch, "document_parsing_exception", "flattened"),
            (Flavour::OpenSearch, "mapper_parsing_exception", "flat_object"),
        ] {
            let mapping = Mapping::built_in(flavour);
            let check = |document: &str| take(&mapping, flavour, &mut Learned::default(), document);
            let wrong = check(r#"{"requestParameters":"a string"}"#).unwrap_err();
            assert_eq!((wrong.status, wrong.kind), (400, kind));
            assert!(
                wrong.reason.contains(&format!(
                    "failed to parse field [requestParameters] of type [{field}] in document with id 'id-1'"
                )),
                "{}",
                wrong.reason
            );
            assert!(check(r#"{"responseElements":[{"a":1},"x"]}"#).is_err());
            for good in [
                r#"{"requestParameters":{"a":{"b":[1]}}}"#,
                r#"{"requestParameters":null}"#,
                r#"{"responseElements":[{"a":1}]}"#,
                r#"{"anything":"else","at":{"any":"depth"}}"#,
            ] {
                assert_eq!(check(good), Ok(()), "{good}");
            }
        }
    }

    #[test]
    fn what_is_no_object_or_has_a_key_twice_is_refused() {
        let document_kind = |document: &str| kind(json!({"dynamic": false}), document);
        for bad in ["", "{", "[]", "1", r#"{"a":1} x"#, r#"{"a":1,"a":2}"#, r#"{"b":{"a":1,"\u0061":2}}"#] {
            assert_eq!(document_kind(bad), Some("document_parsing_exception"), "{bad}");
        }
        assert_eq!(document_kind(r#"{"a":{"a":[{"a":1},{"a":2.5}]},"b":-1}"#), None);
    }

    #[test]
    fn values_are_held_against_their_types() {
        let field = |field: Value| json!({"dynamic": false, "properties": {"a": field}});
        let refused = Some("document_parsing_exception");
        for (kind_, good, bad) in [
            ("date", r#""2026-01-02T03:04:05Z""#, r#""yesterday""#),
            ("date", r#""2026-01-02""#, r#""2026-13-02""#),
            ("date", "1700000000000", "{}"),
            ("ip", r#""10.0.0.1""#, r#""cloudformation.amazonaws.com""#),
            ("boolean", r#""true""#, r#""yes""#),
            ("long", r#""12""#, r#""twelve""#),
            ("keyword", "12", r#"{"x":1}"#),
            ("object", "{}", "1"),
        ] {
            let mapping = || field(json!({ "type": kind_ }));
            assert_eq!(kind(mapping(), &format!("{{\"a\":{good}}}")), None, "{kind_} {good}");
            assert_eq!(kind(mapping(), &format!("{{\"a\":{bad}}}")), refused, "{kind_} {bad}");
        }
        let lenient = field(json!({"type": "ip", "ignore_malformed": true}));
        assert_eq!(kind(lenient.clone(), r#"{"a":"x"}"#), None);
        assert_eq!(kind(lenient, r#"{"a":{"x":1}}"#), refused);
        let nested = field(json!({"properties": {"b": {"type": "ip"}}}));
        assert_eq!(kind(nested, r#"{"a":{"b":"x"}}"#), refused);
        assert_eq!(kind(field(json!({"enabled": false})), r#"{"a":"x"}"#), None);
    }

    #[test]
    fn immense_terms_and_depths_are_refused_unless_they_are_ignored() {
        let long = "x".repeat(32_767);
        let flat = |extra: Value| {
            let mut field = extra;
            field["type"] = "flattened".into();
            json!({"dynamic": false, "properties": {"a": field}})
        };
        let document = format!(r#"{{"a":{{"k":["{long}"]}}}}"#);
        assert_eq!(kind(flat(json!({})), &document), Some("illegal_argument_exception"));
        assert_eq!(kind(flat(json!({"ignore_above": 8191})), &document), None);
        let deep = format!("{{\"a\":{}1{}}}", "{\"b\":".repeat(21), "}".repeat(21));
        assert_eq!(kind(flat(json!({})), &deep), Some("illegal_argument_exception"));
        let keyword = |field: Value| json!({"dynamic": false, "properties": {"a": field}});
        let document = format!(r#"{{"a":"{long}"}}"#);
        assert_eq!(kind(keyword(json!({"type": "keyword"})), &document), Some("illegal_argument_exception"));
        assert_eq!(kind(keyword(json!({"type": "keyword", "ignore_above": 1024})), &document), None);
    }

    #[test]
    fn opensearch_s_flat_object_refuses_a_long_value_and_a_long_key() {
        let mapping = Mapping::built_in(Flavour::OpenSearch);
        let check = |document: &str| take(&mapping, Flavour::OpenSearch, &mut Learned::default(), document);
        let long = "x".repeat(32_767);
        let reason = |document: &str| check(document).unwrap_err().reason;
        assert!(
            reason(&format!(r#"{{"requestParameters":{{"a":["{long}"]}}}}"#))
                .contains("requestParameters._value\"")
        );
        let reason = reason(&format!(r#"{{"requestParameters":{{"{long}":1}}}}"#));
        assert!(reason.contains("requestParameters._valueAndPath\""), "{reason}");
        assert_eq!(check(&format!(r#"{{"requestParameters":{{"a":"{}"}}}}"#, "x".repeat(32_000))), Ok(()));
    }

    #[test]
    fn a_dynamic_mapping_learns_and_then_refuses_what_contradicts_it() {
        let mapping = Mapping::from_json(&json!({}));
        let mut learned = Learned::default();
        let mut check = |document: &str| take(&mapping, Flavour::Elasticsearch, &mut learned, document);
        assert_eq!(check(r#"{"responseElements":{"role":{"arn":"x"},"n":null}}"#), Ok(()));
        assert!(
            check(r#"{"responseElements":{"role":"x"}}"#)
                .unwrap_err()
                .reason
                .contains("[responseElements.role]")
        );
        assert_eq!(check(r#"{"responseElements":{"role":{"other":"x"},"n":1}}"#), Ok(()));
        assert!(check(r#"{"responseElements":{"n":{"x":1}}}"#).is_err());
        let many: Vec<String> = (0..1001).map(|at| format!("\"f{at}\":1")).collect();
        let wrong = check(&format!("{{{}}}", many.join(","))).unwrap_err();
        assert!(wrong.reason.starts_with("Limit of total fields [1000]"), "{}", wrong.reason);
    }

    #[test]
    fn a_strict_mapping_refuses_what_it_does_not_know() {
        let mapping = json!({"dynamic": "strict", "properties": {"a": {"type": "keyword"}}});
        assert_eq!(kind(mapping.clone(), r#"{"a":"x"}"#), None);
        assert_eq!(kind(mapping, r#"{"b":"x"}"#), Some("strict_dynamic_mapping_exception"));
    }
}
