//! The way out of the outbox.

use std::sync::Arc;
use std::time::Duration;

use countersign_core::model::{AfterFailure, OutboxMail, OutboxState};
use countersign_core::store::{MailFailure, OutboxStore, StoreError};
use countersign_jwt::time::Clock;
use countersign_jwt::{Secrets, Timestamp};
use tokio::time::timeout;

use crate::mailer::open;
use crate::message::one_line;
use crate::{Message, SendError, Sender, Transport};

/// Sends what is in the outbox. Any number of nodes do so at once: each mail is claimed by one of them.
///
/// A background task calls [`Postman::send_due`] every few seconds, and at once after a mail was put in. Nothing waits for
/// it, so a dead mail server blocks nobody, and it loses nothing: the mails wait. A mail is sent at least once; if a node
/// dies between sending a mail and noting it, another one sends it again, with the same `Message-ID`.
///
/// ```
/// # use std::sync::Arc;
/// # use countersign_core::store::MemoryStore;
/// # use countersign_jwt::{Secret, Secrets};
/// # use countersign_testkit::FixedClock;
/// use countersign_mail::{Log, Postman};
///
/// # let secret: Vec<u8> = (0..32).map(|byte| byte * 7).collect();
/// # let (clock, outbox) = (Arc::new(FixedClock::default()), Arc::new(MemoryStore::new()));
/// # let secrets = Secrets::new(vec![Secret::new(secret)?])?;
/// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
/// let sender = "Example <no-reply@example.com>".parse()?;
/// let postman = Postman::new(outbox, Arc::new(Log::new()), secrets, sender, clock);
/// let round = postman.send_due(100).await?;
/// assert_eq!(round.sent, 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Postman {
    outbox: Arc<dyn OutboxStore>,
    transport: Arc<dyn Transport>,
    secrets: Secrets,
    sender: Sender,
    clock: Arc<dyn Clock>,
}

/// What became of the mails of one call of [`Postman::send_due`].
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Round {
    /// The mails that were sent.
    pub sent: usize,
    /// The mails that wait for their next attempt.
    pub waiting: usize,
    /// The mails that became dead letters.
    pub dead: usize,
    /// The mails that were removed unsent, because their link has expired or will have.
    pub dropped: usize,
    /// Whether the mail server could not be used, so that the round ended before all due mails were tried.
    pub is_unavailable: bool,
}

impl Round {
    const fn tried(&self) -> usize {
        self.sent + self.waiting + self.dead + self.dropped
    }
}

impl Postman {
    /// The longest that a transport may take for one mail. After it the attempt has failed.
    pub const DEADLINE: Duration = Duration::from_secs(60);
    /// The time for which a claimed mail belongs to its node. It is longer than an attempt can take.
    pub const LEASE: Duration = Duration::from_secs(300);

    /// A postman that carries from this outbox to this transport. `secrets` are those that the mails were sealed with,
    /// and `clock` is the one that they were written by.
    #[must_use]
    pub fn new(
        outbox: Arc<dyn OutboxStore>,
        transport: Arc<dyn Transport>,
        secrets: Secrets,
        sender: Sender,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { outbox, transport, secrets, sender, clock }
    }

    /// Tries the mails that are due, one after the other and each once, `limit` at most. It ends early when the mail
    /// server cannot be used, because every other mail would fail too; the others stay due.
    ///
    /// # Errors
    /// [`StoreError`] when the outbox cannot answer. A mail whose sending could not be noted is due again after
    /// [`Postman::LEASE`].
    pub async fn send_due(&self, limit: usize) -> Result<Round, StoreError> {
        let mut round = Round::default();
        let outcome = self.carry(&mut round, limit).await;
        if round.tried() > 0 {
            self.transport.rest().await;
        }
        outcome.map(|()| round)
    }

