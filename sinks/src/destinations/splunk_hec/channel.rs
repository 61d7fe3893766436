//! Channels, by which Splunk counts acknowledgements, and the cookies that keep a channel at its indexer.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sha2::{Digest as _, Sha256};

use crate::Answer;

/// Cookies of a channel, and bytes of one: a load balancer needs one, of some dozen bytes.
const COOKIES_MAX: usize = 8;
const COOKIE_BYTES_MAX: usize = 4096;

/// A channel for each slot, endpoint and process.
pub(super) fn name(sink: &str, instance: u64, slot: u32, endpoint: usize) -> String {
    let mut hash = Sha256::new();
    hash.update(instance.to_be_bytes());
    hash.update(slot.to_be_bytes());
    hash.update(u32::try_from(endpoint).unwrap_or(u32::MAX).to_be_bytes());
    hash.update(sink.as_bytes());
    let mut guid = String::with_capacity(36);
    for (at, byte) in hash.finalize().iter().take(16).enumerate() {
        // Looks like a random one (RFC 9562, version 4).
        let byte = match at {
            6 => byte & 0x0f | 0x40,
            8 => byte & 0x3f | 0x80,
            _ => *byte,
        };
        let dash = if matches!(at, 4 | 6 | 8 | 10) { "-" } else { "" };
        // Writing to a string cannot fail.
        let _ = write!(guid, "{dash}{byte:02X}");
    }
    guid
}

/// The cookies that answers have set, by channel. A channel belongs to one endpoint, so none goes anywhere else.
///
/// Behind a load balancer they are what leads the question for an acknowledgement to the indexer that can answer it:
/// <https://docs.splunk.com/Documentation/Splunk/latest/Data/AboutHECIDXAck>. They are not logged: whoever has one may
/// be taken for us.
#[derive(Default)]
pub(super) struct Cookies(Mutex<BTreeMap<String, BTreeMap<String, String>>>);

impl Cookies {
    /// The header `Cookie` of a channel's next request.
    pub(super) fn header(&self, channel: &str) -> Option<String> {
        let all = self.lock();
        let cookies = all.get(channel).filter(|cookies| !cookies.is_empty())?;
        let pairs: Vec<String> = cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        Some(pairs.join("; "))
    }

    /// Takes over what an answer in the channel sets or takes back.
    pub(super) fn note(&self, channel: &str, answer: &Answer) {
        let set = answer.headers.iter().filter(|(name, _)| name == "set-cookie");
        for cookie in set.filter_map(|(_, text)| SetCookie::parse(text, answer)) {
            let mut all = self.lock();
            let cookies = all.entry(channel.to_owned()).or_default();
            if cookie.is_over {
                cookies.remove(cookie.name);
            } else if cookies.contains_key(cookie.name) || cookies.len() < COOKIES_MAX {
                cookies.insert(cookie.name.to_owned(), cookie.value.to_owned());
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, BTreeMap<String, String>>> {
        // Every change is complete before anything can panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// <https://www.rfc-editor.org/rfc/rfc6265#section-5.2>; where a cookie may go (`Domain`, `Path`) is not looked at, since
/// it only ever goes to where it came from.
struct SetCookie<'a> {
    name: &'a str,
    value: &'a str,
    is_over: bool,
}

impl<'a> SetCookie<'a> {
    fn parse(text: &'a str, answer: &Answer) -> Option<Self> {
        let mut parts = text.split(';');
        let (name, value) = parts.next()?.split_once('=')?;
        let (name, value) = (name.trim(), value.trim());
        let is_sound = |c: char| c.is_ascii_graphic() && !matches!(c, ';' | ',');
        let fits = !name.is_empty() && name.len() + value.len() <= COOKIE_BYTES_MAX;
        if !fits || !name.chars().chain(value.chars()).all(is_sound) {
            return None;
        }
        let (mut age, mut expiry) = (None, None);
        for (key, value) in parts.filter_map(|part| part.split_once('=')) {
            match key.trim().to_ascii_lowercase().as_str() {
                "max-age" => age = value.trim().parse::<i64>().ok().map(|seconds| seconds <= 0),
                "expires" => expiry = is_past(value.trim(), answer),
                _ => {}
            }
        }
        Some(Self { name, value, is_over: age.or(expiry).unwrap_or(false) })
    }
}

/// Whether a date is before the answer's own: there is no clock here.
fn is_past(date: &str, answer: &Answer) -> Option<bool> {
    let date = httpdate::parse_http_date(&date.replacen('-', " ", 2)).ok()?;
    let now = answer.header("date").and_then(|now| httpdate::parse_http_date(now.trim()).ok());
    Some(date <= now.unwrap_or(std::time::UNIX_EPOCH))
}

#[cfg(test)]
mod tests {
    use super::super::super::tests::answer;
    use super::*;

    fn cookies(set: &[&str]) -> Option<String> {
        let cookies = Cookies::default();
        for text in set {
            let headers = [("date", "Sun, 06 Nov 2022 08:49:37 GMT"), ("set-cookie", *text)];
            cookies.note("c", &answer(200, &headers, ""));
        }
        assert_eq!(cookies.header("d"), None, "each channel has its own");
        cookies.header("c")
    }

    #[test]
    fn what_an_answer_sets_goes_with_the_channel_s_next_request() {
        let set = |text: &str| cookies(&[text]).unwrap_or_default();
        assert_eq!(set("AWSALB=abc/d+e=; Expires=Sun, 13 Nov 2022 08:49:37 GMT; Path=/"), "AWSALB=abc/d+e=");
        assert_eq!(set("SERVERID=s1; path=/; HttpOnly; SameSite=Lax"), "SERVERID=s1");
        assert_eq!(set("  a = b ;Secure"), "a=b");
        assert_eq!(set("a=b; max-age=60; expires=Thu, 01-Jan-1970 00:00:00 GMT"), "a=b");
        assert_eq!(cookies(&["b=2", "a=1", "b=3"]).unwrap_or_default(), "a=1; b=3");
        for unsound in ["", "x", "=x", "a=b c", "a=b,c", "a=\u{e9}", "a=\u{1}"] {
            assert_eq!(cookies(&[unsound]), None, "{unsound}");
        }
    }

    #[test]
    fn a_cookie_that_is_taken_back_is_dropped() {
        for over in [
            "a=; Max-Age=0",
            "a=; max-age=-1",
            "a=x; Expires=Thu, 01 Jan 1970 00:00:00 GMT",
            "a=x; expires=Thu, 01-Jan-1970 00:00:00 GMT",
            "a=x; Expires=Sun, 06 Nov 2022 08:49:36 GMT",
        ] {
            assert_eq!(cookies(&["a=1", over]), None, "{over}");
        }
        // A date that cannot be read says nothing.
        assert_eq!(cookies(&["a=1; Expires=soon"]).unwrap_or_default(), "a=1");
    }

    #[test]
    fn cookies_do_not_grow_without_end() {
        let many: Vec<String> = (0..100).map(|at| format!("c{at}=1")).collect();
        let set: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(cookies(&set).map(|header| header.matches('=').count()), Some(COOKIES_MAX));
        assert_eq!(cookies(&[&format!("a={}", "x".repeat(COOKIE_BYTES_MAX))]), None);
    }

    #[test]
    fn several_cookies_of_one_answer_are_all_taken() {
        let cookies = Cookies::default();
        cookies.note("c", &answer(200, &[("set-cookie", "a=1"), ("set-cookie", "b=2")], ""));
        assert_eq!(cookies.header("c").as_deref(), Some("a=1; b=2"));
    }
}
