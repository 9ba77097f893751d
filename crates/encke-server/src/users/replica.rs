//! An account as another server's copy (`replication/`): the document as it is there, with password and secrets, which
//! an edit could not change.

use super::{event, event_data, replace, rules, user_error};
use crate::app::{App, store_error};
use encke_api::account_keys::recovery_place;
use encke_api::constants::SEVT_ACCOUNT_NEW;
use encke_api::types::UserProfileConfig;
use encke_api::{ApiError, ApiResult};
use encke_store::{NewProfile, Scope, SessionKind, StoreError, StoredProfile};

/// Secrets of an account that each server wraps with its own key, in clear; empty for none.
pub(crate) struct Secrets {
    /// What a reset of the password without the old one needs.
    pub recovery: Vec<u8>,
    /// The secret of one-time codes.
    pub totp: Vec<u8>,
}

/// A secret as it is kept here: as it is already, if it is the same.
fn sealed(app: &App, place: &str, present: &str, secret: &[u8]) -> ApiResult<String> {
    if secret.is_empty() {
        return Ok(String::new());
    }
    let known = app.server_key.unwrap_secret(place, present);
    if known.is_ok_and(|k| k == secret) {
        return Ok(present.to_string());
    }
    app.server_key
        .wrap(place, secret)
        .map_err(|_| ApiError::internal())
}

/// Makes an account what it is on the other server. Answers it, and whether anything had to be changed.
///
/// # Errors
/// 400 for a document that breaks a rule or names an organization that does not exist here; 409 for an account that is
/// another organization's here.
pub(crate) async fn put_copy(
    app: &App,
    actor: &str,
    mut profile: UserProfileConfig,
    secrets: &Secrets,
) -> ApiResult<(StoredProfile, bool)> {
    let organization = &profile.organization_id;
    if !organization.is_empty() && !app.config().organizations.contains_key(organization) {
        return Err(ApiError::bad_request(format!(
            "There is no organization '{organization}' here; it needs the same id on both servers"
        )));
    }
    rules::check_password_hash(&profile)?;
    let name = profile.username.clone();
    for _ in 0..super::TRIES {
        let old = match app.store.profile(&Scope::All, &name).await {
            Ok(old) => Some(old),
            Err(StoreError::NotFound) => None,
            Err(e) => return Err(user_error(e)),
        };
        let before: Option<UserProfileConfig> = old
            .as_ref()
            .map(StoredProfile::parse)
            .transpose()
            .map_err(store_error)?;
        if before
            .as_ref()
            .is_some_and(|b| b.organization_id != profile.organization_id)
        {
            return Err(ApiError::conflict(
                "The account belongs to another organization here; delete it here or move it",
            ));
        }
        let present =
            |field: fn(&UserProfileConfig) -> &String| before.as_ref().map_or("", |b| field(b).as_str());
        let totp_place = crate::auth::totp_place(&crate::auth::totp_account_of_user(&name));
        profile.password_recovery = sealed(
            app,
            &recovery_place(&name),
            present(|p| &p.password_recovery),
            &secrets.recovery,
        )?;
        profile.totp_key = sealed(app, &totp_place, present(|p| &p.totp_key), &secrets.totp)?;
        let mut wanted = profile.clone();
        let policy_hash = crate::policies::impose(app, before.as_ref(), &mut wanted).await?;
        let (Some(old), Some(before)) = (old, before) else {
            rules::check(&wanted)?;
            let event = event(SEVT_ACCOUNT_NEW, actor, &wanted, event_data(&wanted));
            let new = NewProfile {
                profile: wanted,
                policy_hash,
                event,
            };
            match app.store.add_user(new).await {
                // Made or changed meanwhile.
                Err(StoreError::Exists | StoreError::Changed) => continue,
                Err(e) => return Err(store_error(e)),
                Ok(stored) => return Ok((stored, true)),
            }
        };
        if wanted == before {
            return Ok((old, false));
        }
        let new_password = wanted.password_hash != before.password_hash;
        match replace(app, &Scope::All, actor, &old, &before, &mut wanted).await? {
            Err(StoreError::Changed) => {}
            Err(e) => return Err(user_error(e)),
            Ok(stored) => {
                if new_password {
                    let kind = SessionKind::User;
                    crate::auth::end_sessions_of(app, actor, kind, &name, &stored.organization).await?;
                }
                return Ok((stored, true));
            }
        }
    }
    Err(store_error(StoreError::Changed))
}
