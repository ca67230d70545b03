//! Handlers that answer browsers with pages: signing in by a form, and the CSRF value for other forms.

use std::fmt;

use axum::extract::{FromRequestParts, OptionalFromRequestParts};
use axum::response::{IntoResponseParts, ResponseParts};
use countersign_core::flow::{
    Arrival, Beginning, LoginError, Presentation, Refresh, RegisterError, Registration,
};
use countersign_core::model::{
    Device, EmailAddress, EndReason, Language, OwnNames, Password, UserSession, Username,
};
use countersign_http::{
    Answer, Auth, AuthError, BodyTokens, CookieKind, CookieLookup, CrossSite, DeviceCookie, ErrorCode,
    Location, LoginNames, RegistrationMode, Requirement, ReturnTo, SetCookies, ShownTokens, find_cookie,
    no_store, vary_personal,
};
use countersign_jwt::{Claims, Epoch, UserId};
use http::request::Parts;

use crate::extract::{AccessToken, Installed, proven};
use crate::failure::HandlerError;
use crate::in_place::Noted;
use crate::pending::{read_ahead, read_ahead_for};
use crate::reply::{AuthRejection, Reply, WithCookies};
use crate::routes::{address_not_accepted, device, language};

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
    /// The language that the browser asks for.
    language: Option<Language>,
    /// What else lets the request through.
    noted: Option<Noted>,
}

impl SignIn {
    /// Logs in with a name and a password as [`Engine::login`](countersign_http::Engine::login) does. The cookies are a part of the response:
    /// `(sign_in.login(name, password).await?, Redirect::to("/"))`.
    ///
    /// # Errors
    /// [`HandlerError`], as the answer that the client gets. [`HandlerError::cause`] tells a wrong password from others:
    /// `error.cause::<LoginError>()`.
    pub async fn login(self, name: &str, password: String) -> Result<WithCookies, HandlerError> {
        let Self { auth, arrival, .. } = self;
        // A password that none can be is a wrong one, for which no form has a better message.
        let password = Password::new_for_login(password).map_err(|_| LoginError::InvalidCredentials)?;
        let signed_in = auth.engine().login(name, password, arrival).await?;
        Ok(WithCookies(SetCookies::of_login(&auth, &signed_in)))
    }

    /// Registers an account of Countersign's and signs its user in, for a sign-up form. The name is an e-mail address or
    /// a username, as [`AccountRules::login_names`](countersign_http::AccountRules::login_names) say; where both may be,
    /// text with an `@` is an address. The cookies are a part of the response, as with [`login`](Self::login).
    ///
    /// ```
    /// use axum::Form;
    /// use axum::response::{Html, IntoResponse, Redirect, Response};
    /// use countersign_axum::{HandlerError, SignIn};
    /// use countersign_core::flow::RegisterError;
    ///
    /// #[derive(serde::Deserialize)]
    /// struct SignUp {
    ///     email: String,
    ///     password: String,
    /// }
    ///
    /// async fn sign_up(sign_in: SignIn, Form(form): Form<SignUp>) -> Result<Response, HandlerError> {
    ///     match sign_in.register(&form.email, form.password).await {
    ///         Ok(cookies) => Ok((cookies, Redirect::to("/")).into_response()),
    ///         Err(error) => match error.cause::<RegisterError>() {
    ///             Some(RegisterError::WeakPassword(reason)) => Ok(Html(reason.to_string()).into_response()),
    ///             _ => Err(error),
    ///         },
    ///     }
    /// }
    /// # let _: axum::Router = axum::Router::new().route("/sign-up", axum::routing::post(sign_up));
    /// ```
    ///
    /// # Errors
    /// [`HandlerError`], as the answer that the client gets. Its [`cause`](HandlerError::cause) is a [`RegisterError`],
    /// such as a name that is taken or a weak password, or a [`NameError`](countersign_core::model::NameError). Where
    /// registration is not [open](RegistrationMode::Open), or not for this address, the cause is none of these, and
    /// nobody is registered.
    pub async fn register(self, name: &str, password: String) -> Result<WithCookies, HandlerError> {
        let Self { auth, arrival, language, .. } = self;
        let rules = auth.engine().account_rules();
        if rules.registration != RegistrationMode::Open {
            return Err(Reply::error(ErrorCode::RegistrationClosed).into());
        }
        let is_email = match rules.login_names {
            LoginNames::Email => true,
            LoginNames::Username => false,
            LoginNames::Both => name.contains('@'),
        };
        let (email, username) = match is_email {
            true => (Some(EmailAddress::parse(name)?), None),
            false => (None, Some(Username::parse(name)?)),
        };
        if email.as_ref().is_some_and(|email| !rules.allow_email(email)) {
            return Err(address_not_accepted().into());
        }
        let names = OwnNames { email: email.as_ref(), username: username.as_ref() };
        let password = auth.accounts().passwords().rules.admit(password, names);
        let password = password.map_err(RegisterError::from)?;
        let registration = Registration { email, username, password, language };
        let signed_in = auth.accounts().register(registration, arrival).await?;
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
            let verified_only = auth.engine().account_rules().registration == RegistrationMode::VerifyFirst;
            Ok(Arrival { known_device, verified_only, ..browser.arrival(parts, true) })
        });
        match checked {
            Ok(arrival) => {
                let noted = parts.extensions.get().cloned();
                Ok(Self { auth, arrival, language: language(&parts.headers), noted })
            }
            Err(error) => Err(AuthRejection::new(&auth, parts, None, error).await),
        }
    }
}

