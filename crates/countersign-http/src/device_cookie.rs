//! The cookie by which a browser is recognised at its next login.
//!
//! It names a device on which the user has logged in, and lets nobody in. It survives logout, because its purpose is the
//! next login.

use countersign_core::model::{DeviceToken, KnownDevice};
use http::{HeaderMap, HeaderValue};

use crate::cookie::{CookieLookup, find_cookie};
use crate::rules::Rules;

/// The cookie's name where cookies are not `Secure`, on a loopback address.
pub(crate) const NAME: &str = "countersign_device";
/// The cookie's name everywhere else.
pub(crate) const HOST_NAME: &str = "__Host-countersign_device";

/// The cookie of one set of rules that recognises a browser at its next login.
///
/// ```
/// use countersign_core::model::DeviceToken;
/// use countersign_http::DeviceCookie;
/// # use countersign_core::store::MemoryStore;
/// # use countersign_http::Auth;
/// # use countersign_testkit::{SeededRandom, TestBed};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let auth = Auth::builder(MemoryStore::new(), TestBed::secrets()).build().await?;
/// let cookie = DeviceCookie::of(auth.rules()).ok_or("these rules have no such cookie")?;
/// let field = cookie.set(&DeviceToken::new(&SeededRandom::new(1))?).ok_or("a token fits into a field")?;
/// assert!(field.to_str()?.starts_with("__Host-countersign_device="));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct DeviceCookie<'r> {
    name: &'r str,
}

impl<'r> DeviceCookie<'r> {
    /// The cookie of these rules; `None` if they set none.
    #[must_use]
    pub fn of(rules: &'r dyn Rules) -> Option<Self> {
        rules.cookies().device().map(|name| Self { name })
    }

    /// The device token in a request's cookies, if there is one.
    #[must_use]
    pub fn token(self, headers: &HeaderMap) -> Option<DeviceToken> {
        match find_cookie(headers, self.name) {
            CookieLookup::One(text) => DeviceToken::parse(text),
            _ => None,
        }
    }

    /// The `Set-Cookie` field that makes a browser keep a device token for 90 days (`__Host-countersign_device`).
    #[must_use]
    pub fn set(self, token: &DeviceToken) -> Option<HeaderValue> {
        let name = self.name;
        let max_age = KnownDevice::KNOWN_FOR.as_secs();
        let secure = if name.starts_with("__Host-") { "; Secure" } else { "" };
        let field =
            format!("{name}={}; HttpOnly; SameSite=Lax{secure}; Path=/; Max-Age={max_age}", token.expose());
        let mut field = HeaderValue::from_str(&field).ok()?;
        field.set_sensitive(true);
        Some(field)
    }
}
