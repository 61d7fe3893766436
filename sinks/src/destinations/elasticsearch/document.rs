//! The three ways in which an event becomes a document.

use cloudtrail::{Field, Timestamp};

use super::super::Additions;
use super::{Elasticsearch, Format, Service, Target};
use crate::{Body, Event, encode};

/// Longest text around the record in Elastic's format, besides bucket and key.
pub(super) const INTEGRATION_OVERHEAD: usize =
    r#"{"message":"","tags":["preserve_original_event"],"aws":{"s3":{"bucket":{"name":},"object":{"key":}}}},"#.len();

/// Longest term that can be indexed, in bytes: Lucene's `IndexWriter.MAX_TERM_LENGTH`. A longer text has no place in the
/// safe shape, where the mapping may take it for one term; it stands in `event_original` all the same.
const TERM_BYTES_MAX: usize = 32_766;

/// Fields of an event that are always texts.
pub(super) const SAFE_FIELDS: &[(Field, &str)] = &[
    (Field::EventVersion, "eventVersion"),
    (Field::EventTime, "eventTime"),
    (Field::EventSource, "eventSource"),
    (Field::EventName, "eventName"),
    (Field::AwsRegion, "awsRegion"),
    (Field::SourceIpAddress, "sourceIPAddress"),
    (Field::UserAgent, "userAgent"),
    (Field::ErrorCode, "errorCode"),
    (Field::ErrorMessage, "errorMessage"),
    (Field::EventId, "eventID"),
    (Field::EventType, "eventType"),
    (Field::EventCategory, "eventCategory"),
    (Field::RecipientAccountId, "recipientAccountId"),
];

/// The same of `userIdentity`.
pub(super) const SAFE_IDENTITY_FIELDS: &[(Field, &str)] = &[
    (Field::IdentityType, "type"),
    (Field::IdentityPrincipalId, "principalId"),
    (Field::IdentityArn, "arn"),
    (Field::IdentityAccountId, "accountId"),
    (Field::IdentityUserName, "userName"),
    (Field::IdentityInvokedBy, "invokedBy"),
];

/// What Elastic's own shippers say of the stream that a document belongs to: the parts of its name.
/// <https://www.elastic.co/docs/reference/ecs/ecs-data_stream>
pub(super) fn stream_members(target: &Target, format: Format) -> String {
    let mut members = Vec::new();
    if let (Target::DataStream(name), Format::ElasticIntegration) = (target, format) {
        let mut parts = name.splitn(3, '-');
        if let (Some(kind), Some(dataset), Some(namespace)) = (parts.next(), parts.next(), parts.next()) {
            members.extend_from_slice(b",\"data_stream\":{");
            for (key, value) in [("type", kind), ("dataset", dataset), ("namespace", namespace)] {
                encode::write_member(&mut members, key, value);
            }
            members.push(b'}');
        }
    }
    String::from_utf8(members).unwrap_or_default()
}

impl Elasticsearch {
    /// `members` is empty, and used so that not every event has to have its own.
    pub(super) fn write_native<'a>(
        &self,
        event: &'a Event,
        time: Option<Timestamp>,
        members: &mut Vec<u8>,
        body: &mut Body<'a>,
    ) {
        // A data stream takes nothing without it, nor do some collections of OpenSearch Serverless.
        let demanded = matches!(self.target, Target::DataStream(_)) || self.service == Some(Service::Aoss);
        if self.common.additions == Additions::Full || demanded {
            write_timestamp(time, members);
        }
        let shared = self.common.trailship(members, event);
        encode::splice(body, event, members, shared);
    }

    /// What any mapping takes: texts of fields that are always scalar, and the record as one string.
    pub(super) fn write_safe<'a>(&self, event: &'a Event, time: Option<Timestamp>, body: &mut Body<'a>) {
        let mut own = vec![b'{'];
        write_timestamp(time, &mut own);
        write_fields(event, SAFE_FIELDS, &mut own);
        let mut identity = vec![b'{'];
        write_fields(event, SAFE_IDENTITY_FIELDS, &mut identity);
        if identity.len() > 1 {
            encode::write_key(&mut own, "userIdentity");
            own.extend_from_slice(&identity);
            own.push(b'}');
        }
        encode::write_key(&mut own, "tags");
        own.extend_from_slice(b"[\"trailship_safe_shape\"]");
        encode::write_key(&mut own, "event_original");
        own.push(b'"');
        body.owned(&own);
        body.escaped(event.chunk(), event.range());
        own.clear();
        own.push(b'"');
        let shared = self.common.trailship(&mut own, event);
        body.owned(&own);
        body.shared(shared);
        body.owned(b"}");
    }

    pub(super) fn write_integration<'a>(
        &self,
        event: &'a Event,
        time: Option<Timestamp>,
        body: &mut Body<'a>,
    ) {
        let mut own = vec![b'{'];
        write_timestamp(time, &mut own);
        encode::write_key(&mut own, "message");
        own.push(b'"');
        body.owned(&own);
        body.escaped(event.chunk(), event.range());
        own.clear();
        own.push(b'"');
        let mut shared: &[u8] = &[];
        if self.common.additions == Additions::Full {
            own.extend_from_slice(
                b",\"tags\":[\"preserve_original_event\"],\"aws\":{\"s3\":{\"bucket\":{\"name\":",
            );
            encode::write_string(&mut own, &event.file().bucket);
            own.extend_from_slice(b"},\"object\":{\"key\":");
            encode::write_string(&mut own, &event.file().key);
            own.extend_from_slice(b"}}}");
            own.extend_from_slice(self.stream_members.as_bytes());
            shared = self.common.trailship(&mut own, event);
        }
        body.owned(&own);
        body.shared(shared);
        body.owned(b"}");
    }
}

fn write_fields(event: &Event, fields: &[(Field, &str)], out: &mut Vec<u8>) {
    for &(field, name) in fields {
        if let Some(text) = event.text(field).filter(|text| text.len() <= TERM_BYTES_MAX) {
            encode::write_member(out, name, &text);
        }
    }
}

fn write_timestamp(time: Option<Timestamp>, out: &mut Vec<u8>) {
    if let Some(time) = time {
        encode::write_member(out, "@timestamp", &time.to_rfc3339_millis());
    }
}
