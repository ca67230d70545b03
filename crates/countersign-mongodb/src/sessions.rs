//! Sessions: one document each, and the log beside them in another collection.
//!
//! # How a step and an end are kept apart without a transaction
//!
//! An end is an insert into the log (its commit point), followed by the mark of the row. A step
//! ([`SessionStore::advance`], `heal`) has three parts:
//!
//! 1. It reads the row and the log, at the same time, and asks [`Advance::applies`] or [`Heal::applies`] itself.
//! 2. It writes the row as [`Advance::apply`] makes it, on the condition that the row is still as it was read.
//! 3. It reads the log again. If the log now ends the session, the row is marked and the step counts as refused.
//!
//! *Of concurrent steps from one generation at most one succeeds.* The condition names generation, time of issue and
//! count of heals; every step changes one of them, and no value comes back. Everything else that the rules look at is
//! named in the condition too, or never changes (epoch, absolute expiry), or changes only together with a named value
//! (idle expiry and `healed_run`, with generation or heals), or is set by the step itself (for an advance, the
//! acknowledgement).
//!
//! *No step succeeds once an end has returned.* The row is marked by then, and the condition requires a row without a
//! mark. *No step applies under an entry whose row is not marked*, as after a crash: the entry was there before the
//! step, so part 1 reads it, and nothing is written. *An entry that is inserted between parts 1 and 2* belongs to an
//! end that has not returned. Part 3 sees the entry if it was there before the write. If the entry came after the
//! write, the step came before the end, and what the step issued ends with it: every node refuses the session's tokens
//! by the entry, and the next refresh meets the entry in part 1.
//!
//! The two reads of part 1 need no common snapshot. Whatever was answered before they began is in both. Whatever
//! happens meanwhile may be in either, and the row's share of it is in the condition. The log only grows.
//! meanwhile may be in either, and the row's part of it is in the condition. The log only grows.

use async_trait::async_trait;
use countersign_core::model::{
    Acknowledgement, Advance, EndReason, Ended, Entry, Heal, LogVerdict, Session, Target, UserSession,
};
use countersign_core::store::{
    End, FoundSession, SessionEnded, SessionInserted, SessionPage, SessionPosition, SessionStore, StoreError,
};
use countersign_jwt::{Epoch, SessionId, Timestamp, UserId};
use mongodb::bson::{Bson, Document, RawDocument, doc};

use crate::call::{Failure, pause};
use crate::field::text;
use crate::locks::Turn;
use crate::records::{Change, Query};
use crate::store::MongodbStore;
use crate::{document_id, record};

/// What the log says about a session, and the mark that its row should get for that.
#[derive(Clone, Copy, Debug, Default)]
struct MarkedVerdict {
    log: LogVerdict,
    mark: Option<Ended>,
}

#[async_trait]
impl SessionStore for MongodbStore {
    /// Inserts the session first and reads the user's epoch afterwards. A raise that came before the insert is seen
    /// then, and the row is deleted again. A raise that came later ends the session by its entry, as it does any other
    /// session. If this node dies in between, the row stays, under an entry that has ended it.
    async fn insert_session(&self, session: &Session) -> Result<SessionInserted, StoreError> {
        self.answer("insert the session", Turn::Any, async {
            let lives = session.absolute_until.since(session.created_at);
            let gone_at = self.not_before_opening(session.created_at) + lives;
            if !self.sessions.insert(&record::of_session(session, gone_at)?).await? {
                return Ok(SessionInserted::Taken);
            }
            if self.epoch_in_log(&session.user_id).await? == session.epoch {
                return Ok(SessionInserted::Yes);
            }
            self.sessions.delete_many(row(&session.key())).await?;
            Ok(SessionInserted::EpochRaised)
        })
        .await
    }

    async fn session(&self, key: &UserSession) -> Result<Option<FoundSession>, StoreError> {
        self.answer("read the session", Turn::Any, async {
            let (session, standing) = self.row_and_standing(key).await?;
            Ok(session.map(|session| FoundSession { session, log: standing.log }))
        })
        .await
    }

