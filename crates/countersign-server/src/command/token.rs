//! `countersign token …`: what a token says, and what the server would say to it.

use std::error::Error;
use std::fmt::Write as _;
use std::io::{self, Read as _};
use std::time::Duration;

use clap::{Args, Subcommand};
use countersign_core::claims::decode_unverified;
use countersign_core::jws;
use countersign_core::keychain::Keychain;
use countersign_core::session::Refusal;
use countersign_core::{KeyRing, Timestamp, TokenType, UnverifiedClaims};
use countersign_http::{Auth, OsRandom, SystemClock, rfc3339};
use serde_json::Value;

use crate::serve;
use crate::settings::{Flags, Settings, Sources};
use crate::telemetry::say;

#[derive(Args, Debug)]
pub(crate) struct TokenCommand {
    #[command(subcommand)]
    command: TokenSubcommand,
}

#[derive(Debug, Subcommand)]
enum TokenSubcommand {
    /// Explain a token: every claim, its times relative to now, whether its signature holds with the store's keys, and
    /// why the server would refuse it.
    ///
    /// Works on any token, also on forged ones, and succeeds as soon as there is something to explain. The signature
    /// and the CSRF value are not printed. Nothing is changed: a refresh token is not exchanged.
    Inspect(Given),
    /// Say `ok` if the server would accept a token now, else say why not and fail.
    ///
    /// Access and refresh tokens are judged as the server does it, revocation included; a refresh token is not
    /// exchanged.
    Verify(Given),
}

#[derive(Args, Debug)]
struct Given {
    /// The token. Without it, or with -, it is read from standard input, and so stays out of the shell's history.
    #[arg(allow_hyphen_values = true)]
    token: Option<String>,
}

impl Given {
    fn read(&self) -> Result<String, Box<dyn Error>> {
        let text = match self.token.as_deref() {
            Some(token) if token != "-" => token.to_owned(),
            _ => {
                let mut text = Vec::new();
                // Far more than any token has; what is longer is refused for its length.
                io::stdin().lock().take(64 * 1024).read_to_end(&mut text)?;
                String::from_utf8_lossy(&text).into_owned()
            }
        };
        let text = text.trim();
        // As copied from a request.
        let text = text.strip_prefix("Authorization:").unwrap_or(text).trim_start();
        Ok(text.strip_prefix("Bearer ").unwrap_or(text).trim_start().to_owned())
    }
}

/// `countersign token …`
pub(crate) fn run(command: &TokenCommand, flags: Flags) -> Result<(), Box<dyn Error>> {
    let settings = Settings::read(&Sources::read(flags)?)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (given, explain) = match &command.command {
            TokenSubcommand::Inspect(given) => (given, true),
            TokenSubcommand::Verify(given) => (given, false),
        };
        let token = given.read()?;
        let alleged = decode_unverified(&token)?;
        let (store, secrets) = serve::open_existing(&settings).await?;
        let keys = Keychain::open(&store, &secrets, &SystemClock::new(), &OsRandom).await?;
        let auth = serve::builder(&settings, store, secrets).without_background().build().await?;
        let kind = alleged_kind(&alleged);
        let verdict = judge(&auth, &token, kind).await;
        if !explain {
            verdict?;
            say("ok");
            return Ok(());
        }
        let now = auth.clock().now();
        let ring = match kind {
            TokenType::Access => keys.access.ring.load(),
            TokenType::Refresh => keys.refresh.ring.load(),
        };
        say(&explanation(&alleged, kind, &signature(&token, &ring), verdict.err().as_deref(), now));
        Ok(())
    })
}

/// Which rules to judge by. What says of itself neither is judged as an access token, and refused.
fn alleged_kind(alleged: &UnverifiedClaims) -> TokenType {
    let is = |members: &serde_json::Map<String, Value>, name, value: &str| {
        members.get(name).and_then(Value::as_str).is_some_and(|found| found.eq_ignore_ascii_case(value))
    };
    let refresh = TokenType::Refresh;
    if is(alleged.claims(), "type", refresh.as_str()) || is(alleged.header(), "typ", refresh.header_typ()) {
        refresh
    } else {
        TokenType::Access
    }
}

/// What the server would do with the token.
async fn judge(auth: &Auth, token: &str, kind: TokenType) -> Result<(), Box<dyn Error>> {
    match kind {
        TokenType::Access => {
            auth.sessions().authenticate(token).await?;
        }
        TokenType::Refresh => {
            let claims = auth.sessions().authenticate_refresh(token).await?;
            if auth.accounts().enabled_user(claims.subject()).await?.is_none() {
                return Err(Refusal::User.into());
            }
        }
    }
    Ok(())
}

/// Whether the signature holds, in words.
fn signature(token: &str, ring: &KeyRing) -> String {
    match jws::verify(token, ring) {
        Ok(verified) => format!("holds, {}", verified.header.algorithm()),
        Err(error) => format!("not proven: {error}"),
    }
}

