//! The indices with their documents, and what becomes of one action.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::{Value, json};

use super::answers::{Wrong, matches};
use super::bulk::Action;
use super::mapping::{Check, Learned, Mapping};
use super::templates::Templates;
use super::{ElasticsearchOptions, Flavour};
use crate::destinations::desk::{Desk, Turn};
use crate::destinations::mode::Failure;
use crate::ledger::{Additions, ContentHash, Entry, Sighting};
use crate::random::Rng;

/// What the agent may add to a document.
const ADDITIONS: Additions = Additions { keys: &["@timestamp"], wrappers: &["event_original", "message"] };

/// How many sources an index keeps for those who want to look.
const SOURCES_MAX: usize = 1000;

/// Everything that is stored.
#[derive(Default)]
pub(super) struct Indices {
    pub(super) templates: Templates,
    pub(super) all: BTreeMap<String, Index>,
    pub(super) closed: BTreeSet<String>,
    sequence: u64,
}

/// One index, or one data stream with its backing indices.
#[derive(Default)]
pub(super) struct Index {
    pub(super) data_stream: bool,
    failure_store: bool,
    mapping: Mapping,
    learned: Learned,
    generation: u32,
    /// Documents of the index that is written to; a rollover begins a new one.
    documents: HashMap<String, Document>,
    /// Documents of all of them.
    pub(super) count: u64,
    pub(super) sources: Vec<(String, Value)>,
}

struct Document {
    entry: Entry,
    hash: ContentHash,
    version: u64,
}

impl Index {
    /// Begins a new backing index: its ids are unknown to the one before.
    pub(super) fn roll_over(&mut self) {
        self.generation += 1;
        self.documents.clear();
    }

    fn backing_name(&self, name: &str) -> String {
        match self.data_stream {
            true => format!(".ds-{name}-2026.01.01-{:06}", self.generation + 1),
            false => name.to_owned(),
        }
    }
}

/// What happens to all items of one request.
pub(super) struct Context<'a> {
    pub(super) options: &'a ElasticsearchOptions,
    pub(super) desk: &'a Desk,
    pub(super) turn: &'a Turn,
    pub(super) request: u64,
}

/// What became of one action.
pub(super) struct Done {
    pub(super) index: String,
    pub(super) id: Option<String>,
    pub(super) result: Result<Value, Wrong>,
}

impl Indices {
    /// Judges and stores one action; `number` is its place in the request.
    pub(super) fn apply(&mut self, action: &Action<'_>, number: u64, context: &Context<'_>) -> Done {
        let mut done = Done { index: action.index.clone(), id: action.id.clone(), result: Ok(Value::Null) };
        done.result = before_writing(action, number, context)
            .and_then(|()| self.open(action, context.options))
            .and_then(|()| self.write(action, context, &mut done.index, &mut done.id));
        done
    }

    /// Creates an index or a data stream as its template says.
    pub(super) fn create(&mut self, name: &str, flavour: Flavour) -> &mut Index {
        let applied = self.templates.for_name(name);
        self.all.entry(name.to_owned()).or_insert_with(|| match applied {
            Some(applied) => Index {
                data_stream: applied.data_stream,
                failure_store: applied.failure_store,
                mapping: applied.mapping,
                ..Index::default()
            },
            None => Index { mapping: Mapping::built_in(flavour), ..Index::default() },
        })
    }

    /// Finds the index of an action, or creates it where that is allowed.
    fn open(&mut self, action: &Action<'_>, options: &ElasticsearchOptions) -> Result<(), Wrong> {
        let name = action.index.as_str();
        if self.closed.contains(name) {
            return Err(Wrong::new(400, "index_closed_exception", "closed"));
        }
        let data_stream = match self.all.get(name) {
            Some(index) => index.data_stream,
            None => self.templates.for_name(name).is_some_and(|applied| applied.data_stream),
        };
        if action.require_data_stream && !data_stream {
            let reason = format!(
                "no such index [{name}] and the index creation request requires a data stream, but no matching index template with data stream template was found for it"
            );
            return Err(Wrong::new(404, "index_not_found_exception", reason));
        }
        if data_stream && !action.create {
            let reason = "only write ops with an op_type of create are allowed in data streams";
            return Err(Wrong::new(400, "illegal_argument_exception", reason));
        }
        if self.all.contains_key(name) {
            return Ok(());
        }
        if let Some(wrong) = illegal_name(name) {
            return Err(wrong);
        }
        if !options.auto_create {
            return Err(Wrong::new(404, "index_not_found_exception", format!("no such index [{name}]")));
        }
        self.create(name, options.flavour);
        Ok(())
    }

    fn write(
        &mut self,
        action: &Action<'_>,
        context: &Context<'_>,
        index_name: &mut String,
        id: &mut Option<String>,
    ) -> Result<Value, Wrong> {
        self.sequence += 1;
        let sequence = self.sequence;
        let Some(index) = self.all.get_mut(&action.index) else {
            return Err(Wrong::new(
                404,
                "index_not_found_exception",
                format!("no such index [{index_name}]"),
            ));
        };
        *index_name = index.backing_name(&action.index);
        if action.id.as_deref() == Some("") {
            let reason = "if _id is specified it must not be empty";
            return Err(Wrong::new(400, "illegal_argument_exception", reason));
        }
        let id = id.get_or_insert_with(|| format!("auto-{sequence:015}")).clone();
        let seen = ADDITIONS.read(action.source);
        let source = match judge_document(index, action, context, &id, &seen) {
            Ok(source) => source,
            Err(_) if index.failure_store => {
                context.desk.store(context.request, &seen);
                *index_name = format!(".fs-{}-2026.01.01-000001", action.index);
                return Ok(
                    json!({ "_version": 1, "result": "created", "failure_store": "used", "status": 201 }),
                );
            }
            Err(wrong) => {
                context.desk.count(|counts| counts.refused += 1);
                return Err(wrong);
            }
        };
        // The mapping is asked before the id: a document that it refuses is refused even where it is stored already.
        index.put(action, context, id, &seen, source)
    }
}

