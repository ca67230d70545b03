//! Users that a program keeps itself: how they are found, and how they log in.

use std::error::Error;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use countersign_jwt::id::UserId;
use countersign_jwt::time::Timestamp;

use super::source::{Candidate, UserSource};
use super::{Accounts, AccountsConfig, Arrival, LoginError, LoginName, RegisterError, SignedIn};
use crate::flow::BeginError;
use crate::model::{Device, OwnNames, Password, PasswordHash};
use crate::store::{BoxError, StoreError};

/// Finds the users that a program keeps itself, such as in a `users` table.
///
/// A user who is disabled is not found. Then nobody can log in as that user, and a refresh or a route that loads the
/// user answers 401 at the next request.
///
/// ```
/// use std::convert::Infallible;
/// use countersign_core::flow::FindUser;
///
/// #[derive(Clone)]
/// struct Member {
///     id: i64,
///     name: String,
/// }
///
/// struct Members(Vec<Member>);
///
/// impl FindUser for Members {
///     type User = Member;
///     type Id = i64;
///     type Error = Infallible; // where the users are in a database, its error
///
///     fn id(member: &Member) -> i64 {
///         member.id
///     }
///
///     async fn find_by_id(&self, id: i64) -> Result<Option<Member>, Infallible> {
///         Ok(self.0.iter().find(|member| member.id == id).cloned())
///     }
///
///     async fn find_by_login_name(&self, name: &str) -> Result<Option<Member>, Infallible> {
///         Ok(self.0.iter().find(|member| member.name == name).cloned())
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not find users",
    label = "`FindUser` is not implemented for `{Self}`",
    note = "implement `FindUser` (find by id and by login name) and `CheckPassword` for the type that holds the \
            program's connection to its users"
)]
pub trait FindUser: Send + Sync + 'static {
    /// The program's type of user.
    type User: Clone + Send + Sync + 'static;
    /// The type of the users' ids: a number, a UUID, a text. Tokens carry the id as text, as `Display` writes it.
    type Id: FromStr + fmt::Display + Send + 'static;
    /// The error of a lookup, such as that of the database. Clients learn only that the service is unavailable (503);
    /// the log has the error.
    type Error: Into<BoxError> + Send;

    /// The id of a user. It never changes and is never given to another user, because tokens carry it.
    fn id(user: &Self::User) -> Self::Id;

    /// The user with this id; `None` if there is none or the user is disabled.
    fn find_by_id(
        &self,
        id: Self::Id,
    ) -> impl Future<Output = Result<Option<Self::User>, Self::Error>> + Send;

    /// The user who logs in with this name, as it was typed, without white space around it; `None` if there is none or
    /// the user is disabled. Whether the case of letters matters is the program's decision.
    ///
    /// A login asks twice, once before and once after it has read what ends all sessions of the user.
    fn find_by_login_name(
        &self,
        name: &str,
    ) -> impl Future<Output = Result<Option<Self::User>, Self::Error>> + Send;
}

/// Checks the passwords of the users that a program keeps itself.
///
/// A program that stores hashes hands out the hash, and Countersign compares: on the threads of its hash pool, within
/// the limits for hostile hashes, in any of the [forms](crate::model::PasswordHash) that it reads, such as those of
/// werkzeug, Django, passlib and bcrypt.
///
/// ```
/// # use std::convert::Infallible;
/// use countersign_core::flow::CheckPassword;
/// # use countersign_core::flow::FindUser;
/// # #[derive(Clone)]
/// # struct Member { id: i64, password_hash: Option<String> }
/// # struct Members;
/// # impl FindUser for Members {
/// #     type User = Member;
/// #     type Id = i64;
/// #     type Error = Infallible;
/// #     fn id(member: &Member) -> i64 { member.id }
/// #     async fn find_by_id(&self, _: i64) -> Result<Option<Member>, Infallible> { Ok(None) }
/// #     async fn find_by_login_name(&self, _: &str) -> Result<Option<Member>, Infallible> { Ok(None) }
/// # }
///
/// impl CheckPassword for Members {
///     fn password_hash(member: &Member) -> Option<&str> {
///         member.password_hash.as_deref()
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not check passwords",
    label = "`CheckPassword` is not implemented for `{Self}`",
    note = "implement `CheckPassword` beside `FindUser`; its one required method returns the stored hash of a user's \
            password"
)]
pub trait CheckPassword: FindUser {
    /// The stored hash of the user's password; `None` if the user has no password.
    fn password_hash(user: &Self::User) -> Option<&str>;

