//! What a queue is told when an object is written: every way that leads from a bucket to a queue, in AWS's encoding.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::clock::{Millis, iso8601, iso8601_ms};
use super::s3::Version;
use super::sqs::{Outgoing, uuid};
use super::{Names, Shared, State};
use crate::http::percent_encode;
use crate::random::Rng;

/// The way from a bucket to a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NotifyKind {
    /// S3 event notification, straight to the queue. The key is form-encoded.
    /// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html>
    S3,
    /// The same inside an SNS envelope.
    S3ViaSns,
    /// The same through SNS with raw delivery.
    S3ViaSnsRaw,
    /// EventBridge "Object Created". The key is plain.
    /// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html>
    EventBridge,
    /// CloudTrail's own SNS message: a list of plain keys, in an SNS envelope.
    /// <https://docs.aws.amazon.com/awscloudtrail/latest/userguide/configure-sns-notifications-for-cloudtrail.html>
    CloudTrailSns,
    /// The same with raw delivery.
    CloudTrailSnsRaw,
}

/// Tells a queue of objects written to a bucket.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Notification {
    /// The queue's name.
    pub queue: String,
    /// The way.
    pub kind: NotifyKind,
    /// Only keys that begin so.
    #[serde(default)]
    pub prefix: String,
    /// Only keys that end so.
    #[serde(default)]
    pub suffix: String,
    /// Tell of deleted objects too (S3 and EventBridge ways only).
    #[serde(default)]
    pub removals: bool,
}

impl Notification {
    /// Tells `queue` of every object.
    #[must_use]
    pub fn new(queue: &str, kind: NotifyKind) -> Self {
        Self { queue: queue.to_owned(), kind, prefix: String::new(), suffix: String::new(), removals: false }
    }

    fn wants(&self, key: &str) -> bool {
        key.starts_with(&self.prefix) && key.ends_with(&self.suffix)
    }
}

/// An object as notifications describe it.
struct Told<'a> {
    bucket: &'a str,
    owner: &'a str,
    region: &'a str,
    key: &'a str,
    version: Option<&'a Version>,
    sequencer: &'a str,
    removed: bool,
    marker: bool,
}

impl State {
    /// Tells every interested queue of one written object.
    pub(crate) fn announce(&mut self, shared: &Shared, bucket: &str, key: &str, version: &Version) {
        self.announce_all(shared, bucket, &[(key.to_owned(), version.clone())]);
    }

    /// Tells every interested queue of several objects: CloudTrail's own way puts all into one message.
    pub(crate) fn announce_all(&mut self, shared: &Shared, bucket: &str, written: &[(String, Version)]) {
        let Ok(own) = self.s3.bucket(bucket) else { return };
        let (owner, region, rules) = (own.owner.clone(), own.region.clone(), own.notifications.clone());
        for rule in rules {
            let wanted: Vec<_> = written.iter().filter(|(key, _)| rule.wants(key)).collect();
            if wanted.is_empty() {
                continue;
            }
            if matches!(rule.kind, NotifyKind::CloudTrailSns | NotifyKind::CloudTrailSnsRaw) {
                let keys: Vec<&str> = wanted.iter().map(|(key, _)| key.as_str()).collect();
                let plain = json!({ "s3Bucket": bucket, "s3ObjectKey": keys }).to_string();
                self.tell(shared, &rule, bucket, &keys, plain);
                continue;
            }
            for (key, version) in wanted {
                let told = Told {
                    bucket,
                    owner: &owner,
                    region: &region,
                    key,
                    version: Some(version),
                    sequencer: &version.sequencer,
                    removed: false,
                    marker: false,
                };
                let body = self.body(shared, rule.kind, &told);
                self.tell(shared, &rule, bucket, &[key], body);
            }
        }
        shared.changed.notify_waiters();
    }

    /// Tells every interested queue of a deleted object.
    pub(crate) fn announce_removal(
        &mut self,
        shared: &Shared,
        bucket: &str,
        key: &str,
        marker: Option<&Version>,
    ) {
        let Ok(own) = self.s3.bucket(bucket) else { return };
        let (owner, region, rules) = (own.owner.clone(), own.region.clone(), own.notifications.clone());
        for rule in rules.into_iter().filter(|rule| rule.removals && rule.wants(key)) {
            if matches!(rule.kind, NotifyKind::CloudTrailSns | NotifyKind::CloudTrailSnsRaw) {
                continue;
            }
            let told = Told {
                bucket,
                owner: &owner,
                region: &region,
                key,
                version: marker,
                sequencer: marker.map_or("0", |marker| marker.sequencer.as_str()),
                removed: true,
                marker: marker.is_some(),
            };
            let body = self.body(shared, rule.kind, &told);
            self.tell(shared, &rule, bucket, &[], body);
        }
    }

    fn body(&mut self, shared: &Shared, kind: NotifyKind, told: &Told<'_>) -> String {
        let now = shared.clock.now();
        if kind == NotifyKind::EventBridge {
            event_bridge(&mut self.rng, &shared.names, told, now).to_string()
        } else {
            s3_event(&mut self.rng, told, now).to_string()
        }
    }

