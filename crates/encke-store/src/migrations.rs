//! The schema, step by step. The steps are written in what SQLite and PostgreSQL share; `{words}` stand for the rest.

/// The steps in order. A step that was published is never changed again.
pub(crate) const STEPS: &[&str] = &[
    include_str!("../migrations/0001_accounts.sql"),
    include_str!("../migrations/0002_jobs.sql"),
    include_str!("../migrations/0003_buckets.sql"),
    include_str!("../migrations/0004_reports.sql"),
    include_str!("../migrations/0005_collections.sql"),
    include_str!("../migrations/0006_statistics.sql"),
    include_str!("../migrations/0007_sign_in.sql"),
    include_str!("../migrations/0008_job_indexes.sql"),
    include_str!("../migrations/0009_missed.sql"),
    include_str!("../migrations/0010_bucket_rules.sql"),
    include_str!("../migrations/0011_report_service.sql"),
    include_str!("../migrations/0012_mail.sql"),
    include_str!("../migrations/0013_external_login.sql"),
    include_str!("../migrations/0014_report_schedules.sql"),
    include_str!("../migrations/0015_replication.sql"),
    include_str!("../migrations/0016_update_campaigns.sql"),
    include_str!("../migrations/0017_audit.sql"),
    include_str!("../migrations/0018_constellation.sql"),
];

/// The newest version this program knows.
pub(crate) fn known() -> i64 {
    i64::try_from(STEPS.len()).unwrap_or(i64::MAX)
}

/// The steps after a version, each with the version it leads to.
pub(crate) fn after(version: i64) -> impl Iterator<Item = (i64, &'static str)> {
    (1..)
        .zip(STEPS.iter().copied())
        .filter(move |(to, _)| *to > version)
}
