//! Which objects may be fetched: buckets by allow-list, keys by what they say. Messages are not trusted.

use std::sync::Arc;

use cloudtrail::{KeyKind, ObjectKey, ObjectRef};

use crate::aws::Aws;
use crate::config::{Bucket, Filter};

/// A bucket, or buckets, that log files may come from, and who asks for them.
pub struct AllowedBucket {
    pub rule: Bucket,
    pub aws: Arc<Aws>,
}

impl AsRef<Bucket> for AllowedBucket {
    fn as_ref(&self) -> &Bucket {
        &self.rule
    }
}

/// What becomes of an object that a notification names.
pub enum Admission<'a, B> {
    /// It is fetched.
    Fetch(Box<Admitted<'a, B>>),
    /// There is nothing to ship in it.
    Ignore(&'static str),
    /// It must not be fetched.
    Refuse,
}

/// An object that is fetched.
pub struct Admitted<'a, B> {
    /// The rule that allows its bucket.
    pub bucket: &'a B,
    /// Its key.
    pub key: String,
    /// What its key says.
    pub parsed: ObjectKey,
    /// The other reading of the key, where that may be fetched as well.
    pub alternative: Option<String>,
}

/// Judges an object. Where its key can be read in two ways, each has to be allowed, and one of them is enough.
pub fn admit<'a, B: AsRef<Bucket>>(
    object: &ObjectRef,
    buckets: &'a [B],
    filter: &Filter,
) -> Admission<'a, B> {
    let first = admit_key(&object.bucket, &object.key, buckets, filter);
    let Some(other) = &object.key_alternative else { return first };
    match (first, admit_key(&object.bucket, other, buckets, filter)) {
        (Admission::Fetch(mut first), Admission::Fetch(other)) => {
            // Another rule may mean another owner or another identity.
            let is_same_rule = std::ptr::eq(first.bucket, other.bucket);
            first.alternative = is_same_rule.then_some(other.key);
            Admission::Fetch(first)
        }
        (Admission::Ignore(_) | Admission::Refuse, other @ Admission::Fetch(_)) => other,
        (first, _) => first,
    }
}

fn admit_key<'a, B: AsRef<Bucket>>(
    name: &str,
    key: &str,
    buckets: &'a [B],
    filter: &Filter,
) -> Admission<'a, B> {
    let is_named = |bucket: &&B| matches_wildcard(&bucket.as_ref().name, name);
    let allowed = buckets.iter().filter(is_named).find(|bucket| key.starts_with(&bucket.as_ref().prefix));
    let Some(bucket) = allowed else {
        // A bucket that is allowed, with a key outside its prefix, is somebody else's object, not an attack.
        let known = buckets.iter().any(|bucket| is_named(&bucket));
        return if known { Admission::Ignore("outside_prefix") } else { Admission::Refuse };
    };
    let parsed = ObjectKey::parse(key);
    match parsed.kind {
        KeyKind::Foreign => return Admission::Ignore("foreign"),
        KeyKind::Digest => return Admission::Ignore("digest"),
        _ => {}
    }
    if !filter.admits(parsed.account.as_deref(), parsed.region.as_deref(), parsed.kind.as_str()) {
        return Admission::Ignore("filtered");
    }
    Admission::Fetch(Box::new(Admitted { bucket, key: key.to_owned(), parsed, alternative: None }))
}

/// Whether `name` fits `pattern`, in which `*` stands for any number of characters.
#[must_use]
pub fn matches_wildcard(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else { return false };
    let mut last = None;
    for part in parts {
        if let Some(before) = last.replace(part) {
            let Some(at) = rest.find(before) else { return false };
            rest = rest.get(at + before.len()..).unwrap_or_default();
        }
    }
    match last {
        None => rest.is_empty(),
        Some(end) => rest.ends_with(end),
    }
}

