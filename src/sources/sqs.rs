//! The source `sqs`: notifications from a queue, each held until every event it stands for has its outcome.

mod bundles;
mod handoffs;
mod message;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_sqs::types::{Message, MessageSystemAttributeName};
use cloudtrail::{Content, Notification, read_notification};
use sinks::{Delays, RetryConfig, Via};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use super::Stop;
use super::admit::AllowedBucket;
use super::bucket_pause::BucketPauses;
use super::leases::{Lease, Leases};
use super::shipped::Shipped;
use crate::config::{Bucket, Filter, Sqs};
use crate::meter::SourceMeter;
use crate::worker::Plan;
pub use bundles::Bundles;
use message::{MessageEnd, Received};

/// At a shutdown, how long the last request for messages may still take: what the queue has handed out for it would
/// otherwise stay invisible for a whole visibility timeout.
const LAST_ANSWER_TIME: Duration = Duration::from_secs(1);

/// At a shutdown, how long messages that did not end by themselves have to be handed off.
const PART_TIME: Duration = Duration::from_millis(900);

/// A queue of hand-offs is looked at as often as this though no sink accepts: a message that nobody sends on would
/// expire in the end.
const SWEEP_INTERVAL: Duration = Duration::from_secs(3600);

/// How long the first receive waits for messages: an empty queue is soon to be known to answer.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// How often it is looked whether a bucket may be read again.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// Everything that a queue source needs.
pub struct SqsSource {
    pub name: String,
    pub config: Sqs,
    /// The queue that is read: of notifications, or of hand-offs alone.
    pub queue_url: String,
    /// Whether it is a queue of hand-offs alone.
    pub only_handoffs: bool,
    /// Where hand-offs go.
    pub bundles: Arc<Bundles>,
    pub filter: Filter,
    pub labels: Vec<(String, String)>,
    pub client: aws_sdk_sqs::Client,
    /// Those that log files may come from.
    pub buckets: Vec<AllowedBucket>,
    pub plan: Arc<Plan>,
    pub meter: Arc<SourceMeter>,
    pub leases: Arc<Leases>,
    pub pauses: Arc<BucketPauses>,
    pub shipped: Arc<Shipped>,
    /// Log files that are read at once.
    pub slots: Arc<Semaphore>,
}

impl SqsSource {
    /// Receives and ships until told to stop, then waits for `finish` before it hands back what it holds. Ends before
    /// that only of a bug.
    pub async fn run(self: Arc<Self>, stop: Stop, finished: Stop) {
        let mut heart = tokio::spawn(Arc::clone(&self.leases).heartbeat(finished.clone()));
        let gauges = tokio::spawn(Arc::clone(&self).watch_queue(stop.clone()));
        let mut messages = JoinSet::new();
        let late = tokio::select! {
            biased;
            late = self.receive_all(&mut messages, &stop, &finished) => late,
            // Without these two, every message would come again and again.
            _ = &mut heart => Vec::new(),
            () = self.leases.deleter_ended() => Vec::new(),
        };
        if stop.is_asked() {
            // Lanes go on delivering; what closes until then is deleted. Then the others part with what they have.
            tokio::select! {
                biased;
                () = async { while messages.join_next().await.is_some() {} } => {}
                () = async {
                    finished.asked().await;
                    self.plan.clock.sleep(PART_TIME).await;
                } => {}
            }
        }
        heart.abort();
        gauges.abort();
        self.leases.release_all().await;
        messages.abort_all();
        drop(late);
    }

