//! Reads a bulk request's lines.

use serde_json::{Map, Value};

use super::answers::Wrong;

/// One action of a bulk request with its source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Action<'a> {
    /// `create` or `index`.
    pub(super) create: bool,
    pub(super) index: String,
    pub(super) id: Option<String>,
    pub(super) pipeline: Option<String>,
    pub(super) require_data_stream: bool,
    pub(super) source: &'a [u8],
}

impl Action<'_> {
    /// The key of its entry in the answer.
    pub(super) fn name(&self) -> &'static str {
        if self.create { "create" } else { "index" }
    }
}

/// What the URL says about all actions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Defaults {
    pub(super) index: Option<String>,
    pub(super) pipeline: Option<String>,
    pub(super) require_data_stream: bool,
}

/// <https://www.elastic.co/docs/api/doc/elasticsearch/operation/operation-bulk>
const PARAMETERS: [&str; 13] = [
    "_index",
    "_id",
    "routing",
    "pipeline",
    "require_alias",
    "require_data_stream",
    "dynamic_templates",
    "op_type",
    "version",
    "version_type",
    "if_seq_no",
    "if_primary_term",
    "list_executed_pipelines",
];

const ID_BYTES_MAX: usize = 512;

/// Splits a body into its actions. One bad action line refuses the whole request, before anything is stored.
pub(super) fn parse<'a>(body: &'a [u8], defaults: &Defaults) -> Result<Vec<Action<'a>>, Wrong> {
    if body.is_empty() {
        return Err(Wrong::new(400, "parse_exception", "request body is required"));
    }
    let Some(body) = body.strip_suffix(b"\n") else {
        return Err(illegal("The bulk request must be terminated by a newline [\\n]"));
    };
    let mut actions = Vec::new();
    let mut problems = Vec::new();
    let mut lines = body.split(|&byte| byte == b'\n').enumerate();
    while let Some((number, line)) = lines.next() {
        if line.trim_ascii().is_empty() {
            continue;
        }
        let (create, parameters) = action_line(line, number + 1)?;
        let Some((_, source)) = lines.next() else {
            return Err(illegal("The bulk request must be terminated by a newline [\\n]"));
        };
        let action = action(create, &parameters, source, defaults);
        problems.extend(validate(&action));
        actions.push(action);
    }
    if actions.is_empty() {
        problems.push("no requests added".to_owned());
    }
    if problems.is_empty() {
        return Ok(actions);
    }
    let listed = problems.iter().enumerate().map(|(at, problem)| format!(" {}: {problem};", at + 1));
    let reason = format!("Validation Failed:{}", listed.collect::<String>());
    Err(Wrong::new(400, "action_request_validation_exception", reason))
}

fn illegal(reason: impl Into<String>) -> Wrong {
    Wrong::new(400, "illegal_argument_exception", reason)
}

fn action_line(line: &[u8], number: usize) -> Result<(bool, Map<String, Value>), Wrong> {
    let malformed = |what: &str| illegal(format!("Malformed action/metadata line [{number}], {what}"));
    let Ok(Value::Object(members)) = serde_json::from_slice(line) else {
        return Err(malformed("expected START_OBJECT"));
    };
    let mut members = members.into_iter();
    let (Some((name, value)), None) = (members.next(), members.next()) else {
        return Err(malformed("expected exactly one action"));
    };
    let create = match name.as_str() {
        "create" => true,
        "index" => false,
        "delete" | "update" => return Err(illegal(format!("the stand-in has no [{name}]"))),
        _ => {
            return Err(malformed(&format!(
                "expected field [create], [delete], [index] or [update] but found [{name}]"
            )));
        }
    };
    let Value::Object(parameters) = value else {
        return Err(malformed("expected START_OBJECT for the action's parameters"));
    };
    if let Some(unknown) = parameters.keys().find(|key| !PARAMETERS.contains(&key.as_str())) {
        return Err(illegal(format!(
            "Action/metadata line [{number}] contains an unknown parameter [{unknown}]"
        )));
    }
    Ok((create, parameters))
}

