//! One-time secrets: one document for each user and purpose.
//!
//! A secret is read, tried by core's own rules, and written or deleted on the condition that it is still as it was
//! read. Its random `version` changes whenever another secret takes its place, and its tries only become fewer.

use async_trait::async_trait;
use countersign_core::model::{OneTimeSecret, Purpose, SecretDigest, Tried};
use countersign_core::store::{OneTimeStore, StoreError};
use countersign_jwt::{Timestamp, UserId};
use mongodb::bson::oid::ObjectId;
use mongodb::bson::{Document, RawDocument, doc};

use crate::call::{Failure, pause};
use crate::field::{binary, byte_strings, date, number, parsed, text, time};
use crate::locks::Turn;
use crate::store::MongodbStore;
use crate::{document_id, record};

#[async_trait]
impl OneTimeStore for MongodbStore {
    async fn put_secret(&self, secret: &OneTimeSecret) -> Result<(), StoreError> {
        let id = document_id::secret(&secret.user_id, secret.purpose);
        self.answer("keep the secret", Turn::IfWeak(&id), async {
            let lives = secret.expires_at.since(secret.created_at);
            let mut document = of_secret(secret);
            document.insert("version", ObjectId::new().to_hex());
            document.insert("gone_at", date(self.not_before_opening(secret.created_at) + lives));
            self.secrets.upsert(doc! { "_id": &id }, doc! { "$set": document }).await
        })
        .await
    }

    async fn secret(&self, user_id: &UserId, purpose: Purpose) -> Result<Option<OneTimeSecret>, StoreError> {
        let id = document_id::secret(user_id, purpose);
        self.answer("read the secret", Turn::Any, async {
            self.secrets.find_one(doc! { "_id": &id }).await?.as_deref().map(secret).transpose()
        })
        .await
    }

    async fn try_secret(
        &self,
        user_id: &UserId,
        purpose: Purpose,
        digest: &SecretDigest,
        now: Timestamp,
    ) -> Result<Option<(Tried, OneTimeSecret)>, StoreError> {
        let id = document_id::secret(user_id, purpose);
        // Callers of one process take turns instead of failing each other's conditions.
        self.answer("try the secret", Turn::Always(&id), async {
            let mut tries = 0;
            while let Some(document) = self.secrets.find_one(doc! { "_id": &id }).await? {
                let before = secret(&document)?;
                let mut after = before.clone();
                let tried = after.try_digest(digest, now);
                let as_read = doc! {
                    "_id": &id,
                    "version": text(&document, "version")?,
                    "tries_left": i64::from(before.tries_left),
                };
                let done = match tried {
                    Tried::Wrong => {
                        let fewer = doc! { "tries_left": i64::from(after.tries_left) };
                        self.secrets.update_one(as_read, doc! { "$set": fewer }).await?
                    }
                    Tried::Right | Tried::Exhausted | Tried::Expired => {
                        self.secrets.delete_many(as_read).await? > 0
                    }
                };
                if done {
                    return Ok(Some((tried, before)));
                }
                tries += 1;
                pause(tries).await;
            }
            Ok(None)
        })
        .await
    }

    async fn remove_secret(&self, user_id: &UserId, purpose: Purpose) -> Result<bool, StoreError> {
        let id = document_id::secret(user_id, purpose);
        self.answer("delete the secret", Turn::IfWeak(&id), async {
            Ok(self.secrets.delete_many(doc! { "_id": &id }).await? > 0)
        })
        .await
    }

    async fn purge_secrets(&self, before: Timestamp, at_most: usize) -> Result<u64, StoreError> {
        let old = doc! { "expires_at": { "$lt": before.as_millis() } };
        self.purge("purge secrets", &self.secrets, old, doc! { "expires_at": 1 }, at_most).await
    }
}

/// The filter that finds all of a user's secrets.
pub(crate) fn all_of(user_id: &UserId) -> Document {
    let ids: Vec<_> = Purpose::ALL.into_iter().map(|purpose| document_id::secret(user_id, purpose)).collect();
    doc! { "_id": { "$in": ids } }
}

fn of_secret(secret: &OneTimeSecret) -> Document {
    let digests: Vec<_> = secret.digests.iter().map(|digest| binary(digest.as_bytes())).collect();
    doc! {
        "user_id": secret.user_id.as_str(),
        "purpose": secret.purpose.name(),
        "digests": digests,
        "bound_to": &secret.bound_to,
        "tries_left": i64::from(secret.tries_left),
        "created_at": secret.created_at.as_millis(),
        "expires_at": secret.expires_at.as_millis(),
    }
}

fn secret(document: &RawDocument) -> Result<OneTimeSecret, Failure> {
    let digests = byte_strings(document, "digests")?.into_iter();
    Ok(OneTimeSecret {
        user_id: parsed(document, "user_id", UserId::new)?,
        purpose: parsed(document, "purpose", |name| Purpose::from_name(name).ok_or("an unknown purpose"))?,
        digests: digests.map(|digest| record::digest("digests", digest)).collect::<Result<_, _>>()?,
        bound_to: text(document, "bound_to")?.to_owned(),
        tries_left: number(document, "tries_left")?,
        created_at: time(document, "created_at")?,
        expires_at: time(document, "expires_at")?,
    })
}
