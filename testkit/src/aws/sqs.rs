//! SQS standard queues as AWS runs them, the parts included that public stand-ins get wrong.

mod attributes;
mod queue;
pub(super) mod wire;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::clock::Millis;
use super::log::{MessageHistory, Operation, What, histories};
use super::{Names, hex, md5};
use crate::random::Rng;
pub(crate) use queue::{Queue, Redrive, Settings};

/// A message is invisible for at most this long after the receive that its handle belongs to.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-visibility-timeout.html>
const VISIBILITY_MAX_MS: Millis = 12 * 3600 * 1000;
/// Largest message, and largest sum of a batch. The service's own default is the maximum.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html>
const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// How far a queue is from a plain first-in, first-out list.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QueueBehaviour {
    /// Hand messages out in a random order.
    pub shuffle: bool,
    /// Chance (0 to 1) that a message is delivered twice.
    pub duplicates: f64,
    /// The second delivery of a duplicate becomes possible within this time after the first.
    pub duplicate_delay_ms: Millis,
    /// Hand out a random number of messages, at most as many as were asked for.
    pub partial_batches: bool,
    /// Messages in flight at which receiving stops (`OverLimit`).
    /// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-queues.html>
    pub in_flight_max: usize,
}

impl Default for QueueBehaviour {
    fn default() -> Self {
        Self {
            shuffle: false,
            duplicates: 0.0,
            duplicate_delay_ms: 2_000,
            partial_batches: false,
            in_flight_max: 120_000,
        }
    }
}

/// How many messages a queue holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct QueueCounts {
    /// Can be received now.
    pub visible: usize,
    /// Received, and neither deleted nor visible again.
    pub in_flight: usize,
    /// Sent with a delay that has not passed, duplicates that will still come included.
    pub delayed: usize,
}

impl QueueCounts {
    /// Whether the queue holds nothing at all.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.visible + self.in_flight + self.delayed == 0
    }
}

/// A refusal, with the names that the two generations of SQS clients look for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SqsError {
    pub(crate) status: u16,
    /// Name of the shape in `__type`.
    pub(crate) shape: &'static str,
    /// Code in `x-amzn-query-error`.
    pub(crate) code: &'static str,
    pub(crate) message: String,
}

impl SqsError {
    pub(crate) fn new(shape: &'static str, code: &'static str, message: impl Into<String>) -> Self {
        Self { status: 400, shape, code, message: message.into() }
    }

    pub(crate) fn no_queue() -> Self {
        let message = "The specified queue does not exist.";
        Self::new("QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue", message)
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new("InvalidParameterValue", "InvalidParameterValue", message)
    }

    fn bad_handle(handle: &str) -> Self {
        let message = format!("The input receipt handle \"{handle}\" is not a valid receipt handle.");
        Self::new("ReceiptHandleIsInvalid", "ReceiptHandleIsInvalid", message)
    }

    fn not_available(handle: &str) -> Self {
        Self::invalid(format!(
            "Value {handle} for parameter ReceiptHandle is invalid. Reason: Message does not exist or is not \
             available for visibility timeout change."
        ))
    }
}

/// A message as it was sent. Copies and dead letters share it.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) id: String,
    pub(crate) body: String,
    pub(crate) body_md5: String,
    pub(crate) attributes: Option<Value>,
    pub(crate) sent_ms: Millis,
    pub(crate) objects: Vec<(String, String)>,
}

/// What to send.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    pub(crate) body: String,
    pub(crate) delay_ms: Option<Millis>,
    pub(crate) attributes: Option<Value>,
    pub(crate) objects: Vec<(String, String)>,
}

/// One message as it is handed out.
#[derive(Debug, Clone)]
pub(crate) struct Handed {
    pub(crate) message: Arc<Message>,
    pub(crate) handle: String,
    pub(crate) receive_count: u32,
    pub(crate) first_received_ms: Millis,
}

/// All queues of the account.
pub(crate) struct Sqs {
    pub(crate) queues: BTreeMap<String, Queue>,
    /// Every message ever sent, for the histories.
    messages: HashMap<String, Arc<Message>>,
    pub(crate) log: Vec<Operation>,
    keys: u64,
    rng: Rng,
    names: Names,
}

impl Sqs {
    pub(crate) fn new(seed: u64, names: Names) -> Self {
        Self {
            queues: BTreeMap::new(),
            messages: HashMap::new(),
            log: Vec::new(),
            keys: 0,
            rng: Rng::stream(seed, 0x5150),
            names,
        }
    }

    /// Makes a queue, or leaves the one of that name as it is.
    pub(crate) fn create(&mut self, name: &str, now: Millis) -> &mut Queue {
        let arn = self.names.queue_arn(name);
        self.queues.entry(name.to_owned()).or_insert_with(|| Queue::new(name, arn, now))
    }

    pub(crate) fn queue(&mut self, name: &str) -> Result<&mut Queue, SqsError> {
        self.queues.get_mut(name).ok_or_else(SqsError::no_queue)
    }

