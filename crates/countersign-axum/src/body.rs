//! Request bodies: JSON objects of limited size, read member by member.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use countersign_http::{Answer, ContentEncoding, ErrorCode};
use http::{HeaderMap, header};
use http_body_util::BodyExt as _;
use serde_json::{Map, Value};

use crate::reply::Reply;

/// The largest number of bytes that a body may have.
pub(crate) const MAX_BODY: usize = 64 * 1024;
/// The number of bytes up to which an oversized body is read and dropped. A client that is still sending when the
/// connection closes would never see the answer.
pub(crate) const MAX_DROPPED: usize = 2 * 1024 * 1024;

/// Reads a body as a JSON object. An empty body is an object without members.
///
/// # Errors
/// As for [`read_bounded`]; 415 for a body that is not JSON by its headers, 400 or 422 for one that is no JSON object.
pub async fn read_members(headers: &HeaderMap, body: Body) -> Result<Members, Reply> {
    let bytes = read_bounded(body).await?;
    if bytes.is_empty() {
        return Ok(Members::default());
    }
    if let Some(encoding) = ContentEncoding::of(headers) {
        return Err(Reply(encoding.into()));
    }
    if !is_json(headers) {
        return Err(Reply::error(ErrorCode::UnsupportedMediaType));
    }
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(members)) => Ok(Members { members, wrong: BTreeMap::new() }),
        Ok(_) => Err(Reply(Answer::error_with(ErrorCode::InvalidFields, "The body must be a JSON object."))),
        Err(_) => Err(Reply(Answer::error_with(ErrorCode::InvalidRequest, "The body is not valid JSON."))),
    }
}

/// Reads a body of at most 64 KiB.
///
/// # Errors
/// 413 for a body that is larger, 400 for one that ends early or is given up because it takes too long.
pub async fn read_bounded(mut body: Body) -> Result<Bytes, Reply> {
    let mut kept = BytesMut::new();
    let mut seen = 0_usize;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| {
            Reply(Answer::error_with(ErrorCode::InvalidRequest, "The body ended early or came too slowly."))
        })?;
        let Ok(data) = frame.into_data() else { continue };
        seen = seen.saturating_add(data.len());
        if seen <= MAX_BODY {
            kept.extend_from_slice(&data);
        } else if seen > MAX_DROPPED {
            break;
        } else {
            kept = BytesMut::new();
        }
    }
    if seen > MAX_BODY { Err(Reply::error(ErrorCode::TooLarge)) } else { Ok(kept.freeze()) }
}

/// Whether there is exactly one `Content-Type`, and it is `application/json`, with any parameters.
fn is_json(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(only), None) = (types.next(), types.next()) else { return false };
    let essence = only.to_str().ok().and_then(|text| text.split(';').next()).unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("application/json")
}

/// The members of a JSON object, and the errors found in them. Unknown members are ignored.
#[derive(Default)]
pub struct Members {
    members: Map<String, Value>,
    wrong: BTreeMap<&'static str, Cow<'static, str>>,
}

impl Members {
    /// A member that is text; `null` counts as absent.
    pub fn text(&mut self, name: &'static str) -> Option<String> {
        match self.members.remove(name) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text),
            Some(_) => {
                self.wrong(name, "must be text");
                None
            }
        }
    }

    /// A member that is text and required.
    pub fn required_text(&mut self, name: &'static str) -> Option<String> {
        let text = self.text(name);
        if text.is_none() && !self.wrong.contains_key(name) {
            self.wrong(name, "is required");
        }
        text
    }

    /// A member that is `true` or `false`. Default: `false`.
    pub fn flag(&mut self, name: &'static str) -> bool {
        match self.members.remove(name) {
            None | Some(Value::Null) => false,
            Some(Value::Bool(flag)) => flag,
            Some(_) => {
                self.wrong(name, "must be true or false");
                false
            }
        }
    }

    /// A member that is a list and required.
    pub fn required_list(&mut self, name: &'static str) -> Option<Vec<Value>> {
        match self.members.remove(name) {
            Some(Value::Array(list)) => Some(list),
            None | Some(Value::Null) => {
                self.wrong(name, "is required");
                None
            }
            Some(_) => {
                self.wrong(name, "must be a list");
                None
            }
        }
    }

    /// Whether the member is present and `null`.
    #[must_use]
    pub fn is_null(&self, name: &str) -> bool {
        self.members.get(name).is_some_and(Value::is_null)
    }

    /// Whether the member is present and not `null`.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.members.get(name).is_some_and(|value| !value.is_null())
    }

    /// Refuses the request with 422 and this description if there are members besides these.
    ///
    /// # Errors
    /// The 422.
    pub fn only(&self, known: &[&str], description: &'static str) -> Result<(), Reply> {
        match self.members.keys().all(|name| known.contains(&name.as_str())) {
            true => Ok(()),
            false => Err(Reply(Answer::error_with(ErrorCode::InvalidFields, description))),
        }
    }

    /// Records an error in a member.
    pub fn wrong(&mut self, name: &'static str, message: impl Into<Cow<'static, str>>) {
        self.wrong.entry(name).or_insert_with(|| message.into());
    }

    /// Refuses the request with one 422 that names all recorded errors; passes if there are none.
    ///
    /// # Errors
    /// The 422.
    pub fn check(&self) -> Result<(), Reply> {
        if self.wrong.is_empty() { Ok(()) } else { Err(Answer::invalid_fields(&self.wrong).into()) }
    }
}

/// Omits the members, which may be passwords.
impl fmt::Debug for Members {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Members").field("wrong", &self.wrong).finish_non_exhaustive()
    }
}
