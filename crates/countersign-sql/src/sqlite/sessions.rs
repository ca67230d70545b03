//! Sessions. The conditions in SQL are those of [`Advance::applies`], [`Heal::applies`] and
//! [`Acknowledgement::applies`], word for word.

use async_trait::async_trait;
use countersign_core::model::{Acknowledgement, Advance, Heal, Session, UserSession};
use countersign_core::store::{
    End, FoundSession, SessionEnded, SessionInserted, SessionPage, SessionStore, StoreError,
};
use countersign_jwt::{Timestamp, UserId};

use super::{STORE, SqliteStore, Undo};
use crate::column::{GuardParameters, before, integer, limit};
use crate::record::{EndedRecord, FoundRecord, SessionRecord, all};

/// Inserts while the user's epoch is still the session's.
const INSERT: &str = "
    INSERT INTO session (user_id, id, epoch, generation, issued_at, acknowledged_at, heals, healed_run, seed,
        created_at, last_seen_at, idle_until, absolute_until, user_agent, agent_hash, ip, ended_at, end_reason)
    SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18
    WHERE ?3 = (SELECT coalesce(max(n), 0) FROM revocation WHERE user_id = ?1 AND kind = 'user' AND ref = '')
    ON CONFLICT DO NOTHING";

/// Asked in the same write as [`INSERT`], when that inserted nothing.
const IS_TAKEN: &str = "SELECT 1 FROM session WHERE user_id = ?1 AND id = ?2";

/// The row and what the log says about it, from one snapshot because it is one statement.
const FIND: &str = "
    SELECT session.*,
        EXISTS (SELECT 1 FROM revocation WHERE user_id = ?1 AND kind = 'session' AND ref = ?2) AS log_ended,
        (SELECT coalesce(max(n), 0) FROM revocation
            WHERE user_id = ?1 AND kind = 'user' AND ref = '' AND except_session IS NOT ?2) AS log_epoch
    FROM session WHERE user_id = ?1 AND id = ?2";

/// Of the guard's parameters, those of the other kinds of guard are null.
const ADVANCE: &str = "
    UPDATE session SET
        generation = ?4,
        issued_at = ?5,
        acknowledged_at = NULL,
        healed_run = CASE heals WHEN 0 THEN 0 ELSE healed_run END,
        heals = 0,
        last_seen_at = ?5,
        idle_until = min(?6, absolute_until),
        user_agent = ?7,
        ip = ?8,
        agent_hash = ?12
    WHERE user_id = ?1 AND id = ?2 AND generation = ?3
        AND ended_at IS NULL AND ?5 < idle_until AND ?5 < absolute_until
        AND (?9 IS NULL OR issued_at = ?9)
        AND (?10 IS NULL
            OR NOT (generation > 0 AND issued_at - ?10 <= ?5 AND ?5 < issued_at + ?11))
        AND NOT EXISTS (SELECT 1 FROM revocation WHERE user_id = ?1 AND kind = 'session' AND ref = ?2)
        AND NOT EXISTS (SELECT 1 FROM revocation WHERE user_id = ?1 AND kind = 'user' AND ref = ''
            AND n > session.epoch AND except_session IS NOT ?2)
    RETURNING *";

const HEAL: &str = "
    UPDATE session SET
        issued_at = ?6,
        healed_run = CASE heals WHEN 0 THEN min(healed_run + 1, 255) ELSE healed_run END,
        heals = min(heals + 1, 255),
        last_seen_at = ?6,
        idle_until = ?7
    WHERE user_id = ?1 AND id = ?2 AND generation = ?3 AND issued_at = ?4 AND heals = ?5
        AND acknowledged_at IS NULL
        AND ended_at IS NULL AND ?6 < idle_until AND ?6 < absolute_until
        AND NOT EXISTS (SELECT 1 FROM revocation WHERE user_id = ?1 AND kind = 'session' AND ref = ?2)
        AND NOT EXISTS (SELECT 1 FROM revocation WHERE user_id = ?1 AND kind = 'user' AND ref = ''
            AND n > session.epoch AND except_session IS NOT ?2)";

const ACKNOWLEDGE: &str = "
    UPDATE session SET acknowledged_at = ?4, last_seen_at = max(last_seen_at, ?4)
    WHERE user_id = ?1 AND id = ?2 AND generation = ?3 AND acknowledged_at IS NULL";

const FIND_ENDED: &str = "
    SELECT ended_at IS NOT NULL AS row_ended,
        EXISTS (SELECT 1 FROM revocation WHERE user_id = ?1 AND kind = 'session' AND ref = ?2) AS log_ended
    FROM session WHERE user_id = ?1 AND id = ?2";

