//! Certificates, proxies and redirects, against real sockets.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Mutex;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sinks::ports::{Address, Dialer as _};
use testkit::tls::{
    AUTHORITY_PEM, CLIENT_KEY, CLIENT_PEM, Clients, EXPIRED_PEM, SERVER_PEM, STRANGER_PEM, acceptor,
    acceptor_with,
};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::ports::SocketDialer;

/// Reads up to the end of a request's head.
async fn head_of(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(head).unwrap()
}

async fn answer(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    answer: &str,
    heads: &Mutex<Vec<String>>,
) {
    let head = head_of(stream).await;
    if !head.is_empty() {
        heads.lock().unwrap().push(head);
        let _ = stream.write_all(answer.as_bytes()).await;
        let _ = stream.shutdown().await;
    }
}

/// A server that answers every request with the same bytes; what it was asked.
struct Stub {
    port: u16,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Stub {
    /// Without TLS where `clients` is `None`.
    async fn start(clients: Option<Clients>, bytes: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stub = Self { port: listener.local_addr().unwrap().port(), heads: Arc::default() };
        let heads = Arc::clone(&stub.heads);
        let tls = clients.map(|clients| acceptor(clients).unwrap());
        tokio::spawn(async move {
            loop {
                let (mut socket, _) = listener.accept().await.unwrap();
                match &tls {
                    None => answer(&mut socket, bytes, &heads).await,
                    Some(tls) => {
                        if let Ok(mut stream) = tls.accept(socket).await {
                            answer(&mut stream, bytes, &heads).await;
                        }
                    }
                }
            }
        });
        stub
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi";

/// Files of a test.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn put(&self, name: &str, content: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    fn trusting(&self) -> TransportSettings {
        let ca_file = Some(self.put("ca.pem", AUTHORITY_PEM));
        TransportSettings { ca_file, timeout: Duration::from_secs(10), ..TransportSettings::default() }
    }
}

async fn ask(settings: &TransportSettings, url: &str) -> Result<Answer, Reason> {
    let host = reqwest::Url::parse(url).unwrap().host_str().unwrap().to_owned();
    let transport = HttpTransport::new(settings, &[host]).unwrap();
    let head = Head { method: "POST", url: url.to_owned(), headers: vec![] };
    transport.exchange(head, Bytes::from_static(b"")).await
}

#[tokio::test]
async fn a_private_authority_is_trusted_if_it_is_named_and_not_otherwise() {
    let (server, files) = (Stub::start(Some(Clients::Any), OK).await, Files::new());
    let url = format!("https://localhost:{}/", server.port);
    assert_eq!(ask(&files.trusting(), &url).await.unwrap().body, "hi");
    let why = ask(&TransportSettings::default(), &url).await.unwrap_err();
    assert_eq!(why.code, ReasonCode::Tls, "{why}");
    let trusting_anybody = TransportSettings { insecure_skip_verify: true, ..TransportSettings::default() };
    assert_eq!(ask(&trusting_anybody, &url).await.unwrap().status, 200);
    assert_eq!(server.heads().len(), 2);
}

#[tokio::test]
async fn a_server_that_wants_a_certificate_is_shown_ours() {
    let (server, files) = (Stub::start(Some(Clients::Signed), OK).await, Files::new());
    let url = format!("https://localhost:{}/", server.port);
    let identity = Some((files.put("client.pem", CLIENT_PEM), files.put("client.key", CLIENT_KEY)));
    let known = TransportSettings { identity, ..files.trusting() };
    assert_eq!(ask(&known, &url).await.unwrap().status, 200);
    let why = ask(&files.trusting(), &url).await.unwrap_err();
    assert!(matches!(why.code, ReasonCode::Tls | ReasonCode::Connection), "{why}");
    assert_eq!(server.heads().len(), 1);
    let wrong = Some((files.put("client.pem", CLIENT_PEM), files.put("no.key", "nothing")));
    let error = HttpTransport::new(&TransportSettings { identity: wrong, ..files.trusting() }, &[]);
    let error = error.err().unwrap();
    assert!(error.starts_with("tls.cert_file, tls.key_file: not a PEM certificate"), "{error}");
}

#[tokio::test]
async fn the_certificate_has_to_bear_the_name_that_is_wanted() {
    let (server, files) = (Stub::start(Some(Clients::Any), OK).await, Files::new());
    let url = format!("https://127.0.0.1:{}/", server.port);
    let named = |name: &str| TransportSettings { server_name: Some(name.to_owned()), ..files.trusting() };
    assert_eq!(ask(&named("localhost"), &url).await.unwrap().status, 200);
    let why = ask(&named("other.example"), &url).await.unwrap_err();
    assert_eq!(why.code, ReasonCode::Tls, "{why}");
}

/// What a peer does with a connection that begins with a TLS handshake.
#[derive(Clone, Copy)]
enum Peer {
    /// Shows this certificate.
    Shows(&'static str),
    /// Says these bytes, whatever it hears.
    Says(&'static [u8]),
}

/// The port of a peer; all that reached it in the clear, or through TLS.
async fn peer(peer: Peer) -> (u16, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let heard: Arc<Mutex<Vec<u8>>> = Arc::default();
    let hears = Arc::clone(&heard);
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut bytes = vec![0; 64 << 10];
            let count = match peer {
                Peer::Shows(pem) => match acceptor_with(Clients::Any, pem).unwrap().accept(socket).await {
                    Ok(mut stream) => stream.read(&mut bytes).await.unwrap_or(0),
                    Err(_) => 0,
                },
                Peer::Says(said) => {
                    let count = socket.read(&mut bytes).await.unwrap_or(0);
                    let _ = socket.write_all(said).await;
                    count + socket.read(&mut bytes[count..]).await.unwrap_or(0)
                }
            };
            hears.lock().unwrap().extend_from_slice(&bytes[..count]);
        }
    });
    (port, heard)
}

