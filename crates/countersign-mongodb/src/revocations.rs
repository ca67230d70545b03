//! The revocation log.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use async_trait::async_trait;
use countersign_core::model::{EndReason, Ended, Entry, Target};
use countersign_core::store::{
    Changes, EpochRaise, RevocationStore, StoreError, TokenRevocation, TokensRevoked,
};
use countersign_jwt::{Epoch, SessionId, Timestamp, TokenId, UserId};
use mongodb::bson::{Document, RawDocument, doc};

use crate::call::{Failure, pause};
use crate::field::{self, documents, number, optional_parsed, parsed, text, time};
use crate::locks::Turn;
use crate::records::{Change, Query, Records};
use crate::schema::KEEP_UNFINISHED;
use crate::store::MongodbStore;
use crate::{document_id, record, server};

#[async_trait]
impl RevocationStore for MongodbStore {
    fn is_one_copy(&self) -> bool {
        false
    }

    fn changes(&self) -> Option<Changes> {
        Some(self.changed.subscribe())
    }

    async fn time(&self) -> Result<Option<Timestamp>, StoreError> {
        self.answer_beside("tell the time", async {
            Ok(Some(server::hello(&self.tail.database, &self.tail.lane).await?.time))
        })
        .await
    }

    async fn epoch(&self, user_id: &UserId) -> Result<Epoch, StoreError> {
        self.answer("read the user's epoch", Turn::Any, self.epoch_in_log(user_id)).await
    }

    async fn epoch_raised_at(&self, user_id: &UserId) -> Result<Option<Timestamp>, StoreError> {
        self.answer("read when the user's epoch was raised", Turn::Any, async {
            let query = Query { filter: raises(user_id), fields: doc! { "at": 1 }, ..Query::default() };
            let found = self.log.find(query).await?;
            let times = record::all(&found, |document| time(document, "at"))?;
            Ok(times.into_iter().max())
        })
        .await
    }

    /// The insert is the commit point. Of concurrent inserts with the same number one succeeds. The others try the next
    /// number, which is free unless another one has taken it too, so the numbers have no gaps.
    async fn raise_epoch(&self, user_id: &UserId, raise: &EpochRaise) -> Result<Entry, StoreError> {
        self.answer("raise the user's epoch", Turn::IfWeak(user_id.as_str()), async {
            let (entry, known) = loop {
                let known = self.raises(user_id).await?;
                let epoch = known.iter().map(|raise| raise.epoch).max().unwrap_or(Epoch::FIRST).next();
                let at = known.iter().map(|known| known.at).fold(raise.at, Timestamp::max);
                let target = Target::User { user_id: user_id.clone(), epoch, except: raise.except };
                let entry = Entry { target, until: raise.until, at };
                if self.insert_end(&entry, raise.reason).await? {
                    break (entry, known);
                }
            };
            self.has_written();
            let ended = Ended { at: raise.at, reason: raise.reason };
            self.mark_all(user_id, Epoch::new(entry.key().number), raise.except, ended).await?;
            let outdone = outdone_by(raise.except, &known).filter(|known| known.at < raise.forgets_before());
            let outdone: Vec<String> = outdone.map(|known| known.id.clone()).collect();
            delete(&self.log, outdone, &raises(user_id)).await?;
            Ok(entry)
        })
        .await
    }

