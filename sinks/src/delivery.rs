//! Sends a batch until every event in it has an outcome, or the lane has to shut.
//!
//! Blame is exact and needs a witness: an event is dead-lettered only where the answer names it and a fault of
//! its content, or where the destination took another event after it refused this one.

use std::sync::Arc;
use std::time::Duration;

use crate::dead_letter::{DeadLetterStore, Letter};
use crate::health::{Health, LaneState, is_overload};
use crate::ports::{Clock, Random};
use crate::retry::{Delays, RetryConfig};
use crate::settle::{Outcome, Owed};
use crate::{Attempt, Encoded, Event, Judgement, Reason, ReasonCode, Shape, Sink, Token, Verdict};

/// Single events refused in a row, none taken, until the request itself is suspected instead of the events.
const SUSPECTS_MAX: usize = 8;

/// How many events a shut lane keeps to probe with.
pub(crate) const PROBES_MAX: usize = 8;

/// An event on its way, with the duty to settle it.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) event: Event,
    pub(crate) owed: Owed,
}

/// Receives what a lane observes; all methods default to nothing.
pub trait LaneObserver: Send + Sync {
    /// One request ended after `took`; `result` is `ok` or a [`ReasonCode`]'s name.
    fn request(&self, result: &'static str, took: Duration) {
        let _ = (result, took);
    }
    /// A failure of this class, whether the whole request or events of it.
    fn failure(&self, why: &Reason, events: usize) {
        let _ = (why, events);
    }
    /// The destination took these events.
    fn delivered(&self, events: &mut dyn Iterator<Item = &Event>) {
        let _ = events;
    }
    /// The lane's state has changed.
    fn state(&self, state: &LaneState) {
        let _ = state;
    }
    /// An event was dead-lettered.
    fn dead_lettered(&self, event: &Event, why: &Reason) {
        let _ = (event, why);
    }
    /// Dead letters could not be stored.
    fn dead_letter_failed(&self, why: &std::io::Error) {
        let _ = why;
    }
}

/// An observer that observes nothing.
#[derive(Debug)]
pub struct Unobserved;
impl LaneObserver for Unobserved {}

/// What delivery needs besides the batch.
pub(crate) struct Courier {
    pub(crate) name: String,
    pub(crate) sink_type: String,
    pub(crate) sink: Arc<dyn Sink>,
    pub(crate) retry: RetryConfig,
    pub(crate) dead_letters: Arc<dyn DeadLetterStore>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
    pub(crate) health: Arc<Health>,
    pub(crate) observer: Arc<dyn LaneObserver>,
}

/// How a delivery ended.
#[derive(Debug, Default)]
pub(crate) struct Ended {
    /// Set if the lane has to shut.
    pub(crate) shut: Option<LaneState>,
    /// Events to probe a shut lane with.
    pub(crate) probes: Vec<Item>,
    /// Accepted, waiting for their confirmation.
    pub(crate) pending: Vec<(Item, Token)>,
    /// The destination had too much to do at least once.
    pub(crate) overloaded: bool,
    /// The destination took at least one event.
    pub(crate) accepted: bool,
    /// A probe was judged for what it is: the destination works.
    pub(crate) answered: bool,
}

/// A part of a batch that is sent in one request.
struct Part {
    items: Vec<Item>,
    shape: Shape,
    delays: Delays,
    attempt: u32,
    /// To wait before sending.
    wait: Duration,
}

/// What one request of a part came to.
enum Step {
    /// Some of it remains to be sent.
    Next(Vec<Part>),
    /// The lane has to shut; these are left.
    Shut(LaneState, Vec<Item>),
}

/// What a delivery gathers on the way.
struct Progress {
    ended: Ended,
    suspects: Vec<(Item, Reason)>,
    /// The destination's count of accepted events when it first refused something without blame.
    witness_mark: Option<u64>,
}

impl Courier {
    /// Delivers `items`; `slot` is the lane's concurrent slot that sends.
    ///
    /// `witness_mark`: the destination's count of accepted events that a refusal is held against, where that is
    /// earlier than this delivery.
    pub(crate) async fn deliver(&self, items: Vec<Item>, slot: u32, witness_mark: Option<u64>) -> Ended {
        let mut progress = Progress { ended: Ended::default(), suspects: Vec::new(), witness_mark };
        let (items, oversized) = self.without_oversized(items);
        let mut parts = vec![];
        if let Err((state, left)) = self.dead_letter(oversized).await {
            parts.push(self.part(items, Shape::Normal));
            return self.shut(state, left, parts, progress);
        }
        if !items.is_empty() {
            parts.push(self.part(items, Shape::Normal));
        }
        while let Some(part) = parts.pop() {
            match self.step(part, slot, &mut progress).await {
                Step::Next(more) => parts.extend(more),
                Step::Shut(state, left) => return self.shut(state, left, parts, progress),
            }
            if progress.suspects.len() >= SUSPECTS_MAX && !self.has_witness(&progress) {
                return self.doubt(parts, progress);
            }
        }
        if progress.suspects.is_empty() {
            return progress.ended;
        }
        if !self.has_witness(&progress) {
            return self.doubt(parts, progress);
        }
        let suspects = std::mem::take(&mut progress.suspects);
        match self.dead_letter(suspects).await {
            Ok(()) => progress.ended,
            Err((state, items)) => self.shut(state, items, parts, progress),
        }
    }

