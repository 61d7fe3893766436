//! A stand-in for Alert Logic: tokens, the address of the ingest service, and the service, which reads protocol buffers
//! with a decoder of its own.
//!
//! It follows the client of Alert Logic's collectors: <https://github.com/alertlogic/al-collector-js>

mod proto;

use std::io::{self, Read as _};
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{Method, StatusCode};
use serde_json::json;

use super::desk::{Desk, Reply, Turn, status, with_retry_after};
use super::front::{Destination, Protocol};
use super::mode::Failure;
use crate::http::{Request, Response, ServerOptions};
use crate::ledger::{Additions, Ledger};

/// How it is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertLogicOptions {
    /// Its name in the ledger.
    pub sink: String,
    /// 0 for any free one.
    pub port: u16,
    /// Of what is drawn.
    pub seed: u64,
    /// The key's name.
    pub access_key_id: String,
    /// The key.
    pub secret_key: String,
    /// The account that the key is of.
    pub account: String,
    /// Where its data is kept.
    pub residency: String,
    /// The source that is registered.
    pub source_id: String,
    /// The host that is registered.
    pub host_id: String,
    /// A longer body, compressed, is answered 413.
    pub body_bytes_max: usize,
    /// How long a token is said to hold, from the machine's clock on.
    pub token_seconds: u64,
}

impl Default for AlertLogicOptions {
    fn default() -> Self {
        Self {
            sink: "alert_logic_ingest".to_owned(),
            port: 0,
            seed: 1,
            access_key_id: "0123456789abcdef".to_owned(),
            secret_key: "a-secret-key-for-tests".to_owned(),
            account: "134249236".to_owned(),
            residency: "default".to_owned(),
            source_id: "6A0F0B6E-0000-4000-8000-0123456789AB".to_owned(),
            host_id: "7B1F0B6E-0000-4000-8000-0123456789AB".to_owned(),
            body_bytes_max: 10_000_000,
            token_seconds: 21_600,
        }
    }
}

/// The stand-in; dropping it stops it.
pub struct AlertLogic {
    destination: Destination,
    service: Arc<Service>,
}

impl Deref for AlertLogic {
    type Target = Destination;
    fn deref(&self) -> &Destination {
        &self.destination
    }
}

impl AlertLogic {
    /// Starts it on the loopback interface.
    ///
    /// # Errors
    /// Where the port cannot be bound.
    pub async fn start(ledger: Arc<Ledger>, options: AlertLogicOptions) -> io::Result<Self> {
        let desk = Desk::new(&options.sink, ledger, options.seed);
        let port = options.port;
        let service = Arc::new(Service { desk, options, tokens: AtomicU64::new(0), valid: Mutex::default() });
        let destination = Destination::start(Arc::clone(&service), port, ServerOptions::default()).await?;
        Ok(Self { destination, service })
    }

    /// Takes all tokens back.
    pub fn revoke(&self) {
        self.service.valid().clear();
    }

    /// Tokens that were given so far.
    #[must_use]
    pub fn tokens(&self) -> u64 {
        self.service.tokens.load(Ordering::SeqCst)
    }
}

struct Service {
    desk: Desk,
    options: AlertLogicOptions,
    tokens: AtomicU64,
    valid: Mutex<Vec<String>>,
}

impl Protocol for Service {
    fn desk(&self) -> &Desk {
        &self.desk
    }

    fn delivers(&self, request: &Request) -> bool {
        request.path.starts_with("/ingest/")
    }

    fn answer(&self, request: &Request, turn: &Turn) -> Reply {
        if !self.delivers(request) {
            return Reply::plain(self.inform(request, turn));
        }
        let number = self.desk.begin();
        let response = match turn.failure {
            Failure::Status(number) => error(number, "refused"),
            Failure::RefuseAll => error(400, "bad request"),
            Failure::ItemsThrottled(_) => error(429, "too many requests"),
            Failure::ReadOnly(_) | Failure::Code(_) => error(503, "unavailable"),
            _ => self.ingest(request, turn, number),
        };
        Reply::booked(with_retry_after(response, turn), number)
    }
}

