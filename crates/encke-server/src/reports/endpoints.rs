//! My Reports: saving, deleting and sharing. Our own endpoints, for administrators and end users alike.

use crate::app::{App, store_error};
use crate::auth::Principal;
use crate::table::{Call, Envelope, Own, Route, done};
use encke_api::form::NoParams;
use encke_api::{ApiError, ApiResult, params};
use encke_reports::{DataSet, MAX_SAMPLE_ROWS, PERSONS, SavedReport, templates};
use encke_store::{ReportOwner, SessionKind, StoreError, StoredCode, StoredSession};
use serde_json::{Value, json};
use std::sync::Arc;

/// Most reports of one owner.
const MAX_REPORTS: usize = 1000;
/// Longest name of a report, in characters.
const MAX_NAME: usize = 200;

params! {
    /// Parameters of saving a report.
    struct Save {
        /// The report's id; a new one is made if left out.
        ReportID: Option<String>,
        /// Name.
        Name: String,
        /// Number of the template.
        Template: i64,
        /// Keys of the columns, in order, separated by commas; all of the template's if left out.
        Columns: Option<String>,
        /// Rows of the sample data.
        Size: i64,
        /// Seed of the sample data.
        Seed: Option<i64>
    }
}

params! {
    /// Parameters of saving the sample report.
    struct SaveSample {
        /// Rows.
        Size: Option<i64>,
        /// The same seed gives the same rows.
        Seed: Option<i64>
    }
}

params! {
    /// A report.
    struct Report {
        /// The report's id.
        ReportID: String
    }
}

params! {
    /// Parameters of generating an API code.
    struct Generate {
        /// The report's id.
        ReportID: String,
        /// Language of the columns' names, such as `en_US`.
        Locale: Option<String>
    }
}

pub(super) fn owner_of(principal: &Principal) -> ApiResult<ReportOwner> {
    match principal {
        Principal::Admin(a) => Ok(ReportOwner {
            kind: SessionKind::Admin,
            name: a.name.clone(),
            organization: a.organization.clone(),
        }),
        Principal::User(u) => Ok(ReportOwner {
            kind: SessionKind::User,
            name: u.name.clone(),
            organization: u.organization.clone(),
        }),
        Principal::Nobody => Err(ApiError::unauthorised()),
    }
}

fn report_error(e: StoreError) -> ApiError {
    match e {
        StoreError::NotFound => ApiError::not_found("Report not found"),
        e => store_error(e),
    }
}

async fn list_templates(_: Arc<App>, _: Principal, _: Call<NoParams>) -> ApiResult<Own<Value>> {
    Ok(Own(
        serde_json::to_value(templates()).map_err(|_| ApiError::internal())?
    ))
}

async fn list(app: Arc<App>, principal: Principal, _: Call<NoParams>) -> ApiResult<Own<Value>> {
    let reports = app
        .store
        .reports(&owner_of(&principal)?)
        .await
        .map_err(store_error)?;
    let shown = reports.into_iter().map(|r| {
        let body: Value = serde_json::from_str(&r.body).unwrap_or_default();
        json!({ "ReportID": r.id, "Name": r.name, "Version": r.version, "Report": body })
    });
    Ok(Own(shown.collect()))
}

fn check(report: &SavedReport) -> ApiResult<()> {
    if report.name.trim().is_empty() || report.name.chars().count() > MAX_NAME {
        return Err(ApiError::bad_request(format!(
            "A report's name has 1 to {MAX_NAME} characters"
        )));
    }
    let distinct: std::collections::HashSet<&String> = report.columns.iter().collect();
    if distinct.len() != report.columns.len() {
        return Err(ApiError::bad_request("A column can be chosen only once"));
    }
    if report.columns.is_empty() || report.resolve().is_none() {
        return Err(ApiError::bad_request(
            "The template or one of the columns does not exist",
        ));
    }
    let DataSet::Sample { size, .. } = report.data;
    if size > MAX_SAMPLE_ROWS {
        return Err(ApiError::bad_request(format!(
            "A sample has at most {MAX_SAMPLE_ROWS} rows"
        )));
    }
    Ok(())
}

async fn store(app: &App, owner: &ReportOwner, id: &str, report: &SavedReport) -> ApiResult<()> {
    check(report)?;
    let body = serde_json::to_string(report).map_err(|_| ApiError::internal())?;
    let known = app.store.reports(owner).await.map_err(store_error)?;
    match known.iter().find(|r| r.id == id) {
        Some(same) if same.body == body => return Ok(()),
        None if known.len() >= MAX_REPORTS => {
            return Err(ApiError::bad_request(format!(
                "You may keep at most {MAX_REPORTS} reports"
            )));
        }
        _ => {}
    }
    app.store
        .save_report(id, owner, &report.name, &body)
        .await
        .map_err(report_error)?;
    app.reports.forget(id);
    Ok(())
}

