//! The endpoints of jobs. A user's twin sees the user's own jobs.

use crate::app::{App, now, store_error};
use crate::auth::{Admin, User};
use crate::stream::{ListWriter, list_body, text_body};
use crate::table::{ArrayOf, Call, Doc, Envelope, PlainStream, Route, Streamed, done};
use encke_api::endpoint::Role;
use encke_api::form::{Json, NoParams};
use encke_api::live::Request;
use encke_api::types::{BackupJobDetail, CountJobsResponse, JobEntry, SearchClause};
use encke_api::{ApiError, ApiResult, params};
use encke_store::{JobFilter, Scope, StoreError, compile_search, is_running};
use std::sync::Arc;
use std::time::Duration;

/// `get-jobs-recent` reaches back this many seconds: three days.
const RECENT: i64 = 3 * 86_400;
/// A device confirms within this time that a job is being cancelled.
const CANCEL_TIME: Duration = Duration::from_secs(10);

params! {
    /// Parameters of `AdminGetJobsForUser`.
    struct OfUser {
        /// Account name.
        TargetUser: String
    }
}

params! {
    /// Parameters of `AdminGetJobsForDateRange`.
    struct Range {
        /// Unix seconds.
        Start: i64,
        /// Unix seconds. Both 0 asks for the jobs that have not ended.
        End: i64
    }
}

params! {
    /// A search.
    struct Search {
        /// The clause to match.
        Query: Json<SearchClause>
    }
}

params! {
    /// A job.
    struct Job {
        /// GUID of the job.
        JobID: String
    }
}

params! {
    /// Parameters of the get-job-log-entries calls.
    struct LogEntries {
        /// GUID of the job.
        JobID: String,
        /// Only lines of this severity (`D`, `I`, `W`, `E`) and above.
        MinSeverity: Option<String>,
        /// Only lines that contain this text.
        MessageContains: Option<String>
    }
}

params! {
    /// A job of an account.
    struct JobOfUser {
        /// Account name.
        TargetUser: String,
        /// GUID of the job.
        JobID: String
    }
}

fn job_error(e: StoreError) -> ApiError {
    match e {
        StoreError::NotFound => ApiError::not_found("Job not found"),
        e => store_error(e),
    }
}

type Jobs = Streamed<ArrayOf<BackupJobDetail>>;

async fn list(app: Arc<App>, scope: Scope, filter: JobFilter) -> Jobs {
    let body = list_body(&app.store, b'[', b']', move |store, writer| {
        let (scope, filter) = (scope.clone(), filter.clone());
        async move { store.each_job(&scope, filter, writer, ListWriter::element).await }
    });
    Streamed::new(body.await)
}

fn search(clause: &Json<SearchClause>) -> ApiResult<JobFilter> {
    compile_search(&clause.0)
        .map(JobFilter::Search)
        .map_err(store_error)
}

async fn all(app: Arc<App>, admin: Admin, _: Call<NoParams>) -> ApiResult<Jobs> {
    Ok(list(app, admin.scope(), JobFilter::All).await)
}

async fn recent(app: Arc<App>, admin: Admin, _: Call<NoParams>) -> ApiResult<Jobs> {
    Ok(list(app, admin.scope(), JobFilter::Since(now() - RECENT)).await)
}

async fn for_user(app: Arc<App>, admin: Admin, call: Call<OfUser>) -> ApiResult<Jobs> {
    crate::users::profile_of(&app, &admin.scope(), &call.params.TargetUser).await?;
    Ok(list(app, admin.scope(), JobFilter::User(call.params.TargetUser)).await)
}

async fn for_date_range(app: Arc<App>, admin: Admin, call: Call<Range>) -> ApiResult<Jobs> {
    let (a, b) = (call.params.Start, call.params.End);
    let filter = if a == 0 && b == 0 {
        JobFilter::Running
    } else {
        JobFilter::Between(a.min(b), a.max(b))
    };
    Ok(list(app, admin.scope(), filter).await)
}

async fn for_search(app: Arc<App>, admin: Admin, call: Call<Search>) -> ApiResult<Jobs> {
    Ok(list(app, admin.scope(), search(&call.params.Query)?).await)
}

async fn count(app: Arc<App>, admin: Admin, call: Call<Search>) -> ApiResult<Doc<CountJobsResponse>> {
    let count = app
        .store
        .count_jobs(&admin.scope(), search(&call.params.Query)?)
        .await
        .map_err(store_error)?;
    Ok(Doc(CountJobsResponse {
        count,
        ..Default::default()
    }))
}

