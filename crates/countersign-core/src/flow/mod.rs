//! The operations on keys, the revocation log, sessions, refresh tokens and accounts. Each module tells one of them,
//! over the stores.

mod accounts;
mod agree;
mod background;
mod breached;
mod clients;
mod clock;
mod extra;
mod hasher;
mod keychain;
mod keys;
mod password_policy;
mod refresh;
mod sessions;
mod tail;
mod verification;
mod view;

pub use accounts::{
    Accounts, AccountsConfig, Addressed, Arrival, AskError, CheckPassword, CodeLoginError, Credentials,
    CredentialsError, EmailChange, EmailProof, FindUser, Letter, LetterError, Letters, LinkError, LoginError,
    LoginName, NewAccount, PasswordVerdict, Profile, ProfileChange, ProfileError, RegisterError,
    Registration, SecretCode, SignedIn, UserIds, preferred_language,
};
pub use agree::{Agreement, AgreementError, agree};
pub use background::{
    Background, FLUSH_EVERY, PURGE_BATCH, PURGE_EVERY, ROTATE_EVERY, SETTINGS_EVERY, TELL_EVERY, purge,
};
pub use breached::{BreachedFileError, BreachedPasswords};
pub use clients::{ClientError, Clients};
pub use clock::StoreClock;
pub use extra::{ExtraClaims, ExtraClaimsError};
pub use hasher::{HashError, HashLoad, HashPlace, HashPool, HashRecipe, HashTurn, Hasher, PasswordCheck};
pub use keychain::{KeySet, Keychain, KeychainError, reseal};
pub use keys::{KeyLifeError, Keys, TokenFormat};
pub use password_policy::PasswordPolicy;
pub use refresh::{Prepared, Refresh, RefreshError, Refreshed, RenewFreshError, Renewed};
pub use sessions::{
    AccessGrant, BeginError, Beginning, BrowserSession, EndError, ForeignError, ForeignTokens,
    IssueAccessError, IssuedAccess, Pair, Presentation, RevokeTokensError, Sessions, SessionsConfig,
};
pub use verification::{Check, CheckError, Verification};
pub use view::{RevocationView, ViewStats, ViewTooOld};
