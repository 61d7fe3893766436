//! Opens the delivery ledger of a configuration.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::anyhow;
use sinks::ports::{Clock, Random};

use crate::aws::{Aws, JsonClient, JsonService};
use crate::config::{Config, LedgerTable};
use crate::ledger::{DeliveryLedger, DynamoDbLedger, MemoryLedger, NoLedger};
use crate::meter::LedgerMeter;
use crate::telemetry::Metrics;

/// The ledger; nothing is asked yet.
///
/// # Errors
/// If its identity or region is not known.
pub(super) fn open_ledger(
    config: &Config,
    identities: &BTreeMap<String, Arc<Aws>>,
    (clock, random): (&Arc<dyn Clock>, &Arc<dyn Random>),
    metrics: &Arc<Metrics>,
) -> anyhow::Result<Arc<dyn DeliveryLedger>> {
    let most = config.ledger.log_files_max;
    let memory = MemoryLedger::new(most);
    Ok(match &config.ledger.table {
        Some(table) => {
            let calls = Arc::new(client(table, identities, clock, random)?);
            let observer = LedgerMeter::new(&table.name, Arc::clone(metrics), Arc::clone(clock));
            let place = (table.name.clone(), table.ttl);
            Arc::new(DynamoDbLedger::new(memory, calls, place, Arc::clone(clock), Arc::new(observer)))
        }
        None if most == 0 => Arc::new(NoLedger),
        None => Arc::new(memory),
    })
}

/// What calls the table.
///
/// # Errors
/// If its identity or region is not known.
pub fn client(
    table: &LedgerTable,
    identities: &BTreeMap<String, Arc<Aws>>,
    clock: &Arc<dyn Clock>,
    random: &Arc<dyn Random>,
) -> anyhow::Result<JsonClient> {
    let aws =
        identities.get(&table.aws).ok_or_else(|| anyhow!("there is no identity [aws.{}]", table.aws))?;
    let client = JsonClient::new(aws, JsonService::DynamoDb, table.region.as_deref(), clock, random);
    client.map_err(|why| anyhow!("ledger: {why}"))
}
