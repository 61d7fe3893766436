//! From a tree to a checked configuration: reads every section, and collects all that is wrong.

mod agent;
mod aws;
mod dead_letter;
mod ledger;
mod shared_state;
mod sinks;
mod sources;

use std::cell::RefCell;
use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::de::{Reader, problem_at};
use super::machine::Machine;
use super::model::{Config, Labels, SourceKind};
use super::problem::{Problem, nearest, unknown_key};
use super::raw;
use super::remote::{RemoteSecret, SecretSource, SecretTexts};
use super::tree::{Node, Value, is_secret_key};
use super::url;

/// The tables of a document.
const SECTIONS: [&str; 6] = ["agent", "aws", "dead_letter", "ledger", "sinks", "sources"];
const LABELS_MAX: usize = 32;
const LABEL_BYTES_MAX: usize = 256;
const NAME_BYTES_MAX: usize = 63;
const METADATA_SERVICE: &str = "the address of a metadata service, which gives out credentials: use another";

/// What the sections are checked with.
pub(super) struct Checker<'a> {
    tree: &'a Node,
    machine: &'a Machine,
    pub(super) reader: Reader,
    warnings: RefCell<Vec<Problem>>,
    effective: RefCell<toml::Table>,
}

/// Checks a tree.
///
/// # Errors
/// All problems that were found.
pub(super) fn check(tree: &Node, machine: &Machine, texts: SecretTexts) -> Result<Config, Vec<Problem>> {
    let checker = Checker { reader: Reader::with_texts(texts), ..Checker::new(tree, machine) };
    let config = checker.config();
    let problems = checker.reader.into_problems();
    match config {
        Some(config) if problems.is_empty() => Ok(config),
        _ => Err(problems),
    }
}

impl<'a> Checker<'a> {
    pub(super) fn new(tree: &'a Node, machine: &'a Machine) -> Self {
        let (warnings, effective) = Default::default();
        Self { tree, machine, reader: Reader::default(), warnings, effective }
    }

    /// The whole configuration; `None` if a section could not be read. There may be problems either way.
    pub(super) fn config(&self) -> Option<Config> {
        self.sections();
        let agent = self.agent();
        let aws = self.aws();
        let agent_labels = agent.as_ref().map(|agent| agent.labels.clone()).unwrap_or_default();
        let sources = self.sources(&agent_labels);
        let sinks = self.sinks();
        let dead_letter = self.dead_letter();
        let queue = sources.iter().find(|source| matches!(source.kind, SourceKind::Sqs(_)));
        if let (Some(queue), None) = (queue, self.tree.get("dead_letter")) {
            let message = format!(
                "the section is missing: the queue source \"{}\" needs a place for what no destination takes; \
                 say [dead_letter] with type = \"s3\" and a bucket, or type = \"file\" and a path",
                queue.name
            );
            self.problem("dead_letter", &message);
        }
        if let Some(agent) = &agent {
            let gathering = sinks.iter().filter(|sink| ::sinks::destinations::gathers(&sink.type_name));
            self.memory(agent, sinks.len(), gathering.count());
        }
        let ledger = self.ledger();
        self.identities(&sources, &sinks, (dead_letter.as_ref(), ledger.as_ref()), &aws);
        let unread = self.unread();
        self.shared_state(&sources, &sinks, dead_letter.as_ref());
        self.literal_secrets();
        let effective = self.print();
        let sha256 = Sha256::digest(&effective).iter().map(|byte| format!("{byte:02x}")).collect();
        let warnings = self.warnings.take();
        let ledger = ledger?;
        Some(Config {
            agent: agent?,
            aws,
            sources,
            sinks,
            dead_letter,
            ledger,
            unread,
            warnings,
            effective,
            sha256,
        })
    }

    /// The secrets that are still to be read from AWS.
    fn unread(&self) -> Vec<(String, RemoteSecret)> {
        let mut unread = Vec::new();
        for secret in self.reader.found() {
            let SecretSource::Remote(remote) = secret.source else { continue };
            if secret.path.ends_with(".assume_role.external_id") {
                let message = "cannot be kept by AWS: it is needed to become who reads it; say \"${VARIABLE}\" or \
                               { file = \"path\" }";
                self.problem(&secret.path, message);
            } else if !secret.is_read {
                unread.push((secret.path, remote));
            }
        }
        unread
    }

    /// Refuses unknown sections, and keys outside of any.
    fn sections(&self) {
        for (key, node) in self.tree.as_table().into_iter().flatten() {
            if !SECTIONS.contains(&key.as_str()) {
                self.reader.problem(node, key, &unknown_key(key, &SECTIONS));
            } else if node.as_table().is_none() {
                self.reader.problem(
                    node,
                    key,
                    &format!("expected a table: [{key}], found {}", node.value.kind()),
                );
            }
        }
    }

