//! `trailship ship`: log files from this machine, once, to the sinks of the configuration.

use std::collections::HashSet;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use sinks::Via;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::{Failure, complain, load_config, say, stop_at_signals};
use crate::app::App;
use crate::cli::{Cli, EXIT_DONE, EXIT_FAILED, Ship};
use crate::meter::state_name;
use crate::sources::directory::{local_log_file, log_files_in};
use crate::telemetry::Metrics;
use crate::worker::fetch::{LocalFile, Version};
use crate::worker::{JobEnd, LogFileJob};

/// Log files that are read at once.
const SLOTS: usize = 4;

/// The name under which metrics count what `ship` reads.
const SOURCE: &str = "ship";

/// What came of it.
#[derive(Default)]
struct Tally {
    events: u64,
    done: usize,
    dead_lettered: Vec<String>,
    kept: Vec<(String, String)>,
}

/// Ships the files.
pub async fn ship(cli: &Cli, options: &Ship) -> Result<u8, Failure> {
    let config = load_config(cli).await?;
    let files = find(&options.paths).map_err(Failure::Usage)?;
    let sinks: Vec<String> = config.sinks.iter().map(|sink| sink.name.clone()).collect();
    let metrics = Arc::new(Metrics::new(&[SOURCE.to_owned()], &sinks));
    let app = App::build(config, metrics).await?;
    let meter = Arc::new(app.meter(SOURCE));
    let (_ask, stop) = stop_at_signals();
    let bar = progress_bar(files.len());
    let mut tally = Tally::default();
    let mut open: Vec<PathBuf> = files.clone();
    let mut jobs = JoinSet::new();
    let slots = Arc::new(Semaphore::new(SLOTS));
    for path in files {
        let (slots, plan, meter) = (Arc::clone(&slots), Arc::clone(&app.plan), Arc::clone(&meter));
        let labels = app.config.agent.labels.clone();
        jobs.spawn(async move {
            let slot = slots.acquire_owned().await.ok();
            let minute = cloudtrail::ObjectKey::parse(&path.to_string_lossy()).minute;
            let file = local_log_file(&path, Via::Ship, &labels, minute, &*plan.clock);
            let fetch = Arc::new(LocalFile { path: path.clone() });
            let end = LogFileJob::new(&plan, fetch, file, Version::default(), meter.clone()).run(slot).await;
            meter.log_file(&path.to_string_lossy(), &end);
            (path, end)
        });
    }
    let mut given_up = None;
    while given_up.is_none() {
        tokio::select! {
            biased;
            ended = jobs.join_next() => match ended {
                Some(Ok((path, end))) => {
                    open.retain(|other| *other != path);
                    tally.add(&path, end);
                    bar.set_position(tally.ended() as u64);
                    bar.set_message(format!("{} events", tally.events));
                }
                Some(Err(error)) => complain(&format!("a job died: please report this: {error}")),
                None => break,
            },
            () = stop.asked() => given_up = Some("told to stop".to_owned()),
            () = app.plan.clock.sleep(Duration::from_millis(500)) => given_up = hopeless(&app),
        }
    }
    bar.finish_and_clear();
    if given_up.is_none() {
        app.plan.lanes.finish(Duration::from_secs(5)).await;
    }
    Ok(report(&tally, &open, given_up))
}

impl Tally {
    fn add(&mut self, path: &Path, end: JobEnd) {
        let name = path.display().to_string();
        match end {
            JobEnd::Done { events, .. } => {
                self.done += 1;
                self.events += events;
            }
            JobEnd::DeadLettered => self.dead_lettered.push(name),
            JobEnd::HandedOff => self.kept.push((name, "handed off".to_owned())),
            JobEnd::Kept(why) => self.kept.push((name, why)),
        }
    }

    fn ended(&self) -> usize {
        self.done + self.dead_lettered.len() + self.kept.len()
    }
}

/// Why it is no use to wait any longer: a required sink is shut. Each was tried for `give_up_after` before that.
fn hopeless(app: &App) -> Option<String> {
    let lanes = app.plan.lanes.all().iter().zip(&app.plan.required);
    lanes.filter(|(_, required)| **required).find_map(|(lane, _)| {
        let (state, failing) = (lane.health().state(), lane.health().last_failure());
        let why = failing.map(|failure| failure.why.to_string()).unwrap_or_default();
        state.is_shut().then(|| format!("sink {} is {}: {why}", lane.config().name, state_name(&state)))
    })
}

/// Says what came of it; the exit status.
fn report(tally: &Tally, open: &[PathBuf], given_up: Option<String>) -> u8 {
    for name in &tally.dead_lettered {
        complain(&format!("{name}: cannot be read to its end; the rest is named in the dead letters"));
    }
    for (name, why) in &tally.kept {
        complain(&format!("{name}: not shipped: {why}"));
    }
    if let Some(why) = &given_up {
        complain(&format!("given up: {why}"));
    }
    for path in open {
        complain(&format!("{}: not delivered to every sink; ship it again", path.display()));
    }
    say(&format!("{} events of {} log files shipped", tally.events, tally.done));
    let whole = tally.dead_lettered.is_empty() && tally.kept.is_empty() && open.is_empty();
    if whole { EXIT_DONE } else { EXIT_FAILED }
}

fn find(paths: &[PathBuf]) -> Result<Vec<PathBuf>, String> {
    let mut files = Vec::new();
    for path in paths {
        let metadata = std::fs::metadata(path).map_err(|error| format!("{}: {error}", path.display()))?;
        if metadata.is_dir() {
            let found = log_files_in(path).map_err(|error| format!("{}: {error}", path.display()))?;
            files.extend(found.iter().map(|found| found.path().to_owned()));
        } else {
            files.push(path.clone());
        }
    }
    // One file may be named twice, and in two ways.
    let mut seen = HashSet::new();
    files.retain(|path| seen.insert(std::fs::canonicalize(path).unwrap_or_else(|_| path.clone())));
    if files.is_empty() {
        return Err("no log files (.json.gz, .json, .ndjson) in these folders".to_owned());
    }
    Ok(files)
}

/// A bar on a terminal, nothing elsewhere.
fn progress_bar(files: usize) -> ProgressBar {
    let target = if std::io::stderr().is_terminal() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let bar = ProgressBar::with_draw_target(Some(files as u64), target);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} log files, {msg} ({elapsed})") {
        bar.set_style(style);
    }
    bar
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_file_that_is_named_twice_is_shipped_once() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.json", "b.json"] {
            std::fs::write(folder.path().join(name), "{}").unwrap();
        }
        let at = |name: &str| folder.path().join(name);
        let found = find(&[at("b.json"), at("a.json"), at("./b.json"), folder.path().to_owned()]).unwrap();
        assert_eq!(found, [at("b.json"), at("a.json")]);
    }
}
