//! The address under which browsers reach the server, as far as the settings tell: cookies and origins.

use countersign_http::RegistrationMode;
use url::{Host, Url};

use super::{About, Report};
use crate::serve::{leads_here, listens_here_alone};
use crate::settings::Settings;

pub(super) fn examine(settings: &Settings, report: &mut Report) {
    let is_local = listens_here_alone(settings);
    match &settings.public_url {
        None if is_local => report.note(
            About::Public,
            "there is no public URL; this server is for this machine",
            "before others use it, set COUNTERSIGN_PUBLIC_URL, such as https://auth.example.com",
        ),
        None => report.warning(
            About::Public,
            "other machines reach this server, but there is no public URL: cookies need https in front, mails have no \
             links, and tokens name no issuer that others know",
            "set COUNTERSIGN_PUBLIC_URL to the address that browsers see, such as https://auth.example.com",
        ),
        Some(url) => {
            scheme(url, report);
            proxy(url, settings, report);
            origins(url, settings, report);
            if settings.accounts.rules.registration == RegistrationMode::Open && !leads_here(url) {
                report.note(
                    About::Public,
                    "everybody who reaches this server may register",
                    "if only some may: COUNTERSIGN_REGISTRATION=invite or closed, or COUNTERSIGN_EMAIL_DOMAINS",
                );
            }
            report.good_if_nothing_else(About::Public, url.to_string());
        }
    }
}

fn scheme(url: &Url, report: &mut Report) {
    if url.scheme() == "http" && !leads_here(url) {
        report.error(
            About::Public,
            format!("COUNTERSIGN_PUBLIC_URL is {url}: passwords and tokens can be read on the way, and cookies are not Secure"),
            "let a proxy do TLS, or set COUNTERSIGN_TLS_CERT and COUNTERSIGN_TLS_KEY; then write https:// \
             (docs/proxies.md)",
        );
    }
}

/// Where something in front does TLS, it is a proxy, and its address is what the server would take for every client's.
fn proxy(url: &Url, settings: &Settings, report: &mut Report) {
    let is_behind_proxy = url.scheme() == "https" && settings.edge.tls.is_none() && !leads_here(url);
    if is_behind_proxy && settings.edge.proxies.is_empty() {
        report.warning(
            About::Public,
            "something in front does https, but no proxy is trusted: all clients seem to have its address, and the \
             limits of logins count them as one",
            "set COUNTERSIGN_TRUSTED_PROXIES to the address from which it connects, such as 127.0.0.1 (docs/proxies.md)",
        );
    }
}

/// Cookies of this server are `SameSite=Lax` at least, so pages of another site cannot use them.
fn origins(url: &Url, settings: &Settings, report: &mut Report) {
    let Some(own) = url.host() else { return };
    for origin in settings.allowed_origins.iter() {
        let Ok(allowed) = Url::parse(&origin.to_string()) else { continue };
        if allowed.scheme() == "http" && url.scheme() == "https" && !leads_here(&allowed) {
            report.warning(
                About::Public,
                format!(
                    "COUNTERSIGN_ALLOWED_ORIGINS has {origin}: whoever is on the way can act there as anybody"
                ),
                "write its https origin",
            );
        }
        let is_web = matches!(allowed.scheme(), "http" | "https");
        if is_web
            && let Some(host) = allowed.host()
            && !may_be_same_site(&own, &host)
        {
            report.warning(
                About::Public,
                format!("{origin} in COUNTERSIGN_ALLOWED_ORIGINS is another site than {url}: browsers send no cookies from there"),
                "let both be below one domain (app.example.com and auth.example.com), or use bearer tokens there \
                 (docs/http.md)",
            );
        }
    }
}

/// Whether two hosts may be of one site. A site is one label more than a public suffix, which takes a list to know; two
/// labels in common may be a site, fewer are none.
fn may_be_same_site<S: AsRef<str>>(one: &Host<S>, other: &Host<S>) -> bool {
    match (one, other) {
        (Host::Domain(one), Host::Domain(other)) => {
            let (one, other) = (one.as_ref(), other.as_ref());
            let in_common =
                one.rsplit('.').zip(other.rsplit('.')).take_while(|(one, other)| one == other).count();
            one == other || in_common >= 2
        }
        (Host::Ipv4(one), Host::Ipv4(other)) => one == other,
        (Host::Ipv6(one), Host::Ipv6(other)) => one == other,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sites_are_told_apart_by_the_ends_of_their_names() {
        for (one, other, same) in [
            ("https://auth.example.com", "https://app.example.com", true),
            ("https://example.com", "https://app.example.com", true),
            ("https://localhost:1", "https://localhost:2", true),
            ("https://auth.example.com", "https://auth.example.org", false),
            ("https://auth.example.com", "https://example.net", false),
            ("https://10.0.0.1", "https://10.0.0.1:81", true),
            ("https://10.0.0.1", "https://10.0.0.2", false),
            ("https://10.0.0.1", "https://app.example.com", false),
        ] {
            let host = |url: &str| Url::parse(url).unwrap().host().unwrap().to_owned();
            assert_eq!(may_be_same_site(&host(one), &host(other)), same, "{one} {other}");
        }
    }
}
