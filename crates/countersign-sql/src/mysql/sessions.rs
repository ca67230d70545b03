//! Sessions. The conditions in SQL are those of [`Advance::applies`], [`Heal::applies`] and
//! [`Acknowledgement::applies`], word for word.
//!
//! # Races
//!
//! READ COMMITTED. A step ([`ADVANCE`], [`HEAL`]) waits for the row's lock, then looks at the row as it was committed
//! last, and only then at the log: the log's part of the condition speaks of the row's own columns, so it can be
//! evaluated only when the row is there, and InnoDB takes the snapshot for it when it first needs one. (Said with
//! parameters instead, the servers may evaluate it while they plan the statement, before they wait. `NO_SEMIJOIN`
//! keeps MySQL from turning it into a join, which it could start at the log.) So a step sees every entry that was
//! committed before the row was its own, and every mark. What ends sessions with a mark ([`MARK_ENDED`], the log's
//! `MARK_ENDED`) waits for the same lock: either the step was first, and the mark follows it, or it finds the mark.
//!
//! A login that is under way while the epoch is raised is the reverse case: there is no row yet to wait for. So each
//! looks once more after its commit: the login for a raised epoch ([`super::revocations::EPOCH`]), the raise for
//! sessions to mark. As both commit before they look, at least one of them sees the other.
//!
//! REPEATABLE READ, if a proxy has taken the session's settings away: what an update looks up in another table is
//! then read as committed last, too, and locked, so a step sees at least as much. In the transactions nothing is
//! decided upon a read that came before the lock: the one that reads first, the raise, only guesses its number, and
//! its insert finds out.
//!
//! Clusters in which every node writes (Galera, Group Replication): locks are each node's own, but what changes the same
//! row at two nodes is refused at one of them when it commits, and done again. A step and an end change the same row,
//! and so do all others here that must not both succeed.
//!
//! MySQL assigns from left to right, and what was assigned is seen further to the right. So no assignment here reads a
//! column that was assigned before it.

use std::time::Duration;

use async_trait::async_trait;
use countersign_core::model::{Acknowledgement, Advance, Heal, Session, UserSession};
use countersign_core::store::{
    End, FoundSession, SessionEnded, SessionInserted, SessionPage, SessionStore, StoreError,
};
use countersign_jwt::{Timestamp, UserId};

use super::MySqlStore;
use super::engine::{Statement, malformed, only, values};
use super::revocations::EPOCH;
use crate::column::{GuardParameters, before, integer, limit, number};
use crate::record::{FoundRecord, SessionRecord};

/// What [`SessionRecord`] reads. Text is told from bytes here, at the last moment.
macro_rules! session_columns {
    () => {
        "CONVERT(session.user_id USING utf8mb4) AS user_id, CONVERT(session.id USING utf8mb4) AS id, epoch, generation,
        issued_at, acknowledged_at, heals, healed_run, seed, created_at, last_seen_at, idle_until, absolute_until,
        CONVERT(user_agent USING utf8mb4) AS user_agent, CONVERT(agent_hash USING utf8mb4) AS agent_hash,
        CONVERT(ip USING utf8mb4) AS ip, ended_at,
        CONVERT(end_reason USING utf8mb4) AS end_reason"
    };
}

/// That the log has nothing against a step on the row in `session`.
macro_rules! log_allows {
    () => {
        "NOT EXISTS (SELECT /*+ NO_SEMIJOIN() */ 1 FROM countersign_revocation AS entry FORCE INDEX (PRIMARY)
            WHERE entry.user_id = session.user_id AND entry.kind = 'session' AND entry.ref = session.id)
        AND NOT EXISTS (SELECT /*+ NO_SEMIJOIN() */ 1 FROM countersign_revocation AS entry FORCE INDEX (PRIMARY)
            WHERE entry.user_id = session.user_id AND entry.kind = 'user' AND entry.ref = ''
                AND entry.n > session.epoch AND NOT entry.except_session <=> session.id)"
    };
}

pub(super) const INSERT: &str = "
    INSERT INTO countersign_session (user_id, id, epoch, generation, issued_at, acknowledged_at, heals, healed_run,
        seed, created_at, last_seen_at, idle_until, absolute_until, user_agent, agent_hash, ip, ended_at,
        end_reason)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";

/// Takes an inserted session back. Nobody knows its tokens yet.
pub(super) const WITHDRAW: &str = "DELETE FROM countersign_session WHERE user_id = ? AND id = ?";

