//! Reading claims from JSON, in one pass without a tree in between.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{ClaimFields, Freshness, SessionRef, TokenType, own};
use crate::id::{Epoch, Generation, SessionId, TokenId, UserId};
use crate::json::{AnyValue, Problem, Reading, Text};
use crate::time::Timestamp;
use crate::verify::VerifyError;

/// Reads the payload of a token whose signature holds. The content of `payload` afterwards is of no use.
pub(crate) fn read(payload: &mut [u8]) -> Result<ClaimFields, VerifyError> {
    let mut slots = Slots::default();
    let prefix = str::from_utf8(payload).ok().and_then(|text| own::read(text, &mut slots));
    let Some(own::Prefix { end, members }) = prefix else {
        return strictly(payload, Reading::default(), Slots::default());
    };
    match payload.get_mut(end..) {
        Some([b'}']) => slots.finish().map_err(refusal),
        // The members that are left make an object of their own once the comma before them is replaced by a brace.
        Some(rest @ [b',', b'"', ..]) => {
            if let Some(comma) = rest.first_mut() {
                *comma = b'{';
            }
            strictly(rest, Reading::after(members), slots)
        }
        _ => strictly(payload, Reading::default(), Slots::default()),
    }
}

/// Reads an object in addition to what is in the slots already.
fn strictly(object: &[u8], reading: Reading, mut slots: Slots) -> Result<ClaimFields, VerifyError> {
    let parsed = reading.parse(object, FillSlots { reading: &reading, slots: &mut slots });
    parsed.and_then(|()| slots.finish()).map_err(refusal)
}

fn refusal(problem: Problem) -> VerifyError {
    match problem {
        Problem::Json(error) => VerifyError::Claims(error),
        Problem::Missing(name) => VerifyError::MissingClaim(name),
        Problem::Invalid(name) | Problem::Refused(name) => VerifyError::InvalidClaim(name),
    }
}

/// A seed that fills slots in place, because moving finished claims out through the parser's layers costs more than
/// reading some of them.
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
                "jti" => {
                    member.fill("jti", &mut slots.token_id, |Text(text)| uuid(&text).map(TokenId::new))?
                }
                "type" => member.fill("type", &mut slots.token_type, |Text(text)| token_type(&text))?,
                "fresh" => member.fill("fresh", &mut slots.freshness, |WireFreshness(fresh)| Some(fresh))?,
                "sid" => {
                    member.fill("sid", &mut slots.session, |Text(text)| uuid(&text).map(SessionId::new))?
                }
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
pub(super) struct Slots {
    pub(super) issuer: Option<String>,
    pub(super) subject: Option<UserId>,
    pub(super) audience: Option<Vec<String>>,
    pub(super) issued_at: Option<Timestamp>,
    pub(super) not_before: Option<Timestamp>,
    pub(super) expires_at: Option<Timestamp>,
    pub(super) token_id: Option<TokenId>,
    pub(super) token_type: Option<TokenType>,
    pub(super) freshness: Option<Freshness>,
    pub(super) session: Option<SessionId>,
    pub(super) generation: Option<Generation>,
    pub(super) epoch: Option<Epoch>,
    pub(super) csrf: Option<String>,
    pub(super) others: Map<String, Value>,
}

