//! A stand-in for Splunk's HTTP Event Collector: prefix semantics, silent stops and indexer acknowledgement included.
//!
//! <https://help.splunk.com/en/splunk-enterprise/get-started/get-data-in/10.0/get-data-with-http-event-collector>

mod acks;
mod balancer;
mod codes;
mod objects;

use std::io;
use std::ops::Deref;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use self::acks::Acks;
pub use self::balancer::Balancer;
use self::objects::{End, Envelope};
use super::desk::{Desk, Reply, Turn, shortened, with_retry_after};
use super::front::{Destination, Protocol};
use super::mode::Failure;
use crate::http::{Request, Response, ServerOptions};
use crate::ledger::{Additions, Answer, Ledger};

/// How it is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplunkHecOptions {
    /// Its name in the ledger.
    pub sink: String,
    /// 0 for any free one.
    pub port: u16,
    /// Of what is drawn.
    pub seed: u64,
    /// The token that may send.
    pub token: String,
    /// A token that exists and is disabled.
    pub disabled_token: String,
    /// Indices that the token may write; none is all.
    pub indices: Vec<String>,
    /// Whether the token has `useACK`.
    pub use_ack: bool,
    /// How long it takes until an acknowledgement turns true.
    pub ack_delay: Duration,
    /// Whether acknowledgements never turn true, as behind a load balancer without sticky sessions.
    pub ack_never: bool,
    /// Whether an error that names an event says under which number those before it are acknowledged.
    pub ack_on_error: bool,
    /// What stands before the indexers.
    pub balancer: Balancer,
    /// `max_content_length`, of the decompressed body.
    pub max_content_length: usize,
    /// Whether a body that is too large is answered as Splunk Cloud does (400, code 6, event 0) instead of 413.
    pub cloud: bool,
}

impl Default for SplunkHecOptions {
    fn default() -> Self {
        Self {
            sink: "splunk_hec".to_owned(),
            port: 0,
            seed: 1,
            token: "11111111-2222-3333-4444-555555555555".to_owned(),
            disabled_token: "00000000-0000-0000-0000-000000000000".to_owned(),
            indices: Vec::new(),
            use_ack: false,
            ack_delay: Duration::from_millis(1200),
            ack_never: false,
            ack_on_error: true,
            balancer: Balancer::None,
            max_content_length: 838_860_800,
            cloud: false,
        }
    }
}

/// The stand-in; dropping it stops it.
pub struct SplunkHec {
    destination: Destination,
}

impl Deref for SplunkHec {
    type Target = Destination;
    fn deref(&self) -> &Destination {
        &self.destination
    }
}

impl SplunkHec {
    /// Starts it on the loopback interface.
    ///
    /// # Errors
    /// Where the port cannot be bound.
    pub async fn start(ledger: Arc<Ledger>, options: SplunkHecOptions) -> io::Result<Self> {
        let desk = Desk::new(&options.sink, ledger, options.seed);
        let port = options.port;
        let indexers = std::iter::repeat_with(Acks::default).take(options.balancer.indexers());
        let acks = Mutex::new(indexers.collect());
        let collector = Collector { desk, options, acks, turn: AtomicUsize::new(0) };
        let destination = Destination::start(collector, port, ServerOptions::default()).await?;
        Ok(Self { destination })
    }
}

struct Collector {
    desk: Desk,
    options: SplunkHecOptions,
    /// One for each indexer.
    acks: Mutex<Vec<Acks>>,
    /// Counts what the load balancer gives away.
    turn: AtomicUsize,
}

/// What a path stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Endpoint {
    Event,
    Raw,
    Ack,
    Health,
}

fn endpoint(path: &str) -> Option<Endpoint> {
    let rest = path.strip_prefix("/services/collector")?;
    match rest.strip_suffix("/1.0").unwrap_or(rest) {
        "" | "/" | "/event" => Some(Endpoint::Event),
        "/raw" => Some(Endpoint::Raw),
        "/ack" => Some(Endpoint::Ack),
        "/health" => Some(Endpoint::Health),
        _ => None,
    }
}

