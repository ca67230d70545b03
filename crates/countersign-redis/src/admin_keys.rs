//! Admin keys.

use async_trait::async_trait;
use countersign_core::model::{AdminKey, AdminScope};
use countersign_core::store::{AdminKeyStore, StoreError};
use uuid::Uuid;

use crate::answer;
use crate::failure::Failure;
use crate::layout::NONE;
use crate::script::{INSERT_ADMIN_KEY, REMOVE_ADMIN_KEY};
use crate::store::RedisStore;
use crate::text::{digest, digest_text, optional_time, parsed, time, time_text};

const WHAT: &str = "admin key";
const FIELDS: usize = 5;

#[async_trait]
impl AdminKeyStore for RedisStore {
    async fn insert_admin_key(&self, key: &AdminKey) -> Result<bool, StoreError> {
        let op = self.op("insert the admin key");
        let call = INSERT_ADMIN_KEY.on([self.names.admin_keys()]).number(key.id.simple()).arg(write(key));
        let inserted = op.write(&call).await?;
        op.value(answer::yes(&inserted))
    }

    async fn admin_key(&self, id: Uuid) -> Result<Option<AdminKey>, StoreError> {
        let op = self.op("read the admin key");
        let mut command = redis::cmd("HGET");
        command.arg(self.names.admin_keys()).arg(id.simple().to_string());
        let text = op.query(&command).await?;
        let text = op.value(answer::optional_text(text))?;
        op.value(text.map(|text| read(id, &text)).transpose())
    }

    async fn admin_keys(&self) -> Result<Vec<AdminKey>, StoreError> {
        let op = self.op("read the admin keys");
        let mut command = redis::cmd("HGETALL");
        command.arg(self.names.admin_keys());
        let found = op.value(answer::pairs(op.query(&command).await?))?;
        let keys = found.into_iter().map(|(id, text)| {
            let id = parsed(WHAT, Uuid::try_parse(&id))?;
            read(id, &answer::text(text)?)
        });
        let mut keys = op.value(keys.collect::<Result<Vec<_>, _>>())?;
        keys.sort_by_key(|key| (key.created_at, key.id));
        Ok(keys)
    }

    async fn remove_admin_key(&self, id: Uuid) -> Result<bool, StoreError> {
        let op = self.op("remove the admin key");
        let removed = op.write(&REMOVE_ADMIN_KEY.on([self.names.admin_keys()]).number(id.simple())).await?;
        op.value(answer::yes(&removed))
    }
}

/// The key as text: `created_at expires_at digest scopes name`. The scopes are separated by commas. The name comes
/// last, because it may hold any character.
fn write(key: &AdminKey) -> String {
    let scopes: Vec<_> = key.scopes.iter().map(|scope| scope.name()).collect();
    format!(
        "{} {} {} {} {}",
        key.created_at.as_millis(),
        time_text(key.expires_at),
        digest_text(&key.digest),
        if scopes.is_empty() { NONE.to_owned() } else { scopes.join(",") },
        key.name,
    )
}

fn read(id: Uuid, text: &str) -> Result<AdminKey, Failure> {
    let fields: Vec<_> = text.splitn(FIELDS, ' ').collect();
    let Ok([created_at, expires_at, key_digest, scopes, name]) = <[&str; FIELDS]>::try_from(fields) else {
        return Err(Failure::Malformed(WHAT));
    };
    let scope = |name| AdminScope::from_name(name).ok_or(Failure::Malformed(WHAT));
    Ok(AdminKey {
        id,
        name: name.to_owned(),
        digest: digest(WHAT, key_digest)?,
        scopes: match scopes {
            NONE => Vec::new(),
            scopes => scopes.split(',').map(scope).collect::<Result<_, _>>()?,
        },
        created_at: time(WHAT, created_at)?,
        expires_at: optional_time(WHAT, expires_at)?,
    })
}

#[cfg(test)]
mod tests {
    use countersign_core::model::SecretDigest;
    use countersign_jwt::Timestamp;

    use super::*;

    #[test]
    fn a_key_reads_back_as_written() {
        for scopes in [Vec::new(), AdminScope::ALL.to_vec()] {
            for (name, expires_at) in [("", None), (" a  b ", Some(Timestamp::MAX)), ("-\0😀", None)] {
                let key = AdminKey {
                    id: Uuid::max(),
                    name: name.to_owned(),
                    digest: SecretDigest::of(name),
                    scopes: scopes.clone(),
                    created_at: Timestamp::MIN,
                    expires_at,
                };
                assert_eq!(read(key.id, &write(&key)).unwrap(), key);
                assert!(read(key.id, &write(&key).replacen(' ', "", 1)).is_err());
            }
        }
        let digest = digest_text(&SecretDigest::of(""));
        for scopes in ["", "users:read,", "users:unknown"] {
            assert!(read(Uuid::nil(), &format!("1 - {digest} {scopes} name")).is_err(), "{scopes:?}");
        }
    }
}
