//! Countersign for [axum]: a layer, extractors that declare a handler's policy in its signature, and ready-made routes
//! for registering, logging in, refreshing and logging out.
//!
//! ```no_run
//! # async fn example(auth: countersign_axum::Auth) {
//! use axum::{Router, routing::get};
//! use countersign_axum::{AccessToken, AuthLayer, account_routes, routes};
//!
//! async fn hello(token: AccessToken) -> String {
//!     format!("hello {}", token.subject())
//! }
//!
//! let app: Router = Router::new()
//!     .route("/hello", get(hello))
//!     .merge(routes())
//!     .merge(account_routes()) // whoever reaches the program may register
//!     .layer(AuthLayer::new(auth));
//! # }
//! ```
//!
//! [`routes`] suits every program and registers nobody: refresh, logout, me, sessions, verify, the public keys.
//! [`account_routes`] adds Countersign's accounts, with which everybody can register. A program with users of its own
//! sets them by `AuthBuilder::own_users`, and adds [`login_routes`] in place of [`account_routes`].
#![cfg_attr(docsrs, feature(doc_cfg))]

mod body;
mod browser;
mod extract;
mod failure;
mod guard;
mod in_place;
mod layer;
#[cfg(feature = "openapi")]
#[cfg_attr(docsrs, doc(cfg(feature = "openapi")))]
pub mod openapi;
mod pending;
#[cfg(feature = "jwks-client")]
mod remote;
mod reply;
mod routes;
mod user;
mod wire;

pub use body::{Members, read_bounded, read_members};
pub use browser::{Confirm, CsrfToken, Next, SignIn, SignOut};
pub use countersign_http::{Auth, AuthBuilder, Location, Optional, Requirement};
pub use extract::{AccessToken, CurrentUser, Fresh, FromClaims, RefreshToken};
pub use failure::HandlerError;
pub use guard::{Guard, Guarded, LetThrough, Proven};
pub use layer::{Answering, AuthLayer, Authority, WithAuth};
#[cfg(feature = "jwks-client")]
pub use remote::{RemoteRejection, RemoteToken};
pub use reply::{AuthRejection, Reply, WithCookies};
pub use routes::{
    account_routes, device, login_routes, method_not_allowed, not_found, routes, standard_routes,
};
pub use user::{FreshLoginRequired, LoginRequired};
pub use wire::{session_body, user_body};
