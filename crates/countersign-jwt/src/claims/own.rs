//! The beginning of claims that are written as we write them, read without a JSON parser.
//!
//! Most tokens that a verifier sees were issued by its own side, so the order, the names and the spelling of their
//! claims are known. This reader accepts only what the strict reader would accept. At the first byte that is not as
//! expected it stops, and the strict reader judges the rest, knowing what came before. A test in `read.rs` shows that
//! both readers agree on every text.

use uuid::Uuid;

use super::Freshness;
use super::read::{NumericDate, Slots, token_type, uuid};
use crate::id::{Epoch, Generation, SessionId, TokenId, UserId};

/// The part of the claims that could be read.
pub(super) struct Prefix {
    /// The end of the last value that was read; a comma or the closing brace follows.
    pub(super) end: usize,
    pub(super) members: usize,
}

/// Reads members from the beginning of `text` into `slots`, which are empty; returns `None` if no member is as
/// expected.
pub(super) fn read(text: &str, slots: &mut Slots) -> Option<Prefix> {
    let mut at = Cursor { rest: text.strip_prefix('{')?, members: 0 };
    slots.issuer = at.member(r#""iss":"#, |at| at.text().map(str::to_owned));
    slots.subject = at.member(r#""sub":"#, |at| UserId::new(at.text()?).ok());
    slots.audience = at.member(r#""aud":"#, |at| Some(vec![at.text()?.to_owned()]));
    slots.issued_at = at.member(r#""iat":"#, |at| at.date().map(NumericDate::floor));
    slots.not_before = at.member(r#""nbf":"#, |at| at.date().map(NumericDate::ceil));
    slots.expires_at = at.member(r#""exp":"#, |at| at.date().map(NumericDate::floor));
    slots.token_id = at.member(r#""jti":"#, |at| at.uuid().map(TokenId::new));
    slots.token_type = at.member(r#""type":"#, |at| token_type(at.text()?));
    slots.freshness = at.member(r#""fresh":"#, Cursor::freshness);
    slots.session = at.member(r#""sid":"#, |at| at.uuid().map(SessionId::new));
    slots.generation = at.member(r#""gen":"#, |at| u32::try_from(at.number()?).ok().map(Generation::new));
    slots.epoch = at.member(r#""epoch":"#, |at| at.number().map(Epoch::new));
    slots.csrf = at.member(r#""csrf":"#, |at| at.text().map(str::to_owned));
    (at.members > 0).then(|| Prefix { end: text.len() - at.rest.len(), members: at.members })
}

#[derive(Clone, Copy)]
struct Cursor<'t> {
    rest: &'t str,
    members: usize,
}

impl<'t> Cursor<'t> {
    /// Reads the next member if it has this name; otherwise stays where it is.
    fn member<T>(&mut self, name: &str, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        let mut ahead = *self;
        if ahead.members > 0 {
            ahead.rest = ahead.rest.strip_prefix(',')?;
        }
        ahead.rest = ahead.rest.strip_prefix(name)?;
        let value = read(&mut ahead)?;
        if !matches!(ahead.rest.as_bytes().first(), Some(b',' | b'}')) {
            return None;
        }
        ahead.members += 1;
        *self = ahead;
        Some(value)
    }

    /// Reads a text without escapes.
    fn text(&mut self) -> Option<&'t str> {
        let text = self.rest.strip_prefix('"')?;
        let end = text.bytes().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f))?;
        let (text, rest) = text.split_at_checked(end)?;
        self.rest = rest.strip_prefix('"')?;
        Some(text)
    }

    fn uuid(&mut self) -> Option<Uuid> {
        let (text, rest) = self.rest.strip_prefix('"')?.split_at_checked(uuid::fmt::Hyphenated::LENGTH)?;
        self.rest = rest.strip_prefix('"')?;
        uuid(text)
    }

    /// Reads a number of at most 15 digits, as JSON writes whole ones. [`Cursor::member`] checks the byte after it.
    fn number(&mut self) -> Option<u64> {
        let length = self.rest.bytes().take(16).take_while(u8::is_ascii_digit).count();
        let (digits, rest) = self.rest.split_at_checked(length)?;
        if length > 15 || length == 0 || (length > 1 && digits.starts_with('0')) {
            return None;
        }
        self.rest = rest;
        Some(digits.bytes().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
    }

    fn date(&mut self) -> Option<NumericDate> {
        NumericDate::whole(i64::try_from(self.number()?).ok()?)
    }

    fn freshness(&mut self) -> Option<Freshness> {
        for (text, freshness) in [("true", Freshness::Fresh), ("false", Freshness::Stale)] {
            if let Some(rest) = self.rest.strip_prefix(text) {
                self.rest = rest;
                return Some(freshness);
            }
        }
        self.date().map(|end| Freshness::Until(end.floor()))
    }
}
