//! What the answers to the questions say, as sentences with the remedy.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::super::super::Finding;
use super::product::Product;
use crate::Answer;

pub(super) fn version(answer: &Answer) -> Finding {
    match (answer.status, Product::of(answer)) {
        (_, Some(product)) => match product.takes_template() {
            Ok(()) => Finding::good(format!("{product} answers")),
            Err(why) => Finding::warning(why),
        },
        (403, _) => {
            Finding::good("it answers; these credentials may not see its version, which is not needed")
        }
        (404 | 405, _) => {
            Finding::warning("it answers, but does not tell a version: check `endpoints` for a missing path")
        }
        (status, _) => Finding::failed(format!(
            "no Elasticsearch or OpenSearch answers here (HTTP {status}): check `endpoints`"
        )),
    }
}

#[derive(Deserialize)]
struct Rights {
    has_all_requested: bool,
    #[serde(default)]
    index: Value,
}

pub(super) fn rights(answer: &Answer, names: &str) -> Finding {
    let Some(rights) = parsed::<Rights>(answer) else {
        return Finding::warning(
            "rights cannot be asked for here (OpenSearch, or security is off): the first batch will tell",
        );
    };
    if rights.has_all_requested {
        return Finding::good(format!("may create documents and indices named {names}"));
    }
    if rights.index.pointer(&format!("/{names}/create_doc")) == Some(&Value::Bool(true)) {
        return Finding::warning(format!(
            "may create documents, but no indices, named {names}: grant auto_configure, or create them before"
        ));
    }
    Finding::failed(format!("may not create documents in {names}: grant create_doc and auto_configure"))
}

/// What the template has to do.
pub(super) struct Wanted<'a> {
    /// Names of indices, or the data stream's.
    pub(super) names: &'a str,
    /// Whether it is to make data streams.
    pub(super) streams: bool,
    /// Whether records stand in the documents as they are, rather than as text for a pipeline.
    pub(super) native: bool,
}

#[derive(Deserialize)]
struct Templates {
    index_templates: Vec<Named>,
}

#[derive(Deserialize)]
struct Named {
    index_template: Template,
}

#[derive(Deserialize)]
struct Template {
    index_patterns: Vec<String>,
    data_stream: Option<Value>,
    #[serde(default)]
    composed_of: Vec<String>,
    #[serde(default)]
    template: Value,
}

pub(super) fn template(answer: &Answer, name: &str, wanted: &Wanted<'_>) -> Finding {
    match answer.status {
        200 => match parsed::<Templates>(answer).and_then(|found| found.index_templates.into_iter().next()) {
            Some(found) => judge_template(&found.index_template, name, wanted),
            None => Finding::warning(format!("the answer about index template {name} is not understood")),
        },
        404 if wanted.native => Finding::warning(format!(
            "index template {name} is not installed: run `trailship check --apply`, or install one from deploy/; \
             without it some events clash with the mapping and are stored in their safe shape only"
        )),
        404 => Finding::warning(format!(
            "index template {name} is not installed: install the assets of Elastic's AWS integration in Kibana, \
             otherwise its pipeline, dashboards and rules do not work"
        )),
        403 => {
            Finding::warning("these credentials may not see index templates: make sure that one is installed")
        }
        status => {
            Finding::warning(format!("whether an index template is installed cannot be told (HTTP {status})"))
        }
    }
}

fn judge_template(found: &Template, name: &str, wanted: &Wanted<'_>) -> Finding {
    let Wanted { names, streams, native } = *wanted;
    if !found.index_patterns.iter().any(|pattern| matches(pattern, names)) {
        return Finding::warning(format!(
            "index template {name} is not for {names}: run `trailship check --apply`, or correct its index_patterns"
        ));
    }
    match (streams, found.data_stream.is_some()) {
        (true, false) => {
            return Finding::failed(format!(
                "index template {name} makes no data streams: run `trailship check --apply`, or add data_stream"
            ));
        }
        (false, true) => {
            return Finding::warning(format!(
                "index template {name} makes data streams, and `index` is set: set `data_stream`, or take \
                 data_stream out of the template"
            ));
        }
        _ => {}
    }
    let kind = found.template.pointer("/mappings/properties/requestParameters/type").and_then(Value::as_str);
    let flat = matches!(kind, Some("flattened" | "flat_object"));
    if native && !flat && found.composed_of.is_empty() {
        return Finding::warning(format!(
            "index template {name} does not map requestParameters as flattened (OpenSearch: flat_object): run \
             `trailship check --apply`; otherwise some events clash with it and are stored in their safe shape only"
        ));
    }
    Finding::good(format!("index template {name} is installed"))
}

