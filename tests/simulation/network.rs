//! The simulated network: the SDK's HTTP client and the servers of AWS on turmoil, destinations behind the transport.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt as _;
use hyper_util::rt::TokioIo;
use sinks::ports::Transport;
use sinks::{Answer, Head, Reason, ReasonCode};
use testkit::destinations::Destination;
use testkit::http::{Fault, Handler, Request, Response, serve_connection};
use testkit::random::Rng;
use turmoil::net::{TcpListener, TcpStream};

use crate::stage::{PORTS, Sink, Stage};
use crate::time::VirtualTime;
use crate::trace::{Trace, digest};

/// How long the SDK's client waits for a connection: as in production.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection that is cut is not noticed before the time for a whole exchange is over.
pub(crate) const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(8);

/// What it takes to learn that a name is not there.
const RESOLVE_TIME: Duration = Duration::from_millis(20);

/// How wrong a clock may be for AWS.
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>
const SKEW_MAX: Duration = Duration::from_secs(15 * 60);

/// Which links are cut or slow, and how often something happened to what they carry.
#[derive(Default)]
pub(crate) struct Links {
    state: Mutex<LinksState>,
}

#[derive(Default)]
struct LinksState {
    /// Agent and peer.
    cut: BTreeSet<(usize, &'static str)>,
    slow: BTreeMap<(usize, &'static str), Duration>,
    /// Names that cannot be resolved.
    unknown: BTreeSet<(usize, &'static str)>,
    hits: BTreeMap<&'static str, u64>,
}

impl Links {
    /// Cuts a link, or mends it.
    pub(crate) fn cut(&self, agent: usize, peer: &'static str, cut: bool) {
        let mut state = self.lock();
        if cut {
            state.cut.insert((agent, peer))
        } else {
            state.cut.remove(&(agent, peer))
        };
    }

    /// Slows a link down by up to so much a message.
    pub(crate) fn slow(&self, agent: usize, peer: &'static str, by: Duration) {
        self.lock().slow.insert((agent, peer), by);
    }

    /// Takes a peer's name away, or gives it back.
    pub(crate) fn forget(&self, agent: usize, peer: &'static str, is_unknown: bool) {
        let mut state = self.lock();
        if is_unknown {
            state.unknown.insert((agent, peer))
        } else {
            state.unknown.remove(&(agent, peer))
        };
    }

    /// Mends everything.
    pub(crate) fn heal(&self) {
        let mut state = self.lock();
        state.unknown.clear();
        state.cut.clear();
        state.slow.clear();
    }

    /// How often something was lost or late.
    pub(crate) fn hits(&self) -> BTreeMap<&'static str, u64> {
        self.lock().hits.clone()
    }

    fn is_cut(&self, agent: usize, peer: &'static str) -> bool {
        let mut state = self.lock();
        let is_cut = state.cut.contains(&(agent, peer));
        if is_cut {
            *state.hits.entry(peer).or_default() += 1;
        }
        is_cut
    }

    fn is_unknown(&self, agent: usize, peer: &'static str) -> bool {
        let mut state = self.lock();
        let is_unknown = state.unknown.contains(&(agent, peer));
        if is_unknown {
            *state.hits.entry("name").or_default() += 1;
        }
        is_unknown
    }

    fn delay(&self, agent: usize, peer: &'static str) -> Duration {
        let mut state = self.lock();
        let delay = state.slow.get(&(agent, peer)).copied().unwrap_or_default();
        if !delay.is_zero() {
            *state.hits.entry("latency").or_default() += 1;
        }
        delay
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, LinksState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The SDK's HTTP client of one agent: one connection a request.
#[derive(Clone)]
pub(crate) struct SdkClient {
    pub(crate) agent: usize,
    pub(crate) links: Arc<Links>,
}

impl std::fmt::Debug for SdkClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("simulated")
    }
}

impl HttpClient for SdkClient {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for SdkClient {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let client = self.clone();
        HttpConnectorFuture::new(async move { client.exchange(request).await })
    }
}

impl SdkClient {
    async fn exchange(&self, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let mut request = request.try_into_http1x().map_err(|error| ConnectorError::user(error.into()))?;
        let uri = request.uri().clone();
        let peer =
            PORTS.iter().find(|(_, port)| uri.port_u16() == Some(*port)).map_or("nowhere", |(peer, _)| *peer);
        if self.links.is_unknown(self.agent, peer) {
            tokio::time::sleep(RESOLVE_TIME).await;
            return Err(ConnectorError::io(std::io::Error::other("the name cannot be resolved").into()));
        }
        self.links.is_cut(self.agent, peer);
        let connecting = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect((peer, 80)));
        let stream = match connecting.await {
            Ok(connected) => connected.map_err(|error| ConnectorError::io(error.into()))?,
            Err(late) => return Err(ConnectorError::timeout(late.into())),
        };
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).parse().unwrap();
        *request.uri_mut() = path;
        if let Some(authority) = uri.authority() {
            request.headers_mut().insert("host", authority.as_str().parse().unwrap());
        }
        let failed = |error: hyper::Error| ConnectorError::io(error.into());
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
        // Ends with the answer's body, or where the exchange is given up.
        tokio::spawn(connection);
        let response = sender.send_request(request).await.map_err(failed)?;
        HttpResponse::try_from(response.map(SdkBody::from_body_1_x))
            .map_err(|error| ConnectorError::other(error.into(), None))
    }
}

