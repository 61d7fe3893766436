//! What the stand-in answers besides `_bulk`: its version, templates, rights, and a look at what is stored.

use http::{Method, StatusCode};
use serde_json::{Map, Value, json};

use super::answers::{Wrong, matches, whole};
use super::{Cluster, Failure, Flavour};
use crate::http::{Request, Response, percent_decode};

impl Cluster {
    /// Everything but `_bulk`.
    pub(super) fn other(&self, request: &Request) -> Response {
        if let Err(wrong) = self.authenticate(request) {
            return wrong.response();
        }
        // Clients compress these bodies too.
        let Ok(body) = request.decoded_body(self.options.max_content_length) else { return whole(400) };
        let request = &Request { body, ..request.clone() };
        let path = percent_decode(request.path.trim_matches('/'));
        let parts: Vec<&str> = path.split('/').collect();
        let cluster_call = path.is_empty()
            || ["_cluster", "_data_stream", "_ingest"].contains(&parts[0])
            || parts[0].ends_with("_template")
            || parts.get(1) == Some(&"_settings");
        if self.options.write_only && cluster_call {
            let reason = "action [cluster:monitor/main] is unauthorized for this API key, this action is granted by the cluster privileges [monitor,manage,all]";
            return Wrong::new(403, "security_exception", reason).response();
        }
        let beyond_serverless =
            path.is_empty() || ["_cluster", "_data_stream", "_ingest", "_security"].contains(&parts[0]);
        if self.options.serverless && beyond_serverless {
            return Response::json(StatusCode::NOT_FOUND, &json!({ "message": "not found" }));
        }
        match (&request.method, parts.as_slice()) {
            (&Method::GET | &Method::HEAD, [""]) => self.version(),
            (&Method::GET, ["_cluster", "health"]) => ok(json!({ "status": "green", "timed_out": false })),
            (&Method::GET, ["_security", "_authenticate"]) => {
                ok(json!({ "username": "trailship", "enabled": true }))
            }
            // OpenSearch has no such question.
            (_, ["_security", "user", "_has_privileges"])
                if self.options.flavour == Flavour::Elasticsearch =>
            {
                self.has_privileges(request)
            }
            (_, [kind @ ("_index_template" | "_component_template"), name]) => {
                self.template(request, kind, name)
            }
            (_, ["_data_stream", name]) => self.data_stream(request, name),
            (&Method::GET, [index, "_settings", "index.blocks*"]) => self.blocks(index),
            (&Method::GET, ["_ingest", "pipeline", name]) => {
                match self.options.pipelines.iter().any(|known| known == name) {
                    true => ok(json!({ *name: { "processors": [] } })),
                    false => Response::json(StatusCode::NOT_FOUND, &json!({})),
                }
            }
            (&Method::POST, ["_refresh"] | [_, "_refresh"]) => ok(json!({ "_shards": { "failed": 0 } })),
            (&Method::GET, ["_cat", "indices"]) => self.listing(),
            (_, [index]) if !index.starts_with('_') => self.index(request, index),
            (&Method::GET | &Method::POST, [index, "_count"]) => self.count(index),
            (&Method::GET | &Method::POST, [index, "_search"]) => self.search(request, index),
            (&Method::GET | &Method::HEAD, [index, "_doc", id]) => self.get(index, id),
            _ => {
                let reason = format!("no handler found for uri [/{path}] and method [{}]", request.method);
                Response::json(StatusCode::BAD_REQUEST, &json!({ "error": reason }))
            }
        }
    }

    fn version(&self) -> Response {
        let version = match self.options.flavour {
            Flavour::Elasticsearch => json!({ "number": "8.19.2", "build_flavor": "default" }),
            Flavour::OpenSearch => json!({ "number": "2.19.3", "distribution": "opensearch" }),
        };
        ok(json!({ "name": "stand-in", "cluster_name": "testkit", "version": version }))
    }

    fn has_privileges(&self, request: &Request) -> Response {
        let asked: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let allowed = |name: &str| {
            let patterns = &self.options.allowed_indices;
            patterns.is_empty() || patterns.iter().any(|pattern| matches(pattern, name))
        };
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let mut all = !self.options.write_only || list(&asked["cluster"]).is_empty();
        let mut index = Map::new();
        for entry in list(&asked["index"]) {
            for name in list(&entry["names"]).iter().filter_map(Value::as_str) {
                all &= allowed(name);
                let rights = list(&entry["privileges"]).into_iter();
                let rights =
                    rights.filter_map(|right| Some((right.as_str()?.to_owned(), allowed(name).into())));
                index.insert(name.to_owned(), Value::Object(rights.collect()));
            }
        }
        ok(json!({ "username": "trailship", "has_all_requested": all, "index": index }))
    }

