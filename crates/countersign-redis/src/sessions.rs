//! Sessions. The conditions in Lua are those of [`Advance::applies`], [`Heal::applies`] and
//! [`Acknowledgement::applies`], word for word.

use async_trait::async_trait;
use countersign_core::model::{
    Acknowledgement, Advance, AdvanceCondition, Ended, Entry, Heal, LogVerdict, Session, Target, UserSession,
};
use countersign_core::store::{
    End, FoundSession, SessionEnded, SessionInserted, SessionPage, SessionPosition, SessionStore, StoreError,
};
use countersign_jwt::{Epoch, SessionId, Timestamp, UserId};
use redis::Value;

use crate::failure::Failure;
use crate::layout::{Line, NONE, digits, session_member, session_of_member};
use crate::script::{
    ACKNOWLEDGE, ADVANCE, Call, END_SESSION, HEAL, INSERT_SESSION, LIVE_SESSIONS, PURGE_SESSIONS, SESSION,
};
use crate::store::RedisStore;
use crate::text::{number, parsed};
use crate::{answer, row};

/// The number of acknowledgements that one script carries, so that it does not delay other commands.
const ACKNOWLEDGE_STEP: usize = 200;
/// The number of sessions that one script purges, about a millisecond of work.
const PURGE_STEP: usize = 200;
/// The number of sessions of a list that one script looks at, about half a millisecond of work.
const LIST_STEP: usize = 100;

#[async_trait]
impl SessionStore for RedisStore {
    async fn insert_session(&self, session: &Session) -> Result<SessionInserted, StoreError> {
        let op = self.op("insert the session");
        let user_id = session.user_id.as_str();
        let keys = [
            self.names.sessions(user_id),
            self.names.live(user_id),
            self.names.epochs(user_id),
            self.names.sessions_by_until(),
        ];
        let mut call = INSERT_SESSION
            .on(keys)
            .number(session.id)
            .arg(row::write(session))
            .arg(digits(session.epoch))
            .arg(session_member(&session.user_id, session.id))
            .number(session.absolute_until.as_millis());
        if session.ended.is_none() {
            call = call.number(session.created_at.as_millis());
        }
        let answer = op.write(&call).await?;
        op.value(answer::text(answer).and_then(|answer| match answer.as_str() {
            "yes" => Ok(SessionInserted::Yes),
            "taken" => Ok(SessionInserted::Taken),
            "epoch" => Ok(SessionInserted::EpochRaised),
            _ => Err(Failure::Malformed("an answer")),
        }))
    }

    async fn session(&self, key: &UserSession) -> Result<Option<FoundSession>, StoreError> {
        let op = self.op("read the session");
        let found = op.read(&SESSION.on(self.row_and_log(&key.user_id)).number(key.id)).await?;
        op.value(match found {
            Value::Nil => Ok(None),
            found => read_found(key, found).map(Some),
        })
    }

    async fn advance(&self, key: &UserSession, step: &Advance) -> Result<Option<Session>, StoreError> {
        let op = self.op("advance the session");
        let call = ADVANCE
            .on(self.row_and_log(&key.user_id))
            .number(key.id)
            .number(step.from.as_u32())
            .number(step.to.as_u32())
            .number(step.now.as_millis())
            .number(step.idle_until.as_millis())
            .arg(row::device(&step.device));
        let row = op.write(&guarded(call, step.guard)).await?;
        let row = op.value(answer::optional_text(row))?;
        op.value(row.map(|row| row::read(&key.user_id, key.id, &row)).transpose())
    }

    async fn heal(&self, key: &UserSession, step: &Heal) -> Result<bool, StoreError> {
        let op = self.op("heal the session");
        let call = HEAL
            .on(self.row_and_log(&key.user_id))
            .number(key.id)
            .number(step.generation.as_u32())
            .number(step.issued_at.as_millis())
            .number(step.heals)
            .number(step.now.as_millis())
            .number(step.idle_until.as_millis());
        let healed = op.write(&call).await?;
        op.value(answer::yes(&healed))
    }

