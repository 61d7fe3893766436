//! Reads the secrets that AWS keeps: at the start, and again when a destination does not accept them any more.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sinks::ports::{Clock, Random};

use crate::aws::{Aws, CallError, JsonClient, JsonService};
use crate::config::{RemoteSecret, SecretPlace, SecretTexts};

/// Reads secrets as the identities of the configuration.
#[derive(Clone)]
pub struct SecretReader {
    /// By name.
    pub identities: Arc<BTreeMap<String, Arc<Aws>>>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Jitter.
    pub random: Arc<dyn Random>,
}

/// A secret that could not be read, and why, with the remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotRead {
    /// Which.
    pub secret: RemoteSecret,
    /// A sentence for a person.
    pub why: String,
}

impl SecretReader {
    /// Reads all of `secrets`, each place once.
    pub async fn read(&self, secrets: &[RemoteSecret]) -> (SecretTexts, Vec<NotRead>) {
        let mut whole: HashMap<RemoteSecret, Result<String, String>> = HashMap::new();
        let (mut texts, mut failed) = (BTreeMap::new(), Vec::new());
        for secret in secrets {
            let place = without_key(secret);
            if !whole.contains_key(&place) {
                let text = self.read_whole(&place).await;
                whole.insert(place.clone(), text);
            }
            let text = match whole.get(&place) {
                Some(Ok(text)) => member(text, secret),
                Some(Err(why)) => Err(why.clone()),
                None => continue,
            };
            match text {
                Ok(text) => drop(texts.insert(secret.clone(), text)),
                Err(why) => failed.push(NotRead { secret: secret.clone(), why }),
            }
        }
        (SecretTexts::new(texts), failed)
    }

    async fn read_whole(&self, secret: &RemoteSecret) -> Result<String, String> {
        let aws = self
            .identities
            .get(&secret.aws)
            .ok_or_else(|| format!("there is no identity [aws.{}]", secret.aws))?;
        let client =
            |service| JsonClient::new(aws, service, secret.place.region(), &self.clock, &self.random);
        match &secret.place {
            SecretPlace::SecretsManager { id, .. } => {
                // https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_GetSecretValue.html
                let client = client(JsonService::SecretsManager)?;
                let answer = client.call("GetSecretValue", &json!({ "SecretId": id })).await;
                secret_text(&answer.map_err(|error| remedy(&error, "secretsmanager:GetSecretValue"))?)
            }
            SecretPlace::Ssm { name } => {
                // https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_GetParameter.html
                let client = client(JsonService::Ssm)?;
                let answer =
                    client.call("GetParameter", &json!({ "Name": name, "WithDecryption": true })).await;
                let answer = answer.map_err(|error| remedy(&error, "ssm:GetParameter"))?;
                let value = answer["Parameter"]["Value"].as_str();
                value.map(str::to_owned).ok_or_else(|| "the answer has no value".to_owned())
            }
        }
    }
}

fn without_key(secret: &RemoteSecret) -> RemoteSecret {
    let place = match &secret.place {
        SecretPlace::SecretsManager { id, .. } => SecretPlace::SecretsManager { id: id.clone(), key: None },
        other => other.clone(),
    };
    RemoteSecret { place, aws: secret.aws.clone() }
}

/// The text of a secret; one that was stored as bytes may be text all the same.
fn secret_text(answer: &Value) -> Result<String, String> {
    if let Some(text) = answer["SecretString"].as_str() {
        return Ok(text.to_owned());
    }
    let bytes = answer["SecretBinary"].as_str().and_then(|text| STANDARD.decode(text).ok());
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    text.ok_or_else(|| "its value is no text: store it as text".to_owned())
}

/// The part of a secret's text that is meant.
fn member(text: &str, secret: &RemoteSecret) -> Result<String, String> {
    let SecretPlace::SecretsManager { key: Some(key), .. } = &secret.place else {
        return Ok(text.trim_end_matches(['\r', '\n']).to_owned());
    };
    let Ok(Value::Object(members)) = serde_json::from_str(text) else {
        return Err("its value is no JSON object: take `key` away".to_owned());
    };
    match members.get(key) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(_) => Err(format!("its member \"{key}\" is no string")),
        None => Err(format!("it has no member \"{key}\": see `key`")),
    }
}

/// What went wrong, with what helps.
fn remedy(error: &CallError, permission: &str) -> String {
    let help = match error.code.as_str() {
        "AccessDeniedException" => {
            format!("allow {permission} on it (and kms:Decrypt, if its key is your own)")
        }
        "ResourceNotFoundException" | "ParameterNotFound" => "see its name, and the region".to_owned(),
        "DecryptionFailure" | "InvalidKeyId" => "allow kms:Decrypt on its key".to_owned(),
        "InvalidRequestException" => "is it being deleted?".to_owned(),
        "" => "is the service reached from here? (see `endpoints` and `proxy` of [aws])".to_owned(),
        _ => "see the credentials, and the region".to_owned(),
    };
    format!("{}: {help}", error.message.trim_end_matches(['.', ':', ' ']))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn secret(key: Option<&str>) -> RemoteSecret {
        let place = SecretPlace::SecretsManager { id: "s".to_owned(), key: key.map(str::to_owned) };
        RemoteSecret { place, aws: "default".to_owned() }
    }

    #[test]
    fn a_secret_is_all_of_its_text_or_a_member_of_it() {
        let text = r#"{"token":"t-1","port":8088}"#;
        assert_eq!(member(text, &secret(None)).unwrap(), text);
        assert_eq!(member("plain\n", &secret(None)).unwrap(), "plain");
        assert_eq!(member(text, &secret(Some("token"))).unwrap(), "t-1");
        for (key, text, error) in [
            ("port", text, "its member \"port\" is no string"),
            ("user", text, "it has no member \"user\": see `key`"),
            ("token", "plain", "its value is no JSON object: take `key` away"),
        ] {
            assert_eq!(member(text, &secret(Some(key))).unwrap_err(), error);
        }
    }

    #[test]
    fn bytes_that_are_text_are_taken_for_it() {
        assert_eq!(secret_text(&json!({ "SecretBinary": "aGk=" })).unwrap(), "hi");
        assert!(secret_text(&json!({ "SecretBinary": "/w==" })).is_err());
        assert!(secret_text(&json!({})).is_err());
    }
}
