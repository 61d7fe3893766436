//! What the agent knows of itself at one moment, for `/status`, `/readyz` and the page.

use serde::Serialize;
use sinks::{LaneState, Reason, ReasonCode};

/// Tells the status.
pub trait StatusSource: Send + Sync {
    /// The status now. Called for every request to a page: neither blocks nor asks a peer.
    fn status(&self) -> Status;
}

/// The agent at one moment. Holds no secret: addresses are origins, reasons are redacted.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Status {
    pub version: String,
    /// RFC 3339, UTC.
    pub started_at: String,
    pub uptime_seconds: u64,
    pub config_sha256: String,
    pub memory: Memory,
    pub sources: Vec<SourceStatus>,
    pub sinks: Vec<SinkStatus>,
    /// Where dead letters go, for display.
    pub dead_letter: Option<String>,
    pub dead_letter_write_failures: u64,
    /// Warnings of the configuration.
    pub warnings: Vec<String>,
}

/// Memory that events take.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Memory {
    pub in_flight_bytes: u64,
    pub budget_bytes: u64,
}

/// One source.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SourceStatus {
    pub name: String,
    #[serde(rename = "type")]
    pub type_name: String,
    /// The queue or the folder, for display.
    pub place: String,
    pub state: SourceState,
    /// The last failure, while the source is not well.
    pub trouble: Option<Trouble>,
    /// Since it last answered, with or without messages.
    pub last_receive_seconds_ago: Option<u64>,
    /// As the queue estimates.
    pub visible_messages: Option<u64>,
    /// Messages held.
    pub leases: Option<u64>,
    pub log_files: u64,
    pub events: u64,
}

/// How a source is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceState {
    /// It has not answered yet.
    #[default]
    Starting,
    /// It answered when last asked.
    Ok,
    /// It did not.
    Failing,
}

/// One sink.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SinkStatus {
    pub name: String,
    #[serde(rename = "type")]
    pub type_name: String,
    /// Origins of addresses, or a file, for display.
    pub places: Vec<String>,
    pub required: bool,
    pub state: SinkState,
    /// The last failure, while the sink is not well or if it was lately.
    pub trouble: Option<Trouble>,
    pub last_delivery_seconds_ago: Option<u64>,
    pub events: Counts,
    /// Log files of which the sink still misses events.
    pub owed_log_files: u64,
    pub owed_oldest_seconds: Option<u64>,
    /// Requests at once, at the moment.
    pub concurrency: u64,
    /// Bytes of a batch at most, as far as learnt.
    pub batch_bytes_max: u64,
}

/// How a sink is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SinkState {
    /// It takes events.
    #[default]
    Ok,
    /// It takes events more slowly than they come.
    Slow,
    /// It has not been reached for so long that its events wait to be fetched again.
    Unavailable,
    /// It refuses us: credentials or set-up.
    Denied,
}

impl From<&LaneState> for SinkState {
    fn from(state: &LaneState) -> Self {
        match state {
            LaneState::Open => Self::Ok,
            LaneState::Congested => Self::Slow,
            LaneState::Unavailable(_) => Self::Unavailable,
            LaneState::Denied(_) => Self::Denied,
        }
    }
}

/// Events of a sink since the start: offered = the others together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    pub offered: u64,
    pub delivered: u64,
    pub duplicate: u64,
    pub dead_lettered: u64,
    pub released: u64,
    pub handed_off: u64,
    pub in_flight: u64,
}

/// What went wrong last, and what to do about it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Trouble {
    /// Stable.
    pub code: String,
    /// Free of secrets; for people.
    pub text: String,
    pub remedy: String,
    pub seconds_ago: u64,
}

impl Trouble {
    /// A failure of the sink `name`.
    pub fn of_sink(name: &str, why: &Reason, seconds_ago: u64) -> Self {
        Self {
            code: why.code.as_str().to_owned(),
            text: why.to_string(),
            remedy: remedy(name, why.code),
            seconds_ago,
        }
    }
}

/// What an operator can do about a failure of the sink `name`.
pub fn remedy(name: &str, code: ReasonCode) -> String {
    let text = match code {
        ReasonCode::Connection => {
            "see that its address is right and can be reached from here; a proxy is set with"
        }
        ReasonCode::Tls => {
            "see that its certificate is valid and that its authority is trusted; keys are below"
        }
        ReasonCode::Timeout => "see how loaded it is and what lies between; a longer wait is set with",
        ReasonCode::Throttled => "nothing at once: we slow down; for good, raise its limits, or lower",
        ReasonCode::ServerError => "look at its own logs; nothing is lost here meanwhile; see also",
        ReasonCode::Garbled => "see that it is what the type says, and not a proxy's own page; look at",
        ReasonCode::Unauthorized => "see that the credentials are right and may write; they are in",
        ReasonCode::Misconfigured => "see that what the configuration names exists and takes events; look at",
        ReasonCode::Mapping => {
            "see which field does not fit, in the dead letters; templates are in deploy; look at"
        }
        ReasonCode::Invalid => "see what it does not take, in the dead letters; look at",
        ReasonCode::TooLarge => {
            "nothing for a batch: it is split; single events are in the dead letters; look at"
        }
        ReasonCode::Unconfirmed => "see that its acknowledgements work; look at",
        ReasonCode::Io => "see that there is room and that the agent may write; look at",
        ReasonCode::Unreadable => "see the log file itself, in its bucket; look at",
        ReasonCode::Other => "look at its logs and at",
    };
    let key = match code {
        ReasonCode::Connection => ".proxy",
        ReasonCode::Tls => ".tls",
        ReasonCode::Timeout => ".timeout",
        ReasonCode::Throttled => ".concurrency.max",
        _ => "",
    };
    format!("{text} sinks.{name}{key}")
}

/// Why the agent is not ready: enough to know where to look, and nothing that a stranger should not read.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct NotReady<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sink: Option<&'a str>,
    pub code: &'a str,
    pub remedy: &'a str,
}

impl Status {
    /// Every reason for not being ready: a source that does not answer, or a sink that refuses us.
    ///
    /// A sink that is slow or down is none: it is the destination's affair, and nobody need act here.
    pub fn not_ready(&self) -> Vec<NotReady<'_>> {
        let sources = self.sources.iter().filter(|source| source.state != SourceState::Ok).map(|source| {
            let (code, remedy) = match &source.trouble {
                Some(trouble) => (trouble.code.as_str(), trouble.remedy.as_str()),
                None => ("starting", "wait: it has not answered yet"),
            };
            NotReady { source: Some(&source.name), sink: None, code, remedy }
        });
        let sinks = self.sinks.iter().filter(|sink| sink.state == SinkState::Denied).map(|sink| {
            let (code, remedy) = match &sink.trouble {
                Some(trouble) => (trouble.code.as_str(), trouble.remedy.as_str()),
                None => ("denied", "see the log"),
            };
            NotReady { source: None, sink: Some(&sink.name), code, remedy }
        });
        sources.chain(sinks).collect()
    }
}