impl Protocol for Collector {
    fn desk(&self) -> &Desk {
        &self.desk
    }

    fn delivers(&self, request: &Request) -> bool {
        let delivers = matches!(endpoint(&request.path), Some(Endpoint::Event | Endpoint::Raw));
        delivers && request.method == Method::POST
    }

    fn answer(&self, request: &Request, turn: &Turn) -> Reply {
        let Some(endpoint) = endpoint(&request.path) else { return Reply::plain(codes::not_found()) };
        let early = match turn.failure {
            Failure::Status(status) | Failure::ReadOnly(status) => Some(codes::whole(status)),
            Failure::Code(24 | 25) => None,
            Failure::Code(code) => Some(codes::answer(code)),
            Failure::RefuseAll => Some(codes::whole(400)),
            Failure::ItemsThrottled(_) => Some(codes::whole(429)),
            _ => None,
        };
        let (indexer, cookie) = self.options.balancer.choose(request, &self.turn);
        let mut reply = match (endpoint, early) {
            (Endpoint::Event | Endpoint::Raw, early) if request.method == Method::POST => {
                let number = self.desk.begin();
                match early {
                    Some(response) => Reply::booked(response, number),
                    None => self.deliver(request, endpoint, turn, (number, indexer)),
                }
            }
            (_, Some(response)) => Reply::plain(response),
            (Endpoint::Health, None) => Reply::plain(codes::answer(17)),
            (Endpoint::Ack, None) if request.method == Method::POST => {
                Reply::plain(self.poll(request, turn, indexer))
            }
            (_, None) if request.method == Method::OPTIONS => Reply::plain(Response::new(StatusCode::OK)),
            (_, None) => Reply::plain(codes::plain(405)),
        };
        reply.response = with_retry_after(shortened(reply.response, turn), turn);
        if let Some(cookie) = cookie {
            reply.response = reply.response.with_header("set-cookie", &cookie);
        }
        reply
    }
}

impl Collector {
    fn authenticate(&self, request: &Request) -> Result<(), u16> {
        let Some(given) = request.header("authorization") else { return Err(2) };
        match given.strip_prefix("Splunk ") {
            None => Err(3),
            Some(token) if token == self.options.token => Ok(()),
            Some(token) if token == self.options.disabled_token => Err(1),
            Some(_) => Err(4),
        }
    }

    fn channel(&self, request: &Request) -> Result<String, u16> {
        let given = request.header("x-splunk-request-channel").map(str::to_owned);
        let given = given.or_else(|| request.query_value("channel")).ok_or(10_u16)?;
        let is_guid = given.len() == 36
            && given.char_indices().all(|(at, c)| match at {
                8 | 13 | 18 | 23 => c == '-',
                _ => c.is_ascii_hexdigit(),
            });
        if is_guid { Ok(given.to_ascii_lowercase()) } else { Err(11) }
    }

    /// The body, or the answer that refuses it.
    fn body(&self, request: &Request) -> Result<Bytes, Box<Response>> {
        let coding = request.header("content-encoding").unwrap_or("identity");
        if !["gzip", "identity", ""].contains(&coding) {
            return Err(Box::new(codes::whole(415)));
        }
        let too_large = || match self.options.cloud {
            true => codes::with(6, &json!({ "invalid-event-number": 0 })),
            false => codes::plain(413),
        };
        let body = request.decoded_body(self.options.max_content_length).map_err(|problem| {
            Box::new(if problem.contains("more than") { too_large() } else { codes::answer(6) })
        })?;
        if body.len() > self.options.max_content_length {
            return Err(Box::new(too_large()));
        }
        if body.is_empty() {
            return Err(Box::new(codes::answer(5)));
        }
        Ok(body)
    }

