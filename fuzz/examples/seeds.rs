//! Writes the first inputs of every target into `corpus/`: what is valid, and what is nearly so.
//!
//! `cargo run --example seeds`. The committed corpus holds these and the smallest inputs that reach most of what ten minutes
//! of fuzzing found.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use countersign_fuzz::{genuine, private_keys};
use countersign_jwt::{Algorithm, KeyId, SigningKey};

fn main() -> std::io::Result<()> {
    let mut seeds: Vec<(&str, Vec<u8>)> = Vec::new();
    compact(&mut seeds);
    headers(&mut seeds);
    claims(&mut seeds);
    jwks(&mut seeds);
    pems(&mut seeds);
    fields(&mut seeds);
    for (number, (target, bytes)) in seeds.iter().enumerate() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
        std::fs::create_dir_all(&directory)?;
        std::fs::write(directory.join(format!("seed-{number:03}")), bytes)?;
    }
    Ok(())
}

type Seeds<'a> = Vec<(&'a str, Vec<u8>)>;

/// A text after the bytes that choose.
fn with(choice: &[u8], text: impl AsRef<[u8]>) -> Vec<u8> {
    [choice, text.as_ref()].concat()
}

fn compact(seeds: &mut Seeds<'_>) {
    for (number, token) in genuine().iter().enumerate() {
        let number = u8::try_from(number).expect("a few");
        seeds.push(("compact", with(&[0], token)));
        seeds.push(("compact", vec![1, number]));
        // One change of each kind, near the start, the dots and the end.
        for (kind, at, value) in [(0, 3, b'.'), (1, 40, b'A'), (2, 300, 1), (3, 100, 4), (4, 60, number + 1)]
        {
            let [high, low] = u16::to_be_bytes(at);
            seeds.push(("compact", vec![1, number, kind, high, low, value]));
        }
    }
    for text in
        ["", ".", "..", "...", "a.b.c", "e30.e30.", "e30..AAAA", "AB.AB.AB", "eyJhbGciOiJub25lIn0.e30."]
    {
        seeds.push(("compact", with(&[0], text)));
    }
    for (key, algorithm) in Algorithm::ALL.into_iter().enumerate() {
        let key = u8::try_from(key).expect("a few");
        let header = format!(r#"{{"alg":"{algorithm}","kid":"{algorithm}-1","typ":"at+jwt"}}"#);
        seeds.push(("compact", with(&[2, key], format!("{header}\n{CLAIMS}"))));
        seeds.push((
            "compact",
            with(&[2, key], format!("{header}\n{CLAIMS}\n0123456789abcdef0123456789abcdef")),
        ));
    }
}

fn headers(seeds: &mut Seeds<'_>) {
    for (key, algorithm) in Algorithm::ALL.into_iter().enumerate() {
        let key = u8::try_from(key).expect("a few");
        seeds.push(("header", with(&[key], format!(r#"{{"alg":"{algorithm}"}}"#))));
        seeds.push((
            "header",
            with(&[key], format!(r#"{{"alg":"{algorithm}","kid":"{algorithm}-1","typ":"rt+jwt"}}"#)),
        ));
    }
    let deep = format!(r#""x":{}1{}"#, "[".repeat(33), "]".repeat(33));
    let objects = format!(r#""x":[{}]"#, vec![r#"{"a":0}"#; 150].join(","));
    let wide: Vec<_> = (0..256).map(|n| format!(r#""{n:x}":0"#)).collect();
    for members in [
        r#""crit":["exp"],"exp":1"#,
        r#""crit":[]"#,
        r#""b64":false"#,
        r#""jwk":{"kty":"oct","k":"AAAA"}"#,
        r#""jku":"https://attacker.example/keys""#,
        r#""x5u":"https://attacker.example/chain""#,
        r#""x5c":["MIIB"]"#,
        r#""x5t":5"#,
        r#""x5t#S256":"abc""#,
        r#""enc":"A256GCM""#,
        r#""zip":"DEF""#,
        r#""cty":"JWT""#,
        r#""cty":"application/jwt""#,
        r#""cty":"json""#,
        r#""kid":"HS256-1","kid":"HS256-1""#,
        r#""\u006bid":"HS256-1","kid":"HS256-1""#,
        r#""kid":"../../dev/null""#,
        r#""kid":"x' OR 1=1 --""#,
        r#""kid":"RS256-1""#,
        r#""kid":null"#,
        r#""kid":["HS256-1"]"#,
        r#""typ":"application/at+jwt""#,
        r#""typ":5"#,
        r#""x":"\ud83d\ude00""#,
        r#""x":"\ud83d""#,
        r#""x":1e400"#,
        r#""x":-0.5e-3,"y":[true,false,null,{"z":{}}]"#,
        r#""x":{"a":1,"a":2}"#,
        deep.as_str(),
        wide.join(",").as_str(),
        objects.as_str(),
    ] {
        seeds.push(("header", with(&[0], format!(r#"{{"alg":"HS256",{members}}}"#))));
    }
    for text in
        ["", "{}", "[]", "null", "\u{feff}{}", "{} ", " {\"alg\" :\t\"HS256\"}\r\n", "{}x", r#"{"alg":null}"#]
    {
        seeds.push(("header", with(&[0], text)));
    }
    for name in ["none", "hs256", "HS384", "Ed25519", "ES521", ""] {
        seeds.push(("header", with(&[0], format!(r#"{{"alg":"{name}","kid":"HS256-1"}}"#))));
    }
    seeds.push(("header", with(&[0], b"{\"alg\":\"HS256\",\"x\":\"\xff\"}")));
}

const CLAIMS: &str = r#"{"sub":"ada","iat":1800000000,"exp":1800000900,"jti":"0b8f0a3e-6f0e-4f0e-9a52-0d3a7c1f2b4d","type":"access","fresh":false}"#;

fn claims(seeds: &mut Seeds<'_>) {
    let refresh = CLAIMS.replace("access", "refresh");
    seeds.push(("claims", with(&[0, 1], CLAIMS)));
    seeds.push(("claims", with(&[1, 1], &refresh)));
    for choice in [0x10, 0x20, 0x30, 0x08] {
        seeds.push(("claims", with(&[choice, 1], CLAIMS)));
    }
    let parties = r#""iss":"https://auth.example","aud":["https://api.example","x"]"#;
    let party = r#""iss":"https://auth.example","aud":"https://api.example""#;
    let long = format!(r#""aud":[{}]"#, vec!["\"x\""; 65].join(","));
    let list = format!(r#""x":[{}]"#, vec!["0"; 1025].join(","));
    let deep = format!(r#""x":{}1{}"#, "[".repeat(33), "]".repeat(33));
    let objects = format!(r#""x":[{}]"#, vec![r#"{"a":0}"#; 240].join(","));
    for (choice, members) in [
        (6, parties),
        (6, party),
        (0, party),
        (2, r#""iss":"https://auth.example/""#),
        (4, r#""aud":[]"#),
        (4, r#""aud":[1]"#),
        (4, r#""aud":{}"#),
        (4, long.as_str()),
        (0, r#""nbf":1800000000.5"#),
        (0, r#""nbf":1800000500"#),
        (0, r#""nbf":"never""#),
        (0, r#""sid":"0b8f0a3e-6f0e-4f0e-9a52-0d3a7c1f2b4e","gen":3,"epoch":2"#),
        (0, r#""sid":"0b8f0a3e-6f0e-4f0e-9a52-0d3a7c1f2b4e""#),
        (0, r#""gen":4294967296"#),
        (0, r#""epoch":-1"#),
        (0, r#""csrf":"3q2-7w""#),
        (0, r#""csrf":"\u0000\u0001\u0002""#),
        (0, r#""sub":"eve""#),
        (0, r#""\u0073ub":"eve""#),
        (0, r#""scope":"read write","roles":["admin",{"of":{"team":7}}],"ratio":0.1,"none":null"#),
        (0, list.as_str()),
        (0, deep.as_str()),
        (0, objects.as_str()),
    ] {
        seeds.push(("claims", with(&[choice, 1], format!("{{{members},{}", &CLAIMS[1..]))));
    }
    for (from, to) in [
        ("1800000900", "\"never\""),
        ("1800000900", "1e300"),
        ("1800000900", "1800000000.0001"),
        ("1800000900", "9007199254740992"),
        ("1800000900", "9007199254740993"),
        ("1800000900", "-1"),
        ("1800000900", "1800000001"),
        ("1800000000", "1800000030"),
        ("\"ada\"", "7"),
        ("\"ada\"", "\"\""),
        ("\"ada\"", "\"a\\u0000\""),
        ("false", "true"),
        ("false", "1800000100"),
        ("false", "1800000100.25"),
        ("false", "null"),
        ("\"access\"", "\"Access\""),
        ("0b8f", "{0b8"),
        ("-6f0e", "6f0e"),
        ("0b8f0a3e", "0B8F0A3E"),
        ("\"type\"", "\"kind\""),
    ] {
        seeds.push(("claims", with(&[0, 1], CLAIMS.replace(from, to))));
    }
    for text in ["", "{}", "[]", "\"x\"", "\u{feff}{}", "{\"a\":1}{}", "not JSON"] {
        seeds.push(("claims", with(&[0, 1], text)));
    }
}

fn jwks(seeds: &mut Seeds<'_>) {
    let mut public = Vec::new();
    for key in private_keys() {
        let jwk = key.dangerous_private_jwk().expect("a private form").to_string();
        let own = key.algorithm();
        seeds.push(("jwk", jwk.clone().into()));
        if own.name().starts_with(['R', 'P']) && own != Algorithm::Rs256 {
            continue;
        }
        let Some(jwk) = key.verifying_key().to_jwk() else { continue };
        for (from, to) in [
            ("\"use\":\"sig\"", "\"use\":\"enc\""),
            ("\"use\":\"sig\"", "\"key_ops\":[\"verify\"]"),
            ("\"use\":\"sig\"", "\"key_ops\":[\"verify\",\"verify\"]"),
            ("\"alg\":", "\"x5t\":"),
            ("\"kty\":", "\"kty\":\"oct\",\"kty\":"),
            ("\"kty\":\"EC\"", "\"kty\":\"OKP\""),
            ("\"kid\":\"", "\"kid\":\"\\n"),
            ("\"e\":\"AQAB\"", "\"e\":\"Aw\""),
            ("\"e\":\"AQAB\"", "\"e\":\"AAEAAQ\""),
            ("\"crv\":\"P-256\"", "\"crv\":\"P-384\""),
        ] {
            if jwk.contains(from) {
                seeds.push(("jwk", jwk.replace(from, to).into()));
            }
        }
        public.push(jwk);
    }
    seeds.push(("jwk", format!(r#"{{"keys":[{}]}}"#, public.join(",")).into()));
    seeds.push(("jwk", format!(r#"{{"keys":[{0},{0}]}}"#, public[0]).into()));
    let x25519 = r#"{"kty":"OKP","crv":"X25519","x":"3p7bfXt9wbTTW2HC7OQ1Nz-DQ8hbeGdNrfx-FG-IK08"}"#;
    seeds.push(("jwk", format!(r#"{{"keys":[{x25519},{{"kty":"AKP","x":1}},{}]}}"#, public[0]).into()));
    for text in [
        "",
        "{}",
        r#"{"keys":[]}"#,
        r#"{"keys":{}}"#,
        r#"{"keys":[1]}"#,
        r#"{"kty":"oct","k":"AAAA","alg":"HS256"}"#,
        r#"{"kty":"OKP","crv":"Ed25519","x":"AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}"#,
        r#"{"kty":"OKP","crv":"Ed25519","x":"7f________________________________________38"}"#,
    ] {
        seeds.push(("jwk", text.into()));
    }
}

fn pems(seeds: &mut Seeds<'_>) {
    let choice = |algorithm: Algorithm| {
        let position = Algorithm::ALL.iter().position(|other| *other == algorithm);
        u8::try_from(position.expect("one of all")).expect("a few")
    };
    for key in private_keys() {
        let number = choice(key.algorithm());
        if key.algorithm().name().starts_with(['R', 'P']) && key.algorithm() != Algorithm::Rs256 {
            continue;
        }
        seeds.push(("pem", with(&[0x80 | number], key.to_secret_bytes().as_slice())));
        let public = key.verifying_key();
        if let (Some(pem), Some(der)) = (public.to_public_key_pem(), public.to_public_key_der()) {
            seeds.push(("pem", with(&[number], &pem)));
            seeds.push(("pem", with(&[0], &pem)));
            seeds.push(("pem", with(&[0x80 | number], &der)));
            seeds.push(("pem", with(&[0x80], &der)));
            seeds.push(("pem", with(&[0x80], STANDARD.encode(&der))));
            seeds.push(("pem", with(&[0x80 | number], public.public_key().expect("public"))));
        }
        if let Some(pem) = key.dangerous_private_key_pem() {
            seeds.push(("pem", with(&[number], pem.as_bytes())));
        }
    }
    for (algorithm, text) in [
        (Algorithm::Rs256, include_str!("../../crates/countersign-jwt/tests/data/rsa.pkcs1.pem")),
        (Algorithm::Rs256, include_str!("../../crates/countersign-jwt/tests/data/rsa.pkcs1.pub.pem")),
        (Algorithm::Rs256, include_str!("../../crates/countersign-jwt/tests/data/rsa-e3.pub.pem")),
        (Algorithm::Ps256, include_str!("../../crates/countersign-jwt/tests/data/rsa-1024.pem")),
        (Algorithm::Ps256, include_str!("../../crates/countersign-jwt/tests/data/rsa-pss.pem")),
        (Algorithm::Es256, include_str!("../../crates/countersign-jwt/tests/data/p256.sec1.pem")),
        (Algorithm::Es384, include_str!("../../crates/countersign-jwt/tests/data/p384.sec1.pem")),
        (Algorithm::Es512, include_str!("../../crates/countersign-jwt/tests/data/p521.sec1.pem")),
        (Algorithm::Es256k, include_str!("../../crates/countersign-jwt/tests/data/secp256k1.sec1.pem")),
        (Algorithm::EdDsa, include_str!("../../crates/countersign-jwt/tests/data/ed25519.pem")),
        (Algorithm::EdDsa, include_str!("../../crates/countersign-jwt/tests/data/ed25519.encrypted.pem")),
        (Algorithm::EdDsa, include_str!("../../crates/countersign-jwt/tests/data/x25519.pub.pem")),
    ] {
        seeds.push(("pem", with(&[choice(algorithm)], text)));
        let body: String = text.lines().filter(|line| !line.starts_with("-----")).collect();
        if let Ok(der) = STANDARD.decode(body) {
            seeds.push(("pem", with(&[0x80 | choice(algorithm)], der)));
        }
    }
    let key = SigningKey::hmac(Algorithm::Hs256, b"an adequate text of 32 or more bytes");
    assert!(key.is_ok_and(|key| KeyId::new(key.key_id().as_str()).is_ok()));
    seeds.push(("pem", with(&[0], b"an adequate text of 32 or more bytes")));
}

fn fields(seeds: &mut Seeds<'_>) {
    for text in [
        "__Host-countersign_access=a.b.c",
        "__Host-countersign_access=a.b.c; __Host-countersign_refresh=d.e.f",
        "__Host-countersign_access=a; __Host-countersign_access=b",
        "__Host-countersign_access=a\n__Host-countersign_access=b",
        "x=1;;  ;=; __Host-countersign_access = a;\t__Host-countersign_access=\"q\"\t; __host-countersign_access=z",
        "%5F%5FHost-countersign_access=a; __Host-countersign_access",
        "__Host-countersign_access=",
        "at=1; access_token=2; \u{a0}__Host-countersign_access=3",
    ] {
        seeds.push(("cookie_header", text.into()));
    }
    seeds.push(("cookie_header", b"__Host-countersign_access=\xff; \xfe=1".to_vec()));
    for text in [
        "Bearer a.b.c",
        "bearer  a.b.c",
        "BEARER YQ==",
        "Bearer",
        "Bearer ",
        "Bearer a b",
        "Bearer a, Bearer b",
        "Basic dXNlcjpwYXNz",
        "Digest a=\"b\", c=d",
        "Basic x, Bearer y",
        "a.b.c",
        "Bearer a\nBearer b",
        "Basic x\nBearer b",
        "Bearer =a",
        "Bearer\ta.b.c",
        "\"x\" y",
    ] {
        seeds.push(("authorization", text.into()));
    }
}
