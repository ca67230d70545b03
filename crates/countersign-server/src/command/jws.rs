//! `countersign jws …`: verifies signed tokens on the command line.

use std::error::Error;
use std::io::{self, BufRead, Read, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use countersign_jwt::jws::{self, Limits};
use countersign_jwt::key::{ImportRules, Jwk, JwkError, JwkSet, LeftOut};
use countersign_jwt::{Algorithm, KeyRing};

use crate::telemetry;

#[derive(Args, Debug)]
pub(crate) struct JwsCommand {
    #[command(subcommand)]
    command: JwsSubcommand,
}

#[derive(Debug, Subcommand)]
enum JwsSubcommand {
    /// Verify the signatures of compact tokens from standard input, one a line. Their claims are not checked.
    ///
    /// Prints `ok` or `error: <why>` for each token, and fails if any token fails.
    Verify {
        /// The keys, a JWK set (RFC 7517 §5). Keys that cannot be used are left out and named on standard error.
        #[arg(long, value_name = "FILE")]
        jwks: PathBuf,
        /// Accept only this algorithm. It is also taken for keys that do not name their algorithm.
        #[arg(long, value_name = "ALG", value_parser = super::algorithm)]
        alg: Option<Algorithm>,
    },
}

/// Why the keys could not be read or the tokens were not accepted.
#[derive(Debug, thiserror::Error)]
enum JwsError {
    #[error("could not read the keys from {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is not an acceptable JWK set", path.display())]
    Keys { path: PathBuf, source: JwkError },
    #[error("{failed} of {all} tokens failed")]
    Failed { failed: usize, all: usize },
}

/// `countersign jws …`
pub(crate) fn run(command: &JwsCommand) -> Result<(), Box<dyn Error>> {
    match &command.command {
        JwsSubcommand::Verify { jwks, alg } => {
            let ring = read_keys(jwks, *alg)?;
            let (failed, all) = verify(&ring, io::stdin().lock(), io::stdout().lock())?;
            if failed > 0 {
                return Err(JwsError::Failed { failed, all }.into());
            }
        }
    }
    Ok(())
}

fn read_keys(path: &Path, only: Option<Algorithm>) -> Result<KeyRing, JwsError> {
    let mut text = Vec::new();
    std::fs::File::open(path)
        // One byte more than the longest set is read, so that a longer one is noticed.
        .and_then(|file| file.take(Jwk::MAX_BYTES as u64 + 1).read_to_end(&mut text))
        .map_err(|source| JwsError::Read { path: path.to_owned(), source })?;
    let (ring, left_out) =
        keys(&text, only).map_err(|source| JwsError::Keys { path: path.to_owned(), source })?;
    if left_out.faulty() > 0 {
        telemetry::warn(&format!("keys of {} are left out: {left_out}", path.display()));
    }
    Ok(ring)
}

fn keys(text: &[u8], only: Option<Algorithm>) -> Result<(KeyRing, LeftOut), JwkError> {
    // The user of this command can read the secret in the file, so guessing it gains nothing.
    let rules = ImportRules::strict().dangerous_accept_guessable_secrets();
    let usable = JwkSet::parse(text)?.usable(rules, only);
    let left_out = usable.left_out.clone();
    Ok((usable.into_ring()?, left_out))
}

/// Verifies the token in each line. Returns how many tokens failed, and how many there were.
fn verify(ring: &KeyRing, mut input: impl BufRead, mut output: impl Write) -> io::Result<(usize, usize)> {
    // A longer line is no token, so it is read to its end and not kept.
    let longest = Limits::default().token_bytes + "\r\n".len();
    let (mut failed, mut all) = (0, 0);
    let mut line = Vec::new();
    loop {
        line.clear();
        if input.by_ref().take(longest as u64 + 1).read_until(b'\n', &mut line)? == 0 {
            return Ok((failed, all));
        }
        if line.len() > longest && line.last() != Some(&b'\n') {
            input.skip_until(b'\n')?;
        }
        all += 1;
        let line = line.strip_suffix(b"\n").unwrap_or(&line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        // A line that is not UTF-8 is not in compact form in any case.
        match jws::verify(&String::from_utf8_lossy(line), ring) {
            Ok(_) => writeln!(output, "ok")?,
            Err(error) => {
                failed += 1;
                writeln!(output, "error: {error}")?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use countersign_http::OsRandom;
    use countersign_jwt::SigningKey;

    use super::*;

    fn verdicts(ring: &KeyRing, input: &[u8]) -> (String, usize, usize) {
        let mut output = Vec::new();
        let (failed, all) = verify(ring, input, &mut output).unwrap();
        (String::from_utf8(output).unwrap(), failed, all)
    }

    #[test]
    fn each_line_gets_its_verdict() {
        let key = SigningKey::generate(Algorithm::EdDsa, &OsRandom).unwrap();
        let other = SigningKey::generate(Algorithm::EdDsa, &OsRandom).unwrap();
        let set = format!(r#"{{"keys":[{}]}}"#, key.verifying_key().to_jwk().unwrap());
        let (ring, _) = keys(set.as_bytes(), None).unwrap();
        let token = jws::sign(&key, "at+jwt", b"not JSON").unwrap();
        let foreign = jws::sign(&other, "at+jwt", b"{}").unwrap();
        let long = "a".repeat(100_000);
        let input = format!("{token}\r\n{foreign}\n\n{long}\n{token}");
        let (output, failed, all) = verdicts(&ring, input.as_bytes());
        assert_eq!(
            output.lines().collect::<Vec<_>>(),
            [
                "ok",
                "error: token names an unknown key",
                "error: token is not three base64url segments joined by dots",
                "error: token or its header is too long",
                "ok",
            ]
        );
        assert_eq!((failed, all), (3, 5));
        assert_eq!(verdicts(&ring, b""), (String::new(), 0, 0));
        assert_eq!(verdicts(&ring, b"\xff\xfe\n").1, 1);
    }

    #[test]
    fn the_algorithm_can_be_narrowed_and_said() {
        let key = SigningKey::generate_rsa(Algorithm::Rs256, Default::default()).unwrap();
        let jwk = key.verifying_key().to_jwk().unwrap();
        let set = format!(r#"{{"keys":[{jwk}]}}"#);
        let unsaid = set.replace(r#""alg":"RS256","#, "");
        assert_eq!(keys(set.as_bytes(), None).unwrap().0.len(), 1);
        assert_eq!(keys(set.as_bytes(), Some(Algorithm::Rs256)).unwrap().0.len(), 1);
        assert!(keys(set.as_bytes(), Some(Algorithm::Ps256)).unwrap().0.is_empty());
        assert_eq!(keys(unsaid.as_bytes(), None).unwrap_err(), JwkError::NoAlgorithm);
        let (ring, _) = keys(unsaid.as_bytes(), Some(Algorithm::Rs256)).unwrap();
        let token = jws::sign(&key, "at+jwt", b"{}").unwrap();
        assert_eq!(verdicts(&ring, token.as_bytes()), ("ok\n".to_owned(), 0, 1));
    }
}
