//! Buckets to write to: dead letters, and destinations that are stores.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_s3::error::ProvideErrorMetadata as _;
use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;
use sinks::ports::{BucketPlace, ObjectStore, ObjectStores};
use sinks::{Reason, ReasonCode};

use crate::aws::{Aws, describe};

/// A bucket in S3.
pub struct S3Bucket {
    /// A client for the bucket's region.
    pub client: aws_sdk_s3::Client,
    /// Its name.
    pub bucket: String,
}

impl S3Bucket {
    fn failed<E, R>(&self, error: &aws_sdk_s3::error::SdkError<E, R>) -> Reason
    where
        E: std::error::Error + 'static,
        R: std::fmt::Debug,
    {
        Reason::new(ReasonCode::Io, format!("s3://{}: {}", self.bucket, describe(error)))
    }
}

#[async_trait]
impl ObjectStore for S3Bucket {
    async fn put(&self, key: &str, bytes: Bytes) -> Result<(), Reason> {
        let kind = if key.ends_with(".ndjson") { "application/x-ndjson" } else { "application/octet-stream" };
        let request = self.client.put_object().bucket(&self.bucket).key(key).content_type(kind);
        request.body(ByteStream::from(bytes)).send().await.map(|_| ()).map_err(|error| self.failed(&error))
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>, Reason> {
        let answer = match self.client.get_object().bucket(&self.bucket).key(key).send().await {
            Ok(answer) => answer,
            Err(error) if error.code() == Some("NoSuchKey") => return Ok(None),
            Err(error) => return Err(self.failed(&error)),
        };
        let cut = |error: &dyn std::error::Error| {
            Reason::new(ReasonCode::Io, format!("s3://{}: the answer was cut short: {error}", self.bucket))
        };
        answer.body.collect().await.map(|body| Some(body.into_bytes())).map_err(|error| cut(&error))
    }
}

/// The buckets that the identities of the configuration can open.
pub struct S3Buckets {
    /// By name.
    pub identities: Arc<BTreeMap<String, Arc<Aws>>>,
}

impl ObjectStores for S3Buckets {
    fn open(&self, place: &BucketPlace) -> Result<Arc<dyn ObjectStore>, Reason> {
        let aws = self.identities.get(&place.aws).ok_or_else(|| {
            Reason::new(ReasonCode::Misconfigured, format!("there is no identity [aws.{}]", place.aws))
        })?;
        let client = aws.s3(place.region.as_deref());
        Ok(Arc::new(S3Bucket { client, bucket: place.bucket.clone() }))
    }
}
