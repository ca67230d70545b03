//! The names of all Redis keys, and the texts that stand for values within them.
//!
//! A key has a fixed form, whatever a client or an application sends (SEC-155): texts from outside appear in it only as
//! hexadecimal digits. The data of one user is in keys with the user in braces, which a cluster keeps together:
//!
//! | key | kind | what |
//! |---|---|---|
//! | `p:meta` | hash | `layout`, `mark` (of this set of data), `handles`, `id`, `settings`, `user_number` |
//! | `p:{user}:sessions` | hash | session id → row |
//! | `p:{user}:live` | sorted set | the sessions whose row has no mark, by their beginning |
//! | `p:{user}:log` | hash | `s` + session, `t` + token → `until at -` |
//! | `p:{user}:epochs` | hash | `u` + epoch → `until at except`; `e` → summary of the epochs |
//! | `p:{user}:tokens` | sorted set | the revoked tokens by `until` |
//! | `p:{}:log` | hash | `k` + key id, `n` + node → `until at -` |
//! | `p:log` | sorted set | all entries, score 0: in the order of [`EntryKey`] |
//! | `p:log:at`, `p:log:until` | sorted set | all entries by `at`; the entries that may be purged, by `until` |
//! | `p:sessions:until` | sorted set | all sessions by absolute expiry |
//! | `p:{user}:account` | hash | the account |
//! | `p:email:…`, `p:username:…` | string | the user who has the name |
//! | `p:accounts` | sorted set | all accounts, score 0: registration + user, so in the order of their registration |
//! | `p:accounts:deleted` | sorted set | the users whose deletion was asked for, by when |
//! | `p:{user}:secrets` | hash | purpose → one-time secret |
//! | `p:secrets:until` | sorted set | all one-time secrets by expiry |
//! | `p:{user}:devices` | hash | digest of a known device → `until` |
//! | `p:devices:until` | sorted set | all known devices by `until` |
//! | `p:audit` | hash | id → record of the audit trail |
//! | `p:audit:at` | sorted set | all records, score 0: time + id, so in the order of time |
//! | `p:audit:name:…`, `p:{user}:audit` | sorted set | the records of a name, and those of a user, likewise |
//! | `p:mail:…` | hash | a mail in the outbox |
//! | `p:outbox:due` | sorted set | the mails that wait, by when they are due |
//! | `p:outbox:dead` | sorted set | the dead letters, score 0: since when + id |
//! | `p:keys:admin` | hash | id → admin key |
//! | `p:throttle:…` | string | a counter of login attempts |
//! | `p:throttles` | sorted set | all counters by their last change |
//! | `p:keys` | hash | `i` + key id → key; `n` + purpose and number → nothing; the field marks the number as taken |
//!
//! No key has an expiry of Redis's own. Expired data is purged by the times in the rows, which come from the clock that
//! the flows use. A server that may evict keys with an expiry therefore finds none here.

use countersign_core::model::{Entry, EntryKey, Target};
use countersign_jwt::key::KeyId;
use countersign_jwt::{Epoch, SessionId, Timestamp, TokenId, UserId};
use uuid::Uuid;

use crate::failure::Failure;
use crate::text::{parsed, time};

/// Separates the parts of a member. No user id and no key id holds this character, and it sorts before all characters
/// that they may hold, so members sort as their parts do.
const SEPARATOR: char = '\u{1}';

/// Stands for no session, where a session may be named.
pub(crate) const NONE: &str = "-";

/// Makes the names of keys.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    prefix: String,
}

impl Names {
    pub(crate) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    pub(crate) fn meta(&self) -> String {
        self.plain("meta")
    }

    pub(crate) fn sessions(&self, user_id: &str) -> String {
        self.of_user(user_id, "sessions")
    }

    /// The user's entries in the log. With an empty user id, the entries that concern no user.
    pub(crate) fn user_log(&self, user_id: &str) -> String {
        self.of_user(user_id, "log")
    }

