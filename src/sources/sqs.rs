//! The source `sqs`: notifications from a queue, each held until every event it stands for has its outcome.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_sqs::types::{Message, MessageSystemAttributeName};
use cloudtrail::{Content, Handoff, InlineEvents, Notification, ObjectRef, read_notification};
use sinks::{Delays, LogFile, RangeSet, RetryConfig, Via};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use super::Stop;
use super::admit::{Admission, admit, is_region};
use super::leases::{Lease, Leases};
use crate::aws::Aws;
use crate::config::{Bucket, Filter, Sqs};
use crate::meter::SourceMeter;
use crate::worker::fetch::{Inline, S3Object, Version};
use crate::worker::{JobEnd, LogFileJob, Plan};

/// At a shutdown, how long the last request for messages may still take: what the queue has handed out for it would
/// otherwise stay invisible for a whole visibility timeout.
const LAST_ANSWER_TIME: Duration = Duration::from_secs(1);

/// Everything that a queue source needs.
pub struct SqsSource {
    pub name: String,
    pub config: Sqs,
    pub filter: Filter,
    pub labels: Vec<(String, String)>,
    pub client: aws_sdk_sqs::Client,
    /// By the name in a bucket's rule.
    pub identities: std::collections::BTreeMap<String, Arc<Aws>>,
    pub plan: Arc<Plan>,
    pub meter: Arc<SourceMeter>,
    pub leases: Arc<Leases>,
    /// Log files that are read at once.
    pub slots: Arc<Semaphore>,
}

/// How a message ended; the label `outcome` of `trailship_queue_messages_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MessageEnd {
    /// Everything in it is done: deleted.
    Done,
    /// There was nothing to do: deleted.
    Nothing,
    /// Not understood: left for the queue's dead-letter policy.
    Unknown,
    /// It names a bucket that is not allowed: left likewise.
    Refused,
    /// Not done: left to come again.
    Kept,
}

impl MessageEnd {
    fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Nothing => "nothing",
            Self::Unknown => "unknown",
            Self::Refused => "refused",
            Self::Kept => "kept",
        }
    }
}

