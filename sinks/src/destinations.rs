//! The registry of HTTP destinations, and what they share: endpoints, common answers, questions of `check`.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ::http::Uri;
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer};

use crate::ports::{Address, Clock, Compute, Dialer, Files, ObjectStores, Random, Transport};
use crate::{Answer, Compression, Event, HttpSink, Judgement, Reason, ReasonCode, Redactor, Sink, encode};

mod credentials;
pub mod elasticsearch;
pub mod http;
pub mod loggly;
pub mod logstash;
pub mod logstash_http;
mod probe;
pub mod splunk_hec;
pub mod sumo_logic;

pub use probe::{Finding, FindingLevel, Probe, ProbeStep};

/// A destination's own settings: what is left of its table once the common keys are taken out.
pub trait Destination: DeserializeOwned {
    /// The defaults of what all destinations have in common.
    const DEFAULTS: Defaults;

    /// Checks the settings and makes the sink.
    ///
    /// # Errors
    /// If a value cannot work, with the key and the remedy.
    fn build(self, common: &CommonSettings) -> Result<Built, Invalid>;
}

macro_rules! registry {
    ($($name:literal => $settings:ty,)*) => {
        /// The values of `type` that [`build`] knows.
        pub const TYPES: &[&str] = &[$($name),*];

        /// The defaults of a type; `None` if it is not in [`TYPES`].
        #[must_use]
        pub fn defaults(type_name: &str) -> Option<Defaults> {
            match type_name {
                $($name => Some(<$settings>::DEFAULTS),)*
                _ => None,
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
                $($name => from_settings::<$settings, D>(settings, common),)*
                _ => Err(BuildError::UnknownType),
            }
        }
    };
}

// One line for each destination.
registry! {
    "elasticsearch" => elasticsearch::Settings,
    "http" => http::Settings,
    "loggly" => loggly::Settings,
    "logstash" => logstash::Settings,
    "logstash_http" => logstash_http::Settings,
    "splunk_hec" => splunk_hec::Settings,
    "sumo_logic" => sumo_logic::Settings,
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
    /// The secrets of its settings, to be taken out of any text about it.
    pub redactor: Redactor,
}

/// How the events of a destination travel.
pub enum Carrier {
    /// In requests that are answered; the shared layer does all but encoding and judging.
    Http(Arc<dyn HttpSink>),
    /// By a protocol of its own; the sink is made once there are ports.
    Own(Assemble),
}

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
            Carrier::Own(_) => None,
        }
    }
}

impl fmt::Debug for Built {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Built").field("endpoints", &self.endpoints).finish_non_exhaustive()
    }
}

/// A checked address of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StreamEndpoint {
    /// Where it leads.
    pub(crate) address: Address,
    /// Scheme, host and port.
    pub(crate) origin: String,
}

/// A checked base address.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// Without a slash at its end.
    pub(crate) base: String,
    /// Scheme, host and port.
    pub(crate) origin: String,
}

impl Endpoint {
    /// Reads an absolute `http` or `https` address. The error does not quote it: it may hold a secret.
    pub(crate) fn parse(key: &str, text: &str) -> Result<Self, Invalid> {
        let wrong = |what: &str| Invalid::new(key, format!("{what}, such as https://host.example:9200"));
        let uri: Uri = text.parse().map_err(|_| wrong("not an address: write one"))?;
        let (Some(scheme @ ("http" | "https")), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(wrong("not an absolute address: write it with https://"));
        };
        if authority.as_str().contains('@') {
            return Err(wrong("credentials have keys of their own: write the address without them"));
        }
        if uri.query().is_some() || text.contains('#') {
            return Err(wrong("write the address without `?` or `#`"));
        }
        let origin = format!("{scheme}://{authority}");
        let base = format!("{origin}{}", uri.path().trim_end_matches('/'));
        Ok(Self { base, origin })
    }

    /// Reads a list of addresses, of which there is at least one.
    pub(crate) fn parse_all(key: &str, texts: &[String]) -> Result<Vec<Self>, Invalid> {
        if texts.is_empty() {
            return Err(Invalid::new(key, "the list is empty: name at least one address"));
        }
        texts.iter().map(|text| Self::parse(key, text)).collect()
    }

    /// Reads `tls://host:port` or `tcp://host:port`; the port may be left out.
    pub(crate) fn parse_stream(key: &str, text: &str, port: u16) -> Result<StreamEndpoint, Invalid> {
        let wrong = |what: &str| Invalid::new(key, format!("{what}, such as tls://host.example:{port}"));
        let uri: Uri = text.parse().map_err(|_| wrong("not an address: write one"))?;
        let (Some(scheme @ ("tls" | "tcp")), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(wrong("not an absolute address: write it with tls:// or tcp://"));
        };
        if authority.as_str().contains('@') {
            return Err(wrong("an address holds no credentials: take them away"));
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() || text.contains('#') {
            return Err(wrong("write host and port only"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = authority.port_u16().unwrap_or(port);
        let origin = format!("{scheme}://{}:{port}", authority.host());
        Ok(StreamEndpoint { address: Address { host, port, tls: scheme == "tls" }, origin })
    }

    /// The origins, for display.
    pub(crate) fn origins(endpoints: &[Self]) -> Vec<String> {
        endpoints.iter().map(|endpoint| endpoint.origin.clone()).collect()
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

/// What is said of an answer by its status alone, where the destination's protocol says no more about it.
///
/// `what` is the answer's own text, cleaned of secrets; `remedy` says which key to look at.
pub(crate) fn by_status(answer: &Answer, what: &str, remedy: &str) -> Judgement {
    let status = answer.status;
    let reason = |code, text: String| Reason::new(code, text).with_status(status);
    let why = |code| reason(code, if what.is_empty() { "no details given".into() } else { what.into() });
    let denied = |code, advice: &str| Judgement::Denied(reason(code, format!("{advice}: {what}")));
    let unavailable = |code| Judgement::Unavailable { why: why(code), retry_after: retry_after(answer) };
    match status {
        200..=299 => unavailable(ReasonCode::Garbled),
        300..=399 => {
            denied(ReasonCode::Misconfigured, "it redirects, which is never followed: set the final address")
        }
        400 | 422 => Judgement::Refused(why(ReasonCode::Invalid)),
        401 | 403 | 407 => denied(ReasonCode::Unauthorized, remedy),
        404 | 405 | 406 | 410 | 411 | 415 | 501 => denied(ReasonCode::Misconfigured, remedy),
        408 => unavailable(ReasonCode::Timeout),
        413 => Judgement::TooLarge(why(ReasonCode::TooLarge)),
        429 => unavailable(ReasonCode::Throttled),
        500..=599 => unavailable(ReasonCode::ServerError),
        _ => unavailable(ReasonCode::Other),
    }
}

/// An answer that claims success and cannot be understood: no event of it counts as delivered.
pub(crate) fn garbled(answer: &Answer, text: &str) -> Judgement {
    let why = Reason::new(ReasonCode::Garbled, text).with_status(answer.status);
    Judgement::Unavailable { why, retry_after: None }
}

/// How long `Retry-After` asks to wait: seconds, or a date, which is measured against the answer's own `Date`.
/// <https://www.rfc-editor.org/rfc/rfc9110#field.retry-after>
pub(crate) fn retry_after(answer: &Answer) -> Option<Duration> {
    let value = answer.header("retry-after")?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = httpdate::parse_http_date(value).ok()?;
    let now = httpdate::parse_http_date(answer.header("date")?.trim()).ok()?;
    Some(until.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests;
