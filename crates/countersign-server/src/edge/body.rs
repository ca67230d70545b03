//! Bodies that tell the connection whether they are waited for.

use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use countersign_core::store::BoxError;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Sleep, sleep};

use super::activity::{Activity, Running};

/// A body took longer than it may.
#[derive(Debug, thiserror::Error)]
#[error("the request's body did not arrive within {} s", limit.as_secs())]
struct TooSlow {
    limit: Duration,
}

/// The body of a request, which may still be arriving.
#[derive(Debug)]
pub(super) struct Arriving {
    body: Incoming,
    activity: Arc<Activity>,
    is_awaited: bool,
    limit: Duration,
    /// Runs from when the body was first waited for. Most bodies have arrived with their head.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl Arriving {
    pub(super) fn new(body: Incoming, activity: Arc<Activity>, limit: Duration) -> Self {
        Self { body, activity, is_awaited: false, limit, deadline: None }
    }

    fn is_awaited(&mut self, is_awaited: bool) {
        if std::mem::replace(&mut self.is_awaited, is_awaited) != is_awaited {
            self.activity.waits_for_body(is_awaited);
        }
    }
}

impl http_body::Body for Arriving {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        self.is_awaited(frame.is_pending());
        if frame.is_ready() {
            return frame.map_err(Into::into);
        }
        let limit = self.limit;
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(sleep(limit)));
        if !deadline.is_elapsed() && deadline.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        self.is_awaited(false);
        Poll::Ready(Some(Err(TooSlow { limit }.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        self.is_awaited(false);
    }
}

/// The body of an answer. The request ends with the end of this body.
#[derive(Debug)]
pub(super) struct Answered {
    body: Body,
    _running: Running,
}

impl Answered {
    pub(super) fn new(body: Body, running: Running) -> Self {
        Self { body, _running: running }
    }
}

impl http_body::Body for Answered {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
