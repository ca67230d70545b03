//! The revocation log.

use std::borrow::Cow;

use async_trait::async_trait;
use countersign_core::model::{Entry, Target};
use countersign_core::store::{
    Changes, EpochRaise, RevocationStore, StoreError, TokenRevocation, TokensRevoked,
};
use countersign_jwt::{Epoch, Timestamp, UserId};
use serde::Deserialize;
use sqlx::SqliteConnection;

use super::{STORE, SqliteStore, Undo};
use crate::column::{integer, limit, malformed, number, optional_time};
use crate::record::{EntryRecord, LiveTokenRecord, room_beside};

const EPOCH: &str =
    "SELECT coalesce(max(n), 0) AS n FROM revocation WHERE user_id = ?1 AND kind = 'user' AND ref = ''";

/// The user's epoch, and when it was raised last.
const RAISED: &str = "
    SELECT coalesce(max(n), 0) AS n, max(at) AS at FROM revocation WHERE user_id = ?1 AND kind = 'user' AND ref = ''";

const RAISED_AT: &str =
    "SELECT max(at) AS at FROM revocation WHERE user_id = ?1 AND kind = 'user' AND ref = ''";

const MERGE: &str = "
    INSERT INTO revocation (user_id, kind, ref, n, except_session, until, at)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
    ON CONFLICT (user_id, kind, ref, n) DO UPDATE SET
        until = max(until, excluded.until), at = max(at, excluded.at)";

/// Marks the oldest of the sessions that a raised epoch ends, so many at once.
const MARK_ENDED: &str = "
    UPDATE session SET ended_at = ?4, end_reason = ?5
    WHERE (user_id, id) IN (SELECT user_id, id FROM session INDEXED BY session_live
        WHERE user_id = ?1 AND ended_at IS NULL AND epoch < ?2 AND id IS NOT ?3
        ORDER BY created_at, id LIMIT ?6)";

/// Deletes what is old and decides nothing any more beside the user's highest entry, which is `n` and excepts this
/// session: all lower ones, but for the highest that does not except the same session.
const FORGET_OUTDONE: &str = "
    DELETE FROM revocation WHERE user_id = ?1 AND kind = 'user' AND ref = '' AND n < ?2 AND at < ?4
        AND (?3 IS NULL OR n IS NOT (SELECT max(n) FROM revocation
            WHERE user_id = ?1 AND kind = 'user' AND ref = '' AND n < ?2 AND except_session IS NOT ?3))";

const LIVE_TOKENS: &str =
    "SELECT ref, until FROM revocation WHERE user_id = ?1 AND kind = 'token' AND until > ?2";

/// A page of the log as one value. The driver hands each column of each row from thread to thread, and takes longer for that
/// than SQLite for finding and writing all of them.
macro_rules! page {
    ($from:literal) => {
        concat!(
            "SELECT json_group_array(json_array(user_id, kind, ref, n, except_session, until, at)) FROM (
                SELECT * FROM revocation ",
            $from,
            " (user_id, kind, ref, n) > (?1, ?2, ?3, ?4)
                ORDER BY user_id, kind, ref, n LIMIT ?5)"
        )
    };
}

/// The whole log, by its primary key.
const ALL: &str = page!("WHERE");

/// Its tail. Few entries are that young, so finding them by `at` and sorting beats reading the log in order.
const TAIL: &str = page!("INDEXED BY revocation_at WHERE at >= ?6 AND");

/// Unlike those that stay (below), entries that may go are found first in the index.
const PURGE: &str = "
    DELETE FROM revocation WHERE (user_id, kind, ref, n) IN
        (SELECT user_id, kind, ref, n FROM revocation AS old
            WHERE kind <> 'user' AND until < ?1
                AND (kind <> 'session' OR NOT EXISTS (SELECT 1 FROM session
                    WHERE session.user_id = old.user_id AND session.id = old.ref AND ended_at IS NULL))
            ORDER BY until LIMIT ?2)";

