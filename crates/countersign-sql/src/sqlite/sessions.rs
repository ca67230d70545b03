//! Sessions. The conditions in SQL are those of [`Advance::applies`], [`Heal::applies`] and
//! [`Acknowledgement::applies`], word for word.

use async_trait::async_trait;
use countersign_core::model::{Acknowledgement, Advance, Heal, Session, UserSession};
use countersign_core::store::{
    End, FoundSession, SessionEnded, SessionInserted, SessionPage, SessionStore, StoreError,
};
use countersign_jwt::{Timestamp, UserId};

use super::{SqliteStore, Statement, Undo};
use crate::column::{GuardParameters, before, limit};
use crate::purge::in_steps;
use crate::record::SessionRecord;

/// Inserts a session if the user's epoch is still the session's.
fn insert(session: &Session) -> Statement {
    Statement::new(concat!(
        "
    INSERT INTO session (",
        session_columns!(names),
        ")
    SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18
    WHERE ?3 = (SELECT coalesce(max(n), 0) FROM revocation WHERE user_id = ?1 AND kind = 'user' AND ref = '')
    ON CONFLICT DO NOTHING"
    ))
    .bind_record(SessionRecord::from(session))
}

/// Whether there is a session with this key. It is asked in the same write as [`insert`], when that inserted nothing.
fn taken(key: &UserSession) -> Statement<(i64,)> {
    Statement::new("SELECT 1 FROM session WHERE user_id = ?1 AND id = ?2").bind_key(key)
}

/// The session's row and what the log says about it. Both are of one snapshot, because it is one statement.
fn find(key: &UserSession) -> Statement<FoundSession> {
    Statement::new(concat!(
        "
    SELECT ",
        session_columns!(names),
        ",
        EXISTS (SELECT 1 FROM revocation WHERE user_id = ?1 AND kind = 'session' AND ref = ?2) AS log_ended,
        (SELECT coalesce(max(n), 0) FROM revocation
            WHERE user_id = ?1 AND kind = 'user' AND ref = '' AND except_session IS NOT ?2) AS log_epoch
    FROM session WHERE user_id = ?1 AND id = ?2"
    ))
    .bind_key(key)
}

/// Advances a session under the step's condition. The parameters of the other kinds of guard are null.
fn advance(key: &UserSession, step: &Advance) -> Statement<Session> {
    let guard = GuardParameters::from(step.guard);
    Statement::new(concat!(
        "
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
            AND n > session.epoch AND except_session IS NOT ?2)",
    )
    .bind_key(key)
    .bind(step.generation)
    .bind(step.issued_at)
    .bind(step.heals)
    .bind(step.now)
    .bind(step.idle_until)
}

fn acknowledge(seen: &Acknowledgement, at: Timestamp) -> Statement {
    Statement::new(
        "
    UPDATE session SET acknowledged_at = ?4, last_seen_at = max(last_seen_at, ?4)
    WHERE user_id = ?1 AND id = ?2 AND generation = ?3 AND acknowledged_at IS NULL",
    )
    .bind(&seen.user_id)
    .bind(seen.session_id)
    .bind(seen.generation)
    .bind(at)
}

/// Whether the row is marked, and whether the log has ended the session.
fn find_ended(key: &UserSession) -> Statement<(bool, bool)> {
    Statement::new(
        "
    SELECT ended_at IS NOT NULL AS row_ended,
        EXISTS (SELECT 1 FROM revocation WHERE user_id = ?1 AND kind = 'session' AND ref = ?2) AS log_ended
    FROM session WHERE user_id = ?1 AND id = ?2",
    )
    .bind_key(key)
}

fn log_end(key: &UserSession, end: &End) -> Statement {
    Statement::new(
        "
    INSERT INTO revocation (user_id, kind, ref, n, until, at) VALUES (?1, 'session', ?2, 0, ?3, ?4)",
    )
    .bind_key(key)
    .bind(end.until)
    .bind(end.at)
}

fn mark_ended(key: &UserSession, end: &End) -> Statement {
    Statement::new(
        "
    UPDATE session SET ended_at = ?3, end_reason = ?4 WHERE user_id = ?1 AND id = ?2",
    )
    .bind_key(key)
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
        " FROM session INDEXED BY session_live
    WHERE user_id = ?1 AND ended_at IS NULL AND (created_at, id) < (?3, ?4)
        AND ?2 < idle_until AND ?2 < absolute_until
        AND NOT EXISTS (SELECT 1 FROM revocation
            WHERE user_id = ?1 AND kind = 'session' AND ref = session.id)
        AND NOT EXISTS (SELECT 1 FROM revocation WHERE user_id = ?1 AND kind = 'user' AND ref = ''
            AND n > session.epoch AND except_session IS NOT session.id)
    ORDER BY created_at DESC, id DESC LIMIT ?5 OFFSET ?6"
    ))
    .bind(user_id)
    .bind(now)
    .bind(created_at)
    .bind(id)
    .bind(limit(page.limit))
    .bind(limit(page.skip))
}

fn purge(before: Timestamp, at_most: usize) -> Statement {
    Statement::new(
        "
    DELETE FROM session WHERE (user_id, id) IN
        (SELECT user_id, id FROM session WHERE absolute_until < ?1 ORDER BY absolute_until LIMIT ?2)",
    )
    .bind(before)
    .bind(limit(at_most))
}