/// The row and what the log says about it, from one snapshot because it is one statement.
pub(super) const FIND: &str = concat!(
    "SELECT ",
    session_columns!(),
    ",
        EXISTS (SELECT 1 FROM countersign_revocation AS entry FORCE INDEX (PRIMARY)
            WHERE entry.user_id = session.user_id AND entry.kind = 'session' AND entry.ref = session.id) AS log_ended,
        (SELECT COALESCE(MAX(entry.n), 0) FROM countersign_revocation AS entry FORCE INDEX (PRIMARY)
            WHERE entry.user_id = session.user_id AND entry.kind = 'user' AND entry.ref = ''
                AND NOT entry.except_session <=> session.id) AS log_epoch
    FROM countersign_session AS session WHERE session.user_id = ? AND session.id = ?"
);

/// Of the guard's parameters, those of the other kinds of guard are null. `LAST_INSERT_ID` notes the one new value
/// that depends on the old row and could be another one when the row is read after this ([`READ`]).
pub(super) const ADVANCE: &str = concat!(
    "UPDATE countersign_session AS session SET
        generation = ?,
        issued_at = ?,
        acknowledged_at = NULL,
        healed_run = LAST_INSERT_ID(CASE heals WHEN 0 THEN 0 ELSE healed_run END),
        heals = 0,
        last_seen_at = ?,
        idle_until = LEAST(?, absolute_until),
        user_agent = ?,
        agent_hash = ?,
        ip = ?
    WHERE session.user_id = ? AND session.id = ? AND generation = ?
        AND ended_at IS NULL AND ? < idle_until AND ? < absolute_until
        AND (? IS NULL OR issued_at = ?)
        AND (? IS NULL OR NOT (generation > 0 AND issued_at - ? <= ? AND ? < issued_at + ?))
        AND ",
    log_allows!()
);

/// The row as it is now.
pub(super) const READ: &str = concat!(
    "SELECT ",
    session_columns!(),
    " FROM countersign_session AS session WHERE session.user_id = ? AND session.id = ?"
);

pub(super) const HEAL: &str = concat!(
    "UPDATE countersign_session AS session SET
        issued_at = ?,
        healed_run = CASE heals WHEN 0 THEN LEAST(healed_run + 1, 255) ELSE healed_run END,
        heals = LEAST(heals + 1, 255),
        last_seen_at = ?,
        idle_until = ?
    WHERE session.user_id = ? AND session.id = ? AND generation = ? AND issued_at = ? AND heals = ?
        AND acknowledged_at IS NULL
        AND ended_at IS NULL AND ? < idle_until AND ? < absolute_until
        AND ",
    log_allows!()
);

/// Many at once: the middle part once for each. The server goes through them in the order of their keys, as all
/// statements do that lock more than one row, so that none waits for another that waits for it.
pub(super) const ACKNOWLEDGE: [&str; 3] = [
    "UPDATE countersign_session FORCE INDEX (PRIMARY)
    SET acknowledged_at = ?, last_seen_at = GREATEST(last_seen_at, ?)
    WHERE ",
    "(user_id = ? AND id = ? AND generation = ? AND acknowledged_at IS NULL)",
    "",
];

/// Comes before the log's entry, in one transaction with it, because it waits for the row's lock.
pub(super) const MARK_ENDED: &str = "
    UPDATE countersign_session SET ended_at = ?, end_reason = ? WHERE user_id = ? AND id = ? AND ended_at IS NULL";

pub(super) const LOG_END: &str = "
    INSERT INTO countersign_revocation (user_id, kind, ref, n, until, at) VALUES (?, 'session', ?, 0, ?, ?)";

pub(super) const IS_ENDED: &str = "
    SELECT ended_at IS NOT NULL FROM countersign_session WHERE user_id = ? AND id = ?";

/// A page, found in the index `live`, from its end. The place that it comes after is written out, because the servers
/// find no range for a comparison of rows.
pub(super) const LIVE: &str = concat!(
    "SELECT ",
    session_columns!(),
    " FROM countersign_session AS session FORCE INDEX (live)
    WHERE session.user_id = ? AND session.ended_at IS NULL
        AND session.created_at <= ? AND (session.created_at < ? OR session.id < ?)
        AND ? < idle_until AND ? < absolute_until
        AND ",
    log_allows!(),
    " ORDER BY session.created_at DESC, session.id DESC LIMIT ? OFFSET ?"
);

pub(super) const PURGE: &str = "
    DELETE FROM countersign_session WHERE absolute_until < ? ORDER BY absolute_until LIMIT ?";

/// How many acknowledgements one statement carries.
const ACKNOWLEDGE_STEP: usize = 128;
/// How long an end waits that has to be done again.
const AGAIN: Duration = Duration::from_millis(2);

