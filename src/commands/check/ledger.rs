//! Whether the table of the delivery ledger can be used. A ledger is a help: nothing here fails a delivery, but a table
//! that is configured and cannot be used is to be mended.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use sinks::destinations::Finding;
use sinks::ports::{Clock, Random};

use super::Findings;
use crate::app::ledger_client;
use crate::aws::{Aws, CallError, JsonClient};
use crate::config::LedgerTable;
use crate::ledger::{PARTITION_KEY, TTL_ATTRIBUTE};
use crate::ports::{SystemClock, SystemRandom};

const ABOUT: &str = "ledger";

/// Asks the table.
pub(super) async fn check(
    table: &LedgerTable,
    identities: &BTreeMap<String, Arc<Aws>>,
    findings: &mut Findings,
) {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let random: Arc<dyn Random> = Arc::new(SystemRandom::default());
    let client = match ledger_client(table, identities, &clock, &random) {
        Ok(client) => client,
        Err(error) => return findings.add(ABOUT, &Finding::failed(error.to_string())),
    };
    let name = json!({ "TableName": table.name });
    // https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_DescribeTable.html
    findings.add(ABOUT, &schema(&table.name, client.call("DescribeTable", &name).await));
    // https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_DescribeTimeToLive.html
    findings.add(ABOUT, &time_to_live(client.call("DescribeTimeToLive", &name).await));
    for (operation, input) in questions(&table.name) {
        findings.add(&format!("{ABOUT} {operation}"), &permission(&client, operation, &input).await);
    }
}

fn schema(name: &str, answer: Result<Value, CallError>) -> Finding {
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => return refused("DescribeTable", &error),
    };
    let table = &answer["Table"];
    let list = |key: &str| table[key].as_array().cloned().unwrap_or_default();
    let keys: Vec<Value> = list("KeySchema").iter().map(|key| key["AttributeName"].clone()).collect();
    let is_string = list("AttributeDefinitions")
        .iter()
        .any(|attribute| attribute["AttributeName"] == PARTITION_KEY && attribute["AttributeType"] == "S");
    if keys != [PARTITION_KEY] || !is_string {
        return Finding::failed(format!(
            "the table {name} has another key: make one whose partition key is the string \"{PARTITION_KEY}\", \
             without a sort key"
        ));
    }
    match table["TableStatus"].as_str() {
        Some("ACTIVE" | "UPDATING") => {
            Finding::good(format!("the table {name} is there, with the right key"))
        }
        other => Finding::failed(format!("the table {name} is {}", other.unwrap_or("in an unknown state"))),
    }
}

fn time_to_live(answer: Result<Value, CallError>) -> Finding {
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => return refused("DescribeTimeToLive", &error),
    };
    let ttl = &answer["TimeToLiveDescription"];
    let is_on = matches!(ttl["TimeToLiveStatus"].as_str(), Some("ENABLED" | "ENABLING"));
    if is_on && ttl["AttributeName"] == TTL_ATTRIBUTE {
        return Finding::good("its items expire");
    }
    Finding::warning(format!(
        "its items never expire, and it grows for ever: switch time to live on for the attribute \"{TTL_ATTRIBUTE}\""
    ))
}

/// A read, and writes whose condition no item can meet: they show what is permitted, and change nothing.
fn questions(table: &str) -> [(&'static str, Value); 3] {
    let key = json!({ PARTITION_KEY: { "S": "trailship-check" } });
    let never = "attribute_exists(#k) AND attribute_not_exists(#k)";
    let names = json!({ "#k": PARTITION_KEY });
    let update = json!({
        "TableName": table,
        "Key": key,
        "UpdateExpression": "SET #e = :e",
        "ConditionExpression": never,
        "ExpressionAttributeNames": { "#k": PARTITION_KEY, "#e": TTL_ATTRIBUTE },
        "ExpressionAttributeValues": { ":e": { "N": "0" } },
    });
    let put = json!({
        "TableName": table,
        "Item": key,
        "ConditionExpression": never,
        "ExpressionAttributeNames": names,
    });
    let get = json!({ "TableName": table, "Key": key, "ConsistentRead": true });
    [("GetItem", get), ("UpdateItem", update), ("PutItem", put)]
}

async fn permission(client: &JsonClient, operation: &str, input: &Value) -> Finding {
    match client.call(operation, input).await {
        Ok(_) => Finding::good("permitted"),
        Err(error) if error.code == "ConditionalCheckFailedException" => Finding::good("permitted"),
        Err(error) => refused(operation, &error),
    }
}

fn refused(operation: &str, error: &CallError) -> Finding {
    let help = match error.code.as_str() {
        "AccessDeniedException" => {
            // What only `check` asks is no fault of the agent's permissions.
            let text = format!("not permitted, so it cannot be told: allow dynamodb:{operation}");
            if operation.starts_with("Describe") {
                return Finding::warning(text);
            }
            format!("allow dynamodb:{operation} on it")
        }
        "ResourceNotFoundException" => "see `table`, `region` and the account".to_owned(),
        "" => "is DynamoDB reached from here? (see `endpoints` and `proxy` of [aws])".to_owned(),
        _ => "see the credentials, and the region".to_owned(),
    };
    Finding::failed(format!("{}: {help}", error.message.trim_end_matches(['.', ':', ' '])))
}
