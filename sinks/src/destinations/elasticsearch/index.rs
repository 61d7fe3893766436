//! Index names made from an event's own date and place, always legal, whatever the event says.

use cloudtrail::{Field, Timestamp};

use crate::Event;

/// Longest index name in bytes.
/// <https://www.elastic.co/guide/en/elasticsearch/reference/current/indices-create-index.html>
const NAME_BYTES_MAX: usize = 255;
/// Longest text that an event may put into a name.
const FIELD_BYTES_MAX: usize = 64;
/// What stands for a date that an event does not have; its length bounds a date's part.
const UNDATED: &str = "undated";

/// A checked pattern such as `cloudtrail-{account}-%Y.%m.%d`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct IndexPattern {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    Place(Place),
    /// A run of date parts with what stands between them: without a date the whole run reads `undated`.
    Date(Vec<DatePart>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DatePart {
    Year,
    Month,
    Day,
    Separator(char),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Account,
    Region,
    Category,
}

impl IndexPattern {
    /// Reads a pattern; the error says what is wrong and what would be right.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            rest = match c {
                '%' => date(rest, &mut parts)?,
                '{' => place(rest, &mut parts)?,
                _ => literal(rest, &mut parts)?,
            };
        }
        let pattern = Self { parts };
        match pattern.parts.first() {
            None => Err("the name is empty: write one such as \"cloudtrail-%Y.%m.%d\"".into()),
            Some(Part::Literal(text)) if text.starts_with(['-', '_', '+', '.']) => {
                Err(format!("a name cannot start with `{}`: start with a letter", &text[..1]))
            }
            Some(_) if pattern.len_max() > NAME_BYTES_MAX => {
                Err(format!("names could be longer than {NAME_BYTES_MAX} bytes: shorten it"))
            }
            Some(_) => Ok(pattern),
        }
    }

    /// Longest name in bytes.
    pub(super) fn len_max(&self) -> usize {
        let len = |part: &Part| match part {
            Part::Literal(text) => text.len(),
            Part::Place(_) => FIELD_BYTES_MAX,
            Part::Date(parts) => UNDATED.len().max(parts.len() * 6),
        };
        self.parts.iter().map(len).sum()
    }

    /// The literal that every name starts with.
    pub(super) fn prefix(&self) -> &str {
        match self.parts.first() {
            Some(Part::Literal(text)) => text,
            _ => "",
        }
    }

    /// Whether every event gets the same name.
    pub(super) fn is_fixed(&self) -> bool {
        self.parts.iter().all(|part| matches!(part, Part::Literal(_)))
    }

    /// Writes the name for `event`, which happened at `time`.
    pub(super) fn write(&self, event: &Event, time: Option<Timestamp>, out: &mut String) {
        for part in &self.parts {
            match part {
                Part::Literal(text) => out.push_str(text),
                Part::Place(place) => write_legal(&place.of(event), out),
                Part::Date(parts) => write_date(time, parts, out),
            }
        }
    }
}

impl Place {
    fn of(self, event: &Event) -> String {
        let fields: &[Field] = match self {
            Self::Account => &[Field::RecipientAccountId, Field::AccountId, Field::IdentityAccountId],
            Self::Region => &[Field::AwsRegion],
            Self::Category => &[Field::EventCategory],
        };
        fields.iter().find_map(|&field| event.text(field)).unwrap_or_default().into_owned()
    }
}

fn date<'a>(text: &'a str, parts: &mut Vec<Part>) -> Result<&'a str, String> {
    let (first, mut rest) = date_part(text)?;
    let mut run = vec![first];
    loop {
        let mut chars = rest.chars();
        match chars.next() {
            Some(c @ ('-' | '.' | '_')) if chars.as_str().starts_with('%') => {
                let (next, after) = date_part(chars.as_str())?;
                run.extend([DatePart::Separator(c), next]);
                rest = after;
            }
            Some('%') => {
                let (next, after) = date_part(rest)?;
                run.push(next);
                rest = after;
            }
            _ => break,
        }
    }
    parts.push(Part::Date(run));
    Ok(rest)
}

fn date_part(text: &str) -> Result<(DatePart, &str), String> {
    for (code, part) in [("%Y", DatePart::Year), ("%m", DatePart::Month), ("%d", DatePart::Day)] {
        if let Some(rest) = text.strip_prefix(code) {
            return Ok((part, rest));
        }
    }
    let code: String = text.chars().take(2).collect();
    Err(format!("`{code}` is unknown: use %Y, %m and %d"))
}

fn place<'a>(text: &'a str, parts: &mut Vec<Part>) -> Result<&'a str, String> {
    for (code, place) in
        [("{account}", Place::Account), ("{region}", Place::Region), ("{category}", Place::Category)]
    {
        if let Some(rest) = text.strip_prefix(code) {
            parts.push(Part::Place(place));
            return Ok(rest);
        }
    }
    let code = text.split_inclusive('}').next().unwrap_or(text);
    Err(format!("`{code}` is unknown: use {{account}}, {{region}} and {{category}}"))
}

