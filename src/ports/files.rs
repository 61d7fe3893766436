//! Files with everything made durable before it is called done.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use sinks::ports::Files;

use super::disk::{Disk, DiskFile, Open, SystemDisk};

/// The local file system. New files can be read by their owner alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct LocalFiles;

#[async_trait]
impl Files for LocalFiles {
    async fn append(&self, path: &Path, bytes: Bytes) -> io::Result<u64> {
        let path = path.to_owned();
        blocking(move || append(&SystemDisk, &path, &bytes)).await
    }

    async fn replace(&self, path: &Path, bytes: Bytes) -> io::Result<()> {
        let path = path.to_owned();
        blocking(move || replace(&SystemDisk, &path, &bytes)).await
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (from.to_owned(), to.to_owned());
        blocking(move || rename(&SystemDisk, &from, &to)).await
    }

    async fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        let path = path.to_owned();
        blocking(move || read(&SystemDisk, &path)).await
    }

    async fn mend(&self, path: &Path) -> io::Result<u64> {
        let path = path.to_owned();
        blocking(move || mend(&SystemDisk, &path)).await
    }

    async fn cut(&self, path: &Path, len: u64) -> io::Result<()> {
        let path = path.to_owned();
        blocking(move || cut(&SystemDisk, &path, len)).await
    }

    async fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        let folder = folder.to_owned();
        blocking(move || list(&SystemDisk, &folder)).await
    }
}

/// The same on a disk that keeps nobody waiting: a simulation's.
pub struct DiskFiles(pub Arc<dyn Disk>);

#[async_trait]
impl Files for DiskFiles {
    async fn append(&self, path: &Path, bytes: Bytes) -> io::Result<u64> {
        append(&*self.0, path, &bytes)
    }

    async fn replace(&self, path: &Path, bytes: Bytes) -> io::Result<()> {
        replace(&*self.0, path, &bytes)
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        rename(&*self.0, from, to)
    }

    async fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        read(&*self.0, path)
    }

    async fn mend(&self, path: &Path) -> io::Result<u64> {
        mend(&*self.0, path)
    }

    async fn cut(&self, path: &Path, len: u64) -> io::Result<()> {
        cut(&*self.0, path, len)
    }

    async fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        list(&*self.0, folder)
    }
}

fn append(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<u64> {
    if !disk.exists(path) {
        create_folders(disk, &folder_of(path))?;
    }
    let mut file = disk.open(path, Open::Append)?;
    let before = file.size()?;
    // Before anything stands in it, and each time until it worked: later nobody would know that it did not.
    if before == 0 {
        disk.sync_folder(&folder_of(path))?;
    }
    if let Err(error) = file.write_all(bytes).and_then(|()| file.sync()) {
        // Where this fails as well, what is left looks like what a crash leaves.
        let _ = take_back(disk, path, before, bytes);
        return Err(error);
    }
    file.size()
}

/// Takes off a file what a failed write of `bytes` left behind `before`: some of its lines may be whole, and would
/// stand there twice once they are written again. What somebody else has appended meanwhile stays.
fn take_back(disk: &dyn Disk, path: &Path, before: u64, bytes: &[u8]) -> io::Result<()> {
    let mut file = disk.open(path, Open::Existing)?;
    let more = file.size()?.saturating_sub(before);
    if more > 0 && more <= bytes.len() as u64 && bytes.starts_with(&file.read_at(before, more)?) {
        file.set_len(before)?;
        file.sync()?;
    }
    Ok(())
}

fn replace(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    create_folders(disk, &folder_of(path))?;
    // With a dot before it: what reads whole folders passes over what a crash has left.
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".new");
    let new = path.with_file_name(name);
    let mut file = disk.open(&new, Open::Replace)?;
    file.write_all(bytes)?;
    file.sync()?;
    disk.rename(&new, path)?;
    sync_folders(disk, path)
}

fn rename(disk: &dyn Disk, from: &Path, to: &Path) -> io::Result<()> {
    disk.rename(from, to)?;
    disk.sync_folder(&folder_of(to))
}

