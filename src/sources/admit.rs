//! Which objects may be fetched: buckets by allow-list, keys by what they say. Messages are not trusted.

use cloudtrail::{KeyKind, ObjectKey, ObjectRef};

use crate::config::{Bucket, Filter};

/// What becomes of an object that a notification names.
#[derive(Debug)]
pub enum Admission<'a> {
    /// It is fetched.
    Fetch {
        /// The rule that allows its bucket.
        bucket: &'a Bucket,
        /// What its key says.
        key: Box<ObjectKey>,
    },
    /// There is nothing to ship in it.
    Ignore(&'static str),
    /// It must not be fetched.
    Refuse,
}

/// Judges an object.
#[must_use]
pub fn admit<'a>(object: &ObjectRef, buckets: &'a [Bucket], filter: &Filter) -> Admission<'a> {
    let allowed = buckets.iter().find(|bucket| {
        matches_wildcard(&bucket.name, &object.bucket) && object.key.starts_with(&bucket.prefix)
    });
    let Some(bucket) = allowed else {
        // A bucket that is allowed, with a key outside its prefix, is somebody else's object, not an attack.
        let known = buckets.iter().any(|bucket| matches_wildcard(&bucket.name, &object.bucket));
        return if known { Admission::Ignore("outside_prefix") } else { Admission::Refuse };
    };
    let key = ObjectKey::parse(&object.key);
    match key.kind {
        KeyKind::Foreign => return Admission::Ignore("foreign"),
        KeyKind::Digest => return Admission::Ignore("digest"),
        _ => {}
    }
    if !filter.admits(key.account.as_deref(), key.region.as_deref(), key.kind.as_str()) {
        return Admission::Ignore("filtered");
    }
    Admission::Fetch { bucket, key: Box::new(key) }
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
    use super::*;

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
            Admission::Fetch { .. } => "fetch",
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
