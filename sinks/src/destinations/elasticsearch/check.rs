//! What `check` asks Elasticsearch and OpenSearch, and the index template that it can install.

use serde_json::{Value, json};

use super::super::{Finding, Probe, ProbeStep};
use super::{Elasticsearch, Format, Service, Target};
use crate::{Answer, Head};

mod product;
mod read;

use product::Product;

const ELASTICSEARCH_TEMPLATE: &str = include_str!("../../../../deploy/elasticsearch/index-template.json");
const OPENSEARCH_TEMPLATE: &str = include_str!("../../../../deploy/opensearch/index-template.json");

/// One question; none needs more than the right to read about oneself, and none stores an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Question {
    /// What answers at the endpoint with this number.
    Version(usize),
    /// Elasticsearch only: what the credentials may do.
    Rights,
    Template,
    /// Whether indices of these names are blocked.
    Blocks,
    DataStream,
    Pipeline,
}

impl Probe for Elasticsearch {
    fn steps(&self) -> Vec<ProbeStep> {
        self.questions().into_iter().map(|question| self.ask(question)).collect()
    }

    fn read(&self, step: usize, answer: &Answer) -> Finding {
        if answer.status == 401 {
            return Finding::failed("credentials refused (HTTP 401): check `api_key` or its like");
        }
        if let (403, Some(service)) = (answer.status, self.service) {
            let policy = match service {
                Service::Es => {
                    "the domain's access policy, or its fine-grained access control, has to allow es:ESHttpPost to \
                     this identity (es:ESHttpGet for this question, es:ESHttpPut for --apply)"
                }
                Service::Aoss => {
                    "the collection's data access policy has to allow aoss:CreateIndex and aoss:WriteDocument to \
                     this identity (aoss:DescribeIndex for this question), and its network policy has to let this \
                     machine in"
                }
            };
            let said = answer.excerpt(&self.redactor);
            return Finding::warning(format!("refused (HTTP 403): {policy}: {said}"));
        }
        match self.questions().get(step) {
            Some(Question::Version(_)) => read::version(answer),
            Some(Question::Rights) => read::rights(answer, &self.names()),
            Some(Question::Template) => self.read_template(answer),
            Some(Question::Blocks) => self.read_blocks(answer),
            Some(Question::DataStream) => read::data_stream(answer, &self.names()),
            Some(Question::Pipeline) => read::pipeline(answer, self.pipeline.as_deref().unwrap_or_default()),
            None => Finding::warning("no such question"),
        }
    }

    fn apply(&self, answers: &[Option<Answer>]) -> Result<Vec<ProbeStep>, String> {
        if self.format == Format::ElasticIntegration {
            let text = "the template of this stream is Elastic's own: install the AWS integration's assets in Kibana";
            return Err(text.into());
        }
        let (endpoint, text) = self.template_for(answers)?;
        let names = self.names();
        if names == "*" {
            let text = "index names begin with a placeholder: install the template by hand from deploy/";
            return Err(text.into());
        }
        let mut template: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if let Some(template) = template.as_object_mut() {
            template.insert("index_patterns".into(), json!([names]));
            if self.is_serverless() {
                // How documents are stored there is the service's affair.
                template
                    .get_mut("template")
                    .and_then(Value::as_object_mut)
                    .map(|inner| inner.remove("settings"));
            }
            if matches!(self.target, Target::DataStream(_)) {
                template.insert("data_stream".into(), json!({}));
            }
        }
        let path = format!("/_index_template/{}", self.template_name());
        let body = template.to_string().into_bytes();
        Ok(vec![self.step("install the index template", endpoint, "PUT", &path, body)])
    }
}

impl Elasticsearch {
    /// OpenSearch Serverless, which tells no version.
    /// <https://docs.aws.amazon.com/opensearch-service/latest/developerguide/serverless-genref.html>
    fn is_serverless(&self) -> bool {
        self.service == Some(Service::Aoss)
    }

