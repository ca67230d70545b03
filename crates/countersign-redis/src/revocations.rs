//! The revocation log.

use async_trait::async_trait;
use countersign_core::model::{Ended, Entry, Target};
use countersign_core::store::{
    Changes, EpochRaise, RevocationStore, StoreError, TokenRevocation, TokensRevoked,
};
use countersign_jwt::{Epoch, Timestamp, UserId};
use redis::Value;

use crate::failure::Failure;
use crate::layout::{self, Line, NONE};
use crate::script::{INSERT_ENTRY, MARK_REST, PURGE_ENTRIES, RAISE_EPOCH, REVOKE_TOKENS};
use crate::sessions::Epochs;
use crate::store::{Op, RedisStore};
use crate::text::{number, time};
use crate::{answer, row};

/// The number of entries that one script purges, about a millisecond of work.
const PURGE_STEP: usize = 200;
/// The number of sessions that one script marks as ended, about a millisecond of work.
const MARK_STEP: u64 = 200;
/// The number of pages of young entries that are read at once and sorted. Where there are more, it is cheaper to read
/// the whole log in order and leave out the old entries.
const YOUNG_PAGES: usize = 2;

#[async_trait]
impl RevocationStore for RedisStore {
    fn is_one_copy(&self) -> bool {
        // A replica that takes over may lack what was written last.
        false
    }

    fn changes(&self) -> Option<Changes> {
        Some(self.changed.subscribe())
    }

    async fn time(&self) -> Result<Option<Timestamp>, StoreError> {
        self.server_time().await.map(Some)
    }

    async fn epoch(&self, user_id: &UserId) -> Result<Epoch, StoreError> {
        let op = self.op("read the user's epoch");
        let mut command = redis::cmd("HGET");
        command.arg(self.names.epochs(user_id.as_str())).arg("e");
        let summary = op.query(&command).await?;
        op.value(answer::optional_text(summary).and_then(|summary| match summary {
            Some(summary) => Ok(Epochs::read(&summary)?.highest),
            None => Ok(Epoch::FIRST),
        }))
    }

    async fn epoch_raised_at(&self, user_id: &UserId) -> Result<Option<Timestamp>, StoreError> {
        let op = self.op("read when the user's epoch was raised");
        let mut command = redis::cmd("HGETALL");
        command.arg(self.names.epochs(user_id.as_str()));
        let log = op.query(&command).await?;
        op.value(read_raised_at(log))
    }

    async fn raise_epoch(&self, user_id: &UserId, raise: &EpochRaise) -> Result<Entry, StoreError> {
        const ACTION: &str = "raise the user's epoch";
        let op = self.op(ACTION);
        let (sessions, live) = (self.names.sessions(user_id.as_str()), self.names.live(user_id.as_str()));
        let mark = row::mark(Ended { at: raise.at, reason: raise.reason });
        let except = raise.except.map_or_else(|| NONE.to_owned(), |id| id.to_string());
        let call = RAISE_EPOCH
            .on(self.names.whole_log(user_id.as_str()))
            .key(sessions.clone())
            .key(live.clone())
            .arg(layout::key_text(user_id.as_str(), "u"))
            .number(raise.until.as_millis())
            .number(raise.at.as_millis())
            .arg(except.as_str())
            .arg(mark.as_str())
            .number(MARK_STEP)
            .number(raise.forgets_before().as_millis());
        let raised = op.write(&self.announcing(call)).await?;
        let [epoch, at, mut marked] = op.value(answer::exactly(raised))?;
        let digits = op.value(answer::text(epoch))?;
        let epoch = Epoch::new(op.value(number("epochs", &digits))?);
        let at = op.value(answer::text(at).and_then(|at| time("epochs", &at)))?;
        // Further sessions are marked in scripts of their own, so that other commands run in between. The log has
        // already ended them.
        while op.value(answer::count(&marked))? == MARK_STEP {
            let rest =
                MARK_REST.on([sessions.clone(), live.clone()]).arg(digits.as_str()).arg(except.as_str());
            match self.op(ACTION).write(&rest.arg(mark.as_str()).number(MARK_STEP)).await {
                Ok(more) => marked = more,
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::debug!(error, "could not mark all sessions that the log has ended");
                    break;
                }
            }
        }
        let target = Target::User { user_id: user_id.clone(), epoch, except: raise.except };
        Ok(Entry { target, until: raise.until, at })
    }

    async fn revoke_tokens(
        &self,
        user_id: &UserId,
        tokens: &TokenRevocation,
    ) -> Result<TokensRevoked, StoreError> {
        let op = self.op("revoke tokens");
        let call = REVOKE_TOKENS
            .on(self.names.whole_log(user_id.as_str()))
            .number(tokens.until.as_millis())
            .number(tokens.at.as_millis())
            .number(tokens.limit)
            .arg(layout::key_text(user_id.as_str(), "t"));
        let mut call = self.announcing(call);
        for id in &tokens.ids {
            call = call.number(id);
        }
        let free_at = op.write(&call).await?;
        op.value(answer::optional_text(free_at).and_then(|free_at| match free_at {
            Some(free_at) => Ok(TokensRevoked::TooMany { free_at: time("log", &free_at)? }),
            None => Ok(TokensRevoked::Yes),
        }))
    }

    async fn insert_entry(&self, entry: &Entry) -> Result<(), StoreError> {
        let op = self.op("insert into the revocation log");
        let line = Line::from(entry);
        let call = INSERT_ENTRY
            .on(self.names.whole_log(&line.user_id))
            .arg(line.field)
            .arg(line.key)
            .number(entry.until.as_millis())
            .number(entry.at.as_millis())
            .arg(line.except);
        // A heartbeat is for the node itself, and is read back on the same connection.
        if matches!(entry.target, Target::Node { .. }) {
            op.run_beside(&call).await?;
        } else {
            op.write(&self.announcing(call)).await?;
        }
        Ok(())
    }

    async fn entries(
        &self,
        since: Timestamp,
        after: Option<&Entry>,
        limit: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        let op = self.op("read the revocation log");
        op.all(async {
            if limit == 0 {
                return Ok(Vec::new());
            }
            let after = after.map(|after| layout::after(&after.key()));
            if since == Timestamp::MIN {
                return self.page(op, after.as_deref(), limit).await;
            }
            let most_young = limit.saturating_mul(YOUNG_PAGES);
            match self.young(op, since, after.as_deref(), limit, most_young).await? {
                Some(entries) => Ok(entries),
                None => self.pages_since(op, since, after, limit).await,
            }
        })
        .await
    }

    async fn purge_entries(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        let op = self.op("purge the revocation log");
        op.all(async {
            let mut purged = 0_usize;
            // These entries must stay, because the rows of their sessions are not marked.
            let mut staying = 0_usize;
            while purged < limit {
                let at_most = PURGE_STEP.min(limit.saturating_sub(purged));
                let mut command = redis::cmd("ZRANGEBYSCORE");
                command.arg(self.names.log_by_until()).arg("-inf").arg(format!("({}", before.as_millis()));
                command.arg("LIMIT").arg(staying).arg(at_most);
                let old = op.value(answer::list(op.query(&command).await?))?;
                if old.is_empty() {
                    break;
                }
                let keys = [self.names.log(), self.names.log_by_at(), self.names.log_by_until()];
                let (found, mut call) = (old.len(), PURGE_ENTRIES.on(keys).number(before.as_millis()));
                for member in old {
                    let member = op.value(answer::text(member))?;
                    let (user_id, field) = op.value(layout::line_of_member(&member))?;
                    call = call
                        .key(self.names.hash_of(user_id, field))
                        .key(self.names.sessions(user_id))
                        .key(self.names.tokens(user_id))
                        .arg(member.as_str())
                        .arg(field);
                }
                let gone = op.write(&call).await?;
                let gone = usize::try_from(op.value(answer::count(&gone))?).unwrap_or(found).min(found);
                purged = purged.saturating_add(gone);
                staying = staying.saturating_add(found.saturating_sub(gone));
                if found < at_most {
                    break;
                }
            }
            Ok(purged as u64)
        })
        .await
    }
}

