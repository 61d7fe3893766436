//! Reads typed values out of the tree; every error knows its key and its place, and unknown keys are collected.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    self, Deserialize as _, DeserializeOwned, DeserializeSeed, Deserializer, Expected, IntoDeserializer,
    MapAccess, SeqAccess, Unexpected, Visitor,
};
use serde::forward_to_deserialize_any;

use super::problem::{Location, Problem, nearest, unknown_key};
use super::remote::{FoundSecret, RawRemote, SecretSource, SecretTexts};
use super::tree::{Node, Value, is_secret_key};

/// What reading has found so far.
#[derive(Debug, Default)]
pub(super) struct Reader {
    problems: RefCell<Vec<Problem>>,
    /// Every table that was read as a struct: its path, and the keys that the struct knows.
    known: RefCell<Vec<(String, Vec<&'static str>)>>,
    /// What AWS keeps, as far as it was read.
    texts: SecretTexts,
    /// The secrets that do not stand in the document.
    found: RefCell<Vec<FoundSecret>>,
    /// Where secrets were read, wherever they are kept: by their type, whatever the key is called.
    secrets: RefCell<BTreeSet<String>>,
}

impl Reader {
    /// A reader that knows what AWS keeps.
    pub(super) fn with_texts(texts: SecretTexts) -> Self {
        Self { texts, ..Self::default() }
    }

    /// What AWS keeps, as far as it was read.
    pub(super) fn texts(&self) -> &SecretTexts {
        &self.texts
    }

    /// The secrets so far that do not stand in the document.
    pub(super) fn found(&self) -> Vec<FoundSecret> {
        self.found.borrow().clone()
    }

    /// Whether a secret was read at a path, or in a table that stands there.
    pub(super) fn is_secret(&self, path: &str) -> bool {
        self.secrets.borrow().contains(path)
    }

    /// Reads `node`, which stands at `path`; `None` if it could not be (then the problem is noted).
    pub(super) fn read<T: DeserializeOwned>(&self, node: &Node, path: &str) -> Option<T> {
        self.read_beside(node, path, &[])
    }

    /// The same for a table that others have read a part of: `beside` are the keys of that part, which help
    /// to say what an unknown key was meant to be.
    pub(super) fn read_beside<T: DeserializeOwned>(
        &self,
        node: &Node,
        path: &str,
        beside: &[&'static str],
    ) -> Option<T> {
        T::deserialize(self.deserializer(node, path, beside)).map_err(|error| self.failed(error)).ok()
    }

    /// What deserializes the table at `path`.
    pub(super) fn deserializer<'a>(
        &'a self,
        node: &'a Node,
        path: &str,
        beside: &'a [&'static str],
    ) -> NodeDeserializer<'a> {
        NodeDeserializer { node, path: path.to_owned(), reader: self, beside }
    }

    /// Notes why deserializing failed.
    pub(super) fn failed(&self, error: DeError) {
        self.problems.borrow_mut().push(error.into_problem());
    }

    /// Notes a problem at a node.
    pub(super) fn problem(&self, node: &Node, path: &str, message: &str) {
        self.problems.borrow_mut().push(problem_at(node, path, message.to_owned()));
    }

    /// What was found.
    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems.into_inner()
    }

    /// The tables that were read as structs, with the keys that each knows.
    #[cfg(test)]
    pub(super) fn known(&self) -> Vec<(String, Vec<&'static str>)> {
        self.known.borrow().clone()
    }
}

/// A problem at a node; the text of a secret node is taken out of the message.
pub(super) fn problem_at(node: &Node, path: &str, message: String) -> Problem {
    let keys: Vec<String> = path.split('.').map(str::to_owned).collect();
    let hidden = node.secret || is_secret_key(&keys);
    let text = node.as_str().filter(|text| hidden && !text.is_empty());
    let message = text.map_or(message.clone(), |text| message.replace(text, "***"));
    Problem { at: node.at.clone(), key: path.to_owned(), message }
}

/// Why a value could not be read.
#[derive(Debug)]
pub(super) struct DeError {
    message: String,
    /// What was found instead of what was expected: left out where the value is a secret.
    found: Option<String>,
    place: Option<(String, Option<Location>)>,
}

