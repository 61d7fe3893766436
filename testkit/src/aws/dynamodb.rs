//! As much of DynamoDB as a ledger of deliveries uses: items by one key, written under conditions.
//! <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/Welcome.html>

use std::collections::BTreeMap;

use http::StatusCode;
use serde_json::{Map, Value, json};

use super::secrets::is_signed;
use super::{Shared, State};
use crate::http::{Request, Response};

/// All tables, and what was done.
#[derive(Debug, Default)]
pub(crate) struct DynamoDb {
    tables: BTreeMap<String, Table>,
    calls: BTreeMap<String, u64>,
}

#[derive(Debug)]
struct Table {
    partition_key: String,
    ttl_attribute: Option<String>,
    items: BTreeMap<String, Map<String, Value>>,
}

/// An error with its code.
type Refusal = (&'static str, String);

impl DynamoDb {
    /// Makes a table.
    pub(crate) fn create(&mut self, name: &str, partition_key: &str, ttl_attribute: Option<&str>) {
        let table = Table {
            partition_key: partition_key.to_owned(),
            ttl_attribute: ttl_attribute.map(str::to_owned),
            items: BTreeMap::new(),
        };
        self.tables.entry(name.to_owned()).or_insert(table);
    }

    /// All items of a table.
    pub(crate) fn items(&self, name: &str) -> Vec<Value> {
        let table = self.tables.get(name).into_iter();
        table.flat_map(|table| table.items.values()).map(|item| Value::Object(item.clone())).collect()
    }

    /// How often an operation was done.
    pub(crate) fn calls(&self, operation: &str) -> u64 {
        self.calls.get(operation).copied().unwrap_or_default()
    }

    fn call(&mut self, operation: &str, input: &Value) -> Result<Value, Refusal> {
        // A table may be named by its ARN.
        let name = input["TableName"].as_str().unwrap_or_default();
        let name = name.rsplit_once(":table/").map_or(name, |(_, name)| name);
        let missing =
            || ("ResourceNotFoundException", format!("Requested resource not found: Table: {name}"));
        let table = self.tables.get_mut(name).ok_or_else(missing)?;
        let answer = match operation {
            "GetItem" => table.get(input)?,
            "PutItem" => table.put(input)?,
            "UpdateItem" => table.update(input)?,
            "DescribeTable" => table.describe(name),
            "DescribeTimeToLive" => table.describe_ttl(),
            _ => return Err(("UnknownOperationException", "the stand-in does not know it".to_owned())),
        };
        *self.calls.entry(operation.to_owned()).or_default() += 1;
        Ok(answer)
    }
}

fn invalid(message: &str) -> Refusal {
    ("ValidationException", message.to_owned())
}

impl Table {
    /// The value of the partition key in a key or an item.
    fn key_in(&self, holder: &Value, alone: bool) -> Result<String, Refusal> {
        let members = holder
            .as_object()
            .ok_or_else(|| invalid("The provided key element does not match the schema"))?;
        let text =
            holder[&self.partition_key]["S"].as_str().filter(|text| !text.is_empty() && text.len() <= 2048);
        match text {
            Some(text) if !alone || members.len() == 1 => Ok(text.to_owned()),
            _ => Err(invalid("The provided key element does not match the schema")),
        }
    }

    fn get(&self, input: &Value) -> Result<Value, Refusal> {
        let key = self.key_in(&input["Key"], true)?;
        Ok(self.items.get(&key).map_or_else(|| json!({}), |item| json!({ "Item": item })))
    }

    fn put(&mut self, input: &Value) -> Result<Value, Refusal> {
        let key = self.key_in(&input["Item"], false)?;
        self.check(&key, input)?;
        let item = input["Item"].as_object().cloned().unwrap_or_default();
        if !item.values().all(is_value) {
            return Err(invalid("Supplied AttributeValue is not one"));
        }
        self.items.insert(key, item);
        Ok(json!({}))
    }

    fn update(&mut self, input: &Value) -> Result<Value, Refusal> {
        let key = self.key_in(&input["Key"], true)?;
        self.check(&key, input)?;
        let expression = input["UpdateExpression"].as_str().unwrap_or_default();
        let sets = expression.strip_prefix("SET ").ok_or_else(|| invalid("Invalid UpdateExpression"))?;
        let names = Names(input);
        let mut item = self.items.get(&key).cloned().unwrap_or_default();
        item.insert(self.partition_key.clone(), json!({ "S": key }));
        for set in sets.split(',') {
            let (name, value) = set.split_once('=').ok_or_else(|| invalid("Invalid UpdateExpression"))?;
            let name = names.name(name)?;
            if name == self.partition_key {
                return Err(invalid("Cannot update attribute: it is part of the key"));
            }
            item.insert(name, names.value(value)?);
        }
        self.items.insert(key, item);
        Ok(json!({}))
    }

    /// Whether the condition of a write holds for the item as it is: alternatives of conjunctions.
    fn check(&self, key: &str, input: &Value) -> Result<(), Refusal> {
        let Some(condition) = input["ConditionExpression"].as_str() else { return Ok(()) };
        let (names, nothing) = (Names(input), Map::new());
        let item = self.items.get(key).unwrap_or(&nothing);
        let mut holds = false;
        for alternative in condition.split(" OR ") {
            let mut all = true;
            for part in alternative.split(" AND ") {
                all &= holds_for(item, part.trim(), &names)?;
            }
            holds |= all;
        }
        match holds {
            true => Ok(()),
            false => Err(("ConditionalCheckFailedException", "The conditional request failed".to_owned())),
        }
    }

    fn describe(&self, name: &str) -> Value {
        json!({ "Table": {
            "TableName": name,
            "TableStatus": "ACTIVE",
            "KeySchema": [{ "AttributeName": self.partition_key, "KeyType": "HASH" }],
            "AttributeDefinitions": [{ "AttributeName": self.partition_key, "AttributeType": "S" }],
        }})
    }

    fn describe_ttl(&self) -> Value {
        json!({ "TimeToLiveDescription": match &self.ttl_attribute {
            Some(name) => json!({ "TimeToLiveStatus": "ENABLED", "AttributeName": name }),
            None => json!({ "TimeToLiveStatus": "DISABLED" }),
        }})
    }
}

fn holds_for(item: &Map<String, Value>, part: &str, names: &Names<'_>) -> Result<bool, Refusal> {
    let function = |name: &str| part.strip_prefix(name)?.strip_prefix('(')?.strip_suffix(')');
    if let Some(name) = function("attribute_not_exists") {
        return Ok(!item.contains_key(&names.name(name)?));
    }
    if let Some(name) = function("attribute_exists") {
        return Ok(item.contains_key(&names.name(name)?));
    }
    if let Some((name, value)) = part.split_once("<>") {
        // What is not there differs from every value.
        return Ok(item.get(&names.name(name)?) != Some(&names.value(value)?));
    }
    let (name, value) = part.split_once('=').ok_or_else(|| invalid("Invalid ConditionExpression"))?;
    Ok(item.get(&names.name(name)?) == Some(&names.value(value)?))
}

/// The names and values that expressions refer to.
struct Names<'a>(&'a Value);

