//! Login sessions of browsers: how long they live, and the pages that signed-out users are sent to.

use std::fmt;
use std::time::Duration;

use aws_lc_rs::hmac;
use countersign_core::flow::{Beginning, BrowserSession, CheckError, Presentation};
use countersign_core::model::RevokedBy;
use countersign_jwt::{Timestamp, VerifyError};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use url::form_urlencoded;

use crate::answer::{Answer, ErrorCode, no_store, vary_personal};
use crate::builder::BuildError;
use crate::cookie::{CookieLookup, find_cookie};
use crate::cookie_config::CookieKind;
use crate::error::AuthError;
use crate::locate::{LocateError, Location};
use crate::return_to::{ReturnTo, with_parameters};
use crate::rules::CookieRules;
use crate::set_cookies::SetCookies;

/// Login sessions of browsers, as [`AuthBuilder::login_sessions`](crate::AuthBuilder::login_sessions) takes them.
///
/// A session whose access token has expired goes on in place, and a browser without a session is sent to the sign-in
/// page. What is no browser gets the same answers as without login sessions.
///
/// ```
/// use countersign_http::{Auth, DeviceBinding, LoginSessions};
/// # use countersign_core::store::MemoryStore;
/// # use countersign_testkit::TestBed;
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (stores, secrets) = (MemoryStore::new(), TestBed::secrets());
/// let sessions = LoginSessions::new()
///     .sign_in_page("/login")
///     .confirm_page("/confirm")
///     .bound_to_device(DeviceBinding::Basic);
/// let auth = Auth::builder(stores, secrets).login_sessions(sessions).build().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LoginSessions {
    pub(crate) sign_in_page: Option<String>,
    pub(crate) confirm_page: Option<String>,
    pub(crate) refresh_page: String,
    pub(crate) lifetime: Duration,
    pub(crate) remembered_for: Option<Duration>,
    pub(crate) binding: DeviceBinding,
}

/// What becomes of a login session that comes from another client than the one that began it. Clients are told apart by
/// their `User-Agent` alone: addresses change with the network, and headers that name them can be forged.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum DeviceBinding {
    /// Nothing. The list of sessions shows the device all the same.
    #[default]
    Off,
    /// The session goes on, and is no longer fresh.
    Basic,
    /// The request counts as signed out, and its browser forgets the cookies. The session itself goes on where it began,
    /// so a thief signs nobody out.
    Strong,
}

impl Default for LoginSessions {
    fn default() -> Self {
        Self::new()
    }
}

impl LoginSessions {
    /// Login sessions without pages to send anybody to.
    #[must_use]
    pub fn new() -> Self {
        Self {
            sign_in_page: None,
            confirm_page: None,
            refresh_page: "/v1/auth/refresh/page".to_owned(),
            lifetime: Duration::from_secs(24 * 3600),
            remembered_for: None,
            binding: DeviceBinding::Off,
        }
    }

    /// The path of the page that browsers without a session are sent to, with the page that was asked for in the
    /// parameter `next` ([`ReturnTo::in_query`] reads it). Default: none, and the answer is 401.
    #[must_use]
    pub fn sign_in_page(mut self, path: impl Into<String>) -> Self {
        self.sign_in_page = Some(path.into());
        self
    }

    /// The path of the page where a signed-in user proves the identity again, for what only fresh sessions may do.
    /// Default: none, and the answer is 401.
    #[must_use]
    pub fn confirm_page(mut self, path: impl Into<String>) -> Self {
        self.confirm_page = Some(path.into());
        self
    }

    /// The path at which the ready-made routes renew a session for a page, where the refresh cookie's path keeps it from
    /// the pages themselves. Default `/v1/auth/refresh/page`.
    #[must_use]
    pub fn refresh_page(mut self, path: impl Into<String>) -> Self {
        self.refresh_page = path.into();
        self
    }

    /// The time after which a session that is not remembered ends, refreshed or not. Its cookies are gone when the
    /// browser is closed. Default one day, and at most the policy's absolute lifetime.
    #[must_use]
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// The time after which a remembered session ends, refreshed or not. Default, and at most, the policy's absolute
    /// lifetime.
    #[must_use]
    pub fn remembered_for(mut self, lifetime: Duration) -> Self {
        self.remembered_for = Some(lifetime);
        self
    }

    /// What becomes of a session that comes from another client. Default [`DeviceBinding::Off`].
    #[must_use]
    pub fn bound_to_device(mut self, binding: DeviceBinding) -> Self {
        self.binding = binding;
        self
    }

