//! Secrets inside the configuration: kept wrapped with the server's key, shown to nobody. A secret that comes back as it
//! was shown stays as it is. (Those of storage templates, which are many, have a module of their own.)

use crate::admins::OBSCURED;
use crate::app::App;
use encke_api::account_keys::WrappingKey;
use encke_api::{ApiError, ApiResult};

/// Makes a secret ready to leave the server.
pub(crate) fn hide(secret: &mut String) {
    if !secret.is_empty() {
        *secret = OBSCURED.into();
    }
}

/// Makes a secret that somebody wrote ready to be kept. `present` is the stored one, if it may stay; `name` is what
/// people know it by.
///
/// # Errors
/// 400 for an obscured secret that is not known.
pub(crate) fn adopt(
    app: &App,
    place: &str,
    secret: &mut String,
    present: Option<&str>,
    name: &str,
) -> ApiResult<()> {
    let present = present.filter(|p| !p.is_empty());
    if secret.is_empty() || (present == Some(secret) && WrappingKey::is_wrapped(secret)) {
        return Ok(());
    }
    if secret == OBSCURED {
        let known = present.ok_or_else(|| {
            ApiError::bad_request(format!("{name} is not known for these settings: give it again"))
        })?;
        *secret = known.to_string();
    }
    if !WrappingKey::is_wrapped(secret) || present != Some(secret) {
        let wrapped = app.server_key.wrap(place, secret.as_bytes());
        *secret = wrapped.map_err(|_| ApiError::internal())?;
    }
    Ok(())
}

/// A kept secret in clear, to be used at once.
///
/// # Errors
/// 500 if it was wrapped with another server's key.
pub(crate) fn open(app: &App, place: &str, secret: &str, name: &str) -> ApiResult<String> {
    // Written into the document by hand.
    if !WrappingKey::is_wrapped(secret) {
        return Ok(secret.to_string());
    }
    let clear = app.server_key.unwrap_secret(place, secret);
    clear.ok().and_then(|c| String::from_utf8(c).ok()).ok_or_else(|| {
        tracing::error!(place, "a secret of the configuration can not be opened");
        ApiError::new(
            500,
            format!("{name} can not be opened with this server's key; set it again"),
        )
    })
}
