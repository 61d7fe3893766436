//! Which of several equal targets (indexers, tokens, sources) a request goes to: one that failed is left alone for a
//! while, and a sink is denied only once all of its targets are.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Invalid;
use crate::{Attempt, Judgement, ReasonCode, Secret};

/// For so many requests of the sink a target is left alone after its first failure, and twice as many after each
/// further one, up to the second. Counted in requests: a destination knows no time.
const REST: [u32; 2] = [8, 512];

/// The secrets of a key that names one target or, in the plural, several; each with its own key.
pub(crate) fn one_or_several(
    key: &str,
    one: Option<Secret>,
    several: Vec<Secret>,
) -> Result<Vec<(String, Secret)>, Invalid> {
    let plural = format!("{key}s");
    match (one, several.is_empty()) {
        (Some(one), true) => Ok(vec![(key.to_owned(), one)]),
        (Some(_), false) => Err(Invalid::new(&plural, format!("give {key} or {plural}, not both"))),
        (None, true) => Err(Invalid::new(key, format!("missing: give it, or several as {plural}"))),
        (None, false) => {
            Ok(several.into_iter().enumerate().map(|(at, it)| (format!("{plural}.{at}"), it)).collect())
        }
    }
}

/// What `check` calls one of several targets.
pub(crate) fn numbered(what: &str, at: usize, count: usize) -> String {
    if count > 1 { format!("{what} {} of {count}", at + 1) } else { what.to_owned() }
}

/// Remembers how each target fared. Of one target it changes nothing.
pub(crate) struct Failover {
    state: Mutex<State>,
}

struct State {
    targets: Vec<Target>,
    /// Where each slot's request has gone, and whether it was answered.
    sent: BTreeMap<u32, (usize, bool)>,
}

#[derive(Clone, Default)]
struct Target {
    failures: u32,
    /// Requests until it is tried again.
    rest: u32,
    is_denied: bool,
}

impl Failover {
    /// For so many targets, at least one.
    pub(crate) fn new(targets: usize) -> Self {
        let targets = vec![Target::default(); targets.max(1)];
        Self { state: Mutex::new(State { targets, sent: BTreeMap::new() }) }
    }

    /// The target of the request that an attempt is about to make: `first` or the next that does not rest. If all do,
    /// each in turn.
    pub(crate) fn choose(&self, attempt: &Attempt, first: usize) -> usize {
        let mut state = self.lock();
        if let Some(&(unanswered, false)) = state.sent.get(&attempt.slot) {
            state.failed(unanswered, false);
        }
        state.targets.iter_mut().for_each(|target| target.rest = target.rest.saturating_sub(1));
        let count = state.targets.len();
        let in_turn = (first + attempt.number as usize) % count;
        let rested = |at: &usize| state.targets.get(*at).is_some_and(|target| target.rest == 0);
        let chosen = (0..count).map(|at| (first + at) % count).find(rested).unwrap_or(in_turn);
        state.sent.insert(attempt.slot, (chosen, false));
        chosen
    }

    /// The target that an attempt has used.
    pub(crate) fn chosen(&self, attempt: &Attempt, first: usize) -> usize {
        let state = self.lock();
        let count = state.targets.len();
        state.sent.get(&attempt.slot).map_or((first + attempt.number as usize) % count, |&(chosen, _)| chosen)
    }

    /// What an answer to an attempt says of its target; what it means for the sink.
    ///
    /// A target that only has too much to do is not left: the others are meant for when it fails.
    pub(crate) fn judged(&self, attempt: &Attempt, first: usize, judgement: Judgement) -> Judgement {
        let target = self.chosen(attempt, first);
        let mut state = self.lock();
        state.sent.insert(attempt.slot, (target, true));
        match judgement {
            Judgement::Each(_) | Judgement::Strained(_) => {
                if let Some(target) = state.targets.get_mut(target) {
                    *target = Target::default();
                }
                judgement
            }
            Judgement::Unavailable { ref why, .. } if why.code != ReasonCode::Throttled => {
                state.failed(target, false);
                judgement
            }
            Judgement::Denied(mut why) => {
                state.failed(target, true);
                if state.targets.iter().all(|target| target.is_denied) {
                    return Judgement::Denied(why);
                }
                why.text = format!("one of several, the next is used: {}", why.text);
                Judgement::Unavailable { why, retry_after: None }
            }
            Judgement::Unavailable { .. } | Judgement::Refused(_) | Judgement::TooLarge(_) => judgement,
        }
    }

