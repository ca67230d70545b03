//! The endpoints of tokens, for any framework: introspection (RFC 7662), revocation (RFC 7009) and the metadata that
//! names them (RFC 8414).

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_core::flow::ClientError;
use countersign_core::model::{AdminScope, ConfidentialClient};
use countersign_jwt::{Claims, TokenType};
use http::request::Parts;
use http::{HeaderMap, StatusCode, header};
use serde_json::{Map, Value, json};
use url::{Host, Url, form_urlencoded};

use crate::answer::{Answer, ErrorCode, JSON, no_store};
use crate::auth::Auth;
use crate::encoding::ContentEncoding;
use crate::error::AuthError;
use crate::forwarded::ClientAddress;
use crate::locate::essence;

/// The endpoints of tokens of one [`Auth`].
#[derive(Clone, Copy, Debug)]
pub struct TokenEndpoints<'a>(&'a Auth);

impl Auth {
    /// Introspection, revocation and metadata by standards, for programs of other makers.
    #[must_use]
    pub const fn token_endpoints(&self) -> TokenEndpoints<'_> {
        TokenEndpoints(self)
    }
}

impl TokenEndpoints<'_> {
    /// The answer to `POST /v1/auth/introspect` (RFC 7662): whether a token is good now, and what it says. `body` is the
    /// request's form. The caller is a client with the scope `tokens:introspect`.
    ///
    /// A token that is expired, revoked, malformed or another server's is `{"active":false}`, and the answer does not
    /// tell which. A refresh token is judged and not exchanged. Nothing is written.
    ///
    /// ```
    /// use http::Request;
    /// # use countersign_core::{flow::Presentation, model::Device, store::MemoryStore};
    /// # use countersign_jwt::{Epoch, UserId};
    /// # use countersign_testkit::TestBed;
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let auth = countersign_http::Auth::builder(MemoryStore::new(), TestBed::secrets()).build().await?;
    /// let form = "application/x-www-form-urlencoded";
    /// let (parts, ()) = Request::post("/v1/auth/introspect").header("content-type", form).body(())?.into_parts();
    /// let answer = auth.token_endpoints().introspect(&parts, b"token=secret").await;
    /// assert_eq!(answer.status(), 401, "nobody may ask who is no client");
    /// assert!(answer.headers()["www-authenticate"].to_str()?.starts_with("Basic "));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn introspect(&self, parts: &Parts, body: &[u8]) -> Answer {
        let form = match self.asked_by_client(parts, body, AdminScope::TokensIntrospect).await {
            Ok((_, form)) => form,
            Err(refusal) => return refusal,
        };
        match self.judge_any(&form).await {
            Ok(claims) => private_json(&introspection(&claims)),
            Err(error) if error.code() == ErrorCode::Unavailable => unavailable(&error),
            Err(error) => {
                tracing::debug!(error = &error as &dyn std::error::Error, "a token is not active");
                private_json(&json!({ "active": false }))
            }
        }
    }

    /// The answer to `POST /v1/auth/revoke` (RFC 7009): ends the session that a token of either kind names, as a logout
    /// does. `body` is the request's form. The caller is a client with the scope `tokens:revoke`.
    ///
    /// The answer is 200 for every token, whether or not there was anything to revoke, and 503 where the store does not
    /// answer.
    pub async fn revoke(&self, parts: &Parts, body: &[u8]) -> Answer {
        let (client, form) = match self.asked_by_client(parts, body, AdminScope::TokensRevoke).await {
            Ok(asked) => asked,
            Err(refusal) => return refusal,
        };
        let token = match self.token_to_end(&form.token).await {
            Ok(token) => token,
            Err(error) => return unavailable(&error),
        };
        if let Some(token) = token
            && let Err(error) = self.0.engine().clients.revoke(&client, token).await
        {
            return unavailable(&error);
        }
        let mut answer = Answer::empty(StatusCode::OK);
        no_store(answer.headers_mut());
        answer
    }

    /// The answer to `GET /.well-known/oauth-authorization-server`, followed by the path of the issuer if it has one
    /// (RFC 8414 §3.1). `path` is the request's. `None`, which is a 404, for every other path, and where the issuer is no
    /// URL by which a program could find this document: set
    /// [`AuthBuilder::public_url`](crate::AuthBuilder::public_url).
    ///
    /// ```
    /// # use countersign_core::store::MemoryStore;
    /// # use countersign_testkit::TestBed;
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let builder = countersign_http::Auth::builder(MemoryStore::new(), TestBed::secrets());
    /// let auth = builder.public_url("https://example.com/auth".parse()?).build().await?;
    /// assert!(auth.token_endpoints().server_metadata("/.well-known/oauth-authorization-server").is_none());
    /// let answer = auth.token_endpoints().server_metadata("/.well-known/oauth-authorization-server/auth").unwrap();
    /// let metadata: serde_json::Value = serde_json::from_slice(answer.body())?;
    /// assert_eq!(metadata["issuer"], "https://example.com/auth");
    /// assert_eq!(metadata["jwks_uri"], "https://example.com/auth/.well-known/jwks.json");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn server_metadata(&self, path: &str) -> Option<Answer> {
        let issuer = self.0.sessions().keys().issuer();
        let own_path = issuer_path(issuer)?;
        (path.strip_prefix(METADATA_PATH)? == own_path).then_some(())?;
        let base = self.0.engine().public_url.as_ref()?.as_str().trim_end_matches('/');
        let methods = ["client_secret_basic", "client_secret_post"];
        let metadata = json!({
            "issuer": issuer,
            "jwks_uri": format!("{base}/.well-known/jwks.json"),
            "introspection_endpoint": format!("{base}/v1/auth/introspect"),
            "introspection_endpoint_auth_methods_supported": methods,
            "revocation_endpoint": format!("{base}/v1/auth/revoke"),
            "revocation_endpoint_auth_methods_supported": methods,
            // Left out, the second would mean authorization_code and implicit (RFC 8414 §2).
            "response_types_supported": [],
            "grant_types_supported": [],
        });
        Some(Answer::public(JSON, metadata.to_string()))
    }

    /// The answer to `GET /.well-known/jwks.json`: the public keys with which others verify our access tokens
    /// (RFC 7517 §5). Caches may keep it for five minutes, and ask for changes by its `ETag`: with
    /// [`Answer::unless_known`] the answer is then 304.
    #[must_use]
    pub fn jwks(&self) -> Answer {
        Answer::jwk_set(self.0.rules().public_keys(self.0.engine()))
    }

    /// The client that asks, and what it asks about. The client is judged before the token.
    async fn asked_by_client(
        &self,
        parts: &Parts,
        body: &[u8],
        scope: AdminScope,
    ) -> Result<(ConfidentialClient, Form), Answer> {
        let mut form = Form::read(&parts.headers, body)?;
        let Some((id, secret)) = credentials(&parts.headers, &mut form)? else {
            return Err(refused(parts, "it shows no credentials"));
        };
        match self.0.engine().clients.authenticate(&id, &secret, scope).await {
            Ok(_) if form.token.is_empty() => {
                Err(Answer::error_with(ErrorCode::InvalidRequest, "The form has no token."))
            }
            Ok(client) => Ok((client, form)),
            Err(ClientError::Refused(why)) => Err(refused(parts, why)),
            Err(error @ ClientError::NotAllowed { .. }) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "a client was refused");
                Err(Answer::error(ErrorCode::UnauthorizedClient))
            }
            Err(error) => Err(unavailable(&error)),
        }
    }

    /// Judges a token of either type. The hint says which type is tried first.
    async fn judge_any(&self, form: &Form) -> Result<Claims, AuthError> {
        let kinds = match form.hint.as_deref() {
            Some("refresh_token") => [TokenType::Refresh, TokenType::Access],
            _ => [TokenType::Access, TokenType::Refresh],
        };
        let [first, second] = kinds;
        match self.0.rules().judge(self.0.engine(), &form.token, first).await {
            Err(error) if error.code() != ErrorCode::Unavailable => {
                self.0.rules().judge(self.0.engine(), &form.token, second).await
            }
            judged => judged,
        }
    }

    /// The claims of a token that names something to end; `None` for every other text.
    async fn token_to_end(&self, token: &str) -> Result<Option<Claims>, AuthError> {
        if let Some(claims) = self.0.rules().verify_for_end(self.0.engine(), token).await? {
            return Ok(Some(claims));
        }
        // An access token that names no session is revoked alone, as long as it is good.
        match self.0.rules().judge(self.0.engine(), token, TokenType::Access).await {
            Ok(claims) => Ok(Some(claims)),
            Err(error) if error.code() == ErrorCode::Unavailable => Err(error),
            Err(_) => Ok(None),
        }
    }
}

