//! From the bytes of the object to inflated bytes: none, one or two layers of gzip, within limits.

use flate2::{Decompress, FlushDecompress, Status};

use super::{Limits, ReadError};

const MAGIC: [u8; 2] = [0x1f, 0x8b];

/// The window of deflate, as a power of two; gzip has no other.
const WINDOW_BITS: u8 = 15;

/// The ratio is not judged before this many bytes: a small file of equal events inflates a lot.
const RATIO_GRACE_BYTES: u64 = 8 << 20;

/// Bytes held between two layers of gzip.
const BETWEEN_BYTES: usize = 16 << 10;

/// Takes pushed bytes apart layer by layer. Layers are told by content, never by name or header.
#[derive(Debug)]
pub(super) struct Inflater {
    outer: Layer,
    inner: Layer,
    between: Vec<u8>,
    /// How much of `between` the inner layer has taken.
    taken: usize,
    bytes_in: u64,
    bytes_between: u64,
    bytes_out: u64,
    bytes_max: u64,
    ratio_max: u32,
}

impl Inflater {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            outer: Layer::Start,
            inner: Layer::Start,
            between: Vec::with_capacity(BETWEEN_BYTES),
            taken: 0,
            bytes_in: 0,
            bytes_between: 0,
            bytes_out: 0,
            bytes_max: limits.inflated_bytes_max,
            ratio_max: limits.ratio_max,
        }
    }

    /// Inflated bytes so far.
    pub(super) fn bytes_out(&self) -> u64 {
        self.bytes_out
    }

    /// Pushed bytes taken so far.
    pub(super) fn bytes_in(&self) -> u64 {
        self.bytes_in
    }

    /// Inflates until the input is used up or `out` is full. What is in `out` on an error is good.
    pub(super) fn fill(&mut self, input: &mut &[u8], out: &mut Vec<u8>) -> Result<(), ReadError> {
        loop {
            self.drain(out)?;
            if out.len() == out.capacity() {
                return Ok(());
            }
            if matches!(self.inner, Layer::Plain) {
                let (bytes_before, left_before) = (out.len(), input.len());
                let read = self.outer.read(input, out);
                self.bytes_in += (left_before - input.len()) as u64;
                self.bytes_out += (out.len() - bytes_before) as u64;
                read.map_err(|fault| fault.at(self.bytes_in))?;
                return self.judge(self.bytes_out);
            }
            self.between.clear();
            self.taken = 0;
            let left_before = input.len();
            let read = self.outer.read(input, &mut self.between);
            self.bytes_in += (left_before - input.len()) as u64;
            self.bytes_between += self.between.len() as u64;
            if read.is_err() {
                self.drain(out)?;
            }
            read.map_err(|fault| fault.at(self.bytes_in))?;
            self.judge(self.bytes_between)?;
            if self.between.is_empty() {
                return Ok(());
            }
        }
    }

    /// Ends the input. What is in `out` on an error is good.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), ReadError> {
        let bytes_before = out.len();
        let ended = self.outer.finish(out).and_then(|()| self.inner.finish(out));
        self.bytes_out += (out.len() - bytes_before) as u64;
        ended.map_err(|fault| fault.at(self.bytes_in))
    }

    /// Passes on what lies between the layers, and what the inner one holds back.
    fn drain(&mut self, out: &mut Vec<u8>) -> Result<(), ReadError> {
        let mut rest = self.between.get(self.taken..).unwrap_or_default();
        let (bytes_before, left_before) = (out.len(), rest.len());
        let read = self.inner.read(&mut rest, out);
        self.taken += left_before - rest.len();
        self.bytes_out += (out.len() - bytes_before) as u64;
        read.map_err(|fault| fault.at(self.bytes_in))?;
        self.judge(self.bytes_out)
    }

    fn judge(&self, bytes: u64) -> Result<(), ReadError> {
        if bytes > self.bytes_max {
            return Err(ReadError::InflatedLimit { limit: self.bytes_max });
        }
        let allowed = self.bytes_in.saturating_mul(u64::from(self.ratio_max));
        if bytes > RATIO_GRACE_BYTES && bytes > allowed {
            return Err(ReadError::RatioLimit { limit: self.ratio_max });
        }
        Ok(())
    }
}

