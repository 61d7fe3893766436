//! Accepts connections on the loopback interface and hands whole requests to a handler.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use super::body::{FaultyBody, ResetFlag};
use super::{Fault, Request, Response};

/// How long an ordered shutdown waits for answers under way.
const DRAIN_LIMIT: Duration = Duration::from_secs(2);

/// Answers requests. Any `Fn(Request) -> impl Future<Output = Response>` is one.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request. Runs concurrently with itself; dropped when the peer goes away before the answer.
    fn handle(self: Arc<Self>, request: Request) -> BoxFuture<'static, Response>;
}

impl<F, Answer> Handler for F
where
    F: Fn(Request) -> Answer + Send + Sync + 'static,
    Answer: Future<Output = Response> + Send + 'static,
{
    fn handle(self: Arc<Self>, request: Request) -> BoxFuture<'static, Response> {
        Box::pin((self)(request))
    }
}

/// Limits of a server.
#[derive(Debug, Clone, Copy)]
pub struct ServerOptions {
    /// A connection without a request for this long is closed, as load balancers do. Default: never.
    pub idle_timeout: Option<Duration>,
    /// A longer request body is answered 413 and the connection closed. Default: 256 MiB.
    pub body_bytes_max: usize,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self { idle_timeout: None, body_bytes_max: 256 << 20 }
    }
}

/// A running server. Dropping it stops it and closes its connections at once.
#[derive(Debug)]
pub struct Server {
    /// Where it listens.
    pub addr: SocketAddr,
    connections: Arc<Connections>,
    stop: watch::Sender<bool>,
    accept: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Connections {
    accepted: AtomicU64,
    open: AtomicUsize,
    open_max: AtomicUsize,
    requests: AtomicU64,
}

impl Server {
    /// Listens on `127.0.0.1` on `port` (0: any free one) with the default options.
    ///
    /// # Errors
    /// Where the port cannot be bound.
    pub async fn start(port: u16, handler: Arc<dyn Handler>) -> io::Result<Self> {
        Self::start_with(SocketAddr::from(([127, 0, 0, 1], port)), ServerOptions::default(), handler).await
    }

    /// Listens on `addr`. Needs a running tokio runtime, which it uses for all of its work.
    ///
    /// # Errors
    /// Where the address cannot be bound.
    pub async fn start_with(
        addr: SocketAddr,
        options: ServerOptions,
        handler: Arc<dyn Handler>,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(addr).await?;
        let addr = listener.local_addr()?;
        let connections = Arc::new(Connections::default());
        let (stop, stopped) = watch::channel(false);
        let accept = tokio::spawn(accept(listener, options, handler, Arc::clone(&connections), stopped));
        Ok(Self { addr, connections, stop, accept: Some(accept) })
    }

    /// The origin, without a slash at its end.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Connections that are open now.
    #[must_use]
    pub fn connections_open(&self) -> usize {
        self.connections.open.load(Ordering::SeqCst)
    }

    /// The most connections that were open at once.
    #[must_use]
    pub fn connections_open_max(&self) -> usize {
        self.connections.open_max.load(Ordering::SeqCst)
    }

    /// Connections accepted so far.
    #[must_use]
    pub fn connections_accepted(&self) -> u64 {
        self.connections.accepted.load(Ordering::SeqCst)
    }

    /// Requests read so far.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.connections.requests.load(Ordering::SeqCst)
    }

    /// Stops accepting, lets answers under way end (for at most 2 s), then closes everything.
    pub async fn shutdown(mut self) {
        self.stop.send_replace(true);
        if let Some(accept) = self.accept.take() {
            // The task cannot fail in a way that matters here: it is over either way.
            let _ = accept.await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(accept) = &self.accept {
            accept.abort();
        }
    }
}

async fn accept(
    listener: TcpListener,
    options: ServerOptions,
    handler: Arc<dyn Handler>,
    connections: Arc<Connections>,
    mut stopped: watch::Receiver<bool>,
) {
    // Dropping the set aborts every connection: that is how dropping the server closes them.
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                let shared = Arc::clone(&connections);
                let number = shared.accepted.fetch_add(1, Ordering::SeqCst) + 1;
                tasks.spawn(serve(stream, number, options, Arc::clone(&handler), shared, stopped.clone()));
            }
            Some(_) = tasks.join_next() => {}
            _ = stopped.changed() => break,
        }
    }
    drop(listener);
    let drained = async { while tasks.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(DRAIN_LIMIT, drained).await;
}

/// When a connection was last of use, so that an idle one can be closed.
struct Activity {
    busy: AtomicUsize,
    last: std::sync::Mutex<Instant>,
}

impl Activity {
    fn touch(&self) {
        *self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Instant::now();
    }

