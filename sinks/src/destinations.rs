//! The registry of destinations, and what they share: endpoints, common answers, questions of `check`.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer};

use crate::ports::{Clock, Compute, Dialer, Files, ObjectStores, Random, Transport};
use crate::{Compression, Event, HttpSink, ObjectSink, Reason, Redactor, Sink, encode};

pub mod alert_logic;
pub mod alert_logic_ingest;
mod credentials;
mod duration;
pub mod elasticsearch;
mod endpoint;
mod failover;
pub mod http;
pub mod loggly;
pub mod logstash;
pub mod logstash_http;
#[cfg(feature = "parquet")]
pub mod parquet;
mod probe;
mod size;
pub mod splunk_hec;
mod status;
pub mod sumo_logic;
pub mod syslog;
mod template;

pub use duration::{DURATION_EXPECTED, DURATION_UNITS, parse_duration};
pub(crate) use endpoint::{Endpoint, StreamEndpoint};
pub use probe::{Finding, FindingLevel, Probe, ProbeStep};
pub use size::{SIZE_EXPECTED, format_size, parse_size};
pub(crate) use status::{by_status, garbled, retry_after};

/// A destination's own settings: what is left of its table once the common keys are taken out.
pub trait Destination: DeserializeOwned {
    /// The defaults of what all destinations have in common.
    const DEFAULTS: Defaults;

    /// Whether it takes bodies compressed with `deflate`.
    const TAKES_DEFLATE: bool = false;

    /// Checks the settings and makes the sink.
    ///
    /// # Errors
    /// If a value cannot work, with the key and the remedy.
    fn build(self, common: &CommonSettings) -> Result<Built, Invalid>;
}

