//! When reports are made: at the end of a job, from the stored events; and at the times of their schedules. Both remember
//! how far they came in the store, together with the mails they wrote, so that each report is sent once over restarts.

use super::{Subscription, check_report, gather, of_account, of_administrators, search};
use crate::app::{App, now, store_error};
use crate::email::{self, Mail, enqueue_in, is_on, prepared};
use encke_api::constants::{
    EMAIL_WORKER_STATE_CALCULATING, EMAIL_WORKER_STATE_WAITING, SEVT_ACCOUNT_NEW, SEVT_ACCOUNT_UPDATED,
    SEVT_JOB_COMPLETED, SEVT_POLICY_NEW, SEVT_POLICY_UPDATED, SEVT_SERVER_UPDATED, SEVT_TENANT_UPDATED,
};
use encke_api::schedule::{delay, longest_delay, next_run};
use encke_api::types::{BackupJobDetail, ScheduleConfig, StreamableEvent};
use encke_api::{ApiError, ApiResult};
use encke_store::{JobFilter, NewMail, Scope, StoreError, StoredEvent, is_running, note_duty};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::broadcast::Receiver;

/// Names of the duties in the store.
const JOBS_DUTY: &str = "email-jobs";
const SCHEDULES_DUTY: &str = "email-reports";
/// Stored events looked at together.
const EVENTS: i64 = 200;
/// Seconds that a job's log may come after its end.
const LOG_TIME: i64 = 2;
/// Longest time until events and schedules are looked at again.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Changes within this time are taken over together.
const TOGETHER: Duration = Duration::from_millis(300);
/// Most runs of a schedule that are looked through at once.
const MAX_RUNS: usize = 20_000;
/// Wait after a failure of the store.
const AFTER_FAILURE: Duration = Duration::from_secs(5);

/// What tells one report from another, the same after a restart.
fn fingerprint(subscription: &Subscription) -> String {
    let text = format!(
        "{:?} {} {}",
        subscription.account,
        serde_json::to_string(&subscription.config).unwrap_or_default(),
        subscription.recipients.join(" "),
    );
    hex::encode(&Sha256::digest(text)[..12])
}

/// Waits for an event of these kinds, or until the wait is over.
async fn woken(bus: &mut Receiver<Arc<encke_store::Event>>, kinds: &[i64], wait: Duration) {
    let told = async {
        loop {
            match bus.recv().await {
                Ok(event) if !kinds.contains(&event.kind) => {}
                _ => return,
            }
        }
    };
    let _ = tokio::time::timeout(wait, told).await;
}

/// Sends the reports about single jobs, for as long as this server leads.
pub(crate) async fn follow_jobs(app: Arc<App>) {
    let mut bus = app.store.subscribe_stored();
    loop {
        match some_jobs(&app).await {
            Ok(true) => {}
            Ok(false) => woken(&mut bus, &[SEVT_JOB_COMPLETED], LOOK_EVERY).await,
            Err(e) => {
                tracing::warn!(error = e.message, "e-mails about jobs could not be written");
                tokio::time::sleep(AFTER_FAILURE).await;
            }
        }
    }
}

/// Works through the next events. Whether there were some.
async fn some_jobs(app: &Arc<App>) -> ApiResult<bool> {
    let Some(position) = app.store.duty_done(JOBS_DUTY).await.map_err(store_error)? else {
        // What ended before there was e-mail is nobody's news.
        let last = app.store.last_event().await.map_err(store_error)?;
        app.store.note_duty(JOBS_DUTY, last).await.map_err(store_error)?;
        return Ok(true);
    };
    let read = app.store.events_after(None, position, EVENTS).await;
    let events = read.map_err(store_error)?;
    let Some(last) = events.last().map(|e| e.id) else {
        return Ok(false);
    };
    let mut since = position;
    for event in events.iter().filter(|e| e.kind == SEVT_JOB_COMPLETED) {
        let too_new = event.time + LOG_TIME - now();
        if too_new > 0 {
            tokio::time::sleep(Duration::from_secs(too_new.unsigned_abs())).await;
        }
        let mails = about_job(app, event).await?;
        since = event.id;
        write(app, mails, JOBS_DUTY, since).await?;
    }
    // Not for each change of an account: what has no job in it is read again after a restart, which costs little.
    if last > since && last - position >= EVENTS {
        app.store.note_duty(JOBS_DUTY, last).await.map_err(store_error)?;
        return Ok(true);
    }
    Ok(since > position)
}

