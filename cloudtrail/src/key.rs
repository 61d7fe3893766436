//! What the key of an S3 object says: whose log file it is, of which kind, region and day.

use crate::time::{Timestamp, number};

/// What kind of object a key names.
///
/// Source: <https://docs.aws.amazon.com/awscloudtrail/latest/userguide/get-and-view-cloudtrail-log-files.html>
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// Management and data events.
    Log,
    /// A digest file, which vouches for log files.
    Digest,
    /// Insight events.
    Insight,
    /// Network activity events of VPC endpoints.
    NetworkActivity,
    /// Aggregated events.
    Aggregated,
    /// Anything that CloudTrail did not write as a trail's file.
    Foreign,
}

impl KeyKind {
    /// Every kind there is.
    pub const ALL: [KeyKind; 6] = [
        KeyKind::Log,
        KeyKind::Digest,
        KeyKind::Insight,
        KeyKind::NetworkActivity,
        KeyKind::Aggregated,
        KeyKind::Foreign,
    ];

    /// The kind's name in configuration and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            KeyKind::Log => "log",
            KeyKind::Digest => "digest",
            KeyKind::Insight => "insight",
            KeyKind::NetworkActivity => "network_activity",
            KeyKind::Aggregated => "aggregated",
            KeyKind::Foreign => "foreign",
        }
    }

    fn of_folder(folder: &str) -> Option<Self> {
        match folder {
            "CloudTrail" => Some(KeyKind::Log),
            "CloudTrail-Digest" => Some(KeyKind::Digest),
            "CloudTrail-Insight" => Some(KeyKind::Insight),
            "CloudTrail-NetworkActivity" => Some(KeyKind::NetworkActivity),
            "CloudTrail-Aggregated" => Some(KeyKind::Aggregated),
            _ => None,
        }
    }
}

/// What a key says. Of a foreign object only the kind is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectKey {
    /// What kind of object it is.
    pub kind: KeyKind,
    /// What stands before `AWSLogs`, without the slash between them; empty where there is nothing.
    pub prefix: String,
    /// The organization (`o-…`) of an organization trail.
    pub organization: Option<String>,
    /// The account whose events these are, twelve digits.
    pub account: Option<String>,
    /// The region; any name is taken, since partitions bring new ones.
    pub region: Option<String>,
    /// Year, month and day of the delivery.
    pub date: Option<(u16, u8, u8)>,
    /// The time in the file's name: of delivery for a log file (a whole minute), of the period's end for a digest.
    pub minute: Option<Timestamp>,
    /// The trail's name, which only digests carry.
    pub trail: Option<String>,
    /// Whether it is a digest that was made for the past.
    pub backfill: bool,
}

impl ObjectKey {
    /// Reads a key. Every text has an answer; what is not CloudTrail's is [`KeyKind::Foreign`].
    ///
    /// The folders decide. Where there is no `AWSLogs` folder (a copied file), a complete file name does.
    /// A key with a control character or a `..` segment is foreign, whatever else it holds.
    #[must_use]
    pub fn parse(key: &str) -> Self {
        let hostile = key.chars().any(char::is_control) || key.split('/').any(|segment| segment == "..");
        if hostile {
            return Self::foreign();
        }
        let segments: Vec<&str> = key.split('/').collect();
        // A prefix may itself hold a segment `AWSLogs`: the last one that leads somewhere counts.
        let roots = segments.iter().enumerate().rev().filter(|(_, segment)| **segment == "AWSLogs");
        roots
            .filter_map(|(root, _)| Self::from_folders(&segments, root))
            .next()
            .or_else(|| Self::from_name(&segments))
            .unwrap_or_else(Self::foreign)
    }

    fn foreign() -> Self {
        Self {
            kind: KeyKind::Foreign,
            prefix: String::new(),
            organization: None,
            account: None,
            region: None,
            date: None,
            minute: None,
            trail: None,
            backfill: false,
        }
    }

