//! Sessions. The conditions in SQL are those of [`Advance::applies`], [`Heal::applies`] and
//! [`Acknowledgement::applies`], word for word.
//!
//! # Races
//!
//! READ COMMITTED. A step ([`advance`], [`heal`]) first waits for the row's lock, then looks at the row as it was last
//! committed, and only then at the log. The log's part of the condition refers to the row's own columns, so it can be
//! evaluated only when the row is there, and InnoDB takes the snapshot for it when it first needs one. (If that part
//! used parameters instead, the servers might evaluate it while they plan the statement, before they wait.
//! `NO_SEMIJOIN` keeps MySQL from turning it into a join, which could start at the log.) So a step sees every entry and
//! every mark that was committed before it got the row. A statement that ends sessions with a mark ([`mark_ended`], the
//! log's `mark_ended`) waits for the same lock. Either the step came first and the mark follows it, or the step finds
//! the mark.
//!
//! A login that is under way while the epoch is raised is the reverse case: there is no row yet to wait for. So each of
//! the two looks once more after its commit: the login for a raised epoch ([`epoch`]), the raise for sessions to mark.
//! Both commit before they look, so at least one of them sees the other.
//!
//! REPEATABLE READ is in force if a proxy has taken the session's settings away. What an update looks up in another
//! table is then also read as it was last committed, and locked, so a step sees at least as much. No transaction
//! decides anything by a read that came before the lock. The raise is the one that reads first; it only guesses its
//! number, and its insert finds out whether the number is free.
//!
//! In clusters in which every node writes (Galera, Group Replication), each node has its own locks. Two changes of the
//! same row at two nodes are detected when they commit: one of them is refused, and done again. A step and an end
//! change the same row, and so does every other pair here of which only one may succeed.
//!
//! MySQL assigns from left to right, and an assignment sees what was assigned to its left. So no assignment here reads
//! a column that was assigned before it.

use std::time::Duration;

use async_trait::async_trait;
use countersign_core::model::{Acknowledgement, Advance, Heal, Session, UserSession};
use countersign_core::store::{
    End, FoundSession, SessionEnded, SessionInserted, SessionPage, SessionStore, StoreError,
};
use countersign_jwt::{Timestamp, UserId};
use sqlx::MySql;

use super::revocations::epoch;
use super::{MySqlStore, Statement};
use crate::column::{GuardParameters, before, limit, malformed};
use crate::record::SessionRecord;
use crate::statement::Driver as _;

/// The condition that the log allows a step on the row in `session`.
macro_rules! log_allows {
    () => {
        "NOT EXISTS (SELECT /*+ NO_SEMIJOIN() */ 1 FROM countersign_revocation AS entry FORCE INDEX (PRIMARY)
            WHERE entry.user_id = session.user_id AND entry.kind = 'session' AND entry.ref = session.id)
        AND NOT EXISTS (SELECT /*+ NO_SEMIJOIN() */ 1 FROM countersign_revocation AS entry FORCE INDEX (PRIMARY)
            WHERE entry.user_id = session.user_id AND entry.kind = 'user' AND entry.ref = ''
                AND entry.n > session.epoch AND NOT entry.except_session <=> session.id)"
    };
}

