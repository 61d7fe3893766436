//! The ports of `sinks` for a simulation: virtual time, one seed, inline compute, files and buckets in memory.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use sinks::ports::{Clock, Compute, Files, Job, ObjectStore, Random, Transport};
use sinks::{Answer, DeadLetterStore, Head, Letter, Reason, ReasonCode};

/// Time as tokio counts it: virtual where the test has paused it.
#[derive(Clone, Debug)]
pub struct SimulatedClock {
    start: tokio::time::Instant,
    epoch: SystemTime,
}

impl SimulatedClock {
    /// A clock that says `epoch_seconds` since 1970 now.
    #[must_use]
    pub fn new(epoch_seconds: u64) -> Self {
        let epoch = SystemTime::UNIX_EPOCH + Duration::from_secs(epoch_seconds);
        Self { start: tokio::time::Instant::now(), epoch }
    }
}

#[async_trait]
impl Clock for SimulatedClock {
    fn now(&self) -> SystemTime {
        self.epoch + self.start.elapsed()
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// Randomness from one seed: the same seed gives the same numbers.
#[derive(Debug)]
pub struct SeededRandom(Mutex<u64>);

impl SeededRandom {
    /// The numbers of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(seed))
    }
}

impl Random for SeededRandom {
    /// SplitMix64, <https://prng.di.unimi.it/splitmix64.c>.
    fn next(&self) -> u64 {
        let mut state = lock(&self.0);
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// Runs every job where it is submitted.
#[derive(Clone, Copy, Debug, Default)]
pub struct InlineCompute;

impl Compute for InlineCompute {
    fn submit(&self, job: Job) {
        job();
    }
}

/// Files in memory; every write is durable at once, unless it is made to fail half-way.
#[derive(Debug, Default)]
pub struct MemoryFiles {
    state: Mutex<MemoryState>,
}

#[derive(Debug, Default)]
struct MemoryState {
    files: BTreeMap<PathBuf, Vec<u8>>,
    /// Calls that fail from now on.
    failures: u32,
}

impl MemoryFiles {
    /// No files.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The next `count` writes fail; each leaves half of its bytes behind.
    pub fn fail(&self, count: u32) {
        lock(&self.state).failures = count;
    }

    /// A file's content.
    #[must_use]
    pub fn content(&self, path: &Path) -> Option<Vec<u8>> {
        lock(&self.state).files.get(path).cloned()
    }

    /// All names.
    #[must_use]
    pub fn names(&self) -> Vec<PathBuf> {
        lock(&self.state).files.keys().cloned().collect()
    }

    /// Puts a file there, or cuts it, as a crash may leave it.
    pub fn put(&self, path: &Path, content: &[u8]) {
        lock(&self.state).files.insert(path.to_owned(), content.to_vec());
    }
}

#[async_trait]
impl Files for MemoryFiles {
    async fn append(&self, path: &Path, bytes: Bytes) -> io::Result<u64> {
        let mut state = lock(&self.state);
        let fails = state.failures > 0;
        state.failures = state.failures.saturating_sub(1);
        let file = state.files.entry(path.to_owned()).or_default();
        if fails {
            file.extend_from_slice(bytes.get(..bytes.len() / 2).unwrap_or_default());
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        file.extend_from_slice(&bytes);
        Ok(file.len() as u64)
    }

    async fn replace(&self, path: &Path, bytes: Bytes) -> io::Result<()> {
        lock(&self.state).files.insert(path.to_owned(), bytes.to_vec());
        Ok(())
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = lock(&self.state);
        let content = state.files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.files.insert(to.to_owned(), content);
        Ok(())
    }

    async fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        Ok(self.content(path))
    }

    async fn mend(&self, path: &Path) -> io::Result<u64> {
        let mut state = lock(&self.state);
        let Some(file) = state.files.get_mut(path) else { return Ok(0) };
        let keep = file.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        file.truncate(keep);
        Ok(keep as u64)
    }

    async fn cut(&self, path: &Path, len: u64) -> io::Result<()> {
        if let Some(file) = lock(&self.state).files.get_mut(path) {
            file.truncate(usize::try_from(len).unwrap_or(usize::MAX));
        }
        Ok(())
    }

    async fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        let plain = |path: &Path| path.strip_prefix(".").unwrap_or(path).to_owned();
        let is_in = |path: &PathBuf| plain(path).parent() == Some(plain(folder).as_path());
        Ok(self.names().into_iter().filter(is_in).collect())
    }
}

/// Dead letters in memory.
#[derive(Debug, Default)]
pub struct MemoryDeadLetters {
    letters: Mutex<Vec<Letter>>,
    failures: Mutex<u32>,
}

impl MemoryDeadLetters {
    /// None.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What was stored.
    #[must_use]
    pub fn letters(&self) -> Vec<Letter> {
        lock(&self.letters).clone()
    }

