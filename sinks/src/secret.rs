//! Secrets in a destination's settings, and how they are kept out of every text.

use std::fmt;
use std::io::Read as _;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use crate::{Judgement, Reason, Verdict};

/// A secret file is read no further: a key has a few hundred bytes, and whatever is larger was named by mistake.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// A text that is never shown: `Debug`, `Display` and serialization give `***`.
///
/// In TOML a string, or `{ file = "path" }`; line breaks at a file's end are no part of the secret. It is read as a
/// newtype named [`Secret::NAME`], so that a deserializer can know secrets that are kept elsewhere; for one whose text
/// is not known yet it says a unit.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// What a deserializer is told that it reads.
    pub const NAME: &str = "trailship::Secret";

    /// Takes a text for a secret.
    ///
    /// # Errors
    /// If it is empty, or holds a control character and so cannot stand in a header or a URL.
    pub fn new(text: impl Into<String>) -> Result<Self, &'static str> {
        let text = text.into();
        if text.trim().is_empty() {
            return Err("the secret is empty: set it, or take the key away");
        }
        if text.chars().any(char::is_control) {
            return Err("the secret holds a line break or another control character: remove it");
        }
        Ok(Self(text))
    }

    /// The secret itself. What is done with it must not be logged.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("***")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(Self::NAME, SecretVisitor)
    }
}

struct SecretVisitor;

impl<'de> Visitor<'de> for SecretVisitor {
    type Value = Secret;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or { file = \"path\" }")
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Secret, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_unit<E: de::Error>(self) -> Result<Secret, E> {
        Ok(Secret(String::new()))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Secret, E> {
        Secret::new(text).map_err(E::custom)
    }

    // A wrong type would otherwise be quoted in the error, and it may be the secret: a number, say.
    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Secret, E> {
        Err(E::custom("a secret is a string: put it in quotes"))
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<Secret, E> {
        Err(E::custom("a secret is a string: put it in quotes"))
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Secret, E> {
        Err(E::custom("a secret is a string: put it in quotes"))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Secret, A::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Source {
            file: std::path::PathBuf,
        }
        let Source { file } = Source::deserialize(de::value::MapAccessDeserializer::new(map))?;
        let text = read_bounded(&file)
            .map_err(|error| de::Error::custom(format!("secret file `{}` {error}", file.display())))?;
        Secret::new(text.trim_end_matches(['\r', '\n']))
            .map_err(|error| de::Error::custom(format!("secret file `{}`: {error}", file.display())))
    }
}

/// The text of a secret file, or what is wrong with it; never a word of the text.
fn read_bounded(file: &std::path::Path) -> Result<String, String> {
    let mut bytes = Vec::new();
    std::fs::File::open(file)
        .and_then(|opened| opened.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(|error| format!("cannot be read: {error}"))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        let most = FILE_BYTES_MAX >> 10;
        return Err(format!("is larger than {most} KiB: name a file that holds the secret alone"));
    }
    String::from_utf8(bytes).map_err(|_| "cannot be read: it is no UTF-8".to_owned())
}

/// Takes known secrets out of texts that a destination or a library wrote.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Redactor(Vec<String>);

impl Redactor {
    /// A redactor of nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a secret as it stands and as it may be written elsewhere: in base64, in an address, in JSON.
    pub fn add(&mut self, secret: &str) {
        if secret.is_empty() {
            return;
        }
        let in_json = serde_json::to_string(secret).unwrap_or_default();
        for form in [
            secret.to_owned(),
            STANDARD.encode(secret),
            STANDARD_NO_PAD.encode(secret),
            URL_SAFE_NO_PAD.encode(secret),
            percent_encoded(secret, char::to_ascii_uppercase),
            percent_encoded(secret, char::to_ascii_lowercase),
            in_json.get(1..in_json.len().saturating_sub(1)).unwrap_or_default().to_owned(),
        ] {
            if !form.is_empty() && !self.0.contains(&form) {
                self.0.push(form);
            }
        }
        // The longest first: one secret may hold another.
        self.0.sort_by_key(|known| std::cmp::Reverse(known.len()));
    }

    /// `text` with every known secret replaced by `***`.
    #[must_use]
    pub fn clean(&self, text: &str) -> String {
        let mut clean = text.to_owned();
        for secret in &self.0 {
            if clean.contains(secret.as_str()) {
                clean = clean.replace(secret.as_str(), "***");
            }
        }
        clean
    }

    /// A reason with its text cleaned.
    #[must_use]
    pub(crate) fn clean_reason(&self, why: Reason) -> Reason {
        Reason { text: self.clean(&why.text), ..why }
    }

    /// A judgement with all of its reasons cleaned.
    pub(crate) fn clean_judgement(&self, judgement: Judgement) -> Judgement {
        let each = |verdicts: Vec<Verdict>| {
            verdicts.into_iter().map(|verdict| self.clean_verdict(verdict)).collect()
        };
        match judgement {
            Judgement::Each(verdicts) => Judgement::Each(each(verdicts)),
            Judgement::Strained(verdicts) => Judgement::Strained(each(verdicts)),
            Judgement::Unavailable { why, retry_after } => {
                Judgement::Unavailable { why: self.clean_reason(why), retry_after }
            }
            Judgement::Denied(why) => Judgement::Denied(self.clean_reason(why)),
            Judgement::Refused(why) => Judgement::Refused(self.clean_reason(why)),
            Judgement::TooLarge(why) => Judgement::TooLarge(self.clean_reason(why)),
        }
    }

    fn clean_verdict(&self, verdict: Verdict) -> Verdict {
        match verdict {
            Verdict::Delivered | Verdict::Duplicate | Verdict::Pending(_) => verdict,
            Verdict::Retry(why) => Verdict::Retry(self.clean_reason(why)),
            Verdict::HungUp(why) => Verdict::HungUp(self.clean_reason(why)),
            Verdict::Reshape(why) => Verdict::Reshape(self.clean_reason(why)),
            Verdict::Refused { why, named } => Verdict::Refused { why: self.clean_reason(why), named },
            Verdict::Denied(why) => Verdict::Denied(self.clean_reason(why)),
        }
    }

    /// As [`clean`](Self::clean) for the beginning of a longer text, without what may be the beginning of a secret at its end.
    #[must_use]
    pub fn clean_start(&self, text: &str) -> String {
        let mut clean = self.clean(text);
        let begun = |secret: &String| {
            let ends = secret.char_indices().map(|(at, _)| at).skip(1);
            let heads = ends.filter_map(|end| secret.get(..end));
            heads.filter(|head| clean.ends_with(head)).map(str::len).max()
        };
        let begun = self.0.iter().filter_map(begun).max().unwrap_or(0);
        clean.truncate(clean.len() - begun);
        clean
    }
}

/// A text as it stands in an address, all but what never needs it escaped.
/// <https://www.rfc-editor.org/rfc/rfc3986#section-2.3>
fn percent_encoded(text: &str, case: fn(&char) -> char) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            encoded.extend(format!("{byte:02x}").chars().map(|digit| case(&digit)));
        }
    }
    encoded
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Redactor(***)")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use std::io::Write as _;

