//! The sink: a connection for each of the lane's slots, made anew on the next endpoint when it ends.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use super::link::{Fate, Link};
use super::message::Format;
use crate::destinations::{Finding, StreamEndpoint, in_turn};
use crate::http::not_encoded;
use crate::ports::{Clock, Compute, Dialer, run_on};
use crate::{Attempt, Body, Encoded, Event, Judgement, Reason, ReasonCode, Shape, Sink, Token, Verdict};

/// Connections that are remembered after their end, so that those who wait can be told what had left the window.
const REMEMBERED: usize = 32;

/// The longest pause between connections that end before anything has left their window.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Events as syslog messages over connections.
pub(super) struct Syslog {
    pub(super) format: Arc<Format>,
    pub(super) endpoints: Vec<StreamEndpoint>,
    pub(super) dialer: Arc<dyn Dialer>,
    pub(super) compute: Arc<dyn Compute>,
    pub(super) clock: Arc<dyn Clock>,
    /// Of a write.
    pub(super) timeout: Duration,
    pub(super) slots: Mutex<BTreeMap<u32, Arc<tokio::sync::Mutex<Slot>>>>,
    pub(super) links: Mutex<VecDeque<Arc<Link>>>,
}

/// The connection of one of the lane's slots.
#[derive(Default)]
pub(super) struct Slot {
    link: Option<Arc<Link>>,
    /// Connections so far.
    number: u64,
    /// Whose turn the endpoints are.
    turn: u32,
    /// Connections in a row that ended before anything had left their window.
    in_vain: u32,
    /// No new connection before.
    not_before: Duration,
}

impl Slot {
    /// Puts a connection that has ended aside, and says how long to leave the receiver alone.
    fn bury(&mut self, now: Duration) {
        let Some(link) = self.link.take() else { return };
        self.turn = self.turn.wrapping_add(1);
        if link.was_of_use() {
            self.in_vain = 0;
            return;
        }
        self.in_vain += 1;
        // Once may be a restart. A receiver that takes everything and keeps nothing must not be fed without end.
        let pause = match self.in_vain {
            0 | 1 => Duration::ZERO,
            times => Duration::from_secs(1 << (times - 2).min(5)).min(PAUSE_MAX),
        };
        self.not_before = now + pause;
    }
}

impl Syslog {
    fn slot(&self, number: u32) -> Arc<tokio::sync::Mutex<Slot>> {
        Arc::clone(lock(&self.slots).entry(number).or_default())
    }

    /// The living connection of a slot, or a new one.
    async fn link(&self, slot: &mut Slot, number: u32) -> Result<Arc<Link>, (Reason, Option<Duration>)> {
        let now = self.clock.monotonic();
        let mut why = None;
        if let Some(link) = &slot.link {
            why = link.ended();
            if why.is_none() {
                return Ok(Arc::clone(link));
            }
            slot.bury(now);
        }
        if now < slot.not_before {
            let text = "the receiver closes connections before they prove to be of use: check its limits and its log";
            let why = why.unwrap_or_else(|| Reason::new(ReasonCode::Connection, text));
            return Err((why, Some(slot.not_before - now)));
        }
        let Some(endpoint) = in_turn(&self.endpoints, slot.turn) else {
            return Err((Reason::new(ReasonCode::Misconfigured, "no endpoint"), None));
        };
        let stream = self.dialer.dial(&endpoint.address).await.map_err(|why| {
            slot.turn = slot.turn.wrapping_add(1);
            let text = format!("{}: {}", endpoint.origin, why.text);
            (Reason::new(why.code, text), None)
        })?;
        slot.number += 1;
        let channel = format!("{number}-{}", slot.number);
        let link = Arc::new(Link::new(channel, stream, Arc::clone(&self.clock), self.timeout));
        slot.link = Some(Arc::clone(&link));
        let mut links = lock(&self.links);
        links.push_back(Arc::clone(&link));
        if links.len() > REMEMBERED {
            let ended = links.iter().position(|link| link.ended().is_some());
            ended.and_then(|at| links.remove(at));
        }
        Ok(link)
    }
}

#[async_trait]
impl Sink for Syslog {
    fn encoded_len(&self, event: &Event) -> usize {
        self.format.frame_len(event)
    }

    fn event_bytes_max(&self) -> Option<usize> {
        Some(self.format.frame_bytes_max())
    }

    async fn encode(&self, events: &Arc<[Event]>, _shape: Shape) -> Result<Encoded, Reason> {
        let (format, events) = (Arc::clone(&self.format), Arc::clone(events));
        let frames = run_on(&*self.compute, move || {
            let mut body = Body::new();
            events.iter().for_each(|event| format.write(event, &mut body));
            body.flatten()
        });
        let frames = frames.await.ok_or_else(not_encoded)?;
        Ok(Encoded { plain_len: frames.len(), bytes: frames.into() })
    }

    async fn send(&self, events: &[Event], encoded: &Encoded, attempt: &Attempt) -> Judgement {
        let slot = self.slot(attempt.slot);
        let mut slot = slot.lock().await;
        let link = match self.link(&mut slot, attempt.slot).await {
            Ok(link) => link,
            Err((why, retry_after)) => return Judgement::Unavailable { why, retry_after },
        };
        match link.write(&encoded.bytes).await {
            Ok(id) => {
                let token = Token { channel: link.channel.clone(), id };
                Judgement::all(events.len(), &Verdict::Pending(token))
            }
            Err(why) => Judgement::Unavailable { why, retry_after: None },
        }
    }

    /// Waits until one of them at least has left the window of its connection, or is lost with it.
    async fn confirm(&self, tokens: &[Token]) -> Result<Vec<bool>, Reason> {
        let Some(channel) = tokens.first().map(|token| &token.channel) else { return Ok(Vec::new()) };
        let gone = |why: &str| Reason::new(ReasonCode::Unconfirmed, format!("sent again: {why}"));
        let link = lock(&self.links).iter().find(|link| link.channel == *channel).cloned();
        let Some(link) = link else { return Err(gone("its connection ended long ago")) };
        let numbers: Vec<u64> = tokens.iter().map(|token| token.id).collect();
        let left: Vec<bool> =
            link.decided(&numbers).await.into_iter().map(|fate| fate == Fate::Left).collect();
        match link.ended() {
            Some(why) if !left.contains(&true) => Err(gone(&why.text)),
            _ => Ok(left),
        }
    }

    async fn check(&self) -> Vec<(String, Finding)> {
        let mut findings = Vec::new();
        for endpoint in &self.endpoints {
            let finding = match self.dialer.dial(&endpoint.address).await {
                Ok(_) => Finding::good(
                    "a connection can be made; whether messages are kept cannot be told: syslog has no answer",
                ),
                Err(why) => Finding::failed(format!("{why}: check `endpoints`, `tls`, and the receiver")),
            };
            findings.push((endpoint.origin.clone(), finding));
        }
        findings
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
