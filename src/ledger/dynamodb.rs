//! A ledger in a table of DynamoDB, for agents that share a queue. Whatever is wrong with it, log files go on.
//!
//! One item is one log file, so that it is read once and mostly written once, however many sinks there are:
//! `id` (the object's URL, partition key), `version`, `events`, `expires_at`, and for each sink that has all of it an
//! attribute `sink:NAME@GENERATION` with the time. A write holds the item to its version by a condition.

mod circuit;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use serde_json::{Map, Value, json};
use sinks::ports::Clock;

use super::{Delivered, DeliveryLedger, MemoryLedger, ObjectVersion};
use crate::aws::{CallError, JsonClient};
use circuit::Circuit;

/// The table's partition key, a string. It has no sort key.
pub const PARTITION_KEY: &str = "id";

/// The attribute that the table's time to live goes by, in seconds since 1970.
pub const TTL_ATTRIBUTE: &str = "expires_at";

/// What the attribute of a sink begins with.
const SINK_PREFIX: &str = "sink:";

/// How long a log file waits to hear what is known of it.
const LOOK_TIME: Duration = Duration::from_secs(1);

/// How long it waits until it is noted; its message is not deleted before.
const NOTE_TIME: Duration = Duration::from_secs(2);

/// Calls operations of DynamoDB.
#[async_trait]
pub trait LedgerTable: Send + Sync {
    /// Calls an operation.
    ///
    /// # Errors
    /// The answer's, or that there was none.
    async fn call(&self, operation: &'static str, input: &Value) -> Result<Value, CallError>;
}

#[async_trait]
impl LedgerTable for JsonClient {
    async fn call(&self, operation: &'static str, input: &Value) -> Result<Value, CallError> {
        Self::call(self, operation, input).await
    }
}

/// Told how the table fares.
pub trait LedgerObserver: Send + Sync {
    /// A log file could not be looked up (`look`) or noted (`note`); `why` is missing where the table was left alone
    /// for having failed a moment ago.
    fn failed(&self, operation: &'static str, why: Option<&CallError>);
    /// The table answers again.
    fn back(&self);
}

/// A ledger in a table, with one in memory before it.
pub struct DynamoDbLedger {
    /// What this agent has noted itself, or looked up.
    pub memory: MemoryLedger,
    /// What calls DynamoDB.
    pub calls: Arc<dyn LedgerTable>,
    /// The table's name.
    pub table: String,
    /// How long a log file stands in it.
    pub ttl: Duration,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Who is told.
    pub observer: Arc<dyn LedgerObserver>,
    circuit: Circuit,
}

impl DynamoDbLedger {
    /// A ledger; nothing is asked yet.
    pub fn new(
        memory: MemoryLedger,
        calls: Arc<dyn LedgerTable>,
        (table, ttl): (String, Duration),
        clock: Arc<dyn Clock>,
        observer: Arc<dyn LedgerObserver>,
    ) -> Self {
        Self { memory, calls, table, ttl, clock, observer, circuit: Circuit::default() }
    }

    /// Calls an operation within a time; `None` where it has failed, which was told then.
    ///
    /// A condition that does not hold is an answer.
    async fn call(&self, what: &'static str, operation: &'static str, input: &Value) -> Option<Reply> {
        if !self.circuit.lets_through(self.clock.monotonic()) {
            self.observer.failed(what, None);
            return None;
        }
        let time = if what == "look" { LOOK_TIME } else { NOTE_TIME };
        let answer = tokio::select! {
            biased;
            answer = self.calls.call(operation, input) => answer,
            () = self.clock.sleep(time) => {
                let message = format!("no answer within {} s", time.as_secs());
                Err(CallError { code: String::new(), message })
            }
        };
        let reply = match answer {
            Ok(answer) => Reply::Done(answer),
            Err(error) if error.code == "ConditionalCheckFailedException" => Reply::AnotherVersion,
            Err(error) => {
                self.circuit.failed(self.clock.monotonic());
                self.observer.failed(what, Some(&error));
                return None;
            }
        };
        if self.circuit.answered() {
            self.observer.back();
        }
        Some(reply)
    }