    pub(crate) fn send(&mut self, name: &str, out: Outgoing, now: Millis) -> Result<Arc<Message>, SqsError> {
        if out.body.is_empty() {
            return Err(SqsError::new(
                "MissingParameter",
                "MissingParameter",
                "The request must contain the parameter MessageBody.",
            ));
        }
        let legal = |c: char| c >= ' ' && !matches!(c, '\u{fffe}' | '\u{ffff}') || "\t\n\r".contains(c);
        if !out.body.chars().all(legal) {
            let message = "Invalid characters found in the message body.";
            return Err(SqsError::new("InvalidMessageContents", "InvalidMessageContents", message));
        }
        let id = uuid(&mut self.rng);
        let key = self.next_key();
        let queue = self.queues.get_mut(name).ok_or_else(SqsError::no_queue)?;
        if out.body.len() > queue.settings.message_bytes_max {
            let limit = queue.settings.message_bytes_max;
            return Err(SqsError::invalid(format!(
                "One or more parameters are invalid. Reason: Message must be shorter than {limit} bytes."
            )));
        }
        let message = Arc::new(Message {
            id,
            body_md5: hex(&md5(out.body.as_bytes())),
            body: out.body,
            attributes: out.attributes,
            sent_ms: now,
            objects: out.objects,
        });
        queue.put(key, Arc::clone(&message), out.delay_ms, now);
        self.messages.insert(message.id.clone(), Arc::clone(&message));
        record(&mut self.log, now, name, &message.id, (0, 0), What::Sent);
        Ok(message)
    }

    /// Hands out up to `max` messages; none where there is nothing to hand out now.
    pub(crate) fn receive(
        &mut self,
        name: &str,
        max: usize,
        visibility_ms: Option<Millis>,
        now: Millis,
    ) -> Result<Vec<Handed>, SqsError> {
        let mut handed = Vec::new();
        let mut dead = Vec::new();
        let queue = self.queues.get_mut(name).ok_or_else(SqsError::no_queue)?;
        queue.promote(now);
        let partial = queue.behaviour.partial_batches;
        let max = if partial { 1 + self.rng.below(max) } else { max };
        let visibility_ms = visibility_ms.unwrap_or(queue.settings.visibility_ms);
        while handed.len() < max && !queue.is_full() {
            let Some(key) = queue.pick(&mut self.rng) else { break };
            if queue.expire(key, now, &mut self.log) {
                continue;
            }
            if queue.is_exhausted(key) {
                dead.extend(queue.take(key));
                continue;
            }
            let copy_at = queue.plan_duplicate(key, now, &mut self.rng);
            let Some(one) = queue.hand_out(key, visibility_ms, now, &mut self.log) else { continue };
            handed.push(one);
            if let Some(at) = copy_at {
                self.keys += 1;
                queue.duplicate(key, self.keys, at, now, &mut self.log);
            }
        }
        let target = queue.dead_letter_queue();
        for stored in dead {
            let Some(target) = target.as_deref() else { continue };
            let (id, copy) = (stored.message.id.clone(), stored.copy);
            let to = target.to_owned();
            record(&mut self.log, now, name, &id, (copy, 0), What::MovedToDeadLetters { to });
            self.keys += 1;
            if let Some(target) = self.queues.get_mut(target) {
                target.bury(self.keys, stored);
            }
        }
        Ok(handed)
    }

    /// Deletes by the newest handle only. An older one, or one of a message that is gone, is answered with success.
    /// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_DeleteMessage.html>
    pub(crate) fn delete(&mut self, name: &str, handle: &str, now: Millis) -> Result<(), SqsError> {
        let parsed = Handle::parse(handle, name).ok_or_else(|| SqsError::bad_handle(handle))?;
        let queue = self.queues.get_mut(name).ok_or_else(SqsError::no_queue)?;
        queue.promote(now);
        let what = match queue.generation(parsed.key) {
            None => What::DeletedAgain,
            Some(newest) if newest != parsed.generation => What::DeletedStale,
            Some(_) => {
                queue.take(parsed.key);
                What::Deleted
            }
        };
        record(&mut self.log, now, name, &parsed.message_id, (parsed.copy, parsed.generation), what);
        Ok(())
    }

    /// Changes how long a message stays invisible, counted from now; 0 gives it back.
    /// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ChangeMessageVisibility.html>
    pub(crate) fn change_visibility(
        &mut self,
        name: &str,
        handle: &str,
        timeout_ms: Millis,
        now: Millis,
    ) -> Result<(), SqsError> {
        let parsed = Handle::parse(handle, name).ok_or_else(|| SqsError::bad_handle(handle))?;
        let queue = self.queues.get_mut(name).ok_or_else(SqsError::no_queue)?;
        queue.promote(now);
        let result = queue.change_visibility(&parsed, handle, timeout_ms, now);
        let what = match &result {
            Ok(visible_ms) => What::Extended { visible_ms: *visible_ms },
            Err(_) => What::ExtendRefused,
        };
        record(&mut self.log, now, name, &parsed.message_id, (parsed.copy, parsed.generation), what);
        result.map(|_| ())
    }

