//! The profiles with which the server takes the place of a Flask application.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use countersign_core::flow::UserIds;
use countersign_core::store::BoxError;
use countersign_flask::import::Blocklist;
use countersign_flask::tokens::FlaskClaims;
use countersign_flask::{FlaskRules, OptionError, Options};
use countersign_http::{CheckedRules, RegistrationMode, RulesBuilder};
use countersign_jwt::{Clock, Random};

use crate::settings::sources::Sources;
use crate::settings::value::SettingError;

/// The rules of a Flask library, with the application's options.
#[derive(Clone, Debug)]
pub(crate) struct FlaskProfile {
    pub(crate) rules: FlaskRules,
    /// `blocklist_url` and `blocklist_table`: the application's table of revoked tokens. Default: none is asked.
    blocklist: Option<BlocklistAddress>,
}

#[derive(Clone)]
struct BlocklistAddress {
    url: String,
    table: Option<String>,
}

impl fmt::Debug for BlocklistAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL may hold a password.
        f.debug_struct("BlocklistAddress").field("table", &self.table).finish_non_exhaustive()
    }
}

/// The profile with this name and the application's options. `None` if no profile has this name.
pub(super) fn read(name: &str, sources: &Sources) -> Result<Option<FlaskProfile>, SettingError> {
    let options = || Options::from_environment(sources.flask_options());
    let rules = FlaskRules::by_name(name, options).map_err(|error: OptionError| {
        let problem = error.to_string();
        let problem = problem.strip_prefix(error.option()).unwrap_or(&problem).trim_start().to_owned();
        SettingError::new(error.option(), "option of the profile", problem)
    })?;
    let Some(rules) = rules else { return Ok(None) };
    let table = sources.get("blocklist_table").map(|setting| setting.text().to_owned());
    let blocklist = match &rules {
        FlaskRules::FlaskJwtExtended(_) => sources
            .get("blocklist_url")
            .map(|setting| BlocklistAddress { url: setting.text().to_owned(), table }),
        FlaskRules::FlaskJwt(_) => None,
    };
    Ok(Some(FlaskProfile { rules, blocklist }))
}

#[async_trait]
impl RulesBuilder for FlaskProfile {
    async fn check(
        self: Box<Self>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Box<dyn CheckedRules>, BoxError> {
        let Some(BlocklistAddress { url, table }) = self.blocklist else {
            return Box::new(self.rules).check(clock, random).await;
        };
        let blocklist = Blocklist::open(&url, table.as_deref()).await.map_err(|error| {
            let error = error.to_string();
            match error.strip_prefix("--blocklist-table") {
                Some(problem) => format!("COUNTERSIGN_BLOCKLIST_TABLE{problem}"),
                None => format!("COUNTERSIGN_BLOCKLIST_URL (and COUNTERSIGN_BLOCKLIST_TABLE): {error}"),
            }
        })?;
        let rules = self.rules.is_revoked(move |token: FlaskClaims| {
            let blocklist = blocklist.clone();
            async move {
                match token.claims().get("jti").and_then(|jti| jti.as_str()) {
                    Some(jti) => blocklist.contains(jti).await,
                    None => Ok(false),
                }
            }
        });
        Box::new(rules).check(clock, random).await
    }
}

impl FlaskProfile {
    /// What would not work between this server and the application, each in a sentence. `ids` are those that the
    /// settings choose, if they do.
    pub(super) fn cautions(&self, registration: RegistrationMode, ids: Option<UserIds>) -> Vec<String> {
        let mut cautions = Vec::new();
        if ids.is_none() && registration != RegistrationMode::Closed {
            cautions.push(
                "accounts that are made here get UUIDs as their ids, and an application whose ids are whole numbers does not \
                 find them: set COUNTERSIGN_USER_IDS to integer, or to uuid if the application has these, or \
                 COUNTERSIGN_REGISTRATION=closed if it makes the accounts",
            );
        }
        match self.rules {
            FlaskRules::FlaskJwt(_) if ids == Some(UserIds::Integer) => cautions.push(
                "tokens of this server name a user by text (\"7\"), those of a Flask-JWT application with whole numbers by \
                 a number (7), and neither takes the other's: let its payload handler write str(identity.id), and its \
                 identity handler read int(payload['identity']) (docs/migrating-from-flask.md)",
            ),
            FlaskRules::FlaskJwtExtended(_) if self.blocklist.is_none() => cautions.push(
                "logouts of the Flask application are not known here, and those made here are not known there: where it \
                 still logs users out, set COUNTERSIGN_BLOCKLIST_URL; where it still refreshes tokens, send /refresh here \
                 (docs/migrating-from-flask.md, \"While both are in use\")",
            ),
            _ => {}
        }
        cautions.into_iter().map(str::to_owned).collect()
    }
}

/// The server's settings that are decided by the options: each with what decides it.
pub(super) fn overruled(rules: &FlaskRules) -> &'static [(&'static str, &'static str)] {
    const NO_ROTATION: &str = "refresh tokens are not rotated there";
    const KEY: &str = "JWT_ALGORITHM decides what tokens are signed with";
    const SCHEDULE: &str =
        "tokens are signed with the application's key, which nobody replaces but the application";
    const NO_PAGES: &str = "a profile has no pages";
    const NO_ID: &str = "its tokens have no jti";
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
            ("pages_logo", NO_PAGES),
            ("pages_color", NO_PAGES),
            ("pages_templates", NO_PAGES),
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
            ("blocklist_url", NO_ID),
            ("blocklist_url_file", NO_ID),
            ("blocklist_table", NO_ID),
            ("pages_logo", NO_PAGES),
            ("pages_color", NO_PAGES),
            ("pages_templates", NO_PAGES),
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
