//! Hand-offs: the messages in which an agent writes down what a sink is still owed.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// How many ranges one hand-off may hold.
pub const HANDOFF_RANGES_MAX: usize = 64;

/// The one version of the format that is known.
const VERSION: u32 = 1;

/// What one sink is still owed of one log file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handoff {
    /// The log file's bucket.
    pub bucket: String,
    /// The log file's key, not encoded.
    pub key: String,
    /// The version of the log file, where the bucket keeps versions.
    pub version_id: Option<String>,
    /// The ETag of the log file, which stands for the version where there is none.
    pub etag: Option<String>,
    /// The name of the sink.
    pub sink: String,
    /// The events owed: half-open ranges of positions in the log file, ascending, without overlap,
    /// none empty, at most [`HANDOFF_RANGES_MAX`].
    pub ranges: Vec<Range<u64>>,
    /// How often the events were handed off before.
    pub attempts: u32,
    /// When the first notification of the log file was received.
    pub first_seen: Timestamp,
}

/// Why a hand-off cannot be written or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandoffError {
    /// The text is not a list of hand-offs.
    #[error("hand-off is malformed ({0}): was it written by something else than trailship?")]
    Malformed(String),
    /// The version is not known.
    #[error("hand-off has version {0}, this agent knows version 1: update the agent")]
    Version(u64),
    /// The list is empty.
    #[error("hand-off list is empty: leave it out")]
    Empty,
    /// Bucket, key or sink is empty.
    #[error("hand-off has no {0}")]
    Missing(&'static str),
    /// There are no ranges, too many, or some that are empty, overlap or stand in the wrong order.
    #[error("hand-off of {sink} has unusable ranges: give 1 to 64, ascending, without overlap, none empty")]
    Ranges {
        /// The sink's name.
        sink: String,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    #[serde(rename = "trailship.handoff")]
    version: u64,
    bucket: String,
    key: String,
    version_id: Option<String>,
    etag: Option<String>,
    sink: String,
    ranges: Vec<(u64, u64)>,
    attempts: u32,
    first_seen: String,
}

impl Handoff {
    /// Writes hand-offs as the body of a message.
    ///
    /// # Errors
    /// An empty list, and a hand-off that could not be read again.
    pub fn write_list(list: &[Handoff]) -> Result<String, HandoffError> {
        if list.is_empty() {
            return Err(HandoffError::Empty);
        }
        let texts = list.iter().map(Self::write).collect::<Result<Vec<_>, _>>()?;
        Ok(Self::join(&texts))
    }

    /// Writes one hand-off as it stands in a list; in ASCII alone, since a queue does not take every character.
    ///
    /// # Errors
    /// A hand-off that could not be read again.
    pub fn write(&self) -> Result<String, HandoffError> {
        let wire = Wire::from_handoff(self)?;
        let text =
            serde_json::to_string(&wire).map_err(|error| HandoffError::Malformed(error.to_string()))?;
        Ok(if text.is_ascii() { text } else { text.chars().map(ascii).collect() })
    }

    /// The body of a message of these hand-offs, each as [`write`](Self::write) gave it.
    #[must_use]
    pub fn join<T: std::borrow::Borrow<str>>(texts: &[T]) -> String {
        format!("[{}]", texts.join(","))
    }

    /// Reads the body of a message; the inverse of [`write_list`](Self::write_list).
    ///
    /// # Errors
    /// Anything but a list of valid hand-offs of version 1, whole: half of a message is never taken.
    pub fn read_list(text: &str) -> Result<Vec<Handoff>, HandoffError> {
        #[derive(Deserialize)]
        struct Version {
            #[serde(rename = "trailship.handoff")]
            version: u64,
        }
        let malformed = |error: serde_json::Error| HandoffError::Malformed(error.to_string());
        // The version is read first: another one may have other fields.
        let versions: Vec<Version> = serde_json::from_str(text).map_err(malformed)?;
        if let Some(other) = versions.iter().find(|head| head.version != u64::from(VERSION)) {
            return Err(HandoffError::Version(other.version));
        }
        if versions.is_empty() {
            return Err(HandoffError::Empty);
        }
        let wires: Vec<Wire> = serde_json::from_str(text).map_err(malformed)?;
        wires.into_iter().map(Wire::into_handoff).collect()
    }

    /// How many events are owed.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.ranges.iter().map(|range| range.end.saturating_sub(range.start)).fold(0, u64::saturating_add)
    }

    fn checked(self) -> Result<Self, HandoffError> {
        let named = [("bucket", &self.bucket), ("key", &self.key), ("sink", &self.sink)];
        if let Some((name, _)) = named.iter().find(|(_, text)| text.is_empty()) {
            return Err(HandoffError::Missing(name));
        }
        let filled = self.ranges.iter().all(|range| range.start < range.end);
        let apart = self.ranges.windows(2).all(|pair| match pair {
            [left, right] => left.end <= right.start,
            _ => true,
        });
        let countable = (1..=HANDOFF_RANGES_MAX).contains(&self.ranges.len());
        if filled && apart && countable { Ok(self) } else { Err(HandoffError::Ranges { sink: self.sink }) }
    }
}

/// A character inside a JSON string in ASCII.
fn ascii(character: char) -> String {
    if character.is_ascii() {
        return character.to_string();
    }
    let mut units = [0; 2];
    character.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")).collect()
}

impl Wire {
    fn from_handoff(handoff: &Handoff) -> Result<Self, HandoffError> {
        let handoff = handoff.clone().checked()?;
        Ok(Self {
            version: u64::from(VERSION),
            bucket: handoff.bucket,
            key: handoff.key,
            version_id: handoff.version_id,
            etag: handoff.etag,
            sink: handoff.sink,
            ranges: handoff.ranges.into_iter().map(|range| (range.start, range.end)).collect(),
            attempts: handoff.attempts,
            first_seen: handoff.first_seen.to_rfc3339_millis(),
        })
    }

