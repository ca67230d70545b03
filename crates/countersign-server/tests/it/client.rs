//! A client of the server's API.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::header::HeaderMap;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::server::Server;

pub(crate) const PASSWORD: &str = "correct horse battery staple";

/// Sends requests to one server.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    url: String,
}

/// An answer, read whole.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
    pub(crate) text: String,
}

/// The tokens of an answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Pair {
    pub(crate) access: String,
    pub(crate) refresh: String,
}

impl Client {
    pub(crate) fn new(server: &Server) -> Self {
        Self::with(reqwest::Client::builder(), server)
    }

    /// One that keeps cookies, as a browser does.
    pub(crate) fn browser(server: &Server) -> Self {
        Self::with(reqwest::Client::builder().cookie_store(true), server)
    }

    pub(crate) fn with(builder: reqwest::ClientBuilder, server: &Server) -> Self {
        let http = builder.timeout(Duration::from_secs(60)).build().unwrap();
        Self { http, url: server.url.clone() }
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url))
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        send(self.request(Method::GET, path)).await.unwrap()
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        send(self.request(Method::POST, path).json(body)).await.unwrap()
    }

    /// `GET /v1/auth/me` by bearer.
    pub(crate) async fn me(&self, access: &str) -> Answer {
        send(self.request(Method::GET, "/v1/auth/me").bearer_auth(access)).await.unwrap()
    }

    pub(crate) async fn refresh(&self, refresh: &str) -> Answer {
        self.post("/v1/auth/refresh", &json!({ "refresh_token": refresh })).await
    }

    pub(crate) async fn logout(&self, refresh: &str) -> Answer {
        self.post("/v1/auth/logout", &json!({ "refresh_token": refresh })).await
    }

    pub(crate) async fn try_login(&self, email: &str, password: &str) -> Answer {
        self.post("/v1/auth/login", &json!({ "email": email, "password": password })).await
    }

    pub(crate) async fn login(&self, email: &str) -> Pair {
        self.login_with(email, PASSWORD).await
    }

    pub(crate) async fn login_with(&self, email: &str, password: &str) -> Pair {
        self.try_login(email, password).await.expect(200).pair()
    }

    pub(crate) async fn register(&self, email: &str) -> Pair {
        let body = json!({ "email": email, "password": PASSWORD });
        self.post("/v1/auth/register", &body).await.expect(201).pair()
    }
}

/// Sends a request and reads the whole answer.
pub(crate) async fn send(request: RequestBuilder) -> Result<Answer, reqwest::Error> {
    let response = request.send().await?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let text = response.text().await?;
    let body = serde_json::from_str(&text).unwrap_or(Value::Null);
    Ok(Answer { status, headers, body, text })
}

impl Answer {
    /// This status, and what the contract promises of every answer.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        assert!(self.headers.contains_key("x-request-id"), "{self:?}");
        assert_eq!(self.headers.get("x-content-type-options").unwrap(), "nosniff", "{self:?}");
        self
    }

    /// This error, as the contract shapes them.
    #[track_caller]
    pub(crate) fn expect_error(self, status: u16, code: &str) -> Self {
        let answer = self.expect(status);
        assert_eq!(answer.body["error"], code, "{answer:?}");
        assert!(answer.body["error_description"].is_string(), "{answer:?}");
        assert_eq!(answer.headers["content-type"], "application/json");
        assert!(status != 401 || answer.headers.contains_key("www-authenticate"), "{answer:?}");
        assert_eq!([429, 503].contains(&status), answer.headers.contains_key("retry-after"), "{answer:?}");
        answer
    }

    #[track_caller]
    pub(crate) fn pair(&self) -> Pair {
        let token = |name: &str| self.body[name].as_str().expect("a token").to_owned();
        Pair { access: token("access_token"), refresh: token("refresh_token") }
    }

    /// The value of a cookie that the answer sets, with its attributes.
    pub(crate) fn cookie(&self, name: &str) -> Option<(String, String)> {
        self.headers.get_all("set-cookie").iter().find_map(|field| {
            let (pair, attributes) = field.to_str().unwrap().split_once(';')?;
            let (found, value) = pair.split_once('=')?;
            (found == name).then(|| (value.to_owned(), attributes.to_owned()))
        })
    }
}

/// The claims of a token, unverified.
pub(crate) fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).expect("three parts");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}
