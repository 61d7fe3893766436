//! The checked configuration: plain data in which nothing can be wrong any more.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use sinks::Compression;
use sinks::Secret;
use sinks::destinations::Additions;

use super::problem::Problem;
use super::settings::Settings;

pub(crate) use super::raw::{LogFormat, LogLevel};

/// The name of the identity that `[aws]` itself describes.
pub(crate) const DEFAULT_IDENTITY: &str = "default";

/// Labels in the order of their names.
pub(crate) type Labels = Vec<(String, String)>;

/// Everything that the agent is told.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) agent: Agent,
    /// By name; there is always a [`DEFAULT_IDENTITY`].
    pub(crate) aws: BTreeMap<String, AwsIdentity>,
    /// In the order of their names; may be empty.
    pub(crate) sources: Vec<Source>,
    /// In the order of their names; never empty.
    pub(crate) sinks: Vec<SinkConfig>,
    /// There is one if a source reads a queue.
    pub(crate) dead_letter: Option<DeadLetter>,
    /// What works but deserves a look.
    pub(crate) warnings: Vec<Problem>,
    /// The configuration in effect as TOML, defaults included, secrets left out.
    pub(crate) effective: String,
    /// SHA-256 of `effective` in hexadecimal: whether two agents run the same configuration.
    pub(crate) sha256: String,
}

/// What concerns the process as a whole.
#[derive(Clone, Debug)]
pub(crate) struct Agent {
    /// Where the admin pages are served.
    pub(crate) listen: SocketAddr,
    /// Bytes that events may take in memory.
    pub(crate) memory_budget: u64,
    /// How long a shutdown may take.
    pub(crate) shutdown_grace: Duration,
    /// Where the agent keeps what must survive a restart.
    pub(crate) state_dir: PathBuf,
    pub(crate) log_format: LogFormat,
    pub(crate) log_level: LogLevel,
    /// Added to every event.
    pub(crate) labels: Labels,
    /// Values of `userIdentity.invokedBy` behind which a person in the console acted.
    pub(crate) console_front_ends: Vec<String>,
    /// Opens the status page where it is not served on loopback.
    pub(crate) admin_token: Option<Secret>,
    pub(crate) limits: Limits,
}

/// Limits of reading log files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Bytes of one log file when inflated.
    pub(crate) log_file_bytes: u64,
    /// Inflated bytes for each compressed byte.
    pub(crate) ratio: u32,
    /// Bytes of one event.
    pub(crate) event_bytes: u64,
    /// Nesting of one event.
    pub(crate) depth: u32,
}

/// Who the agent is towards AWS, and how it gets there.
#[derive(Clone, Debug, Default)]
pub(crate) struct AwsIdentity {
    /// `None`: the SDK's own chain decides.
    pub(crate) region: Option<String>,
    pub(crate) endpoints: Endpoints,
    pub(crate) use_fips: bool,
    pub(crate) use_dualstack: bool,
    /// May hold a password.
    pub(crate) proxy: Option<Secret>,
    /// A profile of the shared AWS configuration files.
    pub(crate) profile: Option<String>,
    pub(crate) assume_role: Option<AssumeRole>,
}

/// Endpoints to use instead of AWS's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Endpoints {
    pub(crate) s3: Option<String>,
    pub(crate) sqs: Option<String>,
    pub(crate) sts: Option<String>,
}

/// A role to assume with the credentials of the chain.
#[derive(Clone, Debug)]
pub(crate) struct AssumeRole {
    pub(crate) arn: String,
    pub(crate) external_id: Option<Secret>,
    pub(crate) session_name: String,
}

/// Where log files come from.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// Letters, digits, `_` and `-`.
    pub(crate) name: String,
    /// Labels of the agent and of the source; the source's win.
    pub(crate) labels: Labels,
    /// Which log files are shipped.
    pub(crate) filter: Filter,
    pub(crate) kind: SourceKind,
}

/// The kinds of sources.
#[derive(Clone, Debug)]
pub(crate) enum SourceKind {
    Sqs(Sqs),
    Directory(Directory),
}

impl SourceKind {
    /// The value of `type`.
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Self::Sqs(_) => "sqs",
            Self::Directory(_) => "directory",
        }
    }
}

/// A queue of notifications.
#[derive(Clone, Debug)]
pub(crate) struct Sqs {
    pub(crate) queue_url: String,
    /// The queue's region, where the configuration or the URL says it.
    pub(crate) region: Option<String>,
    /// A name in [`Config::aws`].
    pub(crate) aws: String,
    /// The buckets that notifications may name; never empty.
    pub(crate) buckets: Vec<Bucket>,
    /// How long one receive call waits for messages.
    pub(crate) wait: Duration,
    /// How long a lease lasts unless it is extended.
    pub(crate) visibility_timeout: Duration,
    /// Log files that are fetched at once.
    pub(crate) fetch_concurrency: usize,
    /// Messages that are held at once.
    pub(crate) leases_max: usize,
    /// How often a broken log file is read before its rest is dead-lettered.
    pub(crate) read_attempts: u32,
}

/// A bucket, or buckets, that notifications may name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bucket {
    /// `*` stands for any number of characters.
    pub(crate) name: String,
    /// The account that must own it.
    pub(crate) owner: Option<String>,
    /// What every key begins with.
    pub(crate) prefix: String,
    /// `None`: found out.
    pub(crate) region: Option<String>,
    /// A name in [`Config::aws`].
    pub(crate) aws: String,
}

