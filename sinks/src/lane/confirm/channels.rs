//! Which requests of a lane wait for their confirmation, when their channel is asked, and whether confirmations come.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::Token;
use crate::delivery::Acknowledgement;
use crate::ports::Random;
use crate::retry::{Delays, RetryConfig};
use crate::watched::Watched;

/// Between two questions of a channel, growing from the first to the second while nothing new is accepted: most
/// confirmations come within seconds.
const POLL_INTERVALS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(10)];
/// Tokens in one question, and tokens of a channel that are asked for although nobody waits for them.
const TOKENS_MAX: usize = 1000;
/// So many times in a row all that was accepted stayed unconfirmed: confirmations do not come.
const SILENT_ROUNDS_MAX: u32 = 3;

/// What a lane's batches know together.
pub(crate) struct Confirmations {
    state: Mutex<State>,
    /// The number of answers that came, and of other changes.
    news: Watched<u64>,
}

#[derive(Default)]
struct State {
    channels: BTreeMap<String, Channel>,
    /// Requests somebody waits for.
    awaited: BTreeMap<u64, Fate>,
    next_ticket: u64,
    silence: Silence,
    is_ignored: bool,
}

/// What is known of a request somebody waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Nothing yet.
    Open,
    /// It is stored.
    Confirmed,
    /// It never will be confirmed: its channel is gone.
    Gone,
}

/// How long no confirmation has come.
#[derive(Default)]
struct Silence {
    rounds: u32,
    /// When the last round ended, or something was confirmed.
    since: Duration,
}

struct Channel {
    /// The tickets of its open tokens.
    open: BTreeMap<u64, u64>,
    /// The greatest token so far.
    last: u64,
    is_asking: bool,
    ask_at: Duration,
    delays: Delays,
}

/// What a waiting batch does next.
pub(super) enum Next<'a> {
    Ask(Question<'a>),
    /// Until then at most, or until there is news.
    Wait(Duration),
}

/// A channel's question, under way until it is answered or dropped.
pub(super) struct Question<'a> {
    confirmations: &'a Confirmations,
    channel: String,
    tokens: Vec<Token>,
    tickets: Vec<u64>,
}

impl Default for Confirmations {
    fn default() -> Self {
        Self { state: Mutex::default(), news: Watched::new(0) }
    }
}

impl Confirmations {
    /// A ticket for each token; the same for the same token.
    pub(super) fn add<'a>(
        &self,
        tokens: impl Iterator<Item = &'a Token>,
        now: Duration,
        random: &dyn Random,
    ) -> Vec<u64> {
        let mut state = self.lock();
        let mut added: BTreeMap<&Token, u64> = BTreeMap::new();
        let mut tickets = Vec::new();
        for token in tokens {
            let ticket = *added.entry(token).or_insert_with(|| state.add(token, now, random));
            tickets.push(ticket);
        }
        tickets
    }

    /// The number of the last news: whenever an answer has come there is more.
    pub(super) fn news(&self) -> u64 {
        self.news.get()
    }

    /// Waits for others than `known`.
    pub(super) async fn more_news(&self, known: u64) {
        self.news.wait_for(|&news| news != known).await;
    }

    fn tell(&self) {
        self.news.update(|news| news.wrapping_add(1));
    }

    /// Those of `tickets` whose fate is known. They are told once.
    pub(super) fn collect(&self, tickets: impl Iterator<Item = u64>) -> BTreeMap<u64, Fate> {
        let mut state = self.lock();
        let known =
            |ticket| Some((ticket, *state.awaited.get(&ticket)?)).filter(|(_, fate)| *fate != Fate::Open);
        let told: BTreeMap<u64, Fate> = tickets.filter_map(known).collect();
        for ticket in told.keys() {
            state.awaited.remove(ticket);
        }
        told
    }

    /// Nobody waits for these any more, but they are still asked for.
    pub(super) fn disown(&self, tickets: &[u64]) {
        let mut state = self.lock();
        for ticket in tickets {
            state.awaited.remove(ticket);
        }
    }

    /// These are of no interest any more.
    pub(super) fn forget(&self, tickets: &[u64]) {
        self.disown(tickets);
        let gone: BTreeSet<u64> = tickets.iter().copied().collect();
        let mut state = self.lock();
        for channel in state.channels.values_mut() {
            channel.open.retain(|_, ticket| !gone.contains(ticket));
        }
        state.channels.retain(|_, channel| channel.is_asking || !channel.open.is_empty());
    }

    /// Whether what is accepted counts as delivered, since confirmations do not come.
    pub(super) fn are_ignored(&self) -> bool {
        self.lock().is_ignored
    }

    /// What somebody does next who waits for `tickets`.
    pub(super) fn next(&self, tickets: &[u64], now: Duration) -> Next<'_> {
        let mut state = self.lock();
        let mine: BTreeSet<u64> = tickets.iter().copied().collect();
        let mut earliest = Duration::MAX;
        for (name, channel) in &mut state.channels {
            if channel.is_asking || !channel.open.values().any(|ticket| mine.contains(ticket)) {
                continue;
            }
            if channel.ask_at <= now {
                channel.is_asking = true;
                let (tokens, tickets) = (channel.open.iter().take(TOKENS_MAX))
                    .map(|(&id, &ticket)| (Token { channel: name.clone(), id }, ticket))
                    .unzip();
                return Next::Ask(Question { confirmations: self, channel: name.clone(), tokens, tickets });
            }
            earliest = earliest.min(channel.ask_at);
        }
        Next::Wait(earliest)
    }

    /// Something that was accepted at `began` stayed unconfirmed; says what follows, once.
    pub(super) fn timed_out(
        &self,
        began: Duration,
        now: Duration,
        required: bool,
    ) -> Option<Acknowledgement> {
        let mut state = self.lock();
        // What was accepted before the last round ended, or before anything was confirmed, says nothing new.
        if state.is_ignored || began < state.silence.since {
            return None;
        }
        state.silence.rounds += 1;
        state.silence.since = now;
        if state.silence.rounds < SILENT_ROUNDS_MAX {
            return None;
        }
        if required {
            // To be told again after as many rounds.
            state.silence.rounds = 0;
            return Some(Acknowledgement::Missing);
        }
        state.is_ignored = true;
        drop(state);
        self.tell();
        Some(Acknowledgement::Ignored)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is complete before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn add(&mut self, token: &Token, now: Duration, random: &dyn Random) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.awaited.insert(ticket, Fate::Open);
        let channel = self.channels.entry(token.channel.clone()).or_insert_with(|| Channel::new(now));
        if !channel.open.is_empty() && token.id <= channel.last {
            // The destination counts anew: it has forgotten the requests before, and what it says of a number is
            // about the new ones. Those before stay unconfirmed.
            channel.open.clear();
        }
        channel.last = token.id;
        channel.open.insert(token.id, ticket);
        if channel.open.len() > TOKENS_MAX {
            let (open, awaited) = (&mut channel.open, &self.awaited);
            let unawaited = open.iter().find(|(_, ticket)| !awaited.contains_key(ticket)).map(|(&id, _)| id);
            unawaited.map(|id| open.remove(&id));
        }
        channel.delays = delays();
        let soon = now + channel.delays.next(None, random);
        channel.ask_at = if channel.open.len() == 1 { soon } else { channel.ask_at.min(soon) };
        ticket
    }
}

