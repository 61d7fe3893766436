//! What a message on the queue says: which log files to fetch, which events it holds, or why there is nothing to do.

mod inline;
mod objects;
mod read;

use bytes::Bytes;

use crate::handoff::Handoff;

/// Reads the body of a message. Every body has an answer; none makes it panic.
///
/// The shapes are told apart by content, at most three envelopes deep, so that one queue may hold all of them.
#[must_use]
pub fn read_notification(body: &[u8]) -> Notification {
    match std::str::from_utf8(body) {
        Ok(text) => read::read(text),
        Err(_) => Notification::unknown(UnknownReason::NotUtf8),
    }
}

/// What a message says.
#[derive(Clone, Debug, PartialEq)]
pub struct Notification {
    /// Which of the known shapes it has.
    pub shape: NotificationShape,
    /// What there is to do.
    pub content: Content,
    /// Objects that the message says are gone, whatever else it says: a deleted log file is an alarm.
    pub removed: Vec<ObjectRef>,
    /// Why a part of the message could not be read, where `content` holds the rest.
    ///
    /// Such a message is not finished when its content is.
    pub unreadable: Option<UnknownReason>,
}

impl Notification {
    fn new(shape: NotificationShape, content: Content) -> Self {
        Self { shape, content, removed: Vec::new(), unreadable: None }
    }

    fn nothing(shape: NotificationShape, reason: NothingReason) -> Self {
        Self::new(shape, Content::Nothing(reason))
    }

    fn unknown(reason: UnknownReason) -> Self {
        Self::new(NotificationShape::Unknown, Content::Unknown(reason))
    }

    /// A message of a known shape that cannot be read all the same.
    fn malformed(shape: NotificationShape) -> Self {
        Self::new(shape, Content::Unknown(UnknownReason::Malformed))
    }
}

/// The shapes that a message may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NotificationShape {
    /// CloudTrail's own notification in an SNS envelope.
    CloudTrailSns,
    /// CloudTrail's own notification, delivered raw.
    CloudTrailSnsRaw,
    /// An S3 event notification; from SNS with raw delivery it looks the same.
    S3,
    /// An S3 event notification in an SNS envelope.
    S3Sns,
    /// An S3 event of EventBridge.
    EventBridgeS3,
    /// An event of CloudTrail that EventBridge passed on whole.
    EventBridgeCloudTrail,
    /// The text that CloudTrail publishes when a trail is set up.
    Validation,
    /// The test message that S3 sends when a notification is set up.
    TestEvent,
    /// A confirmation of SNS. Its URL is never followed.
    SnsControl,
    /// The payload of a CloudWatch Logs subscription.
    CloudWatchLogs,
    /// Hand-offs of our own.
    Handoff,
    /// None of these.
    Unknown,
}

impl NotificationShape {
    /// Every shape there is.
    pub const ALL: [NotificationShape; 12] = [
        NotificationShape::CloudTrailSns,
        NotificationShape::CloudTrailSnsRaw,
        NotificationShape::S3,
        NotificationShape::S3Sns,
        NotificationShape::EventBridgeS3,
        NotificationShape::EventBridgeCloudTrail,
        NotificationShape::Validation,
        NotificationShape::TestEvent,
        NotificationShape::SnsControl,
        NotificationShape::CloudWatchLogs,
        NotificationShape::Handoff,
        NotificationShape::Unknown,
    ];

    /// The shape's name in logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            NotificationShape::CloudTrailSns => "cloudtrail_sns",
            NotificationShape::CloudTrailSnsRaw => "cloudtrail_sns_raw",
            NotificationShape::S3 => "s3",
            NotificationShape::S3Sns => "s3_sns",
            NotificationShape::EventBridgeS3 => "eventbridge_s3",
            NotificationShape::EventBridgeCloudTrail => "eventbridge_cloudtrail",
            NotificationShape::Validation => "validation",
            NotificationShape::TestEvent => "test_event",
            NotificationShape::SnsControl => "sns_control",
            NotificationShape::CloudWatchLogs => "cloudwatch_logs",
            NotificationShape::Handoff => "handoff",
            NotificationShape::Unknown => "unknown",
        }
    }
}

