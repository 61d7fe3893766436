//! Every metric: its name, unit, labels and help stand in one table, and every series is born at 0.

use std::collections::BTreeMap;

use cloudtrail::{ActorKind, NotificationShape};
use prometheus::core::Collector;
use prometheus::local::LocalHistogram;
use prometheus::{
    Encoder as _, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry, TextEncoder,
};
use sinks::{Outcome, ReasonCode};

/// What kind of metric it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts in buckets.
    Histogram,
}

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Without the prefix `trailship_`.
    pub name: &'static str,
    /// What kind it is.
    pub kind: Kind,
    /// Names of its labels.
    pub labels: &'static [&'static str],
    /// One sentence.
    pub help: &'static str,
}

const fn metric(
    name: &'static str,
    kind: Kind,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric { name, kind, labels, help }
}

use Kind::{Counter, Gauge};

/// Every metric there is.
pub const METRICS: &[Metric] = &[
    metric(
        "queue_messages_total",
        Counter,
        &["source", "shape", "outcome"],
        "Messages by what they were and how they ended.",
    ),
    metric(
        "queue_visible_messages",
        Gauge,
        &["source"],
        "Messages that wait on the queue, as the queue estimates.",
    ),
    metric(
        "queue_oldest_message_age_seconds",
        Gauge,
        &["source"],
        "Age of the oldest message of the last receive that brought one.",
    ),
    metric(
        "source_last_receive_timestamp_seconds",
        Gauge,
        &["source"],
        "When the source last answered, with or without messages.",
    ),
    metric("source_errors_total", Counter, &["source"], "Failed receives or scans."),
    metric("log_files_total", Counter, &["source", "outcome"], "Log files by how they ended."),
    metric("log_file_compressed_bytes_total", Counter, &["source"], "Bytes fetched."),
    metric("log_file_bytes_total", Counter, &["source"], "Bytes of events read, inflated."),
    metric(
        "log_file_interruptions_total",
        Counter,
        &["source"],
        "Downloads that were interrupted and went on.",
    ),
    metric(
        "log_files_removed_total",
        Counter,
        &["source"],
        "Notifications that a log file was deleted or expired.",
    ),
    metric(
        "log_file_deletes_failed_total",
        Counter,
        &["source"],
        "Messages that could not be deleted after their delivery.",
    ),
    metric("events_read_total", Counter, &["source", "pass"], "Events read, the first time or again."),
    metric(
        "event_id_conflicts_total",
        Counter,
        &["source"],
        "Events with the id of another event of their log file and other bytes.",
    ),
    metric("events_by_actor_total", Counter, &["class", "kind"], "Events read the first time, by who acted."),
    metric("sink_events_offered_total", Counter, &["sink"], "Events handed to the sink's lane."),
    metric("sink_events_total", Counter, &["sink", "outcome"], "Events by how they ended at the sink."),
    metric("sink_events_in_flight", Gauge, &["sink"], "Events with the lane and without an outcome yet."),
    metric(
        "sink_requests_total",
        Counter,
        &["sink", "result"],
        "Requests by result: ok, or the class of failure.",
    ),
    metric(
        "sink_request_duration_seconds",
        Kind::Histogram,
        &["sink"],
        "Time from sending a request to its whole answer.",
    ),
    metric("sink_state", Gauge, &["sink", "state"], "1 for the state that the sink is in."),
    metric("sink_errors_total", Counter, &["sink", "class"], "Failures by class."),
    metric("sink_last_delivery_timestamp_seconds", Gauge, &["sink"], "When the sink last took an event."),
    metric(
        "sink_owed_log_files",
        Gauge,
        &["sink"],
        "Log files of which the sink still owes events and that wait to be read again.",
    ),
    metric("sink_owed_oldest_seconds", Gauge, &["sink"], "For how long the oldest of them has been waiting."),
    metric("sink_concurrency", Gauge, &["sink"], "Requests that may be under way at once at the moment."),
    metric(
        "sink_batch_limit_bytes",
        Gauge,
        &["sink"],
        "The most bytes of a batch: configured, or learnt from the destination.",
    ),
    metric(
        "event_age_seconds",
        Kind::Histogram,
        &["sink", "origin"],
        "From the event's time to its acceptance by the sink.",
    ),
    metric(
        "processing_lag_seconds",
        Kind::Histogram,
        &["source"],
        "From the sending of a message to the end of everything it stands for.",
    ),
    metric("in_flight_bytes", Gauge, &[], "Bytes of log files in memory."),
    metric("memory_budget_bytes", Gauge, &[], "The most that they may be."),
    metric("leases", Gauge, &["source"], "Messages held."),
    metric(
        "lease_extensions_total",
        Counter,
        &["source", "outcome"],
        "Leases extended, lost, or not extended for a failure.",
    ),
    metric(
        "dead_letter_write_failures_total",
        Counter,
        &[],
        "Dead letters that could not be stored; their events stay owed.",
    ),
    metric("config_info", Gauge, &["sha256"], "1 for the configuration in force."),
    metric("build_info", Gauge, &["version"], "1 for the running version."),
];

