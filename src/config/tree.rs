//! A configuration document as a tree that remembers where each value was written, and which are secret.

use std::collections::BTreeMap;
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use super::problem::{ConfigError, Location, Problem};

/// Names of keys whose value is a secret, whichever table they stand in.
const SECRET_KEYS: [&str; 8] =
    ["admin_token", "api_key", "bearer_token", "external_id", "password", "secret_key", "token", "tokens"];

/// A key path, innermost last.
pub(super) type Path = [String];

/// A value and where it was written.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) value: Value,
    /// Where its key stands; for an array's item the item itself.
    pub(super) at: Option<Location>,
    /// Whether the environment brought a part of it: never printed.
    pub(super) secret: bool,
    /// For a scalar from an overlay: the text as it was given, for keys that want a string.
    pub(super) text: Option<String>,
}

/// A TOML value.
#[derive(Clone, Debug)]
pub(super) enum Value {
    String(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    Datetime(String),
    Array(Vec<Node>),
    Table(BTreeMap<String, Node>),
}

impl Value {
    /// What it is, for an error.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::String(_) => "a string",
            Self::Integer(_) => "an integer",
            Self::Float(_) => "a float",
            Self::Boolean(_) => "a boolean",
            Self::Datetime(_) => "a date",
            Self::Array(_) => "an array",
            Self::Table(_) => "a table",
        }
    }
}

impl Node {
    /// An empty table without a place.
    pub(super) fn table() -> Self {
        Self::new(Value::Table(BTreeMap::new()), None)
    }

    pub(super) fn new(value: Value, at: Option<Location>) -> Self {
        Self { value, at, secret: false, text: None }
    }

    pub(super) fn as_table(&self) -> Option<&BTreeMap<String, Self>> {
        match &self.value {
            Value::Table(table) => Some(table),
            _ => None,
        }
    }

    pub(super) fn as_str(&self) -> Option<&str> {
        match (&self.value, &self.text) {
            (Value::String(text), _) | (_, Some(text)) => Some(text),
            _ => None,
        }
    }

    /// The entry of a table.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        self.as_table()?.get(key)
    }

    /// The node at `path`, or the innermost one above it that exists.
    pub(super) fn nearest<S: AsRef<str>>(&self, path: &[S]) -> &Self {
        let mut node = self;
        for key in path {
            let next = match &node.value {
                Value::Table(table) => table.get(key.as_ref()),
                Value::Array(items) => key.as_ref().parse::<usize>().ok().and_then(|index| items.get(index)),
                _ => None,
            };
            let Some(next) = next else { break };
            node = next;
        }
        node
    }

    /// Calls `visit` with every scalar and its path.
    pub(super) fn visit(&self, path: &mut Vec<String>, visit: &mut impl FnMut(&Path, &Self)) {
        match &self.value {
            Value::Table(table) => {
                for (key, node) in table {
                    path.push(key.clone());
                    node.visit(path, visit);
                    path.pop();
                }
            }
            Value::Array(items) => {
                for (index, node) in items.iter().enumerate() {
                    path.push(index.to_string());
                    node.visit(path, visit);
                    path.pop();
                }
            }
            _ => visit(path, self),
        }
    }

    /// The same with every scalar to change.
    pub(super) fn visit_mut(&mut self, path: &mut Vec<String>, visit: &mut impl FnMut(&Path, &mut Self)) {
        match &mut self.value {
            Value::Table(table) => {
                for (key, node) in table {
                    path.push(key.clone());
                    node.visit_mut(path, visit);
                    path.pop();
                }
            }
            Value::Array(items) => {
                for (index, node) in items.iter_mut().enumerate() {
                    path.push(index.to_string());
                    node.visit_mut(path, visit);
                    path.pop();
                }
            }
            _ => visit(path, self),
        }
    }
}

/// Whether the value at `path` is a secret by its name; an item of a list has the list's. `url` is one where a
/// destination's URL holds its token, and so are `urls`; any header of a sink's own may be one.
pub(super) fn is_secret_key(path: &Path) -> bool {
    let is_item = path.last().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    let path = path.get(..path.len() - usize::from(is_item)).unwrap_or(path);
    let Some(last) = path.last() else { return false };
    let of_sink = path.first().is_some_and(|first| first == "sinks");
    let sink_url = of_sink && path.len() == 3 && (last == "url" || last == "urls");
    let header = of_sink && path.len() == 4 && path.get(2).is_some_and(|key| key == "headers");
    sink_url || header || SECRET_KEYS.contains(&last.as_str())
}

/// Reads a document.
///
/// # Errors
/// All that is wrong with its syntax.
pub(super) fn parse(source: &Arc<str>, document: &str) -> Result<Node, ConfigError> {
    let lines = Lines::new(document);
    let at = |offset: usize| Some(Location { source: Arc::clone(source), line: Some(lines.of(offset)) });
    let (table, errors) = DeTable::parse_recoverable(document);
    let mut problems: Vec<Problem> = errors
        .iter()
        .map(|error| Problem {
            at: error.span().and_then(|span| at(span.start)),
            key: String::new(),
            message: format!("not valid TOML: {}", error.message()),
        })
        .collect();
    let tree = table_node(table.get_ref(), None, &at, &mut problems);
    if problems.is_empty() { Ok(tree) } else { Err(ConfigError { problems }) }
}

