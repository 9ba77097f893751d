//! E-mail settings, test mails, bulletins, and the queue as people see it.

use super::{Mail, enqueue, is_address, settings, smtp};
use crate::app::{App, now, store_error};
use crate::auth::Admin;
use crate::secrets;
use crate::table::{Call, Doc, Envelope, Own, Route, done};
use encke_api::endpoint::Role;
use encke_api::form::{Json, NoParams};
use encke_api::types::{EmailOptions, ServerConfigOptions, UserProfileConfig};
use encke_api::{ApiError, ApiResult, params};
use encke_store::{ListedMail, MailContent, Scope};
use serde::Serialize;
use std::ops::ControlFlow;
use std::sync::Arc;

/// Longest bulletin in bytes.
const MAX_BULLETIN: usize = 64 * 1024;
/// Mails of one answer.
const MAX_LISTED: i64 = 500;

params! {
    /// Parameters of `AdminMetaEmailOptionsSet`.
    struct Set {
        /// The caller's organization's e-mail settings.
        EmailOptions: Json<EmailOptions>
    }
}

params! {
    /// Parameters of `AdminMetaSendTestEmail`.
    struct Test {
        /// Settings to try; they need not be stored.
        EmailOptions: Json<EmailOptions>,
        /// Where to.
        Recipient: String
    }
}

params! {
    /// Parameters of `AdminBulletinSubmit`.
    struct Bulletin {
        /// Subject line.
        Subject: String,
        /// Plain text.
        Content: String
    }
}

params! {
    /// Parameters of `EnckeEmailList`.
    struct List {
        /// Only mails that were written before this time (Unix seconds).
        Before: Option<i64>
    }
}

/// A mail of the queue.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "OrganizationID")]
    organization: String,
    recipient: String,
    subject: String,
    state: &'static str,
    created: i64,
    next_try: i64,
    tries: i64,
    ended: i64,
    error: String,
}

impl From<ListedMail> for Listed {
    fn from(m: ListedMail) -> Self {
        Self {
            id: m.id,
            organization: m.organization,
            recipient: m.recipient,
            subject: m.subject,
            state: m.state,
            created: m.created,
            next_try: if m.state == "waiting" { m.due } else { 0 },
            tries: m.tries,
            ended: m.ended,
            error: m.error,
        }
    }
}

fn own(config: &ServerConfigOptions, organization: &str) -> EmailOptions {
    match organization {
        "" => config.email.clone(),
        id => config
            .organizations
            .get(id)
            .map(|o| o.email.clone())
            .unwrap_or_default(),
    }
}

async fn get(app: Arc<App>, admin: Admin, _: Call<NoParams>) -> ApiResult<Doc<EmailOptions>> {
    let options = own(&app.config(), &admin.organization);
    Ok(Doc(secrets::obscured(&options)))
}

async fn set(app: Arc<App>, admin: Admin, call: Call<Set>) -> ApiResult<Envelope> {
    let mut wanted = call.params.EmailOptions.0;
    super::check(&wanted)?;
    let (handle, organization) = (app.clone(), admin.organization.clone());
    app.change_config(move |config| {
        let place = match organization.as_str() {
            "" => &mut config.email,
            id => {
                let own = config.organizations.get_mut(id);
                &mut own.ok_or_else(ApiError::unauthorised)?.email
            }
        };
        settings::adopt(&handle, &organization, Some(place), &mut wanted)?;
        *place = wanted;
        Ok(Vec::new())
    })
    .await?;
    // What waited for a mail server that could not be used is tried with these settings.
    let mut concerned = vec![admin.organization.clone()];
    if admin.organization.is_empty() {
        concerned.extend(app.config().organizations.keys().cloned());
    }
    app.store
        .move_mails(concerned, now(), true)
        .await
        .map_err(store_error)?;
    super::wake(&app);
    super::settings_changed(&app);
    Ok(done())
}