impl DeError {
    fn new(message: String, found: Option<String>) -> Self {
        Self { message, found, place: None }
    }

    /// Says where, unless it was said by what lies further in.
    fn locate(mut self, node: &Node, path: &str) -> Self {
        if self.place.is_none() {
            let keys: Vec<String> = path.split('.').map(str::to_owned).collect();
            if node.secret || is_secret_key(&keys) {
                self.found = None;
            }
            let located = problem_at(node, path, self.message);
            self.message = located.message;
            self.place = Some((located.key, located.at));
        }
        self
    }

    fn into_problem(self) -> Problem {
        let message = match &self.found {
            Some(found) => format!("{}, found {found}", self.message),
            None => self.message,
        };
        let (key, at) = self.place.unwrap_or_default();
        Problem { at, key, message }
    }
}

impl fmt::Display for DeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for DeError {}

impl de::Error for DeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(message.to_string(), None)
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(format!("expected {}", plain(expected)), Some(describe(&found)))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let list = expected.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
        let meant = nearest(variant, expected.iter().copied());
        let hint = meant.map_or_else(String::new, |meant| format!(" (did you mean \"{meant}\"?)"));
        Self::new(format!("expected one of {list}{hint}"), Some(format!("\"{variant}\"")))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::new(format!("\"{field}\": {}", unknown_key(field, expected)), None)
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(format!("the key \"{field}\" is missing: it has no default"), None)
    }
}

/// Rust's names of types in words.
fn plain(expected: &dyn Expected) -> String {
    let text = expected.to_string();
    match text.as_str() {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number that is not negative".to_owned(),
        "i64" => "a whole number".to_owned(),
        "a sequence" => "an array".to_owned(),
        "a map" => "a table".to_owned(),
        text => text.strip_prefix("struct ").map_or_else(|| text.to_owned(), |_| "a table".to_owned()),
    }
}

fn describe(found: &Unexpected<'_>) -> String {
    match found {
        Unexpected::Str(text) => format!("\"{text}\""),
        Unexpected::Signed(number) => number.to_string(),
        Unexpected::Unsigned(number) => number.to_string(),
        Unexpected::Float(number) => number.to_string(),
        Unexpected::Bool(value) => value.to_string(),
        Unexpected::Seq => "an array".to_owned(),
        Unexpected::Map => "a table".to_owned(),
        other => other.to_string(),
    }
}

/// Deserializes one node.
#[derive(Clone)]
pub(super) struct NodeDeserializer<'a> {
    node: &'a Node,
    path: String,
    reader: &'a Reader,
    beside: &'a [&'static str],
}

impl<'a> NodeDeserializer<'a> {
    fn inner(&self, key: &str, node: &'a Node) -> Self {
        let path = if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) };
        Self { node, path, reader: self.reader, beside: &[] }
    }

    /// A secret: one that AWS keeps is what was read of it, or a unit where it was not read.
    fn secret<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        self.reader.secrets.borrow_mut().insert(self.path.clone());
        let note = |source, is_read| {
            let path = self.path.clone();
            self.reader.found.borrow_mut().push(FoundSecret { path, source, is_read });
        };
        if self.node.get("file").is_some() {
            note(SecretSource::File, true);
        }
        if !RawRemote::MARKS.iter().any(|mark| self.node.get(mark).is_some()) {
            return visitor.visit_newtype_struct(self);
        }
        let located = |error: DeError| error.locate(self.node, &self.path);
        let raw = RawRemote::deserialize(self.clone())?;
        let remote = raw.check().map_err(|message| located(DeError::new(message.to_owned(), None)))?;
        let text = self.reader.texts.get(&remote);
        note(SecretSource::Remote(remote.clone()), text.is_some());
        match text {
            None => visitor.visit_unit(),
            Some(text) => visitor.visit_str(text).map_err(|error: DeError| {
                located(DeError::new(format!("{remote}: {}", error.message), None))
            }),
        }
    }

    /// Whether the struct knows the key; notes it as a problem otherwise.
    fn knows(&self, key: &str, node: &Node, fields: &[&'static str]) -> bool {
        if fields.contains(&key) {
            return true;
        }
        let known: Vec<&str> = fields.iter().chain(self.beside).copied().collect();
        let inner = self.inner(key, self.node);
        let at = node.at.clone();
        let message = unknown_key(key, &known);
        self.reader.problems.borrow_mut().push(Problem { at, key: inner.path, message });
        false
    }
}

