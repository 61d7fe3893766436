//! The texts of Elasticsearch's answers, and its `filter_path`.

use http::StatusCode;
use serde_json::{Map, Value, json};

use super::super::desk::status;
use crate::http::Response;

/// What is wrong with a request or with one item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) status: u16,
    pub(super) kind: &'static str,
    pub(super) reason: String,
    pub(super) cause: Option<String>,
}

impl Wrong {
    pub(super) fn new(status: u16, kind: &'static str, reason: impl Into<String>) -> Self {
        Self { status, kind, reason: reason.into(), cause: None }
    }

    pub(super) fn with_cause(self, cause: impl Into<String>) -> Self {
        Self { cause: Some(cause.into()), ..self }
    }

    /// The `error` of one item.
    pub(super) fn item(&self) -> Value {
        let mut error = json!({ "type": self.kind, "reason": self.reason });
        if let Some(cause) = &self.cause {
            error["caused_by"] = json!({ "type": "illegal_argument_exception", "reason": cause });
        }
        error
    }

    /// The answer to the whole request.
    pub(super) fn response(&self) -> Response {
        let mut error = self.item();
        error["root_cause"] = json!([{ "type": self.kind, "reason": self.reason }]);
        let response = Response::json(status(self.status), &json!({ "error": error, "status": self.status }));
        match self.status {
            401 => response.with_header("www-authenticate", "ApiKey"),
            _ => response,
        }
    }
}

/// What a cluster, or the proxy before it, answers with a status when nothing of the request is looked at.
pub(super) fn whole(status_number: u16) -> Response {
    let (kind, reason) = match status_number {
        401 => ("security_exception", "unable to authenticate with provided credentials"),
        403 => ("security_exception", "action [indices:data/write/bulk] is unauthorized"),
        404 => ("index_not_found_exception", "no such index [x]"),
        429 => (
            "es_rejected_execution_exception",
            "rejected execution of coordinating operation: indexing pressure",
        ),
        500 => ("illegal_state_exception", "internal error"),
        503 => ("cluster_block_exception", "blocked by: [SERVICE_UNAVAILABLE/2/no master];"),
        413 => return Response::new(StatusCode::PAYLOAD_TOO_LARGE).with_header("connection", "close"),
        502 | 504 => {
            let page = "<html><body><h1>Bad gateway</h1></body></html>";
            return Response::text(status(status_number), "text/html", page);
        }
        _ => ("illegal_argument_exception", "the stand-in refuses every request"),
    };
    Wrong::new(status_number, kind, reason).response()
}

/// Whether a name matches a pattern with `*`.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((before, after)) => name.strip_prefix(before).is_some_and(|rest| {
            (0..=rest.len()).filter(|&at| rest.is_char_boundary(at)).any(|at| matches(after, &rest[at..]))
        }),
    }
}

/// What `filter_path` leaves of an answer; nothing at all becomes `{}`.
///
/// <https://www.elastic.co/docs/reference/elasticsearch/rest-apis/common-options>
pub(super) fn filtered(value: &Value, filter_path: &str) -> Value {
    let patterns: Vec<Vec<&str>> = filter_path.split(',').map(|path| path.split('.').collect()).collect();
    let patterns: Vec<&[&str]> = patterns.iter().map(Vec::as_slice).collect();
    filter(value, &patterns).unwrap_or_else(|| json!({}))
}

fn filter(value: &Value, patterns: &[&[&str]]) -> Option<Value> {
    if patterns.iter().any(|pattern| pattern.is_empty()) {
        return Some(value.clone());
    }
    match value {
        Value::Object(members) => {
            let kept: Map<String, Value> = members
                .iter()
                .filter_map(|(key, value)| Some((key.clone(), filter(value, &below(patterns, key))?)))
                .collect();
            (!kept.is_empty()).then_some(Value::Object(kept))
        }
        Value::Array(elements) => {
            let kept: Vec<Value> = elements.iter().filter_map(|element| filter(element, patterns)).collect();
            (!kept.is_empty()).then_some(Value::Array(kept))
        }
        _ => None,
    }
}

/// What is left of the patterns one level down, under `key`.
fn below<'a>(patterns: &[&'a [&'a str]], key: &str) -> Vec<&'a [&'a str]> {
    let mut left = Vec::new();
    for &pattern in patterns {
        match pattern {
            ["**", rest @ ..] => {
                left.push(pattern);
                left.extend(below(&[rest], key));
            }
            [first, rest @ ..] if matches(first, key) => left.push(rest),
            _ => {}
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_globs() {
        for (pattern, name, yes) in [
            ("cloudtrail-*", "cloudtrail-2026.01.01", true),
            ("*", "", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b", "a-b-c", false),
            ("a", "ab", false),
        ] {
            assert_eq!(matches(pattern, name), yes, "{pattern} {name}");
        }
    }

    #[test]
    fn filter_path_keeps_one_entry_an_item() {
        let answer = json!({"took": 1, "errors": true, "ingest_took": 3, "items": [
            {"create": {"_id": "a", "status": 201}},
            {"create": {"_id": "b", "status": 400, "error": {"type": "t", "reason": "r", "caused_by": {"type": "c"}}}},
        ]});
        let path = "took,errors,items.*.status,items.*.error.type,items.*.error.reason";
        assert_eq!(
            filtered(&answer, path),
            json!({"took": 1, "errors": true, "items": [
                {"create": {"status": 201}},
                {"create": {"status": 400, "error": {"type": "t", "reason": "r"}}},
            ]})
        );
        // The trap: with this filter the items that went well are gone.
        assert_eq!(
            filtered(&answer, "items.*.error.type"),
            json!({"items": [{"create": {"error": {"type": "t"}}}]})
        );
        assert_eq!(filtered(&answer, "nothing"), json!({}));
        assert_eq!(filtered(&answer, "**.status"), filtered(&answer, "items.create.status"));
        assert_eq!(filtered(&answer, "item*.create._id"), filtered(&answer, "items.*._id"));
    }
}
