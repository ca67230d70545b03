//! Tokens of another library in sessions of this one: adopted, renewed, listed, ended.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "clippy takes only functions with #[test] for tests"
)]

use std::sync::Arc;
use std::time::Duration;

use countersign_core::flow::{Check, CheckError, Refresh, RefreshError, TokenFormat};
use countersign_core::model::{Device, EndReason, Refusal, SessionPolicy};
use countersign_core::store::{MemoryStore, SessionPage};
use countersign_jwt::jws::SignError;
use countersign_jwt::{
    Algorithm, Claims, Clock as _, Issuer, KeyRing, NewClaims, SessionId, SigningKey, TokenId, TokenType,
    UserId, Verifier,
};
use countersign_testkit::{BedConfig, Instrumented, Point, TestBed};
use tokio::task::JoinSet;
use uuid::Uuid;

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

const DAY: Duration = secs(86_400);

/// The other library: it has a key, and knows of no sessions.
#[derive(Debug)]
struct Other(Issuer);

impl TokenFormat for Other {
    fn issue(&self, claims: &NewClaims) -> Result<String, SignError> {
        self.0.issue(claims)
    }
}

fn key() -> SigningKey {
    SigningKey::hmac(Algorithm::Hs256, b"7hK2-other-library-key-Qx9Lm4Vt8Zr1").unwrap()
}

async fn bed() -> (Instrumented, TestBed) {
    let watched = Instrumented::new(MemoryStore::new());
    let policy = SessionPolicy { idle: 30 * DAY, ..SessionPolicy::default() };
    let format: Arc<dyn TokenFormat> = Arc::new(Other(Issuer::new(key())));
    let config = BedConfig { policy, format: Some(format), ..BedConfig::default() };
    (watched.clone(), TestBed::with(watched.stores(), config).await)
}

fn ada() -> UserId {
    UserId::new("ada").unwrap()
}

/// What the other library issued, verified.
fn verified(bed: &TestBed, claims: NewClaims) -> Claims {
    let token = Issuer::new(key()).issue(&claims).unwrap();
    read(bed, claims.token_type(), &token)
}

fn read(bed: &TestBed, token_type: TokenType, token: &str) -> Claims {
    let mut ring = KeyRing::new();
    ring.insert(key().verifying_key()).unwrap();
    Verifier::with_fixed_keys(token_type, ring).verify(token, bed.clock.now()).unwrap()
}

fn refresh_token(bed: &TestBed, number: u128) -> Claims {
    let (id, now) = (TokenId::new(Uuid::from_u128(number)), bed.clock.now());
    verified(bed, NewClaims::new(TokenType::Refresh, ada(), id, now, now + 30 * DAY))
}

fn access_token(bed: &TestBed, number: u128) -> Claims {
    let (id, now) = (TokenId::new(Uuid::from_u128(number)), bed.clock.now());
    verified(bed, NewClaims::new(TokenType::Access, ada(), id, now, now + secs(900)))
}

async fn renew(bed: &TestBed, token: &Claims) -> Result<Claims, RefreshError> {
    let renewed = Refresh::of(&bed.sessions).renew(token, true, Device::new(Some("Tab/1.0"), None)).await?;
    Ok(read(bed, TokenType::Access, &renewed.access_token))
}

#[tokio::test]
async fn a_refresh_token_without_a_session_gets_one_named_by_its_jti() {
    let (_, bed) = bed().await;
    let token = refresh_token(&bed, 7);
    bed.clock.advance(secs(60));
    let access = renew(&bed, &token).await.unwrap();
    assert_eq!(access.session().unwrap().id, SessionId::new(Uuid::from_u128(7)));
    bed.sessions.verification().recheck(&access, Check::ACCESS.even_if_expired()).await.unwrap();
    let listed = bed.sessions.list(&ada(), SessionPage::first(1_000)).await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(Some(listed[0].created_at), token.issued_at());
    assert_eq!(Some(listed[0].expires_at()), token.expires_at());
    assert_eq!(listed[0].last_seen_at, bed.clock.now());
    assert_eq!(listed[0].device.user_agent.as_deref(), Some("Tab/1.0"));
}

