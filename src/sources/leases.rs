//! Leases: messages that the agent holds, from receipt to last outcome, and keeps from being delivered again.

mod deletion;
#[cfg(test)]
pub(super) mod tests;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_sdk_sqs::types::ChangeMessageVisibilityBatchRequestEntry;
use futures_util::StreamExt as _;
use sinks::ports::{Clock, Random};
use sinks::{Delays, RetryConfig};
use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::Stop;
use deletion::{Deleted, Deletion};

/// SQS takes this many entries in one request.
const BATCH_MAX: usize = 10;

/// Requests that change leases at once: one that hangs must not let the others lapse.
const CHANGES_MAX: usize = 32;

/// SQS ends a lease 12 hours after receipt and refuses to extend it beyond; less what clocks may differ by.
/// Source: <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-visibility-timeout.html>
const VISIBILITY_MAX: Duration = Duration::from_secs(12 * 3600 - 10);

/// From then on a lease is ending: what holds it parts with the message.
const ENDING_AFTER: Duration = Duration::from_secs(11 * 3600 + 45 * 60);

/// A lease that is still held then is let go of.
const LEASE_MAX: Duration = Duration::from_secs(11 * 3600 + 55 * 60);

/// Told how leases fare.
pub trait LeaseObserver: Send + Sync {
    /// Extensions by outcome: `extended`, `lost`, `failed`; `late` for a message that was deleted though its lease had
    /// been lost, so that somebody else may have it.
    fn extended(&self, outcome: &'static str, leases: u64);
    /// A message could not be deleted; it is tried again while its lease lasts.
    fn delete_failed(&self, error: &str);
}

/// The leases of one queue.
pub struct Leases {
    client: aws_sdk_sqs::Client,
    queue_url: String,
    visibility: Duration,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    observer: Arc<dyn LeaseObserver>,
    next: AtomicU64,
    held: Mutex<BTreeMap<u64, Held>>,
    deletions: mpsc::UnboundedSender<Deletion>,
    freed: Notify,
}

struct Held {
    receipt: String,
    /// When the queue's clock may have started.
    start: Duration,
    until: Duration,
    is_closing: bool,
    /// Whether it must not be given back before its time.
    stays: bool,
    /// Whether the lease is ending. Dropped with the entry, which tells the lease that it is lost.
    ending: watch::Sender<bool>,
}

/// One held message. Dropped, it is neither extended nor deleted: the queue delivers it again.
pub struct Lease {
    leases: Arc<Leases>,
    id: u64,
    receipt: String,
    ending: watch::Receiver<bool>,
    is_handed_back: bool,
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.is_handed_back {
            self.leases.lock().remove(&self.id);
            self.leases.freed.notify_waiters();
        }
    }
}

impl Lease {
    /// Deletes the message; true if the queue said so. What fails is tried again while the lease lasts.
    pub async fn delete(self) -> bool {
        // The lease is kept until the queue has answered: until then it may have to be extended.
        self.change(|held| held.is_closing = true);
        let mut delays = Delays::new(&RetryConfig::default());
        loop {
            let (done, deleted) = oneshot::channel();
            let _ = self.leases.deletions.send(Deletion { receipt: self.receipt.clone(), done });
            match deleted.await {
                Ok(Deleted::Yes) => {
                    if self.is_lost() {
                        self.leases.observer.extended("late", 1);
                    }
                    return true;
                }
                Ok(Deleted::NotYet) if !self.is_lost() => {
                    self.leases.clock.sleep(delays.next(None, &*self.leases.random)).await;
                }
                Ok(Deleted::NotYet | Deleted::Never) | Err(_) => return false,
            }
        }
    }

    /// Leaves the message to the queue's own dead-letter policy: it is not given back before its time.
    pub fn stay(&self) {
        self.change(|held| held.stays = true);
    }

    /// Puts the message back, to be visible again after `delay`; at once where that is nothing.
    pub async fn put_back(self, delay: Duration) {
        let change = self.leases.lock().get(&self.id).filter(|held| !held.stays).map(|held| {
            let left = (held.start + VISIBILITY_MAX).saturating_sub(self.leases.clock.monotonic());
            Change { id: self.id, receipt: self.receipt.clone(), visibility: delay.min(left) }
        });
        if let Some(change) = change {
            self.leases.change_all(&[change], false).await;
        }
    }

    /// Keeps the message until everything is given back, at a shutdown.
    pub fn hand_back(mut self) {
        self.is_handed_back = true;
    }

    /// Whether the queue does not count the message as ours any more.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        !self.leases.lock().contains_key(&self.id)
    }

    /// Waits until the lease is lost.
    pub async fn lost(&self) {
        let mut ending = self.ending.clone();
        while ending.changed().await.is_ok() {}
    }

    /// Whether the lease has lasted nearly as long as it may.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        *self.ending.borrow()
    }

    /// Waits until the lease is ending.
    pub async fn ending(&self) {
        let mut ending = self.ending.clone();
        if ending.wait_for(|is_ending| *is_ending).await.is_err() {
            // It is lost, which is another thing.
            std::future::pending::<()>().await;
        }
    }

    fn change(&self, change: impl FnOnce(&mut Held)) {
        if let Some(held) = self.leases.lock().get_mut(&self.id) {
            change(held);
        }
    }
}

/// A new visibility of one message, from now on.
struct Change {
    id: u64,
    receipt: String,
    visibility: Duration,
}

