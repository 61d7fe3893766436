//! One pass over an event: checks its JSON and notes where its fields are.

use std::borrow::Cow;

use super::json::{self, Stop, peek, skip, space};
use crate::event::{Field, Span, SpanKind};
use crate::text::unescape;

/// Scans one event. Positions in spans count from `origin`.
#[derive(Debug)]
pub(super) struct Scanner<'b> {
    pub(super) bytes: &'b [u8],
    pub(super) origin: usize,
    pub(super) depth_max: u32,
    /// Whether a line break stands between tokens.
    pub(super) breaks: bool,
    /// Filled by [`event`](Self::event).
    pub(super) spans: [Span; Field::COUNT],
    /// `eventId`, which counts only where `eventID` is missing.
    id_alternative: Span,
}

/// The objects in which fields are noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Event,
    Identity,
    Context,
    Issuer,
    OnBehalfOf,
    Window,
}

/// What is done with a member's value.
enum Target {
    Skip,
    Note(Field),
    NoteIdAlternative,
    /// Go into it if it is an object; note it as a whole, where there is a field for it.
    Enter(Level, Option<Field>),
}

impl<'b> Scanner<'b> {
    pub(super) fn new(bytes: &'b [u8], origin: usize, depth_max: u32) -> Self {
        let absent = Span::default();
        Self {
            bytes,
            origin,
            depth_max,
            breaks: false,
            spans: [absent; Field::COUNT],
            id_alternative: absent,
        }
    }

    /// Scans the event whose opening brace is at `at`; returns what follows its closing brace.
    pub(super) fn event(&mut self, at: usize) -> Result<usize, Stop> {
        if peek(self.bytes, at)? != b'{' {
            return Err(Stop::Bad(at));
        }
        let end = self.object(at, Level::Event)?;
        if let Some(id) = self.spans.get_mut(Field::EventId as usize)
            && id.kind == SpanKind::Absent
        {
            *id = self.id_alternative;
        }
        Ok(end)
    }

    /// Scans an object of a known level. It calls itself at most as often as there are levels.
    fn object(&mut self, open: usize, level: Level) -> Result<usize, Stop> {
        if level.depth() > self.depth_max {
            return Err(Stop::Deep(open));
        }
        let bytes = self.bytes;
        let mut at = space(bytes, open + 1, &mut self.breaks);
        if peek(bytes, at)? == b'}' {
            return Ok(at + 1);
        }
        loop {
            if peek(bytes, at)? != b'"' {
                return Err(Stop::Bad(at));
            }
            let (close, escaped) = json::string(bytes, at + 1)?;
            let key = bytes.get(at + 1..close).unwrap_or_default();
            let target = if escaped { level.target(unescape(key).as_bytes()) } else { level.target(key) };
            at = space(bytes, close + 1, &mut self.breaks);
            if peek(bytes, at)? != b':' {
                return Err(Stop::Bad(at));
            }
            at = space(bytes, at + 1, &mut self.breaks);
            at = self.member(at, level, &target)?;
            at = space(bytes, at, &mut self.breaks);
            match peek(bytes, at)? {
                b',' => at = space(bytes, at + 1, &mut self.breaks),
                b'}' => return Ok(at + 1),
                _ => return Err(Stop::Bad(at)),
            }
        }
    }

    #[inline(always)]
    fn member(&mut self, at: usize, level: Level, target: &Target) -> Result<usize, Stop> {
        match *target {
            Target::Skip => skip(self.bytes, at, self.depth_max - level.depth(), &mut self.breaks),
            Target::Note(field) => {
                let (span, end) = self.value(at, level)?;
                self.note(field, span);
                Ok(end)
            }
            Target::NoteIdAlternative => {
                let (span, end) = self.value(at, level)?;
                self.id_alternative = span;
                Ok(end)
            }
            Target::Enter(inner, field) => self.enter(at, level, inner, field),
        }
    }

    fn enter(&mut self, at: usize, level: Level, inner: Level, field: Option<Field>) -> Result<usize, Stop> {
        // If the key stood before, nothing of its former value may stay.
        for &noted in inner.fields() {
            self.note(noted, Span::default());
        }
        let (span, end) = if peek(self.bytes, at)? == b'{' {
            let end = self.object(at, inner)?;
            (self.span(at, end, SpanKind::Other), end)
        } else {
            self.value(at, level)?
        };
        if let Some(field) = field {
            self.note(field, span);
        }
        Ok(end)
    }

