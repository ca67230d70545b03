//! Whose rules hold for tokens.

use countersign_http::AuthBuilder;

use super::sources::Sources;
use super::value::SettingError;

#[cfg(feature = "flask")]
mod flask;

/// `profile`, with the options that belong to it.
#[derive(Clone, Debug)]
pub(crate) enum ProfileSetting {
    /// This server's own rules.
    Native,
    /// Those of a Flask library.
    #[cfg(feature = "flask")]
    Flask(countersign_flask::FlaskRules),
}

impl ProfileSetting {
    pub(super) fn read(sources: &Sources) -> Result<Self, SettingError> {
        let Some(setting) = sources.get("profile") else { return Ok(Self::Native) };
        if setting.text() == "native" {
            return Ok(Self::Native);
        }
        #[cfg(feature = "flask")]
        if let Some(rules) = flask::read(setting.text(), sources)? {
            return Ok(Self::Flask(rules));
        }
        Err(setting.wrong(KNOWN))
    }

    /// Whether they are this server's own.
    pub(crate) fn is_native(&self) -> bool {
        matches!(self, Self::Native)
    }

    /// The settings that this profile's options decide instead, where they were set: as written, and what decides.
    pub(super) fn overruled(&self, sources: &Sources) -> Vec<(String, &'static str)> {
        let settings: &[(&'static str, &'static str)] = match self {
            Self::Native => &[],
            #[cfg(feature = "flask")]
            Self::Flask(rules) => flask::overruled(rules),
        };
        let set = settings.iter().filter_map(|(name, instead)| Some((sources.get(name)?.name, *instead)));
        set.collect()
    }

    /// The name under which a setting that all servers share is set, where that is none of this server's.
    pub(super) fn named(&self, agreed: &str) -> Option<&'static str> {
        match (self, agreed) {
            (Self::Native, _) => None,
            #[cfg(feature = "flask")]
            (Self::Flask(rules), agreed) => flask::named(rules, agreed),
        }
    }

    /// The names of all options that belong to some profile.
    pub(super) fn option_names() -> impl Iterator<Item = &'static str> {
        #[cfg(feature = "flask")]
        return countersign_flask::FlaskRules::option_names();
        #[cfg(not(feature = "flask"))]
        std::iter::empty()
    }

    /// Names the `JWT_…` variables that are no options in the log, which is not there yet when settings are read.
    pub(crate) fn warn_of_unknown_options(sources: &Sources) -> Result<(), SettingError> {
        Self::read(sources).map(drop)
    }

    /// Lets them hold.
    pub(crate) fn apply(&self, builder: AuthBuilder) -> AuthBuilder {
        match self {
            Self::Native => builder,
            #[cfg(feature = "flask")]
            Self::Flask(rules) => builder.rules(rules.clone()),
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

    use super::super::{Flags, NAMES};
    use super::*;

    /// The settings that work in both profiles as they do without one.
    const WITH_EFFECT: [&str; 20] = [
        "config",
        "listen",
        "plain_http",
        "database_url",
        "sessions_url",
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
        "hash_permits",
        "metrics_listen",
        "shutdown_grace",
        "log",
        "log_format",
    ];

    #[test]
    fn a_setting_without_effect_in_a_profile_is_named() {
        for (profile, also_with_effect) in
            [("flask-jwt-extended", None), ("flask-jwt", Some("session_lifetime"))]
        {
            let all = NAMES.map(|name| (format!("COUNTERSIGN_{}", name.to_uppercase()), "x".to_owned()));
            let mut environment = std::collections::BTreeMap::from(all);
            environment.insert("COUNTERSIGN_PROFILE".to_owned(), profile.to_owned());
            environment.insert("JWT_SECRET_KEY".to_owned(), "0123456789abcdef".repeat(4));
            let sources = Sources::collect(Flags::default(), environment, None, None).unwrap();
            let overruled = ProfileSetting::read(&sources).unwrap().overruled(&sources);
            let overruled: BTreeSet<_> = overruled.into_iter().map(|(name, _)| name).collect();
            let with_effect: BTreeSet<_> = WITH_EFFECT.into_iter().chain(also_with_effect).collect();
            let expected = NAMES.into_iter().filter(|name| !with_effect.contains(name));
            let expected = expected.map(|name| format!("COUNTERSIGN_{}", name.to_uppercase())).collect();
            assert_eq!(overruled, expected, "{profile}");
        }
    }
}