    fn from_folders(segments: &[&str], root: usize) -> Option<Self> {
        let mut rest = segments.get(root + 1..)?;
        let organization = rest.first().copied().filter(|segment| is_organization(segment));
        if organization.is_some() {
            rest = rest.get(1..)?;
        }
        let &[account, folder, region, year, month, day, name] = rest else { return None };
        let kind = KeyKind::of_folder(folder)?;
        if !is_account(account) || !is_region(region) {
            return None;
        }
        let date = date_of(year, month, day)?;
        let stem = stem(name)?;
        let parts = NameParts::read(stem, kind);
        Some(Self {
            kind,
            prefix: segments.get(..root)?.join("/"),
            organization: organization.map(str::to_owned),
            account: Some(account.to_owned()),
            region: Some(region.to_owned()),
            date: Some(date),
            minute: parts.as_ref().map(|parts| parts.time),
            trail: parts.as_ref().and_then(|parts| parts.trail.map(str::to_owned)),
            backfill: parts.is_some_and(|parts| parts.backfill),
        })
    }

    fn from_name(segments: &[&str]) -> Option<Self> {
        let (name, folders) = segments.split_last()?;
        let stem = stem(name)?;
        let folder = stem.split('_').nth(1)?;
        let kind = KeyKind::of_folder(folder)?;
        let parts = NameParts::read(stem, kind)?;
        let (year, month, day) = parts.time.date();
        Some(Self {
            kind,
            prefix: folders.join("/"),
            organization: None,
            account: Some(parts.account.to_owned()),
            region: Some(parts.region.to_owned()),
            date: Some((u16::try_from(year).ok()?, month, day)),
            minute: Some(parts.time),
            trail: parts.trail.map(str::to_owned),
            backfill: parts.backfill,
        })
    }
}

/// What a complete file name holds.
struct NameParts<'a> {
    account: &'a str,
    region: &'a str,
    trail: Option<&'a str>,
    time: Timestamp,
    backfill: bool,
}

impl<'a> NameParts<'a> {
    fn read(stem: &'a str, kind: KeyKind) -> Option<Self> {
        let mut left = stem.splitn(4, '_');
        let account = left.next().filter(|account| is_account(account))?;
        left.next().filter(|folder| KeyKind::of_folder(folder) == Some(kind))?;
        let region = left.next().filter(|region| is_region(region))?;
        let rest = left.next()?;
        if kind != KeyKind::Digest {
            let (time, unique) = rest.split_once('_')?;
            let time = compact_time(time)?;
            return (!unique.is_empty()).then_some(Self {
                account,
                region,
                trail: None,
                time,
                backfill: false,
            });
        }
        // A trail's name may hold underscores, so it is read from the right.
        let (rest, backfill) = rest.strip_suffix("_backfill").map_or((rest, false), |rest| (rest, true));
        let (rest, time) = rest.rsplit_once('_')?;
        let (trail, _home_region) = rest.rsplit_once('_')?;
        let time = compact_time(time)?;
        Some(Self { account, region, trail: Some(trail), time, backfill })
    }
}

/// The file's name without `.json.gz` or `.json`.
fn stem(name: &str) -> Option<&str> {
    let stem = name.strip_suffix(".gz").unwrap_or(name).strip_suffix(".json")?;
    (!stem.is_empty()).then_some(stem)
}