/// What there is to do about a message.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// Objects to fetch; at least one.
    Objects(Vec<ObjectRef>),
    /// The message holds the events themselves.
    Events(InlineEvents),
    /// The message is understood, and there is nothing to fetch.
    Nothing(NothingReason),
    /// What sinks are still owed; at least one.
    Handoff(Vec<Handoff>),
    /// The message is not understood and must not be deleted.
    Unknown(UnknownReason),
}

/// Why there is nothing to fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NothingReason {
    /// CloudTrail's validation message.
    ValidationMessage,
    /// The test event of S3.
    TestEvent,
    /// A confirmation of SNS.
    SnsControl,
    /// Objects were removed and none created.
    ObjectRemoved,
    /// Something else happened to objects: restored, tagged, replicated, moved to another storage class.
    OtherObjectEvent,
    /// A control message of CloudWatch Logs.
    ControlMessage,
    /// The message lists nothing.
    EmptyList,
}

impl NothingReason {
    /// Every reason there is.
    pub const ALL: [NothingReason; 7] = [
        NothingReason::ValidationMessage,
        NothingReason::TestEvent,
        NothingReason::SnsControl,
        NothingReason::ObjectRemoved,
        NothingReason::OtherObjectEvent,
        NothingReason::ControlMessage,
        NothingReason::EmptyList,
    ];

    /// The reason's name in logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            NothingReason::ValidationMessage => "validation_message",
            NothingReason::TestEvent => "test_event",
            NothingReason::SnsControl => "sns_control",
            NothingReason::ObjectRemoved => "object_removed",
            NothingReason::OtherObjectEvent => "other_object_event",
            NothingReason::ControlMessage => "control_message",
            NothingReason::EmptyList => "empty_list",
        }
    }
}

/// Why a message, or a part of it, is not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UnknownReason {
    /// The body is not UTF-8.
    NotUtf8,
    /// The body is not JSON.
    NotJson,
    /// There are more than three envelopes around the message.
    TooDeep,
    /// It is JSON of no known shape.
    UnknownShape,
    /// The shape is known, but a field is missing or of another type.
    Malformed,
    /// The shape is known, but not in this version.
    UnsupportedVersion,
}

impl UnknownReason {
    /// Every reason there is.
    pub const ALL: [UnknownReason; 6] = [
        UnknownReason::NotUtf8,
        UnknownReason::NotJson,
        UnknownReason::TooDeep,
        UnknownReason::UnknownShape,
        UnknownReason::Malformed,
        UnknownReason::UnsupportedVersion,
    ];

    /// The reason's name in logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            UnknownReason::NotUtf8 => "not_utf8",
            UnknownReason::NotJson => "not_json",
            UnknownReason::TooDeep => "too_deep",
            UnknownReason::UnknownShape => "unknown_shape",
            UnknownReason::Malformed => "malformed",
            UnknownReason::UnsupportedVersion => "unsupported_version",
        }
    }
}

/// An object in S3, as a notification names it. Nothing of it has been checked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ObjectRef {
    /// The bucket's name; never empty.
    pub bucket: String,
    /// The key, decoded as its shape asks for; never empty.
    pub key: String,
    /// The key in the other reading, where that differs: to be tried once if `key` does not exist.
    ///
    /// Some that speak S3's format do not encode keys as S3 does.
    pub key_alternative: Option<String>,
    /// The object's version, where the bucket keeps versions.
    pub version_id: Option<String>,
    /// The object's ETag, without quotes.
    pub etag: Option<String>,
    /// The object's size in bytes.
    pub size: Option<u64>,
    /// The region that the notification names. It must not choose an endpoint.
    pub region: Option<String>,
    /// Orders the notifications of one key: pad on the left to equal length, then compare as text.
    pub sequencer: Option<String>,
}

/// Events that stand in the message itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InlineEvents {
    /// Names them: EventBridge's id of the event, else a hash of the document. A redelivery has the same.
    ///
    /// At most 64 letters, digits, hyphens and underscores.
    pub id: String,
    /// The document as it stands in the message, for a [`LogFileReader`](crate::LogFileReader).
    pub document: Bytes,
}

#[cfg(test)]
mod tests;
