//! What a bulk answer says of each event.

use std::fmt;
use std::sync::atomic::Ordering;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use super::super::{by_status, garbled};
use super::{DocumentId, Elasticsearch, Format};
use crate::{Answer, Judgement, Reason, ReasonCode, Verdict};

#[derive(Deserialize)]
struct Bulk {
    items: Vec<Entry>,
}

/// An item under the name of its operation, of which there is one: it is the one that was asked for.
struct Entry(Option<Item>);

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EntryVisitor)
    }
}

struct EntryVisitor;

impl<'de> Visitor<'de> for EntryVisitor {
    type Value = Entry;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an item under the name of its operation")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entry, A::Error> {
        let item = map.next_entry::<IgnoredAny, Item>()?.map(|(_, item)| item);
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Entry(item))
    }
}

#[derive(Deserialize)]
struct Item {
    status: u16,
    error: Option<Fault>,
    failure_store: Option<String>,
}

impl Item {
    /// Stored, but not in the data stream itself: its pipeline or mapping refused the document.
    /// <https://www.elastic.co/docs/manage-data/data-store/data-streams/failure-store>
    fn is_redirected(&self) -> bool {
        self.error.is_none() && self.failure_store.as_deref() == Some("used")
    }
}

#[derive(Default, Deserialize)]
struct Fault {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    reason: Option<String>,
    caused_by: Option<Cause>,
}

#[derive(Deserialize)]
struct Cause {
    #[serde(default)]
    reason: Option<String>,
}

/// The answer to a request that failed as a whole.
#[derive(Deserialize)]
struct Failure {
    error: WholeFault,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum WholeFault {
    Told(Fault),
    Text(String),
}

/// What has to be done about an item that was answered 400.
enum Blame {
    /// The mapping does not take the event's structure.
    Mapping,
    /// The event lacks what every document of the target must have.
    Content,
    /// The set-up is at fault: this would be the answer to any event.
    SetUp(&'static str),
    /// Not known: needs a witness.
    Unknown,
}

/// Types that speak of the document's structure.
const MAPPING_TYPES: &[&str] =
    &["document_parsing_exception", "mapper_parsing_exception", "strict_dynamic_mapping_exception"];

/// Texts that speak of the document's structure under a type that does not.
const MAPPING_TEXTS: &[&str] = &[
    "immense term",
    "bytes can be at most",
    "limit of total fields",
    "limit of mapping depth",
    "maximum depth limit",
];

/// Types and texts that speak of the set-up, with the remedy.
const SET_UP: &[(&str, &str)] = &[
    ("index_closed_exception", "open the index"),
    ("invalid_index_name_exception", "correct `index`"),
    ("document id is not supported", "set document_id = \"none\": this collection takes no ids"),
    ("pipeline with id", "create the pipeline, or correct `pipeline`"),
    ("only write ops with an op_type of create", "correct `data_stream`"),
    ("no write index is defined", "give the alias a write index"),
    ("shards open", "raise cluster.max_shards_per_node, or delete indices"),
];

impl Elasticsearch {
    pub(super) fn read_answer(&self, count: usize, answer: &Answer) -> Judgement {
        if answer.status != 200 {
            return self.read_failure(answer);
        }
        let Ok(bulk) = serde_json::from_slice::<Bulk>(&answer.body) else {
            return garbled(answer, "the answer to a bulk request is not one");
        };
        if bulk.items.len() != count {
            let text = format!("{count} events were sent and {} answered", bulk.items.len());
            return garbled(answer, &text);
        }
        let redirected =
            bulk.items.iter().filter(|Entry(item)| item.as_ref().is_some_and(Item::is_redirected));
        self.note_redirected(redirected.count() as u64);
        let items = bulk.items.into_iter().map(|Entry(item)| Some(self.read_item(item?)));
        match items.collect::<Option<Vec<_>>>() {
            Some(verdicts) => Judgement::Each(verdicts),
            None => garbled(answer, "an item of the bulk answer is empty"),
        }
    }

    fn read_failure(&self, answer: &Answer) -> Judgement {
        let text = match serde_json::from_slice::<Failure>(&answer.body) {
            Ok(Failure { error: WholeFault::Told(fault) }) => fault.text(),
            Ok(Failure { error: WholeFault::Text(text) }) => text,
            Err(_) => answer.excerpt(&self.redactor),
        };
        let text = self.redactor.clean(&text);
        let unknown_parameter =
            text.contains("unrecognized parameter") && text.contains("require_data_stream");
        if answer.status == 400
            && unknown_parameter
            && self.require_data_stream.swap(false, Ordering::Relaxed)
        {
            let why =
                Reason::new(ReasonCode::Other, "the server does not know require_data_stream: sent without");
            return Judgement::Unavailable { why: why.with_status(400), retry_after: None };
        }
        let remedy = match answer.status {
            401 | 403 if self.service.is_some() => {
                "signature refused, check `sign`, `region` and `aws`, and that the policies let this identity write"
            }
            401 | 403 => "credentials refused, check `api_key` or its like, and that it may create documents",
            _ => "check `endpoints` and the server's set-up",
        };
        by_status(answer, &text, remedy)
    }

