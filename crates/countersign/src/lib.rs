//! Authentication for web applications: access and refresh tokens, sessions that can be listed and ended, and
//! revocation without a store call per request. The default features are for axum and an embedded SQLite database.
//!
//! ```no_run
//! use axum::{Router, routing::get};
//! use countersign::axum::{AccessToken, AuthLayer, account_routes, routes};
//! use countersign::{Auth, sqlite};
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let (store, secrets) = sqlite::open("app.db").await?;
//!     let auth = Auth::builder(store, secrets).build().await?;
//!     let app = Router::new()
//!         .route("/hello", get(hello))
//!         .merge(routes())
//!         .merge(account_routes()) // whoever reaches this app may register
//!         .layer(AuthLayer::new(auth));
//!     let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
//!     Ok(axum::serve(listener, app).await?)
//! }
//!
//! // The signature is the policy: without a valid access token this never runs.
//! async fn hello(token: AccessToken) -> String {
//!     format!("hello {}", token.subject())
//! }
//! ```
//!
//! # What one needs first
//!
//! | item | what it is |
//! |---|---|
//! | [`Auth`] | authentication for one program, made by [`AuthBuilder`], whose methods are the settings |
//! | [`axum::AuthLayer`] | installs [`Auth`] once for all routes |
//! | [`axum::AccessToken`] | a verified access token, as a handler's argument |
//! | [`axum::routes`], [`axum::account_routes`] | ready-made routes: refresh, logout, sessions; registration, login |
//! | [`axum::SignIn`], [`axum::SignOut`], [`axum::LoginRequired`] | login sessions of browsers; [`guides::login_sessions`] shows how |
//! | [`FindUser`], [`CheckPassword`], [`axum::login_routes`] | for programs with a `users` table of their own; [`guides::own_users`] shows how |
//! | [`axum::standard_routes`] | introspection, revocation and metadata by RFC 7662, 7009 and 8414 |
//! | [`sqlite::open`] | opens a store that keeps everything in one file; features add other engines |
//!
//! # Features
//!
//! | feature | what it adds |
//! |---|---|
//! | `axum` (default) | [`axum`](mod@axum): layer, extractors, routes |
//! | `sqlite` (default) | [`sqlite`]: all stores in one file |
//! | `postgres`, `mysql`, `mongodb`, `redis` | one engine each, for any number of servers |
//! | `pages` | [`pages`]: register, sign in, account and sessions in the browser, without scripts |
//! | `flask` | the rules of Flask-JWT-Extended and Flask-JWT, for programs that take the place of a Flask application |
//! | `jwks-client` | verifies tokens of other issuers, such as Keycloak or Auth0, by the keys that they publish |
//!
//! # Guides
//!
//! [`guides`] contains the project's pages: what a route may require, stores, several servers, keys, moving from Flask,
//! and why the project is built as it is.

#![cfg_attr(docsrs, feature(doc_cfg))]

#[doc(inline)]
pub use countersign_core::flow::{CheckPassword, FindUser, PasswordVerdict};
#[doc(inline)]
pub use countersign_core::model::User;
#[doc(inline)]
pub use countersign_http::{
    Auth, AuthBuilder, AuthError, BuildError, CookieKind, CookieOptions, CsrfMode, Location, Optional,
    Requirement,
};
pub use countersign_jwt::{Claims, UserId};
#[doc(inline)]
pub use countersign_jwt::{Secret, Secrets};

/// The engine: sessions, refresh, revocation, accounts and store traits. This module is not called `core`, because that
/// is the name of Rust's own crate.
pub use countersign_core as engine;
/// The rules of Flask-JWT-Extended and Flask-JWT, for programs that take the place of a Flask application.
#[cfg(feature = "flask")]
pub use countersign_flask as flask;
/// Tokens in HTTP requests and responses, for any framework.
pub use countersign_http as http;
/// Tokens, keys and claims, without HTTP and stores.
pub use countersign_jwt as jwt;

/// The layer, extractors and ready-made routes for axum.
#[cfg(feature = "axum")]
pub mod axum {
    #[doc(inline)]
    pub use countersign_axum::{
        AccessToken, AuthLayer, AuthRejection, Authority, Confirm, CsrfToken, CurrentUser, Fresh,
        FreshLoginRequired, FromClaims, Guard, HandlerError, LetThrough, LoginRequired, Next, Proven,
        RefreshToken, Reply, SignIn, SignOut, WithCookies, account_routes, device, login_routes, routes,
        standard_routes,
    };
    #[cfg(feature = "jwks-client")]
    #[doc(inline)]
    pub use countersign_axum::{RemoteRejection, RemoteToken};
}

