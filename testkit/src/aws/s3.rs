//! Buckets, objects and their versions.

mod chunked;
mod list;
mod multipart;
mod upload;
pub(super) mod wire;

use std::collections::BTreeMap;

use bytes::Bytes;
use flate2::Crc;
use serde::{Deserialize, Serialize};

use super::clock::Millis;
use super::log::ObjectRequest;
use super::notify::Notification;
use super::{hex, md5};
use crate::random::Rng;
use multipart::Upload;

/// Text of a refusal by KMS, as S3 passes it on.
const KMS_TEXT: &str = "User is not authorized to perform: kms:Decrypt on the resource associated with this ciphertext because \
                        no identity-based policy allows the kms:Decrypt action";

/// What a new bucket is like.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BucketOptions {
    /// The account that owns it. Default: the stand-in's account.
    pub owner: Option<String>,
    /// Where it lies. Default: the stand-in's region.
    pub region: Option<String>,
    /// Whether it keeps versions.
    pub versioned: bool,
    /// Answer requests that were signed for another region with 301.
    pub strict_region: bool,
    /// Refuse to read any object, as where the reader may not use the KMS key.
    pub kms_denied: bool,
    /// Take no notice of `If-None-Match` where an object is written, as stores do that are older than it.
    pub ignores_conditions: bool,
    /// ARN of the only role whose sessions may use it. Default: everyone may.
    pub role: Option<String>,
}

/// A bucket.
pub(crate) struct Bucket {
    pub(crate) owner: String,
    pub(crate) region: String,
    pub(crate) options: BucketOptions,
    pub(crate) notifications: Vec<Notification>,
    /// The versions of each key, oldest first.
    objects: BTreeMap<String, Vec<Version>>,
    uploads: BTreeMap<String, Upload>,
}

/// One version of an object.
#[derive(Debug, Clone)]
pub(crate) struct Version {
    /// `null` where the bucket keeps no versions.
    pub(crate) id: String,
    pub(crate) body: Bytes,
    /// Without the quotation marks.
    pub(crate) etag: String,
    pub(crate) crc32: u32,
    pub(crate) modified_ms: Millis,
    /// Headers that are given back: content type and coding, own metadata, encryption.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) delete_marker: bool,
    pub(crate) kms_denied: bool,
    /// Orders the events of one key.
    pub(crate) sequencer: String,
}

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct S3Error {
    pub(crate) status: u16,
    pub(crate) code: &'static str,
    pub(crate) message: String,
    pub(crate) headers: Vec<(&'static str, String)>,
}

impl S3Error {
    pub(crate) fn new(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), headers: Vec::new() }
    }

    pub(crate) fn no_key() -> Self {
        Self::new(404, "NoSuchKey", "The specified key does not exist.")
    }

    pub(crate) fn denied() -> Self {
        Self::new(403, "AccessDenied", "Access Denied")
    }

    pub(crate) fn kms() -> Self {
        Self::new(403, "AccessDenied", KMS_TEXT)
    }

    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// What to put.
#[derive(Debug, Clone, Default)]
pub(crate) struct NewObject {
    pub(crate) body: Bytes,
    pub(crate) headers: Vec<(String, String)>,
    /// Refuse where the key exists.
    pub(crate) if_absent: bool,
    /// The entity tag, where it is not the body's MD5 (multipart uploads).
    pub(crate) etag: Option<String>,
}

/// All buckets.
pub(crate) struct S3 {
    pub(crate) buckets: BTreeMap<String, Bucket>,
    pub(crate) requests: Vec<ObjectRequest>,
    sequence: u64,
    rng: Rng,
}

impl S3 {
    pub(crate) fn new(seed: u64) -> Self {
        Self { buckets: BTreeMap::new(), requests: Vec::new(), sequence: 0, rng: Rng::stream(seed, 0x53) }
    }

    pub(crate) fn create(&mut self, name: &str, account: &str, region: &str, options: BucketOptions) {
        let owner = options.owner.clone().unwrap_or_else(|| account.to_owned());
        let region = options.region.clone().unwrap_or_else(|| region.to_owned());
        let new = Bucket {
            owner,
            region,
            options,
            notifications: Vec::new(),
            objects: BTreeMap::new(),
            uploads: BTreeMap::new(),
        };
        self.buckets.entry(name.to_owned()).or_insert(new);
    }

    pub(crate) fn bucket(&mut self, name: &str) -> Result<&mut Bucket, S3Error> {
        let missing = || S3Error::new(404, "NoSuchBucket", "The specified bucket does not exist");
        self.buckets.get_mut(name).ok_or_else(missing)
    }

