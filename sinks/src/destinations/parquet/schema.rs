//! The columns: those of Athena's table for CloudTrail, and ours behind them.
//!
//! Every object has all of them, in this order, and every value may be missing: a reader then never has to merge
//! schemas. <https://docs.aws.amazon.com/athena/latest/ug/create-cloudtrail-table.html>

use std::fmt::Write as _;

/// A column, or a group of columns.
#[derive(Debug)]
pub(super) struct Node {
    /// Its name: Athena knows lower case only.
    pub(super) name: &'static str,
    /// The key in the JSON object that it is read from, in lower case: letters are compared as Athena's own reader
    /// compares them, whatever their case.
    pub(super) key: &'static str,
    pub(super) kind: Kind,
}

/// What stands in it.
#[derive(Debug)]
pub(super) enum Kind {
    /// The text of a string; of any other value its JSON.
    Text,
    /// The JSON of any value, as AWS wrote it.
    Json,
    /// An object of known members.
    Struct(&'static [Node]),
    /// An array of such objects.
    List(&'static [Node]),
    /// An object of any members, each as [`Kind::Text`].
    Map,
    /// Whole microseconds since 1970, UTC.
    Time,
    /// A 64-bit number.
    Number,
    /// True or false.
    Flag,
}

const fn node(name: &'static str, kind: Kind) -> Node {
    Node { name, key: name, kind }
}

const fn text(name: &'static str) -> Node {
    node(name, Kind::Text)
}

const fn actor(name: &'static str, key: &'static str) -> Node {
    Node { name, key, kind: Kind::Text }
}

const ATTRIBUTES: &[Node] = &[text("mfaauthenticated"), text("creationdate")];

const ISSUER: &[Node] =
    &[text("type"), text("principalid"), text("arn"), text("accountid"), text("username")];

const WEB_IDENTITY: &[Node] = &[text("federatedprovider"), node("attributes", Kind::Map)];

const SESSION: &[Node] = &[
    node("attributes", Kind::Struct(ATTRIBUTES)),
    node("sessionissuer", Kind::Struct(ISSUER)),
    text("ec2roledelivery"),
    node("webidfederationdata", Kind::Struct(WEB_IDENTITY)),
];

const ON_BEHALF_OF: &[Node] = &[text("userid"), text("identitystorearn")];

const IDENTITY: &[Node] = &[
    text("type"),
    text("principalid"),
    text("arn"),
    text("accountid"),
    text("invokedby"),
    text("accesskeyid"),
    text("username"),
    node("onbehalfof", Kind::Struct(ON_BEHALF_OF)),
    node("sessioncontext", Kind::Struct(SESSION)),
];

const RESOURCE: &[Node] = &[text("arn"), text("accountid"), text("type")];

const ADDENDUM: &[Node] =
    &[text("reason"), text("updatedfields"), text("originalrequestid"), text("originaleventid")];

const TLS: &[Node] = &[text("tlsversion"), text("ciphersuite"), text("clientprovidedhostheader")];

/// What is read from the record, by its top-level keys.
pub(super) const RECORD: &[Node] = &[
    text("eventversion"),
    node("useridentity", Kind::Struct(IDENTITY)),
    text("eventtime"),
    text("eventsource"),
    text("eventname"),
    text("awsregion"),
    text("sourceipaddress"),
    text("useragent"),
    text("errorcode"),
    text("errormessage"),
    node("requestparameters", Kind::Json),
    node("responseelements", Kind::Json),
    node("additionaleventdata", Kind::Json),
    text("requestid"),
    text("eventid"),
    text("readonly"),
    node("resources", Kind::List(RESOURCE)),
    text("eventtype"),
    text("apiversion"),
    text("recipientaccountid"),
    node("serviceeventdetails", Kind::Json),
    text("sharedeventid"),
    text("vpcendpointid"),
    text("vpcendpointaccountid"),
    text("eventcategory"),
    node("addendum", Kind::Struct(ADDENDUM)),
    text("sessioncredentialfromconsole"),
    node("edgedevicedetails", Kind::Json),
    node("tlsdetails", Kind::Struct(TLS)),
];

/// Who acted: the members of `trailship.actor`.
pub(super) const ACTOR: &[Node] = &[
    actor("actor_class", "class"),
    actor("actor_kind", "kind"),
    actor("actor_service", "service"),
    actor("actor_principal", "principal"),
    actor("actor_principal_id", "principal_id"),
    actor("actor_account", "account"),
    actor("actor_role", "role"),
    actor("actor_session", "session"),
    actor("actor_identity_center_user", "identity_center_user"),
];

/// The other columns of ours, in the order in which a row is written: the time and the flags before the actor's texts,
/// the rest behind them.
pub(super) const TIME: Node = node("eventtime_ts", Kind::Time);
pub(super) const FLAGS: [Node; 2] =
    [node("actor_on_behalf_of", Kind::Flag), node("actor_console", Kind::Flag)];
pub(super) const ORIGIN: [Node; 2] =
    [node("trailship_bucket", Kind::Text), node("trailship_key", Kind::Text)];
pub(super) const POSITION: Node = node("trailship_record", Kind::Number);
pub(super) const LABELS: Node = node("trailship_labels", Kind::Map);
pub(super) const RAW: Node = node("record", Kind::Text);

/// All columns in their order.
pub(super) fn all() -> impl Iterator<Item = &'static Node> {
    const OURS: [&[Node]; 7] = [&[TIME], ACTOR, &FLAGS, &ORIGIN, &[POSITION], &[LABELS], &[RAW]];
    RECORD.iter().chain(OURS.into_iter().flatten())
}

/// The schema in the text form that the format's own tools use.
pub(super) fn message() -> String {
    let mut out = String::from("message cloudtrail {\n");
    for node in all() {
        node.declare(&mut out);
    }
    out.push_str("}\n");
    out
}

impl Node {
    fn declare(&self, out: &mut String) {
        let name = self.name;
        let flat = |out: &mut String, kind: &str| {
            // Writing to a string cannot fail.
            let _ = writeln!(out, "optional {kind};");
        };
        let members = |out: &mut String, members: &[Node]| {
            members.iter().for_each(|member| member.declare(out));
        };
        match self.kind {
            Kind::Text | Kind::Json => flat(out, &format!("binary {name} (STRING)")),
            Kind::Time => flat(out, &format!("int64 {name} (TIMESTAMP(MICROS,true))")),
            Kind::Number => flat(out, &format!("int64 {name}")),
            Kind::Flag => flat(out, &format!("boolean {name}")),
            Kind::Struct(inner) => {
                let _ = writeln!(out, "optional group {name} {{");
                members(out, inner);
                out.push_str("}\n");
            }
            Kind::List(inner) => {
                let _ = writeln!(out, "optional group {name} (LIST) {{ repeated group list {{");
                out.push_str("optional group element {\n");
                members(out, inner);
                out.push_str("} } }\n");
            }
            Kind::Map => {
                let _ = writeln!(out, "optional group {name} (MAP) {{ repeated group key_value {{");
                out.push_str("required binary key (STRING);\noptional binary value (STRING);\n} }\n");
            }
        }
    }
}

/// One column as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Leaf {
    pub(super) of: LeafKind,
    /// Whether a row may have several values.
    pub(super) repeated: bool,
    /// Whether values are likely to come again in other rows.
    pub(super) dictionary: bool,
}

