//! JSON to claims, in one pass without a tree in between.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{Fields, Freshness, SessionRef, TokenType};
use crate::id::{Epoch, Generation, SessionId, TokenId, UserId};
use crate::json::{AnyValue, Problem, Reading, Text};
use crate::time::Timestamp;
use crate::verify::VerifyError;

/// Reads the payload of a token whose signature holds.
pub(crate) fn read(payload: &[u8]) -> Result<Fields, VerifyError> {
    let reading = Reading::default();
    let mut slots = Slots::default();
    let parsed = reading.parse(payload, FillSlots { reading: &reading, slots: &mut slots });
    parsed.and_then(|()| slots.finish()).map_err(|problem| match problem {
        Problem::Json(error) => VerifyError::Claims(error),
        Problem::Missing(name) => VerifyError::MissingClaim(name),
        Problem::Invalid(name) | Problem::Refused(name) => VerifyError::InvalidClaim(name),
    })
}

/// Fills slots in place, because moving finished claims out through the parser's layers costs more than reading
/// some of them.
struct FillSlots<'a> {
    reading: &'a Reading,
    slots: &'a mut Slots,
}

impl<'de> DeserializeSeed<'de> for FillSlots<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for FillSlots<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("claims")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { reading, slots } = self;
        while let Some(Text(name)) = map.next_key()? {
            reading.count_member()?;
            let mut member = Member { reading, map: &mut map };
            match name.as_ref() {
                "iss" => member.fill("iss", &mut slots.issuer, |Text(text)| Some(text.into_owned()))?,
                "sub" => member.fill("sub", &mut slots.subject, |Text(text)| UserId::new(&text).ok())?,
                "aud" => member.fill("aud", &mut slots.audience, |Audience(list)| Some(list))?,
                "iat" => member.fill("iat", &mut slots.issued_at, |date| Some(NumericDate::floor(date)))?,
                "nbf" => member.fill("nbf", &mut slots.not_before, |date| Some(NumericDate::ceil(date)))?,
                "exp" => member.fill("exp", &mut slots.expires_at, |date| Some(NumericDate::floor(date)))?,
                "jti" => member.fill("jti", &mut slots.token_id, |text| uuid(&text).map(TokenId::new))?,
                "type" => member.fill("type", &mut slots.token_type, |text| token_type(&text))?,
                "fresh" => member.fill("fresh", &mut slots.freshness, |WireFreshness(fresh)| Some(fresh))?,
                "sid" => member.fill("sid", &mut slots.session, |text| uuid(&text).map(SessionId::new))?,
                "gen" => member.fill("gen", &mut slots.generation, |number| Some(Generation::new(number)))?,
                "epoch" => member.fill("epoch", &mut slots.epoch, |number| Some(Epoch::new(number)))?,
                "csrf" => member.fill("csrf", &mut slots.csrf, |Text(text)| Some(text.into_owned()))?,
                other => {
                    if slots.others.contains_key(other) {
                        return Err(reading.duplicate());
                    }
                    let value = map.next_value_seed(AnyValue { reading, depth: 1 })?;
                    slots.others.insert(name.into_owned(), value);
                }
            }
        }
        Ok(())
    }
}

/// The claims seen so far.
#[derive(Default)]
struct Slots {
    issuer: Option<String>,
    subject: Option<UserId>,
    audience: Option<Vec<String>>,
    issued_at: Option<Timestamp>,
    not_before: Option<Timestamp>,
    expires_at: Option<Timestamp>,
    token_id: Option<TokenId>,
    token_type: Option<TokenType>,
    freshness: Option<Freshness>,
    session: Option<SessionId>,
    generation: Option<Generation>,
    epoch: Option<Epoch>,
    csrf: Option<String>,
    others: Map<String, Value>,
}

impl Slots {
    fn finish(self) -> Result<Fields, Problem> {
        let session = match (self.session, self.generation, self.epoch) {
            (None, None, None) => None,
            (Some(id), Some(generation), Some(epoch)) => Some(SessionRef { id, generation, epoch }),
            (None, _, _) => return Err(Problem::Missing("sid")),
            (_, None, _) => return Err(Problem::Missing("gen")),
            (_, _, None) => return Err(Problem::Missing("epoch")),
        };
        Ok(Fields {
            issuer: self.issuer,
            subject: self.subject.ok_or(Problem::Missing("sub"))?,
            audience: self.audience.unwrap_or_default(),
            issued_at: self.issued_at,
            not_before: self.not_before,
            expires_at: self.expires_at,
            token_id: self.token_id.ok_or(Problem::Missing("jti"))?,
            token_type: self.token_type.ok_or(Problem::Missing("type"))?,
            freshness: self.freshness.unwrap_or_default(),
            session,
            csrf: self.csrf,
            others: self.others,
        })
    }
}

/// The value of the member whose name was just read.
struct Member<'a, 'r, A> {
    reading: &'r Reading,
    map: &'a mut A,
}

