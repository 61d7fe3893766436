//! The source `directory`: a folder watched for new log files; what was done is remembered.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cloudtrail::{KeyKind, ObjectKey, Timestamp};
use serde::{Deserialize, Serialize};
use sinks::ports::{Clock, Files};
use sinks::{LogFile, Via};
use tokio::sync::Semaphore;
use tokio::task::{Id, JoinSet};

use super::Stop;
use crate::config::{Directory, Filter};
use crate::meter::SourceMeter;
use crate::ports::blocking;
use crate::worker::fetch::{LocalFile, Version};
use crate::worker::{JobEnd, LogFileJob, Plan};

/// A file that was written to within this time may not be whole yet.
const SETTLE: Duration = Duration::from_secs(2);

/// A file that cannot be read is broken only if nobody has written to it for this long.
const BROKEN_AFTER: Duration = Duration::from_secs(60);

/// After a failure, the file is tried again after this time.
const RETRY_AFTER: Duration = Duration::from_secs(30);

/// Files that are shipped at once; most of them wait for their sinks.
const JOBS_MAX: usize = 10_000;

/// This many files that were removed from the folder may be remembered besides as many as lie there.
const FORGET_MIN: usize = 10_000;

/// A file as it was found. The same path with another length or time is a new file.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Found {
    path: PathBuf,
    len: u64,
    /// Milliseconds since 1970.
    modified: u64,
}

/// Everything that a folder source needs.
pub struct DirectorySource {
    pub name: String,
    pub config: Directory,
    pub filter: Filter,
    pub labels: Vec<(String, String)>,
    pub plan: Arc<Plan>,
    pub meter: Arc<SourceMeter>,
    pub files: Arc<dyn Files>,
    /// Where it is remembered what was done.
    pub done_path: PathBuf,
    pub slots: Arc<Semaphore>,
}

impl DirectorySource {
    /// Ships what is there and what comes until told to stop; then what has begun may go on until `finished`.
    pub async fn run(self: Arc<Self>, stop: Stop, finished: Stop) {
        let mut done = self.remembered().await;
        let mut running = Running::default();
        let mut later: HashMap<Found, Duration> = HashMap::new();
        while !stop.is_asked() {
            let now = self.plan.clock.monotonic();
            let there = self.look().await;
            for found in &there {
                let waits = later.get(found).is_some_and(|&at| now < at);
                if done.contains(found) || running.has(found) || waits || !self.is_settled(found) {
                    continue;
                }
                if running.jobs.len() >= JOBS_MAX {
                    break;
                }
                running.start(found, Arc::clone(&self).ship(found.clone(), stop.clone()));
            }
            if done.len() + later.len() > 2 * there.len() + FORGET_MIN {
                forget_others(&mut done, &mut later, there);
            }
            let pause = self.plan.clock.sleep(self.config.poll_interval);
            tokio::pin!(pause);
            loop {
                tokio::select! {
                    biased;
                    Some((found, is_done)) = running.ended() => {
                        if is_done {
                            later.remove(&found);
                            done.insert(found);
                        } else {
                            later.insert(found, self.plan.clock.monotonic() + RETRY_AFTER);
                        }
                    }
                    () = &mut pause => break,
                    () = stop.asked() => break,
                }
            }
        }
        tokio::select! {
            biased;
            () = async { while running.jobs.join_next().await.is_some() {} } => {}
            () = finished.asked() => running.jobs.abort_all(),
        }
    }

    async fn ship(self: Arc<Self>, found: Found, stop: Stop) -> bool {
        let slot = Arc::clone(&self.slots).acquire_owned().await.ok();
        if stop.is_asked() {
            // It has not begun: the next agent ships it.
            return false;
        }
        let is_done = self.ship_file(&found, slot).await;
        if is_done && let Err(error) = self.remember(&found).await {
            tracing::warn!(
                code = "state_not_written",
                source = self.name,
                path = %self.done_path.display(),
                %error,
                "after a restart the file is shipped again: check `agent.state_dir`"
            );
        }
        is_done
    }

