//! `countersign user …`: what an operator does to accounts at a terminal.

use std::error::Error;
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;

use clap::{Args, Subcommand};
use countersign_core::flow::{NewAccount, ProfileChange};
use countersign_core::model::{EmailAddress, OwnNames, Roles, User, Username};
use countersign_core::store::{NameKey, SessionPage, Stores, UserPage};
use countersign_http::rfc3339;
use countersign_jwt::{SessionId, UserId};
use countersign_mail::Links;
use serde_json::json;

use super::table::{or_dash, say_table, shown};
use super::{StoreFlags, help, user_export, user_import, with_settings};
use crate::audit::Trail;
use crate::mail::Mail;
use crate::operator::{Actor, Operator, UserChange};
use crate::serve;
use crate::settings::Settings;
use crate::shown::{ShownUser, shown_session};
use crate::store::Database;
use crate::telemetry::{say, warn};

/// The most sessions that are listed. A user cannot have more than the highest limit on them.
const MOST_SESSIONS: usize = 10_000;

#[derive(Args, Debug)]
pub(crate) struct UserCommand {
    #[command(subcommand)]
    command: UserSubcommand,
}

#[derive(Debug, Subcommand)]
enum UserSubcommand {
    /// List users, the newest first.
    #[command(after_help = help::STORE)]
    List {
        /// Only users whose e-mail address or username contains this text, or whose id it is
        #[arg(long, value_name = "TEXT")]
        query: Option<String>,
        /// The most users to list
        #[arg(long, value_name = "NUMBER", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=10_000))]
        limit: u16,
        #[command(flatten)]
        output: Output,
    },
    /// Show a user.
    Show {
        #[command(flatten)]
        user: Named,
        #[command(flatten)]
        output: Output,
    },
    /// Make a user without a password: the user chooses one, by an invitation.
    Create {
        /// The e-mail address
        #[arg(long, value_name = "ADDRESS", value_parser = email)]
        email: Option<EmailAddress>,
        /// The username
        #[arg(long, value_name = "NAME", value_parser = username)]
        username: Option<Username>,
        /// The roles, separated by spaces or commas
        #[arg(long, value_name = "ROLES", default_value = "", hide_default_value = true, value_parser = roles)]
        roles: Roles,
        /// Take the e-mail address for proven
        #[arg(long)]
        verified: bool,
        /// Mail an invitation to choose a password
        #[arg(long)]
        invite: bool,
        /// Print a link to choose a password, which is good once and for a week. It proves no e-mail address
        #[arg(long, conflicts_with = "invite")]
        invite_link: bool,
        #[command(flatten)]
        output: Output,
    },
    /// Set a user's password, which is asked for at the terminal or read from standard input. All sessions end.
    ///
    /// Better let users choose their passwords themselves: `user reset`.
    SetPassword {
        #[command(flatten)]
        user: Named,
        #[command(flatten)]
        store: StoreFlags,
    },
    /// Set a user's roles, in place of those before. Access tokens have them from the next refresh on.
    SetRoles {
        #[command(flatten)]
        user: Named,
        /// The roles; --none removes all
        #[arg(value_name = "ROLE", required_unless_present = "none")]
        roles: Vec<String>,
        /// Remove all roles
        #[arg(long, conflicts_with = "roles")]
        none: bool,
        #[command(flatten)]
        store: StoreFlags,
    },
    /// Disable a user: all sessions end, and nobody can log in.
    Disable {
        #[command(flatten)]
        user: Named,
        #[command(flatten)]
        store: StoreFlags,
    },
    /// Enable a user again. The old sessions stay ended.
    Enable {
        #[command(flatten)]
        user: Named,
        #[command(flatten)]
        store: StoreFlags,
    },
    /// Delete a user: all sessions end at once, and the account is removed a while later.
    Delete {
        #[command(flatten)]
        user: Named,
        /// Do not ask for confirmation
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        store: StoreFlags,
    },
    /// Mail a user a link to choose another password. It is good once and for an hour.
    Reset {
        #[command(flatten)]
        user: Named,
        /// Print the link instead. It proves no e-mail address
        #[arg(long)]
        link: bool,
        #[command(flatten)]
        store: StoreFlags,
    },
    /// List where a user is signed in.
    Sessions {
        #[command(flatten)]
        user: Named,
        #[command(flatten)]
        output: Output,
    },
    /// Sign a user out: everywhere, or of one session.
    EndSessions {
        #[command(flatten)]
        user: Named,
        /// Only this session, by the id that `user sessions` shows
        #[arg(long, value_name = "ID")]
        session: Option<SessionId>,
        #[command(flatten)]
        store: StoreFlags,
    },
    Import(user_import::UserImport),
    Export(user_export::UserExport),
}

