//! The addresses that a key set may be fetched from.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use url::{Host, Url};

/// The address of a key set. It has been checked, so a fetcher need not check it again.
#[derive(Clone, Eq, PartialEq)]
pub struct JwksUrl(Url);

/// Why a text is not the address of a key set.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{reason}; keys are fetched from a URL such as https://sso.example.com/jwks.json")]
pub struct JwksUrlError {
    reason: &'static str,
}

impl JwksUrl {
    /// Reads and checks an https URL.
    ///
    /// # Errors
    /// [`JwksUrlError`] for another scheme, a user name, a fragment, and addresses where no issuer can be: link-local
    /// ones (where clouds keep their metadata), multicast ones and unspecified ones.
    pub fn new(text: &str) -> Result<Self, JwksUrlError> {
        Self::parse(text, false)
    }

    /// Reads and checks an https URL, or an http URL of the loopback interface, where nobody on the way could exchange
    /// the keys. For tests and development.
    ///
    /// # Errors
    /// [`JwksUrlError`] in the cases of [`JwksUrl::new`].
    pub fn dangerous_loopback_http(text: &str) -> Result<Self, JwksUrlError> {
        Self::parse(text, true)
    }

    /// The URL.
    #[must_use]
    pub fn as_url(&self) -> &Url {
        &self.0
    }

    fn parse(text: &str, loopback_http: bool) -> Result<Self, JwksUrlError> {
        let error = |reason| Err(JwksUrlError { reason });
        // URL parsers repair these characters, and the address would then differ from the one that a person reads.
        if text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '\\') {
            return error("there is white space or a backslash in the URL");
        }
        let Some((_, rest)) = text.split_once("://") else { return error("there is no scheme") };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        // URL parsers take the text after a third slash for the host.
        if authority.is_empty() {
            return error("there is no host in the URL");
        }
        if authority.contains('@') {
            return error("there is a user name in the URL");
        }
        let Ok(url) = Url::parse(text) else { return error("the URL is malformed") };
        let Some(host) = url.host() else { return error("there is no host in the URL") };
        match url.scheme() {
            "https" => {}
            "http" if loopback_http && is_loopback(&host) => {}
            "http" if loopback_http => return error("http is accepted for the loopback interface only"),
            _ => return error("the scheme is not https"),
        }
        if url.fragment().is_some() {
            return error("there is a fragment in the URL");
        }
        if url.port() == Some(0) {
            return error("port 0 is no port");
        }
        if address(&host).is_some_and(is_nobodys) {
            return error("no issuer has a link-local, multicast or unspecified address");
        }
        Ok(Self(url))
    }
}

/// Omits the query, which may be confidential.
impl fmt::Display for JwksUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.0.origin().ascii_serialization(), self.0.path())
    }
}

impl fmt::Debug for JwksUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JwksUrl({self})")
    }
}

fn is_loopback(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => *name == "localhost",
        _ => address(host).is_some_and(|ip| ip.is_loopback()),
    }
}

/// The IP address of a host. An IPv4 address that is written as an IPv6 one counts as IPv4.
fn address(host: &Host<&str>) -> Option<IpAddr> {
    match host {
        Host::Domain(_) => None,
        Host::Ipv4(ip) => Some(IpAddr::V4(*ip)),
        Host::Ipv6(ip) => Some(ip.to_canonical()),
    }
}

fn is_nobodys(ip: IpAddr) -> bool {
    let link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast() || ip.octets().first() == Some(&0),
        // `AWS_METADATA` is where AWS keeps its instance metadata.
        IpAddr::V6(ip) => ip.is_unicast_link_local() || ip == AWS_METADATA,
    };
    link_local || ip.is_multicast() || ip.is_unspecified()
}

const AWS_METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sec_044_keys_come_from_https_urls_of_plausible_hosts() {
        for text in [
            "https://sso.example.com/jwks.json",
            "https://sso.example.com:8443/realms/a/protocol/openid-connect/certs",
            "https://login.example.com/keys?p=policy",
            "https://10.1.2.3/jwks.json",
            "https://[fd12::1]/jwks.json",
            "https://localhost:8443/",
        ] {
            assert!(JwksUrl::new(text).is_ok(), "{text}");
            assert!(JwksUrl::dangerous_loopback_http(text).is_ok(), "{text}");
        }
        for text in [
            "",
            "sso.example.com",
            "//sso.example.com/jwks.json",
            "https:sso.example.com",
            "https:///jwks.json?",
            "http://sso.example.com/jwks.json",
            "http://169.254.169.254/latest/meta-data/",
            "https://169.254.169.254/latest/meta-data/",
            "https://2852039166/latest/meta-data/",
            "https://0xa9.0xfe.0xa9.0xfe/",
            "https://[::ffff:169.254.169.254]/",
            "https://[fe80::1]/",
            "https://[fd00:ec2::254]/",
            "https://0.0.0.0/",
            "https://[::]/",
            "https://224.0.0.1/",
            "https://255.255.255.255/",
            "https://sso.example.com:0/",
            "https://sso.example.com:99999/",
            "https://user@sso.example.com/",
            "https://user:password@sso.example.com/",
            "https://@sso.example.com/",
            "https://sso.example.com/jwks.json#keys",
            "https://sso.example.com/jwks.json#",
            "https://sso.example.com\\@evil.example/",
            " https://sso.example.com/",
            "https://sso.exa\tmple.com/",
            "file:///etc/passwd",
            "data:application/json,{}",
            "ftp://sso.example.com/",
            "gopher://sso.example.com/",
        ] {
            assert!(JwksUrl::new(text).is_err(), "{text}");
            assert!(JwksUrl::dangerous_loopback_http(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sec_044_http_is_for_the_loopback_interface_and_only_when_asked_for() {
        for text in ["http://localhost:8080/", "http://127.0.0.1:8080/", "http://127.9.9.9/", "http://[::1]/"]
        {
            assert!(JwksUrl::new(text).is_err(), "{text}");
            assert!(JwksUrl::dangerous_loopback_http(text).is_ok(), "{text}");
        }
        for text in ["http://localhost.example.com/", "http://notlocalhost/", "http://10.0.0.1/"] {
            assert!(JwksUrl::dangerous_loopback_http(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_url_in_a_log_has_no_query() {
        let url = JwksUrl::new("https://sso.example.com:8443/keys?secret=1").unwrap();
        assert_eq!(url.to_string(), "https://sso.example.com:8443/keys");
        assert!(!format!("{url:?}").contains("secret"));
    }
}
