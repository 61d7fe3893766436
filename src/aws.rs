//! AWS clients: one configuration an identity, one S3 client a region, made once.

mod clean;
mod json;
mod sign;

use std::collections::HashMap;
use std::error::Error;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_sqs::config::Credentials;
use aws_sdk_sqs::config::retry::RetryPartition;
use aws_smithy_http_client::tls;

pub use json::{CallError, JsonClient, JsonService};
pub use sign::Signer;

use crate::config::AwsIdentity;

/// An error and its causes in one line, for a person.
pub fn describe(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    clean::clean(&text)
}

/// One named identity of the configuration.
pub struct Aws {
    identity: AwsIdentity,
    base: SdkConfig,
    /// Whether its clients share nothing with others of this process; the SDK keeps the tokens that retries cost in a
    /// global place.
    is_apart: bool,
    s3: Mutex<HashMap<String, aws_sdk_s3::Client>>,
}

impl Aws {
    /// Loads the SDK's configuration for an identity; credentials are fetched when they are first needed, from
    /// the SDK's own chain unless they are given.
    pub async fn load(identity: &AwsIdentity, credentials: Option<Credentials>) -> Self {
        let base = load_base(identity, credentials).await;
        let base = assume(identity, base).await;
        Self { identity: identity.clone(), base, is_apart: false, s3: Mutex::default() }
    }

    /// The same on a configuration of the SDK that is given, with its credentials, apart from all else in this process;
    /// roles are not taken on.
    pub fn with_config(identity: &AwsIdentity, config: SdkConfig) -> Self {
        let base = config.into_builder().timeout_config(timeouts()).retry_config(retries()).build();
        Self { identity: identity.clone(), base, is_apart: true, s3: Mutex::default() }
    }

    /// The SDK's configuration, role and credentials included.
    pub fn config(&self) -> &SdkConfig {
        &self.base
    }

    /// What the configuration says of it.
    pub fn identity(&self) -> &AwsIdentity {
        &self.identity
    }

    /// The region that applies where nothing else says.
    pub fn region(&self) -> Option<String> {
        self.base.region().map(ToString::to_string)
    }

    /// A client for S3 in `region`, or in the identity's own.
    pub fn s3(&self, region: Option<&str>) -> aws_sdk_s3::Client {
        let region = region.map(str::to_owned).or_else(|| self.region()).unwrap_or_default();
        let mut clients = self.s3.lock().unwrap_or_else(PoisonError::into_inner);
        let make = || {
            let mut config = aws_sdk_s3::config::Builder::from(&self.base);
            if self.is_apart {
                config = config.retry_partition(RetryPartition::custom("s3").build());
            }
            if !region.is_empty() {
                config = config.region(Region::new(region.clone()));
            }
            if let Some(endpoint) = &self.identity.endpoints.s3 {
                config = config.endpoint_url(endpoint).force_path_style(true);
            } else if std::env::var_os("AWS_ENDPOINT_URL_S3")
                .or_else(|| std::env::var_os("AWS_ENDPOINT_URL"))
                .is_some()
            {
                config = config.force_path_style(true);
            }
            aws_sdk_s3::Client::from_conf(config.build())
        };
        clients.entry(region.clone()).or_insert_with(make).clone()
    }

    /// A client for SQS in `region`, or in the identity's own.
    pub fn sqs(&self, region: Option<&str>) -> aws_sdk_sqs::Client {
        let mut config = aws_sdk_sqs::config::Builder::from(&self.base);
        if self.is_apart {
            config = config.retry_partition(RetryPartition::custom("sqs").build());
        }
        if let Some(region) = region {
            config = config.region(Region::new(region.to_owned()));
        }
        if let Some(endpoint) = &self.identity.endpoints.sqs {
            config = config.endpoint_url(endpoint);
        }
        aws_sdk_sqs::Client::from_conf(config.build())
    }
}

/// How long AWS may take to answer.
fn timeouts() -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(5))
        .operation_attempt_timeout(Duration::from_secs(60))
        .build()
}

/// How often the SDK asks AWS again by itself.
fn retries() -> RetryConfig {
    RetryConfig::standard().with_max_attempts(4)
}

async fn load_base(identity: &AwsIdentity, credentials: Option<Credentials>) -> SdkConfig {
    if let Some(proxy) = &identity.proxy {
        clean::hide_proxy(proxy.expose());
    }
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http_client(identity.proxy.as_ref().map(|proxy| proxy.expose())))
        .timeout_config(timeouts())
        .retry_config(retries());
    if let Some(region) = &identity.region {
        loader = loader.region(Region::new(region.clone()));
    }
    if let Some(credentials) = credentials {
        loader = loader.credentials_provider(credentials);
    }
    if let Some(profile) = &identity.profile {
        loader = loader.profile_name(profile);
    }
    if identity.use_fips {
        loader = loader.use_fips(true);
    }
    if identity.use_dualstack {
        loader = loader.use_dual_stack(true);
    }
    loader.load().await
}

/// The role of the identity, where it has one.
async fn assume(identity: &AwsIdentity, base: SdkConfig) -> SdkConfig {
    let Some(role) = &identity.assume_role else { return base };
    let session = role.session_name.clone();
    let mut sts = base.clone().into_builder();
    if let Some(endpoint) = &identity.endpoints.sts {
        sts = sts.endpoint_url(endpoint);
    }
    let mut builder =
        aws_config::sts::AssumeRoleProvider::builder(&role.arn).configure(&sts.build()).session_name(session);
    if let Some(region) = base.region() {
        builder = builder.region(region.clone());
    }
    if let Some(id) = &role.external_id {
        builder = builder.external_id(id.expose());
    }
    let provider = builder.build().await;
    let credentials = aws_sdk_sqs::config::SharedCredentialsProvider::new(provider);
    base.into_builder().credentials_provider(credentials).build()
}

fn http_client(proxy: Option<&str>) -> aws_sdk_sqs::config::SharedHttpClient {
    use aws_smithy_http_client::{Builder, Connector, proxy::ProxyConfig};
    let proxy = match proxy {
        Some(url) => ProxyConfig::all(url).unwrap_or_else(|_| ProxyConfig::from_env()),
        None => ProxyConfig::from_env(),
    };
    Builder::new().build_with_connector_fn(move |settings, _| {
        let mut connector = Connector::builder()
            .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::AwsLc))
            .proxy_config(proxy.clone());
        connector.set_connector_settings(settings.cloned());
        connector.build()
    })
}
