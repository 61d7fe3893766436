//! Where objects go: a folder or a bucket, with names that are the same in both.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Mutex;

use super::Target;
use crate::destinations::SinkPorts;
use crate::ports::{Files, ObjectStore};
use crate::{Reason, ReasonCode};

/// Where objects go, opened.
pub(super) enum Store {
    /// One write at a time: two of the same name would write into each other.
    Folder(PathBuf, Mutex<Arc<dyn Files>>),
    Bucket(Arc<dyn ObjectStore>, String),
}

impl Store {
    /// Opens it; nothing is asked of it yet.
    ///
    /// # Errors
    /// If there is no such identity.
    pub(super) fn open(target: Target, ports: &SinkPorts) -> Result<Self, Reason> {
        Ok(match target {
            Target::Folder(path) => Self::Folder(path, Mutex::new(Arc::clone(&ports.files))),
            Target::Bucket(place, prefix) => Self::Bucket(ports.objects.open(&place)?, prefix),
        })
    }

    /// Stores an object, in place of any of this name.
    pub(super) async fn put(&self, name: &str, bytes: Bytes) -> Result<(), Reason> {
        match self {
            Self::Folder(folder, files) => {
                let (path, files) = (folder.join(Path::new(name)), files.lock().await);
                files.replace(&path, bytes).await.map_err(|error| failed("write to", folder, &error))
            }
            Self::Bucket(store, prefix) => store.put(&format!("{prefix}{name}"), bytes).await,
        }
    }
    /// Stores an object, unless there is one of this name; whether it did. A folder has one writer.
    pub(super) async fn put_new(&self, name: &str, bytes: Bytes) -> Result<bool, Reason> {
        match self {
            Self::Folder(folder, files) => {
                let (path, files) = (folder.join(Path::new(name)), files.lock().await);
                if files.read(&path).await.map_err(|error| failed("read", folder, &error))?.is_some() {
                    return Ok(false);
                }
                let result = files.replace(&path, bytes).await;
                result.map(|()| true).map_err(|error| failed("write to", folder, &error))
            }
            Self::Bucket(store, prefix) => store.put_new(&format!("{prefix}{name}"), bytes).await,
        }
    }

    /// Reads an object; `None` where there is none.
    pub(super) async fn get(&self, name: &str) -> Result<Option<Bytes>, Reason> {
        match self {
            Self::Folder(folder, files) => {
                let read = files.lock().await.read(&folder.join(Path::new(name))).await;
                read.map(|read| read.map(Bytes::from)).map_err(|error| failed("read", folder, &error))
            }
            Self::Bucket(store, prefix) => store.get(&format!("{prefix}{name}")).await,
        }
    }

    /// Reads the first bytes of an object; `None` where there is none.
    pub(super) async fn start(&self, name: &str, len: usize) -> Result<Option<Bytes>, Reason> {
        match self {
            Self::Folder(..) => {
                let read = self.get(name).await?;
                Ok(read.map(|bytes| bytes.slice(..len.min(bytes.len()))))
            }
            Self::Bucket(store, prefix) => store.start(&format!("{prefix}{name}"), len).await,
        }
    }
}

fn failed(what: &str, folder: &Path, error: &std::io::Error) -> Reason {
    Reason::new(ReasonCode::Io, format!("cannot {what} {}: {error}", folder.display()))
}