#[async_trait]
impl SessionStore for MySqlStore {
    async fn insert_session(&self, session: &Session) -> Result<SessionInserted, StoreError> {
        const ACTION: &str = "insert the session";
        let key = session.key();
        let epoch = integer(session.epoch.as_u64()).map_err(malformed(ACTION))?;
        let ip = session.device.ip.map(|ip| ip.to_string());
        let agent_hash = session.device.agent_hash.map(|hash| hash.to_string());
        let insert = of(INSERT, &key)
            .number(epoch)
            .number(i64::from(session.generation.as_u32()))
            .number(session.issued_at.as_millis())
            .number(session.acknowledged_at.map(Timestamp::as_millis))
            .number(i64::from(session.heals))
            .number(i64::from(session.healed_run))
            .bytes(session.seed.as_bytes().as_slice())
            .number(session.created_at.as_millis())
            .number(session.last_seen_at.as_millis())
            .number(session.idle_until.as_millis())
            .number(session.absolute_until.as_millis())
            .text(session.device.user_agent.as_deref())
            .text(agent_hash.as_deref())
            .text(ip.as_deref())
            .number(session.ended.map(|ended| ended.at.as_millis()))
            .text(session.ended.map(|ended| ended.reason.name()));
        let steps = async {
            if !self.work.insert(ACTION, insert).await? {
                return Ok(SessionInserted::Taken);
            }
            let current = Statement::new(EPOCH).text(session.user_id.as_str());
            let (current,): (i64,) = only(ACTION, self.work.read(ACTION, current).await?)?;
            if current == epoch {
                return Ok(SessionInserted::Yes);
            }
            self.work.write(ACTION, of(WITHDRAW, &key)).await?;
            Ok(SessionInserted::EpochRaised)
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
        let now = step.now.as_millis();
        let (id, ip) = (key.id.to_string(), step.device.ip.map(|ip| ip.to_string()));
        let agent_hash = step.device.agent_hash.map(|hash| hash.to_string());
        let statement = Statement::new(ADVANCE)
            .number(i64::from(step.to.as_u32()))
            .number(now)
            .number(now)
            .number(step.idle_until.as_millis())
            .text(step.device.user_agent.as_deref())
            .text(agent_hash.as_deref())
            .text(ip.as_deref())
            .text(key.user_id.as_str())
            .text(id.as_str())
            .number(i64::from(step.from.as_u32()))
            .number(now)
            .number(now)
            .number(guard.issued_at)
            .number(guard.issued_at)
            .number(guard.leeway)
            .number(guard.leeway)
            .number(now)
            .number(now)
            .number(guard.grace);
        let steps = async {
            let done = self.work.write(ACTION, statement).await?;
            if done.rows == 0 {
                return Ok(None);
            }
            let rows = self.work.read::<SessionRecord>(ACTION, of(READ, key)).await?;
            let healed_run = number("healed_run", i64::try_from(done.noted).unwrap_or(i64::MAX));
            let healed_run = healed_run.map_err(malformed(ACTION))?;
            Ok(values(ACTION, rows)?.pop().map(|row| as_left(row, step, healed_run)))
        };
        self.work.series(ACTION, steps).await
    }

    async fn heal(&self, key: &UserSession, step: &Heal) -> Result<bool, StoreError> {
        let (id, now) = (key.id.to_string(), step.now.as_millis());
        let statement = Statement::new(HEAL)
            .number(now)
            .number(now)
            .number(step.idle_until.as_millis())
            .text(key.user_id.as_str())
            .text(id.as_str())
            .number(i64::from(step.generation.as_u32()))
            .number(step.issued_at.as_millis())
            .number(i64::from(step.heals))
            .number(now)
            .number(now);
        Ok(self.work.write("heal the session", statement).await?.rows > 0)
    }

    async fn acknowledge(&self, seen: &[Acknowledgement], at: Timestamp) -> Result<(), StoreError> {
        for seen in seen.chunks(ACKNOWLEDGE_STEP) {
            // Some repeat the first: few different lengths make few different statements, which the server keeps
            // prepared.
            let length = seen.len().next_power_of_two();
            let repeated = seen.iter().chain(seen.iter().cycle()).take(length);
            let statement = Statement::repeating(ACKNOWLEDGE, " OR ", length);
            let statement = statement.number(at.as_millis()).number(at.as_millis());
            let statement = repeated.fold(statement, |statement, seen| {
                let statement =
                    statement.text(seen.user_id.as_str()).text(seen.session_id.to_string().as_str());
                statement.number(i64::from(seen.generation.as_u32()))
            });
            self.work.write("acknowledge generations", statement).await?;
        }
        Ok(())
    }

    async fn end_session(&self, key: &UserSession, end: &End) -> Result<SessionEnded, StoreError> {
        const ACTION: &str = "end the session";
        let id = key.id.to_string();
        let mark = Statement::new(MARK_ENDED).number(end.at.as_millis()).text(end.reason.name());
        let mark = mark.text(key.user_id.as_str()).text(id.as_str());
        let log = of(LOG_END, key).number(end.until.as_millis()).number(end.at.as_millis());
        let steps = async {
            loop {
                let ended = self.work.transaction(ACTION, |mut transaction| async {
                    if transaction.write(&mark).await?.rows == 0 {
                        transaction.undo().await?;
                        return Ok(None);
                    }
                    // An entry that is there already stays as it is.
                    let is_new = transaction.insert(&log).await?;
                    transaction.commit().await?;
                    Ok(Some(if is_new { SessionEnded::Now } else { SessionEnded::Before }))
                });
                if let Some(ended) = ended.await? {
                    return Ok(ended);
                }
                let found: Vec<(i64,)> = self.work.read(ACTION, of(IS_ENDED, key)).await?;
                match found.first() {
                    None => return Ok(SessionEnded::Unknown),
                    Some((ended,)) if *ended != 0 => return Ok(SessionEnded::Before),
                    // The row is open, and yet it was not there to be marked: this node of a cluster had not been told
                    // of it. Nothing is in the log, so the end is done again.
                    Some(_) => tokio::time::sleep(AGAIN).await,
                }
            }
        };
        self.work.series(ACTION, steps).await
    }

    async fn live_sessions(
        &self,
        user_id: &UserId,
        now: Timestamp,
        page: SessionPage,
    ) -> Result<Vec<Session>, StoreError> {
        const ACTION: &str = "list the user's sessions";
        let now = now.as_millis();
        let (created_at, id) = before(page.after);
        let statement = Statement::new(LIVE).text(user_id.as_str()).number(created_at).number(created_at);
        let statement = statement.text(id.as_str()).number(now).number(now);
        let statement = statement.number(limit(page.limit)).number(limit(page.skip));
        values(ACTION, self.lists.read::<SessionRecord>(ACTION, statement).await?)
    }

    async fn purge_sessions(&self, before: Timestamp, at_most: usize) -> Result<u64, StoreError> {
        self.purge("purge sessions", PURGE, before, at_most).await
    }
}

/// A statement about one session.
fn of(sql: &'static str, key: &UserSession) -> Statement {
    Statement::new(sql).text(key.user_id.as_str()).text(key.id.to_string().as_str())
}

/// The row as the step has left it, from what it was some time after. Others may have followed at once, but what the
/// step itself has not set never changes: all but `healed_run`, which it has noted, and the end, which it had found
/// missing.
fn as_left(mut row: Session, step: &Advance, healed_run: u8) -> Session {
    step.apply(&mut row);
    row.healed_run = healed_run;
    row.ended = None;
    row
}

#[cfg(test)]
mod tests {
    use countersign_core::model::{AdvanceCondition, Device, EndReason, Ended, SessionSeed};
    use countersign_jwt::{Epoch, Generation, SessionId};
    use uuid::Uuid;

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);