    fn template(&self, request: &Request, kind: &str, name: &str) -> Response {
        let mut indices = self.lock();
        let templates = &mut indices.templates;
        let (all, list) = match kind {
            "_index_template" => (&mut templates.index, "index_templates"),
            _ => (&mut templates.component, "component_templates"),
        };
        match request.method {
            Method::PUT | Method::POST => match serde_json::from_slice::<Value>(&request.body) {
                Ok(template) if template.is_object() => {
                    all.insert(name.to_owned(), template);
                    ok(json!({ "acknowledged": true }))
                }
                _ => Wrong::new(400, "parse_exception", "the template is not a JSON object").response(),
            },
            _ => match all.get(name) {
                Some(template) => {
                    let key = list.trim_end_matches('s');
                    ok(json!({ list: [{ "name": name, key: template }] }))
                }
                None => {
                    let reason = format!("index template matching [{name}] not found");
                    Wrong::new(404, "resource_not_found_exception", reason).response()
                }
            },
        }
    }

    fn data_stream(&self, request: &Request, name: &str) -> Response {
        let mut indices = self.lock();
        if request.method == Method::PUT {
            if indices.templates.for_name(name).is_none_or(|applied| !applied.data_stream) {
                let reason = format!("no matching index template found for data stream [{name}]");
                return Wrong::new(400, "illegal_argument_exception", reason).response();
            }
            indices.create(name, self.options.flavour);
            return ok(json!({ "acknowledged": true }));
        }
        match indices.all.get(name).filter(|index| index.data_stream) {
            Some(_) => ok(json!({ "data_streams": [{ "name": name }] })),
            None => not_found(name),
        }
    }

    fn index(&self, request: &Request, name: &str) -> Response {
        let mut indices = self.lock();
        match (&request.method, indices.all.contains_key(name)) {
            (&Method::PUT, true) => {
                let reason = format!("index [{name}] already exists");
                Wrong::new(400, "resource_already_exists_exception", reason).response()
            }
            (&Method::PUT, false) => {
                indices.create(name, self.options.flavour);
                ok(json!({ "acknowledged": true, "index": name }))
            }
            (_, true) => ok(json!({ name: {} })),
            (_, false) => not_found(name),
        }
    }

    /// The settings that keep documents out, of those indices that have any.
    fn blocks(&self, pattern: &str) -> Response {
        let indices = self.lock();
        let found: Vec<&String> = indices.all.keys().filter(|name| matches(pattern, name)).collect();
        if found.is_empty() && !pattern.contains('*') {
            return not_found(pattern);
        }
        let block = match self.desk.mode().failure {
            Failure::ReadOnly(429) => "read_only_allow_delete",
            Failure::ReadOnly(_) => "write",
            _ => return ok(json!({})),
        };
        let blocked = json!({ "settings": { "index": { "blocks": { block: "true" } } } });
        ok(found.into_iter().map(|name| (name.clone(), blocked.clone())).collect::<Map<_, _>>().into())
    }

    fn listing(&self) -> Response {
        let rows = self
            .lock()
            .all
            .iter()
            .map(|(name, index)| format!("{name} {}\n", index.count))
            .collect::<String>();
        Response::text(StatusCode::OK, "text/plain", rows)
    }

    fn count(&self, pattern: &str) -> Response {
        let indices = self.lock();
        let found = indices.all.iter().filter(|(name, _)| matches(pattern, name));
        ok(json!({ "count": found.map(|(_, index)| index.count).sum::<u64>() }))
    }

    /// The first documents, whatever was asked for.
    fn search(&self, request: &Request, pattern: &str) -> Response {
        let size = request.query_value("size").and_then(|size| size.parse().ok()).unwrap_or(10);
        let indices = self.lock();
        let found = || indices.all.iter().filter(|(name, _)| matches(pattern, name));
        let hits: Vec<Value> = found()
            .flat_map(|(name, index)| index.sources.iter().map(move |(id, source)| (name, id, source)))
            .take(size)
            .map(|(name, id, source)| json!({ "_index": name, "_id": id, "_source": source }))
            .collect();
        let total: u64 = found().map(|(_, index)| index.count).sum();
        ok(
            json!({ "timed_out": false, "hits": { "total": { "value": total, "relation": "eq" }, "hits": hits } }),
        )
    }

    fn get(&self, index: &str, id: &str) -> Response {
        let indices = self.lock();
        let sources = indices.all.get(index).map(|index| index.sources.as_slice()).unwrap_or_default();
        match sources.iter().find(|(known, _)| known == id) {
            Some((_, source)) => ok(json!({ "_index": index, "_id": id, "found": true, "_source": source })),
            None => {
                Response::json(StatusCode::NOT_FOUND, &json!({ "_index": index, "_id": id, "found": false }))
            }
        }
    }
}

fn ok(value: Value) -> Response {
    Response::json(StatusCode::OK, &value)
}

fn not_found(index: &str) -> Response {
    Wrong::new(404, "index_not_found_exception", format!("no such index [{index}]")).response()
}
