//! Takes an event apart into columns.

use std::borrow::Cow;
use std::fmt;

use serde::Deserializer as _;
use serde::de::{Deserialize, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::columns::{Columns, Level};
use super::schema::{self, Kind, Node};
use crate::Event;
use crate::destinations::{Additions, CommonSettings};

/// The members of a JSON object, in the order of the text.
type Members<'a> = Vec<(Cow<'a, str>, &'a RawValue)>;

/// Writes rows; one for each event, whatever the event holds.
#[derive(Clone, Debug)]
pub(super) struct Shredder {
    pub(super) common: CommonSettings,
    /// Whether every row holds its record; else only one that cannot be taken apart.
    pub(super) raw: bool,
}

/// The place in a row that is written next.
struct Cursor<'c> {
    columns: &'c mut Columns,
    column: usize,
}

impl Shredder {
    /// Writes the row of an event.
    pub(super) fn write(&self, event: &Event, columns: &mut Columns) {
        let mut at = Cursor { columns, column: 0 };
        let record = std::str::from_utf8(event.bytes()).ok().and_then(members_of);
        at.members(schema::RECORD, record.as_ref(), Level::default());
        at.number(event.time().map(|time| time.millis().saturating_mul(1000)));
        self.write_additions(event, &mut at);
        let whole = self.raw || record.is_none();
        at.text(whole.then(|| event.bytes()));
        at.columns.end_row();
    }

    fn write_additions(&self, event: &Event, at: &mut Cursor<'_>) {
        let full = self.common.additions == Additions::Full;
        let additions = event.additions_text().filter(|_| full).and_then(members_of).unwrap_or_default();
        let actor = last(&additions, "actor").and_then(|actor| members_of(actor.get()));
        at.members(schema::ACTOR, actor.as_ref(), Level::default());
        for key in ["on_behalf_of", "console"] {
            let is_set = |actor: &Members<'_>| last(actor, key).is_some_and(|value| value.get() == "true");
            at.flag(actor.as_ref().map(is_set));
        }
        let file = event.file();
        for text in [&file.bucket, &file.key] {
            at.text(full.then_some(text.as_bytes()));
        }
        at.number(full.then_some(event.index()).and_then(|index| i64::try_from(index).ok()));
        let labels = full.then(|| self.labels(&file.labels)).filter(|labels| !labels.is_empty());
        at.map(labels, Level::default());
    }

    /// The labels of agent and source, and the sink's own, which win.
    fn labels(&self, of_file: &[(String, String)]) -> Vec<(String, Option<String>)> {
        let own = &self.common.labels;
        let others = of_file.iter().filter(|(name, _)| !own.iter().any(|(other, _)| other == name));
        others.chain(own).map(|(name, value)| (name.clone(), Some(value.clone()))).collect()
    }
}

