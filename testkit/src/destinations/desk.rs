//! What all stand-ins have in common: the mode, the counts, and the way to the ledger.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{Method, StatusCode};
use serde::Serialize;
use serde_json::json;

use super::mode::{Failure, Mode};
use crate::edge::Edges;
use crate::http::{Request, Response};
use crate::ledger::{Answer, Entry, Ledger, Sighting};
use crate::random::Rng;

/// What a stand-in has seen and done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Requests, those under `/_testkit/` left out.
    pub requests: u64,
    /// Requests that deliver events.
    pub deliveries: u64,
    /// Bytes of their bodies, as they were sent.
    pub body_bytes: u64,
    /// Bytes of their bodies, decompressed.
    pub decoded_bytes: u64,
    /// Answers by status, the lost ones included.
    pub statuses: BTreeMap<u16, u64>,
    /// Events stored.
    pub stored: u64,
    /// Events refused because their id was there already.
    pub conflicts: u64,
    /// Events refused for their content.
    pub refused: u64,
    /// Events stored in several pieces, because they were too long for one.
    pub sliced: u64,
    /// Requests to which the mode's failure happened.
    pub failures: u64,
    /// The most requests at once.
    pub in_flight_max: u64,
}

/// The mode, the counts and the ledger's pen of one stand-in.
pub(super) struct Desk {
    pub(super) sink: String,
    pub(super) ledger: Arc<Ledger>,
    seed: u64,
    state: Mutex<State>,
    /// Requests that the answer being written confirms.
    confirmed: Mutex<Vec<u64>>,
    pub(super) in_flight: AtomicU64,
    /// Of requests that deliver events.
    pub(super) edges: Edges,
}

#[derive(Default)]
struct State {
    mode: Mode,
    turns: u64,
    touched: u64,
    counts: Counts,
}

/// What is decided about one request before it is read.
#[derive(Clone, Debug)]
pub(super) struct Turn {
    pub(super) failure: Failure,
    pub(super) retry_after_s: Option<u64>,
    /// A seed for what happens to single events.
    pub(super) random: u64,
    delay_ms: u64,
    bytes_per_second: u64,
}

impl Turn {
    /// Whether the mode refuses an event for its content.
    pub(super) fn refuses(&self, event: &[u8], seen: &Sighting) -> bool {
        match &self.failure {
            Failure::RefuseEvery(every) => {
                let mut half = [0; 8];
                half.copy_from_slice(&seen.hash.0[..8]);
                u64::from_be_bytes(half) % (*every).max(1) == 0
            }
            Failure::RefuseContaining(text) => {
                !text.is_empty() && event.windows(text.len()).any(|window| window == text.as_bytes())
            }
            _ => false,
        }
    }

    /// Whether the sender gets no answer that it can understand.
    pub(super) fn loses_the_answer(&self) -> bool {
        use Failure::{AnswerLost, Garbage, HalfAnswer, Hangup, NeverAnswer, ShortAnswer, SlowAnswer};
        let failure = &self.failure;
        matches!(
            failure,
            AnswerLost | Garbage | HalfAnswer | Hangup | NeverAnswer | ShortAnswer | SlowAnswer(_)
        )
    }

    pub(super) fn wait(&self, body_len: usize) -> Duration {
        let working = match self.bytes_per_second {
            0 => Duration::ZERO,
            speed => Duration::from_secs_f64(body_len as f64 / speed as f64),
        };
        working + Duration::from_millis(self.delay_ms)
    }
}

/// A stand-in's answer, and what it means for the request's line in the ledger.
pub(super) struct Reply {
    pub(super) response: Response,
    pub(super) booked: Option<(u64, Answer)>,
}

impl Reply {
    /// The answer to a request that delivers nothing.
    pub(super) fn plain(response: Response) -> Self {
        Self { response, booked: None }
    }

    /// The answer to a request in the ledger.
    pub(super) fn booked(response: Response, request: u64) -> Self {
        let answer = Answer::Given(response.status.as_u16());
        Self { response, booked: Some((request, answer)) }
    }
}

impl Desk {
    pub(super) fn new(sink: &str, ledger: Arc<Ledger>, seed: u64) -> Self {
        let state = Mutex::new(State::default());
        Self {
            sink: sink.to_owned(),
            ledger,
            seed,
            state,
            confirmed: Mutex::default(),
            in_flight: AtomicU64::new(0),
            edges: Edges::default(),
        }
    }

