//! The users of a program: Countersign's accounts, its own, or both.

use std::any::{Any, TypeId, type_name};
use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use countersign_core::flow::{Accounts, Refresh, RefreshError, Refreshed};
use countersign_core::model::{Device, Refusal, User};
use countersign_core::store::{BoxError, StoreError};
use countersign_jwt::{Claims, UserId};
use serde_json::{Map, Value};

use crate::auth::{Auth, AuthError, Authenticated};
use crate::profile::HookedUser;

/// Who is signed in, as the ready-made routes know and show it.
#[derive(Clone, Debug)]
pub enum SignedInUser {
    /// An account of Countersign's.
    Account(Box<User>),
    /// A user of the program's own.
    Own {
        /// The user's id.
        id: UserId,
        /// What the program [shows](crate::AuthBuilder::show_user) of it beside the id.
        shown: Map<String, Value>,
    },
}

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// How a type of user is loaded by its id.
type UserLoader<U> = Arc<dyn Fn(UserId) -> Boxed<Result<Option<U>, BoxError>> + Send + Sync>;

/// The same, whatever the type.
type AnyLoader = Arc<dyn Fn(UserId) -> Boxed<Result<Option<Box<dyn Any + Send>>, BoxError>> + Send + Sync>;

type Show = Arc<dyn Fn(&dyn Any) -> Option<Map<String, Value>> + Send + Sync>;

/// One loader for each type of user that the program has.
#[derive(Clone, Default)]
pub(crate) struct UserLoaders {
    by_type: HashMap<TypeId, Arc<dyn Any + Send + Sync>>,
    /// Those of the program, in its order: the ready-made routes do not know its types.
    own: Vec<(TypeId, AnyLoader)>,
    show: HashMap<TypeId, Show>,
}

impl UserLoaders {
    pub(crate) fn insert<U, E, F, Loading>(&mut self, load: F)
    where
        U: Send + 'static,
        E: Into<BoxError>,
        F: Fn(UserId) -> Loading + Send + Sync + 'static,
        Loading: Future<Output = Result<Option<U>, E>> + Send + 'static,
    {
        let load = Arc::new(load);
        let typed = load.clone();
        self.insert_typed::<U>(Arc::new(move |id| {
            let loading = typed(id);
            Box::pin(async move { loading.await.map_err(Into::into) })
        }));
        let any: AnyLoader = Arc::new(move |id| {
            let loading = load(id);
            Box::pin(async move {
                let user = loading.await.map_err(Into::into)?;
                Ok(user.map(|user| Box::new(user) as Box<dyn Any + Send>))
            })
        });
        let of = TypeId::of::<U>();
        self.own.retain(|(other, _)| *other != of);
        // What loads accounts in place of the store decides about them before anything else is asked.
        let at = if of == TypeId::of::<User>() { 0 } else { self.own.len() };
        self.own.insert(at, (of, any));
    }

    fn insert_typed<U: 'static>(&mut self, loader: UserLoader<U>) {
        self.by_type.insert(TypeId::of::<U>(), Arc::new(loader));
    }

    /// Countersign's own accounts load themselves, unless the program says otherwise.
    pub(crate) fn with_accounts(mut self, accounts: &Accounts) -> Self {
        if self.get::<User>().is_none() {
            let accounts = accounts.clone();
            self.insert_typed::<User>(Arc::new(move |id| {
                let accounts = accounts.clone();
                Box::pin(async move { Ok(accounts.enabled_user(&id).await?) })
            }));
        }
        self
    }

    /// Whether the program loads accounts itself.
    fn load_accounts(&self) -> bool {
        self.own.iter().any(|(of, _)| *of == TypeId::of::<User>())
    }

    /// Whether a type is shown that nothing loads.
    pub(crate) fn show_in_vain(&self) -> bool {
        self.show.keys().any(|of| !self.own.iter().any(|(loaded, _)| loaded == of))
    }

    pub(crate) fn show<U: 'static>(
        &mut self,
        show: impl Fn(&U) -> Map<String, Value> + Send + Sync + 'static,
    ) {
        let show: Show = Arc::new(move |user| user.downcast_ref().map(&show));
        self.show.insert(TypeId::of::<U>(), show);
    }

    fn get<U: 'static>(&self) -> Option<&UserLoader<U>> {
        self.by_type.get(&TypeId::of::<U>())?.downcast_ref()
    }

    /// What the ready-made routes know of a loaded user.
    fn known(&self, id: &UserId, user: &dyn Any) -> SignedInUser {
        if let Some(account) = user.downcast_ref::<User>() {
            return SignedInUser::Account(Box::new(account.clone()));
        }
        let shown = self.show.get(&user.type_id()).and_then(|show| show(user));
        SignedInUser::Own { id: id.clone(), shown: shown.unwrap_or_default() }
    }
}

