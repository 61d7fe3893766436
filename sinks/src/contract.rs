//! The contract between a destination and delivery: a batch in, a verdict for every event out.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::destinations::Finding;
use crate::{Body, Event, Redactor};

/// A destination.
///
/// Delivery owns retries, splitting, dead letters and settlement; a sink sends once and says what happened.
/// A sink is called from several tasks at once, up to the lane's concurrency.
#[async_trait]
pub trait Sink: Send + Sync {
    /// Bytes that `event` adds to an encoded, uncompressed batch. Exact, or an upper bound.
    fn encoded_len(&self, event: &Event) -> usize;

    /// The longest single event that the destination takes, in encoded bytes. A longer one is dead-lettered
    /// without being sent.
    fn event_bytes_max(&self) -> Option<usize> {
        None
    }

    /// The most events that one batch can hold, whatever is configured.
    fn events_max(&self) -> usize {
        usize::MAX
    }

    /// Writes what an event must have in common with the others of its request, because it stands in the head and
    /// not in the body; nothing where all events may travel together. A batch holds one group only, and few batches
    /// are open at once: groups are meant to be few.
    fn group(&self, event: &Event, group: &mut String) {
        let _ = (event, group);
    }

    /// Encodes a batch; called once, and the result is sent as often as it takes.
    ///
    /// # Errors
    /// If it cannot be encoded, which no well-formed event causes: the batch is split like a refused one.
    async fn encode(&self, events: &Arc<[Event]>, shape: Shape) -> Result<Encoded, Reason>;

    /// Sends a batch once and judges every event of it.
    ///
    /// Neither retries nor sleeps. [`Judgement::Each`] (and [`Judgement::Strained`]) holds exactly one verdict an event, in the order sent;
    /// delivery takes any other number for no answer at all. `events` is never empty.
    async fn send(&self, events: &[Event], encoded: &Encoded, attempt: &Attempt) -> Judgement;

    /// Asks which of `tokens`, all of one channel, are stored by now, in their order. Only called after
    /// [`Verdict::Pending`]. May wait until there is something to say.
    ///
    /// # Errors
    /// If there was no answer that can be understood, or the protocol has no such question; all are asked again.
    /// With the code `unconfirmed`, that none of them ever will be, as their channel is gone: their events are sent
    /// again at once.
    async fn confirm(&self, tokens: &[Token]) -> Result<Vec<bool>, Reason> {
        let _ = tokens;
        Err(Reason::new(ReasonCode::Other, "the destination has no confirmation"))
    }

    /// Told that nothing is taken and no event is to blame, so that the set-up is suspected, credentials among it: some
    /// destinations answer 400 for them, as for a bad event. What it does about it shows with the next probe.
    async fn doubted(&self) {}

    /// What `trailship check` says of a sink that has no [`Probe`](crate::destinations::Probe): what was asked,
    /// and the finding. Stores no event.
    async fn check(&self) -> Vec<(String, Finding)> {
        Vec::new()
    }

    /// Whether an event that was accepted must not count as delivered before it is confirmed, even where the
    /// destination has confirmed nothing for long.
    fn requires_confirmation(&self) -> bool {
        true
    }
}

/// A batch as it goes out.
#[derive(Clone, Debug, Default)]
pub struct Encoded {
    /// Compressed, where the sink compresses.
    pub bytes: Bytes,
    /// Length before compression.
    pub plain_len: usize,
}

