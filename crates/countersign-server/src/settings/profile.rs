//! The profile: the rules that tokens follow.

use countersign_core::flow::UserIds;
use countersign_http::{AuthBuilder, RegistrationMode};

use super::sources::Sources;
use super::value::SettingError;

#[cfg(feature = "flask")]
mod flask;

/// The setting `profile`, with the options that belong to the profile.
#[derive(Clone, Debug)]
pub(crate) enum ProfileSetting {
    /// This server's own rules.
    Native,
    /// The rules of a Flask library.
    #[cfg(feature = "flask")]
    Flask(Box<flask::FlaskProfile>),
}

impl ProfileSetting {
    pub(super) fn read(sources: &Sources) -> Result<Self, SettingError> {
        let setting = sources.get("profile").filter(|setting| setting.text() != "native");
        let Some(setting) = setting else {
            return match sources.get("blocklist_url") {
                Some(setting) => Err(setting.wrong(
                    "is for the tokens of a Flask application: set COUNTERSIGN_PROFILE to flask-jwt-extended, or take it \
                     out",
                )),
                None => Ok(Self::Native),
            };
        };
        #[cfg(feature = "flask")]
        if let Some(profile) = flask::read(setting.text(), sources)? {
            return Ok(Self::Flask(Box::new(profile)));
        }
        Err(setting.wrong(KNOWN))
    }

    /// Whether the rules are this server's own.
    pub(crate) fn is_native(&self) -> bool {
        matches!(self, Self::Native)
    }

    /// What would not work between this server and an application with these rules, each in a sentence. `ids` are those
    /// that the settings choose, if they do.
    pub(super) fn cautions(&self, registration: RegistrationMode, ids: Option<UserIds>) -> Vec<String> {
        #[cfg(not(feature = "flask"))]
        let _ = (registration, ids);
        match self {
            Self::Native => Vec::new(),
            #[cfg(feature = "flask")]
            Self::Flask(profile) => profile.cautions(registration, ids),
        }
    }

    /// The settings that were set, but are decided by this profile's options: each as it was written, with what decides
    /// it.
    pub(super) fn overruled(&self, sources: &Sources) -> Vec<(String, &'static str)> {
        let settings: &[(&'static str, &'static str)] = match self {
            Self::Native => &[],
            #[cfg(feature = "flask")]
            Self::Flask(profile) => flask::overruled(&profile.rules),
        };
        let set = settings.iter().filter_map(|(name, instead)| Some((sources.get(name)?.name, *instead)));
        set.collect()
    }

    /// The name by which a profile sets a setting that all servers share, if that is not a setting of this server.
    pub(super) fn named(&self, agreed: &str) -> Option<&'static str> {
        match (self, agreed) {
            (Self::Native, _) => None,
            #[cfg(feature = "flask")]
            (Self::Flask(profile), agreed) => flask::named(&profile.rules, agreed),
        }
    }

    /// The names of all options that belong to any profile.
    pub(super) fn option_names() -> impl Iterator<Item = &'static str> {
        #[cfg(feature = "flask")]
        return countersign_flask::FlaskRules::option_names();
        #[cfg(not(feature = "flask"))]
        std::iter::empty()
    }

    /// Logs the names of `JWT_…` variables that are no options. It is called later than settings are read, because the
    /// log does not exist yet then.
    pub(crate) fn warn_of_unknown_options(sources: &Sources) -> Result<(), SettingError> {
        Self::read(sources).map(drop)
    }

    /// Makes the authentication follow these rules.
    pub(crate) fn apply(&self, builder: AuthBuilder) -> AuthBuilder {
        match self {
            Self::Native => builder,
            #[cfg(feature = "flask")]
            Self::Flask(profile) => builder.rules((**profile).clone()),
        }
    }
}

#[cfg(feature = "flask")]
const KNOWN: &str = "must be native, flask-jwt-extended or flask-jwt";
#[cfg(not(feature = "flask"))]
const KNOWN: &str = "must be native; this server was built without the feature flask, which has the others";

#[cfg(all(test, feature = "flask"))]
mod tests {
    use std::collections::BTreeSet;

    use super::super::Flags;
    use super::super::declared::ALL;
    use super::*;

    /// The settings that work in both profiles as they do without a profile.
    const WITH_EFFECT: [&str; 51] = [
        "config",
        "listen",
        "plain_http",
        "tls_cert",
        "tls_key",
        "trusted_proxies",
        "forwarded_header",
        "proxy_protocol",
        "max_connections",
        "max_connections_per_address",
        "database_url",
        "database_url_file",
        "sessions_url",
        "sessions_url_file",
        "accept_weak_store",
        "public_url",
        "settings_change",
        "profile",
        "allowed_origins",
        "secret",
        "secret_file",
        "max_sessions",
        "sessions_at_limit",
        "revocation_bound",
        "password_min",
        "password_words",
        "breached_passwords",
        "password_hash",
        "password_pepper",
        "password_pepper_file",
        "login_floor",
        "registration",
        "email_domains",
        "login_names",
        "user_ids",
        "smtp_url",
        "smtp_url_file",
        "smtp_ca",
        "mail_from",
        "mail_templates",
        "site_name",
        "pages",
        "api_page",
        "admin_listen",
        "audit_retention",
        "hash_permits",
        "metrics_listen",
        "otlp_url",
        "shutdown_grace",
        "log",
        "log_format",
    ];

    #[test]
    fn a_setting_without_effect_in_a_profile_is_named() {
        for (profile, also_with_effect) in [
            ("flask-jwt-extended", &["blocklist_url", "blocklist_url_file", "blocklist_table"][..]),
            ("flask-jwt", &["session_lifetime"]),
        ] {
            let all = ALL.iter().map(|declared| (declared.variable(), "x".to_owned()));
            let mut environment: std::collections::BTreeMap<_, _> = all.collect();
            environment.insert("COUNTERSIGN_PROFILE".to_owned(), profile.to_owned());
            environment.insert("JWT_SECRET_KEY".to_owned(), "0123456789abcdef".repeat(4));
            let sources = Sources::collect(Flags::default(), environment, None, None);
            let overruled = ProfileSetting::read(&sources).unwrap().overruled(&sources);
            let overruled: BTreeSet<_> = overruled.into_iter().map(|(name, _)| name).collect();
            let with_effect: BTreeSet<_> = WITH_EFFECT.iter().chain(also_with_effect).copied().collect();
            let expected = ALL.iter().filter(|declared| !with_effect.contains(declared.name));
            let expected = expected.map(|declared| declared.variable()).collect();
            assert_eq!(overruled, expected, "{profile}");
        }
    }
}
