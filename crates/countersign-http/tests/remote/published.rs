//! When keys are fetched, how long they are used, and which sets are accepted.

use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_http::remote::{KeysError, RemoteIssuer, RemoteVerifyError};
use countersign_jwt::{Algorithm, KeyId, SigningKey, VerifyError};
use serde_json::json;

use crate::kit::{Bed, ISSUER, NOW, URL, claims, header, jwk, key, key_set, sign, token, with};

fn is_unknown_key(error: &RemoteVerifyError) -> bool {
    matches!(error, RemoteVerifyError::Token(VerifyError::UnknownKey))
}

#[tokio::test]
async fn keys_are_fetched_once_with_the_first_token() {
    let key = key(Algorithm::Es256, "one");
    let bed = Bed::new().publishing(&[&key]);
    assert_eq!(bed.network.fetches(), 0);
    for _ in 0..10 {
        bed.verify(&token(&key, ISSUER)).await.unwrap();
    }
    assert_eq!(bed.network.fetches(), 1);
}

#[tokio::test]
async fn sec_044_sec_209_a_thousand_unknown_keys_at_once_cause_one_fetch() {
    let key = key(Algorithm::Es256, "one");
    let bed = Bed::new().publishing(&[&key]);
    bed.verify(&token(&key, ISSUER)).await.unwrap();
    bed.pass(31);
    bed.network.close();
    let flood: Vec<_> = (0..1_000)
        .map(|n| {
            let header = with(&header(&key), json!({"kid": format!("unknown-{n}")}));
            let (token, issuers) = (sign(&key, &header, &claims(ISSUER)), bed.issuers.clone());
            tokio::spawn(async move { issuers.verify(&token).await })
        })
        .collect();
    bed.settle().await;
    assert_eq!(bed.network.fetches(), 2, "one more than the first");
    // Tokens whose key is known do not wait for it.
    bed.verify(&token(&key, ISSUER)).await.unwrap();
    bed.network.open();
    for verdict in flood {
        assert!(is_unknown_key(&verdict.await.unwrap().unwrap_err()));
    }
    assert_eq!(bed.network.fetches(), 2);
}

#[tokio::test]
async fn sec_044_a_thousand_tokens_at_the_start_cause_one_fetch() {
    let key = key(Algorithm::Es256, "one");
    let bed = Bed::new().publishing(&[&key]);
    bed.network.close();
    let tokens: Vec<_> = (0..1_000)
        .map(|_| {
            let (token, issuers) = (token(&key, ISSUER), bed.issuers.clone());
            tokio::spawn(async move { issuers.verify(&token).await })
        })
        .collect();
    bed.settle().await;
    bed.network.open();
    for verdict in tokens {
        verdict.await.unwrap().unwrap();
    }
    assert_eq!(bed.network.fetches(), 1);
}

#[tokio::test]
async fn sec_044_unknown_keys_are_asked_for_every_thirty_seconds_at_most() {
    let (known, unknown) = (key(Algorithm::Es256, "one"), key(Algorithm::Es256, "two"));
    let bed = Bed::new().publishing(&[&known]);
    let stranger = token(&unknown, ISSUER);
    let mut fetches = Vec::new();
    for _ in 0..100 {
        assert!(is_unknown_key(&bed.verify(&stranger).await.unwrap_err()));
        fetches.push(bed.network.fetches());
        bed.pass(1);
    }
    assert_eq!(fetches[29], 1, "the fetch for having none counts");
    assert_eq!(fetches[30], 2);
    assert_eq!(fetches[59], 2);
    assert_eq!(fetches[60], 3);
    assert_eq!(fetches[99], 4);
}

#[tokio::test]
async fn a_client_that_hangs_up_does_not_end_the_fetch_that_others_wait_for() {
    let key = key(Algorithm::Es256, "one");
    let bed = Bed::new().publishing(&[&key]);
    bed.network.close();
    let [first, second] = [(); 2].map(|()| {
        let (token, issuers) = (token(&key, ISSUER), bed.issuers.clone());
        tokio::spawn(async move { issuers.verify(&token).await })
    });
    bed.settle().await;
    first.abort();
    bed.settle().await;
    bed.network.open();
    second.await.unwrap().unwrap();
    assert_eq!(bed.network.fetches(), 1);
}

