//! Objects of many log files: when they are closed, how their rows are put together, and an object without any.

use std::sync::Arc;
use std::time::Duration;

use ::parquet::errors::{ParquetError, Result};
use ::parquet::file::reader::{FileReader as _, SerializedFileReader};
use ::parquet::file::writer::SerializedFileWriter;
use async_trait::async_trait;
use bytes::Bytes;
use serde::Deserialize;
use tokio::sync::OnceCell;

use super::columns::Columns;
use super::gathering::Format;
use super::store::Store;
use super::{CHECK_TEXT, Finding, Invalid, judge};
use crate::destinations::duration::{DURATION_EXPECTED, parse_duration};
use crate::destinations::size::{SIZE_EXPECTED, parse_size};
use crate::{Merge, MergeLimits, Reason, ReasonCode, StoreError};

/// What stands behind the first four bytes of an object without rows, where any other has its first page.
const VOID_MARK: &[u8] = b"trailship: void";

/// The bytes with which every Parquet file begins and ends. <https://parquet.apache.org/docs/file-format/>
const MAGIC: &[u8] = b"PAR1";

/// How much of an object tells whether it is void.
pub(super) const VOID_START: usize = MAGIC.len() + VOID_MARK.len();

/// The table `merge`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MergeSettings {
    /// Bytes that wait for one object: what the log files would take by themselves. Default 128 MiB.
    max_bytes: Option<String>,
    /// How long the first of them waits. Default 5 minutes.
    max_age: Option<String>,
    /// Log files in one object; parts of one count each. Default 5,000.
    max_log_files: Option<u32>,
}

impl MergeSettings {
    pub(super) fn limits(&self) -> std::result::Result<MergeLimits, Invalid> {
        let expected = |key: &str, what: &str| Invalid::new(&format!("merge.{key}"), format!("write {what}"));
        let bytes_max = match &self.max_bytes {
            None => 128 << 20,
            Some(text) => parse_size(text).ok_or_else(|| expected("max_bytes", SIZE_EXPECTED))?,
        };
        let age_max = match &self.max_age {
            None => Duration::from_secs(300),
            Some(text) => parse_duration(text).ok_or_else(|| expected("max_age", DURATION_EXPECTED))?,
        };
        // S3 takes at most 5 GiB in one piece. https://docs.aws.amazon.com/AmazonS3/latest/userguide/upload-objects.html
        if !(1 << 20..=4 << 30).contains(&bytes_max) {
            return Err(expected("max_bytes", "a size from \"1MiB\" to \"4GiB\""));
        }
        // The lease of a message ends after 12 hours.
        if !(Duration::from_secs(1)..=Duration::from_secs(3600)).contains(&age_max) {
            return Err(expected("max_age", "a duration from \"1s\" to \"1h\""));
        }
        let pieces_max = self.max_log_files.unwrap_or(5_000);
        if !(2..=10_000).contains(&pieces_max) {
            return Err(expected("max_log_files", "a number from 2 to 10000"));
        }
        let patience = age_max.clamp(Duration::from_secs(10), Duration::from_secs(120));
        Ok(MergeLimits { bytes_max, age_max, pieces_max: pieces_max as usize, patience })
    }
}

impl Format {
    /// One object with the rows of all, in this order.
    pub(super) fn join(&self, objects: &[Bytes]) -> Result<Bytes> {
        let mut columns = Columns::new(&self.leaves);
        let mut writer = self.writer()?;
        for object in objects {
            let reader = SerializedFileReader::new(object.clone())?;
            for group in 0..reader.num_row_groups() {
                columns.append(&*reader.get_row_group(group)?)?;
                if columns.bytes() >= self.cuts.group_bytes {
                    columns.write(&mut writer)?;
                }
            }
        }
        if columns.rows() > 0 {
            columns.write(&mut writer)?;
        }
        writer.into_inner().map(Bytes::from)
    }

    /// An object without rows, which is a Parquet file all the same.
    pub(super) fn void(&self) -> Result<Bytes> {
        let empty = self.writer()?.into_inner()?;
        let rest = empty.strip_prefix(MAGIC);
        let rest = rest.ok_or_else(|| ParquetError::General("no Parquet file begins so".to_owned()))?;
        // Its footer points at nothing, so it may stand anywhere.
        Ok([MAGIC, VOID_MARK, rest].concat().into())
    }

