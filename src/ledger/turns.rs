//! One message at a time delivers a log file: who is told of one that is under way waits, and finds it in the ledger then.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The log files that are under way in this process, by their names in the ledger.
///
/// **Invariant** A name stands here as long as somebody has its turn or waits for it, and no longer.
#[derive(Clone, Default)]
pub struct Turns(Arc<Mutex<HashMap<String, Arc<Semaphore>>>>);

/// The right to deliver a log file, or a place among those who wait for it; ends when it is dropped.
pub struct Turn {
    turns: Turns,
    name: String,
    /// `None` once this is being dropped.
    place: Option<Arc<Semaphore>>,
    /// `None` while it waits.
    permit: Option<OwnedSemaphorePermit>,
}

impl Turns {
    /// The turn, if nobody has it.
    #[must_use]
    pub fn try_take(&self, name: &str) -> Option<Turn> {
        let mut turn = self.place(name);
        turn.permit = Arc::clone(turn.place.as_ref()?).try_acquire_owned().ok();
        turn.permit.is_some().then_some(turn)
    }

    /// Waits for the turn: who came first has it first.
    pub async fn take(&self, name: &str) -> Turn {
        let mut turn = self.place(name);
        if let Some(place) = turn.place.clone() {
            // Nobody closes it.
            turn.permit = place.acquire_owned().await.ok();
        }
        turn
    }

    fn place(&self, name: &str) -> Turn {
        let place =
            Arc::clone(self.lock().entry(name.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(1))));
        Turn { turns: self.clone(), name: name.to_owned(), place: Some(place), permit: None }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Semaphore>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        drop(self.permit.take());
        drop(self.place.take());
        let mut places = self.turns.lock();
        // Places are given out under this lock: nobody else has one, and nobody gets one meanwhile.
        if places.get(&self.name).is_some_and(|place| Arc::strong_count(place) == 1) {
            places.remove(&self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn comes(turn: &mut (impl Future<Output = Turn> + Unpin)) -> Option<Turn> {
        tokio::time::timeout(Duration::from_millis(1), turn).await.ok()
    }

    #[tokio::test(start_paused = true)]
    async fn one_after_the_other_in_the_order_of_their_coming_and_other_names_at_once() {
        let turns = Turns::default();
        let first = turns.try_take("a");
        assert!(first.is_some() && turns.try_take("a").is_none() && turns.try_take("b").is_some());
        let (mut second, mut third) = (Box::pin(turns.take("a")), Box::pin(turns.take("a")));
        assert!(comes(&mut second).await.is_none() && comes(&mut third).await.is_none());
        drop(first);
        assert!(comes(&mut third).await.is_none(), "the second has come before");
        let second = comes(&mut second).await;
        assert!(second.is_some() && comes(&mut third).await.is_none());
        drop(second);
        assert!(comes(&mut third).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_stays_of_what_is_over_or_was_waited_for_in_vain() {
        let turns = Turns::default();
        let first = turns.try_take("a");
        let (mut gone, mut last) = (Box::pin(turns.take("a")), Box::pin(turns.take("a")));
        assert!(comes(&mut gone).await.is_none() && comes(&mut last).await.is_none());
        drop(gone);
        drop(first);
        assert_eq!(turns.lock().len(), 1);
        // It has its turn by now, and is dropped before it knows.
        drop(last);
        assert_eq!(turns.lock().len(), 0);
        drop(turns.try_take("a"));
        assert_eq!(turns.lock().len(), 0);
    }
}
