//! Every shape of message, wrapped, raw, pretty-printed, mixed and forged.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::*;

const KEY: &str = "AWSLogs/111122223333/CloudTrail/us-east-1/2023/07/10/111122223333_CloudTrail_us-east-1_20230710T1145Z_7xgocspSowgK0Gto.json.gz";

fn read(body: &Value) -> Notification {
    read_notification(body.to_string().as_bytes())
}

/// An SNS envelope as SQS gets it.
fn sns(message: &str) -> Value {
    json!({
        "Type": "Notification", "MessageId": "dc1e94d9-56c5-5e96-808d-cc7f68faa162",
        "TopicArn": "arn:aws:sns:us-east-1:111122223333:trail", "Subject": "Amazon S3 Notification",
        "Message": message, "Timestamp": "2023-07-10T11:45:02.123Z", "SignatureVersion": "1", "Signature": "EXAMPLE==",
        "SigningCertURL": "https://sns.us-east-1.amazonaws.com/SimpleNotificationService-01.pem",
        "UnsubscribeURL": "https://sns.us-east-1.amazonaws.com/?Action=Unsubscribe",
    })
}

fn s3_record(event: &str, key: &str) -> Value {
    json!({
        "eventVersion": "2.1", "eventSource": "aws:s3", "awsRegion": "us-east-1",
        "eventTime": "2024-05-01T12:00:00.000Z", "eventName": event, "userIdentity": { "principalId": "AWS:x" },
        "requestParameters": { "sourceIPAddress": "10.0.0.1" }, "responseElements": { "x-amz-request-id": "r" },
        "s3": { "s3SchemaVersion": "1.0", "configurationId": "c",
            "bucket": { "name": "trail", "ownerIdentity": { "principalId": "p" }, "arn": "arn:aws:s3:::trail" },
            "object": { "key": key, "size": 1024, "eTag": "d41d8cd9", "versionId": "v1", "sequencer": "0062B9D834A809629F" } },
    })
}

fn s3(records: Vec<Value>) -> Value {
    json!({ "Records": records })
}

fn eventbridge_s3(kind: &str, key: &str) -> Value {
    json!({
        "version": "0", "id": "17793124-05d4-b198-2fde-7ededc63b103", "detail-type": kind, "source": "aws.s3",
        "account": "111122223333", "time": "2021-11-12T00:00:00Z", "region": "ca-central-1", "resources": ["arn:aws:s3:::trail"],
        "detail": { "version": "0", "bucket": { "name": "trail" },
            "object": { "key": key, "size": 5, "etag": "b1946ac9", "version-id": "v2", "sequencer": "617f08299329d189" },
            "request-id": "r", "requester": "123456789012", "source-ip-address": "1.2.3.4", "reason": "PutObject" },
    })
}

fn objects(notification: &Notification) -> &[ObjectRef] {
    match &notification.content {
        Content::Objects(objects) => objects,
        other => panic!("no objects: {other:?}"),
    }
}

#[track_caller]
fn nothing(notification: &Notification, shape: NotificationShape, reason: NothingReason) {
    assert_eq!((notification.shape, &notification.content), (shape, &Content::Nothing(reason)));
}

#[track_caller]
fn unknown(notification: &Notification, shape: NotificationShape, reason: UnknownReason) {
    assert_eq!((notification.shape, &notification.content), (shape, &Content::Unknown(reason)));
}

#[track_caller]
fn one_key(body: &Value, shape: NotificationShape, key: &str, alternative: Option<&str>) {
    let notification = read(body);
    assert_eq!((notification.shape, notification.unreadable), (shape, None));
    let [object] = objects(&notification) else { panic!("not one object") };
    assert_eq!((object.bucket.as_str(), object.key.as_str()), ("trail", key));
    assert_eq!(object.key_alternative.as_deref(), alternative);
}

#[test]
fn cloudtrails_own_notification_names_all_its_keys() {
    let inner = json!({ "s3Bucket": "trail", "s3ObjectKey": [KEY, "second.json.gz"] });
    for (body, shape) in [
        (sns(&inner.to_string()), NotificationShape::CloudTrailSns),
        (inner, NotificationShape::CloudTrailSnsRaw),
    ] {
        let notification = read(&body);
        assert_eq!(notification.shape, shape);
        let keys: Vec<_> = objects(&notification)
            .iter()
            .map(|object| (object.bucket.as_str(), object.key.as_str()))
            .collect();
        assert_eq!(keys, [("trail", KEY), ("trail", "second.json.gz")]);
    }
}