    pub(crate) fn account(&self, user_id: &str) -> String {
        self.of_user(user_id, "account")
    }

    pub(crate) fn log(&self) -> String {
        self.plain("log")
    }

    pub(crate) fn log_by_at(&self) -> String {
        self.plain("log:at")
    }

    pub(crate) fn log_by_until(&self) -> String {
        self.plain("log:until")
    }

    /// The user's sessions whose row has no mark.
    pub(crate) fn live(&self, user_id: &str) -> String {
        self.of_user(user_id, "live")
    }

    /// The user's epochs. They are kept apart from other entries because they are read often and the others may be
    /// many.
    pub(crate) fn epochs(&self, user_id: &str) -> String {
        self.of_user(user_id, "epochs")
    }

    /// The user's revoked tokens, kept in order to be counted.
    pub(crate) fn tokens(&self, user_id: &str) -> String {
        self.of_user(user_id, "tokens")
    }

    /// The hash that an entry with this field is kept in.
    pub(crate) fn hash_of(&self, user_id: &str, field: &str) -> String {
        if field.starts_with('u') { self.epochs(user_id) } else { self.user_log(user_id) }
    }

    /// The keys of every script that writes to the log: the user's entries, the three sets of all entries, and the
    /// user's epochs and tokens.
    pub(crate) fn whole_log(&self, user_id: &str) -> [String; 6] {
        [
            self.user_log(user_id),
            self.log(),
            self.log_by_at(),
            self.log_by_until(),
            self.epochs(user_id),
            self.tokens(user_id),
        ]
    }

    pub(crate) fn sessions_by_until(&self) -> String {
        self.plain("sessions:until")
    }

    pub(crate) fn email(&self, key: &str) -> String {
        self.of_text("email", key)
    }

    pub(crate) fn username(&self, key: &str) -> String {
        self.of_text("username", key)
    }

    /// All accounts in the order of their registration.
    pub(crate) fn accounts(&self) -> String {
        self.plain("accounts")
    }

    /// The accounts whose deletion was asked for.
    pub(crate) fn deleted_accounts(&self) -> String {
        self.plain("accounts:deleted")
    }

    /// The pattern of the keys of all accounts. A prefix has no character that means something in a pattern.
    pub(crate) fn account_pattern(&self) -> String {
        format!("{}:{{*}}:account", self.prefix)
    }

    /// The user whose account has this key; `None` if it is no account's key.
    pub(crate) fn user_of_account(&self, key: &str) -> Option<UserId> {
        let digits = key.strip_prefix(&self.prefix)?.strip_prefix(":{")?.strip_suffix("}:account")?;
        UserId::new(&String::from_utf8(unhex(digits)?).ok()?).ok()
    }

    pub(crate) fn secrets(&self, user_id: &str) -> String {
        self.of_user(user_id, "secrets")
    }

    pub(crate) fn secrets_by_until(&self) -> String {
        self.plain("secrets:until")
    }

    pub(crate) fn devices(&self, user_id: &str) -> String {
        self.of_user(user_id, "devices")
    }

    pub(crate) fn devices_by_until(&self) -> String {
        self.plain("devices:until")
    }

    /// The records of the audit trail by their ids.
    pub(crate) fn audit(&self) -> String {
        self.plain("audit")
    }

    pub(crate) fn audit_by_time(&self) -> String {
        self.plain("audit:at")
    }

    pub(crate) fn audit_of_name(&self, name: &str) -> String {
        self.of_text("audit:name", name)
    }

    pub(crate) fn audit_of_user(&self, user_id: &str) -> String {
        self.of_user(user_id, "audit")
    }

    pub(crate) fn mail(&self, id: Uuid) -> String {
        format!("{}:mail:{}", self.prefix, id.simple())
    }

    /// The mails that wait, and the dead letters: the first keys of every script that changes mails.
    pub(crate) fn outbox(&self) -> [String; 2] {
        [self.plain("outbox:due"), self.plain("outbox:dead")]
    }

    pub(crate) fn admin_keys(&self) -> String {
        self.plain("keys:admin")
    }

