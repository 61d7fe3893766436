//! A configuration as it is written: every key, and the defaults that do not depend on anything.
//!
//! The field's comments are in `config.example.toml`, which a test holds to these structs.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sinks::Compression;
use sinks::Secret;
use sinks::destinations::Additions;

use super::units::{Size, Span, TextVisitor, format_size, parse_size};

/// Strings that are added to events.
pub(super) type Labels = BTreeMap<String, String>;

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawAgent {
    pub(super) listen: String,
    pub(super) memory_budget: MemoryBudget,
    pub(super) shutdown_grace: Span,
    pub(super) state_dir: Option<String>,
    pub(super) log_format: LogFormat,
    pub(super) log_level: LogLevel,
    pub(super) labels: Labels,
    pub(super) console_front_ends: Vec<String>,
    pub(super) admin_token: Option<Secret>,
    pub(super) limits: RawLimits,
}

impl Default for RawAgent {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:7464".to_owned(),
            memory_budget: MemoryBudget::Bytes(64 << 20),
            shutdown_grace: Span::secs(25),
            state_dir: None,
            log_format: LogFormat::Auto,
            log_level: LogLevel::Info,
            labels: Labels::new(),
            console_front_ends: vec!["signin.amazonaws.com".to_owned()],
            admin_token: None,
            limits: RawLimits::default(),
        }
    }
}

/// How much memory events may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MemoryBudget {
    /// A share of what the container may use.
    Auto,
    /// So many bytes.
    Bytes(u64),
}

impl Serialize for MemoryBudget {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::Bytes(bytes) => serializer.serialize_str(&format_size(*bytes)),
        }
    }
}

impl<'de> Deserialize<'de> for MemoryBudget {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(TextVisitor(
            "a size such as \"64MiB\", or \"auto\"",
            |text| match text {
                "auto" => Some(Self::Auto),
                text => parse_size(text).map(Self::Bytes),
            },
        ))
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// The least severe log lines that are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawLimits {
    pub(super) log_file_bytes: Size,
    pub(super) ratio: u32,
    pub(super) event_bytes: Size,
    pub(super) depth: u32,
}

