//! Puts an event together: an actor, a call, and what surrounds them in every record.

use std::io::Write;

use super::ACCOUNTS;
use super::actors::{
    ACTORS, Actor, Caller, Calls, MACHINE_AGENTS, PERSON_AGENTS, ROLES, SERVICES, SESSIONS, USERS,
};
use super::catalog::{Call, FOREIGN, GENERAL, SAML, SERVICE_EVENTS, SIGN_IN, SIGN_IN_FAILED, WEB_IDENTITY};
use super::file::File;
use super::template::{Template, Value, letters, skewed, uuid};
use crate::calendar::Calendar;
use crate::random::Rng;

/// Share of calls that fail.
const ERRORS: f64 = 0.105;
const VERSIONS: [&str; 4] = ["1.08", "1.09", "1.10", "1.11"];
const ERROR_CODES: [&str; 4] =
    ["AccessDenied", "Client.UnauthorizedOperation", "ThrottlingException", "NoSuchEntity"];

/// What was made.
pub(super) struct Drawn {
    pub(super) event_id: String,
    pub(super) actor: &'static str,
}

/// The tables, taken apart once.
#[derive(Debug, Clone)]
pub(super) struct Writer {
    identities: Vec<Template>,
    general: CallList,
    saml: CallList,
    web_identity: CallList,
    foreign: CallList,
    service_events: CallList,
    sign_in: CallList,
    role_ids: Vec<String>,
    user_ids: Vec<String>,
}

#[derive(Debug, Clone)]
struct CallList {
    calls: &'static [Call],
    weight: usize,
    parts: Vec<Parts>,
}

#[derive(Debug, Clone)]
struct Parts {
    request: Template,
    response: Template,
    extra: Template,
    resources: Template,
}

impl std::fmt::Debug for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.service, self.name)
    }
}

impl CallList {
    fn new(calls: &'static [Call]) -> Self {
        let parts = calls.iter().map(|call| Parts {
            request: Template::parse(call.request),
            response: Template::parse(call.response),
            extra: Template::parse(call.extra),
            resources: Template::parse(call.resources),
        });
        Self { calls, weight: calls.iter().map(|call| call.weight).sum(), parts: parts.collect() }
    }

    fn draw(&self, rng: &mut Rng) -> (&'static Call, &Parts) {
        let at = weighted(rng.below(self.weight), self.calls.iter().map(|call| call.weight));
        (&self.calls[at], &self.parts[at])
    }
}

/// The place where the running sum of the weights passes `draw`.
fn weighted(mut draw: usize, weights: impl Iterator<Item = usize>) -> usize {
    let mut last = 0;
    for (at, weight) in weights.enumerate() {
        last = at;
        if draw < weight {
            break;
        }
        draw -= weight;
    }
    last
}

/// What one event has one of.
struct Subject<'a> {
    account: &'a str,
    other: &'a str,
    region: &'a str,
    time: String,
    since: String,
    epoch_ms: String,
    role: (&'a str, &'a str),
    role_id: &'a str,
    session: &'a str,
    instance: String,
    user: &'a str,
    user_id: &'a str,
    service: (&'a str, &'a str),
    ip: String,
}

impl<'a> Subject<'a> {
    fn draw(writer: &'a Writer, file: &'a File, rng: &mut Rng) -> Self {
        // Measured: from 3 to 594 seconds before delivery, half within 201.
        let seconds = file.delivered_s - 3 - (rng.below(400) + rng.below(194)) as u64;
        let role = skewed(rng, ROLES.len());
        let user = skewed(rng, USERS.len());
        let mut instance = b"i-0".to_vec();
        super::template::hex(&mut Rng::stream(0x1257, skewed(rng, 60) as u64), 16, &mut instance);
        let other = (file.account + 1 + rng.below(ACCOUNTS.len() - 1)) % ACCOUNTS.len();
        Self {
            account: ACCOUNTS[file.account],
            other: ACCOUNTS[other],
            region: file.region,
            time: Calendar::new(seconds).iso8601(),
            since: Calendar::new(seconds - seconds % 3600).iso8601(),
            epoch_ms: format!("{seconds}000"),
            role: ROLES[role],
            role_id: &writer.role_ids[role],
            session: SESSIONS[skewed(rng, SESSIONS.len())],
            instance: String::from_utf8_lossy(&instance).into_owned(),
            user: USERS[user],
            user_id: &writer.user_ids[user],
            service: SERVICES[skewed(rng, SERVICES.len())],
            ip: address(&mut Rng::stream(0x1F, (file.account * 64 + skewed(rng, 24)) as u64)),
        }
    }

