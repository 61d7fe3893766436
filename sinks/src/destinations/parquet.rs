//! Parquet for Spark and Athena: whole objects in a bucket or a folder, one for each log file, account, region and day.
//!
//! <https://parquet.apache.org/docs/file-format/>

mod columns;
mod gathering;
mod merging;
mod schema;
mod shred;
mod store;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ::parquet::basic::{Compression as Codec, ZstdLevel};
use ::parquet::errors::Result as ParquetResult;
use ::parquet::file::properties::WriterProperties;
use ::parquet::schema::parser::parse_message_type;
use ::parquet::schema::types::SchemaDescriptor;
use async_trait::async_trait;
use bytes::Bytes;
use serde::Deserialize;

use super::{
    Built, Carrier, CommonSettings, Defaults, Destination, Finding, FindingLevel, Invalid, Reach, SinkPorts,
};
use crate::ports::BucketPlace;
use crate::{
    Compression, Gathering, LogFile, Merge, Object, ObjectSink, Reason, ReasonCode, Redactor, StoreError,
};
use gathering::{Cuts, FileGathering, Format};
use merging::{MergeSettings, Merging};
use shred::Shredder;
use store::Store;

/// What `check` writes, to find out whether it may: readers pass over names that begin so.
const CHECK_NAME: &str = "_trailship_check";
const CHECK_TEXT: &[u8] = b"written by `trailship check`; holds no event, may be deleted\n";

/// Settings of its own.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// A folder to write to; or else `bucket`.
    path: Option<PathBuf>,
    /// A bucket to write to; or else `path`.
    bucket: Option<String>,
    /// What stands before the folders in the bucket, such as `cloudtrail/`.
    #[serde(default)]
    prefix: String,
    /// The bucket's region; that of the identity if it is not given.
    region: Option<String>,
    /// The identity that writes. Default `default`.
    aws: Option<String>,
    /// `zstd` (the default) or `snappy`.
    #[serde(default)]
    compression: Packing,
    /// Whether every row also holds its record as AWS wrote it. Default true.
    #[serde(default = "raw")]
    raw: bool,
    /// Puts what many log files have for one folder into one object. Default: each has objects of its own.
    merge: Option<MergeSettings>,
}

fn raw() -> bool {
    true
}

/// How pages are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Packing {
    #[default]
    Zstd,
    Snappy,
}

/// Where objects go.
#[derive(Clone, Debug)]
enum Target {
    Folder(PathBuf),
    Bucket(BucketPlace, String),
}

impl Settings {
    fn target(self) -> Result<Target, Invalid> {
        let Some(bucket) = self.bucket else {
            let path = self.path.filter(|path| !path.as_os_str().is_empty());
            let path = path.ok_or_else(|| Invalid::new("path", "say where to write: `path` or `bucket`"))?;
            let beside = [
                ("prefix", !self.prefix.is_empty()),
                ("region", self.region.is_some()),
                ("aws", self.aws.is_some()),
            ];
            return match beside.into_iter().find(|(_, is_given)| *is_given) {
                Some((key, _)) => {
                    Err(Invalid::new(key, "belongs to `bucket`: take it away, or name a bucket"))
                }
                None => Ok(Target::Folder(path)),
            };
        };
        if self.path.is_some() {
            return Err(Invalid::new("path", "`path` and `bucket` exclude each other: keep one"));
        }
        // https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html; or the ARN of an access point.
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | ':' | '/');
        if bucket.len() < 3 || !bucket.chars().all(plain) || bucket.starts_with("s3:") {
            return Err(Invalid::new("bucket", "name a bucket, without `s3://` and without a prefix"));
        }
        let prefix = self.prefix.trim_end_matches('/');
        let is_odd = |part: &str| part.is_empty() || part == "." || part == "..";
        if !prefix.is_empty() && (prefix.split('/').any(is_odd) || prefix.chars().any(char::is_control)) {
            return Err(Invalid::new("prefix", "write it as `folder/` or `folder/folder/`"));
        }
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        let aws = self.aws.unwrap_or_else(|| "default".to_owned());
        Ok(Target::Bucket(BucketPlace { bucket, region: self.region, aws }, prefix))
    }
}

impl Destination for Settings {
    const DEFAULTS: Defaults = Defaults {
        // There are no batches: an object is closed where its log file ends.
        batch_bytes: 1,
        batch_bytes_limit: 1,
        batch_events: 1,
        batch_age: Duration::ZERO,
        concurrency_max: 8,
        compression: Compression::None,
        idle_connection_max: None,
        reach: Reach::Store,
    };

