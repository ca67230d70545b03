//! The native rules' answers: status, headers and body of every refusal (RFC 6750 §3).
//!
//! Clients learn a standard code and a fixed sentence; logs learn the cause. Descriptions are `&'static str`, so
//! that nothing from a request, a token or a database can end up in one.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use serde::Serialize;

use crate::cookie_config::CookieConfig;
use crate::csrf::CsrfError;
use crate::locate::LocateError;

/// The standard code by which a client learns why it was refused.
///
/// ```
/// use countersign_http::ErrorCode;
///
/// let code = ErrorCode::InvalidToken;
/// assert_eq!((code.status().as_u16(), code.as_str()), (401, "invalid_token"));
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum ErrorCode {
    /// 400: malformed JSON, a malformed header, two `Authorization` fields.
    InvalidRequest,
    /// 400: a mailed link that was used before, has expired or was never sent.
    InvalidLink,
    /// 400: the client may not use this endpoint (RFC 6749 §5.2).
    UnauthorizedClient,
    /// 401: the client of an endpoint of tokens is not authenticated (RFC 6749 §5.2).
    InvalidClient,
    /// 401: no credential.
    MissingToken,
    /// 401: a presented token is not accepted, for whatever reason.
    InvalidToken,
    /// 401: a login with an unknown or disabled account, or a wrong password.
    InvalidCredentials,
    /// 401: signed in, but with a token that is not fresh.
    FreshTokenRequired,
    /// 403: a request that a cookie authenticates lacks its CSRF value.
    CsrfFailed,
    /// 403: a request with cookies from another site.
    CrossSite,
    /// 403: the answer would have set cookies that travel unprotected.
    InsecureCookies,
    /// 403: a role, scope or claim is missing.
    InsufficientScope,
    /// 403: the current password, which a change needs, is wrong.
    WrongPassword,
    /// 403: the account has no password, which a change would ask for.
    NoPassword,
    /// 403: nobody may register here, or nobody with such an e-mail address.
    RegistrationClosed,
    /// 403: the account's e-mail address is to be verified before the first login.
    EmailUnverified,
    /// 404: no such path or object.
    NotFound,
    /// 405: no such method on this path.
    MethodNotAllowed,
    /// 409: the e-mail address belongs to another account.
    EmailTaken,
    /// 409: the user name belongs to another account.
    UsernameTaken,
    /// 409: the account was changed at the same time; the same request may succeed when repeated.
    Conflict,
    /// 409: the user has as many sessions as allowed, and the policy is that a login ends none of them.
    TooManySessions,
    /// 413: the body is larger than 64 KiB.
    TooLarge,
    /// 415: the body is not JSON.
    UnsupportedMediaType,
    /// 422: well-formed JSON with wrong members.
    InvalidFields,
    /// 429: a throttle refuses the attempt.
    TooManyAttempts,
    /// 500: a defect in this program.
    InternalError,
    /// 503: the store cannot answer in time, or the revocation view is too old.
    Unavailable,
    /// 503: too many password hashes are waiting.
    Overloaded,
}

