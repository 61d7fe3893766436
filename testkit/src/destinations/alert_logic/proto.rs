//! Reads what the ingest service is sent: any protocol buffer into fields, and those into what is known of them.
//!
//! <https://protobuf.dev/programming-guides/encoding/>

use sha1::{Digest as _, Sha1};

/// The messages of one collector.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) source: String,
    pub(super) host: String,
    pub(super) messages: Vec<Message>,
}

/// One message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) seconds: u64,
    pub(super) priority: u64,
    pub(super) text: Vec<u8>,
    pub(super) kind: String,
    pub(super) kind_id: String,
}

#[derive(Debug)]
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The fields of a message; `None` if it is none.
struct Fields<'a>(Vec<(u64, Value<'a>)>);

impl<'a> Fields<'a> {
    fn read(mut bytes: &'a [u8]) -> Option<Self> {
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let tag = number(&mut bytes)?;
            let value = match tag & 7 {
                0 => Value::Number(number(&mut bytes)?),
                1 => Value::Number(u64::from_le_bytes(take(&mut bytes, 8)?.try_into().ok()?)),
                2 => {
                    let len = usize::try_from(number(&mut bytes)?).ok()?;
                    Value::Bytes(take(&mut bytes, len)?)
                }
                5 => Value::Number(u32::from_le_bytes(take(&mut bytes, 4)?.try_into().ok()?).into()),
                _ => return None,
            };
            fields.push((tag >> 3, value));
        }
        Some(Self(fields))
    }

    fn all(&self, field: u64) -> impl Iterator<Item = &Value<'a>> {
        self.0.iter().filter(move |(number, _)| *number == field).map(|(_, value)| value)
    }

    fn bytes(&self, field: u64) -> Option<&'a [u8]> {
        self.all(field).find_map(|value| match value {
            Value::Bytes(bytes) => Some(*bytes),
            Value::Number(_) => None,
        })
    }

    fn text(&self, field: u64) -> Option<String> {
        String::from_utf8(self.bytes(field)?.to_vec()).ok()
    }

    fn number(&self, field: u64) -> Option<u64> {
        self.all(field).find_map(|value| match value {
            Value::Number(number) => Some(*number),
            Value::Bytes(_) => None,
        })
    }

    fn messages(&self, field: u64) -> Option<Vec<Fields<'a>>> {
        let read = |value: &Value<'a>| match value {
            Value::Bytes(bytes) => Self::read(bytes),
            Value::Number(_) => None,
        };
        self.all(field).map(read).collect()
    }
}

fn take<'a>(bytes: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    Some(taken)
}

fn number(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let &[byte] = take(bytes, 1)? else { return None };
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// The batches of a list; `None` unless every field that is required is there, and each checksum is right.
pub(super) fn batches(bytes: &[u8]) -> Option<Vec<Batch>> {
    let batches: Option<Vec<Batch>> = Fields::read(bytes)?.messages(1)?.iter().map(batch).collect();
    batches.filter(|batches| !batches.is_empty())
}

fn batch(fields: &Fields<'_>) -> Option<Batch> {
    let metadata = Fields::read(fields.bytes(2)?)?;
    let (host, data) = (metadata.text(1)?, metadata.bytes(4)?);
    metadata.number(3)?;
    let mut summed = Vec::new();
    for (field, content) in [(1, host.as_bytes()), (2, &[][..]), (4, data)] {
        summed.push(field << 3 | 2);
        // A length below 128 is one byte; a longer host or dictionary would need two.
        summed.push(u8::try_from(content.len()).ok().filter(|len| *len < 0x80)?);
        summed.extend_from_slice(content);
    }
    let checksum: [u8; 20] = Sha1::digest(&summed).into();
    if metadata.bytes(2)? != checksum {
        return None;
    }
    let messages: Option<Vec<Message>> = fields.messages(3)?.iter().map(message).collect();
    Some(Batch { source: fields.text(1)?, host, messages: messages? })
}

fn message(fields: &Fields<'_>) -> Option<Message> {
    Some(Message {
        seconds: fields.number(2)?,
        priority: fields.number(3)?,
        text: fields.bytes(6)?.to_vec(),
        kind: fields.text(7)?,
        kind_id: fields.text(8).unwrap_or_default(),
    })
}
