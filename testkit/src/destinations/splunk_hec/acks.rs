//! Indexer acknowledgement: numbers by channel, true only after a while, and forgotten once told.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// The requests of all channels that wait to be confirmed.
#[derive(Default)]
pub(super) struct Acks {
    channels: HashMap<String, Channel>,
}

#[derive(Default)]
struct Channel {
    next: u64,
    waiting: HashMap<u64, Waiting>,
}

struct Waiting {
    since: Instant,
    /// Its number in the ledger.
    request: u64,
}

impl Acks {
    /// The number under which a channel may ask for a request.
    pub(super) fn issue(&mut self, channel: &str, request: u64, now: Instant) -> u64 {
        let channel = self.channels.entry(channel.to_owned()).or_default();
        let id = channel.next;
        channel.next += 1;
        channel.waiting.insert(id, Waiting { since: now, request });
        id
    }

    /// Whether what `id` stands for is indexed, and its request in the ledger. True is told once.
    pub(super) fn ask(&mut self, channel: &str, id: u64, delay: Duration, now: Instant) -> Option<u64> {
        let waiting = &mut self.channels.get_mut(channel)?.waiting;
        if now.duration_since(waiting.get(&id)?.since) < delay {
            return None;
        }
        waiting.remove(&id).map(|told| told.request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_true_after_the_delay_once_and_in_its_own_channel_only() {
        let mut acks = Acks::default();
        let (start, delay) = (Instant::now(), Duration::from_secs(1));
        assert_eq!(acks.issue("a", 7, start), 0);
        assert_eq!(acks.issue("a", 8, start), 1);
        assert_eq!(acks.issue("b", 9, start), 0);
        assert_eq!(acks.ask("a", 0, delay, start + delay / 2), None);
        assert_eq!(acks.ask("c", 0, delay, start + delay), None);
        assert_eq!(acks.ask("a", 5, delay, start + delay), None);
        assert_eq!(acks.ask("a", 0, delay, start + delay), Some(7));
        assert_eq!(acks.ask("a", 0, delay, start + delay), None);
        assert_eq!(acks.ask("b", 0, delay, start + delay), Some(9));
    }
}