    pub(crate) fn put(
        &mut self,
        bucket: &str,
        key: &str,
        new: NewObject,
        now: Millis,
    ) -> Result<Version, S3Error> {
        let id = self.version_id(bucket)?;
        self.sequence += 1;
        let sequencer = format!("{:018X}", self.sequence);
        let bucket = self.bucket(bucket)?;
        if new.if_absent && !bucket.options.ignores_conditions && bucket.newest(key).is_some() {
            let message = "At least one of the pre-conditions you specified did not hold";
            return Err(S3Error::new(412, "PreconditionFailed", message));
        }
        let mut crc = Crc::new();
        crc.update(&new.body);
        let version = Version {
            id,
            etag: new.etag.unwrap_or_else(|| hex(&md5(&new.body))),
            crc32: crc.sum(),
            body: new.body,
            modified_ms: now,
            headers: new.headers,
            delete_marker: false,
            kms_denied: false,
            sequencer,
        };
        bucket.store(key, version.clone());
        Ok(version)
    }

    /// Deletes an object, or one version of it. Gives the delete marker that was left, if any.
    pub(crate) fn delete(
        &mut self,
        bucket: &str,
        key: &str,
        version: Option<&str>,
        now: Millis,
    ) -> Result<Option<Version>, S3Error> {
        let id = self.version_id(bucket)?;
        self.sequence += 1;
        let sequencer = format!("{:018X}", self.sequence);
        let bucket = self.bucket(bucket)?;
        if let Some(version) = version {
            if let Some(versions) = bucket.objects.get_mut(key) {
                versions.retain(|one| one.id != version);
            }
            return Ok(None);
        }
        if !bucket.options.versioned {
            bucket.objects.remove(key);
            return Ok(None);
        }
        let marker = Version {
            id,
            body: Bytes::new(),
            etag: String::new(),
            crc32: 0,
            modified_ms: now,
            headers: Vec::new(),
            delete_marker: true,
            kms_denied: false,
            sequencer,
        };
        bucket.store(key, marker.clone());
        Ok(Some(marker))
    }

    /// The newest version, or the one asked for.
    pub(crate) fn get(
        &mut self,
        bucket: &str,
        key: &str,
        version: Option<&str>,
    ) -> Result<&Version, S3Error> {
        let bucket = self.bucket(bucket)?;
        let kms_denied = bucket.options.kms_denied;
        let found = match version {
            None => {
                bucket.objects.get(key).and_then(|versions| versions.last()).ok_or_else(S3Error::no_key)?
            }
            Some(id) => {
                let named = |versions: &'_ Vec<Version>| versions.iter().position(|one| one.id == id);
                let missing = || S3Error::new(404, "NoSuchVersion", "The specified version does not exist.");
                let versions = bucket.objects.get(key).ok_or_else(missing)?;
                &versions[named(versions).ok_or_else(missing)?]
            }
        };
        if found.delete_marker {
            let gone = match version {
                None => S3Error::no_key(),
                Some(_) => S3Error::new(
                    405,
                    "MethodNotAllowed",
                    "The specified method is not allowed against this resource.",
                ),
            };
            return Err(gone.with("x-amz-delete-marker", "true").with("x-amz-version-id", found.id.clone()));
        }
        if kms_denied || found.kms_denied {
            return Err(S3Error::kms());
        }
        Ok(found)
    }

    fn version_id(&mut self, bucket: &str) -> Result<String, S3Error> {
        let id = format!("{:016x}{:016x}", self.rng.bits(), self.rng.bits());
        let versioned = self.bucket(bucket)?.options.versioned;
        Ok(if versioned { id } else { "null".to_owned() })
    }
}

impl Bucket {
    /// The newest version of a key, unless it is deleted.
    pub(crate) fn newest(&self, key: &str) -> Option<&Version> {
        self.objects.get(key)?.last().filter(|version| !version.delete_marker)
    }

    /// Every key with its newest version, in the order of the keys.
    pub(crate) fn keys_from<'a>(
        &'a self,
        first: &str,
    ) -> impl Iterator<Item = (&'a str, &'a Version)> + use<'a> {
        self.objects
            .range(first.to_owned()..)
            .filter_map(|(key, versions)| versions.last().map(|version| (key.as_str(), version)))
            .filter(|(_, version)| !version.delete_marker)
    }

    /// Refuses reads of one object, as where the reader may not use its KMS key.
    pub(crate) fn deny_key(&mut self, key: &str, denied: bool) {
        for version in self.objects.get_mut(key).into_iter().flatten() {
            version.kms_denied = denied;
        }
    }

    fn store(&mut self, key: &str, version: Version) {
        let versioned = self.options.versioned;
        let versions = self.objects.entry(key.to_owned()).or_default();
        if !versioned {
            versions.clear();
        }
        versions.push(version);
    }
}
