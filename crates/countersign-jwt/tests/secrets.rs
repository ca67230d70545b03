//! Secrets are in no message, no debug output and no panic (SEC-046, SEC-211).
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::fmt::{Debug, Display};
use std::panic::{AssertUnwindSafe, catch_unwind};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use countersign_jwt::claims::decode_unverified;
use countersign_jwt::jws::Limits;
use countersign_jwt::key::{Jwk, JwkSet};
use countersign_jwt::{
    Algorithm, Issuer, KeyId, KeyRing, SigningKey, TokenType, Verifier, VerifyingKey, jws, random,
};
use countersign_jwt::{Secret, Secrets};
use serde_json::json;
use support::{
    Broken, Seeded, at, encode, header, issued, key, new_claims, payload, ring, signed, verifier, with,
};

/// Stands for what must not get out. Not base64url, so that it can be told from what is encoded, and a text that JSON
/// leaves as it is.
const CANARY: &str = "canary~7f3a9";

/// Everything that a program might log: the value's debug forms, its message, and those of its causes.
#[derive(Default)]
struct Log(String);

impl Log {
    fn debug(&mut self, value: &dyn Debug) {
        self.0 += &format!("{value:?}\n{value:#?}\n");
    }

    fn error<T>(&mut self, verdict: Result<T, impl std::error::Error>) {
        let error = verdict.err().unwrap();
        self.debug(&error);
        self.0 += &format!("{error}\n{error:#}\n");
        let mut cause = error.source();
        while let Some(error) = cause {
            self.0 += &format!("{error} {error:?}\n");
            cause = error.source();
        }
    }

    /// Fails if the secret is there in any of its usual forms, or a good part of it.
    fn is_free_of(&self, case: &str, secret: &[u8]) {
        let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        let part = &secret[..secret.len().min(8)];
        let mut forms =
            vec![encode(secret), STANDARD.encode(secret), hex.to_uppercase(), hex, format!("{part:?}")];
        forms.extend(std::str::from_utf8(secret).map(str::to_owned));
        for form in forms {
            let start: String = form.trim_matches(['[', ']']).chars().take(12).collect();
            assert!(!self.0.contains(&start), "{case}: {start} in {}", self.0);
        }
    }
}

/// Compiles only while none of the types has the trait: with it, two implementations would fit.
macro_rules! assert_without {
    ($bound:path: $($kind:ty),+) => {{
        trait OneFits<Which> {
            fn one_fits() {}
        }
        struct WithTrait;
        impl<T: ?Sized> OneFits<()> for T {}
        impl<T: ?Sized + $bound> OneFits<WithTrait> for T {}
        $(<$kind as OneFits<_>>::one_fits();)+
    }};
}

#[test]
fn sec_046_no_secret_is_serialised_or_printed_by_accident() {
    assert_without!(serde::Serialize: SigningKey, Secret, Secrets, Jwk, JwkSet, Issuer, Verifier);
    assert_without!(Display: SigningKey, Secret, Secrets, Jwk, JwkSet, Issuer, Verifier);
}

