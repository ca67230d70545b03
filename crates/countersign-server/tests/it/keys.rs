//! Keys: published for others, and worked on from the command line.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_jwt::jws;
use countersign_jwt::key::JwkSet;
use serde_json::{Value, json};

use crate::client::{Client, claims, send};
use crate::server::{Folder, eventually};

/// A member of a token's header, unverified.
fn header(token: &str, name: &str) -> Value {
    let header = token.split('.').next().unwrap();
    let header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap();
    header[name].clone()
}

#[tokio::test]
async fn sec_042_the_published_keys_are_public_and_verify_access_tokens_alone() {
    let folder = Folder::new();
    let server = folder.serve().await;
    let client = Client::new(&server);
    let pair = client.register("ada@example.org").await;
    // With credentials and without, as a browser or as a service: the same for everybody.
    let bare = client.get("/.well-known/jwks.json").await.expect(200);
    let asked = client.request(reqwest::Method::GET, "/.well-known/jwks.json").bearer_auth(&pair.access);
    assert_eq!(send(asked).await.unwrap().expect(200).text, bare.text);
    assert_eq!(bare.headers["cache-control"], "public, max-age=300");
    assert_eq!(bare.headers["content-type"], "application/jwk-set+json");
    assert!(!bare.headers.contains_key("set-cookie"));

    let keys = bare.body["keys"].as_array().unwrap();
    assert_eq!(keys.len(), 1, "the refresh tokens' key is a secret: {keys:?}");
    let members: Vec<_> = keys[0].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(members, ["alg", "crv", "kid", "kty", "use", "x"]);
    assert_eq!(keys[0]["use"], "sig");
    assert_eq!(keys[0]["alg"], "EdDSA");
    assert_eq!(keys[0]["kid"], header(&pair.access, "kid"));

    let ring = JwkSet::parse(bare.text.as_bytes()).unwrap().to_ring().unwrap();
    assert!(jws::verify(&pair.access, &ring).is_ok());
    assert!(jws::verify(&pair.refresh, &ring).is_err());
    let stranger = Folder::new();
    let stranger = stranger.serve().await;
    let foreign = Client::new(&stranger).register("ada@example.org").await;
    assert!(jws::verify(&foreign.access, &ring).is_err());

    let posted = client.post("/.well-known/jwks.json", &json!({})).await;
    posted.expect_error(405, "method_not_allowed");
    server.stop().await;
    stranger.stop().await;
}

#[tokio::test]
async fn key_list_and_export_jwks_show_what_is_public() {
    let folder = Folder::new();
    folder.run(&["key", "list"], &[]).await.assert_refused(&["there is no database", "countersign.db"]);
    assert!(folder.names().is_empty(), "looking makes nothing");
    let server = folder.serve().await;
    let client = Client::new(&server);
    let pair = client.register("ada@example.org").await;

    let listed = folder.run(&["key", "list"], &[("COUNTERSIGN_SECRET", "not needed")]).await;
    assert!(listed.status.success() && listed.stderr.is_empty(), "{listed:?}");
    let rows: Vec<Vec<_>> = listed.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["KID", "PURPOSE", "ALGORITHM", "STATE", "CREATED"]);
    assert_eq!(rows.len(), 3);
    assert_eq!(rows[1][..4], [header(&pair.access, "kid").as_str().unwrap(), "access", "EdDSA", "active"]);
    assert_eq!(rows[2][..4], [header(&pair.refresh, "kid").as_str().unwrap(), "refresh", "HS256", "active"]);
    assert!(rows[1][4].ends_with('Z'), "{rows:?}");

    let exported = folder.run(&["key", "export-jwks"], &[]).await;
    assert!(exported.status.success(), "{exported:?}");
    let published = client.get("/.well-known/jwks.json").await.expect(200);
    assert_eq!(exported.stdout.trim_end(), published.text);
    server.stop().await;
}

#[tokio::test]
async fn sec_046_the_secret_is_changed_without_ending_a_session() {
    let folder = Folder::new();
    let secret = async || folder.run(&["key", "secret"], &[]).await.stdout.trim().to_owned();
    let (old, new, wrong) = (secret().await, secret().await, secret().await);
    let server = folder.serve_with(&[("COUNTERSIGN_SECRET", &old)]).await;
    let pair = Client::new(&server).register("ada@example.org").await;
    let before = folder.keys().await;

    let reseal = async |secret: &str| folder.run(&["key", "reseal"], &[("COUNTERSIGN_SECRET", secret)]).await;
    reseal(&format!("{new},{wrong}")).await.assert_refused(&["the secret does not open the key"]);
    assert_eq!(folder.keys().await, before, "all or nothing");

    // While the server runs.
    let resealed = reseal(&format!("{new},{old}")).await;
    assert!(resealed.status.success() && resealed.stdout.starts_with("2 keys"), "{resealed:?}");
    let after = folder.keys().await;
    assert!(before.0.iter().zip(&after.0).all(|(old, new)| old.0 == new.0 && old.1 != new.1));
    Client::new(&server).me(&pair.access).await.expect(200);
    server.stop().await;

    folder
        .run(&[], &[("COUNTERSIGN_LISTEN", "127.0.0.1:0"), ("COUNTERSIGN_SECRET", &old)])
        .await
        .assert_refused(&["secret"]);
    let server = folder.serve_with(&[("COUNTERSIGN_SECRET", &new)]).await;
    Client::new(&server).me(&pair.access).await.expect(200);
    Client::new(&server).refresh(&pair.refresh).await.expect(200);
    server.stop().await;
}

