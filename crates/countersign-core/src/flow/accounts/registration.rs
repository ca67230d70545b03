//! Registering accounts, and refusing to.

use std::net::IpAddr;
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use countersign_jwt::random::RandomError;

use super::attempts::counter_of_client;
use super::credentials::AskError;
use super::minutes::{Minute, Minutes};
use super::{Accounts, AccountsConfig, Arrival, Profile, SignedIn};
use crate::flow::BeginError;
use crate::flow::hasher::{HashError, HashPlace};
use crate::flow::sessions::detached;
use crate::model::event::Event;
use crate::model::name::{EmailAddress, Username};
use crate::model::password::{OwnNames, Password, WeakPassword};
use crate::model::user::User;
use crate::model::{Device, Language, Refused};
use crate::store::{NameKey, StoreError, UserInserted};

/// The checked input of a registration.
#[derive(Debug)]
pub struct Registration {
    /// The e-mail address; `None` registers an account without one, which then has a username.
    pub email: Option<EmailAddress>,
    /// The username; `None` registers an account without one, which then has an e-mail address.
    pub username: Option<Username>,
    /// The password, exactly as the client sent it.
    pub password: Password,
    /// The language in which the user is written to, if the client has told one.
    pub language: Option<Language>,
}

/// The reason why a registration failed, or registered an account without logging it in.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// Another account has this e-mail address.
    #[error("the e-mail address is taken")]
    EmailTaken,
    /// Another account has this username.
    #[error("the username is taken")]
    UsernameTaken,
    /// Another account has the id that was made for the new one. With ids that are numbers this happens where another
    /// program inserts accounts too; trying again uses the next number.
    #[error("the new account's id is taken; try again")]
    IdTaken,
    /// The account would have neither an e-mail address nor a username.
    #[error("an account needs an e-mail address or a username")]
    NoName,
    /// Too many accounts were registered from this address within the hour.
    #[error("too many registrations")]
    TooManyAttempts {
        /// The time until the next one is admitted.
        retry_after: Duration,
    },
    /// The password breaks a rule for new passwords.
    #[error(transparent)]
    WeakPassword(#[from] WeakPassword),
    /// The password could not be hashed at the moment.
    #[error(transparent)]
    Hash(#[from] HashError),
    /// The store could not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The source of randomness failed.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// The account was registered, but no session began. The user can log in.
    #[error(transparent)]
    Begin(#[from] BeginError),
}

impl Accounts {
    /// The number of refused registrations in one minute from which on they are not slips of memory.
    const FEW_REFUSALS: u64 = 60;

    /// Registers an account and logs it in.
    ///
    /// A registration takes a place in the hash pool before anything else. If the caller goes away before the password
    /// is hashed, nothing is left behind; afterwards the registration runs to its end.
    ///
    /// ```
    /// use countersign_core::flow::{Arrival, Presentation, RegisterError, Registration};
    /// use countersign_core::model::{Device, EmailAddress, Password, Username};
    /// # use countersign_core::store::MemoryStore;
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let accounts = countersign_testkit::TestBed::over(MemoryStore::new()).await.accounts;
    /// # let arrival = Arrival::new(Presentation::Explicit, Device::default());
    /// let registration = Registration {
    ///     email: Some(EmailAddress::parse("ada@example.org")?),
    ///     username: Some(Username::parse("ada")?),
    ///     password: Password::new_for_registration("correct horse".to_owned())?,
    ///     language: None,
    /// };
    /// match accounts.register(registration, arrival).await {
    ///     Ok(signed_in) => assert_eq!(signed_in.pair.user_id, signed_in.user.id),
    ///     Err(RegisterError::EmailTaken) => println!("this address has an account; log in instead"),
    ///     Err(error) => return Err(error.into()),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`RegisterError`]. The account exists after [`RegisterError::Begin`], and after no other error.
    pub async fn register(
        &self,
        registration: Registration,
        arrival: Arrival,
    ) -> Result<SignedIn, RegisterError> {
        let _share = self.share(arrival.device.ip).map_err(too_many)?;
        let place = self.stranger_place()?;
        self.count_registration(arrival.device.ip).await?;
        let Registration { email, username, password, language } = registration;
        let names = OwnNames { email: email.as_ref(), username: username.as_ref() };
        self.shared.passwords.check(&password, names, &self.shared.runtime).await?;
        // This lookup saves a hash where the name is known to be taken; the insert decides.
        if let Some(taken) = self.taken(email.as_ref(), username.as_ref()).await? {
            self.refuse(place, password, arrival.device).await?;
            return Err(taken);
        }
        let id = self.shared.ids.next(&*self.shared.users, &*self.shared.random).await?;
        let password_hash = Some(place.turn().await?.hash(password).await?);
        let user =
            User { email, username, password_hash, language, ..User::new(id, self.shared.clock.now()) };
        let this = self.clone();
        detached(&self.shared.runtime, async move { this.register_now(user, arrival).await }).await
    }

    /// Registers an account without logging it in, and mails a link to its address. Nothing tells the caller whether a
    /// name is taken (SEC-131): a registration costs one hash either way, the rest goes on in the background, and the
    /// user of a taken address is told by mail. A taken username is told, because usernames are public.
    ///
    /// # Errors
    /// [`RegisterError::UsernameTaken`], [`RegisterError::WeakPassword`], [`RegisterError::TooManyAttempts`],
    /// [`RegisterError::Hash`] and [`RegisterError::Store`].
    pub async fn register_unseen(
        &self,
        registration: Registration,
        device: Device,
    ) -> Result<(), RegisterError> {
        let _share = self.share(device.ip).map_err(too_many)?;
        let place = self.stranger_place()?;
        self.count_registration(device.ip).await?;
        let Registration { email, username, password, language } = registration;
        let names = OwnNames { email: email.as_ref(), username: username.as_ref() };
        self.shared.passwords.check(&password, names, &self.shared.runtime).await?;
        if let Some(username) = &username
            && self.shared.users.user_by_name(NameKey::Username(username.key())).await?.is_some()
        {
            return Err(RegisterError::UsernameTaken);
        }
        let id = self.shared.ids.next(&*self.shared.users, &*self.shared.random).await?;
        let password_hash = Some(place.turn().await?.hash(password).await?);
        let user =
            User { email, username, password_hash, language, ..User::new(id, self.shared.clock.now()) };
        let this = self.clone();
        self.shared.runtime.spawn(async move {
            if let Err(error) = this.register_unseen_now(user, device).await {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "an account could not be registered"
                );
            }
        });
        Ok(())
    }

    async fn register_unseen_now(&self, user: User, device: Device) -> Result<(), AskError> {
        let AccountsConfig { users, sessions, .. } = &*self.shared;
        let profile = Profile::of(self);
        match users.insert_user(&user).await? {
            UserInserted::Yes => {
                sessions.tell(&Event::Registered { user_id: user.id.clone() });
                profile.resend_verification(&user, device.ip).await
            }
            UserInserted::EmailTaken => {
                let client = device.ip;
                self.count_refusal(device);
                match &user.email {
                    Some(email) => profile.tell_account_exists(email, client).await,
                    None => Ok(()),
                }
            }
            UserInserted::UsernameTaken | UserInserted::IdTaken => {
                self.count_refusal(device);
                Ok(())
            }
        }
    }

    pub(super) async fn taken(
        &self,
        email: Option<&EmailAddress>,
        username: Option<&Username>,
    ) -> Result<Option<RegisterError>, StoreError> {
        let users = &self.shared.users;
        if let Some(email) = email
            && users.user_by_name(NameKey::Email(email.key())).await?.is_some()
        {
            return Ok(Some(RegisterError::EmailTaken));
        }
        if let Some(username) = username
            && users.user_by_name(NameKey::Username(username.key())).await?.is_some()
        {
            return Ok(Some(RegisterError::UsernameTaken));
        }
        Ok(None)
    }

    /// Refuses a registration because a name is taken. In a minute with many such refusals, each costs a hash, as a
    /// registration does.
    async fn refuse(&self, place: HashPlace, password: Password, device: Device) -> Result<(), HashError> {
        if self.count_refusal(device) {
            place.turn().await?.hash(password).await?;
        }
        Ok(())
    }

    /// Counts a registration that is refused; returns whether there were many in this minute.
    fn count_refusal(&self, device: Device) -> bool {
        let (count, over) = self.refusals().count(self.shared.clock.now(), device);
        self.tell_minute_of_refusals(over);
        count > Self::FEW_REFUSALS
    }

    /// Emits [`Event::RegistrationsRefused`] for a minute that is over and was not reported yet. Background tasks call
    /// it every few seconds.
    pub fn tell_refused_registrations(&self) {
        let over = self.refusals().take_over(self.shared.clock.now());
        self.tell_minute_of_refusals(over);
    }

    fn tell_minute_of_refusals(&self, minute: Option<Minute>) {
        if let Some(Minute { since, count, last }) = minute {
            self.shared.sessions.tell(&Event::RegistrationsRefused { count, since, last });
        }
    }

    /// Counts a registration at the address that it comes from.
    async fn count_registration(&self, client: Option<IpAddr>) -> Result<(), RegisterError> {
        let AccountsConfig { clock, limits, .. } = &*self.shared;
        match counter_of_client("registered", client, clock.now()) {
            Some(counter) => self.may(&counter, &limits.registrations()).await?.map_err(too_many),
            None => Ok(()),
        }
    }

    fn refusals(&self) -> MutexGuard<'_, Minutes> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn register_now(&self, user: User, arrival: Arrival) -> Result<SignedIn, RegisterError> {
        let AccountsConfig { users, sessions, .. } = &*self.shared;
        let epoch = sessions.epoch(&user.id).await?;
        let taken = match users.insert_user(&user).await? {
            UserInserted::Yes => None,
            UserInserted::EmailTaken => Some(RegisterError::EmailTaken),
            UserInserted::UsernameTaken => Some(RegisterError::UsernameTaken),
            UserInserted::IdTaken => Some(RegisterError::IdTaken),
        };
        if let Some(taken) = taken {
            self.count_refusal(arrival.device);
            return Err(taken);
        }
        sessions.tell(&Event::Registered { user_id: user.id.clone() });
        let client = arrival.device.ip;
        let (beginning, on, replacing) = arrival.split();
        self.end_replaced(replacing).await?;
        if let Err(error) = Profile::of(self).resend_verification(&user, client).await {
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, user_id = %user.id, "the mail that verifies an address could not be written");
        }
        let begun = self.begin_on_device(self, user, epoch, beginning, on).await?;
        begun.ok_or(RegisterError::Begin(BeginError::EpochRaised))
    }
}

fn too_many(Refused { retry_after, .. }: Refused) -> RegisterError {
    RegisterError::TooManyAttempts { retry_after }
}
