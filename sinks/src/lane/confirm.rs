//! Waits for the confirmation of events that a destination has accepted but not yet stored.

use std::time::Duration;

use crate::delivery::{Courier, Item};
use crate::settle::{Outcome, Owed};
use crate::{Reason, ReasonCode, Token};

/// Between two questions.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

impl Courier {
    /// Asks until all are confirmed or `timeout` has passed; gives back what never was.
    ///
    /// A confirmed token is not asked for again: the destination may have forgotten it once it said yes.
    pub(crate) async fn confirm(&self, mut pending: Vec<(Item, Token)>, timeout: Duration) -> Vec<Item> {
        let until = self.clock.monotonic() + timeout;
        loop {
            let mut tokens: Vec<Token> = pending.iter().map(|(_, token)| token.clone()).collect();
            tokens.dedup();
            match self.sink.confirm(&tokens).await {
                Ok(stored) if stored.len() == tokens.len() => {
                    let yes: Vec<&Token> =
                        tokens.iter().zip(&stored).filter(|(_, stored)| **stored).map(|(t, _)| t).collect();
                    let (confirmed, open) = pending.into_iter().partition(|(_, token)| yes.contains(&token));
                    pending = open;
                    self.settle_confirmed(confirmed);
                }
                Ok(_) => self.observer.failure(&Reason::new(ReasonCode::Garbled, "short confirmation"), 0),
                Err(why) => self.observer.failure(&why, 0),
            }
            if pending.is_empty() {
                return Vec::new();
            }
            if self.clock.monotonic() >= until {
                let why = Reason::new(ReasonCode::Unconfirmed, "accepted, but not confirmed in time");
                self.observer.failure(&why, pending.len());
                return pending.into_iter().map(|(item, _)| item).collect();
            }
            self.clock.sleep(POLL_INTERVAL).await;
        }
    }

    fn settle_confirmed(&self, confirmed: Vec<(Item, Token)>) {
        self.observer.delivered(&mut confirmed.iter().map(|(item, _)| &item.event));
        Owed::settle_all(confirmed.into_iter().map(|(item, _)| (item.owed, Outcome::Delivered)));
    }
}
