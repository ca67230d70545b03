//! The most common passwords, as a filter inside the program.
//!
//! The filter is a binary fuse filter over 115,748 passwords, in 270 KB. It knows each of them, and takes one in 65,536
//! others for one of them: somebody who meets such a password is asked for another one. `common.md` says where the
//! passwords come from; `scripts/common-passwords` makes the filter anew.

use std::sync::LazyLock;

use aws_lc_rs::digest;
use xorf::{BinaryFuse16, Descriptor, Filter as _};

/// Whether this folded text is one of the most common passwords.
pub(super) fn is_common(folded: &str) -> bool {
    COMMON.contains(&key(folded))
}

static COMMON: LazyLock<BinaryFuse16> = LazyLock::new(|| {
    read(include_bytes!("common.fuse16")).expect("the filter inside the program is complete")
});

/// What the filter knows of a folded password. The example `common_passwords` makes the same.
fn key(folded: &str) -> u64 {
    let digest = digest::digest(&digest::SHA256, folded.as_bytes());
    let first = digest.as_ref().first_chunk().copied().unwrap_or_default();
    u64::from_le_bytes(first)
}

/// Reads a filter: its seed, the length of its segments, their mask and the length of all, and then the fingerprints,
/// all little-endian.
fn read(bytes: &[u8]) -> Option<BinaryFuse16> {
    let (seed, rest) = bytes.split_first_chunk()?;
    let (segment_length, rest) = rest.split_first_chunk()?;
    let (segment_length_mask, rest) = rest.split_first_chunk()?;
    let (segment_count_length, rest) = rest.split_first_chunk()?;
    let (fingerprints, []) = rest.as_chunks() else { return None };
    Some(BinaryFuse16 {
        descriptor: Descriptor {
            seed: u64::from_le_bytes(*seed),
            segment_length: u32::from_le_bytes(*segment_length),
            segment_length_mask: u32::from_le_bytes(*segment_length_mask),
            segment_count_length: u32::from_le_bytes(*segment_count_length),
        },
        fingerprints: fingerprints.iter().map(|bytes| u16::from_le_bytes(*bytes)).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sec_114_a_hundred_thousand_common_passwords_are_known() {
        // A filter has about 1.19 fingerprints for each password.
        assert!(COMMON.fingerprints.len() * 100 / 119 > 100_000, "{}", COMMON.fingerprints.len());
        for text in
            ["password", "12345678", "qwertyuiop", "football1", "йцукен", "p@ssw0rd", "zaq12wsx", "iloveyou"]
        {
            assert!(is_common(text), "{text}");
        }
    }

    #[test]
    fn sec_114_other_passwords_are_hardly_ever_taken_for_common_ones() {
        let mistaken = (0..200_000).filter(|number| is_common(&format!("nobody has had this one {number}")));
        // 3 are expected.
        assert!(mistaken.count() < 12);
    }

    #[test]
    fn a_filter_that_is_cut_off_is_not_read() {
        assert!(read(&[]).is_none());
        assert!(read(&[0; 19]).is_none());
        assert!(read(&[0; 21]).is_none());
    }
}