/// The path of the metadata, without that of the issuer.
const METADATA_PATH: &str = "/.well-known/oauth-authorization-server";

/// The path of an issuer by which its metadata is found, without a slash at its end; `None` if the issuer is no https
/// URL, or has a query or fragment (RFC 8414 §2). A loopback address may have http, for who tries it out.
fn issuer_path(issuer: &str) -> Option<String> {
    let url = Url::parse(issuer).ok()?;
    let is_loopback = match url.host()? {
        Host::Domain(name) => name == "localhost",
        Host::Ipv4(ip) => ip.is_loopback(),
        Host::Ipv6(ip) => ip.is_loopback(),
    };
    let is_found = (url.scheme() == "https" || url.scheme() == "http" && is_loopback)
        && url.query().is_none()
        && url.fragment().is_none();
    is_found.then(|| url.path().trim_end_matches('/').to_owned())
}

/// The form of a request to an endpoint of tokens. Parameters that are not known are ignored, and so are empty ones
/// (RFC 6749 §3.2).
#[derive(Default)]
struct Form {
    token: String,
    hint: Option<String>,
    client_id: Option<String>,
    client_secret: Option<String>,
}

impl Form {
    /// # Errors
    /// 400 for a body that is no form, and for a parameter that comes twice; 415 for a compressed body.
    fn read(headers: &HeaderMap, body: &[u8]) -> Result<Self, Answer> {
        if let Some(encoding) = ContentEncoding::of(headers) {
            return Err(encoding.into());
        }
        let is_form = |essence: &str| essence.eq_ignore_ascii_case("application/x-www-form-urlencoded");
        if !essence(headers).is_some_and(is_form) {
            const WRONG: &str = "The body must be application/x-www-form-urlencoded.";
            return Err(Answer::error_with(ErrorCode::InvalidRequest, WRONG));
        }
        let mut known: BTreeMap<Cow<'_, str>, String> = BTreeMap::new();
        for (name, value) in form_urlencoded::parse(body) {
            if ["token", "token_type_hint", "client_id", "client_secret"].contains(&&*name)
                && known.insert(name, value.into_owned()).is_some()
            {
                return Err(Answer::error_with(ErrorCode::InvalidRequest, "A parameter comes twice."));
            }
        }
        let mut take = |name: &str| known.remove(name).filter(|value| !value.is_empty());
        Ok(Self {
            token: take("token").unwrap_or_default(),
            hint: take("token_type_hint"),
            client_id: take("client_id"),
            client_secret: take("client_secret"),
        })
    }
}

