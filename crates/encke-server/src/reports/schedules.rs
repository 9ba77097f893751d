//! Reports that are sent by e-mail on a schedule: as a file with the mail, or by a link where that would be too large.
//! What was sent and when the next is due are written in one transaction, so that each is sent once.

use super::exports::{self, Made};
use super::public::may_serve;
use super::{not_found, owner_of};
use crate::app::{App, now, store_error};
use crate::auth::Principal;
use crate::email::{self, Mail};
use crate::table::{Call, Envelope, Own, Route, done};
use axum::extract::{Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use encke_api::form::{Json, NoParams, ParamValue as _};
use encke_api::messages::Language;
use encke_api::schedule::{delay, longest_delay, next_run};
use encke_api::types::{ScheduleConfig, UserProfileConfig};
use encke_api::wire::Out;
use encke_api::{ApiError, ApiResult, params};
use encke_store::{
    Attachment, MailContent, ReportOwner, Scope, SessionKind, StoredReport, StoredReportFile, StoredSchedule,
    StoredSession, add_report_file, schedule_sent,
};
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::io::Read as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::io::ReaderStream;

/// Most schedules of one owner, times of each, and recipients.
const MAX_SCHEDULES: usize = 100;
const MAX_TIMES: usize = 20;
const MAX_RECIPIENTS: usize = 50;
/// Largest file that goes with a mail, in bytes: more is refused by many mail servers.
const MAX_ATTACHED: u64 = 10 << 20;
/// How long a link is good, in seconds.
const LINK_TIME: i64 = 7 * 86_400;
/// How often a report that could not be made is tried, and the pause between, in seconds.
const TRIES: i64 = 3;
const PAUSE: i64 = 300;
/// Schedules that are looked for at once, and how often.
const BATCH: i64 = 20;
const LOOK_TIME: Duration = Duration::from_secs(30);
/// Path of the files that mails link to.
pub(super) const FILES_PATH: &str = "/data-backend/api/public/files";

params! {
    /// Parameters of saving a schedule.
    struct Save {
        /// The schedule's id; a new one is made if left out.
        ScheduleID: Option<String>,
        /// The report's id.
        ReportID: String,
        /// When it is sent: an array of the schedules that backups have as well.
        Schedules: Json<Vec<ScheduleConfig>>,
        /// Time zone of the schedules, such as `Europe/Nicosia`; UTC if left out.
        TimeZone: Option<String>,
        /// Addresses, separated by commas. An end user's have to be those of the account.
        Recipients: String,
        /// Kind of file: `csv`, `xlsx`, `pdf` or `parquet`.
        Format: String,
        /// Language of the columns' names and of the mail, such as `en_US`.
        Locale: Option<String>
    }
}

params! {
    /// A schedule.
    struct One {
        /// The schedule's id.
        ScheduleID: String
    }
}

/// A schedule as it is stored.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Body {
    schedules: Value,
    time_zone: String,
    recipients: Vec<String>,
    format: String,
    locale: String,
    /// Where this server was reached when it was saved: links begin with it.
    base: String,
}

/// Where files lie that mails link to.
pub(super) fn folder(app: &App) -> PathBuf {
    super::uploads::storage(app).join("files")
}

fn wrong(e: impl std::fmt::Display) -> ApiError {
    ApiError::bad_request(e.to_string())
}

fn zone(name: &str) -> ApiResult<TimeZone> {
    TimeZone::get(name).map_err(|_| ApiError::bad_request(format!("There is no time zone '{name}'")))
}

/// When a report is due next after some time, in Unix seconds; 0 for never.
fn next_due(id: &str, schedules: &[ScheduleConfig], zone: &TimeZone, after: i64) -> ApiResult<i64> {
    let mut next = 0;
    for schedule in schedules {
        if let Some(at) = next_run(schedule, zone, after).map_err(wrong)? {
            let at = at + delay(id, at, longest_delay(schedule, &[]));
            next = if next == 0 { at } else { next.min(at) };
        }
    }
    Ok(next)
}

impl Body {
    fn parse(stored: &StoredSchedule) -> ApiResult<Self> {
        serde_json::from_str(&stored.body).map_err(|e| {
            tracing::error!(schedule = stored.id, error = %e, "a stored schedule can not be read");
            ApiError::internal()
        })
    }

    fn next(&self, id: &str, after: i64) -> ApiResult<i64> {
        let schedules: Json<Vec<ScheduleConfig>> = Json::parse("Schedules", &self.schedules.to_string())?;
        next_due(id, &schedules.0, &zone(&self.time_zone)?, after)
    }
}

