//! Texts with places that are filled in for each event: `~name~`, or `~name:size~`.

use std::io::Write;

use crate::random::Rng;

/// A piece of a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece {
    /// The text as it stands.
    Text(&'static str),
    /// `~h:N~`: hexadecimal digits, new each time.
    Hex(usize),
    /// `~p:N~`: 17 hexadecimal digits out of a pool of N, as resource ids repeat.
    Pool(usize),
    /// `~k:N~`: 16 capitals and digits out of a pool of N, as access keys repeat.
    Key(usize),
    /// `~b:N~`: base64 characters.
    Base64(usize),
    /// `~n:N~`: a number below N.
    Number(usize),
    /// `~u~`: a UUID.
    Uuid,
    /// A value of the event.
    Value(Value),
}

/// What an event has one of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value {
    Account,
    OtherAccount,
    Region,
    Time,
    SessionTime,
    Epoch,
    Role,
    RolePath,
    RoleId,
    Session,
    Instance,
    User,
    UserId,
    Service,
    Linked,
    Ip,
}

const VALUES: &[(&str, Value)] = &[
    ("acct", Value::Account),
    ("other", Value::OtherAccount),
    ("region", Value::Region),
    ("time", Value::Time),
    ("since", Value::SessionTime),
    ("ms", Value::Epoch),
    ("role", Value::Role),
    ("path", Value::RolePath),
    ("rid", Value::RoleId),
    ("sess", Value::Session),
    ("inst", Value::Instance),
    ("user", Value::User),
    ("uid", Value::UserId),
    ("svc", Value::Service),
    ("slr", Value::Linked),
    ("ip", Value::Ip),
];

/// A text taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template(Vec<Piece>);

impl Template {
    /// Takes a text apart. A place that is not known stays as it stands; a test sees to it that there is none.
    pub(super) fn parse(text: &'static str) -> Self {
        let pieces = text.split('~').enumerate().map(|(at, part)| {
            let place = if at % 2 == 1 { place(part) } else { None };
            place.unwrap_or(Piece::Text(part))
        });
        Self(pieces.filter(|piece| *piece != Piece::Text("")).collect())
    }

    /// Writes the text with its places filled in.
    pub(super) fn write<'a>(&self, rng: &mut Rng, value: impl Fn(Value) -> &'a str, out: &mut Vec<u8>) {
        for piece in &self.0 {
            match *piece {
                Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
                Piece::Value(name) => out.extend_from_slice(value(name).as_bytes()),
                Piece::Hex(size) => hex(rng, size, out),
                Piece::Pool(size) => {
                    let mut member = Rng::stream(0x9001, skewed(rng, size) as u64 ^ (size as u64) << 32);
                    hex(&mut member, 17, out);
                }
                Piece::Key(size) => {
                    let mut member = Rng::stream(0x9002, skewed(rng, size) as u64 ^ (size as u64) << 32);
                    letters(&mut member, 16, b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", out);
                }
                Piece::Base64(size) => {
                    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
                    letters(rng, size, alphabet, out);
                }
                Piece::Number(below) => {
                    // Writing to a vector cannot fail.
                    let _ = write!(out, "{}", rng.below(below));
                }
                Piece::Uuid => uuid(rng.bits(), rng.bits(), out),
            }
        }
    }
}

/// What stands between two tildes; nothing where it is not known.
pub(super) fn place(part: &str) -> Option<Piece> {
    if part == "u" {
        return Some(Piece::Uuid);
    }
    if let Some((_, value)) = VALUES.iter().find(|(name, _)| *name == part) {
        return Some(Piece::Value(*value));
    }
    let (name, size) = part.split_once(':')?;
    let size = size.parse().ok()?;
    match name {
        "h" => Some(Piece::Hex(size)),
        "p" => Some(Piece::Pool(size)),
        "k" => Some(Piece::Key(size)),
        "b" => Some(Piece::Base64(size)),
        "n" => Some(Piece::Number(size)),
        _ => None,
    }
}

/// A number below `n`, small ones more often: a few things are used much, most of them little.
pub(super) fn skewed(rng: &mut Rng, n: usize) -> usize {
    let bits = rng.bits();
    let part = |shift: u32| (((bits >> shift) & 0x1f_ffff) as usize * n) >> 21;
    part(0).min(part(21)).min(part(42))
}

pub(super) fn hex(rng: &mut Rng, size: usize, out: &mut Vec<u8>) {
    let mut left = size;
    while left > 0 {
        let mut bits = rng.bits();
        for _ in 0..left.min(16) {
            out.push(b"0123456789abcdef"[(bits & 15) as usize]);
            bits >>= 4;
        }
        left -= left.min(16);
    }
}

/// Letters of an alphabet whose size is a power of two of at most 64.
pub(super) fn letters(rng: &mut Rng, size: usize, alphabet: &[u8], out: &mut Vec<u8>) {
    let mut left = size;
    while left > 0 {
        let mut bits = rng.bits();
        for _ in 0..left.min(10) {
            out.push(alphabet[bits as usize % alphabet.len()]);
            bits >>= 6;
        }
        left -= left.min(10);
    }
}

/// A version 4 UUID of 128 bits, six of which are fixed.
pub(super) fn uuid(high: u64, low: u64, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let high = high & !0xf000 | 0x4000;
    let low = low & !(0xc << 60) | 0x8 << 60;
    let digit = |bits: u64, at: u32| DIGITS[(bits >> (60 - 4 * at) & 15) as usize];
    let mut text = [b'-'; 36];
    let mut at = 0;
    for place in 0..32 {
        if matches!(place, 8 | 12 | 16 | 20) {
            at += 1;
        }
        text[at] = if place < 16 { digit(high, place) } else { digit(low, place - 16) };
        at += 1;
    }
    out.extend_from_slice(&text);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(text: &'static str) -> String {
        let mut out = Vec::new();
        Template::parse(text).write(&mut Rng::new(1), |_| "VALUE", &mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn places_are_filled_and_other_text_stays() {
        assert_eq!(fill("a ~acct~ b"), "a VALUE b");
        assert_eq!(fill("~h:40~").len(), 40);
        assert_eq!(fill("~p:3~").len(), 17);
        assert_eq!(fill("~k:3~").len(), 16);
        assert_eq!(fill("~b:75~").len(), 75);
        assert_eq!(fill("~n:1~"), "0");
        let id = fill("~u~");
        assert_eq!((id.len(), &id[8..9], &id[14..15]), (36, "-", "4"));
        assert!("89ab".contains(&id[19..20]), "{id}");
    }

    #[test]
    fn an_unknown_place_is_left_for_the_test_to_find() {
        assert_eq!(fill("~nope~"), "nope");
        assert_eq!(Template::parse("x~nope~y").0, [Piece::Text("x"), Piece::Text("nope"), Piece::Text("y")]);
    }

    #[test]
    fn pools_repeat_and_random_digits_do_not() {
        let pooled: std::collections::BTreeSet<String> = {
            let mut rng = Rng::new(1);
            let template = Template::parse("~p:5~");
            let mut draw = || {
                let mut out = Vec::new();
                template.write(&mut rng, |_| "", &mut out);
                String::from_utf8_lossy(&out).into_owned()
            };
            (0..200).map(|_| draw()).collect()
        };
        assert_eq!(pooled.len(), 5);
        assert_ne!(fill("~h:16~~h:16~")[..16], fill("~h:16~~h:16~")[16..]);
    }
}
