//! Install tokens. A token stands once for the account's log-in, so the keys made from the password are kept with it:
//! sealed with a key made from the token, which the server forgets. A stolen database opens nothing.

use crate::app::{App, now, store_error};
use crate::auth::{Admin, throttled};
use crate::live::{register, still_right};
use crate::origin::Origin;
use crate::table::{Call, Doc, Route};
use crate::users::profile_of;
use encke_api::account_keys::WrappingKey;
use encke_api::live::{Hello, TokenKeys};
use encke_api::types::{InstallToken, InstallTokenResponse, UserProfileConfig};
use encke_api::{ApiError, ApiResult, params};
use encke_store::{Scope, StoredProfile, StoredSession, StoredToken};
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// Seconds a token is good for. Nothing is published; a day lets a roll-out reach machines that are switched on in the
/// morning.
const LIFETIME: i64 = 24 * 3600;
/// Longest address, in bytes.
const MAX_ADDRESS: usize = 255;

params! {
    /// Parameters of `AdminCreateInstallToken`.
    struct Create {
        /// The account that a device shall register with.
        TargetUser: String,
        /// Its password.
        TargetPassword: String,
        /// Address that the device shall use from then on; the one it comes by if left out.
        Server: Option<String>
    }
}

/// The key that only the token's holder can make.
fn key_of(token: &str) -> WrappingKey {
    let digest = Sha256::digest(format!("encke install token\n{token}"));
    WrappingKey::from_bytes(digest.into())
}

fn place(username: &str) -> String {
    format!("install:{username}")
}

fn internal(e: impl std::fmt::Display) -> ApiError {
    tracing::error!(error = %e, "an install token could not be made");
    ApiError::internal()
}

async fn create(app: Arc<App>, admin: Admin, call: Call<Create>) -> ApiResult<Doc<InstallTokenResponse>> {
    let p = call.params;
    let server = p.Server.unwrap_or_default().trim().to_string();
    let is_web = server.starts_with("https://") || server.starts_with("http://");
    if !server.is_empty() && (!is_web || server.len() > MAX_ADDRESS) {
        return Err(ApiError::bad_request(
            "Server must be an address such as https://backup.example.org/",
        ));
    }
    let stored = profile_of(&app, &admin.scope(), &p.TargetUser).await?;
    let profile: UserProfileConfig = stored.parse().map_err(store_error)?;
    let keys = throttled(&app, &call.origin, &profile.username, async {
        let keys = app
            .passwords
            .keys(&profile.password_hash, &p.TargetPassword)
            .await?;
        keys.ok_or_else(|| ApiError::forbidden("The account's password is wrong"))
    })
    .await?;
    let mut random = [0u8; 32];
    getrandom::fill(&mut random).map_err(internal)?;
    let token = hex::encode(random);
    let contents = TokenKeys {
        username: profile.username.clone(),
        login_key: keys.login.to_text(),
        wrapping_key: keys.wrapping.to_text(),
        server: server.clone(),
    };
    let text = zeroize::Zeroizing::new(serde_json::to_vec(&contents).map_err(internal)?);
    let created = now();
    let kept = StoredToken {
        hash: StoredSession::hash_of(&token),
        username: profile.username.clone(),
        server: server.clone(),
        sealed: key_of(&token)
            .wrap(&place(&profile.username), &text)
            .map_err(internal)?,
        created,
        expires: created + LIFETIME,
    };
    app.store.add_install_token(kept).await.map_err(store_error)?;
    Ok(Doc(InstallTokenResponse {
        status: 200,
        message: "OK".into(),
        install_token: InstallToken {
            username: profile.username.clone(),
            server: if server.is_empty() {
                crate::organizations::login_url_of(&app, &profile.organization_id).unwrap_or_default()
            } else {
                server
            },
            token,
            create_time: created,
            used: false,
            expire_time: created + LIFETIME,
            ..Default::default()
        },
        ..Default::default()
    }))
}

/// A token that a device brought, taken.
pub(crate) struct Taken {
    /// What it stands for.
    pub keys: TokenKeys,
    hash: String,
}

impl Taken {
    /// Gives it back: the device never heard of it.
    pub(crate) async fn give_back(self, app: &App) {
        if let Err(e) = app.store.return_install_token(&self.hash).await {
            tracing::warn!(error = %e, "an install token could not be given back");
        }
    }
}

/// Registers the device that brought a token. A token that does not lead to a registration is as good as before.
///
/// # Errors
/// 403 for a token that is unknown, used or expired, or whose account does not let a device in.
pub(crate) async fn redeem(app: &App, hello: &Hello, origin: &Origin) -> ApiResult<(StoredProfile, Taken)> {
    // Who guesses tokens is slowed down by address.
    throttled(app, origin, "\0install token", async {
        let hash = StoredSession::hash_of(&hello.install_token);
        let taken = app.store.take_install_token(&hash, now()).await;
        let taken = taken
            .map_err(store_error)?
            .ok_or_else(|| ApiError::forbidden("The install token is unknown, used or expired"))?;
        match admit(app, hello, &taken).await {
            Ok((stored, keys)) => Ok((stored, Taken { keys, hash })),
            Err(e) => {
                app.store.return_install_token(&hash).await.map_err(store_error)?;
                Err(e)
            }
        }
    })
    .await
}

async fn admit(app: &App, hello: &Hello, taken: &StoredToken) -> ApiResult<(StoredProfile, TokenKeys)> {
    let text = key_of(&hello.install_token)
        .unwrap_secret(&place(&taken.username), &taken.sealed)
        .map_err(internal)?;
    let keys: TokenKeys = serde_json::from_slice(&text).map_err(internal)?;
    let stored = profile_of(app, &Scope::All, &keys.username)
        .await
        .map_err(|_| ApiError::unauthorised())?;
    let profile: UserProfileConfig = stored.parse().map_err(store_error)?;
    if !still_right(&profile, &keys.login_key) {
        return Err(ApiError::forbidden(
            "The account's password was changed since the install token was made",
        ));
    }
    crate::auth::check_organization(app, &profile.organization_id)?;
    if profile.is_suspended {
        return Err(ApiError::forbidden("This account is suspended"));
    }
    if profile.devices.contains_key(&hello.device_id) {
        return Ok((stored, keys));
    }
    // No one-time code is asked for: an administrator who knew the password made the token.
    Ok((register(app, &keys.username, hello).await?, keys))
}

pub(super) fn routes() -> Vec<Route> {
    vec![Route::new(
        "AdminCreateInstallToken",
        "/api/v1/admin/create-install-token",
        "Makes a token by which one device registers with an account without its password or one-time code: `encke agent register --token`. It is good for a day and one registration, and void once the password changes.",
        create,
    )]
}