impl RedisStore {
    /// A page of the whole log.
    async fn page(&self, op: Op<'_>, after: Option<&str>, limit: usize) -> Result<Vec<Entry>, StoreError> {
        let mut command = redis::cmd("ZRANGEBYLEX");
        command.arg(self.names.log()).arg(after.unwrap_or("-")).arg("+").arg("LIMIT").arg(0).arg(limit);
        let page = op.query_beside(&command).await?;
        op.value(answer::list(page).and_then(|page| page.into_iter().map(read_entry).collect()))
    }

    /// A page of the young entries; `None` if there are too many of them to sort.
    async fn young(
        &self,
        op: Op<'_>,
        since: Timestamp,
        after: Option<&str>,
        limit: usize,
        most: usize,
    ) -> Result<Option<Vec<Entry>>, StoreError> {
        let since = since.as_millis();
        let mut command = redis::cmd("ZRANGEBYSCORE");
        command.arg(self.names.log_by_at()).arg(since).arg("+inf");
        command.arg("LIMIT").arg(0).arg(most.saturating_add(1));
        let young = op.query_beside(&command).await?;
        let young = op.value(answer::list(young))?;
        if young.len() > most {
            return Ok(None);
        }
        op.value(page_of(young, after, limit)).map(Some)
    }

    /// A page of the entries since a time, found by reading the whole log.
    async fn pages_since(
        &self,
        op: Op<'_>,
        since: Timestamp,
        mut after: Option<String>,
        limit: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        let mut entries = Vec::new();
        loop {
            let page = self.page(op, after.as_deref(), limit).await?;
            let is_last = page.len() < limit;
            after = page.last().map(|entry| layout::after(&entry.key()));
            entries.extend(page.into_iter().filter(|entry| entry.at >= since));
            entries.truncate(limit);
            if is_last || entries.len() == limit {
                return Ok(entries);
            }
        }
    }
}

/// The members after a place in the order, at most `limit` of them.
fn page_of(members: Vec<Value>, after: Option<&str>, limit: usize) -> Result<Vec<Entry>, Failure> {
    let mut members: Vec<String> = members.into_iter().map(answer::text).collect::<Result<_, _>>()?;
    if let Some(after) = after.and_then(|after| after.strip_prefix('(')) {
        members.retain(|member| member.as_str() > after);
    }
    members.sort_unstable();
    members.truncate(limit);
    members.iter().map(|member| layout::entry_of_member(member)).collect()
}

fn read_entry(member: Value) -> Result<Entry, Failure> {
    layout::entry_of_member(&answer::text(member)?)
}

/// The latest `at` of the user's `user` entries.
fn read_raised_at(log: Value) -> Result<Option<Timestamp>, Failure> {
    let mut raised_at = None;
    for (field, value) in answer::pairs(log)? {
        if field.starts_with('u') {
            let value = answer::text(value)?;
            let at = value.split(' ').nth(1).ok_or(Failure::Malformed("log"))?;
            raised_at = raised_at.max(Some(time("log", at)?));
        }
    }
    Ok(raised_at)
}
