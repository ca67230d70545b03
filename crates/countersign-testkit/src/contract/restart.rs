//! Checks that everything a store has acknowledged is still there after a restart.

use std::time::Duration;

use countersign_core::model::{
    Acknowledgement, Attempts, EndReason, Entry, KeyPurpose, Outcome, StoredKey, ThrottlePolicy, UserSession,
};
use countersign_core::store::{FoundSession, Stores, TokenRevocation, TokensRevoked, UserInserted};
use countersign_jwt::{Algorithm, KeyId, Timestamp, UserId};

use super::Backend;
use super::fixture::{Fixture, NOW, end, heal, raise, secs, step};
use super::users::{account, shown};

/// Writes one record of each kind, opens the database again, and finds every record as it was.
pub async fn everything_survives(backend: &dyn Backend) {
    let fixture = Fixture::new("everything_survives");
    let stores = backend.fresh().await;
    let user = account(&fixture, "ada@restart.example", Some("restart_ada"));
    assert_eq!(stores.users().insert_user(&user).await.expect("the store answers"), UserInserted::Yes);

    let mut sessions = Vec::new();
    for _ in 0..5 {
        sessions.push(fixture.begin(&stores, &user.id).await);
    }
    let [advanced, healed, acknowledged, ended, _untouched] = sessions.as_slice() else {
        panic!("there are five")
    };
    let answered = "the store answers";
    let stepped = stores.sessions().advance(&advanced.key(), &step(advanced, NOW, "next")).await;
    assert!(stepped.expect(answered).is_some());
    assert!(stores.sessions().heal(&healed.key(), &heal(healed, NOW + secs(1))).await.expect(answered));
    let seen = Acknowledgement {
        user_id: user.id.clone(),
        session_id: acknowledged.id,
        generation: acknowledged.generation,
    };
    stores.sessions().acknowledge(&[seen], NOW).await.expect(answered);
    stores.sessions().end_session(&ended.key(), &end(EndReason::LoggedOut, NOW)).await.expect(answered);
    stores.revocations().raise_epoch(&user.id, &raise(Some(advanced.id), NOW)).await.expect(answered);
    let tokens =
        TokenRevocation { ids: vec![fixture.token_id()], at: NOW, until: NOW + secs(910), limit: 10 };
    let revoked = stores.revocations().revoke_tokens(&user.id, &tokens).await.expect(answered);
    assert_eq!(revoked, TokensRevoked::Yes);
    let policy = ThrottlePolicy::default();
    for _ in 0..2 {
        assert_eq!(stores.throttles().begin_attempt("restart", NOW, &policy).await.expect(answered), Ok(()));
    }
    stores.throttles().finish_attempt("restart", Outcome::Failed, NOW, &policy).await.expect(answered);
    let key = StoredKey {
        purpose: KeyPurpose::Refresh,
        number: 1,
        key_id: KeyId::new("restart").expect("a key id"),
        algorithm: Algorithm::Hs256,
        sealed: vec![0, 1, 254, 255],
        created_at: NOW,
        active_at: NOW + Duration::from_secs(5),
        removed_at: None,
    };
    assert!(stores.keys().insert_key(&key).await.expect(answered));
    let store_id = stores.keys().store_id(fixture.uuid()).await.expect(answered);

    assert!(stores.keys().replace_settings(None, "{\"issuer\":\"restart\"}").await.expect(answered));

    let keys: Vec<_> = sessions.iter().map(countersign_core::model::Session::key).collect();
    let before = Snapshot::take(&stores, &user.id, &keys).await;
    let Some(stores) = backend.reopen(stores).await else { return };
    assert_eq!(Snapshot::take(&stores, &user.id, &keys).await, before, "everything is there after a restart");
    let again = stores.keys().store_id(fixture.uuid()).await.expect(answered);
    assert_eq!(again, store_id, "the store is the same store");
    let next = stores.revocations().raise_epoch(&user.id, &raise(None, NOW)).await.expect(answered);
    assert_eq!(next.key().number, 2, "epochs go on where they were");
}

#[derive(Debug, PartialEq)]
struct Snapshot {
    sessions: Vec<Option<FoundSession>>,
    entries: Vec<Entry>,
    user: Option<String>,
    attempts: Option<Attempts>,
    keys: Vec<StoredKey>,
    settings: Option<String>,
}

impl Snapshot {
    async fn take(stores: &Stores, user_id: &UserId, keys: &[UserSession]) -> Self {
        let answered = "the store answers";
        let mut sessions = Vec::new();
        for key in keys {
            sessions.push(stores.sessions().session(key).await.expect(answered));
        }
        Self {
            sessions,
            entries: stores.revocations().entries(Timestamp::MIN, None, 1_000).await.expect(answered),
            user: stores.users().user(user_id).await.expect(answered).as_ref().map(shown),
            attempts: stores.throttles().attempts("restart").await.expect(answered),
            keys: stores.keys().keys().await.expect(answered),
            settings: stores.keys().settings().await.expect(answered),
        }
    }
}
