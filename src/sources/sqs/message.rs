//! One message: what it stands for, and how that ends.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use cloudtrail::{Content, Handoff, InlineEvents, Notification, ObjectRef, Timestamp};
use sinks::{LogFile, Via};
use tokio::sync::OwnedSemaphorePermit;

use super::SqsSource;
use crate::ledger::Turn;
use crate::sources::Stop;
use crate::sources::admit::{Admission, Admitted, AllowedBucket, admit, is_region};
use crate::sources::leases::Lease;
use crate::worker::fetch::{Inline, S3Object, Version};
use crate::worker::{JobEnd, LogFileJob, Parting};

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
    /// What is not done of it is handed off: deleted.
    HandedOff,
    /// It holds hand-offs for sinks that are not known here, and was sent on as another message: deleted.
    SentOn,
    /// Not done: left to come again.
    Kept,
    /// Not done: put back for a time.
    Later(Duration),
}

impl MessageEnd {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Nothing => "nothing",
            Self::HandedOff => "handed_off",
            Self::Unknown => "unknown",
            Self::Refused => "refused",
            Self::SentOn | Self::Kept | Self::Later(_) => "kept",
        }
    }
}

/// A received message.
pub(super) struct Received<'a> {
    pub(super) id: &'a str,
    /// How long it is.
    pub(super) bytes: usize,
    pub(super) lease: &'a Lease,
    /// For the first log file in it.
    pub(super) slot: Option<OwnedSemaphorePermit>,
    /// Nothing new begins after this.
    pub(super) stop: &'a Stop,
    /// What has not ended then parts with what it has.
    pub(super) finished: &'a Stop,
}

impl Received<'_> {
    /// Waits until the message can be held no longer.
    async fn leaving(&self) {
        tokio::select! {
            biased;
            () = self.finished.asked() => {}
            () = self.lease.ending() => {}
        }
    }

    fn is_leaving(&self) -> bool {
        self.stop.is_asked() || self.lease.is_ending()
    }
}

/// One log file of a message.
pub(super) struct Part {
    /// Its position in the message.
    position: usize,
    job: LogFileJob,
    /// The only lane that is owed something, where it is a hand-off.
    lane: Option<usize>,
    end: OnceLock<JobEnd>,
    parted: AtomicBool,
}

impl Part {
    fn is_done(&self) -> bool {
        self.parted.load(Ordering::Relaxed) || !matches!(self.end.get(), None | Some(JobEnd::Kept(_)))
    }
}

/// The log files that a message stands for.
#[derive(Default)]
pub(super) struct Parts {
    pub(super) jobs: Vec<Part>,
    /// Hand-offs that are of no use now, with their positions.
    pub(super) parked: Vec<(usize, Handoff)>,
    /// Whether some of these are for sinks that are not known here.
    pub(super) has_unknown: bool,
    /// Whether some were shipped when the message came before.
    pub(super) before: bool,
    pub(super) refused: bool,
}

