//! The revocation log, kept in SQLite.

use std::borrow::Cow;

use async_trait::async_trait;
use countersign_core::model::{Entry, Target};
use countersign_core::store::{
    Changes, EpochRaise, RevocationStore, StoreError, TokenRevocation, TokensRevoked,
};
use countersign_jwt::{Epoch, Timestamp, UserId};
use serde::Deserialize;

use super::{SqliteStore, Statement, Undo};
use crate::column::{limit, malformed, there};
use crate::purge::{in_steps, left};
use crate::record::{EntryRecord, LiveToken, Raised, room_beside};
use crate::statement::{Columns, FromColumns};

fn epoch(user_id: &UserId) -> Statement<Epoch> {
    Statement::new(
        "SELECT coalesce(max(n), 0) FROM revocation WHERE user_id = ?1 AND kind = 'user' AND ref = ''",
    )
    .bind(user_id)
}

/// The user's epoch, and when it was last raised.
fn raised(user_id: &UserId) -> Statement<Raised> {
    Statement::new(
        "
    SELECT coalesce(max(n), 0), max(at) FROM revocation WHERE user_id = ?1 AND kind = 'user' AND ref = ''",
    )
    .bind(user_id)
}

fn raised_at(user_id: &UserId) -> Statement<Option<Timestamp>> {
    Statement::new("SELECT max(at) FROM revocation WHERE user_id = ?1 AND kind = 'user' AND ref = ''")
        .bind(user_id)
}

fn merge(entry: &Entry) -> Statement {
    Statement::new(concat!(
        "
    INSERT INTO revocation (",
        entry_columns!(names),
        ")
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
    ON CONFLICT (user_id, kind, ref, n) DO UPDATE SET
        until = max(until, excluded.until), at = max(at, excluded.at)"
    ))
    .bind_record(EntryRecord::from(entry))
}

/// Marks the oldest of the sessions that a raised epoch ends, so many at once.
fn mark_ended(user_id: &UserId, how: &EpochRaise, epoch: Epoch) -> Statement {
    Statement::new(
        "
    UPDATE session SET ended_at = ?4, end_reason = ?5
    WHERE (user_id, id) IN (SELECT user_id, id FROM session INDEXED BY session_live
        WHERE user_id = ?1 AND ended_at IS NULL AND epoch < ?2 AND id IS NOT ?3
        ORDER BY created_at, id LIMIT ?6)",
    )
    .bind(user_id)
    .bind(epoch)
    .bind(how.except)
    .bind(how.at)
    .bind(how.reason.name())
    .bind(MARK_STEP)
}

/// Deletes the user's old entries that decide nothing any more beside the user's highest entry, which is `n` and
/// excepts this session: all lower ones, except the highest that does not except the same session.
fn forget_outdone(user_id: &UserId, how: &EpochRaise, epoch: Epoch) -> Statement {
    Statement::new(
        "
    DELETE FROM revocation WHERE user_id = ?1 AND kind = 'user' AND ref = '' AND n < ?2 AND at < ?4
        AND (?3 IS NULL OR n IS NOT (SELECT max(n) FROM revocation
            WHERE user_id = ?1 AND kind = 'user' AND ref = '' AND n < ?2 AND except_session IS NOT ?3))",
    )
    .bind(user_id)
    .bind(epoch)
    .bind(how.except)
    .bind(how.forgets_before())
}

fn live_tokens(user_id: &UserId, at: Timestamp) -> Statement<LiveToken> {
    Statement::new("SELECT ref, until FROM revocation WHERE user_id = ?1 AND kind = 'token' AND until > ?2")
        .bind(user_id)
        .bind(at)
}

/// A page of the log as one value. The driver hands each column of each row from thread to thread, which takes longer
/// than SQLite takes to find and write all of them.
macro_rules! page {
    ($from:literal) => {
        concat!(
            "SELECT json_group_array(json_array(",
            entry_columns!(names),
            ")) FROM (
                SELECT * FROM revocation ",
            $from,
            " (user_id, kind, ref, n) > (?1, ?2, ?3, ?4)
                ORDER BY user_id, kind, ref, n LIMIT ?5)"
        )
    };
}

