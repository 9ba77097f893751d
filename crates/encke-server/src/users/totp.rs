//! One-time codes of accounts (reference, section 4.3).

use super::{change_within, profile_of};
use crate::app::{App, store_error};
use crate::auth::{Admin, User, new_secret, qr_data_uri, secret_url, totp_account_of_user, verify_code};
use crate::table::{Call, Doc, Envelope, Route, done};
use encke_api::account_keys::ENCRYPTIONMETHOD_ENCKE;
use encke_api::types::{TotpRegeneratedResponse, UserProfileConfig};
use encke_api::{ApiError, ApiResult, params};
use std::sync::Arc;

params! {
    /// Parameters of `AdminDisableUserTotp`.
    struct Disable {
        /// Account name.
        TargetUser: String
    }
}

params! {
    /// Parameters of `UserWebAccountRegenerateTotp`.
    struct Regenerate {
        /// Hash of the profile as the caller knows it.
        ProfileHash: String
    }
}

params! {
    /// Parameters of `UserWebAccountValidateTotp`.
    struct Validate {
        /// Hash of the profile as the caller knows it.
        ProfileHash: String,
        /// Six digits.
        TOTPCode: String
    }
}

async fn disable(app: Arc<App>, admin: Admin, call: Call<Disable>) -> ApiResult<Envelope> {
    let user = call.params.TargetUser;
    change_within(&app, &admin.scope(), &admin.name, &user, None, |profile| {
        profile.totp_key.clear();
        profile.totp_key_encryption_format = 0;
        profile.allow_password_and_totp_login = false;
        profile.allow_password_login = true;
        Ok(())
    })
    .await?;
    Ok(done())
}

async fn regenerate(
    app: Arc<App>,
    user: User,
    call: Call<Regenerate>,
) -> ApiResult<Doc<TotpRegeneratedResponse>> {
    let (wrapped, secret) =
        new_secret(&app, &totp_account_of_user(&user.name)).map_err(|_| ApiError::internal())?;
    let hash = call.params.ProfileHash;
    let stored = change_within(
        &app,
        &user.scope(),
        &user.name,
        &user.name,
        Some(&hash),
        |profile| {
            profile.totp_key.clone_from(&wrapped);
            profile.totp_key_encryption_format = i64::try_from(ENCRYPTIONMETHOD_ENCKE).unwrap_or_default();
            Ok(())
        },
    )
    .await?;
    let url = secret_url(&crate::meta::brand_name(&app.config()), &user.name, &secret);
    Ok(Doc(TotpRegeneratedResponse {
        status: 200,
        message: "OK".into(),
        image: qr_data_uri(&url)?,
        url,
        profile_hash: stored.hash,
        ..Default::default()
    }))
}

async fn validate(app: Arc<App>, user: User, call: Call<Validate>) -> ApiResult<Envelope> {
    let stored = profile_of(&app, &user.scope(), &user.name).await?;
    if stored.hash != call.params.ProfileHash {
        return Err(store_error(encke_store::StoreError::Changed));
    }
    let profile: UserProfileConfig = stored.parse().map_err(store_error)?;
    if profile.totp_key.is_empty() {
        return Err(ApiError::bad_request("There is no secret for one-time codes yet"));
    }
    if !verify_code(
        &app,
        &totp_account_of_user(&user.name),
        &profile.totp_key,
        &call.params.TOTPCode,
    ) {
        return Err(ApiError::bad_request("The code is wrong or was used already"));
    }
    Ok(done())
}

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new(
            "AdminDisableUserTotp",
            "/api/v1/admin/disable-user-totp",
            "Takes an account's one-time codes away, so that its password alone is enough again.",
            disable,
        ),
        Route::new(
            "UserWebAccountRegenerateTotp",
            "/api/v1/user/web/account/regenerate-totp",
            "Gives the caller a new secret for one-time codes, as a QR code; it takes effect at once.",
            regenerate,
        ),
        Route::new(
            "UserWebAccountValidateTotp",
            "/api/v1/user/web/account/validate-totp",
            "Checks a one-time code against the caller's secret.",
            validate,
        ),
    ]
}
