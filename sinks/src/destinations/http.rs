//! Any HTTP receiver: method, address, headers, framing, and which statuses mean what.

mod names;
mod template;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::credentials::authorization;
use super::{
    Built, CommonSettings, Defaults, Destination, Endpoint, Finding, Invalid, Probe, ProbeStep, Reach,
    by_status, header_value, retry_after,
};
use crate::{
    Answer, Attempt, Body, Compression, Event, Head, HttpSink, Judgement, Reason, ReasonCode, Redactor,
    Secret, Shape, Verdict, encode,
};
use template::Template;

/// Headers that have a key of their own, or are the shared layer's.
const TAKEN: [(&str, &str); 9] = [
    ("authorization", "use `username` with `password`, or `bearer_token`"),
    ("content-type", "use `content_type`"),
    ("content-encoding", "use `compression`"),
    ("content-length", "it is set for each request"),
    ("transfer-encoding", "it is set for each request"),
    ("host", "it is that of `url`; see `tls.server_name`"),
    ("connection", "connections are looked after"),
    ("expect", "it is never sent"),
    ("proxy-authorization", "put user and password into `proxy`"),
];

/// A shorter value would blot out too much of what a receiver says.
const REDACTED_CHARS_MIN: usize = 4;

/// Settings of its own.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The whole address, with places for what an event says. It may hold a secret.
    url: Secret,
    /// `"POST"`, `"PUT"` or `"PATCH"`. Default `"POST"`.
    #[serde(default)]
    method: Method,
    /// Further headers, with places; values may be secrets.
    #[serde(default)]
    headers: BTreeMap<String, Secret>,
    /// `"ndjson"`, `"json_array"` or `"single"`, which is one event a request. Default `"ndjson"`.
    #[serde(default)]
    framing: Framing,
    /// Default: `application/x-ndjson`, or `application/json` with the other framings.
    content_type: Option<String>,
    /// For basic authentication.
    username: Option<String>,
    /// Its password.
    password: Option<Secret>,
    /// For bearer authentication.
    bearer_token: Option<Secret>,
    /// Statuses that mean that everything is stored: from 200 to 299, and 409. Default: every 2xx.
    #[serde(default)]
    success_statuses: Vec<u16>,
    /// Statuses that are worth another try, beside 408, 425, 429 and 5xx.
    #[serde(default)]
    retry_statuses: Vec<u16>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Method {
    #[default]
    Post,
    Put,
    Patch,
}

/// How events are put into a body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Framing {
    /// A line an event.
    #[default]
    Ndjson,
    /// An array of all.
    JsonArray,
    /// One event is the body.
    Single,
}

impl Destination for Settings {
    const DEFAULTS: Defaults = Defaults {
        batch_bytes: 1 << 20,
        batch_bytes_limit: 100 << 20,
        batch_events: 1000,
        batch_age: Duration::from_secs(1),
        concurrency_max: 4,
        // Not everybody unpacks.
        compression: Compression::None,
        idle_connection_max: None,
        reach: Reach::Http,
    };

    fn build(self, common: &CommonSettings) -> Result<Built, Invalid> {
        let mut redactor = common.redactor.clone();
        let (url, origin) = self.address(&mut redactor)?;
        let headers = self.own_headers(&mut redactor)?;
        let authorization = authorization(
            self.username.as_deref(),
            self.password.as_ref(),
            self.bearer_token.as_ref(),
            &mut redactor,
        )?;
        self.check_statuses()?;
        let content_type = self.content_type.as_deref().unwrap_or(match self.framing {
            Framing::Ndjson => "application/x-ndjson",
            Framing::JsonArray | Framing::Single => "application/json",
        });
        header_value("content_type", content_type)?;
        let mut fixed = vec![("content-type", content_type.to_owned())];
        fixed.extend(authorization.map(|value| ("authorization", value)));
        let sink = Arc::new(Http {
            common: common.clone(),
            method: match self.method {
                Method::Post => "POST",
                Method::Put => "PUT",
                Method::Patch => "PATCH",
            },
            url,
            fixed,
            headers,
            framing: self.framing,
            success: self.success_statuses,
            retry: self.retry_statuses,
            redactor: redactor.clone(),
        });
        Ok(Built::http(sink, vec![origin], Self::DEFAULTS, redactor))
    }
}

