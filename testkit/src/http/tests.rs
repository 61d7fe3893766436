//! What a peer sees of the server, over plain sockets.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::StatusCode;

use super::{Fault, Request, Response, Server, ServerOptions, percent_decode, percent_encode};

async fn echo(request: Request) -> Response {
    let text = format!("{} {} {} {}", request.method, request.path, request.query, request.body.len());
    Response::text(StatusCode::OK, "text/plain", text)
}

/// Starts a server that answers everything with `answer`.
async fn start(answer: Response) -> Server {
    let handler = move |_: Request| std::future::ready(answer.clone());
    Server::start(0, Arc::new(handler)).await.unwrap()
}

/// Sends one request and reads until the connection ends or a second has passed without a byte.
async fn exchange(server: &Server, request: &'static str) -> (String, Option<ErrorKind>) {
    let addr = server.addr;
    tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(addr).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut seen = Vec::new();
        let mut buf = [0; 4096];
        let end = loop {
            match stream.read(&mut buf) {
                Ok(0) => break None,
                Ok(n) => seen.extend_from_slice(&buf[..n]),
                Err(e) => break Some(e.kind()),
            }
        };
        (String::from_utf8_lossy(&seen).into_owned(), end)
    })
    .await
    .unwrap()
}

const GET: &str = "GET /a%2Fb?c=d HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";

#[tokio::test]
async fn a_request_arrives_whole_and_the_answer_has_its_length() {
    let server = Server::start(0, Arc::new(echo)).await.unwrap();
    let (seen, end) = exchange(
        &server,
        "POST /x?q HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 3\r\n\r\nabc",
    )
    .await;
    assert!(seen.starts_with("HTTP/1.1 200 OK"), "{seen}");
    assert!(seen.contains("content-length: 11"), "{seen}");
    assert!(seen.ends_with("POST /x q 3"), "{seen}");
    assert_eq!(end, None);
}