/// Addresses that somebody may send to.
async fn recipients(app: &App, owner: &ReportOwner, text: &str) -> ApiResult<Vec<String>> {
    let all: Vec<String> = text
        .split(',')
        .map(|a| a.trim().to_string())
        .filter(|a| !a.is_empty())
        .collect();
    if all.is_empty() || all.len() > MAX_RECIPIENTS {
        return Err(ApiError::bad_request(format!(
            "A report is sent to 1 to {MAX_RECIPIENTS} addresses"
        )));
    }
    if let Some(address) = all.iter().find(|a| !email::is_address(a)) {
        return Err(ApiError::bad_request(format!(
            "'{address}' is not an e-mail address"
        )));
    }
    if owner.kind == SessionKind::User {
        let profile = app
            .store
            .profile(&Scope::All, &owner.name)
            .await
            .map_err(store_error)?;
        let profile: UserProfileConfig =
            serde_json::from_str(&profile.body).map_err(|_| ApiError::internal())?;
        if let Some(address) = all
            .iter()
            .find(|a| !profile.emails.iter().any(|e| e.eq_ignore_ascii_case(a)))
        {
            return Err(ApiError::forbidden(format!(
                "'{address}' is none of the account's own e-mail addresses"
            )));
        }
    }
    Ok(all)
}

async fn save(app: Arc<App>, principal: Principal, call: Call<Save>) -> ApiResult<Own<Value>> {
    let (owner, p) = (owner_of(&principal)?, call.params);
    let schedules = p.Schedules.0;
    if schedules.is_empty() || schedules.len() > MAX_TIMES {
        return Err(ApiError::bad_request(format!(
            "A report is sent at 1 to {MAX_TIMES} times"
        )));
    }
    let format = exports::format(&p.Format)?;
    let known = app.store.report_schedules(&owner).await.map_err(store_error)?;
    let id = match p.ScheduleID {
        Some(id) if known.iter().any(|s| s.id == id && s.report == p.ReportID) => id,
        Some(_) => return Err(ApiError::not_found("Schedule not found")),
        None if known.len() >= MAX_SCHEDULES => {
            return Err(ApiError::bad_request(format!(
                "You may keep at most {MAX_SCHEDULES} schedules"
            )));
        }
        None => uuid::Uuid::new_v4().to_string(),
    };
    if !email::is_on(&app, &owner.organization) {
        return Err(ApiError::bad_request(
            "This server sends no e-mail: it has no mail server to send with",
        ));
    }
    let time_zone = p.TimeZone.unwrap_or_else(|| "UTC".into());
    let due = next_due(&id, &schedules, &zone(&time_zone)?, now())?;
    if due == 0 {
        return Err(ApiError::bad_request("The schedule is never due"));
    }
    let body = Body {
        schedules: serde_json::to_value(Out(&schedules)).map_err(|_| ApiError::internal())?,
        time_zone,
        recipients: recipients(&app, &owner, &p.Recipients).await?,
        format: format.name().into(),
        locale: super::codes::locale(p.Locale)?,
        base: call.origin.base(),
    };
    let stored = StoredSchedule {
        id: id.clone(),
        report: p.ReportID,
        body: serde_json::to_string(&body).map_err(|_| ApiError::internal())?,
        due,
        tries: 0,
        sent: 0,
        problem: String::new(),
    };
    let saved = app.store.save_report_schedule(&owner, stored).await;
    saved.map_err(not_found("Report"))?;
    app.reports.scheduled.notify_one();
    Ok(Own(
        json!({ "Status": 200, "Message": "OK", "ScheduleID": id, "Next": due }),
    ))
}

async fn list(app: Arc<App>, principal: Principal, _: Call<NoParams>) -> ApiResult<Own<Value>> {
    let known = app
        .store
        .report_schedules(&owner_of(&principal)?)
        .await
        .map_err(store_error)?;
    let shown = known.iter().map(|s| {
        let mut shown: Value = serde_json::from_str(&s.body).unwrap_or_default();
        if let Some(object) = shown.as_object_mut() {
            object.remove("Base");
        }
        shown["ScheduleID"] = json!(s.id);
        shown["ReportID"] = json!(s.report);
        shown["Next"] = json!(s.due);
        shown["Sent"] = json!(s.sent);
        shown["Problem"] = json!(s.problem);
        shown
    });
    Ok(Own(shown.collect()))
}

async fn delete(app: Arc<App>, principal: Principal, call: Call<One>) -> ApiResult<Envelope> {
    let owner = owner_of(&principal)?;
    let deleted = app.store.delete_report_schedule(&owner, &call.params.ScheduleID);
    deleted.await.map_err(not_found("Schedule"))?;
    Ok(done())
}