impl SqsSource {
    pub(super) async fn ship(&self, message: Received<'_>, notification: Notification) -> MessageEnd {
        self.meter.removed(&notification.removed);
        if let Some(why) = notification.unreadable {
            self.leave(&message, why);
        }
        let end = match notification.content {
            Content::Objects(objects) => self.ship_objects(objects, message).await,
            Content::Events(_) if !self.config.inline_events => self.refuse_inline(&message),
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
                    let job =
                        || self.job(object, &admitted, Via::Queue).parting(self.parting(&admitted, None));
                    self.add(&mut parts, &message, position, None, job);
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

    /// Whoever may send to the queue can write such a message, and no bucket bears witness to what it says.
    fn refuse_inline(&self, message: &Received<'_>) -> MessageEnd {
        message.lease.stay();
        tracing::error!(
            code = "inline_not_allowed",
            source = self.name,
            message = message.id,
            "a message holds events, and `inline_events` is false: forged, or to be allowed; it stays on the queue"
        );
        MessageEnd::Refused
    }

    async fn ship_inline(&self, inline: InlineEvents, message: Received<'_>) -> MessageEnd {
        let mut parts = Parts::default();
        let key = format!("eventbridge/{}", inline.id);
        self.add(&mut parts, &message, 0, None, || {
            let file = self.log_file("", &key, None, Via::Inline);
            let fetch = Arc::new(Inline { document: inline.document });
            LogFileJob::new(&self.plan, fetch, file, Version::default(), self.meter.clone())
        });
        self.run_all(parts, message).await
    }

    /// Adds a log file, unless it was shipped when the message came before.
    pub(super) fn add(
        &self,
        parts: &mut Parts,
        message: &Received<'_>,
        position: usize,
        lane: Option<usize>,
        job: impl FnOnce() -> LogFileJob,
    ) {
        if self.shipped.has(message.id, position) {
            parts.before = true;
        } else {
            let (end, parted) = (OnceLock::new(), AtomicBool::new(false));
            parts.jobs.push(Part { position, job: job(), lane, end, parted });
        }
    }

    /// How what is owed of a log file can be handed off, and was before.
    pub(super) fn parting(
        &self,
        admitted: &Admitted<'_, AllowedBucket>,
        before: Option<&Handoff>,
    ) -> Parting {
        let now = Timestamp::from_millis(crate::meter::millis(self.plan.clock.now()));
        Parting {
            queue: self.bundles.clone(),
            first_seen: before.map_or(now, |before| before.first_seen),
            attempts: before.map_or(0, |before| before.attempts.saturating_add(1)),
            key_is_sure: admitted.alternative.is_none(),
        }
    }

    /// Runs the jobs of one message, the first in the message's slot, until all are done or the message can be held no
    /// longer. Then, of a message that some sink has something of, what is not done is handed off.
    pub(super) async fn run_all(&self, mut parts: Parts, mut message: Received<'_>) -> MessageEnd {
        if parts.refused {
            message.lease.stay();
        }
        let nothing = parts.jobs.is_empty() && parts.parked.is_empty() && !parts.before;
        let parked = std::mem::take(&mut parts.parked);
        let (has_parked, only_parked) = (!parked.is_empty(), parts.jobs.is_empty());
        // What is not read needs no slot, and must not keep one from others.
        let mut slot = message.slot.take();
        let message = &message;
        let runs: Vec<_> = parts.jobs.iter().map(|part| self.run_job(message, part, slot.take())).collect();
        drop(slot);
        let run = async {
            tokio::select! {
                biased;
                _ = futures_util::future::join_all(runs) => {}
                () = message.leaving() => {}
            }
            if message.is_leaving() && !parts.refused {
                self.part(&parts, message).await;
            }
        };
        let (sent_on, ()) = tokio::join!(self.send_on(parked, message), run);
        parts.jobs.iter().for_each(|part| self.note(part, message));
        if parts.refused {
            return MessageEnd::Refused;
        }
        match sent_on {
            Err(delay) if only_parked => return MessageEnd::Later(delay),
            Err(_) => return MessageEnd::Kept,
            Ok(()) => {}
        }
        let handed_off =
            |part: &Part| part.parted.load(Ordering::Relaxed) || part.end.get() == Some(&JobEnd::HandedOff);
        match (parts.jobs.iter().all(Part::is_done), nothing) {
            (false, _) => MessageEnd::Kept,
            (true, true) => MessageEnd::Nothing,
            (true, false) if parts.has_unknown => MessageEnd::SentOn,
            (true, false) if has_parked || parts.jobs.iter().any(handed_off) => MessageEnd::HandedOff,
            (true, false) => MessageEnd::Done,
        }
    }

    /// Hands off what is not done, if some sink has something of the message: it would get that twice.
    async fn part(&self, parts: &Parts, message: &Received<'_>) {
        let touched = |part: &Part| part.is_done() || part.job.is_touched();
        if !parts.before && !parts.jobs.iter().any(touched) {
            return;
        }
        let left = parts.jobs.iter().filter(|part| !part.is_done());
        let parting = left.map(|part| async {
            if part.job.part().await {
                part.parted.store(true, Ordering::Relaxed);
            }
        });
        tokio::select! {
            biased;
            _ = futures_util::future::join_all(parting) => {}
            () = message.lease.lost() => {}
        }
    }

    /// Runs one job to its end, unless it cannot begin any more.
    async fn run_job(&self, message: &Received<'_>, part: &Part, mut slot: Option<OwnedSemaphorePermit>) {
        let Some(turn) = self.take_turn(message, &part.job, &mut slot).await else { return };
        let slot = match slot {
            Some(slot) => Some(slot),
            None => tokio::select! {
                biased;
                () = message.stop.asked() => return,
                slot = Arc::clone(&self.slots).acquire_owned() => slot.ok(),
            },
        };
        // It may have shut while this waited for its turn.
        if part.lane.is_some_and(|lane| self.plan.lanes.wanted_by(lane) == 0) && part.job.part().await {
            part.parted.store(true, Ordering::Relaxed);
            return;
        }
        let _ = part.end.set(part.job.ship(slot, turn).await);
    }

    /// Waits while another message delivers the same log file, without a slot; `None` where it cannot begin any more.
    async fn take_turn(
        &self,
        message: &Received<'_>,
        job: &LogFileJob,
        slot: &mut Option<OwnedSemaphorePermit>,
    ) -> Option<Option<Turn>> {
        let Some(name) = job.turn_name() else { return Some(None) };
        let turns = &self.plan.deliveries.turns;
        if let Some(turn) = turns.try_take(&name) {
            return Some(Some(turn));
        }
        drop(slot.take());
        tokio::select! {
            biased;
            () = message.stop.asked() => None,
            turn = turns.take(&name) => Some(Some(turn)),
        }
    }

    /// Counts how a log file ended, and remembers what is done.
    fn note(&self, part: &Part, message: &Received<'_>) {
        let end = match part.parted.load(Ordering::Relaxed) {
            true => Some(&JobEnd::HandedOff),
            false => part.end.get(),
        };
        if let Some(end) = end {
            self.meter.log_file(&part.job.name(), end);
        }
        if part.is_done() {
            self.shipped.note(message.id, part.position);
        }
    }

    pub(super) fn job(
        &self,
        object: &ObjectRef,
        admitted: &Admitted<'_, AllowedBucket>,
        via: Via,
    ) -> LogFileJob {
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
