//! The endpoint table: each endpoint is declared once, beside its handler, as a [`Route`]. Router, permission check,
//! reference and coverage test read the same table (DESIGN D1).

use crate::app::App;
use crate::auth::{Admin, Principal, User};
use crate::origin::Origin;
use axum::body::Body;
use bytes::Bytes;
use encke_api::endpoint::{Caller, Endpoint, Role, Support};
use encke_api::form::{Form, FromForm};
use encke_api::types::{AdminUserPermissions, CometAPIResponseMessage, SessionKeyRegeneratedResponse};
use encke_api::wire::{Out, Wire, WireName};
use encke_api::{ApiError, ApiResult};
use encke_store::SessionKind;
use encke_store::audit::asked_by;
use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

/// A successful answer.
pub struct Reply {
    /// Its body.
    pub body: Body,
    /// Its media type.
    pub media: &'static str,
    /// For an answer that is a file.
    pub file: Option<NamedFile>,
}

/// What is known of a file before its bytes are read.
pub struct NamedFile {
    /// Name to keep it under: letters, digits, `.`, `_` and `-`.
    pub name: String,
    /// Its length in bytes.
    pub length: u64,
}

impl Reply {
    fn new(body: Body, media: &'static str) -> Self {
        Self {
            body,
            media,
            file: None,
        }
    }
}

const JSON: &str = "application/json; charset=utf-8";

/// What a handler may answer.
pub trait IntoReply {
    /// Type in the specification's type language, for the reference.
    fn wire_name() -> String;
    /// The answer's bytes.
    ///
    /// # Errors
    /// The value can not be printed.
    fn into_reply(self) -> ApiResult<Reply>;
}

/// A structure.
pub struct Doc<T>(pub T);
/// A structure as it was stored, not parsed again.
pub struct StoredDoc<T>(Arc<str>, PhantomData<T>);
/// An array of strings.
pub struct Names(pub Arc<Vec<String>>);
/// An array of structures.
pub struct ListOf<T>(pub Vec<T>);
/// A map of structures.
pub struct MapOf<T>(pub BTreeMap<String, T>);
/// A map of structures by a whole number, which JSON writes as text.
pub struct NumberedMap<T>(pub BTreeMap<i64, T>);
/// An array or map of structures that is written while it is read from the store.
pub struct Streamed<T> {
    body: Body,
    kind: PhantomData<T>,
}
/// Marks a [`Streamed`] array.
pub struct ArrayOf<T>(PhantomData<T>);
/// Marks a [`Streamed`] map.
pub struct Keyed<T>(PhantomData<T>);
/// Plain text that is written while it is read from the store.
pub struct PlainStream(pub Body);

