//! What the agent says of itself: structured logs and metrics.

mod escape;
mod logs;
mod metrics;
mod table;
mod text;

pub use escape::escaped_lines;
pub use logs::init as init_logs;
pub use metrics::{Metrics, SinkSeries, SourceSeries, Timing};
pub use table::SINK_STATES;