/// What an HTTP destination has to know: pure functions, no IO.
pub trait HttpSink: Send + Sync + 'static {
    /// Bytes that `event` adds to the uncompressed body, in the normal shape. Exact, or an upper bound.
    fn encoded_len(&self, event: &Event) -> usize;

    /// The longest single event that the destination takes, in encoded bytes. A longer one is dead-lettered
    /// without being sent.
    fn event_bytes_max(&self) -> Option<usize> {
        None
    }

    /// As [`Sink::events_max`].
    fn events_max(&self) -> usize {
        usize::MAX
    }

    /// As [`Sink::group`]: what the head of an event's request says of the event.
    fn group(&self, event: &Event, group: &mut String) {
        let _ = (event, group);
    }

    /// Writes the body for `events`; called once a batch, compressed once, resent as it is.
    fn body<'a>(&self, events: &'a [Event], shape: Shape, body: &mut Body<'a>);

    /// Method, URL and headers of one attempt; made anew for each, so that credentials and endpoints may change.
    ///
    /// The shared layer adds `Content-Length`, `Content-Encoding`, `Host` and `User-Agent`.
    fn head(&self, attempt: &Attempt) -> Head;

    /// The head of a request with these events, which are all of one [`group`](Self::group) and never none.
    /// Only a destination with groups has a reason to look at them.
    fn head_of(&self, events: &[Event], attempt: &Attempt) -> Head {
        let _ = events;
        self.head(attempt)
    }

    /// Judges an answer that arrived whole. Statuses 2xx to 5xx come here; redirects are never followed.
    ///
    /// `attempt` is the one that [`head`](Self::head) was asked for: a token belongs to its channel.
    fn judge(&self, events: &[Event], attempt: &Attempt, answer: &Answer) -> Judgement;

    /// The request that asks whether what `tokens` stand for is stored, and its body.
    ///
    /// One request asks about one channel, that of the first token; tokens of other channels are not confirmed.
    /// `None` where the protocol has no such thing; then `judge` never says [`Verdict::Pending`].
    fn confirm(&self, tokens: &[Token]) -> Option<(Head, Vec<u8>)> {
        let _ = tokens;
        None
    }

    /// Which of `tokens` the answer to [`confirm`](Self::confirm) confirms, in their order;
    /// an error where it cannot be understood (then all are asked again).
    ///
    /// # Errors
    /// If the answer is not one of the protocol's.
    fn confirmed(&self, tokens: &[Token], answer: &Answer) -> Result<Vec<bool>, Reason> {
        let _ = (tokens, answer);
        Ok(Vec::new())
    }

    /// As [`Sink::requires_confirmation`].
    fn requires_confirmation(&self) -> bool {
        true
    }
}

/// How an event is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shape {
    /// As configured.
    #[default]
    Normal,
    /// So that a destination that refused the event's structure can still take it
    /// (asked for with [`Verdict::Reshape`]).
    Safe,
}

/// Which try of a batch this is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attempt {
    /// 0 for the first.
    pub number: u32,
    /// How the events are written.
    pub shape: Shape,
    /// Which of the lane's concurrent slots sends: stable while a request is under way, below the lane's
    /// greatest concurrency. For what belongs to a connection, such as Splunk's channel.
    pub slot: u32,
}

/// A request's line and headers.
#[derive(Clone, PartialEq, Eq)]
pub struct Head {
    /// `POST`, `PUT`, `PATCH`, `GET` or `HEAD`.
    pub method: &'static str,
    /// Absolute. May hold a secret: never logged.
    pub url: String,
    /// Values may hold secrets: never logged.
    pub headers: Vec<(&'static str, String)>,
}

impl fmt::Debug for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Head").field("method", &self.method).finish_non_exhaustive()
    }
}

/// So much of an answer is looked at for a person.
const EXCERPT_BYTES: usize = 16 * 1024;

/// A destination's answer, whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// At most the transport's limit; a longer one is no answer.
    pub body: Bytes,
}

impl Answer {
    /// The first header of that name, given in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The answer's text for a person: one line, at most 300 characters, control characters replaced, free of the
    /// sink's secrets (which are taken out before the text is cut: a half of one is no less a secret).
    #[must_use]
    pub fn excerpt(&self, redactor: &Redactor) -> String {
        let text = match self.body.get(..EXCERPT_BYTES) {
            Some(start) => redactor.clean_start(String::from_utf8_lossy(start).trim_end_matches('\u{fffd}')),
            None => redactor.clean(&String::from_utf8_lossy(&self.body)),
        };
        text.chars().take(300).map(|c| if c.is_control() { ' ' } else { c }).collect()
    }
}

/// What a destination decided about a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It judged event by event: one verdict each, in the order sent.
    Each(Vec<Verdict>),
    /// The same; besides, the destination asks to be sent less for a while.
    Strained(Vec<Verdict>),
    /// Not reached, overloaded, or an answer that cannot be understood: the same bytes again later.
    Unavailable {
        /// Why.
        why: Reason,
        /// How long the destination asked to wait.
        retry_after: Option<Duration>,
    },
    /// Our credentials, configuration or the destination's set-up: no event is to blame.
    Denied(Reason),
    /// Something in the request: split, and judge by what then is accepted.
    Refused(Reason),
    /// The request is too large: split, and remember the limit. A single event is refused for its content.
    TooLarge(Reason),
}