#[tokio::test]
async fn token_verify_and_inspect_say_what_the_server_would() {
    let folder = Folder::new();
    let server = folder.serve().await;
    let client = Client::new(&server);
    let pair = client.register("ada@example.org").await;
    let browser = Client::browser(&server);
    let body = json!({ "email": "grace@example.org", "password": crate::client::PASSWORD, "cookies": true });
    let answer = browser.post("/v1/auth/register", &body).await.expect(201);
    let (cookie_token, _) = answer.cookie("countersign_access").unwrap();
    let csrf = claims(&cookie_token)["csrf"].as_str().unwrap().to_owned();
    let inspect = async |token: &str| {
        let ran = folder.run(&["token", "inspect", token], &[]).await;
        assert!(ran.status.success() && ran.stderr.is_empty(), "{ran:?}");
        for segment in token.split('.') {
            assert!(!ran.stdout.contains(segment), "{ran:?}");
        }
        ran.stdout
    };

    for token in [&pair.access, &pair.refresh, &cookie_token] {
        let ran = folder.run(&["token", "verify", token], &[]).await;
        assert!(ran.status.success() && ran.stdout == "ok\n", "{ran:?}");
    }
    client.refresh(&pair.refresh).await.expect(200);
    let text = inspect(&pair.access).await;
    for (name, value) in claims(&pair.access).as_object().unwrap() {
        assert!(text.contains(&format!("  {name} (")), "{name}: {text}");
        let value = value.as_str().filter(|value| *value != csrf).unwrap_or_default();
        assert!(text.contains(value), "{name}: {text}");
    }
    assert!(text.contains("exp (expires)"), "{text}");
    assert!(text.contains(", in 14 minutes") || text.contains(", in 15 minutes"), "{text}");
    assert!(text.contains("holds, EdDSA") && text.contains("would accept it as an access token"), "{text}");
    let text = inspect(&cookie_token).await;
    assert!(text.contains("csrf (CSRF value)") && !text.contains(&csrf), "{text}");

    // Damaged, with another kind of claims, ended.
    let (signed, _) = pair.access.rsplit_once('.').unwrap();
    let forged = format!("{signed}.{}", "A".repeat(86));
    let text = inspect(&forged).await;
    assert!(text.contains("not proven: signature does not hold"), "{text}");
    assert!(text.contains("would refuse it as an access token: signature does not hold"), "{text}");
    folder.run(&["token", "verify", &forged], &[]).await.assert_refused(&["signature does not hold"]);
    folder
        .run(&["token", "inspect", "abc"], &[])
        .await
        .assert_refused(&["not three base64url segments joined by dots"]);
    client.logout(&pair.refresh).await.expect(204);
    for token in [&pair.access, &pair.refresh] {
        let refused = folder.run(&["token", "verify", token], &[]).await;
        refused.assert_refused(&["session was ended"]);
        assert!(!refused.stderr.contains(token.as_str()), "{refused:?}");
    }
    let text = inspect(&pair.refresh).await;
    assert!(text.contains("holds, HS256") && text.contains("would refuse it as a refresh token"), "{text}");

    // From standard input, as it was sent.
    folder.write("header", &format!("Authorization: Bearer {cookie_token}\n"));
    let mut command = folder.command(&["token", "verify"], &[]);
    command.stdin(std::fs::File::open(folder.path("header")).unwrap());
    assert_eq!(command.output().await.unwrap().stdout, b"ok\n");
    server.stop().await;
}

