//! What the agent says of itself: structured logs and metrics.

mod logs;
mod metrics;
mod text;

pub use logs::init as init_logs;
pub use metrics::{Kind, METRICS, Metric, Metrics, SINK_STATES, SinkSeries, SourceSeries};