    /// A writer of an object.
    pub(super) fn writer(&self) -> Result<SerializedFileWriter<Vec<u8>>> {
        SerializedFileWriter::new(Vec::new(), Arc::clone(&self.schema), Arc::clone(&self.properties))
    }
}

/// Whether an object that begins so has no rows.
pub(super) fn is_void(start: &[u8]) -> bool {
    start.strip_prefix(MAGIC).is_some_and(|rest| rest.starts_with(VOID_MARK))
}

/// Objects of many log files, in a store.
pub(super) struct Merging {
    limits: MergeLimits,
    format: Arc<Format>,
    store: Arc<Store>,
    void: Bytes,
    /// Set once the store has been seen to keep what stands at a name.
    keeps: OnceCell<()>,
}

/// Written twice to find out whether the store keeps what stands at a name.
const KEEPS_NAME: &str = "_trailship/check";

impl Merging {
    pub(super) fn new(
        limits: MergeLimits,
        format: Arc<Format>,
        store: Arc<Store>,
    ) -> std::result::Result<Self, Reason> {
        let void = format.void().map_err(|error| failed(&error))?;
        Ok(Self { limits, format, store, void, keeps: OnceCell::new() })
    }

    /// Finds out whether the store keeps what stands at a name when it is asked to. One that takes no notice of
    /// `If-None-Match` would let two writers store the same events.
    async fn see_that_it_keeps(&self) -> std::result::Result<(), Reason> {
        let text = Bytes::from_static(CHECK_TEXT);
        if !self.store.put_new(KEEPS_NAME, text.clone()).await?
            || !self.store.put_new(KEEPS_NAME, text).await?
        {
            return Ok(());
        }
        let text = "the store writes over an object in spite of `If-None-Match: *`, which `merge` needs: take `merge` away";
        Err(Reason::new(ReasonCode::Misconfigured, text))
    }

    /// What `check` says.
    pub(super) async fn check(&self) -> Finding {
        if let Err(why) = self.see_that_it_keeps().await {
            return Finding::failed(why.to_string());
        }
        let remedy = "`merge` needs s3:GetObject below the prefix, and s3:ListBucket on the bucket, without which S3 \
                      does not say that an object is not there";
        for (name, is_there) in [(KEEPS_NAME, true), ("_trailship/not-there", false)] {
            match self.store.start(name, VOID_START).await {
                Ok(found) if found.is_some() == is_there => {}
                Ok(_) => return Finding::failed(format!("{name} is not as it was left: {remedy}")),
                Err(why) => return Finding::failed(format!("{why}: {remedy}")),
            }
        }
        Finding::good("objects can be merged: what stands at a name is kept, and can be read".to_owned())
    }
}

fn failed(error: &ParquetError) -> Reason {
    Reason::new(ReasonCode::Other, format!("cannot merge Parquet: {error}: please report this"))
}

#[async_trait]
impl Merge for Merging {
    fn limits(&self) -> MergeLimits {
        self.limits
    }

    fn join(&self, objects: &[Bytes]) -> std::result::Result<Bytes, Reason> {
        self.format.join(objects).map_err(|error| failed(&error))
    }

    fn void(&self) -> Bytes {
        self.void.clone()
    }

    fn is_void(&self, start: &[u8]) -> bool {
        is_void(start)
    }

    async fn put_new(&self, name: &str, bytes: Bytes) -> std::result::Result<bool, StoreError> {
        self.keeps.get_or_try_init(|| self.see_that_it_keeps()).await.map_err(judge)?;
        self.store.put_new(name, bytes).await.map_err(judge)
    }

    async fn get(&self, name: &str) -> std::result::Result<Option<Bytes>, StoreError> {
        self.store.get(name).await.map_err(judge)
    }

    async fn start(&self, name: &str) -> std::result::Result<Option<Bytes>, StoreError> {
        self.store.start(name, VOID_START).await.map_err(judge)
    }
}
