//! The admin pages of the process: bound once, they show whichever agent runs behind them.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use sinks::ports::Clock;
use tokio::task::JoinHandle;

use super::App;
use crate::admin::{Admin, Heartbeat, Reload, Server, Status, StatusSource};
use crate::meter::SourceMeter;
use crate::status::Board;

/// The admin pages, being served until this is dropped.
pub(super) struct Pages {
    pub(super) address: SocketAddr,
    front: Arc<Front>,
    tasks: [JoinHandle<()>; 2],
}

/// What the pages show.
struct Front {
    clock: Arc<dyn Clock>,
    started_at: SystemTime,
    shown: RwLock<Shown>,
    /// The last reload: when, and what was wrong.
    reload: Mutex<Option<(SystemTime, Option<String>)>>,
}

struct Shown {
    app: Arc<App>,
    board: Board,
    /// Its lanes end as they should.
    is_ending: bool,
    /// It was said that one of them has died.
    is_told: bool,
}

impl Shown {
    fn of(app: &Arc<App>, meters: &[Arc<SourceMeter>]) -> Self {
        Self { app: Arc::clone(app), board: app.board(meters), is_ending: false, is_told: false }
    }
}

impl Pages {
    /// Binds the configured address, and shows this agent.
    ///
    /// # Errors
    /// If the address cannot be bound.
    pub(super) async fn open(app: &Arc<App>, meters: &[Arc<SourceMeter>]) -> anyhow::Result<Self> {
        let listen = app.config.agent.listen;
        let server = Server::bind(listen).await.with_context(|| {
            format!("agent.listen: {listen} cannot be used: another agent may run here; choose another port")
        })?;
        let address = server.address();
        let clock = Arc::clone(&app.plan.clock);
        let started_at = clock.now();
        let shown = RwLock::new(Shown::of(app, meters));
        let front =
            Arc::new(Front { clock: Arc::clone(&clock), started_at, shown, reload: Mutex::default() });
        let heartbeat = Heartbeat::new(clock);
        let (text, token) = (Arc::clone(&front), Arc::clone(&front));
        let admin = Admin {
            status: Arc::clone(&front) as Arc<dyn StatusSource>,
            metrics: Box::new(move || text.shown().board.metrics_text()),
            heartbeat: heartbeat.clone(),
            token: Box::new(move || token.shown().app.config.agent.admin_token.clone()),
        };
        let serving = tokio::spawn(server.serve(admin));
        let beating = tokio::spawn(beat(heartbeat, Arc::clone(&front)));
        Ok(Self { address, front, tasks: [serving, beating] })
    }

    /// The agent behind them ends: lanes that stop are no fault from now on.
    pub(super) fn ending(&self) {
        self.front.shown.write().unwrap_or_else(PoisonError::into_inner).is_ending = true;
    }

    /// Shows another agent from now on; what the one before it counted is in the metrics.
    pub(super) fn show(&self, app: &Arc<App>, meters: &[Arc<SourceMeter>]) {
        let mut shown = self.front.shown.write().unwrap_or_else(PoisonError::into_inner);
        shown.board.refresh();
        *shown = Shown::of(app, meters);
    }

    /// Notes how a reload went.
    pub(super) fn reloaded(&self, problem: Option<String>) {
        let now = self.front.clock.now();
        *self.front.reload.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, problem));
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Front {
    fn shown(&self) -> RwLockReadGuard<'_, Shown> {
        self.shown.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn since(&self, at: SystemTime) -> u64 {
        self.clock.now().duration_since(at).unwrap_or_default().as_secs()
    }

    /// The sink whose lane has died, unless that was said before or its agent ends; whether all is well.
    fn look(&self) -> (bool, Option<String>) {
        let mut shown = self.shown.write().unwrap_or_else(PoisonError::into_inner);
        if shown.is_ending {
            return (true, None);
        }
        let lanes = shown.app.plan.lanes.all();
        let dead = lanes.iter().find(|lane| !lane.is_running()).map(|lane| lane.config().name.clone());
        let is_well = dead.is_none();
        let news = dead.filter(|_| !shown.is_told);
        shown.is_told |= news.is_some();
        (is_well, news)
    }
}

impl StatusSource for Front {
    fn status(&self) -> Status {
        let mut status = self.shown().board.status();
        status.started_at = crate::meter::rfc3339(self.started_at);
        status.uptime_seconds = self.since(self.started_at);
        let reload = self.reload.lock().unwrap_or_else(PoisonError::into_inner).clone();
        status.reload = reload.map(|(at, problem)| Reload { seconds_ago: self.since(at), problem });
        status
    }
}

/// Beats as long as every lane runs: one that died would owe its events for ever, and `/livez` has to tell.
async fn beat(heartbeat: Heartbeat, front: Arc<Front>) {
    loop {
        let (is_well, news) = front.look();
        if is_well {
            heartbeat.beat();
        }
        if let Some(sink) = news {
            tracing::error!(
                code = "lane_died",
                sink,
                "the lane of a sink has died of a bug: restart the agent, and please report this"
            );
        }
        front.clock.sleep(Duration::from_secs(1)).await;
    }
}