    /// Receives until told to stop; gives what arrived too late for that.
    async fn receive_all(
        self: &Arc<Self>,
        messages: &mut JoinSet<()>,
        stop: &Stop,
        finished: &Stop,
    ) -> Vec<(Message, Lease)> {
        let mut sweeps = false;
        let mut delays = Delays::new(&RetryConfig::default());
        let mut wait = self.config.wait.min(FIRST_WAIT);
        while !stop.is_asked() {
            while messages.try_join_next().is_some() {}
            tokio::select! {
                biased;
                () = stop.asked() => break,
                () = async {
                    self.leases.below(self.config.leases_max).await;
                    self.wanting(sweeps).await;
                    self.buckets_wanting().await;
                } => {}
            }
            let Some(permits) = self.free_slots(stop).await else { break };
            let asked_at = self.plan.clock.monotonic();
            let receive = self.receive(permits.len(), std::mem::replace(&mut wait, self.config.wait));
            tokio::pin!(receive);
            let received = tokio::select! {
                biased;
                received = &mut receive => received,
                () = stop.asked() => {
                    return tokio::select! {
                        biased;
                        received = &mut receive => self.hold_all(received.unwrap_or_default(), asked_at),
                        () = self.plan.clock.sleep(LAST_ANSWER_TIME) => Vec::new(),
                    };
                }
            };
            match received {
                Ok(received) => {
                    delays = Delays::new(&RetryConfig::default());
                    sweeps = self.only_handoffs && !received.is_empty();
                    for ((message, lease), slot) in self.hold_all(received, asked_at).into_iter().zip(permits)
                    {
                        let (stop, finished) = (stop.clone(), finished.clone());
                        messages.spawn(Arc::clone(self).handle(message, lease, slot, stop, finished));
                    }
                }
                Err(error) => {
                    self.meter.receive_failed(&error);
                    let wait = delays.next(None, &*self.plan.random);
                    tokio::select! {
                        biased;
                        () = self.plan.clock.sleep(wait) => {}
                        () = stop.asked() => break,
                    }
                }
            }
        }
        Vec::new()
    }

    /// Waits until messages are of any use.
    async fn wanting(&self, sweeps: bool) {
        if sweeps {
            return;
        }
        tokio::select! {
            biased;
            () = self.plan.lanes.wanting() => {}
            () = self.plan.clock.sleep(SWEEP_INTERVAL), if self.only_handoffs => {}
        }
    }

    /// Takes the leases of messages that have arrived.
    fn hold_all(&self, messages: Vec<Message>, asked_at: Duration) -> Vec<(Message, Lease)> {
        let hold = |message: Message| {
            let receipt = message.receipt_handle().unwrap_or_default().to_owned();
            (message, self.leases.hold(receipt, asked_at))
        };
        messages.into_iter().map(hold).collect()
    }

    /// Waits for a free slot, and takes as many as one request can fill.
    async fn free_slots(&self, stop: &Stop) -> Option<Vec<OwnedSemaphorePermit>> {
        let first = tokio::select! {
            biased;
            permit = Arc::clone(&self.slots).acquire_owned() => permit.ok()?,
            () = stop.asked() => return None,
        };
        let mut permits = vec![first];
        while permits.len() < 10 {
            let Ok(next) = Arc::clone(&self.slots).try_acquire_owned() else { break };
            permits.push(next);
        }
        Some(permits)
    }

    async fn receive(&self, most: usize, wait: Duration) -> Result<Vec<Message>, String> {
        let seconds = |duration: Duration| i32::try_from(duration.as_secs()).unwrap_or(i32::MAX);
        let answer = self
            .client
            .receive_message()
            .queue_url(&self.queue_url)
            .max_number_of_messages(i32::try_from(most.clamp(1, 10)).unwrap_or(10))
            .wait_time_seconds(seconds(wait).min(20))
            .visibility_timeout(seconds(self.config.visibility_timeout))
            .message_system_attribute_names(MessageSystemAttributeName::SentTimestamp)
            .send()
            .await
            .map_err(|error| crate::aws::describe(&error))?;
        self.meter.received();
        let messages = answer.messages.unwrap_or_default();
        if let Some(oldest) = messages.iter().filter_map(sent_at).min() {
            self.meter.oldest(oldest);
        }
        Ok(messages)
    }

