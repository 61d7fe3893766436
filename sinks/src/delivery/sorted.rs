//! The events of one answer, sorted by their verdicts.

use super::Item;
use crate::settle::Outcome;
use crate::{Reason, Shape, Token, Verdict};

/// The events of one answer by what becomes of them.
#[derive(Default)]
pub(super) struct Sorted {
    pub(super) accepted: Vec<(Item, Outcome)>,
    pub(super) pending: Vec<(Item, Token)>,
    pub(super) retry: Vec<(Item, Reason)>,
    pub(super) hung_up: Vec<(Item, Reason)>,
    pub(super) reshape: Vec<Item>,
    pub(super) named: Vec<(Item, Reason)>,
    pub(super) suspects: Vec<(Item, Reason)>,
    pub(super) shut_out: Vec<Item>,
    pub(super) denied: Option<Reason>,
    pub(super) reasons: Vec<Reason>,
    /// Whether the answer brought any event further.
    pub(super) moved: bool,
}

impl Sorted {
    /// Puts an event where its verdict sends it.
    pub(super) fn add(&mut self, item: Item, verdict: Verdict, shape: Shape) {
        match verdict {
            Verdict::Delivered => self.accepted.push((item, Outcome::Delivered)),
            Verdict::Duplicate => self.accepted.push((item, Outcome::Duplicate)),
            Verdict::Pending(token) => self.pending.push((item, token)),
            Verdict::Retry(why) => {
                self.reasons.push(why.clone());
                self.retry.push((item, why));
                return;
            }
            Verdict::HungUp(why) => {
                self.reasons.push(why.clone());
                self.hung_up.push((item, why));
                return;
            }
            Verdict::Reshape(why) if shape == Shape::Normal => {
                self.reasons.push(why);
                self.reshape.push(item);
            }
            Verdict::Refused { why, named: true } => {
                self.reasons.push(why.clone());
                self.named.push((item, why));
            }
            // Refused in the safe shape as well, the fault may be the destination's: it does not take our own fields.
            Verdict::Reshape(why) | Verdict::Refused { why, named: false } => {
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
