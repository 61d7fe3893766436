//! Elasticsearch and OpenSearch: the bulk interface, one `create` an event, one verdict an item.
//!
//! The identity of a document is the event's own, and the index bears the event's own date, so that a replay
//! meets what it wrote before and is answered 409, which counts as delivered.
//! <https://www.elastic.co/guide/en/elasticsearch/reference/current/docs-bulk.html>

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use cloudtrail::{Field, Timestamp};
use serde::Deserialize;

use super::{Built, CommonSettings, Defaults, Destination, Endpoint, Invalid, Reach};
use crate::{
    Answer, Attempt, Body, Compression, Event, Head, HttpSink, Judgement, Redactor, Shape, encode,
    escaped_len,
};

mod answer;
mod check;
mod cloud_id;
mod credentials;
mod document;
mod failover;
mod index;
mod settings;
mod sign;

use credentials::Credentials;
use document::INTEGRATION_OVERHEAD;
use failover::Failover;
use index::IndexPattern;
pub use settings::Settings;
use sign::Service;

/// Keeps one entry an item, so that its position tells which event it is about, and little else.
const FILTER_PATH: &str = "filter_path=took,errors,items.*.status,items.*.error.type,items.*.error.reason,\
    items.*.error.caused_by.reason,items.*.failure_store";
/// How an event is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Format {
    /// The record with `@timestamp` and `trailship` added.
    #[default]
    Native,
    /// The record as a string in `message`, for the pipeline of Elastic's AWS integration.
    ElasticIntegration,
}

/// What becomes the document's `_id`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum DocumentId {
    /// The event's identity, made from its position in the log file where it has no id; none once the destination has
    /// said that it takes no ids.
    #[default]
    Auto,
    /// The event's id; the destination chooses where it has none.
    EventId,
    /// The destination chooses: a replay becomes a duplicate. For collections that take no ids.
    None,
}

/// Where documents go.
#[derive(Clone, Debug)]
enum Target {
    Index(IndexPattern),
    DataStream(String),
}

impl Destination for Settings {
    const DEFAULTS: Defaults = Defaults {
        // Below the 10 MiB that the smaller instances of Amazon OpenSearch Service take.
        batch_bytes: 8 << 20,
        // `http.max_content_length`.
        batch_bytes_limit: 100 << 20,
        batch_events: 5000,
        batch_age: Duration::from_secs(1),
        concurrency_max: 8,
        compression: Compression::Gzip(1),
        idle_connection_max: None,
        reach: Reach::Http,
    };

    fn build(self, common: &CommonSettings) -> Result<Built, Invalid> {
        let credentials = self.credentials()?;
        let endpoints = self.endpoints()?;
        let origins = Endpoint::origins(&endpoints);
        let signing = self.signing(&endpoints)?;
        let redactor = credentials.redactor(&common.redactor);
        let target = self.target()?;
        let pipeline = self.pipeline()?.map(str::to_owned);
        let sink = Arc::new(Elasticsearch {
            common: common.clone(),
            endpoints: Failover::new(endpoints),
            require_data_stream: AtomicBool::new(matches!(target, Target::DataStream(_))),
            stream_members: document::stream_members(&target, self.format),
            target,
            format: self.format,
            document_id: self.document_id,
            takes_ids: AtomicBool::new(true),
            redirected: AtomicU64::new(0),
            credentials,
            service: self.sign,
            pipeline,
            redactor: redactor.clone(),
        });
        let identity = signing.as_ref().map(|_| self.aws.unwrap_or_else(|| "default".into()));
        Ok(Built { signing, identity, ..Built::http(sink, origins, Self::DEFAULTS, redactor) })
    }
}

struct Elasticsearch {
    common: CommonSettings,
    endpoints: Failover,
    target: Target,
    format: Format,
    document_id: DocumentId,
    credentials: Credentials,
    /// Whose signature requests bear.
    service: Option<Service>,
    pipeline: Option<String>,
    /// In the integration's format: what says which stream a document belongs to, as members.
    stream_members: String,
    /// Asked for with data streams, until a server says that it does not know the parameter (OpenSearch,
    /// Elasticsearch before 8.13).
    require_data_stream: AtomicBool,
    /// With [`DocumentId::Auto`]: ids are sent, until a collection says that it takes none.
    takes_ids: AtomicBool,
    /// Documents that a data stream has put into its failure store.
    redirected: AtomicU64,
    redactor: Redactor,
}