/// The whole text that `token inspect` prints. Everything in the token may be forged, so nothing of it gets to the
/// terminal unescaped.
fn explanation(
    alleged: &UnverifiedClaims,
    kind: TokenType,
    signature: &str,
    refused: Option<&dyn Error>,
    now: Timestamp,
) -> String {
    let mut text = String::from("header\n");
    for (name, value) in alleged.header() {
        let _infallible = writeln!(text, "  {:24}{}", label(name), shown(value));
    }
    text.push_str("claims\n");
    for (name, value) in alleged.claims() {
        let value = match name.as_str() {
            // Whoever has it and the cookies can act for the user.
            "csrf" => "present, not shown".to_owned(),
            "exp" | "iat" | "nbf" => in_words(value, now),
            "fresh" if value.is_number() => in_words(value, now),
            _ => shown(value),
        };
        let _infallible = writeln!(text, "  {:24}{value}", label(name));
    }
    let _infallible = writeln!(text, "signature                 {signature}");
    let verdict = match refused {
        None => format!("the server would accept it as {} token", article(kind)),
        Some(why) => format!("the server would refuse it as {} token: {why}", article(kind)),
    };
    let _infallible = write!(text, "verdict                   {verdict}");
    text
}

const fn article(kind: TokenType) -> &'static str {
    match kind {
        TokenType::Access => "an access",
        TokenType::Refresh => "a refresh",
    }
}

/// A member's name and what it means.
fn label(name: &str) -> String {
    let meaning = match name {
        "alg" => "algorithm",
        "kid" => "key",
        "typ" => "kind",
        "iss" => "issuer",
        "sub" => "subject",
        "aud" => "audience",
        "exp" => "expires",
        "nbf" => "not before",
        "iat" => "issued",
        "jti" => "token id",
        "type" => "kind",
        "fresh" => "from a login",
        "sid" => "session",
        "gen" => "refreshes so far",
        "epoch" => "times all ended",
        "csrf" => "CSRF value",
        _ => return plain(name),
    };
    format!("{name} ({meaning})")
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => plain(text),
        other => plain(&other.to_string()),
    }
}

/// Text of others for a terminal: nothing that moves the cursor or changes the order of reading, and not too much.
fn plain(text: &str) -> String {
    const LONGEST: usize = 200;
    let mut plain = String::new();
    for c in text.chars().take(LONGEST) {
        match c {
            ' '..='~' => plain.push(c),
            c if c.is_alphanumeric() => plain.push(c),
            c => plain.extend(c.escape_unicode()),
        }
    }
    if text.chars().nth(LONGEST).is_some() {
        plain.push('…');
    }
    plain
}

/// A time of the token, and how far away it is.
fn in_words(value: &Value, now: Timestamp) -> String {
    let secs = value.as_f64().filter(|secs| *secs >= 0.0 && *secs <= Timestamp::MAX.as_secs() as f64);
    let Some(secs) = secs else { return format!("{}, which is not a time", shown(value)) };
    #[expect(clippy::cast_possible_truncation, reason = "checked above, and fractions don't count")]
    let time = Timestamp::from_secs(secs as i64);
    let distance = match time.as_secs() - now.as_secs() {
        0 => "now".to_owned(),
        ahead @ 1.. => format!("in {}", rough(Duration::from_secs(ahead.unsigned_abs()))),
        behind => format!("{} ago", rough(Duration::from_secs(behind.unsigned_abs()))),
    };
    format!("{}, {distance}", rfc3339(time))
}

/// A duration in its largest fitting unit, rounded down.
fn rough(duration: Duration) -> String {
    let secs = duration.as_secs();
    let (number, unit) = match secs {
        0..120 => (secs, "second"),
        120..7_200 => (secs / 60, "minute"),
        7_200..172_800 => (secs / 3_600, "hour"),
        _ => (secs / 86_400, "day"),
    };
    if number == 1 { format!("{number} {unit}") } else { format!("{number} {unit}s") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn times_are_told_relative_to_now() {
        let now = Timestamp::from_secs(1_769_860_800);
        for (value, words) in [
            (json!(1_769_860_800), "2026-01-31T12:00:00Z, now"),
            (json!(1_769_860_801), "2026-01-31T12:00:01Z, in 1 second"),
            (json!(1_769_860_800 + 14 * 60), "2026-01-31T12:14:00Z, in 14 minutes"),
            (json!(1_769_860_800.75 - 7_200.0), "2026-01-31T10:00:00Z, 2 hours ago"),
            (json!(0), "1970-01-01T00:00:00Z, 20484 days ago"),
            (json!("soon"), "soon, which is not a time"),
            (json!(-1), "-1, which is not a time"),
            (json!(1e300), "1e300, which is not a time"),
        ] {
            let told = in_words(&value, now);
            assert_eq!(told.replace("1e+300", "1e300"), words);
        }
    }

    #[test]
    fn what_a_token_says_cannot_move_the_cursor() {
        assert_eq!(plain("a\u{1b}[2J\r\nb\u{202e}c\u{7f}é"), r"a\u{1b}[2J\u{d}\u{a}b\u{202e}c\u{7f}é");
        assert_eq!(plain(&"a".repeat(1_000)).chars().count(), 201);
    }
}