/// Pages to register, sign in and manage an account, for axum.
#[cfg(feature = "pages")]
pub use countersign_pages as pages;

/// Verifies tokens of other issuers, such as Keycloak, Auth0 or Cognito.
#[cfg(feature = "jwks-client")]
pub use countersign_http::remote;

/// All stores in one SQLite file, whose keys are sealed with a secret in a file beside it.
#[cfg(feature = "sqlite")]
pub mod sqlite {
    use std::path::Path;

    use countersign_http::OsRandom;
    use countersign_jwt::Secrets;
    #[doc(inline)]
    pub use countersign_sql::sqlite::{OpenWithSecretError, SqliteOptions, SqliteStore};

    /// Opens a database and its secret (`app.db`, `app.db.secret`); creates both if neither exists.
    ///
    /// ```
    /// use countersign::{Auth, sqlite};
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("app.db");
    /// let (store, secrets) = sqlite::open(&path).await?;
    /// let auth = Auth::builder(store, secrets).build().await?;
    /// assert!(folder.path().join("app.db.secret").exists());
    /// # drop(auth);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`OpenWithSecretError`] says what could not be opened. A secret that is missing beside a filled database is
    /// never replaced by a new one.
    pub async fn open(path: impl AsRef<Path>) -> Result<(SqliteStore, Secrets), OpenWithSecretError> {
        countersign_sql::sqlite::open_with_secret(&SqliteOptions::new(path), &OsRandom).await
    }
}

/// All stores in a PostgreSQL database, shared by any number of servers.
#[cfg(feature = "postgres")]
pub use countersign_sql::postgres;

/// All stores in a MariaDB or MySQL database, shared by any number of servers.
#[cfg(feature = "mysql")]
pub use countersign_sql::mysql;

/// All stores in MongoDB, or in a database that speaks its wire protocol, shared by any number of servers.
#[cfg(feature = "mongodb")]
pub use countersign_mongodb as mongodb;

/// Sessions, or all stores, in Redis.
#[cfg(feature = "redis")]
pub use countersign_redis as redis;

/// The project's pages.
///
/// The programs on these pages use the crate as an application does.
pub mod guides {
    #[doc = include_str!("../docs/http.md")]
    pub mod http {}
    #[doc = include_str!("../docs/own-users.md")]
    pub mod own_users {}
    #[doc = include_str!("../docs/login-sessions.md")]
    pub mod login_sessions {}
    #[doc = include_str!("../docs/examples.md")]
    #[cfg(any(not(doctest), all(feature = "flask", feature = "mongodb", feature = "postgres")))]
    pub mod examples {}
    #[doc = include_str!("../docs/stores.md")]
    #[cfg(any(not(doctest), all(feature = "postgres", feature = "redis")))]
    pub mod stores {}
    #[doc = include_str!("../docs/scaling.md")]
    pub mod scaling {}
    #[doc = include_str!("../docs/proxies.md")]
    pub mod proxies {}
    #[doc = include_str!("../docs/cookbook.md")]
    pub mod cookbook {}
    #[doc = include_str!("../docs/operations.md")]
    pub mod operations {}
    #[doc = include_str!("../docs/threat-model.md")]
    pub mod threat_model {}
    #[doc = include_str!("../docs/keys.md")]
    #[cfg(any(not(doctest), feature = "jwks-client"))]
    pub mod keys {}
    #[doc = include_str!("../docs/passwords.md")]
    pub mod passwords {}
    #[doc = include_str!("../docs/migrating-from-flask.md")]
    #[cfg(any(not(doctest), feature = "flask"))]
    pub mod migrating_from_flask {}
    #[doc = include_str!("../docs/pages.md")]
    #[cfg(any(not(doctest), feature = "pages"))]
    pub mod pages {}
    #[doc = include_str!("../docs/api.md")]
    pub mod api {}
    #[doc = include_str!("../docs/design.md")]
    pub mod design {}
    #[doc = include_str!("../docs/glossary.md")]
    pub mod glossary {}
}

/// The program in the README, which must compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
