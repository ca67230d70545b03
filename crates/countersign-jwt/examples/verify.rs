//! A service that only verifies: it reads the published keys (a JWK set, RFC 7517 §5) and says whose token this is.
//!
//! ```console
//! $ TOKEN=$(cargo run -p countersign-jwt --example sign -- ada /tmp/keys.json)
//! $ cargo run -p countersign-jwt --example verify -- /tmp/keys.json "$TOKEN"
//! ```
#![allow(clippy::print_stdout, reason = "a program for the terminal")]

use std::error::Error;
use std::time::{SystemTime, UNIX_EPOCH};

use countersign_jwt::key::JwkSet;
use countersign_jwt::{Timestamp, TokenType, Verifier};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(file), Some(token)) = (arguments.next(), arguments.next()) else {
        return Err("usage: verify FILE_WITH_THE_PUBLIC_KEYS TOKEN".into());
    };
    let keys = JwkSet::parse(&std::fs::read(&file)?)?.to_ring()?;
    let verifier = Verifier::with_fixed_keys(TokenType::Access, keys).with_issuer("https://auth.example.com");

    #[expect(
        clippy::disallowed_methods,
        reason = "time is an argument of the library, so a program asks for it"
    )]
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let claims = verifier.verify(&token, Timestamp::from_millis(i64::try_from(now.as_millis())?))?;
    println!("{} with the scope {}", claims.subject(), claims.get::<String>("scope")?.unwrap_or_default());
    Ok(())
}
