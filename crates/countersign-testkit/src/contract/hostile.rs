//! Texts that have broken stores before: quotes, wildcards, emoji, right-to-left marks, lookalikes, NUL.

use countersign_core::model::{
    Device, EndReason, Entry, Outcome, PasswordHash, Session, Target, ThrottlePolicy, User, Username,
};
use countersign_core::store::{NameKey, SessionEnded, SessionInserted, SessionPage, Stores, UserInserted};
use countersign_jwt::{Timestamp, UserId};

use super::fixture::{Fixture, NOW, end, found, insert, raise, secs, step};
use super::users::{account, hash, shown};

/// Runs every check of hostile texts.
pub async fn run(stores: &Stores) {
    user_ids_are_opaque(stores).await;
    agents_come_back_or_are_refused(stores).await;
    throttle_keys_are_opaque(stores).await;
    names_are_opaque(stores).await;
    password_hashes_come_back_or_are_refused(stores).await;
}

/// The hostile texts. No two of them are the same text, however an engine compares, trims, folds or escapes.
fn texts() -> Vec<String> {
    let mut texts: Vec<String> = [
        "'; DROP TABLE sessions; --",
        "\"quoted\"",
        "`backticked`",
        "back\\slash",
        "50% _off_",
        "50% xoffx",
        "$1 ?1 :name {} [] $ne",
        "*",
        "?",
        "robert",
        "Robert",
        "ROBERT",
        "robert ",
        " robert",
        "ro\u{301}bert",
        "r\u{f3}bert",
        "robe\u{440}t",
        "\u{202e}trebor\u{202c}",
        "\u{5e9}\u{5dc}\u{5d5}\u{5dd}",
        "👩‍👩‍👧‍👦",
        "👩👩👧👦",
        "😀",
        "\u{feff}robert",
        "ﬀ",
        "ff",
        "ß",
        "ss",
        "ı",
        "i",
        "0",
        "00",
        "0.0",
        "null",
        "NULL",
        "a|b",
        "a:b",
        "a/../b",
    ]
    .map(str::to_owned)
    .into();
    texts.push("x".repeat(255));
    texts.push("x".repeat(254));
    texts.push("é".repeat(127));
    texts.push(format!("{}abc", "😀".repeat(63)));
    texts
}

/// A user id is any text of up to 255 bytes without control characters. Different texts are different users.
pub async fn user_ids_are_opaque(stores: &Stores) {
    let fixture = Fixture::new("user_ids_are_opaque");
    let users: Vec<_> = texts().iter().map(|text| UserId::new(text).expect("a user id")).collect();
    let mut sessions = Vec::new();
    for user in &users {
        sessions.push(fixture.begin(stores, user).await);
    }
    for session in &sessions {
        assert_eq!(found(stores, &session.key()).await.session, *session);
        let live = stores
            .sessions()
            .live_sessions(&session.user_id, NOW, SessionPage::first(1_000))
            .await
            .expect("the store answers");
        assert_eq!(live, std::slice::from_ref(session), "{:?} has one session", session.user_id);
    }
    // Changes to every second user must not touch the others.
    for (number, session) in sessions.iter_mut().enumerate() {
        let advancing = step(session, NOW + secs(60), "hostile");
        let advanced =
            stores.sessions().advance(&session.key(), &advancing).await.expect("the store answers");
        advancing.apply(session);
        assert_eq!(advanced.as_ref(), Some(&*session), "{:?} advances", session.user_id);
        if number % 2 == 0 {
            let raised = stores.revocations().raise_epoch(&session.user_id, &raise(None, NOW)).await;
            assert_eq!(raised.expect("the store answers").key().number, 1, "{:?}", session.user_id);
        }
    }
    for (number, session) in sessions.iter().enumerate() {
        let epoch = stores.revocations().epoch(&session.user_id).await.expect("the store answers").as_u64();
        assert_eq!(epoch, u64::from(number % 2 == 0), "{:?} has an epoch of its own", session.user_id);
        let row = found(stores, &session.key()).await;
        assert_eq!(row.session.ended.is_some(), number % 2 == 0, "{:?}", session.user_id);
        let ended = stores.sessions().end_session(&session.key(), &end(EndReason::LoggedOut, NOW)).await;
        let expected = if number % 2 == 0 { SessionEnded::Before } else { SessionEnded::Now };
        assert_eq!(ended.expect("the store answers"), expected);
    }
    let target = |user: &UserId| Target::Token { user_id: user.clone(), id: fixture.token_id() };
    let mut written = Vec::new();
    for user in &users {
        let entry = Entry { target: target(user), until: NOW, at: NOW };
        stores.revocations().insert_entry(&entry).await.expect("the store answers");
        written.push(entry);
    }
    let mut after = None;
    let mut read = Vec::new();
    loop {
        let page =
            stores.revocations().entries(Timestamp::MIN, after.as_ref(), 7).await.expect("the store answers");
        after = page.last().cloned();
        read.extend(page);
        if after.is_none() {
            break;
        }
    }
    assert!(written.iter().all(|entry| read.contains(entry)), "every entry comes back with its user's id");
}

