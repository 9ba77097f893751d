//! From jobs to what a report says.

use super::render::{Block, Cell, Document, Tone};
use super::{Subscription, search};
use crate::app::{App, store_error};
use encke_api::constants::*;
use encke_api::messages::Language;
use encke_api::types::{BackupJobDetail, UserProfileConfig};
use encke_api::{ApiError, ApiResult};
use encke_store::{JobFilter, Scope};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;

/// Jobs that a report shows one by one, the newest; it counts all.
const MAX_JOBS: usize = 500;
/// Items that a report of recent activity shows.
const MAX_ITEMS: usize = 1000;
/// Days that a report of recent activity shows.
const MAX_DAYS: i64 = 31;
/// Lines of a job's log that a message shows: as many of its beginning and of its end.
const MAX_LINES: usize = 500;
/// Bytes of one such line.
const MAX_LINE: usize = 2000;
/// Longest time that a report looks back, in seconds.
const MAX_SPAN: i64 = 366 * 86_400;
const DAY: i64 = 86_400;

/// A status in one word.
fn status(status: u64) -> (&'static str, Tone) {
    match status {
        JOB_STATUS_STOP_SUCCESS__MIN..=JOB_STATUS_STOP_SUCCESS__MAX => ("Success", Tone::Good),
        JOB_STATUS_RUNNING__MIN..=JOB_STATUS_RUNNING__MAX => ("Running", Tone::Plain),
        JOB_STATUS_FAILED_WARNING => ("Warning", Tone::Warn),
        JOB_STATUS_FAILED_QUOTA => ("Quota exceeded", Tone::Bad),
        JOB_STATUS_FAILED_SCHEDULEMISSED => ("Missed", Tone::Bad),
        JOB_STATUS_FAILED_CANCELLED => ("Cancelled", Tone::Warn),
        JOB_STATUS_FAILED_SKIPALREADYRUNNING => ("Skipped", Tone::Warn),
        JOB_STATUS_FAILED_ABANDONED => ("Abandoned", Tone::Bad),
        JOB_STATUS_FAILED_TIMEOUT => ("Timed out", Tone::Bad),
        _ => ("Failed", Tone::Bad),
    }
}

/// The worse a status, the larger.
fn badness(status: u64) -> u8 {
    match self::status(status).1 {
        Tone::Bad => 3,
        Tone::Warn => 2,
        Tone::Good => 1,
        _ => 0,
    }
}

fn kind(classification: u64) -> &'static str {
    match classification {
        JOB_CLASSIFICATION_BACKUP => "Backup",
        JOB_CLASSIFICATION_RESTORE => "Restore",
        JOB_CLASSIFICATION_RETENTION => "Retention pass",
        JOB_CLASSIFICATION_DEEPVERIFY => "Deep verification",
        JOB_CLASSIFICATION_UPDATE => "Software update",
        JOB_CLASSIFICATION_UNINSTALL => "Removal of the software",
        _ => "Care of a vault",
    }
}

/// Bytes in binary units.
fn bytes(n: i64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let mut value = n.max(0) as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{value:.0} {}", UNITS[unit])
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

fn duration(seconds: i64) -> String {
    let s = seconds.max(0);
    if s >= 3600 {
        format!("{}:{:02}:{:02} h", s / 3600, s / 60 % 60, s % 60)
    } else {
        format!("{}:{:02} min", s / 60, s % 60)
    }
}

/// Names of what jobs are about, read once an account.
struct Names<'a> {
    app: &'a App,
    profiles: HashMap<String, Option<UserProfileConfig>>,
}

impl<'a> Names<'a> {
    fn new(app: &'a App) -> Self {
        Self {
            app,
            profiles: HashMap::new(),
        }
    }

