//! A value that others wait for.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// A value that others wait for. Unlike tokio's `watch`, which draws the order, it wakes them in the order in which they
/// began to wait: a simulation can be replayed.
#[derive(Debug)]
pub struct Watched<T> {
    value: Mutex<T>,
    changed: Notify,
}

impl<T: Clone + PartialEq> Watched<T> {
    /// A value.
    #[must_use]
    pub fn new(value: T) -> Self {
        Self { value: Mutex::new(value), changed: Notify::new() }
    }

    /// The value now.
    #[must_use]
    pub fn get(&self) -> T {
        self.lock().clone()
    }

    /// Changes the value.
    pub fn set(&self, value: T) {
        let mut now = self.lock();
        if *now == value {
            return;
        }
        *now = value;
        drop(now);
        self.changed.notify_waiters();
    }

    /// Waits for a value of which `holds` is true, and gives it. A value that was replaced before it could be looked at is
    /// not seen.
    pub async fn wait_for(&self, holds: impl Fn(&T) -> bool) -> T {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Registered before the look, so that no change falls between the two.
            changed.as_mut().enable();
            {
                let now = self.lock();
                if holds(&now) {
                    return now.clone();
                }
            }
            changed.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, T> {
        self.value.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn whoever_waits_is_woken_in_the_order_of_waiting() {
        let watched = Arc::new(Watched::new(0));
        let order = Arc::new(Mutex::new(Vec::new()));
        let waiting: Vec<_> = (0..40)
            .map(|number| {
                let (watched, order) = (Arc::clone(&watched), Arc::clone(&order));
                tokio::spawn(async move {
                    let value = watched.wait_for(|value| *value > 0).await;
                    order.lock().unwrap().push((number, value));
                })
            })
            .collect();
        tokio::task::yield_now().await;
        watched.set(0);
        watched.set(7);
        for task in waiting {
            task.await.unwrap();
        }
        assert_eq!(*order.lock().unwrap(), (0..40).map(|number| (number, 7)).collect::<Vec<_>>());
        assert_eq!(watched.wait_for(|value| *value == 7).await, 7, "what is there need not be waited for");
    }
}
