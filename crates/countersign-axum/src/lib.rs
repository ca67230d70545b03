//! Countersign for [axum]: a layer, extractors whose presence in a handler's signature is its policy, and
//! ready-made routes for registering, logging in, refreshing and logging out.
//!
//! ```no_run
//! # async fn example(auth: countersign_axum::Auth) {
//! use axum::{Router, routing::get};
//! use countersign_axum::{AccessToken, AuthLayer, routes};
//!
//! async fn hello(token: AccessToken) -> String {
//!     format!("hello {}", token.subject())
//! }
//!
//! let app: Router =
//!     Router::new().route("/hello", get(hello)).merge(routes()).layer(AuthLayer::new(auth));
//! # }
//! ```

mod body;
mod browser;
mod extract;
mod guard;
mod layer;
mod pending;
mod profile;
#[cfg(feature = "jwks-client")]
mod remote;
mod reply;
mod routes;
mod wire;

pub use browser::{CsrfToken, SignIn};
pub use countersign_http::{Auth, AuthBuilder, Location, Optional, Requirement};
pub use extract::{AccessToken, CurrentUser, Fresh, RefreshToken};
pub use guard::{Guard, Guarded, Proven};
pub use layer::{Answering, AuthLayer, Authority, WithAuth};
pub use profile::{ProfileAuth, flask_jwt_routes};
#[cfg(feature = "jwks-client")]
pub use remote::{RemoteRejection, RemoteToken};
pub use reply::{AuthRejection, Reply};
pub use routes::{method_not_allowed, not_found, routes};
