//! An HTTP client without a network, and what it gets back.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, header};
use http_body_util::BodyExt as _;
use serde_json::Value;
use tower::ServiceExt as _;

/// The name of the cookie with the access token.
pub const ACCESS: &str = "__Host-countersign_access";
/// The name of the cookie with the refresh token.
pub const REFRESH: &str = "__Host-countersign_refresh";
/// The name of the cookie with the CSRF value.
pub const CSRF: &str = "__Host-countersign_csrf";
/// The name of the cookie that names the device.
pub const DEVICE: &str = "__Host-countersign_device";

/// Sends requests straight to a router and keeps the cookies that it sets.
#[derive(Clone, Debug)]
pub struct Client {
    router: Router,
    jar: BTreeMap<String, String>,
    headers: HeaderMap,
}

impl Client {
    /// A client of this router, without cookies.
    pub fn new(router: Router) -> Self {
        Self { router, jar: BTreeMap::new(), headers: HeaderMap::new() }
    }

    /// Sends its requests to another router.
    pub fn at(self, router: &Router) -> Self {
        Self { router: router.clone(), ..self }
    }

    /// Sends this header too, from now on; more than once if repeated.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        let name: HeaderName = name.parse().unwrap();
        self.headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        self
    }

    /// Sends this header too, whose value need not be text.
    pub fn with_bytes(mut self, name: &HeaderName, value: &HeaderValue) -> Self {
        self.headers.append(name, value.clone());
        self
    }

    /// No longer sends this header.
    pub fn without(mut self, name: &str) -> Self {
        self.headers.remove(name);
        self
    }

    /// Sends this token in the `Authorization` header.
    pub fn bearer(self, token: &str) -> Self {
        self.with("authorization", &format!("Bearer {token}"))
    }

    /// Sends the CSRF value that a page of ours would read from its cookie.
    pub fn csrf(self) -> Self {
        let value = self.cookie(CSRF).to_owned();
        self.without("x-csrf-token").with("x-csrf-token", &value)
    }

    /// The value of a cookie; empty if the client has no such cookie.
    pub fn cookie(&self, name: &str) -> &str {
        self.jar.get(name).map_or("", String::as_str)
    }

    /// Whether the browser has no cookie but the one that names its device, which outlives a logout.
    pub fn is_signed_out(&self) -> bool {
        self.jar().keys().all(|name| name.ends_with("countersign_device"))
    }

    /// The cookies, by name.
    pub fn jar(&self) -> &BTreeMap<String, String> {
        &self.jar
    }

    /// Adds a cookie, or replaces it.
    pub fn set_cookie(mut self, name: &str, value: &str) -> Self {
        self.jar.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Forgets a cookie.
    pub fn drop_cookie(mut self, name: &str) -> Self {
        self.jar.remove(name);
        self
    }

    /// Sends a GET.
    pub async fn get(&mut self, path: &str) -> Response {
        self.send(Method::GET, path, Body::empty()).await
    }

    /// Sends a DELETE without a body.
    pub async fn delete(&mut self, path: &str) -> Response {
        self.send(Method::DELETE, path, Body::empty()).await
    }

    /// A POST without a body.
    pub async fn post_nothing(&mut self, path: &str) -> Response {
        self.send(Method::POST, path, Body::empty()).await
    }

    /// Sends a POST with a JSON body.
    pub async fn post(&mut self, path: &str, body: &Value) -> Response {
        self.send_json(Method::POST, path, body).await
    }

    /// Sends a JSON body.
    pub async fn send_json(&mut self, method: Method, path: &str, body: &Value) -> Response {
        self.send_bytes(method, path, Some("application/json"), body.to_string().into_bytes()).await
    }

    /// A body of any type, or of none.
    pub async fn send_bytes(
        &mut self,
        method: Method,
        path: &str,
        content_type: Option<&str>,
        body: Vec<u8>,
    ) -> Response {
        let mut client = self.clone().without("content-type");
        if let Some(content_type) = content_type {
            client = client.with("content-type", content_type);
        }
        let response = client.send(method, path, Body::from(body)).await;
        self.jar = client.jar;
        response
    }

    /// Sends a request, and keeps the cookies that the answer sets.
    pub async fn send(&mut self, method: Method, path: &str, body: Body) -> Response {
        let mut request = Request::builder().method(method).uri(path).body(body).unwrap();
        *request.headers_mut() = self.headers.clone();
        if !self.jar.is_empty() {
            let pairs: Vec<_> = self.jar.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let cookie = HeaderValue::from_bytes(pairs.join("; ").as_bytes()).unwrap();
            request.headers_mut().append(header::COOKIE, cookie);
        }
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let response = Response { status: parts.status.as_u16(), headers: parts.headers, body };
        for cookie in response.set_cookies() {
            if cookie.is_removal() {
                self.jar.remove(&cookie.name);
            } else {
                self.jar.insert(cookie.name, cookie.value);
            }
        }
        response
    }
}

