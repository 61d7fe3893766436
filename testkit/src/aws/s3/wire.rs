//! The REST and XML protocol of S3, with the bucket in the path.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{Method, StatusCode};

use super::upload::{body, listed_parts, metadata};
use super::{NewObject, S3Error, Version, list};
use crate::aws::clock::{Millis, basic_time, http_date};
use crate::aws::{Shared, State};
use crate::http::{Request, Response, percent_decode};

/// One S3 call, told apart by method, path and query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    /// The API's name.
    pub(crate) operation: &'static str,
    pub(crate) bucket: String,
    pub(crate) key: String,
}

/// Which call a request is.
pub(crate) fn call(request: &Request) -> Call {
    let path = request.path.trim_start_matches('/');
    let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
    let (bucket, key) = (percent_decode(bucket), percent_decode(key));
    let has = |name: &str| request.query_pairs().iter().any(|(key, _)| key == name);
    let operation = match (&request.method, key.is_empty()) {
        (&Method::GET, true) if bucket.is_empty() => "ListBuckets",
        (&Method::GET, true) if has("location") => "GetBucketLocation",
        (&Method::GET, true) if has("versioning") => "GetBucketVersioning",
        (&Method::GET, true) => "ListObjectsV2",
        (&Method::HEAD, true) => "HeadBucket",
        (&Method::PUT, true) => "CreateBucket",
        (&Method::GET, false) => "GetObject",
        (&Method::HEAD, false) => "HeadObject",
        (&Method::PUT, false) if has("partNumber") => "UploadPart",
        (&Method::PUT, false) => "PutObject",
        (&Method::POST, false) if has("uploads") => "CreateMultipartUpload",
        (&Method::POST, false) if has("uploadId") => "CompleteMultipartUpload",
        (&Method::DELETE, false) if has("uploadId") => "AbortMultipartUpload",
        (&Method::DELETE, false) => "DeleteObject",
        _ => "Unknown",
    };
    Call { operation, bucket, key }
}

/// Does what an S3 request asks for.
pub(crate) fn answer(shared: &Shared, state: &mut State, call: &Call, request: &Request) -> Response {
    let done = check(shared, state, call, request).and_then(|()| dispatch(shared, state, call, request));
    let response = done.unwrap_or_else(|e| error(shared, call, &e));
    response.with_header("x-amz-request-id", &shared.request_id()).with_header("x-amz-id-2", "testkit")
}

/// An error as S3 writes it. A HEAD request gets no body: the server leaves it out.
pub(crate) fn error(shared: &Shared, call: &Call, e: &S3Error) -> Response {
    let status = StatusCode::from_u16(e.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{}</Code><Message>{}</Message>\
         <Resource>/{}/{}</Resource><RequestId>{}</RequestId><HostId>testkit</HostId></Error>",
        e.code,
        escape(&e.message),
        escape(&call.bucket),
        escape(&call.key),
        shared.request_id()
    );
    let response = Response::text(status, "application/xml", body);
    e.headers.iter().fold(response, |response, (name, value)| response.with_header(name, value))
}

/// What is true of the bucket before the call is looked at.
fn check(shared: &Shared, state: &mut State, call: &Call, request: &Request) -> Result<(), S3Error> {
    if call.bucket.is_empty() || call.operation == "CreateBucket" {
        return Ok(());
    }
    let scope = Scope::of(request);
    let caller = scope.access_key.as_deref().and_then(|key| state.sts.role_of(key)).map(str::to_owned);
    let expired =
        scope.access_key.as_deref().is_some_and(|key| state.sts.is_expired(key, shared.clock.now()));
    let bucket = state.s3.bucket(&call.bucket)?;
    if expired {
        return Err(S3Error::new(400, "ExpiredToken", "The provided token has expired."));
    }
    if bucket.options.strict_region && scope.region.is_some_and(|region| region != bucket.region) {
        let message =
            "The bucket you are attempting to access must be addressed using the specified endpoint.";
        let moved = S3Error::new(301, "PermanentRedirect", message);
        return Err(moved.with("x-amz-bucket-region", bucket.region.clone()));
    }
    let expected = request.header("x-amz-expected-bucket-owner");
    let wrong_owner = expected.is_some_and(|owner| owner != bucket.owner);
    let wrong_role = bucket.options.role.is_some() && bucket.options.role != caller;
    if wrong_owner || wrong_role { Err(S3Error::denied()) } else { Ok(()) }
}

/// What the signature says of the caller.
pub(crate) struct Scope {
    pub(crate) access_key: Option<String>,
    pub(crate) region: Option<String>,
    /// When it was signed.
    pub(crate) signed_ms: Option<Millis>,
}

impl Scope {
    /// Reads `Credential=KEY/DATE/REGION/…`. The signature itself is not checked.
    pub(crate) fn of(request: &Request) -> Self {
        let credential = request
            .header("authorization")
            .and_then(|value| value.split("Credential=").nth(1))
            .and_then(|rest| rest.split([',', ' ']).next())
            .unwrap_or_default();
        let mut parts = credential.split('/').filter(|part| !part.is_empty()).map(str::to_owned);
        let access_key = parts.next();
        Self {
            access_key,
            region: parts.nth(1),
            signed_ms: request.header("x-amz-date").and_then(basic_time),
        }
    }
}

