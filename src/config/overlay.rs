//! Overlays: environment variables that replace single values, `TRAILSHIP__SINKS__SEARCH__BATCH__MAX_EVENTS=2000`.

use std::collections::BTreeMap;

use super::problem::{Location, Problem};
use super::tree::{Node, Value, parse_value};

/// What the name of an overlay begins with.
const PREFIX: &str = "TRAILSHIP__";

/// Puts every overlay among `variables` over the tree, in the order of their names.
pub(super) fn apply(tree: &mut Node, variables: &BTreeMap<String, String>) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (name, value) in variables {
        let Some(path) = name.strip_prefix(PREFIX) else { continue };
        let at = Location { source: name.as_str().into(), line: None };
        let segments: Vec<&str> = path.split("__").collect();
        if let Err(message) = put(tree, &segments, parse_value(value, &at)) {
            let key = segments.join(".").to_lowercase();
            problems.push(Problem { at: Some(at), key, message });
        }
    }
    problems
}

fn put(node: &mut Node, path: &[&str], leaf: Node) -> Result<(), String> {
    let Some((segment, rest)) = path.split_first() else {
        *node = leaf;
        return Ok(());
    };
    if segment.is_empty() {
        return Err("an empty name between two \"__\"".to_owned());
    }
    match &mut node.value {
        Value::Table(table) => {
            let key = table.keys().find(|key| same(key, segment)).cloned();
            let key = key.unwrap_or_else(|| segment.to_lowercase());
            let at = leaf.at.clone();
            let inner = table.entry(key).or_insert_with(|| Node::new(Value::Table(BTreeMap::new()), at));
            put(inner, rest, leaf)
        }
        Value::Array(items) => {
            let count = items.len();
            let item = segment.parse::<usize>().ok().and_then(|index| items.get_mut(index));
            let item =
                item.ok_or_else(|| format!("\"{segment}\" is not the index of one of the {count} items"))?;
            put(item, rest, leaf)
        }
        other => Err(format!("what stands at \"{segment}\" is inside {}, which has no keys", other.kind())),
    }
}

/// Whether a variable's segment names a key: case does not count, and a variable's name cannot hold a hyphen.
fn same(key: &str, segment: &str) -> bool {
    key.len() == segment.len()
        && key
            .bytes()
            .zip(segment.bytes())
            .all(|(key, segment)| key.eq_ignore_ascii_case(&segment) || (key == b'-' && segment == b'_'))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::tree::parse;
    use super::*;

    fn overlaid(document: &str, variables: &[(&str, &str)]) -> (Node, Vec<Problem>) {
        let mut tree = parse(&"t.toml".into(), document).unwrap();
        let variables = variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let problems = apply(&mut tree, &variables);
        (tree, problems)
    }

    #[test]
    fn an_overlay_replaces_a_value_and_says_where_it_came_from() {
        let name = "TRAILSHIP__SINKS__SEARCH__BATCH__MAX_EVENTS";
        let (tree, problems) =
            overlaid("[sinks.Search]\nbatch = { max_events = 1, max_age = \"1s\" }", &[(name, "2000")]);
        assert_eq!(problems, []);
        let batch = tree.nearest(&["sinks", "Search", "batch"]);
        let leaf = batch.get("max_events").unwrap();
        assert!(matches!(leaf.value, Value::Integer(2000)));
        assert_eq!(leaf.at.as_ref().unwrap().to_string(), name);
        assert_eq!(batch.get("max_age").unwrap().as_str(), Some("1s"));
    }

    #[test]
    fn an_overlay_makes_the_tables_that_it_needs() {
        let (tree, problems) =
            overlaid("", &[("TRAILSHIP__AGENT__LISTEN", "0.0.0.0:7464"), ("TRAILSHIP_CONFIG", "x")]);
        assert_eq!(problems, []);
        assert_eq!(tree.nearest(&["agent", "listen"]).as_str(), Some("0.0.0.0:7464"));
        assert_eq!(tree.as_table().unwrap().len(), 1);
    }

    #[test]
    fn hyphens_in_names_and_items_of_arrays_can_be_reached() {
        let (tree, problems) = overlaid(
            "[sources.my-trail]\nbuckets = [{ name = \"a\" }]",
            &[("TRAILSHIP__SOURCES__MY_TRAIL__BUCKETS__0__NAME", "b")],
        );
        assert_eq!(problems, []);
        assert_eq!(tree.nearest(&["sources", "my-trail", "buckets", "0", "name"]).as_str(), Some("b"));
    }

    #[test]
    fn an_overlay_that_fits_nowhere_is_an_error_that_names_the_variable() {
        let (_, problems) = overlaid(
            "a = 1\nb = [1]",
            &[("TRAILSHIP__A__X", "1"), ("TRAILSHIP__B__1", "1"), ("TRAILSHIP____C", "1")],
        );
        let texts: Vec<_> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(texts.len(), 3, "{texts:?}");
        assert!(texts.iter().any(|text| text.starts_with("TRAILSHIP__A__X: a.x: ")), "{texts:?}");
    }
}
