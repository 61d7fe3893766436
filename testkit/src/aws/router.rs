//! Tells the services apart, lets faults strike, and notes what was asked of S3.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::StatusCode;

use super::clock::http_date;
use super::fault::AwsFault;
use super::log::ObjectRequest;
use super::s3::S3Error;
use super::sqs::SqsError;
use super::{Shared, admin, dynamodb, s3, secrets, sqs, sts};
use crate::edge::Moment;
use crate::http::{Fault, Handler, Request, Response};

/// Requests that were signed longer ago, or for later, are refused where clocks are looked at.
const SKEW_MAX_MS: u64 = 15 * 60 * 1000;

/// No answer: the connection is reset.
fn unanswered() -> Response {
    Response::new(StatusCode::SERVICE_UNAVAILABLE).with_fault(Fault::Reset)
}

/// The handler behind the one address.
pub(crate) struct Router {
    shared: Arc<Shared>,
}

/// Whose refusals to write.
enum Service {
    Sqs,
    S3(s3::wire::Call),
    Sts,
    Secrets,
    DynamoDb,
}

impl Handler for Router {
    fn handle(self: Arc<Self>, request: Request) -> BoxFuture<'static, Response> {
        Box::pin(async move {
            let response = self.route(&request).await;
            // By its own clock: whoever signs with a wrong one learns from it.
            response.with_header("date", &http_date(self.shared.clock.now()))
        })
    }
}

impl Router {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    async fn route(&self, request: &Request) -> Response {
        if request.path.starts_with("/_testkit") {
            return admin::answer(&self.shared, request);
        }
        if !self.shared.is_strict.load(Ordering::SeqCst) {
            return self.serve(request).await;
        }
        let now = self.shared.clock.now();
        let response = match s3::wire::Scope::of(request).signed_ms {
            Some(signed_ms) if signed_ms.abs_diff(now) > SKEW_MAX_MS => {
                self.shared.skewed.fetch_add(1, Ordering::SeqCst);
                self.refuse_skewed(request)
            }
            _ => self.serve(request).await,
        };
        response.with_header("date", &http_date(now))
    }

    async fn serve(&self, request: &Request) -> Response {
        let target =
            request.header("x-amz-target").and_then(|name| name.strip_prefix(sqs::wire::TARGET_PREFIX));
        if let Some(operation) = target {
            return self.sqs(operation, request).await;
        }
        if let Some((service, operation)) = secrets::target(request) {
            return self.secrets(service, &operation, request);
        }
        if let Some(operation) = dynamodb::target(request) {
            return self.dynamodb(&operation, request);
        }
        let form = request
            .header("content-type")
            .is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded"));
        if request.method == http::Method::POST && request.path == "/" && form {
            return self.sts(request);
        }
        self.s3(request)
    }

    async fn sqs(&self, operation: &str, request: &Request) -> Response {
        let input = match sqs::wire::parse(request) {
            Ok(input) => input,
            Err(e) => return sqs::wire::error(&self.shared, &e),
        };
        if self.shared.edges.pass(operation, Moment::Arrived) {
            return unanswered();
        }
        let fault = self.shared.state().faults.strike(operation, sqs::wire::queue_name(&input));
        let fault = if self.is_expired(request) { Some(AwsFault::ExpiredToken) } else { fault };
        if let Some(refusal) = fault.and_then(|fault| self.refuse(fault, &Service::Sqs)) {
            return refusal;
        }
        let entries_fail = match fault {
            Some(AwsFault::FailEntries { percent }) => percent,
            _ => 0,
        };
        let reader = s3::wire::Scope::of(request).access_key.unwrap_or_default();
        let response = sqs::wire::call(&self.shared, operation, &input, &reader, entries_fail).await;
        if self.shared.edges.pass(operation, Moment::Done) {
            return unanswered();
        }
        self.damage(response, fault)
    }

