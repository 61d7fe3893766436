//! Metrics that are counted elsewhere, brought up to date before they are read.

use sinks::Outcome;
use sinks::ports::Clock;

use super::{millis, state_name};
use crate::lanes::Lanes;
use crate::telemetry::Metrics;
use crate::worker::Owed;

/// Brings the metrics up to date that are counted elsewhere; called before they are read.
pub fn refresh(metrics: &Metrics, lanes: &Lanes, owed: &Owed, clock: &dyn Clock) {
    metrics.gauge("in_flight_bytes", &[]).set_count(lanes.budget().in_use_bytes());
    metrics.gauge("memory_budget_bytes", &[]).set_count(lanes.budget().total_bytes());
    for (index, lane) in lanes.all().iter().enumerate() {
        let sink = lane.config().name.as_str();
        let stats = lane.stats();
        let in_flight = stats.in_flight();
        let dropped = metrics.counter("sink_events_total", &[sink, "dropped"]).get();
        for outcome in Outcome::ALL {
            metrics.counter("sink_events_total", &[sink, outcome.as_str()]).raise_to(stats.count(outcome));
        }
        // What was dropped was let go of, or never offered: it counts as offered here, so that the sum holds.
        metrics.counter("sink_events_offered_total", &[sink]).raise_to(stats.offered() + dropped);
        metrics.gauge("sink_events_in_flight", &[sink]).set_count(in_flight);
        let state = lane.health().state();
        for name in crate::telemetry::SINK_STATES {
            metrics.gauge("sink_state", &[sink, name]).set(i64::from(name == state_name(&state)));
        }
        let delivery = lane.health().last_delivery().map_or(0, |at| millis(at) / 1000);
        metrics.gauge("sink_last_delivery_timestamp_seconds", &[sink]).set(delivery);
        metrics.gauge("sink_concurrency", &[sink]).set_count(lane.health().concurrency() as u64);
        metrics.gauge("sink_batch_limit_bytes", &[sink]).set_count(lane.health().batch_bytes_max() as u64);
        let (files, oldest) = owed.of(index, clock);
        metrics.gauge("sink_owed_log_files", &[sink]).set_count(files);
        let waiting = oldest.map_or(0, |age| age.as_secs());
        metrics.gauge("sink_owed_oldest_seconds", &[sink]).set_count(waiting);
    }
}
