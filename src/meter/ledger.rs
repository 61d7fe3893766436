//! Turns what a ledger's table reports into metrics and log lines.

use std::sync::Arc;

use sinks::ports::Clock;

use super::Throttle;
use crate::aws::CallError;
use crate::ledger::LedgerObserver;
use crate::telemetry::Metrics;

/// Observes the table of the delivery ledger.
pub struct LedgerMeter {
    table: String,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    throttle: Throttle,
}

impl LedgerMeter {
    /// An observer for the table of that name.
    #[must_use]
    pub fn new(table: &str, metrics: Arc<Metrics>, clock: Arc<dyn Clock>) -> Self {
        Self { table: table.to_owned(), metrics, clock, throttle: Throttle::default() }
    }
}

impl LedgerObserver for LedgerMeter {
    fn failed(&self, operation: &'static str, why: Option<&CallError>) {
        self.metrics.counter("ledger_failures_total", &[operation]).inc();
        let Some(why) = why else { return };
        if self.throttle.lets_through(self.clock.monotonic()) {
            tracing::warn!(
                code = "ledger_failing",
                table = self.table,
                operation,
                error = why.code,
                why = why.message,
                "log files are delivered all the same; one that another agent has delivered may be sent again"
            );
        }
    }

    fn back(&self) {
        tracing::info!(
            code = "ledger_back",
            table = self.table,
            "the table of the delivery ledger answers again"
        );
    }
}
