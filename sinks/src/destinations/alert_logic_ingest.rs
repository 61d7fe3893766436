//! Alert Logic's ingest service: a token for a key, the address of the service for the token, and zlib of protocol
//! buffers for the service.
//!
//! There is no public reference; this follows the client that Alert Logic's own collectors use:
//! <https://github.com/alertlogic/al-collector-js>

mod proto;
mod session;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use cloudtrail::Field;
use serde::Deserialize;

use super::{
    Built, Carrier, CommonSettings, Defaults, Destination, Endpoint, Finding, Invalid, Reach, SinkPorts,
    by_status, garbled, header_value,
};
use crate::http::not_encoded;
use crate::ports::{Clock, Compute, Transport, run_on};
use crate::{
    Answer, Attempt, Body, Compression, Encoded, Event, Head, Judgement, Reason, Redactor, Secret, Shape,
    Sink, Verdict, encode,
};
use session::{Session, Sessions};

/// A compressed body may have ten million bytes; zlib adds next to nothing to what it cannot compress.
const BATCH_BYTES_LIMIT: usize = 9_900_000;

/// Settings of its own.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where tokens are to be had.
    #[serde(default = "endpoint")]
    endpoint: String,
    /// The key's name.
    access_key_id: String,
    /// The key.
    secret_key: Secret,
    /// Where the account's data is kept.
    #[serde(default = "residency")]
    residency: String,
    /// The collector's source, from its registration.
    source_id: String,
    /// The collector's host, from its registration.
    host_id: String,
    /// What Alert Logic is to take the messages for.
    message_type: String,
}

fn endpoint() -> String {
    "https://api.global-services.global.alertlogic.com".into()
}

fn residency() -> String {
    "default".into()
}

impl Destination for Settings {
    const DEFAULTS: Defaults = Defaults {
        batch_bytes: 4_000_000,
        batch_bytes_limit: BATCH_BYTES_LIMIT,
        batch_events: 2000,
        batch_age: Duration::from_secs(1),
        concurrency_max: 4,
        // Always, and always zlib.
        compression: Compression::Deflate(1),
        idle_connection_max: None,
        reach: Reach::Requests,
    };

    fn build(self, common: &CommonSettings) -> Result<Built, Invalid> {
        let endpoint = Endpoint::parse("endpoint", &self.endpoint)?;
        header_value("access_key_id", &self.access_key_id)?;
        for (key, text) in
            [("residency", &self.residency), ("source_id", &self.source_id), ("host_id", &self.host_id)]
        {
            if text.is_empty()
                || !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
            {
                return Err(Invalid::new(key, "letters, digits, `-`, `_` and `.` only: copy it again"));
            }
        }
        if self.message_type.trim().is_empty() {
            let message =
                "empty: ask Alert Logic which type your account parses, such as \"json/cloudtrail\"";
            return Err(Invalid::new("message_type", message));
        }
        let basic = STANDARD.encode(format!("{}:{}", self.access_key_id, self.secret_key.expose()));
        let mut redactor = common.redactor.clone();
        redactor.add(self.secret_key.expose());
        redactor.add(&basic);
        let format = Format {
            common: common.clone(),
            source_id: self.source_id,
            host_id: self.host_id,
            message_type: self.message_type,
        };
        let (origin, residency) = (endpoint.origin, self.residency);
        let assemble = move |ports: &SinkPorts| {
            let sessions = Sessions::new(endpoint.base, basic, residency, ports);
            Ok(Arc::new(Ingest {
                format: Arc::new(format),
                sessions,
                transport: Arc::clone(&ports.transport),
                compute: Arc::clone(&ports.compute),
                clock: Arc::clone(&ports.clock),
            }) as Arc<dyn Sink>)
        };
        Ok(Built {
            carrier: Carrier::Own(Box::new(assemble)),
            endpoints: vec![origin],
            defaults: Self::DEFAULTS,
            probe: None,
            signing: None,
            identity: None,
            redactor,
        })
    }
}

/// How events become messages.
struct Format {
    common: CommonSettings,
    source_id: String,
    host_id: String,
    message_type: String,
}

impl Format {
    /// What stands around the text of an event, and the text's length.
    fn around(&self, event: &Event) -> (Vec<u8>, Vec<u8>, usize) {
        let mut members = Vec::new();
        let shared = self.common.trailship(&mut members, event);
        let text_len = encode::spliced_len(event, members.len() + shared.len());
        let account = event.text(Field::RecipientAccountId).or_else(|| event.text(Field::IdentityAccountId));
        let name = event.text(Field::EventName);
        let entry = proto::Entry {
            host: account.as_deref().unwrap_or_default(),
            millis: event.time().and_then(|time| u64::try_from(time.millis()).ok()).unwrap_or_default(),
            program: "cloudtrail",
            message_type: &self.message_type,
            type_id: name.as_deref().unwrap_or_default(),
        };
        let (before, behind) = proto::message(&entry, text_len);
        (before, behind, text_len)
    }