    async fn ship_file(&self, found: &Found, slot: Option<tokio::sync::OwnedSemaphorePermit>) -> bool {
        let key = ObjectKey::parse(&found.path.to_string_lossy());
        let kind = if key.kind == KeyKind::Foreign { KeyKind::Log } else { key.kind };
        if kind == KeyKind::Digest
            || !self.filter.admits(key.account.as_deref(), key.region.as_deref(), kind.as_str())
        {
            self.meter.ignored_file(&found.path, if kind == KeyKind::Digest { "digest" } else { "filtered" });
            return true;
        }
        let file = local_log_file(&found.path, Via::Directory, &self.labels, key.minute, &*self.plan.clock);
        let fetch = Arc::new(LocalFile { path: found.path.clone() });
        let mut job = LogFileJob::new(&self.plan, fetch, file, Version::default(), self.meter.clone());
        if self.age(found) < BROKEN_AFTER {
            job = job.unfinished();
        }
        let end = job.run(slot).await;
        self.meter.log_file(&found.path.to_string_lossy(), &end);
        !matches!(end, JobEnd::Kept(_))
    }

    fn is_settled(&self, found: &Found) -> bool {
        self.age(found) >= SETTLE
    }

    fn age(&self, found: &Found) -> Duration {
        let now = self.plan.clock.now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        now.saturating_sub(Duration::from_millis(found.modified))
    }

    async fn look(&self) -> Vec<Found> {
        match self.found().await {
            Ok(found) => {
                self.meter.received();
                found
            }
            Err(error) => {
                self.meter.receive_failed(&format!("{}: {error}", self.config.path.display()));
                Vec::new()
            }
        }
    }

    async fn found(&self) -> std::io::Result<Vec<Found>> {
        let path = self.config.path.clone();
        blocking(move || log_files_in(&path)).await
    }

    async fn remembered(&self) -> HashSet<Found> {
        // A torn last line is a file that is shipped once more.
        if let Err(error) = self.files.mend(&self.done_path).await {
            tracing::warn!(code = "state_not_read", source = self.name, %error, "check `agent.state_dir`");
        }
        let text = self.files.read(&self.done_path).await.ok().flatten().unwrap_or_default();
        let lines = text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
        let all: HashSet<Found> = lines.filter_map(|line| serde_json::from_slice(line).ok()).collect();
        // What is gone from the folder need not be remembered for ever.
        // A folder that cannot be read now may be back, with everything in it.
        let Ok(there) = self.found().await else { return all };
        let there: HashSet<Found> = there.into_iter().collect();
        let kept: HashSet<Found> = all.iter().filter(|found| there.contains(found)).cloned().collect();
        if kept.len() < all.len() {
            let lines: Vec<u8> = kept.iter().flat_map(line).collect();
            let _ = self.files.replace(&self.done_path, lines.into()).await;
        }
        kept
    }

    async fn remember(&self, found: &Found) -> std::io::Result<()> {
        self.files.append(&self.done_path, line(found).into()).await.map(|_| ())
    }
}

/// Files that are being shipped.
#[derive(Default)]
struct Running {
    jobs: JoinSet<bool>,
    by_task: HashMap<Id, Found>,
    files: HashSet<Found>,
}

impl Running {
    fn has(&self, found: &Found) -> bool {
        self.files.contains(found)
    }

    fn start(&mut self, found: &Found, job: impl Future<Output = bool> + Send + 'static) {
        let task = self.jobs.spawn(job);
        self.by_task.insert(task.id(), found.clone());
        self.files.insert(found.clone());
    }

