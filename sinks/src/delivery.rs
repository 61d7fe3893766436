//! Sends a batch until every event in it has an outcome, or the lane has to shut.
//!
//! Blame is exact and needs a witness: an event is dead-lettered only where the answer names it and a fault of
//! its content, or where the destination took another event after it refused this one.

mod item;
mod observer;
mod sorted;

use std::sync::Arc;
use std::time::Duration;

use crate::dead_letter::{DeadLetterStore, Letter};
use crate::health::{Health, LaneState, is_overload};
use crate::lane::Confirmations;
use crate::ports::{Clock, Random};
use crate::retry::{Delays, RetryConfig};
use crate::settle::{Outcome, Owed};
use crate::{Attempt, Encoded, Event, Judgement, Reason, ReasonCode, Shape, Sink, Token, Verdict};

pub(crate) use item::Item;
pub use observer::{Acknowledgement, LaneObserver, Unobserved};
use sorted::Sorted;

/// Single events refused in a row, none taken, until the request itself is suspected instead of the events.
const SUSPECTS_MAX: usize = 8;

/// How many events a shut lane keeps to probe with.
pub(crate) const PROBES_MAX: usize = 8;

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
    pub(crate) confirmations: Confirmations,
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
    /// Not let in by the destination's set-up while it takes others, or hung up over: they wait by themselves.
    pub(crate) apart: Vec<Item>,
    /// What that makes of the lane, should there be too many of them.
    pub(crate) apart_for: Option<LaneState>,
    /// The destination took at least one event.
    pub(crate) accepted: bool,
    /// A probe was judged for what it is: the destination works.
    pub(crate) answered: bool,
    /// How long the destination asked to be left alone.
    pub(crate) retry_after: Option<Duration>,
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
#[derive(Default)]
struct Progress {
    ended: Ended,
    suspects: Vec<(Item, Reason)>,
}