async fn test(app: Arc<App>, admin: Admin, call: Call<Test>) -> ApiResult<Envelope> {
    let recipient = call.params.Recipient.trim().to_string();
    if !is_address(&recipient) {
        return Err(ApiError::bad_request(format!(
            "'{recipient}' is not an e-mail address"
        )));
    }
    let mut options = call.params.EmailOptions.0;
    settings::check(&options)?;
    let present = own(&app.config(), &admin.organization);
    settings::adopt(&app, &admin.organization, Some(&present), &mut options)?;
    let settings = if options.mode.is_empty() {
        settings::of(&app, &admin.organization)?
    } else {
        settings::read(&app, &admin.organization, &options)?
    };
    let Ok(_permit) = app.mailer.tests.try_acquire() else {
        return Err(ApiError::new(429, "Too many test e-mails at once"));
    };
    let language = call.origin.language;
    let brand = crate::meta::brand_name(&app.config());
    let plain = format!(
        "{}\n\n{}\n",
        language.translate("The e-mail settings work."),
        language.translate("This message was sent to try them out.")
    );
    let mail = smtp::Outgoing {
        id: &uuid::Uuid::new_v4().simple().to_string(),
        recipient: &recipient,
        content: MailContent {
            subject: format!("{brand}: {}", language.translate("Test e-mail")),
            plain,
            ..Default::default()
        },
    };
    match app.mailer.servers.send(&settings, mail).await {
        Ok(()) => Ok(done()),
        Err(e) => Err(ApiError::new(
            502,
            format!("The e-mail could not be sent: {}", e.text()),
        )),
    }
}

/// Every address of an organization's accounts.
async fn addresses(app: &App, organization: &str) -> ApiResult<Vec<String>> {
    let scope = Scope::Organization(organization.to_string());
    let each = |all: &mut Vec<String>, _: &str, body: &str| {
        if let Ok(profile) = serde_json::from_str::<UserProfileConfig>(body)
            && !profile.is_suspended
        {
            let usable = profile
                .emails
                .into_iter()
                .map(|e| e.trim().to_string())
                .filter(|e| is_address(e));
            all.extend(usable);
        }
        ControlFlow::Continue(())
    };
    app.store
        .each_profile(&scope, Vec::new(), each)
        .await
        .map_err(store_error)
}

async fn bulletin(app: Arc<App>, admin: Admin, call: Call<Bulletin>) -> ApiResult<Envelope> {
    let p = call.params;
    if p.Subject.trim().is_empty() || p.Content.trim().is_empty() || p.Content.len() > MAX_BULLETIN {
        return Err(ApiError::bad_request(format!(
            "A bulletin has a subject and 1 to {MAX_BULLETIN} bytes of text"
        )));
    }
    let recipients = addresses(&app, &admin.organization).await?;
    if recipients.is_empty() {
        return Err(ApiError::bad_request("No account has an e-mail address"));
    }
    let mail = Mail {
        organization: admin.organization.clone(),
        content: MailContent {
            subject: p.Subject,
            plain: p.Content,
            ..Default::default()
        },
        recipients,
        once: String::new(),
    };
    enqueue(&app, mail).await?;
    tracing::info!(admin = admin.name, "a bulletin is sent");
    Ok(done())
}

async fn list(app: Arc<App>, admin: Admin, call: Call<List>) -> ApiResult<Own<Vec<Listed>>> {
    let before = call.params.Before.unwrap_or(i64::MAX);
    let found = app.store.mails(&admin.scope(), before, MAX_LISTED).await;
    Ok(Own(found
        .map_err(store_error)?
        .into_iter()
        .map(Listed::from)
        .collect()))
}

/// Endpoints of e-mail.
#[must_use]
pub fn routes() -> Vec<Route> {
    let settings = vec![
        Route::new(
            "AdminMetaEmailOptionsGet",
            "/api/v1/admin/meta/email-options/get",
            "Answers the e-mail settings of the caller's organization, the password obscured.",
            get,
        ),
        Route::new(
            "AdminMetaEmailOptionsSet",
            "/api/v1/admin/meta/email-options/set",
            "Replaces the e-mail settings of the caller's organization; in force at once. An obscured password stays as it is. An organization without a mode of its own sends with the top level's server.",
            set,
        ),
        Route::new(
            "AdminMetaSendTestEmail",
            "/api/v1/admin/meta/send-test-email",
            "Sends a test e-mail with the settings given, stored or not, and tells what the mail server said.",
            test,
        ),
        Route::new(
            "EnckeEmailList",
            "/api/encke/v1/email/list",
            "Answers the newest 500 e-mails of the caller's organization: waiting, sent within a week, or failed, and why.",
            list,
        ),
    ];
    let mut all: Vec<Route> = settings
        .into_iter()
        .map(|r| {
            r.granted_if(|p| p.allow_edit_email_options)
                .denied_if(|p| p.prevent_edit_server_settings)
        })
        .collect();
    all.push(
        Route::new(
            "AdminBulletinSubmit",
            "/api/v1/admin/bulletin/submit",
            "Sends a plain-text e-mail to every address of the accounts of the caller's organization.",
            bulletin,
        )
        .roles(&[Role::Auth]),
    );
    all
}
