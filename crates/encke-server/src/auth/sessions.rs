//! Sessions: start, use, idle time-out, revocation (reference, section 4.2).

use super::{Admin, Principal, User};
use crate::app::{App, now, store_error};
use crate::table::{Call, Doc, Envelope, Route, done};
use encke_api::constants::{
    DEFAULT_SESSIONTIMEOUT, SEVT_ACCOUNT_ADMIN_SESSION_EXPIRE, SEVT_ACCOUNT_ADMIN_SESSION_REVOKE,
    SEVT_ACCOUNT_ADMIN_SESSION_START, SEVT_ACCOUNT_SESSION_EXPIRE, SEVT_ACCOUNT_SESSION_REVOKE,
    SEVT_ACCOUNT_SESSION_START,
};
use encke_api::endpoint::Role;
use encke_api::form::NoParams;
use encke_api::types::{AllowedAdminUser, SessionKeyRegeneratedResponse};
use encke_api::{ApiError, ApiResult, params};
use encke_store::{EventDraft, SessionKind, StoreError, StoredSession};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// Sessions kept in memory.
const CACHED: u64 = 50_000;
/// The last use is written to the store at most this often, in seconds.
const TOUCH_EVERY: i64 = 60;
/// A session waits this long for its second factor, in seconds.
const PENDING: i64 = 300;
/// Longest idle time that can be configured: two days.
const MAX_IDLE: i64 = 48 * 3600;

struct Cached {
    session: Arc<StoredSession>,
    used: AtomicI64,
    written: AtomicI64,
}

/// Sessions in use.
pub struct Sessions {
    cache: moka::sync::Cache<String, Arc<Cached>>,
}

impl Default for Sessions {
    fn default() -> Self {
        let cache = moka::sync::Cache::builder()
            .max_capacity(CACHED)
            .time_to_live(Duration::from_secs(300))
            .build();
        Self { cache }
    }
}