    async fn advance(&self, key: &UserSession, step: &Advance) -> Result<Option<Session>, StoreError> {
        self.answer("advance the session", Turn::IfWeak(key.user_id.as_str()), async {
            let take = |row: &Session, log| {
                step.applies(row, log).then(|| {
                    let mut after = row.clone();
                    step.apply(&mut after);
                    (as_read(row), after)
                })
            };
            self.step(key, take).await
        })
        .await
    }

    async fn heal(&self, key: &UserSession, step: &Heal) -> Result<bool, StoreError> {
        self.answer("heal the session", Turn::IfWeak(key.user_id.as_str()), async {
            let take = |row: &Session, log| {
                step.applies(row, log).then(|| {
                    let mut after = row.clone();
                    step.apply(&mut after);
                    let mut condition = as_read(row);
                    // Unlike an advance, a heal keeps the acknowledgement, and requires that there is none.
                    condition.insert("acknowledged_at", Bson::Null);
                    (condition, after)
                })
            };
            Ok(self.step(key, take).await?.is_some())
        })
        .await
    }

    async fn acknowledge(&self, seen: &[Acknowledgement], at: Timestamp) -> Result<(), StoreError> {
        // Each command has a deadline of its own, and each of its statements reads the whole collection on FerretDB
        // with SQLite.
        let step = if self.updates_are_atomic() { ACKNOWLEDGE_STEP } else { ACKNOWLEDGE_STEP / 10 };
        for seen in seen.chunks(step) {
            self.answer("acknowledge generations", Turn::OfAllIfWeak, async {
                let changes: Vec<_> = seen
                    .iter()
                    .map(|seen| {
                        let key = UserSession { user_id: seen.user_id.clone(), id: seen.session_id };
                        let mut filter = row(&key);
                        filter.insert("generation", i64::from(seen.generation.as_u32()));
                        filter.insert("acknowledged_at", Bson::Null);
                        let update = doc! {
                            "$set": { "acknowledged_at": at.as_millis() },
                            "$max": { "last_seen_at": at.as_millis() },
                        };
                        Change { filter, update, upsert: false }
                    })
                    .collect();
                self.sessions.change_all(&changes).await
            })
            .await?;
        }
        Ok(())
    }

    async fn end_session(&self, key: &UserSession, end: &End) -> Result<SessionEnded, StoreError> {
        self.answer("end the session", Turn::IfWeak(key.user_id.as_str()), async {
            let Some(session) = self.row(key).await? else { return Ok(SessionEnded::Unknown) };
            if session.ended.is_some() {
                return Ok(SessionEnded::Before);
            }
            let target = Target::Session { user_id: key.user_id.clone(), id: key.id };
            let entry = Entry { target, until: end.until, at: end.at };
            let mine = Ended { at: end.at, reason: end.reason };
            let inserted = self.insert_end(&entry, end.reason).await?;
            if inserted {
                self.has_written();
            }
            // The writer of the entry may have died, or may not have marked the row yet, so this call marks it.
            let mark = if inserted { mine } else { self.standing(key).await?.mark.unwrap_or(mine) };
            self.mark(key, mark).await?;
            Ok(if inserted { SessionEnded::Now } else { SessionEnded::Before })
        })
        .await
    }

    async fn live_sessions(
        &self,
        user_id: &UserId,
        now: Timestamp,
        page: SessionPage,
    ) -> Result<Vec<Session>, StoreError> {
        self.answer_list("list the user's sessions", async {
            let (mut after, mut skip) = (page.after, page.skip);
            let mut listed = Vec::new();
            // Rows that only the log has ended, as after a crash, lie in between and do not count.
            while listed.len() < page.limit {
                let wanted = skip.saturating_add(page.limit - listed.len()).min(LIST_STEP);
                let rows = self.unended_rows(user_id, now, after, wanted).await?;
                let is_last = rows.len() < wanted;
                after = rows.last().map(SessionPosition::from);
                for session in self.allowed_by_log(user_id, rows).await? {
                    match skip.checked_sub(1) {
                        Some(left) => skip = left,
                        None if listed.len() < page.limit => listed.push(session),
                        None => {}
                    }
                }
                if is_last {
                    break;
                }
            }
            Ok(listed)
        })
        .await
    }

