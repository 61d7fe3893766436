//! The few messages of Alert Logic's ingest service, as protocol buffers write them.
//!
//! Field numbers: `proto/` of <https://github.com/alertlogic/al-collector-js>; the encoding:
//! <https://protobuf.dev/programming-guides/encoding/>

use sha1::{Digest as _, Sha1};

/// `priority` of every message, as all of Alert Logic's own collectors set it.
const PRIORITY: u32 = 11;

const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const BYTES: u64 = 2;
const FIXED32: u64 = 5;

/// Writes a number in as few groups of seven bits as it has.
fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value as u8 & 0x7f) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn tag(out: &mut Vec<u8>, field: u64, kind: u64) {
    varint(out, field << 3 | kind);
}

/// Writes a field of bytes, or of a message that is encoded already.
fn bytes(out: &mut Vec<u8>, field: u64, value: &[u8]) {
    tag(out, field, BYTES);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

fn fixed32(out: &mut Vec<u8>, field: u64, value: u32) {
    tag(out, field, FIXED32);
    out.extend_from_slice(&value.to_le_bytes());
}

fn fixed64(out: &mut Vec<u8>, field: u64, value: u64) {
    tag(out, field, FIXED64);
    out.extend_from_slice(&value.to_le_bytes());
}

/// `host_metadata.metadata` with one entry in its dictionary. Its checksum is that of the same message with an empty
/// checksum and no time.
pub(super) fn metadata(host: &str, host_name: &str, seconds: u64) -> Vec<u8> {
    let mut value = Vec::new();
    bytes(&mut value, 3, host_name.as_bytes());
    let mut entry = Vec::new();
    bytes(&mut entry, 1, b"local_hostname");
    bytes(&mut entry, 2, &value);
    let mut data = Vec::new();
    bytes(&mut data, 1, &entry);

    let write = |checksum: &[u8], time: Option<u64>| {
        let mut out = Vec::new();
        bytes(&mut out, 1, host.as_bytes());
        bytes(&mut out, 2, checksum);
        if let Some(seconds) = time {
            tag(&mut out, 3, VARINT);
            varint(&mut out, seconds);
        }
        bytes(&mut out, 4, &data);
        out
    };
    let checksum: [u8; 20] = Sha1::digest(write(b"", None)).into();
    write(&checksum, Some(seconds))
}

/// What is said of an event beside its text.
pub(super) struct Entry<'a> {
    pub(super) host: &'a str,
    /// Milliseconds since 1970.
    pub(super) millis: u64,
    pub(super) program: &'a str,
    pub(super) message_type: &'a str,
    pub(super) type_id: &'a str,
}

/// Everything of a `collected_message` around its text, which has `text_len` bytes and stands between the two.
pub(super) fn message(entry: &Entry<'_>, text_len: usize) -> (Vec<u8>, Vec<u8>) {
    let (mut before, mut behind) = (Vec::new(), Vec::new());
    if !entry.host.is_empty() {
        bytes(&mut before, 1, entry.host.as_bytes());
    }
    fixed64(&mut before, 2, entry.millis / 1000);
    fixed32(&mut before, 3, PRIORITY);
    bytes(&mut before, 4, entry.program.as_bytes());
    tag(&mut before, 6, BYTES);
    varint(&mut before, text_len as u64);
    bytes(&mut behind, 7, entry.message_type.as_bytes());
    if !entry.type_id.is_empty() {
        bytes(&mut behind, 8, entry.type_id.as_bytes());
    }
    // Below a thousand thousands.
    fixed32(&mut behind, 9, u32::try_from(entry.millis % 1000 * 1000).unwrap_or_default());
    // The message is itself a field of its batch.
    let mut framed = Vec::with_capacity(before.len() + 12);
    tag(&mut framed, 3, BYTES);
    varint(&mut framed, (before.len() + text_len + behind.len()) as u64);
    framed.extend_from_slice(&before);
    (framed, behind)
}

/// What stands before the messages in a `collected_batch_list` of one batch; `messages` is how long they are.
pub(super) fn batch(source: &str, metadata: &[u8], messages: usize) -> Vec<u8> {
    let mut head = Vec::new();
    bytes(&mut head, 1, source.as_bytes());
    bytes(&mut head, 2, metadata);
    let mut out = Vec::with_capacity(head.len() + 16);
    tag(&mut out, 1, BYTES);
    varint(&mut out, (head.len() + messages) as u64);
    out.extend_from_slice(&head);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_in_groups_of_seven_bits() {
        for (value, expected) in [
            (0, &[0][..]),
            (1, &[1]),
            (127, &[0x7f]),
            (128, &[0x80, 1]),
            (150, &[0x96, 1]),
            (16_384, &[0x80, 0x80, 1]),
            (u64::MAX, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]),
        ] {
            let mut out = Vec::new();
            varint(&mut out, value);
            assert_eq!(out, expected, "{value}");
        }
    }
}