/// Outcomes of a message; the label `outcome` of `queue_messages_total`.
pub const MESSAGE_OUTCOMES: [&str; 5] = ["done", "nothing", "unknown", "refused", "kept"];

/// Outcomes of a log file; the label `outcome` of `log_files_total`.
pub const LOG_FILE_OUTCOMES: [&str; 7] =
    ["done", "empty", "no_records", "ignored", "refused", "dead_lettered", "kept"];

/// States of a sink; the label `state` of `sink_state`.
pub const SINK_STATES: [&str; 4] = ["ok", "congested", "unavailable", "denied"];

/// Where events come from; the label `origin` of `event_age_seconds`.
pub const ORIGINS: [&str; 3] = ["live", "handoff", "backfill"];

/// The registry, with typed handles.
pub struct Metrics {
    registry: Registry,
    counters: BTreeMap<&'static str, IntCounterVec>,
    gauges: BTreeMap<&'static str, IntGaugeVec>,
    histograms: BTreeMap<&'static str, HistogramVec>,
}

/// The series of one sink.
pub struct SinkSeries {
    /// `sink_events_offered_total`.
    pub offered: Count,
    /// `sink_request_duration_seconds`.
    pub duration: Timing,
    /// `event_age_seconds`, by origin in the order of [`ORIGINS`].
    pub age: [Timing; ORIGINS.len()],
}

/// The series of one source.
pub struct SourceSeries {
    /// `log_file_compressed_bytes_total`.
    pub compressed_bytes: Count,
    /// `log_file_bytes_total`.
    pub bytes: Count,
    /// `events_read_total{pass="first"}`.
    pub first: Count,
    /// `events_read_total{pass="again"}`.
    pub again: Count,
    /// `processing_lag_seconds`.
    pub lag: Timing,
}

impl Metrics {
    /// Metrics for the given sources and sinks, all series at 0.
    #[must_use]
    pub fn new(sources: &[String], sinks: &[String]) -> Self {
        let mut metrics = Self {
            registry: Registry::new(),
            counters: BTreeMap::new(),
            gauges: BTreeMap::new(),
            histograms: BTreeMap::new(),
        };
        for metric in METRICS {
            metrics.add(metric);
        }
        metrics.bear(sources, sinks);
        metrics
    }

    fn add(&mut self, metric: &Metric) {
        let opts = Opts::new(format!("trailship_{}", metric.name), metric.help);
        match metric.kind {
            Kind::Counter => {
                if let Ok(vec) = IntCounterVec::new(opts, metric.labels) {
                    self.register(&vec);
                    self.counters.insert(metric.name, vec);
                }
            }
            Kind::Gauge => {
                if let Ok(vec) = IntGaugeVec::new(opts, metric.labels) {
                    self.register(&vec);
                    self.gauges.insert(metric.name, vec);
                }
            }
            Kind::Histogram => {
                let buckets = if metric.name == "sink_request_duration_seconds" {
                    vec![0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0]
                } else {
                    vec![
                        5.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 7200.0, 21600.0, 86400.0,
                    ]
                };
                let opts = HistogramOpts::from(opts).buckets(buckets);
                if let Ok(vec) = HistogramVec::new(opts, metric.labels) {
                    self.register(&vec);
                    self.histograms.insert(metric.name, vec);
                }
            }
        }
    }

