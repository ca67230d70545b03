//! The claims of names: documents of their own, whose unique `_id`s keep names unique without a transaction.
//!
//! # How an account and its names change together
//!
//! A claim names the account that has the name, or is about to get it. The account's document decides: a name leads to
//! an account only if the account's document carries the name and is not pending. A lookup by name checks that, so a
//! claim alone never leads anywhere.
//!
//! - *A registration* inserts the account as pending, claims each name, and then removes `pending_at`, which is the
//!   commit point.
//! - *A replacement* notes in the account's document which names it is about to claim, claims them, and then writes the
//!   new fields on the condition that the revision and the note are still the same, which is the commit point. Last it
//!   deletes the claims of the names that the account has given up. A replacement that changes no name is the commit
//!   alone.
//! - *A deletion* makes the account pending again and for ever, which is the commit point, and then deletes what belongs
//!   to it, its claims, and last its document.
//!
//! # What a crash in between leaves
//!
//! A crash leaves a claim whose account does not carry the name. A later registration or replacement that wants the
//! name takes the claim over, once nothing can come any more that would make the account carry it:
//!
//! - If the account is gone or is being deleted, or if it neither carries the name nor has a note about it, nothing can.
//! - If a registration or a replacement is under way, the name counts as taken. If it has been under way for longer than
//!   any operation takes, the pending account is deleted or the note removed, on the condition that it is still the
//!   same. Either the operation did commit, and keeps the name, or it never can. The length of that time therefore
//!   decides only how soon a name is free again, never who has it.
//!
//! A take-over names the operation that wrote the claim in its condition. Every operation writes its own into the
//! claims that it takes over, also where another one of the same account has left them. So a claim that was found
//! abandoned is not taken from an operation that has begun since.
//!
//! # Several replacements of one account
//!
//! The note of a later one takes the place of the note of an earlier one, which then cannot commit. It must not take
//! claims from the later one either, because it deletes its own claims when it has failed. An operation therefore takes
//! a claim of its own account over only if its note is still there, after it has read the claim: the later one writes
//! claims only after its note.

use countersign_core::model::User;
use countersign_jwt::{Timestamp, UserId};
use mongodb::bson::oid::ObjectId;
use mongodb::bson::{Bson, Document, RawDocument, doc};

use crate::call::{Failure, pause};
use crate::document_id;
use crate::field::{date, is_set, optional_date, optional_text, text, texts};
use crate::record::NameKeys;
use crate::records::Query;
use crate::store::MongodbStore;

/// The kind of a name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum NameKind {
    Email,
    Username,
}

/// A name: the `_id` of its claim.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Name {
    pub(crate) kind: NameKind,
    pub(crate) id: String,
}

/// The result of claiming names.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Claimed {
    /// All names are claimed.
    Yes,
    /// Another account has the name of this kind. Nothing is claimed.
    Taken(NameKind),
    /// The operation cannot commit any more, because another one has taken its place. Nothing is claimed.
    Overtaken,
}

/// The operation that claims names.
#[derive(Clone, Debug)]
pub(crate) struct Operation<'a> {
    /// The account that is to have the names.
    pub(crate) user_id: &'a UserId,
    /// The operation's id.
    pub(crate) id: String,
    /// The time of the operation.
    pub(crate) now: Timestamp,
}

impl Name {
    pub(crate) fn email(key: &str) -> Self {
        Self { kind: NameKind::Email, id: document_id::name("email", key) }
    }

    pub(crate) fn username(key: &str) -> Self {
        Self { kind: NameKind::Username, id: document_id::name("username", key) }
    }

    /// The names of a user.
    pub(crate) fn all_of(user: &User) -> Vec<Self> {
        Self::with_keys(&NameKeys::of(user))
    }

    /// The names that an account's document carries.
    pub(crate) fn all_carried_by(account: &RawDocument) -> Result<Vec<Self>, Failure> {
        NameKeys::read(account).map(|keys| Self::with_keys(&keys))
    }