/// The start of an answer to a handshake by a server that has TLS 1.1 at best.
/// <https://www.rfc-editor.org/rfc/rfc4346#section-7.4.1.3>
const HELLO_OF_TLS_1_1: &[u8] = &{
    // Record, handshake, version; 32 bytes of randomness, no session, TLS_RSA_WITH_AES_128_CBC_SHA, no compression.
    let mut hello = [7; 47];
    let (head, tail) = ([22, 3, 2, 0, 42, 2, 0, 0, 38, 3, 2], [0, 0, 0x2f, 0]);
    let mut at = 0;
    while at < head.len() {
        hello[at] = head[at];
        at += 1;
    }
    at = 0;
    while at < tail.len() {
        hello[43 + at] = tail[at];
        at += 1;
    }
    hello
};
/// The alert `protocol_version`, which is what newer servers say to older clients and the other way round.
const ALERT_VERSION: &[u8] = &[21, 3, 2, 0, 2, 2, 70];

#[tokio::test]
async fn a_peer_that_cannot_be_trusted_is_told_apart_and_hears_nothing_of_the_request() {
    let files = Files::new();
    let trusting = files.trusting();
    let unknown = TransportSettings { timeout: Duration::from_secs(10), ..TransportSettings::default() };
    for (about, settings, kind, words) in [
        ("a good one", &trusting, Peer::Shows(SERVER_PEM), &[][..]),
        ("one whose time is over", &trusting, Peer::Shows(EXPIRED_PEM), &["expired"][..]),
        ("one of another name", &trusting, Peer::Shows(STRANGER_PEM), &["localhost", "name"]),
        ("one of an unknown authority", &unknown, Peer::Shows(SERVER_PEM), &["UnknownIssuer"]),
        ("one with TLS 1.1", &trusting, Peer::Says(HELLO_OF_TLS_1_1), &["incompatible"]),
        ("one that wants another version", &trusting, Peer::Says(ALERT_VERSION), &["ProtocolVersion"]),
        ("one without TLS", &trusting, Peer::Says(OK.as_bytes()), &["corrupt"]),
    ] {
        let (port, heard) = peer(kind).await;
        let head = Head {
            method: "POST",
            url: format!("https://localhost:{port}/secret-path"),
            headers: vec![("authorization", "Bearer secret-token".to_owned())],
        };
        let transport = HttpTransport::new(settings, &["localhost".to_owned()]).unwrap();
        let by_http = transport.exchange(head, Bytes::from_static(b"secret-body")).await.map(|_| ());
        let dialer = SocketDialer::new(settings).unwrap();
        let address = Address { host: "localhost".to_owned(), port, tls: true };
        let by_socket = dialer.dial(&address).await.map(|_| ());
        if words.is_empty() {
            assert!(by_socket.is_ok() && !heard.lock().unwrap().is_empty(), "{about}");
            continue;
        }
        for failed in [by_http, by_socket] {
            let why = failed.expect_err(about);
            assert_eq!(why.code, ReasonCode::Tls, "{about}: {why}");
            assert!(words.iter().all(|word| why.text.contains(word)), "{about}: {why}");
        }
        let heard = String::from_utf8_lossy(&heard.lock().unwrap()).into_owned();
        assert!(!heard.contains("secret"), "{about}: {heard:?}");
    }
}

