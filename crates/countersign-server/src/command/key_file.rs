//! Private keys in files: reading them, telling their forms apart, and writing them.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use countersign_jwt::key::{Jwk, JwkError, KeyError, KeyKind, PemContent, RsaBits};
use countersign_jwt::{Algorithm, SigningKey};
use countersign_sql::open_to_others;
use zeroize::Zeroizing;

use super::new_file;

/// The form in which a private key is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(super) enum Format {
    /// PKCS#8 in PEM, not encrypted.
    Pem,
    /// A JSON Web Key.
    Jwk,
}

/// Why a key was not read or written. No message holds any part of the key.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeyFileError {
    #[error("cannot read {}", .path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error(
        "{0} holds a private key and is open to other users (mode {mode:03o}); where it is mounted, let it be root's and \
         readable by this user's group alone (Kubernetes: defaultMode: 0440); else run: chmod 600 {0}", .path.display()
    )]
    Open { path: PathBuf, mode: u32 },
    #[error("{} exists already and is not overwritten; name another file", .0.display())]
    Exists(PathBuf),
    #[error("cannot write {}", .path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("the text is longer than any key")]
    TooLong,
    #[error("neither a PEM text that begins with -----BEGIN … nor a JWK that begins with {{")]
    NeitherForm,
    #[error("an RSA key fits several algorithms; say which with --algorithm RS256 (or PS256, …)")]
    Ambiguous,
    #[error("the key does not say its algorithm; say it with --algorithm")]
    NoAlgorithm,
    #[error("{0} keys are shared secrets and have no PEM form; use --format jwk")]
    NoPem(Algorithm),
    #[error("--rsa-bits is for RSA keys, and {0} takes none")]
    NotRsa(Algorithm),
    #[error("this is a public key; only its private key signs")]
    Public,
    #[error("this is {0}; keys that sign here are RSA, EC on P-256, P-384, P-521 or secp256k1, and Ed25519")]
    Kind(KeyKind),
    #[error("the key is not accepted")]
    Key(#[from] KeyError),
    #[error("the key is not accepted")]
    Jwk(#[from] JwkError),
}

/// A newly generated key.
pub(super) fn generate(algorithm: Algorithm, rsa_bits: Option<u16>) -> Result<SigningKey, KeyFileError> {
    let Some(bits) = rsa_bits else {
        return Ok(SigningKey::generate(algorithm, &countersign_http::OsRandom)?);
    };
    let bits = match bits {
        4096 => RsaBits::Bits4096,
        3072 => RsaBits::Bits3072,
        _ => RsaBits::Bits2048,
    };
    SigningKey::generate_rsa(algorithm, bits).map_err(|_| KeyFileError::NotRsa(algorithm))
}

/// The text of a private key, which is secret, with a line break at its end.
pub(super) fn write(key: &SigningKey, format: Option<Format>) -> Result<String, KeyFileError> {
    let algorithm = key.algorithm();
    let text = match format.unwrap_or(if algorithm.is_symmetric() { Format::Jwk } else { Format::Pem }) {
        Format::Pem => key.dangerous_private_key_pem().ok_or(KeyFileError::NoPem(algorithm))?,
        Format::Jwk => key.dangerous_private_jwk().ok_or(KeyError::Malformed { algorithm })?,
    };
    Ok(format!("{}\n", text.trim_end()))
}

/// Writes a new file that only its owner can read.
pub(super) fn write_new(path: &Path, text: &str) -> Result<(), KeyFileError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::AlreadyExists => KeyFileError::Exists(path.to_owned()),
        _ => KeyFileError::Write { path: path.to_owned(), source },
    };
    let mut file = new_file::create(path).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)
}

/// Reads a private key from a file that other users cannot read, or from standard input if the path is `-`.
pub(super) fn read(path: &Path, algorithm: Option<Algorithm>) -> Result<SigningKey, KeyFileError> {
    let failed = |source| KeyFileError::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let limit = Jwk::MAX_BYTES as u64 + 1;
    if path == Path::new("-") {
        io::stdin().lock().take(limit).read_to_end(&mut bytes).map_err(failed)?;
    } else {
        let file = File::open(path).map_err(failed)?;
        check_mode(path, &file.metadata().map_err(failed)?)?;
        file.take(limit).read_to_end(&mut bytes).map_err(failed)?;
    }
    if bytes.len() > Jwk::MAX_BYTES {
        return Err(KeyFileError::TooLong);
    }
    parse(&bytes, algorithm)
}

fn check_mode(path: &Path, metadata: &fs::Metadata) -> Result<(), KeyFileError> {
    match open_to_others(metadata) {
        // What is not a regular file, such as a password manager's pipe, has no content that stays, so its mode does
        // not matter.
        Some(mode) if metadata.is_file() => Err(KeyFileError::Open { path: path.to_owned(), mode }),
        _ => Ok(()),
    }
}

