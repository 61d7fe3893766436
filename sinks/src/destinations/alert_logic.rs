//! Alert Logic by way of an agent or a remote collector of its own, which listens for syslog.
//!
//! The port and the framing are those that Alert Logic's own recipe sets up for rsyslog and syslog-ng:
//! <https://github.com/alertlogic/al_agents/tree/master/templates/default>

use serde::Deserialize;

use super::size::Size;
use super::syslog::{self, Framing, Oversized};
use super::{Built, CommonSettings, Defaults, Destination, Invalid};

/// Where an agent of Alert Logic's listens.
const PORT: u16 = 1514;

/// Settings of its own.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// `tls://host:port` or `tcp://host:port`; the first is used, after a failure the next.
    endpoints: Vec<String>,
    /// HOSTNAME: a name, `{account}` for the account that the event is of, or `-` for none.
    #[serde(default = "hostname")]
    hostname: String,
    /// How the collector tells messages apart.
    #[serde(default = "framing")]
    framing: Framing,
    /// The longest message that the collector takes.
    #[serde(default = "syslog::message_bytes")]
    max_message_bytes: Size,
    /// What becomes of longer ones.
    #[serde(default)]
    oversized: Oversized,
    /// Lets log files wait for this sink, although it cannot tell whether anything is kept.
    #[serde(default)]
    accept_unacknowledged: bool,
}

/// Alert Logic shows messages by the host that they come from.
fn hostname() -> String {
    "{account}".into()
}

fn framing() -> Framing {
    Framing::Newline
}

impl Destination for Settings {
    const DEFAULTS: Defaults = syslog::Settings::DEFAULTS;

    fn build(self, common: &CommonSettings) -> Result<Built, Invalid> {
        let syslog =
            syslog::Settings::of(self.endpoints, self.hostname, self.max_message_bytes, self.oversized);
        let plan = syslog.accepting(self.accept_unacknowledged).plan(common, PORT, self.framing)?;
        Ok(plan.build(Self::DEFAULTS))
    }
}
