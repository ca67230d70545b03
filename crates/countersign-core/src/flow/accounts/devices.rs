//! The devices that accounts know, because their users have logged in there.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_jwt::id::{Epoch, UserId};
use countersign_jwt::time::Timestamp;

use super::letters::Letter;
use super::source::UserSource;
use super::{Accounts, AccountsConfig, SignedIn};
use crate::flow::{BeginError, Beginning};
use crate::model::{Device, DeviceToken, KnownDevice, User};
use crate::store::StoreError;

/// The device on which somebody signs in, and the token by which an account may know it.
#[derive(Clone, Debug)]
pub(super) struct SigningIn {
    pub(super) device: Device,
    pub(super) known_device: Option<DeviceToken>,
}

impl Accounts {
    /// The account, if it knows this device. If the store cannot answer, the device is taken for a stranger's. A name
    /// that nobody has costs the store the same.
    pub(super) async fn knows_device(&self, user_id: Option<&UserId>, token: &DeviceToken) -> Option<UserId> {
        let AccountsConfig { devices, clock, .. } = &*self.shared;
        let asked = user_id.cloned().unwrap_or_else(|| UserId::from(uuid::Uuid::nil()));
        match devices.knows_device(&asked, &token.digest(), clock.now()).await {
            Ok(is_known) => user_id.filter(|_| is_known).cloned(),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "could not look up a device; it is taken for a stranger's");
                None
            }
        }
    }

    /// Begins a session as [`begin`](Self::begin) does, and remembers the device. If the account knew others, but not
    /// this one, the user is told by mail (SEC-123).
    pub(super) async fn begin_on_device<S: UserSource>(
        &self,
        source: &S,
        user: S::User,
        epoch: Epoch,
        beginning: Beginning,
        on: SigningIn,
    ) -> Result<Option<SignedIn<S::User>>, BeginError> {
        let SigningIn { device, known_device } = on;
        let Some(mut signed_in) = self.begin(source, user, epoch, beginning, device.clone()).await? else {
            return Ok(None);
        };
        match self.remember(source, &signed_in.user, device, known_device).await {
            Ok(token) => signed_in.device_token = Some(token),
            // Nothing is lost but the device's own counter at the next login.
            Err(error) => {
                let user_id = &signed_in.pair.user_id;
                tracing::error!(error = &*error as &dyn std::error::Error, %user_id, "a device was not remembered");
            }
        }
        Ok(Some(signed_in))
    }

    async fn remember<S: UserSource>(
        &self,
        source: &S,
        user: &S::User,
        device: Device,
        presented: Option<DeviceToken>,
    ) -> Result<DeviceToken, Box<dyn std::error::Error + Send + Sync>> {
        let AccountsConfig { devices, clock, random, .. } = &*self.shared;
        let token = match presented {
            Some(token) => token,
            None => DeviceToken::new(&**random)?,
        };
        let now = clock.now();
        let known = KnownDevice {
            user_id: source.id(user).clone(),
            digest: token.digest(),
            until: now + KnownDevice::KNOWN_FOR,
        };
        if devices.remember_device(&known).await? {
            source.tell_of_device(user, device, now).await?;
        }
        Ok(token)
    }

    /// Tells a user by mail of a login on a device that the account did not know.
    pub(super) async fn tell_of_new_device(
        &self,
        user: &User,
        device: Device,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        if user.email.is_some() && self.may_tell_of_device(&user.id).await? {
            self.tell_by_mail(user, Letter::NewDevice { device, at }).await;
        }
        Ok(())
    }

    /// Whether the user is told of a new device: three times, and then ever more rarely. A program that logs in without
    /// keeping its token has a new device each time.
    async fn may_tell_of_device(&self, user_id: &UserId) -> Result<bool, StoreError> {
        if self.shared.letters.is_none() {
            return Ok(false);
        }
        Ok(self.may(&format!("devices:{user_id}"), &Self::MAILS_FOR_CLIENT).await?.is_ok())
    }
}

/// The key of the counter of a device at an account.
pub(super) fn device_counter(token: &DeviceToken, user_id: &UserId) -> String {
    format!("device:{}:{user_id}", URL_SAFE_NO_PAD.encode(token.digest().as_bytes()))
}
