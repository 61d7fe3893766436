//! A request as the stand-ins see it, and the answer that they give.

use std::io::Read;
use std::time::Duration;

use bytes::Bytes;
#[allow(clippy::disallowed_types, reason = "read through `inflate`, which has a limit")]
use flate2::read::{MultiGzDecoder, ZlibDecoder};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::Fault;

/// One whole request.
#[derive(Debug, Clone)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The path as it was sent, still percent-encoded.
    pub path: String,
    /// The query as it was sent, still percent-encoded, without the question mark.
    pub query: String,
    /// All headers. `transfer-encoding` is there when the body came in chunks.
    pub headers: HeaderMap,
    /// The whole body as it was sent: transfer coding removed, content coding kept.
    pub body: Bytes,
    /// Number of the connection, counted from 1 in the order of acceptance.
    pub connection: u64,
}

impl Request {
    /// A header's value, where it is there and is text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The decoded value of a query parameter; an empty text where it has a name only.
    #[must_use]
    pub fn query_value(&self, name: &str) -> Option<String> {
        self.query_pairs().into_iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// All query parameters, decoded (`+` is a space), in the order of the query.
    #[must_use]
    pub fn query_pairs(&self) -> Vec<(String, String)> {
        form_pairs(&self.query)
    }

    /// The body read as a form (`application/x-www-form-urlencoded`).
    #[must_use]
    pub fn form_pairs(&self) -> Vec<(String, String)> {
        form_pairs(&String::from_utf8_lossy(&self.body))
    }

    /// The body with its content coding (`gzip`, `deflate`, `identity`) removed.
    ///
    /// # Errors
    /// A sentence, where the coding is another one, the data is broken, or more than `bytes_max` come out.
    pub fn decoded_body(&self, bytes_max: usize) -> Result<Bytes, String> {
        match self.header(CONTENT_ENCODING.as_str()).map(str::trim) {
            None | Some("" | "identity") => Ok(self.body.clone()),
            Some("gzip") => inflate(MultiGzDecoder::new(&self.body[..]), bytes_max),
            Some("deflate") => inflate(ZlibDecoder::new(&self.body[..]), bytes_max),
            Some(other) => Err(format!("content coding `{other}` is not supported")),
        }
    }
}

/// Reads `source` to its end.
///
/// # Errors
/// A sentence, where the source fails or holds more than `bytes_max`.
pub fn inflate(source: impl Read, bytes_max: usize) -> Result<Bytes, String> {
    let mut out = Vec::new();
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
    source.take(limit).read_to_end(&mut out).map_err(|e| format!("broken content coding: {e}"))?;
    if out.len() > bytes_max {
        return Err(format!("body holds more than {bytes_max} bytes"));
    }
    Ok(out.into())
}

/// Splits `a=1&b=2`, decoding names and values.
fn form_pairs(form: &str) -> Vec<(String, String)> {
    form.split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (percent_decode(&name.replace('+', " ")), percent_decode(&value.replace('+', " ")))
        })
        .collect()
}

/// Replaces `%xx`; anything else, a `+` included, stays. Bytes that are not UTF-8 become U+FFFD.
#[must_use]
pub fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let byte = (bytes[at] == b'%')
            .then(|| text.get(at + 1..at + 3))
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match byte {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Writes `%XX` for every byte that is neither unreserved (RFC 3986) nor in `keep`.
#[must_use]
pub fn percent_encode(text: &str, keep: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        let plain = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        if plain || keep.as_bytes().contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// One answer, and what goes wrong with it on the way.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status.
    pub status: StatusCode,
    /// The headers; `content-length` and `date` are added.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
    /// Time from the end of the handler to the first byte.
    pub delay: Duration,
    /// What goes wrong, if anything.
    pub fault: Option<Fault>,
}

impl Response {
    /// An empty answer.
    #[must_use]
    pub fn new(status: StatusCode) -> Self {
        Self { status, headers: HeaderMap::new(), body: Bytes::new(), delay: Duration::ZERO, fault: None }
    }

    /// An answer with a JSON body.
    #[must_use]
    pub fn json(status: StatusCode, value: &serde_json::Value) -> Self {
        Self::text(status, "application/json", value.to_string())
    }

    /// An answer with a body of the given content type.
    #[must_use]
    pub fn text(status: StatusCode, content_type: &str, body: impl Into<Bytes>) -> Self {
        Self::new(status).with_header(CONTENT_TYPE.as_str(), content_type).with_body(body)
    }

    /// Sets a header. A name or value that HTTP cannot carry is left out.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_str(value)) {
            self.headers.insert(name, value);
        }
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Answers this much later.
    #[must_use]
    pub fn with_delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Lets something go wrong.
    #[must_use]
    pub fn with_fault(mut self, fault: Fault) -> Self {
        self.fault = Some(fault);
        self
    }
}