    /// Replaces the stored hash `old` by `new`, which Countersign has made of the same password with Argon2id, because
    /// the old one is of another form or cost. The default keeps the old one, which suits a database in which another
    /// program checks the hashes too.
    ///
    /// Replace it only where it is still `old`: `UPDATE … WHERE id = ? AND password_hash = old`. Otherwise a password
    /// that was changed meanwhile would be undone. An error does not concern the login; it goes to the log.
    fn replace_password_hash(
        &self,
        _user: &Self::User,
        _old: &str,
        _new: &str,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send {
        std::future::ready(Ok(()))
    }

    /// Checks a password in a way of the program's own, such as a directory server's. The default leaves the check to
    /// Countersign ([`PasswordVerdict::ByHash`]).
    ///
    /// A check of the program's own has a place in the hash pool while it runs, so few run at once. It is not asked about
    /// users who don't exist; the login then takes one hash. `AuthBuilder::login_floor` hides the difference in time.
    fn check_password(
        &self,
        _user: &Self::User,
        _password: &Password,
    ) -> impl Future<Output = Result<PasswordVerdict, Self::Error>> + Send {
        std::future::ready(Ok(PasswordVerdict::ByHash))
    }
}

/// What a program says of a password.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PasswordVerdict {
    /// The password is right.
    Right,
    /// The password is wrong.
    Wrong,
    /// Countersign compares the password with [`CheckPassword::password_hash`].
    ByHash,
}

impl Accounts {
    /// Logs in a user whom a program keeps itself. Everything else is as in [`login`](Self::login): the counters of
    /// attempts by name, user, address and device, the bound on hashes, the sessions that the new one replaces.
    ///
    /// A user who is unknown, disabled or without a password and a wrong password take the same path: one hash, the same
    /// lookups, the same error.
    ///
    /// # Errors
    /// [`LoginError`]; [`LoginError::Store`] also if the program could not find its users.
    pub async fn login_own<D: CheckPassword>(
        &self,
        users: Arc<D>,
        name: &str,
        password: Password,
        arrival: Arrival,
    ) -> Result<SignedIn<D::User>, LoginError> {
        let arrival = Arrival { verified_only: false, ..arrival };
        // The counters know a name by its folded form, so that guesses at one user don't get another counter for each
        // way of writing the name.
        let counted = LoginName::parse(name);
        let source = OwnUsers { users, name: name.trim().to_owned() };
        let SignedIn { user, pair, device_token } = self.login_of(source, counted, password, arrival).await?;
        Ok(SignedIn { user: user.user, pair, device_token })
    }

    /// Hashes a new password for a user whom a program keeps itself, at a registration or a change of the password.
    /// `names` are the user's own names, which the password must not be.
    ///
    /// After a change, end the user's sessions by [`Sessions::end_all`](crate::flow::Sessions::end_all), once the new
    /// hash is stored.
    ///
    /// ```
    /// # use countersign_core::store::MemoryStore;
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let accounts = countersign_testkit::TestBed::over(MemoryStore::new()).await.accounts;
    /// let hash = accounts.hash_new_password("correct horse".to_owned(), &["ada@example.org"]).await?;
    /// assert!(hash.expose().starts_with("$argon2id$"));
    ///
    /// let refused = accounts.hash_new_password("Ada@example.org".to_owned(), &["ada@example.org"]).await;
    /// assert!(refused.is_err());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`RegisterError::WeakPassword`] if the password breaks a rule for new passwords, and [`RegisterError::Hash`].
    pub async fn hash_new_password(
        &self,
        text: String,
        names: &[&str],
    ) -> Result<PasswordHash, RegisterError> {
        let AccountsConfig { hasher, passwords, runtime, .. } = &*self.shared;
        let place = hasher.place()?;
        let password = passwords.rules.admit(text, OwnNames::default())?;
        for name in names {
            let (email, username) = match LoginName::parse(name) {
                LoginName::Email(email) => (Some(email), None),
                LoginName::Username(username) => (None, Some(username)),
                LoginName::Impossible(_) => continue,
            };
            let names = OwnNames { email: email.as_ref(), username: username.as_ref() };
            passwords.rules.check(&password, names)?;
        }
        passwords.check(&password, OwnNames::default(), runtime).await?;
        Ok(place.turn().await?.hash(password).await?)
    }

