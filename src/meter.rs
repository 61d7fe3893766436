//! Turns what lanes, log files, leases and messages report into metrics and log lines.

mod lane;
mod refresh;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use cloudtrail::{ContentKind, ObjectRef, Timestamp};
use sinks::ports::Clock;
use sinks::{LaneState, Made, Reason, Via};

use crate::sources::leases::LeaseObserver;
use crate::telemetry::{Metrics, SourceSeries};
use crate::worker::fetch::FetchError;
use crate::worker::{JobEnd, JobObserver, PassError, PassObserver, Remains};

pub use lane::LaneMeter;
pub use refresh::refresh;

/// A failure that lasts is logged at once and then this often.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// RFC 3339 with milliseconds.
#[must_use]
pub fn rfc3339(at: SystemTime) -> String {
    Timestamp::from_millis(millis(at)).to_rfc3339_millis()
}

/// Milliseconds since 1970.
#[must_use]
pub fn millis(at: SystemTime) -> i64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[allow(clippy::cast_precision_loss, reason = "a metric needs no more than 53 bits")]
fn seconds(millis: i64) -> f64 {
    millis.max(0) as f64 / 1000.0
}

/// What a way counts as in the label `origin`: live, hand-off or backfill.
fn origin(via: Via) -> usize {
    match via {
        Via::Queue | Via::Inline | Via::Directory => 0,
        Via::Handoff => 1,
        Via::Backfill | Via::Redrive | Via::Ship => 2,
    }
}

/// Lets a log line through once an interval.
#[derive(Debug, Default)]
struct Throttle {
    /// Milliseconds on the monotonic clock, plus one; 0 before the first.
    last: AtomicU64,
}

impl Throttle {
    fn lets_through(&self, now: Duration) -> bool {
        let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX).saturating_add(1);
        let last = self.last.load(Ordering::Relaxed);
        let due = last == 0 || now.saturating_sub(last) >= LOG_INTERVAL.as_millis() as u64;
        due && self.last.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

/// The name of a state in metrics and on the status page.
#[must_use]
pub fn state_name(state: &LaneState) -> &'static str {
    match state {
        LaneState::Open => "ok",
        LaneState::Congested => "congested",
        LaneState::Unavailable(_) => "unavailable",
        LaneState::Denied(_) => "denied",
    }
}

fn dead_letter_failed(metrics: &Metrics, why: &std::io::Error) {
    metrics.counter("dead_letter_write_failures_total", &[]).inc();
    tracing::error!(code = "dead_letter_not_stored", error = %why, "events stay owed: check [dead_letter]");
}

/// Observes one source and the log files that it brings.
pub struct SourceMeter {
    source: String,
    sinks: Vec<String>,
    metrics: Arc<Metrics>,
    series: SourceSeries,
    clock: Arc<dyn Clock>,
    failing: Throttle,
    undeleted: Throttle,
    standing: Mutex<Standing>,
    visible: AtomicU64,
    held: AtomicU64,
}

/// How a source stands, for the status page.
#[derive(Default)]
struct Standing {
    /// The last failure since the last answer, and when on the monotonic clock.
    error: Option<(String, Duration)>,
    answered_at: Option<SystemTime>,
}

impl SourceMeter {
    /// An observer for the source of that name.
    #[must_use]
    pub fn new(source: &str, sinks: Vec<String>, metrics: Arc<Metrics>, clock: Arc<dyn Clock>) -> Self {
        let series = metrics.source(source);
        Self {
            source: source.to_owned(),
            sinks,
            metrics,
            series,
            clock,
            failing: Throttle::default(),
            undeleted: Throttle::default(),
            standing: Mutex::default(),
            visible: AtomicU64::new(0),
            held: AtomicU64::new(0),
        }
    }