    fn into_handoff(self) -> Result<Handoff, HandoffError> {
        let first_seen = Timestamp::parse(&self.first_seen)
            .ok_or_else(|| HandoffError::Malformed("first_seen is not a time".to_owned()))?;
        Handoff {
            bucket: self.bucket,
            key: self.key,
            version_id: self.version_id,
            etag: self.etag,
            sink: self.sink,
            ranges: self.ranges.into_iter().map(|(start, end)| start..end).collect(),
            attempts: self.attempts,
            first_seen,
        }
        .checked()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use proptest::prelude::*;

    use super::*;

    fn handoff() -> Handoff {
        Handoff {
            bucket: "trail".to_owned(),
            key: "AWSLogs/a b+c.json.gz".to_owned(),
            version_id: Some("v1".to_owned()),
            etag: None,
            sink: "search".to_owned(),
            ranges: vec![0..3, 7..8],
            attempts: 2,
            first_seen: Timestamp::from_millis(1_688_989_321_000),
        }
    }

    #[test]
    fn the_format_is_the_one_that_was_fixed() {
        let text = Handoff::write_list(&[handoff()]).unwrap();
        assert_eq!(
            text,
            r#"[{"trailship.handoff":1,"bucket":"trail","key":"AWSLogs/a b+c.json.gz","version_id":"v1","etag":null,"sink":"search","ranges":[[0,3],[7,8]],"attempts":2,"first_seen":"2023-07-10T11:42:01.000Z"}]"#
        );
        assert_eq!(Handoff::read_list(&text).unwrap(), [handoff()]);
        assert_eq!(handoff().events(), 4);
    }

    #[test]
    fn fields_that_may_be_null_may_be_left_out() {
        let text = r#"[{"trailship.handoff":1,"bucket":"b","key":"k","sink":"s","ranges":[[0,1]],"attempts":0,"first_seen":"2023-07-10T11:42:01Z"}]"#;
        let read = Handoff::read_list(text).unwrap();
        assert_eq!((read[0].version_id.as_deref(), read[0].etag.as_deref()), (None, None));
    }

    #[test]
    fn another_version_is_named_whatever_its_fields() {
        let text = r#"[{"trailship.handoff":2,"something":"new"}]"#;
        assert_eq!(Handoff::read_list(text), Err(HandoffError::Version(2)));
    }

    #[test]
    #[allow(clippy::single_range_in_vec_init, clippy::reversed_empty_ranges)]
    fn unusable_hand_offs_are_neither_written_nor_read() {
        let too_many: Vec<Range<u64>> = (0..65).map(|n| n * 2..n * 2 + 1).collect();
        let odd: [Vec<Range<u64>>; 6] =
            [vec![], vec![3..3], vec![5..4], vec![4..6, 1..2], vec![0..2, 1..3], too_many.clone()];
        for ranges in odd {
            let bad = Handoff { ranges: ranges.clone(), ..handoff() };
            assert!(matches!(Handoff::write_list(&[handoff(), bad]), Err(HandoffError::Ranges { .. })));
            let pairs: Vec<_> = ranges.iter().map(|range| (range.start, range.end)).collect();
            let good = Handoff::write_list(&[handoff()]).unwrap();
            let text = good.replace("[[0,3],[7,8]]", &serde_json::to_string(&pairs).unwrap());
            assert!(matches!(Handoff::read_list(&text), Err(HandoffError::Ranges { .. })), "{text}");
        }
        assert!(Handoff::write_list(&[Handoff { ranges: too_many[..64].to_vec(), ..handoff() }]).is_ok());
        let nameless = Handoff { sink: String::new(), ..handoff() };
        assert_eq!(Handoff::write_list(&[nameless]), Err(HandoffError::Missing("sink")));
        assert_eq!(Handoff::write_list(&[]), Err(HandoffError::Empty));
        assert_eq!(Handoff::read_list("[]"), Err(HandoffError::Empty));
    }

    #[test]
    fn one_malformed_hand_off_spoils_the_message() {
        let good = Handoff::write_list(&[handoff()]).unwrap();
        for (from, to) in [
            ("\"attempts\":2", "\"attempts\":-2"),
            ("\"attempts\":2", "\"attempts\":2,\"more\":1"),
            ("[7,8]", "[7,8,9]"),
            ("2023-07-10T", "yesterday "),
            ("\"sink\":\"search\",", ""),
            ("[{", "{"),
        ] {
            let text = good.replace(from, to);
            assert_ne!(text, good);
            assert!(matches!(Handoff::read_list(&text), Err(HandoffError::Malformed(_))), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_as_itself(
            texts in prop::array::uniform4("\\PC{1,12}"),
            steps in prop::collection::vec((1u64..1000, 1u64..1000), 1..=64),
            attempts: u32,
            millis in 0i64..253_402_300_800_000,
        ) {
            let mut at = 0;
            let ranges = steps.iter().map(|(gap, len)| { let start = at + gap; at = start + len; start..at }).collect();
            let [bucket, key, etag, sink] = texts;
            let first_seen = Timestamp::from_millis(millis);
            let one = Handoff { bucket, key, version_id: None, etag: Some(etag), sink, ranges, attempts, first_seen };
            let list = vec![one.clone(), handoff(), one];
            let text = Handoff::write_list(&list).unwrap();
            prop_assert!(text.is_ascii());
            prop_assert_eq!(Handoff::read_list(&text).unwrap(), list);
        }
    }
}
