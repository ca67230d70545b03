//! Deciding whether a request says that its body is JSON, by Werkzeug's rules.

use countersign_http::reading::content_type;
use http::HeaderMap;

/// Whether the body is `application/json`, or of a type that is written as JSON.
pub(crate) fn is_json(headers: &HeaderMap) -> bool {
    content_type(headers).is_some_and(|essence| {
        let essence = essence.to_ascii_lowercase();
        essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
    })
}
