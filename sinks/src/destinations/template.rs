//! Texts of a request's head that say where its events come from, such as `aws/{account}/{region}`.

use cloudtrail::Field;

use crate::Event;

/// Longest text that an event may put into a place.
const PLACE_BYTES_MAX: usize = 64;

/// The places that a template may have, and the fields that fill them: the first that the event has. Few values each:
/// every combination is a batch of its own.
const PLACES: [(&str, &[Field]); 3] = [
    ("{account}", &[Field::RecipientAccountId, Field::AccountId, Field::IdentityAccountId]),
    ("{region}", &[Field::AwsRegion]),
    ("{category}", &[Field::EventCategory]),
];

/// A checked template. What an event puts into it is a letter, digit, `-`, `_` or `.`, whatever the event says, so it
/// can stand in a header or a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    Place(&'static [Field]),
}

impl Template {
    /// Reads a template; the error says what is wrong and what would be right.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find(['{', '}']) {
            let (literal, place) = rest.split_at(open);
            let known = PLACES.iter().find_map(|(name, fields)| Some((place.strip_prefix(name)?, *fields)));
            let Some((after, fields)) = known else {
                let found = place.split_inclusive('}').next().unwrap_or(place);
                let known = PLACES.map(|(name, _)| name).join(", ");
                return Err(format!("`{found}` is unknown: use {known}"));
            };
            if !literal.is_empty() {
                parts.push(Part::Literal(literal.to_owned()));
            }
            parts.push(Part::Place(fields));
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Literal(rest.to_owned()));
        }
        Ok(Self(parts))
    }

    /// A text as it stands.
    pub(crate) fn fixed(text: String) -> Self {
        Self(vec![Part::Literal(text)])
    }

    /// Whether it reads the same for every event.
    pub(crate) fn is_fixed(&self) -> bool {
        self.fixed_text().is_some()
    }

    /// The text, if it is the same for every event.
    pub(crate) fn fixed_text(&self) -> Option<&str> {
        match self.0.as_slice() {
            [] => Some(""),
            [Part::Literal(text)] => Some(text),
            _ => None,
        }
    }

    /// Writes the text for an event.
    pub(crate) fn write(&self, event: &Event, out: &mut String) {
        for part in &self.0 {
            match part {
                Part::Literal(text) => out.push_str(text),
                Part::Place(fields) => {
                    let text = fields.iter().find_map(|&field| event.text(field)).unwrap_or_default();
                    let start = out.len();
                    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
                    let plain = text.chars().take(PLACE_BYTES_MAX).map(|c| if is_plain(c) { c } else { '-' });
                    out.extend(plain);
                    if out.len() == start {
                        out.push_str("unknown");
                    }
                }
            }
        }
    }

    /// The text for an event.
    pub(crate) fn text(&self, event: &Event) -> String {
        let mut out = String::new();
        self.write(event, &mut out);
        out
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing::Sample;

    const RECORD: &str =
        r#"{"recipientAccountId":"012345678901","awsRegion":"eu-west-1","eventCategory":"Management"}"#;

    #[track_caller]
    fn check(template: &str, record: &str, expected: &str) {
        let template = Template::parse(template).unwrap();
        assert_eq!(template.text(&Sample::new(record).event()), expected);
    }

    #[test]
    fn places_are_filled_from_the_event() {
        check("aws/{account}/{region}/{category}", RECORD, "aws/012345678901/eu-west-1/Management");
        check("{account}{account}x", RECORD, "012345678901012345678901x");
        check("fixed", RECORD, "fixed");
        check("{account}", r#"{"userIdentity":{"accountId":"1"}}"#, "1");
        check("{region}/{category}", "{}", "unknown/unknown");
    }

    #[test]
    fn whatever_an_event_says_is_plain_and_short() {
        check("{region}", r#"{"awsRegion":"a\r\nX-Evil: b/../ü"}"#, "a--X-Evil--b-..--");
        check("{region}", &format!(r#"{{"awsRegion":"{}"}}"#, "x".repeat(1000)), &"x".repeat(64));
        check("{region}", r#"{"awsRegion":{"a":1}}"#, "--a--1-");
    }

    #[test]
    fn only_places_make_a_template_differ() {
        assert!(Template::parse("a b").unwrap().is_fixed());
        assert!(Template::parse("").unwrap().is_fixed());
        assert!(!Template::parse("a{region}").unwrap().is_fixed());
    }

    #[test]
    fn an_unknown_place_is_an_error_that_names_the_known_ones() {
        for (text, found) in
            [("{acount}", "`{acount}`"), ("a{region", "`{region`"), ("a}b{region}", "`}`"), ("{}", "`{}`")]
        {
            let error = Template::parse(text).unwrap_err();
            assert!(
                error.starts_with(found) && error.ends_with("use {account}, {region}, {category}"),
                "{error}"
            );
        }
    }
}