/// Reads one value as it would stand behind `key =`; what is not one is a string.
pub(super) fn parse_value(text: &str, at: &Location) -> Node {
    let here = |_: usize| Some(at.clone());
    let mut problems = Vec::new();
    let parsed = DeValue::parse(text).map(|value| value_node(value.get_ref(), here(0), &here, &mut problems));
    match parsed {
        Ok(mut node) if problems.is_empty() => {
            node.text = Some(text.to_owned()).filter(|_| !matches!(node.value, Value::String(_)));
            node
        }
        _ => Node::new(Value::String(text.to_owned()), Some(at.clone())),
    }
}

fn table_node(
    table: &DeTable<'_>,
    at: Option<Location>,
    place: &impl Fn(usize) -> Option<Location>,
    problems: &mut Vec<Problem>,
) -> Node {
    let entries = table.iter().map(|(key, value)| {
        let node = value_node(value.get_ref(), place(key.span().start), place, problems);
        (key.get_ref().to_string(), node)
    });
    Node::new(Value::Table(entries.collect()), at)
}

fn value_node(
    value: &DeValue<'_>,
    at: Option<Location>,
    place: &impl Fn(usize) -> Option<Location>,
    problems: &mut Vec<Problem>,
) -> Node {
    let value = match value {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Boolean(value) => Value::Boolean(*value),
        DeValue::Datetime(value) => Value::Datetime(value.to_string()),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Value::Integer(number),
            Err(_) => return refused("the number is out of range", at, problems),
        },
        DeValue::Float(number) => match number.as_str().parse() {
            Ok(number) => Value::Float(number),
            Err(_) => return refused("not a number", at, problems),
        },
        DeValue::Array(items) => Value::Array(
            items
                .iter()
                .map(|item| value_node(item.get_ref(), place(item.span().start), place, problems))
                .collect(),
        ),
        DeValue::Table(table) => return table_node(table, at, place, problems),
    };
    Node::new(value, at)
}

fn refused(message: &str, at: Option<Location>, problems: &mut Vec<Problem>) -> Node {
    problems.push(Problem { at: at.clone(), key: String::new(), message: message.to_owned() });
    Node::new(Value::Boolean(false), at)
}

/// Where the lines of a document begin.
struct Lines(Vec<usize>);

impl Lines {
    fn new(document: &str) -> Self {
        let breaks = document.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        Self(std::iter::once(0).chain(breaks).collect())
    }

    /// The 1-based line of a byte offset.
    fn of(&self, offset: usize) -> usize {
        self.0.partition_point(|&start| start <= offset)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn tree(document: &str) -> Node {
        parse(&"t.toml".into(), document).unwrap()
    }

    fn line(tree: &Node, path: &[&str]) -> Option<usize> {
        tree.nearest(path).at.as_ref().and_then(|at| at.line)
    }

    #[test]
    fn every_value_knows_its_line() {
        let tree = tree("a = 1\n[b.c]\nd = [\n 1,\n { e = 2 }]\n[[f]]\n\"g.h\" = \"\"\"x\ny\"\"\"\n");
        assert_eq!(line(&tree, &["a"]), Some(1));
        assert_eq!(line(&tree, &["b", "c"]), Some(2));
        assert_eq!(line(&tree, &["b", "c", "d"]), Some(3));
        assert_eq!(line(&tree, &["b", "c", "d", "0"]), Some(4));
        assert_eq!(line(&tree, &["b", "c", "d", "1", "e"]), Some(5));
        assert_eq!(line(&tree, &["f", "0", "g.h"]), Some(7));
        // What does not exist is found at what would hold it.
        assert_eq!(line(&tree, &["b", "c", "none", "x"]), Some(2));
    }

    #[test]
    fn all_syntax_errors_are_told_with_their_lines() {
        let error = parse(&"t.toml".into(), "a = \nb = 2\nc = = 3\nd = 99999999999999999999\n").unwrap_err();
        let lines: Vec<_> = error.problems.iter().filter_map(|p| p.at.as_ref()?.line).collect();
        assert!(lines.contains(&1) && lines.contains(&3) && lines.contains(&4), "{error}");
    }

    #[test]
    fn a_key_given_twice_is_refused() {
        let error = parse(&"t.toml".into(), "a = 1\na = 2\n").unwrap_err();
        assert!(error.to_string().starts_with("t.toml:2: not valid TOML: duplicate key"), "{error}");
    }

    #[test]
    fn an_overlay_is_a_toml_value_or_else_a_string() {
        let at = Location { source: "X".into(), line: None };
        let value = |text| parse_value(text, &at);
        assert!(matches!(value("2000").value, Value::Integer(2000)));
        assert!(matches!(value("true").value, Value::Boolean(true)));
        assert!(matches!(value("[1, 2]").value, Value::Array(items) if items.len() == 2));
        assert_eq!(value("5m").as_str(), Some("5m"));
        assert_eq!(value("\"5\"").as_str(), Some("5"));
        assert_eq!(value("111122223333").as_str(), Some("111122223333"));
        assert_eq!(value("").as_str(), Some(""));
    }
}