    fn questions(&self) -> Vec<Question> {
        let mut questions = Vec::new();
        if !self.is_serverless() {
            questions.extend((0..self.endpoints.all().len()).map(Question::Version));
        }
        if self.service.is_none() {
            questions.push(Question::Rights);
        }
        questions.push(Question::Template);
        match &self.target {
            Target::DataStream(_) => questions.push(Question::DataStream),
            Target::Index(_) if self.names() == "*" => {}
            Target::Index(_) => questions.push(Question::Blocks),
        }
        if self.pipeline.is_some() {
            questions.push(Question::Pipeline);
        }
        questions
    }

    fn ask(&self, question: Question) -> ProbeStep {
        let names = self.names();
        let get = |what: &str, path: String| self.step(what, 0, "GET", &path, Vec::new());
        match question {
            Question::Version(number) => {
                let origin = self.endpoints.all().get(number).map(|endpoint| endpoint.origin.as_str());
                let what = match origin {
                    Some(origin) if self.endpoints.all().len() > 1 => format!("version of {origin}"),
                    _ => "version".into(),
                };
                self.step(&what, number, "GET", "/", Vec::new())
            }
            Question::Rights => {
                let privileges = json!({ "index": [{
                    "names": [names],
                    "privileges": ["create_doc", "auto_configure"],
                }] });
                let body = privileges.to_string().into_bytes();
                self.step("rights", 0, "POST", "/_security/user/_has_privileges", body)
            }
            Question::Template => get("index template", format!("/_index_template/{}", self.template_name())),
            Question::Blocks => get("index", format!("/{names}/_settings/index.blocks*")),
            Question::DataStream => get("data stream", format!("/_data_stream/{names}")),
            Question::Pipeline => {
                let name = self.pipeline.as_deref().unwrap_or_default();
                get("pipeline", format!("/_ingest/pipeline/{name}"))
            }
        }
    }

    /// The template that fits the server, and the number of an endpoint that answers.
    fn template_for(&self, answers: &[Option<Answer>]) -> Result<(usize, &'static str), String> {
        if self.is_serverless() {
            return Ok((0, OPENSEARCH_TEMPLATE));
        }
        let told = self.questions().into_iter().zip(answers).find_map(|(question, answer)| {
            let Question::Version(number) = question else { return None };
            Some((number, Product::of(answer.as_ref()?)?))
        });
        let Some((number, product)) = told else {
            return Err(
                "the server does not tell its version to these credentials, so the template's kind is not \
                known: install it by hand from deploy/"
                    .into(),
            );
        };
        product.takes_template()?;
        Ok((number, if product.is_opensearch() { OPENSEARCH_TEMPLATE } else { ELASTICSEARCH_TEMPLATE }))
    }

    fn read_template(&self, answer: &Answer) -> Finding {
        let native = self.format == Format::Native;
        let streams = matches!(self.target, Target::DataStream(_));
        read::template(answer, &self.template_name(), &read::Wanted { names: &self.names(), streams, native })
    }

    fn read_blocks(&self, answer: &Answer) -> Finding {
        let fixed = matches!(&self.target, Target::Index(pattern) if pattern.is_fixed());
        read::blocks(answer, &self.names(), fixed)
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
        match self.names().trim_end_matches(['*', '-', '_', '.']) {
            "" => "trailship-cloudtrail".into(),
            name => format!("trailship-{name}"),
        }
    }

    fn step(
        &self,
        what: &str,
        endpoint: usize,
        method: &'static str,
        path: &str,
        body: Vec<u8>,
    ) -> ProbeStep {
        let base = self.endpoints.all().get(endpoint).map_or("", |endpoint| &endpoint.base);
        let head = Head { method, url: format!("{base}{path}"), headers: self.headers("application/json") };
        ProbeStep { what: what.into(), head, body }
    }
}