impl HttpSink for Elasticsearch {
    fn encoded_len(&self, event: &Event) -> usize {
        let name = match &self.target {
            Target::Index(pattern) => pattern.len_max(),
            Target::DataStream(name) => name.len(),
        };
        let id = if self.document_id == DocumentId::None { 0 } else { event.document_id_len() };
        let document = match self.format {
            Format::Native => event.bytes().len(),
            Format::ElasticIntegration => {
                let file = event.file();
                escaped_len(event.bytes())
                    + encode::string_len(&file.bucket)
                    + encode::string_len(&file.key)
                    + INTEGRATION_OVERHEAD
            }
        };
        let common = self.stream_members.len() + self.common.trailship_len(event);
        name + id + ACTION_OVERHEAD + document + common
    }

    fn body<'a>(&self, events: &'a [Event], shape: Shape, body: &mut Body<'a>) {
        let mut own = Vec::new();
        let mut name = String::new();
        for event in events {
            let time = event.time();
            own.clear();
            self.write_action(event, time, &mut own, &mut name);
            body.owned(&own);
            own.clear();
            match (self.format, shape) {
                (Format::Native, Shape::Normal) => self.write_native(event, time, &mut own, body),
                (Format::Native, Shape::Safe) => self.write_safe(event, time, body),
                (Format::ElasticIntegration, _) => self.write_integration(event, time, body),
            }
            body.owned(b"\n");
        }
    }

    fn head(&self, attempt: &Attempt) -> Head {
        let mut url = format!("{}/_bulk?{FILTER_PATH}", self.endpoints.next(attempt.slot));
        if let Some(pipeline) = &self.pipeline {
            url.push_str("&pipeline=");
            url.push_str(pipeline);
        }
        if self.require_data_stream.load(Ordering::Relaxed) {
            url.push_str("&require_data_stream=true");
        }
        Head { method: "POST", url, headers: self.headers("application/x-ndjson") }
    }

    fn judge(&self, events: &[Event], attempt: &Attempt, answer: &Answer) -> Judgement {
        let judgement = self.read_answer(events.len(), answer);
        if works(&judgement) {
            self.endpoints.answered(attempt.slot);
        }
        judgement
    }
}

/// Whether the endpoint that gave this answer does its work; otherwise another one may do better.
fn works(judgement: &Judgement) -> bool {
    match judgement {
        Judgement::Each(_) | Judgement::Strained(_) | Judgement::Refused(_) | Judgement::TooLarge(_) => true,
        Judgement::Denied(_) => false,
        // Asked to wait, or to ask otherwise.
        Judgement::Unavailable { why, .. } => matches!(why.status, Some(400 | 429)),
    }
}

/// Longest text around name and id in an action line, and `@timestamp` with what joins it to the record.
const ACTION_OVERHEAD: usize =
    r#"{"create":{"_index":"","_id":}}nn"@timestamp":"2023-07-10T11:42:01.000Z",}"#.len();
impl Elasticsearch {
    fn headers(&self, content_type: &str) -> Vec<(&'static str, String)> {
        let mut headers =
            vec![("content-type", content_type.to_owned()), ("accept", "application/json".to_owned())];
        if let Some(value) = self.credentials.header() {
            headers.push(("authorization", value));
        }
        headers
    }

    fn id<'e>(&self, event: &'e Event) -> Option<Cow<'e, str>> {
        match self.document_id {
            DocumentId::Auto => self.takes_ids.load(Ordering::Relaxed).then(|| event.document_id()),
            DocumentId::EventId => event.text(Field::EventId).is_some().then(|| event.document_id()),
            DocumentId::None => None,
        }
    }

    fn write_action(&self, event: &Event, time: Option<Timestamp>, out: &mut Vec<u8>, name: &mut String) {
        out.extend_from_slice(b"{\"create\":{\"_index\":\"");
        match &self.target {
            Target::Index(pattern) => {
                name.clear();
                pattern.write(event, time, name);
                out.extend_from_slice(name.as_bytes());
            }
            Target::DataStream(stream) => out.extend_from_slice(stream.as_bytes()),
        }
        out.push(b'"');
        if let Some(id) = self.id(event) {
            encode::write_member(out, "_id", &id);
        }
        out.extend_from_slice(b"}}\n");
    }
}

#[cfg(test)]
mod tests;
