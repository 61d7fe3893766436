//! A log file: its place in the bucket, its time, and its compressed form.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::{ACCOUNTS, Generator, Issued, REGIONS};
use crate::calendar::Calendar;
use crate::random::Rng;

/// What kind of file a key names.
/// <https://docs.aws.amazon.com/awscloudtrail/latest/userguide/get-and-view-cloudtrail-log-files.html>
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// Management and data events.
    Log,
    /// Unusual rates of calls and errors.
    Insight,
    /// What passed through VPC endpoints.
    NetworkActivity,
    /// Data events summed up over five minutes.
    Aggregated,
    /// What was written in an hour, signed.
    Digest,
}

impl FileKind {
    /// The folder, which also stands in the file's name.
    const fn folder(self) -> &'static str {
        match self {
            Self::Log => "CloudTrail",
            Self::Insight => "CloudTrail-Insight",
            Self::NetworkActivity => "CloudTrail-NetworkActivity",
            Self::Aggregated => "CloudTrail-Aggregated",
            Self::Digest => "CloudTrail-Digest",
        }
    }
}

/// A log file that was made.
#[derive(Debug, Clone)]
pub struct LogFileSample {
    /// Where CloudTrail would put it.
    pub key: String,
    /// The account that it belongs to.
    pub account: &'static str,
    /// The region that it belongs to.
    pub region: &'static str,
    /// When it is delivered, in seconds since 1970.
    pub delivered_s: u64,
    /// The content; empty where it is too long to be held.
    pub json: Vec<u8>,
    /// The content as it lies in the bucket: compressed, or damaged, or plain, as the case may be.
    pub gz: Vec<u8>,
    /// Every event that the content holds.
    pub issued: Vec<Issued>,
}

/// A file under way.
pub(super) struct File {
    pub(super) seed: u64,
    pub(super) account: usize,
    pub(super) region: &'static str,
    pub(super) delivered_s: u64,
    pub(super) key: String,
}

/// The key of a log file: `[prefix]AWSLogs/[organization/]account/kind/region/date/name`.
#[must_use]
pub fn log_file_key(
    prefix: &str,
    organization: Option<&str>,
    account: &str,
    kind: FileKind,
    region: &str,
    delivered_s: u64,
    unique: &str,
) -> String {
    let date = Calendar::new(delivered_s);
    let organization = organization.map_or_else(String::new, |id| format!("{id}/"));
    let folder = kind.folder();
    let name = match kind {
        FileKind::Digest => {
            format!("{account}_{folder}_{region}_organization_us-east-1_{}", date.second_stamp())
        }
        _ => format!("{account}_{folder}_{region}_{}_{unique}", date.minute_stamp()),
    };
    format!("{prefix}AWSLogs/{organization}{account}/{folder}/{region}/{}/{name}.json.gz", date.folder())
}

impl Generator {
    /// Opens the next file.
    pub(super) fn begin(&mut self, kind: FileKind) -> File {
        let number = self.files;
        self.files += 1;
        let mut rng = Rng::stream(self.seed, number);
        let account = rng.below(ACCOUNTS.len());
        // Most of what happens, happens in one region.
        let region = REGIONS[rng.below(REGIONS.len()).min(rng.below(REGIONS.len()))];
        // Each account and region has a file every five minutes or so.
        let delivered_s = self.start_s + number / 6 * 60 + rng.below(60) as u64;
        let mut unique = Vec::with_capacity(16);
        for _ in 0..16 {
            unique.push(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"[rng.below(62)]);
        }
        let unique = String::from_utf8_lossy(&unique).into_owned();
        let organization = self.organization.as_deref();
        let key =
            log_file_key(&self.prefix, organization, ACCOUNTS[account], kind, region, delivered_s, &unique);
        File { seed: rng.bits(), account, region, delivered_s, key }
    }

    /// Compresses a file's content.
    pub(super) fn finish(&self, file: File, json: Vec<u8>, issued: Vec<Issued>) -> LogFileSample {
        let gz = self.gzip(&json);
        LogFileSample {
            key: file.key,
            account: ACCOUNTS[file.account],
            region: file.region,
            delivered_s: file.delivered_s,
            json,
            gz,
            issued,
        }
    }

    pub(super) fn gzip(&self, json: &[u8]) -> Vec<u8> {
        let mut encoder =
            GzEncoder::new(Vec::with_capacity(json.len() / 5 + 64), Compression::new(self.gzip_level));
        // Writing to a vector cannot fail.
        let _ = encoder.write_all(json);
        encoder.finish().unwrap_or_default()
    }
}