/// The user that a command is about.
#[derive(Args, Debug)]
struct Named {
    /// The user's id, e-mail address or username
    #[arg(value_name = "USER", allow_hyphen_values = true)]
    user: String,
}

#[derive(Args, Debug)]
struct Output {
    /// Write JSON, for programs
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    store: StoreFlags,
}

/// What a command works with.
struct Desk {
    operator: Operator,
    links: Option<Links>,
    /// Where links lead, if no setting says so.
    guessed: Option<String>,
    actor: Actor,
}

/// `countersign user …`
pub(crate) fn run(command: UserCommand) -> Result<(), Box<dyn Error>> {
    match command.command {
        UserSubcommand::Import(import) => user_import::run(import),
        UserSubcommand::Export(export) => user_export::run(export),
        UserSubcommand::List { query, limit, output: Output { json, store } } => {
            with_settings(store, async |settings| {
                let stores = Database::open_without_secret(settings).await?.stores();
                list(&stores, query.as_deref(), usize::from(limit), json).await
            })
        }
        UserSubcommand::Show { user, output: Output { json, store } } => {
            with_settings(store, async |settings| {
                let stores = Database::open_without_secret(settings).await?.stores();
                show(&find(&stores, &user.user).await?, json)
            })
        }
        UserSubcommand::Create { email, username, roles, verified, invite, invite_link, output } => {
            let account = NewAccount { email, username, roles, email_verified: verified, language: None };
            at_desk(output.store, async |desk| {
                let user = desk.operator.create(&desk.actor, account, invite).await?;
                let token = match invite_link {
                    true => Some(desk.operator.invite_link(&desk.actor, &user).await?.expose()),
                    false => None,
                };
                if output.json {
                    let link = token.map(|token| {
                        desk.links.as_ref().map_or_else(|| token.to_string(), |links| links.invite(&token))
                    });
                    say(&json!({ "user": ShownUser::from(&user), "invite_link": link }).to_string());
                    return Ok(());
                }
                say(&format!("{} is a user now", user.id));
                if let Some(token) = token {
                    desk.say_link(&token, Links::invite);
                }
                Ok(())
            })
        }
        UserSubcommand::SetPassword { user, store } => at_desk(store, async |desk| {
            let user = find(&desk.operator.stores, &user.user).await?;
            let rules = &desk.operator.auth.accounts().passwords().rules;
            let names = OwnNames { email: user.email.as_ref(), username: user.username.as_ref() };
            let password = rules.admit(read_password()?, names)?;
            desk.operator.set_password(&desk.actor, &user.id, password).await?;
            say(&format!("{} has a new password; all sessions have ended", user.id));
            Ok(())
        }),
        UserSubcommand::SetRoles { user, roles, none: _, store } => {
            let roles = Roles::new(roles.iter().flat_map(|roles| words(roles)))?;
            at_desk(store, async |desk| {
                let profile = ProfileChange { roles: Some(roles), ..ProfileChange::default() };
                let user = desk.change(&user, UserChange { profile, disabled: None }).await?;
                let roles = if user.roles.is_empty() { "none".to_owned() } else { user.roles.to_string() };
                say(&format!("{} has these roles: {roles}", user.id));
                Ok(())
            })
        }
        UserSubcommand::Disable { user, store } => at_desk(store, async |desk| {
            let user =
                desk.change(&user, UserChange { disabled: Some(true), ..UserChange::default() }).await?;
            say(&format!("{} is disabled; all sessions have ended", user.id));
            Ok(())
        }),
        UserSubcommand::Enable { user, store } => at_desk(store, async |desk| {
            let change = UserChange { disabled: Some(false), ..UserChange::default() };
            let user = desk.change(&user, change).await?;
            say(&format!("{} is enabled", user.id));
            Ok(())
        }),
        UserSubcommand::Delete { user, yes, store } => at_desk(store, async |desk| {
            let user = find(&desk.operator.stores, &user.user).await?;
            if !yes && !is_confirmed(&user)? {
                return Err("nothing was deleted".into());
            }
            desk.operator.delete(&desk.actor, &user.id).await?;
            say(&format!("{} is deleted; all sessions have ended", user.id));
            Ok(())
        }),
        UserSubcommand::Reset { user, link, store } => at_desk(store, async |desk| {
            let user = find(&desk.operator.stores, &user.user).await?;
            if link {
                let token = desk.operator.reset_link(&desk.actor, &user).await?.expose();
                desk.say_link(&token, Links::reset);
            } else {
                let sent = desk.operator.send_reset(&desk.actor, &user.id).await;
                sent.map_err(|error| format!("{error}; user reset --link prints a link instead"))?;
                say(&format!("a mail with a link to choose another password goes to the user {}", user.id));
            }
            Ok(())
        }),
        UserSubcommand::Sessions { user, output: Output { json, store } } => at_desk(store, async |desk| {
            let user = find(&desk.operator.stores, &user.user).await?;
            let sessions = desk.operator.sessions(&user.id, SessionPage::first(MOST_SESSIONS)).await?;
            if json {
                let sessions: Vec<_> = sessions.iter().map(shown_session).collect();
                say(&json!({ "sessions": sessions }).to_string());
                return Ok(());
            }
            let mut rows = vec![["ID", "BEGAN", "LAST SEEN", "ADDRESS", "CLIENT"].map(str::to_owned)];
            for session in &sessions {
                rows.push([
                    session.id.to_string(),
                    rfc3339(session.created_at),
                    rfc3339(session.last_seen_at),
                    or_dash(session.device.ip.map(|ip| ip.to_string())),
                    or_dash(session.device.user_agent.as_deref().map(shown)),
                ]);
            }
            say_table(&rows);
            Ok(())
        }),
        UserSubcommand::EndSessions { user, session, store } => at_desk(store, async |desk| {
            let user = find(&desk.operator.stores, &user.user).await?;
            match session {
                Some(session) => {
                    desk.operator.end_session(&desk.actor, &user.id, session).await?;
                    say(&format!("the session {session} has ended"));
                }
                None => {
                    desk.operator.end_sessions(&desk.actor, &user.id).await?;
                    say(&format!("all sessions of {} have ended", user.id));
                }
            }
            Ok(())
        }),
    }
}

