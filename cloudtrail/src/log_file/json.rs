//! JSON in a buffer that may end anywhere: tokens are checked in full, and what is skipped can be resumed.

use crate::text::special;

/// Why the scan of a buffer does not go on. Positions count from the buffer's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// More bytes are needed.
    More,
    /// As many events were found as one chunk may hold.
    Full,
    /// The byte at this position is wrong.
    Bad(usize),
    /// Nesting becomes too deep at this position.
    Deep(usize),
    /// What begins at this position is too large.
    Large(usize),
}

/// The deepest nesting that can be tracked, whatever the limit says.
pub(super) const DEPTH_TRACKED: u32 = 256;

/// The byte at `at`.
#[inline(always)]
pub(super) fn peek(bytes: &[u8], at: usize) -> Result<u8, Stop> {
    bytes.get(at).copied().ok_or(Stop::More)
}

/// Skips whitespace; notes whether a line break was in it.
#[inline(always)]
pub(super) fn space(bytes: &[u8], at: usize, breaks: &mut bool) -> usize {
    match bytes.get(at) {
        Some(byte) if *byte <= b' ' => space_run(bytes, at, breaks),
        _ => at,
    }
}

#[cold]
fn space_run(bytes: &[u8], mut at: usize, breaks: &mut bool) -> usize {
    loop {
        match bytes.get(at) {
            Some(b' ' | b'\t') => at += 1,
            Some(b'\n' | b'\r') => {
                *breaks = true;
                at += 1;
            }
            _ => return at,
        }
    }
}

/// Checks a string whose content begins at `at`; returns where its closing quote is, and whether it has escapes.
#[inline(always)]
pub(super) fn string(bytes: &[u8], at: usize) -> Result<(usize, bool), Stop> {
    match special(bytes, at) {
        Some(end) if bytes.get(end) == Some(&b'"') => Ok((end, false)),
        Some(end) => string_escaped(bytes, end).map(|end| (end, true)),
        None => Err(Stop::More),
    }
}

/// Goes on with a string at its first backslash or control character.
fn string_escaped(bytes: &[u8], mut at: usize) -> Result<usize, Stop> {
    loop {
        match peek(bytes, at)? {
            b'"' => return Ok(at),
            b'\\' => at = escape(bytes, at)?,
            _ => return Err(Stop::Bad(at)),
        }
        at = special(bytes, at).ok_or(Stop::More)?;
    }
}

fn escape(bytes: &[u8], at: usize) -> Result<usize, Stop> {
    match peek(bytes, at + 1)? {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Ok(at + 2),
        b'u' => {
            for digit in at + 2..at + 6 {
                if !peek(bytes, digit)?.is_ascii_hexdigit() {
                    return Err(Stop::Bad(digit));
                }
            }
            Ok(at + 6)
        }
        _ => Err(Stop::Bad(at + 1)),
    }
}

/// Checks a number or a literal; returns what follows it.
#[inline(always)]
pub(super) fn scalar(bytes: &[u8], at: usize) -> Result<usize, Stop> {
    match peek(bytes, at)? {
        b't' => literal(bytes, at, b"true"),
        b'f' => literal(bytes, at, b"false"),
        b'n' => literal(bytes, at, b"null"),
        b'-' | b'0'..=b'9' => number(bytes, at),
        _ => Err(Stop::Bad(at)),
    }
}

#[inline(always)]
fn literal(bytes: &[u8], at: usize, word: &[u8]) -> Result<usize, Stop> {
    let there = bytes.get(at..).unwrap_or_default();
    if there.starts_with(word) {
        Ok(at + word.len())
    } else if word.starts_with(there) {
        Err(Stop::More)
    } else {
        Err(Stop::Bad(at))
    }
}

fn number(bytes: &[u8], start: usize) -> Result<usize, Stop> {
    let mut at = start + usize::from(peek(bytes, start)? == b'-');
    match peek(bytes, at)? {
        b'0' => at += 1,
        b'1'..=b'9' => at = digits(bytes, at)?,
        _ => return Err(Stop::Bad(at)),
    }
    if peek(bytes, at)? == b'.' {
        at = digits(bytes, at + 1)?;
    }
    if matches!(peek(bytes, at)?, b'e' | b'E') {
        at += 1 + usize::from(matches!(peek(bytes, at + 1)?, b'+' | b'-'));
        at = digits(bytes, at)?;
    }
    Ok(at)
}

/// Skips digits, of which there has to be at least one.
fn digits(bytes: &[u8], start: usize) -> Result<usize, Stop> {
    let mut at = start;
    while peek(bytes, at)?.is_ascii_digit() {
        at += 1;
    }
    if at == start { Err(Stop::Bad(at)) } else { Ok(at) }
}

