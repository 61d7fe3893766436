//! Checked addresses, and what else settings put into a request's head.

use http::Uri;

use super::Invalid;
use crate::ports::Address;

/// A checked address of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StreamEndpoint {
    /// Where it leads.
    pub(crate) address: Address,
    /// Scheme, host and port.
    pub(crate) origin: String,
}

/// A checked base address.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// Without a slash at its end.
    pub(crate) base: String,
    /// Scheme, host and port.
    pub(crate) origin: String,
}

impl Endpoint {
    /// Reads an absolute `http` or `https` address. The error does not quote it: it may hold a secret.
    pub(crate) fn parse(key: &str, text: &str) -> Result<Self, Invalid> {
        let wrong = |what: &str| Invalid::new(key, format!("{what}, such as https://host.example:9200"));
        let uri: Uri = text.parse().map_err(|_| wrong("not an address: write one"))?;
        let (Some(scheme @ ("http" | "https")), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(wrong("not an absolute address: write it with https://"));
        };
        if authority.as_str().contains('@') {
            return Err(wrong("credentials have keys of their own: write the address without them"));
        }
        if uri.query().is_some() || text.contains('#') {
            return Err(wrong("write the address without `?` or `#`"));
        }
        let origin = format!("{scheme}://{authority}");
        let base = format!("{origin}{}", uri.path().trim_end_matches('/'));
        Ok(Self { base, origin })
    }

    /// Reads a list of addresses, of which there is at least one.
    pub(crate) fn parse_all(key: &str, texts: &[String]) -> Result<Vec<Self>, Invalid> {
        if texts.is_empty() {
            return Err(Invalid::new(key, "the list is empty: name at least one address"));
        }
        texts.iter().map(|text| Self::parse(key, text)).collect()
    }

    /// Reads `tls://host:port` or `tcp://host:port`; the port may be left out.
    pub(crate) fn parse_stream(key: &str, text: &str, port: u16) -> Result<StreamEndpoint, Invalid> {
        let wrong = |what: &str| Invalid::new(key, format!("{what}, such as tls://host.example:{port}"));
        let uri: Uri = text.parse().map_err(|_| wrong("not an address: write one"))?;
        let (Some(scheme @ ("tls" | "tcp")), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(wrong("not an absolute address: write it with tls:// or tcp://"));
        };
        if authority.as_str().contains('@') {
            return Err(wrong("an address holds no credentials: take them away"));
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() || text.contains('#') {
            return Err(wrong("write host and port only"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = authority.port_u16().unwrap_or(port);
        let origin = format!("{scheme}://{}:{port}", authority.host());
        Ok(StreamEndpoint { address: Address { host, port, tls: scheme == "tls" }, origin })
    }

    /// The origins, for display.
    pub(crate) fn origins(endpoints: &[Self]) -> Vec<String> {
        endpoints.iter().map(|endpoint| endpoint.origin.clone()).collect()
    }
}

/// The one of `items` whose turn it is; `items` is never empty.
pub(crate) fn in_turn<T>(items: &[T], turn: u32) -> Option<&T> {
    items.get(turn as usize % items.len().max(1))
}

/// Refuses what cannot stand in a header's value: anything but printable ASCII.
pub(crate) fn header_value(key: &str, text: &str) -> Result<(), Invalid> {
    if text.is_empty() || !text.chars().all(|c| c == ' ' || c.is_ascii_graphic()) {
        return Err(Invalid::new(key, "use printable ASCII characters only, at least one"));
    }
    Ok(())
}
