//! What the codes of a collector's answer say of each event.

use serde::Deserialize;

use super::super::{by_status, garbled, retry_after};
use super::{Ack, REMEDY, SplunkHec};
use crate::{Answer, Event, HttpSink as _, Judgement, Reason, ReasonCode, Token, Verdict};

/// Splunk Cloud calls a request that is too large an invalid first event. None refuses one below this.
const SURELY_SMALL_BYTES: usize = 1_000_000;

/// An answer of the collector.
#[derive(Deserialize)]
pub(super) struct Told {
    pub(super) code: u64,
    #[serde(default)]
    pub(super) text: String,
    #[serde(rename = "invalid-event-number")]
    invalid_event_number: Option<usize>,
    #[serde(rename = "ackId")]
    ack_id: Option<u64>,
}

impl SplunkHec {
    /// What an answer in `channel` says.
    pub(super) fn read(&self, events: &[Event], channel: String, answer: &Answer) -> Judgement {
        let Ok(told) = serde_json::from_slice::<Told>(&answer.body) else {
            return match answer.status {
                200..=299 => garbled(answer, "an answer without a code"),
                _ => by_status(answer, &answer.excerpt(&self.redactor), REMEDY),
            };
        };
        let accepted = match (told.ack_id, self.ack) {
            (Some(id), Ack::Auto | Ack::Required) => Verdict::Pending(Token { channel, id }),
            // Of a success without a number the token is to blame, see below. An error without one leaves open what
            // became of the events before the invalid one.
            (None, Ack::Required) => {
                let text = "accepted without a number to ask for its acknowledgement";
                Verdict::Retry(Reason::new(ReasonCode::Unconfirmed, text).with_status(answer.status))
            }
            (_, Ack::Off) | (None, Ack::Auto) => Verdict::Delivered,
        };
        self.read_code(events, &told, accepted, answer)
    }

    /// The table of codes. `accepted` is the verdict on an event that Splunk took.
    fn read_code(&self, events: &[Event], told: &Told, accepted: Verdict, answer: &Answer) -> Judgement {
        let why = |code, advice: &str| {
            let text = self.redactor.clean(&told.text);
            Reason::new(code, format!("{advice}code {}: {text}", told.code)).with_status(answer.status)
        };
        let denied = |code, advice: &str| Judgement::Denied(why(code, advice));
        let unavailable =
            |code| Judgement::Unavailable { why: why(code, ""), retry_after: retry_after(answer) };
        match (told.code, answer.status) {
            (0 | 24 | 25, 200) if self.ack == Ack::Required && told.ack_id.is_none() => denied(
                ReasonCode::Misconfigured,
                "the token has no acknowledgement, enable it or set ack = \"auto\"; ",
            ),
            (0, 200) => Judgement::all(events.len(), &accepted),
            // The events are taken, and a queue is about to be full.
            (24 | 25, 200) => Judgement::Strained(vec![accepted; events.len()]),
            (_, 200..=299) => garbled(answer, &format!("code {} is no answer to events", told.code)),
            (1..=4 | 21 | 22, _) => denied(ReasonCode::Unauthorized, "token refused, check `token`; "),
            (6 | 12 | 13 | 15, 400) => self.read_prefix(events, told, accepted, &why),
            (7, _) => denied(ReasonCode::Misconfigured, "check `index` and the token's list of indexes; "),
            (10 | 11, _) => {
                denied(ReasonCode::Misconfigured, "the channel was not passed on, check the proxy; ")
            }
            (14, _) => {
                denied(ReasonCode::Misconfigured, "acknowledgement is off for the token, set ack = false; ")
            }
            (16, _) => denied(
                ReasonCode::Misconfigured,
                "the header Authorization was not passed on, check the proxy; ",
            ),
            (28, _) => {
                denied(ReasonCode::Misconfigured, "the load balancer has to be sticky for acknowledgement; ")
            }
            (8, _) => unavailable(ReasonCode::ServerError),
            (26 | 27, _) => unavailable(ReasonCode::Throttled),
            (9 | 18..=20 | 23, _) => unavailable(ReasonCode::ServerError),
            _ => by_status(answer, &why(ReasonCode::Other, "").text, REMEDY),
        }
    }

    /// An invalid event: those before it are stored, those after it were not read.
    fn read_prefix(
        &self,
        events: &[Event],
        told: &Told,
        accepted: Verdict,
        why: &dyn Fn(ReasonCode, &str) -> Reason,
    ) -> Judgement {
        let Some(bad) = told.invalid_event_number else {
            return Judgement::Refused(why(ReasonCode::Invalid, ""));
        };
        if bad >= events.len() {
            let why = why(ReasonCode::Garbled, "an event is called invalid that was not sent; ");
            return Judgement::Unavailable { why, retry_after: None };
        }
        if told.code == 6 && bad == 0 {
            let bytes: usize = events.iter().map(|event| self.encoded_len(event)).sum();
            if bytes > SURELY_SMALL_BYTES {
                return Judgement::TooLarge(why(ReasonCode::TooLarge, "larger than Splunk Cloud takes; "));
            }
        }
        // Where nothing before it was taken, the fault may be in all of them: then it needs a witness.
        let refused = Verdict::Refused { why: why(ReasonCode::Invalid, ""), named: bad > 0 };
        let unread =
            Verdict::Retry(why(ReasonCode::Other, "not read, since an event before it was refused; "));
        let verdict = |at: usize| match at.cmp(&bad) {
            std::cmp::Ordering::Less => accepted.clone(),
            std::cmp::Ordering::Equal => refused.clone(),
            std::cmp::Ordering::Greater => unread.clone(),
        };
        Judgement::Each((0..events.len()).map(verdict).collect())
    }
}