impl Index {
    fn put(
        &mut self,
        action: &Action<'_>,
        context: &Context<'_>,
        id: String,
        seen: &Sighting,
        source: Value,
    ) -> Result<Value, Wrong> {
        let known = self.documents.get(&id);
        if let (true, Some(known)) = (action.create, known) {
            context.desk.conflict(context.request, seen);
            let reason = format!(
                "[{id}]: version conflict, document already exists (current version [{}])",
                known.version
            );
            return Err(Wrong::new(409, "version_conflict_engine_exception", reason));
        }
        let version = known.map_or(1, |known| known.version + 1);
        let entry = match known {
            Some(known) if known.hash == seen.hash => known.entry,
            Some(known) => {
                context.desk.retract(known.entry);
                context.desk.store(context.request, seen)
            }
            None => context.desk.store(context.request, seen),
        };
        if version == 1 {
            self.count += 1;
            if self.sources.len() < SOURCES_MAX {
                self.sources.push((id.clone(), source));
            }
        } else if let Some((_, kept)) = self.sources.iter_mut().find(|(kept, _)| *kept == id) {
            *kept = source;
        }
        self.documents.insert(id, Document { entry, hash: seen.hash, version });
        let (result, status) = if version == 1 { ("created", 201) } else { ("updated", 200) };
        Ok(json!({
            "_version": version, "result": result, "status": status, "_seq_no": self.count, "_primary_term": 1,
            "_shards": { "total": 2, "successful": 1, "failed": 0 },
        }))
    }
}

/// What is decided before the document is looked at.
fn before_writing(action: &Action<'_>, number: u64, context: &Context<'_>) -> Result<(), Wrong> {
    let Context { options, turn, .. } = context;
    let index = &action.index;
    if !options.allowed_indices.is_empty() && !options.allowed_indices.iter().any(|p| matches(p, index)) {
        let reason =
            format!("action [indices:data/write/bulk[s]] is unauthorized for this user on indices [{index}]");
        return Err(Wrong::new(403, "security_exception", reason));
    }
    match turn.failure {
        Failure::ReadOnly(429) => {
            let reason = format!(
                "index [{index}] blocked by: [TOO_MANY_REQUESTS/12/disk usage exceeded flood-stage watermark, index has read-only-allow-delete block];"
            );
            return Err(Wrong::new(429, "cluster_block_exception", reason));
        }
        Failure::ReadOnly(status) => {
            let reason = format!("index [{index}] blocked by: [FORBIDDEN/8/index write (api)];");
            return Err(Wrong::new(status, "cluster_block_exception", reason));
        }
        Failure::ItemsThrottled(share) if Rng::stream(turn.random, number).chance(share) => {
            let reason = "rejected execution of primary operation [coordinating_and_primary_bytes=1, max_coordinating_and_primary_bytes=1]";
            return Err(Wrong::new(429, "es_rejected_execution_exception", reason));
        }
        _ => {}
    }
    if action.id.is_some() && !options.takes_ids {
        let reason = "Document ID is not supported in create/index operation request";
        return Err(Wrong::new(400, "illegal_argument_exception", reason));
    }
    match &action.pipeline {
        Some(pipeline) if pipeline != "_none" && !options.pipelines.contains(pipeline) => {
            let reason = format!("pipeline with id [{pipeline}] does not exist");
            Err(Wrong::new(400, "illegal_argument_exception", reason))
        }
        _ => Ok(()),
    }
}

fn judge_document(
    index: &mut Index,
    action: &Action<'_>,
    context: &Context<'_>,
    id: &str,
    seen: &Sighting,
) -> Result<Value, Wrong> {
    let check = Check { flavour: context.options.flavour, id, mapping: &index.mapping };
    let document = check.parse(action.source)?;
    if index.data_stream {
        match document.get("@timestamp") {
            None | Some(Value::Null) => {
                return Err(check
                    .wrong("failed to parse")
                    .with_cause("data stream timestamp field [@timestamp] is missing"));
            }
            Some(Value::Array(values)) if values.len() > 1 => {
                let cause = "data stream timestamp field [@timestamp] encountered multiple values";
                return Err(check.wrong("failed to parse").with_cause(cause));
            }
            Some(_) => {}
        }
    }
    if context.turn.refuses(action.source, seen) {
        return Err(check.wrong(&format!(
            "failed to parse field [refused] of type [date] in document with id '{id}'. Preview of field's value: 'x'"
        )));
    }
    check.take(&document, &mut index.learned)?;
    Ok(Value::Object(document))
}

/// <https://www.elastic.co/docs/api/doc/elasticsearch/operation/operation-indices-create>
fn illegal_name(name: &str) -> Option<Wrong> {
    let fault = if name.chars().any(char::is_uppercase) {
        "must be lowercase"
    } else if name.starts_with(['-', '_', '+']) {
        "must not start with '_', '-', or '+'"
    } else if name == "." || name == ".." {
        "must not be '.' or '..'"
    } else if name.contains(['\\', '/', '*', '?', '"', '<', '>', '|', ' ', ',', '#', ':']) {
        "must not contain the following characters ['\\','/','*','?','\"','<','>','|',' ',',','#',':']"
    } else if name.len() > 255 {
        "index name is too long"
    } else {
        return None;
    };
    Some(Wrong::new(400, "invalid_index_name_exception", format!("Invalid index name [{name}], {fault}")))
}
