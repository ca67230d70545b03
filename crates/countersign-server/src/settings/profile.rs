//! Whose rules hold for tokens, and the options of a Flask application whose place the server takes.

use countersign_http::profile::flask_jwt::FlaskJwtConfig;
use countersign_http::profile::flask_jwt_extended::FlaskJwtExtendedConfig;
use countersign_http::profile::{FlaskJwt, FlaskJwtExtended, OptionError, Options, ServedProfile};

use super::sources::Sources;
use super::value::SettingError;

/// `profile`, with the options that belong to it.
#[derive(Clone, Debug)]
pub(crate) enum ProfileSetting {
    /// This server's own rules.
    Native,
    /// Flask-JWT-Extended's.
    FlaskJwtExtended(Box<FlaskJwtExtendedConfig>),
    /// Flask-JWT's.
    FlaskJwt(Box<FlaskJwtConfig>),
}

impl ProfileSetting {
    pub(super) fn read(sources: &Sources) -> Result<Self, SettingError> {
        let Some(setting) = sources.get("profile") else { return Ok(Self::Native) };
        let options = || Options::from_environment(sources.flask_options());
        let wrong = |error: OptionError| {
            let problem = error.to_string();
            let problem = problem.strip_prefix(error.option()).unwrap_or(&problem).trim_start().to_owned();
            SettingError::new(error.option(), "option of the profile", problem)
        };
        match setting.text() {
            "native" => Ok(Self::Native),
            "flask-jwt-extended" => {
                let config = FlaskJwtExtendedConfig::from_options(options()).map_err(wrong)?;
                Ok(Self::FlaskJwtExtended(Box::new(config)))
            }
            "flask-jwt" => {
                let config = FlaskJwtConfig::from_options(options()).map_err(wrong)?;
                Ok(Self::FlaskJwt(Box::new(config)))
            }
            _ => Err(setting.wrong("must be native, flask-jwt-extended or flask-jwt")),
        }
    }

    /// The settings that this profile's options decide instead, where they were set: as written, and what decides.
    pub(super) fn overruled(&self, sources: &Sources) -> Vec<(String, &'static str)> {
        const NO_ROTATION: &str = "refresh tokens are not rotated there";
        const KEY: &str = "JWT_ALGORITHM decides what tokens are signed with";
        const SCHEDULE: &str =
            "tokens are signed with the application's key, which nobody replaces but the application";
        let settings: &[(&'static str, &'static str)] = match self {
            Self::Native => &[],
            Self::FlaskJwtExtended(_) => &[
                ("access_lifetime", "JWT_ACCESS_TOKEN_EXPIRES decides"),
                ("session_idle", "a session lives as long as its refresh token, JWT_REFRESH_TOKEN_EXPIRES"),
                ("session_lifetime", "JWT_REFRESH_TOKEN_EXPIRES decides"),
                ("refresh_grace", NO_ROTATION),
                ("refresh_grace_for", NO_ROTATION),
                ("refresh_heal", NO_ROTATION),
                ("leeway", "JWT_DECODE_LEEWAY decides"),
                ("key_rotation", SCHEDULE),
                ("key_algorithm", KEY),
                ("issuer", "JWT_ENCODE_ISSUER decides"),
            ],
            Self::FlaskJwt(_) => &[
                ("access_lifetime", "JWT_EXPIRATION_DELTA decides"),
                (
                    "session_idle",
                    "a session lives as long as its refresh token, COUNTERSIGN_SESSION_LIFETIME",
                ),
                ("refresh_grace", NO_ROTATION),
                ("refresh_grace_for", NO_ROTATION),
                ("refresh_heal", NO_ROTATION),
                ("leeway", "JWT_LEEWAY decides"),
                ("key_rotation", SCHEDULE),
                ("key_algorithm", KEY),
                ("issuer", "its tokens name none"),
            ],
        };
        let set = settings.iter().filter_map(|(name, instead)| Some((sources.get(name)?.name, *instead)));
        set.collect()
    }

    /// Names the `JWT_…` variables that are no options in the log, which is not there yet when settings are read.
    pub(crate) fn warn_of_unknown_options(sources: &Sources) -> Result<(), SettingError> {
        Self::read(sources).map(drop)
    }

    /// The rules to build; `None` for the server's own.
    pub(crate) fn served(&self) -> Option<ServedProfile> {
        match self {
            Self::Native => None,
            Self::FlaskJwtExtended(config) => Some(FlaskJwtExtended::builder((**config).clone()).into()),
            Self::FlaskJwt(config) => Some(FlaskJwt::builder((**config).clone()).into()),
        }
    }
}

#[cfg(test)]
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
