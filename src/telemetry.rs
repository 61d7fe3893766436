//! What the agent says of itself: structured logs and metrics.

mod logs;
mod metrics;
mod text;

pub use logs::init as init_logs;
pub use metrics::{Metrics, SINK_STATES, SinkSeries, SourceSeries, Timing};
