//! As much of STS as an agent needs to find out who it is and to take on a role.

use std::collections::{BTreeMap, HashMap};

use http::StatusCode;

use super::clock::{Millis, iso8601};
use super::s3::wire::Scope;
use super::{Shared, State};
use crate::http::{Request, Response};

/// Sessions handed out, and what roles ask for.
#[derive(Debug, Default)]
pub(crate) struct Sts {
    /// The external id that each role asks for; a role that is not here can be assumed without.
    pub(crate) external_ids: BTreeMap<String, String>,
    /// Roles that nobody may assume.
    pub(crate) closed: Vec<String>,
    sessions: HashMap<String, Session>,
    count: u64,
}

#[derive(Debug)]
struct Session {
    role: String,
    name: String,
    expires_ms: Millis,
}

impl Sts {
    /// The role behind an access key, where it belongs to a session.
    pub(crate) fn role_of(&self, access_key: &str) -> Option<&str> {
        self.sessions.get(access_key).map(|session| session.role.as_str())
    }

    pub(crate) fn is_expired(&self, access_key: &str, now: Millis) -> bool {
        self.sessions.get(access_key).is_some_and(|session| session.expires_ms <= now)
    }

    /// Begins a session and gives its access key.
    pub(crate) fn begin(&mut self, role: &str, name: &str, expires_ms: Millis) -> String {
        self.count += 1;
        let access_key = format!("ASIATESTKIT{:09}", self.count);
        let session = Session { role: role.to_owned(), name: name.to_owned(), expires_ms };
        self.sessions.insert(access_key.clone(), session);
        access_key
    }
}

/// The name of the call in a request of the query protocol.
pub(crate) fn operation(request: &Request) -> String {
    let pairs = request.form_pairs();
    pairs.into_iter().find(|(name, _)| name == "Action").map(|(_, value)| value).unwrap_or_default()
}

/// Does what an STS request asks for.
/// <https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html>
pub(crate) fn answer(shared: &Shared, state: &mut State, operation: &str, request: &Request) -> Response {
    let form: HashMap<String, String> = request.form_pairs().into_iter().collect();
    let now = shared.clock.now();
    let access_key = Scope::of(request).access_key.unwrap_or_default();
    if state.sts.is_expired(&access_key, now) {
        return error(shared, 403, "ExpiredToken", "The security token included in the request is expired");
    }
    match operation {
        "GetCallerIdentity" => caller(shared, state, &access_key),
        "AssumeRole" => assume(shared, state, &form, now),
        other => error(shared, 400, "InvalidAction", &format!("the stand-in does not know {other}")),
    }
}

fn caller(shared: &Shared, state: &State, access_key: &str) -> Response {
    let account = &shared.names.account;
    let (arn, id) = match state.sts.sessions.get(access_key) {
        Some(session) => (session_arn(session), format!("AROATESTKITEXAMPLE:{}", session.name)),
        None => (format!("arn:aws:iam::{account}:user/testkit"), "AIDATESTKITEXAMPLE".to_owned()),
    };
    let account = arn.split(':').nth(4).unwrap_or(account);
    let inner = format!("<Arn>{arn}</Arn><UserId>{id}</UserId><Account>{account}</Account>");
    result(shared, "GetCallerIdentity", &inner)
}

/// `arn:aws:sts::123456789012:assumed-role/NAME/SESSION` for a role's ARN, its path left out.
fn session_arn(session: &Session) -> String {
    let account = session.role.split(':').nth(4).unwrap_or_default();
    let name = session.role.rsplit('/').next().unwrap_or_default();
    format!("arn:aws:sts::{account}:assumed-role/{name}/{}", session.name)
}

fn assume(shared: &Shared, state: &mut State, form: &HashMap<String, String>, now: Millis) -> Response {
    let field = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
    let (role, name) = (field("RoleArn"), field("RoleSessionName"));
    let wanted = state.sts.external_ids.get(role);
    let refused = wanted.is_some_and(|wanted| wanted != field("ExternalId"));
    if refused || state.sts.closed.iter().any(|closed| closed == role) {
        let text = format!("User is not authorized to perform: sts:AssumeRole on resource: {role}");
        return error(shared, 403, "AccessDenied", &text);
    }
    let seconds = field("DurationSeconds").parse::<u64>().unwrap_or(3600);
    let expires_ms = now + seconds * 1000;
    let access_key = state.sts.begin(role, name, expires_ms);
    let session = Session { role: role.to_owned(), name: name.to_owned(), expires_ms };
    let inner = format!(
        "<AssumedRoleUser><AssumedRoleId>AROATESTKITEXAMPLE:{name}</AssumedRoleId><Arn>{}</Arn></AssumedRoleUser>\
         <Credentials><AccessKeyId>{access_key}</AccessKeyId><SecretAccessKey>testkit-secret</SecretAccessKey>\
         <SessionToken>testkit-token</SessionToken><Expiration>{}</Expiration></Credentials>",
        session_arn(&session),
        iso8601(expires_ms)
    );
    result(shared, "AssumeRole", &inner)
}

fn result(shared: &Shared, operation: &str, inner: &str) -> Response {
    let body = format!(
        "<{operation}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><{operation}Result>{inner}</{operation}Result>\
         <ResponseMetadata><RequestId>{}</RequestId></ResponseMetadata></{operation}Response>",
        shared.request_id()
    );
    Response::text(StatusCode::OK, "text/xml", body)
}

/// An error of the query protocol.
pub(crate) fn error(shared: &Shared, status: u16, code: &str, message: &str) -> Response {
    let side = if status >= 500 { "Receiver" } else { "Sender" };
    let body = format!(
        "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>{side}</Type><Code>{code}</Code>\
         <Message>{message}</Message></Error><RequestId>{}</RequestId></ErrorResponse>",
        shared.request_id()
    );
    Response::text(StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST), "text/xml", body)
}
