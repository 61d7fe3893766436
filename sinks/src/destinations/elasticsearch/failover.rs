//! Several addresses of one cluster: the one that answers is kept, one that does not is left for the next.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::super::Endpoint;

/// The endpoints, and whose turn it is.
///
/// All slots of a lane share the turn: what one of them finds out about an endpoint spares the others the wait.
pub(super) struct Failover {
    endpoints: Vec<Endpoint>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Counts the changes from one endpoint to the next.
    turn: usize,
    /// By slot: the turn in which its last request was sent, until that was answered well.
    open: BTreeMap<u32, usize>,
}

impl Failover {
    /// `endpoints` is not empty; the first one's turn comes first.
    pub(super) fn new(endpoints: Vec<Endpoint>) -> Self {
        Self { endpoints, state: Mutex::default() }
    }

    /// All of them, as configured.
    pub(super) fn all(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// The address for the next request of `slot`. If its last one came to nothing, the turn passes to the next
    /// endpoint, unless another slot has seen to that meanwhile.
    pub(super) fn next(&self, slot: u32) -> &str {
        let mut state = self.lock();
        if state.open.get(&slot) == Some(&state.turn) {
            state.turn = state.turn.wrapping_add(1);
        }
        let turn = state.turn;
        state.open.insert(slot, turn);
        self.endpoints.get(turn % self.endpoints.len().max(1)).map_or("", |endpoint| &endpoint.base)
    }

    /// The endpoint that the last request of `slot` went to does its work, whatever it said of the request.
    pub(super) fn answered(&self, slot: u32) {
        self.lock().open.remove(&slot);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is complete before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn failover(count: usize) -> Failover {
        let endpoint = |at| Endpoint::parse("endpoints", &format!("https://{at}.example")).unwrap();
        Failover::new((0..count).map(endpoint).collect())
    }

    /// The number of the endpoint that the slot asks.
    fn ask(failover: &Failover, slot: u32) -> usize {
        let base = failover.next(slot);
        failover.all().iter().position(|endpoint| endpoint.base == base).unwrap()
    }

    #[test]
    fn the_endpoint_that_answered_is_asked_again_and_a_silent_one_is_not() {
        let failover = failover(3);
        assert_eq!(ask(&failover, 0), 0);
        // No answer from the first: the second, and from then on the second.
        assert_eq!(ask(&failover, 0), 1);
        failover.answered(0);
        for slot in [0, 1, 2, 0] {
            assert_eq!(ask(&failover, slot), 1);
            failover.answered(slot);
        }
        // Down in its turn: all the others are tried before it is asked again.
        assert_eq!([(); 5].map(|()| ask(&failover, 0)), [1, 2, 0, 1, 2]);
    }

    #[test]
    fn slots_that_waited_for_the_same_endpoint_do_not_push_the_turn_past_a_good_one() {
        let failover = failover(3);
        assert_eq!([0, 1, 2].map(|slot| ask(&failover, slot)), [0, 0, 0]);
        assert_eq!(ask(&failover, 1), 1);
        failover.answered(1);
        assert_eq!([0, 2, 1].map(|slot| ask(&failover, slot)), [1, 1, 1]);
    }

    #[test]
    fn a_failure_of_long_ago_says_nothing_of_the_endpoint_s_next_turn() {
        let failover = failover(2);
        assert_eq!([ask(&failover, 0), ask(&failover, 7)], [0, 0]);
        assert_eq!([ask(&failover, 0), ask(&failover, 0)], [1, 0]);
        failover.answered(0);
        assert_eq!(ask(&failover, 7), 0);
    }

    #[test]
    fn a_single_endpoint_is_always_asked() {
        let failover = failover(1);
        assert_eq!([(); 3].map(|()| ask(&failover, 0)), [0, 0, 0]);
    }
}
