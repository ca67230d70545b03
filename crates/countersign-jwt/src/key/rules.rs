//! The rules by which verifying keys are refused.

/// Rules for reading verifying keys. The strict rules are right unless another program's key breaks them.
///
/// ```
/// use countersign_jwt::key::ImportRules;
/// use countersign_jwt::{Algorithm, VerifyingKey};
///
/// // The secret of an old application, whose tokens are to be accepted until they have expired.
/// let secret = b"short-pw1";
/// assert!(VerifyingKey::hmac_with(ImportRules::strict(), Algorithm::Hs256, secret).is_err());
///
/// let rules = ImportRules::strict().dangerous_accept_short_secrets();
/// let key = VerifyingKey::hmac_with(rules, Algorithm::Hs256, secret)?;
/// assert!(key.warning().is_some(), "for the log at every start");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ImportRules {
    rsa_exponent_3: bool,
    guessable_secrets: bool,
    short_secrets: bool,
}

impl ImportRules {
    /// The strict rules, which every constructor without rules uses.
    #[must_use]
    pub const fn strict() -> Self {
        Self { rsa_exponent_3: false, guessable_secrets: false, short_secrets: false }
    }

    /// Accepts RSA keys with the public exponent 3, with which implementation mistakes are easier to exploit.
    #[must_use]
    pub const fn dangerous_accept_rsa_exponent_3(self) -> Self {
        Self { rsa_exponent_3: true, ..self }
    }

    /// Accepts shared secrets of full length that are examples from documentation or almost constant, for tests with
    /// published vectors. Anybody may forge tokens of such a secret.
    #[must_use]
    pub const fn dangerous_accept_guessable_secrets(self) -> Self {
        Self { guessable_secrets: true, ..self }
    }

    /// Accepts shared secrets that are shorter than the hash (RFC 7518 §3.2), to verify what another program still
    /// signs with one. Somebody who has a token can search for such a secret. Short secrets never sign here, because
    /// signing keys know no rules. Their [`VerifyingKey::warning`](super::VerifyingKey::warning) is for the log at
    /// every start (SEC-018).
    #[must_use]
    pub const fn dangerous_accept_short_secrets(self) -> Self {
        Self { short_secrets: true, ..self }
    }

    pub(super) const fn accepts_short_secrets(self) -> bool {
        self.short_secrets
    }

    pub(super) const fn accepts_rsa_exponent_3(self) -> bool {
        self.rsa_exponent_3
    }

    pub(super) const fn accepts_guessable_secrets(self) -> bool {
        self.guessable_secrets
    }
}
