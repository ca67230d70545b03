//! Plays a recording back, once with the recorded tokens and once with our own.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use axum::body::Body;
use countersign_jwt::Timestamp;
use countersign_testkit::FixedClock;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST, SET_COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use serde_json::Value;

use crate::compare::{self, Answer, Differences};
use crate::jar::{Jar, SetCookie};
use crate::placeholder::{Token, Tokens};
use crate::recording::{Action, Application, Build, JarAction, Mint, Recording, Request, Role, Step};

/// A library that stands for the peer, built for one recording.
#[async_trait]
pub(crate) trait Subject {
    /// Makes a token.
    async fn mint(&self, mint: &Mint) -> Result<String, String>;

    /// The names of the cookies that have this role.
    fn cookie_names(&self, role: &str) -> Vec<String> {
        vec![role.to_owned()]
    }

    /// Answers a request.
    async fn send(&self, request: http::Request<Body>) -> Answer;
}

/// Builds a [`Subject`].
pub(crate) type Builder = fn(&Application, &Arc<World>) -> Result<Box<dyn Subject>, NotBuilt>;

/// Why there is no application to send requests to.
#[derive(Debug)]
pub(crate) enum NotBuilt {
    /// The library refuses the configuration.
    Refused(String),
    /// The replayer does not know something that the recording asks for.
    Unknown(String),
}

/// What steps change under the application's feet.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) clock: Arc<FixedClock>,
    revoked: Mutex<BTreeSet<String>>,
    users: Mutex<BTreeMap<String, Value>>,
}

/// Which text later steps use for a token.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Pass {
    RecordedTokens,
    OwnTokens,
}

/// Something that is not as recorded, and where.
#[derive(Clone, Debug)]
pub(crate) struct Difference {
    pub(crate) place: Place,
    pub(crate) text: String,
}

/// Where in a replay something happened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) pass: Pass,
    /// Counted from 1; `None` while building.
    pub(crate) step: Option<usize>,
}

impl World {
    fn new(recording: &Recording) -> Self {
        let users = match &recording.application {
            Application::FlaskJwtExtended { hooks, .. } => {
                hooks.user_lookup.as_ref().map(|lookup| lookup.table.clone()).unwrap_or_default()
            }
            Application::FlaskJwt { hooks, .. } => hooks.users.clone(),
            Application::FlaskLogin { hooks, .. } => hooks.users.clone(),
        };
        Self {
            clock: Arc::new(FixedClock::new(timestamp(recording.start))),
            revoked: Mutex::default(),
            users: Mutex::new(users),
        }
    }

