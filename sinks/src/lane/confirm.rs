//! Waits for the confirmation of events that a destination has accepted but not yet stored.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::delivery::{Courier, Item};
use crate::retry::{Delays, RetryConfig};
use crate::settle::{Outcome, Owed};
use crate::{Reason, ReasonCode, Token};

/// Between two questions, growing from the first to the second: most acknowledgements come within seconds.
const POLL_INTERVALS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(10)];

impl Courier {
    /// Asks until all are confirmed or `timeout` has passed; gives back what never was.
    ///
    /// A confirmed token is not asked for again: the destination may have forgotten it once it said yes.
    pub(crate) async fn confirm(&self, mut pending: Vec<(Item, Token)>, timeout: Duration) -> Vec<Item> {
        let [initial, max] = POLL_INTERVALS;
        let mut delays = Delays::new(&RetryConfig { initial, max, give_up_after: timeout });
        let until = self.clock.monotonic() + timeout;
        loop {
            let mut channels: BTreeMap<String, BTreeSet<Token>> = BTreeMap::new();
            for (_, token) in &pending {
                channels.entry(token.channel.clone()).or_default().insert(token.clone());
            }
            let mut stored = BTreeSet::new();
            for tokens in channels.into_values() {
                stored.extend(self.ask(tokens.into_iter().collect()).await);
            }
            let (confirmed, open): (Vec<_>, Vec<_>) =
                pending.into_iter().partition(|(_, token)| stored.contains(token));
            pending = open;
            self.observer.delivered(&mut confirmed.iter().map(|(item, _)| &item.event));
            Owed::settle_all(confirmed.into_iter().map(|(item, _)| (item.owed, Outcome::Delivered)));
            if pending.is_empty() {
                return Vec::new();
            }
            if self.clock.monotonic() >= until {
                let why = Reason::new(ReasonCode::Unconfirmed, "accepted, but not confirmed in time");
                self.observer.failure(&why, pending.len());
                return pending.into_iter().map(|(item, _)| item).collect();
            }
            self.clock.sleep(delays.next(None, &*self.random)).await;
        }
    }

    /// Which of the tokens of one channel are stored by now.
    async fn ask(&self, tokens: Vec<Token>) -> Vec<Token> {
        match self.sink.confirm(&tokens).await {
            Ok(stored) if stored.len() == tokens.len() => {
                tokens.into_iter().zip(stored).filter_map(|(token, stored)| stored.then_some(token)).collect()
            }
            Ok(_) => {
                self.observer.failure(&Reason::new(ReasonCode::Garbled, "short confirmation"), 0);
                Vec::new()
            }
            Err(why) => {
                self.observer.failure(&why, 0);
                Vec::new()
            }
        }
    }
}