/// Writes mails together with how far the duty came.
async fn write(app: &App, mails: Vec<NewMail>, duty: &'static str, done: i64) -> ApiResult<()> {
    let some = !mails.is_empty();
    let written = app.store.write(move |tx| {
        for mail in &mails {
            match enqueue_in(tx, mail) {
                // A full queue must not keep the others waiting.
                Err(StoreError::Invalid(why)) => {
                    tracing::error!(
                        organization = mail.organization,
                        why,
                        "an e-mail report is left out"
                    );
                }
                other => drop(other?),
            }
        }
        note_duty(tx, duty, done)
    });
    written.await.map_err(store_error)?;
    if some {
        email::wake(app);
    }
    Ok(())
}

/// The mails that tell of a job's end.
async fn about_job(app: &App, event: &StoredEvent) -> ApiResult<Vec<NewMail>> {
    let Ok(told) = serde_json::from_str::<StreamableEvent>(&event.json) else {
        return Ok(Vec::new());
    };
    let Value::Object(_) = &told.data else {
        return Ok(Vec::new());
    };
    let Ok(job) = serde_json::from_value::<BackupJobDetail>(told.data) else {
        return Ok(Vec::new());
    };
    if is_running(job.status) {
        return Ok(Vec::new());
    }
    let mut subscriptions = Vec::new();
    match app.store.profile(&Scope::All, &job.username).await {
        Ok(stored) => subscriptions = stored.parse().map(|p| of_account(&p)).unwrap_or_default(),
        // Deleted meanwhile.
        Err(StoreError::NotFound) => {}
        Err(e) => return Err(store_error(e)),
    }
    let concerned = |s: &Subscription| s.organization.is_empty() || s.organization == event.organization;
    subscriptions.extend(of_administrators(app).into_iter().filter(concerned));
    let mut mails = Vec::new();
    let mut seen = HashSet::new();
    for subscription in subscriptions.iter().filter(|s| s.is_immediate()) {
        let print = fingerprint(subscription);
        if !is_on(app, &subscription.organization) || !seen.insert(print.clone()) {
            continue;
        }
        let wanted = match search(&subscription.config) {
            Ok(search) => {
                let filter = JobFilter::SearchOne(search, job.guid.clone());
                let found = app.store.count_jobs(&subscription.scope(), filter).await;
                found.map_err(store_error)? > 0
            }
            Err(e) => {
                tracing::warn!(account = ?subscription.account, error = e.message, "an e-mail report's filter is wrong");
                false
            }
        };
        if wanted {
            let document = gather::immediate(app, subscription, &job).await?;
            let once = format!("job/{}/{}/{print}", event.id, job.guid);
            mails.extend(mail(subscription, document.content(), once));
        }
    }
    Ok(mails)
}

fn mail(subscription: &Subscription, content: encke_store::MailContent, once: String) -> Option<NewMail> {
    let mail = Mail {
        organization: subscription.organization.clone(),
        content,
        recipients: subscription.recipients.clone(),
        once,
    };
    prepared(mail)
        .inspect_err(|e| tracing::warn!(error = e.message, "an e-mail report can not be sent"))
        .ok()
}

/// The scheduled reports of accounts, by account, with the profile's hash they were read at.
type Known = HashMap<String, (String, Vec<Subscription>)>;