#[test]
fn sec_211_refused_tokens_leave_nothing_of_themselves() {
    let key = key(Algorithm::Hs256);
    let verifier = verifier(&key, TokenType::Access)
        .with_issuer("https://auth.example")
        .with_audience("https://a.example");
    let good = header(&key);
    let head = |changes| with(good.clone(), changes);
    let token = |head: String, claims: String| signed(&key, head, claims);
    let claims = |changes| with(payload(), changes);
    let long = "x".repeat(9_000);
    let mut log = Log::default();
    for token in [
        CANARY.to_owned(),
        format!("{CANARY}.{CANARY}.{CANARY}"),
        format!("{}.{}.{}", encode(CANARY), encode(CANARY), encode(CANARY)),
        format!("{CANARY}{long}"),
        token(format!("{{\"alg\":\"{CANARY}\"}}"), claims(json!({}))),
        token(format!("{{\"alg\":\"HS256\",\"{CANARY}\":1,\"{CANARY}\":1}}"), claims(json!({}))),
        token(format!("{{\"{CANARY}"), claims(json!({}))),
        token(head(json!({"kid": CANARY})), claims(json!({}))),
        token(head(json!({"kid": CANARY.repeat(20)})), claims(json!({}))),
        token(head(json!({"typ": CANARY})), claims(json!({}))),
        token(head(json!({"typ": [CANARY]})), claims(json!({}))),
        token(head(json!({"jku": CANARY})), claims(json!({}))),
        token(head(json!({"crit": [CANARY]})), claims(json!({}))),
        token(good.to_string(), CANARY.to_owned()),
        token(good.to_string(), format!("{{\"{CANARY}\":1,\"{CANARY}\":2}}")),
        token(good.to_string(), claims(json!({"sub": [CANARY]}))),
        token(good.to_string(), claims(json!({"sub": format!("{CANARY}\0")}))),
        token(good.to_string(), claims(json!({"exp": CANARY}))),
        token(good.to_string(), claims(json!({"jti": CANARY}))),
        token(good.to_string(), claims(json!({"type": CANARY}))),
        token(good.to_string(), claims(json!({"fresh": CANARY}))),
        token(good.to_string(), claims(json!({"csrf": {"a": CANARY}}))),
        token(good.to_string(), claims(json!({"iss": CANARY}))),
        token(good.to_string(), claims(json!({"iss": "https://auth.example", "aud": CANARY}))),
        token(good.to_string(), claims(json!({"x": CANARY, "exp": 5}))),
        format!("{}A", token(good.to_string(), claims(json!({"x": CANARY})))),
    ] {
        let signature = token.rsplit('.').next().unwrap();
        let mut said = Log::default();
        said.error(verifier.verify(&token, at(1)));
        said.error(verifier.verify_expired_ok(&token));
        if signature.len() > 20 {
            said.is_free_of("signature", signature.as_bytes());
        }
        log.0 += &said.0;
        if let Ok(claims) = decode_unverified(&token) {
            let mut shown = Log::default();
            shown.debug(&claims);
            // Names of members are shown, their values are not.
            shown.0 = shown.0.replace(&format!("{CANARY:?}: "), "");
            assert!(!shown.0.contains(&format!(": \"{CANARY}")), "{}", shown.0);
        }
    }
    log.is_free_of("tokens", CANARY.as_bytes());
}

#[test]
fn sec_211_refused_keys_leave_nothing_of_themselves() {
    let id = KeyId::new("named").unwrap();
    for algorithm in Algorithm::ALL {
        let mut log = Log::default();
        let secret = key(algorithm).to_secret_bytes();
        for other in Algorithm::ALL {
            // Some of these make a key, which is shown, too.
            log.debug(&SigningKey::from_secret_bytes(other, id.clone(), &secret[1..]));
            log.debug(&SigningKey::from_private_key_der(other, &secret));
            log.error(VerifyingKey::from_public_key_der(other, &secret));
        }
        let jwk = key(algorithm).dangerous_private_jwk().unwrap();
        for (from, to) in [
            ("\"kty\":", "\"kty\":\"x\",\"kty\":"),
            ("\"use\":\"sig\"", "\"use\":\"enc\""),
            ("\"kid\":", "\"kid\":1,\"k_i_d\":"),
            ("\"alg\":", "\"alg\":\"none\",\"a_l_g\":"),
            ("}", ""),
            ("{", "[{"),
        ] {
            let wrong = jwk.replacen(from, to, 1);
            log.error(Jwk::parse(wrong.as_bytes()));
            // Sets leave out keys for other uses.
            log.debug(&JwkSet::parse(format!("{{\"keys\":[{wrong}]}}").as_bytes()));
        }
        if let Some(pem) = key(algorithm).dangerous_private_key_pem() {
            log.error(SigningKey::hmac(Algorithm::Hs256, pem.as_bytes()));
            log.error(VerifyingKey::from_public_key_pem(algorithm, &pem));
            log.error(SigningKey::from_private_key_pem(algorithm, &pem.replace("-----END", "----END")));
            let body: String = pem.lines().nth(1).unwrap().chars().skip(24).collect();
            log.is_free_of("PEM", body.as_bytes());
        }
        let members: serde_json::Value = serde_json::from_str(&jwk).unwrap();
        for name in ["k", "d", "p", "q", "dp", "dq", "qi"] {
            if let Some(secret) = members[name].as_str() {
                log.is_free_of(&format!("{algorithm} {name}"), &support::decode(secret));
            }
        }
    }
}

