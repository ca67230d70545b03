//! Reading the keys of an application's options: what both libraries' builders do last.

use std::fmt;

use countersign_http::reading::write_with_causes;
use countersign_jwt::key::{ImportRules, KeyError};
use countersign_jwt::{Algorithm, SigningKey};

use crate::options::OptionError;
use crate::tokens::KeySource;

/// Why rules could not be built.
///
/// Its `Debug` form is its text and its causes, because that is what a `main` prints that returns it.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum FlaskBuildError {
    /// An option cannot be used.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// A key is missing.
    #[error(
        "{option} must be set for {algorithm} (for a secret SECRET_KEY will do), or in a program of your own a hook must give the key"
    )]
    NoKey {
        /// Which option.
        option: &'static str,
        /// For which algorithm.
        algorithm: Algorithm,
    },
    /// A secret is shorter than the hash.
    #[error(
        "{option} is {actual} bytes long, but {algorithm} needs {minimum}: whoever guesses it signs in as anybody. \
         Make a new one (`openssl rand -base64 48`), let the Flask application sign with it first, and then start \
         this; or accept the old one for verifying alone, by `.dangerous_verify_with_short_secret()` on the builder"
    )]
    ShortSecret {
        /// Which option.
        option: &'static str,
        /// For which algorithm.
        algorithm: Algorithm,
        /// How many bytes it has.
        actual: usize,
        /// How many it needs.
        minimum: usize,
    },
    /// With these options sessions of Countersign would get tokens that nobody takes, or none.
    #[error("sessions cannot get tokens by these options: {reason}")]
    NoTokens {
        /// Why.
        reason: String,
    },
    /// A key cannot be used.
    #[error("{option} cannot be used for {algorithm}: {source}")]
    Key {
        /// Which option.
        option: &'static str,
        /// For which algorithm.
        algorithm: Algorithm,
        /// Why.
        source: KeyError,
    },
}

impl fmt::Debug for FlaskBuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_with_causes(self, f)
    }
}

/// The key that signs; `None` for a secret that is only good enough to verify with under the rules.
pub(crate) fn signs(
    source: &KeySource,
    option: &'static str,
    algorithm: Algorithm,
    import: ImportRules,
) -> Result<Option<SigningKey>, FlaskBuildError> {
    match (source.signing(algorithm), source.verifying(algorithm, import)) {
        (Err(KeyError::SecretTooShort { .. }), Ok(verifying)) => {
            let warning = verifying.warning().unwrap_or_default();
            tracing::warn!(%algorithm, "{option} only verifies, and that is dangerous: {warning}");
            Ok(None)
        }
        (signing, _) => signing.map(Some).map_err(|error| unusable(option, algorithm, error)),
    }
}

pub(crate) fn unusable(option: &'static str, algorithm: Algorithm, error: KeyError) -> FlaskBuildError {
    match error {
        KeyError::SecretTooShort { actual, minimum } => {
            FlaskBuildError::ShortSecret { option, algorithm, actual, minimum }
        }
        source => FlaskBuildError::Key { option, algorithm, source },
    }
}