    async fn acknowledge(&self, seen: &[Acknowledgement], at: Timestamp) -> Result<(), StoreError> {
        let op = self.op("acknowledge generations");
        op.all(async {
            for seen in seen.chunks(ACKNOWLEDGE_STEP) {
                let mut call = ACKNOWLEDGE.on([]).number(at.as_millis());
                for seen in seen {
                    call = call
                        .key(self.names.sessions(seen.user_id.as_str()))
                        .number(seen.session_id)
                        .number(seen.generation.as_u32());
                }
                op.write(&call).await?;
            }
            Ok(())
        })
        .await
    }

    async fn end_session(&self, key: &UserSession, end: &End) -> Result<SessionEnded, StoreError> {
        let op = self.op("end the session");
        let target = Target::Session { user_id: key.user_id.clone(), id: key.id };
        let line = Line::from(&Entry { target, until: end.until, at: end.at });
        let call = END_SESSION
            .on(self.names.whole_log(&line.user_id))
            .key(self.names.sessions(&line.user_id))
            .key(self.names.live(&line.user_id))
            .number(key.id)
            .arg(line.key)
            .number(end.until.as_millis())
            .number(end.at.as_millis())
            .arg(row::mark(Ended { at: end.at, reason: end.reason }));
        let answer = op.write(&self.announcing(call)).await?;
        op.value(answer::text(answer).and_then(|answer| match answer.as_str() {
            "now" => Ok(SessionEnded::Now),
            "before" => Ok(SessionEnded::Before),
            "unknown" => Ok(SessionEnded::Unknown),
            _ => Err(Failure::Malformed("an answer")),
        }))
    }

    async fn live_sessions(
        &self,
        user_id: &UserId,
        now: Timestamp,
        page: SessionPage,
    ) -> Result<Vec<Session>, StoreError> {
        let op = self.op("list the user's sessions");
        op.all(async {
            let _turn = op.value(self.lists.acquire().await.map_err(|_| Failure::Deadline))?;
            let [sessions, log, epochs] = self.row_and_log(user_id);
            let keys = [sessions, self.names.live(user_id.as_str()), log, epochs];
            let latest = page
                .after
                .map_or_else(|| "+inf".to_owned(), |after| after.created_at.as_millis().to_string());
            let (mut offset, mut skip) = (0, page.skip);
            let mut listed = Vec::new();
            while listed.len() < page.limit {
                let wanted = skip.saturating_add(page.limit - listed.len()).min(LIST_STEP);
                let call = LIVE_SESSIONS.on(keys.clone()).arg(latest.as_str()).number(offset).number(wanted);
                let found = op.read(&call).await?;
                let (looked_at, live) = op.value(read_live(user_id, now, found))?;
                // Sessions of the same moment that were in the previous page are returned again, and are left out here.
                for session in
                    live.into_iter().filter(|live| page.after.is_none_or(|after| is_after(live, after)))
                {
                    match skip.checked_sub(1) {
                        Some(left) => skip = left,
                        None if listed.len() < page.limit => listed.push(session),
                        None => {}
                    }
                }
                if looked_at < wanted {
                    break;
                }
                offset += looked_at;
            }
            Ok(listed)
        })
        .await
    }

    async fn purge_sessions(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        let op = self.op("purge sessions");
        op.all(async {
            let mut purged = 0_u64;
            let mut left = limit;
            while left > 0 {
                let at_most = left.min(PURGE_STEP);
                let mut command = redis::cmd("ZRANGEBYSCORE");
                command
                    .arg(self.names.sessions_by_until())
                    .arg("-inf")
                    .arg(format!("({}", before.as_millis()));
                command.arg("LIMIT").arg(0).arg(at_most);
                let expired = op.value(answer::list(op.query(&command).await?))?;
                if expired.is_empty() {
                    break;
                }
                let (found, mut call) = (
                    expired.len(),
                    PURGE_SESSIONS.on([self.names.sessions_by_until()]).number(before.as_millis()),
                );
                for member in expired {
                    let member = op.value(answer::text(member))?;
                    let (user_id, id) = op.value(session_of_member(&member))?;
                    call = call.key(self.names.sessions(user_id)).key(self.names.live(user_id));
                    call = call.arg(member.as_str()).arg(id);
                }
                let gone = op.write(&call).await?;
                purged = purged.saturating_add(op.value(answer::count(&gone))?);
                left -= at_most;
                if found < at_most {
                    break;
                }
            }
            Ok(purged)
        })
        .await
    }
}