#[tokio::test]
async fn a_new_key_is_found_by_the_first_token_that_names_it() {
    let (old, new) = (key(Algorithm::Es256, "old"), key(Algorithm::EdDsa, "new"));
    let bed = Bed::new().publishing(&[&old]);
    bed.verify(&token(&old, ISSUER)).await.unwrap();
    bed.pass(30);
    bed.network.publish(URL, key_set(&[&old, &new]));
    bed.verify(&token(&new, ISSUER)).await.unwrap();
    bed.verify(&token(&old, ISSUER)).await.unwrap();
    assert_eq!(bed.network.fetches(), 2);
}

#[tokio::test]
async fn a_withdrawn_key_is_refused_once_the_keys_were_renewed() {
    let (old, new) = (key(Algorithm::Es256, "old"), key(Algorithm::EdDsa, "new"));
    let bed = Bed::new().publishing(&[&old]);
    let stolen = token(&old, ISSUER);
    bed.verify(&stolen).await.unwrap();
    bed.network.publish(URL, key_set(&[&new]));
    bed.pass(299);
    bed.verify(&stolen).await.unwrap();
    bed.settle().await;
    assert_eq!(bed.network.fetches(), 1, "not renewed before five minutes");
    bed.pass(1);
    bed.verify(&stolen).await.unwrap();
    bed.settle().await;
    assert_eq!(bed.network.fetches(), 2, "renewed in the background");
    assert!(is_unknown_key(&bed.verify(&stolen).await.unwrap_err()));
}

#[tokio::test]
async fn keys_that_nobody_used_for_long_are_renewed_before_they_are_used() {
    let (old, new) = (key(Algorithm::Es256, "old"), key(Algorithm::EdDsa, "new"));
    let bed = Bed::new().publishing(&[&old]);
    bed.verify(&token(&old, ISSUER)).await.unwrap();
    bed.network.publish(URL, key_set(&[&new]));
    bed.pass(600);
    assert!(is_unknown_key(&bed.verify(&token(&old, ISSUER)).await.unwrap_err()));
    assert_eq!(bed.network.fetches(), 2);
}