/// Reads a private key in either form.
fn parse(bytes: &[u8], algorithm: Option<Algorithm>) -> Result<SigningKey, KeyFileError> {
    let text = bytes.trim_ascii();
    if text.starts_with(b"{") {
        let mut jwk = Jwk::parse(text)?;
        if let Some(algorithm) = algorithm {
            jwk = jwk.with_algorithm(algorithm)?;
        }
        return jwk.signing_key().map_err(|error| match error {
            JwkError::NoAlgorithm => KeyFileError::NoAlgorithm,
            JwkError::NotPrivate => KeyFileError::Public,
            error => error.into(),
        });
    }
    // The text before the key, such as its name in a PKCS#12 file, may be in any encoding.
    let pem = Zeroizing::new(String::from_utf8_lossy(text).into_owned());
    if !pem.contains("-----BEGIN ") {
        return Err(KeyFileError::NeitherForm);
    }
    parse_pem(&pem, algorithm).map_err(|error| match error {
        KeyFileError::Key(KeyError::PemContent(PemContent::PublicKey)) => KeyFileError::Public,
        error => error,
    })
}

fn parse_pem(pem: &str, algorithm: Option<Algorithm>) -> Result<SigningKey, KeyFileError> {
    if let Some(algorithm) = algorithm {
        return Ok(SigningKey::from_private_key_pem(algorithm, pem)?);
    }
    let kind = KeyKind::of_private_key_pem(pem)?;
    let mut fitting = kind.algorithms();
    let first = fitting.next().ok_or(KeyFileError::Kind(kind))?;
    // If several algorithms fit, any of them shows whether it is a key at all, and why not.
    let key = SigningKey::from_private_key_pem(first, pem);
    match (fitting.next(), first) {
        (None, _) => Ok(key?),
        (Some(_), Algorithm::Rs256) => {
            key.map_or_else(|error| Err(error.into()), |_| Err(KeyFileError::Ambiguous))
        }
        (Some(_), _) => Err(KeyFileError::NoAlgorithm),
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    #[test]
    fn every_algorithms_key_comes_back_from_both_forms() {
        for algorithm in Algorithm::ALL {
            let key = generate(algorithm, None).unwrap();
            for format in [None, Some(Format::Pem), Some(Format::Jwk)] {
                let text = match write(&key, format) {
                    Ok(text) => text,
                    Err(KeyFileError::NoPem(_)) if algorithm.is_symmetric() => continue,
                    Err(error) => panic!("{algorithm}: {error}"),
                };
                let again = parse(text.as_bytes(), Some(algorithm)).unwrap();
                assert_eq!((again.algorithm(), again.key_id()), (algorithm, key.key_id()), "{format:?}");
                let rsa = algorithm.name().starts_with(['R', 'P']);
                match parse(text.as_bytes(), None) {
                    Ok(again) => assert_eq!(again.algorithm(), algorithm, "{format:?}"),
                    Err(KeyFileError::Ambiguous) => assert!(rsa && format != Some(Format::Jwk)),
                    Err(error) => panic!("{algorithm}: {error}"),
                }
                let other = if algorithm == Algorithm::Es384 { Algorithm::EdDsa } else { Algorithm::Es384 };
                assert!(parse(text.as_bytes(), Some(other)).is_err(), "{algorithm} as {other}");
            }
        }
    }

    #[test]
    fn what_is_no_private_key_is_refused_with_the_reason() {
        let key = generate(Algorithm::Es256, None).unwrap().verifying_key();
        let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        for (case, text, reason) in [
            ("nothing", String::new(), "neither a PEM text"),
            ("words", "password".to_owned(), "neither a PEM text"),
            ("a public PEM", key.to_public_key_pem().unwrap(), "a public key"),
            ("a public JWK", key.to_jwk().unwrap(), "a public key"),
            ("encrypted", encrypted.to_owned(), "openssl pkey -in"),
            (
                "a set",
                format!(r#"{{"keys":[{}]}}"#, key.to_jwk().unwrap()),
                "this is a JWK set; take one key",
            ),
            ("a short secret", r#"{"kty":"oct","alg":"HS256","k":"c2hvcnQ"}"#.to_owned(), "not accepted"),
        ] {
            let error = parse(text.as_bytes(), None).map(|_| ()).unwrap_err();
            let error = format!("{error}: {:?}", error.source().map(ToString::to_string));
            assert!(error.contains(reason), "{case}: {error}");
        }
        assert!(matches!(generate(Algorithm::EdDsa, Some(4096)), Err(KeyFileError::NotRsa(_))));
    }
}
