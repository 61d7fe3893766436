//! Requests that are signed for AWS: domains of Amazon OpenSearch Service, and collections of OpenSearch Serverless.
//!
//! <https://docs.aws.amazon.com/opensearch-service/latest/developerguide/request-signing.html>

use serde::Deserialize;

use super::super::{Endpoint, Invalid, Signing};

/// Who checks the signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Service {
    /// A domain of Amazon OpenSearch Service.
    Es,
    /// A collection of OpenSearch Serverless.
    Aoss,
}

impl Service {
    fn name(self) -> &'static str {
        match self {
            Self::Es => "es",
            Self::Aoss => "aoss",
        }
    }
}

/// What the shared layer needs to sign requests to `endpoints`; the region is that of the settings, or the address's.
pub(super) fn signing(
    service: Service,
    region: Option<&str>,
    endpoints: &[Endpoint],
) -> Result<Signing, Invalid> {
    if region.is_some_and(|region| !is_region(region)) {
        return Err(Invalid::new("region", "not a region: write one such as \"eu-west-1\""));
    }
    let mut told = None;
    for place in endpoints.iter().filter_map(Place::of) {
        if place.service != service {
            let message = format!("the address is one of \"{}\": correct it", place.service.name());
            return Err(Invalid::new("sign", message));
        }
        told = told.or(Some(place.region));
    }
    let region = region.or(told).map(str::to_owned);
    Ok(Signing { service: service.name(), region })
}

/// What an address of AWS's own says; a name of one's own says nothing.
struct Place<'a> {
    service: Service,
    region: &'a str,
}

impl<'a> Place<'a> {
    fn of(endpoint: &'a Endpoint) -> Option<Self> {
        let (_, authority) = endpoint.origin.split_once("://")?;
        let host = authority.split(':').next()?;
        let host = host.strip_suffix(".cn").unwrap_or(host).strip_suffix(".amazonaws.com")?;
        let mut labels = host.rsplit('.');
        let service = match labels.next()? {
            "es" => Service::Es,
            "aoss" => Service::Aoss,
            _ => return None,
        };
        let region = labels.next().filter(|label| is_region(label))?;
        Some(Self { service, region })
    }
}

/// `eu-west-1`, `us-gov-west-1`.
fn is_region(text: &str) -> bool {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    text.split('-').count() >= 3 && text.chars().all(good) && text.ends_with(|c: char| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const DOMAIN: &str = "https://search-trail-abc.eu-west-1.es.amazonaws.com";

    fn sign(service: Service, region: Option<&str>, address: &str) -> Result<Signing, Invalid> {
        signing(service, region, &[Endpoint::parse("endpoints", address).unwrap()])
    }

    #[test]
    fn the_region_is_the_one_that_is_set_or_the_address_s() {
        let china = "https://vpc-x.cn-north-1.es.amazonaws.com.cn:443";
        let collection = "https://abc.us-gov-west-1.aoss.amazonaws.com";
        for (service, set, address, name, region) in [
            (Service::Es, None, DOMAIN, "es", Some("eu-west-1")),
            (Service::Es, None, china, "es", Some("cn-north-1")),
            (Service::Aoss, None, collection, "aoss", Some("us-gov-west-1")),
            (Service::Es, None, "https://search.example.org", "es", None),
            (Service::Es, None, "https://es.amazonaws.com", "es", None),
            (Service::Es, Some("us-east-1"), DOMAIN, "es", Some("us-east-1")),
        ] {
            let expected = Signing { service: name, region: region.map(str::to_owned) };
            assert_eq!(sign(service, set, address), Ok(expected), "{address}");
        }
    }

    #[test]
    fn what_cannot_be_signed_is_refused_with_the_remedy() {
        for (service, region, message) in [
            (Service::Aoss, None, "sign: the address is one of \"es\""),
            (Service::Es, Some("Ireland"), "region: not a region"),
        ] {
            let error = sign(service, region, DOMAIN).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }
}