    /// Revokes all tokens or none, within the limit and without a transaction. Before anything is written into the log,
    /// the tokens are written into the user's `token_batch`, on the condition that the batch has not changed since it
    /// was read. This write is the commit point. Then the entries are inserted; each may be inserted twice.
    ///
    /// The batch is read before the log, so every token that others have committed is counted. It is in the batch that
    /// was read; or it was there before and is in the log by then; or it comes after and fails the condition. A caller
    /// that finds a batch that is not wholly in the log (its writer is still writing, or has died) writes it too.
    /// Callers in this process take turns, because they would only fail each other's conditions.
    async fn revoke_tokens(
        &self,
        user_id: &UserId,
        tokens: &TokenRevocation,
    ) -> Result<TokensRevoked, StoreError> {
        self.answer("revoke tokens", Turn::Always(user_id.as_str()), async {
            if tokens.ids.is_empty() {
                return Ok(TokensRevoked::Yes);
            }
            let mut tries = 0;
            loop {
                let known = self.token_batches.find_one(doc! { "_id": user_id.as_str() }).await?;
                let live = self.live_tokens(user_id, tokens.at).await?;
                let mut unfinished = match &known {
                    Some(batch) => batch_of(batch)?,
                    None => BTreeMap::new(),
                };
                unfinished
                    .retain(|id, until| *until > tokens.at && live.get(id).is_none_or(|known| known < until));
                let room = room_beside(&live, &unfinished, tokens);
                if room != TokensRevoked::Yes {
                    return Ok(room);
                }
                for id in &tokens.ids {
                    let until = unfinished.entry(*id).or_insert(tokens.until);
                    *until = tokens.until.max(*until);
                }
                if self.commit_batch(user_id, known.as_deref(), &unfinished, tokens.at).await? {
                    self.write_tokens(user_id, &unfinished, tokens.at).await?;
                    self.has_written();
                    return Ok(TokensRevoked::Yes);
                }
                tries += 1;
                pause(tries).await;
            }
        })
        .await
    }

    async fn insert_entry(&self, entry: &Entry) -> Result<(), StoreError> {
        const ACTION: &str = "insert into the revocation log";
        let insert = async |log: &Records| {
            let Change { filter, update, .. } = merge(entry)?;
            log.upsert(filter, update).await
        };
        let turn = match &entry.target {
            // Heartbeats go through the connections of the tail.
            Target::Node { .. } => return self.answer_beside(ACTION, insert(&self.tail.log)).await,
            _ => entry.user_id().map_or(Turn::Any, |user_id| Turn::IfWeak(user_id.as_str())),
        };
        self.answer(ACTION, turn, insert(&self.log)).await?;
        self.has_written();
        Ok(())
    }

    async fn entries(
        &self,
        since: Timestamp,
        after: Option<&Entry>,
        at_most: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        self.answer_beside("read the revocation log", async {
            let mut filter = Document::new();
            if since > Timestamp::MIN {
                filter.insert("at", doc! { "$gte": since.as_millis() });
            }
            if let Some(after) = after {
                filter.insert("_id", doc! { "$gt": document_id::entry(&after.key()) });
            }
            let query = Query { filter, sort: doc! { "_id": 1 }, limit: Some(at_most), ..Query::default() };
            record::all(&self.tail.log.find(query).await?, record::entry)
        })
        .await
    }

    async fn purge_entries(&self, before: Timestamp, at_most: usize) -> Result<u64, StoreError> {
        const ACTION: &str = "purge the revocation log";
        let old = |kinds: &[&str]| {
            doc! { "kind": { "$in": kinds }, "until": { "$lt": before.as_millis() } }
        };
        let mut purged = self
            .purge(ACTION, &self.log, old(&["key", "node", "token"]), doc! { "until": 1 }, at_most)
            .await?;
        for kind in ["session", "user"] {
            let left = at_most.saturating_sub(usize::try_from(purged).unwrap_or(usize::MAX));
            let gone = self.purge_ends(ACTION, kind, before, left).await?;
            purged = purged.saturating_add(gone);
        }
        self.purge_unfinished(ACTION, before).await?;
        Ok(purged)
    }
}

impl MongodbStore {
    pub(crate) async fn epoch_in_log(&self, user_id: &UserId) -> Result<Epoch, Failure> {
        let query = Query {
            filter: raises(user_id),
            sort: doc! { "n": -1 },
            limit: Some(1),
            fields: doc! { "n": 1 },
        };
        match self.log.find(query).await?.first() {
            Some(highest) => number(highest, "n").map(Epoch::new),
            None => Ok(Epoch::FIRST),
        }
    }

    /// The user's `user` entries. They are few, because outdated ones are deleted.
    async fn raises(&self, user_id: &UserId) -> Result<Vec<KnownRaise>, Failure> {
        let fields = doc! { "_id": 1, "n": 1, "except": 1, "at": 1 };
        let found = self.log.find(Query { filter: raises(user_id), fields, ..Query::default() }).await?;
        record::all(&found, KnownRaise::of)
    }

