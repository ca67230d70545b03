//! The first page.

use axum::extract::Request;
use axum::response::Response;
use minijinja::context;

use crate::pages::Pages;
use crate::visit::Visit;

pub(crate) async fn page(pages: Pages, request: Request) -> Response {
    match Visit::open(pages, request).await {
        Ok((visit, _)) if visit.caller.is_some() => visit.go(&visit.at("/account")),
        Ok((visit, _)) => {
            let developer = visit.pages.shared.is_local;
            visit.blank("/", "home.html", || context! { developer })
        }
        Err(response) => response,
    }
}
