//! Services of AWS that are asked in signed JSON over one small client: an SDK crate for each costs minutes of build.
//! <https://smithy.io/2.0/aws/protocols/aws-json-1_1-protocol.html>

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use sinks::ports::{Authorize as _, Clock, Random, Transport as _};
use sinks::{Answer, Delays, Head, RetryConfig};

use super::{Aws, Signer};
use crate::ports::{HttpTransport, TransportSettings};

/// Tries of one call.
const TRIES: u32 = 4;

/// Between tries.
const RETRY: RetryConfig = RetryConfig {
    initial: Duration::from_millis(200),
    max: Duration::from_secs(5),
    give_up_after: Duration::from_secs(30),
};

/// A service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum JsonService {
    DynamoDb,
    SecretsManager,
    Ssm,
}

impl JsonService {
    /// Its name in host names and signatures.
    pub fn name(self) -> &'static str {
        match self {
            Self::DynamoDb => "dynamodb",
            Self::SecretsManager => "secretsmanager",
            Self::Ssm => "ssm",
        }
    }

    /// What stands before an operation's name in `X-Amz-Target`.
    fn target(self) -> &'static str {
        match self {
            Self::DynamoDb => "DynamoDB_20120810",
            Self::SecretsManager => "secretsmanager",
            Self::Ssm => "AmazonSSM",
        }
    }

    /// The version of the protocol that it speaks.
    fn content_type(self) -> &'static str {
        match self {
            Self::DynamoDb => "application/x-amz-json-1.0",
            Self::SecretsManager | Self::Ssm => "application/x-amz-json-1.1",
        }
    }

    /// What the SDKs call it in `AWS_ENDPOINT_URL_…`.
    fn variable(self) -> &'static str {
        match self {
            Self::DynamoDb => "AWS_ENDPOINT_URL_DYNAMODB",
            Self::SecretsManager => "AWS_ENDPOINT_URL_SECRETS_MANAGER",
            Self::Ssm => "AWS_ENDPOINT_URL_SSM",
        }
    }
}

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallError {
    /// The service's name for it, such as `AccessDeniedException`; empty where there was no answer.
    pub code: String,
    /// A text for a person.
    pub message: String,
}

/// A service in one region, asked as one identity.
pub struct JsonClient {
    service: JsonService,
    url: String,
    transport: HttpTransport,
    signer: Signer,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
}

impl JsonClient {
    /// A client; nothing is asked yet.
    ///
    /// # Errors
    /// If there is no region, or a setting of the network cannot be used.
    pub fn new(
        aws: &Aws,
        service: JsonService,
        region: Option<&str>,
        clock: &Arc<dyn Clock>,
        random: &Arc<dyn Random>,
    ) -> Result<Self, String> {
        let region = region.map(str::to_owned).or_else(|| aws.region());
        let region =
            region.ok_or("no region is known: set `region` of [aws], or name what is meant by its ARN")?;
        let settings = TransportSettings {
            timeout: Duration::from_secs(15),
            proxy: aws.identity().proxy.clone(),
            ..TransportSettings::default()
        };
        Ok(Self {
            service,
            url: endpoint(aws, service, &region),
            transport: HttpTransport::new(&settings, &[])?,
            signer: Signer::new(aws.config().clone(), service.name(), region, Arc::clone(clock)),
            clock: Arc::clone(clock),
            random: Arc::clone(random),
        })
    }

    /// Calls an operation; what passes by itself (no connection, throttling, a server's error) is tried again.
    ///
    /// # Errors
    /// The last answer's, or that there was none.
    pub async fn call(&self, operation: &str, input: &Value) -> Result<Value, CallError> {
        let mut delays = Delays::new(&RETRY);
        let mut number = 1;
        loop {
            let (error, passes) = match self.try_call(operation, input).await {
                Ok(answer) if answer.status == 200 => {
                    let garbled = |_| no_answer("the answer is no JSON".to_owned());
                    return serde_json::from_slice(&answer.body).map_err(garbled);
                }
                Ok(answer) => {
                    let error = error_of(&answer);
                    let passes = answer.status >= 500 || answer.status == 429 || is_throttled(&error.code);
                    (error, passes)
                }
                Err(error) => (error, true),
            };
            if !passes || number >= TRIES {
                return Err(error);
            }
            number += 1;
            self.clock.sleep(delays.next(None, &*self.random)).await;
        }
    }