    /// Inserts an entry that ends sessions, with the reason, which marking the rows needs. Returns whether it did.
    pub(crate) async fn insert_end(&self, entry: &Entry, reason: EndReason) -> Result<bool, Failure> {
        let mut document = record::of_entry(entry)?;
        document.insert("until", entry.until.as_millis());
        document.insert("at", entry.at.as_millis());
        document.insert("reason", reason.name());
        self.log.insert(&document).await
    }

    async fn live_tokens(
        &self,
        user_id: &UserId,
        now: Timestamp,
    ) -> Result<HashMap<TokenId, Timestamp>, Failure> {
        let query = Query {
            filter: doc! {
                "user_id": user_id.as_str(),
                "kind": "token",
                "until": { "$gt": now.as_millis() },
            },
            fields: doc! { "ref": 1, "until": 1 },
            ..Query::default()
        };
        let found = self.log.find(query).await?;
        found
            .iter()
            .map(|entry| Ok((parsed(entry, "ref", str::parse::<TokenId>)?, time(entry, "until")?)))
            .collect()
    }

    /// Replaces the batch that was read with a new one. Returns whether the batch was still unchanged.
    async fn commit_batch(
        &self,
        user_id: &UserId,
        known: Option<&RawDocument>,
        batch: &BTreeMap<TokenId, Timestamp>,
        now: Timestamp,
    ) -> Result<bool, Failure> {
        let version = known.map_or(Ok(0), |known| number::<i64>(known, "version"))?;
        let tokens: Vec<_> = batch
            .iter()
            .map(|(id, until)| doc! { "id": id.to_string(), "until": until.as_millis() })
            .collect();
        let next = doc! {
            "version": version.wrapping_add(1),
            "tokens": tokens,
            "touched_at": field::date(self.not_before_opening(now)),
        };
        let mut filter = doc! { "_id": user_id.as_str() };
        if known.is_none() {
            filter.extend(next);
            return self.token_batches.insert(&filter).await;
        }
        filter.insert("version", version);
        self.token_batches.update_one(filter, doc! { "$set": next }).await
    }

    async fn write_tokens(
        &self,
        user_id: &UserId,
        batch: &BTreeMap<TokenId, Timestamp>,
        at: Timestamp,
    ) -> Result<(), Failure> {
        let entries = batch.iter().map(|(id, until)| {
            let target = Target::Token { user_id: user_id.clone(), id: *id };
            merge(&Entry { target, until: *until, at })
        });
        let entries = entries.collect::<Result<Vec<_>, _>>()?;
        self.log.change_all(&entries).await
    }

    /// Deletes matching documents, the first ones in this order first, in steps so that other work runs in between.
    pub(crate) async fn purge(
        &self,
        action: &'static str,
        records: &Records,
        old: Document,
        order: Document,
        at_most: usize,
    ) -> Result<u64, StoreError> {
        let mut left = at_most;
        let mut purged = 0_u64;
        while left > 0 {
            let step = left.min(PURGE_STEP);
            let (found, gone) = self
                .answer(action, Turn::Any, async {
                    let query = Query {
                        filter: old.clone(),
                        sort: order.clone(),
                        limit: Some(step),
                        fields: doc! { "_id": 1 },
                    };
                    let found = records.find(query).await?;
                    let ids = record::all(&found, |document| text(document, "_id").map(str::to_owned))?;
                    Ok((ids.len(), delete(records, ids, &old).await?))
                })
                .await?;
            purged = purged.saturating_add(gone);
            left -= step.min(found);
            if found < step {
                break;
            }
        }
        Ok(purged)
    }

