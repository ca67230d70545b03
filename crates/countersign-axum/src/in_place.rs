//! What the answer to a request does to the cookies of its login session.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use countersign_http::{Auth, Authenticated, CookieChange, CookieKind, Location};
use http::request::Parts;
use http::{HeaderMap, Response, header};

/// What is noted of a request while it is answered, for the layer.
#[derive(Clone, Default)]
pub(crate) struct Noted(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// Whether a token that is in no cookie, or a loader by requests, has let the request through.
    by_token: bool,
    change: Option<(CookieChange, HeaderMap)>,
}

impl Noted {
    /// Whether a layer wants to know.
    pub(crate) fn is_kept(parts: &Parts) -> bool {
        parts.extensions.get::<Self>().is_some()
    }

    /// Notes by what a request was let through.
    pub(crate) fn proof(parts: &Parts, authenticated: Option<&Authenticated>) {
        if authenticated.is_some_and(|caller| caller.location() != Location::Cookie) {
            Self::by_token(parts);
        }
    }

    /// Notes that the request was let through by something that is in no cookie.
    pub(crate) fn by_token(parts: &Parts) {
        if let Some(noted) = parts.extensions.get::<Self>() {
            noted.state().by_token = true;
        }
    }

    /// Whether something that is in no cookie has let the request through.
    pub(crate) fn is_by_token(&self) -> bool {
        self.state().by_token
    }

    /// Notes what the answer does to the cookies.
    pub(crate) fn change(parts: &Parts, change: CookieChange) {
        if let Some(noted) = parts.extensions.get::<Self>() {
            noted.state().change = Some((change, parts.headers.clone()));
        }
    }

    /// What is to be done to the cookies, now that the answer is known. Nothing, if it is an error or if the handler has
    /// set or removed the cookies itself (SEC-065). An answer to a request with a token loses all cookies of sessions.
    pub(crate) fn decide<B>(
        &self,
        auth: &Auth,
        answer: &mut Response<B>,
    ) -> Option<(CookieChange, HeaderMap)> {
        let State { by_token, change } = std::mem::take(&mut *self.state());
        if by_token {
            remove_cookies(auth, answer.headers_mut());
            return None;
        }
        let is_error = answer.status().is_client_error() || answer.status().is_server_error();
        let sets = || {
            answer.headers().get_all(header::SET_COOKIE).iter().any(|field| is_ours(auth, field.as_bytes()))
        };
        change.filter(|_| !is_error && !sets())
    }

    /// Locks the state. No code panics while it holds the lock, so the lock is never poisoned.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_ours(auth: &Auth, field: &[u8]) -> bool {
    let names = [CookieKind::Access, CookieKind::Refresh, CookieKind::Csrf];
    names
        .into_iter()
        .filter_map(|kind| auth.rules().cookies().name(kind))
        .any(|name| field.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.first() == Some(&b'=')))
}

fn remove_cookies(auth: &Auth, headers: &mut HeaderMap) {
    if let header::Entry::Occupied(fields) = headers.entry(header::SET_COOKIE) {
        let (_, fields) = fields.remove_entry_mult();
        let others: Vec<_> = fields.filter(|field| !is_ours(auth, field.as_bytes())).collect();
        for field in others {
            headers.append(header::SET_COOKIE, field);
        }
    }
}

impl fmt::Debug for Noted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Noted")
    }
}
