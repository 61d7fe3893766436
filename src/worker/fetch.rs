//! Where a log file's bytes come from: S3, a local file, or a message itself.

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use async_trait::async_trait;
use aws_sdk_s3::error::{ProvideErrorMetadata as _, SdkError};
use aws_sdk_s3::operation::get_object::GetObjectError;
use bytes::Bytes;

use crate::ports::LocalReader;

/// Which version of the object is read; what goes on later has to be the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Version {
    /// S3 version id.
    pub version_id: Option<String>,
    /// ETag without quotes.
    pub etag: Option<String>,
    /// The reading of the key that the object was found under.
    pub key: Option<String>,
}

/// Why bytes cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Worth another try soon: reset, short, slow, throttled, 5xx.
    #[error("interrupted: {0}")]
    Interrupted(String),
    /// There is no such object (any more, or yet).
    #[error("not found: {0}")]
    NotFound(String),
    /// Permissions of the bucket, the object or its key.
    #[error("access denied: {0}")]
    Denied(String),
    /// The object is another one than the one begun.
    #[error("changed while it was read: {0}")]
    Changed(String),
}

/// Bytes as they arrive.
#[async_trait]
pub trait Stream: Send {
    /// The next bytes; `None` at the end.
    async fn next(&mut self) -> Result<Option<Bytes>, FetchError>;
}

/// An opened log file.
pub struct Opened {
    /// From the asked position on.
    pub stream: Box<dyn Stream>,
    /// What it is.
    pub version: Version,
    /// Bytes that are to come.
    pub len: Option<u64>,
}

/// A log file that can be opened, again and again.
#[async_trait]
pub trait Fetch: Send + Sync {
    /// Opens it at the byte `from`; `pinned` is the version that it has to be.
    ///
    /// # Errors
    /// By what the caller does about it.
    async fn open(&self, from: u64, pinned: &Version) -> Result<Opened, FetchError>;

    /// The readings of its key, where it lies in a bucket: in the order in which they are tried.
    fn keys(&self) -> Vec<&str> {
        Vec::new()
    }

    /// The version that is there now, asked for without its bytes; `None` where that cannot be told.
    async fn current(&self) -> Option<Version> {
        None
    }

    /// Whether it is of any use to open it now, as far as is known without asking.
    fn is_open(&self) -> bool {
        true
    }

    /// Waits until it may be of use. [`is_open`](Self::is_open) holds then, unless that has changed again.
    async fn opened(&self) {}

    /// All of it, where it is kept nowhere else.
    fn document(&self) -> Option<&Bytes> {
        None
    }
}

/// An object in S3.
pub struct S3Object {
    /// A client for the bucket's region.
    pub client: aws_sdk_s3::Client,
    /// The bucket.
    pub bucket: String,
    /// The key, decoded.
    pub key: String,
    /// The other decoding of the key, tried where there is no such object.
    pub key_alternative: Option<String>,
    /// The account that has to own the bucket.
    pub expected_owner: Option<String>,
}

#[async_trait]
impl Fetch for S3Object {
    async fn open(&self, from: u64, pinned: &Version) -> Result<Opened, FetchError> {
        if let Some(key) = &pinned.key {
            return self.get(key, from, pinned).await;
        }
        match (self.get(&self.key, from, pinned).await, &self.key_alternative) {
            (Err(FetchError::NotFound(_)), Some(other)) => self.get(other, from, pinned).await,
            (result, _) => result,
        }
    }

    fn keys(&self) -> Vec<&str> {
        std::iter::once(&self.key).chain(&self.key_alternative).map(String::as_str).collect()
    }

    async fn current(&self) -> Option<Version> {
        for key in self.keys() {
            let request = self.client.head_object().bucket(&self.bucket).key(key);
            let asked = request.set_expected_bucket_owner(self.expected_owner.clone()).send().await;
            match asked {
                Ok(answer) => return Some(version_of(answer.version_id(), answer.e_tag(), key)),
                Err(error) if error.raw_response().map(|answer| answer.status().as_u16()) == Some(404) => {}
                Err(_) => return None,
            }
        }
        None
    }
}

impl S3Object {
    async fn get(&self, key: &str, from: u64, pinned: &Version) -> Result<Opened, FetchError> {
        let request = self
            .client
            .get_object()
            .bucket(&self.bucket)
            .key(key)
            .set_version_id(pinned.version_id.clone())
            .set_expected_bucket_owner(self.expected_owner.clone())
            .set_if_match(pinned.etag.as_ref().map(|etag| format!("\"{etag}\"")))
            .set_range((from > 0).then(|| format!("bytes={from}-")));
        let name = format!("s3://{}/{key}", self.bucket);
        let answer = match request.send().await {
            Ok(answer) => answer,
            // Nothing is missing: the error came behind the last byte.
            Err(error) if from > 0 && status(&error) == Some(416) => {
                let stream = Box::new(InlineStream { rest: None });
                return Ok(Opened { stream, version: pinned.clone(), len: Some(0) });
            }
            Err(error) => return Err(judge(&name, &error)),
        };
        let version = version_of(answer.version_id(), answer.e_tag(), key);
        let mut len = answer.content_length().and_then(|len| u64::try_from(len).ok());
        let starts_at = answer.content_range().map_or(0, |range| range_start(range).unwrap_or(u64::MAX));
        if starts_at > from {
            return Err(FetchError::Interrupted(format!("{name}: another range than the one asked for")));
        }
        // A store that does not know ranges sends everything.
        let skip = from - starts_at;
        len = len.map(|len| len.saturating_sub(skip));
        Ok(Opened { stream: Box::new(S3Stream { body: answer.body, name, skip }), version, len })
    }
}

