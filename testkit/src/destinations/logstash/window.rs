//! Windows as they arrive, read as strictly as the protocol is written.

use std::io;

use bytes::Bytes;
use flate2::read::ZlibDecoder;
use serde_json::value::RawValue;
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::http::inflate;

/// A longer frame ends the connection.
const FRAME_BYTES_MAX: usize = 256 << 20;

/// A window that has arrived whole.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// The documents, in order.
    pub(super) events: Vec<Bytes>,
    /// The first one's number. Beats begin at 1 with each window, others go on for as long as the connection lives.
    pub(super) first: u32,
    /// Bytes as they were sent.
    pub(super) len: usize,
    /// Bytes of its frames, unpacked.
    pub(super) plain_len: usize,
}

/// An acknowledgement.
pub(super) fn ack(seq: usize) -> [u8; 6] {
    let [a, b, c, d] = u32::try_from(seq).unwrap_or(u32::MAX).to_be_bytes();
    [b'2', b'A', a, b, c, d]
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Reads the next window; `None` where the connection ends before it.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin), max: u32) -> io::Result<Option<Window>> {
    let mut head = [0; 2];
    if stream.read(&mut head[..1]).await? == 0 {
        return Ok(None);
    }
    stream.read_exact(&mut head[1..]).await?;
    if &head != b"2W" {
        return Err(wrong("not a window"));
    }
    let count = stream.read_u32().await?;
    if count > max {
        return Err(wrong("the window is too large"));
    }
    let mut window = Window { len: 6, ..Window::default() };
    while window.events.len() < count as usize {
        stream.read_exact(&mut head).await?;
        match &head {
            b"2J" => {
                let (seq, len) = (stream.read_u32().await?, stream.read_u32().await?);
                let document = payload(stream, len).await?;
                window.len += 10 + document.len();
                window.add(seq, document)?;
            }
            b"2C" => {
                let len = stream.read_u32().await?;
                let packed = payload(stream, len).await?;
                window.len += 6 + packed.len();
                let frames =
                    inflate(ZlibDecoder::new(&packed[..]), FRAME_BYTES_MAX).map_err(|e| wrong(&e))?;
                window.add_all(frames, count)?;
            }
            _ => return Err(wrong("a frame of another kind")),
        }
    }
    Ok(Some(window))
}

async fn payload(stream: &mut (impl AsyncRead + Unpin), len: u32) -> io::Result<Bytes> {
    if len as usize > FRAME_BYTES_MAX {
        return Err(wrong("the frame is too long"));
    }
    let mut bytes = vec![0; len as usize];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes.into())
}

impl Window {
    fn add(&mut self, seq: u32, document: Bytes) -> io::Result<()> {
        if self.events.is_empty() {
            self.first = seq;
        }
        // They are acknowledged by these numbers, and 0 means something else.
        if seq == 0 || seq as usize != self.first as usize + self.events.len() {
            return Err(wrong("the events are not numbered one after the other"));
        }
        let is_object =
            serde_json::from_slice::<&RawValue>(&document).is_ok_and(|value| value.get().starts_with('{'));
        if !is_object {
            return Err(wrong("the document is no JSON object"));
        }
        self.plain_len += 10 + document.len();
        self.events.push(document);
        Ok(())
    }

    /// The data frames that were packed into one.
    fn add_all(&mut self, mut frames: Bytes, count: u32) -> io::Result<()> {
        let cut = || wrong("a frame is cut");
        while !frames.is_empty() {
            let number = |at: usize| {
                let bytes = frames.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
                bytes.map(u32::from_be_bytes).ok_or_else(cut)
            };
            if frames.get(..2) != Some(b"2J") || self.events.len() >= count as usize {
                return Err(wrong("not a data frame of this window"));
            }
            let (seq, len) = (number(2)?, number(6)? as usize);
            let end = 10 + len;
            if frames.len() < end {
                return Err(cut());
            }
            let document = frames.slice(10..end);
            frames = frames.slice(end..);
            self.add(seq, document)?;
        }
        Ok(())
    }
}
