//! One queue: which messages are visible, in flight and delayed, and which handle of each is the newest.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use super::{
    Handed, Handle, MESSAGE_BYTES_MAX, Message, QueueBehaviour, QueueCounts, SqsError, VISIBILITY_MAX_MS,
    record,
};
use crate::aws::clock::Millis;
use crate::aws::log::{Operation, What};
use crate::random::Rng;

/// A shuffled queue draws from this many of its oldest messages, so that none waits for ever.
const SHUFFLE_WINDOW: usize = 1_000;

/// The attributes that have a meaning here, and the others as they were set.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) visibility_ms: Millis,
    pub(crate) retention_ms: Millis,
    pub(crate) delay_ms: Millis,
    pub(crate) wait_ms: Millis,
    pub(crate) message_bytes_max: usize,
    pub(crate) redrive: Option<Redrive>,
    pub(crate) others: BTreeMap<String, String>,
}

/// Where a message goes that was received too often.
#[derive(Debug, Clone)]
pub(crate) struct Redrive {
    pub(crate) queue: String,
    pub(crate) receives_max: u32,
}

impl Default for Settings {
    /// AWS's defaults.
    /// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SetQueueAttributes.html>
    fn default() -> Self {
        Self {
            visibility_ms: 30_000,
            retention_ms: 4 * 86_400_000,
            delay_ms: 0,
            wait_ms: 0,
            message_bytes_max: MESSAGE_BYTES_MAX,
            redrive: None,
            others: BTreeMap::new(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Visible,
    InFlight,
    Delayed,
}

/// One copy of a message on a queue.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(super) message: Arc<Message>,
    pub(super) copy: u32,
    state: State,
    visible_ms: Millis,
    generation: u64,
    receive_count: u32,
    first_received_ms: Option<Millis>,
    received_ms: Millis,
    /// Who received it last: the access key of the request.
    reader: String,
}

/// A standard queue.
pub(crate) struct Queue {
    name: String,
    pub(crate) arn: String,
    pub(crate) created_ms: Millis,
    pub(crate) settings: Settings,
    pub(crate) behaviour: QueueBehaviour,
    messages: HashMap<u64, Stored>,
    /// Keys of visible messages; keys of messages that are gone are skipped when they come up.
    ready: VecDeque<u64>,
    /// Messages in flight and delayed, by the time at which they become visible.
    hidden: BTreeSet<(Millis, u64)>,
    in_flight: usize,
}

impl Queue {
    pub(super) fn new(name: &str, arn: String, created_ms: Millis) -> Self {
        Self {
            name: name.to_owned(),
            arn,
            created_ms,
            settings: Settings::default(),
            behaviour: QueueBehaviour::default(),
            messages: HashMap::new(),
            ready: VecDeque::new(),
            hidden: BTreeSet::new(),
            in_flight: 0,
        }
    }

    pub(super) fn put(&mut self, key: u64, message: Arc<Message>, delay_ms: Option<Millis>, now: Millis) {
        let visible_ms = now + delay_ms.unwrap_or(self.settings.delay_ms);
        let stored = Stored {
            message,
            copy: 0,
            state: State::Visible,
            visible_ms,
            generation: 0,
            receive_count: 0,
            first_received_ms: None,
            received_ms: 0,
            reader: String::new(),
        };
        self.insert(key, stored, if visible_ms > now { State::Delayed } else { State::Visible });
    }

    /// Takes in a message that another queue gave up on. It keeps its id, its age and its receive count.
    pub(super) fn bury(&mut self, key: u64, stored: Stored) {
        self.insert(key, Stored { generation: 0, ..stored }, State::Visible);
    }

    fn insert(&mut self, key: u64, mut stored: Stored, state: State) {
        stored.state = state;
        if state == State::Visible {
            self.ready.push_back(key);
        } else {
            self.hidden.insert((stored.visible_ms, key));
        }
        self.messages.insert(key, stored);
    }

    /// Makes visible what is due.
    pub(super) fn promote(&mut self, now: Millis) {
        while let Some(&(due, key)) = self.hidden.first() {
            if due > now {
                break;
            }
            self.hidden.pop_first();
            if let Some(stored) = self.messages.get_mut(&key) {
                self.in_flight -= usize::from(stored.state == State::InFlight);
                stored.state = State::Visible;
                self.ready.push_back(key);
            }
        }
    }

    /// When the next hidden message becomes visible.
    pub(crate) fn next_due(&self) -> Option<Millis> {
        self.hidden.first().map(|(due, _)| *due)
    }

    /// Whether as many messages are in flight as a queue may have.
    pub(crate) fn is_full(&self) -> bool {
        self.in_flight >= self.behaviour.in_flight_max
    }

    /// Takes the key of a visible message off the ready list.
    pub(super) fn pick(&mut self, rng: &mut Rng) -> Option<u64> {
        loop {
            let key = if self.behaviour.shuffle {
                let at = rng.below(self.ready.len().min(SHUFFLE_WINDOW));
                self.ready.swap_remove_front(at)?
            } else {
                self.ready.pop_front()?
            };
            if self.messages.contains_key(&key) {
                return Some(key);
            }
        }
    }

    /// Whether the next receive would be one too many.
    pub(super) fn is_exhausted(&self, key: u64) -> bool {
        let Some(redrive) = &self.settings.redrive else { return false };
        self.messages.get(&key).is_some_and(|stored| stored.receive_count >= redrive.receives_max)
    }

    pub(crate) fn dead_letter_queue(&self) -> Option<String> {
        self.settings.redrive.as_ref().map(|redrive| redrive.queue.clone())
    }

    /// Whether a copy is to be made of a message that is about to be handed out for the first time, and its time.
    pub(super) fn plan_duplicate(&self, key: u64, now: Millis, rng: &mut Rng) -> Option<Millis> {
        let stored = self.messages.get(&key)?;
        let first = stored.copy == 0 && stored.receive_count == 0;
        let wanted = first && self.behaviour.duplicates > 0.0 && rng.chance(self.behaviour.duplicates);
        let delay_ms = usize::try_from(self.behaviour.duplicate_delay_ms).unwrap_or(usize::MAX);
        wanted.then(|| now + rng.below(delay_ms.saturating_add(1)) as Millis)
    }

    pub(super) fn duplicate(
        &mut self,
        of: u64,
        key: u64,
        visible_ms: Millis,
        now: Millis,
        log: &mut Vec<Operation>,
    ) {
        let Some(original) = self.messages.get(&of) else { return };
        let message = Arc::clone(&original.message);
        record(log, now, &self.name, &message.id, (1, 0), What::Duplicated);
        let copy = Stored {
            message,
            copy: 1,
            generation: 0,
            visible_ms,
            state: State::Delayed,
            receive_count: original.receive_count,
            first_received_ms: original.first_received_ms,
            received_ms: 0,
            reader: String::new(),
        };
        self.insert(key, copy, State::Delayed);
    }

    /// Hands out a message that [`pick`](Self::pick) took.
    pub(super) fn hand_out(
        &mut self,
        key: u64,
        visibility_ms: Millis,
        now: Millis,
        log: &mut Vec<Operation>,
    ) -> Option<Handed> {
        let stored = self.messages.get_mut(&key)?;
        stored.generation += 1;
        stored.receive_count += 1;
        stored.received_ms = now;
        stored.visible_ms = now + visibility_ms;
        stored.state = State::InFlight;
        let first_received_ms = *stored.first_received_ms.get_or_insert(now);
        let handle = Handle {
            key,
            generation: stored.generation,
            copy: stored.copy,
            message_id: stored.message.id.clone(),
        };
        self.in_flight += 1;
        self.hidden.insert((stored.visible_ms, key));
        let what = What::Received { visible_ms: stored.visible_ms };
        record(log, now, &self.name, &stored.message.id, (stored.copy, stored.generation), what);
        Some(Handed {
            message: Arc::clone(&stored.message),
            handle: handle.encode(&self.name),
            receive_count: stored.receive_count,
            first_received_ms,
        })
    }

    /// The number of the newest handle, where the message is still there.
    pub(super) fn generation(&self, key: u64) -> Option<u64> {
        self.messages.get(&key).map(|stored| stored.generation)
    }

    pub(super) fn change_visibility(
        &mut self,
        handle: &Handle,
        text: &str,
        timeout_ms: Millis,
        now: Millis,
    ) -> Result<Millis, SqsError> {
        let stored = self
            .messages
            .get_mut(&handle.key)
            .filter(|stored| stored.generation == handle.generation)
            .ok_or_else(|| SqsError::not_available(text))?;
        if stored.state != State::InFlight {
            let code = "AWS.SimpleQueueService.MessageNotInflight";
            return Err(SqsError::new("MessageNotInflight", code, "The specified message isn't in flight."));
        }
        let visible_ms = now + timeout_ms;
        if visible_ms > stored.received_ms + VISIBILITY_MAX_MS {
            return Err(SqsError::invalid(format!(
                "Value {} for parameter VisibilityTimeout is invalid. Reason: Total VisibilityTimeout for the \
                 message is beyond the limit [43200 seconds].",
                timeout_ms / 1000
            )));
        }
        self.hidden.remove(&(stored.visible_ms, handle.key));
        stored.visible_ms = visible_ms;
        self.hidden.insert((visible_ms, handle.key));
        self.promote(now);
        Ok(visible_ms)
    }

    /// Notes who received a message last.
    pub(super) fn note_reader(&mut self, key: u64, reader: &str) {
        if let Some(stored) = self.messages.get_mut(&key) {
            reader.clone_into(&mut stored.reader);
        }
    }

    /// Makes visible what one reader holds, as when the time of its leases is over.
    pub(super) fn lapse(&mut self, reader: &str, now: Millis, log: &mut Vec<Operation>) -> Vec<Arc<Message>> {
        self.promote(now);
        let held = |stored: &Stored| stored.state == State::InFlight && stored.reader == reader;
        let mut keys: Vec<u64> =
            self.messages.iter().filter(|(_, stored)| held(stored)).map(|(key, _)| *key).collect();
        keys.sort_unstable();
        let mut lapsed = Vec::new();
        for key in keys {
            let Some(stored) = self.messages.get_mut(&key) else { continue };
            self.hidden.remove(&(stored.visible_ms, key));
            (stored.state, stored.visible_ms) = (State::Visible, now);
            self.in_flight -= 1;
            self.ready.push_back(key);
            let handle = (stored.copy, stored.generation);
            record(log, now, &self.name, &stored.message.id, handle, What::Lapsed { visible_ms: now });
            lapsed.push(Arc::clone(&stored.message));
        }
        lapsed
    }

    /// Takes a message off the queue.
    pub(super) fn take(&mut self, key: u64) -> Option<Stored> {
        let stored = self.messages.remove(&key)?;
        self.in_flight -= usize::from(stored.state == State::InFlight);
        self.hidden.remove(&(stored.visible_ms, key));
        Some(stored)
    }

    /// Drops a message that is older than the retention period.
    pub(super) fn expire(&mut self, key: u64, now: Millis, log: &mut Vec<Operation>) -> bool {
        let retention_ms = self.settings.retention_ms;
        let old = |stored: &Stored| now.saturating_sub(stored.message.sent_ms) > retention_ms;
        if !self.messages.get(&key).is_some_and(old) {
            return false;
        }
        if let Some(stored) = self.take(key) {
            record(log, now, &self.name, &stored.message.id, (stored.copy, 0), What::Expired);
        }
        true
    }

    pub(super) fn expire_all(&mut self, now: Millis, log: &mut Vec<Operation>) {
        let keys: Vec<u64> = self.messages.keys().copied().collect();
        for key in keys {
            self.expire(key, now, log);
        }
    }

    pub(super) fn clear(&mut self) -> Vec<(Arc<Message>, u32)> {
        self.ready.clear();
        self.hidden.clear();
        self.in_flight = 0;
        let mut all: Vec<_> = self.messages.drain().collect();
        all.sort_unstable_by_key(|(key, _)| *key);
        all.into_iter().map(|(_, stored)| (stored.message, stored.copy)).collect()
    }

    pub(super) fn counts(&self) -> QueueCounts {
        let delayed = self.messages.values().filter(|stored| stored.state == State::Delayed).count();
        QueueCounts {
            visible: self.messages.len() - self.in_flight - delayed,
            in_flight: self.in_flight,
            delayed,
        }
    }

    /// The ids of all messages that are there.
    pub(super) fn ids(&self) -> HashSet<&str> {
        self.messages.values().map(|stored| stored.message.id.as_str()).collect()
    }

    /// Age of the oldest message that is there, which AWS publishes as a metric only.
    pub(crate) fn oldest_age_ms(&self, now: Millis) -> Option<Millis> {
        self.messages.values().map(|stored| now.saturating_sub(stored.message.sent_ms)).max()
    }

    /// The bodies of all messages that are there, oldest first.
    pub(crate) fn bodies(&self) -> Vec<String> {
        let mut all: Vec<_> = self.messages.iter().collect();
        all.sort_by_key(|(key, _)| **key);
        all.into_iter().map(|(_, stored)| stored.message.body.clone()).collect()
    }
}
