//! The cookie by which a browser is recognised at its next login.
//!
//! It names a device on which the user has logged in, and lets nobody in. It survives logout, because its purpose is the
//! next login.

use countersign_core::model::{DeviceToken, KnownDevice};
use http::{HeaderMap, HeaderValue};

use crate::auth::Auth;
use crate::cookie::{CookieLookup, find_cookie};

/// The cookie's name where cookies are not `Secure`, on a loopback address.
pub(crate) const NAME: &str = "countersign_device";
/// The cookie's name everywhere else.
pub(crate) const HOST_NAME: &str = "__Host-countersign_device";

impl Auth {
    /// The device token in a request's cookies, if there is one.
    #[must_use]
    pub fn device_token(&self, headers: &HeaderMap) -> Option<DeviceToken> {
        match find_cookie(headers, self.rules().cookies().device()?) {
            CookieLookup::One(text) => DeviceToken::parse(text),
            _ => None,
        }
    }

    /// The `Set-Cookie` field that makes a browser keep a device token for 90 days (`__Host-countersign_device`); `None` if
    /// the rules set no such cookie.
    #[must_use]
    pub fn device_cookie(&self, token: &DeviceToken) -> Option<HeaderValue> {
        let name = self.rules().cookies().device()?;
        let max_age = KnownDevice::KNOWN_FOR.as_secs();
        let secure = if name.starts_with("__Host-") { "; Secure" } else { "" };
        let field =
            format!("{name}={}; HttpOnly; SameSite=Lax{secure}; Path=/; Max-Age={max_age}", token.expose());
        let mut field = HeaderValue::from_str(&field).ok()?;
        field.set_sensitive(true);
        Some(field)
    }
}
