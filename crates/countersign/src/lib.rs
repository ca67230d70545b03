#![doc = include_str!("../../../README.md")]

#[doc(inline)]
pub use countersign_core::account::User;
#[doc(inline)]
pub use countersign_core::session::SessionPolicy;
#[doc(inline)]
pub use countersign_http::{
    Auth, AuthBuilder, AuthError, BuildError, CookieKind, CookieOptions, CsrfMode, Location, Optional,
    Requirement,
};
pub use countersign_jwt::{Claims, UserId};
#[doc(inline)]
pub use countersign_jwt::{Secret, Secrets};

/// The engine: tokens, sessions, revocation, accounts, store traits.
pub use countersign_core as core;
/// The rules of Flask-JWT-Extended and Flask-JWT, for programs that take their place.
#[cfg(feature = "flask")]
pub use countersign_flask as flask;
/// Tokens in HTTP, for any framework.
pub use countersign_http as http;

/// The layer, extractors and ready-made routes for axum.
#[cfg(feature = "axum")]
pub mod axum {
    #[doc(inline)]
    pub use countersign_axum::{
        AccessToken, AuthLayer, AuthRejection, Authority, CsrfToken, CurrentUser, Fresh, Guard, Proven,
        RefreshToken, Reply, SignIn, WithCookies, account_routes, routes,
    };
    #[cfg(feature = "jwks-client")]
    #[doc(inline)]
    pub use countersign_axum::{RemoteRejection, RemoteToken};
}

/// Tokens of other issuers, such as Keycloak, Auth0 or Cognito.
#[cfg(feature = "jwks-client")]
pub use countersign_http::remote;

/// Everything in one SQLite file, its keys sealed with a secret in a file beside it.
#[cfg(feature = "sqlite")]
pub mod sqlite {
    use std::path::Path;

    use countersign_http::OsRandom;
    use countersign_jwt::Secrets;
    #[doc(inline)]
    pub use countersign_sql::sqlite::{OpenWithSecretError, SqliteOptions, SqliteStore};

    /// Opens a database and its secret (`app.db`, `app.db.secret`); makes both where there is neither.
    ///
    /// # Errors
    /// [`OpenWithSecretError`]; a secret that is missing beside a filled database is never replaced by a new one.
    pub async fn open(path: impl AsRef<Path>) -> Result<(SqliteStore, Secrets), OpenWithSecretError> {
        countersign_sql::sqlite::open_with_secret(&SqliteOptions::new(path), &OsRandom).await
    }
}

/// Everything in a PostgreSQL database, shared by any number of servers.
#[cfg(feature = "postgres")]
pub use countersign_sql::postgres;

/// Everything in a MariaDB or MySQL database, shared by any number of servers.
#[cfg(feature = "mysql")]
pub use countersign_sql::mysql;

/// Everything in MongoDB or what speaks its wire protocol, shared by any number of servers.
#[cfg(feature = "mongodb")]
pub use countersign_mongodb as mongodb;

/// Sessions, or everything, in Redis.
#[cfg(feature = "redis")]
pub use countersign_redis as redis;

/// Its programs compile.
#[cfg(all(doctest, feature = "flask"))]
#[doc = include_str!("../../../docs/migrating-from-flask.md")]
mod migrating_from_flask {}

/// Its programs compile.
#[cfg(all(doctest, feature = "postgres", feature = "redis"))]
#[doc = include_str!("../../../docs/stores.md")]
mod stores {}