#[tokio::test]
async fn the_same_refresh_token_is_good_again_and_again() {
    let (_, bed) = bed().await;
    let token = refresh_token(&bed, 7);
    let mut ids = Vec::new();
    for _ in 0..5 {
        bed.clock.advance(DAY);
        let access = renew(&bed, &token).await.unwrap();
        bed.sessions.verification().recheck(&access, Check::ACCESS.even_if_expired()).await.unwrap();
        ids.push(access.token_id());
    }
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 5, "every access token has an id of its own");
    assert_eq!(bed.sessions.list(&ada(), SessionPage::first(1_000)).await.unwrap().len(), 1);
    assert!(bed.events.take().is_empty(), "and nobody takes it for a replay");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn parallel_refreshes_of_a_new_token_make_one_session_and_all_succeed() {
    let (_, bed) = bed().await;
    let token = refresh_token(&bed, 7);
    let mut tasks = JoinSet::new();
    for _ in 0..64 {
        let (bed, token) = (bed.clone(), token.clone());
        tasks.spawn(async move { renew(&bed, &token).await.unwrap().session().unwrap().id });
    }
    let ids = tasks.join_all().await;
    assert!(ids.iter().all(|id| *id == ids[0]));
    assert_eq!(bed.sessions.list(&ada(), SessionPage::first(1_000)).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_logout_with_a_token_that_was_never_shown_before_lasts_as_long_as_the_token() {
    let (_, bed) = bed().await;
    let token = refresh_token(&bed, 7);
    assert!(bed.sessions.end_by_tokens(vec![token.clone()], EndReason::LoggedOut).await.unwrap());
    for _ in 0..29 {
        assert!(matches!(renew(&bed, &token).await, Err(RefreshError::Refused(Refusal::Ended))));
        bed.clock.advance(DAY);
        let before = bed.clock.now() - secs(3600);
        bed.stores.revocations().purge_entries(before, 1000).await.unwrap();
        bed.stores.sessions().purge_sessions(before, 1000).await.unwrap();
        bed.sessions.view().index().prune(bed.clock.now());
        bed.sessions.view().poll().await.unwrap();
    }
    assert!(bed.sessions.list(&ada(), SessionPage::first(1_000)).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_refresh_token_revoked_by_its_jti_is_dead_as_long_as_it_lives_adopted_or_not() {
    for adopted in [false, true] {
        let (_, bed) = bed().await;
        let token = refresh_token(&bed, 7);
        if adopted {
            renew(&bed, &token).await.unwrap();
        }
        bed.sessions.revoke_tokens(ada(), vec![token.token_id()]).await.unwrap();
        for _ in 0..29 {
            assert!(renew(&bed, &token).await.is_err(), "adopted: {adopted}");
            bed.clock.advance(DAY);
            bed.stores.revocations().purge_entries(bed.clock.now() - secs(3600), 1000).await.unwrap();
            bed.sessions.view().index().prune(bed.clock.now());
            bed.sessions.view().poll().await.unwrap();
        }
    }
}

#[tokio::test]
async fn log_out_everywhere_ends_tokens_without_a_session_that_are_not_younger() {
    let (_, bed) = bed().await;
    let (old_access, old_refresh, adopted) =
        (access_token(&bed, 1), refresh_token(&bed, 2), refresh_token(&bed, 3));
    renew(&bed, &adopted).await.unwrap();
    bed.sessions.verification().recheck(&old_access, Check::ACCESS.even_if_expired()).await.unwrap();
    bed.sessions.end_all(ada(), None, EndReason::AllEnded).await.unwrap();
    // Issued in the same second: nobody can say whether before or after.
    let same_second = access_token(&bed, 4);
    for token in [&old_access, &same_second] {
        assert!(matches!(
            bed.sessions.verification().recheck(token, Check::ACCESS.even_if_expired()).await,
            Err(CheckError::Revoked(_))
        ));
    }
    for token in [&old_refresh, &adopted] {
        assert!(matches!(renew(&bed, token).await, Err(RefreshError::Refused(_))));
    }
    bed.clock.advance(secs(1));
    bed.sessions
        .verification()
        .recheck(&access_token(&bed, 5), Check::ACCESS.even_if_expired())
        .await
        .unwrap();
    renew(&bed, &refresh_token(&bed, 6)).await.unwrap();
    assert_eq!(bed.sessions.list(&ada(), SessionPage::first(1_000)).await.unwrap().len(), 1);
}

#[tokio::test]
async fn log_out_everywhere_during_an_adoption_wins() {
    let (watched, bed) = bed().await;
    let token = refresh_token(&bed, 7);
    bed.clock.advance(secs(5));
    let mut gate = watched.hold(Point::Before("insert_session"));
    let adopting = tokio::spawn({
        let (bed, token) = (bed.clone(), token.clone());
        async move { renew(&bed, &token).await }
    });
    gate.arrived().await;
    bed.sessions.end_all(ada(), None, EndReason::AllEnded).await.unwrap();
    gate.open();
    let refused = adopting.await.unwrap();
    assert!(matches!(refused, Err(RefreshError::Refused(Refusal::EpochRaised))), "{refused:?}");
    assert!(bed.sessions.list(&ada(), SessionPage::first(1_000)).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_logout_revokes_an_access_token_that_names_no_session() {
    let (_, bed) = bed().await;
    let (shown, other) = (access_token(&bed, 1), access_token(&bed, 2));
    assert!(bed.sessions.end_by_tokens(vec![shown.clone()], EndReason::LoggedOut).await.unwrap());
    assert!(matches!(
        bed.sessions.verification().recheck(&shown, Check::ACCESS.even_if_expired()).await,
        Err(CheckError::Revoked(_))
    ));
    bed.sessions.verification().recheck(&other, Check::ACCESS.even_if_expired()).await.unwrap();
}

#[tokio::test]
async fn a_token_older_than_what_the_log_remembers_is_refused() {
    let (_, bed) = bed().await;
    let now = bed.clock.now();
    let long = |number, token_type| {
        let id = TokenId::new(Uuid::from_u128(number));
        verified(&bed, NewClaims::new(token_type, ada(), id, now, now + 1000 * DAY))
    };
    let (access, refresh) = (long(1, TokenType::Access), long(2, TokenType::Refresh));
    bed.sessions.verification().recheck(&access, Check::ACCESS.even_if_expired()).await.unwrap();
    bed.clock.advance(31 * DAY);
    bed.sessions.view().poll().await.unwrap();
    assert!(matches!(
        bed.sessions.verification().recheck(&access, Check::ACCESS.even_if_expired()).await,
        Err(CheckError::Invalid(_))
    ));
    assert!(matches!(renew(&bed, &refresh).await, Err(RefreshError::Refused(Refusal::Expired))));
}

#[tokio::test]
async fn the_users_own_sessions_are_renewed_without_rotation_too() {
    let (_, bed) = bed().await;
    let pair = bed.register("ada").await.unwrap().pair;
    let token = read(&bed, TokenType::Refresh, &pair.refresh_token);
    for _ in 0..3 {
        bed.clock.advance(DAY);
        let access = renew(&bed, &token).await.unwrap();
        assert_eq!(access.session().unwrap().id, pair.session.id);
        assert!(!access.freshness().is_fresh(bed.clock.now()));
    }
    bed.sessions.end_by_tokens(vec![token.clone()], EndReason::LoggedOut).await.unwrap();
    assert!(matches!(renew(&bed, &token).await, Err(RefreshError::Refused(Refusal::Ended))));
    assert!(matches!(
        Refresh::of(&bed.sessions).check_renewal(&token).await,
        Err(RefreshError::Refused(Refusal::Ended))
    ));
}

#[tokio::test]
async fn a_disabled_user_renews_nothing_and_an_access_token_is_no_refresh_token() {
    let (_, bed) = bed().await;
    let token = refresh_token(&bed, 7);
    let refused = Refresh::of(&bed.sessions).renew(&token, false, Device::default()).await;
    assert!(matches!(refused, Err(RefreshError::Refused(Refusal::User))));
    assert!(matches!(renew(&bed, &access_token(&bed, 8)).await, Err(RefreshError::Invalid(_))));
}

#[tokio::test]
async fn sec_216_tokens_of_another_library_count_towards_the_cap_from_their_first_refresh_on() {
    let (_, bed) = bed().await;
    let mut tokens = Vec::new();
    for number in 0..103 {
        bed.clock.advance(secs(1));
        tokens.push(refresh_token(&bed, number));
    }
    for token in &tokens {
        renew(&bed, token).await.unwrap();
    }
    assert_eq!(bed.sessions.list(&ada(), SessionPage::first(1_000)).await.unwrap().len(), 100);
    let oldest = renew(&bed, &tokens[0]).await.unwrap_err();
    assert!(matches!(oldest, RefreshError::Refused(Refusal::Ended)), "{oldest}");
    renew(&bed, tokens.last().unwrap()).await.unwrap();

    // One that is older than all others has no place, and ending it by a logout takes none from them.
    bed.clock.advance(secs(1));
    let newer = refresh_token(&bed, 200);
    bed.sessions.end_by_tokens(vec![newer.clone()], EndReason::LoggedOut).await.unwrap();
    assert_eq!(bed.sessions.list(&ada(), SessionPage::first(1_000)).await.unwrap().len(), 100);
    assert!(renew(&bed, &newer).await.is_err());
}

#[tokio::test]
async fn many_renewals_on_a_view_that_is_too_old_read_the_log_once() {
    let (watched, bed) = bed().await;
    let tokens: Vec<_> = (1..=20).map(|number| refresh_token(&bed, number)).collect();
    bed.clock.advance(bed.sessions.policy().revocation_bound + secs(1));
    watched.reset_calls();
    let mut reading = watched.hold(Point::Before("entries"));
    let mut renewals = JoinSet::new();
    for token in tokens {
        let bed = bed.clone();
        renewals.spawn(async move { renew(&bed, &token).await.map(drop) });
    }
    // All of them have asked by the time the log is read.
    reading.arrived().await;
    reading.open();
    while let Some(renewed) = renewals.join_next().await {
        renewed.unwrap().unwrap();
    }
    assert!(watched.calls("entries") <= 2, "{} reads of the log", watched.calls("entries"));
}