    /// What a login says about a session that begins, remembered or not.
    #[must_use]
    pub fn beginning(&self, remembered: bool) -> Beginning {
        let bound = self.binding != DeviceBinding::Off;
        let mut beginning = Beginning::of(Presentation::Browser(BrowserSession { remembered, bound }));
        beginning.lifetime = if remembered { self.remembered_for } else { Some(self.lifetime) };
        beginning
    }

    /// The binding to the device.
    #[must_use]
    pub fn binding(&self) -> DeviceBinding {
        self.binding
    }

    /// The path of the sign-in page.
    #[must_use]
    pub fn sign_in(&self) -> Option<&str> {
        self.sign_in_page.as_deref()
    }

    /// The path of the page where a user proves the identity again.
    #[must_use]
    pub fn confirm(&self) -> Option<&str> {
        self.confirm_page.as_deref()
    }

    pub(crate) fn check(&self) -> Result<(), BuildError> {
        let pages = [&self.sign_in_page, &self.confirm_page].into_iter().flatten();
        if pages.chain([&self.refresh_page]).any(|page| ReturnTo::parse(page).is_none()) {
            return Err(BuildError::Settings(
                "the pages of `.login_sessions(…)` are paths of this program, such as /login",
            ));
        }
        if self.lifetime.is_zero() || self.remembered_for.is_some_and(|lifetime| lifetime.is_zero()) {
            return Err(BuildError::Settings("the lifetimes of `.login_sessions(…)` are at least 1 s"));
        }
        Ok(())
    }
}

/// The URI that a client asked for, where layers or routers have changed the request's own since then.
#[derive(Clone, Debug)]
pub struct RequestedUri(pub Uri);

/// Marks requests to routes that programs call, such as the ready-made ones: a refusal is never a page.
#[derive(Clone, Copy, Debug)]
pub struct ForPrograms;

/// Marks requests that a proxy asks about on behalf of a browser, and that cannot be renewed in place: their answer is not
/// the browser's. A browser that may have a session renews it at the refresh page, and comes back.
#[derive(Clone, Copy, Debug)]
pub struct ThroughProxy;

/// Login sessions at work: with the key that signs the way back to a page.
pub(crate) struct Pages {
    pub(crate) sessions: LoginSessions,
    key: hmac::Key,
}

impl Pages {
    pub(crate) fn new(sessions: LoginSessions, key: &[u8]) -> Self {
        Self { sessions, key: hmac::Key::new(hmac::HMAC_SHA256, key) }
    }

    /// The page in place of the refusal of a request that a browser navigates with; `None` where the refusal stays.
    /// `by_cookie` is whether cookies decide about the request, and not a token of a program's.
    pub(crate) fn answer(
        &self,
        cookies: &dyn CookieRules,
        parts: &Parts,
        error: &AuthError,
        by_cookie: bool,
        now: Timestamp,
    ) -> Option<Answer> {
        if !by_cookie || !wants_page(parts) {
            return None;
        }
        let LoginSessions { sign_in_page, confirm_page, .. } = &self.sessions;
        if let AuthError::NotFresh = error {
            return confirm_page.as_deref().map(|page| self.send_to(page, parts));
        }
        if !matches!(error.code(), ErrorCode::MissingToken | ErrorCode::InvalidToken) {
            return None;
        }
        if let Some(answer) = self.come_again(cookies, parts, error, now) {
            return Some(answer);
        }
        let mut answer = self.send_to(sign_in_page.as_deref()?, parts);
        if is_over(cookies, &parts.headers, error) {
            forget(cookies, &parts.headers, &mut answer);
        }
        Some(answer)
    }

    /// The answer that makes a browser come again with the refresh token that it withheld from this request; `None` where
    /// it has withheld none.
    pub(crate) fn come_again(
        &self,
        cookies: &dyn CookieRules,
        parts: &Parts,
        error: &AuthError,
        now: Timestamp,
    ) -> Option<Answer> {
        let is_visit = matches!(parts.method, Method::GET | Method::HEAD) && wants_page(parts);
        let shows_refresh = is_shown(cookies, &parts.headers, CookieKind::Refresh);
        if parts.extensions.get::<ThroughProxy>().is_some() {
            let may_have_session = shows_refresh || has_been_here(cookies, &parts.headers);
            let page = ReturnTo::of(requested(parts))
                .filter(|_| is_visit && may_have_session && may_go_on(error))?;
            return Some(Answer::see_other(&self.signed(&self.sessions.refresh_page, &page, now)));
        }
        if !is_visit || shows_refresh || !may_go_on(error) || !may_have_been_here(cookies, &parts.headers) {
            return None;
        }
        let requested = requested(parts);
        if is_from_elsewhere(&parts.headers) {
            return ReturnTo::of(requested).map(|page| again(&page));
        }
        let refresh_page = &self.sessions.refresh_page;
        let is_kept_away = !covers(cookies.path(CookieKind::Refresh), requested.path())
            && covers(cookies.path(CookieKind::Access), requested.path())
            && covers(cookies.path(CookieKind::Refresh), refresh_page);
        let page = ReturnTo::of(requested).filter(|_| is_kept_away)?;
        Some(Answer::see_other(&self.signed(refresh_page, &page, now)))
    }