/// A page of the whole log, by its primary key.
fn all(after: Option<&Entry>, at_most: usize) -> Statement<Page> {
    bind_page(Statement::new(page!("WHERE")), after, at_most)
}

/// A page of the log's tail. Few entries are that young, so they are found by `at` and sorted, which is faster than
/// reading the log in order.
fn tail(since: Timestamp, after: Option<&Entry>, at_most: usize) -> Statement<Page> {
    bind_page(Statement::new(page!("INDEXED BY revocation_at WHERE at >= ?6 AND")), after, at_most)
        .bind(since)
}

/// Binds what every [`page!`] has. Without an entry the key is ('', '', '', 0), which every key comes after, because no
/// kind is empty.
fn bind_page<Y>(statement: Statement<Y>, after: Option<&Entry>, at_most: usize) -> Statement<Y> {
    let after = after.map(Entry::key);
    let (user_id, kind, reference, n) = after.as_ref().map_or(("", "", "", 0), |after| {
        (after.user_id.as_str(), after.kind, after.reference.as_str(), after.number)
    });
    statement.bind(user_id).bind(kind).bind(reference).bind(n).bind(limit(at_most))
}

/// Deletes entries that have stopped mattering, except `user` entries, which [`purge_outdone`] deletes. The index comes
/// first: it finds the entries that may be deleted.
fn purge(before: Timestamp, at_most: usize) -> Statement {
    Statement::new(
        "
    DELETE FROM revocation WHERE (user_id, kind, ref, n) IN
        (SELECT user_id, kind, ref, n FROM revocation AS old
            WHERE kind <> 'user' AND until < ?1
                AND (kind <> 'session' OR NOT EXISTS (SELECT 1 FROM session
                    WHERE session.user_id = old.user_id AND session.id = old.ref AND ended_at IS NULL))
            ORDER BY until LIMIT ?2)",
    )
    .bind(before)
    .bind(limit(at_most))
}

/// The `user` entries that have stopped mattering and are not their user's highest. A user's highest entry stays, so
/// many entries are looked at and not deleted. The statement is run where it delays no write.
fn outdone(before: Timestamp, at_most: usize) -> Statement<(String, i64)> {
    Statement::new(
        "
    SELECT user_id, n FROM revocation AS old
    WHERE kind = 'user' AND until < ?1 AND EXISTS (SELECT 1 FROM revocation AS higher
        WHERE higher.user_id = old.user_id AND higher.kind = 'user' AND higher.ref = '' AND higher.n > old.n)
    ORDER BY until LIMIT ?2",
    )
    .bind(before)
    .bind(limit(at_most))
}

/// Deletes a `user` entry that [`outdone`] has found. The user's highest entry stays the highest, so only the time is
/// checked again, which may have been raised meanwhile.
fn purge_outdone(user_id: &str, n: i64, before: Timestamp) -> Statement {
    Statement::new(
        "
    DELETE FROM revocation WHERE user_id = ?1 AND kind = 'user' AND ref = '' AND n = ?2 AND until < ?3",
    )
    .bind(user_id)
    .bind(n)
    .bind(before)
}

#[async_trait]
impl RevocationStore for SqliteStore {
    fn is_one_copy(&self) -> bool {
        true
    }

    fn changes(&self) -> Option<Changes> {
        Some(self.changed.subscribe())
    }

    async fn time(&self) -> Result<Option<Timestamp>, StoreError> {
        // There is only one machine, and so only one clock.
        Ok(None)
    }

    async fn epoch(&self, user_id: &UserId) -> Result<Epoch, StoreError> {
        self.only("read the user's epoch", &self.readers, epoch(user_id)).await
    }

