//! Connections in production: TCP, and rustls over it, with the certificates that HTTP trusts as well.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_platform_verifier::Verifier;
use sinks::ports::{Address, Dialer, Stream};
use sinks::{Reason, ReasonCode};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::transport::{TransportSettings, read};

/// The dialer of one sink.
pub struct SocketDialer {
    tls: TlsConnector,
    server_name: Option<String>,
    timeout: Duration,
}

impl SocketDialer {
    /// A dialer with a sink's settings; proxies are not for it.
    ///
    /// # Errors
    /// A text that names the setting and the remedy.
    pub fn new(settings: &TransportSettings) -> Result<Self, String> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = verifier(settings, &provider)?;
        let unusable = |error: &rustls::Error| format!("tls settings cannot be used: {error}");
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(&error))?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let config = match &settings.identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = certificates("tls.cert_file", &read("tls.cert_file", certificate)?)?;
                let key = PrivateKeyDer::from_pem_slice(&read("tls.key_file", key)?)
                    .map_err(|_| "tls.key_file: holds no PEM private key".to_owned())?;
                builder.with_client_auth_cert(chain, key).map_err(|error| unusable(&error))?
            }
        };
        Ok(Self {
            tls: TlsConnector::from(Arc::new(config)),
            server_name: settings.server_name.clone(),
            timeout: settings.connect_timeout,
        })
    }

    async fn connect(&self, address: &Address) -> Result<Box<dyn Stream>, Reason> {
        let failed = |error: &std::io::Error| {
            let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
            let code = if inner.is_some() { ReasonCode::Tls } else { ReasonCode::Connection };
            Reason::new(code, format!("cannot connect: {error}"))
        };
        let socket = TcpStream::connect((address.host.as_str(), address.port))
            .await
            .map_err(|error| failed(&error))?;
        // Frames are written whole: nothing is gained by waiting for more.
        socket.set_nodelay(true).map_err(|error| failed(&error))?;
        if !address.tls {
            return Ok(Box::new(socket));
        }
        let name = self.server_name.clone().unwrap_or_else(|| address.host.clone());
        let name = ServerName::try_from(name)
            .map_err(|_| Reason::new(ReasonCode::Tls, "the host is no name that a certificate can bear"))?;
        let stream = self.tls.connect(name, socket).await.map_err(|error| failed(&error))?;
        Ok(Box::new(stream))
    }
}

#[async_trait]
impl Dialer for SocketDialer {
    async fn dial(&self, address: &Address) -> Result<Box<dyn Stream>, Reason> {
        match tokio::time::timeout(self.timeout, self.connect(address)).await {
            Ok(connected) => connected,
            Err(_) => Err(Reason::new(ReasonCode::Timeout, "cannot connect: timed out")),
        }
    }
}

fn certificates(key: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(format!("{key}: holds no PEM certificate")),
    }
}

/// Trusts the system's certificates and those of `ca_file`, or anybody if that is asked for.
fn verifier(
    settings: &TransportSettings,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, String> {
    if settings.insecure_skip_verify {
        return Ok(Arc::new(Anybody(Arc::clone(provider))));
    }
    let extra = match &settings.ca_file {
        Some(path) => certificates("tls.ca_file", &read("tls.ca_file", path)?)?,
        None => Vec::new(),
    };
    let verifier = Verifier::new_with_extra_roots(extra, Arc::clone(provider));
    Ok(Arc::new(verifier.map_err(|error| format!("certificates cannot be verified here: {error}"))?))
}

/// Takes any certificate; the handshake's signatures are still checked.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