impl SignIn {
    /// Begins a login session, kept when the browser is closed or not, as the program's
    /// [`LoginSessions`](countersign_http::LoginSessions) say. Without it, [`arrival`](Self::arrival) asks for cookies
    /// that live as long as their tokens.
    #[must_use]
    pub fn remember(mut self, remembered: bool) -> Self {
        let beginning =
            self.auth.engine().login_sessions().cloned().unwrap_or_default().beginning(remembered);
        self.arrival.presentation = beginning.presentation;
        self.arrival.lifetime = beginning.lifetime;
        self
    }

    /// Signs in a user of the program's own, whose identity the handler has proven, and returns the cookies for the
    /// answer. Nothing is kept of a session that the browser had before. The session is not remembered unless
    /// [`remember`](Self::remember) says so. Where a token has let the request through, nothing happens, because the
    /// answer to such a request sets no cookies.
    ///
    /// A handler that proves the identity slowly, as by a password hash, reads
    /// [`Sessions::epoch`](countersign_core::flow::Sessions::epoch) before and calls [`user_since`](Self::user_since), so
    /// that a "log out everywhere" meanwhile ends this login too.
    ///
    /// ```
    /// use axum::Form;
    /// use axum::response::{IntoResponse, Redirect};
    /// use countersign_axum::{Next, Reply, SignIn};
    /// use countersign_http::ErrorCode;
    /// # use countersign_jwt::UserId;
    /// # async fn check(_: &str, _: &str) -> Option<UserId> { None }
    ///
    /// #[derive(serde::Deserialize)]
    /// struct Login {
    ///     name: String,
    ///     password: String,
    ///     #[serde(default)]
    ///     remember: bool,
    /// }
    ///
    /// async fn login(sign_in: SignIn, next: Next, Form(form): Form<Login>) -> Result<impl IntoResponse, Reply> {
    ///     let id = check(&form.name, &form.password).await;
    ///     let id = id.ok_or_else(|| Reply::error(ErrorCode::InvalidCredentials))?;
    ///     Ok((sign_in.remember(form.remember).user(&id).await?, Redirect::to(next.or("/"))))
    /// }
    /// # let _: axum::Router = axum::Router::new().route("/login", axum::routing::post(login));
    /// ```
    ///
    /// # Errors
    /// The finished answer: 503 when the store cannot answer.
    pub async fn user(self, id: &UserId) -> Result<WithCookies, Reply> {
        let epoch = self.auth.sessions().epoch(id).await?;
        self.user_since(id, epoch).await
    }