    #[test]
    fn a_step_returns_the_row_as_it_has_left_it_though_others_have_followed() {
        let later = NOW + Duration::from_secs(9);
        let row = Session {
            user_id: Uuid::from_u128(1).into(),
            id: SessionId::new(Uuid::from_u128(2)),
            epoch: Epoch::new(3),
            generation: Generation::new(4),
            issued_at: NOW,
            acknowledged_at: Some(NOW),
            heals: 1,
            healed_run: 2,
            seed: SessionSeed::new([7; 32]),
            created_at: NOW,
            last_seen_at: NOW,
            idle_until: later,
            absolute_until: later,
            device: Device::default(),
            ended: None,
        };
        let step = Advance {
            from: row.generation,
            to: row.generation.next(),
            guard: AdvanceCondition::Generation,
            now: NOW + Duration::from_secs(1),
            idle_until: later + Duration::from_secs(1),
            device: Device::new(Some("Firefox"), None),
        };
        let mut expected = row.clone();
        step.apply(&mut expected);
        let since = Session {
            generation: Generation::new(9),
            issued_at: later,
            acknowledged_at: Some(later),
            heals: 3,
            healed_run: 5,
            last_seen_at: later,
            idle_until: NOW,
            device: Device::new(Some("Chrome"), None),
            ended: Some(Ended { at: later, reason: EndReason::LoggedOut }),
            ..row
        };
        assert_eq!(as_left(since, &step, expected.healed_run), expected);
    }
}
