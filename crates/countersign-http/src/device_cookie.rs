//! The cookie by which a browser is recognised at its next login.
//!
//! It names a device on which the user has logged in, and lets nobody in. It survives logout, because its purpose is the
//! next login.

use countersign_core::model::{DeviceToken, KnownDevice};
use http::{HeaderMap, HeaderValue};

use crate::auth::Auth;
use crate::cookie::{CookieLookup, find_cookie};

const NAME: &str = "countersign_device";
const HOST_NAME: &str = "__Host-countersign_device";

impl Auth {
    /// The device token in a request's cookies, if there is one.
    #[must_use]
    pub fn device_token(&self, headers: &HeaderMap) -> Option<DeviceToken> {
        match find_cookie(headers, self.device_cookie_name()) {
            CookieLookup::One(text) => DeviceToken::parse(text),
            _ => None,
        }
    }

    /// The `Set-Cookie` field that makes a browser keep a device token for 90 days (`__Host-countersign_device`).
    #[must_use]
    pub fn device_cookie(&self, token: &DeviceToken) -> Option<HeaderValue> {
        let name = self.device_cookie_name();
        let max_age = KnownDevice::KNOWN_FOR.as_secs();
        let secure = if name == HOST_NAME { "; Secure" } else { "" };
        let field =
            format!("{name}={}; HttpOnly; SameSite=Lax{secure}; Path=/; Max-Age={max_age}", token.expose());
        let mut field = HeaderValue::from_str(&field).ok()?;
        field.set_sensitive(true);
        Some(field)
    }

    fn device_cookie_name(&self) -> &'static str {
        if self.rules().cookies().are_secure() || self.engine().is_secure { HOST_NAME } else { NAME }
    }
}
