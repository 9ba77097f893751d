//! Reports before they are due: a preview, and one that is sent at once.

use super::{Subscription, check_option, check_report, gather, of_option, render, search};
use crate::app::{App, now, store_error};
use crate::auth::Admin;
use crate::email::{Mail, enqueue, is_address, settings};
use crate::table::{Call, Doc, Envelope, Route, done};
use encke_api::endpoint::Role;
use encke_api::form::Json;
use encke_api::messages::Language;
use encke_api::schedule::zone;
use encke_api::types::{
    BackupJobDetail, EmailReportConfig, EmailReportGeneratedPreview, EmailReportingOption,
};
use encke_api::{ApiError, ApiResult, params};
use encke_store::{JobFilter, StoreError};
use std::ops::ControlFlow;
use std::sync::Arc;

params! {
    /// Parameters of `AdminPreviewUserEmailReport`.
    struct Preview {
        /// The account.
        TargetUser: String,
        /// The report.
        EmailReportConfig: Json<EmailReportConfig>,
        /// Who would get it; the account's first address if left out.
        EmailAddress: Option<String>
    }
}

params! {
    /// Parameters of `AdminMetaSendTestReport`.
    struct Test {
        /// The report, with those who get it.
        EmailReportingOption: Json<EmailReportingOption>,
        /// Id of the organization it is about; the caller's if left out.
        TargetOrganization: Option<String>
    }
}

/// The report as it would be now. One about single jobs tells of the newest that it finds.
async fn now_of(app: &App, subscription: &Subscription) -> ApiResult<render::Document> {
    if !subscription.is_immediate() {
        return gather::over_time(app, subscription, now()).await;
    }
    let filter = JobFilter::SearchEnded(search(&subscription.config)?, 1, i64::MAX);
    let each = |newest: &mut Option<BackupJobDetail>, body: &str| {
        if let Ok(job) = serde_json::from_str::<BackupJobDetail>(body)
            && newest.as_ref().is_none_or(|n| n.end_time < job.end_time)
        {
            *newest = Some(job);
        }
        ControlFlow::Continue(())
    };
    let scope = subscription.scope();
    let newest = app.store.each_job(&scope, filter, None, each).await;
    let newest = newest.map_err(store_error)?;
    let job =
        newest.ok_or_else(|| ApiError::bad_request("There is no job yet that this report would tell of"))?;
    gather::immediate(app, subscription, &job).await
}

async fn preview(
    app: Arc<App>,
    admin: Admin,
    call: Call<Preview>,
) -> ApiResult<Doc<EmailReportGeneratedPreview>> {
    let p = call.params;
    let config = p.EmailReportConfig.0;
    check_report(&config)?;
    let stored = app.store.profile(&admin.scope(), &p.TargetUser).await;
    let stored = stored.map_err(|e| match e {
        StoreError::NotFound => ApiError::not_found("There is no such account"),
        e => store_error(e),
    })?;
    let profile = stored.parse().map_err(store_error)?;
    let given = p.EmailAddress.filter(|a| !a.trim().is_empty());
    if let Some(wrong) = given.as_ref().filter(|a| !is_address(a.trim())) {
        return Err(ApiError::bad_request(format!(
            "'{wrong}' is not an e-mail address"
        )));
    }
    let recipients: Vec<String> = given
        .or_else(|| profile.emails.first().cloned())
        .into_iter()
        .collect();
    let subscription = Subscription {
        account: Some(profile.username.clone()),
        organization: stored.organization.clone(),
        config,
        recipients: recipients.clone(),
        language: Language::accepted(&profile.language_code),
        zone: zone([profile.local_timezone.as_str()]),
    };
    let document = now_of(&app, &subscription).await?;
    Ok(Doc(EmailReportGeneratedPreview {
        status: 200,
        message: "OK".into(),
        from: settings::sender(&app.config(), &stored.organization),
        to: recipients,
        email_subject: document.subject.clone(),
        email_body_html: document.html(),
        email_body_plaintext: document.plain(),
        ..Default::default()
    }))
}

async fn test(app: Arc<App>, admin: Admin, call: Call<Test>) -> ApiResult<Envelope> {
    let p = call.params;
    let option = p.EmailReportingOption.0;
    check_option(&option)?;
    if option.recipients.is_empty() {
        return Err(ApiError::bad_request("The report has no recipients"));
    }
    let organization = match p.TargetOrganization.filter(|o| !o.is_empty()) {
        None => admin.organization.clone(),
        Some(other) if !admin.organization.is_empty() && other != admin.organization => {
            return Err(ApiError::unauthorised());
        }
        Some(other) => {
            if !app.config().organizations.contains_key(&other) {
                return Err(ApiError::not_found("There is no such organization"));
            }
            other
        }
    };
    let subscription = of_option(&organization, &option);
    let document = now_of(&app, &subscription).await?;
    let mail = Mail {
        organization,
        content: document.content(),
        recipients: subscription.recipients,
        once: String::new(),
    };
    enqueue(&app, mail).await?;
    Ok(done())
}

/// Endpoints.
pub(crate) fn routes() -> Vec<Route> {
    vec![
        Route::new(
            "AdminPreviewUserEmailReport",
            "/api/v1/admin/preview-user-email-report",
            "Answers an e-mail report of an account as it would be now, without sending it.",
            preview,
        )
        .roles(&[Role::Auth]),
        Route::new(
            "AdminMetaSendTestReport",
            "/api/v1/admin/meta/send-test-report",
            "Sends a report for administrators, stored or not, to its recipients now.",
            test,
        )
        .granted_if(|p| p.allow_edit_email_options)
        .denied_if(|p| p.prevent_edit_server_settings),
    ]
}