/// The client's id and secret, from `Authorization: Basic` or from the form (RFC 6749 §2.3.1); `None` where one of them
/// is missing or cannot be read.
///
/// # Errors
/// 400 if the client authenticates in both ways, or names itself in two.
fn credentials(headers: &HeaderMap, form: &mut Form) -> Result<Option<(String, String)>, Answer> {
    let wrong = |why| Answer::error_with(ErrorCode::InvalidRequest, why);
    let mut fields = headers.get_all(header::AUTHORIZATION).iter();
    let in_form = (form.client_id.take(), form.client_secret.take());
    let field = match (fields.next(), fields.next()) {
        (None, _) => return Ok(in_form.0.zip(in_form.1)),
        (Some(field), None) => field,
        (Some(_), Some(_)) => return Err(wrong("There are two Authorization fields.")),
    };
    if in_form.1.is_some() {
        return Err(wrong("The client authenticates by Authorization and by the form; it must choose one."));
    }
    let Some((id, secret)) = basic(field.as_bytes()) else { return Ok(None) };
    if in_form.0.is_some_and(|other| other != id) {
        return Err(wrong("The client has another id in the form than in Authorization."));
    }
    Ok(Some((id, secret)))
}

/// Reads `Basic`, base64 of the id, a colon and the secret, each encoded as in a form (RFC 6749 §2.3.1).
fn basic(field: &[u8]) -> Option<(String, String)> {
    let (scheme, credentials) = std::str::from_utf8(field).ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("basic").then_some(())?;
    let credentials = STANDARD.decode(credentials.trim()).ok()?;
    let colon = credentials.iter().position(|byte| *byte == b':')?;
    let (id, secret) = (credentials.get(..colon)?, credentials.get(colon + 1..)?);
    Some((decoded(id)?, decoded(secret)?))
}

/// One text that is encoded as in a form.
fn decoded(text: &[u8]) -> Option<String> {
    // Texts with an unencoded `&` or `=`, which no id and no secret has, are read as several.
    let mut pairs = form_urlencoded::parse(text);
    match (pairs.next(), pairs.next()) {
        (Some((text, rest)), None) if rest.is_empty() => Some(text.into_owned()),
        _ => None,
    }
}

