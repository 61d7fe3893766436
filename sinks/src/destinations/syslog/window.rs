//! What was written to one connection and may still be lost with it.
//!
//! A write that succeeds says that the bytes are in a buffer of this machine. They count as delivered once they have
//! left this window: because they are old enough, or because enough was written after them, and the connection lived
//! on. What is in the window when the connection ends is sent again on the next one.

use std::collections::VecDeque;
use std::time::Duration;

/// What is written this long ago has left the window.
pub(super) const WINDOW_AGE: Duration = Duration::from_secs(5);

/// So has what was followed by as many bytes.
///
/// They have to be more than can lie unread on the way, or writing them says nothing: by default Linux buffers up to
/// 4 MiB at the sender (`net.ipv4.tcp_wmem`) and up to 6 MiB at the receiver (`tcp_rmem`). With 1 MiB, a receiver that
/// died in the middle of 3 MB took 40 % of them with it.
pub(super) const WINDOW_BYTES: u64 = 16 << 20;

/// One write.
#[derive(Clone, Copy, Debug)]
struct Written {
    number: u64,
    /// Bytes of the connection up to its end.
    end: u64,
    at: Duration,
}

/// The window of one connection. Writes are numbered from 1.
#[derive(Debug, Default)]
pub(super) struct Window {
    held: VecDeque<Written>,
    bytes: u64,
    numbers: u64,
    /// The last write that has left.
    left: u64,
}

impl Window {
    /// Notes a write of `len` bytes that succeeded; its number.
    pub(super) fn push(&mut self, len: usize, now: Duration) -> u64 {
        self.numbers += 1;
        self.bytes += len as u64;
        self.held.push_back(Written { number: self.numbers, end: self.bytes, at: now });
        self.numbers
    }

    /// Lets go of what has left by now.
    pub(super) fn advance(&mut self, now: Duration) {
        while let Some(first) = self.held.front() {
            let is_old = now.saturating_sub(first.at) >= WINDOW_AGE;
            if !is_old && self.bytes - first.end < WINDOW_BYTES {
                return;
            }
            self.left = first.number;
            self.held.pop_front();
        }
    }

    /// Whether a write has left.
    pub(super) fn has_left(&self, number: u64) -> bool {
        number <= self.left
    }

    /// Whether anything ever left.
    pub(super) fn has_progressed(&self) -> bool {
        self.left > 0
    }

    /// Whether nothing would be lost if the connection ended.
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// How long until the next write leaves for its age.
    pub(super) fn next(&self, now: Duration) -> Duration {
        self.held.front().map_or(WINDOW_AGE, |first| (first.at + WINDOW_AGE).saturating_sub(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_write_leaves_when_it_is_old_enough() {
        let mut window = Window::default();
        let (first, second) = (window.push(10, at(0)), window.push(10, at(1000)));
        window.advance(at(4999));
        assert!(!window.has_left(first) && !window.has_progressed());
        assert_eq!(window.next(at(4999)), at(1));
        window.advance(at(5000));
        assert!(window.has_left(first) && !window.has_left(second) && window.has_progressed());
        assert_eq!(window.next(at(5000)), at(1000));
        window.advance(at(6000));
        assert!(window.has_left(second) && window.is_empty());
    }

    #[test]
    fn a_write_leaves_when_enough_was_written_after_it() {
        let mut window = Window::default();
        let first = window.push(20 << 20, at(0));
        let second = window.push((16 << 20) - 1, at(0));
        window.advance(at(1));
        assert!(!window.has_left(first), "its own length does not count");
        let third = window.push(1, at(1));
        window.advance(at(1));
        assert!(window.has_left(first) && !window.has_left(second) && !window.has_left(third));
    }
}
