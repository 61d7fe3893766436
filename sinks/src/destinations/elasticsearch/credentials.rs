//! Who is sending: the value of the header `Authorization`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::super::Invalid;
use crate::{Redactor, Secret};

/// The secret half of an API key has 22 characters or more.
const HALF_LEN_MIN: usize = 8;

/// At most one kind; requests that are signed have none.
#[derive(Debug)]
pub(super) enum Credentials {
    None,
    /// `id:key`, or that in base64.
    ApiKey(Secret),
    Basic {
        username: String,
        password: Secret,
    },
    Bearer(Secret),
}

impl Credentials {
    /// The header's value, made anew for each request.
    pub(super) fn header(&self) -> Option<String> {
        match self {
            Self::None => None,
            Self::ApiKey(key) => {
                let key = key.expose();
                let pair = key.contains(':');
                Some(if pair { format!("ApiKey {}", STANDARD.encode(key)) } else { format!("ApiKey {key}") })
            }
            Self::Basic { username, password } => {
                Some(format!("Basic {}", STANDARD.encode(pair(username, password))))
            }
            Self::Bearer(token) => Some(format!("Bearer {}", token.expose())),
        }
    }

    /// What must not be shown, besides what is known already.
    pub(super) fn redactor(&self, known: &Redactor) -> Redactor {
        let mut redactor = known.clone();
        match self {
            Self::None => {}
            Self::ApiKey(key) => {
                redactor.add(key.expose());
                // Half of it is an id and no secret, the other half would do for who has the id.
                let decoded =
                    STANDARD.decode(key.expose()).ok().and_then(|text| String::from_utf8(text).ok());
                let pair = decoded.as_deref().unwrap_or(key.expose());
                let secret = pair.split_once(':').map_or("", |(_, secret)| secret);
                // A short one is no key but somebody's trial, and would take words out of texts.
                redactor.add(if secret.len() < HALF_LEN_MIN { "" } else { secret });
            }
            Self::Bearer(token) => redactor.add(token.expose()),
            Self::Basic { username, password } => {
                redactor.add(password.expose());
                redactor.add(&pair(username, password));
            }
        }
        redactor
    }

    /// Whether a header can carry it.
    pub(super) fn check(&self) -> Result<(), Invalid> {
        if self.header().is_some_and(|value| !value.is_ascii()) {
            return Err(Invalid::new("api_key", "a credential holds characters that no header can carry"));
        }
        Ok(())
    }
}

fn pair(username: &str, password: &Secret) -> String {
    format!("{username}:{}", password.expose())
}
