//! `ListObjectsV2`. <https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html>

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::wire::escape;
use super::{Bucket, S3Error};
use crate::aws::clock::iso8601_ms;
use crate::http::{Request, percent_encode};

/// Answers with one page of keys.
pub(super) fn page(name: &str, bucket: &Bucket, request: &Request) -> Result<String, S3Error> {
    let value = |name: &str| request.query_value(name).filter(|value| !value.is_empty());
    let prefix = value("prefix").unwrap_or_default();
    let delimiter = value("delimiter");
    let limit = value("max-keys").map_or(Some(1000), |text| text.parse::<usize>().ok());
    let invalid =
        |what: &str| S3Error::new(400, "InvalidArgument", format!("The {what} provided is incorrect"));
    let limit = limit.ok_or_else(|| invalid("max-keys"))?.min(1000);
    let url = value("encoding-type").as_deref() == Some("url");
    let encode = |key: &str| if url { percent_encode(key, "/") } else { escape(key) };
    let token = value("continuation-token");
    let after = match &token {
        Some(token) => Some(decode_token(token).ok_or_else(|| invalid("continuation token"))?),
        None => value("start-after"),
    };

    // A page may have ended at a common prefix: what it stands for must not come again.
    let folded = |after: &str| token.is_some() && delimiter.as_deref().is_some_and(|d| after.ends_with(d));
    let first = after.clone().unwrap_or_default().max(prefix.clone());
    let mut entries = String::new();
    let (mut count, mut last, mut truncated) = (0, String::new(), false);
    for (key, version) in bucket.keys_from(&first) {
        if !key.starts_with(&prefix) {
            break;
        }
        if after.as_deref().is_some_and(|after| key <= after || folded(after) && key.starts_with(after)) {
            continue;
        }
        let common = delimiter.as_deref().and_then(|delimiter| {
            let end = key[prefix.len()..].find(delimiter)? + prefix.len() + delimiter.len();
            Some(&key[..end])
        });
        if common == Some(last.as_str()) {
            continue;
        }
        if count == limit {
            truncated = true;
            break;
        }
        count += 1;
        common.unwrap_or(key).clone_into(&mut last);
        let written = match common {
            Some(common) => {
                write!(entries, "<CommonPrefixes><Prefix>{}</Prefix></CommonPrefixes>", encode(common))
            }
            None => write!(
                entries,
                "<Contents><Key>{}</Key><LastModified>{}</LastModified><ETag>&quot;{}&quot;</ETag><Size>{}</Size>\
                 <StorageClass>STANDARD</StorageClass></Contents>",
                encode(key),
                iso8601_ms(version.modified_ms),
                version.etag,
                version.body.len()
            ),
        };
        written.map_err(|_| S3Error::new(500, "InternalError", "out of memory"))?;
    }

    let optional = |name: &str, value: Option<String>| {
        value.map_or_else(String::new, |value| format!("<{name}>{value}</{name}>"))
    };
    Ok(format!(
        "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>{}</Name><Prefix>{}</Prefix>\
         {}{}{}{}{}<KeyCount>{count}</KeyCount><MaxKeys>{limit}</MaxKeys><IsTruncated>{truncated}</IsTruncated>\
         {entries}</ListBucketResult>",
        escape(name),
        encode(&prefix),
        optional("Delimiter", delimiter.as_deref().map(encode)),
        optional("StartAfter", value("start-after").as_deref().map(encode)),
        optional("EncodingType", url.then(|| "url".to_owned())),
        optional("ContinuationToken", token.as_deref().map(escape)),
        optional("NextContinuationToken", truncated.then(|| STANDARD.encode(&last))),
    ))
}

fn decode_token(token: &str) -> Option<String> {
    String::from_utf8(STANDARD.decode(token).ok()?).ok()
}
