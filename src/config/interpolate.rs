//! `${VAR}` inside the strings of a document: replaced after parsing, so that no value can change the structure.

use std::collections::BTreeMap;

use super::problem::Problem;
use super::tree::{Node, Value};

/// Replaces the variables in every string of the tree; what they bring marks the value as secret.
pub(super) fn apply(tree: &mut Node, variables: &BTreeMap<String, String>) -> Vec<Problem> {
    let mut problems = Vec::new();
    tree.visit_mut(&mut Vec::new(), &mut |path, node| {
        let Value::String(text) = &node.value else { return };
        if !text.contains('$') {
            return;
        }
        match replaced(text, variables) {
            Ok((text, secret)) => {
                node.value = Value::String(text);
                node.secret |= secret;
            }
            Err(message) => problems.push(Problem { at: node.at.clone(), key: path.join("."), message }),
        }
    });
    problems
}

/// The text with its variables replaced, and whether one of them brought something.
///
/// `$$` is a dollar sign; `${VAR:-default}` is the default where `VAR` is unset or empty; a dollar sign before
/// anything else stands for itself.
fn replaced(text: &str, variables: &BTreeMap<String, String>) -> Result<(String, bool), String> {
    let mut out = String::with_capacity(text.len());
    let mut secret = false;
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(after) = after.strip_prefix('{') {
            let (inside, after) =
                after.split_once('}').ok_or("\"${\" without \"}\"; write \"$$\" for a dollar sign")?;
            let (name, default) = match inside.split_once(":-") {
                Some((name, default)) => (name, Some(default)),
                None => (inside, None),
            };
            if !is_name(name) {
                return Err(format!("\"{name}\" is not a variable's name; write \"$$\" for a dollar sign"));
            }
            let value = variables.get(name).filter(|value| default.is_none() || !value.is_empty());
            secret |= value.is_some();
            out.push_str(value.map(String::as_str).or(default).ok_or_else(|| {
                format!(
                    "the environment variable {name} is not set; set it, or write \"${{{name}:-default}}\""
                )
            })?);
            rest = after;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    Ok((out, secret))
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::tree::parse;
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<(&str, bool), &str>) {
        let variables = [("KEY", "s3cret"), ("EMPTY", ""), ("TRICK", "\"\nx = 1 ${KEY}")];
        let variables = variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let got = replaced(text, &variables);
        match expected {
            Ok((text, secret)) => assert_eq!(got, Ok((text.to_owned(), secret))),
            Err(part) => assert!(got.as_ref().is_err_and(|m| m.contains(part)), "{got:?}"),
        }
    }

    #[test]
    fn variables_are_replaced_and_mark_the_value_as_secret() {
        check("plain", Ok(("plain", false)));
        check("a ${KEY} b", Ok(("a s3cret b", true)));
        check("${KEY:-other}", Ok(("s3cret", true)));
        check("${NONE:-other}", Ok(("other", false)));
        check("${EMPTY:-other}", Ok(("other", false)));
        check("${NONE:-}", Ok(("", false)));
        check("${EMPTY}", Ok(("", true)));
    }

    #[test]
    fn dollar_signs_can_be_written() {
        check("$$", Ok(("$", false)));
        check("$${KEY}", Ok(("${KEY}", false)));
        check("$5 and $", Ok(("$5 and $", false)));
    }

    #[test]
    fn what_a_variable_holds_is_never_read_again() {
        check("${TRICK}", Ok(("\"\nx = 1 ${KEY}", true)));
    }

    #[test]
    fn what_is_wrong_names_the_variable() {
        check("${NONE}", Err("NONE is not set"));
        check("${KEY", Err("without"));
        check("${}", Err("not a variable's name"));
        check("${A B}", Err("not a variable's name"));
    }

    #[test]
    fn an_unset_variable_names_its_key_and_line() {
        let mut tree = parse(&"t.toml".into(), "\n[sinks.a]\ntags = [\"x\", \"${NO}\"]\n").unwrap();
        let problems = apply(&mut tree, &BTreeMap::new());
        let text = problems.first().unwrap().to_string();
        assert!(
            text.starts_with("t.toml:3: sinks.a.tags.1: the environment variable NO is not set"),
            "{text}"
        );
    }
}
