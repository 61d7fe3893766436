//! The content of JSON strings: taking escapes out of it, and putting them in.

/// The text of a JSON string's content. A lone surrogate becomes U+FFFD.
///
/// Total: an escape that JSON does not know stays as it is.
#[must_use]
pub fn unescape(raw: &[u8]) -> String {
    let mut bytes = raw.to_vec();
    let len = unescape_in_place(&mut bytes);
    bytes.truncate(len);
    match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    }
}

/// Takes the escapes out of a JSON string's content where it stands; returns its new length.
///
/// No escape is shorter than what it stands for, so the text never outgrows its place.
pub(crate) fn unescape_in_place(bytes: &mut [u8]) -> usize {
    let (mut read, mut written) = (0, 0);
    while let Some(rest) = bytes.get(read..) {
        let run = memchr::memchr(b'\\', rest).unwrap_or(rest.len());
        bytes.copy_within(read..read + run, written);
        read += run;
        written += run;
        let Some(escape) = bytes.get(read..).filter(|escape| !escape.is_empty()) else { break };
        let (character, consumed) = decode_escape(escape);
        let mut buffer = [0; 4];
        let encoded = character.encode_utf8(&mut buffer).as_bytes();
        if let Some(place) = bytes.get_mut(written..written + encoded.len()) {
            place.copy_from_slice(encoded);
        }
        read += consumed;
        written += encoded.len();
    }
    written
}

/// The character of the escape that `bytes` open with, and the escape's length.
fn decode_escape(bytes: &[u8]) -> (char, usize) {
    let simple = match bytes.get(1) {
        Some(b'"') => '"',
        Some(b'\\') => '\\',
        Some(b'/') => '/',
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(b'n') => '\n',
        Some(b'r') => '\r',
        Some(b't') => '\t',
        Some(b'u') => return decode_unicode(bytes),
        _ => return ('\\', 1),
    };
    (simple, 2)
}

fn decode_unicode(bytes: &[u8]) -> (char, usize) {
    let Some(first) = bytes.get(2..6).and_then(hex) else { return ('\\', 1) };
    if !(0xd800..0xe000).contains(&first) {
        return (char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER), 6);
    }
    let second = bytes.get(6..8).filter(|mark| *mark == b"\\u").and_then(|_| bytes.get(8..12).and_then(hex));
    match second {
        Some(second) if first < 0xdc00 && (0xdc00..0xe000).contains(&second) => {
            let code = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
            (char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), 12)
        }
        _ => (char::REPLACEMENT_CHARACTER, 6),
    }
}

fn hex(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |sum, &digit| Some(sum * 16 + char::from(digit).to_digit(16)?))
}

/// The first byte from `at` on that a JSON string cannot hold as it is: quote, backslash, control character.
#[inline(always)]
pub(crate) fn special(bytes: &[u8], mut at: usize) -> Option<usize> {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGHS: u64 = ONES << 7;
    // Eight bytes at a time. A subtraction borrows only into higher bytes, so the lowest mark is exact.
    while let Some(word) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let word = u64::from_le_bytes(*word);
        let quote = word ^ (ONES * b'"' as u64);
        let backslash = word ^ (ONES * b'\\' as u64);
        let marks = (quote.wrapping_sub(ONES) & !quote)
            | (backslash.wrapping_sub(ONES) & !backslash)
            | (word.wrapping_sub(ONES * 0x20) & !word);
        let marks = marks & HIGHS;
        if marks != 0 {
            return Some(at + (marks.trailing_zeros() / 8) as usize);
        }
        at += 8;
    }
    let rest = bytes.get(at..)?;
    rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f)).map(|place| at + place)
}

