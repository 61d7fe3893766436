//! The stand-in for AWS, spoken to by AWS's own SDK.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::{Duration, Instant};

use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_sqs::error::ProvideErrorMetadata;
use aws_sdk_sqs::types::{
    ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry, Message,
    MessageSystemAttributeName, QueueAttributeName, SendMessageBatchRequestEntry,
};
use testkit::aws::{
    Aws, AwsFault, AwsOptions, BucketOptions, FaultRule, Notification, NotifyKind, QueueCounts, What,
};

async fn config(aws: &Aws) -> aws_config::SdkConfig {
    aws_config::defaults(BehaviorVersion::latest())
        .endpoint_url(aws.url())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("AKIATESTKIT", "secret", None, None, "test"))
        .retry_config(aws_sdk_s3::config::retry::RetryConfig::disabled())
        .load()
        .await
}

struct Bed {
    aws: Aws,
    sqs: aws_sdk_sqs::Client,
    s3: aws_sdk_s3::Client,
}

impl Bed {
    /// A stand-in with a queue `q` and a bucket `logs` whose objects are announced on it.
    async fn new() -> Self {
        let aws = Aws::start(AwsOptions::default()).await.unwrap();
        let config = config(&aws).await;
        let sqs = aws_sdk_sqs::Client::new(&config);
        let s3 = aws_sdk_s3::Client::from_conf(
            aws_sdk_s3::config::Builder::from(&config).force_path_style(true).build(),
        );
        aws.create_queue("q");
        aws.create_bucket("logs", BucketOptions { versioned: true, ..BucketOptions::default() });
        aws.notify("logs", Notification::new("q", NotifyKind::S3)).unwrap();
        Self { aws, sqs, s3 }
    }

    fn url(&self) -> String {
        self.aws.queue("q").url()
    }

    async fn receive(&self) -> Vec<Message> {
        self.sqs
            .receive_message()
            .queue_url(self.url())
            .max_number_of_messages(10)
            .message_system_attribute_names(MessageSystemAttributeName::All)
            .send()
            .await
            .unwrap()
            .messages
            .unwrap_or_default()
    }

    fn counts(&self) -> QueueCounts {
        self.aws.queue("q").counts()
    }
}

fn counts(visible: usize, in_flight: usize, delayed: usize) -> QueueCounts {
    QueueCounts { visible, in_flight, delayed }
}

#[tokio::test]
async fn an_object_put_by_the_sdk_is_announced_received_fetched_and_deleted() {
    let bed = Bed::new().await;
    let key = "AWSLogs/1/a b+c.json.gz";
    let put = bed.s3.put_object().bucket("logs").key(key).body(ByteStream::from_static(b"0123456789"));
    let put = put.metadata("who", "me, and you").content_encoding("gzip").send().await.unwrap();
    let messages = bed.receive().await;
    assert_eq!(bed.counts(), counts(0, 1, 0));
    let body: serde_json::Value = serde_json::from_str(messages[0].body().unwrap()).unwrap();
    assert_eq!(body["Records"][0]["s3"]["object"]["key"], "AWSLogs/1/a+b%2Bc.json.gz");
    assert_eq!(body["Records"][0]["s3"]["object"]["versionId"].as_str(), put.version_id());
    let attributes = messages[0].attributes().unwrap();
    assert_eq!(attributes[&MessageSystemAttributeName::ApproximateReceiveCount], "1");
    assert!(
        attributes[&MessageSystemAttributeName::SentTimestamp].parse::<u64>().unwrap() > 1_700_000_000_000
    );

    let got = bed.s3.get_object().bucket("logs").key(key).send().await.unwrap();
    assert_eq!(got.e_tag(), put.e_tag());
    assert_eq!(got.content_encoding(), Some("gzip"));
    assert_eq!(got.metadata().unwrap()["who"], "me, and you");
    assert_eq!(got.body.collect().await.unwrap().into_bytes(), "0123456789");

    let part = bed.s3.get_object().bucket("logs").key(key).range("bytes=4-").if_match(put.e_tag().unwrap());
    let part = part.send().await.unwrap();
    assert_eq!(part.content_range(), Some("bytes 4-9/10"));
    assert_eq!(part.body.collect().await.unwrap().into_bytes(), "456789");
    let head = bed.s3.head_object().bucket("logs").key(key).send().await.unwrap();
    assert_eq!((head.content_length(), head.version_id()), (Some(10), put.version_id()));

    let handle = messages[0].receipt_handle().unwrap();
    bed.sqs.delete_message().queue_url(bed.url()).receipt_handle(handle).send().await.unwrap();
    assert!(bed.counts().is_empty());
    let life = &bed.aws.queue("q").messages()[0];
    assert_eq!(life.objects, [("logs".to_owned(), key.to_owned())]);
    assert!(life.gone && life.deliveries[0].deleted_ms.is_some(), "{life:?}");
}

