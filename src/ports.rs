//! The ports of `sinks`, as production has them.

mod dialer;
mod disk;
mod files;
mod transport;

use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use sinks::ports::{Clock, Compute, Job, Random};

pub use dialer::SocketDialer;
pub use disk::{Disk, DiskFile, Open, lock_file};
pub use files::{DiskFiles, LocalFiles, LocalReader, blocking};
pub use transport::{HttpTransport, TransportSettings};

/// The system's clocks.
#[derive(Debug)]
pub struct SystemClock {
    start: tokio::time::Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self { start: tokio::time::Instant::now() }
    }
}

#[async_trait]
impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "this is the one place that asks the system")]
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// Randomness seeded by the system; good for jitter and names, not for keys.
#[derive(Debug, Default)]
pub struct SystemRandom {
    state: std::hash::RandomState,
    counter: std::sync::atomic::AtomicU64,
}

impl Random for SystemRandom {
    fn next(&self) -> u64 {
        use std::hash::BuildHasher as _;
        self.state.hash_one(self.counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
    }
}

/// As many worker threads as there are processors to use.
///
/// Inflating, splitting, encoding and compressing run here, so that the runtime's threads only wait for IO.
#[derive(Debug)]
pub struct Workers {
    jobs: mpsc::Sender<Job>,
}

impl Workers {
    /// Starts `threads` workers.
    ///
    /// # Errors
    /// If the system has no more threads.
    pub fn start(threads: usize) -> std::io::Result<Self> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let queue = Arc::new(Mutex::new(queue));
        for number in 0..threads.max(1) {
            let queue = Arc::clone(&queue);
            let work = move || {
                loop {
                    let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok(job) = next else { return };
                    // A job that panics must not take the worker with it; who waits for it learns that it died.
                    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(job));
                }
            };
            std::thread::Builder::new().name(format!("worker-{number}")).spawn(work)?;
        }
        Ok(Self { jobs })
    }
}

impl Compute for Workers {
    fn submit(&self, job: Job) {
        // Fails only when all workers are gone; who waits for the job then learns that it died.
        let _ = self.jobs.send(job);
    }
}