impl Desk {
    async fn open(settings: &Settings) -> Result<Self, Box<dyn Error>> {
        let (database, secrets) = Database::open_existing(settings).await?;
        let stores = database.stores();
        let place = database.place_of_sessions(settings).await?;
        let trail = Arc::new(Trail::default());
        // A command has no listener, so links lead to where the server of these settings listens.
        let base = base_url(settings);
        let is_local = settings.public_url.is_none();
        let guessed = base.clone().filter(|_| is_local);
        let mail = match &base {
            Some(base) => {
                Mail::open(&settings.accounts.mail, Some(base), is_local, &stores, secrets.clone())?
            }
            None => None,
        };
        let mut builder = serve::builder(settings, stores.clone(), secrets, &place)
            .without_background()
            .follow_settings()
            .account_rules(settings.accounts.rules.clone())
            .user_ids(settings.accounts.ids)
            .events(trail.clone());
        if let Some(mail) = &mail {
            builder = builder.letters(mail.letters());
        }
        let auth = serve::build(settings.passwords.apply(builder)?, &settings.profile).await?;
        let links = match (mail, base) {
            (Some(mail), _) => Some(mail.links().clone()),
            (None, Some(base)) => Some(Links::new(&base)?),
            (None, None) => None,
        };
        let operator = Operator { auth, stores, trail };
        Ok(Self { operator, links, guessed, actor: Actor::command_line() })
    }

