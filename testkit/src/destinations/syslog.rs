//! A stand-in for a receiver of syslog: RFC 5424 in frames of RFC 6587 over TCP or TLS, with the limits of rsyslog or
//! syslog-ng.
//!
//! The limits were measured on rsyslog 8.2302 and syslog-ng 3.38 with their default settings.

mod connection;
mod message;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use super::desk::{Counts, Desk};
use crate::ledger::Ledger;
use connection::Connection;

/// Messages that are kept to be looked at.
const KEPT: usize = 64;

/// How a receiver tells messages apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SyslogFraming {
    /// By the length before each. Anything else ends the connection.
    #[default]
    OctetCounting,
    /// By the line break behind each.
    Newline,
}

/// What a receiver does with a message that is too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyslogLimit {
    /// The rest becomes a message of its own: rsyslog, whose `maxMessageSize` is 8,096 bytes.
    Cut(usize),
    /// The connection is closed: syslog-ng, whose `log-msg-size()` is 65,536 bytes.
    Close(usize),
}

impl SyslogLimit {
    /// rsyslog as it comes.
    pub const RSYSLOG: Self = Self::Cut(8096);
    /// syslog-ng as it comes.
    pub const SYSLOG_NG: Self = Self::Close(65_536);
}

/// How it is set up.
#[derive(Clone)]
pub struct SyslogOptions {
    /// Its name in the ledger.
    pub sink: String,
    /// 0 for any free one.
    pub port: u16,
    /// How messages are told apart.
    pub framing: SyslogFraming,
    /// What becomes of a message that is too long.
    pub limit: SyslogLimit,
    /// TLS, where it is spoken.
    pub tls: Option<TlsAcceptor>,
}

impl Default for SyslogOptions {
    fn default() -> Self {
        Self {
            sink: "syslog".to_owned(),
            port: 0,
            framing: SyslogFraming::default(),
            limit: SyslogLimit::RSYSLOG,
            tls: None,
        }
    }
}

/// What it does wrong; may change while it runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SyslogMode {
    /// A connection is reset after so many messages.
    pub reset_after: Option<u64>,
    /// What it had received within its last five seconds and last 16 MiB is then gone: it was in memory only.
    pub forgets: bool,
    /// So many connections are reset before it is healthy again. `None` is for ever.
    pub resets: Option<u64>,
    /// Connections are closed as soon as they are made.
    pub turns_away: bool,
    /// Speed at which it reads. 0 is at once.
    pub bytes_per_second: u64,
}

/// The stand-in; dropping it stops it and resets its connections.
pub struct Syslog {
    /// `tcp://127.0.0.1:<port>`, or `tls://localhost:<port>`.
    pub url: String,
    shared: Arc<Shared>,
    accept: JoinHandle<()>,
}

struct Shared {
    desk: Desk,
    options: SyslogOptions,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    mode: SyslogMode,
    resets: u64,
    connections: u64,
    messages: VecDeque<String>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is complete before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a connection is to be reset that has brought so many messages; it then counts as one that was.
    fn resets(&self, messages: u64) -> bool {
        let mut state = self.lock();
        let due = state.mode.reset_after.is_some_and(|after| messages >= after)
            && state.mode.resets.is_none_or(|resets| state.resets < resets);
        if due {
            state.resets += 1;
            self.desk.count(|counts| counts.failures += 1);
        }
        due
    }

    /// Keeps a message for [`Syslog::messages`].
    fn keep(&self, message: &[u8]) {
        let mut state = self.lock();
        if state.messages.len() == KEPT {
            state.messages.pop_front();
        }
        state.messages.push_back(String::from_utf8_lossy(message).into_owned());
    }
}

impl Syslog {
    /// Starts it on the loopback interface.
    ///
    /// # Errors
    /// Where the port cannot be bound.
    pub async fn start(ledger: Arc<Ledger>, options: SyslogOptions) -> io::Result<Self> {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], options.port))).await?;
        let port = listener.local_addr()?.port();
        let url = match options.tls {
            Some(_) => format!("tls://localhost:{port}"),
            None => format!("tcp://127.0.0.1:{port}"),
        };
        let desk = Desk::new(&options.sink, ledger, 1);
        let shared = Arc::new(Shared { desk, options, state: Mutex::default() });
        let accept = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self { url, shared, accept })
    }

    /// Changes what goes wrong, also on connections that are open.
    pub fn set_mode(&self, mode: SyslogMode) {
        let mut state = self.shared.lock();
        (state.mode, state.resets) = (mode, 0);
    }

    /// What it has seen and done: `deliveries` are messages, `refused` those that are no syslog, `sliced` those that
    /// came shortened, `failures` connections that were reset.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.shared.desk.counts()
    }

    /// The same for who outlives a borrow.
    pub fn counter(&self) -> impl Fn() -> Counts + Send + Sync + 'static {
        let shared = Arc::clone(&self.shared);
        move || shared.desk.counts()
    }

    /// Connections that were made so far.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.shared.lock().connections
    }

    /// The last messages, each as it came.
    #[must_use]
    pub fn messages(&self) -> Vec<String> {
        self.shared.lock().messages.iter().cloned().collect()
    }
}

impl Drop for Syslog {
    fn drop(&mut self) {
        self.accept.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // Dropping the set ends every connection.
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            accepted = listener.accept() => {
                let Ok((socket, _)) = accepted else { continue };
                shared.lock().connections += 1;
                if shared.lock().mode.turns_away {
                    continue;
                }
                let shared = Arc::clone(&shared);
                tasks.spawn(async move { Connection::serve(socket, &shared).await });
            }
            Some(_) = tasks.join_next() => {}
        }
    }
}

#[cfg(test)]
mod tests;
