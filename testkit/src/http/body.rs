//! Transport faults, and the answer's body that acts them out.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use serde::{Deserialize, Serialize};
use tokio::time::Sleep;

/// Sent before a connection is cut, so that the peer has read the bytes before it sees the end.
const PAUSE_BEFORE_CUT: Duration = Duration::from_millis(20);
/// How often a dripping body sends something.
const DRIP_INTERVAL: Duration = Duration::from_millis(50);

/// What goes wrong with an answer at the level of the connection.
///
/// The handler has done its work by then: a [`Fault::Reset`] is "stored, but the answer was lost".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The request is taken and never answered; the connection stays open.
    NeverAnswer,
    /// The connection is reset (RST) before the answer.
    Reset,
    /// The connection is closed (FIN) before the answer.
    Hangup,
    /// The head says the whole length; the connection is closed (FIN) after so many bytes of the body.
    Truncate {
        /// Bytes of the body that are sent.
        bytes: usize,
    },
    /// The head says the whole length; the connection is reset (RST) after so many bytes of the body.
    ResetAfter {
        /// Bytes of the body that are sent.
        bytes: usize,
    },
    /// The body is replaced by bytes that are neither JSON nor XML; status and headers stay.
    Garbage,
    /// The body comes slowly.
    Drip {
        /// Speed; 0 is taken as 1.
        bytes_per_second: usize,
    },
}

/// Tells a connection's socket to end with RST instead of FIN.
#[derive(Debug, Clone, Default)]
pub(super) struct ResetFlag(Arc<AtomicBool>);

impl ResetFlag {
    pub(super) fn set(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// The body of one answer.
pub(super) struct FaultyBody {
    left: Bytes,
    /// Sent before the connection is cut; `None` sends everything.
    cut_after: Option<usize>,
    reset: Option<ResetFlag>,
    /// Bytes per frame, where the body drips.
    drip: Option<usize>,
    pause: Option<Pin<Box<Sleep>>>,
    cut_announced: bool,
}

impl FaultyBody {
    pub(super) fn new(body: Bytes, fault: Option<Fault>, reset: ResetFlag) -> Self {
        let mut new =
            Self { left: body, cut_after: None, reset: None, drip: None, pause: None, cut_announced: false };
        match fault {
            Some(Fault::Truncate { bytes }) => new.cut_after = Some(bytes),
            Some(Fault::ResetAfter { bytes }) => {
                new.cut_after = Some(bytes);
                new.reset = Some(reset);
            }
            Some(Fault::Garbage) => new.left = Bytes::from_static(b"\x00\xff<{garbage: not an answer"),
            Some(Fault::Drip { bytes_per_second }) => {
                let intervals = 1000 / DRIP_INTERVAL.as_millis() as usize;
                new.drip = Some((bytes_per_second / intervals).max(1));
            }
            Some(Fault::NeverAnswer | Fault::Reset | Fault::Hangup) | None => {}
        }
        new
    }

    fn start_pause(&mut self, duration: Duration) {
        self.pause = Some(Box::pin(tokio::time::sleep(duration)));
    }

    /// Ends the connection: first a pause, so that what was sent leaves the buffers, then an error.
    fn poll_cut(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if !self.cut_announced {
            self.cut_announced = true;
            self.start_pause(PAUSE_BEFORE_CUT);
        }
        if let Some(pause) = &mut self.pause {
            if pause.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.pause = None;
        }
        if let Some(reset) = &self.reset {
            reset.set();
        }
        Poll::Ready(Some(Err(io::Error::other("injected: the body is cut"))))
    }
}

impl Body for FaultyBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = self.get_mut();
        if this.cut_after == Some(0) {
            return this.poll_cut(cx);
        }
        if let Some(pause) = &mut this.pause {
            if pause.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            this.pause = None;
        }
        if this.left.is_empty() {
            return Poll::Ready(None);
        }
        let mut take = this.left.len();
        if let Some(drip) = this.drip {
            take = take.min(drip);
            this.start_pause(DRIP_INTERVAL);
        }
        if let Some(cut_after) = &mut this.cut_after {
            // A cut at or past the end would be no fault at all: one byte is always missing.
            *cut_after = (*cut_after).min(take.saturating_sub(1));
            take = take.min(*cut_after);
            *cut_after = 0;
            if take == 0 {
                return this.poll_cut(cx);
            }
        }
        Poll::Ready(Some(Ok(Frame::data(this.left.split_to(take)))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left.len() as u64)
    }
}
