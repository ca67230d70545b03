//! Building an [`Auth`]: checks every setting, then reads the keys and the revocation log.

use std::num::NonZeroUsize;
use std::sync::Arc;

use countersign_core::flow::Background;
use countersign_core::flow::Keychain;
use countersign_core::flow::StoreClock;
use countersign_core::flow::{Accounts, AccountsConfig, Clients, ExtraClaims, HashPool};
use countersign_core::flow::{Agreement, agree};
use countersign_core::flow::{Sessions, SessionsConfig};
use countersign_core::model::Difference;
use countersign_core::model::KeyPurpose;
use countersign_core::model::{Own, Stance};
use countersign_jwt::Clock as _;
use url::Url;

use super::{AuthBuilder, BuildError};
use crate::auth::{Auth, Shared};
use crate::cookie_config::CookieConfig;
use crate::engine::Engine;
use crate::login_sessions::Pages;
use crate::origin::{CrossSiteCheck, Origin};
use crate::renewal::Renewals;
use crate::rules::{CheckedRules, NativeOptions};
use crate::users::Users;

impl AuthBuilder {
    /// Checks every setting, reads the keys (or makes the first ones) and the revocation log, and starts the background
    /// tasks.
    ///
    /// # Errors
    /// [`BuildError`] names what is wrong and how to correct it.
    pub async fn build(mut self) -> Result<Auth, BuildError> {
        let runtime = tokio::runtime::Handle::try_current().map_err(|_| BuildError::NoRuntime)?;
        let given = match self.rules.take() {
            Some(rules) => {
                let checked = rules.check(self.clock.clone(), self.random.clone());
                Some(checked.await.map_err(BuildError::Rules)?)
            }
            None => None,
        };
        let policy = match &given {
            Some(rules) => rules.policy(self.policy.clone()),
            None => self.policy.clone(),
        };
        policy.check()?;
        let reached_at = self.public_url.as_ref().or(self.served_at.as_ref());
        let is_behind_https = reached_at.is_some_and(|url| url.scheme() == "https");
        let rules: Box<dyn CheckedRules> = match given {
            Some(rules) => {
                if self.native != NativeOptions::default() {
                    return Err(BuildError::Settings(
                        "`.cookies(…)`, `.locations(…)`, `.refresh_locations(…)`, `.query_parameter(…)` and \
                         `.refuse_several_tokens()` belong to Countersign's own rules; the rules given to `.rules(…)` \
                         have options of their own for cookies and locations, so leave these out",
                    ));
                }
                if self.login_sessions.is_some() {
                    return Err(BuildError::Settings(
                        "`.login_sessions(…)` belong to Countersign's own rules; the rules given to `.rules(…)` decide \
                         about sessions of browsers themselves, so leave them out",
                    ));
                }
                // Other rules have cookies of their own; a URL at which no cookies are safe is refused all the same.
                CookieConfig::for_public_url(reached_at)?;
                rules
            }
            None => Box::new(self.native.build(reached_at)?),
        };
        let format = rules.token_format();
        if self.csrf.field.as_deref() == Some("") {
            return Err(BuildError::Settings("the CSRF field needs a name; pass None to look at no form"));
        }
        if self.loaders.show_in_vain() && !rules.know_users() {
            return Err(BuildError::Settings(
                "`.show_user(…)` is given for a type that is none of the program's own users; add `.user_loader(…)` \
                 or `.own_users(…)` for it, or leave it out",
            ));
        }
        if self.loaders.log_in_twice() {
            return Err(BuildError::Settings(
                "`.own_users(…)` is given twice, but a login asks one source of users; combine both in one type, and \
                 load further types of user by `.user_loader(…)`",
            ));
        }
        let own_origin = reached_at.map(Origin::of).transpose()?;
        let mut cross_site = CrossSiteCheck::new(own_origin, self.allowed_origins);
        if self.public_url.is_none() {
            cross_site = cross_site.with_loopback_names();
        }
        let first = policy.key_algorithm.unwrap_or(KeyPurpose::Access.first_algorithm());
        // The first keys are dated by the store's time, like all later ones.
        let store_clock = StoreClock::new(self.clock.clone());
        store_clock.ask(&**self.stores.revocations()).await?;
        let mut keychain =
            Keychain::open_with(&**self.stores.keys(), &self.secrets, first, &store_clock, &*self.random)
                .await?;
        if self.issuer.as_deref().is_some_and(|issuer| !is_issuer(issuer)) {
            return Err(BuildError::Settings(
                "an issuer is a text of at most 255 visible ASCII characters, without blanks, and best a URL",
            ));
        }
        let default_issuer = format!("urn:uuid:{}", keychain.store_id.hyphenated());
        let issuer = self.issuer.or_else(|| self.public_url.as_ref().map(issuer));
        let mut settings = self.agreed;
        settings.insert("profile".to_owned(), rules.name().to_owned());
        let own = Own {
            issuer: format.is_none().then(|| issuer.unwrap_or_else(|| default_issuer.clone())),
            maybe_before: std::iter::once(default_issuer)
                .chain(self.public_url.as_ref().map(issuer_with_slash))
                .collect(),
            policy,
            settings,
        };
        let agreement = agree(&**self.stores.keys(), &own, self.stance, store_clock.now()).await?;
        tell(&agreement, self.stance);
        let overruled = if self.stance == Stance::Follow { agreement.changed.clone() } else { Vec::new() };
        let policy = agreement.policy;
        policy.check()?;
        for key in self.accepted_keys {
            if let Some(warning) = key.warning() {
                let (key, algorithm) = (key.key_id(), key.algorithm().name());
                tracing::warn!(%key, algorithm, "access tokens of a dangerous key are accepted: {warning}");
            }
            keychain.access.accept(key)?;
        }
        if let Some(sessions) = &self.login_sessions {
            sessions.check()?;
        }
        let return_key = self.secrets.derive("countersign return to a page v1");
        let login_sessions = rules.login_sessions().or(self.login_sessions);
        let pages = login_sessions.map(|sessions| Arc::new(Pages::new(sessions, &*return_key)));
        let code_key = self.secrets.derive("countersign one-time codes v1");
        // A program with users of its own has no accounts whose roles could be looked up.
        let extra_claims = if self.loaders.are_own() {
            self.extra_claims
        } else {
            Some(ExtraClaims::with_roles(self.extra_claims, self.stores.users().clone()))
        };
        let sends_mail = self.letters.is_some();
        let sessions = Sessions::new(SessionsConfig {
            sessions: self.stores.sessions().clone(),
            revocations: self.stores.revocations().clone(),
            keychain,
            keys: self.stores.keys().clone(),
            secrets: self.secrets,
            issuer: agreement.issuer,
            known_issuers: agreement.issuers,
            audience: self.audience,
            policy,
            extra_claims,
            clock: self.clock.clone(),
            node: countersign_jwt::random::uuid(&*self.random)?,
            random: self.random.clone(),
            events: self.events,
            format,
            runtime: runtime.clone(),
        })?;
        sessions.keys().poll().await?;
        let permits = self.hash_permits.unwrap_or_else(default_hash_permits);
        let hasher = HashPool::new(
            self.hash_runtime.unwrap_or_else(|| runtime.clone()),
            permits,
            self.hash_queue,
            self.recipe,
            self.random.clone(),
        )?
        .measured_by(sessions.clock());
        let background = self.background.then(|| Background::start(&runtime, &sessions, &self.stores));
        let tasks = runtime.clone();
        let accounts = Accounts::new(AccountsConfig {
            users: self.stores.users().clone(),
            throttles: self.stores.throttles().clone(),
            hasher,
            passwords: self.passwords,
            login_floor: self.login_floor,
            throttle: self.throttle,
            limits: countersign_core::model::LoginLimits::default(),
            devices: self.stores.devices().clone(),
            ids: self.user_ids,
            mails_within: self.mails_within,
            one_time: self.stores.one_time().clone(),
            letters: self.letters,
            code_key,
            clock: sessions.clock(),
            sessions,
            random: self.random,
            runtime,
        });
        let background = background.map(|background| background.with_accounts(&tasks, &accounts));
        let engine = Engine {
            clients: Clients::new(self.stores.admin_keys().clone(), accounts.sessions()),
            public_url: self.public_url,
            users: Users {
                store: self.stores.users().clone(),
                loaders: Arc::new(self.loaders.with_accounts(&accounts)),
            },
            hooks: self.hooks,
            origins: cross_site,
            csrf: self.csrf,
            is_behind_https,
            overruled,
            account_rules: self.account_rules,
            sends_mail,
            pages,
            renewals: Arc::new(Renewals::default()),
            accounts,
        };
        let rules = rules.over(&engine);
        Ok(Auth { shared: Arc::new(Shared { engine, rules, _background: background }) })
    }
}