async fn save(app: Arc<App>, principal: Principal, call: Call<Save>) -> ApiResult<Own<Value>> {
    let p = call.params;
    let template = templates().iter().find(|t| t.id == p.Template);
    let template = template.ok_or_else(|| ApiError::bad_request("There is no such template"))?;
    let columns = match p.Columns {
        Some(keys) => keys.split(',').map(|k| k.trim().to_string()).collect(),
        None => template.columns.iter().map(|c| c.key.to_string()).collect(),
    };
    let size = u64::try_from(p.Size).map_err(|_| ApiError::bad_request("Size must not be negative"))?;
    let seed = p.Seed.unwrap_or(1).unsigned_abs();
    let report = SavedReport {
        name: p.Name,
        template: p.Template,
        columns,
        data: DataSet::Sample { size, seed },
    };
    let id = p.ReportID.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
    if uuid::Uuid::try_parse(&id).is_err() {
        return Err(ApiError::bad_request("ReportID must be a GUID"));
    }
    store(&app, &owner_of(&principal)?, &id, &report).await?;
    Ok(Own(json!({ "Status": 200, "Message": "OK", "ReportID": id })))
}

async fn save_sample(app: Arc<App>, principal: Principal, call: Call<SaveSample>) -> ApiResult<Own<Value>> {
    let owner = owner_of(&principal)?;
    let size = u64::try_from(call.params.Size.unwrap_or(185));
    let size = size.map_err(|_| ApiError::bad_request("Size must not be negative"))?;
    let seed = call.params.Seed.unwrap_or(1).unsigned_abs();
    let template = &templates()[0];
    let report = SavedReport {
        name: template.name.into(),
        template: PERSONS,
        columns: template.columns.iter().map(|c| c.key.to_string()).collect(),
        data: DataSet::Sample { size, seed },
    };
    // Saving it again gives the same report and the same code.
    let known = app.store.reports(&owner).await.map_err(store_error)?;
    let body = serde_json::to_string(&report).map_err(|_| ApiError::internal())?;
    let id = known
        .iter()
        .find(|r| r.body == body)
        .map_or_else(|| uuid::Uuid::new_v4().to_string(), |r| r.id.clone());
    store(&app, &owner, &id, &report).await?;
    let code = code(&app, &owner, &id, "en_US").await?;
    Ok(Own(
        json!({ "Status": 200, "Message": "OK", "ReportID": id, "APICode": code }),
    ))
}

async fn delete(app: Arc<App>, principal: Principal, call: Call<Report>) -> ApiResult<Envelope> {
    let id = call.params.ReportID;
    app.store
        .delete_report(&id, &owner_of(&principal)?)
        .await
        .map_err(report_error)?;
    app.reports.forget(&id);
    Ok(done())
}

/// The report's code: the one it has, or a new one of 160 hexadecimal digits.
async fn code(app: &App, owner: &ReportOwner, id: &str, locale: &str) -> ApiResult<String> {
    let place = format!("report-code:{id}");
    for _ in 0..2 {
        if let Some(known) = app.store.report_code(id, owner).await.map_err(report_error)? {
            let code = app
                .server_key
                .unwrap_secret(&place, &known.sealed)
                .map_err(|_| ApiError::internal())?;
            return String::from_utf8(code).map_err(|_| ApiError::internal());
        }
        let mut bytes = [0u8; 80];
        getrandom::fill(&mut bytes).map_err(|_| ApiError::internal())?;
        let code = hex::encode(bytes);
        let stored = StoredCode {
            hash: StoredSession::hash_of(&code),
            sealed: app
                .server_key
                .wrap(&place, code.as_bytes())
                .map_err(|_| ApiError::internal())?,
            locale: locale.to_string(),
        };
        match app.store.add_report_code(id, owner, stored).await {
            Ok(()) => return Ok(code),
            // Another call was quicker: answer its code.
            Err(StoreError::Exists) => {}
            Err(e) => return Err(report_error(e)),
        }
    }
    Err(ApiError::internal())
}

async fn generate(app: Arc<App>, principal: Principal, call: Call<Generate>) -> ApiResult<Own<Value>> {
    let locale = call.params.Locale.unwrap_or_else(|| "en_US".into());
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if locale.len() > 10 || !locale.chars().all(plain) {
        return Err(ApiError::bad_request("Locale looks like en_US"));
    }
    let code = code(&app, &owner_of(&principal)?, &call.params.ReportID, &locale).await?;
    let path = format!("/data-backend/api/public/areports/run/0/25/?API_KEY={code}");
    Ok(Own(
        json!({ "Status": 200, "Message": "OK", "APICode": code, "Path": path }),
    ))
}

/// Endpoints of My Reports.
#[must_use]
pub fn routes() -> Vec<Route> {
    vec![
        Route::new(
            "EnckeReportTemplates",
            "/api/encke/v1/reports/list-templates",
            "Lists what reports can be made of.",
            list_templates,
        ),
        Route::new(
            "EnckeReportList",
            "/api/encke/v1/reports/list",
            "Lists the caller's saved reports.",
            list,
        ),
        Route::new(
            "EnckeReportSave",
            "/api/encke/v1/reports/save",
            "Saves a report, new or changed.",
            save,
        ),
        Route::new(
            "EnckeReportSaveSample",
            "/api/encke/v1/reports/save-sample",
            "Saves the sample report of persons and answers its API code.",
            save_sample,
        ),
        Route::new(
            "EnckeReportDelete",
            "/api/encke/v1/reports/delete",
            "Deletes a report; its API code is worthless at once.",
            delete,
        ),
        Route::new(
            "EnckeReportGenerateCode",
            "/api/encke/v1/reports/generate-code",
            "Answers the report's API code, and makes it at the first call.",
            generate,
        ),
    ]
}
