//! One event: the bytes that AWS wrote, and where in them the fields are that others ask for.

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;

use crate::text::unescape;

/// The fields of an event that are noted while it is split off.
///
/// A field that is absent or JSON `null` has no span. Where a key stands twice, the last one counts.
/// Source: <https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-event-reference-record-contents.html>
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(usize)]
#[allow(missing_docs, reason = "each is the JSON key of the same name")]
pub enum Field {
    EventVersion,
    EventTime,
    EventSource,
    EventName,
    AwsRegion,
    SourceIpAddress,
    UserAgent,
    ErrorCode,
    ErrorMessage,
    /// `eventID`, or `eventId` of aggregated events.
    EventId,
    RequestId,
    EventType,
    EventCategory,
    RecipientAccountId,
    /// Top-level `accountId` of aggregated events.
    AccountId,
    ReadOnly,
    ManagementEvent,
    SharedEventId,
    VpcEndpointId,
    SessionCredentialFromConsole,
    /// `timeWindow.windowStart` of aggregated events.
    WindowStart,
    /// `userIdentity.type`.
    IdentityType,
    IdentityPrincipalId,
    IdentityArn,
    IdentityAccountId,
    IdentityAccessKeyId,
    IdentityUserName,
    IdentityInvokedBy,
    /// `userIdentity.sessionContext.sessionIssuer.arn`.
    IssuerArn,
    IssuerUserName,
    IssuerAccountId,
    /// `userIdentity.sessionContext.ec2RoleDelivery`.
    Ec2RoleDelivery,
    /// `userIdentity.inScopeOf`, whole.
    InScopeOf,
    /// `userIdentity.invokedByDelegate`, whole.
    InvokedByDelegate,
    /// `userIdentity.onBehalfOf.userId`.
    OnBehalfOfUserId,
    /// `userIdentity`, whole: tells an absent identity from an empty one.
    UserIdentity,
    /// `requestParameters`, whole.
    RequestParameters,
    /// `responseElements`, whole.
    ResponseElements,
    /// A key `trailship` that the record already had.
    Trailship,
}

impl Field {
    /// How many fields there are.
    pub const COUNT: usize = Field::Trailship as usize + 1;
}

/// What kind of JSON value a span covers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SpanKind {
    /// The field is absent or `null`.
    #[default]
    Absent,
    /// The content of a string without its quotes, free of escapes.
    Plain,
    /// The content of a string without its quotes, with escapes in it.
    Escaped,
    /// Any other value: a number, a boolean, an object, an array, as it stands.
    Other,
}

/// Where a field's value stands, counted from the first byte of its chunk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// Length in bytes.
    pub len: u32,
    /// What kind of value it is.
    pub kind: SpanKind,
}

/// Where one event and its fields stand in their chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventSpans {
    /// The event from its opening to its closing brace.
    pub range: Range<u32>,
    /// 0-based position in the log file.
    pub index: u64,
    /// One span a field, in the order of [`Field`].
    pub fields: [Span; Field::COUNT],
}

/// A piece of a log file's inflated bytes that holds whole events only.
#[derive(Clone, Debug)]
pub struct Chunk {
    bytes: Bytes,
    offset: u64,
    events: Vec<EventSpans>,
}

impl Chunk {
    /// A chunk of `bytes`, the first of which is byte `offset` of the inflated log file.
    ///
    /// Every range in `events` lies within `bytes`; a span outside reads as absent.
    #[must_use]
    pub fn new(bytes: Bytes, offset: u64, events: Vec<EventSpans>) -> Self {
        Self { bytes, offset, events }
    }

    /// The same chunk, its first event the one at position `first` of its log file.
    #[must_use]
    pub fn counted_from(mut self, first: u64) -> Self {
        for (event, index) in self.events.iter_mut().zip(first..) {
            event.index = index;
        }
        self
    }

    /// All bytes of the chunk.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Position of the first byte in the inflated log file.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// How many events the chunk holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether the chunk holds no event.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// The event at position `slot` of this chunk.
    #[must_use]
    pub fn event(&self, slot: usize) -> Option<EventRef<'_>> {
        self.events.get(slot).map(|spans| EventRef { bytes: &self.bytes, spans })
    }

    /// The events in the order of the file.
    pub fn events(&self) -> impl ExactSizeIterator<Item = EventRef<'_>> {
        self.events.iter().map(|spans| EventRef { bytes: &self.bytes, spans })
    }

    /// Bytes of memory that the chunk holds on to.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.bytes.len() + self.events.capacity() * size_of::<EventSpans>()
    }
}

/// A borrowed event.
#[derive(Clone, Copy, Debug)]
pub struct EventRef<'a> {
    bytes: &'a [u8],
    spans: &'a EventSpans,
}