impl Settings {
    /// The address as a template, and its origin.
    fn address(&self, redactor: &mut Redactor) -> Result<(Template, String), Invalid> {
        let text = self.url.expose();
        let template = Template::parse(text).map_err(|what| Invalid::new("url", what))?;
        let sample = template.address(None);
        let (before, query) = sample.split_once('?').unwrap_or((&sample, ""));
        let origin = Endpoint::parse("url", before)?.origin;
        if query.contains('#') || !query.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Invalid::new("url", "encode what stands behind `?`, and take away `#`"));
        }
        // A host that events choose is no address of ours.
        let start = template.start();
        let same = start.get(..origin.len()).is_some_and(|text| text.eq_ignore_ascii_case(&origin));
        let path = start.get(origin.len()..).filter(|_| same).unwrap_or_default();
        if !template.is_fixed() && !path.starts_with(['/', '?']) {
            return Err(Invalid::new("url", "a place may stand in the path and behind `?`, not before them"));
        }
        redactor.add(text);
        // Where a secret stands in it, it is what follows the host.
        for literal in template.literals() {
            let secret = literal.strip_prefix(origin.as_str()).unwrap_or(literal).trim_matches('/');
            if secret.len() >= REDACTED_CHARS_MIN {
                redactor.add(secret);
            }
        }
        Ok((template, origin))
    }

    fn own_headers(&self, redactor: &mut Redactor) -> Result<Vec<(&'static str, Template)>, Invalid> {
        let mut headers = Vec::new();
        for (name, value) in &self.headers {
            let key = format!("headers.{name}");
            let lower = name.to_ascii_lowercase();
            if let Some((_, remedy)) = TAKEN.iter().find(|(taken, _)| *taken == lower) {
                return Err(Invalid::new(&key, format!("this header is not for you to set: {remedy}")));
            }
            let Some(name) = names::intern(&lower) else {
                return Err(Invalid::new(&key, "no name of a header: use letters, digits and `-`"));
            };
            let value = value.expose();
            header_value(&key, value)?;
            let template = Template::parse(value).map_err(|what| Invalid::new(&key, what))?;
            template
                .literals()
                .filter(|literal| literal.len() >= REDACTED_CHARS_MIN)
                .for_each(|literal| redactor.add(literal));
            headers.push((name, template));
        }
        Ok(headers)
    }

    fn check_statuses(&self) -> Result<(), Invalid> {
        if !self.success_statuses.iter().all(|status| matches!(status, 200..=299 | 409)) {
            let message = "only 200 to 299, and 409, can mean that events are stored";
            return Err(Invalid::new("success_statuses", message));
        }
        if !self.retry_statuses.iter().all(|status| matches!(status, 400..=599)) {
            return Err(Invalid::new(
                "retry_statuses",
                "only statuses from 400 to 599 are worth another try",
            ));
        }
        if self.retry_statuses.iter().any(|status| self.success_statuses.contains(status)) {
            return Err(Invalid::new("retry_statuses", "a status is either a success or worth another try"));
        }
        Ok(())
    }
}

