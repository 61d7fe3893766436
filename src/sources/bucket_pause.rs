//! Buckets that refuse us: their log files wait, one is tried now and then, and everything else goes on.
//!
//! A denial says that the trail or the role is misconfigured; reading on would only spin messages through the queue's
//! `maxReceiveCount`. So the bucket is paused until a probe is let in. One object may be denied for reasons of its own
//! (another key, another owner): where others of its bucket can be read meanwhile, the bucket is not paused for it.

mod gate;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use cloudtrail::Content;
use sinks::ports::Clock;

use crate::config::Bucket;
use crate::telemetry::Metrics;
use crate::worker::fetch::{Fetch, FetchError, Opened, Version};
use gate::Gate;
pub use gate::PausedBucket;

/// Buckets that are remembered; with `*` in a name there may be any number.
const BUCKETS_MAX: usize = 10_000;

/// Log files of one source that wait while their messages are held, so that they go on at once; further messages are put
/// back on the queue.
const WAITING_MAX: usize = 1_000;

/// How long what is put back stays away: at least, and at most. In between as long as the pause has lasted, so that a
/// message is received few times however long that is.
const AWAY_MIN: Duration = Duration::from_secs(15 * 60);
const AWAY_MAX: Duration = Duration::from_secs(6 * 3600);

/// By source and name of the bucket.
type Gates = BTreeMap<(String, String), Arc<Gate>>;

/// The buckets of all queue sources.
pub struct BucketPauses {
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    gates: Mutex<Gates>,
}

impl BucketPauses {
    /// No bucket is paused.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { metrics, clock, gates: Mutex::default() })
    }

    /// An object of a bucket, read only while its bucket is not paused.
    pub fn guard(
        self: &Arc<Self>,
        source: &str,
        bucket: &str,
        key: &str,
        object: Arc<dyn Fetch>,
    ) -> Arc<dyn Fetch> {
        let mut gates = self.lock();
        if gates.len() >= BUCKETS_MAX {
            // Nobody reads from these, and they have nothing to remember that matters.
            gates.retain(|_, gate| Arc::strong_count(gate) > 1 || gate.paused_for().is_some());
        }
        let gate = gates.entry((source.to_owned(), bucket.to_owned()));
        let gate = gate.or_insert_with(|| Arc::new(Gate::new(source, bucket, Arc::clone(&self.clock))));
        Arc::new(Guarded {
            gate: Arc::clone(gate),
            pauses: Arc::clone(self),
            key: key.to_owned(),
            object,
            probes: AtomicBool::new(false),
            denied_at: Mutex::default(),
        })
    }

    /// How long a message has to stay away, of which nothing can be read and for which there is no room to wait.
    #[must_use]
    pub fn turns_away(&self, source: &str, leases_max: usize, content: &Content) -> Option<Duration> {
        let mut buckets: Vec<&str> = match content {
            Content::Objects(objects) => objects.iter().map(|object| object.bucket.as_str()).collect(),
            Content::Handoff(handoffs) => handoffs.iter().map(|handoff| handoff.bucket.as_str()).collect(),
            _ => return None,
        };
        buckets.dedup();
        let gates = self.lock();
        let mut away = None;
        for bucket in buckets {
            let age = gates.get(&(source.to_owned(), bucket.to_owned()))?.paused_for()?;
            away = away.max(Some(age.clamp(AWAY_MIN, AWAY_MAX)));
        }
        away.filter(|_| waiting(&gates, source) >= room(leases_max))
    }

    /// Whether more messages are of any use to a source: not where each of its buckets is paused and has enough that
    /// waits for it. Messages are better off on their queue then, where they are not received in vain.
    #[must_use]
    pub fn want_messages(&self, source: &str, leases_max: usize, buckets: &[&Bucket]) -> bool {
        let gates = self.lock();
        let is_paused = |rule: &&Bucket| {
            let gate = gates.get(&(source.to_owned(), rule.name.clone()));
            gate.is_some_and(|gate| gate.paused_for().is_some())
        };
        // A name with `*` is none of a bucket's: there may always be another one. The other half of the room is for what
        // has been asked for already.
        !buckets.iter().all(is_paused) || waiting(&gates, source) < room(leases_max).div_ceil(2)
    }

    /// The buckets of a source that are paused.
    #[must_use]
    pub fn paused(&self, source: &str) -> Vec<PausedBucket> {
        let gates = self.lock();
        gates.iter().filter(|((of, _), _)| of == source).filter_map(|(_, gate)| gate.pause()).collect()
    }

    /// Brings the metric up to date.
    pub fn tell(&self) {
        let all_open = self.lock().values().all(|gate| gate.paused_for().is_none());
        self.metrics.gauge("trail_check_ok", &["bucket_access"]).set(i64::from(all_open));
    }

    fn lock(&self) -> MutexGuard<'_, Gates> {
        self.gates.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Log files of a source that wait.
fn waiting(gates: &Gates, source: &str) -> usize {
    gates.iter().filter(|((of, _), _)| of == source).map(|(_, gate)| gate.waiting()).sum()
}

/// Log files of a source that may wait for paused buckets; at least as many leases are left for others.
fn room(leases_max: usize) -> usize {
    WAITING_MAX.min(leases_max / 2).max(1)
}

/// An object behind the gate of its bucket.
struct Guarded {
    gate: Arc<Gate>,
    pauses: Arc<BucketPauses>,
    key: String,
    object: Arc<dyn Fetch>,
    /// Whether its next opening is the bucket's probe.
    probes: AtomicBool,
    /// When it was denied for the first time.
    denied_at: Mutex<Option<Duration>>,
}

#[async_trait]
impl Fetch for Guarded {
    async fn open(&self, from: u64, pinned: &Version) -> Result<Opened, FetchError> {
        let probes = self.probes.swap(false, Ordering::Relaxed);
        if !probes && let Some(pause) = self.gate.pause() {
            return Err(FetchError::Denied(format!("{} is paused: {}", pause.bucket, pause.text)));
        }
        let asked_at = self.gate.now();
        let opened = self.object.open(from, pinned).await;
        let is_news = match &opened {
            // Whoever is told that there is none has been let in.
            Ok(_) | Err(FetchError::NotFound(_) | FetchError::Changed(_)) => {
                self.gate.let_in(&self.key, asked_at)
            }
            Err(FetchError::Denied(why)) => {
                let mut first = self.denied_at.lock().unwrap_or_else(PoisonError::into_inner);
                let first_at = *first.get_or_insert(asked_at);
                self.gate.denied(&self.key, why, asked_at, first_at, probes)
            }
            Err(FetchError::Interrupted(_)) => {
                if probes {
                    self.gate.probe_said_nothing();
                }
                false
            }
        };
        if is_news {
            self.pauses.tell();
        }
        opened
    }

    fn keys(&self) -> Vec<&str> {
        self.object.keys()
    }

    async fn current(&self) -> Option<Version> {
        // What is denied to all need not be asked for.
        if self.gate.paused_for().is_some() { None } else { self.object.current().await }
    }

    fn document(&self) -> Option<&bytes::Bytes> {
        self.object.document()
    }

    fn is_open(&self) -> bool {
        self.probes.load(Ordering::Relaxed) || self.gate.paused_for().is_none()
    }

    async fn opened(&self) {
        if !self.is_open() && self.gate.opened_or_probe(&self.key).await {
            self.probes.store(true, Ordering::Relaxed);
        }
    }
}
