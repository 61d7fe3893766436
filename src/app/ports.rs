//! Everything outside itself that an agent uses: the system's in production, given in a simulation.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use aws_config::SdkConfig;
use aws_sdk_sqs::config::Credentials;
use sinks::destinations::Built;
use sinks::ports::{Clock, Compute, Dialer, Files, Random, Transport};

use super::make::{transport, transport_settings};
use crate::aws::Aws;
use crate::config::{AwsIdentity, Network, SinkConfig};
use crate::ports::{LocalFiles, SocketDialer, SystemClock, SystemRandom, Workers};

/// How destinations are reached.
pub trait Wires: Send + Sync {
    /// The transport of a destination.
    ///
    /// # Errors
    /// If a file of its settings cannot be read, or a setting cannot be used.
    fn transport(
        &self,
        sink: &SinkConfig,
        built: &Built,
        network: &Network,
    ) -> anyhow::Result<Arc<dyn Transport>>;

    /// What opens the connections of a destination that speaks no HTTP.
    ///
    /// # Errors
    /// As [`transport`](Self::transport).
    fn dialer(&self, sink: &SinkConfig, network: &Network) -> anyhow::Result<Arc<dyn Dialer>>;
}

/// The system's network.
pub struct Sockets;

impl Wires for Sockets {
    fn transport(
        &self,
        _: &SinkConfig,
        built: &Built,
        network: &Network,
    ) -> anyhow::Result<Arc<dyn Transport>> {
        Ok(Arc::new(transport(built, network)?))
    }

    fn dialer(&self, _: &SinkConfig, network: &Network) -> anyhow::Result<Arc<dyn Dialer>> {
        Ok(Arc::new(SocketDialer::new(&transport_settings(network)).map_err(|error| anyhow!(error))?))
    }
}

/// Where the clients of AWS get their settings.
#[derive(Clone)]
pub enum AwsAccess {
    /// From the SDK's own chain.
    Chain,
    /// From there as well, but for the credentials.
    Credentials(Credentials),
    /// From here alone.
    Given(Box<SdkConfig>),
}

impl AwsAccess {
    async fn load(&self, identity: &AwsIdentity) -> Aws {
        match self {
            Self::Chain => Aws::load(identity, None).await,
            Self::Credentials(credentials) => Aws::load(identity, Some(credentials.clone())).await,
            Self::Given(config) => Aws::with_config(identity, SdkConfig::clone(config)),
        }
    }

    /// Those of `identities` whose names are `used`.
    pub(super) async fn load_used(
        &self,
        identities: &BTreeMap<String, AwsIdentity>,
        used: &[&str],
    ) -> BTreeMap<String, Arc<Aws>> {
        let mut loaded = BTreeMap::new();
        for (name, identity) in identities {
            if used.contains(&name.as_str()) {
                loaded.insert(name.clone(), Arc::new(self.load(identity).await));
            }
        }
        loaded
    }
}

/// What an agent stands on.
#[derive(Clone)]
pub struct AppPorts {
    pub compute: Arc<dyn Compute>,
    pub clock: Arc<dyn Clock>,
    pub random: Arc<dyn Random>,
    pub files: Arc<dyn Files>,
    pub wires: Arc<dyn Wires>,
    pub aws: AwsAccess,
    /// Whether the admin pages are served.
    pub pages: bool,
}

impl AppPorts {
    /// The system's.
    ///
    /// # Errors
    /// If the system has no threads.
    pub fn system() -> anyhow::Result<Self> {
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Ok(Self {
            compute: Arc::new(Workers::start(threads).context("worker threads")?),
            clock: Arc::new(SystemClock::default()),
            random: Arc::new(SystemRandom::default()),
            files: Arc::new(LocalFiles),
            wires: Arc::new(Sockets),
            aws: AwsAccess::Chain,
            pages: true,
        })
    }
}