struct Http {
    common: CommonSettings,
    method: &'static str,
    /// May hold a secret.
    url: Template,
    /// Headers that are the same for all; one may hold a secret.
    fixed: Vec<(&'static str, String)>,
    /// Headers of the configuration; their values may be secrets.
    headers: Vec<(&'static str, Template)>,
    framing: Framing,
    success: Vec<u16>,
    retry: Vec<u16>,
    redactor: Redactor,
}

impl Http {
    fn request(&self, event: Option<&Event>) -> Head {
        let mut headers = self.fixed.clone();
        headers.extend(self.headers.iter().map(|(name, value)| (*name, value.header(event))));
        Head { method: self.method, url: self.url.address(event), headers }
    }

    fn is_success(&self, status: u16) -> bool {
        match self.success.as_slice() {
            [] => (200..=299).contains(&status),
            listed => listed.contains(&status),
        }
    }
}

impl HttpSink for Http {
    fn encoded_len(&self, event: &Event) -> usize {
        // A line break; or a comma and a part of the brackets.
        event.range().len() + self.common.trailship_len(event) + 2
    }

    fn events_max(&self) -> usize {
        if self.framing == Framing::Single { 1 } else { usize::MAX }
    }

    fn group(&self, event: &Event, group: &mut String) {
        if self.framing == Framing::Single {
            // Each for itself, also where events are put together anew.
            let file = event.file();
            group.push_str(&format!("{}\n{}\n{}", file.bucket, file.key, event.index()));
            return;
        }
        self.url.write_values(event, group);
        self.headers.iter().for_each(|(_, value)| value.write_values(event, group));
    }

    fn body<'a>(&self, events: &'a [Event], _: Shape, body: &mut Body<'a>) {
        let (before, between, after): (&[u8], &[u8], &[u8]) = match self.framing {
            Framing::Ndjson => (b"", b"\n", b"\n"),
            Framing::JsonArray => (b"[", b",", b"]"),
            Framing::Single => (b"", b"", b""),
        };
        let mut members = Vec::new();
        for (at, event) in events.iter().enumerate() {
            body.owned(if at == 0 { before } else { between });
            members.clear();
            let shared = self.common.trailship(&mut members, event);
            encode::splice(body, event, &members, shared);
        }
        body.owned(after);
    }

    fn head(&self, _: &Attempt) -> Head {
        self.request(None)
    }

    fn head_of(&self, events: &[Event], _: &Attempt) -> Head {
        self.request(events.first())
    }

    fn judge(&self, events: &[Event], _: &Attempt, answer: &Answer) -> Judgement {
        let status = answer.status;
        if self.is_success(status) {
            return Judgement::all(events.len(), &Verdict::Delivered);
        }
        let text = answer.excerpt(&self.redactor);
        if self.retry.contains(&status) {
            let code = match status {
                429 => ReasonCode::Throttled,
                500..=599 => ReasonCode::ServerError,
                _ => ReasonCode::Other,
            };
            let why = Reason::new(code, text).with_status(status);
            return Judgement::Unavailable { why, retry_after: retry_after(answer) };
        }
        by_status(answer, &text, "check `url`, `headers` and the credentials")
    }
}

impl Probe for Http {
    fn steps(&self) -> Vec<ProbeStep> {
        // Only the head of what is there is asked for: no receiver stores that. Where events choose the path, the folder
        // above their choice.
        let start = self.url.start();
        let url = match start.rfind('/').filter(|_| !self.url.is_fixed()) {
            Some(end) => start.get(..=end).unwrap_or(start).to_owned(),
            None => start.to_owned(),
        };
        let head = Head { method: "HEAD", url, ..self.request(None) };
        vec![ProbeStep { what: "address".into(), head, body: Vec::new() }]
    }

    fn read(&self, _: usize, answer: &Answer) -> Finding {
        let status = answer.status;
        match status {
            401 | 403 | 407 => Finding::failed(format!(
                "refused (HTTP {status}): check `username`, `password`, `bearer_token` and `headers`"
            )),
            300..=399 => Finding::failed(format!(
                "it redirects (HTTP {status}), which is never followed: set the final address"
            )),
            404 | 410 => Finding::warning(format!(
                "answers that nothing is there (HTTP {status}); some receivers say so of all but {}",
                self.method
            )),
            429 | 500..=599 => Finding::warning(format!("answers, but is out of order (HTTP {status})")),
            _ => Finding::good(format!(
                "answers (HTTP {status}); whether it takes events shows with the first one"
            )),
        }
    }
}

#[cfg(test)]
mod tests;