/// A region that a message may name: nothing that could become another host.
#[must_use]
pub fn is_region(text: &str) -> bool {
    let mut parts = text.split('-');
    let starts =
        parts.next().is_some_and(|part| part.len() >= 2 && part.bytes().all(|b| b.is_ascii_lowercase()));
    let rest: Vec<&str> = parts.collect();
    let alphanumeric =
        |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    starts && text.len() <= 25 && (2..=3).contains(&rest.len()) && rest.iter().all(alphanumeric)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic)]
    use super::*;

    impl AsRef<Bucket> for Bucket {
        fn as_ref(&self) -> &Bucket {
            self
        }
    }

    fn bucket(name: &str, prefix: &str) -> Bucket {
        Bucket {
            name: name.to_owned(),
            owner: None,
            prefix: prefix.to_owned(),
            region: None,
            aws: "default".to_owned(),
        }
    }

    fn object(bucket: &str, key: &str) -> ObjectRef {
        ObjectRef { bucket: bucket.to_owned(), key: key.to_owned(), ..ObjectRef::default() }
    }

    const LOG: &str = "AWSLogs/111122223333/CloudTrail/eu-west-1/2023/07/10/\
                       111122223333_CloudTrail_eu-west-1_20230710T1145Z_7xgocspSowgK0Gto.json.gz";

    fn check(object: &ObjectRef, wanted: &str) {
        let buckets = [bucket("trail-*", ""), bucket("archive", "org/")];
        let is = match admit(object, &buckets, &Filter::default()) {
            Admission::Fetch(_) => "fetch",
            Admission::Ignore(why) => why,
            Admission::Refuse => "refuse",
        };
        assert_eq!(is, wanted, "{object:?}");
    }

    #[test]
    fn only_buckets_of_the_list_are_fetched_from() {
        check(&object("trail-1", LOG), "fetch");
        check(&object("another", LOG), "refuse");
        check(&object("xtrail-1", LOG), "refuse");
        check(&object("archive", LOG), "outside_prefix");
        check(&object("archive", &format!("org/{LOG}")), "fetch");
    }

    #[test]
    fn what_is_no_log_file_is_ignored() {
        check(&object("trail-1", "AWSLogs/111122223333/Config/x.json.gz"), "foreign");
        let digest = "AWSLogs/111122223333/CloudTrail-Digest/eu-west-1/2023/07/10/\
                      111122223333_CloudTrail-Digest_eu-west-1_trail_eu-west-1_20230710T114500Z.json.gz";
        check(&object("trail-1", digest), "digest");
    }

    /// The keys that are tried, in order.
    #[track_caller]
    fn check_readings(key: &str, alternative: &str, wanted: &[&str]) {
        let buckets = [bucket("trail-*", ""), bucket("archive", "org/"), bucket("archive", "org 2/")];
        let object = ObjectRef { key_alternative: Some(alternative.to_owned()), ..object("archive", key) };
        let tried: Vec<String> = match admit(&object, &buckets, &Filter::default()) {
            Admission::Fetch(admitted) => std::iter::once(admitted.key).chain(admitted.alternative).collect(),
            Admission::Ignore(_) => Vec::new(),
            Admission::Refuse => panic!("{object:?}"),
        };
        assert_eq!(tried, wanted);
    }

    #[test]
    fn each_reading_of_a_key_has_to_be_allowed_and_one_is_enough() {
        let (plain, spaced) = (format!("org/{LOG}"), format!("org 2/{LOG}"));
        let encoded = plain.replace('/', "%2F");
        check_readings(&encoded, &plain, &[&plain]);
        check_readings(&plain, &encoded, &[&plain]);
        check_readings(&plain, &format!("org/x+{LOG}"), &[&plain, &format!("org/x+{LOG}")]);
        check_readings(&plain, LOG, &[&plain]);
        // Two rules may name two owners.
        check_readings(&plain, &spaced, &[&plain]);
        check_readings("backup/a%20b.json", "backup/a b.json", &[]);
    }

    #[test]
    fn wildcards_match_whole_names() {
        for (pattern, name, wanted) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("a*", "ab", true),
            ("*b", "ab", true),
            ("a*c*e", "abcde", true),
            ("a*c*e", "abde", false),
            ("*", "", true),
            ("a*a", "a", false),
        ] {
            assert_eq!(matches_wildcard(pattern, name), wanted, "{pattern} {name}");
        }
    }

    #[test]
    fn a_message_s_region_cannot_become_another_host() {
        for good in ["eu-west-1", "us-gov-east-1", "us-iso-east-1", "eusc-de-east-1", "cn-north-1"] {
            assert!(is_region(good), "{good}");
        }
        for bad in ["", "evil.example/x", "eu-west-1.evil", "eu", "-west-1", "eu--1", "EU-WEST-1"] {
            assert!(!is_region(bad), "{bad}");
        }
    }
}