fn dispatch(shared: &Shared, state: &mut State, call: &Call, request: &Request) -> Result<Response, S3Error> {
    match call.operation {
        "GetObject" | "HeadObject" => get(state, call, request),
        "PutObject" => put(shared, state, call, request),
        "DeleteObject" => delete(shared, state, call, request),
        "ListObjectsV2" => list::page(&call.bucket, state.s3.bucket(&call.bucket)?, request).map(xml),
        "ListBuckets" => Ok(list_buckets(state)),
        "CreateBucket" => {
            state.s3.create(
                &call.bucket,
                &shared.names.account,
                &shared.names.region,
                super::BucketOptions::default(),
            );
            Ok(Response::new(StatusCode::OK).with_header("location", &format!("/{}", call.bucket)))
        }
        "HeadBucket" => {
            let region = state.s3.bucket(&call.bucket)?.region.clone();
            Ok(Response::new(StatusCode::OK).with_header("x-amz-bucket-region", &region))
        }
        "GetBucketLocation" => {
            // The oldest region has no name here.
            let region = state.s3.bucket(&call.bucket)?.region.replace("us-east-1", "");
            Ok(xml(format!(
                "<LocationConstraint xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">{region}</LocationConstraint>"
            )))
        }
        "GetBucketVersioning" => {
            let versioned = state.s3.bucket(&call.bucket)?.options.versioned;
            let status = if versioned { "<Status>Enabled</Status>" } else { "" };
            Ok(xml(format!("<VersioningConfiguration>{status}</VersioningConfiguration>")))
        }
        "CreateMultipartUpload" | "UploadPart" | "CompleteMultipartUpload" | "AbortMultipartUpload" => {
            multipart(shared, state, call, request)
        }
        _ => Err(S3Error::new(
            405,
            "MethodNotAllowed",
            "The specified method is not allowed against this resource.",
        )),
    }
}

fn list_buckets(state: &State) -> Response {
    let names: String = state
        .s3
        .buckets
        .keys()
        .map(|name| format!("<Bucket><Name>{}</Name></Bucket>", escape(name)))
        .collect();
    xml(format!("<ListAllMyBucketsResult><Buckets>{names}</Buckets></ListAllMyBucketsResult>"))
}

fn get(state: &mut State, call: &Call, request: &Request) -> Result<Response, S3Error> {
    let wanted = request.query_value("versionId");
    let versioned = state.s3.bucket(&call.bucket)?.options.versioned;
    let version = state.s3.get(&call.bucket, &call.key, wanted.as_deref())?;
    let quoted = format!("\"{}\"", version.etag);
    let matches = |header: &str| {
        request.header(header).map(|value| {
            value.split(',').any(|tag| ["*", quoted.as_str(), version.etag.as_str()].contains(&tag.trim()))
        })
    };
    if matches("if-match") == Some(false) {
        let message = "At least one of the pre-conditions you specified did not hold";
        return Err(S3Error::new(412, "PreconditionFailed", message));
    }
    let mut response = Response::new(StatusCode::OK)
        .with_header("etag", &quoted)
        .with_header("last-modified", &http_date(version.modified_ms))
        .with_header("accept-ranges", "bytes")
        .with_header("content-type", "binary/octet-stream");
    for (name, value) in &version.headers {
        response = response.with_header(name, value);
    }
    if versioned {
        response = response.with_header("x-amz-version-id", &version.id);
    }
    if matches("if-none-match") == Some(true) {
        response.status = StatusCode::NOT_MODIFIED;
        return Ok(response);
    }
    let len = version.body.len();
    let Some(range) = request.header("range").and_then(|header| parse_range(header, len)) else {
        // A checksum is given for whole objects only.
        if request.header("x-amz-checksum-mode").is_some_and(|mode| mode.eq_ignore_ascii_case("enabled")) {
            response = response
                .with_header("x-amz-checksum-crc32", &STANDARD.encode(version.crc32.to_be_bytes()))
                .with_header("x-amz-checksum-type", "FULL_OBJECT");
        }
        return Ok(response.with_body(version.body.clone()));
    };
    let (first, end) = range.ok_or_else(|| {
        let message = "The requested range is not satisfiable";
        S3Error::new(416, "InvalidRange", message).with("content-range", format!("bytes */{len}"))
    })?;
    response.status = StatusCode::PARTIAL_CONTENT;
    Ok(response
        .with_header("content-range", &format!("bytes {first}-{}/{len}", end - 1))
        .with_body(version.body.slice(first..end)))
}

