//! An event's identity: the id by which a destination knows it again, and the time it belongs to.

use std::borrow::Cow;

use cloudtrail::{EventRef, Field, SpanKind, Timestamp};
use sha2::{Digest, Sha256};

use crate::dead_letter::hex;
use crate::{Event, LogFile, encode};

/// The longest id that a destination has to take: Elasticsearch's limit for `_id`, in bytes.
const ID_BYTES_MAX: usize = 512;

/// Length of the id made from an event's position, in hexadecimal digits.
const POSITION_ID_LEN: usize = 40;

impl Event {
    /// The id by which a destination can know the event again: `eventID`, else `eventId`, else a hash of
    /// (bucket, key, version, position).
    ///
    /// The same for every delivery of the same event. Where two events of one log file have the same id and
    /// different bytes, the later one has its position appended.
    #[must_use]
    pub fn document_id(&self) -> Cow<'_, str> {
        if let Some(id) = self.own_id() {
            return Cow::Borrowed(id);
        }
        match self.text(Field::EventId) {
            Some(id) if id.len() <= ID_BYTES_MAX => id,
            _ => Cow::Owned(self.position_id()),
        }
    }

    /// An upper bound of the length of [`document_id`](Self::document_id) as a JSON string, quotes included.
    ///
    /// Does not look at the id's bytes, which are far away by the time when batches are put together.
    #[must_use]
    pub fn document_id_len(&self) -> usize {
        match self.record() {
            Some(record) if self.own_id().is_none() && record.kind(Field::EventId) != SpanKind::Escaped => {
                // What stands plain in a JSON string needs no escapes in another; without an id it is a hash.
                record.raw(Field::EventId).map_or(0, <[u8]>::len).max(POSITION_ID_LEN) + 2
            }
            _ => encode::string_len(&self.document_id()),
        }
    }

    fn position_id(&self) -> String {
        let file = self.file();
        let mut hash = Sha256::new();
        for part in [file.bucket.as_str(), file.key.as_str(), file.version_id.as_deref().unwrap_or_default()]
        {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        hash.update(self.index().to_be_bytes());
        let digest = hash.finalize();
        hex(digest.get(..POSITION_ID_LEN / 2).unwrap_or(&digest))
    }
}

/// See [`Event::time`].
pub(crate) fn time_of(record: &EventRef<'_>, file: &LogFile) -> Option<Timestamp> {
    let parse = |field| record.filled(field).and_then(|text| Timestamp::parse(&text));
    let key_minute = || file.key_minute.as_deref().and_then(Timestamp::parse);
    parse(Field::EventTime).or_else(|| parse(Field::WindowStart)).or_else(key_minute)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use cloudtrail::{Limits, LogFileReader};
    use proptest::prelude::*;

    use super::*;
    use crate::ParcelMaker;
    use crate::testing::Sample;

    #[track_caller]
    fn check_time(record: &str, key_minute: Option<&str>, expected: Option<&str>) {
        let mut chunks = Vec::new();
        let mut reader = LogFileReader::new(Limits::default());
        reader.push(format!("[{record}]").as_bytes(), &mut chunks).unwrap();
        reader.finish(&mut chunks).unwrap();
        let mut file = Sample::new("{}").event().file().clone();
        file.key_minute = key_minute.map(str::to_owned);
        let parcel = ParcelMaker::new(Arc::new(file), Arc::default()).make(chunks.remove(0)).parcel;
        let time = Event::new(&Arc::new(parcel), 0).unwrap().time();
        assert_eq!(time.map(Timestamp::to_rfc3339_millis).as_deref(), expected);
    }

    #[test]
    fn the_id_is_the_event_s_own_and_else_made_from_its_position() {
        let id = |record: &str| Sample::new(record).event().document_id().into_owned();
        assert_eq!(id(r#"{"eventID":"a-1"}"#), "a-1");
        assert_eq!(id(r#"{"eventID":"a\u00e9\n"}"#), "aé\n");
        for none in ["{}", r#"{"eventID":null}"#, r#"{"eventID":" "}"#] {
            assert_eq!(id(none).len(), POSITION_ID_LEN, "{none}");
        }
        assert_eq!(id(&format!(r#"{{"eventID":"{}"}}"#, "x".repeat(513))).len(), POSITION_ID_LEN);
    }

    #[test]
    fn the_time_is_the_event_s_its_window_s_or_its_log_file_s() {
        let minute = Some("2023-07-10T11:45:00Z");
        let event = r#"{"eventTime":"2023-07-10T11:42:01Z"}"#;
        check_time(event, minute, Some("2023-07-10T11:42:01.000Z"));
        let window = r#"{"eventTime":"soon","timeWindow":{"windowStart":"2023-07-10T11:40:00Z"}}"#;
        check_time(window, minute, Some("2023-07-10T11:40:00.000Z"));
        check_time("{}", minute, Some("2023-07-10T11:45:00.000Z"));
        check_time("{}", None, None);
    }

    proptest! {
        #[test]
        fn an_id_is_never_longer_than_its_bound(id in any::<String>(), escape in any::<bool>()) {
            let mut quoted = serde_json::to_string(&id).unwrap_or_default();
            if escape {
                quoted.insert_str(1, r"\b\/");
            }
            let event = Sample::new(&format!(r#"{{"eventID":{quoted}}}"#)).event();
            prop_assert!(encode::string_len(&event.document_id()) <= event.document_id_len());
        }
    }
}
