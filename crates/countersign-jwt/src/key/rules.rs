//! What verifying keys are refused for, unless somebody insists.

/// Rules for reading verifying keys. The strict ones are right unless somebody else's key breaks them.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ImportRules {
    rsa_exponent_3: bool,
    guessable_secrets: bool,
    short_secrets: bool,
}

impl ImportRules {
    /// What every other constructor uses.
    #[must_use]
    pub const fn strict() -> Self {
        Self { rsa_exponent_3: false, guessable_secrets: false, short_secrets: false }
    }

    /// Accepts RSA keys with the public exponent 3, of which implementation mistakes are easier to exploit.
    #[must_use]
    pub const fn dangerous_accept_rsa_exponent_3(self) -> Self {
        Self { rsa_exponent_3: true, ..self }
    }

    /// Accepts shared secrets of full length that are examples from documentation or almost constant: anybody may
    /// forge tokens. For tests with published vectors.
    #[must_use]
    pub const fn dangerous_accept_guessable_secrets(self) -> Self {
        Self { guessable_secrets: true, ..self }
    }

    /// Accepts shared secrets that are shorter than the hash (RFC 7518 §3.2), to verify what another program still signs
    /// with one: whoever has a token can search for the secret. They never sign here, because signing keys know no
    /// rules; their [`VerifyingKey::warning`](super::VerifyingKey::warning) is for the log at every start (SEC-018).
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