    pub(crate) fn throttle(&self, key: &str) -> String {
        self.of_text("throttle", key)
    }

    pub(crate) fn throttles(&self) -> String {
        self.plain("throttles")
    }

    pub(crate) fn keys(&self) -> String {
        self.plain("keys")
    }

    /// The channel on which nodes tell each other that the log has grown.
    pub(crate) fn channel(&self) -> String {
        self.plain("changed")
    }

    fn plain(&self, name: &str) -> String {
        format!("{}:{name}", self.prefix)
    }

    fn of_text(&self, kind: &str, text: &str) -> String {
        format!("{}:{kind}:{}", self.prefix, hex(text.as_bytes()))
    }

    fn of_user(&self, user_id: &str, name: &str) -> String {
        format!("{}:{{{}}}:{name}", self.prefix, hex(user_id.as_bytes()))
    }
}

/// The member for a session in the set of all sessions by absolute expiry.
pub(crate) fn session_member(user_id: &UserId, id: SessionId) -> String {
    field_member(user_id, &id.to_string())
}

/// The user and the session of a member in the set of all sessions.
pub(crate) fn session_of_member(member: &str) -> Result<(&str, &str), Failure> {
    field_of_member(member)
}

/// The member, in a set of all records of a kind, for the record with this field in a hash of the user.
pub(crate) fn field_member(user_id: &UserId, field: &str) -> String {
    format!("{user_id}{SEPARATOR}{field}")
}

/// The user and the field of a member in a set of all records of a kind.
pub(crate) fn field_of_member(member: &str) -> Result<(&str, &str), Failure> {
    member.split_once(SEPARATOR).ok_or(Failure::Malformed("a set by expiry"))
}

/// The member of a set that is in the order of times, and of things of one moment in the order of their ids.
pub(crate) fn time_member(time: Timestamp, id: &str) -> String {
    format!("{:016}{id}", time.as_millis())
}

/// The id in a member of a set that is in the order of times.
pub(crate) fn id_of_member(member: &str) -> Result<&str, Failure> {
    member.get(16..).ok_or(Failure::Malformed("a set by time"))
}

/// The place in a set in the order of times, read backwards, from which a page goes on after the member, or begins.
pub(crate) fn page_from(after: Option<&str>) -> String {
    after.map_or_else(|| "+".to_owned(), |member| format!("({member}"))
}

/// An epoch as 20 digits, so that epochs compare as texts; Lua's numbers are exact only up to 2^53.
pub(crate) fn digits(epoch: Epoch) -> String {
    format!("{:020}", epoch.as_u64())
}

/// The place where an entry is kept, and the value that is kept of it.
#[derive(Debug)]
pub(crate) struct Line {
    /// The user that the entry concerns; empty for keys and nodes.
    pub(crate) user_id: String,
    /// The field among the user's entries.
    pub(crate) field: String,
    /// The entry's key, which is the first part of its members.
    pub(crate) key: String,
    /// The session that an epoch excepts, or `-`.
    pub(crate) except: String,
}

impl From<&Entry> for Line {
    fn from(entry: &Entry) -> Self {
        let except = match &entry.target {
            Target::User { except: Some(except), .. } => except.to_string(),
            _ => NONE.to_owned(),
        };
        let key = entry.key();
        let field = field(&key);
        Self { key: key_text(&key.user_id, &field), user_id: key.user_id, field, except }
    }
}

/// The field of an entry: its kind's first letter, which sorts as the kinds do, then its number or its reference. An
/// entry's kind has only one of the two.
fn field(key: &EntryKey) -> String {
    match key.kind {
        "user" => format!("u{:020}", key.number),
        kind => format!("{}{}", kind.get(..1).unwrap_or_default(), key.reference),
    }
}

/// The first part of an entry's members. For the beginning of a field, it is the beginning of that part.
pub(crate) fn key_text(user_id: &str, field: &str) -> String {
    format!("{user_id}{SEPARATOR}{field}")
}

