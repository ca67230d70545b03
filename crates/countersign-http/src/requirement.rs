//! Requirements: what a request must prove before its handler runs.

use std::borrow::Cow;

use countersign_jwt::{Claims, TokenType};
use serde_json::{Map, Value};

use crate::error::AuthError;
use crate::locate::Location;
use crate::log::shown_in_log;

/// The policy of a route as a value: what a request must prove before the handler runs.
///
/// A requirement begins with [`Requirement::ACCESS`] and is narrowed or widened step by step:
///
/// ```
/// use countersign_http::{Optional, Requirement};
/// use serde_json::{Map, json};
///
/// let report = Requirement::ACCESS.fresh().scope("reports:write");
/// let claims = Map::from_iter([("scope".to_owned(), json!("reports:read"))]);
/// assert!(report.lacking(&claims).is_some());
///
/// let front_page = Requirement::ACCESS.optional(Optional::IfAbsent);
/// assert!(report.covers(&front_page), "what suffices for the report suffices for the front page");
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Requirement {
    pub(crate) token: RequiredToken,
    pub(crate) fresh: bool,
    pub(crate) optional: Option<Optional>,
    pub(crate) locations: Option<Cow<'static, [Location]>>,
    pub(crate) skip_revocation: bool,
    pub(crate) scopes: Vec<String>,
    pub(crate) roles: Vec<String>,
    pub(crate) claims: Vec<(String, Value)>,
    pub(crate) realm: Option<String>,
}

/// The type of token that a request must show.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RequiredToken {
    /// An access token.
    Access,
    /// A refresh token. The requirement does not exchange it.
    Refresh,
    /// A token of either type, in the places of access tokens.
    Any,
    /// A token of either type, in the places of refresh tokens.
    AnyAsRefresh,
}

/// The case in which a request may pass without a token, as nobody.
///
/// ```
/// use countersign_http::{Optional, Requirement};
/// # use countersign_core::store::MemoryStore;
/// # use countersign_testkit::TestBed;
/// # use http::Request;
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let auth = countersign_http::Auth::builder(MemoryStore::new(), TestBed::secrets()).build().await?;
/// let request = Request::get("/").header("authorization", "Basic YWRhOnNlY3JldA==");
/// let (with_a_password, ()) = request.body(())?.into_parts();
/// for (when, passes) in [(Optional::IfAbsent, true), (Optional::IfNoCredential, false)] {
///     let requirement = Requirement::ACCESS.optional(when);
///     assert_eq!(auth.authenticate_optional(&with_a_password, &requirement).await.is_ok(), passes);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Optional {
    /// If the request shows no token. Credentials of another scheme count as none; a token that is not accepted is
    /// refused.
    IfAbsent,
    /// If the request shows no token or an expired one, for pages that greet signed-in users and also serve those whose
    /// login has expired.
    IfAbsentOrExpired,
    /// If the request shows no credential of any kind. Another scheme in `Authorization` is refused.
    IfNoCredential,
}

impl Requirement {
    /// A valid access token.
    pub const ACCESS: Self = Self::of(RequiredToken::Access, false);
    /// A valid access token that is fresh: issued by a login that is at most
    /// [`SessionPolicy::fresh_for`](countersign_core::model::SessionPolicy::fresh_for) old.
    pub const FRESH: Self = Self::of(RequiredToken::Access, true);
    /// A refresh token that a refresh would accept now. The requirement does not exchange it.
    pub const REFRESH: Self = Self::of(RequiredToken::Refresh, false);
    /// A valid token of either type, in the places of access tokens.
    pub const ANY: Self = Self::of(RequiredToken::Any, false);
    /// A valid token of either type, in the places of refresh tokens.
    pub const ANY_AS_REFRESH: Self = Self::of(RequiredToken::AnyAsRefresh, false);

    const fn of(token: RequiredToken, fresh: bool) -> Self {
        Self {
            token,
            fresh,
            optional: None,
            locations: None,
            skip_revocation: false,
            scopes: Vec::new(),
            roles: Vec::new(),
            claims: Vec::new(),
            realm: None,
        }
    }