    /// The next that has ended, and whether it is done; `None` while none is being shipped. One that died is not done.
    async fn ended(&mut self) -> Option<(Found, bool)> {
        let (id, is_done) = match self.jobs.join_next_with_id().await? {
            Ok(ended) => ended,
            Err(error) => {
                tracing::error!(code = "job_died", %error, "a file is tried again later: please report this");
                (error.id(), false)
            }
        };
        let found = self.by_task.remove(&id)?;
        self.files.remove(&found);
        Some((found, is_done))
    }
}

/// Forgets files that are not in the folder any more.
fn forget_others(done: &mut HashSet<Found>, later: &mut HashMap<Found, Duration>, there: Vec<Found>) {
    if there.is_empty() {
        // It may not be readable at the moment.
        return;
    }
    let there: HashSet<Found> = there.into_iter().collect();
    done.retain(|found| there.contains(found));
    later.retain(|found, _| there.contains(found));
}

fn line(found: &Found) -> Vec<u8> {
    // A path that is not UTF-8 cannot be written down; its file is shipped again after a restart.
    let mut line = serde_json::to_vec(found).unwrap_or_default();
    line.push(b'\n');
    line
}

/// The log file that a local path stands for.
#[must_use]
pub fn local_log_file(
    path: &Path,
    via: Via,
    labels: &[(String, String)],
    minute: Option<Timestamp>,
    clock: &dyn Clock,
) -> LogFile {
    LogFile {
        bucket: "file".to_owned(),
        key: path.to_string_lossy().into_owned(),
        version_id: None,
        etag: None,
        via,
        read_at: crate::meter::rfc3339(clock.now()),
        labels: labels.to_owned(),
        key_minute: minute.map(Timestamp::to_rfc3339_millis),
    }
}

/// The log files below a path, sorted; hidden files and folders are passed over.
///
/// # Errors
/// Those of the system, for the path itself.
pub fn log_files_in(path: &Path) -> std::io::Result<Vec<Found>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![path.to_owned()];
    let mut first = true;
    while let Some(folder) = folders.pop() {
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if first => return Err(error),
            // Removed since it was listed.
            Err(_) => continue,
        };
        first = false;
        for entry in entries.flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            let Ok(metadata) = std::fs::metadata(&path) else { continue };
            if name.starts_with('.') {
                continue;
            }
            if metadata.is_dir() {
                folders.push(path);
            } else if is_log_file_name(&name) {
                found.insert(path.clone(), describe(path, &metadata));
            }
        }
    }
    Ok(found.into_values().collect())
}

fn describe(path: PathBuf, metadata: &std::fs::Metadata) -> Found {
    let modified = metadata.modified().ok().and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
    let modified = u64::try_from(modified.unwrap_or_default().as_millis()).unwrap_or(u64::MAX);
    Found { path, len: metadata.len(), modified }
}

impl Found {
    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn is_log_file_name(name: &str) -> bool {
    [".json", ".json.gz", ".ndjson", ".ndjson.gz", ".gz"].iter().any(|ending| name.ends_with(ending))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    fn found(name: &str) -> Found {
        Found { path: name.into(), len: 1, modified: 1 }
    }

    #[tokio::test]
    async fn a_file_whose_job_died_is_tried_again() {
        let mut running = Running::default();
        running.start(&found("a"), async { panic!("deliberate") });
        assert!(running.has(&found("a")));
        assert_eq!(running.ended().await, Some((found("a"), false)));
        assert!(!running.has(&found("a")));
        assert_eq!(running.ended().await, None);
    }

    #[test]
    fn files_that_are_gone_are_forgotten_unless_all_seem_gone() {
        let mut done: HashSet<Found> = ["a", "b"].map(found).into();
        let mut later = HashMap::from([(found("c"), Duration::ZERO)]);
        forget_others(&mut done, &mut later, Vec::new());
        assert_eq!((done.len(), later.len()), (2, 1));
        forget_others(&mut done, &mut later, vec![found("b")]);
        assert_eq!((done, later.len()), ([found("b")].into(), 0));
    }
}
