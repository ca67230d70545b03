//! The promises of [`AdminKeyStore`](countersign_core::store::AdminKeyStore) and
//! [`AuditStore`](countersign_core::store::AuditStore). The checks need a database of their own.

#![expect(clippy::indexing_slicing, reason = "the bounds are those of the check's own rows")]

use countersign_core::model::{AdminKey, AdminScope, AuditRecord, SecretDigest};
use countersign_core::store::{AuditPage, Stores};
use countersign_jwt::UserId;

use super::fixture::{Fixture, NOW, secs};

/// Runs every check of admin keys and of the audit trail.
pub async fn run(stores: &Stores) {
    admin_keys_are_kept_listed_and_removed(stores).await;
    the_audit_trail_is_read_in_pages_and_purged(stores).await;
}

/// Every field reads back, an id is taken once, and a removed key is gone.
pub async fn admin_keys_are_kept_listed_and_removed(stores: &Stores) {
    let fixture = Fixture::new("admin_keys_are_kept_listed_and_removed");
    let store = stores.admin_keys();
    let key = |name: &str, number: u64| AdminKey {
        id: fixture.uuid(),
        name: name.to_owned(),
        digest: SecretDigest::of(name),
        scopes: AdminScope::ALL.into_iter().take(usize::try_from(number).unwrap_or(0)).collect(),
        created_at: NOW + secs(number),
        expires_at: number.is_multiple_of(2).then(|| NOW + secs(1_000 + number)),
    };
    assert!(store.admin_keys().await.expect("the store answers").is_empty());
    let keys = [key("o'neil \"😀\" 50%", 1), key("", 2), key("all", 7)];
    // The list is by time and not by insertion.
    for number in [2, 0, 1] {
        assert!(store.insert_admin_key(&keys[number]).await.expect("the store answers"));
    }
    for key in &keys {
        assert_eq!(store.admin_key(key.id).await.expect("the store answers").as_ref(), Some(key));
    }
    assert_eq!(store.admin_keys().await.expect("the store answers"), keys, "the oldest first");
    let twin = AdminKey { id: keys[0].id, ..key("twin", 3) };
    assert!(!store.insert_admin_key(&twin).await.expect("the store answers"), "the id is taken");
    assert_eq!(store.admin_key(twin.id).await.expect("the store answers").as_ref(), Some(&keys[0]));
    assert_eq!(store.admin_key(fixture.uuid()).await.expect("the store answers"), None);
    for expected in [true, false] {
        assert_eq!(store.remove_admin_key(keys[0].id).await.expect("the store answers"), expected);
    }
    assert_eq!(store.admin_key(keys[0].id).await.expect("the store answers"), None);
    assert_eq!(store.admin_keys().await.expect("the store answers"), keys[1..]);
}

/// Records read back newest first, by user and by name, in pages without gaps; an id is kept once; purging takes the
/// oldest.
pub async fn the_audit_trail_is_read_in_pages_and_purged(stores: &Stores) {
    let fixture = Fixture::new("the_audit_trail_is_read_in_pages_and_purged");
    let store = stores.audit();
    let users = [fixture.user(), UserId::new("o'neil %_ 😀").expect("a user id")];
    let mut all = Vec::new();
    for number in 0_u64..21 {
        all.push(AuditRecord {
            id: fixture.uuid(),
            at: NOW + secs(number / 4),
            name: if number % 3 == 0 { "session_began" } else { "login_failed" }.to_owned(),
            user_id: (number % 5 != 0).then(|| users[usize::from(number % 2 == 0)].clone()),
            session_id: (number % 3 == 0).then(|| fixture.session_id()),
            ip: (number % 4 != 0).then(|| {
                if number % 2 == 0 { "192.0.2.7" } else { "2001:db8::7" }.parse().expect("an address")
            }),
            actor: (number % 7 == 0).then(|| "key \"ops\" 😀".to_owned()),
            detail: (number % 6 == 0).then(|| "reason=logged_out".to_owned()),
        });
    }
    store.insert_audit(&all[..10]).await.expect("the store answers");
    // Repeating a call that may have succeeded is safe.
    store.insert_audit(&all).await.expect("the store answers");
    store.insert_audit(&[]).await.expect("the store answers");
    all.sort_by_key(|record| std::cmp::Reverse(record.position()));
    let read = async |user_id: Option<&UserId>, name: Option<&str>, limit: usize| {
        let (mut after, mut found) = (None, Vec::new());
        loop {
            let page = AuditPage { user_id, name, after, limit };
            let records = store.audit(&page).await.expect("the store answers");
            assert!(records.len() <= limit);
            let Some(last) = records.last() else { return found };
            after = Some(last.position());
            found.extend(records);
        }
    };
    for user_id in [None, Some(&users[0]), Some(&users[1])] {
        for name in [None, Some("session_began"), Some("session_%")] {
            let expected: Vec<_> = all
                .iter()
                .filter(|record| user_id.is_none_or(|user_id| record.user_id.as_ref() == Some(user_id)))
                .filter(|record| name.is_none_or(|name| record.name == name))
                .cloned()
                .collect();
            for limit in [1, 4, 100] {
                assert_eq!(
                    read(user_id, name, limit).await,
                    expected,
                    "{user_id:?} {name:?}, {limit} a page"
                );
            }
        }
    }
    for (before, limit, expected, left) in [(0, 10, 0, 21), (2, 3, 3, 18), (2, 100, 5, 13), (100, 100, 13, 0)]
    {
        let purged = store.purge_audit(NOW + secs(before), limit).await.expect("the store answers");
        assert_eq!(purged, expected, "before {before}, at most {limit}");
        assert_eq!(read(None, None, 100).await, all[..left], "the newest stay");
    }
}
