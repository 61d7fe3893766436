//! Waits for the confirmation of events that a destination has accepted but not yet stored.
//!
//! All batches of a lane ask together: one question a channel, for everything that is open there. A destination may
//! forget a confirmation once it has told it, so what an answer says is kept until the batch concerned collects it.

mod channels;

use std::time::Duration;

use tokio::sync::watch;

use crate::delivery::{Acknowledgement, Courier, Item};
use crate::settle::{Outcome, Owed};
use crate::{Reason, ReasonCode, Token};

pub(crate) use channels::Confirmations;
use channels::{Fate, Next, Question};

/// Accepted events, each with what stands for its request among the confirmations.
type Waiting = Vec<(Item, u64)>;

impl Courier {
    /// Notes what was accepted. Called in the order in which a channel's requests were answered: a number that comes
    /// again means that the destination has begun to count anew.
    pub(crate) fn expect(&self, pending: Vec<(Item, Token)>) -> Waiting {
        let now = self.clock.monotonic();
        let tickets = self.confirmations.add(pending.iter().map(|(_, token)| token), now, &*self.random);
        pending.into_iter().map(|(item, _)| item).zip(tickets).collect()
    }

    /// Asks until all are confirmed or `timeout` has passed; gives back what never was.
    pub(crate) async fn confirm(&self, mut waiting: Waiting, timeout: Duration) -> Vec<Item> {
        let began = self.clock.monotonic();
        let mut news = self.confirmations.news();
        let mut lost = Vec::new();
        loop {
            news.mark_unchanged();
            waiting = self.settle_confirmed(waiting, &mut lost);
            if waiting.is_empty() {
                return lost;
            }
            let now = self.clock.monotonic();
            let mut tickets: Vec<u64> = waiting.iter().map(|&(_, ticket)| ticket).collect();
            tickets.dedup();
            if self.confirmations.are_ignored() {
                self.confirmations.disown(&tickets);
                self.settle_accepted_ones(waiting);
                // Now and then a question, in case that confirmations come again.
                if let Next::Ask(question) = self.confirmations.next(&tickets, now) {
                    self.ask(question).await;
                }
                return lost;
            }
            if now >= began + timeout {
                lost.extend(self.give_up(waiting, &tickets, began));
                return lost;
            }
            match self.confirmations.next(&tickets, now) {
                Next::Ask(question) => self.ask(question).await,
                Next::Wait(until) => {
                    let until = until.min(began + timeout);
                    self.wait(until.saturating_sub(now), &mut news).await;
                }
            }
        }
    }

    async fn wait(&self, at_most: Duration, news: &mut watch::Receiver<()>) {
        tokio::select! {
            biased;
            _ = news.changed() => {}
            () = self.clock.sleep(at_most) => {}
        }
    }

    /// Settles what is confirmed and takes out what never will be; the rest waits on.
    fn settle_confirmed(&self, waiting: Waiting, lost: &mut Vec<Item>) -> Waiting {
        let told = self.confirmations.collect(waiting.iter().map(|&(_, ticket)| ticket));
        if told.is_empty() {
            return waiting;
        }
        let (told_of, open): (Waiting, Waiting) =
            waiting.into_iter().partition(|(_, ticket)| told.contains_key(ticket));
        let (gone, confirmed): (Waiting, Waiting) =
            told_of.into_iter().partition(|(_, ticket)| told.get(ticket) == Some(&Fate::Gone));
        self.settle_accepted_ones(confirmed);
        lost.extend(gone.into_iter().map(|(item, _)| item));
        open
    }

    fn settle_accepted_ones(&self, done: Waiting) {
        self.observer.delivered(&mut done.iter().map(|(item, _)| &item.event));
        Owed::settle_all(done.into_iter().map(|(item, _)| (item.owed, Outcome::Delivered)));
    }

    /// What was not confirmed in time is sent again, unless confirmations never come and need not.
    fn give_up(&self, waiting: Waiting, tickets: &[u64], began: Duration) -> Vec<Item> {
        let why = Reason::new(ReasonCode::Unconfirmed, "accepted, but not confirmed in time");
        self.observer.failure(&why, waiting.len());
        self.confirmations.forget(tickets);
        let required = self.sink.requires_confirmation();
        let told = self.confirmations.timed_out(began, self.clock.monotonic(), required);
        if let Some(told) = told {
            self.observer.acknowledgement(told);
        }
        if self.confirmations.are_ignored() {
            self.settle_accepted_ones(waiting);
            return Vec::new();
        }
        waiting.into_iter().map(|(item, _)| item).collect()
    }

    /// Asks one question. Dropped on the way, another batch may ask it.
    async fn ask(&self, question: Question<'_>) {
        let answer = match self.sink.confirm(question.tokens()).await {
            Ok(stored) if stored.len() == question.tokens().len() => Ok(stored),
            Ok(_) => Err(Reason::new(ReasonCode::Garbled, "short confirmation")),
            Err(why) => Err(why),
        };
        if let Err(why) = &answer {
            self.observer.failure(why, 0);
            if why.code == ReasonCode::Unconfirmed {
                return question.gone();
            }
        }
        let stored = answer.unwrap_or_default();
        if question.answered(&stored, self.clock.monotonic(), &*self.random) {
            self.observer.acknowledgement(Acknowledgement::Back);
        }
    }
}
