//! Splunk's HTTP Event Collector: records verbatim, additions as indexed fields, indexer acknowledgement.
//!
//! Splunk reads a request up to the first invalid event, stores what stands before it and says which one it
//! was; the rest was not read. Codes:
//! <https://docs.splunk.com/Documentation/Splunk/latest/Data/TroubleshootHTTPEventCollector>
//! Acknowledgement: <https://docs.splunk.com/Documentation/Splunk/latest/Data/AboutHECIDXAck>

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::failover::Failover;
use super::{
    Additions, Built, CommonSettings, Defaults, Destination, Endpoint, Invalid, Reach, by_status,
    header_value,
};
use crate::{
    Answer, Attempt, Body, Compression, Event, Head, HttpSink, Judgement, Reason, ReasonCode, Redactor,
    Secret, Shape, Token, encode,
};

mod answer;
mod channel;
mod check;
mod fields;

use channel::Cookies;

/// Settings of its own.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Addresses of the collector, without a path: a load balancer's, or those of the indexers. Each of the sink's
    /// concurrent requests keeps to one; the next after a failure.
    endpoints: Vec<String>,
    /// The token.
    token: Secret,
    /// The index; the token's default index where absent.
    index: Option<String>,
    /// Default `aws:cloudtrail`, which the Splunk Add-on for AWS knows.
    #[serde(default = "sourcetype")]
    sourcetype: String,
    /// Default `s3://bucket/key`, different for each log file.
    source: Option<String>,
    /// Splunk's own idea of the host where absent.
    host: Option<String>,
    /// Whether to wait for the indexers: `"auto"`, `true` or `false`.
    #[serde(default)]
    ack: Ack,
}

fn sourcetype() -> String {
    "aws:cloudtrail".into()
}

/// Whether an event counts as delivered once it is accepted, or once the indexers have it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "AckText")]
enum Ack {
    /// Once the indexers have it, where the token has acknowledgement.
    #[default]
    Auto,
    /// Once the indexers have it; a token without acknowledgement is an error.
    Required,
    /// Once it is accepted.
    Off,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum AckText {
    Bool(bool),
    Text(String),
}

impl TryFrom<AckText> for Ack {
    type Error = &'static str;

    fn try_from(text: AckText) -> Result<Self, Self::Error> {
        match text {
            AckText::Bool(true) => Ok(Self::Required),
            AckText::Bool(false) => Ok(Self::Off),
            AckText::Text(text) if text == "auto" => Ok(Self::Auto),
            AckText::Text(_) => Err("ack is \"auto\", true or false"),
        }
    }
}

impl Destination for Settings {
    const DEFAULTS: Defaults = Defaults {
        batch_bytes: 1_000_000,
        // `max_content_length` of Splunk Enterprise; Splunk Cloud takes 5 MB.
        batch_bytes_limit: 838_860_800,
        batch_events: 2000,
        batch_age: Duration::from_secs(1),
        concurrency_max: 8,
        compression: Compression::Gzip(1),
        idle_connection_max: None,
        reach: Reach::Http,
    };

    fn build(self, common: &CommonSettings) -> Result<Built, Invalid> {
        let endpoints = Endpoint::parse_all("endpoints", &self.endpoints)?;
        if endpoints.iter().any(|endpoint| endpoint.base.contains("/services/collector")) {
            return Err(Invalid::new("endpoints", "take away the path: /services/collector is added"));
        }
        header_value("token", self.token.expose())?;
        let origins = Endpoint::origins(&endpoints);
        let mut redactor = common.redactor.clone();
        redactor.add(self.token.expose());
        let sink = Arc::new(SplunkHec {
            common: common.clone(),
            before_event: before_event(&self),
            fixed_source: self.source.is_some(),
            failover: Failover::new(endpoints.len()),
            cookies: Cookies::default(),
            endpoints,
            token: self.token,
            ack: self.ack,
            redactor: redactor.clone(),
        });
        Ok(Built::http(sink, origins, Self::DEFAULTS, redactor))
    }
}

/// The part of the envelope that is the same for all events. Only keys that Splunk knows: of a request with
/// any other it stores what stands before it, and answers success.
fn before_event(settings: &Settings) -> Vec<u8> {
    let mut out = vec![b'{'];
    let members = [
        ("host", settings.host.as_deref()),
        ("source", settings.source.as_deref()),
        ("sourcetype", Some(settings.sourcetype.as_str())),
        ("index", settings.index.as_deref()),
    ];
    for (key, value) in members {
        if let Some(value) = value {
            encode::write_member(&mut out, key, value);
        }
    }
    out
}

struct SplunkHec {
    common: CommonSettings,
    before_event: Vec<u8>,
    fixed_source: bool,
    endpoints: Vec<Endpoint>,
    token: Secret,
    ack: Ack,
    redactor: Redactor,
    failover: Failover,
    cookies: Cookies,
}

/// Longest text of an envelope besides its fixed part, source, record and additions.
const ENVELOPE_OVERHEAD: usize = r#","time":-9223372036854775.808,"source":,"event":,"fields":{}}"#.len();
impl HttpSink for SplunkHec {
    fn encoded_len(&self, event: &Event) -> usize {
        let source = if self.fixed_source { 0 } else { encode::string_len(&encode::source_of(event.file())) };
        let fields = match self.common.additions {
            Additions::Full => fields::len(event, &self.common),
            Additions::None => 0,
        };
        self.before_event.len() + ENVELOPE_OVERHEAD + source + event.bytes().len() + fields
    }

