//! A ledger in memory: bounded, the oldest log file first out, and gone with the process.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::{Delivered, DeliveryLedger, ObjectVersion, hash};

/// Sinks and generations of them that can be told apart. One that comes later is not remembered.
const MARKS_MAX: usize = 64;

/// A ledger in memory. A log file takes about 80 bytes in it, whatever its name.
pub struct MemoryLedger {
    log_files_max: usize,
    memory: Mutex<Memory>,
}

#[derive(Default)]
struct Memory {
    /// By the hashes of their names.
    files: HashMap<[u8; 16], Entry>,
    /// The oldest first; each log file stands in it once.
    order: VecDeque<[u8; 16]>,
    /// By their bits in [`Entry::marks`].
    marks: Vec<String>,
}

struct Entry {
    version: ObjectVersion,
    events: u64,
    marks: u64,
}

impl MemoryLedger {
    /// Remembers so many log files.
    #[must_use]
    pub fn new(log_files_max: usize) -> Self {
        Self { log_files_max, memory: Mutex::default() }
    }

    /// What is known of a log file.
    #[must_use]
    pub fn recall(&self, log_file: &str) -> Option<Delivered> {
        let memory = self.lock();
        let entry = memory.files.get(&hash(log_file.as_bytes()))?;
        let has = |bit: usize| entry.marks & (1 << bit) != 0;
        let marks = memory.marks.iter().enumerate().filter(|(bit, _)| has(*bit));
        let marks: BTreeSet<String> = marks.map(|(_, mark)| mark.clone()).collect();
        Some(Delivered { version: entry.version, events: entry.events, marks })
    }

    /// Remembers what has been delivered; of another version than before nothing is known any more.
    pub fn remember(&self, log_file: &str, delivered: &Delivered) {
        if self.log_files_max == 0 {
            return;
        }
        let key = hash(log_file.as_bytes());
        let mut memory = self.lock();
        let marks = delivered.marks.iter().fold(0, |bits, mark| bits | memory.bit_of(mark));
        let Delivered { version, events, .. } = *delivered;
        let Memory { files, order, .. } = &mut *memory;
        let entry = files.entry(key).or_insert_with(|| {
            order.push_back(key);
            Entry { version, events, marks: 0 }
        });
        if entry.version != version {
            *entry = Entry { version, events, marks: 0 };
        }
        entry.marks |= marks;
        while order.len() > self.log_files_max {
            let Some(oldest) = order.pop_front() else { break };
            files.remove(&oldest);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory {
    fn bit_of(&mut self, mark: &str) -> u64 {
        let known = self.marks.iter().position(|known| known == mark);
        let bit = known.unwrap_or_else(|| {
            if self.marks.len() < MARKS_MAX {
                self.marks.push(mark.to_owned());
                self.marks.len() - 1
            } else {
                MARKS_MAX
            }
        });
        u32::try_from(bit).ok().and_then(|bit| 1_u64.checked_shl(bit)).unwrap_or(0)
    }
}

#[async_trait]
impl DeliveryLedger for MemoryLedger {
    async fn look(&self, log_file: &str, _: &BTreeSet<String>) -> Option<Delivered> {
        self.recall(log_file)
    }

    async fn note(&self, log_file: &str, delivered: &Delivered) {
        self.remember(log_file, delivered);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn delivered(version: &str, marks: &[&str]) -> Delivered {
        let version = ObjectVersion::of_object(Some(version), None).unwrap();
        Delivered { version, events: 7, marks: marks.iter().map(|mark| (*mark).to_owned()).collect() }
    }

    #[test]
    fn what_several_sinks_have_is_remembered_together() {
        let ledger = MemoryLedger::new(10);
        ledger.remember("a", &delivered("1", &["x"]));
        ledger.remember("a", &delivered("1", &["y"]));
        assert_eq!(ledger.recall("a"), Some(delivered("1", &["x", "y"])));
        assert_eq!(ledger.recall("b"), None);
    }

    #[test]
    fn of_another_version_nothing_is_known_any_more() {
        let ledger = MemoryLedger::new(10);
        ledger.remember("a", &delivered("1", &["x"]));
        ledger.remember("a", &delivered("2", &["y"]));
        assert_eq!(ledger.recall("a"), Some(delivered("2", &["y"])));
    }

    #[test]
    fn the_oldest_log_files_are_forgotten_first_and_memory_is_bounded() {
        let ledger = MemoryLedger::new(100);
        for number in 0..1000 {
            ledger.remember(&format!("f{number}"), &delivered("1", &["x"]));
            ledger.remember(&format!("f{number}"), &delivered("2", &["x"]));
        }
        assert_eq!((ledger.recall("f899"), ledger.recall("f900")), (None, Some(delivered("2", &["x"]))));
        let memory = ledger.lock();
        assert_eq!((memory.files.len(), memory.order.len()), (100, 100));
    }

    #[test]
    fn a_mark_too_many_is_not_remembered_and_is_no_other_one() {
        let ledger = MemoryLedger::new(10);
        let marks: Vec<String> = (0..=MARKS_MAX).map(|number| format!("s{number:03}")).collect();
        let marks: Vec<&str> = marks.iter().map(String::as_str).collect();
        ledger.remember("a", &delivered("1", &marks));
        assert_eq!(ledger.recall("a"), Some(delivered("1", &marks[..MARKS_MAX])));
        ledger.remember("b", &delivered("1", &marks[MARKS_MAX..]));
        assert_eq!(ledger.recall("b"), Some(delivered("1", &[])));
    }

    #[test]
    fn remembering_nothing_is_allowed() {
        let ledger = MemoryLedger::new(0);
        ledger.remember("a", &delivered("1", &["x"]));
        assert_eq!(ledger.recall("a"), None);
    }
}
