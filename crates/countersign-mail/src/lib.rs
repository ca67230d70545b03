#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod links;
mod log;
mod mailer;
mod message;
mod notice;
mod postman;
mod sender;
mod smtp;
mod templates;
mod transport;

pub use countersign_text::{Language, TemplateError, UnknownLanguage};
pub use links::{InvalidPublicUrl, Links};
pub use log::Log;
pub use mailer::{Mailer, Recipient, WriteError};
pub use message::{Content, InvalidMessage, Message};
pub use notice::{Notice, SignInCode};
pub use postman::{Postman, Round};
pub use sender::{InvalidSender, Sender};
pub use smtp::{Credentials, InvalidSmtpUrl, Roots, RootsError, Smtp, SmtpBuilder, SmtpUrl, TlsMode};
pub use templates::{Letterhead, MailTemplates};
pub use transport::{SendError, Transport};