    async fn try_call(&self, operation: &str, input: &Value) -> Result<Answer, CallError> {
        let body = bytes::Bytes::from(input.to_string());
        let target = format!("{}.{operation}", self.service.target());
        let mut head = Head {
            method: "POST",
            url: self.url.clone(),
            headers: vec![("content-type", self.service.content_type().to_owned()), ("x-amz-target", target)],
        };
        let failed = |why: sinks::Reason| no_answer(super::clean::clean(&why.text));
        self.signer.authorize(&mut head, &body).await.map_err(failed)?;
        self.transport.exchange(head, body).await.map_err(failed)
    }
}

fn no_answer(message: String) -> CallError {
    CallError { code: String::new(), message }
}

fn is_throttled(code: &str) -> bool {
    [
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    ]
    .contains(&code)
}

/// What an answer says that is not a success. The code may have a namespace before it and an address behind it.
/// <https://smithy.io/2.0/aws/protocols/aws-json-1_1-protocol.html#operation-error-serialization>
fn error_of(answer: &Answer) -> CallError {
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let code = body["__type"].as_str().or_else(|| answer.header("x-amzn-errortype")).unwrap_or_default();
    let code = code.split(':').next().unwrap_or_default().rsplit('#').next().unwrap_or_default();
    let message = body["message"].as_str().or_else(|| body["Message"].as_str()).unwrap_or_default();
    // Before it is cut: half of a token is a secret still.
    let message = super::clean::clean(message);
    let message: String = message.chars().filter(|c| !c.is_control()).take(500).collect();
    CallError { code: code.to_owned(), message: format!("HTTP {} {code}: {message}", answer.status) }
}

/// Where a service is: as configured, as the environment says, or AWS's own address.
fn endpoint(aws: &Aws, service: JsonService, region: &str) -> String {
    let identity = aws.identity();
    let configured = match service {
        JsonService::DynamoDb => &identity.endpoints.dynamodb,
        JsonService::SecretsManager => &identity.endpoints.secrets_manager,
        JsonService::Ssm => &identity.endpoints.ssm,
    };
    let variable = |name: &str| std::env::var(name).ok().filter(|url| !url.is_empty());
    let chosen = configured.clone().or_else(|| variable(service.variable()));
    let chosen = chosen.or_else(|| variable("AWS_ENDPOINT_URL"));
    chosen.unwrap_or_else(|| own_endpoint(service, region, identity.use_fips, identity.use_dualstack))
}

/// <https://docs.aws.amazon.com/general/latest/gr/asm.html>, <https://docs.aws.amazon.com/general/latest/gr/ssm.html>,
/// <https://docs.aws.amazon.com/general/latest/gr/ddb.html>
fn own_endpoint(service: JsonService, region: &str, fips: bool, dualstack: bool) -> String {
    let china = region.starts_with("cn-");
    let domain = match (china, dualstack) {
        (false, false) => "amazonaws.com",
        (false, true) => "api.aws",
        (true, false) => "amazonaws.com.cn",
        (true, true) => "api.amazonwebservices.com.cn",
    };
    let fips = if fips { "-fips" } else { "" };
    format!("https://{}{fips}.{region}.{domain}/", service.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_where_aws_documents_it() {
        for (service, region, fips, dualstack, expected) in [
            (
                JsonService::SecretsManager,
                "eu-west-1",
                false,
                false,
                "secretsmanager.eu-west-1.amazonaws.com",
            ),
            (
                JsonService::SecretsManager,
                "us-east-1",
                true,
                false,
                "secretsmanager-fips.us-east-1.amazonaws.com",
            ),
            (JsonService::Ssm, "eu-west-1", false, true, "ssm.eu-west-1.api.aws"),
            (JsonService::Ssm, "cn-north-1", false, false, "ssm.cn-north-1.amazonaws.com.cn"),
            (JsonService::DynamoDb, "eu-west-1", false, false, "dynamodb.eu-west-1.amazonaws.com"),
            (JsonService::DynamoDb, "us-east-1", true, false, "dynamodb-fips.us-east-1.amazonaws.com"),
        ] {
            assert_eq!(own_endpoint(service, region, fips, dualstack), format!("https://{expected}/"));
        }
    }

    #[test]
    fn an_error_is_read_with_and_without_its_namespace() {
        for (body, headers, code) in [
            (
                r#"{"__type":"ResourceNotFoundException","Message":"gone"}"#,
                vec![],
                "ResourceNotFoundException",
            ),
            (r#"{"__type":"com.amazonaws.ssm#ParameterNotFound"}"#, vec![], "ParameterNotFound"),
            (
                "{}",
                vec![("x-amzn-errortype".to_owned(), "AccessDeniedException:http://x".to_owned())],
                "AccessDeniedException",
            ),
            ("<html>", vec![], ""),
        ] {
            let answer = Answer { status: 400, headers, body: bytes::Bytes::from(body) };
            assert_eq!(error_of(&answer).code, code, "{body}");
        }
    }
}
