//! Dead letters in a queue: one message a letter.

use std::collections::HashSet;

use anyhow::anyhow;
use async_trait::async_trait;
use aws_sdk_sqs::error::SdkError;
use aws_sdk_sqs::types::{ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry};

use super::place::{Place, WINDOW};
use crate::aws::describe;

/// Messages of one request.
const BATCH_MESSAGES_MAX: usize = 10;

/// How long a letter that is being sent again is hidden from others, in seconds.
const HIDDEN_S: i32 = 3600;

/// A queue. Letters that stay are given back in the end: given back before, they would come again.
pub(super) struct QueuePlace {
    client: aws_sdk_sqs::Client,
    queue_url: String,
    only_read: bool,
    /// Every message so far, and those that are deleted, by their ids: a standard queue may bring one twice.
    seen: HashSet<String>,
    deleted: HashSet<String>,
    is_empty: bool,
    /// Ids and receipts of the last call.
    received: Vec<(String, String)>,
    /// Receipts to give back.
    stays: Vec<String>,
}

impl QueuePlace {
    pub(super) fn new(client: aws_sdk_sqs::Client, queue_url: &str, only_read: bool) -> Self {
        let (seen, deleted, received, stays) = Default::default();
        let queue_url = queue_url.to_owned();
        Self { client, queue_url, only_read, seen, deleted, is_empty: false, received, stays }
    }

    fn failed<E, R>(&self, error: &SdkError<E, R>) -> anyhow::Error
    where
        E: std::error::Error + 'static,
        R: std::fmt::Debug,
    {
        anyhow!("{}: {}", self.queue_url, describe(error))
    }

    async fn delete(&self, receipts: &[String]) -> anyhow::Result<()> {
        for batch in receipts.chunks(BATCH_MESSAGES_MAX) {
            let mut request = self.client.delete_message_batch().queue_url(&self.queue_url);
            for (number, receipt) in batch.iter().enumerate() {
                let entry = DeleteMessageBatchRequestEntry::builder().id(number.to_string());
                request = request.entries(entry.receipt_handle(receipt).build()?);
            }
            let answer = request.send().await.map_err(|error| self.failed(&error))?;
            if let Some(failed) = answer.failed().first() {
                let text = failed.message().unwrap_or_else(|| failed.code());
                return Err(anyhow!("{}: a delivered letter cannot be deleted: {text}", self.queue_url));
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Place for QueuePlace {
    async fn next(&mut self) -> anyhow::Result<Option<Vec<String>>> {
        let mut texts = Vec::new();
        self.received.clear();
        while texts.len() < WINDOW && !self.is_empty {
            let request = self.client.receive_message().queue_url(&self.queue_url);
            let request =
                request.max_number_of_messages(10).wait_time_seconds(1).visibility_timeout(HIDDEN_S);
            let answer = request.send().await.map_err(|error| self.failed(&error))?;
            // Nothing, or nothing new: those that stay come again only because somebody gave them back.
            self.is_empty = true;
            for message in answer.messages() {
                let (Some(id), Some(receipt)) = (message.message_id(), message.receipt_handle()) else {
                    continue;
                };
                if self.seen.insert(id.to_owned()) {
                    self.is_empty = false;
                    texts.push(message.body().unwrap_or_default().to_owned());
                    self.received.push((id.to_owned(), receipt.to_owned()));
                } else if self.deleted.contains(id) {
                    self.delete(&[receipt.to_owned()]).await?;
                } else {
                    self.stays.push(receipt.to_owned());
                }
            }
        }
        Ok((!texts.is_empty()).then_some(texts))
    }

    async fn settle(&mut self, stays: &[bool]) -> anyhow::Result<()> {
        let all = std::mem::take(&mut self.received).into_iter().zip(stays);
        let (stay, gone): (Vec<_>, Vec<_>) = all.partition(|(_, stays)| **stays || self.only_read);
        self.stays.extend(stay.into_iter().map(|((_, receipt), _)| receipt));
        let (ids, receipts): (Vec<_>, Vec<_>) = gone.into_iter().map(|(message, _)| message).unzip();
        self.delete(&receipts).await?;
        self.deleted.extend(ids);
        Ok(())
    }

    async fn finish(&mut self) -> anyhow::Result<()> {
        for batch in std::mem::take(&mut self.stays).chunks(BATCH_MESSAGES_MAX) {
            let mut request = self.client.change_message_visibility_batch().queue_url(&self.queue_url);
            for (number, receipt) in batch.iter().enumerate() {
                let entry = ChangeMessageVisibilityBatchRequestEntry::builder().id(number.to_string());
                request = request.entries(entry.receipt_handle(receipt).visibility_timeout(0).build()?);
            }
            // One that cannot be given back comes back by itself.
            request.send().await.map_err(|error| self.failed(&error))?;
        }
        Ok(())
    }
}