    async fn idle_for(&self, limit: Option<Duration>) {
        let Some(limit) = limit else { return std::future::pending().await };
        loop {
            let last = *self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let busy = self.busy.load(Ordering::SeqCst) > 0;
            if !busy && last.elapsed() >= limit {
                return;
            }
            let next = if busy { Instant::now() + limit } else { last + limit };
            tokio::time::sleep_until(next).await;
        }
    }
}

/// Counts a connection as open for as long as it lives.
struct Open(Arc<Connections>);

impl Open {
    fn new(connections: Arc<Connections>) -> Self {
        let open = connections.open.fetch_add(1, Ordering::SeqCst) + 1;
        connections.open_max.fetch_max(open, Ordering::SeqCst);
        Self(connections)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn serve(
    stream: TcpStream,
    number: u64,
    options: ServerOptions,
    handler: Arc<dyn Handler>,
    connections: Arc<Connections>,
    mut stopped: watch::Receiver<bool>,
) {
    let open = Open::new(connections);
    // Without it, small answers wait for the peer's delayed acknowledgements.
    let _ = stream.set_nodelay(true);
    let reset = ResetFlag::default();
    let activity = Activity { busy: AtomicUsize::new(0), last: std::sync::Mutex::new(Instant::now()) };
    let service = service_fn(|request| async {
        activity.busy.fetch_add(1, Ordering::SeqCst);
        open.0.requests.fetch_add(1, Ordering::SeqCst);
        let answer = answer(request, number, options, Arc::clone(&handler), reset.clone()).await;
        activity.busy.fetch_sub(1, Ordering::SeqCst);
        activity.touch();
        answer
    });
    // Without a linger time, closing resets.
    let on_reset = |stream: &TcpStream| drop(stream.set_zero_linger());
    let socket = TokioIo::new(Socket { stream, on_reset, reset: reset.clone() });
    let mut connection = std::pin::pin!(http1::Builder::new().serve_connection(socket, service));
    tokio::select! {
        biased;
        // The peer's errors and our injected ones end the connection; there is nobody to tell.
        _ = connection.as_mut() => return,
        () = activity.idle_for(options.idle_timeout) => {}
        _ = stopped.changed() => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}

/// Serves one connection that was accepted on another network than the machine's, until it ends. A fault that resets
/// a connection closes it there.
pub async fn serve_connection<S>(stream: S, number: u64, handler: Arc<dyn Handler>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let reset = ResetFlag::default();
    let service = service_fn(|request| {
        answer(request, number, ServerOptions::default(), Arc::clone(&handler), reset.clone())
    });
    let socket = TokioIo::new(Socket { stream, on_reset: |_: &S| (), reset: reset.clone() });
    // The peer's errors and our injected ones end the connection; there is nobody to tell.
    let _ = http1::Builder::new().serve_connection(socket, service).await;
}

async fn answer(
    request: http::Request<Incoming>,
    connection: u64,
    options: ServerOptions,
    handler: Arc<dyn Handler>,
    reset: ResetFlag,
) -> io::Result<http::Response<FaultyBody>> {
    let (head, body) = request.into_parts();
    let body = match Limited::new(body, options.body_bytes_max).collect().await {
        Ok(body) => body.to_bytes(),
        Err(e) if e.is::<LengthLimitError>() => {
            let refused = Response::new(StatusCode::PAYLOAD_TOO_LARGE).with_header("connection", "close");
            return Ok(assemble(refused.status, refused.headers, Bytes::new(), None, reset));
        }
        Err(e) => return Err(io::Error::other(e)),
    };
    let request = Request {
        method: head.method,
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        headers: head.headers,
        body,
        connection,
    };
    let response = handler.handle(request).await;
    if !response.delay.is_zero() {
        tokio::time::sleep(response.delay).await;
    }
    match response.fault {
        Some(Fault::NeverAnswer) => std::future::pending().await,
        Some(Fault::Reset) => {
            reset.set();
            Err(io::Error::other("injected: reset before the answer"))
        }
        Some(Fault::Hangup) => Err(io::Error::other("injected: closed before the answer")),
        fault => Ok(assemble(response.status, response.headers, response.body, fault, reset)),
    }
}

fn assemble(
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
    fault: Option<Fault>,
    reset: ResetFlag,
) -> http::Response<FaultyBody> {
    let mut answer = http::Response::new(FaultyBody::new(body, fault, reset));
    *answer.status_mut() = status;
    *answer.headers_mut() = headers;
    answer
}

/// A socket that can end with RST.
struct Socket<S> {
    stream: S,
    on_reset: fn(&S),
    reset: ResetFlag,
}

impl<S> Drop for Socket<S> {
    fn drop(&mut self) {
        if self.reset.is_set() {
            (self.on_reset)(&self.stream);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Socket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Socket<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.reset.is_set() {
            // A shutdown would send FIN first; the drop sends RST.
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