const LOG_END: &str = "
    INSERT INTO revocation (user_id, kind, ref, n, until, at) VALUES (?1, 'session', ?2, 0, ?3, ?4)";

const MARK_ENDED: &str = "
    UPDATE session SET ended_at = ?3, end_reason = ?4 WHERE user_id = ?1 AND id = ?2";

/// A page, found in `session_live`, from its end.
const LIVE: &str = "
    SELECT * FROM session INDEXED BY session_live
    WHERE user_id = ?1 AND ended_at IS NULL AND (created_at, id) < (?3, ?4)
        AND ?2 < idle_until AND ?2 < absolute_until
        AND NOT EXISTS (SELECT 1 FROM revocation
            WHERE user_id = ?1 AND kind = 'session' AND ref = session.id)
        AND NOT EXISTS (SELECT 1 FROM revocation WHERE user_id = ?1 AND kind = 'user' AND ref = ''
            AND n > session.epoch AND except_session IS NOT session.id)
    ORDER BY created_at DESC, id DESC LIMIT ?5 OFFSET ?6";

const PURGE: &str = "
    DELETE FROM session WHERE (user_id, id) IN
        (SELECT user_id, id FROM session WHERE absolute_until < ?1 ORDER BY absolute_until LIMIT ?2)";

/// How many acknowledgements one write carries, so that it does not hold up the others.
const ACKNOWLEDGE_STEP: usize = 100;

#[async_trait]
impl SessionStore for SqliteStore {
    async fn insert_session(&self, session: &Session) -> Result<SessionInserted, StoreError> {
        let session = session.clone();
        self.write("insert the session", Undo::Statement, move |connection| {
            Box::pin(async move {
                let inserted = sqlx::query(INSERT)
                    .bind(session.user_id.as_str())
                    .bind(session.id.to_string())
                    .bind(integer(session.epoch.as_u64())?)
                    .bind(i64::from(session.generation.as_u32()))
                    .bind(session.issued_at.as_millis())
                    .bind(session.acknowledged_at.map(Timestamp::as_millis))
                    .bind(i64::from(session.heals))
                    .bind(i64::from(session.healed_run))
                    .bind(session.seed.as_bytes().as_slice())
                    .bind(session.created_at.as_millis())
                    .bind(session.last_seen_at.as_millis())
                    .bind(session.idle_until.as_millis())
                    .bind(session.absolute_until.as_millis())
                    .bind(session.device.user_agent.as_deref())
                    .bind(session.device.agent_hash.map(|hash| hash.to_string()))
                    .bind(session.device.ip.map(|ip| ip.to_string()))
                    .bind(session.ended.map(|ended| ended.at.as_millis()))
                    .bind(session.ended.map(|ended| ended.reason.name()))
                    .execute(&mut *connection)
                    .await?
                    .rows_affected();
                if inserted > 0 {
                    return Ok(SessionInserted::Yes);
                }
                let taken = sqlx::query(IS_TAKEN)
                    .bind(session.user_id.as_str())
                    .bind(session.id.to_string())
                    .fetch_optional(connection)
                    .await?;
                Ok(if taken.is_some() { SessionInserted::Taken } else { SessionInserted::EpochRaised })
            })
        })
        .await
    }

    async fn session(&self, key: &UserSession) -> Result<Option<FoundSession>, StoreError> {
        let action = "read the session";
        let query =
            sqlx::query_as::<_, FoundRecord>(FIND).bind(key.user_id.as_str()).bind(key.id.to_string());
        let row = self.read(action, query.fetch_optional(&self.readers)).await?;
        row.map(FoundSession::try_from).transpose().map_err(|error| StoreError::new(STORE, action, error))
    }

    async fn advance(&self, key: &UserSession, step: &Advance) -> Result<Option<Session>, StoreError> {
        let (key, step) = (key.clone(), step.clone());
        self.write("advance the session", Undo::Statement, move |connection| {
            Box::pin(async move {
                let guard = GuardParameters::from(step.guard);
                let advanced = sqlx::query_as::<_, SessionRecord>(ADVANCE)
                    .bind(key.user_id.as_str())
                    .bind(key.id.to_string())
                    .bind(i64::from(step.from.as_u32()))
                    .bind(i64::from(step.to.as_u32()))
                    .bind(step.now.as_millis())
                    .bind(step.idle_until.as_millis())
                    .bind(step.device.user_agent)
                    .bind(step.device.ip.map(|ip| ip.to_string()))
                    .bind(guard.issued_at)
                    .bind(guard.leeway)
                    .bind(guard.grace)
                    .bind(step.device.agent_hash.map(|hash| hash.to_string()))
                    .fetch_optional(connection)
                    .await?;
                advanced.map(Session::try_from).transpose()
            })
        })
        .await
    }