/// A folder of log files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Directory {
    pub(crate) path: PathBuf,
    pub(crate) poll_interval: Duration,
}

/// Which log files are shipped, by what their keys say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    pub(crate) include: Selection,
    pub(crate) exclude: Selection,
}

/// A part of all log files. For `include` an empty set means all, for `exclude` none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Selection {
    pub(crate) accounts: BTreeSet<String>,
    pub(crate) regions: BTreeSet<String>,
    /// `log`, `insight`, `network_activity`, `aggregated`.
    pub(crate) kinds: BTreeSet<String>,
}

impl Filter {
    /// Whether a log file is shipped. What a key does not say passes every `exclude`, and an `include` of
    /// accounts or regions holds it back.
    pub(crate) fn admits(&self, account: Option<&str>, region: Option<&str>, kind: &str) -> bool {
        let included = |set: &BTreeSet<String>, value: Option<&str>| {
            set.is_empty() || value.is_some_and(|value| set.contains(value))
        };
        let excluded =
            |set: &BTreeSet<String>, value: Option<&str>| value.is_some_and(|value| set.contains(value));
        included(&self.include.accounts, account)
            && included(&self.include.regions, region)
            && included(&self.include.kinds, Some(kind))
            && !excluded(&self.exclude.accounts, account)
            && !excluded(&self.exclude.regions, region)
            && !excluded(&self.exclude.kinds, Some(kind))
    }
}

/// Where events go.
#[derive(Clone, Debug)]
pub(crate) struct SinkConfig {
    /// Letters, digits, `_` and `-`.
    pub(crate) name: String,
    /// The value of `type`.
    pub(crate) type_name: String,
    pub(crate) additions: Additions,
    /// Whether log files wait for this sink.
    pub(crate) required: bool,
    /// The sink's own labels.
    pub(crate) labels: Labels,
    pub(crate) batch: Batch,
    pub(crate) retry: Retry,
    pub(crate) concurrency: Concurrency,
    pub(crate) kind: SinkKind,
}

/// The kinds of sinks, by what carries the events.
#[derive(Clone, Debug)]
pub(crate) enum SinkKind {
    /// A destination that speaks HTTP; see [`SinkConfig::build`].
    Http(Box<Http>, Settings),
    File(FileSink),
    Console,
}

/// When a batch is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    /// Encoded, not compressed.
    pub(crate) max_bytes: u64,
    pub(crate) max_events: u32,
    pub(crate) max_age: Duration,
}

/// How deliveries are repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Retry {
    pub(crate) initial: Duration,
    pub(crate) max: Duration,
    /// Counted from the last accepted request: then the lane parks.
    pub(crate) give_up_after: Duration,
}

/// Requests at once; the lane moves between the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Concurrency {
    pub(crate) min: u32,
    pub(crate) max: u32,
}

/// How an HTTP destination is reached.
#[derive(Clone, Debug)]
pub(crate) struct Http {
    /// Of a whole exchange.
    pub(crate) timeout: Duration,
    pub(crate) connect_timeout: Duration,
    /// How long what was accepted may stay unconfirmed, where the destination confirms.
    pub(crate) ack_timeout: Duration,
    pub(crate) compression: Compression,
    pub(crate) tls: Tls,
    /// May hold a password. `None`: `HTTPS_PROXY` and `NO_PROXY` decide.
    pub(crate) proxy: Option<Secret>,
    /// How long a connection may stay idle, where the destination closes it without a word.
    pub(crate) idle_connection_max: Option<Duration>,
}

/// What TLS needs beyond the system's certificates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tls {
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) cert_file: Option<PathBuf>,
    /// There is one if and only if there is a `cert_file`.
    pub(crate) key_file: Option<PathBuf>,
    pub(crate) server_name: Option<String>,
    pub(crate) insecure_skip_verify: bool,
}

/// A file of one event a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileSink {
    pub(crate) path: PathBuf,
    /// Size at which the file is renamed and a new one begun.
    pub(crate) rotate_bytes: u64,
    /// Age at which it is; `None`: never for its age.
    pub(crate) rotate_age: Option<Duration>,
}

/// Where what no destination takes is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DeadLetter {
    /// A file of one dead letter a line.
    File {
        path: PathBuf,
        /// The operator vouches for the file's outliving the container.
        durable: bool,
    },
    /// Objects in a bucket.
    S3 {
        bucket: String,
        prefix: String,
        /// `None`: found out.
        region: Option<String>,
        /// A name in [`Config::aws`].
        aws: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(values: &[&str]) -> BTreeSet<String> {
        values.iter().map(|value| (*value).to_owned()).collect()
    }

    #[test]
    fn a_filter_admits_what_is_included_and_not_excluded() {
        let include = Selection { accounts: set(&["1"]), regions: set(&[]), kinds: set(&["log"]) };
        let exclude = Selection { accounts: set(&[]), regions: set(&["eu-west-1"]), kinds: set(&[]) };
        let filter = Filter { include, exclude };
        assert!(filter.admits(Some("1"), Some("us-east-1"), "log"));
        assert!(filter.admits(Some("1"), None, "log"));
        assert!(!filter.admits(Some("2"), Some("us-east-1"), "log"));
        assert!(!filter.admits(None, Some("us-east-1"), "log"));
        assert!(!filter.admits(Some("1"), Some("eu-west-1"), "log"));
        assert!(!filter.admits(Some("1"), Some("us-east-1"), "insight"));
    }
}
