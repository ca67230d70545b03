//! Accounts. How they and their names change together is described in [`crate::names`].

use async_trait::async_trait;
use countersign_core::model::{PasswordHash, User};
use countersign_core::store::{
    NameKey, StoreError, UserInserted, UserPage, UserPosition, UserReplaced, UserStore,
};
use countersign_jwt::{Timestamp, UserId};
use mongodb::bson::{Bson, Document, RawDocumentBuf, doc};

use crate::call::{Failure, pause};
use crate::field::{date, integer, is_set, number, text};
use crate::locks::Turn;
use crate::names::{Claimed, Name, NameKind, Operation, committed, ids, note, of_note};
use crate::records::Query;
use crate::store::MongodbStore;
use crate::{record, server};

/// The `_id` of the document with the number of the last user.
const USER_NUMBER: &str = "user_number";

/// The largest number of accounts of a list that one command reads.
const LIST_STEP: usize = 500;

/// The smallest number of accounts that one command of a search reads, because some of them may not be asked for.
const SEARCH_STEP: usize = 100;

/// More bytes than any key of a name has.
const LONGEST_QUERY: usize = 2_000;

#[async_trait]
impl UserStore for MongodbStore {
    async fn insert_user(&self, user: &User) -> Result<UserInserted, StoreError> {
        self.answer("insert the account", Turn::Any, async {
            let operation = Operation::new(&user.id, self.not_before_opening(user.created_at));
            let names = Name::all_of(user);
            let mut account = record::of_user(user)?;
            account.insert("pending_at", date(operation.now));
            account.insert("operation", &operation.id);
            account.insert("claims", ids(&names));
            if !self.accounts.insert(&account).await? {
                return Ok(UserInserted::IdTaken);
            }
            // A pending account is not yet visible to others.
            let pending = doc! { "_id": user.id.as_str(), "operation": &operation.id };
            let refused = match self.claim_all(&names, &operation).await? {
                Claimed::Yes => None,
                Claimed::Taken(NameKind::Email) => Some(UserInserted::EmailTaken),
                Claimed::Taken(NameKind::Username) => Some(UserInserted::UsernameTaken),
                Claimed::Overtaken => return Err(Failure::RegistrationOvertaken),
            };
            if let Some(refused) = refused {
                self.accounts.delete_many(pending).await?;
                return Ok(refused);
            }
            let mut pending_no_more = of_note();
            pending_no_more.insert("pending_at", "");
            if self.accounts.update_one(pending, doc! { "$unset": pending_no_more }).await? {
                Ok(UserInserted::Yes)
            } else {
                self.release(&names, &operation).await?;
                Err(Failure::RegistrationOvertaken)
            }
        })
        .await
    }

    async fn user(&self, id: &UserId) -> Result<Option<User>, StoreError> {
        self.answer("read the account", Turn::Any, async {
            self.account(id.as_str()).await?.as_deref().map(record::user).transpose()
        })
        .await
    }

    async fn user_by_name(&self, name: NameKey<'_>) -> Result<Option<User>, StoreError> {
        let name = match name {
            NameKey::Email(key) => Name::email(key),
            NameKey::Username(key) => Name::username(key),
        };
        self.answer("find the account by its name", Turn::Any, async {
            let Some(claim) = self.names.find_one(doc! { "_id": &name.id }).await? else { return Ok(None) };
            match self.account(text(&claim, "user_id")?).await? {
                Some(account) if Name::all_carried_by(&account)?.contains(&name) => {
                    record::user(&account).map(Some)
                }
                _ => Ok(None),
            }
        })
        .await
    }

