//! Makes the sink and the lane's settings of each sink in the configuration.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use sinks::destinations::{Additions, Built, Carrier, SinkPorts};
use sinks::ports::{Authorize, Clock, Compute, Files, Random};
use sinks::{BatchConfig, ConsoleSink, FileSink, HttpDestination, LaneConfig, LineFormat, RetryConfig, Sink};

use super::Wires;
use crate::aws::{Aws, Signer};
use crate::config::{Network, SinkConfig, SinkKind};
use crate::objects::S3Buckets;
use crate::ports::{HttpTransport, TransportSettings};

/// What sinks are made of.
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

impl Makers {
    /// The sink of a configuration, and where its events go, for display.
    ///
    /// # Errors
    /// If a file of its settings cannot be read, or its settings cannot be used here.
    pub fn sink(&self, sink: &SinkConfig) -> anyhow::Result<(Arc<dyn Sink>, Vec<String>)> {
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
                (Arc::new(made), vec![shown(&file.path)])
            }
            SinkKind::Console => {
                let made = ConsoleSink::new(format, Arc::clone(&self.compute), std::io::stdout());
                (Arc::new(made), vec!["standard output".to_owned()])
            }
            SinkKind::Destination(network, _) => {
                let built = sink.build(self.random.next())?.ok_or_else(|| anyhow!("not a destination"))?;
                let shown = built.endpoints.clone();
                (self.destination(sink, built, network)?, shown)
            }
        })
    }

    fn destination(
        &self,
        config: &SinkConfig,
        built: Built,
        network: &Network,
    ) -> anyhow::Result<Arc<dyn Sink>> {
        let transport = self.wires.transport(config, &built, network)?;
        let authorize = self.authorize(&built)?;
        match built.carrier {
            Carrier::Http(sink) => {
                let compute = Arc::clone(&self.compute);
                let made =
                    HttpDestination::new(sink, transport, compute, network.compression, built.redactor);
                Ok(match authorize {
                    Some(authorize) => Arc::new(made.signed(authorize)),
                    None => Arc::new(made),
                })
            }
            Carrier::Own(assemble) => {
                let ports = SinkPorts {
                    transport,
                    dialer: self.wires.dialer(config, network)?,
                    compute: Arc::clone(&self.compute),
                    clock: Arc::clone(&self.clock),
                    random: Arc::clone(&self.random),
                    files: Arc::clone(&self.files),
                    objects: Arc::new(S3Buckets { identities: Arc::clone(&self.identities) }),
                    timeout: network.timeout,
                };
                assemble(&ports).map_err(|why| anyhow!("{why}"))
            }
        }
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
