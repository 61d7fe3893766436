//! A place that dead letters are taken from, a number of them at a time.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{anyhow, bail};
use async_trait::async_trait;

use super::bucket::BucketPlace;
use super::file::FilePlace;
use super::queue::QueuePlace;
use crate::aws::Aws;
use crate::config::{DEFAULT_IDENTITY, DeadLetter};

/// Letters that are sent together, at least.
pub(super) const WINDOW: usize = 500;

/// Where letters are.
#[async_trait]
pub trait Place: Send {
    /// The next letters, in the form that the place has them in; `None` after the last.
    ///
    /// # Errors
    /// If they cannot be read.
    async fn next(&mut self) -> anyhow::Result<Option<Vec<String>>>;

    /// Says of each letter of the last [`next`](Self::next) whether it stays.
    ///
    /// # Errors
    /// If those that do not stay cannot be taken away.
    async fn settle(&mut self, stays: &[bool]) -> anyhow::Result<()>;

    /// No more letters are asked for: puts everything in order.
    ///
    /// # Errors
    /// If it cannot be; then no letter is lost, but some may be there twice.
    async fn finish(&mut self) -> anyhow::Result<()>;
}

/// Opens a place; where nothing is to be changed, it only reads.
///
/// # Errors
/// If another redrive is at work there, or the place cannot be reached at all.
pub async fn open(
    place: &DeadLetter,
    identities: &BTreeMap<String, Arc<Aws>>,
    only_read: bool,
) -> anyhow::Result<Box<dyn Place>> {
    let identity = |name: &str| identities.get(name).ok_or_else(|| anyhow!("no AWS identity `{name}`"));
    Ok(match place {
        DeadLetter::File { path, .. } => Box::new(FilePlace::open(path, only_read).await?),
        DeadLetter::S3 { bucket, prefix, region, aws } => {
            let client = identity(aws)?.s3(region.as_deref());
            Box::new(BucketPlace::new(client, bucket, prefix, only_read))
        }
        DeadLetter::Sqs { queue_url, region, aws } => {
            let client = identity(aws)?.sqs(region.as_deref());
            Box::new(QueuePlace::new(client, queue_url, only_read))
        }
    })
}

/// Reads a place from the command line: a file, `s3://bucket/prefix`, or a queue's address.
///
/// # Errors
/// What is wrong with it.
pub fn parse(text: &str, known: &[&DeadLetter]) -> anyhow::Result<DeadLetter> {
    if let Some(known) = known.iter().find(|known| known.to_string() == text) {
        return Ok((*known).clone());
    }
    let aws = DEFAULT_IDENTITY.to_owned();
    if let Some(rest) = text.strip_prefix("s3://") {
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() {
            bail!("{text}: names no bucket, such as s3://bucket/prefix");
        }
        // The identity and the region of that bucket may be known.
        let of_bucket = known.iter().find_map(|known| match known {
            DeadLetter::S3 { bucket: other, region, aws, .. } if other == bucket => {
                Some((region.clone(), aws.clone()))
            }
            _ => None,
        });
        let (region, aws) = of_bucket.unwrap_or((None, aws));
        return Ok(DeadLetter::S3 { bucket: bucket.to_owned(), prefix: prefix.to_owned(), region, aws });
    }
    if text.starts_with("https://") || text.starts_with("http://") {
        return Ok(DeadLetter::Sqs { queue_url: text.to_owned(), region: None, aws });
    }
    Ok(DeadLetter::File { path: PathBuf::from(text), durable: true })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_place_is_a_file_a_bucket_or_a_queue() {
        let archive = DeadLetter::S3 {
            bucket: "letters".to_owned(),
            prefix: "a/".to_owned(),
            region: Some("eu-west-1".to_owned()),
            aws: "archive".to_owned(),
        };
        let read = |text: &str| parse(text, &[&archive]).unwrap();
        assert_eq!(read("s3://letters/a/"), archive);
        assert!(matches!(read("s3://letters/a/2024"), DeadLetter::S3 { prefix, aws, .. }
            if prefix == "a/2024" && aws == "archive"));
        assert!(matches!(read("s3://other"), DeadLetter::S3 { aws, .. } if aws == "default"));
        assert!(matches!(read("https://sqs.eu-west-1.amazonaws.com/1/q"), DeadLetter::Sqs { .. }));
        assert!(matches!(read("letters.ndjson"), DeadLetter::File { .. }));
        assert!(parse("s3:///x", &[]).is_err());
    }
}