#[tokio::test]
async fn sec_041_keys_are_rotated_and_removed_while_the_server_runs() {
    let folder = Folder::new();
    let server = folder.serve_with(&[("COUNTERSIGN_REVOCATION_BOUND", "1s")]).await;
    let client = Client::new(&server);
    let run = async |arguments: &[&str]| {
        let ran = folder.run(arguments, &[("COUNTERSIGN_REVOCATION_BOUND", "1s")]).await;
        assert!(ran.status.success() && ran.stderr.is_empty(), "{ran:?}");
        ran.stdout
    };
    let published = async || client.get("/.well-known/jwks.json").await.expect(200).text;
    let old = client.register("ada@example.org").await;
    let old_id = header(&old.access, "kid").as_str().unwrap().to_owned();

    folder
        .run(&["key", "rotate", "--purpose", "refresh", "--algorithm", "ES256"], &[])
        .await
        .assert_refused(&["ES256 is not for refresh tokens"]);
    let rotated = run(&["key", "rotate", "--algorithm", "ES256"]).await;
    let new_id = rotated.split_whitespace().nth(2).unwrap().to_owned();
    assert!(rotated.contains("(access, ES256) signs from"), "{rotated}");
    eventually("the server signs with the new key", async || {
        header(&client.login("ada@example.org").await.access, "kid") == new_id.as_str()
    })
    .await;
    let new = client.login("ada@example.org").await;
    assert_eq!(header(&new.access, "alg"), "ES256");
    let set = published().await;
    assert!(set.contains(&old_id) && set.contains(&new_id), "{set}");
    client.me(&old.access).await.expect(200);
    let listed = run(&["key", "list"]).await;
    let state = |id: &str| {
        let line = listed.lines().find(|line| line.starts_with(id)).unwrap();
        line.split_whitespace().nth(3).unwrap().to_owned()
    };
    assert_eq!((state(&old_id), state(&new_id)), ("retiring".to_owned(), "active".to_owned()));

    let retired = run(&["key", "retire", &old_id]).await;
    assert_eq!(retired, format!("the key {old_id} is removed; its tokens are refused\n"));
    eventually("the old key's tokens are refused", async || client.me(&old.access).await.status == 401).await;
    client.me(&old.access).await.expect_error(401, "invalid_token");
    client.me(&new.access).await.expect(200);
    assert!(!published().await.contains(&old_id));
    folder.run(&["key", "retire", &old_id], &[]).await.assert_refused(&["no key of this store has this id"]);

    // The one that signs: another takes its place, and the session goes on.
    let retired = run(&["key", "retire", &new_id]).await;
    assert_eq!(retired.lines().count(), 2, "{retired}");
    eventually("the key is gone", async || client.me(&new.access).await.status == 401).await;
    let mut refreshed = client.refresh(&new.refresh).await.expect(200).pair();
    eventually("the new key is in use", async || {
        refreshed = client.refresh(&refreshed.refresh).await.expect(200).pair();
        client.me(&refreshed.access).await.status == 200
    })
    .await;
    let run_reseal = run(&["key", "reseal"]).await;
    assert!(run_reseal.starts_with("2 keys"), "removed ones have no secret: {run_reseal}");
    server.stop().await;
    let server = folder.serve_with(&[("COUNTERSIGN_REVOCATION_BOUND", "1s")]).await;
    Client::new(&server).me(&refreshed.access).await.expect(200);
    Client::new(&server).me(&new.access).await.expect(401);
    server.stop().await;
}

