//! The mail server, and mails that could not be sent.

use super::{About, Report};
use crate::mail;
use crate::serve::leads_here;
use crate::settings::{Settings, told};

pub(super) async fn examine(settings: &Settings, reach: bool, report: &mut Report) {
    let host = settings.public_url.as_ref().and_then(|url| url.host_str());
    match mail::smtp(&settings.accounts.mail, host.unwrap_or("localhost")) {
        Ok(None) if settings.public_url.as_ref().is_some_and(|url| !leads_here(url)) => report.warning(
            About::Mail,
            "no mail is sent: nobody can reset a password or verify an address",
            "set COUNTERSIGN_SMTP_URL and COUNTERSIGN_MAIL_FROM",
        ),
        Ok(None) => {
            report.good(About::Mail, "there is no mail server; on this machine alone, mails are in the log")
        }
        Ok(Some(_)) if !reach => {}
        Ok(Some(smtp)) => match smtp.check().await {
            Ok(()) => report.good(About::Mail, "the mail server takes mails of this server"),
            Err(error) => report.error(
                About::Mail,
                told(&error),
                "correct COUNTERSIGN_SMTP_URL, or see to the mail server; mails wait meanwhile, for a day",
            ),
        },
        // It was told with the settings.
        Err(_) => {}
    }
}
