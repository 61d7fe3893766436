//! A stand-in for Elasticsearch 8 and OpenSearch 2: `_bulk` with its limits, its item errors and its index templates.
//!
//! <https://www.elastic.co/docs/api/doc/elasticsearch/operation/operation-bulk>

mod answers;
mod bulk;
mod indices;
mod mapping;
mod rest;
mod signature;
mod strict;
mod templates;

use std::io;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::{Method, StatusCode};
use serde_json::{Map, Value, json};

use self::answers::{Wrong, filtered, whole};
use self::bulk::Defaults;
use self::indices::{Context, Done, Indices};
pub use self::signature::Signer;
use super::desk::{Desk, Reply, Turn, with_retry_after};
use super::front::{Destination, Protocol};
use super::mode::Failure;
use crate::http::{Request, Response, ServerOptions, percent_decode};
use crate::ledger::Ledger;

/// Whose answers it gives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flavour {
    /// Elasticsearch 8: `flattened`, `document_parsing_exception`.
    #[default]
    Elasticsearch,
    /// OpenSearch 2: `flat_object`, `mapper_parsing_exception`.
    OpenSearch,
}

/// Who may send.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Auth {
    /// Anyone.
    #[default]
    None,
    /// `Authorization: ApiKey <this>`.
    ApiKey(String),
    /// `Authorization: Basic <this>`: base64 of `user:password`.
    Basic(String),
    /// `Authorization: Bearer <this>`.
    Bearer(String),
    /// Signature Version 4, as a domain of Amazon OpenSearch Service or a collection of Serverless wants it.
    Signed(Signer),
}

impl Auth {
    fn expected(&self) -> Option<String> {
        match self {
            Self::None | Self::Signed(_) => None,
            Self::ApiKey(key) => Some(format!("ApiKey {key}")),
            Self::Basic(pair) => Some(format!("Basic {pair}")),
            Self::Bearer(token) => Some(format!("Bearer {token}")),
        }
    }
}

/// How it is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ElasticsearchOptions {
    /// Its name in the ledger.
    pub sink: String,
    /// 0 for any free one.
    pub port: u16,
    /// Of what is drawn.
    pub seed: u64,
    /// Whose answers it gives.
    pub flavour: Flavour,
    /// Who may send.
    pub auth: Auth,
    /// Whether the credentials may only write: `GET /` and cluster calls are answered 403.
    pub write_only: bool,
    /// Indices that may be written, with `*`; none is all.
    pub allowed_indices: Vec<String>,
    /// Ingest pipelines that exist.
    pub pipelines: Vec<String>,
    /// Whether an index that does not exist is created by the first document.
    pub auto_create: bool,
    /// Whether documents may have ids of the sender's: not in a time-series collection of OpenSearch Serverless.
    pub takes_ids: bool,
    /// Whether it has only what OpenSearch Serverless has: no version, no cluster, no data streams, no pipelines.
    pub serverless: bool,
    /// `http.max_content_length`, of the decompressed body.
    pub max_content_length: usize,
}

impl Default for ElasticsearchOptions {
    fn default() -> Self {
        Self {
            sink: "elasticsearch".to_owned(),
            port: 0,
            seed: 1,
            flavour: Flavour::default(),
            auth: Auth::default(),
            write_only: false,
            allowed_indices: Vec::new(),
            pipelines: Vec::new(),
            auto_create: true,
            takes_ids: true,
            serverless: false,
            max_content_length: 100 << 20,
        }
    }
}

/// The stand-in; dropping it stops it.
pub struct Elasticsearch {
    destination: Destination,
    cluster: Arc<Cluster>,
}

impl Deref for Elasticsearch {
    type Target = Destination;
    fn deref(&self) -> &Destination {
        &self.destination
    }
}

impl Elasticsearch {
    /// Starts it on the loopback interface.
    ///
    /// # Errors
    /// Where the port cannot be bound.
    pub async fn start(ledger: Arc<Ledger>, options: ElasticsearchOptions) -> io::Result<Self> {
        let desk = Desk::new(&options.sink, ledger, options.seed);
        let port = options.port;
        let cluster = Arc::new(Cluster { desk, options, indices: Mutex::default() });
        let destination = Destination::start(Arc::clone(&cluster), port, ServerOptions::default()).await?;
        Ok(Self { destination, cluster })
    }

