//! Compact JWS (RFC 7515): bytes with a proof of who signed them.
//!
//! This implementation is small and strict on purpose. It accepts only the compact form and only headers that it fully
//! understands. A header never brings its own key and never chooses the algorithm. The bytes that a signature covers
//! are exactly the bytes that are read (SEC-006).
//!
//! Most programs use [`Issuer`](crate::token::Issuer) and [`Verifier`](crate::token::Verifier) instead, which also
//! check the claims.

mod header;

pub use header::Header;

use crate::base64url;
use crate::key::{KeyRing, SigningKey, VerifyingKey};
use crate::verify::VerifyError;
use header::{Origin, ParsedHeader, Typ};

/// The limits on the length of a token, checked before anything is decoded (SEC-002).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// The most bytes of a whole token. Default 8192, which servers and browsers accept in a header or cookie.
    pub token_bytes: usize,
    /// The most bytes of a token's encoded header. Default 2048.
    pub header_bytes: usize,
}

impl Limits {
    /// The limits for tokens of other issuers: 8 KiB, 6 KiB of which for the header, because some issuers put the chain
    /// of a certificate (`x5c`) there.
    pub const FOREIGN: Self = Self { token_bytes: 8 * 1024, header_bytes: 6 * 1024 };

    /// The limits that no setting exceeds: 64 KiB, 16 KiB of which for the header. A larger limit counts as this one.
    pub const MAX: Self = Self { token_bytes: 64 * 1024, header_bytes: 16 * 1024 };

    pub(crate) fn capped(self) -> Self {
        Self {
            token_bytes: self.token_bytes.min(Self::MAX.token_bytes),
            header_bytes: self.header_bytes.min(Self::MAX.header_bytes),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { token_bytes: 8 * 1024, header_bytes: 2 * 1024 }
    }
}

/// A token whose signature holds.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Verified {
    /// The token's protected header.
    pub header: Header,
    /// The bytes that were signed.
    pub payload: Vec<u8>,
}

/// The reason why a token was not signed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SignError {
    /// The token would be longer than verifiers accept.
    #[error("token would be longer than {} bytes", Limits::default().token_bytes)]
    TooLong,
    /// The claims together are more, or nested deeper, than verifiers accept.
    #[error("claims are too many or nested too deeply")]
    TooManyClaims,
    /// The cryptographic library failed.
    #[error("signing failed")]
    Failed,
}

/// Signs `payload` into a compact token whose header has `alg`, `kid` and `typ`.
///
/// ```
/// use countersign_jwt::{Algorithm, SigningKey, jws};
///
/// # let random = countersign_testkit::SeededRandom::default();
/// let key = SigningKey::generate(Algorithm::EdDsa, &random)?;
/// let token = jws::sign(&key, "invitation", br#"{"email":"ada@example.org"}"#)?;
/// assert_eq!(token.split('.').count(), 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`SignError::TooLong`] if the token would have more than 8 KiB.
pub fn sign(key: &SigningKey, typ: &str, payload: &[u8]) -> Result<String, SignError> {
    sign_segments(key, &key.header_segment(typ), payload)
}

/// Signs `payload` under a header of the caller's own: a JSON object in UTF-8 whose `alg` names the key's algorithm.
/// The header is not checked.
///
/// # Errors
/// [`SignError::TooLong`] if the token would have more than 8 KiB, or its header more than 2 KiB.
pub fn sign_with_header(key: &SigningKey, header: &[u8], payload: &[u8]) -> Result<String, SignError> {
    let mut segment = base64url::encode(header);
    segment.push('.');
    sign_segments(key, &segment, payload)
}

/// Signs `payload` under `header`, an encoded header with the dot after it.
fn sign_segments(key: &SigningKey, header: &str, payload: &[u8]) -> Result<String, SignError> {
    let signature_chars = 4 * key.signature_bytes().div_ceil(3);
    let length = header.len() + payload.len().div_ceil(3).saturating_mul(4) + 1 + signature_chars;
    let limits = Limits::default();
    if length > limits.token_bytes || header.len() > limits.header_bytes {
        return Err(SignError::TooLong);
    }
    let mut token = String::with_capacity(length);
    token.push_str(header);
    base64url::append(payload, &mut token);
    key.sign(&mut token).map_err(|_| SignError::Failed)?;
    Ok(token)
}