    async fn replace_user(&self, old: &User, new: &User) -> Result<UserReplaced, StoreError> {
        self.answer("replace the account", Turn::IfWeak(old.id.as_str()), async {
            let Some(account) = self.account(old.id.as_str()).await? else {
                return Ok(UserReplaced::Changed);
            };
            let before = record::user(&account)?;
            if before.revision != old.revision {
                return Ok(UserReplaced::Changed);
            }
            let new = User {
                id: before.id,
                created_at: before.created_at,
                revision: before.revision.saturating_add(1),
                ..new.clone()
            };
            let (had, wanted) = (Name::all_carried_by(&account)?, Name::all_of(&new));
            let without = |names: &[Name], others: &[Name]| -> Vec<Name> {
                names.iter().filter(|name| !others.contains(name)).cloned().collect()
            };
            let (claimed, freed) = (without(&wanted, &had), without(&had, &wanted));

            let mut condition = with_revision(&new.id, before.revision)?;
            let operation = Operation::new(&new.id, self.now_if(!claimed.is_empty()).await?);
            if !claimed.is_empty() {
                let noted = doc! { "$set": note(&operation, &claimed) };
                if !self.accounts.update_one(condition.clone(), noted).await? {
                    return Ok(UserReplaced::Changed);
                }
                condition.insert("operation", &operation.id);
                let refused = match self.claim_all(&claimed, &operation).await? {
                    Claimed::Yes => None,
                    Claimed::Taken(NameKind::Email) => Some(UserReplaced::EmailTaken),
                    Claimed::Taken(NameKind::Username) => Some(UserReplaced::UsernameTaken),
                    Claimed::Overtaken => Some(UserReplaced::Changed),
                };
                if let Some(refused) = refused {
                    self.accounts.update_one(condition, doc! { "$unset": of_note() }).await?;
                    return Ok(refused);
                }
            }
            // As long as the account carries these names, nobody changes their claims. Afterwards, only the claims that
            // were found here are deleted, and not those of an operation that takes a name up again.
            let freed = self.claims_of(&new.id, &freed).await?;
            let commit = doc! { "$set": record::changing_user(&new)?, "$unset": of_note() };
            if !self.accounts.update_one(condition, commit).await? {
                self.release(&claimed, &operation).await?;
                return Ok(UserReplaced::Changed);
            }
            for claim in freed {
                self.names.delete_many(claim).await?;
            }
            Ok(UserReplaced::Yes)
        })
        .await
    }

    async fn delete_user(&self, id: &UserId) -> Result<bool, StoreError> {
        self.answer("delete the account", Turn::IfWeak(id.as_str()), async {
            let since = self.now_if(true).await?;
            let deleting = doc! { "$set": { "pending_at": date(since), "deleting": true } };
            if !self.accounts.update_one(committed(id), deleting).await? {
                return Ok(false);
            }
            // It is read after the commit, because its names cannot change any more.
            if let Some(account) = self.accounts.find_one(doc! { "_id": id.as_str() }).await? {
                self.clear(&account).await?;
            }
            Ok(true)
        })
        .await
    }

    async fn users(&self, page: &UserPage<'_>) -> Result<Vec<User>, StoreError> {
        let mut after = page.after.clone();
        let mut listed = Vec::new();
        while listed.len() < page.limit {
            let wanted = (page.limit - listed.len()).min(LIST_STEP);
            let wanted = if page.query.is_some() { wanted.max(SEARCH_STEP) } else { wanted };
            let query = Query {
                filter: listing(page.query, after.as_ref()),
                // Texts are in the order of their bytes. (On mongo-java-server in that of UTF-16 units, which is the
                // same for the ids that are given out: UUIDs and numbers.)
                sort: doc! { "created_at": -1, "_id": -1 },
                limit: Some(wanted),
                ..Query::default()
            };
            // A search may read all accounts, so each step of it has a deadline of its own.
            let users = self
                .answer("list the accounts", Turn::Any, async {
                    record::all(&self.accounts.find(query).await?, record::user)
                })
                .await?;
            let is_last = users.len() < wanted;
            after = users.last().map(UserPosition::from);
            listed.extend(users.into_iter().filter(|user| page.asks_for(user)));
            if is_last {
                break;
            }
        }
        listed.truncate(page.limit);
        Ok(listed)
    }

    async fn users_to_delete(&self, before: Timestamp, limit: usize) -> Result<Vec<User>, StoreError> {
        self.answer("find the accounts that are to be deleted", Turn::Any, async {
            let query = Query {
                filter: doc! { "deleted_at": { "$lt": before.as_millis() }, "pending_at": Bson::Null },
                sort: doc! { "deleted_at": 1 },
                limit: Some(limit),
                ..Query::default()
            };
            record::all(&self.accounts.find(query).await?, record::user)
        })
        .await
    }

