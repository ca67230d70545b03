//! One message, and its form on the wire.

use std::fmt;
use std::time::{Duration, UNIX_EPOCH};

use countersign_core::model::EmailAddress;
use countersign_jwt::Timestamp;
use lettre::address::Envelope;
use lettre::message::header::{Date, HeaderName, HeaderValue, MessageId, Subject};
use lettre::message::{Mailbox, MultiPart, SinglePart};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Sender;
use crate::sender::split;

/// What a message says. It may hold a one-time secret, so its `Debug` output holds nothing of it.
#[derive(Clone, Deserialize, Eq, PartialEq, Serialize)]
pub struct Content {
    subject: String,
    text: String,
    html: Option<String>,
}

/// A message on its way to one recipient.
#[derive(Clone, Debug)]
pub struct Message {
    id: Uuid,
    from: Sender,
    to: EmailAddress,
    content: Content,
    date: Timestamp,
}

/// A message has no form on the wire.
#[derive(Debug, thiserror::Error)]
#[error("the message cannot be written down for a mail server")]
pub struct InvalidMessage(#[source] Box<dyn std::error::Error + Send + Sync>);

impl Content {
    /// The most characters of a subject.
    pub const MAX_SUBJECT_CHARS: usize = 200;

    /// A subject, a text, and the same text as HTML. Line breaks and other control characters of the subject become
    /// blanks, so that it cannot add a header (SEC-207).
    #[must_use]
    pub fn new(subject: &str, text: impl Into<String>, html: Option<String>) -> Self {
        Self { subject: one_line(subject, Self::MAX_SUBJECT_CHARS), text: text.into(), html }
    }

    /// The subject, in one line.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The text as HTML.
    #[must_use]
    pub fn html(&self) -> Option<&str> {
        self.html.as_deref()
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Content(…)")
    }
}

impl Message {
    /// A message that says `content`. `id` names it in every attempt to send it, and `date` is the time at which it was
    /// written.
    #[must_use]
    pub const fn new(id: Uuid, from: Sender, to: EmailAddress, content: Content, date: Timestamp) -> Self {
        Self { id, from, to, content, date }
    }

    /// The id of the message, which is its record's in the outbox.
    #[must_use]
    pub const fn id(&self) -> Uuid {
        self.id
    }

    /// The sender.
    #[must_use]
    pub const fn from(&self) -> &Sender {
        &self.from
    }

    /// The recipient.
    #[must_use]
    pub const fn to(&self) -> &EmailAddress {
        &self.to
    }

    /// What the message says.
    #[must_use]
    pub const fn content(&self) -> &Content {
        &self.content
    }

    /// The value of the header `Message-ID`: the same in every attempt, so that mail programs and servers recognise a
    /// repeat.
    #[must_use]
    pub fn message_id(&self) -> String {
        format!("<{}@{}>", self.id.hyphenated(), self.from.domain())
    }

    /// The message as a mail server takes it (RFC 5322): headers, and the text beside its HTML as
    /// `multipart/alternative`. The same message has the same bytes every time.
    ///
    /// # Errors
    /// [`InvalidMessage`] if it has no such form.
    pub fn to_mime(&self) -> Result<Vec<u8>, InvalidMessage> {
        let (local_part, domain) = self.recipient();
        let to = lettre::Address::new_dangerous(local_part, domain);
        let from = self.from.mailbox();
        let invalid = |error: lettre::error::Error| InvalidMessage(error.into());
        let envelope = Envelope::new(Some(from.email.clone()), vec![to.clone()]).map_err(invalid)?;
        // Automatic answers such as "out of office" are not wanted (RFC 3834 §5).
        let auto_submitted = HeaderName::new_from_ascii_str("Auto-Submitted");
        let builder = lettre::Message::builder()
            .envelope(envelope)
            .from(from)
            .to(Mailbox::new(None, to))
            .header(Subject::from(self.content.subject.clone()))
            .header(self.date_header())
            .header(MessageId::from(self.message_id()))
            .raw_header(HeaderValue::new(auto_submitted, "auto-generated".to_owned()));
        let text = SinglePart::plain(self.content.text.clone());
        let message = match &self.content.html {
            None => builder.singlepart(text),
            Some(html) => builder.multipart(
                MultiPart::alternative()
                    .boundary(format!("={}=", self.id.simple()))
                    .singlepart(text)
                    .singlepart(SinglePart::html(html.clone())),
            ),
        };
        message.map(|message| message.formatted()).map_err(invalid)
    }

    /// The recipient's address on the wire: before the `@` as given, and the domain in ASCII.
    pub(crate) fn recipient(&self) -> (&str, &str) {
        split(&self.to)
    }

    fn date_header(&self) -> Date {
        // Headers have four digits for the year.
        const LAST_SECOND: i64 = 253_402_300_799;
        let seconds = u64::try_from(self.date.as_secs().min(LAST_SECOND)).unwrap_or(0);
        Date::new(UNIX_EPOCH + Duration::from_secs(seconds))
    }
}

/// A text in one line: runs of white space, control characters and those that turn the direction of writing become one
/// blank, and what is beyond `most` characters is cut.
pub(crate) fn one_line(text: &str, most: usize) -> String {
    let is_between = |c: char| c.is_whitespace() || c.is_control() || turns_direction(c);
    let words = text.split(is_between).filter(|word| !word.is_empty());
    let line = words.collect::<Vec<_>>().join(" ");
    if line.chars().count() <= most {
        return line;
    }
    line.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

/// Whether a character lets text be read in another order than it is written (Unicode's UAX #9): a client could make a
/// mail seem to say something else.
const fn turns_direction(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(from: &str, to: &str, subject: &str, text: &str) -> Message {
        Message::new(
            Uuid::from_u128(0x0123_4567_89ab_4def_8123_4567_89ab_cdef),
            from.parse().unwrap(),
            EmailAddress::parse(to).unwrap(),
            Content::new(subject, text, Some(format!("<p>{text}</p>"))),
            Timestamp::from_secs(1_769_860_800),
        )
    }

    fn head(message: &Message) -> String {
        let bytes = String::from_utf8(message.to_mime().unwrap()).unwrap();
        bytes.split_once("\r\n\r\n").unwrap().0.to_owned()
    }

    #[test]
    fn a_message_has_these_bytes() {
        let message = message(
            "Bücher & Co. <no-reply@bücher.example>",
            "José@x.example",
            "Grüße",
            "Hallo\n\n.\nEnde ä",
        );
        insta::assert_snapshot!(String::from_utf8(message.to_mime().unwrap()).unwrap().replace('\r', ""));
        assert_eq!(message.to_mime().unwrap(), message.to_mime().unwrap(), "the same every time");
    }

    #[test]
    fn sec_207_a_subject_cannot_add_a_header() {
        for subject in [
            "a\r\nBcc: eve@x.com",
            "a\nBcc: eve@x.com",
            "a\rBcc: eve@x.com",
            "a\r\n\r\n<b>body</b>",
            "a\u{2028}Bcc: b",
            "a\0Bcc: x",
            "ä\r\nBcc: eve@x.com",
            "a\r\n Bcc: eve@x.com",
            "=?utf-8?q?a=0D=0ABcc:_eve=40x.com?=",
        ] {
            let message = message("a@x.com", "b@x.com", subject, "text");
            let head = head(&message);
            let names: Vec<_> = head
                .split("\r\n")
                .filter(|line| !line.starts_with(' '))
                .map(|line| line.split_once(':').unwrap().0)
                .collect();
            assert_eq!(
                names,
                [
                    "From",
                    "To",
                    "Subject",
                    "Date",
                    "Message-ID",
                    "Auto-Submitted",
                    "MIME-Version",
                    "Content-Type"
                ],
                "{subject:?}"
            );
            assert!(!message.content().subject().contains(char::is_control), "{subject:?}");
        }
    }

    #[test]
    fn a_text_of_a_client_cannot_turn_the_direction_of_a_mail() {
        let text = "Fire\u{202e}xof\u{2066} \u{200f}on\r\nmars\u{9b}31m";
        assert_eq!(one_line(text, 120), "Fire xof on mars 31m");
    }

    #[test]
    fn a_long_subject_is_cut_and_folded() {
        let message = message("a@x.com", "b@x.com", &"wort ".repeat(100), "text");
        assert_eq!(message.content().subject().chars().count(), Content::MAX_SUBJECT_CHARS);
        assert!(head(&message).split("\r\n").all(|line| line.len() <= 78));
    }

    #[test]
    fn repeats_have_the_same_message_id() {
        let message = message("A <a@bücher.example>", "b@x.com", "s", "t");
        let expected = "<01234567-89ab-4def-8123-456789abcdef@xn--bcher-kva.example>";
        assert_eq!(message.message_id(), expected);
        assert!(head(&message).contains(&format!("Message-ID: {expected}")));
    }

    #[test]
    fn odd_dates_and_addresses_do_not_panic() {
        for (to, date) in [("a..b@x.com", Timestamp::MAX), ("josé@bücher.example", Timestamp::MIN)] {
            let message = Message { date, ..message("a@x.com", to, "s", "t") };
            assert!(message.to_mime().is_ok(), "{to}");
        }
    }

    #[test]
    fn debug_output_holds_neither_text_nor_address() {
        let debug = format!("{:?}", message("a@x.com", "ada@x.com", "s3cret", "s3cret"));
        assert!(!debug.contains("s3cret") && !debug.contains("ada"), "{debug}");
    }
}
