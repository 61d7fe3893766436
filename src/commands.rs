//! The commands: each reads its options, does its work, and gives an exit status.

mod check;
mod demo;
mod healthcheck;
mod redrive;
mod run;
mod sample;
mod ship;

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use sinks::ports::Clock as _;
use tokio::sync::watch;

use crate::app::load_identities;
use crate::cli::{Cli, Command, EXIT_FAILED, EXIT_USAGE};
use crate::config::{Config, ConfigError, ConfigSource, Draft, Machine, RemoteSecret, SecretTexts, load};
use crate::ports::{SystemClock, SystemRandom};
use crate::secrets::SecretReader;
use crate::sources::Stop;
use crate::telemetry::{escaped_lines, init_logs};

/// Runs the command; its exit status.
pub async fn run(cli: Cli) -> u8 {
    let result = match &cli.command {
        Command::Run => run::run(&cli).await,
        Command::Ship(options) => ship::ship(&cli, options).await,
        Command::Redrive(options) => redrive::redrive(&cli, options).await,
        Command::Check(options) => check::check(&cli, options).await,
        Command::Sample(options) => sample::sample(options).await,
        Command::Demo(options) => demo::demo(options).await,
        Command::Healthcheck(options) => healthcheck::healthcheck(&cli, options).await,
    };
    match result {
        Ok(code) => code,
        Err(Failure::Usage(text)) => {
            complain(&text);
            EXIT_USAGE
        }
        Err(Failure::Failed(error)) => {
            complain(&format!("{error:#}"));
            EXIT_FAILED
        }
    }
}

/// Why a command did not end by itself.
pub enum Failure {
    /// The configuration, or what the command was told, is wrong.
    Usage(String),
    /// It did not work.
    Failed(anyhow::Error),
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

/// Loads the configuration that the command line asks for, sets up logs, and reads the secrets that AWS keeps.
///
/// # Errors
/// All that is wrong with it, a line each; and the secrets that cannot be read.
async fn load_config(cli: &Cli) -> Result<Config, Failure> {
    Loading::begin(cli)?.all_secrets().await.map(|(config, _)| config)
}

/// The same without logs and without those secrets.
fn load_config_quietly(cli: &Cli) -> Result<Config, Failure> {
    let machine = Machine::here();
    let source = ConfigSource::choose(cli.config.as_deref(), &machine);
    load(&source, &machine).map_err(usage)
}

fn usage(error: ConfigError) -> Failure {
    Failure::Usage(error.to_string())
}

/// A configuration that is good as far as can be told without asking anybody.
struct Loading {
    machine: Machine,
    draft: Draft,
    config: Config,
}

impl Loading {
    /// Reads and checks the document, and sets up logs.
    fn begin(cli: &Cli) -> Result<Self, Failure> {
        let machine = Machine::here();
        let source = ConfigSource::choose(cli.config.as_deref(), &machine);
        let draft = Draft::read(&source, &machine).map_err(usage)?;
        let config = draft.check(&machine, SecretTexts::default()).map_err(usage)?;
        init_logs(config.agent.log_format, config.agent.log_level);
        let loading = Self { machine, draft, config };
        loading.warn();
        Ok(loading)
    }

    /// Reads and checks the document again, for an agent that runs.
    fn again(source: &ConfigSource) -> Result<Self, ConfigError> {
        let machine = Machine::here();
        let draft = Draft::read(source, &machine)?;
        let config = draft.check(&machine, SecretTexts::default())?;
        Ok(Self { machine, draft, config })
    }

    fn warn(&self) {
        for warning in &self.config.warnings {
            tracing::warn!(code = "config_warning", "{warning}");
        }
    }

    /// The configuration with all of its secrets, and the document that it was made from.
    ///
    /// # Errors
    /// All that is wrong with it, a line each; and the secrets that cannot be read.
    async fn all_secrets(self) -> Result<(Config, Draft), Failure> {
        let (config, draft, failed) = self.read_secrets().await?;
        if failed.is_empty() {
            return Ok((config, draft));
        }
        let lines: Vec<String> = failed.iter().map(|(key, why)| format!("{key}: {why}")).collect();
        Err(Failure::Failed(anyhow::anyhow!("{}", lines.join("\n"))))
    }

    /// Reads the secrets that AWS keeps, and checks everything again with them; the keys of those that could not be
    /// read, and why.
    async fn with_secrets(self) -> Result<(Config, Vec<(String, String)>), Failure> {
        self.read_secrets().await.map(|(config, _, failed)| (config, failed))
    }

    async fn read_secrets(self) -> Result<(Config, Draft, Vec<(String, String)>), Failure> {
        if self.config.unread.is_empty() {
            return Ok((self.config, self.draft, Vec::new()));
        }
        let reader = SecretReader {
            identities: Arc::new(load_identities(&self.config).await),
            clock: Arc::new(SystemClock::default()),
            random: Arc::new(SystemRandom::default()),
        };
        let wanted: Vec<RemoteSecret> = self.config.unread.iter().map(|(_, secret)| secret.clone()).collect();
        let (texts, failed) = reader.read(&wanted).await;
        let config = self.draft.check(&self.machine, texts).map_err(usage)?;
        let why_of = |secret: &RemoteSecret| failed.iter().find(|failed| failed.secret == *secret);
        let failed = self.config.unread.into_iter().filter_map(|(key, secret)| {
            let why = &why_of(&secret)?.why;
            Some((key, format!("{secret} cannot be read: {why}")))
        });
        let failed = failed.collect();
        Ok((config, self.draft, failed))
    }
}

/// Says on standard error what is wrong.
pub fn complain(text: &str) {
    // With standard error gone there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "trailship: {}", escaped_lines(text));
}

/// Says something on standard output; a reader that has gone away ends the talk, not the work.
pub fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{}", escaped_lines(text));
}

/// A supervisor may tell a process and its group: two signals within this time are one.
const SAME_SIGNAL: Duration = Duration::from_secs(1);

/// Stops at SIGTERM or ctrl-C; at the second one the process ends at once.
fn stop_at_signals() -> (watch::Sender<bool>, Stop) {
    let (ask, stop) = Stop::pair();
    let asker = ask.clone();
    tokio::spawn(async move {
        signal().await;
        let _ = asker.send(true);
        SystemClock::default().sleep(SAME_SIGNAL).await;
        signal().await;
        complain("told to stop a second time: ending at once; what is not acknowledged comes again");
        std::process::exit(i32::from(EXIT_FAILED));
    });
    (ask, stop)
}

async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let terminate = signal(SignalKind::terminate());
    let interrupt = signal(SignalKind::interrupt());
    match (terminate, interrupt) {
        (Ok(mut terminate), Ok(mut interrupt)) => tokio::select! {
            biased;
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        },
        // Without handlers the signals end the process by themselves.
        _ => std::future::pending().await,
    }
}
