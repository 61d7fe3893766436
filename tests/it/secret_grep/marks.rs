//! Secrets that nothing else contains, and the search for them in everything that was written.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};

/// Every kind of secret that a configuration can hold, each with a text of its own.
pub(super) const KINDS: [&str; 20] = [
    "es-key",
    "es-password",
    "es-bearer",
    "es-proxy",
    "splunk",
    "loggly",
    "loggly-2",
    "sumo",
    "http-path",
    "http-header",
    "http-bearer",
    "logstash-http",
    "alert-logic",
    "alert-logic-proxy",
    "admin",
    "external-id",
    "aws-key",
    "aws-session",
    "env-proxy",
    "aws-proxy",
];

/// The secret of a kind: letters and digits, so that it can stand everywhere.
pub(super) fn mark(kind: &str) -> String {
    let number = KINDS.iter().position(|known| *known == kind).expect("a kind of secret");
    format!("Zq7{number:02}kV9xwRt4mB8c")
}

/// A password that is written differently in an address, in JSON and in TOML.
pub(super) fn password(kind: &str) -> String {
    format!("{}/+ \"&%é", mark(kind))
}

/// The same as an address has to write it.
pub(super) fn password_in_url(kind: &str) -> String {
    format!("{}%2F%2B%20%22%26%25%C3%A9", mark(kind))
}

/// What is searched for, besides what each kind is derived from.
pub(super) struct Search(Vec<(String, String)>);

impl Search {
    /// All kinds, and further secrets with their names: a key's text, a token that a service gave out.
    pub(super) fn new(more: &[(&str, &str)]) -> Self {
        let mut wanted = Vec::new();
        let kinds = KINDS.iter().map(|kind| ((*kind).to_owned(), mark(kind)));
        let more = more.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
        for (name, secret) in kinds.chain(more) {
            wanted.extend(forms(&secret).into_iter().map(|form| (name.clone(), form)));
        }
        Self(wanted)
    }

    /// Which secret stands in a text, and in which form.
    pub(super) fn find(&self, text: &str) -> Option<(&str, &str)> {
        let found = self.0.iter().find(|(_, form)| text.contains(form.as_str()));
        found.map(|(name, form)| (name.as_str(), form.as_str()))
    }

    /// Fails if a secret stands in what was written, and if nothing was.
    #[track_caller]
    pub(super) fn assert_clean(&self, what: &str, text: &str) {
        assert!(!text.is_empty(), "{what} is empty");
        if let Some((name, form)) = self.find(text) {
            let line = text.lines().find(|line| line.contains(form)).unwrap_or(text);
            panic!("the secret `{name}` stands as `{form}` in {what}: {line}");
        }
    }

    /// Searches every file below a folder but those that the test itself has put there; how many there were.
    #[track_caller]
    pub(super) fn assert_folder_clean(&self, folder: &Path, own: &[&str]) -> usize {
        let mut searched = 0;
        for path in files_below(folder) {
            let name = path.strip_prefix(folder).unwrap().display().to_string();
            if own.contains(&name.as_str()) {
                continue;
            }
            let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
            if !text.is_empty() {
                self.assert_clean(&name, &text);
                searched += 1;
            }
        }
        searched
    }
}

/// A text as it stands; in base64, wherever it begins in what was encoded; and with its letters escaped, as nobody needs
/// to but some do.
fn forms(secret: &str) -> Vec<String> {
    let mut forms = vec![secret.to_owned(), STANDARD.encode(secret)];
    for before in 0..3 {
        let shifted = STANDARD_NO_PAD.encode([&b"xx"[..before], secret.as_bytes()].concat());
        // The first and the last characters depend on what stands beside the secret.
        let whole =
            shifted.get((before * 8).div_ceil(6)..shifted.len().saturating_sub(2)).unwrap_or_default();
        forms.push(whole.to_owned());
    }
    for upper in [true, false] {
        let digits = |byte: u8| if upper { format!("%{byte:02X}") } else { format!("%{byte:02x}") };
        forms.push(secret.bytes().map(digits).collect());
    }
    forms
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else {
            files.push(path);
        }
    }
    files.sort();
    files
}

#[test]
fn the_search_finds_a_secret_in_every_form() {
    let search = Search::new(&[("key", "MIGHAgEAMBMGByqGSM49")]);
    let secret = mark("splunk");
    assert_eq!(search.find("nothing"), None);
    for before in ["", "a", "ab", "abc"] {
        let pair = STANDARD.encode(format!("{before}{secret}:b"));
        assert_eq!(search.find(&format!("Basic {pair}")).map(|found| found.0), Some("splunk"), "{before}");
    }
    for text in [secret.clone(), format!("http://u:{secret}@h"), password("splunk")] {
        assert_eq!(search.find(&text).map(|found| found.0), Some("splunk"), "{text}");
    }
    assert_eq!(search.find("xMIGHAgEAMBMGByqGSM49x").map(|found| found.0), Some("key"));
}
