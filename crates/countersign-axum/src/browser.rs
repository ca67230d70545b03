//! Handlers that answer browsers with pages: signing in by a form, and the CSRF value for other forms.

use std::fmt;

use axum::extract::{FromRequestParts, OptionalFromRequestParts};
use axum::response::{IntoResponseParts, ResponseParts};
use countersign_core::flow::{Arrival, LoginError, Presentation};
use countersign_core::model::Password;
use countersign_http::{
    Auth, AuthError, CookieKind, CookieLookup, CrossSite, DeviceCookie, SetCookies, find_cookie, no_store,
    vary_personal,
};
use countersign_jwt::Claims;
use http::request::Parts;

use crate::extract::{AccessToken, Installed};
use crate::failure::HandlerError;
use crate::pending::read_ahead;
use crate::reply::{AuthRejection, WithCookies};
use crate::routes::device;

/// The extractor for handlers that sign a user in with cookies. A request that another site sent is refused with 403,
/// so that an attacker cannot sign a user in to the attacker's account (login CSRF).
///
/// ```
/// use axum::Form;
/// use axum::response::{IntoResponse, Redirect};
/// use countersign_axum::{HandlerError, SignIn};
///
/// #[derive(serde::Deserialize)]
/// struct Login {
///     name: String,
///     password: String,
/// }
///
/// async fn login(sign_in: SignIn, Form(login): Form<Login>) -> Result<impl IntoResponse, HandlerError> {
///     Ok((sign_in.login(&login.name, login.password).await?, Redirect::to("/")))
/// }
/// # let _: axum::Router = axum::Router::new().route("/login", axum::routing::post(login));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SignIn {
    /// The [`Auth`] that the layer installed.
    pub auth: Auth,
    /// The argument for `Engine::login`, `Accounts::login` and `Accounts::register`. It asks for tokens for cookies, and
    /// names the device, and the sessions whose cookies the browser still carries and which the new session replaces.
    pub arrival: Arrival,
}

impl SignIn {
    /// Logs in with a name and a password as [`Engine::login`](countersign_http::Engine::login) does. The cookies are a part of the response:
    /// `(sign_in.login(name, password).await?, Redirect::to("/"))`.
    ///
    /// # Errors
    /// [`HandlerError`], as the answer that the client gets. [`HandlerError::cause`] tells a wrong password from others:
    /// `error.cause::<LoginError>()`.
    pub async fn login(self, name: &str, password: String) -> Result<WithCookies, HandlerError> {
        let Self { auth, arrival } = self;
        // A password that none can be is a wrong one, for which no form has a better message.
        let password = Password::new_for_login(password).map_err(|_| LoginError::InvalidCredentials)?;
        let signed_in = auth.engine().login(name, password, arrival).await?;
        Ok(WithCookies(SetCookies::of_login(&auth, &signed_in)))
    }
}

/// The CSRF value of the user who is signed in by cookies, for forms in a page. As a part of the response,
/// `(csrf, Html(page))`, it keeps the page out of caches.
///
/// The extractor needs an access token, as [`AccessToken`] does. `Option<CsrfToken>` also lets requests without a token
/// through.
///
/// ```
/// use axum::response::{Html, IntoResponse};
/// use axum::{Router, routing::get};
/// use countersign_axum::{AuthLayer, CsrfToken};
/// # use axum::{body::Body, http::Request};
/// # use countersign_core::{flow::Presentation, model::Device, store::MemoryStore};
/// # use countersign_jwt::{Epoch, UserId};
/// # use countersign_testkit::TestBed;
/// # use tower::ServiceExt as _;
///
/// async fn settings(csrf: CsrfToken) -> impl IntoResponse {
///     let form = format!("<form method=post>{}<input name=city><button>Save</button></form>", csrf.input());
///     (csrf, Html(form))
/// }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let auth = countersign_axum::Auth::builder(MemoryStore::new(), TestBed::secrets()).build().await?;
/// # let (user, epoch) = (UserId::new("ada")?, Epoch::FIRST);
/// # let pair = auth.sessions().begin(user, epoch, Presentation::Cookie, Device::default()).await?;
/// let app: Router = Router::new().route("/settings", get(settings)).layer(AuthLayer::new(auth));
/// let cookie = format!("__Host-countersign_access={}", pair.access_token);
/// let answer = app.oneshot(Request::get("/settings").header("cookie", cookie).body(Body::empty())?).await?;
/// let page = axum::body::to_bytes(answer.into_body(), 1000).await?;
/// let field = format!(r#"<input type="hidden" name="csrf_token" value="{}">"#, pair.csrf.unwrap_or_default());
/// assert!(std::str::from_utf8(&page)?.contains(&field));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct CsrfToken {
    value: String,
    field: Option<String>,
}

impl CsrfToken {
    /// The CSRF value. It is empty if the request's token was not issued for cookies, because such a token needs none.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }

    /// A hidden field for a form, as HTML: `<input type="hidden" name="csrf_token" value="…">`.
    #[must_use]
    pub fn input(&self) -> String {
        match &self.field {
            Some(field) => {
                let (field, value) = (escaped(field), escaped(&self.value));
                format!("<input type=\"hidden\" name=\"{field}\" value=\"{value}\">")
            }
            None => String::new(),
        }
    }

    fn new(auth: &Auth, token: &Claims) -> Self {
        let value = token.csrf().unwrap_or_default().to_owned();
        Self { value, field: auth.engine().csrf_field().map(str::to_owned) }
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;")
}

/// What a browser's cookies and headers tell about a request that signs a user in.
pub(crate) struct Browser {
    /// Whether the request comes from another site, as far as the headers tell.
    cross_site: CrossSite,
    /// The sessions whose cookies the request carries. Where the headers do not tell where the request comes from, it
    /// has proven their CSRF value.
    carried: Vec<Claims>,
}

impl Browser {
    /// Refuses a request that another site sent with our cookies (login CSRF). Where no header tells where the request
    /// comes from, the CSRF value of the session that it carries decides.
    ///
    /// # Errors
    /// [`AuthError`], also if nobody can tell at the moment whether a cookie's token is valid.
    pub(crate) async fn check(auth: &Auth, parts: &Parts) -> Result<Self, AuthError> {
        let (engine, rules) = (auth.engine(), auth.rules());
        engine.check_cross_site(parts, rules.cookies())?;
        let cross_site = engine.cross_site(parts);
        let mut carried = Vec::new();
        for kind in [CookieKind::Access, CookieKind::Refresh] {
            if let Some(name) = rules.cookies().name(kind)
                && let CookieLookup::One(token) = find_cookie(&parts.headers, name)
                && let Some(claims) = rules.verify_for_end(engine, token).await?
            {
                carried.push((kind, claims));
            }
        }
        if cross_site == CrossSite::Unknown {
            rules.cookies().check_carried(engine, parts, &carried)?;
        }
        Ok(Self { cross_site, carried: carried.into_iter().map(|(_, claims)| claims).collect() })
    }

    /// Refuses to set cookies for a request from another site, whether or not it carries cookies, and for a request to
    /// a host name under which the cookies would travel unprotected.
    pub(crate) fn may_ask_for_cookies(
        &self,
        auth: &Auth,
        parts: &Parts,
        by_cookie: bool,
    ) -> Result<(), AuthError> {
        match (by_cookie, self.cross_site) {
            (false, _) => Ok(()),
            (true, CrossSite::Foreign) => Err(AuthError::CrossSite),
            (true, CrossSite::Passes | CrossSite::Unknown) => auth.check_cookie_host(parts),
        }
    }

    /// The arrival of a login. A login by cookie replaces the session whose cookies it carries (SEC-079).
    pub(crate) fn arrival(self, parts: &Parts, by_cookie: bool) -> Arrival {
        let arrival = Arrival::new(Presentation::Explicit, device(parts));
        if by_cookie {
            Arrival { presentation: Presentation::Cookie, replacing: self.carried, ..arrival }
        } else {
            arrival
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for SignIn {
    type Rejection = AuthRejection;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, AuthRejection> {
        let Installed(auth) = Installed::from_request_parts(parts, state).await?;
        if auth.rules().wants_body(auth.engine(), (&*parts).into(), None) {
            read_ahead(parts).await;
        }
        let checked = Browser::check(&auth, parts).await.and_then(|browser| {
            browser.may_ask_for_cookies(&auth, parts, true)?;
            let known_device = DeviceCookie::of(auth.rules()).and_then(|cookie| cookie.token(&parts.headers));
            Ok(Arrival { known_device, ..browser.arrival(parts, true) })
        });
        match checked {
            Ok(arrival) => Ok(Self { auth, arrival }),
            Err(error) => Err(AuthRejection::new(&auth, parts, None, error).await),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for CsrfToken {
    type Rejection = AuthRejection;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, AuthRejection> {
        let token = <AccessToken as FromRequestParts<S>>::from_request_parts(parts, state).await?;
        let Installed(auth) = Installed::from_request_parts(parts, state).await?;
        Ok(Self::new(&auth, &token))
    }
}

impl<S: Send + Sync> OptionalFromRequestParts<S> for CsrfToken {
    type Rejection = AuthRejection;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Option<Self>, AuthRejection> {
        let token = <AccessToken as OptionalFromRequestParts<S>>::from_request_parts(parts, state).await?;
        let Installed(auth) = Installed::from_request_parts(parts, state).await?;
        Ok(token.map(|token| Self::new(&auth, &token)))
    }
}

impl IntoResponseParts for CsrfToken {
    type Error = std::convert::Infallible;

    fn into_response_parts(self, mut parts: ResponseParts) -> Result<ResponseParts, Self::Error> {
        no_store(parts.headers_mut());
        vary_personal(parts.headers_mut());
        Ok(parts)
    }
}

impl fmt::Debug for CsrfToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CsrfToken").field("field", &self.field).finish_non_exhaustive()
    }
}
