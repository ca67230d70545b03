//! Answers that stay the same while the server runs: documents and pages.

use aws_lc_rs::digest;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

/// A body that stays the same, with an entity tag by which caches ask whether it has changed (RFC 9110 §8.8.3).
#[derive(Clone, Debug)]
pub(crate) struct Fixed {
    body: Bytes,
    headers: HeaderMap,
    tag: String,
}

impl Fixed {
    pub(crate) fn new(body: impl Into<Bytes>, media_type: &'static str, cache_control: &'static str) -> Self {
        let body = body.into();
        let digest = digest::digest(&digest::SHA256, &body);
        let tag = URL_SAFE_NO_PAD.encode(digest.as_ref().get(..15).unwrap_or_default());
        let tag = format!("\"{tag}\"");
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache_control));
        if let Ok(tag) = HeaderValue::try_from(&tag) {
            headers.insert(header::ETAG, tag);
        }
        Self { body, headers, tag }
    }

    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// The answer to a request with these headers: 304 to one that has the body already.
    pub(crate) fn answer(&self, asked: &HeaderMap) -> Response {
        let mut headers = self.headers.clone();
        if self.is_known(asked) {
            headers.remove(header::CONTENT_TYPE);
            return (StatusCode::NOT_MODIFIED, headers).into_response();
        }
        (headers, self.body.clone()).into_response()
    }

    fn is_known(&self, asked: &HeaderMap) -> bool {
        let lists = asked.get_all(header::IF_NONE_MATCH).iter().filter_map(|list| list.to_str().ok());
        let mut tags = lists.flat_map(|list| list.split(','));
        tags.any(|tag| {
            let tag = tag.trim();
            tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == self.tag
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_names_the_tag_gets_no_body_again() {
        let fixed = Fixed::new("{}", "application/json", "no-cache");
        let other = Fixed::new("[]", "application/json", "no-cache");
        assert_ne!(fixed.tag, other.tag);
        let weak = format!("\"x\", W/{}", fixed.tag);
        for (asked, status) in [
            (None, 200),
            (Some(&*other.tag), 200),
            (Some(&*fixed.tag), 304),
            (Some(&*weak), 304),
            (Some("*"), 304),
        ] {
            let asked = asked.map(|tag| (header::IF_NONE_MATCH, HeaderValue::try_from(tag).unwrap()));
            let answer = fixed.answer(&asked.clone().into_iter().collect());
            assert_eq!(answer.status(), status, "{asked:?}");
            assert_eq!(answer.headers()[header::ETAG], fixed.tag);
        }
    }
}
