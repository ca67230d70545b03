//! One request for a page: who sends it, in which language, and what the answer has in common with all others.

use std::borrow::Cow;
use std::time::Duration;

use aws_lc_rs::hmac;
use axum::body::Body;
use axum::extract::{FromRequestParts as _, Request};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_axum::{AccessToken, Auth, AuthRejection, Guard, Reply, SignIn, read_bounded};
use countersign_core::flow::{Arrival, SignedIn};
use countersign_core::model::{User, UserSession};
use countersign_http::{
    Answer, AuthError, CookieLookup, CrossSite, DeviceCookie, ErrorCode, InPlace, Location, Optional,
    Requirement, ReturnTo, SetCookies, csrf_matches, find_cookie, no_store, vary_personal,
};
use countersign_jwt::{Claims, random};
use countersign_text::{Language, TemplateError};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use minijinja::{Value, context};

use crate::ago::lasting;
use crate::blank::MARK;
use crate::failure::Failure;
use crate::form::Form;
use crate::pages::Pages;

/// A request for a page.
#[derive(Debug)]
pub(crate) struct Visit {
    pub(crate) pages: Pages,
    pub(crate) parts: Parts,
    pub(crate) language: Language,
    pub(crate) caller: Option<Caller>,
    /// Where the page leads on, if its address or its form says so.
    pub(crate) next: Option<ReturnTo>,
    /// The secret of the browser's forms before somebody is signed in.
    seed: String,
    is_new_seed: bool,
    /// Whether the browser is to keep the secret. Other sites' requests leave the one that it has, which they withhold.
    keeps_seed: bool,
    /// The key of the text about what was just done, from the page before.
    note: Option<&'static str>,
    /// Whether the request carries token cookies that are worth nothing, so that the browser is to forget them.
    forgets: bool,
}

/// Who is signed in.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(crate) claims: Claims,
    pub(crate) user: User,
}

impl Caller {
    /// The name by which the user is called.
    pub(crate) fn name(&self) -> &str {
        let email = self.user.email.as_ref().map(|email| email.as_str());
        let username = self.user.username.as_ref().map(|username| username.as_str());
        email.or(username).unwrap_or_default()
    }

    /// The session of the caller's token.
    pub(crate) fn session(&self) -> Option<UserSession> {
        let session = self.claims.session()?;
        Some(UserSession { user_id: self.user.id.clone(), id: session.id })
    }
}

/// Why nobody is signed in, where that matters.
enum Unknown {
    Nobody {
        forgets: bool,
    },
    /// The browser comes again with the token that it has withheld.
    ComesAgain(Box<Answer>),
    Failed(Failure),
}

impl Visit {
    /// A visit whose visitor may be signed in.
    pub(crate) async fn open(pages: Pages, request: Request) -> Result<(Self, Form), Response> {
        let (mut parts, body) = request.into_parts();
        // Also where the browser withheld our cookies, because the answer may change or remove them (SEC-188).
        let is_foreign = pages.shared.auth.engine().cross_site(&parts) == CrossSite::Foreign;
        let found = match is_foreign {
            true => Err(Unknown::Failed(Failure::new(ErrorCode::CrossSite))),
            false => caller(&pages.shared.auth, &mut parts).await,
        };
        let mut visit = Self::of(pages, parts);
        match found {
            Ok(caller) => visit.caller = Some(caller),
            Err(Unknown::Nobody { forgets }) => visit.forgets = forgets,
            Err(Unknown::ComesAgain(answer)) => return Err(come_again(*answer)),
            Err(Unknown::Failed(failure)) => return Err(visit.fail(failure)),
        }
        visit.choose_language();
        let form = visit.read(body).await?;
        Ok((visit, form))
    }

