//! Fetching a key set.

use std::error::Error as _;
use std::fmt;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use countersign_jwt::key::Jwk;
use http::{HeaderValue, StatusCode, header};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, ClientBuilder};

use super::JwksUrl;

/// Fetches key sets. Programs pass an [`HttpsFetcher`]; tests may pass an implementation of their own.
///
/// The caller ends a fetch that takes longer than five seconds by dropping it, and has at most one fetch for an issuer
/// running at a time.
///
/// ```
/// # use std::sync::Arc;
/// # use std::time::Duration;
/// use async_trait::async_trait;
/// use bytes::Bytes;
/// use countersign_http::remote::{FetchError, FetchJwks, JwksUrl, RemoteIssuer, RemoteIssuers};
/// # use countersign_jwt::{Algorithm, Issuer, KeyRing, NewClaims, SigningKey, TokenId, TokenType, UserId, random};
/// # use countersign_testkit::{FixedClock, SeededRandom};
///
/// /// The keys of a test, which no network has to carry.
/// #[derive(Debug)]
/// struct Published(String);
///
/// #[async_trait]
/// impl FetchJwks for Published {
///     async fn fetch(&self, _: &JwksUrl) -> Result<Bytes, FetchError> {
///         Ok(Bytes::from(self.0.clone()))
///     }
/// }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let random = SeededRandom::default();
/// # let key = SigningKey::generate(Algorithm::EdDsa, &random)?;
/// # let mut ring = KeyRing::new();
/// # ring.insert(key.verifying_key())?;
/// # let (user, id, now) = (UserId::new("ada")?, TokenId::new(random::uuid(&random)?), FixedClock::START);
/// # let claims = NewClaims::new(TokenType::Access, user, id, now, now + Duration::from_secs(900));
/// # let token = Issuer::new(key).with_issuer("https://auth.example.com").with_audience("reports").issue(&claims)?;
/// let issuer = RemoteIssuer::new("https://auth.example.com", "https://auth.example.com/jwks.json");
/// let fetcher = Arc::new(Published(ring.to_jwk_set()));
/// let clock = Arc::new(FixedClock::default());
/// let issuers = RemoteIssuers::with([issuer.audience("reports")], fetcher, clock)?;
/// assert_eq!(issuers.verify(&token).await?.subject(), "ada");
/// # Ok(())
/// # }
/// ```
#[async_trait]
pub trait FetchJwks: fmt::Debug + Send + Sync + 'static {
    /// Fetches the text at exactly this address, at most [`Jwk::MAX_BYTES`] of it. A longer text is an error and is not
    /// read to its end.
    async fn fetch(&self, url: &JwksUrl) -> Result<Bytes, FetchError>;
}

/// Why a key set was not fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// There was no connection, no trust in the server's certificate, or no complete answer.
    #[error("request failed")]
    Request(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The answer is a redirect, which is never followed.
    #[error("answer is a redirect ({0}), which is never followed; configure the address where the keys are")]
    Redirect(StatusCode),
    /// The answer's status is not 200.
    #[error("answer is {0}")]
    Status(StatusCode),
    /// The answer is longer than 64 KiB.
    #[error("answer is longer than 64 KiB")]
    TooLong,
}

/// Fetches over HTTPS, trusting the certificate authorities that the operating system trusts.
///
/// Redirects, cookies, proxies from the environment and compression are off. Every fetch is HTTP/1.1 over a connection
/// of its own.
#[derive(Clone, Debug)]
pub struct HttpsFetcher(Client);

impl HttpsFetcher {
    /// A fetcher that trusts the certificate authorities that the operating system trusts.
    ///
    /// # Errors
    /// [`FetchError::Request`] if TLS cannot be set up, for instance because there is no certificate authority.
    pub fn new() -> Result<Self, FetchError> {
        Self::build(Client::builder())
    }

    /// A fetcher that trusts only these certificate authorities, one or more in PEM. For issuers inside a company's
    /// network.
    ///
    /// # Errors
    /// [`FetchError::Request`] if the text holds no certificate, or a malformed one.
    pub fn trusting_only(pem: &[u8]) -> Result<Self, FetchError> {
        let authorities = Certificate::from_pem_bundle(pem).map_err(failed)?;
        if authorities.is_empty() {
            return Err(FetchError::Request("there is no certificate in the PEM text".into()));
        }
        Self::build(Client::builder().tls_certs_only(authorities))
    }

    fn build(client: ClientBuilder) -> Result<Self, FetchError> {
        client
            .redirect(Policy::none())
            .referer(false)
            .no_proxy()
            // Another crate of the program may have turned these features on. The 64 KiB are counted as they are
            // unpacked, but an answer that need not be unpacked cannot be a decompression bomb.
            .no_gzip()
            .no_brotli()
            .no_deflate()
            .no_zstd()
            .http1_only()
            .pool_max_idle_per_host(0)
            .tls_backend_rustls()
            .build()
            .map(Self)
            .map_err(failed)
    }
}

#[async_trait]
impl FetchJwks for HttpsFetcher {
    async fn fetch(&self, url: &JwksUrl) -> Result<Bytes, FetchError> {
        let request = self.0.get(url.as_url().clone()).header(header::ACCEPT, ACCEPT);
        let mut response = request.send().await.map_err(failed)?;
        match response.status() {
            StatusCode::OK => {}
            status if status.is_redirection() => return Err(FetchError::Redirect(status)),
            status => return Err(FetchError::Status(status)),
        }
        if response.content_length().is_some_and(|length| length > Jwk::MAX_BYTES as u64) {
            return Err(FetchError::TooLong);
        }
        let mut text = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if text.len() + chunk.len() > Jwk::MAX_BYTES {
                return Err(FetchError::TooLong);
            }
            text.extend_from_slice(&chunk);
        }
        Ok(text.freeze())
    }
}

/// Drops the URL from the error, because its query may be confidential.
fn failed(error: reqwest::Error) -> FetchError {
    FetchError::Request(error.without_url().into())
}

const ACCEPT: HeaderValue = HeaderValue::from_static("application/jwk-set+json, application/json");

impl FetchError {
    /// The error's text and those of all its causes, in one line.
    pub(super) fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}