    /// What steps have put on the blocklist.
    pub(crate) fn revoked(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.revoked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Users, by the key that the recording gives them.
    pub(crate) fn users(&self) -> MutexGuard<'_, BTreeMap<String, Value>> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs both passes; `progress` is told of each place before it is reached.
pub(crate) async fn replay(
    recording: &Recording,
    builder: Builder,
    progress: &(dyn Fn(Place) + Sync),
) -> Vec<Difference> {
    let mut differences = Vec::new();
    let passes: &[Pass] = match &recording.application {
        // There are no tokens in it.
        Application::FlaskLogin { .. } => &[Pass::RecordedTokens],
        _ => &[Pass::RecordedTokens, Pass::OwnTokens],
    };
    for &pass in passes {
        let place = Place { pass, step: None };
        progress(place);
        let world = Arc::new(World::new(recording));
        let subject = match (builder(&recording.application, &world), recording.build) {
            (Ok(_), Some(Build::MustRefuse)) => {
                let text = "the configuration is accepted, expected a refusal".to_owned();
                differences.push(Difference { place, text });
                continue;
            }
            (Err(NotBuilt::Refused(_)), Some(_)) => continue,
            (Err(NotBuilt::Refused(error)), None) => {
                differences
                    .push(Difference { place, text: format!("the configuration is refused: {error}") });
                continue;
            }
            (Err(NotBuilt::Unknown(error)), _) => {
                differences.push(Difference { place, text: error });
                continue;
            }
            (Ok(subject), _) => subject,
        };
        let mut run = Run {
            pass,
            subject,
            world,
            now: recording.start,
            tokens: Tokens::default(),
            own_texts: Vec::new(),
            jar: recording.cookie_jar.then(Jar::default),
            saved_jars: BTreeMap::new(),
            configured: match &recording.application {
                Application::FlaskLogin { config, .. } => Some(config.keys().cloned().collect()),
                _ => None,
            },
        };
        for (index, step) in recording.steps.iter().enumerate() {
            let place = Place { pass, step: Some(index + 1) };
            progress(place);
            // A step that cannot be played is as wrong as one that is answered wrongly.
            let found = run.step(step).await.unwrap_or_else(|error| vec![error]);
            differences.extend(found.into_iter().map(|text| Difference { place, text }));
        }
    }
    differences
}

/// One pass.
struct Run {
    pass: Pass,
    subject: Box<dyn Subject>,
    world: Arc<World>,
    now: f64,
    tokens: Tokens,
    /// Texts in recorded answers, and what has their place in ours.
    own_texts: Vec<(String, String)>,
    jar: Option<Jar>,
    saved_jars: BTreeMap<String, Jar>,
    /// The names of options, where cookies are compared by what they are for.
    configured: Option<Vec<String>>,
}

impl Run {
    async fn step(&mut self, step: &Step) -> Result<Differences, String> {
        match &step.action {
            Action::Advance { seconds, now } => {
                self.advance(*seconds);
                if let Some(now) = now {
                    self.check_clock(*now)?;
                }
            }
            Action::Mint(mint) => {
                self.check_clock(mint.recorded.now)?;
                let got = self.subject.mint(mint).await.map(|text| Token::read(&text));
                self.learn(mint, &got);
                return Ok(match &step.expect {
                    Some(expect) => compare::expectation(expect, Some(&got), None),
                    None => compare::mint(&mint.recorded, &got),
                });
            }
            Action::Forge { alias, token } => self.tokens.insert(alias, token),
            Action::Revoke { jti } => {
                let jti = self.tokens.resolve(jti)?;
                self.world.revoked().insert(jti);
            }
            Action::User { id, set: Value::Null } => {
                self.world.users().remove(id);
            }
            Action::User { id, set } => {
                self.world.users().insert(id.clone(), set.clone());
            }
            Action::Request(request) => return self.request(request, step).await,
            Action::Jar(action) => self.jar(action)?,
        }
        Ok(Vec::new())
    }

    fn advance(&mut self, seconds: f64) {
        self.now += seconds;
        if let Ok(passed) = Duration::try_from_secs_f64(seconds) {
            self.world.clock.advance(passed);
        }
        self.world.clock.set(timestamp(self.now));
    }

    fn check_clock(&self, recorded: f64) -> Result<(), String> {
        if recorded == self.now {
            Ok(())
        } else {
            Err(format!("now: recorded {recorded}, but the steps make it {}", self.now))
        }
    }

    /// Gives the alias its text for later steps, and remembers what has the place of the recorded texts.
    fn learn(&mut self, mint: &Mint, got: &Result<Token, String>) {
        let recorded = &mint.recorded;
        let text = match (self.pass, got) {
            (Pass::OwnTokens, Ok(own)) => {
                let claim = |claims: Option<&serde_json::Map<String, Value>>, name: &str| {
                    claims?.get(name)?.as_str().map(str::to_owned)
                };
                for name in &recorded.random {
                    let pair = (claim(recorded.claims.as_ref(), name), claim(own.claims.as_ref(), name));
                    if let (Some(recorded), Some(own)) = pair {
                        self.own_texts.push((recorded, own));
                    }
                }
                self.own_texts.extend(recorded.token.clone().map(|recorded| (recorded, own.text.clone())));
                Some(&own.text)
            }
            _ => recorded.token.as_ref(),
        };
        if let Some(text) = text {
            self.tokens.insert(&mint.alias, text);
        }
    }

    async fn request(&mut self, request: &Request, step: &Step) -> Result<Differences, String> {
        let message = self.message(request)?;
        let roles = self.roles(request)?;
        let answer = self.subject.send(message).await;
        if let Some(jar) = &mut self.jar {
            for line in answer.headers.get_all(SET_COOKIE) {
                jar.store(&SetCookie::parse(line)?, self.now)?;
            }
        }
        let recorded = request.recorded(str::to_owned)?;
        self.check_clock(recorded.now)?;
        // The tokens of this answer are ours in both passes; what later steps use depends on the pass.
        let mut made_here = Vec::new();
        let json: Option<Value> = serde_json::from_slice(&answer.body).ok();
        for (alias, member) in &request.capture {
            let Some(recorded) = recorded.captured.get(alias) else { continue };
            let own = json.as_ref().and_then(|json| json.get(member)?.as_str());
            if let Some(own) = own {
                let pair = (recorded.token.clone(), own.to_owned());
                made_here.push(pair.clone());
                if self.pass == Pass::OwnTokens {
                    self.own_texts.push(pair);
                }
            }
            let own = own.filter(|_| self.pass == Pass::OwnTokens);
            self.tokens.insert(alias, own.unwrap_or(&recorded.token));
        }
        if let Some(expect) = &step.expect {
            return Ok(compare::expectation(expect, None, Some(answer.status)));
        }
        let recorded = request.recorded(|text| {
            let pairs = self.own_texts.iter().chain(&made_here);
            pairs.fold(text.to_owned(), |text, (recorded, own)| text.replace(recorded, own))
        })?;
        Ok(compare::request(&recorded, &answer, &request.capture, roles.as_ref()))
    }

    /// The cookies that the request carries, by what they are for.
    fn roles(&self, request: &Request) -> Result<Option<compare::Roles>, String> {
        let Some(configured) = self.configured.clone() else { return Ok(None) };
        let names = Role::ALL.map(|role| self.subject.cookie_names(role.name()));
        let sent = self.cookies(request)?;
        let carried = names.each_ref().map(|names| {
            let is_sent = sent.iter().any(|(name, _)| names.contains(name));
            let end = || self.jar.as_ref().and_then(|jar| jar.end_of(names, self.now)).flatten();
            is_sent.then(end)
        });
        Ok(Some(compare::Roles { names, carried, configured }))
    }

    fn message(&self, request: &Request) -> Result<http::Request<Body>, String> {
        let query = request.query.as_ref().map(|query| self.tokens.resolve(query)).transpose()?;
        let target = match query {
            Some(query) => format!("{}?{}", sendable(&request.path), sendable(&query)),
            None => sendable(&request.path),
        };
        let uri = Uri::try_from(&target).map_err(|error| format!("{target} cannot be requested: {error}"))?;
        let method = Method::from_bytes(request.method.as_bytes()).map_err(|error| error.to_string())?;

        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_static("localhost"));
        for (name, value) in &request.headers {
            let name = HeaderName::try_from(name).map_err(|error| format!("header {name}: {error}"))?;
            headers.append(name, header_value(&self.tokens.resolve(value)?)?);
        }
        let cookies = self.cookies(request)?;
        if !cookies.is_empty() {
            let pairs: Vec<_> = cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
            headers.append(COOKIE, header_value(&pairs.join("; "))?);
        }
        let (body, content_type) = self.body(request)?;
        if let Some(content_type) = content_type {
            headers.insert(CONTENT_TYPE, header_value(&content_type)?);
        }
        if let Some(body) = &body {
            headers.insert(CONTENT_LENGTH, body.len().into());
        }

        let mut message = http::Request::new(Body::from(body.unwrap_or_default()));
        *message.method_mut() = method;
        *message.uri_mut() = uri;
        *message.headers_mut() = headers;
        Ok(message)
    }

    /// What the jar holds for the path, with the request's own cookies in the place of those of the same name.
    fn cookies(&self, request: &Request) -> Result<Vec<(String, String)>, String> {
        let given = request.cookies.iter();
        let given = given.map(|(name, value)| Ok((name.clone(), self.tokens.resolve(value)?)));
        let given = given.collect::<Result<Vec<_>, String>>()?;
        let mut cookies =
            self.jar.as_ref().map(|jar| jar.matching(&request.path, self.now)).unwrap_or_default();
        cookies.retain(|(name, _)| given.iter().all(|(own, _)| own != name));
        cookies.extend(given);
        Ok(cookies)
    }

    fn body(&self, request: &Request) -> Result<(Option<Vec<u8>>, Option<String>), String> {
        if let Some(json) = &request.json {
            let body = self.tokens.resolve_value(json)?.to_string().into_bytes();
            let content_type = request.content_type.clone().unwrap_or_else(|| "application/json".to_owned());
            return Ok((Some(body), Some(content_type)));
        }
        if let Some(form) = &request.form {
            let mut body = url::form_urlencoded::Serializer::new(String::new());
            for (name, value) in form {
                body.append_pair(name, &self.tokens.resolve(value)?);
            }
            return Ok((
                Some(body.finish().into_bytes()),
                Some("application/x-www-form-urlencoded".to_owned()),
            ));
        }
        let body = request.body.as_ref().map(|body| self.tokens.resolve(body)).transpose()?;
        Ok((body.map(String::into_bytes), request.content_type.clone()))
    }

    fn jar(&mut self, action: &JarAction) -> Result<(), String> {
        let jar = self.jar.as_mut().ok_or("there is no cookie jar")?;
        match action {
            JarAction::Drop(role) => self.subject.cookie_names(role).iter().for_each(|name| jar.drop(name)),
            JarAction::Tamper(role) => {
                self.subject.cookie_names(role).iter().for_each(|name| jar.tamper(name))
            }
            JarAction::Save(alias) => {
                let _ = self.saved_jars.insert(alias.clone(), jar.clone());
            }
            JarAction::Load(alias) => {
                jar.clone_from(
                    self.saved_jars.get(alias).ok_or_else(|| format!("no jar was saved as {alias}"))?,
                );
            }
        }
        Ok(())
    }
}

/// As the examples of the format write it: the pass is named where it is not the first.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.step {
            Some(step) => write!(f, "step {step}")?,
            None => f.write_str("building")?,
        }
        match self.pass {
            Pass::RecordedTokens => Ok(()),
            Pass::OwnTokens => f.write_str(", own tokens"),
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, text } = self;
        write!(f, "{place}: {text}")
    }
}

/// Recorded times are multiples of a millisecond wherever that is all a clock counts.
#[expect(clippy::cast_possible_truncation, reason = "casts from floats saturate")]
fn timestamp(now: f64) -> Timestamp {
    Timestamp::from_millis((now * 1000.0).floor() as i64)
}

/// One byte for each character.
fn header_value(text: &str) -> Result<HeaderValue, String> {
    let bytes: Result<Vec<u8>, _> = text.chars().map(u8::try_from).collect();
    let bytes = bytes.map_err(|_| format!("{text:?} has characters that are no bytes"))?;
    HeaderValue::from_bytes(&bytes).map_err(|error| format!("{text:?}: {error}"))
}

/// What a request line cannot hold, percent-encoded, as any client would.
fn sendable(text: &str) -> String {
    let mut sent = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'!' | b'$'..=b';' | b'=' | b'?'..=b'[' | b']' | b'_' | b'a'..=b'z' | b'~' => {
                sent.push(byte.into())
            }
            _ => sent.push_str(&format!("%{byte:02X}")),
        }
    }
    sent
}
