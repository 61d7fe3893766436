//! What the admin pages answer, to whom, and how long they listen.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use async_trait::async_trait;
use sinks::ports::Clock;
use sinks::{Reason, ReasonCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::status::remedy;
use super::*;

/// A clock that is set by hand, in seconds.
#[derive(Default)]
struct Hand(AtomicU64);

#[async_trait]
impl Clock for Hand {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + self.monotonic()
    }
    fn monotonic(&self) -> Duration {
        Duration::from_secs(self.0.load(Ordering::Relaxed))
    }
    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

struct Fixed(Status);

impl StatusSource for Fixed {
    fn status(&self) -> Status {
        self.0.clone()
    }
}

fn source(state: SourceState) -> SourceStatus {
    SourceStatus { name: "trail".to_owned(), type_name: "sqs".to_owned(), state, ..SourceStatus::default() }
}

fn sink(state: SinkState) -> SinkStatus {
    let why = Reason::new(ReasonCode::Unauthorized, "<script>alert(1)</script>").with_status(401);
    SinkStatus {
        name: "search".to_owned(),
        state,
        trouble: Some(Trouble::of_sink("search", &why, 7)),
        ..SinkStatus::default()
    }
}

fn admin_at(clock: Arc<Hand>, status: Status, token: Option<&str>) -> Admin {
    Admin {
        status: Arc::new(Fixed(status)),
        metrics: Box::new(|| "trailship_build_info 1\n".to_owned()),
        heartbeat: Heartbeat::new(clock),
        token: {
            let token = token.map(|token| Secret::new(token).unwrap());
            Box::new(move || token.clone())
        },
    }
}

fn admin(status: Status, token: Option<&str>) -> Admin {
    admin_at(Arc::default(), status, token)
}

fn well() -> Status {
    Status { sources: vec![source(SourceState::Ok)], sinks: vec![sink(SinkState::Ok)], ..Status::default() }
}

/// Status, and body, of a GET.
fn get(admin: &Admin, path: &str, headers: &[(&'static str, &str)], local: bool) -> (u16, String) {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.insert(*name, HeaderValue::from_str(value).unwrap());
    }
    read(admin.answer(&Method::GET, path, &map, local))
}

fn read(answer: Response<Full<Bytes>>) -> (u16, String) {
    use http_body_util::BodyExt as _;
    let code = answer.status().as_u16();
    let body = futures_util::FutureExt::now_or_never(answer.into_body().collect()).unwrap().unwrap();
    (code, String::from_utf8(body.to_bytes().to_vec()).unwrap())
}

#[test]
fn livez_goes_by_the_main_loop_and_not_by_peers() {
    let clock = Arc::new(Hand::default());
    let failing = Status {
        sources: vec![source(SourceState::Failing)],
        sinks: vec![sink(SinkState::Denied)],
        ..Status::default()
    };
    let admin = admin_at(Arc::clone(&clock), failing, None);
    assert_eq!(get(&admin, "/livez", &[], false).0, 200);
    clock.0.store(30, Ordering::Relaxed);
    assert_eq!(get(&admin, "/livez", &[], false).0, 200);
    clock.0.store(31, Ordering::Relaxed);
    assert_eq!(get(&admin, "/livez", &[], false), (503, "the main loop has not moved for 31 s\n".to_owned()));
    admin.heartbeat.beat();
    assert_eq!(get(&admin, "/livez", &[], false).0, 200);
}

#[test]
fn readyz_names_what_is_not_ready_and_the_remedy_but_not_what_a_peer_said() {
    let status = Status {
        sources: vec![source(SourceState::Starting)],
        sinks: vec![sink(SinkState::Denied)],
        ..Status::default()
    };
    let (code, body) = get(&admin(status, None), "/readyz", &[], false);
    assert_eq!(code, 503);
    assert!(!body.contains("alert"), "{body}");
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        body,
        serde_json::json!({ "ready": false, "reasons": [
            { "source": "trail", "code": "starting", "remedy": "wait: it has not answered yet" },
            { "sink": "search", "code": "unauthorized",
              "remedy": "see that the credentials are right and may write; they are in sinks.search" },
        ]})
    );
}

#[test]
fn a_sink_that_is_down_or_slow_leaves_the_agent_ready() {
    for state in [SinkState::Ok, SinkState::Slow, SinkState::Unavailable] {
        let status = Status { sinks: vec![sink(state)], ..well() };
        let answer = get(&admin(status, None), "/readyz", &[], false);
        assert_eq!(answer, (200, "{\"ready\":true,\"reasons\":[]}\n".to_owned()), "{state:?}");
    }
}

#[test]
fn the_status_is_for_loopback_or_for_who_has_the_token() {
    let (open, closed) = (admin(well(), None), admin(well(), Some("t0ken")));
    let bearer = |token: &'static str| [("authorization", token)];
    for path in ["/", "/status"] {
        assert_eq!(get(&open, path, &[], true).0, 200);
        assert_eq!(get(&open, path, &[("host", "localhost:7464")], true).0, 200);
        assert_eq!(get(&open, path, &[("host", "[::1]:7464")], true).0, 200);
        assert_eq!(get(&open, path, &[("host", "rebound.example:7464")], true).0, 403);
        assert_eq!(get(&open, path, &[], false).0, 403);
        assert_eq!(get(&open, path, &bearer("Bearer t0ken"), false).0, 403);
        assert_eq!(get(&closed, path, &[], false).0, 401);
        assert_eq!(get(&closed, path, &bearer("Bearer t0keN"), false).0, 401);
        assert_eq!(get(&closed, path, &bearer("Bearer t0"), false).0, 401);
        assert_eq!(get(&closed, path, &bearer("Bearer "), false).0, 401);
        assert_eq!(get(&closed, path, &bearer("Basic t0ken"), false).0, 401);
        assert_eq!(get(&closed, path, &bearer("bearer t0ken"), false).0, 200);
    }
    // What machines ask is open to all.
    for path in ["/metrics", "/livez", "/readyz"] {
        assert_eq!(get(&closed, path, &[], false).0, 200, "{path}");
    }
}

#[test]
fn the_page_shows_state_and_remedy_and_obeys_nothing() {
    let status = Status { warnings: vec!["<b>".to_owned()], ..well() };
    let status = Status { sinks: vec![sink(SinkState::Denied)], ..status };
    let (code, body) = get(&admin(status, None), "/", &[], true);
    assert_eq!(code, 200);
    assert!(body.contains("&lt;script&gt;") && !body.contains("<script"), "{body}");
    assert!(body.contains("<li>&lt;b&gt;</li>"), "{body}");
    assert!(body.contains("denied") && body.contains("not ready"), "{body}");
    assert!(body.contains("What to do:</b> see that the credentials are right"), "{body}");
}

#[test]
fn the_status_says_types_and_counts_as_json() {
    let (_, body) = get(&admin(well(), None), "/status", &[], true);
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["sources"][0]["type"], "sqs");
    assert_eq!(body["sinks"][0]["state"], "ok");
    assert_eq!(body["sinks"][0]["events"]["offered"], 0);
}