#[test]
fn cloudtrails_own_notification_may_name_one_key_without_a_list() {
    one_key(
        &json!({ "s3Bucket": "trail", "s3ObjectKey": KEY }),
        NotificationShape::CloudTrailSnsRaw,
        KEY,
        None,
    );
}

#[test]
fn an_s3_event_says_all_it_knows_of_the_object() {
    let expected = ObjectRef {
        bucket: "trail".to_owned(),
        key: KEY.to_owned(),
        key_alternative: None,
        version_id: Some("v1".to_owned()),
        etag: Some("d41d8cd9".to_owned()),
        size: Some(1024),
        region: Some("us-east-1".to_owned()),
        sequencer: Some("0062B9D834A809629F".to_owned()),
    };
    let body = s3(vec![s3_record("ObjectCreated:Put", KEY)]);
    assert_eq!(objects(&read(&body)), std::slice::from_ref(&expected));
    let wrapped = read(&sns(&body.to_string()));
    assert_eq!(wrapped.shape, NotificationShape::S3Sns);
    assert_eq!(objects(&wrapped), [expected]);
}

#[test]
fn an_eventbridge_event_says_all_it_knows_of_the_object() {
    let expected = ObjectRef {
        bucket: "trail".to_owned(),
        key: KEY.to_owned(),
        key_alternative: None,
        version_id: Some("v2".to_owned()),
        etag: Some("b1946ac9".to_owned()),
        size: Some(5),
        region: Some("ca-central-1".to_owned()),
        sequencer: Some("617f08299329d189".to_owned()),
    };
    for body in
        [eventbridge_s3("Object Created", KEY), sns(&eventbridge_s3("Object Created", KEY).to_string())]
    {
        let notification = read(&body);
        assert_eq!(notification.shape, NotificationShape::EventBridgeS3);
        assert_eq!(objects(&notification), std::slice::from_ref(&expected));
    }
}

#[test]
fn pretty_printed_messages_read_the_same() {
    let body = s3(vec![s3_record("ObjectCreated:CompleteMultipartUpload", KEY)]);
    let wrapped = sns(&serde_json::to_string_pretty(&body).unwrap());
    let pretty = format!("\u{feff}\r\n{}\n", serde_json::to_string_pretty(&wrapped).unwrap());
    assert_eq!(objects(&read_notification(pretty.as_bytes())), objects(&read(&body)));
}

#[test]
fn keys_of_s3_events_are_decoded_and_the_raw_key_is_kept_as_the_other_reading() {
    let s3_key = |key| s3(vec![s3_record("ObjectCreated:Put", key)]);
    let shape = NotificationShape::S3;
    one_key(&s3_key("a/b-c_d.json.gz"), shape, "a/b-c_d.json.gz", None);
    one_key(&s3_key("this+im+%2B+age"), shape, "this im + age", Some("this+im+%2B+age"));
    one_key(
        &s3_key("AWSLogs%2F1%2Fx.json.gz"),
        shape,
        "AWSLogs/1/x.json.gz",
        Some("AWSLogs%2F1%2Fx.json.gz"),
    );
    one_key(&s3_key("caf%C3%A9/%e2%82%ac"), shape, "café/€", Some("caf%C3%A9/%e2%82%ac"));
    // What cannot be decoded was written by something that does not encode.
    for raw in ["100%", "a%zz", "a%2", "%C3%28", "%+1", "café ü.json"] {
        one_key(&s3_key(raw), shape, raw, None);
    }
}

#[test]
fn keys_of_the_other_shapes_stand_as_they_are() {
    let cloudtrail = |key: &str| json!({ "s3Bucket": "trail", "s3ObjectKey": [key] });
    for (key, other) in [("a+b c", Some("a b c")), ("a%2Fb", Some("a/b")), ("café €/x", None), ("100%", None)]
    {
        one_key(&cloudtrail(key), NotificationShape::CloudTrailSnsRaw, key, other);
        one_key(&sns(&cloudtrail(key).to_string()), NotificationShape::CloudTrailSns, key, other);
        one_key(&eventbridge_s3("Object Created", key), NotificationShape::EventBridgeS3, key, other);
    }
}

