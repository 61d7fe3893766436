//! What a writing request carries: body, checksum, metadata, and the list of an upload's parts.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use flate2::Crc;
use sha2::{Digest, Sha256};

use super::{S3Error, chunked};
use crate::http::Request;

/// Metadata of an object that is kept and given back.
const KEPT_HEADERS: &[&str] = &["content-type", "content-encoding", "cache-control", "content-disposition"];

/// The body as it is to be stored, its checksum compared.
pub(super) fn body(request: &Request) -> Result<Bytes, S3Error> {
    let coded = request.header("content-encoding").is_some_and(|value| value.contains("aws-chunked"))
        || request.header("x-amz-content-sha256").is_some_and(|value| value.starts_with("STREAMING-"));
    let (body, trailers) = if coded {
        let broken = || S3Error::new(400, "IncompleteBody", "The request body terminated unexpectedly");
        let decoded = chunked::decode(&request.body).ok_or_else(broken)?;
        let announced = request.header("x-amz-decoded-content-length").and_then(|text| text.parse().ok());
        if announced.is_some_and(|len: usize| len != decoded.body.len()) {
            return Err(broken());
        }
        (decoded.body, decoded.trailers)
    } else {
        (request.body.clone(), Vec::new())
    };
    let given = |name: &str| {
        let trailer = trailers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str());
        request.header(name).or(trailer).map(str::to_owned)
    };
    let mut crc = Crc::new();
    crc.update(&body);
    let fits = [
        given("x-amz-checksum-crc32").is_none_or(|value| value == STANDARD.encode(crc.sum().to_be_bytes())),
        given("x-amz-checksum-sha256").is_none_or(|value| value == STANDARD.encode(Sha256::digest(&body))),
        given("content-md5").is_none_or(|value| value == STANDARD.encode(crate::aws::md5(&body))),
    ];
    if fits.contains(&false) {
        return Err(S3Error::new(
            400,
            "BadDigest",
            "The checksum you specified did not match what we received.",
        ));
    }
    Ok(body)
}

/// The headers that are stored with an object.
pub(super) fn metadata(request: &Request) -> Vec<(String, String)> {
    let kept = |name: &str| {
        KEPT_HEADERS.contains(&name)
            || name.starts_with("x-amz-meta-")
            || name.starts_with("x-amz-server-side-encryption")
    };
    let mut headers = Vec::new();
    for (name, value) in &request.headers {
        let Ok(value) = value.to_str() else { continue };
        if !kept(name.as_str()) {
            continue;
        }
        let value = if name == "content-encoding" {
            // `aws-chunked` is how the body came, not what it is.
            let codings: Vec<_> =
                value.split(',').map(str::trim).filter(|part| *part != "aws-chunked").collect();
            codings.join(",")
        } else {
            value.to_owned()
        };
        if !value.is_empty() {
            headers.push((name.as_str().to_owned(), value));
        }
    }
    headers
}

/// Number and entity tag of each `<Part>`.
pub(super) fn listed_parts(body: &str) -> Vec<(u32, String)> {
    let tag = |part: &str, name: &str| {
        let start = part.find(&format!("<{name}>"))? + name.len() + 2;
        let end = part[start..].find("</")? + start;
        Some(part[start..end].trim().replace("&quot;", "").replace('"', ""))
    };
    body.split("<Part>")
        .skip(1)
        .filter_map(|part| Some((tag(part, "PartNumber")?.parse().ok()?, tag(part, "ETag")?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listed_parts_are_found_in_any_order_of_their_elements() {
        let body = "<CompleteMultipartUpload><Part><ETag>&quot;a&quot;</ETag><PartNumber>1</PartNumber></Part>\
                    <Part><PartNumber>2</PartNumber><ETag>\"b\"</ETag></Part></CompleteMultipartUpload>";
        assert_eq!(listed_parts(body), [(1, "a".to_owned()), (2, "b".to_owned())]);
    }
}
