//! Characters that a terminal or an editor would obey, written so that they are only shown.

use std::io;

/// Whether a character moves the cursor, begins another line, or changes the order in which letters are read.
fn is_obeyed(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Adds a text of one line to `out`.
pub(super) fn escape(text: &str, out: &mut String) {
    for c in text.chars() {
        if is_obeyed(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
}

/// A text of any number of lines.
pub fn escaped_lines(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (number, line) in text.split('\n').enumerate() {
        if number > 0 {
            out.push('\n');
        }
        escape(line, &mut out);
    }
    out
}

/// Takes lines of JSON and escapes in them what serde_json leaves as it is: the second half of the control characters,
/// among which are a terminal's commands, and marks that change the order of letters. They can only stand in strings.
pub(super) struct JsonLines<W>(pub(super) W);

impl<W: io::Write> io::Write for JsonLines<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes).map(|()| bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let whole = std::str::from_utf8(bytes).ok().filter(|text| text.chars().any(is_escaped));
        let Some(text) = whole else { return self.0.write_all(bytes) };
        let mut out = String::with_capacity(text.len() + 16);
        for c in text.chars() {
            if is_escaped(c) {
                // All of them have four digits at most.
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            } else {
                out.push(c);
            }
        }
        self.0.write_all(out.as_bytes())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// The ends of lines are the format's own; serde_json has escaped all others.
fn is_escaped(c: char) -> bool {
    c != '\n' && is_obeyed(c)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Write as _;

    use super::*;

    #[test]
    fn json_keeps_its_meaning_and_loses_what_a_terminal_obeys() {
        let evil = "a\u{9b}2J\u{7f}\u{202e}\u{1b}[2J\u{85}é\n";
        let line = serde_json::json!({ "key": evil }).to_string() + "\n";
        assert!(line.contains('\u{9b}'), "serde_json leaves it");
        let mut out = JsonLines(Vec::new());
        assert_eq!(out.write(line.as_bytes()).unwrap(), line.len());
        let text = String::from_utf8(out.0).unwrap();
        assert_eq!(text, "{\"key\":\"a\\u009b2J\\u007f\\u202e\\u001b[2J\\u0085é\\n\"}\n");
        let read: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(read["key"], evil);
    }

    #[test]
    fn what_is_said_to_a_person_keeps_its_lines() {
        assert_eq!(escaped_lines("a\u{1b}[2J\nb\rc\n"), "a\\u{1b}[2J\nb\\rc\n");
    }
}
