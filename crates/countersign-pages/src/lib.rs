#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod ago;
mod blank;
mod colour;
mod device;
mod failure;
mod form;
mod look;
mod pages;
mod problem;
mod routes;
mod templates;
mod visit;

pub use colour::{Colour, InvalidColour};
pub use countersign_text::TemplateError;
pub use look::{Logo, LogoError, Look};
pub use pages::{Pages, error_pages, router};
pub use templates::Templates;
