//! Makes the filter of common passwords that is part of this crate: reads one password a line from standard input, and
//! writes the filter to the file that the first argument names. `scripts/common-passwords` has the passwords.
#![allow(clippy::print_stderr, reason = "it tells how many there were")]

use std::collections::BTreeSet;
use std::error::Error;
use std::io::{self, BufRead as _};

use aws_lc_rs::digest;
use icu_casemap::CaseMapper;
use icu_normalizer::ComposingNormalizerBorrowed;
use xorf::{BinaryFuse16, DmaSerializable as _, Filter as _};

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("name the file to write")?;
    let mut folded = BTreeSet::new();
    for line in io::stdin().lock().lines() {
        folded.insert(fold(&line?));
    }
    let mut keys = folded.iter().map(|password| key(password)).collect::<Vec<_>>();
    keys.sort_unstable();
    keys.dedup();
    let filter = BinaryFuse16::try_from(&keys)?;
    if !keys.iter().all(|key| filter.contains(key)) {
        return Err("the filter does not know all of them".into());
    }
    let mut bytes = vec![0; BinaryFuse16::DESCRIPTOR_LEN];
    filter.dma_copy_descriptor_to(&mut bytes);
    bytes.extend(filter.fingerprints.iter().flat_map(|fingerprint| fingerprint.to_le_bytes()));
    std::fs::write(&path, &bytes)?;
    eprintln!("{} passwords, {} bytes in {path}", folded.len(), bytes.len());
    Ok(())
}

/// As the crate folds a password before it asks the filter.
fn fold(text: &str) -> String {
    let nfc = ComposingNormalizerBorrowed::new_nfc();
    let folded = CaseMapper::new().fold_string(&nfc.normalize(text)).into_owned();
    nfc.normalize(&folded).into_owned()
}

/// As the crate asks the filter.
fn key(folded: &str) -> u64 {
    let digest = digest::digest(&digest::SHA256, folded.as_bytes());
    u64::from_le_bytes(digest.as_ref().first_chunk().copied().unwrap_or_default())
}