    /// Indices and data streams with the number of their documents.
    #[must_use]
    pub fn indices(&self) -> Vec<(String, u64)> {
        self.cluster.lock().all.iter().map(|(name, index)| (name.clone(), index.count)).collect()
    }

    /// A stored document by its id; of each index the first thousand are kept.
    #[must_use]
    pub fn document(&self, index: &str, id: &str) -> Option<Value> {
        let indices = self.cluster.lock();
        let sources = &indices.all.get(index)?.sources;
        sources.iter().find(|(known, _)| known == id).map(|(_, source)| source.clone())
    }

    /// Begins a new backing index of a data stream.
    pub fn roll_over(&self, name: &str) {
        if let Some(index) = self.cluster.lock().all.get_mut(name) {
            index.roll_over();
        }
    }

    /// Closes an index, or opens it again.
    pub fn set_closed(&self, name: &str, closed: bool) {
        let mut indices = self.cluster.lock();
        match closed {
            true => indices.closed.insert(name.to_owned()),
            false => indices.closed.remove(name),
        };
    }
}

struct Cluster {
    desk: Desk,
    options: ElasticsearchOptions,
    indices: Mutex<Indices>,
}

impl Protocol for Cluster {
    fn desk(&self) -> &Desk {
        &self.desk
    }

    fn delivers(&self, request: &Request) -> bool {
        request.path.ends_with("/_bulk")
    }

    fn answer(&self, request: &Request, turn: &Turn) -> Reply {
        if self.delivers(request) {
            let number = self.desk.begin();
            let response = self.bulk(request, turn, number).unwrap_or_else(|refused| *refused);
            return Reply::booked(with_retry_after(self.branded(response), turn), number);
        }
        let response = match turn.failure {
            Failure::Status(status) => whole(status),
            _ => self.other(request),
        };
        Reply::plain(with_retry_after(self.branded(response), turn))
    }
}

impl Cluster {
    fn lock(&self) -> MutexGuard<'_, Indices> {
        // Every change is complete before anything can panic.
        self.indices.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn branded(&self, response: Response) -> Response {
        match self.options.flavour {
            Flavour::Elasticsearch => response.with_header("x-elastic-product", "Elasticsearch"),
            Flavour::OpenSearch => response,
        }
    }

    fn authenticate(&self, request: &Request) -> Result<(), Wrong> {
        if let Auth::Signed(signer) = &self.options.auth {
            return signer.check(request).map_err(|why| Wrong::new(403, "security_exception", why));
        }
        let Some(expected) = self.options.auth.expected() else { return Ok(()) };
        match request.header("authorization") {
            Some(given) if given == expected => Ok(()),
            Some(_) => {
                let reason = "unable to authenticate with provided credentials and anonymous access is not allowed for this request";
                Err(Wrong::new(401, "security_exception", reason))
            }
            None => {
                let reason =
                    format!("missing authentication credentials for REST request [{}]", request.path);
                Err(Wrong::new(401, "security_exception", reason))
            }
        }
    }

