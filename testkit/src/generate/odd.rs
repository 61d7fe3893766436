//! Log files that are rare or wrong: what a reader must get through without a mistake.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};

use super::content::Content;
use super::event::event_id;
use super::{ACCOUNTS, FileKind, Generator, LogFileSample};
use crate::calendar::Calendar;

/// A file that inflates to more than this is a bomb.
const BOMB_BYTES: usize = 256 << 20;
/// The longest event that CloudTrail writes.
/// <https://docs.aws.amazon.com/awscloudtrail/latest/userguide/WhatIsCloudTrail-Limits.html>
const EVENT_BYTES_MAX: usize = 256 * 1024;

/// What is odd about a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Oddity {
    /// One event of exactly 256 KiB among ordinary ones.
    LargeEvent,
    /// An event that has a key twice.
    DuplicateKeys,
    /// Numbers above 2^53, and floats in Java's scientific form.
    BigNumbers,
    /// Text full of quotation marks, line breaks, braces and escapes.
    EscapedText,
    /// `requestParameters`, `responseElements` and `serviceEventDetails` as texts.
    TextParameters,
    /// Events without an id, and with the id under `eventId`.
    MissingEventId,
    /// One id on two different events.
    RepeatedEventId,
    /// An event that has a key `trailship` of its own, and one that is `{}`.
    TakenKey,
    /// Raw characters outside ASCII and escaped halves of surrogate pairs.
    Unicode,
    /// Events that are not valid UTF-8.
    InvalidUtf8,
    /// Values nested 90 deep; real ones go to 11.
    DeepNesting,
    /// Values nested 10,000 deep, which no reader has to take.
    TooDeepNesting,
    /// A file of Insight events.
    Insight,
    /// A file of network activity events.
    NetworkActivity,
    /// A file of aggregated events: a list without an object around it.
    Aggregated,
    /// `{"Records":[]}`.
    EmptyRecords,
    /// An object without `Records`.
    NoRecords,
    /// `Records` after other members, and others after it.
    RecordsNotFirst,
    /// Line breaks and spaces between all tokens.
    PrettyPrinted,
    /// A byte order mark first.
    ByteOrderMark,
    /// A file of no bytes.
    Empty,
    /// Several gzip members.
    MultiMemberGzip,
    /// Gzip that ends too early.
    TruncatedGzip,
    /// Gzip with a changed byte in the middle.
    CorruptGzip,
    /// Gzip with bytes after its end that are not gzip.
    TrailingGarbage,
    /// JSON that breaks off after some events.
    InvalidJson,
    /// Gzip that inflates to a thousand times its size.
    Bomb,
    /// Not compressed.
    PlainJson,
    /// A digest file.
    Digest,
    /// A snapshot by AWS Config, in the same bucket.
    ConfigSnapshot,
}

impl Oddity {
    /// All of them.
    pub const ALL: [Self; 30] = [
        Self::LargeEvent,
        Self::DuplicateKeys,
        Self::BigNumbers,
        Self::EscapedText,
        Self::TextParameters,
        Self::MissingEventId,
        Self::RepeatedEventId,
        Self::TakenKey,
        Self::Unicode,
        Self::InvalidUtf8,
        Self::DeepNesting,
        Self::TooDeepNesting,
        Self::Insight,
        Self::NetworkActivity,
        Self::Aggregated,
        Self::EmptyRecords,
        Self::NoRecords,
        Self::RecordsNotFirst,
        Self::PrettyPrinted,
        Self::ByteOrderMark,
        Self::Empty,
        Self::MultiMemberGzip,
        Self::TruncatedGzip,
        Self::CorruptGzip,
        Self::TrailingGarbage,
        Self::InvalidJson,
        Self::Bomb,
        Self::PlainJson,
        Self::Digest,
        Self::ConfigSnapshot,
    ];
}

/// How far a file can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// To its end: every issued event is there.
    Whole,
    /// The issued events up to some point, then it breaks. What comes after the break cannot be had.
    Broken,
    /// To its end, and it holds no events: another kind of file, or none at all.
    Foreign,
}

