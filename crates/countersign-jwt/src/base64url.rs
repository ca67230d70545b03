//! base64url without padding (RFC 4648 §5), read strictly: the same bytes have one text, and every other text is
//! refused (SEC-003).
//!
//! The `base64` crate's vector code is used where the processor has it, which is found out once.

use std::sync::LazyLock;

use base64::engine::general_purpose::NO_PAD;
use base64::{DecodeError, DecodeSliceError, Engine};

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
static ENGINE: LazyLock<base64::engine::Simd> = LazyLock::new(|| base64::engine::Simd::url_safe(NO_PAD));

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
static ENGINE: LazyLock<base64::engine::GeneralPurpose> =
    LazyLock::new(|| base64::engine::GeneralPurpose::new(&base64::alphabet::URL_SAFE, NO_PAD));

pub(crate) fn encode(bytes: impl AsRef<[u8]>) -> String {
    ENGINE.encode(bytes)
}

pub(crate) fn append(bytes: impl AsRef<[u8]>, text: &mut String) {
    ENGINE.encode_string(bytes, text);
}

pub(crate) fn decode(text: &str) -> Result<Vec<u8>, DecodeError> {
    ENGINE.decode(text)
}

pub(crate) fn decode_into(text: &str, buffer: &mut [u8]) -> Result<usize, DecodeSliceError> {
    ENGINE.decode_slice(text, buffer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sec_003_long_texts_are_as_strict_as_short_ones() {
        for length in 0..200 {
            let bytes: Vec<u8> = (0..length).map(|n: u8| n.wrapping_mul(151)).collect();
            let text = encode(&bytes);
            assert_eq!(decode(&text).unwrap(), bytes);
            for wrong in ['=', '+', '/', ' ', '\n', '.', '\0', 'é'] {
                for at in [0, text.len() / 2, text.len()] {
                    let mut changed = text.clone();
                    changed.insert(at, wrong);
                    assert!(decode(&changed).is_err(), "{wrong:?} at {at} of {length} bytes");
                }
            }
            if let (Some(last), true) = (text.bytes().last(), length % 3 != 0) {
                // The next digit differs only in bits that no byte holds.
                let next = DIGITS[DIGITS.iter().position(|digit| *digit == last).unwrap() + 1];
                let changed = format!("{}{}", &text[..text.len() - 1], char::from(next));
                assert!(decode(&changed).is_err(), "stray bits after {length} bytes");
            }
        }
    }

    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
}