    /// The user whom a program keeps itself under the id that tokens carry. A text that is not an id as the program
    /// writes it, such as `017` for the number 17, is nobody's.
    ///
    /// # Errors
    /// [`StoreError`] if the program could not find its users.
    pub async fn find_own<D: FindUser>(users: &D, id: &UserId) -> Result<Option<D::User>, StoreError> {
        let own = id.as_str().parse::<D::Id>().ok().filter(|own| own.to_string() == id.as_str());
        let Some(own) = own else { return Ok(None) };
        users.find_by_id(own).await.map_err(cannot_find)
    }
}

/// The program's users, during the login with this name.
struct OwnUsers<D> {
    users: Arc<D>,
    name: String,
}

/// A user of the program's own, and what the login knows of it.
#[derive(Debug)]
struct OwnUser<U> {
    user: U,
    id: UserId,
    /// The hash that the password was compared with, and the one that replaced it.
    hashes: Vec<String>,
}

impl<D: CheckPassword> OwnUsers<D> {
    /// The longest name that the program is asked about, in bytes.
    const LONGEST_NAME: usize = 1_024;

    async fn find_user(&self) -> Result<Option<(UserId, D::User)>, StoreError> {
        // Databases refuse some of these with an error, and no user has them.
        let is_impossible = self.name.is_empty()
            || self.name.len() > Self::LONGEST_NAME
            || self.name.chars().any(char::is_control);
        if is_impossible {
            return Ok(None);
        }
        let user = self.users.find_by_login_name(&self.name).await.map_err(cannot_find)?;
        user.map(|user| Ok((user_id::<D>(&user)?, user))).transpose()
    }
}

impl<D: CheckPassword> UserSource for OwnUsers<D> {
    type User = OwnUser<D::User>;

    fn id<'u>(&self, user: &'u Self::User) -> &'u UserId {
        &user.id
    }

    async fn find(&self, _: &LoginName) -> Result<Option<UserId>, LoginError> {
        Ok(self.find_user().await?.map(|(id, _)| id))
    }

    /// The program is asked by name again, so that it is asked the same whether or not there is such a user.
    async fn read(&self, id: Option<&UserId>) -> Result<Option<Candidate<Self::User>>, LoginError> {
        let found = self.find_user().await?.filter(|(found, _)| Some(found) == id);
        Ok(found.map(|(id, user)| {
            let hash = D::password_hash(&user).map(str::to_owned);
            Candidate {
                password_hash: hash.clone().map(PasswordHash::from_stored),
                user: OwnUser { user, id, hashes: Vec::from_iter(hash) },
                is_enabled: true,
            }
        }))
    }

    async fn decide(&self, user: &Self::User, password: &Password) -> Result<PasswordVerdict, LoginError> {
        let verdict = self.users.check_password(&user.user, password).await;
        verdict.map_err(|error| StoreError::new("application's user", "check a password", error).into())
    }

    async fn upgrade(&self, user: &mut Self::User, upgrade: PasswordHash) {
        let Some(old) = user.hashes.first() else { return };
        match self.users.replace_password_hash(&user.user, old, upgrade.expose()).await {
            Ok(()) => user.hashes.push(upgrade.expose().to_owned()),
            Err(error) => {
                let error: BoxError = error.into();
                let error = &*error as &dyn Error;
                tracing::warn!(error, user_id = %user.id, "an old password hash could not be replaced");
            }
        }
    }

    fn has_proven_address(&self, _: &Self::User) -> bool {
        true
    }

    async fn unchanged(&self, user: Self::User) -> Result<Option<Self::User>, BeginError> {
        let Some(now) = Accounts::find_own(&*self.users, &user.id).await? else { return Ok(None) };
        // Without a hash nothing tells whether the password was changed meanwhile, so the login fails.
        let hash = D::password_hash(&now);
        let is_same = hash.is_some_and(|hash| user.hashes.iter().any(|known| known == hash));
        Ok(is_same.then_some(OwnUser { user: now, ..user }))
    }

    async fn tell_of_device(&self, _: &Self::User, _: Device, _: Timestamp) -> Result<(), StoreError> {
        Ok(())
    }
}

fn user_id<D: FindUser>(user: &D::User) -> Result<UserId, StoreError> {
    UserId::new(&D::id(user).to_string())
        .map_err(|error| StoreError::new("application's user", "tell a user's id", error))
}

fn cannot_find(error: impl Into<BoxError>) -> StoreError {
    StoreError::new("application's user", "find a user", error)
}