/// A URL as an `iss`, without a slash at its end. The URL standard adds that slash to an empty path, and people add it
/// to other paths, but issuers are compared byte by byte (SEC-030).
fn issuer(url: &Url) -> String {
    let text = url.as_str();
    if url.query().is_none() && url.fragment().is_none() {
        text.trim_end_matches('/').to_owned()
    } else {
        text.to_owned()
    }
}

/// The `iss` that earlier versions, which did not remember issuers, made of the same URL.
fn issuer_with_slash(url: &Url) -> String {
    if url.path() == "/" { issuer(url) } else { url.as_str().to_owned() }
}

fn is_issuer(text: &str) -> bool {
    (1..=255).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Logs what an operator should know of an agreement on settings.
fn tell(agreement: &Agreement, stance: Stance) {
    for Difference { setting, own, stores } in &agreement.changed {
        if stance == Stance::Follow {
            tracing::warn!(
                setting,
                own,
                stores,
                "{setting} is {own} here; the store's programs have {stores}, which holds"
            );
        } else {
            tracing::warn!(
                setting,
                own,
                stores,
                "{setting} is {own} from now on, and was {stores}: restart the other programs of this store"
            );
        }
    }
    if let (Some(before), Some(issuer)) = (&agreement.issuer_before, &agreement.issuer) {
        tracing::warn!(
            issuer,
            before,
            "the issuer has changed; tokens of the one before are accepted until they expire"
        );
    } else if agreement.issuers.iter().next().is_some() {
        let known: Vec<_> = agreement.issuers.iter().map(|known| known.issuer.as_str()).collect();
        tracing::debug!(known = known.join(" "), "tokens of other issuers of this store are accepted");
    }
}

/// The default number of hash permits: one less than there are cores, at least one.
fn default_hash_permits() -> NonZeroUsize {
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    NonZeroUsize::new(cores.saturating_sub(1)).unwrap_or(NonZeroUsize::MIN)
}