impl Channel {
    fn new(now: Duration) -> Self {
        Self { open: BTreeMap::new(), last: 0, is_asking: false, ask_at: now, delays: delays() }
    }
}

fn delays() -> Delays {
    let [initial, max] = POLL_INTERVALS;
    Delays::new(&RetryConfig { initial, max, ..RetryConfig::default() })
}

impl Question<'_> {
    /// All of one channel, never none.
    pub(super) fn tokens(&self) -> &[Token] {
        &self.tokens
    }

    /// The channel is gone: none of what was asked for will ever be confirmed.
    pub(super) fn gone(self) {
        let mut state = self.confirmations.lock();
        let state_ref = &mut *state;
        let Some(channel) = state_ref.channels.get_mut(&self.channel) else { return };
        for (token, ticket) in self.tokens.iter().zip(&self.tickets) {
            if channel.open.get(&token.id) == Some(ticket) {
                channel.open.remove(&token.id);
            }
            if let Some(fate) = state_ref.awaited.get_mut(ticket) {
                *fate = Fate::Gone;
            }
        }
    }

    /// Takes the answer, none if it could not be understood; true if confirmations come again that were ignored.
    pub(super) fn answered(self, stored: &[bool], now: Duration, random: &dyn Random) -> bool {
        let mut state = self.confirmations.lock();
        let state_ref = &mut *state;
        let Some(channel) = state_ref.channels.get_mut(&self.channel) else { return false };
        let mut any = false;
        let asked = self.tokens.iter().zip(&self.tickets).zip(stored);
        for ((token, ticket), _) in asked.filter(|(_, stored)| **stored) {
            // Another request may have this number by now: what was asked was not about that one.
            if channel.open.get(&token.id) != Some(ticket) {
                continue;
            }
            channel.open.remove(&token.id);
            any = true;
            if let Some(fate) = state_ref.awaited.get_mut(ticket) {
                *fate = Fate::Confirmed;
            }
        }
        channel.ask_at = now + channel.delays.next(None, random);
        if any {
            state_ref.silence = Silence { rounds: 0, since: now };
        }
        any && std::mem::take(&mut state_ref.is_ignored)
    }
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        let mut state = self.confirmations.lock();
        if let Some(channel) = state.channels.get_mut(&self.channel) {
            channel.is_asking = false;
            if channel.open.is_empty() {
                state.channels.remove(&self.channel);
            }
        }
        drop(state);
        self.confirmations.tell();
    }
}
