//! Takes credentials out of what AWS, or somebody in its place, says of a request.

use std::sync::LazyLock;

use sinks::Redactor;

/// Credentials that the environment holds. Of those of roles and machines only the SDK knows.
static KNOWN: LazyLock<Redactor> = LazyLock::new(|| {
    let mut redactor = Redactor::new();
    for name in ["AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN"] {
        redactor.add(&std::env::var(name).unwrap_or_default());
    }
    redactor
});

/// Tokens of sessions are longer than this, and no other word is that AWS says to people.
/// <https://docs.aws.amazon.com/STS/latest/APIReference/API_Credentials.html>
const WORD_MAX: usize = 200;

/// A text without credentials.
pub(super) fn clean(text: &str) -> String {
    let known = KNOWN.clean(text);
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
}
