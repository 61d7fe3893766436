//! One message: what it stands for, and how that ends.

use std::sync::Arc;

use cloudtrail::{Content, Handoff, InlineEvents, Notification, ObjectRef};
use sinks::{LogFile, RangeSet, Via};
use tokio::sync::OwnedSemaphorePermit;

use super::SqsSource;
use crate::config::Filter;
use crate::sources::admit::{Admission, Admitted, AllowedBucket, admit, is_region};
use crate::sources::leases::Lease;
use crate::worker::fetch::{Inline, S3Object, Version};
use crate::worker::{JobEnd, LogFileJob};

/// How a message ended; the label `outcome` of `trailship_queue_messages_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MessageEnd {
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
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Nothing => "nothing",
            Self::Unknown => "unknown",
            Self::Refused => "refused",
            Self::Kept => "kept",
        }
    }
}

/// A received message.
pub(super) struct Received<'a> {
    pub(super) id: &'a str,
    pub(super) lease: &'a Lease,
    /// For the first log file in it.
    pub(super) slot: OwnedSemaphorePermit,
}

/// The log files that a message stands for.
#[derive(Default)]
struct Parts {
    /// With their positions in the message.
    jobs: Vec<(usize, LogFileJob)>,
    /// Whether some were shipped when the message came before.
    before: bool,
    refused: bool,
    kept: bool,
}

impl SqsSource {
    pub(super) async fn ship(&self, message: Received<'_>, notification: Notification) -> MessageEnd {
        self.meter.removed(&notification.removed);
        if let Some(why) = notification.unreadable {
            self.leave(&message, why);
        }
        let end = match notification.content {
            Content::Objects(objects) => self.ship_objects(objects, message).await,
            Content::Events(inline) => self.ship_inline(inline, message).await,
            Content::Handoff(handoffs) => self.ship_handoffs(handoffs, message).await,
            Content::Nothing(why) => {
                tracing::debug!(
                    code = "message_without_log_files",
                    message = message.id,
                    why = why.as_str(),
                    "nothing to do"
                );
                MessageEnd::Nothing
            }
            Content::Unknown(why) => {
                if notification.unreadable.is_none() {
                    self.leave(&message, why);
                }
                MessageEnd::Unknown
            }
        };
        if notification.unreadable.is_some() { MessageEnd::Unknown } else { end }
    }

    /// What is not understood is for the queue's dead-letter policy.
    fn leave(&self, message: &Received<'_>, why: cloudtrail::UnknownReason) {
        message.lease.stay();
        tracing::warn!(
            code = "message_unknown",
            source = self.name,
            message = message.id,
            why = why.as_str(),
            "the message is left on the queue for its dead-letter policy"
        );
    }

    async fn ship_objects(&self, objects: Vec<ObjectRef>, message: Received<'_>) -> MessageEnd {
        let mut parts = Parts::default();
        for (position, object) in objects.iter().enumerate() {
            match admit(object, &self.buckets, &self.filter) {
                Admission::Fetch(admitted) => {
                    self.add(&mut parts, &message, position, || self.job(object, &admitted, Via::Queue));
                }
                Admission::Ignore(why) => self.meter.ignored(object, why),
                Admission::Refuse => {
                    parts.refused = true;
                    self.meter.refused(object);
                }
            }
        }
        self.run_all(parts, message).await
    }

    async fn ship_inline(&self, inline: InlineEvents, message: Received<'_>) -> MessageEnd {
        let mut parts = Parts::default();
        let key = format!("eventbridge/{}", inline.id);
        self.add(&mut parts, &message, 0, || {
            let file = self.log_file("", &key, None, Via::Inline);
            let fetch = Arc::new(Inline { document: inline.document });
            LogFileJob::new(&self.plan, fetch, file, Version::default(), self.meter.clone())
        });
        self.run_all(parts, message).await
    }

