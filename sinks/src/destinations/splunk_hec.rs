//! Splunk's HTTP Event Collector: records verbatim, additions as indexed fields, indexer acknowledgement.
//!
//! Splunk reads a request up to the first invalid event, stores what stands before it and says which one it
//! was; the rest was not read. Codes:
//! <https://docs.splunk.com/Documentation/Splunk/latest/Data/TroubleshootHTTPEventCollector>
//! Acknowledgement: <https://docs.splunk.com/Documentation/Splunk/latest/Data/AboutHECIDXAck>

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::{
    Additions, Built, CommonSettings, Defaults, Destination, Endpoint, Invalid, Reach, by_status, garbled,
    header_value, in_turn,
};
use crate::{
    Answer, Attempt, Body, Compression, Event, Head, HttpSink, Judgement, Reason, ReasonCode, Redactor,
    Secret, Shape, Token, Verdict, encode,
};

mod answer;
mod check;

use answer::Told;

/// Settings of its own.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Addresses of the collector, without a path. Each lane slot keeps to one; the next after a failure.
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
        let mut redactor = Redactor::new();
        redactor.add(self.token.expose());
        let sink = Arc::new(SplunkHec {
            common: common.clone(),
            before_event: before_event(&self),
            fixed_source: self.source.is_some(),
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
}

/// Longest text of an envelope besides its fixed part, source, record and additions.
const ENVELOPE_OVERHEAD: usize = r#","time":-9223372036854775.808,"source":,"event":,"fields":{}}"#.len();
/// Longest text of the fields' names besides labels, and of the position.
const FIELDS_OVERHEAD: usize = r#""trailship_actor_class":"","trailship_actor_kind":"","trailship_actor_service":"","trailship_actor_principal":"","trailship_actor_role":"","trailship_record":"18446744073709551615","#.len();

impl HttpSink for SplunkHec {
    fn encoded_len(&self, event: &Event) -> usize {
        let source = if self.fixed_source { 0 } else { encode::string_len(&encode::source_of(event.file())) };
        let fields = match self.common.additions {
            Additions::Full => {
                let labels = event.file().labels.iter().chain(&self.common.labels);
                // A name may grow by the prefix of names that Splunk reserves.
                let labels = labels.map(|(name, value)| name.len() + encode::string_len(value) + 12);
                event.additions().map_or(0, <[u8]>::len) + FIELDS_OVERHEAD + labels.sum::<usize>()
            }
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
                self.write_fields(event, &mut own);
            }
            own.push(b'}');
            body.owned(&own);
        }
    }

    fn head(&self, attempt: &Attempt) -> Head {
        let turn = self.turn(attempt);
        let mut headers = self.headers(self.channel(attempt.slot, turn));
        headers.push(("content-type", "application/json".into()));
        Head { method: "POST", url: self.url(turn, "/services/collector/event"), headers }
    }

    fn judge(&self, events: &[Event], attempt: &Attempt, answer: &Answer) -> Judgement {
        let Ok(told) = serde_json::from_slice::<Told>(&answer.body) else {
            return match answer.status {
                200..=299 => garbled(answer, "an answer without a code"),
                _ => by_status(answer, &answer.excerpt(&self.redactor), REMEDY),
            };
        };
        let turn = self.turn(attempt);
        let accepted = told.ack_id.filter(|_| self.ack != Ack::Off).map_or(Verdict::Delivered, |id| {
            Verdict::Pending(Token { channel: format!("{turn}/{}", self.channel(attempt.slot, turn)), id })
        });
        self.read_code(events, &told, accepted, answer)
    }

    fn confirm(&self, tokens: &[Token]) -> Option<(Head, Vec<u8>)> {
        let channel = &tokens.first()?.channel;
        let (turn, guid) = channel.split_once('/')?;
        let ids: Vec<_> =
            tokens.iter().filter(|token| token.channel == *channel).map(|token| token.id).collect();
        let mut headers = self.headers(guid.to_owned());
        headers.push(("content-type", "application/json".into()));
        let url = self.url(turn.parse().ok()?, "/services/collector/ack");
        Some((
            Head { method: "POST", url, headers },
            serde_json::json!({ "acks": ids }).to_string().into_bytes(),
        ))
    }

    fn confirmed(&self, tokens: &[Token], answer: &Answer) -> Result<Vec<bool>, Reason> {
        #[derive(Deserialize)]
        struct Acks {
            acks: BTreeMap<String, bool>,
        }
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
        let channel = tokens.first().map(|token| token.channel.as_str()).unwrap_or_default();
        let is_true = |token: &Token| {
            token.channel == channel && acks.get(&token.id.to_string()).copied().unwrap_or(false)
        };
        Ok(tokens.iter().map(is_true).collect())
    }
}

