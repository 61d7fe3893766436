//! A second opinion on log files: the same rules, said with serde_json and without any care for speed.
//!
//! Shared by the differential tests and the fuzz target.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, dead_code, missing_docs)]

use cloudtrail::{EventRef, Field, SpanKind};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

/// The members of an object in their order, with the values as they stand.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(InOrder).map(Members)
    }
}

/// What serde_json cannot judge: a lone surrogate in a key or a message, which is valid JSON and no string.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Events(Vec<String>),
    Invalid,
    NoOpinion,
}

/// Whether the bytes are a log file, and which events it holds, line breaks between tokens made spaces.
pub(crate) fn judge(bytes: &[u8]) -> Verdict {
    let Ok(text) = std::str::from_utf8(bytes) else { return Verdict::Invalid };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut events = Vec::new();
    let documents: Result<Vec<&RawValue>, _> = serde_json::Deserializer::from_str(text).into_iter().collect();
    // An event without valid JSON around it is still an event, but the file is invalid.
    let Ok(documents) = documents else { return Verdict::Invalid };
    for document in documents {
        match read_document(document.get(), &mut events) {
            Ok(()) => {}
            Err(verdict) => return verdict,
        }
    }
    Verdict::Events(events)
}

fn read_document(document: &str, events: &mut Vec<String>) -> Result<(), Verdict> {
    if document.starts_with('[') {
        return read_events(document, events);
    }
    if !document.starts_with('{') {
        return Err(Verdict::Invalid);
    }
    let Ok(Members(members)) = serde_json::from_str(document) else { return Err(Verdict::NoOpinion) };
    let (mut holds_events, mut control, mut foreign) = (false, false, false);
    for (key, value) in members {
        let value = value.get();
        match key.as_str() {
            "eventVersion" | "eventID" | "eventId" if !holds_events => {
                events.push(one_line(document));
                return Ok(());
            }
            "Records" => {
                holds_events = true;
                read_events(value, events)?;
            }
            "messageType" if value.starts_with('"') => {
                let Ok(kind) = serde_json::from_str::<String>(value) else { return Err(Verdict::NoOpinion) };
                control = kind == "CONTROL_MESSAGE";
                foreign = !control && kind != "DATA_MESSAGE";
            }
            "logEvents" if !foreign => {
                holds_events = true;
                if value.starts_with('[') && !control {
                    read_log_events(value, events)?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn read_events(array: &str, events: &mut Vec<String>) -> Result<(), Verdict> {
    let Ok(elements) = serde_json::from_str::<Vec<&RawValue>>(array) else { return Err(Verdict::Invalid) };
    for element in elements {
        if !element.get().starts_with('{') {
            return Err(Verdict::Invalid);
        }
        events.push(one_line(element.get()));
    }
    Ok(())
}

fn read_log_events(array: &str, events: &mut Vec<String>) -> Result<(), Verdict> {
    let Ok(elements) = serde_json::from_str::<Vec<&RawValue>>(array) else { return Err(Verdict::Invalid) };
    for element in elements {
        if !element.get().starts_with('{') {
            return Err(Verdict::Invalid);
        }
        let Ok(Members(members)) = serde_json::from_str(element.get()) else {
            return Err(Verdict::NoOpinion);
        };
        let message = members.iter().rev().find(|(key, _)| key == "message");
        let Some((_, message)) = message.filter(|(_, value)| value.get().starts_with('"')) else {
            return Err(Verdict::Invalid);
        };
        let Ok(message) = serde_json::from_str::<String>(message.get()) else {
            return Err(Verdict::NoOpinion);
        };
        let message = message.trim_matches([' ', '\t', '\r', '\n']);
        if !message.starts_with('{') || serde_json::from_str::<IgnoredAny>(message).is_err() {
            return Err(Verdict::Invalid);
        }
        events.push(one_line(message));
    }
    Ok(())
}

/// No string of valid JSON holds a line break as it is.
fn one_line(text: &str) -> String {
    text.replace(['\r', '\n'], " ")
}

/// Where each field stands in an event.
const PATHS: [(Field, &[&str]); Field::COUNT - 1] = [
    (Field::EventVersion, &["eventVersion"]),
    (Field::EventTime, &["eventTime"]),
    (Field::EventSource, &["eventSource"]),
    (Field::EventName, &["eventName"]),
    (Field::AwsRegion, &["awsRegion"]),
    (Field::SourceIpAddress, &["sourceIPAddress"]),
    (Field::UserAgent, &["userAgent"]),
    (Field::ErrorCode, &["errorCode"]),
    (Field::ErrorMessage, &["errorMessage"]),
    (Field::RequestId, &["requestID"]),
    (Field::EventType, &["eventType"]),
    (Field::EventCategory, &["eventCategory"]),
    (Field::RecipientAccountId, &["recipientAccountId"]),
    (Field::AccountId, &["accountId"]),
    (Field::ReadOnly, &["readOnly"]),
    (Field::ManagementEvent, &["managementEvent"]),
    (Field::SharedEventId, &["sharedEventID"]),
    (Field::VpcEndpointId, &["vpcEndpointId"]),
    (Field::SessionCredentialFromConsole, &["sessionCredentialFromConsole"]),
    (Field::WindowStart, &["timeWindow", "windowStart"]),
    (Field::IdentityType, &["userIdentity", "type"]),
    (Field::IdentityPrincipalId, &["userIdentity", "principalId"]),
    (Field::IdentityArn, &["userIdentity", "arn"]),
    (Field::IdentityAccountId, &["userIdentity", "accountId"]),
    (Field::IdentityAccessKeyId, &["userIdentity", "accessKeyId"]),
    (Field::IdentityUserName, &["userIdentity", "userName"]),
    (Field::IdentityInvokedBy, &["userIdentity", "invokedBy"]),
    (Field::IssuerArn, &["userIdentity", "sessionContext", "sessionIssuer", "arn"]),
    (Field::IssuerUserName, &["userIdentity", "sessionContext", "sessionIssuer", "userName"]),
    (Field::IssuerAccountId, &["userIdentity", "sessionContext", "sessionIssuer", "accountId"]),
    (Field::Ec2RoleDelivery, &["userIdentity", "sessionContext", "ec2RoleDelivery"]),
    (Field::InScopeOf, &["userIdentity", "inScopeOf"]),
    (Field::InvokedByDelegate, &["userIdentity", "invokedByDelegate"]),
    (Field::OnBehalfOfUserId, &["userIdentity", "onBehalfOf", "userId"]),
    (Field::UserIdentity, &["userIdentity"]),
    (Field::RequestParameters, &["requestParameters"]),
    (Field::ResponseElements, &["responseElements"]),
    (Field::Trailship, &["trailship"]),
];

/// Checks every field of an event against a lookup in the parsed event.
pub(crate) fn check_fields(event: &EventRef<'_>) {
    // Lone surrogates and numbers out of range are valid JSON that a `Value` cannot hold.
    let Ok(value) = serde_json::from_slice::<Value>(event.bytes()) else { return };
    let lookup = |path: &[&str]| path.iter().try_fold(&value, |value, key| value.get(*key));
    for (field, path) in PATHS {
        check_field(event, field, lookup(path));
    }
    let id = lookup(&["eventID"]).filter(|id| !id.is_null()).or_else(|| lookup(&["eventId"]));
    check_field(event, Field::EventId, id);
}

fn check_field(event: &EventRef<'_>, field: Field, expected: Option<&Value>) {
    let context = || format!("{field:?} of {}", String::from_utf8_lossy(event.bytes()));
    match expected {
        None | Some(Value::Null) => assert_eq!(event.raw(field), None, "{}", context()),
        Some(Value::String(text)) => {
            assert_eq!(event.text(field).as_deref(), Some(text.as_str()), "{}", context());
            let escaped = event.raw(field).unwrap().contains(&b'\\');
            let kind = if escaped { SpanKind::Escaped } else { SpanKind::Plain };
            assert_eq!(event.kind(field), kind, "{}", context());
        }
        Some(value) => {
            assert_eq!(event.kind(field), SpanKind::Other, "{}", context());
            let raw = serde_json::from_slice::<Value>(event.raw(field).unwrap()).unwrap();
            assert_eq!(&raw, value, "{}", context());
        }
    }
}
