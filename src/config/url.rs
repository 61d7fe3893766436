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

/// Names of metadata services that are no addresses.
const METADATA_NAMES: [&str; 4] =
    ["instance-data", "instance-data.ec2.internal", "metadata", "metadata.google.internal"];

/// Whether a host is where clouds keep the credentials of a machine or a task: nothing of ours is sent there.
///
/// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html>,
/// <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-iam-roles.html>,
/// <https://docs.aws.amazon.com/eks/latest/userguide/pod-id-agent-setup.html>
pub(super) fn is_metadata_service(host: &str) -> bool {
    let v6: Option<std::net::Ipv6Addr> = host.parse().ok();
    let v4 = v6.map_or_else(|| numeric(host), |address| address.to_ipv4_mapped());
    v4.is_some_and(|address| address.is_link_local())
        || v6.is_some_and(|address| {
            address.is_unicast_link_local()
                || address.segments() == [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254]
                || address.segments() == [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23]
        })
        || METADATA_NAMES.contains(&host.trim_end_matches('.'))
}

/// An address of four bytes in any of the ways in which clients read one: `169.254.169.254`, `0xa9fea9fe`,
/// `169.16689662`.
/// <https://url.spec.whatwg.org/#concept-ipv4-parser>
fn numeric(host: &str) -> Option<std::net::Ipv4Addr> {
    let parts: Vec<&str> = host.trim_end_matches('.').split('.').collect();
    let (last, firsts) = parts.split_last().filter(|(_, firsts)| firsts.len() < 4)?;
    let mut address: u64 = 0;
    for (at, part) in firsts.iter().enumerate() {
        let byte = number(part).filter(|byte| *byte <= 255)?;
        address |= byte << (24 - 8 * at);
    }
    let rest = number(last).filter(|rest| *rest < 1 << (32 - 8 * firsts.len()))?;
    u32::try_from(address | rest).ok().map(std::net::Ipv4Addr::from)
}

fn number(text: &str) -> Option<u64> {
    let (digits, radix) = match text.strip_prefix("0x") {
        Some(digits) => (digits, 16),
        None if text.len() > 1 && text.starts_with('0') => (text, 8),
        None => (text, 10),
    };
    let plain = digits.bytes().all(|byte| byte.is_ascii_alphanumeric());
    u64::from_str_radix(digits, radix).ok().filter(|_| plain)
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

/// Where clients find a proxy that no configuration names. A scheme need not stand there.
/// <https://docs.rs/hyper-util/latest/hyper_util/client/proxy/matcher/struct.Matcher.html#method.from_env>
const PROXY_VARIABLES: [&str; 6] =
    ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];

/// What must not be shown of the proxies that the environment names.
pub(crate) fn passwords_of_environment() -> Vec<String> {
    let proxies = PROXY_VARIABLES.iter().filter_map(|name| std::env::var(name).ok());
    proxies.flat_map(|proxy| passwords(&proxy)).collect()
}

/// What must not be shown of a URL with a password: user and password together, and the password, as it stands there
/// and as it is meant.
pub(crate) fn passwords(url: &str) -> Vec<String> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next();
    let userinfo = authority.and_then(|authority| authority.rsplit_once('@')).map(|(userinfo, _)| userinfo);
    let Some((user, password)) = userinfo.and_then(|userinfo| userinfo.split_once(':')) else {
        return Vec::new();
    };
    let meant = percent_decode(password);
    vec![
        format!("{user}:{password}"),
        format!("{}:{meant}", percent_decode(user)),
        password.to_owned(),
        meant,
    ]
}

fn percent_decode(text: &str) -> String {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let code = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(|_| byte == b'%') {
            Some(code) => {
                decoded.push(code);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                decoded.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
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
        for host in [
            "169.254.169.254",
            "169.254.170.2",
            "169.254.170.23",
            "0xa9fea9fe",
            "2852039166",
            "169.16689662",
            "0251.0376.0251.0376",
            "169.254.169.254.",
            "::ffff:169.254.169.254",
            "fe80::1",
            "fd00:ec2::254",
            "fd00:0ec2::23",
            "metadata.google.internal",
            "instance-data",
        ] {
            assert!(is_metadata_service(host), "{host}");
        }
        for host in
            ["10.0.0.1", "169.253.1.1", "1.169.254", "0x", "a.0xa9fea9fe", "::1", "metadata.example", "+1"]
        {
            assert!(!is_metadata_service(host), "{host}");
        }
    }

    #[test]
    fn every_form_of_a_proxy_s_password_is_a_secret() {
        for url in ["http://me:a%40b@proxy:3128/x", "socks5://me:a%40b@proxy", "me:a%40b@proxy:3128"] {
            assert_eq!(passwords(url), ["me:a%40b", "me:a@b", "a%40b", "a@b"], "{url}");
        }
        for without in
            ["http://proxy:3128", "http://me@proxy/x:y@z", "proxy", "proxy:3128", "http://proxy/a:b@c"]
        {
            assert!(passwords(without).is_empty(), "{without}");
        }
        assert_eq!(percent_decode("100%"), "100%");
    }

    #[test]
    fn user_and_password_are_taken_out() {
        assert_eq!(without_userinfo("http://u:p@h:1/x@y"), "http://***@h:1/x@y");
        assert_eq!(without_userinfo("http://h/x@y"), "http://h/x@y");
    }
}
