//! The AWS JSON 1.0 protocol of SQS, as the SDKs speak it.
//! <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-making-api-requests-json.html>

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use http::StatusCode;
use serde_json::{Map, Value, json};
use tokio::time::Duration;

use super::{Handed, MESSAGE_BYTES_MAX, Message, Outgoing, Sqs, SqsError, attributes};
use crate::aws::clock::Millis;
use crate::aws::{Shared, State, hex, md5};
use crate::http::{Request, Response};

/// The prefix of `x-amz-target` in every SQS request.
pub(crate) const TARGET_PREFIX: &str = "AmazonSQS.";

type Answer = Result<Value, SqsError>;

/// The queue that a request is about: the last part of its URL, or the name given.
pub(crate) fn queue_name(input: &Value) -> &str {
    let url = input["QueueUrl"].as_str().and_then(|url| url.rsplit('/').next());
    url.or_else(|| input["QueueName"].as_str()).unwrap_or_default()
}

/// Does what an SQS request asks for. `reader` is the access key that it is signed with, `entries_fail` the chance of each
/// batch entry to fail, in per cent.
pub(crate) async fn call(
    shared: &Shared,
    operation: &str,
    input: &Value,
    reader: &str,
    entries_fail: u8,
) -> Response {
    let answer = match operation {
        "ReceiveMessage" => receive(shared, input, reader).await,
        _ => {
            let answer = {
                let mut state = shared.state();
                let mut call =
                    Call { now: shared.clock.now(), input, entries_fail, shared, state: &mut state };
                call.answer(operation)
            };
            shared.changed.notify_waiters();
            answer
        }
    };
    match answer {
        Ok(value) => respond(StatusCode::OK, shared, &value),
        Err(e) => error(shared, &e),
    }
}

/// An error as the JSON protocol writes it, with the header for clients of the older protocol.
pub(crate) fn error(shared: &Shared, e: &SqsError) -> Response {
    let status = StatusCode::from_u16(e.status).unwrap_or(StatusCode::BAD_REQUEST);
    let body = json!({ "__type": format!("com.amazonaws.sqs#{}", e.shape), "message": e.message });
    let side = if status.is_server_error() { "Receiver" } else { "Sender" };
    respond(status, shared, &body).with_header("x-amzn-query-error", &format!("{};{side}", e.code))
}

fn respond(status: StatusCode, shared: &Shared, body: &Value) -> Response {
    Response::json(status, body)
        .with_header("content-type", "application/x-amz-json-1.0")
        .with_header("x-amzn-requestid", &shared.request_id())
}

/// Receives; where nothing is there, waits until something is, or the wait time is over.
async fn receive(shared: &Shared, input: &Value, reader: &str) -> Answer {
    let name = queue_name(input).to_owned();
    let max = number(input, "MaxNumberOfMessages", 1, 1..=10)?;
    let visibility_ms = optional_seconds(input, "VisibilityTimeout", 43_200)?;
    let wait_ms = match optional_seconds(input, "WaitTimeSeconds", 20)? {
        Some(wait_ms) => wait_ms,
        None => shared.state().sqs.queue(&name)?.settings.wait_ms,
    };
    let deadline = shared.clock.now() + wait_ms;
    loop {
        let changed = shared.changed.notified();
        let mut changed = std::pin::pin!(changed);
        changed.as_mut().enable();
        let now = shared.clock.now();
        let due = {
            let mut state = shared.state();
            let handed = state.sqs.receive(&name, max, visibility_ms, now)?;
            state.sqs.note_reader(&name, &handed, reader);
            let queue = state.sqs.queue(&name)?;
            if !handed.is_empty() {
                return Ok(
                    json!({ "Messages": handed.iter().map(|one| handed_json(one, input)).collect::<Vec<_>>() }),
                );
            }
            if queue.is_full() && wait_ms == 0 {
                let message = "The maximum number of in flight messages is reached.";
                return Err(SqsError::new("OverLimit", "OverLimit", message));
            }
            queue.next_due().unwrap_or(deadline).min(deadline)
        };
        if now >= deadline {
            return Ok(json!({}));
        }
        // A millisecond more, so that what is due is due after the sleep.
        let sleep = Duration::from_millis(due.saturating_sub(now) + 1);
        let _ = tokio::time::timeout(sleep, changed).await;
    }
}