    async fn purge_sessions(&self, before: Timestamp, at_most: usize) -> Result<u64, StoreError> {
        let old = doc! { "absolute_until": { "$lt": before.as_millis() } };
        self.purge("purge sessions", &self.sessions, old, doc! { "absolute_until": 1 }, at_most).await
    }
}

impl MongodbStore {
    async fn row(&self, key: &UserSession) -> Result<Option<Session>, Failure> {
        self.sessions.find_one(row(key)).await?.as_deref().map(record::session).transpose()
    }

    async fn standing(&self, key: &UserSession) -> Result<MarkedVerdict, Failure> {
        // The entries of tokens, which may be many, are not read: their `ref` is neither of these.
        let filter = doc! {
            "user_id": key.user_id.as_str(),
            "kind": { "$in": ["session", "user"] },
            "ref": { "$in": ["", key.id.to_string()] },
        };
        let mut standing = MarkedVerdict::default();
        for document in self.log.find(Query { filter, ..Query::default() }).await? {
            let entry = record::entry(&document)?;
            let was_ended = standing.log.ended;
            // An entry that ended this session alone takes precedence over one that ended all.
            if note(&mut standing.log, &entry, key.id) && !was_ended {
                standing.mark = Some(mark_of(&document, &entry)?);
            }
        }
        Ok(standing)
    }

    async fn row_and_standing(&self, key: &UserSession) -> Result<(Option<Session>, MarkedVerdict), Failure> {
        tokio::try_join!(self.row(key), self.standing(key))
    }

    /// The user's sessions whose rows have no mark and that have not expired, after the given one, newest first.
    async fn unended_rows(
        &self,
        user_id: &UserId,
        now: Timestamp,
        after: Option<SessionPosition>,
        limit: usize,
    ) -> Result<Vec<Session>, Failure> {
        let mut filter = doc! {
            "user_id": user_id.as_str(),
            "ended_at": Bson::Null,
            "idle_until": { "$gt": now.as_millis() },
            "absolute_until": { "$gt": now.as_millis() },
        };
        if let Some(SessionPosition { created_at, id }) = after {
            let created_at = created_at.as_millis();
            filter.insert(
                "$or",
                vec![
                    doc! { "created_at": { "$lt": created_at } },
                    doc! { "created_at": created_at, "id": { "$lt": id.to_string() } },
                ],
            );
        }
        let sort = doc! { "created_at": -1, "id": -1 };
        let rows = self.sessions.find(Query { filter, sort, limit: Some(limit), ..Query::default() }).await?;
        record::all(&rows, record::session)
    }

    /// The user's sessions among `rows` that the log has not ended.
    async fn allowed_by_log(
        &self,
        user_id: &UserId,
        mut rows: Vec<Session>,
    ) -> Result<Vec<Session>, Failure> {
        if rows.is_empty() {
            return Ok(rows);
        }
        // Only entries that concern these sessions are read: a user has few `user` entries, but may have many others.
        let mut references: Vec<String> = rows.iter().map(|session| session.id.to_string()).collect();
        references.push(String::new());
        let filter = doc! {
            "user_id": user_id.as_str(),
            "kind": { "$in": ["session", "user"] },
            "ref": { "$in": references },
        };
        let ends = self.log.find(Query { filter, ..Query::default() }).await?;
        let ends = record::all(&ends, record::entry)?;
        rows.retain(|session| {
            let mut log = LogVerdict::default();
            for entry in &ends {
                note(&mut log, entry, session.id);
            }
            !log.ended && log.epoch <= session.epoch
        });
        Ok(rows)
    }

