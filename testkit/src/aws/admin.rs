//! The stand-in driven from another process: JSON under `/_testkit/`.
//!
//! | request | does |
//! |---|---|
//! | `GET counts` | counts of every queue and bucket, and how often each fault struck |
//! | `GET log?queue=` | what happened to messages, one JSON object a line |
//! | `GET messages?queue=` | the life of each message, one JSON object a line |
//! | `GET requests` | what was asked of S3, one JSON object a line |
//! | `GET bodies?queue=` | the bodies of the messages that a queue holds, a JSON list |
//! | `GET credentials?seconds=` | credentials as the ECS endpoint gives them |
//! | `POST queue` | `{"name", "visibility_seconds", "dead_letters", "receives_max", "behaviour"}` |
//! | `POST bucket` | `{"name", …}` and the members of [`BucketOptions`] |
//! | `POST notify?bucket=` | a [`Notification`] |
//! | `PUT put?bucket=&key=` | writes the body as an object and tells the queues |
//! | `GET object?bucket=&key=` | the newest bytes of an object |
//! | `POST send?queue=` | puts the body on a queue |
//! | `POST fault` | a [`FaultRule`]; answers `{"id"}` |
//! | `DELETE fault?id=` | ends a fault, or all |
//! | `POST advance?seconds=` | moves the clock forward |

use std::time::Duration;

use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::clock::iso8601;
use super::fault::FaultRule;
use super::notify::Notification;
use super::s3::{BucketOptions, NewObject};
use super::sqs::{Outgoing, QueueBehaviour, Redrive};
use super::{AwsError, Shared};
use crate::http::{Request, Response};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct QueueRequest {
    name: String,
    visibility_seconds: Option<u64>,
    dead_letters: Option<String>,
    receives_max: Option<u32>,
    behaviour: Option<QueueBehaviour>,
}

/// Answers one request.
pub(crate) fn answer(shared: &Shared, request: &Request) -> Response {
    let name = request.path.trim_start_matches("/_testkit").trim_matches('/');
    let done = match (request.method.as_str(), name) {
        ("GET", _) => read(shared, request, name),
        ("POST" | "PUT" | "DELETE", _) => write(shared, request, name),
        _ => None,
    };
    match done {
        Some(Ok(response)) => response,
        Some(Err(AwsError(text))) => Response::json(StatusCode::BAD_REQUEST, &json!({ "error": text })),
        None => Response::json(StatusCode::NOT_FOUND, &json!({ "error": "no such admin request" })),
    }
}

type Done = Option<Result<Response, AwsError>>;

fn read(shared: &Shared, request: &Request, name: &str) -> Done {
    let value = |name: &str| request.query_value(name).unwrap_or_default();
    let queue = request.query_value("queue");
    let mut state = shared.state();
    let response = match name {
        "counts" => {
            drop(state);
            Response::json(StatusCode::OK, &counts(shared))
        }
        "log" => {
            let wanted = |name: &str| queue.as_deref().is_none_or(|queue| queue == name);
            lines(state.sqs.log.iter().filter(|operation| wanted(&operation.queue)))
        }
        "messages" => lines(state.sqs.histories(queue.as_deref()).iter()),
        "requests" => lines(state.s3.requests.iter()),
        "bodies" => match state.sqs.queue(&value("queue")) {
            Ok(queue) => Response::json(StatusCode::OK, &queue.bodies().into()),
            Err(e) => return Some(Err(e.into())),
        },
        "object" => match state.s3.get(&value("bucket"), &value("key"), None) {
            Ok(version) => Response::new(StatusCode::OK).with_body(version.body.clone()),
            Err(e) => return Some(Err(e.into())),
        },
        "credentials" => {
            let expires_ms = shared.clock.now() + value("seconds").parse::<u64>().unwrap_or(3600) * 1000;
            let role = format!("arn:aws:iam::{}:role/testkit", shared.names.account);
            let access_key = state.sts.begin(&role, "testkit", expires_ms);
            Response::json(
                StatusCode::OK,
                &json!({
                    "AccessKeyId": access_key,
                    "SecretAccessKey": "testkit-secret",
                    "Token": "testkit-token",
                    "Expiration": iso8601(expires_ms),
                    "RoleArn": role,
                }),
            )
        }
        _ => return None,
    };
    Some(Ok(response))
}

fn lines<T: serde::Serialize>(items: impl Iterator<Item = T>) -> Response {
    let mut body = String::new();
    for item in items {
        // These types always have a JSON form.
        body.push_str(&serde_json::to_string(&item).unwrap_or_default());
        body.push('\n');
    }
    Response::text(StatusCode::OK, "application/x-ndjson", body)
}

