//! A bucket to write to: dead letters.

use async_trait::async_trait;
use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;
use sinks::ports::ObjectStore;
use sinks::{Reason, ReasonCode};

/// A bucket in S3.
pub struct S3Bucket {
    /// A client for the bucket's region.
    pub client: aws_sdk_s3::Client,
    /// Its name.
    pub bucket: String,
}

#[async_trait]
impl ObjectStore for S3Bucket {
    async fn put(&self, key: &str, bytes: Bytes) -> Result<(), Reason> {
        let request =
            self.client.put_object().bucket(&self.bucket).key(key).content_type("application/x-ndjson");
        request.body(ByteStream::from(bytes)).send().await.map(|_| ()).map_err(|error| {
            let text = format!("s3://{}: {}", self.bucket, crate::aws::describe(&error));
            Reason::new(ReasonCode::Io, text)
        })
    }
}
