//! Finds the events in inflated bytes, whatever the envelope, with no more of them in memory than one event needs.

use super::fields::{self, Scanner};
use super::json::{self, Expect, Stop, Walk, peek, space};
use super::{ContentKind, DocumentKind};
use crate::event::EventSpans;
use crate::text::unescape_in_place;

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// The state of reading a file. Positions count from the start of the buffer that [`run`](Self::run) is given.
#[derive(Debug)]
pub(super) struct Splitter {
    place: Place,
    document: Document,
    position: usize,
    /// Where the first event found begins, and with it the chunk.
    origin: usize,
    /// What follows the last event found.
    end: usize,
    found: Vec<EventSpans>,
    found_max: usize,
    index: u64,
    depth_max: u32,
    event_bytes_max: usize,
    at_start: bool,
    content: Option<ContentKind>,
    documents_without_events: u64,
}

/// Where in the file the next token stands.
#[derive(Debug)]
enum Place {
    BetweenDocuments,
    /// In a document that is an object.
    Member(Expect),
    /// In the value of a member that nobody needs.
    Skipping(Walk),
    /// In an array of events.
    Element(Expect, Holder),
    /// At the start of a document that is itself an event.
    Event,
}

/// What an array of events belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holder {
    File,
    Records,
    LogEvents,
}

/// What is known of the current document.
#[derive(Debug, Default)]
struct Document {
    /// Where it begins, as long as it may turn out to be an event.
    start: Option<usize>,
    key: Key,
    holds_events: bool,
    control_message: bool,
    foreign_message: bool,
    digest: bool,
    config_items: bool,
    config_snapshot: bool,
}

/// The keys that tell what a document is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Key {
    Records,
    LogEvents,
    MessageType,
    /// One that only an event has.
    Event,
    DigestObject,
    ConfigItems,
    ConfigSnapshot,
    #[default]
    Other,
}

impl Splitter {
    /// A splitter that hands over after `found_max` events.
    pub(super) fn new(found_max: usize, depth_max: u32, event_bytes_max: usize) -> Self {
        Self {
            place: Place::BetweenDocuments,
            document: Document::default(),
            position: 0,
            origin: 0,
            end: 0,
            found: Vec::new(),
            found_max,
            index: 0,
            depth_max,
            event_bytes_max,
            at_start: true,
            content: None,
            documents_without_events: 0,
        }
    }

    /// Reads on in the buffer; says why it stops. It never ends but by stopping.
    pub(super) fn run(&mut self, bytes: &mut [u8]) -> Stop {
        loop {
            let step = match self.place {
                Place::BetweenDocuments => self.document_start(bytes),
                Place::Member(expect) => self.member(bytes, expect),
                Place::Skipping(_) => self.skipping(bytes),
                Place::Element(expect, holder) => self.element(bytes, expect, holder),
                Place::Event => self.document_event(bytes),
            };
            if let Err(stop) = step {
                return stop;
            }
        }
    }

    /// Takes the events found since the last call, their chunk's first byte and what follows their last byte.
    pub(super) fn take_found(&mut self) -> Option<(Vec<EventSpans>, usize, usize)> {
        if self.found.is_empty() {
            return None;
        }
        Some((std::mem::take(&mut self.found), self.origin, self.end))
    }

    /// The first byte of the buffer that is still needed.
    pub(super) fn needed_from(&self) -> usize {
        match self.place {
            Place::Member(_) | Place::Skipping(_) | Place::Event => {
                self.document.start.unwrap_or(self.position)
            }
            _ => self.position,
        }
    }

    /// Follows a buffer whose first `bytes` bytes were taken away. All found events have to be taken before.
    pub(super) fn shift(&mut self, bytes: usize) {
        self.position -= bytes;
        self.document.start = self.document.start.map(|start| start - bytes);
    }

    /// Gives up holding a document that may be an event, so that its bytes can go; false if nothing was held.
    pub(super) fn let_go(&mut self) -> bool {
        !matches!(self.place, Place::Event) && self.document.start.take().is_some()
    }

    /// How many events were found so far.
    pub(super) fn events(&self) -> u64 {
        self.index
    }

    /// Documents without a place for events that were skipped.
    pub(super) fn documents_without_events(&self) -> u64 {
        self.documents_without_events
    }