#[test]
fn the_validation_message_is_swallowed_wrapped_and_raw() {
    let text = "CloudTrail validation message.";
    for body in [text.to_owned(), format!(" {text}\n"), json!(text).to_string(), sns(text).to_string()] {
        nothing(
            &read_notification(body.as_bytes()),
            NotificationShape::Validation,
            NothingReason::ValidationMessage,
        );
    }
    let close = read_notification(b"CloudTrail validation message!");
    unknown(&close, NotificationShape::Unknown, UnknownReason::NotJson);
}

#[test]
fn the_test_event_of_s3_is_swallowed() {
    let body = json!({ "Service": "Amazon S3", "Event": "s3:TestEvent", "Time": "2014-10-13T15:57:02.089Z",
                       "Bucket": "b", "RequestId": "r", "HostId": "h" });
    for body in [sns(&body.to_string()), body] {
        nothing(&read(&body), NotificationShape::TestEvent, NothingReason::TestEvent);
    }
}

#[test]
fn confirmations_of_sns_are_never_followed() {
    for kind in ["SubscriptionConfirmation", "UnsubscribeConfirmation"] {
        let body = json!({ "Type": kind, "Token": "t", "TopicArn": "a", "Message": "{\"s3Bucket\":\"b\",\"s3ObjectKey\":[\"k\"]}",
                           "SubscribeURL": "https://sns.us-east-1.amazonaws.com/?Action=ConfirmSubscription" });
        nothing(&read(&body), NotificationShape::SnsControl, NothingReason::SnsControl);
    }
}

#[test]
fn an_event_through_eventbridge_stands_in_the_message_as_it_is() {
    let detail =
        r#"{ "eventVersion" : "1.08", "userIdentity": {"type":"Root"}, "n": 1.68E9, "eventID": "e" }"#;
    for kind in [
        "AWS API Call via CloudTrail",
        "AWS Console Sign In via CloudTrail",
        "AWS Service Event via CloudTrail",
        "AWS Insight via CloudTrail",
    ] {
        let body = format!(
            r#"{{"version":"0","id":"6f87d04b-9f74-4f04","detail-type":"{kind}","source":"aws.ec2","detail":{detail}}}"#
        );
        for body in [sns(&body).to_string(), body] {
            let notification = read_notification(body.as_bytes());
            assert_eq!(notification.shape, NotificationShape::EventBridgeCloudTrail);
            let expected =
                InlineEvents { id: "6f87d04b-9f74-4f04".to_owned(), document: Bytes::from(detail) };
            assert_eq!(notification.content, Content::Events(expected));
        }
    }
}