fn is_account(segment: &str) -> bool {
    segment.len() == 12 && segment.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_organization(segment: &str) -> bool {
    let unique = segment.strip_prefix("o-").unwrap_or_default();
    (10..=32).contains(&unique.len())
        && unique.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

fn is_region(segment: &str) -> bool {
    let plain =
        segment.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    plain && segment.contains('-') && segment.len() <= 32
}

fn date_of(year: &str, month: &str, day: &str) -> Option<(u16, u8, u8)> {
    if (year.len(), month.len(), day.len()) != (4, 2, 2) {
        return None;
    }
    let parts = (number(year.as_bytes())?, number(month.as_bytes())?, number(day.as_bytes())?);
    Timestamp::from_civil(parts, (0, 0, 0))?;
    Some((u16::try_from(parts.0).ok()?, u8::try_from(parts.1).ok()?, u8::try_from(parts.2).ok()?))
}

/// Reads `20230710T1145Z` or `20230710T114501Z`.
fn compact_time(text: &str) -> Option<Timestamp> {
    let text = text.strip_suffix('Z')?.as_bytes();
    if text.get(8) != Some(&b'T') || !matches!(text.len(), 13 | 15) {
        return None;
    }
    let part = |from: usize, to: usize| number(text.get(from..to)?);
    let second = if text.len() == 15 { part(13, 15)? } else { 0 };
    Timestamp::from_civil((part(0, 4)?, part(4, 6)?, part(6, 8)?), (part(9, 11)?, part(11, 13)?, second))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use proptest::prelude::*;

    use super::*;

    const LOG: &str = "AWSLogs/111122223333/CloudTrail/eu-west-1/2023/07/10/\
                       111122223333_CloudTrail_eu-west-1_20230710T1145Z_7xgocspSowgK0Gto.json.gz";

    fn at(text: &str) -> Option<Timestamp> {
        Some(Timestamp::parse(text).unwrap())
    }

    #[test]
    fn a_log_file_says_whose_it_is_and_when_it_came() {
        let key = ObjectKey::parse(LOG);
        assert_eq!(key.kind, KeyKind::Log);
        assert_eq!(key.prefix, "");
        assert_eq!(key.organization, None);
        assert_eq!(key.account.as_deref(), Some("111122223333"));
        assert_eq!(key.region.as_deref(), Some("eu-west-1"));
        assert_eq!(key.date, Some((2023, 7, 10)));
        assert_eq!(key.minute, at("2023-07-10T11:45:00Z"));
        assert_eq!(key.trail, None);
        assert!(!key.backfill);
    }

    #[test]
    fn prefix_and_organization_are_told_apart() {
        let key = ObjectKey::parse(&format!(
            "my/trail data/{}",
            LOG.replace("AWSLogs/", "AWSLogs/o-exampleorgid/")
        ));
        assert_eq!(key.kind, KeyKind::Log);
        assert_eq!(key.prefix, "my/trail data");
        assert_eq!(key.organization.as_deref(), Some("o-exampleorgid"));
        assert_eq!(key.account.as_deref(), Some("111122223333"));
    }

    #[test]
    fn a_prefix_may_be_called_like_the_root() {
        let key = ObjectKey::parse(&format!("AWSLogs/{LOG}"));
        assert_eq!((key.kind, key.prefix.as_str()), (KeyKind::Log, "AWSLogs"));
    }

    #[test]
    fn regions_of_every_partition_are_taken() {
        for region in [
            "us-gov-west-1",
            "cn-north-1",
            "us-iso-east-1",
            "us-isob-east-1",
            "eusc-de-east-1",
            "ap-southeast-7",
        ] {
            let key = ObjectKey::parse(&LOG.replace("eu-west-1", region));
            assert_eq!((key.kind, key.region.as_deref()), (KeyKind::Log, Some(region)));
            assert!(key.minute.is_some());
        }
    }

    #[test]
    fn each_folder_has_its_kind() {
        for (folder, kind) in [
            ("CloudTrail", "log"),
            ("CloudTrail-Insight", "insight"),
            ("CloudTrail-NetworkActivity", "network_activity"),
            ("CloudTrail-Aggregated", "aggregated"),
            ("CloudTrail-Digest", "digest"),
            ("Config", "foreign"),
            ("elasticloadbalancing", "foreign"),
            ("vpcflowlogs", "foreign"),
            ("CloudTrail-Future", "foreign"),
        ] {
            let key = LOG
                .replace("/CloudTrail/", &format!("/{folder}/"))
                .replace("_CloudTrail_", &format!("_{folder}_"));
            assert_eq!(ObjectKey::parse(&key).kind.as_str(), kind, "{key}");
        }
    }

    #[test]
    fn a_digest_names_its_trail_even_with_underscores() {
        let folders = "p/AWSLogs/111122223333/CloudTrail-Digest/eu-west-1/2023/07/10/111122223333_CloudTrail-Digest_eu-west-1_";
        let key = ObjectKey::parse(&format!("{folders}my_main.trail-1_us-east-1_20230710T114501Z.json.gz"));
        assert_eq!(key.kind, KeyKind::Digest);
        assert_eq!(key.trail.as_deref(), Some("my_main.trail-1"));
        assert_eq!(key.minute, at("2023-07-10T11:45:01Z"));
        assert!(!key.backfill);
        let key = ObjectKey::parse(&format!("{folders}t_us-east-1_20230710T114501Z_backfill.json.gz"));
        assert_eq!((key.trail.as_deref(), key.backfill), (Some("t"), true));
    }

    #[test]
    fn inflated_and_renamed_files_are_log_files_still() {
        assert_eq!(ObjectKey::parse(LOG.trim_end_matches(".gz")).kind, KeyKind::Log);
        let renamed = ObjectKey::parse("AWSLogs/111122223333/CloudTrail/eu-west-1/2023/07/10/x.json.gz");
        assert_eq!((renamed.kind, renamed.minute), (KeyKind::Log, None));
    }

    #[test]
    fn a_complete_name_is_enough_without_folders() {
        let name = LOG.rsplit('/').next().unwrap();
        for key in [name.to_owned(), format!("copies/{name}"), format!("AWSLogs/{name}")] {
            let parsed = ObjectKey::parse(&key);
            assert_eq!(parsed.kind, KeyKind::Log, "{key}");
            assert_eq!(parsed.date, Some((2023, 7, 10)));
            assert_eq!(parsed.account.as_deref(), Some("111122223333"));
        }
    }

    #[test]
    fn what_is_not_cloudtrails_is_foreign() {
        for key in [
            "",
            "/",
            "AWSLogs",
            "AWSLogs/",
            "AWSLogs/111122223333/CloudTrail/",
            "AWSLogs/111122223333/CloudTrail/eu-west-1/2023/07/10/",
            "AWSLogs/111122223333/CloudTrail/eu-west-1/2023/07/10/.json.gz",
            "AWSLogs/111122223333/CloudTrail/eu-west-1/2023/07/10/x.parquet",
            "AWSLogs/111122223333/CloudTrail/eu-west-1/2023/13/10/x.json.gz",
            "AWSLogs/111122223333/CloudTrail/eu-west-1/2023/02/30/x.json.gz",
            "AWSLogs/111122223333/CloudTrail/EU/2023/07/10/x.json.gz",
            "AWSLogs/11112222333/CloudTrail/eu-west-1/2023/07/10/x.json.gz",
            "AWSLogs/111122223333/CloudTrail/eu-west-1/2023/07/10/more/x.json.gz",
            "aws/CLOUD_TRAIL_MGMT/2.0/region=eu-west-1/accountId=111122223333/eventDay=20230710/a.gz.parquet",
            "11112222333_CloudTrail_eu-west-1_20230710T1145Z_x.json.gz",
            "111122223333_CloudTrail_eu-west-1_20230710T2460Z_x.json.gz",
            "AWSLogs/111122223333/CloudTrail-Digest",
        ] {
            assert_eq!(ObjectKey::parse(key), ObjectKey::foreign(), "{key}");
        }
    }

    #[test]
    fn hostile_keys_are_foreign_though_they_look_right() {
        for key in [
            format!("../{LOG}"),
            format!("a/../{LOG}"),
            format!("a\n{LOG}"),
            format!("{LOG}\0"),
            format!("\u{85}{LOG}"),
        ] {
            assert_eq!(ObjectKey::parse(&key).kind, KeyKind::Foreign, "{key}");
        }
        assert_eq!(ObjectKey::parse(&format!("a..b/{LOG}")).kind, KeyKind::Log);
    }

    proptest! {
        #[test]
        fn every_text_has_an_answer(key in "(AWSLogs/|o-exampleorgid/|111122223333|/|_|CloudTrail|-Digest|eu-west-1|2023|07|T1145Z|\\.json|\\.gz|.){0,14}") {
            let parsed = ObjectKey::parse(&key);
            prop_assert_eq!(parsed.kind == KeyKind::Foreign, parsed.account.is_none());
        }
    }
}