    /// What the file holds, if it may end here.
    pub(super) fn finish(&self) -> Option<ContentKind> {
        matches!(self.place, Place::BetweenDocuments).then(|| self.content.unwrap_or(ContentKind::Empty))
    }

    fn space(&mut self, bytes: &[u8]) {
        self.position = space(bytes, self.position, &mut false);
    }

    fn document_start(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        if std::mem::take(&mut self.at_start) && bytes.starts_with(BYTE_ORDER_MARK) {
            self.position += BYTE_ORDER_MARK.len();
        }
        self.space(bytes);
        match peek(bytes, self.position)? {
            b'{' => {
                self.document = Document { start: Some(self.position), ..Document::default() };
                self.place = Place::Member(Expect::KeyOrEnd);
            }
            b'[' => {
                self.holds(ContentKind::Array);
                self.place = Place::Element(Expect::ElementOrEnd, Holder::File);
            }
            _ => return Err(Stop::Bad(self.position)),
        }
        self.position += 1;
        Ok(())
    }

    fn member(&mut self, bytes: &[u8], expect: Expect) -> Result<(), Stop> {
        self.space(bytes);
        let byte = peek(bytes, self.position)?;
        match (expect, byte) {
            (Expect::Key | Expect::KeyOrEnd, b'"') => return self.member_key(bytes),
            (Expect::Colon, b':') => self.place = Place::Member(Expect::Value),
            (Expect::Value, _) => return self.member_value(bytes, byte),
            (Expect::Rest, b',') => self.place = Place::Member(Expect::Key),
            (Expect::Rest | Expect::KeyOrEnd, b'}') => self.document_end(),
            _ => return Err(Stop::Bad(self.position)),
        }
        self.position += 1;
        Ok(())
    }

    fn member_key(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        let start = self.position + 1;
        let (close, _) = json::string(bytes, start)?;
        let key = Key::of(&fields::plain_key(bytes, start, close));
        if key == Key::Event && !self.document.holds_events {
            let document_start = self.document.start.ok_or(Stop::Large(self.position))?;
            self.holds(ContentKind::Events);
            self.position = document_start;
            self.place = Place::Event;
            return Ok(());
        }
        match key {
            Key::DigestObject => self.document.digest = true,
            Key::ConfigItems => self.document.config_items = true,
            Key::ConfigSnapshot => self.document.config_snapshot = true,
            _ => {}
        }
        self.document.key = key;
        self.position = close + 1;
        self.place = Place::Member(Expect::Colon);
        Ok(())
    }

    fn member_value(&mut self, bytes: &[u8], byte: u8) -> Result<(), Stop> {
        let holder = match self.document.key {
            Key::Records if byte != b'[' => return Err(Stop::Bad(self.position)),
            Key::Records => {
                self.holds(ContentKind::Records);
                Some(Holder::Records)
            }
            Key::LogEvents if self.document.foreign_message => None,
            Key::LogEvents => {
                self.holds(ContentKind::CloudWatch);
                (byte == b'[' && !self.document.control_message).then_some(Holder::LogEvents)
            }
            Key::MessageType if byte == b'"' => {
                let (close, _) = json::string(bytes, self.position + 1)?;
                let kind = fields::plain_key(bytes, self.position + 1, close);
                self.document.control_message = *kind == *b"CONTROL_MESSAGE";
                self.document.foreign_message = !self.document.control_message && *kind != *b"DATA_MESSAGE";
                None
            }
            _ => None,
        };
        if let Some(holder) = holder {
            self.position += 1;
            self.place = Place::Element(Expect::ElementOrEnd, holder);
        } else {
            // The document's own braces are the first level.
            self.place = Place::Skipping(Walk::new(self.depth_max.saturating_sub(1)));
        }
        Ok(())
    }

    fn skipping(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        let Place::Skipping(walk) = &mut self.place else { return Ok(()) };
        walk.run(bytes, &mut self.position, &mut false)?;
        self.place = Place::Member(Expect::Rest);
        Ok(())
    }