/// A client's agent comes back as it was, or the store reports that it cannot keep it.
pub async fn agents_come_back_or_are_refused(stores: &Stores) {
    let fixture = Fixture::new("agents_come_back_or_are_refused");
    let user = fixture.user();
    let mut agents: Vec<String> = texts();
    agents.push("😀".repeat(Device::MAX_AGENT_CHARS));
    agents.push(String::new());
    for agent in agents {
        let device = Device { user_agent: Some(agent), ..Device::default() };
        let session = Session { device, ..fixture.session(&user) };
        insert(stores, &session).await;
        assert_eq!(found(stores, &session.key()).await.session, session);
    }
    // `Device::new` removes these characters, but the fields are public, so a store may still receive them.
    for agent in ["nul\0inside", "\0", "line\nbreak", "\u{1b}[31m"] {
        let device = Device { user_agent: Some(agent.to_owned()), ..Device::default() };
        let session = Session { device, ..fixture.session(&user) };
        match stores.sessions().insert_session(&session).await {
            Ok(inserted) => {
                assert_eq!(inserted, SessionInserted::Yes);
                assert_eq!(found(stores, &session.key()).await.session, session, "kept whole, not cut");
            }
            Err(_) => {
                let there = stores.sessions().session(&session.key()).await.expect("the store answers");
                assert_eq!(there, None, "refused means not there");
            }
        }
    }
}

/// Different keys are different counters.
pub async fn throttle_keys_are_opaque(stores: &Stores) {
    let policy = ThrottlePolicy::default();
    let texts = texts();
    for (text, failures) in texts.iter().zip(1..) {
        let key = format!("user:{text}");
        for _ in 0..failures % 4 {
            let begun =
                stores.throttles().begin_attempt(&key, NOW, &policy).await.expect("the store answers");
            assert_eq!(begun, Ok(()), "{key:?} has a counter of its own");
            let finished = stores.throttles().finish_attempt(&key, Outcome::Failed, NOW, &policy).await;
            finished.expect("the store answers");
        }
    }
    for (text, failures) in texts.iter().zip(1..) {
        let key = format!("user:{text}");
        let counted = stores.throttles().attempts(&key).await.expect("the store answers").unwrap_or_default();
        assert_eq!(counted.failures, failures % 4, "{key:?}");
    }
}

/// Every text that may be an account's name works as one, and only the keys of two names tell a store whether they are
/// the same.
pub async fn names_are_opaque(stores: &Stores) {
    let fixture = Fixture::new("names_are_opaque");
    let mut keys = std::collections::HashSet::new();
    let names = texts().into_iter().filter_map(|text| Username::parse(&text).ok());
    for (number, name) in names.filter(|name| keys.insert(name.key().to_owned())).enumerate() {
        let email = format!("o'neil+{number}%_@hostile.example");
        let user = User { username: Some(name.clone()), ..account(&fixture, &email, None) };
        let inserted = stores.users().insert_user(&user).await.expect("the store answers");
        assert_eq!(inserted, UserInserted::Yes, "{name:?}");
        for key in
            [NameKey::Username(name.key()), NameKey::Email(user.email.as_ref().expect("an address").key())]
        {
            let found = stores.users().user_by_name(key).await.expect("the store answers");
            assert_eq!(found.as_ref().map(shown), Some(shown(&user)), "{name:?}");
        }
    }
    for wildcard in ["%", "_", "rob%", "r*", ".+", "' OR 1=1 --", "o'neil+_%@hostile.example"] {
        for key in [NameKey::Email(wildcard), NameKey::Username(wildcard)] {
            let found = stores.users().user_by_name(key).await.expect("the store answers");
            assert!(found.is_none(), "{wildcard:?} is no name");
        }
    }
}

/// A password hash is any text, and is compared byte by byte.
pub async fn password_hashes_come_back_or_are_refused(stores: &Stores) {
    let fixture = Fixture::new("password_hashes_come_back_or_are_refused");
    let user = account(&fixture, "ada@hashes.example", None);
    let inserted = stores.users().insert_user(&user).await.expect("the store answers");
    assert_eq!(inserted, UserInserted::Yes);
    let replace = async |old: &PasswordHash, new: &PasswordHash| {
        stores.users().replace_password_hash(&user.id, Some(old), new).await
    };
    let other_case = PasswordHash::from_stored(hash("one").expose().to_uppercase());
    let padded = PasswordHash::from_stored(format!("{} ", hash("one").expose()));
    for old in [&other_case, &padded] {
        let replaced = replace(old, &hash("two")).await.expect("the store answers");
        assert!(!replaced, "a hash that differs in case or by a space is another one");
    }
    let mut current = hash("one");
    let mut candidates = texts();
    candidates.extend(["nul\0inside".to_owned(), "é".repeat(500)]);
    for text in candidates {
        let new = PasswordHash::from_stored(text);
        if matches!(replace(&current, &new).await, Ok(true)) {
            current = new;
        }
        let found =
            stores.users().user(&user.id).await.expect("the store answers").expect("the user is there");
        assert_eq!(found.password_hash.as_ref().map(PasswordHash::expose), Some(current.expose()));
    }
}
