//! Dead letters in a file, which a running agent may append to meanwhile.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use async_trait::async_trait;
use sinks::ports::Files as _;

use super::place::{Place, WINDOW};
use crate::ports::{LocalFiles, blocking, lock_file};

/// So much of what stays is put back in one step.
const STEP_BYTES: u64 = 1 << 20;

/// A file of letters.
///
/// It is moved aside first: what the agent appends from then on goes to a new file of the old name. In the end the
/// letters that stay are appended to that one, and the old one is removed. A crash in between leaves the old file
/// beside it, and the next redrive begins with that.
pub(super) struct FilePlace {
    path: PathBuf,
    /// What is read: the file moved aside, or the file itself where nothing is to be changed. `None`: there is none.
    read: Option<BufReader<File>>,
    only_read: bool,
    /// Behind the last line that was given out.
    position: u64,
    /// The lines of the last call.
    lines: Vec<Range<u64>>,
    /// What stays.
    stays: Vec<Range<u64>>,
    /// Keeps a second redrive away.
    _lock: Option<File>,
}

impl FilePlace {
    pub(super) async fn open(path: &Path, only_read: bool) -> anyhow::Result<Self> {
        let about = || format!("{}", path.display());
        let (aside, own) = (beside(path, ".redrive"), path.to_owned());
        if only_read {
            let read = blocking(move || open_if_there(&own)).await.with_context(about)?;
            return Ok(Self::new(path, read, true, None));
        }
        let lock_path = beside(path, ".redrive.lock");
        if !path.exists() && !aside.exists() {
            return Ok(Self::new(path, None, false, None));
        }
        let lock = blocking(move || lock_file(&lock_path)).await.with_context(about)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => bail!("{}: another redrive is at work", about()),
            Err(std::fs::TryLockError::Error(error)) => return Err(error).with_context(about),
        }
        if aside.exists() {
            // One that ended before its time; letters may be there twice now, which costs a duplicate.
            put_back(&aside, path, 0..u64::MAX).await.with_context(about)?;
            remove(&aside).await.with_context(about)?;
        }
        LocalFiles.rename(path, &aside).await.with_context(about)?;
        let read = blocking(move || open_if_there(&aside)).await.with_context(about)?;
        Ok(Self::new(path, read, false, Some(lock)))
    }

    fn new(path: &Path, read: Option<BufReader<File>>, only_read: bool, lock: Option<File>) -> Self {
        let (path, lines, stays) = (path.to_owned(), Vec::new(), Vec::new());
        Self { path, read, only_read, position: 0, lines, stays, _lock: lock }
    }
}

#[async_trait]
impl Place for FilePlace {
    async fn next(&mut self) -> anyhow::Result<Option<Vec<String>>> {
        let Some(mut read) = self.read.take() else { return Ok(None) };
        let (read, texts) = blocking(move || {
            let mut texts = Vec::new();
            while texts.len() < WINDOW {
                let mut line = Vec::new();
                // What follows the last line break was never acknowledged, or is still being written.
                if read.read_until(b'\n', &mut line)? == 0 || line.last() != Some(&b'\n') {
                    break;
                }
                texts.push(line);
            }
            Ok((read, texts))
        })
        .await
        .with_context(|| self.path.display().to_string())?;
        self.read = Some(read);
        self.lines.clear();
        for line in &texts {
            let end = self.position + line.len() as u64;
            self.lines.push(self.position..end);
            self.position = end;
        }
        let texts: Vec<String> =
            texts.iter().map(|line| String::from_utf8_lossy(line).trim_end().to_owned()).collect();
        Ok((!texts.is_empty()).then_some(texts))
    }

    async fn settle(&mut self, stays: &[bool]) -> anyhow::Result<()> {
        for (line, stays) in self.lines.drain(..).zip(stays) {
            match self.stays.last_mut() {
                _ if !stays => {}
                Some(last) if last.end == line.start => last.end = line.end,
                _ => self.stays.push(line),
            }
        }
        Ok(())
    }

    async fn finish(&mut self) -> anyhow::Result<()> {
        let about = || self.path.display().to_string();
        if self.only_read || self.read.is_none() {
            return Ok(());
        }
        let aside = beside(&self.path, ".redrive");
        for range in &self.stays {
            put_back(&aside, &self.path, range.clone()).await.with_context(about)?;
        }
        // What was not asked for, and what an agent that had it open has written meanwhile.
        put_back(&aside, &self.path, self.position..u64::MAX).await.with_context(about)?;
        remove(&aside).await.with_context(about)?;
        // Without it everything works as well.
        let _ = remove(&beside(&self.path, ".redrive.lock")).await;
        Ok(())
    }
}

fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(end);
    path.with_file_name(name)
}

