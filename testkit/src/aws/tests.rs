//! Requests over plain HTTP, and what comes back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::{Value, json};

use super::*;

/// Sends one request; gives the status line with the headers, and the body.
async fn send(addr: SocketAddr, head: &str, body: &str) -> (String, String) {
    let request = format!(
        "{head} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    exchange(addr, request).await
}

/// The same with headers of one's own, each ending its line.
async fn send_with(addr: SocketAddr, head: &str, headers: &str, body: &str) -> (String, String) {
    let fixed = format!("host: x\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
    exchange(addr, format!("{head} HTTP/1.1\r\n{fixed}{headers}\r\n{body}")).await
}

async fn exchange(addr: SocketAddr, request: String) -> (String, String) {
    let answer = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(addr).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8(answer).unwrap()
    });
    let answer = answer.await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

async fn call(addr: SocketAddr, operation: &str, input: Value) -> (String, Value) {
    let headers =
        format!("x-amz-target: AmazonSQS.{operation}\r\ncontent-type: application/x-amz-json-1.0\r\n");
    let (head, body) = send_with(addr, "POST /", &headers, &input.to_string()).await;
    (head, serde_json::from_str(&body).unwrap())
}

async fn start() -> Aws {
    let aws = Aws::start(AwsOptions::default()).await.unwrap();
    aws.create_queue("q");
    aws.create_bucket("logs", BucketOptions::default());
    aws
}

#[tokio::test]
async fn errors_carry_the_names_that_both_generations_of_clients_read() {
    let aws = start().await;
    let (head, body) = call(aws.addr(), "ReceiveMessage", json!({ "QueueUrl": "http://x/1/none" })).await;
    assert!(head.starts_with("HTTP/1.1 400"), "{head}");
    assert!(head.contains("x-amzn-query-error: AWS.SimpleQueueService.NonExistentQueue;Sender"), "{head}");
    assert_eq!(body["__type"], "com.amazonaws.sqs#QueueDoesNotExist");
    let url = aws.queue("q").url();
    for (operation, input, shape) in [
        ("ReceiveMessage", json!({ "QueueUrl": url, "MaxNumberOfMessages": 11 }), "InvalidParameterValue"),
        ("ReceiveMessage", json!({ "QueueUrl": url, "WaitTimeSeconds": 21 }), "InvalidParameterValue"),
        ("DeleteMessage", json!({ "QueueUrl": url, "ReceiptHandle": "AAAA" }), "ReceiptHandleIsInvalid"),
        (
            "DeleteMessageBatch",
            json!({ "QueueUrl": url, "Entries": [{ "Id": "a" }, { "Id": "a" }] }),
            "BatchEntryIdsNotDistinct",
        ),
        (
            "DeleteMessageBatch",
            json!({ "QueueUrl": url, "Entries": vec![json!({}); 11] }),
            "TooManyEntriesInBatchRequest",
        ),
        (
            "SetQueueAttributes",
            json!({ "QueueUrl": url, "Attributes": { "Colour": "red" } }),
            "InvalidAttributeName",
        ),
        (
            "SetQueueAttributes",
            json!({ "QueueUrl": url, "Attributes": { "VisibilityTimeout": "43201" } }),
            "InvalidAttributeValue",
        ),
        (
            "GetQueueAttributes",
            json!({ "QueueUrl": url, "AttributeNames": ["ApproximateAgeOfOldestMessage"] }),
            "InvalidAttributeName",
        ),
        ("Juggle", json!({}), "UnsupportedOperation"),
    ] {
        let (_, body) = call(aws.addr(), operation, input).await;
        assert_eq!(body["__type"], format!("com.amazonaws.sqs#{shape}"), "{operation}");
    }
}

#[tokio::test]
async fn digests_of_bodies_and_attributes_are_those_of_sqs() {
    let aws = start().await;
    let url = aws.queue("q").url();
    let attributes = json!({ "b": { "DataType": "Binary", "BinaryValue": "AQI=" }, "a": { "DataType": "String", "StringValue": "x" } });
    let input = json!({ "QueueUrl": url, "MessageBody": "hello", "MessageAttributes": attributes });
    let (_, sent) = call(aws.addr(), "SendMessage", input).await;
    assert_eq!(sent["MD5OfMessageBody"], "5d41402abc4b2a76b9719d911017c592");
    // Length, name, length, type, kind of value, length, value: for `a`, then for `b`.
    let bytes =
        b"\0\0\0\x01a\0\0\0\x06String\x01\0\0\0\x01x\0\0\0\x01b\0\0\0\x06Binary\x02\0\0\0\x02\x01\x02";
    assert_eq!(sent["MD5OfMessageAttributes"], hex(&md5(bytes)));
    let input =
        json!({ "QueueUrl": url, "MessageAttributeNames": ["All"], "AttributeNames": ["SentTimestamp"] });
    let (_, got) = call(aws.addr(), "ReceiveMessage", input).await;
    let message = &got["Messages"][0];
    assert_eq!(message["MD5OfBody"], sent["MD5OfMessageBody"]);
    assert_eq!(message["MessageAttributes"], attributes);
    assert_eq!(message["Attributes"].as_object().unwrap().len(), 1);
    let (_, none) = call(aws.addr(), "ReceiveMessage", json!({ "QueueUrl": url })).await;
    assert_eq!(none, json!({}));
}

#[tokio::test]
async fn a_full_queue_refuses_a_short_poll_and_lets_a_long_one_wait() {
    let aws = start().await;
    let queue = aws.queue("q");
    queue.behave(QueueBehaviour { in_flight_max: 1, ..QueueBehaviour::default() }).unwrap();
    queue.send("a").unwrap();
    queue.send("b").unwrap();
    let url = queue.url();
    let (_, first) = call(aws.addr(), "ReceiveMessage", json!({ "QueueUrl": url })).await;
    assert_eq!(first["Messages"][0]["Body"], "a");
    let (_, full) =
        call(aws.addr(), "ReceiveMessage", json!({ "QueueUrl": url, "WaitTimeSeconds": 0 })).await;
    assert_eq!(full["__type"], "com.amazonaws.sqs#OverLimit");
    let (_, waited) =
        call(aws.addr(), "ReceiveMessage", json!({ "QueueUrl": url, "WaitTimeSeconds": 1 })).await;
    assert_eq!(waited, json!({}));
}

#[tokio::test]
async fn every_way_from_a_bucket_to_a_queue_has_its_own_shape_and_coding() {
    let aws = Aws::start(AwsOptions::default()).await.unwrap();
    aws.create_bucket("logs", BucketOptions { versioned: true, ..BucketOptions::default() });
    let kinds = [
        ("s3", NotifyKind::S3),
        ("s3-sns", NotifyKind::S3ViaSns),
        ("s3-sns-raw", NotifyKind::S3ViaSnsRaw),
        ("bridge", NotifyKind::EventBridge),
        ("trail-sns", NotifyKind::CloudTrailSns),
        ("trail-sns-raw", NotifyKind::CloudTrailSnsRaw),
    ];
    for (queue, kind) in kinds {
        aws.create_queue(queue);
        let suffix = ".gz".to_owned();
        aws.notify("logs", Notification { suffix, removals: true, ..Notification::new(queue, kind) })
            .unwrap();
    }
    let key = "a b/ü+c.gz";
    let version = aws.put_object("logs", key, "x").unwrap();
    aws.put_object("logs", "other", "x").unwrap();
    let body = |queue: &str| -> Value {
        let bodies = aws.queue(queue).bodies();
        assert_eq!(bodies.len(), 1, "{queue}");
        serde_json::from_str(&bodies[0]).unwrap()
    };
    let inner = |queue: &str| -> Value {
        let envelope = body(queue);
        assert_eq!(envelope["Type"], "Notification");
        serde_json::from_str(envelope["Message"].as_str().unwrap()).unwrap()
    };
    for record in [body("s3"), inner("s3-sns"), body("s3-sns-raw")] {
        let object = &record["Records"][0]["s3"]["object"];
        assert_eq!(object["key"], "a+b/%C3%BC%2Bc.gz");
        assert_eq!(object["versionId"], version.as_str());
        assert_eq!(record["Records"][0]["eventName"], "ObjectCreated:Put");
    }
    assert_eq!(body("s3-sns")["Subject"], "Amazon S3 Notification");
    let bridge = body("bridge");
    assert_eq!(
        (&bridge["detail-type"], &bridge["detail"]["object"]["key"]),
        (&json!("Object Created"), &json!(key))
    );
    for plain in [inner("trail-sns"), body("trail-sns-raw")] {
        assert_eq!(plain, json!({ "s3Bucket": "logs", "s3ObjectKey": [key] }));
    }
    aws.put_objects("logs", vec![("1.gz".into(), "a".into()), ("2.gz".into(), "b".into())]).unwrap();
    assert_eq!(aws.queue("trail-sns-raw").bodies().len(), 2);
    assert_eq!(aws.queue("trail-sns-raw").messages()[1].objects.len(), 2);
    assert_eq!(aws.queue("s3").bodies().len(), 3);
    aws.delete_object("logs", key).unwrap();
    assert!(aws.queue("s3").bodies()[3].contains("ObjectRemoved:DeleteMarkerCreated"));
    assert!(aws.queue("bridge").bodies()[3].contains("Object Deleted"));
    assert_eq!(aws.queue("trail-sns").bodies().len(), 2);
}

#[tokio::test]
async fn a_coded_body_is_stored_decoded_and_a_wrong_checksum_is_refused() {
    let aws = start().await;
    let body = "5\r\nhello\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\r\n\r\n";
    let headers = "content-encoding: aws-chunked\r\nx-amz-decoded-content-length: 5\r\nx-amz-trailer: x-amz-checksum-crc32\r\n";
    let (head, _) = send_with(aws.addr(), "PUT /logs/k", headers, body).await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert_eq!(aws.object("logs", "k").unwrap(), "hello");
    let (head, _) = send(aws.addr(), "GET /logs/k", "").await;
    assert!(!head.contains("aws-chunked"), "{head}");
    let (head, text) = send_with(aws.addr(), "PUT /logs/k", headers, &body.replace("Nh", "Xh")).await;
    assert!(head.starts_with("HTTP/1.1 400") && text.contains("<Code>BadDigest</Code>"), "{head} {text}");
    let (_, text) = send_with(aws.addr(), "PUT /logs/k", headers, "9\r\nhello").await;
    assert!(text.contains("<Code>IncompleteBody</Code>"), "{text}");
    let requests: Vec<_> = aws.object_requests().into_iter().map(|r| (r.operation, r.status)).collect();
    let expected = [("PutObject", 200), ("GetObject", 200), ("PutObject", 400), ("PutObject", 400)];
    assert_eq!(requests, expected.map(|(operation, status)| (operation.to_owned(), status)));
}

#[tokio::test]
async fn another_process_can_set_up_drive_and_read_the_stand_in() {
    let aws = Aws::start(AwsOptions::default()).await.unwrap();
    let addr = aws.addr();
    let admin = async |head: &str, body: Value| {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let (head, body) = send(addr, head, &body).await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head} {body}");
        body
    };
    let queue = json!({ "name": "q", "dead_letters": "d", "receives_max": 1, "visibility_seconds": 5, "behaviour": { "shuffle": true } });
    admin("POST /_testkit/queue", queue).await;
    admin("POST /_testkit/bucket", json!({ "name": "b", "owner": "42" })).await;
    admin("POST /_testkit/notify?bucket=b", json!({ "queue": "q", "kind": "s3_via_sns_raw" })).await;
    admin("PUT /_testkit/put?bucket=b&key=x%20y", json!("body")).await;
    admin("POST /_testkit/send?queue=q", json!("second")).await;
    let fault = admin("POST /_testkit/fault", json!({ "operation": "GetObject", "fault": "throttle" })).await;
    assert_eq!(fault, r#"{"id":0}"#);
    let (head, _) = send(addr, "GET /b/x%20y", "").await;
    assert!(head.starts_with("HTTP/1.1 503") && head.contains("retry-after: 1"), "{head}");
    admin("DELETE /_testkit/fault?id=0", Value::Null).await;
    assert_eq!(send(addr, "GET /b/x%20y", "").await.1, "\"body\"");
    assert_eq!(admin("GET /_testkit/object?bucket=b&key=x+y", Value::Null).await, "\"body\"");

    for _ in 0..2 {
        call(addr, "ReceiveMessage", json!({ "QueueUrl": aws.queue("q").url(), "MaxNumberOfMessages": 10 }))
            .await;
        admin("POST /_testkit/advance?seconds=6", Value::Null).await;
    }
    let counts: Value = serde_json::from_str(&admin("GET /_testkit/counts", Value::Null).await).unwrap();
    assert_eq!(counts["queues"]["q"], json!({ "visible": 0, "in_flight": 0, "delayed": 0 }));
    assert_eq!(counts["queues"]["d"]["visible"], 2);
    assert_eq!(counts["buckets"]["b"], json!({ "objects": 1, "bytes": 6 }));
    assert_eq!(counts["faults"][0]["fired"], 1);
    let bodies: Value =
        serde_json::from_str(&admin("GET /_testkit/bodies?queue=d", Value::Null).await).unwrap();
    assert!(bodies.as_array().unwrap().contains(&json!("\"second\"")), "{bodies}");
    let log = admin("GET /_testkit/log?queue=q", Value::Null).await;
    let whats: Vec<Value> =
        log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["what"].take()).collect();
    assert_eq!(
        whats,
        ["sent", "sent", "received", "received", "moved_to_dead_letters", "moved_to_dead_letters"]
    );
    let life = admin("GET /_testkit/messages?queue=q", Value::Null).await;
    assert!(life.lines().next().unwrap().contains(r#""objects":[["b","x y"]]"#), "{life}");
    assert_eq!(admin("GET /_testkit/requests", Value::Null).await.lines().count(), 2);
    let credentials = admin("GET /_testkit/credentials?seconds=60", Value::Null).await;
    assert!(credentials.contains("\"Expiration\":\"20"), "{credentials}");
    let (head, _) = send(addr, "POST /_testkit/advance?seconds=-1", "").await;
    assert!(head.starts_with("HTTP/1.1 400"), "{head}");
    let (head, _) = send(addr, "GET /_testkit/nothing", "").await;
    assert!(head.starts_with("HTTP/1.1 404"), "{head}");
}

#[tokio::test]
async fn expired_credentials_are_refused_by_every_service() {
    let aws = start().await;
    aws.put_object("logs", "k", "x").unwrap();
    let (_, body) = send(aws.addr(), "GET /_testkit/credentials?seconds=60", "").await;
    let credentials: Value = serde_json::from_str(&body).unwrap();
    let key = credentials["AccessKeyId"].as_str().unwrap();
    let signed = format!(
        "authorization: AWS4-HMAC-SHA256 Credential={key}/20260101/us-east-1/s3/aws4_request, Signature=0\r\n"
    );
    let form = format!("{signed}content-type: application/x-www-form-urlencoded\r\n");
    let who = "Action=GetCallerIdentity&Version=2011-06-15";
    let (head, _) = send_with(aws.addr(), "GET /logs/k", &signed, "").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let (_, body) = send_with(aws.addr(), "POST /", &form, who).await;
    assert!(body.contains("<Arn>arn:aws:sts::111122223333:assumed-role/testkit/testkit</Arn>"), "{body}");
    aws.advance(Duration::from_secs(61));
    let (_, body) = send_with(aws.addr(), "GET /logs/k", &signed, "").await;
    assert!(body.contains("<Code>ExpiredToken</Code>"), "{body}");
    let (_, body) = send_with(aws.addr(), "POST /", &form, who).await;
    assert!(body.contains("<Code>ExpiredToken</Code>"), "{body}");
    let headers = format!("{signed}x-amz-target: AmazonSQS.ListQueues\r\n");
    let (_, body) = send_with(aws.addr(), "POST /", &headers, "{}").await;
    assert!(body.contains("ExpiredTokenException"), "{body}");
}

/// Asks one of the services that keep secrets; the answer's status line with its headers, and its body.
async fn ask_secrets(aws: &Aws, target: &str, service: &str, input: Value) -> (String, Value) {
    let headers = format!(
        "x-amz-target: {target}\r\ncontent-type: application/x-amz-json-1.1\r\nauthorization: AWS4-HMAC-SHA256 \
         Credential=AKIA/20240501/us-east-1/{service}/aws4_request, \
         SignedHeaders=content-type;host;x-amz-date;x-amz-target, Signature=0\r\n"
    );
    let (head, body) = send_with(aws.addr(), "POST /", &headers, &input.to_string()).await;
    (head, serde_json::from_str(&body).unwrap())
}

#[tokio::test]
async fn a_secret_has_an_arn_and_a_name_and_what_is_not_there_has_its_error() {
    let aws = start().await;
    let arn = "arn:aws:secretsmanager:us-east-1:111122223333:secret:team/token-AbCdEf";
    aws.put_secret(arn, "t-1");
    for id in [arn, "team/token"] {
        let input = json!({ "SecretId": id });
        let (_, body) = ask_secrets(&aws, "secretsmanager.GetSecretValue", "secretsmanager", input).await;
        assert_eq!((&body["SecretString"], &body["ARN"]), (&json!("t-1"), &json!(arn)));
    }
    assert_eq!(aws.secret_reads(arn), 2);
    let input = json!({ "SecretId": "team/tok" });
    let (head, body) = ask_secrets(&aws, "secretsmanager.GetSecretValue", "secretsmanager", input).await;
    assert!(
        head.starts_with("HTTP/1.1 400") && body["__type"] == "ResourceNotFoundException",
        "{head} {body}"
    );
    aws.inject(FaultRule::new("GetSecretValue", AwsFault::Throttle));
    let input = json!({ "SecretId": arn });
    let (_, body) = ask_secrets(&aws, "secretsmanager.GetSecretValue", "secretsmanager", input).await;
    assert_eq!(body["__type"], "ThrottlingException");
}

#[tokio::test]
async fn a_parameter_is_given_in_the_clear_only_if_it_is_asked_for_so_and_signed() {
    let aws = start().await;
    aws.put_parameter("/a", "v");
    let ask = |decrypt: bool, service: &'static str| {
        let input = json!({ "Name": "/a", "WithDecryption": decrypt });
        ask_secrets(&aws, "AmazonSSM.GetParameter", service, input)
    };
    assert_eq!(ask(true, "ssm").await.1["Parameter"]["Value"], "v");
    assert_ne!(ask(false, "ssm").await.1["Parameter"]["Value"], "v");
    assert_eq!(ask(true, "sqs").await.1["__type"], "InvalidSignatureException");
    let input = json!({ "Name": "/b" });
    let (_, body) = ask_secrets(&aws, "AmazonSSM.GetParameter", "ssm", input).await;
    assert_eq!(body["__type"], "ParameterNotFound");
}

#[tokio::test]
async fn a_name_that_is_taken_is_kept_where_the_writer_asks_for_it() {
    let aws = start().await;
    let new = "if-none-match: *\r\n";
    let put = async |key: &str, headers: &str, body: &str| {
        send_with(aws.addr(), &format!("PUT /logs/{key}"), headers, body).await
    };
    assert!(put("k", new, "first").await.0.starts_with("HTTP/1.1 200"));
    let (head, text) = put("k", new, "second").await;
    assert!(
        head.starts_with("HTTP/1.1 412") && text.contains("<Code>PreconditionFailed</Code>"),
        "{head} {text}"
    );
    assert_eq!(aws.object("logs", "k").unwrap(), "first");
    assert!(put("k", "", "third").await.0.starts_with("HTTP/1.1 200"), "nobody has asked");
    let conflict = FaultRule::new("PutObject", AwsFault::Conflict).times(1);
    aws.inject(conflict);
    let (head, text) = put("other", new, "x").await;
    assert!(
        head.starts_with("HTTP/1.1 409") && text.contains("<Code>ConditionalRequestConflict</Code>"),
        "{text}"
    );
    assert!(aws.object("logs", "other").is_none());
    aws.create_bucket("old", BucketOptions { ignores_conditions: true, ..BucketOptions::default() });
    for body in ["first", "second"] {
        let (head, _) = send_with(aws.addr(), "PUT /old/k", new, body).await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    }
    assert_eq!(aws.object("old", "k").unwrap(), "second");
}
