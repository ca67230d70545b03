//! The sender of mails, for the header `From`.

use std::fmt;
use std::str::FromStr;

use countersign_core::model::EmailAddress;

/// The sender that mails name: an e-mail address, and a name beside it.
///
/// ```
/// use countersign_mail::Sender;
///
/// let sender: Sender = "Example Shop <no-reply@example.com>".parse()?;
/// assert_eq!((sender.name(), sender.domain()), (Some("Example Shop"), "example.com"));
/// # Ok::<(), countersign_mail::InvalidSender>(())
/// ```
#[derive(Clone, Eq, PartialEq)]
pub struct Sender {
    name: Option<String>,
    local_part: String,
    domain: String,
}

/// The reason why a text is not a sender.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidSender {
    /// The text is not an address, nor a name with an address in angle brackets.
    #[error(
        "write an address such as no-reply@example.com, or a name and an address: Example <no-reply@example.com>"
    )]
    Form,
    /// The address has characters before the `@` that not every mail server takes.
    #[error(
        "before the @ of the sender's address, use ASCII letters, digits and .!#$%&'*+-/=?^_`{{|}}~, dots between others only"
    )]
    LocalPart,
    /// The name has more than 100 characters, or one that is a control.
    #[error("use a name of at most 100 characters, without line breaks")]
    Name,
}

impl Sender {
    /// The most characters that the name may have.
    pub const MAX_NAME_CHARS: usize = 100;

    /// The name beside the address.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The address, with its domain in ASCII.
    #[must_use]
    pub fn address(&self) -> String {
        format!("{}@{}", self.local_part, self.domain)
    }

    /// The domain of the address, in ASCII.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.domain
    }

    pub(crate) fn mailbox(&self) -> lettre::message::Mailbox {
        let address = lettre::Address::new_dangerous(&self.local_part, &self.domain);
        lettre::message::Mailbox::new(self.name.clone(), address)
    }
}

impl FromStr for Sender {
    type Err = InvalidSender;

    fn from_str(text: &str) -> Result<Self, InvalidSender> {
        let text = text.trim();
        let (name, address) = match text.strip_suffix('>').map(|rest| rest.rsplit_once('<')) {
            Some(Some((name, address))) => (name.trim(), address),
            Some(None) => return Err(InvalidSender::Form),
            None => ("", text),
        };
        let name = name.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(name);
        if name.contains(['"', '\\', '<', '>']) {
            return Err(InvalidSender::Form);
        }
        if name.chars().count() > Self::MAX_NAME_CHARS || name.chars().any(char::is_control) {
            return Err(InvalidSender::Name);
        }
        let address = EmailAddress::parse(address).map_err(|_| InvalidSender::Form)?;
        let (local_part, domain) = split(&address);
        if lettre::Address::new(local_part, domain).is_err() || !local_part.is_ascii() {
            return Err(InvalidSender::LocalPart);
        }
        Ok(Self {
            name: Some(name.to_owned()).filter(|name| !name.is_empty()),
            local_part: local_part.to_owned(),
            domain: domain.to_owned(),
        })
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sender({self})")
    }
}

impl fmt::Display for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name} <{}>", self.address()),
            None => f.write_str(&self.address()),
        }
    }
}

/// The part of an address before the `@` as it was given, and its domain in ASCII, which every mail server takes.
pub(crate) fn split(address: &EmailAddress) -> (&str, &str) {
    let (local_part, _) = address.as_str().split_once('@').unwrap_or_default();
    let (_, domain) = address.key().split_once('@').unwrap_or_default();
    (local_part, domain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_is_an_address_or_a_name_and_an_address() {
        for (text, name, address) in [
            ("no-reply@example.com", None, "no-reply@example.com"),
            ("<no-reply@example.com>", None, "no-reply@example.com"),
            (" Example <No-Reply@Example.com> ", Some("Example"), "No-Reply@example.com"),
            ("\"Example, Inc.\" <a@example.com>", Some("Example, Inc."), "a@example.com"),
            ("Bücher <a@bücher.example>", Some("Bücher"), "a@xn--bcher-kva.example"),
            ("root@localhost", None, "root@localhost"),
        ] {
            let sender: Sender = text.parse().unwrap();
            assert_eq!((sender.name(), sender.address().as_str()), (name, address), "{text}");
            assert_eq!(sender.to_string().parse(), Ok(sender), "{text}");
        }
    }

    #[test]
    fn sec_207_what_is_no_sender_is_refused_with_what_to_write() {
        for (text, error) in [
            ("", InvalidSender::Form),
            ("Example", InvalidSender::Form),
            ("Example <>", InvalidSender::Form),
            ("Example <a@x.com", InvalidSender::Form),
            ("a@x.com>", InvalidSender::Form),
            ("A <a@x.com> <b@x.com>", InvalidSender::Form),
            ("a@x.com, b@x.com", InvalidSender::Form),
            ("A \"B\" <a@x.com>", InvalidSender::Form),
            ("A <a@x.com\r\nBcc: b@x.com>", InvalidSender::Form),
            ("A\r\nBcc: b@x.com <a@x.com>", InvalidSender::Name),
            ("A\nB <a@x.com>", InvalidSender::Name),
            (&format!("{} <a@x.com>", "x".repeat(101)), InvalidSender::Name),
            ("jos\u{e9}@x.com", InvalidSender::LocalPart),
            ("a..b@x.com", InvalidSender::LocalPart),
        ] {
            assert_eq!(text.parse::<Sender>(), Err(error), "{text:?}");
        }
    }
}