    pub(super) fn set_mode(&self, mode: Mode) {
        let mut state = self.lock();
        state.mode = mode;
        state.touched = 0;
    }

    pub(super) fn mode(&self) -> Mode {
        self.lock().mode.clone()
    }

    pub(super) fn counts(&self) -> Counts {
        self.lock().counts.clone()
    }

    /// Changes the counts.
    pub(super) fn count(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.lock().counts);
    }

    /// A new line in the ledger for a request that delivers events.
    pub(super) fn begin(&self) -> u64 {
        self.ledger.begin(&self.sink)
    }

    pub(super) fn store(&self, request: u64, seen: &Sighting) -> Entry {
        self.count(|counts| counts.stored += 1);
        self.ledger.store(&self.sink, request, seen)
    }

    pub(super) fn conflict(&self, request: u64, seen: &Sighting) {
        self.count(|counts| counts.conflicts += 1);
        self.ledger.conflict(&self.sink, request, seen);
    }

    pub(super) fn retract(&self, entry: Entry) {
        self.ledger.retract(&self.sink, entry);
    }

    pub(super) fn confirm(&self, request: u64) {
        self.confirmed.lock().unwrap_or_else(PoisonError::into_inner).push(request);
    }

    pub(super) fn take_confirmed(&self) -> Vec<u64> {
        std::mem::take(&mut *self.confirmed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn turn(&self, request: &Request, delivers: bool) -> Turn {
        self.turn_of(request.body.len(), delivers)
    }

    /// As [`turn`](Self::turn), for protocols that are not HTTP: a message with this many bytes.
    pub(super) fn turn_of(&self, len: usize, delivers: bool) -> Turn {
        let mut state = self.lock();
        let number = state.turns;
        state.turns += 1;
        state.counts.requests += 1;
        if delivers {
            state.counts.deliveries += 1;
            state.counts.body_bytes += len as u64;
        }
        let mode = state.mode.clone();
        let touched = (delivers || mode.everywhere)
            && mode.failure != Failure::None
            && mode.requests.is_none_or(|requests| state.touched < requests)
            && Rng::stream(self.seed, number).chance(mode.share);
        if touched {
            state.touched += 1;
            state.counts.failures += 1;
        }
        Turn {
            failure: if touched { mode.failure } else { Failure::None },
            retry_after_s: mode.retry_after_s,
            random: Rng::stream(self.seed, number).bits(),
            delay_ms: mode.delay_ms,
            bytes_per_second: mode.bytes_per_second,
        }
    }

    pub(super) fn admin(&self, request: &Request, what: &str) -> Response {
        match (&request.method, what) {
            (&Method::GET, "counts") => Response::json(StatusCode::OK, &json!(self.counts())),
            (&Method::GET, "mode") => Response::json(StatusCode::OK, &json!(self.mode())),
            (&Method::PUT | &Method::POST, "mode") => match serde_json::from_slice(&request.body) {
                Ok(mode) => {
                    self.set_mode(mode);
                    Response::json(StatusCode::OK, &json!(self.mode()))
                }
                Err(e) => Response::json(StatusCode::BAD_REQUEST, &json!({ "error": e.to_string() })),
            },
            (&Method::GET, "evidence") => {
                let mut lines = Vec::new();
                // Writing to a vector cannot fail.
                let _ = self.ledger.write_evidence(&self.sink, &mut lines);
                Response::text(StatusCode::OK, "application/x-ndjson", lines)
            }
            _ => Response::json(StatusCode::NOT_FOUND, &json!({ "error": "counts, mode or evidence" })),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is complete before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The body of a well-formed answer that says less than it should.
pub(super) fn shortened(response: Response, turn: &Turn) -> Response {
    if turn.failure != Failure::ShortAnswer {
        return response;
    }
    let half = response.body.slice(..response.body.len() / 2);
    response.with_body(half)
}

/// An error answer, with `Retry-After` where the mode has one.
pub(super) fn with_retry_after(response: Response, turn: &Turn) -> Response {
    match turn.retry_after_s {
        Some(seconds) if !response.status.is_success() => {
            response.with_header("retry-after", &seconds.to_string())
        }
        _ => response,
    }
}

/// A status by number; one that HTTP does not have becomes 500.
pub(super) fn status(number: u16) -> StatusCode {
    StatusCode::from_u16(number).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}