impl fmt::Debug for UserLoaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UserLoaders({})", self.own.len())
    }
}

impl Auth {
    /// Loads the user of verified claims, as the program has said for this type.
    ///
    /// # Errors
    /// [`AuthError::UserGone`] (401) if there is none, [`AuthError::LoadUser`] (503) if nobody can say,
    /// [`AuthError::NoUserLoader`] (500) if the program has not said how.
    pub async fn load_user<U: Send + 'static>(&self, claims: &Claims) -> Result<U, AuthError> {
        let loader = self.shared.loaders.get::<U>().ok_or(AuthError::NoUserLoader(type_name::<U>()))?;
        let user = loader(claims.subject().clone()).await.map_err(AuthError::LoadUser)?;
        user.ok_or_else(|| self.user_gone(claims.subject()))
    }

    /// Who is signed in, whatever loads the program's users. An account with the token's subject as its id decides,
    /// disabled ones are nobody; else the user that a profile's hook has found; else the first that one of the program's
    /// [loaders](crate::AuthBuilder::user_loader) knows.
    ///
    /// # Errors
    /// [`AuthError::UserGone`] (401) if nobody knows the user, [`AuthError::LoadUser`] (503) if nobody can say.
    pub async fn signed_in_user(&self, caller: &Authenticated) -> Result<SignedInUser, AuthError> {
        let user = self.known_user(caller.claims().subject(), caller.hooked_user()).await?;
        user.ok_or_else(|| self.user_gone(caller.claims().subject()))
    }

    /// Exchanges a refresh token, verified and judged, for a pair, if its user is [known](Auth::signed_in_user).
    ///
    /// # Errors
    /// As [`Refresh::exchange`], and [`AuthError::LoadUser`] if nobody can
    /// say whether there is such a user.
    pub async fn refresh(
        &self,
        token: &Claims,
        device: Device,
    ) -> Result<(Refreshed, SignedInUser), AuthError> {
        let user = self.known_user(token.subject(), None).await?;
        let refreshed = Refresh::of(self.sessions()).exchange(token, user.is_some(), device).await?;
        match user {
            Some(user) => Ok((refreshed, user)),
            None => Err(RefreshError::from(Refusal::User).into()),
        }
    }

    pub(crate) async fn known_user(
        &self,
        id: &UserId,
        hooked: Option<&HookedUser>,
    ) -> Result<Option<SignedInUser>, AuthError> {
        let loaders = &self.shared.loaders;
        let cannot_load = |error: StoreError| AuthError::LoadUser(error.into());
        match self.shared.users.user(id).await.map_err(cannot_load)? {
            Some(account) if !account.is_enabled() => return Ok(None),
            Some(account) if !loaders.load_accounts() => {
                return Ok(Some(SignedInUser::Account(Box::new(account))));
            }
            _ => {}
        }
        if let Some(user) = hooked {
            return Ok(Some(loaders.known(id, &**user)));
        }
        for (_, load) in &loaders.own {
            if let Some(user) = load(id.clone()).await.map_err(AuthError::LoadUser)? {
                return Ok(Some(loaders.known(id, &*user)));
            }
        }
        Ok(None)
    }

    fn user_gone(&self, id: &UserId) -> AuthError {
        match &self.shared.profile {
            Some(profile) => profile.no_user(&id.as_str().into()).into(),
            None => AuthError::UserGone,
        }
    }
}
