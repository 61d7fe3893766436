//! Checks `[dead_letter]` and the one that a sink has of its own.

use std::path::{Path, PathBuf};

use super::super::model::{DeadLetter, SinkConfig, Source, SourceKind};
use super::super::raw::{RawFileDeadLetter, RawS3DeadLetter, RawSqsDeadLetter};
use super::super::tree::Node;
use super::Checker;
use super::sources::{identity_path, region_of};

const TYPES: [&str; 3] = ["file", "s3", "sqs"];

impl Checker<'_> {
    /// The dead letters of all that has none of its own.
    pub(super) fn dead_letter(&self) -> Option<DeadLetter> {
        let table = self.tree.get("dead_letter").filter(|node| node.as_table().is_some())?;
        self.dead_letter_at(table, &["dead_letter"])
    }

    /// The dead letters of one sink, if it has its own.
    pub(super) fn dead_letter_of(&self, sink: &str, table: &Node) -> Option<DeadLetter> {
        let node = table.get("dead_letter")?;
        if node.as_table().is_none() {
            let path = format!("sinks.{sink}.dead_letter");
            let message = format!("expected a table: [{path}], found {}", node.value.kind());
            self.reader.problem(node, &path, &message);
            return None;
        }
        self.dead_letter_at(node, &["sinks", sink, "dead_letter"])
    }

    fn dead_letter_at(&self, table: &Node, keys: &[&str]) -> Option<DeadLetter> {
        let path = keys.join(".");
        let type_name = self.type_of(table, &path, &TYPES)?;
        Some(match type_name {
            "file" => {
                let raw: RawFileDeadLetter = self.read_typed(table, &path)?;
                self.keep_typed_at(keys, type_name, &raw);
                self.file_dead_letter(&raw, &path)
            }
            "s3" => {
                let raw: RawS3DeadLetter = self.read_typed(table, &path)?;
                self.keep_typed_at(keys, type_name, &raw);
                self.s3_dead_letter(raw, &path)
            }
            _ => {
                let raw: RawSqsDeadLetter = self.read_typed(table, &path)?;
                self.keep_typed_at(keys, type_name, &raw);
                self.sqs_dead_letter(raw, &path)
            }
        })
    }

    fn file_dead_letter(&self, raw: &RawFileDeadLetter, at: &str) -> DeadLetter {
        let key = format!("{at}.path");
        self.require(!raw.path.is_empty(), &key, "empty: name the file to write");
        let path = PathBuf::from(&raw.path);
        let place = std::path::absolute(&path).unwrap_or_else(|_| Path::new("/").join(&path));
        if !raw.durable && self.machine.is_ephemeral(&place) {
            let message = "lies on the container's own layer and is lost with it: mount a volume there, use \
                           type = \"s3\", or say durable = true if it is kept after all";
            self.warn(&key, message);
        }
        DeadLetter::File { path, durable: raw.durable }
    }

    fn s3_dead_letter(&self, raw: RawS3DeadLetter, at: &str) -> DeadLetter {
        let plain = raw.bucket.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
        self.require(plain && !raw.bucket.is_empty(), &format!("{at}.bucket"), "not a bucket's name");
        let message = "keys do not begin with \"/\": take it away";
        self.require(!raw.prefix.starts_with('/'), &format!("{at}.prefix"), message);
        self.region(raw.region.as_deref(), &format!("{at}.region"));
        DeadLetter::S3 { bucket: raw.bucket, prefix: raw.prefix, region: raw.region, aws: raw.aws }
    }

    fn sqs_dead_letter(&self, raw: RawSqsDeadLetter, at: &str) -> DeadLetter {
        let key = format!("{at}.queue_url");
        self.address(&raw.queue_url, &key, self.plaintext(&raw.aws), &identity_path(&raw.aws));
        let message = "a FIFO queue, which drops what it takes for repetitions: use a standard queue";
        self.require(!raw.queue_url.ends_with(".fifo"), &key, message);
        self.region(raw.region.as_deref(), &format!("{at}.region"));
        let region = raw.region.or_else(|| region_of(&raw.queue_url));
        DeadLetter::Sqs { queue_url: raw.queue_url, region, aws: raw.aws }
    }

    /// Refuses dead letters in a queue that a source reads: they would be taken for notifications.
    pub(super) fn dead_letter_queues(
        &self,
        sources: &[Source],
        sinks: &[SinkConfig],
        dead_letter: Option<&DeadLetter>,
    ) {
        for (path, letters) in all(sinks, dead_letter) {
            let DeadLetter::Sqs { queue_url, .. } = letters else { continue };
            let reads = |source: &&Source| {
                matches!(&source.kind, SourceKind::Sqs(queue)
                    if queue.queue_url == *queue_url || queue.handoff_queue_url.as_ref() == Some(queue_url))
            };
            if let Some(source) = sources.iter().find(reads) {
                let message = format!("sources.{} reads this queue: use one of its own", source.name);
                self.problem(&format!("{path}.queue_url"), &message);
            }
        }
    }
}

/// All dead letters with the paths of their tables.
pub(super) fn all<'a>(
    sinks: &'a [SinkConfig],
    dead_letter: Option<&'a DeadLetter>,
) -> impl Iterator<Item = (String, &'a DeadLetter)> {
    let own = sinks
        .iter()
        .filter_map(|sink| Some((format!("sinks.{}.dead_letter", sink.name), sink.dead_letter.as_ref()?)));
    dead_letter.map(|letters| ("dead_letter".to_owned(), letters)).into_iter().chain(own)
}
