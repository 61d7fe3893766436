//! A disk that forgets what was not synced, names in folders included, and whose power can be cut at any operation.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use testkit::random::Rng;
use trailship::simulation::{Disk, DiskFile, Open};

/// The disk of one machine. Clones are the same disk.
#[derive(Clone)]
pub(crate) struct ForgetfulDisk(Arc<Mutex<State>>);

struct State {
    /// As programs see it.
    names: BTreeMap<PathBuf, Entry>,
    /// As it is after a crash.
    names_kept: BTreeMap<PathBuf, Entry>,
    contents: Vec<Content>,
    /// Operations until the power is cut.
    cut_in: Option<u32>,
    is_dead: bool,
    is_full: bool,
    /// How often there was no room, for each name.
    no_room: BTreeMap<PathBuf, u64>,
    rng: Rng,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Entry {
    Folder,
    /// The number of its content.
    File(usize),
}

#[derive(Default)]
struct Content {
    now: Vec<u8>,
    kept: Vec<u8>,
}

impl ForgetfulDisk {
    /// An empty disk.
    pub(crate) fn new(seed: u64) -> Self {
        let names: BTreeMap<PathBuf, Entry> = [(PathBuf::from("."), Entry::Folder)].into();
        Self(Arc::new(Mutex::new(State {
            names_kept: names.clone(),
            names,
            contents: Vec::new(),
            cut_in: None,
            is_dead: false,
            is_full: false,
            no_room: BTreeMap::new(),
            rng: Rng::stream(seed, 0xD15C),
        })))
    }

    /// Cuts the power when so many more changes were made; a write that is hit is done in part.
    pub(crate) fn cut_power_in(&self, operations: u32) {
        self.lock().cut_in = Some(operations);
    }

    /// The power is not cut after all.
    pub(crate) fn keep_power(&self) {
        self.lock().cut_in = None;
    }

    /// There is no more room, or there is again.
    pub(crate) fn set_full(&self, is_full: bool) {
        self.lock().is_full = is_full;
    }

    /// How often there was no room for what was to be written to a file.
    pub(crate) fn no_room(&self) -> BTreeMap<PathBuf, u64> {
        self.lock().no_room.clone()
    }

    /// Whether the power is cut.
    pub(crate) fn is_dead(&self) -> bool {
        self.lock().is_dead
    }

    /// The machine crashes and comes back: what was not synced is gone, but for a part of what was appended last.
    pub(crate) fn crash(&self) {
        let mut state = self.lock();
        let State { names, names_kept, contents, cut_in, is_dead, rng, .. } = &mut *state;
        (*cut_in, *is_dead) = (None, false);
        let kept = names_kept.clone();
        let reachable =
            |path: &Path| path.ancestors().skip(1).all(|above| is_root(above) || kept.contains_key(above));
        names_kept.retain(|path, _| reachable(path));
        names.clone_from(names_kept);
        for content in contents {
            if content.now.starts_with(&content.kept) {
                let more = content.now.len() - content.kept.len();
                content.now.truncate(content.kept.len() + rng.below(more + 1));
            } else if rng.chance(0.5) {
                content.now.clone_from(&content.kept);
            }
            content.kept.clone_from(&content.now);
        }
    }

    /// What is in the files of a folder.
    pub(crate) fn files(&self, folder: &str) -> BTreeMap<PathBuf, Vec<u8>> {
        let state = self.lock();
        let content = |(path, entry): (&PathBuf, &Entry)| match entry {
            Entry::File(at) if path.parent() == Some(Path::new(folder)) => {
                Some((path.clone(), state.contents[*at].now.clone()))
            }
            _ => None,
        };
        state.names.iter().filter_map(content).collect()
    }

    /// One file.
    pub(crate) fn file(&self, path: &str) -> Option<Vec<u8>> {
        Disk::read(self, Path::new(path)).ok()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a change; an error where the power is cut before it.
    fn change(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.lock();
        match &mut state.cut_in {
            Some(0) => state.is_dead = true,
            Some(left) => *left -= 1,
            None => {}
        }
        if state.is_dead { Err(io::Error::other("the power is cut")) } else { Ok(state) }
    }

    /// The same for what takes up room.
    fn grow(&self, path: &Path) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.change()?;
        if state.is_full {
            *state.no_room.entry(path.to_owned()).or_default() += 1;
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(state)
    }
}

/// Files that nobody gave a folder stand in `.`, whose own name is empty.
fn is_root(path: &Path) -> bool {
    path.as_os_str().is_empty() || path == Path::new(".")
}

fn folder_of(path: &Path) -> PathBuf {
    path.parent().filter(|folder| !is_root(folder)).unwrap_or(Path::new(".")).to_owned()
}

fn missing(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, path.display().to_string())
}

impl Disk for ForgetfulDisk {
    fn exists(&self, path: &Path) -> bool {
        self.lock().names.contains_key(path)
    }

