//! `ListObjectsV2`. <https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html>

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::wire::escape;
use super::{Bucket, S3Error, Version};
use crate::aws::clock::iso8601_ms;
use crate::http::{Request, percent_encode};

/// What a page is asked to hold.
struct Wanted {
    prefix: String,
    delimiter: Option<String>,
    /// The last key, or common prefix, that is not wanted any more.
    after: Option<String>,
    /// Whether `after` is where a page ended, and not what the caller chose to begin after.
    continued: bool,
    limit: usize,
}

/// What stands on a page: keys, and what they have in common up to the delimiter.
enum Entry<'a> {
    Key(&'a str, &'a Version),
    Common(&'a str),
}

impl Wanted {
    fn read(request: &Request) -> Result<Self, S3Error> {
        let value = |name: &str| request.query_value(name).filter(|value| !value.is_empty());
        let invalid =
            |what: &str| S3Error::new(400, "InvalidArgument", format!("The {what} provided is incorrect"));
        let limit = value("max-keys").map_or(Some(1000), |text| text.parse::<usize>().ok());
        let token = value("continuation-token");
        let after = match &token {
            Some(token) => Some(decode_token(token).ok_or_else(|| invalid("continuation token"))?),
            None => value("start-after"),
        };
        Ok(Self {
            prefix: value("prefix").unwrap_or_default(),
            delimiter: value("delimiter"),
            after,
            continued: token.is_some(),
            limit: limit.ok_or_else(|| invalid("max-keys"))?.min(1000),
        })
    }

    /// The page, and where it ends if something is left.
    fn select<'a>(&self, bucket: &'a Bucket) -> (Vec<Entry<'a>>, Option<&'a str>) {
        let after = self.after.as_deref();
        let first = after.unwrap_or_default().max(&self.prefix);
        let delimiter = self.delimiter.as_deref();
        // A page may have ended at a common prefix: what it stands for must not come again.
        let folded = after.filter(|after| self.continued && delimiter.is_some_and(|d| after.ends_with(d)));
        let mut page = Vec::new();
        let mut last = "";
        for (key, version) in bucket.keys_from(first).take_while(|(key, _)| key.starts_with(&self.prefix)) {
            let seen =
                after.is_some_and(|after| key <= after) || folded.is_some_and(|after| key.starts_with(after));
            let common = delimiter.and_then(|delimiter| {
                let end = key[self.prefix.len()..].find(delimiter)? + self.prefix.len() + delimiter.len();
                Some(&key[..end])
            });
            if seen || common == Some(last) {
                continue;
            }
            if page.len() == self.limit {
                return (page, Some(last));
            }
            last = common.unwrap_or(key);
            page.push(common.map_or(Entry::Key(key, version), Entry::Common));
        }
        (page, None)
    }
}

/// Answers with one page of keys.
pub(super) fn page(name: &str, bucket: &Bucket, request: &Request) -> Result<String, S3Error> {
    let wanted = Wanted::read(request)?;
    let (page, next) = wanted.select(bucket);
    let url = request.query_value("encoding-type").as_deref() == Some("url");
    let encode = |key: &str| if url { percent_encode(key, "/") } else { escape(key) };
    let entries: String = page
        .iter()
        .map(|entry| match entry {
            Entry::Common(common) => {
                format!("<CommonPrefixes><Prefix>{}</Prefix></CommonPrefixes>", encode(common))
            }
            Entry::Key(key, version) => format!(
                "<Contents><Key>{}</Key><LastModified>{}</LastModified><ETag>&quot;{}&quot;</ETag><Size>{}</Size>\
                 <StorageClass>STANDARD</StorageClass></Contents>",
                encode(key),
                iso8601_ms(version.modified_ms),
                version.etag,
                version.body.len()
            ),
        })
        .collect();
    let optional = |name: &str, value: Option<String>| {
        value.map_or_else(String::new, |value| format!("<{name}>{value}</{name}>"))
    };
    let asked = |name: &str| request.query_value(name).filter(|value| !value.is_empty());
    Ok(format!(
        "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>{}</Name><Prefix>{}</Prefix>\
         {}{}{}{}{}<KeyCount>{}</KeyCount><MaxKeys>{}</MaxKeys><IsTruncated>{}</IsTruncated>\
         {entries}</ListBucketResult>",
        escape(name),
        encode(&wanted.prefix),
        optional("Delimiter", wanted.delimiter.as_deref().map(encode)),
        optional("StartAfter", asked("start-after").as_deref().map(encode)),
        optional("EncodingType", url.then(|| "url".to_owned())),
        optional("ContinuationToken", asked("continuation-token").as_deref().map(escape)),
        optional("NextContinuationToken", next.map(|last| STANDARD.encode(last))),
        page.len(),
        wanted.limit,
        next.is_some(),
    ))
}

fn decode_token(token: &str) -> Option<String> {
    String::from_utf8(STANDARD.decode(token).ok()?).ok()
}