    async fn heal(&self, key: &UserSession, step: &Heal) -> Result<bool, StoreError> {
        let (key, step) = (key.clone(), *step);
        self.write("heal the session", Undo::Statement, move |connection| {
            Box::pin(async move {
                let healed = sqlx::query(HEAL)
                    .bind(key.user_id.as_str())
                    .bind(key.id.to_string())
                    .bind(i64::from(step.generation.as_u32()))
                    .bind(step.issued_at.as_millis())
                    .bind(i64::from(step.heals))
                    .bind(step.now.as_millis())
                    .bind(step.idle_until.as_millis())
                    .execute(connection)
                    .await?;
                Ok(healed.rows_affected() > 0)
            })
        })
        .await
    }

    async fn acknowledge(&self, seen: &[Acknowledgement], at: Timestamp) -> Result<(), StoreError> {
        for seen in seen.chunks(ACKNOWLEDGE_STEP) {
            let seen = seen.to_vec();
            // Each stands for itself, so what was noted before a failure may stay.
            self.write("acknowledge generations", Undo::Statement, move |connection| {
                Box::pin(async move {
                    for seen in seen {
                        sqlx::query(ACKNOWLEDGE)
                            .bind(seen.user_id.as_str())
                            .bind(seen.session_id.to_string())
                            .bind(i64::from(seen.generation.as_u32()))
                            .bind(at.as_millis())
                            .execute(&mut *connection)
                            .await?;
                    }
                    Ok(())
                })
            })
            .await?;
        }
        Ok(())
    }

    async fn end_session(&self, key: &UserSession, end: &End) -> Result<SessionEnded, StoreError> {
        let (key, end) = (key.clone(), *end);
        self.write("end the session", Undo::Savepoint, move |connection| {
            Box::pin(async move {
                let (user_id, id) = (key.user_id.as_str(), key.id.to_string());
                let found = sqlx::query_as::<_, EndedRecord>(FIND_ENDED).bind(user_id).bind(&id);
                let Some(found) = found.fetch_optional(&mut *connection).await? else {
                    return Ok(SessionEnded::Unknown);
                };
                if found.in_row() {
                    return Ok(SessionEnded::Before);
                }
                if !found.in_log() {
                    sqlx::query(LOG_END)
                        .bind(user_id)
                        .bind(&id)
                        .bind(end.until.as_millis())
                        .bind(end.at.as_millis())
                        .execute(&mut *connection)
                        .await?;
                }
                sqlx::query(MARK_ENDED)
                    .bind(user_id)
                    .bind(&id)
                    .bind(end.at.as_millis())
                    .bind(end.reason.name())
                    .execute(&mut *connection)
                    .await?;
                Ok(if found.in_log() { SessionEnded::Before } else { SessionEnded::Now })
            })
        })
        .await
    }

    async fn live_sessions(
        &self,
        user_id: &UserId,
        now: Timestamp,
        page: SessionPage,
    ) -> Result<Vec<Session>, StoreError> {
        let action = "list the user's sessions";
        let (created_at, id) = before(page.after);
        let query = sqlx::query_as::<_, SessionRecord>(LIVE)
            .bind(user_id.as_str())
            .bind(now.as_millis())
            .bind(created_at)
            .bind(id)
            .bind(limit(page.limit))
            .bind(limit(page.skip));
        let rows = self.read(action, query.fetch_all(&self.lists)).await?;
        all(rows).map_err(|error| StoreError::new(STORE, action, error))
    }

    async fn purge_sessions(&self, before: Timestamp, at_most: usize) -> Result<u64, StoreError> {
        self.purge(at_most, |step| {
            self.write("purge sessions", Undo::Statement, move |connection| {
                Box::pin(async move {
                    let query = sqlx::query(PURGE).bind(before.as_millis()).bind(limit(step));
                    Ok(query.execute(connection).await?.rows_affected())
                })
            })
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan;
    use super::*;

    #[tokio::test]
    async fn no_statement_reads_more_than_it_needs() {
        for statement in
            [INSERT, FIND, ADVANCE, HEAL, ACKNOWLEDGE, FIND_ENDED, LOG_END, MARK_ENDED, LIVE, PURGE]
        {
            let plan = plan(statement).await;
            assert!(!plan.contains("SCAN"), "{statement}: {plan}");
            assert!(!plan.contains("ORDER BY"), "{statement}: {plan}");
        }
    }
}