    fn len(&self, event: &Event) -> usize {
        let (before, behind, text_len) = self.around(event);
        before.len() + text_len + behind.len()
    }

    fn body<'a>(&self, events: &'a [Event], seconds: u64, body: &mut Body<'a>) {
        let metadata = proto::metadata(&self.host_id, &self.common.name, seconds);
        let messages = events.iter().map(|event| self.len(event)).sum();
        body.owned(&proto::batch(&self.source_id, &metadata, messages));
        let mut members = Vec::new();
        for event in events {
            let (before, behind, _) = self.around(event);
            members.clear();
            let shared = self.common.trailship(&mut members, event);
            body.owned(&before);
            encode::splice(body, event, &members, shared);
            body.owned(&behind);
        }
    }
}

/// The sink.
struct Ingest {
    format: Arc<Format>,
    sessions: Sessions,
    transport: Arc<dyn Transport>,
    compute: Arc<dyn Compute>,
    clock: Arc<dyn Clock>,
}

impl Ingest {
    async fn post(&self, session: &Session, body: Bytes) -> Result<Answer, Judgement> {
        let head = Head {
            method: "POST",
            url: format!("{}/ingest/v1/{}/data/logmsgs", session.ingest, session.account),
            headers: vec![
                ("x-aims-auth-token", session.token.clone()),
                ("content-type", "alertlogic.com/lm3-protobuf".into()),
                ("content-encoding", "deflate".into()),
                ("x-invoked-by", "trailship".into()),
            ],
        };
        self.transport.exchange(head, body).await.map_err(|why| {
            let why = Reason { text: session.redactor.clean(&why.text), ..why };
            Judgement::Unavailable { why, retry_after: None }
        })
    }
}

/// What an answer of the ingest service says of all events of a request: it never names one.
fn judge(count: usize, answer: &Answer, redactor: &Redactor) -> Judgement {
    let is_page = answer.header("content-type").is_some_and(|kind| kind.starts_with("text/html"));
    match answer.status {
        200..=299 if is_page => garbled(answer, "a web page answers, not the ingest service"),
        200..=299 => Judgement::all(count, &Verdict::Delivered),
        _ => by_status(
            answer,
            &answer.excerpt(redactor),
            "check `source_id`, `host_id` and the key's permissions",
        ),
    }
}

#[async_trait]
impl Sink for Ingest {
    fn encoded_len(&self, event: &Event) -> usize {
        self.format.len(event)
    }

    async fn encode(&self, events: &Arc<[Event]>, _shape: Shape) -> Result<Encoded, Reason> {
        let (format, events) = (Arc::clone(&self.format), Arc::clone(events));
        let since = self.clock.now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let encoded = run_on(&*self.compute, move || {
            let (mut body, mut out) = (Body::new(), Vec::new());
            format.body(&events, since.as_secs(), &mut body);
            Compression::Deflate(1).encode(&body, &mut out);
            Encoded { plain_len: body.len(), bytes: out.into() }
        });
        encoded.await.filter(|encoded| !encoded.bytes.is_empty()).ok_or_else(not_encoded)
    }

    async fn send(&self, events: &[Event], encoded: &Encoded, _attempt: &Attempt) -> Judgement {
        let mut refused: Option<Session> = None;
        loop {
            let session = match self.sessions.get(refused.as_ref()).await {
                Ok(session) => session,
                Err(judgement) => return judgement,
            };
            let answer = match self.post(&session, encoded.bytes.clone()).await {
                Ok(answer) => answer,
                Err(judgement) => return judgement,
            };
            // A token may be taken back before its time: with a new one, once.
            if answer.status == 401 && refused.is_none() {
                refused = Some(session);
                continue;
            }
            return judge(events.len(), &answer, &session.redactor);
        }
    }

    async fn check(&self) -> Vec<(String, Finding)> {
        let finding = match self.sessions.get(None).await {
            Ok(session) => Finding::good(format!(
                "a token for account {} and the address {}; whether `source_id`, `host_id` and `message_type` are \
                 right shows with the first event",
                session.account, session.ingest
            )),
            Err(
                Judgement::Denied(why)
                | Judgement::Refused(why)
                | Judgement::TooLarge(why)
                | Judgement::Unavailable { why, .. },
            ) => Finding::failed(why.to_string()),
            Err(Judgement::Each(_) | Judgement::Strained(_)) => Finding::failed("no answer"),
        };
        vec![("token".to_owned(), finding)]
    }
}

#[cfg(test)]
mod tests;
