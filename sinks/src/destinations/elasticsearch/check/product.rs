//! Which server answers, as it says itself.

use std::fmt;

use serde::Deserialize;

use crate::Answer;

/// The answer to `GET /`.
#[derive(Deserialize)]
pub(super) struct Product {
    version: Version,
    #[serde(default)]
    tagline: String,
}

#[derive(Deserialize)]
struct Version {
    number: String,
    #[serde(default)]
    distribution: String,
    #[serde(default)]
    build_flavor: String,
}

impl Product {
    /// `None` where it is no such answer.
    pub(super) fn of(answer: &Answer) -> Option<Self> {
        if answer.status == 200 { serde_json::from_slice(&answer.body).ok() } else { None }
    }

    pub(super) fn is_opensearch(&self) -> bool {
        self.version.distribution == "opensearch" || self.tagline.contains("OpenSearch")
    }

    /// Whether its fields can be of the type that the template needs; otherwise why not.
    ///
    /// OpenSearch has `flat_object` since 2.7, Elasticsearch has `flattened` except in the builds under the Apache
    /// licence, which Amazon's versions up to 7.10 are.
    /// <https://docs.opensearch.org/latest/field-types/supported-field-types/flat-object/>
    pub(super) fn takes_template(&self) -> Result<(), String> {
        let mut parts = self.version.number.split('.').map_while(|part| part.parse::<u32>().ok());
        let number = (parts.next().unwrap_or(u32::MAX), parts.next().unwrap_or(0));
        // OpenSearch that says 7.10 hides its own version for the sake of old clients.
        let old = self.is_opensearch() && number < (2, 7);
        if old || (!self.is_opensearch() && self.version.build_flavor == "oss") {
            return Err(format!(
                "{self} has no field type for objects without a fixed structure: use OpenSearch 2.7 or later, or \
                 Elasticsearch with its default licence"
            ));
        }
        Ok(())
    }
}

impl fmt::Display for Product {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number: String = self.version.number.chars().filter(|c| !c.is_control()).take(30).collect();
        write!(f, "{} {number}", if self.is_opensearch() { "OpenSearch" } else { "Elasticsearch" })
    }
}
