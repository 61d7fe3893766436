//! Signs requests to services of AWS that have no SDK client here (Signature Version 4).
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials as _;
use aws_sigv4::http_request::{PayloadChecksumKind, SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use bytes::Bytes;
use sinks::ports::{Authorize, Clock};
use sinks::{Head, Reason, ReasonCode};
use tokio::sync::Mutex;

/// Credentials are fetched anew when they have less than this left.
const RENEW_BEFORE: Duration = Duration::from_secs(300);

/// Credentials without an end are fetched anew after this time: they may have been replaced.
const KEPT_MAX: Duration = Duration::from_secs(900);

/// Signs with the credentials of one identity, for one service in one region.
pub struct Signer {
    config: SdkConfig,
    service: &'static str,
    region: String,
    clock: Arc<dyn Clock>,
    kept: Mutex<Option<(Credentials, SystemTime)>>,
}

impl Signer {
    /// A signer; nothing is fetched yet.
    pub fn new(config: SdkConfig, service: &'static str, region: String, clock: Arc<dyn Clock>) -> Self {
        Self { config, service, region, clock, kept: Mutex::default() }
    }

    async fn credentials(&self) -> Result<Credentials, Reason> {
        let now = self.clock.now();
        let mut kept = self.kept.lock().await;
        if let Some((credentials, until)) = &*kept
            && now < *until
        {
            return Ok(credentials.clone());
        }
        let missing = |text: String| {
            Reason::new(ReasonCode::Unauthorized, format!("no AWS credentials to sign with: {text}"))
        };
        let provider =
            self.config.credentials_provider().ok_or_else(|| missing("no provider is set up".to_owned()))?;
        let fresh = provider.provide_credentials().await.map_err(|error| missing(super::describe(&error)))?;
        let until = fresh.expiry().map_or(now + KEPT_MAX, |end| {
            end - RENEW_BEFORE.min(end.duration_since(now).unwrap_or_default() / 2)
        });
        *kept = Some((fresh.clone(), until));
        Ok(fresh)
    }
}

#[async_trait]
impl Authorize for Signer {
    async fn authorize(&self, head: &mut Head, body: &Bytes) -> Result<(), Reason> {
        let credentials = self.credentials().await?;
        sign_head(head, body, credentials, self.service, &self.region, self.clock.now())
            .map_err(|error| Reason::new(ReasonCode::Other, format!("the request cannot be signed: {error}")))
    }
}

/// Adds the headers of a signature; `x-amz-content-sha256` too, without which OpenSearch Serverless refuses.
fn sign_head(
    head: &mut Head,
    body: &Bytes,
    credentials: Credentials,
    service: &str,
    region: &str,
    now: SystemTime,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut settings = SigningSettings::default();
    settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    let identity = credentials.into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name(service)
        .time(now)
        .settings(settings)
        .build()?;
    let headers = head.headers.iter().map(|(name, value)| (*name, value.as_str()));
    let request = SignableRequest::new(head.method, head.url.as_str(), headers, SignableBody::Bytes(body))?;
    let (instructions, _) = sign(request, &params.into())?.into_parts();
    let (added, _) = instructions.into_parts();
    head.headers.extend(added.into_iter().map(|header| (header.name(), header.value().to_owned())));
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// The example `get-vanilla` of AWS's test suite for Signature Version 4, whose body is empty.
    /// <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-test-suite.html>
    #[test]
    fn a_request_is_signed_as_the_documentation_has_it() {
        let mut head =
            Head { method: "GET", url: "https://example.amazonaws.com/".to_owned(), headers: vec![] };
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_440_938_160);
        let key = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
        let credentials = Credentials::new("AKIDEXAMPLE", key, None, None, "test");
        sign_head(&mut head, &Bytes::new(), credentials, "service", "us-east-1", now).unwrap();
        let header = |name: &str| head.headers.iter().find(|(key, _)| *key == name).unwrap().1.clone();
        assert_eq!(header("x-amz-date"), "20150830T123600Z");
        assert_eq!(
            header("x-amz-content-sha256"),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        let authorization = header("authorization");
        assert!(authorization.starts_with(
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
             SignedHeaders=host;x-amz-content-sha256;x-amz-date, Signature="
        ));
    }

    #[test]
    fn a_session_token_and_the_body_are_signed_too() {
        let signed = |body: &'static [u8]| {
            let url = "https://search.example/_bulk".to_owned();
            let mut head =
                Head { method: "POST", url, headers: vec![("content-encoding", "gzip".to_owned())] };
            let credentials = Credentials::new("AKIDEXAMPLE", "key", Some("token".to_owned()), None, "test");
            let now = SystemTime::UNIX_EPOCH;
            sign_head(&mut head, &Bytes::from_static(body), credentials, "es", "eu-west-1", now).unwrap();
            head.headers
        };
        let headers = signed(b"a");
        assert!(headers.contains(&("x-amz-security-token", "token".to_owned())));
        let authorization = |headers: &[(&str, String)]| {
            headers.iter().find(|(name, _)| *name == "authorization").unwrap().1.clone()
        };
        assert!(
            authorization(&headers)
                .contains("content-encoding;host;x-amz-content-sha256;x-amz-date;x-amz-security-token")
        );
        assert_ne!(authorization(&headers), authorization(&signed(b"b")));
    }
}
