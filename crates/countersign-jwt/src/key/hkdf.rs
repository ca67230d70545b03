//! Derivation of keys for different purposes from one secret.

use aws_lc_rs::hkdf;
use zeroize::Zeroizing;

/// The 32-byte key that HKDF with SHA-256 (RFC 5869) derives from `secret` for `label` and `purpose`, written one after
/// the other. Two callers must not share a label, and no label may be the beginning of another one, because two
/// purposes would then have the same key.
pub(crate) fn hkdf(secret: &[u8], label: &str, purpose: &str) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0; 32]);
    hkdf::Salt::none(hkdf::HKDF_SHA256)
        .extract(secret)
        .expand(&[label.as_bytes(), purpose.as_bytes()], hkdf::HKDF_SHA256)
        .and_then(|output| output.fill(key.as_mut_slice()))
        .expect("HKDF with SHA-256 gives up to 8160 bytes");
    key
}