    /// Device, Protected Item and Storage Vault of a job.
    async fn of(&mut self, job: &BackupJobDetail) -> [String; 3] {
        if !self.profiles.contains_key(&job.username) {
            let stored = self.app.store.profile(&Scope::All, &job.username).await;
            let profile = stored.ok().and_then(|s| s.parse().ok());
            self.profiles.insert(job.username.clone(), profile);
        }
        let profile = self.profiles.get(&job.username).and_then(Option::as_ref);
        let found = |name: Option<&String>, id: &str| match name {
            Some(name) if !name.is_empty() => name.clone(),
            _ => id.chars().take(8).collect(),
        };
        let device = profile.and_then(|p| p.devices.get(&job.device_id));
        let source = profile.and_then(|p| p.sources.get(&job.source_guid));
        let vault = profile.and_then(|p| p.destinations.get(&job.destination_guid));
        [
            found(device.map(|d| &d.friendly_name), &job.device_id),
            found(source.map(|s| &s.description), &job.source_guid),
            found(vault.map(|d| &d.description), &job.destination_guid),
        ]
    }
}

/// What every report needs to be written.
struct Writer<'a> {
    subscription: &'a Subscription,
    language: Language,
    zone: &'a TimeZone,
}

impl<'a> Writer<'a> {
    fn new(subscription: &'a Subscription) -> Self {
        Self {
            subscription,
            language: subscription.language,
            zone: &subscription.zone,
        }
    }

    fn t(&self, text: &str) -> String {
        self.language.translate(text)
    }

    fn time(&self, seconds: i64) -> String {
        if seconds == 0 {
            return String::new();
        }
        Timestamp::from_second(seconds).map_or_else(
            |_| seconds.to_string(),
            |t| {
                t.to_zoned(self.zone.clone())
                    .strftime("%Y-%m-%d %H:%M:%S")
                    .to_string()
            },
        )
    }

    fn day(&self, seconds: i64) -> Option<Date> {
        Some(
            Timestamp::from_second(seconds)
                .ok()?
                .to_zoned(self.zone.clone())
                .date(),
        )
    }

    fn document(&self, app: &App, title: &str, about: &str) -> Document {
        let config = app.config();
        let own = config.organizations.get(&self.subscription.organization);
        let brand = match own {
            Some(o) if !o.branding.brand_name.is_empty() => o.branding.brand_name.clone(),
            _ => crate::meta::brand_name(&config),
        };
        let foot = match &self.subscription.account {
            Some(name) => self.t(&format!(
                "You get this message by the e-mail settings of the account {name}."
            )),
            None => self.t("You get this message by the e-mail settings of the server's administrators."),
        };
        let about = if about.is_empty() {
            String::new()
        } else {
            format!(" - {about}")
        };
        Document {
            subject: format!("{brand}: {title}{about}"),
            title: title.to_string(),
            facts: Vec::new(),
            blocks: Vec::new(),
            foot,
            zone: self.zone.iana_name().unwrap_or("UTC").to_string(),
        }
    }

    /// Whom a report is about.
    fn who(&self, app: &App) -> String {
        let organization = &self.subscription.organization;
        match &self.subscription.account {
            Some(name) => name.clone(),
            None => app
                .config()
                .organizations
                .get(organization)
                .map(|o| o.name.clone())
                .unwrap_or_default(),
        }
    }
}

