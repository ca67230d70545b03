//! Counts and measures requests, by the pattern of their path.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use countersign_http::SystemClock;
use countersign_jwt::Clock as _;
use http::StatusCode;
use metrics::{Counter, Histogram};

use super::declared::{REQUEST_SECONDS, REQUESTS};

/// The counters of all routes that were asked for. There are as many as the router has patterns, whatever clients send.
#[derive(Clone, Debug)]
pub(crate) struct Requests {
    clock: SystemClock,
    routes: Arc<ArcSwap<HashMap<Box<str>, Arc<Route>>>>,
}

/// The counters of one route. They are kept, so that a request formats and looks up no labels.
#[derive(Debug)]
struct Route {
    seconds: Histogram,
    classes: [Counter; CLASSES.len()],
}

const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// The route of all paths that have no pattern.
const NO_ROUTE: &str = "none";

impl Requests {
    pub(crate) fn new() -> Self {
        Self { clock: SystemClock::new(), routes: Arc::default() }
    }

    fn route(&self, pattern: &str) -> Arc<Route> {
        if let Some(route) = self.routes.load().get(pattern) {
            return route.clone();
        }
        let route = Arc::new(Route::new(pattern));
        self.routes.rcu(|routes| {
            let mut routes = HashMap::clone(routes);
            routes.insert(pattern.into(), route.clone());
            routes
        });
        route
    }
}

impl Route {
    fn new(pattern: &str) -> Self {
        let route = ("route", pattern.to_owned());
        let class =
            |class: &str| metrics::counter!(REQUESTS.name, &[route.clone(), ("class", class.to_owned())]);
        Self {
            seconds: metrics::histogram!(REQUEST_SECONDS.name, std::slice::from_ref(&route)),
            classes: CLASSES.map(class),
        }
    }

    fn count(&self, status: StatusCode, seconds: f64) {
        self.seconds.record(seconds);
        let class = usize::from(status.as_u16() / 100).saturating_sub(1);
        if let Some(class) = self.classes.get(class) {
            class.increment(1);
        }
    }
}

/// Counts a request and measures how long its answer took. It is a layer of the router, because only there the pattern
/// is known.
pub(crate) async fn measure(State(requests): State<Requests>, request: Request, next: Next) -> Response {
    let pattern = request.extensions().get::<MatchedPath>().map_or(NO_ROUTE, MatchedPath::as_str);
    let route = requests.route(pattern);
    let began = requests.clock.monotonic();
    let response = next.run(request).await;
    route.count(response.status(), requests.clock.monotonic().saturating_sub(began).as_secs_f64());
    response
}
