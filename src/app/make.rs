//! Makes the sink and the lane's settings of each sink in the configuration.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use async_trait::async_trait;
use sinks::destinations::{Additions, Built, Carrier, Finding, SinkPorts};
use sinks::ports::{Authorize, Clock, Compute, Files, Random, Renew, Transport};
use sinks::{
    BatchConfig, ConsoleSink, FileSink, HttpDestination, Lane, LaneConfig, LanePorts, LineFormat, ObjectSink,
    Redactor, RenewingSink, RetryConfig, Sink,
};

use super::Wires;
use crate::aws::{Aws, Signer};
use crate::config::{Network, SecretSource, SinkConfig, SinkKind};
use crate::objects::S3Buckets;
use crate::ports::{HttpTransport, TransportSettings};
use crate::secrets::SecretReader;

/// What sinks are made of.
#[derive(Clone)]
pub struct Makers {
    /// Worker threads.
    pub compute: Arc<dyn Compute>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
    /// The file system.
    pub files: Arc<dyn Files>,
    /// How destinations are reached.
    pub wires: Arc<dyn Wires>,
    /// Who the agent is towards AWS, by name.
    pub identities: Arc<BTreeMap<String, Arc<Aws>>>,
}

/// A sink that is ready for its lane.
pub enum MadeSink {
    /// It takes events in batches.
    Events(Arc<dyn Sink>),
    /// It stores objects, each of one log file.
    Objects(Arc<dyn ObjectSink>),
}

impl MadeSink {
    /// What it says when it is asked whether events could be delivered.
    pub async fn check(&self) -> Vec<(String, Finding)> {
        match self {
            Self::Events(sink) => sink.check().await,
            Self::Objects(sink) => sink.check().await,
        }
    }

    /// Starts its lane.
    pub fn start(self, config: LaneConfig, compute: &Arc<dyn Compute>, ports: LanePorts) -> Lane {
        match self {
            Self::Events(sink) => Lane::start(config, sink, ports),
            Self::Objects(sink) => Lane::start_objects(config, sink, Arc::clone(compute), ports),
        }
    }
}

impl Makers {
    /// What reads the secrets that AWS keeps.
    pub fn secrets(&self) -> SecretReader {
        SecretReader {
            identities: Arc::clone(&self.identities),
            clock: Arc::clone(&self.clock),
            random: Arc::clone(&self.random),
        }
    }

    /// The sink of a configuration, and where its events go, for display.
    ///
    /// # Errors
    /// If a file of its settings cannot be read, or its settings cannot be used here.
    pub fn sink(&self, sink: &SinkConfig) -> anyhow::Result<(MadeSink, Vec<String>)> {
        let format = LineFormat { additions: sink.additions == Additions::Full, labels: sink.labels.clone() };
        Ok(match &sink.kind {
            SinkKind::File(file) => {
                let made = FileSink::new(
                    format,
                    &file.path,
                    file.rotate_bytes,
                    file.rotate_age,
                    Arc::clone(&self.files),
                    Arc::clone(&self.compute),
                    Arc::clone(&self.clock),
                );
                (MadeSink::Events(Arc::new(made)), vec![shown(&file.path)])
            }
            SinkKind::Console => {
                let made = ConsoleSink::new(format, Arc::clone(&self.compute), std::io::stdout());
                (MadeSink::Events(Arc::new(made)), vec!["standard output".to_owned()])
            }
            SinkKind::Destination(network, _) => {
                let instance = self.random.next();
                let built = sink.build(instance)?.ok_or_else(|| anyhow!("not a destination"))?;
                let shown = built.endpoints.clone();
                let made = self.destination(sink, built, network)?;
                // A store has no secrets of its own: its identity renews them.
                let MadeSink::Events(made) = made else { return Ok((made, shown)) };
                if sink.secrets.is_empty() {
                    return Ok((MadeSink::Events(made), shown));
                }
                let make = SinkAgain { makers: self.clone(), sink: sink.clone(), instance };
                let renewing = RenewingSink::new(made, Arc::new(make), Arc::clone(&self.clock));
                (MadeSink::Events(Arc::new(renewing)), shown)
            }
        })
    }

    fn destination(&self, config: &SinkConfig, built: Built, network: &Network) -> anyhow::Result<MadeSink> {
        let transport = self.wires.transport(config, &built, network)?;
        let authorize = self.authorize(&built)?;
        let redactor = built.redactor.clone();
        match built.carrier {
            Carrier::Http(sink) => {
                let compute = Arc::clone(&self.compute);
                let made =
                    HttpDestination::new(sink, transport, compute, network.compression, built.redactor);
                Ok(MadeSink::Events(match authorize {
                    Some(authorize) => Arc::new(made.signed(authorize)),
                    None => Arc::new(made),
                }))
            }
            Carrier::Own(assemble) => {
                let made = assemble(&self.ports(config, transport, network, redactor)?);
                made.map(MadeSink::Events).map_err(|why| anyhow!("{why}"))
            }
            Carrier::Objects(assemble) => {
                let made = assemble(&self.ports(config, transport, network, redactor)?);
                made.map(MadeSink::Objects).map_err(|why| anyhow!("{why}"))
            }
        }
    }