/// The blocks that keep documents out.
const BLOCKS: [&str; 3] = ["write", "read_only", "read_only_allow_delete"];

pub(super) fn blocks(answer: &Answer, names: &str, fixed: bool) -> Finding {
    match answer.status {
        200 => match parsed::<BTreeMap<String, Value>>(answer) {
            Some(indices) => judge_blocks(&indices, names, fixed),
            None => Finding::warning(format!("the answer about the settings of {names} is not understood")),
        },
        404 => Finding::good(format!("{names} is not there yet: the first event creates it")),
        403 => Finding::warning(format!(
            "these credentials may not see the settings of {names} (view_index_metadata): whether it takes writes \
             the first batch will tell"
        )),
        status => Finding::warning(format!(
            "whether {names} takes writes cannot be told beforehand (HTTP {status})"
        )),
    }
}

fn judge_blocks(indices: &BTreeMap<String, Value>, names: &str, fixed: bool) -> Finding {
    let blocked = indices.iter().find_map(|(index, settings)| {
        let blocks = settings.pointer("/settings/index/blocks")?;
        let is_set = |block: &&&str| match blocks.get(**block) {
            Some(Value::Bool(set)) => *set,
            Some(Value::String(text)) => text == "true",
            _ => false,
        };
        BLOCKS.iter().find(is_set).map(|block| (index, block))
    });
    match blocked {
        None => Finding::good(format!("{names}: no index is blocked")),
        Some((index, block)) => {
            let text = format!(
                "index {index} takes no writes (index.blocks.{block}): lift the block, after freeing disk where \
                 the server has set it"
            );
            if fixed { Finding::failed(text) } else { Finding::warning(text) }
        }
    }
}

pub(super) fn data_stream(answer: &Answer, name: &str) -> Finding {
    match answer.status {
        200 => Finding::good(format!("data stream {name} is there")),
        404 => Finding::warning(format!(
            "data stream {name} is not there yet: the first event creates it, if an index template with data_stream \
             is for it"
        )),
        403 => Finding::warning(format!(
            "these credentials may not see data stream {name} (view_index_metadata): make sure that it or its \
             template is there"
        )),
        status => {
            Finding::warning(format!("whether data stream {name} is there cannot be told (HTTP {status})"))
        }
    }
}

pub(super) fn pipeline(answer: &Answer, name: &str) -> Finding {
    match answer.status {
        200 => Finding::good(format!("pipeline {name} is there")),
        404 => Finding::failed(format!(
            "pipeline {name} is not there: create it, or correct or remove `pipeline`"
        )),
        403 => Finding::warning(format!(
            "these credentials may not see pipelines (read_pipeline): make sure that {name} is there"
        )),
        status => {
            Finding::warning(format!("whether pipeline {name} is there cannot be told (HTTP {status})"))
        }
    }
}

fn parsed<'a, T: Deserialize<'a>>(answer: &'a Answer) -> Option<T> {
    if answer.status == 200 { serde_json::from_slice(&answer.body).ok() } else { None }
}

/// Whether all names that `names` stands for match `pattern`; both may hold `*`.
fn matches(pattern: &str, names: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == names,
        Some((start, rest)) => names.strip_prefix(start).is_some_and(|names| {
            rest.is_empty()
                || names.char_indices().map(|(at, _)| at).chain([names.len()]).any(|at| {
                    // What `names` leaves open can only be covered by what `pattern` leaves open.
                    names.get(at..).is_some_and(|left| matches(rest, left))
                })
        }),
    }
}