    /// The source's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.source
    }

    /// Whether the source has ever answered.
    #[must_use]
    pub fn has_answered(&self) -> bool {
        self.standing().answered_at.is_some()
    }

    /// Why the source does not bring anything, and since when on the monotonic clock.
    #[must_use]
    pub fn error(&self) -> Option<(String, Duration)> {
        self.standing().error.clone()
    }

    /// When it last answered.
    #[must_use]
    pub fn last_receive(&self) -> Option<SystemTime> {
        self.standing().answered_at
    }

    /// Messages that wait, as the queue last estimated.
    #[must_use]
    pub fn visible_messages(&self) -> u64 {
        self.visible.load(Ordering::Relaxed)
    }

    /// Messages held when last counted.
    #[must_use]
    pub fn held_leases(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    /// Log files that ended well.
    #[must_use]
    pub fn log_files(&self) -> u64 {
        self.metrics.counter("log_files_total", &[&self.source, "done"]).get()
    }

    /// Events read for the first time.
    #[must_use]
    pub fn events_read(&self) -> u64 {
        self.series.first.get()
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The source answered.
    pub fn received(&self) {
        let now = self.clock.now();
        let mut standing = self.standing();
        standing.answered_at = Some(now);
        standing.error = None;
        drop(standing);
        self.metrics.gauge("source_last_receive_timestamp_seconds", &[&self.source]).set(millis(now) / 1000);
    }

    /// The source did not answer.
    pub fn receive_failed(&self, error: &str) {
        self.metrics.counter("source_errors_total", &[&self.source]).inc();
        let now = self.clock.monotonic();
        let mut standing = self.standing();
        let since = standing.error.as_ref().map_or(now, |(_, since)| *since);
        standing.error = Some((error.to_owned(), since));
        drop(standing);
        if self.failing.lets_through(now) {
            tracing::error!(
                code = "source_failing",
                source = self.source,
                error,
                "the source is asked again"
            );
        }
    }

    /// The oldest message of a receive was sent at this time, in milliseconds since 1970.
    pub fn oldest(&self, sent_ms: i64) {
        let age = millis(self.clock.now()).saturating_sub(sent_ms) / 1000;
        self.metrics.gauge("queue_oldest_message_age_seconds", &[&self.source]).set(age.max(0));
    }

    /// How many messages wait.
    pub fn visible(&self, messages: i64) {
        self.visible.store(u64::try_from(messages).unwrap_or(0), Ordering::Relaxed);
        self.metrics.gauge("queue_visible_messages", &[&self.source]).set(messages);
    }

    /// How many messages are held, and how many of those are only to be deleted yet.
    pub fn leases(&self, held: usize, closing: usize) {
        self.held.store(held as u64, Ordering::Relaxed);
        self.metrics.gauge("leases", &[&self.source, "open"]).set_count(held.saturating_sub(closing) as u64);
        self.metrics.gauge("leases", &[&self.source, "closing"]).set_count(closing as u64);
    }

    /// A message has ended.
    pub fn message(&self, shape: &str, outcome: &str) {
        self.metrics.counter("queue_messages_total", &[&self.source, shape, outcome]).inc();
    }

    /// A message that was sent at this time, in milliseconds since 1970, is done.
    pub fn lag(&self, via: Via, sent_ms: i64) {
        let Some(lag) = self.series.lag.get(origin(via)) else { return };
        lag.observe(seconds(millis(self.clock.now()).saturating_sub(sent_ms)));
    }

    /// The lease of a message was lost before it was done: it comes again, and may be delivered again.
    pub fn lease_lost(&self) {
        tracing::warn!(
            code = "lease_lost",
            source = self.source,
            "the lease of a message ended before the message was done: it comes again"
        );
    }

    /// Log files that a message says are gone.
    pub fn removed(&self, objects: &[ObjectRef]) {
        for object in objects {
            self.metrics.counter("log_files_removed_total", &[&self.source]).inc();
            tracing::warn!(
                code = "log_file_removed",
                source = self.source,
                bucket = object.bucket,
                key = object.key,
                "a log file was deleted from its bucket or has expired"
            );
        }
    }

    /// An object with nothing to ship in it.
    pub fn ignored(&self, object: &ObjectRef, why: &str) {
        self.outcome("ignored");
        tracing::debug!(
            code = "object_ignored",
            source = self.source,
            bucket = object.bucket,
            key = object.key,
            why
        );
    }

    /// A local file with nothing to ship in it.
    pub fn ignored_file(&self, path: &Path, why: &str) {
        self.outcome("ignored");
        tracing::info!(code = "object_ignored", source = self.source, key = %path.display(), why, "nothing to ship");
    }

    /// An object of a bucket that is not allowed.
    pub fn refused(&self, object: &ObjectRef) {
        self.outcome("refused");
        tracing::error!(
            code = "bucket_not_allowed",
            source = self.source,
            bucket = object.bucket,
            key = object.key,
            "a message names a bucket that is not in `buckets`: forged, or to be added; it stays on the queue"
        );
    }

    /// A log file has ended.
    pub fn log_file(&self, name: &str, end: &JobEnd) {
        let outcome = match end {
            JobEnd::Done { content: ContentKind::NoRecords(_), .. } => "no_records",
            JobEnd::Done { events: 0, .. } => "empty",
            JobEnd::Done { .. } => "done",
            JobEnd::DeadLettered => "dead_lettered",
            JobEnd::HandedOff => "handed_off",
            JobEnd::Kept(_) => "kept",
        };
        self.outcome(outcome);
        match end {
            JobEnd::Done { content: content @ ContentKind::NoRecords(_), .. } => tracing::warn!(
                code = "log_file_without_records",
                source = self.source,
                log_file = name,
                content = content.as_str(),
                "the object has the name of a log file and holds no events"
            ),
            JobEnd::Done { events, .. } => {
                tracing::debug!(code = "log_file_done", source = self.source, log_file = name, events);
            }
            JobEnd::DeadLettered => {}
            JobEnd::HandedOff => {
                tracing::debug!(code = "log_file_handed_off", source = self.source, log_file = name);
            }
            JobEnd::Kept(why) => tracing::warn!(
                code = "log_file_kept",
                source = self.source,
                log_file = name,
                why,
                "the log file is not done; it comes again"
            ),
        }
    }

    fn outcome(&self, outcome: &str) {
        self.metrics.counter("log_files_total", &[&self.source, outcome]).inc();
    }
}

impl PassObserver for SourceMeter {
    fn events(&self, made: &Made, again: bool) {
        let events = made.parcel.chunk().len() as u64;
        let pass = if again { &self.series.again } else { &self.series.first };
        pass.add(events);
        self.series.bytes.add(made.parcel.chunk().bytes().len() as u64);
        if again {
            return;
        }
        for (class, kind, count) in &made.actors {
            self.metrics.counter("events_by_actor_total", &[class.as_str(), kind.as_str()]).add(*count);
        }
        if made.id_conflicts > 0 {
            self.metrics.counter("event_id_conflicts_total", &[&self.source]).add(made.id_conflicts);
            tracing::warn!(
                code = "event_id_conflict",
                source = self.source,
                key = made.parcel.file().key,
                events = made.id_conflicts,
                "events of one log file have the same id and other bytes; they keep both"
            );
        }
    }

    fn interrupted(&self, error: &FetchError) {
        self.metrics.counter("log_file_interruptions_total", &[&self.source]).inc();
        tracing::debug!(code = "download_interrupted", source = self.source, error = %error);
    }

    fn compressed(&self, bytes: u64) {
        self.series.compressed_bytes.add(bytes);
    }
}

impl JobObserver for SourceMeter {
    fn failed(&self, name: &str, error: &PassError, attempt: u32) {
        // Whatever comes of it has a line of its own, which says more.
        tracing::info!(
            code = error.code(),
            source = self.source,
            log_file = name,
            error = %error,
            attempt,
            "the log file could not be read"
        );
    }

    fn dead_lettered(&self, name: &str, from: u64, why: &Reason, remains: Remains) {
        tracing::error!(
            code = "log_file_dead_lettered",
            source = self.source,
            log_file = name,
            from_record = from,
            why = why.text,
            whole_in_letter = remains == Remains::InLetter,
            "the rest of the log file cannot be read; the dead letters name it, and hold it where it came in a message"
        );
    }

    fn dead_letter_failed(&self, error: &std::io::Error) {
        dead_letter_failed(&self.metrics, error);
    }

    fn dropped(&self, lane: usize, events: u64) {
        if let Some(sink) = self.sinks.get(lane) {
            self.metrics.counter("sink_events_total", &[sink, "dropped"]).add(events);
        }
    }

    fn again(&self, name: &str, lane: usize, owed: u64) {
        let sink = self.sinks.get(lane);
        tracing::debug!(code = "log_file_again", source = self.source, log_file = name, sink, owed);
    }
}

impl LeaseObserver for SourceMeter {
    fn extended(&self, outcome: &'static str, leases: u64) {
        self.metrics.counter("lease_extensions_total", &[&self.source, outcome]).add(leases);
    }

    fn delete_failed(&self, error: &str) {
        self.metrics.counter("queue_delete_failures_total", &[&self.source]).inc();
        if self.undeleted.lets_through(self.clock.monotonic()) {
            tracing::warn!(
                code = "message_not_deleted",
                source = self.source,
                error,
                "a message that is done could not be deleted; it is tried again while its lease lasts"
            );
        }
    }
}