impl<'a> EventRef<'a> {
    /// The event as AWS wrote it, from brace to brace; line breaks between tokens have become spaces.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes.get(self.range_usize()).unwrap_or_default()
    }

    /// Where the event stands in its chunk.
    #[must_use]
    pub fn range(&self) -> Range<u32> {
        self.spans.range.clone()
    }

    /// 0-based position in the log file.
    #[must_use]
    pub fn index(&self) -> u64 {
        self.spans.index
    }

    /// Whether the field is there and not `null`.
    #[must_use]
    pub fn has(&self, field: Field) -> bool {
        self.span(field).kind != SpanKind::Absent
    }

    /// What kind of value the field has.
    #[must_use]
    pub fn kind(&self, field: Field) -> SpanKind {
        self.span(field).kind
    }

    /// The field's value as it stands: a string's content without quotes and with its escapes, any other value whole.
    #[must_use]
    pub fn raw(&self, field: Field) -> Option<&'a [u8]> {
        let span = self.span(field);
        if span.kind == SpanKind::Absent {
            return None;
        }
        let start = span.start as usize;
        self.bytes.get(start..start + span.len as usize)
    }

    /// The field's value as text: a string unescaped, any other value as it stands.
    ///
    /// A lone surrogate becomes U+FFFD. `None` where the field is absent or `null`.
    #[must_use]
    pub fn text(&self, field: Field) -> Option<Cow<'a, str>> {
        let raw = self.raw(field)?;
        if self.kind(field) == SpanKind::Escaped {
            return Some(Cow::Owned(unescape(raw)));
        }
        // The reader has checked the bytes already; the lossy way reads them one by one.
        match std::str::from_utf8(raw) {
            Ok(text) => Some(Cow::Borrowed(text)),
            Err(_) => Some(String::from_utf8_lossy(raw)),
        }
    }

    /// Whether the field's text is `value`.
    #[must_use]
    pub fn is(&self, field: Field, value: &str) -> bool {
        match self.kind(field) {
            SpanKind::Absent => false,
            SpanKind::Escaped => self.text(field).is_some_and(|text| text == value),
            SpanKind::Plain | SpanKind::Other => self.raw(field) == Some(value.as_bytes()),
        }
    }

    /// Like [`text`](Self::text), with blank text taken for absent.
    #[must_use]
    pub fn filled(&self, field: Field) -> Option<Cow<'a, str>> {
        self.text(field).filter(|text| !text.chars().all(char::is_whitespace))
    }

    fn span(&self, field: Field) -> Span {
        self.spans.fields.get(field as usize).copied().unwrap_or_default()
    }

    fn range_usize(&self) -> Range<usize> {
        self.spans.range.start as usize..self.spans.range.end as usize
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn spans(range: Range<u32>, field: Field, span: Span) -> EventSpans {
        let mut fields = [Span::default(); Field::COUNT];
        fields[field as usize] = span;
        EventSpans { range, index: 7, fields }
    }

    #[test]
    fn a_chunk_gives_out_its_events_and_their_fields() {
        let bytes = Bytes::from_static(br#"{"a":"x\u0041"},{}"#);
        let name = Span { start: 6, len: 7, kind: SpanKind::Escaped };
        let second = EventSpans { range: 16..18, index: 8, fields: [Span::default(); Field::COUNT] };
        let chunk = Chunk::new(bytes, 11, vec![spans(0..15, Field::EventName, name), second]);
        assert_eq!((chunk.len(), chunk.offset(), chunk.is_empty()), (2, 11, false));
        let event = chunk.event(0).unwrap();
        assert_eq!((event.bytes(), event.index(), event.range()), (&br#"{"a":"x\u0041"}"#[..15], 7, 0..15));
        assert_eq!(event.raw(Field::EventName), Some(&br"x\u0041"[..7]));
        assert!(event.has(Field::EventName) && !event.has(Field::EventTime));
        assert_eq!(chunk.events().map(|event| event.index()).collect::<Vec<_>>(), [7, 8]);
        assert!(chunk.event(2).is_none());
        assert_eq!(chunk.memory_bytes(), 18 + 2 * size_of::<EventSpans>());
    }

    #[test]
    fn spans_outside_of_the_chunk_read_as_absent() {
        for (start, len) in [(0, 3), (3, 0), (u32::MAX, u32::MAX)] {
            let span = Span { start, len, kind: SpanKind::Plain };
            let chunk = Chunk::new(Bytes::from_static(b"{}"), 0, vec![spans(0..9, Field::EventName, span)]);
            let event = chunk.event(0).unwrap();
            assert_eq!(
                (event.bytes(), event.raw(Field::EventName), event.text(Field::EventName)),
                (&b""[..], None, None)
            );
        }
    }

    #[test]
    fn lone_surrogates_become_the_replacement_character() {
        let bytes = Bytes::from_static(br#"{"a":"\ud800 \"u\" \\ud800"}"#);
        let span = Span { start: 6, len: 20, kind: SpanKind::Escaped };
        let chunk = Chunk::new(bytes, 0, vec![spans(0..28, Field::UserAgent, span)]);
        assert_eq!(chunk.event(0).unwrap().text(Field::UserAgent).unwrap(), "\u{fffd} \"u\" \\ud800");
    }
}
