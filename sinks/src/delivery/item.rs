//! An event on its way through delivery, and what was noted about its blame.

use crate::settle::Owed;
use crate::{Event, Reason, ReasonCode};

/// So often must a destination hang up over an event alone, and take others each time in between, until the event is at
/// fault: one that hangs up half of the time, whatever it is sent, blames hardly any.
const HANG_UPS_MAX: u32 = 8;

/// An event on its way, with the duty to settle it.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) event: Event,
    pub(crate) owed: Owed,
    /// How many events the destination had taken when it first refused this one without blame: alone, or in the
    /// smallest batch that was refused with it. A larger number later is the witness.
    pub(crate) refused_at: Option<u64>,
    /// Whether it was refused alone: then no later refusal of a batch says anything about it.
    refused_alone: bool,
    /// How often the destination hung up over it alone, having taken others since the time before.
    hang_ups: u32,
    /// How many events it had taken the last time.
    hung_up_at: Option<u64>,
    /// How often a shut lane was probed with it and the destination did not take it; an answer that says nothing of
    /// the event (no connection, bad credentials) does not count.
    pub(crate) probed: u32,
}

impl Item {
    pub(crate) fn new(event: Event, owed: Owed) -> Self {
        Self { event, owed, refused_at: None, refused_alone: false, hang_ups: 0, hung_up_at: None, probed: 0 }
    }

    /// Notes a refusal; what an event was refused for alone, it was refused for before.
    pub(super) fn refuse(&mut self, accepted: u64, alone: bool) {
        if alone || self.refused_alone {
            self.refused_at.get_or_insert(accepted);
        } else {
            self.refused_at = Some(accepted);
        }
        self.refused_alone |= alone;
    }

    /// Notes that the destination hung up over it alone. Where no other was taken since the last time, that is no more
    /// than an outage that goes on.
    pub(super) fn hang_up(&mut self, accepted: u64) {
        if self.hung_up_at.is_none_or(|mark| accepted > mark) {
            self.hang_ups = self.hang_ups.saturating_add(1);
        }
        self.hung_up_at = Some(accepted);
    }

    /// How often the destination hung up over it. Such an event goes alone: beside others nobody could tell over which of
    /// them it was.
    pub(crate) fn hang_ups(&self) -> u32 {
        self.hang_ups
    }

    /// Why it is at fault, if the destination hung up over it too often; `why` is what was said the last time.
    pub(super) fn fault(&self, why: &Reason) -> Option<Reason> {
        let text = format!(
            "the connection was closed {HANG_UPS_MAX} times over this event alone, and other events were taken in \
             between; the receiver's log may say why: {}",
            why.text
        );
        (self.hang_ups >= HANG_UPS_MAX).then(|| Reason::new(ReasonCode::Invalid, text))
    }
}