/// What is wrong with a layer.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Corrupt,
    Truncated,
    Trailing,
}

impl Fault {
    fn at(self, offset: u64) -> ReadError {
        match self {
            Fault::Corrupt => ReadError::Gzip { offset },
            Fault::Truncated => ReadError::Truncated { offset },
            Fault::Trailing => ReadError::TrailingGarbage { offset },
        }
    }
}

/// One layer: gzip, or nothing.
#[derive(Debug)]
enum Layer {
    /// Nothing was seen yet.
    Start,
    /// The first byte of gzip's magic number was seen, and is held back.
    Magic,
    Plain,
    Gzip(Gunzip),
}

impl Layer {
    fn read(&mut self, input: &mut &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
        while out.len() < out.capacity() {
            match self {
                Layer::Gzip(gunzip) => return gunzip.read(input, out),
                Layer::Plain => {
                    let room = out.capacity() - out.len();
                    let (now, later) = input.split_at(room.min(input.len()));
                    out.extend_from_slice(now);
                    *input = later;
                    return Ok(());
                }
                Layer::Start | Layer::Magic => {
                    let Some((&byte, rest)) = input.split_first() else { return Ok(()) };
                    match (&self, byte) {
                        (Layer::Start, 0x1f) => {
                            *input = rest;
                            *self = Layer::Magic;
                        }
                        (Layer::Magic, 0x8b) => {
                            *input = rest;
                            *self = Layer::Gzip(Gunzip::started()?);
                        }
                        (Layer::Magic, _) => {
                            out.push(0x1f);
                            *self = Layer::Plain;
                        }
                        _ => *self = Layer::Plain,
                    }
                }
            }
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), Fault> {
        match self {
            Layer::Magic => out.push(0x1f),
            Layer::Gzip(gunzip) if matches!(gunzip.place, Place::Member) => return Err(Fault::Truncated),
            _ => {}
        }
        Ok(())
    }
}

/// All members of a gzip stream, one after the other; each one's CRC and length is verified.
///
/// Source: <https://www.rfc-editor.org/rfc/rfc1952>
#[derive(Debug)]
struct Gunzip {
    member: Decompress,
    place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Member,
    Between,
    /// Zero bytes after the last member, as some tools leave them.
    Padding,
}

impl Gunzip {
    /// A stream whose magic number was read before.
    fn started() -> Result<Self, Fault> {
        let mut member = Decompress::new_gzip(WINDOW_BITS);
        let mut none = Vec::with_capacity(1);
        match member.decompress_vec(&MAGIC, &mut none, FlushDecompress::None) {
            Ok(_) if member.total_in() == MAGIC.len() as u64 => Ok(Self { member, place: Place::Member }),
            _ => Err(Fault::Corrupt),
        }
    }

    fn read(&mut self, input: &mut &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
        while out.len() < out.capacity() {
            match self.place {
                Place::Member => {
                    if !self.read_member(input, out)? {
                        return Ok(());
                    }
                }
                Place::Between => match input.first() {
                    None => return Ok(()),
                    Some(0x1f) => {
                        self.member = Decompress::new_gzip(WINDOW_BITS);
                        self.place = Place::Member;
                    }
                    Some(0) => self.place = Place::Padding,
                    Some(_) => return Err(Fault::Trailing),
                },
                Place::Padding => {
                    if input.iter().any(|byte| *byte != 0) {
                        return Err(Fault::Trailing);
                    }
                    *input = &[];
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Goes on within a member; false when that needs more input.
    fn read_member(&mut self, input: &mut &[u8], out: &mut Vec<u8>) -> Result<bool, Fault> {
        let (consumed_before, bytes_before) = (self.member.total_in(), out.len());
        let status = self.member.decompress_vec(input, out, FlushDecompress::None);
        let consumed = (self.member.total_in() - consumed_before) as usize;
        *input = input.get(consumed..).unwrap_or_default();
        match status.map_err(|_| Fault::Corrupt)? {
            Status::StreamEnd => {
                self.place = Place::Between;
                Ok(true)
            }
            Status::Ok | Status::BufError => Ok(consumed > 0 || out.len() > bytes_before),
        }
    }
}