/// Verifies a compact token with the key that its `kid` names in `ring`.
///
/// A token without `kid` is accepted only if exactly one key of the ring has its algorithm (SEC-039). Of the payload
/// nothing is checked but that it was signed.
///
/// ```
/// use countersign_jwt::{Algorithm, KeyRing, SigningKey, VerifyError, jws};
///
/// # let random = countersign_testkit::SeededRandom::default();
/// # let key = SigningKey::generate(Algorithm::EdDsa, &random)?;
/// # let mut ring = KeyRing::new();
/// # ring.insert(key.verifying_key())?;
/// let token = jws::sign(&key, "invitation", b"ada@example.org")?;
/// assert_eq!(jws::verify(&token, &ring)?.payload, b"ada@example.org");
///
/// let forged = token.replace('.', ".A");
/// assert!(jws::verify(&forged, &ring).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`VerifyError`] of the groups malformed, key and signature.
pub fn verify(token: &str, ring: &KeyRing) -> Result<Verified, VerifyError> {
    Signed::verify(token, ring, Limits::default())?.verified()
}

/// Verifies a compact token of another issuer with the key that its `kid` and `alg` name in `ring`.
///
/// Unlike [`verify`], it ignores header members in which an issuer says where its keys are (`jku`, `x5u`) or includes
/// one (`jwk`, `x5c`). Keys come from `ring` alone (SEC-011). Extensions (`crit`) and encryption are refused
/// nevertheless. Headers may be longer (see [`Limits::FOREIGN`]).
///
/// # Errors
/// [`VerifyError`] of the groups malformed, key and signature.
pub fn verify_foreign(token: &str, ring: &KeyRing) -> Result<Verified, VerifyError> {
    Signed::verify_from(Origin::Foreign, token, ring, Limits::FOREIGN)?.verified()
}

/// A token whose signature holds, still encoded.
pub(crate) struct Signed<'a> {
    pub(crate) key: &'a VerifyingKey,
    pub(crate) typ: Typ<'a>,
    names_key: bool,
    payload: &'a str,
}

impl<'a> Signed<'a> {
    /// Checks the form, the header and the signature, in this order.
    pub(crate) fn verify(token: &'a str, ring: &'a KeyRing, limits: Limits) -> Result<Self, VerifyError> {
        Self::verify_from(Origin::Own, token, ring, limits)
    }

    fn verify_from(
        origin: Origin,
        token: &'a str,
        ring: &'a KeyRing,
        limits: Limits,
    ) -> Result<Self, VerifyError> {
        if let Some((key, typ, parts)) = Self::issued_here(token, ring, limits) {
            // If the form is wrong too, the error tells that.
            parts.check_signature(key).map_err(|error| match Parts::split(token, limits) {
                Ok(_) => error,
                Err(form) => form,
            })?;
            return Ok(Self { key, typ: Typ::Known(typ), names_key: true, payload: parts.payload });
        }
        let parts = Parts::split(token, limits)?;
        let header = ParsedHeader::decode(parts.header, origin)?;
        let key = header.choose_key(ring)?;
        parts.check_signature(key)?;
        Ok(Self {
            key,
            names_key: header.key_id.is_some(),
            typ: Typ::Read(header.typ),
            payload: parts.payload,
        })
    }

    fn verified(&self) -> Result<Verified, VerifyError> {
        let header = Header::new(self.key, self.names_key, self.typ.as_str());
        Ok(Verified { header, payload: self.payload()? })
    }

    /// Reads a token as we issue it: it begins with a header that we know byte for byte and ends with a signature whose
    /// length we know, so nothing need be searched. Whether the rest is base64url shows when it is decoded.
    fn issued_here(
        token: &'a str,
        ring: &'a KeyRing,
        limits: Limits,
    ) -> Option<(&'a VerifyingKey, &'static str, Parts<'a>)> {
        if token.len() > limits.token_bytes {
            return None;
        }
        let (key, known) = ring.iter().find_map(|key| {
            let known = key.known_headers().iter().find(|known| token.starts_with(&known.segment))?;
            Some((key, known))
        })?;
        let header = known.segment.strip_suffix('.')?;
        if header.len() > limits.header_bytes {
            return None;
        }
        let dot = token.len().checked_sub(encoded_length(key.signature_bytes()) + 1)?;
        let (signed, signature) = token.split_at_checked(dot)?;
        let payload = signed.get(known.segment.len()..)?;
        Some((key, known.typ, Parts { header, payload, signature: signature.strip_prefix('.')?, signed }))
    }

