//! Loggly's bulk endpoint: a line an event, all or nothing, and the token in the address.
//!
//! <https://documentation.solarwinds.com/en/success_center/loggly/content/admin/http-bulk-endpoint.htm>

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::failover::{Failover, numbered, one_or_several};
use super::{
    Additions, Built, CommonSettings, Defaults, Destination, Endpoint, Finding, Invalid, Probe, ProbeStep,
    Reach, by_status, garbled,
};
use crate::{
    Answer, Attempt, Body, Compression, Event, Head, HttpSink, Judgement, Redactor, Secret, Shape, Verdict,
    encode,
};

/// Loggly takes events of "up to 1MB", and cuts longer ones without a word: a decimal megabyte is safe.
const EVENT_BYTES_MAX: usize = 1_000_000;

/// Settings of its own.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The address without a path.
    #[serde(default = "endpoint")]
    endpoint: String,
    /// The customer token, which becomes part of the address.
    token: Option<Secret>,
    /// Several in its place: the first is used, the next where it is refused or does not answer.
    #[serde(default)]
    tokens: Vec<Secret>,
    /// Tags of every event: letters, digits, `-`, `.` and `_`. Default `["cloudtrail"]`.
    #[serde(default = "tags")]
    tags: Vec<String>,
}

fn endpoint() -> String {
    "https://logs-01.loggly.com".into()
}

fn tags() -> Vec<String> {
    vec!["cloudtrail".into()]
}

impl Destination for Settings {
    const DEFAULTS: Defaults = Defaults {
        // 5 MB are documented, and exactly 5 MB have been answered 413.
        batch_bytes: 4_000_000,
        batch_bytes_limit: 4_900_000,
        batch_events: 5000,
        batch_age: Duration::from_secs(1),
        concurrency_max: 4,
        // Compression is not documented.
        compression: Compression::None,
        idle_connection_max: None,
        reach: Reach::Http,
    };

    fn build(self, common: &CommonSettings) -> Result<Built, Invalid> {
        let endpoint = Endpoint::parse("endpoint", &self.endpoint)?;
        let tokens = one_or_several("token", self.token, self.tokens)?;
        for (key, token) in &tokens {
            if !token.expose().chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
                return Err(Invalid::new(
                    key,
                    "a customer token has letters, digits and `-` only: copy it again",
                ));
            }
        }
        let is_tag = |tag: &String| {
            tag.starts_with(|c: char| c.is_ascii_alphanumeric())
                && tag.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'))
        };
        if self.tags.is_empty() || !self.tags.iter().all(is_tag) {
            let message =
                "name at least one tag of letters, digits, `-`, `.` and `_`, starting with a letter or digit";
            return Err(Invalid::new("tags", message));
        }
        let mut redactor = common.redactor.clone();
        let mut urls = Vec::new();
        for (_, token) in &tokens {
            let token = token.expose();
            redactor.add(token);
            urls.push(format!("{}/bulk/{token}/tag/{}/", endpoint.base, self.tags.join(",")));
        }
        let sink = Arc::new(Loggly {
            common: common.clone(),
            failover: Failover::new(urls.len()),
            urls,
            redactor: redactor.clone(),
        });
        Ok(Built::http(sink, vec![endpoint.origin], Self::DEFAULTS, redactor))
    }
}

struct Loggly {
    common: CommonSettings,
    /// One for each token, which it holds.
    urls: Vec<String>,
    failover: Failover,
    redactor: Redactor,
}

const TIMESTAMP_LEN: usize = r#","timestamp":"2023-07-10T11:42:01.000Z""#.len();

impl HttpSink for Loggly {
    fn encoded_len(&self, event: &Event) -> usize {
        let timestamp = if self.common.additions == Additions::Full { TIMESTAMP_LEN } else { 0 };
        event.bytes().len() + timestamp + self.common.trailship_len(event) + 1
    }

    fn event_bytes_max(&self) -> Option<usize> {
        Some(EVENT_BYTES_MAX)
    }

    fn body<'a>(&self, events: &'a [Event], _: Shape, body: &mut Body<'a>) {
        let mut members = Vec::new();
        for event in events {
            members.clear();
            // Without it Loggly takes the time of receipt for the event's.
            if self.common.additions == Additions::Full
                && let Some(time) = event.time()
            {
                encode::write_member(&mut members, "timestamp", &time.to_rfc3339_millis());
            }
            let shared = self.common.trailship(&mut members, event);
            encode::splice(body, event, &members, shared);
            body.owned(b"\n");
        }
    }

    fn head(&self, attempt: &Attempt) -> Head {
        self.request(self.failover.choose(attempt, 0))
    }

    fn judge(&self, events: &[Event], attempt: &Attempt, answer: &Answer) -> Judgement {
        let judgement = match answer.status {
            200 if is_ok(answer) => Judgement::all(events.len(), &Verdict::Delivered),
            200 => garbled(answer, "the answer is not Loggly's"),
            // A bad token has been answered 400 as well. Where it is that, no event is accepted, and the sink is denied.
            _ => {
                let text = answer.excerpt(&self.redactor);
                by_status(answer, &text, "check `token` and `endpoint`")
            }
        };
        self.failover.judged(attempt, 0, judgement)
    }
}

impl Loggly {
    /// A request with the token at this position.
    fn request(&self, token: usize) -> Head {
        Head {
            method: "POST",
            url: self.urls.get(token).cloned().unwrap_or_default(),
            headers: vec![("content-type", "text/plain; charset=utf-8".into())],
        }
    }
}

fn is_ok(answer: &Answer) -> bool {
    #[derive(Deserialize)]
    struct Told {
        response: String,
    }
    serde_json::from_slice::<Told>(&answer.body).is_ok_and(|told| told.response == "ok")
}

impl Probe for Loggly {
    fn steps(&self) -> Vec<ProbeStep> {
        // Nothing in it, so nothing is stored.
        let ask = |token| ProbeStep {
            what: numbered("token", token, self.urls.len()),
            head: self.request(token),
            body: Vec::new(),
        };
        (0..self.urls.len()).map(ask).collect()
    }

    fn read(&self, _: usize, answer: &Answer) -> Finding {
        match answer.status {
            200 if is_ok(answer) => Finding::good("it answers and does not refuse the token"),
            400 => Finding::warning("it answers; whether the token is right shows with the first event"),
            status @ (401 | 403) => {
                Finding::failed(format!("the token is refused (HTTP {status}): check `token`"))
            }
            status => {
                Finding::failed(format!("no Loggly endpoint answers here (HTTP {status}): check `endpoint`"))
            }
        }
    }
}

#[cfg(test)]
mod tests;