    /// Sends one event once, to find out whether a shut lane can open again.
    pub(crate) async fn probe(&self, item: Item, slot: u32) -> Ended {
        let mut ended = Ended::default();
        let events: Arc<[Event]> = Arc::from([item.event.clone()]);
        let encoded = self.sink.encode(&events, Shape::Normal).await;
        let state = match self.send(&events, &encoded, &Attempt { slot, ..Attempt::default() }).await {
            Judgement::Each(verdicts) => {
                let part = self.part(vec![item], Shape::Normal);
                let mut progress = Progress { ended, suspects: Vec::new(), witness_mark: None };
                let step = self.judge_each(part, verdicts, &mut progress).await;
                ended = std::mem::take(&mut progress.ended);
                ended.probes.extend(progress.suspects.into_iter().map(|(item, _)| item));
                match step {
                    Step::Shut(state, left) => {
                        ended.probes.extend(left);
                        state
                    }
                    Step::Next(parts) => {
                        ended.probes.extend(parts.into_iter().flat_map(|part| part.items));
                        ended.answered = ended.probes.is_empty();
                        return ended;
                    }
                }
            }
            Judgement::Unavailable { why, .. } => {
                self.failed(&why, 1);
                ended.probes.push(item);
                LaneState::Unavailable(why)
            }
            Judgement::Denied(why) | Judgement::Refused(why) | Judgement::TooLarge(why) => {
                self.failed(&why, 1);
                ended.probes.push(item);
                LaneState::Denied(why)
            }
        };
        ended.shut = Some(state);
        ended
    }

    /// Takes out what is larger than the destination takes: it is refused by the documented limit, unsent.
    fn without_oversized(&self, items: Vec<Item>) -> (Vec<Item>, Vec<(Item, Reason)>) {
        let Some(max) = self.sink.event_bytes_max() else { return (items, Vec::new()) };
        let (fitting, oversized): (Vec<Item>, Vec<Item>) =
            items.into_iter().partition(|item| self.sink.encoded_len(&item.event) <= max);
        let named = |item: Item| {
            let len = self.sink.encoded_len(&item.event);
            let text = format!("the event has {len} bytes encoded, the destination takes {max}");
            (item, Reason::new(ReasonCode::TooLarge, text))
        };
        (fitting, oversized.into_iter().map(named).collect())
    }

    fn part(&self, items: Vec<Item>, shape: Shape) -> Part {
        Part { items, shape, delays: Delays::new(&self.retry), attempt: 0, wait: Duration::ZERO }
    }

    fn has_witness(&self, progress: &Progress) -> bool {
        progress.witness_mark.is_some_and(|mark| self.health.accepted() > mark)
    }

    /// Nothing was taken of what was refused: the set-up is suspected, and nothing is dead-lettered.
    fn doubt(&self, parts: Vec<Part>, mut progress: Progress) -> Ended {
        let why = progress.suspects.first().map(|(_, why)| why.clone());
        let why = why.unwrap_or_else(|| Reason::new(ReasonCode::Other, "refused"));
        let suspects = progress.suspects.drain(..).map(|(item, _)| item).collect();
        let text = format!("no event is accepted, so the destination's set-up is suspected: {}", why.text);
        let mut state = Reason::new(why.code, text);
        state.status = why.status;
        self.shut(LaneState::Denied(state), suspects, parts, progress)
    }

    /// Ends a delivery, keeping a few events from all over the batch to probe with; the others are released.
    fn shut(&self, state: LaneState, left: Vec<Item>, parts: Vec<Part>, mut progress: Progress) -> Ended {
        let others = parts.into_iter().rev().flat_map(|part| part.items);
        let suspects = progress.suspects.drain(..).map(|(item, _)| item);
        let mut all: Vec<Item> = left.into_iter().chain(suspects).chain(others).collect();
        let step = (all.len() / PROBES_MAX).max(1);
        let mut at = 0;
        all.retain(|_| {
            at += 1;
            (at - 1) % step == 0
        });
        all.truncate(PROBES_MAX);
        progress.ended.probes = all;
        progress.ended.shut = Some(state);
        progress.ended
    }