    /// A visit whose visitor must be signed in, and is sent to sign in otherwise.
    pub(crate) async fn of_user(pages: Pages, request: Request) -> Result<(Self, Caller, Form), Response> {
        let (mut visit, form) = Self::open(pages, request).await?;
        match visit.caller.take() {
            Some(caller) => {
                // The page is still told who is signed in.
                let shown = Caller { claims: caller.claims.clone(), user: caller.user.clone() };
                visit.caller = Some(shown);
                Ok((visit, caller, form))
            }
            None => match InPlace::come_again(visit.auth(), &visit.parts, &AuthError::Missing) {
                Some(answer) => Err(come_again(answer)),
                None => Err(visit.to_sign_in()),
            },
        }
    }

    /// A form that anybody may send, with the cookies that a new session would replace.
    pub(crate) async fn arriving(pages: Pages, request: Request) -> Result<(Self, Arrival, Form), Response> {
        let (mut parts, body) = request.into_parts();
        let arriving = SignIn::from_request_parts(&mut parts, &()).await;
        let mut visit = Self::of(pages, parts);
        visit.choose_language();
        let form = visit.read(body).await?;
        let arrival = match arriving {
            // Whoever does not ask to be remembered is forgotten when the browser is closed.
            Ok(sign_in) if visit.may_remember() => sign_in.remember(form.given("remember").is_some()).arrival,
            Ok(SignIn { arrival, .. }) => arrival,
            Err(refused) => return Err(visit.fail(failure_of(&refused))),
        };
        let known_device =
            DeviceCookie::of(visit.auth().rules()).and_then(|cookie| cookie.token(&visit.parts.headers));
        Ok((visit, Arrival { known_device, ..arrival }, form))
    }

    /// A visit that is answered with an error page, whoever sends it.
    pub(crate) fn of_nobody(pages: Pages, request: Request) -> Self {
        let (parts, _) = request.into_parts();
        let mut visit = Self::of(pages, parts);
        visit.choose_language();
        visit
    }

