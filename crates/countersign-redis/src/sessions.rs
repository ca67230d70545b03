//! Sessions. The conditions in Lua are those of [`Advance::applies`], [`Heal::applies`] and
//! [`Acknowledgement::applies`], word for word.

use std::cmp::Reverse;
use std::collections::HashMap;

use async_trait::async_trait;
use countersign_core::revocation::{Entry, Target};
use countersign_core::session::{
    Acknowledgement, Advance, Ended, Guard, Heal, LogStanding, Session, SessionKey,
};
use countersign_core::store::{End, FoundSession, SessionEnded, SessionInserted, SessionStore, StoreError};
use countersign_core::{Epoch, SessionId, Timestamp, UserId};
use redis::Value;

use crate::failure::Failure;
use crate::layout::{Line, NONE, digits, session_member, session_of_member};
use crate::script::{
    ACKNOWLEDGE, ADVANCE, Call, END_SESSION, HEAL, INSERT_SESSION, LIVE_SESSIONS, PURGE_SESSIONS, SESSION,
};
use crate::store::RedisStore;
use crate::text::{number, parsed};
use crate::{answer, row};

/// How many acknowledgements one script carries, so that it does not hold up the others.
const ACKNOWLEDGE_STEP: usize = 200;
/// How many sessions one script purges: about a millisecond of work.
const PURGE_STEP: usize = 200;

#[async_trait]
impl SessionStore for RedisStore {
    async fn insert_session(&self, session: &Session) -> Result<SessionInserted, StoreError> {
        let op = self.op("insert the session");
        let user_id = session.user_id.as_str();
        let keys =
            [self.names.sessions(user_id), self.names.user_log(user_id), self.names.sessions_by_until()];
        let call = INSERT_SESSION
            .on(keys)
            .number(session.id)
            .arg(row::write(session))
            .arg(digits(session.epoch))
            .arg(session_member(&session.user_id, session.id))
            .number(session.absolute_until.as_millis());
        let answer = op.write(&call).await?;
        op.value(answer::text(answer).and_then(|answer| match answer.as_str() {
            "yes" => Ok(SessionInserted::Yes),
            "taken" => Ok(SessionInserted::Taken),
            "epoch" => Ok(SessionInserted::EpochRaised),
            _ => Err(Failure::Malformed("an answer")),
        }))
    }

    async fn session(&self, key: &SessionKey) -> Result<Option<FoundSession>, StoreError> {
        let op = self.op("read the session");
        let found = op.read(&SESSION.on(self.row_and_log(&key.user_id)).number(key.id)).await?;
        op.value(match found {
            Value::Nil => Ok(None),
            found => read_found(key, found).map(Some),
        })
    }

    async fn advance(&self, key: &SessionKey, step: &Advance) -> Result<Option<Session>, StoreError> {
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

    async fn heal(&self, key: &SessionKey, step: &Heal) -> Result<bool, StoreError> {
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

    async fn end_session(&self, key: &SessionKey, end: &End) -> Result<SessionEnded, StoreError> {
        let op = self.op("end the session");
        let target = Target::Session { user_id: key.user_id.clone(), id: key.id };
        let line = Line::from(&Entry { target, until: end.until, at: end.at });
        let call = END_SESSION
            .on(self.names.whole_log(&line.user_id))
            .key(self.names.sessions(&line.user_id))
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

    async fn live_sessions(&self, user_id: &UserId, now: Timestamp) -> Result<Vec<Session>, StoreError> {
        let op = self.op("list the user's sessions");
        let found = op.read(&LIVE_SESSIONS.on(self.row_and_log(user_id))).await?;
        op.value(read_live(user_id, now, found))
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
                    call = call.key(self.names.sessions(user_id)).arg(member.as_str()).arg(id);
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
    fn row_and_log(&self, user_id: &UserId) -> [String; 2] {
        [self.names.sessions(user_id.as_str()), self.names.user_log(user_id.as_str())]
    }
}

fn guarded(call: Call, guard: Guard) -> Call {
    match guard {
        Guard::Generation => call.arg("generation"),
        Guard::IssuedAt(issued_at) => call.arg("issued_at").number(issued_at.as_millis()),
        Guard::OutsideReserve { leeway, grace } => {
            // Capped at the latest time, so that the scripts' numbers hold them.
            let millis = |duration| (Timestamp::MIN + duration).as_millis();
            call.arg("outside_reserve").number(millis(leeway)).number(millis(grace))
        }
    }
}

fn read_found(key: &SessionKey, found: Value) -> Result<FoundSession, Failure> {
    let [row, summary, ended] = answer::exactly(found)?;
    let epoch = match answer::optional_text(summary)? {
        Some(summary) => Epochs::read(&summary)?.for_session(&key.id.to_string()),
        None => Epoch::FIRST,
    };
    let session = row::read(&key.user_id, key.id, &answer::text(row)?)?;
    Ok(FoundSession { session, log: LogStanding { ended: answer::yes(&ended)?, epoch } })
}

fn read_live(user_id: &UserId, now: Timestamp, found: Value) -> Result<Vec<Session>, Failure> {
    let [rows, log] = answer::exactly(found)?;
    let log: HashMap<String, Value> = answer::pairs(log)?.into_iter().collect();
    let epochs = match log.get("e") {
        Some(summary) => Some(Epochs::read(&answer::text(summary.clone())?)?),
        None => None,
    };
    let mut live = Vec::new();
    for (id, row) in answer::pairs(rows)? {
        let is_ended = log.contains_key(&format!("s{id}"));
        let epoch = epochs.as_ref().map_or(Epoch::FIRST, |epochs| epochs.for_session(&id));
        let id: SessionId = parsed("session", id.parse())?;
        let session = row::read(user_id, id, &answer::text(row)?)?;
        if session.is_live(now) && !is_ended && epoch <= session.epoch {
            live.push(session);
        }
    }
    live.sort_by_key(|session| Reverse((session.created_at, session.id)));
    Ok(live)
}

/// What a user's `user` entries come to.
#[derive(Debug)]
pub(crate) struct Epochs {
    /// The highest.
    pub(crate) highest: Epoch,
    /// The session that it excepts, or `-`.
    except: String,
    /// The highest of those that except another session, or none.
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

    /// The highest of the entries that do not except this session.
    fn for_session(&self, id: &str) -> Epoch {
        if self.except != NONE && self.except == id { self.other } else { self.highest }
    }
}
