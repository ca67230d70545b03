//! The users of a program: Countersign's accounts, the program's own users, or both.

use std::any::{Any, TypeId, type_name};
use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use countersign_core::flow::{Accounts, Arrival, CheckPassword, LoginError, LoginName, SignedIn};
use countersign_core::model::{Password, User};
use countersign_core::store::{BoxError, StoreError, UserStore};
use countersign_jwt::UserId;
use http::request::Parts;
use http::{HeaderMap, Method, Uri};
use serde_json::{Map, Value};

use crate::buffered::BufferedBody;
use crate::error::AuthError;
use crate::locate::Locator;
use crate::rules::Head;

/// The user who is signed in, as the ready-made routes know and show it.
#[derive(Clone, Debug)]
pub enum SignedInUser {
    /// An account of Countersign's.
    Account(Box<User>),
    /// A user of the program's own.
    Own {
        /// The user's id.
        id: UserId,
        /// What the program [shows](crate::AuthBuilder::show_user) of the user, beside the id.
        shown: Map<String, Value>,
    },
}

/// A user that the rules have loaded themselves, as a type of the application's.
pub type FoundUser = Arc<dyn Any + Send + Sync>;

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A function that loads a type of user by its id.
type UserLoader<U> = Arc<dyn Fn(UserId) -> Boxed<Result<Option<U>, BoxError>> + Send + Sync>;

/// A loader of users, whatever their type.
type AnyLoader = Arc<dyn Fn(UserId) -> Boxed<Result<Option<Box<dyn Any + Send>>, BoxError>> + Send + Sync>;

/// A request, for a loader of users by requests.
#[derive(Clone)]
#[non_exhaustive]
pub struct LoaderRequest {
    /// The request's method.
    pub method: Method,
    /// The request's URI.
    pub uri: Uri,
    /// The request's headers.
    pub headers: HeaderMap,
    /// The JSON body, for a loader that asks for it: of `application/json`, by POST, PUT or PATCH, of up to 64 KiB.
    pub json: Option<Value>,
}

/// Omits the request's credentials.
impl fmt::Debug for LoaderRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoaderRequest").field("method", &self.method).finish_non_exhaustive()
    }
}

/// Which user counts where a request names one to a loader and carries a session too.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum UserOrder {
    /// The user whom a loader finds by the request. Clients that show a key expect that the key counts.
    #[default]
    RequestFirst,
    /// The user of the session or access token.
    SessionFirst,
}

/// A user of any type of the application's.
pub type AnyUser = Box<dyn Any + Send>;

/// A loader of users by requests.
#[derive(Clone)]
struct ByRequest {
    of: TypeId,
    wants_json: bool,
    load: Arc<dyn Fn(LoaderRequest) -> Boxed<Result<Option<AnyUser>, BoxError>> + Send + Sync>,
}

/// The login of a type of user that the program keeps itself.
type OwnLogin = Arc<
    dyn Fn(Accounts, String, Password, Arrival) -> Boxed<Result<SignedIn<FoundUser>, LoginError>>
        + Send
        + Sync,
>;

type Show = Arc<dyn Fn(&dyn Any) -> Option<Map<String, Value>> + Send + Sync>;

/// One loader for each type of user that the program has.
#[derive(Clone, Default)]
pub(crate) struct UserLoaders {
    by_type: HashMap<TypeId, Arc<dyn Any + Send + Sync>>,
    /// The program's loaders, in the order in which they were set: the ready-made routes do not know its types.
    own: Vec<(TypeId, AnyLoader)>,
    show: HashMap<TypeId, Show>,
    by_request: Vec<ByRequest>,
    pub(crate) order: UserOrder,
    /// The logins of the program's own users; there is at most one.
    logins: Vec<OwnLogin>,
}

impl UserLoaders {
    /// Adds users that the program keeps itself, who log in by name and password.
    pub(crate) fn insert_own<D: CheckPassword>(&mut self, users: Arc<D>) {
        let loading = users.clone();
        self.insert::<D::User, _, _, _>(move |id| {
            let users = loading.clone();
            async move { Accounts::find_own(&*users, &id).await }
        });
        self.logins.push(Arc::new(move |accounts: Accounts, name, password, arrival| {
            let users = users.clone();
            Box::pin(async move {
                let signed_in = accounts.login_own(users, &name, password, arrival).await?;
                let SignedIn { user, pair, device_token } = signed_in;
                Ok(SignedIn { user: Arc::new(user) as FoundUser, pair, device_token })
            })
        }));
    }

    /// Whether the program has set more than one source of users who log in.
    pub(crate) fn log_in_twice(&self) -> bool {
        self.logins.len() > 1
    }

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
        // A loader that replaces the store for Countersign's accounts comes first, because it decides about them before
        // any other loader is asked.
        let at = if of == TypeId::of::<User>() { 0 } else { self.own.len() };
        self.own.insert(at, (of, any));
    }

    pub(crate) fn insert_by_request<U, E, F, Loading>(&mut self, load: F, wants_json: bool)
    where
        U: Send + 'static,
        E: Into<BoxError>,
        F: Fn(LoaderRequest) -> Loading + Send + Sync + 'static,
        Loading: Future<Output = Result<Option<U>, E>> + Send + 'static,
    {
        let load = move |request| -> Boxed<Result<Option<AnyUser>, BoxError>> {
            let loading = load(request);
            Box::pin(async move {
                let user = loading.await.map_err(Into::into)?;
                Ok(user.map(|user| Box::new(user) as AnyUser))
            })
        };
        self.by_request.push(ByRequest { of: TypeId::of::<U>(), wants_json, load: Arc::new(load) });
    }

    fn insert_typed<U: 'static>(&mut self, loader: UserLoader<U>) {
        self.by_type.insert(TypeId::of::<U>(), Arc::new(loader));
    }

    /// Adds the loader of Countersign's own accounts, unless the program has set one for them.
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

    /// Whether the program has users of its own.
    pub(crate) fn are_own(&self) -> bool {
        !self.own.is_empty()
    }

    /// Whether the program has set a loader for Countersign's accounts.
    fn load_accounts(&self) -> bool {
        self.own.iter().any(|(of, _)| *of == TypeId::of::<User>())
    }

    /// Whether the program shows a type of user that no loader loads.
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

