//! Accounts and the names they have claimed.
//!
//! # How an account and its names come into being together
//!
//! A registration inserts the account as *pending*, claims each name by an insert, and then removes `pending_at`, which
//! is the commit point: lookups never find a pending account. Of concurrent registrations of one name, the unique `_id`
//! of the claim lets one through. A registration that is refused deletes its account and then its claims.
//!
//! A registration that dies leaves a pending account, or claims without an account. A later registration that wants
//! such a name takes the claim over. If the account still exists and has been pending for longer than any registration
//! takes, it is deleted first, under the condition that it is still pending: either the dead registration did commit,
//! and keeps the name, or it never can. The length of that time therefore decides only how soon a name is free again,
//! never who has it.

use async_trait::async_trait;
use countersign_core::model::{PasswordHash, User};
use countersign_core::store::{NameKey, StoreError, UserInserted, UserStore};
use countersign_jwt::{Timestamp, UserId};
use mongodb::bson::{Bson, DateTime, Document, doc};

use crate::call::{Failure, pause};
use crate::field::{date, is_set, optional_date, text};
use crate::locks::Turn;
use crate::records::Query;
use crate::store::MongodbStore;
use crate::{document_id, record};

const EMAIL: &str = "email";
const USERNAME: &str = "username";

/// The time after which a pending account is given up. It is far longer than a registration, which takes at most the
/// deadline.
const PENDING_FOR: std::time::Duration = std::time::Duration::from_secs(300);

#[async_trait]
impl UserStore for MongodbStore {
    async fn insert_user(&self, user: &User) -> Result<UserInserted, StoreError> {
        self.answer("insert the account", Turn::Any, async {
            let mut wanted = vec![(document_id::name(EMAIL, user.email.key()), UserInserted::EmailTaken)];
            if let Some(username) = &user.username {
                wanted.push((document_id::name(USERNAME, username.key()), UserInserted::UsernameTaken));
            }
            let since = self.not_before_opening(user.created_at);
            let mut account = record::of_user(user);
            account.insert("pending_at", date(since));
            account.insert("claims", wanted.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>());
            if !self.accounts.insert(&account).await? {
                return Err(Failure::AccountIdTaken);
            }
            let mut claimed = Vec::new();
            for (name, taken) in wanted {
                if !self.claim(&name, &user.id, since).await? {
                    self.accounts.delete_many(pending(&user.id, since)).await?;
                    self.release(&user.id, claimed).await?;
                    return Ok(taken);
                }
                claimed.push(name);
            }
            let commit = doc! { "$unset": { "pending_at": "", "claims": "" } };
            if self.accounts.update_one(pending(&user.id, since), commit).await? {
                Ok(UserInserted::Yes)
            } else {
                Err(Failure::RegistrationOvertaken)
            }
        })
        .await
    }

    async fn user(&self, id: &UserId) -> Result<Option<User>, StoreError> {
        self.answer("read the account", Turn::Any, self.account(id.as_str())).await
    }

    async fn user_by_name(&self, name: NameKey<'_>) -> Result<Option<User>, StoreError> {
        let name = match name {
            NameKey::Email(key) => document_id::name(EMAIL, key),
            NameKey::Username(key) => document_id::name(USERNAME, key),
        };
        self.answer("find the account by its name", Turn::Any, async {
            match self.names.find_one(doc! { "_id": name }).await? {
                Some(claim) => self.account(text(&claim, "user_id")?).await,
                None => Ok(None),
            }
        })
        .await
    }

    async fn replace_password_hash(
        &self,
        id: &UserId,
        old: Option<&PasswordHash>,
        new: &PasswordHash,
    ) -> Result<bool, StoreError> {
        self.answer("replace the password hash", Turn::IfWeak(id.as_str()), async {
            let mut filter = committed(id);
            filter.insert("password_hash", old.map(PasswordHash::expose));
            self.accounts.update_one(filter, doc! { "$set": { "password_hash": new.expose() } }).await
        })
        .await
    }