/// A user's highest entry stays, so this looks at many that do not go: it is run where it holds up no write.
const OUTDONE: &str = "
    SELECT user_id, n FROM revocation AS old
    WHERE kind = 'user' AND until < ?1 AND EXISTS (SELECT 1 FROM revocation AS higher
        WHERE higher.user_id = old.user_id AND higher.kind = 'user' AND higher.ref = '' AND higher.n > old.n)
    ORDER BY until LIMIT ?2";

/// The highest stays the highest, so only the time is looked at again: it may have been raised meanwhile.
const PURGE_OUTDONE: &str = "
    DELETE FROM revocation WHERE user_id = ?1 AND kind = 'user' AND ref = '' AND n = ?2 AND until < ?3";

#[async_trait]
impl RevocationStore for SqliteStore {
    fn is_one_copy(&self) -> bool {
        true
    }

    fn changes(&self) -> Option<Changes> {
        Some(self.changed.subscribe())
    }

    async fn time(&self) -> Result<Option<Timestamp>, StoreError> {
        // One machine, one clock.
        Ok(None)
    }

    async fn epoch(&self, user_id: &UserId) -> Result<Epoch, StoreError> {
        let action = "read the user's epoch";
        let query = sqlx::query_scalar(EPOCH).bind(user_id.as_str());
        let n = self.read(action, query.fetch_one(&self.readers)).await?;
        let epoch = number("n", n).map_err(|error| StoreError::new(STORE, action, error))?;
        Ok(Epoch::new(epoch))
    }

    async fn epoch_raised_at(&self, user_id: &UserId) -> Result<Option<Timestamp>, StoreError> {
        let action = "read when the user's epoch was raised";
        let query = sqlx::query_scalar(RAISED_AT).bind(user_id.as_str());
        let at = self.read(action, query.fetch_one(&self.readers)).await?;
        optional_time("at", at).map_err(|error| StoreError::new(STORE, action, error))
    }