impl<'de> Deserializer<'de> for NodeDeserializer<'_> {
    type Error = DeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        let result = match &self.node.value {
            Value::String(text) => visitor.visit_str(text),
            Value::Integer(number) => visitor.visit_i64(*number),
            Value::Float(number) => visitor.visit_f64(*number),
            Value::Boolean(value) => visitor.visit_bool(*value),
            Value::Datetime(_) => Err(de::Error::invalid_type(Unexpected::Other("a date"), &visitor)),
            Value::Array(items) => visitor.visit_seq(Items { of: &self, items: items.iter().enumerate() }),
            Value::Table(table) => {
                let entries: Vec<_> = table.iter().collect();
                visitor.visit_map(Entries { of: &self, entries: entries.into_iter(), value: None })
            }
        };
        result.map_err(|error| error.locate(self.node, &self.path))
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        match self.node.as_str() {
            Some(text) => {
                visitor.visit_str(text).map_err(|error: DeError| error.locate(self.node, &self.path))
            }
            None => self.deserialize_any(visitor),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DeError> {
        if name == sinks::Secret::NAME {
            return self.secret(visitor);
        }
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DeError> {
        let _ = (name, variants);
        let Some(text) = self.node.as_str() else {
            let found = self.node.value.kind().to_owned();
            let error = DeError::new("expected a string".to_owned(), Some(found));
            return Err(error.locate(self.node, &self.path));
        };
        let text: StrDeserializer<'_, DeError> = text.into_deserializer();
        visitor.visit_enum(text).map_err(|error| error.locate(self.node, &self.path))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DeError> {
        let Some(table) = self.node.as_table() else { return self.deserialize_any(visitor) };
        self.reader.known.borrow_mut().push((self.path.clone(), fields.to_vec()));
        let entries: Vec<_> = table.iter().filter(|(key, node)| self.knows(key, node, fields)).collect();
        visitor
            .visit_map(Entries { of: &self, entries: entries.into_iter(), value: None })
            .map_err(|error| error.locate(self.node, &self.path))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct seq tuple
        tuple_struct map ignored_any
    }
}

struct Items<'d, 'a> {
    of: &'d NodeDeserializer<'a>,
    items: std::iter::Enumerate<std::slice::Iter<'a, Node>>,
}

impl<'de> SeqAccess<'de> for Items<'_, '_> {
    type Error = DeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, DeError> {
        let Some((index, node)) = self.items.next() else { return Ok(None) };
        seed.deserialize(self.of.inner(&index.to_string(), node)).map(Some)
    }
}

struct Entries<'d, 'a> {
    of: &'d NodeDeserializer<'a>,
    entries: std::vec::IntoIter<(&'a String, &'a Node)>,
    value: Option<(&'a String, &'a Node)>,
}

impl<'de> MapAccess<'de> for Entries<'_, '_> {
    type Error = DeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, DeError> {
        self.value = self.entries.next();
        let Some((key, _)) = self.value else { return Ok(None) };
        let key: StrDeserializer<'_, DeError> = key.as_str().into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, DeError> {
        let Some((key, node)) = self.value.take() else { return Err(de::Error::custom("no value")) };
        seed.deserialize(self.of.inner(key, node))
            .map_err(|error| error.locate(node, &self.of.inner(key, node).path))
    }
}

/// The keys of a struct, as its derived `Deserialize` names them.
pub(super) fn keys_of<T: DeserializeOwned>() -> Vec<&'static str> {
    let reader = Reader::default();
    let nothing = Node::table();
    // Missing keys make this fail, but only after the struct has named the keys that it knows.
    let _ = T::deserialize(reader.deserializer(&nothing, "", &[]));
    reader.known.into_inner().into_iter().next().map(|(_, keys)| keys).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, dead_code)]
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::super::tree::parse;
    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        name: String,
        #[serde(default)]
        count: Option<u32>,
        #[serde(default)]
        inner: Option<Inner>,
        #[serde(default)]
        list: Vec<Inner>,
        #[serde(default)]
        map: BTreeMap<String, String>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        kind: Kind,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "snake_case")]
    enum Kind {
        Alpha,
        BetaGamma,
    }

    #[track_caller]
    fn check(document: &str, expected: &[&str]) {
        let tree = parse(&"t".into(), document).unwrap();
        let reader = Reader::default();
        let read: Option<Outer> = reader.read_beside(&tree, "o", &["compression"]);
        let texts: Vec<_> = reader.into_problems().iter().map(ToString::to_string).collect();
        assert_eq!(texts, expected);
        let only_unknown = expected.iter().all(|text| text.contains("unknown key"));
        assert_eq!(read.is_some(), only_unknown);
    }

    #[test]
    fn a_good_document_is_read() {
        check(
            "name = \"n\"\ncount = 3\nlist = [{ kind = \"alpha\" }]\nmap = { a = \"b\" }\n[inner]\nkind = \"beta_gamma\"",
            &[],
        );
    }

    #[test]
    fn every_unknown_key_is_told_with_the_one_that_was_meant() {
        check(
            "name = \"n\"\ncuont = 3\nzzz = 1\ncompresion = 2\n[inner]\nkind = \"alpha\"\nkinds = 1",
            &[
                "t:4: o.compresion: unknown key; did you mean \"compression\"?",
                "t:2: o.cuont: unknown key; did you mean \"count\"?",
                "t:3: o.zzz: unknown key; known here: name, count, inner, list, map, compression",
                "t:7: o.inner.kinds: unknown key; did you mean \"kind\"?",
            ],
        );
    }

    #[test]
    fn a_wrong_type_is_told_at_its_key() {
        check("name = 5", &["t:1: o.name: expected a string, found 5"]);
        check(
            "name = \"\"\ncount = -1",
            &["t:2: o.count: expected a whole number that is not negative, found -1"],
        );
        check(
            "name = \"\"\ncount = \"x\"",
            &["t:2: o.count: expected a whole number that is not negative, found \"x\""],
        );
        check("name = \"\"\ninner = 1", &["t:2: o.inner: expected a table, found 1"]);
        check("name = \"\"\nlist = {}", &["t:2: o.list: expected an array, found a table"]);
        check("name = 2020-01-01", &["t:1: o.name: expected a string, found a date"]);
        check("name = \"\"\nmap = { a = 1 }", &["t:2: o.map.a: expected a string, found 1"]);
    }

    #[test]
    fn a_missing_key_is_told_at_its_table() {
        check("\ncount = 1", &["o: the key \"name\" is missing: it has no default"]);
        check("name = \"\"\n[inner]", &["t:2: o.inner: the key \"kind\" is missing: it has no default"]);
    }

    #[test]
    fn an_unknown_word_is_told_with_the_known_ones() {
        check(
            "name = \"\"\nlist = [{ kind = \"alpha\" }, { kind = \"alhpa\" }]",
            &[
                "t:2: o.list.1.kind: expected one of \"alpha\", \"beta_gamma\" (did you mean \"alpha\"?), found \"alhpa\"",
            ],
        );
    }

    #[test]
    fn a_secret_is_not_shown_by_an_error() {
        let mut tree = parse(&"t".into(), "name = \"n\"\ncount = \"hunter2\"").unwrap();
        tree.visit_mut(&mut Vec::new(), &mut |_, node| node.secret = true);
        let reader = Reader::default();
        assert_eq!(reader.read::<Outer>(&tree, ""), None);
        let text = reader.into_problems().first().unwrap().to_string();
        assert_eq!(text, "t:2: count: expected a whole number that is not negative");
    }

    #[test]
    fn a_number_from_an_overlay_is_a_string_where_one_is_wanted() {
        let mut tree = Node::table();
        let variables = [("TRAILSHIP__NAME".to_owned(), "123".to_owned())].into();
        super::super::overlay::apply(&mut tree, &variables);
        let reader = Reader::default();
        assert_eq!(reader.read::<Outer>(&tree, "").unwrap().name, "123");
    }

    #[test]
    fn a_struct_names_its_keys() {
        assert_eq!(keys_of::<Outer>(), ["name", "count", "inner", "list", "map"]);
    }
}
