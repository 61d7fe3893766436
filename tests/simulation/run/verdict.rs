//! The judgement of a run: by the ledger, by what the queue has seen, and by how often everything struck.

use std::path::Path;
use std::time::Duration;

use testkit::aws::{Delivery, MessageHistory};
use testkit::ledger::{Additions, QueueEvidence, SinkRule, judge};

use super::{Outcome, Run};
use crate::stage::{HANDOFF_QUEUE, QUEUE, Sink};

/// Where dead letters are written.
const LETTERS: &str = "dead-letters.ndjson";

impl Run {
    pub(super) fn judge(mut self, recovered_after: Duration) -> Result<Outcome, String> {
        let ledger = &self.stage.ledger;
        let names: Vec<&str> = Sink::ALL.map(Sink::name).into_iter().chain(["file"]).collect();
        for host in &self.hosts {
            for content in host.disk.files("out").values() {
                ledger.read_lines("file", Additions::PLAIN, content.as_slice()).map_err(|e| e.to_string())?;
            }
            if let Some(letters) = host.disk.file(LETTERS) {
                ledger.read_dead_letters(letters.as_slice(), &names).map_err(|error| error.to_string())?;
            }
        }
        let mut evidence = QueueEvidence::default();
        let queues = [QUEUE, HANDOFF_QUEUE].into_iter();
        let messages: Vec<_> = queues.flat_map(|queue| self.stage.aws.queue(queue).messages()).collect();
        evidence.note_messages(&messages).map_err(|error| error.to_string())?;
        evidence.messages_left = self.stage.messages_left();
        let rules: Vec<SinkRule> = names
            .iter()
            .map(|name| match *name {
                "elasticsearch" => SinkRule::with_unique_ids(name),
                _ => SinkRule::new(name),
            })
            .collect();
        let report = judge(ledger, &rules, &evidence);
        self.count(&messages);
        self.no_lease_lapsed_for_nothing(&messages)?;
        let fingerprint = self.stage.trace.fingerprint();
        if !report.passes() {
            return Err(format!("{report}\n{} lines, {}", fingerprint.lines, fingerprint.hash));
        }
        let took = self.now();
        Ok(Outcome { fingerprint, struck: self.struck, took, recovered_after, report })
    }

    /// A lease lapses only where something kept the agent from extending it, or from reading the log file.
    fn no_lease_lapsed_for_nothing(&self, messages: &[MessageHistory]) -> Result<(), String> {
        // What was disturbed may take as long as a lease until it is over.
        let slack = Duration::from_secs(30);
        let begin = self.stage.time.since_1970() - self.stage.time.now();
        let time = |at_ms: u64| Duration::from_millis(at_ms).saturating_sub(begin);
        for message in messages {
            for (at, delivery) in message.deliveries.iter().enumerate() {
                let mut later = message.deliveries[at + 1..].iter();
                let Some(next) = later.find(|later| later.copy == delivery.copy) else { continue };
                let (from, until) = (time(delivery.at_ms).saturating_sub(slack), time(next.at_ms));
                let explained = self.disturbed.iter().any(|&(begin, end)| begin <= until && from <= end);
                if !delivery.released && !explained {
                    return Err(format!(
                        "a lease lapsed for nothing: {delivery:?}, then {next:?}, of {:?}",
                        message.objects
                    ));
                }
            }
        }
        Ok(())
    }

    /// Counts what struck without having been ordered one by one.
    fn count(&mut self, messages: &[MessageHistory]) {
        let deliveries = || messages.iter().flat_map(|message| message.deliveries.iter());
        self.strike("SQS delivered twice", deliveries().filter(|delivery| delivery.copy > 0).count() as u64);
        self.strike("stale delete", deliveries().filter(|d| d.stale_delete_ms.is_some()).count() as u64);
        let lapsed = |d: &&Delivery| d.deleted_ms.is_none() && !d.released && d.extensions > 0;
        let handed_off = messages.iter().filter(|message| message.body.contains("trailship.handoff"));
        self.strike("handed off", handed_off.count() as u64);
        self.strike("lease lapsed", deliveries().filter(lapsed).count() as u64);
        for (peer, hits) in self.stage.links.hits() {
            let name = match peer {
                "s3" => "link to s3 cut",
                "sqs" => "link to sqs cut",
                "latency" => "latency",
                "name" => "name not found",
                _ => "link to a sink cut",
            };
            self.strike(name, hits);
        }
        for (name, id) in self.rules.clone() {
            let fired = self.stage.aws.fired(id);
            self.strike(name, fired);
        }
        self.strike("clock too wrong for AWS", self.stage.time.too_skewed());
        for agent in 0..self.hosts.len() {
            let host = &self.hosts[agent];
            let (asked, no_room) = (host.clock.asked_while_wrong(), host.disk.no_room());
            let letters = no_room.get(Path::new(LETTERS)).copied().unwrap_or(0);
            self.strike("clock wrong", asked);
            self.strike("disk full", no_room.values().sum::<u64>() - letters);
            self.strike("disk full, dead letters", letters);
        }
    }
}
