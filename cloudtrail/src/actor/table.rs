//! The table that decides who acted: the first row that fits.

use std::borrow::Cow;

use super::{Actor, ActorClass, ActorKind, ConsoleFrontEnds};
use crate::event::{EventRef, Field};

/// Says of an event who acted. Every event has an answer.
///
/// `userIdentity.invokedBy` decides first: it is set by AWS, and only when a service made the request.
/// What a caller can choose (user agent, session name, source address) never decides the class.
/// Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/access_forward_access_sessions.html>
#[must_use]
pub fn classify<'a>(event: &EventRef<'a>, fronts: &ConsoleFrontEnds) -> Actor<'a> {
    let identity = Identity::read(event, fronts);
    let kind = identity.kind(event);
    let mut actor = Actor {
        class: kind.class(),
        kind,
        service: None,
        principal: None,
        principal_id: None,
        account: None,
        role: None,
        session: None,
        identity_center_user: None,
        on_behalf_of: kind == ActorKind::OnBehalfOf,
        console: false,
    };
    match kind {
        ActorKind::Aggregate | ActorKind::Insight | ActorKind::Anonymous => {}
        ActorKind::ServiceEvent => {
            actor.service =
                event.filled(Field::IdentityInvokedBy).or_else(|| event.filled(Field::EventSource));
            actor.account = event.filled(Field::IdentityAccountId);
        }
        ActorKind::Service => {
            actor.service =
                event.filled(Field::IdentityInvokedBy).or_else(|| event.filled(Field::SourceIpAddress));
            actor.account = event.filled(Field::IdentityAccountId);
            actor.principal_id = event.filled(Field::IdentityPrincipalId);
        }
        _ => identity.describe(event, &mut actor),
    }
    if !matches!(actor.class, ActorClass::None)
        && !matches!(kind, ActorKind::ServiceEvent | ActorKind::Service)
    {
        let from_console = event.is(Field::SessionCredentialFromConsole, "true");
        actor.console = identity.front_end || from_console;
    }
    actor
}

/// The fields that decide.
struct Identity<'a> {
    arn: Option<Cow<'a, str>>,
    issuer: Option<Cow<'a, str>>,
    principal_id: Option<Cow<'a, str>>,
    /// The invoking service, unless it is a console front end.
    invoked_by: Option<Cow<'a, str>>,
    front_end: bool,
}

impl<'a> Identity<'a> {
    fn read(event: &EventRef<'a>, fronts: &ConsoleFrontEnds) -> Self {
        let invoked_by = event.filled(Field::IdentityInvokedBy).map(trimmed);
        let front_end =
            invoked_by.as_ref().is_some_and(|service| fronts.0.iter().any(|front| front == service));
        Self {
            arn: event.filled(Field::IdentityArn),
            issuer: event.filled(Field::IssuerArn),
            principal_id: event.filled(Field::IdentityPrincipalId),
            invoked_by: invoked_by.filter(|_| !front_end),
            front_end,
        }
    }

    /// The first row of the table that fits.
    fn kind(&self, event: &EventRef<'a>) -> ActorKind {
        let is = |field, value| event.is(field, value);
        let identity_type = event.filled(Field::IdentityType);
        let identity_type = identity_type.as_deref();
        if is(Field::EventCategory, "Aggregated") || is(Field::EventType, "AwsAggregatedEvent") {
            return ActorKind::Aggregate;
        }
        if is(Field::EventCategory, "Insight") || is(Field::EventType, "AwsCloudTrailInsight") {
            return ActorKind::Insight;
        }
        if is(Field::EventType, "AwsServiceEvent") {
            return ActorKind::ServiceEvent;
        }
        if identity_type == Some("AWSService") {
            return ActorKind::Service;
        }
        if self.linked_service().is_some() {
            return ActorKind::ServiceLinkedRole;
        }
        if self.invoked_by.is_some() {
            return ActorKind::OnBehalfOf;
        }
        if event.has(Field::InvokedByDelegate) {
            return ActorKind::Delegate;
        }
        match identity_type {
            Some("Root") => ActorKind::Root,
            Some("IAMUser") => ActorKind::IamUser,
            Some("IdentityCenterUser") => ActorKind::IdentityCenterUser,
            Some("FederatedUser") => ActorKind::FederatedUser,
            Some("SAMLUser") => ActorKind::SamlUser,
            Some("WebIdentityUser") => ActorKind::WebIdentityUser,
            Some("Directory") => ActorKind::DirectoryUser,
            Some("AssumedRole") => self.session_kind(event),
            Some("Role") => ActorKind::RoleSession,
            Some("AWSAccount") => {
                let anonymous = is(Field::IdentityPrincipalId, "ANONYMOUS_PRINCIPAL")
                    || is(Field::IdentityAccountId, "ANONYMOUS_PRINCIPAL");
                if anonymous { ActorKind::Anonymous } else { ActorKind::CrossAccount }
            }
            _ => ActorKind::Unknown,
        }
    }