/// Writes `text` as a JSON string, quotes included, on one line.
pub fn write_string(text: &str, out: &mut Vec<u8>) {
    let bytes = text.as_bytes();
    let mut start = 0;
    out.push(b'"');
    while let Some(at) = special(bytes, start) {
        out.extend_from_slice(bytes.get(start..at).unwrap_or_default());
        match bytes.get(at) {
            Some(b'"') => out.extend_from_slice(b"\\\""),
            Some(b'\\') => out.extend_from_slice(b"\\\\"),
            Some(b'\n') => out.extend_from_slice(b"\\n"),
            Some(b'\r') => out.extend_from_slice(b"\\r"),
            Some(b'\t') => out.extend_from_slice(b"\\t"),
            Some(byte) => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            None => {}
        }
        start = at + 1;
    }
    out.extend_from_slice(bytes.get(start..).unwrap_or_default());
    out.push(b'"');
}

/// The length in bytes of what [`write_string`] writes.
#[must_use]
pub fn string_len(text: &str) -> usize {
    let bytes = text.as_bytes();
    let (mut len, mut start) = (bytes.len() + 2, 0);
    while let Some(at) = special(bytes, start) {
        len += match bytes.get(at) {
            Some(b'"' | b'\\' | b'\n' | b'\r' | b'\t') => 1,
            _ => 5,
        };
        start = at + 1;
    }
    len
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_escape_becomes_its_character() {
        assert_eq!(unescape(br#"a\"b\\c\/d\be\ff\ng\rh\ti"#), "a\"b\\c/d\u{8}e\u{c}f\ng\rh\ti");
        assert_eq!(unescape(br"5:40:12\u202fPM \u003c \u00e9 \u00E9"), "5:40:12\u{202f}PM < é é");
        assert_eq!(unescape(br"\ud83d\ude00!"), "😀!");
        assert_eq!(unescape(br"\ud800\udc00 \uDBFF\uDFFF"), "\u{10000} \u{10ffff}");
        assert_eq!(unescape(br"\ud7ff \ue000 \uffff"), "\u{d7ff} \u{e000} \u{ffff}");
        assert_eq!(unescape(br"\\u0041"), "\\u0041");
    }

    #[test]
    fn a_lone_surrogate_becomes_the_replacement_character() {
        assert_eq!(unescape(br"\ud83d"), "\u{fffd}");
        assert_eq!(unescape(br"\ude00x"), "\u{fffd}x");
        assert_eq!(unescape(br"\ud83dA\n"), "\u{fffd}A\n");
        assert_eq!(unescape(br"\ud83d\ud83d\ude00"), "\u{fffd}😀");
        assert_eq!(unescape(br"\ud83d\u0041"), "\u{fffd}A");
        assert_eq!(unescape(br"C:\\u00 \ud800"), "C:\\u00 \u{fffd}");
    }

    #[test]
    fn what_json_does_not_know_stays() {
        assert_eq!(unescape(br"\x \u12 \u12g4 \"), r"\x \u12 \u12g4 \");
        assert_eq!(unescape(b"\xff\\n"), "\u{fffd}\n");
    }

    proptest! {
        #[test]
        fn unescaping_agrees_with_serde_json(text in "\\PC*|[\\x00-\\x7f]*") {
            let quoted = serde_json::to_string(&text).unwrap();
            prop_assert_eq!(unescape(&quoted.as_bytes()[1..quoted.len() - 1]), text);
        }

        #[test]
        fn what_is_written_reads_as_itself(text in "\\PC*|[\\x00-\\x7f]*") {
            let mut out = Vec::new();
            write_string(&text, &mut out);
            prop_assert!(!out.iter().any(|byte| *byte < 0x20));
            prop_assert_eq!(out.len(), string_len(&text));
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }

        #[test]
        fn no_bytes_make_it_panic_or_grow(bytes in "(\\\\|u|d83d|ude00|[0-9a-f\"n]|.){0,40}") {
            let mut copy = bytes.clone().into_bytes();
            prop_assert!(unescape_in_place(&mut copy) <= bytes.len());
        }
    }
}