    fn of(pages: Pages, parts: Parts) -> Self {
        let cookie = |name: &'static str| match find_cookie(&parts.headers, &pages.cookie_name(name)) {
            CookieLookup::One(text) => Some(text.to_owned()),
            _ => None,
        };
        let kept = cookie(SEED).filter(|seed| {
            seed.len() == SEED_CHARS
                && seed.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        });
        let note = cookie(NOTE).and_then(|kept| NOTES.into_iter().find(|note| *note == kept));
        let is_new_seed = kept.is_none();
        let keeps_seed = is_new_seed && pages.shared.auth.engine().cross_site(&parts) != CrossSite::Foreign;
        let seed = kept.or_else(|| {
            let bytes = random::bytes::<32>(&*pages.shared.random).ok()?;
            Some(URL_SAFE_NO_PAD.encode(bytes))
        });
        let next = ReturnTo::in_query(&parts.uri);
        Self {
            pages,
            parts,
            language: Language::default(),
            caller: None,
            next,
            seed: seed.unwrap_or_default(),
            is_new_seed,
            keeps_seed,
            note,
            forgets: false,
        }
    }

    /// Goes on as nobody: the browser is to forget the cookies of its session.
    pub(crate) fn forget(&mut self) {
        self.caller = None;
        self.forgets = true;
    }

    /// Whether a browser may be remembered, because the program has login sessions.
    fn may_remember(&self) -> bool {
        self.auth().engine().login_sessions().is_some()
    }

    pub(crate) fn auth(&self) -> &Auth {
        &self.pages.shared.auth
    }

    /// The language that the browser has chosen here, else the account's, else the one that the browser asks for.
    fn choose_language(&mut self) {
        let kept = match find_cookie(&self.parts.headers, LANGUAGE) {
            CookieLookup::One(tag) => Language::of_tag(tag),
            _ => None,
        };
        let of_user = || {
            let user = &self.caller.as_ref()?.user;
            Language::of_tag(user.language.as_ref()?.as_str())
        };
        let asked = self.parts.headers.get(header::ACCEPT_LANGUAGE).and_then(|field| field.to_str().ok());
        self.language = kept.or_else(of_user).unwrap_or_else(|| Language::choose(None, asked));
    }

    /// Reads the form of a POST. Its `next` counts, if it has one.
    async fn read(&mut self, body: Body) -> Result<Form, Response> {
        if self.parts.method != Method::POST {
            return Ok(Form::default());
        }
        if !Form::is(&self.parts.headers) {
            return Err(self.fail(Failure::new(ErrorCode::UnsupportedMediaType)));
        }
        let bytes = match read_bounded(body).await {
            Ok(bytes) => bytes,
            Err(reply) => return Err(self.fail(Failure::of(reply.0.status(), None))),
        };
        let form = Form::parse(&bytes);
        self.next = ReturnTo::parse(form.get("next"));
        Ok(form)
    }

    /// Whether a form came from a page that this browser was shown. A page of another site can neither read the value
    /// in ours nor set our cookie.
    pub(crate) fn is_ours(&self, form: &Form) -> bool {
        !self.is_new_seed && csrf_matches(form.get("form_token").as_bytes(), &self.form_token())
    }

    /// The value of this browser's forms. The cookie itself stays out of pages.
    fn form_token(&self) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.seed.as_bytes());
        URL_SAFE_NO_PAD.encode(hmac::sign(&key, b"countersign-pages form"))
    }

    /// The value of a parameter of the address.
    pub(crate) fn query(&self, name: &str) -> Option<String> {
        let query = self.parts.uri.query().unwrap_or_default();
        let mut pairs = url::form_urlencoded::parse(query.as_bytes());
        pairs.find(|(found, _)| found == name).map(|(_, value)| value.into_owned())
    }

    /// The page that the browser goes on to, else this one of ours.
    pub(crate) fn onward(&self, otherwise: &str) -> String {
        match &self.next {
            Some(next) => next.as_str().to_owned(),
            None => self.at(otherwise),
        }
    }

    /// A path of ours, as browsers reach it.
    pub(crate) fn at(&self, path: &str) -> String {
        format!("{}{path}", self.pages.shared.base)
    }

    /// A text in the visit's language.
    pub(crate) fn text(&self, key: &str, values: &[(&str, &str)]) -> String {
        let site = [("site", self.pages.shared.site.as_str())];
        let values: Vec<_> = values.iter().chain(&site).copied().collect();
        let filled = self.pages.shared.words.load().templates.catalog.fill(self.language, key, &values);
        filled.unwrap_or_else(|error| {
            tracing::error!(error = &error as &dyn std::error::Error, "a text could not be filled in");
            String::new()
        })
    }

    /// A duration in words.
    pub(crate) fn lasting(&self, duration: Duration) -> String {
        lasting(&self.pages.shared.words.load().templates.catalog, self.language, duration)
    }

    /// Renders a page of these values.
    pub(crate) fn page(&self, status: StatusCode, template: &str, own: Value) -> Response {
        self.show(status, self.html(template, own, &self.form_token()))
    }

    /// The page at `path` with an empty form, which is rendered anew only for visitors for whom it differs.
    pub(crate) fn blank(
        &self,
        path: &'static str,
        template: &'static str,
        own: impl FnOnce() -> Value,
    ) -> Response {
        let is_at_path = self.parts.uri.path_and_query().is_some_and(|asked| asked == path);
        if !is_at_path || self.caller.is_some() || self.next.is_some() || self.note.is_some() {
            return self.page(StatusCode::OK, template, own());
        }
        let render = || self.html(template, own(), MARK);
        let blank = self.pages.shared.words.load().blanks.page(template, self.language, render);
        self.show(StatusCode::OK, blank.map(|blank| blank.with(&self.form_token())))
    }

    /// The answer that shows a page.
    fn show(&self, status: StatusCode, html: Result<String, TemplateError>) -> Response {
        let html = match html {
            Ok(html) => html,
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "a page could not be rendered");
                return StatusCode::INTERNAL_SERVER_ERROR.into_response();
            }
        };
        let mut response = (status, html).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        self.finish(headers);
        response
    }

    /// Renders a template with these values and those that all pages have.
    fn html(&self, template: &str, own: Value, form_token: &str) -> Result<String, TemplateError> {
        let shared = &self.pages.shared;
        let rules = self.auth().engine().account_rules();
        let may_register = matches!(
            rules.registration,
            countersign_http::RegistrationMode::Open | countersign_http::RegistrationMode::VerifyFirst
        );
        let languages = Language::ALL.map(|language| {
            context! { tag => language.tag(), name => own_name(language), current => language == self.language }
        });
        // An address that a form was sent to is not always one that can be opened.
        let path = match self.parts.method {
            Method::GET => self.parts.uri.path_and_query().map_or("/", |path| path.as_str()),
            _ => match self.parts.uri.path() {
                "/language" => "/",
                "/account/sessions" | "/account/verify" | "/sign-out" => "/account",
                path => path,
            },
        };
        let caller = self.caller.as_ref();
        let common = context! {
            base => shared.base.as_str(),
            language => self.language.tag(),
            languages,
            site => shared.site.as_str(),
            logo => self.at(&shared.logo.path),
            style => self.at(&shared.style.path),
            path => self.at(path),
            form_token,
            csrf => caller.and_then(|caller| caller.claims.csrf()).unwrap_or_default(),
            note => self.note.unwrap_or_default(),
            signed_in => caller.is_some(),
            who => caller.map(Caller::name).unwrap_or_default(),
            sends_mail => self.auth().engine().sends_mail(),
            may_register,
            may_remember => self.may_remember(),
            next => self.next.as_ref().map(ReturnTo::as_str).unwrap_or_default(),
            onward => self.next.as_ref().map_or_else(String::new, |next| next_query(next.as_str())),
        };
        let absent = context! { alert => "", errors => context! {}, kind => "", remembers => false };
        shared
            .words
            .load()
            .templates
            .catalog
            .render(template, context! { ..own, ..context! { ..common, ..absent } })
    }

    /// The page that says that something was done.
    pub(crate) fn message(
        &self,
        title: &str,
        body: &str,
        action: Option<(&str, &str)>,
        values: Value,
    ) -> Response {
        let (action, action_key) = action.unwrap_or_default();
        let own = context! { title_key => title, body_key => body, action, action_key };
        self.page(StatusCode::OK, "message.html", context! { ..own, ..values })
    }

    /// An error page.
    pub(crate) fn fail(&self, failure: Failure) -> Response {
        let Failure { status, kind, retry_after } = failure;
        let wait = self.lasting(retry_after.unwrap_or(Duration::from_secs(1)));
        let own = context! {
            status => status.as_u16(),
            kind,
            title => self.text(&format!("error.{kind}_title"), &[]),
            wait,
        };
        let mut response = self.page(status, "error.html", own);
        add_retry_after(&mut response, retry_after);
        response
    }

    /// Sends the browser to another page of ours, or to where it wanted to go. After a form it is a GET (SEC-076).
    pub(crate) fn go(&self, target: &str) -> Response {
        let mut response = StatusCode::SEE_OTHER.into_response();
        let target = HeaderValue::from_str(target).unwrap_or(HeaderValue::from_static("/"));
        response.headers_mut().insert(header::LOCATION, target);
        self.finish(response.headers_mut());
        response
    }

    /// Sends the browser to another page of ours, which says what was done.
    pub(crate) fn done(&self, note: &'static str, path: &str) -> Response {
        debug_assert!(NOTES.contains(&note), "{note}");
        let mut response = self.go(&self.at(path));
        self.pages.add_cookie(&mut response, NOTE, note, "; Max-Age=60");
        response
    }

    /// Sends a visitor who is not signed in to sign in, and back afterwards.
    pub(crate) fn to_sign_in(&self) -> Response {
        let path = match self.parts.method {
            Method::GET => self.parts.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
            // What was to be done is not done behind somebody's back after the sign-in.
            _ => "/account".to_owned(),
        };
        self.go(&format!("{}{}", self.at("/sign-in"), next_query(&self.at(&path))))
    }

    /// Signs the browser in, and sends it on.
    pub(crate) fn sign_in(&self, signed_in: &SignedIn, target: &str, note: Option<&'static str>) -> Response {
        let mut response = self.go(target);
        let headers = response.headers_mut();
        if let Some(field) = signed_in
            .device_token
            .as_ref()
            .and_then(|token| DeviceCookie::of(self.auth().rules())?.set(token))
        {
            headers.append(header::SET_COOKIE, field);
        }
        if let Err(error) = self.auth().set_cookies(&signed_in.pair).apply(headers) {
            return self.fail(Failure::internal(&error));
        }
        if let Some(note) = note {
            self.pages.add_cookie(&mut response, NOTE, note, "; Max-Age=60");
        }
        // Forms of before belong to nobody's session any more (SEC-072).
        self.pages.add_cookie(&mut response, SEED, "", "; Max-Age=0");
        response
    }

    /// Makes the browser forget who was signed in, and sends it to a page of ours.
    pub(crate) fn sign_out(&self, path: &str) -> Response {
        let mut response = self.go(&self.at(path));
        let rules = self.auth().rules().cookies();
        // A request without our cookies may come from a page that the browser keeps them from.
        if !rules.are_carried(&self.parts.headers) {
            return response;
        }
        let cookies = SetCookies::forgetting_carried(rules, &self.parts.headers);
        if let Err(error) = cookies.apply(response.headers_mut()) {
            tracing::error!(error = &error as &dyn std::error::Error, "cookies could not be removed");
        }
        self.pages.add_cookie(&mut response, SEED, "", "; Max-Age=0");
        response
    }

    /// Adds the header fields that all pages have.
    fn finish(&self, headers: &mut HeaderMap) {
        secure(headers);
        no_store(headers);
        vary_personal(headers);
        headers.append(header::VARY, HeaderValue::from_static("Accept-Language"));
        if self.keeps_seed && !self.seed.is_empty() {
            self.pages.add_cookie_to(headers, SEED, &self.seed, "");
        }
        if self.note.is_some() {
            self.pages.add_cookie_to(headers, NOTE, "", "; Max-Age=0");
        }
        if self.forgets
            && let Err(error) =
                SetCookies::forgetting_carried(self.auth().rules().cookies(), &self.parts.headers)
                    .apply(headers)
        {
            tracing::error!(error = &error as &dyn std::error::Error, "cookies could not be removed");
        }
    }
}