/// How many acknowledgements one write carries, so that it does not delay the others.
const ACKNOWLEDGE_STEP: usize = 100;

#[async_trait]
impl SessionStore for SqliteStore {
    async fn insert_session(&self, session: &Session) -> Result<SessionInserted, StoreError> {
        let (insert, taken) = (insert(session), taken(&session.key()));
        self.writes("insert the session", Undo::Statement, move |connection| {
            Box::pin(async move {
                if insert.changes(connection).await? > 0 {
                    return Ok(SessionInserted::Yes);
                }
                let is_taken = !taken.all(connection).await?.is_empty();
                Ok(if is_taken { SessionInserted::Taken } else { SessionInserted::EpochRaised })
            })
        })
        .await
    }

    async fn session(&self, key: &UserSession) -> Result<Option<FoundSession>, StoreError> {
        self.first("read the session", &self.readers, find(key)).await
    }

    async fn advance(&self, key: &UserSession, step: &Advance) -> Result<Option<Session>, StoreError> {
        let rows = self.write_returning("advance the session", advance(key, step)).await?;
        Ok(rows.into_iter().next())
    }

    async fn heal(&self, key: &UserSession, step: &Heal) -> Result<bool, StoreError> {
        Ok(self.write("heal the session", heal(key, step)).await? > 0)
    }

    async fn acknowledge(&self, seen: &[Acknowledgement], at: Timestamp) -> Result<(), StoreError> {
        for seen in seen.chunks(ACKNOWLEDGE_STEP) {
            let statements: Vec<_> = seen.iter().map(|seen| acknowledge(seen, at)).collect();
            // Each acknowledgement stands for itself, so those noted before a failure may stay.
            self.writes("acknowledge generations", Undo::Statement, move |connection| {
                Box::pin(async move {
                    for statement in statements {
                        statement.changes(connection).await?;
                    }
                    Ok(())
                })
            })
            .await?;
        }
        Ok(())
    }

    async fn end_session(&self, key: &UserSession, end: &End) -> Result<SessionEnded, StoreError> {
        let (find, log, mark) = (find_ended(key), log_end(key, end), mark_ended(key, end));
        self.writes("end the session", Undo::Savepoint, move |connection| {
            Box::pin(async move {
                let Some((in_row, in_log)) = find.all(connection).await?.pop() else {
                    return Ok(SessionEnded::Unknown);
                };
                if in_row {
                    return Ok(SessionEnded::Before);
                }
                if !in_log {
                    log.changes(connection).await?;
                }
                mark.changes(connection).await?;
                Ok(if in_log { SessionEnded::Before } else { SessionEnded::Now })
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
        self.read("list the user's sessions", &self.lists, live(user_id, now, page)).await
    }

    async fn purge_sessions(&self, before: Timestamp, at_most: usize) -> Result<u64, StoreError> {
        in_steps(at_most, |step| self.write("purge sessions", purge(before, step))).await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use countersign_core::model::{AdvanceCondition, Device, EndReason, SessionSeed};
    use countersign_jwt::{Epoch, Generation, SessionId};
    use uuid::Uuid;

    use super::super::plan;
    use super::*;

    #[tokio::test]
    async fn no_statement_reads_more_than_it_needs() {
        let (at, generation) = (Timestamp::MIN, Generation::FIRST);
        let session = Session {
            user_id: Uuid::from_u128(1).into(),
            id: SessionId::new(Uuid::from_u128(2)),
            epoch: Epoch::FIRST,
            generation,
            issued_at: at,
            acknowledged_at: None,
            heals: 0,
            healed_run: 0,
            seed: SessionSeed::new([0; 32]),
            created_at: at,
            last_seen_at: at,
            idle_until: at,
            absolute_until: at,
            device: Device::default(),
            ended: None,
        };
        let key = &session.key();
        let reserve = AdvanceCondition::OutsideReserve { leeway: Duration::ZERO, grace: Duration::ZERO };
        let step = Advance {
            from: generation,
            to: generation,
            guard: reserve,
            now: at,
            idle_until: at,
            device: Device::default(),
        };
        let healing = Heal { generation, issued_at: at, heals: 0, now: at, idle_until: at };
        let user_id = session.user_id.clone();
        let seen = Acknowledgement { user_id, session_id: session.id, generation };
        let end = End { reason: EndReason::LoggedOut, at, until: at };
        for (sql, plan) in [
            plan(insert(&session)).await,
            plan(taken(key)).await,
            plan(find(key)).await,
            plan(advance(key, &step)).await,
            plan(heal(key, &healing)).await,
            plan(acknowledge(&seen, at)).await,
            plan(find_ended(key)).await,
            plan(log_end(key, &end)).await,
            plan(mark_ended(key, &end)).await,
            plan(live(&key.user_id, at, SessionPage::first(5))).await,
            plan(purge(at, 5)).await,
        ] {
            assert!(!plan.contains("SCAN"), "{sql}: {plan}");
            assert!(!plan.contains("ORDER BY"), "{sql}: {plan}");
        }
    }
}