    async fn next_user_number(&self, at_least: u64) -> Result<u64, StoreError> {
        // Callers of one process take turns instead of failing each other's conditions.
        self.answer("count up the number of users", Turn::Always(USER_NUMBER), async {
            let mut tries = 0;
            loop {
                let found = self.store.find_one(doc! { "_id": USER_NUMBER }).await?;
                let last = found.map(|document| number::<u64>(&document, "number")).transpose()?;
                let next = last.unwrap_or(0).saturating_add(1).max(at_least);
                let counted = match last {
                    Some(last) => {
                        let filter = doc! { "_id": USER_NUMBER, "number": integer(last)? };
                        self.store.update_one(filter, doc! { "$set": { "number": integer(next)? } }).await?
                    }
                    None => self.store.insert(&doc! { "_id": USER_NUMBER, "number": integer(next)? }).await?,
                };
                if counted {
                    return Ok(next);
                }
                tries += 1;
                pause(tries).await;
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
            self.accounts.update_one(filter, changed(doc! { "password_hash": new.expose() })).await
        })
        .await
    }

    async fn set_disabled(&self, id: &UserId, disabled: Option<Timestamp>) -> Result<bool, StoreError> {
        self.answer("disable or enable the account", Turn::IfWeak(id.as_str()), async {
            let disabled = disabled.map(Timestamp::as_millis);
            self.accounts.update_one(committed(id), changed(doc! { "disabled_at": disabled })).await
        })
        .await
    }
}

impl MongodbStore {
    /// The document of a committed account.
    async fn account(&self, id: &str) -> Result<Option<RawDocumentBuf>, Failure> {
        match self.accounts.find_one(doc! { "_id": id }).await? {
            Some(account) if !is_set(&account, "pending_at")? => Ok(Some(account)),
            _ => Ok(None),
        }
    }

    /// The server's time, if it is needed.
    async fn now_if(&self, needed: bool) -> Result<Timestamp, Failure> {
        match needed {
            true => Ok(server::hello(&self.tail.database, &self.tail.lane).await?.time),
            false => Ok(Timestamp::MIN),
        }
    }
}

/// The update of an account with these fields, which counts as a change.
fn changed(fields: Document) -> Document {
    doc! { "$set": fields, "$inc": { "revision": 1_i64 } }
}

/// The filter that finds a committed account if it has this revision. Documents of an older program have none, which is
/// 0.
fn with_revision(id: &UserId, revision: u64) -> Result<Document, Failure> {
    let mut filter = committed(id);
    match revision {
        0 => filter.insert("$or", vec![doc! { "revision": 0_i64 }, doc! { "revision": Bson::Null }]),
        revision => filter.insert("revision", integer(revision)?),
    };
    Ok(filter)
}

/// The filter that finds the accounts after this position for which the query may ask. It also finds accounts without
/// the keys of their names, which an older program has written.
fn listing(query: Option<&str>, after: Option<&UserPosition>) -> Document {
    let mut all = vec![doc! { "pending_at": Bson::Null }];
    if let Some(UserPosition { created_at, id }) = after {
        let created_at = created_at.as_millis();
        let later = vec![
            doc! { "created_at": { "$lt": created_at } },
            doc! { "created_at": created_at, "_id": { "$lt": id.as_str() } },
        ];
        all.push(doc! { "$or": later });
    }
    if let Some(query) = query {
        let mut any = vec![doc! { "_id": query }, doc! { "name_keys": Bson::Null }];
        // No key holds a control character, and a server may refuse a pattern with one, or a very long one.
        if query.len() <= LONGEST_QUERY && !query.contains(char::is_control) {
            any.push(doc! { "name_keys": { "$regex": literal(query) } });
        }
        all.push(doc! { "$or": any });
    }
    doc! { "$and": all }
}

/// A pattern that finds the text itself. A backslash before ASCII punctuation means the character in every kind of
/// regular expressions.
fn literal(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_ascii_punctuation() {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_means_the_text_itself() {
        assert_eq!(literal("o'neil+1@x.example"), r"o\'neil\+1\@x\.example");
        assert_eq!(literal(r"a\b_(é)"), r"a\\b\_\(é\)");
        let asks = |query: &str| listing(Some(query), None).to_string().contains("$regex");
        assert!(asks(""));
        assert!(!asks("a\0b") && !asks(&"x".repeat(LONGEST_QUERY + 1)), "no key holds such a text");
    }
}
