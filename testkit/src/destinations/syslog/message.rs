//! Reads one message as strictly as RFC 5424 has it. <https://www.rfc-editor.org/rfc/rfc5424#section-6>

/// A message, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message<'a> {
    pub(super) priority: u8,
    pub(super) fields: Vec<&'a str>,
    pub(super) content: &'a [u8],
}

/// TIMESTAMP, HOSTNAME, APP-NAME, PROCID, MSGID with their greatest lengths.
const FIELDS: [usize; 5] = [32, 255, 48, 128, 32];

/// Takes a message apart; `None` if it is none.
pub(super) fn read(message: &[u8]) -> Option<Message<'_>> {
    let rest = message.strip_prefix(b"<")?;
    let end = rest.iter().position(|&byte| byte == b'>')?;
    let digits = std::str::from_utf8(rest.get(..end)?).ok()?;
    let priority: u8 = digits.parse().ok().filter(|&priority| priority <= 191)?;
    if digits != priority.to_string() {
        return None;
    }
    let mut rest = rest.get(end + 1..)?.strip_prefix(b"1 ")?;
    let mut fields = Vec::new();
    for len_max in FIELDS {
        let end = rest.iter().position(|&byte| byte == b' ')?;
        let field = rest.get(..end)?;
        if field.is_empty() || field.len() > len_max || !field.iter().all(u8::is_ascii_graphic) {
            return None;
        }
        fields.push(std::str::from_utf8(field).ok()?);
        rest = rest.get(end + 1..)?;
    }
    if !is_timestamp(fields.first()?) {
        return None;
    }
    // Structured data is not used by anybody here.
    let content = rest.strip_prefix(b"- ")?;
    Some(Message { priority, fields, content })
}

/// RFC 3339 with at most six digits of a second, or nothing.
fn is_timestamp(text: &str) -> bool {
    let pattern = "0000-00-00T00:00:00";
    let like = |pattern: &str, text: &str| {
        pattern.len() == text.len()
            && pattern.bytes().zip(text.bytes()).all(|(is, byte)| match is {
                b'0' => byte.is_ascii_digit(),
                is => is == byte,
            })
    };
    if text == "-" {
        return true;
    }
    let Some((seconds, rest)) = text.split_at_checked(pattern.len()) else { return false };
    let zone = match rest.strip_prefix('.') {
        None => rest,
        Some(fraction) => {
            let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
            if !(1..=6).contains(&digits) {
                return false;
            }
            &fraction[digits..]
        }
    };
    like(pattern, seconds) && (zone == "Z" || like("+00:00", zone) || like("-00:00", zone))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_message_is_taken_apart() {
        let message = read(b"<110>1 2023-07-10T11:42:01.000Z h cloudtrail - GetObject - {\"a\":1}").unwrap();
        assert_eq!((message.priority, message.content), (110, &b"{\"a\":1}"[..]));
        assert_eq!(message.fields, ["2023-07-10T11:42:01.000Z", "h", "cloudtrail", "-", "GetObject"]);
        for time in ["-", "2023-07-10T11:42:01Z", "2023-07-10T11:42:01.123456+02:00"] {
            assert!(read(format!("<0>1 {time} - - - - - ").as_bytes()).is_some(), "{time}");
        }
    }

    #[test]
    fn what_the_standard_does_not_allow_is_no_message() {
        let long = "x".repeat(33);
        for message in [
            "",
            "{}",
            "<192>1 - - - - - - {}",
            "<007>1 - - - - - - {}",
            "<110>2 - - - - - - {}",
            "<110>1  - - - - - {}",
            "<110>1 - - - - - {}",
            "<110>1 2023-07-10 - - - - - {}",
            "<110>1 2023-07-10T11:42:01 - - - - - {}",
            "<110>1 2023-07-10T11:42:01.Z - - - - - {}",
            "<110>1 - é - - - - {}",
            &format!("<110>1 - - - - {long} - {{}}"),
        ] {
            assert_eq!(read(message.as_bytes()), None, "{message}");
        }
    }
}