#[tokio::test]
async fn one_connection_carries_several_requests() {
    let server = Server::start(0, Arc::new(echo)).await.unwrap();
    let two = "GET /1 HTTP/1.1\r\nhost: x\r\n\r\nGET /2 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let (seen, _) = exchange(&server, two).await;
    assert_eq!(seen.matches("HTTP/1.1 200 OK").count(), 2, "{seen}");
    assert_eq!((server.connections_accepted(), server.requests()), (1, 2));
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused() {
    let options = ServerOptions { body_bytes_max: 2, ..ServerOptions::default() };
    let server = Server::start_with(([127, 0, 0, 1], 0).into(), options, Arc::new(echo)).await.unwrap();
    let (seen, _) = exchange(&server, "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc").await;
    assert!(seen.starts_with("HTTP/1.1 413"), "{seen}");
}

#[tokio::test]
async fn a_reset_is_seen_as_a_reset_and_a_hangup_as_an_end() {
    let ok = Response::text(StatusCode::OK, "text/plain", "0123456789");
    let (seen, end) = exchange(&start(ok.clone().with_fault(Fault::Reset)).await, GET).await;
    assert_eq!((seen.as_str(), end), ("", Some(ErrorKind::ConnectionReset)));
    let (seen, end) = exchange(&start(ok.with_fault(Fault::Hangup)).await, GET).await;
    assert_eq!((seen.as_str(), end), ("", None));
}

#[tokio::test]
async fn a_cut_body_announces_its_whole_length() {
    let ok = Response::text(StatusCode::OK, "text/plain", "0123456789");
    let (seen, end) = exchange(&start(ok.clone().with_fault(Fault::Truncate { bytes: 4 })).await, GET).await;
    assert!(seen.contains("content-length: 10"), "{seen}");
    assert!(seen.ends_with("\r\n\r\n0123"), "{seen}");
    assert_eq!(end, None);
    let (seen, end) =
        exchange(&start(ok.clone().with_fault(Fault::ResetAfter { bytes: 7 })).await, GET).await;
    assert!(seen.ends_with("\r\n\r\n0123456"), "{seen}");
    assert_eq!(end, Some(ErrorKind::ConnectionReset));
    // A cut past the end still leaves one byte out.
    let (seen, _) = exchange(&start(ok.with_fault(Fault::Truncate { bytes: 99 })).await, GET).await;
    assert!(seen.ends_with("\r\n\r\n012345678"), "{seen}");
}

#[tokio::test]
async fn silence_garbage_drip_and_delay_do_what_they_say() {
    let ok = Response::text(StatusCode::OK, "text/plain", Bytes::from(vec![b'x'; 200]));
    let (seen, end) = exchange(&start(ok.clone().with_fault(Fault::NeverAnswer)).await, GET).await;
    assert_eq!((seen.as_str(), end), ("", Some(ErrorKind::WouldBlock)));
    let (seen, _) = exchange(&start(ok.clone().with_fault(Fault::Garbage)).await, GET).await;
    assert!(seen.ends_with("<{garbage: not an answer"), "{seen}");
    let begin = Instant::now();
    let (seen, _) =
        exchange(&start(ok.clone().with_fault(Fault::Drip { bytes_per_second: 400 })).await, GET).await;
    assert!(seen.ends_with(&"x".repeat(200)), "{seen}");
    assert!(begin.elapsed() >= Duration::from_millis(450), "{:?}", begin.elapsed());
    let begin = Instant::now();
    exchange(&start(ok.with_delay(Duration::from_millis(200))).await, GET).await;
    assert!(begin.elapsed() >= Duration::from_millis(200));
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_its_limit() {
    let options =
        ServerOptions { idle_timeout: Some(Duration::from_millis(150)), ..ServerOptions::default() };
    let server = Server::start_with(([127, 0, 0, 1], 0).into(), options, Arc::new(echo)).await.unwrap();
    let begin = Instant::now();
    let (seen, end) = exchange(&server, "GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(seen.starts_with("HTTP/1.1 200"), "{seen}");
    assert_eq!(end, None);
    assert!(begin.elapsed() >= Duration::from_millis(150));
}

#[tokio::test]
async fn dropping_the_server_closes_connections_and_frees_the_port() {
    let server = start(Response::new(StatusCode::OK).with_fault(Fault::NeverAnswer)).await;
    let addr = server.addr;
    let client = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(addr).unwrap();
        stream.write_all(GET.as_bytes()).unwrap();
        stream.read(&mut [0; 10])
    });
    while server.connections_open() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(server);
    assert!(!matches!(client.await.unwrap(), Ok(n) if n > 0));
    let again = Server::start(addr.port(), Arc::new(echo)).await;
    assert!(again.is_ok(), "{again:?}");
}

#[tokio::test]
async fn an_ordered_shutdown_lets_an_answer_end() {
    let server =
        start(Response::text(StatusCode::OK, "text/plain", "done").with_delay(Duration::from_millis(300)))
            .await;
    let addr = server.addr;
    let client = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(addr).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        let mut seen = String::new();
        stream.read_to_string(&mut seen).unwrap();
        seen
    });
    while server.requests() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    server.shutdown().await;
    assert!(client.await.unwrap().ends_with("done"));
}

fn request(encoding: &str, body: Vec<u8>) -> Request {
    let mut headers = http::HeaderMap::new();
    headers.insert("content-encoding", encoding.parse().unwrap());
    Request {
        method: http::Method::POST,
        path: "/".into(),
        query: "a=1%202&b&c=x+y".into(),
        headers,
        body: body.into(),
        connection: 1,
    }
}

#[test]
fn content_codings_are_removed_within_the_limit() {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(b"hello").unwrap();
    let gzip = request("gzip", gzip.finish().unwrap());
    assert_eq!(gzip.decoded_body(5).unwrap(), "hello");
    assert!(gzip.decoded_body(4).unwrap_err().contains("more than 4"));
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    zlib.write_all(b"hello").unwrap();
    assert_eq!(request("deflate", zlib.finish().unwrap()).decoded_body(5).unwrap(), "hello");
    assert!(request("gzip", b"not gzip".to_vec()).decoded_body(99).is_err());
    assert!(request("br", Vec::new()).decoded_body(99).is_err());
    assert_eq!(request("identity", b"x".to_vec()).decoded_body(99).unwrap(), "x");
}

#[test]
fn queries_and_percent_codes_are_decoded() {
    let request = request("identity", b"k=v%26w".to_vec());
    assert_eq!(request.query_value("a").as_deref(), Some("1 2"));
    assert_eq!(request.query_value("b").as_deref(), Some(""));
    assert_eq!(request.query_value("c").as_deref(), Some("x y"));
    assert_eq!(request.query_value("d"), None);
    assert_eq!(request.form_pairs(), vec![("k".to_owned(), "v&w".to_owned())]);
    assert_eq!(percent_decode("a%2Fb+%zz%4"), "a/b+%zz%4");
    assert_eq!(percent_encode("a/b c+ü", "/"), "a/b%20c%2B%C3%BC");
}