    /// Demands a fresh token: one issued by a login that is at most
    /// [`SessionPolicy::fresh_for`](countersign_core::model::SessionPolicy::fresh_for) old. Others are answered with 401
    /// `fresh_token_required`.
    #[must_use]
    pub fn fresh(self) -> Self {
        Self { fresh: true, ..self }
    }

    /// Lets requests without a token through, as nobody.
    #[must_use]
    pub fn optional(self, when: Optional) -> Self {
        Self { optional: Some(when), ..self }
    }

    /// Looks for the token in these places only, in this order. Default: the places configured for the program.
    ///
    /// [`Location::Query`] never finds a refresh token. [`Location::Body`] works only if the requirement stands in a
    /// guard before the route, or the body is configured for the whole program. A token in the query string is taken
    /// out of the URI that handlers and logs see only where the query is configured for the whole program.
    #[must_use]
    pub fn locations(self, order: impl Into<Cow<'static, [Location]>>) -> Self {
        Self { locations: Some(order.into()), ..self }
    }

    /// Skips the check for revocation. For routes that a user must reach after logging out.
    #[must_use]
    pub fn skip_revocation(self) -> Self {
        Self { skip_revocation: true, ..self }
    }

    /// Demands that the token's `scope`, a text of names with spaces between (RFC 8693 §4.2), names this one. Otherwise
    /// the answer is 403 `insufficient_scope`. Of several calls, every scope is required.
    #[must_use]
    pub fn scope(mut self, scope: impl Into<String>) -> Self {
        self.scopes.push(scope.into());
        self
    }

    /// Demands that the token's `roles`, a list of texts, holds this one. Otherwise the answer is 403
    /// `insufficient_scope`. Of several calls, every role is required.
    #[must_use]
    pub fn role(mut self, role: impl Into<String>) -> Self {
        self.roles.push(role.into());
        self
    }

    /// Demands that the token has this claim with this value. Otherwise the answer is 403 `insufficient_scope`.
    #[must_use]
    pub fn claim(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.claims.push((name.into(), value.into()));
        self
    }

    /// Names the protected space in the `WWW-Authenticate` of refusals (RFC 9110 §11.5).
    #[must_use]
    pub fn realm(mut self, realm: impl Into<String>) -> Self {
        self.realm = Some(realm.into());
        self
    }

    /// Whether a token that satisfies this requirement satisfies `other` as well. The places to look in count as the
    /// route's decision: if `other` names no places of its own, it accepts a token from wherever this requirement
    /// looks.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let holds = |name: &String, value: &Value| self.claims.iter().any(|(n, v)| n == name && v == value);
        (self.token == other.token
            || other.token == RequiredToken::Any && self.token == RequiredToken::Access
            || other.token == RequiredToken::AnyAsRefresh && self.token == RequiredToken::Refresh)
            && (self.fresh || !other.fresh)
            && (!self.skip_revocation || other.skip_revocation)
            && (other.locations.is_none() || self.locations == other.locations)
            && other.scopes.iter().all(|scope| self.scopes.contains(scope))
            && other.roles.iter().all(|role| self.roles.contains(role))
            && other.claims.iter().all(|(name, value)| holds(name, value))
    }

    /// Checks that claims have the scopes, roles and claims that the requirement names.
    pub(crate) fn check_permitted(&self, claims: &Claims) -> Result<(), AuthError> {
        let lacks = self.lacks(claims.others(), || Cow::Owned(claims.to_map()));
        let scope = (!self.scopes.is_empty()).then(|| self.scopes.join(" "));
        // The text is shortened and escaped: clients that ask for scopes in a URL choose part of it.
        let lacks = lacks.map(|lacks| shown_in_log(&lacks));
        lacks.map_or(Ok(()), |lacks| Err(AuthError::InsufficientScope { lacks, scope }))
    }

    /// The first scope, role or claim that the claims lack. `others` are the application's own claims.
    fn lacks<'c>(
        &self,
        others: &Map<String, Value>,
        all: impl FnOnce() -> Cow<'c, Map<String, Value>>,
    ) -> Option<String> {
        let has_scope = |scope: &&String| match others.get("scope") {
            Some(Value::String(scopes)) => scopes.split(' ').any(|held| held == *scope),
            scopes => holds_text(scopes, scope),
        };
        if let Some(scope) = self.scopes.iter().find(|scope| !has_scope(scope)) {
            return Some(format!("the scope {scope}"));
        }
        if let Some(role) = self.roles.iter().find(|role| !holds_text(others.get("roles"), role)) {
            return Some(format!("the role {role}"));
        }
        if self.claims.is_empty() {
            return None;
        }
        let all = all();
        let (name, _) = self.claims.iter().find(|(name, value)| all.get(name) != Some(value))?;
        Some(format!("the claim {name} with the value that is required"))
    }

    /// The type of token that is required.
    #[must_use]
    pub fn token(&self) -> RequiredToken {
        self.token
    }

    /// Whether the token must be fresh.
    #[must_use]
    pub fn wants_fresh(&self) -> bool {
        self.fresh
    }

    /// The case in which requests may pass without a token; `None` if they never may.
    #[must_use]
    pub fn when_optional(&self) -> Option<Optional> {
        self.optional
    }

    /// The places that the requirement itself names to look in; `None` if it leaves them to the configuration.
    #[must_use]
    pub fn places(&self) -> Option<&[Location]> {
        self.locations.as_deref()
    }

    /// Whether the check for revocation is skipped.
    #[must_use]
    pub fn skips_revocation(&self) -> bool {
        self.skip_revocation
    }

    /// The protected space that challenges name, if the requirement names one.
    #[must_use]
    pub fn shown_realm(&self) -> Option<&str> {
        self.realm.as_deref()
    }

    /// The first scope, role or claim of the requirement that a token's claims lack; `None` if they permit the request.
    #[must_use]
    pub fn lacking(&self, claims: &Map<String, Value>) -> Option<String> {
        self.lacks(claims, || Cow::Borrowed(claims))
    }

    /// Whether the requirement names the body among its own places.
    #[must_use]
    pub fn looks_in_body(&self) -> bool {
        self.locations.as_ref().is_some_and(|order| order.contains(&Location::Body))
    }

    /// Whether requests may pass without a token.
    #[must_use]
    pub fn is_optional(&self) -> bool {
        self.optional.is_some()
    }
}

