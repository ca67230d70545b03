//! The links in mails.

use url::Url;

/// Makes the links of mails, from the configured public URL alone. No host name that a client sends ever stands in a
/// mail, because whoever asked for it would get the reader's click (SEC-139).
///
/// ```
/// use countersign_mail::Links;
///
/// let links = Links::new("https://auth.example.com/accounts")?;
/// assert_eq!(links.reset("a+b&c"), "https://auth.example.com/accounts/reset?token=a%2Bb%26c");
/// assert_eq!(links.home(), "https://auth.example.com/accounts");
/// # Ok::<(), countersign_mail::InvalidPublicUrl>(())
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Links {
    base: Url,
}

/// A text that links cannot be made from.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "write the URL under which users reach the server, such as https://auth.example.com, without user, query and fragment"
)]
pub struct InvalidPublicUrl;

impl Links {
    /// The links below this public URL, which may have a path.
    ///
    /// # Errors
    /// [`InvalidPublicUrl`] if the text is not an `http` or `https` URL with a host, or has a user, a query or a
    /// fragment.
    pub fn new(public_url: &str) -> Result<Self, InvalidPublicUrl> {
        let base = Url::parse(public_url).map_err(|_| InvalidPublicUrl)?;
        let is_plain = base.query().is_none()
            && base.fragment().is_none()
            && base.username().is_empty()
            && base.password().is_none();
        let is_web = matches!(base.scheme(), "https" | "http") && base.has_host();
        if is_plain && is_web { Ok(Self { base }) } else { Err(InvalidPublicUrl) }
    }

    /// The public URL itself, where the user signs in.
    #[must_use]
    pub fn home(&self) -> String {
        self.base.as_str().trim_end_matches('/').to_owned()
    }

    /// The host name of the public URL, which serves as a name of the site.
    #[must_use]
    pub fn host(&self) -> &str {
        self.base.host_str().unwrap_or_default()
    }

    /// The link to the form that sets a new password.
    #[must_use]
    pub fn reset(&self, token: &str) -> String {
        self.with_token("reset", token)
    }

    /// The link to the form that confirms an e-mail address.
    #[must_use]
    pub fn verify(&self, token: &str) -> String {
        self.with_token("verify", token)
    }

    /// The link to the form that signs in with a code.
    #[must_use]
    pub fn code(&self, token: &str) -> String {
        self.with_token("code", token)
    }

    /// The link to the form that accepts an invitation.
    #[must_use]
    pub fn invite(&self, token: &str) -> String {
        self.with_token("invite", token)
    }

    fn with_token(&self, page: &str, token: &str) -> String {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().push(page);
        }
        url.query_pairs_mut().append_pair("token", token);
        url.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_stand_below_the_public_url() {
        for (base, home, reset) in [
            ("https://x.example", "https://x.example", "https://x.example/reset?token=t"),
            ("https://x.example/", "https://x.example", "https://x.example/reset?token=t"),
            (
                "https://X.example:8443/a/b",
                "https://x.example:8443/a/b",
                "https://x.example:8443/a/b/reset?token=t",
            ),
            ("http://[::1]:8080/a/", "http://[::1]:8080/a", "http://[::1]:8080/a/reset?token=t"),
        ] {
            let links = Links::new(base).unwrap();
            assert_eq!((links.home().as_str(), links.reset("t").as_str()), (home, reset), "{base}");
        }
        let links = Links::new("https://x.example").unwrap();
        assert_eq!(links.verify("t"), "https://x.example/verify?token=t");
        assert_eq!(links.code("t"), "https://x.example/code?token=t");
        assert_eq!(links.invite("t"), "https://x.example/invite?token=t");
        assert_eq!(links.host(), "x.example");
    }

    #[test]
    fn sec_207_a_token_stays_inside_its_parameter() {
        let links = Links::new("https://x.example").unwrap();
        for token in ["a&b=c", "a#b", "a b", "a\r\nBcc: eve@x.com", "\"><script>", "ä", "%41", "../x", "a+b"]
        {
            let link = links.reset(token);
            let url = Url::parse(&link).unwrap();
            let parameters: Vec<_> = url.query_pairs().collect();
            assert_eq!(parameters, [("token".into(), token.into())], "{token:?}");
            assert!(link.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"<>'".contains(&byte)), "{link}");
        }
    }

    #[test]
    fn sec_139_what_is_no_public_url_is_refused() {
        for text in [
            "",
            "x.example",
            "ftp://x.example",
            "javascript:alert(1)",
            "https://",
            "https://a:b@x.example",
            "https://a@x.example",
            "https://x.example?a",
            "https://x.example#a",
            "data:text/html,x",
        ] {
            assert_eq!(Links::new(text), Err(InvalidPublicUrl), "{text}");
        }
    }
}
