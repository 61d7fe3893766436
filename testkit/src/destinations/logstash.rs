//! A stand-in for Logstash's beats input: windows of the lumberjack protocol in, acknowledgements out.
//!
//! <https://github.com/logstash-plugins/logstash-input-beats/blob/main/PROTOCOL.md>

mod window;

use std::io;
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use super::desk::{Desk, Reply, Turn};
use super::front::{Destination, InFlight, Protocol};
use super::mode::Failure;
use crate::http::{Request, Response, ServerOptions};
use crate::ledger::{Additions, Answer, Ledger};
use window::Window;

/// What the agent may add to an event.
pub(super) const ADDITIONS: Additions = Additions { keys: &["@timestamp", "@metadata"], wrappers: &[] };

/// How it is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogstashOptions {
    /// Its name in the ledger.
    pub sink: String,
    /// 0 for any free one.
    pub port: u16,
    /// Of what is drawn.
    pub seed: u64,
    /// The connection of a larger window is closed without a word.
    pub window_max: u32,
    /// So many events are stored between two acknowledgements. The last event of a window always is acknowledged.
    pub ack_every: usize,
    /// While it is at work it acknowledges event 0 this often.
    pub keep_alive: Duration,
    /// A connection without a window for this long is closed.
    pub idle_timeout: Duration,
}

impl Default for LogstashOptions {
    fn default() -> Self {
        Self {
            sink: "logstash".to_owned(),
            port: 0,
            seed: 1,
            window_max: u32::MAX,
            ack_every: usize::MAX,
            keep_alive: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(60),
        }
    }
}

/// The stand-in; dropping it stops it. Its mode, counts and evidence are served over HTTP, besides.
pub struct Logstash {
    /// Where it takes windows: `tcp://127.0.0.1:<port>`.
    pub endpoint: String,
    page: Destination,
    accept: JoinHandle<()>,
}

impl Deref for Logstash {
    type Target = Destination;
    fn deref(&self) -> &Destination {
        &self.page
    }
}

impl Drop for Logstash {
    fn drop(&mut self) {
        self.accept.abort();
    }
}

impl Logstash {
    /// Starts it on the loopback interface.
    ///
    /// # Errors
    /// Where a port cannot be bound.
    pub async fn start(ledger: Arc<Ledger>, options: LogstashOptions) -> io::Result<Self> {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], options.port))).await?;
        let endpoint = format!("tcp://{}", listener.local_addr()?);
        let desk = Desk::new(&options.sink, ledger, options.seed);
        let input = Arc::new(Input { desk, options });
        let page = Destination::start(Arc::clone(&input), 0, ServerOptions::default()).await?;
        Ok(Self { endpoint, page, accept: tokio::spawn(accept(listener, input)) })
    }
}

async fn accept(listener: TcpListener, input: Arc<Input>) {
    // Dropping the set closes every connection.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            Ok((stream, _)) = listener.accept() => {
                let input = Arc::clone(&input);
                connections.spawn(async move { input.serve(stream).await });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

struct Input {
    desk: Desk,
    options: LogstashOptions,
}

/// The page: it takes no events.
impl Protocol for Input {
    fn desk(&self) -> &Desk {
        &self.desk
    }

    fn delivers(&self, _: &Request) -> bool {
        false
    }

    fn answer(&self, _: &Request, _: &Turn) -> Reply {
        Reply::plain(Response::new(http::StatusCode::NOT_FOUND))
    }
}

/// What becomes of the connection after a window.
#[derive(Debug, PartialEq, Eq)]
enum After {
    Stay,
    Close,
    Reset,
}

impl Input {
    /// Serves a connection until it ends. What is wrong with a window ends it as well: the protocol has no word for it.
    async fn serve(&self, stream: TcpStream) -> io::Result<()> {
        // Without it, small answers wait for the peer's delayed acknowledgements.
        stream.set_nodelay(true)?;
        let mut stream = BufReader::new(stream);
        loop {
            let read = window::read(&mut stream, self.options.window_max);
            let window = match tokio::time::timeout(self.options.idle_timeout, read).await {
                Ok(window) => window?,
                Err(_) => return Ok(()),
            };
            let Some(window) = window else { return Ok(()) };
            let socket = stream.get_mut();
            match self.take(&window, socket).await? {
                After::Stay => {}
                After::Close => return Ok(()),
                After::Reset => return socket.set_zero_linger(),
            }
        }
    }

    async fn take(&self, window: &Window, socket: &mut TcpStream) -> io::Result<After> {
        if window.events.is_empty() {
            socket.write_all(&window::ack(0)).await?;
            return Ok(After::Stay);
        }
        let _in_flight = InFlight::new(&self.desk);
        let turn = self.desk.turn_of(window.len, true);
        self.desk.count(|counts| counts.decoded_bytes += window.plain_len as u64);
        match turn.failure {
            Failure::Reset => return Ok(After::Reset),
            // It has no word for any of these.
            Failure::Status(_)
            | Failure::Code(_)
            | Failure::RefuseAll
            | Failure::ItemsThrottled(_)
            | Failure::ReadOnly(_) => return Ok(After::Close),
            _ => {}
        }
        // Nor for an event that it chokes on: Logstash closes, and keeps nothing of the window.
        if window.events.iter().any(|event| turn.refuses(event, &ADDITIONS.read(event))) {
            self.desk.count(|counts| counts.refused += 1);
            return Ok(After::Close);
        }
        let total = window.events.len();
        let half = matches!(turn.failure, Failure::PartlyStored | Failure::ShortAnswer) && total > 1;
        let every = if half { total.div_ceil(2) } else { self.options.ack_every.max(1) };
        let mut done = 0;
        for group in window.events.chunks(every) {
            done += group.len();
            let (is_last, acked) = (done == total, window.first as usize - 1 + done);
            if is_last && turn.failure == Failure::PartlyStored {
                return Ok(After::Close);
            }
            let request = self.desk.begin();
            for event in group {
                self.desk.store(request, &ADDITIONS.read(event));
            }
            self.work(&turn, window.len * group.len() / total, socket).await?;
            if let Some(after) = self.fail(&turn, is_last, acked, socket).await? {
                return Ok(after);
            }
            socket.write_all(&window::ack(acked)).await?;
            self.desk.ledger.answer(&self.desk.sink, request, Answer::Given(200));
        }
        Ok(After::Stay)
    }

    /// Takes its time, and says meanwhile that it is still there.
    async fn work(&self, turn: &Turn, len: usize, socket: &mut TcpStream) -> io::Result<()> {
        let end = tokio::time::Instant::now() + turn.wait(len);
        loop {
            let next = tokio::time::Instant::now() + self.options.keep_alive;
            if next >= end {
                tokio::time::sleep_until(end).await;
                return Ok(());
            }
            tokio::time::sleep_until(next).await;
            socket.write_all(&window::ack(0)).await?;
        }
    }

    /// What goes wrong with the answer to the last events of a window.
    async fn fail(
        &self,
        turn: &Turn,
        is_last: bool,
        acked: usize,
        socket: &mut TcpStream,
    ) -> io::Result<Option<After>> {
        if !is_last {
            return Ok(None);
        }
        Ok(match turn.failure {
            Failure::AnswerLost => Some(After::Reset),
            Failure::Hangup | Failure::ShortAnswer => Some(After::Close),
            Failure::NeverAnswer => std::future::pending().await,
            Failure::HalfAnswer => {
                socket.write_all(&window::ack(acked)[..3]).await?;
                Some(After::Close)
            }
            Failure::Garbage => {
                socket.write_all(&window::ack(acked + 1)).await?;
                Some(After::Stay)
            }
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests;