    /// The span of the value at `at`, and what follows the value.
    #[inline(always)]
    fn value(&mut self, at: usize, level: Level) -> Result<(Span, usize), Stop> {
        match peek(self.bytes, at)? {
            b'"' => {
                let (close, escaped) = json::string(self.bytes, at + 1)?;
                let kind = if escaped { SpanKind::Escaped } else { SpanKind::Plain };
                Ok((self.span(at + 1, close, kind), close + 1))
            }
            b'n' => Ok((Span::default(), json::scalar(self.bytes, at)?)),
            _ => {
                let end = skip(self.bytes, at, self.depth_max - level.depth(), &mut self.breaks)?;
                Ok((self.span(at, end, SpanKind::Other), end))
            }
        }
    }

    #[inline(always)]
    fn span(&self, start: usize, end: usize, kind: SpanKind) -> Span {
        // A buffer is smaller than 4 GiB: the limits see to it.
        Span { start: (start - self.origin) as u32, len: (end - start) as u32, kind }
    }

    #[inline(always)]
    fn note(&mut self, field: Field, span: Span) {
        if let Some(place) = self.spans.get_mut(field as usize) {
            *place = span;
        }
    }
}

impl Level {
    /// How deep the level's members are nested within the event.
    fn depth(self) -> u32 {
        match self {
            Level::Event => 1,
            Level::Identity | Level::Window => 2,
            Level::Context | Level::OnBehalfOf => 3,
            Level::Issuer => 4,
        }
    }

    /// The fields that are noted at this level and below.
    fn fields(self) -> &'static [Field] {
        match self {
            Level::Event => &[],
            Level::Identity => &[
                Field::IdentityType,
                Field::IdentityPrincipalId,
                Field::IdentityArn,
                Field::IdentityAccountId,
                Field::IdentityAccessKeyId,
                Field::IdentityUserName,
                Field::IdentityInvokedBy,
                Field::InScopeOf,
                Field::InvokedByDelegate,
                Field::IssuerArn,
                Field::IssuerUserName,
                Field::IssuerAccountId,
                Field::Ec2RoleDelivery,
                Field::OnBehalfOfUserId,
            ],
            Level::Context => {
                &[Field::IssuerArn, Field::IssuerUserName, Field::IssuerAccountId, Field::Ec2RoleDelivery]
            }
            Level::Issuer => &[Field::IssuerArn, Field::IssuerUserName, Field::IssuerAccountId],
            Level::OnBehalfOf => &[Field::OnBehalfOfUserId],
            Level::Window => &[Field::WindowStart],
        }
    }

    #[inline(always)]
    fn target(self, key: &[u8]) -> Target {
        match self {
            Level::Event => event_target(key),
            Level::Identity => identity_target(key),
            Level::Context => match key {
                b"sessionIssuer" => Target::Enter(Level::Issuer, None),
                b"ec2RoleDelivery" => Target::Note(Field::Ec2RoleDelivery),
                _ => Target::Skip,
            },
            Level::Issuer => match key {
                b"arn" => Target::Note(Field::IssuerArn),
                b"userName" => Target::Note(Field::IssuerUserName),
                b"accountId" => Target::Note(Field::IssuerAccountId),
                _ => Target::Skip,
            },
            Level::OnBehalfOf if key == b"userId" => Target::Note(Field::OnBehalfOfUserId),
            Level::Window if key == b"windowStart" => Target::Note(Field::WindowStart),
            Level::OnBehalfOf | Level::Window => Target::Skip,
        }
    }
}

