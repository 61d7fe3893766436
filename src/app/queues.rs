//! Starts the sources that are queues, each with what it hands off.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::App;
use crate::config::{Source, Sqs};
use crate::meter::SourceMeter;
use crate::sources::Stop;
use crate::sources::leases::Leases;
use crate::sources::shipped::Shipped;
use crate::sources::sqs::{Bundles, SqsSource, run_both};

/// The observers of a source's queue of notifications, and of its queue of hand-offs.
type Meters = (Arc<SourceMeter>, Option<Arc<SourceMeter>>);

impl App {
    /// The observers of the queues of hand-offs, by their sources' names.
    pub(super) fn handoff_meters(&self) -> BTreeMap<&str, Arc<SourceMeter>> {
        let sources = self.config.sources.iter();
        let named = sources.filter_map(|source| Some((source.name.as_str(), source.handoff_name()?)));
        named.map(|(source, name)| (source, Arc::new(self.meter(&name)))).collect()
    }

    pub(super) fn start_queues(
        &self,
        source: &Source,
        sqs: &Sqs,
        (meter, handoff_meter): Meters,
        slots: &Arc<Semaphore>,
        stop: Stop,
        finished: Stop,
    ) -> anyhow::Result<JoinHandle<()>> {
        let client = self.identity(&sqs.aws)?.sqs(sqs.region.as_deref());
        let handoff_url = sqs.handoff_queue_url.clone().unwrap_or_else(|| sqs.queue_url.clone());
        let bundles = Bundles::start(client.clone(), handoff_url, &source.name, &self.plan, stop.clone());
        let read = |queue_url: &str, meter: Arc<SourceMeter>, slots: Arc<Semaphore>, only_handoffs: bool| {
            let leases = Leases::start(
                client.clone(),
                queue_url.to_owned(),
                sqs.visibility_timeout,
                Arc::clone(&self.plan.clock),
                Arc::clone(&self.plan.random),
                meter.clone(),
            );
            anyhow::Ok(Arc::new(SqsSource {
                name: meter.name().to_owned(),
                config: sqs.clone(),
                queue_url: queue_url.to_owned(),
                only_handoffs,
                bundles: Arc::clone(&bundles),
                filter: source.filter.clone(),
                labels: source.labels.clone(),
                client: client.clone(),
                buckets: sqs.buckets.iter().map(|rule| self.allow(rule)).collect::<Result<_, _>>()?,
                plan: Arc::clone(&self.plan),
                meter,
                leases,
                shipped: Shipped::default(),
                slots,
            }))
        };
        let notifications = read(&sqs.queue_url, meter, Arc::clone(slots), false)?;
        match (&sqs.handoff_queue_url, handoff_meter) {
            (Some(url), Some(meter)) => {
                // Of their own: a request that waits for hand-offs keeps no slot from what is new.
                let slots = Arc::new(Semaphore::new(sqs.fetch_concurrency.div_ceil(2)));
                let handoffs = read(url, meter, slots, true)?;
                Ok(tokio::spawn(run_both(notifications, handoffs, stop, finished)))
            }
            _ => Ok(tokio::spawn(notifications.run(stop, finished))),
        }
    }
}
