//! The settings of this destination, and what of them cannot work.

use serde::Deserialize;

use super::super::{Endpoint, Invalid, Signing};
use super::credentials::Credentials;
use super::index::IndexPattern;
use super::sign::{self, Service};
use super::{DocumentId, Format, Target, cloud_id};
use crate::Secret;

/// Streams that only take what Elastic's own integration expects.
const INTEGRATION_STREAMS: &str = "logs-aws.cloudtrail-";

/// Settings of its own.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Addresses; the one that answered last is used, the next after a failure.
    #[serde(default)]
    endpoints: Vec<String>,
    /// An id of Elastic Cloud, instead of an address.
    cloud_id: Option<String>,
    /// Pattern of index names: `%Y %m %d` of the event's date, `{account} {region} {category}`.
    /// Default `cloudtrail-%Y.%m.%d`, unless there is a data stream.
    index: Option<String>,
    /// A data stream instead.
    data_stream: Option<String>,
    /// How an event is written.
    #[serde(default)]
    pub(super) format: Format,
    /// What becomes the document's `_id`.
    #[serde(default)]
    pub(super) document_id: DocumentId,
    /// `id:key`, or that in base64 as Kibana shows it.
    api_key: Option<Secret>,
    /// With `password`: basic authentication.
    username: Option<String>,
    password: Option<Secret>,
    /// A bearer token instead.
    bearer_token: Option<Secret>,
    /// Signs requests for AWS instead.
    pub(super) sign: Option<Service>,
    /// The region that they are signed for. Default: what the address says, else the identity's.
    region: Option<String>,
    /// The identity that signs, a table below `aws`. Default: `default`.
    pub(super) aws: Option<String>,
    /// An ingest pipeline.
    pipeline: Option<String>,
}

impl Settings {
    pub(super) fn endpoints(&self) -> Result<Vec<Endpoint>, Invalid> {
        match &self.cloud_id {
            Some(_) if !self.endpoints.is_empty() => {
                Err(Invalid::new("cloud_id", "take away `endpoints`, or this: they say the same"))
            }
            Some(cloud_id) => Ok(vec![cloud_id::endpoint(cloud_id)?]),
            None if self.endpoints.is_empty() => {
                Err(Invalid::new("endpoints", "name at least one address, such as https://host.example:9200"))
            }
            None => Endpoint::parse_all("endpoints", &self.endpoints),
        }
    }

    pub(super) fn target(&self) -> Result<Target, Invalid> {
        match (&self.index, &self.data_stream) {
            (Some(_), Some(_)) => {
                Err(Invalid::new("data_stream", "take away `index`: it is one or the other"))
            }
            (None, Some(name)) => {
                let pattern = IndexPattern::parse(name).map_err(|text| Invalid::new("data_stream", text))?;
                if !pattern.is_fixed() {
                    return Err(Invalid::new("data_stream", "its name is fixed: take away % and {}"));
                }
                if name.starts_with(INTEGRATION_STREAMS) && self.format != Format::ElasticIntegration {
                    return Err(Invalid::new(
                        "format",
                        "this data stream needs format = \"elastic_integration\"",
                    ));
                }
                Ok(Target::DataStream(name.clone()))
            }
            (index, None) => {
                if self.format == Format::ElasticIntegration {
                    let message = "elastic_integration needs data_stream = \"logs-aws.cloudtrail-default\"";
                    return Err(Invalid::new("format", message));
                }
                let pattern = index.as_deref().unwrap_or("cloudtrail-%Y.%m.%d");
                let pattern = IndexPattern::parse(pattern).map_err(|text| Invalid::new("index", text))?;
                Ok(Target::Index(pattern))
            }
        }
    }

    pub(super) fn pipeline(&self) -> Result<Option<&str>, Invalid> {
        match self.pipeline.as_deref() {
            Some(name) if name.is_empty() || !name.chars().all(is_name) => {
                Err(Invalid::new("pipeline", "use letters, digits, `-`, `_` and `.`"))
            }
            name => Ok(name),
        }
    }

    pub(super) fn credentials(&self) -> Result<Credentials, Invalid> {
        let credentials = match (&self.api_key, &self.username, &self.password, &self.bearer_token) {
            (None, None, None, None) => Credentials::None,
            (Some(key), None, None, None) => Credentials::ApiKey(key.clone()),
            (None, Some(username), Some(password), None) => {
                Credentials::Basic { username: username.clone(), password: password.clone() }
            }
            (None, Some(_), None, None) => {
                return Err(Invalid::new("password", "missing: `username` needs it"));
            }
            (None, None, Some(_), None) => {
                return Err(Invalid::new("username", "missing: `password` needs it"));
            }
            (None, None, None, Some(token)) => Credentials::Bearer(token.clone()),
            _ => {
                let message = "keep one of `api_key`, `username` with `password`, and `bearer_token`";
                return Err(Invalid::new("api_key", message));
            }
        };
        credentials.check()?;
        Ok(credentials)
    }

    /// How requests are signed, if they are; then much is not to be had.
    pub(super) fn signing(&self, endpoints: &[Endpoint]) -> Result<Option<Signing>, Invalid> {
        let Some(service) = self.sign else {
            let unused = [("region", &self.region), ("aws", &self.aws)];
            return match unused.iter().find(|(_, value)| value.is_some()) {
                Some((key, _)) => Err(Invalid::new(key, "only for `sign`: set that, or take this away")),
                None => Ok(None),
            };
        };
        let beside = [
            ("api_key", self.api_key.is_some()),
            ("username", self.username.is_some() || self.password.is_some()),
            ("bearer_token", self.bearer_token.is_some()),
        ];
        if let Some((key, _)) = beside.iter().find(|(_, is_set)| *is_set) {
            return Err(Invalid::new(key, "take it away: the signature of `sign` says who is sending"));
        }
        if self.cloud_id.is_some() {
            return Err(Invalid::new("sign", "Elastic Cloud takes no such signatures: take it away"));
        }
        if self.format == Format::ElasticIntegration {
            return Err(Invalid::new(
                "format",
                "Elastic's integration does not run on Amazon OpenSearch Service",
            ));
        }
        if service == Service::Aoss && self.pipeline.is_some() {
            return Err(Invalid::new(
                "pipeline",
                "OpenSearch Serverless has no ingest pipelines: take it away",
            ));
        }
        sign::signing(service, self.region.as_deref(), endpoints).map(Some)
    }
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')
}
