//! Sessions. The conditions in SQL are those of [`Advance::applies`], [`Heal::applies`] and
//! [`Acknowledgement::applies`], word for word.
//!
//! # Races
//!
//! READ COMMITTED: a statement that has waited for a row looks at the row's new version before it goes on, but sees the
//! log as it was when the statement began. So an end is recorded in two places:
//!
//! - The log's entry stops every step that begins after the end was committed, because such a step sees the entry.
//! - The row's mark stops a step that was waiting at that time. Whatever ends sessions ([`end`] and the log's `raise`)
//!   writes entry and mark in one transaction, which queues at the row like the step itself. Either the step came first
//!   and the mark follows it, or the step finds the mark. In neither case does a session go on.
//!
//! An entry without a mark ([`insert_entry`](countersign_core::store::RevocationStore::insert_entry)) is different: a
//! step that was under way when the entry was written may still be done. The tokens that this step issues are dead,
//! because the entry is in the log.
//!
//! A login that is under way while the epoch is raised is the reverse case: there is no row yet to queue at. A lock
//! that both take would need a row per user, or advisory locks, which the distributed relatives of PostgreSQL lack.
//! Instead, each of the two looks once more after its commit: the login for a raised epoch ([`withdraw`]), the raise
//! for sessions to mark. Both commit before they look, so at least one of them sees the other.

use std::time::Duration;

use async_trait::async_trait;
use countersign_core::model::{Acknowledgement, Advance, Heal, Session, UserSession};
use countersign_core::store::{
    End, FoundSession, SessionEnded, SessionInserted, SessionPage, SessionStore, StoreError,
};
use countersign_jwt::{Timestamp, UserId};

use super::{PostgresStore, Statement};
use crate::column::{GuardParameters, before, limit};
use crate::record::SessionRecord;

