//! Sessions. The conditions in SQL are those of [`Advance::applies`], [`Heal::applies`] and
//! [`Acknowledgement::applies`], word for word.
//!
//! # Races
//!
//! A statement that has waited for a row looks at the row's new version before it goes on, but sees the log as it was
//! when the statement began (READ COMMITTED). So two things end a session:
//!
//! - For steps that begin after the end was committed, the log's entry. They see it.
//! - For a step that was waiting at that time, the row's mark. Whatever ends sessions ([`END`] and the log's `RAISE`)
//!   writes entry and mark in one transaction, which queues at the row like the step itself: either the step was first, and
//!   the mark follows it, or it finds the mark. In neither case does a session go on.
//!
//! An entry without a mark ([`insert_entry`](countersign_core::store::RevocationStore::insert_entry)) is no part of this:
//! a step that was under way when it was written may still be done, and what it issues is dead, because the entry is in
//! the log.
//!
//! A login that is under way while the epoch is raised is the reverse case: there is no row yet to queue at. A lock that
//! both take would need a row per user, or advisory locks, which the distributed relatives of PostgreSQL lack. Instead
//! each looks once more after its commit: the login for a raised epoch ([`WITHDRAW`]), the raise for sessions to mark.
//! As both commit before they look, at least one of them sees the other.

use std::time::Duration;

use async_trait::async_trait;
use countersign_core::model::{Acknowledgement, Advance, Heal, Session, UserSession};
use countersign_core::store::{
    End, FoundSession, SessionEnded, SessionInserted, SessionPage, SessionStore, StoreError,
};
use countersign_jwt::{Timestamp, UserId};

use super::PostgresStore;
use super::engine::{Statement, malformed, only, values};
use crate::column::{GuardParameters, before, integer, limit};
use crate::record::{FoundRecord, SessionRecord};

/// Inserts while the user's epoch is still the session's.
const INSERT: &str = "
    INSERT INTO countersign.session (user_id, id, epoch, generation, issued_at, acknowledged_at, heals, healed_run,
        seed, created_at, last_seen_at, idle_until, absolute_until, user_agent, agent_hash, ip, ended_at,
        end_reason)
    SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18
    WHERE $3 = (SELECT coalesce(max(n), 0) FROM countersign.revocation
        WHERE user_id = $1 AND kind = 'user' AND ref = '')
    ON CONFLICT DO NOTHING";

/// Asked when [`INSERT`] inserted nothing.
const IS_TAKEN: &str = "SELECT generation FROM countersign.session WHERE user_id = $1 AND id = $2";

/// Takes an inserted session back if its epoch was raised while it was being inserted.
const WITHDRAW: &str = "
    DELETE FROM countersign.session WHERE user_id = $1 AND id = $2
        AND epoch <> (SELECT coalesce(max(n), 0) FROM countersign.revocation
            WHERE user_id = $1 AND kind = 'user' AND ref = '')";

/// The row and what the log says about it, from one snapshot because it is one statement.
const FIND: &str = "
    SELECT session.*,
        EXISTS (SELECT 1 FROM countersign.revocation
            WHERE user_id = $1 AND kind = 'session' AND ref = $2)::int::bigint AS log_ended,
        (SELECT coalesce(max(n), 0) FROM countersign.revocation
            WHERE user_id = $1 AND kind = 'user' AND ref = '' AND except_session IS DISTINCT FROM $2) AS log_epoch
    FROM countersign.session WHERE user_id = $1 AND id = $2";

/// Of the guard's parameters, those of the other kinds of guard are null.
const ADVANCE: &str = "
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
    RETURNING *";

const HEAL: &str = "
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
            AND n > session.epoch AND except_session IS DISTINCT FROM $2)";

/// Many at once. Rows are locked in the order of their keys, as all statements here do that touch more than one, so
/// that none waits for another that waits for it.
const ACKNOWLEDGE: &str = "
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
        AND session.acknowledged_at IS NULL";

/// The row's mark and the log's entry. The mark comes first, because it queues at the row; an entry that is already there
/// stays as it is.
const END: &str = "
    WITH marked AS (
        UPDATE countersign.session SET ended_at = $4, end_reason = $5
        WHERE user_id = $1 AND id = $2 AND ended_at IS NULL
        RETURNING user_id, id),
    logged AS (
        INSERT INTO countersign.revocation (user_id, kind, ref, n, until, at)
        SELECT user_id, 'session', id, 0, $3, $4 FROM marked
        ON CONFLICT DO NOTHING
        RETURNING 1)
    SELECT EXISTS (SELECT 1 FROM marked), EXISTS (SELECT 1 FROM logged),
        (SELECT ended_at IS NOT NULL FROM countersign.session WHERE user_id = $1 AND id = $2)";

