//! From a notice to the record in the outbox.

use std::sync::Arc;

use arc_swap::ArcSwap;
use countersign_core::model::{EmailAddress, OutboxMail, OutboxState};
use countersign_jwt::random::{self, Random, RandomError};
use countersign_jwt::seal::SealError;
use countersign_jwt::{Secrets, Timestamp, UserId};
use uuid::Uuid;

use crate::{Content, Language, Letterhead, MailTemplates, Notice, TemplateError};

/// Writes mails for the outbox: rendered and sealed, so that the store never holds a one-time secret in the clear.
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
///
/// use countersign_core::model::EmailAddress;
/// use countersign_core::store::{MemoryStore, OutboxStore};
/// use countersign_jwt::{Secret, Secrets, Timestamp};
/// use countersign_mail::{Language, Letterhead, Links, Mailer, Notice, Recipient, MailTemplates};
/// # use countersign_testkit::SeededRandom;
///
/// # let random = SeededRandom::default();
/// # let secret: Vec<u8> = (0..32).map(|byte| byte * 7).collect();
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// let links = Links::new("https://auth.example.com")?;
/// let secrets = Secrets::new(vec![Secret::new(secret)?])?;
/// let mailer =
///     Mailer::new(MailTemplates::built_in(), Letterhead::new("Example", &links), secrets, Arc::new(random));
///
/// let notice =
///     Notice::ResetPassword { link: links.reset("s3cret"), expires_in: Duration::from_secs(3600) };
/// let recipient = Recipient {
///     address: EmailAddress::parse("ada@example.net")?,
///     user_id: None,
///     language: Language::choose(None, Some("de-AT, en;q=0.5")),
/// };
/// let mail = mailer.write(&notice, recipient, Timestamp::from_secs(1_769_860_800))?;
/// MemoryStore::new().enqueue_mail(&mail).await?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Mailer {
    templates: Arc<ArcSwap<MailTemplates>>,
    letterhead: Letterhead,
    secrets: Secrets,
    random: Arc<dyn Random>,
}

/// The reader of a mail.
#[derive(Clone, Debug)]
pub struct Recipient {
    /// The address that the mail goes to.
    pub address: EmailAddress,
    /// The user that the mail concerns; `None` if there is no account.
    pub user_id: Option<UserId>,
    /// The language that the mail is written in.
    pub language: Language,
}