    /// Deletes entries that end sessions, unless they still decide something. The search continues behind the entries
    /// that stay, because it would find them again each time.
    async fn purge_ends(
        &self,
        action: &'static str,
        kind: &'static str,
        before: Timestamp,
        at_most: usize,
    ) -> Result<u64, StoreError> {
        let old = doc! { "kind": kind, "until": { "$lt": before.as_millis() } };
        let mut purged = 0_u64;
        let mut left = at_most;
        // The end of the last step: the `until`, and the `_id`s with this `until` that were looked at.
        let (mut from, mut seen) = (i64::MIN, BTreeSet::new());
        while left > 0 {
            let step = async {
                let query = Query {
                    filter: doc! {
                        "kind": kind,
                        "until": { "$gte": from, "$lt": before.as_millis() },
                        "_id": { "$nin": seen.iter().cloned().collect::<Vec<String>>() },
                    },
                    sort: doc! { "until": 1 },
                    limit: Some(PURGE_STEP),
                    ..Query::default()
                };
                let found = self.log.find(query).await?;
                let found = record::all(&found, Old::of)?;
                let done = match kind {
                    "session" => self.ended_in_row(&found).await?,
                    _ => self.outdone(&found).await?,
                };
                let done: Vec<String> = done.into_iter().take(left).collect();
                let gone = delete(&self.log, done, &old).await?;
                Ok((found, gone))
            };
            let (found, gone) = self.answer(action, Turn::Any, step).await?;
            purged = purged.saturating_add(gone);
            left = left.saturating_sub(usize::try_from(gone).unwrap_or(usize::MAX));
            let Some(last) = found.last().filter(|_| found.len() >= PURGE_STEP) else { break };
            if last.until > from {
                seen.clear();
                from = last.until;
            }
            seen.extend(found.into_iter().filter(|old| old.until == from).map(|old| old.id));
        }
        Ok(purged)
    }

    /// The `session` entries among `old` whose row is marked or gone.
    async fn ended_in_row(&self, old: &[Old]) -> Result<Vec<String>, Failure> {
        let mut rows: HashMap<String, String> = HashMap::new();
        for old in old {
            let Target::Session { user_id, id } = &old.entry.target else { continue };
            let key = countersign_core::model::UserSession { user_id: user_id.clone(), id: *id };
            rows.insert(document_id::session(&key), old.id.clone());
        }
        let query = Query {
            filter: doc! {
                "_id": { "$in": rows.keys().cloned().collect::<Vec<_>>() },
                "ended_at": mongodb::bson::Bson::Null,
            },
            fields: doc! { "_id": 1 },
            ..Query::default()
        };
        for unmarked in self.sessions.find(query).await? {
            rows.remove(text(&unmarked, "_id")?);
        }
        let done: HashSet<String> = rows.into_values().collect();
        Ok(old.iter().filter(|old| done.contains(&old.id)).map(|old| old.id.clone()).collect())
    }

    /// The `user` entries among `old` that no longer decide about any session. The entries that decide are a user's
    /// highest one and, for the session that it excepts, the highest that does not except it.
    async fn outdone(&self, old: &[Old]) -> Result<Vec<String>, Failure> {
        let users: BTreeSet<&str> =
            old.iter().filter_map(|old| old.entry.user_id()).map(UserId::as_str).collect();
        let query = Query {
            filter: doc! { "user_id": { "$in": users.into_iter().collect::<Vec<_>>() }, "kind": "user" },
            fields: doc! { "user_id": 1, "n": 1, "except": 1 },
            ..Query::default()
        };
        let mut raises: HashMap<String, BTreeMap<u64, Option<SessionId>>> = HashMap::new();
        for raise in self.log.find(query).await? {
            let except = optional_parsed(&raise, "except", str::parse::<SessionId>)?;
            let of_user = raises.entry(text(&raise, "user_id")?.to_owned()).or_default();
            of_user.insert(number(&raise, "n")?, except);
        }
        let decides = |entry: &Entry| {
            let (Target::User { epoch, .. }, Some(raises)) =
                (&entry.target, entry.user_id().and_then(|user_id| raises.get(user_id.as_str())))
            else {
                return true;
            };
            let Some((highest, except)) = raises.last_key_value() else { return true };
            let next = raises.iter().rev().find(|(_, other)| *other != except).filter(|_| except.is_some());
            *highest == epoch.as_u64() || next.is_some_and(|(next, _)| *next == epoch.as_u64())
        };
        Ok(old.iter().filter(|old| !decides(&old.entry)).map(|old| old.id.clone()).collect())
    }

