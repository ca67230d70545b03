//! Whether the server is ready to answer requests, and which of its parts is not.

use std::error::Error;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use countersign_axum::{Auth, Reply};
use countersign_http::{Answer, ErrorCode};
use countersign_jwt::UserId;
use http::StatusCode;
use serde_json::json;
use uuid::Uuid;

use crate::openapi::Status;

/// What answers whether the server is ready.
#[derive(Clone, Debug)]
pub(crate) struct Readiness {
    auth: Auth,
}

/// A part of the server that can keep it from being ready.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Part {
    /// The engines answer.
    Store,
    /// This machine's clock is near the store's.
    Clock,
    /// The view of the revocation log is young enough.
    Revocations,
}

impl Part {
    pub(crate) const ALL: [Self; 3] = [Self::Store, Self::Clock, Self::Revocations];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::Clock => "clock",
            Self::Revocations => "revocations",
        }
    }
}

impl Readiness {
    pub(crate) fn of(auth: &Auth) -> Self {
        Self { auth: auth.clone() }
    }

    /// The parts that are not ready. The log says why.
    pub(crate) async fn unready(&self) -> Vec<Part> {
        let sessions = self.auth.sessions();
        let nobody = UserId::from(Uuid::nil());
        // Sessions and accounts may be in two engines, so both are asked.
        let (epoch, user) = tokio::join!(sessions.epoch(&nobody), self.auth.accounts().enabled_user(&nobody));
        let mut unready = Vec::new();
        if let Err(error) = epoch.map(drop).and(user.map(drop)) {
            tracing::error!(error = &error as &dyn Error, "not ready");
            unready.push(Part::Store);
        }
        if !sessions.clock_is_near() {
            tracing::error!("not ready: this machine's clock is too far from the store's");
            unready.push(Part::Clock);
        }
        // A view that is too old is read again, which a store that has just failed need not be asked for.
        let view = sessions.view();
        let is_fresh = if unready.contains(&Part::Store) {
            view.is_fresh()
        } else {
            let fresh = view.ensure_fresh().await;
            fresh.inspect_err(|error| tracing::error!(error = error as &dyn Error, "not ready")).is_ok()
        };
        if !is_fresh {
            unready.push(Part::Revocations);
        }
        unready
    }
}

/// Answers whether the server is ready: 503 names the parts that are not, and nothing more.
pub(crate) async fn readyz(State(readiness): State<Readiness>) -> Response {
    let unready = readiness.unready().await;
    if unready.is_empty() {
        return status_ok();
    }
    let code = ErrorCode::Unavailable;
    let body = json!({
        "error": code.as_str(),
        "error_description": "this server is not ready",
        "not_ready": unready.into_iter().map(Part::name).collect::<Vec<_>>(),
    });
    match Answer::json(code.status(), &body) {
        Ok(answer) => Reply(answer.retry_after(Duration::from_secs(1))).into_response(),
        Err(_) => Reply(Answer::error(code)).into_response(),
    }
}

pub(crate) async fn healthz() -> Response {
    status_ok()
}

fn status_ok() -> Response {
    match Answer::json(StatusCode::OK, &Status { status: "ok" }) {
        Ok(answer) => Reply(answer).into_response(),
        Err(_) => Reply(Answer::error(ErrorCode::InternalError)).into_response(),
    }
}