    async fn handle(
        self: Arc<Self>,
        message: Message,
        lease: Lease,
        slot: OwnedSemaphorePermit,
        stop: Stop,
        finished: Stop,
    ) {
        let notification = read_notification(message.body().unwrap_or_default().as_bytes());
        let shape = notification.shape.as_str();
        if let Some(away) = self.turned_away(&notification, &stop) {
            drop(slot);
            lease.put_back(away).await;
            self.meter.message(shape, MessageEnd::Kept.as_str());
            return;
        }
        let via = match notification.content {
            Content::Handoff(_) => Via::Handoff,
            _ => Via::Queue,
        };
        let id = message.message_id().unwrap_or_default();
        let lanes = self.note_handoffs(id, &notification.content);
        let bytes = message.body().map_or(0, str::len);
        let received =
            Received { id, bytes, lease: &lease, slot: Some(slot), stop: &stop, finished: &finished };
        // Without its lease the message comes again; going on would deliver it twice.
        let end = tokio::select! {
            biased;
            end = self.ship(received, notification) => end,
            () = lease.lost() => {
                self.meter.lease_lost();
                MessageEnd::Kept
            }
        };
        match end {
            MessageEnd::Done | MessageEnd::Nothing | MessageEnd::HandedOff | MessageEnd::SentOn => {
                if lease.delete().await {
                    self.shipped.forget(id);
                }
                self.handoffs_taken(id, &lanes);
                if let (MessageEnd::Done, Some(sent)) = (end, sent_at(&message)) {
                    self.meter.lag(via, sent);
                }
            }
            MessageEnd::Kept | MessageEnd::Later(_) if stop.is_asked() => lease.hand_back(),
            MessageEnd::Kept if lease.is_ending() => lease.put_back(Duration::ZERO).await,
            MessageEnd::Later(delay) => lease.put_back(delay).await,
            MessageEnd::Kept | MessageEnd::Unknown | MessageEnd::Refused => {}
        }
        self.meter.message(shape, end.as_str());
    }

    /// Waits until some bucket may be read, or has room for messages that wait for it.
    async fn buckets_wanting(&self) {
        let rules: Vec<&Bucket> = self.buckets.iter().map(|allowed| &allowed.rule).collect();
        while !self.pauses.want_messages(&self.name, self.config.leases_max, &rules) {
            self.plan.clock.sleep(LOOK_INTERVAL).await;
        }
    }

    /// How long a message has to stay away whose buckets are paused with no room left to wait for them.
    fn turned_away(&self, notification: &Notification, stop: &Stop) -> Option<Duration> {
        let away = self.pauses.turns_away(&self.name, self.config.leases_max, &notification.content)?;
        Some(if stop.is_asked() { Duration::ZERO } else { away })
    }

    /// Keeps the gauges of the queue up to date.
    async fn watch_queue(self: Arc<Self>, stop: Stop) {
        use aws_sdk_sqs::types::QueueAttributeName;
        while !stop.is_asked() {
            let request = self.client.get_queue_attributes().queue_url(&self.queue_url);
            let answer =
                request.attribute_names(QueueAttributeName::ApproximateNumberOfMessages).send().await;
            if let Ok(answer) = answer {
                let count = answer
                    .attributes()
                    .and_then(|all| all.get(&QueueAttributeName::ApproximateNumberOfMessages))
                    .and_then(|count| count.parse::<i64>().ok());
                self.meter.visible(count.unwrap_or(0));
            }
            self.meter.leases(self.leases.count(), self.leases.closing());
            tokio::select! {
                biased;
                () = stop.asked() => {}
                () = self.plan.clock.sleep(Duration::from_secs(30)) => {}
            }
        }
    }
}

/// Runs a source's two queues. Ends before it is told to only of a bug in one of them.
pub async fn run_both(one: Arc<SqsSource>, other: Arc<SqsSource>, stop: Stop, finished: Stop) {
    let one = one.run(stop.clone(), finished.clone());
    let other = other.run(stop.clone(), finished);
    tokio::pin!(one, other);
    tokio::select! {
        biased;
        () = &mut one => if stop.is_asked() { other.await },
        () = &mut other => if stop.is_asked() { one.await },
    }
}

/// When a message was sent, in milliseconds since 1970.
fn sent_at(message: &Message) -> Option<i64> {
    message.attributes()?.get(&MessageSystemAttributeName::SentTimestamp)?.parse().ok()
}