    /// Deletes what crashes have left half-done, where the server does not delete it by itself.
    async fn purge_unfinished(&self, action: &'static str, now: Timestamp) -> Result<(), StoreError> {
        let old = field::date(self.not_before_opening(Timestamp::MIN) - KEEP_UNFINISHED);
        self.answer(action, Turn::Any, async {
            self.token_batches.delete_many(doc! { "touched_at": { "$lt": old } }).await?;
            self.purge_accounts(now).await
        })
        .await
    }
}

/// The part of a `user` entry that matters to the next one.
#[derive(Clone, Debug)]
struct KnownRaise {
    id: String,
    epoch: Epoch,
    except: Option<SessionId>,
    at: Timestamp,
}

impl KnownRaise {
    fn of(document: &RawDocument) -> Result<Self, Failure> {
        Ok(Self {
            id: text(document, "_id")?.to_owned(),
            epoch: number(document, "n").map(Epoch::new)?,
            except: optional_parsed(document, "except", str::parse::<SessionId>)?,
            at: time(document, "at")?,
        })
    }
}

/// The lower entries that decide nothing beside one that excepts this session: all but the highest that does not except
/// the same session.
fn outdone_by(except: Option<SessionId>, lower: &[KnownRaise]) -> impl Iterator<Item = &KnownRaise> {
    let others = lower.iter().filter(|raise| except.is_some() && raise.except != except);
    let decides = others.map(|raise| raise.epoch).max();
    lower.iter().filter(move |raise| Some(raise.epoch) != decides)
}

/// An entry that no longer matters.
#[derive(Clone, Debug)]
struct Old {
    id: String,
    until: i64,
    entry: Entry,
}

impl Old {
    fn of(document: &RawDocument) -> Result<Self, Failure> {
        let entry = record::entry(document)?;
        Ok(Self { id: text(document, "_id")?.to_owned(), until: entry.until.as_millis(), entry })
    }
}

/// Deletes these entries if they are still old: their times may have been raised since they were read.
async fn delete(records: &Records, ids: Vec<String>, old: &Document) -> Result<u64, Failure> {
    if ids.is_empty() {
        return Ok(0);
    }
    let mut filter = old.clone();
    filter.insert("_id", doc! { "$in": ids });
    records.delete_many(filter).await
}

/// The filter that finds the `user` entries of a user.
fn raises(user_id: &UserId) -> Document {
    doc! { "user_id": user_id.as_str(), "kind": "user", "ref": "" }
}

/// Inserts an entry, or raises the times of the existing one with its key to the later ones.
fn merge(entry: &Entry) -> Result<Change, Failure> {
    let mut inserted = record::of_entry(entry)?;
    // The filter's fields become fields of the new document too, and no field may be set twice.
    let mut filter = Document::new();
    for field in ["_id", "user_id"] {
        if let Some(value) = inserted.remove(field) {
            filter.insert(field, value);
        }
    }
    let later = doc! { "until": entry.until.as_millis(), "at": entry.at.as_millis() };
    Ok(Change { filter, update: doc! { "$setOnInsert": inserted, "$max": later }, upsert: true })
}

/// The tokens of a batch, with the time until which the entry of each matters.
fn batch_of(document: &RawDocument) -> Result<BTreeMap<TokenId, Timestamp>, Failure> {
    let tokens = documents(document, "tokens")?;
    tokens
        .into_iter()
        .map(|token| Ok((parsed(token, "id", str::parse::<TokenId>)?, time(token, "until")?)))
        .collect()
}

/// Whether these tokens may be revoked beside those that are already revoked or about to be.
fn room_beside(
    live: &HashMap<TokenId, Timestamp>,
    unfinished: &BTreeMap<TokenId, Timestamp>,
    tokens: &TokenRevocation,
) -> TokensRevoked {
    let known = live.keys().chain(unfinished.keys());
    let ids: HashSet<&TokenId> = known.chain(&tokens.ids).collect();
    if ids.len() <= tokens.limit {
        return TokensRevoked::Yes;
    }
    let free_at = live.values().chain(unfinished.values()).min();
    TokensRevoked::TooMany { free_at: free_at.copied().unwrap_or(tokens.until) }
}

/// The number of documents that one step of a purge looks at, some milliseconds of work.
const PURGE_STEP: usize = 1_000;
