//! Bodies that carry credentials: read ahead of the handler, at most once, and only if a check asks for them.
//!
//! Extractors see only a request's head, so they could not find a token in a JSON body or a CSRF value in a form. Where
//! such places are configured, the layer leaves a handle to the body among the extensions. The guard or extractor that
//! decides about the request reads the beginning through the handle; the handler then gets the body whole. A route
//! without a check reads nothing.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use countersign_http::{Auth, BodyBeginning, BufferedBody, Requirement};
use http::Request;
use http::request::Parts;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;

use crate::body::MAX_BODY;

/// The handle to a body that has not been read.
#[derive(Clone)]
struct PendingBody(Arc<Mutex<Halves>>);

/// The part of the body that was read ahead, and the rest.
struct Halves {
    /// The frames that were read ahead, in order, for the handler.
    read: VecDeque<Result<Frame<Bytes>, axum::Error>>,
    /// The rest of the body; `None` while it is being read ahead.
    rest: Option<Body>,
    /// The data read ahead, for a reader that has another copy of the request's head.
    ahead: Option<Ahead>,
}

/// The data that was read ahead: the whole body, or its beginning.
#[derive(Clone)]
enum Ahead {
    Whole(Bytes),
    Beginning(Bytes),
}

impl Ahead {
    fn leave_in(self, parts: &mut Parts) {
        match self {
            Self::Whole(body) => parts.extensions.insert(BufferedBody(body)).map(drop),
            Self::Beginning(body) => parts.extensions.insert(BodyBeginning(body)).map(drop),
        };
    }
}

/// Leaves a handle to the body among the request's extensions.
pub(crate) fn hold(request: &mut Request<Body>) {
    if request.extensions().get::<PendingBody>().is_some()
        || request.extensions().get::<BufferedBody>().is_some()
    {
        return;
    }
    let body = std::mem::take(request.body_mut());
    let held =
        PendingBody(Arc::new(Mutex::new(Halves { read: VecDeque::new(), rest: Some(body), ahead: None })));
    request.extensions_mut().insert(held.clone());
    *request.body_mut() = Body::new(held);
}

/// Reads the body ahead, if the layer has left a handle to it and it has not been read yet: the whole body if it has at
/// most 64 KiB, otherwise only its beginning.
pub(crate) async fn read_ahead(parts: &mut Parts) {
    let Some(held) = parts.extensions.remove::<PendingBody>() else { return };
    let mut putting_back = {
        let mut halves = held.halves();
        if let Some(ahead) = halves.ahead.clone() {
            ahead.leave_in(parts);
            return;
        }
        // Another task is reading the body.
        let Some(rest) = halves.rest.take() else { return };
        PuttingBack { held: &held, read: std::mem::take(&mut halves.read), rest: Some(rest) }
    };
    let mut beginning = BytesMut::new();
    // Frames that are already there were read by an earlier attempt that was cancelled.
    for data in putting_back.read.iter().filter_map(|frame| frame.as_ref().ok()?.data_ref()) {
        beginning.extend_from_slice(data);
    }
    let is_whole = loop {
        let Some(rest) = &mut putting_back.rest else { return };
        let Some(frame) = rest.frame().await else { break true };
        let data = frame.as_ref().ok().and_then(Frame::data_ref).cloned();
        let failed = frame.is_err();
        putting_back.read.push_back(frame);
        if failed {
            break false;
        }
        let data = data.unwrap_or_default();
        let room = MAX_BODY.saturating_sub(beginning.len());
        beginning.extend_from_slice(data.get(..room.min(data.len())).unwrap_or_default());
        if data.len() > room {
            break false;
        }
    };
    drop(putting_back);
    let beginning = beginning.freeze();
    let ahead = if is_whole { Ahead::Whole(beginning) } else { Ahead::Beginning(beginning) };
    held.halves().ahead = Some(ahead.clone());
    ahead.leave_in(parts);
}

/// Reads the body ahead if this requirement may need it.
pub(crate) async fn read_ahead_for(auth: &Auth, parts: &mut Parts, requirement: &Requirement) {
    if auth.rules().wants_body(auth.engine(), (&*parts).into(), Some(requirement)) {
        read_ahead(parts).await;
    }
}

/// Gives the frames that were read ahead back to the handler, even if the reading was cancelled.
struct PuttingBack<'a> {
    held: &'a PendingBody,
    read: VecDeque<Result<Frame<Bytes>, axum::Error>>,
    rest: Option<Body>,
}

impl Drop for PuttingBack<'_> {
    fn drop(&mut self) {
        let mut halves = self.held.halves();
        halves.read = std::mem::take(&mut self.read);
        halves.rest = self.rest.take();
    }
}

impl PendingBody {
    /// Locks the halves. No code panics while it holds the lock, so the lock is never poisoned.
    fn halves(&self) -> MutexGuard<'_, Halves> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl http_body::Body for PendingBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let mut halves = self.halves();
        if let Some(frame) = halves.read.pop_front() {
            return Poll::Ready(Some(frame));
        }
        match &mut halves.rest {
            Some(rest) => Pin::new(rest).poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        let halves = self.halves();
        halves.read.is_empty() && halves.rest.as_ref().is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let halves = self.halves();
        let read = halves.read.iter().filter_map(|frame| frame.as_ref().ok()?.data_ref());
        let read =
            read.fold(0_u64, |sum, data| sum.saturating_add(data.len().try_into().unwrap_or(u64::MAX)));
        let rest = halves.rest.as_ref().map(http_body::Body::size_hint).unwrap_or_default();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(read));
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(read));
        }
        hint
    }
}

impl fmt::Debug for PendingBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PendingBody")
    }
}
