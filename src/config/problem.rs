//! What is wrong with a configuration: where, which key, why, and what to do about it.

use std::fmt;
use std::sync::Arc;

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// The document's name, or the name of an environment variable.
    pub source: Arc<str>,
    /// 1-based line; `None` for a value that has none.
    pub line: Option<usize>,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}", self.source),
            None => f.write_str(&self.source),
        }
    }
}

/// One thing that is wrong, or that deserves a warning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where; `None` if it cannot be said.
    pub at: Option<Location>,
    /// The key, with dots; empty for the document as a whole.
    pub key: String,
    /// What is wrong, and the remedy. Never holds a value that was marked as secret.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(at) = &self.at {
            write!(f, "{at}: ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

/// Everything that is wrong with a configuration; one line each when displayed. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// In the order found.
    pub problems: Vec<Problem>,
}

impl ConfigError {
    /// An error that concerns the document as a whole.
    pub(super) fn whole(source: &str, message: impl Into<String>) -> Self {
        let at = Some(Location { source: source.into(), line: None });
        Self { problems: vec![Problem { at, key: String::new(), message: message.into() }] }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// The known name that `name` was probably meant to be: the nearest one, if it is near enough to be a slip.
pub(super) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_lowercase();
    known
        .into_iter()
        .map(|candidate| (distance(&name, &candidate.to_lowercase()), candidate))
        .filter(|&(distance, candidate)| distance <= candidate.len().max(name.len()) / 3 + 1)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Levenshtein distance in characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut next = vec![i + 1];
        for (&cb, pair) in b.iter().zip(row.windows(2)) {
            let [diagonal, above] = *pair else { continue };
            let left = next.last().copied().unwrap_or(0);
            next.push((diagonal + usize::from(ca != cb)).min(above + 1).min(left + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

/// `unknown key`, with the nearest known one, else with all of them.
pub(super) fn unknown_key(name: &str, known: &[&str]) -> String {
    match nearest(name, known.iter().copied()) {
        Some(meant) => format!("unknown key; did you mean \"{meant}\"?"),
        None if known.is_empty() => "unknown key; none is known here".to_owned(),
        None => format!("unknown key; known here: {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn distance_counts_single_edits() {
        for (a, b, expected) in
            [("", "", 0), ("a", "", 1), ("", "ab", 2), ("max_byte", "max_bytes", 1), ("kitten", "sitting", 3)]
        {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }

    #[test]
    fn a_slip_finds_its_key_and_a_stranger_does_not() {
        let known = ["max_bytes", "max_events", "max_age"];
        assert_eq!(nearest("max_byte", known), Some("max_bytes"));
        assert_eq!(nearest("MAX_AGE", known), Some("max_age"));
        assert_eq!(nearest("colour", known), None);
        assert_eq!(unknown_key("colour", &known), "unknown key; known here: max_bytes, max_events, max_age");
    }

    #[test]
    fn a_problem_reads_as_place_key_and_message() {
        let at = Some(Location { source: "trailship.toml".into(), line: Some(12) });
        let problem = Problem { at, key: "sinks.search".to_owned(), message: "no".to_owned() };
        assert_eq!(problem.to_string(), "trailship.toml:12: sinks.search: no");
    }
}