    /// The answer to a request that was signed at another time than ours.
    /// <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-troubleshooting.html>
    fn refuse_skewed(&self, request: &Request) -> Response {
        let is_sqs =
            request.header("x-amz-target").is_some_and(|name| name.starts_with(sqs::wire::TARGET_PREFIX));
        if is_sqs {
            let message = "Signature expired: it is now too late or too early for it.";
            return self.error(&Service::Sqs, 403, "InvalidSignatureException", message);
        }
        let service = Service::S3(s3::wire::call(request));
        self.refuse(AwsFault::ClockSkew, &service).unwrap_or_else(unanswered)
    }

    /// Whether the request is signed with credentials whose time is over.
    fn is_expired(&self, request: &Request) -> bool {
        let access_key = s3::wire::Scope::of(request).access_key;
        access_key.is_some_and(|key| self.shared.state().sts.is_expired(&key, self.shared.clock.now()))
    }

    fn sts(&self, request: &Request) -> Response {
        let operation = sts::operation(request);
        let fault = self.shared.state().faults.strike(&operation, "");
        if let Some(refusal) = fault.and_then(|fault| self.refuse(fault, &Service::Sts)) {
            return refusal;
        }
        let response = sts::answer(&self.shared, &mut self.shared.state(), &operation, request);
        self.damage(response, fault)
    }

    fn secrets(&self, service: &'static str, operation: &str, request: &Request) -> Response {
        let fault = self.shared.state().faults.strike(operation, "");
        if let Some(refusal) = fault.and_then(|fault| self.refuse(fault, &Service::Secrets)) {
            return refusal;
        }
        let response = secrets::answer(&self.shared, &mut self.shared.state(), (service, operation), request);
        self.damage(response, fault)
    }

    fn dynamodb(&self, operation: &str, request: &Request) -> Response {
        let key = dynamodb::item_name(request);
        let fault = self.shared.state().faults.strike(operation, &key);
        if let Some(refusal) = fault.and_then(|fault| self.refuse(fault, &Service::DynamoDb)) {
            return refusal;
        }
        let response = dynamodb::answer(&self.shared, &mut self.shared.state(), operation, request);
        self.damage(response, fault)
    }

    fn s3(&self, request: &Request) -> Response {
        let call = s3::wire::call(request);
        if self.shared.edges.pass(call.operation, Moment::Arrived) {
            return unanswered();
        }
        let fault = self.shared.state().faults.strike(call.operation, &call.key);
        let service = Service::S3(call.clone());
        let mut response = match fault.and_then(|fault| self.refuse(fault, &service)) {
            Some(refusal) => refusal,
            None => {
                let response = s3::wire::answer(&self.shared, &mut self.shared.state(), &call, request);
                self.damage(response, fault)
            }
        };
        if self.shared.edges.pass(call.operation, Moment::Done) {
            response = unanswered();
        }
        let is_unanswered = matches!(response.fault, Some(Fault::NeverAnswer | Fault::Reset | Fault::Hangup));
        let scope = s3::wire::Scope::of(request);
        self.shared.state().s3.requests.push(ObjectRequest {
            at_ms: self.shared.clock.now(),
            operation: call.operation.to_owned(),
            bucket: call.bucket,
            key: call.key,
            range: request.header("range").map(str::to_owned),
            version_id: request.query_value("versionId"),
            expected_owner: request.header("x-amz-expected-bucket-owner").map(str::to_owned),
            access_key: scope.access_key,
            status: if is_unanswered { 0 } else { response.status.as_u16() },
        });
        response
    }

