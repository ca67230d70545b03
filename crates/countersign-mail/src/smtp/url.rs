//! The URL of a mail server.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use percent_encoding::percent_decode_str;
use url::Url;
use zeroize::Zeroizing;

/// Whether, and how, the connection to a mail server is encrypted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TlsMode {
    /// `starttls`: the connection begins in the clear and must be encrypted before anything else (RFC 3207).
    StartTls,
    /// `implicit`: the connection is encrypted from its first byte (RFC 8314 §3).
    Implicit,
    /// `none`: nothing is encrypted. Only for a server on the same machine.
    None,
}

impl TlsMode {
    /// The port where servers listen for this by custom.
    #[must_use]
    pub const fn default_port(self) -> u16 {
        match self {
            Self::StartTls => 587,
            Self::Implicit => 465,
            Self::None => 25,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::StartTls => "starttls",
            Self::Implicit => "implicit",
            Self::None => "none",
        }
    }
}

/// The name and the password that a mail server asks for.
#[derive(Clone, Eq, PartialEq)]
pub struct Credentials {
    user: String,
    password: Zeroizing<String>,
}

impl Credentials {
    /// The user's name.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    pub(super) fn password(&self) -> &str {
        &self.password
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(…)")
    }
}

/// Where a mail server is and how it is spoken to: `smtp://user:password@host:port?tls=starttls|implicit|none`.
///
/// User and password are percent-encoded, and may be left out together. Without a port it is 587 for `starttls`, 465 for
/// `implicit` and 25 for `none`. `tls` has no default, so that nobody sends passwords in the clear by forgetting a word.
///
/// ```
/// use countersign_mail::{SmtpUrl, TlsMode};
///
/// let url: SmtpUrl = "smtp://mailer:p%40ss@mail.example.com?tls=starttls".parse()?;
/// assert_eq!((url.host(), url.port(), url.tls()), ("mail.example.com", 587, TlsMode::StartTls));
/// assert_eq!(format!("{url:?}"), "SmtpUrl(smtp://mail.example.com:587?tls=starttls)");
/// # Ok::<(), countersign_mail::InvalidSmtpUrl>(())
/// ```
#[derive(Clone, Eq, PartialEq)]
pub struct SmtpUrl {
    host: String,
    port: u16,
    tls: TlsMode,
    credentials: Option<Credentials>,
}

/// The reason why a text is not the URL of a mail server. The messages say what to write, and never repeat the text.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidSmtpUrl {
    /// The text is not a URL of the form.
    #[error(
        "not a URL such as smtp://user:password@mail.example.com:587?tls=starttls; in user and password, write %40 for @, \
         %3A for :, %2F for /, %3F for ?, %23 for # and %25 for %"
    )]
    Form,
    /// The scheme is another one.
    #[error("the URL must begin with smtp://; what other programs call smtps:// is smtp://…?tls=implicit")]
    Scheme,
    /// The URL has no host.
    #[error("the URL names no host; write smtp://mail.example.com?tls=starttls")]
    Host,
    /// The host is not written in ASCII.
    #[error("the host must be a name in ASCII (xn--… for others) or an IP address")]
    HostName,
    /// `tls` is missing or has another value.
    #[error(
        "the URL must say how the connection is encrypted: ?tls=starttls (port 587), ?tls=implicit (port 465), or \
         ?tls=none for a mail server on this machine (port 25)"
    )]
    Tls,
    /// `tls=none` was asked for beyond the own machine.
    #[error(
        "tls=none is for a mail server on this machine (127.0.0.1, [::1], localhost) only, because everybody on the way \
         could read the mails; write ?tls=starttls or ?tls=implicit"
    )]
    NotLoopback,
    /// There is a user without a password or the other way round, or one of them is not text.
    #[error("write user and password both, as smtp://user:password@…, percent-encoded UTF-8, or neither")]
    Credentials,
    /// There is a path, a fragment or a parameter besides `tls`.
    #[error("after host and port, only ?tls=… may follow")]
    Rest,
    /// The port is 0.
    #[error("the port must be from 1 to 65535")]
    Port,
}

impl SmtpUrl {
    /// The host: a name or an IP address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// How the connection is encrypted.
    #[must_use]
    pub const fn tls(&self) -> TlsMode {
        self.tls
    }

