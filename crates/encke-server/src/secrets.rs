//! Secrets inside documents that administrators read and write: kept wrapped with the server's key, shown to nobody. A
//! secret that comes back as it was shown stays as it is.

use crate::admins::OBSCURED;
use crate::app::App;
use encke_api::account_keys::WrappingKey;
use encke_api::{ApiError, ApiResult};
use std::collections::BTreeMap;

/// A document with secrets.
pub(crate) trait Confidential: Clone {
    /// What messages call it.
    const NAME: &'static str;
    /// What its secrets are wrapped for.
    const PLACE: &'static str;
    /// Calls for each secret with a name that is unique in the document.
    fn each_secret(&mut self, visit: &mut dyn FnMut(&str, &mut String));
    /// Where it sends its secrets: one stays only for the same places.
    fn addresses(&self) -> Vec<&str>;
}

fn place<T: Confidential>(id: &str, name: &str) -> String {
    format!("{}/{id}/{name}", T::PLACE)
}

/// A document as it leaves the server.
pub(crate) fn obscured<T: Confidential>(document: &T) -> T {
    let mut shown = document.clone();
    shown.each_secret(&mut |_, secret| {
        if !secret.is_empty() {
            *secret = OBSCURED.into();
        }
    });
    shown
}

/// Makes a document that somebody wrote ready to be kept in place of `present`: puts back the secrets that were shown
/// obscured and wraps those in clear.
///
/// # Errors
/// 400 for an obscured secret that is not known, or whose document now points elsewhere.
pub(crate) fn adopt<T: Confidential>(
    key: &WrappingKey,
    id: &str,
    present: Option<&T>,
    wanted: &mut T,
) -> ApiResult<()> {
    let mut known = BTreeMap::new();
    let same_place = present.is_some_and(|o| o.addresses() == wanted.addresses());
    if let Some(old) = present {
        old.clone().each_secret(&mut |name, secret| {
            known.insert(name.to_string(), secret.clone());
        });
    }
    let mut result = Ok(());
    wanted.each_secret(&mut |name, secret| {
        let kept = known.get(name);
        if secret == OBSCURED {
            let Some(kept) = kept.filter(|_| same_place) else {
                result = Err(ApiError::bad_request(format!(
                    "The {} '{id}' is new or points elsewhere now: give {name} again",
                    T::NAME
                )));
                return;
            };
            secret.clone_from(kept);
        }
        if secret.is_empty() || kept == Some(secret) && WrappingKey::is_wrapped(secret) {
            return;
        }
        match key.wrap(&place::<T>(id, name), secret.as_bytes()) {
            Ok(wrapped) => *secret = wrapped,
            Err(_) => result = Err(ApiError::internal()),
        }
    });
    result
}

/// A document with its secrets in clear, to be used at once.
///
/// # Errors
/// 500 if a secret was wrapped with another server's key.
pub(crate) fn opened<T: Confidential>(key: &WrappingKey, id: &str, document: &T) -> ApiResult<T> {
    let (mut open, mut result) = (document.clone(), Ok(()));
    open.each_secret(&mut |name, secret| {
        // Written into the document by hand.
        if !WrappingKey::is_wrapped(secret) {
            return;
        }
        let clear = key.unwrap_secret(&place::<T>(id, name), secret);
        match clear.ok().and_then(|c| String::from_utf8(c).ok()) {
            Some(clear) => *secret = clear,
            None => {
                tracing::error!(kind = T::NAME, id, secret = name, "a secret can not be opened");
                result = Err(ApiError::new(
                    500,
                    format!(
                        "{name} of the {} can not be opened with this server's key; set it again",
                        T::NAME
                    ),
                ));
            }
        }
    });
    result.map(|()| open)
}

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
pub(crate) fn adopt_one(
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
pub(crate) fn open_one(app: &App, place: &str, secret: &str, name: &str) -> ApiResult<String> {
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
