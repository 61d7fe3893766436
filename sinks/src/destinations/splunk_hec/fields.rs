//! The additions as indexed fields: flat texts under names that Splunk does not use itself.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;

use super::super::CommonSettings;
use crate::{Event, encode};

/// Longest text of the fields' names besides labels, and of the position.
const OVERHEAD: usize = r#""trailship_actor_class":"","trailship_actor_kind":"","trailship_actor_service":"","trailship_actor_principal":"","trailship_actor_role":"","trailship_record":"18446744073709551615","#.len();

/// An upper bound of what [`write`] writes, besides the braces.
pub(super) fn len(event: &Event, common: &CommonSettings) -> usize {
    let labels = event.file().labels.iter().chain(&common.labels);
    // A name may grow by the prefix of names that Splunk reserves.
    let labels = labels.map(|(name, value)| name.len() + encode::string_len(value) + 12);
    event.additions().map_or(0, <[u8]>::len) + OVERHEAD + labels.sum::<usize>()
}

/// Writes the object. Flat texts only: a nested value would be refused.
pub(super) fn write(event: &Event, common: &CommonSettings, out: &mut Vec<u8>) {
    out.push(b'{');
    let facts = event.additions().and_then(|json| serde_json::from_slice::<Facts<'_>>(json).ok());
    let actor = facts.unwrap_or_default().actor;
    let members = [
        ("trailship_actor_class", actor.class),
        ("trailship_actor_kind", actor.kind),
        ("trailship_actor_service", actor.service),
        ("trailship_actor_principal", actor.principal),
        ("trailship_actor_role", actor.role),
    ];
    for (key, value) in members {
        if let Some(value) = value {
            encode::write_member(out, key, &value);
        }
    }
    encode::write_member(out, "trailship_record", &event.index().to_string());
    let labels = event.file().labels.iter().chain(&common.labels);
    let labels: BTreeMap<_, _> = labels.map(|(label, value)| (name(label), value)).collect();
    for (name, value) in labels {
        encode::write_member(out, &name, value);
    }
    out.push(b'}');
}

/// What becomes fields.
#[derive(Default, Deserialize)]
struct Facts<'a> {
    #[serde(borrow, default)]
    actor: Actor<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Actor<'a> {
    #[serde(borrow)]
    class: Option<Cow<'a, str>>,
    #[serde(borrow)]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    service: Option<Cow<'a, str>>,
    #[serde(borrow)]
    principal: Option<Cow<'a, str>>,
    #[serde(borrow)]
    role: Option<Cow<'a, str>>,
}

/// A label's name as that of an indexed field: letters, digits and underscores, and none that Splunk uses.
fn name(label: &str) -> String {
    let name: String = label.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    let reserved =
        ["host", "source", "sourcetype", "index", "time", "event", "linecount", "punct", "timestamp"];
    if name.is_empty()
        || name.starts_with('_')
        || name.starts_with("trailship_")
        || reserved.contains(&name.as_str())
    {
        return format!("label_{name}");
    }
    name
}