impl Slots {
    fn finish(self) -> Result<ClaimFields, Problem> {
        let session = match (self.session, self.generation, self.epoch) {
            (None, None, None) => None,
            (Some(id), Some(generation), Some(epoch)) => Some(SessionRef { id, generation, epoch }),
            (None, _, _) => return Err(Problem::Missing("sid")),
            (_, None, _) => return Err(Problem::Missing("gen")),
            (_, _, None) => return Err(Problem::Missing("epoch")),
        };
        Ok(ClaimFields {
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

/// Parses the one spelling of a UUID that we issue. The parser alone would also accept braces, a URN and missing
/// hyphens.
pub(super) fn uuid(text: &str) -> Option<Uuid> {
    if text.len() != 36 {
        return None;
    }
    Uuid::try_parse(text).ok()
}

pub(super) fn token_type(text: &str) -> Option<TokenType> {
    TokenType::ALL.into_iter().find(|kind| kind.as_str() == text)
}

/// Seconds since the Unix epoch, possibly with a fraction (RFC 7519 §2), between 0 and 2^53.
#[derive(Clone, Copy)]
pub(super) enum NumericDate {
    Whole(i64),
    Fractional(f64),
}

impl NumericDate {
    const MAX: i64 = 1 << 53;

    pub(super) fn whole(seconds: i64) -> Option<Self> {
        (0..=Self::MAX).contains(&seconds).then_some(Self::Whole(seconds))
    }

    fn fractional(seconds: f64) -> Option<Self> {
        // The comparison is false for a value that is not a number.
        #[expect(clippy::cast_precision_loss, reason = "2^53 is exact")]
        let in_range = (0.0..=Self::MAX as f64).contains(&seconds);
        in_range.then_some(Self::Fractional(seconds))
    }

    /// The time in whole milliseconds, rounded down.
    pub(super) fn floor(self) -> Timestamp {
        self.round(f64::floor)
    }

    /// The time in whole milliseconds, rounded up, because a token that is not valid before a moment is not valid a
    /// little before it.
    pub(super) fn ceil(self) -> Timestamp {
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

/// The most audiences that a token may name.
const MAX_AUDIENCES: usize = 64;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OURS: [&str; 13] = [
        r#""iss":"https://auth.example""#,
        r#""sub":"ada""#,
        r#""aud":"api""#,
        r#""iat":1800000000"#,
        r#""nbf":1800000000"#,
        r#""exp":1800000900"#,
        r#""jti":"6f2e7f60-3d0b-4f5f-9d55-9f6b7b1f7a11""#,
        r#""type":"access""#,
        r#""fresh":true"#,
        r#""sid":"0b8f0a3e-6f0e-4f0e-9a52-0d3a7c1f2b4d""#,
        r#""gen":3"#,
        r#""epoch":1"#,
        r#""csrf":"c5rf""#,
    ];

    /// Members as we write them, and others that differ a little.
    fn members() -> Vec<String> {
        let texts = [
            r#""ada""#,
            r#""""#,
            r#""a\u0064a""#,
            r#""\"""#,
            "\"a\nb\"",
            "\"a\u{7f}b\"",
            "\"h\u{e9}\"",
            r#""\uD800""#,
            r#"["ada"]"#,
            "[]",
            "null",
            "1",
            r#""ada"#,
        ];
        let numbers = [
            "0",
            "1800000000",
            "4294967295",
            "4294967296",
            "999999999999999",
            "9007199254740992",
            "9007199254740993",
            "18446744073709551615",
            "18446744073709551616",
            "-0",
            "-1",
            "01",
            "00",
            "1.5",
            "1e3",
            "1E400",
            "1x",
            "",
            "true",
            "false",
            "truefalse",
            "null",
            r#""1""#,
            " 1",
            "1 ",
        ];
        let ids = [
            r#""6f2e7f60-3d0b-4f5f-9d55-9f6b7b1f7a11""#,
            r#""6F2E7F60-3D0B-4F5F-9D55-9F6B7B1F7A11""#,
            r#""6f2e7f60-3d0b-4f5f-9d55-9f6b7b1f7a1""#,
            r#""6f2e7f60-3d0b-4f5f-9d55-9f6b7b1f7a111""#,
            r#""6f2e7f60-3d0b-4f5f-9d55-9f6b7b1f7a1g""#,
            r#""6f2e7f603d0b4f5f9d559f6b7b1f7a11""#,
            r#""\u0036f2e7f60-3d0b-4f5f-9d55-9f6b7b1f7a11""#,
            "null",
        ];
        let kinds = [r#""access""#, r#""refresh""#, r#""Access""#, r#""acces\u0073""#, "1"];
        let values = [r#"["a",{"b":1}]"#, r#"[{"b":1,"b":2}]"#, r#"{"a":{}}"#];
        let all: [(&[&str], &[&str]); 5] = [
            (&["iss", "sub", "aud", "csrf", "name", r"i\u0073s"], &texts),
            (&["iat", "nbf", "exp", "fresh", "gen", "epoch", "number"], &numbers),
            (&["jti", "sid"], &ids),
            (&["type"], &kinds),
            (&["roles"], &values),
        ];
        let pairs = all
            .iter()
            .flat_map(|(names, values)| names.iter().flat_map(|name| values.iter().map(move |v| (name, v))));
        pairs.map(|(name, value)| format!("\"{name}\":{value}")).collect()
    }

    /// Whether the payload is acceptable, which must not depend on the way it is read.
    fn judge(payload: &[u8]) -> bool {
        let strict = strictly(payload, Reading::default(), Slots::default());
        let accepted = strict.is_ok();
        assert_eq!(read(&mut payload.to_vec()), strict, "{}", String::from_utf8_lossy(payload));
        accepted
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2_000, ..ProptestConfig::default() })]

        #[test]
        fn sec_025_claims_in_our_own_form_are_read_as_strictly_as_any(
            absent in prop::option::of(prop::collection::vec(any::<bool>(), OURS.len())),
            changes in prop::collection::vec(
                (any::<prop::sample::Index>(), prop::sample::select(members()), any::<bool>()), 0..3,
            ),
            separator in prop::sample::select(vec![",", ",", ",", ",", ",", ", ", " ,", ",,", ""]),
            end in prop::sample::select(vec!["}", "}", "}", "}", ",}", " }", "} ", "}}", "} x", "", "]"]),
            damage in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
        ) {
            let absent = absent.unwrap_or_else(|| vec![false; OURS.len()]);
            let ours = OURS.iter().zip(absent).filter(|(_, absent)| !absent);
            let mut list: Vec<String> = ours.map(|(member, _)| (*member).to_owned()).collect();
            for (place, member, replaces) in changes {
                let place = place.index(list.len() + 1);
                let taken = place..(place + usize::from(replaces)).min(list.len());
                list.splice(taken, [member]);
            }
            let mut text = format!("{{{}{end}", list.join(separator)).into_bytes();
            judge(&text);
            if let Some((place, byte)) = damage {
                let place = place.index(text.len());
                text[place] = byte;
                judge(&text);
            }
        }
    }

    #[test]
    fn sec_025_every_cut_and_every_changed_byte_of_our_own_form_is_judged_as_strictly_as_any() {
        let text = format!("{{{},\"roles\":[\"a\"]}}", OURS.join(","));
        assert!(judge(text.as_bytes()));
        for at in 0..text.len() {
            assert!(!judge(&text.as_bytes()[..at]));
            for byte in *b"\"\\{}[],:0 -.ex\n\x00\x7f\xc3" {
                let mut changed = text.clone().into_bytes();
                changed[at] = byte;
                judge(&changed);
                changed = text.clone().into_bytes();
                changed.insert(at, byte);
                judge(&changed);
            }
        }
    }

    #[test]
    fn sec_005_members_in_our_own_form_count() {
        let wide = |more: usize| {
            let more: Vec<_> = (0..more).map(|n| format!("\"m{n}\":0")).collect();
            format!("{{{},{}}}", OURS.join(","), more.join(","))
        };
        assert!(judge(wide(256 - OURS.len()).as_bytes()));
        assert!(!judge(wide(257 - OURS.len()).as_bytes()));
    }
}