#[test]
fn an_event_without_a_usable_id_is_named_by_its_hash() {
    let body = |id: &str| {
        format!(
            r#"{{"id":{id},"detail-type":"AWS API Call via CloudTrail","source":"aws.ec2","detail":{{"eventVersion":"1.08"}}}}"#
        )
    };
    let mut ids = HashSet::new();
    for id in ["\"../../etc\"", "\"a b\"", "\"\"", "7", &format!("\"{}\"", "x".repeat(65))] {
        let Content::Events(events) = read_notification(body(id).as_bytes()).content else {
            panic!("no events")
        };
        ids.insert(events.id);
    }
    let hash = Sha256::digest(br#"{"eventVersion":"1.08"}"#);
    let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(ids, HashSet::from([hash]));
}

#[test]
fn an_event_through_eventbridge_has_to_be_an_event() {
    for detail in [json!("text"), json!(null), json!({ "other": 1 }), json!([])] {
        let body = json!({ "id": "i", "detail-type": "AWS API Call via CloudTrail", "source": "aws.ec2", "detail": detail });
        unknown(&read(&body), NotificationShape::EventBridgeCloudTrail, UnknownReason::Malformed);
    }
}

#[test]
fn subscriptions_of_cloudwatch_logs_are_documents_for_the_reader() {
    let payload = json!({ "messageType": "DATA_MESSAGE", "owner": "111122223333", "logGroup": "g", "logStream": "s",
        "subscriptionFilters": ["f"], "logEvents": [{ "id": "1", "timestamp": 1, "message": "{\"eventID\":\"e\"}" }] });
    let encoded = json!({ "awslogs": { "data": STANDARD.encode(payload.to_string()) } });
    let mut read_before = None;
    for body in [payload.clone(), sns(&payload.to_string()), encoded] {
        let notification = read(&body);
        assert_eq!(notification.shape, NotificationShape::CloudWatchLogs);
        let Content::Events(events) = notification.content else { panic!("no events") };
        assert_eq!(events.document, payload.to_string().as_bytes());
        assert_eq!(*read_before.get_or_insert(events.id.clone()), events.id);
    }
    let control = json!({ "messageType": "CONTROL_MESSAGE", "logEvents": [{ "id": "", "message": "CWL CONTROL MESSAGE" }] });
    nothing(&read(&control), NotificationShape::CloudWatchLogs, NothingReason::ControlMessage);
    for odd in [
        json!({ "messageType": "NEW", "logEvents": [] }),
        json!({ "awslogs": { "data": "*" } }),
        json!({ "awslogs": 1 }),
    ] {
        unknown(&read(&odd), NotificationShape::CloudWatchLogs, UnknownReason::Malformed);
    }
}

#[test]
fn hand_offs_are_read_whole_or_not_at_all() {
    let handoff = json!({ "trailship.handoff": 1, "bucket": "b", "key": "k", "version_id": "v", "etag": null, "sink": "s",
                          "ranges": [[0, 4]], "attempts": 1, "first_seen": "2023-07-10T11:42:01.000Z" });
    let notification = read(&json!([handoff, handoff]));
    assert_eq!(notification.shape, NotificationShape::Handoff);
    assert!(
        matches!(&notification.content, Content::Handoff(list) if list.len() == 2 && list[0].ranges.first() == Some(&(0..4)))
    );
    let mut newer = handoff.clone();
    newer["trailship.handoff"] = json!(2);
    unknown(&read(&json!([handoff, newer])), NotificationShape::Handoff, UnknownReason::UnsupportedVersion);
    let mut broken = handoff.clone();
    broken["ranges"] = json!([]);
    unknown(&read(&json!([handoff, broken])), NotificationShape::Handoff, UnknownReason::Malformed);
    unknown(&read(&json!([handoff, { "x": 1 }])), NotificationShape::Handoff, UnknownReason::Malformed);
    unknown(&read(&json!([])), NotificationShape::Unknown, UnknownReason::UnknownShape);
    unknown(&read(&handoff), NotificationShape::Unknown, UnknownReason::UnknownShape);
}

#[test]
fn envelopes_may_be_nested_three_deep() {
    let mut body = s3(vec![s3_record("ObjectCreated:Put", KEY)]);
    for _ in 0..3 {
        body = sns(&body.to_string());
        assert_eq!(objects(&read(&body))[0].key, KEY);
    }
    unknown(&read(&sns(&body.to_string())), NotificationShape::Unknown, UnknownReason::TooDeep);
}

#[test]
fn a_removed_object_is_not_fetched_and_not_forgotten() {
    for event in [
        "ObjectRemoved:Delete",
        "ObjectRemoved:DeleteMarkerCreated",
        "LifecycleExpiration:Delete",
        "s3:ObjectRemoved:Delete",
    ] {
        let notification = read(&s3(vec![s3_record(event, "a+b")]));
        nothing(&notification, NotificationShape::S3, NothingReason::ObjectRemoved);
        assert_eq!(notification.removed[0].key, "a b", "{event}");
    }
    let notification = read(&eventbridge_s3("Object Deleted", KEY));
    nothing(&notification, NotificationShape::EventBridgeS3, NothingReason::ObjectRemoved);
    assert_eq!(notification.removed[0].key, KEY);
}

#[test]
fn other_changes_of_an_object_are_nothing_to_do() {
    for event in [
        "ObjectRestore:Completed",
        "ObjectTagging:Put",
        "ObjectAcl:Put",
        "Replication:OperationFailedReplication",
        "LifecycleTransition",
    ] {
        nothing(
            &read(&s3(vec![s3_record(event, KEY)])),
            NotificationShape::S3,
            NothingReason::OtherObjectEvent,
        );
    }
    for kind in ["Object Restore Completed", "Object Tags Added", "Object Storage Class Changed"] {
        nothing(
            &read(&eventbridge_s3(kind, KEY)),
            NotificationShape::EventBridgeS3,
            NothingReason::OtherObjectEvent,
        );
    }
}

#[test]
fn a_mixed_message_loses_neither_what_was_created_nor_what_was_removed_nor_what_is_odd() {
    let mut newer = s3_record("ObjectCreated:Put", "newer");
    newer["eventVersion"] = json!("3.0");
    let body = s3(vec![
        s3_record("ObjectRemoved:Delete", "gone"),
        s3_record("ObjectTagging:Put", "tagged"),
        newer,
        json!("odd"),
        s3_record("ObjectCreated:Copy", "new"),
    ]);
    let notification = read(&body);
    assert_eq!(objects(&notification).iter().map(|object| object.key.as_str()).collect::<Vec<_>>(), ["new"]);
    assert_eq!(notification.removed.iter().map(|object| object.key.as_str()).collect::<Vec<_>>(), ["gone"]);
    assert_eq!(notification.unreadable, Some(UnknownReason::UnsupportedVersion));
}

#[test]
fn a_message_with_nothing_but_odd_records_is_unknown() {
    let mut keyless = s3_record("ObjectCreated:Put", KEY);
    keyless["s3"]["object"]["key"] = json!("");
    let mut nameless = s3_record("ObjectCreated:Put", KEY);
    nameless["s3"]["bucket"] = json!({});
    for record in [keyless, nameless] {
        let gone = s3_record("ObjectRemoved:Delete", "gone");
        let notification = read(&s3(vec![record, gone]));
        unknown(&notification, NotificationShape::S3, UnknownReason::Malformed);
        assert_eq!(notification.removed.len(), 1);
    }
    let mut newer = s3_record("ObjectCreated:Put", KEY);
    newer["eventVersion"] = json!("3.0");
    unknown(&read(&s3(vec![newer])), NotificationShape::S3, UnknownReason::UnsupportedVersion);
    let mixed = read(&json!({ "s3Bucket": "trail", "s3ObjectKey": [7, KEY] }));
    assert_eq!((objects(&mixed).len(), mixed.unreadable), (1, Some(UnknownReason::Malformed)));
}

#[test]
fn minor_versions_and_other_writers_of_s3_events_are_taken() {
    for version in [json!("2.0"), json!("2.3"), json!("2.99"), json!(null)] {
        let mut record = s3_record("s3:ObjectCreated:Put", KEY);
        record["eventVersion"] = version;
        assert_eq!(objects(&read(&s3(vec![record]))).len(), 1);
    }
    for source in ["minio:s3", "ceph:s3"] {
        let mut record = s3_record("s3:ObjectCreated:Put", KEY);
        record["eventSource"] = json!(source);
        assert_eq!(objects(&read(&s3(vec![record]))).len(), 1);
    }
    let mut record = s3_record("ObjectCreated:Put", KEY);
    record["s3"]["object"] = json!({ "key": KEY, "eTag": "\"abc\"", "versionId": "", "size": -1 });
    let notification = read(&s3(vec![record]));
    let object = &objects(&notification)[0];
    assert_eq!(
        (object.etag.as_deref(), object.version_id.as_deref(), object.size),
        (Some("abc"), None, None)
    );
}

#[test]
fn an_empty_list_is_nothing_to_do() {
    nothing(&read(&s3(vec![])), NotificationShape::S3, NothingReason::EmptyList);
    let body = json!({ "s3Bucket": "b", "s3ObjectKey": [] });
    nothing(&read(&body), NotificationShape::CloudTrailSnsRaw, NothingReason::EmptyList);
}

#[test]
fn objects_of_security_lake_are_named_and_their_keys_are_foreign() {
    let key =
        "aws/CLOUD_TRAIL_MGMT/2.0/region=eu-west-1/accountId=111122223333/eventDay=20230710/a.gz.parquet";
    let notification = read(&eventbridge_s3("Object Created", key));
    assert_eq!(crate::ObjectKey::parse(&objects(&notification)[0].key).kind, crate::KeyKind::Foreign);
}

#[test]
fn what_nobody_knows_is_unknown() {
    for (body, reason) in [
        (&b""[..], UnknownReason::NotJson),
        (b"hello", UnknownReason::NotJson),
        (b"{", UnknownReason::NotJson),
        (b"\"a", UnknownReason::NotJson),
        (b"[1", UnknownReason::NotJson),
        (b"\xff\xfe", UnknownReason::NotUtf8),
        (b"H4sIAAAAAAAA", UnknownReason::NotJson),
        (b"{}", UnknownReason::UnknownShape),
        (b"[]", UnknownReason::UnknownShape),
        (b"7", UnknownReason::UnknownShape),
        (b"null", UnknownReason::UnknownShape),
        (br#"{"Type":"Notification"}"#, UnknownReason::UnknownShape),
        (br#"{"Type":"Notification","Message":7}"#, UnknownReason::Malformed),
        (br#"{"Records":{}}"#, UnknownReason::UnknownShape),
        (br#"{"Records":[{"eventSource":"aws:sqs","body":"x"}]}"#, UnknownReason::UnknownShape),
        (
            br#"{"detail-type":"EC2 Instance State-change Notification","source":"aws.ec2","detail":{}}"#,
            UnknownReason::UnknownShape,
        ),
        (br#"{"detail-type":"Object Created","source":"custom","detail":{}}"#, UnknownReason::UnknownShape),
    ] {
        unknown(&read_notification(body), NotificationShape::Unknown, reason);
    }
    unknown(
        &read(&json!({ "s3ObjectKey": ["k"] })),
        NotificationShape::CloudTrailSnsRaw,
        UnknownReason::Malformed,
    );
    let detail = json!({ "detail-type": "Object Created", "source": "aws.s3", "detail": {} });
    unknown(&read(&detail), NotificationShape::EventBridgeS3, UnknownReason::Malformed);
}

#[test]
fn deep_nesting_is_refused_without_a_deep_stack() {
    let deep = format!("{{\"s3Bucket\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    unknown(&read_notification(deep.as_bytes()), NotificationShape::Unknown, UnknownReason::UnknownShape);
}

#[test]
fn every_label_is_of_its_own() {
    let distinct = |labels: Vec<&str>| labels.iter().collect::<HashSet<_>>().len() == labels.len();
    assert!(distinct(NotificationShape::ALL.iter().map(|shape| shape.as_str()).collect()));
    assert!(distinct(NothingReason::ALL.iter().map(|reason| reason.as_str()).collect()));
    assert!(distinct(UnknownReason::ALL.iter().map(|reason| reason.as_str()).collect()));
}

/// A message of some shape, to be damaged.
fn any_message() -> impl Strategy<Value = String> {
    let raw = prop::sample::select(vec![
        s3(vec![s3_record("ObjectCreated:Put", KEY), s3_record("ObjectRemoved:Delete", "x")]).to_string(),
        eventbridge_s3("Object Created", KEY).to_string(),
        json!({ "s3Bucket": "trail", "s3ObjectKey": [KEY] }).to_string(),
        json!({ "id": "i", "detail-type": "AWS API Call via CloudTrail", "detail": { "eventVersion": "1.08" } }).to_string(),
        json!([{ "trailship.handoff": 1, "bucket": "b", "key": "k", "sink": "s", "ranges": [[0, 4]], "attempts": 1, "first_seen": "2023-07-10T11:42:01Z" }]).to_string(),
        "CloudTrail validation message.".to_owned(),
    ]);
    (raw, 0..4u8).prop_map(|(raw, depth)| (0..depth).fold(raw, |body, _| sns(&body).to_string()))
}

proptest! {
    #[test]
    fn no_forged_message_makes_it_panic_and_what_is_named_is_never_empty(
        message in any_message(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3u8), 0..6),
    ) {
        let mut bytes = message.into_bytes();
        for (at, byte, how) in damage {
            let at = at.index(bytes.len());
            match how {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => bytes.truncate(at.max(1)),
            }
        }
        let notification = read_notification(&bytes);
        match &notification.content {
            Content::Objects(objects) => {
                prop_assert!(!objects.is_empty());
                prop_assert!(objects.iter().all(|object| !object.bucket.is_empty() && !object.key.is_empty()));
            }
            Content::Handoff(list) => prop_assert!(!list.is_empty()),
            Content::Events(events) => prop_assert!((1..=64).contains(&events.id.len())),
            Content::Nothing(_) | Content::Unknown(_) => {}
        }
    }

    #[test]
    fn whatever_is_encoded_as_in_a_form_is_decoded(key in "\\PC{1,40}") {
        let encoded: String = key.bytes().map(|byte| match byte {
            b' ' => "+".to_owned(),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        }).collect();
        let notification = read(&s3(vec![s3_record("ObjectCreated:Put", &encoded)]));
        prop_assert_eq!(&objects(&notification)[0].key, &key);
    }
}
