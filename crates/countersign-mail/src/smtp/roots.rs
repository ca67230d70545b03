//! Certificate authorities beside those of the operating system.

use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;

/// Certificate authorities that are trusted beside those of the operating system, such as a company's own.
#[derive(Clone, Debug, Default)]
pub struct Roots(pub(super) Vec<CertificateDer<'static>>);

/// The reason why certificate authorities cannot be used.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RootsError {
    /// The file has no certificate in it.
    #[error(
        "no certificate found; the file must be PEM, with a block that begins -----BEGIN CERTIFICATE-----"
    )]
    NoCertificate,
    /// A block of the file is broken.
    #[error("a certificate of the file is damaged; write it out anew, as PEM")]
    Damaged,
    /// There is no certificate authority at all.
    #[error(
        "this system knows no certificate authorities, so no mail server could be trusted; install them (on Debian: \
         apt-get install ca-certificates) or name a file with one"
    )]
    NoneKnown,
}

impl Roots {
    /// Reads certificates from the content of a PEM file.
    ///
    /// # Errors
    /// [`RootsError`] if there is none, or one is damaged.
    pub fn from_pem(pem: &[u8]) -> Result<Self, RootsError> {
        let certificates = CertificateDer::pem_slice_iter(pem)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| RootsError::Damaged)?;
        if certificates.is_empty() { Err(RootsError::NoCertificate) } else { Ok(Self(certificates)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_certificate_is_refused() {
        let pem = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap().cert.pem();
        assert_eq!(Roots::from_pem(format!("{pem}\n{pem}").as_bytes()).unwrap().0.len(), 2);
        let damaged = pem.replace("-----BEGIN CERTIFICATE-----\n", "-----BEGIN CERTIFICATE-----\n!");
        for (content, error) in [
            (String::new(), RootsError::NoCertificate),
            ("no PEM".to_owned(), RootsError::NoCertificate),
            (pem.replace("CERTIFICATE", "PRIVATE KEY"), RootsError::NoCertificate),
            (damaged, RootsError::Damaged),
        ] {
            assert_eq!(Roots::from_pem(content.as_bytes()).map(|_| ()), Err(error));
        }
    }
}
