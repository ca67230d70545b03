//! The public URL, asked as a browser would ask it: is it this server, and does it see who asks?

use std::time::Duration;

use countersign_jwt::Timestamp;
use http::{HeaderMap, header};
use jiff::fmt::rfc2822;
use serde::Deserialize;

use super::certificate::life;
use super::{About, Report, fetch};
use crate::settings::{Settings, told};
use crate::whoami;

/// Clocks that are further apart are told.
const APART: Duration = Duration::from_secs(30);

/// The part of `whoami`'s answer that matters here.
#[derive(Deserialize)]
struct Seen {
    address: Option<String>,
    problem: Option<String>,
}

pub(super) async fn examine(settings: &Settings, now: Timestamp, report: &mut Report) {
    let Some(base) = &settings.public_url else { return };
    let mut url = base.clone();
    url.set_path(&format!("{}{}", base.path().trim_end_matches('/'), whoami::PATH));
    let fetched = match fetch::get(&url).await {
        Ok(fetched) => fetched,
        Err(error) => {
            report.error(
                About::Proxy,
                format!("{url} does not answer this machine: {}", told(&*error)),
                "start the server and the proxy, and look at the name's address and at the certificate; or say \
                 --offline, where this machine is not meant to reach it",
            );
            return;
        }
    };
    if url.scheme() == "https" {
        let (host, authorities) = (base.host_str(), fetch::authorities());
        let name = format!("the certificate of {base}");
        life(&fetched.chain, &authorities, host, now).tell(&name, host, report);
    }
    clock(&fetched.headers, now, report);
    let seen = serde_json::from_slice::<Seen>(&fetched.body).ok().filter(|_| fetched.status.is_success());
    match seen {
        None => report.error(
            About::Proxy,
            format!("something else answers {url}: status {}", fetched.status),
            "let the proxy pass /v1/auth to this server, with its path (docs/proxies.md)",
        ),
        Some(Seen { problem: Some(problem), .. }) => report.warning(
            About::Proxy,
            problem,
            "the limits of logins count all clients as one until this is right (docs/proxies.md)",
        ),
        Some(Seen { address, .. }) => {
            let address = address.unwrap_or_default();
            report.good(
                About::Proxy,
                format!("{base} reaches the server, which sees this machine as {address}"),
            );
        }
    }
}

/// The time at which the server has answered is the proxy's or its own.
fn clock(headers: &HeaderMap, now: Timestamp, report: &mut Report) {
    let date = headers.get(header::DATE).and_then(|date| date.to_str().ok());
    let Some(date) = date.and_then(|date| rfc2822::parse(date).ok()) else { return };
    let there = Timestamp::from_secs(date.timestamp().as_second());
    let apart = there.since(now).max(now.since(there));
    if apart > APART {
        report.warning(
            About::Clock,
            format!("the clock behind the public URL is {} s off from this machine's", apart.as_secs()),
            "let both keep time by NTP (timedatectl)",
        );
    }
}
