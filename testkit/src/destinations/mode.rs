//! What a stand-in does wrong, and how often.

use serde::{Deserialize, Serialize};

/// How a stand-in behaves; may change while it runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mode {
    /// What goes wrong.
    pub failure: Failure,
    /// The share of requests that it happens to, drawn by the stand-in's seed. 1 is all.
    pub share: f64,
    /// How many requests it happens to, before the stand-in is healthy again. `None` is for ever.
    pub requests: Option<u64>,
    /// Whether it happens to every request. Otherwise only to those that deliver events.
    pub everywhere: bool,
    /// The header `Retry-After` of an error answer, in seconds.
    pub retry_after_s: Option<u64>,
    /// Time from storing to answering.
    pub delay_ms: u64,
    /// Speed at which a request's body is worked off before it is answered. 0 is at once.
    pub bytes_per_second: u64,
}

impl Default for Mode {
    fn default() -> Self {
        Self {
            failure: Failure::None,
            share: 1.0,
            requests: None,
            everywhere: false,
            retry_after_s: None,
            delay_ms: 0,
            bytes_per_second: 0,
        }
    }
}

impl From<Failure> for Mode {
    fn from(failure: Failure) -> Self {
        Self { failure, ..Self::default() }
    }
}

/// One thing that goes wrong.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    /// Nothing.
    #[default]
    None,
    /// Nothing is stored; the answer is the destination's own for this HTTP status.
    Status(u16),
    /// Splunk's own answer with this code. Nothing is stored, except with 24 and 25, which are warnings. Elsewhere: 500.
    Code(u16),
    /// Every request is refused whole with 400; nothing is stored.
    RefuseAll,
    /// Events are refused for their content: one in so many, chosen by the event's hash, so always the same ones.
    RefuseEvery(u64),
    /// Events that contain this text are refused for their content.
    RefuseContaining(String),
    /// Elasticsearch: this share of the items is answered 429. Elsewhere: the whole request, always.
    ItemsThrottled(f64),
    /// Elasticsearch: every item is answered `cluster_block_exception` with this status (403 or 429). Elsewhere: 503.
    ReadOnly(u16),
    /// All is stored; the answer is well formed and too short.
    ShortAnswer,
    /// All is stored; the answer has the right status, and a body that means nothing.
    Garbage,
    /// All is stored; the connection is reset before the answer.
    AnswerLost,
    /// All is stored; the connection is closed before the answer.
    Hangup,
    /// All is stored; the answer never comes.
    NeverAnswer,
    /// All is stored; the connection ends in the middle of the answer.
    HalfAnswer,
    /// All is stored; the answer comes slowly: so many bytes a second.
    SlowAnswer(usize),
    /// Nothing is stored; the connection is reset.
    Reset,
    /// Half of the events are stored; the answer is 408, as Sumo Logic's "may not all be ingested". Elasticsearch: the
    /// last event is neither stored nor answered.
    PartlyStored,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_mode_is_written_as_json_and_unknown_keys_are_refused() {
        let mode: Mode =
            serde_json::from_str(r#"{"failure":{"status":429},"share":0.5,"requests":3}"#).unwrap();
        assert_eq!(mode, Mode { share: 0.5, requests: Some(3), ..Mode::from(Failure::Status(429)) });
        let again: Mode = serde_json::from_str(&serde_json::to_string(&mode).unwrap()).unwrap();
        assert_eq!(again, mode);
        assert_eq!(
            serde_json::from_str::<Mode>(r#"{"failure":"answer_lost"}"#).unwrap(),
            Failure::AnswerLost.into()
        );
        assert!(serde_json::from_str::<Mode>(r#"{"fault":"answer_lost"}"#).is_err());
    }
}