impl Names<'_> {
    fn name(&self, text: &str) -> Result<String, Refusal> {
        let text = text.trim();
        let found = self.0["ExpressionAttributeNames"][text].as_str().filter(|_| text.starts_with('#'));
        found.map(str::to_owned).ok_or_else(|| invalid("An expression attribute name is not defined"))
    }

    fn value(&self, text: &str) -> Result<Value, Refusal> {
        let found = self.0["ExpressionAttributeValues"].get(text.trim()).filter(|value| is_value(value));
        found.cloned().ok_or_else(|| invalid("An expression attribute value is not defined"))
    }
}

/// Whether it is a value as DynamoDB writes strings and numbers.
fn is_value(value: &Value) -> bool {
    let is_number = |text: &str| text.parse::<f64>().is_ok();
    value["S"].is_string() || value["N"].as_str().is_some_and(is_number)
}

/// The operation that a request is about.
pub(crate) fn target(request: &Request) -> Option<String> {
    Some(request.header("x-amz-target")?.strip_prefix("DynamoDB_20120810.")?.to_owned())
}

/// The partition key's value in a request, or its table's name.
pub(crate) fn item_name(request: &Request) -> String {
    let input: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let holder = if input["Key"].is_object() { &input["Key"] } else { &input["Item"] };
    let id = holder["id"]["S"].as_str().or_else(|| input["TableName"].as_str());
    id.unwrap_or_default().to_owned()
}

/// Does what a request asks for.
pub(crate) fn answer(shared: &Shared, state: &mut State, operation: &str, request: &Request) -> Response {
    if !is_signed(request, "dynamodb") {
        return error(
            shared,
            400,
            "InvalidSignatureException",
            "The request is not signed for this service.",
        );
    }
    let Ok(input) = serde_json::from_slice::<Value>(&request.body) else {
        return error(shared, 400, "SerializationException", "The body is no JSON.");
    };
    match state.dynamodb.call(operation, &input) {
        Ok(answer) => respond(shared, StatusCode::OK, &answer),
        Err((code, message)) => error(shared, 400, code, &message),
    }
}

/// An error of the JSON protocol, with the namespace that DynamoDB puts before its codes.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.Errors.html>
pub(crate) fn error(shared: &Shared, status: u16, code: &str, message: &str) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
    let code = format!("com.amazonaws.dynamodb.v20120810#{code}");
    respond(shared, status, &json!({ "__type": code, "message": message }))
}

fn respond(shared: &Shared, status: StatusCode, body: &Value) -> Response {
    Response::json(status, body)
        .with_header("content-type", "application/x-amz-json-1.0")
        .with_header("x-amzn-requestid", &shared.request_id())
}