    /// Prints a link, or the token of one where nobody knows to where links lead.
    fn say_link(&self, token: &str, link: impl FnOnce(&Links, &str) -> String) {
        match &self.links {
            Some(links) => say(&link(links, token)),
            None => {
                say(token);
                warn(
                    "this is a token and no link: set COUNTERSIGN_PUBLIC_URL, as the server has it, to get a link",
                );
            }
        }
        if let Some(base) = &self.guessed {
            warn(&format!(
                "the link leads to {base}, where a server with the settings of this command listens; if yours is \
                 elsewhere, set COUNTERSIGN_PUBLIC_URL as it has it"
            ));
        }
    }

    async fn change(&self, named: &Named, change: UserChange) -> Result<User, Box<dyn Error>> {
        let user = find(&self.operator.stores, &named.user).await?;
        Ok(self.operator.change(&self.actor, &user.id, change).await?)
    }
}

/// Runs work, and writes what it did into the audit trail.
fn at_desk(
    store: StoreFlags,
    work: impl AsyncFnOnce(&Desk) -> Result<(), Box<dyn Error>>,
) -> Result<(), Box<dyn Error>> {
    with_settings(store, async |settings| {
        let desk = Desk::open(settings).await?;
        let done = work(&desk).await;
        let Operator { trail, stores, .. } = &desk.operator;
        if let Err(error) = trail.flush(&**stores.audit()).await {
            warn(&format!("the audit trail could not be written: {error}"));
        }
        done
    })
}

/// The URL under which links lead to the server; `None` if the settings do not tell.
fn base_url(settings: &Settings) -> Option<String> {
    if let Some(url) = &settings.public_url {
        return Some(url.as_str().trim_end_matches('/').to_owned());
    }
    let address: SocketAddr = settings.listen.replace("localhost", "127.0.0.1").parse().ok()?;
    let is_local = address.ip().to_canonical().is_loopback() && address.port() != 0;
    let scheme = if settings.edge.tls.is_some() { "https" } else { "http" };
    is_local.then(|| format!("{scheme}://{}", settings.listen))
}

/// The user whom this text names, by id, e-mail address or username. A text that names two users is an error, so that no
/// command works on the wrong one.
async fn find(stores: &Stores, text: &str) -> Result<User, Box<dyn Error>> {
    let users = stores.users();
    let mut found: Vec<User> = Vec::new();
    if let Ok(id) = UserId::new(text) {
        found.extend(users.user(&id).await?);
    }
    let by_name = if text.contains('@') {
        match EmailAddress::parse(text) {
            Ok(email) => users.user_by_name(NameKey::Email(email.key())).await?,
            Err(_) => None,
        }
    } else {
        match Username::parse(text) {
            Ok(username) => users.user_by_name(NameKey::Username(username.key())).await?,
            Err(_) => None,
        }
    };
    found.extend(by_name);
    found.dedup_by(|one, other| one.id == other.id);
    let text = shown(text);
    match (found.pop(), found.pop()) {
        (Some(user), None) => Ok(user),
        (Some(one), Some(other)) => Err(format!(
            "{text} is the id of one user and the username of another, {}; name the user by e-mail address, or the second \
             one by id",
            if one.id.as_str() == text { other.id } else { one.id }
        )
        .into()),
        (None, _) => Err(format!(
            "no user has the id, e-mail address or username {text}; countersign user list --query {text} searches"
        )
        .into()),
    }
}