impl Leases {
    /// Leases on a queue; starts the task that deletes.
    #[must_use]
    pub fn start(
        client: aws_sdk_sqs::Client,
        queue_url: String,
        visibility: Duration,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        observer: Arc<dyn LeaseObserver>,
    ) -> Arc<Self> {
        let (deletions, queue) = mpsc::unbounded_channel();
        let leases = Arc::new(Self {
            client,
            queue_url,
            visibility,
            clock,
            random,
            observer,
            next: AtomicU64::new(0),
            held: Mutex::default(),
            deletions,
            freed: Notify::new(),
        });
        tokio::spawn(deletion::delete_all(Arc::downgrade(&leases), queue));
        leases
    }

    /// Waits until the task that deletes has ended, which it does only of a bug.
    pub async fn deleter_ended(&self) {
        self.deletions.closed().await;
    }

    /// Holds a message that was asked for at `asked_at` and has just arrived.
    #[must_use]
    pub fn hold(self: &Arc<Self>, receipt: String, asked_at: Duration) -> Lease {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        // The queue's clock may have started as early as the request.
        let start = asked_at.max(self.clock.monotonic().saturating_sub(self.visibility / 4));
        let (sender, ending) = watch::channel(false);
        let held = Held {
            receipt: receipt.clone(),
            start,
            until: start + self.visibility,
            is_closing: false,
            stays: false,
            ending: sender,
        };
        self.lock().insert(id, held);
        Lease { leases: Arc::clone(self), id, receipt, ending, is_handed_back: false }
    }

    /// How many of the messages held are only to be deleted yet.
    #[must_use]
    pub fn closing(&self) -> usize {
        self.lock().values().filter(|held| held.is_closing).count()
    }

    /// How many messages are held.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    /// Waits until fewer than `max` messages are held.
    pub async fn below(&self, max: usize) {
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            if self.count() < max {
                return;
            }
            freed.await;
        }
    }

    /// Extends leases until told to stop.
    pub async fn heartbeat(self: Arc<Self>, stop: Stop) {
        let beat = (self.visibility / 6).clamp(Duration::from_millis(200), Duration::from_secs(30));
        loop {
            tokio::select! {
                biased;
                () = stop.asked() => return,
                () = self.clock.sleep(beat) => self.extend_due().await,
            }
        }
    }

    /// Extends every lease of which half has passed, tells those that are ending, and gives back those that have lasted
    /// as long as they may.
    pub async fn extend_due(&self) {
        let now = self.clock.monotonic();
        let (mut due, mut over) = (Vec::new(), Vec::new());
        self.lock().retain(|&id, held| {
            if now.saturating_sub(held.start) >= LEASE_MAX {
                if !held.is_closing && !held.stays {
                    over.push(Change { id, receipt: held.receipt.clone(), visibility: Duration::ZERO });
                }
                return false;
            }
            if now.saturating_sub(held.start) >= ENDING_AFTER && !*held.ending.borrow() {
                let _ = held.ending.send(true);
            }
            let until = (now + self.visibility).min(held.start + VISIBILITY_MAX);
            let gains = until > held.until + Duration::from_secs(1);
            if gains && held.until.saturating_sub(now) < self.visibility / 2 {
                due.push(Change { id, receipt: held.receipt.clone(), visibility: until.saturating_sub(now) });
            }
            true
        });
        self.freed.notify_waiters();
        tokio::join!(self.change_all(&due, true), self.change_all(&over, false));
    }

    /// Hands back everything that is still held and may be, so that another agent finds it at once.
    pub async fn release_all(&self) {
        let free = |(&id, held): (&u64, &Held)| {
            let is_free = !held.is_closing && !held.stays;
            is_free.then(|| Change { id, receipt: held.receipt.clone(), visibility: Duration::ZERO })
        };
        let free: Vec<Change> = self.lock().iter().filter_map(free).collect();
        self.change_all(&free, false).await;
    }

    async fn change_all(&self, changes: &[Change], counts: bool) {
        let batches = futures_util::stream::iter(changes.chunks(BATCH_MAX));
        batches.for_each_concurrent(CHANGES_MAX, |batch| self.change(batch, counts)).await;
    }

    async fn change(&self, batch: &[Change], counts: bool) {
        let mut request = self.client.change_message_visibility_batch().queue_url(&self.queue_url);
        for (position, change) in batch.iter().enumerate() {
            let entry = ChangeMessageVisibilityBatchRequestEntry::builder()
                .id(position.to_string())
                .receipt_handle(&change.receipt)
                .visibility_timeout(i32::try_from(change.visibility.as_secs()).unwrap_or(i32::MAX))
                .build();
            let Ok(entry) = entry else { continue };
            request = request.entries(entry);
        }
        let asked_at = self.clock.monotonic();
        let answer = tokio::select! {
            biased;
            answer = request.send() => answer.map_err(|error| crate::aws::describe(&error)),
            () = self.clock.sleep(self.visibility / 4) => Err("no answer in time".to_owned()),
        };
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                if counts {
                    self.observer.extended("failed", batch.len() as u64);
                }
                tracing::warn!(
                    code = "lease_not_extended",
                    error,
                    "leases could not be changed; the next beat tries again"
                );
                return;
            }
        };
        let at = |id: &str| id.parse::<usize>().ok().and_then(|position| batch.get(position));
        let mut held = self.lock();
        for change in answer.successful().iter().filter_map(|done| at(done.id())) {
            if let Some(lease) = held.get_mut(&change.id) {
                lease.until = asked_at + change.visibility;
            }
        }
        // Those are ours no more: nothing is gained by asking again.
        for failed in answer.failed().iter().filter(|failed| failed.sender_fault()) {
            at(failed.id()).and_then(|change| held.remove(&change.id));
        }
        drop(held);
        if counts {
            self.observer.extended("extended", answer.successful().len() as u64);
            self.observer.extended("lost", answer.failed().len() as u64);
        }
        self.freed.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
