//! Sessions: one server-side record for each login, and the rules by which its refresh tokens rotate.

mod acknowledge;
mod decide;
mod derive;
mod extra;
mod flow;
mod policy;
mod row;

pub use acknowledge::Acknowledgements;
pub use decide::{
    Acknowledgement, Advance, Circumstances, Decision, Guard, Heal, LogStanding, Presented, Refusal, decide,
};
pub use derive::{csrf_value, token_id};
pub use extra::{ExtraClaims, ExtraClaimsError};
pub use flow::{
    AccessError, AccessGrant, BeginError, EndError, IssueAccessError, IssuedAccess, KeyLifeError, Pair,
    Presentation, RefreshError, Refreshed, Renewed, RevokeTokensError, Sessions, SessionsConfig, TokenFormat,
};
pub(crate) use flow::{detached, remove_from_ring};
pub use policy::{AtLimit, GraceFor, PolicyError, SessionPolicy};
pub use row::{AgentHash, Device, EndReason, Ended, InvalidAgentHash, Session, SessionKey, SessionSeed};