fn action<'a>(
    create: bool,
    parameters: &Map<String, Value>,
    source: &'a [u8],
    defaults: &Defaults,
) -> Action<'a> {
    let text = |key: &str| parameters.get(key).and_then(Value::as_str).map(str::to_owned);
    let flag = |key: &str| parameters.get(key).and_then(Value::as_bool);
    Action {
        create: create || text("op_type").as_deref() == Some("create"),
        index: text("_index").or_else(|| defaults.index.clone()).unwrap_or_default(),
        id: text("_id"),
        pipeline: text("pipeline").or_else(|| defaults.pipeline.clone()),
        require_data_stream: flag("require_data_stream").unwrap_or(defaults.require_data_stream),
        source,
    }
}

fn validate(action: &Action<'_>) -> Option<String> {
    if action.index.is_empty() {
        return Some("index is missing".to_owned());
    }
    if action.source.trim_ascii().is_empty() {
        return Some("source is missing".to_owned());
    }
    let id = action.id.as_ref().filter(|id| id.len() > ID_BYTES_MAX)?;
    Some(format!("id [{id}] is too long, must be no longer than 512 bytes but was: {}", id.len()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn reason(body: &str) -> String {
        parse(body.as_bytes(), &Defaults::default()).unwrap_err().reason
    }

    #[test]
    fn actions_are_read_with_the_defaults_of_the_url() {
        let defaults =
            Defaults { index: Some("d".into()), pipeline: Some("p".into()), require_data_stream: true };
        let body = b"{\"create\":{\"_index\":\"i\",\"_id\":\"1\"}}\n{\"a\":1}\n\n{\"index\":{}}\n{}\n";
        let actions = parse(body, &defaults).unwrap();
        assert_eq!(actions.len(), 2);
        assert_eq!(
            (actions[0].create, actions[0].index.as_str(), actions[0].id.as_deref()),
            (true, "i", Some("1"))
        );
        assert_eq!(actions[0].source, b"{\"a\":1}");
        assert_eq!(
            (actions[1].create, actions[1].index.as_str(), actions[1].id.as_deref()),
            (false, "d", None)
        );
        assert_eq!(actions[1].pipeline.as_deref(), Some("p"));
        assert!(actions[1].require_data_stream);
    }

    #[test]
    fn a_bad_line_refuses_the_whole_request() {
        assert_eq!(reason(""), "request body is required");
        let no_newline = "{\"index\":{\"_index\":\"i\"}}\n{}";
        assert_eq!(reason(no_newline), "The bulk request must be terminated by a newline [\\n]");
        assert!(reason("{\"index\":{\"_index\":\"i\"}}\n").contains("terminated by a newline"));
        assert!(reason("[]\n{}\n").starts_with("Malformed action/metadata line [1]"));
        assert!(reason("{\"index\":{\"_index\":\"i\"}}\n{}\nx\n{}\n").contains("line [3]"));
        assert!(reason("{\"put\":{}}\n{}\n").ends_with("but found [put]"));
        assert!(reason("{\"index\":{},\"create\":{}}\n{}\n").contains("exactly one"));
        assert!(reason("{\"index\":1}\n{}\n").contains("parameters"));
        assert!(reason("{\"index\":{\"_type\":\"t\"}}\n{}\n").contains("unknown parameter [_type]"));
        assert!(reason("{\"delete\":{}}\n{}\n").contains("delete"));
    }

    #[test]
    fn actions_are_validated_together() {
        assert_eq!(reason("{\"index\":{}}\n{}\n"), "Validation Failed: 1: index is missing;");
        let long = format!("{{\"create\":{{\"_index\":\"i\",\"_id\":\"{}\"}}}}\n{{}}\n", "é".repeat(257));
        assert!(reason(&long).ends_with("no longer than 512 bytes but was: 514;"));
        assert!(parse(long.replacen('é', "", 1).as_bytes(), &Defaults::default()).is_ok());
        assert_eq!(reason("\n"), "Validation Failed: 1: no requests added;");
    }
}