/// The lower bound, in the order of all members, for those that come after the entry with this key.
pub(crate) fn after(key: &EntryKey) -> String {
    // The entry's own members go on with the separator, and any other key that starts with this one goes on with more.
    format!("({}\u{2}", key_text(&key.user_id, &field(key)))
}

/// The user and the field of a member of the log.
pub(crate) fn line_of_member(member: &str) -> Result<(&str, &str), Failure> {
    let mut parts = member.split(SEPARATOR);
    match (parts.next(), parts.next()) {
        (Some(user_id), Some(field)) => Ok((user_id, field)),
        _ => Err(Failure::Malformed("log")),
    }
}

/// The entry that a member of the log stands for.
pub(crate) fn entry_of_member(member: &str) -> Result<Entry, Failure> {
    const WHAT: &str = "log";
    let malformed = || Failure::Malformed(WHAT);
    let mut parts = member.split(SEPARATOR);
    let (Some(user_id), Some(field), Some(value), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(malformed());
    };
    let mut values = value.split(' ');
    let (Some(until), Some(at), Some(except), None) =
        (values.next(), values.next(), values.next(), values.next())
    else {
        return Err(malformed());
    };
    let user = || parsed(WHAT, UserId::new(user_id));
    let (kind, reference) = field.split_at_checked(1).ok_or_else(malformed)?;
    let target = match kind {
        "s" => Target::Session { user_id: user()?, id: parsed(WHAT, reference.parse::<SessionId>())? },
        "t" => Target::Token { user_id: user()?, id: parsed(WHAT, reference.parse::<TokenId>())? },
        "u" => Target::User {
            user_id: user()?,
            epoch: Epoch::new(parsed(WHAT, reference.parse())?),
            except: match except {
                NONE => None,
                except => Some(parsed(WHAT, except.parse())?),
            },
        },
        "k" => Target::Key { id: parsed(WHAT, KeyId::new(reference))? },
        "n" => Target::Node { id: parsed(WHAT, Uuid::try_parse(reference))? },
        _ => return Err(malformed()),
    };
    Ok(Entry { target, until: time(WHAT, until)?, at: time(WHAT, at)? })
}

/// The bytes as hexadecimal digits, two for each byte, so that different texts stay different.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let digit = |number: u8| char::from_digit(u32::from(number), 16).unwrap_or_default();
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 0xf)]).collect()
}

