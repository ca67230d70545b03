//! Values and pure functions: sessions and the rules of their refresh, the entries of the revocation log and the index
//! over them, users and what belongs to them, stored keys, mail that waits, settings, events. Nothing in this module
//! waits, reads a store or asks for the time.

pub(crate) mod acknowledge;
pub(crate) mod admin_key;
pub(crate) mod agreed;
pub(crate) mod audit;
pub(crate) mod client;
pub(crate) mod decide;
pub(crate) mod derive;
pub(crate) mod entry;
pub(crate) mod event;
pub(crate) mod index;
pub(crate) mod keys;
pub(crate) mod known_device;
pub(crate) mod name;
pub(crate) mod network;
pub(crate) mod one_time;
pub(crate) mod outbox;
pub(crate) mod password;
pub(crate) mod password_hash;
pub(crate) mod policy;
pub(crate) mod session;
pub(crate) mod throttle;
pub(crate) mod user;

pub use acknowledge::Acknowledgements;
pub use admin_key::{AdminKey, AdminKeyText, AdminScope};
pub use agreed::{AgreedSettings, Difference, Own, Stance};
pub use audit::{AuditPosition, AuditRecord};
pub use client::{ClientSecret, ConfidentialClient};
pub use decide::{
    Acknowledgement, Advance, AdvanceCondition, Circumstances, Decision, Heal, LogVerdict, Presented,
    Refusal, decide,
};
pub use derive::{csrf_value, token_id};
pub use entry::{Entry, EntryKey, OVERLAP, Target};
pub use event::{Event, Events, LogEvents};
pub use index::{Index, RevokedBy, TokenEpoch};
pub use keys::{KeyPurpose, KeyState, Schedule, Step, StoredKey, key_state};
pub use known_device::{DeviceToken, KnownDevice};
pub use name::{EmailAddress, NameError, Username, without_blanks};
pub use network::ClientNetwork;
pub use one_time::{LinkToken, OneTimeSecret, Purpose, SecretDigest, Tried};
pub use outbox::{AfterFailure, OutboxMail, OutboxState, retry_delay};
pub use password::{
    MinimumLength, OwnNames, Password, PasswordError, PasswordRules, UnsafeMinimumLength, WeakPassword,
};
pub use password_hash::{
    Argon2Params, InvalidPeppers, PasswordHash, PepperId, Peppers, UnsafeArgon2Params, UnusableHash,
};
pub use policy::{AtLimit, GraceFor, PolicyError, SessionPolicy};
pub use session::{
    AgentHash, Device, EndReason, Ended, InvalidAgentHash, NewSession, Session, SessionSeed, UserSession,
};
pub use throttle::{
    AttemptChange, AttemptStep, Attempts, KEEP_ATTEMPTS_FOR, LoginLimits, Outcome, Refused, ThrottlePolicy,
    ThrottleReason,
};
pub use user::{InvalidLanguage, Language, RoleError, Roles, User};
