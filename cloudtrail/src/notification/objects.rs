//! Notifications that name objects: CloudTrail's own, those of S3, those of S3 through EventBridge.

use serde_json::value::RawValue;

use super::read::{Members, filled, object, string};
use super::{Content, NothingReason, Notification, NotificationShape, ObjectRef, UnknownReason};

/// What happened to an object.
enum Change {
    Created(ObjectRef),
    Removed(ObjectRef),
    Other,
}

/// Reads `{"s3Bucket":…,"s3ObjectKey":[…]}`; the keys stand there as they are.
///
/// Source: <https://docs.aws.amazon.com/awscloudtrail/latest/userguide/configure-sns-notifications-for-cloudtrail.html>
pub(super) fn read_cloudtrail(members: &Members<'_>, wrapped: bool) -> Notification {
    let shape = if wrapped { NotificationShape::CloudTrailSns } else { NotificationShape::CloudTrailSnsRaw };
    let keys: Option<Vec<&RawValue>> =
        members.get("s3ObjectKey").and_then(|raw| match raw.get().as_bytes() {
            [b'[', ..] => serde_json::from_str(raw.get()).ok(),
            _ => Some(vec![*raw]),
        });
    let (Some(bucket), Some(keys)) = (filled(members, "s3Bucket"), keys) else {
        return Notification::malformed(shape);
    };
    collect(
        shape,
        keys.into_iter().map(|raw| {
            let key = serde_json::from_str::<String>(raw.get()).ok().filter(|key| !key.is_empty());
            let key = key.ok_or(UnknownReason::Malformed)?;
            Ok(Change::Created(ObjectRef { bucket: bucket.clone(), ..plain_key(key) }))
        }),
    )
}

/// Reads `{"Records":[{"eventSource":"aws:s3",…}]}`; the keys are encoded as in a form.
///
/// Source: <https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html>
pub(super) fn read_s3(members: &Members<'_>, wrapped: bool) -> Notification {
    let shape = if wrapped { NotificationShape::S3Sns } else { NotificationShape::S3 };
    let records =
        members.get("Records").and_then(|raw| serde_json::from_str::<Vec<&RawValue>>(raw.get()).ok());
    let Some(records) = records else { return Notification::unknown(UnknownReason::UnknownShape) };
    let from_s3 = records.is_empty() || records.iter().any(|record| is_s3(record));
    if !from_s3 {
        return Notification::unknown(UnknownReason::UnknownShape);
    }
    collect(shape, records.into_iter().map(read_s3_record))
}

fn is_s3(record: &RawValue) -> bool {
    serde_json::from_str::<Members<'_>>(record.get()).is_ok_and(|members| names_s3(&members))
}

/// Others that speak S3's format write `minio:s3` or `ceph:s3`.
fn names_s3(members: &Members<'_>) -> bool {
    string(members, "eventSource").is_some_and(|source| source.ends_with(":s3"))
}

fn read_s3_record(record: &RawValue) -> Result<Change, UnknownReason> {
    let members: Members<'_> = serde_json::from_str(record.get()).map_err(|_| UnknownReason::Malformed)?;
    if !names_s3(&members) {
        return Err(UnknownReason::UnknownShape);
    }
    // A new minor version only adds fields; a new major one may change them.
    if string(&members, "eventVersion").is_some_and(|version| version.split('.').next() != Some("2")) {
        return Err(UnknownReason::UnsupportedVersion);
    }
    let event = filled(&members, "eventName").ok_or(UnknownReason::Malformed)?;
    let s3 = object(&members, "s3").ok_or(UnknownReason::Malformed)?;
    let bucket = object(&s3, "bucket").and_then(|bucket| filled(&bucket, "name"));
    let object = object(&s3, "object").ok_or(UnknownReason::Malformed)?;
    let key = filled(&object, "key").ok_or(UnknownReason::Malformed)?;
    let reference = ObjectRef {
        bucket: bucket.ok_or(UnknownReason::Malformed)?,
        version_id: filled(&object, "versionId"),
        etag: etag(&object, "eTag"),
        size: size(&object),
        region: filled(&members, "awsRegion"),
        sequencer: filled(&object, "sequencer"),
        ..form_key(key)
    };
    Ok(match event.trim_start_matches("s3:").split(':').next() {
        Some("ObjectCreated") => Change::Created(reference),
        Some("ObjectRemoved" | "LifecycleExpiration" | "ReducedRedundancyLostObject") => {
            Change::Removed(reference)
        }
        _ => Change::Other,
    })
}

