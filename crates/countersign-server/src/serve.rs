//! `countersign serve`: opens the store, listens, serves, and stops when asked.

use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use countersign_core::flow::AgreementError;
#[cfg(feature = "flask")]
use countersign_core::store::BoxError;
use countersign_core::store::Stores;
#[cfg(feature = "flask")]
use countersign_flask::FlaskBuildError;
use countersign_http::{Auth, AuthBuilder, BuildError};
use countersign_jwt::Secrets;
use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::net::TcpListener;
use url::Url;

use crate::app::app;
use crate::edge;
use crate::home::ShownOrigin;
use crate::settings::{Flags, ProfileSetting, Settings, Sources, differ};
use crate::store::Database;
use crate::telemetry::{self, say};

/// Runs the server until SIGTERM or Ctrl-C.
pub(crate) fn run(flags: Flags) -> Result<(), Box<dyn Error>> {
    let sources = Sources::read(flags)?;
    let settings = Settings::read(&sources)?;
    telemetry::start(&settings.log, settings.log_format);
    warn_of_settings(&settings);
    ProfileSetting::warn_of_unknown_options(&sources)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let served = runtime.block_on(serve(&settings));
    runtime.shutdown_timeout(Duration::from_secs(1));
    served
}

async fn serve(settings: &Settings) -> Result<(), Box<dyn Error>> {
    // This comes before everything else, so that a terminal that closes does not end a half-finished start.
    ignore_hangup()?;
    // Listening comes first, so that a start that cannot succeed leaves nothing behind.
    let listener = TcpListener::bind(&settings.listen).await.map_err(|error| {
        format!("cannot listen on {}: {error}; choose another with --listen ADDRESS:PORT", settings.listen)
    })?;
    let address = listener.local_addr()?;
    check_listener(address, settings.plain_http)?;
    if let Some(address) = settings.metrics_listen {
        let exporter = PrometheusBuilder::new().with_http_listener(address).install();
        exporter.map_err(|error| {
            format!(
                "metrics cannot be served on {address}: {error}; choose another COUNTERSIGN_METRICS_LISTEN"
            )
        })?;
    }
    let (database, secrets) = Database::open(settings).await?;
    let place = database.place_of_sessions(settings).await?;
    let mut builder = builder(settings, database.stores(), secrets, &place);
    if settings.public_url.is_none() {
        if is_loopback(address) {
            builder = builder.served_at(Url::parse(&format!("http://{address}"))?);
        } else {
            tracing::warn!(
                "no public URL is set: cookies are Secure and need https in front; set COUNTERSIGN_PUBLIC_URL"
            );
        }
    }
    let auth = build(builder, &settings.profile).await?;
    say_what_is_odd(settings, &auth);

    let origin = settings
        .public_url
        .as_ref()
        .map_or_else(|| format!("http://{address}"), |url| url.as_str().trim_end_matches('/').to_owned());
    let router = app(auth.clone(), ShownOrigin(origin), &settings.allowed_origins);
    // The signals are caught before the server announces itself, because somebody may want to stop it from then on.
    let asked_to_stop = asked_to_stop()?;
    tracing::info!(
        %address,
        database = settings.database.to_string(),
        sessions = settings.sessions.as_ref().map(ToString::to_string),
        version = env!("CARGO_PKG_VERSION"),
        "the server is ready"
    );
    say(&format!("listening on http://{address}"));

    edge::serve(listener, router, asked_to_stop, settings.shutdown_grace).await;
    if let Err(error) = auth.sessions().verification().flush_acknowledgements().await {
        tracing::warn!(error = &error as &dyn Error, "acknowledgements could not be written");
    }
    if let Err(error) = database.settle().await {
        tracing::warn!(error = &error as &dyn Error, "the database file is complete only with its -wal file");
    }
    Ok(())
}

/// Refuses to listen in plain http where other machines reach the server, unless the settings allow it. Passwords and
/// tokens can be read on the way there, so the operator has to state that this is intended (SEC-154).
fn check_listener(address: SocketAddr, plain_http: bool) -> Result<(), String> {
    if is_loopback(address) || plain_http {
        return Ok(());
    }
    Err(format!(
        "{address} can be reached from other machines, and this server speaks plain http: passwords and tokens could be read \
         on the way. Listen on a loopback address such as 127.0.0.1:{port} behind a proxy that does TLS; or, where \
         that proxy is on another machine or this is a container, say --plain-http or COUNTERSIGN_PLAIN_HTTP=yes",
        port = address.port()
    ))
}

fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// Builds the authentication. Its errors name the server's settings, which an operator can change, and not the methods
/// of [`AuthBuilder`].
pub(crate) async fn build(builder: AuthBuilder, profile: &ProfileSetting) -> Result<Auth, Box<dyn Error>> {
    builder.build().await.map_err(|error| match error {
        BuildError::Agreement(AgreementError::Differ(differences)) => differ(&differences, profile).into(),
        #[cfg(feature = "flask")]
        BuildError::Rules(error) => of_flask_rules(error),
        error => error.into(),
    })
}

