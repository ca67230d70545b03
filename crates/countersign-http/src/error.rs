//! Why a request was not let through: [`AuthError`].

use countersign_core::flow::{CheckError, ExtraClaimsError, RefreshError};
use countersign_core::store::BoxError;
use countersign_jwt::VerifyError;

use crate::answer::{Answer, ErrorCode};
use crate::csrf::CsrfError;
use crate::encoding::ContentEncoding;
use crate::locate::LocateError;

/// Why a request was not let through.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthError {
    /// The request shows no credential.
    #[error("the request carries no token")]
    Missing,
    /// The request shows a credential in a form or place that is not allowed.
    #[error(transparent)]
    Locate(#[from] LocateError),
    /// The token is not accepted, or could not be checked.
    #[error(transparent)]
    Token(#[from] CheckError),
    /// The refresh token is not accepted, or could not be checked.
    #[error(transparent)]
    Refresh(#[from] RefreshError),
    /// The token is not fresh: no login issued it, or the login is longer ago than
    /// [`SessionPolicy::fresh_for`](countersign_core::model::SessionPolicy::fresh_for).
    #[error(
        "the token is not fresh: this route needs the access token of a recent login; let the user log in again"
    )]
    NotFresh,
    /// The token does not permit this request.
    #[error("the token lacks {lacks}")]
    InsufficientScope {
        /// The scope, role or claim that the requirement names and the token lacks.
        lacks: String,
        /// The scope that the requirement names, if it names one.
        scope: Option<String>,
    },
    /// The application says that the token was revoked.
    #[error("the application has revoked the token")]
    RevokedByApplication,
    /// The application does not accept the token's claims.
    #[error("the application does not accept the token's claims")]
    RefusedByApplication,
    /// The application's check failed, so whether the token is valid is unknown.
    #[error("the application could not say whether the token is good")]
    AskApplication(#[source] BoxError),
    /// The request carries our cookies and was sent on another site's behalf.
    #[error(
        "the request comes from an origin that is neither our own nor an allowed one (COUNTERSIGN_ALLOWED_ORIGINS, \
         AuthBuilder::allowed_origins)"
    )]
    CrossSite,
    /// The answer would set cookies that are not `Secure`, for a host that is not this machine's loopback interface.
    #[error(
        "cookies would go out without `Secure`: without a public URL they are those of a loopback address, but the \
         request was sent to another host name; set COUNTERSIGN_PUBLIC_URL (AuthBuilder::public_url) to the https URL \
         under which users reach the service"
    )]
    InsecureCookies,
    /// A request that a cookie authenticates has no valid CSRF value.
    #[error(transparent)]
    Csrf(#[from] CsrfError),
    /// The body that holds what the request must show is compressed, so it is not read.
    #[error("the body is encoded with {0}; send it without a Content-Encoding")]
    EncodedBody(ContentEncoding),
    /// The token is valid, but its user is gone or disabled.
    #[error("the token's user is gone or disabled")]
    UserGone,
    /// The token of a login session is bound to another client than the one that shows it.
    #[error("the login session belongs to another client")]
    OtherClient,
    /// The user could not be loaded, so whether there is such a user is unknown.
    #[error("the user could not be loaded")]
    LoadUser(#[source] BoxError),
    /// The rules refuse the request for a reason of their own, which they turn into an answer.
    #[error(transparent)]
    Rules(BoxError),
    /// The program asks for a type of user for which it has set no loader.
    #[error("no user loader for {0}; add `.user_loader(…)` to the AuthBuilder")]
    NoUserLoader(&'static str),
}

impl AuthError {
    /// The standard code that the client learns.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Missing => ErrorCode::MissingToken,
            Self::Locate(error) => (*error).into(),
            Self::Token(CheckError::ViewTooOld(_) | CheckError::Store(_))
            | Self::LoadUser(_)
            | Self::AskApplication(_) => ErrorCode::Unavailable,
            Self::Refresh(
                RefreshError::Store(_)
                | RefreshError::ViewTooOld(_)
                | RefreshError::Contended
                | RefreshError::ExtraClaims(ExtraClaimsError::Ask(_)),
            ) => ErrorCode::Unavailable,
            Self::Refresh(RefreshError::Sign(_) | RefreshError::ExtraClaims(_)) => ErrorCode::InternalError,
            Self::Token(_)
            | Self::Refresh(_)
            | Self::UserGone
            | Self::OtherClient
            | Self::RevokedByApplication
            | Self::RefusedByApplication => ErrorCode::InvalidToken,
            Self::Rules(_) => ErrorCode::InvalidToken,
            Self::InsufficientScope { .. } => ErrorCode::InsufficientScope,
            Self::NotFresh => ErrorCode::FreshTokenRequired,
            Self::CrossSite => ErrorCode::CrossSite,
            Self::InsecureCookies => ErrorCode::InsecureCookies,
            Self::EncodedBody(_) => ErrorCode::UnsupportedMediaType,
            Self::Csrf(error) => (*error).into(),
            Self::NoUserLoader(_) => ErrorCode::InternalError,
        }
    }
}

impl AuthError {
    pub(crate) fn is_expired(&self) -> bool {
        matches!(
            self,
            Self::Token(CheckError::Invalid(VerifyError::Expired))
                | Self::Refresh(RefreshError::Invalid(VerifyError::Expired))
        )
    }
}

/// The default answer to an error, under any rules.
impl From<&AuthError> for Answer {
    fn from(error: &AuthError) -> Self {
        match error {
            AuthError::EncodedBody(encoding) => (*encoding).into(),
            error => Self::error(error.code()),
        }
    }
}