    fn seconds(&self) -> u64 {
        self.clock.now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
    }
}

enum Reply {
    Done(Value),
    AnotherVersion,
}

#[async_trait]
impl DeliveryLedger for DynamoDbLedger {
    async fn look(&self, log_file: &str, wanted: &BTreeSet<String>) -> Option<Delivered> {
        let known = self.memory.recall(log_file);
        if known.as_ref().is_some_and(|known| wanted.is_subset(&known.marks)) {
            return known;
        }
        // https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_GetItem.html
        let input = json!({ "TableName": self.table, "Key": key_of(log_file), "ConsistentRead": true });
        let Some(Reply::Done(answer)) = self.call("look", "GetItem", &input).await else { return known };
        let Some(item) = answer.get("Item") else { return known };
        let Some(found) = read_item(item, self.seconds()) else { return known };
        self.memory.remember(log_file, &found);
        self.memory.recall(log_file).or(Some(found))
    }

    async fn note(&self, log_file: &str, delivered: &Delivered) {
        self.memory.remember(log_file, delivered);
        let now = self.seconds();
        let write = Write { ledger: self, log_file, delivered, now };
        if let Some(Reply::AnotherVersion) = self.call("note", "UpdateItem", &write.update()).await {
            self.call("note", "PutItem", &write.replace()).await;
        }
    }
}

/// The two ways of writing a log file.
struct Write<'a> {
    ledger: &'a DynamoDbLedger,
    log_file: &'a str,
    delivered: &'a Delivered,
    now: u64,
}

impl Write<'_> {
    fn expires_at(&self) -> String {
        (self.now + self.ledger.ttl.as_secs()).to_string()
    }

    /// Adds sinks to what is known of this version.
    /// <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_UpdateItem.html>
    fn update(&self) -> Value {
        let mut names = Map::from_iter([
            ("#v".to_owned(), "version".into()),
            ("#n".to_owned(), "events".into()),
            ("#x".to_owned(), TTL_ATTRIBUTE.into()),
        ]);
        let mut set = "SET #v = :v, #n = :n, #x = :x".to_owned();
        for (number, mark) in self.delivered.marks.iter().enumerate() {
            names.insert(format!("#s{number}"), format!("{SINK_PREFIX}{mark}").into());
            set.push_str(&format!(", #s{number} = :t"));
        }
        let mut values = json!({
            ":v": { "S": self.delivered.version.to_hex() },
            ":n": { "N": self.delivered.events.to_string() },
            ":x": { "N": self.expires_at() },
        });
        if !self.delivered.marks.is_empty() {
            values[":t"] = json!({ "N": self.now.to_string() });
        }
        json!({
            "TableName": self.ledger.table,
            "Key": key_of(self.log_file),
            "UpdateExpression": set,
            "ConditionExpression": "attribute_not_exists(#v) OR #v = :v",
            "ExpressionAttributeNames": names,
            "ExpressionAttributeValues": values,
        })
    }

    /// Puts this version in the place of another one, unless somebody else has done so meanwhile.
    /// <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_PutItem.html>
    fn replace(&self) -> Value {
        let mut item = key_of(self.log_file);
        item["version"] = json!({ "S": self.delivered.version.to_hex() });
        item["events"] = json!({ "N": self.delivered.events.to_string() });
        item[TTL_ATTRIBUTE] = json!({ "N": self.expires_at() });
        for mark in &self.delivered.marks {
            item[format!("{SINK_PREFIX}{mark}")] = json!({ "N": self.now.to_string() });
        }
        json!({
            "TableName": self.ledger.table,
            "Item": item,
            "ConditionExpression": "attribute_not_exists(#v) OR #v <> :v",
            "ExpressionAttributeNames": { "#v": "version" },
            "ExpressionAttributeValues": { ":v": { "S": self.delivered.version.to_hex() } },
        })
    }
}

fn key_of(log_file: &str) -> Value {
    json!({ PARTITION_KEY: { "S": log_file } })
}

/// What an item says; `None` for one that has expired, which DynamoDB deletes some time later, and for one that we did
/// not write. <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/TTL.html>
fn read_item(item: &Value, now: u64) -> Option<Delivered> {
    let number = |name: &str| item[name]["N"].as_str()?.parse::<u64>().ok();
    if number(TTL_ATTRIBUTE)? <= now {
        return None;
    }
    let marks = item.as_object()?.keys().filter_map(|name| name.strip_prefix(SINK_PREFIX));
    Some(Delivered {
        version: ObjectVersion::from_hex(item["version"]["S"].as_str()?)?,
        events: number("events")?,
        marks: marks.map(str::to_owned).collect(),
    })
}
