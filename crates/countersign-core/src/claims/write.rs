//! Claims to JSON.

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Map, Value};

use super::{Fields, Freshness, REGISTERED};
use crate::json;
use crate::jws::SignError;

/// The claims as JSON, with the issuer and audience that the tokens of an issuer carry.
pub(crate) fn write(
    claims: &Fields,
    issuer: Option<&str>,
    audience: Option<&str>,
) -> Result<Vec<u8>, SignError> {
    // What no verifier of ours accepts is not issued.
    if !json::within_limits(&claims.others, REGISTERED.len()) {
        return Err(SignError::TooManyClaims);
    }
    serde_json::to_vec(&Wire { claims, issuer, audience }).map_err(|_| SignError::Failed)
}

pub(super) struct Wire<'a, A> {
    pub(super) claims: &'a Fields,
    pub(super) issuer: Option<&'a str>,
    pub(super) audience: Option<A>,
}

impl<A: Serialize> Serialize for Wire<'_, A> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let claims = self.claims;
        let mut map = serializer.serialize_map(None)?;
        if let Some(issuer) = self.issuer {
            map.serialize_entry("iss", issuer)?;
        }
        map.serialize_entry("sub", claims.subject.as_str())?;
        if let Some(audience) = &self.audience {
            map.serialize_entry("aud", audience)?;
        }
        for (name, time) in
            [("iat", claims.issued_at), ("nbf", claims.not_before), ("exp", claims.expires_at)]
        {
            if let Some(time) = time {
                map.serialize_entry(name, &time.as_secs())?;
            }
        }
        map.serialize_entry("jti", &claims.token_id.as_uuid().hyphenated().to_string())?;
        map.serialize_entry("type", claims.token_type.as_str())?;
        match claims.freshness {
            Freshness::Stale => map.serialize_entry("fresh", &false)?,
            Freshness::Fresh => map.serialize_entry("fresh", &true)?,
            Freshness::Until(end) => map.serialize_entry("fresh", &end.as_secs())?,
        }
        if let Some(session) = claims.session {
            map.serialize_entry("sid", &session.id.as_uuid().hyphenated().to_string())?;
            map.serialize_entry("gen", &session.generation.as_u32())?;
            map.serialize_entry("epoch", &session.epoch.as_u64())?;
        }
        if let Some(csrf) = &claims.csrf {
            map.serialize_entry("csrf", csrf)?;
        }
        others(&claims.others, &mut map)?;
        map.end()
    }
}

fn others<M: SerializeMap>(others: &Map<String, Value>, map: &mut M) -> Result<(), M::Error> {
    others.iter().try_for_each(|(name, value)| map.serialize_entry(name, value))
}