fn handed_json(one: &Handed, input: &Value) -> Value {
    let wanted: Vec<&str> = ["AttributeNames", "MessageSystemAttributeNames"]
        .iter()
        .filter_map(|name| input[name].as_array())
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let message = &one.message;
    let mut system = Map::new();
    for (name, value) in [
        ("SenderId", "AIDATESTKITEXAMPLE".to_owned()),
        ("SentTimestamp", message.sent_ms.to_string()),
        ("ApproximateReceiveCount", one.receive_count.to_string()),
        ("ApproximateFirstReceiveTimestamp", one.first_received_ms.to_string()),
    ] {
        if wanted.contains(&name) || wanted.contains(&"All") {
            system.insert(name.to_owned(), value.into());
        }
    }
    let mut json = json!({
        "MessageId": message.id,
        "ReceiptHandle": one.handle,
        "MD5OfBody": message.body_md5,
        "Body": message.body,
    });
    if !system.is_empty() {
        json["Attributes"] = system.into();
    }
    let any = input["MessageAttributeNames"].as_array().is_some_and(|names| !names.is_empty());
    if let (Some(attributes), true) = (&message.attributes, any) {
        json["MD5OfMessageAttributes"] = attributes_md5(attributes).into();
        json["MessageAttributes"] = attributes.clone();
    }
    json
}

/// One call under the lock.
struct Call<'a> {
    now: Millis,
    input: &'a Value,
    entries_fail: u8,
    shared: &'a Shared,
    state: &'a mut State,
}

