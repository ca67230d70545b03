//! What a recording says, parsed strictly: a member, view, hook or step that is not known is an error.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::hooks::{FlaskJwtExtendedHooks, FlaskJwtHooks, FlaskLoginHooks};

/// One file: a configuration, routes, hooks, and steps with what the peer answered.
#[derive(Debug)]
pub(crate) struct Recording {
    pub(crate) start: f64,
    pub(crate) cookie_jar: bool,
    pub(crate) build: Option<Build>,
    pub(crate) application: Application,
    pub(crate) steps: Vec<Step>,
}

/// What the application under test is made of.
#[derive(Debug)]
#[expect(clippy::enum_variant_names, reason = "the libraries are called so")]
pub(crate) enum Application {
    FlaskJwtExtended {
        config: Map<String, Value>,
        routes: Vec<Route<FlaskJwtExtendedGuard, FlaskJwtExtendedView>>,
        hooks: Box<FlaskJwtExtendedHooks>,
    },
    FlaskJwt {
        config: Map<String, Value>,
        routes: Vec<Route<FlaskJwtGuard, FlaskJwtView>>,
        hooks: Box<FlaskJwtHooks>,
    },
    FlaskLogin {
        config: Map<String, Value>,
        manager: Manager,
        routes: Vec<Route<FlaskLoginGuard, FlaskLoginView>>,
        hooks: Box<FlaskLoginHooks>,
    },
}