fn event_target(key: &[u8]) -> Target {
    let field = match key {
        b"userIdentity" => return Target::Enter(Level::Identity, Some(Field::UserIdentity)),
        b"timeWindow" => return Target::Enter(Level::Window, None),
        b"eventId" => return Target::NoteIdAlternative,
        b"eventID" => Field::EventId,
        b"eventName" => Field::EventName,
        b"eventTime" => Field::EventTime,
        b"eventType" => Field::EventType,
        b"awsRegion" => Field::AwsRegion,
        b"userAgent" => Field::UserAgent,
        b"errorCode" => Field::ErrorCode,
        b"requestID" => Field::RequestId,
        b"accountId" => Field::AccountId,
        b"readOnly" => Field::ReadOnly,
        b"trailship" => Field::Trailship,
        b"eventSource" => Field::EventSource,
        b"eventVersion" => Field::EventVersion,
        b"errorMessage" => Field::ErrorMessage,
        b"eventCategory" => Field::EventCategory,
        b"sharedEventID" => Field::SharedEventId,
        b"vpcEndpointId" => Field::VpcEndpointId,
        b"sourceIPAddress" => Field::SourceIpAddress,
        b"managementEvent" => Field::ManagementEvent,
        b"responseElements" => Field::ResponseElements,
        b"requestParameters" => Field::RequestParameters,
        b"recipientAccountId" => Field::RecipientAccountId,
        b"sessionCredentialFromConsole" => Field::SessionCredentialFromConsole,
        _ => return Target::Skip,
    };
    Target::Note(field)
}

fn identity_target(key: &[u8]) -> Target {
    let field = match key {
        b"sessionContext" => return Target::Enter(Level::Context, None),
        b"onBehalfOf" => return Target::Enter(Level::OnBehalfOf, None),
        b"arn" => Field::IdentityArn,
        b"type" => Field::IdentityType,
        b"userName" => Field::IdentityUserName,
        b"accountId" => Field::IdentityAccountId,
        b"invokedBy" => Field::IdentityInvokedBy,
        b"inScopeOf" => Field::InScopeOf,
        b"principalId" => Field::IdentityPrincipalId,
        b"accessKeyId" => Field::IdentityAccessKeyId,
        b"invokedByDelegate" => Field::InvokedByDelegate,
        _ => return Target::Skip,
    };
    Target::Note(field)
}

/// What stands in one element of `logEvents`: where its `message` is, without quotes, and its escapes.
#[derive(Debug)]
pub(super) struct LogEvent {
    pub(super) start: usize,
    pub(super) close: usize,
    pub(super) end: usize,
}

/// Scans an element of `logEvents`; it has to be an object with a string `message`.
pub(super) fn log_event(bytes: &[u8], open: usize, depth_max: u32) -> Result<LogEvent, Stop> {
    if peek(bytes, open)? != b'{' {
        return Err(Stop::Bad(open));
    }
    let mut breaks = false;
    let mut message = None;
    let mut at = space(bytes, open + 1, &mut breaks);
    while peek(bytes, at)? != b'}' {
        if peek(bytes, at)? != b'"' {
            return Err(Stop::Bad(at));
        }
        let (close, _) = json::string(bytes, at + 1)?;
        let key = plain_key(bytes, at + 1, close);
        at = space(bytes, close + 1, &mut breaks);
        if peek(bytes, at)? != b':' {
            return Err(Stop::Bad(at));
        }
        at = space(bytes, at + 1, &mut breaks);
        let value = at;
        at = skip(bytes, at, depth_max.saturating_sub(1), &mut breaks)?;
        if &*key == b"message" {
            message = (bytes.get(value) == Some(&b'"')).then(|| (value + 1, at - 1));
        }
        at = space(bytes, at, &mut breaks);
        match peek(bytes, at)? {
            b',' => {
                at = space(bytes, at + 1, &mut breaks);
                // After a comma another key has to come.
                if peek(bytes, at)? == b'}' {
                    return Err(Stop::Bad(at));
                }
            }
            b'}' => {}
            _ => return Err(Stop::Bad(at)),
        }
    }
    let (start, close) = message.ok_or(Stop::Bad(open))?;
    Ok(LogEvent { start, close, end: at + 1 })
}

/// The text of a key whose content stands at `start..close`.
pub(super) fn plain_key(bytes: &[u8], start: usize, close: usize) -> Cow<'_, [u8]> {
    let raw = bytes.get(start..close).unwrap_or_default();
    if raw.contains(&b'\\') { Cow::Owned(unescape(raw).into_bytes()) } else { Cow::Borrowed(raw) }
}
