//! The services that every protocol's rules work with: [`Engine`].

use std::sync::Arc;

use countersign_core::flow::{Accounts, Arrival, Clients, LoginError, Sessions, SignedIn};
use countersign_core::model::{Difference, Password};
use countersign_jwt::{Claims, Timestamp};
use http::request::Parts;
use url::Url;

use crate::account_rules::AccountRules;
use crate::answer::{Answer, ErrorCode};
use crate::csrf::CsrfRules;
use crate::error::AuthError;
use crate::handshake::is_handshake;
use crate::hooks::Hooks;
use crate::login_sessions::{DeviceBinding, LoginSessions, Pages};
use crate::origin::{CrossSite, CrossSiteCheck};
use crate::renewal::Renewals;
use crate::requirement::Requirement;
use crate::rules::CookieRules;
use crate::users::{SignedInUser, Users};

/// The services that all [`Rules`](crate::Rules) work with: accounts and their sessions, the application's users and
/// checks, and the origins that browsers' requests may come from. Made by
/// [`AuthBuilder::build`](crate::AuthBuilder::build), cheap to clone.
#[derive(Clone, Debug)]
pub struct Engine {
    pub(crate) accounts: Accounts,
    pub(crate) clients: Clients,
    pub(crate) account_rules: AccountRules,
    pub(crate) sends_mail: bool,
    pub(crate) users: Users,
    pub(crate) hooks: Hooks,
    pub(crate) origins: CrossSiteCheck,
    pub(crate) csrf: CsrfRules,
    pub(crate) pages: Option<Arc<Pages>>,
    pub(crate) renewals: Arc<Renewals>,
    /// The URL by which other programs reach this one, if the program has said it.
    pub(crate) public_url: Option<Url>,
    /// Whether the settings say that users reach the program by https.
    pub(crate) is_behind_https: bool,
    pub(crate) overruled: Vec<Difference>,
}

impl Engine {
    /// The settings that the store's programs have agreed on where this program's differ, if it
    /// [follows the store](crate::AuthBuilder::follow_settings). Those of the store hold.
    #[must_use]
    pub fn overruled_settings(&self) -> &[Difference] {
        &self.overruled
    }

    /// The accounts.
    #[must_use]
    pub fn accounts(&self) -> &Accounts {
        &self.accounts
    }

    /// The rules of the routes of accounts.
    #[must_use]
    pub fn account_rules(&self) -> &AccountRules {
        &self.account_rules
    }

    /// Whether users are written to by mail.
    #[must_use]
    pub fn sends_mail(&self) -> bool {
        self.sends_mail
    }

    /// The sessions.
    #[must_use]
    pub fn sessions(&self) -> &Sessions {
        self.accounts.sessions()
    }

    /// The users: Countersign's accounts, the program's own users, or both.
    #[must_use]
    pub fn users(&self) -> &Users {
        &self.users
    }

    /// Logs in with a name and a password: one of the program's [own users](crate::AuthBuilder::own_users), or an account
    /// of Countersign's if the program has set none. The name may be an e-mail address or a username.
    ///
    /// Attempts are counted by name, user, address and device before the password is checked. The sessions that
    /// `arrival` names are ended before the new one begins. [`Accounts::login`] tells the rules.
    ///
    /// # Errors
    /// [`LoginError`]. A user who is unknown or disabled and a wrong password give the same error.
    pub async fn login(
        &self,
        name: &str,
        password: Password,
        arrival: Arrival,
    ) -> Result<SignedIn<SignedInUser>, LoginError> {
        self.users.login(&self.accounts, name, password, arrival).await
    }

    /// The origins that requests with cookies may come from.
    #[must_use]
    pub fn origins(&self) -> &CrossSiteCheck {
        &self.origins
    }

    /// The login sessions of browsers; `None` if the program has none.
    #[must_use]
    pub fn login_sessions(&self) -> Option<&LoginSessions> {
        self.pages.as_ref().map(|pages| &pages.sessions)
    }

    /// What becomes of a login session that comes from another client.
    pub(crate) fn binding(&self) -> DeviceBinding {
        self.login_sessions().map(LoginSessions::binding).unwrap_or_default()
    }

