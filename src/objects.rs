//! Buckets to write to: dead letters, and destinations that are stores.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::get_object::builders::GetObjectFluentBuilder;
use aws_sdk_s3::operation::put_object::builders::PutObjectFluentBuilder;
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
    fn failed<E>(&self, error: &SdkError<E>) -> Reason
    where
        E: std::error::Error + ProvideErrorMetadata + 'static,
    {
        let status = status(error);
        let code = judge(status, error.code().unwrap_or_default(), error);
        let why = Reason::new(code, format!("s3://{}: {}", self.bucket, describe(error)));
        status.map_or(why.clone(), |status| why.with_status(status))
    }

    fn putting(&self, key: &str) -> PutObjectFluentBuilder {
        let kind = if key.ends_with(".ndjson") { "application/x-ndjson" } else { "application/octet-stream" };
        self.client.put_object().bucket(&self.bucket).key(key).content_type(kind)
    }

    async fn read(&self, request: GetObjectFluentBuilder) -> Result<Option<Bytes>, Reason> {
        let answer = match request.send().await {
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

fn status<E>(error: &SdkError<E>) -> Option<u16> {
    error.raw_response().map(|response| response.status().as_u16())
}

/// Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>
fn judge<E>(status: Option<u16>, code: &str, error: &SdkError<E>) -> ReasonCode {
    match (status, code) {
        (_, "SlowDown" | "ThrottlingException" | "RequestLimitExceeded") | (Some(429 | 503), _) => {
            ReasonCode::Throttled
        }
        // New credentials, or the next try, will do.
        (_, "RequestTimeTooSkewed" | "ExpiredToken" | "RequestTimeout") | (Some(408 | 409), _) => {
            ReasonCode::ServerError
        }
        (_, "NoSuchBucket" | "NotImplemented") | (Some(301 | 307 | 404 | 405), _) => {
            ReasonCode::Misconfigured
        }
        (Some(401 | 403), _) => ReasonCode::Unauthorized,
        (Some(400..=499), _) => ReasonCode::Misconfigured,
        (Some(_), _) => ReasonCode::ServerError,
        (None, _) => match error {
            SdkError::TimeoutError(_) => ReasonCode::Timeout,
            SdkError::DispatchFailure(_) => ReasonCode::Connection,
            SdkError::ConstructionFailure(_) => ReasonCode::Misconfigured,
            _ => ReasonCode::Io,
        },
    }
}

#[async_trait]
impl ObjectStore for S3Bucket {
    async fn put(&self, key: &str, bytes: Bytes) -> Result<(), Reason> {
        let request = self.putting(key).body(ByteStream::from(bytes));
        request.send().await.map(|_| ()).map_err(|error| self.failed(&error))
    }

    /// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html>
    async fn put_new(&self, key: &str, bytes: Bytes) -> Result<bool, Reason> {
        let request = self.putting(key).if_none_match("*").body(ByteStream::from(bytes));
        match request.send().await {
            Ok(_) => Ok(true),
            Err(error) if status(&error) == Some(412) => Ok(false),
            // 409, another write at the same time: again later.
            Err(error) => Err(self.failed(&error)),
        }
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>, Reason> {
        self.read(self.client.get_object().bucket(&self.bucket).key(key)).await
    }

    async fn start(&self, key: &str, len: usize) -> Result<Option<Bytes>, Reason> {
        let range = format!("bytes=0-{}", len.max(1) - 1);
        self.read(self.client.get_object().bucket(&self.bucket).key(key).range(range)).await
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
