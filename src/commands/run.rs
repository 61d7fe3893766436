//! `trailship run`: ships what the sources bring, until told to stop; SIGHUP has it read its configuration again.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Failure, Loading, stop_at_signals};
use crate::app::{App, AppPorts, Choices, Reloaded, Successors, supervise};
use crate::cli::{Cli, EXIT_DONE};
use crate::config::{Agent, Config, ConfigSource, Draft, Machine};
use crate::telemetry::Metrics;

const NO_SOURCES: &str = "the configuration has no [sources.…]: nothing brings log files";

/// Runs the agent.
pub async fn run(cli: &Cli) -> Result<u8, Failure> {
    // First of all: without a handler the signal would end the process.
    let hangup = signal(SignalKind::hangup()).ok();
    let (config, draft) = Loading::begin(cli)?.all_secrets().await?;
    if config.sources.is_empty() {
        return Err(Failure::Usage(NO_SOURCES.to_owned()));
    }
    let (_ask, stop) = stop_at_signals();
    let sources = config.source_names();
    let sinks: Vec<String> = config.sinks.iter().map(|sink| sink.name.clone()).collect();
    let metrics = Arc::new(Metrics::new(&sources, &sinks));
    metrics.configuration(&config.sha256);
    let ports = AppPorts::system()?;
    let mut reloader = Reloader {
        source: ConfigSource::choose(cli.config.as_deref(), &Machine::here()),
        draft,
        ports: ports.clone(),
        hangup,
    };
    let app = App::build_on(ports, Choices::default(), config, metrics).await?;
    supervise(Arc::new(app), stop, &mut reloader).await?;
    Ok(EXIT_DONE)
}

/// Makes an agent anew at each SIGHUP.
struct Reloader {
    source: ConfigSource,
    /// What the agent that runs was made from.
    draft: Draft,
    ports: AppPorts,
    /// Signals that come while nobody listens are one, which is not lost.
    hangup: Option<Signal>,
}

#[async_trait]
impl Successors for Reloader {
    async fn next(&mut self, current: &App) -> Reloaded {
        let told = match &mut self.hangup {
            Some(hangup) => hangup.recv().await,
            None => None,
        };
        if told.is_none() {
            // The system has no such signal for us.
            std::future::pending::<()>().await;
        }
        match self.reload(current).await {
            Ok(Some(app)) => Reloaded::Ready(app),
            Ok(None) => Reloaded::Unchanged,
            // One line, whatever is wrong.
            Err(why) => Reloaded::Failed(why.lines().collect::<Vec<_>>().join("; ")),
        }
    }
}

impl Reloader {
    /// `None` if nothing has changed.
    async fn reload(&mut self, current: &App) -> Result<Option<App>, String> {
        if self.source == ConfigSource::Stdin {
            return Err("the configuration came from standard input, which is read once: restart".to_owned());
        }
        let loading = Loading::again(&self.source).map_err(|error| error.to_string())?;
        if loading.draft.is_same(&self.draft) && loading.config.sha256 == current.config.sha256 {
            return Ok(None);
        }
        loading.warn();
        let (config, draft) = loading.all_secrets().await.map_err(|failure| match failure {
            Failure::Usage(why) => why,
            Failure::Failed(error) => format!("{error:#}"),
        })?;
        fits(&current.config, &config)?;
        let metrics = Arc::clone(&current.metrics);
        // A table remembers by itself, and may be another identity's now.
        let remembers = config.ledger == current.config.ledger && config.ledger.table.is_none();
        let ledger = remembers.then(|| Arc::clone(&current.plan.deliveries.ledger));
        let choices = Choices { ledger, ..Choices::default() };
        let app = App::build_on(self.ports.clone(), choices, config, metrics).await;
        let app = app.map_err(|error| format!("{error:#}"))?;
        self.draft = draft;
        Ok(Some(app))
    }
}

/// Whether a configuration can take the place of another one while the process runs.
fn fits(old: &Config, new: &Config) -> Result<(), String> {
    if new.sources.is_empty() {
        return Err(NO_SOURCES.to_owned());
    }
    let is_fixed = |key: &str| format!("agent.{key} cannot change while the agent runs: restart it for that");
    let changed = fixed(&old.agent).into_iter().zip(fixed(&new.agent)).find(|(old, new)| old != new);
    changed.map_or(Ok(()), |((key, _), _)| Err(is_fixed(key)))
}

/// What belongs to the process: the port that is bound, the state that is locked, the log that is set up.
fn fixed(agent: &Agent) -> [(&'static str, String); 4] {
    [
        ("listen", agent.listen.to_string()),
        ("state_dir", agent.state_dir.display().to_string()),
        ("log_format", format!("{:?}", agent.log_format)),
        ("log_level", format!("{:?}", agent.log_level)),
    ]
}