    /// The key that verified the token, if the token names it.
    pub(crate) fn named_key(&self) -> Option<&'a VerifyingKey> {
        self.names_key.then_some(self.key)
    }

    /// The signed bytes.
    pub(crate) fn payload(&self) -> Result<Vec<u8>, VerifyError> {
        base64url::decode(self.payload).map_err(|_| match is_clean(self.payload) {
            true if !self.payload.contains('.') => VerifyError::Encoding,
            _ => VerifyError::NotCompact,
        })
    }
}

/// The three segments of a compact token.
pub(crate) struct Parts<'a> {
    pub(crate) header: &'a str,
    pub(crate) payload: &'a str,
    signature: &'a str,
    /// The first two segments with the dot between them.
    signed: &'a str,
}

impl<'a> Parts<'a> {
    /// Splits a token after checking its length and every byte of it (SEC-001, SEC-002).
    pub(crate) fn split(token: &'a str, limits: Limits) -> Result<Self, VerifyError> {
        if token.len() > limits.token_bytes {
            return Err(VerifyError::TooLong);
        }
        if !is_clean(token) {
            return Err(VerifyError::NotCompact);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(VerifyError::NotCompact)?;
        let (header, payload) = signed.split_once('.').ok_or(VerifyError::NotCompact)?;
        if payload.contains('.') {
            return Err(VerifyError::NotCompact);
        }
        if header.len() > limits.header_bytes {
            return Err(VerifyError::TooLong);
        }
        Ok(Self { header, payload, signature, signed })
    }

    fn check_signature(&self, key: &VerifyingKey) -> Result<(), VerifyError> {
        // The length is checked first: a shortened MAC is not a MAC, and a DER signature is not a JWS signature
        // (SEC-017, SEC-020).
        if self.signature.len() != encoded_length(key.signature_bytes()) {
            return Err(VerifyError::Signature);
        }
        if key.signature_bytes() <= SHORT_SIGNATURE {
            self.check_signature_in(&mut [0; SHORT_SIGNATURE], key)
        } else {
            self.check_signature_in(&mut [0; LONGEST_SIGNATURE], key)
        }
    }

    fn check_signature_in(&self, buffer: &mut [u8], key: &VerifyingKey) -> Result<(), VerifyError> {
        let decoded = base64url::decode_into(self.signature, buffer).map_err(|_| VerifyError::Encoding)?;
        let signature = buffer.get(..decoded).ok_or(VerifyError::Signature)?;
        if !key.accepts(self.signed.as_bytes(), signature) {
            return Err(VerifyError::Signature);
        }
        Ok(())
    }
}

/// Whether a text has only the characters of a compact token. The loop does not end early, so that the compiler can
/// look at many bytes at once.
fn is_clean(text: &str) -> bool {
    text.bytes().fold(true, |clean, byte| {
        clean & (byte.is_ascii_alphanumeric() | (byte == b'-') | (byte == b'_') | (byte == b'.'))
    })
}

/// The number of base64url characters that so many bytes take.
const fn encoded_length(bytes: usize) -> usize {
    (bytes * 8).div_ceil(6)
}

/// The length of an ES512 signature. Only RSA signatures are longer.
const SHORT_SIGNATURE: usize = 132;
/// The length of a signature by an RSA key with 8192 bits.
const LONGEST_SIGNATURE: usize = 1024;

/// Decodes a segment of a compact token. Padding, another alphabet and stray bits at the end are refused (SEC-003).
///
/// # Errors
/// [`VerifyError::Encoding`] if the segment is not strict base64url.
pub fn decode(segment: &str) -> Result<Vec<u8>, VerifyError> {
    base64url::decode(segment).map_err(|_| VerifyError::Encoding)
}
