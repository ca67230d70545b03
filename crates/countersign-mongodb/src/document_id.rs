//! The `_id`s of documents: texts that sort the same way on every engine.

use countersign_core::model::{EntryKey, Purpose, UserSession};
use countersign_jwt::UserId;

/// Separates the parts of an `_id`. No user, key or session id holds a control character, so the parts cannot run into
/// each other. The separator sorts before every character that ids do hold, so a shorter part sorts first.
const SEPARATOR: char = '\t';

/// A session's `_id`, made of its user and its id. Sessions are sharded by user, and an engine enforces unique `_id`s
/// only within a shard. That is enough, because equal `_id`s have equal users and so are on the same shard.
pub(crate) fn session(key: &UserSession) -> String {
    let mut id = String::new();
    escape(&mut id, key.user_id.as_str());
    id.push(SEPARATOR);
    id.push_str(&key.id.to_string());
    id
}

/// An entry's `_id`. Ordered by `_id`, entries are in the order of their keys, byte by byte.
pub(crate) fn entry(key: &EntryKey) -> String {
    let mut id = String::new();
    escape(&mut id, &key.user_id);
    id.push(SEPARATOR);
    id.push_str(key.kind);
    id.push(SEPARATOR);
    escape(&mut id, &key.reference);
    id.push(SEPARATOR);
    // The number has as many digits as the highest one, so that 10 sorts after 9.
    id.push_str(&format!("{:020}", key.number));
    id
}

/// The `_id` of a one-time secret, made of its user and its purpose.
pub(crate) fn secret(user_id: &UserId, purpose: Purpose) -> String {
    let mut id = String::new();
    escape(&mut id, user_id.as_str());
    id.push(SEPARATOR);
    id.push_str(purpose.name());
    id
}

/// The `_id` of a claim on a name.
pub(crate) fn name(kind: &str, key: &str) -> String {
    format!("{kind}{SEPARATOR}{key}")
}

/// Appends the text in ASCII only, in a form that keeps its order.
///
/// MongoDB and FerretDB compare texts by bytes, mongo-java-server by UTF-16 units, which differs from U+E000 on. All
/// agree about ASCII. The escape character is the highest printable one, so the text that it begins sorts last.
fn escape(id: &mut String, text: &str) {
    const ESCAPE: u8 = b'~';
    for byte in text.bytes() {
        if byte < ESCAPE {
            id.push(char::from(byte));
        } else {
            id.push_str(&format!("{}{byte:02x}", char::from(ESCAPE)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(user_id: &str, kind: &'static str, reference: &str, number: u64) -> EntryKey {
        EntryKey { user_id: user_id.to_owned(), kind, reference: reference.to_owned(), number }
    }

    #[test]
    fn the_ids_of_entries_sort_as_their_keys_do_and_are_as_different() {
        let texts =
            ["", "a", "a b", "ab", "B", "~", "~7", "}", "é", "ﬀ", "😀", "\u{feff}", "z~", "zz", "\u{e000}"];
        let mut keys = Vec::new();
        for user_id in texts {
            for reference in texts {
                for (kind, number) in [("key", 0), ("user", 9), ("user", 10), ("user", u64::MAX)] {
                    keys.push(key(user_id, kind, reference, number));
                }
            }
        }
        keys.sort();
        let ids: Vec<_> = keys.iter().map(entry).collect();
        assert!(ids.is_sorted_by(|one, next| one < next), "{ids:#?}");
        assert!(ids.iter().all(|id| id.is_ascii()));
    }
}
