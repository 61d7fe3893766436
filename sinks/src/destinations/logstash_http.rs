//! Logstash's http input: a JSON array of events, and the answer `ok`.
//!
//! <https://www.elastic.co/docs/reference/logstash/plugins/plugins-inputs-http>

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::credentials::authorization;
use super::logstash::document;
use super::{
    Built, CommonSettings, Defaults, Destination, Endpoint, Finding, Invalid, Probe, ProbeStep, Reach,
    by_status, garbled, in_turn,
};
use crate::{
    Answer, Attempt, Body, Compression, Event, Head, HttpSink, Judgement, Redactor, Secret, Shape, Verdict,
};

/// Settings of its own.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Addresses, with a path or without. The first is used, the next after a failure.
    endpoints: Vec<String>,
    /// As the input's `user` and `password`.
    username: Option<String>,
    /// Its password.
    password: Option<Secret>,
}

impl Destination for Settings {
    const DEFAULTS: Defaults = Defaults {
        batch_bytes: 4 << 20,
        // The input's `max_content_length`, which counts what was compressed when it is unpacked.
        batch_bytes_limit: 100_000_000,
        batch_events: 2000,
        batch_age: Duration::from_secs(1),
        // The input has a few threads, and answers 429 when they are busy.
        concurrency_max: 4,
        compression: Compression::Gzip(1),
        idle_connection_max: None,
        reach: Reach::Http,
    };

    fn build(self, common: &CommonSettings) -> Result<Built, Invalid> {
        let endpoints = Endpoint::parse_all("endpoints", &self.endpoints)?;
        let origins = Endpoint::origins(&endpoints);
        let mut redactor = common.redactor.clone();
        let authorization =
            authorization(self.username.as_deref(), self.password.as_ref(), None, &mut redactor)?;
        let mut headers = vec![("content-type", "application/json".to_owned())];
        headers.extend(authorization.map(|value| ("authorization", value)));
        let sink = LogstashHttp { common: common.clone(), endpoints, headers, redactor: redactor.clone() };
        Ok(Built::http(Arc::new(sink), origins, Self::DEFAULTS, redactor))
    }
}

struct LogstashHttp {
    common: CommonSettings,
    endpoints: Vec<Endpoint>,
    /// One may hold the password.
    headers: Vec<(&'static str, String)>,
    redactor: Redactor,
}

impl LogstashHttp {
    fn request(&self, endpoint: &Endpoint) -> Head {
        Head { method: "POST", url: endpoint.base.clone(), headers: self.headers.clone() }
    }
}

impl HttpSink for LogstashHttp {
    fn encoded_len(&self, event: &Event) -> usize {
        // The brackets, once a request, are as much as the comma that the first event does not have and one more.
        document::len_max(&self.common, event) + ",]".len()
    }

    fn body<'a>(&self, events: &'a [Event], _: Shape, body: &mut Body<'a>) {
        let mut members = Vec::new();
        for (at, event) in events.iter().enumerate() {
            body.owned(if at == 0 { b"[" } else { b"," });
            document::write(&self.common, body, event, &mut members, |_, _| {});
        }
        body.owned(b"]");
    }

    fn head(&self, attempt: &Attempt) -> Head {
        match in_turn(&self.endpoints, attempt.number) {
            Some(endpoint) => self.request(endpoint),
            None => Head { method: "POST", url: String::new(), headers: Vec::new() },
        }
    }

    fn judge(&self, events: &[Event], _: &Attempt, answer: &Answer) -> Judgement {
        match answer.status {
            200..=299 if is_ok(answer) => Judgement::all(events.len(), &Verdict::Delivered),
            200..=299 => garbled(answer, "the answer is not that of Logstash's http input"),
            // Of 429 the events were not taken. Of a request that it was too slow to answer they may yet be.
            _ => by_status(
                answer,
                &answer.excerpt(&self.redactor),
                "check `endpoints`, `username` and `password`",
            ),
        }
    }
}

/// The input's `response_code` is 200, 201, 202, or 204, which has no body.
fn is_ok(answer: &Answer) -> bool {
    match answer.status {
        200..=202 => answer.body.trim_ascii() == b"ok",
        204 => answer.body.is_empty(),
        _ => false,
    }
}

impl Probe for LogstashHttp {
    fn steps(&self) -> Vec<ProbeStep> {
        // An array without events: none is made of it.
        let step = |endpoint: &Endpoint| ProbeStep {
            what: endpoint.origin.clone(),
            head: self.request(endpoint),
            body: b"[]".to_vec(),
        };
        self.endpoints.iter().map(step).collect()
    }

    fn read(&self, _: usize, answer: &Answer) -> Finding {
        match answer.status {
            200..=299 if is_ok(answer) => Finding::good("Logstash's http input takes requests"),
            200..=299 => {
                Finding::failed("something else than Logstash's http input answers: check `endpoints`")
            }
            status @ (401 | 403) => {
                Finding::failed(format!("refused (HTTP {status}): check `username` and `password`"))
            }
            429 => Finding::warning("it answers, but is busy (HTTP 429)"),
            status @ 500..=599 => {
                Finding::warning(format!("it answers, but is out of order (HTTP {status})"))
            }
            status => {
                Finding::failed(format!("no http input answers here (HTTP {status}): check `endpoints`"))
            }
        }
    }
}

#[cfg(test)]
mod tests;