    /// The user and the password, if there are any.
    #[must_use]
    pub const fn credentials(&self) -> Option<&Credentials> {
        self.credentials.as_ref()
    }
}

impl FromStr for SmtpUrl {
    type Err = InvalidSmtpUrl;

    fn from_str(text: &str) -> Result<Self, InvalidSmtpUrl> {
        let url = Url::parse(text.trim()).map_err(|error| match error {
            url::ParseError::EmptyHost => InvalidSmtpUrl::Host,
            _ => InvalidSmtpUrl::Form,
        })?;
        if url.scheme() != "smtp" {
            return Err(InvalidSmtpUrl::Scheme);
        }
        let host = match url.host().ok_or(InvalidSmtpUrl::Host)? {
            url::Host::Domain(name) => name.to_ascii_lowercase(),
            url::Host::Ipv4(address) => address.to_string(),
            url::Host::Ipv6(address) => address.to_string(),
        };
        if host.is_empty() {
            return Err(InvalidSmtpUrl::Host);
        }
        // A name in other letters has become percent signs by now.
        if host.contains('%') || rustls_name(&host).is_none() {
            return Err(InvalidSmtpUrl::HostName);
        }
        let tls = tls(&url)?;
        if tls == TlsMode::None && !is_loopback(&host) {
            return Err(InvalidSmtpUrl::NotLoopback);
        }
        let port = url.port().unwrap_or(tls.default_port());
        if port == 0 {
            return Err(InvalidSmtpUrl::Port);
        }
        Ok(Self { credentials: credentials(&url)?, host, port, tls })
    }
}

fn tls(url: &Url) -> Result<TlsMode, InvalidSmtpUrl> {
    if !matches!(url.path(), "" | "/") || url.fragment().is_some() {
        return Err(InvalidSmtpUrl::Rest);
    }
    let mut found = None;
    for (name, value) in url.query_pairs() {
        if name != "tls" || found.is_some() {
            return Err(InvalidSmtpUrl::Rest);
        }
        let modes = [TlsMode::StartTls, TlsMode::Implicit, TlsMode::None];
        found = Some(modes.into_iter().find(|mode| mode.name() == value).ok_or(InvalidSmtpUrl::Tls)?);
    }
    found.ok_or(InvalidSmtpUrl::Tls)
}

fn credentials(url: &Url) -> Result<Option<Credentials>, InvalidSmtpUrl> {
    let decode = |text: &str| {
        let decoded = percent_decode_str(text).decode_utf8().map_err(|_| InvalidSmtpUrl::Credentials)?;
        // A zero byte separates user and password where they are sent (RFC 4616 §2).
        if decoded.is_empty() || decoded.contains('\0') {
            return Err(InvalidSmtpUrl::Credentials);
        }
        Ok(decoded.into_owned())
    };
    match (url.username(), url.password()) {
        ("", None) => Ok(None),
        (user, Some(password)) => {
            Ok(Some(Credentials { user: decode(user)?, password: Zeroizing::new(decode(password)?) }))
        }
        (_, None) => Err(InvalidSmtpUrl::Credentials),
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The name that the server's certificate must have.
pub(super) fn rustls_name(host: &str) -> Option<tokio_rustls::rustls::pki_types::ServerName<'static>> {
    tokio_rustls::rustls::pki_types::ServerName::try_from(host.to_owned()).ok()
}

impl fmt::Display for SmtpUrl {
    /// The URL without user and password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, tls, .. } = self;
        let (open, close) = if host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "smtp://{open}{host}{close}:{port}?tls={}", tls.name())
    }
}

impl fmt::Debug for SmtpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SmtpUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> SmtpUrl {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn the_mode_decides_the_port_that_is_not_written() {
        for (text, host, port) in [
            ("smtp://mail.example.com?tls=starttls", "mail.example.com", 587),
            ("smtp://mail.example.com/?tls=implicit", "mail.example.com", 465),
            ("smtp://localhost?tls=none", "localhost", 25),
            ("SMTP://Mail.Example.COM:2525?tls=starttls", "mail.example.com", 2525),
            ("smtp://[2001:db8::1]?tls=implicit", "2001:db8::1", 465),
            ("smtp://192.0.2.1?tls=implicit", "192.0.2.1", 465),
            (" smtp://xn--bcher-kva.example?tls=implicit\n", "xn--bcher-kva.example", 465),
        ] {
            assert_eq!((url(text).host(), url(text).port()), (host, port), "{text}");
            assert_eq!(url(&url(text).to_string()), url(text), "{text}");
        }
    }

