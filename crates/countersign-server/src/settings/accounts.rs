//! The settings of accounts and of the mail to their users.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use countersign_core::flow::UserIds;
use countersign_core::model::EmailAddress;
use countersign_http::{AccountRules, LoginNames, RegistrationMode};
use countersign_mail::{MailTemplates, Roots, Sender, SmtpUrl};

use super::reader::Reader;
use super::told;
use super::value::{Setting, SettingError};

const DAY: Duration = Duration::from_secs(86_400);

/// How long the audit trail is kept: as long as the longest session, so that its beginning is still in it.
const DEFAULT_RETENTION: Duration = Duration::from_secs(400 * 86_400);

/// The settings of accounts, checked.
#[derive(Debug)]
pub(crate) struct AccountSettings {
    /// `registration`, `email_domains` and `login_names`: who may register, and with which names. Default: everybody,
    /// with an e-mail address.
    pub(crate) rules: AccountRules,
    /// `user_ids`: the kind of ids that new accounts get. Default `uuid`.
    pub(crate) ids: UserIds,
    /// `admin_listen`: the address of the admin API. Default none.
    pub(crate) admin_listen: Option<SocketAddr>,
    /// `audit_retention`: how long the audit trail is kept. Default 400 days.
    pub(crate) audit_retention: Duration,
    /// How mail is sent.
    pub(crate) mail: MailSettings,
}

/// The settings of mail, checked as far as their texts tell.
#[derive(Debug)]
pub(crate) struct MailSettings {
    /// `smtp_url`: the mail server. Default none: on a loopback address mails are written to the log, elsewhere there are
    /// none.
    pub(crate) smtp: Option<SmtpUrl>,
    /// `smtp_ca`: a PEM file with further certificate authorities for the mail server. Default none.
    pub(crate) ca: Option<PathBuf>,
    /// `mail_from`: the sender. Needed beside `smtp_url`.
    pub(crate) from: Option<Sender>,
    /// `mail_templates`: the folder with templates and texts in place of the built-in ones. Default none.
    pub(crate) templates: Option<PathBuf>,
    /// `site_name`: what mails call this site. Default: the host of the public URL.
    pub(crate) site: String,
}

impl AccountSettings {
    pub(super) fn read(reader: &Reader<'_>) -> Self {
        let registration = reader.choice("registration", RegistrationMode::Open, |text| match text {
            "open" => Some(RegistrationMode::Open),
            "verify-first" => Some(RegistrationMode::VerifyFirst),
            "invite" => Some(RegistrationMode::Invite),
            "closed" => Some(RegistrationMode::Closed),
            _ => None,
        });
        let login_names = reader.choice("login_names", LoginNames::Email, |text| match text {
            "email" => Some(LoginNames::Email),
            "username" => Some(LoginNames::Username),
            "both" => Some(LoginNames::Both),
            _ => None,
        });
        let email_domains = reader.read("email_domains", Vec::new(), domains);
        Self {
            rules: AccountRules { registration, email_domains, login_names },
            ids: reader.choice("user_ids", UserIds::Uuid, |text| match text {
                "uuid" => Some(UserIds::Uuid),
                "integer" => Some(UserIds::Integer),
                _ => None,
            }),
            admin_listen: reader.optional("admin_listen", |setting| {
                let wrong = |_| setting.wrong("must be an IP address and a port, such as 127.0.0.1:8081");
                setting.text().parse().map_err(wrong)
            }),
            audit_retention: reader.read("audit_retention", DEFAULT_RETENTION, |setting| {
                match setting.duration() {
                    Ok(retention) if retention >= DAY => Ok(retention),
                    _ => Err(setting.wrong("must be a duration of at least 1 day, such as 400d")),
                }
            }),
            mail: MailSettings::read(reader),
        }
    }
}

