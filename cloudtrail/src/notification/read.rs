//! Takes a message out of its envelopes and tells its shape.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::{Content, NothingReason, Notification, NotificationShape, UnknownReason, inline, objects};
use crate::handoff::{Handoff, HandoffError};

/// How many envelopes there may be around a message.
const ENVELOPES_MAX: usize = 3;

/// What CloudTrail publishes to a topic when a trail is set up.
const VALIDATION_MESSAGE: &str = "CloudTrail validation message.";

/// The members of a JSON object, values as they stand. Where a key stands twice, the last one counts.
pub(super) type Members<'a> = BTreeMap<String, &'a RawValue>;

/// Reads the body of a message, unwrapping envelopes as it meets them.
pub(super) fn read(body: &str) -> Notification {
    let mut text = body.to_owned();
    for envelopes in 0..=ENVELOPES_MAX {
        match Step::take(&text, envelopes > 0) {
            Step::Done(notification) => return *notification,
            Step::Unwrapped(inner) => text = inner,
        }
    }
    Notification::unknown(UnknownReason::TooDeep)
}

enum Step {
    Done(Box<Notification>),
    Unwrapped(String),
}

impl Step {
    fn take(text: &str, wrapped: bool) -> Self {
        let text = text.trim_start_matches('\u{feff}').trim();
        let done = |notification| Step::Done(Box::new(notification));
        if text == VALIDATION_MESSAGE {
            return done(Notification::nothing(
                NotificationShape::Validation,
                NothingReason::ValidationMessage,
            ));
        }
        match text.as_bytes().first() {
            Some(b'"') => match serde_json::from_str(text) {
                Ok(inner) => Step::Unwrapped(inner),
                Err(_) => done(Notification::unknown(UnknownReason::NotJson)),
            },
            Some(b'[') => done(read_list(text)),
            _ => match serde_json::from_str::<Members<'_>>(text) {
                Ok(members) => Self::take_object(text, &members, wrapped),
                Err(_) => done(Notification::unknown(not_an_object(text))),
            },
        }
    }

    fn take_object(text: &str, members: &Members<'_>, wrapped: bool) -> Self {
        let envelope = string(members, "Type");
        let notification = match envelope.as_deref() {
            Some("Notification") if members.contains_key("Message") => match string(members, "Message") {
                Some(message) => return Step::Unwrapped(message),
                None => Notification::unknown(UnknownReason::Malformed),
            },
            Some("SubscriptionConfirmation" | "UnsubscribeConfirmation") => {
                Notification::nothing(NotificationShape::SnsControl, NothingReason::SnsControl)
            }
            _ => read_object(text, members, wrapped),
        };
        Step::Done(Box::new(notification))
    }
}

/// Tells apart what is an object and no envelope.
fn read_object(text: &str, members: &Members<'_>, wrapped: bool) -> Notification {
    let has = |key| members.contains_key(key);
    if has("s3ObjectKey") {
        return objects::read_cloudtrail(members, wrapped);
    }
    if string(members, "Event").as_deref() == Some("s3:TestEvent") {
        return Notification::nothing(NotificationShape::TestEvent, NothingReason::TestEvent);
    }
    if has("Records") {
        return objects::read_s3(members, wrapped);
    }
    if has("detail-type") && has("detail") {
        let kind = string(members, "detail-type").unwrap_or_default();
        if string(members, "source").as_deref() == Some("aws.s3") && kind.starts_with("Object ") {
            return objects::read_eventbridge(&kind, members);
        }
        if kind.ends_with(" via CloudTrail") {
            return inline::read_eventbridge(members);
        }
    }
    if has("messageType") && has("logEvents") {
        return inline::read_cloudwatch(text, members);
    }
    if has("awslogs") {
        return inline::read_cloudwatch_encoded(members);
    }
    Notification::unknown(UnknownReason::UnknownShape)
}

/// The only list that is known is one of hand-offs.
fn read_list(text: &str) -> Notification {
    let reason = match Handoff::read_list(text) {
        Ok(list) => return Notification::new(NotificationShape::Handoff, Content::Handoff(list)),
        Err(HandoffError::Version(_)) => UnknownReason::UnsupportedVersion,
        Err(_) => match serde_json::from_str::<Vec<Members<'_>>>(text) {
            Ok(list) if list.iter().any(|members| members.contains_key("trailship.handoff")) => {
                UnknownReason::Malformed
            }
            _ => return Notification::unknown(not_an_object(text)),
        },
    };
    Notification::new(NotificationShape::Handoff, Content::Unknown(reason))
}

fn not_an_object(text: &str) -> UnknownReason {
    match serde_json::from_str::<&RawValue>(text) {
        Ok(_) => UnknownReason::UnknownShape,
        Err(_) => UnknownReason::NotJson,
    }
}

/// The member `key`, if it is a string.
pub(super) fn string(members: &Members<'_>, key: &str) -> Option<String> {
    serde_json::from_str(members.get(key)?.get()).ok()
}

/// The member `key`, if it is a string that is not empty.
pub(super) fn filled(members: &Members<'_>, key: &str) -> Option<String> {
    string(members, key).filter(|text| !text.is_empty())
}

/// The members of the member `key`, if it is an object.
pub(super) fn object<'a>(members: &Members<'a>, key: &str) -> Option<Members<'a>> {
    serde_json::from_str(members.get(key)?.get()).ok()
}