pub(super) fn insert(session: &Session) -> Statement {
    Statement::new(concat!(
        "
    INSERT INTO countersign_session (",
        session_columns!(names),
        ")
    VALUES (",
        session_columns!(marks),
        ")"
    ))
    .bind_record(SessionRecord::from(session))
}

/// Deletes a session that was just inserted. Nobody knows its tokens yet.
pub(super) fn withdraw(key: &UserSession) -> Statement {
    Statement::new("DELETE FROM countersign_session WHERE user_id = ? AND id = ?").bind_key(key)
}

/// The session's row and what the log says about it. Both are of one snapshot, because it is one statement.
pub(super) fn find(key: &UserSession) -> Statement<FoundSession> {
    Statement::new(concat!(
        "SELECT ",
        session_columns!(converted),
        ",
        EXISTS (SELECT 1 FROM countersign_revocation AS entry FORCE INDEX (PRIMARY)
            WHERE entry.user_id = session.user_id AND entry.kind = 'session' AND entry.ref = session.id),
        (SELECT COALESCE(MAX(entry.n), 0) FROM countersign_revocation AS entry FORCE INDEX (PRIMARY)
            WHERE entry.user_id = session.user_id AND entry.kind = 'user' AND entry.ref = ''
                AND NOT entry.except_session <=> session.id)
    FROM countersign_session AS session WHERE session.user_id = ? AND session.id = ?"
    ))
    .bind_key(key)
}

/// Advances a session under the step's condition. The parameters of the other kinds of guard are null. `LAST_INSERT_ID`
/// notes the one new value that depends on the old row and may have changed again when the row is read after this
/// ([`read`]).
pub(super) fn advance(key: &UserSession, step: &Advance) -> Statement {
    let guard = GuardParameters::from(step.guard);
    Statement::new(concat!(
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
    ))
    .bind(step.to)
    .bind(step.now)
    .bind(step.now)
    .bind(step.idle_until)
    .bind(step.device.user_agent.as_deref())
    .bind(step.device.agent_hash.map(|hash| hash.to_string()))
    .bind(step.device.ip.map(|ip| ip.to_string()))
    .bind_key(key)
    .bind(step.from)
    .bind(step.now)
    .bind(step.now)
    .bind(guard.issued_at)
    .bind(guard.issued_at)
    .bind(guard.leeway)
    .bind(guard.leeway)
    .bind(step.now)
    .bind(step.now)
    .bind(guard.grace)
}

/// The session's row as it is now.
pub(super) fn read(key: &UserSession) -> Statement<Session> {
    Statement::new(concat!(
        "SELECT ",
        session_columns!(converted),
        " FROM countersign_session AS session WHERE session.user_id = ? AND session.id = ?"
    ))
    .bind_key(key)
}

pub(super) fn heal(key: &UserSession, step: &Heal) -> Statement {
    Statement::new(concat!(
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
    ))
    .bind(step.now)
    .bind(step.now)
    .bind(step.idle_until)
    .bind_key(key)
    .bind(step.generation)
    .bind(step.issued_at)
    .bind(step.heals)
    .bind(step.now)
    .bind(step.now)
}

/// Writes many acknowledgements at once. The middle part of the text is repeated for each. The server goes through the
/// rows in the order of their keys, as do all statements that lock more than one row, so that no two of them wait for
/// each other.
pub(super) fn acknowledge(seen: &[Acknowledgement], at: Timestamp) -> Statement {
    const PARTS: [&str; 3] = [
        "UPDATE countersign_session FORCE INDEX (PRIMARY)
    SET acknowledged_at = ?, last_seen_at = GREATEST(last_seen_at, ?)
    WHERE ",
        "(user_id = ? AND id = ? AND generation = ? AND acknowledged_at IS NULL)",
        "",
    ];
    // The list is filled up with repetitions of the first: few different lengths make few different statements, which
    // the server keeps prepared.
    let length = seen.len().next_power_of_two();
    let statement = Statement::repeating(PARTS, " OR ", length).bind(at).bind(at);
    seen.iter().cycle().take(length).fold(statement, |statement, seen| {
        statement.bind(&seen.user_id).bind(seen.session_id).bind(seen.generation)
    })
}

/// Marks a session as ended. The statement comes before the log's entry, in one transaction with it, because it waits
/// for the row's lock.
pub(super) fn mark_ended(key: &UserSession, end: &End) -> Statement {
    Statement::new("
    UPDATE countersign_session SET ended_at = ?, end_reason = ? WHERE user_id = ? AND id = ? AND ended_at IS NULL").bind(end.at).bind(end.reason.name()).bind_key(key)
}

pub(super) fn log_end(key: &UserSession, end: &End) -> Statement {
    Statement::new(
        "
    INSERT INTO countersign_revocation (user_id, kind, ref, n, until, at) VALUES (?, 'session', ?, 0, ?, ?)",
    )
    .bind_key(key)
    .bind(end.until)
    .bind(end.at)
}

pub(super) fn is_ended(key: &UserSession) -> Statement<(bool,)> {
    Statement::new(
        "
    SELECT ended_at IS NOT NULL FROM countersign_session WHERE user_id = ? AND id = ?",
    )
    .bind_key(key)
}

/// A page of a user's live sessions, found in the index `live`, from its end. The condition for the place that the page
/// comes after is written out, because the servers find no range for a comparison of rows.
pub(super) fn live(user_id: &UserId, now: Timestamp, page: SessionPage) -> Statement<Session> {
    let (created_at, id) = before(page.after.as_ref());
    Statement::new(concat!(
        "SELECT ",
        session_columns!(converted),
        " FROM countersign_session AS session FORCE INDEX (live)
    WHERE session.user_id = ? AND session.ended_at IS NULL
        AND session.created_at <= ? AND (session.created_at < ? OR session.id < ?)
        AND ? < idle_until AND ? < absolute_until
        AND ",
        log_allows!(),
        " ORDER BY session.created_at DESC, session.id DESC LIMIT ? OFFSET ?"
    ))
    .bind(user_id)
    .bind(created_at)
    .bind(created_at)
    .bind(id)
    .bind(now)
    .bind(now)
    .bind(limit(page.limit))
    .bind(limit(page.skip))
}

pub(super) fn purge(before: Timestamp, at_most: usize) -> Statement {
    Statement::new(
        "
    DELETE FROM countersign_session WHERE absolute_until < ? ORDER BY absolute_until LIMIT ?",
    )
    .bind(before)
    .bind(limit(at_most))
}

/// How many acknowledgements one statement carries.
const ACKNOWLEDGE_STEP: usize = 128;
/// How long an end waits before it is done again.
const AGAIN: Duration = Duration::from_millis(2);

#[async_trait]
impl SessionStore for MySqlStore {
    async fn insert_session(&self, session: &Session) -> Result<SessionInserted, StoreError> {
        const ACTION: &str = "insert the session";
        let work = &self.lanes.work;
        let steps = async {
            if !work.insert(ACTION, insert(session)).await? {
                return Ok(SessionInserted::Taken);
            }
            if work.only(ACTION, epoch(&session.user_id)).await? == session.epoch {
                return Ok(SessionInserted::Yes);
            }
            work.write(ACTION, withdraw(&session.key())).await?;
            Ok(SessionInserted::EpochRaised)
        };
        work.series(ACTION, steps).await
    }

    async fn session(&self, key: &UserSession) -> Result<Option<FoundSession>, StoreError> {
        self.lanes.work.first("read the session", find(key)).await
    }

    async fn advance(&self, key: &UserSession, step: &Advance) -> Result<Option<Session>, StoreError> {
        const ACTION: &str = "advance the session";
        let work = &self.lanes.work;
        let steps = async {
            let done = work.execute(ACTION, advance(key, step)).await?;
            if done.rows_affected() == 0 {
                return Ok(None);
            }
            let healed_run = u8::try_from(done.last_insert_id());
            let healed_run = healed_run.map_err(|error| malformed("healed_run", error));
            let healed_run = healed_run.map_err(|error| StoreError::new(MySql::STORE, ACTION, error))?;
            let row = work.first(ACTION, read(key)).await?;
            Ok(row.map(|row| as_left(row, step, healed_run)))
        };
        work.series(ACTION, steps).await
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

    async fn end_session(&self, key: &UserSession, end: &End) -> Result<SessionEnded, StoreError> {
        const ACTION: &str = "end the session";
        let work = &self.lanes.work;
        let (mark, log) = (&mark_ended(key, end), &log_end(key, end));
        let steps = async {
            loop {
                let ended = work.transaction(ACTION, |mut transaction| async move {
                    if transaction.write(mark).await? == 0 {
                        transaction.undo().await?;
                        return Ok(None);
                    }
                    // If there is such an entry already, it stays as it is.
                    let is_new = transaction.insert(log).await?;
                    transaction.commit().await?;
                    Ok(Some(if is_new { SessionEnded::Now } else { SessionEnded::Before }))
                });
                if let Some(ended) = ended.await? {
                    return Ok(ended);
                }
                match work.first(ACTION, is_ended(key)).await? {
                    None => return Ok(SessionEnded::Unknown),
                    Some((true,)) => return Ok(SessionEnded::Before),
                    // The row is open, and yet it was not there to be marked: this node of a cluster had not received
                    // it yet. Nothing is in the log, so the end is done again.
                    Some((false,)) => tokio::time::sleep(AGAIN).await,
                }
            }
        };
        work.series(ACTION, steps).await
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

/// The row as the step has left it, made from the row as it was some time later. Other steps may have followed at once,
/// but what the step itself has not set never changes, with two exceptions: `healed_run`, which the step has noted, and
/// the end, which the step had found missing.
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
