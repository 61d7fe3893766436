//! Elasticsearch and OpenSearch: the bulk interface, one `create` an event, one verdict an item.
//!
//! The identity of a document is the event's own, and the index bears the event's own date, so that a replay
//! meets what it wrote before and is answered 409, which counts as delivered.
//! <https://www.elastic.co/guide/en/elasticsearch/reference/current/docs-bulk.html>

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cloudtrail::{Field, Timestamp};
use serde::Deserialize;

use super::{Built, CommonSettings, Defaults, Destination, Endpoint, Invalid, Reach, in_turn};
use crate::{
    Answer, Attempt, Body, Compression, Event, Head, HttpSink, Judgement, Redactor, Secret, Shape, encode,
    escaped_len,
};

mod answer;
mod check;
mod document;
mod index;

use document::INTEGRATION_OVERHEAD;
use index::IndexPattern;

/// Keeps one entry an item, so that its position tells which event it is about, and little else.
const FILTER_PATH: &str = "filter_path=took,errors,items.*.status,items.*.error.type,items.*.error.reason,\
    items.*.error.caused_by.reason,items.*.failure_store";
/// Streams that only take what Elastic's own integration expects.
const INTEGRATION_STREAMS: &str = "logs-aws.cloudtrail-";

/// Settings of its own.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Addresses; the first is used, the next after a failure.
    endpoints: Vec<String>,
    /// Pattern of index names: `%Y %m %d` of the event's date, `{account} {region} {category}`.
    /// Default `cloudtrail-%Y.%m.%d`, unless there is a data stream.
    index: Option<String>,
    /// A data stream instead.
    data_stream: Option<String>,
    /// How an event is written.
    #[serde(default)]
    format: Format,
    /// What becomes the document's `_id`.
    #[serde(default)]
    document_id: DocumentId,
    /// `id:key`, or that in base64 as Kibana shows it.
    api_key: Option<Secret>,
    /// With `password`: basic authentication.
    username: Option<String>,
    password: Option<Secret>,
    /// A bearer token instead.
    bearer_token: Option<Secret>,
    /// An ingest pipeline.
    pipeline: Option<String>,
}

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
    /// The event's identity, made from its position in the log file where it has no id.
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
        let endpoints = Endpoint::parse_all("endpoints", &self.endpoints)?;
        let origins = Endpoint::origins(&endpoints);
        let (authorization, redactor) = self.authorization()?;
        let target = self.target()?;
        let mut query = FILTER_PATH.to_owned();
        if let Some(pipeline) = &self.pipeline {
            if pipeline.is_empty() || !pipeline.chars().all(is_name) {
                return Err(Invalid::new("pipeline", "use letters, digits, `-`, `_` and `.`"));
            }
            query.push_str("&pipeline=");
            query.push_str(pipeline);
        }
        let sink = Arc::new(Elasticsearch {
            common: common.clone(),
            endpoints,
            require_data_stream: AtomicBool::new(matches!(target, Target::DataStream(_))),
            target,
            format: self.format,
            document_id: self.document_id,
            authorization,
            query,
            redactor: redactor.clone(),
        });
        Ok(Built::http(sink, origins, Self::DEFAULTS, redactor))
    }
}

impl Settings {
    fn target(&self) -> Result<Target, Invalid> {
        match (&self.index, &self.data_stream) {
            (Some(_), Some(_)) => {
                Err(Invalid::new("data_stream", "take away `index`: it is one or the other"))
            }
            (None, Some(name)) => {
                let pattern = IndexPattern::parse(name).map_err(|text| Invalid::new("data_stream", text))?;
                if !pattern.is_fixed() {
                    return Err(Invalid::new("data_stream", "its name is fixed: take away % and {}"));
                }
                if name.starts_with(INTEGRATION_STREAMS) && self.format != Format::ElasticIntegration {
                    return Err(Invalid::new(
                        "format",
                        "this data stream needs format = \"elastic_integration\"",
                    ));
                }
                Ok(Target::DataStream(name.clone()))
            }
            (index, None) => {
                if self.format == Format::ElasticIntegration {
                    let message = "elastic_integration needs data_stream = \"logs-aws.cloudtrail-default\"";
                    return Err(Invalid::new("format", message));
                }
                let pattern = index.as_deref().unwrap_or("cloudtrail-%Y.%m.%d");
                let pattern = IndexPattern::parse(pattern).map_err(|text| Invalid::new("index", text))?;
                Ok(Target::Index(pattern))
            }
        }
    }

