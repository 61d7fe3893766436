//! The token that requests carry, and where it leads; asked for anew before it expires, or when it is refused.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::destinations::{SinkPorts, by_status, garbled};
use crate::ports::{Clock, Transport};
use crate::{Answer, Head, Judgement, Reason, ReasonCode, Redactor};

/// A token is not used in its last seconds.
const TOKEN_SPARE_S: u64 = 600;

/// A token and what belongs to it.
#[derive(Clone)]
pub(super) struct Session {
    pub(super) token: String,
    pub(super) account: String,
    /// The ingest service's origin.
    pub(super) ingest: String,
    /// Seconds since 1970.
    expires: u64,
    /// Takes the token out of texts too.
    pub(super) redactor: Redactor,
}

/// Makes sessions, and keeps the last.
pub(super) struct Sessions {
    base: String,
    basic: String,
    residency: String,
    transport: Arc<dyn Transport>,
    clock: Arc<dyn Clock>,
    redactor: Redactor,
    current: tokio::sync::Mutex<Option<Session>>,
}

#[derive(Deserialize)]
struct Authenticated {
    authentication: Authentication,
}

#[derive(Deserialize)]
struct Authentication {
    token: String,
    /// Seconds since 1970.
    token_expiration: u64,
    account: Account,
}

#[derive(Deserialize)]
struct Account {
    id: String,
}

#[derive(Deserialize)]
struct Located {
    ingest: String,
}

impl Sessions {
    pub(super) fn new(base: String, basic: String, residency: String, ports: &SinkPorts) -> Self {
        Self {
            base,
            basic,
            residency,
            transport: Arc::clone(&ports.transport),
            clock: Arc::clone(&ports.clock),
            redactor: ports.redactor.clone(),
            current: tokio::sync::Mutex::default(),
        }
    }

    /// The session to use now; a new one if the last is about to expire, or is the one that was `refused`.
    ///
    /// # Errors
    /// The judgement of the events that wait for it: no event is ever to blame.
    pub(super) async fn get(&self, refused: Option<&Session>) -> Result<Session, Judgement> {
        let mut current = self.current.lock().await;
        let now = self.clock.now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let is_good = |session: &&Session| {
            session.expires > now + TOKEN_SPARE_S
                && refused.is_none_or(|refused| refused.token != session.token)
        };
        if let Some(session) = current.as_ref().filter(is_good) {
            return Ok(session.clone());
        }
        *current = None;
        let session = self.open().await?;
        Ok(current.insert(session).clone())
    }

    async fn open(&self) -> Result<Session, Judgement> {
        let head = Head {
            method: "POST",
            url: format!("{}/aims/v1/authenticate", self.base),
            headers: vec![("authorization", format!("Basic {}", self.basic))],
        };
        let remedy = "no token is given: check `access_key_id` and `secret_key`";
        let Authenticated { authentication } = self.ask(head, &self.redactor, remedy).await?;
        let mut redactor = self.redactor.clone();
        redactor.add(&authentication.token);
        let account = authentication.account.id;
        let head = Head {
            method: "GET",
            url: format!(
                "{}/endpoints/v1/{account}/residency/{}/services/ingest/endpoint",
                self.base, self.residency
            ),
            headers: vec![("x-aims-auth-token", authentication.token.clone())],
        };
        let Located { ingest } =
            self.ask(head, &redactor, "no ingest service is named: check `residency`").await?;
        Ok(Session {
            ingest: self.origin(&ingest)?,
            account,
            token: authentication.token,
            expires: authentication.token_expiration,
            redactor,
        })
    }

    /// The service is named by its host; it is reached as securely as the one that named it.
    fn origin(&self, host: &str) -> Result<String, Judgement> {
        let is_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':');
        if host.is_empty() || !host.chars().all(is_host) {
            let why = Reason::new(ReasonCode::Garbled, "the ingest service's address is no host");
            return Err(Judgement::Unavailable { why, retry_after: None });
        }
        let scheme = if self.base.starts_with("http://") { "http" } else { "https" };
        Ok(format!("{scheme}://{host}"))
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        head: Head,
        redactor: &Redactor,
        remedy: &str,
    ) -> Result<T, Judgement> {
        let answer = self.transport.exchange(head, Bytes::new()).await.map_err(|why| {
            let why = Reason { text: redactor.clean(&why.text), ..why };
            Judgement::Unavailable { why, retry_after: None }
        })?;
        if answer.status == 200 {
            return serde_json::from_slice(&answer.body)
                .map_err(|_| garbled(&answer, "an answer of Alert Logic's that is not understood"));
        }
        Err(blameless(&answer, redactor, remedy))
    }
}

/// What is said of an answer that no event has a part in.
fn blameless(answer: &Answer, redactor: &Redactor, remedy: &str) -> Judgement {
    let text = answer.excerpt(redactor);
    match by_status(answer, &text, remedy) {
        Judgement::Refused(why) | Judgement::TooLarge(why) => {
            let denied = Reason::new(ReasonCode::Misconfigured, format!("{remedy}: {}", why.text));
            Judgement::Denied(Reason { status: why.status, ..denied })
        }
        judgement => judgement,
    }
}