    fn build(self, common: &CommonSettings) -> Result<Built, Invalid> {
        let set_up = |packing| {
            let shredder = Shredder { common: common.clone(), raw: self.raw };
            Format::new(shredder, packing, Cuts::USUAL).map(Arc::new).map_err(|error| {
                Invalid::new("type", format!("the columns cannot be set up: {error}: please report this"))
            })
        };
        let merge = match &self.merge {
            None => None,
            Some(settings) => Some((settings.limits()?, set_up(self.compression)?)),
        };
        // What is merged is read again before it is stored: it is packed so that this is quick.
        let format = set_up(if merge.is_some() { Packing::Snappy } else { self.compression })?;
        let target = self.target()?;
        let (shown, identity) = match &target {
            Target::Folder(path) => (path.display().to_string(), None),
            Target::Bucket(place, prefix) => {
                (format!("s3://{}/{prefix}", place.bucket), Some(place.aws.clone()))
            }
        };
        Ok(Built {
            carrier: Carrier::Objects(Box::new(move |ports: &SinkPorts| {
                let store = Arc::new(Store::open(target, ports)?);
                let merge = match merge {
                    None => None,
                    Some((limits, format)) => {
                        Some(Arc::new(Merging::new(limits, format, Arc::clone(&store))?))
                    }
                };
                Ok(Arc::new(ParquetSink { format, store, merge }) as Arc<dyn ObjectSink>)
            })),
            endpoints: vec![shown],
            defaults: Self::DEFAULTS,
            probe: None,
            signing: None,
            identity,
            redactor: Redactor::new(),
        })
    }
}

impl Format {
    fn new(shredder: Shredder, packing: Packing, cuts: Cuts) -> ParquetResult<Self> {
        let schema = Arc::new(parse_message_type(&schema::message())?);
        let leaves = schema::leaves();
        let codec = match packing {
            Packing::Snappy => Codec::SNAPPY,
            Packing::Zstd => Codec::ZSTD(ZstdLevel::try_new(1)?),
        };
        // No version and no time: the same events have to make the same bytes.
        let mut properties =
            WriterProperties::builder().set_created_by("trailship".to_owned()).set_compression(codec);
        for (leaf, column) in leaves.iter().zip(SchemaDescriptor::new(Arc::clone(&schema)).columns()) {
            if !leaf.dictionary {
                properties = properties.set_column_dictionary_enabled(column.path().clone(), false);
            }
        }
        Ok(Self { shredder, schema, properties: Arc::new(properties.build()), leaves, cuts })
    }
}

struct ParquetSink {
    format: Arc<Format>,
    store: Arc<Store>,
    merge: Option<Arc<Merging>>,
}

#[async_trait]
impl ObjectSink for ParquetSink {
    fn gather(&self, file: &LogFile) -> Box<dyn Gathering> {
        Box::new(FileGathering::new(Arc::clone(&self.format), file))
    }

    async fn store(&self, object: &Object) -> Result<(), StoreError> {
        self.store.put(&object.name, object.bytes.clone()).await.map_err(judge)
    }

    fn merge(&self) -> Option<Arc<dyn Merge>> {
        self.merge.as_ref().map(|merge| Arc::clone(merge) as Arc<dyn Merge>)
    }

    async fn check(&self) -> Vec<(String, Finding)> {
        let what = "write".to_owned();
        let text = Bytes::from_static(CHECK_TEXT);
        let mut said = vec![match self.store.put(CHECK_NAME, text).await {
            Ok(()) => (what, Finding::good(format!("objects can be written (left: {CHECK_NAME})"))),
            Err(why) => {
                let remedy = match &*self.store {
                    Store::Folder(..) => "check the folder's permissions",
                    Store::Bucket(..) => "check `bucket`, `region`, and that `aws` may s3:PutObject there",
                };
                (what, Finding::failed(format!("{why}: {remedy}")))
            }
        }];
        if let (Some(merge), [(_, finding)]) = (&self.merge, said.as_slice())
            && finding.level == FindingLevel::Good
        {
            said.push(("merge".to_owned(), merge.check().await));
        }
        said
    }
}

/// What the lane does about it.
fn judge(why: Reason) -> StoreError {
    match why.code {
        ReasonCode::Unauthorized | ReasonCode::Misconfigured => StoreError::Denied(why),
        _ => StoreError::Unavailable(why),
    }
}
