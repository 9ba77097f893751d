//! API codes: made, shown again to their owner, rotated, limited, revoked; and the log of their use.

use super::{not_found, owner_of};
use crate::app::{App, now};
use crate::auth::Principal;
use crate::table::{Call, Envelope, Own, Route, done};
use encke_api::{ApiError, ApiResult, params};
use encke_store::{ReportCalls, ReportOwner, StoreError, StoredCode, StoredSession};
use serde_json::{Value, json};
use std::net::IpAddr;
use std::sync::Arc;

/// Most addresses and networks that a code is limited to.
const MAX_ADDRESSES: usize = 100;
/// Entries of the log that are shown.
const MAX_LOG: i64 = 1000;
/// Entries of the log that wait for being written; beyond it new ones are dropped.
const MAX_WAITING: usize = 100_000;

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

params! {
    /// Parameters of limiting an API code.
    struct Limit {
        /// The report's id.
        ReportID: String,
        /// Unix seconds of the code's end; 0 or left out for none.
        Expires: Option<i64>,
        /// Addresses and networks (`192.0.2.0/24`) that may use it, separated by commas; left out for any.
        Addresses: Option<String>
    }
}

fn place(id: &str) -> String {
    format!("report-code:{id}")
}

/// A code's limits.
#[derive(Clone, Default)]
pub(super) struct Limits {
    pub expires: i64,
    pub addresses: String,
}

/// A new code of 160 hexadecimal digits, and what is kept of it.
fn fresh(app: &App, id: &str, locale: &str, limits: &Limits) -> ApiResult<(String, StoredCode)> {
    let mut bytes = [0u8; 80];
    getrandom::fill(&mut bytes).map_err(|_| ApiError::internal())?;
    let code = hex::encode(bytes);
    let sealed = app.server_key.wrap(&place(id), code.as_bytes());
    let stored = StoredCode {
        hash: StoredSession::hash_of(&code),
        sealed: sealed.map_err(|_| ApiError::internal())?,
        locale: locale.to_string(),
        expires: limits.expires,
        addresses: limits.addresses.clone(),
        created: 0,
    };
    Ok((code, stored))
}

/// The report's code: the one it has, or a new one.
pub(super) async fn code(
    app: &App,
    owner: &ReportOwner,
    id: &str,
    locale: &str,
    limits: &Limits,
) -> ApiResult<String> {
    for _ in 0..2 {
        let known = app
            .store
            .report_code(id, owner)
            .await
            .map_err(not_found("Report"))?;
        if let Some(known) = known {
            let code = app.server_key.unwrap_secret(&place(id), &known.sealed);
            let code = code.ok().and_then(|c| String::from_utf8(c).ok());
            return code.ok_or_else(ApiError::internal);
        }
        let (code, stored) = fresh(app, id, locale, limits)?;
        match app.store.add_report_code(id, owner, stored).await {
            Ok(()) => return Ok(code),
            // Another call was quicker: answer its code.
            Err(StoreError::Exists) => {}
            Err(e) => return Err(not_found("Report")(e)),
        }
    }
    Err(ApiError::internal())
}

fn answer(code: &str) -> Own<Value> {
    let path = format!("/data-backend/api/public/areports/run/0/25/?API_KEY={code}");
    Own(json!({ "Status": 200, "Message": "OK", "APICode": code, "Path": path }))
}

/// A language such as `en_US`.
pub(super) fn locale(wanted: Option<String>) -> ApiResult<String> {
    let locale = wanted.unwrap_or_else(|| "en_US".into());
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if locale.len() > 10 || locale.len() < 2 || !locale.chars().all(plain) {
        return Err(ApiError::bad_request("Locale looks like en_US"));
    }
    Ok(locale)
}

async fn generate(app: Arc<App>, principal: Principal, call: Call<Generate>) -> ApiResult<Own<Value>> {
    let locale = locale(call.params.Locale)?;
    let owner = owner_of(&principal)?;
    let code = code(&app, &owner, &call.params.ReportID, &locale, &Limits::default()).await?;
    Ok(answer(&code))
}

async fn rotate(app: Arc<App>, principal: Principal, call: Call<Generate>) -> ApiResult<Own<Value>> {
    let owner = owner_of(&principal)?;
    let id = call.params.ReportID;
    let known = app
        .store
        .report_code(&id, &owner)
        .await
        .map_err(not_found("Report"))?;
    let known = known.ok_or_else(|| ApiError::not_found("The report has no API code"))?;
    let locale = locale(call.params.Locale.or(Some(known.locale)))?;
    let (code, stored) = fresh(&app, &id, &locale, &Limits::default())?;
    app.store
        .replace_report_code(&id, &owner, stored)
        .await
        .map_err(not_found("API code"))?;
    Ok(answer(&code))
}

