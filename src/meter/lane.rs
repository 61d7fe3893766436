//! Turns what the lane of one sink reports into metrics and log lines.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cloudtrail::Timestamp;
use sinks::ports::Clock;
use sinks::{Acknowledgement, Event, LaneObserver, LaneState, Reason, Via};

use super::{LOG_INTERVAL, Throttle, dead_letter_failed, millis, origin, seconds, state_name};
use crate::telemetry::{Metrics, SinkSeries, Timing};

/// Observes the lane of one sink.
pub struct LaneMeter {
    sink: String,
    metrics: Arc<Metrics>,
    series: SinkSeries,
    clock: Arc<dyn Clock>,
    throttle: Throttle,
    said: Mutex<Said>,
}

/// What the log was last told of the lane's state.
struct Said {
    /// The last state that was logged.
    state: &'static str,
    /// When each was, on the monotonic clock.
    at: BTreeMap<&'static str, Duration>,
}

impl LaneMeter {
    /// An observer for the sink of that name.
    #[must_use]
    pub fn new(sink: &str, metrics: Arc<Metrics>, clock: Arc<dyn Clock>) -> Self {
        let series = metrics.sink(sink);
        let said = Mutex::new(Said { state: state_name(&LaneState::Open), at: BTreeMap::new() });
        Self { sink: sink.to_owned(), metrics, series, clock, throttle: Throttle::default(), said }
    }

    /// Whether the log should hear of the state: every probe that fails reports one, and congestion comes and goes.
    fn is_news(&self, state: &LaneState) -> bool {
        let (name, now) = (state_name(state), self.clock.monotonic());
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let is_other = said.state != name;
        let is_due = said.at.get(name).is_none_or(|&at| now.saturating_sub(at) >= LOG_INTERVAL);
        let is_news = match state {
            LaneState::Open => is_other,
            LaneState::Congested => is_due,
            LaneState::Unavailable(_) | LaneState::Denied(_) => is_other || is_due,
        };
        if is_news {
            said.state = name;
            said.at.insert(name, now);
        }
        is_news
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

    fn delivered(&self, events: &mut dyn Iterator<Item = &Event>) {
        let now = millis(self.clock.now());
        let ages = self.series.age.each_ref().map(Timing::batch);
        for event in events {
            if let (Some(time), Some(age)) = (event.time(), ages.get(origin(event.file().via))) {
                age.observe(seconds(now.saturating_sub(time.millis())));
            }
        }
    }

    fn stored(&self, via: Via, times: &[Timestamp]) {
        let now = millis(self.clock.now());
        let ages = self.series.age.each_ref().map(Timing::batch);
        if let Some(age) = ages.get(origin(via)) {
            times.iter().for_each(|time| age.observe(seconds(now.saturating_sub(time.millis()))));
        }
    }

    fn state(&self, state: &LaneState) {
        if !self.is_news(state) {
            return;
        }
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

    fn acknowledgement(&self, told: Acknowledgement) {
        match told {
            Acknowledgement::Missing => tracing::warn!(
                code = "acknowledgement_missing",
                sink = self.sink,
                "nothing that the destination accepts is ever acknowledged, and events are sent again and again: make \
                 the load balancer sticky, or list the indexers in `endpoints`"
            ),
            Acknowledgement::Ignored => tracing::warn!(
                code = "acknowledgement_ignored",
                sink = self.sink,
                "nothing that the destination accepts is ever acknowledged: from now on an accepted event counts as \
                 delivered. Make the load balancer sticky, list the indexers in `endpoints`, or set `ack = false`"
            ),
            Acknowledgement::Back => tracing::info!(
                code = "acknowledgement_back",
                sink = self.sink,
                "the destination acknowledges again: an event counts as delivered once it does"
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

#[cfg(test)]
mod tests {
    use sinks::ReasonCode;
    use testkit::ports::SimulatedClock;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_state_that_lasts_is_told_once_a_minute_and_flapping_congestion_too() {
        let clock = Arc::new(SimulatedClock::new(0));
        let meter = LaneMeter::new("search", Arc::new(Metrics::new(&[], &[])), clock.clone());
        let denied = LaneState::Denied(Reason::new(ReasonCode::Unauthorized, "401"));
        let told = |state: &LaneState| meter.is_news(state);
        assert_eq!([told(&LaneState::Open), told(&denied), told(&denied)], [false, true, false]);
        clock.sleep(LOG_INTERVAL).await;
        assert_eq!([told(&denied), told(&denied), told(&LaneState::Open)], [true, false, true]);
        assert_eq!([told(&LaneState::Congested), told(&LaneState::Open)], [true, true]);
        assert_eq!([told(&LaneState::Congested), told(&LaneState::Open)], [false, false]);
        assert!(told(&denied), "another state is told at once");
    }
}
