//! Answers that say no more than their status does, whatever the destination.

use std::time::Duration;

use crate::{Answer, Judgement, Reason, ReasonCode};

/// What is said of an answer by its status alone, where the destination's protocol says no more about it.
///
/// `what` is the answer's own text, cleaned of secrets; `remedy` says which key to look at.
pub(crate) fn by_status(answer: &Answer, what: &str, remedy: &str) -> Judgement {
    let status = answer.status;
    let reason = |code, text: String| Reason::new(code, text).with_status(status);
    let why = |code| reason(code, if what.is_empty() { "no details given".into() } else { what.into() });
    let denied = |code, advice: &str| Judgement::Denied(reason(code, format!("{advice}: {what}")));
    let unavailable = |code| Judgement::Unavailable { why: why(code), retry_after: retry_after(answer) };
    match status {
        200..=299 => unavailable(ReasonCode::Garbled),
        300..=399 => {
            denied(ReasonCode::Misconfigured, "it redirects, which is never followed: set the final address")
        }
        400 | 422 => Judgement::Refused(why(ReasonCode::Invalid)),
        401 | 403 | 407 => denied(ReasonCode::Unauthorized, remedy),
        404 | 405 | 406 | 410 | 411 | 415 | 501 => denied(ReasonCode::Misconfigured, remedy),
        408 => unavailable(ReasonCode::Timeout),
        413 => Judgement::TooLarge(why(ReasonCode::TooLarge)),
        429 => unavailable(ReasonCode::Throttled),
        500..=599 => unavailable(ReasonCode::ServerError),
        _ => unavailable(ReasonCode::Other),
    }
}

/// An answer that claims success and cannot be understood: no event of it counts as delivered.
pub(crate) fn garbled(answer: &Answer, text: &str) -> Judgement {
    let why = Reason::new(ReasonCode::Garbled, text).with_status(answer.status);
    Judgement::Unavailable { why, retry_after: None }
}

/// How long `Retry-After` asks to wait: seconds, or a date, which is measured against the answer's own `Date`.
/// <https://www.rfc-editor.org/rfc/rfc9110#field.retry-after>
pub(crate) fn retry_after(answer: &Answer) -> Option<Duration> {
    let value = answer.header("retry-after")?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = httpdate::parse_http_date(value).ok()?;
    let now = httpdate::parse_http_date(answer.header("date")?.trim()).ok()?;
    Some(until.duration_since(now).unwrap_or_default())
}