    fn read_item(&self, item: Item) -> Verdict {
        let fault = item.error.unwrap_or_default();
        let reason = |code, text: &str| Reason::new(code, self.redactor.clean(text)).with_status(item.status);
        let why = |code| reason(code, &fault.text());
        match item.status {
            200 | 201 if fault.kind.is_empty() => Verdict::Delivered,
            409 if self.is_replay(&fault) => Verdict::Duplicate,
            400 if self.is_about_ids(&fault) => {
                let text = "the collection takes no document ids: sent again without";
                Verdict::Retry(reason(ReasonCode::Other, text))
            }
            400 => match fault.blame() {
                // Everything but a string is refused in that format already: there is no other shape.
                Blame::Mapping if self.format == Format::Native => Verdict::Reshape(why(ReasonCode::Mapping)),
                Blame::Mapping => Verdict::Refused { why: why(ReasonCode::Mapping), named: true },
                Blame::Content => Verdict::Refused { why: why(ReasonCode::Invalid), named: true },
                Blame::SetUp(remedy) => {
                    Verdict::Denied(reason(ReasonCode::Misconfigured, &format!("{remedy}: {}", fault.text())))
                }
                Blame::Unknown => Verdict::Refused { why: why(ReasonCode::Invalid), named: false },
            },
            413 => Verdict::Refused { why: why(ReasonCode::TooLarge), named: true },
            401 | 403 if fault.kind.contains("security") => {
                let text = format!("check the rights of the credentials: {}", fault.text());
                Verdict::Denied(reason(ReasonCode::Unauthorized, &text))
            }
            401 | 403 => {
                let text =
                    format!("the index takes no writes, lift its block or free its disk: {}", fault.text());
                Verdict::Denied(reason(ReasonCode::Misconfigured, &text))
            }
            404 => {
                let text =
                    format!("the index or data stream is missing, install its template: {}", fault.text());
                Verdict::Denied(reason(ReasonCode::Misconfigured, &text))
            }
            429 => Verdict::Retry(why(ReasonCode::Throttled)),
            500..=599 => Verdict::Retry(why(ReasonCode::ServerError)),
            _ => Verdict::Retry(why(ReasonCode::Garbled)),
        }
    }

    /// Whether the destination takes no ids at all, and we may do without: from then on none are sent.
    /// <https://docs.aws.amazon.com/opensearch-service/latest/developerguide/serverless-overview.html>
    fn is_about_ids(&self, fault: &Fault) -> bool {
        if self.document_id != DocumentId::Auto || !fault.refuses_ids() {
            return false;
        }
        if self.takes_ids.swap(false, Ordering::Relaxed) {
            tracing::warn!(
                code = "document_ids_refused",
                sink = self.common.name,
                "this collection takes no document ids: events are sent without from now on, and one that is sent \
                 twice is stored twice; set document_id = \"none\" to say so, or use a collection for search"
            );
        }
        true
    }

    /// Counts documents that landed in a failure store, and says so at the first, the tenth, the hundredth…
    fn note_redirected(&self, count: u64) {
        if count == 0 {
            return;
        }
        let before = self.redirected.fetch_add(count, Ordering::Relaxed);
        let total = before.saturating_add(count);
        if before.checked_ilog10() != total.checked_ilog10() {
            tracing::warn!(
                code = "failure_store_used",
                sink = self.common.name,
                total,
                "the data stream's pipeline or mapping refuses events: they are kept in its failure store, look there"
            );
        }
    }

    /// Whether a 409 means that the document is there already, which needs an id of ours.
    fn is_replay(&self, fault: &Fault) -> bool {
        let known = fault.kind.is_empty() || fault.kind == "version_conflict_engine_exception";
        known && self.document_id != DocumentId::None
    }
}

impl Fault {
    /// The fault in one line, with its cause.
    fn text(&self) -> String {
        let cause = self.caused_by.as_ref().and_then(|cause| cause.reason.as_deref());
        match cause {
            Some(cause) if !cause.is_empty() => format!("{} ({cause})", self.head()),
            _ => self.head(),
        }
    }

    fn head(&self) -> String {
        match &self.reason {
            Some(reason) => format!("{}: {reason}", self.kind),
            None => self.kind.clone(),
        }
    }

    /// Exactly the words of a collection of OpenSearch Serverless: an event that quotes them changes nothing.
    fn refuses_ids(&self) -> bool {
        let reason = self.reason.as_deref().unwrap_or_default();
        self.kind == "illegal_argument_exception" && reason.starts_with("Document ID is not supported")
    }

    /// The destination's own words come first: a mapping fault quotes the event, whose words decide nothing.
    fn blame(&self) -> Blame {
        let text = self.head().to_lowercase();
        let known = MAPPING_TYPES.contains(&self.kind.as_str());
        if known || MAPPING_TEXTS.iter().any(|mark| text.contains(mark)) {
            return Blame::Mapping;
        }
        if text.contains("data stream timestamp field") {
            return Blame::Content;
        }
        let set_up = SET_UP.iter().find(|(mark, _)| text.contains(mark));
        set_up.map_or(Blame::Unknown, |&(_, remedy)| Blame::SetUp(remedy))
    }
}
