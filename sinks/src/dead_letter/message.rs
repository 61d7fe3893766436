//! Dead letters as messages of a queue, whose length is limited, and how a letter is read from any of its forms.

use std::io::{self, Read as _, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
#[allow(
    clippy::disallowed_types,
    reason = "it is of one member, as we wrote it, and read up to a limit"
)]
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};

use super::Letter;

/// The most bytes of a message. SQS takes 1 MiB by now, but every queue has a limit of its own, which was 256 KiB for
/// all of them before.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SetQueueAttributes.html>
pub const MESSAGE_BYTES_MAX: usize = 256 * 1024;

/// A compressed letter is not read beyond this.
const LETTER_BYTES_MAX: u64 = 64 << 20;

/// What a letter is wrapped in that is too long for a message as it stands.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wrapped {
    v: u32,
    /// Always [`ENCODING`].
    encoding: String,
    letter: String,
}

const ENCODING: &str = "gzip+base64";

impl Letter {
    /// The letter as the text of one message of at most [`MESSAGE_BYTES_MAX`].
    ///
    /// As it stands if it fits; else compressed; else without its record, which the log file still has.
    ///
    /// # Errors
    /// None that a letter can cause.
    pub fn to_message(&self) -> io::Result<String> {
        let plain = serde_json::to_string(self)?;
        if plain.len() <= MESSAGE_BYTES_MAX && plain.chars().all(is_allowed) {
            return Ok(plain);
        }
        let wrapped = wrap(&plain)?;
        if wrapped.len() <= MESSAGE_BYTES_MAX {
            return Ok(wrapped);
        }
        let without = Self { record: None, record_base64: None, record_omitted: true, ..self.clone() };
        wrap(&serde_json::to_string(&without)?)
    }

    /// Reads a letter from a line of a file or the text of a message.
    ///
    /// # Errors
    /// What it is instead.
    pub fn read(text: &str) -> Result<Self, String> {
        let no_letter = |error: &dyn std::fmt::Display| format!("not a dead letter: {error}");
        let letter: Self = match serde_json::from_str::<Wrapped>(text) {
            Ok(wrapped) => {
                let plain = unwrap(&wrapped).map_err(|error| no_letter(&error))?;
                serde_json::from_slice(&plain).map_err(|error| no_letter(&error))?
            }
            Err(_) => serde_json::from_str(text).map_err(|error| no_letter(&error))?,
        };
        if letter.v != 1 {
            return Err(format!("a dead letter of version {}, which this agent does not know", letter.v));
        }
        Ok(letter)
    }
}

/// Characters that SQS takes; what serde leaves of the others are two, since it escapes controls.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html>
fn is_allowed(c: char) -> bool {
    !matches!(c, '\u{fffe}' | '\u{ffff}')
}

fn wrap(plain: &str) -> io::Result<String> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    encoder.write_all(plain.as_bytes())?;
    let letter = STANDARD.encode(encoder.finish()?);
    Ok(serde_json::to_string(&Wrapped { v: 1, encoding: ENCODING.to_owned(), letter })?)
}

fn unwrap(wrapped: &Wrapped) -> Result<Vec<u8>, String> {
    if wrapped.encoding != ENCODING {
        return Err(format!("the encoding \"{}\" is not known", wrapped.encoding));
    }
    let bytes = STANDARD.decode(&wrapped.letter).map_err(|error| error.to_string())?;
    let mut plain = Vec::new();
    #[allow(clippy::disallowed_types, reason = "see above")]
    let read = GzDecoder::new(bytes.as_slice()).take(LETTER_BYTES_MAX).read_to_end(&mut plain);
    read.map(|_| plain).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::SystemTime;

    use super::*;
    use crate::testing::Sample;
    use crate::{Reason, ReasonCode};

    fn letter(record: &str) -> Letter {
        let why = Reason::new(ReasonCode::Mapping, "no");
        Letter::of_event(
            "search",
            "elasticsearch",
            &Sample::new(record).event(),
            &why,
            SystemTime::UNIX_EPOCH,
        )
    }

    #[track_caller]
    fn survives(letter: &Letter) -> String {
        let message = letter.to_message().unwrap();
        assert!(message.len() <= MESSAGE_BYTES_MAX);
        assert!(message.chars().all(is_allowed));
        assert_eq!(&Letter::read(&message).unwrap(), letter);
        message
    }

    #[test]
    fn a_letter_is_one_readable_message() {
        let message = survives(&letter(r#"{"eventID":"a"}"#));
        assert!(message.contains(r#""record":"{\"eventID\":\"a\"}""#), "{message}");
    }

    #[test]
    fn a_long_letter_is_compressed_and_so_is_one_with_characters_that_no_message_has() {
        let long = survives(&letter(&format!(r#"{{"a":"{}"}}"#, "x".repeat(300_000))));
        assert!(long.starts_with(r#"{"v":1,"encoding":"gzip+base64","letter":""#));
        survives(&letter("{\"a\":\"\u{ffff}\"}"));
    }

    #[test]
    fn one_that_is_too_long_all_the_same_names_its_record_and_leaves_it_out() {
        let mut state = 1_u64;
        let noise: String = (0..600_000)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                char::from(b'0' + (state >> 60) as u8)
            })
            .collect();
        let whole = letter(&format!(r#"{{"a":"{noise}"}}"#));
        let message = whole.to_message().unwrap();
        assert!(message.len() <= MESSAGE_BYTES_MAX);
        let read = Letter::read(&message).unwrap();
        assert!(read.record_omitted && read.record.is_none());
        assert_eq!((read.key, read.record_sha256), (whole.key, whole.record_sha256));
    }

    #[test]
    fn what_is_no_letter_is_said_to_be_none() {
        for (text, error) in [
            ("", "not a dead letter"),
            ("{}", "not a dead letter"),
            (r#"{"v":1,"encoding":"zstd","letter":""}"#, "encoding \"zstd\" is not known"),
            (r#"{"v":1,"encoding":"gzip+base64","letter":"AAAA"}"#, "not a dead letter"),
        ] {
            let found = Letter::read(text).unwrap_err();
            assert!(found.contains(error), "{text}: {found}");
        }
        let second = Letter { v: 2, ..letter("{}") };
        assert!(Letter::read(&serde_json::to_string(&second).unwrap()).unwrap_err().contains("version 2"));
    }
}
