//! Gathers the status from lanes, sources and metrics, for the admin pages.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use sinks::{Lane, Outcome};

use crate::admin::{
    Counts, Memory, SinkState, SinkStatus, SourceState, SourceStatus, Status, StatusSource, Trouble,
};
use crate::config::{Config, Source, SourceKind};
use crate::meter::{SourceMeter, refresh, rfc3339};
use crate::telemetry::Metrics;
use crate::worker::Plan;

/// A failure is shown this long after the sink is well again.
const TROUBLE_SHOWN: Duration = Duration::from_secs(900);

/// What the pages are made from.
pub struct Board {
    pub config: Arc<Config>,
    pub plan: Arc<Plan>,
    pub metrics: Arc<Metrics>,
    /// In the order of the configuration.
    pub sources: Vec<Arc<SourceMeter>>,
    /// Where each sink's events go, for display.
    pub places: Vec<Vec<String>>,
    pub started_at: SystemTime,
}

impl Board {
    /// All metrics, up to date.
    pub fn metrics_text(&self) -> String {
        refresh(&self.metrics, &self.plan.lanes, &self.plan.owed, &*self.plan.clock);
        self.metrics.text()
    }

    fn since(&self, at: SystemTime) -> u64 {
        self.plan.clock.now().duration_since(at).unwrap_or_default().as_secs()
    }

    fn source(&self, index: usize, meter: &SourceMeter) -> SourceStatus {
        let is_handoff = |source: &&Source| source.handoff_name().as_deref() == Some(meter.name());
        let handoffs = self.config.sources.iter().find(is_handoff);
        let kind = self.config.sources.get(index).or(handoffs).map(|source| &source.kind);
        let (type_name, place) = match kind {
            Some(SourceKind::Sqs(sqs)) if handoffs.is_some() => {
                ("sqs", sqs.handoff_queue_url.clone().unwrap_or_default())
            }
            Some(SourceKind::Sqs(sqs)) => ("sqs", sqs.queue_url.clone()),
            Some(SourceKind::Directory(directory)) => ("directory", directory.path.display().to_string()),
            None => ("", String::new()),
        };
        let is_queue = matches!(kind, Some(SourceKind::Sqs(_)));
        let state = match (meter.has_answered(), meter.error()) {
            (_, Some(_)) => SourceState::Failing,
            (true, None) => SourceState::Ok,
            (false, None) => SourceState::Starting,
        };
        let trouble = meter.error().map(|(text, at)| Trouble {
            code: "source_failing".to_owned(),
            text,
            remedy: source_remedy(meter.name(), is_queue),
            seconds_ago: self.plan.clock.monotonic().saturating_sub(at).as_secs(),
        });
        SourceStatus {
            name: meter.name().to_owned(),
            type_name: type_name.to_owned(),
            place,
            state,
            trouble,
            last_receive_seconds_ago: meter.last_receive().map(|at| self.since(at)),
            visible_messages: is_queue.then(|| meter.visible_messages()),
            leases: is_queue.then(|| meter.held_leases()),
            log_files: meter.log_files(),
            events: meter.events_read(),
        }
    }

    fn sink(&self, index: usize, lane: &Lane) -> SinkStatus {
        let config = self.config.sinks.get(index);
        let (name, health, stats) = (lane.config().name.as_str(), lane.health(), lane.stats());
        let state = health.state();
        let trouble = health.last_failure().and_then(|failure| {
            let seconds_ago = self.since(failure.at);
            let shown = !state.is_open() || seconds_ago < TROUBLE_SHOWN.as_secs();
            shown.then(|| Trouble::of_sink(name, &failure.why, seconds_ago))
        });
        let (owed, oldest) = self.plan.owed.of(index, &*self.plan.clock);
        SinkStatus {
            name: name.to_owned(),
            type_name: lane.config().sink_type.clone(),
            places: self.places.get(index).cloned().unwrap_or_default(),
            required: config.is_none_or(|sink| sink.required),
            state: SinkState::from(&state),
            trouble,
            last_delivery_seconds_ago: health.last_delivery().map(|at| self.since(at)),
            events: Counts {
                offered: stats.offered(),
                delivered: stats.count(Outcome::Delivered),
                duplicate: stats.count(Outcome::Duplicate),
                dead_lettered: stats.count(Outcome::DeadLettered),
                released: stats.count(Outcome::Released),
                handed_off: stats.count(Outcome::HandedOff),
                in_flight: stats.in_flight(),
            },
            owed_log_files: owed,
            owed_oldest_seconds: oldest.map(|age| age.as_secs()),
            concurrency: health.concurrency() as u64,
            batch_bytes_max: health.batch_bytes_max() as u64,
        }
    }
}

impl StatusSource for Board {
    fn status(&self) -> Status {
        let budget = self.plan.lanes.budget();
        let sources = self.sources.iter().enumerate().map(|(index, meter)| self.source(index, meter));
        let sinks = self.plan.lanes.all().iter().enumerate().map(|(index, lane)| self.sink(index, lane));
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: rfc3339(self.started_at),
            uptime_seconds: self.since(self.started_at),
            config_sha256: self.config.sha256.clone(),
            memory: Memory { in_flight_bytes: budget.in_use_bytes(), budget_bytes: budget.total_bytes() },
            sources: sources.collect(),
            sinks: sinks.collect(),
            dead_letter: self.config.dead_letter.as_ref().map(ToString::to_string),
            dead_letter_write_failures: self.metrics.counter("dead_letter_write_failures_total", &[]).get(),
            warnings: self.config.warnings.iter().map(ToString::to_string).collect(),
        }
    }
}

/// What an operator can do about a source that does not answer.
pub fn source_remedy(name: &str, is_queue: bool) -> String {
    if is_queue {
        format!(
            "see that sources.{name}.queue_url is right and that the role may receive from it: trailship check"
        )
    } else {
        format!("see that sources.{name}.path exists and can be read")
    }
}
