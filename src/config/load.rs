//! Finds the document, reads it, puts overlays and variables in, and has the result checked.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::check::check;
use super::machine::Machine;
use super::model::Config;
use super::problem::{ConfigError, Problem};
use super::remote::SecretTexts;
use super::{interpolate, overlay, tree};

/// The file that is read if nothing says otherwise.
const DEFAULT_FILE: &str = "trailship.toml";
/// The variable that names the file.
const FILE_VARIABLE: &str = "TRAILSHIP_CONFIG";
/// The variable that holds the whole document.
const DOCUMENT_VARIABLE: &str = "TRAILSHIP_CONFIG_TOML";
/// Keys whose values name what is kept elsewhere; so do all that end in `_file`.
const OUTSIDE_KEYS: [&str; 4] = ["file", "secrets_manager", "ssm", "profile"];
/// Far more than any configuration needs; keeps a wrong path from filling the memory.
const DOCUMENT_BYTES_MAX: u64 = 4 << 20;

/// Where the document is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigSource {
    /// In a file.
    File(PathBuf),
    /// On standard input.
    Stdin,
    /// Here.
    Document {
        /// What errors call it.
        name: String,
        text: String,
    },
}

impl ConfigSource {
    /// Decides from the command line (`--config`; `-` is standard input), then `TRAILSHIP_CONFIG_TOML`, then
    /// `TRAILSHIP_CONFIG`, then the default file.
    pub fn choose(flag: Option<&Path>, machine: &Machine) -> Self {
        let of = |path: &Path| if path == "-" { Self::Stdin } else { Self::File(path.to_path_buf()) };
        if let Some(path) = flag {
            return of(path);
        }
        if let Some(text) = machine.variable(DOCUMENT_VARIABLE) {
            return Self::Document { name: DOCUMENT_VARIABLE.to_owned(), text: text.to_owned() };
        }
        of(Path::new(machine.variable(FILE_VARIABLE).unwrap_or(DEFAULT_FILE)))
    }

    fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Stdin => "<stdin>".to_owned(),
            Self::Document { name, .. } => name.clone(),
        }
    }

    fn read(&self) -> Result<String, ConfigError> {
        let text = match self {
            Self::File(path) => File::open(path).and_then(read_bounded),
            Self::Stdin => read_bounded(io::stdin().lock()),
            Self::Document { text, .. } => Ok(text.clone()),
        };
        text.map_err(|error| {
            let remedy = match error.kind() {
                io::ErrorKind::NotFound => {
                    "; name a file with --config FILE, or begin with config.example.toml"
                }
                _ => "",
            };
            ConfigError::whole(&self.name(), format!("cannot be read: {error}{remedy}"))
        })
    }
}

/// Reads and checks the configuration.
///
/// # Errors
/// All that is wrong with it, each with its place, its key and the remedy.
pub fn load(source: &ConfigSource, machine: &Machine) -> Result<Config, ConfigError> {
    Draft::read(source, machine)?.check(machine, SecretTexts::default())
}

/// A document that was read, with overlays and variables in it.
pub struct Draft {
    tree: tree::Node,
    problems: Vec<Problem>,
}

impl Draft {
    /// Reads the document.
    ///
    /// # Errors
    /// If it cannot be read, or is not TOML.
    pub fn read(source: &ConfigSource, machine: &Machine) -> Result<Self, ConfigError> {
        let document = source.read()?;
        let (tree, problems) = assemble(&source.name(), &document, machine)?;
        Ok(Self { tree, problems })
    }

    /// Whether another reading says the same, secrets included, and nothing that it names may have changed meanwhile:
    /// no file, no secret that AWS keeps.
    pub fn is_same(&self, other: &Self) -> bool {
        let (mine, others) = (said(&self.tree), said(&other.tree));
        let is_outside = |path: &Vec<String>| {
            let key = path.last().map_or("", String::as_str);
            OUTSIDE_KEYS.contains(&key) || key.ends_with("_file")
        };
        mine == others && !mine.iter().any(|(path, _)| is_outside(path))
    }

    /// Checks it, with what AWS keeps as far as it was read; the rest is named in [`Config::unread`].
    ///
    /// # Errors
    /// All that is wrong with it, each with its place, its key and the remedy.
    pub fn check(&self, machine: &Machine, texts: SecretTexts) -> Result<Config, ConfigError> {
        let mut problems = self.problems.clone();
        match check(&self.tree, machine, texts) {
            Ok(config) if problems.is_empty() => return Ok(config),
            Ok(_) => {}
            Err(mut more) => {
                // Of a key whose variable is missing nothing else can be said.
                more.retain(|new| problems.iter().all(|old| old.key != new.key));
                problems.extend(more);
            }
        }
        // In the order of the document; what has no place in it comes last.
        problems.sort_by_key(|problem| {
            problem.at.as_ref().map_or((true, None), |at| (at.line.is_none(), at.line))
        });
        Err(ConfigError { problems })
    }
}

/// Every value with its path.
fn said(tree: &tree::Node) -> Vec<(Vec<String>, String)> {
    let mut all = Vec::new();
    tree.visit(&mut Vec::new(), &mut |path, node| all.push((path.to_vec(), format!("{:?}", node.value))));
    all
}

/// The document with overlays and variables in it, and what was wrong with those.
pub(super) fn assemble(
    name: &str,
    document: &str,
    machine: &Machine,
) -> Result<(tree::Node, Vec<Problem>), ConfigError> {
    let mut tree = tree::parse(&name.into(), document)?;
    let mut problems = overlay::apply(&mut tree, &machine.variables);
    problems.extend(interpolate::apply(&mut tree, &machine.variables));
    Ok((tree, problems))
}

fn read_bounded(input: impl Read) -> io::Result<String> {
    let mut text = String::new();
    input.take(DOCUMENT_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > DOCUMENT_BYTES_MAX {
        return Err(io::Error::other("longer than 4 MiB, which no configuration is"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn draft(text: &str) -> Draft {
        let source = ConfigSource::Document { name: "d".to_owned(), text: text.to_owned() };
        Draft::read(&source, &Machine::default()).unwrap()
    }

    #[test]
    fn a_document_that_says_the_same_is_told_from_one_that_may_mean_something_else_by_now() {
        let text = "[sinks.a]\ntype = \"loggly\"\ntoken = \"one\"\n";
        let moved = format!("# a comment\n\n{text}");
        assert!(draft(text).is_same(&draft(&moved)), "lines and comments say nothing");
        assert!(!draft(text).is_same(&draft(&text.replace("one", "two"))), "a secret is a difference");
        for outside in ["token = { file = \"t\" }", "tls = { ca_file = \"c\" }", "token = { ssm = \"t\" }"] {
            let text = format!("[sinks.a]\n{outside}\n");
            assert!(!draft(&text).is_same(&draft(&text)), "{outside}");
        }
    }
}
