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

    /// The rules to build; `None` for the server's own.
    pub(crate) fn served(&self) -> Option<ServedProfile> {
        match self {
            Self::Native => None,
            Self::FlaskJwtExtended(config) => Some(FlaskJwtExtended::builder((**config).clone()).into()),
            Self::FlaskJwt(config) => Some(FlaskJwt::builder((**config).clone()).into()),
        }
    }
}
