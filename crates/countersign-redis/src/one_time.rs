//! One-time secrets.
//!
//! A secret is read, tried by core's own rules, and written or deleted only if it is still as it was read; otherwise
//! this is repeated with the secret as it is then.

use async_trait::async_trait;
use countersign_core::model::{OneTimeSecret, Purpose, SecretDigest, Tried};
use countersign_core::store::{OneTimeStore, StoreError};
use countersign_jwt::{Timestamp, UserId};
use redis::Cmd;

use crate::answer;
use crate::failure::Failure;
use crate::layout::{NONE, field_member};
use crate::script::{PUT_SECRET, REMOVE_SECRET, SWAP_SECRET};
use crate::store::RedisStore;
use crate::text::{digest, digest_text, number, time};

const WHAT: &str = "one-time secret";
const FIELDS: usize = 5;

#[async_trait]
impl OneTimeStore for RedisStore {
    async fn put_secret(&self, secret: &OneTimeSecret) -> Result<(), StoreError> {
        let op = self.op("keep the secret");
        let call = PUT_SECRET
            .on(self.secrets_of(&secret.user_id))
            .arg(secret.purpose.name())
            .arg(write(secret))
            .number(secret.expires_at.as_millis())
            .arg(field_member(&secret.user_id, secret.purpose.name()));
        op.write(&call).await.map(drop)
    }

    async fn secret(&self, user_id: &UserId, purpose: Purpose) -> Result<Option<OneTimeSecret>, StoreError> {
        let op = self.op("read the secret");
        let text = op.query(&self.secret_as_text(user_id, purpose)).await?;
        let text = op.value(answer::optional_text(text))?;
        op.value(text.map(|text| read(user_id, purpose, &text)).transpose())
    }

    async fn try_secret(
        &self,
        user_id: &UserId,
        purpose: Purpose,
        digest: &SecretDigest,
        now: Timestamp,
    ) -> Result<Option<(Tried, OneTimeSecret)>, StoreError> {
        let op = self.op("try the secret");
        op.all(async {
            let text = op.query(&self.secret_as_text(user_id, purpose)).await?;
            let mut known = op.value(answer::optional_text(text))?;
            // Of concurrent callers one succeeds each time, so every caller's turn comes; the deadline ends the loop.
            while let Some(text) = known {
                let before = op.value(read(user_id, purpose, &text))?;
                let mut after = before.clone();
                let tried = after.try_digest(digest, now);
                let call = SWAP_SECRET
                    .on(self.secrets_of(user_id))
                    .arg(purpose.name())
                    .arg(field_member(user_id, purpose.name()))
                    .arg(text)
                    .arg(if tried == Tried::Wrong { write(&after) } else { String::new() });
                let current = op.write(&call).await?;
                match op.value(answer::optional_text(current))? {
                    None => return Ok(Some((tried, before))),
                    Some(current) => known = Some(current).filter(|current| !current.is_empty()),
                }
            }
            Ok(None)
        })
        .await
    }

    async fn remove_secret(&self, user_id: &UserId, purpose: Purpose) -> Result<bool, StoreError> {
        let op = self.op("delete the secret");
        let call = REMOVE_SECRET
            .on(self.secrets_of(user_id))
            .arg(purpose.name())
            .arg(field_member(user_id, purpose.name()));
        let removed = op.write(&call).await?;
        op.value(answer::yes(&removed))
    }

    async fn purge_secrets(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        let op = self.op("purge secrets");
        self.purge_fields(op, &self.names.secrets_by_until(), |user| self.names.secrets(user), before, limit)
            .await
    }
}

impl RedisStore {
    fn secrets_of(&self, user_id: &UserId) -> [String; 2] {
        [self.names.secrets(user_id.as_str()), self.names.secrets_by_until()]
    }

    fn secret_as_text(&self, user_id: &UserId, purpose: Purpose) -> Cmd {
        let mut command = redis::cmd("HGET");
        command.arg(self.names.secrets(user_id.as_str())).arg(purpose.name());
        command
    }
}

/// The secret as text: `tries_left created_at expires_at digests bound_to`. The digests are separated by commas. What
/// the secret is bound to comes last, because it may hold any character.
fn write(secret: &OneTimeSecret) -> String {
    let digests: Vec<_> = secret.digests.iter().map(digest_text).collect();
    format!(
        "{} {} {} {} {}",
        secret.tries_left,
        secret.created_at.as_millis(),
        secret.expires_at.as_millis(),
        if digests.is_empty() { NONE.to_owned() } else { digests.join(",") },
        secret.bound_to,
    )
}

fn read(user_id: &UserId, purpose: Purpose, text: &str) -> Result<OneTimeSecret, Failure> {
    let fields: Vec<_> = text.splitn(FIELDS, ' ').collect();
    let Ok([tries_left, created_at, expires_at, digests, bound_to]) = <[&str; FIELDS]>::try_from(fields)
    else {
        return Err(Failure::Malformed(WHAT));
    };
    let digests = match digests {
        NONE => Vec::new(),
        digests => digests.split(',').map(|text| digest(WHAT, text)).collect::<Result<_, _>>()?,
    };
    Ok(OneTimeSecret {
        user_id: user_id.clone(),
        purpose,
        digests,
        bound_to: bound_to.to_owned(),
        tries_left: number(WHAT, tries_left)?,
        created_at: time(WHAT, created_at)?,
        expires_at: time(WHAT, expires_at)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_reads_back_as_written() {
        let user_id = UserId::new("ada").unwrap();
        for digests in
            [vec![], vec![SecretDigest::of("a")], vec![SecretDigest::of("a"), SecretDigest::of("b")]]
        {
            for bound_to in ["", " ", "a b ", "-", "\0\n😀"] {
                let secret = OneTimeSecret {
                    user_id: user_id.clone(),
                    purpose: Purpose::Invite,
                    digests: digests.clone(),
                    bound_to: bound_to.to_owned(),
                    tries_left: u32::MAX,
                    created_at: Timestamp::MIN,
                    expires_at: Timestamp::MAX,
                };
                assert_eq!(read(&user_id, Purpose::Invite, &write(&secret)).unwrap(), secret);
            }
        }
        for text in ["", "1 1 1 -", "x 1 1 - a", "1 x 1 - a", "1 1 -1 - a", "1 1 1 0 a", "1 1 1 00,  a"] {
            assert!(read(&user_id, Purpose::Invite, text).is_err(), "{text:?}");
        }
    }
}