    fn create_folder(&self, folder: &Path) -> io::Result<()> {
        let mut state = self.grow(folder)?;
        if !state.names.contains_key(&folder_of(folder)) {
            return Err(missing(folder));
        }
        state.names.entry(folder.to_owned()).or_insert(Entry::Folder);
        Ok(())
    }

    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.change()?;
        let at = match state.names.get(path) {
            Some(Entry::File(at)) => *at,
            Some(Entry::Folder) => return Err(io::ErrorKind::IsADirectory.into()),
            None if how == Open::Existing || !state.names.contains_key(&folder_of(path)) => {
                return Err(missing(path));
            }
            None => {
                state.contents.push(Content::default());
                let at = state.contents.len() - 1;
                state.names.insert(path.to_owned(), Entry::File(at));
                at
            }
        };
        if how == Open::Replace {
            state.contents[at].now.clear();
        }
        drop(state);
        Ok(Box::new(OpenFile { disk: self.clone(), path: path.to_owned(), at }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.change()?;
        let entry = state.names.remove(from).ok_or_else(|| missing(from))?;
        state.names.insert(to.to_owned(), entry);
        Ok(())
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        let mut state = self.change()?;
        let State { names, names_kept, .. } = &mut *state;
        let is_in = |path: &Path| !is_root(path) && folder_of(path) == folder;
        names_kept.retain(|path, _| !is_in(path));
        names_kept
            .extend(names.iter().filter(|(path, _)| is_in(path)).map(|(path, entry)| (path.clone(), *entry)));
        Ok(())
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let state = self.lock();
        match state.names.get(path) {
            Some(Entry::File(at)) => Ok(state.contents[*at].now.clone()),
            _ => Err(missing(path)),
        }
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        let state = self.lock();
        Ok(state.names.keys().filter(|path| !is_root(path) && folder_of(path) == folder).cloned().collect())
    }
}

struct OpenFile {
    disk: ForgetfulDisk,
    path: PathBuf,
    at: usize,
}

impl DiskFile for OpenFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.disk.lock().contents[self.at].now.len() as u64)
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self.disk.grow(&self.path) {
            Ok(mut state) => {
                state.contents[self.at].now.extend_from_slice(bytes);
                Ok(())
            }
            Err(error) => {
                let mut state = self.disk.lock();
                let part = state.rng.below(bytes.len() + 1);
                state.contents[self.at].now.extend_from_slice(&bytes[..part]);
                Err(error)
            }
        }
    }

    fn read_at(&mut self, start: u64, len: u64) -> io::Result<Vec<u8>> {
        let state = self.disk.lock();
        let content = &state.contents[self.at].now;
        let at = |byte: u64| usize::try_from(byte).unwrap_or(usize::MAX).min(content.len());
        Ok(content[at(start)..at(start + len)].to_vec())
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        let mut state = self.disk.change()?;
        state.contents[self.at].now.resize(usize::try_from(len).unwrap_or(usize::MAX), 0);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.disk.change()?;
        let content = &mut state.contents[self.at];
        content.kept.clone_from(&content.now);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(disk: &ForgetfulDisk, path: &str, bytes: &[u8], sync: bool) {
        let mut file = disk.open(Path::new(path), Open::Append).unwrap();
        file.write_all(bytes).unwrap();
        if sync {
            file.sync().unwrap();
        }
    }

    #[test]
    fn what_was_synced_survives_a_crash_and_nothing_else_is_whole() {
        let disk = ForgetfulDisk::new(1);
        write(&disk, "a", b"kept", true);
        disk.sync_folder(Path::new(".")).unwrap();
        write(&disk, "a", &[b'x'; 1000], false);
        disk.crash();
        let content = disk.file("a").unwrap();
        assert!(content.starts_with(b"kept") && content.len() < 1004, "{}", content.len());
        disk.crash();
        assert_eq!(disk.file("a").unwrap(), content, "a second crash takes nothing more");
    }

    #[test]
    fn a_name_is_gone_unless_its_folder_and_those_above_were_synced() {
        let disk = ForgetfulDisk::new(1);
        disk.create_folder(Path::new("out")).unwrap();
        write(&disk, "out/a", b"x", true);
        disk.sync_folder(Path::new("out")).unwrap();
        disk.crash();
        assert!(!disk.exists(Path::new("out/a")), "its folder is gone");
        disk.create_folder(Path::new("out")).unwrap();
        disk.sync_folder(Path::new(".")).unwrap();
        write(&disk, "out/a", b"x", true);
        disk.crash();
        assert!(disk.exists(Path::new("out")) && !disk.exists(Path::new("out/a")));
    }

    #[test]
    fn a_rename_holds_once_the_folder_was_synced() {
        let disk = ForgetfulDisk::new(1);
        write(&disk, "a", b"x", true);
        disk.sync_folder(Path::new(".")).unwrap();
        disk.rename(Path::new("a"), Path::new("b")).unwrap();
        disk.crash();
        assert_eq!((disk.file("a"), disk.file("b")), (Some(b"x".to_vec()), None));
        disk.rename(Path::new("a"), Path::new("b")).unwrap();
        disk.sync_folder(Path::new(".")).unwrap();
        disk.crash();
        assert_eq!((disk.file("a"), disk.file("b")), (None, Some(b"x".to_vec())));
    }

    #[test]
    fn a_full_disk_takes_a_part_and_says_so() {
        let disk = ForgetfulDisk::new(3);
        write(&disk, "a", b"kept", true);
        disk.set_full(true);
        let mut file = disk.open(Path::new("a"), Open::Append).unwrap();
        let error = file.write_all(&[b'x'; 1000]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert!(file.size().unwrap() < 1004);
        file.set_len(4).unwrap();
        assert_eq!(disk.no_room(), [(PathBuf::from("a"), 1)].into());
        disk.set_full(false);
        write(&disk, "a", b"more", true);
        assert_eq!(disk.file("a"), Some(b"keptmore".to_vec()));
    }

    #[test]
    fn with_the_power_cut_nothing_works_until_the_machine_is_back() {
        let disk = ForgetfulDisk::new(1);
        disk.cut_power_in(1);
        let mut file = disk.open(Path::new("a"), Open::Append).unwrap();
        assert!(file.write_all(b"x").is_err() && disk.is_dead());
        assert!(file.sync().is_err());
        disk.crash();
        assert!(!disk.is_dead());
        write(&disk, "a", b"x", true);
    }
}