/// What the answer says about a token that is good (RFC 7662 §2.2). The token's other claims are left out, because they
/// are the application's and may be meant for the holder alone; roles are what resource servers ask for.
fn introspection(claims: &Claims) -> Value {
    let mut all = claims.to_map();
    let mut answer = Map::from_iter([("active".to_owned(), true.into())]);
    if claims.token_type() == TokenType::Access {
        answer.insert("token_type".to_owned(), "Bearer".into());
    }
    // The scope is one text here, whatever it is in the token.
    if let Some(Value::Array(scopes)) = all.get("scope") {
        let scopes: Vec<_> = scopes.iter().filter_map(Value::as_str).collect();
        all.insert("scope".to_owned(), scopes.join(" ").into());
    }
    for name in ["scope", "client_id", "exp", "iat", "nbf", "sub", "aud", "iss", "jti", "sid", "roles"] {
        if let Some(value) = all.remove(name) {
            answer.insert(name.to_owned(), value);
        }
    }
    // Under the rules of another library these claims may have other names.
    answer.entry("sub").or_insert_with(|| claims.subject().as_str().into());
    Value::Object(answer)
}

fn refused(parts: &Parts, why: &'static str) -> Answer {
    let ip = parts.extensions.get::<ClientAddress>().map(|client| client.address());
    tracing::warn!(ip = ip.map(tracing::field::display), "a client was refused: {why}");
    Answer::error(ErrorCode::InvalidClient)
}

fn unavailable(error: &(dyn std::error::Error + 'static)) -> Answer {
    tracing::error!(error, "a request could not be answered");
    Answer::error(ErrorCode::Unavailable)
}

fn private_json(body: &Value) -> Answer {
    let mut answer = match Answer::json(StatusCode::OK, body) {
        Ok(answer) => answer,
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "a request could not be answered");
            Answer::error(ErrorCode::InternalError)
        }
    };
    no_store(answer.headers_mut());
    answer
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const FORM: &str = "application/x-www-form-urlencoded";

    fn read(authorization: &[&str], body: &str) -> Result<Option<(String, String)>, u16> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(FORM));
        for field in authorization {
            headers.append(header::AUTHORIZATION, HeaderValue::from_str(field).unwrap());
        }
        let status = |answer: Answer| answer.status().as_u16();
        let mut form = Form::read(&headers, body.as_bytes()).map_err(status)?;
        credentials(&headers, &mut form).map_err(status)
    }

    #[test]
    fn sec_106_credentials_are_in_the_header_or_in_the_form() {
        let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
        let pair = |id: &str, secret: &str| Ok(Some((id.to_owned(), secret.to_owned())));
        for (case, fields, body, expected) in [
            ("header", vec![basic("id:csc_a-b")], "", pair("id", "csc_a-b")),
            ("encoded", vec![basic("%69d:csc%5Fa%2Db+")], "", pair("id", "csc_a-b ")),
            ("other case", vec![basic("id:secret").replacen("Basic", "bAsIc", 1)], "", pair("id", "secret")),
            ("form", vec![], "client_id=id&client_secret=a%2Db&token=t", pair("id", "a-b")),
            ("header, and the id again", vec![basic("id:secret")], "client_id=id", pair("id", "secret")),
            ("another id", vec![basic("id:secret")], "client_id=other", Err(400)),
            ("both ways", vec![basic("id:secret")], "client_secret=secret", Err(400)),
            ("two headers", vec![basic("id:secret"), basic("id:secret")], "", Err(400)),
            ("twice in the form", vec![], "client_id=id&client_secret=a&client_secret=a", Err(400)),
            ("two tokens", vec![basic("id:secret")], "token=a&token=b", Err(400)),
            ("nothing", vec![], "token=t", Ok(None)),
            ("no secret", vec![], "client_id=id", Ok(None)),
            ("empty secret", vec![], "client_id=id&client_secret=", Ok(None)),
            ("no colon", vec![basic("id")], "", Ok(None)),
            ("no base64", vec!["Basic !".to_owned()], "", Ok(None)),
            ("bearer", vec!["Bearer token".to_owned()], "", Ok(None)),
        ] {
            let fields: Vec<_> = fields.iter().map(String::as_str).collect();
            assert_eq!(read(&fields, body), expected, "{case}");
        }
    }

    #[test]
    fn sec_107_an_issuer_is_found_by_https_or_on_this_machine() {
        for (issuer, path) in [
            ("https://example.com", Some("")),
            ("https://example.com/", Some("")),
            ("https://example.com/a/b", Some("/a/b")),
            ("https://example.com/a/", Some("/a")),
            ("http://127.0.0.1:8080", Some("")),
            ("http://localhost:8080/a", Some("/a")),
            ("http://[::1]:8080", Some("")),
            ("http://example.com", None),
            ("https://example.com/?a", None),
            ("https://example.com/#a", None),
            ("urn:uuid:4a1c8f9e-0d2b-4c3a-9f1e-000000000000", None),
            ("countersign", None),
        ] {
            assert_eq!(issuer_path(issuer).as_deref(), path, "{issuer}");
        }
    }
}