/// A whole answer.
#[derive(Clone, Eq, PartialEq)]
pub struct Response {
    status: u16,
    /// The header fields of the answer.
    pub headers: HeaderMap,
    /// The body of the answer.
    pub body: Bytes,
}

/// One `Set-Cookie` field.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SetCookie {
    /// The name of the cookie.
    pub name: String,
    /// The value of the cookie; empty where the cookie is removed.
    pub value: String,
    /// The attributes, such as `HttpOnly` and `Max-Age=900`.
    pub attributes: Vec<String>,
}

impl Response {
    /// The status of the answer.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// A header field as text; `None` if the answer does not have it.
    pub fn header(&self, name: impl AsRef<str>) -> Option<&str> {
        self.headers.get(name.as_ref()).map(|value| value.to_str().unwrap())
    }

    /// The body; `null` if it has none.
    pub fn json(&self) -> Value {
        if self.body.is_empty() { Value::Null } else { serde_json::from_slice(&self.body).unwrap() }
    }

    /// The `error` of a refusal; empty for any other answer.
    pub fn code(&self) -> String {
        if self.status < 400 { String::new() } else { self.json()["error"].as_str().unwrap().to_owned() }
    }

    /// Status and code, for tables.
    pub fn outcome(&self) -> (u16, String) {
        (self.status, self.code())
    }

    /// The `Set-Cookie` fields of the answer.
    pub fn set_cookies(&self) -> Vec<SetCookie> {
        let fields = self.headers.get_all(header::SET_COOKIE).iter();
        fields.map(|field| SetCookie::parse(field.to_str().unwrap())).collect()
    }

    /// The whole answer as text, without what differs in every run.
    pub fn shown(&self) -> String {
        let mut shown = format!("{}\n", self.status);
        let mut fields: Vec<_> = self.headers.iter().filter(|(name, _)| *name != "content-length").collect();
        fields.sort_by_key(|(name, _)| name.as_str());
        for (name, value) in fields {
            let value = value.to_str().unwrap();
            let value = if name == header::SET_COOKIE { redacted_cookie(value) } else { value.to_owned() };
            writeln!(shown, "{name}: {value}").unwrap();
        }
        let mut body = self.json();
        if !body.is_null() {
            redact(&mut body);
            writeln!(shown, "\n{}", serde_json::to_string_pretty(&body).unwrap()).unwrap();
        }
        shown
    }
}

/// The redacted text: a failing assertion must not put tokens into a log.
impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown())
    }
}

impl SetCookie {
    /// Ours say so by `Max-Age`, those of Flask applications by `Expires` alone.
    pub fn is_removal(&self) -> bool {
        const WAYS: [&str; 2] = ["Max-Age=0", "Expires=Thu, 01 Jan 1970 00:00:00 GMT"];
        self.attributes.iter().any(|attribute| WAYS.contains(&attribute.as_str()))
    }

    fn parse(field: &str) -> Self {
        let mut pieces = field.split("; ");
        let (name, value) = pieces.next().unwrap().split_once('=').unwrap();
        let attributes = pieces.map(str::to_owned).collect();
        Self { name: name.to_owned(), value: value.to_owned(), attributes }
    }
}

fn redacted_cookie(field: &str) -> String {
    let cookie = SetCookie::parse(field);
    let value = if cookie.value.is_empty() { "" } else { "[redacted]" };
    format!("{}={value}; {}", cookie.name, cookie.attributes.join("; "))
}

fn redact(value: &mut Value) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match name.as_str() {
                    "id" | "access_token" | "refresh_token" | "device_token" if member.is_string() => {
                        *member = "[redacted]".into();
                    }
                    _ => redact(member),
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(redact),
        _ => {}
    }
}

/// The members of a token's payload, without a look at its signature.
pub fn payload(token: &str) -> Value {
    let claims = countersign_jwt::claims::decode_unverified(token).unwrap();
    Value::Object(claims.claims().clone())
}
