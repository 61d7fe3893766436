//! What goes wrong inside the stand-in for AWS, for which calls, and how often.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::random::Rng;

/// What goes wrong with one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AwsFault {
    /// Not done. SQS: 400 `RequestThrottled`; S3: 503 `SlowDown`; STS: 400 `Throttling`. With `Retry-After: 1`.
    Throttle,
    /// Not done: 500 `InternalError`.
    InternalError,
    /// Not done. S3: 404 `NoSuchKey`; SQS: 400 `QueueDoesNotExist`.
    NotFound,
    /// Not done: 403 `AccessDenied`.
    Forbidden,
    /// Not done: 403 `AccessDenied` with the text of a refused KMS key.
    KmsDenied,
    /// Not done: the credentials are too old (`ExpiredToken`).
    ExpiredToken,
    /// Not done: the clock of the caller is wrong (403 `RequestTimeTooSkewed`).
    ClockSkew,
    /// Not done: somebody else writes to the same name (S3: 409 `ConditionalRequestConflict`).
    Conflict,
    /// Not done, and never answered.
    NeverAnswer,
    /// Not done: the connection is reset.
    Refuse,
    /// Done, but the connection is reset before the answer.
    LoseAnswer,
    /// Done; the answer's body is cut and the connection closed. Without `bytes`: cut at a random place.
    Truncate {
        /// Bytes of the body that are sent; at least one is always missing.
        #[serde(default)]
        bytes: Option<usize>,
    },
    /// Done; the answer's body is cut and the connection reset. Without `bytes`: cut at a random place.
    ResetBody {
        /// Bytes of the body that are sent; at least one is always missing.
        #[serde(default)]
        bytes: Option<usize>,
    },
    /// Done; the answer's body comes slowly.
    Slow {
        /// Speed.
        bytes_per_second: usize,
    },
    /// Done; the answer comes late.
    Delay {
        /// How late.
        ms: u64,
    },
    /// Done; the answer's body is neither JSON nor XML.
    Garbage,
    /// Done; one byte of the body is changed, the checksum headers are those of the right body.
    Corrupt,
    /// Done; the checksum header does not fit the body, which is right.
    WrongChecksum,
    /// SQS batches: each entry fails by this chance with `InternalError`, the others are done.
    FailEntries {
        /// Chance of each entry, in per cent.
        percent: u8,
    },
}

/// When a fault strikes. What is not given does not limit.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultRule {
    /// The API's name of the call (`GetObject`, `ReceiveMessage`), or `*`.
    pub operation: String,
    /// How the key (S3) or the queue's name (SQS) begins.
    #[serde(default)]
    pub prefix: String,
    /// What goes wrong.
    pub fault: AwsFault,
    /// Chance of each matching call, 0 to 1.
    #[serde(default = "always")]
    pub probability: f64,
    /// Matching calls that are left alone at first.
    #[serde(default)]
    pub skip: u64,
    /// How many times it strikes in all.
    #[serde(default)]
    pub times: Option<u64>,
    /// How many times it strikes each key or queue.
    #[serde(default)]
    pub times_per_key: Option<u64>,
}

fn always() -> f64 {
    1.0
}

impl FaultRule {
    /// Strikes every call of `operation`.
    #[must_use]
    pub fn new(operation: &str, fault: AwsFault) -> Self {
        Self {
            operation: operation.to_owned(),
            prefix: String::new(),
            fault,
            probability: 1.0,
            skip: 0,
            times: None,
            times_per_key: None,
        }
    }

    /// Only keys or queues that begin so.
    #[must_use]
    pub fn prefix(mut self, prefix: &str) -> Self {
        prefix.clone_into(&mut self.prefix);
        self
    }

    /// Only by chance (0 to 1).
    #[must_use]
    pub fn probability(mut self, probability: f64) -> Self {
        self.probability = probability;
        self
    }

    /// Only so many times in all.
    #[must_use]
    pub fn times(mut self, times: u64) -> Self {
        self.times = Some(times);
        self
    }

    /// Only so many times for each key or queue.
    #[must_use]
    pub fn times_per_key(mut self, times: u64) -> Self {
        self.times_per_key = Some(times);
        self
    }

    /// Only after so many matching calls.
    #[must_use]
    pub fn skip(mut self, calls: u64) -> Self {
        self.skip = calls;
        self
    }
}

/// Names a rule, so that it can be asked about and removed.
pub type FaultId = u64;

/// How often a rule has struck.
#[derive(Debug, Clone, Serialize)]
pub struct FaultCount {
    /// The rule's name.
    pub id: FaultId,
    /// Whether it still applies.
    pub active: bool,
    /// How often it struck.
    pub fired: u64,
    /// The rule.
    pub rule: FaultRule,
}

struct Armed {
    count: FaultCount,
    seen: u64,
    per_key: HashMap<String, u64>,
}

/// All rules, tried in the order in which they were added; the first that strikes is the one.
pub(crate) struct Faults {
    rules: Vec<Armed>,
    rng: Rng,
}

