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
use encke_api::types::SessionKeyRegeneratedResponse;
use encke_api::{ApiError, ApiResult, params};
use encke_store::{EventDraft, SessionKind, StoredSession};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// Sessions kept in memory.
const CACHED: u64 = 50_000;
/// The last use is written to the store at most this often, in seconds.
const TOUCH_EVERY: i64 = 60;
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

    async fn end(&self, app: &App, session: &StoredSession, event: EventDraft) -> ApiResult<bool> {
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
        username: is_user.then(|| session.name.clone()),
        resource: session.name.clone(),
        kind: if is_user { user } else { admin },
        data: Value::Null,
    }
}

fn expire_event(session: &StoredSession) -> EventDraft {
    event(
        session,
        "",
        SEVT_ACCOUNT_ADMIN_SESSION_EXPIRE,
        SEVT_ACCOUNT_SESSION_EXPIRE,
    )
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

/// Starts a session and answers its key, the only time it is seen.
async fn start(
    app: &App,
    actor: &str,
    kind: SessionKind,
    name: &str,
    organization: &str,
) -> ApiResult<Doc<SessionKeyRegeneratedResponse>> {
    let mut bytes = [0u8; 32];
    getrandom::fill(&mut bytes).map_err(|_| ApiError::internal())?;
    let key = hex::encode(bytes);
    let session = StoredSession {
        key_hash: StoredSession::hash_of(&key),
        kind,
        name: name.to_string(),
        organization: organization.to_string(),
        pending: false,
        created: now(),
        used: now(),
    };
    let mut started = event(
        &session,
        actor,
        SEVT_ACCOUNT_ADMIN_SESSION_START,
        SEVT_ACCOUNT_SESSION_START,
    );
    started.data = json!({ "Username": name, "OrganizationID": organization, "SessionType": kind.word(), "CreateTime": session.created });
    app.store
        .add_session(session, started)
        .await
        .map_err(store_error)?;
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
    start(
        &app,
        &admin.name,
        SessionKind::Admin,
        &admin.name,
        &admin.organization,
    )
    .await
}

async fn admin_start_as_user(
    app: Arc<App>,
    admin: Admin,
    call: Call<StartAsUser>,
) -> ApiResult<Doc<SessionKeyRegeneratedResponse>> {
    let profile = crate::users::profile_of(&app, &admin.scope(), &call.params.TargetUser).await?;
    start(
        &app,
        &admin.name,
        SessionKind::User,
        &profile.username,
        &profile.organization,
    )
    .await
}

async fn admin_revoke(app: Arc<App>, admin: Admin, _: Call<NoParams>) -> ApiResult<Envelope> {
    revoke(&app, &admin.name, admin.session.as_deref()).await
}

async fn admin_upgrade(app: Arc<App>, _: Admin, call: Call<SessionUpgrade>) -> ApiResult<Envelope> {
    // A key that came with its second factor is whole from the start, so there is nothing to lift unless an external
    // log-in left it pending.
    let hash = StoredSession::hash_of(&call.params.SessionKey);
    match app.store.session(&hash).await.map_err(store_error)? {
        Some(s) if s.pending => Err(ApiError::second_factor_required()),
        Some(_) => Ok(done()),
        None => Err(ApiError::unauthorised()),
    }
}

async fn revoke(app: &App, actor: &str, session: Option<&StoredSession>) -> ApiResult<Envelope> {
    let Some(session) = session else {
        return Err(ApiError::bad_request(
            "Only a call with a session key can revoke its session",
        ));
    };
    let ended = event(
        session,
        actor,
        SEVT_ACCOUNT_ADMIN_SESSION_REVOKE,
        SEVT_ACCOUNT_SESSION_REVOKE,
    );
    app.sessions.end(app, session, ended).await?;
    Ok(done())
}

async fn user_start(
    app: Arc<App>,
    user: User,
    _: Call<NoParams>,
) -> ApiResult<Doc<SessionKeyRegeneratedResponse>> {
    start(
        &app,
        &user.name,
        SessionKind::User,
        &user.name,
        &user.organization,
    )
    .await
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
        Principal::Admin(a) => start(&app, &a.name, SessionKind::Admin, &a.name, &a.organization).await,
        Principal::User(u) => start(&app, &u.name, SessionKind::User, &u.name, &u.organization).await,
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
        ),
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
        ),
        Route::new(
            "AdminAccountSessionUpgrade",
            "/api/v1/admin/account/session-upgrade",
            "Lifts a session that waits for its second factor.",
            admin_upgrade,
        )
        .allow_pending(),
        Route::new(
            "UserWebSessionStart",
            "/api/v1/user/web/session/start",
            "Starts an end user's session and answers its key.",
            user_start,
        )
        .roles(&[Role::Auth]),
        Route::new(
            "UserWebSessionRevoke",
            "/api/v1/user/web/session/revoke",
            "Ends the session whose key the call came with.",
            user_revoke,
        )
        .roles(&[Role::Auth]),
        Route::new(
            "HybridSessionStart",
            "/api/v1/hybrid/session/start",
            "Starts a session of whichever kind of account the credentials fit, administrators first.",
            hybrid_start,
        ),
    ]
}
