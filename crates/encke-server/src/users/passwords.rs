//! Passwords of accounts: set, change and reset. Vault keys hang on the password, so a new one wraps them anew
//! (DESIGN D5; reference, section 7.2).

use super::{change_within, profile_of};
use crate::app::{App, store_error};
use crate::auth::{Admin, User};
use crate::policies::apply::starts_on;
use crate::table::{Call, Envelope, Route, done};
use encke_api::account_keys::{
    PASSWORD_FORMAT_ENCKE, WrappingKey, bucket_key_place, recovery_place, vault_key_place,
};
use encke_api::types::UserProfileConfig;
use encke_api::{ApiError, ApiResult, params};
use encke_store::{Scope, SessionKind, StoredProfile};
use std::sync::Arc;

/// Shortest password of an account, in characters.
const MIN_PASSWORD: usize = 8;

params! {
    /// Parameters of `AdminResetUserPassword`.
    struct Reset {
        /// Account name.
        TargetUser: String,
        /// The new password in clear.
        NewPassword: String,
        /// The present password, needed where no recovery code was kept.
        OldPassword: Option<String>
    }
}

params! {
    /// Parameters of `UserWebAccountResetPassword`.
    struct OwnReset {
        /// Hash of the profile as the caller knows it.
        ProfileHash: String,
        /// The present password in clear.
        OldPassword: String,
        /// The new password in clear.
        NewPassword: String
    }
}

fn check(password: &str) -> ApiResult<()> {
    if password.chars().count() < MIN_PASSWORD {
        return Err(ApiError::bad_request(format!(
            "The password must have at least {MIN_PASSWORD} characters"
        )));
    }
    if password.chars().any(|c| c == '\n' || c == '\r') {
        return Err(ApiError::bad_request("The password must be one line"));
    }
    Ok(())
}

/// Sets a password that nothing hangs on yet. With `recovery` what a later reset needs is kept, readable by this
/// server's key only. Answers the half that wraps secrets.
///
/// # Errors
/// 400 for a password that breaks the rules.
pub(super) async fn set(
    app: &App,
    profile: &mut UserProfileConfig,
    password: &str,
    recovery: bool,
) -> ApiResult<WrappingKey> {
    check(password)?;
    let (stored, keys) = app.passwords.create(password).await?;
    profile.password_format = PASSWORD_FORMAT_ENCKE;
    profile.password_hash = stored.to_text();
    profile.password_recovery = if recovery {
        app.server_key
            .wrap(
                &recovery_place(&profile.username),
                keys.wrapping.to_text().as_bytes(),
            )
            .map_err(|_| ApiError::internal())?
    } else {
        String::new()
    };
    Ok(keys.wrapping.clone())
}

/// The half of the present password that opens the profile's secrets: by the recovery code, or by the password itself.
async fn present_key(
    app: &App,
    profile: &UserProfileConfig,
    password: Option<&str>,
) -> ApiResult<WrappingKey> {
    if let Some(password) = password.filter(|p| !p.is_empty()) {
        let keys = app.passwords.keys(&profile.password_hash, password).await?;
        return keys
            .map(|k| k.wrapping.clone())
            .ok_or_else(|| ApiError::forbidden("The present password is wrong"));
    }
    if profile.password_recovery.is_empty() {
        return Err(ApiError::bad_request(
            "No recovery code was kept for this account; its present password is needed as OldPassword",
        ));
    }
    let damaged = |_| {
        ApiError::new(
            409,
            "The account's recovery code can not be opened with this server's key",
        )
    };
    let text = app
        .server_key
        .unwrap_secret(&recovery_place(&profile.username), &profile.password_recovery)
        .map_err(damaged)?;
    WrappingKey::from_text(&String::from_utf8_lossy(&text)).map_err(damaged)
}