    /// The time, by the store's clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.sessions().clock().now()
    }

    /// The form field that the CSRF value is looked for in; `None` if forms are not looked at.
    #[must_use]
    pub fn csrf_field(&self) -> Option<&str> {
        self.csrf.field.as_deref()
    }

    /// Whether the application has checks of its own, for which [`Engine::ask_application`] waits.
    #[must_use]
    pub fn has_checks(&self) -> bool {
        self.hooks.is_revoked.is_some() || self.hooks.accepts.is_some()
    }

    /// Asks the application's own checks of verified claims: whether the token is
    /// [revoked](crate::AuthBuilder::is_revoked), and whether its claims are
    /// [accepted](crate::AuthBuilder::verify_claims).
    ///
    /// # Errors
    /// [`AuthError::RevokedByApplication`], [`AuthError::RefusedByApplication`], [`AuthError::AskApplication`].
    pub async fn ask_application(&self, claims: &Claims, skip_revocation: bool) -> Result<(), AuthError> {
        let Hooks { is_revoked, accepts, .. } = &self.hooks;
        if let Some(is_revoked) = is_revoked
            && !skip_revocation
            && is_revoked(claims.clone()).await.map_err(AuthError::AskApplication)?
        {
            return Err(AuthError::RevokedByApplication);
        }
        match accepts {
            Some(accepts) if !accepts(claims.clone()).await.map_err(AuthError::AskApplication)? => {
                Err(AuthError::RefusedByApplication)
            }
            _ => Ok(()),
        }
    }

    /// Decides whether the request comes from another site, whether or not it carries cookies.
    #[must_use]
    pub fn cross_site(&self, parts: &Parts) -> CrossSite {
        if self.csrf.concerns(&parts.method) || is_handshake(&parts.method, &parts.headers) {
            self.origins.check_headers_of(parts.extensions.get(), &parts.uri, &parts.headers)
        } else {
            CrossSite::Passes
        }
    }

    /// Refuses an unsafe request, or a WebSocket handshake, that carries one of these cookies and was sent on another
    /// site's behalf (SEC-068, SEC-220).
    ///
    /// # Errors
    /// [`AuthError::CrossSite`].
    pub fn check_cross_site(&self, parts: &Parts, cookies: &dyn CookieRules) -> Result<(), AuthError> {
        if !cookies.are_carried(&parts.headers) {
            return Ok(());
        }
        match self.cross_site(parts) {
            CrossSite::Foreign => Err(AuthError::CrossSite),
            CrossSite::Passes | CrossSite::Unknown => Ok(()),
        }
    }

    /// Refuses to give out cookies that would travel unprotected (SEC-221).
    ///
    /// Without an https public URL, cookies without `Secure` are set only where the request was sent to a loopback
    /// address, as far as it tells: its `Host`, what a proxy says about that, and its `Origin`. A program behind an https
    /// proxy therefore needs its public URL, and a foreign name that points to this machine (DNS rebinding) gets no
    /// cookies.
    ///
    /// # Errors
    /// [`AuthError::InsecureCookies`].
    pub fn check_cookie_host(&self, parts: &Parts, cookies: &dyn CookieRules) -> Result<(), AuthError> {
        let is_secure = self.is_behind_https || cookies.are_secure();
        if is_secure || !self.origins.is_sent_elsewhere(&parts.uri, &parts.headers) {
            return Ok(());
        }
        Err(AuthError::InsecureCookies)
    }

    /// The answer to a refused request: the answer that the application [chooses](crate::AuthBuilder::answer),
    /// otherwise the given one. `requirement` completes its challenge. The log gets the cause.
    pub async fn answer(
        &self,
        parts: &Parts,
        requirement: Option<&Requirement>,
        error: &AuthError,
        mut answer: Answer,
    ) -> Answer {
        log(error);
        let realm = requirement.and_then(|requirement| requirement.realm.as_deref());
        let scope = match error {
            AuthError::InsufficientScope { scope, .. } => scope.as_deref(),
            _ => None,
        };
        answer.complete_challenge(realm, scope);
        self.hooks.answer(error.code(), parts, answer).await
    }
}

fn log(error: &AuthError) {
    let code = error.code();
    let cause = error as &dyn std::error::Error;
    if code.status().is_server_error() {
        tracing::error!(code = code.as_str(), error = cause, "a request could not be authenticated");
    } else if code == ErrorCode::InsecureCookies {
        // This is a warning, because nobody can sign in until the operator corrects it.
        tracing::warn!(code = code.as_str(), error = cause, "a request was not let through");
    } else {
        tracing::info!(code = code.as_str(), error = cause, "a request was not let through");
    }
}
