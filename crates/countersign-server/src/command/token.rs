//! `countersign token …`: explains a token, judges it as the server would, and makes one to try things out with.

use std::error::Error;
use std::fmt::Write as _;
use std::io::{self, Read as _};
use std::time::Duration;

use clap::{Args, Subcommand};
use countersign_core::flow::{AccessGrant, Sessions};
use countersign_core::model::Device;
use countersign_core::model::StoredKey;
use countersign_core::model::{EmailAddress, User, Username};
use countersign_core::store::{NameKey, UserStore};
use countersign_http::{Auth, rfc3339};
use countersign_jwt::claims::decode_unverified;
use countersign_jwt::issuers::FormerIssuer;
use countersign_jwt::{Timestamp, TokenType, UnverifiedClaims, UserId};
use serde_json::{Map, Value};

use super::{StoreFlags, auth, with_settings};
use crate::settings::duration;
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
    /// Works on any token, even a forged one, and succeeds as soon as there is something to explain. The signature and
    /// the CSRF value are not printed. Nothing is changed: a refresh token is not exchanged.
    Inspect {
        #[command(flatten)]
        given: Given,
        #[command(flatten)]
        store: StoreFlags,
    },
    /// Say `ok` if the server would accept a token now; otherwise say why not and fail.
    ///
    /// Access and refresh tokens are judged as the server judges them, including revocation. A refresh token is not
    /// exchanged.
    Verify {
        #[command(flatten)]
        given: Given,
        #[command(flatten)]
        store: StoreFlags,
    },
    /// Print an access token for a user who did not log in, to try something out as that user.
    ///
    /// The server accepts it like any other access token. It has a session of its own, which the user sees in the list
    /// of sessions and can end, and no refresh token. Only the token is printed.
    Mint(Mint),
}

#[derive(Args, Debug)]
struct Mint {
    /// The user: id, e-mail address or username
    user: String,
    /// The token's lifetime, such as 60s or 10m. The default, which is also the longest, is COUNTERSIGN_ACCESS_LIFETIME
    /// (with a profile, the lifetime in its options)
    #[arg(long, value_name = "DURATION", value_parser = lifetime)]
    lifetime: Option<Duration>,
    /// Make a fresh token, as if it came from a login
    #[arg(long)]
    fresh: bool,
    /// A claim of the application's own. VALUE is JSON or, if it is no JSON, text. Registered names (exp, sub, type, …)
    /// are refused
    #[arg(long = "claim", value_name = "NAME=VALUE", value_parser = claim)]
    claims: Vec<(String, Value)>,
    #[command(flatten)]
    store: StoreFlags,
}

/// A token to inspect or verify.
#[derive(Args, Debug)]
struct Given {
    /// The token. Without it, or with -, it is read from standard input, which keeps it out of the shell's history
    #[arg(allow_hyphen_values = true)]
    token: Option<String>,
}

impl Given {
    fn read(&self) -> Result<String, Box<dyn Error>> {
        let text = match self.token.as_deref() {
            Some(token) if token != "-" => token.to_owned(),
            _ => {
                let mut text = Vec::new();
                // This is far longer than any token. A longer text is refused for its length.
                io::stdin().lock().take(64 * 1024).read_to_end(&mut text)?;
                String::from_utf8_lossy(&text).into_owned()
            }
        };
        let text = text.trim();
        // The token may have been copied from a request, with the header's name.
        let text = text.strip_prefix("Authorization:").unwrap_or(text).trim_start();
        let token = ["Bearer ", "JWT "].iter().find_map(|scheme| text.strip_prefix(scheme)).unwrap_or(text);
        Ok(token.trim_start().to_owned())
    }
}