fn read(disk: &dyn Disk, path: &Path) -> io::Result<Option<Vec<u8>>> {
    match disk.read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn mend(disk: &dyn Disk, path: &Path) -> io::Result<u64> {
    match disk.open(path, Open::Existing) {
        Ok(mut file) => cut_torn_line(&mut *file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    }
}

fn cut(disk: &dyn Disk, path: &Path, len: u64) -> io::Result<()> {
    match disk.open(path, Open::Existing) {
        Ok(mut file) => {
            file.set_len(len)?;
            file.sync()
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn list(disk: &dyn Disk, folder: &Path) -> io::Result<Vec<PathBuf>> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let mut found = disk.list(folder)?;
    found.sort();
    Ok(found)
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

/// Makes a folder and those above it, each durable in the one above: what stands in a folder that a crash takes away
/// is gone with it.
fn create_folders(disk: &dyn Disk, folder: &Path) -> io::Result<()> {
    if disk.exists(folder) {
        return Ok(());
    }
    let above = folder_of(folder);
    create_folders(disk, &above)?;
    disk.create_folder(folder)?;
    disk.sync_folder(&above)
}

/// The folder that a file stands in.
fn folder_of(path: &Path) -> PathBuf {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new(".")).to_owned()
}

/// Makes the entry of `path` in its folder durable, and those of the folders that it lies in: another may have made one
/// of them just before, and not got further.
fn sync_folders(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    disk.sync_folder(&folder_of(path))?;
    for folder in path.ancestors().skip(1).take_while(|folder| folder.parent().is_some()) {
        match disk.sync_folder(&folder_of(folder)) {
            // Nobody who may not look into it has made a folder there.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(()),
            result => result?,
        }
    }
    Ok(())
}

/// Cuts a file behind its last line break; the new length.
fn cut_torn_line(file: &mut dyn DiskFile) -> io::Result<u64> {
    const BLOCK: u64 = 64 * 1024;
    let len = file.size()?;
    let mut end = len;
    let mut keep = 0;
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        let block = file.read_at(start, end - start)?;
        if let Some(at) = block.iter().rposition(|&byte| byte == b'\n') {
            keep = start + at as u64 + 1;
            break;
        }
        end = start;
    }
    if keep < len {
        file.set_len(keep)?;
        file.sync()?;
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

    /// A disk on which a file takes a part of what is appended to it, and then a part of another writer's.
    struct Full;

    struct FullFile(Box<dyn DiskFile>, &'static [u8]);

    impl Disk for Full {
        fn exists(&self, path: &Path) -> bool {
            SystemDisk.exists(path)
        }
        fn create_folder(&self, folder: &Path) -> io::Result<()> {
            SystemDisk.create_folder(folder)
        }
        fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn DiskFile>> {
            let others: &[u8] = if path.ends_with("shared") { b"other\n" } else { b"" };
            Ok(Box::new(FullFile(SystemDisk.open(path, how)?, others)))
        }
        fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
            SystemDisk.rename(from, to)
        }
        fn sync_folder(&self, folder: &Path) -> io::Result<()> {
            SystemDisk.sync_folder(folder)
        }
        fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
            SystemDisk.read(path)
        }
        fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
            SystemDisk.list(folder)
        }
    }

    impl DiskFile for FullFile {
        fn size(&self) -> io::Result<u64> {
            self.0.size()
        }
        fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
            self.0.write_all(&bytes[..bytes.len() - 3])?;
            self.0.write_all(self.1)?;
            Err(io::ErrorKind::StorageFull.into())
        }
        fn read_at(&mut self, start: u64, len: u64) -> io::Result<Vec<u8>> {
            self.0.read_at(start, len)
        }
        fn set_len(&mut self, len: u64) -> io::Result<()> {
            self.0.set_len(len)
        }
        fn sync(&mut self) -> io::Result<()> {
            self.0.sync()
        }
    }

    #[test]
    fn of_a_write_for_which_there_is_no_room_nothing_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("letters");
        append(&SystemDisk, &path, b"one\n").unwrap();
        let error = append(&Full, &path, b"two\nthree\n").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(std::fs::read(&path).unwrap(), b"one\n", "`two` would stand there twice later");
        append(&SystemDisk, &path, b"two\nthree\n").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"one\ntwo\nthree\n");
    }

    #[test]
    fn what_another_process_appended_meanwhile_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shared");
        append(&Full, &path, b"two\nthree\n").unwrap_err();
        assert_eq!(std::fs::read(&path).unwrap(), b"two\nthrother\n");
    }

    #[tokio::test]
    async fn folders_are_made_where_they_are_missing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/events.ndjson");
        assert_eq!(LocalFiles.append(&path, Bytes::from_static(b"one\n")).await.unwrap(), 4);
        assert_eq!(LocalFiles.append(&path, Bytes::from_static(b"two\n")).await.unwrap(), 8);
        assert_eq!(LocalFiles.list(&folder.path().join("a/b")).await.unwrap(), [path]);
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