    async fn carry(&self, round: &mut Round, limit: usize) -> Result<(), StoreError> {
        while round.tried() < limit && !round.is_unavailable {
            // Mails are claimed one by one, so that those behind a server that hangs stay free for other nodes.
            let now = self.clock.now();
            let Some(mail) = self.outbox.claim_mail(now, now + Self::LEASE, 1).await?.pop() else { break };
            if mail.is_useless(now) {
                self.drop_useless(&mail, round).await?;
                continue;
            }
            match self.attempt(&mail).await {
                Ok(()) => {
                    let _there = self.outbox.remove_mail(mail.id).await?;
                    round.sent += 1;
                    count("sent");
                    tracing::info!(id = %mail.id, kind = mail.kind, attempts = mail.attempts, "mail sent");
                }
                Err(error) => self.failed(&mail, &error, round).await?,
            }
        }
        Ok(())
    }

    async fn attempt(&self, mail: &OutboxMail) -> Result<(), SendError> {
        // A node with another secret must not bury the mails of the others, so it is no permanent failure.
        let content = open(mail, &self.secrets).ok_or_else(|| SendError::Deferred {
            reply: "the mail was sealed with a secret that this server does not have, or was changed"
                .to_owned(),
        })?;
        let message = Message::new(mail.id, self.sender.clone(), mail.to.clone(), content, mail.created_at);
        match timeout(Self::DEADLINE, self.transport.send(&message)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(SendError::unavailable(format!("no answer within {} s", Self::DEADLINE.as_secs()))),
        }
    }

    async fn failed(
        &self,
        mail: &OutboxMail,
        error: &SendError,
        round: &mut Round,
    ) -> Result<(), StoreError> {
        let now = self.clock.now();
        round.is_unavailable = error.concerns_all();
        let then = match mail.after_failure(error.is_permanent(), now) {
            AfterFailure::Keep(state) => state,
            AfterFailure::Drop => {
                tell_failure(mail, error, "its link expires before the next attempt; the mail is dropped");
                return self.drop_useless(mail, round).await;
            }
        };
        let failure = MailFailure {
            id: mail.id,
            attempts: mail.attempts,
            then,
            error: one_line(&error.to_string(), OutboxMail::MAX_ERROR_CHARS),
        };
        // If another node has claimed the mail meanwhile, its outcome counts.
        let _noted = self.outbox.fail_mail(&failure).await?;
        match then {
            OutboxState::Waiting { next_at } => {
                round.waiting += 1;
                count("waiting");
                tell_failure(mail, error, &format!("next attempt in {} s", next_at.since(now).as_secs()));
            }
            OutboxState::Dead { .. } => {
                round.dead += 1;
                count("dead");
                tell_failure(mail, error, "the mail is a dead letter now");
            }
        }
        Ok(())
    }

    async fn drop_useless(&self, mail: &OutboxMail, round: &mut Round) -> Result<(), StoreError> {
        let _there = self.outbox.remove_mail(mail.id).await?;
        round.dropped += 1;
        count("dropped");
        tracing::warn!(
            id = %mail.id,
            kind = mail.kind,
            attempts = mail.attempts,
            waited_secs = self.since_written(mail).as_secs(),
            "a mail was dropped unsent, because its link has expired"
        );
        Ok(())
    }

    fn since_written(&self, mail: &OutboxMail) -> Duration {
        let now: Timestamp = self.clock.now();
        now.since(mail.created_at)
    }
}

/// Logs a failure. What a server says of one message may name the recipient, so that stays in the outbox.
fn tell_failure(mail: &OutboxMail, error: &SendError, consequence: &str) {
    let problem = match error {
        SendError::Unavailable { problem } => problem.as_str(),
        SendError::Refused { .. } => "the mail server refuses the message (its answer is in the outbox)",
        SendError::Deferred { .. } => "the message cannot be sent now (the reason is in the outbox)",
    };
    tracing::warn!(
        id = %mail.id,
        kind = mail.kind,
        attempts = mail.attempts,
        problem,
        consequence,
        "mail not sent"
    );
}

fn count(outcome: &'static str) {
    metrics::counter!("countersign_mails_total", "outcome" => outcome).increment(1);
}

#[cfg(test)]
mod tests;