    /// The answer to a call that is not done; nothing where the fault lets it be done.
    fn refuse(&self, fault: AwsFault, service: &Service) -> Option<Response> {
        let unavailable = |fault| Some(Response::new(StatusCode::SERVICE_UNAVAILABLE).with_fault(fault));
        let (status, code, message) = match fault {
            AwsFault::NeverAnswer => return unavailable(Fault::NeverAnswer),
            AwsFault::Refuse => return unavailable(Fault::Reset),
            AwsFault::Throttle => {
                let response = match service {
                    Service::Sqs => self.error(service, 400, "RequestThrottled", "Request throttled."),
                    Service::S3(_) => {
                        self.error(service, 503, "SlowDown", "Please reduce your request rate.")
                    }
                    Service::Sts => self.error(service, 400, "Throttling", "Rate exceeded"),
                    Service::Secrets => self.error(service, 400, "ThrottlingException", "Rate exceeded"),
                    Service::DynamoDb => self.error(
                        service,
                        400,
                        "ProvisionedThroughputExceededException",
                        "The level of configured provisioned throughput for the table was exceeded.",
                    ),
                };
                return Some(response.with_header("retry-after", "1"));
            }
            AwsFault::Conflict => {
                (409, "ConditionalRequestConflict", "A conflicting operation occurred during the upload.")
            }
            AwsFault::InternalError => {
                (500, "InternalError", "We encountered an internal error. Please try again.")
            }
            AwsFault::NotFound => match service {
                Service::Sqs => return Some(sqs::wire::error(&self.shared, &SqsError::no_queue())),
                Service::Secrets | Service::DynamoDb => {
                    (400, "ResourceNotFoundException", "It is not there.")
                }
                _ => (404, "NoSuchKey", "The specified key does not exist."),
            },
            AwsFault::Forbidden => match service {
                Service::Sqs | Service::Secrets | Service::DynamoDb => {
                    (400, "AccessDeniedException", "User is not authorized to perform this operation.")
                }
                _ => (403, "AccessDenied", "Access Denied"),
            },
            AwsFault::KmsDenied => match service {
                Service::S3(call) => return Some(s3::wire::error(&self.shared, call, &S3Error::kms())),
                _ => (400, "KmsAccessDenied", "The caller doesn't have the required KMS access."),
            },
            AwsFault::ExpiredToken => match service {
                Service::Sqs | Service::Secrets | Service::DynamoDb => {
                    (400, "ExpiredTokenException", "The security token included in the request is expired")
                }
                Service::S3(_) => (400, "ExpiredToken", "The provided token has expired."),
                Service::Sts => {
                    (403, "ExpiredToken", "The security token included in the request is expired")
                }
            },
            AwsFault::ClockSkew => {
                let message = "The difference between the request time and the current time is too large.";
                (403, "RequestTimeTooSkewed", message)
            }
            _ => return None,
        };
        Some(self.error(service, status, code, message))
    }

    fn error(&self, service: &Service, status: u16, code: &'static str, message: &str) -> Response {
        match service {
            Service::Sqs => {
                sqs::wire::error(&self.shared, &SqsError { status, ..SqsError::new(code, code, message) })
            }
            Service::S3(call) => s3::wire::error(&self.shared, call, &S3Error::new(status, code, message)),
            Service::Sts => sts::error(&self.shared, status, code, message),
            Service::Secrets => secrets::error(&self.shared, status, code, message),
            Service::DynamoDb => dynamodb::error(&self.shared, status, code, message),
        }
    }

    /// Damages the answer to a call that was done.
    fn damage(&self, mut response: Response, fault: Option<AwsFault>) -> Response {
        let Some(fault) = fault else { return response };
        let cut = |bytes, len| self.shared.state().faults.cut(bytes, len);
        match fault {
            AwsFault::LoseAnswer => response.with_fault(Fault::Reset),
            AwsFault::Truncate { bytes } => {
                let bytes = cut(bytes, response.body.len());
                response.with_fault(Fault::Truncate { bytes })
            }
            AwsFault::ResetBody { bytes } => {
                let bytes = cut(bytes, response.body.len());
                response.with_fault(Fault::ResetAfter { bytes })
            }
            AwsFault::Slow { bytes_per_second } => response.with_fault(Fault::Drip { bytes_per_second }),
            AwsFault::Delay { ms } => response.with_delay(Duration::from_millis(ms)),
            AwsFault::Garbage => response.with_fault(Fault::Garbage),
            AwsFault::Corrupt => {
                let at = cut(None, response.body.len());
                let mut body = response.body.to_vec();
                if let Some(byte) = body.get_mut(at) {
                    *byte ^= 0x20;
                }
                response.body = body.into();
                response
            }
            AwsFault::WrongChecksum => response.with_header("x-amz-checksum-crc32", "AAAAAA=="),
            _ => response,
        }
    }
}