    fn send_to(&self, page: &str, parts: &Parts) -> Answer {
        match page_of(parts) {
            Some(next) => Answer::see_other(&next.after(page)),
            None => Answer::see_other(page),
        }
    }

    /// The answer to a browser that came to renew its session on the way to a page, and showed no session that goes on.
    pub(crate) fn stay_out(&self, page: &ReturnTo) -> Answer {
        let sign_in = self.sessions.sign_in_page.as_deref();
        Answer::see_other(&sign_in.map_or_else(|| page.to_string(), |sign_in| page.after(sign_in)))
    }

    /// The page that a browser wants to go back to; `None` unless this program has sent it here, lately.
    pub(crate) fn way_back(&self, parts: &Parts, now: Timestamp) -> Option<ReturnTo> {
        let pairs = form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes());
        let (mut page, mut until, mut mac) = (None, None, None);
        for (name, value) in pairs {
            match &*name {
                ReturnTo::PARAMETER => page = Some(value),
                UNTIL => until = value.parse::<i64>().ok(),
                MAC => mac = Some(value),
                _ => {}
            }
        }
        let (page, until, mac) = (ReturnTo::parse(&page?)?, until?, mac?);
        let signed = hmac::verify(&self.key, to_sign(&page, until).as_bytes(), &unhex(&mac)?).is_ok();
        (signed && now.as_secs() < until).then_some(page)
    }

    fn signed(&self, refresh_page: &str, page: &ReturnTo, now: Timestamp) -> String {
        let until = (now + SIGNED_FOR).as_secs();
        let mac = hmac::sign(&self.key, to_sign(page, until).as_bytes());
        let mac: String = mac.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        let until = until.to_string();
        with_parameters(refresh_page, &[(ReturnTo::PARAMETER, page.as_str()), (UNTIL, &until), (MAC, &mac)])
    }
}

impl fmt::Debug for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.sessions.fmt(f)
    }
}

/// The query parameters beside `next` that are signed with it.
const UNTIL: &str = "until";
const MAC: &str = "mac";
/// The time within which a browser follows a redirect.
const SIGNED_FOR: Duration = Duration::from_secs(300);

fn to_sign(page: &ReturnTo, until: i64) -> String {
    format!("{until} {page}")
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u32>> = text.chars().map(|digit| digit.to_digit(16)).collect();
    let digits = digits?;
    let bytes = digits.chunks_exact(2).map(|pair| match pair {
        [high, low] => u8::try_from(high << 4 | low).unwrap_or_default(),
        _ => 0,
    });
    Some(bytes.collect())
}

/// Whether a refusal of this request may be a page, because a browser navigates.
fn wants_page(parts: &Parts) -> bool {
    parts.extensions.get::<ForPrograms>().is_none() && prefers_html(&parts.headers)
}

/// Whether `Accept` names HTML, and does not like JSON better. A bare `*/*`, as `fetch` and curl send it, asks for no
/// page.
#[must_use]
pub fn prefers_html(headers: &HeaderMap) -> bool {
    let weight = |wanted: &[&str]| {
        let ranges = headers.get_all(header::ACCEPT).iter().filter_map(|field| field.to_str().ok());
        let ranges = ranges.flat_map(|field| field.split(','));
        let weights = ranges.filter_map(|range| {
            let mut pieces = range.split(';').map(str::trim);
            let essence = pieces.next()?;
            if !wanted.iter().any(|wanted| essence.eq_ignore_ascii_case(wanted)) {
                return None;
            }
            let q = pieces.find_map(|piece| piece.strip_prefix("q=").or_else(|| piece.strip_prefix("Q=")));
            Some(q.map_or(1.0, |q| q.parse::<f32>().unwrap_or(0.0)))
        });
        weights.fold(0.0_f32, f32::max)
    };
    let html = weight(&["text/html", "application/xhtml+xml"]);
    html > 0.0 && html >= weight(&["application/json"])
}

