//! Writing and signing tokens.

use serde_json::{Map, Value};

use countersign_jwt::json;
use countersign_jwt::jws;
use countersign_jwt::jws::SignError;
use countersign_jwt::key::SigningKey;

/// The claims that decide what a token is worth. They are set only by the parameters made for them, never as additional
/// claims.
pub const PROTECTED_CLAIMS: [&str; 8] = ["sub", "type", "exp", "iat", "nbf", "jti", "csrf", "fresh"];

/// A token about to be signed.
#[derive(Clone)]
pub struct NewToken {
    header: Map<String, Value>,
    claims: Map<String, Value>,
}

/// Why a token is not issued.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum IssueError {
    /// An additional claim would replace one that decides what the token is worth.
    #[error("claim {0} cannot be set as an additional claim")]
    ProtectedClaim(String),
    /// An additional header would change how the token is signed or read.
    #[error("header {0} cannot be set as an additional header")]
    ProtectedHeader(String),
    /// `kid` is not text.
    #[error("the header kid must be text")]
    KeyIdType,
    /// The token cannot be signed.
    #[error(transparent)]
    Sign(#[from] SignError),
}

impl NewToken {
    /// A token with these claims, all of which the library itself sets.
    #[must_use]
    pub fn new(claims: Map<String, Value>) -> Self {
        Self { header: Map::from_iter([("typ".to_owned(), "JWT".into())]), claims }
    }

    /// Adds claims of the application's own, which replace earlier ones of the same name.
    ///
    /// # Errors
    /// [`IssueError::ProtectedClaim`] for one of [`PROTECTED_CLAIMS`], and for `identity_claim`, where that claim names
    /// the user.
    pub fn with_claims(
        mut self,
        extra: Map<String, Value>,
        identity_claim: &str,
    ) -> Result<Self, IssueError> {
        for (name, value) in extra {
            if PROTECTED_CLAIMS.contains(&name.as_str()) || name == identity_claim {
                return Err(IssueError::ProtectedClaim(name));
            }
            self.claims.insert(name, value);
        }
        Ok(self)
    }

    /// Adds header members of the application's own. A `typ` that is empty or null removes it.
    ///
    /// # Errors
    /// [`IssueError::ProtectedHeader`] for `alg`, for keys and for extensions; [`IssueError::KeyIdType`].
    pub fn with_header(mut self, extra: Map<String, Value>) -> Result<Self, IssueError> {
        for (name, value) in extra {
            match name.as_str() {
                "alg" | "crit" | "b64" | "jwk" | "jku" | "x5u" | "x5c" => {
                    return Err(IssueError::ProtectedHeader(name));
                }
                "kid" if !value.is_string() => return Err(IssueError::KeyIdType),
                "typ" if value.is_null() || value == "" => {
                    self.header.remove("typ");
                }
                _ => {
                    self.header.insert(name, value);
                }
            }
        }
        Ok(self)
    }

    /// The token's claims.
    #[must_use]
    pub fn claims(&self) -> &Map<String, Value> {
        &self.claims
    }

    /// Signs the token. `algorithm` is the name that the header gives the key's algorithm.
    ///
    /// # Errors
    /// [`IssueError::Sign`] if the token would be refused for its size, or if signing fails.
    pub fn sign(mut self, key: &SigningKey, algorithm: &str) -> Result<String, IssueError> {
        self.header.insert("alg".to_owned(), algorithm.into());
        // A token that would not be accepted is not issued.
        if !json::within_limits(&self.claims, 0) || !json::within_limits(&self.header, 0) {
            return Err(SignError::TooManyClaims.into());
        }
        let text = |members: &Map<String, Value>| serde_json::to_vec(members).map_err(|_| SignError::Failed);
        Ok(jws::sign_with_header(key, &text(&self.header)?, &text(&self.claims)?)?)
    }
}

impl std::fmt::Debug for NewToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewToken").field("names", &self.claims.keys()).finish_non_exhaustive()
    }
}