    /// The refusal is boxed: an answer is large, and most requests have none.
    fn bulk(&self, request: &Request, turn: &Turn, number: u64) -> Result<Response, Box<Response>> {
        let refuse = |wrong: Wrong| Box::new(wrong.response());
        if request.method != Method::POST && request.method != Method::PUT {
            let reason = "Incorrect HTTP method for uri [/_bulk], allowed: [POST, PUT]";
            return Err(refuse(Wrong::new(405, "illegal_argument_exception", reason)));
        }
        match turn.failure {
            Failure::Status(status) => return Err(Box::new(whole(status))),
            Failure::RefuseAll => return Err(Box::new(whole(400))),
            Failure::Code(_) => return Err(Box::new(whole(500))),
            _ => {}
        }
        if request.header("transfer-encoding").is_some() || request.header("content-length").is_none() {
            let answer = Response::text(StatusCode::LENGTH_REQUIRED, "text/plain", "a length is required");
            return Err(Box::new(answer));
        }
        self.authenticate(request).map_err(refuse)?;
        parameters(request, self.options.flavour).map_err(refuse)?;
        content_type(request).map_err(refuse)?;
        let body = match request.decoded_body(self.options.max_content_length) {
            Ok(body) if body.len() <= self.options.max_content_length => body,
            Err(what) if !what.contains("more than") => {
                return Err(refuse(Wrong::new(400, "illegal_argument_exception", what)));
            }
            _ => return Err(Box::new(whole(413))),
        };
        self.desk.count(|counts| counts.decoded_bytes += body.len() as u64);
        let actions = bulk::parse(&body, &defaults(request)).map_err(refuse)?;
        let context = Context { options: &self.options, desk: &self.desk, turn, request: number };
        let mut indices = self.lock();
        let mut errors = false;
        let left_out = usize::from(turn.failure == Failure::PartlyStored);
        let mut items: Vec<Value> = actions
            .iter()
            .take(actions.len() - left_out)
            .enumerate()
            .map(|(at, action)| {
                let done = indices.apply(action, at as u64, &context);
                errors |= done.result.is_err();
                json!({ action.name(): item(done) })
            })
            .collect();
        if turn.failure == Failure::ShortAnswer {
            items.pop();
        }
        let answer = json!({ "took": 3, "errors": errors, "items": items });
        let answer = match request.query_value("filter_path") {
            Some(path) => filtered(&answer, &path),
            None => answer,
        };
        Ok(Response::json(StatusCode::OK, &answer))
    }
}

fn content_type(request: &Request) -> Result<(), Wrong> {
    let given = request.header("content-type").unwrap_or_default();
    let media = given.split(';').next().unwrap_or_default().trim();
    if ["application/x-ndjson", "application/json"].contains(&media)
        || media.starts_with("application/vnd.elasticsearch+")
    {
        return Ok(());
    }
    Err(Wrong::new(
        406,
        "media_type_header_exception",
        format!("Content-Type header [{given}] is not supported"),
    ))
}

/// Parameters of a bulk request, and those of every request.
const PARAMETERS: [&str; 13] = [
    "filter_path",
    "pipeline",
    "refresh",
    "timeout",
    "wait_for_active_shards",
    "require_alias",
    "routing",
    "_source",
    "_source_includes",
    "_source_excludes",
    "pretty",
    "human",
    "error_trace",
];

/// Parameters of Elasticsearch's bulk request that OpenSearch does not know.
const PARAMETERS_OF_ELASTICSEARCH: [&str; 3] =
    ["require_data_stream", "list_executed_pipelines", "include_source_on_error"];

fn parameters(request: &Request, flavour: Flavour) -> Result<(), Wrong> {
    let known = |name: &str| {
        let own = flavour == Flavour::Elasticsearch && PARAMETERS_OF_ELASTICSEARCH.contains(&name);
        own || PARAMETERS.contains(&name)
    };
    match request.query_pairs().iter().find(|(name, _)| !known(name)) {
        Some((name, _)) => {
            let reason = format!("request [{}] contains unrecognized parameter: [{name}]", request.path);
            Err(Wrong::new(400, "illegal_argument_exception", reason))
        }
        None => Ok(()),
    }
}

fn defaults(request: &Request) -> Defaults {
    let index = request.path.trim_end_matches("_bulk").trim_matches('/');
    Defaults {
        index: (!index.is_empty()).then(|| percent_decode(index)),
        pipeline: request.query_value("pipeline"),
        require_data_stream: request.query_value("require_data_stream").is_some_and(|value| value != "false"),
    }
}

/// One entry of the answer.
fn item(done: Done) -> Value {
    let mut item = Map::new();
    item.insert("_index".to_owned(), done.index.into());
    item.insert("_id".to_owned(), done.id.into());
    match done.result {
        Ok(Value::Object(result)) => item.extend(result),
        Ok(_) => {}
        Err(wrong) => {
            item.insert("status".to_owned(), wrong.status.into());
            item.insert("error".to_owned(), wrong.item());
        }
    }
    Value::Object(item)
}

#[cfg(test)]
mod tests;