#[tokio::test]
async fn a_generated_key_is_written_for_its_owner_alone_and_imported_as_the_next_one() {
    let folder = Folder::new();
    let bound = [("COUNTERSIGN_REVOCATION_BOUND", "1s")];
    let run = async |arguments: &[&str]| {
        let ran = folder.run(arguments, &bound).await;
        assert!(ran.status.success() && ran.stderr.is_empty(), "{ran:?}");
        ran.stdout
    };
    // Without a store, and without making one.
    let pem = run(&["key", "generate"]).await;
    assert!(
        pem.starts_with("-----BEGIN PRIVATE KEY-----\n") && pem.ends_with("-----END PRIVATE KEY-----\n"),
        "{pem}"
    );
    assert_ne!(pem, run(&["key", "generate"]).await);
    let jwk: Value = serde_json::from_str(&run(&["key", "generate", "--algorithm", "HS256"]).await).unwrap();
    assert_eq!((&jwk["kty"], &jwk["alg"]), (&json!("oct"), &json!("HS256")));
    let pem_of_hs = folder.run(&["key", "generate", "--algorithm", "HS256", "--format", "pem"], &[]).await;
    pem_of_hs.assert_refused(&["no PEM form", "--format jwk"]);
    assert!(folder.names().is_empty());
    let said =
        run(&["key", "generate", "--algorithm", "RS256", "--rsa-bits", "3072", "--out", "rsa.pem"]).await;
    assert_eq!(folder.mode("rsa.pem"), 0o600);
    let id = said.split_whitespace().nth(4).unwrap().to_owned();
    let written = std::fs::read(folder.path("rsa.pem")).unwrap();
    let again = folder.run(&["key", "generate", "--out", "rsa.pem"], &[]).await;
    again.assert_refused(&["rsa.pem exists already"]);
    assert_eq!(std::fs::read(folder.path("rsa.pem")).unwrap(), written);

    let server = folder.serve_with(&bound).await;
    let client = Client::new(&server);
    let old = client.register("ada@example.org").await;
    let import =
        async |arguments: &[&str]| folder.run(&[&["key", "import"], arguments].concat(), &bound).await;
    import(&["rsa.pem"]).await.assert_refused(&["fits several algorithms", "--algorithm RS256"]);
    import(&["rsa.pem", "--algorithm", "ES256"]).await.assert_refused(&[
        "not accepted",
        "this is an RSA key, and ES256 takes an EC key on the curve P-256",
    ]);
    import(&["nothing.pem"]).await.assert_refused(&["cannot read nothing.pem"]);
    folder.set_mode("rsa.pem", 0o644);
    import(&["rsa.pem", "--algorithm", "PS256"]).await.assert_refused(&["chmod 600 rsa.pem"]);
    folder.set_mode("rsa.pem", 0o600);
    let imported = import(&["rsa.pem", "--algorithm", "PS256"]).await;
    assert!(imported.stdout.starts_with(&format!("the key {id} (access, PS256) signs from")), "{imported:?}");
    eventually("the server publishes the imported key", async || {
        client.get("/.well-known/jwks.json").await.expect(200).text.contains(&id)
    })
    .await;
    eventually("the server signs with the imported key", async || {
        header(&client.login("ada@example.org").await.access, "kid") == id.as_str()
    })
    .await;
    let new = client.login("ada@example.org").await;
    assert_eq!(header(&new.access, "alg"), "PS256");
    for pair in [&old, &new] {
        client.me(&pair.access).await.expect(200);
    }

    // A removed key does not come back, under another name either.
    run(&["key", "retire", &id]).await;
    import(&["rsa.pem", "--algorithm", "PS256"]).await.assert_refused(&["was removed from it"]);
    server.stop().await;
}

