//! Messages that hold events themselves: EventBridge's "… via CloudTrail", and CloudWatch Logs subscriptions.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::read::{Members, object, string};
use super::{Content, InlineEvents, NothingReason, Notification, NotificationShape};

/// Reads an event that EventBridge passed on; it stands whole in `detail`.
///
/// Source: <https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-service-event-cloudtrail.html>
pub(super) fn read_eventbridge(members: &Members<'_>) -> Notification {
    let shape = NotificationShape::EventBridgeCloudTrail;
    let is_event = object(members, "detail").is_some_and(|detail| {
        ["eventVersion", "eventID", "eventId"].iter().any(|key| detail.contains_key(*key))
    });
    let Some(detail) = members.get("detail").filter(|_| is_event) else {
        return Notification::malformed(shape);
    };
    let document = Bytes::copy_from_slice(detail.get().as_bytes());
    let id = string(members, "id").filter(|id| is_safe(id)).unwrap_or_else(|| hash(&document));
    Notification::new(shape, Content::Events(InlineEvents { id, document }))
}

/// Reads the payload of a subscription as Kinesis and Firehose carry it.
///
/// Source: <https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/SubscriptionFilters.html>
pub(super) fn read_cloudwatch(text: &str, members: &Members<'_>) -> Notification {
    let shape = NotificationShape::CloudWatchLogs;
    match string(members, "messageType").as_deref() {
        Some("CONTROL_MESSAGE") => Notification::nothing(shape, NothingReason::ControlMessage),
        Some("DATA_MESSAGE") => document(Bytes::copy_from_slice(text.as_bytes())),
        _ => Notification::malformed(shape),
    }
}

/// Reads the payload of a subscription as Lambda gets it: `{"awslogs":{"data":"<base64 of gzip>"}}`.
pub(super) fn read_cloudwatch_encoded(members: &Members<'_>) -> Notification {
    let data = object(members, "awslogs").and_then(|logs| string(&logs, "data"));
    match data.and_then(|data| STANDARD.decode(data).ok()) {
        Some(payload) => document(Bytes::from(payload)),
        None => Notification::malformed(NotificationShape::CloudWatchLogs),
    }
}

fn document(document: Bytes) -> Notification {
    let id = hash(&document);
    Notification::new(NotificationShape::CloudWatchLogs, Content::Events(InlineEvents { id, document }))
}

/// Whether an id from a message may stand in a key.
fn is_safe(id: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=64).contains(&id.len()) && id.bytes().all(plain)
}

fn hash(document: &[u8]) -> String {
    let mut id = String::with_capacity(64);
    for byte in Sha256::digest(document) {
        // Writing to a string cannot fail.
        let _ = write!(id, "{byte:02x}");
    }
    id
}