impl RedisStore {
    fn row_and_log(&self, user_id: &UserId) -> [String; 3] {
        let user_id = user_id.as_str();
        [self.names.sessions(user_id), self.names.user_log(user_id), self.names.epochs(user_id)]
    }
}

fn guarded(call: Call, guard: AdvanceCondition) -> Call {
    match guard {
        AdvanceCondition::Generation => call.arg("generation"),
        AdvanceCondition::IssuedAt(issued_at) => call.arg("issued_at").number(issued_at.as_millis()),
        AdvanceCondition::OutsideReserve { leeway, grace } => {
            // Expiries are capped at the latest time, so that the scripts' numbers can hold them.
            let millis = |duration| (Timestamp::MIN + duration).as_millis();
            call.arg("outside_reserve").number(millis(leeway)).number(millis(grace))
        }
    }
}

fn read_found(key: &UserSession, found: Value) -> Result<FoundSession, Failure> {
    let [row, summary, ended] = answer::exactly(found)?;
    let epoch = match answer::optional_text(summary)? {
        Some(summary) => Epochs::read(&summary)?.for_session(&key.id.to_string()),
        None => Epoch::FIRST,
    };
    let session = row::read(&key.user_id, key.id, &answer::text(row)?)?;
    Ok(FoundSession { session, log: LogVerdict { ended: answer::yes(&ended)?, epoch } })
}

fn is_after(session: &Session, position: SessionPosition) -> bool {
    SessionPosition::from(session) < position
}

/// The number of sessions that a script has looked at, and those of them that are live, newest first.
fn read_live(user_id: &UserId, now: Timestamp, found: Value) -> Result<(usize, Vec<Session>), Failure> {
    let mut found = answer::list(found)?.into_iter();
    let summary = answer::optional_text(found.next().unwrap_or(Value::Nil))?;
    let epochs = summary.as_deref().map(Epochs::read).transpose()?;
    let (mut looked_at, mut live) = (0, Vec::new());
    while let (Some(id), Some(row), Some(is_ended)) = (found.next(), found.next(), found.next()) {
        looked_at += 1;
        let (id, row) = (answer::text(id)?, answer::text(row)?);
        let epoch = epochs.as_ref().map_or(Epoch::FIRST, |epochs| epochs.for_session(&id));
        let id: SessionId = parsed("session", id.parse())?;
        let session = row::read(user_id, id, &row)?;
        if session.is_live(now) && !answer::yes(&is_ended)? && epoch <= session.epoch {
            live.push(session);
        }
    }
    Ok((looked_at, live))
}

/// The summary of a user's `user` entries.
#[derive(Debug)]
pub(crate) struct Epochs {
    /// The highest epoch.
    pub(crate) highest: Epoch,
    /// The session that the highest epoch excepts, or `-`.
    except: String,
    /// The highest epoch among the entries that except another session, or none.
    other: Epoch,
}

impl Epochs {
    pub(crate) fn read(summary: &str) -> Result<Self, Failure> {
        const WHAT: &str = "epochs";
        let mut parts = summary.split(' ');
        let (Some(highest), Some(except), Some(other), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Failure::Malformed(WHAT));
        };
        Ok(Self {
            highest: Epoch::new(number(WHAT, highest)?),
            except: except.to_owned(),
            other: Epoch::new(number(WHAT, other)?),
        })
    }

    /// The highest epoch among the entries that do not except this session.
    fn for_session(&self, id: &str) -> Epoch {
        if self.except != NONE && self.except == id { self.other } else { self.highest }
    }
}
