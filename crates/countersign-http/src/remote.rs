//! Tokens of other issuers, verified with the keys that they publish (RFC 7517 §5).
//!
//! Users who sign in at Keycloak, Auth0 or Cognito get their tokens there. The keys of such an issuer are fetched from
//! one configured address and nowhere else: nothing in a token names an address (SEC-011), and no issuer's keys verify
//! another's tokens (SEC-030). A verified token yields a [`RemoteClaims`], a type of its own, so that another issuer's
//! token never passes for one of ours.
//!
//! ```
//! use countersign_http::remote::{RemoteIssuer, RemoteIssuers, RemoteVerifyError};
//!
//! let issuers = RemoteIssuers::new([
//!     RemoteIssuer::keycloak("https://sso.example.com/realms/staff").audience("orders"),
//!     RemoteIssuer::auth0("example.eu.auth0.com").audience("https://orders.example.com/"),
//!     RemoteIssuer::cognito("eu-central-1", "eu-central-1_AbCdEfGhI").client_id("4v1hd3example"),
//! ])?;
//!
//! # async fn handler(issuers: &RemoteIssuers, token: &str) -> Result<(), RemoteVerifyError> {
//! let claims = issuers.verify(token).await?; // else: 401, or 503 if `error.is_retryable()`
//! println!("{} of {}", claims.subject(), claims.issuer());
//! # Ok(()) }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Fetching
//!
//! | what | bound |
//! |---|---|
//! | address | https, configured; http only to the loopback interface, by a setting named dangerous |
//! | redirects, cookies, proxies from the environment | never |
//! | time, from looking up the name to the last byte | 5 s |
//! | size of the answer | 64 KiB, counted while it is read |
//! | fetches at a time, for one issuer | one, which all requests wait for |
//! | next fetch for a key that is not known | 30 s after the last |
//! | next fetch after a failure | 10 s after the failed one began |
//! | keys are renewed | when 5 minutes old, in the background; when 10 minutes old, before they are used |
//! | keys are used although they cannot be renewed | until 1 hour old |
//!
//! A key that the issuer withdraws is therefore refused within ten minutes, or within the hour while the issuer cannot
//! be reached. A key that the issuer adds is fetched with the first token that names it, or half a minute later.
//!
//! Fetching needs a tokio runtime with its timer.

mod claims;
mod fetch;
mod issuer;
mod keys;
mod url;
mod verify;

pub use claims::{RemoteClaims, RemoteIdentity};
pub use fetch::{FetchError, FetchJwks, HttpsFetcher};
pub use issuer::{HeaderType, RemoteConfigError, RemoteConfigProblem, RemoteIssuer};
pub use keys::KeysError;
pub use url::{JwksUrl, JwksUrlError};
pub use verify::{RemoteAuthError, RemoteIssuers, RemoteVerifyError};
