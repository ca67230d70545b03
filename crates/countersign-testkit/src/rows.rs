//! Rows for the tests of stores: each number makes one, always the same.

use std::time::Duration;

use countersign_core::model::{
    Device, EmailAddress, PasswordHash, Session, SessionSeed, User, UserSession, Username,
};
use countersign_jwt::{Epoch, Generation, SessionId, Timestamp, TokenId, UserId};
use uuid::Uuid;

/// The time at which the rows were made: 2023-11-14T22:13:20Z.
pub const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);

/// A duration of this many seconds.
#[must_use]
pub const fn seconds(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// The user with this number.
#[must_use]
pub fn user_id(number: u128) -> UserId {
    Uuid::from_u128(number).into()
}

/// The session with this number.
#[must_use]
pub const fn session_id(number: u128) -> SessionId {
    SessionId::new(Uuid::from_u128(number))
}

/// The token with this number.
#[must_use]
pub const fn token_id(number: u128) -> TokenId {
    TokenId::new(Uuid::from_u128(number))
}

/// This user's session with this number.
#[must_use]
pub fn key(user: u128, session: u128) -> UserSession {
    UserSession { user_id: user_id(user), id: session_id(session) }
}

/// The row of a session that began at [`NOW`] and lives for ten days, a day without a refresh.
///
/// ```
/// use countersign_core::store::{MemoryStore, SessionInserted, SessionStore as _};
/// use countersign_testkit::rows;
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = MemoryStore::new();
/// let row = rows::session(1, 1);
/// assert_eq!(store.insert_session(&row).await?, SessionInserted::Yes);
/// assert_eq!(store.insert_session(&row).await?, SessionInserted::Taken);
/// # Ok(())
/// # }
/// ```
#[must_use]
pub fn session(user: u128, number: u128) -> Session {
    Session {
        user_id: user_id(user),
        id: session_id(number),
        epoch: Epoch::FIRST,
        generation: Generation::FIRST,
        issued_at: NOW,
        acknowledged_at: None,
        heals: 0,
        healed_run: 0,
        seed: SessionSeed::new([7; 32]),
        created_at: NOW,
        last_seen_at: NOW,
        idle_until: NOW + seconds(86_400),
        absolute_until: NOW + seconds(10 * 86_400),
        device: Device::new(Some("Firefox"), "2001:db8::1".parse().ok()),
        ended: None,
    }
}

/// The row of an enabled account. The text of its password hash tells it from other texts, and is no hash.
///
/// # Panics
/// If the address or the username is none.
#[must_use]
pub fn user(number: u128, email: &str, username: Option<&str>) -> User {
    User {
        email: Some(EmailAddress::parse(email).expect("an e-mail address")),
        username: username.map(|name| Username::parse(name).expect("a username")),
        password_hash: Some(PasswordHash::from_stored("$argon2id$s3cret".to_owned())),
        ..User::new(user_id(number), NOW)
    }
}