impl<'de, A: MapAccess<'de>> Member<'_, '_, A> {
    /// Reads a `W` as it is on the wire and converts it, into a slot that must still be empty.
    fn fill<W: Deserialize<'de>, T>(
        &mut self,
        name: &'static str,
        slot: &mut Option<T>,
        convert: impl FnOnce(W) -> Option<T>,
    ) -> Result<(), A::Error> {
        if slot.is_some() {
            return Err(self.reading.duplicate());
        }
        self.reading.entering(name);
        match convert(self.map.next_value()?) {
            Some(value) => *slot = Some(value),
            None => return Err(self.reading.fail(Problem::Invalid(name))),
        }
        Ok(())
    }
}

/// The one spelling that we issue. The parser alone would also take braces, a URN and missing hyphens.
fn uuid(Text(text): &Text<'_>) -> Option<Uuid> {
    if text.len() != 36 {
        return None;
    }
    Uuid::try_parse(text).ok()
}

fn token_type(Text(text): &Text<'_>) -> Option<TokenType> {
    TokenType::ALL.into_iter().find(|kind| kind.as_str() == text)
}

/// Seconds since the Unix epoch, possibly with a fraction (RFC 7519 §2), between 0 and 2^53.
#[derive(Clone, Copy)]
enum NumericDate {
    Whole(i64),
    Fractional(f64),
}

impl NumericDate {
    const MAX: i64 = 1 << 53;

    fn whole(seconds: i64) -> Option<Self> {
        (0..=Self::MAX).contains(&seconds).then_some(Self::Whole(seconds))
    }

    fn fractional(seconds: f64) -> Option<Self> {
        // False for what is not a number.
        #[expect(clippy::cast_precision_loss, reason = "2^53 is exact")]
        let in_range = (0.0..=Self::MAX as f64).contains(&seconds);
        in_range.then_some(Self::Fractional(seconds))
    }

    /// To whole milliseconds, the earlier ones.
    fn floor(self) -> Timestamp {
        self.round(f64::floor)
    }

    /// To whole milliseconds, the later ones: what is not valid before a moment is not valid a little before it.
    fn ceil(self) -> Timestamp {
        self.round(f64::ceil)
    }

    fn round(self, round: impl FnOnce(f64) -> f64) -> Timestamp {
        match self {
            Self::Whole(seconds) => Timestamp::from_secs(seconds),
            #[expect(
                clippy::cast_possible_truncation,
                reason = "a cast from f64 saturates, as `Timestamp` does"
            )]
            Self::Fractional(seconds) => Timestamp::from_millis(round(seconds * 1000.0) as i64),
        }
    }
}

impl<'de> Deserialize<'de> for NumericDate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match deserializer.deserialize_any(BoolOrDate)? {
            BoolOrNumber::Number(date) => Ok(date),
            BoolOrNumber::Bool(_) => Err(D::Error::custom("not a time")),
        }
    }
}

/// `fresh`: a boolean, or the time until which the token is fresh.
struct WireFreshness(Freshness);

impl<'de> Deserialize<'de> for WireFreshness {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(match deserializer.deserialize_any(BoolOrDate)? {
            BoolOrNumber::Bool(true) => Freshness::Fresh,
            BoolOrNumber::Bool(false) => Freshness::Stale,
            BoolOrNumber::Number(date) => Freshness::Until(date.floor()),
        }))
    }
}

enum BoolOrNumber {
    Bool(bool),
    Number(NumericDate),
}

struct BoolOrDate;

impl Visitor<'_> for BoolOrDate {
    type Value = BoolOrNumber;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a boolean or seconds since the Unix epoch")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<BoolOrNumber, E> {
        Ok(BoolOrNumber::Bool(value))
    }

    fn visit_u64<E: Error>(self, seconds: u64) -> Result<BoolOrNumber, E> {
        let date = i64::try_from(seconds).ok().and_then(NumericDate::whole);
        date.map(BoolOrNumber::Number).ok_or_else(|| E::custom("out of range"))
    }

    fn visit_f64<E: Error>(self, seconds: f64) -> Result<BoolOrNumber, E> {
        NumericDate::fractional(seconds).map(BoolOrNumber::Number).ok_or_else(|| E::custom("out of range"))
    }
}

/// `aud`: one text, or a list of at least one (RFC 7519 §4.1.3).
struct Audience(Vec<String>);

impl<'de> Deserialize<'de> for Audience {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AudienceVisitor;

        impl<'de> Visitor<'de> for AudienceVisitor {
            type Value = Audience;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a list of texts")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Audience, E> {
                Ok(Audience(vec![text.to_owned()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Audience, A::Error> {
                let mut audience = Vec::new();
                while let Some(text) = list.next_element()? {
                    if audience.len() == MAX_AUDIENCES {
                        return Err(A::Error::custom("too many"));
                    }
                    audience.push(text);
                }
                if audience.is_empty() {
                    return Err(A::Error::custom("empty"));
                }
                Ok(Audience(audience))
            }
        }

        deserializer.deserialize_any(AudienceVisitor)
    }
}

/// How many audiences a token may name.
const MAX_AUDIENCES: usize = 64;
