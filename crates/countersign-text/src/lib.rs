#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod catalog;
mod error;
mod language;
mod texts;

pub use catalog::{BuiltIn, Catalog};
pub use error::TemplateError;
pub use language::{Language, UnknownLanguage};
pub use texts::{Part, Texts, parts};