/// A page, found in `session_live`, from its end.
const LIVE: &str = "
    SELECT * FROM countersign.session
    WHERE user_id = $1 AND ended_at IS NULL AND (created_at, id) < ($3, $4)
        AND $2 < idle_until AND $2 < absolute_until
        AND NOT EXISTS (SELECT 1 FROM countersign.revocation
            WHERE user_id = $1 AND kind = 'session' AND ref = session.id)
        AND NOT EXISTS (SELECT 1 FROM countersign.revocation WHERE user_id = $1 AND kind = 'user' AND ref = ''
            AND n > session.epoch AND except_session IS DISTINCT FROM session.id)
    ORDER BY created_at DESC, id DESC LIMIT $5 OFFSET $6";

/// What another node is deleting is left to it.
const PURGE: &str = "
    WITH old AS MATERIALIZED (
        SELECT user_id, id FROM countersign.session
        WHERE absolute_until < $1 ORDER BY absolute_until LIMIT $2 FOR UPDATE SKIP LOCKED)
    DELETE FROM countersign.session USING old
    WHERE session.user_id = old.user_id AND session.id = old.id";

/// How many acknowledgements one statement carries.
const ACKNOWLEDGE_STEP: usize = 1_000;
/// How long an end waits that has to be done again.
const AGAIN: Duration = Duration::from_millis(2);

#[async_trait]
impl SessionStore for PostgresStore {
    async fn insert_session(&self, session: &Session) -> Result<SessionInserted, StoreError> {
        const ACTION: &str = "insert the session";
        let (user_id, id) = (session.user_id.as_str(), session.id.to_string());
        let epoch = integer(session.epoch.as_u64()).map_err(malformed(ACTION))?;
        let of_it = |sql| Statement::new(sql).bind(user_id).bind(&id);
        let insert = of_it(INSERT)
            .bind(epoch)
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
            .bind(session.ended.map(|ended| ended.reason.name()));
        let steps = async {
            if self.work.write(ACTION, insert).await? == 0 {
                let taken: Vec<(i64,)> = self.work.read(ACTION, of_it(IS_TAKEN)).await?;
                return Ok(if taken.is_empty() {
                    SessionInserted::EpochRaised
                } else {
                    SessionInserted::Taken
                });
            }
            let withdrawn = self.work.write(ACTION, of_it(WITHDRAW)).await?;
            Ok(if withdrawn > 0 { SessionInserted::EpochRaised } else { SessionInserted::Yes })
        };
        self.work.series(ACTION, steps).await
    }

    async fn session(&self, key: &UserSession) -> Result<Option<FoundSession>, StoreError> {
        const ACTION: &str = "read the session";
        let rows = self.work.read::<FoundRecord>(ACTION, of(FIND, key)).await?;
        Ok(values(ACTION, rows)?.pop())
    }

    async fn advance(&self, key: &UserSession, step: &Advance) -> Result<Option<Session>, StoreError> {
        const ACTION: &str = "advance the session";
        let guard = GuardParameters::from(step.guard);
        let statement = of(ADVANCE, key)
            .bind(i64::from(step.from.as_u32()))
            .bind(i64::from(step.to.as_u32()))
            .bind(step.now.as_millis())
            .bind(step.idle_until.as_millis())
            .bind(step.device.user_agent.as_deref())
            .bind(step.device.ip.map(|ip| ip.to_string()))
            .bind(guard.issued_at)
            .bind(guard.leeway)
            .bind(guard.grace)
            .bind(step.device.agent_hash.map(|hash| hash.to_string()));
        let rows = self.work.write_returning::<SessionRecord>(ACTION, statement).await?;
        Ok(values(ACTION, rows)?.pop())
    }

    async fn heal(&self, key: &UserSession, step: &Heal) -> Result<bool, StoreError> {
        let statement = of(HEAL, key)
            .bind(i64::from(step.generation.as_u32()))
            .bind(step.issued_at.as_millis())
            .bind(i64::from(step.heals))
            .bind(step.now.as_millis())
            .bind(step.idle_until.as_millis());
        Ok(self.work.write("heal the session", statement).await? > 0)
    }

    async fn acknowledge(&self, seen: &[Acknowledgement], at: Timestamp) -> Result<(), StoreError> {
        for seen in seen.chunks(ACKNOWLEDGE_STEP) {
            let user_ids: Vec<&str> = seen.iter().map(|seen| seen.user_id.as_str()).collect();
            let ids: Vec<String> = seen.iter().map(|seen| seen.session_id.to_string()).collect();
            let generations: Vec<i64> = seen.iter().map(|seen| seen.generation.as_u32().into()).collect();
            let statement = Statement::new(ACKNOWLEDGE).bind(user_ids).bind(ids).bind(generations);
            self.work.write("acknowledge generations", statement.bind(at.as_millis())).await?;
        }
        Ok(())
    }