impl SqsSource {
    /// Receives and ships until told to stop, then waits for `finish` before it hands back what it holds.
    pub async fn run(self: Arc<Self>, stop: Stop, finished: Stop) {
        let heart = tokio::spawn(Arc::clone(&self.leases).heartbeat(finished.clone()));
        let gauges = tokio::spawn(Arc::clone(&self).watch_queue(stop.clone()));
        let mut messages = JoinSet::new();
        let mut delays = Delays::new(&RetryConfig::default());
        let mut late = Vec::new();
        while !stop.is_asked() {
            while messages.try_join_next().is_some() {}
            tokio::select! {
                () = stop.asked() => break,
                () = async {
                    self.leases.below(self.config.leases_max).await;
                    self.plan.lanes.wanting().await;
                } => {}
            }
            let Some(permits) = self.free_slots(&stop).await else { break };
            let asked_at = self.plan.clock.monotonic();
            let receive = self.receive(permits.len());
            tokio::pin!(receive);
            let received = tokio::select! {
                received = &mut receive => received,
                () = stop.asked() => {
                    tokio::select! {
                        received = &mut receive => late = self.hold_all(received.unwrap_or_default(), asked_at),
                        () = self.plan.clock.sleep(LAST_ANSWER_TIME) => {}
                    }
                    break;
                }
            };
            match received {
                Ok(received) => {
                    delays = Delays::new(&RetryConfig::default());
                    for ((message, lease), slot) in self.hold_all(received, asked_at).into_iter().zip(permits)
                    {
                        messages.spawn(Arc::clone(&self).handle(message, lease, slot));
                    }
                }
                Err(error) => {
                    self.meter.receive_failed(&error);
                    let wait = delays.next(None, &*self.plan.random);
                    tokio::select! {
                        () = self.plan.clock.sleep(wait) => {}
                        () = stop.asked() => break,
                    }
                }
            }
        }
        // Lanes go on delivering; what closes until then is deleted.
        tokio::select! {
            () = async { while messages.join_next().await.is_some() {} } => {}
            () = finished.asked() => {}
        }
        heart.abort();
        gauges.abort();
        self.leases.release_all().await;
        messages.abort_all();
        drop(late);
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

    async fn receive(&self, most: usize) -> Result<Vec<Message>, String> {
        let seconds = |duration: Duration| i32::try_from(duration.as_secs()).unwrap_or(i32::MAX);
        let answer = self
            .client
            .receive_message()
            .queue_url(&self.config.queue_url)
            .max_number_of_messages(i32::try_from(most.clamp(1, 10)).unwrap_or(10))
            .wait_time_seconds(seconds(self.config.wait).min(20))
            .visibility_timeout(seconds(self.config.visibility_timeout))
            .message_system_attribute_names(MessageSystemAttributeName::SentTimestamp)
            .message_system_attribute_names(MessageSystemAttributeName::ApproximateReceiveCount)
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

    async fn handle(self: Arc<Self>, message: Message, lease: Lease, slot: OwnedSemaphorePermit) {
        let body = message.body().unwrap_or_default();
        let notification = read_notification(body.as_bytes());
        let shape = notification.shape.as_str();
        let via = match notification.content {
            Content::Handoff(_) => Via::Handoff,
            _ => Via::Queue,
        };
        let unreadable = notification.unreadable;
        let mut end = self.ship(&message, notification, slot).await;
        if let Some(why) = unreadable {
            self.left_unknown(&message, why);
            end = MessageEnd::Unknown;
        }
        if matches!(end, MessageEnd::Done | MessageEnd::Nothing) {
            let sent = sent_at(&message);
            if lease.is_lost() {
                self.meter.acknowledged_late();
            }
            lease.delete().await;
            if let (MessageEnd::Done, Some(sent)) = (end, sent) {
                self.meter.lag(via, sent);
            }
        }
        self.meter.message(shape, end.as_str());
    }

    async fn ship(
        &self,
        message: &Message,
        notification: Notification,
        slot: OwnedSemaphorePermit,
    ) -> MessageEnd {
        let id = message.message_id().unwrap_or_default();
        self.meter.removed(&notification.removed);
        match notification.content {
            Content::Objects(objects) => self.ship_objects(objects, slot).await,
            Content::Events(inline) => self.ship_inline(inline, slot).await,
            Content::Handoff(handoffs) => self.ship_handoffs(handoffs, slot).await,
            Content::Nothing(why) => {
                tracing::debug!(
                    code = "message_without_log_files",
                    message = id,
                    why = why.as_str(),
                    "nothing to do"
                );
                MessageEnd::Nothing
            }
            Content::Unknown(why) => {
                self.left_unknown(message, why);
                MessageEnd::Unknown
            }
        }
    }

    fn left_unknown(&self, message: &Message, why: cloudtrail::UnknownReason) {
        tracing::warn!(
            code = "message_unknown",
            source = self.name,
            message = message.message_id().unwrap_or_default(),
            why = why.as_str(),
            "the message is left on the queue for its dead-letter policy"
        );
    }

    async fn ship_objects(&self, objects: Vec<ObjectRef>, slot: OwnedSemaphorePermit) -> MessageEnd {
        let mut refused = false;
        let mut jobs = Vec::new();
        for object in objects {
            match admit(&object, &self.config.buckets, &self.filter) {
                Admission::Fetch { bucket, key } => {
                    let minute = key.minute.map(cloudtrail::Timestamp::to_rfc3339_millis);
                    jobs.push(self.job(&object, bucket, minute, Via::Queue));
                }
                Admission::Ignore(why) => self.meter.ignored(&object, why),
                Admission::Refuse => {
                    refused = true;
                    self.meter.refused(&object);
                }
            }
        }
        let nothing = jobs.is_empty();
        let done = self.run_all(jobs, slot).await;
        match (refused, done, nothing) {
            (true, _, _) => MessageEnd::Refused,
            (false, false, _) => MessageEnd::Kept,
            (false, true, true) => MessageEnd::Nothing,
            (false, true, false) => MessageEnd::Done,
        }
    }

    /// Runs the jobs of one message, the first in the message's slot; true if all are done.
    async fn run_all(&self, jobs: Vec<LogFileJob>, slot: OwnedSemaphorePermit) -> bool {
        let mut slot = Some(slot);
        let ends: Vec<_> = jobs.into_iter().map(|job| self.run_job(job, slot.take())).collect();
        drop(slot);
        futures_util::future::join_all(ends).await.into_iter().all(|done| done)
    }

    async fn run_job(&self, job: LogFileJob, slot: Option<OwnedSemaphorePermit>) -> bool {
        let slot = match slot {
            Some(slot) => Some(slot),
            None => Arc::clone(&self.slots).acquire_owned().await.ok(),
        };
        let name = job.name();
        let end = job.run(slot).await;
        self.meter.log_file(&name, &end);
        !matches!(end, JobEnd::Kept(_))
    }

    fn job(&self, object: &ObjectRef, bucket: &Bucket, minute: Option<String>, via: Via) -> LogFileJob {
        let file = self.log_file(&object.bucket, &object.key, minute, via);
        let version = Version { version_id: object.version_id.clone(), etag: None };
        let fetch = Arc::new(self.s3_object(object, bucket));
        LogFileJob::new(&self.plan, fetch, file, version, self.meter.clone())
            .with_reads(self.config.read_attempts)
    }

    fn s3_object(&self, object: &ObjectRef, bucket: &Bucket) -> S3Object {
        let said = object.region.as_deref().filter(|region| is_region(region));
        let region = bucket.region.as_deref().or(said);
        let identity = self.identities.get(&bucket.aws);
        S3Object {
            client: identity.map_or_else(|| self.fallback_client(region), |aws| aws.s3(region)),
            bucket: object.bucket.clone(),
            key: object.key.clone(),
            key_alternative: object.key_alternative.clone(),
            expected_owner: bucket.owner.clone(),
        }
    }

    /// Every rule's identity exists in a checked configuration; this is for none of them.
    fn fallback_client(&self, region: Option<&str>) -> aws_sdk_s3::Client {
        let mut config =
            aws_sdk_s3::Config::builder().behavior_version(aws_sdk_s3::config::BehaviorVersion::latest());
        config.set_region(region.map(|region| aws_sdk_s3::config::Region::new(region.to_owned())));
        aws_sdk_s3::Client::from_conf(config.build())
    }

    fn log_file(&self, bucket: &str, key: &str, minute: Option<String>, via: Via) -> LogFile {
        LogFile {
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            version_id: None,
            etag: None,
            via,
            read_at: crate::meter::rfc3339(self.plan.clock.now()),
            labels: self.labels.clone(),
            key_minute: minute,
        }
    }

    async fn ship_inline(&self, inline: InlineEvents, slot: OwnedSemaphorePermit) -> MessageEnd {
        let key = format!("eventbridge/{}", inline.id);
        let file = self.log_file("", &key, None, Via::Inline);
        let fetch = Arc::new(Inline { document: inline.document });
        let job = LogFileJob::new(&self.plan, fetch, file, Version::default(), self.meter.clone());
        if self.run_all(vec![job], slot).await { MessageEnd::Done } else { MessageEnd::Kept }
    }

    /// What sinks are still owed of log files, as an agent noted it.
    async fn ship_handoffs(&self, handoffs: Vec<Handoff>, slot: OwnedSemaphorePermit) -> MessageEnd {
        let mut refused = false;
        let mut kept = false;
        let mut jobs = Vec::new();
        for handoff in handoffs {
            let object = ObjectRef {
                bucket: handoff.bucket.clone(),
                key: handoff.key.clone(),
                version_id: handoff.version_id.clone(),
                ..ObjectRef::default()
            };
            let Some(lane) = self.plan.lanes.position(&handoff.sink) else {
                tracing::warn!(
                    code = "handoff_sink_unknown",
                    source = self.name,
                    sink = handoff.sink,
                    "a hand-off for a sink that this agent does not have stays on the queue"
                );
                kept = true;
                continue;
            };
            match admit(&object, &self.config.buckets, &Filter::default()) {
                Admission::Fetch { bucket, key } => {
                    let minute = key.minute.map(cloudtrail::Timestamp::to_rfc3339_millis);
                    let owed = RangeSet::from_ranges(handoff.ranges.iter().cloned());
                    jobs.push(
                        self.job(&object, bucket, minute, Via::Handoff)
                            .pinned(&handoff.etag)
                            .owing(lane, &owed),
                    );
                }
                Admission::Ignore(why) => self.meter.ignored(&object, why),
                Admission::Refuse => {
                    refused = true;
                    self.meter.refused(&object);
                }
            }
        }
        let done = self.run_all(jobs, slot).await;
        match (refused, kept || !done) {
            (true, _) => MessageEnd::Refused,
            (false, true) => MessageEnd::Kept,
            (false, false) => MessageEnd::Done,
        }
    }

    /// Keeps the gauges of the queue up to date.
    async fn watch_queue(self: Arc<Self>, stop: Stop) {
        use aws_sdk_sqs::types::QueueAttributeName;
        while !stop.is_asked() {
            let request = self.client.get_queue_attributes().queue_url(&self.config.queue_url);
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
                () = stop.asked() => {}
                () = self.plan.clock.sleep(Duration::from_secs(30)) => {}
            }
        }
    }
}

/// When a message was sent, in milliseconds since 1970.
fn sent_at(message: &Message) -> Option<i64> {
    message.attributes()?.get(&MessageSystemAttributeName::SentTimestamp)?.parse().ok()
}