/// What a stored column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LeafKind {
    Text,
    Number,
    Flag,
}

/// Columns in which hardly a value comes twice: a dictionary of them costs time and memory for nothing.
const UNIQUE: [&str; 6] =
    ["eventid", "requestid", "requestparameters", "responseelements", "additionaleventdata", "record"];

/// The stored columns in their order.
pub(super) fn leaves() -> Vec<Leaf> {
    let mut leaves = Vec::new();
    all().for_each(|node| node.leaves(false, &mut leaves));
    leaves
}

impl Node {
    fn leaves(&self, repeated: bool, out: &mut Vec<Leaf>) {
        let leaf = |of, repeated| Leaf { of, repeated, dictionary: !UNIQUE.contains(&self.name) };
        match self.kind {
            Kind::Text | Kind::Json => out.push(leaf(LeafKind::Text, repeated)),
            Kind::Time | Kind::Number => out.push(leaf(LeafKind::Number, repeated)),
            Kind::Flag => out.push(leaf(LeafKind::Flag, repeated)),
            Kind::Struct(members) => members.iter().for_each(|member| member.leaves(repeated, out)),
            Kind::List(members) => members.iter().for_each(|member| member.leaves(true, out)),
            Kind::Map => out.extend([leaf(LeafKind::Text, true); 2]),
        }
    }
}