/// Text that goes out as it lies in memory.
struct Shared(Arc<str>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl<T> StoredDoc<T> {
    /// Wraps stored text of a `T`.
    #[must_use]
    pub fn new(text: Arc<str>) -> Self {
        Self(text, PhantomData)
    }
}

impl<T> Streamed<T> {
    /// Wraps a body that yields the JSON text.
    #[must_use]
    pub fn new(body: Body) -> Self {
        Self {
            body,
            kind: PhantomData,
        }
    }
}

fn json<T: serde::Serialize>(value: &T) -> ApiResult<Reply> {
    let text = serde_json::to_vec(value).map_err(|e| {
        tracing::error!(error = %e, "an answer could not be printed");
        ApiError::internal()
    })?;
    Ok(Reply::new(Body::from(text), JSON))
}

impl<T: Wire + WireName> IntoReply for Doc<T> {
    fn wire_name() -> String {
        T::wire_name()
    }
    fn into_reply(self) -> ApiResult<Reply> {
        json(&Out(&self.0))
    }
}
impl<T: WireName> IntoReply for StoredDoc<T> {
    fn wire_name() -> String {
        T::wire_name()
    }
    fn into_reply(self) -> ApiResult<Reply> {
        Ok(Reply::new(Body::from(Bytes::from_owner(Shared(self.0))), JSON))
    }
}
impl IntoReply for Names {
    fn wire_name() -> String {
        "[]string".into()
    }
    fn into_reply(self) -> ApiResult<Reply> {
        json(&*self.0)
    }
}
impl<T: Wire + WireName> IntoReply for ListOf<T> {
    fn wire_name() -> String {
        format!("[]{}", T::wire_name())
    }
    fn into_reply(self) -> ApiResult<Reply> {
        json(&Out(&self.0))
    }
}
impl<T: Wire + WireName> IntoReply for MapOf<T> {
    fn wire_name() -> String {
        format!("map[string]{}", T::wire_name())
    }
    fn into_reply(self) -> ApiResult<Reply> {
        json(&Out(&self.0))
    }
}
impl<T: Wire + WireName> IntoReply for NumberedMap<T> {
    fn wire_name() -> String {
        format!("map[int64]{}", T::wire_name())
    }
    fn into_reply(self) -> ApiResult<Reply> {
        let named: BTreeMap<String, T> = self.0.into_iter().map(|(k, v)| (k.to_string(), v)).collect();
        json(&Out(&named))
    }
}
impl<T: WireName> IntoReply for Streamed<ArrayOf<T>> {
    fn wire_name() -> String {
        format!("[]{}", T::wire_name())
    }
    fn into_reply(self) -> ApiResult<Reply> {
        Ok(Reply::new(self.body, JSON))
    }
}
impl<T: WireName> IntoReply for Streamed<Keyed<T>> {
    fn wire_name() -> String {
        format!("map[string]{}", T::wire_name())
    }
    fn into_reply(self) -> ApiResult<Reply> {
        Ok(Reply::new(self.body, JSON))
    }
}
impl IntoReply for PlainStream {
    fn wire_name() -> String {
        "bytes".into()
    }
    fn into_reply(self) -> ApiResult<Reply> {
        Ok(Reply::new(self.0, "text/plain; charset=utf-8"))
    }
}

/// Bytes of some media type that are written while they are made.
pub struct Binary {
    /// The bytes.
    pub body: Body,
    /// Their media type.
    pub media: &'static str,
}

impl IntoReply for Binary {
    fn wire_name() -> String {
        "bytes".into()
    }
    fn into_reply(self) -> ApiResult<Reply> {
        Ok(Reply::new(self.body, self.media))
    }
}

/// A file that is read while it is sent.
pub struct FileReply {
    /// The bytes.
    pub body: Body,
    /// Name and length.
    pub file: NamedFile,
}

impl IntoReply for FileReply {
    fn wire_name() -> String {
        "bytes".into()
    }
    fn into_reply(self) -> ApiResult<Reply> {
        Ok(Reply {
            file: Some(self.file),
            ..Reply::new(self.body, "application/octet-stream")
        })
    }
}

/// An array of whole numbers.
pub struct Numbers(pub Vec<i64>);

impl IntoReply for Numbers {
    fn wire_name() -> String {
        "[]int".into()
    }
    fn into_reply(self) -> ApiResult<Reply> {
        json(&self.0)
    }
}

/// A text, as a JSON string.
pub struct Text(pub String);

impl IntoReply for Text {
    fn wire_name() -> String {
        "string".into()
    }
    fn into_reply(self) -> ApiResult<Reply> {
        json(&self.0)
    }
}

/// An answer of our own endpoints, which no published structure describes.
pub struct Own<T>(pub T);

impl<T: serde::Serialize> IntoReply for Own<T> {
    fn wire_name() -> String {
        "any".into()
    }
    fn into_reply(self) -> ApiResult<Reply> {
        json(&self.0)
    }
}

/// The envelope of a success.
pub type Envelope = Doc<CometAPIResponseMessage>;

/// "OK", as an envelope.
#[must_use]
pub fn done() -> Envelope {
    Doc(CometAPIResponseMessage {
        status: 200,
        message: "OK".into(),
        ..Default::default()
    })
}

/// The envelope of a failure as bytes.
#[must_use]
pub fn failure(error: &ApiError) -> Bytes {
    let status = i64::from(error.status);
    let message = error.message.clone();
    let pending = error.second_factor.as_ref().and_then(|f| f.session_key.clone());
    let text = match pending {
        None => serde_json::to_vec(&CometAPIResponseMessage {
            status,
            message,
            ..Default::default()
        }),
        // What the call that starts a session answers anyway, with the key of one that waits.
        Some(session_key) => serde_json::to_vec(&SessionKeyRegeneratedResponse {
            status,
            message,
            session_key,
            session_type: SessionKind::Admin.word().into(),
            ..Default::default()
        }),
    };
    text.unwrap_or_default().into()
}

/// Who may be handed to a handler.
pub trait CallerKind: Sized + Send {
    /// What the table says.
    const CALLER: Caller;
    /// Takes the authenticated caller.
    ///
    /// # Errors
    /// 403 for one of the other kind.
    fn accept(principal: Principal) -> ApiResult<Self>;
}

/// Anybody.
pub struct Nobody;

impl CallerKind for Nobody {
    const CALLER: Caller = Caller::Nobody;
    fn accept(_: Principal) -> ApiResult<Self> {
        Ok(Nobody)
    }
}
impl CallerKind for Admin {
    const CALLER: Caller = Caller::Admin;
    fn accept(principal: Principal) -> ApiResult<Self> {
        match principal {
            Principal::Admin(a) => Ok(*a),
            _ => Err(ApiError::unauthorised()),
        }
    }
}
impl CallerKind for User {
    const CALLER: Caller = Caller::User;
    fn accept(principal: Principal) -> ApiResult<Self> {
        match principal {
            Principal::User(u) => Ok(*u),
            _ => Err(ApiError::unauthorised()),
        }
    }
}
impl CallerKind for Principal {
    const CALLER: Caller = Caller::AdminOrUser;
    fn accept(principal: Principal) -> ApiResult<Self> {
        match principal {
            Principal::Nobody => Err(ApiError::unauthorised()),
            p => Ok(p),
        }
    }
}

/// An administrator, or anybody where the endpoint is open ([`Route::open_if`]).
pub struct Visitor(pub Option<Admin>);

impl CallerKind for Visitor {
    const CALLER: Caller = Caller::Admin;
    fn accept(principal: Principal) -> ApiResult<Self> {
        match principal {
            Principal::Admin(a) => Ok(Visitor(Some(*a))),
            Principal::Nobody => Ok(Visitor(None)),
            Principal::User(_) => Err(ApiError::unauthorised()),
        }
    }
}

/// One request, past the router.
pub struct Request {
    /// Its form fields.
    pub form: Form,
    /// Where it came from.
    pub origin: Origin,
}

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;
type Handler = Box<dyn Fn(Arc<App>, Request, Principal) -> BoxFuture<ApiResult<Reply>> + Send + Sync>;

/// Where a large file of a call goes, and how large it may be.
pub struct Spool {
    /// Folder.
    pub folder: PathBuf,
    /// Largest file in bytes.
    pub limit: u64,
    /// Held until the call is answered.
    pub room: Box<dyn Send>,
}

/// Decides, before a large file is received, whether a caller may send it.
pub(crate) type Admission = for<'a> fn(&'a App, &'a Principal) -> Admitting<'a>;

/// What an [`Admission`] answers.
pub(crate) type Admitting<'a> = Pin<Box<dyn Future<Output = ApiResult<Spool>> + Send + 'a>>;

/// A declared endpoint with its handler.
pub struct Route {
    /// What the reference shows.
    pub endpoint: Endpoint,
    /// A session that waits for its second factor may call it.
    pub allows_pending: bool,
    /// Starts a session: one that waits for its second factor where only that is missing.
    pub starts_session: bool,
    /// Open to whoever has to change the password first.
    pub before_password_change: bool,
    /// Refuses an administrator with this permission flag.
    pub denied_if: Option<fn(&AdminUserPermissions) -> bool>,
    /// Refuses an organization's administrator without this permission flag.
    pub granted_if: Option<fn(&AdminUserPermissions) -> bool>,
    /// Asks nobody to log in while the configuration says so.
    pub open_if: Option<fn(&App, &Origin) -> bool>,
    /// Takes a file that is too large for memory: the part of a multipart body with this name, after the fields.
    pub large_file: Option<(&'static str, Admission)>,
    handler: Handler,
}

/// What a handler is called with: the request's origin beside its typed parameters.
pub struct Call<P> {
    /// Parameters.
    pub params: P,
    /// Where the request came from.
    pub origin: Origin,
    /// All form fields, for the calls that start a session and read the credentials themselves.
    pub form: Form,
}

impl Route {
    /// Declares an endpoint. `POST` and open to tenants' administrators unless said otherwise.
    pub fn new<C, P, R, F, Fut>(
        name: &'static str,
        path: &'static str,
        summary: &'static str,
        handler: F,
    ) -> Self
    where
        C: CallerKind + 'static,
        P: FromForm + Send + 'static,
        R: IntoReply + 'static,
        F: Fn(Arc<App>, C, Call<P>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ApiResult<R>> + Send + 'static,
    {
        Self {
            endpoint: Endpoint {
                name,
                path,
                method: "POST",
                caller: C::CALLER,
                top_level_only: false,
                roles: &[],
                params: P::PARAMS,
                response: R::wire_name(),
                summary,
                support: Support::Supported,
            },
            allows_pending: false,
            starts_session: false,
            before_password_change: false,
            denied_if: None,
            granted_if: None,
            open_if: None,
            large_file: None,
            handler: Box::new(move |app, request, principal| {
                let parsed = C::accept(principal).and_then(|c| P::from_form(&request.form).map(|p| (c, p)));
                match parsed {
                    Err(e) => Box::pin(async move { Err(e) }),
                    Ok((caller, params)) => {
                        let call = Call {
                            params,
                            origin: request.origin,
                            form: request.form,
                        };
                        let answer = handler(app, caller, call);
                        Box::pin(async move { answer.await?.into_reply() })
                    }
                }
            }),
        }
    }

    /// Roles that must be switched on.
    #[must_use]
    pub fn roles(mut self, roles: &'static [Role]) -> Self {
        self.endpoint.roles = roles;
        self
    }

    /// Refuses administrators of an organization.
    #[must_use]
    pub fn top_level(mut self) -> Self {
        self.endpoint.top_level_only = true;
        self
    }

    /// Refuses administrators for whom the flag says so.
    #[must_use]
    pub fn denied_if(mut self, flag: fn(&AdminUserPermissions) -> bool) -> Self {
        self.denied_if = Some(flag);
        self
    }

    /// Refuses an organization's administrators unless the flag says so.
    #[must_use]
    pub fn granted_if(mut self, flag: fn(&AdminUserPermissions) -> bool) -> Self {
        self.granted_if = Some(flag);
        self
    }

    /// Asks nobody to log in while the configuration says so. The handler takes a [`Visitor`].
    #[must_use]
    pub fn open_if(mut self, flag: fn(&App, &Origin) -> bool) -> Self {
        self.open_if = Some(flag);
        self
    }

    /// Takes a file that is too large for memory.
    #[must_use]
    pub fn takes_file(mut self, part: &'static str, admission: Admission) -> Self {
        self.large_file = Some((part, admission));
        self
    }

    /// Open to a session that waits for its second factor.
    #[must_use]
    pub fn allow_pending(mut self) -> Self {
        self.allows_pending = true;
        self
    }

    /// Starts a session.
    #[must_use]
    pub fn starts_session(mut self) -> Self {
        self.starts_session = true;
        self.before_password_change = true;
        self
    }

    /// Open to whoever has to change the password first.
    #[must_use]
    pub fn before_password_change(mut self) -> Self {
        self.before_password_change = true;
        self
    }

    /// Answers `GET` (and `POST`, which one SDK uses).
    #[must_use]
    pub fn get(mut self) -> Self {
        self.endpoint.method = "GET";
        self
    }

    /// Declares the type of the answer where the handler's own type does not tell.
    #[must_use]
    pub fn responds(mut self, name: &str) -> Self {
        self.endpoint.response = name.to_string();
        self
    }

    pub(crate) fn support(mut self, support: Support) -> Self {
        self.endpoint.support = support;
        self
    }

    /// Checks the caller, then runs the handler.
    ///
    /// # Errors
    /// What the client may read.
    pub async fn serve(&self, app: Arc<App>, request: Request) -> ApiResult<Reply> {
        let principal = self.admit(&app, &request).await?;
        self.handle(app, request, principal).await
    }

    /// Runs the handler for a caller whom [`Route::admit`] answered.
    ///
    /// # Errors
    /// What the client may read.
    pub async fn handle(&self, app: Arc<App>, request: Request, principal: Principal) -> ApiResult<Reply> {
        let asker = principal.asker(&request.origin);
        asked_by(asker, (self.handler)(app, request, principal)).await
    }

    /// Who calls, if they may.
    ///
    /// # Errors
    /// What the client may read.
    pub async fn admit(&self, app: &App, request: &Request) -> ApiResult<Principal> {
        let config = app.config();
        for role in self.endpoint.roles {
            let on = match role {
                Role::Auth => config.authentication_role.role_enabled,
                Role::Storage => config.storage_role.role_enabled,
                Role::SoftwareBuild => config.software_build_role.role_enabled,
                Role::Constellation => config.constellation_role.role_enabled,
            };
            if !on {
                return Err(ApiError::forbidden(format!(
                    "The {} role of this server is switched off",
                    role.word()
                )));
            }
        }
        let comes_without = request.form.get("AuthType").is_none_or(str::is_empty);
        if comes_without && self.open_if.is_some_and(|open| open(app, &request.origin)) {
            return Ok(Principal::Nobody);
        }
        let principal = crate::auth::authenticate(app, request, self).await?;
        if !self.before_password_change {
            principal.check_password_is_kept()?;
        }
        if let Principal::Admin(admin) = &principal {
            if self.endpoint.top_level_only && !admin.organization.is_empty() {
                return Err(ApiError::forbidden("Only for administrators of the top level"));
            }
            let denied = self.denied_if.is_some_and(|flag| flag(&admin.permissions));
            let ungranted = !admin.organization.is_empty()
                && self.granted_if.is_some_and(|flag| !flag(&admin.permissions));
            if denied || ungranted {
                return Err(ApiError::forbidden("Your permissions do not allow this"));
            }
        }
        Ok(principal)
    }
}

/// All endpoints.
pub struct Table {
    routes: Vec<Route>,
    by_path: HashMap<&'static str, usize>,
}

impl Table {
    /// Gathers what every capability declares.
    ///
    /// # Panics
    /// Two endpoints of the same path: a fault of the program, seen at its first start.
    #[must_use]
    pub fn new(routes: Vec<Route>) -> Self {
        let mut by_path = HashMap::new();
        for (i, route) in routes.iter().enumerate() {
            assert!(
                by_path.insert(route.endpoint.path, i).is_none(),
                "{} is declared twice",
                route.endpoint.path
            );
        }
        Self { routes, by_path }
    }

    /// The endpoint of a path.
    #[must_use]
    pub fn find(&self, path: &str) -> Option<&Route> {
        self.by_path.get(path).map(|&i| &self.routes[i])
    }

    /// Every endpoint, by path.
    pub fn endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        let mut all: Vec<&Endpoint> = self.routes.iter().map(|r| &r.endpoint).collect();
        all.sort_by_key(|e| e.path);
        all.into_iter()
    }
}