/// `countersign token …`
pub(crate) fn run(command: TokenCommand) -> Result<(), Box<dyn Error>> {
    match command.command {
        TokenSubcommand::Inspect { given, store } => with_settings(store, async |settings| {
            let token = given.read()?;
            let alleged = decode_unverified(&token)?;
            let (auth, stores) = auth(settings).await?;
            let kind = alleged_kind(&alleged);
            let verdict = judge(&auth, &token, kind).await;
            let inspected = Inspected {
                alleged: &alleged,
                kind,
                signature: signature(&token, &auth, kind).await,
                key: match settings.profile.is_native() {
                    false => "of the profile's options".to_owned(),
                    true => key(&alleged, &stores.keys().keys().await?, auth.sessions()),
                },
                refused: verdict.err().map(|why| why.to_string()),
                issuer: settings.profile.is_native().then(|| auth.sessions().keys().issuer()),
                other_issuers: auth.sessions().keys().known_issuers(),
            };
            say(&inspected.explained(auth.engine().now()));
            Ok(())
        }),
        TokenSubcommand::Verify { given, store } => with_settings(store, async |settings| {
            let token = given.read()?;
            let alleged = decode_unverified(&token)?;
            let (auth, _) = auth(settings).await?;
            judge(&auth, &token, alleged_kind(&alleged)).await?;
            say("ok");
            Ok(())
        }),
        TokenSubcommand::Mint(mint) => {
            let Mint { user, lifetime, fresh, claims: given, store } = mint;
            let mut claims = Map::new();
            for (name, value) in given {
                if claims.insert(name.clone(), value).is_some() {
                    return Err(format!("--claim {} is given twice", plain(&name)).into());
                }
            }
            with_settings(store, async |settings| {
                let (auth, stores) = auth(settings).await?;
                let user = find_user(&**stores.users(), &user).await?;
                let device = Device::new(Some("countersign token mint"), None);
                let grant = AccessGrant { lifetime, fresh, claims, device };
                say(&auth.sessions().issue_access(user.id, grant).await?.token);
                Ok(())
            })
        }
    }
}

/// The enabled user with this id, e-mail address or username.
async fn find_user(store: &dyn UserStore, text: &str) -> Result<User, Box<dyn Error>> {
    let by_id = match UserId::new(text) {
        Ok(id) => store.user(&id).await?,
        Err(_) => None,
    };
    let found = match (by_id, EmailAddress::parse(text), Username::parse(text)) {
        (Some(user), ..) => Some(user),
        (None, Ok(email), _) => store.user_by_name(NameKey::Email(email.key())).await?,
        (None, Err(_), Ok(name)) => store.user_by_name(NameKey::Username(name.key())).await?,
        (None, Err(_), Err(_)) => None,
    };
    match found {
        Some(user) if user.is_enabled() => Ok(user),
        Some(_) => Err("this user is disabled".into()),
        None => Err("there is no user with this id, e-mail address or username".into()),
    }
}

fn lifetime(text: &str) -> Result<Duration, &'static str> {
    duration(text).ok_or("must be a duration such as 60s, 10m, or plain seconds")
}

/// Reads `name=value`, where the value is JSON, or text if it is no JSON.
fn claim(text: &str) -> Result<(String, Value), &'static str> {
    let (name, value) = text.split_once('=').ok_or("must be NAME=VALUE, such as scope=read or admin=true")?;
    if name.is_empty() {
        return Err("must be NAME=VALUE, and the name is empty");
    }
    let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
    Ok((name.to_owned(), value))
}

/// The token type by whose rules a token is judged. A token that claims neither type is judged as an access token, and
/// refused.
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

/// Judges the token as the server would.
async fn judge(auth: &Auth, token: &str, kind: TokenType) -> Result<(), Box<dyn Error>> {
    auth.rules().judge(auth.engine(), token, kind).await.map(drop).map_err(Into::into)
}

/// Whether the signature holds, in words.
async fn signature(token: &str, auth: &Auth, kind: TokenType) -> String {
    match auth.rules().signature(auth.engine(), token, kind).await {
        Ok(algorithm) => format!("holds, {}", plain(&algorithm)),
        Err(why) => format!("not proven: {}", plain(&why.to_string())),
    }
}

