//! The ways in which a client presents a session's tokens, and what a login may say about its session.

use std::time::Duration;

use countersign_jwt::claims::Claims;
use serde_json::{Map, Value};

use crate::model::session::{AgentHash, Device};

/// The way in which a client will present a session's tokens.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Presentation {
    /// By the client's own code, in a header or a body.
    Explicit,
    /// By a browser, in cookies that live as long as their tokens. The tokens carry a CSRF value.
    Cookie,
    /// By a browser, in the cookies of a login session. The tokens carry a CSRF value, and say how the browser keeps
    /// them.
    Browser(BrowserSession),
}

/// How a browser keeps the cookies of a login session. Its tokens say so, so that every node that renews them sets the
/// same kind of cookies again.
///
/// ```
/// use countersign_core::flow::{Beginning, BrowserSession, Check, Presentation};
/// # use countersign_core::{model::Device, store::MemoryStore};
/// # use countersign_jwt::{Epoch, UserId};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let sessions = countersign_testkit::TestBed::over(MemoryStore::new()).await.sessions;
/// let remembered = BrowserSession { remembered: true, bound: false };
/// let beginning = Beginning::of(Presentation::Browser(remembered));
/// let pair = sessions.begin(UserId::new("ada")?, Epoch::FIRST, beginning, Device::default()).await?;
/// let claims = sessions.verification().verify(&pair.access_token, Check::ACCESS).await?;
/// assert_eq!(BrowserSession::of(&claims), Some(remembered));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct BrowserSession {
    /// Whether the browser keeps the session when it is closed. The access token is forgotten even then, and the
    /// refresh token brings a session back that is not fresh.
    pub remembered: bool,
    /// Whether the session is bound to the client that began it, by its `User-Agent`.
    pub bound: bool,
}

/// What a login says about the session that it begins.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Beginning {
    /// The way in which the client will present the tokens.
    pub presentation: Presentation,
    /// The time after which the session ends, refreshed or not. Default, and at most, the policy's absolute lifetime.
    pub lifetime: Option<Duration>,
    /// Whether the first token pair is fresh, because the user has just proven the identity. Default yes.
    pub fresh: bool,
}

impl Beginning {
    /// A fresh session with the policy's lifetimes.
    #[must_use]
    pub fn of(presentation: Presentation) -> Self {
        Self { presentation, lifetime: None, fresh: true }
    }
}

impl From<Presentation> for Beginning {
    fn from(presentation: Presentation) -> Self {
        Self::of(presentation)
    }
}

impl Presentation {
    /// The way in which a verified token of a session is presented.
    #[must_use]
    pub fn of(token: &Claims) -> Self {
        match (BrowserSession::of(token), token.csrf()) {
            (Some(browser), Some(_)) => Self::Browser(browser),
            (None, Some(_)) => Self::Cookie,
            (_, None) => Self::Explicit,
        }
    }

    /// The login session, if it is one.
    #[must_use]
    pub fn browser(self) -> Option<BrowserSession> {
        match self {
            Self::Browser(browser) => Some(browser),
            Self::Explicit | Self::Cookie => None,
        }
    }

    /// The claims that say how the tokens are kept, for a client that calls itself so.
    pub(crate) fn claims(self, device: &Device) -> Map<String, Value> {
        let Self::Browser(BrowserSession { remembered, bound }) = self else { return Map::new() };
        let kept = if remembered { REMEMBERED } else { UNTIL_CLOSED };
        let mut claims = Map::from_iter([(KEPT.to_owned(), kept.into())]);
        if bound {
            claims.insert(AGENT.to_owned(), agent(device).into());
        }
        claims
    }
}

impl BrowserSession {
    /// How the browser keeps the session of a verified token; `None` if it is no login session's.
    #[must_use]
    pub fn of(token: &Claims) -> Option<Self> {
        let remembered = match token.others().get(KEPT)?.as_str()? {
            REMEMBERED => true,
            UNTIL_CLOSED => false,
            _ => return None,
        };
        Some(Self { remembered, bound: token.others().contains_key(AGENT) })
    }

    /// Whether a verified token of a login session is bound to another client than this one. Only the `User-Agent` is
    /// compared, because addresses change with the network.
    #[must_use]
    pub fn is_of_other_client(token: &Claims, agent_hash: impl FnOnce() -> Option<AgentHash>) -> bool {
        match token.others().get(AGENT).and_then(Value::as_str) {
            Some(bound_to) if token.others().contains_key(KEPT) => bound_to != text(agent_hash()),
            _ => false,
        }
    }
}

/// The claim that says how a browser keeps the tokens.
const KEPT: &str = "kept";
const REMEMBERED: &str = "remembered";
const UNTIL_CLOSED: &str = "closed";
/// The claim that names the client that a session is bound to. It is empty for a client without a name.
const AGENT: &str = "agent";

fn agent(device: &Device) -> String {
    text(device.agent_hash)
}

fn text(agent_hash: Option<AgentHash>) -> String {
    agent_hash.map(|hash| hash.to_string()).unwrap_or_default()
}
