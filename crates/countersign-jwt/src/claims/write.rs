//! Writing claims as JSON.

use serde_json::{Map, Value};
use uuid::Uuid;

use super::{ClaimFields, Freshness, REGISTERED};
use crate::json;
use crate::jws::SignError;

/// The claims as JSON, with the issuer and audience that the tokens of an issuer carry.
///
/// The members are always in the same order, without white space; the verifier knows this form (see `own.rs`).
pub(crate) fn write(
    claims: &ClaimFields,
    issuer: Option<&str>,
    audience: Option<&str>,
) -> Result<Vec<u8>, SignError> {
    // Claims that our own verifiers would not accept are not issued.
    if !json::within_limits(&claims.others, REGISTERED.len()) {
        return Err(SignError::TooManyClaims);
    }
    to_json(claims, issuer, audience).map_err(|_| SignError::Failed)
}

/// Writes the claims as JSON, however large they are.
pub(super) fn to_json(
    claims: &ClaimFields,
    issuer: Option<&str>,
    audience: Option<&str>,
) -> serde_json::Result<Vec<u8>> {
    Writer { json: Vec::with_capacity(USUAL_BYTES) }.claims(claims, issuer, audience)
}

/// The size that usual claims fit in without growing.
const USUAL_BYTES: usize = 512;

struct Writer {
    json: Vec<u8>,
}

impl Writer {
    fn claims(
        mut self,
        claims: &ClaimFields,
        issuer: Option<&str>,
        audience: Option<&str>,
    ) -> serde_json::Result<Vec<u8>> {
        self.json.push(b'{');
        if let Some(issuer) = issuer {
            self.name("\"iss\":").text(issuer)?;
        }
        self.name("\"sub\":").text(claims.subject.as_str())?;
        if let Some(audience) = audience {
            self.name("\"aud\":").text(audience)?;
        }
        for (name, time) in
            [("\"iat\":", claims.issued_at), ("\"nbf\":", claims.not_before), ("\"exp\":", claims.expires_at)]
        {
            if let Some(time) = time {
                self.name(name).value(&time.as_secs())?;
            }
        }
        self.name("\"jti\":").uuid(claims.token_id.as_uuid());
        self.name("\"type\":").text(claims.token_type.as_str())?;
        self.name("\"fresh\":");
        match claims.freshness {
            Freshness::Stale => self.json.extend_from_slice(b"false"),
            Freshness::Fresh => self.json.extend_from_slice(b"true"),
            Freshness::Until(end) => self.value(&end.as_secs())?,
        }
        if let Some(session) = claims.session {
            self.name("\"sid\":").uuid(session.id.as_uuid());
            self.name("\"gen\":").value(&session.generation.as_u32())?;
            self.name("\"epoch\":").value(&session.epoch.as_u64())?;
        }
        if let Some(csrf) = &claims.csrf {
            self.name("\"csrf\":").text(csrf)?;
        }
        self.others(&claims.others)?;
        self.json.push(b'}');
        Ok(self.json)
    }

    /// Writes the name of the next member, which needs no escapes.
    fn name(&mut self, written: &str) -> &mut Self {
        if self.json.len() > 1 {
            self.json.push(b',');
        }
        self.json.extend_from_slice(written.as_bytes());
        self
    }

    fn text(&mut self, text: &str) -> serde_json::Result<()> {
        if text.bytes().any(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f)) {
            return self.value(text);
        }
        self.json.push(b'"');
        self.json.extend_from_slice(text.as_bytes());
        self.json.push(b'"');
        Ok(())
    }

    fn uuid(&mut self, id: Uuid) {
        self.json.push(b'"');
        self.json.extend_from_slice(id.hyphenated().encode_lower(&mut Uuid::encode_buffer()).as_bytes());
        self.json.push(b'"');
    }

    fn others(&mut self, others: &Map<String, Value>) -> serde_json::Result<()> {
        for (name, value) in others {
            self.json.push(b',');
            self.text(name)?;
            self.json.push(b':');
            self.value(value)?;
        }
        Ok(())
    }

    fn value<T: serde::Serialize + ?Sized>(&mut self, value: &T) -> serde_json::Result<()> {
        serde_json::to_writer(&mut self.json, value)
    }
}