    /// Signs in a user as [`user`](Self::user) does, whose identity was proven after `epoch` was read.
    ///
    /// # Errors
    /// The finished answer.
    pub async fn user_since(self, id: &UserId, epoch: Epoch) -> Result<WithCookies, Reply> {
        if self.noted.as_ref().is_some_and(Noted::is_by_token) {
            tracing::warn!(
                "nobody is signed in: a token authenticates the request, and its answer sets no cookies"
            );
            return Ok(WithCookies(SetCookies::none()));
        }
        let Self { auth, arrival, .. } = match self.arrival.presentation {
            Presentation::Browser(_) => self,
            Presentation::Cookie | Presentation::Explicit => self.remember(false),
        };
        let Arrival { presentation, lifetime, device, replacing, .. } = arrival;
        let mut beginning = Beginning::of(presentation);
        beginning.lifetime = lifetime;
        auth.sessions().end_by_tokens(replacing, EndReason::Replaced).await?;
        let pair = auth.sessions().begin(id.clone(), epoch, beginning, device).await?;
        Ok(WithCookies(auth.set_cookies(&pair)))
    }
}

/// The extractor for handlers that sign a user out. It takes the session whose cookies or token the request shows, also
/// when they have expired, and none where there is none: signing out twice succeeds. A request that a cookie
/// authenticates must carry its CSRF value, and GET signs nobody out.
///
/// ```
/// use axum::response::{IntoResponse, Redirect};
/// use axum::{Router, routing::post};
/// use countersign_axum::{AuthLayer, Reply, SignOut};
/// # use axum::{body::Body, http::Request};
/// # use countersign_core::{flow::Presentation, model::Device, store::MemoryStore};
/// # use countersign_jwt::{Epoch, UserId};
/// # use countersign_testkit::TestBed;
/// # use tower::ServiceExt as _;
///
/// async fn sign_out(sign_out: SignOut) -> Result<impl IntoResponse, Reply> {
///     Ok((sign_out.now().await?, Redirect::to("/")))
/// }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let auth = countersign_axum::Auth::builder(MemoryStore::new(), TestBed::secrets()).build().await?;
/// # let (user, epoch) = (UserId::new("ada")?, Epoch::FIRST);
/// # let pair = auth.sessions().begin(user, epoch, Presentation::Cookie, Device::default()).await?;
/// let app: Router = Router::new().route("/sign-out", post(sign_out)).layer(AuthLayer::new(auth));
/// let cookie = format!("__Host-countersign_access={}", pair.access_token);
/// let request = Request::post("/sign-out").header("cookie", cookie);
/// let request = request.header("x-csrf-token", pair.csrf.unwrap_or_default());
/// let answer = app.oneshot(request.body(Body::empty())?).await?;
/// assert_eq!(answer.status(), 303);
/// assert!(answer.headers()["set-cookie"].to_str()?.contains("Max-Age=0"));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct SignOut {
    auth: Auth,
    tokens: Vec<Claims>,
    /// The fields that make the browser forget its cookies.
    forget: Option<SetCookies>,
}

