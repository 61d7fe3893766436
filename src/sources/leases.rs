//! Leases: messages that the agent holds, from receipt to last outcome, and keeps from being delivered again.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_sdk_sqs::types::{ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry};
use sinks::ports::Clock;
use tokio::sync::{Notify, mpsc, oneshot};

use super::Stop;

/// SQS takes this many entries in one request.
const BATCH_MAX: usize = 10;

/// SQS ends a lease 12 hours after receipt, whatever is asked for; before that it is let go of.
/// Source: <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-visibility-timeout.html>
const LEASE_MAX: Duration = Duration::from_secs(11 * 3600 + 45 * 60);

/// How long deletions gather before they are sent together.
const DELETE_DELAY: Duration = Duration::from_millis(50);

/// Told how leases fare.
pub trait LeaseObserver: Send + Sync {
    /// Extensions by outcome: `extended`, `lost`, `failed`.
    fn extended(&self, outcome: &'static str, leases: u64);
    /// A message could not be deleted; it will be delivered again.
    fn delete_failed(&self, error: &str);
}

/// The leases of one queue.
pub struct Leases {
    client: aws_sdk_sqs::Client,
    queue_url: String,
    visibility: Duration,
    clock: Arc<dyn Clock>,
    observer: Arc<dyn LeaseObserver>,
    next: AtomicU64,
    held: Mutex<HashMap<u64, Held>>,
    deletions: mpsc::UnboundedSender<Deletion>,
    freed: Notify,
}

struct Held {
    receipt: String,
    received_at: Duration,
    until: Duration,
    is_closing: bool,
}

struct Deletion {
    receipt: String,
    done: oneshot::Sender<bool>,
}

/// One held message. Dropped, it is neither extended nor deleted: the queue delivers it again.
pub struct Lease {
    leases: Arc<Leases>,
    id: u64,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.leases.lock().remove(&self.id);
        self.leases.freed.notify_waiters();
    }
}

impl Lease {
    /// Deletes the message; true if the queue said so.
    pub async fn delete(self) -> bool {
        let closing = |held: &mut Held| {
            held.is_closing = true;
            held.receipt.clone()
        };
        let receipt = self.leases.lock().get_mut(&self.id).map(closing);
        let Some(receipt) = receipt else { return false };
        let (done, deleted) = oneshot::channel();
        // The lease is kept until the queue has answered: until then it may have to be extended.
        let _ = self.leases.deletions.send(Deletion { receipt, done });
        deleted.await.unwrap_or(false)
    }

    /// Whether the queue still counts the message as ours.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        !self.leases.lock().contains_key(&self.id)
    }
}

impl Leases {
    /// Leases on a queue; starts the task that deletes.
    #[must_use]
    pub fn start(
        client: aws_sdk_sqs::Client,
        queue_url: String,
        visibility: Duration,
        clock: Arc<dyn Clock>,
        observer: Arc<dyn LeaseObserver>,
    ) -> Arc<Self> {
        let (deletions, queue) = mpsc::unbounded_channel();
        let leases = Arc::new(Self {
            client,
            queue_url,
            visibility,
            clock,
            observer,
            next: AtomicU64::new(0),
            held: Mutex::default(),
            deletions,
            freed: Notify::new(),
        });
        tokio::spawn(delete_all(Arc::downgrade(&leases), queue));
        leases
    }