    fn register(&self, collector: &(impl Collector + Clone + 'static)) {
        // Fails only for a name that stands twice in the table, which a test rules out.
        let _ = self.registry.register(Box::new(collector.clone()));
    }

    fn bear(&self, sources: &[String], sinks: &[String]) {
        for source in sources {
            for shape in NotificationShape::ALL {
                for outcome in MESSAGE_OUTCOMES {
                    self.counter("queue_messages_total", &[source, shape.as_str(), outcome]);
                }
            }
            for outcome in LOG_FILE_OUTCOMES {
                self.counter("log_files_total", &[source, outcome]);
            }
            for outcome in ["extended", "lost", "failed"] {
                self.counter("lease_extensions_total", &[source, outcome]);
            }
            for name in [
                "source_errors_total",
                "log_file_interruptions_total",
                "log_files_removed_total",
                "log_file_deletes_failed_total",
                "event_id_conflicts_total",
            ] {
                self.counter(name, &[source]);
            }
            for name in [
                "queue_visible_messages",
                "queue_oldest_message_age_seconds",
                "source_last_receive_timestamp_seconds",
                "leases",
            ] {
                self.gauge(name, &[source]);
            }
            drop(self.source(source));
        }
        for sink in sinks {
            for outcome in Outcome::ALL.map(Outcome::as_str).into_iter().chain(["dropped"]) {
                self.counter("sink_events_total", &[sink, outcome]);
            }
            self.counter("sink_requests_total", &[sink, "ok"]);
            for class in ReasonCode::ALL {
                self.counter("sink_requests_total", &[sink, class.as_str()]);
                self.counter("sink_errors_total", &[sink, class.as_str()]);
            }
            for state in SINK_STATES {
                self.gauge("sink_state", &[sink, state]).set(i64::from(state == "ok"));
            }
            for name in [
                "sink_events_in_flight",
                "sink_last_delivery_timestamp_seconds",
                "sink_owed_log_files",
                "sink_owed_oldest_seconds",
                "sink_concurrency",
                "sink_batch_limit_bytes",
            ] {
                self.gauge(name, &[sink]);
            }
            drop(self.sink(sink));
        }
        for kind in ActorKind::ALL {
            self.counter("events_by_actor_total", &[kind.class().as_str(), kind.as_str()]);
        }
        self.gauge("in_flight_bytes", &[]);
        self.gauge("memory_budget_bytes", &[]);
        self.counter("dead_letter_write_failures_total", &[]);
        self.gauge("build_info", &[env!("CARGO_PKG_VERSION")]).set(1);
    }

    /// The series of a sink.
    #[must_use]
    pub fn sink(&self, sink: &str) -> SinkSeries {
        SinkSeries {
            offered: self.counter("sink_events_offered_total", &[sink]),
            duration: self.histogram("sink_request_duration_seconds", &[sink]),
            age: ORIGINS.map(|origin| self.histogram("event_age_seconds", &[sink, origin])),
        }
    }

    /// The series of a source.
    #[must_use]
    pub fn source(&self, source: &str) -> SourceSeries {
        SourceSeries {
            compressed_bytes: self.counter("log_file_compressed_bytes_total", &[source]),
            bytes: self.counter("log_file_bytes_total", &[source]),
            first: self.counter("events_read_total", &[source, "first"]),
            again: self.counter("events_read_total", &[source, "again"]),
            lag: self.histogram("processing_lag_seconds", &[source]),
        }
    }

    /// A counter of the table; asking for it makes its series.
    #[allow(clippy::must_use_candidate, reason = "asking for it makes the series")]
    pub fn counter(&self, name: &str, labels: &[&str]) -> Count {
        let found = self.counters.get(name).and_then(|vec| vec.get_metric_with_label_values(labels).ok());
        debug_assert!(found.is_some(), "no counter {name} with {} labels", labels.len());
        Count(found)
    }

    /// A gauge of the table; asking for it makes its series.
    #[allow(clippy::must_use_candidate, reason = "asking for it makes the series")]
    pub fn gauge(&self, name: &str, labels: &[&str]) -> Level {
        let found = self.gauges.get(name).and_then(|vec| vec.get_metric_with_label_values(labels).ok());
        debug_assert!(found.is_some(), "no gauge {name} with {} labels", labels.len());
        Level(found)
    }

    fn histogram(&self, name: &str, labels: &[&str]) -> Timing {
        let found = self.histograms.get(name).and_then(|vec| vec.get_metric_with_label_values(labels).ok());
        debug_assert!(found.is_some(), "no histogram {name} with {} labels", labels.len());
        Timing(found)
    }

    /// Everything in Prometheus' text format.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = Vec::new();
        // Writing to a vector fails only for a metric without samples, of which there is none.
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut out);
        String::from_utf8(out).unwrap_or_default()
    }
}