/// The users of a program. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Users {
    pub(crate) store: Arc<dyn UserStore>,
    pub(crate) loaders: Arc<UserLoaders>,
}

impl Users {
    /// Loads a user by id with the loader that the program has set for the type `U`; `None` if there is no such user.
    ///
    /// # Errors
    /// [`AuthError::LoadUser`] (503) if the user could not be loaded, [`AuthError::NoUserLoader`] (500) if the program
    /// has set no loader for `U`.
    pub async fn load<U: Send + 'static>(&self, id: &UserId) -> Result<Option<U>, AuthError> {
        let loader = self.loaders.get::<U>().ok_or(AuthError::NoUserLoader(type_name::<U>()))?;
        loader(id.clone()).await.map_err(AuthError::LoadUser)
    }

    /// Whether the program has loaders of users by requests.
    #[must_use]
    pub fn are_in_requests(&self) -> bool {
        !self.loaders.by_request.is_empty()
    }

    /// Whether such a request's body must be read before [`Users::of_request`] is called. It then stands among the
    /// request's extensions as [`BufferedBody`].
    #[must_use]
    pub fn wants_body(&self, head: Head<'_>) -> bool {
        self.loaders.by_request.iter().any(|loader| loader.wants_json)
            && Locator::may_be_in_body(head.method, head.headers)
    }

    /// Which user counts where a request has two.
    #[must_use]
    pub fn order(&self) -> UserOrder {
        self.loaders.order
    }

    /// The user whom the program's [loaders by requests](crate::AuthBuilder::request_loader) find, in the order in
    /// which they were set; those of the type `of` alone, if one is given.
    ///
    /// # Errors
    /// [`AuthError::LoadUser`] (503) if a loader failed.
    pub async fn of_request(&self, parts: &Parts, of: Option<TypeId>) -> Result<Option<AnyUser>, AuthError> {
        for loader in &self.loaders.by_request {
            if of.is_some_and(|of| of != loader.of) {
                continue;
            }
            let body = || parts.extensions.get::<BufferedBody>();
            let in_body = loader.wants_json && Locator::may_be_in_body(&parts.method, &parts.headers);
            let json =
                if in_body { body().and_then(|body| serde_json::from_slice(&body.0).ok()) } else { None };
            let Parts { method, uri, headers, .. } = parts;
            let (method, uri, headers) = (method.clone(), uri.clone(), headers.clone());
            let request = LoaderRequest { method, uri, headers, json };
            if let Some(user) = (loader.load)(request).await.map_err(AuthError::LoadUser)? {
                return Ok(Some(user));
            }
        }
        Ok(None)
    }

    /// Whether the program's [own users](crate::AuthBuilder::own_users) log in by name and password.
    #[must_use]
    pub fn log_in(&self) -> bool {
        !self.loaders.logins.is_empty()
    }

    /// Logs in one of the program's own users or, if none of them log in, an account of Countersign's.
    pub(crate) async fn login(
        &self,
        accounts: &Accounts,
        name: &str,
        password: Password,
        arrival: Arrival,
    ) -> Result<SignedIn<SignedInUser>, LoginError> {
        let Some(login) = self.loaders.logins.first() else {
            let signed_in = accounts.login(LoginName::parse(name), password, arrival).await?;
            let SignedIn { user, pair, device_token } = signed_in;
            return Ok(SignedIn { user: SignedInUser::Account(Box::new(user)), pair, device_token });
        };
        let signed_in = login(accounts.clone(), name.to_owned(), password, arrival).await?;
        let SignedIn { user, pair, device_token } = signed_in;
        Ok(SignedIn { user: self.loaders.known(&pair.user_id, &*user), pair, device_token })
    }

    /// The user with this id, from whichever source knows it; `None` if there is no such user. An account of
    /// Countersign's with this id decides, and a disabled one counts as no user. Otherwise it is the user that the
    /// rules have `found` themselves, or else the first that one of the program's
    /// [loaders](crate::AuthBuilder::user_loader) returns.
    ///
    /// # Errors
    /// [`AuthError::LoadUser`] (503) if the user could not be loaded.
    pub async fn known(
        &self,
        id: &UserId,
        found: Option<&FoundUser>,
    ) -> Result<Option<SignedInUser>, AuthError> {
        let cannot_load = |error: StoreError| AuthError::LoadUser(error.into());
        match self.store.user(id).await.map_err(cannot_load)? {
            Some(account) if !account.is_enabled() => return Ok(None),
            Some(account) if !self.loaders.load_accounts() => {
                return Ok(Some(SignedInUser::Account(Box::new(account))));
            }
            _ => {}
        }
        if let Some(user) = found {
            return Ok(Some(self.loaders.known(id, &**user)));
        }
        for (_, load) in &self.loaders.own {
            if let Some(user) = load(id.clone()).await.map_err(AuthError::LoadUser)? {
                return Ok(Some(self.loaders.known(id, &*user)));
            }
        }
        Ok(None)
    }
}
