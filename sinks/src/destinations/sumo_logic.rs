//! A hosted HTTP source of Sumo Logic: a line an event, and an address that is the secret.
//!
//! Limits: <https://www.sumologic.com/help/docs/send-data/hosted-collectors/http-source/logs-metrics/upload-logs/>
//! Answers: <https://www.sumologic.com/help/docs/send-data/hosted-collectors/http-source/troubleshooting/>

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::failover::{Failover, numbered, one_or_several};
use super::template::Template;
use super::{
    Built, CommonSettings, Defaults, Destination, Endpoint, Finding, Invalid, Probe, ProbeStep, Reach,
    by_status, garbled, header_value,
};
use crate::{
    Answer, Attempt, Body, Compression, Event, Head, HttpSink, Judgement, Reason, ReasonCode, Redactor,
    Secret, Shape, Verdict, encode,
};

/// "Up to but not exceeding 1MB", before compression.
const REQUEST_BYTES_MAX: usize = 1_000_000;
/// A longer message is cut into slices of this size.
const MESSAGE_BYTES_MAX: usize = 65_536;

/// Settings of its own.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The source's whole address; it is the secret.
    url: Option<Secret>,
    /// Several in its place: the first is used, the next where it is refused or does not answer.
    #[serde(default)]
    urls: Vec<Secret>,
    /// Source category (`X-Sumo-Category`). In this, `source_name` and `host`, `{account}`, `{region}` and `{category}`
    /// are those of the event.
    category: Option<String>,
    /// Source name (`X-Sumo-Name`).
    source_name: Option<String>,
    /// Source host (`X-Sumo-Host`).
    host: Option<String>,
    /// Fields of every event (`X-Sumo-Fields`); Sumo Logic drops those that it has not been told to expect.
    #[serde(default)]
    fields: BTreeMap<String, String>,
    /// What becomes of an event over 64 KiB.
    #[serde(default)]
    oversized: Oversized,
}

/// What becomes of an event over 64 KiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Oversized {
    /// It is sent. Sumo Logic stores all of it, as several messages that are no JSON each.
    #[default]
    Slice,
    /// It is not sent, and kept whole among the dead letters.
    DeadLetter,
}

impl Destination for Settings {
    const TAKES_DEFLATE: bool = true;
    const DEFAULTS: Defaults = Defaults {
        batch_bytes: REQUEST_BYTES_MAX,
        batch_bytes_limit: REQUEST_BYTES_MAX,
        batch_events: 1000,
        batch_age: Duration::from_secs(1),
        // A source is not made for many connections.
        concurrency_max: 2,
        compression: Compression::Gzip(1),
        // Its load balancer closes after 30 s.
        idle_connection_max: Some(Duration::from_secs(25)),
        reach: Reach::Http,
    };

    fn build(self, common: &CommonSettings) -> Result<Built, Invalid> {
        let headers = self.headers()?;
        let mut redactor = common.redactor.clone();
        let (mut urls, mut origins) = (Vec::new(), Vec::new());
        for (key, url) in one_or_several("url", self.url, self.urls)? {
            let endpoint = Endpoint::parse(&key, url.expose())?;
            let code = endpoint.base.rsplit('/').next().unwrap_or_default();
            if !endpoint.base.contains("/receiver/") || code.is_empty() {
                let message =
                    "not the whole address of an HTTP source: copy it from the source's \"Show URL\"";
                return Err(Invalid::new(&key, message));
            }
            redactor.add(&endpoint.base);
            redactor.add(code);
            urls.push(endpoint.base);
            origins.push(endpoint.origin);
        }
        let sink = Arc::new(SumoLogic {
            common: common.clone(),
            headers,
            oversized: self.oversized,
            failover: Failover::new(urls.len()),
            urls,
            redactor: redactor.clone(),
        });
        Ok(Built::http(sink, origins, Self::DEFAULTS, redactor))
    }
}

impl Settings {
    fn headers(&self) -> Result<Vec<(&'static str, Template)>, Invalid> {
        let mut headers = Vec::new();
        let named = [
            ("category", "x-sumo-category", &self.category),
            ("source_name", "x-sumo-name", &self.source_name),
            ("host", "x-sumo-host", &self.host),
        ];
        for (key, header, value) in named {
            if let Some(value) = value {
                header_value(key, value)?;
                let template = Template::parse(value).map_err(|message| Invalid::new(key, message))?;
                headers.push((header, template));
            }
        }
        let mut fields = Vec::new();
        for (name, value) in &self.fields {
            let key = format!("fields.{name}");
            header_value(&key, name)?;
            header_value(&key, value)?;
            if name.contains([',', '=', ' ']) || value.contains([',', '=']) {
                return Err(Invalid::new(&key, "a field holds no `,` and no `=`, and its name no space"));
            }
            fields.push(format!("{name}={value}"));
        }
        if !fields.is_empty() {
            headers.push(("x-sumo-fields", Template::fixed(fields.join(","))));
        }
        Ok(headers)
    }
}