fn open_if_there(path: &Path) -> io::Result<Option<BufReader<File>>> {
    match File::open(path) {
        Ok(file) => Ok(Some(BufReader::new(file))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

async fn remove(path: &Path) -> io::Result<()> {
    let path = path.to_owned();
    blocking(move || std::fs::remove_file(path)).await
}

/// Appends whole lines of one file to another, durably.
async fn put_back(from: &Path, to: &Path, mut range: Range<u64>) -> io::Result<()> {
    loop {
        let (from, start, end) = (from.to_owned(), range.start, range.end);
        let part = blocking(move || lines_at(&from, start, end)).await?;
        if part.is_empty() {
            return Ok(());
        }
        range.start += part.len() as u64;
        LocalFiles.append(to, part.into()).await?;
    }
}

/// Some whole lines from `start` on, none beyond `end`; empty where there are no more.
fn lines_at(path: &Path, start: u64, end: u64) -> io::Result<Vec<u8>> {
    if start >= end {
        return Ok(Vec::new());
    }
    let mut file = BufReader::new(File::open(path)?);
    file.seek(SeekFrom::Start(start))?;
    let mut part = Vec::new();
    (&mut file).take(STEP_BYTES.min(end.saturating_sub(start))).read_to_end(&mut part)?;
    match part.iter().rposition(|&byte| byte == b'\n') {
        Some(at) => part.truncate(at + 1),
        None => {
            // A line that is longer than a step; without its end it is none.
            file.read_until(b'\n', &mut part)?;
            if part.last() != Some(&b'\n') {
                part.clear();
            }
        }
    }
    Ok(part)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    struct Letters(tempfile::TempDir);

    impl Letters {
        fn new(content: &str) -> Self {
            let letters = Self(tempfile::tempdir().unwrap());
            std::fs::write(letters.path(), content).unwrap();
            letters
        }

        fn path(&self) -> PathBuf {
            self.0.path().join("letters.ndjson")
        }

        fn content(&self) -> String {
            std::fs::read_to_string(self.path()).unwrap_or_default()
        }

        fn files(&self) -> usize {
            std::fs::read_dir(self.0.path()).unwrap().count()
        }
    }

    #[tokio::test]
    async fn what_does_not_stay_is_taken_out_and_the_rest_keeps_its_bytes() {
        let letters = Letters::new("a\n  b \nc\nd\n");
        let mut place = FilePlace::open(&letters.path(), false).await.unwrap();
        assert_eq!(place.next().await.unwrap().unwrap(), ["a", "  b", "c", "d"]);
        place.settle(&[false, true, false, true]).await.unwrap();
        assert_eq!(place.next().await.unwrap(), None);
        place.finish().await.unwrap();
        assert_eq!((letters.content().as_str(), letters.files()), ("  b \nd\n", 1), "and no other");
    }

    #[tokio::test]
    async fn what_comes_meanwhile_is_kept_whichever_file_it_goes_to() {
        let letters = Letters::new("a\nb\n");
        let mut open = File::options().append(true).open(letters.path()).unwrap();
        let mut place = FilePlace::open(&letters.path(), false).await.unwrap();
        assert_eq!(place.next().await.unwrap().unwrap(), ["a", "b"]);
        io::Write::write_all(&mut open, b"late\n").unwrap();
        LocalFiles.append(&letters.path(), "new\n".into()).await.unwrap();
        place.settle(&[false, false]).await.unwrap();
        place.finish().await.unwrap();
        assert_eq!((letters.content().as_str(), letters.files()), ("new\nlate\n", 1));
    }

    #[tokio::test]
    async fn a_redrive_that_ends_early_loses_no_letter() {
        let many: String = (0..1200).map(|number| format!("{number}\n")).collect();
        let letters = Letters::new(&many);
        let mut place = FilePlace::open(&letters.path(), false).await.unwrap();
        assert_eq!(place.next().await.unwrap().unwrap().len(), WINDOW);
        assert!(FilePlace::open(&letters.path(), false).await.is_err(), "one at a time");
        // It crashes: nothing was settled.
        drop(place);
        let mut place = FilePlace::open(&letters.path(), false).await.unwrap();
        place.next().await.unwrap();
        place.settle(&[false; WINDOW]).await.unwrap();
        // It is told to stop: what was not asked for stays.
        place.finish().await.unwrap();
        let rest: String = (WINDOW..1200).map(|number| format!("{number}\n")).collect();
        assert_eq!(letters.content(), rest);
    }

    #[tokio::test]
    async fn one_that_only_reads_changes_nothing_and_none_is_no_error() {
        let letters = Letters::new("a\nhalf");
        let mut place = FilePlace::open(&letters.path(), true).await.unwrap();
        assert_eq!(place.next().await.unwrap().unwrap(), ["a"]);
        place.settle(&[false]).await.unwrap();
        place.finish().await.unwrap();
        assert_eq!((letters.content().as_str(), letters.files()), ("a\nhalf", 1));
        std::fs::remove_file(letters.path()).unwrap();
        let mut place = FilePlace::open(&letters.path(), false).await.unwrap();
        assert_eq!(place.next().await.unwrap(), None);
        place.finish().await.unwrap();
        assert_eq!(letters.files(), 0);
    }

    #[tokio::test]
    async fn lines_longer_than_a_step_are_put_back_whole() {
        let long = "x".repeat(usize::try_from(STEP_BYTES).unwrap() + 100);
        let content = format!("a\n{long}\nb\n");
        let letters = Letters::new(&content);
        let mut place = FilePlace::open(&letters.path(), false).await.unwrap();
        assert_eq!(place.next().await.unwrap().unwrap().len(), 3);
        place.settle(&[true, true, true]).await.unwrap();
        place.finish().await.unwrap();
        assert!(letters.content() == content);
    }
}
