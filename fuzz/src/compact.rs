//! Whole tokens: any text, genuine tokens with changes, and three segments of any bytes.

use std::sync::LazyLock;

use countersign_jwt::{Freshness, Issuer, NewClaims, TokenId, TokenType, UserId};
use uuid::Uuid;

use crate::json::encode;
use crate::keys::{KEYS, key};
use crate::token::{judge, now};

/// The first byte says how the others become a token.
pub fn compact(input: &[u8]) {
    let Some((how, rest)) = input.split_first() else { return };
    match how % 3 {
        0 => {
            if let Ok(token) = std::str::from_utf8(rest) {
                let _ = judge(token);
            }
        }
        1 => changed(rest),
        _ => assembled(rest),
    }
}

/// Which genuine token, then what to change in it: a place in two bytes and what to put there.
fn changed(input: &[u8]) {
    let Some((which, changes)) = input.split_first() else { return };
    let genuine = &GENUINE[usize::from(*which) % GENUINE.len()];
    let mut token = genuine.clone().into_bytes();
    for change in changes.chunks_exact(4) {
        let at = usize::from(u16::from_be_bytes([change[1], change[2]])) % (token.len() + 1);
        match change[0] % 5 {
            0 => token.insert(at, change[3]),
            1 => {
                if let Some(byte) = token.get_mut(at) {
                    *byte = change[3];
                }
            }
            2 => {
                if let Some(byte) = token.get_mut(at) {
                    *byte ^= change[3];
                }
            }
            3 => drop(token.drain(at..(at + usize::from(change[3])).min(token.len()))),
            // The end of another genuine token.
            _ => {
                let other = GENUINE[usize::from(change[3]) % GENUINE.len()].as_bytes();
                token.truncate(at);
                token.extend_from_slice(other.get(at..).unwrap_or_default());
            }
        }
        if token.len() > 10_000 {
            return;
        }
    }
    let Ok(token) = String::from_utf8(token) else { return };
    let verdict = judge(&token);
    assert_eq!(verdict.is_ok(), GENUINE.contains(&token), "{token} from {genuine}");
}

/// Header, payload and signature with lines between them. Without the third line a key signs, which the first byte
/// chooses.
fn assembled(input: &[u8]) {
    let Some((which, lines)) = input.split_first() else { return };
    let mut lines = lines.splitn(3, |byte| *byte == b'\n');
    let header = lines.next().unwrap_or_default();
    let payload = lines.next().unwrap_or_default();
    match lines.next() {
        Some(signature) => {
            let token = [header, payload, signature].map(encode).join(".");
            assert!(judge(&token).is_err(), "nobody guesses a signature");
        }
        None => {
            let key = key(*which);
            let verdict = judge(&key.token(header, payload));
            if let Ok(verified) = verdict {
                assert_eq!(verified.header.algorithm(), key.signing.algorithm());
            }
        }
    }
}

/// A token of each kind from each key.
pub(crate) static GENUINE: LazyLock<Vec<String>> = LazyLock::new(|| {
    let issue = |kind| {
        KEYS.iter().map(move |key| {
            let ids = (UserId::new("ada"), TokenId::new(Uuid::from_u128(7)));
            let end = now() + std::time::Duration::from_secs(900);
            let claims = NewClaims::new(kind, ids.0.expect("a good name"), ids.1, now(), end);
            let claims = claims.with_freshness(Freshness::Fresh);
            Issuer::new(key.signing.clone()).issue(&claims).expect("a short token")
        })
    };
    TokenType::ALL.into_iter().flat_map(issue).collect()
});