async fn user_jobs(app: Arc<App>, user: User, _: Call<NoParams>) -> ApiResult<Jobs> {
    Ok(list(app, user.scope(), JobFilter::All).await)
}

async fn user_search(app: Arc<App>, user: User, call: Call<Search>) -> ApiResult<Jobs> {
    Ok(list(app, user.scope(), search(&call.params.Query)?).await)
}

async fn properties(app: Arc<App>, scope: Scope, id: &str) -> ApiResult<Doc<BackupJobDetail>> {
    app.store.job(&scope, id).await.map(Doc).map_err(job_error)
}

async fn admin_properties(app: Arc<App>, admin: Admin, call: Call<Job>) -> ApiResult<Doc<BackupJobDetail>> {
    properties(app, admin.scope(), &call.params.JobID).await
}

async fn user_properties(app: Arc<App>, user: User, call: Call<Job>) -> ApiResult<Doc<BackupJobDetail>> {
    properties(app, user.scope(), &call.params.JobID).await
}

/// One line of a plain log: UTC time, severity, message.
fn line(entry: &JobEntry) -> String {
    let time = jiff::Timestamp::from_second(entry.time).unwrap_or_default();
    format!(
        "{} {} {}\n",
        time.strftime("%Y-%m-%d %H:%M:%S"),
        entry.severity,
        entry.message.replace('\n', "\n    ")
    )
}

async fn log(app: Arc<App>, scope: Scope, id: String) -> ApiResult<PlainStream> {
    // Asked before the answer begins, so that an unknown job is an error and not an empty log.
    app.store.job(&scope, &id).await.map_err(job_error)?;
    let body = text_body(&app.store, move |store, writer| {
        let (scope, id) = (scope.clone(), id.clone());
        async move {
            store
                .each_log_entry(&scope, &id, &[], "", writer, |w, entry| w.text(&line(&entry)))
                .await
        }
    });
    Ok(PlainStream(body.await))
}

async fn admin_log(app: Arc<App>, admin: Admin, call: Call<Job>) -> ApiResult<PlainStream> {
    log(app, admin.scope(), call.params.JobID).await
}

async fn user_log(app: Arc<App>, user: User, call: Call<Job>) -> ApiResult<PlainStream> {
    log(app, user.scope(), call.params.JobID).await
}

async fn entries(app: Arc<App>, scope: Scope, p: LogEntries) -> ApiResult<Streamed<ArrayOf<JobEntry>>> {
    const ORDER: [&str; 4] = ["D", "I", "W", "E"];
    let severities: &'static [&'static str] = match p.MinSeverity.as_deref().unwrap_or_default() {
        "" | "D" => &[],
        "I" => &["I", "W", "E"],
        "W" => &["W", "E"],
        "E" => &["E"],
        other => {
            return Err(ApiError::bad_request(format!(
                "MinSeverity '{other}' is none of {ORDER:?}"
            )));
        }
    };
    app.store.job(&scope, &p.JobID).await.map_err(job_error)?;
    let contains = p.MessageContains.unwrap_or_default();
    let body = list_body(&app.store, b'[', b']', move |store, writer| {
        let (scope, id, contains) = (scope.clone(), p.JobID.clone(), contains.clone());
        async move {
            store
                .each_log_entry(&scope, &id, severities, &contains, writer, |w, entry| {
                    w.element(&serde_json::to_string(&entry).unwrap_or_default())
                })
                .await
        }
    });
    Ok(Streamed::new(body.await))
}

async fn admin_entries(
    app: Arc<App>,
    admin: Admin,
    call: Call<LogEntries>,
) -> ApiResult<Streamed<ArrayOf<JobEntry>>> {
    entries(app, admin.scope(), call.params).await
}

async fn user_entries(
    app: Arc<App>,
    user: User,
    call: Call<LogEntries>,
) -> ApiResult<Streamed<ArrayOf<JobEntry>>> {
    entries(app, user.scope(), call.params).await
}

async fn cancel(app: &App, scope: &Scope, username: Option<&str>, id: &str) -> ApiResult<Envelope> {
    let job = app.store.job(scope, id).await.map_err(job_error)?;
    if username.is_some_and(|u| u != job.username) {
        return Err(ApiError::not_found("Job not found"));
    }
    if !is_running(job.status) {
        return Err(ApiError::bad_request("The job has ended already"));
    }
    if job.cancellation_id.is_empty() {
        return Err(ApiError::bad_request("This job can not be cancelled"));
    }
    let connections = app.live.of_device(&job.username, &job.device_id);
    let Some(connection) = connections.iter().max_by_key(|c| c.info.connection_time) else {
        return Err(ApiError::new(
            503,
            "The job's device is off line; abandon the job instead",
        ));
    };
    let request = Request::CancelJob {
        job_id: job.guid,
        cancellation_id: job.cancellation_id,
    };
    connection.request(request, CANCEL_TIME).await?;
    Ok(done())
}

