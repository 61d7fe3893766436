//! Runs one agent after the other behind the same pages: what a reload brings takes over once its predecessor is done.
//!
//! **Invariant** No two agents of one process run at once: a file has one writer, the memory one budget, and what is
//! remembered one owner. See `docs/decisions/0010-reload.md`.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;

use super::App;
use super::pages::Pages;
use super::state_lock::StateLock;
use crate::config::SinkKind;
use crate::meter::SourceMeter;
use crate::sources::Stop;
use crate::telemetry::Metrics;

/// What came of an attempt to reload.
pub enum Reloaded {
    /// This agent takes over; it has not begun.
    Ready(App),
    /// The configuration says what it said before.
    Unchanged,
    /// It cannot be used; a line that names what is wrong and what helps.
    Failed(String),
}

/// Where an agent's successors come from.
#[async_trait]
pub trait Successors: Send {
    /// Waits until somebody asks for a reload, and makes the successor of `current`. Dropped at any time, it leaves
    /// nothing behind.
    async fn next(&mut self, current: &App) -> Reloaded;
}

/// For an agent that is never reloaded.
pub(super) struct NoSuccessor;

#[async_trait]
impl Successors for NoSuccessor {
    async fn next(&mut self, _: &App) -> Reloaded {
        std::future::pending().await
    }
}

/// Runs `app` and its successors until `stop`; ends within the grace of the one that runs then.
///
/// # Errors
/// If the pages' address cannot be bound, the state is another agent's, a source cannot start, or one has died.
pub async fn supervise(mut app: Arc<App>, stop: Stop, successors: &mut dyn Successors) -> anyhow::Result<()> {
    let mut lock = StateLock::default();
    lock.take_for(&app.config)?;
    let mut meters = app.meters();
    let pages = if app.pages { Some(Pages::open(&app, &meters).await?) } else { None };
    tracing::info!(
        code = "started",
        version = env!("CARGO_PKG_VERSION"),
        sources = app.config.sources.len(),
        sinks = app.config.sinks.len(),
        status = pages.as_ref().map(|pages| format!("http://{}/", pages.address)),
        "shipping"
    );
    loop {
        let mut reloads = Reloads { successors, lock: &mut lock, pages: pages.as_ref() };
        let next = live(&app, &meters, &stop, &mut reloads).await?;
        let Some(next) = next.filter(|_| !stop.is_asked()) else { break };
        meters = next.meters_after(&app, &meters);
        if let Some(pages) = &pages {
            pages.show(&next, &meters);
        }
        take_over(&app, &next);
        reloads_well(&next.metrics, pages.as_ref());
        tracing::info!(
            code = "config_reloaded",
            sha256 = next.config.sha256,
            sources = next.config.sources.len(),
            sinks = next.config.sinks.len(),
            "shipping as the new configuration says"
        );
        app = next;
    }
    tracing::info!(code = "stopped", "what was not acknowledged comes again");
    Ok(())
}

/// Runs one agent until it is told to stop or has a successor, and until it is done with what it has begun.
async fn live(
    app: &Arc<App>,
    meters: &[Arc<SourceMeter>],
    stop: &Stop,
    reloads: &mut Reloads<'_>,
) -> anyhow::Result<Option<Arc<App>>> {
    tell_of_trust(app);
    let (ask, ending) = Stop::pair();
    let running = app.ship(meters, &ending);
    tokio::pin!(running);
    let next = tokio::select! {
        biased;
        ended = &mut running => return ended.map(|()| None),
        () = stop.asked() => None,
        next = reloads.next(app) => Some(next),
    };
    app.is_superseded.store(next.is_some(), Ordering::Relaxed);
    reloads.pages.iter().for_each(|pages| pages.ending());
    let _ = ask.send(true);
    running.await?;
    Ok(next)
}

/// The metrics of what the new configuration does not have any more, and of what it has besides.
fn take_over(old: &App, new: &App) {
    let gone = |old: Vec<String>, new: &[String]| -> Vec<String> {
        old.into_iter().filter(|name| !new.contains(name)).collect()
    };
    let metrics = &new.metrics;
    metrics.retire(
        &gone(old.config.source_names(), &new.config.source_names()),
        &gone(old.sink_names(), &new.sink_names()),
    );
    metrics.bear(&new.config.source_names(), &new.sink_names());
    metrics.configuration(&new.config.sha256);
    new.pauses.tell();
}

/// Shows which sinks the configuration has trust anybody.
fn tell_of_trust(app: &App) {
    for sink in &app.config.sinks {
        let trusts_anybody = matches!(
            &sink.kind,
            SinkKind::Destination(network, _) if network.tls.insecure_skip_verify
        );
        let gauge = app.metrics.gauge("sink_insecure_skip_verify", &[&sink.name]);
        gauge.set(i64::from(trusts_anybody));
    }
}

fn reloads_well(metrics: &Metrics, pages: Option<&Pages>) {
    metrics.gauge("config_reload_success", &[]).set(1);
    if let Some(pages) = pages {
        pages.reloaded(None);
    }
}

/// Reloads, as they are asked for.
struct Reloads<'a> {
    successors: &'a mut dyn Successors,
    lock: &'a mut StateLock,
    pages: Option<&'a Pages>,
}

impl Reloads<'_> {
    /// Waits for an agent that can take over; says what came of attempts that brought none.
    async fn next(&mut self, app: &App) -> Arc<App> {
        loop {
            let why = match self.successors.next(app).await {
                Reloaded::Ready(next) => match self.lock.take_for(&next.config) {
                    Ok(()) => return Arc::new(next.after(app)),
                    Err(error) => format!("{error:#}"),
                },
                Reloaded::Unchanged => {
                    tracing::info!(
                        code = "config_unchanged",
                        sha256 = app.config.sha256,
                        "the configuration says what it said before: nothing is reloaded"
                    );
                    reloads_well(&app.metrics, self.pages);
                    continue;
                }
                Reloaded::Failed(why) => why,
            };
            tracing::error!(
                code = "config_reload_failed",
                why,
                sha256 = app.config.sha256,
                "the configuration before it stays in force: mend the new one and reload again"
            );
            app.metrics.gauge("config_reload_success", &[]).set(0);
            if let Some(pages) = self.pages {
                pages.reloaded(Some(why));
            }
        }
    }
}
