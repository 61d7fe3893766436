//! As much of Secrets Manager and of Systems Manager's parameters as an agent reads.
//! <https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_GetSecretValue.html>,
//! <https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_GetParameter.html>

use std::collections::BTreeMap;

use http::StatusCode;
use serde_json::{Value, json};

use super::s3::wire::Scope;
use super::{Shared, State};
use crate::http::{Request, Response};

/// What is kept, and who asked.
#[derive(Debug, Default)]
pub(crate) struct Secrets {
    /// Secrets by their ARN.
    pub(crate) secrets: BTreeMap<String, String>,
    /// Parameters by their name.
    pub(crate) parameters: BTreeMap<String, String>,
    /// How often a value was given out, by ARN or name.
    pub(crate) reads: BTreeMap<String, u64>,
}

/// The service and the operation that a request is about.
pub(crate) fn target(request: &Request) -> Option<(&'static str, String)> {
    let (prefix, operation) = request.header("x-amz-target")?.split_once('.')?;
    let service = match prefix {
        "secretsmanager" => "secretsmanager",
        "AmazonSSM" => "ssm",
        _ => return None,
    };
    Some((service, operation.to_owned()))
}

/// Whether a request is signed for a service, its target included.
pub(crate) fn is_signed(request: &Request, service: &str) -> bool {
    let authorization = request.header("authorization").unwrap_or_default();
    let list = authorization.split("SignedHeaders=").nth(1).and_then(|rest| rest.split(',').next());
    let is_in = |name: &&str| list.is_some_and(|list| list.split(';').any(|it| it == *name));
    Scope::of(request).access_key.is_some()
        && authorization.contains(&format!("/{service}/aws4_request"))
        && ["host", "x-amz-date", "x-amz-target"].iter().all(is_in)
}

/// Does what a request asks for.
pub(crate) fn answer(
    shared: &Shared,
    state: &mut State,
    (service, operation): (&'static str, &str),
    request: &Request,
) -> Response {
    if !is_signed(request, service) {
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
    let secrets = &mut state.secrets;
    match (service, operation) {
        ("secretsmanager", "GetSecretValue") => {
            let id = input["SecretId"].as_str().unwrap_or_default();
            // A secret has its ARN, which ends in six random characters, and its name.
            let name_of = |arn: &str| {
                let name = arn.split(':').nth(6).unwrap_or_default();
                name.get(..name.len().saturating_sub(7)).unwrap_or_default().to_owned()
            };
            let found = secrets.secrets.iter().find(|(arn, _)| *arn == id || name_of(arn) == id);
            let Some((arn, value)) = found.map(|(arn, value)| (arn.clone(), value.clone())) else {
                let message = "Secrets Manager can't find the specified secret.";
                return error(shared, 400, "ResourceNotFoundException", message);
            };
            *secrets.reads.entry(arn.clone()).or_default() += 1;
            let name = name_of(&arn);
            done(
                shared,
                &json!({ "ARN": arn, "Name": name, "SecretString": value, "VersionStages": ["AWSCURRENT"] }),
            )
        }
        ("ssm", "GetParameter") => {
            let name = input["Name"].as_str().unwrap_or_default();
            let Some(value) = secrets.parameters.get(name).cloned() else {
                return error(shared, 400, "ParameterNotFound", "");
            };
            *secrets.reads.entry(name.to_owned()).or_default() += 1;
            // What is encrypted comes as it is stored unless it is asked for in the clear.
            let value = if input["WithDecryption"] == true { value } else { "AQICAHg…".to_owned() };
            done(
                shared,
                &json!({ "Parameter": { "Name": name, "Type": "SecureString", "Value": value, "Version": 1 } }),
            )
        }
        _ => error(shared, 400, "UnknownOperationException", "the stand-in does not know it"),
    }
}

fn done(shared: &Shared, body: &Value) -> Response {
    respond(shared, StatusCode::OK, body)
}

/// An error of the JSON protocol.
pub(crate) fn error(shared: &Shared, status: u16, code: &str, message: &str) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
    respond(shared, status, &json!({ "__type": code, "Message": message }))
}

fn respond(shared: &Shared, status: StatusCode, body: &Value) -> Response {
    Response::json(status, body)
        .with_header("content-type", "application/x-amz-json-1.1")
        .with_header("x-amzn-requestid", &shared.request_id())
}