    async fn epoch_raised_at(&self, user_id: &UserId) -> Result<Option<Timestamp>, StoreError> {
        self.only("read when the user's epoch was raised", &self.readers, raised_at(user_id)).await
    }

    async fn raise_epoch(&self, user_id: &UserId, how: &EpochRaise) -> Result<Entry, StoreError> {
        const ACTION: &str = "raise the user's epoch";
        let (user, raise) = (user_id.clone(), *how);
        let raised = self.writes(ACTION, Undo::Savepoint, move |connection| {
            Box::pin(async move {
                let raised = raised(&user).all(connection).await?.pop();
                let raised = raised.ok_or(sqlx::Error::RowNotFound)?;
                let epoch = raised.epoch.next();
                let at = raised.at.map_or(raise.at, |raised_at| raised_at.max(raise.at));
                let marked = mark_ended(&user, &raise, epoch).changes(connection).await?;
                forget_outdone(&user, &raise, epoch).changes(connection).await?;
                let target = Target::User { user_id: user, epoch, except: raise.except };
                let entry = Entry { target, until: raise.until, at };
                merge(&entry).changes(connection).await?;
                Ok((entry, epoch, marked))
            })
        });
        let (entry, epoch, mut marked) = raised.await?;
        // The rest is marked in writes of their own, so that others get their turn in between. The log has ended these
        // sessions already.
        while marked == MARK_STEP {
            match self.write(ACTION, mark_ended(user_id, how, epoch)).await {
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
        self.writes("revoke tokens", Undo::Savepoint, move |connection| {
            Box::pin(async move {
                let live = live_tokens(&user_id, tokens.at).all(connection).await?;
                let room = room_beside(&live, &tokens);
                if room != TokensRevoked::Yes {
                    return Ok(room);
                }
                for id in tokens.ids {
                    let target = Target::Token { user_id: user_id.clone(), id };
                    merge(&Entry { target, until: tokens.until, at: tokens.at }).changes(connection).await?;
                }
                Ok(TokensRevoked::Yes)
            })
        })
        .await
    }

    async fn insert_entry(&self, entry: &Entry) -> Result<(), StoreError> {
        self.write("insert into the revocation log", merge(entry)).await.map(drop)
    }

    async fn entries(
        &self,
        since: Timestamp,
        after: Option<&Entry>,
        at_most: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        let page = if since == Timestamp::MIN { all(after, at_most) } else { tail(since, after, at_most) };
        self.only("read the revocation log", &self.tail, page).await.map(|Page(entries)| entries)
    }

    async fn purge_entries(&self, before: Timestamp, at_most: usize) -> Result<u64, StoreError> {
        const ACTION: &str = "purge the revocation log";
        let purged = in_steps(at_most, |step| self.write(ACTION, purge(before, step))).await?;
        let left = left(at_most, purged);
        let outdone = in_steps(left, |step| self.purge_outdone(ACTION, before, step)).await?;
        Ok(purged.saturating_add(outdone))
    }
}

impl SqliteStore {
    async fn purge_outdone(
        &self,
        action: &'static str,
        before: Timestamp,
        at_most: usize,
    ) -> Result<u64, StoreError> {
        let outdone = self.read(action, &self.readers, outdone(before, at_most)).await?;
        if outdone.is_empty() {
            return Ok(0);
        }
        // Each entry stands for itself, so the deletions before a failure may stay.
        self.writes(action, Undo::Statement, move |connection| {
            Box::pin(async move {
                let mut purged = 0_u64;
                for (user_id, n) in outdone {
                    let gone = purge_outdone(&user_id, n, before).changes(connection).await?;
                    purged = purged.saturating_add(gone);
                }
                Ok(purged)
            })
        })
        .await
    }
}

/// The entries of a [`page!`].
struct Page(Vec<Entry>);

impl FromColumns for Page {
    fn from_columns(row: &impl Columns) -> Result<Self, sqlx::Error> {
        entries_of(there("page", row.text(0)?)?).map(Self)
    }
}

/// A row in a [`page!`], whose texts are borrowed unless something in them is escaped.
#[derive(Deserialize)]
struct Row<'page>(
    #[serde(borrow)] Cow<'page, str>,
    #[serde(borrow)] Cow<'page, str>,
    #[serde(borrow)] Cow<'page, str>,
    u64,
    #[serde(borrow)] Option<Cow<'page, str>>,
    i64,
    i64,
);

/// The entries of a [`page!`].
fn entries_of(page: &str) -> Result<Vec<Entry>, sqlx::Error> {
    let mut rows: Vec<Row<'_>> = serde_json::from_str(page).map_err(|error| malformed("page", error))?;
    // The rows come in this order, but SQLite does not promise it.
    rows.sort_by(|one, other| (&one.0, &one.1, &one.2, one.3).cmp(&(&other.0, &other.1, &other.2, other.3)));
    let entry = |row: &Row<'_>| {
        let Row(user_id, kind, reference, n, except_session, until, at) = row;
        EntryRecord {
            user_id: user_id.as_ref().into(),
            kind: kind.as_ref().into(),
            reference: reference.as_ref().into(),
            n: *n,
            except_session: except_session.as_deref().map(Into::into),
            until: *until,
            at: *at,
        }
        .try_into()
    };
    rows.iter().map(entry).collect()
}

