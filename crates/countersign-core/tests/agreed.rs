//! The settings that all programs of one store share, and the issuers that it remembers.

#![allow(clippy::unwrap_used, reason = "clippy takes only functions with #[test] for tests")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use countersign_core::flow::{Agreement, AgreementError, agree};
use countersign_core::model::{AgreedSettings, GraceFor, Own, SessionPolicy, Stance};
use countersign_core::store::{KeyStore as _, MemoryStore};
use countersign_jwt::Timestamp;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
const DAY: Duration = Duration::from_secs(86_400);

fn own(issuer: &str) -> Own {
    Own {
        issuer: Some(issuer.to_owned()),
        maybe_before: Vec::new(),
        policy: SessionPolicy::default(),
        settings: BTreeMap::from([("profile".to_owned(), "native".to_owned())]),
    }
}

fn with_policy(change: impl FnOnce(&mut SessionPolicy)) -> Own {
    let mut own = own("https://auth.example");
    change(&mut own.policy);
    own
}

async fn start(store: &MemoryStore, own: &Own, stance: Stance) -> Result<Agreement, AgreementError> {
    agree(store, own, stance, NOW).await
}

async fn record(store: &MemoryStore) -> AgreedSettings {
    AgreedSettings::parse(&store.settings().await.unwrap().unwrap()).unwrap()
}

fn known(agreement: &Agreement) -> Vec<&str> {
    agreement.issuers.iter().map(|known| known.issuer.as_str()).collect()
}

#[tokio::test]
async fn a_program_whose_settings_differ_is_refused_and_told_both_values() {
    let secs = Duration::from_secs;
    let cases: [(&str, Own, &str); 11] = [
        ("access_lifetime", with_policy(|policy| policy.access_lifetime = secs(3600)), "1h here and 15m"),
        ("fresh_for", with_policy(|policy| policy.fresh_for = Some(secs(90))), "90s here and unset"),
        ("idle", with_policy(|policy| policy.idle = 7 * DAY), "7d here and 14d"),
        ("absolute", with_policy(|policy| policy.absolute = 60 * DAY), "60d here and 30d"),
        ("grace", with_policy(|policy| policy.grace = Duration::ZERO), "0s here and 30s"),
        (
            "grace_for",
            with_policy(|policy| policy.grace_for = GraceFor::SameClient),
            "same-client here and anyone",
        ),
        ("healing", with_policy(|policy| policy.healing = false), "off here and on"),
        ("leeway", with_policy(|policy| policy.leeway = secs(11)), "11s here and 10s"),
        ("revocation_bound", with_policy(|policy| policy.revocation_bound = secs(60)), "1m here and 5s"),
        (
            "access_lifetime",
            with_policy(|policy| policy.access_lifetime = Duration::from_millis(1500)),
            "1500ms here and 15m",
        ),
        (
            "profile",
            Own {
                settings: BTreeMap::from([("profile".to_owned(), "other-rules".to_owned())]),
                ..own("https://auth.example")
            },
            "other-rules here and native",
        ),
    ];
    for (setting, other, both) in cases {
        let store = MemoryStore::new();
        start(&store, &own("https://auth.example"), Stance::Agree).await.unwrap();
        let before = store.settings().await.unwrap();
        let refused = start(&store, &other, Stance::Agree).await.unwrap_err();
        let AgreementError::Differ(differences) = &refused else { panic!("{refused}") };
        assert_eq!(differences.len(), 1, "{refused}");
        assert!(refused.to_string().contains(&format!("{setting} is {both} in the store")), "{refused}");
        assert_eq!(store.settings().await.unwrap(), before, "{setting}: nothing is written");

        // Unless it was told to make its own the store's: then the others are refused.
        let changed = start(&store, &other, Stance::Change).await.unwrap();
        assert_eq!(changed.changed, *differences);
        start(&store, &other, Stance::Agree).await.unwrap();
        start(&store, &own("https://auth.example"), Stance::Agree).await.unwrap_err();
    }
}

#[tokio::test]
async fn all_differences_are_told_at_once() {
    let store = MemoryStore::new();
    start(&store, &own("https://auth.example"), Stance::Agree).await.unwrap();
    let other = with_policy(|policy| {
        policy.leeway = Duration::ZERO;
        policy.idle = DAY;
    });
    let refused = start(&store, &other, Stance::Agree).await.unwrap_err().to_string();
    assert!(refused.contains("idle is 1d here") && refused.contains("leeway is 0s here"), "{refused}");
}