#[test]
fn sec_211_what_holds_secrets_shows_none() {
    let seed = random::bytes::<32>(&Seeded::new(21)).unwrap();
    let secrets = Secrets::new(vec![Secret::new(seed.to_vec()).unwrap()]).unwrap();
    for algorithm in Algorithm::ALL {
        let key = key(algorithm);
        let verifier = Verifier::with_fixed_keys(TokenType::Access, ring(&[&key]));
        let claims = new_claims(TokenType::Access).with_csrf(CANARY).with_claim("own", CANARY).unwrap();
        let issuer = Issuer::new(key.clone());
        let token = issuer.issue(&claims).unwrap();
        let read = verifier.verify(&token, at(1)).unwrap();
        assert_eq!(verifier.verify(&token, at(1)).unwrap(), read, "it is in the cache now");
        let mut log = Log::default();
        let jwk = Jwk::parse(key.dangerous_private_jwk().unwrap().as_bytes()).unwrap();
        log.debug(&(&key, key.verifying_key(), ring(&[&key]), &issuer, &verifier));
        log.debug(&(&claims, &read, &jwk, JwkSet::from_iter([jwk.clone()]), &secrets, Limits::default()));
        log.debug(&secrets.derive("access").len());
        log.is_free_of("secret of the server", &seed);
        log.is_free_of("derived secret", secrets.derive("access").as_slice());
        log.is_free_of("token", token.rsplit('.').next().unwrap().as_bytes());
        log.is_free_of("csrf value and own claims", CANARY.as_bytes());
        let members: serde_json::Value = serde_json::from_str(&key.dangerous_private_jwk().unwrap()).unwrap();
        for name in ["k", "d", "p", "q", "dp", "dq", "qi"] {
            if let Some(secret) = members[name].as_str() {
                log.is_free_of(&format!("{algorithm} {name}"), &support::decode(secret));
            }
        }
    }
    let mut log = Log::default();
    let sealed = secrets.seal("context", CANARY.as_bytes(), &Seeded::new(5)).unwrap();
    log.error(secrets.open("other context", &sealed));
    log.error(secrets.open("context", &sealed[1..]));
    log.error(secrets.seal("context", CANARY.as_bytes(), &Broken));
    log.error(Secret::new([CANARY.as_bytes(), &[0; 16]].concat()));
    log.error(Secret::new(format!("changeme {CANARY} {CANARY}").into_bytes()));
    log.is_free_of("sealed", CANARY.as_bytes());
    log.is_free_of("server's secret", &seed);
}

/// A panic beside a secret, such as a failed `expect` on something that holds one, prints its `Debug`.
#[test]
fn sec_211_a_panic_that_shows_what_it_holds_shows_no_secret() {
    let mut log = Log::default();
    let seed = random::bytes::<32>(&Seeded::new(22)).unwrap();
    for algorithm in Algorithm::ALL {
        let key = key(algorithm);
        let token = issued(&key, TokenType::Access);
        let panic = catch_unwind(AssertUnwindSafe(|| {
            let secret = Secret::new(seed.to_vec()).unwrap();
            let verdict = jws::verify(&token, &KeyRing::new()).map_err(|error| (error, key, secret));
            verdict.unwrap();
        }));
        log.0 += panic.unwrap_err().downcast_ref::<String>().unwrap();
    }
    assert!(log.0.contains("SigningKey") && log.0.contains("Secret"), "{}", log.0);
    log.is_free_of("server's secret", &seed);
    for algorithm in Algorithm::ALL {
        log.is_free_of("key", &key(algorithm).to_secret_bytes()[..]);
    }
}
