//! Texts with places for what an event says of itself, from a fixed list.

use std::borrow::Cow;

use cloudtrail::Field;

use crate::Event;

/// Longest text that an event may put into a place.
const VALUE_CHARS_MAX: usize = 256;
/// What stands for a text that an event does not have.
const UNKNOWN: &str = "unknown";

/// A checked template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    Place(Place),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Account,
    Region,
    Category,
    EventName,
    EventId,
    Date,
}

const PLACES: [(&str, Place); 6] = [
    ("{account}", Place::Account),
    ("{region}", Place::Region),
    ("{category}", Place::Category),
    ("{event_name}", Place::EventName),
    ("{event_id}", Place::EventId),
    ("{date}", Place::Date),
];

impl Template {
    /// Reads a template; the error says what is known, and does not quote the text: it may be a secret.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let end = rest.find(['{', '}']).unwrap_or(rest.len());
            let (literal, after) = rest.split_at(end);
            if !literal.is_empty() {
                parts.push(Part::Literal(literal.to_owned()));
            }
            rest = after;
            if !rest.is_empty() {
                let known = PLACES.iter().find_map(|&(name, place)| Some((rest.strip_prefix(name)?, place)));
                let Some((after, place)) = known else {
                    let names: Vec<&str> = PLACES.iter().map(|&(name, _)| name).collect();
                    return Err(format!("a place that is not known: use {}", names.join(", ")));
                };
                parts.push(Part::Place(place));
                rest = after;
            }
        }
        Ok(Self { parts })
    }

    /// What stands before the first place.
    pub(super) fn start(&self) -> &str {
        match self.parts.first() {
            Some(Part::Literal(text)) => text,
            _ => "",
        }
    }

    /// Whether it says the same for every event.
    pub(super) fn is_fixed(&self) -> bool {
        !self.parts.iter().any(|part| matches!(part, Part::Place(_)))
    }

    /// The texts between the places.
    pub(super) fn literals(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Literal(text) => Some(text.as_str()),
            Part::Place(_) => None,
        })
    }

    /// Writes what `event` puts into the places, and nothing else.
    pub(super) fn write_values(&self, event: &Event, out: &mut String) {
        for part in &self.parts {
            if let Part::Place(place) = part {
                // A line break cannot stand in a value.
                out.push_str(&place.of(event));
                out.push('\n');
            }
        }
    }

    /// The text for `event` as a part of an address: what is not a letter, a digit or one of `-._~` is encoded.
    /// <https://www.rfc-editor.org/rfc/rfc3986#section-2>
    pub(super) fn address(&self, event: Option<&Event>) -> String {
        self.text(event, |value, out| {
            // A segment of dots would lead elsewhere, also where they are encoded.
            let value = if value.bytes().all(|byte| byte == b'.') { UNKNOWN } else { value };
            for byte in value.bytes() {
                match byte {
                    b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                        out.push(char::from(byte));
                    }
                    _ => out.push_str(&format!("%{byte:02X}")),
                }
            }
        })
    }

    /// The text for `event` as a header's value: what is no printable ASCII becomes `?`.
    pub(super) fn header(&self, event: Option<&Event>) -> String {
        self.text(event, |value, out| {
            out.extend(value.chars().map(|c| if c == ' ' || c.is_ascii_graphic() { c } else { '?' }));
        })
    }

    fn text(&self, event: Option<&Event>, write: impl Fn(&str, &mut String)) -> String {
        let mut out = String::new();
        for part in &self.parts {
            match (part, event) {
                (Part::Literal(text), _) => out.push_str(text),
                (Part::Place(place), Some(event)) => write(&place.of(event), &mut out),
                (Part::Place(_), None) => out.push_str(UNKNOWN),
            }
        }
        out
    }
}

