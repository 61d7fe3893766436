//! Stand-ins for the destinations: they answer as the real ones do, limits and errors included, and testify to the ledger.
//!
//! Each is started in the current process and drives a small server of its own. What it does wrong is its
//! [`Mode`], which may be changed while it runs. Another process uses the same through `/_testkit/`:
//! `GET /_testkit/counts`, `GET` and `PUT /_testkit/mode`, `GET /_testkit/evidence` (NDJSON for
//! [`Ledger::read_evidence`](crate::ledger::Ledger::read_evidence)).

mod alert_logic;
mod desk;
mod elasticsearch;
mod front;
mod http_any;
mod loggly;
mod logstash;
mod logstash_http;
mod mode;
mod serve;
mod splunk_hec;
mod sumo_logic;
mod syslog;

pub use alert_logic::{AlertLogic, AlertLogicOptions};
pub use desk::Counts;
pub use elasticsearch::{Auth, Elasticsearch, ElasticsearchOptions, Flavour, Signer};
pub use front::{Destination, Sent};
pub use http_any::{HttpAny, HttpAnyOptions, SeenHead};
pub use loggly::{Loggly, LogglyOptions, Oversized};
pub use logstash::{Logstash, LogstashOptions};
pub use logstash_http::{LogstashHttp, LogstashHttpOptions};
pub use mode::{Failure, Mode};
pub use serve::{Destinations, serve};
pub use splunk_hec::{Balancer, SplunkHec, SplunkHecOptions};
pub use sumo_logic::{SumoLogic, SumoLogicOptions};
pub use syslog::{Syslog, SyslogFraming, SyslogLimit, SyslogMode, SyslogOptions};

#[cfg(test)]
pub(crate) mod client;