async fn send_now(app: Arc<App>, principal: Principal, call: Call<One>) -> ApiResult<Envelope> {
    let owner = owner_of(&principal)?;
    let known = app.store.report_schedules(&owner).await.map_err(store_error)?;
    let found = known.into_iter().find(|s| s.id == call.params.ScheduleID);
    let found = found.ok_or_else(|| ApiError::not_found("Schedule not found"))?;
    let stored = StoredSchedule { due: now(), ..found };
    app.store
        .save_report_schedule(&owner, stored)
        .await
        .map_err(not_found("Schedule"))?;
    app.reports.scheduled.notify_one();
    Ok(done())
}

/// Sends what is due, until it is dropped.
pub(super) async fn run(app: Arc<App>) {
    loop {
        match app.store.due_report_schedules(now(), BATCH).await {
            Ok(due) => {
                for (schedule, report) in &due {
                    send(&app, schedule, report).await;
                }
                if !due.is_empty() {
                    continue;
                }
            }
            Err(e) => tracing::warn!(error = %e, "reports that are due could not be looked for"),
        }
        let next = app.store.next_report_schedule().await.ok().flatten();
        let pause = next.map_or(LOOK_TIME, |at| {
            Duration::from_secs((at - now()).max(1).unsigned_abs())
        });
        tokio::select! {
            () = app.reports.scheduled.notified() => {}
            () = tokio::time::sleep(pause.min(LOOK_TIME)) => {}
        }
    }
}

/// Sends one report, or notes what is in the way.
async fn send(app: &Arc<App>, schedule: &StoredSchedule, report: &StoredReport) {
    let Err(e) = try_send(app, schedule, report).await else {
        return;
    };
    tracing::warn!(schedule = schedule.id, report = report.id, error = %e.message, "a report could not be sent");
    let later = Body::parse(schedule)
        .and_then(|body| body.next(&schedule.id, now()))
        .unwrap_or(0);
    let (due, try_at) = match schedule.tries + 1 < TRIES {
        true => (schedule.due, now() + PAUSE),
        false => (later, later),
    };
    if let Err(e) = app.store.schedule_failed(schedule, &e.message, due, try_at).await {
        tracing::error!(error = %e, "a schedule could not be changed");
        // Not at once again.
        tokio::time::sleep(LOOK_TIME).await;
    }
}

/// The file as a part of the mail, or kept for a link.
enum Sent {
    Attached(Vec<u8>),
    Linked(StoredReportFile, String),
}

async fn file_of(app: &Arc<App>, made: Made, report: &str, name: &str, media: &str) -> ApiResult<Sent> {
    let failed = |e: std::io::Error| {
        tracing::error!(error = %e, "a report could not be kept for a mail");
        ApiError::internal()
    };
    let (folder, bytes) = (folder(app), made.bytes);
    let (report, name, media) = (report.to_string(), name.to_string(), media.to_string());
    let work = tokio::task::spawn_blocking(move || {
        let mut file = made.file;
        if bytes <= MAX_ATTACHED {
            let mut content = Vec::with_capacity(usize::try_from(bytes).unwrap_or_default());
            file.read_to_end(&mut content)?;
            return Ok(Sent::Attached(content));
        }
        let mut secret = [0u8; 32];
        getrandom::fill(&mut secret).map_err(|_| std::io::Error::other("no random numbers"))?;
        let secret = hex::encode(secret);
        let stored = uuid::Uuid::new_v4().to_string();
        std::fs::create_dir_all(&folder)?;
        let path = folder.join(&stored);
        let copied = std::fs::File::create_new(&path).and_then(|mut out| {
            std::io::copy(&mut file, &mut out)?;
            out.sync_all()
        });
        if let Err(e) = copied {
            let _ = std::fs::remove_file(&path);
            return Err(e);
        }
        let kept = StoredReportFile {
            hash: StoredSession::hash_of(&secret),
            report,
            name,
            media,
            stored,
            expires: now() + LINK_TIME,
        };
        Ok(Sent::Linked(kept, secret))
    });
    work.await.map_err(|_| ApiError::internal())?.map_err(failed)
}