    /// `number` is the request's in the ledger; the indexer that got it acknowledges it.
    fn deliver(
        &self,
        request: &Request,
        endpoint: Endpoint,
        turn: &Turn,
        (number, indexer): (u64, usize),
    ) -> Reply {
        let refuse = |response| Reply::booked(response, number);
        if let Err(code) = self.authenticate(request) {
            return refuse(codes::answer(code));
        }
        let channel = match self.channel(request) {
            Ok(channel) => Some(channel),
            Err(code) if self.options.use_ack => return refuse(codes::answer(code)),
            Err(_) => None,
        };
        let body = match self.body(request) {
            Ok(body) => body,
            Err(refusal) => return refuse(*refusal),
        };
        self.desk.count(|counts| counts.decoded_bytes += body.len() as u64);
        let end = match endpoint {
            Endpoint::Raw => self.store_lines(&body, number),
            _ => self.store_objects(&body, turn, number),
        };
        let mut more = Map::new();
        let code = match end {
            End::All | End::Silent if matches!(turn.failure, Failure::Code(_)) => match turn.failure {
                Failure::Code(code) => code,
                _ => 0,
            },
            End::All | End::Silent => 0,
            End::Code { code, number: event } => {
                self.desk.count(|counts| counts.refused += 1);
                more.insert("invalid-event-number".to_owned(), event.into());
                code
            }
        };
        let tells = self.options.ack_on_error || matches!(code, 0 | 24 | 25);
        if let (true, Some(channel)) = (self.options.use_ack && tells, channel) {
            let mut acks = self.acks.lock().unwrap_or_else(PoisonError::into_inner);
            let issued = acks.get_mut(indexer).map(|acks| acks.issue(&channel, number, Instant::now()));
            more.insert("ackId".to_owned(), issued.into());
        }
        // Without a number as well: nobody can ask for it.
        let unconfirmed = self.options.use_ack;
        let mut reply = Reply::booked(codes::with(code, &Value::Object(more)), number);
        if unconfirmed {
            reply.booked = Some((number, Answer::Unconfirmed));
        }
        reply
    }

    /// Stores the objects before the first wrong one, and nothing of what follows.
    fn store_objects(&self, body: &[u8], turn: &Turn, number: u64) -> End {
        let allowed =
            |index: &str| self.options.indices.is_empty() || self.options.indices.iter().any(|i| i == index);
        let read = objects::read(body, allowed);
        for Envelope { number: at, event, seen } in read.events {
            if turn.refuses(&event, &seen) {
                return End::Code { code: 15, number: at };
            }
            self.desk.store(number, &seen);
        }
        read.end
    }

    /// The raw endpoint takes every line for an event.
    fn store_lines(&self, body: &[u8], number: u64) -> End {
        for line in body.split(|&byte| byte == b'\n').filter(|line| !line.trim_ascii().is_empty()) {
            self.desk.store(number, &Additions::PLAIN.read(line));
        }
        End::All
    }

    fn poll(&self, request: &Request, turn: &Turn, indexer: usize) -> Response {
        #[derive(Deserialize)]
        struct Poll {
            acks: Vec<u64>,
        }
        if let Err(code) = self.authenticate(request) {
            return codes::answer(code);
        }
        if !self.options.use_ack {
            return codes::answer(14);
        }
        let channel = match self.channel(request) {
            Ok(channel) => channel,
            Err(code) => return codes::answer(code),
        };
        let Ok(poll) = serde_json::from_slice::<Poll>(&request.body) else { return codes::answer(6) };
        let mut acks = self.acks.lock().unwrap_or_else(PoisonError::into_inner);
        let mut told = Map::new();
        for id in poll.acks {
            let indexed = match self.options.ack_never {
                true => None,
                false => acks
                    .get_mut(indexer)
                    .and_then(|acks| acks.ask(&channel, id, self.options.ack_delay, Instant::now())),
            };
            // What an answer says that is lost, nobody was told; it is forgotten all the same.
            if let (Some(request), false) = (indexed, turn.loses_the_answer()) {
                self.desk.confirm(request);
            }
            told.insert(id.to_string(), indexed.is_some().into());
        }
        Response::json(StatusCode::OK, &json!({ "acks": told }))
    }
}

#[cfg(test)]
mod tests;
