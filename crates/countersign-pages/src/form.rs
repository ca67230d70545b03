//! A form that a browser has sent.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use http::{HeaderMap, header};

/// The fields of a form. Of a field that came several times, the first value counts.
#[derive(Default)]
pub(crate) struct Form(BTreeMap<String, String>);

impl Form {
    /// Whether a request says that its body is a form of this kind.
    pub(crate) fn is(headers: &HeaderMap) -> bool {
        let mut types = headers.get_all(header::CONTENT_TYPE).iter();
        let (Some(only), None) = (types.next(), types.next()) else { return false };
        let essence = only.to_str().ok().and_then(|text| text.split(';').next()).unwrap_or_default();
        essence.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded")
    }

    pub(crate) fn parse(body: &Bytes) -> Self {
        let mut fields = BTreeMap::new();
        for (name, value) in url::form_urlencoded::parse(body) {
            fields.entry(name.into_owned()).or_insert_with(|| value.into_owned());
        }
        Self(fields)
    }

    /// The value of a field; empty if the form does not have it.
    pub(crate) fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// The value of a field without the white space around it; `None` if nothing is left.
    pub(crate) fn given(&self, name: &str) -> Option<&str> {
        Some(self.get(name).trim()).filter(|text| !text.is_empty())
    }

    /// The value of a field, exactly as it was sent; `None` if it is empty.
    pub(crate) fn exactly(&self, name: &str) -> Option<String> {
        Some(self.get(name)).filter(|text| !text.is_empty()).map(str::to_owned)
    }
}

/// Omits the values, passwords among them.
impl fmt::Debug for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.keys()).finish()
    }
}
