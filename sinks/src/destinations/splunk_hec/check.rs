//! What `check` asks a collector: is it healthy, is the token accepted, is there acknowledgement.

use super::super::{Finding, Probe, ProbeStep};
use super::answer::Told;
use super::{Ack, SplunkHec};
use crate::Answer;

/// Questions to each endpoint.
const QUESTIONS: usize = 3;

impl Probe for SplunkHec {
    fn steps(&self) -> Vec<ProbeStep> {
        // `read` tells them apart by their position.
        let questions: [_; QUESTIONS] = [
            ("health", "GET", "/services/collector/health/1.0", ""),
            // Nothing in it, so nothing is stored; the token is looked at first.
            ("token", "POST", "/services/collector/event", ""),
            ("acknowledgement", "POST", "/services/collector/ack", r#"{"acks":[0]}"#),
        ];
        let ask = |at: usize| {
            let endpoint = &self.endpoints.get(at).map_or("", |endpoint| &endpoint.origin);
            let of = if self.endpoints.len() > 1 { format!(" of {endpoint}") } else { String::new() };
            questions.map(|(what, method, path, body)| {
                let head = self.request(method, at, path, self.channel(u32::MAX, at));
                ProbeStep { what: format!("{what}{of}"), head, body: body.into() }
            })
        };
        (0..self.endpoints.len()).flat_map(ask).collect()
    }

    fn read(&self, step: usize, answer: &Answer) -> Finding {
        let told = serde_json::from_slice::<Told>(&answer.body).ok();
        let code = told.as_ref().map(|told| told.code);
        let text =
            self.redactor.clean(&told.map_or_else(|| answer.excerpt(&self.redactor), |told| told.text));
        let status = answer.status;
        match (step % QUESTIONS, status, code) {
            (0, 200, _) => Finding::good("the collector answers and is healthy"),
            (0, 503, _) => Finding::warning(format!("the collector is busy or unhealthy (HTTP 503): {text}")),
            (0, ..) => {
                Finding::failed(format!("no collector answers here (HTTP {status}): check `endpoints`"))
            }
            (1, _, Some(5)) => Finding::good(
                "the token is accepted; whether it may write to the index shows with the first event",
            ),
            (1, _, Some(1..=4 | 21 | 22)) => {
                Finding::failed(format!("the token is refused (HTTP {status}: {text}): check `token`"))
            }
            (1, ..) => Finding::warning(format!(
                "whether the token is accepted cannot be told (HTTP {status}): {text}"
            )),
            (_, 200, _) => Finding::good("acknowledgement is on for the token"),
            (_, _, Some(14)) if self.ack == Ack::Required => {
                Finding::failed("acknowledgement is off for the token: enable it, or set ack = \"auto\"")
            }
            (_, _, Some(14)) if self.ack == Ack::Auto => Finding::warning(
                "acknowledgement is off for the token: an event counts as delivered once Splunk has read it; \
                 enable acknowledgement, or set ack = false if that is meant",
            ),
            (_, _, Some(14)) => Finding::good("acknowledgement is off for the token, as configured"),
            _ => Finding::warning(format!(
                "whether acknowledgement is on cannot be told (HTTP {status}): {text}"
            )),
        }
    }
}
