//! Hand-offs as they come from a queue: delivered where the sink accepts, sent on where it does not.

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use cloudtrail::{Content, Handoff, ObjectRef};
use sinks::{RangeSet, Via};

use super::SqsSource;
use super::message::{MessageEnd, Parts, Received};
use crate::config::Filter;
use crate::sources::admit::{Admission, admit};
use crate::worker::Bundle;

/// For how long hand-offs are put back that can neither be delivered nor sent on.
const PUT_BACK_TIME: Duration = Duration::from_secs(900);

/// The same where too many are being sent on.
const CROWDED_TIME: Duration = Duration::from_secs(60);

/// How long a message that is held counts as owed.
const HELD_TIME: Duration = Duration::from_secs(13 * 3600);

impl SqsSource {
    /// What sinks are still owed of log files, as an agent noted it. A sink that is shut gets a few to probe with;
    /// nothing else is fetched for it.
    pub(super) async fn ship_handoffs(&self, handoffs: Vec<Handoff>, message: Received<'_>) -> MessageEnd {
        let mut parts = Parts::default();
        let mut wanted = BTreeMap::new();
        for (position, handoff) in handoffs.into_iter().enumerate() {
            let Some(lane) = self.plan.lanes.position(&handoff.sink) else {
                tracing::warn!(
                    code = "handoff_sink_unknown",
                    source = self.name,
                    sink = handoff.sink,
                    "a hand-off for a sink that this agent does not have goes back to the queue"
                );
                parts.has_unknown = true;
                parts.parked.push((position, handoff));
                continue;
            };
            let object = ObjectRef {
                bucket: handoff.bucket.clone(),
                key: handoff.key.clone(),
                version_id: handoff.version_id.clone(),
                ..ObjectRef::default()
            };
            match admit(&object, &self.buckets, &Filter::default()) {
                Admission::Fetch(admitted) => {
                    let more = wanted.entry(lane).or_insert_with(|| self.plan.lanes.wanted_by(lane));
                    if *more == 0 {
                        parts.parked.push((position, handoff));
                        continue;
                    }
                    *more -= 1;
                    let job = || {
                        let owed = RangeSet::from_ranges(handoff.ranges.iter().cloned());
                        let parting = self.parting(&admitted, Some(&handoff));
                        let job = self.job(&object, &admitted, Via::Handoff);
                        job.pinned(&handoff.etag).owing(lane, &owed).parting(parting)
                    };
                    self.add(&mut parts, &message, position, Some(lane), job);
                }
                Admission::Ignore(why) => self.meter.ignored(&object, why),
                Admission::Refuse => {
                    parts.refused = true;
                    self.meter.refused(&object);
                }
            }
        }
        self.run_all(parts, message).await
    }

    /// Sends hand-offs on as another message, later and more together.
    ///
    /// # Errors
    /// Where that is not possible: for how long they are better put back.
    pub(super) async fn send_on(
        &self,
        parked: Vec<(usize, Handoff)>,
        message: &Received<'_>,
    ) -> Result<(), Duration> {
        let (positions, list): (Vec<usize>, Vec<Handoff>) =
            parked.into_iter().filter(|(position, _)| !self.shipped.has(message.id, *position)).unzip();
        if list.is_empty() {
            return Ok(());
        }
        let Some(_room) = self.bundles.room(message.bytes) else { return Err(CROWDED_TIME) };
        let later = |handoff: Handoff| Handoff { attempts: handoff.attempts.saturating_add(1), ..handoff };
        let sent = self.bundles.send_on(list.into_iter().map(later).collect()).await;
        sent.map_err(|_| PUT_BACK_TIME)?;
        positions.into_iter().for_each(|position| self.shipped.note(message.id, position));
        Ok(())
    }

    /// Counts a message of hand-offs as owed; the lanes that it is for.
    pub(super) fn note_handoffs(&self, message: &str, content: &Content) -> Vec<usize> {
        let Content::Handoff(handoffs) = content else { return Vec::new() };
        let mut lanes: BTreeMap<usize, Bundle> = BTreeMap::new();
        let until = self.plan.clock.monotonic() + HELD_TIME;
        for handoff in handoffs {
            let Some(lane) = self.plan.lanes.position(&handoff.sink) else { continue };
            let millis = u64::try_from(handoff.first_seen.millis()).unwrap_or(0);
            let first_seen = UNIX_EPOCH + Duration::from_millis(millis);
            let bundle = lanes.entry(lane).or_insert(Bundle { log_files: 0, first_seen, until });
            bundle.log_files += 1;
            bundle.first_seen = bundle.first_seen.min(first_seen);
        }
        for (lane, bundle) in &lanes {
            self.plan.owed.handed_off(*lane, message, *bundle);
        }
        lanes.into_keys().collect()
    }

    /// A message of hand-offs is gone.
    pub(super) fn handoffs_taken(&self, message: &str, lanes: &[usize]) {
        for lane in lanes {
            if self.plan.owed.taken(*lane, message)
                && let Some(lane) = self.plan.lanes.all().get(*lane)
                && !lane.health().state().is_shut()
            {
                tracing::info!(
                    code = "handoff_finished",
                    source = self.name,
                    sink = lane.config().name,
                    "the sink has everything that this agent knows to have been handed off"
                );
            }
        }
    }
}