fn literal<'a>(text: &'a str, parts: &mut Vec<Part>) -> Result<&'a str, String> {
    let end = text.find(['%', '{']).unwrap_or(text.len());
    let (literal, rest) = text.split_at(end);
    match literal.chars().find(|&c| !is_legal(c)) {
        Some(c) => Err(format!("`{c}` cannot stand in a name: use a-z, 0-9, `-`, `_` and `.`")),
        None => {
            parts.push(Part::Literal(literal.to_owned()));
            Ok(rest)
        }
    }
}

fn is_legal(c: char) -> bool {
    matches!(c, 'a'..='z' | '0'..='9' | '-' | '_' | '.')
}

fn write_legal(text: &str, out: &mut String) {
    let start = out.len();
    for c in text.trim_start_matches(|c: char| !c.is_ascii_alphanumeric()).chars().take(FIELD_BYTES_MAX) {
        let c = c.to_ascii_lowercase();
        out.push(if is_legal(c) { c } else { '-' });
    }
    if out.len() == start {
        out.push_str("unknown");
    }
}

fn write_date(time: Option<Timestamp>, parts: &[DatePart], out: &mut String) {
    let Some((year, month, day)) = time.map(Timestamp::date) else {
        out.push_str(UNDATED);
        return;
    };
    let two = |number: i32, out: &mut String| {
        out.extend([number / 10, number % 10].map(|digit| char::from(b'0' + digit as u8)));
    };
    for part in parts {
        match part {
            DatePart::Year => {
                let year = year.clamp(0, 9999);
                two(year / 100, out);
                two(year % 100, out);
            }
            DatePart::Month => two(i32::from(month), out),
            DatePart::Day => two(i32::from(day), out),
            DatePart::Separator(c) => out.push(*c),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;
    use crate::testing::Sample;

    const RECORD: &str = r#"{"eventTime":"2023-07-09T23:59:59Z","awsRegion":"eu-west-1","eventCategory":"Management","recipientAccountId":"012345678901"}"#;

    #[track_caller]
    fn check(pattern: &str, record: &str, expected: &str) {
        let mut name = String::new();
        let event = Sample::new(record).event();
        IndexPattern::parse(pattern).unwrap().write(&event, event.time(), &mut name);
        assert_eq!(name, expected);
    }

    #[test]
    fn a_name_has_the_date_of_the_event() {
        check("cloudtrail-%Y.%m.%d", RECORD, "cloudtrail-2023.07.09");
        check("ct-%Y%m-x", RECORD, "ct-202307-x");
        check("plain", RECORD, "plain");
    }

    #[test]
    fn a_name_has_the_place_of_the_event() {
        check("ct-{account}-{region}-{category}-%Y", RECORD, "ct-012345678901-eu-west-1-management-2023");
        check("ct-{account}", r#"{"userIdentity":{"accountId":"111122223333"}}"#, "ct-111122223333");
    }

    #[test]
    fn an_event_without_a_date_is_undated() {
        check("cloudtrail-%Y.%m.%d", "{}", "cloudtrail-undated");
        check("ct-%Y.%m.%d-x", r#"{"eventTime":"yesterday"}"#, "ct-undated-x");
    }

    #[test]
    fn what_an_event_says_is_made_legal() {
        check("ct-{region}", r#"{"awsRegion":"../EU West\n\"*"}"#, "ct-eu-west---");
        check("{region}-x", r#"{"awsRegion":"_."}"#, "unknown-x");
        check("ct-{region}", "{}", "ct-unknown");
        check(
            "ct-{region}",
            &format!(r#"{{"awsRegion":"{}"}}"#, "r".repeat(999)),
            &format!("ct-{}", "r".repeat(64)),
        );
    }

    #[test]
    fn a_pattern_that_cannot_work_is_refused_with_the_remedy() {
        for (pattern, message) in [
            ("", "empty"),
            ("CloudTrail", "`C` cannot stand in a name"),
            ("a b", "` ` cannot stand"),
            ("-x", "cannot start with `-`"),
            (".x", "cannot start with `.`"),
            ("ct-%H", "`%H` is unknown: use %Y"),
            ("ct-%", "`%` is unknown"),
            ("ct-{user}", "`{user}` is unknown: use {account}"),
            ("ct-{acc", "`{acc` is unknown"),
            (&"x".repeat(256), "longer than 255 bytes"),
            ("{account}{region}{category}{account}", "longer than 255 bytes"),
        ] {
            let error = IndexPattern::parse(pattern).unwrap_err();
            assert!(error.contains(message), "{pattern}: {error}");
        }
    }

    proptest! {
        #[test]
        fn every_name_is_legal(region in any::<String>(), time in any::<String>()) {
            let record = serde_json::json!({ "awsRegion": region, "eventTime": time }).to_string();
            let pattern = IndexPattern::parse("{region}-%Y.%m.%d").unwrap();
            let mut name = String::new();
            let event = Sample::new(&record).event();
            pattern.write(&event, event.time(), &mut name);
            prop_assert!(name.chars().all(is_legal) && name.starts_with(|c: char| c.is_ascii_alphanumeric()));
            prop_assert!(name.len() <= pattern.len_max());
        }
    }
}