impl Default for RawLimits {
    fn default() -> Self {
        Self { log_file_bytes: Size(8 << 30), ratio: 200, event_bytes: Size(4 << 20), depth: 128 }
    }
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawAws {
    pub(super) region: Option<String>,
    pub(super) endpoints: RawEndpoints,
    pub(super) use_fips: Option<bool>,
    pub(super) use_dualstack: Option<bool>,
    #[serde(serialize_with = "without_userinfo")]
    pub(super) proxy: Option<String>,
    pub(super) profile: Option<String>,
    pub(super) allow_plaintext: Option<bool>,
    pub(super) assume_role: Option<RawAssumeRole>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawEndpoints {
    pub(super) s3: Option<String>,
    pub(super) sqs: Option<String>,
    pub(super) sts: Option<String>,
    pub(super) secrets_manager: Option<String>,
    pub(super) ssm: Option<String>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawAssumeRole {
    pub(super) arn: String,
    #[serde(default)]
    pub(super) external_id: Option<Secret>,
    #[serde(default = "session_name")]
    pub(super) session_name: String,
}

fn session_name() -> String {
    "trailship".to_owned()
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSqs {
    pub(super) queue_url: String,
    #[serde(default)]
    pub(super) handoff_queue_url: Option<String>,
    #[serde(default)]
    pub(super) region: Option<String>,
    #[serde(default = "default_identity")]
    pub(super) aws: String,
    pub(super) buckets: Vec<RawBucket>,
    #[serde(default = "include_default")]
    pub(super) include: RawFilter,
    #[serde(default)]
    pub(super) exclude: RawFilter,
    #[serde(default)]
    pub(super) labels: Labels,
    #[serde(default = "wait")]
    pub(super) wait: Span,
    #[serde(default = "visibility_timeout")]
    pub(super) visibility_timeout: Span,
    #[serde(default = "fetch_concurrency")]
    pub(super) fetch_concurrency: u32,
    #[serde(default = "leases_max")]
    pub(super) leases_max: u32,
    #[serde(default = "read_attempts")]
    pub(super) read_attempts: u32,
}

pub(super) fn default_identity() -> String {
    super::model::DEFAULT_IDENTITY.to_owned()
}
fn wait() -> Span {
    Span::secs(20)
}
fn visibility_timeout() -> Span {
    Span::secs(300)
}
fn fetch_concurrency() -> u32 {
    8
}
fn leases_max() -> u32 {
    20_000
}
fn read_attempts() -> u32 {
    5
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawBucket {
    pub(super) name: String,
    #[serde(default)]
    pub(super) owner: Option<String>,
    #[serde(default)]
    pub(super) prefix: String,
    #[serde(default)]
    pub(super) region: Option<String>,
    #[serde(default)]
    pub(super) aws: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawFilter {
    pub(super) accounts: Vec<String>,
    pub(super) regions: Vec<String>,
    pub(super) kinds: Option<Vec<String>>,
}

pub(super) fn include_default() -> RawFilter {
    RawFilter { kinds: Some(vec!["log".to_owned()]), ..RawFilter::default() }
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawDirectory {
    pub(super) path: String,
    #[serde(default = "poll_interval")]
    pub(super) poll_interval: Span,
    #[serde(default = "include_default")]
    pub(super) include: RawFilter,
    #[serde(default)]
    pub(super) exclude: RawFilter,
    #[serde(default)]
    pub(super) labels: Labels,
}

fn poll_interval() -> Span {
    Span::secs(5)
}

/// The keys that every sink has.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawLane {
    #[serde(serialize_with = "write_additions")]
    pub(super) additions: Additions,
    pub(super) required: bool,
    pub(super) labels: Labels,
    pub(super) batch: RawBatch,
    pub(super) retry: RawRetry,
    pub(super) concurrency: RawConcurrency,
}

impl Default for RawLane {
    fn default() -> Self {
        Self {
            additions: Additions::Full,
            required: true,
            labels: Labels::new(),
            batch: RawBatch::default(),
            retry: RawRetry::default(),
            concurrency: RawConcurrency::default(),
        }
    }
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawBatch {
    pub(super) max_bytes: Option<Size>,
    pub(super) max_events: Option<u32>,
    pub(super) max_age: Option<Span>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawRetry {
    pub(super) initial: Span,
    pub(super) max: Span,
    pub(super) give_up_after: Span,
}

impl Default for RawRetry {
    fn default() -> Self {
        Self { initial: Span::millis(200), max: Span::secs(30), give_up_after: Span::secs(300) }
    }
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawConcurrency {
    pub(super) min: u32,
    pub(super) max: Option<u32>,
}

impl Default for RawConcurrency {
    fn default() -> Self {
        Self { min: 1, max: None }
    }
}

/// The keys that every sink has that speaks HTTP; one with a connection of its own has some of them.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawNetwork {
    pub(super) timeout: Span,
    pub(super) connect_timeout: Span,
    pub(super) ack_timeout: Option<Span>,
    #[serde(deserialize_with = "read_compression", serialize_with = "write_compression")]
    pub(super) compression: Option<Compression>,
    pub(super) tls: RawTls,
    #[serde(serialize_with = "without_userinfo")]
    pub(super) proxy: Option<String>,
    pub(super) allow_plaintext: bool,
}

impl Default for RawNetwork {
    fn default() -> Self {
        Self {
            timeout: Span::secs(60),
            connect_timeout: Span::secs(5),
            ack_timeout: None,
            compression: None,
            tls: RawTls::default(),
            proxy: None,
            allow_plaintext: false,
        }
    }
}

/// `none`, `gzip`, `deflate`, or one of these with a level, such as `gzip:6`.
fn read_compression<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Compression>, D::Error> {
    const EXPECTED: &str = "\"none\", \"gzip\", or \"gzip:N\" with a level N from 1 to 9";
    let visitor = TextVisitor(EXPECTED, |text| {
        if text == "none" {
            return Some(Compression::None);
        }
        let (name, level) = text.split_once(':').unwrap_or((text, "1"));
        let level = level.parse().ok().filter(|level| (1..=9).contains(level))?;
        match name {
            "gzip" => Some(Compression::Gzip(level)),
            "deflate" => Some(Compression::Deflate(level)),
            _ => None,
        }
    });
    deserializer.deserialize_str(visitor).map(Some)
}

fn write_compression<S: Serializer>(value: &Option<Compression>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        None => serializer.serialize_none(),
        Some(Compression::None) => serializer.serialize_str("none"),
        Some(Compression::Gzip(1)) => serializer.serialize_str("gzip"),
        Some(Compression::Deflate(1)) => serializer.serialize_str("deflate"),
        Some(Compression::Deflate(level)) => serializer.serialize_str(&format!("deflate:{level}")),
        Some(Compression::Gzip(level)) => serializer.serialize_str(&format!("gzip:{level}")),
    }
}

fn write_additions<S: Serializer>(value: &Additions, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(match value {
        Additions::Full => "full",
        Additions::None => "none",
    })
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawTls {
    pub(super) ca_file: String,
    pub(super) cert_file: String,
    pub(super) key_file: String,
    pub(super) server_name: String,
    pub(super) insecure_skip_verify: bool,
}

/// The own keys of the sink `file`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawFileSink {
    pub(super) path: String,
    #[serde(default)]
    pub(super) rotate: RawRotate,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawRotate {
    pub(super) max_bytes: Size,
    pub(super) max_age: Option<Span>,
}

impl Default for RawRotate {
    fn default() -> Self {
        Self { max_bytes: Size(256 << 20), max_age: None }
    }
}

/// The own keys of the sink `console`: none.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawConsole {}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawFileDeadLetter {
    pub(super) path: String,
    #[serde(default)]
    pub(super) durable: bool,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawS3DeadLetter {
    pub(super) bucket: String,
    #[serde(default)]
    pub(super) prefix: String,
    #[serde(default)]
    pub(super) region: Option<String>,
    #[serde(default = "default_identity")]
    pub(super) aws: String,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSqsDeadLetter {
    pub(super) queue_url: String,
    #[serde(default)]
    pub(super) region: Option<String>,
    #[serde(default = "default_identity")]
    pub(super) aws: String,
}

fn without_userinfo<S: Serializer>(url: &Option<String>, serializer: S) -> Result<S::Ok, S::Error> {
    match url {
        Some(url) => serializer.serialize_str(&super::url::without_userinfo(url)),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn compression_reads_and_writes() {
        for (text, expected) in [
            ("none", Some(Compression::None)),
            ("gzip", Some(Compression::Gzip(1))),
            ("gzip:6", Some(Compression::Gzip(6))),
            ("deflate", Some(Compression::Deflate(1))),
            ("deflate:9", Some(Compression::Deflate(9))),
            ("none:1", None),
            ("gzip:0", None),
            ("gzip:10", None),
            ("gzip:", None),
            ("deflate:x", None),
            ("zstd", None),
        ] {
            let read: Option<RawNetwork> =
                serde_json::from_value(serde_json::json!({ "compression": text })).ok();
            assert_eq!(read.as_ref().and_then(|http| http.compression), expected, "{text}");
            if let Some(http) = read {
                assert_eq!(serde_json::to_value(http).unwrap()["compression"], text);
            }
        }
    }

    #[test]
    fn the_memory_budget_is_a_size_or_automatic() {
        let read = |text: &str| serde_json::from_value::<MemoryBudget>(text.into()).ok();
        assert_eq!(read("auto"), Some(MemoryBudget::Auto));
        assert_eq!(read("1MiB"), Some(MemoryBudget::Bytes(1 << 20)));
        assert_eq!(read("much"), None);
    }
}