    /// Puts the message on the queue, in an SNS envelope where the way has one.
    fn tell(&mut self, shared: &Shared, rule: &Notification, bucket: &str, keys: &[&str], plain: String) {
        let now = shared.clock.now();
        let body = match rule.kind {
            NotifyKind::S3ViaSns => {
                envelope(&mut self.rng, &shared.names, Some("Amazon S3 Notification"), &plain, now)
            }
            NotifyKind::CloudTrailSns => envelope(&mut self.rng, &shared.names, None, &plain, now),
            _ => plain,
        };
        let objects = keys.iter().map(|key| (bucket.to_owned(), (*key).to_owned())).collect();
        // A queue that is gone gets nothing, as on AWS.
        let _ = self.sqs.send(&rule.queue, Outgoing { body, objects, ..Outgoing::default() }, now);
    }
}

fn s3_event(rng: &mut Rng, told: &Told<'_>, now: Millis) -> Value {
    let name = match (told.removed, told.marker) {
        (false, _) => "ObjectCreated:Put",
        (true, false) => "ObjectRemoved:Delete",
        (true, true) => "ObjectRemoved:DeleteMarkerCreated",
    };
    let mut object = json!({ "key": percent_encode(told.key, "/ ").replace(' ', "+") });
    if let (Some(version), false) = (told.version, told.removed) {
        object["size"] = version.body.len().into();
        object["eTag"] = version.etag.as_str().into();
    }
    if let Some(version) = told.version.filter(|version| version.id != "null") {
        object["versionId"] = version.id.as_str().into();
    }
    object["sequencer"] = told.sequencer.into();
    json!({ "Records": [{
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": told.region,
        "eventTime": iso8601_ms(now),
        "eventName": name,
        "userIdentity": { "principalId": "AWS:AROATESTKITEXAMPLE:regionalDeliverySession" },
        "requestParameters": { "sourceIPAddress": "10.0.0.1" },
        "responseElements": { "x-amz-request-id": format!("{:016X}", rng.bits()), "x-amz-id-2": "testkit" },
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": "testkit",
            "bucket": {
                "name": told.bucket,
                "ownerIdentity": { "principalId": "A3TESTKITEXAMPLE" },
                "arn": format!("arn:aws:s3:::{}", told.bucket),
            },
            "object": object,
        },
    }] })
}

fn event_bridge(rng: &mut Rng, names: &Names, told: &Told<'_>, now: Millis) -> Value {
    let mut object = json!({ "key": told.key });
    if let (Some(version), false) = (told.version, told.removed) {
        object["size"] = version.body.len().into();
        object["etag"] = version.etag.as_str().into();
    }
    if let Some(version) = told.version.filter(|version| version.id != "null") {
        object["version-id"] = version.id.as_str().into();
    }
    object["sequencer"] = told.sequencer.into();
    let mut detail = json!({
        "version": "0",
        "bucket": { "name": told.bucket },
        "object": object,
        "request-id": format!("{:016X}", rng.bits()),
        "requester": "cloudtrail.amazonaws.com",
        "source-ip-address": "10.0.0.1",
        "reason": if told.removed { "DeleteObject" } else { "PutObject" },
    });
    if told.removed {
        detail["deletion-type"] =
            if told.marker { "Delete Marker Created" } else { "Permanently Deleted" }.into();
    }
    let account = if told.owner.is_empty() { &names.account } else { told.owner };
    json!({
        "version": "0",
        "id": uuid(rng),
        "detail-type": if told.removed { "Object Deleted" } else { "Object Created" },
        "source": "aws.s3",
        "account": account,
        "time": iso8601(now),
        "region": told.region,
        "resources": [format!("arn:aws:s3:::{}", told.bucket)],
        "detail": detail,
    })
}

/// An SNS envelope, its members in SNS's own order and layout.
/// <https://docs.aws.amazon.com/sns/latest/dg/sns-message-and-json-formats.html>
pub(crate) fn envelope(
    rng: &mut Rng,
    names: &Names,
    subject: Option<&str>,
    message: &str,
    now: Millis,
) -> String {
    let topic = format!("arn:aws:sns:{}:{}:testkit", names.region, names.account);
    let quote = |text: &str| Value::from(text).to_string();
    let subject =
        subject.map_or_else(String::new, |subject| format!("  \"Subject\" : {},\n", quote(subject)));
    let host = format!("https://sns.{}.amazonaws.com", names.region);
    format!(
        "{{\n  \"Type\" : \"Notification\",\n  \"MessageId\" : {},\n  \"TopicArn\" : {},\n{subject}  \"Message\" : {},\n  \
         \"Timestamp\" : {},\n  \"SignatureVersion\" : \"1\",\n  \"Signature\" : \"EXAMPLE\",\n  \
         \"SigningCertURL\" : {},\n  \"UnsubscribeURL\" : {}\n}}",
        quote(&uuid(rng)),
        quote(&topic),
        quote(message),
        quote(&iso8601_ms(now)),
        quote(&format!("{host}/SimpleNotificationService-testkit.pem")),
        quote(&format!("{host}/?Action=Unsubscribe&SubscriptionArn={topic}:testkit")),
    )
}