#[tokio::test]
async fn an_answer_without_end_is_no_answer() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://127.0.0.1:{}/", listener.local_addr().unwrap().port());
    let said = Arc::new(Mutex::new(0));
    let says = Arc::clone(&said);
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        head_of(&mut socket).await;
        let _ = socket.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
        let part = vec![b' '; 64 << 10];
        while socket.write_all(&part).await.is_ok() {
            *says.lock().unwrap() += part.len();
        }
    });
    let why = ask(&TransportSettings::default(), &url).await.unwrap_err();
    assert_eq!(why.code, ReasonCode::Garbled, "{why}");
    let said = *said.lock().unwrap();
    assert!((ANSWER_BYTES_MAX..2 * ANSWER_BYTES_MAX).contains(&said), "{said}");
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_never_followed() {
    let elsewhere = Stub::start(None, OK).await;
    let to = format!(
        "HTTP/1.1 307 Temporary Redirect\r\nlocation: http://127.0.0.1:{}/\r\ncontent-length: 0\r\n\r\n",
        elsewhere.port
    );
    let server = Stub::start(None, Box::leak(to.into_boxed_str())).await;
    let answer =
        ask(&TransportSettings::default(), &format!("http://127.0.0.1:{}/", server.port)).await.unwrap();
    assert_eq!(answer.status, 307);
    assert_eq!((server.heads().len(), elsewhere.heads().len()), (1, 0));
}

/// A proxy that connects to where it is asked to; what it was asked.
async fn proxy() -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let heads: Arc<Mutex<Vec<String>>> = Arc::default();
    let asked = Arc::clone(&heads);
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let head = head_of(&mut client).await;
            let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
            let lets_in = head.contains(&format!("Basic {}", STANDARD.encode("me:pa55")));
            asked.lock().unwrap().push(head);
            if !lets_in {
                let refused = b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n";
                client.write_all(refused).await.unwrap();
                continue;
            }
            tokio::spawn(async move {
                let mut server = TcpStream::connect(&target).await.unwrap();
                client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                let _ = copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    (port, heads)
}

#[tokio::test]
async fn a_proxy_is_asked_for_a_tunnel_with_its_password_and_sees_nothing_else() {
    let (server, files) = (Stub::start(Some(Clients::Any), OK).await, Files::new());
    let (port, heads) = proxy().await;
    let url = format!("https://localhost:{}/secret-path", server.port);
    let through = |login: &str| TransportSettings {
        proxy: Some(Secret::new(format!("http://{login}127.0.0.1:{port}")).unwrap()),
        ..files.trusting()
    };
    assert_eq!(ask(&through("me:pa55@"), &url).await.unwrap().status, 200);
    let asked = heads.lock().unwrap().clone();
    assert_eq!(asked.len(), 1);
    assert!(asked[0].starts_with(&format!("CONNECT localhost:{} HTTP/1.1\r\n", server.port)), "{asked:?}");
    assert!(!asked[0].contains("secret-path"), "{asked:?}");
    let why = ask(&through("me:wrong@"), &url).await.unwrap_err();
    assert_eq!(why.code, ReasonCode::Connection, "{why}");
    assert!(!why.text.contains("wrong") && !why.text.contains("secret-path"), "{why}");
    assert_eq!(server.heads().len(), 1);
}
