//! A destination's own settings: what is left of a sink's table once the common keys are taken out.

use sinks::Redactor;
use sinks::destinations::{self, BuildError, Built, CommonSettings};

use super::de::Reader;
use super::model::{SinkConfig, SinkKind};
use super::problem::{ConfigError, Problem};
use super::remote::{SecretSource, SecretTexts};
use super::tree::Node;
use super::url;

/// The keys of one destination, with their places; kept as written, since only the destination can read them.
#[derive(Clone)]
pub struct Settings {
    table: Node,
    path: String,
    /// The common keys, which help to say what an unknown key was meant to be.
    beside: Vec<&'static str>,
    /// What AWS keeps, as far as it was read.
    texts: SecretTexts,
}

impl std::fmt::Debug for Settings {
    /// Without the values: there are secrets among them.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Settings {
    /// Settings that stand at `path`.
    pub(super) fn new(table: Node, path: String, beside: Vec<&'static str>, texts: SecretTexts) -> Self {
        Self { table, path, beside, texts }
    }

    /// Builds the destination; problems go to the reader.
    pub(super) fn build(&self, reader: &Reader, type_name: &str, common: &CommonSettings) -> Option<Built> {
        let deserializer = reader.deserializer(&self.table, &self.path, &self.beside);
        match destinations::build(type_name, deserializer, common) {
            Ok(built) => Some(built),
            Err(BuildError::Settings(error)) => {
                reader.failed(error);
                None
            }
            Err(BuildError::Invalid(invalid)) => {
                let keys: Vec<&str> = invalid.key.split('.').collect();
                let path = format!("{}.{}", self.path, invalid.key);
                if reader.found().iter().any(|secret| !secret.is_read && is_at(&secret.path, &path)) {
                    // Nothing can be said of it before it is read; then everything is checked again.
                    return None;
                }
                reader.problem(self.table.nearest(&keys), &path, &invalid.message);
                None
            }
            Err(error @ BuildError::UnknownType) => {
                reader.problem(&self.table, &format!("{}.type", self.path), &error.to_string());
                None
            }
        }
    }
}

/// Whether the key `path` is the secret's, or stands in it, or holds it.
fn is_at(secret: &str, path: &str) -> bool {
    let within = |inner: &str, outer: &str| {
        inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    within(secret, path) || within(path, secret)
}

impl SinkConfig {
    /// Builds the destination; `None` for a sink that writes here.
    ///
    /// `instance` tells this process from others (see [`CommonSettings`]).
    ///
    /// # Errors
    /// If a secret's file cannot be read any more, or what AWS keeps was not read: everything else was checked when
    /// the configuration was.
    pub fn build(&self, instance: u64) -> Result<Option<Built>, ConfigError> {
        let SinkKind::Destination(_, settings) = &self.kind else { return Ok(None) };
        self.build_with(instance, settings.texts.clone())
    }

    /// The same with what AWS keeps by now.
    ///
    /// # Errors
    /// As [`build`](Self::build); and if what AWS keeps by now cannot be used.
    pub fn build_with(&self, instance: u64, texts: SecretTexts) -> Result<Option<Built>, ConfigError> {
        let SinkKind::Destination(_, settings) = &self.kind else { return Ok(None) };
        let reader = Reader::with_texts(texts);
        let built = settings.build(&reader, &self.type_name, &self.common(instance));
        if let Some(secret) = reader.found().into_iter().find(|secret| !secret.is_read) {
            let SecretSource::Remote(remote) = &secret.source else { return Ok(None) };
            let message = format!("{remote} was not read");
            return Err(ConfigError { problems: vec![Problem { at: None, key: secret.path, message }] });
        }
        let problems = reader.into_problems();
        if problems.is_empty() { Ok(built) } else { Err(ConfigError { problems }) }
    }

    /// What the destination has to know of the common settings.
    pub fn common(&self, instance: u64) -> CommonSettings {
        CommonSettings {
            name: self.name.clone(),
            additions: self.additions,
            labels: self.labels.clone(),
            required: self.required,
            instance,
            redactor: self.proxy_passwords(),
        }
    }

    /// What must not be shown of the proxies that it may be reached through.
    fn proxy_passwords(&self) -> Redactor {
        let mut redactor = Redactor::new();
        url::passwords_of_environment().iter().for_each(|secret| redactor.add(secret));
        if let SinkKind::Destination(network, _) = &self.kind {
            let own = network.proxy.iter().flat_map(|proxy| url::passwords(proxy.expose()));
            own.for_each(|secret| redactor.add(&secret));
        }
        redactor
    }
}