    async fn end_session(&self, key: &UserSession, end: &End) -> Result<SessionEnded, StoreError> {
        const ACTION: &str = "end the session";
        let steps = async {
            loop {
                let statement =
                    of(END, key).bind(end.until.as_millis()).bind(end.at.as_millis()).bind(end.reason.name());
                let rows: Vec<(bool, bool, Option<bool>)> =
                    self.work.write_returning(ACTION, statement).await?;
                match only(ACTION, rows)? {
                    (true, true, _) => return Ok(SessionEnded::Now),
                    (true, false, _) | (false, _, Some(true)) => return Ok(SessionEnded::Before),
                    (false, _, None) => return Ok(SessionEnded::Unknown),
                    // The row is open, and yet it was not marked: another one was at it, or the statement's parts saw
                    // different states of the table. It proves nothing, so it is done again.
                    (false, _, Some(false)) => tokio::time::sleep(AGAIN).await,
                }
            }
        };
        let ended = self.work.series(ACTION, steps).await?;
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
        const ACTION: &str = "list the user's sessions";
        let (created_at, id) = before(page.after);
        let statement = Statement::new(LIVE).bind(user_id.as_str()).bind(now.as_millis());
        let statement = statement.bind(created_at).bind(id).bind(limit(page.limit)).bind(limit(page.skip));
        values(ACTION, self.lists.read::<SessionRecord>(ACTION, statement).await?)
    }

    async fn purge_sessions(&self, before: Timestamp, at_most: usize) -> Result<u64, StoreError> {
        self.purge("purge sessions", PURGE, before, at_most).await
    }
}

/// A statement about one session.
fn of(sql: &'static str, key: &UserSession) -> Statement {
    Statement::new(sql).bind(key.user_id.as_str()).bind(key.id.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::plans::Filled;
    use super::*;

    fn of_one(sql: &'static str) -> Statement {
        Statement::new(sql).bind("user 5").bind("session 20005")
    }

    fn advance(user_id: &str, id: &str) -> Statement {
        Statement::new(ADVANCE)
            .bind(user_id)
            .bind(id)
            .bind(0_i64)
            .bind(1_i64)
            .bind(50_000_i64)
            .bind(90_000_i64)
            .bind(Some("Firefox"))
            .bind(None::<String>)
            .bind(None::<i64>)
            .bind(Some(10_i64))
            .bind(Some(30_i64))
            .bind(None::<String>)
    }

    #[tokio::test]
    async fn no_statement_reads_more_than_it_needs() {
        let Some(mut filled) = Filled::open().await else { return };
        let insert = of_one(INSERT)
            .bind(0_i64)
            .bind(0_i64)
            .bind(0_i64)
            .bind(None::<i64>)
            .bind(0_i64)
            .bind(0_i64)
            .bind(&[0_u8; 32][..])
            .bind(0_i64)
            .bind(0_i64)
            .bind(0_i64)
            .bind(0_i64)
            .bind(None::<String>)
            .bind(None::<String>)
            .bind(None::<String>)
            .bind(None::<i64>)
            .bind(None::<String>);
        let heal = of_one(HEAL).bind(0_i64).bind(5_i64).bind(0_i64).bind(6_i64).bind(7_i64);
        let acknowledge = Statement::new(ACKNOWLEDGE)
            .bind(vec!["user 5"])
            .bind(vec!["session 5"])
            .bind(vec![0_i64])
            .bind(7_i64);
        let live = Statement::new(LIVE).bind("user 5").bind(0_i64).bind(i64::MAX).bind("");
        let live = live.bind(100_i64).bind(0_i64);
        for (statement, index) in [
            (insert, "revocation_pkey"),
            (of_one(IS_TAKEN), "session_pkey"),
            (of_one(WITHDRAW), "session_pkey"),
            (of_one(FIND), "session_pkey"),
            (advance("user 5", "session 20005"), "session_pkey"),
            (heal, "session_pkey"),
            (acknowledge, "session_pkey"),
            (of_one(END).bind(0_i64).bind(0_i64).bind("logged_out"), "session_pkey"),
            (live, "session_live"),
            (Statement::new(PURGE).bind(5_i64).bind(10_i64), "session_absolute_until"),
        ] {
            let plan = filled.plan(&statement).await;
            assert!(!plan.contains("Seq Scan") && plan.contains(index), "{}: {plan}", statement.sql());
        }
    }

    #[tokio::test]
    async fn a_refresh_writes_no_index() {
        const UPDATES: &str = "
            SELECT pg_stat_get_xact_tuples_updated(oid), pg_stat_get_xact_tuples_hot_updated(oid)
            FROM pg_class WHERE oid = 'countersign.session'::regclass";
        let Some(mut filled) = Filled::open().await else { return };
        // Each in a page where nothing was updated yet: what was is cleared away only when nobody can see it any more.
        for number in (20_005..40_000).step_by(500) {
            let (user_id, id) = (format!("user {}", number - 20_000), format!("session {number}"));
            // Asked in the transaction that does it: others are told later.
            sqlx::raw_sql("BEGIN").execute(&mut filled.connection).await.unwrap();
            let step = advance(&user_id, &id);
            let step = sqlx::query_with(ADVANCE, step.parameters()).execute(&mut filled.connection);
            assert_eq!(step.await.unwrap().rows_affected(), 1);
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