impl Pages {
    /// The name of a cookie of ours, which other hosts of the site cannot set where cookies are `Secure`.
    fn cookie_name(&self, name: &'static str) -> Cow<'static, str> {
        match self.shared.auth.rules().cookies().are_secure() {
            true => Cow::Owned(format!("__Host-{name}")),
            false => Cow::Borrowed(name),
        }
    }

    fn add_cookie(&self, response: &mut Response, name: &'static str, value: &str, more: &str) {
        self.add_cookie_to(response.headers_mut(), name, value, more);
    }

    fn add_cookie_to(&self, headers: &mut HeaderMap, name: &'static str, value: &str, more: &str) {
        let secure = if self.shared.auth.rules().cookies().are_secure() { "; Secure" } else { "" };
        let name = self.cookie_name(name);
        let field = format!("{name}={value}; HttpOnly; SameSite=Lax{secure}; Path=/{more}");
        if let Ok(mut field) = HeaderValue::from_str(&field) {
            field.set_sensitive(true);
            headers.append(header::SET_COOKIE, field);
        }
    }

    /// Keeps the browser's choice of a language for a year. It is no secret, and the name needs no prefix.
    pub(crate) fn keep_language(&self, response: &mut Response, language: Language) {
        let secure = if self.shared.auth.rules().cookies().are_secure() { "; Secure" } else { "" };
        let field =
            format!("{LANGUAGE}={language}; HttpOnly; SameSite=Lax{secure}; Path=/; Max-Age=31536000");
        if let Ok(field) = HeaderValue::from_str(&field) {
            response.headers_mut().append(header::SET_COOKIE, field);
        }
    }
}

/// The caller of a request, by the cookies of a session. Other credentials count as none here, so that a page never
/// acts for somebody whom the browser does not show as signed in.
async fn caller(auth: &Auth, parts: &mut Parts) -> Result<Caller, Unknown> {
    let requirement =
        Requirement::ACCESS.locations(&[Location::Cookie][..]).optional(Optional::IfAbsentOrExpired);
    if let Err(refused) = Guard::new(requirement).check(parts).await {
        return Err(unknown(auth, parts, &refused));
    }
    let token =
        <Option<AccessToken> as axum::extract::FromRequestParts<()>>::from_request_parts(parts, &()).await;
    let claims = match token {
        Ok(Some(token)) => token.into_claims(),
        Ok(None) => return Err(Unknown::Nobody { forgets: false }),
        Err(refused) => return Err(unknown(auth, parts, &refused)),
    };
    match auth.accounts().enabled_user(claims.subject()).await {
        Ok(Some(user)) => Ok(Caller { claims, user }),
        // A program's own user has no account here, and stays signed in there.
        Ok(None) => Err(Unknown::Nobody { forgets: false }),
        Err(error) => Err(Unknown::Failed(error.into())),
    }
}

fn unknown(auth: &Auth, parts: &Parts, refused: &AuthRejection) -> Unknown {
    if let Some(answer) = refused.error().and_then(|error| InPlace::come_again(auth, parts, error)) {
        return Unknown::ComesAgain(Box::new(answer));
    }
    match refused.error() {
        Some(error) if error.code().status() == StatusCode::UNAUTHORIZED => {
            // A browser withholds cookies from another site's links, so nothing is over for certain.
            let is_from_elsewhere =
                parts.headers.get("sec-fetch-site").is_some_and(|site| site == "cross-site");
            Unknown::Nobody { forgets: !is_from_elsewhere }
        }
        // Two cookies of one name: one of them may be an attacker's.
        Some(AuthError::Locate(_)) => Unknown::Nobody { forgets: true },
        _ => Unknown::Failed(failure_of(refused)),
    }
}

fn come_again(answer: Answer) -> Response {
    let mut response = Reply(answer).into_response();
    secure(response.headers_mut());
    response
}

fn failure_of(refused: &AuthRejection) -> Failure {
    match refused.error() {
        Some(error) => error.into(),
        None => Failure::of(refused.answer().status(), None),
    }
}

/// Adds the header fields by which a browser runs no script, loads nothing from elsewhere, shows the page in no frame
/// and tells no other site its address (SEC-073).
///
/// `Referrer-Policy: no-referrer` would make browsers send `Origin: null` with our own forms, and those that do not send
/// `Sec-Fetch-Site` would then be refused. With `same-origin`, no other site is told anything either.
pub(crate) fn secure(headers: &mut HeaderMap) {
    const POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; \
                          frame-ancestors 'none'; base-uri 'none'";
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

pub(crate) fn add_retry_after(response: &mut Response, after: Option<Duration>) {
    if let Some(after) = after {
        let seconds = after.as_secs().saturating_add(u64::from(after.subsec_nanos() > 0)).max(1);
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
}

/// The query by which a page is told where to go on to.
fn next_query(target: &str) -> String {
    let target: String = url::form_urlencoded::byte_serialize(target.as_bytes()).collect();
    format!("?next={target}")
}

/// The name of a language in that language.
fn own_name(language: Language) -> &'static str {
    match language {
        Language::German => "Deutsch",
        Language::French => "Français",
        _ => "English",
    }
}

/// Names of cookies.
const SEED: &str = "countersign_form";
const NOTE: &str = "countersign_note";
const LANGUAGE: &str = "countersign_language";

/// 32 bytes as base64url.
const SEED_CHARS: usize = 43;

/// The keys of the texts that a page may say about what the one before has done.
const NOTES: [&str; 10] = [
    "welcome",
    "password_changed",
    "email_sent",
    "email_changed",
    "username_changed",
    "language_changed",
    "session_ended",
    "others_ended",
    "link_sent",
    "confirmed",
];
