//! Durations as people write them, in the common settings and in a destination's own: `"1h30m"`.

use std::time::Duration;

/// The units, greatest first, in milliseconds.
pub const DURATION_UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
/// What a duration looks like, for an error.
pub const DURATION_EXPECTED: &str =
    "a duration such as \"30s\", \"200ms\" or \"1h30m\" (units d, h, m, s, ms)";

/// Reads a duration: one or more of a whole number and a unit, greatest unit first. `None` if it is not one.
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let mut total_ms: u64 = 0;
    let mut unit_before = u64::MAX;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let (number, after) = number(rest)?;
        let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, next) = after.split_at_checked(letters)?;
        let &(_, unit_ms) = DURATION_UNITS.iter().find(|(name, _)| *name == unit)?;
        if unit_ms >= unit_before {
            return None;
        }
        unit_before = unit_ms;
        total_ms = total_ms.checked_add(number.checked_mul(unit_ms)?)?;
        rest = next;
    }
    Some(Duration::from_millis(total_ms))
}

fn number(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, rest) = text.split_at_checked(digits)?;
    Some((number.parse().ok()?, rest))
}
