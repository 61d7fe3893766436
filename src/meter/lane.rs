//! Turns what the lane of one sink reports into metrics and log lines.

use std::sync::Arc;
use std::time::Duration;

use sinks::ports::Clock;
use sinks::{Event, LaneObserver, LaneState, Reason};

use super::{Throttle, dead_letter_failed, millis, origin, seconds};
use crate::telemetry::{Metrics, SinkSeries};

/// Observes the lane of one sink.
pub struct LaneMeter {
    sink: String,
    metrics: Arc<Metrics>,
    series: SinkSeries,
    clock: Arc<dyn Clock>,
    throttle: Throttle,
}

impl LaneMeter {
    /// An observer for the sink of that name.
    #[must_use]
    pub fn new(sink: &str, metrics: Arc<Metrics>, clock: Arc<dyn Clock>) -> Self {
        let series = metrics.sink(sink);
        Self { sink: sink.to_owned(), metrics, series, clock, throttle: Throttle::default() }
    }
}

impl LaneObserver for LaneMeter {
    fn request(&self, result: &'static str, took: Duration) {
        self.metrics.counter("sink_requests_total", &[&self.sink, result]).inc();
        self.series.duration.observe(took.as_secs_f64());
    }

    fn failure(&self, why: &Reason, events: usize) {
        self.metrics.counter("sink_errors_total", &[&self.sink, why.code.as_str()]).inc();
        if self.throttle.lets_through(self.clock.monotonic()) {
            tracing::warn!(
                code = "sink_failing",
                sink = self.sink,
                class = why.code.as_str(),
                status = why.status,
                why = why.text,
                events,
                "nothing is lost; the events are sent again"
            );
        }
    }

    fn delivered(&self, event: &Event) {
        let age = self.series.age.get(origin(event.file().via));
        if let (Some(time), Some(age)) = (event.time(), age) {
            age.observe(seconds(millis(self.clock.now()).saturating_sub(time.millis())));
        }
    }

    fn state(&self, state: &LaneState) {
        match state {
            LaneState::Open => {
                tracing::info!(code = "sink_open", sink = self.sink, "the sink accepts events")
            }
            LaneState::Congested => tracing::warn!(
                code = "sink_congested",
                sink = self.sink,
                "the sink is slower than the others; its log files are fetched again when it has room"
            ),
            LaneState::Unavailable(why) => tracing::warn!(
                code = "sink_unavailable",
                sink = self.sink,
                class = why.code.as_str(),
                status = why.status,
                why = why.text,
                "the sink is probed; its log files are kept on the queue until it answers"
            ),
            LaneState::Denied(why) => tracing::error!(
                code = "sink_denied",
                sink = self.sink,
                class = why.code.as_str(),
                status = why.status,
                why = why.text,
                "credentials or set-up of the sink have to be mended; nothing is lost meanwhile"
            ),
        }
    }

    fn dead_lettered(&self, event: &Event, why: &Reason) {
        tracing::error!(
            code = "event_dead_lettered",
            sink = self.sink,
            event_id = %event.document_id(),
            bucket = event.file().bucket,
            key = event.file().key,
            record = event.index(),
            class = why.code.as_str(),
            why = why.text,
            "the destination does not take this event; it is in the dead letters"
        );
    }

    fn dead_letter_failed(&self, why: &std::io::Error) {
        dead_letter_failed(&self.metrics, why);
    }
}