impl Call<'_> {
    fn answer(&mut self, operation: &str) -> Answer {
        let name = queue_name(self.input).to_owned();
        match operation {
            "CreateQueue" => self.create(&name),
            "GetQueueUrl" => {
                self.sqs().queue(&name)?;
                Ok(json!({ "QueueUrl": self.shared.queue_url(&name) }))
            }
            "ListQueues" => {
                let prefix = self.input["QueueNamePrefix"].as_str().unwrap_or_default().to_owned();
                let shared = self.shared;
                let names = self.sqs().queues.keys().filter(|name| name.starts_with(&prefix));
                Ok(json!({ "QueueUrls": names.map(|name| shared.queue_url(name)).collect::<Vec<_>>() }))
            }
            "DeleteQueue" => {
                self.sqs().queues.remove(&name).map(|_| json!({})).ok_or_else(SqsError::no_queue)
            }
            "GetQueueAttributes" => self.attributes(&name),
            "SetQueueAttributes" => self.set_attributes(&name).map(|()| json!({})),
            "PurgeQueue" => {
                let now = self.now;
                self.sqs().purge(&name, now).map(|()| json!({}))
            }
            "SendMessage" => self.send(&name, self.input),
            "DeleteMessage" => self.delete(&name, self.input),
            "ChangeMessageVisibility" => self.change_visibility(&name, self.input),
            "SendMessageBatch" => self.batch(&name, Self::send),
            "DeleteMessageBatch" => self.batch(&name, Self::delete),
            "ChangeMessageVisibilityBatch" => self.batch(&name, Self::change_visibility),
            other => Err(SqsError::new(
                "UnsupportedOperation",
                "AWS.SimpleQueueService.UnsupportedOperation",
                format!("the stand-in does not know {other}"),
            )),
        }
    }

    fn sqs(&mut self) -> &mut Sqs {
        &mut self.state.sqs
    }

    fn create(&mut self, name: &str) -> Answer {
        let legal = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        if name.is_empty() || name.len() > 80 || !name.chars().all(legal) {
            return Err(SqsError::invalid(
                "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length",
            ));
        }
        let now = self.now;
        self.sqs().create(name, now);
        self.set_attributes(name)?;
        Ok(json!({ "QueueUrl": self.shared.queue_url(name) }))
    }

    fn set_attributes(&mut self, name: &str) -> Result<(), SqsError> {
        let given: BTreeMap<String, String> = self.input["Attributes"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, value)| (name.clone(), text(value)))
            .collect();
        let mut settings = self.sqs().queue(name)?.settings.clone();
        attributes::set(&mut settings, &given)?;
        let target = settings.redrive.as_ref().map(|redrive| redrive.queue.as_str());
        if target.is_some_and(|target| !self.sqs().queues.contains_key(target)) {
            return Err(SqsError::invalid(
                "Value for parameter RedrivePolicy is invalid. Reason: Dead letter target does not exist.",
            ));
        }
        self.sqs().queue(name)?.settings = settings;
        Ok(())
    }

    fn attributes(&mut self, name: &str) -> Answer {
        let names: Vec<String> = self.input["AttributeNames"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|name| name.as_str().map(str::to_owned))
            .collect();
        let counts = self.state.sqs.counts(name, self.now)?;
        let redrive = self.sqs().queue(name)?.settings.redrive.as_ref().map(|redrive| redrive.queue.clone());
        let arn = redrive.map(|queue| self.shared.names.queue_arn(&queue));
        let queue = self.sqs().queue(name)?;
        let found = attributes::get(queue, counts, arn.as_deref(), &names)?;
        Ok(if found.is_empty() { json!({}) } else { json!({ "Attributes": found }) })
    }

    fn send(&mut self, name: &str, entry: &Value) -> Answer {
        let out = Outgoing {
            body: entry["MessageBody"].as_str().unwrap_or_default().to_owned(),
            delay_ms: optional_seconds(entry, "DelaySeconds", 900)?,
            attributes: entry.get("MessageAttributes").filter(|value| !value.is_null()).cloned(),
            objects: Vec::new(),
        };
        let now = self.now;
        self.sqs().send(name, out, now).map(|message| sent_json(&message))
    }

    fn delete(&mut self, name: &str, entry: &Value) -> Answer {
        let handle = entry["ReceiptHandle"].as_str().unwrap_or_default();
        let now = self.now;
        self.sqs().delete(name, handle, now).map(|()| json!({}))
    }

    fn change_visibility(&mut self, name: &str, entry: &Value) -> Answer {
        let handle = entry["ReceiptHandle"].as_str().unwrap_or_default();
        let timeout_ms = optional_seconds(entry, "VisibilityTimeout", 43_200)?.unwrap_or(0);
        let now = self.now;
        self.sqs().change_visibility(name, handle, timeout_ms, now).map(|()| json!({}))
    }

    /// Does each entry on its own, and says of each how it ended.
    fn batch(&mut self, name: &str, mut one: impl FnMut(&mut Self, &str, &Value) -> Answer) -> Answer {
        self.sqs().queue(name)?;
        let entries = self.input["Entries"].as_array().map_or(&[][..], Vec::as_slice);
        check_batch(entries)?;
        let (mut done, mut failed) = (Vec::new(), Vec::new());
        for entry in entries {
            let id = entry["Id"].as_str().unwrap_or_default();
            if self.entries_fail > 0 && self.state.faults.percent(self.entries_fail) {
                failed.push(
                    json!({ "Id": id, "SenderFault": false, "Code": "InternalError", "Message": "injected" }),
                );
                continue;
            }
            match one(self, name, entry) {
                Ok(mut result) => {
                    result["Id"] = id.into();
                    done.push(result);
                }
                Err(e) => failed
                    .push(json!({ "Id": id, "SenderFault": true, "Code": e.code, "Message": e.message })),
            }
        }
        let mut answer = json!({ "Successful": done });
        if !failed.is_empty() {
            answer["Failed"] = failed.into();
        }
        Ok(answer)
    }
}

