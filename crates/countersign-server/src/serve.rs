//! `countersign serve`: opens the store, listens, serves, and stops when asked.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use countersign_core::flow::AgreementError;
use countersign_core::model::AuditRecord;
#[cfg(feature = "flask")]
use countersign_core::store::BoxError;
use countersign_core::store::Stores;
#[cfg(feature = "flask")]
use countersign_flask::FlaskBuildError;
use countersign_http::{Auth, AuthBuilder, BuildError, LoginSessions, RegistrationMode};
use countersign_jwt::Secrets;
use countersign_pages::{Logo, Look, Pages, Templates};
use tokio::net::TcpListener;
use tokio::sync::watch;
use url::{Host, Url};

use crate::app::{Way, admin_app, app};
use crate::audit::{SERVER_STARTED, SERVER_STOPPED, Trail};
use crate::command;
use crate::doctor::Whereabouts;
use crate::edge::{self, Edge, Limits, Tls};
use crate::hashing::HashThreads;
use crate::home::ShownOrigin;
use crate::mail::{Mail, NO_LINKS};
use crate::metrics::{self, MeasuredStores, Requests};
use crate::notify;
use crate::operator::Operator;
use crate::reload::{Reload, Texts};
use crate::settings::{EdgeSettings, Flags, PagesSettings, ProfileSetting, Settings, Sources, differ, told};
use crate::store::Database;
use crate::telemetry::{self, say};
use crate::traces::Traces;