    async fn set_disabled(&self, id: &UserId, disabled: Option<Timestamp>) -> Result<bool, StoreError> {
        self.answer("disable or enable the account", Turn::IfWeak(id.as_str()), async {
            let disabled = disabled.map(Timestamp::as_millis);
            self.accounts.update_one(committed(id), doc! { "$set": { "disabled_at": disabled } }).await
        })
        .await
    }
}

impl MongodbStore {
    async fn account(&self, id: &str) -> Result<Option<User>, Failure> {
        match self.accounts.find_one(doc! { "_id": id }).await? {
            Some(account) if !is_set(&account, "pending_at")? => record::user(&account).map(Some),
            _ => Ok(None),
        }
    }

    /// Claims a name for an account that has been pending since `since`. Returns whether nobody else has the name.
    async fn claim(&self, name: &str, user_id: &UserId, since: Timestamp) -> Result<bool, Failure> {
        let mut tries = 0;
        loop {
            if self.names.insert(&doc! { "_id": name, "user_id": user_id.as_str() }).await? {
                return Ok(true);
            }
            // If there is no claim, it was released at this moment.
            if let Some(claim) = self.names.find_one(doc! { "_id": name }).await? {
                let holder = text(&claim, "user_id")?;
                if !self.is_given_up(holder, since).await? {
                    return Ok(false);
                }
                let filter = doc! { "_id": name, "user_id": holder };
                let take_over = doc! { "$set": { "user_id": user_id.as_str() } };
                if self.names.update_one(filter, take_over).await? {
                    return Ok(true);
                }
            }
            tries += 1;
            pause(tries).await;
        }
    }

    /// Whether this account has no names and never will.
    async fn is_given_up(&self, id: &str, now: Timestamp) -> Result<bool, Failure> {
        let Some(account) = self.accounts.find_one(doc! { "_id": id }).await? else {
            // An account is inserted before its names are claimed, so without the account the claim is abandoned.
            return Ok(true);
        };
        match optional_date(&account, "pending_at")? {
            Some(since) if since + PENDING_FOR < now => {
                let filter = doc! { "_id": id, "pending_at": date(since) };
                Ok(self.accounts.delete_many(filter).await? > 0)
            }
            _ => Ok(false),
        }
    }

    async fn release(&self, user_id: &UserId, names: Vec<String>) -> Result<(), Failure> {
        for name in names {
            // Another registration may already have taken the claim over.
            self.names.delete_many(doc! { "_id": name, "user_id": user_id.as_str() }).await?;
        }
        Ok(())
    }

    /// Deletes what registrations that died before this time have left.
    pub(crate) async fn purge_registrations(&self, before: DateTime) -> Result<(), Failure> {
        let query = Query {
            filter: doc! { "pending_at": { "$lt": before } },
            limit: Some(REGISTRATIONS_AT_ONCE),
            ..Query::default()
        };
        for dead in self.accounts.find(query).await? {
            let id = text(&dead, "_id")?;
            let names = crate::field::texts(&dead, "claims")?;
            let filter = doc! { "_id": id, "pending_at": { "$lt": before } };
            if self.accounts.delete_many(filter).await? > 0 {
                let user_id = UserId::new(id).map_err(|error| Failure::malformed("_id", error))?;
                self.release(&user_id, names).await?;
            }
        }
        Ok(())
    }
}

/// The filter that finds a pending account, which is not yet visible to others.
fn pending(id: &UserId, since: Timestamp) -> Document {
    doc! { "_id": id.as_str(), "pending_at": date(since) }
}

/// The filter that finds a committed account.
fn committed(id: &UserId) -> Document {
    doc! { "_id": id.as_str(), "pending_at": Bson::Null }
}

const REGISTRATIONS_AT_ONCE: usize = 100;
