//! Makes a key, signs an access token with it, and writes the key's public half where verifiers read it.
//!
//! ```console
//! $ cargo run -p countersign-jwt --example sign -- ada /tmp/keys.json
//! ```
#![allow(clippy::print_stdout, reason = "a program for the terminal")]

use std::error::Error;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use countersign_jwt::{
    Algorithm, Issuer, KeyRing, NewClaims, Random, RandomError, SigningKey, Timestamp, TokenId, TokenType,
    UserId, random,
};

/// The operating system's randomness.
#[derive(Debug)]
struct System(SystemRandom);

impl Random for System {
    fn fill(&self, dest: &mut [u8]) -> Result<(), RandomError> {
        self.0.fill(dest).map_err(|_| RandomError)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(user), Some(file)) = (arguments.next(), arguments.next()) else {
        return Err("usage: sign USER FILE_FOR_THE_PUBLIC_KEYS".into());
    };
    let system = System(SystemRandom::new());
    let key = SigningKey::generate(Algorithm::EdDsa, &system)?;
    let mut public = KeyRing::new();
    public.insert(key.verifying_key())?;
    std::fs::write(&file, public.to_jwk_set())?;

    #[expect(
        clippy::disallowed_methods,
        reason = "time is an argument of the library, so a program asks for it"
    )]
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let now = Timestamp::from_millis(i64::try_from(now.as_millis())?);
    let id = TokenId::new(random::uuid(&system)?);
    let expires_at = now + Duration::from_secs(900);
    let claims = NewClaims::new(TokenType::Access, UserId::new(&user)?, id, now, expires_at)
        .with_claim("scope", "reports:read")?;
    let issuer = Issuer::new(key).with_issuer("https://auth.example.com");
    println!("{}", issuer.issue(&claims)?);
    Ok(())
}