async fn revoke(app: Arc<App>, principal: Principal, call: Call<Report>) -> ApiResult<Envelope> {
    app.store
        .revoke_report_code(&call.params.ReportID, &owner_of(&principal)?)
        .await
        .map_err(not_found("API code"))?;
    Ok(done())
}

/// A network: address and length of its prefix.
fn network(text: &str) -> Option<(IpAddr, u32)> {
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length.parse().ok()?)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let whole = if address.is_ipv4() { 32 } else { 128 };
    let length = length.unwrap_or(whole);
    (length <= whole).then_some((address, length))
}

/// Whether an address is one of those that a code is limited to.
pub(super) fn is_allowed(addresses: &str, client: IpAddr) -> bool {
    let client = client.to_canonical();
    addresses.is_empty()
        || addresses
            .split(',')
            .filter_map(network)
            .any(|(address, length)| match (address, client) {
                (IpAddr::V4(a), IpAddr::V4(c)) => {
                    (a.to_bits() ^ c.to_bits()).checked_shr(32 - length).unwrap_or(0) == 0
                }
                (IpAddr::V6(a), IpAddr::V6(c)) => {
                    (a.to_bits() ^ c.to_bits()).checked_shr(128 - length).unwrap_or(0) == 0
                }
                _ => false,
            })
}

async fn limit(app: Arc<App>, principal: Principal, call: Call<Limit>) -> ApiResult<Envelope> {
    let p = call.params;
    let expires = p.Expires.unwrap_or_default();
    if expires != 0 && expires <= now() {
        return Err(ApiError::bad_request(
            "Expires must lie in the future; revoke the code instead",
        ));
    }
    let text = p.Addresses.unwrap_or_default();
    let addresses: Vec<&str> = text.split(',').map(str::trim).filter(|a| !a.is_empty()).collect();
    if addresses.len() > MAX_ADDRESSES {
        return Err(ApiError::bad_request(format!(
            "A code is limited to at most {MAX_ADDRESSES} addresses"
        )));
    }
    if let Some(wrong) = addresses.iter().find(|a| network(a).is_none()) {
        return Err(ApiError::bad_request(format!(
            "'{wrong}' is no address and no network"
        )));
    }
    app.store
        .limit_report_code(&p.ReportID, &owner_of(&principal)?, expires, &addresses.join(","))
        .await
        .map_err(not_found("API code"))?;
    Ok(done())
}

/// Notes a call for the log.
pub(super) fn note(app: &App, report: &str, client: IpAddr, status: u16, rows: u64) {
    let mut log = app.reports.log.lock();
    let key = ReportCalls {
        report: report.to_string(),
        minute: now() / 60 * 60,
        address: client.to_string(),
        status: status.into(),
        calls: 0,
        rows: 0,
    };
    if log.len() < MAX_WAITING || log.contains_key(&key) {
        let entry = log.entry(key).or_default();
        entry.0 += 1;
        entry.1 += i64::try_from(rows).unwrap_or_default();
    }
}

/// Writes what was noted.
pub(super) async fn write_log(app: &App) {
    let noted = std::mem::take(&mut *app.reports.log.lock());
    if noted.is_empty() {
        return;
    }
    let calls = noted
        .into_iter()
        .map(|(key, (calls, rows))| ReportCalls { calls, rows, ..key });
    if let Err(e) = app.store.log_report_calls(calls.collect()).await {
        tracing::error!(error = %e, "calls with report codes could not be logged");
    }
}

async fn log(app: Arc<App>, principal: Principal, call: Call<Report>) -> ApiResult<Own<Value>> {
    write_log(&app).await;
    let owner = owner_of(&principal)?;
    let calls = app.store.report_calls(&call.params.ReportID, &owner, MAX_LOG);
    let shown = calls.await.map_err(not_found("Report"))?.into_iter().map(|c| {
        json!({ "Minute": c.minute, "Address": c.address, "Status": c.status, "Calls": c.calls, "Rows": c.rows })
    });
    Ok(Own(shown.collect()))
}

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new(
            "EnckeReportGenerateCode",
            "/api/encke/v1/reports/generate-code",
            "Answers the report's API code, and makes it at the first call.",
            generate,
        ),
        Route::new(
            "EnckeReportRotateCode",
            "/api/encke/v1/reports/rotate-code",
            "Replaces the report's API code; the old one is worthless at once. Its limits stay.",
            rotate,
        ),
        Route::new(
            "EnckeReportLimitCode",
            "/api/encke/v1/reports/limit-code",
            "Sets when the report's API code ends, and the addresses that may use it.",
            limit,
        ),
        Route::new(
            "EnckeReportCodeLog",
            "/api/encke/v1/reports/code-log",
            "Answers the calls with the report's API code by minute, address and status, newest first.",
            log,
        ),
        Route::new(
            "EnckeReportRevokeCode",
            "/api/encke/v1/reports/revoke-code",
            "Takes the report's API code away; it is worthless at once.",
            revoke,
        ),
    ]
}
