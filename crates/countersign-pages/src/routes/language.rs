//! The language of a browser.

use axum::extract::{Request, State};
use axum::response::Response;
use countersign_http::ErrorCode;
use countersign_text::Language;

use crate::failure::Failure;
use crate::pages::Pages;
use crate::visit::Visit;

pub(crate) async fn choose(State(pages): State<Pages>, request: Request) -> Response {
    let (visit, _, form) = match Visit::arriving(pages, request).await {
        Ok(arrived) => arrived,
        Err(response) => return response,
    };
    if !visit.is_ours(&form) {
        return visit.fail(Failure::new(ErrorCode::CrossSite));
    }
    let Some(language) = Language::of_tag(form.get("language")) else {
        return visit.fail(Failure::new(ErrorCode::InvalidRequest));
    };
    let mut response = visit.go(&visit.onward("/"));
    visit.pages.keep_language(&mut response, language);
    response
}