    async fn raise_epoch(&self, user_id: &UserId, raise: &EpochRaise) -> Result<Entry, StoreError> {
        const ACTION: &str = "raise the user's epoch";
        let of_user = (user_id.clone(), *raise);
        let (entry, mut marked) = self
            .write(ACTION, Undo::Savepoint, move |connection| {
                Box::pin(async move {
                    let (user_id, raise) = of_user;
                    let query = sqlx::query_as(RAISED).bind(user_id.as_str());
                    let (n, raised_at): (i64, Option<i64>) = query.fetch_one(&mut *connection).await?;
                    let epoch = Epoch::new(number("n", n)?).next();
                    let at =
                        optional_time("at", raised_at)?.map_or(raise.at, |raised_at| raised_at.max(raise.at));
                    let marked = mark_ended(connection, &user_id, epoch, &raise).await?;
                    sqlx::query(FORGET_OUTDONE)
                        .bind(user_id.as_str())
                        .bind(integer(epoch.as_u64())?)
                        .bind(raise.except.map(|id| id.to_string()))
                        .bind(raise.forgets_before().as_millis())
                        .execute(&mut *connection)
                        .await?;
                    let target = Target::User { user_id, epoch, except: raise.except };
                    let entry = Entry { target, until: raise.until, at };
                    merge(connection, &entry).await?;
                    Ok((entry, marked))
                })
            })
            .await?;
        // The rest in writes of their own, so that others get their turn in between. The log has ended them already.
        while marked == MARK_STEP {
            let (user_id, raise, epoch) = (user_id.clone(), *raise, Epoch::new(entry.key().number));
            let more = self.write(ACTION, Undo::Statement, move |connection| {
                Box::pin(async move { mark_ended(connection, &user_id, epoch, &raise).await })
            });
            match more.await {
                Ok(more) => marked = more,
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::debug!(error, "could not mark all sessions that the log has ended");
                    break;
                }
            }
        }
        Ok(entry)
    }

    async fn revoke_tokens(
        &self,
        user_id: &UserId,
        tokens: &TokenRevocation,
    ) -> Result<TokensRevoked, StoreError> {
        let (user_id, tokens) = (user_id.clone(), tokens.clone());
        self.write("revoke tokens", Undo::Savepoint, move |connection| {
            Box::pin(async move {
                let query = sqlx::query_as::<_, LiveTokenRecord>(LIVE_TOKENS);
                let query = query.bind(user_id.as_str()).bind(tokens.at.as_millis());
                let live = query.fetch_all(&mut *connection).await?;
                let room = room_beside(&live, &tokens)?;
                if room != TokensRevoked::Yes {
                    return Ok(room);
                }
                for id in tokens.ids {
                    let target = Target::Token { user_id: user_id.clone(), id };
                    let entry = Entry { target, until: tokens.until, at: tokens.at };
                    merge(connection, &entry).await?;
                }
                Ok(TokensRevoked::Yes)
            })
        })
        .await
    }

    async fn insert_entry(&self, entry: &Entry) -> Result<(), StoreError> {
        let entry = entry.clone();
        self.write("insert into the revocation log", Undo::Statement, move |connection| {
            Box::pin(async move { merge(connection, &entry).await })
        })
        .await
    }

    async fn entries(
        &self,
        since: Timestamp,
        after: Option<&Entry>,
        at_most: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        let action = "read the revocation log";
        let fail = |error: sqlx::Error| StoreError::new(STORE, action, error);
        // Every key is after ('', '', '', 0): none has an empty kind.
        let after = after.map(Entry::key);
        let (user_id, kind, reference, n) = match &after {
            Some(after) => {
                let n = integer(after.number).map_err(fail)?;
                (after.user_id.as_str(), after.kind, after.reference.as_str(), n)
            }
            None => ("", "", "", 0),
        };
        let page = sqlx::query_scalar(if since == Timestamp::MIN { ALL } else { TAIL })
            .bind(user_id)
            .bind(kind)
            .bind(reference)
            .bind(n)
            .bind(limit(at_most))
            .bind(since.as_millis());
        let page: String = self.read(action, page.fetch_one(&self.tail)).await?;
        entries_of(&page).map_err(fail)
    }

    async fn purge_entries(&self, before: Timestamp, at_most: usize) -> Result<u64, StoreError> {
        let action = "purge the revocation log";
        let purged = self
            .purge(at_most, |step| {
                self.write(action, Undo::Statement, move |connection| {
                    Box::pin(async move {
                        let query = sqlx::query(PURGE).bind(before.as_millis()).bind(limit(step));
                        Ok(query.execute(connection).await?.rows_affected())
                    })
                })
            })
            .await?;
        let left = at_most.saturating_sub(usize::try_from(purged).unwrap_or(usize::MAX));
        let outdone = self.purge(left, |step| self.purge_outdone(before, step)).await?;
        Ok(purged.saturating_add(outdone))
    }
}

impl SqliteStore {
    async fn purge_outdone(&self, before: Timestamp, at_most: usize) -> Result<u64, StoreError> {
        let action = "purge the revocation log";
        let query = sqlx::query_as(OUTDONE).bind(before.as_millis()).bind(limit(at_most));
        let outdone: Vec<(String, i64)> = self.read(action, query.fetch_all(&self.readers)).await?;
        if outdone.is_empty() {
            return Ok(0);
        }
        // Each stands for itself, so what was deleted before a failure may stay so.
        self.write(action, Undo::Statement, move |connection| {
            Box::pin(async move {
                let mut purged = 0_u64;
                for (user_id, n) in outdone {
                    let query = sqlx::query(PURGE_OUTDONE).bind(user_id).bind(n).bind(before.as_millis());
                    purged = purged.saturating_add(query.execute(&mut *connection).await?.rows_affected());
                }
                Ok(purged)
            })
        })
        .await
    }
}