impl Courier {
    /// Delivers `items`; `slot` is the lane's concurrent slot that sends.
    pub(crate) async fn deliver(&self, items: Vec<Item>, slot: u32) -> Ended {
        let mut progress = Progress::default();
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
            let without = progress.suspects.iter().filter(|(item, _)| !self.has_witness(item)).count();
            if without >= SUSPECTS_MAX {
                break;
            }
        }
        let suspects = std::mem::take(&mut progress.suspects);
        let (guilty, doubtful): (Vec<_>, Vec<_>) =
            suspects.into_iter().partition(|(item, _)| self.has_witness(item));
        progress.suspects = doubtful;
        if let Err((state, items)) = self.dead_letter(guilty).await {
            return self.shut(state, items, parts, progress);
        }
        if progress.suspects.is_empty() { progress.ended } else { self.doubt(parts, progress).await }
    }

    /// Sends one event once, to find out whether a shut lane can open again; `number` counts the probes, so that
    /// each endpoint is asked in turn.
    pub(crate) async fn probe(&self, item: Item, slot: u32, number: u32) -> Ended {
        let (mut items, oversized) = self.without_oversized(vec![item]);
        let mut ended = Ended::default();
        let Some(mut item) = items.pop() else {
            if let Err((state, items)) = self.dead_letter(oversized).await {
                (ended.shut, ended.probes) = (Some(state), items);
            }
            return ended;
        };
        let events: Arc<[Event]> = Arc::from([item.event.clone()]);
        let judgement = match self.sink.encode(&events, Shape::Normal).await {
            Ok(encoded) => {
                self.send(&events, &encoded, &Attempt { slot, number, ..Attempt::default() }).await
            }
            Err(why) => Judgement::Refused(why),
        };
        let state = match judgement {
            Judgement::Each(verdicts) | Judgement::Strained(verdicts) => {
                return self.judge_probe(item, verdicts).await;
            }
            Judgement::Unavailable { why, retry_after } => {
                ended.retry_after = retry_after;
                LaneState::Unavailable(why)
            }
            Judgement::Denied(why) => LaneState::Denied(why),
            Judgement::Refused(why) | Judgement::TooLarge(why) => {
                item.probed += 1;
                item.refuse(self.health.accepted(), true);
                self.sink.doubted().await;
                suspected(&why)
            }
        };
        if let LaneState::Unavailable(why) | LaneState::Denied(why) = &state {
            self.failed(why, 1);
        }
        ended.probes.push(item);
        ended.shut = Some(state);
        ended
    }

    /// What a destination that judged a probe for itself is worth.
    async fn judge_probe(&self, mut item: Item, verdicts: Vec<Verdict>) -> Ended {
        let mut progress = Progress::default();
        item.probed += 1;
        let step = self.judge_each(self.part(vec![item], Shape::Normal), verdicts, &mut progress).await;
        let mut ended = progress.ended;
        let mut suspects = progress.suspects.into_iter();
        // A probe shows whether the lane can open, and this one does not.
        if let Some(state) = ended.apart_for.take() {
            ended.shut = Some(state);
            ended.probes.append(&mut ended.apart);
        }
        if let Some((item, why)) = suspects.next() {
            self.sink.doubted().await;
            ended.shut = Some(suspected(&why));
            ended.probes.push(item);
        }
        match step {
            Step::Shut(state, left) => {
                ended.shut = Some(state);
                ended.probes.extend(left);
            }
            Step::Next(parts) => {
                // An event that is to be written otherwise was understood; one to be sent again was not.
                let reshaped = parts.iter().any(|part| part.shape == Shape::Safe);
                ended.probes.extend(parts.into_iter().flat_map(|part| part.items));
                ended.answered = ended.shut.is_none() && (reshaped || ended.probes.is_empty());
            }
        }
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
        // Another endpoint, should the one be the reason why it was closed.
        let attempt = items.first().map_or(0, Item::hang_ups);
        Part { items, shape, delays: Delays::new(&self.retry), attempt, wait: Duration::ZERO }
    }

    /// Whether the destination has taken another event since it refused this one.
    fn has_witness(&self, item: &Item) -> bool {
        item.refused_at.is_some_and(|mark| self.health.accepted() > mark)
    }

    /// Nothing was taken of what was refused: the set-up is suspected, and nothing is dead-lettered.
    async fn doubt(&self, parts: Vec<Part>, mut progress: Progress) -> Ended {
        self.sink.doubted().await;
        let why = progress.suspects.first().map(|(_, why)| why.clone());
        let why = why.unwrap_or_else(|| Reason::new(ReasonCode::Other, "refused"));
        let suspects = progress.suspects.drain(..).map(|(item, _)| item).collect();
        self.shut(suspected(&why), suspects, parts, progress)
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
        let encoded = match self.sink.encode(&events, part.shape).await {
            Ok(encoded) => encoded,
            Err(why) => return self.refused(part, why, progress),
        };
        loop {
            if let Some(state) = self.rest(part.wait).await {
                return Step::Shut(state, part.items);
            }
            let attempt = Attempt { number: part.attempt, shape: part.shape, slot };
            let started = self.clock.monotonic();
            let (why, retry_after) = match self.send(&events, &encoded, &attempt).await {
                Judgement::Each(verdicts) => {
                    self.note_pace(&encoded, &verdicts, started);
                    return self.judge_each(part, verdicts, progress).await;
                }
                Judgement::Strained(verdicts) => {
                    self.health.note_overload(self.clock.monotonic(), None);
                    return self.judge_each(part, verdicts, progress).await;
                }
                Judgement::Denied(why) => {
                    self.failed(&why, events.len());
                    return Step::Shut(LaneState::Denied(why), part.items);
                }
                Judgement::Refused(why) => return self.refused(part, why, progress),
                Judgement::TooLarge(why) => {
                    if events.len() > 1 {
                        self.health.learn_too_large(encoded.plain_len, self.clock.monotonic());
                    }
                    return self.refused(part, why, progress);
                }
                Judgement::Unavailable { why, retry_after } => (why, retry_after),
            };
            if is_overload(why.code) {
                self.health.note_overload(self.clock.monotonic(), retry_after);
            }
            if self.failed(&why, events.len()) {
                return Step::Shut(LaneState::Unavailable(why), part.items);
            }
            part.attempt += 1;
            part.wait = part.delays.next(retry_after, &*self.random);
        }
    }

    /// Notes how long an answer took, if it accepts something and says nothing of an overload.
    fn note_pace(&self, encoded: &Encoded, verdicts: &[Verdict], started: Duration) {
        let is_accepted =
            |it: &Verdict| matches!(it, Verdict::Delivered | Verdict::Duplicate | Verdict::Pending(_));
        let is_overloaded = |it: &Verdict| matches!(it, Verdict::Retry(why) if is_overload(why.code));
        if verdicts.iter().any(is_accepted) && !verdicts.iter().any(is_overloaded) {
            let now = self.clock.monotonic();
            self.health.note_answer(encoded.plain_len, now.saturating_sub(started), now);
        }
    }

    /// Waits, unless the lane is shut meanwhile: then its state.
    async fn rest(&self, wait: Duration) -> Option<LaneState> {
        if wait.is_zero() {
            return None;
        }
        tokio::select! {
            biased;
            shut = self.health.wait_for(LaneState::is_shut) => Some(shut),
            () = self.clock.sleep(wait) => None,
        }
    }

    /// One exchange; an answer with the wrong number of verdicts is no answer.
    async fn send(&self, events: &[Event], encoded: &Encoded, attempt: &Attempt) -> Judgement {
        let started = self.clock.monotonic();
        let judgement = match self.sink.send(events, encoded, attempt).await {
            Judgement::Each(verdicts) | Judgement::Strained(verdicts) if verdicts.len() != events.len() => {
                let text = format!("{} verdicts for {} events", verdicts.len(), events.len());
                Judgement::Unavailable { why: Reason::new(ReasonCode::Garbled, text), retry_after: None }
            }
            judgement => judgement,
        };
        let result = match &judgement {
            Judgement::Each(_) | Judgement::Strained(_) => "ok",
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
        let (accepted, alone) = (self.health.accepted(), part.items.len() == 1);
        part.items.iter_mut().for_each(|item| item.refuse(accepted, alone));
        if alone {
            progress.suspects.extend(part.items.into_iter().map(|item| (item, why.clone())));
            return Step::Next(Vec::new());
        }
        let right = part.items.split_off(part.items.len() / 2);
        Step::Next(vec![self.part(right, part.shape), self.part(part.items, part.shape)])
    }

    /// Applies one verdict to each event.
    async fn judge_each(&self, part: Part, verdicts: Vec<Verdict>, progress: &mut Progress) -> Step {
        // Before what this answer accepts: an event that is taken in the same answer is a witness.
        let (accepted, alone) = (self.health.accepted(), part.items.len() == 1);
        let mut sorted = Sorted::default();
        for (mut item, verdict) in part.items.into_iter().zip(verdicts) {
            if matches!(verdict, Verdict::Reshape(_) | Verdict::Refused { named: false, .. }) {
                item.refuse(accepted, alone || part.shape == Shape::Safe);
            }
            sorted.add(item, verdict, part.shape);
        }
        let accepts = sorted.accepted.len() + sorted.pending.len() > 0;
        self.settle_accepted(&mut sorted, progress);
        let moved = sorted.moved || !sorted.suspects.is_empty();
        progress.suspects.append(&mut sorted.suspects);
        for why in &sorted.reasons {
            self.observer.failure(why, 1);
        }
        if sorted.reasons.iter().any(|why| is_overload(why.code)) {
            self.health.note_overload(self.clock.monotonic(), None);
        }
        self.note_hang_ups(&mut sorted);
        let again_for = sorted.retry.first().or(sorted.hung_up.first()).map(|(_, why)| why.clone());
        let hung_up: Vec<Item> = sorted.hung_up.into_iter().map(|(item, _)| item).collect();
        let retry: Vec<Item> = sorted.retry.into_iter().map(|(item, _)| item).collect();
        if let Err((state, mut items)) = self.dead_letter(sorted.named).await {
            items.extend(retry.into_iter().chain(hung_up).chain(sorted.reshape));
            return Step::Shut(state, items);
        }
        if let Some(why) = sorted.denied {
            self.failed(&why, sorted.shut_out.len());
            if !accepts && !self.health.note_denied() {
                let left = sorted.shut_out.into_iter().chain(retry).chain(hung_up);
                let left = left.chain(sorted.reshape).collect();
                return Step::Shut(LaneState::Denied(why), left);
            }
            progress.ended.apart.append(&mut sorted.shut_out);
            progress.ended.apart_for.get_or_insert(LaneState::Denied(why));
        }
        let mut next = Vec::new();
        if !sorted.reshape.is_empty() {
            next.push(self.part(sorted.reshape, Shape::Safe));
        }
        if let Some(why) = again_for {
            // Without progress this is a failure like any other, with the same patience.
            if !moved && self.failed(&why, retry.len() + hung_up.len()) {
                return Step::Shut(LaneState::Unavailable(why), retry.into_iter().chain(hung_up).collect());
            }
            if !hung_up.is_empty() {
                // Their slot is for others, who may bear witness meanwhile.
                progress.ended.apart.extend(hung_up);
                progress.ended.apart_for.get_or_insert(LaneState::Unavailable(why.clone()));
            }
            if !retry.is_empty() {
                let mut again = Part { attempt: part.attempt + 1, ..self.part(retry, part.shape) };
                again.delays = part.delays;
                if !moved || is_overload(why.code) {
                    again.wait = again.delays.next(None, &*self.random);
                }
                next.push(again);
            }
        }
        Step::Next(next)
    }

    /// Notes over which events the destination hung up; those that are at fault for it by now are named.
    fn note_hang_ups(&self, sorted: &mut Sorted) {
        let accepted = self.health.accepted();
        for (mut item, why) in std::mem::take(&mut sorted.hung_up) {
            item.hang_up(accepted);
            match item.fault(&why) {
                Some(fault) => sorted.named.push((item, fault)),
                None => sorted.hung_up.push((item, why)),
            }
        }
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

/// The state of a lane where nothing was taken and no event is to blame.
fn suspected(why: &Reason) -> LaneState {
    let text = format!("no event is accepted, so the destination's set-up is suspected: {}", why.text);
    let mut reason = Reason::new(ReasonCode::Misconfigured, text);
    reason.status = why.status;
    LaneState::Denied(reason)
}