/// An answer to a request, for any framework: [`Response::from`] makes it an `http` response.
///
/// ```
/// use std::time::Duration;
/// use bytes::Bytes;
/// use countersign_http::{Answer, ErrorCode};
/// use http::Response;
///
/// let answer = Answer::error(ErrorCode::Overloaded).retry_after(Duration::from_secs(2));
/// let response: Response<Bytes> = answer.into();
/// assert_eq!(response.status(), 503);
/// assert_eq!(response.headers()["retry-after"], "2");
/// ```
#[derive(Clone)]
pub struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl ErrorCode {
    /// Every code, in the order of its status.
    pub const ALL: [Self; 29] = [
        Self::InvalidRequest,
        Self::InvalidLink,
        Self::UnauthorizedClient,
        Self::InvalidClient,
        Self::MissingToken,
        Self::InvalidToken,
        Self::InvalidCredentials,
        Self::FreshTokenRequired,
        Self::CsrfFailed,
        Self::CrossSite,
        Self::InsecureCookies,
        Self::InsufficientScope,
        Self::WrongPassword,
        Self::NoPassword,
        Self::RegistrationClosed,
        Self::EmailUnverified,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::EmailTaken,
        Self::UsernameTaken,
        Self::Conflict,
        Self::TooManySessions,
        Self::TooLarge,
        Self::UnsupportedMediaType,
        Self::InvalidFields,
        Self::TooManyAttempts,
        Self::InternalError,
        Self::Unavailable,
        Self::Overloaded,
    ];

    /// The status of an answer with this code.
    #[must_use]
    pub const fn status(self) -> StatusCode {
        self.row().0
    }

    /// The code as clients see it, in the member `error`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.row().1
    }

    /// The default `error_description`.
    #[must_use]
    pub const fn description(self) -> &'static str {
        self.row().2
    }

    const fn row(self) -> (StatusCode, &'static str, &'static str) {
        use StatusCode as S;
        match self {
            Self::InvalidRequest => (S::BAD_REQUEST, "invalid_request", "The request is malformed."),
            Self::InvalidLink => {
                (S::BAD_REQUEST, "invalid_link", "The link is not valid any more; ask for another one.")
            }
            Self::UnauthorizedClient => {
                (S::BAD_REQUEST, "unauthorized_client", "The client may not use this endpoint.")
            }
            Self::InvalidClient => {
                (S::UNAUTHORIZED, "invalid_client", "The client's id or secret is missing or wrong.")
            }
            Self::MissingToken => {
                (S::UNAUTHORIZED, "missing_token", "The request needs a token and has none.")
            }
            Self::InvalidToken => (S::UNAUTHORIZED, "invalid_token", "The token is not valid, or no longer."),
            Self::InvalidCredentials => {
                (S::UNAUTHORIZED, "invalid_credentials", "The name or the password is wrong.")
            }
            Self::FreshTokenRequired => {
                (S::UNAUTHORIZED, "fresh_token_required", "The request needs a recent login.")
            }
            Self::CsrfFailed => (
                S::FORBIDDEN,
                "csrf_failed",
                "The request carries the cookies of a session; the header X-CSRF-Token, or a form's field \
                     csrf_token, must hold the value of that session's CSRF cookie.",
            ),
            Self::CrossSite => (
                S::FORBIDDEN,
                "cross_site",
                "The request comes from another site, and its origin is not an allowed one.",
            ),
            Self::InsecureCookies => (
                S::FORBIDDEN,
                "insecure_cookies",
                "Under this host name cookies would travel unprotected, so none are set; whoever runs the service has \
                 to set its public URL.",
            ),
            Self::InsufficientScope => {
                (S::FORBIDDEN, "insufficient_scope", "The token does not permit this request.")
            }
            Self::WrongPassword => (S::FORBIDDEN, "wrong_password", "The current password is wrong."),
            Self::NoPassword => (
                S::FORBIDDEN,
                "no_password",
                "The account has no password yet; /password/forgot mails a link that sets one.",
            ),
            Self::RegistrationClosed => {
                (S::FORBIDDEN, "registration_closed", "Accounts are not open to everybody here.")
            }
            Self::EmailUnverified => (
                S::FORBIDDEN,
                "email_unverified",
                "The e-mail address is to be verified first; the link was sent to it.",
            ),
            Self::NotFound => (S::NOT_FOUND, "not_found", "There is nothing here."),
            Self::MethodNotAllowed => {
                (S::METHOD_NOT_ALLOWED, "method_not_allowed", "The path does not take this method.")
            }
            Self::EmailTaken => (S::CONFLICT, "email_taken", "Another account has this e-mail address."),
            Self::UsernameTaken => (S::CONFLICT, "username_taken", "Another account has this user name."),
            Self::Conflict => {
                (S::CONFLICT, "conflict", "The account was changed at the same time; try again.")
            }
            Self::TooManySessions => (
                S::CONFLICT,
                "too_many_sessions",
                "The user is signed in as often as is allowed; signing out elsewhere makes room.",
            ),
            Self::TooLarge => (S::PAYLOAD_TOO_LARGE, "too_large", "The body is larger than 64 KiB."),
            Self::UnsupportedMediaType => {
                (S::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", "The body must be application/json.")
            }
            Self::InvalidFields => {
                (S::UNPROCESSABLE_ENTITY, "invalid_fields", "Some members of the body are not valid.")
            }
            Self::TooManyAttempts => {
                (S::TOO_MANY_REQUESTS, "too_many_attempts", "There were too many attempts; try again later.")
            }
            Self::InternalError => {
                (S::INTERNAL_SERVER_ERROR, "internal_error", "The server made a mistake and has logged it.")
            }
            Self::Unavailable => {
                (S::SERVICE_UNAVAILABLE, "unavailable", "The service cannot answer now; try again soon.")
            }
            Self::Overloaded => {
                (S::SERVICE_UNAVAILABLE, "overloaded", "The service is busy; try again soon.")
            }
        }
    }

    /// The `WWW-Authenticate` of an answer. Every 401 has one, without parameters where no token was presented; the 403
    /// of a token with insufficient scope has one too (RFC 6750 §3).
    fn challenge(self, description: &'static str) -> Option<HeaderValue> {
        match self {
            // RFC 6749 §5.2. The realm is required by RFC 7617 §2.
            Self::InvalidClient => {
                Some(HeaderValue::from_static("Basic realm=\"clients\", charset=\"UTF-8\""))
            }
            Self::MissingToken | Self::InvalidCredentials => Some(HeaderValue::from_static("Bearer")),
            // RFC 9470 §3 defines this name for a valid token from too old a login. `invalid_token` would make clients
            // refresh, which never yields a fresh token, and try again.
            Self::FreshTokenRequired => Some(challenge("insufficient_user_authentication", description)),
            Self::InvalidToken | Self::InsufficientScope => Some(challenge(self.as_str(), description)),
            _ => None,
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<LocateError> for ErrorCode {
    fn from(error: LocateError) -> Self {
        match error {
            LocateError::MalformedAuthorization
            | LocateError::SeveralTokens
            | LocateError::RepeatedParameter => Self::InvalidRequest,
            LocateError::NotAToken(_) | LocateError::RepeatedCookie => Self::InvalidToken,
        }
    }
}

impl From<CsrfError> for ErrorCode {
    fn from(_: CsrfError) -> Self {
        Self::CsrfFailed
    }
}

impl Answer {
    /// A refusal with the code's own description. A 429 or 503 says `Retry-After: 1` unless
    /// [`retry_after`](Self::retry_after) changes it.
    #[must_use]
    pub fn error(code: ErrorCode) -> Self {
        Self::error_with(code, code.description())
    }

    /// A refusal with a more helpful description, which must not depend on the request's secrets.
    #[must_use]
    pub fn error_with(code: ErrorCode, description: &'static str) -> Self {
        Self::refusal(code, description, None)
    }

    /// A 422 `invalid_fields` that tells for each wrong member what is wrong with it. Messages describe the rule and
    /// never repeat the value.
    #[must_use]
    pub fn invalid_fields(fields: &BTreeMap<&'static str, Cow<'static, str>>) -> Self {
        Self::refusal(ErrorCode::InvalidFields, ErrorCode::InvalidFields.description(), Some(fields))
    }

    /// The refusal of a request whose credential could not be located. After a repeated cookie it also expires the
    /// token cookies (SEC-062).
    #[must_use]
    pub fn refused_credential(error: LocateError, cookies: &CookieConfig) -> Self {
        let code = ErrorCode::from(error);
        let mut answer = Self::error(code);
        if code == ErrorCode::InvalidRequest {
            let field = challenge(code.as_str(), code.description());
            answer.headers.insert(header::WWW_AUTHENTICATE, field);
        }
        if error == LocateError::RepeatedCookie {
            for field in cookies.expire_repeated() {
                answer.headers.append(header::SET_COOKIE, field);
            }
        }
        answer
    }

    /// An answer with a JSON body.
    ///
    /// # Errors
    /// The body cannot be written as JSON, as with a map whose keys are not text.
    pub fn json(status: StatusCode, body: &impl Serialize) -> Result<Self, serde_json::Error> {
        let mut answer = Self::empty(status);
        answer.body = serde_json::to_vec(body)?.into();
        answer.headers.insert(header::CONTENT_TYPE, JSON);
        Ok(answer)
    }

    /// The answer with a JWK set, which is public and which caches may keep for five minutes (SEC-042).
    pub(crate) fn jwk_set(text: String) -> Self {
        Self::public(JWK_SET, text)
    }

    /// A public document, which caches may keep for five minutes, with an `ETag` by which they ask for changes.
    pub(crate) fn public(content_type: HeaderValue, text: String) -> Self {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
        let tag = digest
            .as_ref()
            .iter()
            .take(16)
            .fold(String::from("\""), |tag, byte| tag + &format!("{byte:02x}"));
        let mut answer = Self::empty(StatusCode::OK);
        answer.body = text.into();
        answer.headers.insert(header::CONTENT_TYPE, content_type);
        answer.headers.insert(header::CACHE_CONTROL, PUBLIC_FOR_FIVE_MINUTES);
        answer.headers.insert(header::ETAG, HeaderValue::try_from(tag + "\"").expect("hexadecimal digits"));
        answer
    }

    /// The answer 304 if the request's `If-None-Match` names this answer's `ETag` (RFC 9110 §13.1.2); otherwise this
    /// answer.
    #[must_use]
    pub fn unless_known(mut self, request: &HeaderMap) -> Self {
        let Some(tag) = self.headers.get(header::ETAG).and_then(|tag| tag.to_str().ok()) else { return self };
        let fields = request.get_all(header::IF_NONE_MATCH).iter().filter_map(|field| field.to_str().ok());
        let mut named = fields.flat_map(|field| field.split(',')).map(str::trim);
        if named.any(|named| named == "*" || named.strip_prefix("W/").unwrap_or(named) == tag) {
            self.status = StatusCode::NOT_MODIFIED;
            self.body = Bytes::new();
            self.headers.remove(header::CONTENT_TYPE);
        }
        self
    }

    /// The answer 303, which sends a browser to another page by GET, whatever the method was (SEC-076). `location` is
    /// ASCII, as [`ReturnTo`](crate::ReturnTo) writes it.
    #[must_use]
    pub fn see_other(location: &str) -> Self {
        let mut answer = Self::empty(StatusCode::SEE_OTHER);
        if let Ok(location) = HeaderValue::try_from(location) {
            answer.headers.insert(header::LOCATION, location);
        }
        no_store(&mut answer.headers);
        vary_personal(&mut answer.headers);
        answer
    }

    /// A page without scripts, styles or anything else that it would load.
    pub(crate) fn html(html: String) -> Self {
        const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
        const NOTHING: HeaderValue = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
        let mut answer = Self::empty(StatusCode::OK);
        answer.body = html.into();
        answer.headers.insert(header::CONTENT_TYPE, HTML);
        answer.headers.insert(header::CONTENT_SECURITY_POLICY, NOTHING);
        answer
    }

    /// An answer without a body.
    #[must_use]
    pub fn empty(status: StatusCode) -> Self {
        // Without this field, a browser that navigates to the answer may take its text for a page.
        let headers = HeaderMap::from_iter([(header::X_CONTENT_TYPE_OPTIONS, NO_SNIFF)]);
        Self { status, headers, body: Bytes::new() }
    }

    /// Completes the challenge, if there is one, with the protected space (RFC 9110 §11.5) and the scope that would
    /// suffice (RFC 6750 §3).
    pub(crate) fn complete_challenge(&mut self, realm: Option<&str>, scope: Option<&str>) {
        let Some(field) = self.headers.get(header::WWW_AUTHENTICATE) else { return };
        let known = field.to_str().unwrap_or_default().strip_prefix("Bearer").unwrap_or_default().trim();
        let realm = realm.map(|realm| format!("realm=\"{}\"", quotable(realm)));
        let scope = scope.map(|scope| format!("scope=\"{}\"", quotable(scope)));
        let known = (!known.is_empty()).then(|| known.to_owned());
        let parameters: Vec<_> = [realm, known, scope].into_iter().flatten().collect();
        if !parameters.is_empty()
            && let Ok(field) = HeaderValue::try_from(format!("Bearer {}", parameters.join(", ")))
        {
            self.headers.insert(header::WWW_AUTHENTICATE, field);
        }
    }

    /// Sets `Retry-After`: when to try again, in whole seconds rounded up, at least 1.
    #[must_use]
    pub fn retry_after(mut self, after: Duration) -> Self {
        let started_second = u64::from(after.subsec_nanos() > 0);
        let seconds = after.as_secs().saturating_add(started_second).max(1);
        self.headers.insert(header::RETRY_AFTER, seconds.into());
        self
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The header fields.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The header fields, mutable.
    pub fn headers_mut(&mut self) -> &mut HeaderMap {
        &mut self.headers
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    fn refusal(
        code: ErrorCode,
        description: &'static str,
        fields: Option<&BTreeMap<&'static str, Cow<'static, str>>>,
    ) -> Self {
        let nothing = BTreeMap::new();
        // Clients may rely on `fields` wherever the code is `invalid_fields`.
        let fields = fields.or((code == ErrorCode::InvalidFields).then_some(&nothing));
        let body = ErrorBody { error: code.as_str(), error_description: description, fields };
        let mut answer = Self::json(code.status(), &body).expect("a struct of texts can be written as JSON");
        no_store(&mut answer.headers);
        if let Some(field) = code.challenge(description) {
            answer.headers.insert(header::WWW_AUTHENTICATE, field);
        }
        match code.status() {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                answer.retry_after(Duration::from_secs(1))
            }
            _ => answer,
        }
    }
}

/// Omits the body, which may hold tokens.
impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { status, headers, body: _ } = self;
        f.debug_struct("Answer").field("status", status).field("headers", headers).finish_non_exhaustive()
    }
}

impl From<Answer> for Response<Bytes> {
    fn from(answer: Answer) -> Self {
        let mut response = Self::new(answer.body);
        *response.status_mut() = answer.status;
        *response.headers_mut() = answer.headers;
        response
    }
}

/// Makes an answer of a response that the application has built itself.
impl From<Response<Bytes>> for Answer {
    fn from(response: Response<Bytes>) -> Self {
        let (parts, body) = response.into_parts();
        Self { status: parts.status, headers: parts.headers, body }
    }
}

/// Keeps an answer out of every cache. For answers with a token, a CSRF value or our cookies (SEC-054).
pub fn no_store(headers: &mut HeaderMap) {
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
}

/// Keeps an answer to a request with a token in its URL out of caches, and keeps the URL from the sites that the
/// answer's page links to (SEC-051).
pub fn private_query(headers: &mut HeaderMap) {
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
}

/// Tells caches that an answer depends on who asks: adds `Cookie` and `Authorization` to the fields that `Vary`
/// already names (SEC-054).
pub fn vary_personal(headers: &mut HeaderMap) {
    let named = |name: &str| {
        let mut members = headers.get_all(header::VARY).iter().filter_map(|field| field.to_str().ok());
        members.any(|field| field.split(',').any(|member| member.trim().eq_ignore_ascii_case(name)))
    };
    let field = match (named("*"), named("cookie"), named("authorization")) {
        (true, _, _) | (false, true, true) => return,
        (false, false, false) => HeaderValue::from_static("Cookie, Authorization"),
        (false, false, true) => HeaderValue::from_static("Cookie"),
        (false, true, false) => HeaderValue::from_static("Authorization"),
    };
    headers.append(header::VARY, field);
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    error: &'static str,
    error_description: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    fields: Option<&'a BTreeMap<&'static str, Cow<'static, str>>>,
}

/// A challenge that names an error. Characters that RFC 6750 §3 forbids in its description (quotes, backslashes,
/// anything but printable ASCII) become apostrophes.
fn challenge(error: &str, description: &str) -> HeaderValue {
    let description = quotable(description);
    HeaderValue::try_from(format!("Bearer error=\"{error}\", error_description=\"{description}\""))
        .expect("codes and quotable characters are printable ASCII")
}

/// The text with every character that a quoted text may not hold replaced by an apostrophe.
pub fn quotable(text: &str) -> String {
    let quotable = |c: char| if matches!(c, ' '..='~') && c != '"' && c != '\\' { c } else { '\'' };
    text.chars().map(quotable).collect()
}

pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json");
const NO_SNIFF: HeaderValue = HeaderValue::from_static("nosniff");
/// The media type of a JWK set (RFC 7517 §8.5.2).
const JWK_SET: HeaderValue = HeaderValue::from_static("application/jwk-set+json");
/// The time for which a verifier elsewhere may go on accepting a key that was removed here; at most 600 s (SEC-042).
const PUBLIC_FOR_FIVE_MINUTES: HeaderValue = HeaderValue::from_static("public, max-age=300");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::locate::Location;

    fn header(answer: &Answer, name: http::HeaderName) -> Option<&str> {
        answer.headers().get(name).map(|value| value.to_str().unwrap())
    }

    fn body(answer: &Answer) -> &str {
        std::str::from_utf8(answer.body()).unwrap()
    }

    #[test]
    fn sec_053_every_code_has_its_status_and_challenge() {
        let fresh = "Bearer error=\"insufficient_user_authentication\", \
                     error_description=\"The request needs a recent login.\"";
        let invalid =
            "Bearer error=\"invalid_token\", error_description=\"The token is not valid, or no longer.\"";
        let scope = "Bearer error=\"insufficient_scope\", error_description=\"The token does not permit this request.\"";
        let table = [
            (400, "invalid_request", None),
            (400, "invalid_link", None),
            (400, "unauthorized_client", None),
            (401, "invalid_client", Some("Basic realm=\"clients\", charset=\"UTF-8\"")),
            (401, "missing_token", Some("Bearer")),
            (401, "invalid_token", Some(invalid)),
            (401, "invalid_credentials", Some("Bearer")),
            (401, "fresh_token_required", Some(fresh)),
            (403, "csrf_failed", None),
            (403, "cross_site", None),
            (403, "insecure_cookies", None),
            (403, "insufficient_scope", Some(scope)),
            (403, "wrong_password", None),
            (403, "no_password", None),
            (403, "registration_closed", None),
            (403, "email_unverified", None),
            (404, "not_found", None),
            (405, "method_not_allowed", None),
            (409, "email_taken", None),
            (409, "username_taken", None),
            (409, "conflict", None),
            (409, "too_many_sessions", None),
            (413, "too_large", None),
            (415, "unsupported_media_type", None),
            (422, "invalid_fields", None),
            (429, "too_many_attempts", None),
            (500, "internal_error", None),
            (503, "unavailable", None),
            (503, "overloaded", None),
        ];
        assert_eq!(ErrorCode::ALL.len(), table.len());
        for (code, (status, text, challenge)) in ErrorCode::ALL.into_iter().zip(table) {
            let answer = Answer::error(code);
            assert_eq!((answer.status().as_u16(), code.as_str()), (status, text));
            assert_eq!(header(&answer, header::WWW_AUTHENTICATE), challenge, "{code}");
            assert_eq!(header(&answer, header::CONTENT_TYPE), Some("application/json"));
            assert_eq!(header(&answer, header::CACHE_CONTROL), Some("no-store"));
            assert_eq!(header(&answer, header::X_CONTENT_TYPE_OPTIONS), Some("nosniff"));
            let retry = [429, 503].contains(&status).then_some("1");
            assert_eq!(header(&answer, header::RETRY_AFTER), retry, "{code}");
            let json: serde_json::Value = serde_json::from_slice(answer.body()).unwrap();
            let mut expected = serde_json::json!({ "error": text, "error_description": code.description() });
            if code == ErrorCode::InvalidFields {
                expected["fields"] = serde_json::json!({});
            }
            assert_eq!(json, expected);
        }
    }

    #[test]
    fn sec_048_sec_053_a_malformed_credential_is_an_invalid_request() {
        let cookies = CookieConfig::for_public_url(None).unwrap();
        for (error, status, challenge, expired) in [
            (LocateError::MalformedAuthorization, 400, "Bearer error=\"invalid_request\"", 0),
            (LocateError::SeveralTokens, 400, "Bearer error=\"invalid_request\"", 0),
            (LocateError::NotAToken(Location::Header), 401, "Bearer error=\"invalid_token\"", 0),
            (LocateError::RepeatedCookie, 401, "Bearer error=\"invalid_token\"", 2),
        ] {
            let answer = Answer::refused_credential(error, &cookies);
            assert_eq!(answer.status().as_u16(), status, "{error}");
            assert!(header(&answer, header::WWW_AUTHENTICATE).unwrap().starts_with(challenge), "{error}");
            assert_eq!(answer.headers().get_all(header::SET_COOKIE).iter().count(), expired, "{error}");
        }
    }

    #[test]
    fn sec_062_a_repeated_cookie_expires_both_token_cookies() {
        let cookies = CookieConfig::for_public_url(None).unwrap();
        let answer = Answer::refused_credential(LocateError::RepeatedCookie, &cookies);
        let fields: Vec<_> = answer.headers().get_all(header::SET_COOKIE).iter().collect();
        assert_eq!(fields, cookies.expire_repeated().iter().collect::<Vec<_>>());
    }

    #[test]
    fn invalid_fields_are_named_with_their_rule() {
        let fields = BTreeMap::from([
            ("password", Cow::Borrowed("at least 8 characters")),
            ("email", Cow::Owned("exactly one @".to_owned())),
        ]);
        let expected = "{\"error\":\"invalid_fields\",\
            \"error_description\":\"Some members of the body are not valid.\",\
            \"fields\":{\"email\":\"exactly one @\",\"password\":\"at least 8 characters\"}}";
        assert_eq!(body(&Answer::invalid_fields(&fields)), expected);
    }

    #[test]
    fn a_description_cannot_break_out_of_the_challenge() {
        let answer = Answer::error_with(ErrorCode::InvalidToken, "a \"b\\\r\nc\" é");
        let expected = "Bearer error=\"invalid_token\", error_description=\"a 'b'''c' '\"";
        assert_eq!(header(&answer, header::WWW_AUTHENTICATE), Some(expected));
    }

    #[test]
    fn retry_after_is_rounded_up_to_whole_seconds() {
        for (after, expected) in [
            (Duration::ZERO, "1"),
            (Duration::from_millis(1), "1"),
            (Duration::from_millis(1001), "2"),
            (Duration::from_secs(900), "900"),
            (Duration::MAX, "18446744073709551615"),
        ] {
            let answer = Answer::error(ErrorCode::TooManyAttempts).retry_after(after);
            assert_eq!(header(&answer, header::RETRY_AFTER), Some(expected), "{after:?}");
        }
    }

    #[test]
    fn sec_054_vary_is_added_to_and_never_repeated() {
        for (before, expected) in [
            (&[][..], &["Cookie, Authorization"][..]),
            (&["Origin"], &["Origin", "Cookie, Authorization"]),
            (&["Accept, cookie"], &["Accept, cookie", "Authorization"]),
            (&["Authorization"], &["Authorization", "Cookie"]),
            (&["Cookie", "authorization"], &["Cookie", "authorization"]),
            (&["*"], &["*"]),
        ] {
            let fields = before.iter().map(|field| (header::VARY, HeaderValue::from_static(field)));
            let mut headers: HeaderMap = fields.collect();
            vary_personal(&mut headers);
            vary_personal(&mut headers);
            assert_eq!(headers.get_all(header::VARY).iter().collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn sec_054_no_store_replaces_other_directives() {
        let mut headers = HeaderMap::new();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("max-age=60"));
        no_store(&mut headers);
        assert_eq!(headers.get_all(header::CACHE_CONTROL).iter().collect::<Vec<_>>(), ["no-store"]);
    }

    #[test]
    fn a_cache_that_knows_the_document_gets_304() {
        let answer = || Answer::jwk_set("{\"keys\":[]}".to_owned());
        let tag = header(&answer(), header::ETAG).unwrap().to_owned();
        assert_ne!(header(&Answer::jwk_set(String::new()), header::ETAG), Some(&*tag));
        for (named, known) in [
            (vec![], false),
            (vec!["\"other\"".to_owned()], false),
            (vec![tag.trim_matches('"').to_owned()], false),
            (vec![tag.clone()], true),
            (vec![format!("W/{tag}")], true),
            (vec![format!("\"other\" , {tag}")], true),
            (vec!["\"other\"".to_owned(), tag.clone()], true),
            (vec!["*".to_owned()], true),
        ] {
            let fields = named.iter().map(|tag| (header::IF_NONE_MATCH, HeaderValue::try_from(tag).unwrap()));
            let answer = answer().unless_known(&fields.collect());
            assert_eq!((answer.status() == 304, answer.body().is_empty()), (known, known), "{named:?}");
            assert_eq!(header(&answer, header::ETAG), Some(&*tag));
            assert_eq!(header(&answer, header::CACHE_CONTROL), Some("public, max-age=300"));
        }
    }

    #[test]
    fn tokens_do_not_show_in_debug_output() {
        let answer = Answer::json(StatusCode::OK, &serde_json::json!({ "access_token": "canary" })).unwrap();
        assert!(!format!("{answer:?}").contains("canary"));
    }

    #[test]
    fn answers_become_http_responses() {
        let mut answer = Answer::json(StatusCode::CREATED, &serde_json::json!({ "a": 1 })).unwrap();
        vary_personal(answer.headers_mut());
        let response = Response::from(answer);
        assert_eq!(response.status(), StatusCode::CREATED);
        let names = [header::CONTENT_TYPE, header::VARY, header::X_CONTENT_TYPE_OPTIONS];
        assert_eq!(response.headers().len(), names.len());
        assert!(names.iter().all(|name| response.headers().contains_key(name)));
        assert_eq!(response.body().as_ref(), b"{\"a\":1}");
        assert!(Answer::empty(StatusCode::NO_CONTENT).body().is_empty());
    }
}
