//! Whether a request says that its body is JSON, as Werkzeug sees it.

use countersign_http::reading::content_type;
use http::HeaderMap;

/// `application/json`, or a type that is written as JSON.
pub(crate) fn is_json(headers: &HeaderMap) -> bool {
    content_type(headers).is_some_and(|essence| {
        let essence = essence.to_ascii_lowercase();
        essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
    })
}
