//! The choices that an application has for its cookies.

use url::Url;

use crate::cookie_config::{CookieConfig, CookieConfigError, CookieKind};

/// The choices that an application has for its cookies. The defaults suit one application on one host, so most
/// programs need none of them.
///
/// ```
/// use countersign_http::{CookieKind, CookieOptions};
///
/// let options = CookieOptions::new().shared_with_subdomains("example.com").name(CookieKind::Access, "session");
/// let cookies = options.build(Some(&"https://app.example.com".parse()?))?;
/// assert_eq!(cookies.name(CookieKind::Access), "__Secure-session");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct CookieOptions {
    pub(crate) domain: Option<String>,
    pub(crate) strict: bool,
    pub(crate) cross_site: bool,
    pub(crate) partitioned: bool,
    pub(crate) until_closed: bool,
    pub(crate) without_csrf_cookie: bool,
    pub(crate) names: Vec<(CookieKind, String)>,
    pub(crate) paths: Vec<(CookieKind, String)>,
}

/// Choices for cookies that weaken the protection they give by themselves.
///
/// ```
/// use std::time::Duration;
/// use countersign_http::{CookieKind, CookieOptions};
///
/// // The application is shown in a frame on another site.
/// let options = CookieOptions::new().dangerous().send_cross_site().partitioned();
/// let cookies = options.build(Some(&"https://app.example.com".parse()?))?;
/// let field = cookies.set(CookieKind::Access, "a.b.c", Duration::from_secs(900))?;
/// assert!(field.to_str()?.contains("SameSite=None"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct DangerousCookieOptions(CookieOptions);

impl CookieOptions {
    /// The default choices.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sends the cookies to all hosts under `domain`, which is the public URL's own host or a parent of it. Every host
    /// under it then receives the tokens, and may put cookies of its own in their place. The names begin with
    /// `__Secure-`, because `__Host-` forbids `Domain` (SEC-056).
    #[must_use]
    pub fn shared_with_subdomains(mut self, domain: impl Into<String>) -> Self {
        self.domain = Some(domain.into());
        self
    }

    /// Sets `SameSite=Strict` also for the access and CSRF cookies; the refresh cookie always has it. A user who
    /// follows a link from another site is then not signed in on the first page.
    #[must_use]
    pub fn strict(mut self) -> Self {
        self.strict = true;
        self
    }

    /// Sets `Partitioned` (CHIPS): the application, embedded in another site's page, gets cookies for that site alone,
    /// separate from those it gets when other sites embed it.
    #[must_use]
    pub fn partitioned(mut self) -> Self {
        self.partitioned = true;
        self
    }

    /// Leaves `Max-Age` out, so that browsers forget the cookies when they are closed. Some browsers restore them.
    #[must_use]
    pub fn until_closed(mut self) -> Self {
        self.until_closed = true;
        self
    }

    /// Sets no CSRF cookie. Pages then get the value from the server, for instance in a hidden form field.
    #[must_use]
    pub fn without_csrf_cookie(mut self) -> Self {
        self.without_csrf_cookie = true;
        self
    }

    /// The name of a cookie, without `__Host-` or `__Secure-`: the right prefix is put before it.
    /// Default: `countersign_access`, `countersign_refresh`, `countersign_csrf`.
    #[must_use]
    pub fn name(mut self, kind: CookieKind, name: impl Into<String>) -> Self {
        self.names.push((kind, name.into()));
        self
    }

    /// Sends the cookie only below this path, such as `/v1/auth/refresh` for the refresh token. The name's prefix is
    /// then `__Secure-`, because `__Host-` requires `/`. A logout at another path does not receive that cookie and does
    /// not need it: the access cookie ends the session as well.
    #[must_use]
    pub fn path(mut self, kind: CookieKind, path: impl Into<String>) -> Self {
        self.paths.push((kind, path.into()));
        self
    }

    /// Gives access to choices that weaken the protection the cookies give by themselves.
    #[must_use]
    pub fn dangerous(self) -> DangerousCookieOptions {
        DangerousCookieOptions(self)
    }

    /// The cookies for a public URL, with these choices.
    ///
    /// # Errors
    /// [`CookieConfigError`] if the cookies cannot be set at that URL, or the choices contradict each other.
    pub fn build(&self, public_url: Option<&Url>) -> Result<CookieConfig, CookieConfigError> {
        CookieConfig::with_options(public_url, self)
    }
}

impl DangerousCookieOptions {
    /// Sets `SameSite=None` for all cookies. Browsers then send them with requests from every site, so that an
    /// application works in a frame on another site. The protection against forged requests that remains is the
    /// cross-site check and the CSRF value.
    #[must_use]
    pub fn send_cross_site(mut self) -> CookieOptions {
        self.0.cross_site = true;
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn set(options: CookieOptions, kind: CookieKind) -> String {
        let url = Url::parse("https://app.example.com").unwrap();
        let config = options.build(Some(&url)).unwrap();
        config.set(kind, "v", Duration::from_secs(900)).unwrap().to_str().unwrap().to_owned()
    }

    #[test]
    fn sec_056_sec_059_every_choice_shows_in_the_field_and_keeps_the_prefix_right() {
        use CookieKind::{Access, Csrf, Refresh};
        let options = CookieOptions::new;
        for (options, kind, field) in [
            (
                options().strict(),
                Access,
                "__Host-countersign_access=v; HttpOnly; SameSite=Strict; Secure; Path=/; Max-Age=900",
            ),
            (
                options().strict(),
                Csrf,
                "__Host-countersign_csrf=v; SameSite=Strict; Secure; Path=/; Max-Age=900",
            ),
            (
                options().partitioned(),
                Access,
                "__Host-countersign_access=v; HttpOnly; SameSite=Lax; Partitioned; Secure; Path=/; Max-Age=900",
            ),
            (
                options().until_closed(),
                Refresh,
                "__Host-countersign_refresh=v; HttpOnly; SameSite=Strict; Secure; Path=/",
            ),
            (
                options().name(Access, "sid").name(Access, "app.session"),
                Access,
                "__Host-app.session=v; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=900",
            ),
            (
                options().path(Refresh, "/v1/auth/refresh"),
                Refresh,
                "__Secure-countersign_refresh=v; HttpOnly; SameSite=Strict; Secure; Path=/v1/auth/refresh; \
                 Max-Age=900",
            ),
            (
                options().path(Refresh, "/v1/auth/refresh"),
                Access,
                "__Host-countersign_access=v; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=900",
            ),
            (
                options().dangerous().send_cross_site(),
                Refresh,
                "__Host-countersign_refresh=v; HttpOnly; SameSite=None; Secure; Path=/; Max-Age=900",
            ),
        ] {
            assert_eq!(set(options, kind), field);
        }
    }

    #[test]
    fn sec_063_expiring_repeats_every_choice() {
        let url = Url::parse("https://app.example.com").unwrap();
        let options = CookieOptions::new()
            .shared_with_subdomains("example.com")
            .partitioned()
            .path(CookieKind::Refresh, "/auth")
            .name(CookieKind::Csrf, "x");
        let config = options.build(Some(&url)).unwrap();
        for kind in [CookieKind::Access, CookieKind::Refresh, CookieKind::Csrf] {
            let was_set =
                set(options.clone(), kind).replacen("=v;", "=;", 1).replace("Max-Age=900", "Max-Age=0");
            assert_eq!(config.expire(kind).to_str().unwrap(), was_set);
        }
        let forgetful = CookieOptions::new().until_closed().build(Some(&url)).unwrap();
        assert!(forgetful.expire(CookieKind::Access).to_str().unwrap().ends_with("Max-Age=0"));
    }
}
