//! Takes credentials out of what AWS, or somebody in its place, says of a request.

use std::sync::{LazyLock, PoisonError, RwLock};

use sinks::Redactor;

use crate::config::url;

/// Credentials that the environment holds, and passwords of proxies. Of those of roles and machines only the SDK knows.
static KNOWN: LazyLock<RwLock<Redactor>> = LazyLock::new(|| {
    let mut redactor = Redactor::new();
    for name in ["AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN"] {
        redactor.add(&std::env::var(name).unwrap_or_default());
    }
    url::passwords_of_environment().iter().for_each(|secret| redactor.add(secret));
    RwLock::new(redactor)
});

/// Has the password of a proxy taken out as well, from now on.
pub(super) fn hide_proxy(proxy: &str) {
    let mut known = KNOWN.write().unwrap_or_else(PoisonError::into_inner);
    url::passwords(proxy).iter().for_each(|secret| known.add(secret));
}

/// Tokens of sessions are longer than this, and no other word is that AWS says to people.
/// <https://docs.aws.amazon.com/STS/latest/APIReference/API_Credentials.html>
const WORD_MAX: usize = 200;

/// A text without credentials.
pub(super) fn clean(text: &str) -> String {
    let known = KNOWN.read().unwrap_or_else(PoisonError::into_inner).clean(text);
    let is_of_token = |c: char| c.is_ascii_alphanumeric() || "+/=_%-".contains(c);
    let mut clean = String::with_capacity(known.len());
    let mut rest = known.as_str();
    while let Some(first) = rest.chars().next() {
        let end = match is_of_token(first) {
            true => rest.find(|c: char| !is_of_token(c)).unwrap_or(rest.len()),
            false => first.len_utf8(),
        };
        let (word, after) = rest.split_at(end);
        clean.push_str(if word.len() > WORD_MAX { "***" } else { word });
        rest = after;
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_s_token_is_taken_out_and_other_words_stay() {
        let token = format!("IQoJb3JpZ2luX2Vj{}==", "aB3/+".repeat(60));
        let said = format!("AccessDenied: x-amz-security-token: {token}, on s3://trail/a/b.json.gz");
        assert_eq!(clean(&said), "AccessDenied: x-amz-security-token: ***, on s3://trail/a/b.json.gz");
        assert_eq!(clean("é: nothing of that kind"), "é: nothing of that kind");
    }

    #[test]
    fn a_proxy_s_password_is_taken_out_once_the_proxy_is_known() {
        hide_proxy("http://me:pr%2Fxy-w0rd@proxy.example:3128");
        assert_eq!(clean("407: bWU6cHIveHktdzByZA== pr%2Fxy-w0rd pr/xy-w0rd"), "407: *** *** ***");
    }
}