/// What an answer says of an object.
fn version_of(version_id: Option<&str>, etag: Option<&str>, key: &str) -> Version {
    Version {
        version_id: version_id.filter(|id| *id != "null").map(str::to_owned),
        etag: etag.map(|etag| etag.trim_matches('"').to_owned()),
        key: Some(key.to_owned()),
    }
}

/// The first byte of `bytes 100-199/200`.
fn range_start(content_range: &str) -> Option<u64> {
    content_range.strip_prefix("bytes ")?.split('-').next()?.parse().ok()
}

fn status(error: &SdkError<GetObjectError>) -> Option<u16> {
    error.raw_response().map(|response| response.status().as_u16())
}

/// Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>
fn judge(name: &str, error: &SdkError<GetObjectError>) -> FetchError {
    let code = error.code().unwrap_or_default();
    let status = status(error);
    let text = match status {
        Some(status) => format!("{name}: {code} (HTTP {status}) {}", error.message().unwrap_or_default()),
        None => format!("{name}: {}", crate::aws::describe(error)),
    };
    match (status, code) {
        (_, "NoSuchBucket") => FetchError::Denied(text),
        (_, "NoSuchKey" | "NoSuchVersion") | (Some(404 | 405), _) => FetchError::NotFound(text),
        (Some(412), _) => FetchError::Changed(text),
        (Some(301 | 307), _) | (_, "PermanentRedirect" | "AuthorizationHeaderMalformed") => {
            let region = error
                .raw_response()
                .and_then(|response| response.headers().get("x-amz-bucket-region"))
                .unwrap_or("another region");
            FetchError::Denied(format!("{text}: the bucket is in {region}: set `region` in `buckets`"))
        }
        (_, "RequestTimeTooSkewed" | "ExpiredToken" | "RequestTimeout") => FetchError::Interrupted(text),
        (Some(400 | 401 | 403), _) => FetchError::Denied(text),
        _ => FetchError::Interrupted(text),
    }
}

struct S3Stream {
    body: aws_sdk_s3::primitives::ByteStream,
    name: String,
    /// Bytes to pass over.
    skip: u64,
}

#[async_trait]
impl Stream for S3Stream {
    async fn next(&mut self) -> Result<Option<Bytes>, FetchError> {
        loop {
            let next = self.body.try_next().await.map_err(|error| {
                FetchError::Interrupted(format!("{}: {}", self.name, crate::aws::describe(&error)))
            })?;
            let Some(mut part) = next else { return Ok(None) };
            let passed = part.len().min(usize::try_from(self.skip).unwrap_or(usize::MAX));
            self.skip -= passed as u64;
            let part = part.split_off(passed);
            if !part.is_empty() {
                return Ok(Some(part));
            }
        }
    }
}

/// A local file.
pub struct LocalFile {
    /// Where it is.
    pub path: PathBuf,
}

#[async_trait]
impl Fetch for LocalFile {
    async fn open(&self, from: u64, _pinned: &Version) -> Result<Opened, FetchError> {
        let judge = |error: std::io::Error| {
            let text = format!("{}: {error}", self.path.display());
            match error.kind() {
                std::io::ErrorKind::NotFound => FetchError::NotFound(text),
                std::io::ErrorKind::PermissionDenied => FetchError::Denied(text),
                _ => FetchError::Interrupted(text),
            }
        };
        let (reader, len) = LocalReader::open(&self.path, from).await.map_err(judge)?;
        let name = self.path.display().to_string();
        Ok(Opened {
            stream: Box::new(LocalStream { reader, name }),
            version: Version::default(),
            len: Some(len),
        })
    }
}

struct LocalStream {
    reader: LocalReader,
    name: String,
}

#[async_trait]
impl Stream for LocalStream {
    async fn next(&mut self) -> Result<Option<Bytes>, FetchError> {
        let part = self.reader.next().await;
        part.map_err(|error| FetchError::Interrupted(format!("{}: {error}", self.name)))
    }
}

/// A log file that came inside its message.
pub struct Inline {
    /// All of it.
    pub document: Bytes,
}

#[async_trait]
impl Fetch for Inline {
    async fn open(&self, from: u64, _pinned: &Version) -> Result<Opened, FetchError> {
        let start = usize::try_from(from).unwrap_or(usize::MAX).min(self.document.len());
        let rest = self.document.slice(start..);
        let len = Some(rest.len() as u64);
        Ok(Opened { stream: Box::new(InlineStream { rest: Some(rest) }), version: Version::default(), len })
    }

    fn document(&self) -> Option<&Bytes> {
        Some(&self.document)
    }
}

struct InlineStream {
    rest: Option<Bytes>,
}

#[async_trait]
impl Stream for InlineStream {
    async fn next(&mut self) -> Result<Option<Bytes>, FetchError> {
        Ok(self.rest.take().filter(|rest| !rest.is_empty()))
    }
}