/// A counter. A name that is not in the table, which tests rule out, counts for nobody.
#[derive(Clone, Debug)]
pub struct Count(Option<IntCounter>);

impl Count {
    /// Adds one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds so many.
    pub fn add(&self, count: u64) {
        if let Some(counter) = &self.0 {
            counter.inc_by(count);
        }
    }

    /// Brings it up to `total`, counted elsewhere; it never goes down.
    pub fn raise_to(&self, total: u64) {
        self.add(total.saturating_sub(self.get()));
    }

    /// Its value.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.as_ref().map_or(0, IntCounter::get)
    }
}

/// A gauge.
#[derive(Clone, Debug)]
pub struct Level(Option<IntGauge>);

impl Level {
    /// Sets it.
    pub fn set(&self, value: i64) {
        if let Some(gauge) = &self.0 {
            gauge.set(value);
        }
    }

    /// Sets it to a count.
    pub fn set_count(&self, value: u64) {
        self.set(i64::try_from(value).unwrap_or(i64::MAX));
    }
}

/// A histogram of seconds.
#[derive(Clone, Debug)]
pub struct Timing(Option<Histogram>);

impl Timing {
    /// Adds an observation.
    pub fn observe(&self, seconds: f64) {
        if let Some(histogram) = &self.0 {
            histogram.observe(seconds);
        }
    }

    /// Takes many observations, and adds them when dropped.
    #[must_use]
    pub fn batch(&self) -> TimingBatch {
        TimingBatch(self.0.as_ref().map(Histogram::local))
    }
}

/// Observations that are not part of their histogram yet.
#[derive(Debug)]
pub struct TimingBatch(Option<LocalHistogram>);

impl TimingBatch {
    /// Adds an observation.
    pub fn observe(&self, seconds: f64) {
        if let Some(histogram) = &self.0 {
            histogram.observe(seconds);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn metrics() -> Metrics {
        Metrics::new(&["trail".to_owned()], &["search".to_owned()])
    }

    #[test]
    fn every_metric_is_registered_and_named_by_the_rules() {
        let metrics = metrics();
        assert_eq!(
            metrics.registry.gather().len(),
            METRICS.len() - 1,
            "config_info comes with a configuration"
        );
        for metric in METRICS {
            assert_eq!(metric.kind == Counter, metric.name.ends_with("_total"), "{}", metric.name);
            assert!(!metric.help.is_empty());
            assert!(metric.labels.iter().all(|label| !["account", "name"].contains(label)));
        }
    }

    #[test]
    fn every_series_is_born_at_zero() {
        let text = metrics().text();
        for line in [
            "trailship_sink_events_total{outcome=\"dead_lettered\",sink=\"search\"} 0",
            "trailship_sink_events_total{outcome=\"dropped\",sink=\"search\"} 0",
            "trailship_log_files_total{outcome=\"refused\",source=\"trail\"} 0",
            "trailship_sink_state{sink=\"search\",state=\"denied\"} 0",
            "trailship_sink_state{sink=\"search\",state=\"ok\"} 1",
            "trailship_events_by_actor_total{class=\"aws_service\",kind=\"on_behalf_of\"} 0",
            "trailship_dead_letter_write_failures_total 0",
        ] {
            assert!(text.contains(line), "{line}");
        }
    }

    #[test]
    fn a_total_that_is_counted_elsewhere_never_goes_down() {
        let counter = metrics().counter("dead_letter_write_failures_total", &[]);
        counter.raise_to(5);
        counter.raise_to(3);
        assert_eq!(counter.get(), 5);
    }
}
