//! The texts in which PyJWT, which both libraries use, reports a token that it does not accept.

use crate::tokens::{FlaskTokenError, Segment};

/// The text in which Flask-JWT-Extended, or PyJWT below it, reports an error. Where they accept what is refused here,
/// the text is Countersign's own.
pub(crate) fn text(error: &FlaskTokenError) -> String {
    match error {
        FlaskTokenError::TooLong => "Token is too long".to_owned(),
        FlaskTokenError::NotEnoughSegments => "Not enough segments".to_owned(),
        FlaskTokenError::Encoding(Segment::Signature) => "Invalid crypto padding".to_owned(),
        FlaskTokenError::Encoding(segment) => format!("Invalid {segment} padding"),
        FlaskTokenError::Json(segment, error) => format!("Invalid {segment} string: {error}"),
        FlaskTokenError::NotAnObject(segment) => format!("Invalid {segment} string: must be a json object"),
        FlaskTokenError::KeyIdType => "Key ID header parameter must be a string".to_owned(),
        FlaskTokenError::CriticalShape => "Invalid 'crit' header: must be a non-empty list".to_owned(),
        FlaskTokenError::CriticalType => "Invalid 'crit' header: values must be strings".to_owned(),
        FlaskTokenError::CriticalUnknown(name) => format!("Unsupported critical extension: {name}"),
        FlaskTokenError::CriticalAbsent(name) => {
            format!("Critical extension '{name}' is missing from headers")
        }
        FlaskTokenError::DetachedPayload => "Payload segment must be empty when 'b64' is false.".to_owned(),
        FlaskTokenError::RefusedHeader(name) => format!("Header parameter '{name}' is not accepted"),
        FlaskTokenError::NoAlgorithm => "Algorithm not specified".to_owned(),
        FlaskTokenError::AlgorithmUnknown => "Algorithm not supported".to_owned(),
        FlaskTokenError::AlgorithmNotAllowed | FlaskTokenError::Key(_) => {
            "The specified alg value is not allowed".to_owned()
        }
        FlaskTokenError::NotANumber(name) => format!("{} must be an integer.", claim_in_words(name)),
        FlaskTokenError::NotYetValid(name) => format!("The token is not yet valid ({name})"),
        FlaskTokenError::MissingClaim(name) => format!("Token is missing the \"{name}\" claim"),
        FlaskTokenError::IssuerType => "Payload Issuer (iss) must be a string".to_owned(),
        FlaskTokenError::Issuer => "Invalid issuer".to_owned(),
        FlaskTokenError::AudienceType => "Invalid claim format in token".to_owned(),
        FlaskTokenError::Audience => "Audience doesn't match".to_owned(),
        FlaskTokenError::SubjectType => "Subject must be a string".to_owned(),
        FlaskTokenError::TokenIdType => "JWT ID must be a string".to_owned(),
        FlaskTokenError::NoExpiry(_) => "Token is missing the \"exp\" claim".to_owned(),
        FlaskTokenError::TokenTypeType => "Token type must be a string".to_owned(),
        FlaskTokenError::MissingIdentity(name) => format!("Missing claim: {name}"),
        // Variants that may be added later are about signatures, or about nothing that clients need to know.
        _ => "Signature verification failed".to_owned(),
    }
}

pub(crate) fn claim_in_words(name: &str) -> &'static str {
    match name {
        "iat" => "Issued At claim (iat)",
        "nbf" => "Not Before claim (nbf)",
        _ => "Expiration Time claim (exp)",
    }
}