    /// Holds a message that was asked for at `asked_at` and has just arrived.
    #[must_use]
    pub fn hold(self: &Arc<Self>, receipt: String, asked_at: Duration) -> Lease {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let received_at = self.clock.monotonic();
        // The queue's clock may have started as early as the request.
        let until = asked_at.max(received_at.saturating_sub(self.visibility / 4)) + self.visibility;
        self.lock().insert(id, Held { receipt, received_at, until, is_closing: false });
        Lease { leases: Arc::clone(self), id }
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
                () = stop.asked() => return,
                () = self.clock.sleep(beat) => self.extend_due().await,
            }
        }
    }

    /// Extends every lease of which half has passed.
    pub async fn extend_due(&self) {
        let now = self.clock.monotonic();
        let mut due = Vec::new();
        {
            let mut held = self.lock();
            held.retain(|_, lease| now.saturating_sub(lease.received_at) < LEASE_MAX);
            for (&id, lease) in held.iter() {
                if lease.until.saturating_sub(now) < self.visibility / 2 {
                    due.push((id, lease.receipt.clone()));
                }
            }
        }
        for batch in due.chunks(BATCH_MAX) {
            self.change(batch, self.visibility, true).await;
        }
    }

    /// Hands back everything that is still held, so that another agent finds it at once.
    pub async fn release_all(&self) {
        let held: Vec<(u64, String)> =
            self.lock().iter().map(|(&id, held)| (id, held.receipt.clone())).collect();
        for batch in held.chunks(BATCH_MAX) {
            self.change(batch, Duration::ZERO, false).await;
        }
    }

    async fn change(&self, batch: &[(u64, String)], visibility: Duration, counts: bool) {
        let seconds = i32::try_from(visibility.as_secs()).unwrap_or(i32::MAX);
        let mut request = self.client.change_message_visibility_batch().queue_url(&self.queue_url);
        for (position, (_, receipt)) in batch.iter().enumerate() {
            let entry = ChangeMessageVisibilityBatchRequestEntry::builder()
                .id(position.to_string())
                .receipt_handle(receipt)
                .visibility_timeout(seconds)
                .build();
            let Ok(entry) = entry else { continue };
            request = request.entries(entry);
        }
        let asked_at = self.clock.monotonic();
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) => {
                if counts {
                    self.observer.extended("failed", batch.len() as u64);
                }
                tracing::warn!(
                    code = "lease_not_extended",
                    error = %crate::aws::describe(&error),
                    "leases could not be changed; the next beat tries again"
                );
                return;
            }
        };
        let mut held = self.lock();
        let at = |id: &str| id.parse::<usize>().ok().and_then(|position| batch.get(position));
        for done in answer.successful() {
            if let Some(lease) = at(done.id()).and_then(|(id, _)| held.get_mut(id)) {
                lease.until = asked_at + visibility;
            }
        }
        for failed in answer.failed() {
            // Ours no more: a later delete does no harm, but nothing is gained by asking again.
            if let Some((id, _)) = at(failed.id())
                && failed.sender_fault()
            {
                held.remove(id);
            }
        }
        drop(held);
        if counts {
            self.observer.extended("extended", answer.successful().len() as u64);
            self.observer.extended("lost", answer.failed().len() as u64);
        }
        self.freed.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn delete_batch(&self, batch: Vec<Deletion>) {
        let mut request = self.client.delete_message_batch().queue_url(&self.queue_url);
        for (position, deletion) in batch.iter().enumerate() {
            let entry = DeleteMessageBatchRequestEntry::builder()
                .id(position.to_string())
                .receipt_handle(&deletion.receipt)
                .build();
            let Ok(entry) = entry else { continue };
            request = request.entries(entry);
        }
        let mut deleted = vec![false; batch.len()];
        match request.send().await {
            Ok(answer) => {
                for done in answer.successful() {
                    if let Some(slot) = done.id().parse::<usize>().ok().and_then(|at| deleted.get_mut(at)) {
                        *slot = true;
                    }
                }
                for failed in answer.failed() {
                    self.observer.delete_failed(&format!(
                        "{}: {}",
                        failed.code(),
                        failed.message().unwrap_or("")
                    ));
                }
            }
            Err(error) => self.observer.delete_failed(&crate::aws::describe(&error)),
        }
        for (deletion, deleted) in batch.into_iter().zip(deleted) {
            // Nobody may wait any more at a shutdown.
            let _ = deletion.done.send(deleted);
        }
    }
}

/// Deletes messages in batches until the leases are gone.
async fn delete_all(leases: std::sync::Weak<Leases>, mut queue: mpsc::UnboundedReceiver<Deletion>) {
    while let Some(first) = queue.recv().await {
        let Some(leases) = leases.upgrade() else { return };
        let mut batch = vec![first];
        let clock = Arc::clone(&leases.clock);
        let delay = clock.sleep(DELETE_DELAY);
        tokio::pin!(delay);
        while batch.len() < BATCH_MAX {
            tokio::select! {
                next = queue.recv() => match next {
                    Some(next) => batch.push(next),
                    None => break,
                },
                () = &mut delay => break,
            }
        }
        let leases = Arc::clone(&leases);
        tokio::spawn(async move { leases.delete_batch(batch).await });
    }
}
