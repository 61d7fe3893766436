//! The frames of the Beats protocol (lumberjack version 2): windows of events out, acknowledgements in.
//!
//! <https://github.com/logstash-plugins/logstash-input-beats/blob/main/PROTOCOL.md>

use std::ops::Range;

use super::document;
use crate::destinations::CommonSettings;
use crate::{Body, Compression, Encoded, Event};

const VERSION: u8 = b'2';
const WINDOW: u8 = b'W';
const DATA: u8 = b'J';
const COMPRESSED: u8 = b'C';
const ACK: u8 = b'A';

/// Version, type and one number: a window, an acknowledgement, the head of a compressed frame.
const SHORT_LEN: usize = 6;
/// The head of a data frame: version, type, sequence, length.
const DATA_HEAD_LEN: usize = 10;

/// An upper bound of what an event adds to an encoded batch before compression, its part of a window's heads included.
pub(super) fn encoded_len(common: &CommonSettings, event: &Event) -> usize {
    document::len_max(common, event) + DATA_HEAD_LEN + SHORT_LEN
}

/// A frame of version, type and one number.
pub(super) fn short(kind: u8, number: u32) -> [u8; SHORT_LEN] {
    let [a, b, c, d] = number.to_be_bytes();
    [VERSION, kind, a, b, c, d]
}

/// An empty window, which no event follows.
pub(super) fn empty_window() -> [u8; SHORT_LEN] {
    short(WINDOW, 0)
}

/// Writes a batch as windows of at most `window` events, each numbered from 1. `None` where a length does not fit its
/// frame.
pub(super) fn encode(
    common: &CommonSettings,
    events: &[Event],
    window: usize,
    compression: Compression,
) -> Option<Encoded> {
    let (mut out, mut packed, mut own) = (Vec::new(), Vec::new(), Vec::new());
    let mut plain_len = 0;
    for events in events.chunks(window.max(1)) {
        let body = data_frames(common, events, own)?;
        out.extend_from_slice(&short(WINDOW, u32::try_from(events.len()).ok()?));
        plain_len += SHORT_LEN + body.len();
        match compression {
            Compression::None => body.write_to(&mut out).ok()?,
            compression => {
                compression.encode(&body, &mut packed);
                out.extend_from_slice(&short(COMPRESSED, u32::try_from(packed.len()).ok()?));
                out.extend_from_slice(&packed);
            }
        }
        own = body.into_buffer();
    }
    Some(Encoded { bytes: out.into(), plain_len })
}

fn data_frames<'a>(common: &CommonSettings, events: &'a [Event], buffer: Vec<u8>) -> Option<Body<'a>> {
    let (mut body, mut members) = (Body::with_buffer(buffer), Vec::new());
    let mut all_fit = true;
    for (sequence, event) in (1u32..).zip(events) {
        document::write(common, &mut body, event, &mut members, |body, len| {
            let len = u32::try_from(len).unwrap_or_default();
            all_fit &= len > 0;
            body.owned(&short(DATA, sequence));
            body.owned(&len.to_be_bytes());
        });
    }
    all_fit.then_some(body)
}

/// A window of an encoded batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Window {
    /// Where it stands in the batch.
    pub(super) range: Range<usize>,
    /// Its events.
    pub(super) count: u32,
}

/// The windows of a batch that [`encode`] has written; `None` if it has not.
pub(super) fn windows(bytes: &[u8]) -> Option<Vec<Window>> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let count = number_of(bytes.get(at..)?, WINDOW)?;
        let mut end = at + SHORT_LEN;
        let first = *bytes.get(end + 1)?;
        let frames = if first == COMPRESSED { 1 } else { count };
        for _ in 0..frames {
            end += frame_len(bytes.get(end..)?)?;
        }
        bytes.get(at..end)?;
        found.push(Window { range: at..end, count });
        at = end;
    }
    Some(found)
}

/// How many events of a window the peer can know when it has its first `written` bytes.
pub(super) fn events_within(window: &[u8], written: usize) -> u32 {
    let (mut events, mut at) = (0, SHORT_LEN);
    while let Some(rest) = window.get(at..).filter(|rest| !rest.is_empty()) {
        let Some(len) = frame_len(rest).filter(|len| at + len <= written) else { break };
        events += 1;
        at += len;
    }
    events
}

fn number_of(frame: &[u8], kind: u8) -> Option<u32> {
    match *frame.get(..SHORT_LEN)? {
        [VERSION, found, a, b, c, d] if found == kind => Some(u32::from_be_bytes([a, b, c, d])),
        _ => None,
    }
}

fn frame_len(frame: &[u8]) -> Option<usize> {
    match frame.get(1)? {
        &DATA => {
            let len = frame.get(SHORT_LEN..DATA_HEAD_LEN)?.try_into().map(u32::from_be_bytes).ok()?;
            Some(DATA_HEAD_LEN + len as usize)
        }
        _ => Some(SHORT_LEN + number_of(frame, COMPRESSED)? as usize),
    }
}

/// Reads acknowledgements out of what arrives, however it is cut.
#[derive(Debug, Default)]
pub(super) struct AckReader {
    frame: [u8; SHORT_LEN],
    len: usize,
}

/// What arrived is no acknowledgement; its first byte tells why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoAck(pub(super) u8);

impl AckReader {
    /// Takes one byte; a sequence number once a frame is whole. 0 says that the peer is still at work.
    pub(super) fn push(&mut self, byte: u8) -> Result<Option<u32>, NoAck> {
        let fits = match self.len {
            0 => byte == VERSION,
            1 => byte == ACK,
            _ => true,
        };
        let Some(place) = self.frame.get_mut(self.len).filter(|_| fits) else {
            return Err(NoAck(if self.len == 0 { byte } else { self.frame[0] }));
        };
        *place = byte;
        self.len += 1;
        if self.len < SHORT_LEN {
            return Ok(None);
        }
        self.len = 0;
        Ok(number_of(&self.frame, ACK))
    }

    /// Whether nothing of a further acknowledgement has arrived.
    pub(super) fn is_between(&self) -> bool {
        self.len == 0
    }
}
