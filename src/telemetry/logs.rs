//! Logs: text on a terminal, JSON otherwise, always on standard error; each condition has a stable `code`.

use std::io::IsTerminal as _;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::escape::JsonLines;
use crate::config::{LogFormat, LogLevel};

/// Sets up logging for the process; a second call changes nothing.
///
/// Libraries speak only from WARN on. Control characters in values are escaped by the formats.
pub fn init(format: LogFormat, level: LogLevel) {
    let ours = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let filter = Targets::new()
        .with_default(ours.min(LevelFilter::WARN))
        .with_targets(["trailship", "sinks", "cloudtrail", "testkit"].map(|target| (target, ours)));
    let terminal = std::io::stderr().is_terminal();
    let text = match format {
        LogFormat::Auto => terminal,
        LogFormat::Text => true,
        LogFormat::Json => false,
    };
    let registry = tracing_subscriber::registry().with(filter);
    let result = if text {
        let layer =
            tracing_subscriber::fmt::layer().event_format(super::text::Text).with_writer(std::io::stderr);
        registry.with(layer.with_ansi(terminal)).try_init()
    } else {
        let layer = tracing_subscriber::fmt::layer().json().flatten_event(true).with_current_span(false);
        registry.with(layer.with_writer(|| JsonLines(std::io::stderr())).with_target(false)).try_init()
    };
    // Set up already, by an earlier command in the same process.
    drop(result);
}