/// A row in a [`page!`], whose texts are borrowed unless something in them is escaped.
#[derive(Deserialize)]
struct Row<'page>(
    #[serde(borrow)] Cow<'page, str>,
    #[serde(borrow)] Cow<'page, str>,
    #[serde(borrow)] Cow<'page, str>,
    i64,
    #[serde(borrow)] Option<Cow<'page, str>>,
    i64,
    i64,
);

/// The entries of a [`page!`].
fn entries_of(page: &str) -> Result<Vec<Entry>, sqlx::Error> {
    let mut rows: Vec<Row<'_>> = serde_json::from_str(page).map_err(|error| malformed("page", error))?;
    // They come in this order, but SQLite does not promise it.
    rows.sort_by(|one, other| (&one.0, &one.1, &one.2, one.3).cmp(&(&other.0, &other.1, &other.2, other.3)));
    let entry = |row: &Row<'_>| {
        let Row(user_id, kind, reference, n, except_session, until, at) = row;
        EntryRecord {
            user_id,
            kind,
            reference,
            n: *n,
            except_session: except_session.as_deref(),
            until: *until,
            at: *at,
        }
        .try_into()
    };
    rows.iter().map(entry).collect()
}

/// Marks sessions that a raised epoch ends, at most [`MARK_STEP`]; returns how many.
async fn mark_ended(
    connection: &mut SqliteConnection,
    user_id: &UserId,
    epoch: Epoch,
    raise: &EpochRaise,
) -> Result<u64, sqlx::Error> {
    let mark = sqlx::query(MARK_ENDED)
        .bind(user_id.as_str())
        .bind(integer(epoch.as_u64())?)
        .bind(raise.except.map(|id| id.to_string()))
        .bind(raise.at.as_millis())
        .bind(raise.reason.name())
        .bind(i64::try_from(MARK_STEP).unwrap_or(i64::MAX));
    Ok(mark.execute(connection).await?.rows_affected())
}

/// How many rows one write marks at most: about a millisecond of work.
const MARK_STEP: u64 = 200;

async fn merge(connection: &mut SqliteConnection, entry: &Entry) -> Result<(), sqlx::Error> {
    let key = entry.key();
    let except = match &entry.target {
        Target::User { except, .. } => except.map(|id| id.to_string()),
        _ => None,
    };
    sqlx::query(MERGE)
        .bind(key.user_id)
        .bind(key.kind)
        .bind(key.reference)
        .bind(integer(key.number)?)
        .bind(except)
        .bind(entry.until.as_millis())
        .bind(entry.at.as_millis())
        .execute(connection)
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::plan;
    use super::*;

    #[tokio::test]
    async fn no_statement_reads_more_than_it_needs() {
        for (statement, searched) in [
            (EPOCH, "USING PRIMARY KEY (user_id=? AND kind=? AND ref=?)"),
            (MERGE, ""),
            (RAISED, "USING PRIMARY KEY (user_id=? AND kind=? AND ref=?)"),
            (MARK_ENDED, "USING INDEX session_live (user_id=?)"),
            (FORGET_OUTDONE, "USING PRIMARY KEY (user_id=? AND kind=? AND ref=? AND n<?)"),
            (LIVE_TOKENS, "USING PRIMARY KEY (user_id=? AND kind=?)"),
            (ALL, "USING PRIMARY KEY"),
            (TAIL, "USING INDEX revocation_at (at>?)"),
            (PURGE, "USING INDEX revocation_until (until<?)"),
            (OUTDONE, "USING INDEX revocation_user_until (until<?)"),
            (PURGE_OUTDONE, "USING PRIMARY KEY (user_id=? AND kind=? AND ref=? AND n=?)"),
        ] {
            let plan = plan(statement).await;
            // What a page is made of is read as it comes.
            let plan = plan.replace("SCAN (subquery", "");
            assert!(!plan.contains("SCAN") && plan.contains(searched), "{statement}: {plan}");
            // Only the tail is sorted.
            assert_eq!(plan.contains("ORDER BY"), statement == TAIL, "{statement}: {plan}");
        }
    }
}