impl Judgement {
    /// The same verdict for all of `count` events.
    #[must_use]
    pub fn all(count: usize, verdict: &Verdict) -> Self {
        Self::Each(vec![verdict.clone(); count])
    }
}

/// What a destination decided about one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Stored.
    Delivered,
    /// It was there already, under the same id.
    Duplicate,
    /// Accepted; stored once [`HttpSink::confirmed`] says so for this token.
    Pending(Token),
    /// Not now: worth sending again.
    Retry(Reason),
    /// The destination ended the exchange over this event alone, without a word, and had not judged it. Worth sending again;
    /// at fault if that happens many times and others are taken each time in between.
    HungUp(Reason),
    /// Not in this shape: worth one try in [`Shape::Safe`]. Refused in that shape, it is refused.
    Reshape(Reason),
    /// Never: the event is at fault.
    Refused {
        /// Why.
        why: Reason,
        /// Whether the answer names this event *and* a fault of its content from the destination's closed list.
        /// Otherwise the refusal needs a witness: another event that is accepted in this answer or later.
        named: bool,
    },
    /// Not judged because the environment is at fault (a closed index, missing permission): the lane is denied.
    Denied(Reason),
}

/// Stands for events that were accepted but not yet confirmed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token {
    /// Which channel or session it belongs to.
    pub channel: String,
    /// The destination's number for it.
    pub id: u64,
}

/// Why something was not delivered: a code that is stable, and a text for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// From a closed list.
    pub code: ReasonCode,
    /// HTTP status, where there was one.
    pub status: Option<u16>,
    /// At most 1 KiB, free of secrets and control characters.
    pub text: String,
}

impl Reason {
    /// A reason; the text is cut at 1 KiB and loses its control characters.
    #[must_use]
    pub fn new(code: ReasonCode, text: impl AsRef<str>) -> Self {
        let mut clean = String::new();
        for c in text.as_ref().chars() {
            if clean.len() + c.len_utf8() > 1024 {
                break;
            }
            clean.push(if c.is_control() { ' ' } else { c });
        }
        Self { code, status: None, text: clean }
    }

    /// The same with the answer's status.
    #[must_use]
    pub fn with_status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.status {
            Some(status) => write!(f, "{} (HTTP {status}): {}", self.code.as_str(), self.text),
            None => write!(f, "{}: {}", self.code.as_str(), self.text),
        }
    }
}

/// The closed list of reasons; also the label `class` of `trailship_sink_errors_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ReasonCode {
    /// Connection refused, reset, DNS.
    Connection,
    /// TLS handshake or certificate.
    Tls,
    /// No answer in time.
    Timeout,
    /// 429 or its equivalent.
    Throttled,
    /// 5xx or its equivalent.
    ServerError,
    /// An answer that cannot be understood, a short one included.
    Garbled,
    /// 401 or 403: credentials.
    Unauthorized,
    /// 404, a missing or closed index, a wrong path: set-up.
    Misconfigured,
    /// The mapping does not take the event.
    Mapping,
    /// The event or the request is not valid for the destination.
    Invalid,
    /// Larger than the destination takes.
    TooLarge,
    /// Accepted, but never confirmed.
    Unconfirmed,
    /// A local write failed.
    Io,
    /// A log file could not be read.
    Unreadable,
    /// Anything else.
    Other,
}

impl ReasonCode {
    /// Every code.
    pub const ALL: [Self; 15] = [
        Self::Connection,
        Self::Tls,
        Self::Timeout,
        Self::Throttled,
        Self::ServerError,
        Self::Garbled,
        Self::Unauthorized,
        Self::Misconfigured,
        Self::Mapping,
        Self::Invalid,
        Self::TooLarge,
        Self::Unconfirmed,
        Self::Io,
        Self::Unreadable,
        Self::Other,
    ];

    /// The stable name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::Throttled => "throttled",
            Self::ServerError => "server_error",
            Self::Garbled => "garbled",
            Self::Unauthorized => "unauthorized",
            Self::Misconfigured => "misconfigured",
            Self::Mapping => "mapping",
            Self::Invalid => "invalid",
            Self::TooLarge => "too_large",
            Self::Unconfirmed => "unconfirmed",
            Self::Io => "io",
            Self::Unreadable => "unreadable",
            Self::Other => "other",
        }
    }
}
