//! The settings of the edge: TLS, proxies in front, and the number of connections.

use std::path::PathBuf;

use countersign_http::TrustedProxies;

use super::reader::Reader;
use super::sources::Sources;
use super::told;
use super::value::{Setting, SettingError};
use crate::edge::{CertificateFiles, Tls};

/// The settings of the edge, checked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct EdgeSettings {
    /// `tls_cert` and `tls_key`: PEM files. Default none: the server speaks plain http.
    pub(crate) tls: Option<CertificateFiles>,
    /// `trusted_proxies`: addresses and networks of proxies whose word about the client counts; and `forwarded_header`:
    /// the header in which they give it. Default none, and whichever of the two headers is there.
    pub(crate) proxies: TrustedProxies,
    /// `proxy_protocol`: whether connections of trusted proxies begin with a header of the PROXY protocol. Default no.
    pub(crate) proxy_protocol: bool,
    /// `max_connections`. Default: as many as the limit on open files leaves, at most 10,000.
    pub(crate) max_connections: Option<usize>,
    /// `max_connections_per_address`. Default: a tenth of all.
    pub(crate) max_connections_per_address: Option<usize>,
}

impl EdgeSettings {
    pub(super) fn read(reader: &Reader<'_>) -> Self {
        let (proxies, proxy_protocol) = reader.or(Default::default(), proxies(reader.sources));
        Self {
            tls: reader.or(None, tls(reader.sources)),
            proxies,
            proxy_protocol,
            max_connections: reader.optional("max_connections", number),
            max_connections_per_address: reader.optional("max_connections_per_address", number),
        }
    }
}

impl EdgeSettings {
    /// What is wrong with the certificate and its key.
    pub(crate) fn problem(&self) -> Option<String> {
        Tls::open(self.tls.clone()?).err().map(|error| told(&error))
    }
}

fn tls(sources: &Sources) -> Result<Option<CertificateFiles>, SettingError> {
    match (sources.get("tls_cert"), sources.get("tls_key")) {
        (None, None) => Ok(None),
        (Some(certificate), Some(key)) => {
            Ok(Some(CertificateFiles { certificate: path(&certificate), key: path(&key) }))
        }
        (Some(certificate), None) => {
            Err(certificate.wrong("is set without COUNTERSIGN_TLS_KEY, the file with its private key"))
        }
        (None, Some(key)) => {
            Err(key.wrong("is set without COUNTERSIGN_TLS_CERT, the file with the certificate"))
        }
    }
}

fn path(setting: &Setting) -> PathBuf {
    setting.text().into()
}

fn proxies(sources: &Sources) -> Result<(TrustedProxies, bool), SettingError> {
    let mut proxies = TrustedProxies::default();
    if let Some(setting) = sources.get("trusted_proxies") {
        proxies = setting.text().parse().map_err(|error| {
            setting.wrong(format!(
                "must be addresses or networks of proxies, such as 127.0.0.1,10.0.0.0/8: {error}"
            ))
        })?;
    }
    let needs_proxies = |setting: &Setting| {
        let problem =
            "has no effect without COUNTERSIGN_TRUSTED_PROXIES, the proxies that it is about; name them";
        if proxies.is_empty() { Err(setting.wrong(problem)) } else { Ok(()) }
    };
    let mut proxy_protocol = false;
    if let Some(setting) = sources.get("proxy_protocol") {
        proxy_protocol = setting.switch()?;
        if proxy_protocol {
            needs_proxies(&setting)?;
        }
    }
    if let Some(setting) = sources.get("forwarded_header") {
        needs_proxies(&setting)?;
        let header = setting.text().parse().map_err(|_| {
            setting.wrong("must be forwarded or x-forwarded-for, the header that the trusted proxies write")
        })?;
        proxies = proxies.reading(header);
    }
    Ok((proxies, proxy_protocol))
}

fn number(setting: &Setting) -> Result<usize, SettingError> {
    let number = setting.text().parse().ok().filter(|number| (1..=1_000_000).contains(number));
    number.ok_or_else(|| setting.wrong("must be a whole number between 1 and 1000000"))
}

#[cfg(test)]
mod tests {
    use super::super::{Flags, SettingErrors, Settings};
    use super::*;

    fn read(environment: &[(&str, &str)]) -> Result<EdgeSettings, SettingErrors> {
        let environment =
            environment.iter().map(|(name, value)| (format!("COUNTERSIGN_{name}"), (*value).to_owned()));
        let sources = Sources::collect(Flags::default(), environment, None, None);
        Settings::read(&sources).map(|settings| settings.edge)
    }

    #[test]
    fn sec_152_by_default_no_proxy_is_trusted() {
        let settings = read(&[]).unwrap();
        assert!(settings.proxies.is_empty() && !settings.proxy_protocol && settings.tls.is_none());
    }

    #[test]
    fn what_belongs_together_is_set_together() {
        for (environment, expected) in [
            (&[("TLS_CERT", "a.pem")][..], "COUNTERSIGN_TLS_KEY"),
            (&[("TLS_KEY", "a.pem")], "COUNTERSIGN_TLS_CERT"),
            (&[("PROXY_PROTOCOL", "yes")], "COUNTERSIGN_TRUSTED_PROXIES"),
            (&[("FORWARDED_HEADER", "forwarded")], "COUNTERSIGN_TRUSTED_PROXIES"),
            (&[("TRUSTED_PROXIES", "10.0.0.1"), ("FORWARDED_HEADER", "x-real-ip")], "x-forwarded-for"),
            (&[("TRUSTED_PROXIES", "10.0.0.1, nginx")], "entry number 2"),
            (&[("TRUSTED_PROXIES", "0.0.0.0/0")], "trusts every address"),
            (&[("TRUSTED_PROXIES", "10.0.0.1"), ("PROXY_PROTOCOL", "v2")], "on or off"),
            (&[("MAX_CONNECTIONS", "0")], "between 1 and 1000000"),
            (&[("MAX_CONNECTIONS_PER_ADDRESS", "many")], "between 1 and 1000000"),
        ] {
            let error = read(environment).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains("COUNTERSIGN_"), "{environment:?}: {error}");
        }
        let settings = read(&[
            ("TLS_CERT", "a.pem"),
            ("TLS_KEY", "b.pem"),
            ("TRUSTED_PROXIES", "10.0.0.0/8"),
            ("FORWARDED_HEADER", "Forwarded"),
            ("PROXY_PROTOCOL", "yes"),
            ("MAX_CONNECTIONS", "5000"),
        ]);
        let settings = settings.unwrap();
        assert!(settings.tls.is_some() && settings.proxy_protocol && !settings.proxies.is_empty());
        assert_eq!((settings.max_connections, settings.max_connections_per_address), (Some(5000), None));
    }
}
