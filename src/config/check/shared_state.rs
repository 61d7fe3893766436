//! Refuses parts of a configuration that would step on each other: one queue read twice, one file written twice.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use super::super::model::{DeadLetter, SinkConfig, SinkKind, Source, SourceKind};
use super::{Checker, dead_letter};

impl Checker<'_> {
    pub(super) fn shared_state(
        &self,
        sources: &[Source],
        sinks: &[SinkConfig],
        dead_letter: Option<&DeadLetter>,
    ) {
        let mut queues: BTreeMap<&str, String> = BTreeMap::new();
        let mut folders: BTreeMap<PathBuf, String> = BTreeMap::new();
        for source in sources {
            match &source.kind {
                SourceKind::Sqs(queue) => {
                    let key = format!("sources.{}.queue_url", source.name);
                    self.only(&mut queues, &queue.queue_url, key, "reads the same queue");
                    if let Some(handoffs) = &queue.handoff_queue_url {
                        let key = format!("sources.{}.handoff_queue_url", source.name);
                        self.only(&mut queues, handoffs, key, "reads the same queue");
                    }
                }
                SourceKind::Directory(directory) => {
                    let key = format!("sources.{}.path", source.name);
                    self.only(&mut folders, normal(&directory.path), key, "watches the same folder");
                }
            }
        }
        let mut files: BTreeMap<PathBuf, String> = BTreeMap::new();
        for (table, letters) in dead_letter::all(sinks, dead_letter) {
            if let DeadLetter::File { path, .. } = letters {
                // Several sinks may share one place.
                files.entry(normal(path)).or_insert(format!("{table}.path"));
            }
        }
        self.dead_letter_queues(sources, sinks, dead_letter);
        for sink in sinks {
            if let SinkKind::File(file) = &sink.kind {
                let key = format!("sinks.{}.path", sink.name);
                self.only(&mut files, normal(&file.path), key, "writes the same file");
            }
        }
        for (file, key) in &files {
            for (folder, source) in &folders {
                let message =
                    format!("{source} watches this folder: what is written would be shipped again and again");
                self.require(!file.starts_with(folder), key, &message);
            }
        }
    }

    fn only<K: Ord>(&self, taken: &mut BTreeMap<K, String>, what: K, key: String, does: &str) {
        if let Some(other) = taken.get(&what) {
            self.problem(&key, &format!("{other} {does}: keep one of them"));
        } else {
            taken.insert(what, key);
        }
    }
}

/// The absolute path without `.` and `..`, as far as that can be told without looking at the disk.
fn normal(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let mut normal = PathBuf::new();
    for component in absolute.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                normal.pop();
            }
            component => normal.push(component),
        }
    }
    normal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_path_has_one_normal_form() {
        assert_eq!(normal(Path::new("/a/./b/../c")), Path::new("/a/c"));
        assert_eq!(normal(Path::new("x")), normal(Path::new("./y/../x")));
    }
}
