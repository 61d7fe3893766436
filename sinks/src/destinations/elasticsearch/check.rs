//! What `check` asks Elasticsearch and OpenSearch, and the index template that it can install.

use serde::Deserialize;
use serde_json::{Value, json};

use super::super::{Finding, Probe, ProbeStep};
use super::{Elasticsearch, Format, Target};
use crate::{Answer, Head};

const ELASTICSEARCH_TEMPLATE: &str = include_str!("../../../../deploy/elasticsearch/index-template.json");
const OPENSEARCH_TEMPLATE: &str = include_str!("../../../../deploy/opensearch/index-template.json");

/// Positions of the questions.
const VERSION: usize = 0;
const RIGHTS: usize = 1;
const TEMPLATE: usize = 2;

#[derive(Deserialize)]
struct Root {
    version: Version,
}

#[derive(Deserialize)]
struct Version {
    number: String,
    #[serde(default)]
    distribution: String,
}

#[derive(Deserialize)]
struct Rights {
    has_all_requested: bool,
    #[serde(default)]
    index: Value,
}

impl Root {
    fn of(answer: &Answer) -> Option<Self> {
        if answer.status == 200 { serde_json::from_slice(&answer.body).ok() } else { None }
    }

    fn is_opensearch(&self) -> bool {
        self.version.distribution == "opensearch"
    }
}

impl Probe for Elasticsearch {
    fn steps(&self) -> Vec<ProbeStep> {
        let privileges = json!({ "index": [{
            "names": [self.names()],
            "privileges": ["create_doc", "auto_configure"],
        }] });
        let template = format!("/_index_template/{}", self.template_name());
        vec![
            self.step("version", "GET", "/", Vec::new()),
            self.step(
                "rights",
                "POST",
                "/_security/user/_has_privileges",
                privileges.to_string().into_bytes(),
            ),
            self.step("index template", "GET", &template, Vec::new()),
        ]
    }

    fn read(&self, step: usize, answer: &Answer) -> Finding {
        if answer.status == 401 {
            return Finding::failed("credentials refused (HTTP 401): check `api_key` or its like");
        }
        match step {
            VERSION => read_version(answer),
            RIGHTS => self.read_rights(answer),
            TEMPLATE => self.read_template(answer),
            _ => Finding::warning("no such question"),
        }
    }

    fn apply(&self, answers: &[Option<Answer>]) -> Result<Vec<ProbeStep>, String> {
        if self.format == Format::ElasticIntegration {
            return Err("the template of this stream is Elastic's own: install the AWS integration's assets in Kibana".into());
        }
        let Some(root) = answers.first().and_then(Option::as_ref).and_then(Root::of) else {
            return Err(
                "the server does not tell its version to these credentials, so the template's kind is not \
                known: install it by hand from deploy/"
                    .into(),
            );
        };
        let names = self.names();
        if names == "*" {
            return Err(
                "index names begin with a placeholder: install the template by hand from deploy/".into()
            );
        }
        let text = if root.is_opensearch() { OPENSEARCH_TEMPLATE } else { ELASTICSEARCH_TEMPLATE };
        let mut template: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if let Some(template) = template.as_object_mut() {
            template.insert("index_patterns".into(), json!([names]));
            if matches!(self.target, Target::DataStream(_)) {
                template.insert("data_stream".into(), json!({}));
            }
        }
        let path = format!("/_index_template/{}", self.template_name());
        Ok(vec![self.step("install the index template", "PUT", &path, template.to_string().into_bytes())])
    }
}

fn read_version(answer: &Answer) -> Finding {
    match (answer.status, Root::of(answer)) {
        (_, Some(root)) => {
            let product = if root.is_opensearch() { "OpenSearch" } else { "Elasticsearch" };
            let number: String = root.version.number.chars().filter(|c| !c.is_control()).take(30).collect();
            Finding::good(format!("{product} {number} answers"))
        }
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

impl Elasticsearch {
    fn read_rights(&self, answer: &Answer) -> Finding {
        let rights = serde_json::from_slice::<Rights>(&answer.body).ok().filter(|_| answer.status == 200);
        let names = self.names();
        let Some(rights) = rights else {
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

    fn read_template(&self, answer: &Answer) -> Finding {
        let name = self.template_name();
        match answer.status {
            200 => Finding::good(format!("index template {name} is installed")),
            404 => Finding::warning(format!(
                "index template {name} is not installed: run `trailship check --apply`, or install one from deploy/; \
                 without it some events clash with the mapping and are stored in their safe shape only"
            )),
            403 => Finding::warning(
                "these credentials may not see index templates: make sure that one is installed",
            ),
            status => Finding::warning(format!(
                "whether an index template is installed cannot be told (HTTP {status})"
            )),
        }
    }

    /// The pattern that all names of indices match.
    fn names(&self) -> String {
        match &self.target {
            Target::DataStream(name) => name.clone(),
            Target::Index(pattern) if pattern.is_fixed() => pattern.prefix().to_owned(),
            Target::Index(pattern) => format!("{}*", pattern.prefix()),
        }
    }

    fn template_name(&self) -> String {
        if self.format == Format::ElasticIntegration {
            return "logs-aws.cloudtrail".into();
        }
        format!("trailship-{}", self.names().trim_end_matches(['*', '-', '_', '.']))
    }

    fn step(&self, what: &str, method: &'static str, path: &str, body: Vec<u8>) -> ProbeStep {
        let base = self.endpoints.first().map_or("", |endpoint| &endpoint.base);
        let head = Head { method, url: format!("{base}{path}"), headers: self.headers("application/json") };
        ProbeStep { what: what.into(), head, body }
    }
}