    /// The header's value, and what must not be shown.
    fn authorization(&self) -> Result<(Option<String>, Redactor), Invalid> {
        let mut redactor = Redactor::new();
        let value = match (&self.api_key, &self.username, &self.password, &self.bearer_token) {
            (None, None, None, None) => None,
            (Some(key), None, None, None) => {
                redactor.add(key.expose());
                let encode = |text: &str| STANDARD.encode(text);
                let key: Cow<'_, str> = match key.expose() {
                    pair if pair.contains(':') => encode(pair).into(),
                    encoded => encoded.into(),
                };
                Some(format!("ApiKey {key}"))
            }
            (None, Some(name), Some(password), None) => {
                let pair = format!("{name}:{}", password.expose());
                redactor.add(password.expose());
                redactor.add(&pair);
                Some(format!("Basic {}", STANDARD.encode(pair)))
            }
            (None, Some(_), None, None) => {
                return Err(Invalid::new("password", "missing: `username` needs it"));
            }
            (None, None, Some(_), None) => {
                return Err(Invalid::new("username", "missing: `password` needs it"));
            }
            (None, None, None, Some(token)) => {
                redactor.add(token.expose());
                Some(format!("Bearer {}", token.expose()))
            }
            _ => {
                let message = "keep one of `api_key`, `username` with `password`, and `bearer_token`";
                return Err(Invalid::new("api_key", message));
            }
        };
        if value.as_deref().is_some_and(|value| !value.is_ascii()) {
            return Err(Invalid::new("api_key", "a credential holds characters that no header can carry"));
        }
        Ok((value, redactor))
    }
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')
}

struct Elasticsearch {
    common: CommonSettings,
    endpoints: Vec<Endpoint>,
    target: Target,
    format: Format,
    document_id: DocumentId,
    authorization: Option<String>,
    query: String,
    /// Asked for with data streams, until a server says that it does not know the parameter (OpenSearch,
    /// Elasticsearch before 8.13).
    require_data_stream: AtomicBool,
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
        name + id + ACTION_OVERHEAD + document + self.common.trailship_len(event)
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
        let base = in_turn(&self.endpoints, attempt.number).map_or("", |endpoint| &endpoint.base);
        let mut url = format!("{base}/_bulk?{}", self.query);
        if self.require_data_stream.load(Ordering::Relaxed) {
            url.push_str("&require_data_stream=true");
        }
        Head { method: "POST", url, headers: self.headers("application/x-ndjson") }
    }

    fn judge(&self, events: &[Event], _: &Attempt, answer: &Answer) -> Judgement {
        self.read_answer(events.len(), answer)
    }
}

/// Longest text around name and id in an action line, and `@timestamp` with what joins it to the record.
const ACTION_OVERHEAD: usize =
    r#"{"create":{"_index":"","_id":}}nn"@timestamp":"2023-07-10T11:42:01.000Z",}"#.len();
impl Elasticsearch {
    fn headers(&self, content_type: &str) -> Vec<(&'static str, String)> {
        let mut headers =
            vec![("content-type", content_type.to_owned()), ("accept", "application/json".to_owned())];
        if let Some(value) = &self.authorization {
            headers.push(("authorization", value.clone()));
        }
        headers
    }

    fn id<'e>(&self, event: &'e Event) -> Option<Cow<'e, str>> {
        match self.document_id {
            DocumentId::Auto => Some(event.document_id()),
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
