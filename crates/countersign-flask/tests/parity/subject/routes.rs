//! Routes as recordings list them.

use axum::Router;
use axum::routing::{MethodFilter, MethodRouter};
use http::Method;

use crate::replay::NotBuilt;

/// A path, its methods, and what answers there. Of two routes for one method of a path the first counts.
#[derive(Default)]
pub(super) struct Routes(Vec<Path>);

struct Path {
    path: String,
    methods: MethodRouter,
    taken: Vec<String>,
}

impl Routes {
    /// Adds a route; `make` makes it for some of its methods.
    pub(super) fn add(
        &mut self,
        path: &str,
        methods: &[String],
        make: impl FnOnce(MethodFilter) -> MethodRouter,
    ) -> Result<(), NotBuilt> {
        let index = self.0.iter().position(|known| known.path == path).unwrap_or_else(|| {
            self.0.push(Path { path: path.to_owned(), methods: MethodRouter::new(), taken: Vec::new() });
            self.0.len() - 1
        });
        let known = &mut self.0[index];
        let mut filter: Option<MethodFilter> = None;
        let heads = methods.iter().any(|method| method == "GET").then(|| "HEAD".to_owned());
        for method in methods.iter().cloned().chain(heads) {
            if known.taken.contains(&method) {
                continue;
            }
            let one = Method::from_bytes(method.as_bytes()).ok();
            let one = one.and_then(|method| MethodFilter::try_from(method).ok());
            let one = one.ok_or_else(|| NotBuilt::Unknown(format!("{method} cannot be routed")))?;
            filter = Some(filter.map_or(one, |filter| filter.or(one)));
            known.taken.push(method);
        }
        if let Some(filter) = filter {
            known.methods = std::mem::take(&mut known.methods).merge(make(filter));
        }
        Ok(())
    }

    /// Takes methods of a path for a route that is not in this table.
    pub(super) fn reserve(&mut self, path: &str, methods: impl Iterator<Item = String>) {
        self.0.push(Path { path: path.to_owned(), methods: MethodRouter::new(), taken: methods.collect() });
    }

    pub(super) fn into_router(self) -> Router {
        self.0.into_iter().fold(Router::new(), |router, Path { path, methods, .. }| {
            router.route(&path.replace('{', "{{").replace('}', "}}"), methods)
        })
    }
}
