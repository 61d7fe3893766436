//! What of a message has ended well: so that it is shipped once, however often the message comes.
//!
//! A message stays on its queue where a part of it is refused or not understood, or where its deletion failed. The
//! memory is bounded and does not outlive the process; what is forgotten is shipped again.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Parts that are remembered over all messages; about 3 MB where each is a message of its own.
const PARTS_MAX: usize = 20_000;

/// Parts of messages that have ended. Cheap for messages of which nothing is left: those are forgotten.
#[derive(Debug)]
pub struct Shipped {
    parts_max: usize,
    memory: Mutex<Memory>,
}

#[derive(Debug, Default)]
struct Memory {
    /// By the message's id: positions in it.
    parts: HashMap<String, BTreeSet<usize>>,
    count: usize,
    /// The oldest first; messages that were forgotten meanwhile may stand in it.
    order: VecDeque<String>,
}

impl Default for Shipped {
    fn default() -> Self {
        Self::new(PARTS_MAX)
    }
}

impl Shipped {
    /// Remembers so many parts.
    #[must_use]
    pub fn new(parts_max: usize) -> Self {
        Self { parts_max, memory: Mutex::default() }
    }

    /// Whether this part of the message has ended well.
    #[must_use]
    pub fn has(&self, message: &str, part: usize) -> bool {
        self.lock().parts.get(message).is_some_and(|parts| parts.contains(&part))
    }

    /// Remembers that a part has ended well. A message without an id is not told from others.
    pub fn note(&self, message: &str, part: usize) {
        if message.is_empty() {
            return;
        }
        let mut memory = self.lock();
        if !memory.parts.contains_key(message) {
            memory.order.push_back(message.to_owned());
        }
        if memory.parts.entry(message.to_owned()).or_default().insert(part) {
            memory.count += 1;
        }
        while memory.count > self.parts_max {
            let Some(oldest) = memory.order.pop_front() else { break };
            memory.remove(&oldest);
        }
    }

    /// Forgets a message that will not come again.
    pub fn forget(&self, message: &str) {
        let mut memory = self.lock();
        memory.remove(message);
        if memory.order.len() > 64 + 2 * memory.parts.len() {
            let Memory { parts, order, .. } = &mut *memory;
            order.retain(|message| parts.contains_key(message));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory {
    fn remove(&mut self, message: &str) {
        let parts = self.parts.remove(message);
        self.count = self.count.saturating_sub(parts.map_or(0, |parts| parts.len()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_remembered_until_its_message_is_gone() {
        let shipped = Shipped::default();
        shipped.note("m", 1);
        assert!(shipped.has("m", 1) && !shipped.has("m", 0) && !shipped.has("n", 1));
        shipped.forget("m");
        assert!(!shipped.has("m", 1));
        shipped.note("", 0);
        assert!(!shipped.has("", 0), "nobody knows which message that was");
    }

    #[test]
    fn the_oldest_messages_are_forgotten_first_and_memory_is_bounded() {
        let shipped = Shipped::new(100);
        for number in 0..1000 {
            let message = format!("m{number}");
            shipped.note(&message, 0);
            shipped.note(&message, 1);
            if number % 2 == 0 {
                shipped.forget(&message);
            }
        }
        assert!(!shipped.has("m1", 0) && shipped.has("m999", 1));
        let memory = shipped.lock();
        assert_eq!((memory.count, memory.parts.len()), (100, 50));
        assert!(memory.order.len() <= 64 + 2 * 51, "{}", memory.order.len());
    }
}