/// A message about one job.
///
/// # Errors
/// The store fails.
pub(super) async fn immediate(
    app: &App,
    subscription: &Subscription,
    job: &BackupJobDetail,
) -> ApiResult<Document> {
    let w = Writer::new(subscription);
    let [device, item, vault] = Names::new(app).of(job).await;
    let (word, _) = status(job.status);
    let word = w.t(word);
    let about = if item.is_empty() {
        w.t(kind(job.classification))
    } else {
        item.clone()
    };
    let mut out = w.document(app, &word, &format!("{about} ({})", job.username));
    let mut fact = |name: &str, value: String| {
        if !value.is_empty() {
            out.facts.push((w.t(name), value));
        }
    };
    fact("Result", word);
    fact("Kind of job", w.t(kind(job.classification)));
    fact("Account", job.username.clone());
    fact("Device", device);
    fact("Protected Item", item);
    fact("Storage Vault", vault);
    fact("Started", w.time(job.start_time));
    fact("Ended", w.time(job.end_time));
    fact("Duration", duration(job.end_time - job.start_time));
    if job.total_files > 0 || job.total_size > 0 {
        fact("Files", job.total_files.to_string());
        fact("Size", bytes(job.total_size));
    }
    if job.upload_size > 0 {
        fact("Uploaded", bytes(job.upload_size));
    }
    if job.download_size > 0 {
        fact("Downloaded", bytes(job.download_size));
    }
    let (zone, scope) = (w.zone.clone(), subscription.scope());
    // The first lines, the last ones, and how many are left out between them.
    let state = (Vec::new(), std::collections::VecDeque::new(), 0_usize);
    let read = app.store.each_log_entry(&scope, &job.guid, &[], "", state, {
        move |(first, last, left_out), entry| {
            let time = Timestamp::from_second(entry.time).map_or_else(
                |_| String::new(),
                |t| t.to_zoned(zone.clone()).strftime("%H:%M:%S").to_string(),
            );
            let message: String = entry.message.chars().take(MAX_LINE).collect();
            let line = (entry.severity, format!("{time}  {message}"));
            if first.len() < MAX_LINES {
                first.push(line);
            } else {
                if last.len() == MAX_LINES {
                    last.pop_front();
                    *left_out += 1;
                }
                last.push_back(line);
            }
            ControlFlow::Continue(())
        }
    });
    let (mut lines, last, left_out) = match read.await {
        Ok(read) => read,
        // A job that was removed meanwhile has no log.
        Err(encke_store::StoreError::NotFound) => Default::default(),
        Err(e) => return Err(store_error(e)),
    };
    if left_out > 0 {
        lines.push((
            "I".into(),
            w.t(&format!("... {left_out} lines are left out here ...")),
        ));
    }
    lines.extend(last);
    if !lines.is_empty() {
        out.blocks.push(Block::Log {
            heading: w.t("The job's log"),
            lines,
        });
    }
    Ok(out)
}

/// The time that a report looks at: until when, its beginning (Unix seconds).
fn beginning(subscription: &Subscription, until: i64) -> i64 {
    let span = &subscription.config.time_span;
    let seconds = if span.seconds > 0 {
        span.seconds
    } else {
        match span.frequency_type {
            SCHEDULE_FREQUENCY_HOURLY => 3600,
            SCHEDULE_FREQUENCY_WEEKLY => 7 * DAY,
            SCHEDULE_FREQUENCY_MONTHLY => 31 * DAY,
            SCHEDULE_FREQUENCY_YEARLY => 366 * DAY,
            _ if subscription.config.report_type == EMAILREPORTTYPE_RECENT_ACTIVITY => 10 * DAY,
            _ => DAY,
        }
    };
    until - seconds.min(MAX_SPAN)
}

/// The newest jobs of a time, and how many of each status there are.
#[derive(Default)]
struct Found {
    jobs: Vec<BackupJobDetail>,
    counts: BTreeMap<u64, usize>,
}

impl Found {
    fn add(&mut self, job: BackupJobDetail) {
        *self.counts.entry(job.status).or_default() += 1;
        self.jobs.push(job);
        if self.jobs.len() >= 2 * MAX_JOBS {
            self.cut();
        }
    }

    fn cut(&mut self) {
        self.jobs
            .sort_by(|a, b| b.end_time.cmp(&a.end_time).then_with(|| a.guid.cmp(&b.guid)));
        self.jobs.truncate(MAX_JOBS);
    }

    fn total(&self) -> usize {
        self.counts.values().sum()
    }
}