struct SumoLogic {
    common: CommonSettings,
    /// The secrets.
    urls: Vec<String>,
    failover: Failover,
    headers: Vec<(&'static str, Template)>,
    oversized: Oversized,
    redactor: Redactor,
}

impl HttpSink for SumoLogic {
    fn encoded_len(&self, event: &Event) -> usize {
        event.bytes().len() + self.common.trailship_len(event) + 1
    }

    fn event_bytes_max(&self) -> Option<usize> {
        match self.oversized {
            Oversized::Slice => Some(REQUEST_BYTES_MAX),
            // The line break is no part of the message.
            Oversized::DeadLetter => Some(MESSAGE_BYTES_MAX + 1),
        }
    }

    fn body<'a>(&self, events: &'a [Event], _: Shape, body: &mut Body<'a>) {
        let mut members = Vec::new();
        for event in events {
            members.clear();
            let shared = self.common.trailship(&mut members, event);
            encode::splice(body, event, &members, shared);
            body.owned(b"\n");
        }
    }

    fn group(&self, event: &Event, group: &mut String) {
        for (_, template) in self.headers.iter().filter(|(_, template)| !template.is_fixed()) {
            template.write(event, group);
            group.push('\n');
        }
    }

    fn head(&self, attempt: &Attempt) -> Head {
        self.head_of(&[], attempt)
    }

    fn head_of(&self, events: &[Event], attempt: &Attempt) -> Head {
        self.request(self.failover.choose(attempt, 0), events.first())
    }

    fn judge(&self, events: &[Event], attempt: &Attempt, answer: &Answer) -> Judgement {
        let judgement = match answer.status {
            // A success has no prescribed body; a page is not Sumo Logic's but a proxy's.
            200 if answer.body.trim_ascii_start().starts_with(b"<") => garbled(answer, "a web page answers"),
            200 => Judgement::all(events.len(), &Verdict::Delivered),
            408 => {
                let text = "it took too long and may have stored a part, which the next try stores again";
                let why = Reason::new(ReasonCode::Unconfirmed, text).with_status(408);
                Judgement::Unavailable { why, retry_after: super::retry_after(answer) }
            }
            _ => by_status(answer, &answer.excerpt(&self.redactor), "check `url`"),
        };
        self.failover.judged(attempt, 0, judgement)
    }
}

impl SumoLogic {
    /// A request to the source at this position; without an event, only what is the same for all stands in its head.
    fn request(&self, source: usize, event: Option<&Event>) -> Head {
        let mut headers = vec![("content-type", "text/plain; charset=utf-8".to_owned())];
        for (name, template) in &self.headers {
            let text = match event {
                Some(event) => Some(template.text(event)),
                None => template.fixed_text().map(str::to_owned),
            };
            headers.extend(text.map(|text| (*name, text)));
        }
        Head { method: "POST", url: self.urls.get(source).cloned().unwrap_or_default(), headers }
    }
}

impl Probe for SumoLogic {
    fn steps(&self) -> Vec<ProbeStep> {
        // Nothing in it, so nothing is stored.
        let ask = |source| ProbeStep {
            what: numbered("source", source, self.urls.len()),
            head: self.request(source, None),
            body: Vec::new(),
        };
        (0..self.urls.len()).map(ask).collect()
    }

    fn read(&self, _: usize, answer: &Answer) -> Finding {
        match answer.status {
            200 => Finding::good(
                "the source takes requests; an exhausted ingest budget is not told, and drops what it accepts",
            ),
            status @ (401 | 403 | 404) => {
                Finding::failed(format!("the source is not known (HTTP {status}): check `url`"))
            }
            status @ (429 | 500..=599) => {
                Finding::warning(format!("the source answers, but is busy (HTTP {status})"))
            }
            status => {
                Finding::warning(format!("whether the source takes events cannot be told (HTTP {status})"))
            }
        }
    }
}

#[cfg(test)]
mod tests;
