//! The checked configuration: plain data in which nothing can be wrong any more.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use sinks::Compression;
use sinks::Secret;
use sinks::destinations::Additions;

use super::problem::Problem;
use super::remote::{RemoteSecret, SecretSource};
use super::settings::Settings;

pub use super::raw::{LogFormat, LogLevel};

/// The name of the identity that `[aws]` itself describes.
pub const DEFAULT_IDENTITY: &str = "default";

/// Labels in the order of their names.
pub type Labels = Vec<(String, String)>;

/// Everything that the agent is told.
#[derive(Clone, Debug)]
pub struct Config {
    pub agent: Agent,
    /// By name; there is always a [`DEFAULT_IDENTITY`].
    pub aws: BTreeMap<String, AwsIdentity>,
    /// In the order of their names; may be empty.
    pub sources: Vec<Source>,
    /// In the order of their names; never empty.
    pub sinks: Vec<SinkConfig>,
    /// There is one if a source reads a queue.
    pub dead_letter: Option<DeadLetter>,
    /// Secrets that AWS keeps and that were not read yet, with their keys. While there are any, the sinks that need
    /// them cannot be built.
    pub unread: Vec<(String, RemoteSecret)>,
    /// What works but deserves a look.
    pub warnings: Vec<Problem>,
    /// The configuration in effect as TOML, defaults included, secrets left out.
    pub effective: String,
    /// SHA-256 of `effective` in hexadecimal: whether two agents run the same configuration.
    pub sha256: String,
}

/// What concerns the process as a whole.
#[derive(Clone, Debug)]
pub struct Agent {
    /// Where the admin pages are served.
    pub listen: SocketAddr,
    /// Bytes that events may take in memory.
    pub memory_budget: u64,
    /// How long a shutdown may take.
    pub shutdown_grace: Duration,
    /// Where the agent keeps what must survive a restart.
    pub state_dir: PathBuf,
    pub log_format: LogFormat,
    pub log_level: LogLevel,
    /// Added to every event.
    pub labels: Labels,
    /// Values of `userIdentity.invokedBy` behind which a person in the console acted.
    pub console_front_ends: Vec<String>,
    /// Opens the status page where it is not served on loopback.
    pub admin_token: Option<Secret>,
    pub limits: Limits,
}

/// Limits of reading log files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one log file when inflated.
    pub log_file_bytes: u64,
    /// Inflated bytes for each compressed byte.
    pub ratio: u32,
    /// Bytes of one event.
    pub event_bytes: u64,
    /// Nesting of one event.
    pub depth: u32,
}

/// Who the agent is towards AWS, and how it gets there.
#[derive(Clone, Debug, Default)]
pub struct AwsIdentity {
    /// `None`: the SDK's own chain decides.
    pub region: Option<String>,
    pub endpoints: Endpoints,
    pub use_fips: bool,
    pub use_dualstack: bool,
    /// May hold a password.
    pub proxy: Option<Secret>,
    /// A profile of the shared AWS configuration files.
    pub profile: Option<String>,
    pub assume_role: Option<AssumeRole>,
}

/// Endpoints to use instead of AWS's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoints {
    pub s3: Option<String>,
    pub sqs: Option<String>,
    pub sts: Option<String>,
    pub secrets_manager: Option<String>,
    pub ssm: Option<String>,
}

/// A role to assume with the credentials of the chain.
#[derive(Clone, Debug)]
pub struct AssumeRole {
    pub arn: String,
    pub external_id: Option<Secret>,
    pub session_name: String,
}

/// Where log files come from.
#[derive(Clone, Debug)]
pub struct Source {
    /// Letters, digits, `_` and `-`.
    pub name: String,
    /// Labels of the agent and of the source; the source's win.
    pub labels: Labels,
    /// Which log files are shipped.
    pub filter: Filter,
    pub kind: SourceKind,
}

/// The kinds of sources.
#[derive(Clone, Debug)]
pub enum SourceKind {
    Sqs(Sqs),
    Directory(Directory),
}

/// A queue of notifications.
#[derive(Clone, Debug)]
pub struct Sqs {
    pub queue_url: String,
    /// The queue of what sinks are still owed, where it is another one.
    pub handoff_queue_url: Option<String>,
    /// The queue's region, where the configuration or the URL says it.
    pub region: Option<String>,
    /// A name in [`Config::aws`].
    pub aws: String,
    /// The buckets that notifications may name; never empty.
    pub buckets: Vec<Bucket>,
    /// How long one receive call waits for messages.
    pub wait: Duration,
    /// How long a lease lasts unless it is extended.
    pub visibility_timeout: Duration,
    /// Log files that are fetched at once.
    pub fetch_concurrency: usize,
    /// Messages that are held at once.
    pub leases_max: usize,
    /// How often a broken log file is read before its rest is dead-lettered.
    pub read_attempts: u32,
}

/// A bucket, or buckets, that notifications may name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// `*` stands for any number of characters.
    pub name: String,
    /// The account that must own it.
    pub owner: Option<String>,
    /// What every key begins with.
    pub prefix: String,
    /// `None`: found out.
    pub region: Option<String>,
    /// A name in [`Config::aws`].
    pub aws: String,
}

/// A folder of log files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    pub path: PathBuf,
    pub poll_interval: Duration,
}

/// Which log files are shipped, by what their keys say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    pub include: Selection,
    pub exclude: Selection,
}

/// A part of all log files. For `include` an empty set means all, for `exclude` none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    pub accounts: BTreeSet<String>,
    pub regions: BTreeSet<String>,
    /// `log`, `insight`, `network_activity`, `aggregated`.
    pub kinds: BTreeSet<String>,
}

