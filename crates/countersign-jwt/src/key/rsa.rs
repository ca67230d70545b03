//! The checks that an RSA public key must pass.

use aws_lc_rs::signature::{
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PKCS1_SHA256,
    RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384,
    RSA_PSS_2048_8192_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaParameters,
    RsaSignatureEncoding,
};
use pkcs1::RsaPublicKeyRef;

use super::algorithm::{Hash, Padding};
use super::{ImportRules, KeyError};

/// The parameters for verifying. A PSS salt must have the length of the hash (RFC 7518 §3.5).
pub(super) const fn verification(padding: Padding, hash: Hash) -> &'static RsaParameters {
    match (padding, hash) {
        (Padding::Pkcs1, Hash::Sha256) => &RSA_PKCS1_2048_8192_SHA256,
        (Padding::Pkcs1, Hash::Sha384) => &RSA_PKCS1_2048_8192_SHA384,
        (Padding::Pkcs1, Hash::Sha512) => &RSA_PKCS1_2048_8192_SHA512,
        (Padding::Pss, Hash::Sha256) => &RSA_PSS_2048_8192_SHA256,
        (Padding::Pss, Hash::Sha384) => &RSA_PSS_2048_8192_SHA384,
        (Padding::Pss, Hash::Sha512) => &RSA_PSS_2048_8192_SHA512,
    }
}

/// The parameters for signing. A PSS salt has the length of the hash (RFC 7518 §3.5).
pub(super) const fn signing(padding: Padding, hash: Hash) -> &'static RsaSignatureEncoding {
    match (padding, hash) {
        (Padding::Pkcs1, Hash::Sha256) => &RSA_PKCS1_SHA256,
        (Padding::Pkcs1, Hash::Sha384) => &RSA_PKCS1_SHA384,
        (Padding::Pkcs1, Hash::Sha512) => &RSA_PKCS1_SHA512,
        (Padding::Pss, Hash::Sha256) => &RSA_PSS_SHA256,
        (Padding::Pss, Hash::Sha384) => &RSA_PSS_SHA384,
        (Padding::Pss, Hash::Sha512) => &RSA_PSS_SHA512,
    }
}

/// Checks the size, exponent and origin of a public key (SEC-019).
pub(super) fn check(key: &RsaPublicKeyRef<'_>, rules: ImportRules) -> Result<(), KeyError> {
    // Both numbers are without leading zeros.
    let (modulus, exponent) = (key.modulus.as_bytes(), key.public_exponent.as_bytes());
    let bits = bit_length(modulus);
    if !(2048..=8192).contains(&bits) {
        return Err(KeyError::RsaSize { bits });
    }
    check_exponent(exponent, rules)?;
    if is_even(modulus) || has_roca_fingerprint(modulus) {
        return Err(KeyError::WeakPublicKey);
    }
    Ok(())
}

fn check_exponent(exponent: &[u8], rules: ImportRules) -> Result<(), KeyError> {
    if exponent == [3] && rules.accepts_rsa_exponent_3() {
        return Ok(());
    }
    // The exponent must have three bytes or more and not be below 65537. All numbers of three bytes are at least 65536,
    // which is even.
    if exponent.len() < 3 || is_even(exponent) {
        return Err(KeyError::RsaExponent);
    }
    Ok(())
}

fn bit_length(number: &[u8]) -> usize {
    let unused = number.first().map_or(0, |first| first.leading_zeros());
    number.len().saturating_mul(8).saturating_sub(unused as usize)
}

fn is_even(number: &[u8]) -> bool {
    number.last().is_none_or(|last| last % 2 == 0)
}

/// Whether the primes were made by the library of CVE-2017-15361 ("ROCA"), so that the key can be factored.
///
/// Those primes are powers of 65537 modulo many small primes, and so is their product. A modulus from another library
/// is such a power for all of the small primes once in a hundred million.
fn has_roca_fingerprint(modulus: &[u8]) -> bool {
    SMALL_PRIMES.into_iter().all(|prime| {
        let residue = modulus.iter().fold(0, |residue, byte| (residue * 256 + u32::from(*byte)) % prime);
        let mut power = 1;
        loop {
            if power == residue {
                return true;
            }
            power = power * (65_537 % prime) % prime;
            if power == 1 {
                return false;
            }
        }
    })
}

/// The odd primes whose product the weak primes were built on (Nemec and others, "The Return of Coppersmith's Attack",
/// 2017, §2). Larger keys were built on more primes, which need not be looked at.
const SMALL_PRIMES: [u32; 38] = [
    3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101, 103,
    107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sec_019_exponents_are_odd_and_at_least_65537() {
        let strict = ImportRules::strict();
        let lax = strict.dangerous_accept_rsa_exponent_3();
        for (exponent, in_strict, in_lax) in [
            (&[][..], false, false),
            (&[1], false, false),
            (&[2], false, false),
            (&[3], false, true),
            (&[5], false, false),
            (&[17], false, false),
            (&[0xff, 0xff], false, false),
            (&[1, 0, 0], false, false),
            (&[1, 0, 1], true, true),
            (&[1, 0, 2], false, false),
            (&[1, 0, 3], true, true),
        ] {
            assert_eq!(check_exponent(exponent, strict).is_ok(), in_strict, "{exponent:?}");
            assert_eq!(check_exponent(exponent, lax).is_ok(), in_lax, "{exponent:?}");
        }
    }

    #[test]
    fn sec_019_bits_are_counted_without_leading_zeros() {
        for (number, bits) in [(&[][..], 0), (&[1], 1), (&[0x80], 8), (&[1, 0], 9), (&[0xff; 256], 2048)] {
            assert_eq!(bit_length(number), bits);
        }
    }

    #[test]
    fn sec_019_powers_of_65537_have_the_fingerprint() {
        // 65537^k for small k, as big-endian bytes.
        let mut number = vec![1_u8];
        for _ in 0..40 {
            assert!(has_roca_fingerprint(&number));
            let mut neighbour = number.clone();
            *neighbour.last_mut().unwrap() ^= 2;
            assert!(!has_roca_fingerprint(&neighbour));
            // n * 65537 = n * 2^16 + n.
            let mut product = [&number[..], &[0, 0]].concat();
            let mut carry = 0;
            for at in 0..product.len() {
                let index = product.len() - 1 - at;
                let add = if at < number.len() { u16::from(number[number.len() - 1 - at]) } else { 0 };
                let sum = u16::from(product[index]) + add + carry;
                product[index] = sum.to_le_bytes()[0];
                carry = sum >> 8;
            }
            assert_eq!(carry, 0);
            number = product;
        }
    }
}