    /// The entries of a section of named tables, in the order of their names.
    fn named(&self, section: &str) -> impl Iterator<Item = (&'a String, &'a Node)> {
        let entries = self.tree.get(section).and_then(Node::as_table).into_iter().flatten();
        entries.filter(move |(name, node)| {
            let path = format!("{section}.{name}");
            if node.as_table().is_none() {
                let message = format!("expected a table: [{path}], found {}", node.value.kind());
                self.reader.problem(node, &path, &message);
                return false;
            }
            let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
            if !plain || name.is_empty() || name.len() > NAME_BYTES_MAX {
                let message = format!(
                    "a name has 1 to {NAME_BYTES_MAX} letters, digits, \"_\" and \"-\": choose another"
                );
                self.reader.problem(node, &path, &message);
            }
            true
        })
    }

    /// The key `type` of a table, if it is one of `known`.
    fn type_of<'t>(&self, table: &'t Node, path: &str, known: &[&str]) -> Option<&'t str> {
        let list = || known.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
        let key = format!("{path}.type");
        let Some(node) = table.get("type") else {
            self.reader.problem(table, &key, &format!("the key is missing: use one of {}", list()));
            return None;
        };
        let text = node.as_str().unwrap_or_default();
        if known.contains(&text) {
            return Some(text);
        }
        let meant = nearest(text, known.iter().copied());
        let hint = meant.map_or_else(String::new, |meant| format!("; did you mean \"{meant}\"?"));
        self.reader.problem(node, &key, &format!("unknown type \"{text}\": use one of {}{hint}", list()));
        None
    }

    /// Reads a table without its key `type`.
    fn read_typed<T: DeserializeOwned>(&self, table: &Node, path: &str) -> Option<T> {
        self.reader.read_beside(&part(table, |key| key != "type"), path, &["type"])
    }

    /// Notes a problem at the key `path`, or at what would hold it.
    fn problem(&self, path: &str, message: &str) {
        let keys: Vec<&str> = path.split('.').collect();
        self.reader.problem(self.tree.nearest(&keys), path, message);
    }

    /// Notes a problem unless something holds.
    fn require(&self, holds: bool, path: &str, message: &str) {
        if !holds {
            self.problem(path, message);
        }
    }

    fn warn(&self, path: &str, message: &str) {
        let keys: Vec<&str> = path.split('.').collect();
        let problem = problem_at(self.tree.nearest(&keys), path, message.to_owned());
        self.warnings.borrow_mut().push(problem);
    }

    /// Adds a section, or an entry of one, to the effective configuration.
    fn keep(&self, path: &[&str], value: &impl Serialize) {
        let Ok(toml::Value::Table(value)) = toml::Value::try_from(value) else { return };
        let mut effective = self.effective.borrow_mut();
        let mut table = &mut *effective;
        for key in path {
            let inner = table.entry(*key).or_insert_with(|| toml::Value::Table(toml::Table::new()));
            let toml::Value::Table(inner) = inner else { return };
            table = inner;
        }
        table.extend(value);
    }

    /// The same for a table that has a `type`.
    fn keep_typed(&self, section: &str, name: &str, type_name: &str, value: &impl Serialize) {
        self.keep_typed_at(&[section, name], type_name, value);
    }

    fn keep_typed_at(&self, path: &[&str], type_name: &str, value: &impl Serialize) {
        self.keep(path, &toml::Table::from_iter([("type".to_owned(), type_name.into())]));
        self.keep(path, value);
    }

    /// The effective configuration as TOML; secrets, and what the environment brought, as `***`.
    fn print(&self) -> String {
        let mut effective = self.effective.take();
        self.tree.visit(&mut Vec::new(), &mut |path, node| {
            let text = node.as_str().unwrap_or_default();
            let by_type = self.reader.is_secret(&path.join("."));
            if node.secret || ((by_type || is_secret_key(path)) && !text.is_empty()) {
                hide(&mut effective, path);
            }
        });
        toml::to_string(&effective).unwrap_or_default()
    }

    fn labels(&self, labels: &raw::Labels, path: &str) -> Labels {
        let message = format!("at most {LABELS_MAX} labels: take some away");
        self.require(labels.len() <= LABELS_MAX, path, &message);
        for (name, value) in labels {
            let good = |text: &str| text.len() <= LABEL_BYTES_MAX && !text.chars().any(char::is_control);
            let message =
                format!("at most {LABEL_BYTES_MAX} bytes each, no control characters, no empty name");
            self.require(!name.is_empty() && good(name) && good(value), &format!("{path}.{name}"), &message);
        }
        labels.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    /// Checks an address that is written in the configuration.
    fn address(&self, address: &str, path: &str, allow_plaintext: bool, allow_at: &str) {
        let Some((scheme, host)) = url::scheme_and_host(address) else {
            return self.problem(path, "not an absolute address: write it with https://");
        };
        match scheme.as_str() {
            "https" | "tls" => {}
            "http" | "tcp" if url::is_loopback(&host) || allow_plaintext => {}
            "http" | "tcp" => {
                let better = if scheme == "http" { "https" } else { "tls" };
                let message = format!(
                    "{scheme}:// sends events and secrets in the clear: use {better}://, or set {allow_at}.allow_plaintext = true"
                );
                self.problem(path, &message);
            }
            _ => self.problem(path, "neither https:// nor http://"),
        }
        if url::is_metadata_service(&host) {
            self.problem(path, METADATA_SERVICE);
        }
    }

    /// Checks a proxy's address.
    fn proxy(&self, address: Option<&str>, path: &str) -> Option<::sinks::Secret> {
        let address = address.filter(|address| !address.is_empty())?;
        let (scheme, host) = url::scheme_and_host(address).unwrap_or_default();
        let good = matches!(scheme.as_str(), "http" | "https");
        self.require(good, path, "not a proxy's address: write http://host:port");
        self.require(!url::is_metadata_service(&host), path, METADATA_SERVICE);
        match ::sinks::Secret::new(address) {
            Ok(secret) => Some(secret),
            Err(message) => {
                self.problem(path, message);
                None
            }
        }
    }

    /// Whether what may be a secret mostly is none: the address of any HTTP receiver, and a header that does not sound
    /// like one. They are not shown, but may stand in the file.
    fn is_plain(&self, path: &[String]) -> bool {
        let type_of = |sink: &String| self.tree.get("sinks")?.get(sink)?.get("type")?.as_str();
        match path {
            [_, sink, key] => key == "url" && type_of(sink) == Some("http"),
            [_, _, headers, name] if headers == "headers" => {
                let name = name.to_lowercase();
                !["auth", "key", "token", "secret", "cookie", "passw"].iter().any(|part| name.contains(part))
            }
            _ => false,
        }
    }

    /// Warns of secrets that stand in the document itself.
    fn literal_secrets(&self) {
        self.tree.visit(&mut Vec::new(), &mut |path, node| {
            let Value::String(text) = &node.value else { return };
            let written =
                !node.secret && !text.is_empty() && node.at.as_ref().is_some_and(|at| at.line.is_some());
            let proxy = path.last().is_some_and(|key| key == "proxy") && url::without_userinfo(text) != *text;
            let key = path.join(".");
            let is_secret = is_secret_key(path) || self.reader.is_secret(&key) || proxy;
            if written && is_secret && !self.is_plain(path) {
                let message =
                    "a secret stands in the file: say \"${VARIABLE}\" or { file = \"path\" } instead";
                self.warnings.borrow_mut().push(problem_at(node, &key, message.to_owned()));
            }
        });
    }
}