impl SignOut {
    /// Ends the session and returns the cookies for the answer. When this call has returned, the session is over here,
    /// and everywhere else within the revocation bound.
    ///
    /// # Errors
    /// 503 when the store cannot answer. The session may then still live.
    pub async fn now(self) -> Result<WithCookies, Reply> {
        self.auth.sessions().end_by_tokens(self.tokens, EndReason::LoggedOut).await?;
        Ok(WithCookies(self.forget.unwrap_or_else(SetCookies::none)))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for SignOut {
    type Rejection = AuthRejection;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, AuthRejection> {
        let Installed(auth) = Installed::from_request_parts(parts, state).await?;
        if parts.method.is_safe() {
            return Err(AuthRejection::answered(Answer::error(ErrorCode::MethodNotAllowed)));
        }
        read_ahead_for(&auth, parts, &Requirement::ANY).await;
        let cookies = auth.rules().cookies();
        let shown = match auth.engine().check_cross_site(parts, cookies) {
            Ok(()) => auth.rules().shown(auth.engine(), parts, BodyTokens::default()).await,
            Err(error) => Err(error),
        };
        let error = match shown {
            Ok(ShownTokens { cookies_proven: false, tokens, refusal: Some(error) }) if tokens.is_empty() => {
                error
            }
            Ok(ShownTokens { refusal: Some(error), .. }) if error.code() == ErrorCode::Unavailable => error,
            Ok(ShownTokens { tokens, cookies_proven, .. }) => {
                let forget = cookies_proven && cookies.are_carried(&parts.headers);
                let forget = forget.then(|| SetCookies::forgetting_carried(cookies, &parts.headers));
                return Ok(Self { auth, tokens, forget });
            }
            Err(error) => error,
        };
        Err(AuthRejection::new(&auth, parts, None, error).await)
    }
}

/// The extractor for handlers in which a signed-in user proves the identity again. It proves the session, as
/// [`AccessToken`] does, whose cookies the request carries; the handler checks the password.
///
/// ```
/// use axum::Form;
/// use axum::response::{IntoResponse, Redirect};
/// use countersign_axum::{Confirm, Next, Reply};
/// use countersign_http::ErrorCode;
/// # use countersign_jwt::UserId;
/// # async fn has_password(_: &UserId, _: &str) -> bool { false }
/// # #[derive(serde::Deserialize)] struct Again { password: String }
///
/// async fn confirm(confirm: Confirm, next: Next, Form(form): Form<Again>) -> Result<impl IntoResponse, Reply> {
///     if !has_password(confirm.subject(), &form.password).await {
///         return Err(Reply::error(ErrorCode::WrongPassword));
///     }
///     Ok((confirm.now().await?, Redirect::to(next.or("/"))))
/// }
/// # let _: axum::Router = axum::Router::new().route("/confirm", axum::routing::post(confirm));
/// ```
#[derive(Clone, Debug)]
pub struct Confirm {
    auth: Auth,
    token: Claims,
    device: Device,
}

impl Confirm {
    /// Makes the session fresh again and returns the cookies for the answer.
    ///
    /// # Errors
    /// 401 if the session was ended meanwhile, 503 when the store cannot answer.
    pub async fn now(self) -> Result<WithCookies, Reply> {
        let Self { auth, token, device } = self;
        let id = token.session().ok_or_else(|| Reply::error(ErrorCode::InvalidToken))?.id;
        let key = UserSession { user_id: token.subject().clone(), id };
        let pair = Refresh::of(auth.sessions()).renew_fresh(key, Presentation::of(&token), device).await?;
        Ok(WithCookies(auth.set_cookies(&pair)))
    }
}

impl std::ops::Deref for Confirm {
    type Target = Claims;

    fn deref(&self) -> &Claims {
        &self.token
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Confirm {
    type Rejection = AuthRejection;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, AuthRejection> {
        let Installed(auth) = Installed::from_request_parts(parts, state).await?;
        let requirement = Requirement::ACCESS.locations(&[Location::Cookie][..]);
        let token = proven(parts, &requirement).await?.into_claims();
        if let Err(error) = auth.check_cookie_host(parts) {
            return Err(AuthRejection::new(&auth, parts, Some(&requirement), error).await);
        }
        Ok(Self { token, device: device(parts), auth })
    }
}

/// The page to go to next, as the parameter `next` of the query names it: a page of this program, or none.
///
/// ```
/// use axum::response::Redirect;
/// use axum::{Router, routing::post};
/// use countersign_axum::Next;
/// # use axum::{body::Body, http::Request};
/// # use tower::ServiceExt as _;
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let app: Router = Router::new().route("/go", post(async |next: Next| Redirect::to(next.or("/"))));
/// for (next, location) in [("%2Freports%3Fyear%3D2026", "/reports?year=2026"), ("//evil.example", "/")] {
///     let request = Request::post(format!("/go?next={next}")).body(Body::empty())?;
///     assert_eq!(app.clone().oneshot(request).await?.headers()["location"], location);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Next(pub Option<ReturnTo>);

impl Next {
    /// The page as a path with its query, otherwise this one.
    #[must_use]
    pub fn or<'a>(&'a self, other: &'a str) -> &'a str {
        self.0.as_ref().map_or(other, ReturnTo::as_str)
    }

    /// The URL of another page that comes back to this one.
    #[must_use]
    pub fn after(&self, page: &str) -> String {
        self.0.as_ref().map_or_else(|| page.to_owned(), |next| next.after(page))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Next {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(ReturnTo::in_query(&parts.uri)))
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