    use serde_json::json;

    use super::*;

    fn read(value: serde_json::Value) -> Result<Secret, String> {
        serde_json::from_value(value).map_err(|error| error.to_string())
    }

    #[test]
    fn a_secret_is_never_shown() {
        let secret = Secret::new("hunter2").unwrap();
        assert_eq!(format!("{secret:?} {secret}"), "*** ***");
        assert_eq!(serde_json::to_string(&secret).unwrap(), "\"***\"");
        assert_eq!(secret.expose(), "hunter2");
    }

    #[test]
    fn a_secret_comes_from_a_string_or_a_file() {
        assert_eq!(read(json!("hunter2")).unwrap().expose(), "hunter2");
        let path = std::env::temp_dir().join(format!("trailship-secret-{}", std::process::id()));
        std::fs::File::create(&path).unwrap().write_all(b"from a file\r\n").unwrap();
        let secret = read(json!({ "file": path })).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(secret.expose(), "from a file");
    }

    #[test]
    fn a_secret_file_over_the_limit_is_refused_by_its_name_and_not_read() {
        let path = std::env::temp_dir().join(format!("trailship-large-secret-{}", std::process::id()));
        let of = |bytes: usize| {
            std::fs::write(&path, "x".repeat(bytes)).unwrap();
            read(json!({ "file": path }))
        };
        assert_eq!(of(64 << 10).unwrap().expose().len(), 64 << 10);
        let error = of((64 << 10) + 1).unwrap_err();
        std::fs::remove_file(&path).unwrap();
        let expected = format!(
            "secret file `{}` is larger than 64 KiB: name a file that holds the secret alone",
            path.display()
        );
        assert!(error.contains(&expected) && !error.contains("xx"), "{error}");
        // What never ends is not read to its end.
        let error = read(json!({ "file": "/dev/zero" })).unwrap_err();
        assert!(error.contains("`/dev/zero` is larger than 64 KiB"), "{error}");
    }

    #[test]
    fn a_secret_that_cannot_be_used_is_refused_without_being_quoted() {
        for (value, message) in [
            (json!(""), "the secret is empty"),
            (json!(" "), "the secret is empty"),
            (json!("a\nb"), "control character"),
            (json!(918_273), "put it in quotes"),
            (json!({ "file": "/does/not/exist" }), "secret file `/does/not/exist` cannot be read"),
            (json!({ "path": "x" }), "unknown field"),
        ] {
            let error = read(value).unwrap_err();
            assert!(error.contains(message), "{error}");
            assert!(!error.contains("918"), "{error}");
        }
    }

    #[test]
    fn a_redactor_finds_secrets_plain_and_in_base64() {
        let mut redactor = Redactor::new();
        redactor.add("abc");
        redactor.add("abcdef");
        assert_eq!(redactor.clean("abcdef abc YWJjZGVm x"), "*** *** *** x");
        assert!(!format!("{redactor:?}").contains("abc"));
    }

    #[test]
    fn a_redactor_finds_secrets_as_addresses_and_json_write_them() {
        let mut redactor = Redactor::new();
        redactor.add("a/b+\"c\"?>");
        for written in [
            "a%2Fb%2B%22c%22%3F%3E",
            "a%2fb%2b%22c%22%3f%3e",
            "a/b+\\\"c\\\"?>",
            "YS9iKyJjIj8+",
            "YS9iKyJjIj8-",
        ] {
            assert_eq!(redactor.clean(&format!("<{written}>")), "<***>", "{written}");
        }
        // Without its padding it is the same secret.
        redactor.add("hunter2");
        assert_eq!(redactor.clean("aHVudGVyMg== aHVudGVyMg hunter2"), "*** *** ***");
    }

    #[test]
    fn where_a_text_is_cut_no_part_of_a_secret_is_left() {
        let mut redactor = Redactor::new();
        redactor.add("long-secret");
        assert_eq!(redactor.clean_start("x long-secret long-sec"), "x *** ");
        assert_eq!(redactor.clean_start("x long-secret y"), "x *** y");
        assert_eq!(redactor.clean("x long-sec"), "x long-sec");
    }
}