/// Serves AWS as one host of the network.
pub(crate) async fn serve(handler: Arc<dyn Handler>) -> turmoil::Result {
    let listener = TcpListener::bind("0.0.0.0:80").await?;
    for number in 1.. {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(serve_connection(stream, number, Arc::clone(&handler)));
    }
    Ok(())
}

/// Notes every request and its answer in the trace.
pub(crate) struct Traced {
    pub(crate) host: &'static str,
    pub(crate) handler: Arc<dyn Handler>,
    pub(crate) trace: Arc<Trace>,
    pub(crate) time: Arc<VirtualTime>,
}

impl Traced {
    /// What AWS says to whoever signs with a time that is too far from its own.
    fn too_skewed(&self, request: &Request) -> Option<Response> {
        let signed = request.header("x-amz-date").and_then(seconds_since_1970)?;
        if signed.abs_diff(self.time.since_1970()) <= SKEW_MAX {
            return None;
        }
        self.time.note_too_skewed();
        let response = Response::new(StatusCode::FORBIDDEN);
        Some(match self.host {
            "s3" => response
                .with_body("<?xml version=\"1.0\"?><Error><Code>RequestTimeTooSkewed</Code></Error>")
                .with_header("content-type", "application/xml"),
            _ => response
                .with_body(r#"{"__type":"com.amazon.coral.service#InvalidSignatureException","message":"Signature expired"}"#)
                .with_header("content-type", "application/x-amz-json-1.0"),
        })
    }
}

/// Reads `20240501T120000Z`.
fn seconds_since_1970(text: &str) -> Option<Duration> {
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<u64>().ok();
    let (year, month, day) = (number(0, 4)?, number(4, 6)?, number(6, 8)?);
    // The year begins in March, so that the leap day is its last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1;
    let days = days.checked_sub(719_468)?;
    let seconds = number(9, 11)? * 3600 + number(11, 13)? * 60 + number(13, 15)?;
    Some(Duration::from_secs(days * 86_400 + seconds))
}

impl Handler for Traced {
    fn handle(self: Arc<Self>, request: Request) -> BoxFuture<'static, Response> {
        Box::pin(async move {
            let what = request.header("x-amz-target").map_or(request.path.clone(), str::to_owned);
            let asked = format!(
                "{} {} {what} {} {}",
                self.host,
                request.method,
                request.header("range").unwrap_or(""),
                digest(&request.body)
            );
            self.trace.note(&format!("{asked} …"));
            let response = match self.too_skewed(&request) {
                Some(refusal) => refusal.with_header("date", &self.time.http_date()),
                None => Arc::clone(&self.handler).handle(request).await,
            };
            let (status, fault) = (response.status.as_u16(), &response.fault);
            self.trace.note(&format!("{asked} = {status} {} {fault:?}", digest(&response.body)));
            response
        })
    }
}

/// The way from one agent to one destination.
pub(crate) struct Way {
    pub(crate) agent: usize,
    pub(crate) sink: Sink,
    pub(crate) stage: Arc<Stage>,
    pub(crate) rng: Mutex<Rng>,
}

#[async_trait]
impl Transport for Way {
    async fn exchange(&self, head: Head, body: Bytes) -> Result<Answer, Reason> {
        match tokio::time::timeout(EXCHANGE_TIMEOUT, self.carry(head, body)).await {
            Ok(result) => result,
            Err(_) => Err(Reason::new(ReasonCode::Timeout, "timed out")),
        }
    }
}