#[tokio::test]
async fn only_the_newest_handle_deletes() {
    let bed = Bed::new().await;
    bed.aws.queue("q").send("hello").unwrap();
    let first = bed.receive().await.remove(0);
    bed.aws.advance(Duration::from_secs(31));
    let second = bed.receive().await.remove(0);
    assert_eq!(first.message_id(), second.message_id());
    let delete = |message: &Message| {
        bed.sqs.delete_message().queue_url(bed.url()).receipt_handle(message.receipt_handle().unwrap()).send()
    };
    delete(&first).await.unwrap();
    assert_eq!(bed.counts(), counts(0, 1, 0));
    let extend = bed.sqs.change_message_visibility().queue_url(bed.url()).visibility_timeout(60);
    assert!(extend.receipt_handle(first.receipt_handle().unwrap()).send().await.is_err());
    delete(&second).await.unwrap();
    assert_eq!(bed.counts(), counts(0, 0, 0));
    delete(&second).await.unwrap();
    let whats: Vec<_> = bed.aws.log().into_iter().map(|operation| operation.what).collect();
    assert!(
        matches!(
            whats[..],
            [
                What::Sent,
                What::Received { .. },
                What::Received { .. },
                What::DeletedStale,
                What::ExtendRefused,
                What::Deleted,
                What::DeletedAgain
            ]
        ),
        "{whats:?}"
    );
}

#[tokio::test]
async fn a_lease_is_extended_released_and_bounded() {
    let bed = Bed::new().await;
    bed.aws.queue("q").send("hello").unwrap();
    let message = bed.receive().await.remove(0);
    let handle = message.receipt_handle().unwrap();
    let extend = async |seconds| {
        let request = bed.sqs.change_message_visibility().queue_url(bed.url()).receipt_handle(handle);
        request.visibility_timeout(seconds).send().await
    };
    extend(3600).await.unwrap();
    bed.aws.advance(Duration::from_secs(3500));
    assert_eq!(bed.counts(), counts(0, 1, 0));
    bed.aws.advance(Duration::from_secs(8 * 3600));
    assert_eq!(bed.counts(), counts(1, 0, 0));
    let late = extend(60).await.unwrap_err().into_service_error();
    assert!(late.is_message_not_inflight(), "{late:?}");

    let message = bed.receive().await.remove(0);
    let handle = message.receipt_handle().unwrap();
    let extend = async |seconds| {
        let request = bed.sqs.change_message_visibility().queue_url(bed.url()).receipt_handle(handle);
        request.visibility_timeout(seconds).send().await
    };
    bed.aws.advance(Duration::from_secs(10));
    let beyond = extend(43_200).await.unwrap_err().into_service_error();
    assert_eq!(beyond.code(), Some("InvalidParameterValue"));
    assert!(beyond.message().unwrap().contains("43200"), "{beyond:?}");
    extend(43_180).await.unwrap();
    extend(0).await.unwrap();
    assert_eq!(bed.counts(), counts(1, 0, 0));
    let bad = bed.sqs.change_message_visibility().queue_url(bed.url()).visibility_timeout(1);
    let bad = bad.receipt_handle("nonsense").send().await.unwrap_err().into_service_error();
    assert!(bad.is_receipt_handle_is_invalid(), "{bad:?}");
}