#[cfg(feature = "flask")]
fn of_flask_rules(error: BoxError) -> Box<dyn Error> {
    match error.downcast_ref() {
        Some(FlaskBuildError::ShortSecret { option, algorithm, actual, minimum }) => format!(
            "{option} is {actual} bytes long, but {algorithm} needs {minimum}: whoever guesses it signs in as anybody. \
             Make a new one (openssl rand -base64 48), let the Flask application sign with it first, and start this \
             server when the old tokens have expired; \"Secrets that are too short\" in docs/migrating-from-flask.md \
             shows how"
        )
        .into(),
        _ => error,
    }
}

/// Warns of settings that have no effect, or an effect that is probably not intended.
fn warn_of_settings(settings: &Settings) {
    for line in &settings.unreadable_lines {
        tracing::warn!(
            line,
            ".env: line {line} cannot be read and is passed over; nothing of this server's is in it"
        );
    }
    if !settings.without_profile.is_empty() {
        tracing::warn!(
            settings = settings.without_profile.join(" "),
            "options of a Flask application are set and have no effect, because no profile is: set COUNTERSIGN_PROFILE to \
             flask-jwt-extended or flask-jwt to go by them, or to native if they are meant for another program"
        );
    }
    if settings.settings_change {
        tracing::warn!(
            "COUNTERSIGN_SETTINGS_CHANGE is on: this server makes its settings the store's at every start; take it out \
             when all servers have the new ones"
        );
    }
}

/// Warns of settings that are allowed, but probably not intended.
fn say_what_is_odd(settings: &Settings, auth: &Auth) {
    let policy = &settings.policy;
    if !settings.profile.is_native() {
        for (setting, instead) in &settings.overruled {
            tracing::warn!(setting, "{setting} has no effect in a profile: {instead}");
        }
        return;
    }
    if policy.idle > policy.absolute {
        tracing::warn!(
            "COUNTERSIGN_SESSION_IDLE is longer than COUNTERSIGN_SESSION_LIFETIME and so ends no session; set it lower"
        );
    }
    let signing = auth.sessions().keys().access_algorithm();
    if let Some(wanted) = policy.key_algorithm.filter(|wanted| *wanted != signing) {
        tracing::warn!(
            signing = signing.name(),
            wanted = wanted.name(),
            "COUNTERSIGN_KEY_ALGORITHM takes effect with the next key; countersign key rotate makes it now"
        );
    }
    if signing.is_symmetric() {
        tracing::warn!(
            signing = signing.name(),
            "the published key set is empty: nobody else can verify access tokens that are signed with a shared secret"
        );
    }
}

/// The authentication that the settings describe.
pub(crate) fn builder(
    settings: &Settings,
    store: impl Into<Stores>,
    secrets: Secrets,
    place_of_sessions: &str,
) -> AuthBuilder {
    let mut builder = Auth::builder(store, secrets)
        .policy(settings.policy.clone())
        .allowed_origins(settings.allowed_origins.clone());
    if let Some(permits) = settings.hash_permits {
        builder = builder.hash_permits(permits);
    }
    builder = settings.profile.apply(builder);
    if let Some(url) = &settings.public_url {
        builder = builder.public_url(url.clone());
    }
    if let Some(issuer) = &settings.issuer {
        builder = builder.issuer(issuer.as_str());
    }
    if settings.settings_change {
        builder = builder.change_settings();
    }
    // All servers must agree on this, because a server that looks for revocations in another place than the others
    // write them to accepts what was revoked.
    builder.agree_on("sessions", place_of_sessions)
}

/// Listens for SIGTERM and Ctrl-C from now on. The future ends when one of them arrives.
#[cfg(unix)]
fn asked_to_stop() -> std::io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};

    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// From now on SIGHUP only writes a line to the log, instead of ending the process.
#[cfg(unix)]
fn ignore_hangup() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};

    let mut hangup = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            tracing::info!(
                "SIGHUP has no effect: settings are read at start, so restart the server to change them"
            );
        }
    });
    Ok(())
}

#[cfg(not(unix))]
fn ignore_hangup() -> std::io::Result<()> {
    Ok(())
}

/// Listens for Ctrl-C from now on. The future ends when it arrives.
#[cfg(windows)]
fn asked_to_stop() -> std::io::Result<impl Future<Output = ()>> {
    let mut interrupt = tokio::signal::windows::ctrl_c()?;
    Ok(async move {
        let _ = interrupt.recv().await;
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sec_154_plain_http_is_served_to_other_machines_only_if_asked_for() {
        for (address, alone) in [
            ("127.0.0.1:8080", true),
            ("127.8.9.10:1", true),
            ("[::1]:8080", true),
            ("[::ffff:127.0.0.1]:8080", true),
            ("0.0.0.0:8080", false),
            ("[::]:8080", false),
            ("192.168.1.2:8080", false),
            ("10.0.0.1:8080", false),
            ("169.254.1.1:80", false),
            ("[fe80::1]:80", false),
            ("[fd00::1]:80", false),
            ("[::ffff:10.0.0.1]:80", false),
        ] {
            let address: SocketAddr = address.parse().unwrap();
            assert_eq!(check_listener(address, false).is_ok(), alone, "{address}");
            assert!(check_listener(address, true).is_ok(), "{address}");
        }
    }
}