/// Sends reports at the times of their schedules, for as long as this server leads.
pub(crate) async fn follow_schedules(app: Arc<App>) {
    const CHANGES: [i64; 6] = [
        SEVT_ACCOUNT_NEW,
        SEVT_ACCOUNT_UPDATED,
        SEVT_POLICY_NEW,
        SEVT_POLICY_UPDATED,
        SEVT_SERVER_UPDATED,
        SEVT_TENANT_UPDATED,
    ];
    let mut bus = app.store.subscribe_stored();
    let mut known = Known::new();
    loop {
        let wait = match look(&app, &mut known).await {
            Ok(next) => {
                let seconds = next.map_or(i64::MAX, |next| next - now());
                Duration::from_secs(u64::try_from(seconds).unwrap_or(0)).min(LOOK_EVERY)
            }
            Err(e) => {
                tracing::warn!(error = e.message, "scheduled e-mail reports could not be made");
                AFTER_FAILURE
            }
        };
        {
            let mut worker = app.mailer.worker.lock();
            worker.state = EMAIL_WORKER_STATE_WAITING;
            worker.waiting_until = now() + i64::try_from(wait.as_secs()).unwrap_or(0);
        }
        tokio::select! {
            () = woken(&mut bus, &CHANGES, wait) => {}
            () = app.mailer.settings_changed.notified() => {}
        }
        // Many accounts that change together are read once.
        tokio::time::sleep(TOGETHER).await;
    }
}

async fn refresh(app: &App, known: &mut Known) -> Result<(), StoreError> {
    let hashes = app.store.profile_hashes().await?;
    let mut old = std::mem::take(known);
    for (username, hash) in hashes {
        match old.remove(&username) {
            Some((same, subscriptions)) if same == hash => {
                known.insert(username, (hash, subscriptions));
            }
            _ => {
                let stored = match app.store.profile(&Scope::All, &username).await {
                    Ok(stored) => stored,
                    Err(StoreError::NotFound) => continue,
                    Err(e) => return Err(e),
                };
                let mut subscriptions = stored.parse().map(|p| of_account(&p)).unwrap_or_default();
                subscriptions.retain(|s| !s.is_immediate() && !s.config.summary_frequency.is_empty());
                known.insert(username, (stored.hash, subscriptions));
            }
        }
    }
    Ok(())
}

/// A report's runs by a schedule that may be due after a time: when each would be by the schedule alone, in order, and
/// when it is with its random delay.
fn runs(
    subscription: &Subscription,
    schedule: &ScheduleConfig,
    after: i64,
) -> impl Iterator<Item = (i64, i64)> {
    let longest = longest_delay(schedule, &[]);
    let who = if longest > 0 {
        fingerprint(subscription)
    } else {
        String::new()
    };
    // One that was to be earlier may have been put off until now.
    let mut at = after - longest;
    let runs = std::iter::from_fn(move || {
        at = next_run(schedule, &subscription.zone, at).ok()??;
        Some((at, at + delay(&who, at, longest)))
    });
    runs.take(MAX_RUNS)
}

/// The newest time that one of a report's schedules was due after one time and until another: of those that were due
/// while no server ran, the last one is made.
fn due(subscription: &Subscription, after: i64, until: i64) -> Option<i64> {
    let schedules = subscription.config.summary_frequency.iter();
    let times = schedules.flat_map(|s| runs(subscription, s, after).take_while(|(run, _)| *run <= until));
    times
        .map(|(_, time)| time)
        .filter(|time| (after + 1..=until).contains(time))
        .max()
}

/// When one of a report's schedules is due next after a time.
fn next_due(subscription: &Subscription, after: i64) -> Option<i64> {
    let mut first: Option<i64> = None;
    for schedule in &subscription.config.summary_frequency {
        for (run, time) in runs(subscription, schedule, after) {
            // Later ones can only be later still.
            if first.is_some_and(|f| run >= f) {
                break;
            }
            if time > after {
                first = Some(first.map_or(time, |f| f.min(time)));
            }
        }
    }
    first
}