#[tokio::test]
async fn batches_say_of_each_entry_how_it_ended() {
    let bed = Bed::new().await;
    let entry = |id: &str| SendMessageBatchRequestEntry::builder().id(id).message_body(id).build().unwrap();
    let sent = bed.sqs.send_message_batch().queue_url(bed.url()).entries(entry("a")).entries(entry("b"));
    assert_eq!(sent.send().await.unwrap().successful().len(), 2);
    let messages = bed.receive().await;
    let extend = |id: &str, handle: &str| {
        ChangeMessageVisibilityBatchRequestEntry::builder()
            .id(id)
            .receipt_handle(handle)
            .visibility_timeout(90)
            .build()
            .unwrap()
    };
    let extended = bed
        .sqs
        .change_message_visibility_batch()
        .queue_url(bed.url())
        .entries(extend("good", messages[0].receipt_handle().unwrap()))
        .entries(extend("bad", "nonsense"))
        .send()
        .await
        .unwrap();
    assert_eq!((extended.successful().len(), extended.failed()[0].id()), (1, "bad"));
    assert_eq!(extended.failed()[0].code(), "ReceiptHandleIsInvalid");

    let rule = FaultRule::new("DeleteMessageBatch", AwsFault::FailEntries { percent: 100 }).times(1);
    let fault = bed.aws.inject(rule);
    let delete = async || {
        let mut request = bed.sqs.delete_message_batch().queue_url(bed.url());
        for (at, message) in messages.iter().enumerate() {
            let entry = DeleteMessageBatchRequestEntry::builder().id(at.to_string());
            request =
                request.entries(entry.receipt_handle(message.receipt_handle().unwrap()).build().unwrap());
        }
        request.send().await.unwrap()
    };
    let failed = delete().await;
    assert_eq!((failed.failed().len(), failed.failed()[0].code()), (2, "InternalError"));
    assert_eq!((bed.counts(), bed.aws.fired(fault)), (counts(0, 2, 0), 1));
    assert_eq!(delete().await.successful().len(), 2);
    assert!(bed.counts().is_empty());
    let empty = bed.sqs.delete_message_batch().queue_url(bed.url()).set_entries(Some(Vec::new()));
    assert!(empty.send().await.unwrap_err().into_service_error().is_empty_batch_request());
}

#[tokio::test]
async fn a_long_poll_wakes_on_arrival_and_ends_in_time() {
    let bed = Bed::new().await;
    let poll = async |seconds| {
        let begin = Instant::now();
        let request = bed.sqs.receive_message().queue_url(bed.url()).wait_time_seconds(seconds);
        (request.send().await.unwrap().messages.unwrap_or_default().len(), begin.elapsed())
    };
    let (received, took) = poll(1).await;
    assert_eq!(received, 0);
    assert!(took >= Duration::from_secs(1), "{took:?}");
    let send = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        bed.sqs.send_message().queue_url(bed.url()).message_body("x").send().await.unwrap();
    };
    let ((received, took), ()) = tokio::join!(poll(10), send);
    assert_eq!(received, 1);
    assert!(took >= Duration::from_millis(300) && took < Duration::from_secs(2), "{took:?}");
    bed.aws.queue("q").set_visibility_timeout(Duration::from_secs(1)).unwrap();
    bed.aws.advance(Duration::from_secs(60));
    assert_eq!(poll(0).await.0, 1);
    let (received, took) = poll(10).await;
    assert_eq!(received, 1, "the lapsed lease wakes the poll");
    assert!(took < Duration::from_secs(3), "{took:?}");
}