    /// What a sink with a protocol of its own, or with a store, may use.
    fn ports(
        &self,
        config: &SinkConfig,
        transport: Arc<dyn Transport>,
        network: &Network,
        redactor: Redactor,
    ) -> anyhow::Result<SinkPorts> {
        Ok(SinkPorts {
            transport,
            dialer: self.wires.dialer(config, network)?,
            compute: Arc::clone(&self.compute),
            clock: Arc::clone(&self.clock),
            random: Arc::clone(&self.random),
            files: Arc::clone(&self.files),
            objects: Arc::new(S3Buckets { identities: Arc::clone(&self.identities) }),
            timeout: network.timeout,
            redactor,
        })
    }

    /// What signs the requests of a destination, where they are signed.
    ///
    /// # Errors
    /// If its identity or region is not known.
    pub fn authorize(&self, built: &Built) -> anyhow::Result<Option<Arc<dyn Authorize>>> {
        let Some(signing) = &built.signing else { return Ok(None) };
        let name = built.identity.as_deref().unwrap_or(crate::config::DEFAULT_IDENTITY);
        let aws = self.identities.get(name).ok_or_else(|| anyhow!("there is no identity [aws.{name}]"))?;
        let region = signing.region.clone().or_else(|| aws.region());
        let region =
            region.context("requests are signed for a region: set `region` of the sink, or of [aws]")?;
        let signer = Signer::new(aws.config().clone(), signing.service, region, Arc::clone(&self.clock));
        Ok(Some(Arc::new(signer)))
    }
}

/// A sink that can be made again, with its secrets as they are by then.
struct SinkAgain {
    makers: Makers,
    sink: SinkConfig,
    instance: u64,
}

impl SinkAgain {
    async fn make(&self) -> anyhow::Result<Arc<dyn Sink>> {
        let remote = self.sink.secrets.iter().filter_map(|secret| match secret {
            SecretSource::Remote(remote) => Some(remote.clone()),
            SecretSource::File => None,
        });
        let (texts, failed) = self.makers.secrets().read(&remote.collect::<Vec<_>>()).await;
        if let Some(failed) = failed.first() {
            return Err(anyhow!("{}: {}", failed.secret, failed.why));
        }
        let SinkKind::Destination(network, _) = &self.sink.kind else {
            return Err(anyhow!("not a destination"));
        };
        let built =
            self.sink.build_with(self.instance, texts)?.ok_or_else(|| anyhow!("not a destination"))?;
        match self.makers.destination(&self.sink, built, network)? {
            MadeSink::Events(sink) => Ok(sink),
            MadeSink::Objects(_) => Err(anyhow!("a store is not made again")),
        }
    }
}

#[async_trait]
impl Renew for SinkAgain {
    async fn renew(&self) -> Option<Arc<dyn Sink>> {
        let sink = &self.sink.name;
        match self.make().await {
            Ok(made) => {
                tracing::info!(code = "secrets_read_again", sink, "the next probe uses them as they are now");
                Some(made)
            }
            Err(why) => {
                tracing::warn!(code = "secrets_not_read", sink, %why, "the sink goes on with those that it has");
                None
            }
        }
    }
}

/// The transport of a destination.
///
/// # Errors
/// If a file of its settings cannot be read, or a setting cannot be used.
pub fn transport(built: &Built, network: &Network) -> anyhow::Result<HttpTransport> {
    let hosts: Vec<String> = built.endpoints.iter().filter_map(|url| host_of(url)).collect();
    HttpTransport::new(&transport_settings(network), &hosts).map_err(|error| anyhow!(error))
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// The host of an address.
fn host_of(url: &str) -> Option<String> {
    reqwest::Url::parse(url).ok()?.host_str().map(str::to_owned)
}

/// How a destination is reached.
pub(super) fn transport_settings(network: &Network) -> TransportSettings {
    TransportSettings {
        timeout: network.timeout,
        connect_timeout: network.connect_timeout,
        idle_max: network.idle_connection_max,
        proxy: network.proxy.clone(),
        ca_file: network.tls.ca_file.clone(),
        identity: network.tls.cert_file.clone().zip(network.tls.key_file.clone()),
        server_name: network.tls.server_name.clone(),
        insecure_skip_verify: network.tls.insecure_skip_verify,
    }
}

pub(super) fn lane_config(sink: &SinkConfig, memory_part: u64) -> LaneConfig {
    let ack_timeout = match &sink.kind {
        SinkKind::Destination(network, _) => network.ack_timeout,
        _ => Duration::from_secs(1),
    };
    LaneConfig {
        name: sink.name.clone(),
        sink_type: sink.type_name.clone(),
        batch: BatchConfig {
            bytes_max: usize::try_from(sink.batch.max_bytes).unwrap_or(usize::MAX),
            events_max: sink.batch.max_events as usize,
            age_max: sink.batch.max_age,
        },
        retry: RetryConfig {
            initial: sink.retry.initial,
            max: sink.retry.max,
            give_up_after: sink.retry.give_up_after,
        },
        concurrency_min: sink.concurrency.min as usize,
        concurrency_max: sink.concurrency.max as usize,
        ack_timeout,
        memory_part,
    }
}
