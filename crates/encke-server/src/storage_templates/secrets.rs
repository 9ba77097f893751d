//! The secrets in templates: kept wrapped with the server's key, shown to nobody. A secret that comes back as it was
//! shown stays as it is.

use crate::admins::OBSCURED;
use crate::app::App;
use encke_api::account_keys::WrappingKey;
use encke_api::types::RemoteStorageOption;
use encke_api::{ApiError, ApiResult};

/// Calls for each secret of a template with a name that is unique in it.
fn each_secret(template: &mut RemoteStorageOption, mut visit: impl FnMut(&str, &mut String)) {
    visit("Password", &mut template.password);
    visit("B2.AppKey", &mut template.b2.app_key);
    visit("Wasabi.SecretKey", &mut template.wasabi.secret_key);
    visit("S3.SecretKey", &mut template.s3.secret_key);
    visit("AWS.SecretKey", &mut template.aws.secret_key);
    visit("Storj.APIKey", &mut template.storj.api_key);
    visit("Storj.Passphrase", &mut template.storj.passphrase);
    visit("ImpPartner.AccessKey", &mut template.imp_partner.access_key);
    visit("ImpUser.SecretKey", &mut template.imp_user.secret_key);
    for (name, value) in &mut template.custom.custom_headers {
        visit(&format!("Custom.CustomHeaders.{name}"), value);
    }
}

fn place(id: &str, name: &str) -> String {
    format!("storage-template/{id}/{name}")
}

/// Templates as they leave the server.
pub(crate) fn obscured(templates: &[RemoteStorageOption]) -> Vec<RemoteStorageOption> {
    let mut shown = templates.to_vec();
    for template in &mut shown {
        each_secret(template, |_, secret| {
            if !secret.is_empty() {
                *secret = OBSCURED.into();
            }
        });
    }
    shown
}

/// Where a template sends its secrets: a secret stays only for the same places.
fn addresses(t: &RemoteStorageOption) -> [&str; 5] {
    [
        &t.type_,
        &t.remote_address,
        &t.custom.url,
        &t.s3.s3_endpoint,
        &t.s3.iam_endpoint,
    ]
}

/// Makes templates that somebody wrote ready to be kept in place of `present`: gives ids, puts back the secrets that
/// were shown obscured and wraps those in clear.
///
/// # Errors
/// 400 for an obscured secret that is not known, or whose template now points elsewhere.
pub(crate) fn adopt(
    app: &App,
    present: &[RemoteStorageOption],
    wanted: &mut [RemoteStorageOption],
) -> ApiResult<()> {
    for template in wanted {
        if template.id.is_empty() {
            template.id = uuid::Uuid::new_v4().to_string();
        }
        let mut old = present.iter().find(|p| p.id == template.id).cloned();
        let same_place = old.as_ref().is_some_and(|o| addresses(o) == addresses(template));
        let mut known = std::collections::BTreeMap::new();
        if let Some(old) = &mut old {
            each_secret(old, |name, secret| {
                known.insert(name.to_string(), secret.clone());
            });
        }
        let (id, mut result) = (template.id.clone(), Ok(()));
        each_secret(template, |name, secret| {
            if secret.is_empty() || known.get(name) == Some(secret) && WrappingKey::is_wrapped(secret) {
                return;
            }
            if secret == OBSCURED {
                match known.get(name).filter(|_| same_place) {
                    Some(kept) => secret.clone_from(kept),
                    None => {
                        result = Err(ApiError::bad_request(format!(
                            "The storage template '{id}' is new or points elsewhere now: give {name} again"
                        )));
                    }
                }
                return;
            }
            match app.server_key.wrap(&place(&id, name), secret.as_bytes()) {
                Ok(wrapped) => *secret = wrapped,
                Err(_) => result = Err(ApiError::internal()),
            }
        });
        result?;
    }
    Ok(())
}

/// A template with its secrets in clear, to be used at once.
///
/// # Errors
/// 500 if a secret was wrapped with another server's key.
pub(super) fn opened(app: &App, template: &RemoteStorageOption) -> ApiResult<RemoteStorageOption> {
    let mut open = template.clone();
    let (id, mut result) = (template.id.clone(), Ok(()));
    each_secret(&mut open, |name, secret| {
        // Written into the document by hand.
        if !WrappingKey::is_wrapped(secret) {
            return;
        }
        let clear = app.server_key.unwrap_secret(&place(&id, name), secret);
        match clear.ok().and_then(|c| String::from_utf8(c).ok()) {
            Some(clear) => *secret = clear,
            None => {
                tracing::error!(template = %id, secret = name, "a secret of a storage template can not be opened");
                result = Err(ApiError::new(
                    500,
                    format!(
                        "{name} of the storage template can not be opened with this server's key; set it again"
                    ),
                ));
            }
        }
    });
    result.map(|()| open)
}
