//! Reading a token without verifying it.

use std::fmt;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{ClaimError, get};
use crate::json;
use crate::jws::{Limits, Parts, decode};
use crate::verify::VerifyError;

/// The claims of a token that was not verified, for tools and logs and never for a decision.
///
/// There is no conversion from this type to [`Claims`](super::Claims).
///
/// ```
/// use countersign_jwt::claims::decode_unverified;
///
/// // Anybody could have written this token; its signature is nonsense.
/// let token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhZGEifQ.AAAA";
/// let alleged = decode_unverified(token)?;
/// assert_eq!(alleged.get::<String>("sub")?.as_deref(), Some("ada"));
/// assert_eq!(alleged.header()["alg"], "HS256");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq)]
pub struct UnverifiedClaims {
    header: Map<String, Value>,
    claims: Map<String, Value>,
}

/// Reads a token **without checking its signature**: everything in it may be forged.
///
/// # Errors
/// [`VerifyError`] of the malformed group.
pub fn decode_unverified(token: &str) -> Result<UnverifiedClaims, VerifyError> {
    decode_unverified_within(Limits::default(), token)
}

/// Reads a token **without checking its signature**, as [`decode_unverified`] does, with other limits on its length.
///
/// # Errors
/// [`VerifyError`] of the malformed group.
pub fn decode_unverified_within(limits: Limits, token: &str) -> Result<UnverifiedClaims, VerifyError> {
    let parts = Parts::split(token, limits.capped())?;
    Ok(UnverifiedClaims {
        header: json::object(&decode(parts.header)?).map_err(VerifyError::Header)?,
        claims: json::object(&decode(parts.payload)?).map_err(VerifyError::Claims)?,
    })
}

impl UnverifiedClaims {
    /// The alleged claim `name`, registered or not; `None` if the token has none.
    ///
    /// # Errors
    /// [`ClaimError::OtherType`] if the claim cannot be read as a `T`.
    pub fn get<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, ClaimError> {
        get(&self.claims, name)
    }

    /// The alleged claims.
    #[must_use]
    pub fn claims(&self) -> &Map<String, Value> {
        &self.claims
    }

    /// The alleged header.
    #[must_use]
    pub fn header(&self) -> &Map<String, Value> {
        &self.header
    }
}

impl fmt::Debug for UnverifiedClaims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnverifiedClaims")
            .field("header", &self.header.keys())
            .field("claims", &self.claims.keys())
            .finish()
    }
}
