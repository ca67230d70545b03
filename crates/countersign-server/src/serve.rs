//! `countersign serve`: open the store, listen, serve, stop when asked.

use std::error::Error;
use std::time::Duration;

use countersign_core::Secrets;
use countersign_core::store::Stores;
use countersign_http::profile::flask_jwt_extended::BuildProfileError;
use countersign_http::{Auth, AuthBuilder, BuildError};
use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::net::TcpListener;
use url::Url;

use crate::app::app;
use crate::edge;
use crate::home::ShownOrigin;
use crate::settings::{Flags, ProfileSetting, Settings, Sources};
use crate::store::Database;
use crate::telemetry::{self, say};

/// Runs the server until SIGTERM or Ctrl-C.
pub(crate) fn run(flags: Flags) -> Result<(), Box<dyn Error>> {
    let sources = Sources::read(flags)?;
    let settings = Settings::read(&sources)?;
    telemetry::start(&settings.log, settings.log_format);
    ProfileSetting::warn_of_unknown_options(&sources)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let served = runtime.block_on(serve(&settings));
    runtime.shutdown_timeout(Duration::from_secs(1));
    served
}

async fn serve(settings: &Settings) -> Result<(), Box<dyn Error>> {
    // First, so that a start that cannot succeed leaves nothing behind.
    let listener = TcpListener::bind(&settings.listen).await.map_err(|error| {
        format!("cannot listen on {}: {error}; choose another with --listen ADDRESS:PORT", settings.listen)
    })?;
    if let Some(address) = settings.metrics_listen {
        let exporter = PrometheusBuilder::new().with_http_listener(address).install();
        exporter.map_err(|error| format!("metrics cannot be served on {address}: {error}"))?;
    }
    let (database, secrets) = Database::open(settings).await?;
    let address = listener.local_addr()?;

    let mut builder = builder(settings, database.stores(), secrets);
    if settings.public_url.is_none() {
        if address.ip().is_loopback() {
            builder = builder.served_at(Url::parse(&format!("http://{address}"))?);
        } else {
            tracing::warn!(
                "no public URL is set: cookies are Secure and need https in front; set COUNTERSIGN_PUBLIC_URL"
            );
        }
    }
    let auth = build(builder).await?;
    say_what_is_odd(settings, &auth);

    let origin = settings
        .public_url
        .as_ref()
        .map_or_else(|| format!("http://{address}"), |url| url.as_str().trim_end_matches('/').to_owned());
    let router = app(auth.clone(), ShownOrigin(origin), &settings.allowed_origins);
    // Before anybody is told that the server is there, and may want to stop it.
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
    if let Err(error) = auth.sessions().flush_acknowledgements().await {
        tracing::warn!(error = &error as &dyn Error, "acknowledgements could not be written");
    }
    if let Err(error) = database.settle().await {
        tracing::warn!(error = &error as &dyn Error, "the database file is complete only with its -wal file");
    }
    Ok(())
}

/// Builds it; an error tells what to do about the server, not about a program.
pub(crate) async fn build(builder: AuthBuilder) -> Result<Auth, Box<dyn Error>> {
    builder.build().await.map_err(|error| match error {
        BuildError::Profile(BuildProfileError::ShortSecret { option, algorithm, actual, minimum }) => format!(
            "{option} is {actual} bytes long, but {algorithm} needs {minimum}: whoever guesses it signs in as anybody. \
             Make a new one (openssl rand -base64 48), let the Flask application sign with it first, and start this \
             server when the old tokens have expired; \"Secrets that are too short\" in docs/migrating-from-flask.md \
             shows how"
        )
        .into(),
        error => error.into(),
    })
}

/// What is allowed, but hardly meant.
fn say_what_is_odd(settings: &Settings, auth: &Auth) {
    let policy = &settings.policy;
    if auth.has_profile() {
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
    let signing = auth.sessions().access_algorithm();
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

/// Authentication as the settings have it.
pub(crate) fn builder(settings: &Settings, store: impl Into<Stores>, secrets: Secrets) -> AuthBuilder {
    let mut builder = Auth::builder(store, secrets)
        .policy(settings.policy.clone())
        .allowed_origins(settings.allowed_origins.clone());
    if let Some(permits) = settings.hash_permits {
        builder = builder.hash_permits(permits);
    }
    if let Some(profile) = settings.profile.served() {
        builder = builder.profile(profile);
    }
    if let Some(url) = &settings.public_url {
        builder = builder.public_url(url.clone());
    }
    builder
}

/// Listens for SIGTERM and Ctrl-C from now on; the future ends when one of them has come.
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

/// Listens for Ctrl-C from now on; the future ends when it has come.
#[cfg(windows)]
fn asked_to_stop() -> std::io::Result<impl Future<Output = ()>> {
    let mut interrupt = tokio::signal::windows::ctrl_c()?;
    Ok(async move {
        let _ = interrupt.recv().await;
    })
}
