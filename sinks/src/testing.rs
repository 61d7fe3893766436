//! Events for the unit tests of this crate.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use cloudtrail::{Chunk, EventSpans, Field, Span, SpanKind};
use serde_json::value::RawValue;

use crate::{Event, LogFile, Parcel, Via};

/// One event and what belongs to it.
pub(crate) struct Sample {
    record: String,
    additions: String,
    file: LogFile,
}

impl Sample {
    pub(crate) fn new(record: &str) -> Self {
        let file = LogFile {
            bucket: "trail".into(),
            key: "a/b.json.gz".into(),
            version_id: None,
            etag: None,
            via: Via::Queue,
            read_at: "2023-07-10T11:50:00.000Z".into(),
            labels: Vec::new(),
            key_minute: None,
        };
        Self { record: record.into(), additions: r#"{"record":0}"#.into(), file }
    }

    pub(crate) fn additions(mut self, json: &str) -> Self {
        self.additions = json.into();
        self
    }

    pub(crate) fn labels(mut self, labels: &[(&str, &str)]) -> Self {
        self.file.labels = pairs(labels);
        self
    }

    pub(crate) fn from(mut self, bucket: &str, key: &str) -> Self {
        (self.file.bucket, self.file.key) = (bucket.into(), key.into());
        self
    }

    pub(crate) fn event(self) -> Event {
        // Bytes around the event, so that an offset that is forgotten shows.
        let text = format!(" [{}] ", self.record);
        let spans = spans_of(&text, 2, &self.record);
        let chunk = Chunk::new(Bytes::from(text), 0, vec![spans]);
        let ends = vec![u32::try_from(self.additions.len()).unwrap()];
        let parcel = Parcel::new(Arc::new(self.file), chunk, self.additions.into_bytes(), ends);
        Event::new(&Arc::new(parcel), 0).unwrap()
    }
}

pub(crate) fn pairs(labels: &[(&str, &str)]) -> Vec<(String, String)> {
    labels.iter().map(|&(name, value)| (name.into(), value.into())).collect()
}

type Members<'a> = BTreeMap<&'a str, &'a RawValue>;

const TOP: [(Field, &str); 14] = [
    (Field::EventVersion, "eventVersion"),
    (Field::EventTime, "eventTime"),
    (Field::EventSource, "eventSource"),
    (Field::EventName, "eventName"),
    (Field::AwsRegion, "awsRegion"),
    (Field::SourceIpAddress, "sourceIPAddress"),
    (Field::UserAgent, "userAgent"),
    (Field::ErrorCode, "errorCode"),
    (Field::EventId, "eventID"),
    (Field::EventType, "eventType"),
    (Field::EventCategory, "eventCategory"),
    (Field::RecipientAccountId, "recipientAccountId"),
    (Field::UserIdentity, "userIdentity"),
    (Field::Trailship, "trailship"),
];

const IDENTITY: [(Field, &str); 4] = [
    (Field::IdentityType, "type"),
    (Field::IdentityArn, "arn"),
    (Field::IdentityAccountId, "accountId"),
    (Field::IdentityPrincipalId, "principalId"),
];

fn spans_of(text: &str, start: usize, record: &str) -> EventSpans {
    let end = start + record.len();
    let mut fields = [Span::default(); Field::COUNT];
    let members: Members<'_> = serde_json::from_str(&text[start..end]).unwrap();
    note(text, &members, &TOP, &mut fields);
    if let Some(identity) = members.get("userIdentity") {
        note(text, &serde_json::from_str(identity.get()).unwrap(), &IDENTITY, &mut fields);
    }
    EventSpans { range: u32::try_from(start).unwrap()..u32::try_from(end).unwrap(), index: 0, fields }
}

fn note(text: &str, members: &Members<'_>, names: &[(Field, &str)], fields: &mut [Span; Field::COUNT]) {
    for &(field, name) in names {
        let Some(value) = members.get(name).map(|value| value.get()).filter(|&value| value != "null") else {
            continue;
        };
        let quoted = value.starts_with('"');
        let kind = match (quoted, value.contains('\\')) {
            (true, false) => SpanKind::Plain,
            (true, true) => SpanKind::Escaped,
            (false, _) => SpanKind::Other,
        };
        let at = value.as_ptr() as usize - text.as_ptr() as usize + usize::from(quoted);
        let len = value.len() - 2 * usize::from(quoted);
        fields[field as usize] =
            Span { start: u32::try_from(at).unwrap(), len: u32::try_from(len).unwrap(), kind };
    }
}

/// Time as tokio counts it.
pub(crate) struct TestClock(tokio::time::Instant);

impl TestClock {
    pub(crate) fn new() -> Self {
        Self(tokio::time::Instant::now())
    }
}

#[async_trait::async_trait]
impl crate::ports::Clock for TestClock {
    fn now(&self) -> std::time::SystemTime {
        std::time::SystemTime::UNIX_EPOCH + self.0.elapsed()
    }

    fn monotonic(&self) -> std::time::Duration {
        self.0.elapsed()
    }

    async fn sleep(&self, duration: std::time::Duration) {
        tokio::time::sleep(duration).await;
    }
}
