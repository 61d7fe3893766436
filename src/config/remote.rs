//! Secrets that AWS keeps: how the configuration names them, and what was read.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::Deserialize;

use super::model::DEFAULT_IDENTITY;

/// A secret that AWS keeps.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RemoteSecret {
    pub place: SecretPlace,
    /// A name in [`Config::aws`](super::Config::aws).
    pub aws: String,
}

/// The service that keeps a secret, and what it calls it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SecretPlace {
    /// A secret of Secrets Manager: its ARN or name, and the member of its JSON text that is meant; without one, all
    /// of its text.
    SecretsManager { id: String, key: Option<String> },
    /// A parameter of Systems Manager: its name or ARN.
    Ssm { name: String },
}

impl SecretPlace {
    /// The region that an ARN names.
    pub fn region(&self) -> Option<&str> {
        let (Self::SecretsManager { id, .. } | Self::Ssm { name: id }) = self;
        id.strip_prefix("arn:")?.split(':').nth(2).filter(|region| !region.is_empty())
    }
}

impl fmt::Display for RemoteSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            SecretPlace::SecretsManager { id, key: None } => write!(f, "the secret {id}"),
            SecretPlace::SecretsManager { id, key: Some(key) } => {
                write!(f, "the member {key} of the secret {id}")
            }
            SecretPlace::Ssm { name } => write!(f, "the parameter {name}"),
        }
    }
}

/// The table as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRemote {
    secrets_manager: Option<String>,
    key: Option<String>,
    ssm: Option<String>,
    aws: Option<String>,
}

impl RawRemote {
    /// The keys that make a table one of these.
    pub(super) const MARKS: [&str; 2] = ["secrets_manager", "ssm"];

    /// What it names.
    ///
    /// # Errors
    /// What is wrong, with the remedy.
    pub(super) fn check(self) -> Result<RemoteSecret, &'static str> {
        let filled = |text: &Option<String>| text.as_ref().is_none_or(|text| !text.trim().is_empty());
        if ![&self.secrets_manager, &self.key, &self.ssm].into_iter().all(filled) {
            return Err("empty: name the secret, its member, or the parameter");
        }
        let place = match (self.secrets_manager, self.ssm, self.key) {
            (Some(id), None, key) => SecretPlace::SecretsManager { id, key },
            (None, Some(name), None) => SecretPlace::Ssm { name },
            (None, Some(_), Some(_)) => return Err("a parameter has no `key`: take it away"),
            _ => return Err("one of `secrets_manager` and `ssm`: take the other away"),
        };
        Ok(RemoteSecret { place, aws: self.aws.unwrap_or_else(|| DEFAULT_IDENTITY.to_owned()) })
    }
}

/// What AWS keeps, as far as it was read.
#[derive(Clone, Default)]
pub struct SecretTexts(Arc<BTreeMap<RemoteSecret, String>>);

impl SecretTexts {
    /// The texts of these secrets.
    pub fn new(texts: BTreeMap<RemoteSecret, String>) -> Self {
        Self(Arc::new(texts))
    }

    pub(super) fn get(&self, secret: &RemoteSecret) -> Option<&str> {
        self.0.get(secret).map(String::as_str)
    }
}

impl fmt::Debug for SecretTexts {
    /// Without the texts.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretTexts({})", self.0.len())
    }
}

/// Where a secret that may change without the configuration is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    File,
    Remote(RemoteSecret),
}

/// A secret that does not stand in the document itself.
#[derive(Clone, Debug)]
pub(super) struct FoundSecret {
    /// Its key.
    pub(super) path: String,
    pub(super) source: SecretSource,
    /// Whether its text is known.
    pub(super) is_read: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_region_of_a_secret_is_that_of_its_arn() {
        let region = |id: &str| {
            let place = SecretPlace::SecretsManager { id: id.to_owned(), key: None };
            place.region().map(str::to_owned)
        };
        let arn = "arn:aws:secretsmanager:eu-central-1:111122223333:secret:trailship-AbCdEf";
        assert_eq!(region(arn).as_deref(), Some("eu-central-1"));
        for other in ["trailship", "arn:aws:secretsmanager::1:secret:x", "team/arn:a:b:c"] {
            assert_eq!(region(other), None, "{other}");
        }
    }
}