impl Place {
    fn of(self, event: &Event) -> Cow<'_, str> {
        let fields: &[Field] = match self {
            Self::Account => &[Field::RecipientAccountId, Field::AccountId, Field::IdentityAccountId],
            Self::Region => &[Field::AwsRegion],
            Self::Category => &[Field::EventCategory],
            Self::EventName => &[Field::EventName],
            Self::EventId => return short(event.document_id()),
            Self::Date => {
                let date = event.time().map(|time| time.to_rfc3339_millis());
                let date = date.and_then(|text| text.split('T').next().map(str::to_owned));
                return date.map_or(Cow::Borrowed("undated"), Cow::Owned);
            }
        };
        let found = fields.iter().find_map(|&field| event.text(field));
        found.map_or(Cow::Borrowed(UNKNOWN), short)
    }
}

fn short(text: Cow<'_, str>) -> Cow<'_, str> {
    if text.is_empty() {
        return Cow::Borrowed(UNKNOWN);
    }
    if text.len() <= VALUE_CHARS_MAX && !text.contains(char::is_control) {
        return text;
    }
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    Cow::Owned(text.chars().take(VALUE_CHARS_MAX).map(clean).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing::Sample;

    const RECORD: &str = concat!(
        r#"{"eventID":"e-1","eventName":"Run/Instances é","awsRegion":"eu-west-1","eventTime":"2023-07-10T11:42:01Z","#,
        r#""recipientAccountId":"012345678901","eventCategory":"Management"}"#
    );

    #[track_caller]
    fn check(record: &str, template: &str, address: &str, header: &str) {
        let event = Sample::new(record).event();
        let template = Template::parse(template).unwrap();
        assert_eq!(template.address(Some(&event)), address);
        assert_eq!(template.header(Some(&event)), header);
    }

    #[test]
    fn a_place_is_filled_with_what_the_event_says() {
        let all = "/{account}/{region}/{category}/{event_name}/{event_id}/{date}";
        check(
            RECORD,
            all,
            "/012345678901/eu-west-1/Management/Run%2FInstances%20%C3%A9/e-1/2023-07-10",
            "/012345678901/eu-west-1/Management/Run/Instances ?/e-1/2023-07-10",
        );
        let id = Sample::new("{}").event().document_id().into_owned();
        let expected = format!("/unknown/unknown/unknown/unknown/{id}/undated");
        check("{}", all, &expected, &expected);
        check("{}", "plain", "plain", "plain");
    }

    #[test]
    fn no_event_leads_out_of_its_place() {
        for (name, address) in [
            ("..", "/a/unknown/b"),
            (".", "/a/unknown/b"),
            ("../..", "/a/..%2F../b"),
            ("?x#y", "/a/%3Fx%23y/b"),
            ("a\\r\\nb", "/a/a%20%20b/b"),
            (" ", "/a/unknown/b"),
        ] {
            let event = Sample::new(&format!(r#"{{"eventName":"{name}"}}"#)).event();
            assert_eq!(
                Template::parse("/a/{event_name}/b").unwrap().address(Some(&event)),
                address,
                "{name}"
            );
        }
        let long = format!(r#"{{"eventName":"{}"}}"#, "x".repeat(10_000));
        let event = Sample::new(&long).event();
        assert_eq!(Template::parse("{event_name}").unwrap().address(Some(&event)).len(), VALUE_CHARS_MAX);
    }

    #[test]
    fn a_place_that_is_not_known_is_refused_without_being_quoted() {
        for bad in ["{acount}", "{", "}", "a{}b", "{account", "hunter2{x}"] {
            let error = Template::parse(bad).unwrap_err();
            assert!(error.contains("{account}") && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn events_with_the_same_values_are_of_one_group() {
        let group = |record: &str| {
            let mut out = String::new();
            Template::parse("{account}-{region}")
                .unwrap()
                .write_values(&Sample::new(record).event(), &mut out);
            out
        };
        assert_eq!(group(RECORD), group(&RECORD.replace("e-1", "e-2")));
        assert_ne!(group(RECORD), group(&RECORD.replace("eu-west-1", "eu-west-2")));
        assert_eq!(group("{}"), "unknown\nunknown\n");
    }
}