#[tokio::test]
async fn sec_018_weak_and_public_keys_are_not_imported() {
    let folder = Folder::new();
    let migrated = folder.run(&["migrate"], &[]).await;
    assert!(migrated.status.success(), "{migrated:?}");
    folder.serve().await.stop().await;
    let short = URL_SAFE_NO_PAD.encode(b"31 bytes, which is one too few!");
    let example = URL_SAFE_NO_PAD.encode(b"your-256-bit-secret, as in the documentation");
    let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
    for (case, text, reason) in [
        ("short", format!(r#"{{"kty":"oct","alg":"HS256","k":"{short}"}}"#), "31 bytes long"),
        ("an example", format!(r#"{{"kty":"oct","alg":"HS256","k":"{example}"}}"#), "guessable"),
        ("public", format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{x}"}}"#), "a public key"),
        (
            "for encryption",
            format!(r#"{{"kty":"OKP","crv":"Ed25519","use":"enc","x":"{x}"}}"#),
            "not for this use",
        ),
        ("a set", r#"{"keys":[]}"#.to_owned(), "this is a JWK set; take one key out"),
        ("words", "hunter2".to_owned(), "neither a PEM text"),
    ] {
        folder.write("key", &text);
        folder.set_mode("key", 0o600);
        let refused = folder.run(&["key", "import", "key"], &[]).await;
        refused.assert_refused(&[reason]);
        assert!(
            !refused.stderr.contains(&short) && !refused.stderr.contains("hunter2"),
            "{case}: {refused:?}"
        );
    }
    assert_eq!(folder.keys().await.0.len(), 2, "nothing was added");
}

/// What other programs wrote, of the keys that `countersign-jwt` is tested with.
fn written_elsewhere(name: &str) -> Vec<u8> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../countersign-jwt/tests/data");
    std::fs::read(folder.join(name)).unwrap()
}

#[tokio::test]
async fn a_key_in_the_dress_that_another_program_gave_it_is_imported() {
    for (name, algorithm) in [
        ("pem/blanks-at-line-ends.pem", "ES256"),
        ("pem/bag-attributes.pem", "RS256"),
        ("pem/byte-order-mark.pem", "EdDSA"),
    ] {
        let folder = Folder::new();
        folder.serve().await.stop().await;
        std::fs::write(folder.path("key"), written_elsewhere(name)).unwrap();
        folder.set_mode("key", 0o600);
        let said = if algorithm == "RS256" { &["--algorithm", "RS256"][..] } else { &[] };
        let imported = folder.run(&[&["key", "import", "key"][..], said].concat(), &[]).await;
        assert!(imported.status.success(), "{name}: {imported:?}");
        assert!(imported.stdout.contains(&format!("(access, {algorithm})")), "{name}: {imported:?}");
    }
    // As WebCrypto exports it: the key of RFC 8037 §A.1.
    let folder = Folder::new();
    folder.serve().await.stop().await;
    let exported = r#"{"key_ops":["sign"],"ext":true,"alg":"Ed25519","kty":"OKP","crv":"Ed25519",
        "d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
    folder.write("key", exported);
    folder.set_mode("key", 0o600);
    let imported = folder.run(&["key", "import", "key"], &[]).await;
    assert!(imported.stdout.contains("(access, EdDSA)"), "{imported:?}");
}

#[tokio::test]
async fn a_key_that_is_refused_is_called_by_its_name() {
    let folder = Folder::new();
    folder.serve().await.stop().await;
    for (name, algorithm, reason) in [
        ("rsa-1024.pem", None, "RSA key has 1024 bits, 2048 to 8192 are accepted"),
        ("rsa-1024.pem", Some("PS256"), "RSA key has 1024 bits, 2048 to 8192 are accepted"),
        ("pem/ed448.pem", None, "this is an Ed448 key; keys that sign here are RSA"),
        ("pem/ed448.pem", Some("RS256"), "this is an Ed448 key, and RS256 takes an RSA key"),
        ("x25519.pem", None, "this is an X25519 key"),
        ("pem/prime192v1.sec1.pem", None, "this is an EC key on the curve P-192"),
        ("pem/dsa.pem", None, "this is a DSA key"),
        ("pem/encrypted.pem", None, "encrypted"),
        ("pem/encrypted.traditional.pem", Some("RS256"), "encrypted"),
        ("pem/openssh.pem", None, "OpenSSH"),
        ("pem/certificate.pem", None, "this is a certificate"),
        ("pem/two-keys.pem", None, "several keys"),
        ("rsa.pub.pem", None, "a public key"),
        ("pem/openssh.pub", None, "neither a PEM text"),
    ] {
        std::fs::write(folder.path("key"), written_elsewhere(name)).unwrap();
        folder.set_mode("key", 0o600);
        let said = algorithm.map(|algorithm| ["--algorithm", algorithm]);
        let said = said.as_ref().map_or(&[][..], |said| said);
        let arguments = [&["key", "import", "key"][..], said].concat();
        let refused = folder.run(&arguments, &[]).await;
        refused.assert_refused(&[reason]);
        assert!(algorithm.is_some() || !refused.stderr.contains("RS256 key"), "{name}: {refused:?}");
    }
    assert_eq!(folder.keys().await.0.len(), 2, "nothing was added");
}

#[cfg(feature = "flask")]
#[tokio::test]
async fn a_key_that_is_refused_is_called_by_the_name_of_its_option() {
    let text = |name| String::from_utf8(written_elsewhere(name)).unwrap();
    for (private, public, option, reason) in [
        (text("pem/ed448.pem"), text("rsa.pub.pem"), "JWT_PRIVATE_KEY", "this is an Ed448 key"),
        (text("rsa-1024.pem"), text("rsa.pub.pem"), "JWT_PRIVATE_KEY", "1024 bits"),
        (text("rsa.pem"), text("pem/rsa-1024.pub.pem"), "JWT_PUBLIC_KEY", "1024 bits"),
        (text("rsa.pem"), text("rsa.pem"), "JWT_PUBLIC_KEY", "this is a private key"),
        (text("pem/encrypted.pem"), text("rsa.pub.pem"), "JWT_PRIVATE_KEY", "encrypted"),
    ] {
        let options = [
            ("COUNTERSIGN_PROFILE", "flask-jwt-extended"),
            ("JWT_ALGORITHM", "RS256"),
            ("JWT_PRIVATE_KEY", private.as_str()),
            ("JWT_PUBLIC_KEY", public.as_str()),
        ];
        // A start that gets this far leaves a secret behind, of which the next one in the same folder would warn.
        let folder = Folder::new();
        folder.run(&["serve", "--listen", "127.0.0.1:0"], &options).await.assert_refused(&[option, reason]);
    }
}

#[tokio::test]
async fn sec_043_the_command_line_verifies_with_what_a_set_has_and_tells_what_it_leaves_out() {
    let folder = Folder::new();
    let server = folder.serve().await;
    let client = Client::new(&server);
    let pair = client.register("ada@example.org").await;
    let good = client.get("/.well-known/jwks.json").await.expect(200).body["keys"][0].clone();
    let mut bad = good.clone();
    bad["alg"] = serde_json::Value::Null;
    folder.write("set", &json!({"keys": [bad, good]}).to_string());
    folder.write("token", &pair.access);
    let input = std::fs::File::open(folder.path("token")).unwrap();
    let mut command = folder.command(&["jws", "verify", "--jwks", "set"], &[]);
    let output = command.stdin(input).output().await.unwrap();
    assert!(output.status.success() && output.stdout == b"ok\n", "{output:?}");
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(told, "warning: keys of set are left out: keys[0]: JWK member alg is invalid\n");
    server.stop().await;
}

#[tokio::test]
async fn a_minted_token_is_accepted_listed_and_ended_by_its_user() {
    let folder = Folder::new();
    let server = folder.serve().await;
    let client = Client::new(&server);
    let body = json!({ "email": "ada@example.org", "username": "ada", "password": crate::client::PASSWORD });
    let registered = client.post("/v1/auth/register", &body).await.expect(201);
    let (id, own) = (registered.body["user"]["id"].as_str().unwrap().to_owned(), registered.pair());
    let mint = async |arguments: &[&str]| folder.run(&[&["token", "mint"], arguments].concat(), &[]).await;
    for name in [id.as_str(), "Ada@Example.org", "ADA"] {
        let minted = mint(&[name]).await;
        assert!(minted.status.success() && minted.stderr.is_empty(), "{minted:?}");
        assert_eq!(minted.stdout.lines().count(), 1, "the token alone");
        assert_eq!(client.me(minted.stdout.trim()).await.expect(200).body["id"], id.as_str());
    }
    mint(&["grace@example.org"]).await.assert_refused(&["there is no user"]);

    let arguments =
        ["ada", "--lifetime", "60s", "--fresh", "--claim", "scope=read", "--claim", "limits={\"a\":1}"];
    let token = mint(&arguments).await.stdout.trim().to_owned();
    let found = claims(&token);
    assert_eq!((&found["scope"], &found["limits"]), (&json!("read"), &json!({ "a": 1 })));
    assert_eq!((&found["fresh"], &found["type"]), (&json!(true), &json!("access")));
    assert_eq!(found["exp"].as_i64().unwrap() - found["iat"].as_i64().unwrap(), 60);
    mint(&["ada", "--lifetime", "16m"]).await.assert_refused(&["access lifetime", "900 s"]);

    let sessions = async |token: &str| {
        let listed = client.request(reqwest::Method::GET, "/v1/auth/sessions").bearer_auth(token);
        send(listed).await.unwrap().expect(200).body["sessions"].as_array().unwrap().clone()
    };
    let listed = sessions(&own.access).await;
    assert_eq!(listed.len(), 5, "{listed:?}");
    let agents = listed.iter().filter(|session| session["user_agent"] == "countersign token mint");
    assert_eq!(agents.count(), 4);
    let path = format!("/v1/auth/sessions/{}", found["sid"].as_str().unwrap());
    let ended = client.request(reqwest::Method::DELETE, &path).bearer_auth(&own.access);
    send(ended).await.unwrap().expect(204);
    client.me(&token).await.expect_error(401, "invalid_token");
    server.stop().await;
}

#[tokio::test]
async fn sec_179_minting_sets_no_registered_claim() {
    let folder = Folder::new();
    let server = folder.serve().await;
    Client::new(&server).register("ada@example.org").await;
    for name in countersign_jwt::claims::REGISTERED {
        for value in ["9999999999", "true", "refresh", "null"] {
            let extra = format!("{name}={value}");
            let ran = folder.run(&["token", "mint", "ada@example.org", "--claim", &extra], &[]).await;
            ran.assert_refused(&["Countersign sets the claim", name]);
        }
    }
    let twice = ["token", "mint", "ada@example.org", "--claim", "a=1", "--claim", "a=2"];
    folder.run(&twice, &[]).await.assert_refused(&["--claim a is given twice"]);
    server.stop().await;
}

#[tokio::test]
async fn the_algorithm_of_keys_can_be_chosen_from_the_first_one_on() {
    let folder = Folder::new();
    let server = folder.serve_with(&[("COUNTERSIGN_KEY_ALGORITHM", "ES256")]).await;
    let pair = Client::new(&server).register("ada@example.org").await;
    assert_eq!((header(&pair.access, "alg"), header(&pair.refresh, "alg")), (json!("ES256"), json!("HS256")));
    assert!(!server.log().contains("COUNTERSIGN_KEY_ALGORITHM"), "{}", server.log());
    server.stop().await;
    // Another one holds from the next key on, and the server says so.
    let rs256 = [
        ("COUNTERSIGN_KEY_ALGORITHM", "RS256"),
        ("COUNTERSIGN_REVOCATION_BOUND", "1s"),
        ("COUNTERSIGN_SETTINGS_CHANGE", "yes"),
    ];
    let server = folder.serve_with(&rs256).await;
    let client = Client::new(&server);
    assert!(
        server.log().contains("COUNTERSIGN_KEY_ALGORITHM takes effect with the next key"),
        "{}",
        server.log()
    );
    assert_eq!(header(&client.login("ada@example.org").await.access, "alg"), "ES256");
    let rotated = folder.run(&["key", "rotate"], &rs256).await;
    assert!(rotated.stdout.contains("(access, RS256)"), "{rotated:?}");
    eventually("the server signs with RS256", async || {
        header(&client.login("ada@example.org").await.access, "alg") == "RS256"
    })
    .await;
    client.me(&pair.access).await.expect(200);
    server.stop().await;

    let folder = Folder::new();
    let server = folder.serve_with(&[("COUNTERSIGN_KEY_ALGORITHM", "HS256")]).await;
    let client = Client::new(&server);
    let pair = client.register("ada@example.org").await;
    assert_eq!(header(&pair.access, "alg"), "HS256");
    client.me(&pair.access).await.expect(200);
    let published = client.get("/.well-known/jwks.json").await.expect(200);
    assert_eq!(published.body, json!({ "keys": [] }), "a shared secret is never published");
    assert!(server.log().contains("published key set is empty"), "{}", server.log());
    server.stop().await;
    let settings = [("COUNTERSIGN_KEY_ALGORITHM", "none"), ("COUNTERSIGN_LISTEN", "127.0.0.1:0")];
    folder.run(&[], &settings).await.assert_refused(&["COUNTERSIGN_KEY_ALGORITHM", "must be one of"]);
}

#[tokio::test]
async fn token_inspect_says_why_the_server_refuses() {
    let folder = Folder::new();
    let settings = [("COUNTERSIGN_ACCESS_LIFETIME", "1s"), ("COUNTERSIGN_REFRESH_GRACE", "0")];
    let impatient = [settings.as_slice(), &[("COUNTERSIGN_LEEWAY", "0")]].concat();
    let server = folder.serve_with(&impatient).await;
    let short = Client::new(&server).register("ada@example.org").await;
    eventually("the token expires", async || Client::new(&server).me(&short.access).await.status == 401)
        .await;
    server.stop().await;
    // By the store's settings, whatever the shell has.
    let expired = folder.run(&["token", "inspect", &short.access], &[]).await.stdout;

    let server = folder.serve_with(&[("COUNTERSIGN_SETTINGS_CHANGE", "yes")]).await;
    let client = Client::new(&server);
    let login = async || client.login("ada@example.org").await;
    let inspect_with = async |token: &str, settings: &[(&str, &str)]| {
        let ran = folder.run(&["token", "inspect", token], settings).await;
        assert!(ran.status.success() && ran.stderr.is_empty(), "{ran:?}");
        ran.stdout
    };
    let inspect = async |token: &str| inspect_with(token, &[]).await;
    let assert_says = |text: &str, parts: &[&str]| {
        for part in parts {
            assert!(text.contains(part), "{part}: {text}");
        }
    };
    assert_says(
        &expired,
        &[
            "exp (expires)",
            "second",
            " ago",
            "holds, EdDSA",
            "refuse it as an access token: token has expired",
        ],
    );
    let revoked = login().await;
    let revoke =
        client.request(reqwest::Method::DELETE, "/v1/auth/revoke-tokens").bearer_auth(&revoked.access);
    let revoke = revoke.json(&json!({ "tokens": [claims(&revoked.access)["jti"]] }));
    send(revoke).await.unwrap().expect(200);
    assert_says(&inspect(&revoked.access).await, &["holds, EdDSA", "refuse", "the token was revoked"]);
    let ended = login().await;
    client.logout(&ended.refresh).await.expect(204);
    assert_says(&inspect(&ended.access).await, &["holds", "refuse", "session was ended"]);
    assert_says(&inspect(&ended.refresh).await, &["as a refresh token", "the session was ended"]);
    let everywhere = login().await;
    let others =
        client.request(reqwest::Method::DELETE, "/v1/auth/sessions").bearer_auth(&login().await.access);
    send(others).await.unwrap().expect(204);
    assert_says(
        &inspect(&everywhere.access).await,
        &["refuse", "the user's sessions were all ended after this token's login"],
    );

    let other_issuer = [("COUNTERSIGN_PUBLIC_URL", "https://auth.example.com")];
    let good = login().await;
    assert_says(
        &inspect_with(&good.access, &other_issuer).await,
        // The servers' issuer counts, not the shell's.
        &["iss (issuer)", "urn:uuid:", "would accept it as an access token"],
    );
    let stranger = Folder::new();
    let strangers = stranger.serve().await;
    let foreign = Client::new(&strangers).register("ada@example.org").await;
    assert_says(
        &inspect(&foreign.access).await,
        &["not one of this store's", "not proven", "refuse", "token names an unknown key"],
    );
    strangers.stop().await;

    // Its key was removed.
    let id = header(&good.access, "kid").as_str().unwrap().to_owned();
    assert_says(&inspect(&good.access).await, &["access, active", "would accept it as an access token"]);
    folder.run(&["key", "retire", &id], &[]).await;
    assert_says(&inspect(&good.access).await, &["access, removed ", "refuse", "token names an unknown key"]);
    server.stop().await;
}

#[tokio::test]
async fn help_shows_what_a_command_takes_and_names_the_settings() {
    let folder = Folder::new();
    let help = async |arguments: &[&str]| {
        let ran = folder.run(&[arguments, &["--help"]].concat(), &[]).await;
        assert!(ran.status.success() && ran.stderr.is_empty(), "{ran:?}");
        ran.stdout
    };
    for (command, listens, has_store) in [
        (&[][..], true, true),
        (&["serve"], true, true),
        (&["migrate"], false, true),
        (&["key", "secret"], false, false),
        (&["key", "generate"], false, false),
        (&["key", "list"], false, true),
        (&["key", "rotate"], false, true),
        (&["key", "import"], false, true),
        (&["key", "retire"], false, true),
        (&["token", "inspect"], false, true),
        (&["token", "mint"], false, true),
        (&["jws", "verify"], false, false),
    ] {
        let text = help(command).await;
        assert_eq!(text.contains("--listen"), listens, "{command:?}: {text}");
        for part in ["--database", "--config", "COUNTERSIGN_DATABASE_URL", "COUNTERSIGN_SECRET_FILE"] {
            assert_eq!(text.contains(part), has_store, "{command:?} {part}: {text}");
        }
    }
    assert!(help(&[]).await.contains("COUNTERSIGN_KEY_ROTATION"));
    let wrong = folder.run(&["key", "list", "--database", "oracle://db"], &[]).await;
    wrong.assert_refused(&["--database (command line)", "sqlite:///", "postgres://"]);
    let wrong = folder.run(&[], &[("COUNTERSIGN_DATABASE_URL", "memcached://db")]).await;
    wrong.assert_refused(&["COUNTERSIGN_DATABASE_URL (environment)", "mongodb://"]);
}

#[tokio::test]
async fn an_idle_time_that_ends_nothing_is_warned_of() {
    let folder = Folder::new();
    let server = folder.serve_with(&[("COUNTERSIGN_SESSION_LIFETIME", "1d")]).await;
    assert!(server.log().contains("COUNTERSIGN_SESSION_IDLE is longer"), "{}", server.log());
    server.stop().await;
    let folder = Folder::new();
    let server = folder.serve().await;
    assert!(!server.log().contains("COUNTERSIGN_SESSION_IDLE"), "{}", server.log());
    server.stop().await;
}

#[tokio::test]
async fn sec_040_a_server_replaces_keys_whose_time_is_over_unless_that_is_switched_off() {
    let folder = Folder::new();
    folder.serve().await.stop().await;
    let mut database = folder.database().await;
    let age = "UPDATE sealed_key SET created_at = created_at - ?1, active_at = active_at - ?1";
    sqlx::query(age).bind(91_i64 * 86_400_000).execute(&mut database).await.unwrap();
    drop(database);
    let states = async || {
        let listed = folder.run(&["key", "list"], &[]).await.stdout;
        let row = |line: &str| line.split_whitespace().skip(1).take(3).collect::<Vec<_>>().join(" ");
        listed.lines().skip(1).map(row).collect::<Vec<_>>()
    };
    let server = folder.serve_with(&[("COUNTERSIGN_KEY_ROTATION", "off")]).await;
    Client::new(&server).register("ada@example.org").await;
    assert_eq!(states().await, ["access EdDSA active", "refresh HS256 active"]);
    server.stop().await;

    let (one, two) = tokio::join!(folder.serve(), folder.serve());
    let expected =
        ["access EdDSA active", "access EdDSA next", "refresh HS256 active", "refresh HS256 next"].as_slice();
    eventually("the next keys are made", async || states().await == expected).await;
    for server in [&one, &two] {
        let client = Client::new(server);
        eventually("both publish the next key", async || {
            let published = client.get("/.well-known/jwks.json").await.expect(200);
            published.body["keys"].as_array().unwrap().len() == 2
        })
        .await;
        let pair = client.login("ada@example.org").await;
        client.me(&pair.access).await.expect(200);
    }
    assert_eq!(states().await, expected, "one of each, whoever made it");
    let made = [&one, &two].map(|server| server.log().matches("a key was made, as scheduled").count());
    assert_eq!(made.iter().sum::<usize>(), 2, "{made:?}");
    one.stop().await;
    two.stop().await;
}
