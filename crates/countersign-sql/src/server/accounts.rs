//! The steps on accounts that take several statements, all or none.
//!
//! Every step queues at the account's row first and claims names second, so that no two steps wait for each other. A
//! name is claimed before another one is freed: of two users who want each other's names, each finds the other's taken.

use countersign_core::model::{KnownDevice, OneTimeSecret, SecretDigest, Tried, User};
use countersign_core::store::{NameKey, StoreError, UserInserted, UserReplaced};
use countersign_jwt::{Timestamp, UserId};

use super::{Operations, Server, Transaction};
use crate::column::limit;
use crate::names;
use crate::statement::Statement;

/// A statement about a user's name.
type OfName<S> = fn(NameKey<'_>, &UserId) -> Statement<<S as Server>::Driver>;

impl<S: Server> Operations<S> {
    /// Inserts a user and claims its names.
    pub(crate) async fn insert_user(
        &self,
        user: &User,
        insert: Statement<S::Driver>,
        claim: OfName<S>,
    ) -> Result<UserInserted, StoreError> {
        let insert = &insert;
        let inserted = self.transaction("insert the account", |mut transaction| async move {
            if !transaction.insert(insert).await? {
                transaction.undo().await?;
                return Ok(UserInserted::IdTaken);
            }
            if let Some(taken) = claim_all(&mut transaction, names::of(user), &user.id, claim).await? {
                transaction.undo().await?;
                return Ok(names::insert_refused(taken));
            }
            transaction.commit().await?;
            Ok(UserInserted::Yes)
        });
        inserted.await
    }

    /// Replaces a user by the statement `replace`, which changes the row if its revision is still that of `old`. Its
    /// names are those of `old` then.
    pub(crate) async fn replace_user(
        &self,
        old: &User,
        new: &User,
        replace: Statement<S::Driver>,
        claim: OfName<S>,
        free: OfName<S>,
    ) -> Result<UserReplaced, StoreError> {
        let replace = &replace;
        let replaced = self.transaction("replace the account", |mut transaction| async move {
            if transaction.write(replace).await? == 0 {
                transaction.undo().await?;
                return Ok(UserReplaced::Changed);
            }
            if let Some(taken) = claim_all(&mut transaction, names::beyond(new, old), &old.id, claim).await? {
                transaction.undo().await?;
                return Ok(names::change_refused(taken));
            }
            for name in names::beyond(old, new) {
                transaction.write(&free(name, &old.id)).await?;
            }
            transaction.commit().await?;
            Ok(UserReplaced::Yes)
        });
        replaced.await
    }

    /// Deletes a user's account by the last of the statements `delete`, after what belongs to the user by the others,
    /// and frees its names. `find` reads the account and locks its row.
    pub(crate) async fn delete_user(
        &self,
        find: Statement<S::Driver, User>,
        free: OfName<S>,
        delete: [Statement<S::Driver>; 3],
    ) -> Result<bool, StoreError> {
        let (find, delete) = (&find, &delete);
        let deleted = self.transaction("delete the account", |mut transaction| async move {
            let found = transaction.read(find).await?.pop();
            if let Some(user) = &found {
                for name in names::of(user) {
                    transaction.write(&free(name, &user.id)).await?;
                }
            }
            for statement in delete {
                transaction.write(statement).await?;
            }
            transaction.commit().await?;
            Ok(found.is_some())
        });
        deleted.await
    }

    /// Tries a one-time secret. `find` reads the secret and locks its row. The row is then written as `put` says if the
    /// secret was wrong, and otherwise deleted.
    pub(crate) async fn try_secret(
        &self,
        find: Statement<S::Driver, OneTimeSecret>,
        put: fn(&OneTimeSecret) -> Statement<S::Driver>,
        delete: Statement<S::Driver>,
        digest: &SecretDigest,
        now: Timestamp,
    ) -> Result<Option<(Tried, OneTimeSecret)>, StoreError> {
        let (find, delete) = (&find, &delete);
        let tried = self.transaction("try the one-time secret", |mut transaction| async move {
            let Some(before) = transaction.read(find).await?.pop() else {
                transaction.undo().await?;
                return Ok(None);
            };
            let mut secret = before.clone();
            let tried = secret.try_digest(digest, now);
            if tried == Tried::Wrong {
                transaction.write(&put(&secret)).await?;
            } else {
                transaction.write(delete).await?;
            }
            transaction.commit().await?;
            Ok(Some((tried, before)))
        });
        tried.await
    }

    /// Keeps a device, by the statement `renew` if it is known and by `insert` if it is not. Then the user's devices are
    /// counted, and those that are too many deleted by `trim`. Of concurrent callers the last to insert counts all.
    pub(crate) async fn remember_device(
        &self,
        renew: impl Fn() -> Statement<S::Driver>,
        insert: impl Fn() -> Statement<S::Driver>,
        count: Statement<S::Driver, (i64,)>,
        trim: Statement<S::Driver>,
    ) -> Result<bool, StoreError> {
        const ACTION: &str = "remember the device";
        let steps = async {
            loop {
                if self.write(ACTION, renew()).await? > 0 {
                    return Ok(false);
                }
                // Somebody else may have inserted the device meanwhile.
                if self.insert(ACTION, insert()).await? {
                    break;
                }
            }
            let (count,) = self.only(ACTION, count).await?;
            if count > limit(KnownDevice::MAX) {
                self.write(ACTION, trim).await?;
            }
            Ok(count > 1)
        };
        self.series(ACTION, steps).await
    }
}

/// Claims names for a user, one after the other. Returns the first that another account has.
async fn claim_all<'n, S: Server>(
    transaction: &mut Transaction<S>,
    names: impl Iterator<Item = NameKey<'n>> + Send,
    id: &UserId,
    claim: OfName<S>,
) -> Result<Option<NameKey<'n>>, sqlx::Error> {
    for name in names {
        if !transaction.insert(&claim(name, id)).await? {
            return Ok(Some(name));
        }
    }
    Ok(None)
}