impl MailSettings {
    fn read(reader: &Reader<'_>) -> Self {
        let path = |setting: &Setting| Ok(PathBuf::from(setting.text()));
        if let (Some(smtp), None) = (reader.get("smtp_url"), reader.get("mail_from")) {
            reader.note(smtp.wrong(
                "is set without COUNTERSIGN_MAIL_FROM, the sender of mails, such as Example <no-reply@example.com>",
            ));
        }
        Self {
            smtp: reader.optional("smtp_url", |setting| {
                setting
                    .text()
                    .parse::<SmtpUrl>()
                    .map_err(|error| setting.wrong(format!("cannot be used: {error}")))
            }),
            ca: reader.optional("smtp_ca", path),
            from: reader.optional("mail_from", |setting| {
                setting
                    .text()
                    .parse::<Sender>()
                    .map_err(|error| setting.wrong(format!("cannot be used: {error}")))
            }),
            templates: reader.optional("mail_templates", path),
            site: reader.read("site_name", String::new(), |setting| Ok(setting.text().to_owned())),
        }
    }

    /// What is wrong with the files that the settings name.
    pub(super) fn problem(&self) -> Option<String> {
        let templates = self.templates.as_ref().and_then(|folder| MailTemplates::load(folder).err());
        if let Some(error) = templates {
            return Some(format!("COUNTERSIGN_MAIL_TEMPLATES: {}", told(&error)));
        }
        let path = self.ca.as_ref()?;
        let wrong = |problem: String| Some(format!("COUNTERSIGN_SMTP_CA: {}: {problem}", path.display()));
        match std::fs::read(path) {
            Ok(pem) => Roots::from_pem(&pem).err().and_then(|error| wrong(told(&error))),
            Err(error) => wrong(format!("cannot be read: {error}")),
        }
    }
}

/// Domains of e-mail addresses, as the keys of addresses have them.
fn domains(setting: &Setting) -> Result<Vec<String>, SettingError> {
    let texts = setting.text().split(',').map(str::trim).filter(|text| !text.is_empty());
    texts
        .map(|text| match EmailAddress::parse(&format!("x@{text}")) {
            Ok(email) => Ok(email.key().trim_start_matches("x@").to_owned()),
            Err(_) => Err(setting.wrong("must be domains such as example.com, comma separated")),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Flags, SettingErrors, Settings, Sources};
    use super::*;

    fn read(environment: &[(&str, &str)]) -> Result<AccountSettings, SettingErrors> {
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Ok(Settings::read(&Sources::collect(Flags::default(), environment, None, None))?.accounts)
    }

    #[test]
    fn defaults_are_those_of_the_contract() {
        let settings = read(&[]).unwrap();
        assert_eq!(settings.rules.registration, RegistrationMode::Open);
        assert_eq!((settings.rules.login_names, settings.ids), (LoginNames::Email, UserIds::Uuid));
        assert!(settings.rules.email_domains.is_empty() && settings.admin_listen.is_none());
        assert!(settings.mail.smtp.is_none());
    }

    #[test]
    fn domains_are_compared_as_a_labels_in_lower_case() {
        let settings = read(&[("COUNTERSIGN_EMAIL_DOMAINS", "Example.COM, b\u{fc}cher.example")]).unwrap();
        assert_eq!(settings.rules.email_domains, ["example.com", "xn--bcher-kva.example"]);
    }

    #[test]
    fn a_wrong_value_is_an_error_that_names_the_setting_and_the_fix() {
        for (name, value, fix) in [
            ("COUNTERSIGN_REGISTRATION", "on", "open, verify-first, invite or closed"),
            ("COUNTERSIGN_LOGIN_NAMES", "name", "email, username or both"),
            ("COUNTERSIGN_USER_IDS", "serial", "uuid or integer"),
            ("COUNTERSIGN_EMAIL_DOMAINS", "@example.com", "example.com"),
            ("COUNTERSIGN_ADMIN_LISTEN", "8081", "127.0.0.1:8081"),
            ("COUNTERSIGN_AUDIT_RETENTION", "1h", "400d"),
            ("COUNTERSIGN_SMTP_URL", "smtp://mail.example.com?tls=starttls", "COUNTERSIGN_MAIL_FROM"),
            ("COUNTERSIGN_MAIL_FROM", "nobody", "cannot be used"),
        ] {
            let error = read(&[(name, value)]).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains(fix), "{name}={value}: {error}");
        }
        let without_mode = [
            ("COUNTERSIGN_SMTP_URL", "smtp://user:canary-secret@mail.example.com"),
            ("COUNTERSIGN_MAIL_FROM", "no-reply@example.com"),
        ];
        let error = read(&without_mode).unwrap_err().to_string();
        assert!(error.contains("tls=starttls") && !error.contains("canary"), "{error}");
    }
}
