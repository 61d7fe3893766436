//! Objects of the stand-in's S3, fetched through the real SDK.
#![allow(clippy::unwrap_used, clippy::panic)]

use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region, retry::RetryConfig};
use testkit::aws::{Aws, AwsOptions, BucketOptions};

use super::*;

async fn aws() -> Aws {
    let aws = Aws::start(AwsOptions::default()).await.unwrap();
    aws.create_bucket("logs", BucketOptions::default());
    aws
}

fn object(aws: &Aws, key: &str, alternative: &str) -> S3Object {
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .endpoint_url(aws.url())
        .force_path_style(true)
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("AKIATESTKIT", "secret", None, None, "test"))
        .retry_config(RetryConfig::disabled());
    S3Object {
        client: aws_sdk_s3::Client::from_conf(config.build()),
        bucket: "logs".to_owned(),
        key: key.to_owned(),
        key_alternative: Some(alternative.to_owned()),
        expected_owner: None,
    }
}

async fn rest(opened: Opened) -> Vec<u8> {
    let mut stream = opened.stream;
    let mut bytes = Vec::new();
    while let Some(part) = stream.next().await.unwrap() {
        bytes.extend_from_slice(&part);
    }
    assert_eq!(opened.len, Some(bytes.len() as u64));
    bytes
}

#[tokio::test]
async fn an_object_found_under_the_other_reading_of_its_key_goes_on_under_it() {
    let aws = aws().await;
    aws.put_object("logs", "a+b", &b"0123456789"[..]).unwrap();
    let object = object(&aws, "a b", "a+b");
    let opened = object.open(0, &Version::default()).await.unwrap();
    let pinned = opened.version.clone();
    assert_eq!(pinned.key.as_deref(), Some("a+b"));
    assert_eq!(rest(opened).await, b"0123456789");
    assert_eq!(rest(object.open(4, &pinned).await.unwrap()).await, b"456789");
    // Once it is known, no other reading is taken for it.
    aws.put_object("logs", "a b", &b"another"[..]).unwrap();
    aws.delete_object("logs", "a+b").unwrap();
    assert!(matches!(object.open(4, &pinned).await, Err(FetchError::NotFound(_))));
}

#[tokio::test]
async fn nothing_is_missing_behind_the_last_byte() {
    let aws = aws().await;
    aws.put_object("logs", "k", &b"0123456789"[..]).unwrap();
    let object = object(&aws, "k", "other");
    let pinned = object.open(0, &Version::default()).await.unwrap().version;
    assert_eq!(rest(object.open(10, &pinned).await.unwrap()).await, b"");
    aws.put_object("logs", "k", &b"9876543210"[..]).unwrap();
    assert!(matches!(object.open(10, &pinned).await, Err(FetchError::Changed(_))));
}

#[test]
fn the_start_of_a_range_is_read() {
    for (text, start) in [("bytes 100-199/200", Some(100)), ("bytes */200", None), ("items 1-2/3", None)] {
        assert_eq!(range_start(text), start, "{text}");
    }
}