impl Service {
    fn valid(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        // Every change is complete before anything can panic.
        self.valid.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn header<'a>(request: &'a Request, name: &str) -> &'a str {
        request.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    fn is_authorized(&self, request: &Request) -> bool {
        let token = Self::header(request, "x-aims-auth-token");
        self.valid().iter().any(|valid| valid == token)
    }

    fn inform(&self, request: &Request, turn: &Turn) -> Response {
        if let Failure::Status(number) = turn.failure {
            return error(number, "refused");
        }
        let options = &self.options;
        let place = format!(
            "/endpoints/v1/{}/residency/{}/services/ingest/endpoint",
            options.account, options.residency
        );
        match (&request.method, request.path.as_str()) {
            (&Method::POST, "/aims/v1/authenticate") => {
                let basic = STANDARD.encode(format!("{}:{}", options.access_key_id, options.secret_key));
                if Self::header(request, "authorization") != format!("Basic {basic}") {
                    return error(401, "unauthorized");
                }
                let token = format!("token-{}", self.tokens.fetch_add(1, Ordering::SeqCst) + 1);
                self.valid().push(token.clone());
                let expires = self.desk.ledger.now_us() / 1_000_000 + options.token_seconds;
                let account = json!({ "id": options.account, "name": "an account" });
                let told = json!({ "token": token, "token_expiration": expires, "account": account });
                Response::json(StatusCode::OK, &json!({ "authentication": told }))
            }
            (&Method::GET, path) if path == place => {
                if !self.is_authorized(request) {
                    return error(401, "unauthorized");
                }
                Response::json(StatusCode::OK, &json!({ "ingest": Self::header(request, "host") }))
            }
            _ => error(404, "not found"),
        }
    }

    fn ingest(&self, request: &Request, turn: &Turn, number: u64) -> Response {
        let wanted = [("content-type", "alertlogic.com/lm3-protobuf"), ("content-encoding", "deflate")];
        if request.method != Method::POST
            || request.path != format!("/ingest/v1/{}/data/logmsgs", self.options.account)
        {
            return error(404, "not found");
        }
        if !self.is_authorized(request) {
            return error(401, "unauthorized");
        }
        if wanted.iter().any(|(name, value)| Self::header(request, name) != *value)
            || Self::header(request, "x-invoked-by").is_empty()
        {
            return error(415, "unsupported media type");
        }
        if request.body.len() > self.options.body_bytes_max {
            return error(413, "payload too large");
        }
        let mut plain = Vec::new();
        if flate2::read::ZlibDecoder::new(&request.body[..]).read_to_end(&mut plain).is_err() {
            return error(400, "no zlib");
        }
        self.desk.count(|counts| counts.decoded_bytes += plain.len() as u64);
        let Some(batches) = proto::batches(&plain) else { return error(400, "no batch of messages") };
        let is_known = |batch: &proto::Batch| {
            batch.source == self.options.source_id && batch.host == self.options.host_id
        };
        if !batches.iter().all(is_known) {
            return error(400, "no such collector");
        }
        let messages = || batches.iter().flat_map(|batch| &batch.messages);
        if messages().any(|message| turn.refuses(&message.text, &Additions::PLAIN.read(&message.text))) {
            self.desk.count(|counts| counts.refused += 1);
            return error(400, "bad request");
        }
        for message in messages() {
            self.desk.store(number, &Additions::PLAIN.read(&message.text));
        }
        Response::text(StatusCode::NO_CONTENT, "application/json", "")
    }
}

fn error(number: u16, text: &str) -> Response {
    Response::json(status(number), &json!({ "error": text }))
}

#[cfg(test)]
mod tests;
