//! Who acted: one actor for every event, from the fields that AWS itself sets.

mod table;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

pub use table::classify;

use crate::text::write_string;

/// The coarsest answer to "who was it".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ActorClass {
    /// A person, a role, a program with credentials of its own.
    Principal,
    /// An AWS service, on its own or with someone's identity.
    AwsService,
    /// Nobody: a statement about many events.
    None,
    /// The event does not say.
    Unknown,
}

impl ActorClass {
    /// Every class there is.
    pub const ALL: [ActorClass; 4] =
        [ActorClass::Principal, ActorClass::AwsService, ActorClass::None, ActorClass::Unknown];

    /// The class's name in events and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            ActorClass::Principal => "principal",
            ActorClass::AwsService => "aws_service",
            ActorClass::None => "none",
            ActorClass::Unknown => "unknown",
        }
    }
}

/// What kind of actor it was; each kind belongs to one class.
///
/// Source: <https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-event-reference-user-identity.html>
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ActorKind {
    /// An aggregated event has no actor.
    Aggregate,
    /// An Insight event has no actor.
    Insight,
    /// An event that a service reports of itself.
    ServiceEvent,
    /// A service principal.
    Service,
    /// A service with its service-linked role.
    ServiceLinkedRole,
    /// A service with someone's identity: a service role, or a forward access session.
    OnBehalfOf,
    /// A product provider with delegated access.
    Delegate,
    /// The account's root user.
    Root,
    /// An IAM user.
    IamUser,
    /// A user of IAM Identity Center.
    IdentityCenterUser,
    /// A federated user (`GetFederationToken`).
    FederatedUser,
    /// A user who signs in with SAML.
    SamlUser,
    /// A user who signs in with a web identity.
    WebIdentityUser,
    /// A user of a directory.
    DirectoryUser,
    /// A session of a permission set of IAM Identity Center.
    SsoSession,
    /// A program on EC2, ECS or Lambda that holds its role's credentials.
    Workload,
    /// Any other session of a role.
    RoleSession,
    /// A caller without credentials.
    Anonymous,
    /// Another account.
    CrossAccount,
    /// No identity, or one of a type that did not exist when this was written.
    Unknown,
}

impl ActorKind {
    /// Every kind there is.
    pub const ALL: [ActorKind; 20] = [
        ActorKind::Aggregate,
        ActorKind::Insight,
        ActorKind::ServiceEvent,
        ActorKind::Service,
        ActorKind::ServiceLinkedRole,
        ActorKind::OnBehalfOf,
        ActorKind::Delegate,
        ActorKind::Root,
        ActorKind::IamUser,
        ActorKind::IdentityCenterUser,
        ActorKind::FederatedUser,
        ActorKind::SamlUser,
        ActorKind::WebIdentityUser,
        ActorKind::DirectoryUser,
        ActorKind::SsoSession,
        ActorKind::Workload,
        ActorKind::RoleSession,
        ActorKind::Anonymous,
        ActorKind::CrossAccount,
        ActorKind::Unknown,
    ];

    /// The kind's name in events and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            ActorKind::Aggregate => "aggregate",
            ActorKind::Insight => "insight",
            ActorKind::ServiceEvent => "service_event",
            ActorKind::Service => "service",
            ActorKind::ServiceLinkedRole => "service_linked_role",
            ActorKind::OnBehalfOf => "on_behalf_of",
            ActorKind::Delegate => "delegate",
            ActorKind::Root => "root",
            ActorKind::IamUser => "iam_user",
            ActorKind::IdentityCenterUser => "identity_center_user",
            ActorKind::FederatedUser => "federated_user",
            ActorKind::SamlUser => "saml_user",
            ActorKind::WebIdentityUser => "web_identity_user",
            ActorKind::DirectoryUser => "directory_user",
            ActorKind::SsoSession => "sso_session",
            ActorKind::Workload => "workload",
            ActorKind::RoleSession => "role_session",
            ActorKind::Anonymous => "anonymous",
            ActorKind::CrossAccount => "cross_account",
            ActorKind::Unknown => "unknown",
        }
    }

    /// The class that the kind belongs to.
    #[must_use]
    pub fn class(self) -> ActorClass {
        match self {
            ActorKind::Aggregate | ActorKind::Insight => ActorClass::None,
            ActorKind::ServiceEvent
            | ActorKind::Service
            | ActorKind::ServiceLinkedRole
            | ActorKind::OnBehalfOf => ActorClass::AwsService,
            ActorKind::Unknown => ActorClass::Unknown,
            _ => ActorClass::Principal,
        }
    }
}

/// The values of `invokedBy` that mean a person in the console and not a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsoleFrontEnds(pub Vec<String>);

impl Default for ConsoleFrontEnds {
    fn default() -> Self {
        Self(vec!["signin.amazonaws.com".to_owned()])
    }
}

/// Who acted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor<'a> {
    /// The coarsest answer.
    pub class: ActorClass,
    /// What kind of actor within the class.
    pub kind: ActorKind,
    /// The service that made the request, as AWS names it (`rds.amazonaws.com`, `AWS Internal`).
    pub service: Option<Cow<'a, str>>,
    /// The principal's ARN; of a service-linked role, the role's.
    pub principal: Option<Cow<'a, str>>,
    /// The principal's unique id.
    pub principal_id: Option<Cow<'a, str>>,
    /// The principal's account.
    pub account: Option<Cow<'a, str>>,
    /// The ARN of the role that a session belongs to.
    pub role: Option<Cow<'a, str>>,
    /// The session's name, which whoever opened the session chose freely.
    pub session: Option<Cow<'a, str>>,
    /// The user's id in IAM Identity Center.
    pub identity_center_user: Option<Cow<'a, str>>,
    /// Whether a service acted with someone's identity.
    pub on_behalf_of: bool,
    /// Whether a person in the console stands behind it.
    pub console: bool,
}

impl Actor<'_> {
    /// Writes the actor as a JSON object on one line: what is known, and booleans only where true.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        // Names of ours need no escapes.
        out.extend_from_slice(b"{\"class\":\"");
        out.extend_from_slice(self.class.as_str().as_bytes());
        out.extend_from_slice(b"\",\"kind\":\"");
        out.extend_from_slice(self.kind.as_str().as_bytes());
        out.push(b'"');
        let texts: [(&[u8], _); 7] = [
            (b",\"service\":", &self.service),
            (b",\"principal\":", &self.principal),
            (b",\"principal_id\":", &self.principal_id),
            (b",\"account\":", &self.account),
            (b",\"role\":", &self.role),
            (b",\"session\":", &self.session),
            (b",\"identity_center_user\":", &self.identity_center_user),
        ];
        for (key, text) in texts {
            if let Some(text) = text {
                out.extend_from_slice(key);
                write_string(text, out);
            }
        }
        if self.on_behalf_of {
            out.extend_from_slice(b",\"on_behalf_of\":true");
        }
        if self.console {
            out.extend_from_slice(b",\"console\":true");
        }
        out.push(b'}');
    }
}
