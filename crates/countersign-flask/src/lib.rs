//! The rules of Flask-JWT-Extended, Flask-JWT and Flask-Login, for programs that stand beside a Flask application or replace it.
//!
//! A Flask application has signed-in users, clients that know its tokens, cookies and error texts, and password hashes
//! that cannot be made anew. A program that takes over one of its routes must accept the application's tokens, issue
//! tokens that the application accepts, and answer as the application does. This crate reads the same `JWT_…` options
//! and does that:
//!
//! ```
//! use countersign_flask::{FlaskJwtExtended, FlaskJwtExtendedConfig, Options};
//! use countersign_http::Requirement;
//!
//! # async fn example(parts: http::request::Parts) -> Result<(), Box<dyn std::error::Error>> {
//! let config = FlaskJwtExtendedConfig::from_options(Options::from_environment(std::env::vars()))?;
//! let jwt = FlaskJwtExtended::builder(config).build()?;
//! let answer = match jwt.authenticate(&parts, &Requirement::ACCESS).await {
//!     Ok(Some(token)) => format!("hello {}", token.identity),
//!     Ok(None) => "hello stranger".to_owned(),
//!     Err(answer) => return Ok(drop(answer)), // `{"msg": "Missing Authorization Header"}`, 401
//! };
//! # let _ = answer;
//! # Ok(())
//! # }
//! ```
//!
//! `AuthBuilder::rules` takes the same builder. Countersign's accounts and sessions are then presented as tokens of the
//! Flask library, and the application's own tokens are accepted beside them.
//!
//! | feature | adds |
//! |---|---|
//! | `axum` | the extractor [`FlaskAuth`](axum::FlaskAuth) and Flask-JWT's login endpoint |
//! | `import` | reading users and sessions out of a Flask application's database |

#![cfg_attr(docsrs, feature(doc_cfg))]

mod build;
mod choice;
pub mod flask_jwt;
pub mod flask_jwt_extended;
pub mod flask_login;
mod hooks;
mod json_body;
mod messages;
mod options;
mod over_sessions;
pub mod tokens;

#[cfg(feature = "axum")]
pub mod axum;
#[cfg(feature = "import")]
pub mod import;
#[cfg(test)]
mod testing;

pub use build::FlaskBuildError;
pub use choice::{AskingRules, FlaskRules};
pub use flask_jwt::{FlaskJwt, FlaskJwtConfig};
pub use flask_jwt_extended::{FlaskJwtExtended, FlaskJwtExtendedConfig};
pub use flask_login::{FlaskLogin, FlaskLoginConfig};
pub use hooks::{AnswerInstead, FlaskToken};
pub use options::{OptionError, Options};
