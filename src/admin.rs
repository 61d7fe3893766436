//! The pages that the agent serves of itself: `/metrics`, `/livez`, `/readyz`, `/status` and a page for people.
//!
//! **Invariant** Nothing here asks a peer, and nothing here can be asked to change anything: every page is a view
//! of what the agent knows at that moment.

mod heartbeat;
mod page;
mod status;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{
    ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, HeaderMap, HeaderValue,
    REFERRER_POLICY, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use sinks::Secret;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

pub use heartbeat::Heartbeat;
pub use status::{
    Counts, Memory, NotReady, PausedBucketStatus, Reload, SinkState, SinkStatus, SourceState, SourceStatus,
    Status, StatusSource, Trouble,
};

/// Connections at once; further ones wait to be accepted.
const CONNECTIONS_MAX: usize = 64;
/// How long a connection may take, from its first byte to the last of the answer.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(10);
/// Bytes of a request's line and headers.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// Between tries to accept, when the process has no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const HTML: &str = "text/html; charset=utf-8";
/// <https://prometheus.io/docs/instrumenting/exposition_formats/>
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
/// The page has one style sheet of its own, and nothing from anywhere else.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'";

/// Writes the metrics in Prometheus' text format.
pub type MetricsText = Box<dyn Fn() -> String + Send + Sync>;

/// Tells the token that is asked for now, if any.
pub type Token = Box<dyn Fn() -> Option<Secret> + Send + Sync>;

/// What the pages are made from.
pub struct Admin {
    pub status: Arc<dyn StatusSource>,
    pub metrics: MetricsText,
    pub heartbeat: Heartbeat,
    /// Opens the status where it is not served on loopback.
    pub token: Token,
}

/// A port that is open, before anything is served on it.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    connection_time_max: Duration,
}

impl Server {
    /// Opens the port.
    ///
    /// # Errors
    /// If the address is taken or is none of this machine; the text names the key.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        let explain =
            |error: io::Error| io::Error::new(error.kind(), format!("agent.listen: {address}: {error}"));
        let listener = TcpListener::bind(address).await.map_err(explain)?;
        let address = listener.local_addr().map_err(explain)?;
        Ok(Self { listener, address, connection_time_max: CONNECTION_TIME_MAX })
    }

    /// The address, with the port that was chosen where 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until the future is dropped.
    pub async fn serve(self, admin: Admin) {
        let admin = Arc::new(admin);
        let local = self.address.ip().is_loopback();
        let time_max = self.connection_time_max;
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let admin = Arc::clone(&admin);
                    tokio::spawn(async move {
                        // A connection that is too slow is closed, whatever it was doing.
                        let _ =
                            tokio::time::timeout(time_max, connection(stream, admin, local, time_max)).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(code = "admin_accept_failed", %error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

async fn connection(stream: TcpStream, admin: Arc<Admin>, local: bool, time_max: Duration) {
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let answer = admin.answer(request.method(), request.uri().path(), request.headers(), local);
        async move { Ok::<_, Infallible>(answer) }
    });
    let mut http = http1::Builder::new();
    http.keep_alive(false)
        .timer(TokioTimer::new())
        .header_read_timeout(time_max)
        .max_buf_size(HEAD_BYTES_MAX);
    if let Err(error) = http.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "a request to the admin pages came to nothing");
    }
}

/// What `/readyz` says.
#[derive(Serialize)]
struct Readiness<'a> {
    ready: bool,
    reasons: Vec<NotReady<'a>>,
}

impl Admin {
    fn answer(&self, method: &Method, path: &str, headers: &HeaderMap, local: bool) -> Response<Full<Bytes>> {
        if !matches!(path, "/" | "/status" | "/metrics" | "/livez" | "/readyz") {
            let pages = "no such page; there are /, /status, /metrics, /livez and /readyz\n";
            return response(StatusCode::NOT_FOUND, TEXT, pages.to_owned());
        }
        if *method != Method::GET && *method != Method::HEAD {
            let text = "every page is read with GET\n".to_owned();
            let mut answer = response(StatusCode::METHOD_NOT_ALLOWED, TEXT, text);
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return answer;
        }
        match path {
            "/metrics" => response(StatusCode::OK, METRICS, (self.metrics)()),
            "/livez" => self.livez(),
            "/readyz" => self.readyz(),
            _ => match self.refusal(headers, local) {
                Some(refusal) => refusal,
                None if path == "/status" => json(StatusCode::OK, &self.status.status()),
                None => response(StatusCode::OK, HTML, page::page(&self.status.status())),
            },
        }
    }

    fn livez(&self) -> Response<Full<Bytes>> {
        let silence = self.heartbeat.silence();
        if silence <= Heartbeat::SILENCE_MAX {
            return response(StatusCode::OK, TEXT, "alive\n".to_owned());
        }
        let text = format!("the main loop has not moved for {} s\n", silence.as_secs());
        response(StatusCode::SERVICE_UNAVAILABLE, TEXT, text)
    }

    fn readyz(&self) -> Response<Full<Bytes>> {
        let status = self.status.status();
        let reasons = status.not_ready();
        let code = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        json(code, &Readiness { ready: reasons.is_empty(), reasons })
    }

    /// Why the status is not shown: it is on loopback, and to who has the token.
    fn refusal(&self, headers: &HeaderMap, local: bool) -> Option<Response<Full<Bytes>>> {
        if local {
            // A page from elsewhere can make a browser ask loopback under a name of its own; no other name is ours.
            let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost");
            let refusal = "the status is served under the names localhost and 127.0.0.1 only\n";
            return (!is_local_name(host)).then(|| response(StatusCode::FORBIDDEN, TEXT, refusal.to_owned()));
        }
        let Some(token) = (self.token)() else {
            let text = "the status is served on loopback only; set agent.admin_token to open it elsewhere\n";
            return Some(response(StatusCode::FORBIDDEN, TEXT, text.to_owned()));
        };
        let given = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let given = given.and_then(|value| value.split_once(' '));
        match given {
            Some((scheme, given)) if scheme.eq_ignore_ascii_case("bearer") && same(given.trim(), &token) => {
                None
            }
            _ => {
                let text = "send the token: Authorization: Bearer …\n".to_owned();
                let mut refusal = response(StatusCode::UNAUTHORIZED, TEXT, text);
                refusal.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
                Some(refusal)
            }
        }
    }
}

/// Whether the value of `Host` is a name of this machine as seen from itself.
fn is_local_name(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Compares in a time that does not tell how much of a guess was right.
fn same(given: &str, token: &Secret) -> bool {
    let (given, token) = (given.as_bytes(), token.expose().as_bytes());
    let difference = given.iter().zip(token).fold(0, |all, (a, b)| all | (a ^ b));
    given.len() == token.len() && std::hint::black_box(difference) == 0
}

fn json(code: StatusCode, value: &impl Serialize) -> Response<Full<Bytes>> {
    match serde_json::to_string(value) {
        Ok(text) => response(code, JSON, text + "\n"),
        Err(error) => response(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("{error}\n")),
    }
}

fn response(code: StatusCode, content_type: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = code;
    for (name, value) in [
        (CONTENT_TYPE, content_type),
        (CACHE_CONTROL, "no-store"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests;