/// Runs the server until SIGTERM or Ctrl-C.
pub(crate) fn run(flags: Flags) -> Result<(), Box<dyn Error>> {
    let sources = Sources::read(flags.clone())?;
    let settings = Settings::read(&sources)?;
    // What waits for the collector is sent when this is dropped, after everything else has ended.
    let traces = Traces::start(settings.otlp_url.as_ref())?;
    let level = telemetry::start(&settings.log, settings.log_format, traces.as_ref());
    edge::raise_limit();
    for warning in settings.warnings() {
        tracing::warn!("{warning}");
    }
    ProfileSetting::warn_of_unknown_options(&sources)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let hashing = HashThreads::new(settings.hash_permits)?;
    let reload = Reload::new(flags, sources, settings.log.clone(), level);
    let is_ready = AtomicBool::new(false);
    let served = runtime.block_on(async {
        // The signals are caught from the beginning. To the first process of a container the kernel does not deliver a
        // SIGTERM that is not, and a start may wait for its database for a while.
        let stopping = stopping()?;
        tokio::select! {
            served = serve(&settings, &hashing, reload, stopping.clone(), &is_ready) => served,
            () = stopped_before(&is_ready, stopping) => Ok(()),
        }
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    hashing.stop();
    served
}

async fn serve(
    settings: &Settings,
    hashing: &HashThreads,
    reload: Reload,
    stopping: watch::Receiver<bool>,
    is_ready: &AtomicBool,
) -> Result<(), Box<dyn Error>> {
    // This comes before everything else, so that a terminal that closes does not end a half-finished start.
    let texts = reload.texts();
    follow_hangups(reload)?;
    // Listening comes first, so that a start that cannot succeed leaves nothing behind.
    let Listeners { users: listener, address, admin: admin_listener, tls } = match listen(settings).await {
        Ok(listeners) => listeners,
        Err(problems) => return Err(all_problems(problems, settings).await.into()),
    };
    let scheme = if tls.is_some() { "https" } else { "http" };
    let (database, secrets) = Database::open(settings).await?;
    let has_metrics = settings.metrics_listen.is_some();
    let stores = if has_metrics { MeasuredStores::of(database.stores()) } else { database.stores() };
    let mail_secrets = secrets.clone();
    let place = database.place_of_sessions(settings).await?;
    let mut builder = builder(settings, stores.clone(), secrets, &place);
    if settings.public_url.is_none() {
        if is_loopback(address) {
            builder = builder.served_at(Url::parse(&format!("{scheme}://{address}"))?);
        } else if tls.is_none() {
            tracing::warn!(
                "no public URL is set: cookies are Secure and need https in front; set COUNTERSIGN_PUBLIC_URL"
            );
        }
    }
    let origin = settings
        .public_url
        .as_ref()
        .map_or_else(|| format!("{scheme}://{address}"), |url| url.as_str().trim_end_matches('/').to_owned());
    let is_local = is_loopback(address);
    // A link must lead where the operator says, and never where a request says (SEC-139).
    let base = (settings.public_url.is_some() || is_local).then_some(origin.as_str());
    // Links in a log are for who tries the server out, and not for one that users reach by a public URL.
    let is_tried_out = is_local && settings.public_url.as_ref().is_none_or(leads_here);
    let mail = Mail::open(&settings.accounts.mail, base, is_tried_out, &stores, mail_secrets)?;
    builder = builder.account_rules(settings.accounts.rules.clone()).user_ids(settings.accounts.ids);
    if let Some(mail) = &mail {
        builder = builder.letters(mail.letters());
    } else if settings.accounts.rules.registration == RegistrationMode::VerifyFirst {
        return Err(NOBODY_COULD_VERIFY.into());
    }
    if settings.pages.on {
        builder = builder.login_sessions(login_sessions(settings.public_url.as_ref()));
    }
    let trail = Arc::new(Trail::default());
    let builder = builder.events(trail.clone());
    let builder = builder.hash_permits(hashing.permits()).hash_runtime(hashing.handle().clone());
    let auth = build(settings.passwords.apply(builder)?, &settings.profile).await?;
    say_what_is_odd(settings, &auth);

    let auditing = trail.clone().start(
        stores.audit().clone(),
        auth.sessions().clock(),
        settings.accounts.audit_retention,
    );
    let requests = has_metrics.then(Requests::new);
    let _watching = has_metrics.then(|| metrics::watch(&auth, &stores, &trail));
    let way = Way {
        pages: pages(settings, &auth, is_local)?,
        shown_origin: ShownOrigin(origin),
        is_https: settings.public_url.as_ref().is_some_and(|url| url.scheme() == "https"),
        allowed_origins: &settings.allowed_origins,
        proxies: settings.edge.proxies.clone(),
        requests: requests.clone(),
        is_native: settings.profile.is_native(),
        api_page: settings.pages.api.unwrap_or(is_tried_out && settings.profile.is_native()),
    };
    // Nobody else knows the place.
    let _is_set = texts.set(Texts { pages: way.pages.clone(), mailer: mail.as_ref().map(Mail::mailer) });
    let router = app(auth.clone(), way);
    let edge = |name, tls| Edge {
        name,
        limits: limits(&settings.edge),
        proxies: settings.edge.proxies.clone(),
        proxy_protocol: settings.edge.proxy_protocol,
        tls,
    };
    let admin = match admin_listener {
        Some((listener, address)) => {
            let operator = Operator { auth: auth.clone(), stores: stores.clone(), trail: trail.clone() };
            let tls = settings.edge.tls.clone().map(Tls::open).transpose()?;
            Some((edge("admin", tls), listener, address, admin_app(operator, requests)))
        }
        None => None,
    };
    is_ready.store(true, Ordering::Relaxed);
    tracing::info!(
        %address,
        database = settings.database.to_string(),
        sessions = settings.sessions.as_ref().map(ToString::to_string),
        admin = admin.as_ref().map(|(_, _, address, _)| tracing::field::display(address)),
        version = env!("CARGO_PKG_VERSION"),
        "the server is ready"
    );
    let carrying = mail.map(|mail| mail.start(auth.sessions().clock()));
    if carrying.is_none() {
        tracing::warn!(
            "no mail is sent: nobody can reset a password or verify an address; set COUNTERSIGN_PUBLIC_URL, \
             COUNTERSIGN_SMTP_URL and COUNTERSIGN_MAIL_FROM"
        );
    }
    let server = Whereabouts::here(address, auth.sessions().view().node());
    record(&trail, SERVER_STARTED, &server);
    say(&format!("listening on {scheme}://{address}"));
    notify::tell(notify::State::Ready);

    let grace = settings.shutdown_grace;
    let users = edge("users", tls).serve(listener, router, asked_in(stopping.clone()), grace);
    let operators = async {
        if let Some((edge, listener, _, router)) = admin {
            edge.serve(listener, router, asked_in(stopping), grace).await;
        }
    };
    tokio::join!(users, operators);
    record(&trail, SERVER_STOPPED, &server);
    auditing.abort();
    if let Err(error) = trail.flush(&**stores.audit()).await {
        tracing::warn!(error = &error as &dyn Error, "the last events are not in the audit trail");
    }
    if let Some(carrying) = carrying {
        // A mail that is being sent at this moment is due again when its lease is over.
        carrying.abort();
    }
    if let Err(error) = auth.sessions().verification().flush_acknowledgements().await {
        tracing::warn!(error = &error as &dyn Error, "acknowledgements could not be written");
    }
    if let Err(error) = database.settle().await {
        tracing::warn!(error = &error as &dyn Error, "the database file is complete only with its -wal file");
    }
    Ok(())
}

/// Notes in the audit trail that a server starts or stops, so that others know which versions run on the store.
fn record(trail: &Trail, name: &str, server: &Whereabouts) {
    if let Some(record) = Trail::record(name) {
        trail.add(AuditRecord { detail: Some(server.to_string()), ..record });
    }
}

const NOBODY_COULD_VERIFY: &str = "COUNTERSIGN_REGISTRATION is verify-first, but no mail is sent, so that nobody could sign in: set \
     COUNTERSIGN_SMTP_URL, COUNTERSIGN_MAIL_FROM and COUNTERSIGN_PUBLIC_URL";

/// Whether the address at which the server is to listen is reached from this machine alone.
pub(crate) fn listens_here_alone(settings: &Settings) -> bool {
    let host = settings.listen.rsplit_once(':').map_or("", |(host, _)| host);
    host == "localhost" || settings.listen.parse().is_ok_and(is_loopback)
}

/// What would refuse a start with these settings, as far as it shows without listening and without the database.
pub(crate) fn refusals(settings: &Settings) -> Vec<String> {
    let mut problems = settings.problems_of_files();
    problems.extend(settings.edge.problem());
    if let Some(path) = settings.missing_secret_file() {
        problems.push(format!("COUNTERSIGN_SECRET_FILE: there is no {}", path.display()));
    }
    problems.extend(settings.missing_secret());
    let plain_http = settings.plain_http || settings.edge.tls.is_some();
    if let Ok(address) = settings.listen.parse()
        && let Err(problem) = check_listener(address, plain_http)
    {
        problems.push(problem);
    }
    if let Some(address) = settings.accounts.admin_listen
        && let Err(problem) = check_listener(address, plain_http)
    {
        problems.push(format!("COUNTERSIGN_ADMIN_LISTEN: {problem}"));
    }
    let mail = &settings.accounts.mail;
    let is_tried_out = listens_here_alone(settings) && settings.public_url.as_ref().is_none_or(leads_here);
    if settings.accounts.rules.registration == RegistrationMode::VerifyFirst
        && mail.smtp.is_none()
        && !is_tried_out
    {
        problems.push(NOBODY_COULD_VERIFY.to_owned());
    }
    if mail.smtp.is_some() && settings.public_url.is_none() && !listens_here_alone(settings) {
        problems.push(NO_LINKS.to_owned());
    }
    problems
}

/// What the server listens on.
struct Listeners {
    users: TcpListener,
    address: SocketAddr,
    admin: Option<(TcpListener, SocketAddr)>,
    tls: Option<Tls>,
}

/// Listens for users, for operators and for whoever reads metrics.
///
/// # Errors
/// Everything that is in the way, and what is wrong with the files that the settings name.
async fn listen(settings: &Settings) -> Result<Listeners, Vec<String>> {
    let mut problems = settings.problems_of_files();
    let tls = settings.edge.tls.clone().map(Tls::open).transpose();
    let tls = tls.unwrap_or_else(|error| {
        problems.push(told(&error));
        None
    });
    let plain_http = settings.plain_http || settings.edge.tls.is_some();
    let mut keep = |listening: Result<(TcpListener, SocketAddr), String>| {
        listening.map_err(|problem| problems.push(problem)).ok()
    };
    let users = keep(listen_for_users(&settings.listen, plain_http).await);
    let admin = match settings.accounts.admin_listen {
        Some(address) => keep(listen_for_admin(address, plain_http).await).map(Some),
        None => Some(None),
    };
    if let Some(address) = settings.metrics_listen
        && let Err(error) = metrics::serve(address)
    {
        problems.push(format!(
            "metrics cannot be served on {address}: {error}; choose another COUNTERSIGN_METRICS_LISTEN"
        ));
    }
    match (users, admin) {
        (Some((users, address)), Some(admin)) if problems.is_empty() => {
            Ok(Listeners { users, address, admin, tls })
        }
        _ => Err(problems),
    }
}

/// All that is in the way of a start, also what is wrong with the database, if there is one: a port that is in use hides
/// no wrong secret.
async fn all_problems(mut problems: Vec<String>, settings: &Settings) -> String {
    if !settings.is_database_missing()
        && let Err(error) = command::auth(settings).await
    {
        let problem = told(&*error);
        // What is wrong with a file with the secret was found before.
        if !problems.iter().any(|known| problem.contains(known)) {
            problems.push(problem);
        }
    }
    problems.join("\n  ")
}

/// The sessions of browsers that sign in on the pages.
fn login_sessions(public_url: Option<&Url>) -> LoginSessions {
    let base = public_url.map_or("", Url::path).trim_end_matches('/');
    LoginSessions::new()
        .sign_in_page(format!("{base}/sign-in"))
        .confirm_page(format!("{base}/confirm"))
        .refresh_page(format!("{base}/v1/auth/refresh/page"))
}

/// The pages for people, if the settings want them.
fn pages(settings: &Settings, auth: &Auth, is_local: bool) -> Result<Option<Pages>, Box<dyn Error>> {
    let PagesSettings { on, logo, colour, templates, api: _ } = &settings.pages;
    if !on {
        return Ok(None);
    }
    let url = settings.public_url.as_ref();
    let name = Some(settings.accounts.mail.site.clone()).filter(|name| !name.is_empty());
    let host = || url.and_then(Url::domain).filter(|host| host.contains('.')).map(str::to_owned);
    let logo = logo.as_ref().map(|path| Logo::read(path)).transpose();
    let logo = logo.map_err(|error| format!("COUNTERSIGN_PAGES_LOGO: {error}"))?;
    let mut pages = Pages::new(auth.clone())
        .look(Look { name: name.or_else(host), logo, colour: *colour })
        .below(url.map_or("", Url::path))
        .local(is_local && url.is_none());
    if let Some(folder) = templates {
        let templates =
            Templates::load(folder).map_err(|error| format!("COUNTERSIGN_PAGES_TEMPLATES: {error}"))?;
        pages = pages.templates(templates);
    }
    Ok(Some(pages))
}

async fn listen_for_users(address: &str, plain_http: bool) -> Result<(TcpListener, SocketAddr), String> {
    let listener = TcpListener::bind(address).await;
    let listener = listener.and_then(|listener| Ok((listener.local_addr()?, listener)));
    let (address, listener) = listener.map_err(|error| {
        format!("cannot listen on {address}: {error}; choose another with --listen ADDRESS:PORT")
    })?;
    check_listener(address, plain_http)?;
    Ok((listener, address))
}

/// Listens for the admin API, by the same rules as for users.
async fn listen_for_admin(
    address: SocketAddr,
    plain_http: bool,
) -> Result<(TcpListener, SocketAddr), String> {
    let listener = TcpListener::bind(address).await;
    let listener = listener.and_then(|listener| Ok((listener.local_addr()?, listener)));
    let (address, listener) = listener
        .map_err(|error| format!("cannot listen on {address} (COUNTERSIGN_ADMIN_LISTEN): {error}"))?;
    check_listener(address, plain_http).map_err(|error| format!("COUNTERSIGN_ADMIN_LISTEN: {error}"))?;
    Ok((listener, address))
}

/// The limits on connections, by the settings or by what the system allows.
fn limits(settings: &EdgeSettings) -> Limits {
    let possible = edge::default_connections();
    let connections = settings.max_connections.unwrap_or(possible);
    let connections_per_address = settings.max_connections_per_address.unwrap_or((connections / 10).max(1));
    Limits::new(connections, connections_per_address)
}

/// Refuses to listen in plain http where other machines reach the server, unless the settings allow it. Passwords and
/// tokens can be read on the way there, so the operator has to state that this is intended (SEC-154).
fn check_listener(address: SocketAddr, plain_http: bool) -> Result<(), String> {
    if is_loopback(address) || plain_http {
        return Ok(());
    }
    Err(format!(
        "{address} can be reached from other machines, and this server speaks plain http: passwords and tokens could be read \
         on the way. Give it a certificate (COUNTERSIGN_TLS_CERT and COUNTERSIGN_TLS_KEY); or let it listen on a loopback \
         address such as 127.0.0.1:{port} behind a proxy that does TLS; or, where \
         that proxy is on another machine or this is a container, say --plain-http or COUNTERSIGN_PLAIN_HTTP=yes",
        port = address.port()
    ))
}

/// Whether a URL leads to the machine on which it is opened.
pub(crate) fn leads_here(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.to_canonical().is_loopback(),
        None => false,
    }
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

/// Warns of settings that are allowed, but probably not intended.
fn say_what_is_odd(settings: &Settings, auth: &Auth) {
    let policy = &settings.policy;
    if let Some(warning) = settings.edge.max_connections.and_then(edge::too_many_connections) {
        tracing::warn!("{warning}");
    }
    for caution in &settings.cautions {
        tracing::warn!("{caution}");
    }
    if !settings.profile.is_native() {
        return;
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

/// Becomes true when SIGTERM or Ctrl-C arrives, for which it listens from now on.
fn stopping() -> std::io::Result<watch::Receiver<bool>> {
    let asked_to_stop = asked_to_stop()?;
    let (stop, stopping) = watch::channel(false);
    tokio::spawn(async move {
        asked_to_stop.await;
        notify::tell(notify::State::Stopping);
        stop.send_replace(true);
    });
    Ok(stopping)
}

async fn asked_in(mut stopping: watch::Receiver<bool>) {
    // A sender that is gone has nothing more to say than one that asks to stop.
    let _ = stopping.wait_for(|stop| *stop).await;
}

/// Ends when the server is asked to stop while it still starts; else never.
async fn stopped_before(is_ready: &AtomicBool, stopping: watch::Receiver<bool>) {
    asked_in(stopping).await;
    if is_ready.load(Ordering::Relaxed) {
        std::future::pending::<()>().await;
    }
    tracing::info!("stopped before the server was ready");
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

/// From now on SIGHUP makes the server read its settings again, instead of ending the process.
#[cfg(unix)]
fn follow_hangups(mut reload: Reload) -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};

    let mut hangup = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            reload.again();
        }
    });
    Ok(())
}

#[cfg(not(unix))]
fn follow_hangups(_: Reload) -> std::io::Result<()> {
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
