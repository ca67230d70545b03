//! The profiles with which the server takes the place of a Flask application.

use countersign_flask::{FlaskRules, OptionError, Options};

use crate::settings::sources::Sources;
use crate::settings::value::SettingError;

/// The rules with this name and the application's options. `None` if no rules have this name.
pub(super) fn read(name: &str, sources: &Sources) -> Result<Option<FlaskRules>, SettingError> {
    let options = || Options::from_environment(sources.flask_options());
    FlaskRules::by_name(name, options).map_err(|error: OptionError| {
        let problem = error.to_string();
        let problem = problem.strip_prefix(error.option()).unwrap_or(&problem).trim_start().to_owned();
        SettingError::new(error.option(), "option of the profile", problem)
    })
}

/// The server's settings that are decided by the options: each with what decides it.
pub(super) fn overruled(rules: &FlaskRules) -> &'static [(&'static str, &'static str)] {
    const NO_ROTATION: &str = "refresh tokens are not rotated there";
    const KEY: &str = "JWT_ALGORITHM decides what tokens are signed with";
    const SCHEDULE: &str =
        "tokens are signed with the application's key, which nobody replaces but the application";
    match rules {
        FlaskRules::FlaskJwtExtended(_) => &[
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
        FlaskRules::FlaskJwt(_) => &[
            ("access_lifetime", "JWT_EXPIRATION_DELTA decides"),
            ("session_idle", "a session lives as long as its refresh token, COUNTERSIGN_SESSION_LIFETIME"),
            ("refresh_grace", NO_ROTATION),
            ("refresh_grace_for", NO_ROTATION),
            ("refresh_heal", NO_ROTATION),
            ("leeway", "JWT_LEEWAY decides"),
            ("key_rotation", SCHEDULE),
            ("key_algorithm", KEY),
            ("issuer", "its tokens name none"),
        ],
    }
}

/// The name by which a profile sets a setting that all servers share, if the profile has another name for it.
pub(super) fn named(rules: &FlaskRules, agreed: &str) -> Option<&'static str> {
    match (rules, agreed) {
        (FlaskRules::FlaskJwt(_), "idle") => Some("COUNTERSIGN_SESSION_LIFETIME"),
        _ => rules.option_for(agreed),
    }
}