/// Inserts a session if the user's epoch is still the session's.
fn insert(session: &Session) -> Statement {
    Statement::new(concat!(
        "
    INSERT INTO countersign.session (",
        session_columns!(names),
        ")
    SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18
    WHERE $3 = (SELECT coalesce(max(n), 0) FROM countersign.revocation
        WHERE user_id = $1 AND kind = 'user' AND ref = '')
    ON CONFLICT DO NOTHING"
    ))
    .bind_record(SessionRecord::from(session))
}

/// Whether there is a session with this key. It is asked when [`insert`] inserted nothing.
fn taken(key: &UserSession) -> Statement<(i64,)> {
    Statement::new("SELECT generation FROM countersign.session WHERE user_id = $1 AND id = $2").bind_key(key)
}

/// Deletes an inserted session if its epoch was raised while it was being inserted.
fn withdraw(key: &UserSession) -> Statement {
    Statement::new(
        "
    DELETE FROM countersign.session WHERE user_id = $1 AND id = $2
        AND epoch <> (SELECT coalesce(max(n), 0) FROM countersign.revocation
            WHERE user_id = $1 AND kind = 'user' AND ref = '')",
    )
    .bind_key(key)
}

/// The session's row and what the log says about it. Both are of one snapshot, because it is one statement.
fn find(key: &UserSession) -> Statement<FoundSession> {
    Statement::new(concat!("
    SELECT ", session_columns!(names), ",
        EXISTS (SELECT 1 FROM countersign.revocation
            WHERE user_id = $1 AND kind = 'session' AND ref = $2)::int::bigint AS log_ended,
        (SELECT coalesce(max(n), 0) FROM countersign.revocation
            WHERE user_id = $1 AND kind = 'user' AND ref = '' AND except_session IS DISTINCT FROM $2) AS log_epoch
    FROM countersign.session WHERE user_id = $1 AND id = $2")).bind_key(key)
}

/// Advances a session under the step's condition. The parameters of the other kinds of guard are null.
fn advance(key: &UserSession, step: &Advance) -> Statement<Session> {
    let guard = GuardParameters::from(step.guard);
    Statement::new(concat!(
        "
    UPDATE countersign.session SET
        generation = $4,
        issued_at = $5,
        acknowledged_at = NULL,
        healed_run = CASE heals WHEN 0 THEN 0 ELSE healed_run END,
        heals = 0,
        last_seen_at = $5,
        idle_until = least($6, absolute_until),
        user_agent = $7,
        ip = $8,
        agent_hash = $12
    WHERE user_id = $1 AND id = $2 AND generation = $3
        AND ended_at IS NULL AND $5 < idle_until AND $5 < absolute_until
        AND ($9 IS NULL OR issued_at = $9)
        AND ($10 IS NULL
            OR NOT (generation > 0 AND issued_at - $10 <= $5 AND $5 < issued_at + $11))
        AND NOT EXISTS (SELECT 1 FROM countersign.revocation
            WHERE user_id = $1 AND kind = 'session' AND ref = $2)
        AND NOT EXISTS (SELECT 1 FROM countersign.revocation WHERE user_id = $1 AND kind = 'user' AND ref = ''
            AND n > session.epoch AND except_session IS DISTINCT FROM $2)
    RETURNING ",
        session_columns!(names)
    ))
    .bind_key(key)
    .bind(step.from)
    .bind(step.to)
    .bind(step.now)
    .bind(step.idle_until)
    .bind(step.device.user_agent.as_deref())
    .bind(step.device.ip.map(|ip| ip.to_string()))
    .bind(guard.issued_at)
    .bind(guard.leeway)
    .bind(guard.grace)
    .bind(step.device.agent_hash.map(|hash| hash.to_string()))
}

fn heal(key: &UserSession, step: &Heal) -> Statement {
    Statement::new(
        "
    UPDATE countersign.session SET
        issued_at = $6,
        healed_run = CASE heals WHEN 0 THEN least(healed_run + 1, 255) ELSE healed_run END,
        heals = least(heals + 1, 255),
        last_seen_at = $6,
        idle_until = $7
    WHERE user_id = $1 AND id = $2 AND generation = $3 AND issued_at = $4 AND heals = $5
        AND acknowledged_at IS NULL
        AND ended_at IS NULL AND $6 < idle_until AND $6 < absolute_until
        AND NOT EXISTS (SELECT 1 FROM countersign.revocation
            WHERE user_id = $1 AND kind = 'session' AND ref = $2)
        AND NOT EXISTS (SELECT 1 FROM countersign.revocation WHERE user_id = $1 AND kind = 'user' AND ref = ''
            AND n > session.epoch AND except_session IS DISTINCT FROM $2)",
    )
    .bind_key(key)
    .bind(step.generation)
    .bind(step.issued_at)
    .bind(step.heals)
    .bind(step.now)
    .bind(step.idle_until)
}

/// Writes many acknowledgements at once. Rows are locked in the order of their keys, as in all statements here that
/// touch more than one row, so that no two of them wait for each other.
fn acknowledge(seen: &[Acknowledgement], at: Timestamp) -> Statement {
    Statement::new(
        "
    WITH seen AS (
        SELECT session.user_id, session.id, session.generation
        FROM unnest($1::text[], $2::text[], $3::bigint[]) AS acknowledged (user_id, id, generation)
            JOIN countersign.session USING (user_id, id, generation)
        WHERE session.acknowledged_at IS NULL
        ORDER BY session.user_id, session.id
        FOR UPDATE OF session)
    UPDATE countersign.session SET acknowledged_at = $4, last_seen_at = greatest(last_seen_at, $4)
    FROM seen
    WHERE session.user_id = seen.user_id AND session.id = seen.id AND session.generation = seen.generation
        AND session.acknowledged_at IS NULL",
    )
    .bind_list(seen.iter().map(|seen| seen.user_id.as_str()))
    .bind_list(seen.iter().map(|seen| seen.session_id.to_string()))
    .bind_list(seen.iter().map(|seen| i64::from(seen.generation.as_u32())))
    .bind(at)
}

/// Writes the row's mark and the log's entry. The mark comes first, because it queues at the row. If there is such an
/// entry already, it stays as it is.
fn end(key: &UserSession, end: &End) -> Statement<(bool, bool, Option<bool>)> {
    Statement::new(
        "
    WITH marked AS (
        UPDATE countersign.session SET ended_at = $4, end_reason = $5
        WHERE user_id = $1 AND id = $2 AND ended_at IS NULL
        RETURNING user_id, id),
    logged AS (
        INSERT INTO countersign.revocation (user_id, kind, ref, n, until, at)
        SELECT user_id, 'session', id, 0, $3, $4 FROM marked
        ON CONFLICT DO NOTHING
        RETURNING 1)
    SELECT EXISTS (SELECT 1 FROM marked)::int::bigint, EXISTS (SELECT 1 FROM logged)::int::bigint,
        (SELECT (ended_at IS NOT NULL)::int::bigint FROM countersign.session WHERE user_id = $1 AND id = $2)",
    )
    .bind_key(key)
    .bind(end.until)
    .bind(end.at)
    .bind(end.reason.name())
}

/// A page of a user's live sessions, found in the index `session_live`, from its end.
fn live(user_id: &UserId, now: Timestamp, page: SessionPage) -> Statement<Session> {
    let (created_at, id) = before(page.after.as_ref());
    Statement::new(concat!(
        "
    SELECT ",
        session_columns!(names),
        " FROM countersign.session
    WHERE user_id = $1 AND ended_at IS NULL AND (created_at, id) < ($3, $4)
        AND $2 < idle_until AND $2 < absolute_until
        AND NOT EXISTS (SELECT 1 FROM countersign.revocation
            WHERE user_id = $1 AND kind = 'session' AND ref = session.id)
        AND NOT EXISTS (SELECT 1 FROM countersign.revocation WHERE user_id = $1 AND kind = 'user' AND ref = ''
            AND n > session.epoch AND except_session IS DISTINCT FROM session.id)
    ORDER BY created_at DESC, id DESC LIMIT $5 OFFSET $6"
    ))
    .bind(user_id)
    .bind(now)
    .bind(created_at)
    .bind(id)
    .bind(limit(page.limit))
    .bind(limit(page.skip))
}

/// Deletes old sessions. A row that another node is deleting is left to that node.
fn purge(before: Timestamp, at_most: usize) -> Statement {
    Statement::new(
        "
    WITH old AS MATERIALIZED (
        SELECT user_id, id FROM countersign.session
        WHERE absolute_until < $1 ORDER BY absolute_until LIMIT $2 FOR UPDATE SKIP LOCKED)
    DELETE FROM countersign.session USING old
    WHERE session.user_id = old.user_id AND session.id = old.id",
    )
    .bind(before)
    .bind(limit(at_most))
}

/// How many acknowledgements one statement carries.
const ACKNOWLEDGE_STEP: usize = 1_000;
/// How long an end waits before it is done again.
const AGAIN: Duration = Duration::from_millis(2);

#[async_trait]
impl SessionStore for PostgresStore {
    async fn insert_session(&self, session: &Session) -> Result<SessionInserted, StoreError> {
        const ACTION: &str = "insert the session";
        let key = session.key();
        let steps = async {
            if self.lanes.work.write(ACTION, insert(session)).await? == 0 {
                let taken = self.lanes.work.first(ACTION, taken(&key)).await?;
                return Ok(match taken {
                    Some(_) => SessionInserted::Taken,
                    None => SessionInserted::EpochRaised,
                });
            }
            let withdrawn = self.lanes.work.write(ACTION, withdraw(&key)).await?;
            Ok(if withdrawn > 0 { SessionInserted::EpochRaised } else { SessionInserted::Yes })
        };
        self.lanes.work.series(ACTION, steps).await
    }

    async fn session(&self, key: &UserSession) -> Result<Option<FoundSession>, StoreError> {
        self.lanes.work.first("read the session", find(key)).await
    }

    async fn advance(&self, key: &UserSession, step: &Advance) -> Result<Option<Session>, StoreError> {
        let rows = self.lanes.work.write_returning("advance the session", advance(key, step)).await?;
        Ok(rows.into_iter().next())
    }

    async fn heal(&self, key: &UserSession, step: &Heal) -> Result<bool, StoreError> {
        Ok(self.lanes.work.write("heal the session", heal(key, step)).await? > 0)
    }

    async fn acknowledge(&self, seen: &[Acknowledgement], at: Timestamp) -> Result<(), StoreError> {
        for seen in seen.chunks(ACKNOWLEDGE_STEP) {
            self.lanes.work.write("acknowledge generations", acknowledge(seen, at)).await?;
        }
        Ok(())
    }

    async fn end_session(&self, key: &UserSession, how: &End) -> Result<SessionEnded, StoreError> {
        const ACTION: &str = "end the session";
        let steps = async {
            loop {
                match self.lanes.work.write_returning_only(ACTION, end(key, how)).await? {
                    (true, true, _) => return Ok(SessionEnded::Now),
                    (true, false, _) | (false, _, Some(true)) => return Ok(SessionEnded::Before),
                    (false, _, None) => return Ok(SessionEnded::Unknown),
                    // The row is open, and yet it was not marked: another statement was changing it, or the parts of
                    // this one saw different states of the table. The answer proves nothing, so the end is done again.
                    (false, _, Some(false)) => tokio::time::sleep(AGAIN).await,
                }
            }
        };
        let ended = self.lanes.work.series(ACTION, steps).await?;
        if ended == SessionEnded::Now {
            self.announce();
        }
        Ok(ended)
    }

    async fn live_sessions(
        &self,
        user_id: &UserId,
        now: Timestamp,
        page: SessionPage,
    ) -> Result<Vec<Session>, StoreError> {
        self.lanes.lists.read("list the user's sessions", live(user_id, now, page)).await
    }

    async fn purge_sessions(&self, before: Timestamp, at_most: usize) -> Result<u64, StoreError> {
        self.lanes.work.purge("purge sessions", at_most, |step| purge(before, step)).await
    }
}

#[cfg(test)]
mod tests {
    use countersign_core::model::{AdvanceCondition, Device, EndReason, SessionSeed};
    use countersign_jwt::{Epoch, Generation, SessionId};
    use uuid::Uuid;

    use super::super::plans::Filled;
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(50_000);
    const LATER: Timestamp = Timestamp::from_millis(90_000);

    fn key(number: u128) -> UserSession {
        let user_id = UserId::new(&format!("user {}", number % 20_000)).unwrap();
        UserSession { user_id, id: SessionId::new(Uuid::from_u128(number)) }
    }

    fn step() -> Advance {
        Advance {
            from: Generation::FIRST,
            to: Generation::FIRST.next(),
            guard: AdvanceCondition::OutsideReserve {
                leeway: Duration::from_millis(10),
                grace: Duration::from_millis(30),
            },
            now: NOW,
            idle_until: LATER,
            device: Device { user_agent: Some("Firefox".to_owned()), agent_hash: None, ip: None },
        }
    }

    #[tokio::test]
    async fn no_statement_reads_more_than_it_needs() {
        let Some(mut filled) = Filled::open().await else { return };
        let key = key(20_005);
        let session = Session {
            user_id: key.user_id.clone(),
            id: key.id,
            epoch: Epoch::FIRST,
            generation: Generation::FIRST,
            issued_at: NOW,
            acknowledged_at: None,
            heals: 0,
            healed_run: 0,
            seed: SessionSeed::new([0; 32]),
            created_at: NOW,
            last_seen_at: NOW,
            idle_until: LATER,
            absolute_until: LATER,
            device: Device::default(),
            ended: None,
        };
        let healing =
            Heal { generation: Generation::FIRST, issued_at: NOW, heals: 0, now: NOW, idle_until: LATER };
        let seen = Acknowledgement {
            user_id: key.user_id.clone(),
            session_id: key.id,
            generation: Generation::FIRST,
        };
        let how = End { reason: EndReason::LoggedOut, at: NOW, until: NOW };
        let page = SessionPage::first(100);
        filled.uses(insert(&session), "revocation_pkey").await;
        filled.uses(taken(&key), "session_pkey").await;
        filled.uses(withdraw(&key), "session_pkey").await;
        filled.uses(find(&key), "session_pkey").await;
        filled.uses(advance(&key, &step()), "session_pkey").await;
        filled.uses(heal(&key, &healing), "session_pkey").await;
        filled.uses(acknowledge(&[seen], NOW), "session_pkey").await;
        filled.uses(end(&key, &how), "session_pkey").await;
        filled.uses(live(&key.user_id, Timestamp::MIN, page), "session_live").await;
        filled.uses(purge(Timestamp::from_millis(5), 10), "session_absolute_until").await;
    }

    #[tokio::test]
    async fn a_refresh_writes_no_index() {
        const UPDATES: &str = "
            SELECT pg_stat_get_xact_tuples_updated(oid), pg_stat_get_xact_tuples_hot_updated(oid)
            FROM pg_class WHERE oid = 'countersign.session'::regclass";
        let Some(mut filled) = Filled::open().await else { return };
        // Each of them is in a page in which nothing was updated yet: an old version is cleared away only when nobody
        // can see it any more.
        for number in (20_005..40_000).step_by(500) {
            // The notification is asked for in the transaction that writes: others are told later.
            sqlx::raw_sql("BEGIN").execute(&mut filled.connection).await.unwrap();
            let done = advance(&key(number), &step()).execute(&mut filled.connection, true).await.unwrap();
            assert_eq!(done.rows_affected(), 1);
            let updates: (i64, i64) =
                sqlx::query_as(UPDATES).fetch_one(&mut filled.connection).await.unwrap();
            assert!(
                updates.0 > 0 && updates.0 == updates.1,
                "(all updates, those that wrote no index): {updates:?}"
            );
            sqlx::raw_sql("COMMIT").execute(&mut filled.connection).await.unwrap();
        }
    }
}