impl Cursor<'_> {
    /// Writes the columns of `nodes`; all are absent where there is no object.
    fn members(&mut self, nodes: &[Node], object: Option<&Members<'_>>, level: Level) {
        for node in nodes {
            self.node(node, object.and_then(|object| last(object, node.key)), level);
        }
    }

    fn node(&mut self, node: &Node, value: Option<&RawValue>, level: Level) {
        let value = value.filter(|value| value.get() != "null");
        let inner = Level { defined: level.defined + 1, ..level };
        match node.kind {
            Kind::Text => match value.map(text_of) {
                Some(text) => self.put(inner, text.as_bytes()),
                None => self.none(level),
            },
            Kind::Json => match value {
                Some(value) => self.put(inner, value.get().as_bytes()),
                None => self.none(level),
            },
            Kind::Struct(nodes) => match value.and_then(|value| members_of(value.get())) {
                Some(object) => self.members(nodes, Some(&object), inner),
                None => self.members(nodes, None, level),
            },
            Kind::List(nodes) => self.list(nodes, value, level),
            Kind::Map => {
                let object = value.and_then(|value| members_of(value.get()));
                let entry = |(key, value): &(Cow<'_, str>, &RawValue)| {
                    (key.clone().into_owned(), (value.get() != "null").then(|| text_of(value).into_owned()))
                };
                self.map(object.map(|object| object.iter().map(entry).collect()), level);
            }
            // Ours alone, and written by themselves.
            Kind::Time | Kind::Number | Kind::Flag => self.none(level),
        }
    }

    fn list(&mut self, nodes: &[Node], value: Option<&RawValue>, level: Level) {
        let Some(elements) = value.and_then(|value| elements_of(value.get())) else {
            return self.members(nodes, None, level);
        };
        let start = self.column;
        if elements.is_empty() {
            self.members(nodes, None, Level { defined: level.defined + 1, ..level });
        }
        for (number, element) in elements.into_iter().enumerate() {
            self.column = start;
            let repeated = if number == 0 { level.repeated } else { level.repeated + 1 };
            let object = members_of(element.get());
            let defined = level.defined + if object.is_some() { 3 } else { 2 };
            self.members(nodes, object.as_ref(), Level { defined, repeated });
        }
    }

    /// Writes a map; `None` stands for an absent one, or an absent value.
    fn map(&mut self, entries: Option<Vec<(String, Option<String>)>>, level: Level) {
        let (keys, values) = (self.column, self.column + 1);
        self.column += 2;
        let open = entries.is_some();
        let entries = entries.unwrap_or_default();
        if entries.is_empty() {
            let level = Level { defined: level.defined + i16::from(open), ..level };
            self.columns.absent(keys, level);
            self.columns.absent(values, level);
        }
        for (number, (key, value)) in entries.into_iter().enumerate() {
            let repeated = if number == 0 { level.repeated } else { level.repeated + 1 };
            let at = |deeper: i16| Level { defined: level.defined + deeper, repeated };
            self.columns.text(keys, at(2), key.as_bytes());
            match value {
                Some(value) => self.columns.text(values, at(3), value.as_bytes()),
                None => self.columns.absent(values, at(2)),
            }
        }
    }

    fn none(&mut self, level: Level) {
        self.columns.absent(self.column, level);
        self.column += 1;
    }

    fn put(&mut self, level: Level, text: &[u8]) {
        self.columns.text(self.column, level, text);
        self.column += 1;
    }

    /// The next column, which is one of ours.
    fn text(&mut self, text: Option<&[u8]>) {
        match text {
            Some(text) => self.put(FLAT, text),
            None => self.none(Level::default()),
        }
    }

    fn number(&mut self, number: Option<i64>) {
        match number {
            Some(number) => self.columns.number(self.column, FLAT, number),
            None => self.columns.absent(self.column, Level::default()),
        }
        self.column += 1;
    }

    fn flag(&mut self, flag: Option<bool>) {
        match flag {
            Some(flag) => self.columns.flag(self.column, FLAT, flag),
            None => self.columns.absent(self.column, Level::default()),
        }
        self.column += 1;
    }
}

/// Where a value stands that is in no group.
const FLAT: Level = Level { defined: 1, repeated: 0 };

/// The last member of that name, whatever the case of its letters.
fn last<'a>(object: &Members<'a>, key: &str) -> Option<&'a RawValue> {
    object.iter().rev().find(|(name, _)| name.eq_ignore_ascii_case(key)).map(|&(_, value)| value)
}

/// A string's text; any other value as it stands.
fn text_of(value: &RawValue) -> Cow<'_, str> {
    let json = value.get();
    match json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(text) if text.contains('\\') => Cow::Owned(cloudtrail::unescape(text.as_bytes())),
        Some(text) => Cow::Borrowed(text),
        None => Cow::Borrowed(json),
    }
}

/// The members of an object; `None` for any other text.
fn members_of(json: &str) -> Option<Members<'_>> {
    read(json, |json| json.deserialize_map(MembersVisitor))
}

/// The elements of an array; `None` for any other text.
fn elements_of(json: &str) -> Option<Vec<&RawValue>> {
    read(json, |json| Vec::deserialize(json))
}

type Json<'a> = serde_json::Deserializer<serde_json::de::StrRead<'a>>;

fn read<'a, T>(json: &'a str, how: impl FnOnce(&mut Json<'a>) -> Result<T, serde_json::Error>) -> Option<T> {
    let mut json = serde_json::Deserializer::from_str(json);
    let value = how(&mut json).ok()?;
    json.end().ok().map(|()| value)
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
        let mut members = Vec::with_capacity(32);
        while let Some((Key(key), value)) = map.next_entry()? {
            members.push((key, value));
        }
        Ok(members)
    }
}

/// A key; borrowed unless it has escapes, which a `Cow` does not do by itself.
struct Key<'de>(Cow<'de, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(KeyVisitor).map(Key)
    }
}

struct KeyVisitor;

impl<'de> Visitor<'de> for KeyVisitor {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Borrowed(key))
    }

    fn visit_str<E>(self, key: &str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Owned(key.to_owned()))
    }
}
