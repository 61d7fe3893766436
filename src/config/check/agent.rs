//! Checks `[agent]`, and that its memory is enough for the sinks.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::model::{Agent, Limits};
use super::super::raw::{MemoryBudget, RawAgent, RawLimits};
use super::super::tree::Node;
use super::super::units::format_size;
use super::Checker;

/// Where state is kept if nothing says otherwise.
const STATE_DIR: &str = "/var/lib/trailship";
/// The budget if it is `auto` and the machine has no limit.
const BUDGET_BYTES_UNLIMITED: u64 = 64 << 20;
/// Bytes of a log file that are inflated at once.
const CHUNK_BYTES: u64 = 256 << 10;

/// The least memory with which every one of `sinks` lanes can always go on: each can hold one event of the
/// greatest size in its chunk, and so can two log files that are being read.
pub fn memory_minimum(event_bytes: u64, sinks: usize) -> u64 {
    (2 + sinks as u64) * (event_bytes + CHUNK_BYTES)
}

impl Checker<'_> {
    pub(super) fn agent(&self) -> Option<Agent> {
        let nothing = Node::table();
        let mut raw: RawAgent = self.reader.read(self.tree.get("agent").unwrap_or(&nothing), "agent")?;
        let listen = raw.listen.parse().ok();
        self.require(
            listen.is_some(),
            "agent.listen",
            "not an address and port such as \"127.0.0.1:7464\" or \"[::]:7464\"",
        );
        self.require(
            raw.shutdown_grace.0 >= Duration::from_secs(1),
            "agent.shutdown_grace",
            "at least \"1s\"",
        );
        let fronts = &raw.console_front_ends;
        self.require(
            fronts.iter().all(|name| !name.trim().is_empty()),
            "agent.console_front_ends",
            "a name is empty: take it away",
        );
        let limits = self.limits(&raw.limits);
        let memory_budget = match raw.memory_budget {
            MemoryBudget::Bytes(bytes) => bytes,
            // The other half is for the process itself: buffers of connections, encoders, the SDK.
            MemoryBudget::Auto => self.machine.memory_limit.map_or(BUDGET_BYTES_UNLIMITED, |limit| limit / 2),
        };
        let state_dir = raw.state_dir.get_or_insert_with(|| self.state_dir()).clone();
        self.require(!state_dir.is_empty(), "agent.state_dir", "empty: name a folder, or take the key away");
        raw.memory_budget = MemoryBudget::Bytes(memory_budget);
        self.keep(&["agent"], &raw);
        Some(Agent {
            listen: listen?,
            memory_budget,
            shutdown_grace: raw.shutdown_grace.0,
            state_dir: PathBuf::from(state_dir),
            log_format: raw.log_format,
            log_level: raw.log_level,
            labels: self.labels(&raw.labels, "agent.labels"),
            console_front_ends: raw.console_front_ends,
            admin_token: raw.admin_token,
            limits,
        })
    }

    /// systemd may name several folders, with colons; the first is ours.
    /// <https://www.freedesktop.org/software/systemd/man/latest/systemd.exec.html#RuntimeDirectory=>
    fn state_dir(&self) -> String {
        let given = self.machine.variable("STATE_DIRECTORY").and_then(|list| list.split(':').next());
        given.filter(|folder| Path::new(folder).is_absolute()).unwrap_or(STATE_DIR).to_owned()
    }

    fn limits(&self, raw: &RawLimits) -> Limits {
        let event_bytes = raw.event_bytes.0;
        let ranges = [
            ("event_bytes", (1 << 10..=64 << 20).contains(&event_bytes), "from \"1KiB\" to \"64MiB\""),
            ("log_file_bytes", raw.log_file_bytes.0 >= event_bytes, "at least event_bytes"),
            ("ratio", raw.ratio >= 10, "at least 10: log files do compress well"),
            ("depth", (8..=1000).contains(&raw.depth), "from 8 to 1000"),
        ];
        for (key, good, message) in ranges {
            self.require(good, &format!("agent.limits.{key}"), message);
        }
        Limits { log_file_bytes: raw.log_file_bytes.0, ratio: raw.ratio, event_bytes, depth: raw.depth }
    }

    /// Refuses a budget with which a lane could not always go on.
    ///
    /// So many of the sinks are `gathering`: their parts are beside the budget of the lanes.
    pub(super) fn memory(&self, agent: &Agent, sinks: usize, gathering: usize) {
        let parts = (sinks + gathering) as u64;
        let minimum = memory_minimum(agent.limits.event_bytes, sinks) * parts / (sinks as u64).max(1);
        let message = format!(
            "{} are too little for {sinks} sinks with events of up to {}: at least {}",
            format_size(agent.memory_budget),
            format_size(agent.limits.event_bytes),
            format_size(minimum)
        );
        self.require(agent.memory_budget >= minimum, "agent.memory_budget", &message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_are_those_of_the_reader_unless_they_are_set() {
        let (ours, reader) = (RawLimits::default(), cloudtrail::Limits::default());
        assert_eq!(ours.log_file_bytes.0, reader.inflated_bytes_max);
        assert_eq!(ours.event_bytes.0, reader.event_bytes_max as u64);
        assert_eq!((ours.ratio, ours.depth), (reader.ratio_max, reader.depth_max));
        assert_eq!(CHUNK_BYTES, reader.chunk_bytes as u64);
    }
}
