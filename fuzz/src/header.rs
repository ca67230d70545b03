//! Headers of any bytes, signed by the right key, so that nothing but the header decides.

use countersign_jwt::VerifyError;

use crate::keys::key;
use crate::token::{header_faults, judge};

/// The first byte chooses the key that signs, the others are the header.
pub fn header(input: &[u8]) {
    let Some((which, header)) = input.split_first() else { return };
    let key = key(*which);
    let verdict = judge(&key.token(header, b"{}"));
    if matches!(verdict, Err(VerifyError::TooLong)) {
        return;
    }
    let (faults, named) = header_faults(header);
    match named.filter(|_| faults.is_empty()) {
        // The right key signed if it is the one that the header names.
        Some(named) => assert_eq!(verdict.is_ok(), named.id() == key.id(), "{verdict:?}"),
        None => assert!(verdict.is_err(), "accepted in spite of {faults:?}"),
    }
}