/// How many rows one write marks at most, which takes about a millisecond.
const MARK_STEP: u64 = 200;

#[cfg(test)]
mod tests {
    use countersign_core::model::EndReason;
    use uuid::Uuid;

    use super::super::plan;
    use super::*;

    #[tokio::test]
    async fn no_statement_reads_more_than_it_needs() {
        let user_id = &UserId::from(Uuid::from_u128(1));
        let (at, epoch_1) = (Timestamp::from_millis(5), Epoch::new(1));
        let how = &EpochRaise { except: None, reason: EndReason::AllEnded, at, until: at };
        let entry = &Entry { target: Target::Node { id: Uuid::from_u128(1) }, until: at, at };
        for ((sql, plan), searched, is_sorted) in [
            (plan(epoch(user_id)).await, "USING PRIMARY KEY (user_id=? AND kind=? AND ref=?)", false),
            (plan(merge(entry)).await, "", false),
            (plan(raised(user_id)).await, "USING PRIMARY KEY (user_id=? AND kind=? AND ref=?)", false),
            (plan(mark_ended(user_id, how, epoch_1)).await, "USING INDEX session_live (user_id=?)", false),
            (
                plan(forget_outdone(user_id, how, epoch_1)).await,
                "USING PRIMARY KEY (user_id=? AND kind=? AND ref=? AND n<?)",
                false,
            ),
            (plan(live_tokens(user_id, at)).await, "USING PRIMARY KEY (user_id=? AND kind=?)", false),
            (plan(all(Some(entry), 5)).await, "USING PRIMARY KEY", false),
            // Only the tail is sorted.
            (plan(tail(at, Some(entry), 5)).await, "USING INDEX revocation_at (at>?)", true),
            (plan(purge(at, 5)).await, "USING INDEX revocation_until (until<?)", false),
            (plan(outdone(at, 5)).await, "USING INDEX revocation_user_until (until<?)", false),
            (
                plan(purge_outdone("1", 1, at)).await,
                "USING PRIMARY KEY (user_id=? AND kind=? AND ref=? AND n=?)",
                false,
            ),
        ] {
            // The rows of a page are read as they come.
            let plan = plan.replace("SCAN (subquery", "");
            assert!(!plan.contains("SCAN") && plan.contains(searched), "{sql}: {plan}");
            assert_eq!(plan.contains("ORDER BY"), is_sorted, "{sql}: {plan}");
        }
    }
}
