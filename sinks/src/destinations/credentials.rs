//! The header `Authorization` of a user with a password, or of a bearer token.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Invalid;
use crate::{Redactor, Secret};

/// The header's value for what is given; the secrets go to `redactor`.
///
/// # Errors
/// If one of `username` and `password` stands alone, or there is a token besides.
pub(super) fn authorization(
    username: Option<&str>,
    password: Option<&Secret>,
    bearer_token: Option<&Secret>,
    redactor: &mut Redactor,
) -> Result<Option<String>, Invalid> {
    match (username, password, bearer_token) {
        (None, None, None) => Ok(None),
        (Some(""), ..) => Err(Invalid::new("username", "empty: set it, or take the key away")),
        (Some(name), Some(password), None) if !name.contains(':') => {
            let pair = format!("{name}:{}", password.expose());
            redactor.add(password.expose());
            redactor.add(&pair);
            Ok(Some(format!("Basic {}", STANDARD.encode(pair))))
        }
        (Some(_), Some(_), None) => Err(Invalid::new("username", "a name cannot hold `:`")),
        (None, None, Some(token)) => {
            super::header_value("bearer_token", token.expose())?;
            redactor.add(token.expose());
            Ok(Some(format!("Bearer {}", token.expose())))
        }
        (Some(_), None, None) => Err(Invalid::new("password", "missing: `username` needs it")),
        (None, Some(_), _) => Err(Invalid::new("username", "missing: `password` needs it")),
        (Some(_), _, Some(_)) => {
            Err(Invalid::new("bearer_token", "keep it, or `username` with `password`, not both"))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[track_caller]
    fn check(given: (Option<&str>, Option<&str>, Option<&str>), expected: Result<Option<&str>, &str>) {
        let (name, password, token) = given;
        let [password, token] = [password, token].map(|text| text.map(|text| Secret::new(text).unwrap()));
        let mut redactor = Redactor::new();
        let got = authorization(name, password.as_ref(), token.as_ref(), &mut redactor);
        let got = got.map_err(|invalid| invalid.key);
        assert_eq!(got.as_ref().map(Option::as_deref).map_err(String::as_str), expected);
        if let Ok(Some(value)) = got {
            let secret = given.1.or(given.2).unwrap();
            let shown = redactor.clean(&format!("you sent {value}, that is {secret}"));
            assert!(shown.ends_with(" ***, that is ***"), "{shown}");
        }
    }

    #[test]
    fn a_name_with_its_password_or_a_token_makes_a_header() {
        check((None, None, None), Ok(None));
        // From RFC 7617, section 2.
        check((Some("Aladdin"), Some("open sesame"), None), Ok(Some("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==")));
        check((Some("u"), Some("hunter2"), None), Ok(Some("Basic dTpodW50ZXIy")));
        check((None, None, Some("hunter2")), Ok(Some("Bearer hunter2")));
        check((Some("u"), None, None), Err("password"));
        check((None, Some("p"), None), Err("username"));
        check((None, Some("p"), Some("t")), Err("username"));
        check((Some(""), Some("p"), None), Err("username"));
        check((Some("a:b"), Some("p"), None), Err("username"));
        check((Some("u"), Some("p"), Some("t")), Err("bearer_token"));
        check((None, None, Some("é")), Err("bearer_token"));
    }
}