fn check_batch(entries: &[Value]) -> Result<(), SqsError> {
    let refuse = |shape, code, message: &str| Err(SqsError::new(shape, code, message));
    if entries.is_empty() {
        let code = "AWS.SimpleQueueService.EmptyBatchRequest";
        return refuse("EmptyBatchRequest", code, "There should be at least one entry in the request.");
    }
    if entries.len() > 10 {
        let code = "AWS.SimpleQueueService.TooManyEntriesInBatchRequest";
        let message = "Maximum number of entries per request are 10.";
        return refuse("TooManyEntriesInBatchRequest", code, message);
    }
    let ids: HashSet<_> = entries.iter().map(|entry| entry["Id"].as_str()).collect();
    if ids.len() < entries.len() {
        let code = "AWS.SimpleQueueService.BatchEntryIdsNotDistinct";
        return refuse("BatchEntryIdsNotDistinct", code, "Two or more batch entries have the same Id.");
    }
    let bytes: usize = entries.iter().filter_map(|entry| entry["MessageBody"].as_str()).map(str::len).sum();
    if bytes > MESSAGE_BYTES_MAX {
        let code = "AWS.SimpleQueueService.BatchRequestTooLong";
        let message = "Batch requests cannot be longer than 1048576 bytes.";
        return refuse("BatchRequestTooLong", code, message);
    }
    Ok(())
}

fn sent_json(message: &Arc<Message>) -> Value {
    let mut json = json!({ "MessageId": message.id, "MD5OfMessageBody": message.body_md5 });
    if let Some(attributes) = &message.attributes {
        json["MD5OfMessageAttributes"] = attributes_md5(attributes).into();
    }
    json
}

/// The digest over a message's own attributes, which SDKs check.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-message-metadata.html>
fn attributes_md5(attributes: &Value) -> String {
    use base64::Engine;
    fn put(bytes: &mut Vec<u8>, part: &[u8]) {
        bytes.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
        bytes.extend_from_slice(part);
    }
    let mut bytes = Vec::new();
    let sorted: BTreeMap<_, _> = attributes.as_object().into_iter().flatten().collect();
    for (name, value) in sorted {
        put(&mut bytes, name.as_bytes());
        put(&mut bytes, value["DataType"].as_str().unwrap_or_default().as_bytes());
        let encoded = value["BinaryValue"].as_str();
        match encoded.and_then(|text| base64::engine::general_purpose::STANDARD.decode(text).ok()) {
            Some(binary) => {
                bytes.push(2);
                put(&mut bytes, &binary);
            }
            None => {
                bytes.push(1);
                put(&mut bytes, value["StringValue"].as_str().unwrap_or_default().as_bytes());
            }
        }
    }
    hex(&md5(&bytes))
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn number(
    input: &Value,
    name: &str,
    default: usize,
    legal: std::ops::RangeInclusive<usize>,
) -> Result<usize, SqsError> {
    let Some(value) = input.get(name).filter(|value| !value.is_null()) else { return Ok(default) };
    let number = value.as_u64().and_then(|number| usize::try_from(number).ok());
    number.filter(|number| legal.contains(number)).ok_or_else(|| {
        let (min, max) = (legal.start(), legal.end());
        SqsError::invalid(format!(
            "Value {value} for parameter {name} is invalid. Reason: Must be between {min} and {max}, if provided."
        ))
    })
}

/// A number of seconds, in milliseconds.
fn optional_seconds(input: &Value, name: &str, max: usize) -> Result<Option<Millis>, SqsError> {
    if input.get(name).is_none_or(Value::is_null) {
        return Ok(None);
    }
    number(input, name, 0, 0..=max).map(|seconds| Some(seconds as Millis * 1000))
}

/// Reads the body of an SQS request.
pub(crate) fn parse(request: &Request) -> Result<Value, SqsError> {
    if request.body.is_empty() {
        return Ok(json!({}));
    }
    serde_json::from_slice(&request.body).map_err(|_| {
        SqsError::new("SerializationException", "SerializationException", "the body is not JSON")
    })
}