impl Way {
    async fn carry(&self, head: Head, body: Bytes) -> Result<Answer, Reason> {
        let Some(destination) = self.stage.destination(self.sink) else {
            return Err(Reason::new(ReasonCode::Connection, "nobody there"));
        };
        if self.stage.links.is_unknown(self.agent, self.sink.name()) {
            tokio::time::sleep(RESOLVE_TIME).await;
            return Err(Reason::new(ReasonCode::Connection, "the name cannot be resolved"));
        }
        self.pass().await;
        let asked =
            format!("{} from agent-{} {} {}", self.sink.name(), self.agent, head.method, digest(&body));
        let mut sent = destination.act(request(head, body)).await;
        let response = std::mem::replace(&mut sent.response, Response::new(StatusCode::OK));
        let (status, fault) = (response.status.as_u16(), response.fault);
        self.stage.trace.note(&format!("{asked} = {status} {} {fault:?}", digest(&response.body)));
        tokio::time::sleep(response.delay).await;
        let lost = |text: &str| Err(Reason::new(ReasonCode::Connection, text));
        let body = match fault {
            None | Some(Fault::Drip { .. }) => response.body,
            Some(Fault::NeverAnswer) => std::future::pending().await,
            Some(Fault::Garbage) => Bytes::from_static(b"\x00\xff<{garbage: not an answer"),
            Some(Fault::Reset | Fault::Hangup) => return lost("the connection was closed before the answer"),
            Some(Fault::Truncate { .. } | Fault::ResetAfter { .. }) => {
                return lost("the answer was cut short");
            }
        };
        self.pass().await;
        sent.arrived();
        Ok(answer(response.status, &response.headers, body))
    }

    /// One way over the link; for ever where it is cut.
    async fn pass(&self) {
        let (links, peer) = (&self.stage.links, self.sink.name());
        let more = links.delay(self.agent, peer);
        let share = {
            let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
            rng.below(1000) as u32
        };
        tokio::time::sleep(Duration::from_millis(2) + (more + Duration::from_millis(40)) * share / 1000)
            .await;
        if links.is_cut(self.agent, peer) {
            std::future::pending::<()>().await;
        }
    }
}

/// A stand-in's answer as the agent's transport gives it.
pub(crate) fn answer(status: StatusCode, headers: &HeaderMap, body: Bytes) -> Answer {
    let headers = headers.iter().filter_map(|(name, value)| {
        value.to_str().ok().map(|value| (name.as_str().to_owned(), value.to_owned()))
    });
    Answer { status: status.as_u16(), headers: headers.collect(), body }
}

/// A request of the SDK as stand-ins take it, without a connection.
pub(crate) async fn sdk_request(request: HttpRequest) -> Result<Request, ConnectorError> {
    let request = request.try_into_http1x().map_err(|error| ConnectorError::user(error.into()))?;
    let (head, body) = request.into_parts();
    // Read to its end: the SDK takes a body that nobody reads for one that does not get through.
    let body = body.collect().await.map_err(ConnectorError::user)?;
    Ok(Request {
        method: head.method,
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or("").to_owned(),
        headers: head.headers,
        body: body.to_bytes(),
        connection: 1,
    })
}

/// A stand-in's answer as the SDK takes it.
pub(crate) fn sdk_response(response: Response) -> Result<HttpResponse, ConnectorError> {
    let mut made = http::Response::new(SdkBody::from(response.body));
    (*made.status_mut(), *made.headers_mut()) = (response.status, response.headers);
    HttpResponse::try_from(made).map_err(|error| ConnectorError::other(error.into(), None))
}

/// A request of the agent's as a destination's stand-in takes it.
pub(crate) fn request(head: Head, body: Bytes) -> Request {
    let rest = head.url.split_once("://").map_or(head.url.as_str(), |(_, rest)| rest);
    let path = rest.find('/').map_or("/", |at| &rest[at..]);
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let mut headers = HeaderMap::new();
    headers.insert("content-length", body.len().into());
    for (name, value) in head.headers {
        headers.append(name, value.parse().unwrap());
    }
    Request {
        method: head.method.parse().unwrap(),
        path: path.to_owned(),
        query: query.to_owned(),
        headers,
        body,
        connection: 1,
    }
}

/// A destination that can be asked and set.
pub(crate) type Peer = dyn std::ops::Deref<Target = Destination> + Send + Sync;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_signature_is_read() {
        let read = |text| seconds_since_1970(text).map(|time| time.as_secs());
        assert_eq!(read("19700101T000000Z"), Some(0));
        assert_eq!(read("20240229T235959Z"), Some(1_709_251_199));
        assert_eq!(read("20240501T120000Z"), Some(1_714_564_800));
        assert_eq!(read("yesterday"), None);
    }
}
