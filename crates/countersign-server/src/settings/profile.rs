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
        Err(setting.wrong(NAMES))
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
const NAMES: &str = "must be native, flask-jwt-extended or flask-jwt";
#[cfg(not(feature = "flask"))]
const NAMES: &str = "must be native; this server was built without the feature flask, which has the others";