    /// Leaves the target of an attempt although it was only too busy.
    pub(crate) fn leave(&self, attempt: &Attempt, first: usize) {
        let target = self.chosen(attempt, first);
        self.lock().failed(target, false);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is complete before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn failed(&mut self, target: usize, is_denied: bool) {
        let [least, most] = REST;
        if let Some(target) = self.targets.get_mut(target) {
            target.rest = least.saturating_mul(1 << target.failures.min(16)).min(most);
            target.failures = target.failures.saturating_add(1);
            target.is_denied = is_denied;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Reason, Verdict};

    fn slot(slot: u32) -> Attempt {
        Attempt { slot, ..Attempt::default() }
    }

    fn good() -> Judgement {
        Judgement::Each(vec![Verdict::Delivered])
    }

    fn denied() -> Judgement {
        Judgement::Denied(Reason::new(ReasonCode::Unauthorized, "no"))
    }

    fn down(code: ReasonCode) -> Judgement {
        Judgement::Unavailable { why: Reason::new(code, "down"), retry_after: None }
    }

    /// The targets of so many requests, of which those to `bad` are judged so, the others good.
    fn run(failover: &Failover, requests: usize, bad: usize, how: &Judgement) -> String {
        let send = |_| {
            let target = failover.choose(&slot(0), 0);
            failover.judged(&slot(0), 0, if target == bad { how.clone() } else { good() });
            char::from(b'a' + u8::try_from(target).unwrap_or_default())
        };
        (0..requests).map(send).collect()
    }

    #[test]
    fn the_first_is_used_as_long_as_it_works() {
        assert_eq!(run(&Failover::new(2), 4, 1, &denied()), "aaaa");
        assert_eq!(run(&Failover::new(1), 3, 0, &denied()), "aaa");
    }

    #[test]
    fn a_target_that_fails_is_left_alone_for_longer_each_time() {
        for how in [denied(), down(ReasonCode::ServerError), down(ReasonCode::Garbled)] {
            let used = run(&Failover::new(2), 40, 0, &how);
            let tries: Vec<usize> = used.match_indices('a').map(|(at, _)| at).collect();
            assert_eq!(tries, [0, 8, 24], "{used}");
        }
        let long = run(&Failover::new(2), 3000, 0, &denied());
        assert_eq!(long.matches('a').count(), 11, "at most one in 512 in the end");
    }

    #[test]
    fn a_target_that_works_again_is_used_again() {
        let failover = Failover::new(2);
        assert_eq!(run(&failover, 3, 0, &denied()), "abb");
        assert_eq!(run(&failover, 4, 1, &denied()), "baaa", "now that the other fails");
    }

    #[test]
    fn one_that_is_only_busy_or_refuses_events_is_not_left() {
        let why = || Reason::new(ReasonCode::Invalid, "no");
        for how in [down(ReasonCode::Throttled), Judgement::Refused(why()), Judgement::TooLarge(why())] {
            assert_eq!(run(&Failover::new(2), 3, 0, &how), "aaa");
        }
        let failover = Failover::new(2);
        failover.choose(&slot(0), 0);
        failover.leave(&slot(0), 0);
        failover.judged(&slot(0), 0, down(ReasonCode::Throttled));
        assert_eq!(failover.choose(&slot(0), 0), 1);
    }

    #[test]
    fn a_request_without_an_answer_is_a_failure_of_its_target() {
        let failover = Failover::new(2);
        assert_eq!(failover.choose(&slot(3), 0), 0);
        // Another slot knows nothing of it yet; this one has been asked again.
        assert_eq!(failover.choose(&slot(4), 0), 0);
        assert_eq!(failover.choose(&slot(3), 0), 1);
        assert_eq!(failover.chosen(&slot(3), 0), 1);
        failover.judged(&slot(4), 0, good());
        assert_eq!(failover.choose(&slot(3), 0), 0, "it answers");
    }

    #[test]
    fn a_sink_is_denied_only_once_all_targets_are() {
        let failover = Failover::new(3);
        let judge = |number, how: &Judgement| {
            let attempt = Attempt { number, ..Attempt::default() };
            let target = failover.choose(&attempt, 0);
            (target, failover.judged(&attempt, 0, how.clone()))
        };
        for expected in 0..2 {
            let (target, judgement) = judge(0, &denied());
            assert_eq!(target, expected);
            assert!(matches!(judgement, Judgement::Unavailable { ref why, .. }
                if why.code == ReasonCode::Unauthorized && why.text == "one of several, the next is used: no"));
        }
        assert_eq!(judge(0, &denied()), (2, denied()));
        // Down is not denied.
        judge(0, &down(ReasonCode::ServerError));
        assert!(matches!(judge(1, &denied()), (1, Judgement::Unavailable { .. })));
    }

    #[test]
    fn where_all_rest_each_is_asked_in_turn() {
        let failover = Failover::new(3);
        for number in 0..7 {
            let attempt = Attempt { number, ..Attempt::default() };
            assert_eq!(failover.choose(&attempt, 0), number as usize % 3);
            failover.judged(&attempt, 0, denied());
        }
    }

    #[test]
    fn slots_start_at_different_targets() {
        let failover = Failover::new(2);
        assert_eq!([0, 1, 2].map(|at| failover.choose(&slot(at), at as usize % 2)), [0, 1, 0]);
    }
}
