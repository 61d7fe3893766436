//! An event as a Logstash pipeline expects it: the record's own fields, `@timestamp`, and `@metadata` with its id.

use crate::destinations::CommonSettings;
use crate::{Body, Event, encode};

const TIMESTAMP_LEN: usize = r#","@timestamp":"2023-07-10T11:42:01.000Z""#.len();

/// What stands before an event's id. `@metadata` is seen by filters and outputs, and never stored.
/// <https://www.elastic.co/docs/reference/beats/filebeat/filebeat-deduplication>
const METADATA: &str = concat!(
    r#""@metadata":{"beat":"trailship","type":"_doc","version":""#,
    env!("CARGO_PKG_VERSION"),
    r#"","_id":"#
);

/// An upper bound of the length of an event's document.
pub(crate) fn len_max(common: &CommonSettings, event: &Event) -> usize {
    let metadata = METADATA.len() + event.document_id_len() + ",}".len();
    event.range().len() + TIMESTAMP_LEN + metadata + common.trailship_len(event) + 1
}

/// Adds an event's document to `body`; `before` may put in front of it what says its length. `members` is scratch space.
///
/// An event without a time gets no `@timestamp`: Logstash then takes the time of receipt, as it does for any other.
pub(crate) fn write<'a>(
    common: &CommonSettings,
    body: &mut Body<'a>,
    event: &'a Event,
    members: &mut Vec<u8>,
    before: impl FnOnce(&mut Body<'a>, usize),
) {
    members.clear();
    if let Some(time) = event.time() {
        encode::write_member(members, "@timestamp", &time.to_rfc3339_millis());
    }
    if !members.is_empty() {
        members.push(b',');
    }
    members.extend_from_slice(METADATA.as_bytes());
    encode::write_string(members, &event.document_id());
    members.push(b'}');
    let shared = common.trailship(members, event);
    before(body, encode::spliced_len(event, members.len() + shared.len()));
    encode::splice(body, event, members, shared);
}
