//! `trailship run`: ships what the sources bring, until told to stop.

use std::sync::Arc;

use super::{Failure, load_config, stop_at_signals};
use crate::app::App;
use crate::cli::{Cli, EXIT_DONE};
use crate::telemetry::Metrics;

/// Runs the agent.
pub async fn run(cli: &Cli) -> Result<u8, Failure> {
    let config = load_config(cli).await?;
    if config.sources.is_empty() {
        return Err(Failure::Usage(
            "the configuration has no [sources.…]: nothing brings log files".to_owned(),
        ));
    }
    let (_ask, stop) = stop_at_signals();
    let sources = config.source_names();
    let sinks: Vec<String> = config.sinks.iter().map(|sink| sink.name.clone()).collect();
    let metrics = Arc::new(Metrics::new(&sources, &sinks));
    metrics.gauge("config_info", &[&config.sha256]).set(1);
    let app = App::build(config, metrics).await?;
    app.run(stop).await?;
    Ok(EXIT_DONE)
}
