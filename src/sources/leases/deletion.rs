//! Deletes messages that are done, several in one request.

use std::sync::{Arc, Weak};
use std::time::Duration;

use aws_sdk_sqs::types::DeleteMessageBatchRequestEntry;
use tokio::sync::{mpsc, oneshot};

use super::{BATCH_MAX, Leases};

/// How long deletions gather before they are sent together.
const DELETE_DELAY: Duration = Duration::from_millis(50);

/// A message to be deleted.
pub(super) struct Deletion {
    pub(super) receipt: String,
    pub(super) done: oneshot::Sender<Deleted>,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deleted {
    Yes,
    /// The queue could not, or did not answer.
    NotYet,
    /// The receipt is good for nothing any more.
    Never,
}

/// Deletes messages in batches until the leases are gone.
pub(super) async fn delete_all(leases: Weak<Leases>, mut queue: mpsc::UnboundedReceiver<Deletion>) {
    while let Some(first) = queue.recv().await {
        let Some(leases) = leases.upgrade() else { return };
        let mut batch = vec![first];
        let delay = leases.clock.sleep(DELETE_DELAY);
        tokio::pin!(delay);
        while batch.len() < BATCH_MAX {
            tokio::select! {
                biased;
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

impl Leases {
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
        let mut deleted = vec![Deleted::NotYet; batch.len()];
        let mut judge = |id: &str, is: Deleted| {
            if let Some(slot) = id.parse::<usize>().ok().and_then(|at| deleted.get_mut(at)) {
                *slot = is;
            }
        };
        match request.send().await {
            Ok(answer) => {
                answer.successful().iter().for_each(|done| judge(done.id(), Deleted::Yes));
                for failed in answer.failed() {
                    if failed.sender_fault() {
                        judge(failed.id(), Deleted::Never);
                    }
                    let text = format!("{}: {}", failed.code(), failed.message().unwrap_or(""));
                    self.observer.delete_failed(&text);
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
