//! Waits for the confirmation of events that a destination has accepted but not yet stored.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::delivery::{Courier, Item};
use crate::retry::{Delays, RetryConfig};
use crate::settle::{Outcome, Owed};
use crate::{Reason, ReasonCode, Token};

/// What was learnt of the tokens of one channel.
enum Asked {
    /// These are stored.
    Stored(Vec<Token>),
    /// None of them ever will be.
    Gone,
}

/// Between two questions, growing from the first to the second: most acknowledgements come within seconds.
const POLL_INTERVALS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(10)];

impl Courier {
    /// Asks until all are confirmed or `timeout` has passed; gives back what never was, or never will be.
    ///
    /// A confirmed token is not asked for again: the destination may have forgotten it once it said yes.
    pub(crate) async fn confirm(&self, mut pending: Vec<(Item, Token)>, timeout: Duration) -> Vec<Item> {
        let [initial, max] = POLL_INTERVALS;
        let mut delays = Delays::new(&RetryConfig { initial, max, give_up_after: timeout });
        let until = self.clock.monotonic() + timeout;
        let mut lost = Vec::new();
        loop {
            let mut channels: BTreeMap<String, BTreeSet<Token>> = BTreeMap::new();
            for (_, token) in &pending {
                channels.entry(token.channel.clone()).or_default().insert(token.clone());
            }
            let (mut stored, mut gone) = (BTreeSet::new(), BTreeSet::new());
            for (channel, tokens) in channels {
                match self.ask(tokens.into_iter().collect()).await {
                    Asked::Stored(tokens) => stored.extend(tokens),
                    Asked::Gone => drop(gone.insert(channel)),
                }
            }
            let (confirmed, open): (Vec<_>, Vec<_>) =
                pending.into_iter().partition(|(_, token)| stored.contains(token));
            let (dropped, open): (Vec<_>, Vec<_>) =
                open.into_iter().partition(|(_, token)| gone.contains(&token.channel));
            pending = open;
            lost.extend(dropped.into_iter().map(|(item, _)| item));
            self.observer.delivered(&mut confirmed.iter().map(|(item, _)| &item.event));
            Owed::settle_all(confirmed.into_iter().map(|(item, _)| (item.owed, Outcome::Delivered)));
            if pending.is_empty() {
                return lost;
            }
            if self.clock.monotonic() >= until {
                let why = Reason::new(ReasonCode::Unconfirmed, "accepted, but not confirmed in time");
                self.observer.failure(&why, pending.len());
                lost.extend(pending.into_iter().map(|(item, _)| item));
                return lost;
            }
            self.clock.sleep(delays.next(None, &*self.random)).await;
        }
    }

    /// Which of the tokens of one channel are stored by now.
    async fn ask(&self, tokens: Vec<Token>) -> Asked {
        match self.sink.confirm(&tokens).await {
            Ok(stored) if stored.len() == tokens.len() => {
                let both = tokens.into_iter().zip(stored);
                Asked::Stored(both.filter_map(|(token, stored)| stored.then_some(token)).collect())
            }
            Ok(_) => {
                self.observer.failure(&Reason::new(ReasonCode::Garbled, "short confirmation"), 0);
                Asked::Stored(Vec::new())
            }
            Err(why) => {
                self.observer.failure(&why, 0);
                if why.code == ReasonCode::Unconfirmed { Asked::Gone } else { Asked::Stored(Vec::new()) }
            }
        }
    }
}
