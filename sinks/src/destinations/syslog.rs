//! Syslog by RFC 5424, over TCP or TLS, each message framed by its length.
//!
//! No receiver answers. What was written counts as delivered once it has left the window of a connection that lives
//! on, see [`window`].
//!
//! <https://www.rfc-editor.org/rfc/rfc5424>, <https://www.rfc-editor.org/rfc/rfc5425>,
//! <https://www.rfc-editor.org/rfc/rfc6587>

mod link;
mod message;
mod shorten;
mod sink;
mod window;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::Deserialize;

use super::size::Size;
use super::{
    Built, Carrier, CommonSettings, Defaults, Destination, Endpoint, Invalid, Reach, SinkPorts,
    StreamEndpoint,
};
use crate::{Compression, Redactor, Sink};

pub(super) use message::Framing;
pub use message::Oversized;
use message::{Format, Hostname};
use sink::Syslog;

/// The port that is registered for syslog over TLS, <https://www.rfc-editor.org/rfc/rfc5425#section-4.1>.
const PORT: u16 = 6514;

/// Longer messages are cut in pieces by rsyslog as it comes; the other common receivers take more.
const MESSAGE_BYTES: Size = Size(8096);

/// Below this, the header and what an event is nothing without do not fit.
const MESSAGE_BYTES_MIN: usize = 2048;

const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp",
    "ntp", "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4", "local5", "local6",
    "local7",
];

const SEVERITIES: [&str; 8] = ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];

/// Settings of its own.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// `tls://host:port` or `tcp://host:port`; the first is used, after a failure the next.
    endpoints: Vec<String>,
    /// A facility's name, as `logger` has them; `audit` is 13.
    #[serde(default = "facility")]
    facility: String,
    /// A severity's name, for all events.
    #[serde(default = "severity")]
    severity: String,
    /// HOSTNAME: a name, `{account}` for the account that the event is of, or `-` for none.
    #[serde(default = "hostname")]
    hostname: String,
    /// APP-NAME.
    #[serde(default = "app_name")]
    app_name: String,
    /// The longest message that the receiver takes.
    #[serde(default = "message_bytes")]
    max_message_bytes: Size,
    /// What becomes of longer ones.
    #[serde(default)]
    oversized: Oversized,
    /// Lets log files wait for this sink, although it cannot tell whether anything is kept.
    #[serde(default)]
    accept_unacknowledged: bool,
}

fn facility() -> String {
    "audit".into()
}

fn severity() -> String {
    "info".into()
}

pub(super) fn hostname() -> String {
    "-".into()
}

fn app_name() -> String {
    "cloudtrail".into()
}

pub(super) fn message_bytes() -> Size {
    MESSAGE_BYTES
}

impl Destination for Settings {
    const DEFAULTS: Defaults = Defaults {
        // What a slow receiver takes within one timeout, and is sent again for each connection that ends.
        batch_bytes: 256 << 10,
        batch_bytes_limit: 16 << 20,
        batch_events: 1000,
        batch_age: Duration::from_secs(1),
        // One connection: messages arrive in the order in which they were written.
        concurrency_max: 1,
        compression: Compression::None,
        idle_connection_max: None,
        reach: Reach::Stream,
    };

    fn build(self, common: &CommonSettings) -> Result<Built, Invalid> {
        let plan = self.plan(common, PORT, Framing::OctetCounting)?;
        Ok(plan.build(Self::DEFAULTS))
    }
}

impl Settings {
    /// Settings of another destination that speaks syslog; what it does not have is as it is by default.
    pub(super) fn of(
        endpoints: Vec<String>,
        hostname: String,
        message_bytes: Size,
        oversized: Oversized,
    ) -> Self {
        Self {
            endpoints,
            facility: facility(),
            severity: severity(),
            hostname,
            app_name: app_name(),
            max_message_bytes: message_bytes,
            oversized,
            accept_unacknowledged: false,
        }
    }

    /// The same, with its word on sinks that cannot acknowledge.
    pub(super) fn accepting(self, accept_unacknowledged: bool) -> Self {
        Self { accept_unacknowledged, ..self }
    }

    /// Checks the settings.
    pub(super) fn plan(self, common: &CommonSettings, port: u16, framing: Framing) -> Result<Plan, Invalid> {
        if common.required && !self.accept_unacknowledged {
            let message = "nothing tells whether a syslog receiver has kept an event: set `required = false`, so that \
                           log files do not count as delivered because of it, or `accept_unacknowledged = true`";
            return Err(Invalid::new("required", message));
        }
        if self.endpoints.is_empty() {
            return Err(Invalid::new("endpoints", "the list is empty: name at least one address"));
        }
        let endpoints: Result<Vec<StreamEndpoint>, Invalid> =
            self.endpoints.iter().map(|text| Endpoint::parse_stream("endpoints", text, port)).collect();
        let facility = number("facility", &FACILITIES, &self.facility)?;
        let severity = number("severity", &SEVERITIES, &self.severity)?;
        field("app_name", &self.app_name, 48)?;
        let hostname = match self.hostname.as_str() {
            "{account}" => Hostname::Account,
            name => {
                field("hostname", name, 255)?;
                Hostname::Fixed(self.hostname)
            }
        };
        if self.max_message_bytes.0 < MESSAGE_BYTES_MIN
            || self.max_message_bytes.0 > Self::DEFAULTS.batch_bytes_limit
        {
            let message = "from \"2KiB\" to \"16MiB\": as much as the receiver takes in one message";
            return Err(Invalid::new("max_message_bytes", message));
        }
        let format = Format {
            common: common.clone(),
            priority: facility * 8 + severity,
            hostname,
            app_name: self.app_name,
            message_bytes_max: self.max_message_bytes.0,
            oversized: self.oversized,
            framing,
        };
        Ok(Plan { format, endpoints: endpoints? })
    }
}

/// Settings that were checked.
pub(super) struct Plan {
    format: Format,
    endpoints: Vec<StreamEndpoint>,
}

impl Plan {
    pub(super) fn build(self, defaults: Defaults) -> Built {
        Built {
            endpoints: self.endpoints.iter().map(|endpoint| endpoint.origin.clone()).collect(),
            carrier: Carrier::Own(Box::new(|ports| Ok(Arc::new(self.sink(ports)) as Arc<dyn Sink>))),
            defaults,
            probe: None,
            signing: None,
            identity: None,
            redactor: Redactor::new(),
        }
    }

    fn sink(self, ports: &SinkPorts) -> Syslog {
        Syslog {
            format: Arc::new(self.format),
            endpoints: self.endpoints,
            dialer: Arc::clone(&ports.dialer),
            compute: Arc::clone(&ports.compute),
            clock: Arc::clone(&ports.clock),
            timeout: ports.timeout,
            slots: Mutex::default(),
            links: Mutex::default(),
        }
    }
}

/// The number of a name in its list.
fn number(key: &str, names: &[&str], name: &str) -> Result<u8, Invalid> {
    let at = names.iter().position(|known| *known == name).and_then(|at| u8::try_from(at).ok());
    at.ok_or_else(|| Invalid::new(key, format!("unknown: use one of {}", names.join(", "))))
}

/// Refuses what the standard does not allow in a field of the header.
fn field(key: &str, text: &str, len_max: usize) -> Result<(), Invalid> {
    if text.is_empty() || text.len() > len_max || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        let message =
            format!("use printable ASCII characters without spaces, at least one and at most {len_max}");
        return Err(Invalid::new(key, message));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