    /// What sinks are still owed of log files, as an agent noted it.
    async fn ship_handoffs(&self, handoffs: Vec<Handoff>, message: Received<'_>) -> MessageEnd {
        let mut parts = Parts::default();
        for (position, handoff) in handoffs.iter().enumerate() {
            let Some(lane) = self.plan.lanes.position(&handoff.sink) else {
                tracing::warn!(
                    code = "handoff_sink_unknown",
                    source = self.name,
                    sink = handoff.sink,
                    "a hand-off for a sink that this agent does not have stays on the queue"
                );
                parts.kept = true;
                continue;
            };
            let object = ObjectRef {
                bucket: handoff.bucket.clone(),
                key: handoff.key.clone(),
                version_id: handoff.version_id.clone(),
                ..ObjectRef::default()
            };
            match admit(&object, &self.buckets, &Filter::default()) {
                Admission::Fetch(admitted) => self.add(&mut parts, &message, position, || {
                    let owed = RangeSet::from_ranges(handoff.ranges.iter().cloned());
                    let job = self.job(&object, &admitted, Via::Handoff);
                    job.pinned(&handoff.etag).owing(lane, &owed)
                }),
                Admission::Ignore(why) => self.meter.ignored(&object, why),
                Admission::Refuse => {
                    parts.refused = true;
                    self.meter.refused(&object);
                }
            }
        }
        self.run_all(parts, message).await
    }

    /// Adds a log file, unless it was shipped when the message came before.
    fn add(
        &self,
        parts: &mut Parts,
        message: &Received<'_>,
        position: usize,
        job: impl FnOnce() -> LogFileJob,
    ) {
        if self.shipped.has(message.id, position) {
            parts.before = true;
        } else {
            parts.jobs.push((position, job()));
        }
    }

    /// Runs the jobs of one message, the first in the message's slot.
    async fn run_all(&self, parts: Parts, message: Received<'_>) -> MessageEnd {
        if parts.refused {
            message.lease.stay();
        }
        let nothing = parts.jobs.is_empty() && !parts.before;
        let mut slot = Some(message.slot);
        let run = |(position, job)| self.run_job(message.id, position, job, slot.take());
        let ends: Vec<_> = parts.jobs.into_iter().map(run).collect();
        drop(slot);
        let done = futures_util::future::join_all(ends).await.into_iter().all(|done| done);
        match (parts.refused, done && !parts.kept, nothing) {
            (true, _, _) => MessageEnd::Refused,
            (false, false, _) => MessageEnd::Kept,
            (false, true, true) => MessageEnd::Nothing,
            (false, true, false) => MessageEnd::Done,
        }
    }

    /// True if the log file is done.
    async fn run_job(
        &self,
        message: &str,
        position: usize,
        job: LogFileJob,
        slot: Option<OwnedSemaphorePermit>,
    ) -> bool {
        let slot = match slot {
            Some(slot) => Some(slot),
            None => Arc::clone(&self.slots).acquire_owned().await.ok(),
        };
        let name = job.name();
        let end = job.run(slot).await;
        self.meter.log_file(&name, &end);
        let is_done = !matches!(end, JobEnd::Kept(_));
        if is_done {
            self.shipped.note(message, position);
        }
        is_done
    }

    fn job(&self, object: &ObjectRef, admitted: &Admitted<'_, AllowedBucket>, via: Via) -> LogFileJob {
        let minute = admitted.parsed.minute.map(cloudtrail::Timestamp::to_rfc3339_millis);
        let file = self.log_file(&object.bucket, &admitted.key, minute, via);
        let version = Version { version_id: object.version_id.clone(), ..Version::default() };
        let rule = &admitted.bucket.rule;
        // A message's region only picks among AWS's own.
        let said = object.region.as_deref().filter(|region| is_region(region));
        let fetch = Arc::new(S3Object {
            client: admitted.bucket.aws.s3(rule.region.as_deref().or(said)),
            bucket: object.bucket.clone(),
            key: admitted.key.clone(),
            key_alternative: admitted.alternative.clone(),
            expected_owner: rule.owner.clone(),
        });
        let fetch = self.pauses.guard(&self.name, &object.bucket, &admitted.key, fetch);
        LogFileJob::new(&self.plan, fetch, file, version, self.meter.clone())
            .with_reads(self.config.read_attempts)
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
}
