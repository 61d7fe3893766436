//! What happened, in order: the evidence that a test judges by.

use std::collections::HashMap;

use serde::Serialize;

use super::clock::Millis;

/// One thing that happened to one message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Operation {
    /// When.
    pub at_ms: Millis,
    /// The queue's name.
    pub queue: String,
    /// The message; a duplicate has the id of its original.
    pub message_id: String,
    /// 0 for the original, 1 for its duplicate.
    pub copy: u32,
    /// Which receipt handle of this copy, counted from 1; 0 where no handle plays a part.
    pub generation: u64,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// What happened to a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "what")]
pub enum What {
    /// It was put on the queue.
    Sent,
    /// SQS made a second copy of it, which will be delivered too.
    Duplicated,
    /// It was handed out.
    Received {
        /// When it becomes visible again unless something is done.
        visible_ms: Millis,
    },
    /// It was deleted by its newest handle.
    Deleted,
    /// A delete with an older handle: answered with success, the message stays.
    DeletedStale,
    /// A delete of what was gone already: answered with success.
    DeletedAgain,
    /// Its visibility timeout was changed; 0 seconds is a release.
    Extended {
        /// When it becomes visible again now.
        visible_ms: Millis,
    },
    /// Who had it was killed, and its lease ended, as if its time were over.
    Lapsed {
        /// When.
        visible_ms: Millis,
    },
    /// A change of its visibility timeout was refused.
    ExtendRefused,
    /// It was received too often and went to the dead-letter queue.
    MovedToDeadLetters {
        /// The dead-letter queue's name.
        to: String,
    },
    /// It was older than the queue's retention period.
    Expired,
    /// The queue was purged.
    Purged,
    /// It was sent to the queue again whose dead-letter queue this is.
    Redriven,
}

/// The life of one message on one queue.
#[derive(Debug, Clone, Serialize)]
pub struct MessageHistory {
    /// The queue's name.
    pub queue: String,
    /// The message.
    pub message_id: String,
    /// Its body.
    pub body: String,
    /// Bucket and key of every object that it was sent for, where the stand-in sent it.
    pub objects: Vec<(String, String)>,
    /// When it was sent.
    pub sent_ms: Millis,
    /// Every time it was handed out, in order.
    pub deliveries: Vec<Delivery>,
    /// Whether every copy is gone: deleted, expired, purged or moved to the dead-letter queue.
    pub gone: bool,
    /// Whether it went to the dead-letter queue.
    pub dead_lettered: bool,
}

/// One time that a message was handed out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Delivery {
    /// 0 for the original, 1 for its duplicate.
    pub copy: u32,
    /// Which receipt handle of this copy, counted from 1.
    pub generation: u64,
    /// When.
    pub at_ms: Millis,
    /// When the lease ends or ended: the last known time at which it becomes visible again.
    pub visible_ms: Millis,
    /// When it was deleted by this handle.
    pub deleted_ms: Option<Millis>,
    /// When a delete by this handle came too late: another receive had replaced it.
    pub stale_delete_ms: Option<Millis>,
    /// How often its visibility was changed by this handle.
    pub extensions: u32,
    /// Whether it was given back (visibility 0).
    pub released: bool,
    /// Whether the lease was ended because who had it was killed.
    pub reader_killed: bool,
}

/// Puts the operations of each message together.
pub(crate) fn histories<'a>(
    operations: impl Iterator<Item = &'a Operation>,
    mut describe: impl FnMut(&str, &str) -> (String, Vec<(String, String)>, bool),
) -> Vec<MessageHistory> {
    let mut all: Vec<MessageHistory> = Vec::new();
    let mut places: HashMap<(String, String), usize> = HashMap::new();
    for operation in operations {
        let place = (operation.queue.clone(), operation.message_id.clone());
        let at = *places.entry(place).or_insert_with(|| {
            let (body, objects, gone) = describe(&operation.queue, &operation.message_id);
            all.push(MessageHistory {
                queue: operation.queue.clone(),
                message_id: operation.message_id.clone(),
                body,
                objects,
                sent_ms: operation.at_ms,
                deliveries: Vec::new(),
                gone,
                dead_lettered: false,
            });
            all.len() - 1
        });
        all[at].apply(operation);
    }
    all
}

impl MessageHistory {
    fn apply(&mut self, operation: &Operation) {
        if let What::Received { visible_ms } = operation.what {
            self.deliveries.push(Delivery {
                copy: operation.copy,
                generation: operation.generation,
                at_ms: operation.at_ms,
                visible_ms,
                deleted_ms: None,
                stale_delete_ms: None,
                extensions: 0,
                released: false,
                reader_killed: false,
            });
            return;
        }
        self.dead_lettered |= matches!(operation.what, What::MovedToDeadLetters { .. });
        let same = |d: &&mut Delivery| d.copy == operation.copy && d.generation == operation.generation;
        let Some(delivery) = self.deliveries.iter_mut().find(same) else { return };
        match operation.what {
            What::Deleted => delivery.deleted_ms = Some(operation.at_ms),
            What::DeletedStale => delivery.stale_delete_ms = Some(operation.at_ms),
            What::Extended { visible_ms } => {
                delivery.extensions += 1;
                delivery.visible_ms = visible_ms;
                delivery.released |= visible_ms <= operation.at_ms;
            }
            What::Lapsed { visible_ms } => {
                delivery.visible_ms = visible_ms;
                delivery.reader_killed = true;
            }
            _ => {}
        }
    }
}

/// One request that reached S3.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ObjectRequest {
    /// When.
    pub at_ms: Millis,
    /// The API's name of the call.
    pub operation: String,
    /// The bucket.
    pub bucket: String,
    /// The key; empty for calls on the bucket.
    pub key: String,
    /// The `Range` header.
    pub range: Option<String>,
    /// The version asked for.
    pub version_id: Option<String>,
    /// The owner that the caller expects.
    pub expected_owner: Option<String>,
    /// The access key that signed it.
    pub access_key: Option<String>,
    /// The status of the answer; 0 where the answer was lost or never given.
    pub status: u16,
}
