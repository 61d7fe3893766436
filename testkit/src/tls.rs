//! TLS for stand-ins: an authority for tests, what it has signed, and servers that show it.
//!
//! The keys lie in `testkit/tls`, for everybody to see: `make.sh` there makes new ones.

use std::io;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

/// The authority's certificate: who trusts it trusts the server, and the client.
pub const AUTHORITY_PEM: &str = include_str!("../tls/authority.pem");
/// The certificate of a server named `localhost`, or `127.0.0.1`.
pub const SERVER_PEM: &str = include_str!("../tls/server.pem");
/// The certificate of that server, whose time is over.
pub const EXPIRED_PEM: &str = include_str!("../tls/expired.pem");
/// The certificate of a server named `stranger.example`.
pub const STRANGER_PEM: &str = include_str!("../tls/stranger.pem");
/// The key of all three.
pub const SERVER_KEY: &str = include_str!("../tls/server.key");
/// The certificate of a client.
pub const CLIENT_PEM: &str = include_str!("../tls/client.pem");
/// Its key.
pub const CLIENT_KEY: &str = include_str!("../tls/client.key");

/// Who is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clients {
    /// Everybody.
    Any,
    /// Those who show a certificate that the authority has signed.
    Signed,
}

/// Those who trust the authority only.
///
/// # Errors
/// If its certificate cannot be read.
pub fn roots() -> io::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_slice(AUTHORITY_PEM.as_bytes()).map_err(io::Error::other)?;
    roots.add(root).map_err(io::Error::other)?;
    Ok(roots)
}

/// Accepts connections with the server's certificate.
///
/// # Errors
/// If it cannot be used.
pub fn acceptor(clients: Clients) -> io::Result<TlsAcceptor> {
    acceptor_with(clients, SERVER_PEM)
}

/// Accepts connections with another certificate of the same key.
///
/// # Errors
/// If it cannot be used.
pub fn acceptor_with(clients: Clients, certificate_pem: &str) -> io::Result<TlsAcceptor> {
    let chain = CertificateDer::from_pem_slice(certificate_pem.as_bytes()).map_err(io::Error::other)?;
    let key = PrivateKeyDer::from_pem_slice(SERVER_KEY.as_bytes()).map_err(io::Error::other)?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    let builder = match clients {
        Clients::Any => builder.with_no_client_auth(),
        Clients::Signed => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots()?), provider);
            builder.with_client_cert_verifier(verifier.build().map_err(io::Error::other)?)
        }
    };
    let config = builder.with_single_cert(vec![chain], key).map_err(io::Error::other)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
