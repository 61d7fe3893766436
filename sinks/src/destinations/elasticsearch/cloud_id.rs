//! A cloud id as Elastic Cloud shows it, and the address that stands in it.
//!
//! `NAME:BASE64`, where the text in base64 is `HOST[:PORT]$ELASTICSEARCH[:PORT]$KIBANA[:PORT]`; the address is
//! `https://ELASTICSEARCH.HOST:PORT`. Elastic means it for Beats and Logstash, and gives all others the address itself:
//! <https://www.elastic.co/docs/solutions/search/search-connection-details>

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::super::{Endpoint, Invalid};

const KEY: &str = "cloud_id";
/// Padding gets lost where an id is copied by hand.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// The address in a cloud id.
pub(super) fn endpoint(cloud_id: &str) -> Result<Endpoint, Invalid> {
    let wrong =
        || Invalid::new(KEY, "not a cloud id: copy it whole, or set `endpoints` to the deployment's address");
    let encoded = cloud_id.rsplit_once(':').map_or(cloud_id, |(_, encoded)| encoded);
    let decoded = BASE64.decode(encoded.trim()).map_err(|_| wrong())?;
    let decoded = String::from_utf8(decoded).map_err(|_| wrong())?;
    let mut parts = decoded.split('$');
    let (Some(host), Some(name)) = (parts.next(), parts.next()) else { return Err(wrong()) };
    let (host, common_port) = with_port(host);
    let (name, own_port) = with_port(name);
    let is_host = |text: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.'))
    };
    if !is_host(host) || !is_host(name) {
        return Err(wrong());
    }
    let address = match own_port.or(common_port) {
        None | Some("443") => format!("https://{name}.{host}"),
        Some(port) if port.parse::<u16>().is_ok() => format!("https://{name}.{host}:{port}"),
        Some(_) => return Err(wrong()),
    };
    Endpoint::parse(KEY, &address)
}

fn with_port(text: &str) -> (&str, Option<&str>) {
    text.split_once(':').map_or((text, None), |(name, port)| (name, Some(port)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};

    use super::*;

    #[track_caller]
    fn check(decoded: &str, expected: Option<&str>) {
        for encoded in [STANDARD.encode(decoded), STANDARD_NO_PAD.encode(decoded)] {
            for cloud_id in [format!("my:own:name:{encoded}"), encoded] {
                let found = endpoint(&cloud_id).ok().map(|endpoint| endpoint.base);
                assert_eq!(found.as_deref(), expected, "{cloud_id}");
            }
        }
    }

    #[test]
    fn the_address_is_made_of_host_and_name() {
        check("eu-west-1.aws.found.io$abc123$def456", Some("https://abc123.eu-west-1.aws.found.io"));
        check("eu-west-1.aws.found.io:443$abc123$", Some("https://abc123.eu-west-1.aws.found.io"));
        check("example.org:9243$abc123$def", Some("https://abc123.example.org:9243"));
        check("example.org:9243$abc123:9244$def:9245", Some("https://abc123.example.org:9244"));
        check("example.org$abc123", Some("https://abc123.example.org"));
    }

    #[test]
    fn what_is_no_cloud_id_is_refused_with_the_remedy() {
        for decoded in
            ["example.org", "$abc$d", "example.org$$d", "a/b$c$d", "example.org:x$abc$d", "a@b$c$d"]
        {
            check(decoded, None);
        }
        let error = endpoint("name:not base64!").err().unwrap().to_string();
        assert!(error.starts_with("cloud_id: not a cloud id") && error.contains("`endpoints`"), "{error}");
    }
}