/// One item's backups into one vault, day by day.
struct Strip {
    job: BackupJobDetail,
    days: BTreeMap<Date, u64>,
    last_success: i64,
}

type Strips = BTreeMap<(String, String, String), Strip>;

/// A report over some time, as scheduled ones are.
///
/// # Errors
/// 400 if the filter is wrong; the store fails.
pub(super) async fn over_time(app: &App, subscription: &Subscription, until: i64) -> ApiResult<Document> {
    let w = Writer::new(subscription);
    let from = beginning(subscription, until);
    let search = search(&subscription.config)?;
    let kind = subscription.config.report_type;
    let title = w.t(match kind {
        EMAILREPORTTYPE_SUMMARY => "Summary of backups",
        EMAILREPORTTYPE_GROUPED_STATUS => "Backups by status",
        EMAILREPORTTYPE_RECENT_ACTIVITY => "Recent activity",
        other => {
            return Err(ApiError::bad_request(format!("ReportType {other} is unknown")));
        }
    });
    let mut out = w.document(app, &title, &w.who(app));
    out.facts.push((
        w.t("Time"),
        w.t(&format!("from {} to {}", w.time(from), w.time(until))),
    ));
    let filter = JobFilter::SearchEnded(search, from, until);
    let scope = subscription.scope();
    if kind == EMAILREPORTTYPE_RECENT_ACTIVITY {
        let zone = w.zone.clone();
        let each = move |strips: &mut Strips, body: &str| {
            if let Ok(job) = serde_json::from_str::<BackupJobDetail>(body)
                && job.classification == JOB_CLASSIFICATION_BACKUP
            {
                note(strips, &zone, job);
            }
            ControlFlow::Continue(())
        };
        let read = app.store.each_job(&scope, filter, Strips::new(), each).await;
        let strips = read.map_err(store_error)?;
        out.blocks.push(activity(app, &w, strips, from, until).await);
        return Ok(out);
    }
    let each = |found: &mut Found, body: &str| {
        if let Ok(job) = serde_json::from_str(body) {
            found.add(job);
        }
        ControlFlow::Continue(())
    };
    let read = app.store.each_job(&scope, filter, Found::default(), each).await;
    let mut found = read.map_err(store_error)?;
    found.cut();
    out.facts.push((w.t("Jobs"), found.total().to_string()));
    if found.total() == 0 {
        out.blocks
            .push(Block::Text(w.t("There are no jobs in this time.")));
        return Ok(out);
    }
    let mut counts: Vec<(u64, usize)> = found.counts.iter().map(|(s, n)| (*s, *n)).collect();
    counts.sort_by_key(|(s, _)| std::cmp::Reverse((badness(*s), *s)));
    out.blocks.push(Block::Table {
        heading: String::new(),
        head: vec![w.t("Result"), w.t("Jobs")],
        rows: counts
            .iter()
            .map(|(s, n)| {
                let (word, tone) = status(*s);
                vec![Cell::new(w.t(word), tone), Cell::plain(n.to_string())]
            })
            .collect(),
    });
    let mut names = Names::new(app);
    if kind == EMAILREPORTTYPE_SUMMARY {
        let mut rows = Vec::with_capacity(found.jobs.len());
        for job in &found.jobs {
            rows.push(row(&w, &mut names, job).await);
        }
        out.blocks.push(Block::Table {
            heading: w.t("Jobs"),
            head: head(&w),
            rows,
        });
    } else {
        for (wanted, _) in &counts {
            let mut rows = Vec::new();
            for job in found.jobs.iter().filter(|j| j.status == *wanted) {
                rows.push(row(&w, &mut names, job).await);
            }
            if !rows.is_empty() {
                out.blocks.push(Block::Table {
                    heading: w.t(status(*wanted).0),
                    head: head(&w),
                    rows,
                });
            }
        }
    }
    if found.total() > found.jobs.len() {
        let shown = found.jobs.len();
        out.blocks.push(Block::Text(
            w.t(&format!("Only the newest {shown} jobs are shown one by one.")),
        ));
    }
    Ok(out)
}

