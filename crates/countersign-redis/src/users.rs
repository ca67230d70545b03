//! Accounts, the names that they have claimed, and the list of all accounts.

use async_trait::async_trait;
use countersign_core::model::{PasswordHash, User};
use countersign_core::store::{
    NameKey, StoreError, UserInserted, UserPage, UserPosition, UserReplaced, UserStore,
};
use countersign_jwt::{Timestamp, UserId};
use redis::Value;

use crate::account::Account;
use crate::answer;
use crate::failure::Failure;
use crate::layout::{Names, id_of_member, page_from, time_member};
use crate::script::{
    Call, DELETE_USER, FIND_USERS, INSERT_USER, NEXT_USER_NUMBER, REPLACE_PASSWORD_HASH, REPLACE_USER,
    SET_DISABLED,
};
use crate::store::{Op, RedisStore};
use crate::text::{number, parsed, time_text};

const WHAT: &str = "account";
/// The number of accounts that one script looks at, about half a millisecond of work.
const STEP: usize = 200;

#[async_trait]
impl UserStore for RedisStore {
    async fn insert_user(&self, user: &User) -> Result<UserInserted, StoreError> {
        let op = self.op("insert the account");
        let account = Account::of(user.clone());
        let id = user.id.as_str();
        let keys = [self.names.account(id), self.names.accounts(), self.names.deleted_accounts()];
        let mut call = INSERT_USER
            .on(keys)
            .arg(id)
            .arg(member(&UserPosition::from(user)))
            .arg(time_text(user.deleted_at));
        for claim in account.claims(&self.names) {
            call = call.key(claim.key).arg(claim.kind);
        }
        let answer = op.write(&with_fields(call, account.all())).await?;
        op.value(answer::text(answer).and_then(|answer| match answer.as_str() {
            "yes" => Ok(UserInserted::Yes),
            "email" => Ok(UserInserted::EmailTaken),
            "username" => Ok(UserInserted::UsernameTaken),
            "id" => Ok(UserInserted::IdTaken),
            _ => Err(Failure::Malformed("an answer")),
        }))
    }

    async fn user(&self, id: &UserId) -> Result<Option<User>, StoreError> {
        let account = self.read_account(&self.op("read the account"), id).await?;
        Ok(account.map(|account| account.user))
    }

    async fn user_by_name(&self, name: NameKey<'_>) -> Result<Option<User>, StoreError> {
        let op = self.op("find the account by its name");
        let mut command = redis::cmd("GET");
        command.arg(match name {
            NameKey::Email(key) => self.names.email(key),
            NameKey::Username(key) => self.names.username(key),
        });
        let id = op.query(&command).await?;
        let Some(id) = op.value(answer::optional_text(id))? else { return Ok(None) };
        let account = self.read_account(&op, &op.value(parsed(WHAT, UserId::new(&id)))?).await?;
        // Between the two steps the account may have given the name up, or may have been deleted.
        Ok(account.filter(|account| account.has(name)).map(|account| account.user))
    }

    async fn replace_user(&self, old: &User, new: &User) -> Result<UserReplaced, StoreError> {
        let op = self.op("replace the account");
        op.all(async {
            let before = self.read_account(&op, &old.id).await?;
            let Some(before) = before.filter(|before| before.user.revision == old.revision) else {
                return Ok(UserReplaced::Changed);
            };
            let after = Account::of(User {
                id: old.id.clone(),
                created_at: before.user.created_at,
                revision: old.revision.saturating_add(1),
                ..new.clone()
            });
            // The names are those of the revision that was read, which the script requires.
            let call = replace(&self.names, &before, &after);
            let answer = op.write(&call).await?;
            op.value(answer::text(answer).and_then(|answer| match answer.as_str() {
                "yes" => Ok(UserReplaced::Yes),
                "changed" => Ok(UserReplaced::Changed),
                "email" => Ok(UserReplaced::EmailTaken),
                "username" => Ok(UserReplaced::UsernameTaken),
                _ => Err(Failure::Malformed("an answer")),
            }))
        })
        .await
    }

    async fn delete_user(&self, id: &UserId) -> Result<bool, StoreError> {
        let op = self.op("delete the account");
        op.all(async {
            // The names that are freed are those of the revision that was read, so a change in between makes another
            // reading necessary.
            while let Some(account) = self.read_account(&op, id).await? {
                let keys = [
                    self.names.account(id.as_str()),
                    self.names.accounts(),
                    self.names.deleted_accounts(),
                    self.names.secrets(id.as_str()),
                    self.names.secrets_by_until(),
                    self.names.devices(id.as_str()),
                    self.names.devices_by_until(),
                ];
                let mut call = DELETE_USER
                    .on(keys)
                    .number(account.user.revision)
                    .arg(id.as_str())
                    .arg(member(&UserPosition::from(&account.user)));
                for claim in account.claims(&self.names) {
                    call = call.key(claim.key);
                }
                let answer = op.write(&call).await?;
                match op.value(answer::text(answer))?.as_str() {
                    "yes" => return Ok(true),
                    "unknown" => return Ok(false),
                    "changed" => {}
                    _ => return op.value(Err(Failure::Malformed("an answer"))),
                }
            }
            Ok(false)
        })
        .await
    }