/// Whether a claim is a list with this text.
fn holds_text(claim: Option<&Value>, text: &str) -> bool {
    matches!(claim, Some(Value::Array(list)) if list.iter().any(|held| held.as_str() == Some(text)))
}

impl RequiredToken {
    /// Whether a token of this type satisfies the requirement.
    #[must_use]
    pub fn accepts(self, token_type: TokenType) -> bool {
        match self {
            Self::Access => token_type == TokenType::Access,
            Self::Refresh => token_type == TokenType::Refresh,
            Self::Any | Self::AnyAsRefresh => true,
        }
    }

    /// Whether the token is looked for under the names that refresh tokens have: their cookie, their member of a body.
    #[must_use]
    pub fn is_in_refresh_places(self) -> bool {
        matches!(self, Self::Refresh | Self::AnyAsRefresh)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_proven_covers_what_is_weaker_and_nothing_else() {
        let access = || Requirement::ACCESS;
        let cookie = || access().locations(&[Location::Cookie][..]);
        for (case, proven, asked, expected) in [
            ("the same", access(), access(), true),
            ("fresh is enough", access().fresh(), access(), true),
            ("not fresh is not", access(), access().fresh(), false),
            ("another kind", Requirement::REFRESH, access(), false),
            ("any kind is not an access token", Requirement::ANY, access(), false),
            ("an access token is any kind", access(), Requirement::ANY, true),
            ("a refresh token, from its own places, is not", Requirement::REFRESH, Requirement::ANY, false),
            ("more scopes", access().scope("a").scope("b"), access().scope("b"), true),
            ("fewer scopes", access().scope("a"), access().scope("a").scope("b"), false),
            ("no role", access(), access().role("a"), false),
            ("the claim", access().claim("a", 1), access().claim("a", 1), true),
            ("another value", access().claim("a", 1), access().claim("a", 2), false),
            ("revocation was skipped", access().skip_revocation(), access(), false),
            ("revocation was asked", access(), access().skip_revocation(), true),
            ("the route's own places", cookie(), access(), true),
            ("other places", access(), cookie(), false),
            ("optional is no matter of strength", access().optional(Optional::IfAbsent), access(), true),
        ] {
            assert_eq!(proven.covers(&asked), expected, "{case}");
        }
    }
}