macro_rules! registry {
    ($($(#[$meta:meta])* $name:literal => $settings:ty,)*) => {
        /// The values of `type` that [`build`] knows.
        pub const TYPES: &[&str] = &[$($(#[$meta])* $name),*];

        /// The defaults of a type; `None` if it is not in [`TYPES`].
        #[must_use]
        pub fn defaults(type_name: &str) -> Option<Defaults> {
            match type_name {
                $($(#[$meta])* $name => Some(<$settings>::DEFAULTS),)*
                _ => None,
            }
        }

        /// Whether a type takes bodies compressed with `deflate`.
        #[must_use]
        pub fn takes_deflate(type_name: &str) -> bool {
            match type_name {
                $($(#[$meta])* $name => <$settings>::TAKES_DEFLATE,)*
                _ => false,
            }
        }

        /// Makes the sink of a type from its own settings.
        ///
        /// # Errors
        /// If the type is unknown, or the settings do not deserialize or cannot work.
        pub fn build<'de, D: Deserializer<'de>>(
            type_name: &str,
            settings: D,
            common: &CommonSettings,
        ) -> Result<Built, BuildError<D::Error>> {
            match type_name {
                $($(#[$meta])* $name => from_settings::<$settings, D>(settings, common),)*
                _ => Err(BuildError::UnknownType),
            }
        }
    };
}

// One line for each destination.
registry! {
    "alert_logic" => alert_logic::Settings,
    "alert_logic_ingest" => alert_logic_ingest::Settings,
    "elasticsearch" => elasticsearch::Settings,
    "http" => http::Settings,
    "loggly" => loggly::Settings,
    "logstash" => logstash::Settings,
    "logstash_http" => logstash_http::Settings,
    #[cfg(feature = "parquet")]
    "parquet" => parquet::Settings,
    "splunk_hec" => splunk_hec::Settings,
    "sumo_logic" => sumo_logic::Settings,
    "syslog" => syslog::Settings,
}

/// Whether a sink of that type gathers what it is given into objects of whole log files, in memory of its own.
#[must_use]
pub fn gathers(type_name: &str) -> bool {
    defaults(type_name).is_some_and(|defaults| defaults.reach == Reach::Store)
}

fn from_settings<'de, S: Destination, D: Deserializer<'de>>(
    settings: D,
    common: &CommonSettings,
) -> Result<Built, BuildError<D::Error>> {
    let settings = S::deserialize(settings).map_err(BuildError::Settings)?;
    settings.build(common).map_err(BuildError::Invalid)
}

/// Why a sink cannot be made.
#[derive(Debug)]
pub enum BuildError<E> {
    /// The type is not in [`TYPES`].
    UnknownType,
    /// The settings do not deserialize: an unknown key, a wrong type.
    Settings(E),
    /// A value cannot work.
    Invalid(Invalid),
}

impl<E: fmt::Display> fmt::Display for BuildError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownType => write!(f, "unknown type: use one of {}", TYPES.join(", ")),
            Self::Settings(error) => error.fmt(f),
            Self::Invalid(invalid) => invalid.fmt(f),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> std::error::Error for BuildError<E> {}

/// A setting that cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {message}")]
pub struct Invalid {
    /// The key, such as `endpoints`.
    pub key: String,
    /// What is wrong and what would be right; free of secrets.
    pub message: String,
}

impl Invalid {
    /// A message about a key.
    #[must_use]
    pub fn new(key: &str, message: impl Into<String>) -> Self {
        Self { key: key.into(), message: message.into() }
    }
}

/// What is added to events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Additions {
    /// The key `trailship`, or its equivalent at the destination.
    #[default]
    Full,
    /// Nothing that the destination does not demand.
    None,
}

/// Settings of a sink that its destination has to know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommonSettings {
    /// The sink's name in the configuration.
    pub name: String,
    /// What is added to events.
    pub additions: Additions,
    /// The sink's own labels; they win over those of agent and source.
    pub labels: Vec<(String, String)>,
    /// Whether log files wait for this sink.
    pub required: bool,
    /// Different for each agent process; in a simulation from its seed. Tells sessions apart.
    pub instance: u64,
    /// Secrets of the way to it, such as a proxy's password; the destination adds its own.
    pub redactor: Redactor,
}

impl CommonSettings {
    /// The member `trailship` of an event, with a comma before it where members stand already; nothing where
    /// it gets none. What is given back stands behind `out`.
    #[must_use]
    pub(crate) fn trailship<'a>(&self, out: &mut Vec<u8>, event: &'a Event) -> &'a [u8] {
        if self.additions == Additions::None || event.additions().is_none() {
            return &[];
        }
        encode::write_key(out, "trailship");
        encode::additions(out, event, &self.labels)
    }

    /// An upper bound of what [`trailship`](Self::trailship) adds.
    pub(crate) fn trailship_len(&self, event: &Event) -> usize {
        match self.additions {
            Additions::Full => encode::additions_len(event, &self.labels) + ",\"trailship\":".len(),
            Additions::None => 0,
        }
    }
}

/// A destination's defaults of the common settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Defaults {
    /// Bytes of an encoded, uncompressed batch.
    pub batch_bytes: usize,
    /// The destination's own limit: a larger setting is refused.
    pub batch_bytes_limit: usize,
    /// Events in a batch.
    pub batch_events: usize,
    /// How long a batch waits to be filled.
    pub batch_age: Duration,
    /// Requests at once.
    pub concurrency_max: usize,
    /// Compression of bodies.
    pub compression: Compression,
    /// How long a connection may stay idle, where the destination closes it without a word.
    pub idle_connection_max: Option<Duration>,
    /// How it is reached.
    pub reach: Reach,
}

/// How a destination is reached, and so which of the common network keys it has. A key that it does not have may be
/// one of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// By HTTP: all of them.
    Http,
    /// By requests of its own making, in bodies whose form the destination prescribes: all but `compression`.
    Requests,
    /// By a connection of its own: `timeout`, `connect_timeout`, `allow_plaintext` and `tls`.
    Stream,
    /// Through a store that the agent has: none.
    Store,
}

/// A sink that is ready to send.
pub struct Built {
    /// How its events travel.
    pub carrier: Carrier,
    /// Scheme, host and port of each endpoint, or a bucket or folder: for display, free of secrets.
    pub endpoints: Vec<String>,
    /// The defaults of its type.
    pub defaults: Defaults,
    /// What `check` asks.
    pub probe: Option<Arc<dyn Probe>>,
    /// How requests are signed, where AWS wants them signed; for [`Carrier::Http`].
    pub signing: Option<Signing>,
    /// The name of the identity in AWS that signs requests, or writes to the bucket.
    pub identity: Option<String>,
    /// The secrets of its settings and of the way to it, to be taken out of any text about it.
    pub redactor: Redactor,
}

/// How the events of a destination travel.
pub enum Carrier {
    /// In requests that are answered; the shared layer does all but encoding and judging.
    Http(Arc<dyn HttpSink>),
    /// By a protocol of its own; the sink is made once there are ports.
    Own(Assemble),
    /// In whole objects, each of events of one log file; the sink is made once there are ports.
    Objects(AssembleObjects),
}

/// Makes a sink that stores objects.
pub type AssembleObjects = Box<dyn FnOnce(&SinkPorts) -> Result<Arc<dyn ObjectSink>, Reason> + Send>;

/// Makes a sink with a protocol of its own.
pub type Assemble = Box<dyn FnOnce(&SinkPorts) -> Result<Arc<dyn Sink>, Reason> + Send>;

/// What a sink with a protocol of its own may use.
#[derive(Clone)]
pub struct SinkPorts {
    /// Requests, with the sink's settings of network and TLS.
    pub transport: Arc<dyn Transport>,
    /// Connections, with the sink's settings of network and TLS.
    pub dialer: Arc<dyn Dialer>,
    /// Worker threads.
    pub compute: Arc<dyn Compute>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
    /// The file system.
    pub files: Arc<dyn Files>,
    /// Buckets.
    pub objects: Arc<dyn ObjectStores>,
    /// How long an answer may take.
    pub timeout: Duration,
    /// Takes the secrets of its settings, and those of its proxy, out of texts.
    pub redactor: Redactor,
}

/// How requests to a service of AWS are signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signing {
    /// The service's name in signatures, such as `es`.
    pub service: &'static str,
    /// `None`: the identity's own.
    pub region: Option<String>,
}

impl Built {
    /// A destination that speaks HTTP, and is its own probe.
    pub(crate) fn http<S: HttpSink + Probe>(
        sink: Arc<S>,
        endpoints: Vec<String>,
        defaults: Defaults,
        redactor: Redactor,
    ) -> Self {
        let probe = Some(Arc::clone(&sink) as Arc<dyn Probe>);
        Self {
            carrier: Carrier::Http(sink),
            endpoints,
            defaults,
            probe,
            signing: None,
            identity: None,
            redactor,
        }
    }

    /// The sink, if it speaks HTTP.
    #[must_use]
    pub fn http_sink(&self) -> Option<Arc<dyn HttpSink>> {
        match &self.carrier {
            Carrier::Http(sink) => Some(Arc::clone(sink)),
            Carrier::Own(_) | Carrier::Objects(_) => None,
        }
    }
}

impl fmt::Debug for Built {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Built").field("endpoints", &self.endpoints).finish_non_exhaustive()
    }
}

/// The one of `items` whose turn it is; `items` is never empty.
pub(crate) fn in_turn<T>(items: &[T], turn: u32) -> Option<&T> {
    items.get(turn as usize % items.len().max(1))
}

/// Refuses what cannot stand in a header's value: anything but printable ASCII.
pub(crate) fn header_value(key: &str, text: &str) -> Result<(), Invalid> {
    if text.is_empty() || !text.chars().all(|c| c == ' ' || c.is_ascii_graphic()) {
        return Err(Invalid::new(key, "use printable ASCII characters only, at least one"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