    fn session_kind(&self, event: &EventRef<'a>) -> ActorKind {
        if self.role_name().is_some_and(|name| name.starts_with("AWSReservedSSO_")) {
            return ActorKind::SsoSession;
        }
        let on_instance = self.session_name().is_some_and(is_instance_id);
        if event.has(Field::InScopeOf) || event.has(Field::Ec2RoleDelivery) || on_instance {
            return ActorKind::Workload;
        }
        ActorKind::RoleSession
    }

    /// The service in the path of a service-linked role.
    fn linked_service(&self) -> Option<&str> {
        // Only the resource's own beginning counts: IAM keeps this path for services, but the path of a
        // *user* may hold nearly any text, so that a search in the whole ARN could be deceived.
        [&self.issuer, &self.arn].into_iter().flatten().find_map(|arn| {
            let path = resource(arn)?.strip_prefix("role/aws-service-role/")?;
            path.split_once('/').map(|(service, _)| service)
        })
    }

    /// The role's name, from its own ARN or from the session's.
    fn role_name(&self) -> Option<&str> {
        let from_issuer =
            self.issuer.as_deref().and_then(resource).and_then(|path| path.strip_prefix("role/"));
        if let Some(path) = from_issuer {
            return path.rsplit('/').next();
        }
        self.assumed_role().map(|(role, _)| role)
    }

    /// The session's name, from the ARN or from the principal's id.
    fn session_name(&self) -> Option<&str> {
        let from_arn = self.assumed_role().map(|(_, session)| session);
        from_arn.or_else(|| self.principal_id.as_deref()?.split_once(':').map(|(_, session)| session))
    }

    fn assumed_role(&self) -> Option<(&str, &str)> {
        resource(self.arn.as_deref()?)?.strip_prefix("assumed-role/")?.split_once('/')
    }

    fn describe(&self, event: &EventRef<'a>, actor: &mut Actor<'a>) {
        actor.account =
            event.filled(Field::IdentityAccountId).or_else(|| event.filled(Field::IssuerAccountId));
        actor.identity_center_user = event.filled(Field::OnBehalfOfUserId);
        let is_session =
            event.is(Field::IdentityType, "AssumedRole") || event.is(Field::IdentityType, "Role");
        actor.session = self
            .session_name()
            .filter(|session| !session.is_empty() && (is_session || self.assumed_role().is_some()))
            .map(|session| Cow::Owned(session.to_owned()));
        if actor.kind == ActorKind::ServiceLinkedRole {
            let linked = self.linked_service().map(|service| Cow::Owned(service.to_owned()));
            actor.service = self.invoked_by.clone().or(linked);
        } else {
            actor.service = self.invoked_by.clone();
        }
        let is_role = |arn: &Cow<'_, str>| resource(arn).is_some_and(|path| path.starts_with("role/"));
        actor.role = self.issuer.clone().filter(is_role);
        let arn = self.arn.clone().filter(|arn| resource(arn).is_some());
        actor.principal = match (actor.kind, &actor.role) {
            (ActorKind::ServiceLinkedRole, Some(role)) => Some(role.clone()),
            _ => arn,
        };
        actor.principal_id = self.principal_id.clone();
    }
}

/// The sixth part of an ARN: what it names within its account.
fn resource(arn: &str) -> Option<&str> {
    let rest = arn.strip_prefix("arn:")?;
    // Partition, service, region and account come before it.
    let end_of_account = rest.bytes().enumerate().filter(|&(_, byte)| byte == b':').nth(3);
    end_of_account.and_then(|(at, _)| rest.get(at + 1..))
}

fn is_instance_id(session: &str) -> bool {
    session.strip_prefix("i-").is_some_and(|id| {
        matches!(id.len(), 8 | 17) && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}

fn trimmed(text: Cow<'_, str>) -> Cow<'_, str> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.trim()),
        Cow::Owned(text) if text.trim().len() == text.len() => Cow::Owned(text),
        Cow::Owned(text) => Cow::Owned(text.trim().to_owned()),
    }
}