    async fn users(&self, page: &UserPage<'_>) -> Result<Vec<User>, StoreError> {
        let mut after = page.after.as_ref().map(member);
        let mut listed = Vec::new();
        while listed.len() < page.limit {
            // A search may read all accounts, so each step of it has a deadline of its own.
            let op = self.op("list the accounts");
            let wanted = match page.query {
                None => (page.limit - listed.len()).min(STEP),
                Some(_) => STEP,
            };
            let mut command = redis::cmd("ZREVRANGEBYLEX");
            command.arg(self.names.accounts()).arg(page_from(after.as_deref())).arg("-");
            command.arg("LIMIT").arg(0).arg(wanted);
            let members = op.value(answer::texts(op.query(&command).await?))?;
            let ids = members.iter().map(|member| id_of_member(member));
            let ids = op.value(ids.collect::<Result<Vec<_>, _>>())?;
            listed.extend(self.find_users(&op, &ids, page.query).await?);
            if members.len() < wanted {
                break;
            }
            after = members.into_iter().next_back();
        }
        listed.truncate(page.limit);
        Ok(listed)
    }

    async fn users_to_delete(&self, before: Timestamp, limit: usize) -> Result<Vec<User>, StoreError> {
        let op = self.op("find the accounts that are to be deleted");
        op.all(async {
            let mut command = redis::cmd("ZRANGEBYSCORE");
            command.arg(self.names.deleted_accounts()).arg("-inf").arg(format!("({}", before.as_millis()));
            command.arg("LIMIT").arg(0).arg(limit);
            let ids = op.value(answer::texts(op.query(&command).await?))?;
            let mut due = Vec::new();
            for ids in ids.chunks(STEP) {
                let ids: Vec<_> = ids.iter().map(String::as_str).collect();
                due.extend(self.find_users(&op, &ids, None).await?);
            }
            // An account may have changed since.
            due.retain(|user| user.deleted_at.is_some_and(|deleted_at| deleted_at < before));
            Ok(due)
        })
        .await
    }

    async fn next_user_number(&self, at_least: u64) -> Result<u64, StoreError> {
        let op = self.op("count up the number of users");
        let at_least = op.value(i64::try_from(at_least).map_err(|_| Failure::TooLarge))?;
        let answer = op.write(&NEXT_USER_NUMBER.on([self.names.meta()]).number(at_least)).await?;
        op.value(answer::text(answer).and_then(|text| number("user_number", &text)))
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
    async fn read_account(&self, op: &Op<'_>, id: &UserId) -> Result<Option<Account>, StoreError> {
        let mut command = redis::cmd("HGETALL");
        command.arg(self.names.account(id.as_str()));
        let fields = op.query(&command).await?;
        op.value(answer::fields(fields).and_then(|fields| Account::read(id, fields)))
    }

    /// The users among these whom the query asks for, in the same order; all of them without a query.
    async fn find_users(
        &self,
        op: &Op<'_>,
        ids: &[&str],
        query: Option<&str>,
    ) -> Result<Vec<User>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let accounts = ids.iter().map(|id| self.names.account(id));
        let mut call = FIND_USERS.on(accounts).arg(if query.is_some() { "query" } else { "all" });
        call = call.arg(query.unwrap_or_default());
        for id in ids {
            call = call.arg(*id);
        }
        let found = op.read(&call).await?;
        op.value(read_users(ids, found))
    }
}

/// The accounts that `FIND_USERS` has found among those of these users.
fn read_users(ids: &[&str], found: Value) -> Result<Vec<User>, Failure> {
    let mut users = Vec::new();
    let mut found = answer::list(found)?.into_iter();
    while let (Some(number), Some(fields)) = (found.next(), found.next()) {
        let number = usize::try_from(answer::count(&number)?).unwrap_or(usize::MAX);
        let id = ids.get(number.wrapping_sub(1)).ok_or(Failure::Malformed("an answer"))?;
        let id = parsed(WHAT, UserId::new(id))?;
        // The account may have been deleted since its id was read.
        users.extend(Account::read(&id, answer::fields(fields)?)?.map(|account| account.user));
    }
    Ok(users)
}

/// The script that makes `after` of `before`.
fn replace(names: &Names, before: &Account, after: &Account) -> Call {
    let id = after.user.id.as_str();
    let (had, wanted) = (before.claims(names), after.claims(names));
    let claimed: Vec<_> = wanted.iter().filter(|claim| !had.contains(claim)).collect();
    let freed = had.iter().filter(|claim| !wanted.contains(claim));
    let fields = after.changing();
    let mut call = REPLACE_USER
        .on([names.account(id), names.deleted_accounts()])
        .number(before.user.revision)
        .arg(id)
        .arg(time_text(after.user.deleted_at))
        .number(claimed.len())
        .number(2 * fields.len());
    for claim in claimed {
        call = call.key(claim.key.clone()).arg(claim.kind);
    }
    for claim in freed {
        call = call.key(claim.key.clone());
    }
    call = with_fields(call, fields);
    for absent in after.absent() {
        call = call.arg(absent);
    }
    call
}

/// The script with these fields and their texts as its next arguments.
fn with_fields(call: Call, fields: Vec<(&'static str, String)>) -> Call {
    fields.into_iter().fold(call, |call, (field, text)| call.arg(field).arg(text))
}

/// A user's member in the list of all accounts.
fn member(position: &UserPosition) -> String {
    time_member(position.created_at, position.id.as_str())
}