    fn element(&mut self, bytes: &mut [u8], expect: Expect, holder: Holder) -> Result<(), Stop> {
        self.space(bytes);
        match (expect, peek(bytes, self.position)?) {
            (Expect::Rest, b',') => {
                self.position += 1;
                self.place = Place::Element(Expect::Value, holder);
            }
            (Expect::Rest | Expect::ElementOrEnd, b']') => {
                self.position += 1;
                self.place = match holder {
                    Holder::File => Place::BetweenDocuments,
                    Holder::Records | Holder::LogEvents => Place::Member(Expect::Rest),
                };
            }
            (Expect::Value | Expect::ElementOrEnd, b'{') => {
                self.room_for_one()?;
                self.position = match holder {
                    Holder::LogEvents => self.log_event(bytes)?,
                    Holder::File | Holder::Records => self.event(bytes, self.position)?,
                };
                self.place = Place::Element(Expect::Rest, holder);
            }
            _ => return Err(Stop::Bad(self.position)),
        }
        Ok(())
    }

    fn document_event(&mut self, bytes: &mut [u8]) -> Result<(), Stop> {
        self.room_for_one()?;
        self.position = self.event(bytes, self.position)?;
        self.document = Document::default();
        self.place = Place::BetweenDocuments;
        Ok(())
    }

    fn document_end(&mut self) {
        if !self.document.holds_events {
            let kind = match &self.document {
                Document { digest: true, .. } => DocumentKind::Digest,
                Document { config_snapshot: true, .. } => DocumentKind::ConfigSnapshot,
                Document { config_items: true, .. } => DocumentKind::ConfigHistory,
                _ => DocumentKind::Other,
            };
            self.documents_without_events += 1;
            self.content = self.content.or(Some(ContentKind::NoRecords(kind)));
        }
        self.document = Document::default();
        self.place = Place::BetweenDocuments;
    }

    /// Notes that the document has a place for events; the first such document names the file's kind.
    fn holds(&mut self, kind: ContentKind) {
        self.document.holds_events = true;
        if kind != ContentKind::Events {
            self.document.start = None;
        }
        if matches!(self.content, None | Some(ContentKind::NoRecords(_))) {
            self.content = Some(kind);
        }
    }

    fn room_for_one(&self) -> Result<(), Stop> {
        if self.found.len() >= self.found_max { Err(Stop::Full) } else { Ok(()) }
    }

    /// Scans the event at `start` and notes it; returns what follows it.
    fn event(&mut self, bytes: &mut [u8], start: usize) -> Result<usize, Stop> {
        let origin = if self.found.is_empty() { start } else { self.origin };
        let mut scanner = Scanner::new(bytes, origin, self.depth_max);
        let end = scanner.event(start)?;
        if end - start > self.event_bytes_max {
            return Err(Stop::Large(start));
        }
        let Scanner { breaks, spans, .. } = scanner;
        let range = (start - origin) as u32..(end - origin) as u32;
        self.origin = origin;
        self.found.push(EventSpans { range, index: self.index, fields: spans });
        self.index += 1;
        self.end = end;
        if breaks && let Some(event) = bytes.get_mut(start..end) {
            // No string can hold one as it is, so every line break stands between tokens.
            event.iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')).for_each(|byte| *byte = b' ');
        }
        Ok(end)
    }

    /// Scans the event in the `message` of the log event at the position; returns what follows the log event.
    fn log_event(&mut self, bytes: &mut [u8]) -> Result<usize, Stop> {
        let outer = fields::log_event(bytes, self.position, self.depth_max)?;
        if outer.end - self.position > self.event_bytes_max {
            return Err(Stop::Large(self.position));
        }
        // The whole log event is there, so this happens once: what fails from here on fails for good.
        let message = bytes.get_mut(outer.start..outer.close).unwrap_or_default();
        let close = outer.start + unescape_in_place(message);
        let inner = bytes.get_mut(..close).unwrap_or_default();
        let start = space(inner, outer.start, &mut false);
        let end = self.event(inner, start).map_err(|stop| match stop {
            Stop::More => Stop::Bad(close),
            other => other,
        })?;
        let rest = space(inner, end, &mut false);
        if rest != close {
            self.found.pop();
            self.index -= 1;
            return Err(Stop::Bad(rest));
        }
        Ok(outer.end)
    }
}

impl Key {
    fn of(key: &[u8]) -> Self {
        match key {
            b"Records" => Key::Records,
            b"logEvents" => Key::LogEvents,
            b"messageType" => Key::MessageType,
            b"eventVersion" | b"eventID" | b"eventId" => Key::Event,
            b"digestS3Object" => Key::DigestObject,
            b"configurationItems" => Key::ConfigItems,
            b"configSnapshotId" => Key::ConfigSnapshot,
            _ => Key::Other,
        }
    }
}