fn head(w: &Writer) -> Vec<String> {
    [
        "Result",
        "Account",
        "Device",
        "Protected Item",
        "Storage Vault",
        "Started",
        "Duration",
        "Size",
        "Uploaded",
    ]
    .map(|text| w.t(text))
    .to_vec()
}

async fn row(w: &Writer<'_>, names: &mut Names<'_>, job: &BackupJobDetail) -> Vec<Cell> {
    let [device, item, vault] = names.of(job).await;
    let (word, tone) = status(job.status);
    let item = if item.is_empty() {
        w.t(kind(job.classification))
    } else {
        item
    };
    let mut cells = vec![Cell::new(w.t(word), tone)];
    let others = [
        job.username.clone(),
        device,
        item,
        vault,
        w.time(job.start_time),
        duration(job.end_time - job.start_time),
        bytes(job.total_size),
        bytes(job.upload_size),
    ];
    cells.extend(others.map(Cell::plain));
    cells
}

fn note(strips: &mut Strips, zone: &TimeZone, job: BackupJobDetail) {
    let key = (
        job.username.clone(),
        job.source_guid.clone(),
        job.destination_guid.clone(),
    );
    if strips.len() >= MAX_ITEMS && !strips.contains_key(&key) {
        return;
    }
    let date = Timestamp::from_second(job.end_time).map(|t| t.to_zoned(zone.clone()).date());
    let strip = strips.entry(key).or_insert_with(|| Strip {
        job: job.clone(),
        days: BTreeMap::new(),
        last_success: 0,
    });
    if let Ok(date) = date {
        let day = strip.days.entry(date).or_insert(job.status);
        // The worst colours the day.
        if badness(job.status) > badness(*day) {
            *day = job.status;
        }
    }
    if badness(job.status) == 1 {
        strip.last_success = strip.last_success.max(job.end_time);
    }
    if job.end_time > strip.job.end_time {
        strip.job = job;
    }
}

async fn activity(app: &App, w: &Writer<'_>, strips: Strips, from: i64, until: i64) -> Block {
    if strips.is_empty() {
        return Block::Text(w.t("There are no jobs in this time."));
    }
    let mut days: Vec<Date> = Vec::new();
    let mut at = from.max(until - (MAX_DAYS - 1) * DAY);
    while at <= until + DAY {
        if let Some(day) = w.day(at.min(until))
            && days.last() != Some(&day)
        {
            days.push(day);
        }
        at += DAY;
    }
    let mut names = Names::new(app);
    let mut rows = Vec::with_capacity(strips.len());
    for strip in strips.into_values() {
        let [device, item, vault] = names.of(&strip.job).await;
        let mut cells: Vec<Cell> = [strip.job.username.clone(), device, item, vault]
            .map(Cell::plain)
            .to_vec();
        for day in &days {
            cells.push(match strip.days.get(day).map(|s| status(*s).1) {
                Some(Tone::Good) => Cell::new("✓".into(), Tone::Good),
                Some(Tone::Warn) => Cell::new("!".into(), Tone::Warn),
                Some(Tone::Bad) => Cell::new("✗".into(), Tone::Bad),
                _ => Cell::plain("·".into()),
            });
        }
        cells.push(Cell::plain(w.time(strip.last_success)));
        rows.push(cells);
    }
    let mut head = ["Account", "Device", "Protected Item", "Storage Vault"]
        .map(|text| w.t(text))
        .to_vec();
    head.extend(days.iter().map(|d| d.strftime("%d").to_string()));
    head.push(w.t("Last success"));
    Block::Table {
        heading: String::new(),
        head,
        rows,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_short() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(5 << 40), "5.0 TiB");
        assert_eq!(duration(59), "0:59 min");
        assert_eq!(duration(3661), "1:01:01 h");
    }
}
