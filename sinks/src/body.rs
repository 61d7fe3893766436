//! A request's body as a list of pieces: slices of the log file as AWS wrote it, and what a destination adds.

use std::io::{self, Write};
use std::ops::Range;

use cloudtrail::Chunk;

/// One piece of a body.
#[derive(Clone, Debug)]
pub enum Piece<'a> {
    /// Bytes of the log file as they stand.
    Slice {
        /// Where they stand.
        chunk: &'a Chunk,
        /// Which of the chunk's bytes.
        range: Range<u32>,
    },
    /// Bytes of the log file inside a JSON string: escaped on the way out.
    Escaped {
        /// Where they stand.
        chunk: &'a Chunk,
        /// Which of the chunk's bytes.
        range: Range<u32>,
    },
    /// What the destination adds: a range of the body's own bytes.
    Owned(Range<usize>),
    /// What is added for all destinations alike, and lives as long as the events.
    Shared(&'a [u8]),
}

/// A request's body, never flattened before it is compressed.
#[derive(Debug, Default)]
pub struct Body<'a> {
    pieces: Vec<Piece<'a>>,
    own: Vec<u8>,
    len: usize,
}

impl<'a> Body<'a> {
    /// An empty body.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty body that writes into the buffer of an earlier one.
    #[must_use]
    pub fn with_buffer(mut buffer: Vec<u8>) -> Self {
        buffer.clear();
        Self { own: buffer, ..Self::default() }
    }

    /// The buffer, for another body.
    #[must_use]
    pub fn into_buffer(self) -> Vec<u8> {
        self.own
    }

    /// Adds bytes of a log file as they stand.
    pub fn slice(&mut self, chunk: &'a Chunk, range: Range<u32>) {
        self.len += range.len();
        self.pieces.push(Piece::Slice { chunk, range });
    }

    /// Adds bytes of a log file as the content of a JSON string; the quotes around it are the caller's.
    pub fn escaped(&mut self, chunk: &'a Chunk, range: Range<u32>) {
        self.len += escaped_len(bytes_of(chunk, &range));
        self.pieces.push(Piece::Escaped { chunk, range });
    }

    /// Adds bytes that live as long as the events.
    pub fn shared(&mut self, bytes: &'a [u8]) {
        if !bytes.is_empty() {
            self.len += bytes.len();
            self.pieces.push(Piece::Shared(bytes));
        }
    }

    /// Adds bytes of the destination's own.
    pub fn owned(&mut self, bytes: &[u8]) {
        let start = self.own.len();
        self.own.extend_from_slice(bytes);
        self.len += bytes.len();
        if let Some(Piece::Owned(last)) = self.pieces.last_mut()
            && last.end == start
        {
            last.end = self.own.len();
            return;
        }
        self.pieces.push(Piece::Owned(start..self.own.len()));
    }

    /// Length in bytes when written.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing was added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The pieces in order.
    #[must_use]
    pub fn pieces(&self) -> &[Piece<'a>] {
        &self.pieces
    }

    /// Writes the whole body.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_to(&self, out: &mut impl Write) -> io::Result<()> {
        for piece in &self.pieces {
            match piece {
                Piece::Slice { chunk, range } => out.write_all(bytes_of(chunk, range))?,
                Piece::Escaped { chunk, range } => write_escaped(bytes_of(chunk, range), out)?,
                Piece::Owned(range) => out.write_all(self.own.get(range.clone()).unwrap_or_default())?,
                Piece::Shared(bytes) => out.write_all(bytes)?,
            }
        }
        Ok(())
    }

    /// The whole body in one buffer; for what is sent uncompressed, and for tests.
    #[must_use]
    pub fn flatten(&self) -> Vec<u8> {
        let mut flat = Vec::with_capacity(self.len);
        // Writing to a vector cannot fail.
        let _ = self.write_to(&mut flat);
        flat
    }
}

fn bytes_of<'a>(chunk: &'a Chunk, range: &Range<u32>) -> &'a [u8] {
    chunk.bytes().get(range.start as usize..range.end as usize).unwrap_or_default()
}

/// How a byte is written inside a JSON string; `None` as it stands.
fn escape(byte: u8) -> Option<&'static [u8]> {
    match byte {
        b'"' => Some(b"\\\""),
        b'\\' => Some(b"\\\\"),
        b'\n' => Some(b"\\n"),
        b'\r' => Some(b"\\r"),
        b'\t' => Some(b"\\t"),
        // No other control character can stand in valid JSON text.
        0..=0x1f => Some(b"\\u0020"),
        _ => None,
    }
}

/// Length of `bytes` as the content of a JSON string.
#[must_use]
pub fn escaped_len(bytes: &[u8]) -> usize {
    bytes.iter().map(|&byte| escape(byte).map_or(1, <[u8]>::len)).sum()
}

fn write_escaped(bytes: &[u8], out: &mut impl Write) -> io::Result<()> {
    let mut start = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        if let Some(escaped) = escape(byte) {
            out.write_all(bytes.get(start..at).unwrap_or_default())?;
            out.write_all(escaped)?;
            start = at + 1;
        }
    }
    out.write_all(bytes.get(start..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Sample;

    #[test]
    fn pieces_come_out_in_order_and_as_long_as_the_body_says() {
        let event = Sample::new(r#"{"a":"\n"}"#).event();
        let mut body = Body::new();
        body.owned(b"x");
        body.slice(event.chunk(), event.range());
        body.shared(b"yy");
        body.owned(b"\"");
        body.escaped(event.chunk(), event.range());
        body.owned(b"\"");
        let text = body.flatten();
        assert_eq!(text, br#"x{"a":"\n"}yy"{\"a\":\"\\n\"}""#);
        assert_eq!(body.len(), text.len());
    }

    #[test]
    fn a_body_in_a_used_buffer_holds_nothing_of_the_one_before() {
        let mut first = Body::new();
        first.owned(b"first");
        let mut second = Body::with_buffer(first.into_buffer());
        assert!(second.is_empty());
        second.owned(b"2");
        assert_eq!(second.flatten(), b"2");
    }
}