async fn admin_cancel(app: Arc<App>, admin: Admin, call: Call<JobOfUser>) -> ApiResult<Envelope> {
    cancel(
        &app,
        &admin.scope(),
        Some(&call.params.TargetUser),
        &call.params.JobID,
    )
    .await
}

async fn user_cancel(app: Arc<App>, user: User, call: Call<Job>) -> ApiResult<Envelope> {
    cancel(&app, &user.scope(), None, &call.params.JobID).await
}

async fn abandon(app: Arc<App>, admin: Admin, call: Call<JobOfUser>) -> ApiResult<Envelope> {
    let p = call.params;
    let job = app.store.job(&admin.scope(), &p.JobID).await.map_err(job_error)?;
    if job.username != p.TargetUser {
        return Err(ApiError::not_found("Job not found"));
    }
    app.store
        .abandon_job(&admin.scope(), &p.JobID, &admin.name)
        .await
        .map_err(job_error)?;
    Ok(done())
}

/// Endpoints of jobs.
#[must_use]
pub fn routes() -> Vec<Route> {
    let found = "Answers the jobs that a search finds.";
    let one = "Answers one job.";
    let text = "Answers a job's log as plain text.";
    let lines = "Answers a job's log as entries.";
    let stop = "Makes the device cancel a running job, and waits for its word.";
    let routes = vec![
        Route::new(
            "AdminGetJobsAll",
            "/api/v1/admin/get-jobs-all",
            "Answers all jobs.",
            all,
        ),
        Route::new(
            "AdminGetJobsRecent",
            "/api/v1/admin/get-jobs-recent",
            "Answers the jobs of the last three days and those that have not ended.",
            recent,
        ),
        Route::new(
            "AdminGetJobsForUser",
            "/api/v1/admin/get-jobs-for-user",
            "Answers an account's jobs.",
            for_user,
        ),
        Route::new(
            "AdminGetJobsForDateRange",
            "/api/v1/admin/get-jobs-for-date-range",
            "Answers the jobs that started or ended between two times.",
            for_date_range,
        ),
        Route::new(
            "AdminGetJobsForCustomSearch",
            "/api/v1/admin/get-jobs-for-custom-search",
            found,
            for_search,
        ),
        Route::new(
            "AdminCountJobsForCustomSearch",
            "/api/v1/admin/count-jobs-for-custom-search",
            "Counts the jobs that a search finds.",
            count,
        ),
        Route::new(
            "AdminGetJobProperties",
            "/api/v1/admin/get-job-properties",
            one,
            admin_properties,
        ),
        Route::new("AdminGetJobLog", "/api/v1/admin/get-job-log", text, admin_log),
        Route::new(
            "AdminGetJobLogEntries",
            "/api/v1/admin/get-job-log-entries",
            lines,
            admin_entries,
        ),
        Route::new("AdminJobCancel", "/api/v1/admin/job/cancel", stop, admin_cancel),
        Route::new(
            "AdminJobAbandon",
            "/api/v1/admin/job/abandon",
            "Marks a job as abandoned whose device will not report any more.",
            abandon,
        ),
        Route::new(
            "UserWebGetJobs",
            "/api/v1/user/web/get-jobs",
            "Answers the caller's jobs.",
            user_jobs,
        ),
        Route::new(
            "UserWebGetJobsForCustomSearch",
            "/api/v1/user/web/get-jobs-for-custom-search",
            found,
            user_search,
        ),
        Route::new(
            "UserWebGetJobProperties",
            "/api/v1/user/web/get-job-properties",
            one,
            user_properties,
        ),
        Route::new("UserWebGetJobLog", "/api/v1/user/web/get-job-log", text, user_log),
        Route::new(
            "UserWebGetJobLogEntries",
            "/api/v1/user/web/get-job-log-entries",
            lines,
            user_entries,
        ),
        Route::new(
            "UserWebJobCancel",
            "/api/v1/user/web/job/cancel",
            stop,
            user_cancel,
        ),
    ];
    routes.into_iter().map(|r| r.roles(&[Role::Auth])).collect()
}