    /// Sends one part once, after its wait.
    async fn step(&self, mut part: Part, slot: u32, progress: &mut Progress) -> Step {
        let events: Arc<[Event]> = part.items.iter().map(|item| item.event.clone()).collect();
        let encoded = self.sink.encode(&events, part.shape).await;
        loop {
            if !part.wait.is_zero() && !self.rest(part.wait).await {
                return Step::Shut(self.health.state(), part.items);
            }
            let attempt = Attempt { number: part.attempt, shape: part.shape, slot };
            let (why, retry_after) = match self.send(&events, &encoded, &attempt).await {
                Judgement::Each(verdicts) => return self.judge_each(part, verdicts, progress).await,
                Judgement::Denied(why) => {
                    self.failed(&why, events.len());
                    return Step::Shut(LaneState::Denied(why), part.items);
                }
                Judgement::Refused(why) => return self.refused(part, why, progress),
                Judgement::TooLarge(why) => {
                    if events.len() > 1 {
                        self.health.learn_too_large(encoded.plain_len);
                    }
                    return self.refused(part, why, progress);
                }
                Judgement::Unavailable { why, retry_after } => (why, retry_after),
            };
            progress.ended.overloaded |= is_overload(why.code);
            if self.failed(&why, events.len()) {
                return Step::Shut(LaneState::Unavailable(why), part.items);
            }
            part.attempt += 1;
            part.wait = part.delays.next(retry_after, &*self.random);
        }
    }

    /// Waits, unless the lane is shut meanwhile; false if it is.
    async fn rest(&self, wait: Duration) -> bool {
        let mut state = self.health.watch();
        if state.borrow_and_update().is_shut() {
            return false;
        }
        tokio::select! {
            () = self.clock.sleep(wait) => true,
            shut = state.wait_for(LaneState::is_shut) => shut.is_err(),
        }
    }

    /// One exchange; an answer with the wrong number of verdicts is no answer.
    async fn send(&self, events: &[Event], encoded: &Encoded, attempt: &Attempt) -> Judgement {
        let started = self.clock.monotonic();
        let judgement = match self.sink.send(events, encoded, attempt).await {
            Judgement::Each(verdicts) if verdicts.len() != events.len() => {
                let text = format!("{} verdicts for {} events", verdicts.len(), events.len());
                Judgement::Unavailable { why: Reason::new(ReasonCode::Garbled, text), retry_after: None }
            }
            judgement => judgement,
        };
        let result = match &judgement {
            Judgement::Each(_) => "ok",
            Judgement::Unavailable { why, .. }
            | Judgement::Denied(why)
            | Judgement::Refused(why)
            | Judgement::TooLarge(why) => why.code.as_str(),
        };
        self.observer.request(result, self.clock.monotonic().saturating_sub(started));
        judgement
    }

    /// Notes a failure; true if it has lasted too long.
    fn failed(&self, why: &Reason, events: usize) -> bool {
        self.observer.failure(why, events);
        let now = self.clock.monotonic();
        self.health.note_failure(why, self.clock.now(), now, self.retry.give_up_after)
    }

    /// A refusal that names nobody: split, or suspect the one event.
    fn refused(&self, mut part: Part, why: Reason, progress: &mut Progress) -> Step {
        self.observer.failure(&why, part.items.len());
        progress.witness_mark.get_or_insert_with(|| self.health.accepted());
        if part.items.len() > 1 {
            let right = part.items.split_off(part.items.len() / 2);
            return Step::Next(vec![self.part(right, part.shape), self.part(part.items, part.shape)]);
        }
        progress.suspects.extend(part.items.into_iter().map(|item| (item, why.clone())));
        Step::Next(Vec::new())
    }