impl Faults {
    pub(crate) fn new(seed: u64) -> Self {
        Self { rules: Vec::new(), rng: Rng::stream(seed, 0xFA17) }
    }

    pub(crate) fn add(&mut self, rule: FaultRule) -> FaultId {
        let id = self.rules.len() as FaultId;
        let count = FaultCount { id, active: true, fired: 0, rule };
        self.rules.push(Armed { count, seen: 0, per_key: HashMap::new() });
        id
    }

    /// Ends a rule; its count stays.
    pub(crate) fn remove(&mut self, id: FaultId) {
        for armed in &mut self.rules {
            armed.count.active &= armed.count.id != id;
        }
    }

    pub(crate) fn clear(&mut self) {
        for armed in &mut self.rules {
            armed.count.active = false;
        }
    }

    pub(crate) fn counts(&self) -> Vec<FaultCount> {
        self.rules.iter().map(|armed| armed.count.clone()).collect()
    }

    /// What strikes this call, if anything.
    pub(crate) fn strike(&mut self, operation: &str, key: &str) -> Option<AwsFault> {
        let Self { rules, rng } = self;
        rules.iter_mut().find_map(|armed| armed.strike(operation, key, rng))
    }

    /// A place to cut a body of `len` bytes, where the rule gives none.
    pub(crate) fn cut(&mut self, bytes: Option<usize>, len: usize) -> usize {
        bytes.unwrap_or_else(|| self.rng.below(len.max(1)))
    }

    pub(crate) fn percent(&mut self, percent: u8) -> bool {
        self.rng.chance(f64::from(percent) / 100.0)
    }
}

impl Armed {
    fn strike(&mut self, operation: &str, key: &str, rng: &mut Rng) -> Option<AwsFault> {
        let rule = &self.count.rule;
        let named = rule.operation == "*" || rule.operation == operation;
        if !self.count.active || !named || !key.starts_with(&rule.prefix) {
            return None;
        }
        self.seen += 1;
        let key_fired = self.per_key.get(key).copied().unwrap_or(0);
        let spent = rule.times.is_some_and(|times| self.count.fired >= times)
            || rule.times_per_key.is_some_and(|times| key_fired >= times);
        if self.seen <= rule.skip || spent || !rng.chance(rule.probability) {
            return None;
        }
        self.count.fired += 1;
        if rule.times_per_key.is_some() {
            self.per_key.insert(key.to_owned(), key_fired + 1);
        }
        Some(rule.fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strikes(rule: FaultRule, keys: &[&str]) -> Vec<bool> {
        let mut faults = Faults::new(3);
        let id = faults.add(rule);
        let seen: Vec<_> = keys.iter().map(|key| faults.strike("GetObject", key).is_some()).collect();
        assert_eq!(faults.counts()[id as usize].fired, seen.iter().filter(|hit| **hit).count() as u64);
        seen
    }

    #[test]
    fn a_rule_strikes_what_it_names_and_as_often_as_it_says() {
        let rule = FaultRule::new("GetObject", AwsFault::Throttle);
        assert_eq!(strikes(rule.clone(), &["a", "b"]), [true, true]);
        assert_eq!(strikes(rule.clone().prefix("b"), &["a", "b", "bc"]), [false, true, true]);
        assert_eq!(strikes(rule.clone().times(1), &["a", "b", "a"]), [true, false, false]);
        assert_eq!(strikes(rule.clone().times_per_key(1), &["a", "b", "a"]), [true, true, false]);
        assert_eq!(strikes(rule.clone().skip(1), &["a", "b", "a"]), [false, true, true]);
        assert_eq!(strikes(rule.probability(0.0), &["a", "b"]), [false, false]);
        assert_eq!(strikes(FaultRule::new("PutObject", AwsFault::Throttle), &["a"]), [false]);
        assert_eq!(strikes(FaultRule::new("*", AwsFault::Throttle), &["a"]), [true]);
    }

    #[test]
    fn a_removed_rule_strikes_no_more_and_keeps_its_count() {
        let mut faults = Faults::new(3);
        let id = faults.add(FaultRule::new("*", AwsFault::Forbidden));
        assert_eq!(faults.strike("HeadObject", ""), Some(AwsFault::Forbidden));
        faults.remove(id);
        assert_eq!(faults.strike("HeadObject", ""), None);
        assert_eq!((faults.counts()[0].fired, faults.counts()[0].active), (1, false));
    }

    #[test]
    fn a_rule_can_be_read_from_json() {
        let rule: Result<FaultRule, _> =
            serde_json::from_str(r#"{"operation":"GetObject","fault":{"truncate":{}},"times":2}"#);
        assert!(matches!(
            rule,
            Ok(FaultRule { fault: AwsFault::Truncate { bytes: None }, times: Some(2), .. })
        ));
        assert!(
            serde_json::from_str::<FaultRule>(r#"{"operation":"*","fault":"throttle","time":2}"#).is_err()
        );
    }
}
