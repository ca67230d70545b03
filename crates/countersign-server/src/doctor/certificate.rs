//! The certificate: whether it is for the public URL's host, and how long it is good.

use std::sync::Arc;
use std::time::Duration;

use countersign_jwt::Timestamp;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::ServerCertVerifier as _;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{CertificateError, Error, RootCertStore};

use super::{About, Report};
use crate::settings::Settings;

const DAY: Duration = Duration::from_secs(86_400);
/// A certificate that ends within these days should have been renewed: Let's Encrypt's are renewed 30 days before.
const RENEWED_BEFORE: u32 = 21;

/// Looks at the certificate that the settings name. What is wrong with its files was told with the settings.
pub(super) fn examine(settings: &Settings, now: Timestamp, report: &mut Report) {
    let Some(files) = &settings.edge.tls else { return };
    let Ok(chain) = files.certificates() else { return };
    let host = settings.public_url.as_ref().and_then(|url| url.host_str());
    let name = format!("the certificate in {}", files.certificate.display());
    // Whoever made it is trusted here: the operator knows, and browsers will tell.
    match life(&chain, &chain, host, now) {
        Life::Good => {
            report.good(About::Certificate, format!("{name} is good for {RENEWED_BEFORE} days and more"))
        }
        bad => bad.tell(&name, host, report),
    }
}

/// What is to be said of a certificate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Life {
    Good,
    Ends { days: u32 },
    Ended,
    NotYet,
    OfAnother,
    Unusable,
}

impl Life {
    pub(super) fn tell(self, name: &str, host: Option<&str>, report: &mut Report) {
        const RENEW: &str = "renew it; the server takes the new files without a restart";
        let about = About::Certificate;
        match self {
            Self::Good => {}
            Self::Ends { days } => report.warning(about, format!("{name} ends within {days} days"), RENEW),
            Self::Ended => report.error(about, format!("{name} has expired"), RENEW),
            Self::NotYet => report.error(
                about,
                format!("{name} is not good yet"),
                "set this machine's clock right, or wait",
            ),
            Self::OfAnother => report.error(
                about,
                format!("{name} is not for {}", host.unwrap_or("this host")),
                "get one for the host of COUNTERSIGN_PUBLIC_URL, or correct that",
            ),
            Self::Unusable => report.warning(
                about,
                format!("{name} is none that clients would accept"),
                "get one from an authority that your clients trust",
            ),
        }
    }
}

/// How long the first certificate of a chain is good, and whether it is for this host. `trusted` are authorities.
pub(super) fn life(
    chain: &[CertificateDer<'static>],
    trusted: &[CertificateDer<'static>],
    host: Option<&str>,
    now: Timestamp,
) -> Life {
    let Some((own, between)) = chain.split_first() else { return Life::Unusable };
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(trusted.iter().cloned());
    let verifier =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::new(default_provider())).build();
    // A name has to be checked, and without a host none is wrong.
    let name = ServerName::try_from(host.unwrap_or("localhost").trim_matches(['[', ']']).to_owned());
    let (Ok(verifier), Ok(name)) = (verifier, name) else { return Life::Unusable };
    let at = |now: Timestamp| {
        let seconds = u64::try_from(now.as_secs()).unwrap_or_default();
        let time = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        verifier.verify_server_cert(own, between, &name, &[], time).map(drop)
    };
    match at(now) {
        Ok(()) => {}
        Err(Error::InvalidCertificate(error)) => match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => return Life::Ended,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                return Life::NotYet;
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                if host.is_some() {
                    return Life::OfAnother;
                }
            }
            _ => return Life::Unusable,
        },
        Err(_) => return Life::Unusable,
    }
    let ended = |error: Error| {
        matches!(
            error,
            Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. })
        )
    };
    let ends = (1..=RENEWED_BEFORE).find(|days| at(now + DAY * *days).is_err_and(ended));
    ends.map_or(Life::Good, |days| Life::Ends { days })
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    #[test]
    fn a_certificate_ends_is_not_yet_good_and_is_for_its_host() {
        let mut params = CertificateParams::new(["auth.example.com".to_owned()]).unwrap();
        params.not_before = date_time_ymd(2026, 1, 1);
        params.not_after = date_time_ymd(2026, 3, 1);
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let chain = [certificate.der().clone()];
        let first = Timestamp::from_secs(1_767_225_600); // 2026-01-01
        let at = |days: u32, host: &str| life(&chain, &chain, Some(host), first + DAY * days);
        assert_eq!(at(1, "auth.example.com"), Life::Good);
        assert_eq!(at(1, "example.com"), Life::OfAnother);
        assert_eq!(at(49, "auth.example.com"), Life::Ends { days: 11 });
        assert_eq!(at(60, "auth.example.com"), Life::Ended);
        assert_eq!(life(&chain, &chain, Some("auth.example.com"), first - DAY), Life::NotYet);
        assert_eq!(life(&chain, &chain, None, first + DAY), Life::Good);
        assert_eq!(life(&chain, &[], Some("auth.example.com"), first + DAY), Life::Unusable);
        assert_eq!(life(&[], &[], None, first), Life::Unusable);
    }
}
