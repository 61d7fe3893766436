//! One connection: frames in, messages to the ledger, and the end that the mode has for it.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::message::read;
use super::{Shared, SyslogFraming, SyslogLimit};
use crate::ledger::{Additions, Answer, Entry};

/// What a sender must count as in doubt when the connection ends: messages so young, or followed by so few bytes.
const WINDOW_AGE: Duration = Duration::from_secs(5);
const WINDOW_BYTES: u64 = 16 << 20;

/// A frame whose length is longer than this is not read.
const FRAME_BYTES_MAX: usize = 64 << 20;

/// A message that was received.
struct Received {
    request: u64,
    entry: Option<Entry>,
    at: Instant,
    end: u64,
}

/// Why reading ends.
enum End {
    /// The peer has closed, or what comes is no frame.
    Closed,
    /// The mode resets it.
    Reset,
}

pub(super) struct Connection<'a> {
    shared: &'a Shared,
    buffer: Vec<u8>,
    bytes: u64,
    messages: u64,
    window: VecDeque<Received>,
}

impl<'a> Connection<'a> {
    /// Serves a connection until it ends.
    pub(super) async fn serve(socket: TcpStream, shared: &'a Shared) {
        let mut connection =
            Self { shared, buffer: Vec::new(), bytes: 0, messages: 0, window: VecDeque::new() };
        let end = match &shared.options.tls {
            None => {
                let mut socket = socket;
                let end = connection.read(&mut socket).await;
                if let End::Reset = end {
                    let _ = socket.set_zero_linger();
                }
                end
            }
            Some(acceptor) => match acceptor.accept(socket).await {
                Ok(mut stream) => {
                    let end = connection.read(&mut stream).await;
                    // The peer may be gone already.
                    let _ = match end {
                        End::Reset => stream.get_ref().0.set_zero_linger(),
                        End::Closed => stream.shutdown().await,
                    };
                    end
                }
                Err(_) => return,
            },
        };
        if let End::Reset = end {
            connection.forget();
        }
        connection.leave_in_doubt();
    }

    async fn read(&mut self, stream: &mut (impl AsyncRead + Unpin)) -> End {
        let mut part = vec![0; 64 * 1024];
        loop {
            let speed = self.shared.lock().mode.bytes_per_second;
            let most = if speed == 0 { part.len() } else { part.len().min((speed as usize / 20).max(1)) };
            let Ok(read @ 1..) = stream.read(&mut part[..most]).await else { return End::Closed };
            if speed > 0 {
                tokio::time::sleep(Duration::from_secs_f64(read as f64 / speed as f64)).await;
            }
            self.shared.desk.count(|counts| {
                counts.body_bytes += read as u64;
                counts.decoded_bytes += read as u64;
            });
            self.buffer.extend_from_slice(&part[..read]);
            loop {
                match self.next_frame() {
                    Ok(Some(frame)) => {
                        self.take(&frame);
                        if self.shared.resets(self.messages) {
                            return End::Reset;
                        }
                    }
                    Ok(None) => break,
                    Err(_) => {
                        self.shared.desk.count(|counts| counts.refused += 1);
                        return End::Closed;
                    }
                }
            }
        }
    }

    /// The next whole frame's message; `None` if it is not all there.
    fn next_frame(&mut self) -> io::Result<Option<Vec<u8>>> {
        let broken = || io::Error::from(io::ErrorKind::InvalidData);
        let (start, len, behind) = match self.shared.options.framing {
            SyslogFraming::Newline => match self.buffer.iter().position(|&byte| byte == b'\n') {
                Some(len) => (0, len, 1),
                None => return Ok(None),
            },
            SyslogFraming::OctetCounting => {
                let digits = self.buffer.iter().take_while(|byte| byte.is_ascii_digit()).count();
                if digits == self.buffer.len() && digits < 9 {
                    return Ok(None);
                }
                let text = std::str::from_utf8(&self.buffer[..digits]).map_err(|_| broken())?;
                let is_good = !text.starts_with('0') && self.buffer.get(digits) == Some(&b' ');
                let len = text.parse().ok().filter(|&len: &usize| is_good && len <= FRAME_BYTES_MAX);
                (digits + 1, len.ok_or_else(broken)?, 0)
            }
        };
        if let SyslogLimit::Close(max) = self.shared.options.limit
            && len > max
        {
            return Err(broken());
        }
        if self.buffer.len() < start + len + behind {
            return Ok(None);
        }
        let message = self.buffer[start..start + len].to_vec();
        self.buffer.drain(..start + len + behind);
        self.bytes += (start + len + behind) as u64;
        Ok(Some(message))
    }

    /// Takes one message, or several where it is cut.
    fn take(&mut self, message: &[u8]) {
        self.messages += 1;
        match self.shared.options.limit {
            SyslogLimit::Cut(max) => message.chunks(max.max(1)).for_each(|piece| self.store(piece)),
            SyslogLimit::Close(_) => self.store(message),
        }
    }

    fn store(&mut self, message: &[u8]) {
        let desk = &self.shared.desk;
        desk.count(|counts| counts.deliveries += 1);
        self.shared.keep(message);
        let request = desk.begin();
        // Nobody is told: as long as the connection lives, there is no reason to send it again.
        desk.ledger.answer(&desk.sink, request, Answer::Given(0));
        let content = match read(message) {
            Some(message) => message.content,
            None => {
                desk.count(|counts| counts.refused += 1);
                message
            }
        };
        let seen = Additions::PLAIN.read(content);
        let is_shortened = serde_json::from_slice::<serde_json::Value>(content)
            .is_ok_and(|json| json["trailship"]["shortened"].is_array());
        let entry = match &seen.position {
            Some(position) if is_shortened => {
                // Not the event as it was issued, and it says so: it is not owed here.
                desk.count(|counts| counts.sliced += 1);
                desk.ledger.filter(&desk.sink, &position.bucket, &position.key, position.index);
                None
            }
            _ => Some(desk.store(request, &seen)),
        };
        self.window.push_back(Received { request, entry, at: Instant::now(), end: self.bytes });
        let bytes = self.bytes;
        let is_out = |first: &Received| first.at.elapsed() > WINDOW_AGE || bytes - first.end > WINDOW_BYTES;
        while self.window.front().is_some_and(is_out) {
            self.window.pop_front();
        }
    }

    /// What a receiver that dies had in memory only.
    fn forget(&mut self) {
        if self.shared.lock().mode.forgets {
            self.window.retain(|received| received.at.elapsed() <= WINDOW_AGE);
            for entry in self.window.iter_mut().filter_map(|received| received.entry.take()) {
                self.shared.desk.retract(entry);
            }
        }
    }

    /// What a sender may send again now that the connection has ended.
    fn leave_in_doubt(&self) {
        let desk = &self.shared.desk;
        for received in self.window.iter().filter(|received| received.at.elapsed() <= WINDOW_AGE) {
            desk.ledger.answer(&desk.sink, received.request, Answer::Unconfirmed);
        }
    }
}