/// The reason why a mail could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// A template failed.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The mail could not be sealed.
    #[error("the mail could not be sealed")]
    Seal(#[from] SealError),
    /// The source of randomness failed.
    #[error(transparent)]
    Random(#[from] RandomError),
}

impl Mailer {
    /// A writer with these templates, for this site, that seals with these secrets.
    #[must_use]
    pub fn new(
        templates: MailTemplates,
        letterhead: Letterhead,
        secrets: Secrets,
        random: Arc<dyn Random>,
    ) -> Self {
        Self { templates: Arc::new(ArcSwap::from_pointee(templates)), letterhead, secrets, random }
    }

    /// Writes with these templates from now on, as do the clones of this writer.
    pub fn renew_templates(&self, templates: MailTemplates) {
        self.templates.store(Arc::new(templates));
    }

    /// Writes a mail that is due at once. [`OutboxStore`](countersign_core::store::OutboxStore) takes it; nothing is sent
    /// yet. A mail with a link or a code is useless from the time on at which these expire.
    ///
    /// # Errors
    /// [`WriteError`] if rendering or sealing fails.
    pub fn write(
        &self,
        notice: &Notice,
        recipient: Recipient,
        now: Timestamp,
    ) -> Result<OutboxMail, WriteError> {
        let Recipient { address, user_id, language } = recipient;
        let content = self.templates.load().render(notice, language, &self.letterhead)?;
        let id = random::uuid(&*self.random)?;
        Ok(OutboxMail {
            id,
            sealed: seal(&content, id, &address, &self.secrets, &*self.random)?,
            to: address,
            kind: notice.kind().to_owned(),
            user_id,
            created_at: now,
            useless_after: notice.expires_in().map(|expires_in| now + expires_in),
            attempts: 0,
            state: OutboxState::Waiting { next_at: now },
            last_error: None,
        })
    }
}

fn seal(
    content: &Content,
    id: Uuid,
    to: &EmailAddress,
    secrets: &Secrets,
    random: &dyn Random,
) -> Result<Vec<u8>, SealError> {
    let json = serde_json::to_vec(content).expect("a mail's content is texts");
    secrets.seal(&context(id, to), &json, random)
}

/// What a mail of the outbox says. `None` if it was sealed with another secret, or for another mail or address.
pub(crate) fn open(mail: &OutboxMail, secrets: &Secrets) -> Option<Content> {
    let json = secrets.open(&context(mail.id, &mail.to), &mail.sealed).ok()?;
    serde_json::from_slice(&json).ok()
}

/// What a sealed mail is bound to: its record, and its recipient, so that whoever can write into the store cannot have
/// the link sent to another address.
fn context(id: Uuid, to: &EmailAddress) -> String {
    format!("outbox/{}/{}", id.hyphenated(), to.as_str())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use countersign_jwt::Secret;
    use countersign_testkit::{FailingRandom, SeededRandom};

    use super::*;
    use crate::Links;

    const NOW: Timestamp = Timestamp::from_secs(1_769_860_800);

    fn secrets(first: u8) -> Secrets {
        Secrets::new(vec![Secret::new((first..first + 40).collect()).unwrap()]).unwrap()
    }

    fn mailer(random: Arc<dyn Random>) -> Mailer {
        let letterhead = Letterhead::new("Example", &Links::new("https://x.example").unwrap());
        Mailer::new(MailTemplates::built_in(), letterhead, secrets(1), random)
    }

    fn recipient() -> Recipient {
        let address = EmailAddress::parse("ada@example.net").unwrap();
        Recipient { address, user_id: Some(Uuid::from_u128(7).into()), language: Language::English }
    }

    fn reset() -> Notice {
        let link = "https://x.example/reset?token=s3cret".to_owned();
        Notice::ResetPassword { link, expires_in: Duration::from_secs(3_600) }
    }

    #[test]
    fn sec_138_the_store_does_not_hold_the_link_in_the_clear() {
        let mail = mailer(Arc::new(SeededRandom::default())).write(&reset(), recipient(), NOW).unwrap();
        let shown = format!("{mail:?} {}", String::from_utf8_lossy(&mail.sealed));
        assert!(!shown.contains("s3cret"), "{shown}");
        assert!(open(&mail, &secrets(1)).unwrap().text().contains("https://x.example/reset?token=s3cret"));
        assert_eq!(mail.useless_after, Some(NOW + Duration::from_secs(3_600)));
        assert_eq!(mail.state, OutboxState::Waiting { next_at: NOW });
    }

    #[test]
    fn a_sealed_mail_opens_for_its_own_id_and_address_alone() {
        let mail = mailer(Arc::new(SeededRandom::default())).write(&reset(), recipient(), NOW).unwrap();
        let redirected = OutboxMail { to: EmailAddress::parse("eve@example.net").unwrap(), ..mail.clone() };
        let moved = OutboxMail { id: Uuid::from_u128(1), ..mail.clone() };
        let changed = OutboxMail { sealed: [mail.sealed.clone(), vec![0]].concat(), ..mail.clone() };
        for (what, mail) in [("another address", redirected), ("another id", moved), ("changed", changed)] {
            assert!(open(&mail, &secrets(1)).is_none(), "{what}");
        }
        assert!(open(&mail, &secrets(2)).is_none(), "another secret");
    }

    #[test]
    fn sec_160_without_randomness_no_mail_is_written() {
        for good in [0, 1] {
            let outcome = mailer(Arc::new(FailingRandom::after(good))).write(&reset(), recipient(), NOW);
            assert!(outcome.is_err(), "{good}");
        }
    }

    #[test]
    fn every_mail_has_an_id_of_its_own() {
        let mailer = mailer(Arc::new(SeededRandom::default()));
        let ids = [(); 2].map(|()| mailer.write(&Notice::AccountExists, recipient(), NOW).unwrap().id);
        assert_ne!(ids[0], ids[1]);
    }
}
