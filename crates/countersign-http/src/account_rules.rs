//! Who may register, and with which names.

use countersign_core::model::EmailAddress;

/// Who may register by `POST /v1/auth/register`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum RegistrationMode {
    /// Everybody, who is signed in at once.
    #[default]
    Open,
    /// Everybody who proves the e-mail address first: the answer is the same whether or not the address has an account,
    /// and a mail tells (SEC-131).
    VerifyFirst,
    /// Nobody: accounts are made by operators, who send invitations.
    Invite,
    /// Nobody, and operators send no invitations either.
    Closed,
}

/// The names that an account needs and logs in with.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum LoginNames {
    /// An e-mail address. A username may be chosen beside it, and logs in too.
    #[default]
    Email,
    /// A username. An e-mail address may be given beside it, and does not log in.
    Username,
    /// An e-mail address, a username or both.
    Both,
}

/// The rules of the routes of accounts.
#[derive(Clone, Debug, Default)]
pub struct AccountRules {
    /// Who may register. Default: everybody.
    pub registration: RegistrationMode,
    /// The domains of the e-mail addresses that may be registered, as A-labels in lower case. Default: all.
    pub email_domains: Vec<String>,
    /// The names that an account needs and logs in with. Default: the e-mail address.
    pub login_names: LoginNames,
}

impl AccountRules {
    /// Whether an account may have this address.
    ///
    /// ```
    /// use countersign_core::model::EmailAddress;
    /// use countersign_http::AccountRules;
    ///
    /// let rules = AccountRules { email_domains: vec!["example.com".to_owned()], ..AccountRules::default() };
    /// assert!(rules.allow_email(&EmailAddress::parse("Ada@EXAMPLE.com")?));
    /// assert!(!rules.allow_email(&EmailAddress::parse("ada@sub.example.com")?));
    /// # Ok::<(), countersign_core::model::NameError>(())
    /// ```
    #[must_use]
    pub fn allow_email(&self, email: &EmailAddress) -> bool {
        let domain = email.key().rsplit_once('@').map_or("", |(_, domain)| domain);
        self.email_domains.is_empty() || self.email_domains.iter().any(|allowed| allowed == domain)
    }
}