/// Attributes of Flask-Login's manager.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Manager {
    pub(crate) login_view: Option<String>,
    pub(crate) refresh_view: Option<String>,
    /// Null means none, absence the default.
    #[serde(deserialize_with = "present")]
    pub(crate) session_protection: Option<Value>,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FlaskLoginGuard {
    Login,
    FreshLogin,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FlaskLoginView {
    Ok,
    Whoami,
    Login,
    Logout,
    Confirm,
    Put,
    Get,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Build {
    MustRefuse,
    MayRefuse,
}

#[derive(Debug)]
pub(crate) struct Route<G, V> {
    pub(crate) path: String,
    pub(crate) methods: Vec<String>,
    pub(crate) guard: Option<G>,
    pub(crate) view: V,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FlaskJwtExtendedGuard {
    #[serde(default)]
    pub(crate) optional: bool,
    #[serde(default)]
    pub(crate) fresh: bool,
    #[serde(default)]
    pub(crate) refresh: bool,
    #[serde(default = "yes")]
    pub(crate) verify_type: bool,
    #[serde(default)]
    pub(crate) skip_revocation_check: bool,
    pub(crate) locations: Option<OneOrMany>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FlaskJwtGuard {
    pub(crate) realm: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FlaskJwtExtendedView {
    Ok,
    Whoami,
    Cookies,
    Decode,
    Jti,
    Csrf,
    UnverifiedHeaders,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FlaskJwtView {
    Ok,
    Whoami,
}

#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) action: Action,
    /// Set where the peer is no model.
    pub(crate) expect: Option<Expect>,
}

#[derive(Debug)]
pub(crate) enum Action {
    Advance { seconds: f64, now: Option<f64> },
    Mint(Box<Mint>),
    Forge { alias: String, token: String },
    Revoke { jti: String },
    User { id: String, set: Value },
    Request(Box<Request>),
    Jar(JarAction),
}

#[derive(Debug)]
pub(crate) enum JarAction {
    Drop(String),
    Tamper(String),
    Save(String),
    Load(String),
}

/// What is checked in the place of the peer's answer.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Expect {
    pub(crate) status: Option<u16>,
    pub(crate) status_class: Option<u16>,
    pub(crate) mint: Option<Refused>,
    pub(crate) exp: Option<Required>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Refused {
    Refused,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Required {
    Required,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Mint {
    #[serde(rename = "as")]
    pub(crate) alias: String,
    pub(crate) kind: Kind,
    pub(crate) identity: Value,
    pub(crate) fresh: Option<Fresh>,
    pub(crate) expires_delta: Option<ExpiresDelta>,
    pub(crate) additional_claims: Option<Map<String, Value>>,
    pub(crate) additional_headers: Option<Map<String, Value>>,
    pub(crate) recorded: MintRecorded,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    Access,
    Refresh,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Fresh {
    Flag(bool),
    Until(serde_json::Number),
    For(FreshFor),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FreshFor {
    #[serde(rename = "for")]
    pub(crate) seconds: f64,
}

/// `false` means never.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum ExpiresDelta {
    Flag(bool),
    Seconds(f64),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MintRecorded {
    pub(crate) now: f64,
    pub(crate) token: Option<String>,
    pub(crate) header: Option<Map<String, Value>>,
    pub(crate) claims: Option<Map<String, Value>>,
    #[serde(default)]
    pub(crate) random: Vec<String>,
    pub(crate) error: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    #[serde(default)]
    pub(crate) query: Option<String>,
    #[serde(default)]
    pub(crate) headers: Vec<(String, String)>,
    #[serde(default)]
    pub(crate) cookies: Vec<(String, String)>,
    #[serde(default, deserialize_with = "present")]
    pub(crate) json: Option<Value>,
    pub(crate) form: Option<Vec<(String, String)>>,
    pub(crate) body: Option<String>,
    pub(crate) content_type: Option<String>,
    #[serde(default)]
    pub(crate) capture: BTreeMap<String, String>,
    pub(crate) recorded: Value,
}

/// What the peer answered.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RequestRecorded {
    pub(crate) now: f64,
    pub(crate) status: u16,
    pub(crate) content_type: Option<String>,
    #[serde(default, deserialize_with = "present")]
    pub(crate) json: Option<Value>,
    pub(crate) text: Option<String>,
    #[serde(default)]
    pub(crate) page: bool,
    #[serde(default)]
    pub(crate) prefix_only: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) captured: BTreeMap<String, CapturedToken>,
    #[serde(default)]
    pub(crate) set_cookies: Vec<RecordedCookie>,
    pub(crate) location: Option<String>,
    pub(crate) www_authenticate: Option<String>,
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CapturedToken {
    pub(crate) token: String,
    pub(crate) header: Map<String, Value>,
    pub(crate) claims: Map<String, Value>,
}

/// A cookie of an answer: exact or, of `flask_login`, by what it is for.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum RecordedCookie {
    Exact(ExactCookie),
    Role(RoleCookie),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExactCookie {
    pub(crate) name: String,
    pub(crate) value: String,
    pub(crate) attributes: BTreeMap<String, Attribute>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RoleCookie {
    pub(crate) role: Role,
    #[serde(rename = "name")]
    pub(crate) _name: String,
    pub(crate) action: CookieAction,
    pub(crate) lifetime: Option<i64>,
    pub(crate) attributes: BTreeMap<String, Attribute>,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Role {
    Session,
    Remember,
}

impl Role {
    pub(crate) const ALL: [Self; 2] = [Self::Session, Self::Remember];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Remember => "remember",
        }
    }
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CookieAction {
    Set,
    Clear,
}

/// The value of a cookie's attribute; a bare one is recorded as `true`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(untagged)]
pub(crate) enum Attribute {
    Bare(bool),
    Text(String),
}

impl Recording {
    pub(crate) fn parse(text: &str, file_name: &str, folder: &str) -> Result<Self, String> {
        let mut file: File = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if file.format != 1 {
            return Err(format!("format {} is not known", file.format));
        }
        if file.profile != folder || file.name != file_name {
            return Err(format!("is called {}/{} inside", file.profile, file.name));
        }
        if (file.build == Some(Build::MustRefuse)) != file.peer_defect.is_some() {
            return Err("must_refuse and peer_defect belong together".to_owned());
        }
        let parse = |(index, step)| {
            Step::parse(step, &file.profile).map_err(|error| format!("step {}: {error}", index + 1))
        };
        let steps = std::mem::take(&mut file.steps)
            .into_iter()
            .enumerate()
            .map(parse)
            .collect::<Result<Vec<_>, _>>()?;
        let application = match file.profile.as_str() {
            "fje" => Application::FlaskJwtExtended {
                config: file.config,
                routes: routes(file.routes)?,
                hooks: Box::new(member("hooks", Value::Object(file.hooks))?),
            },
            "flask_jwt" => Application::FlaskJwt {
                config: file.config,
                routes: routes(file.routes)?,
                hooks: Box::new(member("hooks", Value::Object(file.hooks))?),
            },
            "flask_login" => Application::FlaskLogin {
                config: file.config,
                manager: member("manager", Value::Object(std::mem::take(&mut file.manager)))?,
                routes: routes(file.routes)?,
                hooks: Box::new(member("hooks", Value::Object(file.hooks))?),
            },
            other => return Err(format!("profile {other} is not known")),
        };
        if !file.manager.is_empty() {
            return Err("manager belongs to flask_login".to_owned());
        }
        Ok(Self { start: file.start, cookie_jar: file.cookie_jar, build: file.build, application, steps })
    }
}

impl Step {
    fn parse(mut step: Map<String, Value>, profile: &str) -> Result<Self, String> {
        let kind: String = take(&mut step, "do")?.ok_or("do is missing")?;
        let _note: Option<String> = take(&mut step, "note")?;
        let defect: Option<String> = take(&mut step, "peer_defect")?;
        let expect: Option<Expect> = take(&mut step, "expect")?;
        if defect.is_some() != expect.is_some() {
            return Err("peer_defect and expect belong together".to_owned());
        }
        if matches!(kind.as_str(), "mint" | "revoke") && profile != "fje" {
            return Err(format!("{kind} does not belong to {profile}"));
        }
        let action = Action::parse(&kind, step)?;
        let fits = match (&action, &expect) {
            (_, None) => true,
            (Action::Mint(_), Some(Expect { status: None, status_class: None, mint, exp })) => {
                mint.is_some() || exp.is_some()
            }
            (Action::Request(_), Some(Expect { status, status_class, mint: None, exp: None })) => {
                status.is_some() || status_class.is_some()
            }
            _ => false,
        };
        if !fits {
            return Err(format!("expect does not fit {kind}"));
        }
        Ok(Self { action, expect })
    }
}

impl Action {
    fn parse(kind: &str, step: Map<String, Value>) -> Result<Self, String> {
        let step = Value::Object(step);
        Ok(match kind {
            "advance" => {
                let Advance { seconds, recorded } = member(kind, step)?;
                Self::Advance { seconds, now: recorded.map(|recorded| recorded.now) }
            }
            "mint" => Self::Mint(member(kind, step)?),
            "forge" => {
                let Forge { alias, recorded, .. } = member(kind, step)?;
                Self::Forge { alias, token: recorded.token }
            }
            "revoke" => {
                let Revoke { jti } = member(kind, step)?;
                Self::Revoke { jti }
            }
            "user" => {
                let User { id, set } = member(kind, step)?;
                Self::User { id, set }
            }
            "request" => {
                let request: Box<Request> = member(kind, step)?;
                request.check()?;
                Self::Request(request)
            }
            "jar_drop" => Self::Jar(JarAction::Drop(member::<JarCookie>(kind, step)?.cookie)),
            "jar_tamper" => Self::Jar(JarAction::Tamper(member::<JarCookie>(kind, step)?.cookie)),
            "jar_save" => Self::Jar(JarAction::Save(member::<JarSave>(kind, step)?.alias)),
            "jar_load" => Self::Jar(JarAction::Load(member::<JarLoad>(kind, step)?.from)),
            other => return Err(format!("{other} is not a known step")),
        })
    }
}

impl Request {
    fn check(&self) -> Result<(), String> {
        let bodies = [self.json.is_some(), self.form.is_some(), self.body.is_some()];
        if bodies.iter().filter(|has| **has).count() > 1 {
            return Err("a request has one body at most".to_owned());
        }
        if self.json == Some(Value::Null) {
            return Err("json null cannot be sent".to_owned());
        }
        let recorded: RequestRecorded = member("recorded", self.recorded.clone())?;
        if recorded.captured.keys().ne(self.capture.keys()) {
            return Err("capture and captured do not match".to_owned());
        }
        if recorded.json.is_none() && !(recorded.prefix_only.is_empty() && recorded.captured.is_empty()) {
            return Err("prefix_only and captured need json".to_owned());
        }
        let bodies = [recorded.json.is_some(), recorded.text.is_some(), recorded.page];
        if bodies.iter().filter(|has| **has).count() > 1 {
            return Err("an answer has one body at most".to_owned());
        }
        if recorded.content_type.is_some() != (recorded.json.is_some() || recorded.text.is_some()) {
            return Err("content_type and body disagree".to_owned());
        }
        Ok(())
    }

    /// The recorded answer, after `rewrite` has changed each of its texts.
    pub(crate) fn recorded(&self, rewrite: impl Fn(&str) -> String) -> Result<RequestRecorded, String> {
        member("recorded", rewritten(&self.recorded, &rewrite))
    }
}

/// The same value with each text changed, names of members too.
fn rewritten(value: &Value, rewrite: &impl Fn(&str) -> String) -> Value {
    match value {
        Value::String(text) => Value::String(rewrite(text)),
        Value::Array(members) => members.iter().map(|member| rewritten(member, rewrite)).collect(),
        Value::Object(members) => {
            members.iter().map(|(name, member)| (rewrite(name), rewritten(member, rewrite))).collect()
        }
        other => other.clone(),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: u32,
    profile: String,
    name: String,
    #[serde(rename = "area")]
    _area: String,
    #[serde(rename = "about")]
    _about: String,
    #[serde(default = "start")]
    start: f64,
    config: Map<String, Value>,
    #[serde(default)]
    manager: Map<String, Value>,
    routes: Vec<RawRoute>,
    #[serde(default)]
    hooks: Map<String, Value>,
    #[serde(default)]
    cookie_jar: bool,
    build: Option<Build>,
    peer_defect: Option<String>,
    #[serde(rename = "recorded_with")]
    _recorded_with: Option<Map<String, Value>>,
    steps: Vec<Map<String, Value>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRoute {
    path: String,
    methods: Vec<String>,
    guard: Value,
    view: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Advance {
    seconds: f64,
    recorded: Option<Now>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Now {
    now: f64,
}

/// All but `as` and `recorded` only tell people how the token was made.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "what only people read must still be known")]
struct Forge {
    #[serde(rename = "as")]
    alias: String,
    header: Option<Value>,
    header_text: Option<String>,
    header_hex: Option<String>,
    payload: Option<Value>,
    payload_text: Option<String>,
    payload_hex: Option<String>,
    sign: Option<Value>,
    text: Option<String>,
    tamper: Option<String>,
    recorded: ForgeRecorded,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ForgeRecorded {
    token: String,
    #[serde(rename = "claims")]
    _claims: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Revoke {
    jti: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct User {
    id: String,
    set: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JarCookie {
    cookie: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JarSave {
    #[serde(rename = "as")]
    alias: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JarLoad {
    from: String,
}

fn routes<G: DeserializeOwned, V: DeserializeOwned>(raw: Vec<RawRoute>) -> Result<Vec<Route<G, V>>, String> {
    let parse = |RawRoute { path, methods, guard, view }| {
        Ok(Route { guard: member("guard", guard)?, view: member("view", view)?, path, methods })
    };
    raw.into_iter().map(parse).collect()
}

fn take<T: DeserializeOwned>(step: &mut Map<String, Value>, name: &str) -> Result<Option<T>, String> {
    step.remove(name).map(|value| member(name, value)).transpose()
}

pub(crate) fn member<T: DeserializeOwned>(name: &str, value: Value) -> Result<T, String> {
    serde_json::from_value(value).map_err(|error| format!("{name}: {error}"))
}

/// Tells a member that is `null` from one that is absent.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

fn start() -> f64 {
    1_700_000_000.0
}

fn yes() -> bool {
    true
}
