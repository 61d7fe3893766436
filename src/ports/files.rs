//! The local file system, with everything made durable before it is called done.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use bytes::Bytes;
use sinks::ports::Files;

/// The local file system. New files can be read by their owner alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct LocalFiles;

#[async_trait]
impl Files for LocalFiles {
    async fn append(&self, path: &Path, bytes: Bytes) -> io::Result<u64> {
        let path = path.to_owned();
        blocking(move || {
            if !path.exists() {
                create_folder(&path)?;
            }
            let mut file = private(OpenOptions::new().append(true).create(true)).open(&path)?;
            // Before anything stands in it, and each time until it worked: later nobody would know that it did not.
            if file.metadata()?.len() == 0 {
                sync_folder(&path)?;
            }
            file.write_all(&bytes)?;
            file.sync_data()?;
            Ok(file.metadata()?.len())
        })
        .await
    }

    async fn replace(&self, path: &Path, bytes: Bytes) -> io::Result<()> {
        let path = path.to_owned();
        blocking(move || {
            create_folder(&path)?;
            // With a dot before it: what reads whole folders passes over what a crash has left.
            let mut name = std::ffi::OsString::from(".");
            name.push(path.file_name().unwrap_or_default());
            name.push(".new");
            let new = path.with_file_name(name);
            let mut file = private(OpenOptions::new().write(true).create(true).truncate(true)).open(&new)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            std::fs::rename(&new, &path)?;
            sync_folders(&path)
        })
        .await
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (from.to_owned(), to.to_owned());
        blocking(move || {
            std::fs::rename(&from, &to)?;
            sync_folder(&to)
        })
        .await
    }

    async fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        let path = path.to_owned();
        blocking(move || match std::fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        })
        .await
    }

    async fn mend(&self, path: &Path) -> io::Result<u64> {
        let path = path.to_owned();
        blocking(move || match OpenOptions::new().read(true).write(true).open(&path) {
            Ok(file) => cut_torn_line(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error),
        })
        .await
    }

    async fn cut(&self, path: &Path, len: u64) -> io::Result<()> {
        let path = path.to_owned();
        blocking(move || match OpenOptions::new().write(true).open(&path) {
            Ok(file) => {
                file.set_len(len)?;
                file.sync_all()
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        })
        .await
    }

    async fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        let folder = folder.to_owned();
        blocking(move || {
            let folder = if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder };
            let mut found = Vec::new();
            for entry in std::fs::read_dir(&folder)? {
                found.push(entry?.path());
            }
            found.sort();
            Ok(found)
        })
        .await
    }
}

/// A local file that is read from its start to its end, a part at a time.
pub struct LocalReader {
    /// Away while a part is being read.
    file: Option<File>,
}

impl LocalReader {
    /// Bytes of a part.
    const PART_BYTES: u64 = 64 * 1024;

    /// Opens a file at the byte `from`, and says how many follow.
    ///
    /// # Errors
    /// Those of the system.
    pub async fn open(path: &Path, from: u64) -> io::Result<(Self, u64)> {
        let path = path.to_owned();
        blocking(move || {
            let mut file = File::open(&path)?;
            let len = file.metadata()?.len();
            file.seek(SeekFrom::Start(from))?;
            Ok((Self { file: Some(file) }, len.saturating_sub(from)))
        })
        .await
    }

    /// The next part; `None` at the end.
    ///
    /// # Errors
    /// Those of the system. A call that was dropped half-way ends the reader.
    pub async fn next(&mut self) -> io::Result<Option<Bytes>> {
        let file = self.file.take().ok_or_else(|| io::Error::other("the file is not open any more"))?;
        let (file, part) = blocking(move || {
            let mut part = Vec::new();
            (&file).take(Self::PART_BYTES).read_to_end(&mut part)?;
            Ok((file, part))
        })
        .await?;
        self.file = Some(file);
        Ok((!part.is_empty()).then(|| part.into()))
    }
}

/// Does what has to wait for the file system where it keeps nobody else waiting.
///
/// # Errors
/// Those of `work`, or that it died.
#[allow(clippy::disallowed_methods, reason = "the one place where files are touched")]
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}

fn create_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => std::fs::create_dir_all(folder),
        _ => Ok(()),
    }
}

/// Makes the entry of `path` in its folder durable.
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

/// Makes the entry of `path` in its folder durable, and those of the folders that it lies in: another may have made one
/// of them just before, and not got further.
fn sync_folders(path: &Path) -> io::Result<()> {
    sync_folder(path)?;
    for folder in path.ancestors().skip(1).take_while(|folder| !folder.as_os_str().is_empty()) {
        match sync_folder(folder) {
            // Nobody who may not look into it has made a folder there.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(()),
            result => result?,
        }
    }
    Ok(())
}

/// Cuts a file behind its last line break; the new length.
fn cut_torn_line(mut file: File) -> io::Result<u64> {
    const BLOCK: u64 = 64 * 1024;
    let len = file.metadata()?.len();
    let mut end = len;
    let mut keep = 0;
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        let mut block = Vec::new();
        file.seek(SeekFrom::Start(start))?;
        io::Read::by_ref(&mut file).take(end - start).read_to_end(&mut block)?;
        if let Some(at) = block.iter().rposition(|&byte| byte == b'\n') {
            keep = start + at as u64 + 1;
            break;
        }
        end = start;
    }
    if keep < len {
        file.set_len(keep)?;
        file.sync_all()?;
    }
    Ok(keep)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn a_torn_last_line_is_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/events.ndjson");
        let files = LocalFiles;
        assert_eq!(files.mend(&path).await.unwrap(), 0);
        assert_eq!(files.append(&path, Bytes::from_static(b"one\ntwo\n")).await.unwrap(), 8);
        files.append(&path, vec![b'x'; 200_000].into()).await.unwrap();
        assert_eq!(files.mend(&path).await.unwrap(), 8);
        assert_eq!(files.read(&path).await.unwrap().unwrap(), b"one\ntwo\n");
        assert_eq!(files.mend(&path).await.unwrap(), 8, "a whole file stays as it is");
    }

    #[tokio::test]
    async fn what_is_left_of_a_replacement_that_failed_is_hidden() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/x.parquet");
        std::fs::create_dir_all(path.join("in the way")).unwrap();
        LocalFiles.replace(&path, Bytes::from_static(b"x")).await.unwrap_err();
        let left = LocalFiles.list(path.parent().unwrap()).await.unwrap();
        assert_eq!(left, [path.with_file_name(".x.parquet.new"), path.clone()]);
        std::fs::remove_dir_all(&path).unwrap();
        LocalFiles.replace(&path, Bytes::from_static(b"y")).await.unwrap();
        assert_eq!(LocalFiles.list(path.parent().unwrap()).await.unwrap(), [path]);
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn what_it_writes_can_be_read_by_the_owner_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        for name in ["appended", "replaced"] {
            let path = folder.path().join(name);
            match name {
                "appended" => LocalFiles.append(&path, Bytes::from_static(b"x")).await.map(|_| ()).unwrap(),
                _ => LocalFiles.replace(&path, Bytes::from_static(b"x")).await.unwrap(),
            }
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }
}
