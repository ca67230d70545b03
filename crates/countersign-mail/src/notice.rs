//! The mails that there are, and what each one tells.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use countersign_core::model::EmailAddress;
use countersign_jwt::Timestamp;

/// A mail to be written: its kind, and what it tells. The links are whole URLs, made by [`Links`](crate::Links).
///
/// Its `Debug` output is the kind alone, because links and codes are one-time secrets.
#[derive(Clone)]
#[non_exhaustive]
pub enum Notice {
    /// Asks to confirm that the address belongs to the reader.
    VerifyAddress {
        /// The link to the form that confirms it.
        link: String,
        /// The time for which the link works.
        expires_in: Duration,
    },
    /// Offers to set a new password.
    ResetPassword {
        /// The link to the form.
        link: String,
        /// The time for which the link works.
        expires_in: Duration,
    },
    /// Gives a code to sign in with.
    SignInCode {
        /// The code.
        code: SignInCode,
        /// The link to the form that takes it.
        link: String,
        /// The time for which the code and the link work.
        expires_in: Duration,
    },
    /// Tells that somebody registered with the address of an account that exists. The answer to the registration does
    /// not tell it (SEC-131).
    AccountExists,
    /// Tells that the password was changed.
    PasswordChanged {
        /// The time of the change.
        at: Timestamp,
    },
    /// Tells the old address that the account has another one now.
    EmailChanged {
        /// The new address. The mail has its first letter and its domain only.
        new_address: EmailAddress,
        /// The time of the change.
        at: Timestamp,
    },
    /// Tells of a sign-in from a device that is new to the account.
    NewDevice {
        /// The device as its program names itself.
        device: Option<String>,
        /// The network address of the device.
        address: Option<IpAddr>,
        /// The time of the sign-in.
        at: Timestamp,
    },
    /// Tells that the account was deleted.
    AccountDeleted {
        /// The time of the deletion.
        at: Timestamp,
    },
    /// Invites the reader to make an account.
    Invite {
        /// The link to the form.
        link: String,
        /// The time for which the link works.
        expires_in: Duration,
    },
}

/// Six digits to sign in with.
#[derive(Clone, Eq, PartialEq)]
pub struct SignInCode(String);

impl Notice {
    /// The names of all kinds, which are the names of their templates too.
    pub const KINDS: [&str; 9] = [
        "verify_address",
        "reset_password",
        "sign_in_code",
        "account_exists",
        "password_changed",
        "email_changed",
        "new_device",
        "account_deleted",
        "invite",
    ];

    /// The name of the kind.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::VerifyAddress { .. } => "verify_address",
            Self::ResetPassword { .. } => "reset_password",
            Self::SignInCode { .. } => "sign_in_code",
            Self::AccountExists => "account_exists",
            Self::PasswordChanged { .. } => "password_changed",
            Self::EmailChanged { .. } => "email_changed",
            Self::NewDevice { .. } => "new_device",
            Self::AccountDeleted { .. } => "account_deleted",
            Self::Invite { .. } => "invite",
        }
    }

    /// The time after which the mail is useless; `None` if it stays useful.
    #[must_use]
    pub const fn expires_in(&self) -> Option<Duration> {
        match self {
            Self::VerifyAddress { expires_in, .. }
            | Self::ResetPassword { expires_in, .. }
            | Self::SignInCode { expires_in, .. }
            | Self::Invite { expires_in, .. } => Some(*expires_in),
            Self::AccountExists
            | Self::PasswordChanged { .. }
            | Self::EmailChanged { .. }
            | Self::NewDevice { .. }
            | Self::AccountDeleted { .. } => None,
        }
    }

    /// The link that the mail is sent for.
    #[must_use]
    pub fn link(&self) -> Option<&str> {
        match self {
            Self::VerifyAddress { link, .. }
            | Self::ResetPassword { link, .. }
            | Self::SignInCode { link, .. }
            | Self::Invite { link, .. } => Some(link),
            _ => None,
        }
    }

    /// One mail of every kind, with made-up data: templates are checked with them.
    pub(crate) fn samples() -> [Self; 9] {
        let link = |page: &str| format!("https://auth.example.com/{page}?token=0123456789abcdef");
        let hour = Duration::from_secs(3_600);
        let at = Timestamp::from_secs(1_769_860_800);
        [
            Self::VerifyAddress { link: link("verify"), expires_in: hour * 24 },
            Self::ResetPassword { link: link("reset"), expires_in: hour },
            Self::SignInCode {
                code: SignInCode("481516".to_owned()),
                link: link("code"),
                expires_in: hour / 6,
            },
            Self::AccountExists,
            Self::PasswordChanged { at },
            Self::EmailChanged {
                new_address: EmailAddress::parse("ada@example.net").expect("an address"),
                at,
            },
            Self::NewDevice {
                device: Some("Firefox on Linux".to_owned()),
                address: Some(IpAddr::from([192, 0, 2, 1])),
                at,
            },
            Self::AccountDeleted { at },
            Self::Invite { link: link("invite"), expires_in: hour * 24 * 7 },
        ]
    }
}

impl fmt::Debug for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Notice({})", self.kind())
    }
}

impl SignInCode {
    /// The code of these six ASCII digits; `None` for any other text.
    #[must_use]
    pub fn new(digits: &str) -> Option<Self> {
        let is_code = digits.len() == 6 && digits.bytes().all(|byte| byte.is_ascii_digit());
        is_code.then(|| Self(digits.to_owned()))
    }

    /// The six digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SignInCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SignInCode(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_sample_of_every_kind() {
        assert_eq!(Notice::samples().map(|notice| notice.kind()), Notice::KINDS);
    }

    #[test]
    fn a_code_has_six_digits() {
        for (text, accepted) in [
            ("012345", true),
            ("", false),
            ("12345", false),
            ("1234567", false),
            ("12345a", false),
            ("١٢٣", false),
        ] {
            assert_eq!(SignInCode::new(text).is_some(), accepted, "{text}");
        }
    }

    #[test]
    fn debug_output_holds_no_secret() {
        for notice in Notice::samples() {
            let debug = format!("{notice:?}");
            assert!(!debug.contains("0123") && !debug.contains("4815") && !debug.contains("ada"), "{debug}");
        }
        assert_eq!(format!("{:?}", SignInCode::new("012345").unwrap()), "SignInCode(…)");
    }
}