/// Makes what is due. The next time (Unix seconds) that something will be.
async fn look(app: &Arc<App>, known: &mut Known) -> ApiResult<Option<i64>> {
    let (began, until) = (Instant::now(), now());
    {
        let mut worker = app.mailer.worker.lock();
        worker.state = EMAIL_WORKER_STATE_CALCULATING;
        worker.last_wake = until;
    }
    refresh(app, known).await.map_err(store_error)?;
    let is_wanted = app.config().authentication_role.generate_scheduled_emails;
    let done = app.store.duty_done(SCHEDULES_DUTY).await.map_err(store_error)?;
    let after = done.unwrap_or(until).min(until);
    let mut subscriptions = of_administrators(app);
    subscriptions.retain(|s| !s.is_immediate());
    subscriptions.extend(known.values().flat_map(|(_, s)| s.iter().cloned()));
    let mut sent = false;
    for subscription in subscriptions.iter().filter(|_| is_wanted) {
        let Some(time) = due(subscription, after, until) else {
            continue;
        };
        if !is_on(app, &subscription.organization) {
            continue;
        }
        match scheduled(app, subscription, time).await {
            Ok(()) => sent = true,
            Err(e) if e.status == 400 => {
                tracing::warn!(account = ?subscription.account, error = e.message, "an e-mail report is left out");
            }
            Err(e) => return Err(e),
        }
    }
    if after < until || done.is_none() {
        let noted = app.store.note_duty(SCHEDULES_DUTY, until).await;
        noted.map_err(store_error)?;
    }
    if sent {
        email::wake(app);
    }
    let mut worker = app.mailer.worker.lock();
    worker.last_duration = i64::try_from(began.elapsed().as_nanos()).unwrap_or(i64::MAX);
    worker.last_sent = sent;
    drop(worker);
    Ok(subscriptions.iter().filter_map(|s| next_due(s, until)).min())
}

/// Writes a scheduled report. The same one again is not sent again, so what a crash cut short is simply done anew.
async fn scheduled(app: &App, subscription: &Subscription, time: i64) -> ApiResult<()> {
    check_report(&subscription.config)?;
    let document = gather::over_time(app, subscription, time).await?;
    let once = format!("schedule/{time}/{}", fingerprint(subscription));
    let Some(mail) = mail(subscription, document.content(), once) else {
        return Err(ApiError::bad_request("The report can not be sent"));
    };
    let written = app.store.write(move |tx| enqueue_in(tx, &mail)).await;
    written.map(drop).map_err(store_error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use encke_api::constants::SCHEDULE_FREQUENCY_PERIODIC;
    use jiff::tz::TimeZone;

    fn subscription(address: &str, random_delay_secs: u64) -> Subscription {
        let schedule = ScheduleConfig {
            frequency_type: SCHEDULE_FREQUENCY_PERIODIC,
            seconds_past: 100,
            random_delay_secs,
            ..Default::default()
        };
        Subscription {
            account: None,
            organization: String::new(),
            config: encke_api::types::EmailReportConfig {
                summary_frequency: vec![schedule],
                ..Default::default()
            },
            recipients: vec![address.into()],
            language: encke_api::messages::Language::accepted(""),
            zone: TimeZone::UTC,
        }
    }

    /// Every time that is due, as a server finds them that looks when it said it would.
    fn followed(s: &Subscription, mut now: i64, count: usize) -> Vec<i64> {
        let mut times = Vec::new();
        while times.len() < count {
            let next = next_due(s, now).unwrap();
            assert_eq!(due(s, now, next), Some(next));
            assert_eq!(due(s, now, next - 1), None, "nothing is due before");
            times.push(next);
            now = next;
        }
        times
    }

    #[test]
    fn a_random_delay_puts_off_each_report_by_its_own() {
        let plain = followed(&subscription("a@x.org", 0), 1_000_000, 5);
        assert_eq!(plain, [1_000_100, 1_000_200, 1_000_300, 1_000_400, 1_000_500]);
        let delayed = followed(&subscription("a@x.org", 60), 1_000_000, 50);
        for (n, time) in (0i64..).zip(&delayed) {
            let run = 1_000_000 + n * 100;
            let late = time - run;
            // The first of them may be the one that was to be before.
            assert!((0..=160).contains(&late), "{n}: {late}");
        }
        let late: HashSet<i64> = delayed.iter().map(|t| t % 100).collect();
        assert!(late.len() > 10, "{late:?}");
        let others = followed(&subscription("b@x.org", 60), 1_000_000, 50);
        assert_ne!(delayed, others);
        assert_eq!(delayed, followed(&subscription("a@x.org", 60), 1_000_000, 50));
    }

    #[test]
    fn delays_longer_than_the_period_lose_no_report_and_end_the_search() {
        let s = subscription("a@x.org", 18_000);
        let times = followed(&s, 1_000_000, 200);
        assert!(times.is_sorted_by(|a, b| a < b));
        let (first, last) = (1_000_000, times[199]);
        assert_eq!(due(&s, first, last), Some(last));
        assert_eq!(due(&s, first, first), None);
    }
}