fn counts(shared: &Shared) -> Value {
    let now = shared.clock.now();
    let mut state = shared.state();
    let names: Vec<String> = state.sqs.queues.keys().cloned().collect();
    let queues: serde_json::Map<_, _> = names
        .into_iter()
        .map(|name| {
            let counts = state.sqs.counts(&name, now).unwrap_or_default();
            (name, json!(counts))
        })
        .collect();
    let buckets: serde_json::Map<_, _> = state
        .s3
        .buckets
        .iter()
        .map(|(name, bucket)| {
            let sizes = bucket.keys_from("").map(|(_, version)| version.body.len());
            let (objects, bytes) = sizes.fold((0, 0), |(objects, bytes), size| (objects + 1, bytes + size));
            (name.clone(), json!({ "objects": objects, "bytes": bytes }))
        })
        .collect();
    json!({ "now_ms": now, "queues": queues, "buckets": buckets, "faults": state.faults.counts() })
}

fn write(shared: &Shared, request: &Request, name: &str) -> Done {
    let value = |name: &str| request.query_value(name).unwrap_or_default();
    let result = match (request.method.as_str(), name) {
        ("POST", "queue") => parse(request).and_then(|wanted| make_queue(shared, wanted)),
        ("POST", "bucket") => make_bucket(shared, request),
        ("POST", "notify") => parse::<Notification>(request).and_then(|notification| {
            let mut state = shared.state();
            state.sqs.queue(&notification.queue)?;
            state.s3.bucket(&value("bucket"))?.notifications.push(notification);
            Ok(json!({}))
        }),
        ("PUT" | "POST", "put") => {
            let new = NewObject { body: request.body.clone(), ..NewObject::default() };
            let mut state = shared.state();
            state
                .s3
                .put(&value("bucket"), &value("key"), new, shared.clock.now())
                .map_err(AwsError::from)
                .map(|version| {
                    state.announce(shared, &value("bucket"), &value("key"), &version);
                    json!({ "version_id": version.id, "etag": version.etag })
                })
        }
        ("POST", "send") => {
            let body = String::from_utf8_lossy(&request.body).into_owned();
            let out = Outgoing { body, ..Outgoing::default() };
            let sent = shared.state().sqs.send(&value("queue"), out, shared.clock.now());
            sent.map_err(AwsError::from).map(|message| json!({ "message_id": message.id }))
        }
        ("POST", "fault") => {
            parse::<FaultRule>(request).map(|rule| json!({ "id": shared.state().faults.add(rule) }))
        }
        ("DELETE", "fault") => {
            match value("id").parse() {
                Ok(id) => shared.state().faults.remove(id),
                Err(_) => shared.state().faults.clear(),
            }
            Ok(json!({}))
        }
        ("POST", "advance") => match value("seconds").parse::<f64>().map(Duration::try_from_secs_f64) {
            Ok(Ok(by)) => {
                shared.clock.advance(by);
                Ok(json!({ "now_ms": shared.clock.now() }))
            }
            _ => Err(AwsError("`seconds` must be a number that is not negative".to_owned())),
        },
        _ => return None,
    };
    shared.changed.notify_waiters();
    Some(result.map(|value| Response::json(StatusCode::OK, &value)))
}

fn parse<T: for<'de> Deserialize<'de>>(request: &Request) -> Result<T, AwsError> {
    serde_json::from_slice(&request.body).map_err(|e| AwsError(e.to_string()))
}

fn make_queue(shared: &Shared, wanted: QueueRequest) -> Result<Value, AwsError> {
    let now = shared.clock.now();
    let mut state = shared.state();
    if let Some(dead_letters) = &wanted.dead_letters {
        state.sqs.create(dead_letters, now);
    }
    let queue = state.sqs.create(&wanted.name, now);
    if let Some(seconds) = wanted.visibility_seconds {
        queue.settings.visibility_ms = seconds * 1000;
    }
    if let Some(behaviour) = wanted.behaviour {
        queue.behaviour = behaviour;
    }
    if let Some(dead_letters) = wanted.dead_letters {
        let receives_max = wanted.receives_max.unwrap_or(100);
        queue.settings.redrive = Some(Redrive { queue: dead_letters, receives_max });
    }
    Ok(json!({ "url": shared.queue_url(&wanted.name) }))
}

fn make_bucket(shared: &Shared, request: &Request) -> Result<Value, AwsError> {
    let mut options: serde_json::Map<String, Value> = parse(request)?;
    let name = options.remove("name");
    let name =
        name.as_ref().and_then(Value::as_str).ok_or_else(|| AwsError("`name` is missing".to_owned()))?;
    let options: BucketOptions =
        serde_json::from_value(options.into()).map_err(|e| AwsError(e.to_string()))?;
    shared.state().s3.create(name, &shared.names.account, &shared.names.region, options);
    Ok(json!({}))
}
