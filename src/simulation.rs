//! The agent for a simulation: the whole of it, on ports that are given, driven by whoever owns the time.
//!
//! It starts no thread, asks no clock and opens no socket of its own; what chance decides comes from the port.

use std::sync::Arc;

use anyhow::anyhow;
use aws_config::SdkConfig;
use sinks::destinations::Built;
use sinks::ports::{Clock, Compute, Dialer, Random, Transport};
use tokio::sync::watch;

pub use crate::ports::{Disk, DiskFile, Open};

use crate::app::{App, AppPorts, AwsAccess, Choices, Wires};
use crate::config::{ConfigSource, Machine, Network, SinkConfig, load};
use crate::ports::DiskFiles;
use crate::sources::Stop;
use crate::telemetry::Metrics;

/// Ways to destinations, by the names of their sinks.
pub trait Transports: Send + Sync {
    /// The way to one sink's destination.
    fn transport(&self, sink: &str) -> Arc<dyn Transport>;
}

/// What the agent stands on.
pub struct Ports {
    /// Where it computes.
    pub compute: Arc<dyn Compute>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub random: Arc<dyn Random>,
    /// Its disk.
    pub disk: Arc<dyn Disk>,
    /// How it reaches destinations.
    pub transports: Arc<dyn Transports>,
    /// How it reaches AWS: the SDK's settings, its HTTP client and its time included. Timeouts and retries are the
    /// agent's own.
    pub aws: SdkConfig,
}

/// An agent that is ready to run.
pub struct Agent {
    app: App,
    ask: watch::Sender<bool>,
    stop: Stop,
}

impl Agent {
    /// Puts an agent together by a configuration's text. Needs a runtime, on which it runs.
    ///
    /// # Errors
    /// All that is wrong with the configuration.
    pub async fn build(config: &str, ports: Ports) -> Result<Self, String> {
        let source = ConfigSource::Document { name: "simulation".to_owned(), text: config.to_owned() };
        let config = load(&source, &Machine::default()).map_err(|error| error.to_string())?;
        let names = |name: &str| name.to_owned();
        let sources = config.source_names();
        let sinks: Vec<String> = config.sinks.iter().map(|sink| names(&sink.name)).collect();
        let metrics = Arc::new(Metrics::new(&sources, &sinks));
        let ports = AppPorts {
            compute: ports.compute,
            clock: ports.clock,
            random: ports.random,
            files: Arc::new(DiskFiles(ports.disk)),
            wires: Arc::new(ByName(ports.transports)),
            aws: AwsAccess::Given(Box::new(ports.aws)),
            pages: false,
        };
        let app = App::build_on(ports, Choices::default(), config, metrics).await;
        let app = app.map_err(|error| format!("{error:#}"))?;
        let (ask, stop) = Stop::pair();
        Ok(Self { app, ask, stop })
    }

    /// Ships until [`stop`](Self::stop), as the command `run` does.
    ///
    /// # Errors
    /// If a part of it has died.
    pub async fn run(&self) -> Result<(), String> {
        self.app.run(self.stop.clone()).await.map_err(|error| format!("{error:#}"))
    }

    /// What SIGTERM does.
    pub fn stop(&self) {
        let _ = self.ask.send(true);
    }

    /// Bytes of log files in flight, and the budget.
    #[must_use]
    pub fn memory(&self) -> (u64, u64) {
        let budget = self.app.plan.lanes.budget();
        (budget.in_use_bytes(), budget.total_bytes())
    }

    /// All metrics as `/metrics` has them, but for those that are only brought up to date when it is asked.
    #[must_use]
    pub fn metrics(&self) -> String {
        self.app.metrics.text()
    }
}

struct ByName(Arc<dyn Transports>);

impl Wires for ByName {
    fn transport(&self, sink: &SinkConfig, _: &Built, _: &Network) -> anyhow::Result<Arc<dyn Transport>> {
        Ok(self.0.transport(&sink.name))
    }

    fn dialer(&self, sink: &SinkConfig, _: &Network) -> anyhow::Result<Arc<dyn Dialer>> {
        Err(anyhow!("sinks.{}: a simulation has no connections but HTTP", sink.name))
    }
}
