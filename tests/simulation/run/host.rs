//! The machines that agents run on, and what runs there.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_s3::config::{Credentials, SharedAsyncSleep, SharedCredentialsProvider};
use aws_smithy_async::rt::sleep::TokioSleep;
use aws_smithy_async::time::SharedTimeSource;
use testkit::ports::{InlineCompute, SeededRandom};
use trailship::simulation::{Agent, Ports};

use crate::disk::ForgetfulDisk;
use crate::network::SdkClient;
use crate::stage::{Stage, Ways};
use crate::time::{SdkClock, VirtualClock, WallClock};

/// What the software on an agent's host has to tell.
#[derive(Default)]
pub(super) struct Slot {
    pub(super) agent: Option<Arc<Agent>>,
    pub(super) ended: Option<Result<(), String>>,
}

/// One agent's host.
pub(super) struct Host {
    pub(super) name: String,
    pub(super) disk: ForgetfulDisk,
    pub(super) clock: Arc<WallClock>,
    pub(super) slot: Arc<Mutex<Slot>>,
    /// Not running, and when it will be again.
    pub(super) back_at: Option<Duration>,
    /// Told to stop: until when it has to be over, and how long its successor takes.
    pub(super) stopping: Option<(Duration, Duration)>,
}

impl Host {
    /// A machine that runs nothing yet.
    pub(super) fn new(stage: &Stage, agent: usize) -> Self {
        Self {
            name: format!("agent-{agent}"),
            disk: ForgetfulDisk::new(stage.seed ^ agent as u64),
            clock: Arc::new(WallClock::new(&stage.time)),
            slot: Arc::default(),
            back_at: None,
            stopping: None,
        }
    }

    pub(super) fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_up(&self) -> bool {
        self.back_at.is_none() && self.stopping.is_none()
    }
}

/// What runs on an agent's host, each time that it starts.
pub(super) async fn software(
    stage: Arc<Stage>,
    agent: usize,
    start: u64,
    disk: ForgetfulDisk,
    clock: Arc<WallClock>,
    slot: Arc<Mutex<Slot>>,
) -> turmoil::Result {
    let ports = Ports {
        compute: Arc::new(InlineCompute),
        clock: Arc::new(VirtualClock(Arc::clone(&clock))),
        random: Arc::new(SeededRandom::new(stage.seed ^ (start << 8 | agent as u64) << 32)),
        disk: Arc::new(disk),
        aws: sdk(&stage, agent, &clock),
        transports: Arc::new(Ways { agent, stage: Arc::clone(&stage), start }),
    };
    let built = Arc::new(Agent::build(&stage.config(), ports).await?);
    let lock = || slot.lock().unwrap_or_else(PoisonError::into_inner);
    lock().agent = Some(Arc::clone(&built));
    let result = built.run().await;
    lock().ended = Some(result);
    // The driver ends the process, and with it whatever still runs.
    std::future::pending().await
}

/// The SDK's settings on the simulated network and time.
fn sdk(stage: &Arc<Stage>, agent: usize, clock: &Arc<WallClock>) -> SdkConfig {
    let credentials = Credentials::new("AKIDSIMULATION", "secret", None, None, "simulation");
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .http_client(SdkClient { agent, links: Arc::clone(&stage.links) })
        .sleep_impl(SharedAsyncSleep::new(TokioSleep::new()))
        .time_source(SharedTimeSource::new(SdkClock(Arc::clone(clock))))
        .build()
}
