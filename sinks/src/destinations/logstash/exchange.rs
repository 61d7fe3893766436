//! One connection to a Beats input: a window out, its acknowledgements in, with patience for as long as it is at work.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frames::{self, AckReader, NoAck, Window};
use crate::ports::Clock;
use crate::{Reason, ReasonCode};

/// Acknowledgements have six bytes.
const READ_BYTES: usize = 256;

/// How a window failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failed {
    /// The events before it in this window are stored: up to this sequence number.
    pub(super) acked: u32,
    /// Why.
    pub(super) why: Reason,
    /// Whether the peer ended the connection.
    pub(super) is_closed: bool,
}

/// A connection; unusable after a failure.
#[derive(Debug)]
pub(super) struct Connection<S> {
    stream: S,
    acks: AckReader,
    /// The largest window that was acknowledged.
    pub(super) largest: u32,
    /// An acknowledgement came that no window was waiting for.
    is_out_of_step: bool,
}

/// What a step of an exchange brought.
enum Moved {
    Wrote(usize),
    Flushed,
    Read(usize),
}

/// What one window has come to.
#[derive(Default)]
struct Progress {
    written: usize,
    is_flushed: bool,
    acked: u32,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, acks: AckReader::default(), largest: 0, is_out_of_step: false }
    }

    /// Sends a window, and waits until all of it is acknowledged.
    ///
    /// Any acknowledgement, also an old one or 0, says that the peer is at work, and starts `timeout` anew; so does every
    /// byte that it takes.
    pub(super) async fn send(
        &mut self,
        batch: &[u8],
        window: &Window,
        clock: &dyn Clock,
        timeout: Duration,
    ) -> Result<(), Failed> {
        let bytes = batch.get(window.range.clone()).unwrap_or_default();
        let mut progress = Progress::default();
        let failed = |progress: &Progress, why| Failed { acked: progress.acked, why, is_closed: false };
        let mut answer = [0; READ_BYTES];
        while progress.acked < window.count {
            let rest = bytes.get(progress.written..).unwrap_or_default();
            let moved = tokio::select! {
                biased;
                moved = self.step(rest, progress.is_flushed, &mut answer) => moved,
                () = clock.sleep(timeout) => return Err(failed(&progress, silent(timeout))),
            };
            match moved {
                Ok(Moved::Wrote(count)) => progress.written += count,
                Ok(Moved::Flushed) => progress.is_flushed = true,
                Ok(Moved::Read(0)) => return Err(Failed { is_closed: true, ..failed(&progress, closed()) }),
                Ok(Moved::Read(count)) => {
                    for &byte in answer.get(..count).unwrap_or_default() {
                        let read = self.acks.push(byte).map_err(no_ack);
                        let seq = read.map_err(|why| failed(&progress, why))?;
                        if let Some(seq) = seq {
                            self.note(seq, window.count, bytes, &mut progress)
                                .map_err(|why| failed(&progress, why))?;
                        }
                    }
                }
                Err(error) => {
                    let is_closed = error.kind() != io::ErrorKind::InvalidData;
                    return Err(Failed { is_closed, ..failed(&progress, broken(&error)) });
                }
            }
        }
        self.largest = self.largest.max(window.count);
        Ok(())
    }

    fn note(&mut self, seq: u32, count: u32, bytes: &[u8], progress: &mut Progress) -> Result<(), Reason> {
        if progress.acked == count {
            self.is_out_of_step |= seq > 0;
            return Ok(());
        }
        let known = match progress.written == bytes.len() {
            true => count,
            false => frames::events_within(bytes, progress.written).min(count),
        };
        if seq > known {
            let text = format!("event {seq} is acknowledged, and {known} were sent");
            return Err(Reason::new(ReasonCode::Garbled, text));
        }
        progress.acked = progress.acked.max(seq);
        Ok(())
    }

    /// Moves the exchange on by one step: reads first, then writes `rest`, then flushes.
    async fn step(&mut self, rest: &[u8], is_flushed: bool, answer: &mut [u8]) -> io::Result<Moved> {
        poll_fn(|cx| {
            let mut read = ReadBuf::new(answer);
            if let Poll::Ready(done) = Pin::new(&mut self.stream).poll_read(cx, &mut read) {
                return Poll::Ready(done.map(|()| Moved::Read(read.filled().len())));
            }
            if !rest.is_empty() {
                return Pin::new(&mut self.stream).poll_write(cx, rest).map(|wrote| match wrote {
                    Ok(0) => Err(io::ErrorKind::WriteZero.into()),
                    wrote => wrote.map(Moved::Wrote),
                });
            }
            if !is_flushed {
                return Pin::new(&mut self.stream).poll_flush(cx).map_ok(|()| Moved::Flushed);
            }
            Poll::Pending
        })
        .await
    }

    /// Whether the connection can carry another window: the peer has not ended it, and nothing was left to be read that
    /// could be taken for an answer to it.
    pub(super) async fn is_ready(&mut self) -> bool {
        // So that what the peer did meanwhile has been noticed.
        tokio::task::yield_now().await;
        let mut answer = [0; READ_BYTES];
        while let Some(moved) = self.step(&[], true, &mut answer).now_or_never() {
            let Ok(Moved::Read(count @ 1..)) = moved else { return false };
            for &byte in answer.get(..count).unwrap_or_default() {
                match self.acks.push(byte) {
                    Ok(seq) => self.is_out_of_step |= seq.is_some_and(|seq| seq > 0),
                    Err(_) => return false,
                }
            }
        }
        !self.is_out_of_step && self.acks.is_between()
    }

    /// Sends an empty window; what is said to it within `patience`.
    pub(super) async fn knock(&mut self, clock: &dyn Clock, patience: Duration) -> Result<Knock, Reason> {
        let (window, mut progress) = (frames::empty_window(), Progress::default());
        let mut answer = [0; READ_BYTES];
        loop {
            let rest = window.get(progress.written..).unwrap_or_default();
            let moved = tokio::select! {
                biased;
                moved = self.step(rest, progress.is_flushed, &mut answer) => moved.map_err(|error| broken(&error))?,
                () = clock.sleep(patience) => return Ok(Knock::Silent),
            };
            match moved {
                Moved::Wrote(count) => progress.written += count,
                Moved::Flushed => progress.is_flushed = true,
                Moved::Read(0) => return Err(closed()),
                Moved::Read(count) => {
                    for &byte in answer.get(..count).unwrap_or_default() {
                        if self.acks.push(byte).map_err(no_ack)?.is_some() {
                            return Ok(Knock::Answered);
                        }
                    }
                }
            }
        }
    }
}

/// What a peer says to an empty window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Knock {
    /// An acknowledgement: it speaks the protocol.
    Answered,
    /// Nothing: it waits for events.
    Silent,
}

fn silent(timeout: Duration) -> Reason {
    let text = format!("neither an acknowledgement nor a sign of life for {} s", timeout.as_secs_f64());
    Reason::new(ReasonCode::Timeout, text)
}

fn closed() -> Reason {
    Reason::new(ReasonCode::Connection, "the connection was closed before everything was acknowledged")
}

fn broken(error: &io::Error) -> Reason {
    // What rustls says of the peer, such as an alert that it sent.
    let code =
        if error.kind() == io::ErrorKind::InvalidData { ReasonCode::Tls } else { ReasonCode::Connection };
    Reason::new(code, format!("the connection broke: {error}"))
}

fn no_ack(NoAck(first): NoAck) -> Reason {
    let text = match first {
        // A TLS alert.
        0x15 => "the peer speaks TLS: write the endpoint with tls://",
        b'H' => {
            "the peer speaks HTTP: name the port of Logstash's beats input, or use type \"logstash_http\""
        }
        _ => "the answer is no acknowledgement: name the port of Logstash's beats input",
    };
    Reason::new(ReasonCode::Garbled, text)
}