impl Sessions {
    /// The session of a key, if it lives, and notes its use.
    ///
    /// # Errors
    /// 500 when the store fails.
    pub async fn find(&self, app: &App, key: &str) -> ApiResult<Option<Arc<StoredSession>>> {
        if key.is_empty() || key.len() > 256 {
            return Ok(None);
        }
        let hash = StoredSession::hash_of(key);
        let cached = if let Some(cached) = self.cache.get(&hash) {
            cached
        } else {
            let Some(stored) = app.store.session(&hash).await.map_err(store_error)? else {
                return Ok(None);
            };
            let used = AtomicI64::new(stored.used);
            let written = AtomicI64::new(stored.used);
            let cached = Arc::new(Cached {
                session: Arc::new(stored),
                used,
                written,
            });
            self.cache.insert(hash.clone(), cached.clone());
            cached
        };
        let now = now();
        if cached.session.pending && now - cached.session.created > PENDING {
            self.end(app, &cached.session, None).await?;
            return Ok(None);
        }
        if now - cached.used.load(Ordering::Relaxed) > idle_seconds(app) {
            self.end(app, &cached.session, expire_event(&cached.session))
                .await?;
            return Ok(None);
        }
        cached.used.store(now, Ordering::Relaxed);
        let written = cached.written.load(Ordering::Relaxed);
        let due = now - written >= TOUCH_EVERY
            && cached
                .written
                .compare_exchange(written, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if due {
            app.store.touch_session(&hash, now).await.map_err(store_error)?;
        }
        Ok(Some(cached.session.clone()))
    }

    async fn end(&self, app: &App, session: &StoredSession, event: Option<EventDraft>) -> ApiResult<bool> {
        let ended = app
            .store
            .end_session(&session.key_hash, event)
            .await
            .map_err(store_error)?;
        self.cache.invalidate(&session.key_hash);
        Ok(ended)
    }

    /// Forgets cached sessions of a name, whose rows were changed or removed.
    pub fn forget(&self, kind: SessionKind, name: &str) {
        let keys: Vec<_> = self
            .cache
            .iter()
            .filter(|(_, c)| c.session.kind == kind && c.session.name == name)
            .map(|(k, _)| k.as_ref().clone())
            .collect();
        for key in keys {
            self.cache.invalidate(&key);
        }
    }
}

/// Seconds without a call after which a session ends.
pub(crate) fn idle_seconds(app: &App) -> i64 {
    match i64::try_from(app.config().session_settings.expired_in_seconds).unwrap_or(MAX_IDLE) {
        0 => DEFAULT_SESSIONTIMEOUT,
        n => n.min(MAX_IDLE),
    }
}

fn event(session: &StoredSession, actor: &str, admin: i64, user: i64) -> EventDraft {
    let is_user = session.kind == SessionKind::User;
    EventDraft {
        actor: actor.to_string(),
        organization: session.organization.clone(),
        resource: session.name.clone(),
        kind: if is_user { user } else { admin },
        data: Value::Null,
    }
}

/// A session that never got its second factor never began, so nothing tells of its end.
fn expire_event(session: &StoredSession) -> Option<EventDraft> {
    let expired = event(
        session,
        "",
        SEVT_ACCOUNT_ADMIN_SESSION_EXPIRE,
        SEVT_ACCOUNT_SESSION_EXPIRE,
    );
    (!session.pending).then_some(expired)
}

fn start_event(session: &StoredSession, actor: &str) -> EventDraft {
    let data = json!({
        "Username": session.name,
        "OrganizationID": session.organization,
        "SessionType": session.kind.word(),
        "CreateTime": session.created,
    });
    let (admin, user) = (SEVT_ACCOUNT_ADMIN_SESSION_START, SEVT_ACCOUNT_SESSION_START);
    EventDraft {
        data,
        ..event(session, actor, admin, user)
    }
}

fn revoke_event(session: &StoredSession, actor: &str) -> EventDraft {
    let (admin, user) = (SEVT_ACCOUNT_ADMIN_SESSION_REVOKE, SEVT_ACCOUNT_SESSION_REVOKE);
    event(session, actor, admin, user)
}

/// Ends all sessions of one name.
///
/// # Errors
/// 500 when the store fails.
pub(crate) async fn end_sessions_of(
    app: &App,
    actor: &str,
    kind: SessionKind,
    name: &str,
    organization: &str,
) -> ApiResult<()> {
    let actor = actor.to_string();
    let told = move |session: &StoredSession| revoke_event(session, &actor);
    app.store
        .end_sessions_of(kind, name, organization, told)
        .await
        .map_err(store_error)?;
    app.sessions.forget(kind, name);
    Ok(())
}

/// Ends idle sessions now and then until the server stops.
pub async fn sweep(app: Arc<App>) {
    let mut timer = tokio::time::interval(Duration::from_secs(60));
    loop {
        tokio::select! {
            () = app.stopping.cancelled() => return,
            _ = timer.tick() => {}
        }
        // The stored time of use may lag behind by `TOUCH_EVERY`.
        let before = now() - idle_seconds(&app) - 2 * TOUCH_EVERY;
        let idle = match app.store.idle_sessions(before).await {
            Ok(idle) => idle,
            Err(e) => {
                tracing::warn!(error = %e, "idle sessions could not be listed");
                continue;
            }
        };
        for session in idle {
            let _ = app.sessions.end(&app, &session, expire_event(&session)).await;
        }
    }
}

/// Keeps a new session and answers its key, the only time it is seen. `by` is an administrator who starts it for
/// somebody else.
async fn add(
    app: &App,
    by: Option<&Admin>,
    kind: SessionKind,
    name: &str,
    organization: &str,
    pending: bool,
) -> ApiResult<String> {
    let mut bytes = [0u8; 32];
    getrandom::fill(&mut bytes).map_err(|_| ApiError::internal())?;
    let key = hex::encode(bytes);
    let session = StoredSession {
        key_hash: StoredSession::hash_of(&key),
        kind,
        name: name.to_string(),
        organization: organization.to_string(),
        pending,
        created: now(),
        used: now(),
        started_by: by.map(|a| a.name.clone()).unwrap_or_default(),
    };
    let actor = by.map_or(name, |a| &a.name);
    let started = (!pending).then(|| start_event(&session, actor));
    app.store
        .add_session(session, started)
        .await
        .map_err(store_error)?;
    Ok(key)
}

/// Starts a session of an administrator, which may have to wait for its second factor. Answers its key.
///
/// # Errors
/// 500 when the store fails.
pub(super) async fn start_waiting(app: &App, admin: &AllowedAdminUser, pending: bool) -> ApiResult<String> {
    let (name, organization) = (&admin.username, &admin.organization_id);
    add(app, None, SessionKind::Admin, name, organization, pending).await
}

async fn start(
    app: &App,
    by: Option<&Admin>,
    kind: SessionKind,
    name: &str,
    organization: &str,
) -> ApiResult<Doc<SessionKeyRegeneratedResponse>> {
    let key = add(app, by, kind, name, organization, false).await?;
    Ok(Doc(SessionKeyRegeneratedResponse {
        status: 200,
        message: "OK".into(),
        session_key: key,
        session_type: kind.word().into(),
        ..Default::default()
    }))
}

params! {
    /// Parameters of `AdminAccountSessionStart`.
    struct SessionStart {
        /// The address by which the caller reaches this server.
        SelfAddress: Option<String>
    }
}

params! {
    /// Parameters of `AdminAccountSessionStartAsUser`.
    struct StartAsUser {
        /// The account to act as.
        TargetUser: String
    }
}

params! {
    /// Parameters of `AdminAccountSessionUpgrade`.
    struct SessionUpgrade {
        /// The key that waits for its second factor.
        SessionKey: String
    }
}

async fn admin_start(
    app: Arc<App>,
    admin: Admin,
    call: Call<SessionStart>,
) -> ApiResult<Doc<SessionKeyRegeneratedResponse>> {
    let _ = call.params.SelfAddress;
    start(&app, None, SessionKind::Admin, &admin.name, &admin.organization).await
}

async fn admin_start_as_user(
    app: Arc<App>,
    admin: Admin,
    call: Call<StartAsUser>,
) -> ApiResult<Doc<SessionKeyRegeneratedResponse>> {
    let profile = crate::users::profile_of(&app, &admin.scope(), &call.params.TargetUser).await?;
    start(
        &app,
        Some(&admin),
        SessionKind::User,
        &profile.username,
        &profile.organization,
    )
    .await
}

async fn admin_revoke(app: Arc<App>, admin: Admin, _: Call<NoParams>) -> ApiResult<Envelope> {
    revoke(&app, &admin.name, admin.session.as_deref()).await
}

async fn admin_upgrade(app: Arc<App>, admin: Admin, call: Call<SessionUpgrade>) -> ApiResult<Envelope> {
    let session = app.sessions.find(&app, &call.params.SessionKey).await?;
    let own = session.filter(|s| {
        s.kind == SessionKind::Admin && s.name == admin.name && s.organization == admin.organization
    });
    let session = own.ok_or_else(ApiError::unauthorised)?;
    if !session.pending {
        return Ok(done());
    }
    // Who signed in for this call by password has proved every factor with it.
    if admin.session.is_some() {
        super::lift(&app, &session, &call.form, &call.origin).await?;
    }
    let started = start_event(&session, &admin.name);
    match app.store.upgrade_session(&session.key_hash, started).await {
        // Two at once: one was first.
        Ok(()) | Err(StoreError::NotFound) => {}
        Err(e) => return Err(store_error(e)),
    }
    app.sessions.forget(SessionKind::Admin, &admin.name);
    Ok(done())
}

async fn revoke(app: &App, actor: &str, session: Option<&StoredSession>) -> ApiResult<Envelope> {
    let Some(session) = session else {
        return Err(ApiError::bad_request(
            "Only a call with a session key can revoke its session",
        ));
    };
    app.sessions
        .end(app, session, Some(revoke_event(session, actor)))
        .await?;
    Ok(done())
}

async fn user_start(
    app: Arc<App>,
    user: User,
    _: Call<NoParams>,
) -> ApiResult<Doc<SessionKeyRegeneratedResponse>> {
    start(&app, None, SessionKind::User, &user.name, &user.organization).await
}

async fn user_revoke(app: Arc<App>, user: User, _: Call<NoParams>) -> ApiResult<Envelope> {
    revoke(&app, &user.name, user.session.as_deref()).await
}

async fn hybrid_start(
    app: Arc<App>,
    principal: Principal,
    _: Call<NoParams>,
) -> ApiResult<Doc<SessionKeyRegeneratedResponse>> {
    match principal {
        Principal::Admin(a) => start(&app, None, SessionKind::Admin, &a.name, &a.organization).await,
        Principal::User(u) => start(&app, None, SessionKind::User, &u.name, &u.organization).await,
        Principal::Nobody => Err(ApiError::unauthorised()),
    }
}

/// Endpoints of sessions.
#[must_use]
pub fn routes() -> Vec<Route> {
    vec![
        Route::new(
            "AdminAccountSessionStart",
            "/api/v1/admin/account/session-start",
            "Starts an administrator's session and answers its key.",
            admin_start,
        )
        .starts_session(),
        Route::new(
            "AdminAccountSessionStartAsUser",
            "/api/v1/admin/account/session-start-as-user",
            "Starts a session of an end user on an administrator's authority.",
            admin_start_as_user,
        ),
        Route::new(
            "AdminAccountSessionRevoke",
            "/api/v1/admin/account/session-revoke",
            "Ends the session whose key the call came with.",
            admin_revoke,
        )
        .before_password_change(),
        Route::new(
            "AdminAccountSessionUpgrade",
            "/api/v1/admin/account/session-upgrade",
            "Lifts a session that waits for its second factor: `TOTP` or `WebAuthnSign` comes along. Such a session comes with the 449 of the call that should have started one, and waits five minutes.",
            admin_upgrade,
        )
        .allow_pending()
        .before_password_change(),
        Route::new(
            "UserWebSessionStart",
            "/api/v1/user/web/session/start",
            "Starts an end user's session and answers its key.",
            user_start,
        )
        .roles(&[Role::Auth])
        .starts_session(),
        Route::new(
            "UserWebSessionRevoke",
            "/api/v1/user/web/session/revoke",
            "Ends the session whose key the call came with.",
            user_revoke,
        )
        .roles(&[Role::Auth])
        .before_password_change(),
        Route::new(
            "HybridSessionStart",
            "/api/v1/hybrid/session/start",
            "Starts a session of whichever kind of account the credentials fit, administrators first.",
            hybrid_start,
        )
        .starts_session(),
    ]
}
