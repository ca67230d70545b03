//! Reading the keys of an application's options, the last step of both libraries' builders.

use std::fmt;

use countersign_http::reading::write_with_causes;
use countersign_jwt::key::{ImportRules, KeyError};
use countersign_jwt::{Algorithm, SigningKey};

use crate::options::OptionError;
use crate::tokens::KeySource;

/// Why rules could not be built.
///
/// The `Debug` form is the error's text and its causes, because that is what a `main` that returns it prints.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum FlaskBuildError {
    /// An option cannot be used.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// A key is missing.
    #[error(
        "{option} is not set, and {algorithm} needs it; set {option} (or SECRET_KEY, where it is a secret) to what the Flask \
         application has, or in a program of your own let a hook give the key"
    )]
    NoKey {
        /// The option that must be set.
        option: &'static str,
        /// The algorithm that needs the key.
        algorithm: Algorithm,
    },
    /// A secret is shorter than the algorithm's hash.
    #[error(
        "{option} is {actual} bytes long, but {algorithm} needs {minimum}: whoever guesses it signs in as anybody. \
         Make a new one (`openssl rand -base64 48`), let the Flask application sign with it first, and then start \
         this; or accept the old one for verifying alone, by `.dangerous_verify_with_short_secret()` on the builder"
    )]
    ShortSecret {
        /// The option that holds the secret.
        option: &'static str,
        /// The algorithm that uses the secret.
        algorithm: Algorithm,
        /// The length of the secret in bytes.
        actual: usize,
        /// The length in bytes that the algorithm needs.
        minimum: usize,
    },
    /// With these options Countersign's sessions would get no tokens, or tokens that are not accepted.
    #[error("with these options, sessions cannot get tokens: {reason}")]
    NoTokens {
        /// The reason.
        reason: String,
    },
    /// A key cannot be used.
    #[error("{option} cannot be used for {algorithm}: {source}")]
    Key {
        /// The option that holds the key.
        option: &'static str,
        /// The algorithm that uses the key.
        algorithm: Algorithm,
        /// The reason.
        source: KeyError,
    },
}

impl fmt::Debug for FlaskBuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_with_causes(self, f)
    }
}

/// The key that signs; `None` for a secret that the rules allow only for verifying.
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