/// The entries of a table whose key passes.
fn part(table: &Node, keep: impl Fn(&str) -> bool) -> Node {
    let entries: BTreeMap<String, Node> = table
        .as_table()
        .into_iter()
        .flatten()
        .filter(|(key, _)| keep(key))
        .map(|(key, node)| (key.clone(), node.clone()))
        .collect();
    Node { value: Value::Table(entries), at: table.at.clone(), secret: false, text: None }
}

/// A node as plain TOML; dates as strings.
fn plain(node: &Node) -> toml::Value {
    match &node.value {
        Value::String(text) | Value::Datetime(text) => toml::Value::String(text.clone()),
        Value::Integer(number) => toml::Value::Integer(*number),
        Value::Float(number) => toml::Value::Float(*number),
        Value::Boolean(value) => toml::Value::Boolean(*value),
        Value::Array(items) => toml::Value::Array(items.iter().map(plain).collect()),
        Value::Table(table) => {
            toml::Value::Table(table.iter().map(|(key, node)| (key.clone(), plain(node))).collect())
        }
    }
}

/// Replaces the value at `path`, if there is one, by `***`.
fn hide(table: &mut toml::Table, path: &[String]) {
    let Some((first, rest)) = path.split_first() else { return };
    let mut value = table.get_mut(first);
    for key in rest {
        value = match value {
            Some(toml::Value::Table(table)) => table.get_mut(key),
            Some(toml::Value::Array(items)) => {
                key.parse::<usize>().ok().and_then(|index| items.get_mut(index))
            }
            _ => None,
        };
    }
    if let Some(value) = value {
        *value = toml::Value::String("***".to_owned());
    }
}
