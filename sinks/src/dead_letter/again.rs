//! A dead letter's event, as it was when it was refused, to be sent again.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cloudtrail::{ConsoleFrontEnds, Limits, LogFileReader};
use sha2::{Digest as _, Sha256};

use super::{Letter, hex};
use crate::{LogFile, Parcel, ParcelMaker, Via};

impl Letter {
    /// The event with its additions, position and id: the destination knows it again if it has it.
    ///
    /// `read_at` is RFC 3339; `labels` are those of the agent; `key_minute` comes from the log file's name.
    ///
    /// # Errors
    /// A sentence that says why there is no event.
    pub fn parcel(
        &self,
        read_at: String,
        labels: &[(String, String)],
        key_minute: Option<String>,
        fronts: &Arc<ConsoleFrontEnds>,
    ) -> Result<Parcel, String> {
        let record = self.document()?;
        let file = LogFile {
            bucket: self.bucket.clone(),
            key: self.key.clone(),
            version_id: self.version_id.clone(),
            etag: None,
            via: Via::Redrive,
            read_at,
            labels: labels.to_vec(),
            key_minute,
        };
        let mut chunks = Vec::new();
        let whole = [br#"{"Records":["#, record.as_slice(), b"]}"].concat();
        // It was read within the limits once; those may have been larger than the usual ones.
        let limits = Limits {
            event_bytes_max: whole.len(),
            chunk_bytes: whole.len(),
            depth_max: 256,
            ..Limits::default()
        };
        let mut reader = LogFileReader::new(limits);
        let read = reader.push(&whole, &mut chunks).and_then(|()| reader.finish(&mut chunks).map(|_| ()));
        read.map_err(|error| format!("the record is no event: {error}"))?;
        let mut found = chunks.into_iter().filter(|chunk| !chunk.is_empty());
        let (Some(chunk), None) = (found.next(), found.next()) else {
            return Err("the record is not one event".to_owned());
        };
        if chunk.len() != 1 {
            return Err("the record is not one event".to_owned());
        }
        // A maker of its own: what else is in the log file is not known, and the letter has the id.
        let made =
            ParcelMaker::new(Arc::new(file), Arc::clone(fronts)).make(chunk.counted_from(self.record_index));
        let ids = self.document_id.iter().map(|id| (0, id.clone())).collect();
        Ok(made.parcel.with_ids(ids))
    }

    /// The record's bytes, if they are there and are what they were.
    fn document(&self) -> Result<Vec<u8>, String> {
        let bytes = match (&self.record, &self.record_base64) {
            (Some(record), _) => record.clone().into_bytes(),
            (None, Some(text)) => STANDARD.decode(text).map_err(|error| format!("record_base64: {error}"))?,
            (None, None) => return Err("it has no record".to_owned()),
        };
        match &self.record_sha256 {
            Some(sha256) if *sha256 != hex(&Sha256::digest(&bytes)) => {
                Err("the record is not the one that was refused: its SHA-256 is another".to_owned())
            }
            _ => Ok(bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::SystemTime;

    use cloudtrail::Chunk;

    use super::*;
    use crate::{Event, Reason, ReasonCode};

    /// The events of a log file of these records.
    fn events(records: &str) -> Vec<Event> {
        let mut chunks: Vec<Chunk> = Vec::new();
        let mut reader = LogFileReader::new(Limits::default());
        reader.push(format!("{{\"Records\":[{records}]}}").as_bytes(), &mut chunks).unwrap();
        reader.finish(&mut chunks).unwrap();
        let file = LogFile {
            bucket: "trail".to_owned(),
            key: "AWSLogs/1/CloudTrail/x".to_owned(),
            version_id: Some("v".to_owned()),
            etag: Some("e".to_owned()),
            via: Via::Queue,
            read_at: "2024-05-01T00:00:00.000Z".to_owned(),
            labels: Vec::new(),
            key_minute: None,
        };
        let made = ParcelMaker::new(Arc::new(file), Arc::default()).make(chunks.remove(0));
        let parcel = Arc::new(made.parcel);
        (0..).map_while(|slot| Event::new(&parcel, slot)).collect()
    }

    fn again(letter: &Letter) -> Result<Event, String> {
        let parcel = letter.parcel("2024-05-02T00:00:00.000Z".to_owned(), &[], None, &Arc::default())?;
        Ok(Event::new(&Arc::new(parcel), 0).unwrap())
    }

    fn letter(event: &Event) -> Letter {
        let why = Reason::new(ReasonCode::Mapping, "no");
        Letter::of_event("search", "elasticsearch", event, &why, SystemTime::UNIX_EPOCH)
    }

    #[test]
    fn an_event_comes_back_with_its_bytes_its_position_and_its_id() {
        // The second has no id of its own, the last one that of the first.
        let events = events(r#"{"eventID":"a","x":1},{"y":[ 1,2 ]},{"z":"é"},{"eventID":"a","x":2}"#);
        let ids: Vec<String> = events.iter().map(|event| event.document_id().into_owned()).collect();
        assert_eq!((ids[0].as_str(), ids[3].as_str()), ("a", "a-3"));
        for event in &events {
            let line = serde_json::to_string(&letter(event)).unwrap();
            let again = again(&Letter::read(&line).unwrap()).unwrap();
            assert_eq!(again.document_id(), event.document_id());
            assert_eq!((again.bytes(), again.index()), (event.bytes(), event.index()));
            let additions = String::from_utf8(again.additions().unwrap().to_vec()).unwrap();
            assert!(additions.contains(&format!("\"record\":{}", event.index())), "{additions}");
            assert!(additions.contains("\"via\":\"redrive\""), "{additions}");
        }
    }

    #[test]
    fn a_letter_without_a_good_record_is_no_event() {
        let good = letter(&events(r#"{"eventID":"a"}"#)[0]);
        let changed = |change: fn(&mut Letter)| {
            let mut letter = good.clone();
            change(&mut letter);
            again(&letter).unwrap_err()
        };
        assert_eq!(changed(|it| it.record = None), "it has no record");
        assert!(changed(|it| it.record = Some("{}".to_owned())).contains("SHA-256 is another"));
        let forged = |record: &str| {
            let why = Reason::new(ReasonCode::Unreadable, "no");
            let file = events("{}")[0].file().clone();
            Letter::of_log_file(&file, 0, 1, &why, SystemTime::UNIX_EPOCH).with_document(record.as_bytes())
        };
        for record in ["{},{}", "", "1", "{", "{}]}{\"Records\":[{}"] {
            assert!(again(&forged(record)).is_err(), "{record}");
        }
    }
}