async fn list(stores: &Stores, query: Option<&str>, limit: usize, json: bool) -> Result<(), Box<dyn Error>> {
    let query = query.and_then(UserPage::search_text);
    let page = UserPage { query: query.as_deref(), after: None, limit: limit.saturating_add(1) };
    let mut users = stores.users().users(&page).await?;
    let has_more = users.len() > limit;
    users.truncate(limit);
    if json {
        let users: Vec<_> = users.iter().map(ShownUser::from).collect();
        say(&json!({ "users": users, "has_more": has_more }).to_string());
        return Ok(());
    }
    let mut rows = vec![["ID", "EMAIL", "USERNAME", "ROLES", "STATE", "CREATED"].map(str::to_owned)];
    for user in &users {
        rows.push([
            shown(user.id.as_str()),
            or_dash(user.email.as_ref().map(|email| shown(email.as_str()))),
            or_dash(user.username.as_ref().map(|name| shown(name.as_str()))),
            or_dash((!user.roles.is_empty()).then(|| user.roles.to_string())),
            state(user).to_owned(),
            rfc3339(user.created_at),
        ]);
    }
    say_table(&rows);
    if has_more {
        warn("there are more users; --limit shows more of them, and --query fewer");
    }
    Ok(())
}

fn show(user: &User, json: bool) -> Result<(), Box<dyn Error>> {
    if json {
        say(&serde_json::to_string(&ShownUser::from(user))?);
        return Ok(());
    }
    let email = user.email.as_ref().map(|email| {
        let proof = if user.has_verified_email() { "verified" } else { "not verified" };
        format!("{} ({proof})", shown(email.as_str()))
    });
    let has_password = if user.password_hash.is_some() { "yes" } else { "no" };
    let since = user.deleted_at.or(user.disabled_at).map(|at| format!(" since {}", rfc3339(at)));
    let rows = [
        ["id", &shown(user.id.as_str())],
        ["email", &or_dash(email)],
        ["username", &or_dash(user.username.as_ref().map(|name| shown(name.as_str())))],
        ["roles", &or_dash((!user.roles.is_empty()).then(|| user.roles.to_string()))],
        ["password", has_password],
        ["language", &or_dash(user.language.as_ref().map(|language| language.as_str().to_owned()))],
        ["created", &rfc3339(user.created_at)],
        ["state", &format!("{}{}", state(user), since.unwrap_or_default())],
    ];
    say_table(&rows.map(|row| row.map(str::to_owned)));
    Ok(())
}

fn state(user: &User) -> &'static str {
    match user {
        User { deleted_at: Some(_), .. } => "deleted",
        User { disabled_at: Some(_), .. } => "disabled",
        _ => "enabled",
    }
}

/// Asks for a password at the terminal, twice, or reads the first line of standard input.
fn read_password() -> Result<String, Box<dyn Error>> {
    if !io::stdin().is_terminal() {
        let text = io::read_to_string(io::stdin().lock().take(64 * 1024))?;
        let line = text.split('\n').next().unwrap_or_default();
        return Ok(line.strip_suffix('\r').unwrap_or(line).to_owned());
    }
    let password = rpassword::prompt_password("New password: ")?;
    if rpassword::prompt_password("Once more: ")? != password {
        return Err("the passwords differ; nothing was changed".into());
    }
    Ok(password)
}

/// Asks for confirmation at the terminal; without a terminal it is an error.
fn is_confirmed(user: &User) -> Result<bool, Box<dyn Error>> {
    if !io::stdin().is_terminal() {
        return Err(
            "this cannot be undone; there is no terminal to ask at, so say --yes if that is meant".into()
        );
    }
    let mut terminal = io::stderr().lock();
    let name = user.email.as_ref().map(|email| shown(email.as_str())).unwrap_or_default();
    write!(terminal, "This deletes the user {} {name}. Type yes to go on: ", user.id)?;
    terminal.flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(answer.trim() == "yes")
}

fn email(text: &str) -> Result<EmailAddress, String> {
    EmailAddress::parse(text).map_err(|error| error.to_string())
}

fn username(text: &str) -> Result<Username, String> {
    Username::parse(text).map_err(|error| error.to_string())
}

fn roles(text: &str) -> Result<Roles, String> {
    Roles::new(words(text)).map_err(|error| error.to_string())
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split([' ', ',']).filter(|word| !word.is_empty())
}
