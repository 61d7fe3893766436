//! Index templates: what applies to a name.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::answers::matches;
use super::mapping::Mapping;

/// Installed index templates.
#[derive(Debug, Default)]
pub(super) struct Templates {
    pub(super) index: BTreeMap<String, Value>,
    pub(super) component: BTreeMap<String, Value>,
}

/// What a template says about one name.
pub(super) struct Applied {
    pub(super) mapping: Mapping,
    pub(super) data_stream: bool,
    pub(super) failure_store: bool,
}

impl Templates {
    /// The template with the highest priority among those whose patterns match.
    pub(super) fn for_name(&self, name: &str) -> Option<Applied> {
        let patterns = |template: &&Value| match &template["index_patterns"] {
            Value::String(pattern) => matches(pattern, name),
            Value::Array(all) => all.iter().filter_map(Value::as_str).any(|pattern| matches(pattern, name)),
            _ => false,
        };
        let template = self
            .index
            .values()
            .filter(patterns)
            .max_by_key(|template| template["priority"].as_u64().unwrap_or(0))?;
        let mut mappings = json!({});
        for name in template["composed_of"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if let Some(component) = self.component.get(name) {
                merge(&mut mappings, &component["template"]["mappings"]);
            }
        }
        merge(&mut mappings, &template["template"]["mappings"]);
        let failure_store = template.pointer("/template/data_stream_options/failure_store/enabled")
            == Some(&Value::Bool(true));
        Some(Applied {
            mapping: Mapping::from_json(&mappings),
            data_stream: template.get("data_stream").is_some(),
            failure_store,
        })
    }
}

fn merge(to: &mut Value, from: &Value) {
    match (to, from) {
        (Value::Object(to), Value::Object(from)) => {
            for (key, value) in from {
                merge(to.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (_, Value::Null) => {}
        (to, from) => to.clone_from(from),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::mapping::Dynamic;
    use super::*;

    #[test]
    fn the_matching_template_with_the_highest_priority_applies_with_its_components() {
        let mut templates = Templates::default();
        templates.component.insert(
            "c".into(),
            json!({"template": {"mappings": {"dynamic": false, "properties": {"a": {"type": "ip"}, "b": {"type": "ip"}}}}}),
        );
        templates
            .index
            .insert("low".into(), json!({"index_patterns": ["cloud*"], "priority": 1, "data_stream": {}}));
        templates.index.insert(
            "high".into(),
            json!({"index_patterns": ["x", "cloudtrail-*"], "priority": 2, "composed_of": ["c"],
                   "template": {"mappings": {"properties": {"b": {"type": "keyword"}}}}}),
        );
        let applied = templates.for_name("cloudtrail-1").unwrap();
        assert!(!applied.data_stream);
        assert_eq!(applied.mapping.dynamic, Dynamic::Ignored);
        assert_eq!(applied.mapping.properties["a"]["type"], "ip");
        assert_eq!(applied.mapping.properties["b"]["type"], "keyword");
        assert!(templates.for_name("cloudy").unwrap().data_stream);
        assert!(templates.for_name("other").is_none());
    }
}