impl DeadLetter {
    /// The name of the identity that it needs.
    pub fn identity(&self) -> Option<&str> {
        match self {
            Self::File { .. } => None,
            Self::S3 { aws, .. } | Self::Sqs { aws, .. } => Some(aws),
        }
    }
}

impl std::fmt::Display for DeadLetter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File { path, .. } => write!(f, "{}", path.display()),
            Self::S3 { bucket, prefix, .. } => write!(f, "s3://{bucket}/{prefix}"),
            Self::Sqs { queue_url, .. } => f.write_str(queue_url),
        }
    }
}

impl Config {
    /// Every secret that AWS keeps, read or not; one may be named twice.
    pub fn secrets(&self) -> impl Iterator<Item = &RemoteSecret> {
        let of_sinks = self.sinks.iter().flat_map(|sink| &sink.secrets);
        let remote = of_sinks.filter_map(|secret| match secret {
            SecretSource::Remote(remote) => Some(remote),
            SecretSource::File => None,
        });
        self.unread.iter().map(|(_, remote)| remote).chain(remote)
    }

    /// The names under which sources are counted; a queue of hand-offs has one of its own.
    pub fn source_names(&self) -> Vec<String> {
        let own = self.sources.iter().map(|source| source.name.clone());
        own.chain(self.sources.iter().filter_map(Source::handoff_name)).collect()
    }

    /// Every place for dead letters, each once.
    pub fn dead_letters(&self) -> Vec<&DeadLetter> {
        let mut places: Vec<&DeadLetter> = Vec::new();
        for place in
            self.dead_letter.iter().chain(self.sinks.iter().filter_map(|sink| sink.dead_letter.as_ref()))
        {
            if !places.contains(&place) {
                places.push(place);
            }
        }
        places
    }
}

impl Source {
    /// The name under which its queue of hand-offs is counted, where that is another one.
    pub fn handoff_name(&self) -> Option<String> {
        let SourceKind::Sqs(queue) = &self.kind else { return None };
        queue.handoff_queue_url.as_ref().map(|_| format!("{}/handoff", self.name))
    }
}

impl Filter {
    /// Whether a log file is shipped. What a key does not say passes every `exclude`, and an `include` of
    /// accounts or regions holds it back.
    pub fn admits(&self, account: Option<&str>, region: Option<&str>, kind: &str) -> bool {
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
pub struct SinkConfig {
    /// Letters, digits, `_` and `-`.
    pub name: String,
    /// The value of `type`.
    pub type_name: String,
    pub additions: Additions,
    /// Whether log files wait for this sink.
    pub required: bool,
    /// The sink's own labels.
    pub labels: Labels,
    pub batch: Batch,
    pub retry: Retry,
    pub concurrency: Concurrency,
    /// The name in [`Config::aws`] of the identity that signs or writes for it.
    pub identity: Option<String>,
    /// Where its refused events are kept, if not where those of the others are.
    pub dead_letter: Option<DeadLetter>,
    /// Where its secrets are kept that may change without the configuration.
    pub secrets: Vec<SecretSource>,
    pub kind: SinkKind,
}

/// The kinds of sinks, by what carries the events.
#[derive(Clone, Debug)]
pub enum SinkKind {
    /// A destination elsewhere; see [`SinkConfig::build`].
    Destination(Box<Network>, Settings),
    File(FileSink),
    Console,
}

/// When a batch is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Encoded, not compressed.
    pub max_bytes: u64,
    pub max_events: u32,
    pub max_age: Duration,
}

/// How deliveries are repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    pub initial: Duration,
    pub max: Duration,
    /// Counted from the last accepted request: then the lane parks.
    pub give_up_after: Duration,
}

/// Requests at once; the lane moves between the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Concurrency {
    pub min: u32,
    pub max: u32,
}

/// How a destination is reached. What its kind of carrier does not know has a default and no effect.
#[derive(Clone, Debug)]
pub struct Network {
    /// Of a whole exchange.
    pub timeout: Duration,
    pub connect_timeout: Duration,
    /// How long what was accepted may stay unconfirmed, where the destination confirms.
    pub ack_timeout: Duration,
    pub compression: Compression,
    pub tls: Tls,
    /// May hold a password. `None`: `HTTPS_PROXY` and `NO_PROXY` decide.
    pub proxy: Option<Secret>,
    /// How long a connection may stay idle, where the destination closes it without a word.
    pub idle_connection_max: Option<Duration>,
}

/// What TLS needs beyond the system's certificates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    pub ca_file: Option<PathBuf>,
    pub cert_file: Option<PathBuf>,
    /// There is one if and only if there is a `cert_file`.
    pub key_file: Option<PathBuf>,
    pub server_name: Option<String>,
    pub insecure_skip_verify: bool,
}

/// A file of one event a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSink {
    pub path: PathBuf,
    /// Size at which the file is renamed and a new one begun.
    pub rotate_bytes: u64,
    /// Age at which it is; `None`: never for its age.
    pub rotate_age: Option<Duration>,
}

/// Where what no destination takes is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeadLetter {
    /// A file of one dead letter a line.
    File {
        path: PathBuf,
        /// The operator vouches for the file's outliving the container.
        durable: bool,
    },
    /// Messages in a queue, which nobody else reads.
    Sqs {
        queue_url: String,
        /// The queue's region, where the configuration or the URL says it.
        region: Option<String>,
        /// A name in [`Config::aws`].
        aws: String,
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