#[test]
fn other_methods_and_other_pages_are_refused() {
    let admin = admin(well(), None);
    let answer = admin.answer(&Method::POST, "/status", &HeaderMap::new(), true);
    assert_eq!(answer.headers()[ALLOW], "GET, HEAD");
    assert_eq!(answer.status(), 405);
    assert_eq!(get(&admin, "/config", &[], true).0, 404);
}

#[test]
fn every_reason_has_a_remedy_that_names_the_sink() {
    for code in ReasonCode::ALL {
        assert!(remedy("search", code).contains("sinks.search"), "{code:?}");
    }
}

async fn serving() -> SocketAddr {
    let server = Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = server.address();
    tokio::spawn(server.serve(admin(well(), None)));
    address
}

async fn exchange(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let _ = stream.write_all(request).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn pages_are_served_over_http_with_headers_that_keep_browsers_careful() {
    let answer = exchange(serving().await, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("content-type: text/plain; version=0.0.4"), "{answer}");
    assert!(answer.contains("x-content-type-options: nosniff"), "{answer}");
    assert!(answer.ends_with("trailship_build_info 1\n"), "{answer}");
}

#[tokio::test]
async fn a_head_that_is_too_long_is_refused() {
    let request = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(HEAD_BYTES_MAX));
    let answer = exchange(serving().await, request.as_bytes()).await;
    assert!(!answer.contains("200 OK"), "{answer}");
}

#[tokio::test]
async fn slow_connections_are_closed_and_do_not_keep_others_out() {
    let mut server = Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    server.connection_time_max = Duration::from_millis(600);
    let address = server.address();
    tokio::spawn(server.serve(admin(well(), None)));
    let mut slow = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HT").await.unwrap();
        slow.push(stream);
    }
    // All places are taken: the next one is served once the slow ones have been closed.
    let begin = tokio::time::Instant::now();
    let answer = exchange(address, b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert!(answer.ends_with("alive\n"), "{answer}");
    let waited = begin.elapsed();
    assert!(waited >= Duration::from_millis(200), "{waited:?}");
}

#[tokio::test]
async fn an_address_that_is_taken_is_told_with_its_key() {
    let server = Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let error = Server::bind(server.address()).await.err().unwrap();
    assert!(error.to_string().starts_with("agent.listen: 127.0.0.1:"), "{error}");
}
