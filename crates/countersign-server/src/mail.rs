//! Mail to users: letters are written into the outbox, and a task carries them to the mail server.

use std::error::Error;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use countersign_core::flow::{Addressed, Letter, LetterError, Letters};
use countersign_core::store::{KEEP_DEAD_LETTERS_FOR, OutboxStore, Stores};
use countersign_http::OsRandom;
use countersign_jwt::{Clock, Secrets, Timestamp};
use countersign_mail::{
    Language, Letterhead, Links, Log, MailTemplates, Mailer, Notice, Postman, Recipient, Roots, Sender,
    SignInCode, Smtp, Transport,
};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::settings::MailSettings;

/// How often the outbox is looked at where nothing was posted on this server.
const SEND_EVERY: Duration = Duration::from_secs(5);
/// How often old dead letters are deleted.
const PURGE_EVERY: u32 = 720;
/// The most mails that one look at the outbox carries.
const BATCH: usize = 100;

pub(crate) const NO_LINKS: &str = "COUNTERSIGN_SMTP_URL is set, but no COUNTERSIGN_PUBLIC_URL, under which the links in mails \
     lead to this server; set it, such as https://auth.example.com";

/// What is needed to write to users, and to send what was written.
#[derive(Debug)]
pub(crate) struct Mail {
    office: Arc<Office>,
    /// `None`: what would be sent is written to the log.
    transport: Option<Arc<dyn Transport>>,
    sender: Sender,
    secrets: Secrets,
}

/// Writes letters into the outbox.
#[derive(Debug)]
struct Office {
    mailer: Mailer,
    links: Links,
    outbox: Arc<dyn OutboxStore>,
    posted: Arc<Notify>,
}

impl Mail {
    /// The mail that the settings describe. `base` is the URL under which the links of mails lead to this server; without
    /// one there is no mail. `is_local` says whether mails may be written to the log instead of being sent.
    ///
    /// # Errors
    /// What cannot be used, and what to do.
    pub(crate) fn open(
        settings: &MailSettings,
        base: Option<&str>,
        is_local: bool,
        stores: &Stores,
        secrets: Secrets,
    ) -> Result<Option<Self>, Box<dyn Error>> {
        let Some(base) = base else {
            if settings.smtp.is_some() {
                return Err(NO_LINKS.into());
            }
            return Ok(None);
        };
        let links = Links::new(base)?;
        let templates = match &settings.templates {
            Some(folder) => {
                MailTemplates::load(folder).map_err(|error| format!("COUNTERSIGN_MAIL_TEMPLATES: {error}"))?
            }
            None => MailTemplates::built_in(),
        };
        let transport: Option<Arc<dyn Transport>> = match smtp(settings, links.host())? {
            Some(smtp) => Some(Arc::new(smtp)),
            None if is_local => None,
            None => return Ok(None),
        };
        let sender = match &settings.from {
            Some(sender) => sender.clone(),
            None => format!("no-reply@{}", mail_domain(links.host())).parse()?,
        };
        let letterhead = Letterhead::new(&settings.site, &links);
        let mailer = Mailer::new(templates, letterhead, secrets.clone(), Arc::new(OsRandom));
        let office = Office { mailer, links, outbox: stores.outbox().clone(), posted: Arc::default() };
        Ok(Some(Self { office: Arc::new(office), transport, sender, secrets }))
    }

    /// The links of mails.
    pub(crate) fn links(&self) -> &Links {
        &self.office.links
    }

    /// What writes mails.
    pub(crate) fn mailer(&self) -> Mailer {
        self.office.mailer.clone()
    }

    /// The writer of letters.
    pub(crate) fn letters(&self) -> Arc<dyn Letters> {
        self.office.clone()
    }