/// What may come next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expect {
    Value,
    ElementOrEnd,
    Key,
    KeyOrEnd,
    Colon,
    /// A comma or the end of the container.
    Rest,
}

/// Skips one value and checks it on the way. It can stop between any two tokens and go on with more bytes.
#[derive(Clone, Debug)]
pub(super) struct Walk {
    expect: Expect,
    depth: u32,
    depth_max: u32,
    /// One bit for every open container: set for an object.
    objects: [u64; (DEPTH_TRACKED / 64) as usize],
}

impl Walk {
    /// A walk over a value in which containers may be nested `depth_max` deep.
    #[inline(always)]
    pub(super) fn new(depth_max: u32) -> Self {
        Self {
            expect: Expect::Value,
            depth: 0,
            depth_max: depth_max.min(DEPTH_TRACKED),
            objects: [0; (DEPTH_TRACKED / 64) as usize],
        }
    }

    /// Goes on at `position` until the value has ended, which leaves `position` behind it.
    ///
    /// On [`Stop::More`] `position` is where the token begins that is not whole yet.
    pub(super) fn run(&mut self, bytes: &[u8], position: &mut usize, breaks: &mut bool) -> Result<(), Stop> {
        let mut at = *position;
        loop {
            at = space(bytes, at, breaks);
            *position = at;
            let byte = peek(bytes, at)?;
            match self.expect {
                Expect::Value | Expect::ElementOrEnd => match byte {
                    b'"' => {
                        at = string(bytes, at + 1)?.0 + 1;
                        self.expect = Expect::Rest;
                    }
                    b'{' => {
                        self.enter(true, at)?;
                        at += 1;
                        self.expect = Expect::KeyOrEnd;
                    }
                    b'[' => {
                        self.enter(false, at)?;
                        at += 1;
                        self.expect = Expect::ElementOrEnd;
                    }
                    b']' if self.expect == Expect::ElementOrEnd => at = self.leave(at),
                    _ => {
                        at = scalar(bytes, at)?;
                        self.expect = Expect::Rest;
                    }
                },
                Expect::Key | Expect::KeyOrEnd => match byte {
                    b'"' => {
                        at = string(bytes, at + 1)?.0 + 1;
                        self.expect = Expect::Colon;
                        // Nearly always the colon stands right behind.
                        if bytes.get(at) == Some(&b':') {
                            at += 1;
                            self.expect = Expect::Value;
                        }
                    }
                    b'}' if self.expect == Expect::KeyOrEnd => at = self.leave(at),
                    _ => return Err(Stop::Bad(at)),
                },
                Expect::Colon if byte == b':' => {
                    at += 1;
                    self.expect = Expect::Value;
                }
                Expect::Rest => match (byte, self.in_object()) {
                    (b',', true) => {
                        at += 1;
                        self.expect = Expect::Key;
                    }
                    (b',', false) => {
                        at += 1;
                        self.expect = Expect::Value;
                    }
                    (b'}', true) | (b']', false) => at = self.leave(at),
                    _ => return Err(Stop::Bad(at)),
                },
                Expect::Colon => return Err(Stop::Bad(at)),
            }
            if self.depth == 0 && self.expect == Expect::Rest {
                *position = at;
                return Ok(());
            }
        }
    }

    #[inline(always)]
    fn enter(&mut self, object: bool, at: usize) -> Result<(), Stop> {
        if self.depth >= self.depth_max {
            return Err(Stop::Deep(at));
        }
        if let Some(word) = self.objects.get_mut((self.depth / 64) as usize) {
            let bit = 1 << (self.depth % 64);
            *word = if object { *word | bit } else { *word & !bit };
        }
        self.depth += 1;
        Ok(())
    }

    #[inline(always)]
    fn leave(&mut self, at: usize) -> usize {
        self.depth -= 1;
        self.expect = Expect::Rest;
        at + 1
    }

    #[inline(always)]
    fn in_object(&self) -> bool {
        let top = self.depth.wrapping_sub(1);
        self.objects.get((top / 64) as usize).is_some_and(|word| word >> (top % 64) & 1 == 1)
    }
}

/// Skips the value at `at`, all of which has to be there; returns what follows it.
#[inline(always)]
pub(super) fn skip(bytes: &[u8], at: usize, depth_max: u32, breaks: &mut bool) -> Result<usize, Stop> {
    match peek(bytes, at)? {
        b'"' => Ok(string(bytes, at + 1)?.0 + 1),
        b'{' | b'[' => {
            let mut end = at;
            Walk::new(depth_max).run(bytes, &mut end, breaks)?;
            Ok(end)
        }
        _ => scalar(bytes, at),
    }
}