async fn try_send(app: &Arc<App>, schedule: &StoredSchedule, report: &StoredReport) -> ApiResult<()> {
    let body = Body::parse(schedule)?;
    if !may_serve(app, &report.owner).await {
        return Err(ApiError::forbidden(
            "The report's owner may not share it any more",
        ));
    }
    let format = exports::format(&body.format)?;
    let found = (report.clone(), true);
    let made = exports::make(
        app,
        &report.owner,
        &found,
        format,
        &body.locale,
        &body.base,
        Arc::default(),
    )
    .await?;
    let rows = made.rows;
    let plain_name: String = report
        .name
        .chars()
        .map(|c| {
            if c.is_alphanumeric() || " -_.".contains(c) {
                c
            } else {
                '_'
            }
        })
        .collect();
    let file_name = format!("{plain_name}.{}", format.name());
    let language = Language::accepted(&body.locale);
    let mut content = MailContent {
        subject: report.name.clone(),
        ..MailContent::default()
    };
    let mut kept = None;
    match file_of(app, made, &report.id, &file_name, format.media()).await? {
        Sent::Attached(bytes) => {
            content.plain = language.translate(&format!(
                "The report '{}' with {rows} rows is attached.",
                report.name
            ));
            content.attachments.push(Attachment {
                name: file_name,
                media: format.media().into(),
                bytes,
            });
        }
        Sent::Linked(file, secret) => {
            let text = format!(
                "The report '{}' with {rows} rows can be fetched here for a week:",
                report.name
            );
            content.plain = format!(
                "{}\n\n{}{FILES_PATH}/{secret}\n",
                language.translate(&text),
                body.base
            );
            kept = Some(file);
        }
    }
    let mail = email::prepared(Mail {
        organization: report.owner.organization.clone(),
        content,
        recipients: body.recipients.clone(),
        once: format!("report-schedule {} {}", schedule.id, schedule.due),
    });
    let written = async {
        if !email::is_on(app, &report.owner.organization) {
            return Err(ApiError::bad_request(
                "This server sends no e-mail: it has no mail server to send with",
            ));
        }
        let (mail, next) = (mail?, body.next(&schedule.id, now().max(schedule.due))?);
        let (schedule, file) = (schedule.clone(), kept.clone());
        let write = app.store.write(move |tx| {
            if !schedule_sent(tx, &schedule, now(), next)? {
                return Ok(false);
            }
            if let Some(file) = &file {
                add_report_file(tx, file)?;
            }
            email::enqueue_in(tx, &mail)?;
            Ok(true)
        });
        write.await.map_err(store_error)
    };
    let written = written.await;
    if !matches!(written, Ok(true))
        && let Some(file) = kept
    {
        let _ = std::fs::remove_file(folder(app).join(file.stored));
    }
    email::wake(app);
    written.map(|_| ())
}

/// Answers a file that a mail links to, to whoever has the address.
pub(super) async fn linked(State(app): State<Arc<App>>, Path(secret): Path<String>) -> Response {
    let gone = || (StatusCode::NOT_FOUND, "This file is not kept any more").into_response();
    let Ok((file, report)) = app.store.report_file(&StoredSession::hash_of(&secret)).await else {
        return gone();
    };
    if file.expires <= now() {
        return gone();
    }
    if !may_serve(&app, &report.owner).await {
        return (
            StatusCode::FORBIDDEN,
            "The report's owner may not share it any more",
        )
            .into_response();
    }
    if app.reports.calls.check_key(&report.owner).is_err() {
        return (
            StatusCode::TOO_MANY_REQUESTS,
            [(header::RETRY_AFTER, "1")],
            "Too many calls",
        )
            .into_response();
    }
    let Ok(open) = tokio::fs::File::open(folder(&app).join(&file.stored)).await else {
        return gone();
    };
    let length = open.metadata().await.map_or(0, |m| m.len());
    let mut response = Response::new(axum::body::Body::from_stream(ReaderStream::with_capacity(
        open,
        1 << 16,
    )));
    let headers = response.headers_mut();
    let plain: String = file
        .name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || " -_.".contains(c) {
                c
            } else {
                '_'
            }
        })
        .collect();
    for (name, value) in [
        (header::CONTENT_TYPE, file.media),
        (header::CONTENT_LENGTH, length.to_string()),
        (header::CACHE_CONTROL, "private, no-store".into()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".into()),
        (
            header::CONTENT_DISPOSITION,
            format!("attachment; filename=\"{plain}\""),
        ),
    ] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
    response
}

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new(
            "EnckeReportSchedules",
            "/api/encke/v1/reports/list-schedules",
            "Lists when the caller's reports are sent by e-mail, to whom, and what became of it.",
            list,
        ),
        Route::new(
            "EnckeReportScheduleSave",
            "/api/encke/v1/reports/save-schedule",
            "Sends a report by e-mail on a schedule, as a file or by a link where that would be too large.",
            save,
        ),
        Route::new(
            "EnckeReportScheduleDelete",
            "/api/encke/v1/reports/delete-schedule",
            "Sends a report no more.",
            delete,
        ),
        Route::new(
            "EnckeReportSendNow",
            "/api/encke/v1/reports/send-now",
            "Sends a scheduled report at once, and goes on with its schedule.",
            send_now,
        ),
    ]
}
