//! Letting requests through without sessions: [`Gate`].

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use http::request::Parts;
use http::{HeaderMap, Method, Uri};

use crate::answer::Answer;
use crate::requirement::Requirement;

/// What a [`Gate`] has proven about a request, of a type of its own.
pub type Passed = Arc<dyn Any + Send + Sync>;

/// A protocol on its own, without accounts and sessions of Countersign: it verifies tokens that somebody else issues.
#[async_trait]
pub trait Gate: fmt::Debug + Send + Sync + 'static {
    /// Whether the body of such a request must be read before [`Gate::check`], which then finds it as
    /// [`BufferedBody`](crate::BufferedBody) among the request's extensions. `requirement` is that of the route, where
    /// it is known.
    fn wants_body(&self, method: &Method, headers: &HeaderMap, requirement: Option<&Requirement>) -> bool;

    /// Whether the query string of such a URI holds a token: its answer must then be kept out of caches and `Referer`s
    /// (SEC-051).
    fn is_in_query(&self, uri: &Uri) -> bool;

    /// Lets a request through if it proves what is required; `None` if it may pass as nobody.
    ///
    /// # Errors
    /// The answer, as the application's hooks want it. The log has learnt the cause.
    async fn check(&self, parts: &Parts, requirement: &Requirement) -> Result<Option<Passed>, Answer>;
}