/// What the store says about the key that the token names.
fn key(alleged: &UnverifiedClaims, stored: &[StoredKey], sessions: &Sessions) -> String {
    let Some(id) = alleged.header().get("kid").and_then(Value::as_str) else {
        return "the token names none".to_owned();
    };
    let now = sessions.clock().now();
    let Some(row) = stored.iter().find(|row| row.key_id.as_str() == id) else {
        return "not one of this store's; countersign key list shows those".to_owned();
    };
    let purpose = row.purpose.name();
    if let Some(removed_at) = row.removed_at {
        return format!("{purpose}, removed {}, {}", rfc3339(removed_at), relative(removed_at, now));
    }
    let state =
        countersign_core::model::key_state(row, stored, now, sessions.policy().key_overlap(row.purpose));
    format!("{purpose}, {state}")
}

/// Everything that `token inspect` shows.
struct Inspected<'a> {
    alleged: &'a UnverifiedClaims,
    kind: TokenType,
    signature: String,
    key: String,
    /// The reason why the server would refuse the token, if there is one.
    refused: Option<String>,
    /// The server's own issuer; `None` with a profile, which has other rules for issuers.
    issuer: Option<&'a str>,
    /// The issuers whose tokens are accepted in addition to the server's own.
    other_issuers: Vec<FormerIssuer>,
}

impl Inspected<'_> {
    /// The whole explanation. Everything in the token may be forged, so all of it is escaped for the terminal.
    fn explained(&self, now: Timestamp) -> String {
        let Self { alleged, kind, signature, key, refused, issuer, other_issuers } = self;
        let mut text = String::from("header\n");
        let mut line = |name: &str, value: &str| {
            let _infallible = writeln!(text, "{name:26}{value}");
        };
        for (name, value) in alleged.header() {
            line(&format!("  {}", label(name)), &shown(value));
        }
        line("claims", "");
        for (name, value) in alleged.claims() {
            let value = match name.as_str() {
                // Anybody who has this value and the cookies can act for the user.
                "csrf" => "present, not shown".to_owned(),
                "exp" | "iat" | "nbf" => in_words(value, now),
                "fresh" if value.is_number() => in_words(value, now),
                "iss" => match issuer {
                    Some(issuer) if value.as_str() != Some(issuer) => {
                        let is_known =
                            |known: &FormerIssuer| value.as_str() == Some(&known.issuer) && now < known.until;
                        let how = if other_issuers.iter().any(is_known) {
                            "the one before"
                        } else {
                            "but this server is"
                        };
                        format!("{}, {how} {}", shown(value), plain(issuer))
                    }
                    _ => shown(value),
                },
                _ => shown(value),
            };
            line(&format!("  {}", label(name)), &value);
        }
        line("key", key);
        line("signature", signature);
        let verdict = match refused {
            None => format!("the server would accept it as {} token", article(*kind)),
            Some(why) => format!("the server would refuse it as {} token: {why}", article(*kind)),
        };
        line("verdict", &verdict);
        let lines: Vec<_> = text.lines().map(str::trim_end).collect();
        lines.join("\n")
    }
}

const fn article(kind: TokenType) -> &'static str {
    match kind {
        TokenType::Access => "an access",
        TokenType::Refresh => "a refresh",
    }
}

/// A member's name, and its meaning if it is known.
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
        "epoch" => "how often all sessions were ended",
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

/// Foreign text, made safe for a terminal: without characters that move the cursor or change the order of reading, and
/// cut if it is long.
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

/// A time of the token, and how far it is from now.
fn in_words(value: &Value, now: Timestamp) -> String {
    let secs = value.as_f64().filter(|secs| *secs >= 0.0 && *secs <= Timestamp::MAX.as_secs() as f64);
    let Some(secs) = secs else { return format!("{}, which is not a time", shown(value)) };
    #[expect(clippy::cast_possible_truncation, reason = "checked above, and fractions don't count")]
    let time = Timestamp::from_secs(secs as i64);
    format!("{}, {}", rfc3339(time), relative(time, now))
}

/// How far a time is from now, in words.
fn relative(time: Timestamp, now: Timestamp) -> String {
    match time.as_secs() - now.as_secs() {
        0 => "now".to_owned(),
        ahead @ 1.. => format!("in {}", rough(Duration::from_secs(ahead.unsigned_abs()))),
        behind => format!("{} ago", rough(Duration::from_secs(behind.unsigned_abs()))),
    }
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
