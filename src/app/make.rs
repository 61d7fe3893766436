//! Makes the sink and the lane's settings of each sink in the configuration.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use sinks::destinations::Additions;
use sinks::ports::{Clock, Compute, Files, Random};
use sinks::{BatchConfig, ConsoleSink, FileSink, HttpDestination, LaneConfig, LineFormat, RetryConfig, Sink};

use crate::config::{Http, SinkConfig, SinkKind};
use crate::ports::{HttpTransport, TransportSettings};

/// The ports that a sink may need.
pub(super) struct SinkPorts<'a> {
    pub(super) compute: &'a Arc<dyn Compute>,
    pub(super) clock: &'a Arc<dyn Clock>,
    pub(super) random: &'a Arc<dyn Random>,
    pub(super) files: &'a Arc<dyn Files>,
}

/// The sink of a configuration, and where its events go, for display.
pub(super) fn make_sink(
    sink: &SinkConfig,
    ports: &SinkPorts<'_>,
) -> anyhow::Result<(Arc<dyn Sink>, Vec<String>)> {
    let format = LineFormat { additions: sink.additions == Additions::Full, labels: sink.labels.clone() };
    Ok(match &sink.kind {
        SinkKind::File(file) => {
            let made = FileSink::new(
                format,
                &file.path,
                file.rotate_bytes,
                file.rotate_age,
                Arc::clone(ports.files),
                Arc::clone(ports.compute),
                Arc::clone(ports.clock),
            );
            (Arc::new(made), vec![shown(&file.path)])
        }
        SinkKind::Console => {
            let made = ConsoleSink::new(format, Arc::clone(ports.compute), std::io::stdout());
            (Arc::new(made), vec!["standard output".to_owned()])
        }
        SinkKind::Http(http, _) => {
            let built = sink.build(ports.random.next())?.ok_or_else(|| anyhow!("not an HTTP sink"))?;
            let hosts: Vec<String> = built.endpoints.iter().filter_map(|url| host_of(url)).collect();
            let transport =
                HttpTransport::new(&transport_settings(http), &hosts).map_err(|error| anyhow!(error))?;
            let made = HttpDestination::new(
                built.sink,
                Arc::new(transport),
                Arc::clone(ports.compute),
                http.compression,
                built.redactor,
            );
            (Arc::new(made), built.endpoints)
        }
    })
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// The host of an address.
pub fn host_of(url: &str) -> Option<String> {
    reqwest::Url::parse(url).ok()?.host_str().map(str::to_owned)
}

/// How an HTTP sink is reached.
pub fn transport_settings(http: &Http) -> TransportSettings {
    TransportSettings {
        timeout: http.timeout,
        connect_timeout: http.connect_timeout,
        idle_max: http.idle_connection_max,
        proxy: http.proxy.clone(),
        ca_file: http.tls.ca_file.clone(),
        identity: http.tls.cert_file.clone().zip(http.tls.key_file.clone()),
        server_name: http.tls.server_name.clone(),
        insecure_skip_verify: http.tls.insecure_skip_verify,
    }
}

pub(super) fn lane_config(sink: &SinkConfig, memory_part: u64) -> LaneConfig {
    let ack_timeout = match &sink.kind {
        SinkKind::Http(http, _) => http.ack_timeout,
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