    /// Carries mails from now on, in the background.
    pub(crate) fn start(self, clock: Arc<dyn Clock>) -> JoinHandle<()> {
        let Self { office, transport, sender, secrets } = self;
        // A server that does not start has something more important to say than this warning.
        let transport = transport.unwrap_or_else(|| Arc::new(Log::new()));
        let postman = Postman::new(office.outbox.clone(), transport, secrets, sender, clock.clone());
        tokio::spawn(async move {
            for turn in 0_u32.. {
                if let Err(error) = postman.send_due(BATCH).await {
                    tracing::warn!(error = &error as &dyn Error, "the outbox could not be read");
                }
                if turn % PURGE_EVERY == 0 {
                    purge(&*office.outbox, clock.now()).await;
                }
                // A mail that was posted on this server goes out at once, one of another server within seconds.
                tokio::select! {
                    () = office.posted.notified() => {}
                    () = tokio::time::sleep(SEND_EVERY) => {}
                }
            }
        })
    }
}

/// The mail server that the settings name, if they do. `host` is the name by which this server greets it.
///
/// # Errors
/// What is wrong with the certificate authorities.
pub(crate) fn smtp(settings: &MailSettings, host: &str) -> Result<Option<Smtp>, Box<dyn Error>> {
    let Some(url) = &settings.smtp else { return Ok(None) };
    let mut smtp = Smtp::builder(url.clone()).hello_name(host);
    if let Some(path) = &settings.ca {
        let pem = fs::read(path)
            .map_err(|error| format!("COUNTERSIGN_SMTP_CA: cannot read {}: {error}", path.display()))?;
        smtp = smtp.extra_roots(Roots::from_pem(&pem)?);
    }
    Ok(Some(smtp.build()?))
}

async fn purge(outbox: &dyn OutboxStore, now: Timestamp) {
    const STEP: usize = 500;
    loop {
        match outbox.purge_dead_letters(now - KEEP_DEAD_LETTERS_FOR, STEP).await {
            Ok(deleted) if deleted >= STEP as u64 => {}
            Ok(_) => return,
            Err(error) => {
                tracing::warn!(error = &error as &dyn Error, "old dead letters could not be deleted");
                return;
            }
        }
    }
}

/// The domain of the default sender: that of the public URL, if a mail address may have it.
fn mail_domain(host: &str) -> &str {
    let is_name =
        host.contains('.') && !host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.' || byte == b':');
    if is_name && !host.starts_with('[') { host } else { "countersign.invalid" }
}

#[async_trait]
impl Letters for Office {
    async fn post(&self, addressed: Addressed, now: Timestamp) -> Result<(), LetterError> {
        let Addressed { to, user_id, language, letter } = addressed;
        let notice = self.notice(letter)?;
        let language = Language::choose(language.as_ref().map(|language| language.as_str()), None);
        let recipient = Recipient { address: to, user_id, language };
        let mail = self.mailer.write(&notice, recipient, now).map_err(|error| LetterError(error.into()))?;
        self.outbox.enqueue_mail(&mail).await.map_err(|error| LetterError(error.into()))?;
        self.posted.notify_one();
        Ok(())
    }
}

impl Office {
    fn notice(&self, letter: Letter) -> Result<Notice, LetterError> {
        let links = &self.links;
        Ok(match letter {
            Letter::VerifyEmail { token, expires_in } => {
                Notice::VerifyAddress { link: links.verify(&token.expose()), expires_in }
            }
            Letter::ResetPassword { token, expires_in } => {
                Notice::ResetPassword { link: links.reset(&token.expose()), expires_in }
            }
            Letter::SignInCode { code, token, expires_in } => Notice::SignInCode {
                code: SignInCode::new(code.expose())
                    .ok_or_else(|| LetterError("a code has six digits".into()))?,
                link: links.code(&token.expose()),
                expires_in,
            },
            Letter::AccountExists => Notice::AccountExists,
            Letter::PasswordChanged { at } => Notice::PasswordChanged { at },
            Letter::EmailChanged { new, at } => Notice::EmailChanged { new_address: new, at },
            Letter::NewDevice { device, at } => {
                Notice::NewDevice { device: device.user_agent, address: device.ip, at }
            }
            Letter::AccountDeleted { at } => Notice::AccountDeleted { at },
            Letter::Invite { token, expires_in } => {
                Notice::Invite { link: links.invite(&token.expose()), expires_in }
            }
            _ => return Err(LetterError("this version knows no such letter".into())),
        })
    }
}