/// The page that the user wants to see after signing in: the one that was asked for or, where a form was sent, the one
/// with the form.
fn page_of(parts: &Parts) -> Option<ReturnTo> {
    if matches!(parts.method, Method::GET | Method::HEAD) {
        return ReturnTo::of(requested(parts));
    }
    let form: Uri = parts.headers.get(header::REFERER)?.to_str().ok()?.parse().ok()?;
    let host = parts.headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let host = host.or_else(|| parts.uri.authority().map(|authority| authority.as_str()))?;
    if form.authority()?.as_str().eq_ignore_ascii_case(host) { ReturnTo::of(&form) } else { None }
}

fn requested(parts: &Parts) -> &Uri {
    parts.extensions.get::<RequestedUri>().map_or(&parts.uri, |RequestedUri(uri)| uri)
}

/// Whether a session might go on with a refresh token that the browser did not send.
fn may_go_on(error: &AuthError) -> bool {
    matches!(
        error,
        AuthError::Missing
            | AuthError::Token(CheckError::Invalid(_))
            | AuthError::Locate(LocateError::NotAToken(Location::Cookie))
            | AuthError::OtherClient
    )
}

/// Whether a refusal says for certain that the session of the cookies is over, so that the browser may forget them.
pub(crate) fn is_over(cookies: &dyn CookieRules, headers: &HeaderMap, error: &AuthError) -> bool {
    if !cookies.are_carried(headers) || is_from_elsewhere(headers) {
        return false;
    }
    match error {
        AuthError::Missing | AuthError::Token(CheckError::Invalid(VerifyError::Expired)) => {
            is_shown(cookies, headers, CookieKind::Refresh)
        }
        AuthError::Token(CheckError::Revoked(RevokedBy::Token | RevokedBy::Session | RevokedBy::Epoch)) => {
            true
        }
        error => error.code() == ErrorCode::InvalidToken,
    }
}

pub(crate) fn forget(cookies: &dyn CookieRules, headers: &HeaderMap, answer: &mut Answer) {
    // Removing cookies cannot fail: there is no value that could be too large.
    let _ = SetCookies::forgetting_carried(cookies, headers).apply(answer.headers_mut());
}

fn is_shown(cookies: &dyn CookieRules, headers: &HeaderMap, kind: CookieKind) -> bool {
    let shown = cookies.name(kind).map(|name| find_cookie(headers, name));
    !matches!(shown, None | Some(CookieLookup::Absent | CookieLookup::One("")))
}

/// Whether the browser may have a session although it sends no refresh token: another cookie of the session is there, or
/// would be withheld too.
fn may_have_been_here(cookies: &dyn CookieRules, headers: &HeaderMap) -> bool {
    !cookies.shows_session() || has_been_here(cookies, headers)
}

fn has_been_here(cookies: &dyn CookieRules, headers: &HeaderMap) -> bool {
    [CookieKind::Access, CookieKind::Csrf].iter().any(|&kind| is_shown(cookies, headers, kind))
}

/// Whether a page for everybody is to be asked for once more, because the browser has a session and withholds its
/// refresh token from another site's link.
pub(crate) fn asks_again(cookies: &dyn CookieRules, parts: &Parts, refused: Option<&AuthError>) -> bool {
    matches!(parts.method, Method::GET | Method::HEAD)
        && is_from_elsewhere(&parts.headers)
        && wants_page(parts)
        && has_been_here(cookies, &parts.headers)
        && !is_shown(cookies, &parts.headers, CookieKind::Refresh)
        && refused.is_none_or(may_go_on)
}

/// Whether another site sent the browser here, so that it withholds `SameSite=Strict` cookies.
pub(crate) fn is_from_elsewhere(headers: &HeaderMap) -> bool {
    headers.get(SEC_FETCH_SITE).is_some_and(|site| site == "cross-site")
}

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// A page that asks for itself again. Browsers follow a redirect in the name of the site that began it, and go on from a
/// page in the name of the page. So the second request is our own, and brings all cookies.
pub(crate) fn again(page: &ReturnTo) -> Answer {
    let href = page.as_str().replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;");
    let html = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>\u{2026}</title>\
         <meta http-equiv=\"refresh\" content=\"0; url={href}\"><a href=\"{href}\">Continue</a></html>"
    );
    let mut answer = Answer::html(html);
    if let Ok(field) = HeaderValue::try_from(format!("0; url={page}")) {
        answer.headers_mut().insert(HeaderName::from_static("refresh"), field);
    }
    no_store(answer.headers_mut());
    vary_personal(answer.headers_mut());
    answer
}

/// Whether a cookie with this path is sent with requests for another path (RFC 6265 §5.1.4).
fn covers(scope: &str, path: &str) -> bool {
    let below = path.strip_prefix(scope);
    below.is_some_and(|below| below.is_empty() || scope.ends_with('/') || below.starts_with('/'))
}
