//! HTTP in production: reqwest with rustls, no redirects, bounded answers, and errors free of secrets.

use std::error::Error as _;
use std::net::ToSocketAddrs as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use sinks::ports::Transport;
use sinks::{Answer, Head, Reason, ReasonCode, Secret};

/// An answer longer than this is no answer.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// How one sink is reached.
#[derive(Clone, Debug)]
pub struct TransportSettings {
    /// For the whole exchange.
    pub timeout: Duration,
    /// For the connection alone, TLS included.
    pub connect_timeout: Duration,
    /// Idle connections are closed after this time.
    pub idle_max: Option<Duration>,
    /// A proxy's URL, which may hold a password; `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` are honoured without it.
    pub proxy: Option<Secret>,
    /// Trusted beside the system's certificates.
    pub ca_file: Option<PathBuf>,
    /// Client certificate and key, PEM.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The name that the server's certificate has to bear, where it is not the URL's host.
    pub server_name: Option<String>,
    /// Takes any certificate.
    pub insecure_skip_verify: bool,
}

impl Default for TransportSettings {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(60),
            connect_timeout: Duration::from_secs(5),
            idle_max: None,
            proxy: None,
            ca_file: None,
            identity: None,
            server_name: None,
            insecure_skip_verify: false,
        }
    }
}

/// The transport of one sink.
pub struct HttpTransport {
    client: reqwest::Client,
    server_name: Option<String>,
}

impl HttpTransport {
    /// A transport; `hosts` are those of the sink's endpoints, for `server_name`.
    ///
    /// # Errors
    /// A text that names the setting and the remedy: a file that cannot be read, a proxy that is no URL.
    pub fn new(settings: &TransportSettings, hosts: &[String]) -> Result<Self, String> {
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("trailship/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .timeout(settings.timeout)
            .connect_timeout(settings.connect_timeout)
            .pool_idle_timeout(settings.idle_max.unwrap_or(Duration::from_secs(50)))
            .tls_version_min(reqwest::tls::Version::TLS_1_2)
            .http1_only();
        if let Some(proxy) = &settings.proxy {
            let proxy = reqwest::Proxy::all(proxy.expose()).map_err(|_| "proxy: not a URL".to_owned())?;
            builder = builder.proxy(proxy.no_proxy(reqwest::NoProxy::from_env()));
        }
        if let Some(path) = &settings.ca_file {
            let pem = read("tls.ca_file", path)?;
            let certificates = reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| {
                format!("tls.ca_file: {} holds no PEM certificate: {error}", path.display())
            })?;
            if certificates.is_empty() {
                return Err(format!("tls.ca_file: {} holds no PEM certificate", path.display()));
            }
            builder = builder.tls_certs_merge(certificates);
        }
        if let Some((certificate, key)) = &settings.identity {
            let mut pem = read("tls.cert_file", certificate)?;
            pem.extend(read("tls.key_file", key)?);
            let identity = reqwest::Identity::from_pem(&pem)
                .map_err(|_| "tls.cert_file, tls.key_file: not a PEM certificate with its key".to_owned())?;
            builder = builder.identity(identity);
        }
        if let (Some(name), Some(host)) = (&settings.server_name, hosts.first()) {
            builder = builder.dns_resolver(Arc::new(Renamed { name: name.clone(), host: host.clone() }));
        }
        let client = builder
            .tls_danger_accept_invalid_certs(settings.insecure_skip_verify)
            .build()
            .map_err(|error| format!("tls or proxy settings cannot be used: {}", describe(&error)))?;
        Ok(Self { client, server_name: settings.server_name.clone() })
    }
}

/// A file that a setting names.
pub(super) fn read(key: &str, path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("{key}: cannot read {}: {error}", path.display()))
}

#[async_trait]
impl Transport for HttpTransport {
    async fn exchange(&self, head: Head, body: Bytes) -> Result<Answer, Reason> {
        let invalid = || Reason::new(ReasonCode::Other, "the destination's URL cannot be used");
        let mut url = reqwest::Url::parse(&head.url).map_err(|_| invalid())?;
        if let Some(name) = &self.server_name {
            url.set_host(Some(name)).map_err(|_| invalid())?;
        }
        let method = reqwest::Method::from_bytes(head.method.as_bytes()).map_err(|_| invalid())?;
        let mut request = self.client.request(method, url).body(body);
        for (name, value) in &head.headers {
            request = request.header(*name, value);
        }
        let mut response = request.send().await.map_err(|error| reason(&error))?;
        let headers = response.headers().iter().filter_map(|(name, value)| {
            value.to_str().ok().map(|value| (name.as_str().to_owned(), value.to_owned()))
        });
        let (status, headers) = (response.status().as_u16(), headers.collect());
        let mut whole = BytesMut::new();
        while let Some(part) = response.chunk().await.map_err(|error| reason(&error))? {
            if whole.len() + part.len() > ANSWER_BYTES_MAX {
                return Err(Reason::new(ReasonCode::Garbled, "the answer is longer than 16 MiB"));
            }
            whole.extend_from_slice(&part);
        }
        Ok(Answer { status, headers, body: whole.freeze() })
    }
}

/// Words of what rustls says.
const OF_TLS: [&str; 6] =
    ["certificate", "tls", "handshake", "received fatal alert", "peer is incompatible", "corrupt message"];

/// What went wrong, without the URL: it may hold a token.
fn reason(error: &reqwest::Error) -> Reason {
    let text = describe(error);
    let lower = text.to_lowercase();
    let code = if error.is_timeout() {
        ReasonCode::Timeout
    } else if OF_TLS.iter().any(|word| lower.contains(word)) {
        ReasonCode::Tls
    } else {
        ReasonCode::Connection
    };
    Reason::new(code, text)
}

/// The chain of causes behind an error; its own text, which names the URL, is left out.
fn describe(error: &reqwest::Error) -> String {
    let mut causes = Vec::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        causes.push(error.to_string());
        cause = error.source();
    }
    let kind = match () {
        () if error.is_timeout() => "timed out",
        () if error.is_connect() => "cannot connect",
        () if error.is_body() || error.is_decode() => "the answer was cut short",
        () => "the exchange failed",
    };
    match causes.last() {
        Some(cause) => format!("{kind}: {cause}"),
        None => kind.to_owned(),
    }
}

/// Resolves the certificate's name to the endpoint's host.
struct Renamed {
    name: String,
    host: String,
}

impl Resolve for Renamed {
    fn resolve(&self, name: Name) -> Resolving {
        let host = if name.as_str() == self.name { self.host.clone() } else { name.as_str().to_owned() };
        Box::pin(async move {
            #[allow(clippy::disallowed_methods, reason = "the system's resolver blocks")]
            let found = tokio::task::spawn_blocking(move || (host.as_str(), 0).to_socket_addrs()).await??;
            let found: Addrs = Box::new(found);
            Ok(found)
        })
    }
}

#[cfg(test)]
mod tests;