#[tokio::test]
async fn what_one_program_decides_for_itself_need_not_agree() {
    let store = MemoryStore::new();
    start(&store, &own("https://auth.example"), Stance::Agree).await.unwrap();
    let other = with_policy(|policy| {
        policy.max_sessions = std::num::NonZeroU32::new(3).unwrap();
        policy.key_rotation = None;
        policy.key_algorithm = Some(countersign_jwt::Algorithm::Es256);
    });
    start(&store, &other, Stance::Agree).await.unwrap();
}

#[tokio::test]
async fn a_setting_that_the_record_lacks_is_added_and_one_that_only_it_has_stays() {
    let store = MemoryStore::new();
    let old = r#"{"settings":{"access_lifetime":"15m","of_a_later_version":"x"},"issuer":"https://auth.example","more":[1]}"#;
    assert!(store.replace_settings(None, old).await.unwrap());
    start(&store, &own("https://auth.example"), Stance::Agree).await.unwrap();
    let record = record(&store).await;
    assert_eq!(record.setting("of_a_later_version"), Some("x"));
    assert_eq!(record.setting("leeway"), Some("10s"));
    assert!(record.to_text().contains(r#""more":[1]"#));
    start(&store, &with_policy(|policy| policy.leeway = DAY / 86_400), Stance::Agree).await.unwrap_err();
}

#[tokio::test]
async fn what_is_no_record_is_an_error_and_stays_as_it_is() {
    for text in ["", "null", "[]", "{\"settings\":1}", "{\"former_issuers\":[{\"issuer\":\"x\"}]}"] {
        for stance in [Stance::Agree, Stance::Change, Stance::Follow] {
            let store = MemoryStore::new();
            assert!(store.replace_settings(None, text).await.unwrap());
            let error = start(&store, &own("https://auth.example"), stance).await.unwrap_err();
            assert!(matches!(error, AgreementError::Damaged(_)), "{text}: {error}");
            assert_eq!(store.settings().await.unwrap().as_deref(), Some(text));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_programs_that_start_at_once_on_a_new_store_those_agree_that_have_the_winners_settings() {
    for _ in 0..20 {
        let store = Arc::new(MemoryStore::new());
        let barrier = Arc::new(Barrier::new(16));
        let mut starts = JoinSet::new();
        for program in 0..16_u64 {
            let (store, barrier) = (store.clone(), barrier.clone());
            starts.spawn(async move {
                let leeway = Duration::from_secs(program % 2);
                let own = with_policy(|policy| policy.leeway = leeway);
                barrier.wait().await;
                (leeway, start(&store, &own, Stance::Agree).await)
            });
        }
        let answers = starts.join_all().await;
        let winner = record(&store).await.setting("leeway").map(str::to_owned);
        for (leeway, answer) in answers {
            let is_winners = winner == Some(format!("{}s", leeway.as_secs()));
            assert_eq!(answer.is_ok(), is_winners, "{answer:?}");
        }
    }
}

#[tokio::test]
async fn who_follows_goes_by_the_stores_settings_and_writes_nothing() {
    let store = MemoryStore::new();
    let servers = Own {
        policy: SessionPolicy {
            access_lifetime: Duration::from_secs(600),
            fresh_for: Some(Duration::from_secs(60)),
            idle: DAY,
            absolute: 2 * DAY,
            grace: Duration::from_secs(3),
            grace_for: GraceFor::SameClient,
            healing: false,
            leeway: Duration::ZERO,
            revocation_bound: Duration::from_secs(9),
            ..SessionPolicy::default()
        },
        ..own("https://auth.example")
    };
    // A store that no server has used yet has nothing to go by.
    let alone = start(&store, &own("https://shell.example"), Stance::Follow).await.unwrap();
    assert_eq!(
        (alone.issuer.as_deref(), &alone.policy),
        (Some("https://shell.example"), &SessionPolicy::default())
    );
    assert_eq!(store.settings().await.unwrap(), None);

    start(&store, &servers, Stance::Agree).await.unwrap();
    let before = store.settings().await.unwrap();
    let follows = start(&store, &own("https://shell.example"), Stance::Follow).await.unwrap();
    assert_eq!(follows.policy, servers.policy);
    assert_eq!(follows.issuer.as_deref(), Some("https://auth.example"));
    assert_eq!(follows.changed.len(), 10, "all of them are told, and the issuer: {:?}", follows.changed);
    assert_eq!(store.settings().await.unwrap(), before);

    // A profile cannot be taken over: its keys are not in the store.
    let other =
        Own { settings: BTreeMap::from([("profile".to_owned(), "other-rules".to_owned())]), ..own("x") };
    start(&store, &other, Stance::Follow).await.unwrap_err();
}

#[tokio::test]
async fn the_issuer_before_is_known_for_as_long_as_its_longest_token_lives() {
    let store = MemoryStore::new();
    let first = start(&store, &own("urn:uuid:1"), Stance::Agree).await.unwrap();
    assert_eq!((known(&first), first.issuer_before.as_deref()), (vec![], None));
    let second = start(&store, &own("https://auth.example"), Stance::Agree).await.unwrap();
    assert_eq!(second.issuer_before.as_deref(), Some("urn:uuid:1"));
    let longest = SessionPolicy::default().absolute;
    for (at, accepted) in [(NOW, true), (NOW + longest, true), (NOW + 2 * longest, false)] {
        assert_eq!(second.issuers.accepts("urn:uuid:1", at), accepted, "{at:?}");
    }
    assert!(!second.issuers.accepts("urn:uuid:2", NOW));

    // A later start knows it, too, and says nothing of a change.
    let third = start(&store, &own("https://auth.example"), Stance::Agree).await.unwrap();
    assert_eq!((known(&third), &third.issuer_before), (vec!["urn:uuid:1"], &None));
    // Back again: each is the other's.
    let back = start(&store, &own("urn:uuid:1"), Stance::Agree).await.unwrap();
    assert_eq!(
        (known(&back), back.issuer_before.as_deref()),
        (vec!["https://auth.example"], Some("https://auth.example"))
    );
}

#[tokio::test]
async fn a_lifetime_that_is_shortened_with_the_issuer_does_not_shorten_the_memory_of_longer_tokens() {
    let store = MemoryStore::new();
    start(&store, &own("https://old.example"), Stance::Agree).await.unwrap();
    let mut new = own("https://new.example");
    (new.policy.absolute, new.policy.idle) = (DAY, DAY);
    let changed = start(&store, &new, Stance::Change).await.unwrap();
    assert!(changed.issuers.accepts("https://old.example", NOW + 30 * DAY));
}

#[tokio::test]
async fn the_number_of_issuers_is_bounded_and_those_whose_time_has_passed_go_first() {
    let store = MemoryStore::new();
    let most = AgreedSettings::MAX_FORMER_ISSUERS;
    for number in 0..most * 2 {
        let at = NOW + Duration::from_secs(number as u64);
        agree(&store, &own(&format!("https://{number}.example")), Stance::Agree, at).await.unwrap();
    }
    let all = agree(&store, &own("https://31.example"), Stance::Agree, NOW).await.unwrap();
    let expected: Vec<_> =
        (most - 1..2 * most - 1).map(|number| format!("https://{number}.example")).collect();
    assert_eq!(known(&all), expected);
    let later = agree(&store, &own("https://last.example"), Stance::Agree, NOW + 40 * DAY).await.unwrap();
    assert_eq!(known(&later), ["https://31.example"]);
}

#[tokio::test]
async fn a_store_without_a_record_may_have_tokens_of_issuers_that_nobody_wrote_down() {
    let store = MemoryStore::new();
    let maybe_before = vec!["urn:uuid:1".to_owned(), "https://auth.example/sso/".to_owned()];
    let upgraded = Own { maybe_before: maybe_before.clone(), ..own("https://auth.example/sso") };
    let first = start(&store, &upgraded, Stance::Agree).await.unwrap();
    assert_eq!(known(&first), maybe_before);
    assert_eq!(first.issuer_before, None, "nobody knows whether there are any");
    assert!(!first.issuers.accepts("urn:uuid:1", NOW + 40 * DAY));
}

#[tokio::test]
async fn where_another_librarys_rules_hold_the_issuer_stays_as_it_was() {
    let store = MemoryStore::new();
    start(&store, &own("https://auth.example"), Stance::Agree).await.unwrap();
    let profile = Own { issuer: None, ..own("") };
    let agreement = start(&store, &profile, Stance::Agree).await.unwrap();
    assert_eq!((agreement.issuer, agreement.issuer_before), (None, None));
    assert_eq!(record(&store).await.issuer(), Some("https://auth.example"));
}