/// Wraps every secret of a profile with another key.
fn rewrap(profile: &mut UserProfileConfig, old: &WrappingKey, new: &WrappingKey) -> ApiResult<()> {
    for (id, vault) in &mut profile.destinations {
        let secrets = [
            (&mut vault.encrypted_encryption_key, vault_key_place(id)),
            (&mut vault.comet_bucket_key, bucket_key_place(id)),
        ];
        for (value, place) in secrets {
            if !WrappingKey::is_wrapped(value) {
                continue;
            }
            let secret = old.unwrap_secret(&place, value).map_err(|_| {
                ApiError::new(
                    409,
                    format!("The keys of Storage Vault '{id}' can not be opened; nothing was changed"),
                )
            })?;
            *value = new.wrap(&place, &secret).map_err(|_| ApiError::internal())?;
        }
    }
    Ok(())
}

/// Gives an account another password, on the profile as it was read.
async fn replace(
    app: &App,
    scope: &Scope,
    actor: &str,
    stored: &StoredProfile,
    old_password: Option<&str>,
    new_password: &str,
    must_change: bool,
) -> ApiResult<()> {
    check(new_password)?;
    let before: UserProfileConfig = stored.parse().map_err(store_error)?;
    let old = present_key(app, &before, old_password).await?;
    let mut after = before.clone();
    let new = set(
        app,
        &mut after,
        new_password,
        !before.password_recovery.is_empty(),
    )
    .await?;
    rewrap(&mut after, &old, &new)?;
    after.require_password_change = must_change;
    change_within(
        app,
        scope,
        actor,
        &stored.username,
        Some(&stored.hash),
        |profile| {
            profile.clone_from(&after);
            Ok(())
        },
    )
    .await?;
    let (name, organization) = (&stored.username, &stored.organization);
    crate::auth::end_sessions_of(app, actor, SessionKind::User, name, organization).await
}

async fn reset(app: Arc<App>, admin: Admin, call: Call<Reset>) -> ApiResult<Envelope> {
    let p = call.params;
    let scope = admin.scope();
    for _ in 0..super::TRIES {
        let stored = profile_of(&app, &scope, &p.TargetUser).await?;
        let profile: UserProfileConfig = stored.parse().map_err(store_error)?;
        let must_change = starts_on(profile.policy.mode_require_user_reset_password);
        let replaced = replace(
            &app,
            &scope,
            &admin.name,
            &stored,
            p.OldPassword.as_deref(),
            &p.NewPassword,
            must_change,
        );
        match replaced.await {
            // A device wrote its statistics meanwhile.
            Err(e) if e.status == store_error(encke_store::StoreError::Changed).status => {}
            other => return other.map(|()| done()),
        }
    }
    Err(store_error(encke_store::StoreError::Changed))
}

async fn own_reset(app: Arc<App>, user: User, call: Call<OwnReset>) -> ApiResult<Envelope> {
    let p = call.params;
    let stored = profile_of(&app, &user.scope(), &user.name).await?;
    if stored.hash != p.ProfileHash {
        return Err(store_error(encke_store::StoreError::Changed));
    }
    let profile: UserProfileConfig = stored.parse().map_err(store_error)?;
    if profile.policy.prevent_change_account_password && !profile.require_password_change {
        return Err(ApiError::forbidden("You may not change the password"));
    }
    if p.OldPassword.is_empty() {
        return Err(ApiError::bad_request("OldPassword must not be empty"));
    }
    // A session alone must not be enough to try passwords out.
    let scope = user.scope();
    let changed = replace(
        &app,
        &scope,
        &user.name,
        &stored,
        Some(&p.OldPassword),
        &p.NewPassword,
        false,
    );
    crate::auth::throttled(&app, &call.origin, &user.name, changed)
        .await
        .map(|()| done())
}

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new(
            "AdminResetUserPassword",
            "/api/v1/admin/reset-user-password",
            "Gives an account another password and wraps its vault keys anew. Works without the present password only where a recovery code was kept. Ends the account's sessions; devices on line need the new password by update-login-password.",
            reset,
        ),
        Route::new(
            "UserWebAccountResetPassword",
            "/api/v1/user/web/account/reset-password",
            "Gives the caller another password and wraps the vault keys anew. Ends the account's sessions.",
            own_reset,
        )
        .before_password_change(),
    ]
}
