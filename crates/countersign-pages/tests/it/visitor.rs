//! Somebody who looks at pages and sends their forms.

use std::sync::Arc;

use countersign_http::{AuthBuilder, LoginSessions};
use countersign_pages::Pages;
use countersign_testapp::app::{PASSWORD, TestApp};
use countersign_testapp::client::{Client, Response};
use countersign_testkit::{RecordedLetters, SeededRandom};
use http::Method;

/// A new password.
pub(crate) const NEW: &str = "canary-secret: another staple";

/// An application with pages.
pub(crate) async fn site() -> TestApp {
    site_with(|builder| builder).await
}

/// The same, with other settings.
pub(crate) async fn site_with(configure: impl FnOnce(AuthBuilder) -> AuthBuilder) -> TestApp {
    let sessions = LoginSessions::new().sign_in_page("/sign-in").confirm_page("/confirm");
    let app = TestApp::with(|builder| configure(builder.login_sessions(sessions))).await;
    let pages = Pages::new(app.auth.clone()).random(Arc::new(SeededRandom::new(7)));
    app.with_routes(pages.router())
}

/// The same, which sends mails.
pub(crate) async fn mailing(
    configure: impl FnOnce(AuthBuilder) -> AuthBuilder,
) -> (TestApp, RecordedLetters) {
    let letters = RecordedLetters::default();
    let app = site_with(|builder| configure(builder.letters(Arc::new(letters.clone())))).await;
    (app, letters)
}

/// A browser, on no page yet.
pub(crate) struct Visitor {
    pub(crate) client: Client,
    /// The page that it looks at.
    pub(crate) page: String,
}

impl Visitor {
    pub(crate) fn of(app: &TestApp) -> Self {
        Self { client: app.browser().with("accept", "text/html,*/*;q=0.8"), page: String::new() }
    }

    /// A browser in which a new account is signed in.
    pub(crate) async fn registered(app: &TestApp, name: &str) -> Self {
        let mut visitor = Self::of(app);
        let email = format!("{name}@example.org");
        visitor.open("/register").await;
        let answer = visitor.send("/register", &[("email", &email), ("password", PASSWORD)]).await;
        assert_eq!(goes_to(&answer), "/account", "{}", text(&answer));
        visitor.open("/account").await;
        visitor
    }

    /// A browser in which an account is signed in once more.
    pub(crate) async fn signed_in(app: &TestApp, email: &str, password: &str) -> Self {
        let mut visitor = Self::of(app);
        visitor.open("/sign-in").await;
        let answer = visitor.send("/sign-in", &[("name", email), ("password", password)]).await;
        assert_eq!(goes_to(&answer), "/account", "{}", text(&answer));
        visitor
    }

    /// Looks at a page.
    pub(crate) async fn open(&mut self, path: &str) -> Response {
        let answer = self.client.get(path).await;
        self.page = text(&answer);
        answer
    }

    /// Sends a form of the page that it looks at, with the hidden fields of that page.
    pub(crate) async fn send(&mut self, action: &str, fields: &[(&str, &str)]) -> Response {
        let hidden: Vec<_> = ["form_token", "csrf_token", "next", "token"]
            .into_iter()
            .filter(|name| !fields.iter().any(|(field, _)| field == name))
            .filter_map(|name| Some((name, self.hidden(action, name)?)))
            .collect();
        let hidden = hidden.iter().map(|(name, value)| (*name, value.as_str()));
        let fields: Vec<_> = fields.iter().copied().chain(hidden).collect();
        let answer = self.send_exactly(action, &fields).await;
        self.page = text(&answer);
        answer
    }

    /// Sends these fields and no others.
    pub(crate) async fn send_exactly(&mut self, action: &str, fields: &[(&str, &str)]) -> Response {
        let mut body = url::form_urlencoded::Serializer::new(String::new());
        body.extend_pairs(fields);
        let media_type = Some("application/x-www-form-urlencoded");
        self.client.send_bytes(Method::POST, action, media_type, body.finish().into_bytes()).await
    }

    /// The value of a hidden field of the form with this action.
    pub(crate) fn hidden(&self, action: &str, name: &str) -> Option<String> {
        let form = self.page.split("<form").find(|form| form.contains(&format!("action=\"{action}\"")))?;
        let form = form.split("</form>").next()?;
        let (_, rest) = form.split_once(&format!("name=\"{name}\" value=\""))?;
        Some(rest.split('"').next()?.replace("&#x2f;", "/").replace("&amp;", "&"))
    }

    pub(crate) fn is_signed_in(&self) -> bool {
        !self.client.is_signed_out()
            && self.client.jar().keys().any(|name| name.ends_with("countersign_refresh"))
    }
}

/// The page as text.
pub(crate) fn text(answer: &Response) -> String {
    String::from_utf8(answer.body.to_vec()).unwrap()
}

/// The page that an answer leads to.
pub(crate) fn goes_to(answer: &Response) -> String {
    let target = answer.header("location").unwrap_or_default().to_owned();
    assert!(target.is_empty() || answer.status() == 303, "a form is followed by a GET (SEC-076)");
    target
}
