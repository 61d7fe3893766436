//! The little that has to be known of a URL before a client reads it.

/// Scheme and host of an absolute URL, in lower case; the host without user, port and brackets.
pub(super) fn scheme_and_host(url: &str) -> Option<(String, String)> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let host = match host.strip_prefix('[') {
        Some(v6) => v6.split_once(']')?.0,
        None => host.rsplit_once(':').map_or(host, |(host, _)| host),
    };
    (!host.is_empty()).then(|| (scheme.to_ascii_lowercase(), host.to_ascii_lowercase()))
}

/// Whether a host is this machine.
pub(super) fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host.ends_with(".localhost")
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Whether a host is where clouds keep the credentials of a machine or a task: nothing of ours is sent there.
pub(super) fn is_metadata_service(host: &str) -> bool {
    match host.parse::<std::net::IpAddr>() {
        Ok(std::net::IpAddr::V4(address)) => address.is_link_local(),
        Ok(std::net::IpAddr::V6(address)) => address.is_unicast_link_local() || host == "fd00:ec2::254",
        Err(_) => false,
    }
}

/// The URL without user and password.
pub(super) fn without_userinfo(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    match authority.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://***@{host}{path}"),
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_found() {
        for (url, host) in [
            ("http://a.example:9200/x", Some("a.example")),
            ("HTTPS://u:p@A.example?x", Some("a.example")),
            ("http://[::1]:80/", Some("::1")),
            ("http://127.0.0.1", Some("127.0.0.1")),
            ("http://user@127.0.0.1@evil.example/", Some("evil.example")),
            ("a.example", None),
            ("http://", None),
        ] {
            assert_eq!(scheme_and_host(url).map(|(_, host)| host).as_deref(), host, "{url}");
        }
    }

    #[test]
    fn only_this_machine_is_loopback() {
        for host in ["localhost", "a.localhost", "127.0.0.1", "127.9.9.9", "::1"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["localhost.example", "10.0.0.1", "notlocalhost", "::2", "127.0.0.1.example"] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn metadata_services_are_known() {
        for host in ["169.254.169.254", "169.254.170.2", "fe80::1", "fd00:ec2::254"] {
            assert!(is_metadata_service(host), "{host}");
        }
        assert!(!is_metadata_service("10.0.0.1"));
    }

    #[test]
    fn user_and_password_are_taken_out() {
        assert_eq!(without_userinfo("http://u:p@h:1/x@y"), "http://***@h:1/x@y");
        assert_eq!(without_userinfo("http://h/x@y"), "http://h/x@y");
    }
}