#[tokio::test]
async fn queues_are_made_described_and_refused_by_name() {
    let bed = Bed::new().await;
    let dead = bed.sqs.create_queue().queue_name("dead").send().await.unwrap();
    let policy =
        format!(r#"{{"deadLetterTargetArn":"{}","maxReceiveCount":"2"}}"#, bed.aws.queue("dead").arn());
    let request =
        bed.sqs.create_queue().queue_name("work").attributes(QueueAttributeName::RedrivePolicy, policy);
    let url = request.send().await.unwrap().queue_url.unwrap();
    assert_eq!(
        bed.sqs.get_queue_url().queue_name("work").send().await.unwrap().queue_url(),
        Some(url.as_str())
    );
    let send = bed.sqs.send_message().queue_url(&url).message_body("x").delay_seconds(5);
    send.send().await.unwrap();
    let describe = async |url: &str| {
        let request = bed.sqs.get_queue_attributes().queue_url(url).attribute_names(QueueAttributeName::All);
        request.send().await.unwrap().attributes.unwrap()
    };
    let attributes = describe(&url).await;
    assert_eq!(attributes[&QueueAttributeName::ApproximateNumberOfMessagesDelayed], "1");
    assert_eq!(attributes[&QueueAttributeName::VisibilityTimeout], "30");
    assert!(attributes[&QueueAttributeName::RedrivePolicy].contains("\"maxReceiveCount\":2"));
    for _ in 0..3 {
        bed.aws.advance(Duration::from_secs(31));
        bed.sqs.receive_message().queue_url(&url).send().await.unwrap();
    }
    let attributes = describe(dead.queue_url().unwrap()).await;
    assert_eq!(attributes[&QueueAttributeName::ApproximateNumberOfMessages], "1");
    assert_eq!(bed.aws.queue("work").dead_letters(), ["x"]);
    let missing = bed.sqs.receive_message().queue_url(format!("{}/1/none", bed.aws.url())).send().await;
    assert!(missing.unwrap_err().into_service_error().is_queue_does_not_exist());
    bed.sqs.purge_queue().queue_url(dead.queue_url().unwrap()).send().await.unwrap();
    assert!(bed.aws.queue("dead").counts().is_empty());
}

#[tokio::test]
async fn s3_refuses_as_s3_does() {
    let bed = Bed::new().await;
    bed.aws.put_object("logs", "k", "body").unwrap();
    let get = || bed.s3.get_object().bucket("logs").key("k");
    let code = |e: aws_sdk_s3::error::SdkError<aws_sdk_s3::operation::get_object::GetObjectError>| {
        let status = e.raw_response().unwrap().status().as_u16();
        let e = e.into_service_error();
        (status, e.code().unwrap_or_default().to_owned())
    };
    let refused = |status, code: &str| (status, code.to_owned());
    let missing = bed.s3.get_object().bucket("logs").key("none").send().await.unwrap_err();
    assert!(missing.into_service_error().is_no_such_key());
    let missing = bed.s3.get_object().bucket("none").key("k").send().await.unwrap_err();
    assert_eq!(code(missing), refused(404, "NoSuchBucket"));
    let foreign = get().expected_bucket_owner("999999999999").send().await.unwrap_err();
    assert_eq!(code(foreign), refused(403, "AccessDenied"));
    get().expected_bucket_owner("111122223333").send().await.unwrap();
    assert_eq!(code(get().if_match("\"0\"").send().await.unwrap_err()), refused(412, "PreconditionFailed"));
    assert_eq!(code(get().range("bytes=9-").send().await.unwrap_err()), refused(416, "InvalidRange"));
    let put =
        bed.s3.put_object().bucket("logs").key("k").if_none_match("*").body(ByteStream::from_static(b"x"));
    assert_eq!(put.send().await.unwrap_err().into_service_error().code(), Some("PreconditionFailed"));
    bed.aws.deny_kms("logs", None, true).unwrap();
    let denied = get().send().await.unwrap_err().into_service_error();
    assert!(denied.message().unwrap().contains("kms:Decrypt"), "{denied:?}");
    bed.aws.deny_kms("logs", None, false).unwrap();
    bed.s3.delete_object().bucket("logs").key("k").send().await.unwrap();
    assert_eq!(code(get().send().await.unwrap_err()), refused(404, "NoSuchKey"));
    let head = bed.s3.head_object().bucket("logs").key("k").send().await.unwrap_err();
    assert!(head.into_service_error().is_not_found());
    let moved =
        BucketOptions { region: Some("eu-west-1".into()), strict_region: true, ..BucketOptions::default() };
    bed.aws.create_bucket("far", moved);
    let far = bed.s3.get_object().bucket("far").key("k").send().await.unwrap_err();
    assert_eq!(far.raw_response().unwrap().headers().get("x-amz-bucket-region"), Some("eu-west-1"));
    assert_eq!(code(far), refused(301, "PermanentRedirect"));
}

#[tokio::test]
async fn faults_reach_the_sdk_as_what_they_are() {
    let bed = Bed::new().await;
    bed.aws.put_object("logs", "k", vec![b'x'; 100_000]).unwrap();
    let get = async || {
        let got = bed.s3.get_object().bucket("logs").key("k").send().await;
        match got {
            Ok(got) => {
                got.body.collect().await.map(|body| body.into_bytes().len()).map_err(|e| e.to_string())
            }
            Err(e) => Err(e.into_service_error().code().unwrap_or("no code").to_owned()),
        }
    };
    assert_eq!(get().await, Ok(100_000));
    for (fault, expected) in [
        (AwsFault::Throttle, Some("SlowDown")),
        (AwsFault::InternalError, Some("InternalError")),
        (AwsFault::NotFound, Some("NoSuchKey")),
        (AwsFault::Forbidden, Some("AccessDenied")),
        (AwsFault::Refuse, None),
        (AwsFault::Truncate { bytes: Some(5_000) }, None),
        (AwsFault::ResetBody { bytes: None }, None),
        (AwsFault::Corrupt, None),
        (AwsFault::WrongChecksum, None),
    ] {
        let id = bed.aws.inject(FaultRule::new("GetObject", fault).times(1));
        let failed = get().await.unwrap_err();
        if let Some(expected) = expected {
            assert_eq!(failed, expected);
        }
        assert_eq!(bed.aws.fired(id), 1, "{fault:?}");
        assert_eq!(get().await, Ok(100_000), "{fault:?} is over");
    }
    bed.aws.inject(FaultRule::new("ReceiveMessage", AwsFault::Throttle).times(1));
    let throttled = bed.sqs.receive_message().queue_url(bed.url()).send().await.unwrap_err();
    assert_eq!(throttled.into_service_error().code(), Some("RequestThrottled"));
}

#[tokio::test]
async fn uploads_in_parts_and_listings_work() {
    let bed = Bed::new().await;
    let begun = bed.s3.create_multipart_upload().bucket("logs").key("big").send().await.unwrap();
    let id = begun.upload_id().unwrap();
    let mut parts = Vec::new();
    for (number, text) in [(1, "first "), (2, "second")] {
        let part = bed.s3.upload_part().bucket("logs").key("big").upload_id(id).part_number(number);
        let part = part.body(ByteStream::from_static(text.as_bytes())).send().await.unwrap();
        parts.push(
            aws_sdk_s3::types::CompletedPart::builder()
                .part_number(number)
                .e_tag(part.e_tag().unwrap())
                .build(),
        );
    }
    let all = aws_sdk_s3::types::CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
    let done =
        bed.s3.complete_multipart_upload().bucket("logs").key("big").upload_id(id).multipart_upload(all);
    assert!(done.send().await.unwrap().e_tag().unwrap().ends_with("-2\""));
    assert_eq!(bed.aws.object("logs", "big").unwrap(), "first second");

    for at in 0..7 {
        bed.aws.put_object("logs", &format!("p/{at}/x<&>"), "").unwrap();
    }
    let mut keys = Vec::new();
    let mut pages = bed.s3.list_objects_v2().bucket("logs").prefix("p/").max_keys(3).into_paginator().send();
    while let Some(page) = pages.next().await {
        keys.extend(page.unwrap().contents().iter().map(|object| object.key().unwrap().to_owned()));
    }
    assert_eq!(keys, (0..7).map(|at| format!("p/{at}/x<&>")).collect::<Vec<_>>());
    let after = bed.s3.list_objects_v2().bucket("logs").start_after("p/5/x<&>").send().await.unwrap();
    assert_eq!(after.contents().len(), 1);
    let mut folders = Vec::new();
    let request = bed.s3.list_objects_v2().bucket("logs").prefix("p/").delimiter("/").max_keys(2);
    let mut pages = request.into_paginator().send();
    while let Some(page) = pages.next().await {
        folders.extend(page.unwrap().common_prefixes().iter().map(|one| one.prefix().unwrap().to_owned()));
    }
    assert_eq!(folders, (0..7).map(|at| format!("p/{at}/")).collect::<Vec<_>>());
    let place = bed.s3.get_bucket_location().bucket("logs").send().await.unwrap();
    assert_eq!(place.location_constraint().map(|place| place.as_str()).unwrap_or_default(), "");
}

#[tokio::test]
async fn roles_are_assumed_and_guard_buckets() {
    let bed = Bed::new().await;
    let role = "arn:aws:iam::444455556666:role/path/log-archive";
    bed.aws.require_external_id(role, "tea");
    bed.aws.create_bucket("archive", BucketOptions { role: Some(role.into()), ..BucketOptions::default() });
    bed.aws.put_object("archive", "k", "body").unwrap();
    let base = config(&bed.aws).await;
    let get = async |external_id: &str| {
        let provider = aws_config::sts::AssumeRoleProvider::builder(role)
            .session_name("trailship")
            .external_id(external_id)
            .configure(&base)
            .build()
            .await;
        let config =
            aws_sdk_s3::config::Builder::from(&base).credentials_provider(provider).force_path_style(true);
        aws_sdk_s3::Client::from_conf(config.build()).get_object().bucket("archive").key("k").send().await
    };
    assert!(get("coffee").await.is_err());
    assert!(get("tea").await.is_ok());
    assert!(bed.s3.get_object().bucket("archive").key("k").send().await.is_err());
}
