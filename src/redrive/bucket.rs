//! Dead letters in a bucket: objects of one letter a line.

use std::collections::VecDeque;

use anyhow::{Context as _, anyhow};
use async_trait::async_trait;
use sinks::ports::ObjectStore as _;

use super::place::{Place, WINDOW};
use crate::aws::describe;
use crate::objects::S3Bucket;

/// The objects under a prefix. One is deleted once all of its letters are gone, and replaced by those that stay
/// where some are.
pub(super) struct BucketPlace {
    bucket: S3Bucket,
    prefix: String,
    only_read: bool,
    /// The keys that are still to be read; `None` before they were listed.
    keys: Option<VecDeque<String>>,
    /// The objects of the last call, with their lines.
    objects: Vec<(String, Vec<String>)>,
}

impl BucketPlace {
    pub(super) fn new(client: aws_sdk_s3::Client, bucket: &str, prefix: &str, only_read: bool) -> Self {
        let bucket = S3Bucket { client, bucket: bucket.to_owned() };
        // As the agent writes them; one object may be named as well.
        let prefix = match prefix.trim_matches('/') {
            folder if folder.is_empty() || folder.ends_with(".ndjson") => folder.to_owned(),
            folder => format!("{folder}/"),
        };
        Self { bucket, prefix, only_read, keys: None, objects: Vec::new() }
    }

    async fn list(&self) -> anyhow::Result<VecDeque<String>> {
        let mut keys = VecDeque::new();
        let mut token = None;
        loop {
            let request =
                self.bucket.client.list_objects_v2().bucket(&self.bucket.bucket).prefix(&self.prefix);
            let answer = request.set_continuation_token(token).send().await;
            let answer = answer.map_err(|error| {
                anyhow!("s3://{}: {}: allow s3:ListBucket", self.bucket.bucket, describe(&error))
            })?;
            let found = answer.contents().iter().filter_map(|object| object.key());
            keys.extend(found.filter(|key| key.ends_with(".ndjson")).map(str::to_owned));
            token = answer.next_continuation_token().map(str::to_owned);
            if token.is_none() {
                return Ok(keys);
            }
        }
    }

    async fn delete(&self, key: &str) -> anyhow::Result<()> {
        let request = self.bucket.client.delete_object().bucket(&self.bucket.bucket).key(key);
        let deleted = request.send().await.map(|_| ());
        deleted.map_err(|error| {
            anyhow!("s3://{}/{key}: {}: allow s3:DeleteObject", self.bucket.bucket, describe(&error))
        })
    }
}

#[async_trait]
impl Place for BucketPlace {
    async fn next(&mut self) -> anyhow::Result<Option<Vec<String>>> {
        let mut keys = match self.keys.take() {
            Some(keys) => keys,
            None => self.list().await?,
        };
        self.objects.clear();
        let mut count = 0;
        while count < WINDOW {
            let Some(key) = keys.pop_front() else { break };
            let content = self.bucket.get(&key).await.map_err(|why| anyhow!("{}", why.text))?;
            let Some(content) = content else { continue };
            let lines: Vec<String> = String::from_utf8_lossy(&content).lines().map(str::to_owned).collect();
            count += lines.len();
            self.objects.push((key, lines));
        }
        self.keys = Some(keys);
        let texts: Vec<String> = self.objects.iter().flat_map(|(_, lines)| lines.clone()).collect();
        Ok((!texts.is_empty()).then_some(texts))
    }

    async fn settle(&mut self, stays: &[bool]) -> anyhow::Result<()> {
        let mut stays = stays.iter();
        for (key, lines) in std::mem::take(&mut self.objects) {
            let kept: Vec<&String> =
                lines.iter().zip(&mut stays).filter(|(_, stays)| **stays).map(|(line, _)| line).collect();
            if self.only_read || kept.len() == lines.len() {
                continue;
            }
            if kept.is_empty() {
                self.delete(&key).await?;
                continue;
            }
            let content: String = kept.iter().flat_map(|line| [line.as_str(), "\n"]).collect();
            let put = self.bucket.put(&key, content.into()).await;
            put.map_err(|why| anyhow!("{}", why.text)).context("the letters that stay cannot be written")?;
        }
        Ok(())
    }

    async fn finish(&mut self) -> anyhow::Result<()> {
        Ok(())
    }
}