    fn body<'a>(&self, events: &'a [Event], _: Shape, body: &mut Body<'a>) {
        let mut own = Vec::new();
        for event in events {
            own.clear();
            own.extend_from_slice(&self.before_event);
            if let Some(time) = event.time() {
                encode::write_key(&mut own, "time");
                encode::write_epoch_seconds(&mut own, time);
            }
            if !self.fixed_source {
                encode::write_member(&mut own, "source", &encode::source_of(event.file()));
            }
            encode::write_key(&mut own, "event");
            body.owned(&own);
            body.slice(event.chunk(), event.range());
            own.clear();
            if self.common.additions == Additions::Full {
                own.extend_from_slice(b",\"fields\":");
                fields::write(event, &self.common, &mut own);
            }
            own.push(b'}');
            body.owned(&own);
        }
    }

    fn head(&self, attempt: &Attempt) -> Head {
        let endpoint = self.failover.choose(attempt, self.first(attempt));
        let channel = self.channel(attempt.slot, endpoint);
        self.request("POST", endpoint, "/services/collector/event", channel)
    }

    fn judge(&self, events: &[Event], attempt: &Attempt, answer: &Answer) -> Judgement {
        let first = self.first(attempt);
        let endpoint = self.failover.chosen(attempt, first);
        let channel = self.channel(attempt.slot, endpoint);
        self.cookies.note(&channel, answer);
        let judgement = self.read(events, format!("{endpoint}/{channel}"), answer);
        if let Judgement::Unavailable { why, .. } = &judgement
            && why.code == ReasonCode::Throttled
        {
            // Its queues are full: those of another indexer may not be.
            self.failover.leave(attempt, first);
        }
        self.failover.judged(attempt, first, judgement)
    }

    fn confirm(&self, tokens: &[Token]) -> Option<(Head, Vec<u8>)> {
        let channel = &tokens.first()?.channel;
        let (endpoint, guid) = channel.split_once('/')?;
        let ids: Vec<_> =
            tokens.iter().filter(|token| token.channel == *channel).map(|token| token.id).collect();
        let head = self.request("POST", endpoint.parse().ok()?, "/services/collector/ack", guid.to_owned());
        Some((head, serde_json::json!({ "acks": ids }).to_string().into_bytes()))
    }

    fn confirmed(&self, tokens: &[Token], answer: &Answer) -> Result<Vec<bool>, Reason> {
        #[derive(Deserialize)]
        struct Acks {
            acks: BTreeMap<String, bool>,
        }
        let channel = tokens.first().map(|token| token.channel.as_str()).unwrap_or_default();
        self.cookies.note(channel.split_once('/').map_or("", |(_, guid)| guid), answer);
        let acks = serde_json::from_slice::<Acks>(&answer.body).ok().filter(|_| answer.status == 200);
        let Some(Acks { acks }) = acks else {
            let text = answer.excerpt(&self.redactor);
            let reason = match by_status(answer, &text, REMEDY) {
                Judgement::Unavailable { why, .. }
                | Judgement::Denied(why)
                | Judgement::Refused(why)
                | Judgement::TooLarge(why) => why,
                Judgement::Each(_) | Judgement::Strained(_) => Reason::new(ReasonCode::Garbled, text),
            };
            return Err(reason);
        };
        let is_true = |token: &Token| {
            token.channel == channel && acks.get(&token.id.to_string()).copied().unwrap_or(false)
        };
        Ok(tokens.iter().map(is_true).collect())
    }

    fn requires_confirmation(&self) -> bool {
        self.ack == Ack::Required
    }
}

const REMEDY: &str = "check `token` and `endpoints`";

impl SplunkHec {
    /// Which endpoint an attempt begins with: slots are spread over them.
    fn first(&self, attempt: &Attempt) -> usize {
        attempt.slot as usize % self.endpoints.len().max(1)
    }

    fn channel(&self, slot: u32, endpoint: usize) -> String {
        channel::name(&self.common.name, self.common.instance, slot, endpoint)
    }

    /// A request in a channel, which belongs to an endpoint.
    fn request(&self, method: &'static str, endpoint: usize, path: &str, channel: String) -> Head {
        let base = self.endpoints.get(endpoint).map_or("", |endpoint| &endpoint.base);
        let mut headers = vec![("authorization", format!("Splunk {}", self.token.expose()))];
        headers.extend(self.cookies.header(&channel).map(|cookies| ("cookie", cookies)));
        // Demanded where the token has acknowledgement, and harmless where it has none.
        headers.push(("x-splunk-request-channel", channel));
        headers.push(("content-type", "application/json".into()));
        Head { method, url: format!("{base}{path}"), headers }
    }
}

#[cfg(test)]
mod tests;