    /// The next `count` calls fail.
    pub fn fail(&self, count: u32) {
        *lock(&self.failures) = count;
    }
}

#[async_trait]
impl DeadLetterStore for MemoryDeadLetters {
    async fn store(&self, letters: &[Letter]) -> io::Result<()> {
        let mut failures = lock(&self.failures);
        if *failures > 0 {
            *failures -= 1;
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        lock(&self.letters).extend_from_slice(letters);
        Ok(())
    }
}

/// A bucket in memory.
#[derive(Debug, Default)]
pub struct MemoryObjects {
    objects: Mutex<BTreeMap<String, Bytes>>,
    failures: Mutex<u32>,
}

impl MemoryObjects {
    /// An empty bucket.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The next `count` calls fail.
    pub fn fail(&self, count: u32) {
        *lock(&self.failures) = count;
    }

    /// Everything in it.
    #[must_use]
    pub fn objects(&self) -> BTreeMap<String, Bytes> {
        lock(&self.objects).clone()
    }
}

#[async_trait]
impl ObjectStore for MemoryObjects {
    async fn put(&self, key: &str, bytes: Bytes) -> Result<(), Reason> {
        let mut failures = lock(&self.failures);
        if *failures > 0 {
            *failures -= 1;
            return Err(Reason::new(ReasonCode::Io, "simulated failure"));
        }
        lock(&self.objects).insert(key.to_owned(), bytes);
        Ok(())
    }

    async fn put_new(&self, key: &str, bytes: Bytes) -> Result<bool, Reason> {
        if lock(&self.objects).contains_key(key) {
            return Ok(false);
        }
        self.put(key, bytes).await.map(|()| true)
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>, Reason> {
        Ok(lock(&self.objects).get(key).cloned())
    }

    async fn start(&self, key: &str, len: usize) -> Result<Option<Bytes>, Reason> {
        Ok(lock(&self.objects).get(key).map(|bytes| bytes.slice(..len.min(bytes.len()))))
    }
}

/// What a [`SimulatedTransport`] does with a request.
type Respond = dyn Fn(&Head, &Bytes) -> Result<Answer, Reason> + Send + Sync;

/// A network in memory: every request goes to one function, after a delay on the (virtual) clock.
pub struct SimulatedTransport {
    respond: Box<Respond>,
    delay: Duration,
    requests: Mutex<Vec<(Head, Bytes)>>,
}

impl SimulatedTransport {
    /// A network behind which `respond` answers.
    pub fn new(respond: impl Fn(&Head, &Bytes) -> Result<Answer, Reason> + Send + Sync + 'static) -> Self {
        Self { respond: Box::new(respond), delay: Duration::ZERO, requests: Mutex::default() }
    }

    /// The same with a delay before each answer.
    #[must_use]
    pub fn with_delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// All requests so far.
    #[must_use]
    pub fn requests(&self) -> Vec<(Head, Bytes)> {
        lock(&self.requests).clone()
    }
}

#[async_trait]
impl Transport for SimulatedTransport {
    async fn exchange(&self, head: Head, body: Bytes) -> Result<Answer, Reason> {
        if !self.delay.is_zero() {
            tokio::time::sleep(self.delay).await;
        }
        lock(&self.requests).push((head.clone(), body.clone()));
        (self.respond)(&head, &body)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