    /// Applies one verdict to each event.
    async fn judge_each(&self, part: Part, verdicts: Vec<Verdict>, progress: &mut Progress) -> Step {
        let mark = self.health.accepted();
        let mut sorted = Sorted::default();
        for (item, verdict) in part.items.into_iter().zip(verdicts) {
            sorted.add(item, verdict, part.shape);
        }
        self.settle_accepted(&mut sorted, progress);
        if !sorted.suspects.is_empty() {
            progress.witness_mark.get_or_insert(mark);
            progress.suspects.append(&mut sorted.suspects);
        }
        for why in &sorted.reasons {
            self.observer.failure(why, 1);
            progress.ended.overloaded |= is_overload(why.code);
        }
        let moved = sorted.moved || !sorted.named.is_empty();
        let retried_for = sorted.retry.first().map(|(_, why)| why.clone());
        let retry: Vec<Item> = sorted.retry.into_iter().map(|(item, _)| item).collect();
        if let Err((state, mut items)) = self.dead_letter(sorted.named).await {
            items.extend(retry);
            items.extend(sorted.reshape);
            return Step::Shut(state, items);
        }
        if let Some(why) = sorted.denied {
            self.failed(&why, sorted.shut_out.len());
            let left = sorted.shut_out.into_iter().chain(retry).chain(sorted.reshape).collect();
            return Step::Shut(LaneState::Denied(why), left);
        }
        let mut next = Vec::new();
        if !sorted.reshape.is_empty() {
            next.push(self.part(sorted.reshape, Shape::Safe));
        }
        if let Some(why) = retried_for {
            let mut again =
                Part { items: retry, attempt: part.attempt + 1, ..self.part(Vec::new(), part.shape) };
            again.delays = part.delays;
            if !moved || is_overload(why.code) {
                // Without progress this is a failure like any other, with the same patience.
                let gave_up = !moved && self.failed(&why, again.items.len());
                if gave_up {
                    return Step::Shut(LaneState::Unavailable(why), again.items);
                }
                again.wait = again.delays.next(None, &*self.random);
            }
            next.push(again);
        }
        Step::Next(next)
    }

    fn settle_accepted(&self, sorted: &mut Sorted, progress: &mut Progress) {
        let accepted = sorted.accepted.len() + sorted.pending.len();
        self.health.note_accepted(accepted as u64, self.clock.now());
        progress.ended.accepted |= accepted > 0;
        self.observer.delivered(&mut sorted.accepted.iter().map(|(item, _)| &item.event));
        Owed::settle_all(sorted.accepted.drain(..).map(|(item, outcome)| (item.owed, outcome)));
        progress.ended.pending.append(&mut sorted.pending);
    }

    /// Stores the letters and settles their events; if they cannot be stored, gives the events back.
    async fn dead_letter(&self, refused: Vec<(Item, Reason)>) -> Result<(), (LaneState, Vec<Item>)> {
        if refused.is_empty() {
            return Ok(());
        }
        let letters: Vec<Letter> = refused
            .iter()
            .map(|(item, why)| {
                Letter::of_event(&self.name, &self.sink_type, &item.event, why, self.clock.now())
            })
            .collect();
        if let Err(error) = self.dead_letters.store(&letters).await {
            self.observer.dead_letter_failed(&error);
            let text = format!("dead letters cannot be stored ({error}): check `dead_letter`");
            let state = LaneState::Unavailable(Reason::new(ReasonCode::Io, text));
            return Err((state, refused.into_iter().map(|(item, _)| item).collect()));
        }
        for (item, why) in refused {
            self.observer.dead_lettered(&item.event, &why);
            item.owed.settle(Outcome::DeadLettered);
        }
        Ok(())
    }
}

/// The events of one answer by what becomes of them.
#[derive(Default)]
struct Sorted {
    accepted: Vec<(Item, Outcome)>,
    pending: Vec<(Item, Token)>,
    retry: Vec<(Item, Reason)>,
    reshape: Vec<Item>,
    named: Vec<(Item, Reason)>,
    suspects: Vec<(Item, Reason)>,
    shut_out: Vec<Item>,
    denied: Option<Reason>,
    reasons: Vec<Reason>,
    /// Whether the answer brought any event further.
    moved: bool,
}

impl Sorted {
    fn add(&mut self, item: Item, verdict: Verdict, shape: Shape) {
        match verdict {
            Verdict::Delivered => self.accepted.push((item, Outcome::Delivered)),
            Verdict::Duplicate => self.accepted.push((item, Outcome::Duplicate)),
            Verdict::Pending(token) => self.pending.push((item, token)),
            Verdict::Retry(why) => {
                self.reasons.push(why.clone());
                self.retry.push((item, why));
                return;
            }
            Verdict::Reshape(why) if shape == Shape::Normal => {
                self.reasons.push(why);
                self.reshape.push(item);
            }
            Verdict::Reshape(why) | Verdict::Refused { why, named: true } => {
                self.reasons.push(why.clone());
                self.named.push((item, why));
            }
            Verdict::Refused { why, named: false } => {
                self.reasons.push(why.clone());
                self.suspects.push((item, why));
                return;
            }
            Verdict::Denied(why) => {
                self.denied.get_or_insert(why);
                self.shut_out.push(item);
                return;
            }
        }
        self.moved = true;
    }
}
