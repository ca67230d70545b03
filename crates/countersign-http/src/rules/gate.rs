//! The interface of protocols that let requests through without Countersign's sessions: [`Gate`].

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use http::request::Parts;
use http::{HeaderMap, Method, Uri};

use crate::answer::Answer;
use crate::requirement::Requirement;

/// The proof that a [`Gate`] has found in a request, as a type that the gate defines.
pub type Passed = Arc<dyn Any + Send + Sync>;

/// A protocol that lets requests through by tokens that somebody else issues, without accounts and sessions of
/// Countersign.
///
/// ```
/// use std::sync::Arc;
/// use async_trait::async_trait;
/// use countersign_http::{Answer, ErrorCode, Gate, Passed, Requirement};
/// use http::request::Parts;
/// use http::{HeaderMap, Method, Request, Uri};
///
/// /// Lets the machines of a workshop through, by a key in a header.
/// #[derive(Debug)]
/// struct Machines;
///
/// struct Machine(u32);
///
/// #[async_trait]
/// impl Gate for Machines {
///     fn wants_body(&self, _: &Method, _: &HeaderMap, _: Option<&Requirement>) -> bool {
///         false
///     }
///
///     fn is_in_query(&self, _: &Uri) -> bool {
///         false
///     }
///
///     async fn check(&self, parts: &Parts, _: &Requirement) -> Result<Option<Passed>, Answer> {
///         match parts.headers.get("x-machine-key") {
///             Some(key) if key == "7f3a" => Ok(Some(Arc::new(Machine(7)))),
///             Some(_) => Err(Answer::error(ErrorCode::InvalidToken)),
///             None => Err(Answer::error(ErrorCode::MissingToken)),
///         }
///     }
/// }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (parts, ()) = Request::get("/").header("x-machine-key", "7f3a").body(())?.into_parts();
/// let passed = Machines.check(&parts, &Requirement::ACCESS).await.map_err(|answer| answer.status().to_string())?;
/// let machine = passed.and_then(|passed| passed.downcast::<Machine>().ok());
/// assert_eq!(machine.map(|machine| machine.0), Some(7));
/// # Ok(())
/// # }
/// ```
#[async_trait]
pub trait Gate: fmt::Debug + Send + Sync + 'static {
    /// Whether the body of such a request must be read before [`Gate::check`] is called. The body then stands among the
    /// request's extensions as [`BufferedBody`](crate::BufferedBody). `requirement` is the route's requirement, or
    /// `None` where the route is not known yet.
    fn wants_body(&self, method: &Method, headers: &HeaderMap, requirement: Option<&Requirement>) -> bool;

    /// Whether the query string of this URI holds a token. The answer to such a request must be kept out of caches, and
    /// its URL out of `Referer` headers (SEC-051).
    fn is_in_query(&self, uri: &Uri) -> bool;

    /// Lets a request through if it proves what `requirement` demands; `None` if the request may pass as nobody.
    ///
    /// # Errors
    /// The answer to a refused request, as the application's hooks shape it. The gate has already logged the cause.
    async fn check(&self, parts: &Parts, requirement: &Requirement) -> Result<Option<Passed>, Answer>;
}