    fn value(&self, name: Value) -> &str {
        match name {
            Value::Account => self.account,
            Value::OtherAccount => self.other,
            Value::Region => self.region,
            Value::Time => &self.time,
            Value::SessionTime => &self.since,
            Value::Epoch => &self.epoch_ms,
            Value::Role => self.role.0,
            Value::RolePath => self.role.1,
            Value::RoleId => self.role_id,
            Value::Session => self.session,
            Value::Instance => &self.instance,
            Value::User => self.user,
            Value::UserId => self.user_id,
            Value::Service => self.service.0,
            Value::Linked => self.service.1,
            Value::Ip => &self.ip,
        }
    }
}

fn address(rng: &mut Rng) -> String {
    format!("{}.{}.{}.{}", [10, 54, 203, 18][rng.below(4)], rng.below(4), rng.below(16), rng.below(256))
}

impl Writer {
    pub(super) fn new() -> Self {
        let id = |prefix: &str, seed: u64| {
            let mut id = prefix.as_bytes().to_vec();
            letters(&mut Rng::new(seed), 17, b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", &mut id);
            String::from_utf8_lossy(&id).into_owned()
        };
        Self {
            identities: ACTORS.iter().map(|actor| Template::parse(actor.identity)).collect(),
            general: CallList::new(GENERAL),
            saml: CallList::new(SAML),
            web_identity: CallList::new(WEB_IDENTITY),
            foreign: CallList::new(FOREIGN),
            service_events: CallList::new(SERVICE_EVENTS),
            sign_in: CallList::new(SIGN_IN),
            role_ids: (0..ROLES.len()).map(|at| id("AROA", at as u64)).collect(),
            user_ids: (0..USERS.len()).map(|at| id("AIDA", 100 + at as u64)).collect(),
        }
    }

    /// Writes the event at `index` of a file. Its id depends on nothing but seed, file and index.
    pub(super) fn event(&self, file: &mut File, index: u64, out: &mut Vec<u8>) -> Drawn {
        let mut rng = Rng::stream(file.seed ^ 0xE7E7, index);
        let at = weighted(rng.below(1000), ACTORS.iter().map(|actor| actor.weight));
        let actor = &ACTORS[at];
        let subject = Subject::draw(self, file, &mut rng);
        let (call, parts) = self.call(actor, &mut rng);
        let plain = call.event_type == "AwsApiCall";
        let failed = plain && rng.chance(ERRORS);

        put(out, &[r#"{"eventVersion":""#, VERSIONS[rng.below(4)], r#"","userIdentity":"#]);
        self.identities[at].write(&mut rng, |name| subject.value(name), out);
        head(actor, call, &subject, &mut rng, out);
        if failed {
            error(call, &subject, &mut rng, out);
        } else if call.response == SIGN_IN_FAILED {
            put(out, &[r#","errorMessage":"Failed authentication""#]);
        }
        let fill = |template: &Template, rng: &mut Rng, out: &mut Vec<u8>| {
            template.write(rng, |name| subject.value(name), out);
        };
        put(out, &[r#","requestParameters":"#]);
        // A refused call shows its parameters as often as not.
        if failed && rng.chance(0.5) {
            put(out, &["null"])
        } else {
            fill(&parts.request, &mut rng, out)
        }
        put(out, &[r#","responseElements":"#]);
        if failed {
            put(out, &["null"])
        } else {
            fill(&parts.response, &mut rng, out)
        }
        put(out, &[","]);
        fill(&parts.extra, &mut rng, out);
        if plain {
            put(out, &[r#""requestID":""#]);
            uuid(rng.bits(), rng.bits(), out);
            put(out, &["\","]);
        }
        let event_id = event_id(file.seed, index);
        put(
            out,
            &[r#""eventID":""#, &event_id, r#"","readOnly":"#, if call.read { "true" } else { "false" }],
        );
        if !call.resources.is_empty() {
            put(out, &[r#","resources":"#]);
            fill(&parts.resources, &mut rng, out);
        }
        tail(actor, call, &subject, &mut rng, out);
        Drawn { event_id, actor: actor.kind }
    }

    fn call(&self, actor: &Actor, rng: &mut Rng) -> (&'static Call, &Parts) {
        match actor.calls {
            Calls::AnyAndSignIn if rng.chance(0.02) => self.sign_in.draw(rng),
            Calls::Any | Calls::AnyAndSignIn => self.general.draw(rng),
            Calls::Saml => self.saml.draw(rng),
            Calls::WebIdentity => self.web_identity.draw(rng),
            Calls::Foreign => self.foreign.draw(rng),
            Calls::ServiceEvents => self.service_events.draw(rng),
        }
    }
}

/// The id of the event at `index` of the file with this seed.
pub(super) fn event_id(file_seed: u64, index: u64) -> String {
    let mut rng = Rng::stream(file_seed ^ 0x1D, index);
    let mut id = Vec::with_capacity(36);
    uuid(rng.bits(), rng.bits(), &mut id);
    String::from_utf8_lossy(&id).into_owned()
}

fn put(out: &mut Vec<u8>, parts: &[&str]) {
    for part in parts {
        out.extend_from_slice(part.as_bytes());
    }
}

/// What follows the identity in every record.
fn head(actor: &Actor, call: &Call, subject: &Subject<'_>, rng: &mut Rng, out: &mut Vec<u8>) {
    let (ip, agent) = match actor.caller {
        Caller::Person => (subject.ip.as_str(), PERSON_AGENTS[skewed(rng, PERSON_AGENTS.len())]),
        Caller::Machine => (subject.ip.as_str(), MACHINE_AGENTS[skewed(rng, MACHINE_AGENTS.len())]),
        Caller::Service => (subject.service.0, subject.service.0),
        Caller::Internal => ("AWS Internal", "AWS Internal"),
    };
    let agent = if call.service == "signin" { PERSON_AGENTS[1] } else { agent };
    put(
        out,
        &[
            r#","eventTime":""#,
            &subject.time,
            r#"","eventSource":""#,
            call.service,
            r#".amazonaws.com","eventName":""#,
            call.name,
            r#"","awsRegion":""#,
            subject.region,
            r#"","sourceIPAddress":""#,
            ip,
            r#"","userAgent":""#,
            agent,
            "\"",
        ],
    );
}

fn error(call: &Call, subject: &Subject<'_>, rng: &mut Rng, out: &mut Vec<u8>) {
    let code = ERROR_CODES[skewed(rng, ERROR_CODES.len())];
    // Writing to a vector cannot fail.
    let _ = write!(
        out,
        r#","errorCode":"{code}","errorMessage":"User: arn:aws:sts::{}:assumed-role/{}/{} is not authorized to perform: {}:{} because no identity-based policy allows the {}:{} action""#,
        subject.account, subject.role.0, subject.session, call.service, call.name, call.service, call.name
    );
}

/// What ends every record.
fn tail(actor: &Actor, call: &Call, subject: &Subject<'_>, rng: &mut Rng, out: &mut Vec<u8>) {
    put(out, &[r#","eventType":""#, call.event_type, "\""]);
    if !call.api_version.is_empty() {
        put(out, &[r#","apiVersion":""#, call.api_version, "\""]);
    }
    let management = if call.data { "false" } else { "true" };
    put(out, &[r#","managementEvent":"#, management, r#","recipientAccountId":""#, subject.account, "\""]);
    if actor.kind == "cross_account" {
        put(out, &[r#","sharedEventID":""#]);
        uuid(rng.bits(), rng.bits(), out);
        put(out, &["\""]);
    }
    if call.data && rng.chance(0.2) {
        put(out, &[r#","vpcEndpointId":"vpce-0a1b2c3d4e5f60718""#]);
    }
    put(out, &[r#","eventCategory":""#, if call.data { "Data" } else { "Management" }, "\""]);
    // Older endpoints leave the section out for other callers too.
    if matches!(actor.caller, Caller::Service | Caller::Internal) || rng.chance(0.4) {
        put(out, &["}"]);
        return;
    }
    put(
        out,
        &[
            r#","tlsDetails":{"tlsVersion":"TLSv1.3","cipherSuite":"TLS_AES_128_GCM_SHA256","clientProvidedHostHeader":""#,
            call.service,
            ".",
            subject.region,
            r#".amazonaws.com"}"#,
        ],
    );
    let console = actor.caller == Caller::Person && rng.chance(0.3);
    put(out, &[if console { r#","sessionCredentialFromConsole":"true"}"# } else { "}" }]);
}
