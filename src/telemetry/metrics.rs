//! The registry: typed handles on the metrics of the table, every series born at 0.

use std::collections::BTreeMap;

use cloudtrail::{ActorKind, NotificationShape};
use prometheus::core::Collector;
use prometheus::local::LocalHistogram;
use prometheus::{
    Encoder as _, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry, TextEncoder,
};
use sinks::{Outcome, ReasonCode};

use super::table::{
    Kind, LEASE_STATES, LEDGER_OPERATIONS, LOG_FILE_OUTCOMES, MESSAGE_OUTCOMES, METRICS, Metric, ORIGINS,
    SINK_STATES,
};

/// The registry, with typed handles.
pub struct Metrics {
    registry: Registry,
    counters: BTreeMap<&'static str, IntCounterVec>,
    gauges: BTreeMap<&'static str, IntGaugeVec>,
    histograms: BTreeMap<&'static str, HistogramVec>,
}

/// The series of one sink.
pub struct SinkSeries {
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
    /// `processing_lag_seconds`, by origin in the order of [`ORIGINS`].
    pub lag: [Timing; ORIGINS.len()],
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

    /// Makes the series of sources and sinks, at 0 where they are new.
    pub fn bear(&self, sources: &[String], sinks: &[String]) {
        for source in sources {
            for shape in NotificationShape::ALL {
                for outcome in MESSAGE_OUTCOMES {
                    self.counter("queue_messages_total", &[source, shape.as_str(), outcome]);
                }
            }
            for outcome in LOG_FILE_OUTCOMES {
                self.counter("log_files_total", &[source, outcome]);
            }
            for outcome in ["extended", "lost", "failed", "late"] {
                self.counter("lease_extensions_total", &[source, outcome]);
            }
            for name in [
                "source_errors_total",
                "log_file_interruptions_total",
                "log_files_removed_total",
                "queue_delete_failures_total",
                "event_id_conflicts_total",
            ] {
                self.counter(name, &[source]);
            }
            for name in [
                "queue_visible_messages",
                "queue_oldest_message_age_seconds",
                "source_last_receive_timestamp_seconds",
            ] {
                self.gauge(name, &[source]);
            }
            for state in LEASE_STATES {
                self.gauge("leases", &[source, state]);
            }
            drop(self.source(source));
        }
        for sink in sinks {
            for outcome in
                Outcome::ALL.map(Outcome::as_str).into_iter().chain(["already_delivered", "dropped"])
            {
                self.counter("sink_events_total", &[sink, outcome]);
            }
            self.counter("sink_events_offered_total", &[sink]);
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
                "sink_insecure_skip_verify",
            ] {
                self.gauge(name, &[sink]);
            }
            drop(self.sink(sink));
        }
        self.bear_own();
    }

    /// Makes the series of the process itself.
    fn bear_own(&self) {
        for kind in ActorKind::ALL {
            self.counter("events_by_actor_total", &[kind.class().as_str(), kind.as_str()]);
        }
        self.gauge("in_flight_bytes", &[]);
        self.gauge("memory_budget_bytes", &[]);
        self.counter("dead_letter_write_failures_total", &[]);
        self.gauge("config_reload_success", &[]).set(1);
        for operation in LEDGER_OPERATIONS {
            self.counter("ledger_failures_total", &[operation]);
        }
        self.gauge("trail_check_ok", &["bucket_access"]).set(1);
        self.gauge("build_info", &[env!("CARGO_PKG_VERSION")]).set(1);
    }

    /// Takes away the gauges of sources and sinks that are no more: what they showed last would look like a state that
    /// lasts. Counters stay as they are, so that what was counted last is still read.
    pub fn retire(&self, sources: &[String], sinks: &[String]) {
        for metric in METRICS.iter().filter(|metric| metric.kind == Kind::Gauge) {
            let (label, gone) = match metric.labels.first() {
                Some(&"source") => ("source", sources),
                Some(&"sink") => ("sink", sinks),
                _ => continue,
            };
            let Some(vec) = self.gauges.get(metric.name) else { continue };
            for labels in labels_in(vec, label, gone) {
                let labels: Vec<&str> =
                    metric.labels.iter().filter_map(|&name| labels.get(name).map(String::as_str)).collect();
                // It was there a moment ago.
                let _ = vec.remove_label_values(&labels);
            }
        }
    }

    /// Names the configuration in force, and no other.
    pub fn configuration(&self, sha256: &str) {
        if let Some(vec) = self.gauges.get("config_info") {
            vec.reset();
        }
        self.gauge("config_info", &[sha256]).set(1);
    }

    /// The series of a sink.
    #[must_use]
    pub fn sink(&self, sink: &str) -> SinkSeries {
        SinkSeries {
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
            lag: ORIGINS.map(|origin| self.histogram("processing_lag_seconds", &[source, origin])),
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

/// The labels, by name, of every series whose `label` is one of `names`.
fn labels_in(vec: &IntGaugeVec, label: &str, names: &[String]) -> Vec<BTreeMap<String, String>> {
    let families = vec.collect();
    let series = families.iter().flat_map(prometheus::proto::MetricFamily::get_metric);
    let labels = series.map(|series| {
        let pairs = series.get_label().iter();
        pairs.map(|pair| (pair.name().to_owned(), pair.value().to_owned())).collect::<BTreeMap<_, _>>()
    });
    labels.filter(|labels| labels.get(label).is_some_and(|value| names.contains(value))).collect()
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
            assert_eq!(metric.kind == Kind::Counter, metric.name.ends_with("_total"), "{}", metric.name);
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
            "trailship_sink_insecure_skip_verify{sink=\"search\"} 0",
            "trailship_events_by_actor_total{class=\"aws_service\",kind=\"on_behalf_of\"} 0",
            "trailship_dead_letter_write_failures_total 0",
        ] {
            assert!(text.contains(line), "{line}");
        }
    }

    #[test]
    fn a_sink_that_is_gone_keeps_its_counters_and_shows_no_state() {
        let metrics = Metrics::new(&["trail".to_owned()], &["search".to_owned(), "old".to_owned()]);
        metrics.counter("sink_events_total", &["old", "delivered"]).add(5);
        metrics.gauge("sink_state", &["old", "denied"]).set(1);
        metrics.retire(&[], &["old".to_owned()]);
        let text = metrics.text();
        assert!(text.contains("trailship_sink_events_total{outcome=\"delivered\",sink=\"old\"} 5"), "{text}");
        assert!(!text.contains("trailship_sink_state{sink=\"old\""), "{text}");
        assert!(!text.contains("trailship_sink_owed_log_files{sink=\"old\""), "{text}");
        assert!(text.contains("trailship_sink_state{sink=\"search\",state=\"ok\"} 1"), "{text}");
        assert!(text.contains("trailship_leases{source=\"trail\""), "{text}");
    }

    #[test]
    fn only_the_configuration_in_force_is_named() {
        let metrics = metrics();
        metrics.configuration("a1");
        metrics.configuration("b2");
        let text = metrics.text();
        assert!(text.contains("trailship_config_info{sha256=\"b2\"} 1") && !text.contains("a1"), "{text}");
    }

    #[test]
    fn the_page_of_metrics_names_each_with_its_type_and_labels() {
        let page = include_str!("../../docs/metrics.md");
        let row = |line: &str| -> Option<String> {
            let mut cells =
                line.strip_prefix("| `trailship_")?.split('|').map(|cell| cell.replace([' ', '`'], ""));
            Some(format!("{} {} {}", cells.next()?, cells.next()?, cells.next()?))
        };
        let mut documented: Vec<String> = page.lines().filter_map(row).collect();
        let known = |metric: &Metric| {
            format!("{} {:?} {}", metric.name, metric.kind, metric.labels.join(",")).to_lowercase()
        };
        let mut known: Vec<String> = METRICS.iter().map(known).collect();
        documented.sort();
        known.sort();
        assert_eq!(documented, known);
    }
}
