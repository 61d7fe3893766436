//! Checks `[dead_letter]`.

use std::path::{Path, PathBuf};

use super::super::model::DeadLetter;
use super::super::raw::{RawFileDeadLetter, RawS3DeadLetter};
use super::Checker;

const TYPES: [&str; 2] = ["file", "s3"];

impl Checker<'_> {
    pub(super) fn dead_letter(&self) -> Option<DeadLetter> {
        let table = self.tree.get("dead_letter").filter(|node| node.as_table().is_some())?;
        let type_name = self.type_of(table, "dead_letter", &TYPES)?;
        if type_name == "file" {
            let raw: RawFileDeadLetter = self.read_typed(table, "dead_letter")?;
            self.require(!raw.path.is_empty(), "dead_letter.path", "empty: name the file to write");
            let path = PathBuf::from(&raw.path);
            let place = std::path::absolute(&path).unwrap_or_else(|_| Path::new("/").join(&path));
            if !raw.durable && self.machine.is_ephemeral(&place) {
                let message = "lies on the container's own layer and is lost with it: mount a volume there, use \
                               type = \"s3\", or say durable = true if it is kept after all";
                self.warn("dead_letter.path", message);
            }
            self.keep_typed_at(&["dead_letter"], type_name, &raw);
            return Some(DeadLetter::File { path, durable: raw.durable });
        }
        let raw: RawS3DeadLetter = self.read_typed(table, "dead_letter")?;
        let plain = raw.bucket.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
        self.require(plain && !raw.bucket.is_empty(), "dead_letter.bucket", "not a bucket's name");
        let message = "keys do not begin with \"/\": take it away";
        self.require(!raw.prefix.starts_with('/'), "dead_letter.prefix", message);
        self.region(raw.region.as_deref(), "dead_letter.region");
        self.keep_typed_at(&["dead_letter"], type_name, &raw);
        Some(DeadLetter::S3 { bucket: raw.bucket, prefix: raw.prefix, region: raw.region, aws: raw.aws })
    }
}