/// The bytes that hexadecimal digits stand for; `None` if they are no such digits.
pub(crate) fn unhex(digits: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(digits.len() / 2);
    for pair in digits.as_bytes().chunks(2) {
        let [high, low] = pair else { return None };
        let value = |digit: &u8| char::from(*digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
        bytes.push(value(high)? << 4 | value(low)?);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries() -> Vec<Entry> {
        let mut entries = Vec::new();
        let users = ["a", "ab", "a b", "A", "ä", "z", "{a}", "a}:log", "\u{10ffff}", "0"];
        let entry = |target| Entry { target, until: Timestamp::MAX, at: Timestamp::MIN };
        for user_id in users.map(|text| UserId::new(text).unwrap()) {
            for id in [Uuid::nil(), Uuid::from_u128(0x1234), Uuid::max()] {
                entries.push(entry(Target::Session { user_id: user_id.clone(), id: SessionId::new(id) }));
                entries.push(entry(Target::Token { user_id: user_id.clone(), id: TokenId::new(id) }));
            }
            for (number, except) in
                [(0, None), (9, Some(SessionId::new(Uuid::nil()))), (10, None), (u64::MAX, None)]
            {
                entries.push(entry(Target::User {
                    user_id: user_id.clone(),
                    epoch: Epoch::new(number),
                    except,
                }));
            }
        }
        for id in ["a", "ab", "a b", "A", "é"] {
            entries.push(entry(Target::Key { id: KeyId::new(id).unwrap() }));
        }
        entries.push(entry(Target::Node { id: Uuid::max() }));
        entries
    }

    fn member(entry: &Entry) -> String {
        let Line { key, except, .. } = Line::from(entry);
        format!("{key}{SEPARATOR}{} {} {except}", entry.until.as_millis(), entry.at.as_millis())
    }

    #[test]
    fn members_are_in_the_order_of_their_keys_and_give_the_entries_back() {
        let mut entries = entries();
        entries.sort_by_key(Entry::key);
        let members: Vec<_> = entries.iter().map(member).collect();
        assert!(members.is_sorted(), "{members:?}");
        for (number, (entry, member)) in entries.iter().zip(&members).enumerate() {
            assert_eq!(entry_of_member(member).unwrap(), *entry);
            let line = Line::from(entry);
            assert_eq!(line_of_member(member).unwrap(), (line.user_id.as_str(), line.field.as_str()));
            let start = after(&entry.key());
            let start = start.strip_prefix('(').unwrap();
            for (other, following) in members.iter().enumerate() {
                assert_eq!(following.as_str() > start, other > number, "{following:?} after {member:?}");
            }
        }
    }

    #[test]
    fn sec_155_keys_have_a_fixed_form() {
        let names = Names::new("p");
        let mut keys = std::collections::HashSet::new();
        for text in ["{", "}", "{}", "a:b", "a", "é", "\u{202e}", "*", "p:{61}:log", " ", ""] {
            let of_user = [names.sessions(text), names.live(text), names.user_log(text), names.epochs(text)];
            let accounts = [names.account(text), names.secrets(text), names.devices(text)];
            let audit = [names.audit_of_name(text), names.audit_of_user(text)];
            let named = [names.tokens(text), names.email(text), names.username(text), names.throttle(text)];
            for key in of_user.into_iter().chain(accounts).chain(audit).chain(named) {
                assert!(
                    key.bytes().all(|byte| byte.is_ascii_lowercase() || b"0123456789:{}".contains(&byte))
                );
                assert!(key.matches(['{', '}']).count() <= 2, "{key}");
                assert!(keys.insert(key), "another key for another text");
            }
        }
    }

    #[test]
    fn the_key_of_an_account_tells_its_user() {
        let names = Names::new("p:q");
        for text in ["a", "é😀", "{}", "a b"] {
            let user_id = UserId::new(text).unwrap();
            assert_eq!(names.user_of_account(&names.account(text)), Some(user_id), "{text}");
        }
        for other in [
            "p:{61}:account",
            "p:q:{6}:account",
            "p:q:{6x}:account",
            "p:q:{}:account",
            "p:q:{61}:live",
            "",
            "é",
        ] {
            assert_eq!(names.user_of_account(other), None, "{other}");
        }
    }

    #[test]
    fn members_by_time_are_in_the_order_of_times_and_then_of_ids() {
        let times = [Timestamp::MIN, Timestamp::from_millis(9), Timestamp::from_millis(10), Timestamp::MAX];
        let mut members = Vec::new();
        for time in times {
            for id in ["", "1", "10", "9", "a", "é"] {
                let member = time_member(time, id);
                assert_eq!(id_of_member(&member).unwrap(), id);
                members.push(member);
            }
        }
        assert!(members.is_sorted_by(|one, next| one < next), "{members:?}");
        assert!(id_of_member("1").is_err());
    }

    #[test]
    fn what_this_program_never_writes_is_an_error() {
        for member in [
            "",
            "a",
            "a\u{1}",
            "a\u{1}x\u{1}1 1 -",
            "a\u{1}u1x\u{1}1 1 -",
            "a\u{1}u1\u{1}1 -1 -",
            "a\u{1}u1\u{1}1 9007199254740993 -",
            "a\u{1}u1\u{1}1 1",
            "a\u{1}u1\u{1}1 1 - -",
            "a\u{1}u1\u{1}1 1 -\u{1}",
            "a\u{1}é\u{1}1 1 -",
            "\u{1}u1\u{1}1 1 -",
        ] {
            assert!(entry_of_member(member).is_err(), "{member:?}");
        }
    }
}