    fn with_keys(keys: &NameKeys) -> Vec<Self> {
        let email = keys.email.as_deref().map(Self::email);
        email.into_iter().chain(keys.username.as_deref().map(Self::username)).collect()
    }
}

impl<'a> Operation<'a> {
    /// A new operation of this account.
    pub(crate) fn new(user_id: &'a UserId, now: Timestamp) -> Self {
        Self { user_id, id: ObjectId::new().to_hex(), now }
    }
}

/// The `_id`s of these names' claims.
pub(crate) fn ids(names: &[Name]) -> Vec<String> {
    names.iter().map(|name| name.id.clone()).collect()
}

/// The note of a replacement under way, in the account's document.
pub(crate) fn note(operation: &Operation<'_>, names: &[Name]) -> Document {
    doc! { "operation": &operation.id, "claiming_since": date(operation.now), "claims": ids(names) }
}

/// The fields of the note of an operation, to be removed. They are not those that make an account pending, because what
/// is being deleted must stay so.
pub(crate) fn of_note() -> Document {
    doc! { "operation": "", "claiming_since": "", "claims": "" }
}

/// The filter that finds a committed account.
pub(crate) fn committed(id: &UserId) -> Document {
    doc! { "_id": id.as_str(), "pending_at": Bson::Null }
}

/// The time after which an operation that claims names is given up. It is far longer than one takes, which is at most
/// the deadline.
const GIVEN_UP_AFTER: std::time::Duration = std::time::Duration::from_secs(300);
/// The time after which what an operation has left is purged. It is shorter than the time after which the server itself
/// deletes pending accounts, which would leave their claims.
const PURGED_AFTER: std::time::Duration = std::time::Duration::from_secs(3_600);
const PURGED_AT_ONCE: usize = 100;

impl MongodbStore {
    /// Claims all these names, or none.
    pub(crate) async fn claim_all(
        &self,
        names: &[Name],
        operation: &Operation<'_>,
    ) -> Result<Claimed, Failure> {
        for name in names {
            let claimed = self.claim(name, operation).await?;
            if claimed != Claimed::Yes {
                self.release(names, operation).await?;
                return Ok(claimed);
            }
        }
        Ok(Claimed::Yes)
    }

    async fn claim(&self, name: &Name, operation: &Operation<'_>) -> Result<Claimed, Failure> {
        let claim = doc! { "user_id": operation.user_id.as_str(), "operation": &operation.id };
        let mut inserted = doc! { "_id": &name.id };
        inserted.extend(claim.clone());
        let mut tries = 0;
        loop {
            if self.names.insert(&inserted).await? {
                return Ok(Claimed::Yes);
            }
            // If there is no claim, it was released at this moment.
            if let Some(known) = self.names.find_one(doc! { "_id": &name.id }).await? {
                let holder = text(&known, "user_id")?;
                if holder == operation.user_id.as_str() {
                    if !self.is_under_way(operation).await? {
                        return Ok(Claimed::Overtaken);
                    }
                } else if !self.is_given_up(holder, &name.id, operation.now).await? {
                    return Ok(Claimed::Taken(name.kind));
                }
                let by = optional_text(&known, "operation")?;
                let filter = doc! { "_id": &name.id, "user_id": holder, "operation": by };
                if self.names.update_one(filter, doc! { "$set": claim.clone() }).await? {
                    return Ok(Claimed::Yes);
                }
            }
            tries += 1;
            pause(tries).await;
        }
    }

    /// Whether the account's document still has the note of this operation.
    async fn is_under_way(&self, operation: &Operation<'_>) -> Result<bool, Failure> {
        let noted = doc! { "_id": operation.user_id.as_str(), "operation": &operation.id };
        Ok(self.accounts.find_one(noted).await?.is_some())
    }