    #[test]
    fn user_and_password_are_percent_decoded() {
        let url = url("smtp://apikey%40x:p%40s%3A%2F%3F%23%25%20%C3%A4+1@mail.example.com?tls=starttls");
        let credentials = url.credentials().unwrap();
        assert_eq!((credentials.user(), credentials.password()), ("apikey@x", "p@s:/?#% ä+1"));
    }

    #[test]
    fn sec_155_neither_debug_output_nor_errors_hold_the_password() {
        let url = url("smtp://user:s3cret@mail.example.com?tls=starttls");
        let shown = format!("{url:?} {url} {:?}", url.credentials());
        assert!(!shown.contains("s3cret") && !shown.contains("user"), "{shown}");
        for text in ["smtp://user:s3cret@/?tls=none", "smtp://user:s3cret", "smtps://u:s3cret@h", "s3cret"] {
            let error = text.parse::<SmtpUrl>().unwrap_err();
            assert!(!format!("{error} {error:?}").contains("s3cret"), "{text}");
        }
    }

    #[test]
    fn wrong_urls_are_refused_with_the_fix() {
        for (text, error) in [
            ("", InvalidSmtpUrl::Form),
            ("mail.example.com", InvalidSmtpUrl::Form),
            ("mail.example.com:587", InvalidSmtpUrl::Scheme),
            ("smtp://user:pa/ss@mail.example.com?tls=starttls", InvalidSmtpUrl::Form),
            ("smtp://mail.example.com:99999?tls=starttls", InvalidSmtpUrl::Form),
            ("smtps://mail.example.com", InvalidSmtpUrl::Scheme),
            ("https://mail.example.com", InvalidSmtpUrl::Scheme),
            ("smtp:mail.example.com?tls=starttls", InvalidSmtpUrl::Host),
            ("smtp://?tls=starttls", InvalidSmtpUrl::Host),
            ("smtp://bücher.example?tls=starttls", InvalidSmtpUrl::HostName),
            ("smtp://mail_x..example?tls=starttls", InvalidSmtpUrl::HostName),
            ("smtp://mail.example.com", InvalidSmtpUrl::Tls),
            ("smtp://mail.example.com?tls=", InvalidSmtpUrl::Tls),
            ("smtp://mail.example.com?tls=yes", InvalidSmtpUrl::Tls),
            ("smtp://mail.example.com?tls=STARTTLS", InvalidSmtpUrl::Tls),
            ("smtp://mail.example.com?tls=none", InvalidSmtpUrl::NotLoopback),
            ("smtp://10.0.0.1?tls=none", InvalidSmtpUrl::NotLoopback),
            ("smtp://0.0.0.0?tls=none", InvalidSmtpUrl::NotLoopback),
            ("smtp://localhost.example.com?tls=none", InvalidSmtpUrl::NotLoopback),
            ("smtp://user@mail.example.com?tls=starttls", InvalidSmtpUrl::Credentials),
            ("smtp://:pass@mail.example.com?tls=starttls", InvalidSmtpUrl::Credentials),
            ("smtp://user:@mail.example.com?tls=starttls", InvalidSmtpUrl::Credentials),
            ("smtp://user:%ff@mail.example.com?tls=starttls", InvalidSmtpUrl::Credentials),
            ("smtp://user:a%00b@mail.example.com?tls=starttls", InvalidSmtpUrl::Credentials),
            ("smtp://mail.example.com/x?tls=starttls", InvalidSmtpUrl::Rest),
            ("smtp://mail.example.com?tls=starttls&x=1", InvalidSmtpUrl::Rest),
            ("smtp://mail.example.com?tls=starttls&tls=none", InvalidSmtpUrl::Rest),
            ("smtp://mail.example.com?tls=starttls#x", InvalidSmtpUrl::Rest),
            ("smtp://mail.example.com:0?tls=starttls", InvalidSmtpUrl::Port),
        ] {
            assert_eq!(text.parse::<SmtpUrl>(), Err(error), "{text}");
        }
        for text in ["smtp://127.8.8.8:2525?tls=none", "smtp://[::1]?tls=none", "smtp://LOCALHOST?tls=none"] {
            assert_eq!(url(text).tls(), TlsMode::None, "{text}");
        }
    }
}
