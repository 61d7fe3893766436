//! Splunk's reply codes with their HTTP statuses and texts.
//!
//! <https://help.splunk.com/en/splunk-enterprise/get-started/get-data-in/10.0/get-data-with-http-event-collector/troubleshoot-http-event-collector>

use serde_json::{Value, json};

use crate::destinations::desk::status;
use crate::http::Response;

/// Code, HTTP status, text.
const CODES: [(u16, u16, &str); 29] = [
    (0, 200, "Success"),
    (1, 403, "Token disabled"),
    (2, 401, "Token is required"),
    (3, 401, "Invalid authorization"),
    (4, 403, "Invalid token"),
    (5, 400, "No data"),
    (6, 400, "Invalid data format"),
    (7, 400, "Incorrect index"),
    (8, 500, "Internal server error"),
    (9, 503, "Server is busy"),
    (10, 400, "Data channel is missing"),
    (11, 400, "Invalid data channel"),
    (12, 400, "Event field is required"),
    (13, 400, "Event field cannot be blank"),
    (14, 400, "ACK is disabled"),
    (15, 400, "Error in handling indexed fields"),
    (16, 400, "Query string authorization is not enabled"),
    (17, 200, "HEC is healthy"),
    (18, 503, "HEC is unhealthy, queues are full"),
    (19, 503, "HEC is unhealthy, ack service unavailable"),
    (20, 503, "HEC is unhealthy, queues are full, ack service unavailable"),
    (21, 400, "Invalid token"),
    (22, 400, "Token disabled"),
    (23, 503, "Server is shutting down"),
    (24, 200, "Queue is approaching capacity"),
    (25, 200, "Ack channel is approaching capacity"),
    (26, 429, "Queue is at capacity"),
    (27, 429, "Ack channel is at capacity"),
    (28, 400, "Data channel is missing: sticky sessions are needed"),
];

/// The answer with a code; one that Splunk does not have becomes 8.
pub(super) fn answer(code: u16) -> Response {
    with(code, &json!({}))
}

/// The same with further members.
pub(super) fn with(code: u16, more: &Value) -> Response {
    let known = CODES.iter().find(|(known, _, _)| *known == code);
    let (code, http, text) = *known.unwrap_or(&(8, 500, "Internal server error"));
    let mut body = json!({ "text": text, "code": code });
    if let (Some(body), Some(more)) = (body.as_object_mut(), more.as_object()) {
        body.extend(more.clone());
    }
    Response::json(status(http), &body)
}

/// What is answered with an HTTP status when nothing of the request is looked at.
pub(super) fn whole(http: u16) -> Response {
    let code = match http {
        401 => 3,
        403 => 4,
        400 => 6,
        429 => 26,
        500 => 8,
        503 => 9,
        415 => return Response::text(status(http), "text/html", "<html>Unsupported Media Type</html>"),
        404 => return not_found(),
        413 | 405 => return plain(http),
        _ => return Response::text(status(http), "text/html", "<html>the proxy is unhappy</html>"),
    };
    answer(code)
}

pub(super) fn not_found() -> Response {
    let body = json!({ "text": "The requested URL was not found on this server.", "code": 404 });
    Response::json(status(404), &body)
}

/// An answer whose code is its status.
pub(super) fn plain(http: u16) -> Response {
    let text = if http == 413 { "Content-Length is too large" } else { "Method Not Allowed" };
    Response::json(status(http), &json!({ "text": text, "code": http }))
}