#[tokio::test]
async fn an_issuer_that_withdraws_all_keys_is_believed() {
    let key = key(Algorithm::Es256, "one");
    let bed = Bed::new().publishing(&[&key]);
    bed.verify(&token(&key, ISSUER)).await.unwrap();
    bed.network.publish(URL, r#"{"keys":[]}"#);
    bed.pass(600);
    assert!(is_unknown_key(&bed.verify(&token(&key, ISSUER)).await.unwrap_err()));
}

#[tokio::test]
async fn sec_044_keys_that_cannot_be_renewed_are_used_for_an_hour_then_refused() {
    let key = key(Algorithm::Es256, "one");
    let bed = Bed::new().publishing(&[&key]);
    let good = sign(&key, &header(&key), &with(&claims(ISSUER), json!({"exp": NOW + 86_400})));
    bed.verify(&good).await.unwrap();
    bed.network.fail(URL);
    for _ in 0..359 {
        bed.pass(10);
        bed.verify(&good).await.unwrap();
        bed.settle().await;
    }
    // From five minutes on, every ten seconds.
    assert_eq!(bed.network.fetches(), 1 + 330);
    bed.pass(9);
    bed.verify(&good).await.unwrap();
    bed.pass(1);
    let error = bed.verify(&good).await.unwrap_err();
    assert!(error.is_retryable());
    assert_eq!(
        error.to_string(),
        "keys of issuer \"https://sso.example.com/a\" are not available: answer is 502 Bad Gateway"
    );

    bed.network.publish(URL, key_set(&[&key]));
    bed.pass(10);
    bed.verify(&good).await.unwrap();
}

#[tokio::test]
async fn without_any_keys_tokens_are_neither_good_nor_bad_and_say_when_to_come_back() {
    let key = key(Algorithm::Es256, "one");
    let bed = Bed::new();
    bed.network.fail(URL);
    let good = token(&key, ISSUER);
    for (wait, fetches, retry_after) in [(0, 1, 10), (4, 1, 6), (5, 1, 1), (1, 2, 10)] {
        bed.pass(wait);
        let error = bed.verify(&good).await.unwrap_err();
        let RemoteVerifyError::KeysUnavailable { issuer, reason, retry_after: after } = error else {
            panic!("{error}");
        };
        assert_eq!(issuer, ISSUER);
        assert!(matches!(*reason, KeysError::Fetch(_)), "{reason}");
        assert_eq!(bed.network.fetches(), fetches);
        assert_eq!(after.as_secs(), retry_after);
    }
    bed.network.publish(URL, key_set(&[&key]));
    bed.pass(10);
    bed.verify(&good).await.unwrap();
}

#[tokio::test]
async fn an_unknown_key_is_not_said_to_be_bad_while_the_issuer_cannot_be_asked() {
    let (old, new) = (key(Algorithm::Es256, "old"), key(Algorithm::EdDsa, "new"));
    let bed = Bed::new().publishing(&[&old]);
    bed.verify(&token(&old, ISSUER)).await.unwrap();
    bed.network.fail(URL);
    bed.pass(30);
    assert!(bed.verify(&token(&new, ISSUER)).await.unwrap_err().is_retryable());
    bed.verify(&token(&old, ISSUER)).await.unwrap();
}

#[tokio::test]
async fn sec_044_tokens_that_no_key_could_save_fetch_nothing() {
    let key = key(Algorithm::Es256, "one");
    let bed = Bed::new().publishing(&[&key]);
    let (good_header, good_claims) = (header(&key), claims(ISSUER));
    let signed = |changes, issuer: &str| sign(&key, &with(&good_header, changes), &claims(issuer));
    for (case, token) in [
        ("no token", "x".to_owned()),
        ("no issuer", sign(&key, &good_header, &with(&good_claims, json!({"iss": null})))),
        (
            "an issuer that is no text",
            sign(&key, &good_header, &with(&good_claims, json!({"iss": [ISSUER]}))),
        ),
        ("another issuer", signed(json!({}), "https://evil.example")),
        ("a slash", signed(json!({}), "https://sso.example.com/a/")),
        ("upper case", signed(json!({}), "https://SSO.example.com/a")),
        ("a port", signed(json!({}), "https://sso.example.com:443/a")),
        ("the key set's URL", signed(json!({}), URL)),
        ("none", signed(json!({"alg": "none"}), ISSUER)),
        ("HS256", signed(json!({"alg": "HS256"}), ISSUER)),
        ("a key id that is too long", signed(json!({"kid": "x".repeat(129)}), ISSUER)),
        ("an encrypted payload", signed(json!({"enc": "A128GCM"}), ISSUER)),
        ("an extension", signed(json!({"crit": ["exp"]}), ISSUER)),
        ("too long", signed(json!({}), &"x".repeat(8 * 1024))),
    ] {
        let error = bed.verify(&token).await.unwrap_err();
        assert!(!error.is_retryable(), "{case}: {error}");
        assert_eq!(bed.network.fetches(), 0, "{case}");
    }
    bed.verify(&signed(json!({}), ISSUER)).await.unwrap();
    assert_eq!(bed.network.fetches(), 1);
}

#[tokio::test]
async fn sec_043_what_cannot_be_used_is_left_out_of_a_set_and_the_rest_works() {
    let key = key(Algorithm::Es256, "one");
    let (good, rsa) = (jwk(&key), jwk(&crate::kit::key(Algorithm::Rs256, "rsa")));
    let private: serde_json::Value =
        serde_json::from_str(key.dangerous_private_jwk().unwrap().as_str()).unwrap();
    let secret = json!({"kty": "oct", "alg": "HS256", "kid": "shared", "k": good["x"]});
    let mut no_algorithm = with(&good, json!({"kid": "null"}));
    no_algorithm["alg"] = serde_json::Value::Null;
    let small = with(&rsa, json!({"n": URL_SAFE_NO_PAD.encode([0xc1; 128])}));
    let truncated = with(&good, json!({"kid": "cut", "y": good["y"].as_str().unwrap()[..42]}));
    for (case, keys) in [
        ("alone", vec![]),
        ("among others", vec![rsa.clone()]),
        (
            "beside what is for encryption, of a new type or for a new algorithm",
            vec![
                with(&rsa, json!({"use": "enc", "alg": "RSA-OAEP", "kid": "enc"})),
                json!({"kty": "AKP", "alg": "ML-DSA-65", "kid": "new", "pub": "AAAA"}),
                with(&good, json!({"kid": "for COSE", "alg": "ESP256"})),
                with(&good, json!({"kid": "signs only", "key_ops": ["sign"]})),
            ],
        ),
        ("its id on a key for another algorithm", vec![with(&rsa, json!({"kid": "one"}))]),
        ("beside an algorithm that is null", vec![no_algorithm]),
        ("beside one that is too small", vec![small]),
        ("beside one that is cut off", vec![truncated]),
        ("beside a weak one", vec![with(&rsa, json!({"e": "AQ"}))]),
        ("beside a broken one", vec![with(&rsa, json!({"n": "!"}))]),
        ("beside what is no key", vec![json!(1), json!([]), json!({})]),
        ("beside a certificate alone", vec![json!({"kty": "RSA", "kid": "x", "x5c": ["MIIB"]})]),
        ("beside a secret", vec![secret.clone()]),
        ("beside a secret of its name", vec![with(&secret, json!({"kid": "one"}))]),
    ] {
        let good = std::slice::from_ref(&good);
        for keys in [[good, &keys].concat(), [&keys, good].concat()] {
            let bed = Bed::new();
            bed.network.publish(URL, json!({ "keys": keys }).to_string());
            bed.verify(&token(&key, ISSUER)).await.expect(case);
        }
    }
    // Where nothing is left, the issuer has not said what its keys are.
    for (keys, expected) in [
        (vec![private.clone()], "keys[0]: its private key is published, so everybody can sign with it"),
        (vec![private.clone(), good.clone()], "keys[1]: its private key is published"),
        (vec![with(&private, json!({"use": "enc"})), good.clone()], "keys[1]: its private key is published"),
        (vec![secret.clone()], "keys[0]: shared secret, which is never published"),
        (vec![with(&good, json!({"x": "!"}))], "keys[0]: JWK member x is invalid"),
        (vec![json!({})], "keys[0]: JWK member kty is missing"),
    ] {
        let bed = Bed::new();
        bed.network.publish(URL, json!({ "keys": keys }).to_string());
        let refusal = bed.verify(&token(&key, ISSUER)).await.unwrap_err();
        assert!(refusal.is_retryable());
        let text = refusal.to_string();
        assert!(text.contains("no key of the set can be used: ") && text.contains(expected), "{text}");
    }
}

#[tokio::test]
async fn keys_of_one_id_are_told_apart_by_their_algorithm() {
    let [rs256, rs512, es256] =
        [Algorithm::Rs256, Algorithm::Rs512, Algorithm::Es256].map(|algorithm| key(algorithm, "one"));
    let bed = Bed::new().publishing(&[&rs256, &rs512, &es256]);
    for key in [&rs256, &rs512, &es256] {
        assert_eq!(bed.verify(&token(key, ISSUER)).await.unwrap().algorithm(), key.algorithm());
    }
    // No other key of the name stands in.
    for (signed_by, named) in [(&rs256, "RS512"), (&rs512, "RS256"), (&rs256, "ES256"), (&es256, "RS256")] {
        let token = sign(signed_by, &with(&header(signed_by), json!({"alg": named})), &claims(ISSUER));
        assert_eq!(bed.refusal(&token).await, "signature does not hold");
    }
    let other = sign(&rs256, &with(&header(&rs256), json!({"alg": "PS256"})), &claims(ISSUER));
    assert_eq!(bed.refusal(&other).await, "algorithm is not that of the key");
    // Of two with one name and one algorithm neither is the one that a token names.
    let impostor = key(Algorithm::Es256, "another").with_key_id(KeyId::new("one").unwrap());
    let bed = Bed::new().publishing(&[&es256, &impostor, &key(Algorithm::Es256, "third")]);
    for key in [&es256, &impostor] {
        assert_eq!(bed.refusal(&token(key, ISSUER)).await, "token names an unknown key");
    }
    bed.verify(&token(&key(Algorithm::Es256, "third"), ISSUER)).await.unwrap();
}

#[tokio::test]
async fn a_set_of_43_keys_with_certificates_is_read() {
    let keys: Vec<_> = (0..43).map(|n| key(Algorithm::Es256, &format!("key-{n}"))).collect();
    let jwks: Vec<_> = keys
        .iter()
        .map(|key| with(&jwk(key), json!({"x5t": "AAAA", "x5c": ["M".repeat(900)], "issuer": ISSUER})))
        .collect();
    let bed = Bed::new();
    bed.network.publish(URL, json!({ "keys": jwks }).to_string());
    for key in &keys {
        bed.verify(&token(key, ISSUER)).await.unwrap();
    }
}

#[tokio::test]
async fn an_ed25519_key_verifies_under_both_of_its_names() {
    let key = key(Algorithm::EdDsa, "one");
    for in_set in ["EdDSA", "Ed25519"] {
        let bed = Bed::with([RemoteIssuer::new(ISSUER, URL).audience("api").algorithms([Algorithm::EdDsa])]);
        // As WebCrypto exports it.
        let exported =
            with(&jwk(&key), json!({"alg": in_set, "use": null, "key_ops": ["verify"], "ext": true}));
        bed.network.publish(URL, json!({ "keys": [exported] }).to_string());
        for in_token in ["EdDSA", "Ed25519"] {
            let token = sign(&key, &with(&header(&key), json!({ "alg": in_token })), &claims(ISSUER));
            assert_eq!(bed.verify(&token).await.unwrap().algorithm(), Algorithm::EdDsa);
        }
        let token = sign(&key, &with(&header(&key), json!({"alg": "Ed448"})), &claims(ISSUER));
        assert_eq!(bed.refusal(&token).await, "algorithm is not that of the key");
    }
}

/// Collects the log of this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<String>>);

impl std::io::Write for Log {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().push_str(&String::from_utf8_lossy(line));
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn sec_046_what_is_left_out_is_logged_once_in_few_words_and_without_the_keys() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let lines = || log.0.lock().unwrap().lines().map(str::to_owned).collect::<Vec<_>>();

    let key = key(Algorithm::Es256, "one");
    let good = jwk(&key);
    let private: serde_json::Value = serde_json::from_str(
        crate::kit::key(Algorithm::EdDsa, "canary").dangerous_private_jwk().unwrap().as_str(),
    )
    .unwrap();
    let mut keys =
        vec![good.clone(), private.clone(), with(&good, json!({"kid": "canary\r\n", "x": "canary"}))];
    keys.extend((0..300).map(|_| json!({"kty": "canary"})));
    keys.extend((0..300).map(|_| json!({"kid": "canary"})));
    let bed = Bed::new();
    bed.network.publish(URL, json!({ "keys": keys }).to_string());
    let good_token = sign(&key, &header(&key), &with(&claims(ISSUER), json!({"exp": NOW + 86_400})));
    for _ in 0..5 {
        bed.verify(&good_token).await.unwrap();
        bed.pass(600);
    }
    assert_eq!(bed.network.fetches(), 5);
    let told = lines();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("WARN") && told[0].contains("keys of an issuer are left out"), "{told:?}");
    assert!(told[0].contains("keys[1]: its private key is published"), "{told:?}");
    assert!(told[0].contains("594 more") && told[0].len() < 900, "{told:?}");
    let d = private["d"].as_str().unwrap();
    assert!(!told[0].contains("canary") && !told[0].contains(d), "{told:?}");

    // Another set is told of; what others need is no warning.
    bed.network.publish(URL, json!({"keys": [good, {"kty": "AKP"}]}).to_string());
    bed.verify(&good_token).await.unwrap();
    let told = lines();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[1].contains("INFO") && told[1].contains("keys[1]: unknown type of key"), "{told:?}");
}

