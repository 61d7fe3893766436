//! One event as a syslog message: the header of RFC 5424, the event as JSON, framed by its length.
//!
//! <https://www.rfc-editor.org/rfc/rfc5424#section-6>, <https://www.rfc-editor.org/rfc/rfc6587#section-3.4.1>

use cloudtrail::Field;

use super::super::{Additions, CommonSettings};
use super::shorten::shorten;
use crate::{Body, Event, encode};

/// Longest MSGID that the standard knows.
const MSGID_LEN_MAX: usize = 32;

/// What becomes of an event whose message is too long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Oversized {
    /// Its largest free-form parts are replaced by markers; the rest stays.
    #[default]
    Shorten,
    /// It is not sent.
    DeadLetter,
}

/// How a receiver tells where a message ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Framing {
    /// By its length, which stands before it.
    #[default]
    OctetCounting,
    /// By the line break behind it; an event has none inside.
    Newline,
}

impl Framing {
    /// What stands before a message of `len` bytes, and behind it.
    fn around(self, len: usize) -> (String, &'static [u8]) {
        match self {
            Self::OctetCounting => (format!("{len} "), b""),
            Self::Newline => (String::new(), b"\n"),
        }
    }

    /// Length of a frame around a message of `len` bytes.
    fn framed_len(self, len: usize) -> usize {
        let digits = len.checked_ilog10().unwrap_or(0) as usize + 1;
        len + if self == Self::Newline { 1 } else { digits + 1 }
    }
}

/// What stands in the field HOSTNAME.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Hostname {
    /// The same for all.
    Fixed(String),
    /// The account that the event is of; `-` where it names none.
    Account,
}

/// How events become messages.
#[derive(Clone, Debug)]
pub(super) struct Format {
    pub(super) common: CommonSettings,
    /// `facility * 8 + severity`.
    pub(super) priority: u8,
    pub(super) hostname: Hostname,
    pub(super) app_name: String,
    /// Longest message, its header included, its frame not.
    pub(super) message_bytes_max: usize,
    pub(super) oversized: Oversized,
    pub(super) framing: Framing,
}

impl Format {
    /// Exactly what [`write`](Self::write) adds, or more than [`frame_bytes_max`](Self::frame_bytes_max) where the
    /// event cannot be sent.
    pub(super) fn frame_len(&self, event: &Event) -> usize {
        let header = self.header(event);
        let plain = self.plain_len(event, &header);
        match self.shortened(event, plain, header.len()) {
            Some(json) => self.framing.framed_len(header.len() + json.len()),
            None => self.framing.framed_len(plain),
        }
    }

    /// The frame of the longest message.
    pub(super) fn frame_bytes_max(&self) -> usize {
        self.framing.framed_len(self.message_bytes_max)
    }

    /// Adds the event's frame.
    pub(super) fn write<'a>(&self, event: &'a Event, body: &mut Body<'a>) {
        let header = self.header(event);
        let plain = self.plain_len(event, &header);
        let json = self.shortened(event, plain, header.len());
        let len = json.as_ref().map_or(plain, |json| header.len() + json.len());
        let (before, behind) = self.framing.around(len);
        body.owned(before.as_bytes());
        body.owned(&header);
        match json {
            Some(json) => body.owned(&json),
            None => {
                let mut members = Vec::new();
                let shared = self.common.trailship(&mut members, event);
                encode::splice(body, event, &members, shared);
            }
        }
        body.owned(behind);
    }

    /// `<110>1 2023-07-10T11:42:01.000Z - cloudtrail - GetObject - `, up to where the JSON begins.
    fn header(&self, event: &Event) -> Vec<u8> {
        let time = event.time().map(|time| time.to_rfc3339_millis());
        let time = time.as_deref().unwrap_or("-");
        let account = event.text(Field::RecipientAccountId).or_else(|| event.text(Field::IdentityAccountId));
        let account = account.map(|account| printable(&account, 255));
        let host = match &self.hostname {
            Hostname::Fixed(name) => name,
            Hostname::Account => account.as_deref().unwrap_or("-"),
        };
        let name = event.text(Field::EventName).map(|name| printable(&name, MSGID_LEN_MAX));
        let name = name.as_deref().unwrap_or("-");
        format!("<{}>1 {time} {host} {} - {name} - ", self.priority, self.app_name).into_bytes()
    }

    /// Length of the whole event's message.
    fn plain_len(&self, event: &Event, header: &[u8]) -> usize {
        let mut members = Vec::new();
        let shared = self.common.trailship(&mut members, event);
        header.len() + encode::spliced_len(event, members.len() + shared.len())
    }

    /// The shortened event, if it has to be and can be.
    fn shortened(&self, event: &Event, plain: usize, header: usize) -> Option<Vec<u8>> {
        if plain <= self.message_bytes_max || self.oversized == Oversized::DeadLetter {
            return None;
        }
        let mut additions = Vec::new();
        if self.common.additions == Additions::Full {
            encode::write_additions(&mut additions, event, &self.common.labels);
        }
        shorten(event.bytes(), &additions, self.message_bytes_max.checked_sub(header)?)
    }
}

/// A field of the header: printable ASCII, anything else an underscore, `-` where nothing is left.
fn printable(text: &str, len_max: usize) -> String {
    let clean = |c: char| if c.is_ascii_graphic() { c } else { '_' };
    let field: String = text.chars().take(len_max).map(clean).collect();
    if field.is_empty() { "-".to_owned() } else { field }
}
