//! Checks `[ledger]`, and finds what a ledger calls each sink.

use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::super::model::{DEFAULT_IDENTITY, Ledger, LedgerTable};
use super::super::raw::RawLedger;
use super::super::tree::{Node, is_secret_key};
use super::super::units::Span;
use super::{Checker, plain};

const TYPES: [&str; 3] = ["dynamodb", "memory", "none"];

/// The keys that a table has.
const TABLE_KEYS: [&str; 4] = ["aws", "region", "table", "ttl"];

/// Log files that are remembered in memory: about 8 MB.
const LOG_FILES_MAX: u32 = 100_000;

/// How long a table keeps a log file: twice as long as a queue can keep a message.
const TTL: Span = Span::secs(30 * 24 * 3600);

/// The keys of a sink that say how, what and as whom, and not where: they may change, and it is still the same sink.
const NO_PLACE: [&str; 23] = [
    "access_key_id",
    "ack",
    "ack_timeout",
    "additions",
    "allow_plaintext",
    "aws",
    "batch",
    "compression",
    "concurrency",
    "connect_timeout",
    "dead_letter",
    "document_id",
    "headers",
    "labels",
    "proxy",
    "required",
    "retry",
    "rotate",
    "secret_key",
    "timeout",
    "tls",
    "username",
    "window",
];

impl Checker<'_> {
    /// What is remembered of deliveries; in memory where nothing is said.
    pub(super) fn ledger(&self) -> Option<Ledger> {
        let nothing = Node::table();
        let section = self.tree.get("ledger").unwrap_or(&nothing);
        let type_name = match section.get("type") {
            None => "memory",
            Some(_) => self.type_of(section, "ledger", &TYPES)?,
        };
        let mut raw: RawLedger = self.read_typed(section, "ledger")?;
        let is_table = type_name == "dynamodb";
        for key in TABLE_KEYS.iter().filter(|key| !is_table && section.get(key).is_some()) {
            let message =
                format!("has no meaning for type = \"{type_name}\": take it away, or say \"dynamodb\"");
            self.problem(&format!("ledger.{key}"), &message);
        }
        let holds = type_name != "none" || raw.max_log_files.is_none();
        self.require(holds, "ledger.max_log_files", "has no meaning for type = \"none\": take it away");
        let most = *raw.max_log_files.get_or_insert(if type_name == "none" { 0 } else { LOG_FILES_MAX });
        let good = type_name == "none" || (1..=10_000_000).contains(&most);
        self.require(good, "ledger.max_log_files", "from 1 to 10000000");
        let table = is_table.then(|| self.table(&mut raw));
        if type_name == "none" {
            raw.max_log_files = None;
        }
        self.keep(&["ledger"], &toml::Table::from_iter([("type".to_owned(), type_name.into())]));
        self.keep(&["ledger"], &raw);
        Some(Ledger { log_files_max: most as usize, table })
    }

    fn table(&self, raw: &mut RawLedger) -> LedgerTable {
        let name = raw.table.clone().unwrap_or_default();
        // https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/HowItWorks.NamingRulesDataTypes.html
        let plain = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
        let of_arn = name.strip_prefix("arn:").and_then(|_| name.split_once(":table/")).map(|(_, name)| name);
        let good = plain(of_arn.unwrap_or(&name)) && (3..=255).contains(&of_arn.unwrap_or(&name).len());
        let message = match raw.table {
            None => "the key is missing: name a table of DynamoDB whose partition key is the string \"id\"",
            Some(_) => "not a table's name: 3 to 255 letters, digits and \"_.-\", or its ARN",
        };
        self.require(good, "ledger.table", message);
        self.region(raw.region.as_deref(), "ledger.region");
        let ttl = *raw.ttl.get_or_insert(TTL);
        let hour = Duration::from_secs(3600);
        self.require((hour..=hour * 24 * 3650).contains(&ttl.0), "ledger.ttl", "from \"1h\" to \"3650d\"");
        let aws = raw.aws.get_or_insert_with(|| DEFAULT_IDENTITY.to_owned()).clone();
        let region =
            raw.region.clone().or_else(|| name.strip_prefix("arn:")?.split(':').nth(2).map(str::to_owned));
        LedgerTable { name, region, aws, ttl: ttl.0 }
    }

    /// What a ledger calls a sink: its name, and a hash of what says where its events go. A new
    /// index or address is a new sink to it, which has nothing yet.
    ///
    /// Of secrets only those count that are an address, or an account: they may be changed for others as well, which
    /// costs a few duplicates.
    pub(super) fn mark(&self, name: &str, table: &Node) -> String {
        let effective = self.effective.borrow();
        let kept = effective.get("sinks").and_then(|sinks| sinks.get(name)).and_then(toml::Value::as_table);
        let mut place = kept.cloned().unwrap_or_default();
        let is_loggly = place.get("type").and_then(toml::Value::as_str) == Some("loggly");
        for (key, node) in table.as_table().into_iter().flatten() {
            let path = ["sinks".to_owned(), name.to_owned(), key.clone()];
            // Loggly's token is the account.
            let is_address = ["url", "urls"].contains(&key.as_str())
                || (is_loggly && ["token", "tokens"].contains(&key.as_str()));
            if is_secret_key(&path) && !is_address {
                place.remove(key);
            } else {
                place.insert(key.clone(), plain(node));
            }
        }
        place.retain(|key, _| !NO_PLACE.contains(&key));
        let text = toml::to_string(&place).unwrap_or_default();
        let hash: String = Sha256::digest(text).iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        format!("{name}@{hash}")
    }
}
