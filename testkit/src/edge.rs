//! Moments around a request at which a test may act: above all, to end the process that sent it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Where a request stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// It has arrived; nothing of what it asks for is done.
    Arrived,
    /// What it asks for is done; it is not answered yet.
    Done,
}

/// What a test does there. Runs before anything else happens to the request.
type Act = Box<dyn FnOnce() + Send>;

struct Armed {
    operation: String,
    moment: Moment,
    skip: u64,
    act: Act,
}

/// The acts that are to come, and how many requests have arrived.
#[derive(Default)]
pub(crate) struct Edges {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    armed: Vec<Armed>,
    arrived: BTreeMap<String, u64>,
}

impl Edges {
    /// Has `act` happen once, after `skip` requests of that operation have passed the same moment.
    pub(crate) fn arm(
        &self,
        operation: &str,
        moment: Moment,
        skip: u64,
        act: impl FnOnce() + Send + 'static,
    ) {
        let operation = operation.to_owned();
        self.lock().armed.push(Armed { operation, moment, skip, act: Box::new(act) });
    }

    /// Lets a request pass a moment; true where a test has acted there. Then nothing more is done about the request,
    /// and nobody answers it.
    pub(crate) fn pass(&self, operation: &str, moment: Moment) -> bool {
        let mut state = self.lock();
        if moment == Moment::Arrived {
            *state.arrived.entry(operation.to_owned()).or_default() += 1;
        }
        let is_meant = |armed: &Armed| armed.operation == operation && armed.moment == moment;
        let mut now = None;
        for at in (0..state.armed.len()).rev() {
            match &mut state.armed[at] {
                armed if !is_meant(armed) => {}
                Armed { skip: 0, .. } => now = Some(state.armed.remove(at).act),
                armed => armed.skip -= 1,
            }
        }
        drop(state);
        let acts = now.is_some();
        if let Some(act) = now {
            act();
        }
        acts
    }

    /// How many requests of an operation have arrived.
    pub(crate) fn arrived(&self, operation: &str) -> u64 {
        self.lock().arrived.get(operation).copied().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is complete before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn a_test_acts_once_at_the_moment_and_at_the_request_that_it_names() {
        let (edges, acted) = (Edges::default(), Arc::new(AtomicU64::new(0)));
        let counted = Arc::clone(&acted);
        edges.arm("GetObject", Moment::Done, 1, move || {
            counted.fetch_add(1, Ordering::SeqCst);
        });
        let passes: Vec<bool> = (0..3)
            .flat_map(|_| [Moment::Arrived, Moment::Done].map(|moment| edges.pass("GetObject", moment)))
            .collect();
        assert_eq!(passes, [false, false, false, true, false, false]);
        assert!(!edges.pass("PutObject", Moment::Done));
        assert_eq!(acted.load(Ordering::SeqCst), 1);
        assert_eq!((edges.arrived("GetObject"), edges.arrived("HeadObject")), (3, 0));
    }
}
