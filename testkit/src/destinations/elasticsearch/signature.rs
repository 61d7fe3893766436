//! Checks the signature of a request as AWS does: Signature Version 4, computed here by hand.
//!
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>

use std::collections::BTreeMap;
use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use crate::http::Request;

/// Whose signature is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signer {
    /// `es` or `aoss`.
    pub service: String,
    /// Such as `eu-west-1`.
    pub region: String,
    /// The id of an access key.
    pub access_key: String,
    /// Its secret.
    pub secret_key: String,
}

impl Signer {
    /// Whether `request` bears this signer's signature; otherwise what is wrong with it.
    pub(super) fn check(&self, request: &Request) -> Result<(), String> {
        let header = |name: &str| request.header(name).ok_or_else(|| format!("the header {name} is missing"));
        let given = Given::read(header("authorization")?).ok_or("the header authorization is malformed")?;
        let date = header("x-amz-date")?;
        let hash = hex(&Sha256::digest(&request.body));
        match request.header("x-amz-content-sha256") {
            Some(told) if told == hash => {}
            Some(_) => return Err("x-amz-content-sha256 is not that of the body".to_owned()),
            None if self.service == "aoss" => return Err("x-amz-content-sha256 is missing".to_owned()),
            None => {}
        }
        let scope =
            format!("{}/{}/{}/aws4_request", date.get(..8).unwrap_or_default(), self.region, self.service);
        if given.credential != format!("{}/{scope}", self.access_key) {
            return Err(format!("Credential should be scoped to {scope}"));
        }
        for name in ["host", "x-amz-date"] {
            if !given.signed.contains(&name) {
                return Err(format!("the header {name} is not signed"));
            }
        }
        let canonical = canonical_request(request, &given.signed, &hash)?;
        let to_sign =
            format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", hex(&Sha256::digest(canonical.as_bytes())));
        if hex(&hmac(&self.key(&scope), to_sign.as_bytes())) != given.signature {
            return Err(
                "The request signature we calculated does not match the signature you provided".to_owned()
            );
        }
        Ok(())
    }

    fn key(&self, scope: &str) -> [u8; 32] {
        let mut parts = scope.split('/');
        let date = parts.next().unwrap_or_default();
        let start = hmac(format!("AWS4{}", self.secret_key).as_bytes(), date.as_bytes());
        parts.fold(start, |key, part| hmac(&key, part.as_bytes()))
    }
}

/// What the header `authorization` says.
struct Given<'a> {
    credential: &'a str,
    signed: Vec<&'a str>,
    signature: &'a str,
}

impl<'a> Given<'a> {
    fn read(text: &'a str) -> Option<Self> {
        let parts: BTreeMap<&str, &str> = text
            .strip_prefix("AWS4-HMAC-SHA256 ")?
            .split(',')
            .filter_map(|part| part.trim().split_once('='))
            .collect();
        Some(Self {
            credential: parts.get("Credential")?,
            signed: parts.get("SignedHeaders")?.split(';').collect(),
            signature: parts.get("Signature")?,
        })
    }
}

fn canonical_request(request: &Request, signed: &[&str], hash: &str) -> Result<String, String> {
    // What stands in the path is encoded once more, as for all services but S3.
    let path: Vec<String> = request.path.split('/').map(encoded).collect();
    let mut query: Vec<(String, String)> =
        request.query_pairs().iter().map(|(name, value)| (encoded(name), encoded(value))).collect();
    query.sort();
    let query: Vec<String> = query.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let mut text = format!("{}\n{}\n{}\n", request.method, path.join("/"), query.join("&"));
    for name in signed {
        let value = request.header(name).ok_or_else(|| format!("the signed header {name} is missing"))?;
        let value = value.split_whitespace().collect::<Vec<_>>().join(" ");
        text.push_str(&format!("{name}:{value}\n"));
    }
    text.push_str(&format!("\n{}\n{hash}", signed.join(";")));
    Ok(text)
}

fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// HMAC with SHA-256.
/// <https://www.rfc-editor.org/rfc/rfc2104>
fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut block = [0u8; 64];
    if key.len() > block.len() {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let padded = |pad: u8| block.map(|byte| byte ^ pad);
    let inner = Sha256::new().chain_update(padded(0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(padded(0x5c)).chain_update(inner).finalize().into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue, Method};

    use super::*;

    /// The example `get-vanilla-query-order-key-case` of AWS's test suite.
    /// <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-test-suite.html>
    fn example() -> (Signer, Request) {
        let signer = Signer {
            service: "service".to_owned(),
            region: "us-east-1".to_owned(),
            access_key: "AKIDEXAMPLE".to_owned(),
            secret_key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned(),
        };
        let mut headers = HeaderMap::new();
        let authorization = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
            SignedHeaders=host;x-amz-date, \
            Signature=b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500";
        for (name, value) in [
            ("host", "example.amazonaws.com"),
            ("x-amz-date", "20150830T123600Z"),
            ("authorization", authorization),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let request = Request {
            method: Method::GET,
            path: "/".to_owned(),
            query: "Param2=value2&Param1=value1".to_owned(),
            headers,
            body: Bytes::new(),
            connection: 1,
        };
        (signer, request)
    }

    #[test]
    fn the_documentation_s_example_is_taken() {
        let (signer, request) = example();
        assert_eq!(signer.check(&request), Ok(()));
    }

    #[test]
    fn one_changed_part_makes_the_signature_wrong() {
        let changes: [fn(&mut Signer, &mut Request); 7] = [
            |signer, _| signer.secret_key.push('x'),
            |signer, _| signer.region = "eu-west-1".to_owned(),
            |signer, _| signer.service = "es".to_owned(),
            |_, request| request.path.push('a'),
            |_, request| request.query.push('a'),
            |_, request| request.body = Bytes::from_static(b"a"),
            |_, request| {
                request.headers.insert("x-amz-date", HeaderValue::from_static("20150830T123601Z"));
            },
        ];
        for (at, change) in changes.iter().enumerate() {
            let (mut signer, mut request) = example();
            change(&mut signer, &mut request);
            assert!(signer.check(&request).is_err(), "change {at}");
        }
    }

    #[test]
    fn serverless_wants_the_hash_of_the_body_in_a_header() {
        let (mut signer, request) = example();
        signer.service = "aoss".to_owned();
        assert_eq!(signer.check(&request), Err("x-amz-content-sha256 is missing".to_owned()));
    }
}