const REMEDY: &str = "check `token` and `endpoints`";

impl SplunkHec {
    /// Flat texts only: a nested value would be refused.
    fn write_fields(&self, event: &Event, out: &mut Vec<u8>) {
        out.push(b'{');
        let facts = event.additions().and_then(|json| serde_json::from_slice::<Facts<'_>>(json).ok());
        let actor = facts.unwrap_or_default().actor;
        let members = [
            ("trailship_actor_class", actor.class),
            ("trailship_actor_kind", actor.kind),
            ("trailship_actor_service", actor.service),
            ("trailship_actor_principal", actor.principal),
            ("trailship_actor_role", actor.role),
        ];
        for (key, value) in members {
            if let Some(value) = value {
                encode::write_member(out, key, &value);
            }
        }
        encode::write_member(out, "trailship_record", &event.index().to_string());
        let labels = event.file().labels.iter().chain(&self.common.labels);
        let labels: BTreeMap<_, _> = labels.map(|(name, value)| (field_name(name), value)).collect();
        for (name, value) in labels {
            encode::write_member(out, &name, value);
        }
        out.push(b'}');
    }

    /// Which endpoint an attempt uses: slots are spread over them, a failed try goes to the next.
    fn turn(&self, attempt: &Attempt) -> u32 {
        let count = u32::try_from(self.endpoints.len()).unwrap_or(1).max(1);
        attempt.slot.wrapping_add(attempt.number) % count
    }

    /// A channel for each slot, endpoint and process: Splunk counts acknowledgements by channel.
    fn channel(&self, slot: u32, turn: u32) -> String {
        let mut hash = Sha256::new();
        hash.update(self.common.instance.to_be_bytes());
        hash.update(slot.to_be_bytes());
        hash.update(turn.to_be_bytes());
        hash.update(self.common.name.as_bytes());
        let mut guid = String::with_capacity(36);
        for (at, byte) in hash.finalize().iter().take(16).enumerate() {
            // Looks like a random one (RFC 9562, version 4).
            let byte = match at {
                6 => byte & 0x0f | 0x40,
                8 => byte & 0x3f | 0x80,
                _ => *byte,
            };
            let dash = if matches!(at, 4 | 6 | 8 | 10) { "-" } else { "" };
            // Writing to a string cannot fail.
            let _ = write!(guid, "{dash}{byte:02X}");
        }
        guid
    }

    fn url(&self, turn: u32, path: &str) -> String {
        format!("{}{path}", in_turn(&self.endpoints, turn).map_or("", |endpoint| &endpoint.base))
    }

    fn headers(&self, channel: String) -> Vec<(&'static str, String)> {
        vec![
            ("authorization", format!("Splunk {}", self.token.expose())),
            // Demanded where the token has acknowledgement, and harmless where it has none.
            ("x-splunk-request-channel", channel),
        ]
    }
}

/// What becomes fields.
#[derive(Default, Deserialize)]
struct Facts<'a> {
    #[serde(borrow, default)]
    actor: Actor<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Actor<'a> {
    #[serde(borrow)]
    class: Option<Cow<'a, str>>,
    #[serde(borrow)]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    service: Option<Cow<'a, str>>,
    #[serde(borrow)]
    principal: Option<Cow<'a, str>>,
    #[serde(borrow)]
    role: Option<Cow<'a, str>>,
}

/// A label's name as that of an indexed field: letters, digits and underscores, and none that Splunk uses.
fn field_name(label: &str) -> String {
    let name: String = label.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    let reserved =
        ["host", "source", "sourcetype", "index", "time", "event", "linecount", "punct", "timestamp"];
    if name.is_empty()
        || name.starts_with('_')
        || name.starts_with("trailship_")
        || reserved.contains(&name.as_str())
    {
        return format!("label_{name}");
    }
    name
}

#[cfg(test)]
mod tests;
