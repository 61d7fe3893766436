//! The places for dead letters that the configuration names, and the one that is a queue.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use anyhow::anyhow;
use async_trait::async_trait;
use aws_sdk_sqs::types::SendMessageBatchRequestEntry;
use sinks::ports::{Files, Random};
use sinks::{DeadLetterStore, FileDeadLetters, Letter, MESSAGE_BYTES_MAX, NoDeadLetters, ObjectDeadLetters};

use crate::aws::{Aws, describe};
use crate::config::DeadLetter;
use crate::objects::S3Bucket;

/// Messages of one request.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessageBatch.html>
const BATCH_MESSAGES_MAX: usize = 10;

/// Opens places for dead letters, each once: two stores on one file would cut each other's lines.
pub struct DeadLetterStores<'a> {
    files: &'a Arc<dyn Files>,
    random: &'a Arc<dyn Random>,
    identities: &'a BTreeMap<String, Arc<Aws>>,
    open: Vec<(DeadLetter, Arc<dyn DeadLetterStore>)>,
}

impl<'a> DeadLetterStores<'a> {
    /// None is open yet.
    pub fn new(
        files: &'a Arc<dyn Files>,
        random: &'a Arc<dyn Random>,
        identities: &'a BTreeMap<String, Arc<Aws>>,
    ) -> Self {
        Self { files, random, identities, open: Vec::new() }
    }

    /// The store for a place; for none, one that refuses every letter.
    ///
    /// # Errors
    /// If the place needs an identity that does not exist.
    pub fn open(&mut self, place: Option<&DeadLetter>) -> anyhow::Result<Arc<dyn DeadLetterStore>> {
        let Some(place) = place else { return Ok(Arc::new(NoDeadLetters)) };
        if let Some((_, store)) = self.open.iter().find(|(open, _)| open == place) {
            return Ok(Arc::clone(store));
        }
        let identity =
            |name: &str| self.identities.get(name).ok_or_else(|| anyhow!("no AWS identity `{name}`"));
        let store: Arc<dyn DeadLetterStore> = match place {
            DeadLetter::File { path, .. } => Arc::new(FileDeadLetters::new(Arc::clone(self.files), path)),
            DeadLetter::S3 { bucket, prefix, region, aws } => {
                let client = identity(aws)?.s3(region.as_deref());
                let store = S3Bucket { client, bucket: bucket.clone() };
                Arc::new(ObjectDeadLetters::new(Arc::new(store), Arc::clone(self.random), prefix))
            }
            DeadLetter::Sqs { queue_url, region, aws } => {
                let client = identity(aws)?.sqs(region.as_deref());
                Arc::new(QueueDeadLetters { client, queue_url: queue_url.clone() })
            }
        };
        self.open.push((place.clone(), Arc::clone(&store)));
        Ok(store)
    }
}

/// Dead letters in a queue: one message a letter.
struct QueueDeadLetters {
    client: aws_sdk_sqs::Client,
    queue_url: String,
}

#[async_trait]
impl DeadLetterStore for QueueDeadLetters {
    async fn store(&self, letters: &[Letter]) -> io::Result<()> {
        let messages = letters.iter().map(Letter::to_message).collect::<io::Result<Vec<_>>>()?;
        for batch in batches(messages) {
            self.send(batch).await?;
        }
        Ok(())
    }
}

impl QueueDeadLetters {
    async fn send(&self, batch: Vec<String>) -> io::Result<()> {
        let failed = |why: String| io::Error::other(format!("{}: {why}", self.queue_url));
        let mut request = self.client.send_message_batch().queue_url(&self.queue_url);
        let count = batch.len();
        for (number, body) in batch.into_iter().enumerate() {
            let entry = SendMessageBatchRequestEntry::builder().id(number.to_string()).message_body(body);
            request = request.entries(entry.build().map_err(|error| failed(describe(&error)))?);
        }
        let answer = request.send().await.map_err(|error| failed(describe(&error)))?;
        if let Some(error) = answer.failed().first() {
            let text = error.message().unwrap_or_else(|| error.code());
            return Err(failed(format!("{} of {count} not taken: {text}", answer.failed().len())));
        }
        match answer.successful().len() == count {
            true => Ok(()),
            false => Err(failed("the answer does not name every letter".to_owned())),
        }
    }
}

/// Messages by requests, none of which has too many or is too long.
fn batches(messages: Vec<String>) -> Vec<Vec<String>> {
    let mut batches: Vec<Vec<String>> = Vec::new();
    let mut bytes = 0;
    for message in messages {
        let fits = |batch: &Vec<String>| {
            batch.len() < BATCH_MESSAGES_MAX && bytes + message.len() <= MESSAGE_BYTES_MAX
        };
        match batches.last_mut().filter(|batch| fits(batch)) {
            Some(batch) => {
                bytes += message.len();
                batch.push(message);
            }
            None => {
                bytes = message.len();
                batches.push(vec![message]);
            }
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_at_most_ten_messages_and_their_limit_together() {
        let sizes = |lens: &[usize]| {
            let messages = lens.iter().map(|&len| "x".repeat(len)).collect();
            batches(messages).iter().map(Vec::len).collect::<Vec<_>>()
        };
        assert_eq!(sizes(&[10; 25]), [10, 10, 5]);
        assert_eq!(sizes(&[200_000, 62_144, 1, 262_144, 5, 5]), [2, 1, 1, 2]);
        assert!(sizes(&[]).is_empty());
    }
}
