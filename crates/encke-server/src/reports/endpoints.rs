//! My Reports: saving, previewing, sharing, exporting and deleting. Our own endpoints, for administrators and end
//! users alike.

use super::{PICTURES, PICTURES_PATH, codes, not_found, owner_of, rows, templates};
use crate::app::{App, store_error};
use crate::auth::Principal;
use crate::table::{Call, Envelope, Own, Route, done};
use encke_api::form::NoParams;
use encke_api::{ApiError, ApiResult, params};
use encke_reports::{
    Cell, DataSet, MAX_SAMPLE_ROWS, REGISTRATIONS, SAMPLE, SavedReport, Shown, Template, name_in, preview,
    starter,
};
use encke_store::{ReportOwner, SessionKind, StoredReport};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Most reports of one owner.
const MAX_REPORTS: usize = 1000;
/// Most people that a report is shared with.
const MAX_SHARES: usize = 1000;
/// Largest report as a document, in bytes.
const MAX_DOCUMENT: usize = 256 * 1024;
/// Rows of a preview.
const PREVIEW: u64 = 50;

params! {
    /// Parameters of saving a report.
    struct Save {
        /// The report's id; a new one is made if left out.
        ReportID: Option<String>,
        /// The report as JSON; the parameters below are not needed then.
        Report: Option<String>,
        /// Name.
        Name: Option<String>,
        /// Number of the template.
        Template: Option<i64>,
        /// Keys of the columns, in order, separated by commas; all of the template's if left out.
        Columns: Option<String>,
        /// Rows of the sample data.
        Size: Option<i64>,
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
    /// Parameters of a preview.
    struct Preview {
        /// The report as JSON, saved or not.
        Report: String,
        /// Language of the columns' names, such as `en_US`.
        Locale: Option<String>
    }
}

params! {
    /// Parameters of sharing a report.
    struct Share {
        /// The report's id.
        ReportID: String,
        /// Account names of end users, separated by commas.
        Users: Option<String>,
        /// Names of administrators, separated by commas.
        Admins: Option<String>
    }
}

/// A report as it is stored.
pub(super) fn parse(stored: &StoredReport) -> ApiResult<SavedReport> {
    serde_json::from_str(&stored.body).map_err(|e| {
        tracing::error!(report = stored.id, error = %e, "a stored report can not be read");
        ApiError::internal()
    })
}

/// A report of one's own or shared with one, and whether it is one's own.
pub(super) async fn find(app: &App, user: &ReportOwner, id: &str) -> ApiResult<(StoredReport, bool)> {
    let own = app.store.reports(user).await.map_err(store_error)?;
    if let Some(found) = own.into_iter().find(|r| r.id == id) {
        return Ok((found, true));
    }
    let shared = app.store.reports_shared_with(user).await.map_err(store_error)?;
    let found = shared.into_iter().find(|r| r.id == id);
    found
        .map(|r| (r, false))
        .ok_or_else(|| ApiError::not_found("Report not found"))
}

async fn list(app: Arc<App>, principal: Principal, _: Call<NoParams>) -> ApiResult<Own<Value>> {
    let owner = owner_of(&principal)?;
    let mut codes: HashMap<String, Value> = app
        .store
        .report_codes_of(&owner)
        .await
        .map_err(store_error)?
        .into_iter()
        .map(|(report, c)| {
            let code = json!({
                "Created": c.created, "Expires": c.expires, "Addresses": c.addresses, "Locale": c.locale
            });
            (report, code)
        })
        .collect();
    let own = app.store.reports(&owner).await.map_err(store_error)?;
    let shared = app.store.reports_shared_with(&owner).await.map_err(store_error)?;
    let shown = own
        .into_iter()
        .map(|r| (r, true))
        .chain(shared.into_iter().map(|r| (r, false)));
    let shown = shown.map(|(r, mine)| {
        let body: Value = serde_json::from_str(&r.body).unwrap_or_default();
        json!({
            "ReportID": r.id, "Name": r.name, "Version": r.version, "Report": body, "Own": mine,
            "Owner": r.owner.name, "Code": codes.remove(&r.id)
        })
    });
    Ok(Own(shown.collect()))
}

fn check(report: &SavedReport, template: &Template) -> ApiResult<()> {
    report.check(template).map_err(|e| ApiError::bad_request(e.0))?;
    if report.sample().0 > MAX_SAMPLE_ROWS {
        return Err(ApiError::bad_request(format!(
            "A sample has at most {MAX_SAMPLE_ROWS} rows"
        )));
    }
    Ok(())
}

async fn store(app: &App, owner: &ReportOwner, id: &str, report: &SavedReport) -> ApiResult<()> {
    let body = serde_json::to_string(report).map_err(|_| ApiError::internal())?;
    if body.len() > MAX_DOCUMENT {
        return Err(ApiError::bad_request("The report is too large"));
    }
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
    let saved = app.store.save_report(id, owner, &report.name, &body);
    saved.await.map_err(not_found("Report"))?;
    app.reports.forget(id);
    Ok(())
}

/// A report as a client sends it.
fn document(text: &str) -> ApiResult<SavedReport> {
    if text.len() > MAX_DOCUMENT {
        return Err(ApiError::bad_request("The report is too large"));
    }
    serde_json::from_str(text).map_err(|e| ApiError::bad_request(format!("Report can not be read: {e}")))
}

fn sample_data(size: Option<i64>, seed: Option<i64>) -> ApiResult<DataSet> {
    let size =
        u64::try_from(size.unwrap_or(185)).map_err(|_| ApiError::bad_request("Size must not be negative"))?;
    Ok(DataSet::Sample {
        size,
        seed: seed.unwrap_or(1).unsigned_abs(),
    })
}

fn whole(
    name: String,
    template: &Template,
    columns: Option<Vec<String>>,
    data: Option<DataSet>,
) -> SavedReport {
    let keys = columns.unwrap_or_else(|| template.columns.iter().map(|c| c.key.clone()).collect());
    let chosen = |key| encke_reports::Chosen {
        key,
        name: None,
        total: None,
    };
    SavedReport {
        name,
        template: template.id,
        columns: keys.into_iter().map(chosen).collect(),
        data,
        fresh_seconds: None,
        parameters: BTreeMap::new(),
        filters: Vec::new(),
        sort: Vec::new(),
        group: Vec::new(),
        pivot: None,
        chart: None,
    }
}

async fn save(app: Arc<App>, principal: Principal, call: Call<Save>) -> ApiResult<Own<Value>> {
    let (owner, p) = (owner_of(&principal)?, call.params);
    let report = match p.Report {
        Some(text) => document(&text)?,
        None => {
            let missing = |name| ApiError::bad_request(format!("Missing parameter '{name}'"));
            let number = p.Template.ok_or_else(|| missing("Template"))?;
            let template = templates::find(&app, &owner, number).await?.template;
            let split = |keys: String| keys.split(',').map(|k| k.trim().to_string()).collect();
            let data = if template.source == SAMPLE {
                Some(sample_data(p.Size, p.Seed)?)
            } else {
                None
            };
            whole(
                p.Name.ok_or_else(|| missing("Name"))?,
                &template,
                p.Columns.map(split),
                data,
            )
        }
    };
    check(
        &report,
        &templates::find(&app, &owner, report.template).await?.template,
    )?;
    let id = p.ReportID.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
    if uuid::Uuid::try_parse(&id).map_or(true, |u| u.to_string() != id) {
        return Err(ApiError::bad_request("ReportID must be a GUID"));
    }
    store(&app, &owner, &id, &report).await?;
    Ok(Own(json!({ "Status": 200, "Message": "OK", "ReportID": id })))
}

async fn save_sample(app: Arc<App>, principal: Principal, call: Call<SaveSample>) -> ApiResult<Own<Value>> {
    let owner = owner_of(&principal)?;
    let template = starter()
        .iter()
        .find(|t| t.id == REGISTRATIONS)
        .ok_or_else(ApiError::internal)?;
    let data = sample_data(call.params.Size, call.params.Seed)?;
    let report = whole(template.name.clone(), template, None, Some(data));
    check(&report, template)?;
    // Saving it again gives the same report and the same code.
    let known = app.store.reports(&owner).await.map_err(store_error)?;
    let body = serde_json::to_string(&report).map_err(|_| ApiError::internal())?;
    let same = known.iter().find(|r| r.body == body);
    let id = same.map_or_else(|| uuid::Uuid::new_v4().to_string(), |r| r.id.clone());
    store(&app, &owner, &id, &report).await?;
    let code = codes::code(&app, &owner, &id, "en_US", &codes::Limits::default()).await?;
    Ok(Own(
        json!({ "Status": 200, "Message": "OK", "ReportID": id, "APICode": code }),
    ))
}

async fn delete(app: Arc<App>, principal: Principal, call: Call<Report>) -> ApiResult<Envelope> {
    let (id, owner) = (call.params.ReportID, owner_of(&principal)?);
    let deleted = app.store.delete_report(&id, &owner);
    deleted.await.map_err(not_found("Report"))?;
    app.reports.forget(&id);
    Ok(done())
}

async fn share(app: Arc<App>, principal: Principal, call: Call<Share>) -> ApiResult<Envelope> {
    let (owner, p) = (owner_of(&principal)?, call.params);
    let split = |text: Option<String>| -> Vec<String> {
        let text = text.unwrap_or_default();
        text.split(',')
            .map(|n| n.trim().to_string())
            .filter(|n| !n.is_empty())
            .collect()
    };
    let mut with = Vec::new();
    let config = app.config();
    for name in split(p.Admins) {
        if crate::auth::find_admin(&config.admin_users, &name, &owner.organization).is_none() {
            return Err(ApiError::bad_request(format!(
                "There is no administrator '{name}' in your organization"
            )));
        }
        with.push((SessionKind::Admin, name));
    }
    for name in split(p.Users) {
        // An end user learns nothing of accounts but one's own: whether there is such a one stays untold.
        if owner.kind == SessionKind::Admin {
            let found = app.store.profile(&super::scope_of(&owner), &name).await;
            if !found.is_ok_and(|f| f.organization == owner.organization) {
                return Err(ApiError::bad_request(format!(
                    "There is no account '{name}' in your organization"
                )));
            }
        }
        with.push((SessionKind::User, name));
    }
    if owner.kind == SessionKind::User && with.iter().any(|w| w.0 == SessionKind::Admin) {
        return Err(ApiError::forbidden("End users share with end users"));
    }
    if with.len() > MAX_SHARES {
        return Err(ApiError::bad_request(format!(
            "A report is shared with at most {MAX_SHARES}"
        )));
    }
    let shared = app.store.share_report(&p.ReportID, &owner, with);
    shared.await.map_err(not_found("Report"))?;
    Ok(done())
}

async fn list_shares(app: Arc<App>, principal: Principal, call: Call<Report>) -> ApiResult<Own<Value>> {
    let owner = owner_of(&principal)?;
    let shares = app.store.report_shares(&call.params.ReportID, &owner);
    let shares = shares.await.map_err(not_found("Report"))?;
    let of = |kind: SessionKind| -> Vec<String> {
        let those = shares.iter().filter(|(k, _)| k == kind.word());
        those.map(|(_, name)| name.clone()).collect()
    };
    Ok(Own(
        json!({ "Users": of(SessionKind::User), "Admins": of(SessionKind::Admin) }),
    ))
}

async fn show_preview(app: Arc<App>, principal: Principal, call: Call<Preview>) -> ApiResult<Own<Value>> {
    let owner = owner_of(&principal)?;
    let locale = codes::locale(call.params.Locale)?;
    let report = document(&call.params.Report)?;
    let opened = rows::open(&app, &owner, report.template).await?;
    check(&report, &opened.template)?;
    let (size, seed) = report.sample();
    // A large sample would have to be made first: a part of it shows what the report is going to be.
    let sampled = opened.template.source == SAMPLE && size > templates::SAMPLE_LOOK;
    let sample = (size.min(templates::SAMPLE_LOOK), seed);
    let work = move |template: &Template, database: &mut dyn encke_reports::source::Database| {
        let mut found: Vec<Vec<Cell>> = Vec::new();
        let columns = preview(template, &report, database, PREVIEW + 1, PICTURES, &mut |row| {
            found.push(row.to_vec());
            Ok(())
        })?;
        Ok((named(columns, &report, template, &locale), found))
    };
    let (columns, mut found) = opened.with(&app, sample, work).await?;
    let more = found.len() > usize::try_from(PREVIEW).unwrap_or(usize::MAX);
    found.truncate(usize::try_from(PREVIEW).unwrap_or(usize::MAX));
    for cell in found.iter_mut().flatten() {
        if let Cell::Text(text) = cell
            && let Some(rest) = text.strip_prefix(PICTURES)
        {
            *cell = Cell::Text(format!("{PICTURES_PATH}{rest}"));
        }
    }
    Ok(Own(
        json!({ "Columns": columns, "Rows": found, "More": more, "Sampled": sampled }),
    ))
}

/// Columns of rows with their names in a language: a report's own name, the template's, or the value of a pivot.
pub(super) fn named(
    columns: Vec<Shown>,
    report: &SavedReport,
    template: &Template,
    locale: &str,
) -> Vec<Shown> {
    let named = columns.into_iter().map(|shown| {
        let chosen = report.columns.iter().find(|c| c.key == shown.key);
        let column = template.column(&shown.key);
        match (chosen.and_then(|c| c.name.clone()), column) {
            (Some(name), _) => Shown { name, ..shown },
            (None, Some(column)) => Shown {
                name: name_in(&column.names, locale, &column.key).to_string(),
                ..shown
            },
            (None, None) => shown,
        }
    });
    named.collect()
}

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new(
            "EnckeReportList",
            "/api/encke/v1/reports/list",
            "Lists the caller's saved reports and those that others share.",
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
            "EnckeReportPreview",
            "/api/encke/v1/reports/preview",
            "Answers the columns and first rows of a report that need not be saved.",
            show_preview,
        ),
        Route::new(
            "EnckeReportShare",
            "/api/encke/v1/reports/share",
            "Shares a report with these of the organization and nobody else; each sees rows by rights of their own.",
            share,
        ),
        Route::new(
            "EnckeReportListShares",
            "/api/encke/v1/reports/list-shares",
            "Lists whom a report is shared with.",
            list_shares,
        ),
        Route::new(
            "EnckeReportDelete",
            "/api/encke/v1/reports/delete",
            "Deletes a report; its API code is worthless at once.",
            delete,
        ),
    ]
}
