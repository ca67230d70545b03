//! The handling of tokens in HTTP requests and answers, for any framework that uses the [`http`] crate.
//!
//! Every web framework has to find a credential in a request, decide whether a browser sent the request on another
//! site's behalf, set and expire cookies, and turn refusals into answers. This work is the same under axum, actix or
//! tonic, and easy to get subtly wrong, so this crate does it once. The meaning of a token belongs to
//! `countersign-core`; this crate treats a token as text.
//!
//! ```
//! use countersign_http::{CookieConfig, Location, Locator};
//! use http::{HeaderMap, HeaderValue, header};
//!
//! let cookies = CookieConfig::for_public_url(None)?;
//! let mut headers = HeaderMap::new();
//! headers.insert(header::AUTHORIZATION, HeaderValue::from_static("Bearer a.b.c"));
//!
//! let located = Locator::access(&cookies).locate(&headers, None)?.expect("a credential was sent");
//! assert_eq!((located.token, located.location), ("a.b.c", Location::Header));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![cfg_attr(docsrs, feature(doc_cfg))]

mod account_rules;
mod answer;
mod auth;
mod buffered;
mod builder;
mod cookie;
mod cookie_config;
mod cookie_options;
mod csrf;
mod device_cookie;
mod encoding;
mod engine;
mod error;
mod form;
mod forwarded;
mod handshake;
mod hooks;
mod locate;
mod log;
mod login_sessions;
mod origin;
pub mod reading;
#[cfg(feature = "jwks-client")]
pub mod remote;
mod renewal;
mod requirement;
mod return_to;
mod rules;
mod set_cookies;
mod system;
mod token_endpoints;
mod users;
mod wire;

pub use account_rules::{AccountRules, LoginNames, RegistrationMode};
pub use answer::{Answer, ErrorCode, no_store, private_query, vary_personal};
pub use auth::{Auth, Authenticated, CookieChange, InPlace};
pub use buffered::{BodyBeginning, BufferedBody};
pub use builder::{AuthBuilder, BuildError};
pub use cookie::{CookieLookup, find_cookie};
pub use cookie_config::{CookieConfig, CookieConfigError, CookieError, CookieKind};
pub use cookie_options::{CookieOptions, DangerousCookieOptions};
pub use csrf::{CSRF_FIELD, CSRF_HEADER, CsrfError, CsrfMode, check_csrf, csrf_matches, is_unsafe};
pub use device_cookie::DeviceCookie;
pub use encoding::ContentEncoding;
pub use engine::Engine;
pub use error::AuthError;
pub use forwarded::{
    Caller, ChainProblem, ClientAddress, ForwardedHeader, ForwardedHeaderError, HowFound, ThrottleKey,
    TrustedProxies, TrustedProxiesError,
};
pub use hooks::RefusedRequest;
pub use locate::{Elsewhere, LocateError, Located, Location, Locator};
pub use log::shown_in_log;
pub use login_sessions::{
    DeviceBinding, ForPrograms, LoginSessions, RequestedUri, ThroughProxy, prefers_html,
};
pub use origin::{AllowedOrigins, AllowedOriginsError, CrossSite, CrossSiteCheck, Origin, OriginError};
pub use renewal::Renewal;
pub use requirement::{Optional, RequiredToken, Requirement};
pub use return_to::ReturnTo;
pub use rules::{
    BodyTokens, CheckedRules, CookieRules, Exchanged, Gate, Head, LogOutError, NewTokens, Passed,
    RenewedInPlace, Rules, RulesBuilder, ShownTokens, Vouched,
};
pub use set_cookies::SetCookies;
pub use system::{OsRandom, SystemClock};
pub use token_endpoints::TokenEndpoints;
pub use users::{AnyUser, FoundUser, LoaderRequest, SignedInUser, UserOrder, Users};
pub use wire::rfc3339;