    /// A conditional step in the three parts that the module's documentation describes. `take` tells whether the step
    /// applies, and if so under which condition, and what the row is afterwards.
    async fn step(
        &self,
        key: &UserSession,
        take: impl Fn(&Session, LogVerdict) -> Option<(Document, Session)> + Send + Sync,
    ) -> Result<Option<Session>, Failure> {
        let mut tries = 0;
        loop {
            let (row_before, standing) = self.row_and_standing(key).await?;
            let Some((condition, after)) = row_before.and_then(|row| take(&row, standing.log)) else {
                return Ok(None);
            };
            let mut filter = row(key);
            filter.extend(condition);
            if self.sessions.update_one(filter, doc! { "$set": record::changing(&after) }).await? {
                let standing = self.standing(key).await?;
                if !standing.log.ended && standing.log.epoch <= after.epoch {
                    return Ok(Some(after));
                }
                if let Some(mark) = standing.mark {
                    self.mark(key, mark).await?;
                }
                return Ok(None);
            }
            // Another operation changed the row since it was read. The row's present state decides, usually against
            // this step.
            tries += 1;
            pause(tries).await;
        }
    }

    /// Marks a row as ended, unless it is marked already.
    async fn mark(&self, key: &UserSession, ended: Ended) -> Result<(), Failure> {
        let mut filter = row(key);
        filter.insert("ended_at", Bson::Null);
        self.sessions.update_one(filter, doc! { "$set": record::of_ended(ended) }).await.map(|_| ())
    }

    /// Marks the rows of the sessions that a user's new epoch has ended.
    pub(crate) async fn mark_all(
        &self,
        user_id: &UserId,
        epoch: Epoch,
        except: Option<SessionId>,
        ended: Ended,
    ) -> Result<(), Failure> {
        let mut filter = doc! {
            "user_id": user_id.as_str(),
            "ended_at": Bson::Null,
            "epoch": { "$lt": crate::field::integer(epoch.as_u64())? },
        };
        if let Some(except) = except {
            filter.insert("id", doc! { "$ne": except.to_string() });
        }
        // The sessions are marked in steps, so that no command takes long.
        loop {
            let oldest = self.sessions.find(Query {
                filter: filter.clone(),
                sort: doc! { "created_at": 1, "id": 1 },
                limit: Some(MARK_STEP),
                fields: doc! { "_id": 1 },
            });
            let ids = record::all(&oldest.await?, |row| text(row, "_id").map(str::to_owned))?;
            if !ids.is_empty() {
                let mut these = filter.clone();
                these.insert("_id", doc! { "$in": ids.clone() });
                self.sessions.update_many(these, doc! { "$set": record::of_ended(ended) }).await?;
            }
            if ids.len() < MARK_STEP {
                return Ok(());
            }
        }
    }
}

/// The filter that finds a session: by its `_id`, and by the user so that the engine knows the shard.
fn row(key: &UserSession) -> Document {
    doc! { "_id": document_id::session(key), "user_id": key.user_id.as_str() }
}

/// The condition that the row is as it was read, for all fields that can change.
fn as_read(row: &Session) -> Document {
    doc! {
        "generation": i64::from(row.generation.as_u32()),
        "issued_at": row.issued_at.as_millis(),
        "heals": i64::from(row.heals),
        "ended_at": Bson::Null,
    }
}

/// Adds an entry to what the log says about a session. Returns whether the entry adds something new.
fn note(log: &mut LogVerdict, entry: &Entry, session: SessionId) -> bool {
    match &entry.target {
        Target::Session { id, .. } if *id == session => {
            log.ended = true;
            true
        }
        Target::User { epoch, except, .. } if *except != Some(session) && *epoch > log.epoch => {
            log.epoch = *epoch;
            true
        }
        _ => false,
    }
}

/// The mark for the row of a session that the entry ends. The reason is kept beside entries that end a session; entries
/// that came into the log in other ways have none.
fn mark_of(document: &RawDocument, entry: &Entry) -> Result<Ended, Failure> {
    let reason = record::optional_reason(document, "reason")?;
    let otherwise = match text(document, "kind")? {
        "user" => EndReason::AllEnded,
        _ => EndReason::EndedByUser,
    };
    Ok(Ended { at: entry.at, reason: reason.unwrap_or(otherwise) })
}

/// The number of acknowledgements that one command carries, some milliseconds of work.
const ACKNOWLEDGE_STEP: usize = 500;
/// The largest number of rows of a list that one command reads.
const LIST_STEP: usize = 500;
/// The largest number of sessions that one command marks as ended, some milliseconds of work.
const MARK_STEP: usize = 500;