/// Makes the next file of a generator.
pub(super) fn make(generator: &mut Generator, oddity: Oddity) -> (LogFileSample, Reading) {
    match oddity {
        Oddity::Insight
        | Oddity::NetworkActivity
        | Oddity::Aggregated
        | Oddity::Digest
        | Oddity::ConfigSnapshot => other_kind(generator, oddity),
        Oddity::EmptyRecords
        | Oddity::NoRecords
        | Oddity::RecordsNotFirst
        | Oddity::PrettyPrinted
        | Oddity::ByteOrderMark
        | Oddity::InvalidJson => other_frame(generator, oddity),
        Oddity::Empty
        | Oddity::MultiMemberGzip
        | Oddity::TruncatedGzip
        | Oddity::CorruptGzip
        | Oddity::TrailingGarbage
        | Oddity::Bomb
        | Oddity::PlainJson => other_bytes(generator, oddity),
        _ => odd_events(generator, oddity),
    }
}

/// Files with an odd event between two ordinary ones.
fn odd_events(generator: &mut Generator, oddity: Oddity) -> (LogFileSample, Reading) {
    let content = Content::new(generator, FileKind::Log).ordinary(2);
    let content = match oddity {
        Oddity::LargeEvent => {
            let head = content.record(r#","requestParameters":{"v":""}"#).1.len();
            let filler = "x".repeat(EVENT_BYTES_MAX - head);
            content.special(&format!(r#","requestParameters":{{"v":"{filler}"}}"#))
        }
        Oddity::DuplicateKeys => content
            .special(r#","requestParameters":{"a":1,"a":{"b":2}},"eventName":"DescribeTags","readOnly":true,"readOnly":false"#),
        Oddity::BigNumbers => content.special(
            r#","requestParameters":{"a":9007199254740993,"b":18446744073709551616,"c":-9223372036854775809,"d":1.714564800123E9,"e":1e400,"f":-0.0}"#,
        ),
        Oddity::EscapedText => content.special(
            r#","requestParameters":{"policy":"{\n  \"Statement\": [{\"Sid\": \"a\\\\\"}]\r\n}","tab":"\t","slash":"\/","brackets":"}]}{[","nul":"\u0000","quote":"\u0022,\u0022eventName\u0022:\u0022Fake"},"errorMessage":"\\""#,
        ),
        Oddity::TextParameters => content.special(
            r#","requestParameters":"{\"accountId\":\"1\"}","responseElements":"text","additionalEventData":"text","serviceEventDetails":"text","readOnly":"true""#,
        ),
        Oddity::MissingEventId => {
            let members = content.first_members();
            let id = event_id(content.file.seed, 3);
            let lower = format!("{{{members},\"eventId\":\"{id}\"}}");
            content.raw(format!("{{{members}}}"), None, "role_session").raw(lower, Some(id), "role_session")
        }
        Oddity::RepeatedEventId => {
            let id = content.issued[0].event_id.clone();
            let text = id.as_deref().unwrap_or_default();
            let record = format!("{{{},\"eventID\":\"{text}\",\"requestParameters\":null}}", content.first_members());
            content.raw(record, id, "role_session")
        }
        Oddity::TakenKey => {
            let content = content.special(r#","trailship":{"actor":{"class":"forged"}},"@timestamp":"1970-01-01T00:00:00Z""#);
            content.raw("{}", None, "unknown")
        }
        Oddity::Unicode => content.special(
            ",\"requestParameters\":{\"a\":\"Grüße 日本 🦀 \u{202e}\u{2028}\",\"b\":\"\\ud83e\",\"c\":\"\\udd80\\ud83e\",\"d\":\"\\u202f\"}",
        ),
        Oddity::InvalidUtf8 => {
            let id = event_id(content.file.seed, 2);
            let mut record = format!("{{{},\"eventID\":\"{id}\",\"userName\":\"", content.first_members()).into_bytes();
            record.extend_from_slice(b"\xff\xfe\xc3\"}");
            content.raw(record, Some(id), "role_session")
        }
        _ => {
            let depth = if oddity == Oddity::DeepNesting { 45 } else { 5_000 };
            let nested = format!("{}1{}", "[{\"a\":".repeat(depth), "}]".repeat(depth));
            content.special(&format!(r#","requestParameters":{nested}"#))
        }
    };
    let (sample, _) = content.ordinary(2).finish();
    let broken = matches!(oddity, Oddity::InvalidUtf8 | Oddity::TooDeepNesting);
    (sample, if broken { Reading::Broken } else { Reading::Whole })
}

/// Files of another kind than ordinary logs.
fn other_kind(generator: &mut Generator, oddity: Oddity) -> (LogFileSample, Reading) {
    match oddity {
        Oddity::Insight => {
            let mut content = Content::new(generator, FileKind::Insight);
            for state in ["Start", "End"] {
                let id = event_id(content.file.seed, content.records.len() as u64);
                let (account, region) = (ACCOUNTS[content.file.account], content.file.region);
                let time = Calendar::new(content.file.delivered_s - 1800).iso8601();
                let record = format!(
                    r#"{{"eventVersion":"1.07","eventTime":"{time}","awsRegion":"{region}","eventID":"{id}","eventType":"AwsCloudTrailInsight","recipientAccountId":"{account}","sharedEventID":"7b9a2c14-22b3-4c03-94af-c74a0c8d7c01","insightDetails":{{"state":"{state}","eventSource":"ssm.amazonaws.com","eventName":"UpdateInstanceInformation","insightType":"ApiCallRateInsight","insightContext":{{"statistics":{{"baseline":{{"average":8.82145E-5}},"insight":{{"average":664}}}}}}}},"eventCategory":"Insight"}}"#
                );
                content = content.raw(record, Some(id), "insight");
            }
            content.finish()
        }
        Oddity::NetworkActivity => {
            let content = Content::new(generator, FileKind::NetworkActivity);
            let id = event_id(content.file.seed, 0);
            let (account, region) = (ACCOUNTS[content.file.account], content.file.region);
            let time = Calendar::new(content.file.delivered_s - 200).iso8601();
            let record = format!(
                r#"{{"eventVersion":"1.09","userIdentity":{{"type":"AWSAccount","principalId":"AIDAEXAMPLEEXAMPLE123","accountId":"{account}"}},"eventTime":"{time}","eventSource":"kms.amazonaws.com","eventName":"ListKeys","awsRegion":"{region}","sourceIPAddress":"10.0.0.1","errorCode":"VpceAccessDenied","errorMessage":"The request was denied due to a VPC endpoint policy","requestParameters":null,"responseElements":null,"eventID":"{id}","eventType":"AwsVpceEvent","recipientAccountId":"{account}","vpcEndpointId":"vpce-0a1b2c3d4e5f60718","vpcEndpointAccountId":"{account}","eventCategory":"NetworkActivity"}}"#
            );
            content.raw(record, Some(id), "cross_account").finish()
        }
        Oddity::Aggregated => {
            let content = Content::new(generator, FileKind::Aggregated);
            let id = event_id(content.file.seed, 0);
            let (account, region) = (ACCOUNTS[content.file.account], content.file.region);
            let time = |before: u64| Calendar::new(content.file.delivered_s - before).iso8601();
            let record = format!(
                r#"{{"eventVersion":"1.0","accountId":"{account}","eventId":"{id}","eventCategory":"Aggregated","eventType":"AwsAggregatedEvent","awsRegion":"{region}","eventSource":"s3.amazonaws.com","timeWindow":{{"windowStart":"{}","windowEnd":"{}","windowSize":"PT5M"}},"summary":{{"primaryDimension":{{"dimension":"eventName","statistics":[{{"name":"GetObject","value":120}}],"aggregationType":"Count"}},"details":[]}}}}"#,
                time(600),
                time(300)
            );
            let content = content.raw(record, Some(id), "aggregate");
            let json = content.wrapped(b"[", b",", b"]");
            content.finish_as(json)
        }
        Oddity::Digest => {
            let content = Content::new(generator, FileKind::Digest);
            let account = ACCOUNTS[content.file.account];
            let end = Calendar::new(content.file.delivered_s).iso8601();
            let json = format!(
                r#"{{"awsAccountId":"{account}","digestStartTime":"{end}","digestEndTime":"{end}","digestS3Bucket":"logs","digestS3Object":"x","digestPublicKeyFingerprint":"00","digestSignatureAlgorithm":"SHA256withRSA","newestEventTime":null,"oldestEventTime":null,"previousDigestS3Bucket":null,"logFiles":[]}}"#
            );
            let (sample, _) = content.finish_as(json.into_bytes());
            (sample, Reading::Foreign)
        }
        _ => {
            let mut content = Content::new(generator, FileKind::Log);
            let key =
                content.file.key.replace("/CloudTrail/", "/Config/").replace("_CloudTrail_", "_Config_");
            content.file.key = key.replace(".json.gz", "_ConfigSnapshot.json.gz");
            let json = r#"{"fileVersion":"1.0","configSnapshotId":"f7c0d2e4","configurationItems":[{"resourceType":"AWS::S3::Bucket","Records":[{"a":1}]}]}"#;
            let (sample, _) = content.finish_as(json.as_bytes().to_vec());
            (sample, Reading::Foreign)
        }
    }
}

/// Files whose events do not stand in `{"Records":[…]}` as AWS writes it.
fn other_frame(generator: &mut Generator, oddity: Oddity) -> (LogFileSample, Reading) {
    let content = Content::new(generator, FileKind::Log);
    match oddity {
        Oddity::EmptyRecords => content.finish(),
        Oddity::NoRecords => {
            let (sample, _) = content.finish_as(br#"{"Message":"not a log file"}"#.to_vec());
            (sample, Reading::Foreign)
        }
        Oddity::RecordsNotFirst => {
            let content = content.ordinary(3);
            let first = br#"{"note":"\"Records\":[1]","meta":{"Records":[{"fake":1}]},"n":[1,2],"Records":["#;
            let json = content.wrapped(first, b",", b"],\"after\":{\"x\":[]}}");
            content.finish_as(json)
        }
        Oddity::PrettyPrinted => {
            // Line breaks between tokens become spaces when the event is delivered, so that is what is hashed.
            let pretty = |record: &[u8], line_break: &str| {
                let text = String::from_utf8_lossy(record);
                text.replacen(",\"eventTime\"", &format!(",{line_break}  \"eventTime\""), 1).into_bytes()
            };
            let mut content = content.ordinary(3);
            for (record, issued) in content.records.iter_mut().zip(&mut content.issued) {
                issued.sha256 = Sha256::digest(pretty(record, " ")).into();
                *record = pretty(record, "\n");
            }
            let json = content.wrapped(b"{\n  \"Records\" : [\n", b" ,\r\n\t", b"\n]\n}\n");
            content.finish_as(json)
        }
        Oddity::ByteOrderMark => {
            let content = content.ordinary(3);
            let json = [b"\xef\xbb\xbf", content.json().as_slice()].concat();
            content.finish_as(json)
        }
        _ => {
            let content = content.ordinary(3);
            let json = content.wrapped(b"{\"Records\":[", b",", b",{\"eventID\":\"torn\",\"awsReg");
            let (sample, _) = content.finish_as(json);
            (sample, Reading::Broken)
        }
    }
}

/// Files whose compressed bytes are odd.
fn other_bytes(generator: &mut Generator, oddity: Oddity) -> (LogFileSample, Reading) {
    let content = Content::new(generator, FileKind::Log).ordinary(40);
    let (mut sample, _) = content.finish();
    let reading = match oddity {
        Oddity::Empty => {
            sample.gz.clear();
            sample.json.clear();
            sample.issued.clear();
            Reading::Foreign
        }
        Oddity::MultiMemberGzip => {
            let (a, rest) = sample.json.split_at(sample.json.len() / 3);
            let (b, c) = rest.split_at(rest.len() / 2);
            sample.gz = [a, b, b"", c].iter().flat_map(|part| generator.gzip(part)).collect();
            Reading::Whole
        }
        Oddity::TruncatedGzip => {
            sample.gz.truncate(sample.gz.len() * 2 / 3);
            Reading::Broken
        }
        Oddity::CorruptGzip => {
            let middle = sample.gz.len() / 2;
            sample.gz[middle] ^= 0xff;
            Reading::Broken
        }
        Oddity::TrailingGarbage => {
            sample.gz.extend_from_slice(b"garbage after the end");
            Reading::Broken
        }
        Oddity::Bomb => {
            sample.gz = bomb();
            sample.json.clear();
            sample.issued.clear();
            Reading::Broken
        }
        _ => {
            sample.gz.clone_from(&sample.json);
            Reading::Whole
        }
    };
    (sample, reading)
}

/// A well-formed file of one event that inflates to [`BOMB_BYTES`].
fn bomb() -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    let block = vec![b'x'; 1 << 20];
    // Writing to a vector cannot fail.
    let _ = encoder.write_all(br#"{"Records":[{"eventVersion":"1.11","eventName":""#);
    for _ in 0..BOMB_BYTES / block.len() {
        let _ = encoder.write_all(&block);
    }
    let _ = encoder.write_all(br#""}]}"#);
    encoder.finish().unwrap_or_default()
}
