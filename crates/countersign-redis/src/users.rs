//! Accounts and the names they have claimed.

use async_trait::async_trait;
use countersign_core::model::{EmailAddress, PasswordHash, User, Username};
use countersign_core::store::{NameKey, StoreError, UserInserted, UserStore};
use countersign_jwt::{Timestamp, UserId};
use redis::Value;

use crate::answer;
use crate::failure::Failure;
use crate::script::{INSERT_USER, REPLACE_PASSWORD_HASH, SET_DISABLED};
use crate::store::{Op, RedisStore};
use crate::text::{parsed, time};

const WHAT: &str = "account";
const FIELDS: [&str; 5] = ["email", "username", "password_hash", "created_at", "disabled_at"];

#[async_trait]
impl UserStore for RedisStore {
    async fn insert_user(&self, user: &User) -> Result<UserInserted, StoreError> {
        let op = self.op("insert the account");
        let mut call =
            INSERT_USER.on([self.names.account(user.id.as_str()), self.names.email(user.email.key())]);
        if let Some(username) = &user.username {
            call = call.key(self.names.username(username.key()));
        }
        call = call.arg(user.id.as_str()).arg("email").arg(user.email.as_str());
        if let Some(username) = &user.username {
            call = call.arg("username").arg(username.as_str());
        }
        if let Some(hash) = &user.password_hash {
            call = call.arg("password_hash").arg(hash.expose());
        }
        call = call.arg("created_at").number(user.created_at.as_millis());
        if let Some(disabled_at) = user.disabled_at {
            call = call.arg("disabled_at").number(disabled_at.as_millis());
        }
        let answer = op.write(&call).await?;
        op.value(answer::text(answer).and_then(|answer| match answer.as_str() {
            "yes" => Ok(UserInserted::Yes),
            "email" => Ok(UserInserted::EmailTaken),
            "username" => Ok(UserInserted::UsernameTaken),
            "id" => Err(Failure::AccountIdTaken),
            _ => Err(Failure::Malformed("an answer")),
        }))
    }

    async fn user(&self, id: &UserId) -> Result<Option<User>, StoreError> {
        self.read_account(self.op("read the account"), id).await
    }

    async fn user_by_name(&self, name: NameKey<'_>) -> Result<Option<User>, StoreError> {
        let op = self.op("find the account by its name");
        let mut command = redis::cmd("GET");
        command.arg(match name {
            NameKey::Email(key) => self.names.email(key),
            NameKey::Username(key) => self.names.username(key),
        });
        // An account is never deleted, so it cannot disappear between the two steps.
        let id = op.query(&command).await?;
        match op.value(answer::optional_text(id))? {
            Some(id) => self.read_account(op, &op.value(parsed(WHAT, UserId::new(&id)))?).await,
            None => Ok(None),
        }
    }

    async fn replace_password_hash(
        &self,
        id: &UserId,
        old: Option<&PasswordHash>,
        new: &PasswordHash,
    ) -> Result<bool, StoreError> {
        let op = self.op("replace the password hash");
        let mut call = REPLACE_PASSWORD_HASH.on([self.names.account(id.as_str())]).arg(new.expose());
        if let Some(old) = old {
            call = call.arg(old.expose());
        }
        let replaced = op.write(&call).await?;
        op.value(answer::yes(&replaced))
    }

    async fn set_disabled(&self, id: &UserId, disabled: Option<Timestamp>) -> Result<bool, StoreError> {
        let op = self.op("disable or enable the account");
        let mut call = SET_DISABLED.on([self.names.account(id.as_str())]);
        if let Some(disabled) = disabled {
            call = call.number(disabled.as_millis());
        }
        let is_there = op.write(&call).await?;
        op.value(answer::yes(&is_there))
    }
}

impl RedisStore {
    async fn read_account(&self, op: Op<'_>, id: &UserId) -> Result<Option<User>, StoreError> {
        let mut command = redis::cmd("HMGET");
        command.arg(self.names.account(id.as_str())).arg(&FIELDS);
        let fields = op.query(&command).await?;
        op.value(read_user(id, fields))
    }
}

fn read_user(id: &UserId, fields: Value) -> Result<Option<User>, Failure> {
    let [email, username, password_hash, created_at, disabled_at] = answer::exactly(fields)?;
    let Some(email) = answer::optional_text(email)? else { return Ok(None) };
    let username = answer::optional_text(username)?.map(|name| parsed(WHAT, Username::parse(&name)));
    let disabled_at = answer::optional_text(disabled_at)?.map(|at| time(WHAT, &at));
    Ok(Some(User {
        id: id.clone(),
        email: parsed(WHAT, EmailAddress::parse(&email))?,
        username: username.transpose()?,
        password_hash: answer::optional_text(password_hash)?.map(PasswordHash::from_stored),
        created_at: time(WHAT, &answer::text(created_at)?)?,
        disabled_at: disabled_at.transpose()?,
    }))
}
