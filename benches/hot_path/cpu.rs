//! The CPU time of this thread, so that what else the machine does costs only the caches.

use std::time::Duration;

use anyhow::Context as _;

/// CPU time of one pass, the mean of `passes`.
pub(crate) fn measure(passes: u64, mut pass: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<Duration> {
    let before = thread_time()?;
    for _ in 0..passes {
        pass()?;
    }
    Ok((thread_time()? - before).div_f64(passes as f64))
}

/// Source: <https://docs.kernel.org/scheduler/sched-stats.html>
fn thread_time() -> anyhow::Result<Duration> {
    // The kernel brings the number up to date when the thread is scheduled.
    std::thread::yield_now();
    let path = "/proc/thread-self/schedstat";
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    let nanos = text.split(' ').next().and_then(|first| first.parse().ok());
    nanos.map(Duration::from_nanos).with_context(|| format!("{path} holds {text}"))
}
