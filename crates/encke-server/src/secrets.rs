//! Secrets inside documents that administrators read and write: kept wrapped with the server's key, shown to nobody. A
//! secret that comes back as it was shown stays as it is.

use crate::admins::OBSCURED;
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

/// Calls `visit` for each secret of the clouds' settings, which storage templates and servers of a cluster have alike.
macro_rules! each_cloud_secret {
    ($document:expr, $visit:expr) => {
        $visit("B2.AppKey", &mut $document.b2.app_key);
        $visit("Wasabi.SecretKey", &mut $document.wasabi.secret_key);
        $visit("S3.SecretKey", &mut $document.s3.secret_key);
        $visit("AWS.SecretKey", &mut $document.aws.secret_key);
        $visit("Storj.APIKey", &mut $document.storj.api_key);
        $visit("Storj.Passphrase", &mut $document.storj.passphrase);
        $visit("ImpPartner.AccessKey", &mut $document.imp_partner.access_key);
        $visit("ImpUser.SecretKey", &mut $document.imp_user.secret_key);
        for (name, value) in &mut $document.custom.custom_headers {
            $visit(&format!("Custom.CustomHeaders.{name}"), value);
        }
    };
}
pub(crate) use each_cloud_secret;

fn place<T: Confidential>(id: &str, name: &str) -> String {
    format!("{}/{id}/{name}", T::PLACE)
}

/// Makes a document ready to leave the server.
pub(crate) fn hide<T: Confidential>(document: &mut T) {
    document.each_secret(&mut |_, secret| {
        if !secret.is_empty() {
            *secret = OBSCURED.into();
        }
    });
}

/// A document as it leaves the server.
pub(crate) fn obscured<T: Confidential>(document: &T) -> T {
    let mut shown = document.clone();
    hide(&mut shown);
    shown
}

/// What a message calls a document. Some have no other name than what they are.
fn called<T: Confidential>(id: &str) -> String {
    if id.is_empty() {
        format!("The {}", T::NAME)
    } else {
        format!("The {} '{id}'", T::NAME)
    }
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
                    "{} is new or points elsewhere now: give {name} again",
                    called::<T>(id)
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