    /// Whether this account does not have the name, and nothing under way can give it the name.
    async fn is_given_up(&self, id: &str, name: &str, now: Timestamp) -> Result<bool, Failure> {
        let Some(account) = self.accounts.find_one(doc! { "_id": id }).await? else {
            // An account is inserted before its names are claimed, so without the account the claim is abandoned.
            return Ok(true);
        };
        if is_set(&account, "deleting")? {
            return Ok(true);
        }
        if let Some(since) = optional_date(&account, "pending_at")? {
            let filter = doc! { "_id": id, "pending_at": date(since) };
            return Ok(since + GIVEN_UP_AFTER < now && self.accounts.delete_many(filter).await? > 0);
        }
        if Name::all_carried_by(&account)?.iter().any(|carried| carried.id == name) {
            return Ok(false);
        }
        let is_noted = texts(&account, "claims")?.iter().any(|noted| noted == name);
        let Some(since) = optional_date(&account, "claiming_since")?.filter(|_| is_noted) else {
            return Ok(true);
        };
        let filter = doc! { "_id": id, "operation": text(&account, "operation")? };
        let update = doc! { "$unset": of_note() };
        Ok(since + GIVEN_UP_AFTER < now && self.accounts.update_one(filter, update).await?)
    }

    /// Deletes the claims that this operation has written.
    pub(crate) async fn release(&self, names: &[Name], operation: &Operation<'_>) -> Result<(), Failure> {
        let filter = doc! {
            "_id": { "$in": ids(names) },
            "user_id": operation.user_id.as_str(),
            "operation": &operation.id,
        };
        self.names.delete_many(filter).await.map(drop)
    }

    /// The filters that find the claims of these names as this account has them now.
    pub(crate) async fn claims_of(&self, user_id: &UserId, names: &[Name]) -> Result<Vec<Document>, Failure> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let filter = doc! { "_id": { "$in": ids(names) }, "user_id": user_id.as_str() };
        let found = self.names.find(Query { filter, ..Query::default() }).await?;
        let claim = |claim: &RawDocument| {
            let by = optional_text(claim, "operation")?;
            Ok(doc! { "_id": text(claim, "_id")?, "user_id": user_id.as_str(), "operation": by })
        };
        crate::record::all(&found, claim)
    }

    /// Deletes what belongs to an account that is being deleted, and last its document.
    pub(crate) async fn clear(&self, account: &RawDocument) -> Result<(), Failure> {
        let user_id = crate::field::parsed(account, "_id", UserId::new)?;
        self.secrets.delete_many(crate::one_time::all_of(&user_id)).await?;
        self.devices.delete_many(doc! { "_id": user_id.as_str() }).await?;
        self.release_for_ever(account).await?;
        self.accounts.delete_many(doc! { "_id": user_id.as_str(), "deleting": true }).await.map(drop)
    }

    /// Deletes the claims of an account that can never commit anything again.
    async fn release_for_ever(&self, account: &RawDocument) -> Result<(), Failure> {
        let mut names = ids(&Name::all_carried_by(account)?);
        names.extend(texts(account, "claims")?);
        // Others may already have taken some of them over.
        let filter = doc! { "_id": { "$in": names }, "user_id": text(account, "_id")? };
        self.names.delete_many(filter).await.map(drop)
    }

    /// Deletes what registrations and deletions that died before this time have left.
    pub(crate) async fn purge_accounts(&self, now: Timestamp) -> Result<(), Failure> {
        let before = date(self.not_before_opening(now) - PURGED_AFTER);
        let query = Query {
            filter: doc! { "pending_at": { "$lt": before } },
            limit: Some(PURGED_AT_ONCE),
            ..Query::default()
        };
        for dead in self.accounts.find(query).await? {
            if is_set(&dead, "deleting")? {
                self.clear(&dead).await?;
                continue;
            }
            let filter = doc! { "_id": text(&dead, "_id")?, "pending_at": { "$lt": before } };
            if self.accounts.delete_many(filter).await? > 0 {
                self.release_for_ever(&dead).await?;
            }
        }
        Ok(())
    }
}