#[tokio::test]
async fn answers_that_are_no_key_set_are_refused_and_the_old_keys_stay() {
    let key = key(Algorithm::Es256, "one");
    for text in [
        String::new(),
        "<!DOCTYPE html><title>Sign in</title>".to_owned(),
        "[]".to_owned(),
        "{}".to_owned(),
        r#"{"keys":{}}"#.to_owned(),
        r#"{"keys":[],"keys":[]}"#.to_owned(),
        format!(r#"{{"keys":[],"pad":"{}"}}"#, "x".repeat(64 * 1024)),
        jwk(&key).to_string(),
    ] {
        let bed = Bed::new().publishing(&[&key]);
        let good = token(&key, ISSUER);
        bed.verify(&good).await.unwrap();
        bed.network.publish(URL, text.as_str());
        bed.pass(600);
        bed.verify(&good).await.unwrap();
        assert_eq!(bed.network.fetches(), 2);

        let fresh = Bed::new();
        fresh.network.publish(URL, text.as_str());
        let refusal = fresh.refusal(&good).await;
        assert!(refusal.contains("answer is not an acceptable key set"), "{refusal}");
    }
}

#[tokio::test]
async fn a_key_without_algorithm_verifies_the_first_accepted_one_that_fits() {
    let rsa = key(Algorithm::Rs256, "rsa");
    let silent = json!({"keys": [with(&jwk(&rsa), json!({"alg": null}))]}).to_string();
    for (algorithms, accepted) in [
        (None, true),
        (Some(vec![Algorithm::Es256, Algorithm::Rs256]), true),
        (Some(vec![Algorithm::Ps256, Algorithm::Rs256]), false),
        (Some(vec![Algorithm::EdDsa]), false),
    ] {
        let mut issuer = RemoteIssuer::new(ISSUER, URL).audience("api");
        if let Some(algorithms) = &algorithms {
            issuer = issuer.algorithms(algorithms.iter().copied());
        }
        let bed = Bed::with([issuer]);
        bed.network.publish(URL, silent.as_str());
        let verdict = bed.verify(&token(&rsa, ISSUER)).await;
        assert_eq!(verdict.is_ok(), accepted, "{algorithms:?}");
        if !accepted {
            assert!(matches!(verdict, Err(RemoteVerifyError::Token(VerifyError::Algorithm))));
        }
    }
}

#[tokio::test]
async fn sec_039_a_token_without_key_id_needs_the_only_key_of_its_algorithm() {
    let (one, two): (SigningKey, _) = (key(Algorithm::Es256, "one"), key(Algorithm::Es256, "two"));
    let unnamed = sign(&one, &with(&header(&one), json!({"kid": null})), &claims(ISSUER));
    let alone = Bed::new().publishing(&[&one, &key(Algorithm::EdDsa, "other")]);
    alone.verify(&unnamed).await.unwrap();
    let both = Bed::new().publishing(&[&one, &two]);
    assert_eq!(both.refusal(&unnamed).await, "token has no kid, and not exactly one key fits");
    both.pass(31);
    assert_eq!(both.refusal(&unnamed).await, "token has no kid, and not exactly one key fits");
    assert_eq!(both.network.fetches(), 1, "other keys would not help");
}

#[tokio::test]
async fn sec_038_key_ids_are_looked_up_and_nothing_else() {
    let key = key(Algorithm::Es256, "one");
    for id in [
        "../../dev/null",
        "' OR 1=1 --",
        "https://evil.example/jwks.json",
        "a\r\nb",
        "\0",
        "$(id)",
        "ONE",
        "one ",
    ] {
        let bed = Bed::new().publishing(&[&key]);
        let token = sign(&key, &with(&header(&key), json!({ "kid": id })), &claims(ISSUER));
        let error = bed.verify(&token).await.unwrap_err();
        assert!(is_unknown_key(&error), "{id:?}: {error}");
        assert!(!error.to_string().contains(id));
        assert_eq!(bed.network.fetches(), 1, "{id:?}: from the configured place");
    }
}

#[test]
fn outside_of_a_runtime_there_is_an_error_and_no_panic() {
    let key = key(Algorithm::Es256, "one");
    let bed = Bed::new().publishing(&[&key]);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let token = token(&key, ISSUER);
    let verdict = std::pin::pin!(bed.verify(&token)).as_mut().poll(&mut context);
    let std::task::Poll::Ready(Err(error)) = verdict else { panic!("{verdict:?}") };
    assert!(error.is_retryable());
    assert!(error.to_string().ends_with("there is no tokio runtime to fetch in"), "{error}");
}
