//! This server as the copy of another one: what the published calls do not carry, because they keep an account's
//! password and its secrets from whoever edits the profile.

use crate::app::{App, store_error};
use crate::auth::Admin;
use crate::table::{Call, Own, Route};
use crate::users::{Secrets, put_copy};
use encke_api::endpoint::Role;
use encke_api::form::{Json, NoParams};
use encke_api::types::UserProfileConfig;
use encke_api::{ApiError, ApiResult, params};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;

params! {
    /// Parameters of `EnckeReplicationPutAccount`.
    struct PutAccount {
        /// Account name.
        TargetUser: String,
        /// The whole profile with its organization and the hash of its password, without the two secrets below.
        ProfileData: Json<UserProfileConfig>,
        /// What a reset of the password without the old one needs, in clear; absent where none is kept.
        RecoveryKey: Option<String>,
        /// The secret of the account's one-time codes, in hexadecimal; absent where it has none.
        TOTPSecret: Option<String>
    }
}

/// Accounts by name.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Accounts {
    accounts: BTreeMap<String, String>,
}

/// What became of an account.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Put {
    profile_hash: String,
    changed: bool,
}

async fn accounts(app: Arc<App>, _: Admin, _: Call<NoParams>) -> ApiResult<Own<Accounts>> {
    let all = app.store.profile_hashes().await.map_err(store_error)?;
    Ok(Own(Accounts {
        accounts: all.into_iter().collect(),
    }))
}

async fn put_account(app: Arc<App>, admin: Admin, call: Call<PutAccount>) -> ApiResult<Own<Put>> {
    let p = call.params;
    let mut profile = p.ProfileData.0;
    profile.username = p.TargetUser;
    let totp = hex::decode(p.TOTPSecret.unwrap_or_default())
        .map_err(|_| ApiError::bad_request("TOTPSecret is not hexadecimal"))?;
    let secrets = Secrets {
        recovery: p.RecoveryKey.unwrap_or_default().into_bytes(),
        totp,
    };
    let (stored, changed) = put_copy(&app, &admin.name, profile, &secrets).await?;
    Ok(Own(Put {
        profile_hash: stored.hash,
        changed,
    }))
}

pub(super) fn routes() -> Vec<Route> {
    let all = vec![
        Route::new(
            "EnckeReplicationAccounts",
            "/api/encke/v1/replication/accounts",
            "Answers names and profile hashes of all accounts, for a server that copies itself to this one.",
            accounts,
        ),
        Route::new(
            "EnckeReplicationPutAccount",
            "/api/encke/v1/replication/put-account",
            "Makes an account what it is on the server that copies itself to this one, password and secrets included. Nothing happens to one that is so already.",
            put_account,
        ),
    ];
    all.into_iter()
        .map(|r| r.top_level().roles(&[Role::Auth]))
        .collect()
}