/// Reads an event of source `aws.s3` whose detail type is `kind`; its keys stand there as they are.
///
/// Source: <https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html>
pub(super) fn read_eventbridge(kind: &str, members: &Members<'_>) -> Notification {
    let change = || {
        let detail = object(members, "detail").ok_or(UnknownReason::Malformed)?;
        let bucket = object(&detail, "bucket").and_then(|bucket| filled(&bucket, "name"));
        let object = object(&detail, "object").ok_or(UnknownReason::Malformed)?;
        let key = filled(&object, "key").ok_or(UnknownReason::Malformed)?;
        let reference = ObjectRef {
            bucket: bucket.ok_or(UnknownReason::Malformed)?,
            version_id: filled(&object, "version-id"),
            etag: etag(&object, "etag"),
            size: size(&object),
            region: filled(members, "region"),
            sequencer: filled(&object, "sequencer"),
            ..plain_key(key)
        };
        Ok(match kind {
            "Object Created" => Change::Created(reference),
            "Object Deleted" => Change::Removed(reference),
            _ => Change::Other,
        })
    };
    collect(NotificationShape::EventBridgeS3, std::iter::once(change()))
}

/// Sums up a message: objects to fetch go before everything else, and nothing that it says is lost.
fn collect(
    shape: NotificationShape,
    changes: impl Iterator<Item = Result<Change, UnknownReason>>,
) -> Notification {
    let (mut created, mut removed) = (Vec::new(), Vec::new());
    let (mut others, mut unreadable) = (0usize, None);
    for change in changes {
        match change {
            Ok(Change::Created(reference)) => created.push(reference),
            Ok(Change::Removed(reference)) => removed.push(reference),
            Ok(Change::Other) => others += 1,
            Err(reason) => unreadable = unreadable.or(Some(reason)),
        }
    }
    let content = match unreadable {
        _ if !created.is_empty() => Content::Objects(created),
        Some(reason) => Content::Unknown(reason),
        None if !removed.is_empty() => Content::Nothing(NothingReason::ObjectRemoved),
        None if others > 0 => Content::Nothing(NothingReason::OtherObjectEvent),
        None => Content::Nothing(NothingReason::EmptyList),
    };
    Notification { shape, content, removed, unreadable }
}

fn etag(object: &Members<'_>, key: &str) -> Option<String> {
    let etag = filled(object, key)?;
    Some(etag.trim_matches('"').to_owned()).filter(|etag| !etag.is_empty())
}

fn size(object: &Members<'_>) -> Option<u64> {
    serde_json::from_str(object.get("size")?.get()).ok()
}

/// A key from a shape that does not encode it.
fn plain_key(key: String) -> ObjectRef {
    let key_alternative = form_decode(&key).filter(|other| *other != key && !other.is_empty());
    ObjectRef { key, key_alternative, ..ObjectRef::default() }
}

/// A key from a shape that encodes it.
fn form_key(raw: String) -> ObjectRef {
    match form_decode(&raw).filter(|key| !key.is_empty()) {
        Some(key) if key != raw => ObjectRef { key, key_alternative: Some(raw), ..ObjectRef::default() },
        // What cannot be decoded was not encoded.
        _ => ObjectRef { key: raw, ..ObjectRef::default() },
    }
}

/// Decodes `+` and `%xx`; `None` where that does not give UTF-8 or a `%` has no two digits after it.
fn form_decode(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                let (high, low) = (digit(bytes.next())?, digit(bytes.next())?);
                u8::try_from(high * 16 + low).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(decoded).ok()
}