    /// Notes who holds what was handed out.
    pub(crate) fn note_reader(&mut self, name: &str, handed: &[Handed], reader: &str) {
        let Some(queue) = self.queues.get_mut(name) else { return };
        let handles = handed.iter().filter_map(|one| Handle::parse(&one.handle, name));
        handles.for_each(|handle| queue.note_reader(handle.key, reader));
    }

    /// Ends the leases of one reader, and gives the objects that their messages were sent for.
    pub(crate) fn lapse(
        &mut self,
        name: &str,
        reader: &str,
        now: Millis,
    ) -> Result<Vec<(String, String)>, SqsError> {
        let queue = self.queues.get_mut(name).ok_or_else(SqsError::no_queue)?;
        let messages = queue.lapse(reader, now, &mut self.log);
        Ok(messages.iter().flat_map(|message| message.objects.iter().cloned()).collect())
    }

    pub(crate) fn purge(&mut self, name: &str, now: Millis) -> Result<(), SqsError> {
        let queue = self.queues.get_mut(name).ok_or_else(SqsError::no_queue)?;
        for (message, copy) in queue.clear() {
            record(&mut self.log, now, name, &message.id, (copy, 0), What::Purged);
        }
        Ok(())
    }

    /// Sends everything in a queue's dead-letter queue to it again, as new messages.
    pub(crate) fn redrive(&mut self, name: &str, now: Millis) -> Result<u64, SqsError> {
        let Some(target) = self.queue(name)?.dead_letter_queue() else { return Ok(0) };
        let taken = self.queue(&target)?.clear();
        let moved = taken.len() as u64;
        for (message, copy) in taken {
            record(&mut self.log, now, &target, &message.id, (copy, 0), What::Redriven);
            let out = Outgoing {
                body: message.body.clone(),
                delay_ms: Some(0),
                attributes: message.attributes.clone(),
                objects: message.objects.clone(),
            };
            self.send(name, out, now)?;
        }
        Ok(moved)
    }

    pub(crate) fn counts(&mut self, name: &str, now: Millis) -> Result<QueueCounts, SqsError> {
        let queue = self.queues.get_mut(name).ok_or_else(SqsError::no_queue)?;
        queue.promote(now);
        queue.expire_all(now, &mut self.log);
        Ok(queue.counts())
    }

    /// The life of every message of one queue, or of all.
    pub(crate) fn histories(&self, queue: Option<&str>) -> Vec<MessageHistory> {
        let operations = self.log.iter().filter(|o| queue.is_none_or(|name| o.queue == name));
        let held: HashMap<_, _> =
            self.queues.iter().map(|(name, queue)| (name.as_str(), queue.ids())).collect();
        histories(operations, |queue, id| {
            let gone = held.get(queue).is_none_or(|ids| !ids.contains(id));
            self.messages.get(id).map_or_else(
                || (String::new(), Vec::new(), gone),
                |message| (message.body.clone(), message.objects.clone(), gone),
            )
        })
    }

    fn next_key(&mut self) -> u64 {
        self.keys += 1;
        self.keys
    }
}

/// Notes what happened to one copy of a message.
fn record(log: &mut Vec<Operation>, at_ms: Millis, queue: &str, id: &str, handle: (u32, u64), what: What) {
    let (copy, generation) = handle;
    log.push(Operation { at_ms, queue: queue.to_owned(), message_id: id.to_owned(), copy, generation, what });
}

/// What a receipt handle says. Opaque to callers, as AWS's are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Handle {
    pub(crate) key: u64,
    pub(crate) generation: u64,
    pub(crate) copy: u32,
    pub(crate) message_id: String,
}

impl Handle {
    fn encode(&self, queue: &str) -> String {
        use base64::Engine;
        let Self { key, generation, copy, message_id } = self;
        let plain = format!("{key} {generation} {copy} {message_id} {queue}");
        base64::engine::general_purpose::STANDARD.encode(plain)
    }

    /// Nothing where it is not a handle of this queue.
    fn parse(handle: &str, queue: &str) -> Option<Self> {
        use base64::Engine;
        let plain = base64::engine::general_purpose::STANDARD.decode(handle).ok()?;
        let plain = String::from_utf8(plain).ok()?;
        let mut parts = plain.splitn(5, ' ');
        let mut part = || parts.next();
        let key = part()?.parse().ok()?;
        let generation = part()?.parse().ok()?;
        let copy = part()?.parse().ok()?;
        let message_id = part()?.to_owned();
        (part()? == queue).then_some(Self { key, generation, copy, message_id })
    }
}

/// A version 4 UUID.
pub(super) fn uuid(rng: &mut Rng) -> String {
    let (a, b) = (rng.bits(), rng.bits());
    format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        a >> 32,
        a >> 16 & 0xffff,
        a & 0xfff,
        b >> 48 & 0x3fff | 0x8000,
        b & 0xffff_ffff_ffff
    )
}

#[cfg(test)]
mod tests;