/// First byte and end of a range, nothing within where it cannot be served; nothing at all where it is to be ignored.
fn parse_range(header: &str, len: usize) -> Option<Option<(usize, usize)>> {
    let (first, last) = header.strip_prefix("bytes=")?.split_once('-')?;
    let number = |text: &str| text.parse::<usize>().ok();
    let (first, end) = match (number(first), number(last)) {
        (Some(first), Some(last)) if last >= first => (first, last.saturating_add(1).min(len)),
        (Some(first), None) if last.is_empty() => (first, len),
        (None, Some(count)) if first.is_empty() => {
            (len.saturating_sub(count), if count == 0 { 0 } else { len })
        }
        _ => return None,
    };
    Some((first < end).then_some((first, end)))
}

fn put(shared: &Shared, state: &mut State, call: &Call, request: &Request) -> Result<Response, S3Error> {
    let body = body(request)?;
    let if_absent = request.header("if-none-match") == Some("*");
    let new = NewObject { body, headers: metadata(request), if_absent, etag: None };
    let version = state.s3.put(&call.bucket, &call.key, new, shared.clock.now())?;
    state.announce(shared, &call.bucket, &call.key, &version);
    let checksum = STANDARD.encode(version.crc32.to_be_bytes());
    Ok(stored(Response::new(StatusCode::OK), &version)
        .with_header("etag", &format!("\"{}\"", version.etag))
        .with_header("x-amz-checksum-crc32", &checksum))
}

fn stored(response: Response, version: &Version) -> Response {
    if version.id == "null" { response } else { response.with_header("x-amz-version-id", &version.id) }
}

fn delete(shared: &Shared, state: &mut State, call: &Call, request: &Request) -> Result<Response, S3Error> {
    let version = request.query_value("versionId");
    let existed = state.s3.bucket(&call.bucket)?.newest(&call.key).is_some();
    let marker = state.s3.delete(&call.bucket, &call.key, version.as_deref(), shared.clock.now())?;
    if existed && version.is_none() {
        state.announce_removal(shared, &call.bucket, &call.key, marker.as_ref());
    }
    let response = Response::new(StatusCode::NO_CONTENT);
    Ok(match &marker {
        Some(marker) => stored(response, marker).with_header("x-amz-delete-marker", "true"),
        None => response,
    })
}

fn multipart(
    shared: &Shared,
    state: &mut State,
    call: &Call,
    request: &Request,
) -> Result<Response, S3Error> {
    let id = request.query_value("uploadId").unwrap_or_default();
    let names = format!("<Bucket>{}</Bucket><Key>{}</Key>", escape(&call.bucket), escape(&call.key));
    match call.operation {
        "CreateMultipartUpload" => {
            let id = state.s3.create_upload(&call.bucket, &call.key, metadata(request))?;
            Ok(xml(format!(
                "<InitiateMultipartUploadResult>{names}<UploadId>{id}</UploadId></InitiateMultipartUploadResult>"
            )))
        }
        "UploadPart" => {
            let number = request.query_value("partNumber").and_then(|text| text.parse().ok());
            let number = number.filter(|number| (1..=10_000).contains(number)).ok_or_else(|| {
                S3Error::new(
                    400,
                    "InvalidArgument",
                    "Part number must be an integer between 1 and 10000, inclusive",
                )
            })?;
            let etag = state.s3.upload_part(&call.bucket, &id, number, body(request)?)?;
            Ok(Response::new(StatusCode::OK).with_header("etag", &format!("\"{etag}\"")))
        }
        "AbortMultipartUpload" => {
            state.s3.abort_upload(&call.bucket, &id)?;
            Ok(Response::new(StatusCode::NO_CONTENT))
        }
        _ => {
            let listed = listed_parts(&String::from_utf8_lossy(&request.body));
            let if_absent = request.header("if-none-match") == Some("*");
            let now = shared.clock.now();
            let (key, version) = state.s3.complete_upload(&call.bucket, &id, &listed, if_absent, now)?;
            state.announce(shared, &call.bucket, &key, &version);
            let body = format!(
                "<CompleteMultipartUploadResult>{names}<ETag>&quot;{}&quot;</ETag></CompleteMultipartUploadResult>",
                version.etag
            );
            Ok(stored(xml(body), &version))
        }
    }
}

fn xml(body: String) -> Response {
    let body = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{body}");
    Response::text(StatusCode::OK, "application/xml", body)
}

/// Text as it stands in an XML element.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c if c < ' ' => out.push_str(&format!("&#{};", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_http_has_them() {
        let cases = [
            ("bytes=0-3", Some(Some((0, 4)))),
            ("bytes=4-", Some(Some((4, 10)))),
            ("bytes=-3", Some(Some((7, 10)))),
            ("bytes=5-99", Some(Some((5, 10)))),
            ("bytes=10-", Some(None)),
            ("bytes=-0", Some(None)),
            ("bytes=5-2", None),
            ("items=1-2", None),
        ];
        for (header, expected) in cases {
            assert_eq!(parse_range(header, 10), expected, "{header}");
        }
    }

    #[test]
    fn xml_text_is_escaped() {
        assert_eq!(escape("a<b>&\"\n"), "a&lt;b&gt;&amp;&quot;&#10;");
    }
}
